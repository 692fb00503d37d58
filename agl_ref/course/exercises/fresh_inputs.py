"""Fresh inputs for exercises: small arrays on which a wrong answer shows."""

import numpy as np

from .neuron import lif

TRIES = 1000


def until(good, make, *arguments):
    """The first of `make(*arguments)` that is good; RuntimeError after a thousand."""
    for _ in range(TRIES):
        made = make(*arguments)
        if good(*made):
            return made
    raise RuntimeError(
        f"{make.__qualname__}: expected inputs that fit within {TRIES} tries, found none; widen the draw"
    )


def number(rng, low, high):
    """A random number of three decimals."""
    return round(float(rng.uniform(low, high)), 3)


def current(rng, T, N, v_th):
    """An input current (T, N) under which neurons fire, fall silent again, and drop below zero."""
    return rng.normal(0.8 * v_th, 1.2 * v_th, (T, N))


def forward_pass(rng, T, N, slowest, fastest):
    """(ds, u, s, decay, v_th, width) of N neurons, with a decay between these two: what a backward pass starts from."""
    decay, v_th = number(rng, slowest, fastest), number(rng, 0.6, 1.4)
    u, s = lif(current(rng, T, N, v_th), decay, v_th)
    return rng.normal(0, 1, (T, N)), u, s, decay, v_th, rng.uniform(0.8, 1.8, T) * v_th


def potentials(rng, N):
    """(u, s) of N neurons, some fired: not those with the highest potentials, so that nobody can read s from u."""
    return until(lambda u, s: 0.2 < s.mean() < 0.8 and (u < 0).any() and u[s == 1].min() < 0 < 1 < u[s == 0].max(),
                 lambda: (rng.normal(0.5, 1, N), (rng.random(N) < 0.5).astype(float)))  # fmt: skip


def lively(s):
    """Whether spikes (T, N) allow a test of the reset: a neuron fires before the last step, some do and some do not."""
    return bool(s[:-1].any()) and 0.2 < s.mean() < 0.8


def on_all_sides(u, v_th, width):
    """Whether potentials lie inside the window |u - V_th| < width/2, outside it, and between width/2 and width."""
    z = np.abs(u - v_th)
    half = np.reshape(width, (-1,) + (1,) * (u.ndim - 1)) / 2
    return bool((z < half).any() and (z > 2 * half).any() and ((z > half) & (z < 2 * half)).any())
