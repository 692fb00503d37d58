"""A loss of one's own: the gradient of the logits is an input of the reference, and everything behind it is judged."""

import numpy as np
import pytest

import agl_ref as agl
from agl_ref.oracle import Oracle, compare, identify, reference

RNG = np.random.default_rng(3)
X = RNG.random((3, 4, 8, 8, 1))
TARGET = RNG.random((4, 3))


def network(dtype=np.float64, conventions=agl.MPD_AGL, seed=0):
    return agl.models.conv_snn(
        image_size=8, channels=(4, 6), num_classes=3, dtype=dtype, seed=seed, conventions=conventions
    )


def rate_mse(logits):
    """dlogits of mean((mean_t(logits) - target)^2), by hand."""
    off = logits.mean(axis=0) - TARGET.astype(logits.dtype)
    return np.repeat((2 * off / (off.size * len(logits)))[None], len(logits), axis=0)


def step(net):
    """A training step on that loss in the network's dtype: {name: array}, and its dlogits."""
    trace = net.forward(X.astype(net.dtype), training=True)
    dlogits = rate_mse(trace.logits)
    spikes = {f"{name}.{key}": getattr(cache, key) for name, cache in trace.items() for key in ("u", "s")}
    return {**spikes, "logits": trace.logits, **net.backward(trace, dlogits)}, dlogits


def test_the_gradient_is_that_of_the_loss():
    net = network()
    ref = reference(net, X, dlogits=step(net)[1])
    bias = net.parameters()["fc.bias"]  # the loss is a smooth function of the readout's bias

    def loss():
        return float(((net.forward(X, training=True).logits.mean(axis=0) - TARGET) ** 2).mean())

    for i in range(bias.size):
        value, h = bias[i], 1e-4
        bias[i] = value + h
        above = loss()
        bias[i] = value - h
        below = loss()
        bias[i] = value
        assert abs((above - below) / (2 * h) - ref.arrays["grad_fc.bias"][i]) < 1e-10


def test_dlogits_of_our_own_loss_give_its_reference():
    net, labels = network(), np.array([0, 1, 2, 0])
    own = reference(net, X, labels)
    given = reference(net, X, dlogits=own.arrays["dlogits"])
    assert set(own.arrays) - set(given.arrays) == {"loss"}
    for name, array in given.arrays.items():
        assert np.array_equal(array, own.arrays[name]), name


def test_a_float32_step_passes_and_wrong_ones_fail():
    theirs, dlogits = step(network(np.float32))
    ref = reference(network(np.float32), X.astype(np.float32), dlogits=dlogits)
    assert compare(ref, {**theirs, "dlogits": dlogits}, dtype="float32").verdict == "PASS"
    flipped = {name: -a if name == "conv1.weight" else a for name, a in theirs.items()}
    report = compare(ref, flipped, dtype="float32")
    assert report.verdict == "FAIL" and report.first_divergence["name"] == "grad_conv1.weight"
    other = compare(ref, {**theirs, "dlogits": 2 * dlogits}, dtype="float32")
    assert other.verdict == "FAIL" and other.first_divergence["name"] == "dlogits" and "equation L" not in str(other)
    oracle = Oracle(network(np.float32))
    assert (
        oracle.compare(oracle.reference(X.astype(np.float32), dlogits=dlogits), theirs, force=("s",)).verdict == "PASS"
    )


def test_identify_names_the_rule():
    soft = agl.Conventions(reset="soft")
    theirs, dlogits = step(network(conventions=soft))
    found = identify(network(), X, None, theirs, dlogits=dlogits)
    assert found.verdict == "conventions" and found.wrong == {"reset": ("hard", "soft")}


@pytest.mark.parametrize(
    "options, error, text",
    [
        ({}, ValueError, "neither"),
        ({"labels": np.zeros(4, int), "dlogits": np.zeros((3, 4, 3))}, ValueError, "both"),
        ({"dlogits": np.zeros((3, 4, 2))}, ValueError, "dlogits: expected shape"),
        ({"dlogits": np.full((3, 4, 3), np.nan)}, ValueError, "dlogits: expected finite"),
        ({"dlogits": np.zeros((3, 4, 3), int)}, TypeError, "dlogits: expected float32 or float64"),
    ],
)
def test_other_targets_are_refused(options, error, text):
    with pytest.raises(error, match=text):
        reference(network(), X, **options)
