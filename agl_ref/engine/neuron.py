"""Kernels of the LIF neuron: leak, fire, reset (F1 to F5) and backpropagation through time (B1 to B5, B7).

    T timesteps, n neurons (all axes but the first, flattened)
    x  (T, n) input current            u (T, n) membrane potential before firing
    s  (T, n) spikes, 0 or 1           v (T, n) membrane potential after reset
    width (T,) the surrogate's kappa   tau = decay, the leak factor

Neurons do not talk to each other: kernels run over chunks of neurons, over time inside, and one timestep of a chunk is a
row of neurons. The validated functions, PLIF's among them, are in `agl_ref.engine.ops`.
"""

from typing import NamedTuple

import numpy as np

from agl_ref.conventions import MPD_AGL, Conventions

from .jit import inner, kernel, kernel_with_memory
from .parallel import pieces
from .surrogate import derivative_row, primitive_row, window_of

CHUNK = 8192  # neurons that one thread takes at a time; depends on nothing, so results never do
ROW = 1024  # of them that go through all timesteps together, so that what they need stays in the first-level cache


class LIFCache(NamedTuple):
    """What the backward pass needs of the forward pass. u, s, x have the input's shape (T, ...).

    u and s are None in a pass without a trace.
    """

    u: np.ndarray | None
    s: np.ndarray | None
    x: np.ndarray | None  # only with input_scale "1 - tau", whose decay gradient needs it
    decay: float
    v_th: float
    conventions: Conventions
    surrogate: str
    w: np.ndarray | None = None  # PLIF's parameter

    @property
    def v(self):
        """Membrane potential after reset, (T, ...); under "soft late" before it, since that comes after the next leak."""
        if self.conventions.reset == "hard":
            return self.u * (1 - self.s)
        if self.conventions.reset == "soft":
            return self.u - self.u.dtype.type(self.v_th) * self.s
        return self.u


class LIFGrads(NamedTuple):
    """Gradients of a neuron layer: dx (T, ...), ddecay a scalar, dwidth (T,) (zero unless it flows)."""

    dx: np.ndarray
    ddecay: float
    dwidth: np.ndarray


class Neuron(NamedTuple):
    """A layer's constants, in the arrays' dtype. Of hard, soft and late at most one is not 0.

    A spike s multiplies v_t by 1 - hard s, takes soft s from v_t, and takes late s from u_{t+1}.
    """

    tau: float
    gain: float  # the factor of the current, 1 or 1 - tau
    v_th: float
    hard: float  # 1
    soft: float  # V_th
    late: float  # V_th
    attached: float  # 1 if the gradient also flows through the reset, else 0
    inclusive: bool  # whether u = V_th fires
    scaled: bool  # whether gain is 1 - tau
    one: float  # in the arrays' dtype


def neuron_constants(dtype, decay, v_th, conventions):
    """The `Neuron` of a layer; 1 - tau is taken in the arrays' dtype."""
    tau, zero, one, v_th = dtype.type(decay), dtype.type(0), dtype.type(1), dtype.type(v_th)
    scaled = conventions.input_scale == "1 - tau"
    resets = {
        "hard": (one, zero, zero),
        "soft": (zero, v_th, zero),
        "none": (zero, zero, zero),
        "soft late": (zero, zero, v_th),
    }
    attached = dtype.type(conventions.reset_gradient == "attached")
    inclusive = conventions.spike_test == ">="
    return Neuron(tau, one - tau if scaled else one, v_th, *resets[conventions.reset], attached, inclusive, scaled, one)


@inner
def lif_step(x, u_before, s_before, p):
    """(u_t, s_t) of a neuron with the current x, from u and s of the timestep before."""
    v = u_before * (p.one - p.hard * s_before) - p.soft * s_before  # (F3) (F4)
    ut = p.tau * v + p.gain * x - p.late * s_before  # (F1) (F5)
    st = ut > p.v_th or (p.inclusive and ut == p.v_th)  # (F2)
    return ut, st


@inner
def lif_step_relaxed(x, p, window, t, v, s_before, u, s):
    """One timestep of a row of neurons with the surrogate's primitive instead of the step."""
    one = u.dtype.type(1)
    for i in range(x.size):
        u[i] = p.tau * v[i] + p.gain * x[i] - p.late * s_before[i]
    primitive_row(u, p.v_th, window.kappa[t], window.height[t], window.code, s)
    for i in range(x.size):
        v[i] = u[i] * (one - p.hard * s[i]) - p.soft * s[i]
        s_before[i] = s[i]


@kernel
def lif_forward_kernel(first, last, x, p, zeros, u, s):
    """zeros (ROW,): u and s before the first timestep."""
    n = x.shape[1]
    for a in range(first * CHUNK, min(last * CHUNK, n), ROW):
        b = min(a + ROW, n)
        u_before, s_before = zeros, zeros
        for t in range(len(x)):
            xt, ut, st = x[t, a:b], u[t, a:b], s[t, a:b]
            for i in range(b - a):
                ut[i], st[i] = lif_step(xt[i], u_before[i], s_before[i], p)
            u_before, s_before = ut, st


@kernel_with_memory
def lif_relaxed_kernel(first, last, x, p, window, u, s):
    T, n = x.shape
    for chunk in range(first, last):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        v, s_before = np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype)
        for t in range(T):
            lif_step_relaxed(x[t, a:b], p, window, t, v, s_before, u[t, a:b], s[t, a:b])


