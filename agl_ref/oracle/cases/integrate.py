"""Golden cases of the neuron without a leak, decay 1 (IF), and of the widths that the rules give it."""

from .case import case
from .neuron import ATTACHED, FLAT, WIDE, neurons, realistic
from .surrogates import width_case

IF = {"v_th": 0.5, "decay": 1.0}
ON = ("on_threshold", "on_window_edge")  # without a leak sums of odd sixteenths are even ones
EXACT = ("spike_test", "window_edge", *ATTACHED)


def _if(id, tier, make, decides=ATTACHED, flags=(), **conventions):
    return case(id, "lif", tier, make, IF, flags, decides, 24 if tier == 1 else None, **conventions)


WIDTH = {"decides": ("width",), "meta": {**IF, "T": 5}, "tier": 3, "bits": None}
CASES = [
    _if("if-hard", 1, neurons(), EXACT, ON),
    _if("if-hard-detached", 1, neurons(), EXACT, ON, reset_gradient="detached"),
    _if("if-soft", 1, neurons(), EXACT, ON, reset="soft"),
    _if("if-adaptive", 3, realistic((5, 4, 85), WIDE), (*ATTACHED, "width"), ("odd_sizes",)),
    _if("if-soft-adaptive", 3, realistic((5, 3, 25), FLAT), (*ATTACHED, "width"), ("odd_sizes",), reset="soft"),
    _if("if-geometric", 3, realistic((5, 2, 24), FLAT), (*ATTACHED, "width"), (), width="geometric"),
    width_case("width-if", **WIDTH),
    width_case("width-if-geometric", flags=(), **WIDTH, width="geometric"),
]
