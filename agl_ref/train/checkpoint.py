"""Checkpoint files: written so that a crash leaves the old or the new one whole, and read with suspicion."""

import hashlib
import io
import json
import math
import zipfile

import numpy as np

from agl_ref import files, validate

FORMAT = 3  # of the file; 2, which is still read, had neither checksum nor metrics, and 1 no diagnostics
CHECKSUM = 64  # bytes at the end of the file, in the zip archive's comment: SHA-256 of all before them, hexadecimal
FIELDS = {"format": int, "identity": dict, "epoch": int, "batch": int, "loss_sum": float, "correct": int,
          "optimiser_steps": int, "diagnostics": dict}  # fmt: skip


class CheckpointError(ValueError):
    """A checkpoint that cannot be used here; the message says why."""


def read_checkpoint(path, limit=None):
    """(meta, {name: array}) of a checkpoint file. CheckpointError if it is corrupt, over the limit or something else."""
    try:
        content = files.read_bytes(path, limit)
        arrays = files.read_npz(path, content, limit=limit)
        meta = json.loads(str(arrays.pop("meta", "")))
        whole = isinstance(meta, dict) and all(type(meta.get(key)) is kind for key, kind in FIELDS.items())
        if not whole or meta["format"] not in (2, FORMAT):
            raise ValueError("its description is incomplete or of another format")
        if meta["format"] == FORMAT and content[-CHECKSUM:] != _checksum(content[:-CHECKSUM]):
            raise ValueError("its checksum is not that of its content")
        _require_diagnostics(meta["diagnostics"])
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


def _require_diagnostics(state):
    sums = state.get("sums")
    layers = sums.values() if isinstance(sums, dict) else [None]
    lists = [values for layer in layers for values in (layer.values() if isinstance(layer, dict) else [None])]
    good = all(isinstance(values, list) and all(type(v) is float for v in values) for values in lists)
    if not (good and type(state.get("steps")) is int and state["steps"] >= bool(sums)):
        raise ValueError("its diagnostics are none")


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


def require_position(path, meta, epochs, samples, batch):
    """Refuse a checkpoint whose place in the run, of `samples` in batches of `batch`, is none that a run can reach."""
    batches = math.ceil(samples / batch)
    done = meta["epoch"] * batches + meta["batch"]
    if not (
        0 <= meta["epoch"] <= epochs
        and 0 <= meta["batch"] <= batches
        and meta["optimiser_steps"] == done <= epochs * batches
        and 0 <= meta["correct"] <= min(meta["batch"] * batch, samples)
        and 0 <= meta["loss_sum"] < math.inf
    ):
        place = {key: meta[key] for key in ("epoch", "batch", "optimiser_steps", "correct", "loss_sum")}
        raise CheckpointError(
            f"{path}: expected a place in a run of {epochs} epochs of {batches} batches, received {place}; it is corrupt, "
            "delete it to start this run again"
        )


def require_rows(path, rows, epochs=None):
    """`rows` if they are what a run writes to metrics.jsonl, one of each epoch from the first. ValueError if not."""
    numbers = ("train_loss", "train_accuracy", "test_loss", "test_accuracy", "seconds")
    good = isinstance(rows, list) and all(
        isinstance(row, dict)
        and row.get("epoch") == i + 1
        and all(type(row.get(key)) in (int, float) and math.isfinite(row[key]) for key in numbers)
        and all(isinstance(row.get(key), dict) for key in ("layers", "diagnostics"))
        for i, row in enumerate(rows)
    )
    if not good or (epochs is not None and len(rows) < epochs):
        expected = "one row for each epoch" if epochs is None else f"a row for each of {epochs} epochs"
        raise ValueError(
            f"{path}: expected {expected}, as agl_ref wrote them, received something else; restore the file, or delete the "
            "run's checkpoint to start it again"
        )
    return rows


def difference(what, mine, theirs):
    """Text that says in what a checkpoint's identity differs from the run's."""
    if isinstance(mine, dict) and isinstance(theirs, dict):
        keys = [k for k in {**mine, **theirs} if json.loads(json.dumps(mine.get(k))) != theirs.get(k)]
        mine, theirs = ({k: side.get(k) for k in keys[:3]} for side in (mine, theirs))
    return f"expected a checkpoint of this {what} ({mine}), received one of another ({theirs}); use its own run folder"
