"""The surrogate family: each derivative by hand, by the naive twin, exactly, as its primitive's slope."""

import math

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import exact, naive

import agl_ref as agl
from agl_ref.engine import ops

each_name = pytest.mark.parametrize("name", naive.SURROGATES)
each_kind = pytest.mark.parametrize("name", [*naive.SURROGATES, *naive.UNBOUNDED])
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)
SCALES = agl.Conventions.choices()["surrogate_scale"]
each_scale = pytest.mark.parametrize("scale", SCALES)

# kappa = 2: z, then h(z) and S(z) with pencil and paper
HAND = {
    "rectangular": [(0, 0.5, 0.5), (0.5, 0.5, 0.75), (-0.5, 0.5, 0.25), (1, 0, 1), (-1, 0, 0), (3, 0, 1)],
    "triangular": [(0, 0.5, 0.5), (1, 0.25, 0.875), (-1, 0.25, 0.125), (2, 0, 1), (-2, 0, 0), (3, 0, 1)],
    # slope a = 2: S = 1 / (1 + exp(-2 z)); at z = log(3) / 2 it is 3/4, and h = 2 3/4 1/4
    "sigmoid": [(0, 0.5, 0.5), (math.log(3) / 2, 0.375, 0.75), (-math.log(3) / 2, 0.375, 0.25)],
    # slope a = pi / 2: at z = 2 / pi, a z = 1: h = 1/2 / (1 + 1), S = 1/2 + (pi / 4) / pi
    "arctan": [(0, 0.5, 0.5), (2 / math.pi, 0.25, 0.75), (-2 / math.pi, 0.25, 0.25)],
    # h = exp(-pi z^2 / 4) / 2: at z = sqrt(4 log(2) / pi) it is 1/4; S = (1 + erf(sqrt(log 2))) / 2
    "gaussian": [
        (0, 0.5, 0.5),
        (math.sqrt(4 * math.log(2) / math.pi), 0.25, 0.880484054275244),
        (-math.sqrt(4 * math.log(2) / math.pi), 0.25, 0.119515945724756),
    ],
    # h = 1/2 / (1 + |z|)^2, S = 1/2 + (z / 2) / (1 + |z|)
    "fast_sigmoid": [(0, 0.5, 0.5), (1, 0.125, 0.75), (-1, 0.125, 0.25), (3, 0.03125, 0.875), (-3, 0.03125, 0.125)],
    "straight_through": [(0, 0.5, 0.5), (1, 0.5, 1), (-3, 0.5, -1), (9, 0.5, 5)],
    # 1/100 outside: S = 1 + (z - 1) / 100 above
    "leaky_relu": [(0, 0.5, 0.5), (0.5, 0.5, 0.75), (1, 0.01, 1), (-1, 0.01, 0), (3, 0.01, 1.02), (-4, 0.01, -0.03)],
}


@each_kind
def test_derivative_and_primitive_are_the_hand_arithmetic(lib, name):
    z, h, S = np.array(HAND[name], float).T
    helpers.assert_close(lib.derivative(z, 2.0, name), h, 1e-15, name="h")
    helpers.assert_close(lib.primitive(z, 2.0, name), S, 1e-15, name="S")


@pytest.mark.parametrize("edge, at_the_edge", [("<", 0.0), ("<=", 4.0)])
@each_dtype
def test_rectangular_exactly_at_the_edge(lib, edge, at_the_edge, dtype):
    z = np.array([-0.125, 0.125, 0.1249, -0.1249, 0.1251], dtype)
    h = lib.derivative(z, 0.25, "rectangular", agl.Conventions(window_edge=edge))
    assert h.tolist() == [at_the_edge, at_the_edge, 4.0, 4.0, 0.0]
    h = lib.derivative(z, 0.25, "leaky_relu", agl.Conventions(window_edge=edge))
    low = float(dtype(4) / dtype(50))
    assert h.tolist() == [max(at_the_edge, low), max(at_the_edge, low), 4.0, 4.0, low]


@pytest.mark.parametrize("name", [*naive.SURROGATES[1:], "straight_through"])
def test_the_edge_concerns_the_rectangular_member_alone(lib, name):
    z = np.array([-0.5, 0.0, 0.5, 1.0])
    received = [lib.derivative(z, 1.0, name, agl.Conventions(window_edge=e)) for e in ("<", "<=")]
    helpers.assert_same_bits(*received)


