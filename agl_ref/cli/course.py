"""The command `agl-ref course`: the points of submitted notebooks, and exams."""

import json
import os
import secrets
import sys
from pathlib import Path

from tqdm import tqdm

from agl_ref import files, validate
from agl_ref.course.exam import exam
from agl_ref.course.grading.report import as_csv, feedback, predictions_as_csv, report

from .shared import add_json_option


def add_options(parser):
    """Add the actions of `course` and their options."""
    parser.description = "For teachers of a course with the tutorials."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = actions.add_parser(
        "report",
        help="try the answers in submitted notebooks and print each exercise's points as CSV",
        description="Try the answers in submitted notebooks and print a table of points: CSV with a row per student, written "
        "as soon as it is ready, a column per exercise, the total, the maximum and notes. The notebooks are not executed: "
        "each answer is taken out of its cell and tried in a process that knows no right answer, on inputs that nobody can "
        "know. An answer that crashes or takes too long costs its points and nothing else, and a file that is no notebook "
        "is a row with a note. Answers are programs of others, run as you, behind a fence that stops students and not "
        "attackers: for submissions that you do not trust, use a container.",
        epilog="Example: agl-ref course report submitted/* > points.csv",
    )
    action.add_argument("notebooks", metavar="NOTEBOOK", nargs="+",
                        help="a notebook, named like the student, or a student's folder of notebooks")  # fmt: skip
    action.add_argument("--timeout", type=int, default=20, metavar="S",
                        help="seconds for an exercise (%(default)s)")  # fmt: skip
    action.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="students at a time (as many as there are processors)")  # fmt: skip
    action.add_argument("--path", action="append", default=[], metavar="FILE",
                        help="a module with exercises of your own, or a folder of them; may be repeated")  # fmt: skip
    action.add_argument("--assignment", action="append", default=[], metavar="NOTEBOOK",
                        help="what you gave out, if you left exercises of the course's out; may be repeated")  # fmt: skip
    action.add_argument(
        "--seed", metavar="TEXT", help="the seed of an earlier report (--json has it), to draw its inputs again"
    )
    action.add_argument("--predictions", metavar="FILE", help="write the students' guesses, a line each, as CSV")
    action.add_argument("--feedback", metavar="FOLDER", help="write a page for each student, FOLDER/NAME.html")
    add_json_option(action, "JSON instead of the table, with a diagnosis of every answer")
    action = actions.add_parser(
        "exam",
        help="print exam questions with other numbers for every seed",
        description="Print exam questions as Markdown, with numbers that need no calculator and differ from seed to seed.",
        epilog="Example: agl-ref course exam A --answers",
    )
    action.add_argument("seed", metavar="SEED", help="any text: a group, a year")
    action.add_argument("--answers", action="store_true", help="add the answers and the marking scheme")
    action.set_defaults(run=print_exam)


def print_exam(args):
    print(exam(args.seed, args.answers), end="")
    return 0


def run(args):
    seed = args.seed or secrets.token_hex(8)
    timeout, jobs = validate.integer("--timeout", args.timeout), validate.integer("--jobs", args.jobs)
    maxima, rows = report(args.notebooks, seed, timeout, args.path, args.assignment, jobs)
    students = []
    if args.feedback:
        Path(args.feedback).mkdir(parents=True, exist_ok=True)
    if not args.json:
        print(as_csv(["student", *maxima, "total", "maximum", "notes"]), end="", flush=True)
    for row in tqdm(rows, total=len(args.notebooks), disable=None):
        students.append(row)
        if args.feedback:
            files.write_atomically(Path(args.feedback) / f"{row['student']}.html", feedback(row, maxima).encode())
        for note in row["notes"]:
            tqdm.write(f"agl-ref: {note}", file=sys.stderr)
        if not args.json:
            notes = "; ".join(row["notes"])
            line = as_csv([row["student"], *row["points"].values(), row["total"], row["maximum"], notes])
            print(line, end="", flush=True)
    if args.predictions:
        files.write_atomically(Path(args.predictions), predictions_as_csv(students).encode(errors="backslashreplace"))
    if args.json:
        print(json.dumps({"maxima": maxima, "seed": seed, "students": students}))
    return 0
