"""The course's exercises: right and wrong answers, their points and their diagnosis."""

import re
import warnings

import numpy as np
import pytest
from course_answers import ANSWERS

from agl_ref.course import check
from agl_ref.course import exercises as exercises_package
from agl_ref.course.exercises.definition import EXERCISES, NOTEBOOK_OF, Choice, Edge, Exercise, choice, exercise
from agl_ref.course.grading.diagnose import judge
from agl_ref.course.grading.relations import relation

ALL = {name: item for name, item in exercises_package.load().items() if isinstance(item, Exercise)}
OURS = sorted(ANSWERS)
WRONG = [pytest.param(name, k, id=f"{name}-{k}") for name in OURS for k in range(len(ANSWERS[name][1]))]


def with_signature(item, function):
    """The function under the parameter names of the exercise."""
    names = ", ".join(item.parameters)
    return eval(f"lambda {names}: function_({names})", {"function_": function})


# --- right and wrong answers ----------------------------------------------------------------------


def test_every_exercise_of_the_network_has_answers_here():
    eight = ("one_neuron", "why_a_surrogate", "bptt_by_hand", "membrane_potential", "adaptive_width", "conv_snn",
             "when_time_matters", "your_own_snn")  # fmt: skip
    ours = {name for name in ALL if NOTEBOOK_OF[name].rpartition(".")[2] in eight}
    assert ours == set(OURS) and len(ours) == 32


@pytest.mark.parametrize("name", OURS)
def test_a_right_answer_earns_all_points_for_every_student(name, capsys):
    for student in ("", "ada", "grace", 3, 4):
        assert check(name, ANSWERS[name][0], student) == ALL[name].points
        assert "Right." in capsys.readouterr().out


@pytest.mark.parametrize(("name", "k"), WRONG)
def test_a_wrong_answer_is_told_what_is_wrong(name, k, capsys):
    answer, words = ANSWERS[name][1][k]
    assert len(ANSWERS[name][1]) >= 3
    for student in (None, "ada"):
        points = check(name, answer, student)
        text = capsys.readouterr().out
        assert words in text and 0 <= points < ALL[name].points
        assert text.count("\n") == 1 and len(re.findall(r"[.?](?= [A-Z]|$)", text.strip())) <= 5


@pytest.mark.parametrize("name", sorted(ALL))
def test_every_known_mistake_is_wrong_and_recognised_by_its_own_sentence(name):
    item = ALL[name]
    assert len(item.mistakes) >= 3
    for text, mistake in item.mistakes.items():
        assert not text.endswith((".", "?"))
        for student in ("", 1):
            points, found = judge(item, with_signature(item, mistake), student)
            assert text in found and points < item.points, (text, found)


@pytest.mark.parametrize("name", sorted(ALL))
def test_inputs_can_be_drawn_for_many_students_and_differ(name):
    item = ALL[name]
    seen = set()
    for student in range(25):
        samples = item.inputs(student)
        assert samples[0][0] is None  # an ordinary one first
        assert all(len(arguments) == len(item.parameters) for _, arguments in samples)
        seen.add(repr(samples[0][1]))
        expected = item.reference(*samples[0][1])
        assert len(expected if isinstance(expected, tuple) else (expected,)) == len(item.outputs)
    assert len(seen) == 25
    assert any(why for why, _ in samples)  # edge cases are there


def test_the_student_s_name_or_the_environment_seeds_the_inputs(monkeypatch):
    item, seen = ALL["leak"], []

    def leak(v, x, decay):
        seen.append(x.copy())
        return decay * v + x

    def first(*student):
        seen.clear()
        check("leak", leak, *student)
        return seen[0]

    monkeypatch.delenv("AGL_STUDENT", raising=False)
    default, ada = first(), first("ada")
    np.testing.assert_array_equal(default, item.inputs("")[0][1][1])
    np.testing.assert_array_equal(first(), default)  # the same on every run
    assert not np.array_equal(default, ada)
    monkeypatch.setenv("AGL_STUDENT", "ada")
    np.testing.assert_array_equal(first(), ada)


# --- no right value is ever printed ---------------------------------------------------------------


