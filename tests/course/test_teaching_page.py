"""tutorials/TEACHING.md: its numbers are computed here, its code runs, its sentences are what check says."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

import agl_ref as agl
from agl_ref.course import check, figures
from agl_ref.course.exercises import find, load
from agl_ref.course.exercises.definition import EXERCISES, NOTEBOOK_OF, Choice

PAGE = Path(__file__).parents[2] / "tutorials" / "TEACHING.md"
if not PAGE.is_file():
    pytest.skip("the tutorials are not installed", allow_module_level=True)
TEXT = PAGE.read_text(encoding="utf-8")
NOTEBOOKS = (
    "one_neuron", "why_a_surrogate", "bptt_by_hand", "membrane_potential", "adaptive_width", "conv_snn",
    "check_your_implementation", "debug_a_kernel", "when_time_matters", "your_own_snn",
)  # fmt: skip


def answer(number):
    """The text of an exam question and its answer."""
    found = re.search(rf"(?ms)^\*\*{number}\. .*?(?=^\*\*{number + 1}\. |^## )", TEXT)
    assert found, number
    return found.group(0)


def lif(x, ds, **conventions):
    """(u, s, v, du, ddecay) of one neuron with tau = V_th = 1/2 and kappa = 1."""
    x, ds = (np.array(a, float).reshape(-1, 1) for a in (x, ds))
    conventions = agl.Conventions(**conventions)
    s, cache = agl.lif_forward(x, decay=0.5, v_th=0.5, conventions=conventions)
    du, ddecay = agl.lif_backward(ds, cache, np.ones(len(x)), conventions=conventions)[:2]
    return cache.u.ravel().tolist(), s.ravel().tolist(), cache.v.ravel().tolist(), du.ravel().tolist(), float(ddecay)


def test_the_table_has_every_notebook_s_points():
    load()
    rows = re.findall(r"(?m)^\| (\d+) [^|]*\| (\d+) \| (\d+) \|", TEXT)
    points = [
        sum(item.points for name, item in EXERCISES.items() if NOTEBOOK_OF[name].endswith(f".{notebook}"))
        for notebook in NOTEBOOKS
    ]
    assert [int(row[2]) for row in rows] == points
    assert f"{sum(points)} points in all" in TEXT


def test_every_misconception_is_what_check_says():
    table = TEXT.partition("## Misconceptions")[2].partition("## Exam")[0]
    rows = re.findall(r"(?m)^\| .*? \| `(\w+)` \| (.*) \|$", table)
    assert len(rows) > 20
    for name, sentence in rows:
        item = find(name)
        known = item.options.values() if isinstance(item, Choice) else item.mistakes
        assert sentence in known, (name, sentence)


def test_the_exam_s_points_add_up():
    exam = TEXT.partition("## Exam")[2].partition("\n## ")[0]
    total = sum(map(int, re.findall(r"[(](\d) points[,.)]", exam)))
    assert f"\n{total} points. For other numbers" in exam


def test_question_1():
    assert lif((0.25, 0.375, 0.25), (1, 1, 1))[:3] == ([0.25, 0.5, 0.25], [0, 1, 0], [0.25, 0, 0.25])
    assert lif((0.25, 0.375, 0.25), (1, 1, 1), spike_test=">")[:2] == ([0.25, 0.5, 0.5], [0, 0, 0])
    assert "$u = (0.25, 0.5, 0.25)$, $s = (0, 1, 0)$, $v = (0.25, 0, 0.25)$" in answer(1)


def test_questions_2_and_3():
    u, s, v, du, ddecay = lif((0.75, 0.25, 0.75), (1, 0, 1))
    assert (u, s, v) == ([0.75, 0.25, 0.875], [1, 0, 1], [0, 0.25, 0])
    assert (du, ddecay) == ([0.859375, 0.375, 1], 0.25) and "$du = (0.859375, 0.375, 1)$" in answer(2)
    assert lif((0.75, 0.25, 0.75), (1, 0, 1), reset_gradient="detached")[3:] == ([1, 0.5, 1], 0.25)
    assert "$du = (1, 0.5, 1)$" in answer(3)


def test_question_6():
    w = np.array(-np.log(4.0))
    tau = 1 / (1 + np.exp(-w))
    assert np.isclose(tau, 0.2) and np.isclose(0.5 * tau * (1 - tau), 0.08) and "= 0.08$" in answer(6)


def test_question_7():
    x, dy = np.array([[-1.0], [1], [-1], [1]]), np.array([[1.0], [0], [0], [0]])
    y, cache = agl.tdbn_forward(x, np.ones(1), np.zeros(1), v_th=0.5, eps=1e-12)
    dx = agl.tdbn_backward(dy, cache)[0]
    np.testing.assert_allclose(y.ravel(), [-0.5, 0.5, -0.5, 0.5], rtol=1e-10)
    np.testing.assert_allclose(dx.ravel(), [0.25, 0, -0.25, 0], atol=1e-10)
    assert "(0.25, 0, -0.25, 0)" in answer(7)


def test_question_8():
    gamma = np.array([0.5, 1.5, -0.5, 0.5])
    assert agl.adaptive_width(gamma, 1.0, 0.75, 3).tolist() == [1, 1.25, 1.25]
    assert agl.adaptive_width(np.abs(gamma), 1.0, 0.75, 3).tolist() == [1.5, 1.875, 1.875]
    assert "$\\kappa = (1, 1.25, 1.25)$" in answer(8) and "(1.5, 1.875, 1.875)" in answer(8)


@pytest.mark.parametrize(
    ("gamma", "kappa", "share"), [(2, 1, "0.341"), (2, 2, "0.625"), (0.5, 1, "0.500"), (0.5, 0.5, "0.157")]
)
def test_question_9(gamma, kappa, share):
    std = gamma * 0.5
    found = ndtr((0.5 + kappa / 2) / std) - ndtr((0.5 - kappa / 2) / std)
    assert f"{found:.3f}" == share and share in answer(9)
    if kappa != 1:
        assert agl.adaptive_width(np.array([gamma], float), 0.5, 0.0, 1)[0] == kappa


def test_question_10():
    assert f"{0.5 * np.sqrt(1 + 0.25 + 0.0625):.3f}" == "0.573" and f"{0.5 * np.sqrt(1.25):.3f}" == "0.559"
    assert "$0.559$" in answer(10) and "= 0.573$" in answer(10)


def test_question_11():
    y, cache = agl.conv2d_forward(np.ones((1, 8, 6, 6, 1)), np.zeros((3, 3, 1, 1)), stride=1, padding=1)
    terms = next(g for g in agl.conv2d_backward(np.ones_like(y), cache) if g is not None and g.shape == (3, 3, 1, 1))
    assert terms[:, :, 0, 0].tolist() == [[200, 240, 200], [240, 288, 240], [200, 240, 200]]
    assert all(str(n) in answer(11) for n in (200, 240, 288))


def test_question_12():
    loss, cache = agl.cross_entropy_forward(np.log([[[1.0, 3.0]], [[1.0, 3.0]]]), np.array([0]))
    np.testing.assert_allclose(loss, np.log(4))
    np.testing.assert_allclose(agl.cross_entropy_backward(cache), [[[-0.375, 0.375]]] * 2)
    assert f"{loss:.3f}" in answer(12)


def test_question_13():
    parameters = {"a": np.array([1.0])}
    optimiser = agl.optim.SGD(parameters, lr=0.1, momentum=0.9)
    for expected in (0.9, 0.71):
        optimiser.step({"a": np.array([1.0])})
        assert np.isclose(parameters["a"][0], expected) and str(expected) in answer(13)


def test_question_14():
    one, small = np.float32(1), np.float32(2.0**-24)
    assert (one + small) + small == 1 and one + (small + small) == 1 + 2.0**-23
    assert f"{1024 * 2.0**-24 * 1025:.4f}" == "0.0626" and "0.0626" in answer(14)


def test_question_15():
    from agl_ref.course.exercises.check_your_implementation import exit_code

    wrong = np.ones(41)
    assert exit_code(wrong, 0 * wrong, np.arange(41) < 40) == 1 and "> FAIL" in answer(15)


def test_question_16_the_bug_hunt():
    x, ds = np.array([[0.75], [0.25], [0.75]]), np.array([[1.0], [0], [1]])
    s, cache = agl.lif_forward(x, decay=0.5, v_th=0.5)
    names = {"np": np, "x": x, "ds": ds, "u": cache.u, "s": s, "decay": 0.5, "v_th": 0.5, "width": np.ones(3)}
    code = re.search(r"(?s)```python\n(.*?)```", answer(16)).group(1)
    exec(code, names)
    assert names["du"].ravel().tolist() == [1.046875, 0.375, 1] and names["ddecay"] == 0.53125
    assert "(1.046875, 0.375, 1)" in answer(16) and "0.53125" in answer(16)
    mended = code.replace("= dv + ", "= dv * (1 - s[t]) + ").replace("u[t - 1])", "u[t - 1] * (1 - s[t - 1]))")
    exec(mended, names)
    assert names["du"].ravel().tolist() == [0.859375, 0.375, 1] and names["ddecay"] == 0.25


def test_an_exercise_of_one_s_own_works_as_the_page_says(capsys):
    code = re.search(r"(?s)```python\n(import numpy.*?def firing_rate.*?)```", TEXT).group(1)
    names = {"__name__": "teaching_page"}
    try:
        exec(code, names)
        item = find("firing_rate")
        assert check("firing_rate", names["firing_rate"]) == 1
        for sentence, wrong in item.mistakes.items():
            capsys.readouterr()
            assert check("firing_rate", wrong) < 1 and sentence in capsys.readouterr().out
    finally:
        EXERCISES.pop("firing_rate", None)
        NOTEBOOK_OF.pop("firing_rate", None)


def test_moodle_s_files_are_taken_apart_as_the_page_says():
    line = re.search(r"named_regexp = r\"(.*)\"", TEXT).group(1)
    for between in ("_12_assignsubmission_file_/", "_12_assignsubmission_file_"):
        found = re.match(line, f"/extracted/Ada Lovelace{between}01_one_neuron.ipynb")
        assert found.groupdict() == {"student_id": "Ada Lovelace_12", "file_id": "01_one_neuron.ipynb"}


def test_gradescope_gets_points_and_maxima(tmp_path):
    """The page's program, in folders of this test."""
    nbformat = pytest.importorskip("nbformat")
    from notebooks_made_here import MIXED, hand_in, solved_notebook

    for folder in ("submission", "results"):
        (tmp_path / folder).mkdir()
    nbformat.write(hand_in(solved_notebook(), MIXED), tmp_path / "submission" / "hw1.ipynb")
    code = re.search(r"(?s)```python\n#!.*?\n(.*?)```", TEXT).group(1)
    code = code.replace("/autograder", str(tmp_path)).replace('["agl-ref"', '[sys.executable, "-m", "agl_ref"')
    exec(code, {"sys": sys})
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    tests = {test["name"]: test for test in found["tests"]}
    assert (tests["leak"]["score"], tests["fires"]["score"], tests["lif_forward"]["score"]) == (1, 0.5, 0)
    assert tests["rectangular"]["max_score"] == 2 and "> and not >=" in tests["fires"]["output"]


def test_every_figure_that_the_page_names_is_there():
    lecture = TEXT.partition("### One lecture")[2].partition("### One lab")[0]
    named = set(re.findall(r"`(\w+)`", lecture)) | set(re.findall(r"figures\.(\w+)[(]", TEXT))
    assert len(named) > 8 and named <= set(figures.names())


def test_markdown_leaves_the_formulas_alone():
    """GitHub reads Markdown first: a backslash before punctuation goes, and an underscore after punctuation may open
    emphasis; a vertical bar ends a table's cell."""
    text = re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", "", TEXT)
    formulas = re.findall(r"\$([^$]+)\$", text)
    assert len(formulas) > 100 and text.count("$") == 2 * len(formulas)
    for formula in formulas:
        assert not re.search(r"\\[!-/:-@\[-`{-~]|[!-/:-@\[-^`{-~]_|\n|\*", formula), formula
    for row in re.findall(r"(?m)^\|.*\|$", text):
        assert not any("|" in formula for formula in re.findall(r"\$([^$]+)\$", row)), row
