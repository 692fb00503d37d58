"""A decision flipped within rounding: right runs pass, wrong ones fail, as soon as the dump shows the spikes."""

from dataclasses import replace
from functools import cache
from types import SimpleNamespace

import numba
import numpy as np
import pytest
from helpers_oracle import LABELS, drive, every_layer

from agl_ref.oracle import compare, reference
from agl_ref.oracle.judge import search
from agl_ref.oracle.mutants.table import mutant_of
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import problem_of

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="whole networks, many times: minutes without the JIT, which changes no bit"
)
U32 = 2.0**-24
FIRE = ('u[t] >= threshold if conventions.spike_test == ">="', "fire(u[t], threshold) if True")
KINDS = ("full", "s", "u", "s u")
MUTANTS = ("reset-term-sign", "carry-ignores-reset", "norm-mean-term-dropped", "kernel-flipped-in-backward",
           "spread-missing", "shortcut-gradient-dropped", "decay-gradient-before-reset", "no-carry")  # fmt: skip


@cache
def planted(block="c1", edge=False):
    """(Reference, index): beta puts a neuron of this block, at t = 1, on its threshold or its window's edge."""
    net = every_layer()
    for value in net.parameters().values():
        value[...] = np.float32(value)
    x, beta = drive(dtype=np.float32).astype(float), net.parameters()[f"{block}.beta"]
    cache = net.forward(x)[block]
    v_th, half = cache.neuron.v_th, cache.width[0] / 2 if edge else 0.0
    index = np.unravel_index(np.abs(np.abs(cache.u[0] - v_th) - half).argmin(), cache.u[0].shape)
    goal = v_th + np.sign(cache.u[0][index] - v_th) * half
    for _ in range(5):
        beta[index[-1]] = np.float32(beta[index[-1]] + goal - net.forward(x)[block].u[0][index])
    found = reference(net, x, LABELS)
    margin = found.margins[f"{block}.{'window' if edge else 's'}"][0]
    assert margin[index] <= U32
    return found, index


