"""Width rules: Theorem 2 by hand, by the naive twin, exactly; collapse; a gradient that may flow through; the two rules
that measure Theorem 1's approximation, alone and inside networks.
"""

import contextlib
import warnings

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storeys import ENGINE
from twins import exact, naive

import agl_ref as agl
from agl_ref.engine import caches
from agl_ref.engine import width as rules

MEASURES = ("exact", "empirical")  # need more than gamma, and have their own section
RULES = [rule for rule in agl.Conventions.choices()["width"] if rule not in MEASURES]
each_rule = pytest.mark.parametrize("rule", RULES)
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def by_rule(lib, rule, gamma, v_th, decay, T, alpha=1.0, dtype=np.float64, fixed=1.0):
    c = agl.Conventions(width=rule, fixed_width=fixed)
    return lib.width_of_layer(gamma, v_th, decay, T, dtype, c, alpha)


# gamma_bar = (3/2 + 1/2) / 2 = 1, V_th = 1/2, so kappa_1 = 1; tau = 3/4, so sqrt(1 + tau^2) = 5/4
HAND = {
    "adaptive": [1.0, 1.25, 1.25],
    "first": [1.0, 1.0, 1.0],
    "later": [1.25, 1.25, 1.25],
    "fixed": [0.7, 0.7, 0.7],
    "2 V_th": [1.0, 1.0, 1.0],
    "geometric": [1.0, 1.25, np.sqrt(1 + 9 / 16 + 81 / 256)],
}


@each_rule
def test_rule_is_the_hand_arithmetic(lib, rule):
    received = by_rule(lib, rule, np.array([1.5, 0.5]), 0.5, 0.75, 3, fixed=0.7)
    helpers.assert_close(received, HAND[rule], 1e-15)


def test_named_rules_are_the_hand_arithmetic(lib):
    gamma = np.array([1.5, 0.5])
    assert lib.adaptive_width(gamma, 0.5, 0.75, 3).tolist() == [1.0, 1.25, 1.25]
    assert lib.adaptive_width(gamma, 0.5, 0.75, 3, alpha=2.0).tolist() == [2.0, 2.5, 2.5]
    assert lib.fixed_width(0.7, 3).tolist() == [0.7, 0.7, 0.7]
    helpers.assert_close(lib.geometric_width(gamma, 0.5, 0.75, 3), HAND["geometric"], 1e-15)


@each_rule
@given(
    st.integers(1, 7),
    st.integers(1, 9),
    st.sampled_from([0.0, 0.2, 0.75, 0.999]),
    st.floats(0.1, 2),
    st.floats(0.5, 2),
    st.integers(0, 2**32 - 1),
)
def test_rule_is_the_naive_twin(lib, rule, T, C, decay, v_th, alpha, seed):
    gamma = np.random.default_rng(seed).uniform(0.1, 2, C)
    received = by_rule(lib, rule, gamma, v_th, decay, T, alpha, fixed=0.3)
    helpers.assert_close(received, naive.width_rule(gamma, v_th, decay, T, rule, alpha, 0.3), 1e-14)


@each_rule
def test_rule_in_float32_is_the_naive_twin_rounded_once(lib, rule):
    gamma = np.random.default_rng(5).uniform(0.1, 2, 6).astype(np.float32)
    received = by_rule(lib, rule, gamma, 0.5, 0.2, 4, dtype=np.float32, fixed=0.3)
    expected = naive.width_rule(gamma, 0.5, 0.2, 4, rule, 1.0, 0.3)
    # one rounding, and in case decay or v_th went through float32 first, those four as well
    helpers.assert_close(received, expected, helpers.rounding(np.float32, 5))


@each_dtype
@pytest.mark.parametrize("rule", ["adaptive", "first", "later"])
@pytest.mark.parametrize("gamma", [[1.5, 0.5], [0.75, 1.25, 1.0, 0.125], [2.0], [3.0, -1.0]])
def test_rule_has_the_bits_of_exact_rationals(lib, gamma, rule, dtype):
    fractions = exact.fractions(np.array(gamma))
    half, three_quarters = exact.Fraction(1, 2), exact.Fraction(3, 4)
    expected = exact.width_rule(list(fractions), half, three_quarters, 4, rule)
    received = by_rule(lib, rule, np.array(gamma, dtype), 0.5, 0.75, 4, dtype=dtype)
    helpers.assert_equal(received, exact.floats(np.array(expected), dtype))


