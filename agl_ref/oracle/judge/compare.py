"""Compare an implementation's arrays with a reference: PASS, FAIL or AMBIGUOUS per array and for the whole. NumPy alone.

PASS       every element is inside its own bound times the dtype's unit roundoff
AMBIGUOUS  a spike, or a neuron's place in or out of the window, flipped within rounding distance of a boundary, or a value
           downstream of one is off, and the dump does not show which decisions were made
FAIL       anything else; also a spike that does not follow from the potential dumped beside it

Where the dump shows the decisions, `settle` has the reference take them over, and what is behind them is judged as well.
Where it does not, `search` looks for those that give the numbers.
"""

import numpy as np

from agl_ref import validate
from agl_ref.oracle.cases.vectors import load_case
from agl_ref.oracle.equations import rule_of
from agl_ref.oracle.types import BITS, Reference, array_name, in_window, unit_roundoff, walk

from .contradictions import contradictions, first_contradiction
from .downstream import Order
from .dump import LAYOUTS, all_in_reference_layout
from .guess import guess_cause
from .report import Judged, Report
from .submission import Made, check_finite, check_input, judged_dtype, known_arrays

# What underflow may take: normal numbers (2^-126 for the others), of float16 subnormal ones, which a device has to keep.
_SMALLEST = {"float64": 2.0**-1022, "float16": 2.0**-24}


def compare(reference, theirs, dtype=None, force=(), layout="TN..C", guess=True, settle=True):
    """Judge an implementation's arrays against the reference.

    Parameters
    ----------
    reference : Reference
    theirs : {name: array}
        Anything with `__array__` or DLPack; some of the reference's arrays are enough. A parameter's bare name means its
        gradient. "labels", "x" and the other inputs, if given, must be the case's own.
    dtype : str, optional
        What the implementation computes in ("float32", "float64", "bfloat16", "tf32", "float16"); by default that of the
        given arrays.
    force : sequence of {"s", "u", "width"}, or "s,u,width"
        Replay the reference's backward pass from these values of `theirs` first (teacher forcing).
    layout : {"TN..C", "NT..C", "TNC..", "NTC.."}
        Of `theirs`; with channels first, weights are (C_out, C_in, kh, kw) and (F_out, F_in).
    guess : bool
        Whether a FAIL comes with a guess at the cause, which tries every known wrong rule.
    settle : bool
        Whether what would be AMBIGUOUS is judged again: from the spikes and potentials of `theirs`, if they are there, else
        by a search for the decisions that give the numbers.

    Returns
    -------
    Report

    Raises
    ------
    ValueError, TypeError
        For arrays that cannot be judged: unknown names, wrong shapes or dtypes, values that are not finite, another case's.
    """
    validate.instance("reference", reference, Reference, "pass what oracle.reference or load_case returned")
    validate.boolean("guess", guess)
    validate.boolean("settle", settle)
    validate.one_of("layout", layout, LAYOUTS)
    if not isinstance(force, str):
        validate.sequence("force", force, kind=str)
    arrays, found = collect(reference, theirs, layout)
    dtype = judged_dtype(found, dtype, reference.arrays)
    _check_precision(reference, dtype)
    forced = tuple(part.strip() for part in force.split(",")) if isinstance(force, str) else tuple(force)
    judged = reference
    if forced:
        # not above: without it nothing but NumPy is loaded
        from agl_ref.oracle.bounds.teacher_forcing import force as replay

        judged, given = replay(reference, arrays, forced)
        taken = {name: arrays[name] for name in given}
        arrays = Made([name for name in arrays if name not in taken], arrays.__getitem__)
        if not arrays:
            raise ValueError(
                "dump: expected something to judge beside the forced values, received none; dump the gradients"
            )

    def judge(reference, arrays, forced=()):
        return _Judge(reference, arrays, dtype, found).report(forced, guess, layout)

    report = judge(judged, arrays, forced)
    if report.verdict == "AMBIGUOUS" and settle:
        from .search import searched  # not above, as before
        from .settle import decided, settled

        if forced:
            return report.settled(decided(reference, judged, taken, arrays, dtype, judge))
        steps = settled(reference, arrays, dtype, judge)
        return report.settled(steps) if steps else searched(reference, arrays, dtype, judge, report)
    return report


def collect(reference, theirs, layout="TN..C"):
    """({name: float64 array}, {name: dtype name}) under the reference's names and in its layout.

    The arrays are made of those in `theirs` each time they are asked for: wide copies of a large dump would fill the memory.
    """
    arrays, found, inputs = known_arrays(theirs, reference.names(), reference.inputs, reference.id)
    for name, array in inputs.items():
        check_input(name, array, np.asarray(reference.inputs[name]), (layout,))
    arrays = all_in_reference_layout(arrays, {name: reference.arrays[name].shape for name in arrays}, layout)
    check_finite(arrays)
    return Made(arrays, lambda name: arrays[name].astype(np.float64)), found


