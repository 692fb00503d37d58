"""The command `agl-ref explain`: the numbers of one neuron, each with its equation filled in."""

import json
from pathlib import Path

import numpy as np

from agl_ref import files, validate
from agl_ref.engine.loss import of_network as loss_of_network
from agl_ref.interop.layouts import LAYOUTS
from agl_ref.oracle.bounds.reference import collect
from agl_ref.oracle.cases.vectors import load_case
from agl_ref.oracle.equations import EQUATION_NAMES, equations_of
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.judge.dump import load_dump
from agl_ref.oracle.judge.explain import as_html, as_text, over_time, passes, telling
from agl_ref.oracle.judge.markup import document
from agl_ref.oracle.judge.neuron import Neuron, Unit, pair_of
from agl_ref.oracle.judge.page import divergences, formulas, head
from agl_ref.train.trainer import open_run

from .check import named
from .shared import add_json_option

OF_RUN, OF_DUMP = ("layer", "neuron", "image", "data"), ("case", "dtype", "layout")


def add_options(parser):
    parser.description = (
        "Show every number of one neuron over time, forward and backward, with its equation of METHOD.md filled in. Of a RUN "
        "it is a neuron of the trained network on a test image, with running statistics; of a DUMP that fails its case, "
        "that of the first divergence, expected beside received, and the exit code is that of check."
    )
    parser.epilog = "Example: agl-ref explain runs/demo/adaptive --html neuron.html"
    parser.add_argument("what", metavar="RUN|DUMP", help="a run folder of agl-ref train, or a dump")
    parser.add_argument("--layer", metavar="NAME", help="of a run (default: where a neuron has most to show)")
    parser.add_argument("--neuron", metavar="H,W,C", help="indices in the layer, from 0; F where it has no places "
                        "(default: one that fires and lies in the window)")  # fmt: skip
    parser.add_argument("--image", type=int, metavar="I", help="which test image of the run's data (default: 0)")
    parser.add_argument("--data", metavar="DATA", help="where the run's data lies now, if it moved")
    parser.add_argument(
        "--case", metavar="ID", help="the case that was run for a dump; agl-ref vectors list names them"
    )
    parser.add_argument("--dtype", help="what a dump was computed in (default: the dtype of its arrays)")
    parser.add_argument("--layout", choices=LAYOUTS, help="of a dump (default: TN..C)")
    add_json_option(parser, "the numbers as JSON")
    parser.add_argument("--html", metavar="FILE", help="also write one page that any browser opens")


def run(args):
    html, of_run = None if args.html is None else Path(args.html), (Path(args.what) / "config.json").is_file()
    if html is not None and html.is_file():
        html.unlink()  # of an earlier call
    for option in OF_DUMP if of_run else OF_RUN:
        if getattr(args, option) is not None:
            kind = "run" if of_run else "dump"
            raise ValueError(f"--{option}: expected no such option for a {kind}, received one; leave it out")
    return (_of_run if of_run else _of_dump)(args, html)


def _finish(args, html, text, page, found):
    """Print the text or JSON, and write the page."""
    if html is not None:
        files.write_atomically(html, page.encode(errors="replace"))
    print(json.dumps(found) if args.json else text)


def _numbers(neurons, at=None):
    """The explanation for programs."""
    names = ("expected", "received") if len(neurons) > 1 else ("neuron",)
    lines = []
    for _, steps in passes(neurons, at):
        for diverges, same in steps:
            step, t, number, equation, *_ = same[0]
            row = {"step": step, "t": t, "number": number, "equation": equation, "diverges": diverges}
            each = zip(names, same, strict=True)
            lines.append(row | {name: {"filled": line.filled, "value": float(line.value)} for name, line in each})
    return {"values": {name: over_time(neuron) for name, neuron in zip(names, neurons, strict=True)}, "lines": lines}


# --- a neuron of a trained network ----------------------------------------------------------------------------------------


