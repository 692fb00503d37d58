"""The command `agl-ref`: demo, train, eval, and the oracle's commands (`agl_ref.oracle.commands`).

Exit codes: 0 good, 1 a checked thing failed, 2 ambiguous (oracle only), 3 bad input with one line on stderr,
130 stopped by Ctrl-C.
"""

import argparse
import dataclasses
import json
import os
import shutil
import sys
import time
import warnings
from pathlib import Path

from . import __version__

FAILED, BAD_INPUT, STOPPED = 1, 3, 130
DEMO = {"channels": (16, 32, 128), "T": 4, "encoding": "direct", "epochs": 7, "batch": 50, "lr": 0.1}
DEMO_GOAL = 0.82  # test accuracy that the adaptive width must reach


class _Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are one line and exit code 3."""

    def error(self, message):
        print(f"agl-ref: {message}; see {self.prog} --help", file=sys.stderr)
        raise SystemExit(BAD_INPUT)


def _channels(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas such as 16,32,64, received {text!r}") from None


def _width(text):
    """ "adaptive" or another rule, or a number for a fixed kappa."""
    try:
        return {"width": "fixed", "fixed_width": float(text)}
    except ValueError:
        return {"width": text}


TRAIN_OPTIONS = (
    # option, type, help
    ("data", str, "'bundled' (6,000 Fashion-MNIST images that come with the package), 'fashion-mnist' (all 70,000, found "
     "where Debian's dataset-fashion-mnist puts them), or a path: a folder of MNIST/Fashion-MNIST IDX files, a folder "
     "of CIFAR-10 batches, N-MNIST's folder with Train and Test, or an .npz with x and y"),
    ("network", str, "conv_snn (small), vgg_snn or sew_resnet19 (the paper's; slow at full width, see --channels)"),
    ("channels", _channels, "channel counts with commas, e.g. 16,32,64 for conv_snn, four for vgg_snn, three for "
     "sew_resnet19; the network's own by default"),
    ("neuron", str, "lif, or plif with a learned leak factor"),
    ("decay", float, "leak factor tau in [0, 1); where plif starts"),
    ("v_th", float, "threshold"),
    ("width", _width, "width of the surrogate's window: adaptive, geometric, first, later, exact (from the law with the "
     "reset), empirical (measured on each batch), fixed (kappa = 1), or a number for that fixed kappa"),
    ("surrogate", str, "rectangular, triangular, sigmoid, arctan or gaussian"),
    ("T", int, "timesteps"),
    ("encoding", str, "direct (the image at every timestep), rate (Bernoulli spikes) or events (simulated change events)"),
    ("augment", str, "of training images: none, or crop-flip (random crop after padding by 4, random horizontal flip)"),
    ("normalise", str, "data (the training images' own mean and deviation) or cifar10 (the constants of the official runs)"),
    ("binning", str, "of event recordings into T frames: time (equal durations) or count (equally many events)"),
    ("epochs", int, "passes over the training images"),
    ("batch", int, "images per step"),
    ("optimiser", str, "sgd or adam"),
    ("lr", float, "learning rate to start with"),
    ("momentum", float, "of sgd"),
    ("weight_decay", float, "weight decay"),
    ("schedule", str, "cosine (to 0 over the run) or constant"),
    ("loss", str, "ce (cross-entropy of the mean logits) or tet (per-timestep cross-entropy with a regulariser)"),
    ("seed", int, "of weights, data order and encodings; the same seed gives the same bits"),
    ("dtype", str, "float32 or float64"),
)  # fmt: skip


def _parser(command="train"):
    """The parser; train's options, whose defaults need SciPy, are left out where `command` is another."""
    parser = _Parser(
        prog="agl-ref",
        description="Surrogate-gradient training of spiking neural networks with MPD-AGL's adaptive width.",
        epilog="Start with: agl-ref demo",
    )
    parser.add_argument("--version", action="version", version=f"agl-ref {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    demo = commands.add_parser(
        "demo",
        help="train a small conv SNN with a fixed and with the adaptive width, and compare (under a minute)",
        description="Train the same small conv SNN twice on the bundled images, with a fixed width (kappa = 1) and with "
        "the adaptive width, print a table and save a figure.",
    )
    demo.add_argument("--out", default="runs/demo", help="folder for both runs and the figure (%(default)s); a demo that "
                      "is there already is replaced")  # fmt: skip
    demo.add_argument("--seed", type=int, default=0, help="of both runs (%(default)s)")
    demo.add_argument("--json", action="store_true", help="print the results as JSON instead of the table")
    demo.set_defaults(run=_demo)

    train = commands.add_parser(
        "train",
        help="train a network on a data set",
        description="Train a network; everything is kept in a run folder: config.json, metrics.jsonl (one row per "
        "epoch), checkpoints/last.npz, figures/. Ctrl-C saves and stops. A crash loses the work since the last "
        "checkpoint, one each epoch and every 30 s. Either way --resume ends with the same bits as a run that was never "
        "stopped.",
        epilog="Example: agl-ref train --data fashion-mnist --neuron plif --T 2 --epochs 10 --out runs/fashion",
    )
    defaults = _defaults() if command == "train" else {}
    for name, kind, text in TRAIN_OPTIONS if defaults else ():
        flag = f"--{name.replace('_', '-')}"
        shown = "the network's own" if defaults[name] is None else defaults[name]
        metavar = "RULE|KAPPA" if name == "width" else ("A,B,..." if name == "channels" else name.upper())
        text = f"{text} (default: {shown})"
        train.add_argument(flag, dest=name, type=kind, metavar=metavar, help=text)
    train.add_argument("--out", metavar="FOLDER", help="run folder (default: runs/NETWORK-WIDTH-seedSEED)")
    train.add_argument("--resume", metavar="RUN", help="go on with the run in this folder; takes its options from there, "
                       "--data alone may be given again if the data moved")  # fmt: skip
    train.add_argument("--json", action="store_true", help="print the final metrics as JSON")
    train.set_defaults(run=_train)

    evaluate = commands.add_parser(
        "eval",
        help="test accuracy and layer statistics of a trained run",
        description="Evaluate the last checkpoint of a run folder on the test images.",
    )
    evaluate.add_argument("folder", metavar="RUN", help="a run folder written by agl-ref train")
    evaluate.add_argument("--data", metavar="DATA", help="where the run's data lies now, if it moved")
    evaluate.add_argument("--json", action="store_true", help="print JSON instead of the table")
    evaluate.set_defaults(run=_eval)

    from ._ablation_command import add_parsers as add_ablation
    from .course.commands import add_parsers as add_course
    from .oracle.commands import add_parsers
    from .oracle.commands_identify import add_parsers as add_identify
    from .oracle.commands_vectors import add_parsers as add_vectors

    add_ablation(commands)
    add_parsers(commands)
    add_identify(commands)
    add_vectors(commands)
    add_course(commands)
    return parser


