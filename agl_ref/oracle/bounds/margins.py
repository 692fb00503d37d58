"""Proven bounds of the forward pass, and how far every spike and window membership is from flipping.

Spikes are 0 or 1 in every implementation, so that rounding errors do not pass from layer to layer: as long as no spike
flips, each block starts from exact inputs again. Within a block the worst case of every sum, in any order, is carried
from the synapse through tdBN and along the leak. All errors are in units of the unit roundoff u. The margin of a spike is
|u_t - V_th| over its error bound: no implementation whose unit roundoff is smaller than that can fire otherwise. The margin
of the window is | |u_t - V_th| - kappa_t / 2 | over the bound of all three.
"""

from typing import NamedTuple

import numpy as np

from agl_ref.engine import conv
from agl_ref.oracle.descriptions import describe
from agl_ref.oracle.types import BITS, WINDOWED, over_time, representable

from . import replay_layers as layers
from . import replay_neurons as neurons
from . import walk_layers
from .replay_network import neuron_of, norm_of, synapse_of
from .tolerance import SECOND_ORDER, NoRounding, is_exact, is_power_of_two, quantum, sum_size


class Margins(NamedTuple):
    """Of one neuron layer: error bounds of x, u, v and width, and the margins of spike and window, all (T, ...)."""

    x: np.ndarray
    u: np.ndarray
    v: np.ndarray
    width: np.ndarray
    spike: np.ndarray
    window: np.ndarray


def input_error(a, dtype):
    """Rounding error of given numbers: none where the dtype has them."""
    return np.where(representable(a, dtype), 0.0, np.abs(a))


def conv2d_error(x, e, p, dtype):
    """Of x W + b for x with error e."""
    error = layers.conv2d_size(x, p.weight, p, BITS[dtype], lam=None)
    e_weight = input_error(p.weight, dtype)
    if e_weight.any():
        error = error + layers.convolve(np.abs(x), e_weight, p)
    if np.any(e):
        error = error + layers.convolve(e, np.abs(p.weight), p)
    return error if p.bias is None else error + input_error(p.bias, dtype)


def tdbn_error(x, e, p, dtype):
    """Of tdBN's output for x with error e, by any usual formula of the variance."""
    flat, e = x.reshape(-1, x.shape[-1]), np.broadcast_to(e, x.shape).reshape(-1, x.shape[-1])
    M = len(flat)
    if p.running is None:
        mean = flat.mean(axis=0)  # (N1)
        e_sum = sum_size(flat.sum(axis=0), np.abs(flat).sum(axis=0), M, lam=None) / M + np.abs(mean)
        e_mean = e.mean(axis=0) + e_sum
        second = (flat * flat).mean(axis=0)
        var = np.maximum(second - mean * mean, 0.0)  # (N2)
        e_var = 2 * (np.abs(flat - mean) * e).mean(axis=0) + (M + 1) * second + 2 * np.abs(mean) * e_sum
        e_var = e_var + 2 * var + 4 * mean * mean
        used, e_used = (var * (M / (M - 1)), e_var * (M / (M - 1)) + 2 * var) if p.unbiased else (var, e_var)
    else:
        mean, used = p.running
        e_mean, e_used = input_error(mean, dtype), input_error(used, dtype)
    inv_std = 1.0 / np.sqrt(used + p.eps)
    relative = 0.5 * e_used / (used + p.eps) + 5
    x_hat = (flat - mean) * inv_std  # (N3)
    error = (e + e_mean + np.abs(flat) + np.abs(mean)) * inv_std + np.abs(x_hat) * (relative + 2)
    scaled = np.abs(p.gamma * p.scale * x_hat)
    offset = p.shift * p.beta
    y = p.gamma * p.scale * x_hat + offset  # (N4)
    error = np.abs(p.gamma * p.scale) * error + 3 * scaled + np.abs(offset) + p.shifted(p.beta) + np.abs(y)
    parameters = np.abs(p.scale * x_hat) * input_error(p.gamma, dtype) + p.shift * input_error(p.beta, dtype) + scaled
    return (error + parameters).reshape(x.shape)


