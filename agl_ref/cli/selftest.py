"""The command `agl-ref selftest`, which tests the golden cases."""

import json
import sys


def add_parsers(commands):
    """Add `selftest` to the subparsers of `agl-ref`."""
    selftest = commands.add_parser(
        "selftest",
        help="check that correct implementations pass the golden cases, and that wrong ones do not",
        description="Run a second implementation, in several orders of summation, on every golden case: all must pass. With "
        "--mutants also plausible bugs and other conventions: each must be killed by a case, and identify must name the "
        "convention.",
    )
    selftest.add_argument("--mutants", action="store_true", help="also try the zoo of wrong implementations")
    selftest.add_argument("--markdown", nargs="?", const="full", choices=("full", "brief"), help="print the zoo's table as "
                          "Markdown: a row each, or a row for each set of cases")  # fmt: skip
    selftest.add_argument("--json", action="store_true", help="print the result as JSON")
    selftest.set_defaults(run=_selftest)


def _selftest(args):
    from agl_ref.oracle.mutants.selftest import selftest

    result = selftest(args.mutants, progress=None if args.json or args.markdown else _progress)
    if args.json:
        print(json.dumps(result.to_json()))
    else:
        print(result.markdown(args.markdown == "brief") if args.markdown else result.text())
    return 0 if result.good else 1


def _progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
