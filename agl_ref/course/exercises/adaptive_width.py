"""Notebook 5, the adaptive width: the rule, the share of neurons inside a window, the window for a share."""

import math

import numpy as np
from scipy.optimize import brentq
from scipy.special import ndtr

from .definition import Edge, exercise
from .fresh_inputs import number, until


def _draw_width(rng):
    for T, C in ((4, 7), (5, 3)):
        gamma = np.sort(rng.uniform(0.6, 2.5, C))  # the first is not the largest
        gamma[-1] = -rng.uniform(0.1, 0.4)  # a channel's gamma may be negative
        yield gamma, number(rng, 0.6, 0.9), number(rng, 0.4, 0.9), T
    yield Edge("T = 1", (rng.uniform(0.5, 2, 3), 0.5, 0.5, 1))
    yield Edge("decay = 0", (rng.uniform(0.5, 2, 3), 0.5, 0.0, 3))
    yield Edge("one channel", (np.array([1.5]), 0.5, 0.75, 2))


def _later(decay, t):
    return math.sqrt(1 + decay**2)


@exercise(points=2, draw=_draw_width, outputs="kappa", time="kappa", mistakes={
    "sqrt(1 + tau^2) is there at t = 1 too": {"first": _later},
    "kappa_1 is used at every t": {"later": lambda decay, t: 1.0},
    "the whole sum 1 + tau^2 + tau^4 + ... is taken; Theorem 1 stops after tau^2":
        {"later": lambda decay, t: math.sqrt(sum(decay ** (2 * j) for j in range(t)))},
    "tau is not squared: sqrt(1 + tau)": {"later": lambda decay, t: math.sqrt(1 + decay)},
    "the square root is missing: 1 + tau^2": {"later": lambda decay, t: 1 + decay**2},
    "the first timestep has the wider window and the later ones the narrow one":
        {"first": _later, "later": lambda decay, t: 1.0},
    "gamma is summed over the channels and not averaged": {"mean": np.sum},
    "only the first channel's gamma is used: it is the mean over channels": {"mean": lambda gamma: gamma[0]},
    "the largest gamma is used: it is the mean over channels": {"mean": np.max},
    "the magnitudes of gamma are averaged: it is the mean of gamma itself, with its signs":
        {"mean": lambda gamma: np.abs(gamma).mean()},
    "V_th is forgotten": lambda gamma, v_th, decay, T: adaptive_width(gamma, 1.0, decay, T),
    "the factor 2 is missing: one standard deviation to EACH side": lambda *a: adaptive_width(*a) / 2,
}, hints=(
    "T numbers, and all but the first are equal.",
    "The potential's spread is gamma_bar v_th at t = 1; later it is larger by the root of 1 + decay^2.",
    "Begin with an array of T times the spread at t = 1. Multiply from index 1 on by the root. What does each side add?",
))  # fmt: skip
def adaptive_width(gamma, v_th, decay, T, *, mean=np.mean, first=lambda decay, t: 1.0, later=_later):
    """W1, W2: kappa_1 = 2 gamma_bar V_th; kappa_t = 2 sqrt(1 + tau^2) gamma_bar V_th for t > 1."""
    return np.array([2 * mean(gamma) * v_th * (first if t == 1 else later)(decay, t) for t in range(1, T + 1)])


def _draw_coverage(rng):
    for sign in (-1, 1):
        v_th = number(rng, 0.6, 1.0)
        yield sign * number(rng, 0.2, 0.5), number(rng, 0.5, 0.8), v_th, number(rng, 1.2, 2.0)
    yield Edge("mu = V_th", (0.5, 0.75, 0.5, 1.0))
    yield Edge("a very wide window", (0.25, 0.5, 0.5, 40.0))


