"""`identify` for a network of one's own, or a golden case: the search, confirmed within the engine's bounds."""

import math
from dataclasses import replace

from agl_ref import validate
from agl_ref.oracle.cases.registry import definition
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.judge.dump import LAYOUTS
from agl_ref.oracle.problems import Problem, problem_of_case

from .distinguishing_cases import cases_that_distinguish
from .layouts import dtype_of
from .search import search_surrogates

# A quarter of the usual replays, and the share of their bounds that is enough for a match then; or the usual ones.
CONFIRM = ({"replays": 12}, 0.5), ({}, math.inf)


def identify(net, x, labels, theirs, dtype=None, loss="ce", training=True, seconds=60.0, layout=None, dlogits=None):
    """The conventions under which the reference gives an implementation's numbers, for a network of one's own.

    Parameters
    ----------
    net : Network
        The same network with the same parameters.
    x : ndarray (T, N, *input_shape)
    labels : integer array (N,)
        Or None, with `dlogits`.
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
    dlogits : ndarray (T, N, K), optional
        As for `agl_ref.oracle.reference`.

    Returns
    -------
    Identification

    Raises
    ------
    ValueError, TypeError
        For unknown names, wrong shapes, values that are not finite.
    """
    from agl_ref.engine.network import Network  # here for a quick start: the mutants and the figures need no engine
    from agl_ref.oracle.bounds.reference import reference as reference_of
    from agl_ref.oracle.bounds.reference import target_of

    target_of(net, x, labels, loss, dlogits)
    validate.boolean("training", training)
    validate.number("seconds", seconds, low=0)
    validate.one_of("layout", layout, (None, *LAYOUTS))
    problem = Problem.of_network(net, x, labels, loss, training, dlogits)
    dtype = dtype_of(theirs, dtype)

    def confirm(conventions, surrogate, arrays):
        other = Network(net.layers, net.input_shape, conventions, surrogate)
        return _within_bounds(
            lambda **few: reference_of(other, x, labels, loss, training, dlogits=dlogits, **few), arrays, dtype
        )

    return with_cases(search_surrogates(problem, theirs, net.conventions, dtype, confirm, seconds, layout))


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
    from agl_ref.oracle.bounds.reference import reference_of_case  # for a quick start, as above

    case = definition(case)
    problem = problem_of_case(case)
    dtype = dtype_of(theirs, dtype)

    def confirm(conventions, surrogate, arrays):
        meta = {**case.meta, "surrogate": surrogate}
        same = conventions == case.conventions and surrogate == problem.surrogate
        tier = case.tier if same else 3  # what is exact under one convention need not be under another
        other = replace(case, conventions=conventions, meta=meta, tier=tier)
        return _within_bounds(lambda **few: reference_of_case(other, **few), arrays, dtype)

    return with_cases(search_surrogates(problem, theirs, case.conventions, dtype, confirm, seconds, layout))


def _within_bounds(reference_of, arrays, dtype):
    """Whether the arrays are within the bounds of `reference_of()`; a few replays do where they are well within."""
    for few, enough in CONFIRM:
        report = compare(reference_of(**few), arrays, dtype=dtype, guess=False)
        if report.verdict == "PASS" and max(report.details["worst"].values()) <= enough:
            return True
    return False


def with_cases(found):
    """The same with the golden cases that tell the matches apart."""
    wrong = {name: pair[1] for name, pair in found.wrong.items()}
    cases = {name: cases_that_distinguish(name, values, wrong) for name, values in found.undecided.items()}
    return replace(found, distinguishing_cases=cases)
