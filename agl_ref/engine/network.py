"""Networks: a list of layers whose forward leaves a Trace, and whose backward is the list reversed.

    T timesteps, N samples, H, W, C height, width, channels, K classes
    x (T, N, H, W, C) or (T, N, F)    logits (T, N, K)

Nothing is remembered between calls: all caches of a pass are its `Trace`, which can be inspected, edited with
`Trace.replace`, and handed to `Network.backward`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

from . import loss as losses
from . import memory
from .blocks import Layer, Readout
from .caches import Mode, block_caches, with_another
from .fast.recompute import released, whole
from .ops import check_width
from .parallel import one_blas_thread
from .surrogate import code_of


@dataclass(frozen=True)
class Trace:
    """Everything that one forward pass computed: the input, one cache per layer, the logits (T, N, K).

    `trace["conv1"]` is that block's cache: `.u .s .v` (T, N, ...) and `.width` (T,). Behind a norm u and s are computed
    when they are first asked for, and kept then: the bits of the pass, in less memory for who does not look. Weights are
    not copied: a backward after an optimiser step would read the new ones, so run it before. The trace of
    `loss_and_grads(keep_trace=False)` holds x, the logits, the norms' statistics and the widths, and u of blocks without
    a norm.
    """

    net: "Network"
    x: np.ndarray
    caches: list
    logits: np.ndarray
    mode: Mode

    def __post_init__(self):
        object.__setattr__(self, "caches", list(self.caches))

    def names(self):
        """Names of the spiking blocks in the order of computation."""
        return [name for name, _ in self.net.blocks()]

    def as_kept(self, name):
        """The block's cache as the pass left it: without u and s where they can be computed again."""
        caches = dict(zip(self.names(), block_caches(self.caches), strict=True))
        if not isinstance(name, str) or name not in caches:
            raise KeyError(f"name: expected a spiking block among {', '.join(caches)}, received {name!r}; choose one")
        return caches[name]

    def __getitem__(self, name):
        kept = self.as_kept(name)
        cache = whole(kept)
        if cache is not kept:
            self.caches[:] = [with_another(each, kept, cache) for each in self.caches]
        return cache

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
                validate.float_array(key, new, dtype=old.dtype)
                validate.same_shape(key, new, old.shape, f"{name!r} in the trace")
        if width is not None:
            width = check_width("width", width, len(cache.u), cache.u.dtype)
        forced = cache.neuron._replace(u=cache.u if u is None else u, s=cache.s if s is None else s)
        changed = cache._replace(neuron=forced, width=cache.width if width is None else width)
        self.items()  # all spikes: what reads them is put together from them
        x, caches = self.x, [with_another(each, cache, changed) for each in self.caches]
        for k, layer in enumerate(self.net.layers):
            x, caches[k] = layer.rewire(x, caches[k])
        return replace(self, caches=caches)


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
    layers : list of SpikingBlock, Residual, AvgPool, SumPool, MaxPool, GlobalAvgPool, Flatten, Readout
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
        validate.sequence("layers", layers, kind=Layer)
        if not layers or not isinstance(layers[-1], Readout):
            raise ValueError(
                "layers: expected a list whose last layer is a Readout, received none; append Readout(...)"
            )
        validate.conventions(conventions)
        code_of(surrogate)
        sizes = validate.sequence("input_shape", input_shape)
        self.layers, self.input_shape = list(layers), tuple(validate.integer("input_shape", n) for n in sizes)
        self.conventions, self.surrogate = conventions, surrogate
        for _, block in self.blocks():
            validate.decay(block.neuron.decay(conventions), conventions, block.synapse.params["weight"].dtype)
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

    def __repr__(self):
        names = ", ".join([name for name, _ in self.blocks()] + [self.layers[-1].name])
        count = sum(p.size for p in self.parameters().values())
        return f"<Network {names}: input {self.input_shape}, {count:,} parameters in {self.dtype}>"

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
        validate.instance("trace", trace, Trace, "pass that of a training forward")
        for name, block in self.blocks():
            if block.norm is not None:
                block.norm.update(trace.as_kept(name).norm)

    def check_input(self, x):
        """Refuse `x` unless it is an input of this network."""
        validate.float_array("x", x, min_ndim=1, dtype=self.dtype)
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
            s = S(u - V_th) instead of the step, so that finite differences make sense.
        widths : {block name: ndarray (T,)}, optional
            kappa_t instead of the rule's, for those blocks. With the rule "empirical" a relaxed pass needs all.

        Returns
        -------
        Trace

        Raises
        ------
        ValueError, TypeError
            For a wrong shape or dtype, or input that is not finite.
        """
        self.check_input(x)
        validate.boolean("training", training)
        validate.boolean("relaxed", relaxed)
        if widths is not None:
            validate.instance("widths", widths, Mapping, "pass {block name: kappa}")
            unknown = sorted(map(str, set(widths) - {name for name, _ in self.blocks()}))
            if unknown:
                raise ValueError(f"widths: expected names of spiking blocks, received {unknown}; see trace.names()")
            widths = {name: check_width(f"widths[{name!r}]", w, len(x), self.dtype) for name, w in widths.items()}
        mode = Mode(training, self.conventions, self.surrogate, relaxed, widths)
        logits, caches = self._forward(x, mode)
        return Trace(self, x, caches, logits, mode)

    def predict(self, x, observe=None):
        """The logits (T, N, K) with the running statistics, as of `forward(x, training=False)`; no trace is kept.

        Parameters
        ----------
        x : ndarray (T, N, *input_shape), the network's dtype
        observe : callable, optional
            Called after each spiking block with (block, its BlockCache): a look at the whole trace without holding it at
            once.

        Raises as `forward`.
        """
        self.check_input(x)
        validate.instance("observe", observe, (Callable, type(None)), "pass a function or None")
        return self._forward(x, Mode(False, self.conventions, self.surrogate, keep="nothing", observe=observe))[0]

    def _forward(self, x, mode):
        memory.show_a_large_array()
        y, caches = x, []
        with one_blas_thread():  # once for all layers: each change of the number takes some 15 microseconds
            for layer in self.layers:
                y, cache = layer.forward(y, mode)
                if mode.keep != "nothing":
                    caches.append(cache)
        return y, caches

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
        validate.instance("trace", trace, Trace, "run forward first")
        validate.instance("record", record, (dict, type(None)), "pass one to be filled, or None")
        validate.boolean("input_gradient", input_gradient)
        if trace.net is not self:
            raise ValueError(
                "trace: expected one of this network's forward, received another network's; run forward here"
            )
        if trace.mode.keep != "trace":
            raise ValueError("trace: expected one that was kept, received one of keep_trace=False; run forward")
        validate.float_array("dlogits", dlogits, min_ndim=3, dtype=self.dtype, finite=False)
        validate.same_shape("dlogits", dlogits, trace.logits.shape, "the logits")
        return self._backward(list(trace.caches), dlogits, record, input_gradient)

    def _backward(self, caches, dlogits, record=None, input_gradient=True, observe=None):
        """`backward` without validation; the list of caches is emptied, so that each can be freed when it was used."""

        def note(block, cache, ds, dx):
            if record is not None:
                record[f"{block.name}.ds"], record[f"{block.name}.dx"] = ds, dx
            if observe is not None:
                observe(block, cache, ds, dx)

        watcher = note if record is not None or observe is not None else None
        input_gradient = input_gradient and record is not None
        grads, d = {}, [dlogits]  # in a list, so that it is handed over like the cache
        with one_blas_thread():
            for i in reversed(range(len(self.layers))):
                dx, own = self.layers[i].backward(d.pop(), caches.pop(), watcher, i > 0 or input_gradient)
                d.append(dx)
                del dx
                grads.update(own)
        if input_gradient:
            record["x"] = d.pop()
        return {name: grads[name] for name in self.parameters()}

    def loss_and_grads(self, x, labels, loss="ce", record=None, input_gradient=True, keep_trace=True, observe=None):
        """Forward in training mode, loss, backward.

        Parameters
        ----------
        x : ndarray (T, N, *input_shape)
        labels : integer array (N,)
        loss : {"ce", "tet", "mse"} or Loss
            Cross-entropy of the reduced logits, TET with its default mix, the squared error, or one with options.
        record, input_gradient
            As for `backward`.
        keep_trace : bool
            False drops what a layer cached once the way back has used it: less memory, the same bits. What is left of the
            trace is enough for `update_running_statistics`.
        observe : callable, optional
            Called on the way back for each spiking block, with (block, its BlockCache, ds, dx): a look at the whole
            trace without holding it at once.

        Returns
        -------
        Result(loss, logits, grads, trace, dlogits)
        """
        loss = losses.named(loss)
        loss.require_classes(self.num_classes)
        validate.instance("record", record, (dict, type(None)), "pass one to be filled, or None")
        for name, value in (("input_gradient", input_gradient), ("keep_trace", keep_trace)):
            validate.boolean(name, value)
        self.check_input(x)
        validate.instance("observe", observe, (Callable, type(None)), "pass a function or None")
        mode = Mode(True, self.conventions, self.surrogate, keep="trace" if keep_trace else "backward")
        logits, caches = self._forward(x, mode)
        value, dlogits = losses.of_network(logits, labels, loss, self.conventions)
        trace = Trace(self, x, caches if keep_trace else map(released, caches), logits, mode)
        grads = self._backward(caches, dlogits, record, input_gradient, observe)
        return Result(value, logits, grads, trace, dlogits)
