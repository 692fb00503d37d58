"""agl_ref against PyTorch autograd in float64: networks, single ops and optimizers.

Tolerance: 1e-12 of the array's largest value. Each case asserts that its layers fire, that neurons reset
and go on, that some are inside and some outside the window, and that no gradient it compares is all zero.
"""

import dataclasses
import itertools
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import helpers_network as nets  # noqa: E402
import torch_twin as twin  # noqa: E402
from torch.nn import functional  # noqa: E402

import agl_ref as agl  # noqa: E402
from agl_ref.engine.loss import of_network  # noqa: E402

TOLERANCE = 1e-12
SURROGATES = ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")
CHOICES = agl.Conventions.choices()
# The twin knows the rules that gamma alone decides; test_width has the two others.
CHOICES["width"] = tuple(rule for rule in CHOICES["width"] if rule not in ("exact", "empirical"))
ROWS = [field for field in CHOICES if field != "axis_order"]
# Each value of each row, the defaults left out: those are every other test's.
CHANGES = [(field, value) for field in ROWS for value in CHOICES[field][1:]]
# These rows only act where u meets the threshold or the window's edge exactly, which takes dyadic numbers.
TIES = {"spike_test", "window_edge"}
CONVENTION_CASES = [
    (network, field, value)
    for field, value in CHANGES
    for network in (["dyadic"] if field in TIES else ["plain", "residual"])
]


def assert_close(name, received, expected, tolerance=TOLERANCE):
    """Equal up to `tolerance` of the largest expected magnitude, which must not be zero."""
    received, expected = np.asarray(received), np.asarray(expected)
    assert received.shape == expected.shape, f"{name}: shape {received.shape}, expected {expected.shape}"
    assert received.dtype == expected.dtype, f"{name}: dtype {received.dtype}, expected {expected.dtype}"
    largest = np.abs(expected).max()
    assert largest > 0, f"{name}: nothing to compare, all zero"
    error = np.abs(received - expected)
    worst = np.unravel_index(error.argmax(), error.shape)
    assert error.max() <= tolerance * largest, (
        f"{name} at {tuple(map(int, worst))}: received {received[worst]!r}, expected {expected[worst]!r}, "
        f"error {error.max() / largest:.3g} of the largest"
    )


def assert_lively(neurons, layers):
    """Every layer fires, rests, goes on after a reset, and has neurons inside and outside the window."""
    described = dict(nets.blocks(layers))
    again = False
    assert set(neurons) == set(described)
    for name, one in neurons.items():
        width = one.width.reshape((-1,) + (1,) * (one.u.ndim - 1))
        inside = np.abs(one.u - described[name].get("v_th", 0.5)) < width / 2
        for what, mask in {"fire": one.s > 0, "are inside the window": inside}.items():
            assert mask.any(), f"{name}: no neurons {what}"
            assert not mask.all(), f"{name}: all neurons {what}"
        if len(one.s) > 1:
            fired, later = one.s[:-1] > 0, np.cumsum(one.s[::-1], 0)[::-1][1:] > 0
            assert (fired & (one.u[1:] != 0)).any(), f"{name}: no neuron goes on after a spike"
            again |= (fired & later).any()
    assert again or len(one.s) < 3, "no neuron of any layer fires twice"


def conventions_of(changes):
    return agl.Conventions(**changes), twin.rules(**changes)


def pair(network, T, changes=None, surrogate="rectangular", loss="ce", seed=0, N=4):
    """The same network, parameters and batch through agl_ref and through the twin."""
    layers, shape, classes = nets.NETWORKS[network]
    dyadic = network == "dyadic"
    changes = dict(changes or {})
    if dyadic:
        changes.setdefault("width", "fixed")
        changes.setdefault("fixed_width", 0.5)
    conventions, rule = conventions_of(changes)
    params = nets.make_parameters(layers, shape, classes, seed, dyadic)
    x, labels = nets.make_batch(shape, classes, T, N, seed + 1, dyadic)
    net = nets.build(layers, shape, classes, params, conventions, surrogate)
    return (
        net.loss_and_grads(x, labels, loss=loss),
        twin.run(layers, params, x, labels, surrogate, rule, loss),
        layers,
    )


