"""All golden cases by id. Their definitions are in the modules named below, their comments in ../notes.json."""

from functools import cache

from . import far, integrate, layers, networks, neuron, shapes, surrogates, thresholds, units
from .case import Case, notes
from .sizes import by_size

__all__ = ["Case", "definition", "definitions", "notes"]


@cache
def definitions():
    """{id: Case} of every case, in the order in which they were added.

    Raises RuntimeError if two have one id.
    """
    modules = (neuron, surrogates, layers, networks, thresholds, units, far, integrate, shapes)
    every = [case for module in modules for case in module.CASES]
    found = {case.id: case for case in every}
    if len(found) != len(every):
        ids = [case.id for case in every]
        raise RuntimeError(f"cases: expected unique ids, received {sorted({i for i in ids if ids.count(i) > 1})} twice")
    return found


def definition(id):
    """The Case of this id; ValueError for an unknown one."""
    if id in by_size():
        return by_size()[id]
    if id not in definitions():
        raise ValueError(f"case: expected an id of `agl-ref vectors list`, received {id!r}; choose one")
    return definitions()[id]
