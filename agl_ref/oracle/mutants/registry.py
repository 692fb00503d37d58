"""The zoo: plausible bugs and every convention's other values, and the golden cases that kill each of them.

A test suite is as good as the bugs that it catches. Every mutant here is one that somebody made, or easily makes, when
writing kernels for spiking networks; `agl-ref selftest --mutants` shows which golden cases kill it: the mutant's arrays are
judged as any implementation's are, and are refused or FAIL. AMBIGUOUS is no kill.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import MPD_AGL, Conventions
from agl_ref.interop.layouts import to_layout
from agl_ref.oracle.problems import problem_of

from . import bugs_layers  # noqa: F401  (enters its bugs into BUGS)
from .bugs import BUGS
from .candidate import Candidate

ENOUGH = 3  # golden cases that are named for each mutant


@dataclass(frozen=True)
class Mutant:
    """One wrong implementation.

    Attributes
    ----------
    id : str
        Permanent.
    effect : str
        What is wrong, in a line.
    kind : {"bug", "convention"}
    field, value : str or None
        For a convention: the field of Conventions, and the value that stands in place of the case's own.
    """

    id: str
    effect: str
    kind: str = "bug"
    field: str | None = None
    value: str | None = None

    @property
    def dtype(self):
        """The dtype in which it is judged: float32, or the one that a bug needs to show."""
        return getattr(BUGS.get(self.id), "shows_in", "float32")

    def build(self, dtype=np.float64, conventions=MPD_AGL, surrogate="rectangular", **options):
        """The Candidate with this mutation, or None where the case's convention has that value already."""
        if self.kind == "bug":
            return BUGS[self.id](dtype, conventions, surrogate, **options)
        if getattr(conventions, self.field) == self.value:
            return None
        return Candidate(dtype, replace(conventions, **{self.field: self.value}), surrogate, **options)

    def dump(self, problem, conventions, dtype=np.float32, **options):
        """{name: array} that this implementation would dump for a problem, or None as for `build`."""
        ops = self.build(dtype, conventions, problem.surrogate, **options)
        if ops is None:
            return None
        with np.errstate(all="ignore"):
            arrays = problem.run(ops)
        if self.field != "axis_order":
            return arrays
        turned = {name: a for name, a in arrays.items() if a.ndim >= 3 and not name.endswith("weight")}
        return {**arrays, **{name: to_layout(a, self.value) for name, a in turned.items()}}


class Kill(NamedTuple):
    """One golden case that catches a mutant: the array where it shows first, and how."""

    case: str
    array: str
    how: str  # "FAIL", or "refused" for values and shapes that no right implementation has


def zoo():
    """All mutants: the bugs, then every value of every convention (for the cases whose own value is another)."""
    bugs = [Mutant(name, " ".join(cls.__doc__.split())) for name, cls in BUGS.items()]
    conventions = [
        Mutant(f"convention:{field}={value}", f"{field} is {value!r}", "convention", field, value)
        for field, values in Conventions.known_choices().items()
        for value in values
        if value != "TN..C"  # the layout that every golden case has
    ]
    return bugs + conventions


def judged(reference, arrays, dtype="float32"):
    """How a dump of this case is judged: (verdict or "refused", the array where it shows first)."""
    from agl_ref.oracle.judge.compare import compare

    known = {name: array for name, array in arrays.items() if name in reference.arrays}
    try:
        report = compare(reference, known, dtype=dtype, guess=False)
    except (ValueError, TypeError) as error:
        return "refused", str(error).partition(":")[0]
    first = next((name for name, verdict in report.verdicts.items() if verdict == report.verdict), "")
    return report.verdict, first


def kills(mutant, references, dtype=None, enough=ENOUGH):
    """The golden cases that kill a mutant, in the order of `references`.

    Parameters
    ----------
    mutant : Mutant
    references : iterable of Reference
    dtype : {"float32", "float64"}, optional
        In which the mutant computes; by default its own, `Mutant.dtype`.
    enough : int or None
        Stop at this many.

    Returns
    -------
    list of Kill
    """
    found, dtype = [], dtype or mutant.dtype
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


def names_the_rule(mutant, case, dtype="float32"):
    """Whether `identify` finds this convention's value, and no other, in the mutant's dump of a golden case."""
    from agl_ref.oracle.cases.registry import definition
    from agl_ref.oracle.identify.search import identify_case
    from agl_ref.oracle.problems import case_inputs

    own = definition(case)
    arrays = mutant.dump(problem_of(case_inputs(own)), own.conventions, np.dtype(dtype))
    found = identify_case(case, arrays, dtype)
    return found.wrong.get(mutant.field) == (getattr(own.conventions, mutant.field), mutant.value)
