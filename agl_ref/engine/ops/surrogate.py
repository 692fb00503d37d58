"""The surrogate's derivative and its primitive, validated. The family is in `agl_ref.engine.surrogate`."""

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL
from agl_ref.engine.surrogate import code_of, derivative_row, heights, primitive_row


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
