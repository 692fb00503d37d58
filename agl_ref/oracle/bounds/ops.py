"""The ops that the oracle judges one by one: what each takes and gives, its values by the engine, and their replay.

`OPS` is the one table of them. Of each op, `run_X(a, meta, conventions)` gives {name: array} in the order of computation, and
`replay_X(r, a, meta, conventions, values)` the same with an error at every rounding site; `a` are the inputs in float64,
`values` the engine's own arrays, of which the discrete ones (spikes, windows) stay as they are.

`meta` has the scalars: v_th, decay, alpha, eps, stride, padding, T, lam, target, surrogate. A neuron's kappa_t is the given
width, or follows the rule from gamma, or is 1 without either (a rule "fixed" has its own). `x_second` is the input of another
forward pass between the forward and the backward pass; it has no outputs.
"""

import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.engine import ops as engine
from agl_ref.engine.neuron import decay_from_w, dw_from_ddecay
from agl_ref.engine.width import width_gradient, width_of_layer

from . import margins as proven
from . import replay_layers as layers
from . import replay_neurons as neurons
from .tolerance import NoRounding


class Op(NamedTuple):
    """One op: names of its inputs and arrays, those that not every case has in brackets, and the two functions."""

    inputs: str
    arrays: str
    run: Callable
    replay: Callable


def as_float64(inputs):
    """{name: array} in float64; integers stay."""
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    return {name: a if a.dtype.kind in "iu" else a.astype(np.float64) for name, a in arrays.items()}


def run_op(op, inputs, meta, conventions):
    """{name: float64 array} in the order of computation.

    Raises ValueError for an op that is not in `OPS`.
    """
    if op not in OPS:
        raise ValueError(f"op: expected one of {', '.join(OPS)}, received {op!r}; see agl_ref.oracle.bounds.ops")
    found = OPS[op].run(as_float64(inputs), meta, conventions)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def gradients(names, grads):
    """{"grad_NAME": gradient} of those that there are."""
    return {f"grad_{name}": grad for name, grad in zip(names, grads, strict=True) if grad is not None}


def norm_scale(meta, conventions):
    """What tdBN multiplies x_hat with beside gamma."""
    return meta.get("alpha", 1.0) * meta["v_th"] if conventions.norm_scale == "alpha V_th" else 1.0


def norm_shift(meta, conventions):
    """What tdBN multiplies beta with."""
    return meta["v_th"] if conventions.norm_shift == "beta V_th" else 1.0


# --- the neuron, its surrogate and its width ------------------------------------------------------------------------


