"""Networks: a list of layers whose forward leaves a Trace, and whose backward is the list reversed.

    T timesteps, N samples, H, W, C height, width, channels, K classes
    x (T, N, H, W, C) or (T, N, F)    logits (T, N, K)

Nothing is remembered between calls: all caches of a pass are its `Trace`, which can be inspected, edited with
`Trace.replace`, and handed to `Network.backward`.
"""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from . import _check, neuron
from .blocks import Mode, Readout, Residual, SpikingBlock
from .conventions import MPD_AGL
from .loss import of_network as loss_by_name
from .surrogate import code_of


@dataclass(frozen=True)
class Trace:
    """Everything that one forward pass computed: the input, one cache per layer, the logits (T, N, K).

    `trace["conv1"]` is that block's cache: `.u .s .v` (T, N, ...) and `.width` (T,). Weights are not copied: a backward
    after an optimiser step would read the new ones, so run it before.
    """

    net: "Network"
    x: np.ndarray
    caches: tuple
    logits: np.ndarray
    mode: Mode

    def _find(self, name):
        for i, layer in enumerate(self.net.layers):
            if isinstance(layer, SpikingBlock) and layer.name == name:
                return i, None
            if isinstance(layer, Residual):
                for j, block in enumerate(layer.body):
                    if block.name == name:
                        return i, j
                if layer.shortcut and layer.shortcut.name == name:
                    return i, "shortcut"
        raise KeyError(f"no spiking block {name!r}: expected one of {', '.join(self.names())}")

    def names(self):
        """Names of the spiking blocks in the order of computation."""
        return [name for name, _ in self.net.blocks()]

    def __getitem__(self, name):
        i, j = self._find(name)
        if j is None:
            return self.caches[i]
        return self.caches[i].shortcut if j == "shortcut" else self.caches[i].body[j]

    def items(self):
        """(name, BlockCache) of all spiking blocks in the order of computation."""
        return [(name, self[name]) for name in self.names()]

    def replace(self, name, u=None, s=None, width=None):
        """A new trace with this block's membrane potentials, spikes or widths replaced.

        `Network.backward` then gives the gradients that follow from the new values: replaced spikes also become the
        input of whatever reads them, through pools and residual sums; no neuron and no norm is computed again.

        Raises KeyError for an unknown block; ValueError or TypeError for another shape or dtype.
        """
        cache = self[name]
        for key, new, old in (("u", u, cache.u), ("s", s, cache.s)):
            if new is not None:
                _check.float_array(key, new, dtype=old.dtype)
                _check.same_shape(key, new, old.shape, f"{name!r} in the trace")
        if width is not None:
            width = neuron._check_width("width", width, len(cache.u), cache.u.dtype)
        forced = cache.neuron._replace(u=cache.u if u is None else u, s=cache.s if s is None else s)
        cache = cache._replace(neuron=forced, width=cache.width if width is None else width)
        i, j = self._find(name)
        caches = list(self.caches)
        if j is None:
            caches[i] = cache
        elif j == "shortcut":
            caches[i] = caches[i]._replace(shortcut=cache)
        else:
            body = caches[i].body
            caches[i] = caches[i]._replace(body=(*body[:j], cache, *body[j + 1 :]))
        x = self.x
        for k, layer in enumerate(self.net.layers):
            x, caches[k] = layer.rewire(x, caches[k])
        return replace(self, caches=tuple(caches))


class Result(NamedTuple):
    """What `Network.loss_and_grads` returns."""

    loss: float
    logits: np.ndarray
    grads: dict
    trace: Trace
    dlogits: np.ndarray


