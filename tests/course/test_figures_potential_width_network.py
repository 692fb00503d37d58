"""Figures of the potential, the width and the network: each is complete by itself, and shows what the notebooks say of it."""

import os

import numpy as np
import pytest
from matplotlib.figure import Figure

from agl_ref import theory
from agl_ref.course import figures
from agl_ref.course.figures import adaptive_width, conv_snn, membrane_potential
from agl_ref.engine import parallel

needs_jit = pytest.mark.skipif(
    bool(os.environ.get("NUMBA_DISABLE_JIT")), reason="trains networks: minutes without the JIT"
)


def ydata(ax, index=0):
    return np.asarray(ax.lines[index].get_ydata(), float)


def words(figure):
    """All text in a figure."""
    texts = [text.get_text() for ax in figure.axes for text in (*ax.texts, ax.xaxis.label, ax.yaxis.label)]
    texts += [ax.get_title(loc="left") for ax in figure.axes]
    return "\n".join(texts + [text.get_text() for legend in figure.legends for text in legend.get_texts()])


@pytest.fixture
def small(monkeypatch):
    """Networks of notebook 6 trained for two steps on a few images, so that its figures take seconds in tests."""
    few = conv_snn.fashion(40, 50)
    monkeypatch.setattr(conv_snn, "fashion", lambda *_: few)
    monkeypatch.setattr(conv_snn, "DEEP", 4)

    def run(depth, window="adaptive"):
        return conv_snn.fit(conv_snn.chain(depth, window), *few, epochs=1, batch=3)

    monkeypatch.setattr(conv_snn, "run", run)
    return few


# --- the membrane potential -----------------------------------------------------------------------


@needs_jit
def test_weights_scaled_shows_the_silent_network_and_its_cure():
    figure = figures.weights_scaled()
    assert isinstance(figure, Figure)
    plain, normed = figure.axes
    half, one, two = (ydata(plain, i) for i in range(3))
    assert half[-1] < 0.1 and 10 < one[-1] < 20 and two[-1] > 30  # percent that fire in layer 5
    cured = np.array([ydata(normed, i) for i in range(3)])
    assert np.ptp(cured, axis=0).max() < 0.5 and cured.min() > 10
    assert "all three the same" in words(figure)


def test_potential_histograms_have_a_panel_for_each_layer_and_timestep():
    figure = figures.potential_histograms()
    assert isinstance(figure, Figure) and len(figure.axes) == 12
    for name in ("conv1", "conv2", "conv3", "t = 4", "std 0.50"):
        assert name in words(figure)
    for ax in figure.axes:
        shares = np.array([patch.get_height() for patch in ax.patches if patch.get_width() < 0.2])
        assert np.isclose(shares.sum() * 5.5 / 66, 1.0, atol=1e-6)  # densities over 66 bins from -3 to 2.5


def test_spread_without_reset_is_the_geometric_sum_beside_two_terms():
    figure = figures.spread_without_reset(decays=(0.5,), steps=4)
    assert isinstance(figures.spread_without_reset(), Figure)
    (ax,) = figure.axes
    assert np.allclose(ydata(ax, 0), np.sqrt([1, 1.25, 1.3125, 1.328125]), atol=1e-12)
    assert np.allclose(ydata(ax, 1), np.sqrt([1, 1.25, 1.25, 1.25]), atol=1e-12)


def test_density_with_reset_draws_densities_that_the_simulation_agrees_with():
    figure = figures.density_with_reset()
    assert isinstance(figure, Figure) and len(figure.axes) == 4
    exact = figure.axes[3].lines[0]
    z, density = exact.get_data()
    assert np.isclose(np.trapezoid(density, z) if hasattr(np, "trapezoid") else np.trapz(density, z), 1, atol=1e-3)
    bars = np.array([patch.get_height() for patch in figure.axes[3].patches])
    middles = np.array([patch.get_x() + patch.get_width() / 2 for patch in figure.axes[3].patches])
    assert np.abs(bars - np.interp(middles, z, density)).max() < 0.02  # of a peak of 0.75
    assert np.abs(bars - np.interp(middles, *figure.axes[3].lines[1].get_data())).max() > 0.05  # not Theorem 1
    assert "exact std 0.541" in words(figure) and "Theorem 1 0.559" in words(figure)


