"""reference.py's functions once more in float64, with an error at every place where an implementation rounds.

The order and the names are those of `agl_ref.reference`. Spikes and window membership are given and stay: what is asked is
how far rounding moves the values between two discrete decisions. Each function takes the `Rounding` as r and calls
r(value, size) where an implementation rounds; sizes allow for any usual way to write the formula. The values without
errors are also a check on the engine: the same formulas, written twice.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from agl_ref.engine import conv
from agl_ref.engine.fast import winograd
from agl_ref.engine.surrogate import heights
from agl_ref.engine.width import spread
from agl_ref.oracle.types import BITS, WINDOWED, in_window, over_time

from .tolerance import is_exact, is_power_of_two, quantum, repeats, representable, sum_size

TRANSFORMS = 4.0  # roundings of Winograd's transforms


def total(r, terms, inexact=0.0):
    """Sum over all axes but the last; each term itself is `inexact` roundings off."""
    flat = terms.reshape(-1, terms.shape[-1])
    result = flat.sum(axis=0)

    def size():
        magnitude = np.abs(flat).sum(axis=0)
        count = np.count_nonzero(flat, axis=0)
        exact = is_exact(quantum(flat), magnitude, r.bits) and not inexact
        return 0.0 if exact else sum_size(result, magnitude, count, repeats(flat)) + inexact * magnitude

    return r(result, size)


# --- the surrogate --------------------------------------------------------------------------------------------------


def window(u, width, v_th, conventions, surrogate):
    """Where the surrogate is open: inside the window if that has an edge, else where kappa > 0."""
    opened = np.broadcast_to(over_time(width, u) > 0, u.shape)
    return in_window(u, width, v_th, conventions.window_edge) & opened if surrogate in WINDOWED else opened


def shape_of(name, ratio, bits):
    """(shape, its error) of a smooth surrogate at ratio = (u - V_th) / kappa."""
    a = np.abs(ratio)
    if name == "triangular":
        shape = np.maximum(0.0, 1 - a)  # (S3)
        edge = np.abs(1 - a) < 64 * 2.0**-bits  # the error of u decides whether it is 0
        return shape, (3 * a + 1) * (shape > 0) + 16 * edge
    if name == "sigmoid":
        e = np.exp(-4 * a)
        shape = 4 * e / (1 + e) ** 2  # (S4)
        return shape, shape * (8 + 8 * a) + 3  # 4 sigmoid (1 - sigmoid) and 1 - tanh^2 cancel
    if name == "arctan":
        shape = 1 / (1 + (np.pi * ratio) ** 2)  # (S5)
        return shape, shape * 8
    if name == "fast_sigmoid":
        shape = 1 / (1 + 2 * a) ** 2  # (S12)
        return shape, shape * 8
    shape = np.exp(-np.pi * ratio**2)  # (S6)
    return shape, shape * (4 + 8 * np.pi * ratio**2)


def derivative(r, u, width, p):
    """ds/du (T, ...), with one error of 1/kappa per timestep and one per neuron where the surrogate is smooth."""
    height = heights(width, p.conventions)  # (S1)
    exact = is_power_of_two(height)
    height = over_time(r(height, lambda: 0.0 if exact else 2 * height), u)
    if p.surrogate in ("rectangular", "straight_through"):
        return np.where(p.inside, height, 0.0)  # (S2) (S13)
    if p.surrogate == "leaky_relu":
        outside = np.where(over_time(width, u) > 0, height / 50, 0.0)
        return np.where(p.inside, height, r(outside, lambda: 2 * outside))  # (S14)
    safe = over_time(np.where(width > 0, width, 1.0), u)
    shape, error = shape_of(p.surrogate, (u - p.v_th) / safe, r.bits)
    # Silent neurons of one state, thousands of them, have one error: in a sum it does not average out.
    return np.where(p.inside, r(height * shape, lambda: height * (error + np.abs(shape)), alike=u), 0.0)


# --- the width ------------------------------------------------------------------------------------------------------


def width_of_layer(r, rule, gamma, scale, tau, T):
    """kappa_t of an adaptive rule with the errors of the mean, the leak, the root and the products."""
    gamma_bar = total(r, gamma[:, None])[0] / gamma.size
    width = 2.0 * scale * gamma_bar * np.array(spread(rule, float(tau), T))  # (W1)
    return r(width, lambda: np.where(exact_mean(gamma, scale, r.dtype) & representable(width, r.dtype), 0.0, 6 * width))


def exact_mean(gamma, scale, dtype):
    """Whether the mean of gamma times `scale` is exact, whichever is computed first: sum, quotient and product."""
    return all(
        is_exact(quantum(a), np.abs(a).sum(), BITS[dtype]) and representable(a.mean(), dtype)
        for a in (gamma, scale * gamma)
    )


# --- the neuron -----------------------------------------------------------------------------------------------------


class Neuron(NamedTuple):
    """What is fixed about a neuron layer in a replay."""

    s: np.ndarray  # (T, ...)
    inside: np.ndarray  # (T, ...), window membership; for a smooth surrogate where its derivative is not 0
    decay: float
    v_th: float
    conventions: object
    surrogate: str
    w: float | None = None  # PLIF's parameter


class NeuronGrads(NamedTuple):
    """Gradients (T, ...) of u and x, of the leak (a number) and of the widths (T,)."""

    du: np.ndarray
    dx: np.ndarray
    ddecay: np.ndarray
    dwidth: np.ndarray


def reset(u, s, p):
    """v_t; "soft late" subtracts one timestep later."""
    if p.conventions.reset == "hard":
        return u * (1 - s)  # (F3)
    return u - p.v_th * s if p.conventions.reset == "soft" else u  # (F4)


def leak(r, p):
    """tau with its rounding error: a sigmoid's for PLIF, that of a number for LIF."""
    if p.w is None:
        return r.given(np.array(p.decay))
    return r(np.array(p.decay), lambda: sigmoid_size(p))  # (F6)


