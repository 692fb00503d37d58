"""The reference of one op: the engine's values (`ops.run_op`), and their bounds and margins from the replay.

One function per op, `(r, inputs, meta, conventions, values) -> {name: array}`; `values` are the engine's own arrays, of which
the discrete ones (spikes, windows) stay as they are.
"""

import numpy as np

from agl_ref.engine.neuron import decay_from_w, dw_from_ddecay
from agl_ref.engine.width import width_gradient
from agl_ref.oracle.cases.ops import run_op

from . import margins as proven
from . import replay as ops
from . import replay_network as network
from .reference import _seed, agree, assemble
from .tolerance import REPLAYS, Rounding, spread


def op_reference(id, op, inputs, meta, conventions, exact=False, dtype="float32", replays=REPLAYS):
    """The Reference of one op on these inputs; see `agl_ref.oracle.cases.ops` for the names.

    Parameters
    ----------
    id, op : str
    inputs : {name: ndarray}
    meta : dict
        The op's scalars.
    conventions : Conventions
    exact : bool
        Every value is exact in float32: all bounds are 0.
    dtype, replays
        As for `agl_ref.oracle.reference`.
    """
    arrays = run_op(op, inputs, meta, conventions)
    wide = {
        name: a if a.dtype.kind in "iu" else a.astype(np.float64)
        for name, a in ((name, np.asarray(a)) for name, a in inputs.items())
    }
    plain, bounds = spread(
        lambda r: _REPLAYS[op](r, wide, meta, conventions, arrays), Rounding(_seed(id), dtype), replays
    )
    agree(plain, arrays)
    margins = {}
    if "s" in arrays:
        found = _margins(wide, meta, conventions, arrays, dtype)
        margins = {"s": found.spike, "window": found.window}
        for key in ("u", "v", "width"):
            bounds[key] = np.minimum(bounds[key], getattr(found, key))
    if op == "surrogate" and meta.get("surrogate", "rectangular") == "rectangular":
        u, width = wide["u"], wide["width"]
        given = (u, proven.input_error(u, dtype), width, proven.input_error(width, dtype))
        margins["window"] = proven.given_window(*given, meta["v_th"], dtype)
    meta = {**meta, "op": op, "dtype": dtype, "certificate": proven.certificate(margins)}
    if "T" not in meta:
        meta["T"] = len(next(iter(inputs.values())))
    return assemble(id, conventions, meta, inputs, arrays, bounds, margins, exact)


def _neuron_of(a, meta, conventions, values):
    surrogate, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    w = float(a["w"]) if "w" in a else None
    decay = meta["decay"] if w is None else decay_from_w(a["w"], conventions)
    inside = network.window(values["u"], values["width"], v_th, conventions, surrogate)
    return ops.Neuron(values["s"], inside, decay, v_th, conventions, surrogate, w)


def _norm_scale(meta, conventions):
    return meta.get("alpha", 1.0) * meta["v_th"] if conventions.norm_scale == "alpha V_th" else 1.0


def _width_of(r, a, meta, conventions, tau, values):
    width = values["width"]
    by_rule = "width" not in a and "gamma" in a and conventions.width != "fixed" and (width > 0).all()
    if not by_rule:
        return r.given(width)
    return ops.width_values(r, conventions.width, r.given(a["gamma"]), _norm_scale(meta, conventions), tau, len(width))


def neuron_replay(reference, forced):
    """The function of a Rounding that computes a neuron op from forced s, u or width."""
    from agl_ref.conventions import Conventions

    conventions = Conventions(**reference.conventions)
    a = {name: np.asarray(value, np.float64) for name, value in reference.inputs.items()}
    return lambda r: _neuron(r, a, reference.meta, conventions, {**reference.arrays, **forced}, forced)


def _neuron(r, a, meta, conventions, values, forced=()):
    p = _neuron_of(a, meta, conventions, values)
    x, ds, tau = r.given(a["x"]), r.given(a["ds"]), ops.leak(r, p)
    width = values["width"] if "width" in forced else _width_of(r, a, meta, conventions, tau, values)
    u, v = ops.neuron_forward(r, x, p, tau)
    if "u" in forced:
        u, v = values["u"], ops.after_reset(values["u"], p.s, p)
    grads = ops.neuron_backward(r, ds, x, u, v, width, p, tau)
    ddecay, out = float(grads.ddecay), {"width": width, "u": u, "s": values["s"], "v": v}
    out.update({"du": grads.du, "grad_x": grads.dx})
    if conventions.width_gradient == "flows" and "width" not in a and "gamma" in a:
        dgamma, more = width_gradient(
            grads.dwidth, a["gamma"], p.v_th, float(tau), conventions, meta.get("alpha", 1.0)
        )  # fmt: skip
        ddecay += more
        out["grad_gamma"] = r(dgamma, lambda: 6 * np.abs(dgamma))
    if p.w is None:
        out["grad_decay"] = np.array(ddecay)
    else:
        dw = dw_from_ddecay(ddecay, float(tau), conventions)
        out["grad_w"] = r(dw, lambda: 6 * np.abs(dw))
    return out


