"""Reading an implementation's arrays: a folder of .npy, an .npz, a .safetensors file, or live arrays. NumPy alone.

Nothing is unpickled. Every fault of a file is one ValueError that says what to do.
"""

import json
import math

import numpy as np

from agl_ref import files, validate
from agl_ref.interop.layouts import LAYOUTS, axes_from_layout, weight_axes_from_torch

_SAFETENSORS = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "U8": np.dtype("u1"), "U16": np.dtype("<u2"), "U32": np.dtype("<u4"), "U64": np.dtype("<u8"), "BOOL": np.dtype("?"),
    "I8": np.dtype("i1"), "I16": np.dtype("<i2"), "I32": np.dtype("<i4"), "I64": np.dtype("<i8"),
}  # fmt: skip
MAX_HEADER = 10_000_000  # bytes of a safetensors header


def load_dump(path):
    """The arrays of a dump by name.

    Parameters
    ----------
    path : str or Path
        A folder of NAME.npy files, an .npz, or a .safetensors file. A bfloat16 array comes as uint16 bits. An entry named
        "case" holds the id of the case that was run, if the dump says so.

    Returns
    -------
    {name: ndarray}

    Raises
    ------
    ValueError
        For a missing, empty, truncated or pickled file, and for other kinds of files.
    """
    path = validate.path("path", path)
    if path.is_dir():
        found = {file.stem: files.read_npy(file) for file in sorted(path.glob("*.npy"))}
    elif not path.exists():
        raise ValueError(f"{path}: expected a dump, received no such file or folder; check the path")
    elif path.suffix == ".npz":
        found = files.read_npz(path)
    elif path.suffix == ".safetensors":
        found = _safetensors(path)
    else:
        fix = "put it into a folder" if path.suffix == ".npy" else "save the arrays with np.savez"
        raise ValueError(
            f"{path}: expected a folder of .npy files, .npz or .safetensors, received {path.suffix!r}; {fix}"
        )
    if not found:
        raise ValueError(f"{path}: expected named arrays, received none; save each array under its name")
    return found


def _safetensors(path):
    """{name: array}. Not by the package safetensors: its reader for NumPy refuses bfloat16, and NumPy alone has to do."""
    raw = memoryview(files.read_bytes(path))  # the arrays are parts of it, and no copies
    length = int.from_bytes(raw[:8], "little")
    data, found, position = raw[8 + length :], {}, 0
    try:
        if length > MAX_HEADER:
            raise ValueError(f"a header of {length} bytes, more than {MAX_HEADER}")
        header = json.loads(bytes(raw[8 : 8 + length]).decode("utf-8"), object_pairs_hook=files.unique_names)
        if not isinstance(header, dict):
            raise ValueError("its header is not an object")
        named = header.pop("__metadata__", {})
        for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
            kind, shape, (first, last) = entry["dtype"], entry["shape"], entry["data_offsets"]
            if kind not in _SAFETENSORS:
                raise ValueError(f"{name} is of type {kind}, none of {', '.join(_SAFETENSORS)}")
            if not all(type(n) is int and n >= 0 for n in (*shape, first, last)):
                raise ValueError(f"{name} has a shape or an offset that is no whole number from 0")
            dtype = _SAFETENSORS[kind]
            if first != position or last - first != dtype.itemsize * math.prod(shape):
                raise ValueError(
                    f"{name} does not begin where the array before it ends, or has another size than its shape"
                )
            position = last
            found[name] = np.frombuffer(data[first:last], dtype).reshape(shape)
        if position != len(data) or not isinstance(named, dict):
            raise ValueError(
                f"the arrays have {position} bytes, the file has {len(data)}, its metadata is a {type(named).__name__}"
            )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ValueError(
            f"{path}: expected a safetensors file, received one that cannot be read ({reason}); write it again"
        ) from None
    if "case" in named:
        found["case"] = np.array(named["case"])
    return found


