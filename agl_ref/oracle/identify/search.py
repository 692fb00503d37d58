"""Which conventions reproduce an implementation's numbers: the search behind `agl-ref identify`.

    screen    every combination of the conventions that can matter is run by `agl_ref.reference` in float64, sharing
              the steps that are the same, and dropped at the first array that is not close to the implementation's
    confirm   the combinations that are left are judged by the engine's reference, within its bounds (confirm.py)
    explain   if there is none, the mutants are tried; if there are several, the golden cases that tell them
              apart are looked up

Nothing is guessed: what is reported was computed under those conventions and compared.
"""

import hashlib
import itertools
import math
import time
from dataclasses import replace
from functools import lru_cache

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.equations import SURROGATES
from agl_ref.oracle.mutants.table import LISTED, NOT_LISTED
from agl_ref.oracle.problems import FORWARD, CheckedValues, Implementation

from .identification import Identification
from .layouts import layouts, named_arrays
from .shared import shared_reference

SCREEN = {"float64": 1e-9, "float32": 2e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 0.1}  # of an array's magnitude
KEPT = 16  # forward passes that are remembered


class _Differs(Exception):
    """An array is not the implementation's."""

    def __init__(self, name, agreed):
        super().__init__(name)
        self.name, self.agreed = name, agreed  # of the array, and how many arrays before it agreed


class _Screen(CheckedValues):
    """Stops a computation at the first array that is not close to the implementation's.

    `before` has the arrays of the forward half, for the half that finishes it.
    """

    def __init__(self, theirs, tolerance, before=()):
        super().__init__(before)
        self.theirs, self.tolerance = theirs, tolerance
        self.agreed, self.worst, self.magnitude = 0, 0.0, lambda name: 0.0

    def check(self, name, array):
        if name not in self.theirs:
            return
        error, magnitude = np.max(np.abs(array - self.theirs[name])), np.max(np.abs(array), initial=0.0)
        if not error <= self.tolerance * magnitude:  # it may be 0 but for rounding
            magnitude = max(magnitude, self.magnitude(name))
        error /= max(magnitude, 1e-300)
        if not error <= self.tolerance:
            raise _Differs(name, self.agreed)
        self.agreed, self.worst = self.agreed + 1, max(self.worst, float(error))

    def digest(self):
        """A number that two computations share if all their arrays do."""
        mixed = hashlib.blake2b(digest_size=16)
        for array in self.values():
            mixed.update(np.ascontiguousarray(array).tobytes())
        return mixed.digest()


def relevant_values(problem, base, surrogate):
    """{field: values to try, the case's own first}, and {field: why it cannot matter here}."""
    reasons = problem.irrelevant(surrogate)
    values = {
        name: (getattr(base, name), *(v for v in allowed if v != getattr(base, name)))
        for name, allowed in Conventions.known_choices().items()
        if name not in reasons and name != "axis_order"
    }
    if "width" in values and problem.repeats_the_fixed_width(replace(base, width="2 V_th")):
        values["width"] = tuple(rule for rule in values["width"] if rule != "2 V_th" or rule == base.width)
    if "norm_scale" in reasons and "width" in values:  # without gamma the rules that follow it all give kappa = 1
        other = {"2 V_th"} if base.fixed_width == 1 else {"2 V_th", "fixed"}
        alike = [rule for rule in values["width"] if rule not in other][1:]
        values["width"] = tuple(rule for rule in values["width"] if rule not in alike)
    return values, {name: reason for name, reason in reasons.items() if name != "axis_order"}


def combinations(values, base):
    """Every Conventions of these values, those with the fewest differences from `base` first."""
    names = list(values)
    own = tuple(getattr(base, name) for name in names)
    choices = sorted(
        itertools.product(*values.values()),
        key=lambda choice: sum(a != b for a, b in zip(choice, own, strict=True)),
    )
    return [replace(base, **dict(zip(names, choice, strict=True))) for choice in choices]


