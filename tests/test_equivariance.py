"""METHOD.md's equivariance: a network with V_th times a power of two has the same gradients, bit for bit, and trains alike.

Each statement about what scales is compared with ==, on both storeys; what breaks it is shown to break it.
"""

import helpers
import numba
import numpy as np
import pytest
from test_storeys import as_reference

import agl_ref as agl
from agl_ref import reference

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="whole networks, many times: minutes without the JIT, which changes no bit"
)
RULES = ("adaptive", "first", "later", "geometric", "exact", "empirical", "2 V_th")
POWERS = range(-5, 5)  # V_th = 2^-5 .. 2^4, each compared with 1/2
HALF = 0.5
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def network(v_th, dtype, neuron="plif", seed=3, surrogate="rectangular", **conventions):
    """Two convolutions and a readout, of 3 and 4 channels with unequal gammas, at this threshold."""
    c = agl.Conventions(**conventions)
    net = agl.models.conv_snn(
        1, 6, 3, (3, 4), neuron=neuron, v_th=v_th, dtype=dtype, seed=seed, conventions=c, surrogate=surrogate
    )
    for name, value in net.parameters().items():
        if name.endswith("gamma"):
            value[...] = np.linspace(0.5, 2.0, value.size)
    return net


def data(dtype):
    rng = np.random.default_rng(1)
    return rng.normal(0.5, 1.0, (4, 6, 6, 6, 1)).astype(dtype), rng.integers(0, 3, 6)


def step(v_th, dtype, **options):
    return network(v_th, dtype, **options).loss_and_grads(*data(dtype), keep_trace=True)


def assert_scaled(received, expected, factor, name):
    """received = factor expected, bit for bit: the factor is a power of two."""
    helpers.assert_same_bits(received, expected * expected.dtype.type(factor), name)


def assert_step_scales(result, base, a):
    """A step at V_th = a / 2 against one at 1/2, where beta is 0 or in units of V_th."""
    assert result.loss == base.loss
    assert_scaled(result.logits, base.logits, 1, "logits")
    for name, cache in base.trace.items():
        other = result.trace[name]
        assert 0.05 < cache.s.mean() < 0.95, f"{name}: hardly anybody fires, or is silent"
        assert_scaled(other.u, cache.u, a, f"{name}.u")
        assert_scaled(other.s, cache.s, 1, f"{name}.s")
        assert_scaled(other.width, cache.width, a, f"{name}.width")
    for name, grad in base.grads.items():
        assert np.abs(grad).max() > 0, f"{name}: no gradient, nothing to compare"
        if not name.endswith("beta"):
            assert_scaled(result.grads[name], grad, 1, name)


# --- one step ---------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("neuron", ["lif", "plif"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("rule", RULES)
def test_a_step_has_the_same_gradients_at_every_threshold(rule, reset, neuron, dtype):
    options = dict(dtype=dtype, neuron=neuron, width=rule, reset=reset)
    base = step(HALF, **options)
    for k in POWERS:
        result, a = step(2.0**k, **options), 2.0**k / HALF
        assert_step_scales(result, base, a)
        for name, grad in base.grads.items():
            if name.endswith("beta"):  # the one gradient that is not the same: it has the unit 1 / V_th
                assert_scaled(result.grads[name], grad, 1 / a, name)


@each_dtype
@pytest.mark.parametrize(
    "conventions",
    [
        {"reset": "soft late", "reset_gradient": "detached"},
        {"reset": "none", "input_scale": "1 - tau"},
        {"width_gradient": "flows", "surrogate_scale": "1/(2 kappa)"},
        {"norm_variance": "unbiased", "spike_test": ">", "window_edge": "<=", "readout": "sum"},
    ],
    ids=lambda c: ", ".join(f"{k} {v}" for k, v in c.items()),
)
@pytest.mark.parametrize("surrogate", ["rectangular", "gaussian"])
def test_other_conventions_leave_it_so(conventions, surrogate, dtype):
    options = dict(dtype=dtype, surrogate=surrogate, **conventions)
    base = step(HALF, **options)
    for k in (-5, 3):
        assert_step_scales(step(2.0**k, **options), base, 2.0**k / HALF)


def test_any_factor_scales_up_to_rounding():
    base, other = (step(v_th, np.float64) for v_th in (0.5, 0.35))
    for name, grad in base.grads.items():
        factor = 0.5 / 0.35 if name.endswith("beta") else 1.0
        helpers.assert_close(other.grads[name], factor * grad, 1e-12, name=name)


