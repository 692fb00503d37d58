"""SGD with momentum, Adam, the cosine schedule, and the two initialisations. Updates are in place.

The update rules are PyTorch's, so that a training run can be compared step by step.
"""

import math
from collections.abc import Mapping

import numpy as np

from agl_ref import validate

from .parallel import grain_of, pieces, run
from .update import PIECE, ROW, adam_kernel, sgd_kernel


class _Optimiser:
    """Parameters by name, hyperparameters, and one state array per parameter and slot."""

    slots, kernel = (), None

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
        self.steps = 0
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
        flat = {name: self._flat(name, p, grads[name]) for name, p in self.params.items()}
        self.steps += 1
        try:
            with np.errstate(all="ignore"):
                infinite = [name for name, arrays in flat.items() if not self._update(arrays, store=False)]
        except BaseException:
            self.steps -= 1
            raise
        if infinite:
            self.steps -= 1
            for name in infinite:
                validate.float_array(f"grads[{name!r}]", grads[name], min_ndim=0)
            raise FloatingPointError(
                f"the optimiser's step would make parameter {infinite[0]!r}, or its state, infinite; lower the learning rate"
            )
        for name, arrays in flat.items():  # computed again: to keep all of it would take a network's memory
            self._update(arrays, store=True)
            for array, values in zip(self._own(name), arrays, strict=False):
                if not array.flags.c_contiguous:
                    array[...] = values.reshape(array.shape)

    def _own(self, name):
        """A parameter and its state."""
        return [self.params[name], *(self.state[f"{slot}.{name}"] for slot in self.slots)]

    def _flat(self, name, p, g):
        """A parameter, its state and its gradient, checked, each as (n,): views where that is possible."""
        validate.float_array(f"grads[{name!r}]", g, min_ndim=0, finite=False)
        if g.shape != p.shape or g.dtype != p.dtype:
            raise ValueError(
                f"grads[{name!r}]: expected {p.dtype} of shape {p.shape}, received {g.dtype} of shape {g.shape}; "
                "pass what net.backward returned"
            )
        own = self._own(name)
        for slot, state in zip(self.slots, own[1:], strict=True):
            if state.shape != p.shape or state.dtype != p.dtype:
                raise ValueError(
                    f"state['{slot}.{name}']: expected {p.dtype} of shape {p.shape}, received {state.dtype} of shape "
                    f"{state.shape}; copy your values into the array that was there"
                )
        if not all(array.flags.writeable for array in own):
            raise ValueError(f"params[{name!r}]: expected arrays to write to, received a read-only one; copy it")
        g = g.copy() if np.may_share_memory(p, g) else g
        return [array.reshape(-1) for array in (*own, g)]

    def _update(self, arrays, store):
        """Make the step of one parameter and its state with `store`; without, whether all would be finite."""
        n, dtype = arrays[0].size, arrays[0].dtype
        excess = np.zeros((pieces(n, PIECE), ROW), dtype)
        run(self.kernel, len(excess), *arrays, *map(dtype.type, self._numbers()), store, excess, grain=grain_of(PIECE))
        return not excess.any()


class SGD(_Optimiser):
    """Stochastic gradient descent: b = momentum b + (g + weight_decay p);  p -= lr b.

    Parameters
    ----------
    params : {name: ndarray}
        `net.parameters()`; changed in place.
    lr, momentum, weight_decay : float >= 0
        momentum below 1.
    """

    slots, kernel = ("momentum",), staticmethod(sgd_kernel)

    def __init__(self, params, lr=0.1, momentum=0.9, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        self.momentum = validate.number("momentum", momentum, low=0, high=1, high_open=True, dtype=self.dtype)

    def _numbers(self):
        return self.lr, self.momentum, self.weight_decay


class Adam(_Optimiser):
    """Adam (Kingma and Ba, 2015): m, v running means of g and g^2, corrected for their start at 0.

        p -= lr (m / (1 - beta1^k)) / (sqrt(v / (1 - beta2^k)) + eps)

    Weight decay is added to the gradient, as in PyTorch's Adam. Parameters as for `SGD`.
    """

    slots, kernel = ("m", "v"), staticmethod(adam_kernel)

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, lr, weight_decay)
        betas, share = (
            validate.sequence("betas", betas, 2),
            {"low": 0, "high": 1, "high_open": True, "dtype": self.dtype},
        )
        self.betas = tuple(validate.number("betas", b, **share) for b in betas)
        self.eps = validate.number("eps", eps, low=0, low_open=True, dtype=self.dtype)

    def _numbers(self):
        beta1, beta2 = self.betas
        lr, root = self.lr / (1 - beta1**self.steps), math.sqrt(1 - beta2**self.steps)
        return lr, beta1, 1 - beta1, beta2, 1 - beta2, root, self.eps, self.weight_decay


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
