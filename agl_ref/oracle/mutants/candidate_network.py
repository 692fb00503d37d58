"""Networks for `agl_ref.oracle.mutants.candidate`: a list of plain layer descriptions, walked forward and backward.

A description is what JSON can hold, one dict per layer:

    {"kind": "block", "name": "conv1", "synapse": "conv" or "linear", "stride": 1, "padding": 1,
     "norm": {"alpha": 1.0, "eps": 1e-5} or None, "neuron": "lif" or "plif", "decay": 0.2, "v_th": 0.5}
    {"kind": "residual", "name": "res1", "body": [blocks], "shortcut": block or None}
    {"kind": "pool"}, {"kind": "sum_pool"}, {"kind": "global_pool"}, {"kind": "flatten"}, {"kind": "readout", "name": "fc"}

Parameters stay outside, in a dict by the network's own names. Every array that is computed is handed to `observe` under
the oracle's names (conv1.x, conv1.u, ..., logits, dlogits, conv1.ds, ..., grad_conv1.weight), in the order of computation,
with a magnitude: the size of the terms it was summed from, which says how much of it can be rounding. The gradient of a
bias before tdBN is 0 but for rounding, and only its magnitude shows that.
"""

from typing import NamedTuple

import numpy as np


class Walked(NamedTuple):
    """One layer's forward: its input, and for a block what synapse, norm and neuron computed."""

    x: np.ndarray
    current: np.ndarray | None = None
    norm: tuple | None = None
    neuron: tuple | None = None
    inner: tuple = ()  # a residual block's body, then its shortcut


