"""The report as one HTML page: the verdict, the way of the computation, the first wrong number with what is around it."""

import re
from functools import cache
from pathlib import Path

import numpy as np

from agl_ref.oracle.equations import EQUATION_NAMES, equations_of

from .contradictions import sentences
from .downstream import Order
from .markup import document, el, table
from .neuron import LACKED, number, pair_of

SIGNS = {"PASS": "✓", "FAIL": "✗", "AMBIGUOUS": "≈", None: "–"}
WORDS = {"PASS": "PASS", "FAIL": "FAIL", "AMBIGUOUS": "AMBIGUOUS", None: "not given"}
STEPS = {
    "width": ("width",),
    "u": ("u",),
    "s": ("u", "s"),
    "v": ("v",),
    "du": ("h", "ds_total", "du"),
    "dx": ("du", "dx"),
}
AXES = {
    "width": "t",
    "gamma": "c",
    "beta": "c",
    "bias": "c",
    "weight": {2: "f_in f_out", 4: "kh kw c_in c_out"},
    3: "t n f",
    4: "t n h w",
    5: "t n h w c",
}
NEAR = 4  # timesteps, or elements, to each side of the first wrong one
DRAWN = 24  # arrays whose wrong elements are drawn by axis
DECADES = np.arange(-4, 4.5, 0.5)  # of error over bound: the edges of a histogram's bars


def page(reports):
    """The page of one report, or of several with a table first: [(title, Report)]."""
    if len(reports) == 1:
        return document(f"{reports[0][1].verdict}: {reports[0][0]}", *_report(*reports[0], ""))
    counts = {
        verdict: sum(report.verdict == verdict for _, report in reports) for verdict in ("PASS", "FAIL", "AMBIGUOUS")
    }
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    rows = [
        (
            el("a", title, href=f"#r{i}"),
            report.id,
            _word(report.verdict),
            place(report.first_divergence),
            report.details.get("cause") or "",
        )
        for i, (title, report) in enumerate(reports)
    ]
    overview = table("All dumps", ("dump", "case", "verdict", "first divergence", "it looks as if"), rows)
    each = [el("article", *_report(title, report, f"r{i}"), id=f"r{i}") for i, (title, report) in enumerate(reports)]
    return document(said, el("h1", f"{len(reports)} dumps: {said}"), el("section", overview), *each)


def _word(verdict):
    return el("span", f"{SIGNS[verdict]} {WORDS[verdict]}", class_=f"verdict {verdict or 'none'}")


def place(at):
    """An element as a reader writes it: u[0, 1, 2]."""
    return f"{at['name']}[{', '.join(map(str, at['index']))}]" if at else ""


def _report(title, report, id):
    """The parts of one report; `id` begins the ids of its elements."""
    return [
        head(title, report),
        el("section", el("h2", "The way of the computation"), *_path(report, id)),
        *divergences(report),
        el("section", el("h2", "Every array that was judged"), *_arrays(report, id)),
        *_where(report),
        _not_checked(report),
        el("section", el("details", el("summary", "The report as text"), el("pre", report.text()))),
    ]


def divergences(report):
    """The first divergence with what is around it, and the first failure where that is another element."""
    first, failure = report.first_divergence, report.details.get("first_failure")
    places = [("First divergence", first)] if first else []
    if failure and failure != first:
        places.append(("First failure that no flip explains", failure))
    return [_place(heading, at, report) for heading, at in places]


def head(title, report):
    """The verdict and what to do next."""
    said, contradiction = [report.headline(), *report.happened()], report.details.get("contradiction")
    if contradiction:
        said.append(" ".join(sentences(contradiction)))
    if report.first_divergence:
        said.append(f"The first divergence is {place(report.first_divergence)}.")
    if report.details.get("cause"):
        said.append(f"It looks as if {report.details['cause']}.")
    advice = report.advice() or ["nothing: every array that was given is right"]
    if report.not_checked:
        advice.append(f"not checked: {len(report.not_checked)} arrays; dump them to have them judged")
    return el(
        "header",
        el("p", f"{SIGNS[report.verdict]} {report.verdict}", class_="verdict"),
        el("h1", title),
        [el("p", text) for text in said],
        [el("p", el("b", "Next: " if i == 0 else "And: "), text) for i, text in enumerate(advice)],
        class_=f"head {report.verdict}",
    )


