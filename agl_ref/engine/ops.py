"""The public operations: every forward with its backward, validated. What they compute is in the layers' own files.

    y, cache = op_forward(x, ...)        dx, ... = op_backward(dy, cache)

Nothing is remembered between calls: a cache holds all that the backward pass uses, and may be edited with
`cache._replace`. Arrays are (T, N, H, W, C) or (T, N, F), float32 or float64; nothing is cast silently. The layers of a
network call the same code without validation, since their inputs come from each other.
"""

import functools

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

from . import conv, linear, loss, tdbn
from .loss import reduce_logits  # noqa: F401  public, like NAMES and LIFCache
from .neuron import (
    CHUNK,
    LIFCache,
    backward_arguments,
    decay_from_w,  # noqa: F401  public
    dw_from_ddecay,
    grads_of,
    lif_backward_kernel,
    lif_forward_kernel,
    lif_relaxed_kernel,
    neuron_constants,
    plif_decay,
)
from .parallel import pieces, run
from .surrogate import FAMILY, NAMES, code_of, derivative_row, heights, primitive_row, window_of  # noqa: F401


def checked(check):
    """Decorator: `check` takes the arguments and returns them validated; `function.unchecked` does without it."""

    def decorate(function):
        @functools.wraps(function)
        def validated(*args, **options):
            return function(*check(*args, **options))

        validated.unchecked = function
        return validated

    return decorate


def check_arrays(cache, shapes):
    """Refuse a cache, which may have been edited, unless its arrays have these shapes ({field: shape}), one dtype, no NaN.

    A kernel reads as far as one array's shape says, whatever another's is.
    """
    dtype = None
    for field, shape in shapes.items():
        array = validate.float_array(f"cache.{field}", getattr(cache, field), dtype=dtype)
        validate.same_shape(f"cache.{field}", array, shape, "the rest of the cache")
        dtype = array.dtype


# --- the surrogate ------------------------------------------------------------------------------------------------------


def _surrogate_arguments(z, width, name, conventions):
    validate.float_array("z", z, min_ndim=0)
    validate.conventions(conventions)
    width = z.dtype.type(validate.number("width", width, low=0, dtype=z.dtype))
    return np.ascontiguousarray(z).reshape(-1), width, heights(np.array(width), conventions)[()], code_of(name)


def derivative(z, width, name="rectangular", conventions=MPD_AGL):
    """The surrogate derivative ds/du at z = u - V_th.

    Parameters
    ----------
    z : ndarray, float32 or float64, any shape
        Distance of the membrane potential from the threshold.
    width : float
        kappa >= 0; 0 closes the window.
    name : {"rectangular", "triangular", "sigmoid", "arctan", "gaussian", "fast_sigmoid", "straight_through", "leaky_relu"}
    conventions : Conventions
        Reads `surrogate_scale` and `window_edge`.

    Returns
    -------
    ndarray of z's shape and dtype.

    Raises
    ------
    ValueError, TypeError
        For an unknown name, a negative width, an array that is not finite or not floating point.

    Examples
    --------
    >>> import numpy as np
    >>> derivative(np.array([-0.5, 0.0, 0.75]), width=1.0)
    array([0., 1., 0.])
    """
    flat, kappa, height, code = _surrogate_arguments(z, width, name, conventions)
    h = np.empty_like(flat)
    derivative_row(flat, z.dtype.type(0), kappa, height, code, conventions.window_edge == "<=", h)
    return h.reshape(z.shape)


def primitive(z, width, name="rectangular", conventions=MPD_AGL):
    """The smooth step S(z) whose derivative `derivative` is (times the surrogate scale), of z's shape.

    Parameters, errors as for `derivative`; the width must be above 0.
    """
    validate.number("width", width, low=0, low_open=True)
    flat, kappa, height, code = _surrogate_arguments(z, width, name, conventions)
    s = np.empty_like(flat)
    primitive_row(flat, z.dtype.type(0), kappa, height, code, s)
    return s.reshape(z.shape)


