"""What a golden case covers, and why one that proves nothing is refused."""

from dataclasses import replace

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.bounds import margins
from agl_ref.oracle.bounds.ops import run_op
from agl_ref.oracle.bounds.reference import run
from agl_ref.oracle.descriptions import network_of
from agl_ref.oracle.types import (
    BITS,
    FORWARD,
    WINDOWED,
    array_name,
    in_window,
    over_time,
    representable,
    split_name,
    unit_roundoff,
)

SAFETY = 4  # how many times u the margins of a realistic case must be
NEURONS = ("lif", "plif")
JUDGED = ("float64", "float32", "tf32", "bfloat16")  # dtypes that a case may judge an implementation in


# --- what a case covers ---------------------------------------------------------------------------------------------


def coverage(reference):
    """{layer: figures}: spike rate, resets, share in the window, hits of threshold and edges, nonzero gradients.

    The op surrogate has potentials but no spikes.
    """
    found = {}
    for block, key in map(split_name, reference.arrays):
        if key == "u":
            a = {key: reference.arrays[array_name(block, key)] for key in ("u", "s", "width", "du")}
            found[block] = figures(a, reference.threshold(block), reference.conventions)
    if reference.meta["op"] == "surrogate":
        a = {"u": reference.inputs["u"], "width": reference.inputs["width"]}
        found[""] = figures(a, reference.meta["v_th"], reference.conventions)
    return found


def figures(a, v_th, conventions):
    """The figures of one layer; `a` has u and width, of a neuron also s and du."""
    kappa = a["width"]
    distance, half = np.abs(a["u"] - v_th), over_time(kappa, a["u"]) / 2
    inside = in_window(a["u"], kappa, v_th, conventions["window_edge"]) & (half > 0)
    later = kappa[min(1, len(kappa) - 1)] / 2
    out = {
        "values": int(a["u"].size),
        "share_in_window": float(inside.mean()),
        "on_threshold": int((distance == 0).sum()),
        "on_window_edge": int(((distance == half) & (half > 0)).sum()),
        "between_widths": int(((distance[0] < half[0]) != (distance[0] < later)).sum()),
    }
    if "s" in a:
        out["spike_rate"] = float(a["s"].mean())
        out["resets"] = 0 if conventions["reset"] == "none" else int(a["s"][:-1].sum())
        out["nonzero_gradients"] = float((a["du"] != 0).mean())
    return out


# --- refusal --------------------------------------------------------------------------------------------------------


def refusals(case, reference, found):
    """Reasons why the case proves nothing; empty for a good one."""
    reasons = []
    for name, array in reference.arrays.items():
        if not np.isfinite(array).all():
            reasons.append(f"{name} is not finite")
    rectangular = reference.meta.get("surrogate", "rectangular") in WINDOWED
    for layer, fig in found.items():
        reasons += [f"{layer or case.op}: {why}" for why in _layer_refusals(case, fig, rectangular)]
    reasons += _flag_refusals(case, reference, found, rectangular)
    if not found and case.op != "width":
        reasons += [f"{n} is zero throughout" for n, a in reference.arrays.items() if not a.any()]
    reasons += [f"{field} changes nothing" for field in case.decides if not matters(case, field)]
    if case.tier == 3:
        least = margins.smallest(reference.margins)
        if not least >= SAFETY * unit_roundoff("float32"):
            reasons.append(f"margin {least:.3g} is below {SAFETY} u of float32, take another draw")
    return reasons


def _layer_refusals(case, fig, rectangular):
    flags, closed = set(case.flags), {"gamma_zero", "gamma_negative"} & set(case.flags)
    share = fig["share_in_window"]
    uniform = {"all_silent", "all_firing"} & flags
    if rectangular and not closed and not uniform and not 0 < share < 1:
        yield f"{share:.0%} of the values are in the window"
    if closed and share:
        yield "the window is open"
    if "spike_rate" not in fig:
        return
    if not uniform and not 0 < fig["spike_rate"] < 1:
        yield f"the spike rate is {fig['spike_rate']}"
    if not {"all_silent", "no_reset", "one_timestep"} & flags and not fig["resets"]:
        yield "nobody is reset before the last timestep"
    if not closed and not fig["nonzero_gradients"]:
        yield "every gradient is zero"