@pytest.mark.parametrize("rule", ["adaptive", "later", "geometric"])
def test_rules_agree_with_the_first_timestep_where_the_leak_is_zero(lib, rule):
    gamma = np.array([0.8, 1.3])
    helpers.assert_equal(by_rule(lib, rule, gamma, 0.5, 0.0, 4), by_rule(lib, "first", gamma, 0.5, 0.0, 4))


def test_one_timestep_uses_kappa_1_alone(lib):
    gamma = np.array([0.8, 1.3])
    first = lib.adaptive_width(gamma, 0.5, 0.2, 5)[:1]
    helpers.assert_same_bits(lib.adaptive_width(gamma, 0.5, 0.2, 1), first)


def test_neuron_without_a_norm_has_width_one(lib):
    received = lib.width_of_layer(None, 0.3, 0.2, 4, np.float64)
    assert received.tolist() == [1.0, 1.0, 1.0, 1.0]


@each_dtype
def test_dtype_is_gammas_unless_given(lib, dtype):
    gamma = np.ones(3, dtype)
    assert lib.adaptive_width(gamma, 0.5, 0.2, 2).dtype == dtype
    assert lib.geometric_width(gamma, 0.5, 0.2, 2).dtype == dtype
    assert lib.adaptive_width(gamma, 0.5, 0.2, 2, dtype=np.float32).dtype == np.float32
    assert lib.fixed_width(1.0, 2, dtype).dtype == dtype


# --- collapse -------------------------------------------------------------------------------------


def collapse_said(lib):
    """The engine warns; reference.py, which validates nothing, closes the window in silence."""
    return pytest.warns(agl.WindowCollapsedWarning) if lib is ENGINE else contextlib.nullcontext()


@pytest.mark.parametrize("gamma", [[0.0, 0.0], [1.0, -1.0], [-0.5, -0.25]], ids=str)
@pytest.mark.parametrize("rule", ["adaptive", "first", "later", "geometric"])
@each_dtype
def test_gamma_bar_not_positive_closes_the_window_with_a_warning(lib, gamma, rule, dtype):
    with collapse_said(lib):
        received = by_rule(lib, rule, np.array(gamma, dtype), 0.5, 0.2, 3, dtype=dtype)
    assert received.dtype == dtype and received.tolist() == [0, 0, 0]


def test_the_collapse_warning_names_the_layer():
    with pytest.warns(agl.WindowCollapsedWarning, match="conv2"):
        rules.width_of_layer(np.array([-1.0]), 0.5, 0.2, 3, np.float64, layer="conv2")


def test_fixed_width_ignores_a_negative_gamma(lib):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert by_rule(lib, "fixed", np.array([-1.0]), 0.5, 0.2, 2).tolist() == [1, 1]


@pytest.mark.parametrize("gamma_bar", [0.0, -1.0])
def test_a_collapsed_window_gives_gradients_of_exactly_zero(lib, gamma_bar):
    with collapse_said(lib):
        width = lib.adaptive_width(np.full(2, gamma_bar), 0.5, 0.5, 4)
    x = np.array([[0.5], [0.75], [0.25], [0.375]])  # u_1 lies exactly at the threshold
    s, cache = lib.lif_forward(x, 0.5, 0.5)
    assert s.any() and (cache.u == 0.5).any()
    dx, ddecay = lib.lif_backward(np.ones_like(x), cache, width)
    assert not dx.any() and ddecay == 0


# --- the gradient that may flow through the width -------------------------------------------------


@each_rule
def test_width_gradient_is_a_central_difference(lib, rule):
    c = agl.Conventions(width=rule, width_gradient="flows")
    rng = np.random.default_rng(6)
    gamma, decay, dwidth = rng.uniform(0.5, 1.5, 3), np.array([0.6]), rng.normal(size=5)

    def loss():
        kappa = lib.width_of_layer(gamma, 0.7, float(decay[0]), 5, np.float64, c, 1.3)
        return float((dwidth * kappa).sum())

    dgamma, ddecay = lib.width_gradient(dwidth, gamma, 0.7, 0.6, c, 1.3)
    expected_dgamma = helpers.central_difference(loss, gamma, 1e-6)
    expected_ddecay = helpers.central_difference(loss, decay, 1e-6)
    assert (expected_dgamma == 0).all() == (rule in ("fixed", "2 V_th"))
    assert (expected_ddecay == 0).all() == (rule in ("fixed", "2 V_th", "first"))
    helpers.assert_close(dgamma, expected_dgamma, 1e-7, name="dgamma")
    helpers.assert_close([ddecay], expected_ddecay, 1e-7, name="ddecay")


