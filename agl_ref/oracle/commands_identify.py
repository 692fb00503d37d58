"""The commands `agl-ref identify`, which names the wrong rule, and `agl-ref selftest`, which tests the golden cases."""

import json
import sys

from .dump import LAYOUTS


def add_parsers(commands):
    """Add `identify` and `selftest` to the subparsers of `agl-ref`."""
    identify = commands.add_parser(
        "identify",
        help="name the convention, or the known bug, that an implementation's arrays show",
        description="Run the reference under every combination of conventions and say which reproduce DUMP and which cases "
        "would tell those apart. Exit code 0 if the case's own conventions do, 1 if others, a known bug or nothing does.",
        epilog="Example: agl-ref identify dump.npz --case lif-realistic",
    )
    identify.add_argument("dump", metavar="DUMP", help="a folder of NAME.npy, an .npz or a .safetensors file")
    identify.add_argument("--case", required=True, metavar="ID", help="the case that was run")
    identify.add_argument("--dtype", help="what the implementation computes in (default: the dtype of the arrays)")
    identify.add_argument("--layout", choices=LAYOUTS, help="of the dump (default: the axis order is one of the conventions "
                          "that are looked for)")  # fmt: skip
    identify.add_argument("--seconds", type=float, default=60.0, help="for the search (%(default)s)")
    identify.add_argument("--json", action="store_true", help="print the result as JSON")
    identify.set_defaults(run=_identify)

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


def _identify(args):
    from .dump import load_dump
    from .identify import identify_case
    from .vectors import load_case

    load_case(args.case)  # refuses a file that is not the published one
    found = identify_case(args.case, load_dump(args.dump), args.dtype, args.seconds, args.layout)
    print(json.dumps(found.to_json()) if args.json else found)
    return 0 if found.base in found.matches and found.surrogate == found.own_surrogate else 1


def _selftest(args):
    from .selftest import selftest

    result = selftest(args.mutants, progress=None if args.json or args.markdown else _progress)
    if args.json:
        print(json.dumps(result.to_json()))
    else:
        print(result.markdown(args.markdown == "brief") if args.markdown else result.text())
    return 0 if result.good else 1


def _progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
