"""Kernels on the disk: used again if nothing changed, compiled if a function that they call did or they cannot be read."""

import os
import subprocess
import sys

import numba
import pytest

pytestmark = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without the JIT nothing is compiled")

INNER = """
from agl_ref.engine.jit import inner

@inner
def change(x):
    return x + {}
"""
MIDDLE = """
from agl_ref.engine.jit import inner
from changing import change

@inner
def twice(x):
    return change(change(x))
"""
KERNEL = """
import resource
import sys

import numpy as np
from numba.core import caching

if "nowhere" in sys.argv:  # as in a read-only package without a home folder
    caching.CacheImpl._locator_classes = []
if "full" in sys.argv:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
from agl_ref.engine.jit import kernel
from middle import twice


@kernel
def run(first, last, x, y):
    for i in range(first, last):
        y[i] = twice(x[i])


@kernel
def other(first, last, x, y):
    for i in range(first, last):
        y[i] = twice(x[i])


for dtype in (np.float32, np.float64):
    x, y = np.zeros(2, dtype), np.empty(2, dtype)
    run(0, 2, x, y)
    other(0, 2, x, y)
    print(y[0])
print(sum(run.stats.cache_hits.values()))
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """`run`, and the files of its folder once it has run: {path: (content, time of the last change)}."""
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "calling.py").write_text(KERNEL)
    (folder / "middle.py").write_text(MIDDLE)
    (folder / "changing.py").write_text(INNER.format(1))
    paths = [str(folder), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "NUMBA_CACHE_DIR": str(folder / "cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }

    def run(*words):
        command = [sys.executable, "calling.py", *words]
        done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        return done.stdout.split(), done.stderr

    run.folder, run.cache = folder, lambda pattern: sorted((folder / "cache").rglob(pattern))
    assert run() == (["2.0", "2.0", "0"], "")
    return run, {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in folder.rglob("*.*")}


@pytest.fixture
def run(compiled):
    """Runs the program; its kernels lie compiled on the disk, as after one run."""
    run, files = compiled
    for path in set(run.cache("*.nb?")) - set(files):
        path.unlink()
    for path, (content, changed) in files.items():
        path.write_bytes(content)
        os.utime(path, ns=(changed, changed))
    return run


@pytest.fixture
def run_anew(run):
    """`run`, with nothing compiled."""
    for path in run.cache("*.nb?"):
        path.unlink()
    return run


def assert_one_line(stderr, *words):
    """One warning, which names the folder and NUMBA_CACHE_DIR (Python adds the line of code that it came from)."""
    assert stderr.count("Warning") == 1, stderr
    for word in ("NUMBA_CACHE_DIR", *words):
        assert word in stderr, (word, stderr)


def test_a_changed_file_that_a_kernel_calls_is_compiled_again(run):
    assert run() == (["2.0", "2.0", "2"], "")
    (run.folder / "changing.py").write_text(INNER.format(2))  # a function of a function that the kernel calls
    assert run() == (["4.0", "4.0", "0"], "")
    assert run() == (["4.0", "4.0", "2"], "")


@pytest.mark.parametrize("files, damage", [
    ("*.nbi", "cut"), pytest.param("*.nbi", "foreign", marks=pytest.mark.slow),
    pytest.param("*.nbc", "empty", marks=pytest.mark.slow), ("*.nbc", "foreign"),
])  # fmt: skip
def test_a_damaged_cache_is_an_absent_one(files, damage, run):
    for path in run.cache(files):
        whole = path.read_bytes()
        path.write_bytes({"empty": b"", "cut": whole[: len(whole) // 2], "foreign": b"cbuiltins\nabsent\n."}[damage])
    out, err = run()
    assert out[:2] == ["2.0", "2.0"]
    assert_one_line(err, str(run.folder / "cache"))


def test_code_for_other_types_is_not_used(run):
    """Two processes that compile at once may both write the file that one's index names."""
    first, second = run.cache("calling.run-*.nbc")
    code = first.read_bytes(), second.read_bytes()
    first.write_bytes(code[1])
    second.write_bytes(code[0])
    assert run() == (["2.0", "2.0", "0"], "")


def test_without_a_folder_to_write_to_kernels_are_compiled_in_memory(run_anew):
    out, err = run_anew("nowhere")
    assert out == ["2.0", "2.0", "0"]
    assert_one_line(err)
    assert not run_anew.cache("*.nb?")


def test_with_a_full_disk_kernels_are_compiled_in_memory(run_anew):
    out, err = run_anew("full")
    assert out == ["2.0", "2.0", "0"]
    assert_one_line(err, str(run_anew.folder / "cache"))
