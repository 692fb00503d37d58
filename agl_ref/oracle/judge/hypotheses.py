"""Which single wrong rule gives the arrays that failed: every mutant is run on the case and compared. NumPy alone.

A rule is named only if it gives the first array that failed, all elements of it, within rounding. If it gives the later
arrays too, it is the whole story; if not, there is more than one fault, and it is the first.
"""

import time

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.equations import CONVENTION_NAMES
from agl_ref.oracle.mutants.table import BLOCKS, CONVENTIONS, LISTED, NOT_LISTED, one_block
from agl_ref.oracle.problems import CheckedValues, Implementation, problem_of

from .dump import LAYOUTS

LARGEST = 2_000_000  # values in a reference; more take too long for a guess
SECONDS = 5.0  # of this thread's own time, so that a busy machine does not change a report
NAMED = 3  # rules that give the same arrays; more are no answer
EVIDENCE = 3  # wrong elements of an activation that a rule must explain; one or two fit too many rules
_SLACK = 8  # in units of the reference's bounds, which were derived for the right rule
_ULPS = 256  # of an array's magnitude, where the reference is exact and the wrong rule is not


class _Stop(Exception):
    """A mutant's array is not the implementation's."""


class _Given:
    """The implementation's arrays, and how near a mutant's must be to count as the same."""

    def __init__(self, reference, arrays, tolerance, unit, first):
        self.reference, self.arrays, self.first = reference, arrays, first
        self.tolerance, self.unit = tolerance, unit
        self.names = [name for name in reference.arrays if name in arrays]
        self.early = self.names[: self.names.index(first) + 1]

    def agrees(self, name, array):
        """Whether a mutant's array is the implementation's, and clearly nearer to it than the reference's is."""
        theirs, ours = self.arrays[name], self.reference.arrays[name]
        array = np.asarray(array, np.float64)
        if array.shape != theirs.shape:
            return False
        error = np.abs(array - theirs)
        magnitude = np.max(np.abs(theirs), initial=0.0)
        if not (error <= _SLACK * self.tolerance[name] + _ULPS * self.unit * magnitude).all():
            return False
        off = np.abs(ours - theirs) > self.tolerance[name]
        return bool((10 * error[off] <= np.abs(ours - theirs)[off]).all())

    def score(self, problem, module, conventions):
        """How many arrays agree, or None if one up to the first failure does not."""
        values = _Checked(self)
        implementation = Implementation(module, conventions, problem.surrogate)
        try:
            with np.errstate(all="ignore"):
                problem.finish(implementation, problem.forward(implementation, values), values)
        except _Stop:
            return None
        if self.first not in values:
            return None
        agreeing = [name for name in self.names if name in values and self.agrees(name, values[name])]
        return len(agreeing), next((name for name in self.names if name not in agreeing), None)


class _Checked(CheckedValues):
    """Stops a wrong rule at the first array, up to the first failure, that is not the implementation's."""

    def __init__(self, given):
        super().__init__()
        self.given = given

    def check(self, name, array):
        if name in self.given.early and not self.given.agrees(name, array):
            raise _Stop


def explain(reference, arrays, tolerance, unit, first, layout="TN..C"):
    """The wrong rules that give these arrays, as a sentence, or None.

    Parameters
    ----------
    reference : Reference
    arrays, tolerance : {name: ndarray}
        The implementation's, and what the comparison allowed.
    unit : float
        Unit roundoff of the dtype.
    first : str
        Name of the first array that failed.
    layout : str
        In which the arrays were given.
    """
    turned = _other_layout(reference, arrays, tolerance, layout)
    if turned:
        return turned
    if sum(a.size for a in reference.arrays.values()) > LARGEST or not reference.inputs:
        return None
    wrong = np.abs(arrays[first] - reference.arrays[first]) > tolerance[first]
    if wrong.ndim > 1 and np.count_nonzero(wrong) < EVIDENCE:
        return None
    given, problem = _Given(reference, arrays, tolerance, unit, first), problem_of(reference)
    conventions, end = Conventions(**reference.conventions), time.thread_time() + SECONDS
    found = []
    for text, mutant in _hypotheses(problem, conventions, first):
        if time.thread_time() > end:
            return None  # what was not tried might explain more
        rules = mutant.rules(conventions)
        score = None if rules is None else given.score(problem, mutant.module, rules)
        if score is not None:
            found.append((*score, text))
    if not found:
        return None
    most = max(agreeing for agreeing, _, _ in found)
    texts = [text for agreeing, _, text in found if agreeing == most]
    if len(texts) > NAMED:
        return None
    beyond = next(beyond for agreeing, beyond, _ in found if agreeing == most)
    more = (
        f"; that does not give {beyond}: there is more than one fault, or a spike flips in rounding" if beyond else ""
    )
    return ", or: ".join(texts) + more


def _hypotheses(problem, conventions, first):
    """(sentence, Mutant); conventions before the wrong rules that equal them."""
    irrelevant = problem.irrelevant()
    for mutant in CONVENTIONS:
        if mutant.field != "axis_order" and mutant.field not in irrelevant:
            own, what = getattr(conventions, mutant.field), CONVENTION_NAMES[mutant.field]
            yield f"conventions.{mutant.field} is {mutant.value!r} where the case has {own!r} ({what})", mutant
    sums = [one_block(size) for size in BLOCKS] if first.startswith("grad_") else []
    for mutant in (*LISTED, *NOT_LISTED, *sums):
        if mutant.fits:
            yield lowered(mutant.effect.rstrip(".")), mutant


def _other_layout(reference, arrays, tolerance, layout):
    """All arrays are right with the first two axes exchanged, which T = N lets no shape show."""
    turned = {name: a.swapaxes(0, 1) if a.ndim > 2 and not name.endswith("weight") else a for name, a in arrays.items()}
    same = all(a.shape == arrays[name].shape for name, a in turned.items())
    if same and all((np.abs(a - reference.arrays[name]) <= tolerance[name]).all() for name, a in turned.items()):
        other = f"{'TN' if layout.startswith('NT') else 'NT'}{layout[2:]}"
        if other in LAYOUTS:
            return f"the arrays are in the layout {other}, in which all of them are right: pass --layout {other}"
    return None


def lowered(text):
    """A sentence's beginning inside another; names keep their capitals."""
    first = text.split()[0]
    return text if any(letter.isupper() for letter in first[1:]) else text[0].lower() + text[1:]
