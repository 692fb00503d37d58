"""The paper's claim put to the test: many training runs that differ in the rule for kappa, in one other axis, or in the seed.

A plan is a dict of experiments {name: Experiment}; its runs are `TrainConfig` values, each trained once however many
experiments share it. A finished run is a line of results.jsonl; what is there is not trained again.
"""

import contextlib
import dataclasses
import functools
import json
import shlex
import shutil
import tempfile
import warnings
from pathlib import Path

import numpy as np

from agl_ref import __version__

from .trainer import TrainConfig, Trainer

FIXED_WIDTHS = (0.5, 1.0, 2.5, 5.0, 10.0)
RULES = ("adaptive", "geometric", "exact", "empirical")
TRAINABLE = (*FIXED_WIDTHS[:3], *RULES)  # 5 and 10 hardly train a deep network: headline and depth show it
BASELINE = "adaptive"  # every other width is compared with it, seed by seed
KEPT = ("coverage", "firing_rate", "gradient_norm", "nonzero_gradient", "width", "std", "std_theorem1", "std_exact")
DIGITS = 5  # significant ones of the layers' statistics that are kept

# Eight convolutions of 4, 8, 16, 16, 32, 32, 32, 32 channels: the paper's VGGSNN, narrow; its runs' momentum and batch.
DEEP = {"network": "vgg_snn", "channels": (4, 8, 16, 32), "neuron": "plif", "T": 2, "batch": 100}
SHALLOW = {**DEEP, "network": "conv_snn", "channels": (16, 32, 64)}
FULL = {"data": "fashion-mnist", "epochs": 4}
SUBSET = {"data": "bundled", "epochs": 8, "batch": 50}


@dataclasses.dataclass(frozen=True)
class Experiment:
    """Arms {name: settings of TrainConfig}, each trained with all `widths` and with seeds 0 .. seeds - 1."""

    question: str
    arms: dict
    widths: tuple = (*FIXED_WIDTHS, *RULES)
    seeds: int = 3

    def runs(self):
        """(arm, width, TrainConfig) of every run, seed by seed, so that an unfinished plan is balanced."""
        for seed in range(self.seeds):
            for arm, settings in self.arms.items():
                T = settings.get("T", TrainConfig.T)
                for width in self.widths:
                    yield arm, width, TrainConfig(**settings, **width_settings(width, T), seed=seed)


def width_settings(width, T):
    """TrainConfig's fields for a rule's name or for a number, the fixed kappa.

    Up to T = 2 the geometric sum has no term beyond the adaptive rule's: the same run, which is not trained twice.
    """
    if width == "geometric" and T <= 2:
        width = "adaptive"
    return {"width": width} if isinstance(width, str) else {"width": "fixed", "fixed_width": float(width)}


def _subset(**changes):
    return {**DEEP, **SUBSET, **changes}


