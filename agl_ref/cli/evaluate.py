"""The command `agl-ref eval`, and how the evaluation of a run is printed."""

import json
from pathlib import Path


def add_parsers(commands):
    """Add `eval` to the subparsers of `agl-ref`."""
    evaluate = commands.add_parser(
        "eval",
        help="test accuracy and layer statistics of a trained run",
        description="Evaluate the last checkpoint of a run folder on the test images.",
    )
    evaluate.add_argument("folder", metavar="RUN", help="a run folder written by agl-ref train")
    evaluate.add_argument("--data", metavar="DATA", help="where the run's data lies now, if it moved")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the table")
    evaluate.set_defaults(run=_eval)


def table(runs):
    """Text table of runs {label: evaluation}: accuracy, then coverage and firing rate per layer and timestep."""
    label_width = max(8, *(len(label) for label in runs))
    lines = [f"{'width':<{label_width}}  test accuracy"]
    lines += [f"{label:<{label_width}}  {100 * run['test_accuracy']:.1f} %" for label, run in runs.items()]
    for key, title in (("coverage", "window coverage (%)"), ("firing_rate", "firing rate (%)")):
        T = len(next(iter(next(iter(runs.values()))["layers"].values()))[key])
        lines += ["", f"{title:<24}" + "".join(f"{f't = {t + 1}':>8}" for t in range(T))]
        for layer in next(iter(runs.values()))["layers"]:
            for label, run in runs.items():
                values = "".join(f"{100 * value:8.1f}" for value in run["layers"][layer][key])
                lines.append(f"{f'{layer}  {label}':<24}{values}")
    return "\n".join(lines)


def report(trainer, evaluation, as_json):
    """Print the evaluation of a run, as JSON or as a table."""
    if as_json:
        print(json.dumps({"run": str(trainer.folder), "epoch": trainer.epoch, **evaluation}))
    else:
        print(f"{table({trainer.config.width: evaluation})}\n\nRun: {trainer.folder}, {trainer.epoch} epochs")


def _eval(args):
    from agl_ref.train.trainer import open_run

    path = Path(args.folder) / "checkpoints" / "last.npz"
    if (Path(args.folder) / "config.json").is_file() and not path.is_file():
        raise ValueError(
            f"{path}: expected a checkpoint, received none; train first: agl-ref train --resume {args.folder}"
        )
    trainer = open_run(args.folder, start="read", data_path=args.data)
    trainer.load_checkpoint(path)
    report(trainer, trainer.evaluate(), args.json)
    return 0