# --- the way of the computation -----------------------------------------------------------------------------------------


def _path(report, id):
    """A row for each block: forward pass on the left, backward pass on the right."""
    reference = next(iter(report.judged.values())).reference if report.judged else None
    names = reference.names() if reference else [*report.verdicts, *report.not_checked]
    order = Order(names, reference.meta.get("layers", ()) if reference else ())
    network = reference is None or reference.meta.get("op") == "network"
    rows = {"input": ([], [])} if network else {}
    for name in sorted(names, key=lambda name: order.positions[name].phase != "forward"):
        at = order.positions[name]
        row = ("input" if name == "grad_x" else at.block or "loss") if network else reference.meta["op"]
        back = at.phase in ("backward", "weights") or name in ("dlogits", "grad_x")
        rows.setdefault(row, ([], []))[back].append(_chip(name, name.replace(f"{row}.", ""), report, id))
    if "loss" in rows:
        rows["loss"] = rows.pop("loss")
    head = el("tr", [el("th", text, scope="col") for text in ("", "forward: down ↓", "backward: up ↑")])
    body = [
        el("tr", el("th", row, scope="row"), [el("td", el("ol", chips, class_="way")) for chips in both])
        for row, both in rows.items()
    ]
    key = [f"{SIGNS[verdict]} {word}" for verdict, word in WORDS.items()]
    return [
        el("p", f"{', '.join(key)}; the frame marks the first divergence.", class_="note"),
        el("table", el("thead", head), el("tbody", body), class_="path"),
    ]


def _chip(name, short, report, id):
    verdict, first = report.verdicts.get(name), (report.first_divergence or {}).get("name") == name
    said, look = f"{SIGNS[verdict]} {short}", f"chip {verdict or 'none'}{' first' if first else ''}"
    label = f"{name}: {WORDS[verdict]}{', the first divergence' if first else ''}"
    if verdict is None:
        return el("li", el("span", said, class_=look, title=label))
    return el("li", el("a", said, class_=look, title=label, href=f"#{id}a{list(report.verdicts).index(name)}"))


# --- arrays -------------------------------------------------------------------------------------------------------------


def _arrays(report, id):
    head = ("array", "verdict", "wrong", "largest error / bound", "would notice a factor of", "errors / bound")
    rows = []
    for name, verdict in report.verdicts.items():
        off, size, worst = (report.details[key][name] for key in ("off", "sizes", "worst"))
        seen = report.judged.get(name)
        largest = "must be equal" if np.isinf(worst) else f"{worst:.3g}"
        least = report.details["notices"][name]
        factor = "none: all are 0" if np.isinf(least) else f"1 ± {least:.1e}" if least else "any"
        drawn = factor, "" if seen is None else _histogram(seen, name)
        rows.append((name, _word(verdict), f"{off} of {size}", largest, *drawn))
    made = table("Every array that was judged", head, rows)
    for i, row in enumerate(made.findall("table/tbody/tr")):
        row.set("id", f"{id}a{i}")
    note = (
        "Errors over the bound by powers of ten, from 1e-4 to 1e4; errors of 0 stand at the far left. Bars grow with the "
        "logarithm of their number. The dashed line is the bound: what lies right of it is wrong. The factor is the smallest "
        "that would have been noticed if every element had it."
    )
    return [el("p", note, class_="note"), made]


def _off(seen, name):
    """(errors, which of them are beyond the bound)."""
    error = np.abs(seen.received - seen.reference.arrays[name])
    return error, error > seen.allowed