def _flag_refusals(case, reference, found, rectangular):
    """Flags that are not true, and hits that are not flagged."""
    flags, inputs, T = set(case.flags), reference.inputs, reference.meta["T"]
    total = {key: sum(fig.get(key, 0) for fig in found.values()) for key in ("on_threshold", "on_window_edge")}
    if not rectangular:
        total["on_window_edge"] = 0
    rates = [fig["spike_rate"] for fig in found.values() if "spike_rate" in fig]
    counts = [np.size(a) // a.shape[-1] for n, a in inputs.items() if np.ndim(a) and n in ("x", "dy")]
    first = next(iter(inputs.values()))
    true = {
        **{key: count > 0 for key, count in total.items()},
        "all_silent": bool(rates) and max(rates) == 0,
        "all_firing": bool(rates) and min(rates) == 1,
        "no_reset": reference.conventions["reset"] == "none",
        "one_timestep": T == 1 and case.op not in ("avg_pool", "global_avg_pool", "linear"),
        "long_time": T >= 64,
        "one_sample": first.ndim > 1 and first.shape[1] == 1 and case.op not in ("surrogate",),
        "several_thread_blocks": max([*counts, first.size if case.op in NEURONS else 0]) > 4096,
        "non_contiguous_gradients": any(np.ndim(a) > 1 and not a.flags.c_contiguous for a in inputs.values()),
        "two_forwards": "x_second" in inputs,
        "gamma_zero": _gamma_bar(inputs) == 0,
        "gamma_negative": _gamma_bar(inputs) < 0,
    }
    wide = {"one_sample", "several_thread_blocks", "one_timestep"}  # named only where they are the point
    for flag, holds in true.items():
        if flag in flags and not holds:
            yield f"the flag {flag} is not true"
        if holds and flag not in flags and flag not in wide:
            yield f"the flag {flag} is missing"
    if "first_step_width" in flags and case.op in (*NEURONS, "network") and T > 1:
        if not any(fig["between_widths"] for fig in found.values()):
            yield "no neuron lies between the two widths at t = 1"


def _gamma_bar(inputs):
    means = [np.mean(a) for name, a in inputs.items() if name.rpartition(".")[2] == "gamma"]
    if "beta" in inputs:  # tdBN alone has no window
        return 1.0
    return max(means) if means else 1.0


def matters(case, field):
    """Whether every other value of the convention changes an array of the case by more than rounding."""
    plain = values(case, case.conventions)
    for value in Conventions.known_choices()[field]:
        if value != getattr(case.conventions, field):
            other = values(case, replace(case.conventions, **{field: value}))
            if not any(_differ(plain[name], other[name]) for name in plain if name in other):
                return False
    return True


def _differ(a, b):
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    return a.shape != b.shape or bool(np.abs(a - b).max(initial=0.0) > 1e-3 * scale)


def values(case, conventions):
    """{name: array} of the case's inputs under other conventions, without bounds."""
    inputs = case.inputs()
    if case.op != "network":
        return run_op(case.op, inputs, case.meta, conventions)
    net = network_of(case.meta, inputs, conventions)
    return run(net, inputs["x"], inputs["labels"], case.meta["loss"], case.meta["training"])


# --- certificate ----------------------------------------------------------------------------------------------------


def exact_forward(case, reference):
    """The Reference of a case of tier 2: its forward pass has no rounding by construction, and so no bounds there."""
    if case.tier != 2:
        return reference
    exact = {n for n in reference.arrays if n.rpartition(".")[2] in FORWARD}
    bounds = {n: np.zeros_like(b) if n in exact else b for n, b in reference.bounds.items()}
    margins = {n: np.full_like(m, np.inf) for n, m in reference.margins.items()}
    return replace(reference, bounds=bounds, margins=margins)


def certificate(case, reference):
    """The smallest margins, where they are and how far from the boundary, and the bits that an exact case needs.

    `margin` is the unit roundoff at which the proven forward error reaches the boundary, `distance` how far u is from the
    threshold, or |u - V_th| from kappa / 2, at that place. Both are None where nothing can flip.
    """
    found = margins.certificate(reference.margins)
    for kind, place in found.items():
        finite = np.isfinite(place["margin"])
        place["margin"] = place["margin"] if finite else None
        place["distance"] = _distance(reference, kind, place) if finite else None
    return {**found, "bits": case.bits}


def _distance(reference, kind, place):
    block, index = place["name"].rpartition(".")[0], tuple(place["index"])
    found = {**reference.inputs, **reference.arrays}  # the op surrogate has both for inputs
    u, width = (found[array_name(block, key)] for key in ("u", "width"))
    off = abs(float(u[index]) - reference.threshold(block))
    return off if kind == "spike" else abs(off - float(width[index[0]]) / 2)


def dtypes(case, reference):
    """The dtypes in which no input rounds and no spike can flip."""
    floats = [a for a in reference.inputs.values() if a.dtype.kind == "f"]
    least = margins.smallest(reference.margins)
    good = []
    for dtype in JUDGED:
        fits = all(representable(a, dtype).all() for a in floats)
        holds = BITS[dtype] >= (case.bits if case.tier == 1 else BITS[reference.meta["dtype"]])
        safe = holds and (case.tier < 3 or least > unit_roundoff(dtype))
        good += [dtype] if fits and safe else []
    return good
