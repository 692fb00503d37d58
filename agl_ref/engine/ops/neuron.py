"""LIF and PLIF, validated. Their kernels are in `agl_ref.engine.neuron`."""

import functools

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL
from agl_ref.engine.neuron import (
    CHUNK,
    ROW,
    LIFCache,
    backward_arguments,
    dw_from_ddecay,
    grads_of,
    lif_backward_kernel,
    lif_forward_kernel,
    lif_relaxed_kernel,
    neuron_constants,
    plif_decay,
)
from agl_ref.engine.parallel import grain_of, pieces, run
from agl_ref.engine.surrogate import code_of, window_of


def checked(check):
    """Decorator: `check` takes the arguments and returns them validated; `function.unchecked` does without it."""

    def decorate(function):
        @functools.wraps(function)
        def validated(*args, **options):
            return function(*check(*args, **options))

        validated.unchecked = function
        return validated

    return decorate


def check_width(name, width, T, dtype):
    """`width` as a contiguous array, if it is kappa_t >= 0, (T,), of this dtype."""
    validate.float_array(name, width, dtype=dtype)
    validate.same_shape(name, width, (T,), "the timesteps")
    if (width < 0).any():
        raise ValueError(f"{name}: expected kappa >= 0 at each t, received {width.min()}; 0 closes the window")
    return np.ascontiguousarray(width)


def _check_lif_forward(x, decay=0.2, v_th=0.5, conventions=MPD_AGL, surrogate="rectangular", relaxed_width=None):
    validate.float_array("x", x, min_ndim=2)
    validate.conventions(conventions)
    decay = validate.decay(decay, conventions, x.dtype)
    v_th = validate.number("v_th", v_th, low=0, low_open=True, dtype=x.dtype)
    code_of(surrogate)
    if relaxed_width is not None:
        relaxed_width = check_width("relaxed_width", relaxed_width, len(x), x.dtype)
    return x, decay, v_th, conventions, surrogate, relaxed_width


@checked(_check_lif_forward)
def lif_forward(x, decay=0.2, v_th=0.5, conventions=MPD_AGL, surrogate="rectangular", relaxed_width=None):
    """Leaky integrate-and-fire over T timesteps, from v_0 = 0.

        u_t = tau v_{t-1} + x_t;   s_t = [u_t >= V_th];   v_t = u_t (1 - s_t)

    Parameters
    ----------
    x : ndarray (T, ...), float32 or float64
        Input current, in units of the membrane potential.
    decay : float
        Leak factor tau in [0, 1]: a factor per timestep, not a time constant. 1 is integrate-and-fire (IF), and not possible
        with input_scale "1 - tau".
    v_th : float
        Threshold, > 0.
    conventions : Conventions
        Reads `spike_test`, `reset`, `input_scale`; the rest is for the backward pass.
    surrogate : str
        Member of the surrogate family; matters for the forward pass only if it is relaxed.
    relaxed_width : ndarray (T,), optional
        If given, s_t = S(u_t - V_th) with this kappa_t instead of the step, for finite differences.

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
    flat = np.ascontiguousarray(x).reshape(len(x), -1)
    u, s = np.empty_like(flat), np.empty_like(flat)
    p, chunks = neuron_constants(x.dtype, decay, v_th, conventions), pieces(flat.shape[1], CHUNK)
    if relaxed_width is None:
        run(lif_forward_kernel, chunks, flat, p, np.zeros(ROW, x.dtype), u, s, grain=grain_of(CHUNK * len(x)))
    elif (relaxed_width > 0).all():
        run(lif_relaxed_kernel, chunks, flat, p, window_of(relaxed_width, conventions, surrogate), u, s)
    else:
        raise ValueError("relaxed_width: expected kappa > 0, received 0; a closed window has no smooth step")
    kept_x = flat.reshape(x.shape) if p.scaled else None
    cache = LIFCache(u.reshape(x.shape), s.reshape(x.shape), kept_x, decay, v_th, conventions, surrogate)
    return cache.s, cache


def _check_lif_backward(ds, cache, width, conventions=None, surrogate=None):
    validate.cache_of(cache, LIFCache, "lif_forward")
    fields = ("u", "s", "x") if cache.conventions.input_scale == "1 - tau" else ("u", "s")
    validate.cache_arrays(cache, dict.fromkeys(fields, np.shape(cache.u)))
    validate.float_array("ds", ds, dtype=cache.u.dtype)
    validate.same_shape("ds", ds, cache.u.shape, "the spikes")
    width = check_width("width", width, len(cache.u), cache.u.dtype)
    conventions = cache.conventions if conventions is None else validate.conventions(conventions)
    surrogate = cache.surrogate if surrogate is None else surrogate
    code_of(surrogate)
    if conventions.input_scale != cache.conventions.input_scale:
        raise ValueError(
            f"conventions.input_scale: expected {cache.conventions.input_scale!r} as in the forward pass, received "
            f"{conventions.input_scale!r}; run the forward pass with the same value"
        )
    return ds, cache, width, conventions, surrogate


@checked(_check_lif_backward)
def lif_backward(ds, cache, width, conventions=None, surrogate=None):
    """Backpropagation through time of `lif_forward`, for t = T..1 from dv_T = 0.

        ds_total = ds_t - u_t dv_t                       (B1) through the reset, if attached
        du_t     = dv_t (1 - s_t) + ds_total surrogate'(u_t)   (B2)
        ddecay  += sum(du_t v_{t-1})                     (B4)
        dv_{t-1} = tau du_t                              (B5)
        dx_t     = du_t                                  (B3)

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
    arguments = backward_arguments(ds, cache, width, conventions, surrogate)
    run(lif_backward_kernel, len(arguments[-1]), *arguments, grain=grain_of(2 * CHUNK * len(cache.u)))
    return grads_of(*arguments[-2:], cache.u.shape)[:2]


@checked(_check_lif_backward)
def lif_backward_full(ds, cache, width, conventions=None, surrogate=None):
    """`lif_backward` with all that it computes: LIFGrads(dx, ddecay, dwidth)."""
    arguments = backward_arguments(ds, cache, width, conventions, surrogate)
    run(lif_backward_kernel, len(arguments[-1]), *arguments, grain=grain_of(2 * CHUNK * len(cache.u)))
    return grads_of(*arguments[-2:], cache.u.shape)


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
    w = np.array(validate.number("w", w, dtype=x.dtype), x.dtype)
    s, cache = lif_forward(x, plif_decay(w, conventions), v_th, conventions, surrogate, relaxed_width)
    return s, cache._replace(w=w)


def plif_backward(ds, cache, width, conventions=None, surrogate=None):
    """Backward of `plif_forward`: (dx, dw) with dw = ddecay tau (1 - tau), a scalar of x's dtype.

    Parameters and errors as for `lif_backward`.
    """
    dx, ddecay = lif_backward(ds, cache, width, conventions, surrogate)
    conventions = cache.conventions if conventions is None else conventions
    return dx, dx.dtype.type(dw_from_ddecay(ddecay, cache.decay, conventions))
