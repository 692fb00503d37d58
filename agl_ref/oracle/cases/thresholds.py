"""Golden cases with thresholds other than 1/2, a realistic soft reset, more than 64 timesteps, gammas of full precision."""

import numpy as np

from .case import case
from .networks import FLATTEN, READOUT, SMALL, block, network
from .neuron import ATTACHED, EIGHT, WIDE, WIDTHS, currents, neurons, realistic

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


def _lif(id, tier, make, v_th, decay, flags=(), decides=ATTACHED, bits=None, draw=0, **conventions):
    return case(id, "lif", tier, make, {"v_th": v_th, "decay": decay}, flags, decides, bits, draw, **conventions)


BY_WIDTH = ("width", "surrogate_scale", "norm_scale")

THRESHOLDS = [
    _lif("lif-threshold-hard", 1, _around(1.5), LOW, 0.5, bits=24),
    _lif("lif-threshold-soft", 1, _around(2.25), HIGH, 0.5, bits=24, reset="soft"),
    case("plif-threshold", "plif", 1, neurons((4, 3, 7), w=0.0), {"v_th": LOW}, (), (*ATTACHED[:2], "plif"), 24),
    _lif(
        "lif-threshold-adaptive",
        2,
        neurons((3, 6, 8), width=None, gamma=EIGHT),
        LOW,
        0.75,
        ("first_step_width",),
        BY_WIDTH,
        24,
    ),
    _lif(
        "lif-threshold-realistic",
        3,
        realistic((5, 4, 45), WIDE),
        THIRD,
        0.2,
        ("odd_sizes",),
        ("reset", "reset_gradient", *BY_WIDTH),
        draw=5,
    ),
    case(
        "width-threshold",
        "width",
        1,
        lambda draw: {"gamma": np.array(EIGHT)},
        {"v_th": HIGH, "decay": 0.75, "T": 4},
        ("first_step_width",),
        ("width", "norm_scale"),
        12,
    ),
]

BEYOND = [
    _lif(
        "lif-soft-realistic",
        3,
        realistic((6, 3, 45), WIDE, mean=0.3),
        FOUR_TENTHS,
        0.8,
        ("odd_sizes",),
        reset="soft",
    ),
    _lif("lif-beyond-64", 1, _beyond_64, 0.5, 0.5, ("long_time",), (), 11, reset_gradient="detached"),
    case(
        "width-fine",
        "width",
        3,
        lambda draw: {"gamma": draw.normal(1.1, 0.3, (75,))},
        {"v_th": 0.5, "decay": 0.2, "T": 3},
        ("first_step_width", "odd_sizes"),
    ),
]

UNEQUAL = SMALL._replace(layers=[block("conv1", stride=2, v_th=THIRD), block("conv2", v_th=LOW), FLATTEN, READOUT])

NETWORKS = [network("net-thresholds", UNEQUAL, decides=("reset", "reset_gradient", "norm_scale"))]

CASES = [*THRESHOLDS, *BEYOND, *NETWORKS]
