"""Whole networks: relaxed finite differences, traces and their editing, statistics, edges, repeatability.

The backward pass is proved on the relaxed network, s = S(u - V_th) in place of the step, along random
directions of the parameters: with the engine's own forward pass, and with the naive one of helpers_network,
which shares nothing with it.
"""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import helpers_network as nets
import numba
import numpy as np
import pytest

import agl_ref as agl

SURROGATES = ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")
CHOICES = agl.Conventions.choices()
# The twin knows the rules that gamma alone decides; test_width has the two others.
CHOICES["width"] = tuple(rule for rule in CHOICES["width"] if rule not in ("exact", "empirical"))
# Rows that the relaxed network sees: the spike test and the window's edge act on the step alone, and the
# axes' order outside the engine.
RELAXED_ROWS = [row for row in CHOICES if row not in ("spike_test", "window_edge", "axis_order")]
STEP = 1e-6


def make(network, T=3, N=3, seed=0, surrogate="rectangular", dtype=np.float64, **conventions):
    """(network, layers, parameters, input, labels) of one of the described networks."""
    layers, shape, classes = nets.NETWORKS[network]
    dyadic = network == "dyadic"
    params = nets.make_parameters(layers, shape, classes, seed, dyadic)
    x, labels = nets.make_batch(shape, classes, T, N, seed + 1, dyadic)
    net = nets.build(layers, shape, classes, params, agl.Conventions(**conventions), surrogate, dtype)
    return net, layers, params, x.astype(dtype), labels


def grads_of(net, trace, labels, loss="ce"):
    """Gradients of a trace under the network's own loss."""
    if loss == "tet":
        return net.backward(trace, agl.tet_backward(agl.tet_forward(trace.logits, labels)[1]))
    return net.backward(
        trace, agl.cross_entropy_backward(agl.cross_entropy_forward(trace.logits, labels, net.conventions)[1])
    )


def widths_of(trace):
    return {name: cache.width.copy() for name, cache in trace.items()}


def assert_same_bits(received, expected):
    assert list(received) == list(expected)
    for name, value in expected.items():
        assert received[name].dtype == value.dtype, name
        np.testing.assert_array_equal(received[name], value, err_msg=name)


# -------------------------------------------------------------------------------- relaxed finite differences


def engine_loss(net, x, labels, loss, widths):
    """f(parameters) -> loss and the sides of S's kinks, by the engine's relaxed forward pass."""

    def f(params):
        nets.set_parameters(net, params)
        trace = net.forward(x, relaxed=True, widths=widths)
        sides = []
        for name, cache in trace.items():
            v_th = dict(net.blocks())[name].neuron.v_th
            sides += [nets.kink_sides(u - v_th, k, net.surrogate) for u, k in zip(cache.u, cache.width, strict=True)]
        return nets.naive_loss(trace.logits, labels, net.conventions.readout, loss), sides

    return f


def naive_twin_loss(net, layers, x, labels, loss, widths, gates):
    """The same by the naive forward pass, with the gates of the reset held constant if given."""
    rule = {row: getattr(net.conventions, row) for row in nets.RULE}

    def f(params):
        logits, traces = nets.relaxed_forward(layers, params, x, net.surrogate, rule, widths, gates)
        return nets.naive_loss(logits, labels, rule["readout"], loss), [t["sides"] for t in traces.values()]

    return f


def check_directions(f, params, grads, groups, seed=0):
    """Central differences of f along a direction for each group of parameters agree with the gradients."""
    rng = np.random.default_rng(seed)
    checked = 0
    for names in groups:
        for _ in range(8):  # a direction that moves a neuron across a kink of S is drawn again
            # half random, half along the gradient, so that the slope is never the rest of a cancellation
            d = {}
            for name in names:
                largest = np.abs(grads[name]).max()
                assert largest > 0, f"{name}: its gradient is zero, nothing to check"
                d[name] = rng.normal(size=params[name].shape) + grads[name] / largest
            ends = []
            for sign in (1, -1):
                moved = {k: v + sign * STEP * d[k] if k in d else v for k, v in params.items()}
                ends.append(f(moved))
            (plus, plus_sides), (minus, minus_sides) = ends
            if all(np.array_equal(a, b) for a, b in zip(plus_sides, minus_sides, strict=True)):
                break
        else:
            raise AssertionError(f"{names}: every direction crosses a kink of the primitive")
        measured = (plus - minus) / (2 * STEP)
        expected = sum((grads[name] * d[name]).sum() for name in names)
        assert measured == pytest.approx(expected, rel=1e-6, abs=2e-9), names
        checked += abs(expected) > 1e-6
    assert checked, "every slope is negligible: nothing was checked"


