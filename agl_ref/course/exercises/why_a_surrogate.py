"""Notebook 2, why a surrogate: two windows, the smooth step behind one, and a backward step through a spike."""

import numpy as np

from .definition import Edge, exercise
from .fresh_inputs import number, on_all_sides, until


def _width(rng, low=0.6, high=2.4):
    """A window's width that is not near 1, where kappa and 1/kappa look alike."""
    return until(lambda k: abs(k - 1) > 0.2, lambda: (number(rng, low, high),))[0]


def _both_sides(z, k):
    """Whether z is on all sides of the window, and inside it on both sides of 0."""
    inside = np.abs(z) < k / 2
    return on_all_sides(z, 0, k) and (z[inside] < 0).any() and (z[inside] > 0).any()


def _draw_window(rng):
    for N in (12, 16):
        yield until(_both_sides, lambda N=N: (rng.normal(0, 1.2, N), _width(rng)))
    yield Edge("z exactly at the window's edges, width/2 from 0", (np.array([-0.5, 0.5, 0.0, 0.25, 0.75]), 1.0))
    yield Edge("one number in an array", (np.array([0.25]), 2.0))


_WHERE = {
    "where |z| < width/2": lambda z, width: np.abs(z) < width / 2,
    "where |z| > width": lambda z, width: np.abs(z) > width,
    "where |z| > width/2": lambda z, width: np.abs(z) > width / 2,
    "where z < 0": lambda z, width: z < 0,
    "where z > 0": lambda z, width: z > 0,
}

_WINDOWS = {
    "the window reaches kappa to each side; it is kappa wide, so kappa/2 to each side": {"half": 1.0},
    "the edge belongs to the window, <= and not <": {"inside": np.less_equal},
    "the window reaches kappa/4 to each side; it is kappa wide, so kappa/2": {"half": 0.25},
}


@exercise(points=2, draw=_draw_window, outputs="derivative", places=_WHERE, mistakes={
    **_WINDOWS,
    "the height is 1, and 1/kappa is missing: the area under the window should be 1": {"height": lambda k: 1.0},
    "the height is kappa and not 1/kappa": {"height": lambda k: k},
    "the height is 1/(2 kappa)": {"height": lambda k: 0.5 / k},
    "the window reaches kappa to each side and 1/kappa is missing": {"half": 1.0, "height": lambda k: 1.0},
    "z is tested without its absolute value": {"distance": lambda z: z},
    "only potentials above the threshold get a derivative": lambda z, width: rectangular(z, width) * (z >= 0),
    "the spike comes out and not its derivative": lambda z, width: 1.0 * (z >= 0),
}, hints=(
    "Which z are inside? The window is `width` wide in all, so it reaches half of that to each side.",
    "Inside is where |z| is smaller than half the width. A boolean counts as 0 or 1 in a product or a quotient.",
    "Divide the comparison by the width, so that the area is 1.",
))  # fmt: skip
def rectangular(z, width, *, half=0.5, inside=np.less, height=lambda k: 1 / k, distance=np.abs):
    """S2: (1/kappa) [|z| < kappa/2]."""
    return height(width) * inside(distance(z), half * width)


@exercise(points=2, draw=_draw_window, outputs="derivative", places=_WHERE, mistakes={
    "1/kappa is missing: the area under the triangle should be 1": lambda z, k: np.maximum(0, 1 - np.abs(z) / k),
    "the base is kappa wide; kappa is half the base, from the peak to each foot": lambda z, k: triangular(z, k / 2),
    "the feet are at kappa/2 and not at kappa": lambda z, k: triangular(z, k / 2) / 2,
    "the triangle is not cut off at 0: outside the window it goes negative": lambda z, k: (1 - np.abs(z) / k) / k,
    "z enters without its absolute value": lambda z, k: np.maximum(0, 1 - z / k) / k,
    "|z| is not divided by kappa": lambda z, k: np.maximum(0, 1 - np.abs(z)) / k,
    "the window is the rectangular one": rectangular,
    "the slope is forgotten: the value inside the window is flat": lambda z, k: (np.abs(z) < k) / k,
}, hints=(
    "Take the table's formula with r = z / width, and divide by the width at the end.",
    "What would be negative is 0: np.maximum.",
    "The larger of 0 and 1 - |r|, divided by the width.",
))  # fmt: skip
def triangular(z, width):
    """S3: (1/kappa) max(0, 1 - |z|/kappa)."""
    return np.maximum(0, 1 - np.abs(z) / width) / width