# --- the neuron ---------------------------------------------------------------------------------------------------------


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
        run(lif_forward_kernel, chunks, flat, p, u, s)
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
    check_arrays(cache, dict.fromkeys(fields, np.shape(cache.u)))
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
    dx, ddecay, _ = lif_backward_full.unchecked(ds, cache, width, conventions, surrogate)
    return dx, ddecay


@checked(_check_lif_backward)
def lif_backward_full(ds, cache, width, conventions=None, surrogate=None):
    """`lif_backward` with all that it computes: LIFGrads(dx, ddecay, dwidth)."""
    arguments = backward_arguments(ds, cache, width, conventions, surrogate)
    run(lif_backward_kernel, len(arguments[-1]), *arguments)
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


# --- tdBN ---------------------------------------------------------------------------------------------------------------


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
    check_arrays(cache, {"x": x_shape, **dict.fromkeys(("gamma", "mean", "inv_std"), x_shape[-1:])})
    validate.float_array("dy", dy, dtype=cache.x.dtype)
    validate.same_shape("dy", dy, cache.x.shape, "the forward's y")
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


# --- synapses and pools -------------------------------------------------------------------------------------------------


def conv2d_forward(x, weight, bias=None, stride=1, padding=0, path="auto"):
    """Convolution (cross-correlation, as in every framework) over the last three axes of x.

    Parameters
    ----------
    x : ndarray (..., H, W, C_in), float32 or float64
        Leading axes, such as T and N, are kept.
    weight : ndarray (kh, kw, C_in, C_out), x's dtype, kh and kw odd
    bias : ndarray (C_out,), optional
    stride : int >= 1
    padding : int >= 0
        Zeros on each side.
    path : {"auto", "dense", "winograd", "spikes"}
        "auto" counts the nonzero inputs and decides; "winograd" is for 3x3, stride 1, padding up to 2.

    Returns
    -------
    y : ndarray (..., Ho, Wo, C_out)
    cache : ConvCache

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, an even kernel, another dtype, values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> y, _ = conv2d_forward(np.ones((1, 3, 3, 1)), np.ones((3, 3, 1, 1)), padding=1)
    >>> y[0, :, :, 0]
    array([[4., 6., 4.],
           [6., 9., 6.],
           [4., 6., 4.]])
    """
    validate.float_array("x", x, min_ndim=4)
    validate.float_array("weight", weight, dtype=x.dtype)
    stride = validate.integer("stride", stride)
    padding = validate.integer("padding", padding, low=0)
    validate.one_of("path", path, ("auto", "dense", "winograd", "spikes"))
    if weight.ndim != 4 or weight.shape[2] != x.shape[-1]:
        raise ValueError(
            f"weight: expected shape (kh, kw, {x.shape[-1]}, C_out) for x of shape {x.shape}, received {weight.shape}; "
            "arrays are channels-last, PyTorch's (C_out, C_in, kh, kw) needs .transpose(2, 3, 1, 0)"
        )
    if weight.shape[0] % 2 == 0 or weight.shape[1] % 2 == 0:
        raise ValueError(f"weight: expected an odd kernel, received {weight.shape[:2]}; pad the kernel with zeros")
    if min(conv.geometry_of(x.shape, weight.shape, stride, padding)[4:]) < 1:
        raise ValueError(
            f"x: expected height and width of at least the kernel {weight.shape[:2]} with padding {padding}, received "
            f"{x.shape[-3:-1]}; add padding"
        )
    if path == "winograd" and (weight.shape[:2] != (3, 3) or stride != 1 or padding > 2):
        raise ValueError(
            f'path: expected "winograd" with a 3x3 kernel, stride 1 and padding 0..2, received {weight.shape[:2]}, stride '
            f'{stride}, padding {padding}; use "auto"'
        )
    if bias is not None:
        validate.float_array("bias", bias, dtype=x.dtype)
        validate.same_shape("bias", bias, weight.shape[3:], "the output channels")
    return conv.forward(x, weight, bias, stride, padding, path)


