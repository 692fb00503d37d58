"""Golden cases of whole networks: every block's x, u, s, v, width, ds, du, dx, every parameter's gradient, the loss.

Small enough to read and to store, with every kind of layer the method uses: conv and linear blocks, with tdBN and without,
LIF and PLIF, pools, identity and projected residual sums, both modes of tdBN, other frameworks' conventions.
"""

from dataclasses import asdict
from typing import NamedTuple

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


class Plan(NamedTuple):
    """A network's layers, the shape of each weight (in the order of drawing), the shape of x, the number of classes."""

    layers: list
    shapes: dict
    x_shape: tuple
    classes: int


def parameters(draw, plan, gamma=(1.0, 0.2), leak=-1.0):
    """Realistic parameters by name: Kaiming weights, gammas and betas near 1 and 0."""
    found, units = {}, {unit["name"]: unit for unit in blocks(plan.layers)}
    for name, shape in plan.shapes.items():
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


def realistic(plan, share=None, statistics=False, **more):
    """Inputs of a network; x is normal, or spikes of this share."""

    def make(draw):
        x = draw.normal(0.2, 0.8, plan.x_shape) if share is None else draw.spikes(share, plan.x_shape)
        inputs = {"x": x, "labels": draw.integers(0, plan.classes, plan.x_shape[1:2])}
        inputs.update(parameters(draw, plan, **more))
        for unit in blocks(plan.layers) if statistics else ():
            name = unit["name"]
            channels = plan.shapes[name][-1:]
            inputs[f"{name}.running_mean"] = draw.normal(0.1, 0.2, channels)
            inputs[f"{name}.running_var"] = 0.25 + np.abs(draw.normal(0.5, 0.25, channels, 20))
        return inputs

    return make


def exact(plan):
    """Dyadic weights without a norm: currents, potentials and spikes are exact, only the softmax rounds."""

    def make(draw):
        x = draw.dyadic(0, 1, 1 / 4, plan.x_shape)
        inputs = {"x": x, "labels": draw.integers(0, plan.classes, plan.x_shape[1:2])}
        for name, shape in plan.shapes.items():
            inputs[f"{name}.weight"] = draw.dyadic(-0.5, 0.75, 1 / 8, shape) + 1 / 16
            if name == "fc":
                inputs[f"{name}.bias"] = draw.dyadic(-1, 1, 1 / 8, shape[-1:])
        return inputs

    return make


def residual(name, body, shortcut=None):
    """Description of a residual block."""
    return {"kind": "residual", "name": name, "body": body, "shortcut": shortcut}


TWO = Plan(
    [block("conv1"), POOL, block("conv2", neuron="plif"), FLATTEN, READOUT],
    {"conv1": (3, 3, 2, 5), "conv2": (3, 3, 5, 7), "fc": (84, 5)},
    (4, 2, 8, 7, 2),
    5,
)
SMALL = Plan(
    [block("conv1", stride=2), block("conv2"), FLATTEN, READOUT],
    {"conv1": (3, 3, 2, 5), "conv2": (3, 3, 5, 6), "fc": (72, 5)},
    (3, 2, 7, 6, 2),
    5,
)
PLIF_SMALL = SMALL._replace(
    layers=[block("conv1", stride=2, neuron="plif"), block("conv2", neuron="plif"), FLATTEN, READOUT]
)
BARE = Plan(
    [block("conv1", norm=False, decay=0.75), POOL, block("conv2", norm=False, decay=0.75), FLATTEN, READOUT],
    {"conv1": (3, 3, 2, 3), "conv2": (3, 3, 3, 4), "fc": (24, 4)},
    (3, 2, 4, 6, 2),
    4,
)
DENSE = Plan(
    [block("hidden1", "linear", norm=False), block("hidden2", "linear", neuron="plif"), READOUT],
    {"hidden1": (23, 31), "hidden2": (31, 17), "fc": (17, 3)},
    (5, 3, 23),
    3,
)
RESIDUAL = Plan(
    [
        block("conv1"),
        residual("res1", [block("res1.conv1", neuron="plif"), block("res1.conv2", neuron="plif")]),
        residual(
            "res2",
            [block("res2.conv1", stride=2), block("res2.conv2", neuron="plif")],
            block("res2.shortcut", stride=2, padding=0),
        ),
        GLOBAL_POOL,
        block("hidden", "linear"),
        READOUT,
    ],
    {
        "conv1": (3, 3, 3, 6),
        "res1.conv1": (3, 3, 6, 6),
        "res1.conv2": (3, 3, 6, 6),
        "res2.conv1": (3, 3, 6, 9),
        "res2.conv2": (3, 3, 9, 9),
        "res2.shortcut": (1, 1, 6, 9),
        "hidden": (9, 11),
        "fc": (11, 5),
    },
    (3, 2, 6, 6, 3),
    5,
)
PLIF = {"neuron": "plif"}
VGG = Plan(
    [block("conv1"), block("conv2", **PLIF), POOL, block("conv3", **PLIF), block("conv4"), POOL, FLATTEN, READOUT],
    {"conv1": (3, 3, 2, 6), "conv2": (3, 3, 6, 6), "conv3": (3, 3, 6, 9), "conv4": (3, 3, 9, 8), "fc": (32, 6)},
    (2, 2, 8, 8, 2),
    6,
)

