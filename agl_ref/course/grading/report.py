"""The points of submitted notebooks: run each with nbgrader's rules, and make a table."""

import csv
import io
import os
import subprocess
import tempfile
from pathlib import Path

from agl_ref.course.exercises import load
from agl_ref.course.release import INSTALL, read_notebook

from .check_answer import plain_number

PREFIX = "check-"  # of the grade ids of the cells that hold check(NAME, NAME)


def submissions(paths):
    """The notebooks of each submission: {student: [(path, notebook)]}. A folder is a student with several notebooks.

    ValueError, in one line, for a path that is no notebook, a folder without one, or two submissions of one name.
    """
    found = {}
    for path in map(Path, paths):
        files = (
            [p for p in sorted(path.rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]
            if path.is_dir()
            else [path]
        )
        if not files:
            raise ValueError(f"{path}: expected a folder with notebooks, received one without; name another")
        student = path.resolve().name if path.is_dir() else path.stem
        if student in found:
            raise ValueError(f"{path}: expected one submission per name, received {student!r} twice; use folders")
        found[student] = [(file, read_notebook(file)) for file in files]
    return found


def run_notebook(notebook, student, timeout):
    """Execute a notebook in an empty folder; a cell that fails or takes too long does not stop the next one.

    Returns a text on what stopped the whole notebook, or None.
    """
    from nbgrader.preprocessors import Execute  # nbgrader is optional, here and below

    class Quiet(Execute):
        """Starts kernels that see the student's name, and say nothing beside the notebook."""

        def start_new_kernel(self, **options):
            environment = {**os.environ, "AGL_STUDENT": student}  # inputs that the student has not seen
            super().start_new_kernel(env=environment, stderr=subprocess.DEVNULL, **options)

    executor = Quiet(timeout=timeout, kernel_name="python3")
    executor.log.disabled = True
    try:
        with tempfile.TemporaryDirectory() as folder:
            executor.preprocess(notebook, {"metadata": {"path": folder}})
    except Exception as error:  # a dead kernel, whatever killed it
        for cell in [cell for cell in notebook.cells if cell.get("execution_count") is not None][-1:]:
            cell.execution_count = None  # it was begun and never ended
        return f"{type(error).__name__}: {' '.join(str(error).split())[:100]}"
    finally:
        executor.log.disabled = False
    return None


def graded_cells(notebook):
    """The cells that earn points: {exercise: (cell, points)}.

    Those of the course's exercises are put back as the teacher gave them out, whatever a student made of them.
    """
    from nbgrader.utils import is_grade

    exercises, cells = load(), {}
    for cell in notebook.cells:
        if cell.cell_type != "code" or not is_grade(cell):
            continue
        name = cell.metadata.nbgrader.grade_id.removeprefix(PREFIX)
        if name in exercises:
            cell.source = f'from agl_ref.course import check\n\ncheck("{name}", {name})'
            cell.metadata.nbgrader.points = exercises[name].points
        cells.setdefault(name, (cell, float(cell.metadata.nbgrader.points)))
    return cells


def score(cell):
    """The points of an executed graded cell, as nbgrader reads them; 0 for a cell that was never reached."""
    from nbgrader.utils import determine_grade

    if cell.execution_count is None:
        return 0.0
    try:
        return determine_grade(cell)[0] or 0.0
    except (KeyError, ValueError):  # a result that nbgrader refuses, such as more points than there are
        return 0.0


def report(paths, timeout=60, execute=run_notebook, progress=iter):
    """The points of submissions: paths of notebooks (a student each), or of folders of notebooks (a student each).

    A cell may take `timeout` seconds; `execute` runs (notebook, student, timeout); `progress` wraps what is iterated over,
    such as tqdm. Returns {"maxima": {exercise: points}, "students": [{"student", "points" {exercise: points}, "total",
    "maximum", "notes"}]}, the notes on what stopped a notebook. ValueError as from `submissions`, or without nbgrader.
    """
    try:
        import nbgrader  # noqa: F401
    except ModuleNotFoundError:
        raise ValueError(f"course report: expected nbgrader, found none; {INSTALL}") from None
    maxima, rows = {}, []
    for student, notebooks in progress(list(submissions(paths).items())):
        points, notes = {}, []
        for path, notebook in notebooks:
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            cells = graded_cells(notebook)
            if text := execute(notebook, student, timeout):
                notes.append(f"{path}: {text}")
            for name, (cell, most) in cells.items():
                points[name] = points.get(name, 0.0) + score(cell)
                maxima.setdefault(name, most)
        rows.append({"student": student, "points": points, "notes": notes})
    for row in rows:
        row["points"] = {name: plain_number(row["points"].get(name, 0.0)) for name in maxima}
        row["total"], row["maximum"] = plain_number(sum(row["points"].values())), plain_number(sum(maxima.values()))
    return {"maxima": {name: plain_number(most) for name, most in maxima.items()}, "students": rows}


def table(found):
    """CSV of a report: a row per student, a column per exercise, then total and maximum."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["student", *found["maxima"], "total", "maximum"])
    for row in found["students"]:
        rows.writerow([row["student"], *row["points"].values(), row["total"], row["maximum"]])
    return text.getvalue()
