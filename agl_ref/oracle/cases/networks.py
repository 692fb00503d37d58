"""Golden cases of whole networks: every block's x, u, s, v, width, ds, du, dx, every parameter's gradient, the loss.

Small enough to read and to store, with every kind of layer the method uses: conv and linear blocks, with tdBN and without,
LIF and PLIF, pools, identity and projected residual sums, both modes of tdBN, other frameworks' conventions.
"""

from dataclasses import asdict

import numpy as np

from agl_ref.conventions import PRESETS
from agl_ref.oracle.descriptions import blocks

from .case import case


def block(name, synapse="conv", stride=1, padding=1, norm=True, neuron="lif", decay=0.25, v_th=0.5):
    """Description of one spiking block, see `agl_ref.oracle.descriptions`."""
    return {
        "kind": "block",
        "name": name,
        "synapse": synapse,
        "stride": stride,
        "padding": padding if synapse == "conv" else 0,
        "norm": {"alpha": 1.0, "eps": 1e-5} if norm else None,
        "neuron": neuron,
        "decay": None if neuron == "plif" else decay,
        "v_th": v_th,
    }


POOL, GLOBAL_POOL, FLATTEN = ({"kind": kind} for kind in ("pool", "global_pool", "flatten"))
READOUT = {"kind": "readout", "name": "fc"}


def parameters(draw, shapes, units, gamma=(1.0, 0.2), leak=-1.0):
    """Realistic parameters by name: Kaiming weights, gammas and betas near 1 and 0."""
    found = {}
    for name, shape in shapes.items():
        found[f"{name}.weight"] = draw.normal(0.0, (2.0 / np.prod(shape[:-1])) ** 0.5, shape)
        unit = units.get(name)
        if unit is None:
            found[f"{name}.bias"] = draw.normal(0.0, 0.1, shape[-1:])
        elif unit["norm"]:
            found[f"{name}.gamma"] = draw.normal(*gamma, shape[-1:])
            found[f"{name}.beta"] = draw.normal(0.1, 0.1, shape[-1:])
        if unit and unit["neuron"] == "plif":
            found[f"{name}.w"] = draw.normal(leak, 0.25, ())
    return found


def realistic(layers, shapes, x_shape, classes, share=None, statistics=False, **more):
    """Inputs of a network; x is normal, or spikes of this share."""
    units = {unit["name"]: unit for unit in blocks(layers)}

    def make(draw):
        x = draw.normal(0.2, 0.8, x_shape) if share is None else draw.spikes(share, x_shape)
        inputs = {"x": x, "labels": draw.integers(0, classes, x_shape[1:2])}
        inputs.update(parameters(draw, shapes, units, **more))
        if statistics:
            for name, shape in shapes.items():
                if name in units:
                    inputs[f"{name}.running_mean"] = draw.normal(0.1, 0.2, shape[-1:])
                    inputs[f"{name}.running_var"] = 0.25 + np.abs(draw.normal(0.5, 0.25, shape[-1:], 20))
        return inputs

    return make


def _exact(layers, shapes, x_shape, classes):
    """Dyadic weights without a norm: currents, potentials and spikes are exact, only the softmax rounds."""

    def make(draw):
        inputs = {"x": draw.dyadic(0, 1, 1 / 4, x_shape), "labels": draw.integers(0, classes, x_shape[1:2])}
        for name, shape in shapes.items():
            inputs[f"{name}.weight"] = draw.dyadic(-0.5, 0.75, 1 / 8, shape) + 1 / 16
            if name == "fc":
                inputs[f"{name}.bias"] = draw.dyadic(-1, 1, 1 / 8, shape[-1:])
        return inputs

    return make


TWO = [block("conv1"), POOL, block("conv2", neuron="plif"), FLATTEN, READOUT]
TWO_SHAPES = {"conv1": (3, 3, 2, 5), "conv2": (3, 3, 5, 7), "fc": (84, 5)}
TWO_X = (4, 2, 8, 7, 2)

SMALL = [block("conv1", stride=2), block("conv2"), FLATTEN, READOUT]
SMALL_SHAPES = {"conv1": (3, 3, 2, 5), "conv2": (3, 3, 5, 6), "fc": (72, 5)}
SMALL_X = (3, 2, 7, 6, 2)

PLIF_SMALL = [block("conv1", stride=2, neuron="plif"), block("conv2", neuron="plif"), FLATTEN, READOUT]

BARE = [block("conv1", norm=False, decay=0.75), POOL, block("conv2", norm=False, decay=0.75), FLATTEN, READOUT]
BARE_SHAPES = {"conv1": (3, 3, 2, 3), "conv2": (3, 3, 3, 4), "fc": (24, 4)}

DENSE = [block("hidden1", "linear", norm=False), block("hidden2", "linear", neuron="plif"), READOUT]
DENSE_SHAPES = {"hidden1": (23, 31), "hidden2": (31, 17), "fc": (17, 3)}

