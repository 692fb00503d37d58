"""Who runs a kernel's chunks: the calling thread and a few helpers; and BLAS held to one thread meanwhile.

A kernel is a serial loop over the chunks first..last-1 of its work, and releases Python's lock. `run` cuts the chunks into
ranges; the caller takes them from the left, helpers from the right. Two rules give the same bits whoever took what: each
chunk writes outputs of its own, and its size depends on shapes alone; and each matrix product in it is computed by one
thread (OpenBLAS rounds differently with one and with two).

The helpers are threads of Python that sleep between kernels. They are made at the first kernel that needs them, leave
before a fork, and are made again after it. Any number of threads may call `run` at once, and `run` inside `run` is serial.

Number of threads: NUMBA_NUM_THREADS, which is by default the number of cores that this process may use, but at most 64 or
one for each core; inside `at_most` no more than it says.
"""

import contextlib
import functools
import os
import threading
import weakref
from collections import deque
from queue import SimpleQueue

import numba

MOST = max(64, os.cpu_count() or 1)  # threads: thousands would take longer to start than the work does
RANGES = 2  # that each thread takes on average: more share the work out better on busy cores, and each costs a call


class _Thread(threading.local):
    """What holds for one thread: the most threads that its kernels may use, and its `_User`, by a weak reference."""

    most = None

    @staticmethod
    def user():
        return None


_here = _Thread()


def threads():
    """How many threads a kernel called here may use. Without the JIT nothing releases Python's lock: one."""
    most = 1 if numba.config.DISABLE_JIT else min(numba.config.NUMBA_NUM_THREADS, MOST)
    return most if _here.most is None else min(_here.most, most)


@contextlib.contextmanager
def at_most(most):
    """Context manager: kernels that this thread calls inside use no more threads than this."""
    before = _here.most
    _here.most = most if before is None else min(most, before)
    try:
        yield
    finally:
        _here.most = before


