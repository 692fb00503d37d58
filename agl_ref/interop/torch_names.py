"""Which PyTorch entry belongs to which array of a network: names, axis order, order of features after a flatten.

PyTorch flattens (C, H, W), agl_ref (H, W, C): the linear layer behind a Flatten reads its inputs in another order.
Official names: https://github.com/jqjiang1999/MPD-AGL, models/VGGSNN.py, models/ResNet19.py and models/layers.py.
"""

from typing import NamedTuple

import numpy as np

from agl_ref.engine.blocks import AvgPool, Flatten, GlobalAvgPool, Readout, Residual, SpikingBlock
from agl_ref.engine.parts import Conv2d

from .layouts import weight_from_torch, weight_to_torch

VGG_LAYERS = "BBPBBPBBPBBPFR"  # B conv block, P pool, F flatten, R readout
RESNET_LAYERS = "BSSSSSSSSGLR"  # S residual of two conv blocks, G global pool, L linear block


class Entry(NamedTuple):
    """One array of the network (parameter or running statistic) and how PyTorch names and orders it.

    `rows` and `columns` say where torch's i-th input and output feature is in agl_ref's order; None: at i.
    """

    name: str
    torch_name: str
    array: np.ndarray
    rows: np.ndarray | None
    columns: np.ndarray | None

    @property
    def torch_shape(self):
        return weight_to_torch(self.array).shape

    def to_torch(self, array):
        """`array`, of the shape of the network's own, in torch's layout; always a contiguous copy."""
        if self.rows is not None:
            array = array[self.rows]
        if self.columns is not None:
            array = array[..., self.columns]
        return np.array(weight_to_torch(array), order="C")

    def from_torch(self, array):
        """The inverse of `to_torch`."""
        array = weight_from_torch(array)
        if self.rows is not None:
            array = array[np.argsort(self.rows)]
        if self.columns is not None:
            array = array[..., np.argsort(self.columns)]
        return array


def torch_order(shape):
    """Where each feature of torch's flattened (C, H, W) is in the flattened (H, W, C); shape is (H, W, C).

    >>> torch_order((1, 2, 3)).tolist()  # both pixels of channel 0, then of channels 1 and 2
    [0, 3, 1, 4, 2, 5]
    """
    return np.arange(np.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()


# --- names ----------------------------------------------------------------------------------------------------------


class Names(NamedTuple):
    """Prefixes of one block's entries in PyTorch, and what its norm calls scale and shift."""

    synapse: str
    norm: str
    neuron: str
    scale: str = "weight"
    shift: str = "bias"


def _native(name):
    return Names(name, name, name, "gamma", "beta")


def _official(layer, neuron):
    return Names(f"{layer}.layer", f"{layer}.bn", f"{neuron}.neuron")


def _letter(layer):
    if isinstance(layer, SpikingBlock) and layer.pool is None:
        return "B" if isinstance(layer.synapse, Conv2d) else "L"
    if isinstance(layer, Residual):
        plain = len(layer.body) == 2 and all(isinstance(block.synapse, Conv2d) for _, block in layer.blocks())
        return "S" if plain else "?"
    return {AvgPool: "P", Flatten: "F", GlobalAvgPool: "G", Readout: "R"}.get(type(layer), "?")


def official_names(net):
    """{name of block or readout: Names} if `net` has the layers of vgg_snn or sew_resnet19, else None."""
    layers = "".join(map(_letter, net.layers))
    if layers == VGG_LAYERS:
        return _vgg_names(net)
    return _resnet_names(net) if layers == RESNET_LAYERS else None


def _vgg_names(net):
    """`features` counts layers, neurons and pools; the first block is `encode`."""
    first, *middle, _, readout = net.layers
    names, i = {first.name: _official("encode.0", "encode.1")}, 0
    for layer in middle:
        if isinstance(layer, SpikingBlock):
            names[layer.name] = _official(f"features.{i}", f"features.{i + 1}")
            i += 1
        i += 1
    return {**names, readout.name: _official("classifier.0", "")}


def _resnet_names(net):
    first, *residuals, _, hidden, readout = net.layers
    names = {first.name: _official("encode.0", "encode.1")}
    for i, residual in enumerate(residuals):
        stem = f"ResNetBlocks.{i}.0"
        for j, block in enumerate(residual.body, 1):
            names[block.name] = _official(f"{stem}.conv{j}", f"{stem}.spike{j}")
        if residual.shortcut:
            names[residual.shortcut.name] = _official(f"{stem}.downsample.0", f"{stem}.downsample.1")
    return {**names, hidden.name: _official("fc.0", "fc.1"), readout.name: _official("fc.2", "")}


# --- entries --------------------------------------------------------------------------------------------------------


def entries(net, names=None):
    """All Entries of `net` in the order of its layers; `names` as from `official_names`, None: agl_ref's own."""
    shape, order, out = net.input_shape, None, []
    for layer in net.layers:
        if isinstance(layer, Flatten) and len(shape) == 3:
            order = torch_order(shape)
        elif isinstance(layer, SpikingBlock):
            out += _of_block(layer, names, order)
            order = None
        elif isinstance(layer, Residual):
            order = _of_residual(layer, names, order, out)
        elif isinstance(layer, Readout):
            out += _of_synapse(layer, layer.name, _of(names, layer.name), order)
        shape = layer.output_shape(shape)
    return out


def _of_residual(residual, names, order, out):
    """Appends a residual's entries to `out`; its sum keeps the input's order where the shortcut is the identity."""
    kept = None if residual.shortcut else order
    last = len(residual.body) - 1
    for i, block in enumerate(residual.body):
        out += _of_block(block, names, order if i == 0 else None, kept if i == last else None)
    if residual.shortcut:
        out += _of_block(residual.shortcut, names, order)
    return kept


def _of(names, name):
    return _native(name) if names is None else names[name]


def _of_synapse(synapse, name, names, rows, columns=None):
    for key, array in synapse.params.items():
        yield Entry(f"{name}.{key}", f"{names.synapse}.{key}", array, rows if key == "weight" else None, columns)


def _of_block(block, names, rows, columns=None):
    names = _of(names, block.name)
    yield from _of_synapse(block.synapse, block.name, names, rows, columns)
    if block.norm is not None:
        keys = {"gamma": names.scale, "beta": names.shift}
        for key, array in {**block.norm.params, **block.norm.statistics}.items():
            yield Entry(f"{block.name}.{key}", f"{names.norm}.{keys.get(key, key)}", array, None, columns)
    for key, array in block.neuron.params.items():
        yield Entry(f"{block.name}.{key}", f"{names.neuron}.{key}", array, None, None)