def assert_same(ours, theirs, layers, silent=()):
    """Loss, logits, spikes, potentials, widths and gradients; `silent` gradients are zero on both sides."""
    assert_lively(theirs.neurons, layers)
    assert_close("loss", np.float64(ours.loss), np.float64(theirs.loss))
    assert_close("logits", ours.trace.logits, theirs.logits)
    for name, one in theirs.neurons.items():
        np.testing.assert_array_equal(ours.trace[name].s, one.s, err_msg=f"spikes of {name}")
        assert_close(f"u of {name}", ours.trace[name].u, one.u)
        assert_close(f"v of {name}", ours.trace[name].v, one.v)
        assert_close(f"width of {name}", ours.trace[name].width, one.width)
    assert set(ours.grads) == set(theirs.grads)
    for name, grad in theirs.grads.items():
        if name in silent:
            assert not grad.any()
            assert not ours.grads[name].any()
        else:
            assert_close(f"gradient of {name}", ours.grads[name], grad)


def differs(one, other):
    """Whether two runs differ in their loss or in a gradient, by more than rounding."""
    if abs(one.loss - other.loss) > 1e-9:
        return True
    return any(np.abs(one.grads[k] - other.grads[k]).max() > 1e-9 * np.abs(other.grads[k]).max() for k in one.grads)


# -------------------------------------------------------------------------------------------------- networks


@pytest.mark.parametrize("network", nets.NETWORKS)
@pytest.mark.parametrize("T", [1, 2, 4, 8])
def test_network(network, T):
    ours, theirs, layers = pair(network, T)
    # at T = 1 the leak multiplies v_0 = 0, so PLIF's w has no gradient
    silent = {name for name in ours.grads if T == 1 and name.endswith(".w")}
    assert_same(ours, theirs, layers, silent)


@pytest.mark.parametrize(("network", "field", "value"), CONVENTION_CASES)
def test_convention(network, field, value):
    surrogate = "sigmoid" if field == "width_gradient" else "rectangular"
    seed = int(value == "soft late")  # with seed 0 one sum for PLIF's w cancels to 1e-5 of its terms
    ours, theirs, layers = pair(network, 4, {field: value}, surrogate, seed=seed)
    assert_same(ours, theirs, layers)
    default, *_ = pair(network, 4, {}, surrogate, seed=seed)
    assert differs(ours, default), f"{field}={value!r} changes nothing here, so nothing was compared"


def test_ties_are_met():
    _, theirs, _ = pair("dyadic", 4)
    for name, one in theirs.neurons.items():
        z = np.abs(one.u - 0.5)
        assert (z == 0).any(), f"{name}: no u at the threshold"
        assert (z == 0.25).any(), f"{name}: no u at the window's edge"


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("scale", CHOICES["surrogate_scale"])
@pytest.mark.parametrize("flows", CHOICES["width_gradient"])
def test_surrogate(surrogate, scale, flows):
    changes = {"surrogate_scale": scale, "width_gradient": flows}
    ours, theirs, layers = pair("plain", 3, changes, surrogate)
    assert_same(ours, theirs, layers)
    if surrogate != "rectangular":
        assert differs(ours, pair("plain", 3, changes)[0])
    if flows == "flows":
        assert differs(ours, pair("plain", 3, {"surrogate_scale": scale}, surrogate)[0])


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("edge", CHOICES["window_edge"])
@pytest.mark.parametrize("test", CHOICES["spike_test"])
def test_ties(surrogate, edge, test):
    ours, theirs, layers = pair("dyadic", 4, {"window_edge": edge, "spike_test": test}, surrogate)
    assert_same(ours, theirs, layers)


@pytest.mark.parametrize("width", CHOICES["width"])
@pytest.mark.parametrize("plif", CHOICES["plif"])
@pytest.mark.parametrize("norm_scale", CHOICES["norm_scale"])
def test_gradient_through_the_width(width, plif, norm_scale):
    changes = {"width": width, "plif": plif, "norm_scale": norm_scale, "fixed_width": 0.75}
    ours, theirs, layers = pair("residual", 4, {**changes, "width_gradient": "flows"}, "gaussian")
    assert_same(ours, theirs, layers)
    constant, *_ = pair("residual", 4, changes, "gaussian")
    assert differs(ours, constant) == (width not in ("fixed", "2 V_th"))


