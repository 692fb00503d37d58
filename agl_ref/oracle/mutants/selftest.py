"""Do the golden cases pass what is right and kill what is wrong: `agl-ref selftest`."""

from dataclasses import dataclass, field
from functools import cache
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.cases.vectors import cases, load_case
from agl_ref.oracle.equations import equations_of, in_words
from agl_ref.oracle.problems import problem_of

from .registry import judged, kills, names_the_rule
from .summation import ORDERS
from .table import mutants as every_mutant
from .truncations import faults, survivors
from .variants import ONE_PASS, variant

EXAMPLES = 3  # cases that are named of those on which a broken reference.py goes wrong alike
CORRECT = [
    (dtype, order, one_pass)
    for dtype in ("float32", "float64")
    for order in ORDERS
    for one_pass in ((False, True) if order in ("blas", "blocks") else (False,))
]


class Alarm(NamedTuple):
    """A correct implementation that does not pass: the array where it shows first, and the equations behind that."""

    case: str
    verdict: str
    array: str
    equations: tuple  # their numbers, the likeliest first
    how: str  # its dtype and order of summation; nothing where it is reference.py as it stands

    def __str__(self):
        rule, how = f": {in_words(self.equations)}" if self.equations else "", f" ({self.how})" if self.how else ""
        return f"{self.case}: {self.verdict} at {self.array}{rule}{how}"


@dataclass(frozen=True)
class Row:
    """One mutant's line: the golden cases that kill it (three at most), and whether identify names its rule."""

    id: str
    kind: str
    effect: str
    kills: list
    named: bool | None

    @property
    def good(self):
        """Killed, and named if it is a convention."""
        return bool(self.kills) and self.named is not False

    @property
    def killers(self):
        """The cases in Markdown."""
        return ", ".join(f"`{kill.case}`" for kill in self.kills) or "**nothing**"

    @property
    def whether_named(self):
        """The same of `named`: nothing where it is no convention."""
        return {None: "", True: "yes", False: "**no**"}[self.named]


@dataclass
class Selftest:
    """What `selftest` found.

    Attributes
    ----------
    cases, runs : int
        Golden cases, and correct implementations' runs on them.
    alarms : list of Alarm
        Correct runs that were not passed: there should be none.
    rows : list of Row
        One for each mutant, if they were asked for.
    beyond : list of str or None
        Faults that show beyond a size only (`truncations`) and that no case by size kills: there should be none.
    broken : bool
        Whether the alarms are those of reference.py as it stands; then nothing else was tried.
    """

    cases: int
    runs: int
    alarms: list = field(default_factory=list)
    rows: list = field(default_factory=list)
    beyond: list | None = None
    broken: bool = False

    @property
    def good(self):
        """Nothing right was refused, and nothing wrong survived."""
        return self.runs > 0 and not self.alarms and not self.beyond and all(row.good for row in self.rows)

    def to_json(self):
        """The same as a dict that JSON can hold."""
        rows = [
            {"id": r.id, "kind": r.kind, "effect": r.effect, "named": r.named, "kills": [k._asdict() for k in r.kills]}
            for r in self.rows
        ]
        alarms = [str(alarm) for alarm in self.alarms]
        return {"good": self.good, "cases": self.cases, "runs": self.runs, "false_alarms": alarms, "mutants": rows,
                "beyond_a_size": self.beyond}  # fmt: skip

    def text(self):
        """For a terminal."""
        lines = [f"{self.runs} correct runs on {self.cases} cases: {len(self.alarms)} false alarms"]
        if self.broken:
            return "\n".join(self._broken())
        lines += [f"  {alarm}" for alarm in self.alarms]
        if self.rows:
            survived = [row.id for row in self.rows if not row.kills]
            unnamed = [row.id for row in self.rows if row.named is False]
            conventions = sum(row.named is not None for row in self.rows)
            width = max(len(row.id) for row in self.rows)
            for row in self.rows:
                lines.append(f"  {row.id:<{width}}  {', '.join(kill.case for kill in row.kills) or 'SURVIVED'}")
            lines.append(
                f"{len(self.rows) - len(survived)} of {len(self.rows)} mutants killed; identify named the rule of "
                f"{conventions - len(unnamed)} of {conventions} conventions"
            )
            lines += [f"survived: {', '.join(survived)}"] if survived else []
            lines += [f"not named: {', '.join(unnamed)}"] if unnamed else []
        if self.beyond is not None:
            killed = len(faults()) - len(self.beyond)
            lines.append(
                f"{killed} of {len(faults())} faults that show beyond 32 values only are killed by cases by size"
            )
            lines += [f"survived: {', '.join(self.beyond)}"] if self.beyond else []
        return "\n".join(lines)

    def _broken(self):
        """Lines on a reference.py that is wrong: alarms with the same likeliest equation have one, with what they share."""
        yield f"reference.py is wrong on {len(self.alarms)} of {self.cases} golden cases. Where it goes wrong first:"
        groups = {}
        for alarm in self.alarms:
            groups.setdefault(alarm.equations[:1], []).append(alarm)
        for alike in sorted(groups.values(), key=len, reverse=True):
            shared = [number for number in alike[0].equations if all(number in alarm.equations for alarm in alike)]
            examples = ", ".join(f"{alarm.case} ({alarm.verdict} at {alarm.array})" for alarm in alike[:EXAMPLES])
            more = f" and {len(alike) - EXAMPLES} more" if alike[EXAMPLES:] else ""
            yield f"  {in_words(shared) or 'another array'}: {examples}{more}"

    def markdown(self, brief=False):
        """The table of mutants for the oracle's page; the brief one has a row for each set of golden cases that kill."""
        if not brief:
            head = [
                "| mutant | what is wrong | killed by, among others | named by `identify` |",
                "| --- | --- | --- | --- |",
            ]
            rows = [
                f"| `{row.id}` | {row.effect.rstrip('.')} | {row.killers} | {row.whether_named} |" for row in self.rows
            ]
            return "\n".join(head + rows)
        groups = {}
        for row in self.rows:
            groups.setdefault((row.killers, row.whether_named), []).append(f"`{row.id.removeprefix('convention:')}`")
        head = ["| wrong implementation | killed by, among others | rule named |", "| --- | --- | --- |"]
        return "\n".join(head + [f"| {', '.join(ids)} | {' | '.join(cells)} |" for cells, ids in groups.items()])


