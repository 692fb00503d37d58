"""What networks are made of: synapses, tdBN, neurons, the spiking block, the residual block, pools, the readout.

    T timesteps, N samples, H, W, C height, width, channels, K classes
    x (T, N, H, W, C) or (T, N, F)

The spiking block is the unit: the adaptive width needs exactly the norm's gamma and the neuron's decay and threshold, and
the block is where the three meet. A layer holds its parameters and nothing else: what its backward pass needs travels in
a cache that `forward` returns.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from . import _check, conv, linear, neuron, norm, optim
from .conventions import MPD_AGL, Conventions
from .width import empirical_width, exact_width, width_gradient, width_of_layer


@dataclass(frozen=True)
class Mode:
    """How a forward pass is run: what all layers share."""

    training: bool = True
    conventions: Conventions = MPD_AGL
    surrogate: str = "rectangular"
    relaxed: bool = False  # s = S(u - V_th) in place of the step
    widths: dict | None = None  # {block name: kappa (T,)} in place of the rule's


# --- synapses, norm and neurons: the three parts of a spiking block -------------------------------------------------


class Conv2d:
    """Convolution with weight (k, k, C_in, C_out), Kaiming-normal fan-out; the optional bias starts at 0."""

    def __init__(self, c_in, c_out, kernel=3, stride=1, padding=None, bias=False, dtype=np.float64, seed=0):
        for name, value in (("c_in", c_in), ("c_out", c_out), ("kernel", kernel), ("stride", stride)):
            _check.integer(name, value)
        if kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd size, received {kernel}; use {kernel + 1}")
        dtype = _check.float_dtype(dtype)
        rng = np.random.default_rng(seed)
        self.stride = stride
        self.padding = kernel // 2 if padding is None else _check.integer("padding", padding, low=0)
        self.params = {"weight": optim.kaiming_fan_out(rng, (kernel, kernel, c_in, c_out), dtype)}
        if bias:
            self.params["bias"] = np.zeros(c_out, dtype)

    def output_shape(self, shape):
        kh, kw, c_in, c_out = self.params["weight"].shape
        if len(shape) != 3 or shape[-1] != c_in:
            raise ValueError(f"conv: expected an input of shape (H, W, {c_in}), received {shape}; change c_in")
        Ho, Wo = conv._geometry(shape, (kh, kw), self.stride, self.padding)[4:]
        if Ho < 1 or Wo < 1:
            raise ValueError(f"conv: expected an input of at least {kh}x{kw}, received {shape[:2]}; use fewer pools")
        return (Ho, Wo, c_out)

    def forward(self, x):
        return conv._forward(x, self.params["weight"], self.params.get("bias"), self.stride, self.padding)

    def backward(self, dy, cache, need_dx=True):
        return _named(conv._backward(dy, cache, need_dx))


class Linear:
    """Linear map with weight (F_in, F_out) and optional bias, initialised as PyTorch does."""

    def __init__(self, f_in, f_out, bias=True, dtype=np.float64, seed=0):
        _check.integer("f_in", f_in)
        _check.integer("f_out", f_out)
        dtype = _check.float_dtype(dtype)
        rng = np.random.default_rng(seed)
        self.params = {"weight": optim.torch_linear(rng, (f_in, f_out), dtype)}
        if bias:
            self.params["bias"] = optim.torch_linear(rng, (f_in, f_out), dtype)[0].copy()

    def output_shape(self, shape):
        f_in, f_out = self.params["weight"].shape
        if shape != (f_in,):
            raise ValueError(
                f"linear: expected an input of shape ({f_in},), received {shape}; add Flatten or change f_in"
            )
        return (f_out,)

    def forward(self, x):
        return linear._forward(x, self.params["weight"], self.params.get("bias"))

    def backward(self, dy, cache, need_dx=True):
        return _named(linear._backward(dy, cache, need_dx))


def _named(grads):
    dx, dweight, dbias = grads
    return dx, {"weight": dweight} if dbias is None else {"weight": dweight, "bias": dbias}


class TdBN:
    """tdBN's gamma, beta (C,) and running statistics; see `agl_ref.norm`."""

    def __init__(self, channels, alpha=1.0, eps=1e-5, momentum=0.1, dtype=np.float64):
        channels, dtype = _check.integer("channels", channels), _check.float_dtype(dtype)
        self.alpha = _check.number("alpha", alpha, low=0, low_open=True)
        self.eps = _check.number("eps", eps, low=0, low_open=True)
        self.momentum = _check.number("momentum", momentum, low=0, high=1)
        self.params = {"gamma": np.ones(channels, dtype), "beta": np.zeros(channels, dtype)}
        self.statistics = {"running_mean": np.zeros(channels, dtype), "running_var": np.ones(channels, dtype)}

    def forward(self, x, v_th, mode):
        running = None if mode.training else tuple(self.statistics.values())
        gamma, beta = self.params["gamma"], self.params["beta"]
        return norm._forward(x, gamma, beta, v_th, self.alpha, self.eps, mode.conventions, running)

    def update(self, cache):
        norm.update_running(*self.statistics.values(), cache, self.momentum)


class LIF:
    """LIF neurons with a given leak factor and threshold; no parameters."""

    def __init__(self, decay=0.2, v_th=0.5):
        self._decay = _check.number("decay", decay, low=0, high=1, high_open=True)
        self.v_th = _check.number("v_th", v_th, low=0, low_open=True)
        self.params = {}

    def decay(self, conventions):
        return self._decay


