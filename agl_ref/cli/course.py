"""The commands `agl-ref course` and `agl-ref figures`."""

import json
import sys
from pathlib import Path


def add_parsers(commands):
    """Add `course` and `figures` to the subparsers of `agl-ref`."""
    course = commands.add_parser("course", help="for teachers: the points of submitted notebooks",
                                 description="For teachers of a course with the tutorials.")  # fmt: skip
    actions = course.add_subparsers(dest="action", required=True, metavar="ACTION")
    text = "run submitted notebooks and print each exercise's points as CSV"
    report = actions.add_parser(
        "report",
        help=text,
        description="Run submitted notebooks and print a table of points: CSV with a row per student, a column per exercise, "
        "the total and the maximum. A cell that crashes or takes too long costs its points and nothing else. The "
        "notebooks are programs of others, run as you: for submissions that you do not trust, use a container. "
        "Inputs are seeded by the student's name, so that numbers copied from the tutorial's run earn nothing.",
        epilog="Example: agl-ref course report submitted/* > points.csv",
    )
    report.add_argument("notebooks", metavar="NOTEBOOK", nargs="+",
                        help="a notebook, named like the student, or a student's folder of notebooks")  # fmt: skip
    report.add_argument("--timeout", type=_seconds, default=60, metavar="S", help="seconds for a cell (%(default)s)")
    report.add_argument("--json", action="store_true", help="print JSON instead of the table")
    report.set_defaults(run=_report)

    text = "write the tutorials' figures as PNG and SVG, for slides"
    figures = commands.add_parser("figures", help=text, description=text[0].upper() + text[1:] + ".")
    figures.add_argument("folder", metavar="DIR", help="where to; made if it is not there")
    figures.add_argument("--only", metavar="NAME", action="append", help="this figure; may be given several times")
    figures.add_argument("--json", action="store_true", help="print the files as JSON")
    figures.set_defaults(run=_figures)


def _seconds(text):
    import argparse

    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expected a whole number of seconds above 0, received {text!r}")
    return int(text)


def _report(args):
    from tqdm import tqdm

    from agl_ref.course.grading.report import report, table

    found = report(args.notebooks, args.timeout, progress=lambda items: tqdm(items, disable=None))
    for row in found["students"]:
        for note in row["notes"]:
            print(f"agl-ref: {note}", file=sys.stderr)
    print(json.dumps(found) if args.json else table(found), end="\n" if args.json else "")
    return 0


def _figures(args):
    from agl_ref.course import figures
    from agl_ref.course.figures.registry import style

    names = figures.names()
    if unknown := [name for name in args.only or () if name not in names]:
        raise ValueError(f"--only: expected one of {', '.join(names)}, received {unknown[0]!r}; choose one")
    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in args.only or names:
        drawn = getattr(figures, name)()
        with style():
            for suffix, options in (("png", {}), ("svg", {"metadata": {"Date": None}})):
                path = folder / f"{name}.{suffix}"
                drawn.savefig(path, **options)
                files.append(str(path))
    print(json.dumps(files) if args.json else "\n".join(files))
    return 0