@pytest.mark.parametrize("seed", [s for s in range(33) if s not in (9, 26)])  # there a layer is too quiet
def test_conventions_together(seed):
    """Rows that are right one by one may be wrong together: random draws of all of them."""
    rng = np.random.default_rng(seed)
    drawn = {**CHOICES, "reset": ("hard", "soft", "none")}
    changes = {field: str(rng.choice(drawn[field])) for field in ROWS}
    if seed >= 24:
        changes["reset"] = "soft late"
    surrogate = str(rng.choice(SURROGATES))
    network = ["plain", "residual", "linear"][seed % 3]
    ours, theirs, layers = pair(network, 3, {**changes, "fixed_width": 0.8}, surrogate, seed=seed, N=8)
    assert_same(ours, theirs, layers)


@pytest.mark.parametrize("network", ["plain", "residual"])
@pytest.mark.parametrize("T", [1, 3])
def test_tet(network, T):
    ours, theirs, layers = pair(network, T, loss="tet")
    assert_same(ours, theirs, layers, {name for name in ours.grads if T == 1 and name.endswith(".w")})


@pytest.mark.parametrize("network", ["plain", "residual"])
@pytest.mark.parametrize("norm_variance", ["biased", "unbiased"])
def test_evaluation(network, norm_variance):
    """Evaluation uses the running statistics, which are constants for the gradient, after some updates."""
    layers, shape, classes = nets.NETWORKS[network]
    conventions, rule = conventions_of({"norm_variance": norm_variance})
    params = nets.make_parameters(layers, shape, classes)
    net = nets.build(layers, shape, classes, params, conventions)
    running = {}
    for seed in range(20, 40):
        x, labels = nets.make_batch(shape, classes, 3, 4, seed)
        net.update_running_statistics(net.forward(x, training=True))
        for name, (mean, var, m) in twin.run(layers, params, x, labels, rule=rule).statistics.items():
            old_mean, old_var = running.get(name, (np.zeros_like(mean), np.ones_like(var)))
            running[name] = 0.9 * old_mean + 0.1 * mean, 0.9 * old_var + 0.1 * var * m / (m - 1)
    for name, values in nets.running_of(net).items():
        assert_close(f"running mean of {name}", values[0], running[name][0])
        assert_close(f"running var of {name}", values[1], running[name][1])
    x, labels = nets.make_batch(shape, classes, 3, 4, 7)
    theirs = twin.run(layers, params, x, labels, rule=rule, running=running)
    assert_lively(theirs.neurons, layers)
    trace = net.forward(x, training=False)
    assert_close("logits", trace.logits, theirs.logits)
    loss, cache = agl.cross_entropy_forward(trace.logits, labels)
    assert_close("loss", np.float64(loss), np.float64(theirs.loss))
    grads = net.backward(trace, agl.cross_entropy_backward(cache))
    for name, one in theirs.neurons.items():
        np.testing.assert_array_equal(trace[name].s, one.s)
    for name, grad in theirs.grads.items():
        assert_close(f"gradient of {name}", grads[name], grad)


def test_bias_before_a_norm():
    """A norm takes the mean away, so a bias before it has no gradient but rounding; not in evaluation."""
    layers = [
        nets.conv("conv1", 4, bias=True),
        nets.FLATTEN,
        nets.linear("hidden", 5, bias=True),
        nets.readout(),
    ]
    shape, classes = (4, 3, 2), 3
    params = nets.make_parameters(layers, shape, classes)
    net = nets.build(layers, shape, classes, params)
    x, labels = nets.make_batch(shape, classes, 3, 6)
    ours, theirs = net.loss_and_grads(x, labels), twin.run(layers, params, x, labels)
    assert_lively(theirs.neurons, layers)
    for name in ("conv1", "hidden"):
        size = np.abs(theirs.grads[name + ".weight"]).max()
        assert np.abs(ours.grads[name + ".bias"]).max() < 1e-13 * size
        assert np.abs(theirs.grads[name + ".bias"]).max() < 1e-13 * size
        assert_close(name, ours.grads[name + ".weight"], theirs.grads[name + ".weight"])
    net.update_running_statistics(ours.trace)
    theirs = twin.run(layers, params, x, labels, running=nets.running_of(net))
    trace = net.forward(x, training=False)
    grads = net.backward(trace, agl.cross_entropy_backward(agl.cross_entropy_forward(trace.logits, labels)[1]))
    for name in ("conv1.bias", "hidden.bias"):
        assert_close(name, grads[name], theirs.grads[name])


