"""Ready networks. Each takes its sizes, neuron, conventions, surrogate, dtype and seed as arguments."""

import itertools
import math

import numpy as np

from agl_ref import validate
from agl_ref.conventions import MPD_AGL

from .blocks import AvgPool, Flatten, GlobalAvgPool, MaxPool, Readout, Residual, SpikingBlock
from .network import Network
from .parts import LIF, PLIF, Conv2d, Linear, TdBN

NEURONS = ("lif", "plif")
POOLS = {  # the kind, and whether it stands before the neuron
    "average": (AvgPool, False),
    "max": (MaxPool, False),
    "average first": (AvgPool, True),
    "max first": (MaxPool, True),
}


def _image(size, channels, low=1):
    """(H, W, C) of an image_size, which is a number of pixels for both sides or (H, W)."""
    sides = validate.sequence("image_size", size, 2) if isinstance(size, (list, tuple)) else (size, size)
    height, width = (validate.integer("image_size", side, low=low) for side in sides)
    return height, width, validate.integer("in_channels", channels)


class _Builder:
    """Spiking blocks of one network: each with its own seed, tdBN and neuron."""

    def __init__(self, neuron, decay, v_th, conventions, dtype, seed, weights):
        self.neuron = validate.one_of("neuron", neuron, NEURONS)
        self.decay, self.v_th, self.dtype = decay, v_th, validate.float_dtype(dtype)
        self.conventions = validate.conventions(conventions)
        self.seeds = iter(np.random.SeedSequence(validate.integer("seed", seed, low=0, high=None)).spawn(weights))

    def unit(self):
        """LIF with the given decay, or PLIF whose w starts there."""
        if self.neuron == "lif":
            return LIF(self.decay, self.v_th)
        decay = validate.number("decay", self.decay, low=0, low_open=True, high=1, high_open=True, dtype=self.dtype)
        w = np.log(decay / (1 - decay))
        return PLIF(w if self.conventions.plif == "tau" else -w, self.v_th, self.dtype)

    def conv(self, name, c_in, c_out, kernel=3, stride=1, pool=None):
        synapse = Conv2d(c_in, c_out, kernel, stride, dtype=self.dtype, seed=next(self.seeds))
        return SpikingBlock(name, synapse, TdBN(c_out, dtype=self.dtype), self.unit(), pool)

    def pooled(self, pool, *args, **kwargs):
        """[a convolutional block, a pool behind it], or [a block with the pool inside]."""
        kind, first = POOLS[pool]
        return [self.conv(*args, **kwargs, pool=kind())] if first else [self.conv(*args, **kwargs), kind()]

    def linear(self, name, f_in, f_out):
        synapse = Linear(f_in, f_out, bias=False, dtype=self.dtype, seed=next(self.seeds))
        return SpikingBlock(name, synapse, TdBN(f_out, dtype=self.dtype), self.unit())

    def readout(self, f_in, num_classes, bias=True):
        return Readout("fc", f_in, num_classes, bias, self.dtype, next(self.seeds))


def fc_snn(
    in_channels=1,
    image_size=28,
    num_classes=10,
    channels=(128,),
    neuron="lif",
    decay=0.2,
    v_th=0.5,
    conventions=MPD_AGL,
    surrogate="rectangular",
    dtype=np.float64,
    seed=0,
):
    """A fully connected SNN: the image flattened, spiking blocks (linear, tdBN, neuron), then a linear readout.

    Parameters as for `conv_snn`; `channels` are the neurons of each block.

    Returns
    -------
    Network with blocks "hidden1", "hidden2", ... and the readout "fc"
    """
    if not validate.sequence("channels", channels):
        raise ValueError("channels: expected at least one count, received none; pass e.g. (128,)")
    make = _Builder(neuron, decay, v_th, conventions, dtype, seed, len(channels) + 1)
    image = _image(image_size, in_channels)
    sizes = (math.prod(image), *channels)
    blocks = [make.linear(f"hidden{i}", *pair) for i, pair in enumerate(itertools.pairwise(sizes), 1)]
    return Network([Flatten(), *blocks, make.readout(sizes[-1], num_classes)], image, conventions, surrogate)


