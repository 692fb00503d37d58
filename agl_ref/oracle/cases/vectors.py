"""The golden files: one npz per case and a manifest, read with NumPy alone and checked to the last bit.

    inputs/NAME    what an implementation gets: float32 (each value is exact in it), labels int64
    arrays/NAME    the reference's values in the order of computation: float64, or float32 or uint8 where that is exact
    bounds/NAME    uint8 codes, see `agl_ref.oracle.types.decode_bounds`; left out where all are 0
    margins/NAME   uint8 codes of 1 / margin; left out where nothing can flip
    header         the case's entry in the manifest as JSON, uint8

Arrays that repeat an earlier one bit for bit are stored once: "same" in the header names it. A SHA-256 covers each file and
each array (shape, dtype and bytes).
"""

import difflib
import hashlib
import io
import json
from dataclasses import asdict, fields
from functools import lru_cache
from pathlib import Path

import numpy as np

from agl_ref import __version__, files, validate
from agl_ref.conventions import MPD_AGL, Conventions
from agl_ref.oracle.types import Reference, decode_bounds, dtype_name, encode_bounds

from .case import digest

FORMAT = 1
FOLDER = Path(__file__).parents[1] / "files"
LEAST = 2.0**-27  # a smaller margin is stored as this one


def cases(op=None, flags=(), dtype=None, tier=None, folder=None, conventions=None):
    """Ids of the stored cases, in the order in which they were added.

    Parameters
    ----------
    op : str, optional
        "network", "lif", ...
    flags : str or iterable of str
        All of them must be set.
    dtype : str, optional
        In which an implementation can be judged: its inputs are exact and no spike can flip.
    tier : int, optional
    folder : path, optional
        Of the manifest; the package's own by default.
    conventions : {field: value}, optional
        Which a case must have: a kernel that fires at u >= V_th fails the cases that ask for u > V_th.

    Returns
    -------
    list of str

    Raises
    ------
    ValueError
        For an unknown convention.

    Examples
    --------
    >>> cases(flags="on_window_edge", conventions={"window_edge": "<="})[0]
    'lif-on-window-edge-closed'
    """
    metas = [entry["meta"] for entry in manifest(folder)["cases"]]
    validate.one_of("op", op, (None, *sorted({meta["op"] for meta in metas})))
    validate.one_of("tier", tier, (None, *sorted({meta["tier"] for meta in metas})))
    dtype = None if dtype is None else dtype_name(dtype)
    known = sorted({flag for meta in metas for flag in meta["flags"]})
    flags = (flags,) if isinstance(flags, str) else validate.iterator("flags", flags)
    flags = {validate.one_of("flags", flag, known) for flag in flags}
    wanted = {} if conventions is None else validate.mapping("conventions", conventions)
    for field, value in wanted.items():
        allowed = {**Conventions.choices(), "fixed_width": None}
        if field not in allowed:
            raise ValueError(f"conventions: expected fields among {', '.join(allowed)}, received {field!r}; choose one")
        if allowed[field]:
            validate.one_of(field, value, allowed[field])
    return [
        entry["id"]
        for entry in manifest(folder)["cases"]
        if (op is None or entry["meta"]["op"] == op)
        and flags <= set(entry["meta"]["flags"])
        and (dtype is None or dtype in entry["meta"]["dtypes"])
        and (tier is None or entry["meta"]["tier"] == tier)
        and all(conventions_of(entry)[field] == value for field, value in wanted.items())
    ]


def manifest(folder=None):
    """The manifest as a dict; an empty one where there is none yet. ValueError for one that is no manifest."""
    path = _folder(folder) / "manifest.json"
    if not path.is_file():
        return {"format": FORMAT, "generator": None, "cases": []}
    stamp = path.stat()
    return _manifest(str(path), stamp.st_mtime_ns, stamp.st_size)


def _folder(folder):
    return FOLDER if folder is None else validate.path("folder", folder)


@lru_cache(maxsize=4)
def _manifest(path, changed, size):
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
        entries = [(entry["id"], entry["file"], entry["sha256"], entry["meta"]["op"]) for entry in found["cases"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path}: expected a manifest of golden cases, received {error!r}; reinstall agl-ref"
        ) from None
    if found.get("format") != FORMAT or len(set(e[0] for e in entries)) != len(entries):
        raise ValueError(
            f"{path}: expected format {FORMAT} and unique ids, received {found.get('format')!r}; use its agl-ref"
        )
    return found