class _Search:
    """Runs the reference and its mutants on one problem against one set of arrays."""

    def __init__(self, problem, theirs, base, dtype, surrogate):
        self.problem, self.theirs, self.base = problem, theirs, base
        self.tolerance, self.surrogate = SCREEN[dtype], surrogate
        # (arrays that agreed, minus differences from base), conventions, array that did not
        self.best = (-1, 0), None, None
        self.reference = shared_reference()
        self.shared_forward = lru_cache(KEPT)(self._forward)

    def matches(self, conventions):
        """The screen of a run of the reference if all of theirs are close, else None."""
        screen, _ = self._run(conventions)
        return screen if screen is not None and screen.agreed == len(self.theirs) else None

    def loss_is_close(self, conventions):
        """Whether what hangs on the forward half and the readout alone is close to theirs."""
        _, stopped_at = self._run(conventions)
        return stopped_at not in self.problem.of_loss()

    def forward_is_close(self, conventions):
        """Whether the forward half gives arrays close to theirs."""
        return self._run(conventions, whole=False)[1] is None

    def _run(self, conventions, whole=True):
        """(screen of a run of the reference, or of its forward half, None), or (None, the array at which it stops).

        The run that agreed longest is kept, and of several the one that the case's own conventions are closest to.
        """
        try:
            screen, state = self.shared_forward(self.reference, _forward_rules(conventions))
            return self._finish(self.reference, conventions, screen, state) if whole else screen, None
        except _Differs as stop:
            closest = stop.agreed, -len(conventions.differences(self.base))
            if closest > self.best[0]:
                self.best = closest, conventions, stop.name
            return None, stop.name

    def mutant_matches(self, module, conventions):
        """The same as `matches` for a mutant."""
        try:
            screen = self._finish(module, conventions, *self._forward(module, conventions))
        except _Differs:
            return None
        return screen if screen.agreed == len(self.theirs) else None

    def _forward(self, module, conventions):
        """(screen, what is left for the other half). The width belongs to that one."""
        early = {name: array for name, array in self.theirs.items() if not name.endswith("width")}
        screen = _Screen(early, self.tolerance)
        with np.errstate(all="ignore"):
            return screen, self.problem.forward(Implementation(module, conventions, self.surrogate), screen)

    def _finish(self, module, conventions, before, state):
        """The screen of a whole run, from that of its forward half."""
        screen = _Screen(self.theirs, self.tolerance, before)
        screen.agreed, screen.worst = before.agreed, before.worst
        screen.magnitude = lambda name: self.problem.magnitude(name, screen, state)
        with np.errstate(all="ignore"):
            self.problem.finish(Implementation(module, conventions, self.surrogate), state, screen)
        return screen


def _forward_rules(conventions):
    """The conventions with those of the other half as they are by default."""
    return Conventions(**{name: getattr(conventions, name) for name in FORWARD})


def search(problem, theirs, base, dtype, surrogate, confirm, seconds=60.0, layout=None):
    """The search itself: an Identification without distinguishing cases.

    Parameters
    ----------
    problem : see `agl_ref.oracle.problems`
    theirs : {name: ndarray}, the reference's names
    base : Conventions
        What the case asks for.
    dtype : str
        The implementation's.
    surrogate : str
    confirm : callable(Conventions, surrogate, arrays) -> bool
        Whether the reference under these gives the arrays within its bounds.
    seconds : float
        Combinations that would start later are left out, and counted.
    layout : str, optional
        Of the arrays; without it the axis order is one of the conventions.
    """
    shapes = _shapes(problem, base, surrogate)
    values, irrelevant = relevant_values(problem, base, surrogate)
    fitting = layouts(named_arrays(theirs, shapes, problem.inputs, problem.id), shapes, base.axis_order, layout)
    end = time.monotonic() + seconds
    runs = [_Search(problem, arrays, base, dtype, surrogate) for arrays in fitting.values()]
    every = math.prod(len(allowed) for allowed in values.values())
    matches, close, tried = [], [], 0
    for order, run in zip(fitting, runs, strict=True):
        found = _try(run, values, replace(base, axis_order=order), confirm, end)
        matches, close, tried = matches + found[0], close + found[1], tried + every - found[2]
    best = max((run.best for run in runs), key=lambda best: best[0])
    mutants = {} if matches else _mutants(runs, base)
    unknown = not matches and not mutants and not close
    return Identification(
        problem.id,
        base,
        tuple(matches),
        surrogate,
        problem.surrogate,
        _undecided(matches),
        irrelevant,
        close=() if matches else tuple(close),
        mutants=mutants,
        nearest=best[1] if unknown else None,
        stopped_at=best[2] if unknown else None,
        tried=tried,
        combinations=every * len(fitting),
    )


