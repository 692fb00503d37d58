"""Layouts: where each value goes, there and back, refusals."""

import numpy as np
import pytest

from agl_ref import interop

X = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.float32).reshape(2, 3, 4, 5, 6)  # T, N, H, W, C


def test_each_value_goes_to_its_place():
    official, common = interop.to_layout(X, "NTC.."), interop.to_layout(X, "TNC..")
    assert official.shape == (3, 2, 6, 4, 5) and common.shape == (2, 3, 6, 4, 5)
    assert official[2, 1, 5, 3, 0] == X[1, 2, 3, 0, 5] == common[1, 2, 5, 3, 0]


@pytest.mark.parametrize("axis_order", interop.LAYOUTS)
@pytest.mark.parametrize("x", [X, X[:, :, 0, 0]])
def test_there_and_back(x, axis_order):
    back = interop.from_layout(interop.to_layout(x, axis_order), axis_order)
    np.testing.assert_array_equal(back, x)
    assert back.dtype == x.dtype and back.flags.c_contiguous


def test_conv_weights_there_and_back():
    w = X[0]  # (kh, kw, C_in, C_out) = (3, 4, 5, 6)
    torch = interop.conv_weight_to_torch(w)
    assert torch.shape == (6, 5, 3, 4) and torch[5, 4, 2, 1] == w[2, 1, 4, 5]
    np.testing.assert_array_equal(interop.conv_weight_from_torch(torch), w)


def test_bad_layouts_are_refused():
    with pytest.raises(ValueError, match="axis_order: expected one of"):
        interop.to_layout(X, "NCHW")
    with pytest.raises(ValueError, match="at least 3 axes"):
        interop.from_layout(X[0, 0, 0], "TN..C")
    with pytest.raises(TypeError, match="expected a NumPy array"):
        interop.from_layout([1], "TN..C")
