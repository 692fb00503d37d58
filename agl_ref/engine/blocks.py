"""The layers of a network: the spiking block, the residual block (R1, R2), pools, the readout.

    T timesteps, N samples, H, W, C height, width, channels, K classes
    x (T, N, H, W, C) or (T, N, F)

The spiking block is the unit: the adaptive width needs exactly the norm's gamma and the neuron's decay and threshold, and
the block is where the three meet.
"""

import numpy as np

from agl_ref import validate

from . import conv, neuron, tdbn
from .caches import BlockCache, ResidualCache
from .fast import recompute, tdbn_lif
from .ops import lif_forward
from .parts import LIF, PLIF, Conv2d, Linear, TdBN
from .width import empirical_width, exact_width, width_gradient, width_of_layer


class Layer:
    """What all layers have: the blocks inside, parameters, a shape rule, forward, backward, and `rewire`."""

    def blocks(self):
        """(full name, SpikingBlock) of each block inside."""
        return iter(())

    def parameters(self):
        """{parameter name: array}."""
        return {key: value for _, block in self.blocks() for key, value in block.parameters().items()}

    def rewire(self, x, cache):
        """The output for the input x with the block's values as the cache holds them, and the cache with x as its input."""
        return self.forward(x, None)


class SpikingBlock(Layer):
    """Synapse, perhaps a pool, then tdBN (or none), then neuron: the unit whose gamma, decay and threshold give the width.

    Parameters
    ----------
    name : str
        Prefix of the parameter names: "conv1" gives "conv1.weight", "conv1.gamma", ...
    synapse : Conv2d or Linear
    norm : TdBN or None
    neuron : LIF or PLIF
    pool : AvgPool, SumPool, MaxPool or None
        Between synapse and norm, so that the norm still sets the spread of what the neuron integrates.
    """

    def __init__(self, name, synapse, norm, neuron, pool=None):
        validate.instance("name", name, str, "pass text")
        validate.instance("synapse", synapse, (Conv2d, Linear), "pass one")
        validate.instance("norm", norm, (TdBN, type(None)), "pass one or None")
        validate.instance("neuron", neuron, (LIF, PLIF), "pass one")
        validate.instance("pool", pool, (AvgPool, type(None)), "pass one or None")
        self.name, self.synapse, self.norm, self.neuron, self.pool = name, synapse, norm, neuron, pool
        dtype = synapse.params["weight"].dtype
        validate.number("v_th", neuron.v_th, low=0, low_open=True, dtype=dtype)
        if isinstance(neuron, LIF):
            validate.decay(neuron.decay(None), dtype=dtype)
        channels = synapse.params["weight"].shape[-1]
        if norm is not None and norm.params["gamma"].shape != (channels,):
            raise ValueError(
                f"block {name!r}: expected a norm of {channels} channels, received {norm.params['gamma'].size}; "
                f"use TdBN({channels})"
            )

    def blocks(self):
        yield self.name, self

    def parameters(self):
        parts = [self.synapse, self.neuron] if self.norm is None else [self.synapse, self.norm, self.neuron]
        return {f"{self.name}.{key}": value for part in parts for key, value in part.params.items()}

    def output_shape(self, shape):
        shape = self.synapse.output_shape(shape)
        return shape if self.pool is None else self.pool.output_shape(shape)

    def forward(self, x, mode):
        decay, v_th, norm_cache = self.neuron.decay(mode.conventions), self.neuron.v_th, None
        width = self._width(decay, len(x), x.dtype, mode)
        current, synapse_cache = self.synapse.forward(x)
        current, pool_cache = (current, None) if self.pool is None else self.pool.forward(current, mode)
        if self.norm is not None:
            norm_cache = self.norm.measure(current, v_th, mode)
        if self.norm is not None and not mode.relaxed:  # norm and neuron in one pass over memory
            store_u = recompute.needs_u(mode, width)
            s, neuron_cache = tdbn_lif.forward(norm_cache, decay, v_th, mode.conventions, mode.surrogate, store_u)
        else:
            current = current if self.norm is None else tdbn.normalise(norm_cache)
            relaxed_width = width if mode.relaxed else None
            s, neuron_cache = lif_forward.unchecked(
                current, decay, v_th, mode.conventions, mode.surrogate, relaxed_width
            )
        if width is None:
            width = empirical_width(neuron_cache.u, self.name)
        cache = BlockCache(synapse_cache, norm_cache, neuron_cache, width, pool_cache)
        if mode.observe is not None:
            mode.observe(self, cache)
        return s, recompute.kept(cache, mode)

    def _width(self, decay, T, dtype, mode):
        """kappa_t (T,), or None where it is to be measured on u."""
        c, v_th = mode.conventions, self.neuron.v_th
        if mode.widths is not None and self.name in mode.widths:
            return mode.widths[self.name]
        if c.width == "empirical":
            if mode.relaxed:
                raise ValueError(
                    f"widths: expected kappa for block {self.name!r}, received none; a relaxed pass needs it before there "
                    "is a u to measure it on, take it from another trace"
                )
            return None
        if self.norm is None:
            return width_of_layer(None, v_th, decay, T, dtype, c)
        gamma, beta = self.norm.params["gamma"], self.norm.params["beta"]
        if c.width == "exact":
            return exact_width(gamma, beta, v_th, decay, T, c, self.norm.alpha, self.name)
        return width_of_layer(gamma, v_th, decay, T, dtype, c, self.norm.alpha, self.name)

    def backward(self, ds, cache, observe=None, need_dx=True):
        """Neuron, norm, synapse in reverse. `observe`, if given, is called with (block, cache, ds, dx of the neuron)."""
        dx, ddecay, dwidth = recompute.neuron_grads(ds, cache, learns=isinstance(self.neuron, PLIF))
        if observe is not None:
            observe(self, recompute.whole(cache), ds, dx)
        del ds  # here and below: so that its memory can be used again
        own = self._neuron_parameters(float(ddecay), dwidth, cache, dx.dtype)
        if cache.norm is not None:
            dx, dgamma, own["beta"] = tdbn.backward(dx, cache.norm)
            own["gamma"] = dgamma + own["gamma"] if "gamma" in own else dgamma
        if self.pool is not None:
            dx, _ = self.pool.backward(dx, cache.pool)
        synapse_cache = recompute.synapse_cache(cache, dx.dtype)
        del cache
        dx, synapse_grads = self.synapse.backward(dx, synapse_cache, need_dx)
        own.update(synapse_grads)
        return dx, {f"{self.name}.{key}": own[key] for key in own}

    def _neuron_parameters(self, ddecay, dwidth, cache, dtype):
        """{"w", "gamma"} as far as a gradient reaches them through the leak and the width."""
        conventions, own = cache.neuron.conventions, {}
        if conventions.width_gradient == "flows":
            gamma = None if cache.norm is None else cache.norm.gamma
            alpha = 1.0 if self.norm is None else self.norm.alpha
            dgamma, ddecay_width = width_gradient(
                dwidth, gamma, cache.neuron.v_th, cache.neuron.decay, conventions, alpha
            )
            ddecay += ddecay_width
            if dgamma is not None:
                own["gamma"] = dgamma
        if isinstance(self.neuron, PLIF):
            own["w"] = neuron.dw_from_ddecay(ddecay, cache.neuron.decay, conventions).astype(dtype)
        return own

    def rewire(self, x, cache):
        return cache.s, cache._replace(synapse=cache.synapse._replace(x=x))