def leak_error(p, dtype):
    """Of tau: a given number, or the sigmoid of one."""
    if p.w is None:
        return float(input_error(np.array(p.decay), dtype))
    return neurons.sigmoid_size(p)


def width_error(width, p, norm, conventions, e_tau, dtype):
    """Of kappa_t (T,); none where kappa is given, or comes out as a number of few bits from such numbers."""
    if conventions.width in ("fixed", "2 V_th") or norm is None:
        return input_error(width, dtype)
    e_gamma = input_error(norm.gamma, dtype)
    exact = not e_gamma.any() and e_tau == 0 and representable(np.array(norm.scale), dtype)
    exact = exact and neurons.exact_mean(norm.gamma, norm.scale, dtype)
    gamma_bar = abs(norm.gamma.mean())
    if gamma_bar == 0 or not (width > 0).all():
        return np.zeros_like(width)
    C = norm.gamma.size
    e_mean = sum_size(norm.gamma.sum(), np.abs(norm.gamma).sum(), C, lam=None) / C + e_gamma.mean()
    slope = p.decay / (1 + p.decay**2) * len(width)  # of the geometric rule at most
    error = width * (e_mean / gamma_bar + slope * e_tau + 8)
    return np.where(exact & representable(width, dtype), 0.0, error)


def lif_margins(x, e_x, u, s, width, e_width, p, dtype):
    """Carry the current's error through the leak, and measure the distances. Returns Margins."""
    scaled = p.conventions.input_scale == "1 - tau"
    soft, late = p.conventions.reset == "soft", p.conventions.reset == "soft late"
    e_tau, e_threshold = leak_error(p, dtype), float(input_error(np.array(p.v_th), dtype))
    gain = 1 - p.decay if scaled else 1.0
    e_x = np.broadcast_to(np.asarray(e_x, np.float64), x.shape)
    e_u, e_v = np.empty_like(u), np.empty_like(u)
    v, carried = np.zeros(x.shape[1:]), np.zeros(x.shape[1:])
    for t in range(len(x)):
        e_kept = p.decay * carried + e_tau * np.abs(v)
        rounding = neurons.potential_size(p.decay * v, gain * x[t], v, x[t], scaled, p.decay, BITS[dtype])
        current = gain * e_x[t] + ((e_tau + 2) * np.abs(x[t]) if scaled else 0.0)
        e_late = (e_threshold + np.abs(u[t])) * s[t - 1] if late and t > 0 else 0.0
        e_u[t] = SECOND_ORDER * (e_kept + current + rounding + e_late)  # of (F1), and of (F5)
        v = neurons.reset(u[t], s[t], p)
        if p.conventions.reset == "hard":
            carried = e_u[t] * (1 - s[t])
        else:
            free = is_exact(min(quantum(u[t]), quantum(np.array(p.v_th))), np.abs(u[t]) + p.v_th, BITS[dtype])
            free = free and not e_u[t].any()
            carried = e_u[t] + ((e_threshold + (0.0 if free else np.abs(v))) * s[t] if soft else 0.0)
        e_v[t] = carried
    z = np.abs(u - p.v_th)
    spike = _ratio(z, e_u + e_threshold)
    window = np.full(u.shape, np.inf)
    if p.surrogate in WINDOWED:
        half, e_half = over_time(width / 2, u), over_time(e_width / 2, u)
        e_z = np.where((e_u == 0) & representable(z, dtype), 0.0, z)
        window = np.where(half > 0, _ratio(np.abs(z - half), e_u + e_threshold + e_z + e_half), np.inf)
    return Margins(e_x, e_u, e_v, e_width, spike, window)


def given_window(u, e_u, width, e_width, v_th, dtype):
    """Window margins (T, ...) where u (T, ...) and width (T,) are given up to these errors: u - V_th still rounds."""
    z, half = np.abs(u - v_th), over_time(width, u) / 2
    error = e_u + input_error(np.array(v_th), dtype) + over_time(e_width, u) / 2
    error = error + np.where((error == 0) & representable(z, dtype), 0.0, z)
    return np.where(half > 0, _ratio(np.abs(z - half), error), np.inf)


def _ratio(distance, error):
    """distance / error, infinite where there is no error."""
    return np.where(error > 0, distance / np.where(error > 0, error, 1.0), np.inf)


