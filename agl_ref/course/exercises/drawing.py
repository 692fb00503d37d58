"""Fresh inputs for exercises: small arrays on which a wrong answer shows."""

import numpy as np

TRIES = 1000


def until(good, make):
    """The first of `make()` that is good; RuntimeError after a thousand."""
    for _ in range(TRIES):
        made = make()
        if good(*made):
            return made
    raise RuntimeError(
        f"{make.__qualname__}: expected inputs that fit within {TRIES} tries, found none; widen the draw"
    )


def lif(x, decay, v_th):
    """Potentials and spikes (u, s), each of x's shape (T, N): leak, fire (>=), hard reset."""
    u, s, v = np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape[1:])
    for t in range(len(x)):
        u[t] = decay * v + x[t]
        s[t] = u[t] >= v_th
        v = u[t] * (1 - s[t])
    return u, s


def current(rng, T, N, v_th):
    """An input current (T, N) under which neurons fire, fall silent again, and drop below zero."""
    return rng.normal(0.8 * v_th, 1.2 * v_th, (T, N))


def lively(s):
    """Whether spikes (T, N) allow a test of the reset: a neuron fires before the last step, some do and some do not."""
    return bool(s[:-1].any()) and 0.2 < s.mean() < 0.8


def window(u, v_th, width):
    """Whether potentials lie inside the window |u - V_th| < width/2, outside it, and between width/2 and width."""
    z = np.abs(u - v_th)
    half = np.reshape(width, (-1,) + (1,) * (u.ndim - 1)) / 2
    return bool((z < half).any() and (z > 2 * half).any() and ((z > half) & (z < 2 * half)).any())
