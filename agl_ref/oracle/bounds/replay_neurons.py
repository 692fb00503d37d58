"""Surrogate, width and neuron of reference.py once more in float64, with an error where an implementation rounds.

The order and the names are those of `agl_ref.reference`. Spikes and window membership are given and stay: what is asked is
how far rounding moves the values between two discrete decisions. Each function takes the `Rounding` as r and calls
r(value, size) where an implementation rounds; sizes allow for any usual way to write the formula. The values without
errors are also a check on the engine: the same formulas, written twice.
"""

from functools import partial
from typing import NamedTuple

import numpy as np

from agl_ref.engine.surrogate import heights
from agl_ref.engine.width import spread
from agl_ref.oracle.types import BITS, WINDOWED, in_window, over_time, representable

from .tolerance import is_exact, is_power_of_two, places_size, quantum, total

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
    rounded = 2.0 if scaled else 1.0  # of each term
    ddecay = r(terms.sum(), lambda: places_size(terms) + rounded * np.abs(terms).sum())  # (B4)
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
