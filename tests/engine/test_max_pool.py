"""Max pooling, and a pool inside a block, between synapse and neuron."""

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import naive

import agl_ref as agl
from agl_ref.interop.torch_names import official_names
from agl_ref.oracle.bounds.reference import input_current

each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)
each_pool = pytest.mark.parametrize("pool", [agl.AvgPool, agl.SumPool, agl.MaxPool])


@each_dtype
def test_max_pool_is_the_hand_arithmetic(dtype):
    x = np.array([[1, 2, 9], [4, 3, 9], [9, 9, 9]], dtype)[:, :, None]
    y, cache = agl.max_pool_forward(x)
    assert y.tolist() == [[[4]]] and y.dtype == dtype
    dx = agl.max_pool_backward(np.full((1, 1, 1), 8, dtype), cache)
    assert dx[..., 0].tolist() == [[0, 0, 0], [8, 0, 0], [0, 0, 0]] and dx.dtype == dtype


def test_the_first_of_equal_spikes_gets_the_gradient():
    x = np.array([[0.0, 1.0], [1.0, 1.0]])[:, :, None]
    assert agl.max_pool_backward(np.ones((1, 1, 1)), agl.max_pool_forward(x)[1])[..., 0].tolist() == [[0, 1], [0, 0]]
    nothing = agl.max_pool_backward(np.ones((1, 1, 1)), agl.max_pool_forward(0 * x)[1])
    assert nothing[..., 0].tolist() == [[1, 0], [0, 0]]