def _surrogate(r, a, meta, conventions, values):
    name, v_th = meta.get("surrogate", "rectangular"), meta["v_th"]
    inside = network.window(a["u"], a["width"], v_th, conventions, name)
    p = ops.Neuron(None, inside, 0.0, v_th, conventions, name)
    u = r.given(a["u"])
    z = u - v_th
    z = r(z, lambda: np.abs(z) + proven.input_error(np.array(v_th), r.dtype))
    return {"y": ops.slopes(r, z + v_th, r.given(a["width"]), p)}


def _width(r, a, meta, conventions, values):
    tau = r.given(np.array(meta["decay"]))
    return {"width": _width_of(r, a, meta, conventions, tau, values)}


def _tdbn(r, a, meta, conventions, values):
    running = tuple(r.given(a[key]) for key in ("running_mean", "running_var")) if "running_mean" in a else None
    unbiased = conventions.norm_variance == "unbiased"
    gamma, beta = r.given(a["gamma"]), r.given(a["beta"])
    p = ops.Norm(gamma, beta, _norm_scale(meta, conventions), meta.get("eps", 1e-5), unbiased, running)
    y, p = ops.norm_forward(r, r.given(a["x"]), p)
    return {"y": y, **_grads(("x", "gamma", "beta"), ops.norm_backward(r, r.given(a["dy"]), p))}


def _synapse(r, a, meta, conventions, values):
    bias = r.given(a["bias"]) if "bias" in a else None
    p = ops.Synapse(r.given(a["weight"]), bias, meta.get("stride", 1), meta.get("padding", 0))
    x = r.given(a["x"])
    y = ops.synapse_forward(r, x, p)
    return {"y": y, **_grads(("x", "weight", "bias"), ops.synapse_backward(r, r.given(a["dy"]), x, p))}


def _grads(names, grads):
    return {f"grad_{name}": grad for name, grad in zip(names, grads, strict=True) if grad is not None}


def _avg_pool(r, a, meta, conventions, values):
    y = ops.pool_forward(r, r.given(a["x"]))
    return {"y": y, "grad_x": ops.pool_backward(r, r.given(a["dy"]), a["x"].shape)}


def _global_avg_pool(r, a, meta, conventions, values):
    y = ops.global_pool_forward(r, r.given(a["x"]))
    return {"y": y, "grad_x": ops.global_pool_backward(r, r.given(a["dy"]), a["x"].shape)}


def _add(r, a, meta, conventions, values):
    dy = r.given(a["dy"])
    return {"y": ops.add(r, r.given(a["x"]), r.given(a["side"])), "grad_x": dy, "grad_side": dy}


def _cross_entropy(r, a, meta, conventions, values):
    loss, dlogits = network.cross_entropy(r, r.given(a["logits"]), a["labels"], conventions.readout)
    return {"loss": loss, "dlogits": dlogits}


def _tet(r, a, meta, conventions, values):
    loss, dlogits = network.tet(
        r, r.given(a["logits"]), a["labels"], meta.get("lam", 1e-3), meta.get("target", 1.0)
    )  # fmt: skip
    return {"loss": loss, "dlogits": dlogits}


_REPLAYS = {
    "lif": _neuron,
    "plif": _neuron,
    "surrogate": _surrogate,
    "width": _width,
    "tdbn": _tdbn,
    "conv2d": _synapse,
    "linear": _synapse,
    "avg_pool": _avg_pool,
    "global_avg_pool": _global_avg_pool,
    "add": _add,
    "cross_entropy": _cross_entropy,
    "tet": _tet,
}


def _margins(a, meta, conventions, values, dtype):
    """`margins.Margins` of a neuron op."""
    p = _neuron_of(a, meta, conventions, values)
    norm = None
    if "width" not in a and "gamma" in a:
        norm = ops.Norm(a["gamma"], a["gamma"], _norm_scale(meta, conventions), 1.0)
    e_width = proven.width_error(values["width"], p, norm, conventions, proven.leak_error(p, dtype), dtype)
    e_x = proven.input_error(a["x"], dtype)
    return proven.neuron_margins(a["x"], e_x, values["u"], values["s"], values["width"], e_width, p, dtype)
