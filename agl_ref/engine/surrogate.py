"""Kernels of the surrogate family (S1 to S17): the derivative that stands in for the step's, and beside it its primitive.

With z = u - V_th and r = z / kappa every member is

    ds/du := height * shape(r),    height = 1/kappa (default), 1, or 1/(2 kappa)

with shape(0) = 1 and area kappa, so that all members take the same width kappa, have the same peak 1/kappa and
the area 1. The primitive S(r) rises from 0 to 1 and S'(r) = shape(r): with s = S instead of the step the network is
differentiable, and the backward pass is its exact gradient.

    name          shape(r)                     own sharpness                      S(r)
    rectangular   [|r| < 1/2]                  window width kappa                 clip(r + 1/2, 0, 1)
    triangular    max(0, 1 - |r|)              half base kappa                    parabolas that meet at 1/2
    sigmoid       4 sigma(4r) (1 - sigma(4r))  slope a = 4 / kappa                sigma(4 r)
    arctan        1 / (1 + (pi r)^2)           slope a = pi / kappa               1/2 + arctan(pi r) / pi
    gaussian      exp(-pi r^2)                 std deviation kappa / sqrt(2 pi)   (1 + erf(sqrt(pi) r)) / 2
    fast_sigmoid  1 / (1 + 2 |r|)^2            slope 2 / kappa (SuperSpike)       1/2 + r / (1 + 2 |r|)

Two more have no finite area, and an S without bounds: straight_through with the shape 1, and leaky_relu, rectangular with
1/50 outside the window.

A width kappa <= 0 closes the window: the derivative is exactly 0.
"""

import math
from typing import NamedTuple

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

from .jit import inner

FAMILY = ("rectangular", "triangular", "sigmoid", "arctan", "gaussian", "fast_sigmoid")
NAMES = (*FAMILY, "straight_through", "leaky_relu")
RECTANGULAR, TRIANGULAR, SIGMOID, ARCTAN, GAUSSIAN, FAST_SIGMOID, STRAIGHT_THROUGH, LEAKY_RELU = range(8)


class Window(NamedTuple):
    """The surrogate of a layer: kappa and height (T,) in the arrays' dtype, the number of its shape, and two conventions."""

    kappa: np.ndarray
    height: np.ndarray
    code: int
    closed: bool  # whether the window's edge belongs to it
    flows: bool  # whether a gradient flows through kappa


def window_of(width, conventions, surrogate):
    """The `Window` of kappa_t (T,)."""
    closed, flows = conventions.window_edge == "<=", conventions.width_gradient == "flows"
    return Window(width, heights(width, conventions), code_of(surrogate), closed, flows)


def heights(width, conventions=MPD_AGL):
    """The surrogate's value at the threshold for each kappa in `width`, same shape and dtype; 0 where kappa <= 0."""
    zero, one = width.dtype.type(0), width.dtype.type(1)
    is_open = width > 0
    if conventions.surrogate_scale == "1":
        return np.where(is_open, one, zero)
    safe = np.where(is_open, width, one)
    return np.where(is_open, one / (safe if conventions.surrogate_scale == "1/kappa" else safe + safe), zero)  # (S1)


@inner
def derivative_row(u, v_th, kappa, height, code, closed, h):
    """h_i = height * shape((u_i - V_th) / kappa) for one row of neurons.

    The smooth members are computed in float64 and rounded once.
    """
    zero = u.dtype.type(0)
    outside = height / u.dtype.type(50) if code == LEAKY_RELU else zero
    if not kappa > zero:
        h[:] = zero
    elif (code == RECTANGULAR or code == LEAKY_RELU) and closed:
        for i in range(u.size):
            h[i] = height if abs(u[i] - v_th) <= kappa / u.dtype.type(2) else outside
    elif code == RECTANGULAR or code == LEAKY_RELU:
        for i in range(u.size):
            h[i] = height if abs(u[i] - v_th) < kappa / u.dtype.type(2) else outside  # (S2) (S14)
    elif code == TRIANGULAR:
        for i in range(u.size):
            h[i] = height * max(zero, u.dtype.type(1) - abs(u[i] - v_th) / kappa)  # (S3)
    elif code == SIGMOID:
        for i in range(u.size):
            e = math.exp(-4.0 * abs(np.float64(u[i] - v_th) / np.float64(kappa)))
            h[i] = np.float64(height) * (4.0 * e / ((1.0 + e) * (1.0 + e)))  # (S4)
    elif code == ARCTAN:
        for i in range(u.size):
            r = math.pi * (np.float64(u[i] - v_th) / np.float64(kappa))
            h[i] = np.float64(height) / (1.0 + r * r)  # (S5)
    elif code == GAUSSIAN:
        for i in range(u.size):
            r = np.float64(u[i] - v_th) / np.float64(kappa)
            h[i] = np.float64(height) * math.exp(-math.pi * r * r)  # (S6)
    elif code == FAST_SIGMOID:
        for i in range(u.size):
            a = 1.0 + 2.0 * abs(np.float64(u[i] - v_th) / np.float64(kappa))
            h[i] = np.float64(height) / (a * a)  # (S12)
    else:
        h[:] = height  # (S13)


@inner
def primitive_row(u, v_th, kappa, height, code, s):
    """s_i = height * kappa * S((u_i - V_th) / kappa) for one row of neurons; kappa > 0."""
    step = np.float64(height) * np.float64(kappa)
    for i in range(u.size):
        r = np.float64(u[i] - v_th) / np.float64(kappa)
        if code == RECTANGULAR:
            p = min(max(r + 0.5, 0.0), 1.0)  # (S7)
        elif code == TRIANGULAR:
            tail = max(0.0, 1.0 - abs(r))
            p = 0.5 * tail * tail if r < 0.0 else 1.0 - 0.5 * tail * tail  # (S8)
        elif code == SIGMOID:
            e = math.exp(-4.0 * abs(r))
            p = e / (1.0 + e) if r < 0.0 else 1.0 / (1.0 + e)  # (S9)
        elif code == ARCTAN:
            p = 0.5 + math.atan(math.pi * r) / math.pi  # (S10)
        elif code == GAUSSIAN:
            p = 0.5 * (1.0 + math.erf(math.sqrt(math.pi) * r))  # (S11)
        elif code == FAST_SIGMOID:
            p = 0.5 + r / (1.0 + 2.0 * abs(r))  # (S15)
        elif code == STRAIGHT_THROUGH:
            p = 0.5 + r  # (S16)
        else:
            p = min(max(r + 0.5, 0.0), 1.0) + (r - min(max(r, -0.5), 0.5)) / 50.0  # (S17)
        s[i] = step * p


def code_of(name):
    """The number by which the kernels know a member of the family."""
    return NAMES.index(validate.one_of("surrogate", name, NAMES))
