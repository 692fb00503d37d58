"""The command `agl-ref demo`: one small network trained at five thresholds, with a fixed and with the adaptive width."""

import dataclasses
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from fractions import Fraction
from math import sqrt
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from agl_ref import data, validate
from agl_ref.engine.parallel import at_most, threads
from agl_ref.train import plots
from agl_ref.train.config import TrainConfig
from agl_ref.train.trainer import Trainer, remove_run

from .shared import FAILED, add_json_option

DEMO = {"channels": (8, 16, 32, 32), "T": 2, "encoding": "direct", "epochs": 1, "batch": 25, "lr": 0.1}
DEMO_GOAL = 0.65  # test accuracy that the adaptive width must reach
SMALL, HALF, LARGE = 1 / 32, 1 / 2, 8.0
THRESHOLDS = (SMALL, 1 / 8, HALF, 2.0, LARGE)
SERIES = {  # what is trained at which thresholds; all else is the same
    "fixed": ({"width": "fixed", "norm_shift": "beta V_th"}, THRESHOLDS),
    "adaptive": ({"width": "adaptive", "norm_shift": "beta V_th"}, THRESHOLDS),
    "2 V_th": ({"width": "2 V_th", "norm_shift": "beta V_th"}, (LARGE,)),
    "plain beta": ({"width": "adaptive", "norm_shift": "beta"}, (SMALL,)),
}
NAMES = {
    "fixed": "fixed, kappa = 1",
    "adaptive": "adaptive",
    "2 V_th": "fixed, kappa = 2 V_th",
    "plain beta": "adaptive, plain beta",
}


class Trained(NamedTuple):
    """What is kept of a run. `cache` is that of the last layer but one, on some test images."""

    evaluation: dict
    weights: bytes
    layer: str
    cache: object
    seconds: float

    def coverage(self):
        """Share of neurons inside the window, the mean over layers and timesteps."""
        return float(np.mean([layer["coverage"] for layer in self.evaluation["layers"].values()]))


def add_options(parser):
    """Add the options of `demo`."""
    parser.description = (
        "Train the same small conv SNN at five thresholds V_th, with a fixed width (kappa = 1) and with the adaptive "
        "width, print a table of test accuracies and save a figure."
    )
    parser.add_argument("--out", default="runs/demo", help="folder for the runs and the figure (%(default)s); a demo that "
                        "is there already is replaced")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="of all runs (%(default)s)")
    add_json_option(parser, "the results as JSON instead of the table")
    parser.set_defaults(run=run)


def run(args):
    started = time.monotonic()
    out, dataset = validate.path("--out", args.out), data.load("bundled")
    configs = {
        (label, v_th): TrainConfig(v_th=v_th, seed=args.seed, **DEMO, **options)
        for label, (options, thresholds) in SERIES.items()
        for v_th in thresholds
    }
    folders = {(label, v_th): out / f"{label.replace(' ', '-')}-{v_th:g}" for label, v_th in configs}
    for key, config in configs.items():
        _require_demo(folders[key], config)
    runs = _train_all(configs, folders, dataset, progress=not args.json)
    figure = plots.save(_figure(runs, args.seed), out / "demo.png")
    accuracy = {key: run.evaluation["test_accuracy"] for key, run in runs.items()}
    facts = facts_of(accuracy, {key: run.weights for key, run in runs.items()}, len(dataset.x_test))
    if args.json:
        report = {label: {} for label in SERIES}
        for (label, v_th), trained in runs.items():
            report[label][_text(v_th)] = {**trained.evaluation, "training_seconds": round(trained.seconds, 1)}
        print(json.dumps({**report, **facts, "figure": str(figure)}))
    else:
        print("\n".join(["", *_table(runs), "", *sentences(accuracy, facts), ""]))
        print(f"{len(runs)} trainings, {min(threads(), len(runs))} at a time; {time.monotonic() - started:.0f} s in all (the "
              f"first time kernels are compiled).\nFigure: {figure}\nRuns:   {out}")  # fmt: skip
    if not facts["goal_reached"]:
        print(f"agl-ref: expected the adaptive width to end with the same weights at every threshold and with at least "
              f"{DEMO_GOAL:.0%}, received {facts['worst']:.1%} at one of them", file=sys.stderr)  # fmt: skip
        return FAILED
    return 0


def _require_demo(folder, config):
    """Refuse a folder with a run that no earlier demo wrote."""
    path = folder / "config.json"
    if not path.exists():
        return
    try:
        earlier = TrainConfig.from_file(path)
    except ValueError:
        earlier = None
    if earlier is None or dataclasses.replace(earlier, seed=config.seed) != config:
        raise ValueError(f"{folder}: expected nothing or an earlier demo, received another run; choose another --out")


def _train_all(configs, folders, dataset, progress):
    """{key: Trained} of all configurations; as many at once as there are cores, each in one thread: that takes least time."""
    with ThreadPoolExecutor(threads()) as pool:
        keys = {pool.submit(_train, config, folders[key], dataset): key for key, config in configs.items()}
        try:
            with tqdm(as_completed(keys), total=len(keys), disable=not progress, leave=False, unit="run") as bar:
                found = {keys[future]: future.result() for future in bar}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return {key: found[key] for key in configs}


def _train(config, folder, dataset):
    begun = time.monotonic()
    remove_run(folder)
    with at_most(1):
        trainer = Trainer(config, folder, dataset).fit(progress=False)
    last = trainer.metrics()[-1]
    evaluation = {key: last[key] for key in ("test_accuracy", "test_loss", "layers")}
    weights = b"".join(value.tobytes() for value in trainer.net.parameters().values())
    trace = trainer.trace()
    layer = trace.names()[-2]
    return Trained(evaluation, weights, layer, trace[layer], time.monotonic() - begun)


