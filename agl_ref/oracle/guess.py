"""A guess at the cause of the first failure, from the pattern of the wrong values. NumPy alone.

`agl-ref identify` goes further: it computes what another convention would give.
"""

import numpy as np

THREADS = 4096  # neurons: more than one block of any kernel


def guess_cause(reference, arrays, off, first):
    """One sentence on what the wrong values look like, or None.

    Parameters
    ----------
    reference : Reference
    arrays : {name: ndarray}
        The implementation's.
    off : {name: boolean ndarray}
        Which elements are outside their bounds.
    first : dict
        The first failure, from the report.
    """
    if first is None:
        return None
    name = first["name"]
    expected, received, wrong = reference.arrays[name], arrays[name], off[name]
    if not received.any() and expected.any():
        return "everything is 0: the array was never written, or no gradient reached it"
    on_boundary = _boundary(reference, name, _first_time(reference, wrong, first))
    if on_boundary:
        return on_boundary
    for test in (_sign, _shift, _constant, _timestep, _block, _transposed):
        found = test(reference, name, expected, received, wrong, first)
        if found:
            return found
    return None


def _first_time(reference, wrong, first):
    """Only the timestep at which it first went wrong: further ones mix the cause with what the recursion makes of it."""
    T = int(reference.meta.get("T", 1))
    if wrong.ndim < 2 or len(wrong) != T:
        return wrong
    return wrong & (np.arange(T) == first["index"][0]).reshape((-1,) + (1,) * (wrong.ndim - 1))


def _boundary(reference, name, wrong):
    """All wrong elements lie exactly on the threshold, or on the window's edge."""
    prefix, _, kind = name.rpartition(".")
    prefix = f"{prefix}." if prefix else ""
    u, width = reference.arrays.get(f"{prefix}u"), reference.arrays.get(f"{prefix}width")
    v_th = reference.meta.get("v_th")
    v_th = v_th.get(prefix[:-1]) if isinstance(v_th, dict) else v_th
    if u is None or v_th is None or u.shape != wrong.shape:
        return None
    z = np.abs(u - v_th)
    if kind == "s" and not z[wrong].any():
        return "only neurons with u = V_th exactly are wrong: the spike test (>= or >), conventions.spike_test"
    edge = None if width is None else z == (width / 2).reshape((-1,) + (1,) * (u.ndim - 1))
    if kind in ("du", "grad_x", "dx") and edge is not None and edge[wrong].all():
        return "only neurons on the window's edge are wrong: < or <=, conventions.window_edge"
    return None


def _sign(reference, name, expected, received, wrong, first):
    if np.allclose(received, -expected, rtol=1e-3, atol=0) and expected.any():
        return "the sign is reversed"
    return None


def _shift(reference, name, expected, received, wrong, first):
    """One timestep too early or too late."""
    T = int(reference.meta.get("T", 1))
    if expected.ndim < 2 or len(expected) != T or T < 2:
        return None
    for step, word in ((1, "later"), (-1, "earlier")):
        ours, theirs = (expected[:-1], received[1:]) if step == 1 else (expected[1:], received[:-1])
        if ours.any() and np.allclose(theirs, ours, rtol=1e-3, atol=1e-9):
            return f"the values stand one timestep {word} than expected: an index is off by one in time"
    return None


def _constant(reference, name, expected, received, wrong, first):
    """Every wrong element is off by one factor."""
    where = wrong & (np.abs(expected) > 1e-3 * np.abs(expected).max(initial=0.0))
    where = _first_time(reference, where, first)
    if not where.any():
        return None
    ratios = received[where] / expected[where]
    factor = float(np.median(ratios))
    if factor == 0 or np.abs(ratios / factor - 1).max() > 1e-3 or abs(factor - 1) < 1e-6:
        return None
    meanings = _factors(reference)
    close = [text for value, text in meanings if abs(factor / value - 1) < 1e-3]
    meaning = f" = {close[0]}" if close else ""
    return f"the wrong values are {factor:.6g} times the expected ones{meaning}"


def _factors(reference):
    """(number, where it comes from) for the numbers that are forgotten most often."""
    meta = reference.meta
    T = float(meta.get("T", 1))
    inputs = reference.inputs
    N = float(np.shape(inputs["x"])[1]) if np.ndim(inputs.get("x", 0.0)) > 1 else 1.0
    decays = meta.get("decay") or 0.0
    decays = list(decays.values()) if isinstance(decays, dict) else [decays]
    found = []
    for tau in {float(d) for d in decays if d}:
        root = (1 + tau * tau) ** 0.5
        found += [
            (root, "sqrt(1 + tau^2): a forgotten or surplus width factor"),
            (1 / root, "1 / sqrt(1 + tau^2): the width of t > 1"),
        ]
        found += [
            (tau, "tau"),
            (1 - tau, "1 - tau"),
            (1 / (1 - tau), "1 / (1 - tau)"),
            (tau * (1 - tau), "tau (1 - tau)"),
        ]
    if T > 1:
        found += [(T, "T: the mean over time"), (1 / T, "1 / T: the mean over time")]
    if N > 1:
        found += [(N, "N: the mean over the batch"), (1 / N, "1 / N: the mean over the batch")]
    found += [(2.0, "2"), (0.5, "1/2"), (4.0, "4"), (0.25, "1/4")]
    return [(value, text) for value, text in found if value != 1]


def _timestep(reference, name, expected, received, wrong, first):
    """Only the first, or only the last timestep is wrong."""
    T = int(reference.meta.get("T", 1))
    if T < 2 or len(np.atleast_1d(wrong)) != T:
        return None
    times = np.flatnonzero(wrong.reshape(T, -1).any(axis=1))
    if len(times) == 1 and times[0] in (0, T - 1):
        which = "first" if times[0] == 0 else "last"
        more = (
            "; the width at t = 1 is kappa_1, conventions.width" if which == "first" and name.endswith("width") else ""
        )
        return f"only the {which} timestep is wrong{more}"
    return None


def _block(reference, name, expected, received, wrong, first):
    """Right for the first neurons, wrong for those of further thread blocks; or a scalar that is too small."""
    if expected.size == 1:
        ratio = float(received.ravel()[0] / expected.ravel()[0]) if expected.any() else 1.0
        neurons = int(np.prod(np.shape(reference.inputs.get("x", 0))[1:])) if reference.inputs else 0
        if 0 < ratio < 1 and neurons > THREADS:
            return f"the sum reaches {ratio:.3g} of the expected one over {neurons} neurons: perhaps one thread block's share"
        return None
    if expected.ndim < 2:
        return None
    flat = wrong.reshape(len(wrong), -1).any(axis=0)
    start = int(np.argmax(flat))
    if start >= 32 and start & (start - 1) == 0:
        return f"the first {start} neurons are right and neuron {start} is not: perhaps a thread block's edge"
    return None


def _transposed(reference, name, expected, received, wrong, first):
    if expected.ndim == 4 and np.allclose(received, expected[::-1, ::-1], rtol=1e-3, atol=1e-9):
        return "the kernel is flipped in both directions"
    if (
        expected.ndim == 2
        and expected.shape[0] == expected.shape[1]
        and np.allclose(received, expected.T, rtol=1e-3, atol=1e-9)
    ):
        return "the matrix is transposed"
    return None
