"""Spikes that do not follow from the potentials beside them: s must be [u >= V_th] of the dump's own u. NumPy alone.

This needs no margin. A kernel that computes u again inside the threshold test, or has it there in another precision (a fused
multiply-add on one of the two ways is enough), decides on another number than the one it hands to its backward pass.
"""

import numpy as np

from agl_ref.oracle.types import array_name, fires, split_name, unit_roundoff

_STORED = {"float32": np.float32, "float64": np.float64}


def contradictions(reference, arrays, kinds, dtype):
    """{name of the spikes: mask} of every layer whose u and s are both in the dump.

    Parameters
    ----------
    reference : Reference
    arrays : {name: float64 ndarray}
        The dump's, in the reference's layout.
    kinds : {name: dtype name}
        As they were dumped.
    dtype : str
        In which is judged.

    Notes
    -----
    float32 and float64 values are compared as they are. A narrower u may have been rounded after the test, and the threshold
    too: only what lies further from V_th than twice that rounding is a contradiction (twice, because a conversion may cut
    off). V_th may be the given number or its rounding to the dtype: a spike that follows from either is right.
    """
    found = {}
    for name in arrays:
        block, kind = split_name(name)
        potential = array_name(block, "u")
        if kind != "s" or potential not in arrays:
            continue
        test = reference.conventions["spike_test"]
        u, s, v_th = arrays[potential], arrays[name], float(reference.threshold(block))
        wrong = s != fires(u, v_th, test)
        for coarse in {dtype, kinds.get(potential, dtype)}:
            rounded = _STORED.get(coarse)
            if rounded is None:
                wrong &= np.abs(u - v_th) > 2 * unit_roundoff(coarse) * (np.abs(u) + abs(v_th))
            else:
                wrong &= s != fires(u, float(rounded(v_th)), test)
        found[name] = wrong
    return found


def first_contradiction(reference, arrays, found):
    """The first of them as a dict for the report, or None."""
    for name, wrong in found.items():
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            block = split_name(name)[0]
            return {
                "name": name,
                "index": list(index),
                "s": float(arrays[name][index]),
                "u": float(arrays[array_name(block, "u")][index]),
                "v_th": float(reference.threshold(block)),
                "test": reference.conventions["spike_test"],
                "count": int(wrong.sum()),
            }
    return None


def sentences(at):
    """A contradiction in two lines of a report."""
    index = ", ".join(map(str, at["index"]))
    why = (
        "the spike test is the other one, or had another u" if at["u"] == at["v_th"] else "the spike test had another u"
    )
    if at["s"] not in (0, 1):
        why = f"{at['s']:g} is no spike: was s scaled, or a smooth step dumped in its place?"
    says = int(fires(at["u"], at["v_th"], at["test"]))
    return [
        f"{at['name']} does not follow from the dumped u at {at['count']} places, the first of them [{index}]:",
        f"s = {at['s']:g}, but u {at['test']} V_th with u = {at['u']!r}, V_th = {at['v_th']!r} says {says}: {why}",
    ]