class NetworkMargins:
    """`Margins` of every block of a network, from the trace of a forward pass in float64.

    What `walk_layers` carries through the layers is a pair: the values, and how far each of them may be off.
    """

    def __init__(self, net, trace, dtype="float32"):
        self.net, self.trace, self.dtype, self.found = net, trace, dtype, {}
        self.params = {**net.parameters(), **net.running_statistics()}
        self.exact = NoRounding(dtype)
        walk_layers.forward(self, describe(net), (trace.x, input_error(trace.x, dtype)))

    def add(self, body, side):
        """Where the two branches of a residual block meet."""
        (y, e), (y_side, e_side) = body, side
        exact = is_exact(min(quantum(y), quantum(y_side)), np.abs(y) + np.abs(y_side), self.exact.bits)
        return y + y_side, e + e_side + (0.0 if exact else np.abs(y + y_side))

    def forward(self, layer, carried):
        """The same pair behind one layer."""
        kind, (x, e) = layer["kind"], carried
        if kind == "block":
            return self.block(layer, x, e)
        if kind == "readout":
            return x, e  # logits decide nothing
        if kind == "flatten":
            return x.reshape(*x.shape[:2], -1), e.reshape(*x.shape[:2], -1)
        if kind == "global_pool":
            area, mean = x.shape[-3] * x.shape[-2], x.mean(axis=(-3, -2))
            divided = 0.0 if is_power_of_two(np.array(area)) else np.abs(mean)
            free = is_exact(quantum(x), area * np.abs(x), self.exact.bits)
            summed = 0.0 if free else area * np.abs(x).mean(axis=(-3, -2))
            return mean, e.mean(axis=(-3, -2)) + summed + divided
        times = 4.0 if kind == "sum_pool" else 1.0
        free = is_exact(quantum(x), 4 * np.abs(x), self.exact.bits)  # as for spikes
        rounding = 0.0 if free else 3 * conv.pool_forward(np.abs(x))[0]
        e = layers.avg_pool_forward(self.exact, e) + rounding
        return times * layers.avg_pool_forward(self.exact, x), times * e

    def block(self, block, x, e):
        """Adds the block's Margins; its spikes are exact again."""
        name, cache, norm = block["name"], self.trace[block["name"]], None

        def parameter(key):
            return self.params.get(f"{name}.{key}")

        synapse = synapse_of(block, parameter)
        error = conv2d_error(x, e, synapse, self.dtype)
        current = layers.conv2d_forward(self.exact, x, synapse)
        if block["norm"]:
            norm = norm_of(block, parameter, cache.norm)
            error = tdbn_error(current, error, norm, self.dtype)
            current = layers.tdbn_forward(self.exact, current, norm)[0]
        neuron = neuron_of(self.net, block, cache)
        rule = norm if self.trace.mode.widths is None else None
        e_tau = leak_error(neuron, self.dtype)
        e_width = width_error(cache.width, neuron, rule, self.net.conventions, e_tau, self.dtype)
        values = (current, SECOND_ORDER * error, cache.u, cache.s, cache.width, e_width)
        self.found[name] = lif_margins(*values, neuron, self.dtype)
        return cache.s, np.zeros_like(cache.s)


def smallest(margins):
    """The smallest of all margins {name: ndarray}; infinite where nothing can flip."""
    return min((float(margin.min()) for margin in margins.values() if margin.size), default=np.inf)


def certificate(margins):
    """The smallest margins and where they are: {"spike": {"margin", "name", "index"}, "window": {...}}; in units of 1/u.

    A dtype is certified if its unit roundoff is below both margins.
    """
    found = {}
    for kind, ending in (("spike", "s"), ("window", "window")):
        smallest = {"margin": np.inf, "name": None, "index": None}
        for name, margin in margins.items():
            if name.rpartition(".")[2] == ending and margin.size and margin.min() < smallest["margin"]:
                index = np.unravel_index(int(np.argmin(margin)), margin.shape)
                smallest = {"margin": float(margin.min()), "name": name, "index": [int(i) for i in index]}
        found[kind] = smallest
    return found
