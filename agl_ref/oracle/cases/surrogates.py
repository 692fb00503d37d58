"""Golden cases of the surrogates and the width rules, each alone."""

import numpy as np

from agl_ref.conventions import Conventions

from .neuron import EIGHT, MIXED
from .registry import Case


def _potentials(draw):
    """Potentials around the threshold, with some on the edges and far outside."""
    u = draw.dyadic(-1.5, 2.5, 1 / 16, (4, 33))
    u[:, 0], u[0, 1], u[0, 2] = 0.5, 0.0, 1.0
    return {"u": u, "width": np.array([1.0, 0.5, 2.0, 4.0])}


def _realistic_potentials(draw):
    return {"u": draw.normal(0.5, 0.7, (4, 33)), "width": np.array([0.9375, 1.0625, 0.40625, 3.1875])}


SURROGATES = [
    Case(
        "surrogate-rectangular",
        "surrogate",
        1,
        _potentials,
        {"v_th": 0.5, "surrogate": "rectangular"},
        ("on_threshold", "on_window_edge"),
        tells=("window_edge", "surrogate_scale"),
        bits=8,
    ),
    Case(
        "surrogate-rectangular-closed",
        "surrogate",
        1,
        _potentials,
        {"v_th": 0.5, "surrogate": "rectangular"},
        ("on_threshold", "on_window_edge"),
        Conventions(window_edge="<="),
        ("window_edge",),
        8,
    ),
    Case(
        "surrogate-rectangular-peak",
        "surrogate",
        1,
        _potentials,
        {"v_th": 0.5, "surrogate": "rectangular"},
        ("on_threshold", "on_window_edge"),
        Conventions(surrogate_scale="1"),
        ("surrogate_scale",),
        8,
    ),
    Case(
        "surrogate-rectangular-half",
        "surrogate",
        1,
        _potentials,
        {"v_th": 0.5, "surrogate": "rectangular"},
        ("on_threshold", "on_window_edge"),
        Conventions(surrogate_scale="1/(2 kappa)"),
        ("surrogate_scale",),
        8,
    ),
    Case(
        "surrogate-triangular",
        "surrogate",
        1,
        _potentials,
        {"v_th": 0.5, "surrogate": "triangular"},
        ("on_threshold",),
        tells=("surrogate_scale",),
        bits=8,
    ),
    *[
        Case(
            f"surrogate-{name}",
            "surrogate",
            3,
            _realistic_potentials,
            {"v_th": 0.5, "surrogate": name},
            (),
            tells=("surrogate_scale",),
        )
        for name in ("sigmoid", "arctan", "gaussian")
    ],
]


def _gammas(*values):
    return lambda draw: {"gamma": np.array(values)}


RULE = {"v_th": 0.5, "decay": 0.75, "T": 4}

WIDTHS = [
    Case(
        "width-adaptive",
        "width",
        1,
        _gammas(*EIGHT),
        RULE,
        ("first_step_width",),
        tells=("width", "norm_scale"),
        bits=8,
    ),
    Case(
        "width-first",
        "width",
        1,
        _gammas(*EIGHT),
        RULE,
        ("first_step_width",),
        Conventions(width="first"),
        ("width",),
        8,
    ),
    Case(
        "width-later",
        "width",
        1,
        _gammas(*EIGHT),
        RULE,
        ("first_step_width",),
        Conventions(width="later"),
        ("width",),
        8,
    ),
    Case(
        "width-fixed",
        "width",
        1,
        _gammas(*EIGHT),
        RULE,
        (),
        Conventions(width="fixed", fixed_width=0.5),
        ("width",),
        8,
    ),
    Case(
        "width-one-timestep",
        "width",
        1,
        _gammas(*EIGHT),
        {**RULE, "T": 1},
        ("one_timestep", "first_step_width"),
        bits=8,
    ),
    Case("width-mixed", "width", 1, _gammas(*MIXED), RULE, ("first_step_width",), tells=("width",), bits=8),
    Case("width-gamma-zero", "width", 1, _gammas(1.0, -1.0, 0.5, -0.5), RULE, ("gamma_zero",), bits=8),
    Case("width-gamma-negative", "width", 1, _gammas(*(-g for g in EIGHT)), RULE, ("gamma_negative",), bits=8),
    Case(
        "width-geometric",
        "width",
        3,
        _gammas(0.90625, 1.21875, 0.65625),
        {"v_th": 0.5, "decay": 0.5, "T": 5},
        (),
        Conventions(width="geometric"),
        ("width",),
    ),
    Case(
        "width-realistic",
        "width",
        3,
        lambda d: {"gamma": d.normal(1.0, 0.25, (37,))},
        {"v_th": 0.5, "decay": 0.2, "T": 3},
        ("first_step_width", "odd_sizes"),
    ),
]

CASES = [*SURROGATES, *WIDTHS]