def _defaults():
    from .train import TrainConfig

    return {field.name: field.default for field in dataclasses.fields(TrainConfig)}


def _table(runs):
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


def _folder(option, name):
    if not name:
        raise ValueError(f"{option}: expected the name of a folder, received an empty one; give a name")
    return Path(name)


def _remove_demo(folder, config):
    """Remove the run of an earlier demo; refuse to remove anything else."""
    path = folder / "config.json"
    if not path.exists():
        return
    from .train import TrainConfig

    try:
        earlier = TrainConfig.from_json(path.read_text(encoding="utf-8"), str(path))
    except ValueError:
        earlier = None
    if earlier is None or dataclasses.replace(earlier, seed=config.seed) != config:
        raise ValueError(f"{folder}: expected nothing or an earlier demo, received another run; choose another --out")
    shutil.rmtree(folder)


def _demo(args):
    from . import data, plots
    from .train import TrainConfig, Trainer

    started = time.monotonic()
    out, dataset = _folder("--out", args.out), data.load("bundled")
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
        print(f"\n{_table(runs)}\n")
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


def _train(args):
    from .train import TrainConfig, Trainer, open_run

    given = {name: getattr(args, name) for name, _, _ in TRAIN_OPTIONS if getattr(args, name) is not None}
    if args.resume is not None:
        surplus = sorted(set(given) - {"data"}) + (["out"] if args.out is not None else [])
        if surplus:
            raise ValueError(
                f"--resume: expected no other option than --data, received {', '.join('--' + s for s in surplus)}; a "
                "resumed run keeps its options, start a new one for others"
            )
        trainer = open_run(_folder("--resume", args.resume), data_path=given.get("data"))
    else:
        given.update(given.pop("width", {}))
        config = TrainConfig(**given)
        width = f"fixed{config.fixed_width:g}" if config.width == "fixed" else config.width
        default = f"runs/{config.network}-{width}-seed{config.seed}"
        trainer = Trainer(config, default if args.out is None else _folder("--out", args.out))
    trainer.fit(progress=not args.json)
    evaluation = trainer.evaluate()
    _save_figure(trainer, evaluation)
    _report(trainer, evaluation, args.json)
    return 0


