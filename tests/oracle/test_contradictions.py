"""Spikes must follow from the potentials dumped beside them, as far as the dump's own rounding can tell."""

import json

import numpy as np
import pytest

from agl_ref import MPD_AGL, Conventions
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.bounds.reference import op_reference
from agl_ref.oracle.cases.export import in_dtype
from agl_ref.oracle.judge.contradictions import contradictions

TAU, V_TH = np.float32(0.3), np.float32(0.5)


@pytest.fixture(scope="module")
def near():
    """(reference, u, v_1, x): 400 neurons whose u_2 is the threshold up to one rounding of tau v + x, in float32."""
    v = np.random.default_rng(3).uniform(0.1, 0.45, (1, 400)).astype(np.float32)
    x = np.stack([v, (0.5 - np.float64(TAU) * v).astype(np.float32)])
    inputs = {"x": x.astype(float), "ds": np.full(x.shape, 0.25), "width": np.ones(2)}
    reference = op_reference("own", "lif", inputs, {"v_th": 0.5, "decay": float(TAU), "T": 2}, MPD_AGL)
    return reference, np.stack([v, TAU * v + x[1]]), v, x


def test_a_fused_multiply_add_in_the_threshold_test_alone(near):
    reference, u, v, x = near
    fused = np.stack([u[0] >= V_TH, TAU.astype(float) * v + x[1].astype(float) >= 0.5])  # exact in float64
    own = u >= V_TH
    assert 20 < (fused != own).sum() < 380
    report = compare(reference, {"u": u, "s": fused.astype(np.float32)}, dtype="float32")
    assert report.verdict == "FAIL" and report.verdicts["u"] == "PASS"
    assert report.details["contradiction"]["count"] == (fused != own).sum()
    assert "s does not follow from the dumped u" in str(report) and "the other one, or had another u" in str(report)
    assert "do not follow" in report.to_junit() and json.loads(report.to_json())["verdict"] == "FAIL"
    assert compare(reference, {"u": u, "s": own}, dtype="float32").verdict in ("PASS", "AMBIGUOUS")
    assert compare(reference, {"s": fused}, dtype="float32").verdict in ("PASS", "AMBIGUOUS")  # nothing to follow from


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_what_is_no_spike_is_called_so(near, factor):
    reference, u, _, _ = near
    text = str(compare(reference, {"u": u, "s": factor * (u >= V_TH)}, dtype="float32"))
    assert f"s = {factor:g}, but u >= V_th" in text and f"says 1: {factor:g} is no spike" in text


def test_u_that_is_stored_in_bfloat16_may_have_been_rounded_after_the_test(near):
    reference, u, _, _ = near
    rng = np.random.default_rng(0)
    u = (0.5 * (1 + rng.uniform(-1, 1, u.shape) * 2.0**-8)).astype(np.float32)
    stored = (in_dtype(u, "bfloat16").astype(np.uint32) << 16).view(np.float32)
    s = (u >= V_TH).astype(float)
    assert ((stored >= V_TH) != s).any()
    for kind, judged in (("bfloat16", "bfloat16"), ("float32", "bfloat16"), ("bfloat16", "float32")):
        assert not contradictions(reference, {"u": stored.astype(float), "s": s}, {"u": kind}, judged)["s"].any()
    exact = contradictions(reference, {"u": stored.astype(float), "s": s}, {"u": "float32"}, "float32")["s"]
    assert np.array_equal(exact, (stored >= V_TH) != s)
    far = {"u": np.full(u.shape, 0.5 * (1 + 2.0**-5)), "s": np.zeros(u.shape)}
    assert contradictions(reference, far, {"u": "bfloat16"}, "bfloat16")["s"].all()


def test_the_threshold_may_be_rounded_to_the_dtype_or_not():
    x = np.full((1, 1, 3), 0.7)
    inputs = {"x": x, "ds": x, "width": np.ones(1)}
    reference = op_reference("own", "lif", inputs, {"v_th": 0.7, "decay": 0.5, "T": 1}, MPD_AGL)
    u = np.full((1, 1, 3), float(np.float32(0.7)))  # below 0.7, and V_th itself in float32
    for s in (0.0, 1.0):
        assert not contradictions(reference, {"u": u, "s": np.full(u.shape, s)}, {"u": "float32"}, "float32")["s"].any()
    above = np.nextafter(u.astype(np.float32), np.float32(1)).astype(float)
    assert contradictions(reference, {"u": above, "s": 0 * u}, {"u": "float32"}, "float32")["s"].all()


def test_the_conventions_test_and_each_blocks_own_threshold():
    case = load_case("lif-on-threshold-strict")
    assert Conventions(**case.conventions).spike_test == ">"
    arrays = {"u": case.arrays["u"], "s": (case.arrays["u"] >= 0.5).astype(float)}
    found = contradictions(case, arrays, {"u": "float32"}, "float32")["s"]
    assert np.array_equal(found, case.arrays["u"] == 0.5) and found.any()
    net = load_case("net-thresholds")
    given = {name: net.arrays[name] for name in ("conv1.u", "conv1.s", "conv2.u", "conv2.s")}
    assert compare(net, given).verdict == "PASS"
    swapped = {**given, "conv2.s": (given["conv2.u"] >= net.meta["v_th"]["conv1"]).astype(float)}
    found = contradictions(net, swapped, {}, "float64")
    assert found["conv2.s"].any() and not found["conv1.s"].any()