@pytest.mark.parametrize("norm_scale", ["alpha V_th", "1"])
def test_width_is_two_standard_deviations_of_the_current(norm_scale):
    """Theorem 2 at t = 1 by measurement, for either scale of the norm: equal gammas, no shift."""
    conventions, rule = conventions_of({"norm_scale": norm_scale})
    gamma, beta = np.full(8, 1.3), np.zeros(8)
    x = np.random.default_rng(0).normal(2.0, 3.0, (1, 500, 8))
    y, _ = agl.tdbn_forward(x, gamma, beta, v_th=0.75, conventions=conventions)
    expected = 2 * y.std()
    kappa = twin.widths(torch.tensor(gamma), 0.75, 1.0, torch.tensor(0.2, dtype=torch.float64), 1, rule)[0]
    assert float(kappa) == pytest.approx(expected, rel=1e-5)  # eps in the norm
    assert agl.width.width_of_layer(gamma, 0.75, 0.2, 1, np.float64, conventions) == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------------------------------- ops

ELSEWHERE = ("width", "norm_variance", "norm_scale", "norm_shift", "readout")
LIF_CHANGES = [{}] + [{field: value} for field, value in CHANGES if field not in ELSEWHERE]


@pytest.mark.parametrize("changes", LIF_CHANGES, ids=lambda c: "-".join(f"{k}={v}" for k, v in c.items()) or "default")
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("plif", [False, True])
def test_neuron(changes, surrogate, plif):
    """lif_backward's dx and ddecay and plif_backward's dw, on dyadic numbers with ties and on others."""
    conventions, rule = conventions_of(changes)
    rng = np.random.default_rng(3)
    T, shape = 6, (5, 7)
    x = np.concatenate([rng.integers(-4, 9, (T, *shape)) / 8, rng.normal(0.3, 0.6, (T, *shape))], axis=2)
    ds = rng.normal(size=x.shape)
    width = np.array([0.5, 0.75, 1.0, 0.5, 0.25, 1.5])
    parameter = -0.3 if plif else 0.25
    forward, backward = (agl.plif_forward, agl.plif_backward) if plif else (agl.lif_forward, agl.lif_backward)
    s, cache = forward(x, parameter, v_th=0.5, conventions=conventions, surrogate=surrogate)
    dx, dparameter = backward(ds, cache, width)

    leaf = torch.tensor(parameter, dtype=torch.float64, requires_grad=True)
    tx = torch.tensor(x, requires_grad=True)
    kappa = [torch.tensor(k, dtype=torch.float64, requires_grad=True) for k in width]
    tau = twin.leak(leaf, rule) if plif else leaf
    out = twin.neuron(tx, tau, kappa, 0.5, surrogate, rule)
    out.s.backward(torch.tensor(ds))
    assert 0 < s.mean() < 1
    np.testing.assert_array_equal(s, out.s.detach().numpy())
    assert_close("u", cache.u, out.u.detach().numpy())
    assert_close("v", cache.v, out.v.detach().numpy())
    assert_close("dx", dx, tx.grad.numpy())
    assert_close("dparameter", np.float64(dparameter), np.float64(leaf.grad))
    if conventions.width_gradient == "flows":
        dwidth = agl.neuron.lif_backward_full(ds, cache, width).dwidth
        assert_close("dwidth", dwidth, np.array([float(k.grad) for k in kappa]))