DECIDES = ("reset", "reset_gradient", "surrogate_scale", "width", "norm_scale", "norm_variance", "readout")
WITHOUT_T = tuple(field for field in DECIDES if field != "width")  # T = 2 is too short for the geometric rule
FIRST = ("first_step_width",)


def network(
    id,
    plan,
    flags=FIRST,
    decides=(),
    make=None,
    tier=3,
    bits=None,
    loss="ce",
    training=True,
    surrogate="rectangular",
    draw=0,
    **conventions,
):
    """A network's case, with realistic inputs if nothing else makes them."""
    meta = {"layers": plan.layers, "loss": loss, "training": training, "surrogate": surrogate}
    return case(id, "network", tier, make or realistic(plan), meta, flags, decides, bits, draw, **conventions)


EXACT = (("on_threshold", "on_window_edge"), ("reset", "reset_gradient", "readout"), exact(BARE), 2, 24)
SOFT_DETACHED = {"spike_test": ">", "reset": "soft", "reset_gradient": "detached"}
SUM = {"readout": "sum", "norm_variance": "unbiased", "norm_scale": "1", "width": "fixed"}

CASES = [
    network("net-conv", TWO, ("odd_sizes", "first_step_width"), (*DECIDES, "plif")),
    network("net-conv-exact", BARE, *EXACT),
    network("net-residual", RESIDUAL, FIRST, DECIDES),
    network("net-vgg", VGG, FIRST, WITHOUT_T, realistic(VGG, share=0.4)),
    network("net-linear", DENSE, ("odd_sizes", "first_step_width"), ("reset", "reset_gradient", "width")),
    network("net-evaluation", SMALL, FIRST, ("norm_scale",), realistic(SMALL, statistics=True), training=False),
    network("net-soft-detached", SMALL, FIRST, ("reset", "reset_gradient"), **SOFT_DETACHED),
    network("net-no-reset", SMALL, ("first_step_width", "no_reset"), ("reset",), reset="none", draw=1),
    network(
        "net-spikingjelly",
        PLIF_SMALL,
        (),
        ("input_scale", "plif"),
        realistic(PLIF_SMALL, gamma=(2.5, 0.25)),
        **asdict(PRESETS["spikingjelly"]),
    ),
    network("net-triangular", PLIF_SMALL, (), ("width_gradient",), surrogate="triangular", width_gradient="flows"),
    network("net-sum", SMALL, (), ("readout", "norm_variance", "norm_scale"), **SUM),
    network("net-tet", SMALL, FIRST, ("reset",), loss="tet"),
    network("net-gamma-negative", SMALL, ("gamma_negative",), ("readout",), realistic(SMALL, gamma=(-1.0, 0.1))),
    network(
        "net-one-timestep",
        SMALL._replace(x_shape=(1, 1, 7, 6, 2)),
        ("one_timestep", "one_sample"),
        ("norm_scale",),
    ),
]
