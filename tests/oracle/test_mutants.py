"""The mutants: each is killed by named golden cases, no correct run is, and the commands say so."""

import functools
import json

import numpy as np
import pytest

from agl_ref import MPD_AGL, Conventions, reference
from agl_ref.cli.main import parser_of
from agl_ref.oracle import cases, compare, load_case
from agl_ref.oracle.equations import EQUATION_NAMES, equations_of
from agl_ref.oracle.judge.hypotheses import lowered
from agl_ref.oracle.mutants.registry import judged, kills, names_the_rule
from agl_ref.oracle.mutants.selftest import Alarm, Row, Selftest, selftest
from agl_ref.oracle.mutants.table import LISTED, NOT_LISTED, Mutant, mutant_of, mutants, one_block
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import Problem, problem_of

# the case that was made for it: permanent, like the ids
KILLED_BY = {
    "one-block-decay-sum": "lif-many-neurons",
    "reset-ignores-spike-of-threshold": "lif-on-threshold",
    "input-gain-not-in-backward": "lif-input-scaled",
    "spikes-in-32-bits": "lif-long",
    "gradient-read-as-contiguous": "lif-strided-gradient",
    "hidden-state": "lif-two-forwards",
    "threshold-one-half": "lif-threshold-hard",
    "soft-reset-gradient-one-half": "lif-threshold-soft",
    "soft-carry-narrow": "lif-soft-realistic",
    "time-capped-at-64": "lif-beyond-64",
    "width-without-threshold": "lif-threshold-adaptive",
    "gamma-sum-narrow": "width-fine",
    "spread-missing": "lif-adaptive",
    "window-of-kappa": "lif-hard-attached",
    "gamma-magnitude": "lif-gamma-negative",
    "mean-of-gamma-magnitudes": "lif-gamma-mixed",
    "closed-window-gives-nan": "lif-gamma-zero",
    "statistics-per-timestep": "tdbn-training",
    "evaluation-uses-batch": "tdbn-evaluation",
    "norm-mean-term-dropped": "tdbn-training-exact",
    "norm-eps-outside-root": "tdbn-dead-channel",
    "kernel-flipped-in-backward": "conv-same",
    "padding-side": "conv-stride",
    "one-block-weight-sum": "conv-many-rows",
    "pool-gradient-shifted": "pool-odd",
    "residual-or": "add-spikes",
    "softmax-overflows": "loss-large-logits",
    "sigmoid-overflows": "surrogate-sigmoid-far",
    "window-narrow": "net-residual",
    "kernel-channels-exchanged": "net-vgg",
    "norm-samples-for-channels": "tdbn-many-rows",
    "plif-slope-narrow": "net-conv",
    "loss-summed-over-samples": "loss-mean",
    "tet-regulariser-missing": "loss-tet",
    "convention:spike_test=>": "lif-on-threshold",
    "convention:window_edge=<=": "lif-on-window-edge",
    "convention:width_gradient=none": "lif-width-flows",
    "convention:plif=1 - tau": "plif-half",
    "convention:norm_variance=unbiased": "tdbn-training",
    "convention:axis_order=NTC..": "lif-image",
}


@pytest.fixture(scope="module")
def references():
    return [load_case(id) for id in cases()]


def test_every_snippet_is_in_the_reference():
    """The quick one: reference.py was changed and a mutant's snippet was not."""
    for mutant in (*LISTED, *NOT_LISTED, one_block(32)):
        assert mutant.module.lif_forward is not reference.lif_forward


def test_a_verdict_does_not_depend_on_a_snippet(monkeypatch):
    """Whoever edits reference.py still gets a verdict on another implementation, and an error from the mutants alone."""
    from agl_ref.oracle.judge import hypotheses

    astray = Mutant("m", "Nothing.", "F1", (("no such line", ""),))
    monkeypatch.setattr(hypotheses, "LISTED", (astray, mutant_of("no-carry")))
    case = load_case("lif-grid")
    arrays = mutant_of("no-carry").dump(problem_of(case), Conventions(**case.conventions))
    assert "no gradient is carried" in compare(case, arrays, dtype="float32").details["cause"]
    with pytest.raises(ValueError, match="bring the mutants in line"):
        kills(astray, [case])


@pytest.fixture(scope="module")
def killers(references):
    """The first golden cases that kill a mutant, looked for once."""
    return functools.cache(lambda mutant: kills(mutant, references))


def test_every_mutant_is_killed(killers):
    assert [mutant.id for mutant in mutants() if not killers(mutant)] == []