def numbers_given_away(text, entries):
    """Printed numbers of at least three digits that are an entry, to as many digits as are printed."""
    found = []
    for token in re.findall(r"(?<![\w.])-?\d+\.?\d*(?:e-?\d+)?", text):
        digits = len(re.sub(r"e.*|[-.]", "", token).lstrip("0"))
        if digits >= 3 and any(float(f"{entry:.{digits}g}") == float(token) for entry in entries):
            found.append(token)
    return found


def test_no_diagnosis_holds_a_right_value():
    texts = 0
    for name in OURS:
        item = ALL[name]
        entries = set()
        for _, arguments in item.inputs(""):
            expected = item.reference(*arguments)
            for part in expected if isinstance(expected, tuple) else (expected,):
                entries |= set(np.abs(np.ravel(part)).tolist())
        everything = [answer for answer, _ in ANSWERS[name][1]] + [
            with_signature(item, m) for m in item.mistakes.values()
        ]
        for answer in [*everything, *[with_signature(item, w) for w in ODD]]:
            text = judge(item, answer, "")[1]
            assert numbers_given_away(text, entries) == [], (name, text)
            texts += 1
    assert texts > 500
    assert numbers_given_away(f"expected {sorted(entries)[-1]:.4f}", entries)  # the search finds what is there


# --- answers that are no answers ------------------------------------------------------------------


class Strange:
    def __array__(self, *args, **kwargs):
        raise RuntimeError("no array here")


def stop(*_):
    raise SystemExit(1)


def noisy(*_):
    import sys

    print("thinking")
    print("thinking hard", file=sys.stderr)
    warnings.warn("careful", stacklevel=1)
    return np.log(np.zeros(3))


ODD = [
    lambda *a: None, lambda *a: "0.5", lambda *a: {}, lambda *a: [], lambda *a: (), lambda *a: object(),
    lambda *a: np.nan, lambda *a: np.inf, lambda *a: 1j, lambda *a: 10**400, lambda *a: [[1.0], [1.0, 2.0]],
    lambda *a: np.array("text"), lambda *a: np.zeros((2, 0)), lambda *a: Strange(), lambda *a: (x for x in a),
    lambda *a: np.full(np.shape(a[0]), np.inf), lambda *a: (np.nan, np.nan), lambda *a: (None, None), lambda *a: (1, 2, 3),
    lambda *a: np.float32(1.0), lambda *a: np.ma.masked_array([1.0, 2.0], [True, False]), lambda *a: list(a), lambda *a: a[0],
    lambda *a: Exception, lambda *a: 1 / 0, lambda *a: a[99], lambda *a: a.nothing, stop, noisy,
]  # fmt: skip


@pytest.mark.parametrize("name", sorted(ALL))
def test_odd_answers_raise_nothing_and_earn_nothing(name, capsys):
    for odd in ODD:
        assert check(name, with_signature(ALL[name], odd)) < ALL[name].points
    captured = capsys.readouterr()
    assert captured.err == "" and "thinking" not in captured.out  # nbgrader takes stderr for a failure
    assert captured.out.count("\n") == len(ODD)


def verdict(name, answer):
    return judge(ALL[name], answer, "")


def test_an_answer_that_is_not_there():
    def stub(v, x, decay):
        # YOUR CODE HERE
        raise NotImplementedError()

    for missing in (stub, None, ...):
        assert verdict("leak", missing) == (0, "Not answered yet.")


def test_what_is_no_function_or_takes_other_arguments():
    points, text = verdict("leak", np.ones(3))
    assert points == 0 and "the function itself" in text and "check('leak', leak)" in text
    assert "should take (v, x, decay); yours takes (v, x)" in verdict("leak", lambda v, x: v)[1]
    assert (
        "in the order (v, x, decay); yours come as (x, v, decay)"
        in verdict("leak", lambda x, v, decay: decay * v + x)[1]
    )
    assert verdict("leak", lambda a, b, c: c * a + b) == (1, "Right.")  # names of one's own are fine
    assert verdict("leak", lambda v, x, decay, extra=0: decay * v + x) == (1, "Right.")


def test_a_built_in_without_a_signature_is_tried_all_the_same():
    assert "TypeError" in verdict("leak", min)[1] or "shape" in verdict("leak", min)[1]


