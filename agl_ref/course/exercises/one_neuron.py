"""Notebook 1, one neuron: leak, fire, reset, and the three in a loop over time."""

import numpy as np

from .definition import Edge, exercise
from .fresh_inputs import current, lively, number, potentials, until
from .neuron import lif, previous

_LEAKS = {
    "decay multiplies the input x as well, as in decay * (v + x)": lambda v, x, decay: decay * (v + x),
    "decay multiplies the input x instead of the potential v": lambda v, x, decay: v + decay * x,
    "the potential does not leak, decay is missing": lambda v, x, decay: v + x,
    "v is multiplied by 1 - decay (decay is the factor that remains)": lambda v, x, decay: (1 - decay) * v + x,
    "the input is scaled by 1 - decay, which other libraries do": lambda v, x, decay: decay * v + (1 - decay) * x,
}


def _draw_leak(rng):
    for N in (6, 4):
        yield rng.normal(0, 1, N), rng.normal(0, 1, N), number(rng, 0.1, 0.4)
    yield Edge("decay = 0", (rng.normal(0, 1, 3), rng.normal(0, 1, 3), 0.0))
    yield Edge("one neuron", (rng.normal(0, 1, 1), rng.normal(0, 1, 1), 0.75))


@exercise(points=1, draw=_draw_leak, outputs="u", mistakes={
    **_LEAKS,
    "the potential v from the timestep before is left out": lambda v, x, decay: 0 * v + x,
    "decay is subtracted, where v is to be multiplied by it": lambda v, x, decay: v - decay + x,
}, hints=(
    "Two things make u_t: what is left of v_{t-1}, and the input.",
    "Of v the share `decay` is left. The input does not leak.",
    "One line: v times decay, and x added to the product.",
))  # fmt: skip
def leak(v, x, decay):
    """F1: u = tau v + x."""
    return decay * v + x


def _draw_fires(rng):
    for N in (8, 12):
        v_th = number(rng, 0.4, 1.5)
        yield until(lambda u, v_th: 0.2 < (u >= v_th).mean() < 0.8 and ((u > 0) & (u < v_th)).any(),
                    lambda v_th=v_th, N=N: (rng.normal(v_th, v_th, N), v_th))  # fmt: skip
    yield Edge("a potential exactly at the threshold", (np.array([0.5, 0.499, 0.501, -0.5]), 0.5))
    yield Edge("nobody fires", (-np.abs(rng.normal(0, 1, 3)), 0.5))


@exercise(points=1, draw=_draw_fires, outputs="s", mistakes={
    "the test is > and not >=: a potential exactly at the threshold should fire": lambda u, v_th: 1.0 * (u > v_th),
    "neurons below the threshold fire, and those above it do not": lambda u, v_th: 1.0 * (u < v_th),
    "the potential is compared with 0, V_th forgotten": lambda u, v_th: 1.0 * (u >= 0),
    "the potential itself is returned where the neuron fires, and not 1": lambda u, v_th: u * (u >= v_th),
    "the size of u is tested: a strongly negative potential does not fire": lambda u, v_th: 1.0 * (np.abs(u) >= v_th),
}, hints=(
    "Compare u with v_th, and think of a potential that is exactly v_th.",
    "The comparison is >=. It gives booleans, and floats are wanted.",
    "An array has the method `astype`; u.dtype is the type that is wanted.",
))  # fmt: skip
def fires(u, v_th):
    """F2: s = [u >= V_th]."""
    return (u >= v_th).astype(float)


def _draw_hard_reset(rng):
    yield potentials(rng, 8)
    yield potentials(rng, 12)
    yield Edge("every neuron fired", (1 + rng.random(3), np.ones(3)))
    yield Edge("no neuron fired", (-rng.random(3), np.zeros(3)))


_WHERE = {"where the neuron fires": lambda u, s, *_: s == 1, "where the neuron does not fire": lambda u, s, *_: s == 0}


@exercise(points=1, draw=_draw_hard_reset, outputs="v", places=_WHERE, mistakes={
    "the neurons that fired keep their potential and the others lose it": lambda u, s: u * s,
    "the spike is subtracted from the potential: a hard reset sets it to 0": lambda u, s: u - s,
    "every potential becomes 0, also where there was no spike": lambda u, s: 0 * u,
    "the potential is left out of the product": lambda u, s: 1 - s,
    "nothing is reset": lambda u, s: u,
    "the reset goes to 1 and not to 0": lambda u, s: u * (1 - s) + s,
    **{f"u is compared with {v_th:g}: who fired stands in s": lambda u, s, v_th=v_th: u * (u < v_th)
       for v_th in (0.0, 0.5, 1.0)},
}, hints=(
    "Where s is 1 the result is 0, and where s is 0 it is u.",
    "A product does that without an `if`: u times something that is 1 where the neuron was silent and 0 where it fired.",
    "That something is 1 - s.",
))  # fmt: skip
def hard_reset(u, s):
    """F3: v = u (1 - s)."""
    return u * (1 - s)


