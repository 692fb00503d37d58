"""A verdict instead of AMBIGUOUS: the reference is computed again from the decisions that the dump shows.

A spike that flipped within rounding distance of the threshold changes everything behind it, and excuses it. So where the
dump has the spikes (or the potentials, from which they follow), the reference takes them over, and what is behind them is
judged once more. It goes in steps, each only where the one before is AMBIGUOUS:

    1   from their spikes: potentials and all other forward values; each spike must follow from the potential behind it
    2   from their spikes and potentials: the gradients; a window is then open only where u - V_th itself rounds
    3   the windows that are left, as the gradients show them: each is then on one side of its edge, and excuses nothing
"""

from dataclasses import replace

import numpy as np

from agl_ref.oracle.bounds.decide_windows import decide
from agl_ref.oracle.bounds.teacher_forcing import SAFETY, force
from agl_ref.oracle.types import array_name, fires, unit_roundoff

from .submission import Made


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
        reports += decided(reference, second, forced, rest, dtype, judge)
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


def decided(reference, judged, forced, rest, dtype, judge):
    """[the report from windows that the gradients show], or [] where none is in doubt.

    Parameters
    ----------
    reference, judged : Reference
        Before and after the values in `forced` were taken over.
    forced, rest : {name: float64 ndarray}
        The dump's values that were, and its others.
    dtype, judge
        As for `settled`.
    """
    unit = unit_roundoff(dtype)
    windows = {n: np.asarray(m) / unit for n, m in judged.margins.items() if n.rpartition(".")[2] == "window"}
    near = {
        array_name(name.rpartition(".")[0], "u"): np.where(distance <= 1, distance, np.inf)
        for name, distance in windows.items()
        if (distance <= 1).any()
    }
    if not near:
        return []
    turned, still = decide(reference, forced, near, rest, Made(judged.bounds, lambda name: judged.bounds[name] * unit))
    if any(mask.any() for mask in turned.values()):
        judged, _ = force(reference, forced, turned=turned)
    margins = dict(judged.margins)
    for name, distance in windows.items():
        left = still.get(array_name(name.rpartition(".")[0], "u"), distance <= 1)
        margins[name] = np.where(left, margins[name], np.inf)
    taken = tuple(sorted({name.rpartition(".")[2] for name in forced}))
    report = judge(replace(judged, margins=margins), rest, (*taken, "windows"))
    flips = {f"{name.removesuffix('u')}window": int(mask.sum()) for name, mask in turned.items() if mask.any()}
    report.details["flips"] = flips
    return [report]
