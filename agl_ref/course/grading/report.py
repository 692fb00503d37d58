"""The points of submitted notebooks: every answer is tried in another process, and a table is made.

Nothing that a submission says about itself counts: the points, the maxima and the inputs come from the course, and the
verdict is computed here, from the arrays that an answer returned.
"""

import csv
import html
import importlib.util
import io
import itertools
import multiprocessing
import re
import sys
from collections import Counter, defaultdict
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

from agl_ref.course import NOTEBOOKS, exercises
from agl_ref.course.exercises.definition import EXERCISES, NOTEBOOK_OF
from agl_ref.course.guesses import PLACE

from .check_answer import mark, plain_number
from .diagnose import Stopped
from .isolated import AnswerProcess
from .submission import find_answer, read_predictions, read_statements

# in a diagnosis: what a teacher should see, since it may be no mistake in the answer
TROUBLE = ("ImportError", "ModuleNotFoundError", "PermissionError", "MemoryError", "process", "seconds", "cannot be")


class Submission(NamedTuple):
    """What a student handed in."""

    student: str
    about: set  # the exercises whose cells are there, answered or not
    answers: dict  # {exercise: Answer}
    predictions: dict  # {name: what was typed}, never graded
    notes: list


def find_submissions(paths):
    """The files of each submission: {student: [paths]}. A folder is a student's, with any number of notebooks.

    Names are those of folders and files; of Moodle's, `Ada Lovelace_1234_assignsubmission_file_...`, what stands in front.
    ValueError, in one line, for a path that is not there, or two submissions of one name.
    """
    found = {}
    for path in map(Path, paths):
        if not path.exists():
            raise ValueError(f"{path}: expected a notebook or a folder, received nothing there; name another")
        student = path.resolve().name if path.is_dir() else path.stem
        moodle = re.match(r"(.+_\d+)_assignsubmission_file_", student)
        student = moodle[1] if moodle else student
        if student in found and not moodle:
            raise ValueError(f"{path}: expected one submission per name, received {student!r} twice; use folders")
        hidden = [p for p in path.rglob("*.ipynb") if any(part.startswith(".") for part in p.relative_to(path).parts)]
        inside = sorted(set(path.rglob("*.ipynb")) - set(hidden)) if path.is_dir() else [path]
        found[student] = [*found.get(student, ()), *inside]
    return found


def add_exercises(paths):
    """Import a teacher's own exercises: modules, or folders of them. ValueError for what cannot be imported."""
    exercises.load()
    for path in map(Path, paths):
        for file in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            spec = importlib.util.spec_from_file_location(file.stem, file)
            try:
                sys.modules[file.stem] = module = importlib.util.module_from_spec(spec)
                spec.loader.exec_module(module)
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())
                raise ValueError(f"{file}: expected a module with exercises, received {text}; correct it") from None


def read_submission(student, paths):
    """The `Submission` in some notebooks; what cannot be read is a note."""
    about, answers, predictions = set(), {}, {}
    notes = [] if paths else [f"{student}: no notebook in the folder"]
    for name, many in Counter(path.name for path in paths).items():
        if many > 1:
            notes.append(
                f"{student}: {many} notebooks named {name}, taken for one student's; name students' folders singly"
            )
    for path in paths:
        try:
            statements, ids, odd = read_statements(path)
        except ValueError as error:
            notes.append(str(error))
            continue
        notes += odd
        predictions |= {
            name: text for name, text in read_predictions(statements).items() if text.strip() not in ("", PLACE)
        }
        names = set(ids) if any(ids) else set().union(*(s.bound for s in statements))  # metadata may have been stripped
        about |= names & set(EXERCISES)
        for name, item in EXERCISES.items():
            answer = find_answer(name, item, statements)
            if answer is not None and (name in ids or name not in answers):
                answers[name] = answer
    return Submission(student, about, answers, predictions, notes)


def note_equal_answers(submissions):
    """Add a note for each two students with the same code in an answer of some length."""
    authors, alike = defaultdict(list), defaultdict(list)
    for submission in submissions:
        for name, answer in submission.answers.items():
            if answer.code:
                authors[name, answer.code].append(submission)
    for (name, _), equal in authors.items():
        for one, other in itertools.permutations(equal, 2):
            alike[one.student, other.student].append(name)
    for submission in submissions:
        submission.notes.extend(f"{one}: the same code as {other} in {', '.join(names)}"
                                for (one, other), names in alike.items() if one == submission.student)  # fmt: skip