@pytest.mark.parametrize("name", naive.SURROGATES)
@pytest.mark.parametrize("rule", ["adaptive", "first", "later", "geometric"])
def test_relaxed_gradient_through_the_width_reaches_gamma_and_decay(lib, rule, name):
    # the width is not held constant: it follows gamma and tau at every evaluation of the loss
    c = agl.Conventions(width=rule, width_gradient="flows")
    case = helpers.lif_case(4, (5,), 7, c, decay=0.5, v_th=0.5, relaxed=name)
    gamma, decay = np.array([1.1, 0.9, 0.7]), np.array([0.5])

    def kappa():
        return lib.width_of_layer(gamma, 0.5, float(decay[0]), 4, np.float64, c)

    def loss():
        s, _ = lib.lif_forward(case.x, float(decay[0]), 0.5, c, name, kappa())
        return float((case.ds * s).sum())

    _, cache = lib.lif_forward(case.x, 0.5, 0.5, c, name, kappa())
    helpers.assert_case_is_telling(cache.u, kappa(), 0.5)
    helpers.assert_clear_of(cache.u - 0.5, kappa(), naive.KINKS[name], 1e-3)
    grads = lib.lif_backward_full(case.ds, cache, kappa())
    dgamma, ddecay = lib.width_gradient(grads.dwidth, gamma, 0.5, 0.5, c)
    expected = helpers.central_difference(loss, gamma, 1e-6)
    assert np.abs(expected).min() > 1e-3
    helpers.assert_close(dgamma, expected, 1e-7, name="dgamma")
    total = [float(grads.ddecay) + float(ddecay)]
    helpers.assert_close(total, helpers.central_difference(loss, decay, 1e-6), 1e-7, name="ddecay")


def test_a_collapsed_window_passes_no_gradient_to_gamma(lib):
    c = agl.Conventions(width_gradient="flows")
    dgamma, ddecay = lib.width_gradient(np.ones(3), np.array([-1.0, 0.5]), 0.5, 0.2, c)
    assert not np.any(dgamma) and ddecay == 0


# --- the exact and the measured spread ------------------------------------------------------------


def test_exact_width_is_twice_the_published_standard_deviation():
    # METHOD.md: sigma = gamma_bar V_th = 0.5, tau = 0.5, hard reset
    received = agl.exact_width(np.array([1.5, 0.5]), np.array([0.25, -0.25]), 0.5, 0.5, 5)
    expected = [1.0, 1.065460, 1.078524, 1.082886, 1.084452]
    helpers.assert_close(received, expected, 2e-6, magnitude=1.0)


@each_dtype
def test_exact_width_of_one_timestep_or_no_leak_is_kappa_1(dtype):
    gamma, beta = np.array([0.75, 1.25], dtype), np.array([0.25, 0.5], dtype)
    assert agl.exact_width(gamma, beta, 0.5, 0.9, 1).tolist() == [1.0]
    helpers.assert_close(agl.exact_width(gamma, beta, 0.5, 0.0, 3), [1.0] * 3, helpers.rounding(dtype, 4))
    assert agl.exact_width(gamma, beta, 0.5, 0.9, 3).dtype == dtype


def test_exact_width_without_reset_is_the_geometric_rule():
    c = agl.Conventions(reset="none")
    gamma, beta = np.array([0.8, 1.3]), np.array([0.3, 0.1])
    expected = agl.geometric_width(gamma, 0.7, 0.6, 5, alpha=1.5)
    helpers.assert_close(agl.exact_width(gamma, beta, 0.7, 0.6, 5, c, 1.5), expected, 1e-12)


