"""LIF and PLIF: hand arithmetic, naive twin, exact rationals, relaxed differences, in every convention."""

from dataclasses import replace

import helpers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from storeys import ENGINE
from twins import exact, naive

import agl_ref as agl
from agl_ref.engine.neuron import CHUNK
from agl_ref.engine.ops import lif_backward_full

# One entry for each value of conventions 1 to 5, 7, 8 that is not the default, and the pairs that interact.
VARIANTS = {
    "mpd-agl": {},
    "spike_test >": {"spike_test": ">"},
    "soft": {"reset": "soft"},
    "none": {"reset": "none"},
    "detached": {"reset_gradient": "detached"},
    "soft detached": {"reset": "soft", "reset_gradient": "detached"},
    "soft late": {"reset": "soft late"},
    "soft late detached": {"reset": "soft late", "reset_gradient": "detached"},
    "soft late, input 1-tau": {"reset": "soft late", "input_scale": "1 - tau"},
    "edge <=": {"window_edge": "<="},
    "scale 1": {"surrogate_scale": "1"},
    "scale 1/2k": {"surrogate_scale": "1/(2 kappa)"},
    "flows": {"width_gradient": "flows"},
    "input 1-tau": {"input_scale": "1 - tau"},
    "soft, input 1-tau": {"reset": "soft", "input_scale": "1 - tau"},
}
CONVENTIONS = {name: agl.Conventions(**fields) for name, fields in VARIANTS.items()}
each_convention = pytest.mark.parametrize("c", CONVENTIONS.values(), ids=CONVENTIONS)
each_surrogate = pytest.mark.parametrize("surrogate", naive.SURROGATES)
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def each_once(conventions):
    """Each convention with the rectangular surrogate, and each other surrogate with MPD-AGL: every branch, not every pair."""
    pairs = [pytest.param(c, "rectangular", id=name) for name, c in conventions.items()]
    pairs += [pytest.param(agl.MPD_AGL, surrogate, id=surrogate) for surrogate in naive.SURROGATES[1:]]
    return pytest.mark.parametrize("c, surrogate", pairs)


def run(lib, case, c, surrogate="rectangular", relaxed=None):
    """(s, cache, all gradients) of a storey on a case."""
    s, cache = lib.lif_forward(case.x, case.decay, case.v_th, c, surrogate, relaxed)
    return s, cache, lib.lif_backward_full(case.ds, cache, case.width)


def twin(case, c, surrogate="rectangular"):
    """(u, s, dx, ddecay, dwidth) of the naive twin."""
    u, s = naive.lif_forward(case.x, case.decay, case.v_th, c, surrogate)
    return u, s, *naive.lif_backward(case.ds, case.x, u, s, case.decay, case.v_th, case.width, c, surrogate)


def assert_is_twin(lib, case, c, surrogate, tolerance):
    """Spikes equal; the rest within the tolerance, relative to the largest element."""
    s, cache, grads = run(lib, case, c, surrogate)
    u, s_twin, dx, ddecay, dwidth = twin(case, c, surrogate)
    helpers.assert_equal(s, s_twin, "s")
    helpers.assert_close(cache.u, u, tolerance, name="u")
    helpers.assert_close(grads.dx, dx, tolerance, name="dx")
    # sums over neurons cancel, so their rounding is relative to the sum of their terms' magnitudes
    reach = np.abs(dx).sum() * (np.abs(u).max() + np.abs(case.x).max()) / (1 - case.decay)
    helpers.assert_close(grads.ddecay, ddecay, tolerance, magnitude=reach, name="ddecay")
    if c.width_gradient == "none":
        dwidth = np.zeros_like(dwidth)
    # |ds_total h| <= |du_t| + |du_{t+1}| and |z / kappa| < 2
    reach = 4 * np.abs(dx).sum() / (1 - case.decay)
    helpers.assert_close(grads.dwidth, dwidth, tolerance, magnitude=reach, name="dwidth")


# --- hand arithmetic ------------------------------------------------------------------------------

