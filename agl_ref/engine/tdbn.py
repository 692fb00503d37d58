"""tdBN, threshold-dependent batch normalisation (Zheng et al., AAAI 2021; METHOD.md's tdBN).

    M  number of values per channel: T times N (times H and W)        C  channels
    x_hat = (x - mean) / sqrt(var + eps);   y = gamma (alpha V_th x_hat) + beta

Statistics run over all axes but the last. Sums are taken in float64, chunk by chunk in a fixed order.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

from .jit import inner, kernel

CHUNK = 256  # rows (of C values) that one thread takes at a time


class TdBNCache(NamedTuple):
    """What the backward pass needs: x is (..., C), all others (C,) or scalars."""

    x: np.ndarray | None  # None in what is left of a pass without a trace
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray  # of the batch, biased (in evaluation: the running variance)
    inv_std: np.ndarray  # 1 / sqrt(var + eps), of the variance that was used
    scale: float  # alpha V_th, or 1
    training: bool
    unbiased: bool
    count: int  # M

    @property
    def x_hat(self):
        """Normalised input, shape of x."""
        return (self.x - self.mean) * self.inv_std


@kernel
def _moments_kernel(x, mean, m2):
    """Each chunk's mean and sum of squared deviations, both (chunks, C) float64."""
    M, C = x.shape
    for chunk in prange((M + CHUNK - 1) // CHUNK):
        rows = x[chunk * CHUNK : min((chunk + 1) * CHUNK, M)]
        mu, dev = mean[chunk], m2[chunk]
        for r in range(len(rows)):
            for c in range(C):
                mu[c] += rows[r, c]
        for c in range(C):
            mu[c] /= len(rows)
        for r in range(len(rows)):
            for c in range(C):
                dev[c] += (rows[r, c] - mu[c]) * (rows[r, c] - mu[c])


@inner
def _normalise_row(x, mean, inv_std, gamma, scale, beta, y):
    for c in range(x.size):
        y[c] = gamma[c] * (scale * ((x[c] - mean[c]) * inv_std[c])) + beta[c]


@kernel
def _normalise_kernel(x, mean, inv_std, gamma, scale, beta, y):
    M = len(x)
    for chunk in prange((M + CHUNK - 1) // CHUNK):
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, M)):
            _normalise_row(x[r], mean, inv_std, gamma, scale, beta, y[r])


@kernel
def _sums_kernel(dy, x, mean, inv_std, sum_dy, sum_dy_x_hat):
    """Each chunk's sum(dy) and sum(dy x_hat), both (chunks, C) float64."""
    M, C = x.shape
    for chunk in prange((M + CHUNK - 1) // CHUNK):
        first, second = sum_dy[chunk], sum_dy_x_hat[chunk]
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, M)):
            xr, dyr = x[r], dy[r]
            for c in range(C):
                first[c] += dyr[c]
                second[c] += dyr[c] * ((xr[c] - mean[c]) * inv_std[c])


@kernel
def _dx_kernel(dy, x, stats, g_scale, g_mean, g_x_hat, dx):
    """dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(var + eps) with g = dy gamma scale."""
    mean, inv_std = stats
    M, C = x.shape
    for chunk in prange((M + CHUNK - 1) // CHUNK):
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, M)):
            xr, dyr, dxr = x[r], dy[r], dx[r]
            for c in range(C):
                x_hat = (xr[c] - mean[c]) * inv_std[c]
                dxr[c] = (dyr[c] * g_scale[c] - g_mean[c] - x_hat * g_x_hat[c]) * inv_std[c]


def _moments(x):
    """Mean and biased variance of each column of x (M, C), float64: of the chunks' means and squared deviations."""
    M, C = x.shape
    chunks = (M + CHUNK - 1) // CHUNK
    means, m2s = np.zeros((chunks, C)), np.zeros((chunks, C))
    _moments_kernel(x, means, m2s)
    counts = np.full((chunks, 1), float(CHUNK))
    counts[-1] = M - (chunks - 1) * CHUNK
    mean = (counts * means).sum(axis=0) / M
    return mean, (m2s + counts * (means - mean) ** 2).sum(axis=0) / M


def _measure(x, gamma, beta, v_th, alpha, eps, conventions, running):
    """The cache of `tdbn_forward`, from which `_normalise` makes y."""
    dtype = x.dtype
    x = np.ascontiguousarray(x)
    flat = x.reshape(-1, x.shape[-1])
    M = len(flat)
    unbiased = conventions.norm_variance == "unbiased"
    if running is None and unbiased and M == 1:
        raise ValueError("x: expected at least 2 values per channel for the unbiased variance, received 1; add samples")
    if running is None:
        mean, var = _moments(flat)
        used_var = var * (M / (M - 1)) if unbiased else var
    else:
        mean, var = (np.asarray(r, np.float64) for r in running)
        used_var = var
    inv_std = (1.0 / np.sqrt(used_var + eps)).astype(dtype)
    scale = alpha * v_th if conventions.norm_scale == "alpha V_th" else 1.0
    mean, var = mean.astype(dtype), var.astype(dtype)
    return TdBNCache(x, gamma.copy(), beta.copy(), mean, var, inv_std, scale, running is None, unbiased, M)


def _normalise(cache):
    """y of `tdbn_forward` from its cache."""
    x, dtype = cache.x, cache.x.dtype
    y = np.empty_like(x)
    flat, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
    _normalise_kernel(flat, cache.mean, cache.inv_std, cache.gamma, dtype.type(cache.scale), cache.beta, out)
    return y


