"""Notebook 4, the membrane potential: tdBN forward and backward, the spread without a reset."""

import math

import numpy as np

from .definition import Edge, exercise

EPS = 1e-5


def _number(rng, low, high):
    return round(float(rng.uniform(low, high)), 3)


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
        yield _input(rng, T, N, C), *_affine(rng, C), _number(rng, 0.4, 0.8)
    yield Edge("a channel that is constant", (np.full((2, 3, 1), 0.75), *_affine(rng, 1), 0.5))
    yield Edge("T = 1 and one channel", (rng.normal(1, 1, (1, 6, 1)), *_affine(rng, 1), 0.5))


def _normalised(x, axes=(0, 1), ddof=0, eps=EPS, eps_outside=False, root=True, centre=True):
    """x_hat with parts exchanged."""
    mean = x.mean(axis=axes, keepdims=True)
    var = x.var(axis=axes, ddof=ddof, keepdims=True)
    std = np.sqrt(var) + eps if eps_outside else np.sqrt(var + eps) if root else var + eps
    return (x - mean if centre else x) / std


def _with(**options):
    return lambda x, gamma, beta, v_th: gamma * (v_th * _normalised(x, **options)) + beta


@exercise(points=3, draw=_draw_forward, outputs="y", time="y", mistakes={
    "V_th is forgotten: that is plain batch normalisation":
        lambda x, gamma, beta, v_th: gamma * _normalised(x) + beta,
    "V_th multiplies beta too": lambda x, gamma, beta, v_th: v_th * (gamma * _normalised(x) + beta),
    "the variance is unbiased, divided by M - 1 and not by M": _with(ddof=1),
    "eps is forgotten": _with(eps=0.0),
    "eps is added to the standard deviation and not to the variance": _with(eps_outside=True),
    "the variance's square root is missing": _with(root=False),
    "the mean is not subtracted": _with(centre=False),
    "mean and variance are taken over the batch alone, for each timestep on its own; time belongs to them": _with(axes=1),
    "mean and variance are taken over time alone; the batch belongs to them": _with(axes=0),
    "mean and variance are taken over the channels; each channel has its own": _with(axes=2),
    "mean and variance are taken over everything; each channel has its own": _with(axes=(0, 1, 2)),
    "gamma is left out": lambda x, gamma, beta, v_th: v_th * _normalised(x) + beta,
    "beta is left out": lambda x, gamma, beta, v_th: gamma * v_th * _normalised(x),
    "x is divided by V_th and not multiplied": lambda x, gamma, beta, v_th: gamma * _normalised(x) / v_th + beta,
})  # fmt: skip
def tdbn_forward(x, gamma, beta, v_th):
    """y = gamma V_th (x - mean) / sqrt(var + eps) + beta, statistics over T and N."""
    return gamma * (v_th * _normalised(x)) + beta


def _draw_backward(rng):
    for T, N, C in ((4, 5, 3), (3, 4, 2)):
        x = _input(rng, T, N, C)
        dy = rng.normal(0, 1, (T, N, C)) + 0.5 * rng.normal(0, 1, C) + 0.3 * np.tanh(x)
        yield dy, x, _affine(rng, C)[0], _number(rng, 0.4, 0.8)
    x = rng.normal(1, 1, (1, 6, 1))
    yield Edge("T = 1 and one channel", (rng.normal(0, 1, (1, 6, 1)), x, _affine(rng, 1)[0], 0.5))


def _tdbn_backward(dy, x, gamma, v_th, axes=(0, 1), ddof=0, eps=EPS, centre=True, spread=True, use_gamma=True, reduce=np.sum,
                   scale=None, divide=True):  # fmt: skip
    """(dx, dgamma, dbeta) with parts exchanged."""
    scale = v_th if scale is None else scale
    std = np.sqrt(x.var(axis=axes, ddof=ddof, keepdims=True) + eps)
    x_hat = (x - x.mean(axis=axes, keepdims=True)) / std
    g = dy * (gamma if use_gamma else 1.0) * scale
    dx = g + 0
    if centre:
        dx = dx - g.mean(axis=axes, keepdims=True)
    if spread:
        dx = dx - x_hat * (g * x_hat).mean(axis=axes, keepdims=True)
    return dx / std if divide else dx, reduce(dy * scale * x_hat, axis=(0, 1)), reduce(dy, axis=(0, 1))


def _but(**options):
    return lambda dy, x, gamma, v_th: _tdbn_backward(dy, x, gamma, v_th, **options)


def _beta_scaled(dy, x, gamma, v_th):
    dx, dgamma, dbeta = _tdbn_backward(dy, x, gamma, v_th)
    return dx, dgamma, v_th * dbeta


def _gamma_twice(dy, x, gamma, v_th):
    dx, dgamma, dbeta = _tdbn_backward(dy, x, gamma, v_th)
    return dx, gamma * dgamma, dbeta