def conv2d_backward(dy, cache, need_dx=True):
    """Backward of `conv2d_forward`, by the sums at the top of engine/conv.py.

    Parameters
    ----------
    dy : ndarray, shape and dtype of y
    cache : ConvCache
    need_dx : bool
        The first layer of a network needs no gradient of its input.

    Returns
    -------
    dx (shape of x, or None), dweight (kh, kw, C_in, C_out), dbias (C_out,) or None without a bias
    """
    validate.cache_of(cache, conv.ConvCache, "conv2d_forward")
    x_shape, w_shape = np.shape(cache.x), np.shape(cache.weight)
    check_arrays(cache, {"x": x_shape, "weight": (*w_shape[:2], *x_shape[-1:], *w_shape[3:])})
    validate.float_array("dy", dy, dtype=cache.x.dtype)
    geometry = conv.geometry_of(cache.x.shape, cache.weight.shape, cache.stride, cache.padding)
    shape = (*cache.x.shape[:-3], geometry.Ho, geometry.Wo, cache.weight.shape[3])
    validate.same_shape("dy", dy, shape, "the forward's y")
    return conv.backward(dy, cache, validate.boolean("need_dx", need_dx))


def linear_forward(x, weight, bias=None):
    """y = x W + b.

    Parameters
    ----------
    x : ndarray (..., F_in), float32 or float64
    weight : ndarray (F_in, F_out), x's dtype
    bias : ndarray (F_out,), optional

    Returns
    -------
    y : ndarray (..., F_out)
    cache : LinearCache

    Raises
    ------
    ValueError, TypeError
        For shapes that do not fit, another dtype, values that are not finite.

    Examples
    --------
    >>> import numpy as np
    >>> linear_forward(np.array([[1.0, 2.0]]), np.array([[1.0], [0.5]]), np.array([0.25]))[0]
    array([[2.25]])
    """
    validate.float_array("x", x, min_ndim=2)
    validate.float_array("weight", weight, min_ndim=2, dtype=x.dtype)
    if weight.ndim != 2 or weight.shape[0] != x.shape[-1]:
        raise ValueError(
            f"weight: expected shape ({x.shape[-1]}, F_out) for x of shape {x.shape}, received {weight.shape}; "
            "PyTorch's (F_out, F_in) needs a transpose"
        )
    if bias is not None:
        validate.float_array("bias", bias, dtype=x.dtype)
        validate.same_shape("bias", bias, weight.shape[1:], "the outputs")
    return linear.forward(x, weight, bias)


def linear_backward(dy, cache, need_dx=True):
    """dx = dy W^T;  dweight = x^T dy;  dbias = sum(dy), with the leading axes flattened.

    Returns (dx, dweight, dbias); dx is None if not needed, dbias is None without a bias. Raises as the forward.
    """
    validate.cache_of(cache, linear.LinearCache, "linear_forward")
    check_arrays(cache, {"x": np.shape(cache.x), "weight": (*np.shape(cache.x)[-1:], *np.shape(cache.weight)[1:])})
    validate.float_array("dy", dy, dtype=cache.x.dtype)
    validate.same_shape("dy", dy, (*cache.x.shape[:-1], cache.weight.shape[1]), "the forward's y")
    return linear.backward(dy, cache, validate.boolean("need_dx", need_dx))


def avg_pool_forward(x):
    """Mean of each 2x2 square: (..., H, W, C) to (..., H // 2, W // 2, C); an odd last row or column is left out.

    Raises ValueError or TypeError for less than 2 rows or columns, another dtype, values that are not finite.
    """
    _require_squares(x)
    return conv.pool_forward(x)


def _require_squares(x):
    validate.float_array("x", x, min_ndim=3)
    if min(x.shape[-3:-1]) < 2:
        raise ValueError(f"x: expected height and width of at least 2, received {x.shape[-3:-1]}; drop this pool")


