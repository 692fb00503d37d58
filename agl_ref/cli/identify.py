"""The command `agl-ref identify`, which names the rule that an implementation follows instead."""

import json

from agl_ref.oracle.judge.dump import LAYOUTS


def add_parsers(commands):
    """Add `identify` to the subparsers of `agl-ref`."""
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


def _identify(args):
    from agl_ref.oracle.cases.vectors import load_case
    from agl_ref.oracle.identify import identify_case
    from agl_ref.oracle.judge.dump import load_dump

    load_case(args.case)  # refuses a file that is not the published one
    found = identify_case(args.case, load_dump(args.dump), args.dtype, args.seconds, args.layout)
    print(json.dumps(found.to_json()) if args.json else found)
    return 0 if found.base in found.matches and found.surrogate == found.own_surrogate else 1
