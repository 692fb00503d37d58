"""Bring an implementation's arrays under the reference's names and into its layout, or say what would fit."""

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.interop.layouts import from_layout, weight_from_torch
from agl_ref.oracle.judge.dump import all_in_reference_layout, as_numpy
from agl_ref.oracle.judge.submission import check_finite, check_input, judged_dtype, known_arrays, mapping


def named_arrays(theirs, names, inputs=None, id="own"):
    """Their arrays under the reference's names, as float64; inputs {name: array} of the case are left out.

    Raises ValueError for surplus names, another case's dump, other inputs than the case's, values that are not finite;
    TypeError for what is no array.
    """
    arrays, _, given = known_arrays(theirs, list(names), inputs or {}, id)
    for name, array in given.items():
        check_input(name, array, np.asarray(inputs[name]))
    check_finite(arrays)
    return {name: array.astype(np.float64) for name, array in arrays.items()}


def dtype_of(theirs, dtype=None):
    """The dtype that was asked for, or the coarsest of the arrays; ValueError for one that is finer than the arrays."""
    kinds = {
        name: as_numpy(name, value) for name, value in mapping(theirs).items() if name not in ("case", "x", "side")
    }
    return judged_dtype({name: kind for name, (array, kind) in kinds.items() if array.dtype.kind == "f"}, dtype)


def in_layout(arrays, shapes, axis_order):
    """(arrays brought from this layout to the reference's, names of those that do not fit).

    Activations are (T, N, ...) here; weights of the other layouts are PyTorch's, with the output channels first.
    """
    turned, misfits = {}, []
    for name, value in arrays.items():
        shape = shapes[name]
        if value.ndim == len(shape) >= 2 and name.endswith("weight"):
            theirs = weight_from_torch(value)
            value = theirs if axis_order != "TN..C" and theirs.shape == shape else value
        elif value.ndim == len(shape) >= 3:
            value = from_layout(value, axis_order)
        if value.size == 1 and int(np.prod(shape)) == 1:
            value = value.reshape(shape)
        if value.shape != shape:
            misfits.append(name)
        turned[name] = value
    return turned, misfits


def layouts(arrays, shapes, own="TN..C", given=None):
    """{axis order: arrays in the reference's layout} for every layout in which all shapes fit.

    Two layouts of the same arrays count once: the own one, or the first. With a layout that is `given`, that one alone, which
    is no convention then. Raises ValueError if none fits.
    """
    if given is not None:
        return {own: all_in_reference_layout(arrays, shapes, given)}
    orders = Conventions.choices()["axis_order"]
    found, fewest = {}, None
    for order in sorted(orders, key=lambda order: order != own):
        turned, misfits = in_layout(arrays, shapes, order)
        fewest = misfits if fewest is None or len(misfits) < len(fewest) else fewest
        again = any(all(np.array_equal(turned[name], other[name]) for name in turned) for other in found.values())
        if not misfits and not again:
            found[order] = turned
    if not found:
        all_in_reference_layout(arrays, shapes)  # says which layout would fit, or that there are several
        name = fewest[0]
        raise ValueError(
            f"{name}: expected shape {shapes[name]}, or the same array with its axes in the order {' or '.join(orders)}, "
            f"received {arrays[name].shape}; dump it in one of these layouts"
        )
    return found
