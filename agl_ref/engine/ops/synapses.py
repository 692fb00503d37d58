"""Convolution, linear layer and pools, validated. Their sums are in `agl_ref.engine.conv` and `agl_ref.engine.linear`."""

import numpy as np

from agl_ref import validate
from agl_ref.engine import conv, linear


def conv2d_forward(x, weight, bias=None, stride=1, padding=0, path="auto"):
    """Convolution (cross-correlation, as in every framework) over the last three axes of x.

    Parameters
    ----------
    x : ndarray (..., H, W, C_in), float32 or float64
        Leading axes, such as T and N, are kept.
    weight : ndarray (kh, kw, C_in, C_out), x's dtype, kh and kw odd
    bias : ndarray (C_out,), optional
    stride : int >= 1
    padding : int >= 0
        Zeros on each side.
    path : {"auto", "dense", "winograd", "spikes"}
        "auto" counts the nonzero inputs and decides; "winograd" is for 3x3, stride 1, padding up to 2.

    Returns
    -------
    y : ndarray (..., Ho, Wo, C_out)
    cache : ConvCache

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, an even kernel, another dtype, values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> y, _ = conv2d_forward(np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1)), padding=1)
    >>> y[0, :, :, 0]
    array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]])
    """
    validate.float_array("x", x, min_ndim=4)
    validate.float_array("weight", weight, dtype=x.dtype)
    stride = validate.integer("stride", stride)
    padding = validate.integer("padding", padding, low=0)
    validate.one_of("path", path, ("auto", "dense", "winograd", "spikes"))
    if weight.ndim != 4 or weight.shape[2] != x.shape[-1]:
        raise ValueError(
            f"weight: expected shape (kh, kw, {x.shape[-1]}, C_out) for x of shape {x.shape}, received {weight.shape}; "
            "arrays are channels-last, PyTorch's (C_out, C_in, kh, kw) needs .transpose(2, 3, 1, 0)"
        )
    if weight.shape[0] % 2 == 0 or weight.shape[1] % 2 == 0:
        raise ValueError(f"weight: expected an odd kernel, received {weight.shape[:2]}; pad the kernel with zeros")
    if min(conv.geometry_of(x.shape, weight.shape, stride, padding)[4:]) < 1:
        raise ValueError(
            f"x: expected height and width of at least the kernel {weight.shape[:2]} with padding {padding}, received "
            f"{x.shape[-3:-1]}; add padding"
        )
    if path == "winograd" and (weight.shape[:2] != (3, 3) or stride != 1 or padding > 2):
        raise ValueError(
            f'path: expected "winograd" with a 3x3 kernel, stride 1 and padding 0..2, received {weight.shape[:2]}, stride '
            f'{stride}, padding {padding}; use "auto"'
        )
    if bias is not None:
        validate.float_array("bias", bias, dtype=x.dtype)
        validate.same_shape("bias", bias, weight.shape[3:], "the output channels")
    return conv.forward(x, weight, bias, stride, padding, path)


def conv2d_backward(dy, cache, need_dx=True):
    """Backward of `conv2d_forward`, by the sums at the top of engine/conv.py.

    Parameters
    ----------
    dy : ndarray, shape and dtype of y
    cache : ConvCache
    need_dx : bool
        The first layer of a network needs no gradient of its input.

    Returns
    -------
    dx (shape of x, or None), dweight (kh, kw, C_in, C_out), dbias (C_out,) or None without a bias
    """
    validate.cache_of(cache, conv.ConvCache, "conv2d_forward")
    x_shape, w_shape = np.shape(cache.x), np.shape(cache.weight)
    validate.cache_arrays(cache, {"x": x_shape, "weight": (*w_shape[:2], *x_shape[-1:], *w_shape[3:])})
    geometry = conv.geometry_of(cache.x.shape, cache.weight.shape, cache.stride, cache.padding)
    validate.gradient(dy, (*cache.x.shape[:-3], geometry.Ho, geometry.Wo, cache.weight.shape[3]), cache.x.dtype)
    return conv.backward(dy, cache, validate.boolean("need_dx", need_dx))


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
    return linear.forward(x, weight, bias)


def linear_backward(dy, cache, need_dx=True):
    """dx = dy W^T;  dweight = x^T dy;  dbias = sum(dy), with the leading axes flattened.

    Returns (dx, dweight, dbias); dx is None if not needed, dbias is None without a bias. Raises as the forward.
    """
    validate.cache_of(cache, linear.LinearCache, "linear_forward")
    x_shape, w_shape = np.shape(cache.x), np.shape(cache.weight)
    validate.cache_arrays(cache, {"x": x_shape, "weight": (*x_shape[-1:], *w_shape[1:])})
    validate.gradient(dy, (*cache.x.shape[:-1], cache.weight.shape[1]), cache.x.dtype)
    return linear.backward(dy, cache, validate.boolean("need_dx", need_dx))


def avg_pool_forward(x):
    """Mean of each 2x2 square: (..., H, W, C) to (..., H // 2, W // 2, C); an odd last row or column is left out.

    Raises ValueError or TypeError for less than 2 rows or columns, another dtype, values that are not finite.
    """
    _require_squares(x)
    return conv.pool_forward(x)


def _require_squares(x):
    validate.float_array("x", x, min_ndim=3)
    if min(x.shape[-3:-1]) < 2:
        raise ValueError(f"x: expected height and width of at least 2, received {x.shape[-3:-1]}; drop this pool")


def avg_pool_backward(dy, cache):
    """dx: a quarter of dy at each of the four places, 0 in a row or column that was left out."""
    validate.cache_of(cache, conv.PoolCache, "avg_pool_forward")
    validate.gradient(dy, _pooled(cache.shape), cache.dtype)
    return conv.pool_backward(dy, cache)


def _pooled(shape):
    *lead, H, W, C = shape
    return (*lead, H // 2, W // 2, C)


def max_pool_forward(x):
    """Largest value of each 2x2 square; shapes and errors as for `avg_pool_forward`."""
    _require_squares(x)
    return conv.max_pool_forward(x)


def max_pool_backward(dy, cache):
    """dx: dy at the place of each maximum, the first in reading order where values are equal (as in PyTorch); 0 elsewhere."""
    validate.cache_of(cache, conv.MaxPoolCache, "max_pool_forward")
    validate.gradient(dy, _pooled(cache.shape), cache.dtype)
    return conv.max_pool_backward(dy, cache)


def global_avg_pool_forward(x):
    """Mean over height and width: (..., H, W, C) to (..., C). Errors as for `avg_pool_forward`."""
    validate.float_array("x", x, min_ndim=3)
    return conv.global_pool_forward(x)


def global_avg_pool_backward(dy, cache):
    """dx: dy / (H W) everywhere."""
    validate.cache_of(cache, conv.PoolCache, "global_avg_pool_forward")
    validate.gradient(dy, (*cache.shape[:-3], cache.shape[-1]), cache.dtype)
    return conv.global_pool_backward(dy, cache)