EXPERIMENTS = {
    "headline": Experiment(
        "Does a width that follows the potential's spread train a deep narrow network better than any fixed one?",
        {"deep": {**DEEP, **FULL}},
    ),
    "depth": Experiment("Is depth what decides?", {"deep": _subset(), "shallow": {**SHALLOW, **SUBSET}}),
    "neuron": Experiment(
        "Does a learned leak matter?", {"plif": _subset(), "lif": _subset(neuron="lif")}, widths=TRAINABLE
    ),
    "timesteps": Experiment("Do more timesteps matter?", {"T=2": _subset(), "T=4": _subset(T=4)}, widths=TRAINABLE),
    "surrogate": Experiment(
        "Does the surrogate's shape matter?",
        {name: _subset(surrogate=name) for name in ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")},
        widths=(1.0, 2.5, BASELINE),
    ),
}


def key_of(config):
    """What a run is known by: its configuration as JSON, keys sorted."""
    return json.dumps(dataclasses.asdict(config), sort_keys=True)


def command_of(config):
    """The command that repeats this run alone, in a folder of its own."""
    words, defaults = [], TrainConfig()
    for field in dataclasses.fields(TrainConfig):
        value = getattr(config, field.name)
        if field.name == "width":
            words.append(f"--width {config.fixed_width:g}" if value == "fixed" else f"--width {value}")
        elif field.name != "fixed_width" and value != getattr(defaults, field.name):
            text = ",".join(map(str, value)) if field.name == "channels" else str(value)
            words.append(f"--{field.name.replace('_', '-')} {shlex.quote(text)}")
    return " ".join(["agl-ref train", *words, f"--out runs/{_digest(key_of(config))}"])


# --- one run ----------------------------------------------------------------------------------------------------------


def train_one(config, folder=None, threads=1):
    """Train one run and return its record, ready for JSON.

    Parameters
    ----------
    config : TrainConfig
    folder : path, optional
        Of the run; one that was stopped goes on from its checkpoint, and the folder is removed at the end. Without it
        the run uses a temporary folder and starts from the beginning.
    threads : int
        Of Numba; the result does not depend on it.

    Returns
    -------
    dict
        "config", "version", "status" ("trained", or what was not finite), and for a trained run "test_accuracy",
        "test_loss", "train_loss", "curve" (test accuracy by epoch), "seconds", "layers" {"first" | "last" epoch:
        {layer: {statistic: list of T}}}.
    """
    import numba

    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    own = Path(tempfile.mkdtemp(prefix="agl-ablation-")) if folder is None else Path(folder)
    record = {"config": json.loads(config.to_json()), "version": __version__, "status": "trained"}
    try:
        start = "resume" if (own / "config.json").exists() else "new"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a window that collapsed is seen in its coverage
            trainer = Trainer(config, own, start=start).fit(progress=False)
        rows = trainer.metrics()
        record.update({name: rows[-1][name] for name in ("test_accuracy", "test_loss", "train_loss")})
        record["curve"] = [row["test_accuracy"] for row in rows]
        record["seconds"] = round(sum(row["seconds"] for row in rows), 1)
        record["layers"] = {when: _kept(rows[i]["diagnostics"]["layers"]) for when, i in (("first", 0), ("last", -1))}
    except FloatingPointError as error:
        record["status"] = str(error)
    shutil.rmtree(own)
    return record


def _kept(layers):
    return {
        name: {k: [None if v is None else float(f"{v:.{DIGITS}g}") for v in statistics[k]] for k in KEPT}
        for name, statistics in layers.items()
    }


# --- many runs --------------------------------------------------------------------------------------------------------


def read_results(path):
    """{key of the configuration: record} of results.jsonl; a cut last line is dropped. ValueError if it is not one."""
    path, found = Path(path), {}
    if not path.exists():
        return found
    try:
        for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
            record = json.loads(line)
            found[key_of(TrainConfig(**record["config"]))] = record
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected lines written by agl-ref ablation, received one with {error!r}; choose another --out"
        ) from None
    return found


def run(experiments, folder, jobs=-1, dask=None, progress=True):
    """Train what `experiments` need and results.jsonl in `folder` does not hold yet; return all its records.

    Parameters
    ----------
    experiments : dict of Experiment
    folder : path
    jobs : int
        Processes of one thread each; -1: one per core. Not used with `dask`.
    dask : str, optional
        Address of a Dask scheduler. Its workers need agl_ref and the data; a run whose worker dies is repeated.
    progress : bool
        Show runs, and time done and left, on stderr.

    Returns
    -------
    {key of the configuration: record}

    Notes
    -----
    Each record is on the disk before the next is waited for. On this machine a run that was stopped goes on from its
    checkpoint the next time.
    """
    from joblib import Parallel, delayed
    from tqdm import tqdm

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / "results.jsonl", pending(experiments, {})
    done = read_results(path)
    left = [config for key, config in wanted.items() if key not in done]
    _drop_cut_line(path)
    homes = [None if dask else folder / "unfinished" / _digest(key_of(config)) for config in left]
    with (
        _backend(jobs, dask),
        tqdm(total=sum(map(_work, left)), disable=not progress, unit="frame", unit_scale=True, smoothing=0) as bar,
        open(path, "a", encoding="utf-8") as file,
    ):
        bar.set_description(f"{len(wanted) - len(left)} of {len(wanted)} runs")
        calls = (delayed(train_one)(config, home) for config, home in zip(left, homes, strict=True))
        # pre_dispatch: with a cluster that grows, all are handed out at once
        for record in Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch="all")(calls):
            file.write(json.dumps(record) + "\n")
            file.flush()
            config = TrainConfig(**record["config"])
            done[key_of(config)] = record
            bar.set_description(f"{sum(key in done for key in wanted)} of {len(wanted)} runs")
            bar.update(_work(config))
    with contextlib.suppress(OSError):  # not empty: runs of other experiments were stopped, and go on from there
        (folder / "unfinished").rmdir()
    return done


def pending(experiments, done):
    """{key: TrainConfig} of the runs that `experiments` need and `done` lacks: by seed, then in the order of the plan."""
    found = {}
    for experiment in experiments.values():
        for _, _, config in experiment.runs():
            found.setdefault(key_of(config), config)
    left = sorted(((key, config) for key, config in found.items() if key not in done), key=lambda item: item[1].seed)
    return dict(left)


