"""Verdicts, first divergence, ambiguity, teacher forcing, the report: on cases small enough to follow by hand."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from xml.etree import ElementTree

import numpy as np
import pytest

import agl_ref as agl
from agl_ref.oracle import Oracle, assert_matches, compare, force, load_case, reference
from agl_ref.oracle.bounds.reference import op_reference, reference_of_case
from agl_ref.oracle.cases.registry import definition
from agl_ref.oracle.judge.downstream import Order
from agl_ref.oracle.judge.report import SHOWN
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import problem_of
from agl_ref.oracle.types import Reference

U32 = 2.0**-24


@pytest.fixture(scope="module")
def lif():
    return reference_of_case(definition("lif-realistic"))


def small_net(seed=0, **options):
    net = agl.models.conv_snn(image_size=6, channels=(3, 4), num_classes=3, neuron="plif", seed=seed, **options)
    for value in net.parameters().values():
        value[...] = value.astype(np.float32)
    rng = np.random.default_rng(seed)
    return net, rng.normal(0.3, 1.0, (3, 2, 6, 6, 1)).astype(np.float32).astype(float), rng.integers(0, 3, 2)


@pytest.fixture(scope="module")
def net():
    return reference(*small_net())


def float32(ref, **changes):
    """An independent implementation's arrays in float32, under other conventions if asked."""
    conventions = replace(agl.Conventions(**ref.conventions), **changes)
    return problem_of(ref).run(variant(order="forward"), conventions, np.float32)


# --- verdicts


def test_pass_names_what_was_not_checked(lif):
    got = float32(lif)
    report = compare(lif, {"u": got["u"], "grad_x": got["grad_x"]})
    assert report.verdict == "PASS" and report.exit_code == 0 and report.first_divergence is None
    assert report.checked == ["u", "grad_x"] and report.not_checked == ["width", "s", "v", "du", "grad_decay"]
    assert "NOT checked 5: width, s, v, du, grad_decay" in str(report)


def test_a_reference_prints_its_names_and_no_numbers(lif):
    assert repr(lif) == "<Reference lif-realistic: width, u, s, v, du, grad_x, grad_decay>"


def test_one_element_just_outside_its_bound_fails(lif):
    got = lif.arrays["grad_x"].copy()
    index = tuple(np.argwhere(lif.bounds["grad_x"] > 0)[5])
    bound = lif.bounds["grad_x"][index] * U32
    got[index] += 0.99 * bound
    assert compare(lif, {"grad_x": got}, dtype="float32").verdict == "PASS"
    got[index] += 0.02 * bound
    report = compare(lif, {"grad_x": got}, dtype="float32")
    assert report.verdict == "FAIL" and report.exit_code == 1
    at = report.first_divergence
    assert (at["name"], tuple(at["index"])) == ("grad_x", index)
    assert at["expected"] == lif.arrays["grad_x"][index] and at["received"] == got[index]
    assert float.fromhex(at["received_hex"]) == got[index]
    assert at["allowed"] == pytest.approx(bound) and at["error"] == pytest.approx(1.01 * bound)
    assert at["explains"][0] == at["explains"][1] == 1


def test_a_value_that_must_be_equal_must_be_equal(lif):
    zero = tuple(np.argwhere((lif.bounds["v"] == 0) & (lif.arrays["s"] == 1))[0])
    v = lif.arrays["v"].copy()
    v[zero] = 1e-30
    report = compare(lif, {"v": v}, dtype="float32")
    assert report.verdict == "FAIL" and report.details["worst"]["v"] == np.inf and "must be equal" in str(report)


def test_ulps_are_those_of_the_dtype(lif):
    u = lif.arrays["u"].copy()
    index = tuple(np.argwhere((u > 1) & (u < 2))[0])
    u[index] += 1000 * 2.0**-23
    assert compare(lif, {"u": u}, dtype="float32").first_divergence["ulps"] == pytest.approx(1000)


def test_float64_is_judged_twice_as_widely_and_in_its_own_unit(lif):
    got = lif.arrays["grad_x"].copy()
    index = tuple(np.argwhere(lif.bounds["grad_x"] > 4)[0])
    got[index] += 1.5 * lif.bounds["grad_x"][index] * 2.0**-53
    assert compare(lif, {"grad_x": got}).dtype == "float64"
    assert compare(lif, {"grad_x": got}).verdict == "PASS"
    got[index] += 1.5 * lif.bounds["grad_x"][index] * 2.0**-53
    assert compare(lif, {"grad_x": got}).verdict == "FAIL"