def _shapes(problem, base, surrogate):
    """{name: shape} of every array under some conventions: a gradient through kappa may reach a gamma of its own."""
    shapes = {}
    for conventions in (base, replace(base, width_gradient="flows")):
        with np.errstate(all="ignore"):
            arrays = problem.run(conventions=conventions, surrogate=surrogate)
        shapes.update({name: np.shape(array) for name, array in arrays.items()})
    return shapes


def _try(run, values, base, confirm, end):
    """(combinations that match, those that only come close, how many were left out at the time `end`)."""
    head = {name: values[name] for name in FORWARD if name in values}
    tail = {name: allowed for name, allowed in values.items() if name not in (*FORWARD, "readout")}
    alive = []
    for choice in itertools.product(*head.values()):
        start = replace(base, **dict(zip(head, choice, strict=True)))
        if run.forward_is_close(start):
            by_readout = [replace(start, readout=readout) for readout in values.get("readout", (base.readout,))]
            alive += [c for c in by_readout if run.loss_is_close(c)]
    every = [c for start in alive for c in combinations(tail, start)]
    every.sort(key=lambda conventions: len(conventions.differences(base)))
    confirmed, matches, close = {}, [], []
    for i, conventions in enumerate(every):
        if i and time.monotonic() > end:
            return matches, close, len(every) - i
        screened = run.matches(conventions)
        if screened is None:
            continue
        digest = screened.digest()
        if digest not in confirmed:  # the same arrays need no second look
            confirmed[digest] = confirm(conventions, run.surrogate, run.theirs)
        (matches if confirmed[digest] else close).append(conventions)
    return matches, close, 0


def search_surrogates(problem, theirs, base, dtype, confirm, seconds=60.0, layout=None):
    """`search` under the problem's own surrogate, and where nothing at all fits, under the others."""
    found = search(problem, theirs, base, dtype, problem.surrogate, confirm, seconds, layout)
    if found.verdict == "unknown" and "surrogate_scale" not in found.irrelevant:
        for surrogate in SURROGATES:
            other = search(problem, theirs, base, dtype, surrogate, confirm, seconds, layout)
            if surrogate != problem.surrogate and other.matches:
                return other
    return found


def _undecided(matches):
    """{field: the values that occur} for every field in which the matches differ."""
    by_field = {
        name: tuple(v for v in allowed if any(getattr(match, name) == v for match in matches))
        for name, allowed in Conventions.known_choices().items()
    }
    return {name: values for name, values in by_field.items() if len(values) > 1}


def _mutants(runs, base):
    """{id: effect} of the mutants that change something and come close to the arrays, the closest first."""
    found = {}
    for run in runs:
        right = run.matches(base)
        for mutant in filter(lambda mutant: mutant.fits, (*LISTED, *NOT_LISTED)):
            screened = run.mutant_matches(mutant.module, base)
            if screened is not None and (right is None or 10 * screened.worst < right.worst):
                found[mutant.id] = (screened.worst, mutant.effect)
    return {id: effect for id, (_, effect) in sorted(found.items(), key=lambda item: item[1][0])}