def _of_run(args, html):
    trainer = open_run(args.what, start="read", data_path=args.data)
    trainer.load_checkpoint(trainer.folder / "checkpoints" / "last.npz")
    net, data, image = trainer.net, trainer.dataset, 0 if args.image is None else args.image
    validate.integer("--image", image, 0, len(data.y_test) - 1)
    x = trainer.encode(data.x_test[image : image + 1], np.random.default_rng([trainer.config.seed, 0, 2]))
    trace = net.forward(x, training=False)
    _, dlogits = loss_of_network(trace.logits, data.y_test[image : image + 1], trainer.loss, net.conventions)
    arrays, blocks = collect(net, trace, dlogits, "given"), dict(net.blocks())
    best = {}
    for name in blocks if args.layer is None else (validate.one_of("--layer", args.layer, blocks),):
        own = {key: arrays[f"{name}.{key}"] for key in ("u", "s", "width", "dx")}
        best[name] = telling(**own, v_th=blocks[name].neuron.v_th, edge=net.conventions.window_edge)
    layer = max(best, key=lambda name: best[name][0])
    shape = arrays[f"{layer}.u"].shape[2:]
    place = best[layer][1][1:] if args.neuron is None else _index(args.neuron, shape)
    block, values = blocks[layer], {}
    for key in ("x", "u", "s", "v", "width", "ds"):
        values[key] = arrays[f"{layer}.{key}"]
        values[key] = values[key] if key == "width" else values[key][(slice(None), 0, *place)]
    norm = block.norm
    gamma, alpha = (None, 1.0) if norm is None else (norm.params["gamma"], norm.alpha)
    decay = block.neuron.decay(net.conventions)
    neuron = Neuron(values, Unit(decay, block.neuron.v_th, gamma, alpha, net.conventions, net.surrogate))
    title = (
        f"{layer}, neuron [{', '.join(map(str, place))}], test image {image} of class {data.y_test[image]}; "
        f"tau = {decay:.6g}, V_th = {block.neuron.v_th:.6g}, epoch {trainer.epoch}"
    )
    about = {"layer": layer, "neuron": list(place), "image": image}
    _finish(args, html, as_text(title, [neuron]), as_html(title, [neuron]), {**about, **_numbers([neuron])})
    return 0


def _index(text, shape):
    """The index that an option gives, inside this shape; ValueError."""
    parts = text.split(",")
    if len(parts) != len(shape) or not all(part.strip().isdecimal() for part in parts):
        raise ValueError(
            f"--neuron: expected {len(shape)} indices with commas between them, received {text!r}; give H,W,C or F"
        )
    index = tuple(map(int, parts))
    if not all(i < size for i, size in zip(index, shape, strict=True)):
        raise ValueError(f"--neuron: expected indices inside {shape}, received {index}; they count from 0")
    return index


# --- the first divergence of a dump ---------------------------------------------------------------------------------------


def _of_dump(args, html):
    path = Path(args.what)
    id, dump = named(path) if args.case is None else (args.case, load_dump(path))
    report = compare(load_case(id), dump, args.dtype, layout=args.layout or "TN..C")
    at, before = report.details.get("first_failure") or report.first_divergence, [head(path.absolute().name, report)]
    seen = report.judged[at["name"]] if at else None
    pair = pair_of(seen.reference, report.received(), at["name"], at["index"]) if at else None
    if pair is None:
        numbers = equations_of(seen.reference, at["name"]) if at else ()
        lines = [f"  {number:<8}{EQUATION_NAMES[number]:<44}{formulas()[number]}" for number in numbers]
        page = document(report.verdict, *before, *divergences(report))
        _finish(args, html, "\n".join([report.text(), *lines]), page, {"report": report.to_dict()})
    else:
        neurons, where = pair[:2], (pair.key, at["index"][0])
        page = as_html(f"{report.verdict}: {path.absolute().name}", neurons, where, [*before, *divergences(report)])
        _finish(args, html, as_text(report.text(), neurons, where), page,
                {"report": report.to_dict(), **_numbers(neurons, where)})  # fmt: skip
    return report.exit_code