class Network:
    """A list of layers whose last is a Readout.

    Parameters
    ----------
    layers : list of SpikingBlock, Residual, AvgPool, GlobalAvgPool, Flatten, Readout
    input_shape : tuple
        (H, W, C) or (F,) of one sample at one timestep.
    conventions : Conventions
    surrogate : str
        Member of the surrogate family for all neurons.

    Raises
    ------
    ValueError, TypeError
        If shapes do not fit together, names are not unique, dtypes are mixed, or the last layer is no Readout.
    """

    def __init__(self, layers, input_shape, conventions=MPD_AGL, surrogate="rectangular"):
        if not layers or not isinstance(layers[-1], Readout):
            raise ValueError(
                "layers: expected a list whose last layer is a Readout, received none; append Readout(...)"
            )
        _check.conventions(conventions)
        code_of(surrogate)
        self.layers, self.input_shape = list(layers), tuple(input_shape)
        self.conventions, self.surrogate = conventions, surrogate
        shape = self.input_shape
        for layer in self.layers:
            shape = layer.output_shape(shape)
        self.num_classes = shape[0]
        names = [name for name, _ in self.blocks()] + [self.layers[-1].name]
        if len(set(names)) != len(names):
            raise ValueError(f"layers: expected unique names, received {names}; rename one")
        dtypes = {p.dtype for p in self.parameters().values()}
        if len(dtypes) != 1:
            raise TypeError(
                f"layers: expected one dtype, received {sorted(map(str, dtypes))}; build all with one dtype"
            )
        self.dtype = dtypes.pop()

    def blocks(self):
        """(name, SpikingBlock) in the order of computation."""
        for layer in self.layers:
            yield from layer.blocks()

    def parameters(self):
        """{parameter name: array}; the arrays are the network's own, an optimiser changes them in place."""
        return {key: value for layer in self.layers for key, value in layer.parameters().items()}

    def running_statistics(self):
        """{name: array} of tdBN's running mean and variance, the network's own arrays."""
        return {
            f"{name}.{key}": value
            for name, block in self.blocks()
            if block.norm is not None
            for key, value in block.norm.statistics.items()
        }

    def update_running_statistics(self, trace):
        """Mix the statistics of a training pass into the running ones, in place. The trainer calls this."""
        for name, block in self.blocks():
            if block.norm is not None:
                block.norm.update(trace[name].norm)

    def _check_input(self, x):
        _check.float_array("x", x, min_ndim=1, dtype=self.dtype)
        expected = ("T", "N", *self.input_shape)
        if x.ndim != len(expected) or x.shape[2:] != self.input_shape:
            raise ValueError(
                f"x: expected shape ({', '.join(map(str, expected))}), received {x.shape}; arrays are time-major and "
                "channels-last, agl_ref.interop converts other layouts"
            )

    def forward(self, x, training=True, relaxed=False, widths=None):
        """Run the network over T timesteps. Changes nothing in the network.

        Parameters
        ----------
        x : ndarray (T, N, *input_shape), the network's dtype
        training : bool
            Batch statistics in tdBN, or the running ones.
        relaxed : bool
            s = S(u - V_th) in place of the step, so that finite differences make sense.
        widths : {block name: ndarray (T,)}, optional
            kappa_t in place of the rule's, for those blocks. With the rule "empirical" a relaxed pass needs all.

        Returns
        -------
        Trace

        Raises
        ------
        ValueError, TypeError
            For a wrong shape or dtype, or input that is not finite.
        """
        self._check_input(x)
        if widths is not None:
            unknown = sorted(set(widths) - {name for name, _ in self.blocks()})
            if unknown:
                raise ValueError(f"widths: expected names of spiking blocks, received {unknown}; see trace.names()")
            widths = {
                name: neuron._check_width(f"widths[{name!r}]", w, len(x), self.dtype) for name, w in widths.items()
            }
        mode = Mode(training, self.conventions, self.surrogate, relaxed, widths)
        y, caches = x, []
        for layer in self.layers:
            y, cache = layer.forward(y, mode)
            caches.append(cache)
        return Trace(self, x, tuple(caches), y, mode)

    def backward(self, trace, dlogits, record=None, input_gradient=True):
        """Gradients of all parameters, from what the trace holds.

        Parameters
        ----------
        trace : Trace
            Of this network; its values may have been replaced.
        dlogits : ndarray (T, N, K)
            Gradient of the loss with respect to the logits.
        record : dict, optional
            Collects, per block, "name.ds" and "name.dx" (T, N, ...): the gradients of its spikes and of the neuron's
            input current; and "x", the gradient of the network's input.
        input_gradient : bool
            False leaves "x" out of the record, and the work for it.

        Returns
        -------
        {parameter name: gradient}
        """
        if not isinstance(trace, Trace):
            raise TypeError(
                f"trace: expected the Trace of a forward, received {type(trace).__name__}; run forward first"
            )
        if trace.net is not self:
            raise ValueError(
                "trace: expected one of this network's forward, received another network's; run forward here"
            )
        _check.float_array("dlogits", dlogits, min_ndim=3, dtype=self.dtype, finite=False)
        _check.same_shape("dlogits", dlogits, trace.logits.shape, "the logits")
        grads, d = {}, dlogits
        for i in reversed(range(len(self.layers))):
            need_dx = i > 0 or (record is not None and input_gradient)
            d, own = self.layers[i].backward(d, trace.caches[i], record, need_dx)
            grads.update(own)
        if record is not None and input_gradient:
            record["x"] = d
        return {name: grads[name] for name in self.parameters()}

    def loss_and_grads(self, x, labels, loss="ce", record=None, input_gradient=True):
        """Forward in training mode, loss, backward.

        Parameters
        ----------
        x : ndarray (T, N, *input_shape)
        labels : integer array (N,)
        loss : {"ce", "tet"}
            Cross-entropy of the reduced logits, or TET with its default mix.
        record, input_gradient
            As for `backward`.

        Returns
        -------
        Result(loss, logits, grads, trace, dlogits)
        """
        _check.one_of("loss", loss, ("ce", "tet"))
        trace = self.forward(x, training=True)
        value, cache, backward = loss_by_name(trace.logits, labels, loss, self.conventions)
        dlogits = backward(cache)
        return Result(value, trace.logits, self.backward(trace, dlogits, record, input_gradient), trace, dlogits)
