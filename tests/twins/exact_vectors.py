"""The second generator of golden cases: tiers 1 and 2 in exact rational arithmetic, without the engine.

Takes a case's stored inputs, conventions and scalars, and gives every array as fractions, with two ledgers of the significand
bits that the values on the way need: one of the forward pass, one of everything.
"""

from fractions import Fraction
from math import isqrt
from types import SimpleNamespace

import numpy as np
from twins import exact

EXACT_OPS = ("lif", "plif", "surrogate", "width", "tdbn", "conv2d", "linear", "avg_pool", "global_avg_pool", "add")


class Sheet:
    """One case's inputs as fractions, its scalars, conventions and ledgers."""

    def __init__(self, reference):
        self.meta = reference.meta
        self.c = SimpleNamespace(**reference.conventions)
        self.a = {name: exact.fractions(value) for name, value in reference.inputs.items() if name != "labels"}
        self.forward, self.backward = exact.Ledger(), exact.Ledger()
        self.stored = reference.arrays

    def number(self, key, default=None):
        return Fraction(float(self.meta.get(key, default)))


def evaluate(reference):
    """({name: array of fractions}, forward ledger, backward ledger) of a case of tier 1 or 2."""
    sheet = Sheet(reference)
    return _MAKERS[reference.meta["op"]](sheet), sheet.forward, sheet.backward


def scalar(value):
    out = np.empty((), object)
    out[()] = value
    return out


def root(value):
    """The square root of a fraction that has a rational one."""
    found = Fraction(isqrt(value.numerator), isqrt(value.denominator))
    if found * found != value:
        raise ValueError(f"expected a rational square, received {value}; change eps or the variances")
    return found


def widths(sheet, T, decay):
    """kappa_t by the case's own width, by the rule from gamma, or 1."""
    if "width" in sheet.a:
        return list(sheet.a["width"])
    if sheet.c.width == "fixed":
        return [Fraction(sheet.c.fixed_width)] * T
    if sheet.c.width == "2 V_th":
        return [2 * sheet.number("v_th")] * T
    if "gamma" not in sheet.a:
        return [Fraction(1)] * T
    plain = sheet.c.norm_scale == "1"
    v_th, alpha = (Fraction(1),) * 2 if plain else (sheet.number("v_th"), sheet.number("alpha", 1.0))
    return exact.width_rule(list(sheet.a["gamma"]), v_th, decay, T, sheet.c.width, alpha)


def neuron(sheet):
    a, c, v_th = sheet.a, sheet.c, sheet.number("v_th")
    learned = "w" in a
    if learned and a["w"][()] != 0:
        raise ValueError(f"expected w = 0, whose sigmoid is 1/2, received {a['w'][()]}; it belongs to tier 3")
    decay = Fraction(1, 2) if learned else sheet.number("decay")
    u, s = exact.lif_forward(a["x"], decay, v_th, c, sheet.forward)
    v = exact.zeros(u.shape)
    for i in np.ndindex(*u.shape):
        v[i] = exact.after_reset(u[i], s[i], v_th, c)
    width = widths(sheet, len(u), decay)
    back = (decay, v_th, width, c, sheet.backward, sheet.meta.get("surrogate", "rectangular"))
    dx, ddecay, _ = exact.lif_backward(a["ds"], a["x"], u, s, *back)
    du = dx / (1 - decay) if c.input_scale == "1 - tau" else dx
    out = {"width": np.array(width, object), "u": u, "s": s, "v": v, "du": du, "grad_x": dx}
    if learned:
        sign = 1 if c.plif == "tau" else -1
        out["grad_w"] = scalar(sheet.backward.note(sign * ddecay * decay * (1 - decay)))
    else:
        out["grad_decay"] = scalar(ddecay)
    return out


