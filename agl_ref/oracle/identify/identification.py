"""What `agl_ref.oracle.identify` found, for programs and for people."""

from dataclasses import asdict, dataclass, field

from agl_ref.conventions import Conventions
from agl_ref.oracle.equations import CONVENTION_NAMES


@dataclass(frozen=True)
class Identification:
    """What `identify` found.

    Attributes
    ----------
    id : str
        The case, or "own".
    base : Conventions
        What the case asks for.
    matches : tuple of Conventions
        Every combination under which the reference gives the implementation's numbers.
    surrogate : str
        The surrogate of the matches; `own_surrogate` is the case's.
    undecided : {field: tuple of values}
        Fields in which the matches differ.
    irrelevant : {field: reason}
        Fields that this case cannot decide.
    distinguishing_cases : {field: tuple of case ids}
        Golden cases on which the undecided fields do differ.
    close : tuple of Conventions
        If no combination matches: those that come close to every array, but not within the reference's bounds.
    mutants : {mutant id: effect}
        If no combination matches: the mutants that come close, the closest first.
    nearest : Conventions or None
        If nothing matches: the combination that agrees longest in the order of computation.
    stopped_at : str or None
        The first array in which the nearest one disagrees.
    tried, combinations : int
        How many combinations were run, of how many.
    """

    id: str
    base: Conventions
    matches: tuple
    surrogate: str = "rectangular"
    own_surrogate: str = "rectangular"
    undecided: dict = field(default_factory=dict)
    irrelevant: dict = field(default_factory=dict)
    distinguishing_cases: dict = field(default_factory=dict)
    close: tuple = ()
    mutants: dict = field(default_factory=dict)
    nearest: Conventions | None = None
    stopped_at: str | None = None
    tried: int = 0
    combinations: int = 0

    @property
    def verdict(self):
        """ "conventions" (one or more match), "mutant" (only a known wrong implementation does), "close" or "unknown"."""
        return "conventions" if self.matches else "mutant" if self.mutants else "close" if self.close else "unknown"

    @property
    def wrong(self):
        """{field: (the case's value, theirs)} common to all matches: the rules that the implementation has otherwise."""
        found = [match.differences(self.base) for match in self.matches]
        first = found[0] if found else {}
        common = {name for name in first if all(name in other and other[name] == first[name] for other in found)}
        return {name: first[name][::-1] for name in first if name in common}

    def to_json(self):
        """The same as a dict that JSON can hold."""
        return {
            "id": self.id,
            "verdict": self.verdict,
            "surrogate": self.surrogate,
            "own_surrogate": self.own_surrogate,
            "matches": [asdict(match) for match in self.matches],
            "wrong": {name: {"case": pair[0], "received": pair[1]} for name, pair in self.wrong.items()},
            "undecided": {name: list(values) for name, values in self.undecided.items()},
            "irrelevant": self.irrelevant,
            "distinguishing_cases": {name: list(ids) for name, ids in self.distinguishing_cases.items()},
            "close": [asdict(conventions) for conventions in self.close],
            "mutants": self.mutants,
            "nearest": None if self.nearest is None else asdict(self.nearest),
            "stopped_at": self.stopped_at,
            "tried": self.tried,
            "combinations": self.combinations,
        }

    def __str__(self):
        return _text(self)


def _text(found):
    """Several lines: what reproduces the numbers, what is left open and which cases would close it."""
    lines = [_headline(found)]
    if found.surrogate != found.own_surrogate:
        lines.append(f"  surrogate: the case has {found.own_surrogate}, yours is {found.surrogate}")
    for name, (case, theirs) in found.wrong.items():
        lines.append(f"  {CONVENTION_NAMES[name]}: the case has {case!r}, yours has {theirs!r}   ({name}={theirs!r})")
    for name, effect in found.mutants.items():
        lines.append(f"  {name}: {effect}")
    if found.nearest is not None:
        differs = found.nearest.differences(found.base)
        named = ", ".join(f"{name}={pair[0]!r}" for name, pair in differs.items()) or "the case's own conventions"
        lines.append(f"  nearest: {named}; it agrees until {found.stopped_at}")
    if found.undecided:
        lines.append("  not decided by these arrays:")
    for name, values in found.undecided.items():
        cases = found.distinguishing_cases.get(name, ())
        where = f"run {', '.join(cases)}" if cases else "no stored case tells them apart"
        lines.append(f"    {CONVENTION_NAMES[name]}: {' or '.join(map(repr, values))}; {where}")
    by_reason = {}
    for name, reason in found.irrelevant.items():
        by_reason.setdefault(reason, []).append(name)
    if by_reason:
        lines.append("  cannot matter here: " + "; ".join(f"{', '.join(n)} ({why})" for why, n in by_reason.items()))
    if found.tried < found.combinations:
        lines.append(f"  only {found.tried} of {found.combinations} combinations were tried; give it more --seconds")
    return "\n".join(lines)


def _headline(found):
    count = len(found.matches)
    if found.verdict == "conventions":
        if found.base in found.matches and found.surrogate == found.own_surrogate:
            more = f", and so do {count - 1} other combinations" if count > 1 else ""
            return f"{found.id}: the case's own conventions reproduce these arrays{more}"
        which = (
            "1 combination of conventions reproduces"
            if count == 1
            else f"{count} combinations of conventions reproduce"
        )
        return f"{found.id}: {which} these arrays, the case's own do not"
    if found.verdict == "close":
        return (
            f"{found.id}: {len(found.close)} combinations come close, none within the bounds; agl-ref check says where"
        )
    if found.verdict == "mutant":
        return f"{found.id}: no combination of conventions reproduces these arrays, but a known bug does"
    return f"{found.id}: no combination of conventions and no known bug reproduces these arrays"
