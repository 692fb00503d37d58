"""A whole network's replay: reference.py's `block_forward` and `block_backward` with an error at every rounding site.

Built from a trace in float64, whose spikes and windows stay as they are. `NetworkReplay(...)(r)` returns every array by
name, for `tolerance.spread`.
"""

import copy

import numpy as np

from agl_ref.engine.neuron import dw_from_ddecay
from agl_ref.engine.width import width_gradient
from agl_ref.oracle.descriptions import blocks, describe

from . import replay_layers as layers
from . import replay_neurons as neurons
from . import walk_layers


def synapse_of(block, given):
    """The Synapse of a block or readout; `given(key)` gives its parameters, None for one that it has not."""
    return layers.Synapse(given("weight"), given("bias"), block.get("stride", 1), block.get("padding", 0))


def norm_of(block, given, cache):
    """The Norm of a block, of the engine's `TdBNCache`."""
    running = None if cache.training else (given("running_mean"), given("running_var"))
    return layers.Norm(
        given("gamma"), given("beta"), cache.scale, cache.shift, block["norm"]["eps"], cache.unbiased, running
    )


def neuron_of(net, block, cache, s=None):
    """The Neuron of a block, of the engine's `BlockCache`, with its own or other spikes."""
    decay, v_th = cache.neuron.decay, cache.neuron.v_th
    inside = neurons.window(cache.u, cache.width, v_th, net.conventions, net.surrogate)
    w = float(net.parameters()[f"{block['name']}.w"]) if block["neuron"] == "plif" else None
    return neurons.Neuron(cache.s if s is None else s, inside, decay, v_th, net.conventions, net.surrogate, w)