def surrogate(sheet):
    u, v_th = sheet.a["u"], sheet.number("v_th")
    y = exact.zeros(u.shape)
    for t, i in np.ndindex(*u.shape):
        z = sheet.backward.note_sum([u[t, i], -v_th])
        y[t, i] = exact.surrogate_derivative(z, sheet.a["width"][t], sheet.meta["surrogate"], sheet.c, sheet.backward)
    return {"y": y}


def width_op(sheet):
    width = widths(sheet, sheet.meta["T"], sheet.number("decay"))
    sheet.backward.note_sum([sum(abs(g) for g in sheet.a["gamma"])])
    return {"width": np.array([sheet.backward.note(k) for k in width], object)}


def tdbn(sheet):
    a, c, ledger = sheet.a, sheet.c, sheet.backward
    x, dy = a["x"].reshape(-1, a["x"].shape[-1]), a["dy"].reshape(-1, a["x"].shape[-1])
    M, C = x.shape
    scale = Fraction(1) if c.norm_scale == "1" else sheet.number("alpha", 1.0) * sheet.number("v_th")
    unit = Fraction(1) if c.norm_shift == "beta" else sheet.number("v_th")
    y, dx = exact.zeros(x.shape), exact.zeros(x.shape)
    dgamma, dbeta = exact.zeros((C,)), exact.zeros((C,))
    for ch in range(C):
        column, d = x[:, ch], dy[:, ch]
        training = "running_mean" not in a
        if training:
            mean = ledger.note(ledger.note_sum(column) / M)
            ledger.note_sum([ledger.note(value * value) for value in column])  # E[x^2], for the one-pass formula
            var = ledger.note_sum([ledger.note((value - mean) ** 2) for value in column]) / M
        else:
            mean, var = a["running_mean"][ch], a["running_var"][ch]
        inv_std = ledger.note(1 / root(ledger.note_sum([var, sheet.number("eps")])))
        x_hat = [ledger.note((value - mean) * inv_std) for value in column]
        gamma = a["gamma"][ch]
        y[:, ch] = [ledger.note_sum([ledger.note(gamma * scale * h), ledger.note(unit * a["beta"][ch])]) for h in x_hat]
        g = [ledger.note(value * gamma * scale) for value in d]
        first = ledger.note(ledger.note_sum(g) / M) if training else Fraction(0)
        second = ledger.note_sum([gi * hi for gi, hi in zip(g, x_hat, strict=True)]) / M if training else Fraction(0)
        parts = ([gi, -first, -ledger.note(hi * second)] for gi, hi in zip(g, x_hat, strict=True))
        dx[:, ch] = [ledger.note(ledger.note_sum(part) * inv_std) for part in parts]
        dgamma[ch] = ledger.note_sum([ledger.note(di * scale * hi) for di, hi in zip(d, x_hat, strict=True)])
        dbeta[ch] = ledger.note(unit * ledger.note_sum(d))
    shape = a["x"].shape
    return {"y": y.reshape(shape), "grad_x": dx.reshape(shape), "grad_gamma": dgamma, "grad_beta": dbeta}


def synapse(sheet):
    a, ledger = sheet.a, sheet.backward
    bias = a.get("bias")
    if sheet.meta["op"] == "linear":
        y = exact.linear_forward(a["x"], a["weight"], bias, ledger)
        grads = exact.linear_backward(a["dy"], a["x"], a["weight"], ledger)
    else:
        geometry = (sheet.meta["stride"], sheet.meta["padding"])
        y = exact.conv2d_forward(a["x"], a["weight"], bias, *geometry, ledger)
        grads = exact.conv2d_backward(a["dy"], a["x"], a["weight"], *geometry, ledger)
    out = {"y": y, "grad_x": grads[0], "grad_weight": grads[1]}
    return out if bias is None else {**out, "grad_bias": grads[2]}


def pool(sheet):
    a, ledger = sheet.a, sheet.backward
    if sheet.meta["op"] == "avg_pool":
        return {
            "y": exact.avg_pool_forward(a["x"], ledger),
            "grad_x": exact.avg_pool_backward(a["dy"], a["x"].shape, ledger),
        }
    return {
        "y": exact.global_avg_pool_forward(a["x"], ledger),
        "grad_x": exact.global_avg_pool_backward(a["dy"], a["x"].shape, ledger),
    }


