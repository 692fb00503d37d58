"""A verdict instead of AMBIGUOUS: the reference is computed again from the decisions that the dump shows.

A spike that flipped within rounding distance of the threshold changes everything behind it, and excuses it. So where the
dump has the spikes (or the potentials, from which they follow), the reference takes them over, and what is behind them is
judged once more. It goes in steps, each only where the one before is AMBIGUOUS:

    1   from their spikes: potentials and all other forward values; each spike must follow from the potential behind it
    2   from their spikes and potentials: the gradients; a window is then open only where u - V_th itself rounds
    3   the windows that are left, by search: which of them, opened or closed, give the dumped gradients
"""

from dataclasses import replace

import numpy as np

from agl_ref.oracle.bounds.teacher_forcing import SAFETY, evaluate, force
from agl_ref.oracle.types import array_name, fires, unit_roundoff

MOST = 64  # windows among which the search looks


def settled(reference, arrays, dtype, judge):
    """The reports of the steps that were made, in order; none where the dump shows no decision.

    Parameters
    ----------
    reference : Reference
    arrays : {name: float64 ndarray}
        The dump, whose comparison with `reference` is AMBIGUOUS.
    dtype : str
    judge : callable(Reference, {name: array}, forced) -> Report
    """
    test = reference.conventions["spike_test"]
    stored_whole = dtype in ("float32", "float64")  # a narrower u may have been rounded after the spike test
    given = {}
    for name, array in arrays.items():
        block, _, kind = name.rpartition(".")
        spikes = array_name(block, "s")
        if kind == "u" and stored_whole and spikes in reference.arrays and spikes not in arrays:
            given[spikes] = fires(array, reference.threshold(block), test)
    spikes = {name: array for name, array in arrays.items() if name.rpartition(".")[2] == "s"} | given
    if not spikes:
        return []
    first, _ = force(reference, spikes, ("s",))
    reports = [judge(_with_spikes(first, spikes, unit_roundoff(dtype)), arrays, ("s",))]
    potentials = {name: array for name, array in arrays.items() if name.rpartition(".")[2] == "u"}
    forced = {**spikes, **potentials}
    rest = {name: array for name, array in arrays.items() if name not in forced}
    if reports[-1].verdict != "AMBIGUOUS" or not rest:
        return reports
    second = first
    if potentials:
        second, _ = force(reference, forced, ("s", "u"))
        reports.append(judge(second, rest, ("s", "u")))
    if reports[-1].verdict == "AMBIGUOUS":
        turned = _search(second, reference, forced, rest, unit_roundoff(dtype))
        if turned:
            third, _ = force(reference, forced, ("s", "u") if potentials else ("s",), turned)
            reports.append(judge(third, rest, ("s", "u", "windows")))
    return reports


def _with_spikes(forced, spikes, unit):
    """The forced reference with the spikes that its potentials give; where rounding may turn one, it is theirs."""
    arrays = dict(forced.arrays)
    for name, theirs in spikes.items():
        block = name.rpartition(".")[0]
        u, v_th = array_name(block, "u"), forced.threshold(block)
        off = SAFETY * forced.bounds[u] * unit + unit * abs(v_th)
        own = fires(arrays[u], v_th, forced.conventions["spike_test"])
        arrays[name] = np.where(np.abs(arrays[u] - v_th) <= off, theirs, own)
    return replace(forced, arrays=arrays)


def _search(judged, reference, forced, rest, unit):
    """{name of u: mask} of the windows at their edge that have to be turned, or {} where that explains nothing.

    One after the other, always the one that brings the gradients closest, while that brings them closer.
    """
    near = {}
    for name, margin in judged.margins.items():
        block, _, kind = name.rpartition(".")
        if kind == "window":
            near[array_name(block, "u")] = np.asarray(margin) <= unit
    places = [(name, tuple(index)) for name, mask in near.items() for index in np.argwhere(mask)]
    if not 0 < len(places) <= MOST:
        return {}
    turned = {name: np.zeros(mask.shape, bool) for name, mask in near.items()}
    compute = evaluate(reference, forced)

    def misfit(place):
        name, index = place
        turned[name][index] ^= True
        found = compute(turned)
        turned[name][index] ^= True
        return _misfit(judged, found, rest, unit)

    best = _misfit(judged, judged.arrays, rest, unit)
    while True:
        costs = [misfit(place) for place in places]
        least = int(np.argmin(costs))
        if not costs[least] < best:
            break
        best, (name, index) = costs[least], places[least]
        turned[name][index] ^= True
    return {name: mask for name, mask in turned.items() if mask.any()}


def _misfit(judged, arrays, theirs, unit):
    """How far the arrays are from theirs: the sum of squares of errors beyond what is allowed, each over its array's size."""
    total = 0.0
    for name, array in theirs.items():
        error = np.maximum(np.abs(array - arrays[name]) - judged.bounds[name] * unit, 0.0)
        total += float((error * error).sum() / max(float((array * array).sum()), 1e-300))
    return total