def sentence(mutant, reference):
    """What the guess must say of a mutant."""
    if mutant.kind == "rule":
        return lowered(mutant.effect.rstrip("."))
    own = reference.conventions[mutant.field]
    return f"conventions.{mutant.field} is {mutant.value!r} where the case has {own!r}"


NARROW = (
    "soft-carry-narrow",
    "gamma-sum-narrow",
    "plif-slope-narrow",
    "window-narrow",
)  # a lack of digits: no rule stands out from it
GUESSED = [mutant for mutant in mutants() if mutant.field != "axis_order" and mutant.id not in NARROW]


@pytest.mark.parametrize("mutant", GUESSED, ids=lambda mutant: mutant.id)
def test_the_guess_on_a_mutant_is_right(mutant, killers):
    """On the first cases that kill it with a FAIL: values that are not finite are refused, with their place."""
    for kill in killers(mutant)[:2]:
        if kill.how == "FAIL":
            reference = load_case(kill.case)
            arrays = mutant.dump(problem_of(reference), Conventions(**reference.conventions))
            arrays = {name: array for name, array in arrays.items() if name in reference.arrays}
            cause = compare(reference, arrays, dtype="float32").details["cause"]
            assert sentence(mutant, reference) in cause
            assert "more than one fault" not in cause


@pytest.mark.parametrize("id", sorted(KILLED_BY))
def test_each_by_the_case_that_was_made_for_it(id):
    mutant = mutant_of(id)
    assert [kill.case for kill in kills(mutant, [load_case(KILLED_BY[id])])] == [KILLED_BY[id]]


def other_thresholds(reference):
    """Whether a neuron or a width of the case has a threshold other than 1/2."""
    v_th = reference.meta.get("v_th", 0.5)
    return reference.meta["op"] != "tdbn" and set(v_th.values() if isinstance(v_th, dict) else [v_th]) != {0.5}


@pytest.mark.parametrize("id", ["threshold-one-half", "width-without-threshold", "soft-reset-gradient-one-half"])
def test_a_built_in_threshold_shows_only_where_it_is_another(id, references):
    mutant = mutant_of(id)
    killers = {kill.case for kill in kills(mutant, references, enough=None)}
    others = {reference.id for reference in references if other_thresholds(reference)}
    assert killers and killers <= others


@pytest.mark.parametrize("field", sorted(set(Conventions.known_choices())))
def test_identify_names_each_convention(field, killers):
    for mutant in mutants():
        if mutant.field == field:
            found = [kill.case for kill in killers(mutant)]
            assert any(names_the_rule(mutant, case) for case in found), f"{mutant.id}: not named on {found}"


def test_the_mutants_are_the_wrong_rules_and_every_other_value():
    ids = [mutant.id for mutant in mutants()]
    assert len(set(ids)) == len(ids)
    assert {mutant.id for mutant in LISTED} <= set(ids)
    values = {f"convention:{f}={v}" for f, allowed in Conventions.known_choices().items() for v in allowed}
    assert values - set(ids) == {"convention:axis_order=TN..C"}
    assert all(mutant.effect for mutant in mutants())


@pytest.mark.parametrize(
    "mutant", [m for m in LISTED if m.shows_in == "float32" and m.equation], ids=lambda mutant: mutant.id
)
def test_a_report_names_the_equation_that_is_wrong(mutant, references, killers):
    """The equations of the first wrong array hold the one that the mutant has wrong."""
    known, found = {reference.id: reference for reference in references}, 0
    for kill in killers(mutant):
        if kill.how == "FAIL":
            assert mutant.equation in equations_of(known[kill.case], kill.array), (kill.case, kill.array)
            found += 1
    assert found or mutant.id in ("closed-window-gives-nan", "softmax-overflows", "sigmoid-overflows"), (
        "those are refused"
    )


def test_every_array_of_a_golden_case_has_equations(references):
    numbers = {
        (reference.id, name): equations_of(reference, name) for reference in references for name in reference.arrays
    }
    assert [at for at, found in numbers.items() if not found] == []
    used = {number for found in numbers.values() for number in found}
    assert set(EQUATION_NAMES) - used == {"F5"}, "no stored case has a soft reset a step late"


