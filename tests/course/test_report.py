"""The points of submitted notebooks: `agl-ref course report`."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from agl_ref import cli


@pytest.fixture
def handed_in(folders):
    """(folder with submissions, nbformat)"""
    import nbformat
    from notebooks_made_here import MIXED, hand_in, solved_notebook

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
    for paths, words in ((["bad.ipynb"], "expected a notebook"), (["none.ipynb"], "received nothing there"),
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
    from notebooks_made_here import hand_in

    notebook = nbformat.read(handed_in / "ada.ipynb", as_version=4)
    endless = "def leak(v, x, decay):\n    while True:\n        pass"
    named = "import os\n\ndef fires(u, v_th):\n    return (u >= v_th) * float(os.environ['AGL_STUDENT'] == 'loop')"
    nbformat.write(hand_in(notebook, {"leak": endless, "fires": named}), handed_in / "loop.ipynb")
    killed = "def rectangular(z, width):\n    import os\n    os._exit(1)"
    notebook = nbformat.read(handed_in / "ada.ipynb", as_version=4)
    nbformat.write(hand_in(notebook, {"rectangular": killed}), handed_in / "killed.ipynb")
    command = [sys.executable, "-m", "agl_ref", "course", "report", "--timeout", "20", "--json",
               str(handed_in / "loop.ipynb"), str(handed_in / "killed.ipynb")]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=300)
    loop, killed = json.loads(done.stdout)["students"]
    assert loop["points"] == {"leak": 0, "fires": 1, "rectangular": 2, "soft_reset": 1} and loop["notes"] == []
    assert killed["points"] == {"leak": 1, "fires": 1, "rectangular": 0, "soft_reset": 0}
    assert "DeadKernelError" in killed["notes"][0] and "DeadKernelError" in done.stderr
    assert len(done.stderr.splitlines()) == 1  # nothing of Jupyter's own
