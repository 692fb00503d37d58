"""Kernels of tdBN, threshold-dependent batch normalisation (N1 to N7; Zheng et al., AAAI 2021).

    M  number of values per channel: T times N (times H and W)        C  channels
    x_hat = (x - mean) / sqrt(var + eps);   y = gamma (alpha V_th x_hat) + beta

Statistics run over all axes but the last. Sums are taken in float64, chunk by chunk in a fixed order.
"""

from typing import NamedTuple

import numpy as np

from .jit import kernel
from .parallel import grain_of, pieces, run

CHUNK = 256  # rows (of C values) that one thread takes at a time


class TdBNCache(NamedTuple):
    """What the backward pass needs: x is (..., C), all others (C,) or scalars."""

    x: np.ndarray | None  # None after a pass without a trace
    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray  # of the batch, biased (in evaluation: the running variance)
    inv_std: np.ndarray  # 1 / sqrt(var + eps), of the variance that was used
    scale: float  # alpha V_th, or 1
    shift: float  # V_th where beta is in its units, or 1
    training: bool
    unbiased: bool
    count: int  # M

    @property
    def x_hat(self):
        """Normalised input, shape of x."""
        return (self.x - self.mean) * self.inv_std

    @property
    def offset(self):
        """What is added to gamma (scale x_hat): beta, or V_th beta."""
        return self.beta * self.beta.dtype.type(self.shift)


@kernel
def moments_kernel(first, last, x, mean, m2):
    """Each chunk's mean and sum of squared deviations, both (chunks, C) float64."""
    M, C = x.shape
    for chunk in range(first, last):
        rows = x[chunk * CHUNK : min((chunk + 1) * CHUNK, M)]
        mu, dev = mean[chunk], m2[chunk]
        for r in range(len(rows)):
            for c in range(C):
                mu[c] += rows[r, c]
        for c in range(C):
            mu[c] /= len(rows)  # (N1)
        for r in range(len(rows)):
            for c in range(C):
                dev[c] += (rows[r, c] - mu[c]) * (rows[r, c] - mu[c])  # (N2)


@kernel
def normalise_kernel(first, last, x, mean, inv_std, gamma, scale, offset, y):
    M, C = x.shape
    for chunk in range(first, last):
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, M)):
            xr, yr = x[r], y[r]
            for c in range(C):
                x_hat = (xr[c] - mean[c]) * inv_std[c]  # (N3)
                yr[c] = gamma[c] * (scale * x_hat) + offset[c]  # (N4)


@kernel
def sums_kernel(first, last, dy, x, mean, inv_std, sum_dy, sum_dy_x_hat):
    """Each chunk's sum(dy) and sum(dy x_hat), both (chunks, C) float64."""
    M, C = x.shape
    for chunk in range(first, last):
        own_dy, own_dy_x_hat = sum_dy[chunk], sum_dy_x_hat[chunk]
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, M)):
            xr, dyr = x[r], dy[r]
            for c in range(C):
                own_dy[c] += dyr[c]
                own_dy_x_hat[c] += dyr[c] * ((xr[c] - mean[c]) * inv_std[c])  # (N5)


@kernel
def dx_kernel(first, last, dy, x, mean, inv_std, g_scale, g_mean, g_x_hat, dx):
    """dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(var + eps) with g = dy gamma scale."""
    M, C = x.shape
    for chunk in range(first, last):
        for r in range(chunk * CHUNK, min((chunk + 1) * CHUNK, M)):
            xr, dyr, dxr = x[r], dy[r], dx[r]
            for c in range(C):
                x_hat = (xr[c] - mean[c]) * inv_std[c]
                dxr[c] = (dyr[c] * g_scale[c] - g_mean[c] - x_hat * g_x_hat[c]) * inv_std[c]  # (N6)


def rounded(dtype, *arrays):
    """The float64 arrays in dtype; what is too large for it becomes infinite, and is found behind the pass."""
    with np.errstate(over="ignore"):
        return tuple(a.astype(dtype) for a in arrays)


