"""The guess at the cause in a report: right or silent, for every mutant and for others."""

import time

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import Conventions
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.judge.hypotheses import explain, lowered
from agl_ref.oracle.mutants.selftest import stored
from agl_ref.oracle.mutants.table import LISTED, NOT_LISTED, mutant_of, one_block
from agl_ref.oracle.problems import Problem, problem_of

RULES = [lowered(mutant.effect.rstrip(".")) for mutant in (*LISTED, *NOT_LISTED)]


def report_on(reference, module=agl.reference, keep=None, **changes):
    """The report on what a module computes for a case, with changed conventions; only the arrays `keep`, if given."""
    with np.errstate(all="ignore"):
        arrays = problem_of(reference).run(module, own_rules(reference, **changes), np.float32)
    arrays = {name: array for name, array in arrays.items() if name in reference.arrays and (not keep or name in keep)}
    return compare(reference, arrays, dtype="float32")


def own_rules(reference, **changes):
    return Conventions(**{**reference.conventions, **changes})


def test_what_is_right_has_no_cause():
    for reference in stored()[::9]:
        report = report_on(reference)
        assert report.verdict == "PASS" and "cause" not in report.details


@pytest.mark.parametrize("case", ["lif-hard-attached", "tdbn-training", "conv-same", "net-conv", "loss-mean"])
def test_noise_is_given_no_rule(case):
    """One wrong element, or all of them at random, follow no rule: no rule is named, and no factor is made up."""
    reference, rng = load_case(case), np.random.default_rng(1)
    for name in list(reference.arrays)[::3]:
        value = reference.arrays[name]
        if name.rpartition(".")[2] == "s":
            continue
        one = value.copy()
        one[tuple(rng.integers(0, n) for n in one.shape)] += 0.37
        every = value + 0.1 * rng.normal(size=value.shape)
        for wrong in (one, every):
            cause = compare(reference, {**reference.arrays, name: wrong}, dtype="float32").details["cause"] or ""
            assert (
                not any(rule in cause for rule in RULES)
                and "conventions." not in cause
                and "times the expected" not in cause
            )


def test_the_first_of_two_faults():
    """> for >= in the forward pass, and a detached reset behind it."""
    reference = load_case("lif-grid")
    report = report_on(reference, spike_test=">", reset_gradient="detached")
    cause = report.details["cause"]
    assert "conventions.spike_test is '>' where the case has '>='" in cause
    assert "that does not give du" in cause


def test_a_few_arrays_are_enough():
    reference = load_case("net-conv")
    for keep, changes, words in (
        (["grad_conv1.weight"], {"reset_gradient": "detached"}, "conventions.reset_gradient is 'detached'"),
        (["grad_x"], {"width": "later"}, "conventions.width is 'later'"),
        (["loss"], {"readout": "sum"}, "conventions.readout is 'sum'"),
    ):
        report = report_on(reference, keep=keep, **changes)
        assert words in report.details["cause"]


@pytest.mark.parametrize("size", [64, 256, 2048])
def test_other_thread_blocks(size):
    reference = load_case("lif-many-neurons")
    report = report_on(reference, one_block(size).module)
    assert f"over the first {size} terms only: one thread block" in report.details["cause"]


def test_a_layout_that_no_shape_shows():
    """T = N: batch first has the same shapes, and every value is right in it."""
    reference = load_case("lif-grid")
    turned = {name: a.swapaxes(0, 1) if a.ndim == 3 else a for name, a in reference.arrays.items()}
    report = compare(reference, turned, dtype="float32")
    assert report.verdict == "FAIL" and "--layout NT..C" in report.details["cause"]
    assert compare(reference, turned, dtype="float32", layout="NT..C").verdict == "PASS"
    report = compare(reference, reference.arrays, dtype="float32", layout="NT..C")  # the layout that was said is wrong
    assert report.verdict == "FAIL" and "--layout TN..C" in report.details["cause"]


def test_two_rules_that_are_the_same_are_both_named():
    reference = load_case("surrogate-rectangular-half")
    report = report_on(reference, mutant_of("surrogate-twice").module)
    assert "1/kappa" in report.details["cause"] and ", or: the surrogate is too large" in report.details["cause"]


def test_a_network_of_ones_own():
    net = agl.models.conv_snn(image_size=8, channels=(3, 4), num_classes=3, neuron="plif")
    x = np.random.default_rng(0).normal(0.2, 0.8, (3, 4, 8, 8, 1))
    labels = np.array([0, 2, 1, 1])
    reference = agl.oracle.reference(net, x, labels)
    rules = Conventions(reset_gradient="detached")
    other = agl.models.conv_snn(image_size=8, channels=(3, 4), num_classes=3, neuron="plif", conventions=rules)
    start = time.process_time()
    report = compare(reference, other.loss_and_grads(x, labels).grads, dtype="float64")
    assert time.process_time() - start < 20
    assert "conventions.reset_gradient is 'detached' where the case has 'attached'" in report.details["cause"]


