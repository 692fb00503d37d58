"""The golden cases: which there are, why each exists, and the inputs it is computed from.

Ids are permanent: a case is never renamed, renumbered or changed, only added; one that turns out to be wrong keeps its id,
gets the flag "withdrawn" and a successor. The cases are in neuron.py, surrogates.py, layers.py, networks.py
and thresholds.py; the comments are in ../notes.json.

    tier 1   dyadic numbers: every value is exact, any correct implementation gives these bits
    tier 2   the forward pass, kappa and the window are exact; gradients meet a factor 1/kappa or a softmax that is not
    tier 3   realistic numbers, with a certificate that rounding cannot flip a spike or a neuron's window
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

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
        "network" or an op of `agl_ref.oracle.cases.ops`.
    tier : int
        1, 2 or 3, see this module.
    make : callable(Draw) -> {name: ndarray}
        The inputs, float64 values of few significand bits, and int64 labels.
    meta : dict
        The op's scalars, or the network's layers; JSON can hold it.
    flags : tuple of str
        Keys of notes.json.
    conventions : Conventions
    tells : tuple of str
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
    tells: tuple = ()
    bits: int | None = None
    draw: int = 0

    @property
    def comment(self):
        """Why the case exists: what goes wrong in an implementation that only this kind of case shows."""
        return notes()["cases"][self.id]

    def inputs(self):
        """{name: ndarray}, the same at every call and on every machine."""
        return self.make(Draw(f"{self.id}/{self.draw}"))


@cache
def notes():
    """{"flags": {flag: {"bug", "effect"}}, "cases": {id: comment}} of notes.json."""
    return json.loads((Path(__file__).parents[1] / "notes.json").read_text(encoding="utf-8"))


@cache
def definitions():
    """{id: Case} of every case, in the order in which they were added.

    Raises RuntimeError if two have one id.
    """
    from . import layers, networks, neuron, surrogates, thresholds

    first = (*neuron.CASES, *surrogates.CASES, *layers.CASES, *networks.CASES)
    every = (*first, *thresholds.CASES)
    found = {case.id: case for case in every}
    if len(found) != len(every):
        ids = [case.id for case in every]
        raise RuntimeError(f"cases: expected unique ids, received {sorted({i for i in ids if ids.count(i) > 1})} twice")
    return found


def definition(id):
    """The Case of this id; ValueError for an unknown one."""
    if id not in definitions():
        raise ValueError(f"case: expected an id of `agl-ref vectors list`, received {id!r}; choose one")
    return definitions()[id]
