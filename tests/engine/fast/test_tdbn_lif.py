"""tdBN and neuron in one pass: the bits of the two pairs that tdbn.py and neuron.py hold, on every convention it reads."""

import itertools

import helpers
import numpy as np
import pytest

import agl_ref as agl
from agl_ref.engine import tdbn
from agl_ref.engine.fast import tdbn_lif
from agl_ref.engine.neuron import CHUNK, ROW
from agl_ref.engine.ops import lif_backward_full

# channels, and neurons at a timestep: one chunk and several, few channels that are repeated, more than ROW, no divisors
MANY = ROW + 5
SIZES = [(1, 23), (3, 3 * 41), (16, CHUNK + 16), (48, 48 * 172), (MANY, 3 * MANY), (129, 129 * 80)]


def case(C, n, dtype, T=3, training=True):
    """A layer (T, n / C, C) whose neurons fire, reset and lie on both sides of the window's edge."""
    rng = np.random.default_rng(C)
    x = rng.normal(0.3, 2.0, (T, n // C, C)).astype(dtype)
    gamma, beta = rng.uniform(0.7, 1.4, C).astype(dtype), rng.uniform(-0.2, 0.4, C).astype(dtype)
    running = None if training else (rng.uniform(-0.2, 0.4, C).astype(dtype), rng.uniform(1, 3, C).astype(dtype))
    y, cache = agl.tdbn_forward(x, gamma, beta, running=running)
    return y, cache, rng.normal(size=x.shape).astype(dtype), rng.uniform(0.6, 1.2, T).astype(dtype)


def assert_is_the_two_pairs(y, cache, ds, width, conventions, surrogate):
    s, pair = agl.lif_forward(y, 0.3, 0.5, conventions, surrogate)
    expected = lif_backward_full(ds, pair, width)
    for store_u in (True, False):
        received, own = tdbn_lif.forward(cache, 0.3, 0.5, conventions, surrogate, store_u)
        helpers.assert_same_bits(received, s, f"s, store_u={store_u}")
        grads = tdbn_lif.backward(ds, cache, own, width)
        for name, value in expected._asdict().items():
            helpers.assert_same_bits(getattr(grads, name), value, f"{name}, store_u={store_u}")
        if store_u:
            helpers.assert_same_bits(own.u, pair.u, "u")
            helpers.assert_same_bits(own.s, pair.s, "cache's s")
        else:
            assert own.u is None and own.s is None
    return pair


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("C, n", SIZES)
@pytest.mark.parametrize("training", [True, False])
def test_sizes(dtype, C, n, training):
    y, cache, ds, width = case(C, n, dtype, training=training)
    pair = assert_is_the_two_pairs(y, cache, ds, width, agl.MPD_AGL, "rectangular")
    helpers.assert_case_is_telling(pair.u, width, 0.5)


RESETS = agl.Conventions.choices()["reset"]
ROWS = [
    agl.Conventions(reset=reset, spike_test=test, reset_gradient=gradient, width_gradient=flows)
    for reset, test, gradient, flows in itertools.product(
        RESETS, (">=", ">"), ("attached", "detached"), ("none", "flows")
    )
]


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize(
    "conventions", ROWS, ids=lambda c: f"{c.reset} {c.spike_test} {c.reset_gradient} {c.width_gradient} {c.input_scale}"
)
def test_conventions(dtype, conventions):
    y, cache, ds, width = case(5, 5 * 41, dtype)
    surrogate = "arctan" if conventions.width_gradient == "flows" else "rectangular"
    assert_is_the_two_pairs(y, cache, ds, width, conventions, surrogate)


@pytest.mark.parametrize("surrogate", agl.surrogate.NAMES)
@pytest.mark.parametrize("T", [1, 2, 6])
def test_surrogates_and_timesteps(surrogate, T):
    y, cache, ds, width = case(4, 4 * 30, np.float64, T)
    assert_is_the_two_pairs(y, cache, ds, width, agl.Conventions(window_edge="<=", surrogate_scale="1"), surrogate)


def test_a_potential_at_the_threshold_fires_only_under_at_least():
    """x_hat = 1 and y = gamma V_th: dyadic numbers, so u is V_th exactly."""
    rows = np.array([[[-1.0, 1.0]], [[1.0, -1.0]]])
    cache = tdbn.measure(rows, np.ones(2), np.zeros(2), 0.5, 1.0, 0.0, agl.MPD_AGL, None)
    for test, fires in ((">=", 2), (">", 0)):
        s, own = tdbn_lif.forward(cache, 0.0, 0.5, agl.Conventions(spike_test=test), "rectangular")
        assert (own.u == 0.5).sum() == 2 and s.sum() == fires


@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_a_fixed_decay_changes_nothing_but_ddecay(dtype):
    _, cache, ds, width = case(5, 5 * 41, dtype)
    flows = agl.Conventions(width_gradient="flows")
    _, own = tdbn_lif.forward(cache, 0.3, 0.5, flows, "arctan", store_u=False)
    learned, fixed = (tdbn_lif.backward(ds, cache, own, width, learns) for learns in (True, False))
    helpers.assert_same_bits(fixed.dx, learned.dx, "dx")
    helpers.assert_same_bits(fixed.dwidth, learned.dwidth, "dwidth")
    assert learned.ddecay != 0 and fixed.ddecay == 0
