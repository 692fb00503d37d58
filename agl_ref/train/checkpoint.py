"""Checkpoint files: written so that a crash leaves the old or the new one whole, read only with the checksum of before."""

import hashlib
import io
import json
import zipfile

import numpy as np

from agl_ref import files, validate

FORMAT = 3  # of the file; 1 and 2 had no checksum
CHECKSUM = 64  # bytes at the end of the file, in the zip archive's comment: SHA-256 of all before them, hexadecimal


class CheckpointError(ValueError):
    """A checkpoint that cannot be used here; the message says why."""


def read_checkpoint(path, limit=None):
    """(meta, {name: array}) of a checkpoint file. CheckpointError if it is corrupt, over the limit or something else."""
    try:
        content = files.read_bytes(path, limit)
        arrays = files.read_npz(path, content, limit=limit)
        meta = json.loads(str(arrays.pop("meta", "")))
        if not isinstance(meta, dict) or meta.get("format") != FORMAT:
            raise ValueError("it is of another format, as of an earlier version")
        if content[-CHECKSUM:] != _checksum(content[:-CHECKSUM]):
            raise ValueError("its checksum is not that of its content")
        for name, array in arrays.items():
            validate.float_array(name, array, min_ndim=0)
            if name.endswith("running_var") and array.min(initial=0) < 0:
                raise ValueError(f"{name}: expected values >= 0, received {array.min()}")
    except (ValueError, TypeError, RecursionError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise CheckpointError(
            f"{path}: expected a checkpoint written by agl_ref, received a corrupt or foreign file ({reason}); delete it "
            "to start this run again"
        ) from None
    return meta, arrays


def _checksum(content):
    return hashlib.sha256(content).hexdigest().encode()


def write_checkpoint(path, meta, arrays):
    """Write a checkpoint; a crash leaves the old one or the new one, whole."""
    content = io.BytesIO()
    np.savez(content, meta=np.array(json.dumps({"format": FORMAT, **meta})), **arrays)
    with zipfile.ZipFile(content, "a") as archive:
        archive.comment = bytes(CHECKSUM)
    content.seek(-CHECKSUM, io.SEEK_END)
    with content.getbuffer() as whole, whole[:-CHECKSUM] as covered:
        checksum = _checksum(covered)
    content.write(checksum)
    with content.getbuffer() as whole:  # no copy, and no view that an error keeps
        files.write_atomically(path, whole)


def difference(what, mine, theirs):
    """Text that says in what a checkpoint's identity differs from the run's."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = [k for k in {**mine, **theirs} if json.loads(json.dumps(mine.get(k))) != theirs.get(k)]
        mine, theirs = ({k: side.get(k) for k in keys[:3]} for side in (mine, theirs))
    return f"expected a checkpoint of this {what} ({mine}), received one of another ({theirs}); use its own run folder"