def test_a_bare_parameter_name_is_its_gradient(net):
    got = float32(net)
    given = {"conv1.weight": got["grad_conv1.weight"], "fc.bias.grad": got["grad_fc.bias"]}
    assert compare(net, given).checked == ["grad_fc.bias", "grad_conv1.weight"]
    with pytest.raises(ValueError, match=r"grad_conv1.weight: expected it once"):
        compare(net, {**given, "grad_conv1.weight": got["grad_conv1.weight"]})


# --- the first divergence, in the order of computation


@pytest.mark.parametrize(
    "field, value, name",
    [
        ("reset", "soft", "v"),
        ("reset_gradient", "detached", "du"),
        ("width", "first", "width"),
        ("surrogate_scale", "1/(2 kappa)", "du"),
    ],
)
def test_another_convention_fails_where_it_first_shows(lif, field, value, name):
    report = compare(lif, float32(lif, **{field: value}))
    assert report.verdict == "FAIL" and report.first_divergence["name"] == name
    times = {"width": 1, "v": 0}
    assert report.first_divergence["index"][0] == times.get(name, report.first_divergence["index"][0])
    if name == "du":  # backward, in reverse time: nothing later is wrong
        t = report.first_divergence["index"][0]
        later = float32(lif, **{field: value})["du"][t + 1 :]
        assert (np.abs(later - lif.arrays["du"][t + 1 :]) <= lif.bounds["du"][t + 1 :] * U32).all()


@pytest.mark.parametrize(
    "field, value, where",
    [
        ("norm_scale", "1", "conv1.width"),
        ("readout", "sum", "loss"),
        ("reset_gradient", "detached", "conv2.du"),
        ("norm_variance", "unbiased", "conv1.x"),
    ],
)
def test_networks_fail_in_the_first_layer_that_differs(net, field, value, where):
    report = compare(net, float32(net, **{field: value}))
    assert report.verdict == "FAIL" and report.first_divergence["name"] == where


def test_the_walk_through_a_network_is_by_layer_then_time(net):
    got = {name: array.copy() for name, array in net.arrays.items()}
    got["conv2.u"][0] += 1e-3
    got["conv1.v"][2, 0, 0, 0, 0] += 1e-3
    got["conv1.x"][1, 0, 0, 0, 1] += 1e-3
    at = compare(net, got, dtype="float32").first_divergence
    assert (at["name"], at["index"]) == ("conv1.x", [1, 0, 0, 0, 1])
    got["conv1.x"] = net.arrays["conv1.x"]
    at = compare(net, got, dtype="float32").first_divergence
    assert (at["name"], at["index"]) == ("conv1.v", [2, 0, 0, 0, 0])
    assert at["explains"] == [1 + got["conv2.u"][0].size, 1 + got["conv2.u"][0].size]


def test_a_gradient_dumped_alone_is_walked_backwards_in_time(lif):
    wrong = lif.arrays["grad_x"].astype(np.float32)
    assert len(wrong) > 1
    wrong[:, 0] += 1
    assert compare(lif, {"grad_x": wrong}).first_divergence["index"][0] == len(wrong) - 1
    right = lif.arrays["grad_x"].astype(np.float32)
    right[0] += 1  # du before dx at each timestep, and the sums over time last
    assert compare(lif, {"grad_x": right, "du": right}).first_divergence["name"] == "du"
    assert compare(lif, {"grad_x": right, "grad_decay": np.float32(9)}).first_divergence["name"] == "grad_x"


