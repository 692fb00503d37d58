"""Bring an implementation's arrays under the reference's names and into its layout, or say what would fit."""

import numpy as np

from .._check import first_not_finite
from ..conventions import Conventions
from ..interop import conv_weight_from_torch, from_layout
from ._types import gradient_name
from .dump import as_numpy


def named_arrays(theirs, names, inputs=None, id="own"):
    """Their arrays under the reference's names, as float64; inputs {name: array} of the case are left out.

    A bare parameter's name is its gradient, unless the values are the parameter's own.

    Raises ValueError for surplus names, another case's dump, values that are not finite; TypeError for what is no array.
    """
    arrays = {}
    for name, value in theirs.items():
        if name == "case":
            if str(np.asarray(value)) != id:
                raise ValueError(
                    f"case: expected a dump of {id!r}, received one of {str(np.asarray(value))!r}; give --case"
                )
            continue
        known = gradient_name(name, names)
        if name in (inputs or {}) and name not in names and (known is None or _is_input(name, value, inputs[name])):
            continue
        if known is None:
            raise ValueError(
                f"{name}: expected one of {', '.join(names)}, received an unknown array; rename or drop it"
            )
        value = as_numpy(name, value)[0].astype(np.float64)
        if not np.isfinite(value).all():
            raise ValueError(f"{name}: {first_not_finite(value)}; agl-ref check says more")
        arrays[known] = value
    if not arrays:
        raise ValueError("theirs: expected at least one array, received none; dump the gradients")
    return arrays


def _is_input(name, value, own):
    """Whether an array holds the case's input, up to the rounding of its dtype."""
    value, own = as_numpy(name, value)[0], np.asarray(own)
    return value.shape == own.shape and np.allclose(value, own, rtol=2.0**-7, atol=0)


def dtype_of(theirs):
    """The name of the coarsest floating-point dtype among the arrays; TypeError if there is none."""
    kinds = {as_numpy(name, value)[1] for name, value in theirs.items() if name != "case"}
    for kind in ("bfloat16", "float16", "float32", "float64"):
        if kind in kinds:
            return kind
    raise TypeError(f"theirs: expected floating-point arrays, received {', '.join(sorted(kinds))}; convert them")


def in_layout(arrays, shapes, axis_order):
    """(arrays brought from this layout to the reference's, names of those that do not fit).

    Activations are (T, N, ...) here; weights of the other layouts are PyTorch's, with the output channels first.
    """
    turned, misfits = {}, []
    for name, value in arrays.items():
        shape = shapes[name]
        if value.ndim == len(shape) >= 2 and name.endswith("weight"):
            theirs = conv_weight_from_torch(value) if value.ndim == 4 else value.T
            value = theirs if axis_order != "TN..C" and theirs.shape == shape else value
        elif value.ndim == len(shape) >= 3:
            value = from_layout(value, axis_order)
        if value.shape != shape:
            misfits.append(name)
        turned[name] = value
    return turned, misfits


def layouts(arrays, shapes, own="TN..C"):
    """{axis order: arrays in the reference's layout} for every layout in which all shapes fit.

    Two layouts of the same arrays count once: the own one, or the first. Raises ValueError if none fits.
    """
    orders = Conventions.choices()["axis_order"]
    found, fewest = {}, None
    for order in sorted(orders, key=lambda order: order != own):
        turned, misfits = in_layout(arrays, shapes, order)
        fewest = misfits if fewest is None or len(misfits) < len(fewest) else fewest
        again = any(all(np.array_equal(turned[name], other[name]) for name in turned) for other in found.values())
        if not misfits and not again:
            found[order] = turned
    if not found:
        name = fewest[0]
        raise ValueError(
            f"{name}: expected shape {shapes[name]}, or the same array with its axes in the order {' or '.join(orders)}, "
            f"received {arrays[name].shape}; dump it in one of these layouts"
        )
    return found
