"""The linear pair: y = x W + b over the last axis, weight (F_in, F_out)."""

from typing import NamedTuple

import numpy as np

from agl_ref import validate

from .jit import one_blas_thread


class LinearCache(NamedTuple):
    """x (..., F_in), weight (F_in, F_out); whether there was a bias."""

    x: np.ndarray
    weight: np.ndarray
    has_bias: bool


def _forward(x, weight, bias):
    with one_blas_thread():
        y = np.ascontiguousarray(x).reshape(-1, x.shape[-1]) @ weight
    if bias is not None:
        y += bias
    return y.reshape(*x.shape[:-1], weight.shape[1]), LinearCache(x, weight, bias is not None)


def _backward(dy, cache, need_dx=True):
    x, weight, has_bias = cache
    flat_x = np.ascontiguousarray(x).reshape(-1, x.shape[-1])
    flat_dy = np.ascontiguousarray(dy).reshape(-1, weight.shape[1])
    with one_blas_thread():
        dweight = flat_x.T @ flat_dy
        dx = (flat_dy @ weight.T).reshape(x.shape) if need_dx else None
    return dx, dweight, flat_dy.sum(axis=0) if has_bias else None


def linear_forward(x, weight, bias=None):
    """y = x W + b.

    Parameters
    ----------
    x : ndarray (..., F_in), float32 or float64
    weight : ndarray (F_in, F_out), x's dtype
    bias : ndarray (F_out,), optional

    Returns
    -------
    y : ndarray (..., F_out)
    cache : LinearCache

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, another dtype, values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> linear_forward(np.array([[1.0, 2.0]]), np.array([[1.0], [0.5]]), np.array([0.25]))[0]
    array([[2.25]])
    """
    validate.float_array("x", x, min_ndim=2)
    validate.float_array("weight", weight, min_ndim=2, dtype=x.dtype)
    if weight.ndim != 2 or weight.shape[0] != x.shape[-1]:
        raise ValueError(
            f"weight: expected shape ({x.shape[-1]}, F_out) for x of shape {x.shape}, received {weight.shape}; "
            "PyTorch's (F_out, F_in) needs a transpose"
        )
    if bias is not None:
        validate.float_array("bias", bias, dtype=x.dtype)
        validate.same_shape("bias", bias, weight.shape[1:], "the outputs")
    return _forward(x, weight, bias)


def linear_backward(dy, cache, need_dx=True):
    """dx = dy W^T;  dweight = x^T dy;  dbias = sum(dy), with the leading axes flattened.

    Returns (dx, dweight, dbias); dx is None if not needed, dbias is None without a bias. Raises as the forward.
    """
    validate.cache_of(cache, LinearCache, "linear_forward")
    validate.float_array("dy", dy, dtype=cache.x.dtype)
    validate.same_shape("dy", dy, (*cache.x.shape[:-1], cache.weight.shape[1]), "the forward's y")
    return _backward(dy, cache, need_dx)