class NetworkReplay:
    """The arrays of one forward and backward pass, computed from the trace's spikes and windows.

    Parameters
    ----------
    net : Network in float64
    trace : Trace
        Of this network; its spikes are what the blocks pass on.
    target, loss
        Labels and a loss as for `Network.loss_and_grads`, or dlogits and "given".
    forced : {"BLOCK.s", "BLOCK.u" or "BLOCK.width": ndarray}, optional
        Values that replace the trace's; everything else then follows from them.
    turned : {"BLOCK.u": mask}, optional
        Neurons that are on the other side of the window's edge than their u says.
    """

    def __init__(self, net, trace, target, loss="ce", forced=None, turned=None):
        self.net, self.trace, self.loss, self.forced, self.turned = net, trace, loss, forced or {}, turned or {}
        self.target, self.conventions = target, net.conventions
        self.layers, self.params = describe(net), {**net.parameters(), **net.running_statistics()}
        self.neurons, self.opened = {}, set()  # `opened`: blocks whose windows are those of the forced values
        for block in blocks(self.layers):
            name = block["name"]
            self.neurons[name] = neuron_of(net, block, trace[name], self.forced.get(f"{name}.s"))

    def __call__(self, r):
        return copy.copy(self).replay(r)  # passes may run side by side

    def replay(self, r):
        """Every array, by name, in the order of computation; those of the pass are kept here."""
        self.r, self.arrays, self.grads, self.states = r, {}, {}, {}
        logits, entered = walk_layers.forward(self, self.layers, r.given(self.trace.x))
        self.arrays["logits"] = logits
        if self.loss == "given":
            dlogits = r.given(self.target)
        elif self.loss == "ce":
            self.arrays["loss"], dlogits = layers.cross_entropy(r, logits, self.target, self.conventions.readout)
        else:
            self.arrays["loss"], dlogits = layers.tet(r, logits, self.target)
        self.arrays["dlogits"] = dlogits
        grad_x = walk_layers.backward(self, self.layers, dlogits, entered)
        return {**self.arrays, **{f"grad_{name}": value for name, value in self.grads.items()}, "grad_x": grad_x}

    def given(self, block):
        """The function that gives this block's parameters by their last names, rounded where the dtype needs it."""

        def parameter(key):
            value = self.params.get(f"{block['name']}.{key}")
            return None if value is None else self.r.given(value)

        return parameter

    def add(self, a, b):
        """Where the two branches of a residual block meet."""
        return layers.add(self.r, a, b)

    def forward(self, layer, x):
        """What one layer makes of x."""
        kind, r = layer["kind"], self.r
        if kind == "block":
            return self.block_forward(layer, x)
        if kind == "readout":
            self.states[layer["name"]] = synapse_of(layer, self.given(layer))
            return layers.conv2d_forward(r, x, self.states[layer["name"]])
        if kind == "flatten":
            return r.memo(lambda: x.reshape(*x.shape[:2], -1), x)
        if kind == "global_pool":
            return layers.global_avg_pool_forward(r, x)
        return layers.avg_pool_forward(r, x) * (4.0 if kind == "sum_pool" else 1.0)

    def backward(self, layer, d, x):
        """The gradient of x, which went into the layer, of d behind it."""
        kind, r = layer["kind"], self.r
        if kind == "block":
            return self.block_backward(layer, d, x)
        if kind == "readout":
            return self.synapse_backward(layer["name"], d, x, self.states[layer["name"]])
        if kind == "flatten":
            return d.reshape(x.shape)
        if kind == "global_pool":
            return layers.global_avg_pool_backward(r, d, x.shape)
        return layers.avg_pool_backward(r, d, x.shape) * (4.0 if kind == "sum_pool" else 1.0)

    def block_forward(self, block, x):
        """The block's spikes as the trace has them; its other values, rounded, are kept for the backward pass."""
        r, name, given = self.r, block["name"], self.given(block)
        neuron, cache, norm = self.neurons[name], self.trace[name], None
        synapse = synapse_of(block, given)
        current = layers.conv2d_forward(r, x, synapse)
        if block["norm"]:
            current, norm = layers.tdbn_forward(r, current, norm_of(block, given, cache.norm))
        tau = neurons.leak(r, neuron)
        width = self.forced.get(f"{name}.width")
        width = self.width(norm, tau, cache.width) if width is None else width
        if f"{name}.u" in self.forced:
            u = self.forced[f"{name}.u"]
            v = r.memo(lambda: neurons.reset(u, neuron.s, neuron), u, neuron.s)
        else:
            u, v = neurons.lif_forward(r, current, neuron, tau)
        if self.forced and name not in self.opened:
            self.opened.add(name)
            inside = neurons.window(u, width, neuron.v_th, self.conventions, self.net.surrogate)
            inside = inside ^ self.turned.get(f"{name}.u", False)
            self.neurons[name] = neuron._replace(inside=inside)
        self.states[name] = (synapse, norm, tau, width, current, u, v)
        values = {"width": width, "x": current, "u": u, "s": neuron.s, "v": v}
        self.arrays.update({f"{name}.{key}": value for key, value in values.items()})
        return neuron.s

    def width(self, norm, tau, width):
        """kappa_t by the rule, or as the trace has it where it follows from no gamma."""
        rule = self.conventions.width
        if rule in ("fixed", "2 V_th") or norm is None or self.trace.mode.widths or not (width > 0).all():
            return self.r.given(width)
        return neurons.width_of_layer(self.r, rule, norm.gamma, norm.scale, tau, len(width))

    def block_backward(self, block, ds, x):
        """The gradient of the block's input; those of its parameters go into `grads`."""
        r, name, neuron = self.r, block["name"], self.neurons[block["name"]]
        synapse, norm, tau, width, current, u, v = self.states[name]
        grads = neurons.lif_backward(r, ds, current, u, v, width, neuron, tau)
        self.arrays.update({f"{name}.ds": ds, f"{name}.du": grads.du, f"{name}.dx": grads.dx})
        ddecay, dgamma_width, d = float(grads.ddecay), 0.0, grads.dx
        if self.conventions.width_gradient == "flows":
            gamma, alpha = (None, 1.0) if norm is None else (norm.gamma, block["norm"]["alpha"])
            constants = (neuron.v_th, float(tau), self.conventions, alpha)
            dgamma_width, ddecay_width = width_gradient(grads.dwidth, gamma, *constants)
            ddecay += ddecay_width
        if neuron.w is not None:
            dw = dw_from_ddecay(ddecay, float(tau), self.conventions)  # (B6)
            self.grads[f"{name}.w"] = r(dw, lambda: 6 * np.abs(dw))
        if norm is not None:
            d, dgamma, dbeta = layers.tdbn_backward(r, d, norm)
            dgamma = dgamma if dgamma_width is None else dgamma + dgamma_width
            self.grads[f"{name}.gamma"] = r(dgamma, lambda: np.abs(dgamma))
            self.grads[f"{name}.beta"] = dbeta
        return self.synapse_backward(name, d, x, synapse)

    def synapse_backward(self, name, d, x, synapse):
        """The gradient of x; those of weight and bias go into `grads`."""
        dx, self.grads[f"{name}.weight"], dbias = layers.conv2d_backward(self.r, d, x, synapse)
        if dbias is not None:
            self.grads[f"{name}.bias"] = dbias
        return dx