def sigmoid_size(p):
    """Error of PLIF's tau: relative to tau that of exp; absolute that of (1 + tanh(w / 2)) / 2 or of 1 - sigmoid(w)."""
    return p.decay * (4 + abs(p.w)) + (1.0 if p.conventions.plif == "tau" else 2.0)


def lif_forward(r, x, p, tau):
    """(u, v), both (T, ...)."""
    scaled = p.conventions.input_scale == "1 - tau"
    gain = 1 - tau if scaled else 1.0
    u, v = np.empty_like(x), np.empty_like(x)
    v_before = np.zeros(x.shape[1:])
    for t in range(len(x)):
        kept, current = tau * v_before, gain * x[t]
        u[t] = r(kept + current, partial(potential_size, kept, current, v_before, x[t], scaled, tau, r.bits))  # (F1)
        if p.conventions.reset == "soft late" and t > 0:
            late = u[t] - p.v_th * p.s[t - 1]  # (F5)
            u[t] = r(late, partial(soft_reset_size, late, p.s[t - 1]))
        v[t] = reset(u[t], p.s[t], p)
        if p.conventions.reset == "soft":
            v[t] = r(v[t], partial(soft_reset_size, v[t], p.s[t]))
        v_before = v[t]
    return u, v


def soft_reset_size(v, s):
    """Error of v = u - V_th s: none without a spike."""
    return np.abs(v) * s


def difference_size(a, tau):
    """|a (1 - tau)|, which rounds where tau a is computed as a - a (1 - tau) or a - a / tau_m, as some frameworks do."""
    return 0.0 if is_power_of_two(1.0 - tau) else (1.0 - tau) * np.abs(a)


def potential_size(kept, current, v_before, x, scaled, tau, bits):
    """Error of u_t = tau v_{t-1} + x_t, whose terms are `kept` and `current`."""
    exact = is_exact(quantum(kept), np.abs(kept), bits)
    if exact and is_exact(min(quantum(kept), quantum(current)), np.abs(kept) + np.abs(current), bits):
        return 0.0
    extra = 3 * (np.abs(x) + np.abs(v_before)) if scaled else 2 * difference_size(v_before, tau)
    return np.abs(kept) + np.where(kept * current != 0, np.abs(kept + current), 0.0) + extra


