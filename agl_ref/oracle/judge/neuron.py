"""One neuron, number by number: its equations in the order of computation, filled in. NumPy alone.

Nothing is computed here but what a dump lacks and its other values settle: forward values are those that are given, and the
backward pass is that of `agl_ref.reference`, whose local variables are noted at each timestep.
"""

from typing import NamedTuple

import numpy as np

from agl_ref import reference
from agl_ref.conventions import OWN_WIDTHS, Conventions
from agl_ref.oracle.descriptions import blocks
from agl_ref.oracle.equations import SURROGATES
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.types import array_name, split_name

LACKED = "What the dump lacks comes from its case, or follows from what it has."
FORWARD, BACKWARD = ("width", "u", "s", "v"), ("ds", "h", "ds_total", "du", "dx", "dtau", "dv")
CHANGED = (  # of the reference: its variables are noted, and where du is given it goes on from there
    ("du[t] = kept + ds_total * h", "du[t] = given(t, kept + ds_total * h)"),
    ("dv, du_next = tau * du[t], du[t]", "note(t, locals()); dv, du_next = tau * du[t], du[t]"),
)


class Unit(NamedTuple):
    """What the neurons of a layer have in common; gamma is None where no tdBN comes before them."""

    decay: float
    v_th: float
    gamma: np.ndarray | None
    alpha: float
    conventions: Conventions
    surrogate: str


class Line(NamedTuple):
    """One number: the equation's number in METHOD.md, the equation, the same with numbers, and what it gives."""

    step: str
    t: int
    number: str
    formula: str
    filled: str
    value: float
    dumped: bool = False  # the value is a dump's, which the equation need not give

    def text(self, digits=6):
        """The equation's numbers and what they give, or what a dump has in its place."""
        means = ", the dump has " if self.dumped else " = "
        return f"{self.filled}{means}{number(self.value, digits)}" if self.filled else number(self.value, digits)


def unit_of(case, block):
    """The Unit of a block of a Reference ("" of a single op), or None where it has no neurons."""
    meta, inputs, conventions = case.meta, case.inputs, Conventions(**case.conventions)
    layers = {layer["name"]: layer for layer in blocks(meta.get("layers", ()))}
    described = layers.get(block) if block else meta
    if described is None or described.get("v_th") is None or isinstance(described["v_th"], dict):
        return None
    w, gamma = (inputs.get(array_name(block, key)) for key in ("w", "gamma"))
    alpha = (described.get("norm") or described).get("alpha", 1.0)
    decay = described.get("decay") if w is None else reference.decay_from_w(w, conventions)
    surrogate = meta.get("surrogate", "rectangular")
    return None if decay is None else Unit(decay, described["v_th"], gamma, alpha, conventions, surrogate)


class Neuron:
    """The lines of one neuron.

    Parameters
    ----------
    values : {name: ndarray (T,)}
        x, u, s, width and ds; v, du and dx, if given, take the place of what the reference gives for them.
    unit : Unit
    dumped : names in `values` that come from a dump
    """

    def __init__(self, values, unit, dumped=()):
        c, own = unit.conventions, {name: np.ravel(array) for name, array in values.items()}
        self.unit, self.T, self.values = unit, len(own["u"]), {}
        self.dumped = {*dumped, *(("du",) if "dx" in dumped else ())}
        tau, v_th = (own["u"].dtype.type(value) for value in (unit.decay, unit.v_th))
        own.setdefault("v", reference.reset(own["u"], own["s"], v_th, c))
        if "dx" in own:
            own.setdefault("du", own["dx"] / (1 - tau) if c.input_scale == "1 - tau" else own["dx"])

        def note(t, found):
            for name in ("h", "ds_total", "dv", "du", "dx", "ddecay"):
                value = found[name][t] if name in ("du", "dx") else found[name]
                self.values.setdefault(name, np.zeros_like(own["u"]))[t] = np.ravel(value)[0]

        column = {name: array.reshape(-1, 1) for name, array in own.items()}
        cache = reference.NeuronCache(*(column[name] for name in "xusv"), unit.decay, unit.v_th, c, unit.surrogate)

        def given(t, value):
            return own["du"][t] if "du" in own else value

        module = variant(CHANGED, lambda copy: vars(copy).update(note=note, given=given))
        module.lif_backward(column["ds"], cache, own["width"])
        self.values |= {"dtau": self.values.pop("ddecay"), **own}
        before = {f"{name}_before": np.append(0, self.values[name][:-1]) for name in "sv"}
        after = {f"{name}_after": np.append(self.values[name][1:], 0) for name in ("du", "dtau")}
        every = {"tau": tau, "v_th": v_th}
        if unit.gamma is not None and c.width not in OWN_WIDTHS:
            every |= {"gamma_bar": max(float(np.mean(unit.gamma)), 0.0), "alpha": unit.alpha}
            every["spread"] = reference.spread(c.width, unit.decay, self.T)
        self.operands = {**self.values, **before, **after}
        self.operands |= {name: np.broadcast_to(value, self.T) for name, value in every.items()}
        self.equations = equations(unit)

    def line(self, step, t):
        """The Line of one step."""
        source, formula, template = self.equations[step]
        numbers = {name: shown(array[t]) for name, array in self.operands.items()}
        filled = template.format(**numbers)
        if step == "dv":  # what this timestep leaves for the one before
            return Line(step, t, source, formula, filled, self.values["dv"][t - 1])
        return Line(step, t, source, formula, filled, self.values[step][t], step in self.dumped)

    def lines(self):
        """Every Line in the order of computation: forwards, and then backwards, through time."""
        forward = [self.line(step, t) for t in range(self.T) for step in FORWARD]
        back = [self.line(step, t) for t in reversed(range(self.T)) for step in BACKWARD if step != "dv" or t > 0]
        return forward, back


