"""Notebook 2, why a surrogate: two windows, the smooth step behind one, and a backward step through a spike."""

import numpy as np

from .definition import Edge, exercise
from .drawing import until, window


def _width(rng, low=0.6, high=2.4):
    """A window's width that is not near 1, where kappa and 1/kappa look alike."""
    return until(lambda k: abs(k - 1) > 0.2, lambda: (round(float(rng.uniform(low, high)), 3),))[0]


def _draw_window(rng):
    for N in (12, 16):
        yield until(lambda z, k: window(z, 0, k) and (z[np.abs(z) < k / 2] < 0).any() and (z[np.abs(z) < k / 2] > 0).any(),
                    lambda N=N: (rng.normal(0, 1.2, N), _width(rng)))  # fmt: skip
    yield Edge("z exactly at the window's edges, width/2 from 0", (np.array([-0.5, 0.5, 0.0, 0.25, 0.75]), 1.0))
    yield Edge("one number in an array", (np.array([0.25]), 2.0))


def _box(z, width, half=0.5, height=1.0, closed=False):
    """The rectangular window with parts exchanged."""
    inside = np.abs(z) <= half * width if closed else np.abs(z) < half * width
    return height / width * inside


_WHERE = {
    "where |z| < width/2": lambda z, width: np.abs(z) < width / 2,
    "where |z| > width": lambda z, width: np.abs(z) > width,
    "where |z| > width/2": lambda z, width: np.abs(z) > width / 2,
    "where z < 0": lambda z, width: z < 0,
    "where z > 0": lambda z, width: z > 0,
}

_BOXES = {
    "the window reaches kappa to each side; it is kappa wide, so kappa/2 to each side": {"half": 1.0},
    "the edge belongs to the window, <= and not <": {"closed": True},
    "the window reaches kappa/4 to each side; it is kappa wide, so kappa/2": {"half": 0.25},
}


@exercise(points=2, draw=_draw_window, outputs="derivative", places=_WHERE, mistakes={
    **{text: lambda z, width, o=options: _box(z, width, **o) for text, options in _BOXES.items()},
    "the height is 1, and 1/kappa is missing: the area under the window should be 1":
        lambda z, width: 1.0 * (np.abs(z) < width / 2),
    "the height is kappa and not 1/kappa": lambda z, width: width * (np.abs(z) < width / 2),
    "the height is 1/(2 kappa)": lambda z, width: _box(z, width, height=0.5),
    "the window reaches kappa to each side and 1/kappa is missing": lambda z, width: 1.0 * (np.abs(z) < width),
    "z is tested without its absolute value": lambda z, width: 1.0 / width * (z < width / 2),
    "only potentials above the threshold get a derivative": lambda z, width: 1.0 / width * ((z >= 0) & (z < width / 2)),
    "the spike comes out and not its derivative": lambda z, width: 1.0 * (z >= 0),
})  # fmt: skip
def rectangular(z, width):
    """(1/kappa) [|z| < kappa/2]."""
    return _box(z, width)


@exercise(points=2, draw=_draw_window, outputs="derivative", places=_WHERE, mistakes={
    "1/kappa is missing: the area under the triangle should be 1": lambda z, k: np.maximum(0, 1 - np.abs(z) / k),
    "the base is kappa wide; kappa is half the base, from the peak to each foot":
        lambda z, k: 2 / k * np.maximum(0, 1 - 2 * np.abs(z) / k),
    "the feet are at kappa/2 and not at kappa": lambda z, k: 1 / k * np.maximum(0, 1 - 2 * np.abs(z) / k),
    "the triangle is not cut off at 0: outside the window it goes negative": lambda z, k: (1 - np.abs(z) / k) / k,
    "z enters without its absolute value": lambda z, k: np.maximum(0, 1 - z / k) / k,
    "|z| is not divided by kappa": lambda z, k: np.maximum(0, 1 - np.abs(z)) / k,
    "the window is the rectangular one": lambda z, k: _box(z, k),
    "the slope is forgotten: the value inside the window is flat": lambda z, k: (np.abs(z) < k) / k,
})  # fmt: skip
def triangular(z, width):
    """(1/kappa) max(0, 1 - |z|/kappa)."""
    return np.maximum(0, 1 - np.abs(z) / width) / width


