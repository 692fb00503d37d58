"""Notebook 7: rounding, reading a report, and the gradient of PLIF's parameter."""

import numpy as np

from .definition import Edge, choice, exercise

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


def _ulps(unit):
    return lambda received, expected: np.abs(received - expected) / unit(received, expected)


def _spacing(a, dtype=np.float32):
    return np.spacing(np.abs(a).astype(dtype)).astype(np.float64)


@exercise(points=1, draw=_draw_ulps, outputs="error", mistakes={
    "the error keeps its sign": lambda received, expected: (received - expected) / _spacing(expected),
    "the spacing is that of float64: convert to float32 before np.spacing": _ulps(lambda r, e: _spacing(e, np.float64)),
    "the spacing is taken at the received value instead of the expected one": _ulps(lambda r, e: _spacing(r)),
    "expected is rounded to float32 before the difference is taken: only its spacing is that of float32":
        lambda received, expected: np.abs(received - expected.astype(np.float32)) / _spacing(expected),
    "the spacing is that at 1 everywhere, 2^-23": _ulps(lambda r, e: 2.0**-23),
    "the error is divided by the value and the unit roundoff, not by the spacing": _ulps(lambda r, e: np.abs(e) * 2.0**-24),
    "the error is relative": _ulps(lambda r, e: np.abs(e)),
    "the error is not divided by the spacing": _ulps(lambda r, e: 1.0),
})  # fmt: skip
def ulps(received, expected):
    spacing = np.spacing(np.abs(expected).astype(np.float32)).astype(np.float64)
    return np.abs(received - expected) / spacing


# --- how far may it be wrong: a sum in any order


def _draw_sum_bound(rng):
    for n in (7, 40):
        yield rng.normal(0, 1, n), 2.0**-24
    yield rng.normal(0, 1, 5), 2.0**-53
    yield Edge("one term: nothing is added, nothing is rounded", (np.array([-3.0]), 2.0**-24))


@exercise(points=2, draw=_draw_sum_bound, outputs="bound", mistakes={
    "the terms are added with their signs: each may have the size of its absolute value":
        lambda terms, unit: (len(terms) - 1) * unit * abs(terms.sum()),
    "there are n roundings: n terms take n - 1 additions": lambda terms, unit: len(terms) * unit * np.abs(terms).sum(),
    "there is one rounding only": lambda terms, unit: unit * np.abs(terms).sum(),
    "unit is missing": lambda terms, unit: (len(terms) - 1) * np.abs(terms).sum(),
    "the square root of n - 1 is taken: that is the likely size, the worst case is n - 1":
        lambda terms, unit: np.sqrt(len(terms) - 1) * unit * np.abs(terms).sum(),
    "the largest term stands in place of the sum of magnitudes":
        lambda terms, unit: (len(terms) - 1) * unit * np.abs(terms).max(),
})  # fmt: skip
def sum_bound(terms, unit):
    return (len(terms) - 1) * unit * np.abs(terms).sum()


# --- a layer to put through the oracle: PLIF's backward pass


def _plif(ds, u, s, w, v_th, width, attached=True, half=2, before="v", gate=True, slope=lambda tau: tau * (1 - tau)):
    tau = 1 / (1 + np.exp(-w))
    v = u * (1 - s)
    source = {"v": v, "u": u}.get(before, v)
    dx, dv, ddecay = np.zeros_like(u), np.zeros_like(u[0]), 0.0
    for t in reversed(range(len(u))):
        inside = np.abs(u[t] - v_th) < width[t] / half
        ds_total = ds[t] - u[t] * dv if attached else ds[t]
        dx[t] = dv * ((1 - s[t]) if gate else 1.0) + ds_total * inside / width[t]
        if before == "same":
            ddecay += (dx[t] * v[t]).sum()
        elif t > 0:
            ddecay += (dx[t] * source[t - 1]).sum()
        dv = tau * dx[t]
    return dx, ddecay * slope(tau)


def _variant(**changes):
    return lambda ds, u, s, w, v_th, width: _plif(ds, u, s, w, v_th, width, **changes)


