"""A course with nbgrader's own commands: give out, hand in, grade, and read the gradebook."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import pytest

nbgrader = pytest.importorskip("nbgrader")

import nbformat  # noqa: E402
from notebooks_made_here import MIXED, MIXED_POINTS, POINTS, hand_in, solved_notebook  # noqa: E402

ROOT = Path(__file__).parents[2]
REAL = sorted((ROOT / "tutorials" / "solutions").glob("*.ipynb"))

WRONG = {
    "leak": "def leak(v, x, decay):\n    return v + x",
    "fires": "def fires(u, v_th):\n    import sys\n    print('why?', file=sys.stderr)\n    return u >= v_th",
    "rectangular": "raise RuntimeError('this cell crashes')",
    "soft_reset": "def soft_reset(u, s, v_th):\n    import warnings\n    warnings.warn('hm')\n    return u - v_th * s",
}
SUBMISSIONS = {
    "ada": (None, POINTS),  # hands in the solutions
    "bob": (MIXED, MIXED_POINTS),
    "eve": (WRONG, {"leak": 0, "fires": 0, "rectangular": 0, "soft_reset": 1}),
    "zoe": ({}, dict.fromkeys(POINTS, 0)),  # hands in what she was given
}


def run(folder, *command):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # it calls alembic
    environment |= {"JUPYTER_CONFIG_DIR": str(folder / "config"), "IPYTHONDIR": str(folder / "ipython")}
    environment.pop(
        "NUMBA_DISABLE_JIT", None
    )  # which the measurement of coverage sets: notebooks run as students run them
    done = subprocess.run([sys.executable, "-m", "nbgrader", *command], cwd=folder, env=environment, capture_output=True,
                          text=True, timeout=600)  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def course(folder, notebooks):
    """A course in a folder, with an assignment of these notebooks {name: notebook} given out."""
    (folder / "source" / "ps1").mkdir(parents=True)
    (folder / "nbgrader_config.py").write_text(
        "c = get_config()\nc.CourseDirectory.course_id = 'agl'\nc.CourseDirectory.db_url = 'sqlite:///gradebook.db'\n"
        "c.Execute.timeout = 120\n"
    )
    for name, notebook in notebooks.items():
        nbformat.write(notebook, folder / "source" / "ps1" / name)
    run(folder, "generate_assignment", "ps1", "--create")
    return folder / "release" / "ps1"


def scores(folder, student):
    """{exercise: (score, maximum)} of a student, from nbgrader's gradebook."""
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{folder}/gradebook.db") as book:
        submission = book.find_submission("ps1", student)
        return {grade.name.removeprefix("check-"): (grade.score, grade.max_score)
                for notebook in submission.notebooks for grade in notebook.grades}  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_course_from_the_source_to_the_gradebook(tmp_path):
    given_out = course(tmp_path, {"small.ipynb": solved_notebook()}) / "small.ipynb"
    text = given_out.read_text()
    assert "BEGIN SOLUTION" not in text and text.count("raise NotImplementedError()") == len(POINTS)
    for student, (answers, _) in SUBMISSIONS.items():
        notebook = solved_notebook() if answers is None else nbformat.read(given_out, as_version=4)
        if answers is None:  # the solutions, in the cells that were given out
            solutions = {c.metadata.nbgrader.grade_id: c.source for c in notebook.cells if "nbgrader" in c.metadata}
            solutions = {name: source for name, source in solutions.items() if name in POINTS}
            notebook = hand_in(nbformat.read(given_out, as_version=4), solutions)
        place = tmp_path / "submitted" / student / "ps1"
        place.mkdir(parents=True)
        nbformat.write(hand_in(notebook, answers or {}), place / "small.ipynb")
    run(tmp_path, "autograde", "ps1", "--create")
    for student, (_, expected) in SUBMISSIONS.items():
        found = scores(tmp_path, student)
        assert found == {name: (expected[name], POINTS[name]) for name in POINTS}, student
    run(tmp_path, "export")
    with open(tmp_path / "grades.csv") as table:
        by_student = {row["student_id"]: float(row["score"]) for row in csv.DictReader(table)}
    assert by_student == {student: sum(expected.values()) for student, (_, expected) in SUBMISSIONS.items()}


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="no notebooks in tutorials/solutions")
@pytest.mark.filterwarnings("ignore")
def test_the_tutorials_are_an_nbgrader_assignment(tmp_path):
    """Given out they hold no solution; the maximum of each cell is the exercise's points."""
    from nbgrader.api import Gradebook

    from agl_ref.course.exercises import load

    release = course(tmp_path, {path.name: nbformat.read(path, as_version=4) for path in REAL})
    assert sorted(path.name for path in release.glob("*.ipynb")) == [path.name for path in REAL]
    for path in release.glob("*.ipynb"):
        assert "BEGIN SOLUTION" not in path.read_text() and "check(" in path.read_text()
    with Gradebook(f"sqlite:///{tmp_path}/gradebook.db") as book:
        cells = {cell.name.removeprefix("check-"): cell.max_score for notebook in book.find_assignment("ps1").notebooks
                 for cell in notebook.grade_cells}  # fmt: skip
    exercises = load()
    assert cells and cells == {name: exercises[name].points for name in cells}


@pytest.mark.slow
@pytest.mark.skipif(not REAL, reason="no notebooks in tutorials/solutions")
@pytest.mark.filterwarnings("ignore")
def test_the_first_tutorial_graded_with_its_solutions_and_without(tmp_path):
    source = nbformat.read(REAL[0], as_version=4)
    solutions = {
        c.metadata.nbgrader.grade_id: c.source for c in source.cells if c.metadata.get("nbgrader", {}).get("solution")
    }
    given_out = course(tmp_path, {REAL[0].name: source}) / REAL[0].name
    for student, answers in (("ada", solutions), ("zoe", {})):
        place = tmp_path / "submitted" / student / "ps1"
        place.mkdir(parents=True)
        nbformat.write(hand_in(nbformat.read(given_out, as_version=4), answers), place / REAL[0].name)
    run(tmp_path, "autograde", "ps1", "--create")
    ada, zoe = scores(tmp_path, "ada"), scores(tmp_path, "zoe")
    assert len(ada) == len(zoe) > 3
    assert all(score == most > 0 for score, most in ada.values()), ada
    assert all(score == 0 for score, _ in zoe.values()), zoe