@inner
def lif_row_backward(ds, a, n, u, s, x, own, p, window, memory, ddecay, dx, sums):
    """The n neurons from a on, in u, s and x from `own` on, back through all timesteps.

    sums[0] grows by their ddecay, unless ddecay, memory for its terms, is empty, and sums[1 + t] by dkappa_t. memory (3, n or
    more), zeros at first: what is before the first timestep, du on its way from t + 1 to t, and surrogate'(u_t).
    """
    zeros, du, h = memory[0, :n], memory[1, :n], memory[2, :n]
    hard, soft, late = p.attached * p.hard, p.attached * p.soft, p.attached * p.late
    learning = min(n, ddecay.size)
    du[:], ddecay[:] = 0, 0
    for t in range(len(ds) - 1, -1, -1):
        dst, dxt, ut, st, xt = ds[t, a : a + n], dx[t, a : a + n], u[t, own:], s[t, own:], x[t, own:]
        kappa = window.kappa[t]
        derivative_row(ut[:n], p.v_th, kappa, window.height[t], window.code, window.closed, h)
        for i in range(n):
            dv = p.tau * du[i]  # (B5)
            # ds_t - u_t dv_t through a hard reset, - V_th dv_t through a soft one, - V_th du_{t+1} through a late one
            ds_total = dst[i] - ((hard * ut[i] + soft) * dv + late * du[i])  # (B1)
            passed = ds_total * h[i]
            dut = dv * (p.one - p.hard * st[i]) + passed  # (B2)
            h[i], du[i], dxt[i] = passed, dut, p.gain * dut  # (B3)
        u_before, s_before = (u[t - 1, own:], s[t - 1, own:]) if t > 0 else (zeros, zeros)
        for i in range(learning):
            v_before = u_before[i] * (p.one - p.hard * s_before[i]) - p.soft * s_before[i]  # F3 or F4 again
            ddecay[i] += du[i] * v_before  # (B4)
            if p.scaled:
                ddecay[i] -= du[i] * xt[i]  # B4 pairs du with v_{t-1} - x_t
        if window.flows and kappa > 0:
            dkappa = sums[1 + t]
            for i in range(n):
                dkappa -= h[i] * ((ut[i] - p.v_th) / kappa)  # (B7)
            sums[1 + t] = dkappa
    total = sums[0]
    for i in range(learning):
        total += ddecay[i]
    sums[0] = total


@kernel_with_memory
def lif_backward_kernel(first, last, ds, u, s, x, p, window, learns, dx, sums):
    """sums (chunks, 1 + T), float64: each chunk's ddecay, 0 unless it `learns`, and dkappa_t; the caller adds them up."""
    n, memory, ddecay = ds.shape[1], np.zeros((3, ROW), u.dtype), np.empty(ROW if learns else 0)
    for a in range(first * CHUNK, min(last * CHUNK, n), ROW):
        lif_row_backward(ds, a, min(ROW, n - a), u, s, x, a, p, window, memory, ddecay, dx, sums[a // CHUNK])


def backward_arguments(ds, cache, width, conventions, surrogate):
    """What `lif_backward_kernel` takes, its two results last: arrays (T, n), constants, the window, dx, sums."""
    T, scaled = len(cache.u), conventions.input_scale == "1 - tau"
    ds, u, s, x = (
        np.ascontiguousarray(a).reshape(T, -1) for a in (ds, cache.u, cache.s, cache.x if scaled else cache.u)
    )
    p = neuron_constants(u.dtype, cache.decay, cache.v_th, conventions)
    return ds, u, s, x, p, window_of(width, conventions, surrogate), True, *new_grads(u)


def new_grads(x):
    """Arrays for the backward kernels of x (T, n): dx and the chunks' sums."""
    return np.empty_like(x), np.zeros((pieces(x.shape[1], CHUNK), 1 + len(x)))


def grads_of(dx, sums, shape):
    """`LIFGrads` of what a backward kernel wrote."""
    total = sums.sum(axis=0)
    return LIFGrads(dx.reshape(shape), dx.dtype.type(total[0]), total[1:].astype(dx.dtype))


def decay_from_w(w, conventions=MPD_AGL):
    """PLIF's leak factor as a float: tau = sigmoid(w), or 1 - sigmoid(w) under plif="1 - tau"."""
    w = float(w)
    sigmoid = 1.0 / (1.0 + np.exp(-w)) if w >= 0 else np.exp(w) / (1.0 + np.exp(w))  # (F6)
    return float(sigmoid if conventions.plif == "tau" else 1.0 - sigmoid)


def plif_decay(w, conventions):
    """PLIF's leak factor of its parameter w, a 0-d array; ValueError where it is 1 in w's dtype, so that w would be stuck."""
    decay = decay_from_w(w, conventions)
    if w.dtype.type(decay) == 1:
        raise ValueError(
            f"w: expected a value whose decay is in [0, 1) in {w.dtype}, received {float(w)} (decay {decay}); lower the "
            "learning rate"
        )
    return decay


def dw_from_ddecay(ddecay, decay, conventions=MPD_AGL):
    """Chain ddecay to PLIF's w: dw = ddecay tau (1 - tau), negative where w gives 1 - tau."""
    sign = 1.0 if conventions.plif == "tau" else -1.0
    return np.array(sign * float(ddecay) * decay * (1.0 - decay))  # (B6)
