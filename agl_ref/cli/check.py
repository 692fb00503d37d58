"""The command `agl-ref check`: a dump against a case. Needs NumPy alone."""

import json
import os
import sys
from pathlib import Path

from agl_ref import files
from agl_ref.interop.layouts import LAYOUTS
from agl_ref.oracle.cases.vectors import load_case
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.judge.dump import load_dump

from .shared import add_dump_options, add_json_option


def add_options(parser):
    """Add the options of `check`."""
    parser.description = (
        "Compare the arrays in DUMP with a golden case: PASS (exit code 0), FAIL (1) or AMBIGUOUS (2). Some of the case's "
        "arrays are enough; the report says what was not checked."
    )
    parser.epilog = "Example: agl-ref check dump.npz --case lif-hard-attached"
    add_dump_options(parser)
    parser.add_argument("--layout", default="TN..C", choices=LAYOUTS, help="of the dump (%(default)s)")
    parser.add_argument("--force", default=(), metavar="s,u,width", help="replay the reference's backward pass "
                        "from the dump's own forward values, so that the backward pass is judged on its own")  # fmt: skip
    add_json_option(parser, "the report as JSON")
    parser.add_argument("--junit", metavar="FILE", help="also write the report as JUnit XML")
    parser.set_defaults(run=run)


def run(args):
    junit = None if args.junit is None else Path(args.junit)
    if junit is not None and junit.is_file():
        junit.unlink()  # of an earlier check, which says nothing about this one
    report = compare(load_case(args.case), load_dump(args.dump), args.dtype, args.force, args.layout)
    if junit is not None:
        files.write_atomically(junit, report.to_junit().encode())
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print(report.text(colour=sys.stdout.isatty() and not os.environ.get("NO_COLOR")))
    return report.exit_code
