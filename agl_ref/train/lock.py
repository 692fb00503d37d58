"""The lock of a folder: one process at a time trains in it, and the lock is gone with its process, however that ends."""

import contextlib
import os
import socket
import time
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
    path, patience = Path(folder) / ".lock", time.monotonic() + seconds
    with files.naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+", encoding="utf-8")
        while True:
            try:
                portalocker.lock(file, portalocker.LOCK_EX | portalocker.LOCK_NB)
                break
            except portalocker.AlreadyLocked:
                if time.monotonic() > patience:
                    _refuse(file, folder)
                time.sleep(0.1)
            except portalocker.LockException as error:
                file.close()
                raise OSError(f"the file system gives no lock: {error}") from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {socket.gethostname()}")
        file.flush()
    return file


def _refuse(file, folder):
    """Raise the ValueError that names the process which holds the lock `file`."""
    holder = "of an unknown number"
    with file, contextlib.suppress(OSError):  # Windows locks a file against reading too
        file.seek(0)
        holder = file.read(200) or holder
    raise ValueError(
        f"{folder}: expected a folder that no other process trains in, received one that process {holder} holds; wait until "
        "it has finished, or stop it"
    )