def lif_backward(r, ds, x, u, v, width, p, tau):
    """NeuronGrads by backpropagation through time with the spikes and windows in p."""
    c, T = p.conventions, len(u)
    scaled = c.input_scale == "1 - tau"
    h = derivative(r, u, width, p)
    lowers = u if c.reset == "hard" else np.full_like(u, 0.0 if c.reset == "none" else p.v_th)
    du, ds_total = np.empty_like(u), np.empty_like(u)
    dv, du_next = np.zeros(u.shape[1:]), np.zeros(u.shape[1:])
    for t in reversed(range(T)):
        through = lowers[t] * (du_next if c.reset == "soft late" else dv)  # by as much a spike lowers the potential
        through = through if c.reset_gradient == "attached" else np.zeros_like(dv)
        ds_total[t] = ds[t] - through  # (B1)
        kept = dv * (1 - p.s[t]) if c.reset == "hard" else dv
        passed = ds_total[t] * h[t]
        du[t] = r(kept + passed, partial(du_size, ds[t], through, kept, passed, h[t]))  # (B2)
        dv = tau * du[t]  # (B5)
        dv, du_next = r(dv, partial(dv_size, dv, du[t], tau)), du[t]
    v_before = np.concatenate([np.zeros_like(v[:1]), v[:-1]])
    terms = du * (v_before - x if scaled else v_before)
    ddecay = total(r, terms.reshape(-1, 1), inexact=2.0 if scaled else 1.0)[0]  # (B4)
    dwidth = np.zeros(T)
    if c.width_gradient == "flows":
        safe = over_time(np.where(width > 0, width, 1.0), u)
        dwidth = -(ds_total * h * ((u - p.v_th) / safe)).reshape(T, -1)
        dwidth = total(r, dwidth.T, inexact=4.0)  # (B7)
    dx = r((1 - tau) * du, lambda: 2 * np.abs((1 - tau) * du)) if scaled else du  # (B3)
    return NeuronGrads(du, dx, ddecay, dwidth)


def dv_size(dv, du, tau):
    """Error of dv_{t-1} = tau du_t."""
    return (0.0 if is_power_of_two(tau) else np.abs(dv)) + 2 * difference_size(du, tau)


def du_size(ds, through, kept, passed, h):
    """Error of du_t = kept + passed, where passed = (ds - through) h."""
    rounded = h * np.where(through != 0, np.abs(ds) + 2 * np.abs(through), 0.0)
    product = np.zeros_like(passed) if is_power_of_two(h) else np.abs(passed)
    return rounded + product + np.where(kept * passed != 0, np.abs(kept + passed), 0.0)


# --- tdBN -----------------------------------------------------------------------------------------------------------


class Norm(NamedTuple):
    """Parameters of a tdBN as used, and its forward values once they are known."""

    gamma: np.ndarray
    beta: np.ndarray
    scale: float
    shift: float
    eps: float
    unbiased: bool = False
    running: tuple | None = None
    x_hat: np.ndarray | None = None
    inv_std: np.ndarray | None = None

    def shifted(self, value):
        """Error of V_th times beta or its gradient, and of V_th itself; none where beta is added as it is."""
        return 0.0 if is_power_of_two(self.shift) else 2 * np.abs(self.shift * value)