@pytest.mark.parametrize("scale, factor", [("1/kappa", 1.0), ("1", 0.25), ("1/(2 kappa)", 0.5)])
@each_name
def test_scale_multiplies_derivative_and_primitive(lib, name, scale, factor):
    z, c = np.array([-0.1, 0.0, 0.05]), agl.Conventions(surrogate_scale=scale)
    for f in (lib.derivative, lib.primitive):
        expected = factor * f(z, 0.25, name)
        assert (expected > 0).all()
        helpers.assert_close(f(z, 0.25, name, c), expected, 1e-15)


def drawn_z(rng, k, shape):
    """z inside and outside the window, clear of every kink by a thousandth of the width."""
    z = rng.uniform(-2, 2, shape) * k
    for edge in (-1, -0.5, 0, 0.5, 1):
        near = np.abs(z / k - edge) < 1e-3
        z[near] += 5e-3 * k
    return z


@each_kind
@each_scale
@given(st.floats(0.05, 20), st.sampled_from([(7,), (1,), (3, 5), (2, 1, 3)]), st.integers(0, 2**32 - 1))
def test_family_is_the_naive_twin(lib, name, scale, k, shape, seed):
    c = agl.Conventions(surrogate_scale=scale)
    z = drawn_z(np.random.default_rng(seed), k, shape)
    h = [naive.surrogate_derivative(a, k, name, c) for a in z.ravel().tolist()]
    S = [naive.surrogate_primitive(a, k, name, c) for a in z.ravel().tolist()]
    peak = naive.surrogate_derivative(0.0, k, name, c)
    top = 4 * naive.scale_factor(k, c)  # |S| <= 2.5 where it has no bound
    received = lib.derivative(z, k, name, c)
    helpers.assert_close(received, np.reshape(h, shape), 1e-14, magnitude=peak, name="h")
    received = lib.primitive(z, k, name, c)
    helpers.assert_close(received, np.reshape(S, shape), 1e-14, magnitude=top, name="S")


@each_kind
def test_float32_is_the_naive_twin_within_rounding(lib, name):
    c, k = agl.MPD_AGL, float(np.float32(0.7))
    z = drawn_z(np.random.default_rng(1), k, 200).astype(np.float32)
    assert (np.abs(z) < k / 2).any() and (np.abs(z) > k / 2).any()
    h = [naive.surrogate_derivative(a, k, name, c) for a in z.tolist()]
    S = [naive.surrogate_primitive(a, k, name, c) for a in z.tolist()]
    # z / kappa and its multiple round (3), an exponent up to 4 pi amplifies that (13), the rest is 8 more
    bound = helpers.rounding(np.float32, 3 * 13 + 8)
    helpers.assert_close(lib.derivative(z, k, name), h, bound, name="h")
    helpers.assert_close(lib.primitive(z, k, name), S, bound, name="S")


@each_dtype
@pytest.mark.parametrize("edge", ["<", "<="])
@each_scale
@pytest.mark.parametrize("name", ["rectangular", "triangular", "straight_through"])
def test_family_has_the_bits_of_exact_rationals(lib, name, scale, edge, dtype):
    c = agl.Conventions(surrogate_scale=scale, window_edge=edge)
    z = np.arange(-48, 49).astype(dtype) / 16
    for k in (0.25, 1.0, 2.0):
        ledger = exact.Ledger()
        width = exact.Fraction(k)
        assert (np.abs(z) == k / 2).any() and (np.abs(z) < k / 2).any() and (np.abs(z) > k).any()
        h = [exact.surrogate_derivative(a, width, name, c, ledger) for a in exact.fractions(z)]
        assert ledger.fits(dtype)
        helpers.assert_equal(lib.derivative(z, k, name, c), exact.floats(np.array(h), dtype), "h")
        if name == "straight_through":
            continue  # the twin has no S of it
        factor = {"1/kappa": 1, "1": width, "1/(2 kappa)": exact.Fraction(1, 2)}[scale]
        S = [factor * exact.surrogate_primitive(a, width, name) for a in exact.fractions(z)]
        helpers.assert_equal(lib.primitive(z, k, name, c), exact.floats(np.array(S), dtype), "S")


@each_kind
@each_scale
@pytest.mark.parametrize("k", [0.3, 1.0, 4.0])
def test_derivative_is_the_slope_of_the_primitive(lib, name, scale, k):
    c = agl.Conventions(surrogate_scale=scale)
    z = drawn_z(np.random.default_rng(2), k, 60)
    step = 1e-5 * k
    slope = (lib.primitive(z + step, k, name, c) - lib.primitive(z - step, k, name, c)) / ((z + step) - (z - step))
    helpers.assert_close(lib.derivative(z, k, name, c), slope, 1e-7)


