"""The potential's law: by hand, by METHOD.md's numbers, by the recursion on a grid, by Monte Carlo of the engine itself."""

import math

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agl_ref as agl
from agl_ref import theory

HARD, SOFT, NONE = (agl.Conventions(reset=reset) for reset in ("hard", "soft", "none"))
LAWS = {"hard": theory.hard_reset, "soft": theory.soft_reset, "none": theory.no_reset}
each_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
every_law = pytest.mark.parametrize("law", [theory.theorem1, *LAWS.values()], ids=["theorem1", *LAWS])


def cdf(z):
    return 0.5 * math.erfc(-z / math.sqrt(2))


# --- closed forms -------------------------------------------------------------------------------------------------


def test_theorem1_is_the_hand_arithmetic():
    # tau = 3/4: sqrt(1 + tau^2) = 5/4 for every t >= 2
    law = theory.theorem1(0.25, 0.5, 0.75, 0.5, 4)
    helpers.assert_close(law.std, [0.5, 0.625, 0.625, 0.625], 1e-15)
    helpers.assert_close(law.mean, [0.25, 0.4375, 0.4375, 0.4375], 1e-15)
    helpers.assert_close(law.firing_probability, [cdf(-0.5), *[cdf(-0.1)] * 3], 1e-15)


def test_no_reset_is_the_hand_arithmetic():
    # tau = 1/2: D(tau, 3) = 7/4, D(tau^2, 3) = 21/16
    law = theory.no_reset(0.25, 0.5, 0.5, 0.5, 3)
    helpers.assert_close(law.mean, [0.25, 0.375, 0.4375], 1e-15)
    helpers.assert_close(law.std, [0.5, 0.5 * math.sqrt(1.25), 0.5 * math.sqrt(21) / 4], 1e-15)


@pytest.mark.parametrize("law", [theory.theorem1, theory.no_reset])
def test_a_neuron_without_a_leak_by_hand(law):
    # tau = 1: D(1, t) = t, so that the variance is t sigma^2 and the mean t mu; Theorem 1 stops at two terms
    terms = np.array([1, 2, 2, 2] if law is theory.theorem1 else [1, 2, 3, 4])
    found = law(0.25, 0.5, 1.0, 0.5, 4)
    helpers.assert_close(found.mean, 0.25 * terms, 1e-15)
    helpers.assert_close(found.std, 0.5 * np.sqrt(terms), 1e-15)
    near = law(0.25, 0.5, 1.0 - 1e-12, 0.5, 4)  # the limit from below
    helpers.assert_close(near.std, found.std, 1e-11)


# METHOD.md: (gamma_bar, tau, coverage with the adaptive width, with width 1), V_th = 0.5, mu = 0, t >= 2
@pytest.mark.parametrize(
    "gamma_bar, tau, adaptive, fixed",
    [
        (1.0, 0.0, 0.477250, 0.477250),
        (1.0, 0.2, 0.483928, 0.475070),
        (2.0, 0.2, 0.626799, 0.336600),
        (0.5, 0.2, 0.166703, 0.499956),
    ],
)
def test_coverage_of_theorem1_is_the_published_table(gamma_bar, tau, adaptive, fixed):
    law = theory.theorem1(0.0, gamma_bar * 0.5, tau, 0.5, 3)
    width = agl.adaptive_width(np.full(2, gamma_bar), 0.5, tau, 3)
    helpers.assert_close(law.coverage(width)[1:], [adaptive] * 2, 5e-7, magnitude=1.0)
    helpers.assert_close(law.coverage(1.0)[1:], [fixed] * 2, 5e-7, magnitude=1.0)


# METHOD.md: mean, standard deviation, firing probability of the hard reset at mu = 0, sigma = tau = V_th = 0.5
HARD_TABLE = [
    (0.0, 0.500000, 0.158655),
    (-0.060493, 0.532730, 0.146066),
    (-0.086484, 0.539262, 0.137887),
    (-0.096210, 0.541443, 0.134849),
    (-0.099860, 0.542226, 0.133713),
]


