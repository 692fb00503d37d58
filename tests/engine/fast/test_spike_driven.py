"""Spike-driven convolution: the order of taps by hand, and the naive twin's bits on integers at every border."""

import helpers
import numba
import numpy as np
import pytest
from twins import naive

from agl_ref.engine.fast import spike_driven


def test_taps_are_ordered_by_remainder_then_falling():
    for (kw, stride), (order, starts) in {
        (3, 1): ([2, 1, 0], [0, 3]),
        (3, 2): ([2, 0, 1], [0, 2, 3]),
        (5, 3): ([3, 0, 4, 1, 2], [0, 2, 4, 5]),
        (1, 2): ([0], [0, 1, 1]),
    }.items():
        received = spike_driven.taps(kw, stride)
        assert [a.tolist() for a in received] == [order, starts]


def test_first_output_is_the_hand_arithmetic():
    # kw 3, stride 1, padding 1: column 0 reaches outputs -1, 0, 1, column 4 reaches 3, 4, 5
    starts = spike_driven.taps(3, 1)[1]
    assert spike_driven.first_output(0, starts, (3, 3, 1, 1, 5, 5)) == (-1, 0, 3)
    assert spike_driven.first_output(4, starts, (3, 3, 1, 1, 5, 5)) == (3, 0, 3)
    # stride 2: column 0 (w + padding = 1) reaches output 0 by tap 1, column 1 outputs 0 and 1 by taps 2 and 0
    starts = spike_driven.taps(3, 2)[1]
    assert spike_driven.first_output(0, starts, (3, 3, 2, 1, 3, 3)) == (0, 2, 3)
    assert spike_driven.first_output(1, starts, (3, 3, 2, 1, 3, 3)) == (0, 0, 2)


CASES = {
    "3x3": ((3, 3), 1, 1),
    "stride 2": ((3, 3), 2, 1),
    "no padding": ((3, 3), 1, 0),
    "wide": ((1, 5), 1, 2),
    "stride over kernel": ((1, 1), 3, 0),
    "stride 2, 5x3": ((5, 3), 2, 2),
    "padding of the kernel": ((3, 3), 1, 3),
    "padding over the kernel": ((1, 1), 2, 2),
    "padding 4, stride 3": ((3, 3), 3, 4),
}


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("kernel, stride, padding", CASES.values(), ids=CASES)
def test_integers_give_the_bits_of_the_naive_twin(kernel, stride, padding, dtype, monkeypatch):
    if numba.config.DISABLE_JIT:  # compiled with 16, a kernel would stay in Numba's cache, with other bits
        monkeypatch.setattr(spike_driven, "POSITIONS", 16)  # several blocks
    rng = np.random.default_rng(1)
    x = (rng.integers(1, 4, (2, 9, 7, 11)) * (rng.random((2, 9, 7, 11)) < 0.5)).astype(dtype)
    weight = (rng.integers(1, 9, (*kernel, 11, 3)) * rng.choice((-1, 1), (*kernel, 11, 3))).astype(dtype)
    y_shape = naive.conv_output_shape(x.shape, weight.shape, stride, padding)
    geometry = (*kernel, stride, padding, *y_shape[1:3])
    # rows of four and rests; at every border something is not 0
    assert (
        (np.count_nonzero(x, axis=-1) > 4).any() and np.count_nonzero(x[:, [0, -1]]) and np.count_nonzero(x[:, :, -1])
    )
    y = spike_driven.forward(x, weight, geometry)
    helpers.assert_equal(y, naive.conv2d_forward(x, weight, None, stride, padding).astype(dtype), "y")
    dy = rng.integers(-8, 9, y_shape).astype(dtype)
    received = spike_driven.dweight(x, dy, geometry)
    expected = naive.conv2d_backward(dy, x, weight, stride, padding)[1]
    assert (expected != 0).any()
    helpers.assert_equal(received, expected.astype(dtype), "dweight")