@exercise(points=2, draw=_draw_window, outputs="S", places=_WHERE, mistakes={
    "it is not held between 0 and 1": lambda z, k: z / k + 0.5,
    "1/2 is missing: at the threshold the step is half way up": lambda z, k: np.clip(z / k, 0, 1),
    "the slope is 1/(2 kappa) and not 1/kappa": lambda z, k: relaxed_spike(z, 2 * k),
    "the slope is 2/kappa and not 1/kappa": lambda z, k: relaxed_spike(z, k / 2),
    "z is multiplied by kappa and not divided by it": lambda z, k: relaxed_spike(z, 1 / k),
    "kappa is missing": lambda z, k: relaxed_spike(z, 1),
    "it is the hard step": lambda z, k: 1.0 * (z >= 0),
    "it is held between -1 and 1": lambda z, k: np.clip(z / k + 0.5, -1, 1),
    "it is the derivative and not the smooth step": rectangular,
    **{f"it is the logistic curve of {of}: S is a straight line over the window":
       lambda z, k, scale=scale: 1 / (1 + np.exp(-scale(k) * z))
       for of, scale in (("z/kappa", lambda k: 1 / k), ("4 z/kappa", lambda k: 4 / k), ("z", lambda k: 1))},
}, hints=(
    "A straight line from 0 to 1 over the window, and constant outside of it.",
    "The line has the slope 1 / width, and at z = 0 it is 1/2.",
    "np.clip holds that line between 0 and 1.",
))  # fmt: skip
def relaxed_spike(z, width):
    """S7: S(z) = clip(z/kappa + 1/2, 0, 1)."""
    return np.clip(z / width + 0.5, 0, 1)


def _draw_one_step(rng):
    def make(N):
        v_th = number(rng, 0.6, 1.4)
        return rng.normal(0, 1, N), rng.normal(v_th, 1.2, N), v_th, _width(rng)

    for N in (12, 16):
        yield until(lambda ds, u, v_th, k: _both_sides(u - v_th, k), make, N)
    yield Edge(
        "a potential exactly at the window's edge", (np.array([1.0, 2.0, -1.0]), np.array([0.0, 1.0, 0.5]), 0.5, 1.0)
    )
    yield Edge("one neuron", (np.array([3.0]), np.array([0.75]), 0.5, 2.0))


@exercise(points=2, draw=_draw_one_step, outputs="du", places={
    "inside the window": lambda ds, u, v_th, width: np.abs(u - v_th) < width / 2,
    "outside the window": lambda ds, u, v_th, width: np.abs(u - v_th) > width / 2,
    "where the neuron fires": lambda ds, u, v_th, width: u >= v_th,
}, mistakes={
    **_WINDOWS,
    "V_th is forgotten: the window sits around 0 and not around the threshold":
        lambda ds, u, v_th, k: one_step_backward(ds, u, 0, k),
    "the window sits around -V_th": lambda ds, u, v_th, k: one_step_backward(ds, u, -v_th, k),
    "1/kappa is missing": {"height": lambda k: 1.0},
    "ds is forgotten: the chain rule multiplies it with the derivative": lambda ds, u, v_th, k: rectangular(u - v_th, k),
    "ds goes through as it is, without the surrogate's derivative": lambda ds, u, v_th, k: ds + 0,
    "ds is multiplied by the spike and not by the surrogate's derivative": lambda ds, u, v_th, k: ds * (u >= v_th),
    "the true derivative of the step is used, which is 0": lambda ds, u, v_th, k: 0 * ds,
    "only neurons that fired get a gradient": lambda ds, u, v_th, k: one_step_backward(ds, u, v_th, k) * (u >= v_th),
    "the window is the triangular one": lambda ds, u, v_th, k: ds * triangular(u - v_th, k),
}, hints=(
    "The chain rule: du is ds times ds/du. What stands in the place of ds/du?",
    "Your rectangular, at z = u - v_th.",
    "Return ds times rectangular(...), whose first argument is the potential minus the threshold.",
))  # fmt: skip
def one_step_backward(ds, u, v_th, width, **parts):
    """B1 and B2 at T = 1: du = ds (1/kappa) [|u - V_th| < kappa/2]."""
    return ds * rectangular(u - v_th, width, **parts)
