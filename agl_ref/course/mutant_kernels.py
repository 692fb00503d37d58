"""Five LIF kernels for notebook 8, as from a GPU: blocks of threads, one thread per neuron. Each has one mistake.

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

workspaces = {}  # {(shape, dtype): what the last call of that shape carried on}


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


def _forward(x, tau, v_th):
    u, s, v = np.empty_like(x), np.empty_like(x), np.empty_like(x)
    before = np.zeros_like(x[0])
    for t in range(len(x)):
        u[t] = tau * before + x[t]
        s[t] = u[t] >= v_th
        v[t] = before = u[t] * (1 - s[t])
    return u, s, v


def _surrogate(z, kappa):
    return np.where(np.abs(z) < kappa / 2, 1 / kappa, 0)


def _backward(ds, u, cut, leaked, start, tau, v_th, width, surrogate=_surrogate):
    """(du, each neuron's share of grad_decay, what is carried on from t = 1).

    cut are the spikes that end the direct path, leaked is what leaks from t - 1 to t, start what is carried into the last t.
    """
    du, share, dv = np.empty_like(u), np.zeros_like(u[0]), start
    for t in reversed(range(len(u))):
        ds_total = ds[t] - u[t] * dv
        du[t] = dv * (1 - cut[t]) + ds_total * surrogate(u[t] - v_th, width[t])
        dv = tau * du[t]
        if t > 0:
            share += du[t] * leaked[t - 1]
    return du, share, dv


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
def kernel_a(ds, u, s, v, *settings):
    """LIF forward and backward; grad_decay in two stages: each thread its neuron, then a sum over threads."""
    du, share, _ = _backward(ds, u, s, v, np.zeros_like(u[0]), *settings)
    return du, share[:THREADS].sum()


@_kernel
def kernel_b(ds, u, s, v, *settings):
    """LIF forward and backward; keeps u and s for the backward pass."""
    du, share, _ = _backward(ds, u, s, u, np.zeros_like(u[0]), *settings)
    return du, share.sum()


@_kernel
def kernel_c(ds, u, s, v, *settings):
    """LIF forward and backward; divides by the width once per timestep and tests the window with it."""
    du, share, _ = _backward(ds, u, s, v, np.zeros_like(u[0]), *settings, surrogate=_twice_as_wide)
    return du, share.sum()


def _twice_as_wide(z, kappa):
    height = 1 / kappa
    return np.where(np.abs(z * height) < 1, height, 0)


@_kernel
def kernel_d(ds, u, s, v, *settings):
    """LIF forward and backward; allocates its scratch memory once per shape."""
    memory = u.shape, u.dtype
    du, share, workspaces[memory] = _backward(ds, u, s, v, workspaces.get(memory, np.zeros_like(u[0])), *settings)
    return du, share.sum()


@_kernel
def kernel_e(ds, u, s, v, *settings):
    """LIF forward and backward; loads the spikes of one timestep while it computes another."""
    late = np.append(s[1:], s[-1:], axis=0)
    du, share, _ = _backward(ds, u, late, v, np.zeros_like(u[0]), *settings)
    return du, share.sum()
