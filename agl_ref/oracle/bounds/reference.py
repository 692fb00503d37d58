"""The reference: a network's (or one op's) every intermediate value and gradient, by the engine in float64.

`reference(net, x, labels)` is for a user's own network, `reference_of_case(case)` for a stored case. Values come from the
engine, bounds from a replay with random rounding (`tolerance`), margins from a proven analysis (`margins`).
"""

import warnings
import zlib
from dataclasses import asdict

import numpy as np

from agl_ref import validate
from agl_ref.conventions import OWN_WIDTHS
from agl_ref.engine import tdbn
from agl_ref.engine.loss import of_network as loss_of_network
from agl_ref.engine.network import Network
from agl_ref.oracle.descriptions import describe, network_of
from agl_ref.oracle.types import WINDOWED, Reference, array_name, dtype_name, representable

from . import margins as proven
from .ops import OPS, as_float64, neuron_margins, run_op
from .replay_network import NetworkReplay
from .tolerance import Rounding, spread

AGREEMENT = 1e-9  # of an array's magnitude: how close the replay must come to the engine


def in_float64(net):
    """A copy of the network whose parameters and statistics are float64; their values are the same."""
    inputs = {"x": np.zeros((1, 1, *net.input_shape)), **net.parameters(), **net.running_statistics()}
    return network_of({"layers": describe(net), "surrogate": net.surrogate}, inputs, net.conventions)


