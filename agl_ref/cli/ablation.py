"""The command `agl-ref ablation`."""

import dataclasses
import json
import sys


def add_parsers(commands):
    """Add `ablation` to the subparsers of `agl-ref`."""
    from .train import width_option

    parser = commands.add_parser(
        "ablation",
        help="put the paper's claim to the test: all width rules, several seeds, paired tests (hours)",
        description="Train the runs that the experiments need, spread over processes or a Dask cluster, and write "
        "results.jsonl, CSV tables and figures. Runs that are there already are not trained again, and a run that was "
        "stopped goes on: after Ctrl-C or a crash give the same command once more.",
        epilog="Example: agl-ref ablation --experiments depth,neuron --seeds 3",
    )
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
    parser.add_argument("--data", metavar="DATA", help="as for agl-ref train, in place of each experiment's own")
    parser.add_argument("--jobs", type=int, default=-1, metavar="N", help="processes of one thread each (default: one "
                        "per core)")  # fmt: skip
    parser.add_argument("--dask", metavar="ADDRESS", help="spread the runs over this Dask cluster instead, e.g. "
                        "tcp://host:8786; its workers need this package and the data")  # fmt: skip
    parser.add_argument("--list", action="store_true", help="only print what would be trained, one command a line")
    parser.add_argument("--report", action="store_true", help="train nothing; write the tables and figures of the results "
                        "that are there")  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.set_defaults(run=_ablation, width_of=width_option)


def _names(text):
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _chosen(args):
    """The experiments that the options ask for. Raises ValueError for unknown names."""
    from agl_ref import validate
    from agl_ref.train.ablation import BASELINE, EXPERIMENTS

    names = tuple(EXPERIMENTS) if args.experiments is None else args.experiments
    unknown = sorted(set(names) - set(EXPERIMENTS))
    if unknown or not names:
        raise ValueError(
            f"--experiments: expected some of {', '.join(EXPERIMENTS)}, received {', '.join(unknown) or 'none'}; "
            "choose from these"
        )
    changes = {name: getattr(args, name) for name in ("epochs", "data") if getattr(args, name) is not None}
    chosen = {}
    for name in names:
        experiment = EXPERIMENTS[name]
        arms = {arm: {**settings, **changes} for arm, settings in experiment.arms.items()}
        new = dataclasses.replace(experiment, arms=arms)
        if args.seeds is not None:
            new = dataclasses.replace(new, seeds=validate.integer("--seeds", args.seeds))
        if args.widths is not None:
            widths = dict.fromkeys([_width_value(args, text) for text in args.widths] + [BASELINE])
            new = dataclasses.replace(new, widths=tuple(widths))
        chosen[name] = new
    return chosen


def _width_value(args, text):
    settings = args.width_of(text)
    return settings["fixed_width"] if "fixed_width" in settings else settings["width"]


def _worker_deaths():
    """What joblib raises for a process that was killed, and Dask for a run of which several workers died."""
    from joblib.externals.loky.process_executor import TerminatedWorkerError

    distributed = sys.modules.get("distributed")
    return (TerminatedWorkerError, distributed.KilledWorker) if distributed else TerminatedWorkerError


def _ablation(args):
    from agl_ref.train import ablation_report as report
    from agl_ref.train.ablation import command_of, pending, read_results, run

    from .main import FAILED, folder_option

    experiments, folder = _chosen(args), folder_option("--out", args.out)
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
            else run(experiments, folder, args.jobs, args.dask, progress=not args.json)
        )
    except _worker_deaths() as error:
        print(f"agl-ref: a worker process was killed ({str(error).splitlines()[0]}); what was finished is kept, give the "
              "same command again", file=sys.stderr)  # fmt: skip
        return FAILED
    if not records:
        raise ValueError(f"--out: expected a folder with results.jsonl, received {str(folder)!r} without; train first")
    paths = report.write(experiments, records, folder)
    if args.json:
        print(json.dumps({"folder": str(folder), "summary": list(report.summary_rows(experiments, records))}))
    else:
        print(report.text_table(experiments, records))
        print("\n".join(map(str, paths)))
    return 0
