"""The layers of a network: the spiking block, the residual block, pools, the readout.

    T timesteps, N samples, H, W, C height, width, channels, K classes
    x (T, N, H, W, C) or (T, N, F)

The spiking block is the unit: the adaptive width needs exactly the norm's gamma and the neuron's decay and threshold, and
the block is where the three meet.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import MPD_AGL, Conventions
from agl_ref.engine.fast.packing import from_bytes, in_bytes

from . import conv, neuron, tdbn
from .fast import tdbn_lif
from .parts import PLIF, Linear
from .width import empirical_width, exact_width, width_gradient, width_of_layer


@dataclass(frozen=True)
class Mode:
    """How a forward pass is run: what all layers share."""

    training: bool = True
    conventions: Conventions = MPD_AGL
    surrogate: str = "rectangular"
    relaxed: bool = False  # s = S(u - V_th) in place of the step
    widths: dict | None = None  # {block name: kappa (T,)} in place of the rule's
    keep: str = "trace"  # or "backward": only what the backward pass cannot compute again; or "nothing"
    observe: Callable | None = None  # called with (block, its BlockCache) after each block


class BlockCache(NamedTuple):
    """One spiking block in one pass: caches of synapse, norm (None without one) and neuron, and kappa_t.

    u, s and v raise ValueError after a pass that did not keep them.
    """

    synapse: tuple | None
    norm: tdbn.TdBNCache | None
    neuron: neuron.LIFCache
    width: np.ndarray

    def _kept(self):
        if self.neuron.u is None or self.neuron.s is None:
            raise ValueError(
                "trace: expected one that holds u and s, received one of a pass with keep_trace=False; keep it"
            )
        return self.neuron

    @property
    def u(self):
        """Membrane potential before firing, (T, N, ...)."""
        return self._kept().u

    @property
    def s(self):
        """Spikes, (T, N, ...)."""
        return self._kept().s

    @property
    def v(self):
        """Membrane potential after reset, (T, N, ...)."""
        return self._kept().v


class SpikingBlock:
    """Synapse, then tdBN (or none), then neuron: the unit whose gamma, decay and threshold give the width.

    Parameters
    ----------
    name : str
        Prefix of the parameter names: "conv1" gives "conv1.weight", "conv1.gamma", ...
    synapse : Conv2d or Linear
    norm : TdBN or None
    neuron : LIF or PLIF
    """

    def __init__(self, name, synapse, norm, neuron):
        self.name, self.synapse, self.norm, self.neuron = name, synapse, norm, neuron
        channels = synapse.params["weight"].shape[-1]
        if norm is not None and norm.params["gamma"].shape != (channels,):
            raise ValueError(
                f"block {name!r}: expected a norm of {channels} channels, received {norm.params['gamma'].size}; "
                f"use TdBN({channels})"
            )

    def blocks(self):
        """This block and those inside it, by full name."""
        yield self.name, self

    def parameters(self):
        parts = [self.synapse, self.neuron] if self.norm is None else [self.synapse, self.norm, self.neuron]
        return {f"{self.name}.{key}": value for part in parts for key, value in part.params.items()}

    def output_shape(self, shape):
        return self.synapse.output_shape(shape)

    def forward(self, x, mode):
        current, synapse_cache = self.synapse.forward(x)
        decay = self.neuron.decay(mode.conventions)
        width = self._width(decay, len(x), x.dtype, mode)
        s, norm_cache, cache = self._fire(current, decay, width, mode)
        if width is None:
            width = empirical_width(cache.u, self.name)
        block_cache = BlockCache(synapse_cache, norm_cache, cache, width)
        if mode.observe is not None:
            mode.observe(self, block_cache)
        if mode.keep == "trace":
            return s, block_cache
        return s, self._without_u(block_cache) if mode.keep == "backward" else self.spent(block_cache)

    def _fire(self, current, decay, width, mode):
        """Spikes of the synapse's output, the norm's cache or None, the neuron's cache."""
        c, v_th, cache = mode.conventions, self.neuron.v_th, None
        if self.norm is not None:
            cache = self.norm.measure(current, v_th, mode)
            if not mode.relaxed:
                need_u = mode.keep == "trace" or mode.observe is not None or width is None
                s, neuron_cache = tdbn_lif.forward(cache, decay, v_th, c, mode.surrogate, need_u)
                return s, cache, neuron_cache
            current = tdbn._normalise(cache)
        s, neuron_cache = neuron._forward(current, decay, v_th, c, mode.surrogate, width if mode.relaxed else None)
        return s, cache, neuron_cache

    def _without_u(self, cache):
        """The cache less what `_whole` computes again; its input in one byte a number where that is exact.

        Without a norm there is nothing to compute it from.
        """
        if cache.norm is None:
            return cache
        small = cache.synapse._replace(x=in_bytes(cache.synapse.x))
        return cache._replace(synapse=small, neuron=cache.neuron._replace(u=None, s=None, x=None))

    def _whole(self, cache):
        if cache.neuron.u is not None:
            return cache
        own = cache.neuron
        _, own = tdbn_lif.forward(cache.norm, own.decay, own.v_th, own.conventions, own.surrogate)
        synapse_cache = cache.synapse._replace(x=from_bytes(cache.synapse.x, own.u.dtype))
        return cache._replace(synapse=synapse_cache, neuron=own)

    def spent(self, cache):
        """What is left of a cache that nobody needs any more: nothing of the layer's size, but u where no norm's variance
        would tell of a NaN."""
        norm_cache = None if cache.norm is None else cache.norm._replace(x=None)
        u = cache.neuron.u if cache.norm is None else None
        return BlockCache(None, norm_cache, cache.neuron._replace(u=u, s=None, x=None), cache.width)

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
        dx, own = self._backward_neuron(ds, cache, observe)
        del ds  # here and below: so that its memory can be used again
        if cache.norm is not None:
            dx, dgamma, own["beta"] = tdbn._backward(dx, cache.norm)
            own["gamma"] = dgamma + own["gamma"] if "gamma" in own else dgamma
        synapse_cache = cache.synapse._replace(x=from_bytes(cache.synapse.x, dx.dtype))
        del cache
        dx, synapse_grads = self.synapse.backward(dx, synapse_cache, need_dx)
        own.update(synapse_grads)
        return dx, {f"{self.name}.{key}": own[key] for key in own}

    def _backward_neuron(self, ds, cache, observe):
        """dx of the neuron; {"w", "gamma"} as far as there is a gradient through the leak and the width."""
        conventions, own = cache.neuron.conventions, {}
        if cache.neuron.u is None:
            dx, ddecay, dwidth = tdbn_lif.backward(ds, cache.norm, cache.neuron, cache.width)
        else:
            dx, ddecay, dwidth = neuron._backward(ds, cache.neuron, cache.width, conventions, cache.neuron.surrogate)
        if observe is not None:
            observe(self, self._whole(cache), ds, dx)
        ddecay = float(ddecay)
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
            own["w"] = neuron.dw_from_ddecay(ddecay, cache.neuron.decay, conventions).astype(dx.dtype)
        return dx, own

    def rewire(self, x, cache):
        """The block's output as the cache holds it, and the cache with x as the synapse's input."""
        return cache.s, cache._replace(synapse=cache.synapse._replace(x=x))


