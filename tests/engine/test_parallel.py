"""Chunks of kernels over several threads: each once, exceptions handed on, nested calls serial; BLAS held to one thread."""

import threading

import helpers
import numpy as np
import pytest
from threadpoolctl import ThreadpoolController, threadpool_info

import agl_ref as agl
from agl_ref.engine import parallel


@pytest.fixture(params=[1, 2, 8])
def threads(request, monkeypatch):
    """So many threads, also where the JIT is off."""
    monkeypatch.setattr(parallel, "threads", lambda: request.param)
    return request.param


@pytest.fixture
def two_threads(monkeypatch):
    monkeypatch.setattr(parallel, "threads", lambda: 2)


@pytest.mark.parametrize("chunks", [0, 1, 2, 3, 17, 100])
@pytest.mark.parametrize("grain", [1, 5])
def test_each_chunk_is_computed_once(chunks, grain, threads):
    done, calls = np.zeros(chunks, int), []

    def kernel(first, last, step):
        calls.append((first, last))
        done[first:last] += step

    parallel.run(kernel, chunks, 3, grain=grain)
    assert (done == 3).all()
    assert all(last - first >= min(grain, chunks) for first, last in calls)
    if threads > 1 and chunks >= 2 * grain:
        assert len(calls) > 1


def test_the_caller_and_a_helper_work_at_the_same_time(two_threads):
    both, who = threading.Barrier(2, timeout=60), []

    def kernel(first, last):
        who.append(threading.get_ident())
        both.wait()

    parallel.run(kernel, 2)
    assert len(set(who)) == 2 and threading.get_ident() in who


def test_a_call_goes_on_alone_while_the_helpers_are_busy(two_threads):
    begun, go_on = threading.Barrier(3, timeout=60), threading.Event()

    def slow(first, last):
        begun.wait()
        assert go_on.wait(60)

    elsewhere = threading.Thread(target=parallel.run, args=(slow, 2))
    elsewhere.start()
    begun.wait()  # that thread and the helper are in `slow`
    done = np.zeros(10, int)

    def kernel(first, last):
        done[first:last] += 1

    parallel.run(kernel, 10)
    assert (done == 1).all()
    go_on.set()
    elsewhere.join(60)


