"""The three parts of a spiking block: synapses (Conv2d, Linear), tdBN, neurons (LIF, PLIF).

A part holds its parameters and nothing else: what its backward pass needs travels in a cache that `forward` returns.
"""

import numpy as np

from agl_ref import validate

from . import conv, linear, neuron, ops, optim, tdbn


def _generator(seed):
    if not isinstance(seed, np.random.SeedSequence):
        for each in seed if isinstance(seed, (list, tuple)) else (seed,):
            validate.integer("seed", each, low=0, high=None)
    return np.random.default_rng(seed)


class Conv2d:
    """Convolution with weight (k, k, C_in, C_out), Kaiming-normal fan-out; the optional bias starts at 0."""

    def __init__(self, c_in, c_out, kernel=3, stride=1, padding=None, bias=False, dtype=np.float64, seed=0):
        for name, value in (("c_in", c_in), ("c_out", c_out), ("kernel", kernel), ("stride", stride)):
            validate.integer(name, value)
        if kernel % 2 == 0:
            raise ValueError(f"kernel: expected an odd size, received {kernel}; use {kernel + 1}")
        dtype = validate.float_dtype(dtype)
        rng = _generator(seed)
        self.stride = stride
        self.padding = kernel // 2 if padding is None else validate.integer("padding", padding, low=0)
        self.params = {"weight": optim.kaiming_fan_out(rng, (kernel, kernel, c_in, c_out), dtype)}
        if validate.boolean("bias", bias):
            self.params["bias"] = np.zeros(c_out, dtype)

    def output_shape(self, shape):
        kh, kw, c_in, c_out = self.params["weight"].shape
        if len(shape) != 3 or shape[-1] != c_in:
            raise ValueError(f"conv: expected an input of shape (H, W, {c_in}), received {shape}; change c_in")
        Ho, Wo = conv.geometry_of(shape, (kh, kw), self.stride, self.padding)[4:]
        if Ho < 1 or Wo < 1:
            raise ValueError(f"conv: expected an input of at least {kh}x{kw}, received {shape[:2]}; use fewer pools")
        return (Ho, Wo, c_out)

    def forward(self, x):
        return conv.forward(x, self.params["weight"], self.params.get("bias"), self.stride, self.padding)

    def backward(self, dy, cache, need_dx=True):
        return _named(conv.backward(dy, cache, need_dx))


class Linear:
    """Linear map with weight (F_in, F_out) and optional bias, initialised as PyTorch does."""

    def __init__(self, f_in, f_out, bias=True, dtype=np.float64, seed=0):
        validate.integer("f_in", f_in)
        validate.integer("f_out", f_out)
        dtype = validate.float_dtype(dtype)
        rng = _generator(seed)
        self.params = {"weight": optim.torch_linear(rng, (f_in, f_out), dtype)}
        if validate.boolean("bias", bias):
            self.params["bias"] = optim.torch_linear(rng, (f_in, f_out), dtype)[0].copy()

    def output_shape(self, shape):
        f_in, f_out = self.params["weight"].shape
        if shape != (f_in,):
            raise ValueError(
                f"linear: expected an input of shape ({f_in},), received {shape}; add Flatten or change f_in"
            )
        return (f_out,)

    def forward(self, x):
        return linear.forward(x, self.params["weight"], self.params.get("bias"))

    def backward(self, dy, cache, need_dx=True):
        return _named(linear.backward(dy, cache, need_dx))


def _named(grads):
    dx, dweight, dbias = grads
    return dx, {"weight": dweight} if dbias is None else {"weight": dweight, "bias": dbias}


class TdBN:
    """tdBN's gamma, beta (C,) and running statistics; see `agl_ref.tdbn_forward`."""

    def __init__(self, channels, alpha=1.0, eps=1e-5, momentum=0.1, dtype=np.float64):
        channels, dtype = validate.integer("channels", channels), validate.float_dtype(dtype)
        self.alpha = validate.number("alpha", alpha, low=0, low_open=True, dtype=dtype)
        self.eps = validate.number("eps", eps, low=0, low_open=True, dtype=dtype)
        self.momentum = validate.number("momentum", momentum, low=0, high=1, dtype=dtype)
        self.params = {"gamma": np.ones(channels, dtype), "beta": np.zeros(channels, dtype)}
        self.statistics = {"running_mean": np.zeros(channels, dtype), "running_var": np.ones(channels, dtype)}

    def measure(self, x, v_th, mode):
        """The TdBNCache of x, without y."""
        running = None if mode.training else tuple(self.statistics.values())
        gamma, beta = self.params["gamma"], self.params["beta"]
        return tdbn.measure(x, gamma, beta, v_th, self.alpha, self.eps, mode.conventions, running)

    def update(self, cache):
        ops.update_running(*self.statistics.values(), cache, self.momentum)


class LIF:
    """LIF neurons with a given leak factor and threshold; no parameters. A decay of 1 makes them integrate-and-fire (IF)."""

    def __init__(self, decay=0.2, v_th=0.5):
        self._decay = validate.decay(decay)
        self.v_th = validate.number("v_th", v_th, low=0, low_open=True)
        self.params = {}

    def decay(self, conventions):
        return self._decay


class PLIF:
    """LIF whose leak factor is sigmoid(w), w learned; -ln(a - 1) with a = 5 to start with, so tau = 0.2."""

    def __init__(self, w=-1.3862943611198906, v_th=0.5, dtype=np.float64):
        dtype = validate.float_dtype(dtype)
        self.params = {"w": np.array(validate.number("w", w, dtype=dtype), dtype)}
        self.v_th = validate.number("v_th", v_th, low=0, low_open=True)

    def decay(self, conventions):
        return neuron.plif_decay(self.params["w"], conventions)
