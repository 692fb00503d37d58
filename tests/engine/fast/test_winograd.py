"""Winograd's tiles: hand arithmetic, exact rationals' twin (the direct sums on dyadic data), rounding, who takes them."""

import helpers
import numpy as np
import pytest
from twins import naive

import agl_ref as agl
from agl_ref.engine import parallel
from agl_ref.engine.fast import winograd
from agl_ref.engine.jit import rows_at_once
from agl_ref.engine.parallel import one_blas_thread

each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)

# Even and odd sides (tiles that reach over the edge), every padding, one pixel of output, images wider than high.
SHAPES = [
    ((2, 4, 6, 3), 4, 1),
    ((3, 5, 7, 2), 3, 1),
    ((2, 6, 5, 3), 2, 0),
    ((1, 3, 3, 1), 1, 0),
    ((2, 2, 3, 2), 5, 2),
    ((1, 1, 1, 2), 2, 1),
]


def integers(rng, shape, dtype):
    """Values -8..8 without 0."""
    return (rng.integers(1, 9, shape) * rng.choice((-1, 1), shape)).astype(dtype)


def case(seed, x_shape, C_out, padding, dtype, draw=integers):
    rng = np.random.default_rng(seed)
    w_shape = (3, 3, x_shape[-1], C_out)
    y_shape = naive.conv_output_shape(x_shape, w_shape, 1, padding)
    return tuple(draw(rng, shape, dtype) for shape in (x_shape, w_shape, y_shape))


@each_dtype
def test_one_tile_is_the_hand_arithmetic(dtype):
    # 1 2 3 4 / 5 .. 16, weight 1 in the middle and 2 to its right: y = x[1 + i, 1 + j] + 2 x[1 + i, 2 + j]
    x = np.arange(1.0, 17.0, dtype=dtype).reshape(1, 4, 4, 1)
    weight = np.zeros((3, 3, 1, 1), dtype)
    weight[1, 1], weight[1, 2] = 1, 2
    y, cache = agl.conv2d_forward(x, weight, path="winograd")
    assert y[0, :, :, 0].tolist() == [[6 + 14, 7 + 16], [10 + 22, 11 + 24]]
    dy = np.array([[1, 10], [100, 1000]], dtype).reshape(1, 2, 2, 1)
    dx, dweight, _ = agl.conv2d_backward(dy, cache)
    assert dx[0, :, :, 0].tolist() == [[0, 0, 0, 0], [0, 1, 12, 20], [0, 100, 1200, 2000], [0, 0, 0, 0]]
    # the tap in the corner sees 1 2 / 5 6, the middle one 6 7 / 10 11
    assert dweight[0, 0, 0, 0] == 1 + 20 + 500 + 6000 and dweight[1, 1, 0, 0] == 6 + 70 + 1000 + 11000


@each_dtype
@pytest.mark.parametrize("x_shape, C_out, padding", SHAPES)
def test_integers_give_the_bits_of_the_direct_sums(x_shape, C_out, padding, dtype):
    x, weight, dy = case(1, x_shape, C_out, padding, dtype)
    y, cache = agl.conv2d_forward(x, weight, None, 1, padding, "winograd")
    assert cache.tiles and not cache.spikes and (y != 0).any()
    helpers.assert_equal(y, naive.conv2d_forward(x, weight, None, 1, padding).astype(dtype), "y")
    dx, dweight, _ = agl.conv2d_backward(dy, cache)
    dx_twin, dweight_twin, _ = naive.conv2d_backward(dy, x, weight, 1, padding)
    helpers.assert_equal(dx, dx_twin.astype(dtype), "dx")
    helpers.assert_equal(dweight, dweight_twin.astype(dtype), "dweight")


@each_dtype
def test_the_weight_is_turned_in_place_or_in_a_copy(dtype, monkeypatch):
    x, weight, dy = case(4, (2, 7, 6, 3), 5, 1, dtype)
    expected = naive.conv2d_backward(dy, x, weight, 1, 1)[0].astype(dtype)
    assert (expected != naive.conv2d_backward(dy, x, weight[::-1, ::-1], 1, 1)[0]).any()
    for pairs in (3 * 5 - 1, 3 * 5):
        monkeypatch.setattr(winograd, "TRANSPOSE", pairs)
        with one_blas_thread():
            helpers.assert_equal(winograd.dx(dy, weight, 1), expected, f"dx with copies up to {pairs}")


