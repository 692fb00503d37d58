"""The oracle's report: for people as text (in colour on a terminal), for programs as JSON and JUnit XML."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple
from xml.etree import ElementTree

from agl_ref import validate

from .contradictions import sentences
from .page import page, place
from .submission import Made

_COLOURS = {"PASS": "32", "FAIL": "31", "AMBIGUOUS": "33"}
SHOWN = 12  # wrong arrays that the text names; of a network with more wrong ones it says first what to do
EXIT_CODES = {"PASS": 0, "FAIL": 1, "AMBIGUOUS": 2}
_NOTHING = (
    "a spike or a place in the window flipped within rounding distance of a boundary, so these numbers prove nothing"
)


class Judged(NamedTuple):
    """An array as it was judged. What it was judged from is referred to, and not held a second time."""

    reference: object
    name: str
    arrays: Mapping
    tolerance: Mapping

    @property
    def received(self):
        """The array in float64."""
        return self.arrays[self.name]

    @property
    def allowed(self):
        """The tolerance of each element."""
        return self.tolerance[self.name]


@dataclass(frozen=True)
class Report:
    """What `compare` found.

    Attributes
    ----------
    id : str
        Of the case, "own" for a user's network.
    verdict : {"PASS", "FAIL", "AMBIGUOUS"}
    dtype : str
        The dtype in which the arrays were judged.
    verdicts : {array name: verdict}
        In the order of computation.
    checked, not_checked : list of array names
    first_divergence : dict or None
        name, index, rule (the equations behind the array), expected, received, both in hex, error, allowed, ulps, margin,
        explains (how many of all wrong elements lie downstream), ambiguous.
    details : dict
        off, sizes: wrong and all elements per array; worst: the largest error over what is allowed; notices: how far from 1
        a factor on all elements has to be to FAIL, inf where all are 0; flips: decisions within rounding distance that were
        made otherwise; settled: what was then taken over from the dump, step by step;
        searched: of a dump without decisions, how many were in doubt, the runs of the reference with some of them turned, the
        flips that give the dump, how far beyond all flips it lies (None where that was not needed), whether that decides,
        and whether it does because the nearest spikes, flipped, would show in arrays that are right;
        hidden: {array that is not in the dump: what it would show}; forced; first_failure and cause where there is a failure;
        contradiction: the first spike that does not follow from the dumped u, and how many there are.
    judged : {array name: Judged}
        What `to_html` draws; in no other form of the report. It refers to the arrays that were given to `compare`.
    """

    id: str
    verdict: str
    dtype: str
    verdicts: dict
    checked: list
    not_checked: list
    first_divergence: dict | None = None
    details: dict = field(default_factory=dict)
    judged: dict = field(default_factory=dict, repr=False, compare=False)

    @property
    def exit_code(self):
        """0 PASS, 1 FAIL, 2 AMBIGUOUS."""
        return EXIT_CODES[self.verdict]

    def received(self):
        """{array name: the array that was judged, in float64}, each made when it is asked for."""
        return Made(self.judged, lambda name: self.judged[name].received)

    def settled(self, steps):
        """This report, which is AMBIGUOUS, with the verdicts of reports from the dump's own decisions."""
        if not steps:
            return self
        verdicts, judged, last = {}, {}, steps[-1]
        flips = {name: count for name, count in self.details["flips"].items() if name.rpartition(".")[2] == "s"}
        flips |= last.details["flips"] if "windows" in last.details["forced"] else {}
        details = {**last.details, "flips": flips, "forced": self.details["forced"]}
        details["settled"] = [step.details["forced"] for step in steps]
        for step in steps:
            verdicts |= step.verdicts
            judged |= step.judged
            for key in ("off", "sizes", "worst", "notices"):
                details[key] = {**details[key], **step.details[key]}
        verdicts = {name: verdicts[name] for name in self.verdicts}
        verdict = max(verdicts.values(), key=("PASS", "AMBIGUOUS", "FAIL").index)
        first = last.first_divergence
        return replace(self, verdict=verdict, verdicts=verdicts, first_divergence=first, details=details, judged=judged)

    def __str__(self):
        return self.text()

    def text(self, colour=False, every=False):
        """The report for people; of more than SHOWN wrong arrays the first ones, or `every`."""

        def paint(word):
            return f"\033[{_COLOURS[word]}m{word}\033[0m" if colour else word

        lines = [
            f"{paint(self.verdict)}  {self.headline()}",
            *(f"  {line}" for line in self.happened()),
        ]
        wrong = [name for name, verdict in self.verdicts.items() if verdict != "PASS" and self.details["off"][name]]
        hidden = [] if self.verdict == "PASS" else list(self.details["hidden"].values())
        most, many = None if every else SHOWN, max(len(wrong), len(hidden)) > SHOWN
        lines += [f"  {text}" for text in self.advice() if many]
        for name in wrong[:most]:
            off, size, worst = (self.details[key][name] for key in ("off", "sizes", "worst"))
            times = "must be equal" if math.isinf(worst) else f"up to {worst:.3g} times the bound"
            lines.append(f"  {paint(self.verdicts[name])}  {name}: {off} of {size} elements off, {times}")
        if wrong[SHOWN:] and not every:
            lines.append(f"  ... and {len(wrong) - SHOWN} more: agl-ref check --every, report.text(every=True)")
        if self.details.get("contradiction"):
            what, why = sentences(self.details["contradiction"])
            lines += [f"  {what}", f"    {why}"]
        first, failure = self.first_divergence, self.details.get("first_failure")
        if first:
            lines += _place("first divergence", first)
        if failure and failure != first:
            lines += _place("first failure that no flip explains", failure)
        if self.details.get("cause"):
            lines.append(f"  it looks as if {self.details['cause']}")
        lines += [f"  not visible: {text}" for text in hidden[:most]]
        lines += [f"  {text}" for text in self.advice() if not many]
        lines.append(f"  checked {len(self.checked)}: {', '.join(self.checked)}")
        if self.verdict == "PASS":
            least = [f"{name} 1 ± {n:.0e}" for name, n in self.details["notices"].items() if 0 < n < math.inf]
            lines += [f"  a wrong factor would have been noticed from: {', '.join(least)}"] if least else []
        if self.not_checked:
            lines.append(f"  NOT checked {len(self.not_checked)}: {', '.join(self.not_checked)}")
        return "\n".join(lines)

    def advice(self):
        """What to do next, in sentences; of a PASS none."""
        if self.verdict == "AMBIGUOUS":
            hidden = list(self.details["hidden"])
            shown = [name for name in hidden if name.rpartition(".")[2] == "du"]
            how = "Dump s and u of every layer, from which the rest is then judged"
            if shown == hidden:
                how = f"Dump {', '.join(shown)}" if shown else "Judge it with settle=True"
            return [f"{_NOTHING}. {how}, or take a case whose certificate covers this dtype (agl-ref vectors list)"]
        if self.verdict == "FAIL" and (self.details.get("first_failure") or not self.details.get("contradiction")):
            own = self.id == "own"
            how = "agl.oracle.identify(net, x, labels, theirs)" if own else "agl-ref identify"
            return [f"which rule is it? {how} names the conventions that give these numbers"]
        return []

    def happened(self):
        """What was done about decisions that flipped within rounding, in sentences."""
        return self._settled() + self._searched()

    def _settled(self):
        if "settled" not in self.details:
            return []
        flips = ", ".join(f"{count} of {name}" for name, count in self.details["flips"].items()) or "none is visible"
        taken = ", then from ".join(", ".join(step) for step in self.details["settled"])
        taken = taken.replace(", windows", " and the windows that the gradients show")
        return [f"flipped within rounding: {flips}; what is behind was judged from the given {taken}"]

    def _searched(self):
        found = self.details.get("searched")
        if not found:
            return []
        doubt = f"{found['decisions']} decisions in doubt, {found['runs']} runs of the reference"
        if self.verdict == "PASS":
            return [f"flipped within rounding, found by search: {', '.join(found['flips']) or 'none'} ({doubt})"]
        if found["beyond"] is None:
            shows = "; each of the nearest would show in arrays that are right, which is statistical"
            return [f"no flip within rounding gives these numbers ({doubt}{shows if found.get('shows') else ''})"]
        times = f"{found['beyond']:.3g} times as far off as runs with random errors are from one another"
        if found["decided"]:
            return [f"no flip within rounding leads so far: {times} ({doubt}); this bound is statistical"]
        return [f"not settled by search: {times} ({doubt}, too many to try all)"]

    def headline(self):
        """What was judged, and how."""
        forced = self.details.get("forced")
        given = f", backward pass from the given {', '.join(forced)}" if forced else ""
        return f"{self.id}, judged in {self.dtype}{given}"

    def to_dict(self):
        """The report as plain values that JSON can hold; an infinite ratio is the string "inf"."""
        return _plain({name: value for name, value in vars(self).items() if name != "judged"})

    def to_json(self):
        """The report as one JSON text."""
        return json.dumps(self.to_dict(), allow_nan=False)

    def to_junit(self):
        """The report as JUnit XML: one test case per array, failures and ambiguities with their message."""
        suite = ElementTree.Element("testsuite", name=f"agl-ref check {self.id}", tests=str(len(self.verdicts)),
                                    failures=str(sum(v != "PASS" for v in self.verdicts.values())),
                                    skipped=str(len(self.not_checked)))  # fmt: skip
        for name in [*self.verdicts, *self.not_checked]:
            case = ElementTree.SubElement(suite, "testcase", classname=self.id, name=name)
            verdict = self.verdicts.get(name)
            if verdict is None:
                ElementTree.SubElement(case, "skipped", message="not in the dump")
            elif verdict != "PASS":
                message = f"{verdict}: {self.details['off'][name]} of {self.details['sizes'][name]} elements off"
                if name == self.details.get("contradiction", {}).get("name"):
                    message += ", and spikes that do not follow from the dumped u"
                ElementTree.SubElement(case, "failure", type=verdict, message=message)
        ElementTree.SubElement(suite, "system-out").text = self.text()
        return ElementTree.tostring(suite, encoding="unicode")

    def to_html(self, title=None):
        """The report as one page that needs nothing else; the title is the case's id by default."""
        if title is not None:
            validate.instance("title", title, str, "pass a name for the report")
        return page([(title or self.id, self)])


def _place(title, at):
    """Lines on one element."""
    ulps = "" if at["ulps"] is None else f", {at['ulps']:.4g} ulps"
    lines = [
        f"  {title}: {place(at)}",
        f"    expected {at['expected']!r}  {at['expected_hex']}",
        f"    received {at['received']!r}  {at['received_hex']}",
        *([f"    it comes from {at['rule']} of METHOD.md"] if at["rule"] else []),
        f"    error {at['error']:.4g}{ulps}; allowed {at['allowed']:.4g}",
    ]
    names = {"s": "the threshold", "window": "the window's edge"}
    for kind, margin in at["margin"].items():
        if math.isfinite(margin):
            lines.append(f"    distance from {names[kind]}: {margin:.3g} times what rounding can move it")
    covered, total = at["explains"]
    lines.append(f"    {covered} of {total} wrong elements lie downstream of it (itself included)")
    return lines


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