def assert_spread(trace, net):
    """Every block has neurons on both sides of the window's edge."""
    for name, cache in trace.items():
        z = np.abs(cache.u - dict(net.blocks())[name].neuron.v_th)
        width = cache.width.reshape((-1,) + (1,) * (z.ndim - 1))
        inside = z < width / 2
        assert inside.any(), f"{name}: no neuron inside the window"
        assert not inside.all(), f"{name}: no neuron outside the window"


def is_spread(trace, net):
    try:
        assert_spread(trace, net)
    except AssertionError:
        return False
    return True


def relaxed_case(network, T, surrogate, loss="ce", seed=0, each=False, **conventions):
    """One relaxed network: both forwards agree, and the differences of both agree with the backward pass."""
    net, layers, params, x, labels = make(network, T, 3, seed, surrogate, **conventions)
    trace = net.forward(x, relaxed=True)
    assert_spread(trace, net)
    grads = grads_of(net, trace, labels, loss)
    # kappa is a constant of the gradient unless it flows
    widths = None if net.conventions.width_gradient == "flows" else widths_of(trace)
    gates = None
    detached = net.conventions.reset_gradient == "detached"
    if detached:
        gates = {name: cache.s.copy() for name, cache in trace.items()}
    names = [name for name in params if T > 1 or not name.endswith(".w") or grads[name].any()]
    groups = [[name] for name in names] if each else [names]

    naive = naive_twin_loss(net, layers, x, labels, loss, widths, gates)
    rule = {row: getattr(net.conventions, row) for row in nets.RULE}
    logits, traces = nets.relaxed_forward(layers, params, x, surrogate, rule)
    np.testing.assert_allclose(trace.logits, logits, rtol=0, atol=1e-12)
    for name, cache in trace.items():
        np.testing.assert_allclose(cache.u, traces[name]["u"], rtol=0, atol=1e-12, err_msg=name)
        np.testing.assert_allclose(cache.width, traces[name]["width"], rtol=1e-14, err_msg=name)
    check_directions(naive, params, grads, groups, seed)
    if not detached:  # which the engine's forward pass, whose gate moves, knows nothing of
        check_directions(engine_loss(net, x, labels, loss, widths), params, grads, [names], seed + 1)


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_relaxed_differences_of_each_parameter(network, surrogate):
    relaxed_case(network, 2, surrogate, each=True)


@pytest.mark.parametrize("network", ["plain", "residual", "linear"])
@pytest.mark.parametrize("T", [1, 4, 8])
@pytest.mark.parametrize("surrogate", ["rectangular", "gaussian"])
def test_relaxed_differences_over_time(network, T, surrogate):
    relaxed_case(network, T, surrogate)


@pytest.mark.parametrize(("row", "value"), [(row, value) for row in RELAXED_ROWS for value in CHOICES[row][1:]])
@pytest.mark.parametrize("network", ["plain", "residual"])
def test_relaxed_differences_of_each_convention(network, row, value):
    relaxed_case(network, 3, "arctan", **{row: value})


@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize("width", CHOICES["width"])
def test_relaxed_differences_through_the_width(surrogate, width):
    """kappa is a function of gamma and tau here, and moves with them."""
    relaxed_case("linear", 4, surrogate, width=width, width_gradient="flows", fixed_width=0.75)


@pytest.mark.parametrize("seed", range(10))
def test_relaxed_differences_of_conventions_together(seed):
    rng = np.random.default_rng(seed)
    network, surrogate = ["plain", "linear", "residual"][seed % 3], SURROGATES[seed % 5]
    for _ in range(20):
        chosen = {row: str(rng.choice(CHOICES[row])) for row in RELAXED_ROWS}
        if chosen["width_gradient"] == "flows":
            # scale "1" is a factor kappa that the gradient holds constant and the relaxed network does not
            chosen["surrogate_scale"] = "1/(2 kappa)"
        net, _, _, x, _ = make(network, 3, 3, seed, surrogate, fixed_width=0.8, **chosen)
        if is_spread(net.forward(x, relaxed=True), net):
            break
    relaxed_case(network, 3, surrogate, seed=seed, fixed_width=0.8, **chosen)


def test_relaxed_differences_of_tet():
    relaxed_case("plain", 3, "sigmoid", loss="tet")


