"""The points of submitted notebooks: `agl-ref course report`. What cheats try stands in test_cheating.py."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agl_ref import cli
from agl_ref.course.grading.report import report

nbformat = pytest.importorskip("nbformat")
from notebooks_made_here import MIXED, SOLUTIONS, graded, hand_in, solved_notebook  # noqa: E402

SMALL = {"leak": 1, "fires": 1, "rectangular": 2, "soft_reset": 1}


@pytest.fixture
def handed_in(tmp_path):
    """A folder with submissions, and the notebook that was given out."""
    (tmp_path / "zoe").mkdir()
    nbformat.write(solved_notebook(), tmp_path / "given.ipynb")
    nbformat.write(solved_notebook(), tmp_path / "ada.ipynb")
    nbformat.write(hand_in(solved_notebook(), MIXED), tmp_path / "bob.ipynb")
    deleted = hand_in(solved_notebook(), {"check-leak": "1000", "leak": "leak = None"})  # her own graded cell
    deleted.cells = deleted.cells[:4]
    nbformat.write(deleted, tmp_path / "zoe" / "one.ipynb")
    return tmp_path


def rows(paths, **options):
    maxima, found = report(paths, "a seed", **options)
    return maxima, {row["student"]: row for row in found}


def test_the_report_has_each_exercise_the_total_and_the_maximum(handed_in):
    maxima, found = rows([handed_in / "ada.ipynb", handed_in / "bob.ipynb", handed_in / "zoe"],
                         assignment=[handed_in / "given.ipynb"])  # fmt: skip
    assert maxima == SMALL
    assert found["ada"]["points"] == SMALL and found["ada"]["total"] == found["ada"]["maximum"] == 5
    assert found["bob"]["points"] == {"leak": 1, "fires": 0.5, "rectangular": 0, "soft_reset": 1}
    assert "> and not >=" in found["bob"]["diagnoses"]["fires"]
    assert "name 'undefined' is not defined, in line 2 of its cell or file: `return 1 / undefined`" in (
        found["bob"]["diagnoses"]["rectangular"])  # fmt: skip
    assert found["zoe"]["points"] == dict.fromkeys(SMALL, 0) and found["zoe"]["maximum"] == 5
    assert not any(row["notes"] for row in found.values())


def test_the_maxima_are_the_course_s_whatever_was_deleted(handed_in):
    """Of whose notebook 1 only the first cells are left, the maximum is that of notebook 1."""
    maxima, found = rows([handed_in / "zoe"])
    assert list(maxima) == ["leak", "fires", "hard_reset", "soft_reset", "lif_forward"]
    assert found["zoe"]["maximum"] == 7


def test_files_that_are_no_notebook_are_rows_with_a_note(handed_in):
    text = (handed_in / "ada.ipynb").read_text()
    contents = {"bom": b"\xef\xbb\xbf" + text.encode(), "empty": b"", "cut": text[: len(text) // 2].encode(),
                "list": b"[]", "binary": b"\xff\xfe\x00", "deep": b"[" * 100_000,
                "cells": b'{"cells": [{"cell_type": "code"}]}'}  # fmt: skip
    for name, content in contents.items():
        (handed_in / f"{name}.ipynb").write_bytes(content)
    (handed_in / "nothing").mkdir()
    paths = [handed_in / "nothing", *(handed_in / f"{name}.ipynb" for name in (*contents, "ada"))]
    _, found = rows(paths, assignment=[handed_in / "given.ipynb"])
    assert {name: row["total"] for name, row in found.items() if row["total"]} == {"bom": 5, "ada": 5}
    for name in ("empty", "cut", "list", "binary", "deep", "cells"):
        assert found[name]["notes"][0].startswith(f"{handed_in / name}.ipynb: expected a notebook"), name
    assert found["nothing"]["notes"] == ["nothing: no notebook in the folder"]


def changed(change, handed_in):
    notebook = solved_notebook()
    change(
        {cell.metadata["nbgrader"]["grade_id"]: cell for cell in notebook.cells if "nbgrader" in cell.metadata},
        notebook,
    )
    nbformat.write(notebook, handed_in / "eva.ipynb")
    return rows([handed_in / "eva.ipynb"], assignment=[handed_in / "given.ipynb"])[1]["eva"]


def copied(cells, notebook):
    copy = cells["leak"].copy()
    copy["id"] = "another"
    notebook.cells.insert(2, copy)
    copy.source = "def leak(v, x, decay):\n    return 0"


def copied_stub(cells, notebook):
    copied(cells, notebook)
    notebook.cells.append(notebook.cells.pop(2))
    notebook.cells[
        -1
    ].source = 'def leak(v, x, decay):\n    """u_t."""\n    # YOUR CODE HERE\n    raise NotImplementedError()'


def without_metadata(cells, notebook):
    for cell in notebook.cells:
        cell.metadata = {}


def in_a_new_cell(cells, notebook):
    notebook.cells.append(nbformat.v4.new_code_cell(SOLUTIONS["leak"]))
    cells["leak"].source = "def leak(v, x, decay):\n    raise NotImplementedError"


def checks_deleted(cells, notebook):
    notebook.cells = [cell for cell in notebook.cells if "check(" not in cell.source]


def with_helpers(cells, notebook):
    """A helper in another cell, a constant, a star import, a magic line, a plot: what the answer needs, it gets."""
    notebook.cells[
        1
    ].source = "%matplotlib inline\nfrom math import *\n\nONE = 1\ntable = [0, 0]\ntable[1] = ONE\nboom()"
    notebook.cells.append(nbformat.v4.new_code_cell("def times(a, b):\n    return (a - b) * table[1] * cos(0)"))
    cells["leak"].source = "def leak(v, x, decay):\n    return times(v * decay, -x)\n\ncheck('leak', leak)"


def broken_elsewhere(cells, notebook):
    notebook.cells.append(nbformat.v4.new_code_cell("def (:"))


@pytest.mark.parametrize("change", [copied, copied_stub, without_metadata, in_a_new_cell, checks_deleted, with_helpers,
                                    broken_elsewhere])  # fmt: skip
def test_what_students_do_to_cells_costs_nothing(change, handed_in):
    row = changed(change, handed_in)
    assert row["points"] == SMALL, row
    assert bool(row["notes"]) == (change in (copied, broken_elsewhere))


def test_what_cannot_be_imported_is_a_note(handed_in):
    def change(cells, notebook):
        cells["leak"].source = "import no_such_module\n\ndef leak(v, x, decay):\n    return no_such_module.leak(v, x)"

    row = changed(change, handed_in)
    assert row["total"] == 4 and "ModuleNotFoundError: No module named 'no_such_module'" in row["notes"][0]


def test_exercises_of_one_s_own_are_found_by_their_path(handed_in):
    module = handed_in / "own_exercises.py"
    module.write_text(
        "from agl_ref.course.exercises.definition import exercise\n\n\n"
        "def _draw(rng):\n    yield (rng.normal(0, 1, 3),)\n\n\n"
        "@exercise(points=3, draw=_draw, outputs='y')\ndef doubled_here(x):\n    return 2 * x\n"
    )
    notebook = nbformat.v4.new_notebook(cells=graded("doubled_here", "def doubled_here(x):\n    return x + x", 3))
    nbformat.write(notebook, handed_in / "own.ipynb")
    from agl_ref.course.exercises.definition import EXERCISES, NOTEBOOK_OF

    try:
        for path in (module, handed_in):
            assert rows([handed_in / "own.ipynb"], own=[path])[1]["own"]["points"] == {"doubled_here": 3}
        module.write_text("import no_such_module")
        with pytest.raises(ValueError, match=r"own_exercises.py: expected a module with exercises, .*no_such_module"):
            rows([handed_in / "own.ipynb"], own=[module])
    finally:
        EXERCISES.pop("doubled_here", None)
        NOTEBOOK_OF.pop("doubled_here", None)


def test_the_tutorials_as_given_out_earn_nothing_and_their_solutions_all(tmp_path):
    tutorials = Path(__file__).parents[2] / "tutorials"
    if not (tutorials / "solutions").is_dir():
        pytest.skip("the tutorials are not installed")
    given = tmp_path / "given"
    given.mkdir()
    for path in tutorials.glob("*.ipynb"):
        (given / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    _, found = rows([given, tutorials / "solutions"])
    assert (found["given"]["total"], found["given"]["notes"]) == (0, [])
    assert found["solutions"]["total"] == found["solutions"]["maximum"] == 111 and found["solutions"]["notes"] == []


def test_bad_arguments_are_one_line(handed_in, capsys):
    (handed_in / "ada").mkdir()
    for paths, words in ((["none.ipynb"], "received nothing there"), (["ada", "ada.ipynb"], "'ada' twice")):
        assert cli.main(["course", "report", *[str(handed_in / path) for path in paths]]) == 3
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    for option in ("--timeout", "--jobs"):
        for number in ("0", "-1"):
            assert cli.main(["course", "report", "a.ipynb", f"{option}={number}"]) == 3
            assert f"{option}: expected an integer >= 1, received {number}" in capsys.readouterr().err
        with pytest.raises(SystemExit) as stop:
            cli.main(["course", "report", "a.ipynb", f"{option}=x"])
        assert stop.value.code == 3 and f"{option}: invalid int value: 'x'" in capsys.readouterr().err


def test_the_command_prints_csv_or_json(handed_in, capsys):
    (handed_in / "empty.ipynb").write_text("")
    arguments = ["course", "report", str(handed_in / "bob.ipynb"), str(handed_in / "empty.ipynb"), "--jobs=1",
                 f"--assignment={handed_in / 'given.ipynb'}", "--seed=x"]  # fmt: skip
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    table = list(csv.reader(io.StringIO(captured.out)))
    assert table[0] == ["student", "leak", "fires", "soft_reset", "rectangular", "total", "maximum", "notes"]
    assert table[1] == ["bob", "1", "0.5", "1", "0", "2.5", "5", ""]
    assert table[2][:-1] == ["empty", "0", "0", "0", "0", "0", "5"] and "expected a notebook" in table[2][-1]
    assert "empty.ipynb: expected a notebook" in captured.err
    assert cli.main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["students"][0]["total"] == 2.5 and found["maxima"]["rectangular"] == 2 and found["seed"] == "x"
    assert "> and not >=" in found["students"][0]["diagnoses"]["fires"]


def test_a_page_of_feedback_wraps_and_escapes_and_loads_nothing(handed_in, capsys):
    bad = hand_in(solved_notebook(), {"leak": "def leak(v, x, decay):\n    raise ValueError('<b>' + 'long' * 30)"})
    nbformat.write(bad, handed_in / "bob.ipynb")
    folder = handed_in / "new" / "feedback"
    assert cli.main(["course", "report", str(handed_in / "bob.ipynb"), "--jobs=1", f"--feedback={folder}"]) == 0
    page = (folder / "bob.html").read_text()
    assert "&lt;b&gt;longlong" in page and "<b>" not in page and "overflow-wrap: anywhere" in page
    assert "<td>fires<td>1 of 1<td>Right." in page and "http" not in page and "bob: 4 of 15 points" in page


def test_the_files_of_moodle_s_archives_are_put_together_by_student(handed_in):
    """One notebook's cells in two files, and a namesake."""
    names = [
        f"Ada Lovelace_{number}_assignsubmission_file_{k}.ipynb" for number, k in ((12, "1"), (12, "2"), (13, "1"))
    ]
    for name, kept in zip(names, (range(4), range(4, 10), range(4)), strict=True):
        part = solved_notebook()
        part.cells = [part.cells[k] for k in kept]
        nbformat.write(part, handed_in / name)
    _, found = rows([handed_in / name for name in names], assignment=[handed_in / "given.ipynb"])
    assert {name: row["total"] for name, row in found.items()} == {"Ada Lovelace_12": 5, "Ada Lovelace_13": 1}


def test_the_folder_of_all_students_in_place_of_each_is_a_note(handed_in):
    for student in ("one", "two"):
        (handed_in / "all" / student).mkdir(parents=True)
        nbformat.write(solved_notebook(), handed_in / "all" / student / "week1.ipynb")
    _, found = rows([handed_in / "all"])
    assert found["all"]["notes"][0].startswith("all: 2 notebooks named week1.ipynb, taken for one student's")
    _, found = rows([handed_in / "all" / "one"])
    assert found["one"]["notes"] == []


def test_several_students_at_a_time(handed_in):
    command = [sys.executable, "-m", "agl_ref", "course", "report", "--jobs=2", str(handed_in / "ada.ipynb"),
               str(handed_in / "bob.ipynb"), f"--assignment={handed_in / 'given.ipynb'}"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    assert sorted(done.stdout.splitlines()[1:]) == ["ada,1,1,1,2,5,5,", "bob,1,0.5,1,0,2.5,5,"], done.stderr
