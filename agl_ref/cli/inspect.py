"""The command `agl-ref inspect`."""

import json
import warnings

import numpy as np

from agl_ref import data, files, train, validate
from agl_ref.train import memory
from agl_ref.train.config import require_batches

from .shared import FAILED, add_json_option
from .train import add_train_options, given_options


def add_options(parser):
    parser.description = (
        "Say what a data file or folder holds (shapes, classes, counts, values), and what agl-ref train would do with it "
        "under these options: split, input, steps, memory. Trains nothing. Exit code 1 if train would refuse it."
    )
    parser.epilog = "Example: agl-ref inspect images.npz --network vgg_snn --T 10"
    parser.add_argument("data", metavar="PATH", help="what train takes as --data")
    add_train_options(parser, without=("data",))
    add_json_option(parser)


def run(args):
    given = given_options(args)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        config = train.TrainConfig(**given)
        dataset = data.load(config.data)
        report = {"path": args.data, **_described(config.data, dataset), "warnings": [str(w.message) for w in caught]}
    try:
        report["train"] = _training(config, dataset)
    except (ValueError, TypeError) as error:
        report["train"] = {"refused": " ".join(str(error).split())}
    print(json.dumps(report) if args.json else _text(report))
    return FAILED if "refused" in report["train"] else 0


def _described(path, dataset):
    """What the data set is, before anything is done with it."""
    recorded = isinstance(dataset, data.EventDataset)
    parts = {"training": (dataset.x_train, dataset.y_train), "test": (dataset.x_test, dataset.y_test)}
    found = {
        "name": dataset.name,
        "kind": "recordings of events" if recorded else "images",
        "shape": list(dataset.image_shape),
        "dtype": "counts" if recorded else str(dataset.x_train.dtype),
        "num_classes": dataset.num_classes,
        "class_names": dataset.class_names and list(dataset.class_names),
        "split": _split(path),
    }
    for part, (x, y) in parts.items():
        counts = np.bincount(y, minlength=dataset.num_classes)
        values = dict(zip(("events", "duration"), x.sizes(), strict=True)) if recorded else {"values": x}
        found[part] = {
            "count": len(y),
            "classes": counts.tolist(),
            "missing_classes": np.flatnonzero(counts == 0).tolist(),
            **{name: {key: float(getattr(v, key)()) for key in ("min", "max", "mean")} for name, v in values.items()},
        }
    return found


def _split(path):
    """Who decided which images are for testing."""
    names = set()
    if validate.path("data", path).suffix.lower() == ".npz":
        files.read_npz(path, choose=lambda found: names.update(found) or ())
    return "the data's own" if names.intersection(("x_test", "y_test")) or not names else "every sixth of each class"


def _training(config, dataset):
    """What `train` would do. Raises what it would raise before its first step."""
    trainer = train.Trainer(config, ".", dataset, start="read")  # reads and writes nothing there
    steps = -(-len(dataset.x_train) // config.batch)
    memory.require(config, trainer.net, dataset)
    require_batches(config, trainer.net, dataset)
    x = trainer.encode(trainer.dataset.x_train[: config.batch], np.random.default_rng([config.seed, 0, 0, 1]))
    return {
        "network": config.network,
        "parameters": sum(p.size for p in trainer.net.parameters().values()),
        "encoding": "frames of events" if isinstance(dataset, data.EventDataset) else config.encoding,
        "input": list(x.shape),
        "input_values": {"min": float(x.min()), "max": float(x.max()), "not_zero": float(np.count_nonzero(x) / x.size)},
        "steps_per_epoch": steps,
        "steps": steps * config.epochs,
        "memory_bytes": memory.PROCESS
        + sum(size for size, _ in memory.estimate(config, trainer.net, dataset).values()),
    }


def _text(report):
    height, width, channels = report["shape"]
    lines = [
        f"{report['path']}: {report['kind']}, {height} x {width} pixels, {channels} channels, {report['dtype']}; "
        f"{report['num_classes']} classes"
    ]
    for part in ("training", "test"):
        found = report[part]
        ranges = [
            f"{name} {found[name]['min']:g} to {found[name]['max']:g}, on average {found[name]['mean']:.4g}"
            for name in ("values", "events", "duration")
            if name in found
        ]
        lines.append(f"  {part:<9} {found['count']}; {'; '.join(ranges)}")
        counts = found["classes"]
        each = f"{min(counts)} to {max(counts)} of each class" if len(counts) > 10 else " ".join(map(str, counts))
        lines.append(f"            by class: {each}")
    lines += [f"  split     {report['split']}", *(f"  warning   {text}" for text in report["warnings"])]
    planned = report["train"]
    if "refused" in planned:
        return "\n".join([*lines, f"train would refuse it: {planned['refused']}"])
    values = planned["input_values"]
    return "\n".join([
        *lines,
        f"train with {planned['network']}, {planned['parameters']:,} parameters",
        f"  input     {tuple(planned['input'])}, {planned['encoding']}; values {values['min']:.4g} to {values['max']:.4g}, "
        f"{values['not_zero']:.1%} not zero",
        f"  steps     {planned['steps_per_epoch']} each epoch, {planned['steps']} in all",
        f"  memory    about {planned['memory_bytes'] / 2**30:,.2f} GiB of this machine's {memory.machine() / 2**30:,.1f}",
    ])  # fmt: skip
