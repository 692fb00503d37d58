"""Files: read with suspicion and one limit on their size, written so that a crash leaves the old or the new one whole.

Whatever is wrong with a file is one ValueError that names it. Nothing is unpickled, nothing is allocated before its size
was compared with the limit, and what is no regular file (a pipe would wait for ever) is not opened.
"""

import ast
import contextlib
import io
import math
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path

import numpy as np

from agl_ref import validate

MAX_BYTES = 1 << 30  # of one file, and of the arrays in it unpacked
MAX_MEMBERS = 10_000  # arrays of one npz
MAX_HEADER = 10_000  # bytes of an array's header; NumPy's own limit

# What the standard library raises on damaged files, MemoryError for what they only claim to hold. EOFError comes first.
DAMAGE = (OSError, zlib.error, zipfile.BadZipFile, ValueError, RuntimeError, NotImplementedError, MemoryError,
          LookupError, OverflowError)  # fmt: skip


@contextlib.contextmanager
def one_line_errors(path):
    """Turns what the standard library raises about a bad or unreadable file into one line that names it."""
    try:
        yield
    except EOFError:
        raise ValueError(f"{path}: expected a whole file, received a truncated one; fetch it again") from None
    except DAMAGE as error:
        if str(error).startswith(str(path)):
            raise
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"{path}: expected a readable, undamaged file, received: {reason}; fetch it again") from None


def regular_file(path, limit=None):
    """The path of a regular file of at most `limit` bytes (MAX_BYTES); ValueError for anything else."""
    path, limit = validate.path("path", path), MAX_BYTES if limit is None else limit
    with one_line_errors(path):
        try:
            status = path.stat()
        except FileNotFoundError:
            raise ValueError(f"{path}: expected a file, received nothing there; add it") from None
        if not stat.S_ISREG(status.st_mode):
            received = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise ValueError(f"{path}: expected a file, received {received}; give a file")
        if status.st_size > limit:
            raise ValueError(f"{path}: expected at most {limit} bytes, received {status.st_size}; cut it smaller")
    return path


def read_bytes(path, limit=None):
    """The content of a regular file of at most `limit` bytes (MAX_BYTES)."""
    path = regular_file(path, limit)
    with one_line_errors(path):
        return path.read_bytes()


def read_text(path, limit=None):
    """The content of a text file, as of `read_bytes`."""
    try:
        return read_bytes(path, limit).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path}: expected text, received binary data; give the file that agl_ref wrote") from None


# --- arrays -------------------------------------------------------------------------------------------------------------


def array_of_npy(data, limit=None):
    """The array in the bytes of an .npy file, which must be its header and its numbers to the last byte.

    Raises ValueError, without the file's name, for objects, damage, and more than `limit` bytes.
    """
    limit = MAX_BYTES if limit is None else limit
    if data[:1] == b"\x80":
        raise ValueError("expected an array of numbers, received pickled objects, which are never loaded; use np.save")
    if data[:2] == b"PK":
        raise ValueError("expected one array, received an archive; name it .npz")
    if data[:6] != b"\x93NUMPY" or data[6:7] not in (b"\1", b"\2", b"\3"):
        raise ValueError("expected an array, received other bytes; save it with np.save")
    start = 10 if data[6:7] == b"\1" else 12
    end = start + int.from_bytes(data[8:start], "little")
    try:
        if end > min(len(data), start + MAX_HEADER):
            raise ValueError("a header that is longer than the file, or than 10,000 bytes")
        text = data[start:end].decode("latin-1" if start == 10 else "utf-8").strip()
        header = ast.literal_eval("" if "\\" in text else text)
        shape, fortran, kind = header["shape"], header["fortran_order"], header["descr"]
        if len(header) > 3 or not isinstance(fortran, bool) or not isinstance(shape, tuple) or len(shape) > 32:
            raise ValueError("a header that describes no array")
        if kind == "|O":
            raise TypeError("pickled objects, which are never loaded")
        if not isinstance(kind, str) or not re.fullmatch("[<>|=]?[biufcSUV][1-9][0-9]*", kind):
            raise TypeError(f"one of {kind!r}")
        if not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError("a shape that is none")
        dtype = np.dtype(kind)
    except (ValueError, SyntaxError, KeyError, MemoryError, RecursionError, OverflowError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"expected a whole array, received a damaged one ({reason}); save it again") from None
    except TypeError as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"expected an array of numbers, received {reason}; save it with np.asarray(..., float)"
        ) from None
    size = math.prod(shape) * dtype.itemsize
    if size > limit:
        raise ValueError(f"expected at most {limit} bytes, received {size}; cut it smaller")
    if size != len(data) - end:
        received = "a truncated one" if len(data) - end < size else "more behind it"
        raise ValueError(
            f"expected an array of {size} bytes for shape {shape}, received {received}; save it again, append nothing"
        )
    return np.frombuffer(data, dtype, offset=end).reshape(shape, order="F" if fortran else "C").copy(order="K")