def tdbn_forward(r, x, p):
    """(y, p with x_hat and inv_std). The variance may be taken in one pass, E[x^2] - mean^2."""
    M = x.size // x.shape[-1]
    if p.running is None:
        mean = total(r, x) / M  # (N1)
        mean = r(mean, lambda: np.abs(mean))
        second = total(r, x * x, inexact=1.0) / M
        var = np.maximum(second - mean * mean, 0.0)  # (N2)
        var = r(var, lambda: 2 * np.abs(var) + 4 * mean * mean + deviations_size(x, mean, var))
        used = var * (M / (M - 1)) if p.unbiased else var
    else:
        mean, used = p.running
    inv_std = 1.0 / np.sqrt(used + p.eps)
    inv_std = r(inv_std, lambda: 5 * inv_std)
    x_hat = (x - mean) * inv_std  # (N3)
    x_hat = r(x_hat, lambda: 2 * np.abs(x_hat) + (np.abs(x) + np.abs(mean)) * inv_std)
    scaled = p.gamma * (p.scale * x_hat)
    offset = r(p.shift * p.beta, lambda: p.shifted(p.beta))
    y = r(scaled + offset, lambda: 3 * np.abs(scaled) + np.abs(offset) + np.abs(scaled + offset))  # (N4)
    return y, p._replace(x_hat=x_hat, inv_std=inv_std)


def deviations_size(x, mean, var):
    """Error of the mean of the (x - mean)^2 as a sum in any order; where x is 0 these terms are not."""
    flat = x.reshape(-1, x.shape[-1])
    return sum_size(var, var, len(flat), repeats(flat - mean))


def tdbn_backward(r, dy, p):
    """(dx, dgamma, dbeta)."""
    M = dy.size // dy.shape[-1]
    sum_dy = total(r, dy)
    sum_dy_x_hat = total(r, dy * p.x_hat, inexact=2.0)
    g_scale = p.gamma * p.scale
    g = g_scale * dy
    if p.running is None:
        g_mean = g_scale * sum_dy / M
        g_x_hat = p.x_hat * (g_scale * sum_dy_x_hat / (M - 1 if p.unbiased else M))
    else:
        g_mean, g_x_hat = np.zeros_like(p.gamma), np.zeros_like(dy)
    g_mean = r(g_mean, lambda: 3 * np.abs(g_mean))
    dx = (g - g_mean - g_x_hat) * p.inv_std  # (N6)
    dx = r(dx, lambda: p.inv_std * (4 * np.abs(g) + 3 * np.abs(g_mean) + 6 * np.abs(g_x_hat)) + np.abs(dx))
    dgamma = r(p.scale * sum_dy_x_hat, lambda: 2 * np.abs(p.scale * sum_dy_x_hat))  # (N5)
    dbeta = r(p.shift * sum_dy, lambda: p.shifted(sum_dy))
    return dx, dgamma, dbeta


# --- synapses: y = x W + b as a convolution (linear: a 1x1 image) ---------------------------------------------------


class Synapse(NamedTuple):
    """weight (kh, kw, C_in, C_out) or (F_in, F_out), bias or None."""

    weight: np.ndarray
    bias: np.ndarray | None
    stride: int = 1
    padding: int = 0


def convolve(x, weight, p):
    """x W without the bias, in whatever precision x has."""
    if weight.ndim == 2:
        return x @ weight
    return conv.forward(x, weight, None, p.stride, p.padding, path="dense")[0]


def transposed(dy, x, weight, p):
    """(dx, dweight) of the same sums."""
    if weight.ndim == 2:
        flat = dy.reshape(-1, dy.shape[-1])
        return dy @ weight.T, x.reshape(-1, x.shape[-1]).T @ flat
    return conv.backward(dy, conv.ConvCache(x, weight, False, p.stride, p.padding, False))[:2]


def product_size(magnitude, *factors):
    """Error of the products in a sum: none where one factor is a power of 2 or 0, such as a spike."""
    return np.zeros_like(magnitude) if any(is_power_of_two(f) for f in factors) else magnitude


def in_tiles(weight, p):
    """Whether the convolution may be computed in tiles of 2x2 outputs (Winograd), as this package does from 48 channels.

    An error is then relative to the tile's inputs and all nine weights, even where an output's own inputs are all 0.
    """
    return weight.shape[:-2] == (3, 3) and p.stride == 1 and min(weight.shape[-2:]) >= winograd.CHANNELS