def _histogram(seen, name):
    error, off = _off(seen, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        bar = np.where(error == 0, 0, 1 + np.searchsorted(DECADES, np.log10(error / seen.allowed)))
    inside = len(DECADES) // 2 + 2  # bars up to the bound; dividing may round to the other side of it
    bar = np.where(off, np.maximum(bar, inside), np.minimum(bar, inside - 1))
    heights = np.log1p(np.bincount(bar.ravel(), minlength=len(DECADES) + 2))
    parts = {"inside": (0, heights[:inside]), "beyond": (inside, heights[inside:])}
    return _bars(parts, 6, f"{int(off.sum())} of {off.size} errors beyond the bound", inside)


def _bars(parts, width, label, edge=None):
    """A drawing of bars: {class: (place of the first, heights)}, with a dashed line before the place `edge`."""
    highest = max(heights.max(initial=0) for _, heights in parts.values()) or 1
    count = sum(len(heights) for _, heights in parts.values())
    drawn = [el("path", d=f"M0 27H{width * count}", class_="base")]
    for kind, (start, heights) in parts.items():
        sizes = [(width * (start + i), max(26 * h / highest, 1.5)) for i, h in enumerate(heights) if h]
        path = "".join(f"M{x} 26h{width - 1}v-{size:.1f}h-{width - 1}z" for x, size in sizes)
        drawn.append(el("path", d=path, class_=kind))
    if edge is not None:
        drawn.append(el("path", d=f"M{width * edge - 0.5} 0V28", class_="edge"))
    box = f"0 0 {width * count} 28"
    return el("svg", drawn, viewBox=box, width=width * count, height=28, role="img", aria_label=label)


def _where(report):
    """Where the wrong elements lie, along each axis of each wrong array."""
    wrong, rows = [name for name in report.judged if report.details["off"].get(name)], []
    for name in wrong[:DRAWN]:
        _, off = _off(report.judged[name], name)
        for axis, label in enumerate(_axes(name, off.ndim)):
            count = off.sum(axis=tuple(i for i in range(off.ndim) if i != axis))
            heights = np.array([part.sum() for part in np.array_split(count, min(len(count), 64))])
            at = np.flatnonzero(count)
            said = "all" if len(at) == len(count) else ", ".join(map(str, at[:8])) + (", ..." if len(at) > 8 else "")
            drawing = _bars(
                {"beyond": (0, heights)}, max(3, min(12, 256 // len(heights))), f"{off.sum()} wrong elements"
            )
            rows.append((name if axis == 0 else "", label, drawing, f"{len(at)} of {len(count)}: {said}"))
    if not rows:
        return []
    more = f" Of {len(wrong)} wrong arrays the first {DRAWN} are drawn." if len(wrong) > DRAWN else ""
    note = f"How many wrong elements there are at each index of each axis; indices count from 0.{more}"
    made = table("Wrong elements by axis", ("array", "axis", "wrong elements", "indices with some"), rows)
    return [el("section", el("h2", "Where the wrong elements lie"), el("p", note, class_="note"), made)]


def _axes(name, ndim):
    kind = name.rpartition(".")[2].removeprefix("grad_")
    named = AXES.get(kind, {}).get(ndim) if kind == "weight" else AXES.get(kind if ndim == 1 else ndim)
    return named.split() if named else ["t", "n"] if ndim == 2 else [f"axis {i}" for i in range(ndim)]


def _not_checked(report):
    lines = [*report.details["hidden"].values()]
    forced = report.details.get("forced")
    if forced:
        lines.append(f"taken over from the dump, right or wrong: {', '.join(forced)}")
    names = ", ".join(report.not_checked) or "every array of the reference was given"
    return el("section", el("h2", "What was not checked"), el("p", names), [el("p", line) for line in lines])


# --- one wrong element and what is around it ------------------------------------------------------------------------------


def _place(heading, at, report):
    """Everything about one wrong element."""
    ulps = "" if at["ulps"] is None else f"{at['ulps']:.4g}"
    rows = [
        ("expected", el("code", f"{at['expected']!r}  {at['expected_hex']}")),
        ("received", el("code", f"{at['received']!r}  {at['received_hex']}")),
        ("error", f"{at['error']:.4g}" + (f", {ulps} ulps" if ulps else "")),
        ("allowed", f"{at['allowed']:.4g}"),
    ]
    edges = {"s": "the threshold", "window": "the window's edge"}
    rows += [
        (f"distance from {edges[kind]}", f"{margin:.3g} times what rounding can move it")
        for kind, margin in at["margin"].items()
        if np.isfinite(margin)
    ]
    if at["ambiguous"]:
        rows.append(("rounding", "may have turned this decision"))
    covered, total = at["explains"]
    rows.append(("explains", f"{covered} of {total} wrong elements lie downstream of it (itself included)"))
    if report.details.get("cause"):
        rows.append(("it looks as if", report.details["cause"]))
    if at["name"] in report.judged:
        rows.append((f"all wrong of {at['name']}", _pattern(report.judged[at["name"]], at["name"])))
    facts = table(heading, ("", ""), rows)
    facts.set("class", "facts")
    parts = [el("h2", f"{heading}: {place(at)}"), facts]
    seen = report.judged.get(at["name"])
    if seen is not None:
        parts += _around(report, seen, at)
    return el("section", *parts)


def _pattern(seen, name):
    """What the wrong elements of an array have in common."""
    _, off = _off(seen, name)
    expected, received = seen.reference.arrays[name][off], seen.received[off]
    large, small, nothing = np.sum(received > expected), np.sum(received < expected), np.sum(received == 0)
    said = f"{large} too large, {small} too small, {nothing} received as 0"
    ratio = received[expected != 0] / expected[expected != 0]
    return f"{said}; received / expected from {ratio.min():.6g} to {ratio.max():.6g}" if ratio.size else said


def _around(report, seen, at):
    """The equations behind the element, with numbers where they are a neuron's, and its neighbours."""
    reference, name, index = seen.reference, at["name"], tuple(at["index"])
    pair = pair_of(reference, report.received(), name, index)
    numbers = equations_of(reference, name)
    parts = [el("h3", "It comes from")]
    rows = [_equation(*pair[:2], step, index[0]) for step in STEPS.get(pair.key, ())] if pair else []
    if rows:
        head = ("number", "equation of METHOD.md", "with the expected numbers", "with the received numbers")
        parts.append(table("The equations with their numbers", head, rows))
        parts.append(el("p", LACKED, class_="note"))
        numbers = ()
    if numbers:
        rows = [(each, EQUATION_NAMES[each], el("code", formulas()[each])) for each in numbers]
        parts.append(table("The equations behind it", ("number", "name", "in METHOD.md"), rows))
    if pair:
        parts += [el("h3", "The same neuron over time"), _over_time(report, pair, index)]
    if np.ndim(seen.received):
        parts += [el("h3", "Its neighbours"), _neighbours(seen, name, index)]
    return parts


def _equation(expected, received, step, t):
    """A row: an equation with the expected and with the received numbers."""
    lines = [neuron.line(step, t) for neuron in (expected, received)]
    return lines[0].number, el("code", lines[0].formula), *(el("code", line.text(9)) for line in lines)


def _over_time(report, pair, index):
    """The neuron's values at each timestep: the expected one, and the received one where it is another."""
    times = range(max(index[0] - NEAR, 0), min(index[0] + NEAR + 1, pair.expected.T))
    rows = []
    for key, name in pair.names.items():
        seen = report.judged.get(name)
        cells = []
        received, off = (None, None) if seen is None else (seen.received, _off(seen, name)[1])
        for t in times:
            lines = [el("div", number(pair.expected.values[key][t], 7))]
            if seen is not None:
                place = (t, *index[1:])[: off.ndim]
                said = f"✗ {number(received[place], 7)}" if off[place] else "✓"
                lines.append(el("div", said, class_="wrong" if off[place] else None))
            cells.append(lines)
        rows.append((key if seen is not None else f"{key} (not given)", *cells))
    made = table("The same neuron at all times", ("", *(f"t = {t}" for t in times)), rows)
    made.set("class", "scroll grid")
    for row in made.iter("tr"):
        row[1 + times.index(index[0])].set("class", "now")
    return made


def _neighbours(seen, name, index):
    """Elements beside it on the last axis."""
    _, off = _off(seen, name)
    arrays, rows = (seen.reference.arrays[name], seen.received, seen.allowed), []
    for i in range(max(index[-1] - NEAR, 0), min(index[-1] + NEAR + 1, off.shape[-1])):
        place = (*index[:-1], i)
        right, theirs, allowed = (float(array[place]) for array in arrays)
        said = el("span", "✗ off" if off[place] else "✓", class_="wrong" if off[place] else None)
        error = f"{abs(theirs - right):.3g}"
        rows.append(
            (f"[{', '.join(map(str, place))}]", number(right, 9), number(theirs, 9), error, f"{allowed:.3g}", said)
        )
    return table("Its neighbours", ("index", "expected", "received", "error", "allowed", ""), rows)


@cache
def formulas():
    """{number: equation} as METHOD.md writes them."""
    text = (Path(__file__).parents[2] / "METHOD.md").read_text(encoding="utf-8")
    found = re.findall(r"(?m)^ {4}(.*\S) +\(([A-Z]\d+)\)$", text)
    return {number: re.sub(" {2,}", "   ", formula) for formula, number in found}
