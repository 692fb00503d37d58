"""LIF and PLIF neurons: leak, fire, reset, and backpropagation through time (METHOD.md's forward and backward).

    T timesteps, n neurons (all axes but the first, flattened)
    x  (T, n) input current            u (T, n) membrane potential before firing
    s  (T, n) spikes, 0 or 1           v (T, n) membrane potential after reset
    width (T,) the surrogate's kappa   tau = decay, the leak factor

Neurons do not talk to each other, so kernels run over chunks of neurons in parallel and over time inside.
"""

from typing import NamedTuple

import numpy as np
from numba import prange

from agl_ref import validate
from agl_ref.conventions import MPD_AGL, Conventions

from .jit import inner, kernel_with
from .surrogate import code_of, derivative_row, heights, primitive_row

CHUNK = 8192  # neurons that one thread takes at a time; depends on nothing, so results never do


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


@inner
def _fire_row(x, neuron, reset, inclusive, v, fired, u, s):
    """One timestep of a row of neurons: leak and input, threshold, reset; v goes from t - 1 to t."""
    tau, gain, v_th = neuron
    hard, soft, late = reset
    one, zero = u.dtype.type(1), u.dtype.type(0)
    for i in range(x.size):
        ut = tau * v[i] + gain * x[i] - late * fired[i]
        st = one if ut > v_th or (inclusive and ut == v_th) else zero
        u[i], s[i], fired[i] = ut, st, st
        v[i] = ut * (one - hard * st) - soft * st


@inner
def _fire_row_relaxed(x, neuron, reset, surrogate, v, fired, u, s):
    """`_fire_row` with the surrogate's primitive in place of the step; surrogate = (kappa_t, height, code)."""
    tau, gain, v_th = neuron
    width, height, code = surrogate
    hard, soft, late = reset
    one = u.dtype.type(1)
    for i in range(x.size):
        u[i] = tau * v[i] + gain * x[i] - late * fired[i]
    primitive_row(u, v_th, width, height, code, s)
    for i in range(x.size):
        v[i] = u[i] * (one - hard * s[i]) - soft * s[i]
        fired[i] = s[i]


@kernel_with("surrogate.py")
def _lif_forward_kernel(x, neuron, reset, width, height, codes, u, s):
    inclusive, relaxed, code = codes
    T, n = x.shape
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        v, fired = np.zeros(b - a, x.dtype), np.zeros(b - a, x.dtype)  # of t - 1
        for t in range(T):
            ut, st = u[t, a:b], s[t, a:b]
            if relaxed:
                _fire_row_relaxed(x[t, a:b], neuron, reset, (width[t], height[t], code), v, fired, ut, st)
            else:
                _fire_row(x[t, a:b], neuron, reset, inclusive, v, fired, ut, st)


@inner
def _back_row(ds, h, neuron, resets, forward, later, dx, ddecay):
    """One timestep backward, (1) to (4) of `lif_backward`: ds to dx, and dv, du from t + 1 to t.

    forward = (u, s) of t and of t - 1; later = (dv, du); resets = (reset, through), where `through` is `reset` if the reset's
    gradient is attached, else 0.
    """
    tau, gain, _ = neuron
    reset, through = resets
    dv, du = later
    hard, soft, _ = reset
    hard_through, soft_through, late_through = through
    u, s, u_prev, s_prev = forward
    one = u.dtype.type(1)
    for i in range(ds.size):
        ds_total = ds[i] - ((hard_through * u[i] + soft_through) * dv[i] + late_through * du[i])
        dut = dv[i] * (one - hard * s[i]) + ds_total * h[i]
        ddecay[i] += dut * (u_prev[i] * (one - hard * s_prev[i]) - soft * s_prev[i])
        du[i], dx[i], dv[i] = dut, gain * dut, tau * dut


@inner
def _width_row(ds, h, v_th, width, through, u, dv, du):
    """dkappa_t of a row of neurons: -sum of ds_total (z / kappa) surrogate'(u)."""
    hard_through, soft_through, late_through = through
    dwidth = np.float64(0.0)
    for i in range(ds.size):
        ds_total = ds[i] - ((hard_through * u[i] + soft_through) * dv[i] + late_through * du[i])
        dwidth -= ds_total * h[i] * ((u[i] - v_th) / width)
    return dwidth