def nudged(ref, block, index, amount, module=None):
    """The arrays of a float32 run whose u of this neuron at t = 1 is moved by so much before the threshold test."""
    seen, blocks, T = [], list(ref.meta["v_th"]), ref.meta["T"]

    def functions(copy):
        if module is not None and module.functions:
            module.functions(copy)

        def fire(u, threshold):
            seen.append(u)
            if (blocks[(len(seen) - 1) // T], (len(seen) - 1) % T) == (block, 0):
                u[index] += np.float32(amount)
            return u >= threshold

        copy.fire = fire

    lines = () if module is None else module.lines
    return problem_of(ref).run(variant((*lines, FIRE), functions), dtype=np.float32)


def flipped(ref, block, index, module=None):
    up = ref.arrays[f"{block}.s"][(0, *index)] == 0
    got = nudged(ref, block, index, 4e-7 if up else -4e-7, module)
    assert got[f"{block}.s"][(0, *index)] == up
    return got


def dump(got, kind):
    """The gradients, with spikes or potentials."""
    if kind == "full":
        return got
    return {name: a for name, a in got.items() if name.startswith("grad_") or name.rpartition(".")[2] in kind.split()}


def gradients(got):
    """The gradients alone."""
    return {name: a for name, a in got.items() if name.startswith("grad_")}


@cache
def on_the_edge(block, id=None):
    """(Reference, a float32 run): u lies on the window's edge, on its other side in the run, whose kappa is 3e-7 off."""
    ref, index = planted(block, edge=True)
    u, half, right = (
        ref.arrays[f"{block}.u"][(0, *index)],
        ref.arrays[f"{block}.width"][0] / 2,
        nudged(ref, block, index, 0),
    )
    goal = np.float32(0.5 + np.sign(u - 0.5) * half)
    factor = 1 + (-3e-7 if abs(float(goal) - 0.5) < half else 3e-7)
    line = "h = derivative(u[t] - v_th, width[t], surrogate, c)"
    module = SimpleNamespace(
        lines=((line, line.replace("width[t]", f"np.float32({factor!r}) * width[t]")),), functions=None
    )
    if id is not None:
        mutant = mutant_of(id)
        module = SimpleNamespace(lines=(*module.lines, *mutant.lines), functions=mutant.functions)
    return ref, nudged(ref, block, index, goal - right[f"{block}.u"][(0, *index)], module)


@pytest.mark.parametrize("block, kind", [*(("c1", kind) for kind in KINDS), ("r1.b", "s"), ("h", "s")])
def test_a_right_run_with_a_flipped_spike_passes(block, kind):
    ref, index = planted(block)
    got = dump(flipped(ref, block, index), kind)
    assert compare(ref, got, settle=False).verdict == "AMBIGUOUS"
    report = compare(ref, got)
    assert report.verdict == "PASS", str(report)
    assert report.details["settled"][0] == ["s"] and report.details["flips"][f"{block}.s"] == 1
    assert f"flipped within rounding: 1 of {block}.s" in str(report)
    assert set(report.checked) == set(got) == set(report.judged) and report.to_json()
    assert f"flipped within rounding: 1 of {block}.s" in report.to_html()


@pytest.mark.parametrize("id, kind", [
    *((id, KINDS[i % 4]) for i, id in enumerate(MUTANTS)),
    *(pytest.param(id, KINDS[(i + 1) % 4], marks=pytest.mark.slow) for i, id in enumerate(MUTANTS)),
])  # fmt: skip
def test_a_wrong_run_with_a_flipped_spike_fails(id, kind):
    ref, index = planted("c1")
    report = compare(ref, dump(flipped(ref, "c1", index, mutant_of(id)), kind), guess=False)
    assert report.verdict == "FAIL", str(report)
    assert report.first_divergence["expected_hex"] in report.to_html()


@pytest.mark.parametrize("block", ["c1", "r1.b", "h"])
def test_a_flip_is_found_from_the_gradients_alone(block):
    ref, index = planted(block)
    got = gradients(flipped(ref, block, index))
    assert compare(ref, got, settle=False).verdict == "AMBIGUOUS"
    report = compare(ref, got)
    assert report.verdict == "PASS", str(report)
    place = f"{block}.s[{', '.join(map(str, (0, *index)))}]"
    assert report.details["searched"]["flips"] == [place] and f"found by search: {place}" in str(report)


def test_a_window_that_flipped_is_found_from_the_gradients_alone():
    ref, index = planted("c1", edge=True)
    u, width = ref.arrays["c1.u"][(0, *index)], ref.arrays["c1.width"][0]
    outwards = 4e-7 * np.sign(u - 0.5)
    whole = nudged(ref, "c1", index, outwards if abs(u - 0.5) < width / 2 else -outwards)
    report = compare(ref, gradients(whole))
    assert report.verdict == "PASS", str(report)
    assert report.details["searched"]["flips"] == [f"c1.window[{', '.join(map(str, (0, *index)))}]"]


@pytest.mark.parametrize("id", MUTANTS)
@pytest.mark.parametrize("with_a_flip", [False, True])
def test_wrong_gradients_alone_fail_with_and_without_a_flip(id, with_a_flip):
    ref, index = planted("c1")
    got = flipped(ref, "c1", index, mutant_of(id)) if with_a_flip else nudged(ref, "c1", index, 0, mutant_of(id))
    report = compare(ref, gradients(got), guess=False)
    assert report.verdict == "FAIL" and report.exit_code == 1, str(report)


def test_gross_errors_fail_where_there_are_too_many_decisions_to_try(monkeypatch):
    """As in a large network, where the search has no runs to spare."""
    ref, index = planted("c1")
    monkeypatch.setattr(search, "FEWEST", 1)
    monkeypatch.setattr(search, "WORK", 1)
    right = gradients(flipped(ref, "c1", index))
    for change in (np.negative, np.zeros_like):
        report = compare(ref, {name: change(a) for name, a in right.items()}, guess=False)
        assert report.verdict == "FAIL" and "this bound is statistical" in str(report)
        assert report.details["searched"]["runs"] == 1 + search.DRAWS
    report = compare(ref, right)
    assert report.verdict == "AMBIGUOUS" and "not settled by search" in str(report)
    assert "Dump s and u of every layer" in str(report)


def test_no_spike_flipped_where_there_are_too_many_decisions_to_try(monkeypatch):
    """A window is then read from the gradients; a small fault in one array is no flip, which would show in others."""
    monkeypatch.setattr(search, "FEWEST", 1)
    monkeypatch.setattr(search, "WORK", 1)
    ref, got = on_the_edge("h")
    report = compare(ref, gradients(got))
    assert report.verdict == "PASS" and report.details["searched"]["flips"] == ["1 of h.window"], str(report)
    assert "found by search: 1 of h.window" in str(report)
    ref, index = planted("c1")
    right = gradients(nudged(ref, "c1", index, 4e-7 if ref.arrays["c1.s"][(0, *index)] else -4e-7))
    assert compare(ref, right).verdict == "PASS"
    report = compare(ref, {**right, "grad_c1.weight": right["grad_c1.weight"] * np.float32(1.01)}, guess=False)
    assert report.verdict == "FAIL" and "each of the nearest would show in arrays that are right" in str(report)
    assert report.details["searched"]["runs"] == 1


@pytest.mark.filterwarnings("error")
def test_a_gradient_that_should_be_exactly_zero_fails_without_a_warning():
    ref, index = planted("c1")
    got = gradients(flipped(ref, "c1", index))
    exact = {**ref.bounds, "grad_c1.w": np.zeros_like(ref.bounds["grad_c1.w"])}
    wrong = {**got, "grad_c1.w": got["grad_c1.w"] + np.float32(10)}
    assert compare(replace(ref, bounds=exact), wrong, guess=False).verdict == "FAIL"


def test_a_wrong_spike_behind_a_flip_is_not_excused():
    """It lies downstream of the flip, far from its own threshold."""
    ref, index = planted("c1")
    got = dump(flipped(ref, "c1", index), "s")
    spikes = got["r1.b.s"].copy()
    far = np.unravel_index(np.argmax(np.abs(ref.arrays["r1.b.u"] - 0.5)), spikes.shape)
    spikes[far] = 1 - spikes[far]
    report = compare(ref, {**got, "r1.b.s": spikes}, guess=False)
    assert report.verdict == "FAIL" and report.verdicts["r1.b.s"] == "FAIL"


@pytest.mark.parametrize("block", ["c1", pytest.param("h", marks=pytest.mark.slow)])
def test_a_window_that_flipped_is_found_from_the_spikes_alone(block):
    """Nothing in the dump says on which side of the window's edge the neuron was, but its layer's gradients."""
    ref, whole = on_the_edge(block)
    got = dump(whole, "s")
    assert compare(ref, got, settle=False).verdict == "AMBIGUOUS"
    report = compare(ref, got)
    assert report.verdict == "PASS", str(report)
    wrong = {**got, "grad_c1.weight": got["grad_c1.weight"] * np.float32(1.001)}
    assert compare(ref, wrong, guess=False).verdict == "FAIL"


@pytest.mark.parametrize("seed", [pytest.param(0, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 4])
def test_whole_networks_in_float16_pass(seed):
    """Dozens of spikes flip in so coarse a dtype, and what they change is right, given them.

    Hundreds of c1's neurons may be on either side of the window's edge, of which 100 gradients of parameters do not tell;
    the gradient of x does, with s alone, and with u (seed 4) where a neuron shows there and hardly in those.
    """
    rng, net = np.random.default_rng(seed), every_layer(surrogate="gaussian" if seed == 3 else "rectangular")
    for value in net.parameters().values():
        value[...] = np.float16(value * rng.normal(1, 0.1, value.shape))
    x = rng.normal(0, 1, (4, 3, 9, 9, 2)).astype(np.float16).astype(float)
    ref = reference(net, x, LABELS, dtype="float16")
    got = problem_of(ref).run(dtype=np.float16)
    assert sum((got[name] != ref.arrays[name]).sum() for name in got if name.endswith(".s")) > 3
    for kind in ("full", "s u", "s"):
        report = compare(ref, dump(got, kind), dtype="float16")
        assert report.verdict == "PASS" and report.details["settled"], str(report)
    wrong = {**got, "grad_h.weight": got["grad_h.weight"] * np.float16(1.25)}
    for kind in ("s u", "s"):
        assert compare(ref, dump(wrong, kind), dtype="float16", guess=False).verdict == "FAIL"


ON_GIVEN = ({}, {"force": "s,u"})


@pytest.mark.parametrize("block, kind, options", [
    ("h", "s u", {"force": "s,u"}), ("r1.short", "s u", {}),
    pytest.param("h", "full", {}, marks=pytest.mark.slow),
    pytest.param("r1.short", "full", {"force": "s,u"}, marks=pytest.mark.slow),
])  # fmt: skip
def test_a_window_at_its_edge_is_decided_and_excuses_nothing_behind_it(block, kind, options):
    ref, got = on_the_edge(block)
    report = compare(ref, dump(got, kind), **options)
    assert report.verdict == "PASS" and f"flipped within rounding: 1 of {block}.window;" in str(report), str(report)
    behind = dict(got)
    for name in ("grad_c1.weight", "grad_c1.gamma", "grad_c1.beta"):
        behind[name] = got[name] * np.float32(1.001)
    report = compare(ref, dump(behind, kind), guess=False, **options)
    assert report.verdict == "FAIL", str(report)
    assert report.details["first_failure"]["name"].startswith("grad_c1.")
    assert "not in the dump" not in str(report) and "Dump s" not in str(report)
    assert report.details["flips"] == {f"{block}.window": 1}  # and no other that might have


@pytest.mark.parametrize("id", [MUTANTS[0], *(pytest.param(id, marks=pytest.mark.slow) for id in MUTANTS[1:3])])
def test_a_wrong_run_with_a_window_at_its_edge_fails(id):
    ref, got = on_the_edge("h", id)
    for kind, options in (("full", {}), ("s u", {"force": "s,u"}), ("s", {})):
        report = compare(ref, dump(got, kind), guess=False, **options)
        assert report.verdict == "FAIL", str(report)


def test_a_dump_that_hides_a_window_says_what_would_show_it():
    """s and u are there: asking for them once more would help nobody."""
    ref, got = on_the_edge("h")
    hidden = {name: a for name, a in dump(got, "s u").items() if not name.startswith("grad_h.")}
    for options in ON_GIVEN:
        report = compare(ref, hidden, **options)
        assert report.verdict == "AMBIGUOUS"
        assert "Dump h.du" in str(report), str(report)
        assert "Dump s" not in str(report) and "h.u is not" not in str(report) and "width" not in report.advice()[0]
    assert compare(ref, {**hidden, "h.du": got["h.du"]}).verdict == "PASS"