class Residual(Layer):
    """SEW ADD block (Fang et al., NeurIPS 2021): the body's spikes plus the shortcut's, or plus the input itself.

    Parameters
    ----------
    name : str
        Prefix of the names inside: "res1" with a body block "conv1" gives "res1.conv1.weight".
    body : list of SpikingBlock
    shortcut : SpikingBlock or None
        None adds the input; its shape must then be the body's output shape.
    """

    def __init__(self, name, body, shortcut=None):
        validate.instance("name", name, str, "pass text")
        validate.instance("shortcut", shortcut, (SpikingBlock, type(None)), "pass one or None")
        if not validate.sequence("body", body, kind=SpikingBlock):
            raise ValueError(f"residual {name!r}: expected at least one block in the body, received none; add one")
        self.name, self.body, self.shortcut = name, list(body), shortcut
        for block in self.body + ([shortcut] if shortcut else []):
            block.name = f"{name}.{block.name}"

    def blocks(self):
        for block in self.body + ([self.shortcut] if self.shortcut else []):
            yield from block.blocks()

    def output_shape(self, shape):
        out = shape
        for block in self.body:
            out = block.output_shape(out)
        side = self.shortcut.output_shape(shape) if self.shortcut else shape
        if out != side:
            raise ValueError(
                f"residual {self.name!r}: expected body and shortcut of one shape, received {out} and {side}; "
                "give it a shortcut block that changes the shape"
            )
        return out

    def forward(self, x, mode):
        y, caches = x, []
        for block in self.body:
            y, cache = block.forward(y, mode)
            caches.append(cache)
        side, shortcut = self.shortcut.forward(x, mode) if self.shortcut else (x, None)
        return y + side, ResidualCache(tuple(caches), shortcut)  # (R1)

    def backward(self, dy, cache, observe=None, need_dx=True):
        grads, d, caches, shortcut = {}, dy, list(cache.body), cache.shortcut
        del cache
        for i in reversed(range(len(self.body))):
            d, own = self.body[i].backward(d, caches.pop(), observe, need_dx or i > 0)
            grads.update(own)
        side = dy
        if self.shortcut:
            side, own = self.shortcut.backward(dy, shortcut, observe, need_dx)
            grads.update(own)
        return (d + side if need_dx else None), grads  # (R2)

    def rewire(self, x, cache):
        y, caches = x, []
        for block, block_cache in zip(self.body, cache.body, strict=True):
            y, block_cache = block.rewire(y, block_cache)
            caches.append(block_cache)
        side, shortcut = self.shortcut.rewire(x, cache.shortcut) if self.shortcut else (x, None)
        return y + side, ResidualCache(tuple(caches), shortcut)


