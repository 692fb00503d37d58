"""Which golden cases kill each mutant: its arrays are judged as any implementation's are, and are refused or FAIL.

A test suite is as good as the mutants that it kills. AMBIGUOUS is no kill. `agl-ref selftest --mutants` prints the table.
"""

from typing import NamedTuple

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.cases.registry import definition
from agl_ref.oracle.identify.confirm import identify_case
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.problems import problem_of, problem_of_case

ENOUGH = 3  # golden cases that are named for each mutant


class Kill(NamedTuple):
    """One golden case that catches a mutant: the array where it shows first, and how."""

    case: str
    array: str
    how: str  # "FAIL", or "refused" for values and shapes that no right implementation has


def judged(reference, arrays, dtype="float32"):
    """How a dump of this case is judged: (verdict or "refused", the array where it shows first)."""
    known = {name: array for name, array in arrays.items() if name in reference.arrays}
    try:
        report = compare(reference, known, dtype=dtype, guess=False)
    except (ValueError, TypeError) as error:
        return "refused", str(error).partition(":")[0]
    first = report.details.get("first_failure") or report.first_divergence
    if first is None:  # all is right, or spikes contradict the potentials beside them
        return report.verdict, report.details.get("contradiction", {}).get("name", "")
    return report.verdict, first["name"]


def kills(mutant, references, enough=ENOUGH):
    """The golden cases that kill a mutant, in the order of `references`.

    Parameters
    ----------
    mutant : Mutant
    references : iterable of Reference
    enough : int or None
        Stop at this many.

    Returns
    -------
    list of Kill
    """
    found, dtype = [], mutant.shows_in
    for reference in references:
        problem, conventions = problem_of(reference), Conventions(**reference.conventions)
        arrays = mutant.dump(problem, conventions, np.dtype(dtype))
        if arrays is None:
            continue
        how, array = judged(reference, arrays, dtype)
        if how in ("FAIL", "refused"):
            found.append(Kill(reference.id, array, how))
        if enough is not None and len(found) == enough:
            break
    return found


def names_the_rule(mutant, case):
    """Whether `identify` finds this convention's value, and no other, in the mutant's dump of a golden case."""
    own = definition(case)
    found = identify_case(case, mutant.dump(problem_of_case(own), own.conventions), "float32")
    return found.wrong.get(mutant.field) == (getattr(own.conventions, mutant.field), mutant.value)
