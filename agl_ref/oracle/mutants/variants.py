"""Fresh copies of `agl_ref.reference` in which a snippet of the source, a function or the order of summation is another.

A copy is a module of its own: its functions call one another, so that one changed line is in effect wherever it is used.
"""

import inspect
import re
from functools import cache
from types import ModuleType

from agl_ref import reference

from . import summation

ONE_PASS = (("total((x - mean) * (x - mean), axes) / M", "np.maximum(total(x * x, axes) / M - mean * mean, 0)"),)


@cache
def _source():
    """The reference's source, cut before each function."""
    return tuple(re.split(r"(?m)^(?=def )", inspect.getsource(reference)))


@cache
def _whole():
    return compile("".join(_source()), reference.__file__, "exec")


@cache
def _changed(lines):
    """Code of the pieces of the source in which a snippet is replaced; compiling one is far quicker than the whole."""
    pieces = dict(enumerate(_source()))
    for old, new, *times in lines:
        count, expected = sum(piece.count(old) for piece in pieces.values()), times[0] if times else 1
        if count != expected:
            raise ValueError(
                f"agl_ref/reference.py: expected {old!r} {expected} times, received {count}; bring the mutants in line "
                "with the changed line"
            )
        pieces = {i: piece.replace(old, new) for i, piece in pieces.items()}
    return tuple(
        compile(pieces[i], "reference.py, changed", "exec") for i, old in enumerate(_source()) if old != pieces[i]
    )


def variant(lines=(), functions=None, order="blas"):
    """A copy of the reference.

    Parameters
    ----------
    lines : sequence of (old, new) or (old, new, times)
        Snippets of the source; `old` must occur exactly once, or as often as `times` says.
    functions : callable(module), optional
        Changes the copy further, where a line is not enough: it sets functions of the module.
    order : str
        Of the sums, one of `summation.ORDERS`; "blas" is the reference's own.

    Returns
    -------
    module

    Raises
    ------
    ValueError
        If a snippet does not occur as often as it should.

    Examples
    --------
    >>> import numpy as np
    >>> variant([("v_before + gain * x[t]", "v_before - gain * x[t]")]).lif_forward(np.ones((2, 3)))[1].u[0]
    array([-1., -1., -1.])
    """
    module = ModuleType(reference.__name__)
    module.__dict__.update(__package__=reference.__package__, __file__=reference.__file__)
    exec(_whole(), module.__dict__)
    for code in _changed(tuple(map(tuple, lines))):
        exec(code, module.__dict__)
    if order != "blas":
        module.total = lambda a, axes=None: summation.total(a, order, axes)
        module.product = lambda a, b: summation.product(a, b, order)
    if functions is not None:
        functions(module)
    return module