@given(
    st.sampled_from([(), (1,), (2, 3)]),
    st.integers(2, 7),
    st.integers(2, 7),
    st.integers(1, 4),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_max_pool_is_the_naive_twin(lead, H, W, C, spikes, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(*lead, H, W, C))
    x = (x > 0).astype(float) if spikes else x
    y, cache = agl.max_pool_forward(x)
    dy = rng.normal(size=y.shape)
    expected, rows, columns = naive.max_pool_forward(x)
    helpers.assert_equal(y, expected, "y")
    helpers.assert_equal(agl.max_pool_backward(dy, cache), naive.max_pool_backward(dy, rows, columns, x.shape), "dx")


def test_what_is_too_small_or_of_another_shape_is_refused():
    helpers.assert_refused(lambda: agl.max_pool_forward(np.ones((2, 1, 4, 3))), "height and width", "drop this pool")
    cache = agl.max_pool_forward(np.ones((2, 4, 4, 3)))[1]
    helpers.assert_refused(lambda: agl.max_pool_backward(np.ones((2, 4, 4, 3)), cache), "(2, 2, 2, 3)")
    helpers.assert_refused(lambda: agl.avg_pool_backward(np.ones((2, 2, 2, 3)), cache), "avg_pool_forward")
    flat = agl.SpikingBlock("hidden", agl.Linear(4, 3), None, agl.LIF(), agl.MaxPool())
    helpers.assert_refused(lambda: flat.output_shape((4,)), "2x2")
    with pytest.raises(TypeError, match="pool"):
        agl.SpikingBlock("conv1", agl.Conv2d(1, 2), None, agl.LIF(), "max")


def network(pool, norm=True, inside=True, dtype=np.float64):
    """One spiking convolution with a pool inside or behind it, on images of odd height, and its input and labels."""
    rng = np.random.default_rng(7)
    block = agl.SpikingBlock(
        "conv1", agl.Conv2d(2, 3, bias=True, dtype=dtype), agl.TdBN(3, dtype=dtype) if norm else None, agl.LIF(0.25),
        pool() if inside else None,
    )  # fmt: skip
    readout = agl.Readout("fc", 2 * 3 * 3, 4, dtype=dtype)
    layers = [block, *([] if inside else [pool()]), agl.Flatten(), readout]
    x = rng.normal(size=(3, 5, 5, 6, 2)).astype(dtype)
    return agl.Network(layers, (5, 6, 2)), x, rng.integers(0, 4, 5)


@each_pool
@pytest.mark.parametrize("norm", [True, False])
@each_dtype
def test_a_block_with_a_pool_is_its_operations_one_after_the_other(pool, norm, dtype):
    net, x, labels = network(pool, norm, dtype=dtype)
    found = net.loss_and_grads(x, labels)
    p = net.parameters()
    current, c_conv = agl.conv2d_forward(x, p["conv1.weight"], p["conv1.bias"], padding=1)
    average, largest = (agl.avg_pool_forward, agl.avg_pool_backward), (agl.max_pool_forward, agl.max_pool_backward)
    forward, backward = largest if pool is agl.MaxPool else average
    times = dtype(4 if pool is agl.SumPool else 1)
    pooled, c_pool = forward(current)
    pooled, c_norm = times * pooled, None
    if norm:
        pooled, c_norm = agl.tdbn_forward(pooled, p["conv1.gamma"], p["conv1.beta"])
    s, c_lif = agl.lif_forward(pooled, decay=0.25)
    width = agl.adaptive_width(p["conv1.gamma"], 0.5, 0.25, 3) if norm else found.trace["conv1"].width
    logits, c_fc = agl.linear_forward(s.reshape(3, 5, -1), p["fc.weight"], p["fc.bias"])
    helpers.assert_same_bits(found.logits, logits, "logits")
    d = agl.linear_backward(agl.cross_entropy_backward(agl.cross_entropy_forward(logits, labels)[1]), c_fc)[0]
    d, _ = agl.lif_backward(d.reshape(s.shape), c_lif, width)
    if norm:
        d, dgamma, dbeta = agl.tdbn_backward(d, c_norm)
        helpers.assert_same_bits(found.grads["conv1.gamma"], dgamma, "gamma")
        helpers.assert_same_bits(found.grads["conv1.beta"], dbeta, "beta")
    _, dweight, dbias = agl.conv2d_backward(times * backward(d, c_pool), c_conv)
    assert dweight.any()
    helpers.assert_same_bits(found.grads["conv1.weight"], dweight, "weight")
    helpers.assert_same_bits(found.grads["conv1.bias"], dbias, "bias")


@each_pool
@pytest.mark.parametrize("inside", [True, False])
def test_relaxed_differences_agree(pool, inside):
    """An independent proof of the whole backward pass: the sigmoid is smooth, and so is the maximum away from ties."""
    net, x, labels = network(pool, inside=inside)
    net.surrogate = "sigmoid"
    trace = net.forward(x, relaxed=True)
    widths = {"conv1": trace["conv1"].width}

    def loss():
        return agl.cross_entropy_forward(net.forward(x, relaxed=True, widths=widths).logits, labels)[0]

    grads = net.backward(trace, agl.cross_entropy_backward(agl.cross_entropy_forward(trace.logits, labels)[1]))
    for name, value in net.parameters().items():
        direction = np.random.default_rng(3).normal(size=value.shape)
        kept, step = value.copy(), 1e-6
        values = []
        for sign in (1, -1):
            value[...] = kept + sign * step * direction
            values.append(loss())
        value[...] = kept
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(
            (grads[name] * direction).sum(), rel=1e-6, abs=1e-9
        ), name


@each_pool
@pytest.mark.parametrize("inside", [True, False])
@each_dtype
def test_a_step_without_a_trace_has_the_same_bits(pool, inside, dtype):
    net, x, labels = network(pool, inside=inside, dtype=dtype)
    kept, dropped = (net.loss_and_grads(x, labels, keep_trace=keep) for keep in (True, False))
    helpers.assert_all_same_bits(kept.grads, dropped.grads)
    helpers.assert_same_bits(net.predict(x), net.forward(x, training=False).logits, "logits")


@pytest.mark.parametrize("inside", [True, False])
def test_replaced_spikes_reach_the_readout(inside):
    net, x, labels = network(agl.MaxPool, inside=inside)
    trace = net.forward(x)
    s = 1 - trace["conv1"].s
    again = trace.replace("conv1", s=s)
    y = s if inside else agl.max_pool_forward(s)[0]
    helpers.assert_equal(again.caches[-1].x, y.reshape(3, 5, -1), "the readout's input")


@pytest.mark.parametrize("model", [agl.models.conv_snn, agl.models.vgg_snn])
def test_models_take_the_pool_by_name(model):
    rng = np.random.default_rng(5)
    x, labels = rng.normal(size=(2, 3, 16, 16, 1)), np.array([0, 1, 2])
    nets = {pool: model(1, 16, 3, channels=(2, 3, 3, 4), pool=pool) for pool in agl.models.POOLS}
    kinds = {
        pool: [type(layer).__name__ for layer in net.layers]
        + [type(b.pool).__name__ for _, b in net.blocks() if b.pool]
        for pool, net in nets.items()
    }
    assert kinds["average"].count("AvgPool") == kinds["average first"].count("AvgPool") >= 2
    assert kinds["max"].count("MaxPool") == kinds["max first"].count("MaxPool") == kinds["average"].count("AvgPool")
    losses = [net.loss_and_grads(x, labels).loss for net in nets.values()]
    assert len(set(losses)) == 4 and np.isfinite(losses).all()
    helpers.assert_refused(lambda: model(1, 16, 3, pool="maximum"), "pool", "max first")


@pytest.mark.parametrize("norm", [True, False])
def test_the_input_current_is_what_stands_behind_the_pool(norm):
    net, x, _ = network(agl.MaxPool, norm)
    cache = net.forward(x)["conv1"]
    found = input_current(net.layers[0], cache._replace(neuron=cache.neuron._replace(x=None)))
    assert found.shape == cache.u.shape
    helpers.assert_equal(found[0], cache.u[0], "u_0 = x_0")


@pytest.mark.parametrize("name", ["fc_snn", "sew_resnet19"])
def test_networks_without_a_choice_refuse_one(name):
    helpers.assert_refused(lambda: agl.train.TrainConfig(network=name, pool="max"), "pool", name, "vgg_snn")


@pytest.mark.parametrize("inside", [True, False])
def test_the_oracle_says_that_it_does_not_know_these(inside):
    net, x, labels = network(agl.MaxPool, inside=inside)
    for call in (agl.oracle.reference, lambda *a: agl.oracle.identify(*a, {})):
        with pytest.raises(TypeError, match="MaxPool.*golden cases"):
            call(net, x, labels)


def test_the_official_names_are_not_taken_for_another_network():
    names = {pool: official_names(agl.models.vgg_snn(1, 16, 3, (2, 2, 2, 2), pool=pool)) for pool in agl.models.POOLS}
    assert [pool for pool in names if names[pool]] == ["average"]