def test_a_call_goes_on_alone_where_no_thread_can_be_started(two_threads, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(parallel, "_helpers", type(parallel._helpers)())
    monkeypatch.setattr(threading.Thread, "start", refuse)
    done = np.zeros(10, int)

    def kernel(first, last):
        done[first:last] += 1

    parallel.run(kernel, 10)
    assert (done == 1).all()


@pytest.mark.parametrize("where", ["caller", "helper"])
def test_an_exception_is_raised_after_all_have_ended(where, two_threads):
    caller, both, ended = threading.get_ident(), threading.Barrier(2, timeout=60), []

    def kernel(first, last):
        both.wait()
        if (threading.get_ident() == caller) == (where == "caller"):
            raise MemoryError(where)
        ended.append(first)

    with pytest.raises(MemoryError, match=where):
        parallel.run(kernel, 2)
    assert len(ended) == 1
    done = np.zeros(10, int)
    parallel.run(lambda first, last: done.__setitem__(slice(first, last), 1), 10)
    assert done.all()


def test_a_call_inside_a_call_is_serial(monkeypatch):
    inside = []

    def outer(first, last):
        parallel.run(lambda first, last: inside.append((first, last)), 6)

    monkeypatch.setattr(parallel.numba.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(parallel.numba.config, "NUMBA_NUM_THREADS", 2)
    parallel.run(outer, 2)
    assert inside == [(0, 6), (0, 6)]
    assert parallel.threads() == 2


def test_more_threads_than_anybody_has_cores_are_not_started(monkeypatch):
    monkeypatch.setattr(parallel.numba.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(parallel.numba.config, "NUMBA_NUM_THREADS", 99_999)
    assert 64 <= parallel.threads() == parallel.MOST < 10_000


def test_at_most_holds_for_its_own_thread_and_the_block_alone(monkeypatch):
    monkeypatch.setattr(parallel.numba.config, "DISABLE_JIT", 0)
    monkeypatch.setattr(parallel.numba.config, "NUMBA_NUM_THREADS", 4)
    elsewhere = []
    with parallel.at_most(2):
        assert parallel.threads() == 2
        with parallel.at_most(3):
            assert parallel.threads() == 2
        with parallel.at_most(1):
            assert parallel.threads() == 1
        thread = threading.Thread(target=lambda: elsewhere.append(parallel.threads()))
        thread.start()
        thread.join()
        with pytest.raises(KeyError), parallel.at_most(1):
            raise KeyError
        assert parallel.threads() == 2
    assert parallel.threads() == 4 and elsewhere == [4]


def test_arrays_are_let_go_when_the_call_ends(two_threads):
    import weakref

    array = np.zeros(10)
    seen = weakref.ref(array)
    parallel.run(lambda first, last, x: None, 10, array)
    del array
    assert seen() is None


# --- BLAS -------------------------------------------------------------------------------------------------------------


def blas_threads():
    return {info["filepath"]: info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


@pytest.fixture
def two_blas_threads():
    agl.linear_forward(np.ones((1, 2, 3)), np.ones((3, 2)))  # whatever it loads is loaded
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        if set(blas_threads().values()) != {2}:
            pytest.skip("this BLAS has one thread")
        yield


def test_the_last_who_leaves_restores_the_threads_of_blas(two_blas_threads):
    before = blas_threads()
    first, second = parallel.one_blas_thread(), parallel.one_blas_thread()
    first.__enter__()
    assert set(blas_threads().values()) == {1}
    second.__enter__()
    first.__exit__(None, None, None)
    assert set(blas_threads().values()) == {1}
    second.__exit__(None, None, None)
    assert blas_threads() == before


def test_a_block_that_is_left_in_another_thread_restores_the_threads_of_blas(two_blas_threads):
    before, left = blas_threads(), parallel.one_blas_thread()
    left.__enter__()
    thread = threading.Thread(target=left.__exit__, args=(None, None, None))
    thread.start()
    thread.join()
    assert blas_threads() == before
    with parallel.one_blas_thread():
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before


def test_an_interruption_on_the_way_out_holds_blas_no_longer_than_the_next_block(two_blas_threads, monkeypatch):
    before = blas_threads()

    class Interrupted(parallel._User):
        def __setattr__(self, name, value):
            if name == "inside" and value < getattr(self, name, 0):  # before the block is counted as left
                raise KeyboardInterrupt
            super().__setattr__(name, value)

    with monkeypatch.context() as patched:
        patched.setattr(parallel, "_User", Interrupted)
        with pytest.raises(KeyboardInterrupt), parallel.one_blas_thread():
            pass
    with parallel.one_blas_thread():
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before


def test_an_exception_restores_the_threads_of_blas(two_blas_threads):
    before = blas_threads()
    with pytest.raises(KeyboardInterrupt), parallel.one_blas_thread(), parallel.one_blas_thread():
        raise KeyboardInterrupt
    assert blas_threads() == before


def test_an_interruption_while_blas_is_held_restores_its_threads(two_blas_threads, monkeypatch):
    before, (common, by_thread) = blas_threads(), parallel._blas_libraries()

    class Interrupted:
        num_threads = 2

        def set_num_threads(self, n):
            if n == 1:
                raise KeyboardInterrupt

    monkeypatch.setattr(parallel, "_blas_libraries", lambda: ([*common, Interrupted()], by_thread))
    with pytest.raises(KeyboardInterrupt), parallel.one_blas_thread():
        pass
    assert blas_threads() == before


def test_a_thread_that_is_not_the_first_to_set_the_threads_of_blas_is_obeyed(two_blas_threads):
    """threadpoolctl 3.8 ignores it."""
    before, inside = blas_threads(), []
    with parallel.one_blas_thread():
        pass

    def work():
        with parallel.one_blas_thread():
            inside.append(blas_threads())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert set(inside[0].values()) == {1} and blas_threads() == before
    with ThreadpoolController().limit(limits=1, user_api="blas"):  # and the host can still do it
        assert set(blas_threads().values()) == {1}
    assert blas_threads() == before


def test_a_blas_with_a_number_of_threads_for_each_thread_is_held_in_the_helpers_too(two_threads, monkeypatch):
    """As MKL has."""

    class Library(threading.local):
        num_threads = 2

        def set_num_threads(self, n):
            self.num_threads = n

    library, both, seen = Library(), threading.Barrier(2, timeout=60), []
    monkeypatch.setattr(parallel, "_blas_libraries", lambda: ([], [library]))
    monkeypatch.setattr(parallel, "_helpers", type(parallel._helpers)())

    def kernel(first, last):
        seen.append(library.num_threads)
        both.wait()

    with parallel.one_blas_thread():
        parallel.run(kernel, 2)
    assert seen == [1, 1] and library.num_threads == 2


def test_eight_threads_leave_blas_as_it_was_and_compute_the_bits_of_one(two_blas_threads):
    rng, before = np.random.default_rng(0), blas_threads()
    x, weight = rng.normal(size=(4, 100, 300)), rng.normal(size=(300, 200))
    alone, cache = agl.linear_forward(x, weight)
    dx, dweight, _ = agl.linear_backward(alone, cache)
    received = []

    def work():
        for _ in range(20):
            y, cache = agl.linear_forward(x, weight)
            received.append((y, *agl.linear_backward(y, cache)[:2]))

    workers = [threading.Thread(target=work) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert blas_threads() == before and len(received) == 160
    for arrays in received:
        for got, expected in zip(arrays, (alone, dx, dweight), strict=True):
            helpers.assert_same_bits(got, expected)