def measured_layer(reset, input_scale, norm_scale, rule):
    """A block whose tdBN sees independent Gaussian inputs, its conventions and its cache. One input feature and weights 1
    make the norm's input the sample itself.
    """
    c = agl.Conventions(reset=reset, input_scale=input_scale, norm_scale=norm_scale, width=rule)
    block = agl.SpikingBlock("one", agl.Linear(1, 2, bias=False), agl.TdBN(2, alpha=1.5), agl.LIF(0.7, 0.6))
    block.synapse.params["weight"][...] = 1.0
    block.norm.params["gamma"][...] = 0.8
    block.norm.params["beta"][...] = 0.2
    x = np.random.default_rng(10).normal(1.0, 2.0, (4, 10_000, 1))
    _, cache = block.forward(x, caches.Mode(conventions=c))
    return block, c, cache


@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
@pytest.mark.parametrize("input_scale", agl.Conventions.choices()["input_scale"])
@pytest.mark.parametrize("norm_scale", agl.Conventions.choices()["norm_scale"])
def test_block_with_exact_width_has_the_spread_of_its_own_potentials(reset, input_scale, norm_scale):
    _, _, cache = measured_layer(reset, input_scale, norm_scale, "exact")
    u = cache.u[:, :, 0]
    assert cache.s.any(axis=(1, 2)).all() and not cache.s.all()
    d = u - u.mean(axis=1, keepdims=True)
    variance = (d * d).mean(axis=1)
    error = np.sqrt(((d**4).mean(axis=1) - variance**2) / u.shape[1])
    assert (np.abs((cache.width / 2) ** 2 - variance) < 4.5 * error).all()
    _, _, adaptive = measured_layer(reset, input_scale, norm_scale, "adaptive")
    assert not np.allclose(adaptive.width, cache.width, rtol=0.01)


def test_empirical_width_is_twice_the_standard_deviation_by_hand():
    u = np.array([[[0.0, 2.0], [0.0, 2.0]], [[1.0, 2.0], [4.0, 5.0]]])  # deviations 1; 2, 1, 1, 2
    received = agl.empirical_width(u)
    helpers.assert_close(received, [2.0, 2 * np.sqrt(2.5)], 1e-15)


@each_dtype
def test_empirical_width_is_that_of_exact_rationals(dtype):
    u = np.random.default_rng(11).normal(3.0, 0.1, (3, 7, 5)).astype(dtype)
    for t, kappa in enumerate(agl.empirical_width(u)):
        values = exact.fractions(u[t].ravel())
        mean = sum(values) / len(values)
        variance = sum((v - mean) ** 2 for v in values) / len(values)
        assert float(kappa) == pytest.approx(2 * float(variance) ** 0.5, rel=4 * float(np.finfo(dtype).eps))


def small_net(rule, norm=True, dtype=np.float64, **conventions):
    c = agl.Conventions(width=rule, **conventions)
    blocks = [
        agl.SpikingBlock(f"hidden{i}", agl.Linear(6, 6, dtype=dtype, seed=i), agl.TdBN(6, dtype=dtype) if norm else None,
                         agl.PLIF(w=0.0, dtype=dtype))
        for i in (1, 2)
    ]  # fmt: skip
    return agl.Network([*blocks, agl.Readout("fc", 6, 3, dtype=dtype, seed=3)], (6,), c)


def small_batch(dtype=np.float64):
    rng = np.random.default_rng(12)
    return rng.normal(0.5, 2.0, (3, 16, 6)).astype(dtype), rng.integers(0, 3, 16)


@each_dtype
@pytest.mark.parametrize("rule", MEASURES)
@pytest.mark.parametrize("training", [True, False])
def test_network_uses_the_width_and_holds_it_constant(rule, training, dtype):
    net, (x, labels) = small_net(rule, dtype=dtype), small_batch(dtype)
    net.parameters()["hidden1.beta"][...] = np.linspace(-0.2, 0.4, 6)
    trace = net.forward(x, training=training)
    for name, cache in trace.items():
        p = net.parameters()
        if rule == "exact":
            decay = 1 / (1 + np.exp(-float(p[f"{name}.w"])))
            expected = agl.exact_width(p[f"{name}.gamma"], p[f"{name}.beta"], 0.5, decay, 3)
        else:
            expected = 2 * cache.u.reshape(3, -1).std(axis=1, dtype=np.float64)
        helpers.assert_case_is_telling(cache.u, cache.width, 0.5)
        helpers.assert_close(cache.width, expected, helpers.rounding(dtype, 3), name=name)
        assert cache.width.dtype == dtype
    # the same gradients as with these widths given: nothing flows through them
    adaptive = small_net("adaptive", dtype=dtype)
    for name, value in net.parameters().items():
        adaptive.parameters()[name][...] = value
    given = adaptive.forward(x, training=training, widths={name: cache.width for name, cache in trace.items()})
    _, loss = agl.cross_entropy_forward(trace.logits, labels)
    dlogits = agl.cross_entropy_backward(loss)
    received, expected = net.backward(trace, dlogits), adaptive.backward(given, dlogits)
    usual = adaptive.backward(adaptive.forward(x, training=training), dlogits)
    assert not np.array_equal(usual["hidden1.weight"], expected["hidden1.weight"])
    helpers.assert_all_same_bits(received, expected)


