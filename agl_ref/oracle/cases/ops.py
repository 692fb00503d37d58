"""One op of the engine on named inputs: what the golden cases of single ops are computed with, in float64.

    op                    inputs                                              arrays
    lif, plif             x ds [w] [gamma] [width] [x_second]       width u s v du grad_x grad_decay|grad_w [grad_gamma]
    surrogate             u width                                             y, the derivative
    width                 gamma                                               width
    tdbn                  x gamma beta dy [running_mean running_var]          y grad_x grad_gamma grad_beta
    conv2d, linear        x weight [bias] dy                                  y grad_x grad_weight [grad_bias]
    avg_pool              x dy                                                y grad_x
    global_avg_pool       x dy                                                y grad_x
    add                   x side dy                                           y grad_x grad_side
    cross_entropy, tet    logits labels                                       loss dlogits

`meta` has the scalars: v_th, decay, alpha, eps, stride, padding, T, lam, target, surrogate. A neuron's kappa_t is the given
width, or follows the rule from gamma, or is 1 without either (a rule "fixed" has its own). `x_second` is the input of another
forward pass between the forward and the backward pass; it has no outputs.
"""

import warnings

import numpy as np


def run_op(op, inputs, meta, conventions):
    """{name: float64 array} in the order of computation.

    Raises ValueError for an op that is not in the table above.
    """
    if op not in _OPS:
        raise ValueError(f"op: expected one of {', '.join(_OPS)}, received {op!r}; see agl_ref.oracle.cases.ops")
    a = {
        name: np.asarray(value) if np.asarray(value).dtype.kind in "iu" else np.asarray(value, np.float64)
        for name, value in inputs.items()
    }
    return {name: np.asarray(value, np.float64) for name, value in _OPS[op](a, meta, conventions).items()}


def width_of(a, meta, conventions, decay, T):
    """kappa_t (T,) of a neuron op; a window that collapses does so without a warning."""
    from agl_ref.engine.width import width_of_layer

    if "width" in a:
        return a["width"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return width_of_layer(
            a.get("gamma"), meta["v_th"], decay, T, np.dtype(np.float64), conventions, meta.get("alpha", 1.0)
        )


def _neuron(a, meta, conventions):
    from agl_ref.engine import neuron
    from agl_ref.engine.ops import lif_backward_full, lif_forward
    from agl_ref.engine.width import width_gradient

    surrogate, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    decay = neuron.decay_from_w(a["w"], conventions) if "w" in a else meta["decay"]
    s, cache = lif_forward(a["x"], decay, v_th, conventions, surrogate)
    width = width_of(a, meta, conventions, decay, len(s))
    grads = lif_backward_full(a["ds"], cache, width)
    scaled = conventions.input_scale == "1 - tau"
    out = {"width": width, "u": cache.u, "s": s, "v": cache.v}
    out["du"] = _unscaled(a["ds"], cache, width) if scaled else grads.dx
    out["grad_x"] = grads.dx
    ddecay, dgamma = float(grads.ddecay), None
    if conventions.width_gradient == "flows" and "width" not in a and "gamma" in a:
        alpha = meta.get("alpha", 1.0)
        dgamma, more = width_gradient(grads.dwidth, a["gamma"], v_th, decay, conventions, alpha)
        ddecay += more
    if "w" in a:
        out["grad_w"] = neuron.dw_from_ddecay(ddecay, decay, conventions)
    else:
        out["grad_decay"] = ddecay
    if dgamma is not None:
        out["grad_gamma"] = dgamma
    return out


def _unscaled(ds, cache, width):
    """du where the input is scaled: the backward pass of the same values without the scale."""
    from dataclasses import replace

    from agl_ref.engine.ops import lif_backward_full

    plain = replace(cache.conventions, input_scale="1")
    return lif_backward_full(ds, cache._replace(conventions=plain), width).dx


def _surrogate(a, meta, conventions):
    from agl_ref.engine.ops import derivative

    name, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    rows = [derivative(u - v_th, kappa, name, conventions) for u, kappa in zip(a["u"], a["width"], strict=True)]
    return {"y": np.stack(rows)}


def _width(a, meta, conventions):
    return {"width": width_of(a, meta, conventions, meta["decay"], meta["T"])}


def _tdbn(a, meta, conventions):
    from agl_ref.engine.ops import tdbn_backward, tdbn_forward

    running = (a["running_mean"], a["running_var"]) if "running_mean" in a else None
    scales = (meta["v_th"], meta.get("alpha", 1.0), meta.get("eps", 1e-5))
    y, cache = tdbn_forward(a["x"], a["gamma"], a["beta"], *scales, conventions, running)
    return {"y": y, **_named(tdbn_backward(a["dy"], cache), "x", "gamma", "beta")}


def _named(grads, *names):
    return {f"grad_{name}": grad for name, grad in zip(names, grads, strict=True) if grad is not None}


def _conv2d(a, meta, conventions):
    from agl_ref.engine.ops import conv2d_backward, conv2d_forward

    y, cache = conv2d_forward(a["x"], a["weight"], a.get("bias"), meta.get("stride", 1), meta.get("padding", 0))
    return {"y": y, **_named(conv2d_backward(a["dy"], cache), "x", "weight", "bias")}


def _linear(a, meta, conventions):
    from agl_ref.engine.ops import linear_backward, linear_forward

    y, cache = linear_forward(a["x"], a["weight"], a.get("bias"))
    return {"y": y, **_named(linear_backward(a["dy"], cache), "x", "weight", "bias")}


def _avg_pool(a, meta, conventions):
    from agl_ref.engine.ops import avg_pool_backward, avg_pool_forward

    y, cache = avg_pool_forward(a["x"])
    return {"y": y, "grad_x": avg_pool_backward(a["dy"], cache)}


def _global_avg_pool(a, meta, conventions):
    from agl_ref.engine.ops import global_avg_pool_backward, global_avg_pool_forward

    y, cache = global_avg_pool_forward(a["x"])
    return {"y": y, "grad_x": global_avg_pool_backward(a["dy"], cache)}


def _add(a, meta, conventions):
    return {"y": a["x"] + a["side"], "grad_x": a["dy"], "grad_side": a["dy"]}


def _cross_entropy(a, meta, conventions):
    from agl_ref.engine.ops import cross_entropy_backward, cross_entropy_forward

    loss, cache = cross_entropy_forward(a["logits"], a["labels"], conventions)
    return {"loss": loss, "dlogits": cross_entropy_backward(cache)}


def _tet(a, meta, conventions):
    from agl_ref.engine.ops import tet_backward, tet_forward

    loss, cache = tet_forward(a["logits"], a["labels"], meta.get("lam", 1e-3), meta.get("target", 1.0))
    return {"loss": loss, "dlogits": tet_backward(cache)}


_OPS = {
    "lif": _neuron,
    "plif": _neuron,
    "surrogate": _surrogate,
    "width": _width,
    "tdbn": _tdbn,
    "conv2d": _conv2d,
    "linear": _linear,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "add": _add,
    "cross_entropy": _cross_entropy,
    "tet": _tet,
}
OPS = tuple(_OPS)