def entry_of(id, folder=None):
    """A case's entry in the manifest, or what it would be of a case by size; ValueError for an unknown id."""
    if folder is None and is_by_size(id):
        return packed(load_case(id))[0]
    found = {entry["id"]: entry for entry in manifest(folder)["cases"]}
    if not found:
        raise ValueError(f"{folder or FOLDER}: expected a manifest of golden cases, received none; reinstall agl-ref")
    if not isinstance(id, str) or id not in found:
        typed = str(id).lower()
        begun = [other for other in found if typed and other.startswith(typed)]
        near = list(dict.fromkeys([*begun, *difflib.get_close_matches(typed, found, 4, 0.6)]))[:4]
        hint = f", for example {', '.join(near)}" if near else ""
        raise ValueError(f"case: expected an id of `agl-ref vectors list`{hint}, received {id!r}; choose one")
    return found[id]


# --- reading ----------------------------------------------------------------------------------------------------------


def is_by_size(id):
    """Whether a case is computed when it is asked for (`agl_ref.oracle.cases.sizes`)."""
    return isinstance(id, str) and id.startswith("size-")


def load_case(id, folder=None):
    """The Reference of a stored case, or of one by size, such as "size-conv2d-outputs-129", which is computed.

    Parameters
    ----------
    id : str
    folder : path, optional
        Of the manifest and the files; the package's own by default.

    Returns
    -------
    Reference

    Raises
    ------
    ValueError
        For an unknown id, a file that is missing, truncated, pickled or not the one that was published.

    Examples
    --------
    >>> case = load_case("lif-hard-attached")
    >>> case.arrays["u"].shape, case.exact
    ((4, 3, 7), True)
    """
    if folder is None and is_by_size(id):
        from .sizes import reference_of_size  # not above: stored cases need no engine

        return reference_of_size(id)
    entry = entry_of(id, folder)
    path = _folder(folder) / entry["file"]
    stored = _read(path, entry)
    header = json.loads(bytes(stored.pop("header")).decode())
    if header != {key: value for key, value in entry.items() if key not in ("file", "sha256")}:
        raise ValueError(f"{path}: expected the header that the manifest holds, received another; reinstall agl-ref")
    parts = {"inputs": {}, "arrays": {}, "bounds": {}, "margins": {}}
    for part, named in header["arrays"].items():
        for name, facts in named.items():
            parts[part][name] = _array(stored, path, part, name, facts)
    arrays = {name: np.asarray(value, np.float64) for name, value in parts["arrays"].items()}
    bounds = {
        name: decode_bounds(parts["bounds"][name]) if name in parts["bounds"] else np.zeros(value.shape)
        for name, value in arrays.items()
    }
    margins = {name: _margin(parts["margins"].get(name), arrays, name) for name in header["margins"]}
    inputs = {
        name: value if value.dtype.kind in "iu" else np.asarray(value, np.float64)
        for name, value in parts["inputs"].items()
    }
    return Reference(
        id,
        conventions_of(header),
        written_out(header["meta"], inputs),
        inputs,
        arrays,
        bounds,
        margins,
        header["meta"]["tier"] == 1,
    )


def conventions_of(header):
    """Every convention: a case that is older than one of them has its default."""
    return asdict(MPD_AGL) | header["conventions"]


def written_out(meta, inputs):
    """`meta` with the surrogate and tdBN's alpha where they matter: a header leaves out "rectangular" and 1."""
    surrogate = {"surrogate": "rectangular"} if meta["op"] in ("lif", "plif", "surrogate", "network") else {}
    alpha = {"alpha": 1.0} if "gamma" in inputs else {}
    return {**surrogate, **alpha, **meta}


def _read(path, entry):
    """{key: array} of the npz file, whose hash must be the manifest's."""
    try:
        data = files.read_bytes(path)
    except ValueError as error:
        raise ValueError(f"{error}, or reinstall agl-ref") from None
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ValueError(
            f"{path}: expected SHA-256 {entry['sha256'][:16]}..., received another; the file is damaged or edited, "
            "reinstall agl-ref"
        )
    return files.read_npz(path, data)


