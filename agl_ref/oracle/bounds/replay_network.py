"""A whole network's replay: the walk over its layers, and the loss, with an error at every rounding site.

Built from a trace in float64, whose spikes and windows stay as they are. `NetworkReplay(...)(r)` returns every array by
name, for `tolerance.spread`.
"""

import numpy as np

from agl_ref.engine.blocks import AvgPool, Flatten, GlobalAvgPool, Readout, Residual, SumPool
from agl_ref.engine.neuron import dw_from_ddecay
from agl_ref.engine.parts import PLIF
from agl_ref.engine.width import width_gradient

from . import replay as ops
from .tolerance import is_power_of_two, sum_size


def window(u, width, v_th, conventions, surrogate):
    """Where the surrogate's derivative is not 0: inside the window, for a rectangular or triangular surrogate."""
    shaped = width.reshape((-1,) + (1,) * (u.ndim - 1))
    z = np.abs(u - v_th)
    if surrogate == "rectangular":
        inside = z <= shaped / 2 if conventions.window_edge == "<=" else z < shaped / 2
    else:
        inside = np.ones(u.shape, bool)
    return inside & (shaped > 0)


def softmax(r, z):
    """(softmax, its logarithm) over the last axis."""
    shifted = z - z.max(axis=-1, keepdims=True)
    shifted = r(shifted, lambda: np.abs(shifted))
    exps = np.exp(shifted)
    norm = exps.sum(axis=-1, keepdims=True)
    norm = r(norm, lambda: (3 + z.shape[-1]) * norm)
    log_p = shifted - np.log(norm)
    plain = z - log_p  # max + log of the sum, which rounds where it is subtracted from z itself
    log_p = r(log_p, lambda: np.abs(log_p) + 2 * np.abs(np.log(norm)) + 1 + np.abs(plain))
    p = np.exp(log_p)
    return r(p, lambda: p * (4 + np.abs(log_p))), log_p


def cross_entropy(r, logits, labels, readout):
    """(loss, dlogits) of the reduced logits."""
    T, N, K = logits.shape
    z = logits[-1] if readout == "last" else logits.sum(axis=0) / (T if readout == "mean" else 1)

    def size():
        if T == 1 or readout == "last":
            return 0.0
        magnitude = np.abs(logits).sum(axis=0)
        return (sum_size(logits.sum(axis=0), magnitude, T) + magnitude) / (T if readout == "mean" else 1)

    p, log_p = softmax(r, r(z, size))
    hot = np.equal(np.arange(K), labels[:, None]).astype(float)
    picked = -(log_p * hot).sum(axis=-1)
    loss = r(picked.mean(), lambda: (1 + N) * np.abs(picked).mean())
    dz = (p - hot) / N
    dz = r(dz, lambda: 2 * np.abs(dz))
    if readout == "last":
        return loss, np.concatenate([np.zeros((T - 1, N, K)), dz[None]])
    if readout == "mean":
        dz = r(dz / T, lambda: 0.0 if is_power_of_two(np.array(T)) else 2 * np.abs(dz / T))
    return loss, np.repeat(dz[None], T, axis=0)


def tet(r, logits, labels, lam=1e-3, target=1.0):
    """(loss, dlogits) of (1 - lam) mean_t CE + lam mean((logits - target)^2)."""
    T, N, K = logits.shape
    p, log_p = softmax(r, logits)
    hot = np.equal(np.arange(K), labels[:, None]).astype(float)
    off = logits - target
    off = r(off, lambda: np.abs(off))
    picked = -(log_p * hot).sum(axis=-1)
    loss = (1 - lam) * picked.mean() + lam * (off * off).mean()
    loss = r(loss, lambda: (3 + T * N) * np.abs(picked).mean() + lam * (3 + off.size) * (off * off).mean())
    entropy, pull = (1 - lam) * (p - hot) / (T * N), (2 * lam / logits.size) * off
    return loss, r(entropy + pull, lambda: 5 * np.abs(entropy) + 4 * np.abs(pull) + np.abs(entropy + pull))


