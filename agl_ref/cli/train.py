"""The command `agl-ref train`."""

import argparse
import dataclasses
import os

from agl_ref import validate
from agl_ref.train import plots
from agl_ref.train.config import TrainConfig
from agl_ref.train.trainer import Trainer, open_run

from .shared import add_json_option, print_evaluation, width_option


def _integers(text):
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected numbers with commas such as 16,32,64, received {text!r}") from None


def _weights(text):
    try:
        return text if text == "balanced" else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected 'balanced' or numbers with commas such as 1,1,2.5, received {text!r}"
        ) from None


TRAIN_OPTIONS = (
    # option, type, help
    ("data", str, "'bundled' (6,000 Fashion-MNIST images that come with the package), 'fashion-mnist' (all 70,000, found "
     "where Debian's dataset-fashion-mnist puts them), 'randman' (spike times, drawn by seed; options as in "
     '"randman:classes=10,units=20,dimension=1,alpha=2,train=100,test=50,seed=0"), or a path: a folder of '
     "MNIST/Fashion-MNIST IDX files, a folder of CIFAR-10 batches, N-MNIST's folder with Train and Test, SHD or SSC "
     "(shd_train.h5, ...), SpikingJelly's events_np of DVS128 Gesture or CIFAR10-DVS, or an .npz with x and y"),
    ("network", str, "conv_snn (small), fc_snn (fully connected), vgg_snn or sew_resnet19 (the paper's; slow at full width, "
     "see --channels)"),
    ("channels", _integers, "channel counts with commas, e.g. 16,32,64 for conv_snn, 128 for fc_snn, four for vgg_snn, "
     "three for sew_resnet19; the network's own by default"),
    ("neuron", str, "lif, or plif with a learned leak factor"),
    ("decay", float, "leak factor tau in [0, 1], 1 for no leak; where plif starts"),
    ("v_th", float, "threshold"),
    ("width", width_option, "width of the surrogate's window: adaptive, geometric, first, later, exact (from the law with "
     "the reset), empirical (measured on each batch), '2 V_th', fixed (kappa = 1), or a number for that fixed kappa"),
    ("norm_shift", str, "what tdBN adds: beta (the paper's), or 'beta V_th', with which training is the same at every "
     "threshold that is a power of two"),
    ("gamma", float, "where the scale of every tdBN starts"),
    ("surrogate", str, "rectangular, triangular, sigmoid, arctan, gaussian, fast_sigmoid, straight_through or leaky_relu"),
    ("T", int, "timesteps"),
    ("encoding", str, "direct (the image at every timestep), rate (Bernoulli spikes) or events (simulated change events)"),
    ("augment", str, "of training images: none, or crop-flip (random crop after padding by 4, random horizontal flip)"),
    ("normalise", str, "data (the training images' own mean and deviation) or cifar10 (the constants of the official runs)"),
    ("binning", str, "of event recordings into T frames: time (equal durations) or count (equally many events)"),
    ("resize", _integers, "height and width, such as 48,48, that event recordings are brought to first: the events of all "
     "pixels that fall into one are added up"),
    ("epochs", int, "passes over the training images"),
    ("batch", int, "images per step"),
    ("optimiser", str, "sgd or adam"),
    ("lr", float, "learning rate to start with"),
    ("momentum", float, "of sgd"),
    ("weight_decay", float, "weight decay"),
    ("schedule", str, "cosine (to 0 over the run) or constant"),
    ("loss", str, "ce (cross-entropy of the mean logits), tet (cross-entropy at every timestep with a pull of the logits "
     "to 1; --tet-lam 0 leaves the cross-entropy alone) or mse (squared error of the mean logits and the one-hot label)"),
    ("class_weights", _weights, "what a sample of each class counts in the loss: one number a class, with commas, or "
     "balanced (the rarer the more)"),
    ("label_smoothing", float, "share of each label that is spread evenly over all classes"),
    ("pool", str, "of conv_snn and vgg_snn: average or max, of the spikes; 'average first' or 'max first', between "
     "convolution and tdBN"),
    ("tet_lam", float, "share of the pull in tet"),
    ("seed", int, "of weights, data order and encodings; the same seed gives the same bits"),
    ("dtype", str, "float32 or float64"),
)  # fmt: skip


def add_options(parser):
    parser.description = (
        "Train a network; everything is kept in a run folder: config.json, metrics.jsonl (one row per epoch), "
        "checkpoints/last.npz, figures/. Ctrl-C saves and stops. A crash loses the work since the last checkpoint, one each "
        "epoch and every 30 s. Either way --resume ends with the same bits as a run that was never stopped."
    )
    parser.epilog = "Example: agl-ref train --data fashion-mnist --neuron plif --T 2 --epochs 10 --out runs/fashion"
    add_train_options(parser)
    parser.add_argument("--out", metavar="FOLDER", help="run folder (default: runs/NETWORK-WIDTH-seedSEED)")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder; takes its options from there, "
                        "--data alone may be given again if the data moved")  # fmt: skip
    add_json_option(parser, "the final metrics as JSON")


def add_train_options(parser, without=()):
    """Add an option for each field of TrainConfig but those named."""
    defaults = {field.name: field.default for field in dataclasses.fields(TrainConfig)}
    for name, kind, text in (option for option in TRAIN_OPTIONS if option[0] not in without):
        shown = {"channels": "the network's own", "class_weights": "all alike", "resize": "the sensor's own"}.get(
            name, defaults[name]
        )
        metavar = {"width": "RULE|KAPPA", "channels": "A,B,...", "class_weights": "A,B,...", "resize": "H,W"}.get(
            name, name.upper()
        )
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, dest=name, type=kind, metavar=metavar, help=f"{text} (default: {shown})")


def given_options(args):
    """The fields of TrainConfig that were given as options."""
    given = {name: getattr(args, name) for name, _, _ in TRAIN_OPTIONS if getattr(args, name) is not None}
    given.update(given.pop("width", {}))
    return given


def run(args):
    given = given_options(args)
    if args.resume is not None:
        surplus = sorted({"width" if name == "fixed_width" else name for name in given} - {"data"}) + (
            ["out"] if args.out is not None else []
        )
        if surplus:
            raise ValueError(
                f"--resume: expected no other option than --data, received {', '.join('--' + s for s in surplus)}; a "
                "resumed run keeps its options, start a new one for others"
            )
        trainer = open_run(validate.path("--resume", args.resume), data_path=given.get("data"))
    else:
        config = TrainConfig(**given)
        width = f"fixed{config.fixed_width:g}" if config.width == "fixed" else config.width.replace(" ", "")
        default = f"runs/{config.network}-{width}-seed{config.seed}"
        trainer = Trainer(config, validate.path("--out", default if args.out is None else args.out))
    trainer.fit(progress=not args.json)
    evaluation = trainer.evaluate()
    _save_figure(trainer, evaluation)
    print_evaluation(trainer, evaluation, args.json)
    return 0


def _save_figure(trainer, evaluation):
    label, folder = trainer.config.width, os.fsencode(trainer.folder).decode("utf-8", "replace")
    windows = {label: {name: s["width"] for name, s in evaluation["layers"].items()}}
    figure = plots.run_figure(trainer.trace(), windows, {label: trainer.metrics()}, folder)
    plots.save(figure, trainer.folder / "figures" / "run.png")
    for name, figure in plots.diagnostic_figures(trainer.metrics(), folder).items():
        plots.save(figure, trainer.folder / "figures" / f"{name}.png")