def test_given_widths_are_used():
    net, _, _, x, labels = make("plain")
    widths = {"conv1": np.array([0.5, 0.25, 1.0])}
    trace = net.forward(x, widths=widths)
    np.testing.assert_array_equal(trace["conv1"].width, widths["conv1"])
    usual = net.forward(x)
    np.testing.assert_array_equal(trace["hidden"].width, usual["hidden"].width)
    assert_same_bits(grads_of(net, trace, labels), grads_of(net, usual.replace("conv1", width=widths["conv1"]), labels))
    assert not np.array_equal(
        grads_of(net, trace, labels)["conv1.weight"], grads_of(net, usual, labels)["conv1.weight"]
    )


# ------------------------------------------------------------------------------------------------- the trace


@pytest.mark.parametrize("training", [True, False])
def test_forward_and_backward_change_nothing(training):
    net, _, _, x, labels = make("residual")
    before = {name: value.copy() for name, value in {**net.parameters(), **net.running_statistics()}.items()}
    kept = x.copy()
    grads_of(net, net.forward(x, training=training), labels)
    net.loss_and_grads(x, labels)
    assert_same_bits({**net.parameters(), **net.running_statistics()}, before)
    np.testing.assert_array_equal(x, kept)


def test_two_forwards_before_a_backward():
    net, _, _, x, labels = make("residual")
    expected = net.loss_and_grads(x, labels).grads
    first = net.forward(x)
    net.forward(x[::-1].copy() + 0.5)
    received = grads_of(net, first, labels)
    assert_same_bits(received, expected)
    assert_same_bits(grads_of(net, first, labels), received)  # a trace may be used twice


@pytest.mark.parametrize("network", ["plain", "residual", "linear"])
@pytest.mark.parametrize("flows", ["none", "flows"])
def test_replacing_values_with_themselves_gives_the_same_bits(network, flows):
    net, _, _, x, labels = make(network, surrogate="sigmoid", width_gradient=flows, input_scale="1 - tau")
    expected = net.loss_and_grads(x, labels)
    trace = expected.trace
    for name, cache in expected.trace.items():
        values = dict(u=cache.u.copy(), s=cache.s.copy(), width=cache.width.copy())
        assert_same_bits(grads_of(net, expected.trace.replace(name, **values), labels), expected.grads)
        trace = trace.replace(name, **values)
    np.testing.assert_array_equal(trace.logits, expected.logits)
    assert_same_bits(grads_of(net, trace, labels), expected.grads)


def test_replacing_leaves_the_old_trace_alone():
    net, _, _, x, labels = make("residual")
    old = net.loss_and_grads(x, labels)
    spikes = {name: cache.s.copy() for name, cache in old.trace.items()}
    new = old.trace
    for name, cache in old.trace.items():
        new = new.replace(name, s=1 - cache.s, u=cache.u + 1, width=cache.width * 2)
    assert_same_bits({name: cache.s for name, cache in old.trace.items()}, spikes)
    assert_same_bits(grads_of(net, old.trace, labels), old.grads)
    changed = grads_of(net, new, labels)
    for name in changed:
        if name != "fc.bias" and name != "fc.weight":
            assert not np.array_equal(changed[name], old.grads[name]), name


def test_all_values_of_another_forward():
    """Teacher forcing: with u and s of the run under ">", the gradients are that run's to the bit."""
    settings = dict(width="fixed", fixed_width=0.5)
    ours, _, _, x, labels = make("dyadic", **settings)
    theirs, *_ = make("dyadic", spike_test=">", **settings)
    a, b = ours.forward(x), theirs.forward(x)
    dlogits = np.random.default_rng(3).normal(size=a.logits.shape)
    forced = a
    for name, cache in b.items():
        assert not np.array_equal(a[name].s, cache.s), f"{name}: no neuron exactly at the threshold"
        forced = forced.replace(name, u=cache.u, s=cache.s)
    assert_same_bits(ours.backward(forced, dlogits), theirs.backward(b, dlogits))


def conv_weight_gradient(x, dy, weight, stride, padding):
    """dweight[i, j] = sum of x^T dy over the positions that the kernel's element (i, j) sees."""
    x = np.pad(x, [(0, 0)] * 2 + [(padding, padding)] * 2 + [(0, 0)])
    high, wide = dy.shape[2:4]
    dweight = np.zeros_like(weight)
    for i in range(weight.shape[0]):
        for j in range(weight.shape[1]):
            seen = x[:, :, i : i + stride * high : stride, j : j + stride * wide : stride]
            dweight[i, j] = np.einsum("tnhwc,tnhwd->cd", seen, dy)
    return dweight


