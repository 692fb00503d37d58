"""The ops in exact rational arithmetic, and how many significand bits a float needs to compute them.

Every function takes and returns arrays of fractions.Fraction; `c` is any object with the fields of the
conventions table. A Ledger records each product and each sum on the way: if it fits a float's significand,
then any correct implementation in that float, whatever its order of summation and with or without fused
multiply-add, gives these bits.
"""

from fractions import Fraction
from math import isqrt

import numpy as np

SIGNIFICAND = {"float32": 24, "float64": 53}


def fractions(array):
    """The array's values as exact fractions."""
    out = np.empty(np.shape(array), object)
    for index in np.ndindex(*out.shape):
        out[index] = Fraction(float(np.asarray(array)[index]))
    return out


def zeros(shape):
    out = np.empty(shape, object)
    for index in np.ndindex(*out.shape):
        out[index] = Fraction(0)
    return out


def floats(array, dtype):
    """Fractions as floats of `dtype`, rounded once (to nearest) where they do not fit."""
    out = np.empty(np.shape(array), dtype)
    for index in np.ndindex(*out.shape):
        out[index] = float(array[index])  # exact for the fractions that a Ledger admits
    return out


def trailing(value):
    """The exponent of a dyadic fraction's last set bit."""
    if value.denominator > 1:
        return -(value.denominator.bit_length() - 1)
    return (value.numerator & -value.numerator).bit_length() - 1


class Ledger:
    """The most significand bits that any value on the way needed; `dyadic` turns False if one cannot."""

    def __init__(self):
        self.bits = 0
        self.dyadic = True

    def note(self, value):
        return self.note_sum([value])

    def note_sum(self, terms):
        """Exact in any order if the sum of magnitudes, in units of the finest last bit, fits."""
        terms = [Fraction(term) for term in terms if term != 0]
        if any(term.denominator & (term.denominator - 1) for term in terms):
            self.dyadic = False
        elif terms:
            finest = Fraction(2) ** min(trailing(term) for term in terms)
            self.bits = max(self.bits, (sum(abs(term) for term in terms) / finest).numerator.bit_length())
        return sum(terms, Fraction(0))

    def fits(self, dtype):
        return self.dyadic and self.bits <= SIGNIFICAND[np.dtype(dtype).name]


# --- surrogate and width --------------------------------------------------------------------------


def surrogate_derivative(z, k, name, c, ledger):
    """h(z) of width k, of those that are rational functions with dyadic values."""
    if k <= 0:
        return Fraction(0)
    distance = ledger.note(abs(z))
    if name == "rectangular":
        inside = distance < k / 2 or (c.window_edge == "<=" and distance == k / 2)
        h = ledger.note(1 / k) if inside else Fraction(0)
    elif name == "triangular":
        h = ledger.note(max(Fraction(0), ledger.note_sum([Fraction(1), -distance / k])) / k)
    elif name == "straight_through":
        h = ledger.note(1 / k)
    return ledger.note(h * {"1/kappa": Fraction(1), "1": k, "1/(2 kappa)": Fraction(1, 2)}[c.surrogate_scale])


def surrogate_primitive(z, k, name):
    """S(z) of width k."""
    if name == "rectangular":
        return min(max(z / k + Fraction(1, 2), Fraction(0)), Fraction(1))
    r = min(max(z / k, Fraction(-1)), Fraction(1))
    return (1 + r) ** 2 / 2 if r < 0 else 1 - (1 - r) ** 2 / 2


def width_rule(gamma, v_th, decay, T, rule, alpha=Fraction(1)):
    """kappa_t, t = 1..T, for a decay that makes 1 + tau^2 a rational square (tau = 3/4: 5/4)."""
    square = 1 + decay * decay
    root = Fraction(isqrt(square.numerator), isqrt(square.denominator))
    if root * root != square:
        raise ValueError(f"1 + tau^2 must be a rational square, received {square}; take tau = 3/4")
    first = max(Fraction(0), 2 * sum(gamma, Fraction(0)) / len(gamma) * alpha * v_th)
    return [first * (root if rule == "later" or (rule == "adaptive" and t > 0) else 1) for t in range(T)]


# --- neurons --------------------------------------------------------------------------------------


def after_reset(u, s, v_th, c):
    if c.reset == "hard":
        return u * (1 - s)
    return u - v_th * s if c.reset == "soft" else u


def lif_forward(x, decay, v_th, c, ledger):
    """(u, s)."""
    u, s = zeros(x.shape), zeros(x.shape)
    for i in np.ndindex(*x.shape[1:]):
        v = Fraction(0)
        for t in range(len(x)):
            gain = 1 if c.input_scale == "1" else 1 - decay
            leaked, current = ledger.note(decay * v), ledger.note(gain * x[(t, *i)])
            late = v_th * s[(t - 1, *i)] if c.reset == "soft late" and t > 0 else Fraction(0)
            ut = ledger.note_sum([leaked, current, -late])
            st = Fraction(1 if ut > v_th or (ut == v_th and c.spike_test == ">=") else 0)
            v = ledger.note(after_reset(ut, st, v_th, c))
            u[(t, *i)], s[(t, *i)] = ut, st
    return u, s


