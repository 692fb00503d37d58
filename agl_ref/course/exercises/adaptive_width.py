"""Notebook 5, the adaptive width: the rule, the share of neurons inside a window, the window for a share."""

import math

import numpy as np
from scipy.optimize import brentq

from .definition import Edge, exercise
from .drawing import until


def _number(rng, low, high):
    return round(float(rng.uniform(low, high)), 3)


def _draw_width(rng):
    for T, C in ((4, 3), (5, 4)):
        gamma = rng.uniform(0.6, 2.5, C)
        gamma[-1] = -rng.uniform(0.1, 0.4)  # a channel's gamma may be negative
        yield gamma, _number(rng, 0.6, 0.9), _number(rng, 0.4, 0.9), T
    yield Edge("T = 1", (rng.uniform(0.5, 2, 3), 0.5, 0.5, 1))
    yield Edge("decay = 0", (rng.uniform(0.5, 2, 3), 0.5, 0.0, 3))
    yield Edge("one channel", (np.array([1.5]), 0.5, 0.75, 2))


def _rule(gamma, v_th, decay, T, spread):
    """2 mean(gamma) V_th times spread(decay, t), t = 1..T."""
    return np.array([2 * gamma.mean() * v_th * spread(decay, t) for t in range(1, T + 1)])


def _later(decay, t):
    return math.sqrt(1 + decay**2)


def _paper(decay, t):
    return 1.0 if t == 1 else _later(decay, t)


def _spread(spread):
    return lambda gamma, v_th, decay, T: _rule(gamma, v_th, decay, T, spread)


@exercise(points=2, draw=_draw_width, outputs="kappa", time="kappa", mistakes={
    "sqrt(1 + tau^2) is there at t = 1 too": _spread(_later),
    "kappa_1 is used at every t": _spread(lambda decay, t: 1.0),
    "the whole sum 1 + tau^2 + tau^4 + ... is taken; Theorem 1 stops after tau^2":
        _spread(lambda decay, t: math.sqrt(sum(decay ** (2 * j) for j in range(t)))),
    "tau is not squared: sqrt(1 + tau)": _spread(lambda decay, t: 1.0 if t == 1 else math.sqrt(1 + decay)),
    "the square root is missing: 1 + tau^2": _spread(lambda decay, t: 1.0 if t == 1 else 1 + decay**2),
    "the first timestep has the wider window and the later ones the narrow one":
        _spread(lambda decay, t: _later(decay, t) if t == 1 else 1.0),
    "gamma is summed over the channels and not averaged": lambda gamma, *a: len(gamma) * _rule(gamma, *a, _paper),
    "only the first channel's gamma is used: it is the mean over channels":
        lambda gamma, *a: _rule(gamma[:1], *a, _paper),
    "the largest gamma is used: it is the mean over channels":
        lambda gamma, *a: _rule(gamma.max(keepdims=True), *a, _paper),
    "the magnitudes of gamma are averaged: it is the mean of gamma itself, with its signs":
        lambda gamma, *a: _rule(np.abs(gamma), *a, _paper),
    "V_th is forgotten": lambda gamma, v_th, decay, T: _rule(gamma, 1.0, decay, T, _paper),
    "the factor 2 is missing: one standard deviation to EACH side": lambda *a: _rule(*a, _paper) / 2,
})  # fmt: skip
def adaptive_width(gamma, v_th, decay, T):
    """kappa_1 = 2 gamma_bar V_th; kappa_t = 2 sqrt(1 + tau^2) gamma_bar V_th for t > 1."""
    return _rule(gamma, v_th, decay, T, _paper)


def _phi(z):
    """The standard normal distribution function."""
    return math.erfc(-z / math.sqrt(2)) / 2


def _between(mu, std, low, high):
    return _phi((high - mu) / std) - _phi((low - mu) / std)


def _draw_coverage(rng):
    for sign in (-1, 1):
        v_th = _number(rng, 0.6, 1.0)
        yield sign * _number(rng, 0.2, 0.5), _number(rng, 0.5, 0.8), v_th, _number(rng, 1.2, 2.0)
    yield Edge("mu = V_th", (0.5, 0.75, 0.5, 1.0))
    yield Edge("a very wide window", (0.25, 0.5, 0.5, 40.0))


