"""Notebook 7: rounding, reading a report, and the gradient of PLIF's parameter."""

import numpy as np

from .definition import Edge, choice, exercise
from .neuron import bptt, previous

# --- how far is wrong: units in the last place


def _draw_ulps(rng):
    for N in (6, 5):
        near = rng.normal(0, 3, N).astype(np.float32)
        steps = rng.integers(-9, 10, N)
        steps[0], near[0] = -3, -abs(near[0])
        spacing = np.spacing(np.abs(near)).astype(np.float64)
        received = near.astype(np.float64) + steps * spacing
        yield received, near + rng.uniform(0.1, 0.4, N) * spacing  # expected is no float32 number
    below_one = np.array([1.0 - 2.0**-24, 0.5 - 2.0**-25])
    yield Edge("the spacing is that at the expected value, and it halves just below a power of 2", (
        below_one, np.array([1.0, 0.5])))  # fmt: skip


def _spacing(received, expected):
    return np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)


@exercise(points=1, draw=_draw_ulps, outputs="error", mistakes={
    "the error keeps its sign": {"size": lambda error: error},
    "the spacing is that of float64: convert to float32 before np.spacing": {"unit": lambda r, e: np.spacing(np.abs(e))},
    "the spacing is taken at the received value instead of the expected one": {"unit": lambda r, e: _spacing(e, r)},
    "expected is rounded to float32 before the difference is taken: only its spacing is that of float32":
        lambda received, expected: ulps(received, expected.astype(np.float32)),
    "the spacing is that at 1 everywhere, 2^-23": {"unit": lambda r, e: 2.0**-23},
    "the error is divided by the value and the unit roundoff, not by the spacing":
        {"unit": lambda r, e: np.abs(e) * 2.0**-24},
    "the error is relative": {"unit": lambda r, e: np.abs(e)},
    "the error is not divided by the spacing": {"unit": lambda r, e: 1.0},
}, hints=(
    "How far apart are float32 numbers at |expected|? np.spacing says it, for an array of float32.",
    "Convert |expected| with astype(np.float32) for the spacing alone; the difference stays in float64.",
    "The size of received - expected, divided by that spacing.",
))  # fmt: skip
def ulps(received, expected, *, size=np.abs, unit=_spacing):
    return size(received - expected) / unit(received, expected)


# --- how far may it be wrong: a sum in any order


def _draw_sum_bound(rng):
    for n in (7, 40):
        yield rng.normal(0, 1, n), 2.0**-24
    yield rng.normal(0, 1, 5), 2.0**-53
    yield Edge("one term: nothing is added, nothing is rounded", (np.array([-3.0]), 2.0**-24))


@exercise(points=2, draw=_draw_sum_bound, outputs="bound", mistakes={
    "the terms are added with their signs: each may have the size of its absolute value":
        {"size": lambda terms: abs(terms.sum())},
    "there are n roundings: n terms take n - 1 additions": {"roundings": lambda n: n},
    "there is one rounding only": {"roundings": lambda n: 1},
    "unit is missing": lambda terms, unit: sum_bound(terms, 1.0),
    "the square root of n - 1 is taken: that is the likely size, the worst case is n - 1":
        {"roundings": lambda n: np.sqrt(n - 1)},
    "the largest term stands in place of the sum of magnitudes": {"size": lambda terms: np.abs(terms).max()},
}, hints=(
    "It is the formula above. Take the size of each term before you add them up.",
    "n - 1 additions, where n is the number of terms.",
    "Three factors: the number of additions, the unit, and the sum of np.abs(terms).",
))  # fmt: skip
def sum_bound(terms, unit, *, roundings=lambda n: n - 1, size=lambda terms: np.abs(terms).sum()):
    return roundings(len(terms)) * unit * size(terms)


# --- a layer to put through the oracle: PLIF's backward pass


def _mirrored(ds, u, s, w, v_th, width):
    dx, dw = plif_backward(ds, u, s, -w, v_th, width)
    return dx, -dw