def test_downstream_by_hand():
    order = Order(["a.width", "a.x", "a.u", "a.s", "a.v", "b.x", "b.u", "logits", "b.du", "a.ds", "a.du", "grad_b.weight",
                   "grad_a.weight", "grad_x"])  # fmt: skip
    mask = np.zeros((3, 2), bool)
    mask[1, 0] = True
    assert order.after("a.u", "a.u", mask).tolist() == [[0, 0], [0, 0], [1, 0]]
    assert order.after("a.s", "a.u", mask).tolist() == [[0, 0], [1, 0], [1, 0]]
    assert order.after("a.x", "a.u", mask) is None and order.after("a.u", "b.u", mask) is None
    assert order.after("b.x", "a.s", mask) and order.after("grad_b.weight", "a.s", mask)
    assert order.after("a.du", "a.ds", mask).tolist() == [[1, 0], [1, 0], [0, 0]]  # in reverse time
    assert order.after("grad_a.weight", "a.du", mask) and order.after("grad_b.weight", "a.du", mask) is None
    assert order.after("b.u", "a.width", np.ones(3, bool)) is None and order.after("a.du", "a.width", np.ones(3, bool))
    assert order.after("grad_a.weight", "grad_b.weight", np.ones(4, bool)) is None


def test_the_body_of_a_residual_block_does_not_reach_its_shortcut_nor_the_other_way_round():
    body = [{"name": "r.b"}, {"name": "r.c"}]
    layers = [
        {"kind": "block", "name": "a"},
        {"kind": "residual", "name": "r", "body": body, "shortcut": {"name": "r.s"}},
    ]
    names = [f"{block}.{key}" for block in ("a", "r.b", "r.c", "r.s") for key in ("width", "x", "s")]
    names += ["logits", *(f"{block}.{key}" for block in ("r.s", "r.c", "r.b", "a") for key in ("ds", "du"))]
    names += ["grad_r.s.weight", "grad_r.c.weight", "grad_a.weight"]
    order, mask = Order(names, layers), np.ones((2, 1), bool)
    assert order.after("r.s.x", "r.b.s", mask) is None and order.after("r.c.x", "r.b.s", mask)
    assert order.after("logits", "r.b.s", mask) and order.after("r.s.ds", "r.b.s", mask)  # through the loss
    assert order.after("r.c.du", "r.s.du", mask) is None and order.after("a.ds", "r.s.du", mask)
    assert order.after("grad_r.c.weight", "r.s.du", mask) is None and order.after("grad_a.weight", "r.s.du", mask)
    assert order.after("r.c.du", "r.s.width", np.ones(2, bool)) is None and order.after(
        "a.du", "r.s.width", np.ones(2, bool)
    )


# --- ambiguity: spikes and windows within rounding distance of a boundary


def near_threshold():
    """Four neurons, two timesteps; the first's u_1 is within a rounding error of the threshold, the rest is clear of it."""
    x = np.array([[0.5, 0.9, 0.1, 0.7], [0.3, 0.31, 0.42, 0.2]]).reshape(2, 1, 4)
    x[0, 0, 0] = 0.5 * (1 - 0.3 * U32)
    inputs = {"x": x, "ds": np.ones((2, 1, 4)), "width": np.array([0.9, 0.9])}
    return op_reference("near", "lif", inputs, {"v_th": 0.5, "decay": 0.3}, agl.MPD_AGL)


def run_op_with(ref, u, s):
    """The gradients that follow from these u and s, by two timesteps of arithmetic."""
    ds, h = ref.inputs["ds"], (np.abs(u - 0.5) < 0.45) / 0.9
    du = np.empty_like(u)
    du[1] = ds[1] * h[1]
    dv = 0.3 * du[1]
    du[0] = dv * (1 - s[0]) + (ds[0] - u[0] * dv) * h[0]
    v = u * (1 - s)
    return {"u": u, "s": s, "v": v, "du": du, "grad_x": du, "grad_decay": (du[1] * v[0]).sum()}


def test_a_spike_that_flipped_in_rounding_is_ambiguous_and_never_a_pass():
    ref = near_threshold()
    assert ref.arrays["s"][0].tolist() == [[0, 1, 0, 1]] and ref.margins["s"][0, 0, 0] < U32
    assert (ref.margins["s"].ravel()[1:] > 1000 * U32).all()
    u, s = ref.arrays["u"].copy(), ref.arrays["s"].copy()
    u[0, 0, 0], s[0, 0, 0] = 0.5, 1.0
    u[1, 0, 0] = 0.3  # after the reset
    assert compare(ref, run_op_with(ref, u, s), dtype="float32").verdict == "PASS"  # judged from its own spikes
    report = compare(ref, run_op_with(ref, u, s), dtype="float32", settle=False)
    assert report.verdict == "AMBIGUOUS" and report.exit_code == 2
    assert report.first_divergence["name"] == "s" and report.first_divergence["ambiguous"]
    assert report.details["flips"] == {"s": 1}
    assert "settle=True" in str(report)  # the dump shows all decisions
    covered, total = report.first_divergence["explains"]
    assert covered == total > 4


