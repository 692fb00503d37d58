"""The course's tools: figures and their look, sliders, release of notebooks, report of points, the commands."""

import builtins
import csv
import io
import json
import os
import re
import statistics
import subprocess
import sys
import types
from pathlib import Path

import matplotlib
import pytest
from matplotlib.figure import Figure

import agl_ref.course
from agl_ref import cli
from agl_ref.course import explore, figures, sliders
from agl_ref.course.figures.registry import COLOURS, FIGURES, FONT_SIZE, PALETTE, figure, style

ROOT = Path(__file__).parents[2]
SOLUTIONS = sorted((ROOT / "tutorials" / "solutions").glob("*.ipynb"))


@pytest.fixture
def line():
    """A registered figure."""

    @figure
    def test_line(slope=1.0, label="u"):
        drawn = Figure(figsize=(4, 3), layout="constrained")
        drawn.subplots().plot([0, slope], label=label)
        return drawn

    yield test_line
    del FIGURES["test_line"]


# --- the package ----------------------------------------------------------------------------------


def test_the_package_is_lazy_and_lists_its_names():
    assert set(dir(agl_ref.course)) == {"check", "exercises", "explore", "figures"}
    for name in agl_ref.course.__all__:
        assert getattr(agl_ref.course, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        agl_ref.course.nonsense  # noqa: B018
    code = ("import sys, agl_ref.course; from agl_ref.course import figures, explore; "
            "print(*[m for m in ('numpy', 'matplotlib', 'ipywidgets', 'nbgrader') if m in sys.modules])")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split() == []


# --- figures --------------------------------------------------------------------------------------


def test_a_figure_is_found_by_its_name(line):
    assert figures.test_line is line and "test_line" in figures.names() and "test_line" in dir(figures)
    assert isinstance(figures.test_line(slope=2.0), Figure)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        figures.nonsense  # noqa: B018
    for module in figures.modules():
        assert isinstance(getattr(figures, module), types.ModuleType)


def test_figures_are_drawn_in_the_shared_look(line):
    outside = matplotlib.rcParams["font.size"]
    axes = line().axes[0]
    assert FONT_SIZE >= 12 and axes.title.get_fontsize() == FONT_SIZE
    assert axes.get_xticklabels()[0].get_fontsize() == FONT_SIZE - 1 >= 12
    assert axes.lines[0].get_color() == PALETTE[0] and not axes.spines["top"].get_visible()
    assert matplotlib.rcParams["font.size"] == outside
    assert set(COLOURS) >= {"u", "s", "v", "V_th", "window"} and len(set(PALETTE)) == len(PALETTE)
    with style():
        assert matplotlib.rcParams["font.size"] == FONT_SIZE


def test_a_pyplot_figure_is_closed_so_that_a_notebook_shows_it_once():
    import matplotlib.pyplot as plt

    try:

        @figure
        def test_pyplot():
            return plt.subplots()[0]

        before = plt.get_fignums()
        assert isinstance(test_pyplot(), Figure) and plt.get_fignums() == before
    finally:
        del FIGURES["test_pyplot"]


def test_what_is_no_complete_figure_is_refused(line):
    with pytest.raises(ValueError, match="expected a default for u"):
        figure(lambda u: None)

    def test_line():
        return None

    test_line.__module__ = "elsewhere"
    with pytest.raises(ValueError, match=f"test_line: expected a new name, received one that {__name__} has"):
        figure(test_line)
    test_line.__module__ = __name__  # a module that is loaded again may register again
    with pytest.raises(TypeError, match="expected to return a Figure, received NoneType"):
        figure(test_line)()


def test_a_notebook_learns_to_show_figures(line, monkeypatch):
    class Formatter(dict):
        def for_type(self, kind, function):
            self[kind] = function

    formatter = Formatter()
    shell = types.SimpleNamespace(display_formatter=types.SimpleNamespace(formatters={"image/png": formatter}))
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    drawn = line()
    assert formatter[Figure](drawn).startswith(b"\x89PNG")
    kept = formatter[Figure]
    line()
    assert formatter[Figure] is kept
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: None))
    line()


