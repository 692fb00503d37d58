"""Figures of the neuron, the surrogate and the backward pass: each is complete, and draws what the library computes."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from twins import naive

import agl_ref as agl
from agl_ref import cli
from agl_ref.course.figures import bptt_by_hand, one_neuron, why_a_surrogate

COMMITTED = Path(__file__).parents[2] / "tutorials" / "figures" / "backward_pass.gif"
RESETS = ("hard", "soft", "none")
ONE = ("neuron_trace", "neuron_by_hand", "leak_factors", "three_resets", "firing_rate")
TWO = ("flat_loss", "training", "surrogate_family", "round_trip", "width_and_learning")
THREE = ("time_graph", "time_graph_in_numbers", "reset_on_off", "quotients", "near_kinks")
ALL = [
    (module, name)
    for module, names in ((one_neuron, ONE), (why_a_surrogate, TWO), (bptt_by_hand, THREE))
    for name in names
]


def texts(ax):
    return [text.get_text() for text in ax.texts]


def lines(ax, marker=None):
    return [line for line in ax.lines if marker is None or line.get_marker() == marker]


@pytest.mark.parametrize("module, name", ALL, ids=[name for _, name in ALL])
def test_every_figure_is_complete_with_its_defaults(module, name):
    fig = getattr(module, name)()
    assert isinstance(fig, Figure)
    assert all(ax.lines or ax.patches or ax.collections for ax in fig.axes)
    sizes = [text.get_fontsize() for text in fig.findobj(Text) if text.get_text()]
    assert min(sizes) >= 12


# --- one neuron -----------------------------------------------------------------------------------


@pytest.mark.parametrize("reset", RESETS)
def test_the_trace_draws_the_potentials_and_spikes_of_a_naive_neuron(reset):
    x = np.random.default_rng(1).normal(0.3, 0.4, (12, 1))
    u, s = naive.lif_forward(x, 0.7, 0.6, agl.Conventions(reset=reset))
    v = {"hard": u * (1 - s), "soft": u - 0.6 * s, "none": u}[reset]
    assert 2 <= s.sum() <= 10
    top, middle, bottom = one_neuron.neuron_trace(x, decay=0.7, v_th=0.6, reset=reset).axes
    np.testing.assert_allclose(lines(middle, "o")[0].get_ydata(), u[:, 0], atol=1e-15)
    np.testing.assert_allclose(lines(middle, "s")[0].get_ydata(), v[:, 0], atol=1e-15)
    drawn = [segment[0, 0] for segment in bottom.collections[0].get_segments()]
    assert drawn == list(np.flatnonzero(s) + 1)
    assert [bar.get_height() for bar in top.patches] == list(x[:, 0])
    assert f"{int(s.sum())} spikes in 12 steps" in top.get_title("left")


def test_a_short_trace_has_its_numbers_written_in():
    _, middle, _ = one_neuron.neuron_trace(one_neuron.HAND_X).axes
    written = texts(middle)
    for number in ("$u_1$ = 0.25", "$u_2$ = 0.625", "$u_3$ = 0.5", "$v_2$ = 0", "$v_3$ = 0"):
        assert number in written
    assert "$v_1$ = 0.25" not in written  # no reset there


def test_the_slides_have_the_neuron_and_the_graph_by_hand_with_their_numbers():
    written = texts(one_neuron.neuron_by_hand().axes[1])
    assert "$u_2$ = 0.625" in written and "$v_2$ = 0" in written
    attached, detached = (texts(bptt_by_hand.time_graph_in_numbers(a).axes[0]) for a in (True, False))
    assert "1.2578125" in attached and "0.6875" in attached and "0.6875" not in detached and "1.5" in detached


def test_the_family_s_legend_says_which_width_is_whose():
    (legend,) = why_a_surrogate.surrogate_family(arctan=2.5).legends
    assert {r"arctan, $\kappa$ = 2.5", r"gaussian, $\kappa$ = 1"} <= {text.get_text() for text in legend.get_texts()}


def test_one_strong_input_fires_once_twice_and_four_times():
    fig = one_neuron.three_resets()
    assert [ax.get_title("left") for ax in fig.axes] == ["hard: 1 spike", "soft: 2 spikes", "none: 4 spikes"]
    soft = lines(fig.axes[1], "o")[0].get_ydata()
    np.testing.assert_array_equal(soft[:3], [1.25, 0.5625, 0.75 * 0.0625])


def test_leak_factors_has_whole_timesteps_on_its_axis():
    for T in (2, 6, 12):
        for ax in one_neuron.leak_factors(T=T).axes:
            assert all(tick == round(tick) for tick in ax.get_xticks())


def test_leaks_are_powers_and_geometric_series():
    left, right = one_neuron.leak_factors(decays=(0.25, 0.5), x=0.5, T=6).axes
    for pulse, constant, decay in zip(lines(left), lines(right), (0.25, 0.5), strict=False):
        np.testing.assert_array_equal(pulse.get_ydata(), decay ** np.arange(6))
        np.testing.assert_array_equal(constant.get_ydata(), 0.5 * (1 - decay ** np.arange(1, 7)) / (1 - decay))


def test_firing_rates_follow_from_the_time_of_the_first_spike():
    inputs = np.array([0.2, 0.3, 0.375, 0.5])  # tau = 1/2: never; 0.3, 0.45, 0.525; 0.375, 0.5625; at once
    np.testing.assert_allclose(one_neuron.firing_rates(inputs, 0.5, T=600), [0, 1 / 3, 1 / 2, 1])


# --- why a surrogate ------------------------------------------------------------------------------


def test_the_true_derivative_moves_nothing_and_the_surrogate_solves_the_toy():
    stuck, cured = (why_a_surrogate.train_toy(width, steps=60) for width in (0.0, 1.0))
    assert (stuck.gradient == 0).all() and (stuck.loss == 6.5).all() and (stuck.spikes == stuck.spikes[0]).all()
    np.testing.assert_array_equal(stuck.spikes[0], cured.spikes[0])
    np.testing.assert_array_equal(cured.spikes[-1], why_a_surrogate.toy().target[:, 0])
    assert cured.loss[-1] == 0 and cured.gradient[0] > 0


def test_toys_side_by_side_are_the_toys_one_by_one():
    together = why_a_surrogate.train_toys(1.0, "gaussian", steps=25, seeds=(1, 4))
    for seed, run in zip((1, 4), together, strict=True):
        alone = why_a_surrogate.train_toy(1.0, "gaussian", steps=25, seed=seed)
        np.testing.assert_allclose(run.loss, alone.loss)
        np.testing.assert_allclose(run.gradient, alone.gradient)
    assert together[0].loss[0] != together[1].loss[0]


def test_the_raster_shows_every_spike_of_the_runs():
    run = why_a_surrogate.train_toy(1.0, steps=30)
    fig = why_a_surrogate.training({"a": run})
    raster = [line for line in fig.axes[0].lines if line.get_marker() == "."][0]
    assert sorted(zip(*raster.get_data(), strict=True)) == sorted(
        (t + 1, k) for k, t in zip(*np.nonzero(run.spikes), strict=True)
    )


def test_the_flat_loss_is_a_staircase_beside_a_continuous_curve():
    spiking, relaxed = (line.get_ydata() for line in why_a_surrogate.flat_loss().axes[0].lines)
    jumps = np.abs(np.diff(spiking))
    assert set(np.unique(jumps * 2)) <= set(range(5)) and 0 < (jumps > 0).sum() < 20  # halves, and few
    assert np.abs(np.diff(relaxed)).max() < 0.02 and np.ptp(relaxed) > 1


def test_the_family_is_drawn_at_the_widths_asked_for():
    widths = dict(rectangular=0.5, triangular=1.0, sigmoid=2.0, arctan=3.0, gaussian=4.0, fast_sigmoid=2.5)
    left, right = why_a_surrogate.surrogate_family(**widths).axes
    for derivative, primitive, (name, width) in zip(left.lines, right.lines[1:], widths.items(), strict=True):
        z = derivative.get_xdata()
        for i in (0, 700, 1000, 1200, 2000):
            assert derivative.get_ydata()[i] == pytest.approx(
                naive.surrogate_derivative(z[i], width, name, agl.MPD_AGL)
            )
            assert primitive.get_ydata()[i] == pytest.approx(naive.surrogate_primitive(z[i], width, name, agl.MPD_AGL))


def test_narrow_windows_fail_and_the_losses_are_the_runs():
    losses = why_a_surrogate.final_losses((0.02, 1.0), seeds=(0, 1), steps=60)
    run = why_a_surrogate.train_toy(0.02, steps=60, seed=0)
    assert losses.shape == (2, 2) and losses[0, 0] == run.loss[-20:].mean()
    assert losses[0].min() > 1 and losses[1].max() == 0


def test_the_line_of_medians_hides_no_seed():
    ax = why_a_surrogate.width_and_learning((1.0, 2.0), np.array([[0.0, 1, 2], [3, 4, 5]])).axes[0]
    (median,) = (line for line in ax.lines if line.get_label() == "median")
    seeds = [line for line in ax.lines if line.get_marker() == "o" and len(line.get_xdata()) == 3]
    assert median.get_ydata().tolist() == [1, 4] and median.get_marker() == "None" and len(seeds) == 2
    assert all(median.get_zorder() < line.get_zorder() for line in seeds)


def test_only_a_gradient_of_a_function_sums_to_zero_round_a_square():
    assert abs(why_a_surrogate.gain_of_walk(relaxed=True)) < 1e-7
    assert why_a_surrogate.gain_of_walk(relaxed=False) > 0.03
    at, step = why_a_surrogate.walk_round(points=50)
    np.testing.assert_allclose(step.sum(axis=1), 0, atol=1e-15)
    np.testing.assert_allclose((at[0] * step[1]).sum(), 0.15**2)  # the area it encloses, once, anticlockwise
    s, _ = agl.lif_forward(at, 0.5, 0.5)
    assert s.sum() == 0


# --- backpropagation through time by hand ---------------------------------------------------------


@pytest.mark.parametrize("attached, expected", [(True, [1.2578125, 0.6875, 1]), (False, [1.5, 1, 1])])
def test_the_sum_over_all_paths_of_the_graph_is_the_gradient(attached, expected):
    edges = bptt_by_hand.local_derivatives(attached)

    def total(node):
        return 1.0 if node == "L" else sum(d * total(b) for (a, b), d in edges.items() if a == node)

    assert [total(f"x{t}") for t in (1, 2, 3)] == expected
    assert bptt_by_hand.hand_gradients(attached)["du"].tolist() == expected
    assert len(edges) == (17 if attached else 14)


def test_the_graph_carries_its_numbers():
    written = texts(bptt_by_hand.time_graph(numbers=True).axes[0])
    for number in ("1.2578125", "0.9140625", "0.34375", "0.6875", "-0.625"):
        assert number in written
    assert "-0.625" not in texts(bptt_by_hand.time_graph(numbers=True, attached=False).axes[0])


def test_both_gradients_of_the_reset_are_drawn():
    left, right = bptt_by_hand.reset_on_off().axes
    assert [bar.get_height() for bar in left.patches] == [1.2578125, 0.6875, 1, 1.5, 1, 1]
    attached, detached = bptt_by_hand.reset_pairs()
    cloud = lines(right, ".")[0]
    np.testing.assert_array_equal(cloud.get_xdata(), attached.ravel())
    np.testing.assert_array_equal(cloud.get_ydata(), detached.ravel())
    assert not np.array_equal(attached, detached)


def test_quotients_of_the_spiking_neuron_say_nothing_and_of_the_relaxed_one_agree():
    left, right = bptt_by_hand.quotients(np.array([1e-5, 1e-3])).axes
    spiking = [line.get_ydata() for line in left.lines]
    np.testing.assert_array_equal(spiking[0], 0)
    np.testing.assert_array_equal(spiking[1], 0)
    np.testing.assert_allclose(spiking[2], [5e4, 5e2])
    small, large = right.lines[0].get_ydata()
    assert small < 1e-9 < large < 1e-6


def test_quotients_are_wrong_near_kinks_only():
    distance, error = bptt_by_hand.kink_errors(samples=1000)
    assert (distance < 1e-3).any() and error[distance < 1e-3].max() > 0.05
    assert error[distance > 1.5e-3].max() < 1e-6 and (distance > 1.5e-3).mean() > 0.9


def test_mistakes_leave_gradients_of_their_own_where_the_numbers_can_tell_them_apart():
    wrong = bptt_by_hand.wrong_gradients()
    right = wrong.pop("none").tolist()
    assert right == [1.2578125, 0.6875, 1] and wrong["the reset is detached"].tolist() == [1.5, 1, 1]
    seen = {name: gradient for name, gradient in wrong.items() if gradient.tolist() != right}
    assert len({tuple(gradient) for gradient in seen.values()}) == len(seen) == 7
    assert all(gradient[2] == 1 and gradient[0] != 1.2578125 for gradient in seen.values())
    x = np.array([[0.5], [0.25], [-0.125], [1.0], [0.625]])
    telling = bptt_by_hand.wrong_gradients(x, 0.25, 0.5, (0.25, 1.0, 1.0, 1.0, 0.25))
    assert len({tuple(gradient) for gradient in telling.values()}) == len(wrong) + 1 == 13


# --- the film of the backward pass ----------------------------------------------------------------


def value_of(text):
    """The number that a step arrives at, out of its text."""
    return float(text.replace("$", "").rpartition("=")[2])


def test_the_film_s_steps_are_the_backward_pass_in_its_order():
    steps = bptt_by_hand.backward_steps()
    assert [node for _, node, _ in steps] == [
        "v3", "s3", "u3", "x3", "v2", "s2", "u2", "x2", "v1", "s1", "u1", "x1", None]  # fmt: skip
    numbers = [text[:4] for text, node, _ in steps[1:-1]]
    assert numbers == ["(B1)", "(B2)", "(B3)", "(B5)"] * 2 + ["(B1)", "(B2)", "(B3)"]
    arrived = {node: value_of(text) for text, node, _ in steps[:-1]}
    edges = bptt_by_hand.local_derivatives()
    for _, node, used in steps[1:-1]:  # each is the sum over its edges of derivative times what came back there
        assert arrived[node] == sum(edges[edge] * arrived.get(edge[1], 1.0) for edge in used), node
        assert set(used) == {edge for edge in edges if edge[0] == node}
    assert [arrived[f"x{t}"] for t in (1, 2, 3)] == [1.2578125, 0.6875, 1] and "1.2578125, 0.6875, 1" in steps[-1][0]


def test_a_film_is_written_and_names_what_is_missing(tmp_path, capsys, monkeypatch):
    assert cli.main(["figures", str(tmp_path / "slides"), "--animation", "gif"]) == 0
    (path,) = (tmp_path / "slides").iterdir()
    assert capsys.readouterr().out.strip() == str(path) and path.name == "backward_pass.gif"
    with Image.open(path) as film:
        assert film.n_frames == len(bptt_by_hand.backward_steps()) and film.info["duration"] == 2500
        if COMMITTED.is_file():  # the tutorials may not be installed
            with Image.open(COMMITTED) as committed:
                assert (committed.n_frames, committed.size) == (film.n_frames, film.size)
            assert COMMITTED.stat().st_size < 300_000
    monkeypatch.setattr(bptt_by_hand.FFMpegWriter, "isAvailable", classmethod(lambda cls: False))
    assert cli.main(["figures", str(tmp_path / "slides"), "--animation", "mp4"]) == 3
    error = capsys.readouterr().err
    assert "expected the program ffmpeg, received none; install it, or write a .gif" in error and error.count("\n") == 1
    assert [found.name for found in (tmp_path / "slides").iterdir()] == ["backward_pass.gif"]
    with pytest.raises(ValueError, match="ends in .gif or .mp4"):
        bptt_by_hand.save_animation(tmp_path / "a.png")
