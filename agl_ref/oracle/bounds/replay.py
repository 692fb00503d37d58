"""A network's forward and backward pass in plain NumPy with an error at every rounding site, for `tolerance.spread`.

Spikes and window membership are given and stay: what is asked is how far rounding moves the values between two discrete
decisions. Each function takes the `Rounding` as r, and calls r(value, size) where an implementation rounds; sizes allow
for any usual way to write the formula. The unrounded values are also a check on the engine: the same formulas, written twice.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from agl_ref.engine import conv
from agl_ref.engine.fast import winograd
from agl_ref.engine.surrogate import heights
from agl_ref.engine.width import spread

from .tolerance import is_exact, is_power_of_two, quantum, repeats, representable, sum_size

# --- synapses: y = x W + b as a convolution (linear: a 1x1 image) ---------------------------------------------------


TRANSFORMS = 4.0  # roundings of Winograd's transforms


class Synapse(NamedTuple):
    """weight (kh, kw, C_in, C_out) or (F_in, F_out), bias or None."""

    weight: np.ndarray
    bias: np.ndarray | None
    stride: int = 1
    padding: int = 0


def _convolve(x, weight, p):
    if weight.ndim == 2:
        return x @ weight
    return conv.forward(x, weight, None, p.stride, p.padding, path="dense")[0]


def _transposed(dy, x, weight, p):
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


def synapse_size(x, weight, p, bits, lam=1.0):
    """Largest error of x W + b, whose inputs are exact."""
    magnitude = _convolve(np.abs(x), np.abs(weight), p)
    if p.bias is not None:
        magnitude = magnitude + np.abs(p.bias)
    q = quantum(x) * quantum(weight)
    if is_exact(q if p.bias is None else min(q, quantum(p.bias)), magnitude, bits):
        return np.zeros_like(magnitude)
    count = _convolve((x != 0).astype(float), (weight != 0).astype(float), p) + (p.bias is not None)
    total = _convolve(x, weight, p) + (0 if p.bias is None else p.bias)
    same = repeats(weight.reshape(-1, weight.shape[-1]))
    size = sum_size(total, magnitude, np.rint(count), same, lam) + product_size(magnitude, x, weight)
    if not in_tiles(weight, p):
        return size
    return over_tile(size, _convolve(np.abs(x), over_taps(np.abs(weight)), p))


def synapse_forward(r, x, p):
    y = r.memo(lambda: _convolve(x, p.weight, p), x, p.weight)
    if p.bias is not None:
        y = y + p.bias
    return r(y, lambda: synapse_size(x, p.weight, p, r.bits))


def synapse_backward(r, dy, x, p):
    """(dx, dweight, dbias)."""
    weight = p.weight
    dx, dweight = _transposed(dy, x, weight, p)

    def sizes():
        a, b = np.abs(dy), np.abs(x)
        dx_sum, dweight_sum = _transposed(a, b, np.abs(weight), p)
        ones = [(v != 0).astype(float) for v in (dy, x, weight)]
        dx_count, dweight_count = (np.rint(n) for n in _transposed(*ones, p))
        dx_count = dx_count.reshape(dx.shape)
        by_input = repeats(np.moveaxis(weight, -2, -1).reshape(-1, weight.shape[-2]))
        pairs = np.minimum(repeats(x)[:, None], repeats(dy)[None, :])
        dx_size = sum_size(dx, dx_sum, dx_count, by_input) + product_size(dx_sum, dy, weight)
        dweight_size = sum_size(dweight, dweight_sum, dweight_count, pairs) + product_size(dweight_sum, dy, x)
        if not in_tiles(weight, p):
            return dx_size, dweight_size
        around = _transposed(a, b, over_taps(np.abs(weight)), p)[0].reshape(dx.shape)
        return over_tile(dx_size, around), over_taps(dweight_size + TRANSFORMS * dweight_sum)

    found = sizes() if r.recording else (None, None)
    dx, dweight = r(dx, lambda: found[0]), r(dweight, lambda: found[1])
    return dx, dweight, None if p.bias is None else channel_sum(r, dy)


def channel_sum(r, terms, inexact=0.0):
    """Sum over all axes but the last; each term itself is `inexact` roundings off."""
    flat = terms.reshape(-1, terms.shape[-1])
    total = flat.sum(axis=0)

    def size():
        magnitude = np.abs(flat).sum(axis=0)
        count = np.count_nonzero(flat, axis=0)
        exact = is_exact(quantum(flat), magnitude, r.bits) and not inexact
        return 0.0 if exact else sum_size(total, magnitude, count, repeats(flat)) + inexact * magnitude

    return r(total, size)


# --- tdBN -----------------------------------------------------------------------------------------------------------


class Norm(NamedTuple):
    """Parameters of a tdBN as used, and its forward values once they are known."""

    gamma: np.ndarray
    beta: np.ndarray
    scale: float
    eps: float
    unbiased: bool = False
    running: tuple | None = None
    x_hat: np.ndarray | None = None
    inv_std: np.ndarray | None = None


def norm_forward(r, y, p):
    """(output, p with x_hat and inv_std). The variance may be taken in one pass, E[y^2] - mean^2."""
    M = y.size // y.shape[-1]
    if p.running is None:
        mean = channel_sum(r, y) / M
        mean = r(mean, lambda: np.abs(mean))
        second = channel_sum(r, y * y, inexact=1.0) / M
        var = np.maximum(second - mean * mean, 0.0)
        var = r(var, lambda: 2 * np.abs(var) + 4 * mean * mean + _deviations_size(y, mean, var))
        used = var * (M / (M - 1)) if p.unbiased else var
    else:
        mean, used = p.running
    inv_std = 1.0 / np.sqrt(used + p.eps)
    inv_std = r(inv_std, lambda: 5 * inv_std)
    x_hat = (y - mean) * inv_std
    x_hat = r(x_hat, lambda: 2 * np.abs(x_hat) + (np.abs(y) + np.abs(mean)) * inv_std)
    scaled = p.gamma * (p.scale * x_hat)
    out = r(scaled + p.beta, lambda: 3 * np.abs(scaled) + np.abs(p.beta) + np.abs(scaled + p.beta))
    return out, p._replace(x_hat=x_hat, inv_std=inv_std)


def _deviations_size(y, mean, var):
    """Error of the mean of the (y - mean)^2 as a sum in any order; where y is 0 these terms are not."""
    flat = y.reshape(-1, y.shape[-1])
    return sum_size(var, var, len(flat), repeats(flat - mean))


def norm_backward(r, dy, p):
    """(dx, dgamma, dbeta)."""
    M = dy.size // dy.shape[-1]
    sum_dy = channel_sum(r, dy)
    sum_dy_x_hat = channel_sum(r, dy * p.x_hat, inexact=2.0)
    g_scale = p.gamma * p.scale
    g = g_scale * dy
    if p.running is None:
        g_mean = g_scale * sum_dy / M
        g_x_hat = p.x_hat * (g_scale * sum_dy_x_hat / (M - 1 if p.unbiased else M))
    else:
        g_mean, g_x_hat = np.zeros_like(p.gamma), np.zeros_like(dy)
    g_mean = r(g_mean, lambda: 3 * np.abs(g_mean))
    dx = (g - g_mean - g_x_hat) * p.inv_std
    dx = r(dx, lambda: p.inv_std * (4 * np.abs(g) + 3 * np.abs(g_mean) + 6 * np.abs(g_x_hat)) + np.abs(dx))
    dgamma = r(p.scale * sum_dy_x_hat, lambda: 2 * np.abs(p.scale * sum_dy_x_hat))
    return dx, dgamma, sum_dy


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


def after_reset(u, s, p):
    reset = p.conventions.reset
    return u * (1 - s) if reset == "hard" else (u - p.v_th * s if reset == "soft" else u)


def leak(r, p):
    """tau with its rounding error: a sigmoid's for PLIF, that of a number for LIF."""
    if p.w is None:
        return r.given(np.array(p.decay))
    return r(np.array(p.decay), lambda: sigmoid_size(p))


