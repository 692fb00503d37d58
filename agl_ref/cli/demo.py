"""The command `agl-ref demo`: the same small network trained with a fixed and with the adaptive width."""

import dataclasses
import json
import shutil
import sys
import time

from agl_ref import data
from agl_ref.train import plots
from agl_ref.train.config import TrainConfig
from agl_ref.train.trainer import Trainer

from .shared import FAILED, add_json_option, folder_option, table

DEMO = {"channels": (16, 32, 128), "T": 4, "encoding": "direct", "epochs": 7, "batch": 50, "lr": 0.1}
DEMO_GOAL = 0.82  # test accuracy that the adaptive width must reach


def add_options(parser):
    """Add the options of `demo`."""
    parser.description = (
        "Train the same small conv SNN twice on the bundled images, with a fixed width (kappa = 1) and with the adaptive "
        "width, print a table and save a figure."
    )
    parser.add_argument("--out", default="runs/demo", help="folder for both runs and the figure (%(default)s); a demo that "
                        "is there already is replaced")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of both runs (%(default)s)")
    add_json_option(parser, "the results as JSON instead of the table")
    parser.set_defaults(run=run)


def _remove_demo(folder, config):
    """Remove the run of an earlier demo; refuse to remove anything else."""
    path = folder / "config.json"
    if not path.exists():
        return
    try:
        earlier = TrainConfig.from_json(path.read_text(encoding="utf-8"), str(path))
    except ValueError:
        earlier = None
    if earlier is None or dataclasses.replace(earlier, seed=config.seed) != config:
        raise ValueError(f"{folder}: expected nothing or an earlier demo, received another run; choose another --out")
    shutil.rmtree(folder)


def run(args):
    started = time.monotonic()
    out, dataset = folder_option("--out", args.out), data.load("bundled")
    runs, rows, seconds = {}, {}, {}
    configs = {label: TrainConfig(width=label, seed=args.seed, **DEMO) for label in ("fixed", "adaptive")}
    for label, config in configs.items():
        _remove_demo(out / label, config)
    for label, config in configs.items():
        trainer = Trainer(config, out / label, dataset)
        begun = time.monotonic()
        trainer.fit(progress=not args.json)
        seconds[label] = round(time.monotonic() - begun, 1)
        runs[label], rows[label] = trainer.evaluate(), trainer.metrics()
        trace = trainer.trace()  # the last one's, the adaptive width's
    windows = {label: {n: s["width"] for n, s in run["layers"].items()} for label, run in runs.items()}
    title = f"Membrane potentials with the adaptive width, bundled Fashion-MNIST subset, seed {args.seed}"
    figure = plots.save(plots.run_figure(trace, windows, rows, title), out / "demo.png")
    accuracy = {label: run["test_accuracy"] for label, run in runs.items()}
    difference = round(accuracy["adaptive"] - accuracy["fixed"], 6)
    winner = "adaptive" if difference > 0 else "fixed" if difference < 0 else "neither"
    reached = accuracy["adaptive"] >= DEMO_GOAL
    if args.json:
        report = {label: {**run, "training_seconds": seconds[label]} for label, run in runs.items()}
        print(json.dumps({**report, "winner": winner, "figure": str(figure), "goal_reached": reached}))
    else:
        print(f"\n{table(runs)}\n")
        if winner == "neither":
            print("Both widths reach the same test accuracy on this seed.")
        else:
            print(f"On this seed the {winner} width wins by {abs(100 * difference):.1f} points of {len(dataset.x_test)} "
                  "test images; one seed and a shallow network prove nothing either way.")  # fmt: skip
        print(f"Trained in {seconds['fixed']} s (fixed; compiles what is not cached yet) and {seconds['adaptive']} s "
              f"(adaptive), {time.monotonic() - started:.0f} s in all.")  # fmt: skip
        print(f"Figure: {figure}\nRuns:   {out / 'fixed'}, {out / 'adaptive'}")
    if not reached:
        print(f"agl-ref: the adaptive width reached {accuracy['adaptive']:.1%}, expected at least {DEMO_GOAL:.0%}",
              file=sys.stderr)  # fmt: skip
        return FAILED
    return 0
