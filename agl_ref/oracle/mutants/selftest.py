"""Do the golden cases pass what is right and kill what is wrong: `agl-ref selftest`."""

from dataclasses import dataclass, field

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.problems import problem_of

from .candidate import Candidate
from .registry import judged, kills, names_the_rule, zoo
from .summation import ORDERS

CORRECT = [
    (dtype, order, one_pass)
    for dtype in ("float32", "float64")
    for order in ORDERS
    for one_pass in ((False, True) if order in ("blas", "blocks") else (False,))
]


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


@dataclass
class Selftest:
    """What `selftest` found.

    Attributes
    ----------
    cases, runs : int
        Golden cases, and correct implementations' runs on them.
    alarms : list of str
        Correct runs that were not passed: there should be none.
    rows : list of Row
        One for each mutant, if they were asked for.
    """

    cases: int
    runs: int
    alarms: list = field(default_factory=list)
    rows: list = field(default_factory=list)

    @property
    def good(self):
        """Nothing right was refused, and nothing wrong survived."""
        return self.runs > 0 and not self.alarms and all(row.good for row in self.rows)

    def to_json(self):
        """The same as a dict that JSON can hold."""
        rows = [
            {"id": r.id, "kind": r.kind, "effect": r.effect, "named": r.named, "kills": [k._asdict() for k in r.kills]}
            for r in self.rows
        ]
        return {"good": self.good, "cases": self.cases, "runs": self.runs, "false_alarms": self.alarms, "mutants": rows}

    def text(self):
        """For a terminal."""
        lines = [f"{self.runs} correct runs on {self.cases} cases: {len(self.alarms)} false alarms"]
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
        return "\n".join(lines)

    def markdown(self, brief=False):
        """The table of mutants for the oracle's page; the brief one has a row for each set of golden cases that kill."""
        if brief:
            return brief_table(self.rows)
        lines = [
            "| mutant | what is wrong | killed by, among others | named by `identify` |",
            "| --- | --- | --- | --- |",
        ]
        for row in self.rows:
            cases = ", ".join(f"`{kill.case}`" for kill in row.kills) or "**nothing**"
            named = {None: "", True: "yes", False: "**no**"}[row.named]
            lines.append(f"| `{row.id}` | {row.effect.rstrip('.')} | {cases} | {named} |")
        return "\n".join(lines)


def brief_table(rows):
    """Markdown: wrong implementations that the same golden cases kill share a row; conventions stand apart.

    Parameters
    ----------
    rows : iterable of Row

    Returns
    -------
    str
    """
    groups = {}
    for row in rows:
        cases = ", ".join(f"`{kill.case}`" for kill in row.kills) or "**nothing**"
        groups.setdefault((row.named, cases), []).append(f"`{row.id.removeprefix('convention:')}`")
    named = {None: "", True: "yes", False: "**no**"}
    lines = ["| wrong implementation | killed by, among others | rule named |", "| --- | --- | --- |"]
    lines += [f"| {', '.join(ids)} | {cases} | {named[known]} |" for (known, cases), ids in groups.items()]
    return "\n".join(lines)


def selftest(mutants=False, references=None, progress=None, only=None):
    """Run correct implementations, and with `mutants` wrong ones, on the golden cases.

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
    for reference in references:
        say(reference.id)
        result.runs += len(CORRECT)
        result.alarms += false_alarms(reference)
    for mutant in zoo() if mutants else ():
        if only is None or mutant.id in only:
            say(mutant.id)
            found = kills(mutant, references)
            named = any(names_the_rule(mutant, kill.case) for kill in found) if mutant.kind == "convention" else None
            result.rows.append(Row(mutant.id, mutant.kind, mutant.effect, found, named))
    say("")
    return result


def stored():
    """Every stored golden case."""
    from agl_ref.oracle.cases.vectors import cases, load_case

    return [load_case(id) for id in cases()]


def false_alarms(reference):
    """Correct implementations that do not pass this case: in two dtypes, all orders of summation, both variances."""
    problem, conventions = problem_of(reference), Conventions(**reference.conventions)
    alarms = []
    for dtype, order, one_pass in CORRECT:
        ops = Candidate(np.dtype(dtype), conventions, problem.surrogate, order, one_pass)
        with np.errstate(all="ignore"):
            verdict, array = judged(reference, problem.run(ops), dtype)
        if verdict != "PASS":
            alarms.append(f"{reference.id}: {verdict} at {array} ({dtype}, {order}{', one pass' if one_pass else ''})")
    return alarms
