"""Faults that show beyond a size only: a sum that stops after some of its terms, an array that is 0 behind some values.

Which golden cases kill them is counted, the stored ones and those by size together:

    python -m agl_ref.oracle.mutants.truncations     count them anew, and write truncations.json
"""

import json
import sys
from collections import Counter
from functools import cache
from pathlib import Path

import numpy as np

from agl_ref import reference as right
from agl_ref.conventions import Conventions
from agl_ref.oracle.cases.sizes import by_size
from agl_ref.oracle.cases.vectors import cases, load_case
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.problems import problem_of

from .table import BACK_IN_TIME, GAMMA_BAR
from .variants import variant

FILE = Path(__file__).parents[1] / "truncations.json"
SIZES = (16, 32, 64, 128, 256, 1024, 4096)

_NEURONS, _ROWS = slice(1, None), slice(0, -1)  # axes that are counted through together
_IMAGES = {"samples": 1, "width": -2, "channels": -1}
_NEURON = dict.fromkeys(("u", "s", "v", "du", "grad_x"), {"neurons": _NEURONS, "timesteps": 0})
_NORM = {"rows": _ROWS, "channels": -1}
_LOSS = {"dlogits": {"samples": 1, "classes": -1}}
STOPS = {  # {op: {array: {what is counted: axis or axes}}}, where the array is 0 beyond a size
    "conv2d": {"y": _IMAGES, "grad_x": _IMAGES, "grad_weight": {"inputs": -2, "outputs": -1}, "grad_bias": {"outputs": -1}},
    "linear": {"y": {"samples": 1, "outputs": -1}, "grad_x": {"samples": 1, "inputs": -1},
               "grad_weight": {"inputs": 0, "outputs": 1}, "grad_bias": {"outputs": -1}},
    "tdbn": {"y": _NORM, "grad_x": _NORM, "grad_gamma": {"channels": -1}, "grad_beta": {"channels": -1}},
    "surrogate": {"y": {"neurons": _NEURONS}},
    "lif": _NEURON,
    "plif": _NEURON,
    "avg_pool": dict.fromkeys(("y", "grad_x"), {"width": -2, "channels": -1}),
    "global_avg_pool": {"y": {"channels": -1}, "grad_x": {"width": -2, "channels": -1}},
    "add": dict.fromkeys(("y", "grad_x", "grad_side"), {"channels": -1}),
    "cross_entropy": _LOSS,
    "tet": _LOSS,
    "network": {"conv1.s": {"neurons": _NEURONS}, "conv1.du": {"neurons": _NEURONS}, "logits": {"samples": 1},
                "grad_conv1.weight": {"outputs": -1}, "grad_fc.weight": {"inputs": 0}},
}  # fmt: skip
_SYNAPSE = {"terms": ("y", "grad_x", "grad_weight", "grad_bias")}
SUMS = {  # {op: {what is counted: arrays}}, whose sums end at a size
    "conv2d": _SYNAPSE,
    "linear": _SYNAPSE,
    "tdbn": {"terms": ("y", "grad_x", "grad_gamma", "grad_beta")},
    "width": {"terms": ("width",)},
    "lif": {"terms": ("grad_decay",), "timesteps": ("grad_decay",)},
    "plif": {"terms": ("grad_w",), "timesteps": ("grad_w",)},
    "global_avg_pool": {"terms": ("y",)},
    "cross_entropy": {"terms": ("loss", "dlogits")},
    "tet": {"terms": ("loss", "dlogits")},
    "network": {"terms": ("logits", "loss", "grad_conv1.weight", "grad_x")},
}


@cache
def stopping(what, size):
    """A copy of the reference whose sums end after `size` terms, or its backward loop after as many timesteps."""
    if what == "timesteps":
        return variant([(BACK_IN_TIME, f"for t in reversed(range(min(len(ds), {size}))):")])

    def shorten(module):
        def total(a, axes=None):
            axes = tuple(range(a.ndim)) if axes is None else tuple(axis % a.ndim for axis in axes)
            return _flat(a, axes)[0][:size].sum(axis=0)

        module.total, module.product = total, lambda a, b: a[:, :size] @ b[:size]

    return variant([(GAMMA_BAR, f"float(np.sum(gamma[:{size}], dtype=np.float64) / gamma.size)", 2)], shorten)


def _flat(a, axes):
    """(a copy with these axes as one, the first; its shape before that)"""
    moved = np.moveaxis(a, axes, range(len(axes)))
    return np.array(moved.reshape(-1, *moved.shape[len(axes) :])), moved.shape


def cut(array, axes, size):
    """The array with zeros behind the first `size` values along an axis, or along several that are counted through."""
    axes = tuple(range(array.ndim)[axes]) if isinstance(axes, slice) else (axes % array.ndim,)
    flat, shape = _flat(array, axes)
    flat[size:] = 0
    return np.moveaxis(flat.reshape(shape), range(len(axes)), axes)


def faults():
    """Every fault, as "conv2d y samples"."""
    ends = [(op, name, what) for op, arrays in STOPS.items() for name, whats in arrays.items() for what in whats]
    sums = [(op, name, what) for op, whats in SUMS.items() for what, names in whats.items() for name in names]
    return sorted({f"{op} {name} {what}" for op, name, what in ends + sums})


def kills(reference, sizes=SIZES):
    """{(fault, size)} of those that a golden case kills."""
    op, found = reference.meta["op"], set()

    def judge(name, what, size, wrong):
        if not np.array_equal(wrong, reference.arrays[name]):
            report = compare(reference, {name: wrong}, dtype="float32", guess=False, settle=False)
            found.update([(f"{op} {name} {what}", size)] if report.verdict == "FAIL" else [])

    for name, whats in STOPS.get(op, {}).items():
        for what, axes in whats.items() if name in reference.arrays else ():
            for size in sizes:
                judge(name, what, size, cut(reference.arrays[name], axes, size))
    problem, conventions = problem_of(reference), Conventions(**reference.conventions)
    for what, names in SUMS.get(op, {}).items():
        whole = problem.run(right, conventions)
        for size in sizes:
            with np.errstate(all="ignore"):
                arrays = problem.run(stopping(what, size), conventions)
            changed = [name for name in names if name in arrays and not np.array_equal(arrays[name], whole[name])]
            for name in changed:
                judge(name, what, size, arrays[name])
            if not changed:  # larger sizes change nothing either
                break
    return found


def survivors(size=32):
    """The faults beyond a size that no golden case by a size up to twice that kills: there should be none."""
    killed = set()
    for id in by_size():
        if size < int(id.rpartition("-")[2]) < 2 * size:
            killed |= kills(load_case(id), (size,))
    return [fault for fault in faults() if (fault, size) not in killed]


def count(ids):
    """{fault: [how many of these golden cases kill it, for each of SIZES]}."""
    counts = Counter(kill for id in ids for kill in kills(load_case(id)))
    return {fault: [counts[fault, size] for size in SIZES] for fault in faults()}


def stored():
    """What `count` gave for all golden cases when the table was written."""
    return json.loads(FILE.read_text(encoding="utf-8"))


def main():
    """Write the table of all golden cases."""
    rows = [f"{json.dumps(fault)}: {counts}" for fault, counts in count([*cases(), *by_size()]).items()]
    FILE.write_text("{\n" + ",\n".join(rows) + "\n}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
