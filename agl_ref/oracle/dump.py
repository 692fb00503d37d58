"""Reading an implementation's arrays: a folder of .npy, an .npz, a .safetensors file, or live arrays. NumPy alone.

Nothing is unpickled. Every fault of a file is one ValueError that says what to do.
"""

import json
import zipfile
from pathlib import Path

import numpy as np

LAYOUTS = ("TN..C", "NT..C", "TNC..", "NTC..")
_SAFETENSORS = {
    "F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2"), "BF16": np.dtype("<u2"),
    "U8": np.dtype("u1"), "BOOL": np.dtype("?"), "I64": np.dtype("<i8"), "I32": np.dtype("<i4"),
}  # fmt: skip


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
    path = Path(path)
    if path.is_dir():
        found = {file.stem: _npy(file) for file in sorted(path.glob("*.npy"))}
    elif not path.exists():
        raise ValueError(f"{path}: expected a dump, received no such file or folder; check the path")
    elif path.suffix == ".npz":
        found = _npz(path)
    elif path.suffix == ".safetensors":
        found = _safetensors(path)
    else:
        raise ValueError(
            f"{path}: expected a folder of .npy files, .npz or .safetensors, received {path.suffix!r}; convert it"
        )
    if not found:
        raise ValueError(f"{path}: expected named arrays, received none; save each array under its name")
    return found


def _npy(path):
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(f"{path}: {_reason(error)}") from None


def _npz(path):
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, EOFError, OSError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path}: {_reason(error)}") from None


def _reason(error):
    if "pickle" in str(error).lower():
        return "expected plain arrays, received pickled objects, which are never loaded; save with np.asarray(...)"
    return f"expected a whole file of arrays, received one that cannot be read ({error}); write it again"


def _safetensors(path):
    raw = path.read_bytes()
    try:
        length = int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8 : 8 + length].decode("utf-8"))
        data, found = raw[8 + length :], {}
        named = header.pop("__metadata__", None) or {}
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            dtype, shape = _SAFETENSORS[entry["dtype"]], tuple(entry["shape"])
            if last > len(data) or last - first != dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
                raise ValueError(f"{name} ends outside the file")
            found[name] = np.frombuffer(data[first:last], dtype).reshape(shape)
    except (ValueError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        reason = f"{type(error).__name__}: {error}"
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
    if array.dtype == np.uint16:
        return (array.astype(np.uint32) << 16).view(np.float32), "bfloat16"
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name}: expected real numbers, received {array.dtype}; convert them to float32")
    return array, array.dtype.name


def to_reference_layout(name, array, shape, layout="TN..C"):
    """`array` in the reference's layout (time first, channels last; weights (kh, kw, C_in, C_out) and (F_in, F_out)).

    Raises ValueError if the shape does not fit; the message names the layout that would.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"layout: expected one of {', '.join(LAYOUTS)}, received {layout!r}; choose one")
    turned = _turn(name, array, shape, layout)
    if turned.shape == tuple(shape):
        return turned
    if array.size == 1 and int(np.prod(shape)) == 1:
        return array.reshape(shape)
    fits = [other for other in LAYOUTS if _turn(name, array, shape, other).shape == tuple(shape)]
    if fits:
        raise ValueError(f"{name}: expected shape {tuple(shape)}, received {array.shape}, which fits the layout {fits[0]}; "
                         f"pass layout={fits[0]!r} (--layout {fits[0]})")  # fmt: skip
    if array.size == int(np.prod(shape)):
        raise ValueError(
            f"{name}: expected shape {tuple(shape)}, received {array.shape} with as many elements; reshape it"
        )
    raise ValueError(
        f"{name}: expected shape {tuple(shape)}, received {array.shape}; dump the whole array of this case"
    )


def _turn(name, array, shape, layout):
    """The array as the layout says, whatever shape comes out."""
    if array.ndim != len(shape):
        return array
    last = name.rpartition(".")[2]
    if last in ("weight", "grad_weight"):
        if layout.endswith("C"):
            return array
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    if array.ndim < 2 or (name.startswith("grad_") and last != "grad_x" and "." in name):
        return array
    if not layout.endswith("C") and array.ndim > 3:
        array = np.moveaxis(array, 2, -1)
    return np.swapaxes(array, 0, 1) if layout.startswith("NT") else array
