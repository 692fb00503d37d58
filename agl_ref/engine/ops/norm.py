"""tdBN and its running statistics, validated. Its kernels are in `agl_ref.engine.tdbn`."""

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL
from agl_ref.engine import tdbn


def tdbn_forward(x, gamma, beta, v_th=0.5, alpha=1.0, eps=1e-5, conventions=MPD_AGL, running=None):
    """Normalise each channel over time, batch and space, scaled to the threshold.

        y = gamma (alpha V_th (x - mean) / sqrt(var + eps)) + beta

    Parameters
    ----------
    x : ndarray (..., C), float32 or float64
    gamma, beta : ndarray (C,), x's dtype
    v_th, alpha : float
        Threshold and factor; both ignored under norm_scale "1".
    eps : float
        Added to the variance, > 0.
    conventions : Conventions
        Reads `norm_variance`, `norm_scale` and `norm_shift`.
    running : (mean, var), each ndarray (C,), optional
        Evaluation with these statistics; without, training with the batch's own.

    Returns
    -------
    y : ndarray, shape and dtype of x
    cache : TdBNCache

    Raises
    ------
    ValueError, TypeError
        For a wrong channel count, dtype, or values that are not finite; for one value per channel with the unbiased
        variance.

    Examples
    --------
    >>> import numpy as np
    >>> y, _ = tdbn_forward(np.array([[-3.0], [3.0]]), np.ones(1), np.zeros(1), v_th=0.5, eps=1e-12)
    >>> y.ravel().round(6)
    array([-0.5,  0.5])
    """
    validate.float_array("x", x, min_ndim=2)
    validate.conventions(conventions)
    C = x.shape[-1]
    v_th = validate.number("v_th", v_th, low=0, low_open=True, dtype=x.dtype)
    alpha = validate.number("alpha", alpha, low=0, low_open=True, dtype=x.dtype)
    eps = validate.number("eps", eps, low=0, low_open=True, dtype=x.dtype)
    named = [("gamma", gamma), ("beta", beta)]
    if running is not None:
        if not isinstance(running, (tuple, list)) or len(running) != 2:
            raise TypeError(
                f"running: expected a pair (mean, var), received {type(running).__name__}; pass both arrays"
            )
        named += [("running mean", running[0]), ("running var", running[1])]
    for name, value in named:
        validate.float_array(name, value, dtype=x.dtype)
        validate.same_shape(name, value, (C,), "x's channels")
    if running is not None and (running[1] < 0).any():
        raise ValueError(f"running var: expected values >= 0, received {running[1].min()}; check the checkpoint")
    cache = tdbn.measure(x, gamma, beta, v_th, alpha, eps, conventions, running)
    return tdbn.normalise(cache), cache


def tdbn_backward(dy, cache):
    """Backward of `tdbn_forward`, with M values per channel and g = dy gamma alpha V_th.

        dgamma = sum(dy alpha V_th x_hat);   dbeta = sum(dy)
        dx     = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(var + eps)

    With the unbiased variance the last mean divides by M - 1; in evaluation dx = g / sqrt(var + eps).

    Parameters
    ----------
    dy : ndarray, shape and dtype of y
    cache : TdBNCache

    Returns
    -------
    dx (shape of x), dgamma (C,), dbeta (C,)
    """
    validate.cache_of(cache, tdbn.TdBNCache, "tdbn_forward")
    x_shape = np.shape(cache.x)
    validate.cache_arrays(cache, {"x": x_shape, **dict.fromkeys(("gamma", "mean", "inv_std"), x_shape[-1:])})
    validate.gradient(dy, x_shape, cache.x.dtype)
    return tdbn.backward(dy, cache)


def update_running(running_mean, running_var, cache, momentum=0.1):
    """running = (1 - momentum) running + momentum batch, in place; the variance is taken unbiased.

    Raises ValueError if the cache is of an evaluation pass: there is no batch statistic in it.
    """
    validate.cache_of(cache, tdbn.TdBNCache, "tdbn_forward", whole=False)
    if not cache.training:
        raise ValueError("cache: expected one of a training forward, received evaluation; pass training=True")
    M = cache.count
    for name, value in (("running mean", running_mean), ("running var", running_var)):
        validate.float_array(name, value, dtype=cache.mean.dtype)
        validate.same_shape(name, value, cache.mean.shape, "the norm's channels")
    momentum = validate.number("momentum", momentum, low=0, high=1)
    if M == 1:
        raise ValueError(
            "cache: expected at least 2 values per channel, whose unbiased variance exists, received 1; add samples"
        )
    tdbn.update_running(running_mean, running_var, cache, momentum)