@pytest.mark.parametrize("surrogate", SURROGATES)
def test_closed_window(surrogate):
    """kappa = 0 at one timestep: no gradient through its spikes, and a finite one elsewhere."""
    rng = np.random.default_rng(4)
    x, ds = rng.normal(0.3, 0.6, (2, 3, 10))
    width = np.array([1.0, 0.0, 1.0])
    _, cache = agl.lif_forward(x, surrogate=surrogate)
    dx, _ = agl.lif_backward(ds, cache, width)
    tx = torch.tensor(x, requires_grad=True)
    tau = torch.tensor(0.2, dtype=torch.float64)
    twin.neuron(tx, tau, [torch.tensor(k, dtype=torch.float64) for k in width], 0.5, surrogate).s.backward(
        torch.tensor(ds)
    )
    assert_close("dx", dx, tx.grad.numpy())


@pytest.mark.parametrize("norm_variance", ["biased", "unbiased"])
@pytest.mark.parametrize("norm_scale", ["alpha V_th", "1"])
@pytest.mark.parametrize("norm_shift", ["beta", "beta V_th"])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(3, 4, 5), (2, 3, 4, 5, 6)])
def test_tdbn(norm_variance, norm_scale, norm_shift, training, shape):
    changes = {"norm_variance": norm_variance, "norm_scale": norm_scale, "norm_shift": norm_shift}
    conventions, rule = conventions_of(changes)
    rng = np.random.default_rng(5)
    C = shape[-1]
    x, dy = rng.normal(1.0, 2.0, shape), rng.normal(size=shape)
    gamma, beta = rng.normal(1.0, 0.5, C), rng.normal(size=C)
    running = None if training else (rng.normal(size=C), rng.uniform(0.5, 2.0, C))
    settings = dict(v_th=0.75, alpha=1.5, eps=1e-3)
    y, cache = agl.tdbn_forward(x, gamma, beta, conventions=conventions, running=running, **settings)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, gamma, beta)]
    fixed = None if training else tuple(torch.tensor(a) for a in running)
    expected, *_ = twin.tdbn(*leaves, rule=rule, running=fixed, **settings)
    expected.backward(torch.tensor(dy))
    assert_close("y", y, expected.detach().numpy())
    for name, grad, leaf in zip(("dx", "dgamma", "dbeta"), agl.tdbn_backward(dy, cache), leaves, strict=True):
        assert_close(name, grad, leaf.grad.numpy())


def test_tdbn_of_scale_1_is_batch_norm():
    """Against PyTorch's own layer, running statistics included."""
    rng = np.random.default_rng(6)
    x, dy = rng.normal(1.0, 2.0, (2, 40, 5))
    theirs = torch.nn.BatchNorm1d(5, dtype=torch.float64)
    tx = torch.tensor(x, requires_grad=True)
    expected = theirs(tx)
    expected.backward(torch.tensor(dy))
    y, cache = agl.tdbn_forward(x, np.ones(5), np.zeros(5), conventions=agl.Conventions(norm_scale="1"))
    assert_close("y", y, expected.detach().numpy())
    assert_close("dx", agl.tdbn_backward(dy, cache)[0], tx.grad.numpy())
    mean, var = np.zeros(5), np.ones(5)
    agl.norm.update_running(mean, var, cache)
    assert_close("running mean", mean, theirs.running_mean.numpy())
    assert_close("running var", var, theirs.running_var.numpy())


@pytest.mark.parametrize("spikes", [False, True])
@pytest.mark.parametrize("path", ["dense", "spikes", "auto"])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (3, 2, 1), (3, 1, 0), (5, 2, 2)]
)
@pytest.mark.parametrize("bias", [True, False])
def test_conv(spikes, path, kernel, stride, padding, bias):
    rng = np.random.default_rng(7)
    shape = (2, 3, 7, 6, 4)
    x = (rng.random(shape) < 0.3).astype(np.float64) if spikes else rng.normal(size=shape)
    weight = rng.normal(size=(kernel, kernel, 4, 5))
    b = rng.normal(size=5) if bias else None
    y, cache = agl.conv2d_forward(x, weight, b, stride=stride, padding=padding, path=path)
    leaves = [torch.tensor(a, requires_grad=True) for a in (x, weight, b) if a is not None]
    expected = twin.conv(leaves[0], leaves[1], leaves[2] if bias else None, stride, padding)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    assert_close("y", y, expected.detach().numpy())
    grads = [g for g in agl.conv2d_backward(dy, cache) if g is not None]
    for name, grad, leaf in zip(("dx", "dweight", "dbias"), grads, leaves, strict=False):
        assert_close(name, grad, leaf.grad.numpy())
    assert len(grads) == len(leaves)


