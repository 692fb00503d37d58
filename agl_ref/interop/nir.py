"""NIR graphs as reference networks.

NIR: Pedersen et al., Nature Communications 15, 8122 (2024). Its arrays are channels-first, (C, H, W) and (C_out, C_in, kh,
kw), without time or batch. One step of tau dv/dt = v_leak - v + r I, with w = v - v_leak:

    w_t = (1 - g) w_{t-1} + r g x_t,   a spike where w_t > v_threshold - v_leak
    Euler's step: g = dt / tau;   the exponential step, exact for a constant I: g = 1 - exp(-dt / tau)

and of IF's dv/dt = r I, whatever the step, with w = v - v_reset: w_t = w_{t-1} + r dt x_t.
"""

from graphlib import CycleError, TopologicalSorter
from os import PathLike

import numpy as np

from agl_ref import validate
from agl_ref.engine.blocks import AvgPool, Flatten, Readout, SpikingBlock, SumPool
from agl_ref.engine.network import Network
from agl_ref.engine.parts import LIF, Conv2d, Linear
from agl_ref.engine.surrogate import code_of

from . import nir_file
from .layouts import weight_from_torch
from .torch_names import torch_order

SYNAPSES = ("Affine", "Linear", "Conv2d")
NEURONS = ("LIF", "IF")
POOLS = {"AvgPool2d": AvgPool, "SumPool2d": SumPool}
KNOWN = (*SYNAPSES, *NEURONS, *POOLS, "Flatten", "Input", "Output")
CLOSE = 8  # units in the last place of the graph's own numbers, within which r g is 1 or r is 1
STEPS = {"euler": "dt / tau", "exponential": "(1 - exp(-dt / tau))"}  # what g is


def from_nir(graph, *, dt, conventions, surrogate, step=None, dtype=np.float64):
    """A reference network of a NIR graph: a chain of Conv2d, Affine, Linear, LIF, IF, Flatten, SumPool2d, AvgPool2d.

    NIR writes a neuron as tau dv/dt = v_leak - v + r I with a spike where v > v_threshold, and leaves open how time is
    cut into steps, how a reset acts and what stands in for the spike's derivative. All of that is said here, without a
    default. One step of length dt, with the potential counted from v_leak, is our neuron with

        decay = 1 - g;   V_th = v_threshold - v_leak;   input gain = r g

    where g = dt / tau for Euler's step and g = 1 - exp(-dt / tau) for the exponential one. An IF, dv/dt = r I, is our neuron
    with decay = 1, V_th = v_threshold - v_reset (soft reset: v_threshold) and input gain = r dt.

    Parameters
    ----------
    graph : nir.NIRGraph, or path of a .nir file
        Needs the package nir if it is a path; another process reads the file first, which takes a second.
    dt : float
        Length of a timestep, in the unit of the graph's tau. snnTorch 1.0 exports with 1e-4, SpikingJelly 2.0 with its
        argument dt; Norse 1.1 exports dt / tau_mem_inv for tau, so that the square of its dt gives the same neuron.
    conventions : Conventions
        `spike_test` (NIR's text says ">"), `reset`, `reset_gradient`, `input_scale` and the window; without tdBN kappa is
        1 unless `width` is "fixed". agl_ref/oracle/FRAMEWORKS.md has the presets of each exporter.
    surrogate : str
        Member of the surrogate family.
    step : {None, "euler", "exponential"}
        How the exporter cuts time: Euler's step in SpikingJelly, snnTorch and Norse, the exponential one in sinabs. None
        stands for Euler's where the other has not the input gain that `input_scale` asks for, as in snnTorch's graphs.
    dtype : float32 or float64
        Of the network; weights are widened where needed, never rounded.

    Returns
    -------
    Network
        Each synapse and the neuron behind it is one block with the synapse's name. An Affine or Linear at the end is the
        readout; if the end is a neuron, a readout "readout" with the identity for weight makes its spikes the logits.
        `grads_to_torch(net, grads, names="native")` has gradients in NIR's layout.

    Raises
    ------
    ValueError
        One message with everything that the engine cannot express: nodes of other types, branches and loops, parameters
        that differ within a layer, an input gain that is neither 1 nor g or not the one of `input_scale`, a hard
        reset to another potential than v_leak, a soft one with a v_leak that is not 0, pools other than 2x2, ...
        Also `step` None for a graph that the exponential step fits.
    TypeError
        For something that is no graph.
    ImportError
        For a path without the package nir.
    """
    dt = validate.number("dt", dt, low=0, low_open=True)
    validate.conventions(conventions)
    code_of(surrogate)
    if step is not None:
        validate.one_of("step", step, tuple(STEPS))
    dtype = validate.float_dtype(dtype)
    graph = nir_file.read(graph) if isinstance(graph, (str, PathLike)) else graph
    if not hasattr(graph, "nodes") or not hasattr(graph, "edges"):
        raise TypeError(f"graph: expected a nir.NIRGraph or a path, received {type(graph).__name__}; use nir.read")
    nodes, problems = _chain(graph)
    if not problems:
        if step is None and "LIF" in map(_kind, graph.nodes.values()):
            if not any(_problems(nodes, dt, "exponential", conventions, dtype)):
                raise ValueError(
                    "step: expected 'euler' (SpikingJelly, snnTorch, Norse) or 'exponential' (sinabs), received None for a "
                    "graph that does not tell which; say how its exporter cuts time"
                )
        step = step or "euler"
        problems = list(_problems(nodes, dt, step, conventions, dtype))
    if problems:
        raise ValueError(
            f"graph: expected a chain that the engine can express, received {'; '.join(problems)}; change the graph, dt or "
            "conventions"
        )
    return _build(nodes, dt, step, conventions, surrogate, dtype)


