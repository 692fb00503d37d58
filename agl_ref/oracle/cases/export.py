"""Golden cases for those who read no npz in our layout: npz, safetensors, JSON with hex floats, raw arrays for C and CUDA.

    names      inputs/NAME, arrays/NAME, bounds/NAME (float32, in units of the dtype's unit roundoff, rounded up)
    time       TN or NT: which of time and batch is the first axis
    channels   last, or first: (T, N, C, H, W), and weights as PyTorch has them, (C_out, C_in, kh, kw) and (F_out, F_in)
    dtype      float32, float64, bfloat16 (uint16 bits, little-endian; safetensors has the type itself)

Values are rounded once, to nearest. Inputs never are: a case whose inputs the dtype cannot hold is refused.
"""

import io
import json
from pathlib import Path

import numpy as np

from agl_ref import files
from agl_ref.oracle.judge.dump import axes_of

from .draw import to_significand
from .vectors import load_case

FORMATS = ("npz", "safetensors", "json", "raw")
DTYPES = ("float32", "float64", "bfloat16")
JSON_VALUES = 20000  # with more the text file is too large to read
_SAFE = {"float32": "F32", "float64": "F64", "uint16": "BF16", "int64": "I64"}


def in_layout(name, array, time="TN", channels="last"):
    """One named array of a case in another layout; contiguous, unless it is as stored."""
    layout = time + ("..C" if channels == "last" else "C..")
    if layout == "TN..C" or (array.ndim < 3 and not name.endswith("weight")):
        return array
    return np.ascontiguousarray(array.transpose(np.argsort(axes_of(name, array.ndim, layout))))


def in_dtype(array, dtype):
    """Floats rounded to nearest once; bfloat16 as uint16 bits. Integers become int64.

    Examples
    --------
    >>> hex(in_dtype(np.array(1.0), "bfloat16"))
    '0x3f80'
    """
    array = np.asarray(array)
    if array.dtype.kind in "iu":
        return array.astype("<i8")
    if dtype == "bfloat16":
        bits = to_significand(array, 8).astype("<f4").view("<u4")
        return (bits >> 16).astype("<u2")
    return array.astype(np.dtype(dtype).newbyteorder("<"))


def rounded_up(bound):
    """Bounds as float32, none smaller."""
    narrow = bound.astype("<f4")
    return np.where(narrow < bound, np.nextafter(narrow, np.float32(np.inf)), narrow).astype("<f4")


def tensors(reference, dtype="float32", time="TN", channels="last"):
    """{key: array} of a case in this layout and dtype.

    Raises ValueError for a dtype in which the case cannot judge an implementation.
    """
    if dtype not in reference.meta["dtypes"]:
        raise ValueError(
            f"dtype: expected one of {', '.join(reference.meta['dtypes'])} for case {reference.id}, received {dtype}: its "
            f"inputs or its spikes would round; see `agl-ref vectors list --dtype {dtype}`"
        )
    found = {}
    for part in ("inputs", "arrays"):
        for name, array in getattr(reference, part).items():
            found[f"{part}/{name}"] = in_dtype(in_layout(name, array, time, channels), dtype)
    for name, bound in reference.bounds.items():
        found[f"bounds/{name}"] = rounded_up(in_layout(name, bound, time, channels))
    return found


def header(reference, dtype, time, channels):
    """What the files say about themselves."""
    return {
        "case": reference.id,
        "dtype": dtype,
        "time": time,
        "channels": channels,
        "order": list(reference.arrays),
        "conventions": reference.conventions,
        "meta": reference.meta,
    }


def export(id, path, format="npz", dtype="float32", time="TN", channels="last"):
    """Write a case; returns the path of the file, or of the folder that "raw" makes.

    Parameters
    ----------
    id : str
    path : path
        A folder; it is made if it is not there.
    format : {"npz", "safetensors", "json", "raw"}
    dtype : {"float32", "float64", "bfloat16"}
    time : {"TN", "NT"}
    channels : {"last", "first"}

    Raises
    ------
    ValueError
        For unknown values, a dtype that the case does not fit, a case too large for JSON.
    """
    choices = {"format": FORMATS, "dtype": DTYPES, "time": ("TN", "NT"), "channels": ("last", "first")}
    given = {"format": format, "dtype": dtype, "time": time, "channels": channels}
    for name, allowed in choices.items():
        if given[name] not in allowed:
            raise ValueError(f"{name}: expected one of {', '.join(allowed)}, received {given[name]!r}; choose one")
    reference = load_case(id)
    arrays, head = tensors(reference, dtype, time, channels), header(reference, dtype, time, channels)
    return _WRITERS[format](Path(path), reference.id, arrays, head)


def _npz(folder, id, arrays, head):
    path = folder / f"{id}.npz"
    text = np.frombuffer(json.dumps(head).encode(), np.uint8)
    content = io.BytesIO()
    np.savez(content, header=text, **arrays)
    files.write_atomically(path, content.getvalue())
    return path


def _safetensors(folder, id, arrays, head):
    """8 bytes: length of the header, little-endian; the header, JSON; the arrays' bytes in row order."""
    described, blob = {"__metadata__": {"case": id, "header": json.dumps(head)}}, b""
    for key, array in arrays.items():
        data = array.tobytes()
        offsets = [len(blob), len(blob) + len(data)]
        described[key] = {"dtype": _SAFE[array.dtype.name], "shape": list(array.shape), "data_offsets": offsets}
        blob += data
    text = json.dumps(described).encode()
    text += b" " * (-len(text) % 8)
    path = folder / f"{id}.safetensors"
    files.write_atomically(path, len(text).to_bytes(8, "little") + text + blob)
    return path


def _json(folder, id, arrays, head):
    """Hex floats, exact in any language whose strtod knows C99; bfloat16 as its bits."""
    count = sum(array.size for array in arrays.values())
    if count > JSON_VALUES:
        raise ValueError(f"format: expected at most {JSON_VALUES} values for json, received {count}; use raw or npz")
    held = {
        key: {
            "shape": list(array.shape),
            "dtype": array.dtype.name,
            "data": [float(v).hex() if array.dtype.kind == "f" else int(v) for v in array.ravel()],
        }
        for key, array in arrays.items()
    }
    path = folder / f"{id}.json"
    files.write_atomically(path, (json.dumps({**head, "arrays": held}) + "\n").encode())
    return path


def _raw(folder, id, arrays, head):
    """One file per array, nothing but its little-endian values in row order; header.json has names, types and shapes."""
    target = folder / id
    described = {}
    for key, array in arrays.items():
        name = key.replace("/", ".") + ".bin"
        files.write_atomically(target / name, array.tobytes())
        described[key] = {"file": name, "dtype": array.dtype.name, "shape": list(array.shape), "bytes": array.nbytes}
    text = json.dumps({**head, "arrays": described}, indent=1) + "\n"
    files.write_atomically(target / "header.json", text.encode())
    return target


_WRITERS = {"npz": _npz, "safetensors": _safetensors, "json": _json, "raw": _raw}