class PLIF:
    """LIF whose leak factor is sigmoid(w), w learned; -ln(a - 1) with a = 5 to start with, so tau = 0.2."""

    def __init__(self, w=-1.3862943611198906, v_th=0.5, dtype=np.float64):
        self.params = {"w": np.array(_check.number("w", w), _check.float_dtype(dtype))}
        self.v_th = _check.number("v_th", v_th, low=0, low_open=True)

    def decay(self, conventions):
        decay = neuron.decay_from_w(self.params["w"], conventions)
        if not 0 <= decay < 1:
            raise ValueError(
                f"w: expected a value whose decay is in [0, 1), received {float(self.params['w'])} (decay {decay}); "
                "lower the learning rate"
            )
        return decay


# --- layers of a network --------------------------------------------------------------------------------------------


class BlockCache(NamedTuple):
    """One spiking block in one pass: caches of synapse, norm (None without one) and neuron, and kappa_t."""

    synapse: tuple
    norm: tuple | None
    neuron: neuron.LIFCache
    width: np.ndarray

    @property
    def u(self):
        """Membrane potential before firing, (T, N, ...)."""
        return self.neuron.u

    @property
    def s(self):
        """Spikes, (T, N, ...)."""
        return self.neuron.s

    @property
    def v(self):
        """Membrane potential after reset, (T, N, ...)."""
        return self.neuron.v


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
        norm_cache = None
        if self.norm is not None:
            current, norm_cache = self.norm.forward(current, self.neuron.v_th, mode)
        decay = self.neuron.decay(mode.conventions)
        width = self._width(decay, len(x), x.dtype, mode)
        relaxed_width = width if mode.relaxed else None
        s, cache = neuron._forward(  # nobody else holds the current: its memory becomes u
            current, decay, self.neuron.v_th, mode.conventions, mode.surrogate, relaxed_width, overwrite=True
        )
        if width is None:
            width = empirical_width(cache.u, self.name)
        return s, BlockCache(synapse_cache, norm_cache, cache, width)

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

    def backward(self, ds, cache, record=None, need_dx=True):
        """Neuron, norm, synapse in reverse. `record`, if given, collects "name.ds" and "name.dx"."""
        conventions = cache.neuron.conventions
        dx, ddecay, dwidth = neuron._backward(ds, cache.neuron, cache.width, conventions, cache.neuron.surrogate)
        ddecay = float(ddecay)
        if record is not None:
            record[f"{self.name}.ds"], record[f"{self.name}.dx"] = ds, dx
        own = {}
        dgamma_width = None
        if conventions.width_gradient == "flows":
            gamma = None if cache.norm is None else cache.norm.gamma
            alpha = 1.0 if self.norm is None else self.norm.alpha
            dgamma_width, ddecay_width = width_gradient(
                dwidth, gamma, cache.neuron.v_th, cache.neuron.decay, conventions, alpha
            )
            ddecay += ddecay_width
        if isinstance(self.neuron, PLIF):
            own["w"] = neuron.dw_from_ddecay(ddecay, cache.neuron.decay, conventions).astype(dx.dtype)
        if cache.norm is not None:
            dx, own["gamma"], own["beta"] = norm._backward(dx, cache.norm)
            if dgamma_width is not None:
                own["gamma"] = own["gamma"] + dgamma_width
        dx, synapse_grads = self.synapse.backward(dx, cache.synapse, need_dx)
        own.update(synapse_grads)
        return dx, {f"{self.name}.{key}": own[key] for key in own}

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

    def backward(self, dy, cache, record=None, need_dx=True):
        grads, d = {}, dy
        for i in reversed(range(len(self.body))):
            d, own = self.body[i].backward(d, cache.body[i], record, need_dx or i > 0)
            grads.update(own)
        side = dy
        if self.shortcut:
            side, own = self.shortcut.backward(dy, cache.shortcut, record, need_dx)
            grads.update(own)
        return (d + side if need_dx else None), grads

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

    def backward(self, dy, cache, record=None, need_dx=True):
        return conv._avg_pool_backward(dy, cache), {}


class SumPool(AvgPool):
    """2x2 sum pooling: four times the mean, which is exact in binary floating point."""

    def forward(self, x, mode):
        y, cache = super().forward(x, mode)
        return y.dtype.type(4) * y, cache

    def backward(self, dy, cache, record=None, need_dx=True):
        dx, grads = super().backward(dy, cache, record, need_dx)
        return dx.dtype.type(4) * dx, grads


class GlobalAvgPool(_Plain):
    """Mean over height and width."""

    def output_shape(self, shape):
        if len(shape) != 3:
            raise ValueError(f"global pool: expected an input (H, W, C), received {shape}; put it before Flatten")
        return (shape[2],)

    def forward(self, x, mode):
        return conv._global_avg_pool_forward(x)

    def backward(self, dy, cache, record=None, need_dx=True):
        return conv._global_avg_pool_backward(dy, cache), {}


class Flatten(_Plain):
    """(T, N, H, W, C) to (T, N, H W C), channels fastest."""

    def output_shape(self, shape):
        return (int(np.prod(shape)),)

    def forward(self, x, mode):
        return np.ascontiguousarray(x).reshape(*x.shape[:2], -1), conv.PoolCache(x.shape, x.dtype)

    def backward(self, dy, cache, record=None, need_dx=True):
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

    def backward(self, dy, cache, record=None, need_dx=True):
        dx, grads = super().backward(dy, cache, need_dx)
        return dx, {f"{self.name}.{key}": value for key, value in grads.items()}

    def rewire(self, x, cache):
        return None, cache._replace(x=x)