def forward(net, x, training=True):
    """The trace; a window that collapses does so without a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace = net.forward(x, training=training)
    validate.float_array("logits", trace.logits)
    return trace


def run(net, x, target, loss="ce", training=True):
    """Everything of one forward and backward pass; see `collect`."""
    return collect(net, forward(net, x, training), target, loss)


def collect(net, trace, target, loss):
    """{name: array} of a trace and its backward pass, in the order of computation.

    `target` is what the loss compares the logits with: labels, or of the loss "given" its gradient dlogits.
    """
    value, dlogits = {}, target
    if loss == "given":
        validate.same_shape("dlogits", target, trace.logits.shape, "the logits")
    else:
        value, dlogits = loss_of_network(trace.logits, target, loss, net.conventions)
        value = {"loss": np.array(value)}
    record, arrays = {}, {}
    grads = net.backward(trace, dlogits, record)
    blocks = dict(net.blocks())
    for name, cache in trace.items():
        arrays[f"{name}.width"] = cache.width
        arrays[f"{name}.x"] = input_current(blocks[name], cache)
        for key in ("u", "s", "v"):
            arrays[f"{name}.{key}"] = getattr(cache, key)
    arrays.update({"logits": trace.logits, **value, "dlogits": dlogits})
    for name, cache in reversed(trace.items()):
        arrays[f"{name}.ds"] = record[f"{name}.ds"]
        dx = record[f"{name}.dx"]
        scaled = cache.neuron.conventions.input_scale == "1 - tau"
        arrays[f"{name}.du"] = dx / (1.0 - cache.neuron.decay) if scaled else dx
        arrays[f"{name}.dx"] = dx
    arrays.update({f"grad_{key}": grads[key] for key in reversed(list(grads))})
    arrays["grad_x"] = record["x"]
    return arrays


def input_current(block, cache):
    """The neuron's input current: what the block's norm or, without one, its pool or synapse gave."""
    if cache.neuron.x is not None:
        return cache.neuron.x
    if cache.norm is None:
        current = block.synapse.forward(cache.synapse.x)[0]
        return current if block.pool is None else block.pool.forward(current, None)[0]
    return tdbn.normalise(cache.norm)


def reference(net, x, labels=None, loss="ce", training=True, dtype="float32", replays=None, dlogits=None):
    """Every intermediate value and gradient of a network on this input, with bounds and margins.

    Parameters
    ----------
    net : Network
        In float32 or float64; the reference computes in float64 from the same parameter values.
    x : ndarray (T, N, *input_shape)
    labels : integer array (N,)
    loss : {"ce", "tet"}
    training : bool
        Batch statistics in tdBN, or the running ones.
    dtype : str
        The coarsest dtype in which the bounds are to hold: inputs and parameters that it rounds are counted as errors.
    replays : int, optional
        Passes with random rounding from which the bounds are taken; 48, or 16 for a network with more than a million numbers.
    dlogits : ndarray (T, N, K), float32 or float64
        Instead of labels and loss: the gradient of any other loss with respect to the logits, which is then an input.

    Returns
    -------
    Reference

    Raises
    ------
    ValueError, TypeError
        For inputs that the network refuses, a width rule of this package alone, or a dtype without a unit roundoff.
    RuntimeError
        If the engine and the replay disagree, which would be a bug in one of them.

    Examples
    --------
    >>> import numpy as np, agl_ref as agl
    >>> net = agl.models.conv_snn(image_size=4, channels=(2,), num_classes=2)
    >>> ref = reference(net, np.ones((2, 1, 4, 4, 1)), np.array([1]))
    >>> ref.arrays["conv1.u"].shape, float(ref.bounds["conv1.s"].max())
    ((2, 1, 2, 2, 2), 0.0)
    """
    validate.boolean("training", training)
    if replays is not None:
        validate.integer("replays", replays)
    target, loss = target_of(net, x, labels, loss, dlogits)
    return network_reference("own", net, x, target, loss, training, dtype, replays, False)


def target_of(net, x, labels, loss, dlogits):
    """({"labels": array}, loss), or ({"dlogits": array}, "given"), of this network for this input."""
    validate.instance("net", net, Network, "build one with agl_ref.models")
    net.check_input(validate.float_array("x", x).astype(net.dtype))
    if (labels is None) == (dlogits is None):
        both = "neither" if labels is None else "both"
        raise ValueError(
            f"labels: expected labels, or dlogits= of a loss of your own, received {both}; pass one of them"
        )
    if dlogits is not None:
        validate.same_shape(
            "dlogits", validate.float_array("dlogits", dlogits), (*x.shape[:2], net.num_classes), "the logits"
        )
        return {"dlogits": dlogits}, "given"
    validate.labels(labels, x.shape[1], net.num_classes, len(x))
    return {"labels": np.asarray(labels)}, validate.one_of("loss", loss, ("ce", "tet"))


def network_reference(id, net, x, target, loss, training, dtype, replays, exact):
    """`reference` under another id, with a target as of `target_of`; with `exact` all bounds are 0."""
    dtype = dtype_name(dtype)
    if net.conventions.width in OWN_WIDTHS:
        raise ValueError(
            f"net: expected a width rule that other implementations have, received {net.conventions.width!r}; build it with "
            "another, or compare under width='fixed'"
        )
    validate.float_array("x", x)
    wide, (wide_target,) = in_float64(net), as_float64(target).values()
    trace = forward(wide, x.astype(np.float64), training)
    plain, bounds = spread(NetworkReplay(wide, trace, wide_target, loss), Rounding(seed_of(id), dtype), replays)
    arrays = collect(wide, trace, wide_target, loss)
    agree(plain, arrays)
    margins = {}
    for name, found in proven.NetworkMargins(wide, trace, dtype).found.items():
        tighten(bounds, margins, found, name)
    meta = {
        "op": "network",
        "layers": describe(net),
        "surrogate": net.surrogate,
        "T": len(x),
        "loss": loss,
        "training": training,
        "dtype": dtype,
        "v_th": {name: cache.neuron.v_th for name, cache in trace.items()},
        "decay": {name: cache.neuron.decay for name, cache in trace.items()},
        "certificate": proven.certificate(margins),
    }
    inputs = {"x": x, **target, **net.parameters(), **({} if training else net.running_statistics())}
    return assemble(id, net.conventions, meta, inputs, arrays, bounds, margins, exact, wide)


def op_reference(id, op, inputs, meta, conventions, exact=False, dtype="float32", replays=None):
    """The Reference of one op on these inputs; see `agl_ref.oracle.bounds.ops` for the names.

    Parameters
    ----------
    id, op : str
    inputs : {name: ndarray}
    meta : dict
        The op's scalars.
    conventions : Conventions
    exact : bool
        Every value is exact in float32: all bounds are 0.
    dtype, replays
        As for `agl_ref.oracle.reference`.
    """
    arrays, wide, margins = run_op(op, inputs, meta, conventions), as_float64(inputs), {}

    def replay(r):
        return OPS[op].replay(r, wide, meta, conventions, arrays)

    plain, bounds = spread(replay, Rounding(seed_of(id), dtype), replays)
    agree(plain, arrays)
    if "s" in arrays:
        tighten(bounds, margins, neuron_margins(wide, meta, conventions, arrays, dtype))
    if op == "surrogate" and meta.get("surrogate", "rectangular") in WINDOWED:
        u, width = wide["u"], wide["width"]
        given = (u, proven.input_error(u, dtype), width, proven.input_error(width, dtype))
        margins["window"] = proven.given_window(*given, meta["v_th"], dtype)
    meta = {**meta, "op": op, "dtype": dtype, "certificate": proven.certificate(margins)}
    if "T" not in meta:
        meta["T"] = len(next(iter(inputs.values())))
    return assemble(id, conventions, meta, inputs, arrays, bounds, margins, exact)


def tighten(bounds, margins, found, block=""):
    """Take a neuron layer's proven bounds where they are smaller than the replay's, and its margins."""
    for key in ("x", "u", "v", "width"):
        name = array_name(block, key)
        if name in bounds:  # an op's x is its input
            bounds[name] = np.minimum(bounds[name], getattr(found, key))
    margins[array_name(block, "s")], margins[array_name(block, "window")] = found.spike, found.window


def assemble(id, conventions, meta, inputs, arrays, bounds, margins, exact, source=None):
    """A Reference whose bounds follow the arrays' order; an exact case has bounds 0 and infinite margins."""
    if exact:
        bounds = {name: np.zeros_like(value) for name, value in arrays.items()}
        margins = {name: np.full_like(value, np.inf) for name, value in margins.items()}
    bounds = {name: np.asarray(bounds[name], np.float64).reshape(np.shape(arrays[name])) for name in arrays}
    return Reference(id, asdict(conventions), meta, inputs, arrays, bounds, margins, exact, source)