def add(sheet):
    a = sheet.a
    y = exact.zeros(a["x"].shape)
    for i in np.ndindex(*y.shape):
        y[i] = sheet.backward.note_sum([a["x"][i], a["side"][i]])
    return {"y": y, "grad_x": a["dy"], "grad_side": a["dy"]}


def network(sheet):
    """A network without norm, from conv, linear, pool, flatten and readout; its dlogits are taken as stored."""
    a, layers = sheet.a, sheet.meta["layers"]
    out, kept, y = {}, [], a["x"]
    for layer in layers:
        kept.append(y)
        y = _layer_forward(sheet, layer, y, out)
    out["logits"] = y
    d = exact.fractions(sheet.stored["dlogits"])
    for layer, x in zip(reversed(layers), reversed(kept), strict=True):
        d = _layer_backward(sheet, layer, x, d, out)
    return {**out, "grad_x": d}


def _layer_forward(sheet, layer, x, out):
    a, kind, ledger = sheet.a, layer["kind"], sheet.forward
    if kind == "pool":
        return exact.avg_pool_forward(x, ledger)
    if kind == "flatten":
        return x.reshape(*x.shape[:2], -1)
    name = layer["name"]
    if kind == "readout":
        return exact.linear_forward(x, a[f"{name}.weight"], a.get(f"{name}.bias"), ledger)
    if layer["norm"] or layer["neuron"] != "lif" or layer["synapse"] != "conv":
        raise ValueError(f"{name}: expected a conv and LIF without norm, received another block; it belongs to tier 3")
    current = exact.conv2d_forward(x, a[f"{name}.weight"], None, layer["stride"], layer["padding"], ledger)
    decay, v_th = (Fraction(float(layer[key])) for key in ("decay", "v_th"))
    u, s = exact.lif_forward(current, decay, v_th, sheet.c, ledger)
    out[f"{name}.width"] = np.array(widths(sheet, len(u), decay), object)
    v = exact.zeros(u.shape)
    for i in np.ndindex(*u.shape):
        v[i] = exact.after_reset(u[i], s[i], v_th, sheet.c)
    out.update({f"{name}.x": current, f"{name}.u": u, f"{name}.s": s, f"{name}.v": v})
    return s


def _layer_backward(sheet, layer, x, d, out):
    a, kind, ledger = sheet.a, layer["kind"], sheet.backward
    if kind == "pool":
        return exact.avg_pool_backward(d, x.shape, ledger)
    if kind == "flatten":
        return d.reshape(x.shape)
    name = layer["name"]
    if kind == "readout":
        dx, out[f"grad_{name}.weight"], dbias = exact.linear_backward(d, x, a[f"{name}.weight"], ledger)
        if f"{name}.bias" in a:
            out[f"grad_{name}.bias"] = dbias
        return dx
    u, s, current = (out[f"{name}.{key}"] for key in ("u", "s", "x"))
    scalars = (Fraction(float(layer["decay"])), Fraction(float(layer["v_th"])), list(out[f"{name}.width"]))
    out[f"{name}.ds"] = d
    du, _, _ = exact.lif_backward(d, current, u, s, *scalars, sheet.c, ledger)
    out[f"{name}.du"] = out[f"{name}.dx"] = du
    geometry = (layer["stride"], layer["padding"])
    dx, out[f"grad_{name}.weight"], _ = exact.conv2d_backward(du, x, a[f"{name}.weight"], *geometry, ledger)
    return dx


_MAKERS = {
    "lif": neuron,
    "plif": neuron,
    "surrogate": surrogate,
    "width": width_op,
    "tdbn": tdbn,
    "conv2d": synapse,
    "linear": synapse,
    "avg_pool": pool,
    "global_avg_pool": pool,
    "add": add,
    "network": network,
}