def lif_backward(ds, x, u, s, decay, v_th, width, c, ledger, surrogate="rectangular", width_ledger=None):
    """(dx, ddecay, dwidth); dwidth needs more bits than the rest, so it has its own ledger."""
    T = len(u)
    width_ledger = width_ledger or Ledger()
    dx = zeros(u.shape)
    ddecay, dwidth = [], [[] for _ in range(T)]
    for i in np.ndindex(*u.shape[1:]):
        dv = du = Fraction(0)
        for t in reversed(range(T)):
            at = (t, *i)
            z = ledger.note_sum([u[at], -v_th])
            h = surrogate_derivative(z, width[t], surrogate, c, ledger)
            reset = Fraction(0)
            if c.reset_gradient == "attached" and c.reset != "none":
                carried = du if c.reset == "soft late" else dv
                reset = ledger.note((u[at] if c.reset == "hard" else v_th) * carried)
            total = ledger.note_sum([ds[at], -reset])
            kept = dv * (1 - s[at]) if c.reset == "hard" else dv
            du = ledger.note_sum([kept, ledger.note(total * h)])
            v_prev = after_reset(u[(t - 1, *i)], s[(t - 1, *i)], v_th, c) if t > 0 else Fraction(0)
            if c.input_scale == "1":
                dx[at] = du
                ddecay.append(ledger.note(du * v_prev))
            else:
                dx[at] = ledger.note((1 - decay) * du)
                ddecay.append(ledger.note(du * ledger.note_sum([v_prev, -x[at]])))
            if width[t] > 0:
                slope = width_ledger.note(-width_ledger.note(z / width[t]) * h)
                dwidth[t].append(width_ledger.note(total * slope))
            dv = ledger.note(decay * du)
    dwidth_sums = [width_ledger.note_sum(terms) for terms in dwidth]
    return dx, ledger.note_sum(ddecay), np.array(dwidth_sums, object)


# --- synapses and pools ---------------------------------------------------------------------------


def collected(terms, shape, ledger):
    """An array whose element at each index is the noted sum of the terms collected for it."""
    out = zeros(shape)
    for index, values in terms.items():
        out[index] = ledger.note_sum(values)
    return out


def add(terms, index, value, ledger):
    terms.setdefault(index, []).append(ledger.note(value))