# decay 1/2, V_th 1/2, x = 1/4, 1/2, 1/2, -1/4, ds = 1, 2, 3, 4; worked backwards from t = 4.
# Fields: conventions, kappa, u, s, dx, ddecay
HAND = {
    "mpd-agl": ({}, 1.0, [0.25, 0.625, 0.5, -0.25], [0, 1, 1, 0], [1.3984375, 1.0625, 3, 0], 0.265625),
    "spike_test >, strict edge": (
        # u_3 = V_th does not fire; u_4 = 0 lies exactly at V_th - kappa / 2, outside
        {"spike_test": ">"},
        1.0,
        [0.25, 0.625, 0.5, 0.0],
        [0, 1, 0, 0],
        [1.3984375, 1.0625, 3, 0],
        0.265625,
    ),
    "spike_test >, edge <=": (
        # du_4 = 4, dv_3 = 2; du_3 = 2 + (3 - 1/2 2) = 4, dv_2 = 2; du_2 = 2 - 5/8 2 = 3/4;
        # du_1 = 3/8 + (1 - 3/32)
        {"spike_test": ">", "window_edge": "<="},
        1.0,
        [0.25, 0.625, 0.5, 0.0],
        [0, 1, 0, 0],
        [1.28125, 0.75, 4, 4],
        2.1875,
    ),
    "soft": (
        {"reset": "soft"},
        1.0,
        [0.25, 0.625, 0.5625, -0.21875],
        [0, 1, 1, 0],
        [1.6875, 2.75, 3, 0],
        1.0625,
    ),
    "detached": (
        {"reset_gradient": "detached"},
        1.0,
        [0.25, 0.625, 0.5, -0.25],
        [0, 1, 1, 0],
        [2, 2, 3, 0],
        0.5,
    ),
    "soft detached": (
        # du_2 = 3/2 + 2, dv_1 = 7/4, du_1 = 7/4 + 1; ddecay = 3 1/8 + 7/2 1/4
        {"reset": "soft", "reset_gradient": "detached"},
        1.0,
        [0.25, 0.625, 0.5625, -0.21875],
        [0, 1, 1, 0],
        [2.75, 3.5, 3, 0],
        1.25,
    ),
    "soft late": (
        # u_3 = 5/16 + 1/2 - 1/2; du_3 = 3; du_2 = 3/2 + (2 - 1/2 3); du_1 = 1 + (1 - 1/2 2); ddecay = 2 1/4 + 3 5/8
        {"reset": "soft late"},
        1.0,
        [0.25, 0.625, 0.3125, -0.09375],
        [0, 1, 0, 0],
        [1, 2, 3, 0],
        2.375,
    ),
    "soft late detached": (
        {"reset": "soft late", "reset_gradient": "detached"},
        1.0,
        [0.25, 0.625, 0.3125, -0.09375],
        [0, 1, 0, 0],
        [2.75, 3.5, 3, 0],
        2.75,
    ),
    "kappa 1/2, strict edge": (
        # |u_1 - V_th| = 1/4 = kappa / 2 exactly
        {},
        0.5,
        [0.25, 0.625, 0.5, -0.25],
        [0, 1, 1, 0],
        [0.125, 0.25, 6, 0],
        0.0625,
    ),
    "kappa 1/2, edge <=": (
        {"window_edge": "<="},
        0.5,
        [0.25, 0.625, 0.5, -0.25],
        [0, 1, 1, 0],
        [2.0625, 0.25, 6, 0],
        0.0625,
    ),
    "kappa 1/2, scale 1": (
        {"surrogate_scale": "1"},
        0.5,
        [0.25, 0.625, 0.5, -0.25],
        [0, 1, 1, 0],
        [0.53125, 1.0625, 3, 0],
        0.265625,
    ),
    "scale 1/2k": (
        {"surrogate_scale": "1/(2 kappa)"},
        1.0,
        [0.25, 0.625, 0.5, -0.25],
        [0, 1, 1, 0],
        [0.8349609375, 0.765625, 1.5, 0],
        0.19140625,
    ),
}
HAND_X = np.array([[0.25], [0.5], [0.5], [-0.25]])
HAND_DS = np.array([[1.0], [2.0], [3.0], [4.0]])


@each_dtype
@pytest.mark.parametrize("hand", HAND.values(), ids=HAND)
def test_lif_is_the_hand_arithmetic(lib, hand, dtype):
    fields, kappa, u, s, dx, ddecay = hand
    received_s, cache = lib.lif_forward(HAND_X.astype(dtype), 0.5, 0.5, agl.Conventions(**fields))
    width = np.full(4, kappa, dtype)
    received_dx, received_ddecay = lib.lif_backward(HAND_DS.astype(dtype), cache, width)
    helpers.assert_case_is_telling(cache.u, width, 0.5)
    assert cache.u.ravel().tolist() == u
    assert received_s.ravel().tolist() == s
    assert received_dx.ravel().tolist() == dx
    assert float(received_ddecay) == ddecay


@each_dtype
def test_no_reset_is_the_hand_arithmetic(lib, dtype):
    # x_4 = -3/4 puts u_4 outside; du_3 = 3, dv_2 = 3/2; du_2 = 3/2 + 2, dv_1 = 7/4; du_1 = 7/4 + 1;
    # ddecay = 3 5/8 + 7/2 1/4
    x = np.array([[0.25], [0.5], [0.5], [-0.75]], dtype)
    s, cache = lib.lif_forward(x, 0.5, 0.5, agl.Conventions(reset="none"))
    dx, ddecay = lib.lif_backward(HAND_DS.astype(dtype), cache, np.ones(4, dtype))
    helpers.assert_case_is_telling(cache.u, np.ones(4), 0.5)
    assert cache.u.ravel().tolist() == [0.25, 0.625, 0.8125, -0.34375]
    assert s.ravel().tolist() == [0, 1, 1, 0]
    assert dx.ravel().tolist() == [2.75, 3.5, 3, 0]
    assert float(ddecay) == 2.75


@each_dtype
def test_scaled_input_is_the_hand_arithmetic(lib, dtype):
    # twice the current, halved by 1 - tau, gives the same u; dx_t = du_t / 2;
    # ddecay = 1.3984375 (0 - 1/2) + 1.0625 (1/4 - 1) + 3 (0 - 1) + 0
    c = agl.Conventions(input_scale="1 - tau")
    s, cache = lib.lif_forward(2 * HAND_X.astype(dtype), 0.5, 0.5, c)
    dx, ddecay = lib.lif_backward(HAND_DS.astype(dtype), cache, np.ones(4, dtype))
    assert cache.u.ravel().tolist() == [0.25, 0.625, 0.5, -0.25]
    assert s.ravel().tolist() == [0, 1, 1, 0]
    assert dx.ravel().tolist() == [0.69921875, 0.53125, 1.5, 0]
    assert float(ddecay) == -4.49609375


