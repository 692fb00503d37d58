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

from . import _check
from ._jit import kernel
from .conventions import MPD_AGL, Conventions
from .surrogate import code_of, derivative_row, heights, primitive_row

CHUNK = 2048  # neurons that one thread takes at a time; depends on nothing, so results never do
HARD, SOFT, NO_RESET, SOFT_LATE = range(4)
_RESET = {"hard": HARD, "soft": SOFT, "none": NO_RESET, "soft late": SOFT_LATE}


class LIFCache(NamedTuple):
    """What the backward pass needs of the forward pass. u, s, x have the input's shape (T, ...)."""

    u: np.ndarray
    s: np.ndarray
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


@kernel
def _lif_forward_kernel(x, neuron, width, height, codes, u, s):
    tau, gain, v_th = neuron
    reset, strict, relaxed, code = codes
    T, n = x.shape
    one = x.dtype.type(1)
    zero = x.dtype.type(0)
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a = chunk * CHUNK
        b = min(a + CHUNK, n)
        v = np.zeros(b - a, x.dtype)
        for t in range(T):
            xt, ut, st = x[t, a:b], u[t, a:b], s[t, a:b]
            for i in range(b - a):
                v[i] = tau * v[i] + gain * xt[i]
            if reset == SOFT_LATE and t > 0:
                s_prev = s[t - 1, a:b]
                for i in range(b - a):
                    v[i] = v[i] - v_th * s_prev[i]
            for i in range(b - a):  # x is not read after here: u may be the same memory
                ut[i] = v[i]
            if relaxed:
                primitive_row(ut, v_th, width[t], height[t], code, st)
            elif strict:
                for i in range(b - a):
                    st[i] = one if ut[i] > v_th else zero
            else:
                for i in range(b - a):
                    st[i] = one if ut[i] >= v_th else zero
            for i in range(b - a):
                if reset == HARD:
                    v[i] = ut[i] * (one - st[i])
                elif reset == SOFT:
                    v[i] = ut[i] - v_th * st[i]
                else:
                    v[i] = ut[i]