class CandidateNetwork:
    """A network of a Candidate's operations.

    Parameters
    ----------
    ops : Candidate
    layers : list of dict
    params : {name: ndarray}
        "conv1.weight", "conv1.gamma", "conv1.w", "fc.bias", ...
    statistics : {name: ndarray}, optional
        "conv1.running_mean", "conv1.running_var": given, tdBN runs in evaluation mode.
    observe : callable(name, array, magnitude), optional
    """

    def __init__(self, ops, layers, params, statistics=None, observe=None):
        self.ops, self.layers = ops, layers
        self.params = {name: np.asarray(value, ops.dtype) for name, value in params.items()}
        self.statistics = statistics
        self.observe = observe or (lambda name, array, magnitude: None)

    def _tell(self, name, array, magnitude=0.0):
        array = np.asarray(array, self.ops.dtype)
        self.observe(name, array, max(float(magnitude), float(np.max(np.abs(array), initial=0.0))))

    # --- forward

    def forward(self, x):
        """Logits (T, N, K) and what each layer computed."""
        walked, x = [], np.asarray(x, self.ops.dtype)
        for layer in self.layers:
            x, own = self._layer_forward(layer, x)
            walked.append(own)
        self._tell("logits", x)
        return x, walked

    def _layer_forward(self, layer, x):
        kind, ops = layer["kind"], self.ops
        if kind == "block":
            return self._block_forward(layer, x)
        if kind == "residual":
            y, inner = x, []
            for block in layer["body"]:
                y, own = self._block_forward(block, y)
                inner.append(own)
            side = x
            if layer["shortcut"]:
                side, own = self._block_forward(layer["shortcut"], x)
                inner.append(own)
            return ops.add(y, side), Walked(x, inner=tuple(inner))
        if kind == "readout":
            return ops.linear_forward(x, *self._weights(layer["name"])), Walked(x)
        if kind == "sum_pool":
            return 4 * ops.pool_forward(x), Walked(x)
        forward = {"pool": ops.pool_forward, "global_pool": ops.global_pool_forward, "flatten": ops.flatten}[kind]
        return forward(x), Walked(x)

    def _weights(self, name):
        return self.params[f"{name}.weight"], self.params.get(f"{name}.bias")

    def decay_of(self, block):
        return self.ops.decay_of(self.params[f"{block['name']}.w"]) if block["neuron"] == "plif" else block["decay"]

    def _block_forward(self, block, x):
        name, ops = block["name"], self.ops
        if block["synapse"] == "conv":
            current = ops.conv_forward(x, *self._weights(name), block["stride"], block["padding"])
        else:
            current = ops.linear_forward(x, *self._weights(name))
        normed = None
        if block["norm"]:
            running = None
            if self.statistics is not None:
                running = (self.statistics[f"{name}.running_mean"], self.statistics[f"{name}.running_var"])
            gamma, beta = self.params[f"{name}.gamma"], self.params[f"{name}.beta"]
            scales = (block["v_th"], block["norm"]["alpha"], block["norm"]["eps"])
            current, normed = ops.norm_forward(current, gamma, beta, *scales, running)
        self._tell(f"{name}.x", current)
        neuron = ops.neuron_forward(current, self.decay_of(block), block["v_th"])
        for key in ("u", "s", "v"):
            self._tell(f"{name}.{key}", getattr(neuron, key))
        return neuron.s, Walked(x, current, normed, neuron)

    # --- loss

    def loss(self, logits, labels, kind="ce"):
        """dlogits (T, N, K)."""
        loss, dlogits = (self.ops.cross_entropy if kind == "ce" else self.ops.tet)(logits, labels)
        self._tell("loss", loss)
        self._tell("dlogits", dlogits)
        return np.asarray(dlogits, self.ops.dtype)

    # --- backward

    def backward(self, dlogits, walked):
        """Gradient of the input; those of the parameters are told."""
        d = dlogits
        for layer, own in zip(reversed(self.layers), reversed(walked), strict=True):
            d = self._layer_backward(layer, d, own)
        self._tell("grad_x", d)
        return d

    def _layer_backward(self, layer, d, own):
        kind, ops = layer["kind"], self.ops
        if kind == "block":
            return self._block_backward(layer, d, own)
        if kind == "residual":
            side = ops.side_gradient(d)
            body = d
            for block, inner in zip(reversed(layer["body"]), reversed(own.inner[: len(layer["body"])]), strict=True):
                body = self._block_backward(block, body, inner)
            if layer["shortcut"]:
                side = self._block_backward(layer["shortcut"], side, own.inner[-1])
            return body + side
        if kind == "readout":
            return self._synapse_backward(layer["name"], d, own.x, None)
        if kind == "sum_pool":
            return 4 * ops.pool_backward(d, own.x.shape)
        backward = {"pool": ops.pool_backward, "global_pool": ops.global_pool_backward, "flatten": ops.unflatten}[kind]
        return backward(d, own.x.shape)

    def _synapse_backward(self, name, d, x, conv):
        """`conv` is the block with stride and padding, or None for a linear map."""
        weight, bias = self._weights(name)
        if conv:
            dx, dweight, dbias = self.ops.conv_backward(d, x, weight, conv["stride"], conv["padding"])
        else:
            dx, dweight, dbias = self.ops.linear_backward(d, x, weight)
        self._tell(f"grad_{name}.weight", dweight)
        if bias is not None:
            self._tell(f"grad_{name}.bias", dbias, np.abs(d).sum())
        return dx

    def width_of(self, block, T):
        gamma = self.params.get(f"{block['name']}.gamma")
        alpha = block["norm"]["alpha"] if block["norm"] else 1.0
        return self.ops.width(gamma, block["v_th"], self.decay_of(block), T, alpha)

    def _block_backward(self, block, ds, own):
        name, ops = block["name"], self.ops
        width = self.width_of(block, len(ds))
        self._tell(f"{name}.width", width)
        self._tell(f"{name}.ds", ds)
        grads = ops.neuron_backward(ds, own.neuron, width)
        self._tell(f"{name}.du", grads.du)
        self._tell(f"{name}.dx", grads.dx)
        d, ddecay, dgamma_width = grads.dx, float(grads.ddecay), 0
        if block["norm"]:
            gamma, decay = self.params[f"{name}.gamma"], own.neuron.decay
            dgamma_width, more = ops.through_width(grads.dwidth, gamma, block["v_th"], decay, block["norm"]["alpha"])
            ddecay += more
        if block["neuron"] == "plif":
            self._tell(f"grad_{name}.w", ops.dw(ddecay, own.neuron.decay))
        if block["norm"]:
            d, dgamma, dbeta = ops.norm_backward(d, own.norm)
            self._tell(f"grad_{name}.gamma", dgamma + dgamma_width)
            self._tell(f"grad_{name}.beta", dbeta)
        return self._synapse_backward(name, d, own.x, block if block["synapse"] == "conv" else None)

    def run(self, x, labels, loss="ce"):
        """Forward, loss, backward: {name: array} of everything that was told."""
        arrays = {}
        kept, self.observe = self.observe, lambda name, array, magnitude: arrays.__setitem__(name, array)
        logits, walked = self.forward(x)
        self.backward(self.loss(logits, labels, loss), walked)
        self.observe = kept
        return arrays
