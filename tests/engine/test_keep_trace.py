"""A step without a trace: the same bits as with one, in less memory, and clear errors for who would read the trace."""

import tracemalloc

import helpers
import helpers_network as nets
import numba
import numpy as np
import pytest

import agl_ref as agl
from agl_ref.engine.caches import Mode
from agl_ref.engine.fast import packing
from agl_ref.train import diagnostics

SHORTCUT = [
    nets.conv("stem", 4), nets.AVG_POOL,
    nets.residual("r", [nets.conv("a", 6), nets.conv("b", 6)], nets.conv("s", 6, kernel=1)),
    nets.residual("q", [nets.conv("c", 6)]), nets.FLATTEN, nets.linear("hidden", 8), nets.readout(),
]  # fmt: skip
VARIANTS = {
    "default": {},
    "current kept": {"input_scale": "1 - tau"},
    "width measured": {"width": "empirical"},
    "width's gradient": {"width_gradient": "flows"},
    "soft, late": {"reset": "soft late", "spike_test": ">"},
}


def make(dtype=np.float64, **conventions):
    shape, classes = (8, 8, 2), 3
    params = nets.make_parameters(SHORTCUT, shape, classes)
    net = nets.build(SHORTCUT, shape, classes, params, agl.Conventions(**conventions), dtype=dtype)
    x, labels = nets.make_batch(shape, classes, T=3, N=4)
    return net, x.astype(dtype), labels


@pytest.fixture(params=[0, 2**22], ids=["inputs in bytes", "inputs as they are"])
def packed(request, monkeypatch):
    monkeypatch.setattr(packing, "WORTH_PACKING", request.param)


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_bit_is_that_of_a_step_with_a_trace(packed, dtype, variant):
    net, x, labels = make(dtype, **VARIANTS[variant])
    whole, part, seen = {}, {}, {}
    expected = net.loss_and_grads(x, labels, record=whole)
    found = net.loss_and_grads(
        x, labels, record=part, keep_trace=False, observe=lambda block, *rest: seen.update({block.name: rest})
    )
    assert found.loss == expected.loss
    helpers.assert_same_bits(found.logits, expected.logits, "logits")
    helpers.assert_same_bits(found.dlogits, expected.dlogits, "dlogits")
    assert all(g.any() for g in expected.grads.values())
    helpers.assert_all_same_bits(found.grads, expected.grads)
    helpers.assert_all_same_bits(part, whole)
    assert sorted(seen) == sorted(expected.trace.names())
    for name, (cache, ds, dx) in seen.items():
        helpers.assert_same_bits(cache.synapse.x, expected.trace[name].synapse.x, f"{name}'s input")
        for key in ("u", "s", "width"):
            helpers.assert_same_bits(getattr(cache, key), getattr(expected.trace[name], key), f"{name}.{key}")
        helpers.assert_same_bits(ds, whole[f"{name}.ds"])
        helpers.assert_same_bits(dx, whole[f"{name}.dx"])
    other = make(dtype, **VARIANTS[variant])[0]
    other.update_running_statistics(found.trace)
    net.update_running_statistics(expected.trace)
    helpers.assert_all_same_bits(other.running_statistics(), net.running_statistics())


def test_u_and_s_are_there_when_they_are_asked_for():
    net, x, labels = make()
    trace = net.forward(x)
    assert all(trace.as_kept(name).neuron.u is None for name in trace.names())
    first = trace["r.a"]
    assert trace["r.a"] is first and trace.as_kept("r.b").neuron.u is None, "computed once, and nothing else with it"
    relaxed = net.forward(x, relaxed=True)
    assert 0 < ((relaxed["r.a"].s > 0) & (relaxed["r.a"].s < 1)).sum(), "not the step's spikes"


