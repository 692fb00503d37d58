"""The JIT options of all kernels, and their compiled code on the disk."""

import contextlib
import warnings

import numba
from numba.core.caching import FunctionCache, IndexDataCacheFile

# A kernel releases Python's lock, so that several threads can run it (`agl_ref.engine.parallel`). fastmath is never on: it
# would let the compiler reorder sums. A wrapper to call a kernel from C would only take time to compile.
JIT = {"nogil": True, "fastmath": False, "error_model": "numpy", "no_cfunc_wrapper": True}


def maker(function):
    """Compile a function that kernels call and that makes arrays. With NUMBA_DISABLE_JIT=1 it stays plain Python."""
    return numba.njit(**JIT)(function)


def inner(function):
    """The same for one that makes none and returns none, and does without Numba's counts of who uses an array.

    Counting takes longer than the work on a row of numbers: loops that take rows out of arrays belong into such a function,
    or into a `kernel`.
    """
    return numba.njit(**JIT, _nrt=False)(function)


def kernel(function):
    """Compile a serial loop over the chunks first..last-1, its first two arguments, and keep the code on the disk.

    It makes no arrays and is compiled as `inner` is.
    """
    return _kept(inner(function))


def kernel_with_memory(function):
    """The same for one that makes arrays to work in, or multiplies matrices."""
    return _kept(maker(function))


def _kept(compiled):
    if not numba.config.DISABLE_JIT:
        with _in_memory_alone_if_it_fails(numba.config.CACHE_DIR or "beside the package and in the home folder"):
            compiled._cache = _KernelCache(compiled.py_func)
    return compiled


class _KernelCache(FunctionCache):
    """Numba's folder of compiled code. What cannot be read is compiled, and what cannot be written stays in memory.

    Numba uses compiled code again as long as the kernel's own file is unchanged; here also the files of the functions
    that it calls must be, and this one with the options.
    """

    def __init__(self, function):
        super().__init__(function)
        stamps = sorted(self._impl_class(called).locator.get_source_stamp() for called in {*_called(function), maker})
        self._cache_file = IndexDataCacheFile(self.cache_path, self._impl.filename_base, stamps)

    def load_overload(self, sig, target_context):
        with _in_memory_alone_if_it_fails(self.cache_path):
            found = super().load_overload(sig, target_context)
            # Two processes that compile at once can write one file each's index names.
            return found if found is None or found.signature.args == sig else None

    def save_overload(self, sig, data):
        with _in_memory_alone_if_it_fails(self.cache_path):
            super().save_overload(sig, data)


def _called(function):
    """A function and all compiled ones that it calls, by name, directly or not."""
    found, todo = set(), [function]
    while todo:
        one = todo.pop()
        found.add(one)
        values = (one.__globals__.get(name) for name in one.__code__.co_names)
        todo += [value.py_func for value in values if hasattr(value, "py_func") and value.py_func not in found]
    return found


@contextlib.contextmanager
def _in_memory_alone_if_it_fails(folder):
    """Whatever is wrong with the folder, damaged files, no permission or a full disk, is one warning."""
    try:
        yield
    except Exception as error:  # unpickling a damaged file raises nearly anything
        if not _warned:
            _warned.append(True)
            warnings.warn(
                f"agl_ref cannot keep its compiled kernels in {folder} ({type(error).__name__}: {error}) and compiles them "
                "in each process; set NUMBA_CACHE_DIR to a folder of your own, or remove the .nbi and .nbc files there",
                RuntimeWarning,
                stacklevel=2,
            )


_warned = []  # once in a process


def rows_at_once(matrix, most):
    """How many rows a kernel multiplies by a matrix of this many elements in one product.

    OpenBLAS multiplies up to 10^6 numbers where they are and copies the matrices first where there are more, which a product
    of few rows does not repay: fewer rows, then, if the matrix leaves room for at least 32.
    """
    rows = 10**6 // matrix
    return min(rows, most) if rows >= 32 else most
