"""The oracle on networks whose reset lags one step: reference, bounds and margins know the rule, and tell it from others."""

from dataclasses import replace

import numpy as np
import pytest

import agl_ref as agl
from agl_ref.oracle import compare, reference
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import Problem

LATE = agl.Conventions(reset="soft late")
VARIANTS = [
    LATE,
    replace(LATE, reset_gradient="detached"),
    replace(LATE, input_scale="1 - tau", width_gradient="flows"),
    agl.PRESETS["snntorch"],
]


def problem_of(c, seed, neuron="plif"):
    net = agl.models.conv_snn(
        image_size=6, channels=(3, 4), num_classes=3, neuron=neuron, decay=0.6, conventions=c, seed=seed
    )
    rng = np.random.default_rng(seed)
    return net, rng.normal(size=(4, 3, 6, 6, 1)), rng.integers(0, 3, 3)


@pytest.mark.parametrize("order", ["blas", "backward"])
@pytest.mark.parametrize("c", VARIANTS, ids=range(len(VARIANTS)))
def test_the_reference_of_the_same_rule_passes_within_the_bounds(c, order):
    verdicts = []
    for seed in range(2):
        net, x, labels = problem_of(c, seed, "lif" if seed % 2 else "plif")
        ref = reference(net, x, labels)
        assert any(ref.arrays[f"{name}.s"][:-1].any() for name, _ in net.blocks())
        problem = Problem.of_network(net, x, labels)
        for dtype in (np.float64, np.float32):
            arrays = problem.run(variant(order=order), c, dtype)
            verdicts.append(compare(ref, arrays, dtype=np.dtype(dtype).name).verdict)
    assert "FAIL" not in verdicts
    assert verdicts.count("PASS") >= 3


@pytest.mark.parametrize(
    "change", [{"reset": "soft"}, {"reset": "none"}, {"reset": "hard"}, {"reset_gradient": "detached"}]
)
def test_another_rule_fails(change):
    net, x, labels = problem_of(LATE, 0)
    arrays = Problem.of_network(net, x, labels).run(conventions=replace(LATE, **change), dtype=np.float32)
    assert compare(reference(net, x, labels), arrays, dtype="float32").verdict == "FAIL"


def test_the_late_rule_fails_where_another_is_asked_for():
    net, x, labels = problem_of(replace(LATE, reset="soft"), 0)
    arrays = Problem.of_network(net, x, labels).run(conventions=LATE, dtype=np.float32)
    assert compare(reference(net, x, labels), arrays, dtype="float32").verdict == "FAIL"