def _array(stored, path, part, name, facts):
    key = facts.get("same", f"{part}/{name}")
    array = stored.get(key)
    if array is None or list(array.shape) != facts["shape"] or digest(array) != facts["sha256"]:
        raise ValueError(f"{path}: expected {key} with SHA-256 {facts['sha256'][:16]}..., received another; reinstall")
    return array


def _margin(code, arrays, name):
    potential = name.removesuffix("window").removesuffix("s") + "u"
    if code is None:
        like = arrays[potential] if potential in arrays else arrays["y"]
        return np.full(like.shape, np.inf)
    with np.errstate(divide="ignore"):
        return 1.0 / decode_bounds(code)


# --- writing ----------------------------------------------------------------------------------------------------------


def compact(array):
    """The array in the smallest dtype that holds it exactly: uint8 for spikes, float32, float64; int64 for labels."""
    array = np.asarray(array)
    if array.dtype.kind in "iu":
        return array.astype(np.int64)
    if array.ndim and np.isin(array, (0.0, 1.0)).all() and not np.signbit(array).any():
        return array.astype(np.uint8)
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return narrow if np.array_equal(narrow, array) else array


def parts_of(reference):
    """{part: {name: stored array}} of a Reference."""
    margins = {}
    for name, margin in reference.margins.items():
        if np.isfinite(margin).any():
            margins[name] = encode_bounds(1.0 / np.maximum(margin, LEAST))  # a margin rounds down
    return {
        "inputs": {name: _input(name, value) for name, value in reference.inputs.items()},
        "arrays": {name: compact(value) for name, value in reference.arrays.items()},
        "bounds": {name: encode_bounds(value) for name, value in reference.bounds.items() if np.any(value)},
        "margins": margins,
    }


def _input(name, value):
    if value.dtype.kind in "iu":
        return value.astype(np.int64)
    narrow = value.astype(np.float32)
    if not np.array_equal(narrow, value):
        raise ValueError(f"{name}: expected values that float32 can hold, received others; round the case's input")
    return narrow


def packed(reference):
    """(header, {key: array}) of a case's file."""
    seen, stored, facts = {}, {}, {}
    for part, named in parts_of(reference).items():
        facts[part] = {}
        for name, array in named.items():
            fact = {"shape": list(array.shape), "dtype": array.dtype.name, "sha256": digest(array)}
            key = f"{part}/{name}"
            if fact["sha256"] in seen and array.flags.c_contiguous:
                fact["same"] = seen[fact["sha256"]]
            else:
                seen[fact["sha256"]], stored[key] = key, array
            facts[part][name] = fact
    header = {
        "id": reference.id,
        "conventions": reference.conventions,
        "meta": reference.meta,
        "arrays": facts,
        "margins": list(reference.margins),
    }
    return json.loads(json.dumps(header, allow_nan=False)), stored


def write(reference, folder=None):
    """Add a case's file and its manifest entry. Refuses an id that is stored already: golden files never change."""
    folder = _folder(folder)
    held = json.loads(json.dumps(manifest(folder)))
    if any(entry["id"] == reference.id for entry in held["cases"]):
        raise ValueError(f"case: expected an id that is not stored yet, received {reference.id!r}; add a new one")
    if set(reference.conventions) != {f.name for f in fields(Conventions)}:
        raise ValueError(
            f"{reference.id}: expected every convention written out, received {sorted(reference.conventions)}"
        )
    header, stored = packed(reference)
    header["generator"] = __version__
    text = json.dumps(header, separators=(",", ":")).encode()
    buffer = io.BytesIO()
    np.savez_compressed(buffer, header=np.frombuffer(text, np.uint8), **stored)
    data = buffer.getvalue()
    path = folder / f"{reference.id}.npz"
    files.write_atomically(path, data)
    held["generator"] = __version__
    held["cases"].append({**header, "file": path.name, "sha256": hashlib.sha256(data).hexdigest()})
    lines = ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in held["cases"])
    whole = f'{{"format": {FORMAT}, "generator": {json.dumps(__version__)}, "cases": [\n{lines}\n]}}\n'
    files.write_atomically(folder / "manifest.json", whole.encode())
    return path
