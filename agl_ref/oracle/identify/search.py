"""Which conventions reproduce an implementation's numbers: the search behind `agl-ref identify`.

    screen    every combination of the conventions that can matter is run by the NumPy candidate in float64, sharing
              forward passes, and dropped at the first array that is not close to the implementation's
    confirm   the combinations that are left are judged by the reference itself, within its bounds
    explain   if there is none, the known bugs are tried; if there are several, the golden cases that tell them
              apart are looked up

Nothing is guessed: what is reported was computed under those conventions and compared.
"""

import itertools
import math
import time
from collections import OrderedDict
from dataclasses import replace

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.mutants.candidate import Candidate
from agl_ref.oracle.mutants.registry import zoo
from agl_ref.oracle.mutants.slips import SLIPS, slip_effect, slip_name
from agl_ref.oracle.problems import FORWARD, NetworkProblem, case_inputs, problem_of

from .identification import Identification
from .layouts import dtype_of, layouts, named_arrays

SCREEN = {"float64": 1e-9, "float32": 2e-4, "tf32": 2e-2, "float16": 2e-2, "bfloat16": 0.1}  # of an array's magnitude
SURROGATES = ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")
KEPT = 16  # forward passes that are remembered


class _Differs(Exception):
    """The candidate's array is not the implementation's; holds the array's name."""


class _Screen:
    """Stops a candidate at the first array that is not close to the implementation's."""

    def __init__(self, theirs, dtype):
        self.theirs, self.tolerance = theirs, SCREEN[dtype]
        self.agreed, self.worst = 0, 0.0

    def __call__(self, name, array, magnitude):
        if name not in self.theirs:
            return
        error = np.max(np.abs(array - self.theirs[name])) / max(magnitude, 1e-300)
        if not error <= self.tolerance:
            raise _Differs(name)
        self.agreed, self.worst = self.agreed + 1, max(self.worst, float(error))


def relevant_values(problem, base, surrogate):
    """{field: values to try, the case's own first}, and {field: why it cannot matter here}."""
    reasons = problem.irrelevant(surrogate)
    values = {
        name: (getattr(base, name), *(v for v in allowed if v != getattr(base, name)))
        for name, allowed in Conventions.known_choices().items()
        if name not in reasons and name != "axis_order"
    }
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
    """Runs candidates on one problem against one set of arrays."""

    def __init__(self, problem, theirs, dtype, surrogate):
        self.problem, self.theirs, self.dtype, self.surrogate = problem, theirs, dtype, surrogate
        self.forwards = OrderedDict()  # {forward conventions: (arrays that agreed, state)}, the last few
        self.refused = set()  # (forward conventions, readout) whose loss is not theirs
        self.best = (-1, None, None)  # arrays that agreed, the conventions, the first array that did not

    def matches(self, conventions, ops=None):
        """(digest of the candidate's arrays, largest error) if all of theirs are close, else None."""
        own = ops is None
        ops = Candidate(np.float64, conventions, self.surrogate) if own else ops
        key = tuple(getattr(conventions, name) for name in FORWARD)
        if own and (key, conventions.readout) in self.refused:
            return None
        screen = _Screen(self.theirs, self.dtype)
        try:
            with np.errstate(all="ignore"):
                state = self._forward(key if own else None, ops, screen)
                digest = self.problem.finish(ops, state, screen)
        except _Differs as stop:
            if own and screen.agreed > self.best[0]:
                self.best = (screen.agreed, conventions, str(stop))
            if own and str(stop) in self.problem.of_loss():
                self.refused.add((key, conventions.readout))
            return None
        return (digest, screen.worst) if screen.agreed == len(self.theirs) else None

    def _forward(self, key, ops, screen):
        if key in self.forwards:
            screen.agreed, state = self.forwards[key]
            return state
        state = self.problem.forward(ops, screen)
        if key is not None:
            self.forwards[key] = screen.agreed, state
            if len(self.forwards) > KEPT:
                self.forwards.popitem(last=False)
        return state

    def forward_is_close(self, conventions):
        """Whether the forward half gives arrays close to theirs."""
        screen = _Screen(self.theirs, self.dtype)
        ops = Candidate(np.float64, conventions, self.surrogate)
        try:
            with np.errstate(all="ignore"):
                self._forward(tuple(getattr(conventions, name) for name in FORWARD), ops, screen)
        except _Differs as stop:
            if screen.agreed > self.best[0]:
                self.best = (screen.agreed, conventions, str(stop))
            return False
        return True


