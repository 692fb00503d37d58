"""The linear map y = x W + b over the last axis, weight (F_in, F_out): C1 to C4 for an image of one pixel."""

from typing import NamedTuple

import numpy as np

from .parallel import one_blas_thread


class LinearCache(NamedTuple):
    """x (..., F_in), weight (F_in, F_out); whether there was a bias."""

    x: np.ndarray
    weight: np.ndarray
    has_bias: bool


def forward(x, weight, bias):
    """`agl_ref.linear_forward` without validation."""
    weight = np.ascontiguousarray(weight)  # BLAS adds in another order when it lies otherwise
    with one_blas_thread():
        y = np.ascontiguousarray(x).reshape(-1, x.shape[-1]) @ weight  # (C1)
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1]), LinearCache(x, weight, bias is not None)


def backward(dy, cache, need_dx=True):
    """`agl_ref.linear_backward` without validation."""
    x, weight, has_bias = cache.x, np.ascontiguousarray(cache.weight), cache.has_bias
    flat_x = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    flat_dy = np.ascontiguousarray(dy).reshape(-1, weight.shape[1])
    with one_blas_thread():
        dweight = flat_x.T @ flat_dy  # (C2)
        dx = (flat_dy @ weight.T).reshape(x.shape) if need_dx else None  # (C3)
    return dx, dweight, flat_dy.sum(axis=0) if has_bias else None  # (C4)