def conv_pairs(x_shape, weight_shape, stride, padding):
    """(output pixel, input pixel, kernel tap) for every tap that lies on the image."""
    H, W = x_shape[-3:-1]
    kh, kw = weight_shape[:2]
    for oh in range((H + 2 * padding - kh) // stride + 1):
        for ow in range((W + 2 * padding - kw) // stride + 1):
            for i in range(kh):
                for j in range(kw):
                    ih, iw = oh * stride - padding + i, ow * stride - padding + j
                    if 0 <= ih < H and 0 <= iw < W:
                        yield (oh, ow), (ih, iw), (i, j)


def conv2d_forward(x, weight, bias, stride, padding, ledger):
    H, W = x.shape[-3:-1]
    kh, kw, C_in, C_out = weight.shape
    rows, columns = (H + 2 * padding - kh) // stride + 1, (W + 2 * padding - kw) // stride + 1
    terms = {}
    for lead in np.ndindex(*x.shape[:-3]):
        for to, at, tap in conv_pairs(x.shape, weight.shape, stride, padding):
            for ci, co in np.ndindex(C_in, C_out):
                add(terms, (*lead, *to, co), x[(*lead, *at, ci)] * weight[(*tap, ci, co)], ledger)
        if bias is not None:
            for index in np.ndindex(rows, columns, C_out):
                add(terms, (*lead, *index), bias[index[-1]], ledger)
    return collected(terms, (*x.shape[:-3], rows, columns, C_out), ledger)


def conv2d_backward(dy, x, weight, stride, padding, ledger):
    """(dx, dweight, dbias)."""
    dx, dweight, dbias = {}, {}, {}
    for lead in np.ndindex(*x.shape[:-3]):
        for to, at, tap in conv_pairs(x.shape, weight.shape, stride, padding):
            for ci, co in np.ndindex(*weight.shape[2:]):
                d = dy[(*lead, *to, co)]
                add(dx, (*lead, *at, ci), d * weight[(*tap, ci, co)], ledger)
                add(dweight, (*tap, ci, co), d * x[(*lead, *at, ci)], ledger)
    for index in np.ndindex(*dy.shape):
        add(dbias, (index[-1],), dy[index], ledger)
    return (
        collected(dx, x.shape, ledger),
        collected(dweight, weight.shape, ledger),
        collected(dbias, weight.shape[3:], ledger),
    )


def linear_forward(x, weight, bias, ledger):
    terms = {}
    for lead in np.ndindex(*x.shape[:-1]):
        for o in range(weight.shape[1]):
            for i in range(weight.shape[0]):
                add(terms, (*lead, o), x[(*lead, i)] * weight[i, o], ledger)
            if bias is not None:
                add(terms, (*lead, o), bias[o], ledger)
    return collected(terms, (*x.shape[:-1], weight.shape[1]), ledger)


def linear_backward(dy, x, weight, ledger):
    """(dx, dweight, dbias)."""
    dx, dweight, dbias = {}, {}, {}
    for lead in np.ndindex(*x.shape[:-1]):
        for o in range(weight.shape[1]):
            d = dy[(*lead, o)]
            add(dbias, (o,), d, ledger)
            for i in range(weight.shape[0]):
                add(dx, (*lead, i), d * weight[i, o], ledger)
                add(dweight, (i, o), d * x[(*lead, i)], ledger)
    return (
        collected(dx, x.shape, ledger),
        collected(dweight, weight.shape, ledger),
        collected(dbias, weight.shape[1:], ledger),
    )


def avg_pool_forward(x, ledger):
    *lead_shape, H, W, C = x.shape
    terms = {}
    for *lead, r, q, ch in np.ndindex(*lead_shape, 2 * (H // 2), 2 * (W // 2), C):
        add(terms, (*lead, r // 2, q // 2, ch), x[(*lead, r, q, ch)] / 4, ledger)
    return collected(terms, (*lead_shape, H // 2, W // 2, C), ledger)


def avg_pool_backward(dy, x_shape, ledger):
    dx = zeros(x_shape)
    for *lead, r, q, ch in np.ndindex(*dy.shape):
        for i, j in np.ndindex(2, 2):
            dx[(*lead, 2 * r + i, 2 * q + j, ch)] = ledger.note(dy[(*lead, r, q, ch)] / 4)
    return dx


def global_avg_pool_forward(x, ledger):
    *lead_shape, H, W, C = x.shape
    terms = {}
    for index in np.ndindex(*x.shape):
        add(terms, (*index[:-3], index[-1]), x[index] / (H * W), ledger)
    return collected(terms, (*lead_shape, C), ledger)


def global_avg_pool_backward(dy, x_shape, ledger):
    dx = zeros(x_shape)
    for index in np.ndindex(*x_shape):
        dx[index] = ledger.note(dy[(*index[:-3], index[-1])] / (x_shape[-3] * x_shape[-2]))
    return dx


# --- a whole network: conv -> LIF -> pool -> conv -> LIF -> flatten -> linear, no norm ------------


def network_forward(x, p, c, ledger):
    """Every intermediate; p holds conv1, conv2, fc, bias, decay, v_th; kernels 3x3 with padding 1."""
    a = {"x": x}
    a["y1"] = conv2d_forward(x, p["conv1"], None, 1, 1, ledger)
    a["u1"], a["s1"] = lif_forward(a["y1"], p["decay"], p["v_th"], c, ledger)
    a["pooled"] = avg_pool_forward(a["s1"], ledger)
    a["y2"] = conv2d_forward(a["pooled"], p["conv2"], None, 1, 1, ledger)
    a["u2"], a["s2"] = lif_forward(a["y2"], p["decay"], p["v_th"], c, ledger)
    a["flat"] = a["s2"].reshape(*a["s2"].shape[:2], -1)
    a["logits"] = linear_forward(a["flat"], p["fc"], p["bias"], ledger)
    return a


def network_backward(dlogits, a, p, width, c, ledger):
    """{name: gradient} of every parameter, of the input and of both decays."""
    d = {}
    dflat, d["fc"], d["bias"] = linear_backward(dlogits, a["flat"], p["fc"], ledger)
    ds2 = dflat.reshape(a["s2"].shape)
    neuron = (p["decay"], p["v_th"], width, c, ledger)
    dy2, d["decay2"], _ = lif_backward(ds2, a["y2"], a["u2"], a["s2"], *neuron)
    dpooled, d["conv2"], _ = conv2d_backward(dy2, a["pooled"], p["conv2"], 1, 1, ledger)
    ds1 = avg_pool_backward(dpooled, a["s1"].shape, ledger)
    dy1, d["decay1"], _ = lif_backward(ds1, a["y1"], a["u1"], a["s1"], *neuron)
    d["x"], d["conv1"], _ = conv2d_backward(dy1, a["x"], p["conv1"], 1, 1, ledger)
    return d
