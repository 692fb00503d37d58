"""Computes golden cases, and compares stored ones with what is computed anew.

    python -m agl_ref.oracle.cases.generate          write the cases that have no file yet; fail if a stored one would change
    python -m agl_ref.oracle.cases.generate --bounds write all files anew after a change of the bounds or the notes; refuse if
                                                     an input or a value would change

Nothing else in the project writes golden files, least of all a test.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from agl_ref.oracle.bounds.reference import reference_of_case
from agl_ref.oracle.types import decode_bounds, encode_bounds, unit_roundoff

from .refusals import certificate, coverage, dtypes, exact_forward, refusals
from .registry import definition, definitions
from .vectors import FOLDER, cases, is_by_size, load_case, manifest, write, written_out


class ProvesNothing(ValueError):
    """A case that a wrong implementation could pass, or whose flags are not true."""


def generate(case):
    """The Reference of a case, checked.

    Parameters
    ----------
    case : Case

    Returns
    -------
    Reference : `meta` also has the tier, the flags, "coverage", "certificate" and "dtypes", the dtypes in which an
        implementation can be judged by it.

    Raises
    ------
    ProvesNothing
        If nobody fires, nobody is reset, all neurons are in the window, a flag is not true, a convention that the case is
        to decide changes nothing, or a realistic case has no margin.
    """
    reference = exact_forward(case, reference_of_case(case))
    reference = replace(reference, inputs=case.inputs())
    found = coverage(reference)
    reasons = refusals(case, reference, found)
    if reasons:
        raise ProvesNothing(f"{case.id}: " + "; ".join(reasons))
    own = {"tier": case.tier, "flags": list(case.flags), "tells": list(case.decides), "comment": case.comment}
    own.update(coverage=found, certificate=certificate(case, reference), dtypes=dtypes(case, reference))
    return replace(reference, meta={**reference.meta, **own})


# --- verification -----------------------------------------------------------------------------------------------------


def verify(id, folder=None):
    """Compute a stored case anew and compare: a list of what differs, empty if nothing does.

    Inputs, spikes and everything exact must be the same bits; other values may differ by float64 rounding within their
    bounds (another BLAS sums in another order), and bounds by a factor of 2 (they are estimated from random errors).
    """
    stored = load_case(id, folder)
    if is_by_size(id):
        return []  # computed, and held by its hashes
    try:
        fresh = generate(definition(id))
    except ProvesNothing as error:
        return [str(error)]
    return [*_different_facts(stored, fresh), *different_arrays(stored, fresh)]


def _different_facts(stored, fresh):
    meta = written_out(json.loads(json.dumps(fresh.meta)), fresh.inputs)
    for key in ("op", "tier", "flags", "comment", "layers", "v_th", "decay", "T", "surrogate", "dtypes", "coverage"):
        if stored.meta.get(key) != meta.get(key):
            yield f"{key}: stored {stored.meta.get(key)!r}, computed {meta.get(key)!r}"
    if stored.conventions != fresh.conventions:
        yield "the conventions differ"
    for kind in ("inputs", "arrays", "bounds", "margins"):
        if list(getattr(stored, kind)) != list(getattr(fresh, kind)):
            yield f"the {kind} have other names"


def different_arrays(stored, fresh):
    """What differs between the inputs, values and bounds of two References of a case."""
    for name, value in fresh.inputs.items():
        if not np.array_equal(stored.inputs.get(name), value):
            yield f"input {name} differs"
    for name, value in fresh.arrays.items():
        held, bound = stored.arrays.get(name), stored.bounds.get(name)
        if held is None or held.shape != value.shape:
            yield f"{name} has another shape"
            continue
        off = np.abs(held - value)
        allowed = 2 * bound * unit_roundoff("float64")
        if (off > allowed).any():
            yield f"{name} differs by {off.max():.3g}, allowed {allowed.flat[off.argmax()]:.3g}"
        new = decode_bounds(encode_bounds(fresh.bounds[name]))
        if ((bound > 0) != (new > 0)).any() or (bound > 2.5 * new).any() or (new > 2.5 * bound).any():
            yield f"the bounds of {name} differ by more than a factor of 2"


# --- writing --------------------------------------------------------------------------------------------------------


def main(arguments=()):
    """Write the files of new cases, or with "--bounds" all files; returns the exit code."""
    if list(arguments) == ["--bounds"]:
        return rewrite_bounds()
    stored = {entry["id"]: entry for entry in manifest()["cases"]}
    missing = sorted(set(stored) - set(definitions()))
    if missing:
        raise RuntimeError(
            f"cases: expected the definitions of all stored ids, received none of {missing}; restore them"
        )
    changed = 0
    for case in definitions().values():
        if case.id in stored:
            problems = verify(case.id)
            changed += bool(problems)
            print(f"{case.id}: " + ("; ".join(problems) or "as stored"))
        else:
            write(generate(case))
            print(f"{case.id}: written")
    return 1 if changed else 0


def rewrite_bounds(folder=None):
    """Write every stored file anew with values as stored and bounds, margins and notes as computed now."""
    folder = Path(folder or FOLDER)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        for id in cases(folder=folder):
            stored, fresh = load_case(id, folder), generate(definitions()[id])
            problems = [problem for problem in different_arrays(stored, fresh) if "bounds of" not in problem]
            if problems:
                print(f"{id}: {'; '.join(problems)}; nothing was written")
                return 1
            write(replace(fresh, inputs=stored.inputs, arrays=stored.arrays), scratch)
        for path in sorted(Path(scratch).iterdir(), key=lambda path: path.suffix != ".npz"):  # the manifest last
            shutil.move(path, folder / path.name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
