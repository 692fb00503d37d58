"""Which golden cases tell two values of a convention apart: those where the reference's arrays differ between them."""

from dataclasses import replace
from functools import cache

import numpy as np

from agl_ref.oracle.cases.registry import definitions
from agl_ref.oracle.problems import problem_of_case

APART = 1e-3  # of an array's magnitude: far above any float32 rounding
ENOUGH = 3  # cases that are named


def arrays_differ(problem, first, second, surrogate):
    """Whether the two conventions give different arrays on a problem (also where only one of them is NaN)."""
    with np.errstate(all="ignore"):
        one, other = (problem.run(conventions=conventions, surrogate=surrogate) for conventions in (first, second))
    if set(one) != set(other):
        return True
    for name, array in one.items():
        magnitude = max(np.max(np.abs(array), initial=0.0), np.max(np.abs(other[name]), initial=0.0))
        if not np.max(np.abs(array - other[name]), initial=0.0) <= APART * magnitude:
            return True
    return False


@cache
def _golden():
    """(problem, Conventions) of the golden cases, small ones first."""
    known = [case for case in definitions().values() if "withdrawn" not in case.flags]
    found = [(problem_of_case(case), case.conventions) for case in known]
    return sorted(found, key=lambda pair: (sum(np.size(a) for a in pair[0].inputs.values()), pair[0].id))


def cases_that_distinguish(field, values, wrong, golden=None):
    """Ids of stored cases on which all of a field's values give different arrays, three at most.

    Parameters
    ----------
    field : str
        Of Conventions.
    values : tuple
    wrong : {field: value}
        In what the implementation is known to differ from the cases.
    golden : list of (problem, Conventions), optional
        The stored cases by default.
    """
    if field == "axis_order":  # a matter of layout: any case whose axes have different lengths
        return ()
    ids = []
    for problem, own in _golden() if golden is None else golden:
        if field in problem.irrelevant():
            continue
        differing = [replace(own, **wrong, **{field: value}) for value in values]
        pairs = zip(differing[:-1], differing[1:], strict=True)
        if all(arrays_differ(problem, a, b, problem.surrogate) for a, b in pairs):
            ids.append(problem.id)
        if len(ids) == ENOUGH:
            break
    return tuple(ids)
