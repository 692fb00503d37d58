"""Golden cases with thresholds other than 1/2, a realistic soft reset, more than 64 timesteps, gammas of full precision."""

from .case import case
from .networks import FLATTEN, READOUT, SMALL, block, network
from .neuron import ATTACHED, EIGHT, WIDE, long, neurons, realistic
from .surrogates import RULE, width_case

LOW, HIGH = 0.75, 1.25  # dyadic thresholds, on both sides of 1
THIRD = 0.30000001192092896  # float32's nearest to 0.3: no number of few bits
FOUR_TENTHS = 0.4000000059604645  # float32's nearest to 0.4


def _lif(id, tier, make, v_th, decay, flags=(), decides=ATTACHED, bits=None, draw=0, **conventions):
    return case(id, "lif", tier, make, {"v_th": v_th, "decay": decay}, flags, decides, bits, draw, **conventions)


BY_WIDTH = ("width", "surrogate_scale", "norm_scale")

THRESHOLDS = [
    _lif("lif-threshold-hard", 1, neurons(low=-0.5, high=1.5), LOW, 0.5, bits=24),
    _lif("lif-threshold-soft", 1, neurons(low=-0.5, high=2.25), HIGH, 0.5, bits=24, reset="soft"),
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
    width_case("width-threshold", decides=("width", "norm_scale"), meta={**RULE, "v_th": HIGH}, bits=12),
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
    _lif("lif-beyond-64", 1, long((130, 2, 3)), 0.5, 0.5, ("long_time",), (), 11, reset_gradient="detached"),
    width_case(
        "width-fine",
        lambda draw: {"gamma": draw.normal(1.1, 0.3, (75,))},
        ("first_step_width", "odd_sizes"),
        meta={"v_th": 0.5, "decay": 0.2, "T": 3},
        tier=3,
        bits=None,
    ),
]

UNEQUAL = SMALL._replace(layers=[block("conv1", stride=2, v_th=THIRD), block("conv2", v_th=LOW), FLATTEN, READOUT])

NETWORKS = [network("net-thresholds", UNEQUAL, decides=("reset", "reset_gradient", "norm_scale"))]

CASES = [*THRESHOLDS, *BEYOND, *NETWORKS]