def selftest(mutants=False, references=None, progress=None, only=None):
    """Run correct implementations, and with `mutants` wrong ones, on the golden cases.

    The reference as it stands comes first. If it is wrong, nothing that is made of it says more, and that is all.

    Parameters
    ----------
    mutants : bool
    references : list of Reference, optional
        All stored cases by default.
    progress : callable(str), optional
    only : iterable of mutant ids, optional

    Returns
    -------
    Selftest
    """
    say = progress or (lambda text: None)
    references = stored() if references is None else references
    result = Selftest(len(references), 0)
    for correct in (CORRECT[:1], CORRECT[1:]):
        for reference in references if not result.broken else ():
            say(reference.id)
            result.runs += len(correct)
            result.alarms += false_alarms(reference, correct)
        result.broken = result.broken or (correct == CORRECT[:1] and bool(result.alarms))
    for mutant in every_mutant() if mutants and not result.broken else ():
        if only is None or mutant.id in only:
            say(mutant.id)
            found = kills(mutant, references)
            named = any(names_the_rule(mutant, kill.case) for kill in found) if mutant.kind == "convention" else None
            result.rows.append(Row(mutant.id, mutant.kind, mutant.effect, found, named))
    if mutants and only is None and not result.broken:
        say("faults beyond a size")
        result.beyond = survivors()
    say("")
    return result


def stored():
    """Every stored golden case."""
    return [load_case(id) for id in cases()]


def false_alarms(reference, correct=CORRECT):
    """Correct implementations that do not pass this case: in two dtypes, all orders of summation, both variances."""
    problem, conventions = problem_of(reference), Conventions(**reference.conventions)
    alarms = []
    for dtype, order, one_pass in correct:
        with np.errstate(all="ignore"):
            arrays = problem.run(_right(order, one_pass), conventions, np.dtype(dtype))
        verdict, array = judged(reference, arrays, dtype)
        if verdict != "PASS":
            other = (dtype, order, one_pass) != CORRECT[0]
            how = f"{dtype}, {order}{', one pass' if one_pass else ''}" if other else ""
            alarms.append(Alarm(reference.id, verdict, array, equations_of(reference, array), how))
    return alarms


@cache
def _right(order, one_pass):
    """The reference with another order of its sums, or another way to the variance."""
    return variant(ONE_PASS if one_pass else (), order=order)