def test_the_command_writes_png_and_svg_that_are_the_same_on_every_run(line, tmp_path, capsys):
    for folder in ("a", "b"):
        assert cli.main(["figures", str(tmp_path / folder), "--only", "test_line"]) == 0
    written = capsys.readouterr().out.split()
    assert [Path(p).name for p in written[:2]] == ["test_line.png", "test_line.svg"]
    for suffix in ("png", "svg"):
        first, second = (tmp_path / folder / f"test_line.{suffix}" for folder in "ab")
        assert first.read_bytes() == second.read_bytes() and first.stat().st_size > 1000
    assert cli.main(["figures", str(tmp_path / "c"), "--only", "test_line", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0].endswith("test_line.png")


def test_the_command_refuses_an_unknown_figure(line, tmp_path, capsys):
    assert cli.main(["figures", str(tmp_path / "x"), "--only", "nonsense"]) == 3
    error = capsys.readouterr().err
    assert "--only: expected one of" in error and "received 'nonsense'" in error and error.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
@pytest.mark.skipif(not figures.modules(), reason="no figures yet")
@pytest.mark.skipif(bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="some figures train networks")
def test_every_figure_is_complete_by_itself_and_readable():
    from matplotlib.lines import Line2D
    from matplotlib.text import Text

    for name in figures.names():
        drawn = getattr(figures, name)()
        texts = [text for text in drawn.findobj(Text) if text.get_visible() and text.get_text().strip()]
        assert min(text.get_fontsize() for text in texts) >= 12, name
        drawn_as_shapes = [line for line in drawn.findobj(Line2D) if not line.get_rasterized()]
        markers = sum(len(line.get_xdata()) for line in drawn_as_shapes if line.get_marker() not in (None, "None", ""))
        assert markers < 8000, f"{name}: an SVG of so many shapes is over a megabyte; rasterize the dense points"


# --- sliders --------------------------------------------------------------------------------------


def test_without_a_front_end_the_figure_itself_is_shown(line, monkeypatch):
    assert isinstance(explore(line, slope=(0, 2, 0.5)), Figure)
    with pytest.raises(TypeError, match="expected ranges of slope, label, received width"):
        explore(line, width=(0, 1, 0.1))
    kernel = types.SimpleNamespace(_allow_stdin=False)  # what executes a notebook without showing it
    shell = types.SimpleNamespace(kernel=kernel)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    assert not sliders._has_front_end()
    kernel._allow_stdin = True
    assert sliders._has_front_end()


def test_without_ipywidgets_the_figure_itself_is_shown(line, monkeypatch):
    monkeypatch.setattr(sliders, "_has_front_end", lambda: True)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert isinstance(explore(line, slope=(0, 2, 0.5)), Figure)


@pytest.mark.filterwarnings("ignore")
def test_with_a_front_end_there_is_a_slider_that_starts_at_the_default(line, monkeypatch):
    pytest.importorskip("ipywidgets")
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", shown.append)
    monkeypatch.setattr(sliders, "_has_front_end", lambda: True)
    panel = explore(line, slope=(0, 2, 0.5), label=["u", "v"])
    slider, choice = panel.children[:2]
    assert (slider.value, slider.min, slider.max, slider.step) == (1.0, 0, 2, 0.5) and not slider.continuous_update
    assert choice.options == ("u", "v") and choice.value == "u"
    panel.update()
    assert isinstance(shown[-1], Figure)


# --- release --------------------------------------------------------------------------------------


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
    assert cli.main(["course", "report", str(tmp_path / "a.ipynb")]) == 3
    assert "expected nbgrader, found none; pip install 'agl-ref[course]'" in capsys.readouterr().err


@pytest.fixture
def folders(tmp_path):
    """(folder of solutions with one notebook, folder of tutorials)."""
    pytest.importorskip("nbgrader")
    nbformat = pytest.importorskip("nbformat")
    from helpers_course import solved_notebook

    (tmp_path / "solutions").mkdir()
    nbformat.write(solved_notebook(), tmp_path / "solutions" / "small.ipynb")
    return tmp_path / "solutions", tmp_path / "tutorials"


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
        before = [source for kind, source in zip(kinds[max(0, k - 3) : k], sources[max(0, k - 3) : k], strict=True)
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


# --- report ---------------------------------------------------------------------------------------


@pytest.fixture
def handed_in(folders):
    """(folder with submissions, nbformat)"""
    import nbformat
    from helpers_course import MIXED, hand_in, solved_notebook

    folder = folders[0].parent / "submitted"
    (folder / "zoe").mkdir(parents=True)
    nbformat.write(hand_in(solved_notebook(), {}), folder / "ada.ipynb")
    nbformat.write(hand_in(solved_notebook(), MIXED), folder / "bob.ipynb")
    changed = hand_in(solved_notebook(), {"check-leak": "1000", "leak": "leak = None"})  # her own graded cell
    changed.cells = changed.cells[:4]
    nbformat.write(changed, folder / "zoe" / "one.ipynb")
    return folder


def in_this_process(notebook, student, timeout):
    """Runs a notebook's cells here, as Execute does in a kernel."""
    import ast
    import contextlib

    from nbformat.v4 import new_output

    names = {}
    for k, cell in enumerate(cell for cell in notebook.cells if cell.cell_type == "code"):
        tree = ast.parse(cell.source)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        cell.execution_count = k + 1
        if student == "bob" and "rectangular" in cell.source and "check" in cell.source:
            cell.execution_count = None
            return "DeadKernelError: Kernel died"
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(tree, "cell", "exec"), names)
                result = eval(compile(ast.Expression(last.value), "cell", "eval"), names) if last else None
        except Exception as error:
            cell.outputs = [new_output("error", ename=type(error).__name__, evalue=str(error))]
            continue
        if result is not None:
            cell.outputs = [new_output("execute_result", {"text/plain": repr(result)})]
    return None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_report_has_each_exercise_the_total_and_the_maximum(handed_in):
    from agl_ref.course.grading.report import report, table

    found = report([handed_in / "ada.ipynb", handed_in / "bob.ipynb", handed_in / "zoe"], execute=in_this_process)
    rows = list(csv.reader(io.StringIO(table(found))))
    assert rows == [
        ["student", "leak", "fires", "rectangular", "soft_reset", "total", "maximum"],
        ["ada", "1", "1", "2", "1", "5", "5"],
        ["bob", "1", "0.5", "0", "0", "1.5", "5"],
        ["zoe", "0", "0", "0", "0", "0", "5"],
    ]
    assert found["students"][1]["notes"] == [f"{handed_in / 'bob.ipynb'}: DeadKernelError: Kernel died"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_cells_of_the_teacher_s_own_count_by_nbgrader_s_rules(handed_in):
    import nbformat

    from agl_ref.course.grading.report import report

    path = handed_in / "ada.ipynb"
    notebook = nbformat.read(path, as_version=4)
    for name, source in (("own", "assert True"), ("failed", "assert False"), ("too_much", "7")):
        cell = nbformat.v4.new_code_cell(source)
        cell.metadata["nbgrader"] = {"grade": True, "solution": False, "locked": True, "points": 3, "grade_id": name,
                                     "schema_version": 3, "task": False}  # fmt: skip
        notebook.cells.append(cell)
    nbformat.write(notebook, path)
    row = report([path], execute=in_this_process)["students"][0]
    assert (row["points"]["own"], row["points"]["failed"], row["points"]["too_much"]) == (3, 0, 0)
    assert (row["total"], row["maximum"]) == (8, 14)


def test_bad_submissions_are_one_line(handed_in, capsys):
    (handed_in / "bad.ipynb").write_text("no notebook")
    (handed_in / "empty").mkdir()
    (handed_in / "ada").mkdir()
    (handed_in / "ada" / "one.ipynb").write_text((handed_in / "ada.ipynb").read_text())
    for paths, words in ((["bad.ipynb"], "expected a notebook"), (["none.ipynb"], "No such file"),
                         (["empty"], "expected a folder with notebooks"), (["ada", "ada.ipynb"], "'ada' twice")):  # fmt: skip
        assert cli.main(["course", "report", *[str(handed_in / path) for path in paths]]) == 3
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    for seconds in ("0", "x", "-1"):
        with pytest.raises(SystemExit) as stop:
            cli.main(["course", "report", "a.ipynb", f"--timeout={seconds}"])
        assert stop.value.code == 3 and "whole number of seconds" in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_command_prints_csv_or_json(handed_in, monkeypatch, capsys):
    from agl_ref.cli import course as command

    whole = command.report
    monkeypatch.setattr(
        command, "report", lambda paths, timeout, progress: whole(paths, timeout, in_this_process, progress)
    )
    arguments = ["course", "report", str(handed_in / "bob.ipynb")]
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("student,leak,fires") and captured.out.endswith("\nbob,1,0.5,0,0,1.5,5\n")
    assert "Kernel died" in captured.err
    assert cli.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["students"][0]["total"] == 1.5 and found["maxima"]["rectangular"] == 2


@pytest.mark.slow
def test_a_real_kernel_survives_a_loop_without_end_and_a_killed_process(handed_in):
    """The one test that starts kernels: an endless loop costs one exercise, a dead kernel the rest of the notebook."""
    import nbformat
    from helpers_course import hand_in

    notebook = nbformat.read(handed_in / "ada.ipynb", as_version=4)
    endless = "def leak(v, x, decay):\n    while True:\n        pass"
    named = "import os\n\ndef fires(u, v_th):\n    return (u >= v_th) * float(os.environ['AGL_STUDENT'] == 'loop')"
    nbformat.write(hand_in(notebook, {"leak": endless, "fires": named}), handed_in / "loop.ipynb")
    killed = "def rectangular(z, width):\n    import os\n    os._exit(1)"
    notebook = nbformat.read(handed_in / "ada.ipynb", as_version=4)
    nbformat.write(hand_in(notebook, {"rectangular": killed}), handed_in / "killed.ipynb")
    command = [sys.executable, "-m", "agl_ref", "course", "report", "--timeout", "20", "--json",
               str(handed_in / "loop.ipynb"), str(handed_in / "killed.ipynb")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    loop, killed = json.loads(done.stdout)["students"]
    assert loop["points"] == {"leak": 0, "fires": 1, "rectangular": 2, "soft_reset": 1} and loop["notes"] == []
    assert killed["points"] == {"leak": 1, "fires": 1, "rectangular": 0, "soft_reset": 0}
    assert "DeadKernelError" in killed["notes"][0] and "DeadKernelError" in done.stderr
    assert len(done.stderr.splitlines()) == 1  # nothing of Jupyter's own
