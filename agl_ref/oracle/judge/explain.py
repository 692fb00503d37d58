"""One neuron's numbers over time, each with its equation filled in: as text, and as one HTML page. NumPy alone.

A neuron comes alone, from a trained network, or twice: as it should be, and as a dump has it.
"""

import numpy as np

from agl_ref.oracle.types import in_window

from .markup import document, el, table
from .neuron import LACKED, number

SIZE = 90  # of a timestep's part of the drawing
COLUMNS = 8  # timesteps side by side in a terminal
NAMES = ("x", "u", "s", "v", "width", "window", "ds", "h", "du", "dx")


def over_time(neuron):
    """{name: text of each timestep}; h is ds/du, window says on which side of its edge u lies."""
    values, unit = neuron.values, neuron.unit
    inside = in_window(values["u"], values["width"], values["u"].dtype.type(unit.v_th), unit.conventions.window_edge)
    found = {name: [number(value) for value in values[name]] for name in NAMES if name != "window"}
    found["window"] = ["inside" if each else "outside" for each in inside]
    return {name: found[name] for name in NAMES}


def passes(neurons, at=None):
    """(heading, [(whether it is the divergence, [the Line of each neuron])]) of each timestep, in the order of computation.

    `at` is (key, t) of the first divergence, as "du" and 2.
    """
    ways = zip(("forward", "backward"), zip(*(neuron.lines() for neuron in neurons), strict=True), strict=True)
    for way, parts in ways:
        together = list(zip(*parts, strict=True))
        for t in dict.fromkeys(lines[0].t for lines in together):
            here = [lines for lines in together if lines[0].t == t]
            yield f"{way}, t = {t}", [((lines[0].step, t) == at, lines) for lines in here]


def as_text(title, neurons, at=None):
    """The explanation for a terminal; `neurons` are one, or what is expected and what was received."""
    values = [over_time(neuron) for neuron in neurons]
    size = max(len(text) for each in values for texts in each.values() for text in texts) + 2
    lines = [title] if len(neurons) == 1 else [title, "", LACKED]
    for start in range(0, neurons[0].T, COLUMNS):
        part = slice(start, start + COLUMNS)
        lines += ["", f"{'t':<10}" + "".join(f"{t:>{size}}" for t in range(neurons[0].T)[part])]
        for name in NAMES:
            for label, each in zip((name, "  received"), values, strict=False):
                if each is values[0] or each[name][part] != values[0][name][part]:
                    lines.append(f"{label:<10}" + "".join(f"{text:>{size}}" for text in each[name][part]))
    width = max(len(formula) for _, formula, _ in neurons[0].equations.values()) + 2
    for heading, steps in passes(neurons, at):
        lines += ["", heading]
        for diverges, (first, *others) in steps:
            said = first.text()
            lines.append(
                f"  {first.number:<8}{first.formula:<{width}}{said}{'   <- first divergence' if diverges else ''}"
            )
            lines += [
                f"  {'received':>{6 + width}}  {other.text()}"
                for other in others
                if other._replace(dumped=False).text() != said
            ]
    return "\n".join(lines)


def as_html(title, neurons, at=None, before=()):
    """The explanation as one page that needs nothing else; `before` are elements that stand above it."""
    values = [over_time(neuron) for neuron in neurons]
    rows = []
    for name in NAMES:
        cells = [[el("div", text)] for text in values[0][name]]
        for cell, right, theirs in zip(cells, values[0][name], values[-1][name], strict=True):
            if right != theirs:
                cell.append(el("div", f"≠ {theirs}", class_="wrong"))
        rows.append((name, *cells))
    times = table("The neuron over time", ("", *(f"t = {t}" for t in range(neurons[0].T))), rows)
    times.set("class", "scroll grid")
    head = ("number", "equation of METHOD.md", "expected" if len(neurons) > 1 else "with its numbers", "received")
    parts = []
    for heading, steps in passes(neurons, at):
        rows = [
            (lines[0].number or "given", el("code", lines[0].formula), *(el("code", line.text()) for line in lines))
            for _, lines in steps
        ]
        made = table(heading, head[: 2 + len(neurons)], rows)
        for (diverges, _), row in zip(steps, made.findall("table/tbody/tr"), strict=True):
            if diverges:
                row.set("class", "now")
        parts += [el("h3", heading), made]
    note = "t counts from 0, as in the arrays; the backward pass begins at the last timestep."
    top = [] if before else [el("header", el("h1", title), class_="head")]
    return document(
        title,
        *top,
        *before,
        el("section", el("h2", "The neuron over time"), _drawing(neurons[0]), times),
        el("section", el("h2", "Every number, in the order of computation"), el("p", note, class_="note"), *parts),
    )


def _drawing(neuron):
    """Potentials, spikes, the threshold and each window over time."""
    values, v_th, top, high = neuron.values, neuron.unit.v_th, 16, 150
    u, half = values["u"].astype(float), values["width"].astype(float) / 2
    low, upper = min(u.min(), (v_th - half).min(), 0.0), max(u.max(), (v_th + half).max())

    def y(value):
        return f"{top + (upper - value) / (upper - low) * high:.1f}"

    drawn = []
    for t in range(neuron.T):
        box = {"x": SIZE * t + 15, "y": y(v_th + half[t]), "width": SIZE - 30}
        drawn.append(el("rect", class_="window", height=f"{2 * half[t] / (upper - low) * high:.1f}", **box))
    drawn.append(el("path", class_="edge", d=f"M0 {y(v_th)}H{SIZE * neuron.T}"))
    line = " L".join(f"{SIZE * (t + 0.5):g} {y(u[t])}" for t in range(neuron.T))
    drawn.append(el("path", class_="potential", d=f"M{line}"))
    for t in range(neuron.T):
        drawn.append(el("circle", class_="dot", cx=f"{SIZE * (t + 0.5):g}", cy=y(u[t]), r=4))
        if values["s"][t]:
            drawn.append(el("path", class_="spike", d=f"M{SIZE * (t + 0.5) - 6:g} 13h12l-6 -11z"))
        drawn.append(el("text", f"t = {t}", x=SIZE * t + 30, y=top + high + 18))
    label = f"Potential over time, threshold {v_th:g}; the numbers stand in the table below"
    size = {"width": SIZE * neuron.T, "height": top + high + 24}
    svg = el("svg", drawn, viewBox=f"0 0 {size['width']} {size['height']}", role="img", aria_label=label, **size)
    key = "● potential u, ▲ spike, dashed: the threshold, box: the window of width kappa around it"
    scroll = el("div", svg, class_="scroll", tabindex="0", role="region", aria_label="Drawing; scrolls sideways")
    return el("figure", scroll, el("figcaption", key, class_="note"))


def telling(u, s, width, dx, v_th, edge):
    """(score, index) of the neuron that shows most: one that fires and not always, is in the window, and has a gradient.

    Parameters
    ----------
    u, s, dx : ndarray (T, ...)
    width : ndarray (T,)
    v_th : float
    edge : str
    """
    inside, fires = in_window(u, width, u.dtype.type(v_th), edge), s > 0
    score = 4.0 * fires.any(axis=0) + 2 * inside.any(axis=0) + ~inside.all(axis=0) + ~fires.all(axis=0)
    score = score + (dx != 0).mean(axis=0)
    index = np.unravel_index(np.argmax(score), score.shape)
    return float(score[index]), tuple(int(i) for i in index)
