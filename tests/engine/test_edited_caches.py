"""A cache may be edited; every backward refuses one whose arrays do not fit together, before a kernel reads them."""

import numpy as np
import pytest

import agl_ref as agl

RNG = np.random.default_rng(0)


def lif():
    s, cache = agl.lif_forward(RNG.normal(size=(2, 8)), 0.5, 0.5, agl.Conventions(input_scale="1 - tau"))
    return cache, lambda edited: agl.lif_backward(np.ones_like(s), edited, np.ones(2))


def plif():
    s, cache = agl.plif_forward(RNG.normal(size=(2, 8)), 0.25)
    return cache, lambda edited: agl.plif_backward(np.ones_like(s), edited, np.ones(2))


def tdbn():
    y, cache = agl.tdbn_forward(RNG.normal(size=(4, 3)), np.ones(3), np.zeros(3))
    return cache, lambda edited: agl.tdbn_backward(np.ones_like(y), edited)


def conv():
    y, cache = agl.conv2d_forward(RNG.normal(size=(1, 5, 5, 2)), RNG.normal(size=(3, 3, 2, 3)), padding=1)
    return cache, lambda edited: agl.conv2d_backward(np.ones_like(y), edited)


def linear():
    y, cache = agl.linear_forward(RNG.normal(size=(2, 3)), RNG.normal(size=(3, 4)))
    return cache, lambda edited: agl.linear_backward(np.ones_like(y), edited)


ARRAYS = [
    (lif, "u"), (lif, "s"), (lif, "x"), (plif, "u"), (plif, "s"), (tdbn, "x"), (tdbn, "gamma"), (tdbn, "mean"),
    (tdbn, "inv_std"), (conv, "x"), (conv, "weight"), (linear, "x"), (linear, "weight"),
]  # fmt: skip


def poisoned(array):
    edited = array.copy()
    edited.flat[-1] = np.nan
    return edited


@pytest.mark.parametrize("make, field", ARRAYS)
def test_an_array_that_does_not_fit_is_refused(make, field):
    cache, backward = make()
    array = getattr(cache, field)
    backward(cache)
    backward(cache._replace(**{field: array.copy()}))
    for wrong, error in (
        (array[..., :-1], ValueError),
        (array[:1, :1] if array.ndim > 1 else array[:1], ValueError),
        (array.astype(np.float32), TypeError),
        (array.tolist(), TypeError),
        (poisoned(array), ValueError),
    ):
        with pytest.raises(error, match=r"cache\.|dy: |ds: |width: "):
            backward(cache._replace(**{field: wrong}))