def _work(config):
    """Frames that a run trains on, which its time roughly follows."""
    return config.epochs * config.T * _training_images(config.data)


@functools.lru_cache(maxsize=8)
def _training_images(name):
    from agl_ref import data

    return len(data.load(name).x_train)


def _digest(key):
    import hashlib

    return hashlib.sha256(key.encode()).hexdigest()[:16]


def _drop_cut_line(path):
    """Remove what a killed process left of a line."""
    text = path.read_bytes() if path.exists() else b""
    if text and not text.endswith(b"\n"):
        path.write_bytes(text[: text.rfind(b"\n") + 1])


def _backend(jobs, dask):
    """joblib's context: processes here, or the workers of a Dask cluster."""
    from joblib import parallel_config

    if not dask:
        return parallel_config(backend="loky", n_jobs=jobs, inner_max_num_threads=1)
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("--dask: expected the package distributed, received none; pip install distributed") from None
    try:
        client = Client(dask, timeout="10s", set_as_default=True)
    except (OSError, ValueError, TypeError) as error:
        raise ValueError(
            f"--dask: expected the address of a running scheduler such as tcp://host:8786, received {dask!r}: {error}"
        ) from None
    return _on_cluster(client)


@contextlib.contextmanager
def _on_cluster(client):
    """joblib's Dask backend. That alone would wait for ever for a run that Dask gives up after several workers died of it."""
    from joblib import parallel_config
    from joblib._dask import DaskDistributedBackend
    from joblib.externals.loky.process_executor import _ExceptionWithTraceback

    class Cluster(DaskDistributedBackend):
        def submit(self, func, callback=None):
            def tell(future):
                if future.exception() is not None:
                    callback(_ExceptionWithTraceback(future.exception()))

            future = super().submit(func, callback)
            future.add_done_callback(tell)
            return future

    with client, parallel_config(backend=Cluster(client=client, wait_for_workers_timeout=60)):
        yield


# --- what they say ----------------------------------------------------------------------------------------------------


def accuracies(experiment, records):
    """{arm: {width: ndarray (seeds,)}}: test accuracy by seed, NaN for a run that is missing or was not finite."""
    found = {arm: {width: np.full(experiment.seeds, np.nan) for width in experiment.widths} for arm in experiment.arms}
    for arm, width, config in experiment.runs():
        record = records.get(key_of(config), {})
        found[arm][width][config.seed] = record.get("test_accuracy", np.nan)
    return found


def summary(experiment, records):
    """Rows of the table: for each arm and width the mean, the standard deviation, and the paired test against BASELINE.

    Returns
    -------
    list of dict
        "arm", "width", "seeds" (trained), "mean", "std" (over seeds, n - 1; NaN for one), and against the adaptive width
        on the same seeds "difference" (this minus adaptive), "low", "high" (95 % confidence interval), "p": the paired
        t-test of scipy (`scipy.stats.ttest_rel`); None where fewer than two pairs or no variance leave nothing to test.
    """
    rows = []
    for arm, widths in accuracies(experiment, records).items():
        for width, values in widths.items():
            trained = values[~np.isnan(values)]
            row = {"arm": arm, "width": str(width), "seeds": len(trained)}
            row["mean"] = float(trained.mean()) if len(trained) else None
            row["std"] = float(trained.std(ddof=1)) if len(trained) > 1 else None
            rows.append({**row, **_paired(values, widths[BASELINE])})
    return rows


def _paired(values, baseline):
    from scipy import stats

    pairs = ~(np.isnan(values) | np.isnan(baseline))
    a, b = values[pairs], baseline[pairs]
    row = {"difference": float((a - b).mean()) if len(a) else None, "low": None, "high": None, "p": None}
    if len(a) > 1 and np.ptp(a - b) > 1e-9:  # far below one image of any test set, above the rounding of a - b
        test = stats.ttest_rel(a, b)
        low, high = test.confidence_interval(0.95)
        row.update(low=float(low), high=float(high), p=float(test.pvalue))
    return row


def depth_profile(experiment, records, arm, statistic, when="last"):
    """{width: ndarray (layers,)}: a layer's statistic, mean over timesteps and trained seeds, by depth."""
    sums = {}
    for this, width, config in experiment.runs():
        record = records.get(key_of(config), {})
        if this == arm and "layers" in record:
            layers = record["layers"][when].values()
            sums.setdefault(width, []).append([np.mean(layer[statistic]) for layer in layers])
    return {width: np.mean(values, axis=0) for width, values in sums.items()}
