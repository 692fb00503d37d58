"""The command `agl-ref selftest`, which tests the golden cases."""

import json
import sys

from agl_ref.oracle.mutants.selftest import selftest

from .shared import add_json_option


def add_options(parser):
    parser.description = (
        "Run agl_ref/reference.py on every golden case, then again with other orders of summation: all must pass. Where it "
        "fails, the first wrong array and its equations in METHOD.md are named. With --mutants also wrong rules and other "
        "conventions: each must be killed by a case, and identify must name the convention."
    )
    parser.add_argument("--mutants", action="store_true", help="also try the mutants, which are wrong")
    parser.add_argument("--markdown", nargs="?", const="full", choices=("full", "brief"), help="print the table of "
                        "mutants as Markdown: a row each, or a row for each set of cases")  # fmt: skip
    add_json_option(parser)


def run(args):
    result = selftest(args.mutants, progress=None if args.json or args.markdown else _progress)
    if args.json:
        print(json.dumps(result.to_json()))
    else:
        print(result.markdown(args.markdown == "brief") if args.markdown else result.text())
    return 0 if result.good else 1


def _progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
