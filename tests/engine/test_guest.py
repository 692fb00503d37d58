"""A guest in its process: settings stay as they were; threads, forks and interruptions give the bits of one thread alone.

Each test runs a program of its own with a time limit, since what can go wrong is a hang or the end of the process.
"""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numba
import pytest

import agl_ref

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="without the JIT there is one thread, and it is slow"
)

STEPS = """
import hashlib

import numpy as np
from threadpoolctl import threadpool_info

import agl_ref as agl


def digest(seed):
    '''Train for three steps: dense, Winograd's and spike-driven convolutions, several chunks of neurons.'''
    rng = np.random.default_rng(seed)
    net = agl.models.conv_snn(channels=(48, 48, 64), dtype=np.float32, seed=seed)
    optimiser, found = agl.optim.SGD(net.parameters(), lr=0.1), hashlib.sha256()
    for _ in range(3):
        x = np.repeat(rng.random((1, 12, 28, 28, 1), np.float32), 2, axis=0)
        result = net.loss_and_grads(x, rng.integers(0, 10, 12))
        optimiser.step(result.grads)
        found.update(result.logits.tobytes())
        for name in sorted(result.grads):
            found.update(result.grads[name].tobytes())
    return found.hexdigest()


def blas_threads():
    return sorted((i["filepath"], i["num_threads"]) for i in threadpool_info() if i["user_api"] == "blas")
"""

SETTINGS = """
import ctypes, decimal, gc, locale, logging, os, random, signal, sys, threading, warnings
import numpy as np
import scipy.linalg.blas
from threadpoolctl import threadpool_info


class Mallinfo(ctypes.Structure):
    _fields_ = [(f"n{i}", ctypes.c_int) for i in range(10)]


def mapped_by_malloc():
    '''How many mappings of its own glibc makes for a large block: none after mallopt(M_MMAP_MAX, 0).'''
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "mallinfo"):
        return None
    libc.mallinfo.restype, libc.malloc.restype, libc.free.argtypes = Mallinfo, ctypes.c_void_p, [ctypes.c_void_p]
    before = libc.mallinfo().n3
    block = libc.malloc(100 << 20)
    made = libc.mallinfo().n3 - before
    libc.free(block)
    return made


def settings():
    return {
        "environment": dict(os.environ),
        "BLAS threads": sorted((i["filepath"], i["num_threads"]) for i in threadpool_info()),
        "warnings": list(map(str, warnings.filters)),
        "NumPy's errors": (np.geterr(), np.geterrcall()),
        "NumPy's printing": str(np.get_printoptions()),
        "NumPy's random numbers": str(np.random.get_state()),
        "random": random.getstate(),
        "signals": {s: str(signal.getsignal(s)) for s in signal.valid_signals()},
        "blocked signals": signal.pthread_sigmask(signal.SIG_BLOCK, []),
        "locale": locale.setlocale(locale.LC_ALL),
        "allocator": mapped_by_malloc(),
        "garbage": (gc.isenabled(), gc.get_threshold()),
        "interpreter": (sys.getswitchinterval(), sys.getrecursionlimit(), list(sys.path), os.getcwd()),
        "hooks": (sys.excepthook, threading.excepthook, sys.unraisablehook, sys.displayhook, warnings.showwarning),
        "streams": (sys.stdin, sys.stdout, sys.stderr),
        "logging": (logging.root.level, list(logging.root.handlers)),
        "decimal": str(decimal.getcontext()),
    }


def assert_as_before():
    after = settings()
    for name in before:
        assert after[name] == before[name], (name, before[name], after[name])


before = settings()
"""


def run(folder, *parts, limit=300, **settings):
    """Output of a program, run as a file, with two threads of kernels and of BLAS."""
    (folder / "program.py").write_text("\n".join(map(textwrap.dedent, parts)))
    paths = [str(Path(agl_ref.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    threads = {"NUMBA_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    env = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **settings}
    command = [sys.executable, "program.py"]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=limit)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.split()


def test_import_and_training_steps_leave_every_setting_as_it_was(tmp_path):
    program = """
    assert_as_before()
    digest(0)
    assert_as_before()
    print(before["allocator"])
    """
    assert run(tmp_path, SETTINGS, STEPS, program) in (["None"], ["1"])


def test_threads_that_train_different_networks_compute_the_bits_of_one_alone(tmp_path):
    """Threads of Python's own, then those of joblib."""
    program = """
    from threading import Thread

    from joblib import Parallel, delayed

    alone, before, together = [digest(seed) for seed in range(4)], blas_threads(), {}
    workers = [Thread(target=lambda seed=seed: together.update({seed: digest(seed)})) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [together[seed] for seed in range(4)] == alone and len(set(alone)) == 4
    assert blas_threads() == before and {n for _, n in before} == {2}, (before, blas_threads())
    assert Parallel(n_jobs=4, backend="threading")(delayed(digest)(seed) for seed in range(4)) == alone
    assert blas_threads() == before
    print("same")
    """
    assert run(tmp_path, STEPS, program) == ["same"]


def test_a_fork_after_kernels_have_run_computes_the_same_bits_in_parent_and_child(tmp_path):
    program = """
    import os, threading, time, warnings

    warnings.simplefilter("error")  # Python 3.12 warns of a fork while other threads run
    alone = digest(0)
    assert any(thread.name == "agl_ref kernels" for thread in threading.enumerate())
    for _ in range(2):
        if not (child := os.fork()):
            os._exit(0 if digest(0) == alone else 1)
        end = time.monotonic() + 100
        while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < end:
            time.sleep(0.05)
        if ended[0] == 0:
            os.kill(child, 9)
        assert ended == (child, 0), ended
        assert digest(0) == alone
    print("same")
    """
    assert run(tmp_path, STEPS, program) == ["same"]


@pytest.mark.parametrize(
    "method", ["spawn", *(pytest.param(m, marks=pytest.mark.slow) for m in ("fork", "forkserver"))]
)
def test_processes_of_a_pool_compute_the_bits_of_one_alone(method, tmp_path):
    program = f"""
    import multiprocessing

    if __name__ == "__main__":
        alone = [digest(seed) for seed in range(3)]
        with multiprocessing.get_context("{method}").Pool(2) as pool:
            assert pool.map(digest, range(3)) == alone
        print("same")
    """
    assert run(tmp_path, STEPS, program) == ["same"]


def test_interruptions_leave_settings_and_bits_as_they_were(tmp_path):
    """As Ctrl-C and a notebook's interrupt: the signal comes at any time."""
    program = """
    import os, random, signal, threading

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a process in the background may ignore it from the start
    alone, before, interrupted = digest(0), blas_threads(), 0
    for i in range(30):
        timer = threading.Timer(random.Random(i).uniform(0.001, 0.1), os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            digest(1)
            timer.join()
        except KeyboardInterrupt:
            interrupted += 1
        timer.join()
    assert interrupted > 10, interrupted
    assert digest(0) == alone
    assert blas_threads() == before, (before, blas_threads())
    print("same")
    """
    assert run(tmp_path, STEPS, program) == ["same"]


def test_a_sub_interpreter_is_refused_with_a_clear_word(tmp_path):
    interpreters = pytest.importorskip("_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters")
    del interpreters
    program = """
    import sys

    if sys.version_info < (3, 13):
        import _xxsubinterpreters as interpreters
    else:
        import _interpreters as interpreters
    try:
        error = interpreters.run_string(interpreters.create(), "import agl_ref.engine")
    except interpreters.RunFailedError as failed:
        error = failed
    print(error)
    """
    assert "sub-interpreter" in " ".join(run(tmp_path, program))
