"""The students' notebooks made from the solved ones, and what every notebook keeps to."""

import builtins
import json
import re
import statistics
from pathlib import Path

import pytest

from agl_ref import cli

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted((ROOT / "tutorials" / "solutions").glob("*.ipynb"))


def without(monkeypatch, missing):
    """Make a package unimportable."""
    real = builtins.__import__

    def fake(name, *args, **kwargs):
        if name.split(".")[0] == missing:
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", fake)


def test_missing_packages_are_one_line_with_the_command_that_installs_them(tmp_path, monkeypatch, capsys):
    from agl_ref.course.release import main

    (tmp_path / "a.ipynb").write_text("{}")
    without(monkeypatch, "nbformat")
    assert main([str(tmp_path), str(tmp_path)]) == 3
    error = capsys.readouterr().err
    assert "no module 'nbformat'; pip install 'agl-ref[course]'" in error and error.count("\n") == 1
    without(monkeypatch, "nbgrader")
    assert cli.main(["course", "report", str(tmp_path / "a.ipynb")]) == 0  # which needs neither


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_solutions_and_outputs_go_and_the_rest_stays(folders, capsys):
    from agl_ref.course.release import main

    solutions, tutorials = folders
    arguments = [str(solutions), str(tutorials)]
    assert main([*arguments, "--check"]) == 1
    assert "small.ipynb is not what its solution gives" in capsys.readouterr().out and not tutorials.exists()
    assert main(arguments) == 0 and "small.ipynb written" in capsys.readouterr().out
    assert main([*arguments, "--check"]) == 0 and main(arguments) == 0 and capsys.readouterr().out == ""
    made, source = (json.loads((folder / "small.ipynb").read_text()) for folder in (tutorials, solutions))
    assert [cell["id"] for cell in made["cells"]] == [cell["id"] for cell in source["cells"]]
    codes = [cell for cell in made["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in codes)
    assert all("execution" not in cell["metadata"] for cell in codes)
    leak = "".join(codes[1]["source"])
    assert leak == "def leak(v, x, decay):\n    # YOUR CODE HERE\n    raise NotImplementedError()"
    assert codes[2]["metadata"]["nbgrader"]["points"] == 1 and "".join(codes[2]["source"]) == 'check("leak", leak)'


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_notebook_without_a_solution_or_with_an_edit_differs(folders, capsys):
    from agl_ref.course.release import main

    solutions, tutorials = folders
    main([str(solutions), str(tutorials)])
    text = (tutorials / "small.ipynb").read_text()
    (tutorials / "small.ipynb").write_text(text.replace("A small", "Another"))
    (tutorials / "orphan.ipynb").write_text(text)
    capsys.readouterr()
    assert main([str(solutions), str(tutorials), "--check"]) == 1
    out = capsys.readouterr().out
    assert "small.ipynb is not" in out and "orphan.ipynb is not" in out
    assert "Another" in (tutorials / "small.ipynb").read_text()  # --check writes nothing


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_cannot_be_released_is_one_line(folders, tmp_path, capsys):
    from agl_ref.course.release import main

    solutions, tutorials = folders
    path = solutions / "small.ipynb"
    text = path.read_text()
    for bad, words in ((text.replace("### END SOLUTION", ""), "no end solution"), ("{}", "expected a notebook"),
                       (text.replace('"solution": true', '"solution": false'), "within solution cells")):  # fmt: skip
        path.write_text(bad)
        assert main([str(solutions), str(tutorials)]) == 3
        error = capsys.readouterr().err
        assert words in error and "small.ipynb" in error and error.count("\n") == 1
    assert main([str(tmp_path / "none"), str(tutorials)]) == 3
    assert "expected a folder of solved notebooks, found none" in capsys.readouterr().err


@pytest.mark.skipif(not SOLUTIONS, reason="no notebooks in tutorials/solutions")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_committed_student_s_notebook_is_the_released_one(path):
    pytest.importorskip("nbgrader")
    from agl_ref.course.release import read_notebook, student_version

    assert (ROOT / "tutorials" / path.name).read_text(encoding="utf-8") == student_version(read_notebook(path))


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_cells_are_short_and_a_figure_comes_after_a_prediction(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    kinds, sources = [cell["cell_type"] for cell in cells], ["".join(cell["source"]) for cell in cells]
    lines = [
        len([line for line in source.splitlines() if line.strip()])
        for kind, source in zip(kinds, sources, strict=True)
        if kind == "code"
    ]
    assert max(lines) <= 20 and statistics.median(lines) <= 6
    drawing = [k for k, source in enumerate(sources) if re.search(r"(?m)^(figures\.\w+|explore)\(", source)]
    assert len(drawing) >= 3
    for k in drawing:
        before = [source for kind, source in zip(kinds[max(0, k - 4) : k], sources[max(0, k - 4) : k], strict=True)
                  if kind == "markdown"]  # fmt: skip
        assert re.search(r"Before you (run|move)|\*\*Predict", "\n".join(before)), sources[k]


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_the_paper_s_authors_are_the_same_in_every_notebook(path):
    reading = "".join(json.loads(path.read_text(encoding="utf-8"))["cells"][-1]["source"])
    reading = reading.partition("## Further reading")[2]
    (entry,) = [entry for entry in re.split(r"(?m)^- ", reading) if "10.24963/ijcai.2025/464" in entry]
    assert re.match(r"(J\. )?Jiang, (L\. )?Wang, (R\. )?Jiang, (J\. )?Fan, (R\. )?Yan[:,]", entry), entry


@pytest.mark.skipif(not SOLUTIONS, reason="no notebooks in tutorials/solutions")
@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_no_output_is_a_warning(path):
    """It would hold a path of the machine that ran the notebook."""
    outputs = [o for cell in json.loads(path.read_text())["cells"] for o in cell.get("outputs", ())]
    assert outputs and all(output.get("name") != "stderr" for output in outputs)


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_a_solved_notebook_asks_for_its_exercises_and_earns_all_points(path):
    """Graded cells are check(NAME, NAME), worth what the exercise is, and their stored result is all points."""
    from agl_ref.course.exercises import load
    from agl_ref.course.exercises.definition import NOTEBOOK_OF

    exercises, asked = load(), []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        settings = cell["metadata"].get("nbgrader", {})
        if not settings.get("grade"):
            continue
        name = settings["grade_id"].removeprefix("check-")
        asked.append(name)
        assert "".join(cell["source"]).splitlines()[-1] == f'check("{name}", {name})'
        assert settings["points"] == exercises[name].points
        results = [
            output["data"]["text/plain"] for output in cell["outputs"] if output["output_type"] == "execute_result"
        ]
        assert [float("".join(result)) for result in results] == [exercises[name].points]
    of_this_notebook = {name for name, module in NOTEBOOK_OF.items() if module.endswith("." + path.stem[3:])}
    assert len(asked) == len(set(asked)) > 0 and set(asked) >= of_this_notebook
