"""Golden cases with thresholds other than 1/2, a realistic soft reset, more than 64 timesteps, gammas of full precision."""

import numpy as np

from agl_ref.conventions import Conventions

from .networks import FLATTEN, READOUT, SMALL_SHAPES, SMALL_X, block
from .networks import realistic as network_inputs
from .neuron import ATTACHED, EIGHT, WIDTHS, currents, neurons, realistic
from .registry import Case

LOW, HIGH = 0.75, 1.25  # dyadic thresholds, on both sides of 1
THIRD = 0.30000001192092896  # float32's nearest to 0.3: no number of few bits
FOUR_TENTHS = 0.4000000059604645  # float32's nearest to 0.4


def _around(high):
    """Exact currents up to `high`, with widths as elsewhere."""

    def make(draw):
        shape = (4, 3, 7)
        x = currents(draw, shape, low=-0.5, high=high)
        return {"x": x, "ds": draw.dyadic(-1, 1, 1 / 4, shape), "width": np.array(WIDTHS)}

    return make


def _beyond_64(draw):
    """130 timesteps; everyone fires at least every fourth, so that no value needs many bits."""
    T = 130
    x = currents(draw, (T, 2, 3), low=-0.25, high=1.25)
    x[3::4] = 2.0625
    return {"x": x, "ds": draw.dyadic(-1, 1, 1 / 4, x.shape), "width": np.resize(np.array(WIDTHS), T)}


THRESHOLDS = [
    Case("lif-threshold-hard", "lif", 1, _around(1.5), {"v_th": LOW, "decay": 0.5}, (), tells=ATTACHED, bits=24),
    Case(
        "lif-threshold-soft",
        "lif",
        1,
        _around(2.25),
        {"v_th": HIGH, "decay": 0.5},
        (),
        Conventions(reset="soft"),
        ATTACHED,
        24,
    ),
    Case(
        "plif-threshold",
        "plif",
        1,
        neurons((4, 3, 7), w=0.0),
        {"v_th": LOW},
        (),
        tells=("reset", "reset_gradient", "plif"),
        bits=24,
    ),
    Case(
        "lif-threshold-adaptive",
        "lif",
        2,
        neurons((3, 6, 8), width=None, gamma=EIGHT),
        {"v_th": LOW, "decay": 0.75},
        ("first_step_width",),
        tells=("width", "surrogate_scale", "norm_scale"),
        bits=24,
    ),
    Case(
        "lif-threshold-realistic",
        "lif",
        3,
        realistic((5, 4, 45), (0.90625, 1.21875, 0.65625)),
        {"v_th": THIRD, "decay": 0.2},
        ("odd_sizes",),
        tells=("reset", "reset_gradient", "width", "surrogate_scale", "norm_scale"),
        draw=5,
    ),
    Case(
        "width-threshold",
        "width",
        1,
        lambda draw: {"gamma": np.array(EIGHT)},
        {"v_th": HIGH, "decay": 0.75, "T": 4},
        ("first_step_width",),
        tells=("width", "norm_scale"),
        bits=12,
    ),
]

BEYOND = [
    Case(
        "lif-soft-realistic",
        "lif",
        3,
        realistic((6, 3, 45), (0.90625, 1.21875, 0.65625), mean=0.3),
        {"v_th": FOUR_TENTHS, "decay": 0.8},
        ("odd_sizes",),
        Conventions(reset="soft"),
        ATTACHED,
    ),
    Case(
        "lif-beyond-64",
        "lif",
        1,
        _beyond_64,
        {"v_th": 0.5, "decay": 0.5},
        ("long_time",),
        Conventions(reset_gradient="detached"),
        bits=11,
    ),
    Case(
        "width-fine",
        "width",
        3,
        lambda draw: {"gamma": draw.normal(1.1, 0.3, (75,))},
        {"v_th": 0.5, "decay": 0.2, "T": 3},
        ("first_step_width", "odd_sizes"),
    ),
]

UNEQUAL = [block("conv1", stride=2, v_th=THIRD), block("conv2", v_th=LOW), FLATTEN, READOUT]

NETWORKS = [
    Case(
        "net-thresholds",
        "network",
        3,
        network_inputs(UNEQUAL, SMALL_SHAPES, SMALL_X, 5),
        {"layers": UNEQUAL, "loss": "ce", "training": True, "surrogate": "rectangular"},
        ("first_step_width",),
        tells=("reset", "reset_gradient", "norm_scale"),
    ),
]

CASES = [*THRESHOLDS, *BEYOND, *NETWORKS]