def _draw_soft_reset(rng):
    yield *potentials(rng, 8), number(rng, 0.3, 0.45)
    yield *potentials(rng, 12), number(rng, 0.55, 0.8)
    yield Edge("no neuron fired", (-rng.random(3), np.zeros(3), 0.5))


@exercise(points=1, draw=_draw_soft_reset, outputs="v", places=_WHERE, mistakes={
    "the reset is hard, to 0; a soft one subtracts the threshold": lambda u, s, v_th: u * (1 - s),
    "1 is subtracted at a spike, V_th forgotten": lambda u, s, v_th: u - s,
    "the threshold is subtracted from every neuron, also where there was no spike": lambda u, s, v_th: u - v_th,
    "neurons without a spike are set to 0": lambda u, s, v_th: (u - v_th) * s,
    "the potential goes to -V_th at a spike": lambda u, s, v_th: u * (1 - s) - v_th * s,
    "the threshold is added at a spike and not subtracted": lambda u, s, v_th: u + v_th * s,
    "nothing is reset": lambda u, s, v_th: u,
}, hints=(
    "Only neurons that fired change, and all of them by the same amount.",
    "The amount is v_th, not u.",
    "Subtract the product of v_th and s from u.",
))  # fmt: skip
def soft_reset(u, s, v_th):
    """F4: v = u - V_th s."""
    return u - v_th * s


def _draw_lif_forward(rng):
    for T, N in ((5, 6), (7, 4)):
        decay, v_th = number(rng, 0.3, 0.8), number(rng, 0.6, 1.4)
        yield until(lambda x, decay, v_th: lively(lif(x, decay, v_th)[1]) and 0 < (x[0] >= v_th).mean() < 1,
                    lambda T=T, N=N, decay=decay, v_th=v_th: (current(rng, T, N, v_th), decay, v_th))  # fmt: skip
    yield Edge("a potential exactly at the threshold", (np.array([[0.5, 0.25], [0.25, 0.375], [0.5, 0.5]]), 0.5, 0.5))
    yield Edge("T = 1", (rng.normal(0.5, 1, (1, 4)), 0.5, 0.5))
    yield Edge("one neuron", (np.array([[0.4], [0.4], [0.6], [0.1]]), 0.5, 0.5))


def _fires_after_reset(x, decay, v_th):
    u, _ = lif(x, decay, v_th, returned="v")
    return u, (u >= v_th).astype(float)


def _silent_at_first(x, decay, v_th):
    u, s = lif(x[1:], decay, v_th, start=x[0])
    return np.concatenate([x[:1], u]), np.concatenate([0 * x[:1], s])


@exercise(points=3, draw=_draw_lif_forward, outputs="u s", time="u s", places={
    "where the neuron fired one timestep before": lambda x, decay, v_th: previous(lif(x, decay, v_th)[1]) == 1,
    "where the neuron fires": lambda x, decay, v_th: lif(x, decay, v_th)[1] == 1,
    "where the potential is negative": lambda x, decay, v_th: lif(x, decay, v_th)[0] < 0,
    "where the neuron does not fire": lambda x, decay, v_th: lif(x, decay, v_th)[1] == 0,
}, mistakes={
    "the test is > and not >=: a potential exactly at the threshold should fire": {"fires": np.greater},
    "nothing is reset after a spike": {"reset": "none"},
    "the reset is soft, it subtracts the threshold; here it is hard, to 0": {"reset": "soft"},
    "1 is subtracted at a spike; here the potential is set to 0": {"reset": "one"},
    "u is returned after the reset; u is the potential before it": {"returned": "v"},
    "the reset happens before the spike is read, so no potential above the threshold is ever seen": _fires_after_reset,
    "the reset uses the spikes of the timestep before": {"late": True},
    **{text: {"leak": wrong} for text, wrong in _LEAKS.items()},
    "nothing is carried from one timestep to the next": {"leak": lambda v, x, decay: x},
    "the neuron starts at 1; v_0 is 0": {"start": 1.0},
    "nothing fires at t = 1: the first timestep can fire too": _silent_at_first,
    "the two results are returned in the other order": lambda *a: lif(*a)[::-1],
}, hints=(
    "A loop over t with three lines: your leak, your fires, your hard_reset. Which array lives on from turn to turn?",
    "It is v, zeros of shape (N,) before the loop. Prepare u and s of x's shape, and fill one row of each in a turn.",
    "A turn: u[t] from decay, v and x[t] (F1); s[t] by comparing u[t] with v_th (F2); a new v from u[t] and s[t] (F3).",
))  # fmt: skip
def lif_forward(x, decay, v_th, **parts):
    """F1, F2, F3 at every timestep."""
    return lif(x, decay, v_th, **parts)