def test_the_norm_is_named_only_where_a_gradient_passes_one():
    conv, linear = load_case("net-conv"), load_case("net-linear")
    assert equations_of(conv, "grad_fc.bias") == ("C4",) and equations_of(conv, "grad_conv2.weight") == ("C2", "N6")
    assert equations_of(conv, "conv2.ds") == ("C3", "C6") and equations_of(conv, "conv1.ds") == ("C3", "N6", "C6")
    assert equations_of(linear, "grad_hidden1.weight") == ("C2",), "this layer has no tdBN"
    assert "N6" in equations_of(load_case("net-residual"), "conv1.ds")


class TestByHand:
    """Single mutants against arithmetic on paper."""

    def lif(self, **more):
        x = np.array([0.75, 0.25]).reshape(2, 1, 1)  # fires at t = 1, then u = 0.25 with tau = 1/2
        inputs = {"x": x, "ds": np.array([1.0, 2.0]).reshape(2, 1, 1), "width": np.ones(2), **more}
        return Problem("lif", inputs, {"v_th": 0.5, "decay": 0.5, "T": 2})

    def test_the_right_one(self):
        arrays = self.lif().run()
        # du_2 = 2, dv_1 = 1, du_1 = (1 - 0.75 * 1) * 1 = 0.25, and v_1 = 0 after the reset
        assert arrays["du"].ravel().tolist() == [0.25, 2.0]
        assert arrays["grad_decay"] == 0.0

    @pytest.mark.parametrize(
        ("id", "du", "ddecay"),
        [
            ("reset-term-sign", [1.75, 2.0], 0.0),
            ("reset-term-after-reset", [1.0, 2.0], 0.0),
            ("carry-ignores-reset", [1.25, 2.0], 0.0),
            ("no-carry", [1.0, 2.0], 0.0),
            ("first-timestep-dropped", [0.0, 2.0], 0.0),
            ("last-timestep-dropped", [1.0, 0.0], 0.0),
            ("decay-gradient-before-reset", [0.25, 2.0], 1.5),
            ("decay-gradient-same-step", [0.25, 2.0], 0.5),
            ("surrogate-twice", [-1.0, 4.0], 0.0),  # dv_1 = 2, du_1 = (1 - 0.75 * 2) * 2
        ],
    )
    def test_a_wrong_one(self, id, du, ddecay):
        arrays = self.lif().run(mutant_of(id).module)
        assert arrays["du"].ravel().tolist() == du
        assert arrays["grad_decay"] == ddecay

    def test_one_thread_block_is_right_with_few_neurons(self):
        for neurons, same in ((1024, True), (1025, False)):
            x = np.full((2, 1, neurons), 0.25)
            op = Problem("lif", {"x": x, "ds": x, "width": np.ones(2)}, {"v_th": 0.5, "decay": 0.5, "T": 2})
            sums = [op.run(module)["grad_decay"] for module in (reference, mutant_of("one-block-decay-sum").module)]
            assert (sums[0] == sums[1]) == same and sums[0] != 0

    def test_a_mutant_of_a_value_the_case_has_is_no_mutant(self):
        mutant = Mutant("m", "", field="reset", value="hard")
        assert mutant.rules(MPD_AGL) is None
        assert mutant.dump(self.lif(), MPD_AGL) is None


def test_nan_is_refused_and_never_a_pass():
    case = load_case("lif-gamma-zero")
    dump = mutant_of("closed-window-gives-nan").dump(problem_of(case), Conventions(**case.conventions))
    assert np.isnan(dump["du"]).any()
    assert judged(case, dump)[0] == "refused"