@each_dtype
def test_dwidth_is_the_hand_arithmetic(lib, dtype):
    # -(z / kappa) h ds_total: z = -1/4, 1/8, 0, -3/4; ds_total = 0.8671875, 1.0625, 3, 4; the last is outside
    _, cache = lib.lif_forward(HAND_X.astype(dtype), 0.5, 0.5, agl.Conventions(width_gradient="flows"))
    grads = lib.lif_backward_full(HAND_DS.astype(dtype), cache, np.ones(4, dtype))
    assert grads.dwidth.tolist() == [0.216796875, -0.1328125, 0, 0]


@pytest.mark.parametrize("plif, sign", [("tau", 1), ("1 - tau", -1)])
def test_plif_is_the_hand_arithmetic(lib, plif, sign):
    # sigmoid(0) = 1/2 either way; dw = +-ddecay / 4
    s, cache = lib.plif_forward(HAND_X, 0.0, 0.5, agl.Conventions(plif=plif))
    dx, dw = lib.plif_backward(HAND_DS, cache, np.ones(4))
    assert s.ravel().tolist() == [0, 1, 1, 0]
    assert dx.ravel().tolist() == [1.3984375, 1.0625, 3, 0]
    assert float(dw) == sign * 0.06640625


@pytest.mark.parametrize("plif, decay", [("tau", 0.2), ("1 - tau", 0.8)])
def test_plif_initial_w_gives_the_leak_of_its_convention(lib, plif, decay):
    _, cache = lib.plif_forward(HAND_X, -np.log(4.0), 0.5, agl.Conventions(plif=plif))
    helpers.assert_close(cache.decay, decay, 1e-15, name="decay")


# --- naive twin -----------------------------------------------------------------------------------


@each_surrogate
@each_convention
def test_lif_is_the_naive_twin(lib, c, surrogate):
    case = helpers.lif_case(6, (3, 5), seed=1, c=c)
    helpers.assert_case_is_telling(case.u, case.width, case.v_th)
    assert_is_twin(lib, case, c, surrogate, 1e-13)


@each_once(CONVENTIONS)
def test_lif_in_float32_is_the_naive_twin(lib, c, surrogate):
    case = helpers.lif_case(4, (3, 5), seed=2, c=c).astype(np.float32)
    helpers.assert_case_is_telling(case.u, case.width, case.v_th)
    # forward 4 roundings a timestep; the surrogate's slope (at most 8 / kappa) carries u's error into h;
    # backward 8 roundings a timestep: less than 32 a timestep in all
    assert_is_twin(lib, case, c, surrogate, helpers.rounding(np.float32, 32 * 4))


@pytest.mark.parametrize("c", [agl.MPD_AGL, CONVENTIONS["soft"], CONVENTIONS["edge <="], CONVENTIONS["scale 1"]])
@pytest.mark.parametrize("surrogate", naive.UNBOUNDED)
def test_surrogates_of_infinite_area_are_the_naive_twin_and_the_slope(lib, surrogate, c):
    case = helpers.lif_case(6, (3, 5), seed=21, c=c)
    helpers.assert_case_is_telling(case.u, case.width, case.v_th)
    assert_is_twin(lib, case, c, surrogate, 1e-13)
    case, cache, grads = relaxed_case(lib, c, surrogate)
    loss, decay = relaxed_loss(lib, case, c, surrogate, cache)
    helpers.assert_close(grads.dx, helpers.central_difference(loss, case.x, STEP), 1e-7, name="dx")
    helpers.assert_close([grads.ddecay], helpers.central_difference(loss, decay, STEP), 1e-7, name="ddecay")


@st.composite
def lif_cases(draw, longest=6):
    """(case, conventions, surrogate) over all conventions jointly and shapes of two to five axes."""
    T = draw(st.integers(1, longest))
    least = 3 if T < 4 else 1
    shapes = [(draw(st.integers(least, 9)),), (draw(st.integers(least, 5)), 1, draw(st.integers(1, 3)), 3)]
    shape = draw(st.sampled_from(shapes))
    choices = agl.Conventions.choices()
    rows = ("spike_test", "reset", "reset_gradient", "window_edge", "surrogate_scale", "width_gradient")
    rows = (*rows, "input_scale")
    c = agl.Conventions(**{row: draw(st.sampled_from(choices[row])) for row in rows})
    case = helpers.lif_case(T, shape, draw(st.integers(0, 2**32 - 1)), c)
    return case, c, draw(st.sampled_from(naive.SURROGATES))


@settings(max_examples=150)
@given(lif_cases())
def test_lif_is_the_naive_twin_for_any_shape_and_mixture_of_conventions(lib, drawn):
    case, c, surrogate = drawn
    helpers.assert_case_is_telling(case.u, case.width, case.v_th, resets=len(case.x) > 1)
    assert_is_twin(lib, case, c, surrogate, 2e-13)


@settings(max_examples=15)
@given(lif_cases(longest=1))
def test_one_timestep_is_the_naive_twin(lib, drawn):
    case, c, surrogate = drawn
    helpers.assert_case_is_telling(case.u, case.width, case.v_th, resets=False)
    assert_is_twin(lib, case, c, surrogate, 2e-13)


@each_convention
def test_lif_is_the_naive_twin_over_several_chunks(c):
    case = helpers.lif_case(4, (2 * CHUNK + 5,), seed=3, c=c)
    for chunk in (slice(0, CHUNK), slice(CHUNK, 2 * CHUNK), slice(2 * CHUNK, None)):
        helpers.assert_case_is_telling(case.u[:, chunk], case.width, case.v_th)
    assert_is_twin(ENGINE, case, c, "rectangular", 2e-13)


