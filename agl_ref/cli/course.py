"""The command `agl-ref course`: the points of submitted notebooks."""

import argparse
import json
import sys

from tqdm import tqdm

from agl_ref.course.grading.report import report, table

from .shared import add_json_option


def add_options(parser):
    """Add the actions of `course` and their options."""
    parser.description = "For teachers of a course with the tutorials."
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    action = actions.add_parser(
        "report",
        help="run submitted notebooks and print each exercise's points as CSV",
        description="Run submitted notebooks and print a table of points: CSV with a row per student, a column per exercise, "
        "the total and the maximum. A cell that crashes or takes too long costs its points and nothing else. The "
        "notebooks are programs of others, run as you: for submissions that you do not trust, use a container. "
        "Inputs are seeded by the student's name, so that numbers copied from the tutorial's run earn nothing.",
        epilog="Example: agl-ref course report submitted/* > points.csv",
    )
    action.add_argument("notebooks", metavar="NOTEBOOK", nargs="+",
                        help="a notebook, named like the student, or a student's folder of notebooks")  # fmt: skip
    action.add_argument("--timeout", type=_seconds, default=60, metavar="S", help="seconds for a cell (%(default)s)")
    add_json_option(action, "JSON instead of the table")
    action.set_defaults(run=run)


def _seconds(text):
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of seconds above 0, received {text!r}")
    return int(text)


def run(args):
    found = report(args.notebooks, args.timeout, progress=lambda items: tqdm(items, disable=None))
    for row in found["students"]:
        for note in row["notes"]:
            print(f"agl-ref: {note}", file=sys.stderr)
    print(json.dumps(found) if args.json else table(found), end="\n" if args.json else "")
    return 0