def test_hard_reset_is_the_published_table():
    law = theory.hard_reset(0.0, 0.5, 0.5, 0.5, 5)
    received = np.stack([law.mean, law.std, law.firing_probability], axis=1)
    helpers.assert_close(received, HARD_TABLE, 6e-7, magnitude=1.0)
    helpers.assert_close(theory.theorem1(0.0, 0.5, 0.5, 0.5, 5).std, [0.5, *[0.559017] * 4], 6e-7, magnitude=1.0)


# --- exact laws against independent ways to compute them ----------------------------------------------------------


def simpson(low, high, n):
    """Points and weights of Simpson's rule with n (even) intervals."""
    x = np.linspace(low, high, n + 1)
    q = np.full(n + 1, 2.0)
    q[1::2] = 4.0
    q[[0, -1]] = 1.0
    return x, q * (high - low) / n / 3


def grid_twin(mu, sigma, tau, v_th, T, reset, reach, n=1200):
    """(mean, std, firing, coverage of width 1) (T, 4) by the recursion as METHOD.md writes it, on grids over
    [-reach, V_th] and [V_th, reach]."""

    def normal(z, m):
        return np.exp(-0.5 * ((z - m) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))

    edges = [-reach, v_th - 0.5, v_th, v_th + 0.5, reach]
    grids = [simpson(a, b, n // 2) for a, b in zip(edges, edges[1:], strict=False)]
    w = np.concatenate([x for x, _ in grids])
    q = np.concatenate([weights for _, weights in grids])
    fired = np.repeat([False, True], len(w) // 2)
    inside = np.repeat([False, True, True, False], len(w) // 4)
    v = np.where(fired, {"hard": 0.0 * w, "soft": w - v_th, "none": w}[reset], w)
    f, rows = normal(w, mu), []
    for _ in range(T):
        mean = (q * f) @ w
        std = math.sqrt((q * f) @ (w - mean) ** 2)
        rows.append((mean, std, (q * f)[fired].sum(), (q * f)[inside].sum()))
        f = normal(w[:, None], mu + tau * v) @ (q * f)
    return np.array(rows)


@pytest.mark.parametrize("reset", LAWS)
@pytest.mark.parametrize(
    "mu, sigma, tau, v_th",
    [
        (0.0, 0.5, 0.5, 0.5),
        (0.3, 0.4, 0.9, 0.7),
        (-0.2, 0.5, 0.99, 0.5),
        (0.9, 0.3, 0.2, 0.5),
        (0.1, 1.5, 0.75, 1.0),
        (0.1, 0.4, 1.0, 0.6),
    ],
)
def test_law_is_the_recursion_on_a_grid(reset, mu, sigma, tau, v_th):
    T = 4
    reach = abs(mu) * (1 + tau + tau**2 + tau**3) + 8 * sigma * math.sqrt(1 + tau**2 + tau**4 + tau**6)
    twin = grid_twin(mu, sigma, tau, v_th, T, reset, reach)
    assert (0.01 < twin[:, 2]).all() and (twin[:, 2] < 0.99).all()  # some fire, some do not
    law = LAWS[reset](mu, sigma, tau, v_th, T)
    received = np.stack([law.mean, law.std, law.firing_probability, law.coverage(1.0)], axis=1)
    helpers.assert_close(received, twin, 2e-8, magnitude=1.0)


def engine_statistics(x, tau, v_th, conventions, width):
    """Per timestep mean, variance, firing rate and coverage of `lif_forward`, and the standard error of each."""
    s, cache = agl.lif_forward(x, tau, v_th, conventions)
    n = x.shape[1]
    d = cache.u - cache.u.mean(axis=1, keepdims=True)
    variance = (d * d).mean(axis=1)
    inside = np.abs(cache.u - v_th) < width / 2
    means = np.stack([cache.u.mean(axis=1), variance, s.mean(axis=1), inside.mean(axis=1)])
    spreads = np.stack([variance, (d**4).mean(axis=1) - variance**2, means[2] * (1 - means[2]),
                        means[3] * (1 - means[3])])  # fmt: skip
    return means, np.sqrt(spreads / n)


@pytest.mark.parametrize("reset", LAWS)
@pytest.mark.parametrize(
    "mu, sigma, tau, v_th, width",
    [
        (0.0, 0.5, 0.5, 0.5, 1.0),
        (0.2, 0.3, 0.9, 0.5, 0.4),
        (-0.3, 1.0, 0.75, 1.0, 2.0),
        (0.3, 0.02, 0.9, 0.82, 0.1),  # a narrow law; half of it fires at t = 3
        (0.05, 0.1, 0.99, 0.25, 0.2),
    ],
)
def test_the_engine_agrees_within_its_statistical_error(reset, mu, sigma, tau, v_th, width):
    T, n = 5, 20_000
    x = np.random.default_rng([7, round(1000 * (mu + 1))]).normal(mu, sigma, (T, n))
    measured, error = engine_statistics(x, tau, v_th, agl.Conventions(reset=reset), width)
    assert measured[2].max() > 0.05 and measured[3].max() > 0.02
    law = LAWS[reset](mu, sigma, tau, v_th, T)
    expected = np.stack([law.mean, law.std**2, law.firing_probability, law.coverage(width)])
    some = np.ones_like(error, bool)
    some[2:] = (n * expected[2:] > 25) & (n * (1 - expected[2:]) > 25)  # rarer events have no Gaussian error
    assert (np.abs(measured - expected)[~some] < 60 / n).all()
    z = (measured - expected)[some] / error[some]
    assert np.abs(z).max() < 4.5, z
    assert some.sum() >= 12


def test_the_engine_disagrees_with_theorem1_and_with_the_other_resets():
    T, n = 5, 20_000
    x = np.random.default_rng(8).normal(0.0, 0.5, (T, n))
    measured, error = engine_statistics(x, 0.5, 0.5, HARD, 1.0)
    for law in (theory.theorem1, theory.no_reset, theory.soft_reset):
        found = law(0.0, 0.5, 0.5, 0.5, T)
        expected = np.stack([found.mean, found.std**2, found.firing_probability])
        z = np.abs((measured[:3] - expected) / error[:3]).max(axis=0)
        assert z[0] < 4.5 and (z[1:] > 4.5).all(), z


def test_a_long_run_forgets_its_start():
    # the firing probability becomes stationary at 1 / (mean time between spikes)
    law = theory.hard_reset(0.2, 0.3, 0.8, 0.5, 60)
    tail = law.firing_probability[-5:]
    assert np.ptp(tail) < 1e-9 and abs(law.firing_probability[0] - tail[0]) > 0.05
    stay = np.array([weights.sum() for weights, _, _ in law.parts])  # P(no spike before age j)
    helpers.assert_close(tail[-1], 1 / stay.sum(), 1e-9)


# --- convergence and extremes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", [theory.hard_reset, theory.soft_reset])
@pytest.mark.parametrize(
    "case", [(0.0, 0.5, 0.5, 0.5, 6), (0.3, 0.1, 0.95, 0.5, 12), (-0.2, 1.0, 0.2, 0.5, 4)], ids=str
)
def test_the_error_falls_fast_with_the_number_of_nodes(law, case):
    def statistics(nodes):
        found = law(*case, nodes=nodes)
        return np.stack([found.mean, found.std, found.firing_probability, found.coverage(0.6)])

    best = statistics(32)
    errors = [np.abs(statistics(nodes) - best).max() for nodes in (2, 4, 6, 8, 10, 12)]
    assert errors[0] > 1e-4  # two nodes are not enough, so the sequence shows something
    assert all(fine < coarse / 20 for coarse, fine in zip(errors, errors[1:], strict=False)), errors
    assert errors[-1] < 1e-10
    assert np.abs(statistics(theory.NODES) - best).max() < 1e-12


@given(
    st.floats(-1.5, 1.5),
    st.floats(1e-3, 3.0),
    st.sampled_from([0.0, 0.2, 0.5, 0.9, 0.99]),
    st.floats(0.1, 2.0),
    st.integers(1, 12),
)
def test_hard_reset_keeps_probability_one_and_its_bounds(mu, sigma, tau, v_th, T):
    law = theory.hard_reset(mu, sigma, tau, v_th, T)
    mass = law.mixing @ np.array([weights.sum() for weights, _, _ in law.parts])
    helpers.assert_close(mass, np.ones(T), 1e-11)
    p = law.firing_probability
    assert ((0 <= p) & (p <= 1 + 1e-12)).all() and (law.std >= sigma * (1 - 1e-9)).all()


@given(st.floats(-1, 1), st.floats(0.02, 2.0), st.sampled_from([0.0, 0.3, 0.95]), st.floats(0.1, 1.0))
def test_soft_reset_keeps_probability_one(mu, sigma, tau, v_th):
    law = theory.soft_reset(mu, sigma, tau, v_th, 5)
    helpers.assert_close([weights.sum() for weights, _, _ in law.parts], np.ones(5), 1e-11)


@each_law
def test_law_scales_with_the_unit_of_the_potential(law):
    small, large = law(2e-4, 3e-4, 0.9, 5e-4, 8), law(2.0, 3.0, 0.9, 5.0, 8)
    helpers.assert_close(small.std * 1e4, large.std, 1e-12)
    helpers.assert_close(small.firing_probability, large.firing_probability, 1e-12)


@each_law
def test_a_threshold_out_of_reach_resets_nothing(law):
    # sigma is 1e-4 of V_th and tau close to 1
    expected = theory.no_reset(0.0, 1e-4, 0.99, 1.0, 40)
    received = law(0.0, 1e-4, 0.99, 1.0, 40)
    helpers.assert_close(received.std, expected.std, 1e-12)
    assert received.firing_probability.max() < 1e-30


def test_a_narrow_law_at_the_threshold_is_still_exact():
    # u_2 = 0.95 +- 1.3e-5 straddles V_th: half of the neurons fire, the others fire at t = 3
    mu, sigma, tau = 0.5, 1e-5, 0.9
    law = theory.hard_reset(mu, sigma, tau, 0.95, 4)
    # t = 4: half are at age 2 (they fired at t = 2), the others at age 1
    helpers.assert_close(law.firing_probability, [0, 0.5, 0.5, 0.25], 1e-10, magnitude=1.0)
    helpers.assert_close(law.mean[3], (0.95 + 0.5) / 2, 1e-9)


@each_law
def test_no_leak_makes_all_timesteps_alike(law):
    received = law(0.1, 0.5, 0.0, 0.5, 4)
    helpers.assert_close(received.std, np.full(4, 0.5), 1e-12)
    helpers.assert_close(received.coverage(0.7), np.full(4, cdf(0.75 / 0.5) - cdf(0.05 / 0.5)), 1e-12)


@every_law
def test_one_timestep_is_the_input(law):
    received = law(0.1, 0.5, 0.9, 0.5, 1)
    assert (received.mean.tolist(), received.std.tolist()) == ([0.1], [0.5])


# --- sigma = 0 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reset, u",
    [("hard", [0.25, 0.375, 0.4375, 0.46875]), ("soft", [0.25, 0.375, 0.4375, 0.46875])],
)
def test_without_spread_and_below_threshold_it_only_leaks(reset, u):
    law = LAWS[reset](0.25, 0.0, 0.5, 0.5, 4)
    assert law.mean.tolist() == u and not law.std.any() and not law.firing_probability.any()


@pytest.mark.parametrize(
    "reset, u, fires",
    [
        ("hard", [0.25, 0.375, 0.25, 0.375], [0, 1, 0, 1]),
        ("soft", [0.25, 0.375, 0.25, 0.375], [0, 1, 0, 1]),  # u - V_th is 0 after the spike, too
        ("none", [0.25, 0.375, 0.4375, 0.46875], [0, 1, 1, 1]),
    ],
)
def test_without_spread_a_potential_at_the_threshold_fires(reset, u, fires):
    law = LAWS[reset](0.25, 0.0, 0.5, 0.375, 4)
    assert (law.mean.tolist(), law.firing_probability.tolist()) == (u, fires)
    assert law.coverage(0.25).tolist() == [float(abs(a - 0.375) < 0.125) for a in u]  # u = 0.25 lies on the edge
    s, cache = agl.lif_forward(np.full((4, 1), 0.25), 0.5, 0.375, agl.Conventions(reset=reset))
    assert (cache.u.ravel().tolist(), s.ravel().tolist()) == (u, fires)


def test_without_spread_the_soft_reset_keeps_the_rest():
    law = theory.soft_reset(0.75, 0.0, 0.5, 0.5, 3)
    assert law.mean.tolist() == [0.75, 0.875, 0.9375]  # v = 0.25, 0.375


@each_law
def test_a_vanishing_spread_tends_to_the_deterministic_law(law):
    sharp, dull = law(0.3, 0.0, 0.9, 0.5, 6), law(0.3, 5e-3, 0.9, 0.5, 6)
    assert 0 < sharp.firing_probability.sum() < 6
    helpers.assert_close(dull.mean, sharp.mean, 1e-9)
    helpers.assert_close(dull.firing_probability, sharp.firing_probability, 1e-9)
    assert (dull.std > 0).all() and (dull.std < 2e-2).all()


@each_law
@pytest.mark.parametrize("sigma", [3.5e-3, 1e-9, 1e-30])
@pytest.mark.parametrize("tau", [0.9, 1.0])
def test_a_spread_too_small_for_the_quadrature_has_the_law_around_the_path(law, sigma, tau):
    """mu = 0.29 leads to 0.55 or 0.58 at t = 2, 12 sigma above V_th = 1/2: everyone fires there, nobody before."""
    found, exact = law(0.29, sigma, tau, 0.5, 5), law(0.29, 3.5e-3, tau, 0.5, 5)  # by quadrature
    if sigma < 1e-3:
        assert all(len(weights) == 1 for weights, _, _ in found.parts), "it was computed by quadrature"
    u, v, age, fires, ages = 0.0, 0.0, 0, [], []
    for _ in range(5):
        u, age = tau * v + 0.29, age + 1
        fires.append(float(u >= 0.5))
        ages.append(age)
        v = {theory.hard_reset: u * (u < 0.5), theory.soft_reset: u - 0.5 * (u >= 0.5), theory.no_reset: u}[law]
        age = 0 if law is theory.hard_reset and u >= 0.5 else age
    assert 0 < sum(fires) < 5
    expected = sigma * np.array([math.sqrt(sum(tau ** (2 * j) for j in range(age))) for age in ages])
    helpers.assert_close(found.std, expected, 1e-9)
    helpers.assert_close(found.firing_probability, fires, 1e-9)
    helpers.assert_close(found.std / sigma, exact.std / 3.5e-3, 1e-9)


# --- density, coverage --------------------------------------------------------------------------------------------


@every_law
def test_density_integrates_to_coverage_and_to_one(law):
    found = law(0.1, 0.4, 0.8, 0.5, 4)
    width = np.array([0.3, 1.0, 0.5, 2.0])
    for t in range(4):
        z, q = simpson(0.5 - width[t] / 2, 0.5 + width[t] / 2, 2000)
        helpers.assert_close(found.density(z)[t] @ q, found.coverage(width)[t], 1e-10)
    z, q = simpson(-8.0, 8.0, 4000)
    helpers.assert_close(found.density(z) @ q, np.ones(4), 1e-10)
    helpers.assert_close(found.density(z) @ (q * z), found.mean, 1e-10)


@every_law
def test_window_closed_and_window_wide(law):
    found = law(0.1, 0.4, 0.8, 0.5, 3)
    assert found.coverage(0.0).tolist() == [0, 0, 0]
    helpers.assert_close(found.coverage(np.full(3, 1e3, np.float32)), np.ones(3), 1e-12)


def test_coverage_of_hard_reset_differs_from_that_of_theorem1():
    width = agl.adaptive_width(np.ones(1), 0.5, 0.9, 4)
    exact, paper = (law(0.0, 0.5, 0.9, 0.5, 4).coverage(width) for law in (theory.hard_reset, theory.theorem1))
    assert exact[0] == pytest.approx(paper[0], abs=1e-12)
    assert (np.abs(exact - paper)[1:] > 0.02).all()


# --- the law of a layer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", LAWS)
@pytest.mark.parametrize("input_scale", ["1", "1 - tau"])
@pytest.mark.parametrize("norm_scale", ["alpha V_th", "1"])
def test_law_of_layer_is_what_tdbn_and_lif_do(reset, input_scale, norm_scale):
    c = agl.Conventions(reset=reset, input_scale=input_scale, norm_scale=norm_scale)
    rng = np.random.default_rng(9)
    T, n, tau, v_th, alpha = 4, 20_000, 0.7, 0.6, 1.5
    gamma, beta = np.full(2, 0.8), np.full(2, 0.2)  # equal channels, so that only sampling error is left
    current, _ = agl.tdbn_forward(rng.normal(3.0, 2.0, (T, n, 2)), gamma, beta, v_th, alpha, conventions=c)
    measured, error = engine_statistics(current.reshape(T, -1), tau, v_th, c, 0.5)
    law = theory.law_of_layer(gamma, beta, v_th, tau, T, c, alpha)
    expected = np.stack([law.mean, law.std**2, law.firing_probability, law.coverage(0.5)])
    assert np.abs((measured - expected) / error).max() < 4.5
    assert measured[2].max() > 0.02
    paper = theory.law_of_layer(gamma, beta, v_th, tau, T, c, alpha, law="theorem1")
    gain = 0.3 if input_scale == "1 - tau" else 1.0
    sigma = gain * 0.8 * (0.9 if norm_scale == "alpha V_th" else 1.0)
    helpers.assert_close(paper.std, sigma * np.sqrt([1, 1.49, 1.49, 1.49]), 1e-14)


def test_law_of_layer_takes_channel_means_and_the_size_of_gamma():
    gamma, beta = np.array([-1.5, -0.5], np.float32), np.array([0.25, -0.75], np.float32)
    law = theory.law_of_layer(gamma, beta, 0.5, 0.2, 3)
    expected = theory.hard_reset(-0.25, 0.5, 0.2, 0.5, 3)
    helpers.assert_equal(law.std, expected.std)
    helpers.assert_equal(law.mean, expected.mean)


# --- bad input ----------------------------------------------------------------------------------------------------

BAD = {
    "mu": (np.nan, 0.5, 0.5, 0.5, 3),
    "sigma": (0.0, -0.1, 0.5, 0.5, 3),
    "decay": (0.0, 0.5, 1.0 + 2**-52, 0.5, 3),
    "v_th": (0.0, 0.5, 0.5, 0.0, 3),
    "T": (0.0, 0.5, 0.5, 0.5, 0),
}


@every_law
@pytest.mark.parametrize("name", BAD)
def test_law_refuses(law, name):
    helpers.assert_refused(lambda: law(*BAD[name]), name)


@pytest.mark.parametrize("law", [theory.hard_reset, theory.soft_reset])
def test_what_would_be_inexact_or_take_hours_is_refused_at_once(law):
    # u_2 = 1/2 = V_th on the mean path: half of the neurons fire there, and only where a potential follows does it matter
    helpers.assert_refused(lambda: law(1 / 3, 1e-7, 0.5, 0.5, 3), "sigma", "t = 2", "'adaptive'", "move beta")
    law(1 / 3, 1e-7, 0.5, 0.5, 2)
    helpers.assert_refused(lambda: law(0.0, 0.5, 0.99999, 0.5, 20_000), "decay", "nodes")
    helpers.assert_refused(lambda: law(0.0, 0.5, 0.5, 0.5, 3, nodes=0), "nodes")
    helpers.assert_refused(lambda: law(0.0, 0.5, 0.5, 0.5, 3, nodes=2.0), "nodes")


def test_soft_reset_refuses_a_range_of_too_many_sigma():
    helpers.assert_refused(lambda: theory.soft_reset(1 / 3, 1e-4, 0.5, 0.5, 5), "quadrature nodes", "t = 2")


@pytest.mark.parametrize(
    "width", [-1.0, np.nan, "1", np.ones(2), np.array([1.0, 1.0, -1.0]), np.ones(3, int)], ids=repr
)
def test_coverage_refuses(width):
    helpers.assert_refused(lambda: theory.theorem1(0.0, 0.5, 0.2, 0.5, 3).coverage(width), "width")


def test_density_refuses_what_has_none():
    helpers.assert_refused(lambda: theory.hard_reset(0.1, 0.0, 0.2, 0.5, 3).density(np.zeros(2)), "sigma")
    helpers.assert_refused(lambda: theory.hard_reset(0.1, 0.5, 0.2, 0.5, 3).density([0.0]), "z")


@pytest.mark.parametrize("law", ["exact", "theorem1"])
def test_law_of_layer_refuses_a_neuron_that_no_input_reaches(law):
    c = agl.Conventions(input_scale="1 - tau")
    call = lambda decay: theory.law_of_layer(np.ones(2), np.zeros(2), 0.5, decay, 3, c, law=law)  # noqa: E731
    assert (call(0.9).std > 0).all()
    helpers.assert_refused(lambda: call(1.0), "decay", "input_scale '1 - tau'", "no input")


def test_law_of_layer_refuses():
    good = np.ones(2)
    helpers.assert_refused(lambda: theory.law_of_layer([1.0], good, 0.5, 0.2, 3), "gamma")
    helpers.assert_refused(lambda: theory.law_of_layer(good, good * np.nan, 0.5, 0.2, 3), "beta")
    helpers.assert_refused(lambda: theory.law_of_layer(good, good, 0.5, 0.2, 3, alpha=0.0), "alpha")
    helpers.assert_refused(lambda: theory.law_of_layer(good, good, 0.5, 0.2, 3, law="theorem2"), "law")
    helpers.assert_refused(lambda: theory.law_of_layer(good, good, 0.5, 0.2, 3, conventions="hard"), "conventions")


@pytest.mark.parametrize("call", [agl.exact_width, agl.theory.law_of_layer], ids=["exact_width", "law_of_layer"])
def test_a_reset_without_an_exact_law_is_refused(call):
    c = agl.Conventions(reset="soft late")
    gamma, beta = np.ones(2), np.zeros(2)
    helpers.assert_refused(lambda: call(gamma, beta, 0.5, 0.5, 3, c), "conventions.reset", "'soft late'", "'hard'")
    law = agl.theory.law_of_layer(gamma, beta, 0.5, 0.5, 3, c, law="theorem1")
    helpers.assert_equal(law.std, agl.theory.theorem1(0.0, 0.5, 0.5, 0.5, 3).std)
