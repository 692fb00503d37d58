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
from agl_ref.engine.jit import inner, kernel_with_memory
from agl_ref.engine.neuron import CHUNK, ROW, LIFCache, lif_row_backward, lif_step
from agl_ref.engine.ops import lif_forward
from agl_ref.engine.parallel import grain_of, pieces, run
from agl_ref.engine.surrogate import window_of


class Norm(NamedTuple):
    """A tdBN as the kernels read it: arrays of C channels, repeated to at least ROW numbers, and alpha V_th."""

    mean: np.ndarray
    inv_std: np.ndarray
    gamma: np.ndarray
    offset: np.ndarray  # beta, or V_th beta
    scale: float


def norm_of(cache):
    """The `Norm` of a `TdBNCache`."""
    C = cache.mean.size
    arrays = np.empty((4, pieces(ROW, C), C), cache.x.dtype)
    arrays[:] = np.array((cache.mean, cache.inv_std, cache.gamma, cache.offset))[:, None]
    return Norm(*arrays.reshape(4, -1), cache.x.dtype.type(cache.scale))


@inner
def normalised(x, mean, inv_std, gamma, scale, offset):
    x_hat = (x - mean) * inv_std  # (N3)
    return gamma * (scale * x_hat) + offset  # (N4)


@inner
def normalise_row(x, norm, c, y):
    """y = the norm of x, whose first number is of the norm's c-th."""
    mean, inv_std, gamma, offset = norm.mean[c:], norm.inv_std[c:], norm.gamma[c:], norm.offset[c:]
    for i in range(x.size):
        y[i] = normalised(x[i], mean[i], inv_std[i], gamma[i], norm.scale, offset[i])


@inner
def end_of_row(a, n, size):
    """Where the row of neurons that begins at a ends: with the channels, the chunk or the neurons."""
    return min(a + size - a % size, (a // CHUNK + 1) * CHUNK, n)


@inner
def row_forward(x, a, b, norm, p, zeros, u, own_u, s, own_s):
    """The neurons a, ..., b - 1, in u and s from own_u and own_s on, through all timesteps. u has room for two or for all."""
    c = a % norm.mean.size
    mean, inv_std, gamma, offset = norm.mean[c:], norm.inv_std[c:], norm.gamma[c:], norm.offset[c:]
    u_before, s_before = zeros, zeros
    for t in range(len(x)):
        xt, ut, st = x[t, a:b], u[t % len(u), own_u:], s[t, own_s:]
        for i in range(b - a):
            current = normalised(xt[i], mean[i], inv_std[i], gamma[i], norm.scale, offset[i])
            ut[i], st[i] = lif_step(current, u_before[i], s_before[i], p)
        u_before, s_before = ut, st


@kernel_with_memory
def forward_kernel(first, last, x, norm, p, u, s):
    """u is of s's shape, or empty where it is not to be stored."""
    n, size, stored = x.shape[1], norm.mean.size, len(u) > 0
    zeros, room = np.zeros(size, x.dtype), u if stored else np.empty((2, size), x.dtype)
    a = first * CHUNK
    while a < min(last * CHUNK, n):
        b = end_of_row(a, n, size)
        row_forward(x, a, b, norm, p, zeros, room, a if stored else 0, s, a)
        a = b


@kernel_with_memory
def backward_kernel(first, last, ds, x, norm, p, window, learns, dx, sums):
    """Each row's u and s again, and back; `learns` and sums as for `lif_backward_kernel`."""
    T, n = x.shape
    size = norm.mean.size
    u, s, memory = np.empty((T, size), x.dtype), np.empty((T, size), x.dtype), np.zeros((3, size), x.dtype)
    ddecay = np.empty(size if learns else 0)
    currents = np.empty_like(u) if learns and p.scaled else u  # nobody else reads them
    a = first * CHUNK
    while a < min(last * CHUNK, n):
        b = end_of_row(a, n, size)
        row_forward(x, a, b, norm, p, memory[0], u, 0, s, 0)
        if learns and p.scaled:
            for t in range(T):
                normalise_row(x[t, a:b], norm, a % size, currents[t])
        lif_row_backward(ds, a, b - a, u, s, currents, 0, p, window, memory, ddecay, dx, sums[a // CHUNK])
        a = b


def forward(norm, decay, v_th, conventions, surrogate, store_u=True):
    """(s, LIFCache) of neurons behind the norm with this TdBNCache; u and s are in the cache only with store_u."""
    if store_u and conventions.input_scale == "1 - tau":  # the cache holds the current too
        return lif_forward.unchecked(tdbn.normalise(norm), decay, v_th, conventions, surrogate)
    x, shape = norm.x.reshape(len(norm.x), -1), norm.x.shape
    u, s = np.empty_like(x) if store_u else np.empty((0, 0), x.dtype), np.empty_like(x)
    p = lif.neuron_constants(x.dtype, decay, v_th, conventions)
    grain = grain_of(CHUNK * len(x))
    run(forward_kernel, pieces(x.shape[1], CHUNK), x, norm_of(norm), p, u, s, grain=grain)
    s = s.reshape(shape)
    stored = (u.reshape(shape), s) if store_u else (None, None)
    return s, LIFCache(*stored, None, decay, v_th, conventions, surrogate)


def backward(ds, norm, cache, width, learns=True):
    """LIFGrads of ds (T, ...) from the two caches, whether or not the neuron's holds u and s; ddecay only if it `learns`."""
    x, conventions = norm.x.reshape(len(norm.x), -1), cache.conventions
    ds, results = np.ascontiguousarray(ds).reshape(x.shape), lif.new_grads(x)
    p = lif.neuron_constants(x.dtype, cache.decay, cache.v_th, conventions)
    window = window_of(width, conventions, cache.surrogate)
    grain = grain_of(2 * CHUNK * len(x))
    run(backward_kernel, pieces(x.shape[1], CHUNK), ds, x, norm_of(norm), p, window, learns, *results, grain=grain)
    return lif.grads_of(*results, norm.x.shape)
