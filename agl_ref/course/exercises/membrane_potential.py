"""Notebook 4, the membrane potential: tdBN forward and backward, the spread without a reset."""

import math

import numpy as np

from .definition import Edge, exercise
from .fresh_inputs import number

EPS = 1e-5


def _input(rng, T, N, C):
    """x (T, N, C) whose channels have means and spreads of their own, the last one hardly any: there eps matters."""
    spread = np.linspace(2, 0.5, C)
    spread[-1] = 0.005
    drift = np.arange(T)[:, None, None]  # so that statistics over N alone are others
    return rng.normal(0, 1, (T, N, C)) * spread + rng.normal(0, 1, C) + 0.3 * spread * drift


def _affine(rng, C):
    return rng.uniform(0.5, 2, C), rng.normal(0, 1, C)


def _draw_forward(rng):
    for T, N, C in ((4, 5, 3), (3, 4, 2)):
        yield _input(rng, T, N, C), *_affine(rng, C), number(rng, 0.4, 0.8)
    yield Edge("a channel that is constant", (np.full((2, 3, 1), 0.75), *_affine(rng, 1), 0.5))
    yield Edge("T = 1 and one channel", (rng.normal(1, 1, (1, 6, 1)), *_affine(rng, 1), 0.5))


def _moments(x, axes=(0, 1), ddof=0, eps=EPS):
    """(mean, standard deviation) with eps under the root."""
    return x.mean(axis=axes, keepdims=True), np.sqrt(x.var(axis=axes, ddof=ddof, keepdims=True) + eps)


_BY_MOMENTS = {
    "the variance is unbiased, divided by M - 1 and not by M": {"ddof": 1},
    "eps is forgotten": {"eps": 0.0},
}


@exercise(points=3, draw=_draw_forward, outputs="y", time="y", mistakes={
    "V_th is forgotten: that is plain batch normalisation": lambda x, gamma, beta, v_th: tdbn_forward(x, gamma, beta, 1.0),
    "V_th multiplies beta too": lambda x, gamma, beta, v_th: tdbn_forward(x, gamma, v_th * beta, v_th),
    **_BY_MOMENTS,
    "eps is added to the standard deviation and not to the variance": {"eps": 0.0, "std": lambda std: std + EPS},
    "the variance's square root is missing": {"std": lambda std: std * std},
    "the mean is not subtracted": {"centre": False},
    "mean and variance are taken over the batch alone, for each timestep on its own; time belongs to them": {"axes": 1},
    "mean and variance are taken over time alone; the batch belongs to them": {"axes": 0},
    "mean and variance are taken over the channels; each channel has its own": {"axes": 2},
    "mean and variance are taken over everything; each channel has its own": {"axes": (0, 1, 2)},
    "gamma is left out": lambda x, gamma, beta, v_th: tdbn_forward(x, 1.0, beta, v_th),
    "beta is left out": lambda x, gamma, beta, v_th: tdbn_forward(x, gamma, 0.0, v_th),
    "x is divided by V_th and not multiplied": lambda x, gamma, beta, v_th: tdbn_forward(x, gamma, beta, 1 / v_th),
}, hints=(
    "A mean and a variance for each channel: over which axes of (T, N, C)?",
    "Over axes 0 and 1 together. Then N3: subtract the mean, divide by the root of var + 1e-5.",
    "N4: x_hat times v_th times gamma, and only then beta is added.",
))  # fmt: skip
def tdbn_forward(x, gamma, beta, v_th, *, std=lambda std: std, centre=True, **moments):
    """N1 to N4: y = gamma V_th (x - mean) / sqrt(var + eps) + beta, statistics over T and N."""
    mean, spread = _moments(x, **moments)
    return gamma * (v_th * ((x - mean if centre else x) / std(spread))) + beta


def _draw_backward(rng):
    for T, N, C in ((4, 5, 3), (3, 4, 2)):
        x = _input(rng, T, N, C)
        dy = rng.normal(0, 1, (T, N, C)) + 0.5 * rng.normal(0, 1, C) + 0.3 * np.tanh(x)
        yield dy, x, _affine(rng, C)[0], number(rng, 0.4, 0.8)
    x = rng.normal(1, 1, (1, 6, 1))
    yield Edge("T = 1 and one channel", (rng.normal(0, 1, (1, 6, 1)), x, _affine(rng, 1)[0], 0.5))


def _after(change):
    """A mistake that changes right results at the end."""
    return lambda dy, x, gamma, v_th: change(*tdbn_backward(dy, x, gamma, v_th), gamma, v_th)


def _mean(a):
    return a.mean(axis=(0, 1))


def _mean_of_batch(a):
    return a.mean(axis=1, keepdims=True)


def _sum(a):
    return a.sum(axis=(0, 1))


def _nothing(a):
    return 0.0