def avg_pool_backward(dy, cache):
    """dx: a quarter of dy at each of the four places, 0 in a row or column that was left out."""
    validate.cache_of(cache, conv.PoolCache, "avg_pool_forward")
    _require_pooled("dy", dy, cache)
    return conv.pool_backward(dy, cache)


def _require_pooled(name, value, cache):
    *lead, H, W, C = cache.shape
    validate.float_array(name, value, dtype=cache.dtype)
    validate.same_shape(name, value, (*lead, H // 2, W // 2, C), "the forward's y")


def max_pool_forward(x):
    """Largest value of each 2x2 square; shapes and errors as for `avg_pool_forward`."""
    _require_squares(x)
    return conv.max_pool_forward(x)


def max_pool_backward(dy, cache):
    """dx: dy at the place of each maximum, the first in reading order where values are equal (as in PyTorch); 0 elsewhere."""
    validate.cache_of(cache, conv.MaxPoolCache, "max_pool_forward")
    _require_pooled("dy", dy, cache)
    return conv.max_pool_backward(dy, cache)


def global_avg_pool_forward(x):
    """Mean over height and width: (..., H, W, C) to (..., C). Errors as for `avg_pool_forward`."""
    validate.float_array("x", x, min_ndim=3)
    return conv.global_pool_forward(x)


def global_avg_pool_backward(dy, cache):
    """dx: dy / (H W) everywhere."""
    validate.cache_of(cache, conv.PoolCache, "global_avg_pool_forward")
    validate.float_array("dy", dy, dtype=cache.dtype)
    validate.same_shape("dy", dy, (*cache.shape[:-3], cache.shape[-1]), "the forward's y")
    return conv.global_pool_backward(dy, cache)


# --- losses -------------------------------------------------------------------------------------------------------------


def cross_entropy_forward(logits, labels, conventions=MPD_AGL):
    """Mean over samples of -log softmax(reduced logits)[label].

    Parameters
    ----------
    logits : ndarray (T, N, K), float32 or float64
    labels : integer array (N,), 0..K-1
    conventions : Conventions
        Reads `readout`.

    Returns
    -------
    loss : float
    cache : CrossEntropyCache

    Raises
    ------
    ValueError, TypeError
        For a wrong rank or dtype, values that are not finite, or labels outside the classes.

    Examples
    --------
    >>> import numpy as np
    >>> loss, _ = cross_entropy_forward(np.zeros((2, 1, 4)), np.array([3]))
    >>> round(loss, 6)  # log 4
    1.386294
    """
    validate.conventions(conventions)
    return loss.cross_entropy(logits, loss.check_logits(logits, labels, finite=True), conventions)


def cross_entropy_backward(cache):
    """dlogits (T, N, K): (softmax - onehot) / N at each t, over T for the mean, at the last t alone for the last."""
    validate.cache_of(cache, loss.CrossEntropyCache, "cross_entropy_forward")
    return loss.cross_entropy_gradient(cache)


def tet_forward(logits, labels, lam=1e-3, target=1.0):
    """(1 - lam) mean_t CE(logits_t, labels) + lam mean((logits - target)^2).

    Parameters
    ----------
    logits, labels
        As for `cross_entropy_forward`.
    lam : float
        Share of the regulariser, in [0, 1].
    target : float
        Where the regulariser pulls the logits.

    Returns loss (float) and TETCache; errors as for `cross_entropy_forward`.
    """
    labels = loss.check_logits(logits, labels, finite=True)
    lam, target = validate.number("lam", lam, low=0, high=1), validate.number("target", target, dtype=logits.dtype)
    return loss.tet(logits, labels, loss.Loss("tet", lam=lam, pull=target))


def tet_backward(cache):
    """dlogits (T, N, K) of `tet_forward`."""
    validate.cache_of(cache, loss.TETCache, "tet_forward")
    return cache.dlogits.copy()
