"""What the tests of the oracle's problems, mutants and search share: one network with every kind of layer, and its input."""

import numpy as np

from agl_ref import (
    LIF,
    MPD_AGL,
    PLIF,
    AvgPool,
    Conv2d,
    Flatten,
    GlobalAvgPool,
    Linear,
    Network,
    Readout,
    Residual,
    SpikingBlock,
    TdBN,
)
from agl_ref.oracle.problems import Problem

LABELS = np.array([0, 2, 3])


def block(name, synapse, dtype, plif=True, w=-0.3, decay=0.6):
    channels = synapse.params["weight"].shape[-1]
    return SpikingBlock(name, synapse, TdBN(channels, dtype=dtype), PLIF(w, dtype=dtype) if plif else LIF(decay))


def every_layer(conventions=MPD_AGL, surrogate="rectangular", dtype=np.float64, bias=False):
    """A network with conv at both strides, pools, both residual blocks, a block without norm, flatten or global pool."""
    layers = [
        block("c1", Conv2d(2, 5, dtype=dtype, seed=1, bias=bias), dtype),
        AvgPool(),
        Residual(
            "r1",
            [
                block("a", Conv2d(5, 6, stride=2, dtype=dtype, seed=2), dtype, plif=False),
                block("b", Conv2d(6, 6, dtype=dtype, seed=3), dtype),
            ],
            block("short", Conv2d(5, 6, kernel=1, stride=2, dtype=dtype, seed=4), dtype),
        ),
        Residual("r2", [SpikingBlock("a", Conv2d(6, 6, dtype=dtype, seed=9), None, LIF(0.75))]),
        GlobalAvgPool(),
        block("h", Linear(6, 7, bias=bias, dtype=dtype, seed=5), dtype),
        Readout("fc", 7, 4, dtype=dtype, seed=6),
    ]
    return _shaken(Network(layers, (9, 9, 2), conventions, surrogate))


def flat_network(conventions=MPD_AGL, surrogate="rectangular", dtype=np.float64):
    """One conv block, flatten, readout."""
    layers = [
        block("c1", Conv2d(2, 4, stride=2, dtype=dtype, seed=1), dtype),
        Flatten(),
        Readout("fc", 100, 4, dtype=dtype),
    ]
    return _shaken(Network(layers, (9, 9, 2), conventions, surrogate))


def _shaken(net):
    """Parameters away from their initial values, so that gammas differ and weights make neurons fire."""
    rng = np.random.default_rng(1)
    for name, value in net.parameters().items():
        if name.endswith(("gamma", "beta", "bias")):
            value += rng.normal(0, 0.3, value.shape)
        elif name.endswith("weight"):
            value *= 1.5
    return net


def drive(dtype=np.float64, T=4):
    return np.random.default_rng(0).normal(0, 1, (T, 3, 9, 9, 2)).astype(dtype)


def problem(**options):
    return Problem.of_network(every_layer(**options), drive(), LABELS)


def assert_telling(arrays):
    """Every block fires, and not everywhere, and gradients reach its input through a window that is not everything."""
    for name in [name.removesuffix(".s") for name in arrays if name.endswith(".s")]:
        rate = arrays[f"{name}.s"].mean()
        share = np.mean(arrays[f"{name}.du"] != 0)
        assert 0 < rate < 1 and 0 < share < 1, f"{name}: firing rate {rate}, share of gradients {share}"
