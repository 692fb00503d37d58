"""What a trace says about training: per layer and timestep, the window's coverage, the firing rate, the potential's spread
as measured and as predicted, and what gradient passes; and where a NaN began.
"""

from collections.abc import Mapping

import numpy as np

from agl_ref import theory, validate
from agl_ref.engine.blocks import Readout, Residual, SpikingBlock
from agl_ref.engine.network import Result, Trace
from agl_ref.engine.width import potential_moments


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
    validate.float_array("u", u, min_ndim=2)
    validate.same_shape("width", validate.float_array("width", width), (len(u),), "the timesteps")
    v_th = validate.number("v_th", v_th, low=0, low_open=True, dtype=u.dtype)
    validate.boolean("closed", closed)
    return _coverage(u, width, v_th, closed)


def _coverage(u, width, v_th, closed):
    """`window_coverage` without validation, in u's own dtype as the surrogate compares."""
    inside = np.less_equal if closed else np.less
    rows = zip(u.reshape(len(u), -1), width, strict=True)
    return np.array([inside(np.abs(row - u.dtype.type(v_th)), k / 2).mean() if k > 0 else 0.0 for row, k in rows])


def gradient_statistics(dx):
    """(Euclidean norm, share that is not 0) of dx_t at each t: two float64 arrays (T,)."""
    flat = dx.reshape(len(dx), -1)
    norms = [np.sqrt(np.square(row, dtype=np.float64).sum()) for row in flat]
    return np.array(norms), np.count_nonzero(flat, axis=1) / flat.shape[1]


def predicted_std(block, cache, law):
    """Standard deviation of u_t (T,) that `theory.law_of_layer` predicts; NaN where that refuses, as without a norm."""
    T, c = len(cache.u), cache.neuron.conventions
    if cache.norm is None:
        return np.full(T, np.nan)
    gamma, beta, alpha = cache.norm.gamma, cache.norm.beta, block.norm.alpha
    try:
        return theory.law_of_layer(gamma, beta, cache.neuron.v_th, cache.neuron.decay, T, c, alpha, law).std
    except ValueError:
        return np.full(T, np.nan)


def block_statistics(block, cache, dx=None):
    """What a spiking block's cache says: {statistic: ndarray (T,), float64}.

    Parameters
    ----------
    block : SpikingBlock
    cache : BlockCache
        Its cache in a trace.
    dx : ndarray (T, N, ...), optional
        Gradient of the neuron's input current.

    Returns
    -------
    coverage, firing_rate
        Share of neurons inside the window |u_t - V_th| < kappa_t / 2, and of those that fire.
    width, mean, std
        kappa_t; mean and standard deviation of u_t over samples and neurons, as measured.
    std_theorem1, std_exact
        The standard deviation as Theorem 1 and the exact law predict it from tdBN's gamma and beta
        (`theory.law_of_layer`). NaN in a block without tdBN and where the law is refused.
    gradient_norm, nonzero_gradient
        With dx: its Euclidean norm, and the share of neurons where it is not 0.
    """
    mean, std = potential_moments(cache.u)
    result = {
        "coverage": _coverage(cache.u, cache.width, cache.neuron.v_th, cache.neuron.conventions.window_edge == "<="),
        "firing_rate": cache.s.reshape(len(cache.s), -1).mean(axis=1, dtype=np.float64),
        "width": cache.width.astype(np.float64),
        "mean": mean,
        "std": std,
        "std_theorem1": predicted_std(block, cache, "theorem1"),
        "std_exact": predicted_std(block, cache, "exact"),
    }
    if dx is not None:
        result["gradient_norm"], result["nonzero_gradient"] = gradient_statistics(dx)
    return result


def layer_statistics(trace, record=None):
    """`block_statistics` of each spiking block of a trace, by name; with the gradients if `record` is from its backward."""
    validate.instance("trace", trace, Trace, "pass what net.forward returned")
    gradients = {} if record is None else validate.instance("record", record, Mapping, "pass the one of net.backward")
    if missing := [name for name in trace.names() if record is not None and f"{name}.dx" not in record]:
        raise ValueError(
            f"record: expected gradients of {missing}, received none; pass the one of this trace's backward"
        )
    return {
        name: block_statistics(block, trace[name], gradients.get(f"{name}.dx")) for name, block in trace.net.blocks()
    }


class Observer:
    """Measures each block as it is computed: `loss_and_grads(..., observe=Observer())`, or `predict`, without gradients."""

    def __init__(self):
        self._found = {}

    def __call__(self, block, cache, ds=None, dx=None):
        with np.errstate(all="ignore"):  # whether all is finite is asked later
            self._found[block.name] = block_statistics(block, cache, dx)

    def layers(self, net):
        """{block name: {statistic: (T,)}} as of `layer_statistics`, in the order of computation."""
        names = [name for name, _ in net.blocks()]
        if set(names) != set(self._found):
            raise ValueError(
                f"layers: expected a pass that observed {names}, received {list(self._found)}; pass this as observe="
            )
        return {name: self._found[name] for name in names}