@each_dtype
@pytest.mark.parametrize("rows", [1, 5, 11])
def test_products_in_pieces_give_the_bits_of_the_direct_sums(rows, dtype, monkeypatch):
    x, weight, dy = case(5, (2, 8, 6, 3), 4, 1, dtype)
    asked = []
    monkeypatch.setattr(winograd, "GROUP", 16)  # tiles: five rows of 3
    monkeypatch.setattr(winograd, "rows_at_once", lambda matrix, most: asked.append((matrix, most)) or min(rows, most))
    with one_blas_thread():
        y, dx = winograd.forward(x, winograd.transform(weight), 1), winograd.dx(dy, weight, 1)
        dweight = winograd.dweight(x, dy, 1)
    assert asked == [(12, 15), (12, 9)] * 3
    helpers.assert_equal(y, naive.conv2d_forward(x, weight, None, 1, 1).astype(dtype), "y")
    dx_twin, dweight_twin, _ = naive.conv2d_backward(dy, x, weight, 1, 1)
    helpers.assert_equal(dx, dx_twin.astype(dtype), "dx")
    helpers.assert_equal(dweight, dweight_twin.astype(dtype), "dweight")


@pytest.mark.parametrize("matrix, most, rows", [(2**14, 500, 61), (2**14, 40, 40), (31250, 256, 32), (31251, 256, 256)])
def test_rows_at_once_keep_a_product_small_where_that_leaves_32(matrix, most, rows):
    assert rows_at_once(matrix, most) == rows


def test_several_groups_of_tiles_give_the_bits_of_the_direct_sums(monkeypatch):
    x, weight, dy = case(2, (3, 8, 6, 3), 4, 1, np.float64)
    monkeypatch.setattr(winograd, "GROUP", 8)  # tiles: two rows of 3
    tiles, groups = winograd.tile_groups(dy.shape, 4)
    assert tiles == (4, 3) and [n for _, n in groups] == [6] * 6
    with one_blas_thread():
        y, dx = winograd.forward(x, winograd.transform(weight), 1), winograd.dx(dy, weight, 1)
        dweight = winograd.dweight(x, dy, 1)
    helpers.assert_equal(y, naive.conv2d_forward(x, weight, None, 1, 1), "y")
    dx_twin, dweight_twin, _ = naive.conv2d_backward(dy, x, weight, 1, 1)
    helpers.assert_equal(dx, dx_twin, "dx")
    helpers.assert_equal(dweight, dweight_twin, "dweight")


def spread(a):
    """Each pixel's sum over itself and the two pixels to every side: more than any tile that it lies in."""
    padded = np.pad(a, ((0, 0), (3, 3), (3, 3), (0, 0)))
    H, W = a.shape[1:3]
    return sum(padded[:, i : i + H, j : j + W] for i in range(7) for j in range(7))


@each_dtype
def test_rounding_is_relative_to_the_tiles(dtype):
    x, weight, dy = case(3, (2, 9, 8, 5), 6, 1, dtype, lambda rng, shape, d: rng.normal(size=shape).astype(d))
    y, cache = agl.conv2d_forward(x, weight, None, 1, 1, "winograd")
    dx, dweight, _ = agl.conv2d_backward(dy, cache)
    size_x, size_w, size_dy = (np.abs(a).astype(float) for a in (x, weight, dy))
    # 16 places, each a sum over channels (and over tiles), transformed by fewer than 16 additions
    bound = helpers.rounding(dtype, 16 + 6) + helpers.rounding(np.float64, 9 * 6 + 1)
    around = np.einsum("bhwc,pqco->bhwo", spread(size_x), size_w)
    helpers.assert_close(y, naive.conv2d_forward(x, weight, None, 1, 1), bound, around, "y")
    dx_twin, dweight_twin, _ = naive.conv2d_backward(dy, x, weight, 1, 1)
    helpers.assert_close(dx, dx_twin, bound, np.einsum("bhwo,pqco->bhwc", spread(size_dy), size_w), "dx")
    bound = helpers.rounding(dtype, 16 + 40) + helpers.rounding(np.float64, dy.size)
    around = np.broadcast_to(np.einsum("bhwc,bhwo->co", spread(size_x), size_dy), weight.shape)
    helpers.assert_close(dweight, dweight_twin, bound, around, "dweight")


