"""Memory that is freed and needed again: what glibc learns by itself, and what the owner of a process may ask of it.

By default glibc takes a large array fresh from the system every time, and the first touch of each of its pages stops for the
kernel: norms, neurons and pools then take two to five times as long.
"""

import ctypes
import functools
import platform

import numpy as np


@functools.cache
def show_a_large_array():
    """Make an array of nearly 32 MB and drop it, once. No setting is made: glibc learns from what is freed.

    From then on it takes arrays of up to that size from memory that was freed, of which it keeps up to twice that size. A
    network's own arrays teach it the same, but only for their size, and what is kept of the memory is then less than a step
    needs again.
    """
    np.empty(2**25 - 2**16, np.uint8)


def keep_freed_memory():
    """Ask glibc to keep all freed memory, of arrays above 32 MB too. Elsewhere nothing is done.

    A setting of the whole process, which only its owner may make: the command `agl-ref` does before it trains, a program of
    your own may, and importing the library does not.
    """
    if platform.libc_ver()[0] == "glibc":
        TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 2**26)
