"""A guess at the cause of the first failure: the wrong rule that gives the numbers, or what their pattern shows. NumPy alone.

`agl-ref identify` goes further: it tries all combinations of conventions.
"""

import numpy as np

from agl_ref.oracle.types import UNIT_ROUNDOFF

from .hypotheses import explain

ENOUGH = 3  # elements that must show a pattern
MEANINGS = 4  # of a factor; more of them say nothing


def guess_cause(reference, arrays, off, first, tolerance=None, unit=2.0**-24, layout="TN..C"):
    """One sentence on what is wrong, or None.

    First the wrong rules that give these very numbers (`hypotheses`), then what can be seen in the pattern alone: that is
    said as an observation, without a claim on the reason where there may be several.

    Parameters
    ----------
    reference : Reference
    arrays : {name: ndarray}
        The implementation's.
    off : {name: boolean ndarray}
        Which elements are outside their bounds.
    first : dict
        The first failure, from the report.
    tolerance : {name: ndarray}, optional
        What the comparison allowed; without it the rules are not tried.
    unit : float
        Unit roundoff of the dtype.
    layout : str
        In which the arrays were given.
    """
    if first is None:
        return None
    name = first["name"]
    if tolerance is not None:
        found = explain(reference, arrays, tolerance, unit, name, layout)
        if found:
            return found
    expected, received, wrong = reference.arrays[name], arrays[name], off[name]
    if not received.any() and expected.any():
        return "everything is 0: the array was never written, or no gradient reached it"
    on_boundary = _boundary(reference, name, _first_time(reference, wrong, first))
    if on_boundary:
        return on_boundary
    clipped = _clipped(reference, arrays)
    if clipped and name.startswith("grad_"):
        return clipped
    for test in (_flattened, _sign, _shift, _weight_decay, _constant, _timestep, _block, _transposed):
        found = test(reference, name, expected, received, wrong, first)
        if found:
            return found
    return _precision(expected, received, wrong, unit)


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


def _flattened(reference, name, expected, received, wrong, first):
    """The weight behind a flatten has its inputs in PyTorch's order, which no transposition of its two axes shows."""
    kinds = [layer["kind"] for layer in reference.meta.get("layers", ())]
    if expected.ndim != 2 or "flatten" not in kinds:
        return None
    for channels in {a.shape[-1] for key, a in reference.arrays.items() if key.endswith(".s") and a.ndim > 3}:
        by_place = expected.reshape(-1, channels, expected.shape[1]) if len(expected) % channels == 0 else expected
        if np.allclose(received, by_place.swapaxes(0, 1).reshape(expected.shape), rtol=1e-3, atol=1e-9):
            return (
                "its inputs are in the order (C, H, W), as PyTorch flattens, and not in (H, W, C): "
                "agl.interop.grads_from_torch(net, ...) turns a network's gradients"
            )
    return None


def _sign(reference, name, expected, received, wrong, first):
    if np.allclose(received, -expected, rtol=1e-3, atol=0) and expected.any():
        return "the sign is reversed"
    return None


def _shift(reference, name, expected, received, wrong, first):
    """One timestep too early or too late."""
    T = int(reference.meta.get("T", 1))
    if (
        expected.ndim < 2
        or len(expected) != T
        or T < 2
        or np.allclose(expected[1:], expected[:-1], rtol=1e-3, atol=1e-9)
    ):
        return None  # the same at all times: no shift shows
    for step, word in ((1, "later"), (-1, "earlier")):
        ours, theirs = (expected[:-1], received[1:]) if step == 1 else (expected[1:], received[:-1])
        if ours.any() and np.allclose(theirs, ours, rtol=1e-3, atol=1e-9):
            return f"the values stand one timestep {word} than expected: an index is off by one in time"
    return None


def _constant(reference, name, expected, received, wrong, first):
    """Every wrong element is off by one factor, zeros included. One element alone always has a factor, which says nothing."""
    where = _first_time(reference, wrong, first)
    large = where & (np.abs(expected) > 1e-3 * np.abs(expected).max(initial=0.0))
    if np.count_nonzero(large) < ENOUGH:
        return None
    factor = float(np.median(received[large] / expected[large]))
    off = np.abs(received - factor * expected)
    if factor == 0 or abs(factor - 1) < 1e-6 or np.any(off[where] > 1e-3 * np.abs((factor - 1) * expected[where])):
        return None
    close = [text for value, text in _factors(reference, expected) if abs(factor / value - 1) < 1e-3]
    meaning = f" = {' or '.join(close)}" if 0 < len(close) <= MEANINGS else ""
    return f"the wrong values are {factor:.6g} times the expected ones{meaning}"


