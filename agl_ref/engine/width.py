"""Width rules: kappa_t, the width of the surrogate's window at each timestep.

Adaptive (MPD-AGL, Theorems 1 and 2): the window spans one standard deviation of the membrane potential to each side of
the threshold,

    kappa_1     = 2 gamma_bar alpha V_th
    kappa_{t>1} = 2 sqrt(1 + tau^2) gamma_bar alpha V_th

where gamma_bar is the mean over channels of tdBN's scale. The other rules of the same family keep kappa_1 or
kappa_{t>1} throughout, or the whole geometric sum of the leak; "fixed" and "2 V_th" ignore the statistics. Two more
rules keep the idea and drop the approximation, each kappa_t twice a standard deviation of u_t:

    exact      of its law with the reset (`agl_ref.theory`), from gamma_bar, beta_bar, tau and V_th
    empirical  as measured on the batch

Both are constants for the gradient.
"""

import math
import warnings

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

SPREADS = ("adaptive", "first", "later", "geometric")


class WindowCollapsedWarning(UserWarning):
    """The mean of tdBN's gamma is not positive, so the surrogate's window is closed and no gradient passes."""


def spread(rule, decay, T):
    """Standard deviation of u_t over that of the input, as `rule` has it, for t = 1..T: list of T floats."""
    validate.one_of("rule", rule, SPREADS)
    validate.integer("T", T)
    validate.decay(decay)
    later = math.sqrt(1 + decay * decay)  # (W2)
    if rule == "adaptive":
        return [1.0] + [later] * (T - 1)
    if rule == "first":
        return [1.0] * T
    if rule == "later":
        return [later] * T
    sums = np.cumsum([decay ** (2 * j) for j in range(T)])  # "geometric"
    return [math.sqrt(total) for total in sums]  # (W3)


def spread_slope(rule, decay, T):
    """d spread / d tau, for implementations that let a gradient flow through kappa."""
    spread(rule, decay, T)  # refuses what is none of the rules
    later = decay / math.sqrt(1 + decay * decay)
    if rule == "adaptive":
        return [0.0] + [later] * (T - 1)
    if rule == "first":
        return [0.0] * T
    if rule == "later":
        return [later] * T
    slopes = np.cumsum([2 * j * decay ** (2 * j - 1) if j else 0.0 for j in range(T)])
    return [slope / (2 * std) for slope, std in zip(slopes, spread(rule, decay, T), strict=True)]


def _gamma_bar(gamma, layer=None):
    """Mean of gamma in float64, with a warning where it closes the window."""
    gamma_bar = float(np.mean(gamma, dtype=np.float64))
    if gamma_bar <= 0:
        warnings.warn(
            f"the surrogate's window {f'of layer {layer!r} ' if layer else ''}is closed: the mean of tdBN's gamma is "
            f"{gamma_bar:.6g}, expected > 0; no gradient passes this layer (lower the learning rate or raise gamma)",
            WindowCollapsedWarning,
            stacklevel=4,
        )
    return gamma_bar


def _from_gamma(rule, gamma, v_th, decay, T, alpha, dtype, layer=None):
    validate.float_array("gamma", np.asarray(gamma) if isinstance(gamma, np.floating) else gamma, min_ndim=0)
    if gamma.ndim > 1:
        raise ValueError(f"gamma: expected shape (C,), received {gamma.shape}; pass one scale per channel")
    v_th = validate.number("v_th", v_th, low=0, low_open=True)
    decay = validate.decay(decay)
    alpha = validate.number("alpha", alpha, low=0, low_open=True)
    T = validate.integer("T", T)
    dtype = gamma.dtype if dtype is None else validate.float_dtype(dtype)
    gamma_bar = _gamma_bar(gamma, layer)
    if gamma_bar <= 0:
        return np.zeros(T, dtype)
    return _rounded([2.0 * std * gamma_bar * alpha * v_th for std in spread(rule, decay, T)], dtype)  # (W1)