def _text(v_th):
    return str(Fraction(v_th))  # 1/32


def facts_of(accuracy, weights, images):
    """What the runs show: each fact compares some of them.

    Parameters
    ----------
    accuracy, weights : dict
        By (label of SERIES, V_th): share of the test images, and the weights' bytes.
    images : int
        In the test.

    Returns
    -------
    dict
        "difference" {threshold: adaptive minus fixed}; "margin" {threshold: two standard errors of that, as of two
        independent samples}; "winner" {threshold: "adaptive", "fixed" or, within the margin, "neither"}; "same_weights":
        the adaptive width's are the same at all thresholds; "relative_is_fixed": 2 V_th at the largest has those of
        kappa = 1 at 1/2; "plain_beta_loses", at the smallest; "worst": the adaptive width's accuracy; "goal_reached".
    """

    def compare(ours, theirs):
        pair = np.array([accuracy[ours], accuracy[theirs]])
        return accuracy[ours] - accuracy[theirs], 2 * sqrt(sum(pair * (1 - pair)) / images)

    pairs = {_text(v_th): compare(("adaptive", v_th), ("fixed", v_th)) for v_th in THRESHOLDS}
    plain, margin = compare(("plain beta", SMALL), ("adaptive", SMALL))
    worst = min(accuracy["adaptive", v_th] for v_th in THRESHOLDS)
    same = len({weights["adaptive", v_th] for v_th in THRESHOLDS}) == 1
    return {
        "difference": {v_th: round(difference, 6) for v_th, (difference, _) in pairs.items()},
        "margin": {v_th: round(margin, 6) for v_th, (_, margin) in pairs.items()},
        "winner": {
            v_th: "neither" if abs(difference) <= margin else "adaptive" if difference > 0 else "fixed"
            for v_th, (difference, margin) in pairs.items()
        },
        "same_weights": same,
        "relative_is_fixed": weights["2 V_th", LARGE] == weights["fixed", HALF],
        "plain_beta_loses": plain < -margin,
        "worst": worst,
        "goal_reached": same and worst >= DEMO_GOAL,
    }


def sentences(accuracy, facts):
    """The facts in words, a line each; none says more than its comparison."""

    def percent(label, v_th):
        return f"{100 * accuracy[label, v_th]:.1f} %"

    lines = ["Adaptive minus fixed, in points of test accuracy:"]
    for outcome, words in (("adaptive", "adaptive wins"), ("fixed", "fixed wins"), ("neither", "fixed is as good")):
        where = [v_th for v_th, winner in facts["winner"].items() if winner == outcome]
        points = ", ".join(f"{v_th} ({100 * facts['difference'][v_th]:+.1f})" for v_th in where)
        if outcome == "neither" and where:
            points += f": within two standard errors, {100 * min(facts['margin'][v_th] for v_th in where):.1f}"
        if where:
            lines.append(f"  {words} at V_th = {points}")
    if facts["same_weights"]:
        lines.append("The adaptive width's five trainings end with the same weights, bit for bit.")
    else:
        lines.append("The adaptive width's five trainings end with different weights, which METHOD.md excludes.")
    relative = f"kappa = 2 V_th at V_th = {_text(LARGE)} ends with"
    if facts["relative_is_fixed"]:
        lines.append(
            f"A fixed width in units of the threshold is as steady: {relative} the weights of kappa = 1 at 1/2."
        )
    else:
        lines.append(f"{relative} other weights than kappa = 1 at 1/2, which METHOD.md excludes.")
    numbers = f"{percent('plain beta', SMALL)} at V_th = {_text(SMALL)}, with it {percent('adaptive', SMALL)}"
    if facts["plain_beta_loses"]:
        lines.append("The adaptive width needs tdBN's shift in units of V_th (norm_shift 'beta V_th'). With the method's "
                     f"plain beta: {numbers}.")  # fmt: skip
    else:
        lines.append(
            f"On this seed it does as well without tdBN's shift in units of V_th (norm_shift 'beta V_th'): {numbers}."
        )
    return lines


def _table(runs):
    lines = [f"{'V_th':<24}" + "".join(f"{_text(v_th):>8}" for v_th in THRESHOLDS)]
    for title, value in (
        ("test accuracy (%)", lambda trained: trained.evaluation["test_accuracy"]),
        ("neurons inside the window (%), mean over layers and timesteps", Trained.coverage),
    ):
        lines += ["", title]
        for label in SERIES:
            cells = [f"{100 * value(runs[label, v]):8.1f}" if (label, v) in runs else " " * 8 for v in THRESHOLDS]
            lines.append(f"  {NAMES[label]:<22}{''.join(cells)}".rstrip())
    return lines


def _figure(runs, seed):
    lines, windows = {}, {}
    for (label, v_th), trained in runs.items():
        lines.setdefault(NAMES[label], {})[v_th] = trained.evaluation["test_accuracy"], trained.coverage()
    for label in ("fixed", "adaptive"):
        windows[NAMES[label]] = {v_th: runs[label, v_th].cache.width[-1] for v_th in (SMALL, LARGE)}
    adaptive = {v_th: runs["adaptive", v_th] for v_th in (SMALL, LARGE)}
    potentials = {v_th: trained.cache.u[-1] for v_th, trained in adaptive.items()}
    title = f"Potentials of {adaptive[SMALL].layer} at t = {DEMO['T']}, trained with the adaptive width, seed {seed}"
    return plots.threshold_figure(lines, potentials, windows, title)
