"""Golden cases far from the threshold: where exp of a surrogate's argument is larger than float32 can hold."""

import numpy as np

from .case import case
from .draw import to_significand

WIDTHS = np.array([0.234375, 0.40625, 0.109375, 1.0625])  # arguments 4 |u - V_th| / kappa up to some 300


def _potentials(draw):
    return {"u": draw.normal(0.5, 3.0, (4, 33)), "width": WIDTHS}


def _currents(draw):
    """Half of them far away, half near, so that gradients flow."""
    shape = (4, 3, 12)
    far = draw.normal(0.0, 6.0, shape) * draw.spikes(0.5, shape)
    x = to_significand(far + draw.normal(0.3, 0.3, shape), 20)
    return {"x": x, "ds": draw.normal(0.0, 0.5, shape), "width": WIDTHS}


def _far(id, op, name, make):
    meta = {"v_th": 0.5, "surrogate": name} | ({"decay": 0.5} if op == "lif" else {})
    return case(id, op, 3, make, meta, (), ("surrogate_scale",))


CASES = [
    *[_far(f"surrogate-{name}-far", "surrogate", name, _potentials) for name in ("sigmoid", "gaussian", "arctan")],
    *[_far(f"lif-{name}-far", "lif", name, _currents) for name in ("sigmoid", "gaussian")],
]
