"""The standard streams: what becomes of them never stops a command, or changes what it found.

A stream that is closed from the start (`>&-`) or whose reader has gone (`| head -1`) takes everything and keeps nothing: the
command does its work, and its exit code is that of the work. Whatever stderr cannot take is dropped too. What stdout could
not take otherwise, on a full disk, is an error once the work is done.
"""

import contextlib
import os
import sys


class _Output:
    """A standard stream, as far as it can be written; `error` is the OSError after which it was not."""

    def __init__(self, stream):
        self.error = None
        self._stream = open(os.devnull, "w") if stream is None else stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text):
        try:
            self._attempt(self._stream.write, text)
        except UnicodeEncodeError:  # a name in a locale that cannot write it
            self._attempt(self._stream.write, text.encode("ascii", "backslashreplace").decode())

    def flush(self):
        self._attempt(self._stream.flush)

    def _attempt(self, call, *args):
        try:
            call(*args)
        except OSError as error:
            self.error = error
            with open(os.devnull, "w") as nowhere:  # what is buffered goes there too, when Python ends
                os.dup2(nowhere.fileno(), self._stream.fileno())


@contextlib.contextmanager
def kept_going():
    """Context manager in which stdout and stderr are such streams. OSError at its end for what stdout could not take."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:  # closed: the next file that is opened would be taken for the stream
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # by worker processes too
    out = _Output(sys.stdout)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(_Output(sys.stderr)):
        try:
            yield
        finally:  # after --help too, which ends in SystemExit
            out.flush()
            if out.error is not None and not isinstance(out.error, BrokenPipeError):
                raise OSError(out.error.errno, out.error.strerror, "standard output")