@inner
def _back_chunk(ds, dx, forward, place, neuron, resets, surrogate, sums):
    """Neurons a..b-1, all timesteps backward. place = (a, b, p): their u, s and x begin at column p of those arrays.

    forward = (u, s, x, whether u = tau v + (1 - tau) x); surrogate = (kappa (T,), height (T,), code, closed, whether kappa's
    gradient flows); sums (1 + T,), float64: ddecay, then dwidth_t.
    """
    u, s, x, scaled = forward
    width, height, code, closed, flows = surrogate
    a, b, p = place
    n, q, v_th = b - a, p + b - a, neuron[2]
    dv, du = np.zeros(n, u.dtype), np.zeros(n, u.dtype)  # of v_t and u_{t+1}
    h = np.empty(n, u.dtype)  # surrogate'(u_t)
    ddecay, rest = np.zeros(n), np.zeros(n, u.dtype)  # rest: u and s before the first timestep
    for k in range(len(ds)):
        t = len(ds) - 1 - k
        ut, st, dst, dxt = u[t, p:q], s[t, p:q], ds[t, a:b], dx[t, a:b]
        u_prev, s_prev = (u[t - 1, p:q], s[t - 1, p:q]) if t > 0 else (rest, rest)
        derivative_row(ut, v_th, width[t], height[t], code, closed, h)
        if flows and width[t] > 0:
            sums[1 + t] = _width_row(dst, h, v_th, width[t], resets[1], ut, dv, du)
        _back_row(dst, h, neuron, resets, (ut, st, u_prev, s_prev), (dv, du), dxt, ddecay)
        if scaled:
            xt = x[t, p:q]
            for i in range(n):
                ddecay[i] -= du[i] * xt[i]
    total = 0.0
    for i in range(n):
        total += ddecay[i]
    sums[0] = total


@kernel_with("surrogate.py")
def _lif_backward_kernel(ds, forward, neuron, resets, surrogate, dx, sums):
    """sums (chunks, 1 + T): each chunk's ddecay and dwidth_t, which the caller adds up in order."""
    reset, through = resets
    n = ds.shape[1]
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a, b = chunk * CHUNK, min((chunk + 1) * CHUNK, n)
        _back_chunk(ds, dx, forward, (a, b, a), neuron, (reset, through), surrogate, sums[chunk])


def _neuron_scalars(dtype, decay, v_th, conventions):
    """(tau, gain, V_th) and (hard, soft, late) in the arrays' dtype; 1 - tau is taken there too.

    A spike s multiplies v_t by 1 - hard s and takes soft s from it, and late s from u_{t+1}: all three are 0 without a reset.
    """
    tau, zero, one, v_th = dtype.type(decay), dtype.type(0), dtype.type(1), dtype.type(v_th)
    gain = one - tau if conventions.input_scale == "1 - tau" else one
    return (tau, gain, v_th), {
        "hard": (one, zero, zero),
        "soft": (zero, v_th, zero),
        "none": (zero, zero, zero),
        "soft late": (zero, zero, v_th),
    }[conventions.reset]


def _forward(x, decay, v_th, conventions, surrogate, relaxed_width=None, w=None):
    """`lif_forward` without validation."""
    dtype = x.dtype
    x = np.ascontiguousarray(x)
    flat = x.reshape(len(x), -1)
    u, s = np.empty_like(flat), np.empty_like(flat)
    relaxed = relaxed_width is not None
    width = relaxed_width if relaxed else np.ones(len(x), dtype)
    if not (width > 0).all():
        raise ValueError("relaxed_width: expected kappa > 0, received 0; a closed window has no smooth step")
    codes = (conventions.spike_test == ">=", relaxed, code_of(surrogate))
    neuron, reset = _neuron_scalars(dtype, decay, v_th, conventions)
    _lif_forward_kernel(flat, neuron, reset, width, heights(width, conventions), codes, u, s)
    kept_x = x if conventions.input_scale == "1 - tau" else None
    cache = LIFCache(u.reshape(x.shape), s.reshape(x.shape), kept_x, decay, v_th, conventions, surrogate, w)
    return cache.s, cache


