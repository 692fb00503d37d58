"""Inputs of layers in one byte a number: most are spikes, sums of spikes, or means of four."""

import numpy as np

WORTH_PACKING = 2**22  # bytes: smaller inputs of layers are kept as they are
PIECE = 2**16  # numbers that are packed at a time


def in_bytes(x):
    """4 x as uint8 if that is exact, as for spikes, their sums and their means over 2x2; otherwise, or if x is small, x."""
    if x.nbytes < WORTH_PACKING:
        return x
    flat, small, bits = x.reshape(-1), np.empty(x.size, np.uint8), f"u{x.dtype.itemsize}"
    with np.errstate(invalid="ignore", over="ignore"):
        for i in range(0, x.size, PIECE):  # no other array as large as x
            times_4, part = flat[i : i + PIECE] * x.dtype.type(4), small[i : i + PIECE]
            np.copyto(part, times_4, casting="unsafe")
            if not np.array_equal(part.astype(x.dtype).view(bits), times_4.view(bits)):  # -0.0 is not 0.0
                return x
    return small.reshape(x.shape)


def from_bytes(x, dtype):
    """The inverse of `in_bytes`, in x's former dtype."""
    return x * dtype.type(0.25) if x.dtype == np.uint8 else x