def new_spikes(cache, fractional, seed=5):
    """Other spikes of the same shape: 0 or 1, or any real value, which is a spike only to whoever looks."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=cache.s.shape) if fractional else (rng.random(cache.s.shape) < 0.4).astype(cache.s.dtype)


# network, block whose spikes are replaced, block that reads them, what it reads (new spikes, trace)
READERS = [
    ("plain", "conv1", "conv2", lambda s, trace: nets.naive_pool(s)),
    ("plain", "conv2", "conv3", lambda s, trace: s),
    ("plain", "conv3", "hidden", lambda s, trace: nets.naive_pool(s).reshape(*s.shape[:2], -1)),
    ("residual", "stem", "res1.conv1", lambda s, trace: s),
    ("residual", "stem", "res2.shortcut", lambda s, trace: s + trace["res1.conv2"].s),
    ("residual", "stem", "res2.conv1", lambda s, trace: s + trace["res1.conv2"].s),
    ("residual", "res1.conv1", "res1.conv2", lambda s, trace: s),
    ("residual", "res1.conv2", "res2.conv1", lambda s, trace: s + trace["stem"].s),
    ("residual", "res1.conv2", "res2.shortcut", lambda s, trace: s + trace["stem"].s),
    ("residual", "res2.conv1", "res2.conv2", lambda s, trace: s),
    ("residual", "res2.shortcut", "hidden", lambda s, trace: (s + trace["res2.conv2"].s).mean((2, 3))),
    ("residual", "res2.conv2", "hidden", lambda s, trace: (s + trace["res2.shortcut"].s).mean((2, 3))),
]


@pytest.mark.parametrize(("network", "block", "reader", "read"), READERS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("fractional", [False, True])
def test_replaced_spikes_reach_the_next_weight(network, block, reader, read, fractional):
    """The next layer's weight gradient is x^T dy with the new x; dy, from further on, is as before."""
    net, layers, _, x, labels = make(network)
    result = net.loss_and_grads(x, labels)
    trace = result.trace
    s = new_spikes(trace[block], fractional)
    record, old_record = {}, {}
    dlogits = agl.cross_entropy_backward(agl.cross_entropy_forward(trace.logits, labels)[1])
    grads = net.backward(trace.replace(block, s=s), dlogits, record)
    net.backward(trace, dlogits, old_record)
    np.testing.assert_array_equal(record[reader + ".dx"], old_record[reader + ".dx"])
    dy = record[reader + ".dx"]
    if trace[reader].norm is not None:
        dy = agl.tdbn_backward(dy, trace[reader].norm)[0]
    layer = dict(nets.blocks(layers))[reader]
    weight = net.parameters()[reader + ".weight"]
    if layer["kind"] == "conv":
        expected = conv_weight_gradient(read(s, trace), dy, weight, layer["stride"], layer["padding"])
    else:
        expected = np.einsum("tnc,tnd->cd", read(s, trace), dy)
    largest = np.abs(expected).max()
    assert largest > 0
    np.testing.assert_allclose(grads[reader + ".weight"], expected, rtol=0, atol=1e-13 * largest)
    assert np.abs(expected - result.grads[reader + ".weight"]).max() > 1e-3 * largest


@pytest.mark.parametrize("fractional", [False, True])
def test_replaced_spikes_reach_the_readout(fractional):
    net, _, _, x, _ = make("plain")
    trace = net.forward(x)
    dlogits = np.random.default_rng(1).normal(size=trace.logits.shape)
    s = new_spikes(trace["hidden"], fractional)
    grads = net.backward(trace.replace("hidden", s=s), dlogits)
    np.testing.assert_allclose(grads["fc.weight"], np.einsum("tnf,tnk->fk", s, dlogits), rtol=1e-13)
    np.testing.assert_allclose(grads["fc.bias"], dlogits.sum((0, 1)), rtol=1e-13)


def bptt(ds, u, s, width, tau, v_th):
    """The neuron's backward pass under the default conventions, equation by equation."""
    dx, dv = np.zeros_like(u), np.zeros_like(u[0])
    for t in reversed(range(len(u))):
        h = (np.abs(u[t] - v_th) < width[t] / 2) / width[t]
        dx[t] = dv * (1 - s[t]) + (ds[t] - u[t] * dv) * h
        dv = tau * dx[t]
    v = u * (1 - s)
    return dx, (dx[1:] * v[:-1]).sum()