RESIDUAL = [
    block("conv1"),
    {
        "kind": "residual",
        "name": "res1",
        "body": [block("res1.conv1", neuron="plif"), block("res1.conv2", neuron="plif")],
        "shortcut": None,
    },
    {
        "kind": "residual",
        "name": "res2",
        "body": [block("res2.conv1", stride=2), block("res2.conv2", neuron="plif")],
        "shortcut": block("res2.shortcut", stride=2, padding=0),
    },
    GLOBAL_POOL,
    block("hidden", "linear"),
    READOUT,
]
RESIDUAL_SHAPES = {
    "conv1": (3, 3, 3, 6),
    "res1.conv1": (3, 3, 6, 6),
    "res1.conv2": (3, 3, 6, 6),
    "res2.conv1": (3, 3, 6, 9),
    "res2.conv2": (3, 3, 9, 9),
    "res2.shortcut": (1, 1, 6, 9),
    "hidden": (9, 11),
    "fc": (11, 5),
}

VGG = [
    block("conv1"),
    block("conv2", neuron="plif"),
    POOL,
    block("conv3", neuron="plif"),
    block("conv4"),
    POOL,
    FLATTEN,
    READOUT,
]
VGG_SHAPES = {"conv1": (3, 3, 2, 6), "conv2": (3, 3, 6, 6), "conv3": (3, 3, 6, 9), "conv4": (3, 3, 9, 8), "fc": (32, 6)}

DECIDES = ("reset", "reset_gradient", "surrogate_scale", "width", "norm_scale", "norm_variance", "readout")
WITHOUT_T = tuple(field for field in DECIDES if field != "width")  # T = 2 is too short for the geometric rule


def network(id, layers, make, flags=(), tells=(), tier=3, bits=None, loss="ce", training=True, draw=0, **more):
    """A network's case; `more` are its surrogate and its conventions."""
    meta = {"layers": layers, "loss": loss, "training": training, "surrogate": more.pop("surrogate", "rectangular")}
    return case(id, "network", tier, make, meta, flags, tells, bits, draw, **more)


def _small(**more):
    return realistic(SMALL, SMALL_SHAPES, SMALL_X, 5, **more)


def _plif_small(**more):
    return realistic(PLIF_SMALL, SMALL_SHAPES, SMALL_X, 5, **more)


CASES = [
    network(
        "net-conv", TWO, realistic(TWO, TWO_SHAPES, TWO_X, 5), ("odd_sizes", "first_step_width"), (*DECIDES, "plif")
    ),
    network(
        "net-conv-exact",
        BARE,
        _exact(BARE, BARE_SHAPES, (3, 2, 4, 6, 2), 4),
        ("on_threshold", "on_window_edge"),
        ("reset", "reset_gradient", "readout"),
        2,
        24,
    ),
    network(
        "net-residual",
        RESIDUAL,
        realistic(RESIDUAL, RESIDUAL_SHAPES, (3, 2, 6, 6, 3), 5),
        ("first_step_width",),
        DECIDES,
    ),
    network(
        "net-vgg", VGG, realistic(VGG, VGG_SHAPES, (2, 2, 8, 8, 2), 6, share=0.4), ("first_step_width",), WITHOUT_T
    ),
    network(
        "net-linear",
        DENSE,
        realistic(DENSE, DENSE_SHAPES, (5, 3, 23), 3),
        ("odd_sizes", "first_step_width"),
        ("reset", "reset_gradient", "width"),
    ),
    network("net-evaluation", SMALL, _small(statistics=True), ("first_step_width",), ("norm_scale",), training=False),
    network(
        "net-soft-detached",
        SMALL,
        _small(),
        ("first_step_width",),
        ("reset", "reset_gradient"),
        spike_test=">",
        reset="soft",
        reset_gradient="detached",
    ),
    network("net-no-reset", SMALL, _small(), ("first_step_width", "no_reset"), ("reset",), reset="none", draw=1),
    network(
        "net-spikingjelly",
        PLIF_SMALL,
        _plif_small(gamma=(2.5, 0.25)),
        (),
        ("input_scale", "plif"),
        **asdict(PRESETS["spikingjelly"]),
    ),
    network(
        "net-triangular",
        PLIF_SMALL,
        _plif_small(),
        (),
        ("width_gradient",),
        surrogate="triangular",
        width_gradient="flows",
    ),
    network(
        "net-sum",
        SMALL,
        _small(),
        (),
        ("readout", "norm_variance", "norm_scale"),
        readout="sum",
        norm_variance="unbiased",
        norm_scale="1",
        width="fixed",
    ),
    network("net-tet", SMALL, _small(), ("first_step_width",), ("reset",), loss="tet"),
    network("net-gamma-negative", SMALL, _small(gamma=(-1.0, 0.1)), ("gamma_negative",), ("readout",)),
    network(
        "net-one-timestep",
        SMALL,
        realistic(SMALL, SMALL_SHAPES, (1, 1, 7, 6, 2), 5),
        ("one_timestep", "one_sample"),
        ("norm_scale",),
    ),
]
