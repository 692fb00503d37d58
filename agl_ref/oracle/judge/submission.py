"""What an implementation gives, under the reference's names; unknown and repeated arrays are refused. NumPy alone."""

import difflib
from collections.abc import Mapping

import numpy as np

from agl_ref.oracle.types import BITS, dtype_name, gradient_name, representable

from .dump import LAYOUTS, as_numpy, fits_layout, to_reference_layout

_ALIASES = {
    "spike": "s", "spikes": "s", "mem": "u", "membrane": "u", "potential": "u", "v_reset": "v", "kappa": "width",
    "out": "y", "output": "y", "dx": "grad_x", "x_grad": "grad_x", "input_grad": "grad_x", "grad_input": "grad_x",
    "ddecay": "grad_decay", "grad_tau": "grad_decay", "dtau": "grad_decay", "grad_s": "ds", "grad_u": "du",
}  # fmt: skip


class Made(Mapping):
    """{name: make(name)}: an array is made when it is asked for and not kept, so that never many of them are held at once."""

    def __init__(self, names, make):
        self._names, self._make = list(names), make

    def __getitem__(self, name):
        if name not in self._names:
            raise KeyError(name)
        return self._make(name)

    def __iter__(self):
        return iter(self._names)

    def __len__(self):
        return len(self._names)


def mapping(theirs):
    """`theirs` if it is {name: array}; TypeError otherwise."""
    if not isinstance(theirs, Mapping) or not all(isinstance(name, str) for name in theirs):
        raise TypeError(f"theirs: expected {{name: array}}, received {_kind(theirs)}; pass a dict of named arrays")
    return theirs


def _kind(theirs):
    return type(theirs).__name__ + (" with names that are no strings" if isinstance(theirs, Mapping) else "")


def known_arrays(theirs, names, inputs, id):
    """What is given, sorted into outputs and inputs.

    Parameters
    ----------
    theirs : {name: array}
        Anything with `__array__` or DLPack. A parameter's bare name means its gradient, unless the values are the
        parameter's own. "case" names the case that was run.
    names : sequence of str
        Of the reference's arrays.
    inputs : {name: ndarray}
        Of the case.
    id : str

    Returns
    -------
    ({name: ndarray}, {name: dtype name of those that are floating-point}, {input name: ndarray})

    Raises
    ------
    ValueError, TypeError
        For another case, unknown, repeated or mistyped arrays, values that are not finite, or no array at all.
    """
    arrays, kinds, given_inputs = {}, {}, {}
    for given, value in mapping(theirs).items():
        if given == "case":
            if text(value) != id:
                raise ValueError(f"case: expected a dump of {id!r}, received one of {text(value)!r}; check it against "
                                 "its own case")  # fmt: skip
            continue
        name = gradient_name(given, names)
        array, kind = as_numpy(given, value)
        if given in inputs and given not in names and (name is None or is_input(array, np.asarray(inputs[given]))):
            given_inputs[given] = array
            continue
        if name is None:
            raise ValueError(
                f"{given}: expected one of {shortened(names)}, received an unknown name; {_advice(given, names)}"
            )
        if name in arrays:
            raise ValueError(f"{name}: expected it once, received it twice (also as {given!r}); drop one")
        if array.dtype.kind != "f" and name.rpartition(".")[2] != "s":
            raise TypeError(
                f"{name}: expected floating-point numbers, received {array.dtype}; dump it as it was computed"
            )
        arrays[name] = array
        if array.dtype.kind == "f":
            kinds[name] = kind
    if not arrays:
        raise ValueError(f"dump: expected one of {shortened(names)}, received none; dump u, s and the gradients")
    return arrays, kinds, given_inputs


def text(value):
    """A case's id as a dump holds it: a string or bytes, alone or in an array of one."""
    array = np.asarray(value)
    value = array.item() if array.size == 1 else array
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def check_finite(arrays):
    """ValueError with the place of the first value that is not finite."""
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            raise ValueError(f"{name}: expected finite values, received {array[index]} at index {index}; a buffer that was "
                             "never written, or a division by zero")  # fmt: skip


def is_input(array, own):
    """Whether an array holds an input of the case, up to the rounding of its dtype."""
    return array.shape == own.shape and np.allclose(array, own, rtol=2.0**-7, atol=0)


def check_input(name, array, own, layouts=LAYOUTS):
    """An input in a dump must be the case's own, in one of these layouts."""
    fitting = [layout for layout in layouts if array.dtype.kind == "f" and fits_layout(name, array, own.shape, layout)]
    turned = [to_reference_layout(name, array, own.shape, layout) for layout in fitting]
    if array.dtype.kind == "f" and not turned:
        to_reference_layout(name, array, own.shape, layouts[0])  # says what is wrong with the shape
    if not any(is_input(candidate, own) for candidate in turned or [array]):
        size = np.abs(own).sum()  # a loss scale left on shows in ds
        factor = np.abs(array).sum() / size if size > 0 else 1.0
        scaled = factor > 0 and any(is_input(candidate / factor, own) for candidate in turned)
        what = f"{factor:g} times its values" if scaled else "other values"
        raise ValueError(
            f"{name}: expected this case's input, received {what}; run the implementation on the case's inputs"
        )


def judged_dtype(kinds, dtype, right=None):
    """The dtype to judge in: that asked for, which may not be finer than the arrays, or the coarsest of theirs.

    Spikes, and arrays whose values in `right` a coarser dtype holds exactly, say nothing about it if there is anything else.
    """

    def telling(name, kind):
        exact = name in (right or ()) and kind != "float64" and representable(right[name], kind).all()
        return name.rpartition(".")[2] != "s" and not exact

    kinds = {name: kind for name, kind in kinds.items() if telling(name, kind)} or kinds
    if dtype is None:
        return min(set(kinds.values()), key=lambda kind: BITS[kind]) if kinds else "float32"
    dtype = dtype_name(dtype)
    coarser = sorted(name for name, kind in kinds.items() if dtype == "float64" and kind != "float64")
    if coarser:
        raise ValueError(f"{coarser[0]}: expected float64, received {kinds[coarser[0]]}; dump it in float64, or judge it in "
                         "its own dtype")  # fmt: skip
    return dtype


def shortened(names):
    """Names for a message: all of them, or the first ten and how many there are."""
    names = list(names)
    return ", ".join(names) if len(names) <= 12 else ", ".join(names[:10]) + f", ... ({len(names)} names)"


def _advice(given, names):
    meant = _meant(given, list(names))
    return f"did you mean {meant}? Rename or drop it" if meant else "rename or drop it"


def _meant(given, names):
    """The name that was probably meant, or None."""
    name = given.rpartition("/")[2]
    block, dot, key = name.rpartition(".")
    for guess in (name, name.lower(), block + dot + _ALIASES.get(key.lower(), key), f"grad_{name}",
                  f"grad_{name.removesuffix('_grad')}", f"grad_{name[1:]}"):  # fmt: skip
        if guess in names:
            return guess
    near = [close for each in (name, f"grad_{name}") for close in difflib.get_close_matches(each, names, 1, 0.8)]
    return near[0] if near else None
