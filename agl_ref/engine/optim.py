"""SGD with momentum, Adam, the cosine schedule, and the two initialisations. Updates are in place.

The update rules are PyTorch's, so that a training run can be compared step by step.
"""

import math

import numpy as np

from agl_ref import validate


class _Optimiser:
    """Parameters by name, hyperparameters, and one state array per parameter and slot."""

    slots = ()

    def __init__(self, params, lr, weight_decay):
        if not params:
            raise ValueError("params: expected at least one parameter, received none; pass net.parameters()")
        self.params = dict(params)
        self.lr = validate.number("lr", lr, low=0)
        self.weight_decay = validate.number("weight_decay", weight_decay, low=0)
        self.steps = 0
        self.state = {f"{slot}.{name}": np.zeros_like(p) for slot in self.slots for name, p in self.params.items()}

    def step(self, grads):
        """Update every parameter in place. `grads` holds one array per parameter, of its shape and dtype.

        Raises ValueError, before anything is changed, if a gradient is missing, surplus or misshaped.
        """
        missing, surplus = sorted(set(self.params) - set(grads)), sorted(set(grads) - set(self.params))
        if missing or surplus:
            raise ValueError(
                f"grads: expected one gradient per parameter; missing {missing or 'none'}, surplus {surplus or 'none'}; "
                "pass what net.backward returned"
            )
        for name, p in self.params.items():
            g = grads[name]
            if g.shape != p.shape or g.dtype != p.dtype:
                raise ValueError(
                    f"grads[{name!r}]: expected {p.dtype} of shape {p.shape}, received {g.dtype} of shape {g.shape}; "
                    "pass what net.backward returned"
                )
        self.steps += 1
        for name, p in self.params.items():
            dtype = p.dtype.type
            g = grads[name] + dtype(self.weight_decay) * p if self.weight_decay else grads[name]
            self._update(name, p, g, dtype)


class SGD(_Optimiser):
    """Stochastic gradient descent: b = momentum b + (g + weight_decay p);  p -= lr b.

    Parameters
    ----------
    params : {name: ndarray}
        `net.parameters()`; changed in place.
    lr, momentum, weight_decay : float >= 0
        momentum below 1.
    """

    slots = ("momentum",)

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        self.momentum = validate.number("momentum", momentum, low=0, high=1, high_open=True)

    def _update(self, name, p, g, dtype):
        b = self.state[f"momentum.{name}"]
        b *= dtype(self.momentum)
        b += g  # (O1)
        p -= dtype(self.lr) * b  # (O2)


class Adam(_Optimiser):
    """Adam (Kingma and Ba, 2015): m, v running means of g and g^2, corrected for their start at 0.

        p -= lr (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps)

    Weight decay is added to the gradient, as in PyTorch's Adam. Parameters as for `SGD`.
    """

    slots = ("m", "v")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        self.betas = tuple(validate.number("betas", b, low=0, high=1, high_open=True) for b in betas)
        self.eps = validate.number("eps", eps, low=0, low_open=True)

    def _update(self, name, p, g, dtype):
        m, v = self.state[f"m.{name}"], self.state[f"v.{name}"]
        beta1, beta2 = self.betas
        m *= dtype(beta1)
        m += dtype(1 - beta1) * g
        v *= dtype(beta2)
        v += dtype(1 - beta2) * (g * g)
        root = np.sqrt(v) / dtype(math.sqrt(1 - beta2**self.steps)) + dtype(self.eps)
        p -= dtype(self.lr / (1 - beta1**self.steps)) * (m / root)


def cosine(lr, step, total):
    """Learning rate after `step` of `total` steps of cosine annealing from lr to 0.

        lr (1 + cos(pi step / total)) / 2

    Raises ValueError for step outside 0..total.
    """
    lr = validate.number("lr", lr, low=0)
    total = validate.integer("total", total)
    step = validate.integer("step", step, low=0)
    if step > total:
        raise ValueError(f"step: expected 0..{total}, received {step}; raise total")
    return 0.5 * lr * (1 + math.cos(math.pi * step / total))  # (O3)


def kaiming_fan_out(rng, shape, dtype):
    """Conv weight (kh, kw, C_in, C_out), normal with variance 2 / (kh kw C_out) (He et al., ICCV 2015)."""
    kh, kw, _, c_out = shape
    return (rng.standard_normal(shape) * math.sqrt(2.0 / (kh * kw * c_out))).astype(dtype)


def torch_linear(rng, shape, dtype):
    """Linear weight (F_in, F_out) or bias as PyTorch draws them: uniform within 1 / sqrt(F_in) of 0."""
    bound = 1.0 / math.sqrt(shape[0])
    return rng.uniform(-bound, bound, shape).astype(dtype)
