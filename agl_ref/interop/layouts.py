"""Layouts of arrays, with NumPy alone. The engine itself is always "TN..C".

"TN..C"  (T, N, H, W, C) or (T, N, F)   agl_ref
"NT..C"  (N, T, H, W, C) or (N, T, F)
"TNC.."  (T, N, C, H, W) or (T, N, F)   most frameworks
"NTC.."  (N, T, C, H, W) or (N, T, F)   the official implementation

    weight     agl_ref                PyTorch
    conv       (kh, kw, C_in, C_out)  (C_out, C_in, kh, kw)
    linear     (F_in, F_out)          (F_out, F_in)
"""

import numpy as np

from agl_ref import validate

LAYOUTS = ("TN..C", "NT..C", "TNC..", "NTC..")


def axes_from_layout(ndim, layout):
    """[axis of an array in this layout, for each axis of (T, N, ..., C)], by which the one is transposed to the other."""
    axes = list(range(ndim))
    if not layout.endswith("C") and ndim > 3:
        axes.append(axes.pop(2))
    if layout.startswith("NT"):
        axes[:2] = 1, 0
    return axes


def weight_axes_from_torch(ndim):
    """[axis of a PyTorch weight, for each axis of ours]; vectors and numbers stay as they are."""
    return [2, 3, 1, 0] if ndim == 4 else list(range(ndim))[::-1]


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
    return np.ascontiguousarray(x.transpose(axes_from_layout(x.ndim, axis_order)))


def to_layout(x, axis_order):
    """The inverse of `from_layout`: (T, N, ..., C) in another layout, contiguous. Errors as there."""
    _check_layout(x, axis_order)
    return np.ascontiguousarray(x.transpose(np.argsort(axes_from_layout(x.ndim, axis_order))))


def _check_layout(x, axis_order):
    validate.one_of("axis_order", axis_order, LAYOUTS)
    validate.instance("x", x, np.ndarray, "use np.asarray")
    if x.ndim < 3:
        raise ValueError(f"x: expected at least 3 axes (time, batch, features), received shape {x.shape}; add axes")


def weight_to_torch(weight):
    """A weight of a convolution or a linear layer in PyTorch's layout: a view."""
    return weight.transpose(np.argsort(weight_axes_from_torch(weight.ndim)))


def weight_from_torch(weight):
    """The inverse of `weight_to_torch`."""
    return weight.transpose(weight_axes_from_torch(weight.ndim))


def conv_weight_to_torch(weight):
    """(kh, kw, C_in, C_out) to PyTorch's (C_out, C_in, kh, kw), contiguous."""
    return np.ascontiguousarray(weight_to_torch(_checked(weight)))


def conv_weight_from_torch(weight):
    """PyTorch's (C_out, C_in, kh, kw) to (kh, kw, C_in, C_out), contiguous."""
    return np.ascontiguousarray(weight_from_torch(_checked(weight)))


def _checked(weight):
    if validate.float_array("weight", weight).ndim != 4:
        raise ValueError(f"weight: expected four axes, received shape {weight.shape}; pass a convolution's")
    return weight