def sigmoid_size(p):
    """Error of PLIF's tau: relative to tau that of exp; absolute that of (1 + tanh(w / 2)) / 2 or of 1 - sigmoid(w)."""
    return p.decay * (4 + abs(p.w)) + (1.0 if p.conventions.plif == "tau" else 2.0)


def neuron_forward(r, x, p, tau):
    """(u, v), both (T, ...)."""
    scaled = p.conventions.input_scale == "1 - tau"
    gain = 1 - tau if scaled else 1.0
    u, v = np.empty_like(x), np.empty_like(x)
    last = np.zeros(x.shape[1:])
    for t in range(len(x)):
        kept, current = tau * last, gain * x[t]
        u[t] = r(kept + current, _potential_size(kept, current, last, x[t], scaled, tau, r.bits))
        if p.conventions.reset == "soft late" and t > 0:
            late = u[t] - p.v_th * p.s[t - 1]
            u[t] = r(late, lambda late=late, s=p.s[t - 1]: np.abs(late) * s)
        free = after_reset(u[t], p.s[t], p)
        soft = p.conventions.reset == "soft"
        last = v[t] = r(free, (lambda free=free, s=p.s[t]: np.abs(free) * s) if soft else (lambda: 0.0))
    return u, v


def _by_difference(a, tau):
    """|a (1 - tau)|, which rounds where tau a is computed as a - a (1 - tau) or a - a / tau_m, as some frameworks do."""
    return 0.0 if is_power_of_two(1.0 - tau) else (1.0 - tau) * np.abs(a)