def _kind(node):
    return type(node).__name__


# --- what the engine cannot express -------------------------------------------------------------------------------------


def _chain(graph):
    """([(name, node)] from the Input to the Output, problems): the nodes only if they form one chain."""
    nodes, edges = graph.nodes, [(str(a), str(b)) for a, b in graph.edges]
    problems = [f"node {name!r} of type {_kind(node)}" for name, node in nodes.items() if _kind(node) not in KNOWN]
    problems += [
        f"an edge to or from {n!r}, which is no node" for n in sorted({n for e in edges for n in e} - set(nodes))
    ]
    for kind in ("Input", "Output"):
        count = sum(_kind(node) == kind for node in nodes.values())
        if count != 1:
            problems.append(f"{count} {kind} nodes instead of one")
    after, before = ({name: [] for name in nodes} for _ in range(2))
    for a, b in edges:
        after.get(a, []).append(b)
        before.get(b, []).append(a)
    problems += [f"a branch from {name!r} to {ends}" for name, ends in after.items() if len(ends) > 1]
    problems += [f"{len(ends)} edges into {name!r}, from {ends}" for name, ends in before.items() if len(ends) > 1]
    try:
        TopologicalSorter(after).prepare()
    except CycleError as error:
        problems.append(f"a loop through {', '.join(map(repr, sorted(set(error.args[1]))))}")
    if problems:
        return [], problems
    order = [name for name, node in nodes.items() if _kind(node) == "Input"]
    while after[order[-1]]:
        order.append(after[order[-1]][0])
    problems += [f"node {name!r} that the input does not reach" for name in nodes if name not in order]
    if _kind(nodes[order[-1]]) != "Output":
        problems.append(f"an end at {order[-1]!r}, which is no Output")
    return [(name, nodes[name]) for name in order], problems


def _problems(nodes, dt, step, conventions, dtype):
    """Text for each node that the engine cannot express, or not where it stands."""
    kinds = [_kind(node) for _, node in nodes]
    for i, (name, node) in enumerate(nodes):
        kind, following = kinds[i], kinds[i + 1] if i + 1 < len(kinds) else None
        if kind == "Input" and _shape_of(node) is None:
            yield f"input {name!r} whose shape is not (C, H, W) or (F,)"
        elif kind in NEURONS:
            if kinds[i - 1] not in SYNAPSES:
                yield f"{kind} {name!r} right behind a node of type {kinds[i - 1]}: it needs an Affine, Linear or Conv2d"
            yield from (f"{kind} {name!r} {text}" for text in _neuron_problems(node, dt, step, conventions))
        elif kind in SYNAPSES:
            at_the_end = following == "Output" and kind != "Conv2d"
            if following not in NEURONS and not at_the_end:
                yield f"{kind} {name!r} followed by a node of type {following}: it needs a LIF or an IF there"
            yield from (f"{kind} {name!r} {text}" for text in _synapse_problems(node, kind, dtype))
        elif kind in POOLS:
            pair = [
                np.broadcast_to(np.asarray(getattr(node, key)), 2).tolist()
                for key in ("kernel_size", "stride", "padding")
            ]
            if pair != [[2, 2], [2, 2], [0, 0]]:
                yield f"{kind} {name!r} with kernel, stride, padding {pair}: the engine has 2x2 pools without padding"
        elif kind == "Flatten":
            rank = len(np.atleast_1d(node.input_type["input"])) if node.input_type["input"] is not None else None
            if int(node.start_dim) != 0 or int(node.end_dim) not in (-1, None if rank is None else rank - 1):
                yield f"Flatten {name!r} from {node.start_dim} to {node.end_dim}: the engine flattens all, 0 to -1"
        if following == "Output" and kind not in (*NEURONS, *SYNAPSES):
            yield f"an end with {kind} {name!r}: it needs a LIF, an IF, an Affine or a Linear"


