"""The command `agl-ref identify`, which names the rule that an implementation follows instead."""

import json

from agl_ref.interop.layouts import LAYOUTS
from agl_ref.oracle.cases.vectors import load_case
from agl_ref.oracle.identify import identify_case
from agl_ref.oracle.judge.dump import load_dump

from .shared import add_dump_options, add_json_option


def add_options(parser):
    parser.description = (
        "Run the reference under every combination of conventions and say which reproduce DUMP and which cases would tell "
        "those apart. Exit code 0 if the case's own conventions do, 1 if others, a known bug or nothing does."
    )
    parser.epilog = "Example: agl-ref identify dump.npz --case lif-realistic"
    add_dump_options(parser)
    parser.add_argument("--layout", choices=LAYOUTS, help="of the dump (default: the axis order is one of the conventions "
                        "that are looked for)")  # fmt: skip
    parser.add_argument("--seconds", type=float, default=60.0, help="for the search (%(default)s)")
    add_json_option(parser)


def run(args):
    load_case(args.case)  # refuses a file that is not the published one
    found = identify_case(args.case, load_dump(args.dump), args.dtype, args.seconds, args.layout)
    print(json.dumps(found.to_json()) if args.json else found)
    return 0 if found.base in found.matches and found.surrogate == found.own_surrogate else 1