def _rounded(kappa, dtype):
    """kappa (T,) in the dtype, which must hold it."""
    for value in (min(kappa), max(kappa)):
        validate.number("width", value, low=0, low_open=True, dtype=dtype)
    return np.array(kappa).astype(dtype)


def adaptive_width(gamma, v_th, decay, T, alpha=1.0, dtype=None):
    """kappa_t of MPD-AGL's adaptive rule (Theorem 2 of the paper).

    Parameters
    ----------
    gamma : ndarray (C,) or scalar array, float32 or float64
        Scale of the tdBN before the neuron; its mean is used.
    v_th : float
        Threshold, > 0.
    decay : float
        Leak factor tau in [0, 1].
    T : int
        Number of timesteps, >= 1.
    alpha : float
        tdBN's factor beside V_th.
    dtype : float32 or float64, optional
        Of the result; gamma's by default. The rule itself is computed in float64 and rounded once.

    Returns
    -------
    ndarray (T,) : kappa_t >= 0, in units of the membrane potential. All zero, with a `WindowCollapsedWarning`, where
        the mean of gamma is not positive: the official implementation divides by kappa there.

    Raises
    ------
    ValueError, TypeError
        For values outside the ranges above.

    Examples
    --------
    >>> import numpy as np
    >>> adaptive_width(np.array([1.5, 0.5]), v_th=0.5, decay=0.75, T=3)
    array([1.  , 1.25, 1.25])
    """
    return _from_gamma("adaptive", gamma, v_th, decay, T, alpha, dtype)


def geometric_width(gamma, v_th, decay, T, alpha=1.0, dtype=None):
    """kappa_t = 2 sqrt(1 + tau^2 + ... + tau^(2(t-1))) gamma_bar alpha V_th: the no-reset spread at every t.

    Parameters, result and errors as for `adaptive_width`.
    """
    return _from_gamma("geometric", gamma, v_th, decay, T, alpha, dtype)


def fixed_width(width, T, dtype=np.float64):
    """kappa_t = width at every t: ndarray (T,) of `dtype`. ValueError for a negative width."""
    dtype = validate.float_dtype(dtype)
    return np.full(validate.integer("T", T), validate.number("width", width, low=0, dtype=dtype), dtype)


def exact_width(gamma, beta, v_th, decay, T, conventions=MPD_AGL, alpha=1.0, layer=None):
    """kappa_t = twice the exact standard deviation of u_t with the reset, where x_t is N(beta_bar, sigma^2).

    sigma is gamma_bar alpha V_th as in Theorem 1; both are times 1 - tau under input_scale "1 - tau".

    Parameters
    ----------
    gamma, beta : ndarray (C,), float32 or float64
        Scale and shift of the tdBN before the neuron.
    v_th, decay, T, alpha
        As for `adaptive_width`.
    conventions : Conventions
        Reads `reset`, `input_scale`, `norm_scale`: the law is that of the neuron they describe.
    layer : str, optional
        Its name, for the warning.

    Returns
    -------
    ndarray (T,) of gamma's dtype, computed in float64 and rounded once. All zero, with a `WindowCollapsedWarning`,
        where the mean of gamma is not positive.

    Raises
    ------
    ValueError, TypeError
        As for `agl_ref.theory.law_of_layer`.

    Examples
    --------
    >>> import numpy as np
    >>> exact_width(np.ones(2), np.zeros(2), v_th=0.5, decay=0.5, T=3).round(4)      # adaptive: 1, 1.118, 1.118
    array([1.    , 1.0655, 1.0785])
    """
    from agl_ref.theory import law_of_layer  # here, because the other rules need no SciPy

    validate.float_array("gamma", gamma)
    validate.same_shape("beta", validate.float_array("beta", beta), gamma.shape, "gamma")
    if _gamma_bar(gamma, layer) <= 0:
        return np.zeros(validate.integer("T", T), gamma.dtype)
    return _rounded(2.0 * law_of_layer(gamma, beta, v_th, decay, T, conventions, alpha).std, gamma.dtype)