def _gamma_unscaled(dy, x, gamma, v_th):
    dx, dgamma, dbeta = _tdbn_backward(dy, x, gamma, v_th)
    return dx, dgamma / v_th, dbeta


def _exchanged(dy, x, gamma, v_th):
    dx, dgamma, dbeta = _tdbn_backward(dy, x, gamma, v_th)
    return dx, dbeta, dgamma


def _spread_sum(dy, x, gamma, v_th):
    """The means in dx taken as sums."""
    g = dy * gamma * v_th
    std = np.sqrt(x.var(axis=(0, 1)) + EPS)
    x_hat = (x - x.mean(axis=(0, 1))) / std
    _, dgamma, dbeta = _tdbn_backward(dy, x, gamma, v_th)
    return (g - g.sum(axis=(0, 1)) - x_hat * (g * x_hat).sum(axis=(0, 1))) / std, dgamma, dbeta


@exercise(points=5, draw=_draw_backward, outputs="dx dgamma dbeta", time="dx", mistakes={
    "mean and variance are treated as constants; both depend on x": _but(centre=False, spread=False),
    "the term through the mean, mean(g), is missing from dx": _but(centre=False),
    "the term through the variance, x_hat mean(g x_hat), is missing from dx": _but(spread=False),
    "sums stand where means belong in dx: 1/M is missing": _spread_sum,
    "the division by sqrt(var + eps) is missing from dx": _but(divide=False),
    "gamma is left out of g": _but(use_gamma=False),
    "V_th is forgotten": _but(scale=1.0),
    "V_th is forgotten in dgamma": _gamma_unscaled,
    "V_th multiplies dbeta; beta is added after the scaling": _beta_scaled,
    "gamma multiplies dgamma": _gamma_twice,
    "the variance is unbiased, divided by M - 1 and not by M": _but(ddof=1),
    "eps is forgotten": _but(eps=0.0),
    "mean and variance are taken over the batch alone; time belongs to them": _but(axes=1),
    "dgamma and dbeta are means over T and N; a gradient of a shared number is a sum": _but(reduce=np.mean),
    "dgamma and dbeta are returned in the other order": _exchanged,
})  # fmt: skip
def tdbn_backward(dy, x, gamma, v_th):
    """g = dy gamma V_th; dx = (g - mean(g) - x_hat mean(g x_hat)) / sqrt(var + eps); dgamma, dbeta sums."""
    return _tdbn_backward(dy, x, gamma, v_th)


def _draw_std(rng):
    for t in (3, 4):
        yield _number(rng, 1.2, 2.0), _number(rng, 0.4, 0.9), t
    yield Edge("t = 1", (_number(rng, 0.5, 2), 0.5, 1))
    yield Edge("decay = 0", (1.5, 0.0, 3))


@exercise(points=2, draw=_draw_std, outputs="std", mistakes={
    "it is the variance: the square root is missing":
        lambda sigma, decay, t: sigma**2 * sum(decay ** (2 * j) for j in range(t)),
    "the square root is missing from the sum, though not from sigma":
        lambda sigma, decay, t: sigma * sum(decay ** (2 * j) for j in range(t)),
    "the leak factors are not squared: variances add up, with decay^2":
        lambda sigma, decay, t: sigma * math.sqrt(sum(decay**j for j in range(t))),
    "standard deviations are added; it is variances that add up":
        lambda sigma, decay, t: sigma * sum(decay**j for j in range(t)),
    "it is the value that is reached after many timesteps": lambda sigma, decay, t: sigma / math.sqrt(1 - decay**2),
    "it is the paper's sqrt(1 + tau^2), which stops the sum at t = 2":
        lambda sigma, decay, t: sigma * math.sqrt(1 + (t > 1) * decay**2),
    "the sum has one term too few, t - 1 of them":
        lambda sigma, decay, t: sigma * math.sqrt(sum(decay ** (2 * j) for j in range(t - 1))),
    "the sum has one term too many, t + 1 of them":
        lambda sigma, decay, t: sigma * math.sqrt(sum(decay ** (2 * j) for j in range(t + 1))),
    "the square root is taken of the numerator alone, 1 - decay^(2 t); it belongs to the whole":
        lambda sigma, decay, t: sigma * math.sqrt(1 - decay ** (2 * t)) / (1 - decay**2),
    "decay is to the power t and not 2 t in the numerator":
        lambda sigma, decay, t: sigma * math.sqrt((1 - decay**t) / (1 - decay**2)),
    "sigma is left out": lambda sigma, decay, t: math.sqrt(sum(decay ** (2 * j) for j in range(t))),
    "sigma is inside the square root without its square":
        lambda sigma, decay, t: math.sqrt(sigma * sum(decay ** (2 * j) for j in range(t))),
})  # fmt: skip
def no_reset_std(sigma, decay, t):
    """sigma sqrt(1 + tau^2 + ... + tau^(2 (t - 1)))."""
    return sigma * math.sqrt(sum(decay ** (2 * j) for j in range(t)))