def _shape_of(node):
    """(H, W, C) or (F,) of an Input, None for any other rank."""
    shape = node.input_type["input"]
    shape = () if shape is None else tuple(int(n) for n in np.atleast_1d(shape))
    return {1: shape, 3: (*shape[1:], *shape[:1])}.get(len(shape))


def _numbers(node, reset):
    """{parameter: its one value as a NumPy scalar}, and what is not one value. Of an IF tau is infinite, and v_leak, from
    which the potential is counted, is where a hard reset goes.
    """
    values, problems, leaks = {}, [], _kind(node) == "LIF"
    for key in ("tau", "r", "v_leak", "v_threshold", "v_reset") if leaks else ("r", "v_threshold", "v_reset"):
        found = np.unique(np.asarray(getattr(node, key)))
        found = found if found.dtype.kind == "f" else found.astype(np.float64)
        if found.size != 1 or not np.isfinite(found).all():
            problems.append(
                f"with {found.size} values of {key} from {found[0]} to {found[-1]}: one for the layer is needed"
            )
        values[key] = found[0]
    return values if leaks else {
        "tau": np.inf,
        "v_leak": values["v_reset"] if reset == "hard" else 0.0,
        **values,
    }, problems


def _step(values, dt, step):
    """(decay, gain) in the precision of the graph's own numbers, in which an exporter computed tau and r of them."""
    if np.isinf(values["tau"]):
        return 1.0, values["r"] * values["r"].dtype.type(dt)
    share = values["tau"].dtype.type(dt) / values["tau"]
    if step == "exponential":
        return np.exp(-share), values["r"] * -np.expm1(-share)
    return values["tau"].dtype.type(1) - share, values["r"] * share


def _neuron_problems(node, dt, step, conventions):
    values, problems = _numbers(node, conventions.reset)
    if problems:
        yield from problems
        return
    decay, gain = _step(values, dt, step)
    leaks = np.isfinite(values["tau"])
    if leaks and not 0 <= decay < 1:
        yield f"with tau {values['tau']}: dt {dt} must be above 0 and at most tau, and dt / tau not be lost beside 1"
        return
    close = CLOSE * float(np.finfo(gain.dtype).eps)
    off = abs(gain - 1) if conventions.input_scale == "1" else abs(values["r"] - 1)
    given = f"r {STEPS[step] if leaks else 'dt'}"
    if not leaks and conventions.input_scale != "1":
        yield f"whose decay is 1: input_scale {conventions.input_scale!r} leaves it no input, '1' is needed"
    elif off > close:
        yield (
            f"with r {values['r']} and tau {values['tau']}: input_scale {conventions.input_scale!r} needs "
            f"{f'{given} = 1' if conventions.input_scale == '1' else 'r = 1'}, here {given} = {gain}"
        )
    if not values["v_threshold"] > values["v_leak"]:
        yield f"with v_threshold {values['v_threshold']}, which must be above v_leak {values['v_leak']}"
    if conventions.reset == "hard" and values["v_reset"] != values["v_leak"]:
        yield f"with v_reset {values['v_reset']}: a hard reset goes to v_leak, which is {values['v_leak']}"
    if conventions.reset.startswith("soft") and values["v_leak"] != 0:
        yield f"with v_leak {values['v_leak']}: a soft reset subtracts v_threshold, which needs v_leak = 0"


def _synapse_problems(node, kind, dtype):
    for key in ("weight", "bias"):
        array = getattr(node, key, None)
        if array is not None and not np.can_cast(np.asarray(array).dtype, dtype, "safe"):
            yield f"with a {key} of {np.asarray(array).dtype}: it would be rounded to {dtype}"
        if array is not None and not np.isfinite(np.asarray(array)).all():
            yield f"with a {key} that is not finite"
    shape, bias = np.shape(node.weight), getattr(node, "bias", None)
    if bias is not None and np.shape(bias) != shape[:1]:
        yield f"with a bias of shape {tuple(np.shape(bias))}: {tuple(shape[:1])} is needed"
    if len(shape) != (4 if kind == "Conv2d" else 2):
        yield f"with a weight of shape {tuple(shape)}: (C_out, C_in, k, k) or (F_out, F_in) is needed"
    elif kind == "Conv2d":
        yield from _conv_problems(node, shape)