@pytest.mark.parametrize("norm_shift", agl.Conventions.choices()["norm_shift"])
@pytest.mark.parametrize("rule", ["adaptive", "first", "later", "geometric", "2 V_th"])
def test_reference_py_has_the_same_gradients_at_every_threshold(rule, norm_shift):
    x, labels = data(np.float32)
    steps = {}
    for v_th in (0.5, 0.03125, 8.0):
        net = network(v_th, np.float32, width=rule, norm_shift=norm_shift)
        steps[v_th] = reference.loss_and_grads(as_reference(net), x, labels)[:2]
    loss, base = steps.pop(0.5)
    for v_th, (other, grads) in steps.items():
        assert other == loss
        for name, grad in base.items():
            unit = 0.5 / v_th if name.endswith("beta") and norm_shift == "beta" else 1
            assert_scaled(grads[name], grad, unit, name)


# --- what breaks it -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "conventions",
    [{"width": "fixed"}, {"norm_scale": "1"}, {"surrogate_scale": "1"}],
    ids=lambda c: ", ".join(f"{k} {v}" for k, v in c.items()),
)
def test_what_is_not_in_units_of_the_threshold_breaks_it(conventions):
    base, other = (step(v_th, np.float64, **conventions).grads["conv1.weight"] for v_th in (0.5, 8.0))
    assert np.abs(other - base).max() > 0.5 * np.abs(base).max()


def test_a_neuron_without_a_norm_breaks_it():
    def grads(v_th):
        rng = np.random.default_rng(0)
        synapse = agl.Linear(5, 4, dtype=np.float64)
        layers = [agl.SpikingBlock("hidden", synapse, None, agl.LIF(v_th=v_th)), agl.Readout("fc", 4, 3)]
        net = agl.Network(layers, (5,))
        return net.loss_and_grads(rng.normal(0, 2, (3, 6, 5)), rng.integers(0, 3, 6)).grads["hidden.weight"]

    assert np.abs(grads(4.0) - grads(0.5)).max() > 0.5 * np.abs(grads(0.5)).max()


# --- whole trainings ----------------------------------------------------------------------------------


def train(v_th, dtype, optimiser="SGD", steps=12, **options):
    """(losses, parameters, logits in evaluation) after some steps with momentum and weight decay, then new images."""
    net = network(v_th, dtype, **options)
    opt = getattr(agl.optim, optimiser)(net.parameters(), lr=0.1, weight_decay=1e-3)
    rng, losses = np.random.default_rng(5), []
    for _ in range(steps):
        x, labels = rng.normal(0.5, 1.0, (3, 8, 6, 6, 1)).astype(dtype), rng.integers(0, 3, 8)
        result = net.loss_and_grads(x, labels, keep_trace=True)
        net.update_running_statistics(result.trace)
        opt.step(result.grads)
        losses.append(result.loss)
    return losses, net.parameters(), net.forward(data(dtype)[0], training=False).logits


@each_dtype
@pytest.mark.parametrize("neuron", ["lif", "plif"])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("rule", RULES)
def test_with_beta_in_units_of_the_threshold_trainings_are_the_same_bits(rule, reset, neuron, dtype):
    options = dict(dtype=dtype, neuron=neuron, width=rule, reset=reset, norm_shift="beta V_th")
    losses, parameters, logits = train(HALF, **options)
    assert len(set(losses)) == len(losses) and np.abs(parameters["conv2.beta"]).max() > 0.01, "nothing is learned"
    for v_th in (1 / 32, 8.0):
        other = train(v_th, **options)
        assert other[0] == losses
        helpers.assert_same_bits(other[2], logits, "logits in evaluation")
        for name, value in parameters.items():
            helpers.assert_same_bits(other[1][name], value, name)


@pytest.mark.parametrize("optimiser", ["SGD", "Adam"])
def test_with_either_optimiser(optimiser):
    runs = [train(v_th, np.float32, optimiser, norm_shift="beta V_th")[0] for v_th in (1 / 32, HALF, 8.0)]
    assert runs[0] == runs[1] == runs[2]


@pytest.mark.parametrize("change", [{"norm_shift": "beta"}, {"width": "fixed"}], ids=["plain beta", "fixed width"])
def test_without_it_they_are_not(change):
    options = {"norm_shift": "beta V_th", **change}
    runs = [train(v_th, np.float64, **options)[0] for v_th in (1 / 32, HALF, 8.0)]
    assert runs[0] != runs[1] != runs[2]


def test_plain_mpd_agl_with_beta_s_step_scaled_by_the_threshold_squared():
    """The same statement without the convention: beta's gradient is 1/a of what it was, its step must be a times."""

    def trained(v_th):
        net = network(v_th, np.float64)
        opt, losses = agl.optim.SGD(net.parameters(), lr=0.1), []
        for _ in range(8):
            result = net.loss_and_grads(*data(np.float64))
            unit = v_th / HALF
            opt.step({n: g * unit**2 if n.endswith("beta") else g for n, g in result.grads.items()})
            losses.append(result.loss)
        return losses

    assert trained(1 / 32) == trained(HALF) == trained(8.0)
