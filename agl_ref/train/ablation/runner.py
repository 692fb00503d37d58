"""The runs of an ablation, trained over processes or a Dask cluster; a finished one is a line of results.jsonl."""

import contextlib
import functools
import json
import os
import tempfile
import threading
import time
import warnings
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

from joblib import Parallel, delayed, parallel_config
from tqdm import tqdm

from agl_ref import __version__, data, files, validate
from agl_ref.engine import parallel
from agl_ref.engine.memory import keep_freed_memory
from agl_ref.train.config import TrainConfig, checksum
from agl_ref.train.lock import hold
from agl_ref.train.trainer import Trainer, remove_run

from .plan import KEPT, digest_of, key_of, pending

DYING_SECONDS = 60.0
DIGITS = 5  # significant ones of the layers' statistics that are kept


class WorkerDied(RuntimeError):
    """A process was killed in the middle of a run. What was finished is on the disk."""


def train_one(config, folder=None, threads=1):
    """Train one run and return its record, ready for JSON.

    Parameters
    ----------
    config : TrainConfig
    folder : path, optional
        Of the run; one that was stopped goes on from its checkpoint. At the end what the run wrote is removed, and the
        folder if nothing else is in it. Without it the run uses a temporary folder and starts from the beginning.
    threads : int
        At most; the result does not depend on it.

    Returns
    -------
    dict
        "config", "version", "status" ("trained", or what was not finite), and for a trained run "test_accuracy",
        "test_loss", "train_loss", "curve" (test accuracy by epoch), "seconds", "layers" {"first" | "last" epoch:
        {layer: {statistic: list of T}}}.
    """
    validate.instance("config", config, TrainConfig)
    validate.integer("threads", threads)
    own = Path(tempfile.mkdtemp(prefix="agl-ablation-")) if folder is None else validate.path("folder", folder)
    record = {"config": json.loads(config.to_json()), "version": __version__, "status": "trained"}
    try:
        hold(own, DYING_SECONDS).close()  # the worker of a killed command needs a moment to notice
        start = "resume" if (own / "config.json").exists() else "new"
        with parallel.at_most(threads):
            trainer = Trainer(config, own, start=start).fit(progress=False)
        rows = trainer.metrics()
        record.update({name: rows[-1][name] for name in ("test_accuracy", "test_loss", "train_loss")})
        record["curve"] = [row["test_accuracy"] for row in rows]
        record["seconds"] = round(sum(row["seconds"] for row in rows), 1)
        record["layers"] = {when: _kept(rows[i]["diagnostics"]["layers"]) for when, i in (("first", 0), ("last", -1))}
    except FloatingPointError as error:
        record["status"] = str(error)
    remove_run(own)
    return record


def _in_worker(parent, config, folder):
    """`train_one` in a process that `parent` started, whose warnings and memory are nobody else's."""
    if os.getpid() != parent:
        _die_with(parent)
        keep_freed_memory()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a window that collapsed is seen in its coverage
        return train_one(config, folder)


@functools.lru_cache(maxsize=1)
def _die_with(parent):
    """End this process soon after `parent` is gone: it would train on for nobody, in a folder that the next command uses."""

    def watch():
        while os.getppid() == parent:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _kept(layers):
    return {
        name: {k: [None if v is None else float(f"{v:.{DIGITS}g}") for v in statistics[k]] for k in KEPT}
        for name, statistics in layers.items()
    }


def read_results(path):
    """{key of the configuration: record} of results.jsonl; a cut last line is dropped. ValueError if it is not one."""
    path, found = validate.path("path", path), {}
    if not path.exists():
        return found
    try:
        for line in files.read_text(path).split("\n")[:-1]:
            record = json.loads(line)
            if record.pop("sha256", None) not in (None, checksum(record)):
                raise ValueError("a checksum of other values")
            found[key_of(TrainConfig(**record["config"]))] = record
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
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
    folder = validate.path("folder", folder)
    pending(experiments, {})  # before anything is made
    if not (isinstance(jobs, int) and jobs == -1):
        validate.integer("jobs", jobs)
    validate.instance("dask", dask, (str, type(None)), "pass the scheduler's address")
    validate.boolean("progress", progress)
    with hold(folder):
        return _run(experiments, folder, jobs, dask, progress)


def _run(experiments, folder, jobs, dask, progress):
    path, wanted = folder / "results.jsonl", pending(experiments, {})
    done = read_results(path)
    left = [config for key, config in wanted.items() if key not in done]
    _drop_cut_line(path)
    with (
        _on_cluster(left, dask) if dask else _in_processes(left, folder / "unfinished", jobs) as records,
        tqdm(total=sum(map(_work, left)), disable=not progress, unit="frame", unit_scale=True, smoothing=0) as bar,
    ):
        bar.set_description(f"{len(wanted) - len(left)} of {len(wanted)} runs")
        for record in records:
            with files.naming(path), open(path, "a", encoding="utf-8") as file:
                file.write(json.dumps({**record, "sha256": checksum(record)}) + "\n")
            config = TrainConfig(**record["config"])
            done[key_of(config)] = record
            bar.set_description(f"{sum(key in done for key in wanted)} of {len(wanted)} runs")
            bar.update(_work(config))
    with contextlib.suppress(OSError):  # not empty: runs of other experiments were stopped, and go on from there
        (folder / "unfinished").rmdir()
    return done


def _work(config):
    """Frames that a run trains on, which its time roughly follows."""
    return config.epochs * config.T * _training_images(config.data)


@functools.lru_cache(maxsize=8)
def _training_images(name):
    return len(data.load(name).x_train)


def _drop_cut_line(path):
    """Remove what a killed process left of a line."""
    text = files.read_bytes(path) if path.exists() else b""
    if text and not text.endswith(b"\n"):
        files.write_atomically(path, text[: text.rfind(b"\n") + 1])


@contextlib.contextmanager
def _in_processes(configs, unfinished, jobs):
    """The records of runs in processes of this machine, as they come."""
    calls = (delayed(_in_worker)(os.getpid(), config, unfinished / digest_of(config)) for config in configs)
    with parallel_config(backend="loky", n_jobs=min(jobs, max(1, len(configs))), inner_max_num_threads=1):
        try:
            yield Parallel(return_as="generator_unordered", batch_size=1)(calls)
        except BrokenProcessPool as error:  # joblib's own error is one too
            raise WorkerDied(str(error).splitlines()[0]) from None


@contextlib.contextmanager
def _on_cluster(configs, address):
    """The records of runs on the workers of a Dask cluster, as they come."""
    try:
        from distributed import Client, KilledWorker, as_completed  # here: an optional package
    except ImportError:
        raise ValueError("--dask: expected the package distributed, received none; pip install distributed") from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError, TypeError, AssertionError) as error:
        raise ValueError(
            f"--dask: expected the address of a running scheduler such as tcp://host:8786, received {address!r}: {error}"
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=60)
        except TimeoutError:
            raise ValueError(f"--dask: expected a worker at {address} within 60 s, received none; start one") from None
        futures = [client.submit(train_one, config, pure=False) for config in configs]
        try:
            yield (future.result() for future in as_completed(futures))
        except KilledWorker as error:
            raise WorkerDied(str(error).splitlines()[0]) from None
