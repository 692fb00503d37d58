"""The command `agl-ref eval`."""

from pathlib import Path

from agl_ref.train.trainer import open_run

from .shared import add_json_option, print_evaluation


def add_options(parser):
    """Add the options of `eval`."""
    parser.description = "Evaluate the last checkpoint of a run folder on the test images."
    parser.add_argument("folder", metavar="RUN", help="a run folder written by agl-ref train")
    parser.add_argument("--data", metavar="DATA", help="where the run's data lies now, if it moved")
    add_json_option(parser, "JSON instead of the table")
    parser.set_defaults(run=run)


def run(args):
    path = Path(args.folder) / "checkpoints" / "last.npz"
    if (Path(args.folder) / "config.json").is_file() and not path.is_file():
        raise ValueError(
            f"{path}: expected a checkpoint, received none; train first: agl-ref train --resume {args.folder}"
        )
    trainer = open_run(args.folder, start="read", data_path=args.data)
    trainer.load_checkpoint(path)
    print_evaluation(trainer, trainer.evaluate(), args.json)
    return 0
