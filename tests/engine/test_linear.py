"""The linear pair: hand arithmetic, naive twin, exact rationals, finite differences."""

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import exact, naive

import agl_ref as agl

each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def drawn(seed, lead, F_in, F_out, dtype=np.float64):
    """(x, weight, bias, dy)."""
    rng = np.random.default_rng(seed)
    shapes = ((*lead, F_in), (F_in, F_out), (F_out,), (*lead, F_out))
    return tuple(rng.normal(size=shape).astype(dtype) for shape in shapes)


def assert_is_twin(lib, x, weight, bias, dy):
    y, cache = lib.linear_forward(x, weight, bias)
    received = (y, *lib.linear_backward(dy, cache))
    expected = (naive.linear_forward(x, weight, bias), *naive.linear_backward(dy, x, weight))
    # rounding errors are relative to the same sums without signs
    x, weight, dy = (np.abs(a).astype(float) for a in (x, weight, dy))
    sizes = naive.linear_forward(x, weight, None if bias is None else np.abs(bias))
    sizes = (sizes, *naive.linear_backward(dy, x, weight))
    longest = max(weight.shape[0] + 1, weight.shape[1], x.size // x.shape[-1])
    bound = 2 * helpers.rounding(y.dtype, longest + 1)
    for name, a, b, size in zip(("y", "dx", "dweight", "dbias"), received, expected, sizes, strict=True):
        assert (a is None) == (name == "dbias" and bias is None)
        if a is not None:
            helpers.assert_close(a, b, bound, size, name)


@each_dtype
def test_linear_is_the_hand_arithmetic(lib, dtype):
    x, weight = np.array([[2.0, 3.0]], dtype), np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], dtype)
    y, cache = lib.linear_forward(x, weight, np.array([0.5, 0.0, -0.5], dtype))
    assert y.tolist() == [[14.5, 19.0, 23.5]]
    dx, dweight, dbias = lib.linear_backward(np.array([[1.0, 10.0, 100.0]], dtype), cache)
    assert dx.tolist() == [[321.0, 654.0]]
    assert dweight.tolist() == [[2, 20, 200], [3, 30, 300]]
    assert dbias.tolist() == [1, 10, 100]


@given(
    st.sampled_from([(1,), (7,), (1, 1), (2, 3), (3, 1, 2)]),
    st.integers(1, 9),
    st.integers(1, 9),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_linear_is_the_naive_twin(lib, lead, F_in, F_out, has_bias, seed):
    x, weight, bias, dy = drawn(seed, lead, F_in, F_out)
    assert_is_twin(lib, x, weight, bias if has_bias else None, dy)


@each_dtype
@pytest.mark.parametrize("lead, F_in, F_out", [((3, 700), 3, 2), ((2, 3), 600, 2), ((2, 3), 2, 600)])
def test_linear_of_long_axes_is_the_naive_twin(lib, lead, F_in, F_out, dtype):
    assert_is_twin(lib, *drawn(1, lead, F_in, F_out, dtype))


@each_dtype
@pytest.mark.parametrize("has_bias", [True, False])
def test_linear_has_the_bits_of_exact_rationals(lib, has_bias, dtype):
    rng, ledger = np.random.default_rng(2), exact.Ledger()
    shapes = ((3, 4, 5), (5, 7), (7,), (3, 4, 7))
    arrays = [helpers.dyadic(rng, shape, -2, 2, 16).astype(dtype) for shape in shapes]
    x, weight, bias, dy = (exact.fractions(a) for a in arrays)
    expected = exact.linear_forward(x, weight, bias if has_bias else None, ledger)
    expected = (expected, *exact.linear_backward(dy, x, weight, ledger))
    assert ledger.fits(dtype)
    y, cache = lib.linear_forward(*arrays[:2], arrays[2] if has_bias else None)
    received = (y, *lib.linear_backward(arrays[3], cache))
    assert (received[3] is None) == (not has_bias)
    names = ("y", "dx", "dweight", "dbias")[: 3 + has_bias]
    for name, a, b in zip(names, received[: 3 + has_bias], expected[: 3 + has_bias], strict=True):
        helpers.assert_equal(a, exact.floats(b, dtype), name)


def test_gradients_are_central_differences(lib):
    x, weight, bias, dy = drawn(3, (2, 3), 4, 5)
    _, cache = lib.linear_forward(x, weight, bias)
    grads = lib.linear_backward(dy, cache)

    def loss():
        return float((dy * lib.linear_forward(x, weight, bias)[0]).sum())

    for name, array, received in zip(("dx", "dweight", "dbias"), (x, weight, bias), grads, strict=True):
        expected = helpers.central_difference(loss, array, 1e-3)  # the loss is linear in each element
        helpers.assert_close(received, expected, 1e-9, name=name)


def test_input_gradient_can_be_left_out():
    x, weight, bias, dy = drawn(4, (2, 3), 4, 5)
    _, cache = agl.linear_forward(x, weight, bias)
    full, partial = agl.linear_backward(dy, cache), agl.linear_backward(dy, cache, need_dx=False)
    assert partial[0] is None
    helpers.assert_same_bits(partial[1], full[1], "dweight")
    helpers.assert_same_bits(partial[2], full[2], "dbias")


def test_two_forwards_before_a_backward_do_not_disturb_each_other(lib):
    a, b = (drawn(seed, (2, 3), 4, 5) for seed in (6, 7))
    kept = [array.copy() for array in a]
    alone = lib.linear_backward(a[3], lib.linear_forward(*a[:3])[1])
    cache_a, cache_b = lib.linear_forward(*a[:3])[1], lib.linear_forward(*b[:3])[1]
    lib.linear_backward(b[3], cache_b)
    for received, expected in zip(lib.linear_backward(a[3], cache_a), alone, strict=True):
        helpers.assert_same_bits(received, expected)
    for before, after in zip(kept, a, strict=True):
        helpers.assert_same_bits(after, before)


X, W = np.ones((2, 3, 4)), np.ones((4, 5))
BAD_FORWARD = {
    "list": (X.tolist(), W, None),
    "integers": (X.astype(int), W, None),
    "float16": (X.astype(np.float16), W, None),
    "one axis": (np.ones(4), W, None),
    "no axes": (np.array(1.0), W, None),
    "empty": (X[:0], W, None),
    "NaN": (X + np.nan, W, None),
    "infinity": (X + np.inf, W, None),
    "features": (X[..., :3], W, None),
    "weight rank": (X, W[0], None),
    "weight dtype": (X, W.astype(np.float32), None),
    "weight NaN": (X, W + np.nan, None),
    "weight without outputs": (X, W[:, :0], None),
    "bias length": (X, W, np.ones(4)),
    "bias rank": (X, W, np.ones((1, 5))),
    "bias dtype": (X, W, np.ones(5, np.float32)),
    "bias NaN": (X, W, np.full(5, np.nan)),
}


@pytest.mark.parametrize("bad", BAD_FORWARD.values(), ids=BAD_FORWARD)
def test_forward_refuses(bad):
    helpers.assert_refused(lambda: agl.linear_forward(*bad))


DY = np.ones((2, 3, 5))
BAD_DY = {
    "length": DY[:1],
    "features": DY[..., :1],
    "rank": DY[0],
    "float32": DY.astype(np.float32),
    "integers": DY.astype(int),
    "NaN": DY + np.nan,
    "list": DY.tolist(),
}


@pytest.mark.parametrize("dy", BAD_DY.values(), ids=BAD_DY)
def test_backward_refuses(dy):
    _, cache = agl.linear_forward(X, W)
    helpers.assert_refused(lambda: agl.linear_backward(dy, cache))