def test_neurons_do_not_talk_to_each_other(lib):
    case = helpers.lif_case(5, (CHUNK + 9,), seed=4, c=agl.MPD_AGL)
    _, _, grads = run(lib, case, agl.MPD_AGL)
    for i in (0, CHUNK - 1, CHUNK, CHUNK + 8):
        alone = replace(case, x=case.x[:, i : i + 1], ds=case.ds[:, i : i + 1])
        _, _, own = run(lib, alone, agl.MPD_AGL)
        helpers.assert_same_bits(own.dx[:, 0], grads.dx[:, i].copy(), f"dx of neuron {i}")


@pytest.mark.parametrize("plif", ["tau", "1 - tau"])
@pytest.mark.parametrize("w", [-1.3862943611198906, 0.7, -4.0])
def test_plif_is_the_naive_twin(lib, plif, w):
    c = agl.Conventions(plif=plif)
    decay = naive.plif_decay(w, c)
    case = helpers.lif_case(5, (7,), seed=5, c=c, decay=decay)
    helpers.assert_case_is_telling(case.u, case.width, case.v_th)
    s, cache = lib.plif_forward(case.x, w, case.v_th, c)
    dx, dw = lib.plif_backward(case.ds, cache, case.width)
    _, s_twin, dx_twin, ddecay, _ = twin(case, c)
    helpers.assert_equal(s, s_twin, "s")
    helpers.assert_close(dx, dx_twin, 1e-13, name="dx")
    helpers.assert_close(dw, naive.plif_dw(ddecay, w, c), 1e-12, name="dw")


# --- exact rationals ------------------------------------------------------------------------------


def dyadic_case(T, n, per_unit, seed, dtype, width=(1.0, 0.5, 2.0), decay=0.5):
    """Inputs on a grid so coarse that ties at V_th and at the window's edge are common."""
    rng = np.random.default_rng(seed)
    x = helpers.dyadic(rng, (T, n), -0.75, 1.25, per_unit)
    ds = helpers.dyadic(rng, (T, n), -1, 1, 4)
    return helpers.LIFCase(x, ds, np.array(width)[np.arange(T) % 3], decay, 0.5, None).astype(dtype)


def exact_lif(case, c, surrogate):
    """(u, s, dx, ddecay, dwidth, ledger, dwidth's ledger) in fractions."""
    ledger, width_ledger = exact.Ledger(), exact.Ledger()
    x, ds, width = (exact.fractions(a) for a in (case.x, case.ds, case.width))
    decay, v_th = exact.Fraction(case.decay), exact.Fraction(case.v_th)
    u, s = exact.lif_forward(x, decay, v_th, c, ledger)
    grads = exact.lif_backward(ds, x, u, s, decay, v_th, width, c, ledger, surrogate, width_ledger)
    return u, s, *grads, ledger, width_ledger


def assert_is_exact(lib, case, c, surrogate, dtype):
    u, s, dx, ddecay, dwidth, ledger, width_ledger = exact_lif(case, c, surrogate)
    assert ledger.fits(dtype), f"the case needs {ledger.bits} bits"
    received_s, cache, grads = run(lib, case, c, surrogate)
    helpers.assert_equal(received_s, exact.floats(s, dtype), "s")
    helpers.assert_equal(cache.u, exact.floats(u, dtype), "u")
    helpers.assert_equal(grads.dx, exact.floats(dx, dtype), "dx")
    helpers.assert_equal(grads.ddecay, exact.floats(np.array(ddecay), dtype), "ddecay")
    if c.width_gradient == "none":
        assert not grads.dwidth.any()
    elif width_ledger.fits(dtype):
        helpers.assert_equal(grads.dwidth, exact.floats(dwidth, dtype), "dwidth")
    else:
        assert dtype is np.float32, "dwidth must be exact in float64"
    return u


@each_dtype
@pytest.mark.parametrize("surrogate", ["rectangular", "triangular"])
@each_convention
def test_lif_has_the_bits_of_exact_rationals(lib, c, surrogate, dtype):
    T, per_unit = (4, 8) if surrogate == "rectangular" else (3, 4)
    case = dyadic_case(T, 24, per_unit, seed=6, dtype=dtype)
    if c.input_scale == "1 - tau":
        case.x *= 2  # halved again by 1 - tau
    u = assert_is_exact(lib, case, c, surrogate, dtype).astype(float)
    helpers.assert_case_is_telling(u, case.width, case.v_th)
    assert (u == case.v_th).any(), "no neuron exactly at V_th"
    assert (np.abs(u - case.v_th) == case.width[:, None] / 2).any(), "no neuron exactly at the window's edge"


# --- decay 1: IF ----------------------------------------------------------------------------------

WITHOUT_LEAK = {name: c for name, c in CONVENTIONS.items() if c.input_scale == "1"}
each_without_leak = pytest.mark.parametrize("c", WITHOUT_LEAK.values(), ids=WITHOUT_LEAK)