@kernel
def _lif_backward_kernel(ds, forward, neuron, width, height, codes, dx, sums):
    """sums (chunks, 1 + T), float64: each chunk's ddecay, then its dwidth_t. The caller adds them up in order."""
    u, s, x = forward
    tau, gain, v_th = neuron
    reset, attached, scaled, flows, code, closed = codes
    T, n = u.shape
    one = u.dtype.type(1)
    zero = u.dtype.type(0)
    for chunk in prange((n + CHUNK - 1) // CHUNK):
        a = chunk * CHUNK
        b = min(a + CHUNK, n)
        dv = np.zeros(b - a, u.dtype)  # gradient of v_t, carried from t + 1
        du = np.zeros(b - a if reset == SOFT_LATE else 0, u.dtype)  # of u_{t+1}: what "soft late" subtracts from
        h = np.empty(b - a, u.dtype)  # surrogate'(u_t)
        ddecay = np.zeros(b - a)
        for k in range(T):
            t = T - 1 - k
            ut, st, dst, dxt = u[t, a:b], s[t, a:b], ds[t, a:b], dx[t, a:b]
            derivative_row(ut, v_th, width[t], height[t], code, closed, h)
            if flows and width[t] > zero:
                dwidth = np.float64(0.0)
                for i in range(b - a):
                    if reset == SOFT_LATE:
                        through_reset = v_th * du[i]
                    else:
                        through_reset = (ut[i] if reset == HARD else (v_th if reset == SOFT else zero)) * dv[i]
                    ds_total = dst[i] - (through_reset if attached else zero)
                    dwidth -= ds_total * h[i] * ((ut[i] - v_th) / width[t])
                sums[chunk, 1 + t] = dwidth
            if reset == SOFT_LATE:  # a loop of its own: in the next one it makes all resets about 40 % slower
                for i in range(b - a):
                    ds_total = dst[i] - v_th * du[i] if attached else dst[i]
                    du[i] = dxt[i] = dv[i] + ds_total * h[i]
                    dv[i] = tau * dxt[i]
            else:
                for i in range(b - a):
                    if reset == HARD:
                        ds_total = dst[i] - ut[i] * dv[i] if attached else dst[i]
                        dxt[i] = dv[i] * (one - st[i]) + ds_total * h[i]
                    elif reset == SOFT:
                        ds_total = dst[i] - v_th * dv[i] if attached else dst[i]
                        dxt[i] = dv[i] + ds_total * h[i]
                    else:
                        dxt[i] = dv[i] + dst[i] * h[i]
                    dv[i] = tau * dxt[i]  # dv_{t-1} = tau du_t
            if t > 0:
                u_prev, s_prev = u[t - 1, a:b], s[t - 1, a:b]
                for i in range(b - a):
                    if reset == HARD:
                        ddecay[i] += dxt[i] * (u_prev[i] * (one - s_prev[i]))
                    elif reset == SOFT:
                        ddecay[i] += dxt[i] * (u_prev[i] - v_th * s_prev[i])
                    else:
                        ddecay[i] += dxt[i] * u_prev[i]
            if scaled:  # u = tau v + (1 - tau) x
                xt = x[t, a:b]
                for i in range(b - a):
                    ddecay[i] -= dxt[i] * xt[i]
                    dxt[i] = gain * dxt[i]
        total = 0.0
        for i in range(b - a):
            total += ddecay[i]
        sums[chunk, 0] = total


def _neuron_scalars(dtype, decay, v_th, conventions):
    """(tau, gain, V_th) in the arrays' dtype; 1 - tau is taken there too."""
    tau = dtype.type(decay)
    gain = dtype.type(1) - tau if conventions.input_scale == "1 - tau" else dtype.type(1)
    return tau, gain, dtype.type(v_th)


def _forward(x, decay, v_th, conventions, surrogate, relaxed_width=None, w=None, overwrite=False):
    """`lif_forward` without validation. With overwrite, u takes x's memory where the backward pass needs no x."""
    dtype = x.dtype
    x = np.ascontiguousarray(x)
    flat = x.reshape(len(x), -1)
    u = flat if overwrite and conventions.input_scale == "1" else np.empty_like(flat)
    s = np.empty_like(flat)
    relaxed = relaxed_width is not None
    width = relaxed_width if relaxed else np.ones(len(x), dtype)
    if not (width > 0).all():
        raise ValueError("relaxed_width: expected kappa > 0, received 0; a closed window has no smooth step")
    codes = (_RESET[conventions.reset], conventions.spike_test == ">", relaxed, code_of(surrogate))
    neuron = _neuron_scalars(dtype, decay, v_th, conventions)
    _lif_forward_kernel(flat, neuron, width, heights(width, conventions), codes, u, s)
    kept_x = x if conventions.input_scale == "1 - tau" else None
    cache = LIFCache(u.reshape(x.shape), s.reshape(x.shape), kept_x, decay, v_th, conventions, surrogate, w)
    return cache.s, cache


def _backward(ds, cache, width, conventions, surrogate):
    """`lif_backward_full` without validation."""
    T, dtype, shape = len(cache.u), cache.u.dtype, cache.u.shape
    ds = np.ascontiguousarray(ds).reshape(T, -1)
    u = np.ascontiguousarray(cache.u).reshape(T, -1)
    s = np.ascontiguousarray(cache.s).reshape(T, -1)
    scaled = conventions.input_scale == "1 - tau"
    x = np.ascontiguousarray(cache.x).reshape(T, -1) if scaled else u
    dx = np.empty_like(u)
    sums = np.zeros(((u.shape[1] + CHUNK - 1) // CHUNK, 1 + T))
    codes = (
        _RESET[conventions.reset],
        conventions.reset_gradient == "attached",
        scaled,
        conventions.width_gradient == "flows",
        code_of(surrogate),
        conventions.window_edge == "<=",
    )
    neuron = _neuron_scalars(dtype, cache.decay, cache.v_th, conventions)
    _lif_backward_kernel(ds, (u, s, x), neuron, width, heights(width, conventions), codes, dx, sums)
    total = sums.sum(axis=0)
    return LIFGrads(dx.reshape(shape), dtype.type(total[0]), total[1:].astype(dtype))


def _check_width(name, width, T, dtype):
    _check.float_array(name, width, dtype=dtype)
    _check.same_shape(name, width, (T,), "the timesteps")
    if (width < 0).any():
        raise ValueError(f"{name}: expected kappa >= 0 at each t, received {width.min()}; 0 closes the window")
    return np.ascontiguousarray(width)


def _check_forward(x, decay, v_th, conventions, surrogate, relaxed_width):
    _check.conventions(conventions)
    decay = _check.number("decay", decay, low=0, high=1, high_open=True)
    v_th = _check.number("v_th", v_th, low=0, low_open=True)
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
    _check.float_array("x", x, min_ndim=2)
    decay, v_th, relaxed_width = _check_forward(x, decay, v_th, conventions, surrogate, relaxed_width)
    return _forward(x, decay, v_th, conventions, surrogate, relaxed_width)


def lif_backward_full(ds, cache, width, conventions=None, surrogate=None):
    """`lif_backward` with all that it computes: LIFGrads(dx, ddecay, dwidth)."""
    _check.cache_of(cache, LIFCache, "lif_forward")
    _check.float_array("ds", ds, dtype=cache.u.dtype)
    _check.same_shape("ds", ds, cache.u.shape, "the spikes")
    width = _check_width("width", width, len(cache.u), cache.u.dtype)
    conventions = cache.conventions if conventions is None else _check.conventions(conventions)
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
    _check.float_array("x", x, min_ndim=2)
    _check.conventions(conventions)
    w = np.array(_check.number("w", w), x.dtype)
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
