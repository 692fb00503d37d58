"""The surrogate family: the derivative that stands in for the step's, and beside each its primitive.

With z = u - V_th and r = z / kappa every member is

    ds/du := height * shape(r),    height = 1/kappa (default), 1, or 1/(2 kappa)

with shape(0) = 1 and area kappa, so that all members take the same width kappa, have the same peak 1/kappa and
the area 1. The primitive S(r) rises from 0 to 1 and S'(r) = shape(r): with s = S in place of the step the network
is differentiable, and the backward pass is its exact gradient.

    name          shape(r)                     own sharpness                      S(r)
    rectangular   [|r| < 1/2]                  window width kappa                 clip(r + 1/2, 0, 1)
    triangular    max(0, 1 - |r|)              half base kappa                    parabolas that meet at 1/2
    sigmoid       4 sigma(4r) (1 - sigma(4r))  slope a = 4 / kappa                sigma(4 r)
    arctan        1 / (1 + (pi r)^2)           slope a = pi / kappa               1/2 + arctan(pi r) / pi
    gaussian      exp(-pi r^2)                 std deviation kappa / sqrt(2 pi)   (1 + erf(sqrt(pi) r)) / 2

A width kappa <= 0 closes the window: the derivative is exactly 0.
"""

import math

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

from .jit import inner

NAMES = ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")
RECTANGULAR, TRIANGULAR, SIGMOID, ARCTAN, GAUSSIAN = range(5)


def heights(width, conventions=MPD_AGL):
    """The surrogate's value at the threshold for each kappa in `width`, same shape and dtype; 0 where kappa <= 0."""
    one = width.dtype.type(1)
    is_open = width > 0
    safe = np.where(is_open, width, one)
    by_scale = {"1/kappa": one / safe, "1": np.ones_like(safe), "1/(2 kappa)": one / (safe + safe)}
    return np.where(is_open, by_scale[conventions.surrogate_scale], width.dtype.type(0))


@inner
def derivative_row(u, v_th, kappa, height, code, closed, h):
    """h_i = height * shape((u_i - V_th) / kappa) for one row of neurons.

    The smooth members are computed in float64 and rounded once, so that plain Python gives the same bits.
    """
    zero = u.dtype.type(0)
    if not kappa > zero:
        h[:] = zero
    elif code == RECTANGULAR and closed:
        for i in range(u.size):
            h[i] = height if abs(u[i] - v_th) <= kappa / u.dtype.type(2) else zero
    elif code == RECTANGULAR:
        for i in range(u.size):
            h[i] = height if abs(u[i] - v_th) < kappa / u.dtype.type(2) else zero
    elif code == TRIANGULAR:
        for i in range(u.size):
            h[i] = height * max(zero, u.dtype.type(1) - abs(u[i] - v_th) / kappa)
    elif code == SIGMOID:
        for i in range(u.size):
            e = math.exp(-4.0 * abs(np.float64(u[i] - v_th) / np.float64(kappa)))
            h[i] = np.float64(height) * (4.0 * e / ((1.0 + e) * (1.0 + e)))
    elif code == ARCTAN:
        for i in range(u.size):
            r = math.pi * (np.float64(u[i] - v_th) / np.float64(kappa))
            h[i] = np.float64(height) / (1.0 + r * r)
    else:
        for i in range(u.size):
            r = np.float64(u[i] - v_th) / np.float64(kappa)
            h[i] = np.float64(height) * math.exp(-math.pi * r * r)


@inner
def primitive_row(u, v_th, kappa, height, code, s):
    """s_i = height * kappa * S((u_i - V_th) / kappa) for one row of neurons; kappa > 0."""
    step = np.float64(height) * np.float64(kappa)
    for i in range(u.size):
        r = np.float64(u[i] - v_th) / np.float64(kappa)
        if code == RECTANGULAR:
            p = min(max(r + 0.5, 0.0), 1.0)
        elif code == TRIANGULAR:
            tail = max(0.0, 1.0 - abs(r))
            p = 0.5 * tail * tail if r < 0.0 else 1.0 - 0.5 * tail * tail
        elif code == SIGMOID:
            e = math.exp(-4.0 * abs(r))
            p = e / (1.0 + e) if r < 0.0 else 1.0 / (1.0 + e)
        elif code == ARCTAN:
            p = 0.5 + math.atan(math.pi * r) / math.pi
        else:
            p = 0.5 * (1.0 + math.erf(math.sqrt(math.pi) * r))
        s[i] = step * p


def code_of(name):
    """The number by which the kernels know a member of the family."""
    return NAMES.index(validate.one_of("surrogate", name, NAMES))


def _prepare(z, width, name, conventions):
    validate.float_array("z", z, min_ndim=0)
    validate.conventions(conventions)
    width = z.dtype.type(validate.number("width", width, low=0))
    return np.ascontiguousarray(z).reshape(-1), width, heights(np.array(width), conventions)[()], code_of(name)


def derivative(z, width, name="rectangular", conventions=MPD_AGL):
    """The surrogate derivative ds/du at z = u - V_th.

    Parameters
    ----------
    z : ndarray, float32 or float64, any shape
        Distance of the membrane potential from the threshold.
    width : float
        kappa >= 0; 0 closes the window.
    name : {"rectangular", "triangular", "sigmoid", "arctan", "gaussian"}
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
    flat, kappa, height, code = _prepare(z, width, name, conventions)
    h = np.empty_like(flat)
    derivative_row(flat, z.dtype.type(0), kappa, height, code, conventions.window_edge == "<=", h)
    return h.reshape(z.shape)


def primitive(z, width, name="rectangular", conventions=MPD_AGL):
    """The smooth step S(z) whose derivative `derivative` is (times the surrogate scale), of z's shape.

    Parameters, errors as for `derivative`; the width must be above 0.
    """
    validate.number("width", width, low=0, low_open=True)
    flat, kappa, height, code = _prepare(z, width, name, conventions)
    s = np.empty_like(flat)
    primitive_row(flat, z.dtype.type(0), kappa, height, code, s)
    return s.reshape(z.shape)
