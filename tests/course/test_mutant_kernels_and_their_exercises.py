"""Exercises on the oracle and on debugging: references against the engine, every known mistake named; the mutant kernels."""

import sys

import numpy as np
import pytest

import agl_ref as agl
from agl_ref.course import check, mutant_kernels
from agl_ref.course.exercises import check_your_implementation, debug_a_kernel, find
from agl_ref.course.exercises.definition import Choice
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.identify import identify_case

EXERCISES = (
    "ulps", "sum_bound", "plif_backward", "first_wrong", "exit_code",
    "sum_over_blocks", "previous_potential", "window", "mended_kernel",
)  # fmt: skip
MISTAKES = [(name, sentence) for name in EXERCISES for sentence in find(name).mistakes]
QUESTIONS = ("what_pass_proves", "half_at_fault", *(f"bug_of_kernel_{k}" for k in "abcde"))


@pytest.fixture(autouse=True)
def fresh_workspaces():
    mutant_kernels.workspaces.clear()


# --- exercises


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("student", ["", "anna", 17])
def test_the_reference_earns_all_points(name, student, capsys):
    item = find(name)
    assert check(name, item.reference, student=student) == item.points
    assert "Right." in capsys.readouterr().out


@pytest.mark.parametrize(("name", "sentence"), MISTAKES)
def test_a_known_mistake_is_named(name, sentence, capsys):
    item = find(name)
    for student in ("", "anna", 17):
        assert check(name, item.mistakes[sentence], student=student) < item.points
        assert sentence in capsys.readouterr().out


def _rounded(received, expected):
    expected = expected.astype(np.float32)
    return np.abs(received - expected) / np.spacing(np.abs(expected))


def _rounded_both(received, expected):
    received, expected = received.astype(np.float32), expected.astype(np.float32)
    return np.abs(received - expected) / np.spacing(np.abs(expected))


def _counted_from_1(wrong, backward):
    t, i = find("first_wrong").reference(wrong, backward)
    return t + 1, i


def _all_explained(error, allowed, explained):
    return 0 if (error <= allowed).all() else 2 if explained.all() else 1


def _sigmoid_of_minus_w(ds, u, s, w, v_th, width):
    dx, dw = find("plif_backward").reference(ds, u, s, -w, v_th, width)
    return dx, -dw


@pytest.mark.parametrize(
    ("name", "answer", "words"),
    [
        ("ulps", _rounded, "expected is rounded to float32 before the difference"),
        ("ulps", _rounded_both, "expected is rounded to float32 before the difference"),
        ("first_wrong", _counted_from_1, "counted from 1"),
        ("exit_code", _all_explained, "also those that are not off"),
        ("plif_backward", _sigmoid_of_minus_w, "sigmoid(w) is taken for 1 - tau"),
    ],
)
def test_a_student_s_mistake_is_named(name, answer, words, capsys):
    for student in ("", "anna", 17):
        assert check(name, answer, student=student) < find(name).points
        assert words in capsys.readouterr().out


@pytest.mark.parametrize("name", EXERCISES)
def test_an_empty_answer_earns_nothing(name, capsys):
    def stub(*arguments):
        raise NotImplementedError()

    assert check(name, stub) == 0
    assert "Not answered yet" in capsys.readouterr().out


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_has_one_right_option_and_says_why_of_each(name, capsys):
    item = find(name)
    assert isinstance(item, Choice) and item.answer in item.options
    for option, why in item.options.items():
        assert check(name, option) == (item.points if option == item.answer else 0)
        assert why in capsys.readouterr().out
        assert check(name, lambda option=option: option) == (item.points if option == item.answer else 0)
        capsys.readouterr()
    assert len(set(item.options.values())) == len(item.options)


def test_a_question_without_an_answer_earns_nothing(capsys):
    def stub():
        raise NotImplementedError()

    assert check("half_at_fault", stub) == 0
    assert "Not answered yet" in capsys.readouterr().out
    assert check("half_at_fault", lambda: {}["no"]) == 0
    assert "It stops with KeyError" in capsys.readouterr().out
    assert check("half_at_fault", lambda: print("loud", file=sys.stderr)) == 0
    assert not capsys.readouterr().err  # nbgrader takes anything there for a failure


