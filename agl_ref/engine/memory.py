"""glibc asked to keep freed memory: a setting of the whole process, which only its owner may make."""

import ctypes
import platform


def keep_freed_memory():
    """Ask glibc to keep large freed blocks for the next array of that size. Elsewhere nothing is done.

    By default an array of more than 32 MB is fresh from the system every time, and the first touch of each of its
    pages stops for the kernel: where a layer's arrays are that large, norms, neurons and pools take two to five times as
    long. The command `agl-ref` does this before it trains; a program of your own may, and importing the library does not.
    """
    if platform.libc_ver()[0] == "glibc":
        TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_MAX, 0)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(TOP_PAD, 2**26)