def test_a_neuron_without_a_leak_by_hand(lib):
    # u: 1/4, 1/4 + 1/8, 3/8 + 1/4 = 5/8 fires, 1/4; all inside. du_4 = 4, du_3 = 0 + (3 - 5/8 4) = 1/2,
    # du_2 = 1/2 + (2 - 3/8 1/2), du_1 = 37/16 + (1 - 1/4 37/16); ddecay = 4 0 + 1/2 3/8 + 37/16 1/4
    x = np.array([0.25, 0.125, 0.25, 0.25]).reshape(4, 1)
    s, cache = lib.lif_forward(x, 1.0, 0.5)
    dx, ddecay = lib.lif_backward(np.arange(1.0, 5.0).reshape(4, 1), cache, np.ones(4))
    assert cache.u.ravel().tolist() == [0.25, 0.375, 0.625, 0.25] and s.ravel().tolist() == [0, 0, 1, 0]
    assert dx.ravel().tolist() == [2.734375, 2.3125, 0.5, 4.0] and float(ddecay) == 0.765625


@each_dtype
@each_without_leak
def test_a_neuron_without_a_leak_has_the_bits_of_exact_rationals(lib, c, dtype):
    case = dyadic_case(5, 24, 8, seed=16, dtype=dtype, decay=1.0)
    u = assert_is_exact(lib, case, c, "rectangular", dtype).astype(float)
    helpers.assert_case_is_telling(u, case.width, case.v_th)


@each_once(WITHOUT_LEAK)
def test_a_neuron_without_a_leak_is_the_naive_twin_and_its_relaxed_gradient_the_difference(lib, c, surrogate):
    case = helpers.lif_case(4, (6,), seed=17, c=c, decay=1.0)
    s, cache, grads = run(lib, case, c, surrogate)
    u, s_twin, dx, ddecay, _ = twin(case, c, surrogate)
    helpers.assert_case_is_telling(u, case.width, case.v_th)
    helpers.assert_equal(s, s_twin, "s")
    for name, received, expected in (("u", cache.u, u), ("dx", grads.dx, dx)):
        helpers.assert_close(received, expected, 1e-13, name=name)
    helpers.assert_close(grads.ddecay, ddecay, 1e-12, magnitude=np.abs(dx).sum() * np.abs(u).max(), name="ddecay")
    if c.reset_gradient == "detached" or c.surrogate_scale != "1/kappa":
        return  # by convention no gradient of the relaxed network
    case = helpers.lif_case(4, (6,), seed=18, c=c, decay=1.0, v_th=0.5, relaxed=surrogate)
    grads = run(lib, case, c, surrogate, relaxed=case.width)[2]
    decay = np.array([1.0])

    def loss():
        args = (case.x, float(decay[0]), case.v_th, c, surrogate, case.width)
        return float((case.ds * naive.lif_forward(*args)[1]).sum())  # the twin takes a decay above 1 too

    helpers.assert_clear_of(case.u - case.v_th, case.width, naive.KINKS[surrogate], margin=1e-4)
    helpers.assert_close(grads.dx, helpers.central_difference(loss, case.x, STEP), 1e-7, name="dx")
    helpers.assert_close([grads.ddecay], helpers.central_difference(loss, decay, STEP), 1e-7, name="ddecay")


def test_decay_1_is_refused_where_no_input_would_be_left():
    c = agl.Conventions(input_scale="1 - tau")
    agl.lif_forward(X, 1.0)
    helpers.assert_refused(lambda: agl.lif_forward(X, 1.0, conventions=c), "decay", "no input")
    helpers.assert_refused(lambda: agl.lif_forward(X.astype(np.float32), 1.0 - 1e-9), "decay", "float32 can hold")
    agl.lif_forward(X, 1.0 - 1e-9, conventions=c)
    layers = [
        agl.blocks.SpikingBlock("a", agl.parts.Linear(3, 2), None, agl.parts.LIF(1.0)),
        agl.blocks.Readout("fc", 2, 2),
    ]
    agl.Network(layers, (3,))
    helpers.assert_refused(lambda: agl.Network(layers, (3,), c), "decay", "no input")


@pytest.mark.parametrize("dtype, low, high", [(np.float32, 16.0, 18.0), (np.float64, 36.0, 38.0)])
def test_plif_stays_below_1_in_the_arrays_dtype(dtype, low, high):
    x = X.astype(dtype)
    for c, sign in ((agl.MPD_AGL, 1), (agl.Conventions(plif="1 - tau"), -1)):
        agl.plif_forward(x, sign * low, conventions=c)
        helpers.assert_refused(lambda w=sign * high, c=c: agl.plif_forward(x, w, conventions=c), "w", dtype.__name__)
        unit = agl.parts.PLIF(sign * high, dtype=dtype)
        helpers.assert_refused(lambda c=c, unit=unit: unit.decay(c), "w", dtype.__name__)


@pytest.mark.parametrize("reset, dtype", [
    ("hard", np.float64), pytest.param("hard", np.float32, marks=pytest.mark.slow),
    *(pytest.param(r, dtype, marks=pytest.mark.slow) for r in ("soft", "none", "soft late") for dtype in helpers.DTYPES),
])  # fmt: skip
def test_lif_over_several_chunks_has_the_bits_of_exact_rationals(reset, dtype):
    c = agl.Conventions(reset=reset)
    case = dyadic_case(2, CHUNK + 3, 2, seed=7, dtype=dtype)
    u = assert_is_exact(ENGINE, case, c, "rectangular", dtype).astype(float)
    for chunk in (slice(0, CHUNK), slice(CHUNK, None)):
        helpers.assert_case_is_telling(u[:, chunk], case.width, case.v_th, resets=chunk.start == 0)


