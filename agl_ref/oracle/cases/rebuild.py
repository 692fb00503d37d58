"""An `agl_ref.Network` from layer descriptions (`candidate_network`) and named parameters, and from a stored Reference."""

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.engine.blocks import AvgPool, Flatten, GlobalAvgPool, Readout, Residual, SpikingBlock, SumPool
from agl_ref.engine.network import Network
from agl_ref.engine.parts import LIF, PLIF, Conv2d, Linear, TdBN

_PLAIN = {"pool": AvgPool, "sum_pool": SumPool, "global_pool": GlobalAvgPool, "flatten": Flatten}


def network_of(meta, inputs, conventions):
    """The network of a case.

    Parameters
    ----------
    meta : dict
        "layers" as `candidate_network.describe` gives them, "surrogate".
    inputs : {name: ndarray}
        "x", and every parameter (and running statistic) by its name.
    conventions : Conventions or dict

    Returns
    -------
    Network in float64
    """
    conventions = Conventions(**conventions) if isinstance(conventions, dict) else conventions
    params = {name: np.asarray(value, np.float64) for name, value in inputs.items() if name not in ("x", "labels")}
    layers = [_layer(layer, params) for layer in meta["layers"]]
    shape = np.shape(inputs["x"])[2:]
    return Network(layers, shape, conventions, meta.get("surrogate", "rectangular"))


def network_of_reference(reference):
    """(network, x, labels) of a Reference, stored or not."""
    net = network_of(reference.meta, reference.inputs, reference.conventions)
    return net, np.asarray(reference.inputs["x"], np.float64), reference.inputs["labels"]


def _layer(layer, params):
    kind = layer["kind"]
    if kind in _PLAIN:
        return _PLAIN[kind]()
    if kind == "readout":
        weight = params[f"{layer['name']}.weight"]
        made = Readout(layer["name"], *weight.shape, f"{layer['name']}.bias" in params)
        _fill(made.params, layer["name"], params)
        return made
    if kind == "residual":
        strip = len(layer["name"]) + 1  # a Residual puts its own name before those of its blocks
        body = [_block(b, params, strip) for b in layer["body"]]
        return Residual(
            layer["name"], body, _block(layer["shortcut"], params, strip) if layer["shortcut"] else None
        )  # fmt: skip
    return _block(layer, params, 0)


def _block(d, params, strip):
    name = d["name"]
    weight, bias = params[f"{name}.weight"], f"{name}.bias" in params
    if d["synapse"] == "conv":
        synapse = Conv2d(weight.shape[2], weight.shape[3], weight.shape[0], d["stride"], d["padding"], bias)
    else:
        synapse = Linear(*weight.shape, bias)
    norm = None
    if d["norm"]:
        norm = TdBN(weight.shape[-1], d["norm"]["alpha"], d["norm"]["eps"])
        if f"{name}.running_mean" in params:
            _fill(norm.statistics, name, params)
    neuron = PLIF(v_th=d["v_th"]) if d["neuron"] == "plif" else LIF(d["decay"], d["v_th"])
    for part in (synapse, norm, neuron):
        if part is not None:
            _fill(part.params, name, params)
    return SpikingBlock(name[strip:], synapse, norm, neuron)


def _fill(target, name, params):
    for key in target:
        value = params[f"{name}.{key}"]
        if value.shape != target[key].shape:
            raise ValueError(
                f"{name}.{key}: expected shape {target[key].shape}, received {value.shape}; check the case's inputs"
            )
        target[key] = value.copy()
