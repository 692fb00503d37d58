"""The form of a result: how many values, of which type, shape and dtype, and whether they are finite."""

import numpy as np


def describe(value):
    """A value in a few words: its shape if it is an array."""
    if isinstance(value, np.ndarray) and value.ndim:
        return f"of shape {value.shape}"
    if isinstance(value, int | float | np.number | np.ndarray):
        return "a number"
    if callable(value):
        return "a function"
    article = "an" if type(value).__name__[0] in "aeiou" else "a"
    return f"{article} {type(value).__name__}"


def values_of(exercise, result, expected):
    """The results one by one, or a text if there are too many or too few."""
    names = ", ".join(exercise.outputs)
    if result is None:
        return f"It returns None: is the return statement missing? Expected: {names}."
    if len(expected) == 1:
        if isinstance(result, tuple):
            return (f"It returns a tuple of {len(result)}, expected {names} alone"
                    f"{': is there a comma after it?' if len(result) == 1 else '.'}")  # fmt: skip
        return (result,)
    if not isinstance(result, tuple | list):
        return f"It returns one value, {describe(result)}; expected {len(expected)}: return {names}."
    if len(result) != len(expected):
        return f"It returns {len(result)} values, expected {len(expected)}: return {names}."
    shapes, right = [getattr(value, "shape", ()) for value in result], [value.shape for value in expected]
    if shapes != right and sorted(shapes) == sorted(right):
        return f"The results seem to be in another order: return {names}."
    return tuple(result)


def form_problem(exercise, name, value, expected, arguments):
    """Text if a value has another type, shape or dtype than expected, or is not finite; else None."""
    if value is None:
        return f"{name} is None; expected {_kind(expected)}."
    if isinstance(value, list | tuple) and expected.ndim:
        return (
            f"{name} is a {type(value).__name__}; expected an array of shape {expected.shape}: np.array(...) makes one."
        )
    try:
        array = np.asarray(value)
    except Exception:  # whatever __array__ of the value does
        array = np.asarray(None)
    if array.dtype.kind not in "biufc":
        return (
            f"{name} is {describe(value)}{' of objects' if array.ndim else ''}; expected {_kind(expected)} of float64."
        )
    if array.shape != expected.shape:
        hint = _shape_hint(exercise, name, array.shape, expected.shape, arguments)
        return f"{name} has shape {array.shape}; expected {expected.shape or 'a single number'}.{hint}"
    if array.dtype.kind == "b":
        return f"{name} holds True and False; expected numbers, 0.0 and 1.0: .astype(float) turns one into the other."
    if array.dtype.kind == "c" or array.dtype == np.float16:
        return f"{name} is of dtype {array.dtype}; expected float64."
    if array.dtype.kind in "iu" and array.ndim:
        return (f"{name} is of dtype {array.dtype}; expected float64. An array of integers cuts off what is behind the "
                "decimal point: make it with np.zeros(shape), or use .astype(float).")  # fmt: skip
    bad = ~np.isfinite(array)
    if bad.any():
        return (f"{name} is not finite in {bad.sum()} of {array.size} places (NaN or infinite): is there a division by zero, "
                "an overflow in exp, or memory from np.empty that is never filled?")  # fmt: skip
    return None


def _kind(expected):
    return f"an array of shape {expected.shape}" if expected.ndim else "a number"


def _shape_hint(exercise, name, got, expected, arguments):
    if not expected:
        return " Is a sum or a mean missing?"
    for parameter, argument in zip(exercise.parameters, arguments, strict=True):
        shape = np.shape(argument)
        if shape and shape != expected and got in (shape, expected + shape, shape + expected):
            return f" That is one for each entry of {parameter}: is a sum or a mean over {parameter} missing?"
    if sorted(got) == sorted(expected):
        return " Are axes transposed?"
    if len(got) == len(expected):
        off = [g - e for g, e in zip(got, expected, strict=True)]
        if name in exercise.border and off[1] == off[2] != 0:
            return " The padding does not fit." if off[1] > 0 else " Is the padding missing?"
        if name in exercise.time and abs(off[0]) == 1 and not any(off[1:]):
            return f" That is one timestep too {'many' if off[0] > 0 else 'few'}."
    if name in exercise.time and got == expected[1:]:
        return " Where is the time axis? It is the first one."
    if np.prod(got) == np.prod(expected):
        return " The number of entries is right: a reshape, or an axis of length 1 too many."
    return ""