def test_what_a_flip_cannot_reach_still_fails():
    ref = near_threshold()
    u, s = ref.arrays["u"].copy(), ref.arrays["s"].copy()
    u[0, 0, 0], s[0, 0, 0], u[1, 0, 0] = 0.5, 1.0, 0.3
    got = run_op_with(ref, u, s)
    got["du"][0, 0, 2] += 1e-3  # another neuron
    report = compare(ref, got, dtype="float32")
    assert report.verdict == "FAIL" and report.verdicts["du"] == "FAIL" and report.verdicts["s"] == "AMBIGUOUS"
    assert report.details["first_failure"]["index"] == [0, 0, 2]
    assert "first failure that no flip explains" in str(report)


def test_a_flip_far_from_the_threshold_fails():
    ref = near_threshold()
    s = ref.arrays["s"].copy()
    s[0, 0, 1] = 0
    assert compare(ref, {"s": s}, dtype="float32").verdict == "FAIL"


def test_gradients_alone_are_judged_by_a_search_for_the_flip():
    ref = near_threshold()
    u, s = ref.arrays["u"].copy(), ref.arrays["s"].copy()
    u[0, 0, 0], s[0, 0, 0], u[1, 0, 0] = 0.5, 1.0, 0.3
    got = run_op_with(ref, u, s)
    alone = {"grad_x": got["grad_x"], "grad_decay": got["grad_decay"]}
    report = compare(ref, alone, dtype="float32", settle=False)
    assert report.verdict == "AMBIGUOUS" and "not in the dump" in str(report)
    report = compare(ref, alone, dtype="float32")
    assert report.verdict == "PASS" and report.details["searched"]["flips"] == ["s[0, 0, 0]"]
    assert compare(ref, {**alone, "grad_decay": 1.01 * got["grad_decay"]}, dtype="float32").verdict == "FAIL"
    assert compare(ref, {"grad_x": ref.arrays["grad_x"]}, dtype="float32").verdict == "PASS"


def test_a_window_that_flipped_in_rounding_is_ambiguous():
    """Neuron 0 is a third of a rounding error inside the window of t = 1; the implementation has it outside."""
    x = np.array([[0.05 * (1 + 0.3 * U32), 0.9], [0.3, 0.31]]).reshape(2, 1, 2)
    inputs = {"x": x, "ds": np.ones((2, 1, 2)), "width": np.array([0.9, 0.9])}
    ref = op_reference("edge", "lif", inputs, {"v_th": 0.5, "decay": 0.3}, agl.MPD_AGL)
    assert ref.margins["window"][0, 0, 0] < U32 < ref.margins["window"].ravel()[1:].min()
    u = ref.arrays["u"].copy()
    u[0, 0, 0] = 0.05
    got = run_op_with(ref, u, ref.arrays["s"])
    got["du"][0, 0, 0] = got["grad_x"][0, 0, 0] = 0.3 * got["du"][1, 0, 0]
    assert ref.arrays["du"][0, 0, 0] > 1
    report = compare(ref, got, dtype="float32", settle=False)
    assert report.verdict == "AMBIGUOUS" and report.details["flips"] == {"du": 1}, str(report)
    assert compare(ref, got, dtype="float32").verdict == "PASS"
    report = compare(ref, {"grad_x": got["grad_x"]}, dtype="float32")
    assert report.verdict == "PASS" and report.details["searched"]["flips"] == ["window[0, 0, 0]"]