def test_theorem1_error_turns_its_sign_with_the_mean_input():
    figure = figures.theorem1_error()
    assert isinstance(figure, Figure)
    quiet, _, busy = (ydata(figure.axes[0], i) for i in range(3))
    assert quiet[0] == pytest.approx(0, abs=1e-6) and quiet[-1] < -30 and busy[-1] > 20
    at_default = [ydata(figure.axes[0], i)[4] for i in range(3)]  # tau = 0.2
    assert np.abs(at_default).max() < 2


def test_spread_in_a_network_is_the_exact_law_once_shuffled():
    figure = figures.spread_in_a_network()
    assert isinstance(figure, Figure) and [ax.get_title(loc="left") for ax in figure.axes] == [
        "conv1",
        "conv2",
        "conv3",
    ]
    for ax in figure.axes:
        measured, paper, exact, shuffled = (ydata(ax, i) for i in range(4))
        assert np.abs(shuffled - exact).max() < 0.015 < 0.1 < (measured - exact)[3]
        assert paper[1] == pytest.approx(0.5 * np.sqrt(1.25))


def test_input_current_is_what_the_neurons_integrated():
    trace = membrane_potential.small_trace()
    x = membrane_potential.input_current(trace, "conv2")
    cache = trace["conv2"]
    u, v = cache.u.reshape(4, -1), cache.v.reshape(4, -1)
    assert np.allclose(u[0], x[0]) and np.allclose(u[2], 0.5 * v[1] + x[2])


# --- the adaptive width ---------------------------------------------------------------------------


@pytest.mark.parametrize("gamma, decay, beta", [(1.0, 0.2, 0.0), (0.2, 0.0, -1.5), (3.0, 0.95, 1.5)])
def test_window_on_density_takes_every_position_of_its_sliders(gamma, decay, beta):
    assert isinstance(figures.window_on_density(gamma, decay, beta), Figure)


def test_window_on_density_says_the_coverage():
    text = words(figures.window_on_density(gamma=1.0))
    assert "adaptive, width 1.00: covers 48%" in text and "adaptive, width 1.02: covers 47%" in text
    assert "fixed, width 1.00: covers 48%" in text  # at gamma = 1 they are the same window
    opened = words(figures.window_on_density())  # where the sliders start: two windows that differ
    assert "adaptive, width 2.50: covers 64%" in opened and "fixed, width 1.00: covers 29%" in opened
    kappa = 2 * np.sqrt(1.04)
    share = theory.hard_reset(0.0, 1.0, 0.2, 0.5, 4).coverage(np.array([2.0, kappa, kappa, kappa]))
    assert f"adaptive, width {kappa:.2f}: covers {share[3]:.0%}" in words(figures.window_on_density(gamma=2.0))


def test_coverage_by_gamma_crosses_where_the_windows_are_one():
    figure = figures.coverage_by_gamma()
    gammas = figure.axes[0].lines[0].get_xdata()
    adaptive, fixed = (ydata(figure.axes[0], i) for i in range(2))
    same = 1 / np.sqrt(1.04)  # 2 sqrt(1 + tau^2) gamma V_th = 1
    assert (adaptive[gammas > 1.01 * same] > fixed[gammas > 1.01 * same]).all()
    assert (adaptive[gammas < 0.99 * same] < fixed[gammas < 0.99 * same]).all()
    assert np.allclose(adaptive_width.gaussian_coverage(2.0, 0.0, 0.2), (0.626799, 0.336600), atol=1e-6)
    assert np.allclose(adaptive_width.gaussian_coverage(0.5, 0.0, 0.2), (0.166703, 0.499956), atol=1e-6)


def test_curves_over_gamma_say_what_they_hold_fixed():
    for name in ("coverage_by_gamma", "factor_by_gamma"):
        text = words(getattr(figures, name)(decay=0.25))
        for fixed in (r"$t \geq 2$", r"$\tau$ = 0.25", "$V_{th}$ = 0.5", r"$\bar\beta$ = 0"):
            assert fixed in text, (name, fixed)


def test_factor_by_gamma_is_flat_for_the_adaptive_window_alone():
    figure = figures.factor_by_gamma()
    gammas = figure.axes[0].lines[0].get_xdata()
    adaptive, fixed = (ydata(figure.axes[0], i)[gammas >= 1] for i in range(2))
    assert adaptive.min() > 0.8 and adaptive.max() < 0.95 and fixed[-1] > 2 * fixed[0]


