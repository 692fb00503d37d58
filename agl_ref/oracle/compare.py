"""Compare an implementation's arrays with a reference: PASS, FAIL or AMBIGUOUS per array and for the whole. NumPy alone."""

import numpy as np

from ._types import gradient_name, unit_roundoff
from .report import Report


def compare(reference, theirs, dtype=None):
    """Judge `theirs` {name: array} against the reference.

    Returns
    -------
    Report
    """
    arrays = {}
    for name, value in theirs.items():
        ours = gradient_name(name, reference.arrays)
        if ours is None:
            raise ValueError(
                f"{name}: expected one of {', '.join(reference.arrays)}, received an unknown array; rename or drop it"
            )
        arrays[ours] = np.asarray(value)
    if dtype is None:
        dtype = next(iter(arrays.values())).dtype.name
    u = unit_roundoff(dtype)
    verdicts = {}
    for name in reference.arrays:
        if name not in arrays:
            continue
        ref, got = reference.arrays[name], arrays[name]
        if got.shape != ref.shape:
            raise ValueError(f"{name}: expected shape {ref.shape}, received {got.shape}; transpose it")
        allowed = reference.bounds[name] * u * (2 if dtype == "float64" else 1)
        inside = np.abs(got.astype(np.float64) - ref) <= allowed
        verdicts[name] = "PASS" if inside.all() else "FAIL"
    verdict = "FAIL" if "FAIL" in verdicts.values() else "PASS"
    missing = [name for name in reference.arrays if name not in arrays]
    return Report(reference.id, verdict, verdicts, list(verdicts), missing, dtype)


def assert_matches(case, dtype=None, **arrays):
    """Raise AssertionError with the report unless every given array matches the case (an id or a Reference)."""
    __tracebackhide__ = True
    if isinstance(case, str):
        from .vectors import load_case

        case = load_case(case)
    report = compare(case, arrays, dtype)
    if report.verdict != "PASS":
        raise AssertionError(str(report))
    return report