def test_a_sum_without_the_last_block_is_right_where_all_are_full(capsys):
    def full_blocks(terms, threads):
        partial = terms[: len(terms) // threads * threads].reshape(-1, threads).sum(axis=1)
        return partial, partial.sum()

    assert 0 < check("sum_over_blocks", full_blocks) < 2
    assert "the last block is not full" in capsys.readouterr().out


def test_ulps_by_hand():
    one = np.array([1.0])
    assert check_your_implementation.ulps(one + 2.0**-23, one) == 1
    assert check_your_implementation.ulps(one - 2.0**-24, one) == 0.5
    assert check_your_implementation.ulps(np.array([-8.0]), np.array([-8.0 - 2.0**-20])) == 1


def test_the_bound_of_a_sum_holds_for_every_order_that_is_tried():
    rng = np.random.default_rng(3)
    terms = rng.normal(0, 1, 300).astype(np.float32)
    exact = terms.astype(np.float64).sum()
    bound = check_your_implementation.sum_bound(terms.astype(np.float64), 2.0**-24)
    errors = [abs(np.add.accumulate(rng.permutation(terms))[-1] - exact) for _ in range(200)]
    assert 0 < max(errors) < bound


def test_plif_backward_is_the_engine_s():
    rng = np.random.default_rng(4)
    x, ds, w, width = rng.normal(0.3, 0.7, (5, 40)), rng.normal(0, 1, (5, 40)), -1.3, rng.uniform(0.6, 1.4, 5)
    s, cache = agl.plif_forward(x, np.array(w), v_th=0.5)
    dx, dw = agl.plif_backward(ds, cache, width)
    assert 0 < s.mean() < 1
    mine = check_your_implementation.plif_backward(ds, cache.u, s, w, 0.5, width)
    np.testing.assert_allclose(mine[0], dx, rtol=1e-13)
    np.testing.assert_allclose(mine[1], dw, rtol=1e-12)


def test_exit_codes_are_the_command_s():
    from agl_ref.oracle.judge.report import EXIT_CODES

    error, allowed = np.array([0.0, 2.0]), np.array([0.0, 1.0])
    code = check_your_implementation.exit_code
    assert code(error * 0, allowed, np.zeros(2, bool)) == EXIT_CODES["PASS"]
    assert code(error, allowed, np.zeros(2, bool)) == EXIT_CODES["FAIL"]
    assert code(error, allowed, np.ones(2, bool)) == EXIT_CODES["AMBIGUOUS"]


def test_the_mended_kernel_passes_what_the_mutants_fail():
    def mended(x, ds, decay, v_th, width):
        flat = x.reshape(len(x), -1)
        u, s, du, ddecay = debug_a_kernel.mended_kernel(flat, ds.reshape(flat.shape), decay, v_th, width)
        return {"u": u.reshape(x.shape), "s": s.reshape(x.shape), "du": du.reshape(x.shape), "grad_decay": ddecay}

    for id in (
        "lif-hard-attached",
        "lif-on-threshold",
        "lif-on-window-edge",
        "lif-grid",
        "lif-many-neurons",
        "lif-image",
    ):
        case = load_case(id)
        assert compare(case, mutant_kernels.on_case(mended, case, np.float64)).verdict == "PASS", id


# --- the kernels


def verdict(letter, id):
    case = load_case(id)
    report = compare(case, mutant_kernels.on_case(mutant_kernels.KERNELS[letter], case))
    return report.verdict, [name for name, v in report.verdicts.items() if v != "PASS"]


@pytest.mark.parametrize("letter", "abcde")
def test_every_kernel_passes_somewhere_and_its_forward_pass_is_right(letter):
    assert verdict(letter, "lif-all-silent") == ("PASS", [])
    for id in ("lif-grid", "lif-many-neurons"):
        assert not {"u", "s", "v"} & set(verdict(letter, id)[1])


def test_kernel_a_is_wrong_with_several_blocks_only():
    assert verdict("a", "lif-hard-attached") == ("PASS", [])
    assert verdict("a", "lif-grid") == ("PASS", [])
    assert verdict("a", "lif-many-neurons") == ("FAIL", ["grad_decay"])


def test_kernel_a_sums_the_first_1024_neurons():
    x = np.full((2, 3000), 0.25)
    ds, width = np.ones_like(x), np.array([1.0, 1.0])
    got = mutant_kernels.kernel_a(x, ds, 0.5, 0.5, width)["grad_decay"]
    right = debug_a_kernel.mended_kernel(x, ds, 0.5, 0.5, width)[3]
    assert right > 0 and got / right == 1024 / 3000


def test_kernel_b_has_a_wrong_decay_gradient_only():
    assert verdict("b", "lif-hard-attached") == ("FAIL", ["grad_decay"])


def test_kernel_c_is_wrong_between_half_a_width_and_a_whole_one():
    case = load_case("lif-one-timestep")
    du = mutant_kernels.on_case(mutant_kernels.kernel_c, case)["du"]
    wrong = du != case.arrays["du"]
    z = np.abs(case.arrays["u"] - 0.5) / case.inputs["width"].reshape(-1, 1, 1)
    assert wrong.any() and ((z[wrong] >= 0.5) & (z[wrong] < 1)).all()


def test_kernel_d_is_right_once():
    assert verdict("d", "lif-hard-attached") == ("PASS", [])
    assert verdict("d", "lif-hard-attached") == ("FAIL", ["du", "grad_x", "grad_decay"])


def test_kernel_e_is_wrong_before_the_last_timestep():
    case = load_case("lif-hard-attached")
    wrong = mutant_kernels.on_case(mutant_kernels.kernel_e, case)["du"] != case.arrays["du"]
    s = case.arrays["s"]
    assert not wrong[-1].any() and (wrong[-2] == ((s[-1] != s[-2]) & (case.arrays["du"][-1] != 0))).all()


@pytest.mark.parametrize(
    ("letter", "id", "bug"),
    [
        ("a", "lif-many-neurons", "one-block-decay-sum"),
        ("b", "lif-hard-attached", "decay-gradient-before-reset"),
        ("c", "lif-hard-attached", "window-of-kappa"),
        ("e", "lif-hard-attached", "carry-gated-a-step-late"),
    ],
)
def test_identify_names_the_mistake(letter, id, bug):
    found = identify_case(id, mutant_kernels.on_case(mutant_kernels.KERNELS[letter], load_case(id)))
    assert found.verdict == "mutant" and next(iter(found.mutants)) == bug
