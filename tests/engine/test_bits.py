"""Same inputs, same bits: with the JIT and without it, and for every number of Numba and BLAS threads."""

import helpers
import pytest

NO_JIT = {"NUMBA_DISABLE_JIT": "1"}


def threads(numba, blas):
    return {
        "NUMBA_DISABLE_JIT": "0",
        "NUMBA_NUM_THREADS": str(numba),
        "OPENBLAS_NUM_THREADS": str(blas),
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bits")


@pytest.fixture(scope="module")
def jitted(folder):
    return helpers.bits_in_subprocess(folder, "elementwise", NUMBA_DISABLE_JIT="0")


@pytest.fixture(scope="module")
def plain(folder):
    return helpers.bits_in_subprocess(folder, "elementwise", **NO_JIT)


@pytest.fixture(scope="module")
def one_thread(folder):
    return helpers.bits_in_subprocess(folder, "all", **threads(1, 1))


def only(arrays, *words):
    chosen = {name: a for name, a in arrays.items() if all(word in name for word in words)}
    assert chosen
    return chosen


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("surrogate", ["rectangular", "triangular", "sigmoid", "arctan", "gaussian"])
def test_surrogate_and_lif_have_the_same_bits_without_the_jit(surrogate, dtype, jitted, plain):
    helpers.assert_all_same_bits(only(jitted, surrogate, dtype), only(plain, surrogate, dtype))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("op", ["plif", "tdbn evaluation", "tdbn training"])
def test_plif_and_tdbn_have_the_same_bits_without_the_jit(op, dtype, jitted, plain):
    helpers.assert_all_same_bits(only(jitted, op, dtype), only(plain, op, dtype))


@pytest.mark.parametrize("numba, blas", [(2, 2), pytest.param(1, 2, marks=pytest.mark.slow),
                                         pytest.param(2, 1, marks=pytest.mark.slow)])  # fmt: skip
def test_every_op_has_the_same_bits_on_every_run_with_any_number_of_threads(numba, blas, folder, one_thread):
    received = helpers.bits_in_subprocess(folder, "all", **threads(numba, blas))
    helpers.assert_all_same_bits(received, one_thread)
