"""What a golden case is before it is computed: its id, why it exists, and the inputs that it is computed from.

Ids are permanent: a case is never renamed, renumbered or changed, only added; one that turns out to be wrong keeps its id,
gets the flag "withdrawn" and a successor.

    tier 1   dyadic numbers: every value is exact, any correct implementation gives these bits
    tier 2   the forward pass, kappa and the window are exact; gradients meet a factor 1/kappa or a softmax that is not
    tier 3   realistic numbers, with a certificate that rounding cannot flip a spike or a neuron's window
"""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from agl_ref.conventions import MPD_AGL, Conventions

from .draw import Draw


@dataclass(frozen=True)
class Case:
    """One golden case before it is computed.

    Attributes
    ----------
    id : str
        Permanent.
    op : str
        "network" or an op of `agl_ref.oracle.bounds.ops`.
    tier : int
        1, 2 or 3, see this module.
    make : callable(Draw) -> {name: ndarray}
        The inputs, float64 values of few significand bits, and int64 labels.
    meta : dict
        The op's scalars, or the network's layers; JSON can hold it.
    flags : tuple of str
        Keys of notes.json.
    conventions : Conventions
    decides : tuple of str
        Fields of the conventions that this case must decide: every other value changes an array.
    bits : int or None
        Significand bits that suffice for every value on the way, tier 1 (of the forward pass: tier 2).
    draw : int
        Which stream of numbers, where the first had a value too near to a boundary.
    """

    id: str
    op: str
    tier: int
    make: Callable
    meta: dict = field(default_factory=dict)
    flags: tuple = ()
    conventions: Conventions = MPD_AGL
    decides: tuple = ()
    bits: int | None = None
    draw: int = 0

    @property
    def comment(self):
        """Why the case exists: what goes wrong in an implementation that only this kind of case shows."""
        return notes()["cases"][self.id]

    def inputs(self):
        """{name: ndarray}, the same at every call and on every machine."""
        return self.make(Draw(f"{self.id}/{self.draw}"))


def case(id, op, tier, make, meta=None, flags=(), decides=(), bits=None, draw=0, **conventions):
    """A Case; fields of the conventions that are not MPD-AGL's come as keywords."""
    return Case(id, op, tier, make, meta or {}, flags, Conventions(**conventions), decides, bits, draw)


@cache
def notes():
    """{"flags": {flag: {"bug", "effect"}}, "cases": {id: comment}} of notes.json."""
    return json.loads((Path(__file__).parents[1] / "notes.json").read_text(encoding="utf-8"))


def digest(array):
    """SHA-256 of an array's dtype, shape and little-endian bytes in row order."""
    array = np.asarray(array)
    plain = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<"), copy=False))
    head = f"{plain.dtype.str} {list(array.shape)}\n".encode()
    return hashlib.sha256(head + plain.tobytes()).hexdigest()
