"""tdBN and the neuron behind it in one pass over memory, equal to `tdbn_forward` and `lif_forward` bit for bit.

    x (T, n) input of the norm: n = N H W C neurons, channels fastest; u (T, n) membrane potential, s (T, n) spikes

Both layers do little with large arrays, so that moving the arrays is what takes the time. Here a chunk of neurons is
normalised, leaks, fires and resets while it is in the processor's cache, and the current between the two is stored nowhere.
Where nobody will look at u and s of the trace, they are not stored either: the backward pass computes them again.
"""

import numpy as np
from numba import prange

from agl_ref.engine import neuron as lif
from agl_ref.engine.jit import inner, kernel_with
from agl_ref.engine.neuron import CHUNK, LIFCache, _back_chunk, _fire_row
from agl_ref.engine.tdbn import _normalise, _normalise_row

ROW = 512  # numbers, at least, that are normalised in one loop: few channels are repeated up to that


@inner
def _normalise_chunk(x, first, norm, y):
    """y = the norm of x[first], x[first + 1], ...; norm = (mean, inv_std, gamma, beta, scale), arrays of whole periods."""
    mean, inv_std, gamma, beta, scale = norm
    i, c = 0, first % mean.size
    while i < y.size:
        n = min(mean.size - c, y.size - i)
        e, source, target = c + n, x[first + i : first + i + n], y[i : i + n]
        _normalise_row(source, mean[c:e], inv_std[c:e], gamma[c:e], scale, beta[c:e], target)
        i, c = i + n, 0


@kernel_with("../neuron.py", "../tdbn.py", "../surrogate.py")
def _forward_kernel(x, norm, neuron, reset, inclusive, u, s):
    """u is of s's shape, or empty where it is not to be stored."""
    T, n = x.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        v, fired = np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype)  # of t - 1
        current, forgotten = np.empty(b - a, x.dtype), np.empty(b - a, x.dtype)
        for t in range(T):
            _normalise_chunk(x[t], a, norm, current)
            ut = u[t, a:b] if len(u) > 0 else forgotten
            _fire_row(current, neuron, reset, inclusive, v, fired, ut, s[t, a:b])


@kernel_with("../neuron.py", "../tdbn.py", "../surrogate.py")
def _backward_kernel(ds, x, norm, neuron, resets, surrogate, codes, out):
    """Each chunk's u and s again, and back; out = (dx, sums) as for `_lif_backward_kernel`."""
    inclusive, scaled = codes
    dx, sums = out
    reset, through = resets
    T, n = x.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        v, fired = np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype)
        u, s = np.empty((T, b - a), x.dtype), np.empty((T, b - a), x.dtype)
        currents = np.empty((T if scaled else 1, b - a), x.dtype)  # the backward pass reads them only if scaled
        for t in range(T):
            current = currents[t if scaled else 0]
            _normalise_chunk(x[t], a, norm, current)
            _fire_row(current, neuron, reset, inclusive, v, fired, u[t], s[t])
        _back_chunk(ds, dx, (u, s, currents, scaled), (a, b, 0), neuron, (reset, through), surrogate, sums[chunk])


def _norm_arrays(norm):
    repeats = -(-ROW // norm.mean.size)
    arrays = (np.tile(a, repeats) for a in (norm.mean, norm.inv_std, norm.gamma, norm.beta))
    return *arrays, norm.x.dtype.type(norm.scale)


def forward(norm, decay, v_th, conventions, surrogate, store_u=True):
    """(s, LIFCache) of neurons behind the norm with this TdBNCache; u and s are in the cache only with store_u."""
    if store_u and conventions.input_scale == "1 - tau":  # the cache holds the current too
        return lif._forward(_normalise(norm), decay, v_th, conventions, surrogate)
    x, shape = norm.x.reshape(len(norm.x), -1), norm.x.shape
    neuron, reset = lif._neuron_scalars(x.dtype, decay, v_th, conventions)
    u, s = np.empty_like(x) if store_u else np.empty((0, 0), x.dtype), np.empty_like(x)
    _forward_kernel(x, _norm_arrays(norm), neuron, reset, conventions.spike_test == ">=", u, s)
    s = s.reshape(shape)
    stored = (u.reshape(shape), s) if store_u else (None, None)
    return s, LIFCache(*stored, None, decay, v_th, conventions, surrogate)


def backward(ds, norm, cache, width):
    """LIFGrads from ds (T, ...) and the two caches, whether or not the neuron's holds u and s."""
    x, conventions = norm.x.reshape(len(norm.x), -1), cache.conventions
    ds = np.ascontiguousarray(ds).reshape(x.shape)
    scalars = lif._backward_scalars(x.dtype, cache, width, conventions, cache.surrogate)
    codes, out = (conventions.spike_test == ">=", conventions.input_scale == "1 - tau"), lif._new_grads(x)
    _backward_kernel(ds, x, _norm_arrays(norm), *scalars, codes, out)
    return lif._grads(*out, norm.x.shape)
