"""The JIT options of all kernels, and BLAS held to one thread.

Two rules give the same bits on every run and with any number of threads: `prange` runs only over independent
outputs, cut into chunks whose size depends on the shape alone; and each matrix product inside such a chunk is
computed by one thread (OpenBLAS rounds differently with one and with two).
"""

import ctypes
import functools
import os
import platform
from pathlib import Path

# GNU OpenMP's waiting threads spin for a while before they sleep. Where another process wants the same core, each
# parallel loop then lasts until the scheduler's next turn, and training takes several times as long. Spin briefly.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import numba


def _keep_freed_memory():
    """Ask glibc to keep large freed blocks for the next array of that size.

    By default an array of more than 32 MB is fresh from the system every time, and the first touch of each of its
    pages stops for the kernel: where a layer's arrays are that large, norms, neurons and pools take two to five times as
    long. Without glibc nothing is done.
    """
    if platform.libc_ver()[0] == "glibc":
        TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 2**26)


_keep_freed_memory()

# Loops become parallel where a kernel says `prange`, and nowhere else. fastmath is never on: it would let the compiler
# reorder sums. A wrapper to call a kernel from C would only take time to compile.
PRANGE = {"prange": True} | dict.fromkeys(
    ("comprehension", "fusion", "inplace_binop", "numpy", "reduction", "setitem", "stencil"), False
)
JIT = {"parallel": PRANGE, "cache": True, "fastmath": False, "error_model": "numpy", "no_cfunc_wrapper": True}
SERIAL_JIT = {**JIT, "parallel": False, "cache": False}  # a kernel's cached code holds the functions that it calls


@functools.cache
def _controller():
    import scipy.linalg.blas  # noqa: F401  the BLAS that numba's np.dot calls; it must be loaded to be limited
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def one_blas_thread():
    """Context manager: every BLAS call inside is made by the calling thread alone."""
    return _controller().limit(limits=1, user_api="blas")


def rows_at_once(matrix, most):
    """How many rows a kernel multiplies by a matrix of this many elements in one product.

    OpenBLAS multiplies up to 10^6 numbers where they are and copies the matrices first where there are more, which a product
    of few rows does not repay: fewer rows, then, if the matrix leaves room for at least 32.
    """
    rows = 10**6 // matrix
    return min(rows, most) if rows >= 32 else most


def kernel(function):
    """Compile a kernel whose outer loop is a `prange`. With NUMBA_DISABLE_JIT=1 it stays plain Python."""
    return numba.njit(**JIT)(function)


def kernel_with(*files):
    """`kernel` for a function that calls functions of these files, given from its own file's folder, beside its own.

    Numba uses compiled code again as long as the kernel's own file is unchanged. Here what it compiled before one of the
    other files was changed is dropped too.
    """

    def compile_later(function):
        compiled = kernel(function)
        if not numba.config.DISABLE_JIT:
            own = Path(function.__code__.co_filename)
            changed = max((own.parent / file).stat().st_mtime_ns for file in files)
            for index in Path(compiled.stats.cache_path).glob(f"{own.stem}.{function.__qualname__}-*.nbi"):
                if index.stat().st_mtime_ns < changed:
                    index.unlink(missing_ok=True)
        return compiled

    return compile_later


def inner(function):
    """Compile a function that kernels call inside their parallel loop."""
    return numba.njit(**SERIAL_JIT)(function)
