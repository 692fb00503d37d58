"""tdBN and the neuron behind it in one pass over memory, equal to `tdbn_forward` and `lif_forward` bit for bit.

    x (T, n) input of the norm: n = N H W C neurons, channels fastest; u (T, n) membrane potential, s (T, n) spikes

Both layers do little with large arrays, so that moving the arrays is what takes the time. Here a chunk of neurons is
normalised, leaks, fires and resets while it is in the processor's cache, and the current between the two is stored nowhere.
Where nobody will look at u and s of the trace, they are not stored either: the backward pass computes them again.
"""

from typing import NamedTuple

import numpy as np

from agl_ref.engine import neuron as lif
from agl_ref.engine import tdbn
from agl_ref.engine.jit import inner, kernel
from agl_ref.engine.neuron import CHUNK, LIFCache, lif_step, lif_step_backward, sum_in_order
from agl_ref.engine.ops import lif_forward
from agl_ref.engine.parallel import pieces, run
from agl_ref.engine.surrogate import window_of

ROW = 512  # numbers, at least, that are normalised in one loop: few channels are repeated up to that


class Norm(NamedTuple):
    """A tdBN as the kernels read it: arrays of C channels, repeated to at least ROW numbers, and alpha V_th."""

    mean: np.ndarray
    inv_std: np.ndarray
    gamma: np.ndarray
    offset: np.ndarray  # beta, or V_th beta
    scale: float


def norm_of(cache):
    """The `Norm` of a `TdBNCache`."""
    repeats = -(-ROW // cache.mean.size)
    arrays = np.tile((cache.mean, cache.inv_std, cache.gamma, cache.offset), repeats)
    return Norm(*arrays, cache.x.dtype.type(cache.scale))


@inner
def normalise_row(x, mean, inv_std, gamma, scale, offset, y):
    for c in range(x.size):
        y[c] = gamma[c] * (scale * ((x[c] - mean[c]) * inv_std[c])) + offset[c]  # (N3) (N4)


@inner
def normalise_chunk(x, first, norm, y):
    """y = the norm of x[first], x[first + 1], ..."""
    i, c = 0, first % norm.mean.size
    while i < y.size:
        n = min(norm.mean.size - c, y.size - i)
        e, source, target = c + n, x[first + i : first + i + n], y[i : i + n]
        normalise_row(source, norm.mean[c:e], norm.inv_std[c:e], norm.gamma[c:e], norm.scale, norm.offset[c:e], target)
        i, c = i + n, 0


@kernel
def forward_kernel(first, last, x, norm, p, u, s):
    """u is of s's shape, or empty where it is not to be stored."""
    T, n = x.shape
    for chunk in range(first, last):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        v, s_before = np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype)
        current, not_stored = np.empty(b - a, x.dtype), np.empty(b - a, x.dtype)
        for t in range(T):
            normalise_chunk(x[t], a, norm, current)
            lif_step(current, p, v, s_before, u[t, a:b] if len(u) > 0 else not_stored, s[t, a:b])


@kernel
def backward_kernel(first, last, ds, x, norm, p, window, dx, sums):
    """Each chunk's u and s again, and back; sums (chunks, 1 + T) as for `lif_backward_kernel`."""
    T, n = x.shape
    for chunk in range(first, last):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        v, s_before, nothing = np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype)
        u, s = np.empty((T, b - a), x.dtype), np.empty((T, b - a), x.dtype)
        currents = np.empty((T if p.scaled else 1, b - a), x.dtype)  # the backward pass reads them only if scaled
        for t in range(T):
            current = currents[t if p.scaled else 0]
            normalise_chunk(x[t], a, norm, current)
            lif_step(current, p, v, s_before, u[t], s[t])
        dv, du, h, ddecay = (
            np.zeros(b - a, x.dtype),
            np.zeros(b - a, x.dtype),
            np.empty(b - a, x.dtype),
            np.zeros(b - a),
        )
        for k in range(T):
            t = T - 1 - k
            current = currents[t if p.scaled else 0]
            ub, sb = (u[t - 1], s[t - 1]) if t > 0 else (nothing, nothing)
            rows = ds[t, a:b], u[t], s[t], current, ub, sb
            sums[chunk, 1 + t] = lif_step_backward(*rows, p, window, t, h, dv, du, dx[t, a:b], ddecay)
        sums[chunk, 0] = sum_in_order(ddecay)


def forward(norm, decay, v_th, conventions, surrogate, store_u=True):
    """(s, LIFCache) of neurons behind the norm with this TdBNCache; u and s are in the cache only with store_u."""
    if store_u and conventions.input_scale == "1 - tau":  # the cache holds the current too
        return lif_forward.unchecked(tdbn.normalise(norm), decay, v_th, conventions, surrogate)
    x, shape = norm.x.reshape(len(norm.x), -1), norm.x.shape
    u, s = np.empty_like(x) if store_u else np.empty((0, 0), x.dtype), np.empty_like(x)
    p = lif.neuron_constants(x.dtype, decay, v_th, conventions)
    run(forward_kernel, pieces(x.shape[1], CHUNK), x, norm_of(norm), p, u, s)
    s = s.reshape(shape)
    stored = (u.reshape(shape), s) if store_u else (None, None)
    return s, LIFCache(*stored, None, decay, v_th, conventions, surrogate)


def backward(ds, norm, cache, width):
    """LIFGrads of ds (T, ...) from the two caches, whether or not the neuron's holds u and s."""
    x, conventions = norm.x.reshape(len(norm.x), -1), cache.conventions
    ds, results = np.ascontiguousarray(ds).reshape(x.shape), lif.new_grads(x)
    p = lif.neuron_constants(x.dtype, cache.decay, cache.v_th, conventions)
    window = window_of(width, conventions, cache.surrogate)
    run(backward_kernel, pieces(x.shape[1], CHUNK), ds, x, norm_of(norm), p, window, *results)
    return lif.grads_of(*results, norm.x.shape)