def _mirrored(ds, u, s, w, v_th, width):
    dx, dw = _plif(ds, u, s, -w, v_th, width)
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
    "the sigmoid's derivative tau (1 - tau) is missing in dw": _variant(slope=lambda tau: 1.0),
    "the sigmoid's derivative is taken for tau; it is tau (1 - tau)": _variant(slope=lambda tau: tau),
    "the sigmoid's derivative is taken for 1 - tau; it is tau (1 - tau)": _variant(slope=lambda tau: 1 - tau),
    "dw has the wrong sign": _variant(slope=lambda tau: -tau * (1 - tau)),
    "the leak's gradient takes u of the timestep before, before the reset, where v is asked for": _variant(before="u"),
    "the leak's gradient pairs du with v of the same timestep instead of the one before": _variant(before="same"),
    "the gradient through the reset is missing: ds - u dv is needed": _variant(attached=False),
    "the carry is not cut where the neuron fired: the factor 1 - s is missing": _variant(gate=False),
    "the window reaches kappa to each side of the threshold instead of kappa / 2": _variant(half=1),
    "sigmoid(w) is taken for 1 - tau, as SpikingJelly does: here it is tau": _mirrored,
})  # fmt: skip
def plif_backward(ds, u, s, w, v_th, width):
    return _plif(ds, u, s, w, v_th, width)


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


def _first(pick):
    return lambda wrong, backward: tuple(int(i) for i in pick(np.argwhere(wrong), backward))


@exercise(points=2, draw=_draw_first_wrong, outputs="t i", mistakes={
    "the backward pass is walked forward in time too; it starts at the last timestep": _first(lambda at, b: at[0]),
    "the forward pass is walked backward in time too": _first(lambda at, b: at[at[:, 0] == at[:, 0].max()][0]),
    "the directions of the two passes are exchanged":
        _first(lambda at, b: at[0] if b else at[at[:, 0] == at[:, 0].max()][0]),
    "in the backward pass the last wrong neuron of the timestep is taken, not the first":
        _first(lambda at, b: at[-1] if b else at[0]),
    "neurons are walked through before timesteps":
        _first(lambda at, b: at[np.lexsort((-at[:, 0] if b else at[:, 0], at[:, 1]))][0]),
    "timesteps are counted from 1: the index of an array's first row is 0":
        lambda wrong, backward: (first_wrong(wrong, backward)[0] + 1, first_wrong(wrong, backward)[1]),
})  # fmt: skip
def first_wrong(wrong, backward):
    at = np.argwhere(wrong)
    t = at[:, 0].max() if backward else at[:, 0].min()
    return int(t), int(np.flatnonzero(wrong[t])[0])


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


def _code(wrong, excuse):
    def exit_code(error, allowed, explained):
        off = wrong(error, allowed)
        return excuse(off, explained) if off.any() else 0

    return exit_code


def _above(error, allowed):
    return error > allowed


@exercise(points=2, draw=_draw_exit_code, outputs="code", mistakes={
    "an error that equals what is allowed is off: 0 >= 0 is true for every exact value":
        _code(lambda error, allowed: error >= allowed, lambda off, explained: 1 if (off & ~explained).any() else 2),
    "explained is not looked at": _code(_above, lambda off, explained: 1),
    "one explained element excuses all others": _code(_above, lambda off, explained: 2 if (off & explained).any() else 1),
    "every element must be explained, also those that are not off":
        _code(_above, lambda off, explained: 2 if explained.all() else 1),
    "AMBIGUOUS counts as PASS": _code(_above, lambda off, explained: 1 if (off & ~explained).any() else 0),
    "the codes of FAIL and AMBIGUOUS are exchanged":
        _code(_above, lambda off, explained: 2 if (off & ~explained).any() else 1),
    "AMBIGUOUS is given although nothing is off": lambda error, allowed, explained: (
        1 if ((error > allowed) & ~explained).any() else 2 if explained.any() else 0),
})  # fmt: skip
def exit_code(error, allowed, explained):
    off = error > allowed
    if (off & ~explained).any():
        return 1
    return 2 if off.any() else 0


# --- questions

choice("what_pass_proves", 1, "nothing: no potential of this case is exactly 0.5", {
    "that it tests u >= V_th":
        "With u > V_th the same arrays come out: no potential of this case is exactly V_th, so both tests agree on it.",
    "that it tests u > V_th":
        "The run with >= gave the same verdict: the case has no potential on the threshold.",
    "nothing: no potential of this case is exactly 0.5":
        "Right. A case proves only what it exercises; lif-on-threshold and lif-grid put neurons on the threshold.",
    "nothing: the spikes were not compared":
        "They were: s stands in the line that begins with checked.",
})  # fmt: skip

choice("half_at_fault", 1, "both passes", {
    "the forward pass":
        "Its spikes are wrong, true. But forced to start from those very spikes, the backward pass is still wrong.",
    "the backward pass":
        "Forcing shows that it is wrong. But look at the first report: which arrays does it name first?",
    "both passes":
        "Right. The spikes differ, and given the same spikes and potentials the gradients differ too: two mistakes.",
    "neither": "Both reports say FAIL; an unlucky flip would have made them AMBIGUOUS.",
})  # fmt: skip