def test_empirical_width_needs_no_norm_and_exact_is_one_without():
    x, _ = small_batch()
    for rule in MEASURES:
        trace = small_net(rule, norm=False).forward(x)
        for _, cache in trace.items():
            std = cache.u.reshape(3, -1).std(axis=1)
            assert np.ptp(std) > 0.01
            helpers.assert_close(cache.width, 2 * std if rule == "empirical" else np.ones(3), 1e-14)


def test_a_relaxed_pass_refuses_to_measure_unless_widths_are_given():
    net, (x, _) = small_net("empirical"), small_batch()
    helpers.assert_refused(lambda: net.forward(x, relaxed=True), "widths", "hidden1", "another trace")
    widths = {name: cache.width for name, cache in net.forward(x).items()}
    trace = net.forward(x, relaxed=True, widths=widths)
    assert ((trace["hidden2"].s > 0) & (trace["hidden2"].s < 1)).any()
    helpers.assert_refused(lambda: net.forward(x, relaxed=True, widths={"hidden1": widths["hidden1"]}), "hidden2")
    exact_net = small_net("exact")
    assert ((exact_net.forward(x, relaxed=True)["hidden2"].s % 1) > 0).any()


@pytest.mark.parametrize("gamma_bar", [0.0, -1e-9, -1.0])
def test_exact_width_closes_with_a_warning_that_names_the_layer(gamma_bar):
    net, (x, labels) = small_net("exact"), small_batch()
    net.parameters()["hidden2.gamma"][...] = gamma_bar
    with pytest.warns(agl.WindowCollapsedWarning, match="hidden2"):
        result = net.loss_and_grads(x, labels)
    assert result.trace["hidden2"].width.tolist() == [0, 0, 0]
    assert not result.grads["hidden2.weight"].any() and not result.grads["hidden1.weight"].any()


def test_empirical_width_ignores_the_sign_of_gamma_but_closes_where_all_potentials_are_equal():
    net, (x, _) = small_net("empirical"), small_batch()
    net.parameters()["hidden1.gamma"][...] = -1.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert (net.forward(x)["hidden1"].width > 0.5).all()
    net.parameters()["hidden1.gamma"][...] = 0.0
    with pytest.warns(agl.WindowCollapsedWarning, match="'hidden1' is closed at t = 1"):
        assert net.forward(x)["hidden1"].width[0] == 0


@pytest.mark.parametrize("rule", MEASURES)
def test_a_width_that_is_a_constant_does_not_flow(rule):
    helpers.assert_refused(lambda: agl.Conventions(width=rule, width_gradient="flows"), "width_gradient", rule)


@pytest.mark.parametrize("gamma_bar", [1e-3, 1e-5, 1e-9, 1e-30])
@pytest.mark.parametrize("reset", ["hard", "soft", "none"])
def test_exact_width_where_gamma_bar_is_tiny(gamma_bar, reset):
    """The window of a layer that nearly lost its gamma: silent neurons, whose spread is the whole geometric sum."""
    c = agl.Conventions(reset=reset)
    expected = agl.width.geometric_width(np.full(3, gamma_bar), 0.5, 0.2, 4)
    helpers.assert_close(agl.exact_width(np.full(3, gamma_bar), np.zeros(3), 0.5, 0.2, 4, c), expected, 1e-12)


