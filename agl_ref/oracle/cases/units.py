"""Golden cases of what is measured in units of the threshold: tdBN's shift as V_th beta, and the width 2 V_th."""

from .case import case
from .layers import NORM, exact_evaluation, norm_inputs
from .networks import FLATTEN, READOUT, SMALL, block, network
from .neuron import EIGHT, neurons
from .surrogates import width_case
from .thresholds import HIGH, LOW, THIRD

SHIFTED = {"norm_shift": "beta V_th"}
TWO = {"meta": {"v_th": LOW, "decay": 0.75, "T": 3}, "width": "2 V_th"}
DECIDES = ("norm_shift", "norm_scale")
EVALUATION = exact_evaluation((3, 3, 5, 2), (1.25, -0.5), (0.375, -0.25), (0.5, -0.25), (0.1875, 3.9375))


def _tdbn(id, tier, make, v_th, eps, bits=None):
    meta = {**NORM, "v_th": v_th, "eps": eps}
    return case(id, "tdbn", tier, make, meta, ("odd_sizes",), DECIDES, bits, **SHIFTED)


UNEQUAL = SMALL._replace(layers=[block("conv1", stride=2, v_th=THIRD), block("conv2", v_th=HIGH), FLATTEN, READOUT])

CASES = [
    _tdbn("tdbn-shift-exact", 1, EVALUATION, 0.25, 0.0625, 24),
    _tdbn("tdbn-shift", 3, norm_inputs((4, 3, 7)), THIRD, NORM["eps"]),
    network("net-shift", UNEQUAL, decides=DECIDES, **SHIFTED),
    width_case("width-two-thresholds", flags=(), decides=("width",), bits=12, **TWO),
    case(
        "lif-width-two-thresholds",
        "lif",
        2,
        neurons((3, 6, 8), width=None, gamma=EIGHT),
        {"v_th": LOW, "decay": 0.75},
        (),
        ("width", "surrogate_scale"),
        24,
        width="2 V_th",
    ),
]