def test_the_observer_measures_what_the_trace_shows():
    net, x, labels = make()
    record, observe = {}, diagnostics.Observer()
    trace = net.loss_and_grads(x, labels, record=record).trace
    net.loss_and_grads(x, labels, keep_trace=False, observe=observe)
    received, expected = observe.layers(net), diagnostics.layer_statistics(trace, record)
    assert list(received) == list(expected)
    for name, statistics in expected.items():
        helpers.assert_all_same_bits(received[name], statistics)


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("value", [0.25, 3.0, 63.75])
def test_inputs_that_a_byte_holds_come_back(packed, monkeypatch, dtype, value):
    monkeypatch.setattr(packing, "WORTH_PACKING", 0)
    x = np.array([0.0, 1.0, value], dtype)
    small = packing.in_bytes(x)
    assert small.dtype == np.uint8
    helpers.assert_same_bits(packing.from_bytes(small, x.dtype), x)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("value", [0.2, 64.0, -0.25, -0.0, 2e38, np.inf, np.nan])
def test_other_inputs_are_kept_as_they_are(monkeypatch, dtype, value):
    monkeypatch.setattr(packing, "WORTH_PACKING", 0)
    x = np.array([0.0, 1.0, value], dtype)
    assert packing.in_bytes(x) is x


def test_a_trace_without_its_values_says_so():
    net, x, labels = make()
    trace = net.loss_and_grads(x, labels, keep_trace=False).trace
    assert trace["stem"].width.shape == (3,) and trace.logits.shape == (3, 4, 3)
    for key in ("u", "s", "v"):
        with pytest.raises(ValueError, match="keep_trace=False"):
            getattr(trace["r.a"], key)
    with pytest.raises(ValueError, match="keep_trace=False"):
        trace.replace("stem", u=np.zeros((3, 4, 8, 8, 4)))
    with pytest.raises(ValueError, match="keep_trace=False"):
        net.backward(trace, np.zeros((3, 4, 3)))
    with pytest.raises(ValueError, match="keep_trace=False"):
        diagnostics.layer_statistics(trace)
    with pytest.raises(ValueError, match="without a trace"):
        agl.tdbn_backward(np.zeros((3, 4, 8, 8, 4)), trace["stem"].norm)
    with pytest.raises(ValueError, match="without a trace"):
        agl.lif_backward(np.zeros((3, 4, 8, 8, 4)), trace["stem"].neuron, np.ones(3))


def test_an_observer_is_a_function_and_has_seen_a_pass():
    net, x, labels = make()
    for call in (lambda o: net.predict(x, o), lambda o: net.loss_and_grads(x, labels, observe=o)):
        with pytest.raises(TypeError, match="observe: expected Callable or None"):
            call(3)
    with pytest.raises(ValueError, match="observed"):
        diagnostics.Observer().layers(net)


def test_a_nan_is_still_found_and_named():
    net, x, labels = make()
    net.parameters()["r.b.weight"][0, 0, 0, 0] = np.nan
    with np.errstate(all="ignore"):
        result = net.loss_and_grads(x, labels, keep_trace=False, observe=diagnostics.Observer())
    with pytest.raises(diagnostics.NonFiniteError, match=r"parameter 'r\.b\.weight'"):
        diagnostics.require_finite(result)


def test_an_overflow_is_named_by_layer_and_timestep():
    """Without a norm the spikes hide it: u is kept for that."""
    plain = agl.SpikingBlock("conv1", agl.Conv2d(1, 2, seed=0), None, agl.LIF())
    net = agl.Network([plain, agl.Flatten(), agl.Readout("fc", 32, 2)], (4, 4, 1))
    net.parameters()["conv1.weight"][...] = -1e300
    x = np.ones((3, 1, 4, 4, 1))
    x[1:] *= 1e10
    with np.errstate(all="ignore"):
        result = net.loss_and_grads(x, np.array([0]), keep_trace=False)
        assert np.isfinite(result.loss)
        with pytest.raises(diagnostics.NonFiniteError, match="membrane potential of layer 'conv1' at t = 2"):
            diagnostics.require_finite(result)