def test_a_window_that_may_have_flipped_is_ambiguous_where_no_gradient_of_the_neuron_is_dumped():
    """Neuron 0 at t = 2 is at the edge; the dumped u has it inside, and only the sum over time shows that it was not."""
    x = np.array([[0.2, 0.9], [-0.01 + 0.3 * U32 * 0.05, 0.31]]).reshape(2, 1, 2)
    inputs = {"x": x, "ds": np.ones((2, 1, 2)), "width": np.array([0.9, 0.9])}
    ref = op_reference("edge", "lif", inputs, {"v_th": 0.5, "decay": 0.3}, agl.MPD_AGL)
    assert ref.margins["window"][1, 0, 0] < U32 < np.delete(ref.margins["window"].ravel(), 2).min()
    got = {"u": ref.arrays["u"], "s": ref.arrays["s"], "grad_decay": np.zeros(())}
    assert ref.arrays["grad_decay"] > 0.1
    assert compare(ref, got, dtype="float32", settle=False).verdict == "AMBIGUOUS"
    assert compare(ref, {**got, "du": ref.arrays["du"]}, dtype="float32").verdict == "FAIL"  # it did not flip


def test_a_flip_in_the_body_does_not_excuse_the_shortcut():
    weight = np.full((1, 3), 0.5 * (1 - 0.3 * U32))
    body, shortcut = (
        agl.SpikingBlock(name, agl.Linear(1, 3, bias=False, seed=1), None, agl.LIF(0.2)) for name in ("b", "s")
    )
    net = agl.Network([agl.Residual("r", [body], shortcut), agl.Readout("fc", 3, 2)], (1,))
    net.parameters()["r.b.weight"][...] = weight
    ref = reference(net, np.array([1.0, 0.4]).reshape(2, 1, 1), np.array([0]))
    u, s, v = (ref.arrays[f"r.b.{key}"].copy() for key in "usv")
    u[0], s[0], v[0] = 0.5, 1.0, 0.0
    got = {"r.b.s": s, "r.b.v": v, "r.s.u": ref.arrays["r.s.u"], "logits": ref.arrays["logits"] + 1}
    assert compare(ref, got, dtype="float32", settle=False).verdict == "AMBIGUOUS"
    report = compare(ref, {**got, "r.s.u": got["r.s.u"] * 1.01}, dtype="float32")
    assert report.verdicts["r.s.u"] == "FAIL" and report.verdicts["logits"] == "AMBIGUOUS", str(report)
    assert compare(ref, got, dtype="float32").verdicts["logits"] == "FAIL"  # from the spikes, they are wrong


# --- teacher forcing


def test_forcing_judges_the_backward_pass_on_its_own():
    ref = near_threshold()
    u, s = ref.arrays["u"].copy(), ref.arrays["s"].copy()
    u[0, 0, 0], s[0, 0, 0], u[1, 0, 0] = 0.5, 1.0, 0.3
    got = run_op_with(ref, u, s)
    report = compare(ref, got, dtype="float32", force=("s", "u"))
    assert report.verdict == "PASS" and report.not_checked == ["width", "u", "s"]
    assert "backward pass from the given s, u" in str(report)
    got["du"][0, 0, 0] *= 1.001
    report = compare(ref, got, dtype="float32", force=("s", "u"))
    assert report.verdict == "FAIL" and report.first_divergence["index"] == [0, 0, 0]


def test_forcing_a_network_replays_norm_and_loss_from_the_forced_spikes(net):
    """Spikes far from the reference's: everything after them must follow, from an implementation that has them."""
    block = "conv1"
    flipped = net.arrays[f"{block}.s"].copy()
    flipped[0, 0, 0, 0] = 1 - flipped[0, 0, 0, 0]

    seen = []

    def stubborn(module):
        def fire(u, threshold):
            seen.append(u)
            return flipped[0] if len(seen) == 1 and u.shape == flipped.shape[1:] else u >= threshold

        module.fire = fire

    other = variant(
        [('u[t] >= threshold if conventions.spike_test == ">="', "fire(u[t], threshold) if True")], stubborn
    )
    got = problem_of(net).run(other, dtype=np.float32)
    assert (got["conv1.s"] != net.arrays["conv1.s"]).any()
    assert compare(net, got).verdict == "FAIL"
    report = compare(net, got, force=("s", "u", "width"))
    assert report.verdict == "PASS", str(report)
    assert "conv2.x" in report.checked and "grad_conv1.weight" in report.checked and "conv1.s" in report.not_checked
    got["grad_conv1.gamma"] = got["grad_conv1.gamma"] * np.float32(1.01)
    assert compare(net, got, force=("s", "u", "width")).verdict == "FAIL"


