"""The reference: a network's (or one op's) every intermediate value and gradient, by the engine in float64.

`reference(net, x, labels)` is for a user's own network, `reference_of_case(case)` for a stored case of one op.
"""

import copy
from dataclasses import asdict

import numpy as np

from ._types import Reference


def in_float64(net):
    """A copy of the network whose parameters and statistics are float64; their values are the same."""
    from ..network import Network

    layers = copy.deepcopy(net.layers)
    for layer in layers:
        for _, block in layer.blocks():
            parts = [block.synapse, block.neuron] + ([] if block.norm is None else [block.norm])
            for part in parts:
                part.params = {key: value.astype(np.float64) for key, value in part.params.items()}
            if block.norm is not None:
                statistics = block.norm.statistics
                block.norm.statistics = {key: value.astype(np.float64) for key, value in statistics.items()}
    readout = layers[-1]
    readout.params = {key: value.astype(np.float64) for key, value in readout.params.items()}
    return Network(layers, net.input_shape, net.conventions, net.surrogate)


def run(net, x, labels, loss="ce", training=True):
    """(trace, arrays): one forward and backward pass, everything of it by name in the order of computation."""
    trace = net.forward(x, training=training)
    value, dlogits = loss_of(trace.logits, labels, loss, net.conventions)
    return trace, collect(net, trace, value, dlogits)


def loss_of(logits, labels, loss, conventions):
    """(loss, dlogits) of "ce" or "tet"."""
    from .. import _check
    from ..loss import cross_entropy_backward, cross_entropy_forward, tet_backward, tet_forward

    _check.one_of("loss", loss, ("ce", "tet"))
    if loss == "ce":
        value, cache = cross_entropy_forward(logits, labels, conventions)
        return value, cross_entropy_backward(cache)
    value, cache = tet_forward(logits, labels)
    return value, tet_backward(cache)


def collect(net, trace, loss, dlogits):
    """Run the backward pass of `trace` and name everything, in the order of computation."""
    record, arrays = {}, {}
    grads = net.backward(trace, dlogits, record)
    for name, cache in trace.items():
        arrays[f"{name}.width"] = cache.width
        arrays[f"{name}.x"] = input_current(cache)
        for key in ("u", "s", "v"):
            arrays[f"{name}.{key}"] = getattr(cache, key)
    arrays.update({"logits": trace.logits, "loss": np.array(loss), "dlogits": dlogits})
    for name, cache in reversed(trace.items()):
        arrays[f"{name}.ds"] = record[f"{name}.ds"]
        dx = record[f"{name}.dx"]
        scaled = cache.neuron.conventions.input_scale == "1 - tau"
        arrays[f"{name}.du"] = dx / (1.0 - cache.neuron.decay) if scaled else dx
        arrays[f"{name}.dx"] = dx
    arrays.update({f"grad_{key}": grads[key] for key in reversed(list(grads))})
    arrays["grad_x"] = record["x"]
    return arrays


def input_current(cache):
    """The neuron's input current in a block's cache: u_t - tau v_{t-1}, or the input itself where it was kept."""
    if cache.neuron.x is not None:
        return cache.neuron.x
    x = cache.u.copy()
    x[1:] -= cache.neuron.decay * cache.v[:-1]
    return x


def reference(net, x, labels, loss="ce", training=True):
    """Every intermediate value and gradient of a network on this input, with bounds and margins.

    Parameters
    ----------
    net : Network
        In float32 or float64; the reference computes in float64 from the same parameter values.
    x : ndarray (T, N, *input_shape)
    labels : integer array (N,)
    loss : {"ce", "tet"}
    training : bool
        Batch statistics in tdBN, or the running ones.

    Returns
    -------
    Reference
    """
    wide = in_float64(net)
    x = np.asarray(x)
    trace, arrays = run(wide, x.astype(np.float64), labels, loss, training)
    meta = {
        "op": "network",
        "surrogate": net.surrogate,
        "T": len(x),
        "loss": loss,
        "training": training,
        "v_th": {name: cache.neuron.v_th for name, cache in trace.items()},
        "decay": {name: cache.neuron.decay for name, cache in trace.items()},
    }
    inputs = {"x": x, "labels": np.asarray(labels), **net.parameters()}
    bounds = {name: 64.0 * np.abs(value) + 64.0 * np.abs(value).max() for name, value in arrays.items()}
    for name in arrays:
        if name.endswith(".s"):
            bounds[name] = np.zeros_like(arrays[name])
    return Reference("own", asdict(net.conventions), meta, inputs, arrays, bounds, {}, source=(wide, trace))


class Oracle:
    """`reference` and `compare` with one network: `oracle.reference(x, labels)`, `oracle.compare(x, labels, theirs)`."""

    def __init__(self, net, loss="ce", training=True):
        self.net, self.loss, self.training = net, loss, training

    def reference(self, x, labels):
        """See `agl_ref.oracle.reference`."""
        return reference(self.net, x, labels, self.loss, self.training)

    def compare(self, x, labels, theirs, dtype=None):
        """See `agl_ref.oracle.compare`."""
        from .compare import compare

        return compare(self.reference(x, labels), theirs, dtype=dtype)