def test_layer_factor_by_hand():
    # tau = 0, gamma = 1: p = P(Z > 1) = 0.158655, coverage P(0 < Z < 2) = 0.477250, kappa = 1
    expected = 0.5 / np.sqrt(0.158655 * 0.841345) * np.sqrt(0.477250)
    assert np.allclose(adaptive_width.layer_factor(1.0, decay=0.0), expected, rtol=1e-5)


@needs_jit
def test_layer_factor_predicts_what_a_deep_network_does():
    train, _ = conv_snn.fashion()
    few = conv_snn.Images(train.x[:, :100], train.labels[:100])
    for window, width in (("1", 1.0), ("0.2", 0.2), ("5", 5.0)):
        _, norms = conv_snn.by_depth(conv_snn.chain(8, window), few)
        measured = (norms[1] / norms[-1]) ** (1 / 6)  # layer 1 reads the image, not spikes
        assert measured == pytest.approx(adaptive_width.layer_factor(1.0, width=width)[1], rel=0.2)


def test_coverage_by_beta_peaks_where_the_mean_meets_the_threshold():
    figure = figures.coverage_by_beta()
    for ax in figure.axes:
        for index in range(2):
            betas, y = ax.lines[index].get_data()
            assert betas[np.argmax(y)] == pytest.approx(0.5 / 1.2, abs=0.05)
    small_gamma, _, large_gamma = figure.axes
    assert (ydata(small_gamma, 0) <= ydata(small_gamma, 1)).all()
    assert (ydata(large_gamma, 0) >= ydata(large_gamma, 1)).all()


def test_coverage_in_a_network_follows_theorem_1():
    figure = figures.coverage_in_a_network()
    assert isinstance(figure, Figure)
    for ax in figure.axes:
        predicted = np.array([bar.get_height() for bar in ax.patches])
        measured = np.array([ydata(ax, i) for i in range(3)])  # layers, gammas
        assert np.abs(measured - predicted).max() < 13
        assert (np.diff(predicted) > 0).all() == (ax is figure.axes[0])


def test_learning_tau_ends_at_the_teachers_leak():
    figure = figures.learning_tau()
    left, right = figure.axes
    for index in range(3):
        assert ydata(left, index)[-1] == pytest.approx(0.8, abs=0.01)
        assert np.allclose(ydata(right, index), np.sqrt(1 + ydata(left, index) ** 2))
    assert np.allclose(sorted(ydata(left, i)[0] for i in range(3)), (0.2, 0.5, 0.95))


# --- a convolutional network ----------------------------------------------------------------------


def test_kernels_on_an_image_are_cross_correlations():
    figure = figures.kernels_on_an_image(np.eye(5), {"left": [[0, 0, 0], [1, 0, 0], [0, 0, 0]]})
    assert isinstance(figures.kernels_on_an_image(), Figure)
    assert np.array_equal(figure.axes[0].images[0].get_array(), np.eye(5, k=1))  # each pixel shows its left neighbour


@needs_jit
def test_layers_by_depth_shows_the_explosion_and_the_vanishing(small):
    figure = figures.layers_by_depth()
    assert isinstance(figure, Figure)
    coverage, norms = figure.axes
    names = list(conv_snn.WINDOWS)
    first_to_last = {name: ydata(norms, 2 * i)[0] / ydata(norms, 2 * i)[-1] for i, name in enumerate(names)}
    assert first_to_last["0.2"] > 5 and first_to_last["5"] < 0.1 and 0.5 < first_to_last["adaptive"] < 2
    assert ydata(coverage, names.index("5")).min() > 99 and ydata(coverage, names.index("0.2")).max() < 20
    assert len(ydata(norms, 0)) == 4


def test_layers_by_depth_leaves_out_layers_without_gradient():
    layers = (np.array([0.0, 0.5, 0.5]), np.array([0.0, 1.0, 2.0]))
    figure = figures.layers_by_depth({"0.2": layers}, predicted=False)
    assert np.isnan(ydata(figure.axes[1])[0]) and ydata(figure.axes[1])[1] == 1
    assert "width 0.2" in words(figure)  # in a legend: a label beside a curve would lie under another on some machine


@needs_jit
@pytest.mark.parametrize(
    "name", ["training_curves", "accuracies", "threshold_sweep", "spikes_inside", "layers_after_training"]
)
def test_figures_of_trained_networks_are_complete_by_themselves(name, small):
    assert isinstance(getattr(figures, name)(), Figure)