class AvgPool(Layer):
    """2x2 average pooling; an odd last row or column is left out."""

    def output_shape(self, shape):
        if len(shape) != 3 or min(shape[:2]) < 2:
            raise ValueError(f"pool: expected an input of at least 2x2, received {shape}; use fewer pools")
        return (shape[0] // 2, shape[1] // 2, shape[2])

    def forward(self, x, mode):
        return conv.pool_forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return conv.pool_backward(dy, cache), {}


class SumPool(AvgPool):
    """2x2 sum pooling: four times the mean, which is exact in binary floating point."""

    def forward(self, x, mode):
        y, cache = super().forward(x, mode)
        return y.dtype.type(4) * y, cache

    def backward(self, dy, cache, observe=None, need_dx=True):
        dx, grads = super().backward(dy, cache, observe, need_dx)
        return dx.dtype.type(4) * dx, grads


class MaxPool(AvgPool):
    """2x2 max pooling; of equal values the first in reading order gets the gradient, as in PyTorch."""

    def forward(self, x, mode):
        return conv.max_pool_forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return conv.max_pool_backward(dy, cache), {}


class GlobalAvgPool(Layer):
    """Mean over height and width."""

    def output_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"global pool: expected an input (H, W, C), received {shape}; put it before Flatten")
        return (shape[2],)

    def forward(self, x, mode):
        return conv.global_pool_forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return conv.global_pool_backward(dy, cache), {}


class Flatten(Layer):
    """(T, N, H, W, C) to (T, N, H W C), channels fastest."""

    def output_shape(self, shape):
        return (int(np.prod(shape)),)

    def forward(self, x, mode):
        return np.ascontiguousarray(x).reshape(*x.shape[:2], -1), conv.PoolCache(x.shape, x.dtype)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return dy.reshape(cache.shape), {}


class Readout(Linear, Layer):
    """The last linear layer, without a neuron: its outputs are the logits at each timestep."""

    def __init__(self, name, f_in, num_classes, bias=True, dtype=np.float64, seed=0):
        super().__init__(f_in, num_classes, bias, dtype, seed)
        self.name = validate.instance("name", name, str, "pass text")

    def parameters(self):
        return {f"{self.name}.{key}": value for key, value in self.params.items()}

    def forward(self, x, mode):
        return super().forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        dx, grads = super().backward(dy, cache, need_dx)
        return dx, {f"{self.name}.{key}": value for key, value in grads.items()}

    def rewire(self, x, cache):
        return None, cache._replace(x=x)
