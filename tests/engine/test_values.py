"""Values that were taken without a word: numbers that float32 swallows, masks, truth values, names of nothing."""

import numpy as np
import pytest
from helpers import assert_refused

import agl_ref as agl
from agl_ref import data, interop, oracle, theory, train
from agl_ref.course import figures
from agl_ref.engine import loss, optim, width
from agl_ref.train import plots

X = np.random.default_rng(0).standard_normal((2, 3, 4))
X32 = X.astype(np.float32)
ONE, ZERO = np.ones(4, np.float32), np.zeros(4, np.float32)
MASKED = np.ma.masked_array([0, 1, 2], mask=[True, False, False])


@pytest.mark.parametrize("call", [
    lambda: agl.lif_forward(X32, v_th=1e-50), lambda: agl.lif_forward(X32, decay=1 - 1e-12),
    lambda: agl.lif_forward(X32, v_th=1e39), lambda: agl.lif_forward(X32, decay=1e-50), lambda: agl.plif_forward(X32, 1e-60),
    lambda: agl.tdbn_forward(X32, ONE, ZERO, eps=1e-300), lambda: agl.tdbn_forward(X32, ONE, ZERO, alpha=1e-50),
    lambda: agl.tdbn_forward(X32, ONE, ZERO, v_th=1e-50), lambda: agl.surrogate.derivative(ONE, 1e-50),
    lambda: agl.tet_forward(X32, np.arange(3), target=1e39), lambda: agl.fixed_width(1e-50, 2, np.float32),
    lambda: agl.adaptive_width(ONE, 1e-50, 0.2, 2), lambda: agl.TdBN(2, eps=1e-300, dtype=np.float32),
    lambda: agl.models.conv_snn(v_th=1e-50, dtype=np.float32), lambda: train.TrainConfig(v_th=1e-50),
    lambda: train.TrainConfig(decay=1 - 1e-12), lambda: train.TrainConfig(lr=1e-60),
    lambda: optim.SGD({"w": ONE}, lr=1e-50), lambda: optim.SGD({"w": ONE}, momentum=1 - 1e-12),
    lambda: optim.Adam({"w": ONE}, eps=1e-300), lambda: optim.Adam({"w": ONE}, betas=(0.9, 1 - 1e-12)),
])  # fmt: skip
def test_a_number_that_float32_swallows_is_refused(call):
    assert_refused(call, "float32 can hold")


def test_float64_holds_these_numbers():
    agl.lif_forward(X, v_th=1e-50)
    agl.lif_forward(X, decay=1 - 1e-12)
    agl.tdbn_forward(X, np.ones(4), np.zeros(4), eps=1e-300)
    train.TrainConfig(v_th=1e-50, dtype="float64")


@pytest.mark.parametrize("call", [
    lambda: agl.cross_entropy_forward(X, MASKED),
    lambda: data.to_float(np.ma.masked_array(np.ones((1, 2, 2, 1), np.uint8), mask=True), np.float64),
    lambda: interop.load_torch_state_dict(
        NET, {name: np.ma.masked_array(array) for name, array in interop.state_dict_to_torch(NET).items()}
    ),
    lambda: oracle.compare(CASE, {"u": np.ma.masked_array(CASE.arrays["u"], mask=True)}),
    lambda: oracle.reference(NET, np.ones((2, 3, 4, 4, 1)), MASKED),
    lambda: agl.lif_forward(X, decay=np.ma.masked_array(0.5, mask=True)),
])  # fmt: skip
def test_a_mask_is_refused(call):
    with pytest.raises((ValueError, TypeError), match="masked"):
        call()


NET = agl.models.conv_snn(image_size=4, num_classes=3, channels=(2,))
CASE = oracle.load_case("lif-hard-attached")


@pytest.mark.parametrize("call", [
    lambda: agl.exact_width(np.ones(5), np.zeros(4), 0.5, 0.2, 2),
    lambda: theory.law_of_layer(np.ones(5), np.zeros(4), 0.5, 0.2, 2),
    lambda: loss.of_network(X, np.arange(3), "nonsense", agl.MPD_AGL), lambda: width.spread("nonsense", 0.2, 2),
    lambda: oracle.reference(NET, np.full((2, 3, 4, 4, 1), b"1"), np.arange(3)),
    lambda: oracle.reference(NET, np.full((2, 3, 4, 4, 1), np.datetime64("2020-01-01")), np.arange(3)),
    lambda: agl.Conv2d(1, 1, bias="no"), lambda: agl.Linear(1, 1, bias=0),
    lambda: NET.forward(np.ones((2, 3, 4, 4, 1)), training="False"),
    lambda: NET.loss_and_grads(np.ones((2, 3, 4, 4, 1)), np.arange(3), keep_trace="no"),
    lambda: oracle.reference(NET, np.ones((2, 3, 4, 4, 1)), np.arange(3), training="False"),
    lambda: agl.lif_forward(X, v_th=10**400), lambda: agl.fixed_width(1.0, 10**400), lambda: agl.LIF(v_th=10**400),
    lambda: agl.lif_forward(X, surrogate=np.ones(2)), lambda: loss.reduce_logits(None),
])  # fmt: skip
def test_what_means_nothing_is_refused(call):
    assert_refused(call)


TRACE = NET.forward(np.ones((2, 3, 4, 4, 1)))
WIDTHS = {"adaptive": {"conv1": TRACE["conv1"].width}}
POTENTIALS = {0.5: np.ones(3), 2.0: np.array([1.0, np.inf, 1.0])}
LINES = dict.fromkeys("abcd", {0.5: (0.5, 0.5), 2.0: (0.5, 0.5)})
BAD_TRACE = agl.Trace(
    NET, TRACE.x, (TRACE["conv1"]._replace(width=np.array([1.0, np.nan])), *TRACE.caches[1:]), TRACE.logits, None
)
ROWS = [{"epoch": 1, "diagnostics": {"steps": 1, "layers": {"conv1": {"std": [1.0, float("nan")]}}}}]


@pytest.mark.parametrize(("call", "where"), [
    (lambda: figures.neuron_trace(x=np.array([1.0, np.nan])), r"x: .* at index \(1,\)"),
    (lambda: figures.leak_factors(v_th=np.inf), "v_th: "),
    (lambda: figures.potential_histograms(BAD_TRACE), r"trace\['conv1'\].width: .* at index \(1,\)"),
    (lambda: plots.run_figure(BAD_TRACE, WIDTHS, {}, ""), r"trace\['conv1'\].width: .* at index \(1,\)"),
    (lambda: plots.run_figure(TRACE, {"fixed": {"conv1": np.array([np.inf, 1.0])}}, {}, ""), r"'conv1'\]: .* index \(0,\)"),
    (lambda: plots.threshold_figure(LINES, POTENTIALS, dict.fromkeys("ab", {0.5: 1.0, 2.0: 1.0}), ""), r"index \(1,\)"),
    (lambda: plots.spread_figure(ROWS), r"rows\[0\]\['diagnostics'\]\['layers'\]\['conv1'\]\['std'\]\[1\]: "),
    (lambda: plots.depth_figure(ROWS, "coverage"), r"\['std'\]\[1\]: "),
    (lambda: plots.diagnostic_figures(ROWS), r"\['std'\]"),
])  # fmt: skip
def test_a_figure_of_what_is_not_finite_is_refused_by_array_and_index(call, where):
    with pytest.raises(ValueError, match=where):
        call()
