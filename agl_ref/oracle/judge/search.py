"""A verdict from gradients alone: which decisions at the edge of rounding, turned, give the numbers of a dump?

A dump without spikes and potentials does not show which of them flipped. But few lie so close to the threshold, or to the
window's edge, that a right implementation may decide otherwise: its potentials are within the bounds by which the oracle
judges them. So the reference is run again with such decisions turned, first those closest to their edge, one by one and
together, and a run that gives the dumped numbers says what happened. A turned decision changes everything behind it, and with
it which others are close; each run looks again.

The distance of a decision is counted in units of its bound, and that of several is the sum of squares. All sets up to NEEDED
have to have been tried before a dump FAILs; the search goes on to REACH while its runs last. Where there are too many, it may
be that no spike flipped: the windows are then decided from the gradients. What is still off FAILs where each of the nearest
spikes, flipped, would show in arrays that are right, or where it lies far beyond runs with random errors of the bounds' size.
"""

import heapq
import itertools
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.bounds.margins import given_window, input_error
from agl_ref.oracle.bounds.teacher_forcing import SAFETY, force, replay_of
from agl_ref.oracle.bounds.tolerance import NoRounding
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import problem_of
from agl_ref.oracle.types import WINDOWED, array_name, fires, unit_roundoff

from .settle import decided

NEEDED, REACH = 1.0, 4.0  # sums of squared distances, each in units of its bound
WORK, FEWEST, MOST = 2**24, 16, 256  # neurons times timesteps, in all runs; at least and at most so many runs
DRAWS = 12  # runs with random errors, up to SAFETY times the bounds; spikes that are flipped one by one
SHOWN = 3  # arrays in which a flip of each of these has to show
BEYOND = 3.0  # how many times as far from them as they are from one another a dump has to lie to FAIL
FIRE = ('u[t] >= threshold if conventions.spike_test == ">="', "fire(u[t], threshold) if True")


class Decision(NamedTuple):
    """Of one neuron at one timestep: whether it fires ("s"), or lies in the window ("window")."""

    block: str
    kind: str
    index: tuple

    def __str__(self):
        return f"{array_name(self.block, self.kind)}[{', '.join(map(str, self.index))}]"