def test_a_weight_behind_a_flatten_with_its_inputs_in_pytorchs_order():
    net = agl.models.conv_snn(image_size=12, channels=(4, 6), num_classes=3)
    x, labels = np.random.default_rng(0).normal(0.2, 0.8, (3, 4, 12, 12, 1)), np.array([0, 2, 1, 1])
    theirs = net.loss_and_grads(x, labels).grads
    theirs["fc.weight"] = theirs["fc.weight"].reshape(3, 3, 6, 3).transpose(2, 0, 1, 3).reshape(54, 3)
    report = compare(agl.oracle.reference(net, x, labels, replays=4), theirs, dtype="float64")
    assert report.verdict == "FAIL" and "(C, H, W), as PyTorch flattens" in report.details["cause"]


def test_no_rule_is_tried_on_a_replayed_backward_pass_or_where_it_is_not_wanted():
    reference = load_case("lif-hard-attached")
    arrays = problem_of(reference).run(conventions=own_rules(reference, reset_gradient="detached"), dtype=np.float32)
    forced = compare(reference, arrays, force=("s", "u", "width"))
    assert forced.verdict == "FAIL" and "conventions." not in (forced.details["cause"] or "")
    assert compare(reference, arrays, guess=False).details["cause"] is None


def test_time_is_limited(monkeypatch):
    reference = load_case("lif-hard-attached")
    run = problem_of(reference).run(conventions=own_rules(reference, reset_gradient="detached"), dtype=np.float32)
    arrays = {name: np.asarray(a, np.float64) for name, a in run.items()}
    exact = {name: np.zeros_like(a) for name, a in reference.arrays.items()}
    assert "detached" in explain(reference, arrays, exact, 2.0**-24, "du")
    monkeypatch.setattr("agl_ref.oracle.judge.hypotheses.SECONDS", -1.0)
    assert explain(reference, arrays, exact, 2.0**-24, "du") is None
    monkeypatch.setattr("agl_ref.oracle.judge.hypotheses.LARGEST", 10)
    assert explain(reference, arrays, exact, 2.0**-24, "du") is None


@pytest.mark.parametrize("mutant", NOT_LISTED, ids=lambda mutant: mutant.id)
def test_the_guess_on_a_mutant_that_is_not_listed_is_right(mutant):
    """The golden cases need not kill these, but they do."""
    words, named = lowered(mutant.effect.rstrip(".")), 0
    for case in (
        "lif-hard-attached",
        "lif-realistic",
        "lif-adaptive",
        "lif-image",
        "lif-fast-sigmoid",
        "lif-leaky-relu",
        *(["lif-long-realistic"] if mutant.id.startswith("truncated") else []),  # the others have few timesteps
    ):
        report = report_on(load_case(case), mutant.module)
        if report.verdict == "FAIL":
            assert words in report.details["cause"], case
            named += 1
    assert named


@pytest.fixture(scope="module")
def deep():
    """Three layers whose gammas, betas and decays differ, a batch, and their reference."""
    rng = np.random.default_rng(0)
    net = agl.models.conv_snn(image_size=8, channels=(3, 4, 5), num_classes=3, neuron="plif")
    for name, p in net.parameters().items():
        if name.endswith((".gamma", ".beta", ".w")):
            p[...] = rng.uniform(0.6, 1.6, p.shape) - (not name.endswith("gamma"))
    batch = rng.normal(0.2, 0.8, (4, 4, 8, 8, 1)), np.array([0, 2, 1, 1])
    return Problem.of_network(net, *batch), agl.oracle.reference(net, *batch)


KNOWN = """straight-through-estimator width-of-layer-before width-of-layer-behind width-of-stale-gamma width-of-stale-decay
truncated-backpropagation truncated-to-3 gradients-accumulated loss-scale-left-on clipping-left-on weight-decay-in-gradient
dropout-left-on label-smoothing labels-of-next-sample statistics-per-device spike-of-old-potential window-around-rest
width-per-channel spread-of-tau"""


@pytest.mark.parametrize("id", KNOWN.split())
def test_known_wrong_rules_are_named_from_gradients_alone(id, deep):
    problem, reference = deep
    mutant = mutant_of(id)
    arrays = problem.run(mutant.module, agl.MPD_AGL, np.float32)
    gradients = {name: a for name, a in arrays.items() if name.startswith("grad_")}
    assert compare(reference, gradients).details["cause"] == lowered(mutant.effect.rstrip("."))


