"""Five LIF kernels for notebook 8, written as for a GPU: blocks of threads, one thread per neuron. Each has one mistake.

    kernel_a ... kernel_e    (x, ds, decay, v_th, width) -> {"u", "s", "v", "du", "grad_x", "grad_decay"}
    on_case(kernel, case)    the same on a golden case's inputs, in float32

    T timesteps, n neurons (all axes but the first, flattened), THREADS neurons per block
    x, ds (T, ...) input current and gradient of the spikes, width (T,) kappa; results as x, grad_decay a scalar

Whoever wants to find the mistakes should not read on.
"""

import numpy as np

THREADS = 1024

_workspaces = {}  # {(shape, dtype): ndarray}, one allocation for all calls of a shape


def on_case(kernel, case, dtype=np.float32):
    """{name: array} that a kernel computes for a golden case of op "lif" with a given width.

    Parameters
    ----------
    kernel : one of the kernels of this module, or any function with their signature
    case : Reference, as `agl_ref.oracle.load_case` gives it
    dtype : float32 or float64
    """
    x, ds, width = (np.asarray(case.inputs[name], dtype) for name in ("x", "ds", "width"))
    return kernel(x, ds, case.meta["decay"], case.meta["v_th"], width)


def kernel_a(x, ds, decay, v_th, width):
    """LIF forward and backward; grad_decay in two stages: each thread its neuron, then a sum over threads."""
    tau, v_th, x, ds, shape = _prepare(x, ds, decay, v_th)
    u, s, v = _forward(x, tau, v_th)
    T, n = x.shape
    du = np.empty_like(x)
    partial = np.zeros(_blocks(n) * THREADS, x.dtype)
    for block in _grid(n):
        dv = np.zeros_like(x[0, block])
        for t in reversed(range(T)):
            ds_total = ds[t, block] - u[t, block] * dv
            du[t, block] = dv * (1 - s[t, block]) + ds_total * _surrogate(u[t, block] - v_th, width[t])
            dv = tau * du[t, block]
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
    grad_decay = partial[:THREADS].sum()
    return _results(shape, u, s, v, du, grad_decay)


def kernel_b(x, ds, decay, v_th, width):
    """LIF forward and backward; keeps u and s for the backward pass."""
    tau, v_th, x, ds, shape = _prepare(x, ds, decay, v_th)
    u, s, v = _forward(x, tau, v_th)
    T, n = x.shape
    du, partial = np.empty_like(x), np.zeros_like(x[0])
    for block in _grid(n):
        dv = np.zeros_like(x[0, block])
        previous = u[T - 1, block]
        for t in reversed(range(T)):
            potential, previous = previous, u[t - 1, block] if t > 0 else np.zeros_like(dv)
            ds_total = ds[t, block] - potential * dv
            du[t, block] = dv * (1 - s[t, block]) + ds_total * _surrogate(potential - v_th, width[t])
            partial[block] += du[t, block] * previous
            dv = tau * du[t, block]
    return _results(shape, u, s, v, du, partial.sum())


def kernel_c(x, ds, decay, v_th, width):
    """LIF forward and backward; divides by the width once per timestep and tests the window with it."""
    tau, v_th, x, ds, shape = _prepare(x, ds, decay, v_th)
    u, s, v = _forward(x, tau, v_th)
    T, n = x.shape
    du, partial = np.empty_like(x), np.zeros_like(x[0])
    heights = 1 / width
    for block in _grid(n):
        dv = np.zeros_like(x[0, block])
        for t in reversed(range(T)):
            z = (u[t, block] - v_th) * heights[t]
            ds_total = ds[t, block] - u[t, block] * dv
            du[t, block] = dv * (1 - s[t, block]) + ds_total * np.where(np.abs(z) < 1, heights[t], 0)
            dv = tau * du[t, block]
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
    return _results(shape, u, s, v, du, partial.sum())


def kernel_d(x, ds, decay, v_th, width):
    """LIF forward and backward; allocates its scratch memory once per shape."""
    tau, v_th, x, ds, shape = _prepare(x, ds, decay, v_th)
    u, s, v = _forward(x, tau, v_th)
    T, n = x.shape
    du, partial = np.empty_like(x), np.zeros_like(x[0])
    key = (x.shape, x.dtype)
    if key not in _workspaces:
        _workspaces[key] = np.zeros_like(x[0])
    dv = _workspaces[key]
    for block in _grid(n):
        for t in reversed(range(T)):
            ds_total = ds[t, block] - u[t, block] * dv[block]
            du[t, block] = dv[block] * (1 - s[t, block]) + ds_total * _surrogate(u[t, block] - v_th, width[t])
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
            dv[block] = tau * du[t, block]
    return _results(shape, u, s, v, du, partial.sum())


def kernel_e(x, ds, decay, v_th, width):
    """LIF forward and backward; loads the spikes of one timestep while it computes another."""
    tau, v_th, x, ds, shape = _prepare(x, ds, decay, v_th)
    u, s, v = _forward(x, tau, v_th)
    T, n = x.shape
    du, partial = np.empty_like(x), np.zeros_like(x[0])
    for block in _grid(n):
        dv = np.zeros_like(x[0, block])
        loaded = s[T - 1, block]
        for t in reversed(range(T)):
            fired, loaded = loaded, s[t, block]
            ds_total = ds[t, block] - u[t, block] * dv
            du[t, block] = dv * (1 - fired) + ds_total * _surrogate(u[t, block] - v_th, width[t])
            dv = tau * du[t, block]
            if t > 0:
                partial[block] += du[t, block] * v[t - 1, block]
    return _results(shape, u, s, v, du, partial.sum())


KERNELS = {"a": kernel_a, "b": kernel_b, "c": kernel_c, "d": kernel_d, "e": kernel_e}


# --- what the kernels share; all of it is right


def _prepare(x, ds, decay, v_th):
    """Scalars in x's dtype, arrays as (T, n), and x's shape."""
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    return x.dtype.type(decay), x.dtype.type(v_th), flat, np.ascontiguousarray(ds).reshape(flat.shape), x.shape


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


def _results(shape, u, s, v, du, grad_decay):
    arrays = {"u": u, "s": s, "v": v, "du": du, "grad_x": du}
    return {**{name: a.reshape(shape) for name, a in arrays.items()}, "grad_decay": np.asarray(grad_decay)}
