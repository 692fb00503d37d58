"""A network as plain layer descriptions, and the `agl_ref.Network` of such descriptions.

A description is what JSON can hold, one dict for each layer, as `agl_ref.reference` walks them:

    {"kind": "block", "name": "conv1", "synapse": "conv" or "linear", "stride": 1, "padding": 1,
     "norm": {"alpha": 1.0, "eps": 1e-5} or None, "neuron": "lif" or "plif", "decay": 0.2, "v_th": 0.5}
    {"kind": "residual", "name": "res1", "body": [blocks], "shortcut": block or None}
    {"kind": "pool"}, {"kind": "sum_pool"}, {"kind": "global_pool"}, {"kind": "flatten"}, {"kind": "readout", "name": "fc"}

Parameters stay outside, in a dict by the network's own names.
"""

import numpy as np

from agl_ref.conventions import Conventions

DATA = ("x", "labels", "dlogits")  # a network's inputs beside its parameters
_PLAIN = {"pool": "AvgPool", "sum_pool": "SumPool", "global_pool": "GlobalAvgPool", "flatten": "Flatten"}


def describe(net):
    """The layer descriptions of an `agl_ref.Network`."""
    return [_describe(layer) for layer in net.layers]


def _describe(layer):
    kind = type(layer).__name__
    if kind == "SpikingBlock":
        if layer.pool is not None:
            raise TypeError(_no_description(f"a {type(layer.pool).__name__} between synapse and neuron"))
        norm, unit, synapse = layer.norm, layer.neuron, layer.synapse
        conv = hasattr(synapse, "stride")
        return {
            "kind": "block",
            "name": layer.name,
            "synapse": "conv" if conv else "linear",
            "stride": synapse.stride if conv else 1,
            "padding": synapse.padding if conv else 0,
            "norm": None if norm is None else {"alpha": norm.alpha, "eps": norm.eps},
            "neuron": "plif" if "w" in unit.params else "lif",
            "decay": None if "w" in unit.params else unit._decay,
            "v_th": unit.v_th,
        }
    if kind == "Residual":
        shortcut = None if layer.shortcut is None else _describe(layer.shortcut)
        body = [_describe(block) for block in layer.body]
        return {"kind": "residual", "name": layer.name, "body": body, "shortcut": shortcut}
    if kind == "Readout":
        return {"kind": "readout", "name": layer.name}
    for described, plain in _PLAIN.items():
        if kind == plain:
            return {"kind": described}
    raise TypeError(_no_description(kind))


def _no_description(received):
    return (
        f"net: expected layers of METHOD.md, which the oracle can compute a second time, received {received}; judge the "
        "network without it, and the neurons by the golden cases"
    )


def blocks(layers):
    """The spiking blocks among layer descriptions, in the order of computation."""
    for layer in layers:
        if layer["kind"] == "block":
            yield layer
        elif layer["kind"] == "residual":
            yield from blocks(layer["body"] + ([layer["shortcut"]] if layer["shortcut"] else []))


def network_of(meta, inputs, conventions):
    """The network of a case.

    Parameters
    ----------
    meta : dict
        "layers" as `describe` gives them, "surrogate".
    inputs : {name: ndarray}
        "x", and every parameter (and running statistic) by its name.
    conventions : Conventions or dict

    Returns
    -------
    Network in float64
    """
    from agl_ref.engine.network import Network  # not above: the oracle judges dumps with NumPy alone

    conventions = Conventions(**conventions) if isinstance(conventions, dict) else conventions
    params = {name: np.asarray(value, np.float64) for name, value in inputs.items() if name not in DATA}
    layers = [_layer(layer, params) for layer in meta["layers"]]
    shape = np.shape(inputs["x"])[2:]
    return Network(layers, shape, conventions, meta.get("surrogate", "rectangular"))


def network_of_reference(reference):
    """(network, x, labels or dlogits) of a Reference, stored or not."""
    net, inputs = network_of(reference.meta, reference.inputs, reference.conventions), reference.inputs
    target = inputs["labels"] if "labels" in inputs else np.asarray(inputs["dlogits"], np.float64)
    return net, np.asarray(inputs["x"], np.float64), target


def _layer(layer, params):
    from agl_ref.engine import blocks as engine  # not above: the oracle judges dumps with NumPy alone

    kind = layer["kind"]
    if kind in _PLAIN:
        return getattr(engine, _PLAIN[kind])()
    if kind == "readout":
        weight = params[f"{layer['name']}.weight"]
        made = engine.Readout(layer["name"], *weight.shape, f"{layer['name']}.bias" in params)
        _fill(made.params, layer["name"], params)
        return made
    if kind == "residual":
        strip = len(layer["name"]) + 1  # a Residual puts its own name before those of its blocks
        body = [_block(b, params, strip) for b in layer["body"]]
        shortcut = _block(layer["shortcut"], params, strip) if layer["shortcut"] else None
        return engine.Residual(layer["name"], body, shortcut)
    return _block(layer, params, 0)


def _block(d, params, strip):
    from agl_ref.engine.blocks import SpikingBlock  # not above: the oracle judges dumps with NumPy alone
    from agl_ref.engine.parts import LIF, PLIF, Conv2d, Linear, TdBN

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