def measure(x, gamma, beta, v_th, alpha, eps, conventions, running):
    """The `TdBNCache` of x (..., C), from which `normalise` makes y."""
    dtype = x.dtype
    x = np.ascontiguousarray(x)
    flat = x.reshape(-1, x.shape[-1])
    M, C = flat.shape
    unbiased = conventions.norm_variance == "unbiased"
    if running is None and unbiased and M == 1:
        raise ValueError("x: expected at least 2 values per channel for the unbiased variance, received 1; add samples")
    if running is None:
        chunks = pieces(M, CHUNK)
        means, m2s = np.zeros((2, chunks, C))
        run(moments_kernel, chunks, flat, means, m2s, grain=grain_of(CHUNK * C))
        counts = np.full((chunks, 1), float(CHUNK))
        counts[-1] = M - (chunks - 1) * CHUNK
        mean = (counts * means).sum(axis=0) / M
        var = (m2s + counts * (means - mean) ** 2).sum(axis=0) / M
        used_var = var * (M / (M - 1)) if unbiased else var
    else:
        mean, var = (np.asarray(r, np.float64) for r in running)
        used_var = var
    inv_std = (1.0 / np.sqrt(used_var + eps)).astype(dtype)
    scale = alpha * v_th if conventions.norm_scale == "alpha V_th" else 1.0
    shift = v_th if conventions.norm_shift == "beta V_th" else 1.0
    mean, var = rounded(dtype, mean, var)
    return TdBNCache(x, gamma.copy(), beta.copy(), mean, var, inv_std, scale, shift, running is None, unbiased, M)


def normalise(cache):
    """y of a `TdBNCache`."""
    x, y = cache.x, np.empty_like(cache.x)
    flat, out = x.reshape(-1, x.shape[-1]), y.reshape(-1, x.shape[-1])
    factors = cache.mean, cache.inv_std, cache.gamma, x.dtype.type(cache.scale), cache.offset
    run(normalise_kernel, pieces(len(flat), CHUNK), flat, *factors, out, grain=grain_of(CHUNK * x.shape[-1]))
    return y


def backward(dy, cache):
    """(dx, dgamma, dbeta) of dy, of x's shape."""
    x = np.ascontiguousarray(cache.x)
    dtype, shape = x.dtype, x.shape
    x = x.reshape(-1, shape[-1])
    dy = np.ascontiguousarray(dy).reshape(x.shape)
    M, C = x.shape
    chunks, grain = pieces(M, CHUNK), grain_of(CHUNK * C)
    sum_dy, sum_dy_x_hat = np.zeros((2, chunks, C))
    run(sums_kernel, chunks, dy, x, cache.mean, cache.inv_std, sum_dy, sum_dy_x_hat, grain=grain)
    sum_dy, sum_dy_x_hat = sum_dy.sum(axis=0), sum_dy_x_hat.sum(axis=0)
    g_scale = cache.gamma.astype(np.float64) * cache.scale
    if cache.training:
        g_mean = g_scale * sum_dy / M
        g_x_hat = g_scale * sum_dy_x_hat / (M - 1 if cache.unbiased else M)
    else:  # the statistics are constants
        g_mean = g_x_hat = np.zeros(C)
    dx = np.empty_like(x)
    factors = rounded(dtype, g_scale, g_mean, g_x_hat)
    run(dx_kernel, chunks, dy, x, cache.mean, cache.inv_std, *factors, dx, grain=grain)
    return dx.reshape(shape), *rounded(dtype, cache.scale * sum_dy_x_hat, cache.shift * sum_dy)


def update_running(running_mean, running_var, cache, momentum):
    """running = (1 - momentum) running + momentum batch, in place; the variance is taken unbiased."""
    dtype, M = running_mean.dtype.type, cache.count
    keep, take = dtype(1 - momentum), dtype(momentum)
    running_mean[...] = keep * running_mean + take * cache.mean  # (N7)
    running_var[...] = keep * running_var + take * (cache.var * dtype(M / (M - 1)))