@exercise(points=2, draw=_draw_coverage, outputs="share", mistakes={
    "the window reaches kappa to each side and not kappa/2":
        lambda mu, std, v_th, k: _between(mu, std, v_th - k, v_th + k),
    "V_th is forgotten: the window sits around 0": lambda mu, std, v_th, k: _between(mu, std, -k / 2, k / 2),
    "mu is forgotten: the potential is centred at 0":
        lambda mu, std, v_th, k: _between(0, std, v_th - k / 2, v_th + k / 2),
    "the window sits around mu and not around V_th": lambda mu, std, v_th, k: _between(mu, std, mu - k / 2, mu + k / 2),
    "the distances are not divided by std": lambda mu, std, v_th, k: _between(mu, 1.0, v_th - k / 2, v_th + k / 2),
    "the variance stands where the standard deviation belongs":
        lambda mu, std, v_th, k: _between(mu, std**2, v_th - k / 2, v_th + k / 2),
    "the square root of 2 is missing from erf's argument":
        lambda mu, std, v_th, k: _between(mu, std / math.sqrt(2), v_th - k / 2, v_th + k / 2),
    "only the half of the window above the threshold is counted":
        lambda mu, std, v_th, k: _between(mu, std, v_th, v_th + k / 2),
    "only the half of the window below the threshold is counted":
        lambda mu, std, v_th, k: _between(mu, std, v_th - k / 2, v_th),
    "everything below the window's upper edge is counted": lambda mu, std, v_th, k: _phi((v_th + k / 2 - mu) / std),
    "the density times the width is taken; it is the area under the density":
        lambda mu, std, v_th, k: k * math.exp(-(((v_th - mu) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi)),
    "the share outside the window is counted": lambda mu, std, v_th, k: 1 - _between(mu, std, v_th - k / 2, v_th + k / 2),
})  # fmt: skip
def coverage(mu, std, v_th, width):
    """Phi((V_th + kappa/2 - mu)/std) - Phi((V_th - kappa/2 - mu)/std)."""
    return _between(mu, std, v_th - width / 2, v_th + width / 2)


def _draw_share(rng):
    def off_centre(mu, std, v_th, share):
        return abs(_centred(mu, std, v_th, share) / _solve(mu, std, v_th, share) - 1) > 0.05

    for sign in (-1, 1):
        yield until(off_centre,
                    lambda sign=sign: (sign * _number(rng, 0.2, 0.5), _number(rng, 0.5, 0.8), _number(rng, 0.9, 1.4),
                                       _number(rng, 0.3, 0.8)))  # fmt: skip
    yield Edge("mu = V_th", (0.5, 0.75, 0.5, 0.5))
    yield Edge("a share near 1", (0.25, 0.5, 0.5, 0.999))


def _solve(mu, std, v_th, share):
    upper = 2 * (abs(v_th - mu) + 40 * std)  # beyond it, double precision leaves nothing outside the window
    return brentq(lambda k: _between(mu, std, v_th - k / 2, v_th + k / 2) - share, 0.0, upper, xtol=1e-13, rtol=1e-13)


def _centred(mu, std, v_th, share):
    return _solve(v_th, std, v_th, share)


@exercise(points=3, draw=_draw_share, outputs="kappa", tolerance=1e-6, mistakes={
    "half of the window is returned, the distance from the threshold to its edge": lambda *a: _solve(*a) / 2,
    "the window is twice too wide: its edges are kappa/2 from the threshold": lambda *a: 2 * _solve(*a),
    "the potential is taken to be centred at the threshold, mu and V_th forgotten": _centred,
    "mu is forgotten: the potential is centred at 0": lambda mu, std, v_th, share: _solve(0.0, std, v_th, share),
    "V_th is forgotten: the window sits around 0": lambda mu, std, v_th, share: _solve(mu, std, 0.0, share),
    "the share is the one that is to lie outside": lambda mu, std, v_th, share: _solve(mu, std, v_th, 1 - share),
    "the variance stands where the standard deviation belongs":
        lambda mu, std, v_th, share: _solve(mu, std**2, v_th, share),
    "the standard deviation is left out": lambda mu, std, v_th, share: _solve(mu, 1.0, v_th, share),
    "the wrong half of the interval is kept: where the coverage is too large, the window must become narrower":
        lambda mu, std, v_th, share: 2 * (abs(v_th - mu) + 10 * std),
})  # fmt: skip
def width_for_coverage(mu, std, v_th, share):
    """The kappa for which coverage(mu, std, v_th, kappa) is the share."""
    return _solve(mu, std, v_th, share)
