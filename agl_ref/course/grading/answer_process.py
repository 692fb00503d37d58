"""The program that runs a student's answers for the report: it gets sources and arguments, and gives back what came out.

It knows no right answer: it is started as a file of its own that imports NumPy and nothing of agl_ref, and whoever started
it compares and gives the points (isolated.py). Messages are lines of JSON, so that nothing is unpickled on either side.
An audit hook refuses agl_ref, files other than libraries, other programs and the network. It is a fence for students and no
wall against attackers: for those, a container.
"""

import ast
import base64
import builtins
import contextlib
import importlib
import inspect
import io
import json
import linecache
import os
import sys
import sysconfig
import traceback
import warnings

import numpy as np

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # agl_ref/course
_FOLDERS = [sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")]
_FOLDERS += [os.path.dirname(os.path.dirname(np.__file__))]
LIBRARIES = tuple({resolve(folder) for folder in _FOLDERS for resolve in (os.path.abspath, os.path.realpath)})
MEMORY = 4 << 30  # bytes that an answer may take, where the system can limit it
_REFUSED = ("ctypes.", "socket.", "subprocess.", "shutil.", "os.chmod", "os.exec", "os.fork", "os.kill", "os.link",
            "os.mkdir", "os.posix_spawn", "os.putenv", "os.remove", "os.rename", "os.rmdir", "os.spawn", "os.symlink",
            "os.system", "os.truncate", "pty.", "signal.pthread_kill")  # fmt: skip


def quietly(answer, arguments):
    """The answer's result. What it prints is dropped: nbgrader takes anything on stderr for a failure."""
    sink = io.StringIO()
    with contextlib.redirect_stdout(sink), contextlib.redirect_stderr(sink), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with np.errstate(all="ignore"):
            return answer(*arguments)


def what_stopped(error):
    """An exception in a few words, with the student's line: the last frame that is in no library."""
    message = " ".join(str(error).split())[:160].rstrip(".")
    text = f"{type(error).__name__}: {message}" if message else type(error).__name__
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not os.path.abspath(frame.filename).startswith((_PACKAGE, *LIBRARIES)):
            return f"{text}, in line {frame.lineno} of its cell or file{f': `{frame.line}`' if frame.line else ''}"
    return text


def encode(value, functions=()):
    """A value as JSON has it. Functions of the list are named by their number, what has no form of its own by its type."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        return {"tuple" if isinstance(value, tuple) else "list": [encode(item, functions) for item in value]}
    if isinstance(value, np.ndarray | np.generic) or hasattr(value, "__array__"):
        array = np.asarray(value)
        if array.dtype.kind in "biufc":
            data = base64.b64encode(array.tobytes()).decode()
            return {"array": data, "dtype": array.dtype.str, "shape": array.shape}
        return {"objects": array.shape}
    for k, function in enumerate(functions):
        if value is function:
            return {"function": k}
    return {"other": type(value).__name__}


def decode(message, function=None):
    """The value; `function(k)` makes the k-th function. An object of unknown kind has the name of its type alone."""
    if not isinstance(message, dict):
        return message
    for kind, make in (("tuple", tuple), ("list", list)):
        if kind in message:
            return make(decode(item, function) for item in message[kind])
    if "array" in message:
        flat = np.frombuffer(base64.b64decode(message["array"]), np.dtype(message["dtype"]))
        return flat.reshape(message["shape"]).copy()
    if "objects" in message:
        return np.broadcast_to(np.array(None), message["objects"])
    if "function" in message:
        return function(message["function"])
    return type(str(message["other"])[:40], (), {})()


def parameters_of(function):
    """[(name, kind, whether it has a default)] of a function, or None if it does not tell."""
    try:
        found = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return [(p.name, int(p.kind), p.default is not p.empty) for p in found]


def define(name, cells):
    """The value of a name after the chosen statements of some cells: cells are (label, source, numbers of statements)."""
    names, failed = {"__name__": "__main__", "np": np}, None
    for label, source, chosen in cells:
        linecache.cache[label] = (len(source), None, source.splitlines(keepends=True), label)
        body = ast.parse(source).body
        for k in chosen:
            code = compile(ast.Module([body[k]], []), label, "exec")
            try:
                quietly(lambda code=code: exec(code, names), ())
            except Exception as error:  # perhaps the answer does without it
                failed = failed or error
    if name not in names:
        raise failed or NameError(f"name {name!r} is not defined")
    return names[name], failed


def is_library(path):
    """Whether a file belongs to Python or an installed library, agl_ref excepted."""
    path = os.path.realpath(path)
    hidden = (os.path.dirname(_PACKAGE), *(os.path.join(folder, "agl_ref") for folder in LIBRARIES))
    return path.startswith(LIBRARIES) and not path.startswith(hidden)


def fence():
    """Refuse, from here on, what an answer has no need of. A hook cannot be taken away again."""

    def hook(event, arguments):
        if event == "import" and arguments[0].partition(".")[0] in ("agl_ref", "_posixsubprocess"):
            raise ImportError(f"{arguments[0]} is not there when answers are graded: write it yourself")
        if event == "open" and not isinstance(arguments[0], int):
            path = os.fsdecode(arguments[0])
            if (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR) or not is_library(path):
                raise PermissionError(f"no files when answers are graded: {os.path.basename(path)}")
        if event.startswith(_REFUSED):
            raise PermissionError(f"{event} is refused when answers are graded")

    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # not on every system

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    sys.dont_write_bytecode = True
    sys.path[:] = LIBRARIES
    sys.modules.pop("_posixsubprocess", None)  # what subprocess calls: no event tells of it
    if "subprocess" in sys.modules:
        sys.modules["subprocess"]._fork_exec = None
    sys.addaudithook(hook)


class _Channel:
    """Lines of JSON from and to whoever started the program; its own output goes nowhere."""

    def __init__(self):
        self.source, self.target = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
        nowhere = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nowhere, descriptor)

    def read(self):
        line = self.source.readline()
        if not line:
            os._exit(0)
        return json.loads(line)

    def write(self, message):
        self.target.write(json.dumps(message).encode() + b"\n")
        self.target.flush()

    def function(self, k):
        """A function that is called where the arguments came from."""

        def call(x):
            self.write({"call": k, "with": encode(x)})
            reply = self.read()
            if "error" in reply:
                kind, message = reply["error"]
                raise getattr(builtins, kind, RuntimeError)(message)
            return decode(reply["value"])

        return call


def _result(answer, arguments, failed):
    """What a call gives, and which arguments it changed."""
    before = [np.array(a) if isinstance(a, np.ndarray) else None for a in arguments]
    try:
        result = quietly(answer, arguments)
    except NameError as error:
        raise (failed or error) from None  # what could not be defined is why
    changed = {k: encode(a) for k, (a, b) in enumerate(zip(arguments, before, strict=True))
               if b is not None and not np.array_equal(a, b)}  # fmt: skip
    return {"value": encode(result), "changed": changed}


def main():
    """Answer messages until there are no more: {"define": name, "cells": ...}, then {"arguments": ...} several times."""
    channel = _Channel()
    for module in channel.read()["libraries"]:
        with contextlib.suppress(Exception):
            importlib.import_module(module)  # some look for shared libraries when they are first imported
    fence()
    answer = failed = None
    while True:
        message = channel.read()
        try:
            if "define" in message:
                answer, failed = define(message["define"], message["cells"])
                reply = (
                    {"callable": True, "parameters": parameters_of(answer)}
                    if callable(answer)
                    else {"value": encode(answer)}
                )
            else:
                reply = _result(answer, tuple(decode(a, channel.function) for a in message["arguments"]), failed)
        except BaseException as error:  # sys.exit in an answer, too
            reply = {"error": type(error).__name__, "text": what_stopped(error)}
        channel.write(reply)


if __name__ == "__main__":
    main()
