"""Kernels on the disk: used again if nothing changed, compiled again if a function that they call did."""

import os
import subprocess
import sys

import numba
import pytest

INNER = """
from agl_ref.engine.jit import inner

@inner
def change(x):
    return x + {}
"""
KERNEL = """
import sys
import numpy as np
from numba import prange
from agl_ref.engine.jit import kernel_with
from changing import change

@kernel_with("changing.py")
def run(x, y):
    for i in prange(x.size):
        y[i] = change(x[i])

y = np.empty(2)
run(np.zeros(2), y)
print(y[0], sum(run.stats.cache_hits.values()))
"""


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without the JIT nothing is compiled")
def test_a_changed_file_that_a_kernel_calls_is_compiled_again(tmp_path):
    (tmp_path / "calling.py").write_text(KERNEL)
    paths = [str(tmp_path), os.getcwd(), os.environ.get("PYTHONPATH", "")]
    env = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in paths if p),
        "NUMBA_CACHE_DIR": str(tmp_path / "cache"),
    }

    def run():
        command = [sys.executable, "-c", "import calling"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout.split()

    (tmp_path / "changing.py").write_text(INNER.format(1))
    assert run() == ["1.0", "0"]
    assert run() == ["1.0", "1"]
    (tmp_path / "changing.py").write_text(INNER.format(2))
    assert run() == ["2.0", "0"]
