"""How arrays lie in memory changes no bit: transposed, strided and reversed views of every argument and cached array.

Sizes are large enough for BLAS to choose among its ways to multiply, which it does by the layout too.
"""

import numpy as np
import pytest
from helpers import DTYPES, assert_same_bits

import agl_ref as agl
from agl_ref.engine import loss, ops

VIEWS = {
    "transposed": np.asfortranarray,
    "strided": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "reversed": lambda a: np.ascontiguousarray(a[..., ::-1])[..., ::-1],
}
LABELS = np.arange(64) % 10
SHIFTED = agl.Conventions(input_scale="1 - tau", norm_shift="beta V_th")


def convolution(path, channels=(16, 24), stride=1):
    return (
        lambda x, w, b: agl.conv2d_forward(x, w, b, stride, 1, path),
        lambda cache, dy: agl.conv2d_backward(dy, cache),
        [(2, 3, 9, 9, channels[0]), (3, 3, *channels), channels[1:]],
    )


def linear_backward(cache, dy):
    return agl.linear_backward(dy, cache)


# name: forward of its arrays; backward, a tuple, of the cache and an array like y; shapes of the arrays.
PAIRS = {
    "lif": (
        lambda x: agl.lif_forward(x, 0.25, 0.5, SHIFTED),
        lambda cache, dy: agl.lif_backward(dy, cache, np.ones(4, dy.dtype)),
        [(4, 6, 50)],
    ),
    "lif, width": (
        agl.lif_forward,
        lambda cache, dy: agl.lif_backward(np.ones_like(cache.s), cache, np.abs(dy[:, 0, 0])),
        [(4, 6, 50)],
    ),
    "tdbn": (
        lambda x, gamma, beta: agl.tdbn_forward(x, gamma, beta, conventions=SHIFTED),
        lambda cache, dy: agl.tdbn_backward(dy, cache),
        [(7, 40, 6), (6,), (6,)],
    ),
    "linear": (agl.linear_forward, linear_backward, [(4, 64, 300), (300, 70), (70,)]),
    "linear, one row": (agl.linear_forward, linear_backward, [(1, 300), (300, 70), (70,)]),
    "dense": convolution("dense"),
    "dense, stride 2": convolution("dense", stride=2),
    "winograd": convolution("winograd", (48, 64)),
    "spikes": convolution("spikes"),
    "pool": (agl.avg_pool_forward, lambda cache, dy: (agl.avg_pool_backward(dy, cache),), [(2, 3, 9, 8, 5)]),
    "global pool": (
        ops.global_avg_pool_forward,
        lambda cache, dy: (ops.global_avg_pool_backward(dy, cache),),
        [(2, 3, 9, 8, 5)],
    ),
    "cross entropy": (
        lambda z: loss.cross_entropy(z, LABELS, agl.MPD_AGL),
        lambda cache, dy: (loss.cross_entropy_gradient(cache),),
        [(9, 64, 10)],
    ),
    "tet": (lambda z: loss.tet(z, LABELS, agl.Loss("tet")), lambda cache, dy: tuple(cache), [(9, 64, 10)]),
}


def results(pair, arrays, view=lambda a: a):
    forward, backward, _ = pair
    y, cache = forward(*map(view, arrays))
    edited = cache._replace(**{k: view(v) for k, v in cache._asdict().items() if isinstance(v, np.ndarray) and v.ndim})
    dy = np.sin(np.arange(np.size(y), dtype=arrays[0].dtype)).reshape(np.shape(y) or 1)
    return [y, *backward(cache, view(dy)), *backward(edited, view(dy))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("name", PAIRS)
def test_memory_layout_changes_no_bit(name, view, dtype):
    rng = np.random.default_rng(5)
    arrays = [rng.normal(size=shape).astype(dtype) for shape in PAIRS[name][2]]
    expected = results(PAIRS[name], arrays)
    assert any(np.any(a) for a in expected)
    for i, (received, value) in enumerate(zip(results(PAIRS[name], arrays, VIEWS[view]), expected, strict=True)):
        assert_same_bits(np.ascontiguousarray(received), np.ascontiguousarray(value), f"result {i}")