def test_a_crash_names_the_exception_the_line_and_the_shapes():
    def lif_forward(x, decay, v_th):
        u = np.zeros(x.shape)
        u[len(x)] = x[0]
        return u, u

    points, text = verdict("lif_forward", lif_forward)
    assert points == 0 and "IndexError" in text and "`u[len(x)] = x[0]`" in text
    assert f"line {lif_forward.__code__.co_firstlineno + 2} " in text
    assert re.search(r"x of shape \(\d, \d\), decay a number, v_th a number", text)
    assert "It stops with SystemExit: 1" in verdict("leak", with_signature(ALL["leak"], stop))[1]


def test_a_crash_inside_a_library_names_the_student_s_line():
    def leak(v, x, decay):
        return np.einsum("ij,j->i", v, x)

    assert "`return np.einsum(" in verdict("leak", leak)[1]


def test_a_crash_in_an_edge_case_costs_half():
    def lif_forward(x, decay, v_th):
        x[1]
        return ANSWERS["lif_forward"][0](x, decay, v_th)

    points, text = verdict("lif_forward", lif_forward)
    assert points == 1.5 and "edge case, T = 1" in text and "IndexError" in text


def test_a_keyboard_interrupt_is_not_swallowed():
    def leak(v, x, decay):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check("leak", leak)


def test_float32_is_accepted_with_a_hint_but_not_with_a_mistake():
    points, text = verdict("leak", lambda v, x, decay: (decay * v + x).astype(np.float32))
    assert points == 1 and "float32" in text
    assert verdict("leak", lambda v, x, decay: (v + x).astype(np.float32))[0] == 0
    assert "float16" in verdict("leak", lambda v, x, decay: (decay * v + x).astype(np.float16))[1]


def test_random_or_remembering_answers_are_found():
    calls = []

    def remembers(v, x, decay):
        calls.append(0)
        return decay * v + x + 1e-3 * len(calls)

    for answer in (lambda v, x, decay: decay * v + x + np.random.rand(), remembers):
        assert "A second call" in verdict("leak", answer)[1]


def test_shapes_types_and_counts_get_a_hint():
    right = {name: ANSWERS[name][0] for name in OURS}
    cases = [
        ("leak", lambda v, x, decay: right["leak"](v, x, decay)[:, None], "a reshape"),
        ("leak", lambda v, x, decay: list(right["leak"](v, x, decay)), "np.array(...) makes one"),
        ("leak", lambda v, x, decay: (right["leak"](v, x, decay),), "comma"),
        ("leak", lambda v, x, decay: right["leak"](v, x, decay).astype(complex), "complex128"),
        ("leak", lambda v, x, decay: right["leak"](v, x, decay) * np.nan, "not finite in 6 of 6 places"),
        ("lif_forward", lambda x, decay, v_th: [a.T for a in right["lif_forward"](x, decay, v_th)], "transposed?"),
        ("lif_forward", lambda x, decay, v_th: (x, x, x), "3 values, expected 2"),
        ("lif_forward", lambda x, decay, v_th: (None, x), "u is None"),
        ("linear_backward", lambda *a: right["linear_backward"](*a)[::-1], "in another order: return dx, dweight"),
        ("lif_forward", lambda x, decay, v_th: ({}, x), "u is a dict; expected an array of shape (5, 6)"),
        ("lif_backward", lambda ds, u, s, decay, v_th, width: ds[1:], "one timestep too few"),
        ("conv2d_forward", lambda x, weight: np.pad(x, 1)[1:-1, ..., :2], "padding does not fit"),
        ("coverage", lambda mu, std, v_th, width: "half", "share is a str; expected a number"),
        ("coverage", lambda mu, std, v_th, width: abs, "share is a function"),
    ]
    for name, answer, words in cases:
        points, text = verdict(name, answer)
        assert points < ALL[name].points and words in text, (name, words, text)


# --- relations ------------------------------------------------------------------------------------


def related(name, change, output=0):
    """The diagnosis of a right answer whose result was changed."""
    right = ANSWERS[name][0]

    def answer(*arguments):
        result = right(*arguments)
        if not isinstance(result, tuple):
            return np.ascontiguousarray(change(result)) if np.ndim(result) else change(result)
        return tuple(np.ascontiguousarray(change(r)) if k == output else r for k, r in enumerate(result))

    return verdict(name, with_signature(ALL[name], answer))[1]