class ResidualCache(NamedTuple):
    """Caches of the body's blocks in order, and of the shortcut (None: identity)."""

    body: tuple
    shortcut: BlockCache | None


class Residual:
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
        if not body:
            raise ValueError(f"residual {name!r}: expected at least one block in the body, received none; add one")
        self.name, self.body, self.shortcut = name, list(body), shortcut
        for block in self.body + ([shortcut] if shortcut else []):
            block.name = f"{name}.{block.name}"

    def blocks(self):
        for block in self.body + ([self.shortcut] if self.shortcut else []):
            yield from block.blocks()

    def parameters(self):
        return {key: value for _, block in self.blocks() for key, value in block.parameters().items()}

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
        return y + side, ResidualCache(tuple(caches), shortcut)

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
        return (d + side if need_dx else None), grads

    def spent(self, cache):
        body = (block.spent(own) for block, own in zip(self.body, cache.body, strict=True))
        return ResidualCache(tuple(body), self.shortcut.spent(cache.shortcut) if self.shortcut else None)

    def rewire(self, x, cache):
        y, caches = x, []
        for block, block_cache in zip(self.body, cache.body, strict=True):
            y, block_cache = block.rewire(y, block_cache)
            caches.append(block_cache)
        side, shortcut = self.shortcut.rewire(x, cache.shortcut) if self.shortcut else (x, None)
        return y + side, ResidualCache(tuple(caches), shortcut)


class _Plain:
    """A layer without parameters: a forward/backward pair and a shape rule."""

    def blocks(self):
        return iter(())

    def parameters(self):
        return {}

    def spent(self, cache):
        return cache

    def rewire(self, x, cache):
        return self.forward(x, None)


class AvgPool(_Plain):
    """2x2 average pooling; an odd last row or column is left out."""

    def output_shape(self, shape):
        if len(shape) != 3 or min(shape[:2]) < 2:
            raise ValueError(f"pool: expected an input of at least 2x2, received {shape}; use fewer pools")
        return (shape[0] // 2, shape[1] // 2, shape[2])

    def forward(self, x, mode):
        return conv._avg_pool_forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return conv._avg_pool_backward(dy, cache), {}


class SumPool(AvgPool):
    """2x2 sum pooling: four times the mean, which is exact in binary floating point."""

    def forward(self, x, mode):
        y, cache = super().forward(x, mode)
        return y.dtype.type(4) * y, cache

    def backward(self, dy, cache, observe=None, need_dx=True):
        dx, grads = super().backward(dy, cache, observe, need_dx)
        return dx.dtype.type(4) * dx, grads


class GlobalAvgPool(_Plain):
    """Mean over height and width."""

    def output_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"global pool: expected an input (H, W, C), received {shape}; put it before Flatten")
        return (shape[2],)

    def forward(self, x, mode):
        return conv._global_avg_pool_forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return conv._global_avg_pool_backward(dy, cache), {}


class Flatten(_Plain):
    """(T, N, H, W, C) to (T, N, H W C), channels fastest."""

    def output_shape(self, shape):
        return (int(np.prod(shape)),)

    def forward(self, x, mode):
        return np.ascontiguousarray(x).reshape(*x.shape[:2], -1), conv.PoolCache(x.shape, x.dtype)

    def backward(self, dy, cache, observe=None, need_dx=True):
        return dy.reshape(cache.shape), {}


class Readout(Linear):
    """The last linear layer, without a neuron: its outputs are the logits at each timestep."""

    def __init__(self, name, f_in, num_classes, bias=True, dtype=np.float64, seed=0):
        super().__init__(f_in, num_classes, bias, dtype, seed)
        self.name = name

    def blocks(self):
        return iter(())

    def parameters(self):
        return {f"{self.name}.{key}": value for key, value in self.params.items()}

    def forward(self, x, mode):
        return super().forward(x)

    def backward(self, dy, cache, observe=None, need_dx=True):
        dx, grads = super().backward(dy, cache, need_dx)
        return dx, {f"{self.name}.{key}": value for key, value in grads.items()}

    def spent(self, cache):
        return None

    def rewire(self, x, cache):
        return None, cache._replace(x=x)