def empirical_width(u, layer=None):
    """kappa_t = twice the standard deviation of u_t over samples and neurons, as measured.

    Parameters
    ----------
    u : ndarray (T, N, ...), float32 or float64
        Membrane potential before firing.
    layer : str, optional
        Its name, for the warning.

    Returns
    -------
    ndarray (T,) of u's dtype, computed in float64 and rounded once; NaN at a timestep where u is not finite; 0, with a
        `WindowCollapsedWarning`, where all potentials are equal.

    Raises
    ------
    ValueError, TypeError
        If u is no such array.
    """
    _, std = potential_moments(u)
    if not std.all():
        warnings.warn(
            f"the surrogate's window {f'of layer {layer!r} ' if layer else ''}is closed at t = {np.argmin(std) + 1}: all "
            "membrane potentials are equal; no gradient passes there (look at the layer's input and gamma)",
            WindowCollapsedWarning,
            stacklevel=2,
        )
    return (2.0 * std).astype(u.dtype)


def potential_moments(u):
    """(mean, standard deviation) of u_t over samples and neurons at each t: two float64 arrays (T,).

    TypeError or ValueError if u is no float32 or float64 array (T, ...).
    """
    validate.float_array("u", u, min_ndim=2, finite=False)
    rows = u.reshape(len(u), -1)  # one at a time: NumPy makes a float64 copy for each
    return np.array([r.mean(dtype=np.float64) for r in rows]), np.array([r.std(dtype=np.float64) for r in rows])


def width_of_layer(gamma, v_th, decay, T, dtype, conventions=MPD_AGL, alpha=1.0, layer=None):
    """kappa_t (T,) of one layer by the rule in `conventions`. A neuron without tdBN (gamma None) has kappa = 1.

    "exact" and "empirical" need more than gamma: use `exact_width` and `empirical_width`. ValueError for them.
    """
    validate.conventions(conventions)
    if conventions.width == "empirical" or (conventions.width == "exact" and gamma is not None):
        raise ValueError(
            f"width: expected a rule that gamma alone decides, received {conventions.width!r}; use "
            f"{conventions.width}_width"
        )
    if conventions.width == "fixed":
        return fixed_width(conventions.fixed_width, T, dtype)
    if conventions.width == "2 V_th":
        return fixed_width(2 * v_th, T, dtype)  # (W6)
    if gamma is None:
        return fixed_width(1.0, T, dtype)
    scale = v_th if conventions.norm_scale == "alpha V_th" else 1.0
    alpha = alpha if conventions.norm_scale == "alpha V_th" else 1.0
    return _from_gamma(conventions.width, gamma, scale, decay, T, alpha, dtype, layer)


def width_gradient(dwidth, gamma, v_th, decay, conventions=MPD_AGL, alpha=1.0):
    """Chain dwidth (T,) through the rule: (dgamma (C,), ddecay), both zero where the rule ignores them."""
    no_gradient = conventions.width in ("fixed", "2 V_th") or gamma is None
    if no_gradient or float(np.mean(gamma, dtype=np.float64)) <= 0:
        return (None if gamma is None else np.zeros_like(gamma)), 0.0
    T = len(dwidth)
    scale = alpha * v_th if conventions.norm_scale == "alpha V_th" else 1.0
    gamma_bar = float(np.mean(gamma, dtype=np.float64))
    dwidth = dwidth.astype(np.float64)
    dgamma_bar = 2.0 * scale * float(dwidth @ np.array(spread(conventions.width, decay, T)))  # (W4)
    ddecay = 2.0 * scale * gamma_bar * float(dwidth @ np.array(spread_slope(conventions.width, decay, T)))  # (W5)
    return np.full_like(gamma, dgamma_bar / gamma.size), ddecay
