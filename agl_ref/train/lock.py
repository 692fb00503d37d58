"""The lock of a folder: one process at a time trains in it, and the lock is gone with its process, however that ends."""

import contextlib
import os
import socket
from pathlib import Path

import portalocker

from agl_ref import files


def hold(folder, seconds=0.0):
    """The open file ".lock" in `folder`, which is made: while it is open, no other process gets one.

    It holds the process's number. Network file systems that know no locks give an OSError.

    Raises
    ------
    ValueError
        Another process still holds the folder after `seconds`: one line with its number.
    """
    path = Path(folder) / ".lock"
    with files.naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = portalocker.Lock(path, "w+", seconds, encoding="utf-8").acquire()  # +: a pipe waits for no reader
        except portalocker.AlreadyLocked:
            holder = ""
            with contextlib.suppress(OSError):  # Windows locks a file against reading too
                holder = path.read_text(encoding="utf-8")
            raise ValueError(
                f"{folder}: expected a folder that no other process trains in, received one that process "
                f"{holder or 'of an unknown number'} holds; wait until it has finished, or stop it"
            ) from None
        except portalocker.LockException as error:
            raise OSError(f"the file system gives no lock: {error}") from None
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
    return file