def _potential_size(kept, current, last, x, scaled, tau, bits):
    def size():
        if is_exact(quantum(kept), np.abs(kept), bits) and is_exact(
            min(quantum(kept), quantum(current)), np.abs(kept) + np.abs(current), bits
        ):
            return 0.0
        extra = 3 * (np.abs(x) + np.abs(last)) if scaled else 2 * _by_difference(last, tau)
        return np.abs(kept) + np.where(kept * current != 0, np.abs(kept + current), 0.0) + extra

    return size


def shape_of(name, ratio, bits):
    """(shape, its error) of a smooth surrogate at ratio = (u - V_th) / kappa."""
    a = np.abs(ratio)
    if name == "triangular":
        shape = np.maximum(0.0, 1 - a)
        edge = np.abs(1 - a) < 64 * 2.0**-bits  # the error of u decides whether it is 0
        return shape, (3 * a + 1) * (shape > 0) + 16 * edge
    if name == "sigmoid":
        e = np.exp(-4 * a)
        shape = 4 * e / (1 + e) ** 2
        return shape, shape * (8 + 8 * a) + 3  # 4 sigmoid (1 - sigmoid) and 1 - tanh^2 cancel
    if name == "arctan":
        shape = 1 / (1 + (np.pi * ratio) ** 2)
        return shape, shape * 8
    shape = np.exp(-np.pi * ratio**2)
    return shape, shape * (4 + 8 * np.pi * ratio**2)


def slopes(r, u, width, p):
    """surrogate'(u) (T, ...), with one error of 1/kappa per timestep and one per neuron where the surrogate is smooth."""
    height = heights(width, p.conventions)
    exact = is_power_of_two(height)
    height = r(height, lambda: 0.0 if exact else 2 * height)
    shaped = (-1,) + (1,) * (u.ndim - 1)
    height = height.reshape(shaped)
    if p.surrogate == "rectangular":
        return np.where(p.inside, height, 0.0)
    safe = np.where(width > 0, width, 1.0).reshape(shaped)
    shape, error = shape_of(p.surrogate, (u - p.v_th) / safe, r.bits)
    # Silent neurons of one state, thousands of them, have one error: in a sum it does not average out.
    return np.where(p.inside, r(height * shape, lambda: height * (error + np.abs(shape)), alike=u), 0.0)


class NeuronGrads(NamedTuple):
    du: np.ndarray
    dx: np.ndarray
    ddecay: np.ndarray
    dwidth: np.ndarray