@pytest.mark.parametrize("size", [(6, 4), (7, 5), (2, 3)])
def test_pools(size):
    rng = np.random.default_rng(8)
    x = rng.normal(size=(2, 3, *size, 4))
    for forward, backward, reference in (
        (agl.avg_pool_forward, agl.avg_pool_backward, twin.avg_pool),
        (agl.global_avg_pool_forward, agl.global_avg_pool_backward, lambda a: a.mean((-3, -2))),
    ):
        y, cache = forward(x)
        dy = rng.normal(size=y.shape)
        tx = torch.tensor(x, requires_grad=True)
        expected = reference(tx)
        expected.backward(torch.tensor(dy))
        assert_close("y", y, expected.detach().numpy())
        assert_close("dx", backward(dy, cache), tx.grad.numpy())


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    rng = np.random.default_rng(9)
    x, weight, b = rng.normal(size=(3, 4, 5)), rng.normal(size=(5, 6)), rng.normal(size=6)
    y, cache = agl.linear_forward(x, weight, b if bias else None)
    leaves = [torch.tensor(a, requires_grad=True) for a in ((x, weight, b) if bias else (x, weight))]
    expected = twin.linear(*leaves)
    dy = rng.normal(size=y.shape)
    expected.backward(torch.tensor(dy))
    assert_close("y", y, expected.detach().numpy())
    grads = agl.linear_backward(dy, cache)
    assert (grads[2] is not None) == bias
    for name, grad, leaf in zip(("dx", "dweight", "dbias"), grads, leaves, strict=False):
        assert_close(name, grad, leaf.grad.numpy())


@pytest.mark.parametrize("readout", ["mean", "sum", "last", "tet"])
def test_loss(readout):
    rng = np.random.default_rng(10)
    logits, labels = rng.normal(0.0, 3.0, (4, 5, 6)), rng.integers(0, 6, 5)
    leaf = torch.tensor(logits, requires_grad=True)
    if readout == "tet":
        loss, cache = agl.tet_forward(logits, labels, lam=0.05, target=0.8)
        dlogits = agl.tet_backward(cache)
        expected = twin.tet(leaf, torch.tensor(labels), lam=0.05, target=0.8)
    else:
        conventions, rule = conventions_of({"readout": readout})
        loss, cache = agl.cross_entropy_forward(logits, labels, conventions)
        dlogits = agl.cross_entropy_backward(cache)
        expected = twin.cross_entropy(leaf, torch.tensor(labels), rule)
    expected.backward()
    assert_close("loss", np.float64(loss), np.float64(expected.item()))
    assert_close("dlogits", dlogits, leaf.grad.numpy())


@pytest.mark.parametrize("spikes", [True, False])
def test_max_pool(spikes):
    """Among equal spikes too the gradient goes where PyTorch sends it."""
    rng = np.random.default_rng(17)
    x = rng.normal(size=(3, 5, 7, 6, 4))
    x = (x > 0.3).astype(float) if spikes else x
    y, cache = agl.max_pool_forward(x)
    dy = rng.normal(size=y.shape)
    leaf = torch.tensor(x.transpose(0, 1, 4, 2, 3).reshape(15, 4, 7, 6), requires_grad=True)
    expected = functional.max_pool2d(leaf, 2)
    expected.backward(torch.tensor(dy.transpose(0, 1, 4, 2, 3).reshape(15, 4, 3, 3)))
    assert np.array_equal(y.transpose(0, 1, 4, 2, 3).reshape(15, 4, 3, 3), expected.detach().numpy())
    dx = agl.max_pool_backward(dy, cache).transpose(0, 1, 4, 2, 3).reshape(15, 4, 7, 6)
    assert np.array_equal(dx, leaf.grad.numpy())


