"""Ready networks. Each takes its sizes, neuron, conventions, surrogate, dtype and seed as arguments."""

import numpy as np

from . import _check
from .blocks import LIF, PLIF, AvgPool, Conv2d, Flatten, Readout, SpikingBlock, TdBN
from .conventions import MPD_AGL
from .network import Network

NEURONS = ("lif", "plif")


def _neuron(kind, decay, v_th, conventions, dtype):
    """LIF with this decay, or PLIF whose w starts there."""
    if kind == "lif":
        return LIF(decay, v_th)
    decay = _check.number("decay", decay, low=0, low_open=True, high=1, high_open=True)
    w = np.log(decay / (1 - decay))
    return PLIF(w if conventions.plif == "tau" else -w, v_th, dtype)


def conv_snn(
    in_channels=1,
    image_size=28,
    num_classes=10,
    channels=(24, 48, 96),
    neuron="lif",
    decay=0.2,
    v_th=0.5,
    conventions=MPD_AGL,
    surrogate="rectangular",
    dtype=np.float64,
    seed=0,
):
    """A small conv SNN: spiking blocks (conv 3x3, tdBN, neuron), the first at stride 2, a 2x2 average pool after each of
    the following as long as the image allows, then flatten and a linear readout.

    Parameters
    ----------
    in_channels, image_size, num_classes : int
        Of the data; images are square.
    channels : sequence of int
        One spiking block each.
    neuron : {"lif", "plif"}
    decay : float
        The leak factor (PLIF: to start with).
    v_th : float
    conventions, surrogate
        As for `Network`.
    dtype : float32 or float64
    seed : int
        Of the initial weights.

    Returns
    -------
    Network with blocks "conv1", "conv2", ... and the readout "fc"
    """
    _check.one_of("neuron", neuron, NEURONS)
    _check.integer("image_size", image_size)
    dtype = _check.float_dtype(dtype)
    if not channels:
        raise ValueError("channels: expected at least one width, received none; pass e.g. (16, 32)")
    seeds = np.random.SeedSequence(_check.integer("seed", seed, low=0)).spawn(len(channels) + 1)
    layers, size, c_in = [], image_size, in_channels
    for i, c_out in enumerate(channels):
        stride = 2 if i == 0 else 1
        synapse = Conv2d(c_in, c_out, stride=stride, dtype=dtype, seed=seeds[i])
        unit = _neuron(neuron, decay, v_th, conventions, dtype)
        layers.append(SpikingBlock(f"conv{i + 1}", synapse, TdBN(c_out, dtype=dtype), unit))
        size = (size - 1) // stride + 1
        if i > 0 and size >= 2:
            layers.append(AvgPool())
            size //= 2
        c_in = c_out
    layers += [Flatten(), Readout("fc", size * size * c_in, num_classes, dtype=dtype, seed=seeds[-1])]
    return Network(layers, (image_size, image_size, in_channels), conventions, surrogate)
