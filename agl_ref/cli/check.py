"""The command `agl-ref check`: a dump against a case."""

import json
import sys
from pathlib import Path

from agl_ref.oracle.judge.dump import LAYOUTS


def add_parsers(commands):
    """Add `check` to the subparsers of `agl-ref`."""
    check = commands.add_parser(
        "check",
        help="judge a dump of an implementation's arrays against a golden case",
        description="Compare the arrays in DUMP with a golden case: PASS (exit code 0), FAIL (1) or AMBIGUOUS (2). Some of "
        "the case's arrays are enough; the report says what was not checked.",
        epilog="Example: agl-ref check dump.npz --case lif-hard-attached",
    )
    check.add_argument("dump", metavar="DUMP", help="a folder of NAME.npy, an .npz or a .safetensors file")
    check.add_argument(
        "--case", required=True, metavar="ID", help="the case that was run; agl-ref vectors list names them"
    )
    check.add_argument("--dtype", help="what the implementation computes in: float32, float64, bfloat16, tf32 or float16 "
                       "(default: the dtype of the arrays)")  # fmt: skip
    check.add_argument("--layout", default="TN..C", choices=LAYOUTS, help="of the dump (%(default)s)")
    check.add_argument("--force", metavar="s,u,width", help="replay the reference's backward pass "
                       "from the dump's own forward values, so that the backward pass is judged on its own")  # fmt: skip
    check.add_argument("--json", action="store_true", help="print the report as JSON")
    check.add_argument("--junit", metavar="FILE", help="also write the report as JUnit XML")
    check.set_defaults(run=_check)


def _check(args):
    from agl_ref.oracle.cases.vectors import load_case
    from agl_ref.oracle.judge.compare import compare
    from agl_ref.oracle.judge.dump import load_dump

    force = () if args.force is None else args.force
    report = compare(load_case(args.case), load_dump(args.dump), args.dtype, force, args.layout)
    if args.junit is not None:
        Path(args.junit).write_text(report.to_junit(), encoding="utf-8")
    if args.json:
        print(json.dumps(report.to_dict()))
    else:
        print(report.text(colour=sys.stdout.isatty()))
    return report.exit_code