def _draw_plif(rng, T=5, N=12):
    for _ in range(2):
        w, v_th = float(rng.normal(-1, 0.5)), float(rng.uniform(0.4, 0.8))
        u = rng.normal(0.5, 0.8, (T, N))
        yield rng.normal(0, 1, (T, N)), u, (u >= v_th) * 1.0, w, v_th, rng.uniform(0.6, 1.6, T)
    u = rng.normal(0.5, 0.5, (1, 6))
    yield Edge("T = 1: no leak has acted yet, so dw = 0", (
        rng.normal(0, 1, (1, 6)), u, (u >= 0.5) * 1.0, -1.0, 0.5, np.array([1.0])))  # fmt: skip


@exercise(points=4, draw=_draw_plif, outputs="dx dw", time="dx", mistakes={
    "the sigmoid's derivative tau (1 - tau) is missing in dw": {"slope": lambda tau: 1.0},
    "the sigmoid's derivative is taken for tau; it is tau (1 - tau)": {"slope": lambda tau: tau},
    "the sigmoid's derivative is taken for 1 - tau; it is tau (1 - tau)": {"slope": lambda tau: 1 - tau},
    "dw has the wrong sign": {"slope": lambda tau: -tau * (1 - tau)},
    "the leak's gradient takes u of the timestep before, before the reset, where v is asked for":
        {"leaked": lambda u, s: previous(u)},
    "the leak's gradient pairs du with v of the same timestep instead of the one before":
        {"leaked": lambda u, s: u * (1 - s)},
    "the gradient through the reset is missing: ds - u dv is needed": {"through": lambda u, s: 0.0},
    "the carry is not cut where the neuron fired: the factor 1 - s is missing": {"keep": lambda s: 1.0},
    "the window reaches kappa to each side of the threshold instead of kappa / 2": {"half": 1.0},
    "sigmoid(w) is taken for 1 - tau, as SpikingJelly does: here it is tau": _mirrored,
}, hints=(
    "Your lif_backward of notebook 3 with tau = sigmoid(w), and in the same loop the leak's gradient.",
    "At each t > 0 add du_t v_{t-1}, summed over neurons. v_{t-1} comes from row t - 1 of u and s.",
    "After the loop dw is the leak's gradient times tau (1 - tau). Inside, dv for t - 1 is tau times dx[t].",
))  # fmt: skip
def plif_backward(ds, u, s, w, v_th, width, *, slope=lambda tau: tau * (1 - tau), **parts):
    """B1 to B6."""
    tau = 1 / (1 + np.exp(-w))
    dx, ddecay = bptt(ds, u, s, tau, v_th, width, **parts)
    return dx, ddecay * slope(tau)


# --- where is it wrong first


def _draw_first_wrong(rng):
    for backward in (True, False, True):
        wrong = rng.random((8, 9)) < 0.25
        wrong[[0, 1, 6, 7]] = False
        wrong[1, [3, 5]] = wrong[6, [2, 7]] = wrong[3, 0] = True
        yield wrong, backward
    single = np.zeros((4, 3), bool)
    single[2, 1] = True
    yield Edge("a single wrong element", (single, True))


def _neurons_first(wrong, backward):
    i = int(np.flatnonzero(wrong.any(axis=0))[0])
    return int(np.flatnonzero(wrong[:, i])[-1 if backward else 0]), i


@exercise(points=2, draw=_draw_first_wrong, outputs="t i", mistakes={
    "the backward pass is walked forward in time too; it starts at the last timestep": {"from_end": lambda backward: False},
    "the forward pass is walked backward in time too": {"from_end": lambda backward: True},
    "the directions of the two passes are exchanged": {"from_end": lambda backward: not backward},
    "in the backward pass the last wrong neuron of the timestep is taken, not the first":
        lambda wrong, backward: tuple(np.argwhere(wrong)[-1 if backward else 0]),
    "neurons are walked through before timesteps": _neurons_first,
    "timesteps are counted from 1: the index of an array's first row is 0": {"count_from": 1},
}, hints=(
    "First the timestep, then the neuron. Which timesteps have a wrong element at all?",
    "wrong.any(axis=1) says which, and np.flatnonzero gives their numbers. The backward pass begins at the last timestep.",
    "t is the first of these numbers, or the last if backward. i is the first of the wrong ones in row t.",
))  # fmt: skip
def first_wrong(wrong, backward, *, from_end=lambda backward: backward, count_from=0):
    times = np.flatnonzero(wrong.any(axis=1))
    t = int(times[-1 if from_end(backward) else 0])
    return t + count_from, int(np.flatnonzero(wrong[t])[0])