@np.errstate(over="ignore")  # of distances in units of a bound that is 0
def searched(reference, arrays, dtype, judge, ambiguous):
    """The report of the search on a dump that shows no decision and is AMBIGUOUS.

    Parameters
    ----------
    reference : Reference
    arrays : {name: float64 ndarray}
    dtype : str
    judge : callable(Reference, {name: array}) -> Report
    ambiguous : Report
    """
    runs = _Runs(reference, arrays, unit_roundoff(dtype))
    _, near = runs.run(frozenset())
    found = {"decisions": len(near), "flips": [], "beyond": None, "decided": False}
    budget = int(np.clip(WORK // max(runs.neurons, 1), FEWEST, MOST))
    report = None
    if len(_sets(near, budget)) < budget:
        report, found["decided"] = _search(runs, judge, budget, found)
    if report is None and not found["decided"]:
        report = runs.with_own_spikes(dtype, judge)
        found["flips"] = [f"{count} of {name}" for name, count in report.details["flips"].items()]
        right = [name for name, verdict in report.verdicts.items() if verdict == "PASS"]
        found["shows"] = report.verdict == "FAIL" and runs.every_flip_shows(near, right)
        found["decided"] = found["shows"] or report.verdict == "PASS"
    if not found["decided"]:
        report, found["flips"], found["beyond"] = None, [], runs.beyond()
        found["decided"] = found["beyond"] > BEYOND
    found["runs"] = runs.made
    if report is None:
        report = judge(runs.undoubted, arrays) if found["decided"] else ambiguous
    report.details["searched"] = found
    return report


def _search(runs, judge, budget, found):
    """(the report where a set of turned decisions gives the dump, or None; whether all sets that are needed were tried)."""
    order, tried, queue = itertools.count(), {frozenset()}, [(0.0, 0, frozenset())]
    while queue:
        cost, _, turned = heapq.heappop(queue)
        if runs.made >= budget:
            return None, cost > NEEDED
        misfit, near = runs.run(turned)
        if turned and misfit <= 1:
            report = judge(runs.forced(turned), runs.theirs)
            if report.verdict == "PASS":
                found["flips"] = sorted(map(str, turned))
                return report, True
        for distance, decision in near:
            more = turned | {decision}
            if cost + distance <= REACH and more not in tried:
                tried.add(more)
                heapq.heappush(queue, (cost + distance, next(order), more))
    return None, True


def _sets(near, most):
    """The sums of all sets of these decisions that are needed, or of more than `most` of them."""
    sums = [0.0]
    for distance, _ in sorted(near):
        sums += [total + distance for total in sums if total + distance <= NEEDED]
        if len(sums) > most:
            break
    return sums


class _Runs:
    """Runs of the reference with turned decisions, or with random errors, compared with a dump."""

    def __init__(self, reference, theirs, unit):
        self.reference, self.theirs, self.unit, self.made = reference, theirs, unit, 0
        self.undoubted = replace(reference, margins={})  # nothing is excused
        self.problem, self.conventions = problem_of(reference), Conventions(**reference.conventions)
        v_th = reference.meta["v_th"]
        self.v_th = v_th if isinstance(v_th, dict) else {"": v_th}
        self.T = int(reference.meta["T"])
        self.neurons = sum(reference.arrays[array_name(block, "u")].size for block in self.v_th)
        self.size = {name: np.linalg.norm(reference.bounds[name]) * unit or np.finfo(float).tiny for name in theirs}

    def _compute(self, change):
        """Every array, where change(block, t, u) may change the potentials u of one timestep before they are tested."""
        blocks, calls = list(self.v_th), itertools.count()

        def fire(u, threshold):
            block, t = divmod(next(calls), self.T)
            if block < len(blocks):
                change(blocks[block], t, u)
            return fires(u, threshold, self.conventions.spike_test)

        self.made += 1
        module = variant((FIRE,), lambda copy: setattr(copy, "fire", fire))
        return self.problem.run(module, self.conventions)

    def run(self, turned):
        """(how far the dump is, 1 at the bounds' own size; [(squared distance, Decision)] of what may be turned as well)."""
        by_step = {}
        for decision in turned:
            by_step.setdefault((decision.block, decision.index[0]), []).append(decision)

        def change(block, t, u):
            for decision in by_step.get((block, t), ()):
                u[decision.index[1:]] = self._other_side(decision, float(u[decision.index[1:]]))

        self.arrays = self._compute(change)
        near = [found for block in self.v_th for found in self._near(block) if found[1] not in turned]
        misfit = max(np.linalg.norm(self.arrays[name] - array) / self.size[name] for name, array in self.theirs.items())
        return misfit, near

    def _other_side(self, decision, u):
        """The potential that is just across the edge."""
        v_th, test = self.v_th[decision.block], self.conventions.spike_test
        if decision.kind == "s":
            beside = np.nextafter(v_th, -np.inf if fires(u, v_th, test) else np.inf)
            return v_th if fires(v_th, v_th, test) != fires(u, v_th, test) else beside
        half = self.reference.arrays[array_name(decision.block, "width")][decision.index[0]] / 2
        return v_th + np.sign(u - v_th) * half * (1 + (1e-12 if abs(u - v_th) < half else -1e-12))

    def _near(self, block):
        """[(squared distance, Decision)] of a block's decisions that a right implementation may make otherwise."""
        bounds, u, v_th = self.reference.bounds, self.arrays[array_name(block, "u")], self.v_th[block]
        dtype = self.reference.meta.get("dtype", "float32")
        e_u, width = bounds[array_name(block, "u")], array_name(block, "width")
        error = (e_u + input_error(np.array(v_th), dtype)) * self.unit
        distances = {"s": np.divide(np.abs(u - v_th), error, out=np.full(u.shape, np.inf), where=error > 0)}
        if self.problem.surrogate in WINDOWED:
            distances["window"] = given_window(u, e_u, self.arrays[width], bounds[width], v_th, dtype) / self.unit
        return [
            (float(distance[tuple(index)]) ** 2, Decision(block, kind, tuple(map(int, index))))
            for kind, distance in distances.items()
            for index in np.argwhere(distance**2 <= REACH)
        ]

    def forced(self, turned):
        """The Reference of the last run, whose spikes and windows are decided."""
        spikes = {name: self.arrays[name] for name in self.reference.arrays if name.rpartition(".")[2] == "s"}
        windows = {}
        for decision in turned:
            if decision.kind == "window":
                name = array_name(decision.block, "u")
                windows.setdefault(name, np.zeros(self.arrays[name].shape, bool))[decision.index] = True
        return replace(force(self.reference, spikes, ("s",), windows)[0], margins={})

    def with_own_spikes(self, dtype, judge):
        """The report where no spike has flipped, and windows are as the gradients show them."""
        spikes = {name: array for name, array in self.reference.arrays.items() if name.rpartition(".")[2] == "s"}
        judged = force(self.reference, spikes, ("s",))[0]
        reports = decided(self.reference, judged, spikes, self.theirs, dtype, judge)
        report = reports[0] if reports else judge(judged, self.theirs)
        report.details["forced"] = []  # nothing of the dump
        return report

    def every_flip_shows(self, near, right):
        """Whether each of the nearest spikes in doubt, had it flipped, would put SHOWN of these arrays out of bounds."""
        spikes = {name: array for name, array in self.reference.arrays.items() if name.rpartition(".")[2] == "s"}
        r = NoRounding(self.reference.meta.get("dtype", "float32"))
        plain = replay_of(self.reference, spikes, {})(r)
        for _, decision in sorted(found for found in near if found[1].kind == "s")[:DRAWS]:
            name = array_name(decision.block, "s")
            turned = spikes[name].copy()
            turned[decision.index] = 1 - turned[decision.index]
            arrays = replay_of(self.reference, {**spikes, name: turned}, {})(r)
            allowed = {n: SAFETY * self.reference.bounds[n] * self.unit for n in right}
            if sum((np.abs(arrays[n] - plain[n]) > allowed[n]).any() for n in right) < SHOWN:
                return False
        return True

    def beyond(self):
        """How far the dump is from the nearest run with random errors, over the largest distance between such runs.

        Of the array where that is largest; in many dimensions runs are about as far from one another as from the right one.
        """
        rng, draws = np.random.default_rng(0), [self.reference.arrays]

        def change(block, t, u):
            u += rng.uniform(-SAFETY, SAFETY, u.shape) * self.reference.bounds[array_name(block, "u")][t] * self.unit

        for _ in range(DRAWS):
            arrays = self._compute(change)
            draws.append({name: arrays[name] for name in self.theirs})
        ratios = []
        for name, theirs in self.theirs.items():
            apart = max(np.linalg.norm(a[name] - b[name]) for a, b in itertools.combinations(draws, 2))
            ratios.append(min(np.linalg.norm(theirs - draw[name]) for draw in draws) / max(apart, self.size[name]))
        return float(max(ratios))