@each_dtype
def test_adaptive_width_gives_exact_spikes_and_gradients_within_rounding(lib, dtype):
    # tau = 3/4: kappa = 3/4 and 15/16 exactly, but 1 / kappa is not dyadic, so the gradients round
    c = agl.MPD_AGL
    rng = np.random.default_rng(8)
    width = lib.adaptive_width(np.array([1.0, 0.5], dtype), 0.5, 0.75, 4)
    assert width.tolist() == [0.75, 0.9375, 0.9375, 0.9375]
    x, ds = helpers.dyadic(rng, (4, 30), -0.75, 1.25, 8), helpers.dyadic(rng, (4, 30), -1, 1, 4)
    case = helpers.LIFCase(x, ds, width, 0.75, 0.5, None).astype(dtype)
    u, s, dx, ddecay, _, ledger, _ = exact_lif(case, c, "rectangular")
    helpers.assert_case_is_telling(u.astype(float), width, 0.5)
    assert not ledger.dyadic
    received_s, cache, grads = run(lib, case, c)
    helpers.assert_equal(received_s, exact.floats(s, dtype), "s")
    helpers.assert_equal(cache.u, exact.floats(u, dtype), "u")
    largest = max(abs(float(d)) for d in dx.ravel())
    # 1 / kappa and six more roundings a timestep, each step amplifying by at most |u| tau / kappa + tau < 2
    bound = helpers.rounding(dtype, 7 * 15)
    helpers.assert_close(grads.dx, dx.astype(float), bound, magnitude=largest, name="dx")
    reach = sum(abs(float(d)) for d in dx.ravel()) * max(abs(float(a)) for a in u.ravel())
    helpers.assert_close(grads.ddecay, float(ddecay), bound, magnitude=reach, name="ddecay")


# --- relaxed finite differences -------------------------------------------------------------------

STEP = 1e-6


def relaxed_case(lib, c, surrogate, shape=(4,), T=5, seed=9):
    """A telling case of the relaxed network, well clear of the kinks of S; its spikes lie between 0 and 1."""
    case = helpers.lif_case(T, shape, seed, c, decay=0.5, v_th=0.5, relaxed=surrogate)
    _, cache, grads = run(lib, case, c, surrogate, relaxed=case.width)
    helpers.assert_case_is_telling(cache.u, case.width, case.v_th, resets=T > 1)
    helpers.assert_clear_of(cache.u - case.v_th, case.width, naive.KINKS[surrogate], margin=0.05)
    height = {"1/kappa": 1.0, "1": case.width.max(), "1/(2 kappa)": 0.5}[c.surrogate_scale]
    between = (cache.s > 0.01 * height) & (cache.s < 0.99 * height)
    assert between.any(), "every relaxed spike is at 0 or 1"
    return case, cache, grads


def relaxed_loss(lib, case, c, surrogate, cache):
    """(f, decay): f() is the loss at the present values of case.x, case.width and the array decay (1,).

    It runs the storey's own forward, except where the gradient is by convention that of another function: a
    detached reset holds the reset's s constant, and the surrogate's outside scale is a constant. Those two
    run the naive twin.
    """
    decay = np.array([case.decay])
    held = cache.s.copy() if c.reset_gradient == "detached" else None
    factors = [naive.scale_factor(k, c) for k in case.width.tolist()]

    def loss():
        if held is None and c.surrogate_scale == "1/kappa":
            s, _ = lib.lif_forward(case.x, float(decay[0]), case.v_th, c, surrogate, case.width)
        else:
            args = (case.x, float(decay[0]), case.v_th, c, surrogate, case.width)
            s = naive.lif_forward(*args, held, factors)[1]
        return float((case.ds * s).sum())

    return loss, decay


@each_surrogate
@each_convention
def test_relaxed_lif_gradients_are_central_differences(lib, c, surrogate):
    case, cache, grads = relaxed_case(lib, c, surrogate)
    loss, decay = relaxed_loss(lib, case, c, surrogate, cache)
    assert np.abs(grads.dx).min() < np.abs(grads.dx).max()
    helpers.assert_close(grads.dx, helpers.central_difference(loss, case.x, STEP), 1e-7, name="dx")
    helpers.assert_close([grads.ddecay], helpers.central_difference(loss, decay, STEP), 1e-7, name="ddecay")


@each_surrogate
@pytest.mark.parametrize("variant", ["flows", "soft", "soft late", "none", "detached", "scale 1", "scale 1/2k"])
def test_relaxed_dwidth_is_a_central_difference(lib, variant, surrogate):
    c = replace(CONVENTIONS[variant], width_gradient="flows")
    case, cache, grads = relaxed_case(lib, c, surrogate)
    loss, _ = relaxed_loss(lib, case, c, surrogate, cache)
    expected = helpers.central_difference(loss, case.width, STEP)
    assert (np.abs(expected) > 1e-3).all(), "the loss does not depend on the width"
    helpers.assert_close(grads.dwidth, expected, 1e-7, name="dwidth")


@settings(max_examples=12)
@given(st.integers(1, 4), st.integers(3, 5), st.sampled_from(naive.SURROGATES), st.integers(0, 2**32 - 1))
def test_relaxed_gradients_are_central_differences_for_any_shape(lib, T, n, surrogate, seed):
    case, cache, grads = relaxed_case(lib, agl.MPD_AGL, surrogate, (n, 1), T, seed)
    loss, _ = relaxed_loss(lib, case, agl.MPD_AGL, surrogate, cache)
    helpers.assert_close(grads.dx, helpers.central_difference(loss, case.x, STEP), 1e-7, name="dx")