def read_npy(path):
    """The array in an .npy file."""
    data = read_bytes(path)
    try:
        return array_of_npy(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def read_npz(path, data=None, choose=None, limit=None):
    """{name: array} of an npz.

    Parameters
    ----------
    path : path
    data : bytes, optional
        Its content, if it was read already.
    choose : callable, optional
        Takes the set of names and returns those to read.
    limit : int, optional
        On the sum of the unpacked sizes; MAX_BYTES by default.
    """
    limit = MAX_BYTES if limit is None else limit
    source = regular_file(path, limit) if data is None else io.BytesIO(data)
    with one_line_errors(path), source.open("rb") if data is None else source as file:
        begin = file.read(6)
        if begin[:1] == b"\x80":
            raise ValueError(f"{path}: expected an npz, received pickled objects, which are never loaded; use np.savez")
        if begin == b"\x93NUMPY":
            raise ValueError(
                f"{path}: expected named arrays, received one without a name; save it with np.savez(..., u=u)"
            )
        if not zipfile.is_zipfile(file):
            received = "one that is cut off" if begin.startswith(b"PK") else "something else"
            raise ValueError(f"{path}: expected an npz (a whole zip of arrays), received {received}; use np.savez")
        if (
            count := _occurrences(file, b"PK\1\2")
        ) > MAX_MEMBERS:  # what each entry begins with, before they are parsed
            raise ValueError(f"{path}: expected at most {MAX_MEMBERS} arrays, received {count}; cut it smaller")
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if (size := sum(member.file_size for member in members)) > limit:
                raise ValueError(f"{path}: expected at most {limit} bytes unpacked, received {size}; cut it smaller")
            named = {member.filename.removesuffix(".npy"): member for member in members}
            if len(named) < len(members) or not all(member.filename.endswith(".npy") for member in members):
                names = sorted(member.filename for member in members)
                bad = next((n for n in names if names.count(n) > 1 or not n.endswith(".npy")), names[0])
                raise ValueError(
                    f"{path}: expected arrays alone, each once, received the entry {bad[:80]!r}; write it with np.savez"
                )
            if any(member.comment for member in members):  # a damaged length can make a comment of the next entry
                raise ValueError(f"{path}: expected arrays without comments, received one; write it with np.savez")
            if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
                raise ValueError(f"{path}: expected plain or deflated arrays, received others; write it with np.savez")
            found = {}
            for name in named if choose is None else choose(set(named)):
                content = archive.read(named[name])  # compares the checksum
                try:
                    found[name] = array_of_npy(content, limit)
                except ValueError as error:
                    raise ValueError(f"{path}: {name}: {error}") from None
    return found


def _occurrences(file, what):
    """How often bytes occur in a file, of which a part at a time is held."""
    count, rest = 0, b""
    file.seek(0)
    while block := file.read(1 << 20):
        block = rest + block
        count, rest = count + block.count(what), block[1 - len(what) :]
    return count


# --- writing ------------------------------------------------------------------------------------------------------------


def unique_names(pairs):
    """A JSON object as a dict, for json.loads; ValueError for a name that comes twice, which Python would drop."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name comes twice")
    return found


@contextlib.contextmanager
def naming(path):
    """Gives an OSError the name of the file, which a full disk's has not."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def write_atomically(path, content):
    """Write bytes so that a reader, or a crash, sees either the old file or the whole new one. Makes the folder.

    What is no file, as /dev/stdout, is written to; a link stays one.
    """
    with naming(path):
        path = Path(os.path.realpath(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".tmp")
        if path.exists() and not path.is_file():
            return path.write_bytes(content)
        try:
            with open(temporary, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        if os.name == "posix":  # the rename itself must reach the disk too
            folder = os.open(path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