def width_of(a, meta, conventions, decay, T):
    """kappa_t (T,) of a neuron op; a window that collapses does so without a warning."""
    if "width" in a:
        return a["width"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        constants = (meta["v_th"], decay, T, np.dtype(np.float64), conventions, meta.get("alpha", 1.0))
        return width_of_layer(a.get("gamma"), *constants)


def replay_width_of(r, a, meta, conventions, tau, width):
    """kappa_t with its rounding errors, of the engine's `width`."""
    if "width" in a or "gamma" not in a or conventions.width in ("fixed", "2 V_th") or not (width > 0).all():
        return r.given(width)
    scale = norm_scale(meta, conventions)
    return neurons.width_of_layer(r, conventions.width, r.given(a["gamma"]), scale, tau, len(width))


def neuron_gradients(grads, a, meta, conventions, decay):
    """Of the leak or of w, and of gamma where it flows through the width."""
    ddecay, found = float(grads.ddecay), {}
    if conventions.width_gradient == "flows" and "width" not in a and "gamma" in a:
        constants = (meta["v_th"], decay, conventions, meta.get("alpha", 1.0))
        found["grad_gamma"], ddecay_width = width_gradient(grads.dwidth, a["gamma"], *constants)
        ddecay += ddecay_width
    if "w" in a:
        return {"grad_w": dw_from_ddecay(ddecay, decay, conventions), **found}
    return {"grad_decay": ddecay, **found}


def run_neuron(a, meta, conventions):
    decay = decay_from_w(a["w"], conventions) if "w" in a else meta["decay"]
    s, cache = engine.lif_forward(a["x"], decay, meta["v_th"], conventions, meta.get("surrogate", "rectangular"))
    width = width_of(a, meta, conventions, decay, len(s))
    grads = engine.lif_backward_full(a["ds"], cache, width)
    du = grads.dx
    if conventions.input_scale == "1 - tau":  # du is what the backward pass of the same values gives without the scale
        plain = cache._replace(conventions=replace(conventions, input_scale="1"))
        du = engine.lif_backward_full(a["ds"], plain, width).dx
    values = {"width": width, "u": cache.u, "s": s, "v": cache.v, "du": du, "grad_x": grads.dx}
    return {**values, **neuron_gradients(grads, a, meta, conventions, decay)}


def neuron_of(a, meta, conventions, values, turned=None):
    """The `neurons.Neuron` of a neuron op."""
    surrogate, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    w = float(a["w"]) if "w" in a else None
    decay = meta["decay"] if w is None else decay_from_w(a["w"], conventions)
    inside = neurons.window(values["u"], values["width"], v_th, conventions, surrogate)
    inside = inside if turned is None else inside ^ turned
    return neurons.Neuron(values["s"], inside, decay, v_th, conventions, surrogate, w)


def replay_neuron(r, a, meta, conventions, values, forced=(), turned=None):
    """`forced` names what the forward pass takes from `values` instead of computing it: s, u, width."""
    p = neuron_of(a, meta, conventions, values, turned)
    x, ds, tau = r.given(a["x"]), r.given(a["ds"]), neurons.leak(r, p)
    width = values["width"]
    if "width" not in forced:
        width = replay_width_of(r, a, meta, conventions, tau, width)
    u, v = neurons.lif_forward(r, x, p, tau)
    if "u" in forced:
        u, v = values["u"], neurons.reset(values["u"], p.s, p)
    grads = neurons.lif_backward(r, ds, x, u, v, width, p, tau)
    out = {"width": width, "u": u, "s": values["s"], "v": v, "du": grads.du, "grad_x": grads.dx}
    found = neuron_gradients(grads, a, meta, conventions, float(tau))
    for name in ("grad_gamma", "grad_w"):
        if name in found:
            value = found[name]
            found[name] = r(value, lambda value=value: 6 * np.abs(value))
    return {**out, **found}


def replay_forced(reference, forced, turned):
    """The function of a Rounding that computes a neuron op's Reference from forced s, u or width.

    `turned` {"u": mask} has the neurons that are on the other side of the window's edge than their u says.
    """
    conventions, a = Conventions(**reference.conventions), as_float64(reference.inputs)
    values, meta = {**reference.arrays, **forced}, reference.meta
    exact = NoRounding(meta.get("dtype", "float32"))
    values |= {key: replay_neuron(exact, a, meta, conventions, values, forced)[key] for key in ("u", "width")}
    return lambda r: replay_neuron(r, a, meta, conventions, values, forced, turned.get("u"))


def neuron_margins(a, meta, conventions, values, dtype):
    """`margins.Margins` of a neuron op."""
    p, norm = neuron_of(a, meta, conventions, values), None
    if "width" not in a and "gamma" in a:
        norm = layers.Norm(a["gamma"], a["gamma"], norm_scale(meta, conventions), 1.0, 1.0)
    e_width = proven.width_error(values["width"], p, norm, conventions, proven.leak_error(p, dtype), dtype)
    e_x = proven.input_error(a["x"], dtype)
    return proven.lif_margins(a["x"], e_x, values["u"], values["s"], values["width"], e_width, p, dtype)


def run_surrogate(a, meta, conventions):
    name, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    rows = zip(a["u"], a["width"], strict=True)
    return {"y": np.stack([engine.derivative(u - v_th, kappa, name, conventions) for u, kappa in rows])}


def replay_surrogate(r, a, meta, conventions, values):
    name, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    inside = neurons.window(a["u"], a["width"], v_th, conventions, name)
    p = neurons.Neuron(None, inside, 0.0, v_th, conventions, name)
    u = r.given(a["u"])
    z = u - v_th
    z = r(z, lambda: np.abs(z) + proven.input_error(np.array(v_th), r.dtype))
    return {"y": neurons.derivative(r, z + v_th, r.given(a["width"]), p)}


def run_width(a, meta, conventions):
    return {"width": width_of(a, meta, conventions, meta["decay"], meta["T"])}


def replay_width(r, a, meta, conventions, values):
    tau = r.given(np.array(meta["decay"]))
    return {"width": replay_width_of(r, a, meta, conventions, tau, values["width"])}


# --- tdBN, synapses, pools ------------------------------------------------------------------------------------------


def running_of(a):
    """(mean, var) for tdBN's evaluation mode, or None."""
    return (a["running_mean"], a["running_var"]) if "running_mean" in a else None


def run_tdbn(a, meta, conventions):
    scales = (meta["v_th"], meta.get("alpha", 1.0), meta.get("eps", 1e-5))
    y, cache = engine.tdbn_forward(a["x"], a["gamma"], a["beta"], *scales, conventions, running_of(a))
    return {"y": y, **gradients(("x", "gamma", "beta"), engine.tdbn_backward(a["dy"], cache))}


def replay_tdbn(r, a, meta, conventions, values):
    running = running_of(a)
    running = running and tuple(map(r.given, running))
    unbiased = conventions.norm_variance == "unbiased"
    gamma, beta = r.given(a["gamma"]), r.given(a["beta"])
    scale, shift = norm_scale(meta, conventions), norm_shift(meta, conventions)
    p = layers.Norm(gamma, beta, scale, shift, meta.get("eps", 1e-5), unbiased, running)
    y, p = layers.tdbn_forward(r, r.given(a["x"]), p)
    return {"y": y, **gradients(("x", "gamma", "beta"), layers.tdbn_backward(r, r.given(a["dy"]), p))}


def run_conv2d(a, meta, conventions):
    geometry = (meta.get("stride", 1), meta.get("padding", 0))
    y, cache = engine.conv2d_forward(a["x"], a["weight"], a.get("bias"), *geometry)
    return {"y": y, **gradients(("x", "weight", "bias"), engine.conv2d_backward(a["dy"], cache))}


def run_linear(a, meta, conventions):
    y, cache = engine.linear_forward(a["x"], a["weight"], a.get("bias"))
    return {"y": y, **gradients(("x", "weight", "bias"), engine.linear_backward(a["dy"], cache))}


def replay_conv2d(r, a, meta, conventions, values):
    bias = r.given(a["bias"]) if "bias" in a else None
    p = layers.Synapse(r.given(a["weight"]), bias, meta.get("stride", 1), meta.get("padding", 0))
    x = r.given(a["x"])
    y = layers.conv2d_forward(r, x, p)
    return {"y": y, **gradients(("x", "weight", "bias"), layers.conv2d_backward(r, r.given(a["dy"]), x, p))}


def run_avg_pool(a, meta, conventions):
    y, cache = engine.avg_pool_forward(a["x"])
    return {"y": y, "grad_x": engine.avg_pool_backward(a["dy"], cache)}


def replay_avg_pool(r, a, meta, conventions, values):
    y = layers.avg_pool_forward(r, r.given(a["x"]))
    return {"y": y, "grad_x": layers.avg_pool_backward(r, r.given(a["dy"]), a["x"].shape)}


def run_global_avg_pool(a, meta, conventions):
    y, cache = engine.global_avg_pool_forward(a["x"])
    return {"y": y, "grad_x": engine.global_avg_pool_backward(a["dy"], cache)}


def replay_global_avg_pool(r, a, meta, conventions, values):
    y = layers.global_avg_pool_forward(r, r.given(a["x"]))
    return {"y": y, "grad_x": layers.global_avg_pool_backward(r, r.given(a["dy"]), a["x"].shape)}


def run_add(a, meta, conventions):
    return {"y": a["x"] + a["side"], "grad_x": a["dy"], "grad_side": a["dy"]}


def replay_add(r, a, meta, conventions, values):
    dy = r.given(a["dy"])
    return {"y": layers.add(r, r.given(a["x"]), r.given(a["side"])), "grad_x": dy, "grad_side": dy}


# --- losses ---------------------------------------------------------------------------------------------------------


def run_cross_entropy(a, meta, conventions):
    loss, cache = engine.cross_entropy_forward(a["logits"], a["labels"], conventions)
    return {"loss": loss, "dlogits": engine.cross_entropy_backward(cache)}


def replay_cross_entropy(r, a, meta, conventions, values):
    loss, dlogits = layers.cross_entropy(r, r.given(a["logits"]), a["labels"], conventions.readout)
    return {"loss": loss, "dlogits": dlogits}


def run_tet(a, meta, conventions):
    loss, cache = engine.tet_forward(a["logits"], a["labels"], meta.get("lam", 1e-3), meta.get("target", 1.0))
    return {"loss": loss, "dlogits": engine.tet_backward(cache)}


def replay_tet(r, a, meta, conventions, values):
    lam, target = meta.get("lam", 1e-3), meta.get("target", 1.0)
    loss, dlogits = layers.tet(r, r.given(a["logits"]), a["labels"], lam, target)
    return {"loss": loss, "dlogits": dlogits}


# --- the table ------------------------------------------------------------------------------------------------------

LIF_ARRAYS = "width u s v du grad_x grad_decay [grad_gamma]"
PLIF_ARRAYS = "width u s v du grad_x grad_w [grad_gamma]"
NORM_INPUTS = "x gamma beta dy [running_mean] [running_var]"
SYNAPSE_INPUTS, SYNAPSE_ARRAYS = "x weight [bias] dy", "y grad_x grad_weight [grad_bias]"

OPS = {
    "lif": Op("x ds [gamma] [width] [x_second]", LIF_ARRAYS, run_neuron, replay_neuron),
    "plif": Op("x ds w [gamma] [width] [x_second]", PLIF_ARRAYS, run_neuron, replay_neuron),
    "surrogate": Op("u width", "y", run_surrogate, replay_surrogate),
    "width": Op("gamma", "width", run_width, replay_width),
    "tdbn": Op(NORM_INPUTS, "y grad_x grad_gamma grad_beta", run_tdbn, replay_tdbn),
    "conv2d": Op(SYNAPSE_INPUTS, SYNAPSE_ARRAYS, run_conv2d, replay_conv2d),
    "linear": Op(SYNAPSE_INPUTS, SYNAPSE_ARRAYS, run_linear, replay_conv2d),
    "avg_pool": Op("x dy", "y grad_x", run_avg_pool, replay_avg_pool),
    "global_avg_pool": Op("x dy", "y grad_x", run_global_avg_pool, replay_global_avg_pool),
    "add": Op("x side dy", "y grad_x grad_side", run_add, replay_add),
    "cross_entropy": Op("logits labels", "loss dlogits", run_cross_entropy, replay_cross_entropy),
    "tet": Op("logits labels", "loss dlogits", run_tet, replay_tet),
}
