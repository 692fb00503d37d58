"""What a trace says about training: per layer and timestep, the window's coverage, firing rate and spread."""

import numpy as np

from . import _check


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity appeared; the message names the layer and the timestep where it first did."""


def window_coverage(u, width, v_th, closed=False):
    """Share of neurons with |u_t - V_th| < kappa_t / 2 at each t: (T,) in 0..1. These are the ones that learn.

    Parameters
    ----------
    u : ndarray (T, ...)
    width : ndarray (T,)
    v_th : float
    closed : bool
        Count the window's edge as inside (window_edge "<=").
    """
    _check.float_array("u", u, min_ndim=2)
    _check.same_shape("width", np.asarray(width), (len(u),), "the timesteps")
    inside = np.less_equal if closed else np.less
    rows = zip(u.reshape(len(u), -1), width, strict=True)
    return np.array([inside(np.abs(row - u.dtype.type(v_th)), k / 2).mean() if k > 0 else 0.0 for row, k in rows])


def layer_statistics(trace):
    """For each spiking block of a trace: {name: {"coverage", "firing_rate", "width", "mean", "std"}}, each (T,)."""
    result = {}
    for name, cache in trace.items():
        T = len(cache.u)
        flat_u, flat_s = cache.u.reshape(T, -1), cache.s.reshape(T, -1)
        closed = trace.mode.conventions.window_edge == "<="
        result[name] = {
            "coverage": window_coverage(cache.u, cache.width, cache.neuron.v_th, closed),
            "firing_rate": flat_s.mean(axis=1, dtype=np.float64),
            "width": cache.width.astype(np.float64),
            "mean": flat_u.mean(axis=1, dtype=np.float64),
            "std": flat_u.std(axis=1, dtype=np.float64),
        }
    return result


def _first_timestep(x, backward=False):
    """1-based timestep of the first row of x (T, ...) that is not finite, or None; from the last if backward."""
    bad = ~np.isfinite(x.reshape(len(x), -1)).all(axis=1)
    if not bad.any():
        return None
    return int(len(x) - np.argmax(bad[::-1]) if backward else np.argmax(bad) + 1)


def locate_forward(trace):
    """Where a NaN or infinity first appeared in a forward pass, as text; None if everything is finite."""
    for name, array in trace.net.parameters().items():
        if not np.isfinite(array).all():
            return f"parameter {name!r} before the forward pass (t = 1)"
    for name, cache in trace.items():
        stages = [("membrane potential", cache.u)]
        if cache.norm is not None:
            stages.insert(0, ("input of tdBN", cache.norm.x))
        for what, array in stages:
            t = _first_timestep(array)
            if t is not None:
                return f"{what} of layer {name!r} at t = {t}"
    t = _first_timestep(trace.logits)
    return None if t is None else f"logits of layer {trace.net.layers[-1].name!r} at t = {t}"


def locate_backward(trace, dlogits):
    """Where a NaN or infinity first appeared in a backward pass, as text; None if everything is finite."""
    t = _first_timestep(dlogits, backward=True)
    if t is not None:
        return f"gradient of the logits at t = {t}"
    record = {}
    grads = trace.net.backward(trace, dlogits, record)
    for name in reversed(trace.names()):
        for key, what in (("ds", "gradient of the spikes"), ("dx", "gradient of the input current")):
            t = _first_timestep(record[f"{name}.{key}"], backward=True)
            if t is not None:
                return f"{what} of layer {name!r} at t = {t}"
        for key, value in grads.items():
            if key.rsplit(".", 1)[0] == name and not np.isfinite(value).all():
                return f"gradient of parameter {key!r}, summed over t = {len(trace.x)}..1"
    for key, value in grads.items():
        if not np.isfinite(value).all():
            return f"gradient of parameter {key!r}, summed over t = {len(trace.x)}..1"
    return None


def _forward_is_finite(result):
    """Cheap test of a forward pass. Logits alone do not tell: a NaN potential does not fire, so spikes hide it."""
    arrays = [result.logits, *result.trace.net.parameters().values()]
    for _, cache in result.trace.items():
        # A NaN or an infinity anywhere in a norm's input is one in its variance.
        arrays.append(cache.u if cache.norm is None else cache.norm.var)
    return np.isfinite(result.loss) and all(np.isfinite(array).all() for array in arrays)


def require_finite(result):
    """Raise NonFiniteError if the forward pass or a gradient of `result` is not finite, saying where that began."""
    if not _forward_is_finite(result):
        where = locate_forward(result.trace) or f"the loss itself ({result.loss})"
    elif not all(np.isfinite(g).all() for g in result.grads.values()):
        where = locate_forward(result.trace) or locate_backward(result.trace, result.dlogits)
    else:
        return
    raise NonFiniteError(f"not finite, first in the {where}; lower the learning rate or look at the data")