def _backward(dy, cache):
    """`tdbn_backward` without validation."""
    x = np.ascontiguousarray(cache.x)
    dtype, shape = x.dtype, x.shape
    x = x.reshape(-1, shape[-1])
    dy = np.ascontiguousarray(dy).reshape(x.shape)
    M, C = x.shape
    sum_dy, sum_dy_x_hat = np.zeros((2, (M + CHUNK - 1) // CHUNK, C))
    _sums_kernel(dy, x, cache.mean, cache.inv_std, sum_dy, sum_dy_x_hat)
    sum_dy, sum_dy_x_hat = sum_dy.sum(axis=0), sum_dy_x_hat.sum(axis=0)
    g_scale = cache.gamma.astype(np.float64) * cache.scale
    if cache.training:
        g_mean = g_scale * sum_dy / M
        g_x_hat = g_scale * sum_dy_x_hat / (M - 1 if cache.unbiased else M)
    else:  # the statistics are constants
        g_mean = g_x_hat = np.zeros(C)
    dx = np.empty_like(x)
    stats = (cache.mean, cache.inv_std)
    _dx_kernel(dy, x, stats, g_scale.astype(dtype), g_mean.astype(dtype), g_x_hat.astype(dtype), dx)
    return dx.reshape(shape), (cache.scale * sum_dy_x_hat).astype(dtype), sum_dy.astype(dtype)


def tdbn_forward(x, gamma, beta, v_th=0.5, alpha=1.0, eps=1e-5, conventions=MPD_AGL, running=None):
    """Normalise each channel over time, batch and space, scaled to the threshold.

        y = gamma (alpha V_th (x - mean) / sqrt(var + eps)) + beta

    Parameters
    ----------
    x : ndarray (..., C), float32 or float64
    gamma, beta : ndarray (C,), x's dtype
    v_th, alpha : float
        Threshold and factor; both ignored under norm_scale "1".
    eps : float
        Added to the variance, > 0.
    conventions : Conventions
        Reads `norm_variance` and `norm_scale`.
    running : (mean, var), each ndarray (C,), optional
        Evaluation with these statistics; without, training with the batch's own.

    Returns
    -------
    y : ndarray, shape and dtype of x
    cache : TdBNCache

    Raises
    ------
    ValueError, TypeError
        For a wrong channel count, dtype, or values that are not finite; for one value per channel with the unbiased
        variance.

    Examples
    --------
    >>> import numpy as np
    >>> y, _ = tdbn_forward(np.array([[-3.0], [3.0]]), np.ones(1), np.zeros(1), v_th=0.5, eps=1e-12)
    >>> y.ravel().round(6)
    array([-0.5,  0.5])
    """
    validate.float_array("x", x, min_ndim=2)
    validate.conventions(conventions)
    C = x.shape[-1]
    v_th = validate.number("v_th", v_th, low=0, low_open=True)
    alpha = validate.number("alpha", alpha, low=0, low_open=True)
    eps = validate.number("eps", eps, low=0, low_open=True)
    named = [("gamma", gamma), ("beta", beta)]
    if running is not None:
        if not isinstance(running, (tuple, list)) or len(running) != 2:
            raise TypeError(
                f"running: expected a pair (mean, var), received {type(running).__name__}; pass both arrays"
            )
        named += [("running mean", running[0]), ("running var", running[1])]
    for name, value in named:
        validate.float_array(name, value, dtype=x.dtype)
        validate.same_shape(name, value, (C,), "x's channels")
    if running is not None and (running[1] < 0).any():
        raise ValueError(f"running var: expected values >= 0, received {running[1].min()}; check the checkpoint")
    cache = _measure(x, gamma, beta, v_th, alpha, eps, conventions, running)
    return _normalise(cache), cache


def tdbn_backward(dy, cache):
    """Backward of `tdbn_forward`, with M values per channel and g = dy gamma alpha V_th.

        dgamma = sum(dy alpha V_th x_hat);   dbeta = sum(dy)
        dx     = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(var + eps)

    With the unbiased variance the last mean divides by M - 1; in evaluation dx = g / sqrt(var + eps).

    Parameters
    ----------
    dy : ndarray, shape and dtype of y
    cache : TdBNCache

    Returns
    -------
    dx (shape of x), dgamma (C,), dbeta (C,)
    """
    validate.cache_of(cache, TdBNCache, "tdbn_forward")
    validate.float_array("dy", dy, dtype=cache.x.dtype)
    validate.same_shape("dy", dy, cache.x.shape, "the forward's y")
    return _backward(dy, cache)


def update_running(running_mean, running_var, cache, momentum=0.1):
    """running = (1 - momentum) running + momentum batch, in place; the variance is taken unbiased.

    Raises ValueError if the cache is of an evaluation pass: there is no batch statistic in it.
    """
    validate.cache_of(cache, TdBNCache, "tdbn_forward", whole=False)
    if not cache.training:
        raise ValueError("cache: expected one of a training forward, received evaluation; pass training=True")
    M = cache.count
    for name, value in (("running mean", running_mean), ("running var", running_var)):
        validate.float_array(name, value, dtype=cache.mean.dtype)
        validate.same_shape(name, value, cache.mean.shape, "the norm's channels")
    momentum = validate.number("momentum", momentum, low=0, high=1)
    if M == 1:
        raise ValueError(
            "cache: expected at least 2 values per channel, whose unbiased variance exists, received 1; add samples"
        )
    dtype = running_mean.dtype.type
    keep, take = dtype(1 - momentum), dtype(momentum)
    running_mean[...] = keep * running_mean + take * cache.mean
    running_var[...] = keep * running_var + take * (cache.var * dtype(M / (M - 1)))