class TestSelftest:
    def test_a_small_one(self):
        only = ("window-of-kappa", "softmax-overflows", "convention:reset=soft")
        result = selftest(True, [load_case("lif-hard-attached")], only=only)
        assert not result.good and result.alarms == []
        assert {row.id: bool(row.kills) for row in result.rows} == dict(zip(only, (True, False, True), strict=True))
        assert "survived: softmax-overflows" in result.text()
        assert "2 of 3 mutants killed; identify named the rule of 1 of 1 conventions" in result.text()
        assert "| `softmax-overflows` |" in result.markdown() and "**nothing**" in result.markdown()
        assert json.loads(json.dumps(result.to_json()))["good"] is False

    def test_a_broken_reference_is_named_by_its_equation(self, monkeypatch):
        """Somebody who changes a line of reference.py runs one command and reads which rule broke."""
        from agl_ref.oracle.mutants import selftest as module

        broken = variant([("return u * (1 - s)  # (F3)", "return u * (1 - s) + 0.125 * s")])
        monkeypatch.setattr(module, "_right", lambda order, one_pass: broken)
        result = selftest(True, [load_case(id) for id in ("lif-hard-attached", "lif-no-reset", "net-conv")])
        assert result.broken and not result.good and result.rows == [], "the mutants of a wrong reference say nothing"
        assert [str(alarm) for alarm in result.alarms] == [
            "lif-hard-attached: FAIL at v: equation F3 (reset)",
            "net-conv: FAIL at conv1.v: equation F3 (reset)",
        ]
        assert result.text().splitlines() == [
            "reference.py is wrong on 2 of 3 golden cases. Where it goes wrong first:",
            "  equation F3 (reset): lif-hard-attached (FAIL at v), net-conv (FAIL at conv1.v)",
        ]

    def test_of_many_alarms_a_line_has_what_they_share(self):
        shapes = ["S2", "S2", "S2", "S4"]
        alarms = [Alarm(f"case-{k}", "FAIL", "du", ("B2", "S1", shape), "") for k, shape in enumerate(shapes)]
        text = Selftest(9, 9, [*alarms, Alarm("width", "FAIL", "width", ("W1",), "")], broken=True).text()
        assert text.splitlines()[1:] == [
            "  equations B2 (gradient of the potential), S1 (height of the surrogate): case-0 (FAIL at du), "
            "case-1 (FAIL at du), case-2 (FAIL at du) and 1 more",
            "  equation W1 (width): width (FAIL at width)",
        ]

    def test_a_false_alarm_or_an_unnamed_rule_is_not_good(self):
        assert not Selftest(0, 0).good
        assert Selftest(1, 14).good
        assert not Selftest(1, 14, ["case: FAIL at u"]).good
        assert not Selftest(1, 14, rows=[Row("m", "convention", "e", ["kill"], False)]).good


def command(*argv):
    args = parser_of(argv[0]).parse_args([str(arg) for arg in argv])
    return args.run(args)


class TestCommands:
    def dump(self, folder, case, module=reference, **changes):
        given = load_case(case)
        conventions = Conventions(**{**given.conventions, **changes})
        np.savez(folder / "dump.npz", **problem_of(given).run(module, conventions, np.float32))
        return folder / "dump.npz"

    def test_identify_names_the_rule_in_words_and_in_json(self, tmp_path, capsys):
        path = self.dump(tmp_path, "lif-grid", reset_gradient="detached")
        assert command("identify", path, "--case", "lif-grid") == 1
        assert "gradient through the reset: the case has 'attached', yours has 'detached'" in capsys.readouterr().out
        assert command("identify", path, "--case", "lif-grid", "--json") == 1
        record = json.loads(capsys.readouterr().out)
        assert record["wrong"] == {"reset_gradient": {"case": "attached", "received": "detached"}}

    def test_identify_names_a_mutant(self, tmp_path, capsys):
        path = self.dump(tmp_path, "lif-grid", mutant_of("carry-gated-a-step-late").module)
        assert command("identify", path, "--case", "lif-grid") == 1
        assert "carry-gated-a-step-late: The carry is cut by s_{t+1}" in capsys.readouterr().out

    def test_identify_of_a_correct_dump_is_good(self, tmp_path, capsys):
        assert command("identify", self.dump(tmp_path, "lif-grid"), "--case", "lif-grid") == 0
        assert "the case's own conventions reproduce these arrays" in capsys.readouterr().out

    def test_bad_input_is_an_error_of_one_line(self, tmp_path):
        path = self.dump(tmp_path, "lif-grid")
        with pytest.raises(ValueError, match="expected an id"):
            command("identify", path, "--case", "no-such-case")
        np.savez(tmp_path / "other.npz", case="lif-image", u=np.zeros((4, 4, 9), np.float32))
        with pytest.raises(ValueError, match="expected a dump of 'lif-grid', received one of 'lif-image'"):
            command("identify", tmp_path / "other.npz", "--case", "lif-grid")

    @pytest.mark.parametrize("ids", [["lif-grid", "net-conv"], pytest.param(cases(), marks=pytest.mark.slow)])
    def test_selftest_without_mutants_refuses_no_correct_run(self, ids, monkeypatch, capsys):
        from agl_ref.oracle.mutants import selftest as module

        monkeypatch.setattr(module, "stored", lambda: [load_case(id) for id in ids])
        code, record = command("selftest", "--json"), json.loads(capsys.readouterr().out)
        assert code == 0 and record["false_alarms"] == []
        assert record["good"] and record["runs"] > record["cases"] >= len(ids) and record["mutants"] == []
