"""A student's answers in another process, as functions that `judge` can call: the points are computed here, from data."""

import contextlib
import inspect
import json
import os
import queue
import subprocess
import sys
import threading
import time

import numpy as np

from . import answer_process
from .answer_process import decode, encode
from .diagnose import Stopped

MAX_MESSAGE = 64 << 20  # bytes that an answer may send at once
STARTING = 60  # seconds for Python, NumPy and the libraries, on a busy machine


class AnswerProcess:
    """A process for one student's answers. It is started when it is needed, and anew after a death or a loop without end.

    libraries: modules that the answers import. timeout: seconds for an exercise, all of its calls together.
    """

    def __init__(self, libraries=(), timeout=20):
        self.libraries, self.timeout, self.process = list(libraries), timeout, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stop()

    def answer(self, name, cells):
        """The value of `name` after the cells' chosen statements, a function of this process's if it is one.

        cells: list of (label, source, numbers of statements). Stopped if they cannot be run.
        """
        if self.process is None or self.process.poll() is not None:  # an answer's thread may have ended it meanwhile
            self._stop()
            self._start()
        deadline = time.monotonic() + self.timeout
        reply = self._ask({"define": name, "cells": cells}, deadline)
        if "callable" not in reply:
            return _received(lambda: decode(reply["value"]))

        def call(*arguments):
            functions = [a for a in arguments if callable(a)]
            message = {"arguments": [encode(a, functions) for a in arguments]}
            reply = self._ask(message, deadline, functions)
            for k, array in reply.get("changed", {}).items():
                _received(lambda k=k, array=array: np.copyto(arguments[int(k)], decode(array)))
            return _received(lambda: decode(reply["value"]))

        if reply["parameters"] is not None:
            call.__signature__ = _received(lambda: _signature(reply["parameters"]))
        return call

    def _start(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        environment.pop("AGL_STUDENT", None)
        self.process = subprocess.Popen([sys.executable, "-I", answer_process.__file__], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
        self.lines = queue.Queue(2)
        threading.Thread(target=_pass_on, args=(self.process.stdout, self.lines), daemon=True).start()
        self._send({"libraries": self.libraries})
        self._ask({"define": "np", "cells": []}, time.monotonic() + STARTING)

    def _stop(self):
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()
            with contextlib.suppress(OSError):  # it may hold what the process did not take
                process.stdin.close()

    def _send(self, message):
        with contextlib.suppress(OSError):  # it has ended: the next line read says so
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def _ask(self, message, deadline, functions=()):
        if self.process is None:  # it ended in an earlier call
            raise Stopped("an end of its process in an earlier call")
        self._send(message)
        while True:
            try:
                line = self.lines.get(timeout=max(deadline - time.monotonic(), 0.01))
            except queue.Empty:
                self._stop()
                raise Stopped(f"no result within {self.timeout} seconds: is there a loop without end?") from None
            if not line.endswith(b"\n"):
                self._stop()
                raise Stopped("an end of its process (os._exit, a crash, or too much memory or output)")
            reply = _received(lambda line=line: dict(json.loads(line)))
            if "call" not in reply:
                break
            self._send(_received(lambda reply=reply: _called(functions[reply["call"]], decode(reply["with"]))))
        if "error" in reply:
            if reply["error"] == "NotImplementedError":
                raise NotImplementedError
            raise Stopped(str(reply.get("text"))[:400])
        return reply


def _pass_on(pipe, lines):
    """Put the lines of a pipe into a queue, an empty one at its end."""
    with pipe:
        while line := pipe.readline(MAX_MESSAGE):
            lines.put(line)
    lines.put(b"")


def _received(read):
    """What `read` makes of a message. The process may send anything: what cannot be read is the answer's fault."""
    try:
        return read()
    except Exception:
        raise Stopped("a result that cannot be read") from None


def _called(function, argument):
    try:
        return {"value": encode(function(argument))}
    except Exception as error:
        return {"error": [type(error).__name__, str(error)[:400]]}


def _signature(parameters):
    kinds = [inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.VAR_POSITIONAL,
             inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD]  # fmt: skip
    return inspect.Signature([
        inspect.Parameter(name, kinds[kind], default=None if default else inspect.Parameter.empty)
        for name, kind, default in parameters
    ])  # fmt: skip
