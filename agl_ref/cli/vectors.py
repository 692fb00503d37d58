"""The command `agl-ref vectors`: list, show, export, verify and certify the golden cases."""

import json
import textwrap

from agl_ref import validate
from agl_ref.oracle.cases.export import DTYPES, FORMATS, export
from agl_ref.oracle.cases.registry import notes
from agl_ref.oracle.cases.vectors import cases, conventions_of, entry_of, load_case, manifest, written_out
from agl_ref.oracle.types import unit_roundoff

from .shared import add_json_option

_SCALARS = ("T", "v_th", "decay", "alpha", "eps", "training", "stride", "padding", "loss", "target", "lam",
            "surrogate")  # fmt: skip


def add_options(parser):
    """Add the actions of `vectors` and their options."""
    parser.description = "The golden cases that an implementation is judged by."
    parser.epilog = "Example: agl-ref vectors export lif-hard-attached --format raw --out cases"
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_list(actions)
    _add_export(actions)
    for name, run, text in (
        ("show", _show, "one case: why it exists, its inputs, arrays, conventions and coverage"),
        ("verify", _verify, "compute cases anew and compare them with the stored files; all of them by default"),
        ("certify", _certify, "the smallest margins of cases and the dtypes they hold for; all of them by default"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("ids", metavar="ID", nargs=1 if name == "show" else "*")
        add_json_option(action, "JSON")
        action.set_defaults(run=run)


def _add_list(actions):
    text = "ids and comments of the cases"
    listing = actions.add_parser("list", help=text, description=text)
    listing.add_argument("--op", help="lif, plif, surrogate, width, tdbn, conv2d, linear, ..., network")
    listing.add_argument("--flags", default="", help="only cases with all of these flags, separated by commas")
    listing.add_argument("--dtype", help="only cases that judge an implementation in this dtype")
    listing.add_argument("--tier", type=int, choices=(1, 2, 3), help="1 exact, 2 exact forward, 3 realistic")
    listing.add_argument("--convention", action="append", default=[], metavar="FIELD=VALUE",
                         help="only cases with this convention, e.g. spike_test='>='; may be repeated")  # fmt: skip
    listing.add_argument("--sizes", action="store_true",
                         help="the cases by size instead, and which faults beyond a size they kill")  # fmt: skip
    add_json_option(listing, "JSON")
    listing.set_defaults(run=_list)


def _add_export(actions):
    text = "write cases in another format, layout or dtype"
    export = actions.add_parser("export", help=text, description=text)
    export.add_argument("ids", metavar="ID", nargs="+")
    export.add_argument("--format", default="npz", choices=FORMATS, help="(default %(default)s)")
    export.add_argument("--dtype", default="float32", choices=DTYPES, help="(default %(default)s)")
    export.add_argument("--time", default="TN", choices=("TN", "NT"), help="first axes (default %(default)s)")
    export.add_argument("--channels", default="last", choices=("last", "first"), help="(default %(default)s)")
    export.add_argument("--out", default=".", metavar="FOLDER", help="(default: the current folder)")
    export.set_defaults(run=_export)


def _sizes(as_json):
    """The ops and axes of the cases by size, and how many cases, the stored ones too, kill each fault beyond a size."""
    from agl_ref.oracle.cases.sizes import AXES, SIZES, by_size  # not above: the other actions need only the files
    from agl_ref.oracle.mutants import truncations  # as above

    if as_json:
        print(json.dumps([{"id": id, "op": case.op, "tier": case.tier} for id, case in by_size().items()]))
        return 0
    print(f"{len(by_size())} cases size-OP-AXIS-N, computed when they are asked for; N is {', '.join(map(str, SIZES))}")
    for op, axis in AXES:
        name = f"size-{op}-{axis}-N".replace("_", "-")
        print(f"  {name:36} tier {by_size()[name[:-1] + str(SIZES[0])].tier}")
    groups = {}
    for fault, counts in truncations.stored().items():
        op, array, what = fault.split()
        groups.setdefault((op, what, tuple(counts)), []).append(array)
    print("\nSo many cases, stored ones included, kill a kernel that leaves out what lies beyond a size:")
    print(f"  {'':58}" + "".join(f"{size:5}" for size in truncations.SIZES))
    for (op, what, counts), arrays in groups.items():
        print(f"  {op:15} {what:9} {', '.join(arrays):32}" + "".join(f"{count or '-':>5}" for count in counts))
    print("terms: of every sum behind the array (a convolution's: channels at each place of its kernel)")
    print("neurons: all axes but time, counted through; rows: all but channels")
    return 0


def _list(args):
    if args.sizes:
        return _sizes(args.json)
    flags = [flag for flag in args.flags.split(",") if flag]
    unknown = sorted(set(flags) - set(notes()["flags"]))
    if unknown:
        raise ValueError(f"--flags: expected {', '.join(notes()['flags'])}, received {unknown[0]!r}; choose one")
    ops = sorted({entry["meta"]["op"] for entry in manifest()["cases"]})
    if args.op not in (None, *ops):
        raise ValueError(f"--op: expected one of {', '.join(ops)}, received {args.op!r}; choose one")
    if args.dtype is not None:
        unit_roundoff(args.dtype)
    chosen = cases(args.op, flags, args.dtype, args.tier, conventions=dict(map(_convention, args.convention)))
    metas = {id: entry_of(id)["meta"] for id in chosen}
    if args.json:
        keys = ("op", "tier", "flags", "dtypes", "comment")
        print(json.dumps([{"id": id, **{key: meta[key] for key in keys}} for id, meta in metas.items()]))
        return 0
    for id, meta in metas.items():
        print(f"{id:28} {meta['op']:16} tier {meta['tier']}  {meta['comment']}")
    return 0


def _convention(text):
    field, sign, value = text.partition("=")
    if not sign:
        raise ValueError(f"--convention: expected FIELD=VALUE, received {text!r}; for example reset=hard")
    return field, value


def _show(args):
    stored = entry_of(args.ids[0])
    entry = {**stored, "conventions": conventions_of(stored)}
    flags = {flag: notes()["flags"][flag] for flag in entry["meta"]["flags"]}
    if args.json:
        print(json.dumps({**entry, "notes": flags}))
        return 0
    meta = entry["meta"]
    print(f"{entry['id']}   {meta['op']}, tier {meta['tier']}, for {', '.join(meta['dtypes'])}")
    print(textwrap.fill(meta["comment"], 100))
    for flag, note in flags.items():
        print(textwrap.fill(f"  {flag} ({note['bug']}): {note['effect']}", 100, subsequent_indent="    "))
    rows = {"conventions": ", ".join(f"{key} {value}" for key, value in entry["conventions"].items())}
    facts = written_out(meta, entry["arrays"]["inputs"])
    scalars = {key: facts[key] for key in _SCALARS if key in facts}
    rows["scalars"] = ", ".join(f"{key} {value}" for key, value in scalars.items())
    print("\n".join(_row(*row) for row in rows.items()))
    for layer in meta.get("layers", ()):
        print("layer:       " + _layer(layer))
    for part in ("inputs", "arrays"):
        named = ", ".join(f"{name} {tuple(facts['shape'])}" for name, facts in entry["arrays"][part].items())
        print(_row(part, named))
    for layer, figures in meta["coverage"].items():
        print(_row(f"coverage{' of ' + layer if layer else ''}", ", ".join(_figure(*item) for item in figures.items())))
    return 0


def _row(title, text):
    return textwrap.fill(f"{title + ':':12} {text}", 100, subsequent_indent=" " * 13, break_long_words=False)


def _layer(layer):
    """A line on a layer: its kind, name and settings; the blocks of a residual one in brackets."""
    parts = [layer["kind"], layer.get("name", "")]
    for key, value in layer.items():
        if isinstance(value, list):
            parts.append(f"{key} [{'; '.join(_layer(inner) for inner in value)}]")
        elif isinstance(value, dict):
            parts.append(
                f"{key} ({_layer(value) if 'kind' in value else ', '.join(f'{k} {v}' for k, v in value.items())})"
            )
        elif key not in ("kind", "name") and value is not None:
            parts.append(f"{key} {value}")
    return ", ".join(part for part in parts if part)


def _figure(name, value):
    return f"{name.replace('_', ' ')} {value:.3g}" if isinstance(value, float) else f"{name.replace('_', ' ')} {value}"


def _export(args):
    folder = validate.path("--out", args.out)
    for id in args.ids:
        print(export(id, folder, args.format, args.dtype, args.time, args.channels))
    return 0


def _verify(args):
    from agl_ref.oracle.cases.generate import verify  # not above: the other actions need no engine

    found = {id: verify(id) for id in args.ids or cases()}
    bad = {id: problems for id, problems in found.items() if problems}
    if args.json:
        print(json.dumps({"checked": len(found), "different": bad}))
    else:
        for id, problems in bad.items():
            print(f"{id}: {'; '.join(problems)}")
        print(f"{len(found) - len(bad)} of {len(found)} cases are as stored")
    return 1 if bad else 0


def _certify(args):
    found = {}
    for id in args.ids or cases():
        reference = load_case(id)  # checks every hash
        found[id] = {**reference.meta["certificate"], "dtypes": reference.meta["dtypes"]}
    if args.json:
        print(json.dumps(found))
        return 0
    for id, facts in found.items():
        print(f"{id:28} {_margin(facts['spike'])} {_margin(facts['window'])} {', '.join(facts['dtypes'])}")
    return 0


def _margin(margin):
    """The unit roundoff at which a spike or a window could flip, the distance from the boundary, and where."""
    if margin["margin"] is None:
        return f"{'nothing can flip':52}"
    where = f"{margin['name']}[{','.join(map(str, margin['index']))}]"
    return f"flips at u = {margin['margin']:.1e}, {margin['distance']:.1e} off, {where:22}"
