"""The command `agl-ref eval`."""

from pathlib import Path

from agl_ref.train.diagnostics import synaptic_operations
from agl_ref.train.trainer import open_run

from .shared import add_json_option, print_evaluation


def add_options(parser):
    parser.description = "Evaluate the last checkpoint of a run folder on the test images."
    parser.add_argument("folder", metavar="RUN", help="a run folder written by agl-ref train")
    parser.add_argument("--data", metavar="DATA", help="where the run's data lies now, if it moved")
    parser.add_argument("--operations", action="store_true", help="count what the synapses compute for an image, on 50 "
                        "test images, and estimate its energy")  # fmt: skip
    for name, energy, what in (("ac", 0.9, "an accumulation"), ("mac", 4.6, "a multiplication with accumulation")):
        parser.add_argument(f"--e-{name}", type=float, default=energy, metavar="PJ", help=f"energy of {what} in picojoules "
                            "(default: %(default)s, 32-bit floating point in 45 nm, Horowitz 2014)")  # fmt: skip
    add_json_option(parser, "JSON instead of the table")


def run(args):
    path = Path(args.folder) / "checkpoints" / "last.npz"
    if (Path(args.folder) / "config.json").is_file() and not path.is_file():
        raise ValueError(
            f"{path}: expected a checkpoint, received none; train first: agl-ref train --resume {args.folder}"
        )
    trainer = open_run(args.folder, start="read", data_path=args.data)
    trainer.load_checkpoint(path)
    counted = {}
    if args.operations:
        counted["operations"] = synaptic_operations(trainer.trace(), 1e-12 * args.e_ac, 1e-12 * args.e_mac)
    print_evaluation(trainer, {**trainer.evaluate(), **counted}, args.json)
    return 0