def test_auto_takes_tiles_for_dense_inputs_with_many_channels_and_gives_their_bits():
    x, weight, dy = case(4, (8, 8, 8, 64), 64, 1, np.float64)
    assert winograd.pays(x.shape, weight.shape, 1, 1)
    y, cache = agl.conv2d_forward(x, weight, None, 1, 1)
    expected, chosen = agl.conv2d_forward(x, weight, None, 1, 1, "winograd")
    assert cache.tiles and not cache.spikes
    helpers.assert_same_bits(y, expected, "y")
    for received, value in zip(agl.conv2d_backward(dy, cache)[:2], agl.conv2d_backward(dy, chosen)[:2], strict=True):
        helpers.assert_same_bits(received, value)
    direct, other = agl.conv2d_forward(x, weight, None, 1, 1, "dense")
    assert not other.tiles
    helpers.assert_equal(y, direct, "integers")
    silent = x * (np.random.default_rng(5).random(x.shape) < 0.05)
    y, cache = agl.conv2d_forward(silent, weight, None, 1, 1)
    assert cache.spikes and cache.tiles  # dx is a dense sum all the same
    direct, other = agl.conv2d_forward(silent, weight, None, 1, 1, "dense")
    helpers.assert_equal(y, direct, "few spikes")
    for received, value in zip(agl.conv2d_backward(dy, cache)[:2], agl.conv2d_backward(dy, other)[:2], strict=True):
        helpers.assert_equal(received, value)


@pytest.mark.parametrize(
    "x_shape, w_shape, stride, padding",
    [
        ((8, 8, 8, 64), (1, 1, 64, 64), 1, 0),
        ((8, 8, 8, 64), (3, 3, 64, 64), 2, 1),
        ((8, 8, 8, 64), (3, 3, 64, 64), 1, 3),
        ((8, 8, 8, 32), (3, 3, 32, 64), 1, 1),
        ((8, 8, 8, 64), (3, 3, 64, 32), 1, 1),
        ((32, 3, 3, 64), (3, 3, 64, 64), 1, 1),
        ((1, 8, 8, 64), (3, 3, 64, 64), 1, 1),
    ],
    ids=["1x1", "stride 2", "padding 3", "few in", "few out", "wasted tiles", "few tiles"],
)
def test_tiles_are_left_alone_where_they_do_not_pay(x_shape, w_shape, stride, padding):
    assert not winograd.pays(x_shape, w_shape, stride, padding)


@pytest.mark.parametrize("kernel, stride, padding", [((1, 1), 1, 0), ((3, 5), 1, 1), ((3, 3), 2, 1), ((3, 3), 1, 3)])
def test_winograd_refuses_what_it_cannot_compute(kernel, stride, padding):
    x, weight = np.ones((1, 6, 6, 2)), np.ones((*kernel, 2, 2))
    helpers.assert_refused(lambda: agl.conv2d_forward(x, weight, None, stride, padding, "winograd"))


@pytest.mark.parametrize("group, channels", [(8, 4), (3, 4)])
def test_whole_groups_and_parts_of_groups_in_several_threads_have_the_bits_of_one(group, channels, monkeypatch):
    """With fewer channels than GROUP a thread takes whole groups, otherwise the threads share each group."""
    x, weight, dy = case(2, (5, 8, 6, 3), channels, 1, np.float64)
    monkeypatch.setattr(winograd, "GROUP", group)
    shared = set()

    def run(function, chunks, *args, grain=1):
        if min(parallel.threads(), chunks // grain) > 1:
            shared.add(function.__name__)
        parallel.run(function, chunks, *args, grain=grain)

    monkeypatch.setattr(winograd, "run", run)
    received = {}
    for threads in (1, 2):
        monkeypatch.setattr(parallel.numba.config, "NUMBA_NUM_THREADS", threads)
        monkeypatch.setattr(parallel.numba.config, "DISABLE_JIT", 0)
        with one_blas_thread():
            received[threads] = winograd.forward(x, winograd.transform(weight), 1), winograd.dweight(x, dy, 1)
    assert ("convolve" in shared) == (channels <= group) != ("products_kernel" in shared)
    for one, two in zip(received[1], received[2], strict=True):
        helpers.assert_same_bits(two, one)
