"""The zoo: plausible bugs, each a Candidate with one rule wrong, and each convention's other values.

A test suite is as good as the bugs that it catches. Every mutant here is one that somebody made, or easily makes, when
writing kernels for spiking networks; `agl-ref selftest --mutants` shows which golden cases catch it. A mutant may be
right on some cases (a sum over one thread block is right with few neurons): that is why those cases are not enough.
"""

from dataclasses import dataclass, replace

import numpy as np

from ..conventions import MPD_AGL, Conventions
from . import bugs_layers  # noqa: F401  (enters its bugs into BUGS)
from .bugs import BUGS
from .candidate import Candidate


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

    def build(self, dtype=np.float64, conventions=MPD_AGL, surrogate="rectangular", **options):
        """The Candidate with this mutation, or None where the case's convention has that value already."""
        if self.kind == "bug":
            return BUGS[self.id](dtype, conventions, surrogate, **options)
        if getattr(conventions, self.field) == self.value:
            return None
        return Candidate(dtype, replace(conventions, **{self.field: self.value}), surrogate, **options)


def zoo():
    """All mutants: the bugs, then every value of every convention (for a case whose own value is another)."""
    bugs = [Mutant(name, " ".join(cls.__doc__.split())) for name, cls in BUGS.items()]
    conventions = [
        Mutant(f"convention:{field}={value}", f"{field} is {value!r}", "convention", field, value)
        for field, values in Conventions.choices().items()
        for value in values
    ]
    return bugs + conventions
