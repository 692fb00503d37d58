"""The command `agl-ref check`: a dump, or a folder of dumps, against their cases. Needs NumPy alone."""

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from agl_ref import files
from agl_ref.interop.layouts import LAYOUTS
from agl_ref.oracle.cases.vectors import load_case
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.judge.dump import load_dump
from agl_ref.oracle.judge.page import page, place
from agl_ref.oracle.judge.submission import text

from .shared import add_dump_options, add_json_option

_SUFFIXES = (".npz", ".safetensors")


def add_options(parser):
    parser.description = (
        "Compare the arrays in DUMP with a golden case: PASS (exit code 0), FAIL (1) or AMBIGUOUS (2). Some of the case's "
        "arrays are enough; the report says what was not checked. DUMP may be a folder of dumps, each named after its case."
    )
    parser.epilog = "Example: agl-ref check dump.npz --case lif-grid --html report.html"
    add_dump_options(parser, ' (default: the name of DUMP, or what the dump holds as "case")')
    parser.add_argument("--layout", default="TN..C", choices=LAYOUTS, help="of the dump (%(default)s)")
    parser.add_argument("--force", default=(), metavar="s,u,width", help="replay the reference's backward pass "
                        "from the dump's own forward values, so that the backward pass is judged on its own")  # fmt: skip
    parser.add_argument("--every", action="store_true", help="name every wrong array, however many there are")
    add_json_option(parser, "the report as JSON")
    parser.add_argument("--junit", metavar="FILE", help="also write the report as JUnit XML")
    parser.add_argument("--html", metavar="FILE", help="also write the report as one page that any browser opens")


def run(args):
    junit, html = (None if name is None else Path(name) for name in (args.junit, args.html))
    for path in (junit, html):
        if path is not None and path.is_file():
            path.unlink()  # of an earlier check, which says nothing about this one
    reports = [(path.absolute().name, _judged(path, args)) for path in _dumps(Path(args.dump), args.case)]
    worst = max(
        (report for _, report in reports), key=lambda report: ("PASS", "AMBIGUOUS", "FAIL").index(report.verdict)
    )
    one = reports[0][1] if len(reports) == 1 else None
    if junit is not None:
        suites = "".join(report.to_junit() for _, report in reports)
        files.write_atomically(junit, (suites if one else f"<testsuites>{suites}</testsuites>").encode())
    if html is not None:
        files.write_atomically(html, page(reports).encode(errors="replace"))
    if args.json:
        several = {"verdict": worst.verdict, "reports": {name: report.to_dict() for name, report in reports}}
        print(json.dumps(one.to_dict() if one else several))
    else:
        colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR")
        print(one.text(colour, args.every) if one else _overview(reports))
    return worst.exit_code


def _judged(path, args):
    """The report on one dump, which is let go of unless a page needs its arrays: of a folder one dump is held at a time."""
    id, dump = named(path) if args.case is None else (args.case, load_dump(path))
    report = compare(load_case(id), dump, args.dtype, args.force, args.layout)
    return report if args.html else replace(report, judged={})


def _dumps(path, id):
    """The path of a dump, or of every dump in a folder that is not itself one."""
    if not path.is_dir() or any(path.glob("*.npy")):
        return [path]
    found = [each for each in sorted(path.iterdir()) if each.suffix in _SUFFIXES or each.is_dir()]
    if not found:
        raise ValueError(
            f"{path}: expected dumps, each named after its case, received none; name them like lif-grid.npz"
        )
    if id is not None:
        raise ValueError(
            f"--case: expected one dump of {id}, received the folder {path}; leave --case out, or name a dump"
        )
    return found


def named(path):
    """(the case's id, arrays) of a dump that says which it is."""
    try:
        dump = load_dump(path)
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None
    id = (
        text(dump["case"])
        if "case" in dump
        else path.name.removesuffix(path.suffix if path.suffix in _SUFFIXES else "")
    )
    try:
        load_case(id)
    except ValueError as error:
        raise ValueError(f"{path}: {error}, with --case, or name the dump after it") from None
    return id, dump


def _overview(reports):
    """A line for each report, and how many there are of each verdict."""
    lines = []
    for name, report in reports:
        cause = report.details.get("cause")
        more = [place(report.first_divergence)] if report.first_divergence else []
        lines.append("  ".join([f"{report.verdict:<9}", name, *more, *([f"it looks as if {cause}"] if cause else [])]))
    verdicts = [report.verdict for _, report in reports]
    counts = [
        f"{verdicts.count(verdict)} {verdict}" for verdict in ("PASS", "FAIL", "AMBIGUOUS") if verdict in verdicts
    ]
    return "\n".join([*lines, f"{len(reports)} dumps: {', '.join(counts)}"])