def synaptic_operations(trace, e_ac=0.9e-12, e_mac=4.6e-12):
    """What the synapses of each layer compute for one sample in all timesteps, and an estimate of the energy it takes.

    A value that is not 0 is carried to all outputs that its place reaches, borders and strides counted. A whole number n is
    n spikes, each an accumulation (AC) at each output; any other value, as of an image or behind an average pool, is a
    multiplication with accumulation (MAC) there. Neurons, norms, pools and the access to memory are not counted.

    Parameters
    ----------
    trace : Trace
    e_ac, e_mac : float
        Energy of one AC and one MAC, in joules. By default 0.9 pJ and 4.6 pJ, of 32-bit floating point in 45 nm
        (M. Horowitz, "Computing's energy problem", ISSCC 2014: an addition 0.9 pJ, a multiplication 3.7 pJ).

    Returns
    -------
    {layer: {"ac", "mac", "dense", "joules"}}, floats, means over the samples; "dense" is the MACs if no value were 0
    """
    validate.instance("trace", trace, Trace, "pass what net.forward returned")
    e_ac, e_mac = (validate.number(name, value, low=0) for name, value in (("e_ac", e_ac), ("e_mac", e_mac)))
    found, _ = {}, trace.items()  # all spikes
    for layer, x in _synapse_inputs(trace.net.layers, trace.caches, trace.x, trace.mode):
        fan = _fan_out(getattr(layer, "synapse", layer), x.shape[2:])
        size, samples = np.abs(x), x.shape[1]
        whole = size == np.rint(size)
        ac, mac = (float((part * fan).sum(dtype=np.float64)) / samples for part in (np.where(whole, size, 0), ~whole))
        dense = float(len(x) * np.broadcast_to(fan, x.shape[2:]).sum(dtype=np.float64))
        found[layer.name] = {"ac": ac, "mac": mac, "dense": dense, "joules": ac * e_ac + mac * e_mac}
    return found


def _fan_out(synapse, shape):
    """To how many outputs a convolution or linear map carries the value at each place of an input (H, W, C) or (F,).

    Returns an array (H, W, 1), or one number for a linear map.
    """
    weight = synapse.params["weight"]
    if weight.ndim == 2:
        return weight.shape[1]
    reached = []
    for side, k in zip(shape[:2], weight.shape[:2], strict=True):
        outputs = (side + 2 * synapse.padding - k) // synapse.stride + 1
        places = np.arange(outputs)[:, None] * synapse.stride + np.arange(k) - synapse.padding
        reached.append(np.bincount(places[(places >= 0) & (places < side)], minlength=side))
    return reached[0][:, None, None] * reached[1][:, None] * weight.shape[3]


def _synapse_inputs(layers, caches, x, mode):
    """(layer, its input) of every layer that has weights, in the order of computation."""
    for layer, cache in zip(layers, caches, strict=True):
        if isinstance(layer, Residual):
            yield from _synapse_inputs(layer.body, cache.body, x, mode)
            if layer.shortcut:
                yield layer.shortcut, x
            x = cache.body[-1].s + (cache.shortcut.s if layer.shortcut else x)
        elif isinstance(layer, (SpikingBlock, Readout)):
            yield layer, x
            x = cache.s if isinstance(layer, SpikingBlock) else None
        else:
            x, _ = layer.forward(x, mode)


def as_json(layers):
    """{name: {statistic: (T,)}} with lists for arrays, and None for NaN and infinities, which JSON does not have."""
    return {
        name: {key: [float(v) if np.isfinite(v) else None for v in values] for key, values in statistics.items()}
        for name, statistics in layers.items()
    }


class Running:
    """Mean of `layer_statistics` over the steps that were measured.

    `state` is what a checkpoint keeps, so that a resumed epoch has the same mean to the bit.
    """

    def __init__(self, state=None):
        self.state = {"steps": 0, "sums": {}} if state is None else state

    def add(self, layers, weight=1.0):
        """Take the statistics of one more step, or of a part of one that counts as much as `weight` says."""
        self.state["steps"] += 1
        for name, statistics in layers.items():
            sums = self.state["sums"].setdefault(name, {})
            for key, values in statistics.items():
                sums[key] = (np.array(sums.get(key, 0.0)) + weight * values).tolist()

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
    validate.instance("trace", trace, Trace, "pass what net.forward returned")
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
        if cache.norm is not None and not np.isfinite(cache.norm.var).all():
            return (
                f"batch variance of layer {name!r}, whose input is too large to be squared, over t = 1..{len(cache.u)}"
            )
    t = _first_timestep(trace.logits)
    return None if t is None else f"logits of layer {trace.net.layers[-1].name!r} at t = {t}"


def locate_backward(trace, dlogits):
    """Where a NaN or infinity first appeared in a backward pass, as text; None if everything is finite."""
    validate.instance("trace", trace, Trace, "pass what net.forward returned")
    validate.same_shape(
        "dlogits", validate.float_array("dlogits", dlogits, finite=False), trace.logits.shape, "the logits"
    )
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
    """Cheap test of a forward pass. Logits alone are not enough: a NaN potential does not fire, so spikes hide it."""
    arrays = [result.logits, *result.trace.net.parameters().values()]
    for cache in map(result.trace.as_kept, result.trace.names()):
        # A NaN or an infinity anywhere in a norm's input is one in its variance.
        arrays.append(cache.neuron.u if cache.norm is None else cache.norm.var)
    return np.isfinite(result.loss) and all(np.isfinite(array).all() for array in arrays)


def require_finite(result):
    """Raise NonFiniteError if the forward pass or a gradient of `result` is not finite, saying where that began."""
    validate.instance("result", result, Result, "pass what net.loss_and_grads returned")
    forward_is_finite = _forward_is_finite(result)
    if forward_is_finite and all(np.isfinite(g).all() for g in result.grads.values()):
        return
    trace = result.trace if result.trace.mode.keep == "trace" else result.trace.net.forward(result.trace.x)
    where = locate_forward(trace)
    if where is None:
        where = locate_backward(trace, result.dlogits) if forward_is_finite else f"loss itself ({result.loss})"
    raise NonFiniteError(f"not finite, first in the {where}; lower the learning rate or look at the data")