def _save_figure(trainer, evaluation):
    from . import plots

    label = trainer.config.width
    windows = {label: {name: s["width"] for name, s in evaluation["layers"].items()}}
    figure = plots.run_figure(trainer.trace(), windows, {label: trainer.metrics()}, str(trainer.folder))
    plots.save(figure, trainer.folder / "figures" / "run.png")
    for name, figure in plots.diagnostic_figures(trainer.metrics(), str(trainer.folder)).items():
        plots.save(figure, trainer.folder / "figures" / f"{name}.png")


def _report(trainer, evaluation, as_json):
    if as_json:
        print(json.dumps({"run": str(trainer.folder), "epoch": trainer.epoch, **evaluation}))
    else:
        print(f"{_table({trainer.config.width: evaluation})}\n\nRun: {trainer.folder}, {trainer.epoch} epochs")


def _eval(args):
    from .train import open_run

    path = Path(args.folder) / "checkpoints" / "last.npz"
    if (Path(args.folder) / "config.json").is_file() and not path.is_file():
        raise ValueError(
            f"{path}: expected a checkpoint, received none; train first: agl-ref train --resume {args.folder}"
        )
    trainer = open_run(args.folder, start="read", data_path=args.data)
    trainer.load_checkpoint(path)
    _report(trainer, trainer.evaluate(), args.json)
    return 0


def main(argv=None):
    """Run the command; returns the exit code."""
    argv = sys.argv[1:] if argv is None else argv
    args = _parser(argv[0] if argv else None).parse_args(argv)
    warnings.showwarning = lambda message, *rest, **kw: print(f"agl-ref: warning: {message}", file=sys.stderr)
    try:
        code = args.run(args)
        sys.stdout.flush()
        return code
    except KeyboardInterrupt as stop:  # Interrupted, whose state was saved, is one too
        print(f"agl-ref: {str(stop) or 'stopped, without saving'}", file=sys.stderr)
        return STOPPED
    except BrokenPipeError:  # whoever read the output has gone
        sys.stdout = open(os.devnull, "w")
        return FAILED
    except OSError as error:
        where = error.filename or "a file"
        print(f"agl-ref: {where}: expected a place that can be read and written, received: {error.strerror or error}; "
              "choose another", file=sys.stderr)  # fmt: skip
        return BAD_INPUT
    except (ValueError, TypeError) as error:
        print(f"agl-ref: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except FloatingPointError as error:
        print(f"agl-ref: {error}", file=sys.stderr)
        return FAILED


if __name__ == "__main__":
    raise SystemExit(main())
