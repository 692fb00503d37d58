"""Golden cases of the surrogates and the width rules, each alone."""

import numpy as np

from .case import case
from .neuron import EIGHT, MIXED


def _potentials(draw):
    """Potentials around the threshold, with some on the edges and far outside."""
    u = draw.dyadic(-1.5, 2.5, 1 / 16, (4, 33))
    u[:, 0], u[0, 1], u[0, 2] = 0.5, 0.0, 1.0
    return {"u": u, "width": np.array([1.0, 0.5, 2.0, 4.0])}


def realistic_potentials(draw):
    return {"u": draw.normal(0.5, 0.7, (4, 33)), "width": np.array([0.9375, 1.0625, 0.40625, 3.1875])}


EDGES = ("on_threshold", "on_window_edge")
SCALE = ("surrogate_scale",)


def _surrogate(id, name, decides, flags=EDGES, make=_potentials, tier=1, bits=8, **conventions):
    return case(id, "surrogate", tier, make, {"v_th": 0.5, "surrogate": name}, flags, decides, bits, **conventions)


SURROGATES = [
    _surrogate("surrogate-rectangular", "rectangular", ("window_edge", "surrogate_scale")),
    _surrogate("surrogate-rectangular-closed", "rectangular", ("window_edge",), window_edge="<="),
    _surrogate("surrogate-rectangular-peak", "rectangular", SCALE, surrogate_scale="1"),
    _surrogate("surrogate-rectangular-half", "rectangular", SCALE, surrogate_scale="1/(2 kappa)"),
    _surrogate("surrogate-triangular", "triangular", SCALE, ("on_threshold",)),
    *[
        _surrogate(f"surrogate-{name}", name, SCALE, (), realistic_potentials, 3, None)
        for name in ("sigmoid", "arctan", "gaussian")
    ],
]

RULE = {"v_th": 0.5, "decay": 0.75, "T": 4}


def width_case(id, gamma=EIGHT, flags=("first_step_width",), decides=(), meta=RULE, tier=1, bits=8, **conventions):
    """A width rule on this gamma: numbers, or the function that draws them."""
    make = gamma if callable(gamma) else lambda draw: {"gamma": np.array(gamma)}
    return case(id, "width", tier, make, meta, flags, decides, bits, **conventions)


WIDTHS = [
    width_case("width-adaptive", decides=("width", "norm_scale")),
    width_case("width-first", decides=("width",), width="first"),
    width_case("width-later", decides=("width",), width="later"),
    width_case("width-fixed", flags=(), decides=("width",), width="fixed", fixed_width=0.5),
    width_case("width-one-timestep", flags=("one_timestep", "first_step_width"), meta={**RULE, "T": 1}),
    width_case("width-mixed", MIXED, decides=("width",)),
    width_case("width-gamma-zero", (1.0, -1.0, 0.5, -0.5), ("gamma_zero",)),
    width_case("width-gamma-negative", tuple(-g for g in EIGHT), ("gamma_negative",)),
    width_case(
        "width-geometric",
        (0.90625, 1.21875, 0.65625),
        (),
        ("width",),
        {"v_th": 0.5, "decay": 0.5, "T": 5},
        3,
        None,
        width="geometric",
    ),
    width_case(
        "width-realistic",
        lambda draw: {"gamma": draw.normal(1.0, 0.25, (37,))},
        ("first_step_width", "odd_sizes"),
        (),
        {"v_th": 0.5, "decay": 0.2, "T": 3},
        3,
        None,
    ),
]

CASES = [*SURROGATES, *WIDTHS]