def grade(submission, names, seed, timeout):
    """The row of a student: {"student", "points", "total", "maximum", "notes", "predictions", "diagnoses"}."""
    points, diagnoses, notes = {}, {}, list(submission.notes)
    libraries = {module for answer in submission.answers.values() for module in answer.libraries}
    with AnswerProcess(sorted(libraries), timeout) as process:
        for name in names:
            answer = submission.answers.get(name)
            if answer is None:
                points[name], diagnoses[name] = 0, "Not answered, or not in the submission."
                continue
            points[name], diagnoses[name] = _mark(process, name, answer, f"{submission.student}\n{seed}")
            odd = [*answer.notes, diagnoses[name]] if any(map(diagnoses[name].count, TROUBLE)) else answer.notes
            notes += [f"{submission.student}: {name}: {note}" for note in odd]
            if answer.tried > 1:
                n = len(EXERCISES[name].options)
                points[name] = plain_number(int(2 * points[name] * (n - answer.tried) / (n - 1)) / 2)
                notes.append(f"{submission.student}: {name}: {answer.tried} of {n} options tried")
    maximum = plain_number(sum(EXERCISES[name].points for name in names))
    return {"student": submission.student, "points": points, "total": plain_number(sum(points.values())),
            "maximum": maximum, "notes": notes, "predictions": submission.predictions, "diagnoses": diagnoses}  # fmt: skip


def _mark(process, name, answer, student):
    try:
        return mark(EXERCISES[name], process.answer(name, answer.cells), student)
    except NotImplementedError:
        return 0, "Not answered yet."
    except Stopped as stop:
        return 0, f"Its cell stops with {stop}."
    except Exception as error:  # a mistake of the course's must not cost the other students their rows
        return 0, f"It cannot be judged: {type(error).__name__}: {error}"


def report(paths, seed, timeout=20, own=(), assignment=(), jobs=1):
    """The points of submissions: a notebook, named like the student, or a student's folder of notebooks, each.

    Parameters
    ----------
    paths : list of paths
    seed : str
        Seeds the inputs, together with the student's name: a secret until the work is handed in.
    timeout : int
        Seconds for an exercise, all of its inputs together.
    own : list of paths
        Modules with exercises of one's own, or folders of them.
    assignment : list of paths
        The notebooks that were given out, where some of the course's exercises were left out. By default every exercise
        counts of each of the course's notebooks of which somebody handed in a part.
    jobs : int
        Students at a time.

    Returns
    -------
    ({exercise: points}, iterator)
        The maxima, and the rows as they become ready, as `grade` makes them. ValueError as from `find_submissions` and
        `add_exercises`.
    """
    add_exercises(own)
    submissions = [read_submission(*item) for item in find_submissions(paths).items()]
    note_equal_answers(submissions)
    given = [read_submission(*item) for item in find_submissions(assignment).items()]
    about = set().union(*(submission.about for submission in given or submissions))
    notebooks = {NOTEBOOK_OF[name] for name in about}
    order = {f"{exercises.__name__}.{module}": k for k, module in enumerate(NOTEBOOKS)}  # a teacher's own come last
    names = [
        name
        for name in sorted(EXERCISES, key=lambda name: order.get(NOTEBOOK_OF[name], len(order)))
        if (name in about if given else NOTEBOOK_OF[name] in notebooks)
    ]
    maxima = {name: plain_number(EXERCISES[name].points) for name in names}
    return maxima, _rows(submissions, names, seed, timeout, own, min(jobs, len(submissions)))


def _rows(submissions, names, seed, timeout, own, jobs):
    if jobs <= 1:
        yield from (grade(submission, names, seed, timeout) for submission in submissions)
        return
    spawn = multiprocessing.get_context("spawn")  # a fork would copy the threads that read from other students' answers
    with ProcessPoolExecutor(jobs, spawn, add_exercises, (own,)) as pool:
        waiting = [pool.submit(grade, submission, names, seed, timeout) for submission in submissions]
        for done in as_completed(waiting):
            yield done.result()


def feedback(row, maxima):
    """A student's page of HTML: the points, and what `check` says about each answer; it wraps lines and loads nothing."""
    lines = "".join(
        f"<tr><td>{html.escape(name)}<td>{row['points'][name]:g} of {most:g}<td>{html.escape(row['diagnoses'][name])}\n"
        for name, most in maxima.items()
    )
    student = html.escape(row["student"])
    return (f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{student}</title>\n<style>body {{font: 16px/1.4 '
            "sans-serif; max-width: 60em; margin: 1em auto; padding: 0 1em}} td, th {{text-align: left; vertical-align: top; "
            "padding: .3em .8em .3em 0; border-top: 1px solid #bbb; overflow-wrap: anywhere}}</style>\n"
            f"<h1>{student}: {row['total']:g} of {row['maximum']:g} points</h1>\n"
            "<table><tr><th>exercise<th>points<th>what check says\n"
            f"{lines}</table></html>\n")  # fmt: skip


def predictions_as_csv(rows):
    """The guesses in some rows, a line each; a spreadsheet takes none for a formula."""
    lines = [(row["student"], name, " " * (text[0] in "=+-@") + text)
             for row in rows for name, text in row["predictions"].items()]  # fmt: skip
    return "".join(map(as_csv, [("student", "prediction", "guess"), *lines]))


def as_csv(cells):
    """A line of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()
