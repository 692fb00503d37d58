"""Figures of the oracle and of debugging a kernel: each is complete, and shows what the notebook says of it."""

import functools
import inspect

import numpy as np
import pytest
from matplotlib.figure import Figure

from agl_ref.course import figures, mutant_kernels
from agl_ref.course.figures import check_your_implementation as seven
from agl_ref.course.figures import debug_a_kernel as eight
from agl_ref.oracle import load_case

NAMES = (
    "sums_in_any_order", "tolerance_or_bound", "wrong_elements", "three_verdicts",
    "fingerprints", "which_case_shows_it", "gradient_by_size", "gradient_by_call",
)  # fmt: skip


def texts(figure):
    """All words of a figure."""
    found = [figure.get_suptitle()]
    for ax in figure.axes:
        found += [ax.get_title(loc="left"), ax.get_title(), ax.get_xlabel(), ax.get_ylabel()]
        found += [text.get_text() for text in ax.texts]
        found += [text.get_text() for text in (*ax.get_xticklabels(), *ax.get_yticklabels())]
    return " ".join(found)


judged_once = functools.cache(seven.implementations_judged)


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_is_complete_with_its_defaults(name, monkeypatch):
    monkeypatch.setattr(seven, "implementations_judged", judged_once)
    function = getattr(figures, name)
    figure = function()
    assert isinstance(figure, Figure) and figure.get_figwidth() == 8
    assert all(p.default is not p.empty for p in inspect.signature(function).parameters.values())
    assert len(texts(figure)) > 20


def test_sums_lie_left_of_both_bounds():
    terms = seven.random_terms(512)
    errors = seven.errors_of_orders(terms, orders=300)
    magnitude = np.abs(terms.astype(np.float64)).sum()
    assert len(np.unique(errors)) > 10  # orders do differ
    assert 0 < np.abs(errors).max() < 3 * np.sqrt(511) * magnitude < 511 * magnitude
    ax = figures.sums_in_any_order(512, 300).axes[0]
    assert sum(patch.get_height() for patch in ax.patches) == 300
    likely, worst = (line.get_xdata()[0] for line in ax.lines)
    np.testing.assert_allclose([likely, worst], [3 * np.sqrt(511) * magnitude, 511 * magnitude])


def test_a_bound_separates_right_from_wrong_and_a_tolerance_does_not():
    rows = judged_once()
    right, wrong = ([row for row in rows if row[0] == flag] for flag in (True, False))
    assert len(right) == 5 * len(seven.CASES) and len(wrong) > 50
    assert max(row[3] for row in right) < 1 < min(row[3] for row in wrong)
    assert max(row[2] for row in right) > 1e-3 and max(row[2] for row in right) > min(row[2] for row in wrong)
    scattered = figures.tolerance_or_bound(rows).axes[0].collections
    assert [len(points.get_offsets()) for points in scattered] == [len(wrong), len(right)]


def test_relative_error_by_hand():
    assert seven.relative_error(np.float32([1.5, 0.0]), np.array([1.0, 0.0])) == 0.5


def test_the_map_of_wrong_elements_counts_them_and_frames_the_first():
    figure = figures.wrong_elements()
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "u: 10 of 144 off",
        "s: 7 of 144 off",
        "du: 12 of 144 off",
    ]
    frames = [ax.patches for ax in figure.axes]
    assert [len(patches) for patches in frames] == [0, 1, 0]
    assert frames[1][0].get_xy() == (2, 0)  # neuron 2 at the first timestep


def test_a_right_dump_has_no_frame():
    case = load_case("lif-grid")
    figure = figures.wrong_elements(case, case.arrays, names=("s", "du"))
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["s: 0 of 144 off", "du: 0 of 144 off"]
    assert not any(ax.patches for ax in figure.axes)


def test_three_verdicts_are_named():
    assert all(word in texts(figures.three_verdicts()) for word in ("PASS", "FAIL", "AMBIGUOUS"))


def test_fingerprints_are_of_the_second_call():
    assert not eight.wrong_gradients("d", "lif-hard-attached").any()
    assert eight.wrong_gradients("d", "lif-hard-attached", calls=2).any()
    counts = [ax.get_title(loc="left").split()[2] for ax in figures.fingerprints().axes]
    assert counts[:2] == ["0", "0"] and all(int(count) > 0 for count in counts[2:])


def test_each_kernel_passes_and_fails_somewhere():
    ax = figures.which_case_shows_it().axes[0]
    table = np.array([text.get_text() for text in ax.texts]).reshape(len(eight.CASES) + 1, 5)
    assert (table[0] == "pass").all()  # silent neurons prove nothing
    assert all((column == "pass").any() and (column != "pass").any() for column in table.T)
    assert table[-2].tolist() == ["grad_decay", "grad_decay", "du", "pass", "du"]
    assert table[-1].tolist() == ["pass", "grad_decay", "du", "du", "du"]
    assert not mutant_kernels.workspaces  # the figure leaves no trace for who debugs kernel d


def test_gradients_by_size_follow_n_over_four_where_they_are_right():
    sizes = [1, 100, 1024, 1025, 3000]
    np.testing.assert_array_equal(eight.decay_gradients(mutant_kernels.kernel_c, sizes), np.array(sizes) / 4)
    assert eight.decay_gradients(mutant_kernels.kernel_a, sizes).tolist() == [0.25, 25, 256, 256, 256]
    received = figures.gradient_by_size(sizes, np.array(sizes) / 4).axes[0].lines[1].get_ydata()
    np.testing.assert_array_equal(received, np.array(sizes) / 4)


def test_gradients_by_call_leave_the_line_after_the_first():
    line, points = figures.gradient_by_call().axes[0].lines
    received = points.get_ydata()
    assert received[0] == line.get_ydata()[0] and (np.asarray(received[1:]) != received[0]).all()
    flat = figures.gradient_by_call([1.0, 1.0], 1.0).axes[0]
    assert flat.get_ylim()[0] < 1 < flat.get_ylim()[1]