def test_widths_of_a_neuron_without_a_leak_by_hand(lib):
    gamma = np.array([1.5, 0.5])  # kappa_1 = 2 V_th gamma_bar = 1
    root = 2**0.5
    for rule, expected in {
        "adaptive": [1, root, root, root],
        "first": [1, 1, 1, 1],
        "later": [root, root, root, root],
        "geometric": [1, root, 3**0.5, 2],
    }.items():
        c = agl.Conventions(width=rule)
        helpers.assert_close(lib.width_of_layer(gamma, 0.5, 1.0, 4, np.float64, c), expected, 1e-15, name=rule)
        # dspread/dtau: 1 / sqrt 2 of sqrt(1 + tau^2); (0 + 2 + ... + 2 (t - 1)) / (2 sqrt t) = (t - 1) sqrt(t) / 2
        slopes = {"adaptive": [0, *[1 / root] * 3], "first": [0] * 4, "later": [1 / root] * 4}
        slopes["geometric"] = [0, root / 2, 3**0.5, 3.0]
        for t in range(4):
            _, ddecay = lib.width_gradient(np.eye(4)[t], gamma, 0.5, 1.0, c)
            assert ddecay == pytest.approx(slopes[rule][t], rel=1e-15), rule


@pytest.mark.parametrize("rule", MEASURES)
def test_width_of_layer_says_which_function_has_the_rule(rule):
    helpers.assert_refused(lambda: by_rule(ENGINE, rule, np.ones(2), 0.5, 0.2, 3), f"{rule}_width")


@pytest.mark.parametrize("bad", [[0.5], np.ones(3, int), np.ones(3), np.ones((0, 2))], ids=repr)
def test_empirical_width_refuses(bad):
    helpers.assert_refused(lambda: agl.empirical_width(bad), "u")


def test_exact_width_refuses():
    one = np.ones(2)
    for bad in ((one * np.nan, one), (one, [1.0, 1.0]), (one, one.astype(int))):
        helpers.assert_refused(lambda bad=bad: agl.exact_width(*bad, 0.5, 0.2, 3))
    helpers.assert_refused(lambda: agl.exact_width(one, one, 0.5, 1.5, 3), "decay")
    tiny = np.full(2, 1e-45, np.float32)
    helpers.assert_refused(lambda: agl.exact_width(tiny, 0 * tiny, 0.1, 0.5, 3), "width", "float32")
    helpers.assert_refused(lambda: agl.exact_width(one, one, 0.5, 0.2, 0), "T")


# --- bad input ------------------------------------------------------------------------------------

G = np.ones(3)
BAD = {
    "list": ([1.0], 0.5, 0.2, 2, {}),
    "integers": (G.astype(int), 0.5, 0.2, 2, {}),
    "float16": (G.astype(np.float16), 0.5, 0.2, 2, {}),
    "empty": (G[:0], 0.5, 0.2, 2, {}),
    "rank": (np.ones((2, 3)), 0.5, 0.2, 2, {}),
    "NaN": (G + np.nan, 0.5, 0.2, 2, {}),
    "v_th 0": (G, 0.0, 0.2, 2, {}),
    "v_th NaN": (G, np.nan, 0.2, 2, {}),
    "decay above 1": (G, 0.5, 1.0 + 2**-52, 2, {}),
    "decay negative": (G, 0.5, -0.2, 2, {}),
    "T 0": (G, 0.5, 0.2, 0, {}),
    "T float": (G, 0.5, 0.2, 2.0, {}),
    "alpha infinite": (G, 0.5, 0.2, 2, {"alpha": np.inf}),
    "dtype float16": (G, 0.5, 0.2, 2, {"dtype": np.float16}),
    "dtype int": (G, 0.5, 0.2, 2, {"dtype": int}),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("rule", [agl.adaptive_width, agl.width.geometric_width])
def test_rule_refuses(rule, bad):
    helpers.assert_refused(lambda: rule(*bad[:4], **bad[4]))


@pytest.mark.parametrize(
    "bad", [(-1.0, 2), (np.nan, 2), (np.inf, 2), ("1", 2), (1.0, 0), (1.0, 2, np.float16)], ids=repr
)
def test_fixed_width_refuses(bad):
    helpers.assert_refused(lambda: agl.width.fixed_width(*bad))


@pytest.mark.parametrize("width", [-1.0, np.nan, np.inf, "1", None, True], ids=repr)
def test_conventions_refuse_fixed_width(width):
    helpers.assert_refused(lambda: agl.Conventions(fixed_width=width), "fixed_width")


@pytest.mark.parametrize("field", agl.Conventions.choices())
def test_conventions_refuse_an_unknown_value(field):
    helpers.assert_refused(lambda: agl.Conventions(**{field: "unknown"}), field, "'unknown'")