class NetworkReplay:
    """The arrays of one forward and backward pass, computed from the trace's spikes and windows.

    Parameters
    ----------
    net : Network in float64
    trace : Trace
        Of this network; its spikes are what the blocks pass on.
    labels, loss
        As for `Network.loss_and_grads`.
    forced : {"BLOCK.s", "BLOCK.u" or "BLOCK.width": ndarray}, optional
        Values that stand in for the trace's; everything else then follows from them.
    """

    def __init__(self, net, trace, labels, loss="ce", forced=None):
        self.net, self.trace, self.loss, self.forced = net, trace, loss, forced or {}
        self.labels, self.conventions = np.asarray(labels), net.conventions
        self.neurons = {}
        for name, block in net.blocks():
            cache = trace[name]
            neuron = cache.neuron
            inside = window(cache.u, cache.width, neuron.v_th, net.conventions, net.surrogate)
            w = float(block.neuron.params["w"]) if isinstance(block.neuron, PLIF) else None
            constants = (neuron.decay, neuron.v_th, net.conventions, net.surrogate, w)
            self.neurons[name] = ops.Neuron(self.forced.get(f"{name}.s", cache.s), inside, *constants)

    def __call__(self, r):
        self.arrays, self.grads, self.states = {}, {}, {}
        y = r.given(self.trace.x)
        kept = []
        for layer in self.net.layers:
            kept.append(y)
            y = self._forward(r, layer, y)
        self.arrays["logits"] = y
        loss = (
            cross_entropy(r, y, self.labels, self.conventions.readout) if self.loss == "ce" else tet(r, y, self.labels)
        )
        self.arrays["loss"], d = loss
        self.arrays["dlogits"] = d
        for layer, x in zip(reversed(self.net.layers), reversed(kept), strict=True):
            d = self._backward(r, layer, d, x)
        return {**self.arrays, **{f"grad_{name}": value for name, value in self.grads.items()}, "grad_x": d}

    # --- forward

    def _forward(self, r, layer, x):
        if isinstance(layer, Readout):
            self.states[layer.name] = ops.Synapse(*(_given(r, layer.params.get(key)) for key in ("weight", "bias")))
            return ops.synapse_forward(r, x, self.states[layer.name])
        if isinstance(layer, AvgPool):
            return ops.pool_forward(r, x) * (4.0 if isinstance(layer, SumPool) else 1.0)
        if isinstance(layer, GlobalAvgPool):
            return ops.global_pool_forward(r, x)
        if isinstance(layer, Flatten):
            return r.memo(lambda: x.reshape(*x.shape[:2], -1), x)
        if isinstance(layer, Residual):
            y, side = x, x
            for block in layer.body:
                y = self._block_forward(r, block, y)
            if layer.shortcut:
                side = self._block_forward(r, layer.shortcut, x)
            return ops.add(r, y, side)
        return self._block_forward(r, layer, x)

    def _block_forward(self, r, block, x):
        """The block's spikes as the trace has them; its other values, rounded, are kept for the backward pass."""
        name, neuron, cache = block.name, self.neurons[block.name], self.trace[block.name]
        synapse = ops.Synapse(
            *(_given(r, block.synapse.params.get(key)) for key in ("weight", "bias")),
            getattr(block.synapse, "stride", 1),
            getattr(block.synapse, "padding", 0),
        )
        current, norm = ops.synapse_forward(r, x, synapse), None
        if block.norm is not None:
            running = None if cache.norm.training else tuple(r.given(a) for a in block.norm.statistics.values())
            gamma, beta = (r.given(block.norm.params[key]) for key in ("gamma", "beta"))
            norm = ops.Norm(gamma, beta, cache.norm.scale, block.norm.eps, cache.norm.unbiased, running)
            current, norm = ops.norm_forward(r, current, norm)
        tau = ops.leak(r, neuron)
        width = self.forced.get(f"{name}.width")
        width = self._width(r, block, norm, tau, cache.width) if width is None else width
        u, v = ops.neuron_forward(r, current, neuron, tau)
        if f"{name}.u" in self.forced:
            u = self.forced[f"{name}.u"]
            v = ops.after_reset(u, neuron.s, neuron)
        if self.forced and r.recording:
            inside = window(u, width, neuron.v_th, self.conventions, self.net.surrogate)
            self.neurons[name] = neuron._replace(inside=inside)
        self.states[name] = (x, synapse, norm, tau, width, current, u, v)
        self.arrays.update({f"{name}.width": width, f"{name}.x": current, f"{name}.u": u, f"{name}.s": neuron.s})
        self.arrays[f"{name}.v"] = v
        return neuron.s

    def _width(self, r, block, norm, tau, width):
        rule = self.conventions.width
        if rule == "fixed" or norm is None or self.trace.mode.widths or not (width > 0).all():
            return r.given(width)
        return ops.width_values(r, rule, norm.gamma, norm.scale, tau, len(width))

    # --- backward

    def _backward(self, r, layer, d, x):
        if isinstance(layer, Readout):
            return self._synapse_backward(r, layer.name, d, x, self.states[layer.name])
        if isinstance(layer, AvgPool):
            return ops.pool_backward(r, d, x.shape) * (4.0 if isinstance(layer, SumPool) else 1.0)
        if isinstance(layer, GlobalAvgPool):
            return ops.global_pool_backward(r, d, x.shape)
        if isinstance(layer, Flatten):
            return d.reshape(x.shape)
        if isinstance(layer, Residual):
            body = d
            for block in reversed(layer.body):
                body = self._block_backward(r, block, body)
            side = self._block_backward(r, layer.shortcut, d) if layer.shortcut else d
            return ops.add(r, body, side)
        return self._block_backward(r, layer, d)

    def _block_backward(self, r, block, ds):
        name, neuron = block.name, self.neurons[block.name]
        x, synapse, norm, tau, width, current, u, v = self.states[name]
        self.arrays[f"{name}.ds"] = ds
        grads = ops.neuron_backward(r, ds, current, u, v, width, neuron, tau)
        self.arrays[f"{name}.du"], self.arrays[f"{name}.dx"] = grads.du, grads.dx
        ddecay, dgamma_width, d = float(grads.ddecay), 0.0, grads.dx
        if self.conventions.width_gradient == "flows":
            gamma, alpha = (None, 1.0) if norm is None else (norm.gamma, block.norm.alpha)
            dgamma_width, more = width_gradient(
                grads.dwidth, gamma, neuron.v_th, float(tau), self.conventions, alpha
            )  # fmt: skip
            ddecay += more
        if neuron.w is not None:
            dw = dw_from_ddecay(ddecay, float(tau), self.conventions)
            self.grads[f"{name}.w"] = r(dw, lambda: 6 * np.abs(dw))
        if norm is not None:
            d, dgamma, dbeta = ops.norm_backward(r, d, norm)
            dgamma = dgamma if dgamma_width is None else dgamma + dgamma_width
            self.grads[f"{name}.gamma"] = r(dgamma, lambda: np.abs(dgamma))
            self.grads[f"{name}.beta"] = dbeta
        return self._synapse_backward(r, name, d, x, synapse)

    def _synapse_backward(self, r, name, d, x, synapse):
        dx, dweight, dbias = ops.synapse_backward(r, d, x, synapse)
        self.grads[f"{name}.weight"] = dweight
        if dbias is not None:
            self.grads[f"{name}.bias"] = dbias
        return dx


def _given(r, value):
    return None if value is None else r.given(value)