def test_training_curves_name_each_window_and_its_accuracy(small):
    right = np.array([True, False, False, False])
    runs = {(3, window): conv_snn.Run(None, np.linspace(2, 1, 12), right) for window in conv_snn.WINDOWS}
    figure = figures.training_curves(runs)
    for text in ("adaptive: 25%", "width 0.2: 25%", "width 5: 25%", "3 layers"):
        assert text in words(figure)
    assert np.allclose(ydata(figure.axes[0])[-1], np.linspace(2, 1, 12)[6:].mean())


def test_accuracies_keep_a_window_s_colour_and_tell_depths_apart_by_markers():
    runs = {(d, w): conv_snn.Run(None, None, np.array([True, False])) for d in (3, 8) for w in ("adaptive", "1")}
    ax = figures.accuracies(runs).axes[0]
    drawn = [(bar[0].get_color(), bar[0].get_marker()) for bar in ax.containers]
    colours = [conv_snn.LOOK[window]["color"] for window in ("adaptive", "1")]
    assert drawn == [(colour, marker) for marker in "oD" for colour in colours]
    legend = {handle.get_color() for handle in ax.get_legend().legend_handles}
    assert not legend & set(colours)


def test_threshold_sweep_draws_every_seed_and_the_means():
    right = np.array([[True, True, True, False], [True, False, False, False]])  # 75 and 25 %
    swept = {("width 1", 0.5): right, ("width 1", 32.0): ~right, ("adaptive", 0.5): right}
    figure = figures.threshold_sweep(swept, {("1", 0.5): 0.5, ("1", 32.0): 0.01})
    coverage, accuracy = figure.axes
    assert ydata(coverage).tolist() == [50, 1]
    at_half, at_32 = (line.get_ydata() for line in accuracy.lines[:2])  # a line per seed, of markers alone
    assert at_half.tolist() == [75, 25] and at_32.tolist() == [25, 75] and accuracy.lines[0].get_linestyle() == "None"
    assert ydata(accuracy, 2).tolist() == [50, 50] and accuracy.lines[2].get_linestyle() == "-"
    assert "1/2" in [label.get_text() for label in accuracy.get_xticklabels()]


@needs_jit
def test_the_sweep_s_settings_are_what_they_are_called(small, monkeypatch):
    monkeypatch.setattr(conv_snn, "SWEPT", 2)
    swept = conv_snn.sweep(seeds=(0, 1))
    low, high = conv_snn.THRESHOLDS[0], conv_snn.THRESHOLDS[-1]
    assert all(right.shape == (2, 50) for right in swept.values())
    assert np.array_equal(
        swept["adaptive, shift in units of V_th", low], swept["adaptive, shift in units of V_th", high]
    )
    assert not np.array_equal(swept["adaptive", low], swept["adaptive", high])
    covered = {
        w: [conv_snn.by_depth(conv_snn.chain(2, w, v), small[0])[0] for v in (low, high)] for w in ("1", "adaptive")
    }
    assert np.array_equal(*covered["adaptive"]) and (covered["1"][0] > 0.9).all() and (covered["1"][1] < 0.1).all()


def test_spikes_inside_draws_the_spikes(small):
    net = conv_snn.fit(conv_snn.chain(2), *small, epochs=2, batch=10).net
    figure = figures.spikes_inside(net, small[1])
    trace = net.forward(small[1].x[:, :1], training=False)
    drawn = [ax.images[0].get_array() for ax in figure.axes if ax.images]
    assert np.array_equal(drawn[1], trace["conv1"].s[-1, 0, :, :, 0]) and 0 < np.mean(drawn[1:7]) < 1


@needs_jit
def test_fit_learns_and_leaves_the_number_of_threads_alone(small):
    before = parallel.threads()
    result = conv_snn.fit(conv_snn.chain(2), *small, epochs=6, batch=10)
    assert parallel.threads() == before
    assert result.losses[0] > 2 and result.losses[-4:].mean() < 1.7 and result.right.shape == (50,)
    again = conv_snn.fit(conv_snn.chain(2), *small, epochs=6, batch=10)
    assert np.array_equal(again.losses, result.losses)


def test_standard_errors_by_hand():
    right, other = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 0], bool)
    assert conv_snn.standard_error(right) == pytest.approx(np.sqrt(0.75 * 0.25 / 4))
    difference, error = conv_snn.paired_difference(right, other)  # 0, 1, 1, 0
    assert difference == 0.5 and error == pytest.approx(0.5 / 2)