@exercise(points=2, draw=_draw_window, outputs="S", places=_WHERE, mistakes={
    "it is not held between 0 and 1": lambda z, k: z / k + 0.5,
    "1/2 is missing: at the threshold the step is half way up": lambda z, k: np.clip(z / k, 0, 1),
    "the slope is 1/(2 kappa) and not 1/kappa": lambda z, k: np.clip(z / (2 * k) + 0.5, 0, 1),
    "the slope is 2/kappa and not 1/kappa": lambda z, k: np.clip(2 * z / k + 0.5, 0, 1),
    "z is multiplied by kappa and not divided by it": lambda z, k: np.clip(z * k + 0.5, 0, 1),
    "kappa is missing": lambda z, k: np.clip(z + 0.5, 0, 1),
    "it is the hard step": lambda z, k: 1.0 * (z >= 0),
    "it is held between -1 and 1": lambda z, k: np.clip(z / k + 0.5, -1, 1),
    "it is the derivative and not the smooth step": lambda z, k: _box(z, k),
})  # fmt: skip
def relaxed_spike(z, width):
    """S(z) = clip(z/kappa + 1/2, 0, 1)."""
    return np.clip(z / width + 0.5, 0, 1)


def _draw_one_step(rng):
    def make(N):
        v_th = round(float(rng.uniform(0.6, 1.4)), 3)
        return rng.normal(0, 1, N), rng.normal(v_th, 1.2, N), v_th, _width(rng)

    def good(ds, u, v_th, k):
        inside = np.abs(u - v_th) < k / 2
        return window(u, v_th, k) and (u[inside] < v_th).any() and (u[inside] > v_th).any()

    for N in (12, 16):
        yield until(good, lambda N=N: make(N))
    yield Edge(
        "a potential exactly at the window's edge", (np.array([1.0, 2.0, -1.0]), np.array([0.0, 1.0, 0.5]), 0.5, 1.0)
    )
    yield Edge("one neuron", (np.array([3.0]), np.array([0.75]), 0.5, 2.0))


@exercise(points=2, draw=_draw_one_step, outputs="du", places={
    "inside the window": lambda ds, u, v_th, width: np.abs(u - v_th) < width / 2,
    "outside the window": lambda ds, u, v_th, width: np.abs(u - v_th) > width / 2,
    "where the neuron fires": lambda ds, u, v_th, width: u >= v_th,
}, mistakes={
    **{text: lambda ds, u, v_th, width, o=options: ds * _box(u - v_th, width, **o) for text, options in _BOXES.items()},
    "V_th is forgotten: the window sits around 0 and not around the threshold": lambda ds, u, v_th, k: ds * _box(u, k),
    "the window sits around -V_th": lambda ds, u, v_th, k: ds * _box(u + v_th, k),
    "1/kappa is missing": lambda ds, u, v_th, k: ds * (np.abs(u - v_th) < k / 2),
    "ds is forgotten: the chain rule multiplies it with the derivative": lambda ds, u, v_th, k: _box(u - v_th, k),
    "ds goes through as it is, without the surrogate's derivative": lambda ds, u, v_th, k: ds + 0,
    "ds is multiplied by the spike and not by the surrogate's derivative": lambda ds, u, v_th, k: ds * (u >= v_th),
    "the true derivative of the step is used, which is 0": lambda ds, u, v_th, k: 0 * ds,
    "only neurons that fired get a gradient": lambda ds, u, v_th, k: ds * _box(u - v_th, k) * (u >= v_th),
    "the window is the triangular one": lambda ds, u, v_th, k: ds * np.maximum(0, 1 - np.abs(u - v_th) / k) / k,
})  # fmt: skip
def one_step_backward(ds, u, v_th, width):
    """du = ds (1/kappa) [|u - V_th| < kappa/2]."""
    return ds * _box(u - v_th, width)