def pieces(n, size):
    """How many chunks of this size n things make; the last may be smaller."""
    return -(-n // size)


def grain_of(numbers):
    """How many chunks of so many numbers are worth a thread, for a kernel that does little with each number."""
    return max(1, 2**18 // numbers)


class _Job:
    """Ranges of chunks that are still to be taken, and the call that each of them is for."""

    def __init__(self, function, args, ranges):
        self.function, self.args, self.ranges, self.done = function, args, ranges, SimpleQueue()

    def work(self, take):
        """Take ranges until there are none. `done` receives None or an exception for each."""
        while self.ranges:
            try:
                first, last = take()
            except IndexError:  # somebody else took the last one
                return
            try:
                self.function(first, last, *self.args)
            except BaseException as error:
                self.done.put(error)
            else:
                self.done.put(None)


class _Helpers:
    """Threads that wait for jobs."""

    def __init__(self):
        self.lock, self.jobs, self.threads = threading.Lock(), SimpleQueue(), []

    def call(self, job, n):
        """Ask n of them to help."""
        if len(self.threads) < n:
            # Looking for BLAS locks the loader and then wants Python's lock: here, where no helper can hold the one while
            # this thread, which imports something, holds the other.
            _blas_libraries()
            with self.lock, contextlib.suppress(RuntimeError):  # no more threads can be had: the caller works alone
                while len(self.threads) < n:
                    thread = threading.Thread(target=_help, args=(self.jobs,), name="agl_ref kernels", daemon=True)
                    thread.start()
                    self.threads.append(thread)
        for _ in range(n):
            self.jobs.put(job)

    def leave(self):
        """They finish what they do and end; later calls start others."""
        with self.lock:
            leaving, jobs = self.threads, self.jobs
            self.threads, self.jobs = [], SimpleQueue()
        for _ in leaving:
            jobs.put(None)
        for thread in leaving:
            thread.join()


def _help(jobs):
    _here.most = 1
    _hold(_blas_libraries()[1], [])  # this thread's own number, for as long as it lives
    while (job := jobs.get()) is not None:
        job.work(job.ranges.pop)
        del job  # and with it the arrays


_helpers = _Helpers()


def run(function, chunks, *args, grain=1):
    """function(first, last, *args) for ranges that together are the chunks 0..chunks-1, in several threads.

    Parameters
    ----------
    function : callable
        A kernel, or a Python function that calls kernels.
    chunks : int
    grain : int
        How many chunks, at least, are worth a thread: waking one takes some 50 microseconds.

    An exception of one of the calls is raised here, when all have ended.
    """
    n = min(threads(), chunks // grain)
    if n <= 1:
        if chunks > 0:
            function(0, chunks, *args)
        return
    parts = min(chunks // grain, RANGES * n)
    job = _Job(function, args, deque((i * chunks // parts, (i + 1) * chunks // parts) for i in range(parts)))
    most = _here.most
    try:
        _here.most = 1
        _helpers.call(job, n - 1)
        job.work(job.ranges.popleft)
        errors = [error for error in (job.done.get() for _ in range(parts)) if error is not None]
    finally:
        _here.most = most
        job.ranges.clear()  # nobody begins another if this thread was interrupted
        job.args = ()
    if errors:
        raise errors[0]


# --- one BLAS thread --------------------------------------------------------------------------------------------------


class _User:
    """A thread that needs BLAS to be held to one, from its first `one_blas_thread` to its last. Blocks hold it alive."""

    def __init__(self):
        self.inside, self.blas_threads = 0, []


_blas_lock = threading.Lock()
_blas_users = weakref.WeakSet()
_blas_threads = []  # (library, its number of threads before), of those that have one number for the process


@functools.cache
def _blas_libraries():
    """The BLAS libraries that have one number of threads for the process, and those that have one for each thread."""
    import scipy.linalg.blas  # noqa: F401  the BLAS that numba's np.dot calls; it must be loaded to be found
    from threadpoolctl import ThreadpoolController

    libraries = ThreadpoolController().select(user_api="blas").lib_controllers
    common = [one for one in libraries if getattr(one, "threading_layer", "pthreads") == "pthreads"]
    return common, [one for one in libraries if one not in common]


def _hold(libraries, before):
    """Set them to one thread; `before` receives (library, number) of those that had more."""
    before += [(library, n) for library in libraries if (n := library.num_threads) != 1]
    _set_threads([(library, 1) for library, _ in before])


def _restore(before):
    _set_threads(before)
    before.clear()


def _set_threads(numbers):
    """Set the number of threads of each (library, number), whichever thread of Python did it before.

    threadpoolctl ignores all but the first thread that sets OpenBLAS's, until told to forget who that was.
    """
    found = (getattr(library, "clear_controlling_thread", None) for library, _ in numbers)
    forget = next(filter(None, found), lambda force: None)
    forget(force=True)
    for library, n in numbers:
        library.set_num_threads(n)
    forget(force=True)


@contextlib.contextmanager
def one_blas_thread():
    """Context manager: every BLAS call inside is computed by the thread that makes it.

    Most BLAS libraries have one number of threads for the process: the first who enters sets it to one, and the last who
    leaves sets it back.
    """
    common, by_thread = _blas_libraries()
    user = _here.user() or _User()
    try:
        _here.user = weakref.ref(user)
        user.inside += 1
        if user.inside == 1:
            with _blas_lock:
                if not _blas_users:
                    _hold(common, _blas_threads)
                _blas_users.add(user)
            _hold(by_thread, user.blas_threads)
        yield
    finally:
        user.inside -= 1
        if user.inside <= 0:
            _restore(user.blas_threads)
            with _blas_lock:
                _blas_users.discard(user)
                if not _blas_users:
                    _restore(_blas_threads)


# --- forks ------------------------------------------------------------------------------------------------------------


def _before_fork():
    _helpers.leave()
    _blas_lock.acquire()


def _after_fork_in_child():
    """Only the thread that forked is left, and it is in no kernel."""
    global _blas_lock
    _helpers.__init__()
    _here.most, _here.user = None, _Thread.user
    _blas_lock = threading.Lock()
    _blas_users.clear()
    _restore(_blas_threads)


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(
        before=_before_fork, after_in_parent=lambda: _blas_lock.release(), after_in_child=_after_fork_in_child
    )