@pytest.mark.parametrize("name", ["ce", "tet", "mse"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weights", [None, (0.5, 2.0, 1.0, 4.0, 0.25, 3.0)])
def test_loss_with_options(name, smoothing, weights):
    """PyTorch's own cross_entropy with weight= and label_smoothing=; mse_loss has neither, so its target has them."""
    rng = np.random.default_rng(13)
    logits, labels = rng.normal(0.0, 3.0, (4, 5, 6)), rng.integers(0, 6, 5)
    loss, dlogits = of_network(logits, labels, agl.Loss(name, weights, smoothing, lam=0.0), agl.MPD_AGL)
    leaf, y = torch.tensor(logits, requires_grad=True), torch.tensor(labels)
    w = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    if name == "mse":
        target = (1 - smoothing) * functional.one_hot(y, 6).double() + smoothing / 6
        each = functional.mse_loss(leaf.mean(0), target, reduction="none").mean(1)
        expected = each.mean() if w is None else (w[y] * each).sum() / w[y].sum()
    else:
        entropy = partial(functional.cross_entropy, target=y, weight=w, label_smoothing=smoothing)
        expected = entropy(leaf.mean(0)) if name == "ce" else sum(map(entropy, leaf)) / len(leaf)
    expected.backward()
    assert_close("loss", np.float64(loss), np.float64(expected.item()))
    assert_close("dlogits", dlogits, leaf.grad.numpy())


# ------------------------------------------------------------------------------------------------ optimizers

SHAPES = {"conv.weight": (3, 3, 2, 4), "norm.gamma": (4,), "neuron.w": ()}


def descend(optimizer, scheduler=None, steps=20):
    """Parameters of agl_ref and of PyTorch after each step on the same random gradients."""
    rng = np.random.default_rng(11)
    ours = {name: np.array(rng.normal(size=shape)) for name, shape in SHAPES.items()}
    theirs = {name: torch.tensor(value.copy(), requires_grad=True) for name, value in ours.items()}
    mine, reference = optimizer(ours, list(theirs.values()))
    schedule = scheduler(reference, steps) if scheduler else None
    start = {name: value.copy() for name, value in ours.items()}
    for step in range(steps):
        if schedule is not None:
            mine.lr = agl.optim.cosine(0.1, step, steps)
            assert mine.lr == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        grads = {name: np.array(rng.normal(size=shape)) for name, shape in SHAPES.items()}
        for name, leaf in theirs.items():
            leaf.grad = torch.tensor(grads[name])
        mine.step(grads)
        reference.step()
        if schedule is not None:
            schedule.step()
        for name, leaf in theirs.items():
            assert_close(f"{name} after step {step + 1}", ours[name], leaf.detach().numpy(), tolerance=1e-13)
    assert all(np.abs(ours[name] - start[name]).max() > 1e-3 for name in ours)


@pytest.mark.parametrize(("momentum", "weight_decay"), list(itertools.product([0.0, 0.9], [0.0, 5e-4])))
def test_sgd(momentum, weight_decay):
    settings = dict(lr=0.1, momentum=momentum, weight_decay=weight_decay)
    descend(lambda ours, theirs: (agl.optim.SGD(ours, **settings), torch.optim.SGD(theirs, **settings)))


@pytest.mark.parametrize("weight_decay", [0.0, 5e-4])
def test_adam(weight_decay):
    settings = dict(lr=0.01, weight_decay=weight_decay)
    descend(lambda ours, theirs: (agl.optim.Adam(ours, **settings), torch.optim.Adam(theirs, **settings)))


def test_cosine_annealing():
    settings = dict(lr=0.1, momentum=0.9, weight_decay=1e-4)
    descend(
        lambda ours, theirs: (agl.optim.SGD(ours, **settings), torch.optim.SGD(theirs, **settings)),
        lambda reference, steps: torch.optim.lr_scheduler.CosineAnnealingLR(reference, T_max=steps),
    )


def test_the_twin_knows_every_convention():
    fields = {field.name for field in dataclasses.fields(agl.Conventions)} - {"axis_order"}
    assert fields == set(twin.DEFAULTS)
    for name in fields:
        assert getattr(agl.MPD_AGL, name) == twin.DEFAULTS[name]