def agree(plain, arrays):
    """Two independent passes over the same formulas must give the same values."""
    for name, value in arrays.items():
        off = np.max(np.abs(plain[name] - value), initial=0.0)
        if not off <= AGREEMENT * max(np.max(np.abs(value), initial=0.0), 1e-3):
            raise RuntimeError(f"{name}: the engine and the oracle's replay differ by {off:.3g}; one of them has a bug")


def seed_of(id):
    """The seed of a case's random roundings."""
    return zlib.crc32(id.encode())


def reference_of_case(case, replays=None):
    """The Reference of a golden case (`agl_ref.oracle.cases.Case`): its op or network, computed anew.

    Parameters
    ----------
    case : Case
        Read: id, op, tier (1 means exact), inputs(), meta, conventions. The bounds of a realistic op whose inputs are all
        bfloat16 numbers hold in that dtype too; those of other cases in float32 and float64.

    Returns
    -------
    Reference
    """
    inputs = {name: np.asarray(value) for name, value in case.inputs().items()}
    exact = case.tier == 1
    numbers = [np.array(case.meta.get("decay", 0.0)), *(a for a in inputs.values() if a.dtype.kind == "f")]
    few_bits = case.tier == 3 and case.op != "network" and all(representable(a, "bfloat16").all() for a in numbers)
    dtype = "bfloat16" if few_bits else "float32"
    if case.op != "network":
        return op_reference(case.id, case.op, inputs, case.meta, case.conventions, exact, dtype, replays)
    net = network_of(case.meta, inputs, case.conventions)
    loss, training = case.meta.get("loss", "ce"), case.meta.get("training", True)
    target = {"labels": inputs["labels"]}
    return network_reference(case.id, net, inputs["x"], target, loss, training, dtype, replays, exact)