def _conv_problems(node, shape):
    if len(set(shape[2:])) != 1 or shape[2] % 2 == 0:
        yield f"with a kernel of {tuple(shape[2:])}: a square one of odd size is needed"
    if int(node.groups) != 1 or set(np.ravel(node.dilation).tolist()) != {1}:
        yield f"with groups {node.groups} and dilation {node.dilation}: both must be 1"
    if len(set(np.ravel(node.stride).tolist())) != 1:
        yield f"with stride {node.stride}: one for both axes is needed"
    elif _padding(node) is None:
        yield f"with padding {node.padding!r}: one number for both axes is needed, or 'valid', or 'same' with stride 1"


def _padding(node):
    if isinstance(node.padding, (str, bytes)):
        text = node.padding.decode() if isinstance(node.padding, bytes) else node.padding
        same = np.shape(node.weight)[2] // 2 if np.ravel(node.stride)[0] == 1 else None
        return {"valid": 0, "same": same}.get(text)
    values = set(np.ravel(node.padding).tolist())
    return int(values.pop()) if len(values) == 1 else None


# --- building -----------------------------------------------------------------------------------------------------------


def _build(nodes, dt, step, conventions, surrogate, dtype):
    """The Network of a chain without problems."""
    (_, first), *inner = nodes[:-1]
    shape = input_shape = _shape_of(first)
    layers, order = [], None  # order: where torch's flattened features are in ours
    for i, (name, node) in enumerate(inner):
        kind = _kind(node)
        if kind in SYNAPSES:
            last = i + 1 == len(inner)
            layer = synapse = _synapse(name, node, kind, order, dtype, last)
            if not last:
                values, _ = _numbers(inner[i + 1][1], conventions.reset)
                v_th = float(values["v_threshold"]) - float(values["v_leak"])
                layer = SpikingBlock(name, synapse, None, LIF(float(_step(values, dt, step)[0]), v_th))
            order = None
        elif kind in POOLS:
            layer = POOLS[kind]()
        elif kind == "Flatten":
            layer, order = Flatten(), torch_order(shape) if len(shape) == 3 else order
        else:  # the neuron of the block before
            _check_neuron_shape(name, node, shape)
            continue
        layers.append(layer)
        try:
            shape = layer.output_shape(shape)
        except ValueError as error:
            raise ValueError(f"graph: node {name!r}: {error}") from None
    if not isinstance(layers[-1], Readout):
        layers.append(_identity(shape, {name for name, _ in nodes}, dtype))
    return Network(layers, input_shape, conventions, surrogate)


def _synapse(name, node, kind, order, dtype, last):
    weight = np.asarray(node.weight).astype(dtype)
    bias = getattr(node, "bias", None)
    if kind == "Conv2d":
        c_out, c_in, size, _ = weight.shape
        stride = int(np.ravel(node.stride)[0])
        synapse = Conv2d(c_in, c_out, size, stride, _padding(node), bias is not None, dtype)
        weight = weight_from_torch(weight)
    else:
        f_out, f_in = weight.shape
        has_bias = bias is not None
        synapse = Readout(name, f_in, f_out, has_bias, dtype) if last else Linear(f_in, f_out, has_bias, dtype)
        weight = weight_from_torch(weight)
        if order is not None and len(order) == f_in:
            weight = weight[np.argsort(order)]
    synapse.params["weight"][...] = weight
    if bias is not None:
        synapse.params["bias"][...] = np.asarray(bias)
    return synapse


def _check_neuron_shape(name, node, shape):
    """Refuse parameters of another shape than the layer's; one number stands for all neurons."""
    found, expected = np.shape(node.r), shape if len(shape) == 1 else (shape[2], *shape[:2])
    if found not in ((), (1,), expected):
        raise ValueError(
            f"graph: node {name!r}: expected parameters of shape {expected}, received {found}; change the layer before it"
        )


def _identity(shape, taken, dtype):
    """A readout whose logits are the spikes of the last layer."""
    if len(shape) != 1:
        raise ValueError(
            f"graph: expected an output of shape (F,), received (H, W, C) = {shape}; add a Flatten and a Linear"
        )
    name = "readout"
    while name in taken:
        name += "_"
    readout = Readout(name, *shape, *shape, bias=False, dtype=dtype)
    readout.params["weight"][...] = np.eye(*shape)
    return readout