def search(problem, theirs, base, dtype, surrogate, confirm, seconds=60.0, layout=None):
    """The search itself: an Identification without tellers.

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
    runs = [_Search(problem, arrays, dtype, surrogate) for arrays in fitting.values()]
    every = math.prod(len(allowed) for allowed in values.values())
    matches, close, tried = [], [], 0
    for order, run in zip(fitting, runs, strict=True):
        found = _try(run, values, replace(base, axis_order=order), confirm, end)
        matches, close, tried = matches + found[0], close + found[1], tried + every - found[2]
    best = max((run.best for run in runs), key=lambda best: best[0])
    bugs = {} if matches else _bugs(runs, base, surrogate)
    unknown = not matches and not bugs and not close
    return Identification(
        problem.id,
        base,
        tuple(matches),
        surrogate,
        problem.surrogate,
        _undecided(matches),
        irrelevant,
        close=() if matches else tuple(close),
        bugs=bugs,
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
            arrays = problem.run(Candidate(np.float64, conventions, surrogate))
        shapes.update({name: np.shape(array) for name, array in arrays.items()})
    return shapes


def _try(run, values, base, confirm, end):
    """(combinations that match, those that only come close, how many were left out at the time `end`)."""
    head = {name: allowed for name, allowed in values.items() if name in FORWARD}
    tail = {name: allowed for name, allowed in values.items() if name not in FORWARD}
    alive = [c for c in combinations(head, base) if run.forward_is_close(c)]
    every = [c for start in alive for c in combinations(tail, start)]
    every.sort(key=lambda conventions: len(conventions.differences(base)))
    confirmed, matches, close = {}, [], []
    for i, conventions in enumerate(every):
        if i and time.monotonic() > end:
            return matches, close, len(every) - i
        screened = run.matches(conventions)
        if screened is None:
            continue
        if screened[0] not in confirmed:  # the same arrays need no second look
            confirmed[screened[0]] = confirm(conventions, run.surrogate, run.theirs)
        (matches if confirmed[screened[0]] else close).append(conventions)
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


def _bugs(runs, base, surrogate):
    """{bug: effect} of the known bugs that change something and come close to the arrays, the closest first."""
    known = {mutant.id: (mutant.effect, mutant.build) for mutant in zoo() if mutant.kind == "bug"}
    known.update({slip_name(cls): (slip_effect(cls), cls) for cls in SLIPS})
    found = {}
    for run in runs:
        right = run.matches(base)
        for name, (effect, build) in known.items():
            screened = run.matches(base, build(np.float64, base, surrogate))
            if screened is not None and (right is None or 10 * screened[1] < right[1]):
                found[name] = (screened[1], effect)
    return {name: effect for name, (_, effect) in sorted(found.items(), key=lambda item: item[1][0])}


def identify(net, x, labels, theirs, dtype=None, loss="ce", training=True, seconds=60.0, layout=None):
    """The conventions under which the reference gives an implementation's numbers, for a network of one's own.

    Parameters
    ----------
    net : Network
        The same network with the same parameters.
    x : ndarray (T, N, *input_shape)
    labels : integer array (N,)
    theirs : {name: ndarray}
        Gradients by parameter name, and any of the oracle's other arrays; the more, the faster and the more certain.
    dtype : str, optional
        In which the implementation computed; by default that of its arrays.
    loss : {"ce", "tet"}
    training : bool
    seconds : float
        Time after which no further combination is tried; `tried` and `combinations` say how many were.
    layout : {"TN..C", "NT..C", "TNC..", "NTC.."}, optional
        Of `theirs`; without it the axis order is one of the conventions that are looked for.

    Returns
    -------
    Identification

    Raises
    ------
    ValueError, TypeError
        For unknown names, wrong shapes, values that are not finite.
    """
    from agl_ref.engine.network import Network
    from agl_ref.oracle.bounds.reference import reference
    from agl_ref.oracle.judge.compare import compare

    problem = NetworkProblem.of_network(net, x, labels, loss, training)
    dtype = dtype_of(theirs, dtype)

    def confirm(conventions, surrogate, arrays):
        other = Network(net.layers, net.input_shape, conventions, surrogate)
        return compare(reference(other, x, labels, loss, training), arrays, dtype=dtype, guess=False).verdict == "PASS"

    return with_tellers(search_surrogates(problem, theirs, net.conventions, dtype, confirm, seconds, layout))


def identify_case(case, theirs, dtype=None, seconds=60.0, layout=None):
    """The conventions under which the reference gives an implementation's numbers, for a golden case.

    Parameters
    ----------
    case : str
        Its id.
    theirs : {name: ndarray}
    dtype, seconds, layout
        As for `identify`.

    Returns
    -------
    Identification
    """
    from agl_ref.oracle.bounds.reference import reference_of_case
    from agl_ref.oracle.cases.registry import definition
    from agl_ref.oracle.judge.compare import compare

    case = definition(case)
    problem = problem_of(case_inputs(case))
    dtype = dtype_of(theirs, dtype)

    def confirm(conventions, surrogate, arrays):
        meta = {**case.meta, "surrogate": surrogate}
        same = conventions == case.conventions and surrogate == problem.surrogate
        tier = case.tier if same else 3  # what is exact under one convention need not be under another
        other = replace(case, conventions=conventions, meta=meta, tier=tier)
        return compare(reference_of_case(other), arrays, dtype=dtype, guess=False).verdict == "PASS"

    return with_tellers(search_surrogates(problem, theirs, case.conventions, dtype, confirm, seconds, layout))


def with_tellers(found):
    """The same with the golden cases that tell the matches apart."""
    from .distinguishing_cases import telling_cases

    wrong = {name: pair[1] for name, pair in found.wrong.items()}
    tellers = {name: telling_cases(name, values, wrong) for name, values in found.undecided.items()}
    return replace(found, tellers=tellers)
