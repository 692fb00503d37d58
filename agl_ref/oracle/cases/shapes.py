"""Golden cases of the surrogates that other frameworks brought in: fast sigmoid, straight-through, leaky ReLU."""

import numpy as np

from .case import case
from .neuron import ATTACHED, FLAT, neurons, realistic
from .surrogates import realistic_potentials


def _exact(draw):
    u = draw.dyadic(-1.5, 2.5, 1 / 16, (4, 33))
    u[:, 0] = 0.5
    return {"u": u, "width": np.array([1.0, 0.5, 2.0, 4.0])}


def _surrogate(name, tier, make, flags=(), bits=None):
    id, meta = f"surrogate-{name.replace('_', '-')}", {"v_th": 0.5, "surrogate": name}
    return case(id, "surrogate", tier, make, meta, flags, ("surrogate_scale",), bits)


def _lif(name, tier, make, decides=ATTACHED, bits=None):
    id, meta = f"lif-{name.replace('_', '-')}", {"v_th": 0.5, "decay": 0.5 if tier == 1 else 0.25, "surrogate": name}
    return case(id, "lif", tier, make, meta, (), decides, bits)


CASES = [
    _surrogate("fast_sigmoid", 3, realistic_potentials),
    _surrogate("straight_through", 1, _exact, ("on_threshold",), 8),
    _surrogate("leaky_relu", 3, realistic_potentials),
    _lif("fast_sigmoid", 3, realistic((4, 3, 25), FLAT), (*ATTACHED, "width")),
    _lif("straight_through", 1, neurons(), bits=24),
    _lif("leaky_relu", 3, realistic((4, 3, 25), FLAT), (*ATTACHED, "width")),
]