@pytest.mark.parametrize("plif", ["tau", "1 - tau"])
def test_relaxed_dw_of_plif_is_a_central_difference(lib, plif):
    c = agl.Conventions(plif=plif)
    w = np.array([0.4])
    case = helpers.lif_case(5, (4,), 10, c, naive.plif_decay(0.4, c), 0.5, relaxed="gaussian")
    helpers.assert_case_is_telling(case.u, case.width, case.v_th)

    def loss():
        s, _ = lib.plif_forward(case.x, float(w[0]), 0.5, c, "gaussian", case.width)
        return float((case.ds * s).sum())

    _, cache = lib.plif_forward(case.x, 0.4, 0.5, c, "gaussian", case.width)
    _, dw = lib.plif_backward(case.ds, cache, case.width)
    helpers.assert_close([dw], helpers.central_difference(loss, w, STEP), 1e-7, name="dw")


# --- edge cases, memory and types -----------------------------------------------------------------


@each_surrogate
@pytest.mark.parametrize("c", [CONVENTIONS["mpd-agl"], CONVENTIONS["edge <="], CONVENTIONS["scale 1"]])
def test_width_zero_closes_the_window(lib, c, surrogate):
    case = helpers.lif_case(3, (5,), seed=11, c=c)
    case.x[0, 0] = case.v_th  # u - V_th = 0 = kappa / 2 exactly
    case.width[:] = 0.0
    _, cache, grads = run(lib, case, c, surrogate)
    assert cache.u[0, 0] == case.v_th
    assert not grads.dx.any() and grads.ddecay == 0 and not grads.dwidth.any()


def test_closed_window_at_one_timestep_still_passes_the_gradient_through_time(lib):
    case = helpers.lif_case(4, (6,), seed=12, c=agl.MPD_AGL, decay=0.5)
    case.width[1] = 0.0
    _, _, grads = run(lib, case, agl.MPD_AGL)
    dx = twin(case, agl.MPD_AGL)[2]
    assert np.abs(dx[1]).max() > 0, "no gradient is carried past the closed window"
    helpers.assert_close(grads.dx, dx, 1e-13, name="dx")


@pytest.mark.parametrize("spike_test, spike", [(">=", 1.0), (">", 0.0)])
@each_dtype
def test_membrane_potential_exactly_at_threshold(lib, spike_test, spike, dtype):
    s, _ = lib.lif_forward(np.array([[0.3]], dtype), 0.2, 0.3, agl.Conventions(spike_test=spike_test))
    assert s.tolist() == [[spike]]


def test_decay_zero_has_no_memory(lib):
    case = helpers.lif_case(4, (5,), seed=13, c=agl.MPD_AGL, decay=0.0)
    _, cache, _ = run(lib, case, agl.MPD_AGL)
    helpers.assert_same_bits(cache.u + 0.0, case.x + 0.0, "u")


def test_v_is_the_membrane_potential_after_reset(lib):
    for reset in ("hard", "soft", "none", "soft late"):
        c = agl.Conventions(reset=reset)
        case = helpers.lif_case(4, (5,), seed=14, c=c)
        _, cache, _ = run(lib, case, c)
        expected = naive.after_reset(cache.u, cache.s, case.v_th, c)
        helpers.assert_close(cache.v, expected, 1e-15, name=reset)


@pytest.mark.slow  # Numba compiles every kernel again for arrays that are read-only
def test_read_only_inputs_change_no_bit():
    case = helpers.lif_case(4, (3, 5), seed=15, c=agl.MPD_AGL)
    _, _, expected = run(ENGINE, case, agl.MPD_AGL)
    case.x.flags.writeable = case.ds.flags.writeable = False
    _, _, grads = run(ENGINE, case, agl.MPD_AGL)
    helpers.assert_same_bits(grads.dx, expected.dx, "dx")


def test_inputs_are_left_as_they_were(lib):
    c = agl.Conventions(input_scale="1 - tau")
    case = helpers.lif_case(4, (5,), seed=16, c=c)
    kept = [a.copy() for a in (case.x, case.ds, case.width)]
    _, cache, _ = run(lib, case, c)
    u, s = cache.u.copy(), cache.s.copy()
    lib.lif_backward_full(case.ds, cache, case.width)
    for before, after in zip([*kept, u, s], [case.x, case.ds, case.width, cache.u, cache.s], strict=True):
        helpers.assert_same_bits(after, before)


def test_two_forwards_before_a_backward_do_not_disturb_each_other(lib):
    first, second = (helpers.lif_case(4, (6,), seed, agl.MPD_AGL, 0.5, 0.5) for seed in (17, 18))
    _, _, alone = run(lib, first, agl.MPD_AGL)
    _, cache_a = lib.lif_forward(first.x, 0.5, 0.5)
    _, cache_b = lib.lif_forward(second.x, 0.5, 0.5)
    later_b = lib.lif_backward_full(second.ds, cache_b, second.width)
    later_a = lib.lif_backward_full(first.ds, cache_a, first.width)
    helpers.assert_same_bits(later_a.dx, alone.dx, "dx of the first")
    assert not np.array_equal(later_a.dx, later_b.dx)


@each_dtype
@each_surrogate
def test_dtype_stays_what_it_is(lib, surrogate, dtype):
    case = helpers.lif_case(3, (5,), seed=19, c=agl.MPD_AGL).astype(dtype)
    s, cache, grads = run(lib, case, agl.MPD_AGL, surrogate)
    for name, a in {"s": s, "u": cache.u, "v": cache.v, **grads._asdict()}.items():
        assert np.asarray(a).dtype == dtype, name
    _, cache = lib.plif_forward(case.x, dtype(-1.4), 0.5, surrogate=surrogate)
    for a in lib.plif_backward(case.ds, cache, case.width):
        assert np.asarray(a).dtype == dtype


