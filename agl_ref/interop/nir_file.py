"""Reading a NIR file, which is HDF5: first in a process of its own, since a flipped bit can keep the HDF5 library busy for
ever or crash it. What the other process has read, this one reads too.
"""

import io
import os
import subprocess
import sys

from agl_ref import files

SECONDS = 60.0  # for the first reading; it takes less than one, but twenty were seen on a busy machine
MAX_DEPTH = 16  # of groups in a file; NIR's own graphs have 3


def read(path):
    """The nir.NIRGraph in a file. ValueError for what is none, ImportError without the package nir."""
    try:
        import h5py  # noqa: F401  both here: optional packages
        import nir  # noqa: F401
    except ImportError:
        raise ImportError("expected the package nir to read a path, received none; pip install nir") from None
    content = files.read_bytes(path)
    graph, reason = None, _tried_elsewhere(content)
    if not reason:
        graph, reason = _tried(content)
    if reason:
        raise ValueError(f"{path}: expected a NIR file, received: {reason}; write it again with nir.write")
    return graph


def _tried_elsewhere(content):
    """Why another process could not read these bytes; "" if it could."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONSAFEPATH": "1",
        "PYTHONIOENCODING": "utf-8",
    }
    try:
        done = subprocess.run(
            [sys.executable, "-m", __name__], input=content, capture_output=True, timeout=SECONDS, env=environment
        )
    except subprocess.TimeoutExpired:
        return f"one that the HDF5 library reads for more than {SECONDS:.0f} s"
    if done.returncode and not done.stdout:
        return f"one that ended the HDF5 library (exit status {done.returncode})"
    return done.stdout.decode()


def _tried(content):
    """(graph, "") of the bytes of a file, or (None, why it cannot be read)."""
    import h5py  # both here: optional packages
    import nir

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            _require_own_data(h5py, file, len(content))
        return nir.read(io.BytesIO(content)), ""
    except (*files.DAMAGE, AssertionError, AttributeError, TypeError) as error:
        return None, " ".join(f"{type(error).__name__}: {error}".split())[:200]


def _require_own_data(h5py, group, size, depth=0):
    """Refuse what lies in other files, through links or external storage, what loops, and what claims too much memory:

    more than the file's `size` without compression, more than a file may have with it.
    """
    if depth > MAX_DEPTH:
        raise ValueError(f"groups more than {MAX_DEPTH} deep, or one inside itself")
    for name in group:
        link = group.get(name, getlink=True)
        if not isinstance(link, h5py.HardLink):
            raise ValueError(f"{name!r} is a link to elsewhere")
        item = group[name]
        if isinstance(item, h5py.Group):
            _require_own_data(h5py, item, size, depth + 1)
        elif not isinstance(item, h5py.Dataset) or item.external or item.is_virtual:
            raise ValueError(f"{name!r} has its data in another file")
        elif item.nbytes > (limit := files.MAX_BYTES if item.compression else size):
            raise ValueError(f"{name!r} has {item.nbytes} bytes, more than {limit}")


if __name__ == "__main__":
    print(_tried(sys.stdin.buffer.read())[1], end="")
