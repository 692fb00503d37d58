"""Teacher forcing: the reference's backward pass from the implementation's own forward values.

A spike that flipped in rounding changes every gradient after it. Replayed from the implementation's own s, u and width, the
backward pass is judged on its own: its gradients must then agree within bounds, whatever the forward pass did.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from agl_ref import validate
from agl_ref.oracle.descriptions import network_of_reference
from agl_ref.oracle.types import WINDOWED, Reference, array_name

from .margins import given_window, input_error
from .ops import replay_forced
from .reference import forward, seed_of
from .replay_network import NetworkReplay
from .tolerance import Rounding, spread

WHAT = ("s", "u", "width")
SAFETY = 2.0  # a decision is near the edge up to this many times the bound of a replayed u, which is no proven one


def force(reference, theirs, what=WHAT, turned=None):
    """A Reference whose backward pass follows from the given forward values.

    Parameters
    ----------
    reference : Reference
    theirs : {name: float64 ndarray}
        Under the reference's names, in its layout.
    what : sequence of {"s", "u", "width"}
        Which values are taken over, for every layer that `theirs` has them of.
    turned : {name of u: mask}, optional
        Neurons that are on the other side of the window's edge than their u says.

    Returns
    -------
    (Reference, names)
        The reference with everything computed anew from the forced values, with new bounds; a forced spike cannot flip any
        more, and a window of a forced u only where u - V_th rounds. And the names of the forced arrays, which no longer
        prove anything.

    Raises
    ------
    ValueError
        For another name in `what`, a case without neurons, none of the values, or spikes other than 0 and 1.
    """
    validate.instance("reference", reference, Reference, "pass what oracle.reference or load_case returned")
    validate.mapping("theirs", theirs, np.ndarray)
    validate.instance("turned", turned, (Mapping, type(None)), "leave it out")
    what = validate.sequence("what", what, kind=str)
    unknown = [name for name in what if name not in WHAT]
    if unknown or not what:
        raise ValueError(
            f"force: expected some of {', '.join(WHAT)}, received {', '.join(unknown) or 'none'}; choose from these"
        )
    forced = {name: theirs[name] for name in theirs if name in reference.arrays and name.rpartition(".")[2] in what}
    if not forced or reference.meta["op"] not in ("lif", "plif", "network"):
        raise ValueError(
            f"force: expected at least one of the neurons' {', '.join(what)} in the dump of a neuron or a network, received "
            "none; dump them"
        )
    for name, array in forced.items():
        validate.same_shape(name, validate.float_array(name, array), reference.arrays[name].shape, "the reference's")
        if name.rpartition(".")[2] == "s" and not np.isin(array, (0.0, 1.0)).all():
            raise ValueError(f"{name}: expected spikes of 0 and 1, received other values; dump s, not u")
        if name.rpartition(".")[2] == "width" and (array < 0).any():
            raise ValueError(f"{name}: expected kappa >= 0, received {array.min()}; dump the width that was used")
    dtype = reference.meta.get("dtype", "float32")
    arrays, bounds = spread(replay_of(reference, forced, turned or {}), Rounding(seed_of(reference.id), dtype))
    arrays = {name: np.asarray(arrays[name]).reshape(reference.arrays[name].shape) for name in reference.arrays}
    bounds = {name: bounds[name].reshape(arrays[name].shape) for name in arrays}
    margins = {}
    for name, margin in reference.margins.items():
        block, _, kind = name.rpartition(".")
        if kind == "s":
            decided = array_name(block, "s") in forced
        else:
            decided = reference.meta.get("surrogate", "rectangular") not in WINDOWED
        margins[name] = np.full_like(margin, np.inf) if decided else margin
        if kind == "window" and not decided:
            margins[name] = _window_margin(reference, block, arrays, bounds, dtype, array_name(block, "u") in forced)
            margins[name][(turned or {}).get(array_name(block, "u"), np.zeros(margin.shape, bool))] = np.inf
    return replace(reference, arrays=arrays, bounds=bounds, margins=margins, exact=False), sorted(forced)


def _window_margin(reference, block, arrays, bounds, dtype, given):
    """How far rounding leaves the window decided: of u unless it is given, of u - V_th, of a width in a coarser dtype."""
    u, width = array_name(block, "u"), array_name(block, "width")
    e_u = 0.0 if given else SAFETY * bounds[u]
    e_width = np.maximum(bounds[width], input_error(arrays[width], dtype))
    return given_window(arrays[u], e_u, arrays[width], e_width, reference.threshold(block), dtype)


def replay_of(reference, forced, turned, of_network=NetworkReplay):
    """The function of a Rounding that computes everything from the forced values; of a network an `of_network`."""
    if reference.meta["op"] != "network":
        return replay_forced(reference, forced, turned)
    net, x, target = network_of_reference(reference)
    trace = forward(net, x, reference.meta.get("training", True))
    return of_network(net, trace, target, reference.meta.get("loss", "ce"), forced, turned)
