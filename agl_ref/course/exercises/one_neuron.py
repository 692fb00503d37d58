"""Notebook 1: leak, fire, reset, and the three in a loop over time."""

import numpy as np

from .._exercise import Edge, exercise

V_TH = 0.5


def _draw_leak(rng):
    for N in (6, 4):
        yield rng.normal(0, 1, N), rng.normal(0, 1, N), float(rng.uniform(0.1, 0.9))
    yield Edge("decay = 0", (rng.normal(0, 1, 3), rng.normal(0, 1, 3), 0.0))
    yield Edge("one neuron", (rng.normal(0, 1, 1), rng.normal(0, 1, 1), 0.5))


@exercise(points=1, draw=_draw_leak, outputs="u", mistakes={
    "the leak is applied to the input x as well, as in decay * (v + x)": lambda v, x, decay: decay * (v + x),
    "the leak is applied to the input x instead of the potential v": lambda v, x, decay: v + decay * x,
    "decay is missing: the potential does not leak": lambda v, x, decay: v + x,
    "the potential is multiplied by 1 - decay; here decay is the factor that remains": lambda v, x, decay: (1 - decay) * v + x,
    "the input is scaled by 1 - decay; here it is not": lambda v, x, decay: decay * v + (1 - decay) * x,
    "the potential of the timestep before is missing": lambda v, x, decay: 0 * v + x,
})  # fmt: skip
def leak(v, x, decay):
    return decay * v + x