def over_tile(size, magnitude):
    """The largest of `size` and of what the transforms round, among the neighbours in the image."""
    around = (1,) * (size.ndim - 3) + (3, 3, 1)
    return maximum_filter(size + TRANSFORMS * magnitude, size=around, mode="constant")


def over_taps(a):
    """The largest over the kernel's nine places, at each of them."""
    return np.broadcast_to(a.max(axis=(0, 1)), a.shape)


def conv2d_size(x, weight, p, bits, lam=1.0):
    """Largest error of x W + b, whose inputs are exact."""
    magnitude = convolve(np.abs(x), np.abs(weight), p)
    if p.bias is not None:
        magnitude = magnitude + np.abs(p.bias)
    q = quantum(x) * quantum(weight)
    if is_exact(q if p.bias is None else min(q, quantum(p.bias)), magnitude, bits):
        return np.zeros_like(magnitude)
    count = convolve((x != 0).astype(float), (weight != 0).astype(float), p) + (p.bias is not None)
    result = convolve(x, weight, p) + (0 if p.bias is None else p.bias)
    same = repeats(weight.reshape(-1, weight.shape[-1]))
    size = sum_size(result, magnitude, np.rint(count), same, lam) + product_size(magnitude, x, weight)
    if not in_tiles(weight, p):
        return size
    return over_tile(size, convolve(np.abs(x), over_taps(np.abs(weight)), p))


def conv2d_forward(r, x, p):
    """x W + b."""
    y = r.memo(lambda: convolve(x, p.weight, p), x, p.weight)  # (C1)
    if p.bias is not None:
        y = y + p.bias
    return r(y, lambda: conv2d_size(x, p.weight, p, r.bits))


def conv2d_backward(r, dy, x, p):
    """(dx, dweight, dbias)."""
    weight = p.weight
    dx, dweight = transposed(dy, x, weight, p)  # (C2), (C3)

    def sizes():
        a, b = np.abs(dy), np.abs(x)
        dx_sum, dweight_sum = transposed(a, b, np.abs(weight), p)
        ones = [(v != 0).astype(float) for v in (dy, x, weight)]
        dx_count, dweight_count = (np.rint(n) for n in transposed(*ones, p))
        dx_count = dx_count.reshape(dx.shape)
        by_input = repeats(np.moveaxis(weight, -2, -1).reshape(-1, weight.shape[-2]))
        pairs = np.minimum(repeats(x)[:, None], repeats(dy)[None, :])
        dx_size = sum_size(dx, dx_sum, dx_count, by_input) + product_size(dx_sum, dy, weight)
        dweight_size = sum_size(dweight, dweight_sum, dweight_count, pairs) + product_size(dweight_sum, dy, x)
        if not in_tiles(weight, p):
            return dx_size, dweight_size
        around = transposed(a, b, over_taps(np.abs(weight)), p)[0].reshape(dx.shape)
        return over_tile(dx_size, around), over_taps(dweight_size + TRANSFORMS * dweight_sum)

    found = sizes() if r.recording else (None, None)
    dx, dweight = r(dx, lambda: found[0]), r(dweight, lambda: found[1])
    return dx, dweight, None if p.bias is None else total(r, dy)  # (C4)


# --- pools and residual sums ----------------------------------------------------------------------------------------


def avg_pool_forward(r, x):
    """Mean of 2x2 squares; the sum of spikes and a quarter of it are exact."""
    y = conv.pool_forward(x)[0]  # (C5)
    return r(y, lambda: 0.0 if is_exact(quantum(x), 4 * np.abs(x), r.bits) else 3 * conv.pool_forward(np.abs(x))[0])


def avg_pool_backward(r, dy, shape):
    """A quarter of dy is exact."""
    return conv.pool_backward(dy, conv.PoolCache(shape, dy.dtype))  # (C6)


def global_avg_pool_forward(r, x):
    """Mean over height and width."""
    area = x.shape[-3] * x.shape[-2]
    y = x.mean(axis=(-3, -2))

    def size():
        magnitude = np.abs(x).sum(axis=(-3, -2))
        exact = is_exact(quantum(x), magnitude, r.bits)
        summed = 0.0 if exact else sum_size(area * y, magnitude, area, lam=None) / area
        return summed + (0.0 if exact and is_power_of_two(np.array(area)) else np.abs(y))

    return r(y, size)