def test_forcing_refuses(lif):
    got = float32(lif)
    with pytest.raises(ValueError, match="force: expected some of s, u, width"):
        force(lif, lif.arrays, ("v",))
    with pytest.raises(ValueError, match="force: expected at least one of"):
        compare(lif, {"grad_x": got["grad_x"]}, force=("s",))
    with pytest.raises(ValueError, match="expected spikes of 0 and 1"):
        compare(lif, {**got, "s": got["s"] * 2}, force=("s",))
    with pytest.raises(ValueError, match="expected something to judge"):
        compare(lif, {"s": got["s"]}, force=("s",))
    with pytest.raises(ValueError, match="kappa >= 0"):
        compare(lif, {**got, "width": -got["width"]}, force=("width",))


# --- a guess at the cause


def test_causes(lif):
    def cause(**changes):
        got = {name: array.copy() for name, array in lif.arrays.items()}
        got.update(changes)
        return compare(lif, got, dtype="float32").details["cause"]

    a = lif.arrays
    assert "never written" in cause(du=np.zeros_like(a["du"]))
    assert "sign" in cause(du=-a["du"])
    assert "one timestep later" in cause(du=np.roll(a["du"], 1, axis=0))
    assert "2 times the expected ones" in cause(du=2 * a["du"])
    halved = np.where(np.arange(a["du"].size).reshape(a["du"].shape) % 5 == 0, 1.5, 0.5) * a["du"]
    assert "times the expected" not in str(cause(du=halved))
    assert (a["du"] == 0).any() and "times the expected" not in str(cause(du=2 * a["du"] + (a["du"] == 0)))
    assert "conventions.width is 'first' where" in cause(width=np.full_like(a["width"], a["width"][0]))
    assert "only the first timestep" in cause(u=a["u"] + 0.01 * (np.arange(5) == 0).reshape(5, 1, 1))
    blocks = np.arange(a["du"][0].size).reshape(a["du"][0].shape) >= 128
    assert "first 128 neurons" in cause(
        du=a["du"] * (1 + 0.01 * np.sin(np.arange(a["du"].size)).reshape(a["du"].shape) * blocks)
    )


def test_causes_on_boundaries():
    ref = reference_of_case(definition("lif-on-threshold"))
    got = float32(ref, spike_test=">")
    assert (got["s"] != ref.arrays["s"]).any()
    assert "spike_test" in compare(ref, {"s": got["s"]}).details["cause"]
    ref = reference_of_case(definition("lif-on-window-edge"))
    got = float32(ref, window_edge="<=")
    report = compare(ref, {name: got[name] for name in ("u", "s", "du")})
    assert report.first_divergence["name"] == "du" and report.verdict == "FAIL"


# --- report formats, the public entry points


def test_json_and_junit(lif):
    report = compare(lif, float32(lif, reset="soft"))
    data = json.loads(report.to_json())
    assert (
        data["verdict"] == "FAIL" and data["first_divergence"]["name"] == "v" and data["details"]["worst"]["v"] == "inf"
    )
    suite = ElementTree.fromstring(report.to_junit())
    assert int(suite.get("failures")) == len(suite.findall("testcase/failure")) == 6
    assert suite.get("tests") == "7"
    report = compare(lif, {"u": lif.arrays["u"]})
    assert len(ElementTree.fromstring(report.to_junit()).findall("testcase/skipped")) == 6


def test_junit_holds_the_report_once(lif):
    report = compare(lif, float32(lif, reset="soft"))
    text = report.to_junit()
    assert text.count("first divergence") == 1 == str(report).count("first divergence")
    assert ElementTree.fromstring(text).find("system-out").text == str(report)


def test_of_many_wrong_arrays_the_text_says_first_what_to_do_and_names_some():
    names = [f"grad_fc{i}.weight" for i in range(SHOWN + 40)]
    right = {name: np.ones(3) for name in names}
    case = Reference("own", asdict(agl.MPD_AGL), {"op": "linear"}, {}, right, dict.fromkeys(names, np.zeros(3)))
    report = compare(case, {name: 2 * array for name, array in right.items()}, guess=False)
    lines = report.text().split("\n")
    assert lines[0].startswith("FAIL") and lines[1].strip() == report.advice()[0]
    assert "agl.oracle.identify(net, x, labels, theirs)" in lines[1], "the command knows no network of one's own"
    assert sum("elements off" in line for line in lines) == SHOWN and "... and 40 more: " in report.text()
    assert all(f"{name}: 3 of 3 elements off" in report.text(every=True) for name in names)