@pytest.mark.parametrize("dtype", helpers.DTYPES)
@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prediction_is_the_forward_pass_with_running_statistics(dtype, variant):
    net, x, labels = make(dtype, **VARIANTS[variant])
    net.update_running_statistics(net.forward(x))
    trace, observe, seen = net.forward(x, training=False), diagnostics.Observer(), []
    helpers.assert_same_bits(net.predict(x), trace.logits)

    def watch(block, cache):
        seen.append(block.name)
        helpers.assert_same_bits(cache.u, trace[block.name].u)
        observe(block, cache)

    helpers.assert_same_bits(net.predict(x, watch), trace.logits)
    assert sorted(seen) == sorted(trace.names())
    for name, statistics in diagnostics.layer_statistics(trace).items():
        helpers.assert_all_same_bits(observe.layers(net)[name], statistics)


def test_a_prediction_checks_its_input():
    net, x, _ = make()
    with pytest.raises(ValueError, match="expected shape"):
        net.predict(x[0])
    with pytest.raises(TypeError, match="float32"):
        net.predict(x.astype(np.float32))


with_the_jit = pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without the JIT large arrays take minutes")


def peak_of(call):
    call()  # whatever is loaded at a first call
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@with_the_jit
@pytest.mark.parametrize("conventions", [agl.MPD_AGL, agl.PRESETS["spikingjelly"]], ids=["MPD-AGL", "SpikingJelly"])
def test_less_memory(conventions):
    """At its peak, of what NumPy allocates."""
    net = agl.models.conv_snn(channels=(16, 32, 32, 32), image_size=48, dtype=np.float32, conventions=conventions)
    x = np.random.default_rng(0).normal(size=(8, 8, 48, 48, 1)).astype(np.float32)
    labels = np.zeros(8, int)
    without = peak_of(lambda: net.loss_and_grads(x, labels, keep_trace=False))
    trace = peak_of(lambda: net.loss_and_grads(x, labels))
    assert without < 0.85 * trace
    assert peak_of(lambda: net.predict(x)) < 0.7 * peak_of(lambda: net.forward(x, training=False))
    assert trace < 0.95 * peak_of(lambda: net.loss_and_grads(x, labels).trace.items()), "u and s only for who asks"


@with_the_jit
def test_a_prediction_without_norms_keeps_nothing_either():
    layers = [agl.SpikingBlock(f"c{i}", agl.Conv2d(4, 4, seed=i), None, agl.LIF()) for i in range(5)]
    net = agl.Network([*layers, agl.Flatten(), agl.Readout("fc", 4 * 32 * 32, 3)], (32, 32, 4))
    x = np.random.default_rng(0).normal(size=(8, 4, 32, 32, 4))
    assert peak_of(lambda: net.predict(x)) < 0.5 * peak_of(lambda: net.forward(x, training=False))


def test_a_block_of_ones_own_sees_u_and_s_on_the_way_back():
    """Whichever way a pass was kept: the block's cache computes them, in a subclass and in a block that is run alone."""
    seen = []

    class Watched(agl.SpikingBlock):
        def backward(self, ds, cache, observe=None, need_dx=True):
            seen.append((cache.u, cache.s, cache.v))
            return super().backward(ds, cache, observe, need_dx)

    net, x, labels = make()
    stem = net.layers[0]
    net.layers[0] = Watched(stem.name, stem.synapse, stem.norm, stem.neuron)
    expected = net.loss_and_grads(x, labels).trace["stem"]
    net.loss_and_grads(x, labels, keep_trace=False)
    alone = net.layers[0].forward(x, Mode(conventions=net.conventions))[1]
    for found in (*seen, (alone.u, alone.s, alone.v)):
        for array, key in zip(found, ("u", "s", "v"), strict=True):
            helpers.assert_same_bits(array, getattr(expected, key), key)
