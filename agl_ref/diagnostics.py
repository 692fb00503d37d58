"""What a trace says about training: per layer and timestep, the window's coverage, the firing rate, the potential's spread
as measured and as predicted, and what gradient passes; and where a NaN began.
"""

import numpy as np
from numba import prange

from . import _check, theory
from ._jit import kernel

CHUNK = 2048  # neurons that one thread takes at a time; depends on nothing, so results never do


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


@kernel
def _moments_kernel(u, sums):
    """sums (chunks, T, 2), float64: each chunk's mean and sum of squared deviations."""
    T, n = u.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a = chunk * CHUNK
        b = min(a + CHUNK, n)
        for t in range(T):
            ut = u[t, a:b]
            total = np.float64(0.0)
            for i in range(b - a):
                total += ut[i]
            mean = total / (b - a)
            m2 = np.float64(0.0)
            for i in range(b - a):
                m2 += (ut[i] - mean) * (ut[i] - mean)
            sums[chunk, t, 0] = mean
            sums[chunk, t, 1] = m2


@kernel
def _counts_kernel(u, s, v_th, width, closed, counts):
    """counts (chunks, T, 2): how many of each chunk are inside the window, and how many fired."""
    T, n = u.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a = chunk * CHUNK
        b = min(a + CHUNK, n)
        for t in range(T):
            ut, st = u[t, a:b], s[t, a:b]
            half = width[t] / u.dtype.type(2)
            inside, fired = 0, np.float64(0.0)
            if width[t] > 0:
                for i in range(b - a):
                    distance = abs(ut[i] - v_th)
                    inside += distance <= half if closed else distance < half
            for i in range(b - a):
                fired += st[i]
            counts[chunk, t, 0] = inside
            counts[chunk, t, 1] = fired


@kernel
def _gradient_kernel(dx, sums):
    """sums (chunks, T, 2): each chunk's sum of dx^2, and how many dx are not 0."""
    T, n = dx.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a = chunk * CHUNK
        b = min(a + CHUNK, n)
        for t in range(T):
            dxt = dx[t, a:b]
            squares, passed = np.float64(0.0), 0
            for i in range(b - a):
                squares += np.float64(dxt[i]) * np.float64(dxt[i])
                passed += dxt[i] != 0
            sums[chunk, t, 0] = squares
            sums[chunk, t, 1] = passed


def _by_chunk(x):
    """x (T, ...) as (T, n), and zeros (chunks, T, 2) for a kernel's sums."""
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    return flat, np.zeros(((flat.shape[1] + CHUNK - 1) // CHUNK, len(x), 2))


def potential_moments(u):
    """(mean, standard deviation) of u_t over samples and neurons at each t: two float64 arrays (T,).

    The deviations are from the mean, so a spread small beside the mean is still exact. TypeError or ValueError if u is no
    float32 or float64 array (T, ...).
    """
    _check.float_array("u", u, min_ndim=2, finite=False)
    flat, sums = _by_chunk(u)
    _moments_kernel(flat, sums)
    n = flat.shape[1]
    counts = np.minimum(CHUNK, n - CHUNK * np.arange(len(sums)))[:, None]
    mean = (counts * sums[:, :, 0]).sum(axis=0) / n
    between = counts * (sums[:, :, 0] - mean) ** 2
    return mean, np.sqrt((sums[:, :, 1] + between).sum(axis=0) / n)


def _counts(cache, closed):
    """(coverage, firing rate), each (T,), of one block."""
    u, counts = _by_chunk(cache.u)
    s = np.ascontiguousarray(cache.s).reshape(u.shape)
    _counts_kernel(u, s, u.dtype.type(cache.neuron.v_th), cache.width, closed, counts)
    return counts.sum(axis=0).T / u.shape[1]


def predicted_std(block, cache, law):
    """Standard deviation of u_t (T,) that `theory.law_of_layer` predicts; NaN where that refuses, as without a norm."""
    T, c = len(cache.u), cache.neuron.conventions
    if cache.norm is None:
        return np.full(T, np.nan)
    gamma, beta, alpha = cache.norm.gamma, block.norm.params["beta"], block.norm.alpha
    try:
        return theory.law_of_layer(gamma, beta, cache.neuron.v_th, cache.neuron.decay, T, c, alpha, law).std
    except ValueError:
        return np.full(T, np.nan)


def layer_statistics(trace, record=None):
    """What a trace says of each spiking block: {name: {statistic: ndarray (T,), float64}}.

    Call it before an optimiser step, whose new beta would belong to another pass.

    Parameters
    ----------
    trace : Trace
    record : dict, optional
        From `Network.backward` of this trace.

    Returns
    -------
    For each block
        coverage, firing_rate
            Share of neurons inside the window |u_t - V_th| < kappa_t / 2, and of those that fire.
        width, mean, std
            kappa_t; mean and standard deviation of u_t over samples and neurons, as measured.
        std_theorem1, std_exact
            The standard deviation as Theorem 1 and the exact law predict it from tdBN's gamma and beta
            (`theory.law_of_layer`). NaN in a block without tdBN and where the law is refused.
        gradient_norm, nonzero_gradient
            With a record: the Euclidean norm of dx_t, and the share of neurons with dx_t other than 0.
    """
    result, blocks = {}, dict(trace.net.blocks())
    for name, cache in trace.items():
        coverage, firing_rate = _counts(cache, trace.mode.conventions.window_edge == "<=")
        mean, std = potential_moments(cache.u)
        result[name] = {
            "coverage": coverage,
            "firing_rate": firing_rate,
            "width": cache.width.astype(np.float64),
            "mean": mean,
            "std": std,
            "std_theorem1": predicted_std(blocks[name], cache, "theorem1"),
            "std_exact": predicted_std(blocks[name], cache, "exact"),
        }
        if record is not None:
            dx, sums = _by_chunk(record[f"{name}.dx"])
            _gradient_kernel(dx, sums)
            squares, passed = sums.sum(axis=0).T
            result[name]["gradient_norm"] = np.sqrt(squares)
            result[name]["nonzero_gradient"] = passed / dx.shape[1]
    return result


def as_json(layers):
    """{name: {statistic: (T,)}} with lists in place of arrays, and None in place of NaN, which JSON does not have."""
    return {
        name: {key: [None if np.isnan(v) else float(v) for v in values] for key, values in statistics.items()}
        for name, statistics in layers.items()
    }


class Running:
    """Mean of `layer_statistics` over the steps that were measured.

    `state` is what a checkpoint keeps, so that a resumed epoch has the same mean to the bit.
    """

    def __init__(self, state=None):
        self.state = {"steps": 0, "sums": {}} if state is None else state

    def add(self, layers):
        """Take the statistics of one more step."""
        self.state["steps"] += 1
        for name, statistics in layers.items():
            sums = self.state["sums"].setdefault(name, {})
            for key, values in statistics.items():
                sums[key] = (np.array(sums.get(key, 0.0)) + values).tolist()

    def mean(self):
        """{"steps": their number, "layers": {name: {statistic: list of T}}}."""
        steps = self.state["steps"]
        layers = {
            name: {key: np.array(values) / steps for key, values in sums.items()}
            for name, sums in self.state["sums"].items()
        }
        return {"steps": steps, "layers": as_json(layers)}


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