def conv_snn(
    in_channels=1,
    image_size=28,
    num_classes=10,
    channels=(16, 32, 64),
    neuron="lif",
    decay=0.2,
    v_th=0.5,
    conventions=MPD_AGL,
    surrogate="rectangular",
    dtype=np.float64,
    seed=0,
    pool="average",
):
    """A small conv SNN: spiking blocks (conv 3x3, tdBN, neuron), the first two at stride 2, from the second on a 2x2
    pool between one and the next as long as the image allows, then flatten and a linear readout.

    Parameters
    ----------
    in_channels, num_classes : int
        Of the data.
    image_size : int or (int, int)
        Pixels of both sides, or height and width.
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
    pool : {"average", "max", "average first", "max first"}
        Of the spikes, behind a block; or "first", between its convolution and its tdBN.

    Returns
    -------
    Network with blocks "conv1", "conv2", ... and the readout "fc"
    """
    if not validate.sequence("channels", channels):
        raise ValueError("channels: expected at least one count, received none; pass e.g. (16, 32)")
    validate.one_of("pool", pool, POOLS)
    make = _Builder(neuron, decay, v_th, conventions, dtype, seed, len(channels) + 1)
    image = shape = _image(image_size, in_channels)
    layers = []
    for i, c_out in enumerate(channels):
        sizes = (f"conv{i + 1}", shape[2], c_out, 3, 2 if i < 2 else 1)
        inner = 0 < i < len(channels) - 1 and min(shape[:2]) > sizes[4]  # the convolution leaves 2x2 values or more
        added = make.pooled(pool, *sizes) if inner else [make.conv(*sizes)]
        for layer in added:
            shape = layer.output_shape(shape)
        layers += added
    layers += [Flatten(), make.readout(math.prod(shape), num_classes)]
    return Network(layers, image, conventions, surrogate)


def vgg_snn(
    in_channels=2,
    image_size=48,
    num_classes=10,
    channels=(64, 128, 256, 512),
    neuron="plif",
    decay=0.2,
    v_th=0.5,
    conventions=MPD_AGL,
    surrogate="rectangular",
    dtype=np.float64,
    seed=0,
    pool="average",
):
    """VGGSNN of the paper: two spiking blocks per stage (a, b | c, c | d, d | d, d channels) and a pool after each stage,
    then a linear readout with bias. 9,268,754 parameters at the defaults.

    Parameters as for `conv_snn`; `channels` are the four channel counts a, b, c, d. The image needs 16 pixels or more.

    Returns
    -------
    Network with blocks "conv1" to "conv8" and the readout "fc"
    """
    a, b, c, d = validate.sequence("channels", channels, 4)
    validate.one_of("pool", pool, POOLS)
    make = _Builder(neuron, decay, v_th, conventions, dtype, seed, 9)
    image = height, width, c_in = _image(image_size, in_channels, low=16)
    layers = []
    for i, c_out in enumerate((a, b, c, c, d, d, d, d)):
        name = f"conv{i + 1}"
        layers += make.pooled(pool, name, c_in, c_out) if i % 2 else [make.conv(name, c_in, c_out)]
        c_in = c_out
    layers += [Flatten(), make.readout(height // 16 * (width // 16) * d, num_classes)]
    return Network(layers, image, conventions, surrogate)


def sew_resnet19(
    in_channels=3,
    num_classes=10,
    channels=(128, 256, 512),
    hidden=256,
    neuron="plif",
    decay=0.2,
    v_th=0.5,
    conventions=MPD_AGL,
    surrogate="rectangular",
    dtype=np.float64,
    seed=0,
    image_size=32,
):
    """SEW-ResNet-19 of the paper: a spiking block, then 3, 3 and 2 residual ADD blocks of two convolutions (the first of
    the second and third stage at stride 2), global average pool, a spiking linear block, a readout without bias.
    12,698,260 parameters at the defaults.

    Parameters as for `conv_snn`; `channels` are the channel counts of the three stages, `hidden` that of the linear block.

    Returns
    -------
    Network with blocks "conv1", "res1.conv1" ... "res8.conv2", "res4.shortcut", "res7.shortcut", "hidden", readout "fc"
    """
    validate.sequence("channels", channels, 3)
    make = _Builder(neuron, decay, v_th, conventions, dtype, seed, 32)
    layers, c_in = [make.conv("conv1", in_channels, channels[0])], channels[0]
    for stage, (c_out, count) in enumerate(zip(channels, (3, 3, 2), strict=True)):
        for i in range(count):
            stride = 2 if stage > 0 and i == 0 else 1
            body = [make.conv("conv1", c_in, c_out, stride=stride), make.conv("conv2", c_out, c_out)]
            changes = stride != 1 or c_in != c_out
            shortcut = make.conv("shortcut", c_in, c_out, kernel=1, stride=stride) if changes else None
            layers.append(Residual(f"res{len(layers)}", body, shortcut))
            c_in = c_out
    layers += [GlobalAvgPool(), make.linear("hidden", c_in, hidden), make.readout(hidden, num_classes, bias=False)]
    return Network(layers, _image(image_size, in_channels), conventions, surrogate)