@pytest.mark.parametrize("what", ["u", "s", "width", "all"])
def test_replaced_values_enter_the_neuron(what):
    """The neuron's own backward pass uses the new u, s and width; the gradients before it follow."""
    net, _, params, x, labels = make("plain")
    result = net.loss_and_grads(x, labels)
    rng = np.random.default_rng(2)
    old = result.trace["hidden"]
    new = {
        "u": rng.normal(0.5, 0.5, old.u.shape),
        "s": new_spikes(old, False),
        "width": np.array([0.5, 0.75, 2.0]),
    }
    new = new if what == "all" else {what: new[what]}
    trace = result.trace.replace("hidden", **new)
    record = {}
    dlogits = agl.cross_entropy_backward(agl.cross_entropy_forward(result.logits, labels)[1])
    grads = net.backward(trace, dlogits, record)
    ds = dlogits @ params["fc.weight"].T
    np.testing.assert_allclose(record["hidden.ds"], ds, rtol=1e-13)
    tau = nets.sigmoid(params["hidden.w"])
    u, s, width = (new.get(key, getattr(old, key)) for key in ("u", "s", "width"))
    dx, ddecay = bptt(ds, u, s, width, tau, 0.5)
    assert dx.any()
    np.testing.assert_allclose(record["hidden.dx"], dx, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(grads["hidden.w"], ddecay * tau * (1 - tau), rtol=1e-11)
    np.testing.assert_allclose(grads["hidden.beta"], dx.sum((0, 1)), rtol=1e-11, atol=1e-15)
    assert np.abs(grads["conv1.weight"] - result.grads["conv1.weight"]).max() > 0


def test_a_closed_window_stops_all_that_is_before_it():
    net, _, _, x, labels = make("plain")
    trace = net.forward(x)
    grads = grads_of(net, trace.replace("conv3", width=np.zeros(3)), labels)
    for name, value in grads.items():
        assert value.any() == name.startswith(("hidden", "fc")), name


def test_replace_refuses_what_does_not_fit():
    net, _, _, x, _ = make("residual")
    trace = net.forward(x)
    s = trace["res1.conv1"].s
    with pytest.raises(KeyError, match=r"res1\.conv1.*received 'res1\.conv9'"):
        trace.replace("res1.conv9", s=s)
    with pytest.raises(KeyError):
        trace["fc"]
    for wrong in (s[:1], s[..., :1], s.reshape(-1)):
        with pytest.raises(ValueError, match="expected shape"):
            trace.replace("res1.conv1", s=wrong)
        with pytest.raises(ValueError, match="expected shape"):
            trace.replace("res1.conv1", u=wrong)
    with pytest.raises(TypeError, match="float64"):
        trace.replace("res1.conv1", s=s.astype(np.float32))
    with pytest.raises(TypeError, match="NumPy array"):
        trace.replace("res1.conv1", u=s.tolist())
    with pytest.raises(ValueError, match="finite"):
        trace.replace("res1.conv1", u=np.full_like(s, np.nan))
    for width in (np.ones(2), np.array([1.0, -1.0, 1.0]), np.array([1.0, np.inf, 1.0])):
        with pytest.raises(ValueError, match="width"):
            trace.replace("res1.conv1", width=width)


def test_record_holds_the_gradient_of_the_input():
    """record["x"] against differences of the relaxed network along a random direction of its input."""
    net, _, _, x, labels = make("residual", surrogate="gaussian")
    trace = net.forward(x, relaxed=True)
    widths, record = widths_of(trace), {}
    loss, cache = agl.cross_entropy_forward(trace.logits, labels)
    net.backward(trace, agl.cross_entropy_backward(cache), record)
    d = np.random.default_rng(4).normal(size=x.shape)
    ends = [
        agl.cross_entropy_forward(net.forward(x + h * d, relaxed=True, widths=widths).logits, labels)[0]
        for h in (STEP, -STEP)
    ]
    slope = (record["x"] * d).sum()
    assert abs(slope) > 1e-3
    assert (ends[0] - ends[1]) / (2 * STEP) == pytest.approx(slope, rel=1e-6)


# ----------------------------------------------------------------------------- statistics, evaluation, names


@pytest.mark.parametrize("norm_variance", CHOICES["norm_variance"])
def test_running_statistics(norm_variance):
    """running = 0.9 running + 0.1 batch, the variance unbiased whichever one the forward pass divides by."""
    net, _, params, x, _ = make("plain", norm_variance=norm_variance)
    mean, var = np.zeros(4), np.ones(4)
    for batch in (x, 2 * x + 1):
        y = nets.naive_conv(batch, params["conv1.weight"], None, 1, 1).reshape(-1, 4)
        mean, var = 0.9 * mean + 0.1 * y.mean(0), 0.9 * var + 0.1 * y.var(0, ddof=1)
        net.update_running_statistics(net.forward(batch))
    values = net.running_statistics()
    assert set(values) == {f"{b}.running_{m}" for b in ("conv1", "conv3", "hidden") for m in ("mean", "var")}
    np.testing.assert_allclose(values["conv1.running_mean"], mean, rtol=1e-13)
    np.testing.assert_allclose(values["conv1.running_var"], var, rtol=1e-13)


def test_evaluation():
    net, _, params, x, labels = make("plain")
    for _ in range(20):
        net.update_running_statistics(net.forward(x))
    trace = net.forward(x, training=False)
    mean, var = nets.running_of(net)["conv1"]
    y = (nets.naive_conv(x, params["conv1.weight"], None, 1, 1) - mean) / np.sqrt(var + 1e-5)
    current = params["conv1.gamma"] * 0.5 * y + params["conv1.beta"]
    np.testing.assert_allclose(trace["conv1"].u[0], current[0], rtol=0, atol=1e-13)
    assert not np.array_equal(trace.logits, net.forward(x).logits)
    # a sample's logits do not depend on its company
    for n in range(x.shape[1]):
        alone = net.forward(np.ascontiguousarray(x[:, n : n + 1]), training=False)
        np.testing.assert_allclose(alone.logits[:, 0], trace.logits[:, n], rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="training"):
        net.update_running_statistics(trace)


def test_evaluation_gradient():
    """The running statistics are constants: differences of the relaxed network in evaluation mode."""
    net, _, params, x, labels = make("residual", surrogate="sigmoid")
    for _ in range(20):
        net.update_running_statistics(net.forward(x))
    trace = net.forward(x, training=False, relaxed=True)
    widths, grads = widths_of(trace), grads_of(net, trace, labels)

    def f(moved):
        nets.set_parameters(net, moved)
        logits = net.forward(x, training=False, relaxed=True, widths=widths).logits
        return agl.cross_entropy_forward(logits, labels)[0], []

    check_directions(f, params, grads, [[name] for name in params])


@pytest.mark.parametrize("network", ["plain", "residual", "linear"])
def test_parameter_names(network):
    net, _, params, x, labels = make(network)
    assert set(net.parameters()) == set(params)
    grads = net.loss_and_grads(x, labels).grads
    assert list(grads) == list(net.parameters())
    for name, value in params.items():
        assert grads[name].shape == value.shape, name
        np.testing.assert_array_equal(net.parameters()[name], value)


def test_parameters_are_the_network_s_own():
    net, _, _, x, _ = make("plain")
    before = net.forward(x).logits
    net.parameters()["fc.bias"] += 1.0
    np.testing.assert_allclose(net.forward(x).logits, before + 1.0, rtol=0, atol=1e-14)


def test_a_network_says_what_it_is():
    net = agl.models.conv_snn(image_size=4, channels=(2, 3), num_classes=2, dtype=np.float32)
    assert repr(net) == "<Network conv1, conv2, fc: input (4, 4, 1), 90 parameters in float32>"


def test_trace_names():
    net, layers, _, x, _ = make("residual")
    trace = net.forward(x)
    assert set(trace.names()) == {name for name, _ in nets.blocks(layers)}
    for name, cache in trace.items():
        assert cache.u.shape == cache.s.shape == cache.v.shape
        assert cache.width.shape == (3,)
        assert trace[name] is cache
        np.testing.assert_array_equal(cache.v, cache.u * (1 - cache.s))


# ----------------------------------------------------------------------------------------------------- edges


def test_bad_inputs():
    net, _, _, x, labels = make("plain")
    for wrong in (x[0], x[..., 0], x[None]):
        with pytest.raises(ValueError, match=r"expected shape \(T, N, 7, 6, 2\), received"):
            net.forward(wrong)
    for wrong in (x[..., :1], np.concatenate([x, x], axis=-1), x[:, :, :5], np.moveaxis(x, -1, 2)):
        with pytest.raises(ValueError, match=r"\(T, N, 7, 6, 2\)"):
            net.forward(wrong)
    for empty in (x[:0], x[:, :0]):
        with pytest.raises(ValueError, match="at least one element"):
            net.forward(empty)
    for dtype in (np.float32, np.int64, bool):
        with pytest.raises(TypeError, match="float64"):
            net.forward(x.astype(dtype))
    with pytest.raises(TypeError, match="NumPy array"):
        net.forward(x.tolist())
    for value in (np.nan, np.inf):
        bad = x.copy()
        bad[1, 2, 3, 4, 1] = value
        with pytest.raises(ValueError, match=r"finite.*\(1, 2, 3, 4, 1\)"):
            net.forward(bad)
    with pytest.raises(ValueError, match="widths.*conv9"):
        net.forward(x, widths={"conv9": np.ones(3)})
    with pytest.raises(ValueError, match="width"):
        net.forward(x, widths={"conv1": np.ones(4)})
    with pytest.raises(ValueError, match=r"if samples stand first in x, pass x.swapaxes\(0, 1\)"):
        net.loss_and_grads(np.ascontiguousarray(x[:2].swapaxes(0, 1)), labels)
    for wrong in (labels[:-1], labels + 3, labels - 3):
        with pytest.raises(ValueError, match="labels"):
            net.loss_and_grads(x, wrong)
    with pytest.raises(TypeError, match="labels"):
        net.loss_and_grads(x, labels.astype(np.float64))
    with pytest.raises(ValueError, match="loss"):
        net.loss_and_grads(x, labels, loss="squared")
    trace = net.forward(x)
    with pytest.raises(ValueError, match="dlogits"):
        net.backward(trace, trace.logits[:1])
    with pytest.raises(TypeError, match="dlogits"):
        net.backward(trace, trace.logits.astype(np.float32))


def test_bad_networks():
    block = agl.SpikingBlock("a", agl.Linear(4, 3), agl.TdBN(3), agl.LIF())
    head = agl.Readout("fc", 3, 2)
    with pytest.raises(ValueError, match="Readout"):
        agl.Network([block], (4,))
    with pytest.raises(ValueError, match="unique"):
        agl.Network([block, agl.SpikingBlock("a", agl.Linear(3, 3), None, agl.LIF()), head], (4,))
    with pytest.raises(ValueError, match=r"\(4,\)"):
        agl.Network([block, head], (5,))
    with pytest.raises(TypeError, match="dtype"):
        agl.Network([block, agl.Readout("fc", 3, 2, dtype=np.float32)], (4,))
    with pytest.raises(ValueError, match="surrogate"):
        agl.Network([block, head], (4,), surrogate="triangle")
    with pytest.raises(TypeError, match="Conventions"):
        agl.Network([block, head], (4,), conventions="mpd-agl")
    with pytest.raises(ValueError, match="channels"):
        agl.SpikingBlock("b", agl.Linear(4, 3), agl.TdBN(4), agl.LIF())
    residual = agl.Residual("r", [agl.SpikingBlock("c", agl.Linear(4, 3), None, agl.LIF())])
    with pytest.raises(ValueError, match="one shape"):
        agl.Network([residual, head], (4,))


def test_one_value_per_channel():
    """A linear layer with one sample and one timestep: its variance is 0, the unbiased one undefined."""
    layers, shape, classes = nets.NETWORKS["linear"]
    params = nets.make_parameters(layers, shape, classes)
    x, labels = nets.make_batch(shape, classes, T=1, N=1)
    result = nets.build(layers, shape, classes, params).loss_and_grads(x, labels)
    assert np.isfinite(result.loss)
    assert all(np.isfinite(g).all() for g in result.grads.values())
    net = nets.build(layers, shape, classes, params, agl.Conventions(norm_variance="unbiased"))
    with pytest.raises(ValueError, match="unbiased"):
        net.forward(x)


@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_collapsed_window_names_the_layer():
    net, _, _, x, labels = make("plain")
    for sign in (0.0, -1.0):
        net.parameters()["conv3.gamma"][...] = sign * np.array([1.0, 0.5, 0.2, 0.3])
        with pytest.warns(agl.WindowCollapsedWarning, match="conv3"):
            result = net.loss_and_grads(x, labels)
        assert not result.trace["conv3"].width.any()
        for name in ("conv1.weight", "conv2.bias", "conv3.gamma", "conv3.weight"):
            np.testing.assert_array_equal(result.grads[name], 0.0)
        assert all(np.isfinite(g).all() for g in result.grads.values())


@pytest.mark.filterwarnings("ignore::agl_ref.WindowCollapsedWarning")
@pytest.mark.parametrize("beta", [0.1, 0.75])  # 0.75 is the threshold: u - V_th and kappa are both 0
def test_a_collapsed_window_cannot_be_relaxed(beta):
    """A closed window has no smooth step: refused by the network as by lif_forward, never NaN."""
    net, _, _, x, _ = make("plain")
    net.parameters()["conv3.gamma"][...] = 0.0
    net.parameters()["conv3.beta"][...] = beta
    with pytest.raises(ValueError, match="width"):
        net.forward(x, relaxed=True)


@pytest.mark.parametrize("network", ["plain", "residual"])
@pytest.mark.parametrize("flows", ["none", "flows"])
@pytest.mark.parametrize("loss", ["ce", "tet"])
def test_float32_stays_float32(network, flows, loss):
    net, _, _, x, labels = make(network, dtype=np.float32, surrogate="arctan", width_gradient=flows)
    record = {}
    result = net.loss_and_grads(x, labels, loss=loss, record=record)
    net.update_running_statistics(result.trace)
    arrays = {
        **net.parameters(),
        **net.running_statistics(),
        **result.grads,
        **record,
        "logits": result.logits,
    }
    for name, cache in result.trace.items():
        arrays |= {f"{name}.{key}": getattr(cache, key) for key in ("u", "s", "v", "width")}
    for name, value in arrays.items():
        assert value.dtype == np.float32, name
    assert isinstance(result.loss, float)
    assert net.forward(x, training=False).logits.dtype == np.float32
    with pytest.raises(TypeError, match="float32"):
        net.forward(x.astype(np.float64))


def test_float32_and_float64_are_equal_on_dyadic_numbers():
    """Every sum and product is exact in both, so every bit of forward and backward is the same."""
    made = {}
    for dtype in (np.float32, np.float64):
        net, _, _, x, _ = make("dyadic", T=2, dtype=dtype, width="fixed", fixed_width=0.5)
        rng = np.random.default_rng(6)
        for name in ("fc.weight", "fc.bias"):
            net.parameters()[name][...] = rng.integers(-3, 4, net.parameters()[name].shape) / 4
        trace = net.forward(x)
        dlogits = (rng.integers(-3, 4, trace.logits.shape) / 4).astype(dtype)
        made[dtype] = trace, net.backward(trace, dlogits)
    (small, small_grads), (large, large_grads) = made[np.float32], made[np.float64]
    np.testing.assert_array_equal(small.logits, large.logits)
    for name, cache in large.items():
        np.testing.assert_array_equal(small[name].u, cache.u)
        np.testing.assert_array_equal(small[name].s, cache.s)
    for name, value in large_grads.items():
        assert value.any(), name
        np.testing.assert_array_equal(small_grads[name], value, err_msg=name)


def test_input_of_any_memory_layout():
    net, _, _, x, labels = make("residual")
    expected = net.loss_and_grads(x, labels)
    turned = np.asfortranarray(x)
    assert not turned.flags.c_contiguous
    assert_same_bits(net.loss_and_grads(turned, labels).grads, expected.grads)


# --------------------------------------------------------------------------------------------- repeatability

FINGERPRINT = """
import hashlib, numpy as np, helpers_network as nets
layers = [
    nets.conv("stem", 16), nets.residual("res", [nets.conv("a", 16), nets.conv("b", 16)]), nets.AVG_POOL,
    nets.FLATTEN, nets.linear("hidden", 32), nets.readout(),
]
shape, classes = (12, 12, 3), 5
digest = hashlib.sha256()
for dtype in (np.float64, np.float32):
    net = nets.build(layers, shape, classes, nets.make_parameters(layers, shape, classes), dtype=dtype)
    x, labels = nets.make_batch(shape, classes, T=3, N=8)
    result = net.loss_and_grads(x.astype(dtype), labels)
    lean = net.loss_and_grads(x.astype(dtype), labels, keep_trace=False)
    digest.update(np.float64(result.loss).tobytes())
    for name in sorted(result.grads):
        assert result.grads[name].any(), name
        assert (lean.grads[name] == result.grads[name]).all(), name
        digest.update(result.grads[name].tobytes())
print(digest.hexdigest())
"""


def fingerprint(numba_threads, blas_threads):
    paths = [str(Path(__file__).parents[1]), str(Path(agl.__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    env = dict(
        os.environ,
        NUMBA_NUM_THREADS=str(numba_threads),
        OPENBLAS_NUM_THREADS=str(blas_threads),
        PYTHONPATH=os.pathsep.join(path for path in paths if path),
    )
    command = [sys.executable, "-W", "error::RuntimeWarning", "-c", FINGERPRINT]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="without the JIT there are no threads to compare")
def test_same_bits_with_one_and_two_threads():
    """Several chunks of neurons and of rows in each layer, a process for each number of Numba's and BLAS's threads."""
    one, two = fingerprint(1, 1), fingerprint(2, 2)
    assert len(one) == hashlib.sha256().digest_size * 2 and one == two


def test_same_bits_on_every_run():
    net, _, _, x, labels = make("residual")
    first, second = net.loss_and_grads(x, labels), net.loss_and_grads(x, labels)
    assert first.loss == second.loss
    assert_same_bits(second.grads, first.grads)
