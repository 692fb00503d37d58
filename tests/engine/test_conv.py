"""conv2d and pooling: hand arithmetic, naive twin, exact rationals, finite differences; both paths."""

import functools
from dataclasses import dataclass

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storeys import ENGINE, REFERENCE
from twins import exact, naive

import agl_ref as agl
from agl_ref.engine import conv, parallel
from agl_ref.engine.conv import PATCHES

PATHS = ["auto", "dense", "spikes"]
each_path = pytest.mark.parametrize("path", PATHS)
# reference.py has one path
each_storey_and_path = pytest.mark.parametrize(
    "lib, path", [(REFERENCE, "auto"), *((ENGINE, path) for path in PATHS)], ids=str
)
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def drawn(seed, x_shape, w_shape, stride=1, padding=0, spikes=False, dtype=np.float64):
    """(x, weight, bias, dy); with `spikes`, x holds zeros and ones, both present where there is room."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=x_shape)
    if spikes:
        x = (rng.random(x_shape) < 0.3).astype(float)
        x.flat[0] = 1.0
    dy = rng.normal(size=naive.conv_output_shape(x_shape, w_shape, stride, padding))
    return tuple(a.astype(dtype) for a in (x, rng.normal(size=w_shape), rng.normal(size=w_shape[3:]), dy))


def sums_of_magnitudes(x, weight, bias, dy, stride, padding):
    """What the rounding errors of (y, dx, dweight, dbias) are relative to: the same sums without signs."""
    x, weight, dy = (np.abs(a).astype(float) for a in (x, weight, dy))
    y = naive.conv2d_forward(x, weight, None if bias is None else np.abs(bias), stride, padding)
    return y, *naive.conv2d_backward(dy, x, weight, stride, padding)


def terms(x_shape, dy_shape, w_shape):
    """The longest sum among y, dx, dweight, dbias."""
    kh, kw, C_in, C_out = w_shape
    return max(kh * kw * C_in + 1, kh * kw * C_out, int(np.prod(dy_shape[:-1])))


@functools.lru_cache(maxsize=1)
def twin(case):
    """(y, dx, dweight, dbias) of the naive twin, and the sums that their rounding is relative to."""
    (x, weight, bias, dy), stride, padding = case.arrays, case.stride, case.padding
    values = naive.conv2d_forward(x, weight, bias, stride, padding)
    values = (values, *naive.conv2d_backward(dy, x, weight, stride, padding))
    return values, sums_of_magnitudes(x, weight, bias, dy, stride, padding)


@dataclass(frozen=True, eq=False)
class Case:
    """One convolution: (x, weight, bias or None, dy), stride, padding."""

    arrays: tuple
    stride: int
    padding: int


def assert_is_twin(lib, case, path):
    x, weight, bias, dy = case.arrays
    y, cache = lib.conv2d_forward(x, weight, bias, case.stride, case.padding, path)
    grads = lib.conv2d_backward(dy, cache)
    twins, magnitudes = twin(case)
    # the twin rounds too, in float64
    bound = helpers.rounding(x.dtype, terms(x.shape, dy.shape, weight.shape) + 1)
    bound += helpers.rounding(np.float64, terms(x.shape, dy.shape, weight.shape) + 1)
    names = ("y", "dx", "dweight", "dbias")
    for name, received, expected, size in zip(names, (y, *grads), twins, magnitudes, strict=True):
        if received is None:
            assert name == "dbias" and bias is None
            continue
        assert received.dtype == x.dtype, name
        helpers.assert_close(received, expected, bound, size, f"{path} {name}")


def assert_every_path_is_twin(lib, case):
    for path in PATHS if lib is ENGINE else PATHS[:1]:
        assert_is_twin(lib, case, path)


# --- hand arithmetic ------------------------------------------------------------------------------

IMAGE = np.arange(1.0, 10.0).reshape(1, 3, 3, 1)  # 1 2 3 / 4 5 6 / 7 8 9
CROSS = np.array([[0.0, 1.0, 0.0], [2.0, 3.0, 4.0], [0.0, 5.0, 0.0]]).reshape(3, 3, 1, 1)


@each_storey_and_path
@each_dtype
def test_forward_is_the_hand_arithmetic(lib, path, dtype):
    # centre: 2 + 2 4 + 3 5 + 4 6 + 5 8; top left: 3 1 + 4 2 + 5 4 (a correlation: the kernel is not flipped)
    x, weight = IMAGE.astype(dtype), CROSS.astype(dtype)
    y, _ = lib.conv2d_forward(x, weight, np.array([0.5], dtype), padding=1, path=path)
    assert y[0, :, :, 0].tolist() == [[31.5, 45.5, 43.5], [68.5, 89.5, 76.5], [57.5, 79.5, 49.5]]
    y, _ = lib.conv2d_forward(x, weight, path=path)
    assert y.tolist() == [[[[89.0]]]]


@each_storey_and_path
@each_dtype
def test_backward_is_the_hand_arithmetic(lib, path, dtype):
    # stride 2, padding 1: outputs at the four corners, each seeing a 2x2 of the image.
    # dx_5 = 0: the cross has no corners; dx_2 = 4 1 + 2 10; dweight centre = 1 1 + 10 3 + 100 7 + 1000 9
    x, weight = IMAGE.astype(dtype), CROSS.astype(dtype)
    _, cache = lib.conv2d_forward(x, weight, np.zeros(1, dtype), stride=2, padding=1, path=path)
    dy = np.array([[1.0, 10.0], [100.0, 1000.0]], dtype).reshape(1, 2, 2, 1)
    dx, dweight, dbias = lib.conv2d_backward(dy, cache)
    assert dx[0, :, :, 0].tolist() == [[3, 24, 30], [105, 0, 1050], [300, 2400, 3000]]
    # tap (1, 0) sees 2 (from 10) and 8 (from 1000); tap (0, 1) sees 4 (from 100) and 6 (from 1000)
    assert dweight[:, :, 0, 0].tolist() == [[5000, 6400, 500], [8020, 9731, 802], [50, 64, 5]]
    assert dbias.tolist() == [1111]


def test_channels_are_the_hand_arithmetic(lib):
    # one pixel, two channels in, three out: y = x W + b
    x, weight = np.array([2.0, 3.0]).reshape(1, 1, 1, 2), np.arange(1.0, 7.0).reshape(1, 1, 2, 3)
    y, cache = lib.conv2d_forward(x, weight, np.array([0.5, 0.0, -0.5]))
    assert y.ravel().tolist() == [14.5, 19.0, 23.5]
    dx, dweight, dbias = lib.conv2d_backward(np.array([1.0, 10.0, 100.0]).reshape(1, 1, 1, 3), cache)
    assert dx.ravel().tolist() == [321.0, 654.0]
    assert dweight.ravel().tolist() == [2, 20, 200, 3, 30, 300]
    assert dbias.tolist() == [1, 10, 100]


# --- naive twin -----------------------------------------------------------------------------------

KERNELS = [(1, 1), (3, 3), (5, 5), (1, 3), (5, 1), (3, 5)]


@st.composite
def conv_cases(draw):
    """A convolution with odd kernels, square and not, and images at least as large as they."""
    kh, kw = draw(st.sampled_from(KERNELS))
    stride, padding = draw(st.integers(1, 3)), draw(st.integers(0, 2))
    H = draw(st.integers(max(1, kh - 2 * padding), 7))
    W = draw(st.integers(max(1, kw - 2 * padding), 7))
    lead = draw(st.sampled_from([(1,), (1, 1), (2, 1), (2, 3)]))
    x_shape, w_shape = (*lead, H, W, draw(st.integers(1, 3))), (kh, kw)
    w_shape = (*w_shape, x_shape[-1], draw(st.integers(1, 3)))
    spikes, has_bias = draw(st.booleans()), draw(st.booleans())
    x, weight, bias, dy = drawn(draw(st.integers(0, 2**32 - 1)), x_shape, w_shape, stride, padding, spikes)
    return Case((x, weight, bias if has_bias else None, dy), stride, padding)


@settings(max_examples=60)
@given(conv_cases())
def test_conv_is_the_naive_twin(lib, case):
    assert_every_path_is_twin(lib, case)


@each_dtype
@pytest.mark.parametrize("spikes", [True, False])
@pytest.mark.parametrize("stride", [1, 2])
def test_conv_over_several_chunks_is_the_naive_twin(dtype, spikes, stride):
    x_shape, w_shape = (2, 3, 15, 13, 2), (3, 3, 2, 3)
    x, weight, bias, dy = drawn(1, x_shape, w_shape, stride, 1, spikes, dtype)
    assert dy.size // 3 > PATCHES and x.size // 2 > 2 * PATCHES
    assert (x == 0).any() == spikes and (x != 0).any()
    assert_every_path_is_twin(ENGINE, Case((x, weight, bias, dy), stride, 1))


@pytest.mark.parametrize("image", [(PATCHES + 9, 3), (3, PATCHES + 9)], ids=["rows", "columns"])
def test_one_image_longer_than_a_chunk_is_the_naive_twin(image):
    arrays = drawn(2, (1, *image, 1), (3, 3, 1, 2), 1, 1, spikes=True)
    assert_every_path_is_twin(ENGINE, Case(arrays, 1, 1))


def test_more_blocks_of_rows_than_one_partial_sum_holds_is_the_naive_twin():
    arrays = drawn(3, (1, 36, PATCHES // 2 + 3, 1), (1, 3, 1, 2), 1, 1, spikes=True)
    assert_every_path_is_twin(ENGINE, Case(arrays, 1, 1))  # every row of the output is a block


def test_more_channels_than_one_thread_takes_is_the_naive_twin():
    arrays = drawn(4, (1, 2, 3, 4, 37), (3, 3, 37, 2), 1, 1, spikes=True)
    assert_every_path_is_twin(ENGINE, Case(arrays, 1, 1))


@pytest.mark.parametrize("value", [0.0, 2.0, -0.5])
def test_spike_path_takes_any_value_and_an_empty_image(value):
    x, weight, bias, dy = drawn(4, (2, 5, 5, 2), (3, 3, 2, 3), 2, 1, True)
    assert_is_twin(ENGINE, Case((x * value, weight, bias, dy), 2, 1), "spikes")


# --- exact rationals ------------------------------------------------------------------------------


EXACT_CONVS = [((3, 3), 1, 1), ((1, 3), 2, 0), ((5, 5), 2, 2), ((1, 1), 1, 0)]


@each_storey_and_path
@each_dtype
@pytest.mark.parametrize("kernel, stride, padding", EXACT_CONVS)
def test_conv_has_the_bits_of_exact_rationals(lib, kernel, stride, padding, dtype, path):
    rng, ledger = np.random.default_rng(5), exact.Ledger()
    x_shape, w_shape = (2, 1, 6, 5, 2), (*kernel, 2, 2)
    shapes = (x_shape, w_shape, (2,), naive.conv_output_shape(x_shape, w_shape, stride, padding))
    arrays = [helpers.dyadic(rng, shape, -2, 2, 8).astype(dtype) for shape in shapes]
    x, weight, bias, dy = (exact.fractions(a) for a in arrays)
    expected = exact.conv2d_forward(x, weight, bias, stride, padding, ledger)
    expected = (expected, *exact.conv2d_backward(dy, x, weight, stride, padding, ledger))
    assert ledger.fits(dtype), f"the case needs {ledger.bits} bits"
    y, cache = lib.conv2d_forward(*arrays[:3], stride, padding, path)
    names = ("y", "dx", "dweight", "dbias")
    grads = lib.conv2d_backward(arrays[3], cache)
    for name, received, value in zip(names, (y, *grads), expected, strict=True):
        helpers.assert_equal(received, exact.floats(value, dtype), name)


# --- finite differences ---------------------------------------------------------------------------


@each_storey_and_path
@pytest.mark.parametrize("stride, padding", [(1, 0), (2, 1)])
def test_gradients_are_central_differences(lib, path, stride, padding):
    x, weight, bias, dy = drawn(6, (2, 4, 3, 2), (3, 3, 2, 2), stride, padding)

    def loss():
        return float((dy * lib.conv2d_forward(x, weight, bias, stride, padding, path)[0]).sum())

    _, cache = lib.conv2d_forward(x, weight, bias, stride, padding, path)
    grads = lib.conv2d_backward(dy, cache)
    for name, array, received in zip(("dx", "dweight", "dbias"), (x, weight, bias), grads, strict=True):
        expected = helpers.central_difference(loss, array, 1e-3)  # the loss is linear in each element
        helpers.assert_close(received, expected, 1e-9, name=name)


# --- memory and types -----------------------------------------------------------------------------


@pytest.mark.parametrize("spikes", [True, False])
def test_auto_takes_the_spike_path_for_few_spikes_and_gives_its_bits(spikes):
    x, weight, bias, dy = drawn(8, (4, 8, 8, 32), (3, 3, 32, 64), 1, 1)
    if spikes:
        x = (x > 2.0).astype(float)
        assert 0 < x.sum() < 0.05 * x.size
    y, cache = agl.conv2d_forward(x, weight, bias, 1, 1)
    assert cache.spikes == spikes
    assert not agl.conv2d_forward(x, weight[1:2, 1:2].copy())[1].spikes  # 1x1: rows too short
    assert not agl.conv2d_forward(x, weight, None, 2, 1)[1].spikes  # stride 2: half as many outputs to a spike
    expected, chosen = agl.conv2d_forward(x, weight, bias, 1, 1, "spikes" if spikes else "dense")
    helpers.assert_same_bits(y, expected, "y")
    for received, value in zip(agl.conv2d_backward(dy, cache), agl.conv2d_backward(dy, chosen), strict=True):
        helpers.assert_same_bits(received, value)


def test_input_gradient_can_be_left_out():
    x, weight, bias, dy = drawn(9, (2, 5, 4, 2), (3, 3, 2, 2))
    _, cache = agl.conv2d_forward(x, weight, bias)
    full, partial = agl.conv2d_backward(dy, cache), agl.conv2d_backward(dy, cache, need_dx=False)
    assert partial[0] is None
    helpers.assert_same_bits(partial[1], full[1], "dweight")
    helpers.assert_same_bits(partial[2], full[2], "dbias")


def test_inputs_are_left_as_they_were(lib):
    arrays = drawn(10, (2, 5, 4, 2), (3, 3, 2, 2), spikes=True)
    kept = [a.copy() for a in arrays]
    for path in ("dense", "spikes"):
        lib.conv2d_backward(arrays[3], lib.conv2d_forward(*arrays[:3], path=path)[1])
    for before, after in zip(kept, arrays, strict=True):
        helpers.assert_same_bits(after, before)


def test_two_forwards_before_a_backward_do_not_disturb_each_other(lib):
    a, b = (drawn(seed, (2, 5, 4, 2), (3, 3, 2, 2)) for seed in (11, 12))
    alone = lib.conv2d_backward(a[3], lib.conv2d_forward(*a[:3])[1])
    cache_a, cache_b = lib.conv2d_forward(*a[:3])[1], lib.conv2d_forward(*b[:3])[1]
    lib.conv2d_backward(b[3], cache_b)
    for received, expected in zip(lib.conv2d_backward(a[3], cache_a), alone, strict=True):
        helpers.assert_same_bits(received, expected)


@each_dtype
def test_many_channels_and_blocks_on_the_spike_path_have_the_naive_bits(dtype):
    # several blocks of positions, several groups of channels, rows of weights not a multiple of four spikes
    rng = np.random.default_rng(14)
    x = ((rng.random((2, 16, 15, 70)) < 0.1) * rng.integers(1, 4, (2, 16, 15, 70))).astype(dtype)
    weight = (rng.integers(-8, 9, (3, 3, 70, 128)) / 8).astype(dtype)
    y, cache = agl.conv2d_forward(x, weight, None, 2, 1)
    assert cache.spikes
    dy = (rng.integers(-8, 9, y.shape) / 8).astype(dtype)
    _, dweight, _ = agl.conv2d_backward(dy, cache, need_dx=False)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected, d_expected = np.zeros_like(y), np.zeros_like(weight)
    for p in range(3):
        for q in range(3):
            seen = padded[:, p : p + 15 : 2, q : q + 15 : 2][:, : y.shape[1], : y.shape[2]]
            expected += seen @ weight[p, q]
            d_expected[p, q] = np.einsum("bijc,bijo->co", seen, dy)
    helpers.assert_same_bits(y, expected, "y")
    helpers.assert_same_bits(dweight, d_expected, "dweight")


# --- the same images at each timestep -------------------------------------------------------------


def frames(T, dtype, same=True):
    """Dyadic (x, weight, bias, dy) of T timesteps, 2 images of 6x5; without `same` one pixel of one image differs."""
    rng = np.random.default_rng(15)
    x = np.repeat(helpers.dyadic(rng, (1, 2, 6, 5, 3), -2, 2, 8), T, axis=0)
    if not same:
        x[1, 1, 5, 4, 2] += 1.0
    shapes = ((3, 3, 3, 4), (4,), (T, 2, 6, 5, 4))
    return tuple(a.astype(dtype) for a in (x, *(helpers.dyadic(rng, shape, -2, 2, 8) for shape in shapes)))


@each_storey_and_path
@each_dtype
@pytest.mark.parametrize("same", [True, False])
def test_equal_images_at_each_timestep_have_the_naive_bits(lib, same, dtype, path):
    x, weight, bias, dy = frames(3, dtype, same)
    y, cache = lib.conv2d_forward(x, weight, bias, 1, 1, path)
    helpers.assert_same_bits(cache.x, x, "the cache's x")
    expected = naive.conv2d_forward(x, weight, bias, 1, 1), *naive.conv2d_backward(dy, x, weight, 1, 1)
    assert (expected[0][0] == expected[0][1]).all() == same
    received = y, *lib.conv2d_backward(dy, cache)
    for name, got, value in zip("y dx dweight dbias".split(), received, expected, strict=True):
        helpers.assert_equal(got, value.astype(dtype), name)


@pytest.mark.parametrize("same", [True, False])
def test_equal_images_at_each_timestep_are_convolved_once(same, monkeypatch):
    seen = {}

    def run(kernel, n, x, *rest):
        seen[kernel] = len(x)
        parallel.run(kernel, n, x, *rest)

    monkeypatch.setattr(conv, "run", run)
    x, weight, bias, dy = frames(3, np.float64, same)
    _, cache = agl.conv2d_forward(x, weight, bias, 1, 1, "dense")
    agl.conv2d_backward(dy, cache)
    images = 2 if same else 6
    assert seen[conv.dense_forward_kernel] == seen[conv.dense_dweight_kernel] == images


def test_a_cache_whose_images_were_replaced_gives_their_gradient():
    x, weight, bias, dy = frames(3, np.float64)
    other = frames(3, np.float64, same=False)[0]
    _, cache = agl.conv2d_forward(x, weight, bias, 1, 1)
    _, received, _ = agl.conv2d_backward(dy, cache._replace(x=other))
    helpers.assert_equal(received, naive.conv2d_backward(dy, other, weight, 1, 1)[1], "dweight")
    assert (received != agl.conv2d_backward(dy, cache)[1]).any()


# --- pools ----------------------------------------------------------------------------------------

POOLS = {"2x2": "avg_pool", "global": "global_avg_pool"}


def pool_of(lib, pool):
    """(forward, backward)."""
    return getattr(lib, f"{POOLS[pool]}_forward"), getattr(lib, f"{POOLS[pool]}_backward")


TWINS = {
    "2x2": (naive.avg_pool_forward, naive.avg_pool_backward),
    "global": (naive.global_avg_pool_forward, naive.global_avg_pool_backward),
}
EXACT = {
    "2x2": (exact.avg_pool_forward, exact.avg_pool_backward),
    "global": (exact.global_avg_pool_forward, exact.global_avg_pool_backward),
}
each_pool = pytest.mark.parametrize("pool", POOLS)


@each_dtype
def test_pools_are_the_hand_arithmetic(lib, dtype):
    x = IMAGE.astype(dtype)
    y, cache = lib.avg_pool_forward(x)  # (1 + 2 + 4 + 5) / 4; the third row and column are left out
    assert y.tolist() == [[[[3.0]]]]
    dx = lib.avg_pool_backward(np.full((1, 1, 1, 1), 8, dtype), cache)
    assert dx[0, :, :, 0].tolist() == [[2, 2, 0], [2, 2, 0], [0, 0, 0]]
    y, cache = lib.global_avg_pool_forward(x)
    assert y.tolist() == [[5.0]]
    assert lib.global_avg_pool_backward(np.full((1, 1), 18, dtype), cache).ravel().tolist() == [2.0] * 9


@each_pool
@given(
    st.sampled_from([(1,), (1, 1), (2, 3)]),
    st.integers(2, 7),
    st.integers(2, 7),
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
)
def test_pool_is_the_naive_twin(lib, pool, lead, H, W, C, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*lead, H, W, C))
    y, cache = pool_of(lib, pool)[0](x)
    dy = rng.normal(size=y.shape)
    top = np.abs(x).max()
    helpers.assert_close(y, TWINS[pool][0](x), 1e-14, top, "y")
    helpers.assert_close(pool_of(lib, pool)[1](dy, cache), TWINS[pool][1](dy, x.shape), 1e-15, name="dx")


@each_pool
@each_dtype
@pytest.mark.parametrize("H, W", [(4, 4), (8, 2), (4, 2)])
def test_pool_has_the_bits_of_exact_rationals(lib, pool, H, W, dtype):
    rng, ledger = np.random.default_rng(13), exact.Ledger()
    x = helpers.dyadic(rng, (2, 3, H, W, 3), -2, 2, 8).astype(dtype)
    y, cache = pool_of(lib, pool)[0](x)
    dy = helpers.dyadic(rng, y.shape, -2, 2, 8).astype(dtype)
    expected = (
        EXACT[pool][0](exact.fractions(x), ledger),
        EXACT[pool][1](exact.fractions(dy), x.shape, ledger),
    )
    assert ledger.fits(dtype)
    helpers.assert_equal(y, exact.floats(expected[0], dtype), "y")
    helpers.assert_equal(pool_of(lib, pool)[1](dy, cache), exact.floats(expected[1], dtype), "dx")


@each_dtype
def test_pool_of_odd_sizes_has_the_bits_of_exact_rationals(lib, dtype):
    rng, ledger = np.random.default_rng(14), exact.Ledger()
    x = helpers.dyadic(rng, (2, 5, 7, 3), -2, 2, 8).astype(dtype)
    y, cache = lib.avg_pool_forward(x)
    assert y.shape == (2, 2, 3, 3)
    helpers.assert_equal(y, exact.floats(exact.avg_pool_forward(exact.fractions(x), ledger), dtype))
    dx = lib.avg_pool_backward(np.ones_like(y), cache)
    assert not dx[:, 4].any() and not dx[:, :, 6].any() and (dx[:, :4, :6] == 0.25).all()
    assert ledger.fits(dtype)


@each_pool
def test_pool_gradient_is_a_central_difference(lib, pool):
    rng = np.random.default_rng(15)
    x = rng.normal(size=(2, 5, 4, 2))
    y, cache = pool_of(lib, pool)[0](x)
    dy = rng.normal(size=y.shape)
    expected = helpers.central_difference(lambda: float((dy * pool_of(lib, pool)[0](x)[0]).sum()), x, 1e-3)
    helpers.assert_close(pool_of(lib, pool)[1](dy, cache), expected, 1e-9)


@each_pool
@each_dtype
def test_pool_keeps_dtype(pool, dtype):
    rng = np.random.default_rng(16)
    x = rng.normal(size=(2, 5, 4, 2)).astype(dtype)
    y, cache = pool_of(ENGINE, pool)[0](x)
    dy = rng.normal(size=y.shape).astype(dtype)
    dx = pool_of(ENGINE, pool)[1](dy, cache)
    assert y.dtype == dtype and dx.dtype == dtype


# --- bad input ------------------------------------------------------------------------------------

X, K = np.ones((2, 5, 5, 2)), np.ones((3, 3, 2, 4))
BAD_FORWARD = {
    "list": (X.tolist(), K, {}),
    "integers": (X.astype(int), K, {}),
    "float16": (X.astype(np.float16), K, {}),
    "rank": (X[0, 0], K, {}),
    "empty": (X[:0], K, {}),
    "NaN": (X + np.nan, K, {}),
    "infinity": (X + np.inf, K, {}),
    "weight rank": (X, K[0], {}),
    "weight channels": (X, np.ones((3, 3, 3, 4)), {}),
    "weight dtype": (X, K.astype(np.float32), {}),
    "weight NaN": (X, K + np.nan, {}),
    "weight without outputs": (X, K[..., :0], {}),
    "even kernel": (X, np.ones((2, 3, 2, 4)), {"padding": 1}),
    "even kernel columns": (X, np.ones((3, 4, 2, 4)), {"padding": 2}),
    "kernel larger than image": (X, np.ones((7, 3, 2, 4)), {}),
    "bias channels": (X, K, {"bias": np.ones(2)}),
    "bias rank": (X, K, {"bias": np.ones((1, 4))}),
    "bias dtype": (X, K, {"bias": np.ones(4, np.float32)}),
    "bias NaN": (X, K, {"bias": np.full(4, np.nan)}),
    "stride 0": (X, K, {"stride": 0}),
    "stride float": (X, K, {"stride": 1.0}),
    "stride pair": (X, K, {"stride": (1, 1)}),
    "padding negative": (X, K, {"padding": -1}),
    "padding text": (X, K, {"padding": "same"}),
    "path": (X, K, {"path": "fft"}),
}


@pytest.mark.parametrize("bad", BAD_FORWARD.values(), ids=BAD_FORWARD)
def test_conv_refuses(bad):
    helpers.assert_refused(lambda: agl.conv2d_forward(bad[0], bad[1], **bad[2]))


def spoiled(dy):
    """Wrong gradients of an output: another shape, rank, dtype, or not finite."""
    return [dy[:1], dy[..., :1], dy[0], dy.astype(np.float32), dy.astype(int), dy + np.nan, dy.tolist()]


SPOILED = ["length", "channels", "rank", "float32", "integers", "NaN", "list"]


@pytest.mark.parametrize("which", range(len(SPOILED)), ids=SPOILED)
def test_backward_refuses(which):
    y, cache = agl.conv2d_forward(X, K)
    helpers.assert_refused(lambda: agl.conv2d_backward(spoiled(y)[which], cache))


@each_pool
@pytest.mark.parametrize("which", range(len(SPOILED)), ids=SPOILED)
def test_pool_backward_refuses(pool, which):
    y, cache = pool_of(ENGINE, pool)[0](X)
    helpers.assert_refused(lambda: pool_of(ENGINE, pool)[1](spoiled(y)[which], cache))


BAD_POOLED = {
    "list": X.tolist(),
    "integers": X.astype(int),
    "float16": X.astype(np.float16),
    "rank": X[0, 0],
    "empty": X[:0],
    "NaN": X + np.nan,
    "infinity": X + np.inf,
}


@each_pool
@pytest.mark.parametrize("x", BAD_POOLED.values(), ids=BAD_POOLED)
def test_pool_refuses(pool, x):
    helpers.assert_refused(lambda: pool_of(ENGINE, pool)[0](x))


@pytest.mark.parametrize("shape", [(1, 1, 4, 2), (1, 4, 1, 2)])
def test_pool_refuses_images_smaller_than_its_square(shape):
    helpers.assert_refused(lambda: agl.avg_pool_forward(np.ones(shape)))


@pytest.mark.parametrize("backward", [agl.conv2d_backward, agl.avg_pool_backward, agl.global_avg_pool_backward])
def test_a_backward_wants_its_own_cache(backward):
    with pytest.raises(TypeError, match="cache: expected the .*Cache that .*_forward returned, received NoneType"):
        backward(np.ones((1, 2, 2, 1)), None)