def as_numpy(name, value):
    """(array, dtype name) of anything with `__array__` or DLPack, on any device; bfloat16 becomes float32.

    Raises TypeError for what is no array.
    """
    validate.unmasked(name, value)
    if hasattr(value, "detach"):  # PyTorch
        value = value.detach().cpu()
        if "bfloat16" in str(value.dtype):
            return value.float().numpy(), "bfloat16"
    elif hasattr(value, "__cuda_array_interface__") and hasattr(value, "get"):  # CuPy
        value = value.get()
    if not isinstance(value, (np.ndarray, np.generic, float, int)):
        if not hasattr(value, "__array__"):
            if not hasattr(value, "__dlpack__"):
                raise TypeError(
                    f"{name}: expected an array, received {type(value).__name__}; pass one with __array__ or DLPack"
                )
            value = np.from_dlpack(value)
    array = np.asarray(value)
    if array.dtype.name == "bfloat16":  # ml_dtypes, as JAX has it
        return array.astype(np.float32), "bfloat16"
    if array.dtype == np.uint16 and not (name.rpartition(".")[2] == "s" and array.max(initial=0) <= 1):
        return (array.astype(np.uint32) << 16).view(np.float32), "bfloat16"
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, received {array.dtype}; convert them to float32")
    if array.dtype.kind == "f" and array.dtype.itemsize > 8:
        raise TypeError(f"{name}: expected float64 or narrower, received {array.dtype}; convert it to float64")
    return array, array.dtype.name


def to_reference_layout(name, array, shape, layout="TN..C"):
    """`array` in the reference's layout (time first, channels last; weights (kh, kw, C_in, C_out) and (F_in, F_out)).

    Raises ValueError if the shape does not fit; the message names the layout that would.
    """
    return all_in_reference_layout({name: array}, {name: shape}, layout)[name]


def all_in_reference_layout(arrays, shapes, layout="TN..C"):
    """{name: array} in the reference's layout; where some do not fit, the message names the layout in which all would."""
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, received {layout!r}; choose one")
    fits = {
        name: [other for other in LAYOUTS if fits_layout(name, array, shapes[name], other)]
        for name, array in arrays.items()
    }
    wrong = sorted((name for name in arrays if layout not in fits[name]), key=lambda name: bool(fits[name]))
    if wrong:
        raise ValueError(_wrong_layout(wrong[0], arrays, shapes, fits))
    return {name: _turn(name, array, shapes[name], layout).reshape(shapes[name]) for name, array in arrays.items()}


def _wrong_layout(name, arrays, shapes, fits):
    """The message on the array `name`, given the layouts that fit each array."""
    common = [layout for layout in LAYOUTS if all(layout in of_array for of_array in fits.values())]
    shapes_differ = f"{name}: expected shape {tuple(shapes[name])}, received {arrays[name].shape}"
    if common:
        return f"{shapes_differ}, which fits the layout {common[0]}; pass layout={common[0]!r} (--layout {common[0]})"
    if all(fits.values()):
        first = min(fits, key=lambda name: len(fits[name]))
        other = next(name for name in fits if fits[first][0] not in fits[name])
        return (
            f"dump: expected one layout, received several layouts: {first} fits {fits[first][0]}, {other} fits "
            f"{fits[other][0]}; turn them into one"
        )
    if arrays[name].shape[:1] == (1,) and arrays[name].ndim == len(shapes[name]) + 1:
        return f"{shapes_differ}; drop the first axis, which a Recorder adds that was not told per_step=False"
    if arrays[name].size == int(np.prod(shapes[name])):
        return f"{shapes_differ} with as many elements; reshape it"
    return f"{shapes_differ}; dump the whole array of this case"


def fits_layout(name, array, shape, layout):
    """Whether an array in this layout has the reference's shape."""
    scalar = array.size == 1 and int(np.prod(shape)) == 1
    return scalar or _turn(name, array, shape, layout).shape == tuple(shape)


def _turn(name, array, shape, layout):
    """The array as the layout says, whatever shape comes out."""
    return array.transpose(axes_of(name, array.ndim, layout)) if array.ndim == len(shape) else array


def axes_of(name, ndim, layout):
    """[axis of an array in this layout, for each axis of the reference's], by which the one is transposed to the other."""
    if name.rpartition(".")[2].removeprefix("grad_") == "weight":
        return list(range(ndim)) if layout.endswith("C") else weight_axes_from_torch(ndim)
    if ndim < 2 or (name.startswith("grad_") and "." in name):  # a parameter's
        return list(range(ndim))
    return axes_from_layout(ndim, layout)