def test_backward_takes_other_conventions_than_the_forward(lib):
    case = helpers.lif_case(4, (6,), seed=20, c=agl.MPD_AGL, decay=0.5)
    _, cache = lib.lif_forward(case.x, 0.5, case.v_th)
    other = agl.Conventions(reset_gradient="detached", surrogate_scale="1")
    dx, _ = lib.lif_backward(case.ds, cache, case.width, conventions=other, surrogate="arctan")
    u, s = naive.lif_forward(case.x, 0.5, case.v_th, agl.MPD_AGL)
    args = (case.ds, case.x, u, s, 0.5, case.v_th, case.width, other, "arctan")
    helpers.assert_close(dx, naive.lif_backward(*args)[0], 1e-13, name="dx")


# --- bad input ------------------------------------------------------------------------------------

X = np.zeros((3, 4))

BAD_FORWARD = {
    "list": (([[0.0]],), {}),
    "integers": ((X.astype(int),), {}),
    "float16": ((X.astype(np.float16),), {}),
    "complex": ((X.astype(complex),), {}),
    "no axes": ((np.array(1.0),), {}),
    "no neuron axis": ((X[:, 0],), {}),
    "no timesteps": ((X[:0],), {}),
    "no neurons": ((X[:, :0],), {}),
    "NaN": ((np.where(np.eye(3, 4) > 0, np.nan, X),), {}),
    "infinity": ((X + np.inf,), {}),
    "decay above 1": ((X,), {"decay": 1.0 + 2**-52}),
    "decay negative": ((X,), {"decay": -0.1}),
    "decay NaN": ((X,), {"decay": np.nan}),
    "decay text": ((X,), {"decay": "0.2"}),
    "v_th 0": ((X,), {"v_th": 0.0}),
    "v_th infinite": ((X,), {"v_th": np.inf}),
    "surrogate": ((X,), {"surrogate": "boxcar"}),
    "conventions": ((X,), {"conventions": "mpd-agl"}),
    "relaxed width length": ((X,), {"relaxed_width": np.ones(2)}),
    "relaxed width 0": ((X,), {"relaxed_width": np.zeros(3)}),
    "relaxed width NaN": ((X,), {"relaxed_width": np.full(3, np.nan)}),
    "relaxed width dtype": ((X,), {"relaxed_width": np.ones(3, np.float32)}),
}


@pytest.mark.parametrize("bad", BAD_FORWARD.values(), ids=BAD_FORWARD)
def test_lif_forward_refuses(bad):
    helpers.assert_refused(lambda: agl.lif_forward(*bad[0], **bad[1]))


@pytest.mark.parametrize("bad", [name for name in BAD_FORWARD if not name.startswith("decay")])
def test_plif_forward_refuses(bad):
    (x,), options = BAD_FORWARD[bad]
    helpers.assert_refused(lambda: agl.plif_forward(x, 0.0, **options))


@pytest.mark.parametrize("w", [np.nan, np.inf, 1e4, "0", None, np.zeros(2)], ids=repr)
def test_plif_forward_refuses_w(w):
    helpers.assert_refused(lambda: agl.plif_forward(X, w))


BAD_BACKWARD = {
    "ds shape": (X[:, :3], np.ones(3), {}),
    "ds rank": (X[0], np.ones(3), {}),
    "ds dtype": (X.astype(np.float32), np.ones(3), {}),
    "ds integers": (X.astype(int), np.ones(3), {}),
    "ds NaN": (X + np.nan, np.ones(3), {}),
    "ds list": (X.tolist(), np.ones(3), {}),
    "width negative": (X, np.array([1.0, -1.0, 1.0]), {}),
    "width NaN": (X, np.full(3, np.nan), {}),
    "width infinite": (X, np.full(3, np.inf), {}),
    "width length": (X, np.ones(4), {}),
    "width scalar": (X, 1.0, {}),
    "width dtype": (X, np.ones(3, np.float32), {}),
    "surrogate": (X, np.ones(3), {"surrogate": "boxcar"}),
    "conventions": (X, np.ones(3), {"conventions": {"reset": "soft"}}),
}


@pytest.mark.parametrize("bad", BAD_BACKWARD.values(), ids=BAD_BACKWARD)
def test_backward_refuses(bad):
    ds, width, options = bad
    _, lif = agl.lif_forward(X)
    _, plif = agl.plif_forward(X, 0.0)
    helpers.assert_refused(lambda: agl.lif_backward(ds, lif, width, **options))
    helpers.assert_refused(lambda: lif_backward_full(ds, lif, width, **options))
    helpers.assert_refused(lambda: agl.plif_backward(ds, plif, width, **options))


@pytest.mark.parametrize("backward", [agl.lif_backward, agl.plif_backward])
@pytest.mark.parametrize("cache", [None, ()])
def test_a_backward_wants_its_own_cache(backward, cache):
    with pytest.raises(TypeError, match="cache: expected the LIFCache that lif_forward returned, received"):
        backward(np.ones((2, 3)), cache, np.ones(2))


def test_a_masked_array_is_refused():
    with pytest.raises(TypeError, match="x: expected a plain array, received a masked one"):
        agl.lif_forward(np.ma.array(np.ones((2, 3)), mask=True))
