"""The ablation on a Dask cluster: of two processes, one of which is killed in the middle of a run; and of four threads."""

import contextlib
import os
import signal
import threading
import time
import warnings

import numpy as np
import pytest
import scipy.linalg.blas
import scipy.special  # noqa: F401  and the warnings that it filters
from threadpoolctl import threadpool_info

from agl_ref import cli
from agl_ref.cli.main import FAILED
from agl_ref.train import ablation

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings("default")  # the cluster's own, of workers that die


@pytest.fixture
def arm(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = (rng.integers(0, 90, (600, 12, 12, 1)) + 60 * y[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    return {"channels": (8, 8), "T": 2, "epochs": 12, "batch": 10, "data": str(tmp_path / "tiny.npz")}


@pytest.fixture
def experiments(arm):
    return {"small": ablation.Experiment("?", {"a": arm}, widths=(1.0, "adaptive"), seeds=2)}


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))  # of the workers: each attempt at a run makes a folder there
    return folder


@contextlib.contextmanager
def one_worker_dies(scratch):
    """A cluster of two worker processes, one of which is killed in the middle of a run: (its address, who was killed)."""
    killed, done = [], threading.Event()

    def kill_one(scheduler):
        with distributed.Client(scheduler, set_as_default=False) as client:
            pids = client.run(os.getpid)
            while not killed and not done.is_set():  # no deadline: compilation alone may take minutes
                begun = [p for p in scratch.glob("agl-ablation-*/metrics.jsonl") if p.stat().st_size]
                busy = [worker for worker, tasks in client.processing().items() if tasks]
                if begun and busy:  # a run has finished an epoch, and is not at its end
                    os.kill(pids[busy[0]], signal.SIGKILL)
                    killed.append(busy[0])
                time.sleep(0.05)

    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        killer = threading.Thread(target=kill_one, args=(cluster.scheduler_address,))
        killer.start()
        try:
            yield cluster.scheduler_address, killed
        finally:
            done.set()
            killer.join()


def test_a_worker_dies_and_its_run_is_repeated_not_lost(experiments, scratch, tmp_path):
    with one_worker_dies(scratch) as (address, killed):
        records = ablation.run(experiments, tmp_path / "cluster", dask=address, progress=False)
    assert killed
    assert [p for p in scratch.glob("agl-ablation-*")], "the killed attempt should have left its folder behind"
    alone = ablation.run(experiments, tmp_path / "alone", jobs=1, progress=False)
    assert len(alone) == 4 and {k: r["curve"] for k, r in records.items()} == {k: r["curve"] for k, r in alone.items()}


def test_a_run_whose_workers_always_die_is_one_line(arm, scratch, tmp_path, monkeypatch, capsys):
    import dask

    monkeypatch.setitem(ablation.EXPERIMENTS, "depth", ablation.Experiment("?", {"a": arm}, widths=("adaptive",)))
    with dask.config.set({"distributed.scheduler.allowed-failures": 0}), one_worker_dies(scratch) as (address, killed):
        command = ["ablation", "--experiments", "depth", "--dask", address, "--json", "--out", str(tmp_path / "out")]
        code = cli.main(command)
    assert killed and code == FAILED
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("agl-ref")]
    assert len(lines) == 1 and "a worker process was killed" in lines[0] and "same command" in lines[0]


def test_threads_of_one_worker_compute_what_one_computes_alone(experiments, tmp_path):
    before = [info["num_threads"] for info in threadpool_info()], list(warnings.filters)
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=4, processes=False, dashboard_address=None
    ) as cluster:
        records = ablation.run(experiments, tmp_path / "cluster", dask=cluster.scheduler_address, progress=False)
    assert ([info["num_threads"] for info in threadpool_info()], list(warnings.filters)) == before
    alone = ablation.run(experiments, tmp_path / "alone", jobs=1, progress=False)
    assert len(alone) == 4 and {k: r["curve"] for k, r in records.items()} == {k: r["curve"] for k, r in alone.items()}


def test_an_address_without_a_scheduler_is_one_line(experiments, tmp_path):
    with pytest.raises(ValueError, match="--dask: expected the address of a running scheduler"):
        ablation.run(experiments, tmp_path, dask="tcp://127.0.0.1:1", progress=False)
