"""Five LIF kernels for notebook 8, written as for a GPU: blocks of threads, one thread per neuron. Each has one mistake.

    kernel_a ... kernel_e       (x, ds, decay, v_th, width) -> {"u", "s", "v", "du", "grad_x", "grad_decay"}
    on_case(kernel, case)       the same on a golden case's inputs, in float32
    afresh(kernel, id, calls)   the same, call after call, as the first calls in a new process

    T timesteps, n neurons (all axes but the first, flattened), THREADS neurons per block
    x, ds (T, ...) input current and gradient of the spikes, width (T,) kappa; results as x, grad_decay a scalar

Whoever wants to find the mistakes should not read on.
"""

import numpy as np

from agl_ref.oracle import load_case

THREADS = 1024
KERNELS = {}  # {letter: kernel}

workspaces = {}  # {(shape, dtype): ndarray}, one allocation for all calls of a shape


def on_case(kernel, case, dtype=np.float32):
    """{name: array} that a kernel, or any function with its signature, computes for a golden case with a given width."""
    x, ds, width = (np.asarray(case.inputs[name], dtype) for name in ("x", "ds", "width"))
    return kernel(x, ds, case.meta["decay"], case.meta["v_th"], width)


def afresh(kernel, id, calls=1):
    """What each of several calls on a golden case gives, a list; no workspace is there before, and none is left.

    kernel : a function, or one of the letters of KERNELS
    """
    workspaces.clear()
    case = load_case(id)
    dumps = [on_case(KERNELS.get(kernel, kernel), case) for _ in range(calls)]
    workspaces.clear()
    return dumps


def _blocks(n):
    return -(-n // THREADS)


def _grid(n):
    """The neurons of each block; the last block may be partly empty."""
    return [slice(k * THREADS, min((k + 1) * THREADS, n)) for k in range(_blocks(n))]


def _forward(x, tau, v_th):
    u, s, v = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    for block in _grid(x.shape[1]):
        before = np.zeros_like(x[0, block])
        for t in range(len(x)):
            u[t, block] = tau * before + x[t, block]
            s[t, block] = u[t, block] >= v_th
            v[t, block] = before = u[t, block] * (1 - s[t, block])
    return u, s, v


def _surrogate(z, kappa):
    return np.where(np.abs(z) < kappa / 2, 1 / kappa, 0)


def _kernel(backward):
    """A kernel of one backward pass (du, grad_decay) of arrays (T, n). All that is here and above is right."""

    def kernel(x, ds, decay, v_th, width):
        tau, v_th, flat = x.dtype.type(decay), x.dtype.type(v_th), np.ascontiguousarray(x).reshape(len(x), -1)
        u, s, v = _forward(flat, tau, v_th)
        du, grad_decay = backward(np.ascontiguousarray(ds).reshape(flat.shape), u, s, v, tau, v_th, width)
        arrays = {"u": u, "s": s, "v": v, "du": du, "grad_x": du}
        return {**{name: a.reshape(x.shape) for name, a in arrays.items()}, "grad_decay": np.asarray(grad_decay)}

    kernel.__name__, kernel.__doc__ = backward.__name__, backward.__doc__
    KERNELS[kernel.__name__[-1]] = kernel
    return kernel


@_kernel
def kernel_a(ds, u, s, v, tau, v_th, width):
    """LIF forward and backward; grad_decay in two stages: each thread its neuron, then a sum over threads."""
    T, n = u.shape
    du, partial = np.empty_like(u), np.zeros(_blocks(n) * THREADS, u.dtype)
    for block in _grid(n):
        dv = np.zeros_like(u[0, block])
        for t in reversed(range(T)):
            ds_total = ds[t, block] - u[t, block] * dv
            du[t, block] = dv * (1 - s[t, block]) + ds_total * _surrogate(u[t, block] - v_th, width[t])
            dv = tau * du[t, block]
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
    return du, partial[:THREADS].sum()


@_kernel
def kernel_b(ds, u, s, v, tau, v_th, width):
    """LIF forward and backward; keeps u and s for the backward pass."""
    T, n = u.shape
    du, partial = np.empty_like(u), np.zeros_like(u[0])
    for block in _grid(n):
        dv = np.zeros_like(u[0, block])
        previous = u[T - 1, block]
        for t in reversed(range(T)):
            potential, previous = previous, u[t - 1, block] if t > 0 else np.zeros_like(dv)
            ds_total = ds[t, block] - potential * dv
            du[t, block] = dv * (1 - s[t, block]) + ds_total * _surrogate(potential - v_th, width[t])
            partial[block] += du[t, block] * previous
            dv = tau * du[t, block]
    return du, partial.sum()


@_kernel
def kernel_c(ds, u, s, v, tau, v_th, width):
    """LIF forward and backward; divides by the width once per timestep and tests the window with it."""
    T, n = u.shape
    du, partial, heights = np.empty_like(u), np.zeros_like(u[0]), 1 / width
    for block in _grid(n):
        dv = np.zeros_like(u[0, block])
        for t in reversed(range(T)):
            z = (u[t, block] - v_th) * heights[t]
            ds_total = ds[t, block] - u[t, block] * dv
            du[t, block] = dv * (1 - s[t, block]) + ds_total * np.where(np.abs(z) < 1, heights[t], 0)
            dv = tau * du[t, block]
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
    return du, partial.sum()


@_kernel
def kernel_d(ds, u, s, v, tau, v_th, width):
    """LIF forward and backward; allocates its scratch memory once per shape."""
    T, n = u.shape
    du, partial = np.empty_like(u), np.zeros_like(u[0])
    dv = workspaces.setdefault((u.shape, u.dtype), np.zeros_like(u[0]))
    for block in _grid(n):
        for t in reversed(range(T)):
            ds_total = ds[t, block] - u[t, block] * dv[block]
            du[t, block] = dv[block] * (1 - s[t, block]) + ds_total * _surrogate(u[t, block] - v_th, width[t])
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
            dv[block] = tau * du[t, block]
    return du, partial.sum()


@_kernel
def kernel_e(ds, u, s, v, tau, v_th, width):
    """LIF forward and backward; loads the spikes of one timestep while it computes another."""
    T, n = u.shape
    du, partial = np.empty_like(u), np.zeros_like(u[0])
    for block in _grid(n):
        dv = np.zeros_like(u[0, block])
        loaded = s[T - 1, block]
        for t in reversed(range(T)):
            fired, loaded = loaded, s[t, block]
            ds_total = ds[t, block] - u[t, block] * dv
            du[t, block] = dv * (1 - fired) + ds_total * _surrogate(u[t, block] - v_th, width[t])
            dv = tau * du[t, block]
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
    return du, partial.sum()