def _check_precision(reference, dtype):
    """Refuse to judge in a dtype that is coarser than the one for which the bounds were derived."""
    own = reference.meta.get("dtype", "float32")
    if BITS[dtype] < BITS[own] and dtype not in reference.meta.get("dtypes", ()):
        raise ValueError(
            f"dtype: expected {own} or finer for {reference.id!r}, received {dtype}, in which its bounds do not hold; choose "
            f"a case for that dtype (agl-ref vectors list), or for your own network reference(..., dtype={dtype!r})"
        )


class _Judge:
    """One comparison: which elements are off, which of them a flip within rounding distance can explain."""

    def __init__(self, reference, arrays, dtype, kinds):
        self.reference, self.arrays, self.dtype, self.kinds = reference, arrays, dtype, kinds
        self.unit = unit_roundoff(dtype)
        self.order = Order(reference.names(), reference.meta.get("layers", ()))
        self.off, self.worst, self.notices = {}, {}, {}
        for name in reference.arrays:
            if name in arrays:
                self._measure(name)
        self.tolerance = Made(self.off, self._tolerance)
        self.seeds, self.hidden = self._flips()
        self.contradictions = contradictions(reference, arrays, kinds, dtype)

    def _measure(self, name):
        """Which elements are off; the largest error over tolerance (1 is the edge; inf where the values must be equal); the
        smallest |factor - 1|, on every element, that leaves one of them outside its tolerance (inf where all are 0)."""
        expected, tolerance = self.reference.arrays[name], self._tolerance(name)
        error, size = np.abs(self.arrays[name] - expected), np.abs(expected)
        self.off[name] = error > tolerance
        with np.errstate(over="ignore"):
            ratio = np.where(
                tolerance > 0, error / np.where(tolerance > 0, tolerance, 1.0), np.where(error > 0, np.inf, 0.0)
            )
        self.worst[name] = float(ratio.max(initial=0.0))
        self.notices[name] = float(np.min(tolerance[size > 0] / size[size > 0], initial=np.inf))

    def _tolerance(self, name):
        """The bound times u (in float64 the reference has rounded too), plus what underflow can take."""
        bound, smallest = np.asarray(self.reference.bounds[name], np.float64), _SMALLEST.get(self.dtype, 2.0**-126)
        twice, size = 2.0 if self.dtype == "float64" else 1.0, np.abs(self.reference.arrays[name])
        underflows = (size > 0) & (size < smallest)
        return np.where((bound > 0) | underflows, twice * bound * self.unit + 16 * smallest, 0.0)

    def _flips(self):
        """({array name: mask of the flips that rounding explains}, {array that would show more flips: text on them})."""
        seeds, hidden = {}, {}
        for name, margin in self.reference.margins.items():
            near = np.asarray(margin) <= self.unit
            if not near.any():
                continue
            block, _, kind = name.rpartition(".")
            if kind == "window":
                flipped, key, what = self._window_flips(block), array_name(block, "du"), array_name(block, "u")
                key = key if key in self.reference.arrays else None
            else:
                flipped, key, what = self.off.get(name), name, name
            if flipped is None:  # it may have flipped
                where, shown = "a boundary", what
                if what in self.kinds:  # a potential that was taken over
                    where, shown = "the window's edge", array_name(block, "du")
                hidden[shown] = (
                    f"{int(near.sum())} of {what} within rounding distance of {where}; {shown} is not in the dump"
                )
                flipped = near
            if key and (flipped & near).any():
                seeds[key] = seeds.get(key, False) | (flipped & near)
        return seeds, hidden

    def _window_flips(self, block):
        """Neurons whose place in or out of the window is another one in the dump, or None if it does not say."""
        ref, potential = self.reference, array_name(block, "u")
        u, width = (self.arrays.get(array_name(block, key)) for key in ("u", "width"))
        own_width = ref.arrays.get(array_name(block, "width"))
        width = own_width if width is None else width
        if u is None or width is None:
            return None
        v_th, edge = ref.threshold(block), ref.conventions["window_edge"]
        mine = in_window(ref.arrays[potential], own_width, v_th, edge)
        theirs = in_window(u, width, v_th, edge)
        # A dumped u is rounded: within the margin it cannot tell on which side the implementation had it.
        unsure = (np.asarray(ref.margins[array_name(block, "window")]) <= self.unit) & self._gradient_off(block)
        return (mine != theirs) | unsure

    def _gradient_off(self, block):
        """Where the neurons' own gradient is off; anywhere if the dump does not have it."""
        own = (f"{block}.du", f"{block}.dx") if block else ("du", "grad_x")
        name = next((n for n in own if n in self.off), None)
        return self.off[name] if name else np.ones(self.reference.arrays[array_name(block, "u")].shape, bool)

    def explained(self, name, sources):
        """Mask of the elements of `name` downstream of the marked elements of the sources {name: mask}."""
        result = np.zeros(self.reference.arrays[name].shape, bool)
        for source, mask in sources.items():
            reached = self.order.after(name, source, mask)
            if reached is not None:
                result |= reached
            if source == name:
                result |= mask
        return result

    def verdict(self, name):
        off = self.off[name]
        if name in self.contradictions and self.contradictions[name].any():
            return "FAIL"
        if not off.any():
            return "PASS"
        excused = self.explained(name, self.seeds)
        return "FAIL" if (off & ~excused).any() else "AMBIGUOUS"

    def report(self, forced=(), guess=True, layout="TN..C"):
        ref = self.reference
        verdicts = {name: self.verdict(name) for name in self.off}
        found = set(verdicts.values())
        verdict = "FAIL" if "FAIL" in found else "AMBIGUOUS" if "AMBIGUOUS" in found else "PASS"
        first = self.first(None)
        missing = [name for name in ref.arrays if name not in self.off]
        details = {"off": {name: int(mask.sum()) for name, mask in self.off.items()},
                   "sizes": {name: int(mask.size) for name, mask in self.off.items()},
                   "worst": self.worst, "notices": self.notices,
                   "forced": list(forced), "hidden": self.hidden,
                   "flips": {name: int(mask.sum()) for name, mask in self.seeds.items()}}  # fmt: skip
        contradiction = first_contradiction(ref, self.arrays, self.contradictions)
        if contradiction:
            details["contradiction"] = contradiction
        if verdict == "FAIL":
            details["first_failure"] = self.first({name for name, v in verdicts.items() if v == "FAIL"})
            rules = None if forced else self.tolerance  # a replayed backward pass is no run of the case
            first_failure = details["first_failure"]
            args = (ref, self.arrays, self.off, first_failure, rules, self.unit, layout)
            with np.errstate(over="ignore", invalid="ignore"):  # of values near the largest number
                details["cause"] = guess_cause(*args) if guess else None
        judged = {name: Judged(ref, name, self.arrays, self.tolerance) for name in self.off}
        return Report(ref.id, verdict, self.dtype, verdicts, list(verdicts), missing, first, details, judged)

    def first(self, among):
        """The first element that is off, in the order of computation (in the arrays `among`, if given), as a dict."""
        T = int(self.reference.meta.get("T", 1))
        for name, t in walk(self.reference.arrays, T):
            if name not in self.off or (among is not None and name not in among):
                continue
            off = self.off[name] if t is None else self.off[name][t : t + 1]
            if among is not None:
                excused = self.explained(name, self.seeds)
                off = off & ~(excused if t is None else excused[t : t + 1])
            if off.any():
                index = tuple(int(i) for i in np.argwhere(off)[0])
                return self._describe(name, index if t is None else (t, *index[1:]))
        return None

    def _describe(self, name, index):
        ref = self.reference
        expected, received = float(ref.arrays[name][index]), float(self.arrays[name][index])
        spacing = float(np.spacing(np.abs(expected))) * self.unit / 2.0**-53
        mask = np.zeros(ref.arrays[name].shape, bool)
        mask[index] = True
        total = sum(int(off.sum()) for off in self.off.values())
        covered = sum(int((off & self.explained(other, {name: mask})).sum()) for other, off in self.off.items())
        margins = {}
        for kind in ("s", "window"):
            margin = ref.margins.get(array_name(name.rpartition(".")[0], kind))
            if margin is not None and np.shape(margin) == mask.shape:
                margins[kind] = float(np.asarray(margin)[index]) / self.unit
        return {
            "name": name,
            "index": list(index),
            "rule": rule_of(ref, name),
            "expected": expected,
            "received": received,
            "expected_hex": expected.hex(),
            "received_hex": received.hex(),
            "error": abs(received - expected),
            "allowed": float(self.tolerance[name][index]),
            "ulps": abs(received - expected) / spacing if spacing > 0 else None,
            "margin": margins,
            "explains": [covered, total],
            "ambiguous": bool(self.seeds.get(name, np.zeros(mask.shape, bool))[index]),
        }


def assert_matches(case, dtype=None, force=(), layout="TN..C", **arrays):
    """Raise AssertionError with the report unless every given array matches the case.

    Parameters
    ----------
    case : str or Reference
        A case's id, or a reference.
    dtype, force, layout
        As for `compare`.
    **arrays
        By the reference's names; for names with a dot pass `**{"conv1.u": u}`.

    Returns
    -------
    Report
    """
    __tracebackhide__ = True
    if isinstance(case, str):
        case = load_case(case)
    if not isinstance(case, Reference):
        raise TypeError(f"case: expected the id of a case or a Reference, received {type(case).__name__}; pass its id")
    report = compare(case, arrays, dtype, force, layout)
    if report.verdict != "PASS":
        raise AssertionError(str(report))
    return report