def global_avg_pool_backward(r, dy, shape):
    """The same share of dy for each pixel."""
    area = shape[-3] * shape[-2]
    share = r(dy / area, lambda: 0.0 if is_power_of_two(np.array(area)) else np.abs(dy / area))
    return np.broadcast_to(share[..., None, None, :], shape).copy()


def add(r, a, b):
    """a + b, exact for spikes and where one of the two is 0."""
    result = a + b  # (R1), (R2)
    q = min(quantum(a), quantum(b)) if r.recording else 0.0
    exact = r.recording and is_exact(q, np.abs(a) + np.abs(b), r.bits)
    return r(result, lambda: 0.0 if exact else np.where(a * b != 0, np.abs(result), 0.0))


# --- losses ---------------------------------------------------------------------------------------------------------


def log_softmax(r, z):
    """(softmax, its logarithm) over the last axis."""
    shifted = z - z.max(axis=-1, keepdims=True)
    shifted = r(shifted, lambda: np.abs(shifted))
    exps = np.exp(shifted)
    norm = exps.sum(axis=-1, keepdims=True)
    norm = r(norm, lambda: (3 + z.shape[-1]) * norm)
    log_p = shifted - np.log(norm)  # (L2)
    plain = z - log_p  # max + log of the sum, which rounds where it is subtracted from z itself
    log_p = r(log_p, lambda: np.abs(log_p) + 2 * np.abs(np.log(norm)) + 1 + np.abs(plain))
    p = np.exp(log_p)
    return r(p, lambda: p * (4 + np.abs(log_p))), log_p


def cross_entropy(r, logits, labels, readout):
    """(loss, dlogits) of the reduced logits."""
    T, N, K = logits.shape
    z = logits[-1] if readout == "last" else logits.sum(axis=0) / (T if readout == "mean" else 1)  # (L1)

    def size():
        if T == 1 or readout == "last":
            return 0.0
        magnitude = np.abs(logits).sum(axis=0)
        return (sum_size(logits.sum(axis=0), magnitude, T) + magnitude) / (T if readout == "mean" else 1)

    p, log_p = log_softmax(r, r(z, size))
    one_hot = np.equal(np.arange(K), labels[:, None]).astype(float)
    picked = -(log_p * one_hot).sum(axis=-1)
    loss = r(picked.mean(), lambda: (1 + N) * np.abs(picked).mean())  # (L3)
    dz = (p - one_hot) / N  # (L4)
    dz = r(dz, lambda: 2 * np.abs(dz))
    if readout == "last":
        return loss, np.concatenate([np.zeros((T - 1, N, K)), dz[None]])
    if readout == "mean":
        dz = r(dz / T, lambda: 0.0 if is_power_of_two(np.array(T)) else 2 * np.abs(dz / T))
    return loss, np.repeat(dz[None], T, axis=0)


def tet(r, logits, labels, lam=1e-3, target=1.0):
    """(loss, dlogits) of (1 - lam) mean_t CE + lam mean((logits - target)^2)."""
    T, N, K = logits.shape
    p, log_p = log_softmax(r, logits)
    one_hot = np.equal(np.arange(K), labels[:, None]).astype(float)
    off = logits - target
    off = r(off, lambda: np.abs(off))
    picked = -(log_p * one_hot).sum(axis=-1)
    loss = (1 - lam) * picked.mean() + lam * (off * off).mean()  # (L5)
    loss = r(loss, lambda: (3 + T * N) * np.abs(picked).mean() + lam * (3 + off.size) * (off * off).mean())
    entropy, pull = (1 - lam) * (p - one_hot) / (T * N), (2 * lam / logits.size) * off  # (L6)
    return loss, r(entropy + pull, lambda: 5 * np.abs(entropy) + 4 * np.abs(pull) + np.abs(entropy + pull))