def neuron_backward(r, ds, x, u, v, width, p, tau):
    """Backpropagation through time with the spikes and windows in p."""
    c = p.conventions
    T = len(u)
    h = slopes(r, u, width, p)
    through = u if c.reset == "hard" else np.full_like(u, 0.0 if c.reset == "none" else p.v_th)
    du, total = np.empty_like(u), np.empty_like(u)
    dv = np.zeros(u.shape[1:])
    for t in reversed(range(T)):
        carried = du[t + 1] if c.reset == "soft late" and t + 1 < T else dv
        reset = through[t] * carried if c.reset_gradient == "attached" else np.zeros_like(dv)
        total[t] = ds[t] - reset
        kept = dv * (1 - p.s[t]) if c.reset == "hard" else dv
        passed = total[t] * h[t]
        size = _du_size(ds[t], reset, kept, passed, h[t])
        du[t] = r(kept + passed, size)
        dv = tau * du[t]
        dv = r(dv, _dv_size(dv, du[t], tau))
    scaled = c.input_scale == "1 - tau"
    before = np.concatenate([np.zeros_like(v[:1]), v[:-1]])
    terms = du * (before - x if scaled else before)
    ddecay = channel_sum(r, terms.reshape(-1, 1), inexact=2.0 if scaled else 1.0)[0]
    safe = np.where(width > 0, width, 1.0).reshape((-1,) + (1,) * (u.ndim - 1))
    dwidth = -(total * h * ((u - p.v_th) / safe)).reshape(T, -1)
    dwidth = channel_sum(r, dwidth.T, inexact=4.0) if c.width_gradient == "flows" else np.zeros(T)
    dx = du if not scaled else r((1 - tau) * du, lambda: 2 * np.abs((1 - tau) * du))
    return NeuronGrads(du, dx, ddecay, dwidth)


def _dv_size(dv, du, tau):
    return lambda: (0.0 if is_power_of_two(tau) else np.abs(dv)) + 2 * _by_difference(du, tau)


def _du_size(ds, reset, kept, passed, h):
    def size():
        rounded = h * np.where(reset != 0, np.abs(ds) + 2 * np.abs(reset), 0.0)
        product = np.zeros_like(passed) if is_power_of_two(h) else np.abs(passed)
        return rounded + product + np.where(kept * passed != 0, np.abs(kept + passed), 0.0)

    return size


def width_values(r, rule, gamma, scale, tau, T):
    """kappa_t of an adaptive rule with the errors of the mean, the leak, the root and the products."""
    gamma_bar = channel_sum(r, gamma[:, None])[0] / gamma.size
    width = 2.0 * scale * gamma_bar * np.array(spread(rule, float(tau), T))
    return r(width, lambda: np.where(sums_exactly(gamma, r.bits) & representable(width, r.dtype), 0.0, 6 * width))


def sums_exactly(gamma, bits):
    """Whether the sum of gamma is exact in any order; a sum of few bits alone may have passed through one of many."""
    return is_exact(quantum(gamma), np.abs(gamma).sum(), bits)


# --- pools and residual sums ----------------------------------------------------------------------------------------


def pool_forward(r, x):
    """Mean of 2x2 squares; the sum of spikes and a quarter of it are exact."""
    y = conv.pool_forward(x)[0]
    return r(y, lambda: 0.0 if is_exact(quantum(x), 4 * np.abs(x), r.bits) else 3 * conv.pool_forward(np.abs(x))[0])


def pool_backward(r, dy, shape):
    return conv.pool_backward(dy, conv.PoolCache(shape, dy.dtype))


def global_pool_forward(r, x):
    """Mean over height and width."""
    area = x.shape[-3] * x.shape[-2]
    y = x.mean(axis=(-3, -2))

    def size():
        magnitude = np.abs(x).sum(axis=(-3, -2))
        exact = is_exact(quantum(x), magnitude, r.bits)
        summed = 0.0 if exact else sum_size(area * y, magnitude, area, lam=None) / area
        return summed + (0.0 if exact and is_power_of_two(np.array(area)) else np.abs(y))

    return r(y, size)


def global_pool_backward(r, dy, shape):
    area = shape[-3] * shape[-2]
    share = r(dy / area, lambda: 0.0 if is_power_of_two(np.array(area)) else np.abs(dy / area))
    return np.broadcast_to(share[..., None, None, :], shape).copy()


def add(r, a, b):
    """a + b, exact for spikes and where one of the two is 0."""
    total = a + b
    q = min(quantum(a), quantum(b)) if r.recording else 0.0
    exact = r.recording and is_exact(q, np.abs(a) + np.abs(b), r.bits)
    return r(total, lambda: 0.0 if exact else np.where(a * b != 0, np.abs(total), 0.0))
