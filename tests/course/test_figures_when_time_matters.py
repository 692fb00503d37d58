"""Notebook 9's figures and trainings: what they draw, the cut way back, its exercises against the library and by hand."""

import numba
import numpy as np
import pytest
from matplotlib.figure import Figure

import agl_ref as agl
from agl_ref.course import figures
from agl_ref.course.exercises import find
from agl_ref.course.figures import when_time_matters as lab

needs_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="a training takes minutes without the JIT")


def samples(name):
    return [arguments for student in ("", "ada", 7) for _, arguments in find(name).inputs(student)]


# --- exercises --------------------------------------------------------------------------------------------------------


def test_frames_are_those_of_the_library_s_recordings():
    for times, T, duration in samples("spike_frames"):
        rows = [sorted((t, unit) for unit, t in enumerate(row)) for row in times.tolist()]
        events = [np.array([(unit, 0, t) for t, unit in row], [(key, int) for key in "xyt"]) for row in rows]
        frames = agl.data.Recordings(events, (1, times.shape[1]), channels=1, duration=duration).frames(T)
        np.testing.assert_array_equal(find("spike_frames").reference(times, T, duration), frames[:, :, 0, :, 0])


def test_a_gradient_forwards_in_time_is_that_of_bptt_without_a_reset():
    for x, e, decay in samples("forward_gradient"):
        _, cache = agl.lif_forward(np.zeros(e.shape), decay, 0.5, agl.Conventions(reset="none"))
        du, _ = agl.lif_backward(2 * e, cache, np.full(len(e), 2.0))  # u = 0 is inside, of height 1/2
        forwards = find("forward_gradient").reference(x, e, decay)
        np.testing.assert_allclose(forwards, np.einsum("tnf,tnc->fc", x, du), rtol=1e-12, atol=1e-12)


def test_a_cut_backward_pass_by_hand():
    """tau = 1/2, nobody fires, the window covers all: the last step's gradient halves with each step back to the cut."""
    ds, zero = np.zeros((5, 1)), np.zeros((5, 1))
    ds[-1] = 1.0
    dx = find("truncated_backward").reference(ds, zero, zero, 0.5, 0.5, np.full(5, 2.0), 3)
    assert dx.ravel().tolist() == [0, 0, 0, 0.25, 0.5]


def test_one_block_is_all_of_bptt():
    for *arguments, _ in samples("truncated_backward"):
        whole = find("lif_backward").reference(*arguments)
        np.testing.assert_array_equal(find("truncated_backward").reference(*arguments, len(whole)), whole)


# --- the cut layer ----------------------------------------------------------------------------------------------------


@needs_jit
@pytest.mark.parametrize("reach", [1, 7, 50])
def test_the_lab_s_layer_cuts_as_the_exercise_does(reach):
    few, record = lab.task(0), {}
    net = lab.network(reach=reach)
    result = net.loss_and_grads(few.x[:, ::25], few.labels[::25], record=record)
    kept, ds = result.trace["hidden1"], record["hidden1.ds"]
    shape = (lab.T, -1)
    arguments = (a.reshape(shape).astype(float) for a in (ds, kept.u, kept.s))
    expected = find("truncated_backward").reference(*arguments, lab.DECAY, 0.5, kept.width.astype(float), reach)
    dx = record["hidden1.dx"].reshape(shape)
    np.testing.assert_allclose(dx, expected, atol=1e-5 * np.abs(expected).max())
    plain = lab.network().loss_and_grads(few.x[:, ::25], few.labels[::25])
    assert plain.loss == result.loss
    same = [np.array_equal(plain.grads[name], result.grads[name]) for name in plain.grads]
    assert all(same) if reach == 50 else not same[0]


@needs_jit
def test_a_layer_of_reach_0_does_not_learn():
    few = lab.task(0)
    grads = lab.network(reach=0).loss_and_grads(few.x[:, ::50], few.labels[::50]).grads
    assert not any(grads[f"hidden1.{key}"].any() for key in ("weight", "gamma", "beta")) and grads["fc.weight"].any()


@needs_jit
def test_training_is_the_same_at_every_threshold_and_learns():
    runs = [lab.fit(lab.network(v_th=v), lab.task(0), epochs=2) for v in (0.5, 8.0)]
    assert np.array_equal(runs[0].losses, runs[1].losses) and np.array_equal(runs[0].right, runs[1].right)
    assert runs[0].losses[-5:].mean() < runs[0].losses[:5].mean() and len(runs[0].right) == 500


# --- figures ----------------------------------------------------------------------------------------------------------


def test_rasters_have_one_dot_for_each_unit_and_sample():
    figure = figures.spike_rasters(samples=2, classes=(1, 4))
    for ax in figure.axes:
        assert len(ax.lines) == 2
        assert all(sorted(line.get_ydata()) == list(range(lab.UNITS)) for line in ax.lines)


def test_only_one_order_reaches_the_threshold():
    figure = figures.order_in_one_neuron()
    heights = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    assert heights == [[0.5, 1.0, 0.0, 0.0], [0.75, 0.875, 0.4375, 0.21875]]


def test_the_reach_of_a_gradient_ends_with_its_block():
    figure = figures.gradient_reach(decay=0.5, steps=6, reaches=(1, 4, 6))
    shares = [[bar.get_height() for bar in ax.patches] for ax in figure.axes]
    assert shares[0] == [0, 0, 0, 0, 0, 1] and shares[1] == [0, 0, 0, 0, 0.5, 1]
    assert shares[2] == [1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2, 1]


def test_accuracies_are_dots_and_a_mean():
    ax = figures.accuracy_by_seed({"a": [0.5, 0.7], "b": [0.2, 0.2]}).axes[0]
    assert ax.lines[0].get_ydata().tolist() == [50, 70] and list(ax.lines[1].get_ydata()) == [60, 60]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["a", "b"]
    assert list(ax.lines[-1].get_ydata()) == [20, 20]


@needs_jit
def test_the_default_figure_is_complete():
    assert isinstance(figures.accuracy_by_seed(), Figure)