@each_kind
def test_slope_by_width_is_minus_z_over_kappa_times_the_derivative(lib, name):
    k = 0.8
    z = drawn_z(np.random.default_rng(3), k, 60)
    step = 1e-6
    slope = (lib.primitive(z, k + step, name) - lib.primitive(z, k - step, name)) / ((k + step) - (k - step))
    helpers.assert_close(-(z / k) * lib.derivative(z, k, name), slope, 1e-7)


@each_name
def test_area_is_one_and_peak_is_one_over_kappa(lib, name):
    k = 0.5
    z = np.linspace(-2000, 2000, 400_001)  # spacing 1/100; arctan's tails need the length
    h = lib.derivative(z, k, name)
    assert h.max() == h[200_000]
    helpers.assert_close(h.max(), 1 / k, 1e-15, name="peak")
    helpers.assert_close(h.sum() / 100, 1.0, {"rectangular": 0.03, "fast_sigmoid": 2e-3}.get(name, 1e-3), name="area")
    ends = lib.primitive(np.array([-1e9, 0.0, 1e9]), k, name)
    helpers.assert_close(ends, [0, 0.5, 1], 1e-9, name="S")


@each_kind
@each_scale
@each_dtype
def test_width_zero_gives_exactly_zero(lib, name, scale, dtype):
    z = np.array([-1.0, 0.0, 1e-30, 2.0], dtype)
    h = lib.derivative(z, 0.0, name, agl.Conventions(surrogate_scale=scale, window_edge="<="))
    assert h.tolist() == [0, 0, 0, 0]


@each_name
@each_dtype
def test_far_from_the_threshold_nothing_overflows(lib, name, dtype):
    z = np.array([-1e6, 1e6], dtype)
    with np.errstate(over="raise", invalid="raise"):
        h, S = lib.derivative(z, 0.01, name), lib.primitive(z, 0.01, name)
    assert np.isfinite(h).all() and (h < 1e-6).all()
    helpers.assert_close(S, [0, 1], 1e-6)


@pytest.mark.parametrize("name, least", [("straight_through", 2.0), ("leaky_relu", 0.04)])
def test_those_without_a_finite_area_never_close(lib, name, least):
    z = np.array([-1e6, -1.0, 1.0, 1e6])
    assert lib.derivative(z, 0.5, name).tolist() == [least] * 4
    S = lib.primitive(z, 0.5, name)
    assert S[0] < -1e4 and S[3] > 1e4


@each_kind
@each_dtype
def test_dtype_and_shape_stay_what_they_are(lib, name, dtype):
    z = np.zeros((2, 1, 3), dtype)
    for f in (lib.derivative, lib.primitive):
        assert (f(z, 0.5, name).dtype, f(z, 0.5, name).shape) == (dtype, z.shape)


@each_kind
def test_memory_layout_changes_no_bit(name):
    z = np.random.default_rng(4).uniform(-1, 1, (6, 8))
    for f in (ops.derivative, ops.primitive):
        received = f(z[::2, ::3], 0.5, name)
        helpers.assert_same_bits(np.ascontiguousarray(received), f(z[::2, ::3].copy(), 0.5, name))


Z = np.zeros(3)
BAD = {
    "list": ([0.0], 1.0, {}),
    "integers": (Z.astype(int), 1.0, {}),
    "float16": (Z.astype(np.float16), 1.0, {}),
    "NaN": (Z + np.nan, 1.0, {}),
    "infinity": (Z + np.inf, 1.0, {}),
    "width negative": (Z, -1.0, {}),
    "width NaN": (Z, np.nan, {}),
    "width infinite": (Z, np.inf, {}),
    "width text": (Z, "1", {}),
    "width array": (Z, np.ones(3), {}),
    "name": (Z, 1.0, {"name": "boxcar"}),
    "name type": (Z, 1.0, {"name": 3}),
    "conventions": (Z, 1.0, {"conventions": "mpd-agl"}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_family_refuses(bad):
    z, width, options = bad
    helpers.assert_refused(lambda: ops.derivative(z, width, **options))
    helpers.assert_refused(lambda: ops.primitive(z, width, **options))


def test_primitive_refuses_width_zero():
    helpers.assert_refused(lambda: ops.primitive(Z, 0.0), "width")
