"""SGD with momentum, Adam, the cosine schedule, and the two initialisations. Updates are in place.

The update rules are PyTorch's, so that a training run can be compared step by step.
"""

import math
from collections.abc import Mapping

import numpy as np

from agl_ref import validate

SMALL = 2**18  # numbers in a network whose new parameters are kept until all are known to be finite
PIECE = 2**15  # numbers that are updated at a time: their intermediate results stay in the cache


class _Optimiser:
    """Parameters by name, hyperparameters, and one state array per parameter and slot."""

    slots = ()

    def __init__(self, params, lr, weight_decay):
        validate.instance("params", params, Mapping, "pass net.parameters()")
        for name, p in params.items():
            validate.float_array(f"params[{name!r}]", p, min_ndim=0)
        if not params:
            raise ValueError("params: expected at least one parameter, received none; pass net.parameters()")
        self.params = dict(params)
        self.dtype = min(
            (p.dtype for p in params.values()), key=lambda dtype: dtype.itemsize
        )  # in which numbers are used
        self.lr = validate.number("lr", lr, low=0, dtype=self.dtype)
        self.weight_decay = validate.number("weight_decay", weight_decay, low=0, dtype=self.dtype)
        self.steps, self._size = 0, sum(p.size for p in params.values())
        self.state = {f"{slot}.{name}": np.zeros_like(p) for slot in self.slots for name, p in self.params.items()}

    def step(self, grads):
        """Update every parameter in place. `grads` holds one array per parameter, of its shape and dtype.

        Raises, before anything is changed, ValueError or TypeError if a gradient is missing, surplus, misshaped or not
        finite; FloatingPointError if a parameter would not be finite afterwards.
        """
        validate.instance("grads", grads, Mapping, "pass what net.backward returned")
        missing, surplus = self.params.keys() - grads.keys(), grads.keys() - self.params.keys()
        if missing or surplus:
            raise ValueError(
                f"grads: expected one gradient per parameter, received others: missing {sorted(missing) or 'none'}, surplus "
                f"{sorted(map(str, surplus)) or 'none'}; pass what net.backward returned"
            )
        for name, p in self.params.items():
            g = validate.float_array(f"grads[{name!r}]", grads[name], min_ndim=0)
            if g.shape != p.shape or g.dtype != p.dtype:
                raise ValueError(
                    f"grads[{name!r}]: expected {p.dtype} of shape {p.shape}, received {g.dtype} of shape {g.shape}; "
                    "pass what net.backward returned"
                )
        self.steps += 1
        pieces = self._pieces(grads)
        with np.errstate(all="ignore"):
            if self._size <= SMALL:
                pieces = list(pieces)
            for name, _, new in pieces:
                if not all(np.isfinite(array).all() for array in new):
                    self.steps -= 1
                    raise FloatingPointError(
                        f"the optimiser's step would make parameter {name!r}, or its state, infinite; lower the learning rate"
                    )
        if self._size > SMALL:  # computed a second time: to keep all of it would take a network's memory again
            pieces = self._pieces(grads)
        for _, old, new in pieces:
            for array, values in zip(old, new, strict=True):
                array[...] = values

    def _pieces(self, grads):
        """(name, views of a piece of the parameter and of its state, their values after the step), piece by piece."""
        for name, p in self.params.items():
            arrays = [p, *(self.state[f"{slot}.{name}"] for slot in self.slots), grads[name]]
            if all(array.flags.c_contiguous for array in arrays):
                arrays = [array.reshape(-1) for array in arrays]
            for first in range(0, len(arrays[0]), PIECE):
                *old, g = (array[first : first + PIECE] for array in arrays)
                yield name, old, self._updated(*old, g, p.dtype.type)


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
        self.momentum = validate.number("momentum", momentum, low=0, high=1, high_open=True, dtype=self.dtype)

    def _updated(self, p, b, g, dtype):
        g = g + dtype(self.weight_decay) * p if self.weight_decay else g
        b = b * dtype(self.momentum)
        b += g  # (O1)
        return p - dtype(self.lr) * b, b  # (O2)


class Adam(_Optimiser):
    """Adam (Kingma and Ba, 2015): m, v running means of g and g^2, corrected for their start at 0.

        p -= lr (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps)

    Weight decay is added to the gradient, as in PyTorch's Adam. Parameters as for `SGD`.
    """

    slots = ("m", "v")

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        betas, share = (
            validate.sequence("betas", betas, 2),
            {"low": 0, "high": 1, "high_open": True, "dtype": self.dtype},
        )
        self.betas = tuple(validate.number("betas", b, **share) for b in betas)
        self.eps = validate.number("eps", eps, low=0, low_open=True, dtype=self.dtype)

    def _updated(self, p, m, v, g, dtype):
        g = g + dtype(self.weight_decay) * p if self.weight_decay else g
        beta1, beta2 = self.betas
        m = m * dtype(beta1)
        m += dtype(1 - beta1) * g
        v = v * dtype(beta2)
        v += dtype(1 - beta2) * (g * g)
        root = np.sqrt(v) / dtype(math.sqrt(1 - beta2**self.steps)) + dtype(self.eps)
        return p - dtype(self.lr / (1 - beta1**self.steps)) * (m / root), m, v


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