def shifted(a, by):
    return np.roll(a, by, axis=0)


def first_alone(a):
    return np.concatenate([a[:, :1], a[:, 1:] + 0.1], axis=1) if a.shape[1] > 1 else a


@pytest.mark.parametrize(("name", "change", "words"), [
    ("lif_forward", lambda a: -a, "u has the wrong sign. Right: s"),
    ("rectangular", lambda a: -a, "derivative has the wrong sign"),
    ("one_step_backward", np.abs, "in some places, the wrong sign"),
    ("lif_forward", lambda a: 0 * a, "zero everywhere"),
    ("lif_forward", lambda a: 3 * a, "right but for a constant factor"),
    ("coverage", lambda a: 3 * a, "right but for a constant factor"),
    ("coverage", lambda a: a**2 + 0.1, "is another number"),
    ("lif_forward", lambda a: a / 2, "1/2 times the right result"),
    ("lif_forward", lambda a: -4 * a, "minus 4 times the right result"),
    ("lif_forward", lambda a: a * a.shape[0], "the length of axis 0 of x times the right result"),
    ("lif_forward", lambda a: a[::-1], "reversed in time"),
    ("lif_forward", lambda a: shifted(a, 1), "one timestep late"),
    ("lif_forward", lambda a: shifted(a, -1), "one timestep early"),
    ("lif_forward", first_alone, "first neuron or sample only"),
    ("leak", lambda a: a[::-1], "reversed along axis 0"),
    ("lif_forward", lambda a: a + 0.1, "wrong in 30 of 30 entries, the first at index [0, 0]"),
    ("lif_forward", lambda a: a + 0.1 * (np.arange(len(a)) == 2)[:, None] * np.arange(1, 1 + a.shape[1]), "at t = 3 alone"),
    ("lif_backward", lambda a: a + 0.1 * (np.arange(len(a)) == 0)[:, None], "(the first timestep, which has none before it)"),
])  # fmt: skip
def test_relations_between_the_wrong_and_the_right_values(name, change, words):
    assert words in related(name, change)


def test_results_that_are_nearly_right():
    for change in (lambda a: a + 3e-10, lambda a: a.astype(np.float32).astype(np.float64), lambda a: a + 1e-7):
        assert "right to five digits" in related("leak", change)
    assert related("leak", lambda a: a + 1e-13) == "Right."


@pytest.mark.parametrize(("name", "change", "words"), [
    ("hard_reset", lambda v: np.where(v == 0, 7.0, v), "All of that is where the neuron fires."),
    ("hard_reset", lambda v: np.where(v == 0, v, v + 7), "All of that is where the neuron does not fire."),
    ("relaxed_spike", lambda S: np.where(S > 0.5, S + 1, S), "All of that is where z > 0."),
    ("rectangular", lambda h: np.where(h > 0, h + 1 + np.arange(len(h)), h), "All of that is where |z| < width/2."),
    ("lif_forward", lambda u: np.where(u < 0, u - 1, u), "where the potential is negative"),
])  # fmt: skip
def test_the_place_of_wrong_values_is_named(name, change, words):
    assert words in related(name, change)


def test_the_place_where_a_wrong_gradient_begins_is_named():
    right = ANSWERS["lif_backward"][0]

    def answer(ds, u, s, decay, v_th, width):
        return right(ds, u, s, decay, v_th, width) + (s == 1) * np.arange(1, 1 + len(u))[:, None]

    points, text = verdict("lif_backward", answer)
    assert points == 0 and text.endswith("It begins where the neuron fires.")