def test_values_that_no_mutant_has(deep):
    """Another loss scale, weight decay and largest norm are read off; half of every gradient is no clipping."""
    problem, reference = deep
    names = [f"grad_{name}" for name in problem.inputs if f"grad_{name}" in reference.arrays and name != "x"]
    grads = {name: reference.arrays[name] for name in names}
    norm = np.sqrt(sum(np.sum(g * g) for g in grads.values()))
    decay = {name: g + 0.01 * problem.inputs[name.removeprefix("grad_")] for name, g in grads.items()}
    for wrong, words in (
        ({name: 2.0**16 * g for name, g in grads.items()}, "= 2^16, perhaps a loss scale"),
        ({name: g * (0.05 / norm) for name, g in grads.items()}, "to the norm 0.05: clipping"),
        ({name: 0.7 * g for name, g in grads.items()}, "the wrong values are 0.7 times"),
        (decay, "0.01 times the parameter is added to its gradient: weight decay"),
    ):
        assert words in compare(reference, wrong, dtype="float32").details["cause"]


def hand_written(case, fault):
    """A float32 neuron that shares no line with the reference, with a fault."""
    x, ds, width = (case.inputs[name].astype(np.float32) for name in ("x", "ds", "width"))
    tau, v_th, T = np.float32(case.meta["decay"]), np.float32(case.meta["v_th"]), len(x)
    u, s, v, du = (np.zeros_like(x) for _ in range(4))
    for t in range(T):
        before = v[t - 1] if t else 0 * x[0]
        u[t] = (tau * tau if fault == "leak twice" else tau) * before + x[t]
        s[t] = u[t] >= (2 if fault == "threshold 2 V_th" else 1) * v_th
        if fault == "refractory" and t:
            s[t] *= 1 - s[t - 1]
        v[t] = u[t] - s[t] * (u[t] - v_th if fault == "reset to V_th" else u[t])
    dv = 0 * x[0]
    for t in range(T)[::-1]:
        kappa = width[0] if fault == "first width" else width[t]
        h = (np.abs(u[t] - v_th) * 2 < kappa) / kappa
        reset = {"detached": 0 * dv, "V_th through the reset": v_th * dv}.get(fault, u[t] * dv)
        du[t] = (ds[t] - reset) * h + (dv if fault == "carry not cut" else dv * (1 - s[t]))
        if fault == "clipped":
            du[t] = du[t].clip(-0.2, 0.2)
        dv = du[t] if fault == "carry without tau" else tau * du[t]
    before = x if fault == "decay of x" else np.concatenate([0 * v[:1], v[:-1]])
    return {"u": u, "s": s, "v": v, "du": du, "grad_x": du, "grad_decay": np.float32((du * before).sum(dtype=float))}


@pytest.mark.parametrize("case", ["lif-hard-attached", "lif-image"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (None, None),
        ("detached", "reset_gradient is 'detached'"),
        ("leak twice", "leaks by tau^2"),
        ("reset to V_th", "reset to V_th instead of 0"),
        ("first width", "kappa_1 is used at every timestep"),
        ("V_th through the reset", "takes V_th for u_t"),
        ("carry not cut", "the factor 1 - s_t is missing"),
        ("carry without tau", "not multiplied by tau"),
        ("decay of x", "pairs du_t with x_t"),
        ("refractory", ""),  # what nobody knows is given no rule
        ("threshold 2 V_th", ""),
        ("clipped", ""),
    ],
)
def test_an_implementation_of_another_hand(case, fault, words):
    reference = load_case(case)
    report = compare(reference, hand_written(reference, fault), dtype="float32")
    if fault is None:
        assert report.verdict == "PASS"
        return
    cause = report.details["cause"]
    assert report.verdict == "FAIL"
    if words:
        assert words in cause
    else:
        assert not any(rule in (cause or "") for rule in [*RULES, "conventions."])


def bfloat16(a):
    """Rounded to bfloat16, to nearest."""
    bits = np.float32(a).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16 << 16).astype(np.uint32).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("coarse, name", [(np.float16, "float16"), (bfloat16, "bfloat16")])
@pytest.mark.parametrize("array", ["grad_conv1.weight", "grad_conv2.gamma", "conv1.u"])
def test_a_coarser_dtype_inside_is_no_factor(coarse, name, array):
    reference = load_case("net-conv")
    value = reference.arrays[array]
    rounded = np.asarray(coarse(value), np.float64)
    cause = compare(reference, {**reference.arrays, array: rounded}, dtype="float32").details["cause"]
    assert f"of the size of {name}'s" in cause and "times the expected" not in cause


def test_a_factor_has_all_its_meanings():
    """1/4 is 1/T, 1/N and 1/(H W) here: all three are named, and none is called the cause."""
    from agl_ref.oracle.bounds.reference import op_reference

    rng = np.random.default_rng(0)
    inputs = {"x": rng.normal(0.5, 1, (4, 4, 2, 2, 3)), "ds": rng.normal(size=(4, 4, 2, 2, 3))}
    reference = op_reference("own", "lif", inputs, {"v_th": 0.5, "decay": 0.5}, agl.MPD_AGL)
    wrong = {**reference.arrays, "du": reference.arrays["du"] / 4}
    cause = compare(reference, wrong, dtype="float32").details["cause"]
    assert cause == "the wrong values are 0.25 times the expected ones = tau (1 - tau) or 1 / T or 1 / N or " + (
        "1 / (2 x 2, a layer's height and width)"
    )
