"""Checkpoint files: written so that a crash leaves the old or the new one whole, and read with suspicion."""

import io
import json
import os
import zipfile
import zlib

import numpy as np

FORMAT = 2  # of the file; 1 had no diagnostics


class CheckpointError(ValueError):
    """A checkpoint that cannot be used here; the message says why."""


def read_checkpoint(path):
    """(meta, {name: array}) of a checkpoint file. CheckpointError if it is corrupt or something else."""
    try:
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        meta = json.loads(str(arrays.pop("meta")))
        fields = {"format": int, "identity": dict, "epoch": int, "batch": int, "loss_sum": float, "correct": int,
                  "optimiser_steps": int, "diagnostics": dict}  # fmt: skip
        if not all(isinstance(meta.get(key), kind) for key, kind in fields.items()) or meta["format"] != FORMAT:
            raise ValueError("its description is incomplete or of another format")
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        TypeError,
        AttributeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise CheckpointError(
            f"{path}: expected a checkpoint written by agl_ref, received a corrupt or foreign file ({error}); delete it "
            "to start this run again"
        ) from None
    return meta, arrays


def write_checkpoint(path, meta, arrays):
    """Write a checkpoint; a crash leaves the old one or the new one, whole."""
    content = io.BytesIO()
    np.savez(content, meta=np.array(json.dumps({"format": FORMAT, **meta})), **arrays)
    write_atomically(path, content.getbuffer())


def difference(what, mine, theirs):
    """Text that says in what a checkpoint's identity differs from the run's."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = [k for k in {**mine, **theirs} if json.loads(json.dumps(mine.get(k))) != theirs.get(k)]
        mine, theirs = ({k: side.get(k) for k in keys[:3]} for side in (mine, theirs))
    return f"expected a checkpoint of this {what} ({mine}), received one of another ({theirs}); use its own run folder"


def write_atomically(path, content):
    """Write bytes so that a reader, or a crash, sees either the old file or the whole new one."""
    temporary = path.with_name(path.name + ".tmp")
    with open(temporary, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    if os.name == "posix":  # the rename itself must reach the disk too
        folder = os.open(path.parent, os.O_RDONLY)
        os.fsync(folder)
        os.close(folder)