@exercise(points=2, draw=_draw_coverage, outputs="share", mistakes={
    "the window reaches kappa to each side and not kappa/2": lambda mu, std, v_th, k: coverage(mu, std, v_th, 2 * k),
    "V_th is forgotten: the window sits around 0": lambda mu, std, v_th, k: coverage(mu, std, 0, k),
    "mu is forgotten: the potential is centred at 0": lambda mu, std, v_th, k: coverage(0, std, v_th, k),
    "the window sits around mu and not around V_th": lambda mu, std, v_th, k: coverage(mu, std, mu, k),
    "the distances are not divided by std": lambda mu, std, v_th, k: coverage(mu, 1.0, v_th, k),
    "the variance stands where the standard deviation belongs": lambda mu, std, v_th, k: coverage(mu, std**2, v_th, k),
    "the square root of 2 is missing from erf's argument":
        lambda mu, std, v_th, k: coverage(mu, std / math.sqrt(2), v_th, k),
    "only the half of the window above the threshold is counted": {"below": 0.0},
    "only the half of the window below the threshold is counted": {"above": 0.0},
    "everything below the window's upper edge is counted": {"below": math.inf},
    "the density times the width is taken; it is the area under the density":
        lambda mu, std, v_th, k: k * math.exp(-(((v_th - mu) / std) ** 2) / 2) / (std * math.sqrt(2 * math.pi)),
    "the share outside the window is counted": lambda mu, std, v_th, k: 1 - coverage(mu, std, v_th, k),
}, hints=(
    "The probability of an interval is a difference of two values of Phi.",
    "The ends of the interval are v_th - width / 2 and v_th + width / 2. Phi wants them in units of std, from mu.",
    "ndtr of (upper end - mu) / std, minus the same of the lower end.",
))  # fmt: skip
def coverage(mu, std, v_th, width, *, below=0.5, above=0.5):
    """Phi((V_th + kappa/2 - mu)/std) - Phi((V_th - kappa/2 - mu)/std)."""
    return ndtr((v_th + above * width - mu) / std) - ndtr((v_th - below * width - mu) / std)


def _draw_share(rng):
    def off_centre(mu, std, v_th, share):
        return abs(width_for_coverage(v_th, std, v_th, share) / width_for_coverage(mu, std, v_th, share) - 1) > 0.05

    for sign, spread in ((-1, 1), (1, 10)):  # windows narrower than 5, and wider than 10
        yield until(off_centre,
                    lambda sign=sign, spread=spread: (sign * spread * number(rng, 0.2, 0.5), spread * number(rng, 0.5, 0.8),
                                                      spread * number(rng, 0.9, 1.4), number(rng, 0.6, 0.8)))  # fmt: skip
    yield Edge("mu = V_th", (0.5, 0.75, 0.5, 0.5))
    yield Edge("a share near 1", (0.25, 0.5, 0.5, 0.999))


def _with(change):
    """A mistake: the right answer of other arguments."""
    return lambda mu, std, v_th, share: width_for_coverage(*change(mu, std, v_th, share))


@exercise(points=3, draw=_draw_share, outputs="kappa", tolerance=1e-6, mistakes={
    "half of the window is returned, the distance from the threshold to its edge": lambda *a: width_for_coverage(*a) / 2,
    "the window is twice too wide: its edges are kappa/2 from the threshold": lambda *a: 2 * width_for_coverage(*a),
    "the potential is taken to be centred at the threshold, mu and V_th forgotten":
        _with(lambda mu, std, v_th, share: (v_th, std, v_th, share)),
    "mu is forgotten: the potential is centred at 0": _with(lambda mu, std, v_th, share: (0.0, std, v_th, share)),
    "V_th is forgotten: the window sits around 0": _with(lambda mu, std, v_th, share: (mu, std, 0.0, share)),
    "the share is the one that is to lie outside": _with(lambda mu, std, v_th, share: (mu, std, v_th, 1 - share)),
    "the variance stands where the standard deviation belongs":
        _with(lambda mu, std, v_th, share: (mu, std**2, v_th, share)),
    "the standard deviation is left out": _with(lambda mu, std, v_th, share: (mu, 1.0, v_th, share)),
    **{f"the search ends at {upper}: windows can be wider, with the spread and the distance of the potentials":
       lambda *a, upper=upper: min(width_for_coverage(*a), upper) for upper in (2, 5, 10)},
    "the wrong half of the interval is kept: where the coverage is too large, the window must become narrower":
        lambda mu, std, v_th, share: 2 * (abs(v_th - mu) + 10 * std),
}, hints=(
    "Keep a low width that covers too little and a high one that covers too much, and halve what lies between them.",
    "Begin with 0 and the upper end in the text. If the middle covers too little, the answer lies in the upper half.",
    "Sixty turns: the middle becomes the new low where its coverage is below the share, else the new high.",
))  # fmt: skip
def width_for_coverage(mu, std, v_th, share):
    """The kappa for which coverage(mu, std, v_th, kappa) is the share."""
    upper = 2 * (abs(v_th - mu) + 40 * std)  # beyond it, double precision leaves nothing outside the window
    return brentq(lambda k: coverage(mu, std, v_th, k) - share, 0.0, upper, xtol=1e-13, rtol=1e-13)
