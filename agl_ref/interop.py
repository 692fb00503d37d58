"""The border to other frameworks: array layouts. The engine itself is always "TN..C".

"TN..C"  (T, N, H, W, C) or (T, N, F)   agl_ref
"NTC.."  (N, T, C, H, W) or (N, T, F)   the official implementation
"TNC.."  (T, N, C, H, W) or (T, N, F)   most frameworks
"""

import numpy as np

from . import _check
from .conventions import Conventions

LAYOUTS = Conventions.choices()["axis_order"]


def _check_layout(x, axis_order):
    _check.one_of("axis_order", axis_order, LAYOUTS)
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x: expected a NumPy array, received {type(x).__name__}; use np.asarray")
    if x.ndim < 3:
        raise ValueError(f"x: expected at least 3 axes (time, batch, features), received shape {x.shape}; add axes")


def from_layout(x, axis_order):
    """An array in another layout as (T, N, ..., C), contiguous; values and dtype are kept.

    Raises ValueError for an unknown layout or fewer than 3 axes.

    Examples
    --------
    >>> import numpy as np
    >>> from_layout(np.zeros((8, 4, 3, 32, 28)), "NTC..").shape  # N, T, C, H, W
    (4, 8, 32, 28, 3)
    """
    _check_layout(x, axis_order)
    if axis_order == "NTC..":
        x = x.swapaxes(0, 1)
    return np.ascontiguousarray(x if axis_order == "TN..C" else np.moveaxis(x, 2, -1))


def to_layout(x, axis_order):
    """The inverse of `from_layout`: (T, N, ..., C) in another layout, contiguous. Errors as there."""
    _check_layout(x, axis_order)
    if axis_order != "TN..C":
        x = np.moveaxis(x, -1, 2)
    return np.ascontiguousarray(x.swapaxes(0, 1) if axis_order == "NTC.." else x)


def conv_weight_to_torch(weight):
    """(kh, kw, C_in, C_out) to PyTorch's (C_out, C_in, kh, kw), contiguous."""
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


def conv_weight_from_torch(weight):
    """PyTorch's (C_out, C_in, kh, kw) to (kh, kw, C_in, C_out), contiguous."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