class Pair(NamedTuple):
    """A neuron as it should be, and with what a dump has of it; names: {u: its array, ...}; key: which was asked for."""

    expected: Neuron
    received: Neuron
    names: dict
    key: str


def pair_of(case, theirs, name, index):
    """The Pair of the neuron behind an element of an array of a Reference; None where the array has no neurons."""
    block, key = ("", "dx") if name == "grad_x" and "du" in case.arrays else split_name(name)
    unit = None if block is None or key == "width" else unit_of(case, block)
    if unit is None:
        return None
    names = {key: array_name(block, key) for key in ("x", "width", "u", "s", "v", "ds", "du", "dx")}
    names["dx"] = names["dx"] if block else "grad_x"
    every, place = {**case.inputs, **case.arrays}, (slice(None), *index[1:])
    if not set(names.values()) <= set(every):
        return None
    expected = {key: every[full] if key == "width" else every[full][place] for key, full in names.items()}
    given = {
        key: theirs[full] if key == "width" else theirs[full][place] for key, full in names.items() if full in theirs
    }
    expected = {key: np.asarray(array, np.float64) for key, array in expected.items()}
    settled = {key: array for key, array in expected.items() if key not in ("v", "du", "dx")}
    return Pair(Neuron(expected, unit), Neuron({**settled, **given}, unit, given), names, key)


def number(value, digits=6):
    """A number for a reader, without a minus before a zero."""
    return f"{float(value) + 0.0:.{digits}g}"


def shown(value, digits=6):
    """The same inside an equation: in parentheses if it is negative."""
    text = number(value, digits)
    return f"({text})" if text.startswith("-") else text


def equations(unit):
    """{step: (number in METHOD.md, equation, the same with names of numbers in braces)} under a Unit's conventions."""
    c, late = unit.conventions, unit.conventions.reset == "soft late"
    scaled, hard, edge = c.input_scale == "1 - tau", c.reset == "hard", c.window_edge
    u = ["tau v_{t-1} + x_t", "{tau} * {v_before} + {x}"]
    if scaled:
        u = ["tau v_{t-1} + (1 - tau) x_t", "{tau} * {v_before} + (1 - {tau}) * {x}"]
    if late:
        u = [u[0] + " - V_th s_{t-1}", u[1] + " - {v_th} * {s_before}"]
    v = {
        "hard": ("F3", "v_t = u_t (1 - s_t)", "{u} * (1 - {s})"),
        "soft": ("F4", "v_t = u_t - V_th s_t", "{u} - {v_th} * {s}"),
        "soft late": ("F5", "v_t = u_t", "{u}"),
        "none": ("no reset", "v_t = u_t", "{u}"),
    }
    through = {
        "hard": (" - u_t dv_t", " - {u} * {dv}"),
        "soft": (" - V_th dv_t", " - {v_th} * {dv}"),
        "soft late": (" - V_th du_{t+1}", " - {v_th} * {du_after}"),
        "none": ("", ""),
    }[c.reset if c.reset_gradient == "attached" else "none"]
    height = {"1/kappa": "1/kappa_t", "1": "1", "1/(2 kappa)": "1/(2 kappa_t)"}[c.surrogate_scale]
    filled = height.replace("2 kappa_t", "2 * {width}").replace("kappa_t", "{width}")
    inside = (f"[ |u_t - V_th| {edge} kappa_t/2 ]", f"[ |{{u}} - {{v_th}}| {edge} {{width}}/2 ]")
    shape = ("shape((u_t - V_th)/kappa_t)", "shape(({u} - {v_th})/{width})")
    h = inside if unit.surrogate == "rectangular" else shape
    width = {"2 V_th": ("W6", "kappa_t = 2 V_th", "2 * {v_th}"), "fixed": ("W1", "kappa_t, fixed", "")}.get(c.width)
    if width is None and unit.gamma is not None and c.width not in OWN_WIDTHS:
        plain = c.norm_scale != "alpha V_th"
        width = ("W1, W3" if c.width == "geometric" else "W1, W2",
                 "kappa_t = 2 spread_t gamma_bar" + ("" if plain else " alpha V_th"),
                 "2 * {spread} * {gamma_bar}" + ("" if plain else " * {alpha} * {v_th}"))  # fmt: skip
    return {
        "width": width or ("W1", "kappa_t, given", ""),
        "u": ("F5" if late else "F1", f"u_t = {u[0]}", u[1]),
        "s": ("F2", f"s_t = 1 if u_t {c.spike_test} V_th else 0", f"[ {{u}} {c.spike_test} {{v_th}} ]"),
        "v": v[c.reset],
        "ds": ("", "ds_t, from the layer above", ""),
        "h": (f"S1, {SURROGATES[unit.surrogate]}", f"h_t = {height} {h[0]}", f"{filled} * {h[1]}"),
        "ds_total": ("B1", f"ds_total = ds_t{through[0]}", "{ds}" + through[1]),
        "du": ("B2", f"du_t = dv_t{' (1 - s_t)' if hard else ''} + ds_total h_t",
               "{dv}" + (" * (1 - {s})" if hard else "") + " + {ds_total} * {h}"),
        "dx": ("B3", *(("dx_t = (1 - tau) du_t", "(1 - {tau}) * {du}") if scaled else ("dx_t = du_t", "{du}"))),
        "dtau": ("B4", *(("dtau += du_t (v_{t-1} - x_t)", "{dtau_after} + {du} * ({v_before} - {x})") if scaled
                         else ("dtau += du_t v_{t-1}", "{dtau_after} + {du} * {v_before}"))),
        "dv": ("B5", "dv_{t-1} = tau du_t", "{tau} * {du}"),
    }  # fmt: skip
