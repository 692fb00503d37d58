"""The command `agl-ref ablation`."""

import dataclasses
import json
import sys

from agl_ref import validate
from agl_ref.train.ablation.plan import BASELINE, EXPERIMENTS, command_of, pending
from agl_ref.train.ablation.report import summary_rows, text_table, write
from agl_ref.train.ablation.runner import WorkerDied, read_results
from agl_ref.train.ablation.runner import run as run_experiments

from .shared import FAILED, add_json_option, width_option


def add_options(parser):
    parser.description = (
        "Train the runs that the experiments need, spread over processes or a Dask cluster, and write results.jsonl, CSV "
        "tables and figures. Runs that are there already are not trained again, and a run that was stopped goes on: after "
        "Ctrl-C or a crash give the same command once more."
    )
    parser.epilog = "Example: agl-ref ablation --experiments depth,neuron --seeds 3"
    parser.add_argument("--out", default="runs/ablation", metavar="FOLDER", help="of the results (%(default)s)")
    parser.add_argument("--experiments", type=_names, metavar="A,B,...", help="headline, depth, neuron, timesteps, "
                        "surrogate (default: all)")  # fmt: skip
    parser.add_argument("--widths", type=_names, metavar="A,B,...", help="rules and fixed kappas; adaptive is always "
                        "among them (default: each experiment's own)")  # fmt: skip
    for name, text in (
        ("seeds", "how many, from 0 (default: each experiment's own)"),
        ("epochs", "of each run (default: each experiment's own)"),
    ):
        parser.add_argument(f"--{name}", type=int, metavar=name.upper(), help=text)
    parser.add_argument("--data", metavar="DATA", help="as for agl-ref train, instead of each experiment's own")
    parser.add_argument("--jobs", type=int, default=-1, metavar="N", help="processes of one thread each (default: one "
                        "per core)")  # fmt: skip
    parser.add_argument("--dask", metavar="ADDRESS", help="spread the runs over this Dask cluster instead, e.g. "
                        "tcp://host:8786; its workers need this package and the data")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="only print what would be trained, one command a line")
    parser.add_argument("--report", action="store_true", help="train nothing; write the tables and figures of the results "
                        "that are there")  # fmt: skip
    add_json_option(parser, "the summary as JSON")


def _names(text):
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _chosen(args):
    """The experiments that the options ask for. Raises ValueError for unknown names."""
    names = tuple(EXPERIMENTS) if args.experiments is None else args.experiments
    for name in names or [""]:
        validate.one_of("--experiments", name, EXPERIMENTS)
    changes = {name: getattr(args, name) for name in ("epochs", "data") if getattr(args, name) is not None}
    chosen = {}
    for name in names:
        experiment = EXPERIMENTS[name]
        arms = {arm: {**settings, **changes} for arm, settings in experiment.arms.items()}
        new = dataclasses.replace(experiment, arms=arms)
        if args.seeds is not None:
            new = dataclasses.replace(new, seeds=validate.integer("--seeds", args.seeds, high=1000))
        if args.widths is not None:
            given = [width_option(text) for text in args.widths]
            widths = dict.fromkeys([*(settings.get("fixed_width", settings["width"]) for settings in given), BASELINE])
            new = dataclasses.replace(new, widths=tuple(widths))
        chosen[name] = new
    return chosen


def run(args):
    experiments, folder = _chosen(args), validate.path("--out", args.out)
    if args.jobs == 0 or args.jobs < -1:
        raise ValueError(f"--jobs: expected a number of processes or -1 for one per core, received {args.jobs}")
    if args.list:
        for config in pending(experiments, read_results(folder / "results.jsonl")).values():
            print(command_of(config))
        return 0
    try:
        records = (
            read_results(folder / "results.jsonl")
            if args.report
            else run_experiments(experiments, folder, args.jobs, args.dask, progress=not args.json)
        )
    except WorkerDied as error:
        print(f"agl-ref: a worker process was killed ({error}); what was finished is kept, give the "
              "same command again", file=sys.stderr)  # fmt: skip
        return FAILED
    if not records:
        raise ValueError(f"--out: expected a folder with results.jsonl, received {str(folder)!r} without; train first")
    paths = write(experiments, records, folder)
    if args.json:
        print(json.dumps({"folder": str(folder), "summary": list(summary_rows(experiments, records))}))
    else:
        print(text_table(experiments, records))
        print("\n".join(map(str, paths)))
    return 0