@exercise(points=5, draw=_draw_backward, outputs="dx dgamma dbeta", time="dx", mistakes={
    "mean and variance are treated as constants; both depend on x": {"mean": _nothing, "component": _nothing},
    "the term through the mean, mean(g), is missing from dx": {"mean": _nothing},
    "the term through the variance, x_hat mean(g x_hat), is missing from dx": {"component": _nothing},
    "sums stand where means belong in dx: 1/M is missing": {"mean": _sum, "component": _sum},
    "the division by sqrt(var + eps) is missing from dx": {"divide": False},
    "gamma is left out of g": {"scaled": lambda gamma, v_th: v_th},
    "V_th is forgotten": lambda dy, x, gamma, v_th: tdbn_backward(dy, x, gamma, 1.0),
    "V_th is forgotten in dgamma": _after(lambda dx, dgamma, dbeta, gamma, v_th: (dx, dgamma / v_th, dbeta)),
    "V_th multiplies dbeta; beta is added after the scaling":
        _after(lambda dx, dgamma, dbeta, gamma, v_th: (dx, dgamma, v_th * dbeta)),
    "gamma multiplies dgamma": _after(lambda dx, dgamma, dbeta, gamma, v_th: (dx, gamma * dgamma, dbeta)),
    **_BY_MOMENTS,
    "mean and variance are taken over the batch alone; time belongs to them":
        {"axes": 1, "mean": _mean_of_batch, "component": _mean_of_batch},
    "dgamma and dbeta are means over T and N; a gradient of a shared number is a sum": {"reduce": _mean},
    "dgamma and dbeta are returned in the other order": _after(lambda dx, dgamma, dbeta, *_: (dx, dbeta, dgamma)),
}, hints=(
    "Compute x_hat as in the forward pass, and g = dy gamma v_th.",
    "dgamma and dbeta are sums over axes 0 and 1 (N5), and no gamma is in dgamma. The averages in N6 run over them, too.",
    "dx is g, minus its mean, minus x_hat times the mean of g x_hat, and all of that divided by the root of var + 1e-5.",
))  # fmt: skip
def tdbn_backward(dy, x, gamma, v_th, *, mean=_mean, component=_mean, scaled=lambda gamma, v_th: gamma * v_th, divide=True,
                  reduce=_sum, **moments):  # fmt: skip
    """N5, N6: g = dy gamma V_th; dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(var + eps); dgamma, dbeta sums."""
    centre, std = _moments(x, **moments)
    x_hat, g = (x - centre) / std, dy * scaled(gamma, v_th)
    dx = g - mean(g) - x_hat * component(g * x_hat)
    return dx / std if divide else dx, reduce(dy * v_th * x_hat), reduce(dy)


def _draw_std(rng):
    for t in (3, 4):
        yield number(rng, 1.2, 2.0), number(rng, 0.4, 0.9), t
    yield Edge("t = 1", (number(rng, 0.5, 2), 0.5, 1))
    yield Edge("decay = 0", (1.5, 0.0, 3))


def _of_sum(combine):
    """A mistake in how sigma and the sum of squared leak factors, t terms of them, make the result."""
    return lambda sigma, decay, t: combine(sigma, sum(decay ** (2 * j) for j in range(t)))


@exercise(points=2, draw=_draw_std, outputs="std", mistakes={
    "it is the variance: the square root is missing": _of_sum(lambda sigma, total: sigma**2 * total),
    "the square root is missing from the sum, though not from sigma": _of_sum(lambda sigma, total: sigma * total),
    "the leak factors are not squared: variances add up, with decay^2":
        lambda sigma, decay, t: no_reset_std(sigma, math.sqrt(decay), t),
    "standard deviations are added; it is variances that add up":
        lambda sigma, decay, t: sigma * sum(decay**j for j in range(t)),
    "it is the value that is reached after many timesteps": lambda sigma, decay, t: sigma / math.sqrt(1 - decay**2),
    "it is the paper's sqrt(1 + tau^2), which stops the sum at t = 2":
        lambda sigma, decay, t: no_reset_std(sigma, decay, min(t, 2)),
    "the sum has one term too few, t - 1 of them": lambda sigma, decay, t: no_reset_std(sigma, decay, t - 1),
    "the sum has one term too many, t + 1 of them": lambda sigma, decay, t: no_reset_std(sigma, decay, t + 1),
    "the square root is taken of the numerator alone, 1 - decay^(2 t); it belongs to the whole":
        lambda sigma, decay, t: sigma * math.sqrt(1 - decay ** (2 * t)) / (1 - decay**2),
    "decay is to the power t and not 2 t in the numerator":
        lambda sigma, decay, t: sigma * math.sqrt((1 - decay**t) / (1 - decay**2)),
    "sigma is left out": lambda sigma, decay, t: no_reset_std(1.0, decay, t),
    "sigma is inside the square root without its square": _of_sum(lambda sigma, total: math.sqrt(sigma * total)),
}, hints=(
    "Independent terms: their variances add up, their standard deviations do not.",
    "The variance is sigma^2 times 1 + tau^2 + tau^4 + ..., t terms in all.",
    "Add up decay ** (2 k) for k from 0 to t - 1; the root of that times sigma.",
))  # fmt: skip
def no_reset_std(sigma, decay, t):
    """W3 times sigma: sigma sqrt(1 + tau^2 + ... + tau^(2 (t - 1)))."""
    return sigma * math.sqrt(sum(decay ** (2 * j) for j in range(t)))