def test_colour_only_where_asked(lif):
    report = compare(lif, {"u": lif.arrays["u"]})
    assert "\033" not in str(report) and report.text(colour=True).startswith("\033[32mPASS\033[0m")


def test_assert_matches(lif):
    got = float32(lif)
    assert assert_matches(lif, u=got["u"], s=got["s"], grad_x=got["grad_x"]).verdict == "PASS"
    with pytest.raises(AssertionError, match="first divergence: grad_x"):
        assert_matches(lif, grad_x=got["grad_x"] * 2)


def test_oracle_of_a_network():
    net, x, labels = small_net(3)
    oracle = Oracle(net)
    ref = oracle.reference(x, labels)
    report = oracle.compare(ref, float32(ref))
    assert report.verdict == "PASS" and report.dtype == "float32"
    half = {name: 0.5 * value for name, value in float32(ref).items() if name.startswith("grad_conv1.w")}
    assert oracle.compare(ref, half).verdict == "FAIL"


def test_a_network_that_computes_no_numbers_has_no_reference():
    net, x, labels = small_net(3)
    net.layers[-1].params["weight"][0, 0] = np.nan
    with pytest.raises(ValueError, match="logits: expected finite values"):
        reference(net, x, labels)


def test_comparing_needs_numpy_alone(tmp_path):
    code = """
import sys
import numpy as np
from agl_ref.oracle import Reference, compare
arrays = {"u": np.ones((2, 1, 3))}
ref = Reference("a", {"window_edge": "<"}, {"T": 2, "v_th": 0.5, "op": "lif"}, {}, arrays, {"u": np.ones((2, 1, 3))})
assert compare(ref, {"u": np.ones((2, 1, 3), np.float32)}).verdict == "PASS"
assert compare(ref, {"u": 2 * np.ones((2, 1, 3), np.float32)}).verdict == "FAIL"
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"numba", "scipy", "matplotlib", "tqdm"}, loaded
"""
    root = os.path.dirname(os.path.dirname(os.path.abspath(agl.__file__)))
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_function_stays_the_function_when_its_folder_is_imported():
    import agl_ref.oracle
    import agl_ref.oracle.cases
    import agl_ref.oracle.identify

    assert callable(agl_ref.oracle.cases) and callable(agl_ref.oracle.identify)
    assert "compare" in dir(agl_ref.oracle)
    with pytest.raises(AttributeError, match="nothing"):
        _ = agl_ref.oracle.nothing


@pytest.mark.parametrize("rule", ["exact", "empirical"])
def test_a_reference_refuses_width_rules_that_nobody_else_has(rule):
    net = agl.models.conv_snn(image_size=4, channels=(2,), num_classes=2, conventions=agl.Conventions(width=rule))
    with pytest.raises(ValueError, match="net: expected a width rule that other implementations have, received"):
        agl.oracle.reference(net, np.ones((2, 1, 4, 4, 1)), np.array([1]))


@pytest.mark.parametrize("spikes", [np.float32, np.float64, bool, np.int8, np.float16])
def test_the_dtype_of_spikes_loosens_no_verdict(spikes):
    ref = load_case("lif-realistic")
    theirs = {**ref.arrays, "s": ref.arrays["s"].astype(spikes), "grad_x": ref.arrays["grad_x"] * (1 + 2e-8)}
    assert compare(ref, theirs).dtype == "float64" and compare(ref, theirs).verdict == "FAIL"
    assert compare(ref, {"s": ref.arrays["s"].astype(np.float32)}).dtype == "float32"


def test_the_dtype_of_widths_of_few_bits_loosens_no_verdict():
    """Widths such as 15/64 are the same numbers in every dtype."""
    ref = load_case("lif-gaussian-far")
    theirs = {"width": ref.arrays["width"].astype(np.float32), "grad_x": ref.arrays["grad_x"] * (1 + 2e-8)}
    assert compare(ref, theirs).dtype == "float64" and compare(ref, theirs).verdict == "FAIL"
    assert compare(ref, {**theirs, "u": np.float32(ref.arrays["u"])}).dtype == "float32"
    assert compare(ref, {"width": theirs["width"]}).dtype == "float32"
