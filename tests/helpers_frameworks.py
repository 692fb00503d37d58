"""What the cross-checks against other frameworks share: telling inputs, and one neuron layer on both sides.

Time is the first axis on both sides and a neuron layer acts element by element, so that no axis has to be moved.
"""

from typing import NamedTuple

import helpers
import numpy as np

import agl_ref as agl

T, N, F = 6, 5, 24


class Layer(NamedTuple):
    """One layer's numbers on our side."""

    s: np.ndarray
    u: np.ndarray
    dx: np.ndarray
    ddecay: float


def inputs(seed, decay, c, v_th, dyadic=False, dtype=np.float64):
    """(x, ds) of shape (T, N, F). Dyadic ones lie on a grid so coarse that neurons meet the threshold exactly."""
    rng = np.random.default_rng(seed)
    gain = 1.0 if c.input_scale == "1" else 1 - decay
    if dyadic:
        x = helpers.dyadic(rng, (T, N, F), -1, 2, 4) * v_th / gain
        ds = helpers.dyadic(rng, (T, N, F), -2, 2, 4)
    else:
        x = rng.normal(0.5 * v_th, 1.2 * v_th, (T, N, F)) / gain
        ds = rng.normal(size=(T, N, F))
    return x.astype(dtype), ds.astype(dtype)


def ours(x, ds, decay, v_th, c, surrogate="rectangular"):
    """The layer under conventions c, whose fixed width it uses."""
    width = agl.fixed_width(c.fixed_width, len(x), x.dtype)
    s, cache = agl.lif_forward(x, decay, v_th, c, surrogate)
    dx, ddecay = agl.lif_backward(ds, cache, width)
    return Layer(s, cache.u, dx, float(ddecay))


def assert_is_telling(layer, v_th, kappa, dyadic=False):
    """Neurons fire, rest, go on after a spike, lie in and outside the window; if dyadic, on its edge and on V_th."""
    helpers.assert_case_is_telling(layer.u, np.full(len(layer.u), kappa), v_th)
    later = np.cumsum(layer.s[::-1], axis=0)[::-1][1:] > 0
    assert ((layer.s[:-1] > 0) & later).any(), "no neuron fires twice"
    z = np.abs(layer.u - v_th)
    if dyadic:
        assert (z == 0).any(), "no neuron exactly on the threshold"
        assert (z == kappa / 2).any(), "no neuron exactly on the window's edge"
    else:
        assert z.min() > 1e-9, "a spike hangs on rounding"


def assert_agrees(received, expected, tolerance, name):
    """Within `tolerance` of the largest expected value, which is not zero; bit by bit if the tolerance is 0."""
    received, expected = np.asarray(received, np.float64), np.asarray(expected, np.float64)
    assert received.shape == expected.shape, f"{name}: {received.shape}, expected {expected.shape}"
    largest = np.abs(expected).max()
    assert largest > 0, f"{name}: nothing to compare, all zero"
    error = np.abs(received - expected).max() / largest
    assert error <= tolerance, f"{name}: off by {error:.3g} of the largest value, allowed {tolerance}"
    return error


def differs(layer, other):
    """Whether two layers differ in a spike, or in a gradient by more than any rounding."""
    return not np.array_equal(layer.s, other.s) or np.abs(layer.dx - other.dx).max() > 1e-3 * np.abs(layer.dx).max()