# --- the verdict, as the command's exit code


def _draw_exit_code(rng):
    allowed = np.array([0.0, 1.0, 2.0, 0.0]) * rng.uniform(1e-7, 1e-5)
    none, two, three = np.zeros(4, bool), np.array([False, False, True, True]), np.array([False, False, True, False])
    inside, outside = rng.uniform(0.2, 0.9) * allowed, rng.uniform(1.5, 3) * allowed
    flip = np.array([0.0, inside[1], outside[2], 1.0])
    yield flip, allowed, two
    yield flip, allowed, three
    yield flip, allowed, ~none
    yield inside, allowed, none
    yield np.array([0.0, inside[1], outside[2], 0.0]), allowed, none
    yield Edge("an error of 0 where 0 is allowed, and one that is exactly at the bound, are right", (
        np.array([0.0, allowed[1], allowed[2], 0.0]), allowed, none))  # fmt: skip
    yield Edge("a flip could have explained something, but nothing is off", (np.zeros(4), allowed, ~none))


@exercise(points=2, draw=_draw_exit_code, outputs="code", mistakes={
    "an error that equals what is allowed is off: 0 >= 0 is true for every exact value": {"beyond": np.greater_equal},
    "explained is not looked at": {"ambiguous": 1},
    "one explained element excuses all others": {"excused": lambda off, explained: (off & explained).any()},
    "every element must be explained, also those that are not off": {"excused": lambda off, explained: explained.all()},
    "AMBIGUOUS counts as PASS": {"ambiguous": 0},
    "the codes of FAIL and AMBIGUOUS are exchanged": {"fail": 2, "ambiguous": 1},
    "AMBIGUOUS is given although nothing is off":
        lambda error, allowed, explained: exit_code(error, allowed, explained) or 2 * explained.any(),
}, hints=(
    "Which elements are off? If there are none, nothing else matters.",
    "A single element that is off and not explained makes it FAIL.",
    "An element is off where its error exceeds what is allowed. No such element: 0. One with ~explained: 1. Else 2.",
))  # fmt: skip
def exit_code(error, allowed, explained, *, beyond=np.greater, fail=1, ambiguous=2,
              excused=lambda off, explained: not (off & ~explained).any()):  # fmt: skip
    off = beyond(error, allowed)
    if not off.any():
        return 0
    return ambiguous if excused(off, explained) else fail


# --- questions

choice("what_pass_proves", 1, "nothing: no potential of this case is exactly 0.5", hints=(
    "For which potentials do the two spike tests give different spikes?",
    "Only for those equal to V_th. What did the cell above print about them?",
    "Where no element can tell two rules apart, both of them pass.",
), options={
    "that it tests u >= V_th":
        "With u > V_th the same arrays come out: no potential of this case is exactly V_th, so both tests agree on it.",
    "that it tests u > V_th":
        "The run with >= gave the same verdict: the case has no potential on the threshold.",
    "nothing: no potential of this case is exactly 0.5":
        "Right. A case proves only what it exercises; lif-on-threshold and lif-grid put neurons on the threshold.",
    "nothing: the spikes were not compared":
        "They were: s stands in the line that begins with checked.",
})  # fmt: skip

choice("half_at_fault", 1, "both passes", hints=(
    "The forced report takes u and s as they are. What can still be wrong in it?",
    "The first report tells about the forward pass, the second one about the backward pass. Read each for itself.",
    "Are there wrong spikes in the first? Are there wrong gradients in the second, where the spikes count as given?",
), options={
    "the forward pass":
        "Its spikes are wrong, true. But forced to start from those very spikes, the backward pass is still wrong.",
    "the backward pass":
        "Forcing shows that it is wrong. But look at the first report: which arrays does it name first?",
    "both passes":
        "Right. The spikes differ, and given the same spikes and potentials the gradients differ too: two mistakes.",
    "neither": "Both reports say FAIL; an unlucky flip would have made them AMBIGUOUS.",
})  # fmt: skip