@pytest.mark.parametrize("name", sorted(ALL))
def test_no_way_of_being_wrong_makes_the_diagnosis_fail(name):
    """Results that are spoilt at random: noise of any size, parts zeroed, axes flipped or rolled, single precision."""
    rng, item = np.random.default_rng(0), ALL[name]

    def spoil(a, kind, size, axis):
        a = np.array(a, float)
        if kind == "noise":
            return a + size * rng.normal(0, 1, a.shape)
        if kind == "precision":
            return a.astype(np.float32) * np.float32(1 + size)
        if a.ndim == 0:
            return a * (1 + size)
        axis = axis % a.ndim
        if kind == "part":
            part = np.moveaxis(a, axis, 0)
            part[: 1 + len(part) // 2] *= size
            return a
        return np.flip(a, axis) if kind == "flip" else np.roll(a, 1, axis)

    for _ in range(20):
        kind = rng.choice(["noise", "precision", "part", "flip", "roll"])
        size, axis = float(rng.choice([0.0, 1e-12, 1e-9, 1e-7, 1e-6, 1e-4, 0.1, -2.0])), int(rng.integers(4))

        def answer(*arguments, kind=kind, size=size, axis=axis):
            result = item.reference(*arguments)
            return tuple(spoil(r, kind, size, axis) for r in result) if isinstance(result, tuple) else spoil(
                result, kind, size, axis)  # fmt: skip

        points, text = judge(item, answer, "")
        assert 0 <= points <= item.points and text


def test_a_factor_is_named_after_the_argument_that_explains_it():
    right = ANSWERS["soft_reset"][0]
    assert "v_th times the right result" in verdict("soft_reset", lambda u, s, v_th: v_th * right(u, s, v_th))[1]
    assert "1/v_th times the right result" in verdict("soft_reset", lambda u, s, v_th: right(u, s, v_th) / v_th)[1]


def test_transposed_square_results_and_rows():
    item = Exercise("square", 1, lambda x: x, lambda rng: [], outputs=("y",))
    x = np.arange(9.0).reshape(3, 3)
    assert relation(item, "y", [((x,), x.T.copy(), x)]) == "y is transposed."
    rows = np.concatenate([x[:1], -x[1:] - 1])
    assert relation(item, "y", [((x,), rows, x)]) == "y is right for the first row only: does the rest get its turn?"


# --- points ---------------------------------------------------------------------------------------


def test_each_result_earns_its_share():
    right = ANSWERS["tdbn_backward"][0]

    def one_wrong(dy, x, gamma, v_th):
        dx, dgamma, dbeta = right(dy, x, gamma, v_th)
        return dx, dgamma, dbeta + 1

    points, text = verdict("tdbn_backward", one_wrong)
    assert points == 3 and "Right: dx, dgamma." in text  # two thirds of 5, down to a half


def test_points_are_numbers_that_nbgrader_can_read():
    for answer in (ANSWERS["leak"][0], lambda v, x, decay: v):
        assert type(check("leak", answer)) is int
    half = check("fires", lambda u, v_th: (u > v_th).astype(float))
    assert type(half) is float and float(repr(half)) == 0.5


# --- questions and the registry -------------------------------------------------------------------


@pytest.fixture
def question():
    choice(
        "test_where",
        2,
        answer="in the reset",
        options={"in the reset": "Right: there.", "in the leak": "Decay is there."},
    )
    yield "test_where"
    del EXERCISES["test_where"], NOTEBOOK_OF["test_where"]


def test_a_question_takes_one_of_its_options(question, capsys):
    assert isinstance(EXERCISES[question], Choice) and NOTEBOOK_OF[question] == __name__
    assert check(question, "  In the  reset. ") == 2
    assert check(question, "in the leak") == 0
    assert "Decay is there" in capsys.readouterr().out
    for missing in (None, "", ...):
        assert check(question, missing) == 0
        assert "Not answered yet: choose one of 'in the reset'; 'in the leak'" in capsys.readouterr().out
    for other in ("elsewhere", 3, [], np.zeros(3)):
        assert check(question, other) == 0
        assert "not one of the options" in capsys.readouterr().out


def test_unknown_and_taken_names(question):
    with pytest.raises(ValueError, match=r"exercise, received 'lif_foward'; perhaps lif_forward"):
        check("lif_foward", None)
    with pytest.raises(ValueError, match="answer: expected one of"):
        choice("other", 1, "x", {"y": ""})

    def leak(v, x, decay):
        return v

    with pytest.raises(ValueError, match="leak: expected a new name"):
        exercise(1, lambda rng: [Edge("", ())], "u")(leak)


def test_draws_that_never_fit_say_so():
    from agl_ref.course.exercises.fresh_inputs import until

    with pytest.raises(RuntimeError, match="within 1000 tries"):
        until(lambda a: False, lambda: (1,))