def _weight_decay(reference, name, expected, received, wrong, first):
    """Each gradient is off by the same share of its parameter."""
    parameter = reference.inputs.get(name.removeprefix("grad_"))
    if not name.startswith("grad_") or name == "grad_x" or np.size(parameter) < ENOUGH:
        return None
    off, parameter = received - expected, np.asarray(parameter, np.float64)
    share = float(np.sum(off * parameter) / np.sum(parameter * parameter)) if parameter.any() else 0.0
    if share == 0 or np.any(np.abs(off - share * parameter) > 1e-2 * np.abs(off).max()):
        return None
    return f"{share:.3g} times the parameter is added to its gradient: weight decay"


def _clipped(reference, arrays):
    """The gradients of all parameters are smaller by one factor, and have a round number for their norm."""
    names = [f"grad_{name}" for name in reference.inputs if name != "x" and f"grad_{name}" in reference.arrays]
    if len(names) < 2 or not set(names) <= set(arrays):
        return None
    ours, theirs = (np.concatenate([np.ravel(a[name]) for name in names]) for a in (reference.arrays, arrays))
    norm, largest = float(np.linalg.norm(theirs)), np.abs(theirs).max()
    factor = norm / np.linalg.norm(ours) if ours.any() else 1.0
    if factor > 0.999 or abs(float(f"{norm:.1g}") / norm - 1 if norm else 1) > 1e-4:
        return None
    if np.any(np.abs(theirs - factor * ours) > 1e-3 * np.abs(theirs) + 1e-6 * largest):
        return None
    return f"the parameters' gradients together are scaled to the norm {norm:.1g}: clipping is left on"


def _precision(expected, received, wrong, unit):
    """Errors of both signs, none of them large, as a coarser dtype inside the computation leaves them."""
    where = wrong & (expected != 0)
    if np.count_nonzero(where) < ENOUGH or np.any(wrong & ~where):
        return None
    relative = received[where] / expected[where] - 1
    if not (relative > 0).any() or not (relative < 0).any():
        return None
    for name in ("float32", "float16", "bfloat16"):
        coarse = UNIT_ROUNDOFF[name]
        if coarse > unit and coarse / 8 < np.median(np.abs(relative)) < 2 * coarse:
            also = " or tf32" if name == "float16" else ""
            return f"errors of both signs, of the size of {name}'s{also} roundoff: perhaps something is computed in it"
    return None


def _factors(reference, expected):
    """(number, where it comes from) for the numbers that are forgotten most often."""
    meta = reference.meta
    x = np.shape(reference.inputs.get("x", 0.0))
    sides = {
        a.shape[-3:-1] for name, a in reference.arrays.items() if name.rpartition(".")[2] in ("u", "y") and a.ndim > 3
    }
    decays = meta.get("decay") or 0.0
    decays = sorted(set(map(float, decays.values() if isinstance(decays, dict) else [decays])) - {0.0})
    found = []
    if len(decays) == 1:
        tau = decays[0]
        found = [((1 + tau * tau) ** 0.5, "sqrt(1 + tau^2)"), (tau, "tau"), (1 - tau, "1 - tau"),
                  (tau * (1 - tau), "tau (1 - tau)")]  # fmt: skip
    found += [(float(meta.get("T", 1)), "T")]
    if len(x) > 1:
        found += [(float(x[1]), "N")]
    if "logits" in reference.arrays:
        found += [(float(reference.arrays["logits"].shape[-1]), "the number of classes")]
    found += [(float(h * w), f"{h} x {w}, a layer's height and width") for h, w in sorted(sides)]
    found = [(value, text) for value, text in found if value not in (0, 1)]
    found += [(1 / value, f"1 / ({text})" if " " in text else f"1 / {text}") for value, text in found]
    return found + [(2.0**k, f"2^{k}, perhaps a loss scale that is left on") for k in range(7, 25)]


def _timestep(reference, name, expected, received, wrong, first):
    """Only the first, or only the last timestep is wrong."""
    T = int(reference.meta.get("T", 1))
    if T < 2 or len(np.atleast_1d(wrong)) != T or np.count_nonzero(wrong) < ENOUGH:
        return None
    times = np.flatnonzero(wrong.reshape(T, -1).any(axis=1))
    if len(times) == 1 and times[0] in (0, T - 1):
        which = "first" if times[0] == 0 else "last"
        return f"only the {which} timestep is wrong"
    return None


def _block(reference, name, expected, received, wrong, first):
    """Right for the first neurons, wrong for most of those of further thread blocks."""
    if expected.ndim < 2:
        return None
    flat = wrong.reshape(len(wrong), -1).any(axis=0)
    start = int(np.argmax(flat))
    if start >= 32 and start & (start - 1) == 0 and flat[start:].mean() > 0.5:
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