def _backward_scalars(dtype, cache, width, conventions, surrogate):
    """(neuron, resets, surrogate) as the backward kernels take them."""
    neuron, reset = _neuron_scalars(dtype, cache.decay, cache.v_th, conventions)
    attached = dtype.type(conventions.reset_gradient == "attached")
    flows, closed = conventions.width_gradient == "flows", conventions.window_edge == "<="
    surrogate = (width, heights(width, conventions), code_of(surrogate), closed, flows)
    return neuron, (reset, tuple(attached * r for r in reset)), surrogate


def _new_grads(x):
    """Arrays for the backward kernels of x (T, n): dx and the chunks' sums."""
    return np.empty_like(x), np.zeros(((x.shape[1] + CHUNK - 1) // CHUNK, 1 + len(x)))


def _grads(dx, sums, shape):
    total = sums.sum(axis=0)
    return LIFGrads(dx.reshape(shape), dx.dtype.type(total[0]), total[1:].astype(dx.dtype))


def _backward(ds, cache, width, conventions, surrogate):
    """`lif_backward_full` without validation."""
    T, shape = len(cache.u), cache.u.shape
    ds = np.ascontiguousarray(ds).reshape(T, -1)
    u = np.ascontiguousarray(cache.u).reshape(T, -1)
    s = np.ascontiguousarray(cache.s).reshape(T, -1)
    scaled = conventions.input_scale == "1 - tau"
    x = np.ascontiguousarray(cache.x).reshape(T, -1) if scaled else u
    dx, sums = _new_grads(u)
    scalars = _backward_scalars(u.dtype, cache, width, conventions, surrogate)
    _lif_backward_kernel(ds, (u, s, x, scaled), *scalars, dx, sums)
    return _grads(dx, sums, shape)


def _check_width(name, width, T, dtype):
    validate.float_array(name, width, dtype=dtype)
    validate.same_shape(name, width, (T,), "the timesteps")
    if (width < 0).any():
        raise ValueError(f"{name}: expected kappa >= 0 at each t, received {width.min()}; 0 closes the window")
    return np.ascontiguousarray(width)


def _check_forward(x, decay, v_th, conventions, surrogate, relaxed_width):
    validate.conventions(conventions)
    decay = validate.number("decay", decay, low=0, high=1, high_open=True)
    v_th = validate.number("v_th", v_th, low=0, low_open=True)
    code_of(surrogate)
    if relaxed_width is not None:
        relaxed_width = _check_width("relaxed_width", relaxed_width, len(x), x.dtype)
    return decay, v_th, relaxed_width


def lif_forward(x, decay=0.2, v_th=0.5, conventions=MPD_AGL, surrogate="rectangular", relaxed_width=None):
    """Leaky integrate-and-fire over T timesteps, from v_0 = 0.

        u_t = tau v_{t-1} + x_t;   s_t = [u_t >= V_th];   v_t = u_t (1 - s_t)

    Parameters
    ----------
    x : ndarray (T, ...), float32 or float64
        Input current, in units of the membrane potential.
    decay : float
        Leak factor tau in [0, 1): a factor per timestep, not a time constant.
    v_th : float
        Threshold, > 0.
    conventions : Conventions
        Reads `spike_test`, `reset`, `input_scale`; the rest is for the backward pass.
    surrogate : str
        Member of the surrogate family; matters for the forward pass only if it is relaxed.
    relaxed_width : ndarray (T,), optional
        If given, s_t = S(u_t - V_th) with this kappa_t in place of the step, for finite differences.

    Returns
    -------
    s : ndarray, shape and dtype of x
    cache : LIFCache

    Raises
    ------
    ValueError, TypeError
        For arrays that are not finite, not float32 or float64, or empty; for decay, v_th or names out of range.

    Examples
    --------
    >>> import numpy as np
    >>> s, cache = lif_forward(np.array([[0.25], [0.5], [0.5]]), decay=0.5, v_th=0.5)
    >>> s.ravel(), cache.u.ravel()
    (array([0., 1., 1.]), array([0.25 , 0.625, 0.5  ]))
    """
    validate.float_array("x", x, min_ndim=2)
    decay, v_th, relaxed_width = _check_forward(x, decay, v_th, conventions, surrogate, relaxed_width)
    return _forward(x, decay, v_th, conventions, surrogate, relaxed_width)


def lif_backward_full(ds, cache, width, conventions=None, surrogate=None):
    """`lif_backward` with all that it computes: LIFGrads(dx, ddecay, dwidth)."""
    validate.cache_of(cache, LIFCache, "lif_forward")
    validate.float_array("ds", ds, dtype=cache.u.dtype)
    validate.same_shape("ds", ds, cache.u.shape, "the spikes")
    width = _check_width("width", width, len(cache.u), cache.u.dtype)
    conventions = cache.conventions if conventions is None else validate.conventions(conventions)
    surrogate = cache.surrogate if surrogate is None else surrogate
    if conventions.input_scale != cache.conventions.input_scale:
        raise ValueError(
            f"conventions.input_scale: expected {cache.conventions.input_scale!r} as in the forward pass, received "
            f"{conventions.input_scale!r}; run the forward pass with the same value"
        )
    return _backward(ds, cache, width, conventions, surrogate)


def lif_backward(ds, cache, width, conventions=None, surrogate=None):
    """Backpropagation through time of `lif_forward`, for t = T..1 from dv_T = 0.

        ds_total = ds_t - u_t dv_t                       (1) through the reset, if attached
        du_t     = dv_t (1 - s_t) + ds_total surrogate'(u_t)   (2)
        ddecay  += sum(du_t v_{t-1})                     (3)
        dv_{t-1} = tau du_t;   dx_t = du_t               (4)

    Parameters
    ----------
    ds : ndarray (T, ...)
        Gradient of the loss with respect to the spikes; shape and dtype of the forward's s.
    cache : LIFCache
        From `lif_forward`; edit it with `cache._replace(u=..., s=...)` to force other forward values.
    width : ndarray (T,)
        kappa_t >= 0 in the same dtype; 0 closes the window.
    conventions, surrogate : optional
        As in the forward pass unless given.

    Returns
    -------
    dx : ndarray, shape and dtype of x
    ddecay : scalar of the same dtype, summed over time and neurons in float64

    Raises
    ------
    ValueError, TypeError
        For another shape or dtype than the cache's, values that are not finite, a negative width.
    """
    grads = lif_backward_full(ds, cache, width, conventions, surrogate)
    return grads.dx, grads.ddecay


def decay_from_w(w, conventions=MPD_AGL):
    """PLIF's leak factor as a float: tau = sigmoid(w), or 1 - sigmoid(w) under plif="1 - tau"."""
    w = float(w)
    p = 1.0 / (1.0 + np.exp(-w)) if w >= 0 else np.exp(w) / (1.0 + np.exp(w))
    return float(p if conventions.plif == "tau" else 1.0 - p)


def dw_from_ddecay(ddecay, decay, conventions=MPD_AGL):
    """Chain ddecay to PLIF's w: dw = ddecay tau (1 - tau), negative where w gives 1 - tau."""
    sign = 1.0 if conventions.plif == "tau" else -1.0
    return np.array(sign * float(ddecay) * decay * (1.0 - decay))


def plif_forward(x, w, v_th=0.5, conventions=MPD_AGL, surrogate="rectangular", relaxed_width=None):
    """LIF whose leak is learned: tau = sigmoid(w) (Fang et al., ICCV 2021; METHOD.md's PLIF).

    Parameters
    ----------
    w : float or 0-d ndarray
        One per layer; w = -ln(4) gives tau = 0.2.
    x, v_th, conventions, surrogate, relaxed_width
        As for `lif_forward`; also reads `conventions.plif`.

    Returns and raises as `lif_forward`; a w so large that tau rounds to 1 is a ValueError.
    """
    validate.float_array("x", x, min_ndim=2)
    validate.conventions(conventions)
    w = np.array(validate.number("w", w), x.dtype)
    decay = decay_from_w(w, conventions)
    decay, v_th, relaxed_width = _check_forward(x, decay, v_th, conventions, surrogate, relaxed_width)
    return _forward(x, decay, v_th, conventions, surrogate, relaxed_width, w)


def plif_backward(ds, cache, width, conventions=None, surrogate=None):
    """Backward of `plif_forward`: (dx, dw) with dw = ddecay tau (1 - tau), a scalar of x's dtype.

    Parameters and errors as for `lif_backward`.
    """
    dx, ddecay = lif_backward(ds, cache, width, conventions, surrogate)
    conventions = cache.conventions if conventions is None else conventions
    return dx, dx.dtype.type(dw_from_ddecay(ddecay, cache.decay, conventions))
