"""PyTorch state dicts and gradients, by the official implementation's names or by agl_ref's own."""

from collections.abc import Mapping

import numpy as np

from agl_ref import validate
from agl_ref.engine.network import Network

from . import torch_names

NAMES = ("official", "native")
LISTED = 10  # names of one kind in a message
FORMER_BIASES = {"fc.0.layer.bias", "fc.2.layer.bias"}  # official checkpoints of sew_resnet19 had them once


def _entries(net, names):
    """Entries of `net` under the wanted names; None: official ones where the network has them."""
    validate.instance("net", net, Network, "build one with agl_ref.models")
    if names is not None:
        validate.one_of("names", names, NAMES)
    official = None if names == "native" else torch_names.official_names(net)
    if names == "official" and official is None:
        raise ValueError(
            "names: expected a network with the layers of vgg_snn or sew_resnet19 for official names, received another; "
            "use names='native'"
        )
    return torch_names.entries(net, official)


def _counters(entries):
    """Names of torch's num_batches_tracked, one per batch norm; agl_ref keeps no such counter."""
    end = "running_mean"
    return {e.torch_name.removesuffix(end) + "num_batches_tracked" for e in entries if e.torch_name.endswith(end)}


def _as_array(value):
    """A NumPy array of a NumPy value or of a torch tensor, which is known by its methods; else TypeError."""
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError("a masked array")
    if all(hasattr(value, method) for method in ("detach", "cpu", "numpy")):
        return value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    raise TypeError(f"a {type(value).__name__}")


def _compared(shapes, given):
    """({name: array} of what is given and fits {name: shape}, {what is wrong: names with it})."""
    found, problems = {}, {"missing": [], "surplus": [str(name) for name in given if name not in shapes]}
    for name, shape in shapes.items():
        if name not in given:
            problems["missing"].append(name)
            continue
        try:
            array = _as_array(given[name])
        except (
            TypeError,
            RuntimeError,
        ) as error:  # no array, or a tensor without values (device "meta") or of bfloat16
            problems.setdefault("unreadable", []).append(f"{name} ({error})")
            continue
        if array.shape == shape:
            found[name] = array
        else:
            problems.setdefault("misshaped", []).append(f"{name} (expected {shape}, received {array.shape})")
    return found, problems


def _problem_of(name, array, dtype):
    """What keeps an array of the right shape out of a network of this dtype, as (kind, text); None if nothing does."""
    if array.dtype.kind != "f" or not np.can_cast(array.dtype, dtype, "safe"):
        return "of a dtype that would be rounded", f"{name} ({array.dtype} into {dtype})"
    if not np.isfinite(array).all():
        return "not finite", name
    if name.endswith("running_var") and (array < 0).any():
        return "negative", name
    return None


def load_torch_state_dict(net, state):
    """Take over all parameters and running statistics from a PyTorch state dict, in place.

    A network with the layers of vgg_snn or sew_resnet19, of any widths, takes the names of an official MPD-AGL
    checkpoint ("encode.0.layer.weight", "ResNetBlocks.0.0.spike1.neuron.w", "classifier.0.layer.bias", ...). Every
    network takes agl_ref's own names ("conv1.weight", "conv1.gamma", "conv1.running_mean", ...). Arrays are in torch's
    layout either way: conv (C_out, C_in, kh, kw), linear (F_out, F_in), with the inputs of a linear layer behind a
    flatten in the order (C, H, W). The counters "num_batches_tracked" may be there or not; agl_ref has no use for them.

    A state dict holds no threshold, no leak of LIF neurons, no alpha and not the unit of beta: build the network with the
    right ones; official checkpoints have `norm_shift` "beta".

    Parameters
    ----------
    net : Network
    state : mapping of str to torch tensor or ndarray
        Of the network's dtype, or of a narrower one, which is widened without rounding; never the other way round. Of an
        official checkpoint file that is `torch.load(path, weights_only=True, map_location="cpu")["net"]`.

    Raises
    ------
    ValueError
        One message with all entries that are missing, surplus, misshaped, of a dtype that would be rounded, or not
        finite. The network is then unchanged.
    TypeError
        `state` is no mapping.
    """
    validate.mapping("state", state)
    nested = [key for key, value in state.items() if isinstance(value, Mapping)]
    if nested:
        raise ValueError(
            f"state: expected arrays by name, received mappings under {nested}; pass one of them, e.g. state[{nested[0]!r}]"
        )
    namings = [_entries(net, names) for names in (None, "native")]
    entries = min(namings, key=lambda own: _misfits(own, state))
    counters = _counters(entries) & state.keys()
    expected = {e.torch_name: e.torch_shape for e in entries}
    arrays, problems = _compared(expected, {name: value for name, value in state.items() if name not in counters})
    for name in sorted(counters):
        if np.shape(state[name]) != ():
            problems.setdefault("misshaped", []).append(f"{name} (expected (), received {np.shape(state[name])})")
    for name, array in arrays.items():
        if found := _problem_of(name, array, net.dtype):
            problems.setdefault(found[0], []).append(found[1])
    if any(problems.values()):
        raise ValueError(
            f"state: expected the {len(expected)} entries of this network, received {len(state)} that do not fit "
            f"({_listed(problems)}); {_fix(problems, namings, state)}"
        )
    for e in entries:
        e.array[...] = e.from_torch(arrays[e.torch_name])


def _misfits(entries, state):
    return len({e.torch_name for e in entries} - state.keys())


def _listed(problems):
    """Text of {what is wrong: names with it}, ten of each at most."""
    more = {kind: f" and {len(texts) - LISTED} more" if len(texts) > LISTED else "" for kind, texts in problems.items()}
    return "; ".join(f"{kind}: {', '.join(texts[:LISTED])}{more[kind]}" for kind, texts in problems.items() if texts)


def _fix(problems, namings, state):
    """What to do about a state dict that does not fit."""
    prefix = _prefix(namings, state)
    if prefix:
        return (
            f"take the prefix {prefix!r} off its names: {{name.removeprefix({prefix!r}): array for name, array in "
            f"state.items() if name.startswith({prefix!r})}}"
        )
    if set(problems["surplus"]) == FORMER_BIASES and not any(
        texts for kind, texts in problems.items() if kind != "surplus"
    ):
        return (
            "an official checkpoint of an earlier version: subtract fc.0.layer.bias from fc.0.bn.running_mean, which comes "
            "to the same, and delete both biases; if fc.2.layer.bias is not zero, add it to the logits yourself"
        )
    build = "build the network with the state dict's layers, sizes, neuron and dtype"
    if problems["missing"] and problems["surplus"]:
        return f"rename its entries to the names that agl.interop.state_dict_to_torch(net) has, or {build}"
    return build


def _prefix(namings, state):
    """What stands before every name of the network in `state`, by a wrapper of the module; None if nothing does."""
    for entries in namings:
        wanted = [e.torch_name for e in entries]
        for name in map(str, state):
            prefix = name.removesuffix(wanted[0])
            if prefix and prefix != name and all(prefix + each in state for each in wanted):
                return prefix
    return None


def state_dict_to_torch(net, names=None):
    """The inverse of `load_torch_state_dict`: {name: array in torch's layout}, copies in the network's dtype.

    Parameters
    ----------
    net : Network
    names : {None, "official", "native"}
        None: official names if the network has the layers of vgg_snn or sew_resnet19, else agl_ref's own.

    Returns
    -------
    dict
        Without "num_batches_tracked", which PyTorch fills in itself when the dict is loaded:
        `module.load_state_dict({name: torch.from_numpy(array) for name, array in state.items()})`.

    Raises
    ------
    ValueError
        Official names for another network.
    """
    return {e.torch_name: e.to_torch(e.array) for e in _entries(net, names)}


def grads_to_torch(net, grads, names=None):
    """Gradients by agl_ref's names as {torch name: gradient in torch's layout}, copies of the same dtype.

    Parameters
    ----------
    net : Network
    grads : {parameter name: ndarray}
        As from `Network.backward`: one for each parameter; values need not be finite.
    names
        As for `state_dict_to_torch`.

    Raises
    ------
    ValueError
        One message with all gradients that are missing, surplus or misshaped.
    """
    entries, parameters = _entries(net, names), net.parameters()
    validate.mapping("grads", grads)
    arrays, problems = _compared({name: p.shape for name, p in parameters.items()}, grads)
    if any(problems.values()):
        raise ValueError(
            f"grads: expected one gradient for each of {len(parameters)} parameters, received {len(grads)} "
            f"({_listed(problems)}); pass what net.backward returned"
        )
    return {e.torch_name: e.to_torch(arrays[e.name]) for e in entries if e.name in parameters}


def grads_from_torch(net, grads, names=None):
    """The inverse of `grads_to_torch`: {torch name: gradient} by agl_ref's names and in its layout, for the oracle.

    A linear layer behind a flatten has its features in another order in PyTorch, which no transpose undoes; this does.

    Parameters
    ----------
    net : Network
    grads : {torch name: torch.Tensor or ndarray}
        Some of them are enough: `{name: p.grad for name, p in module.named_parameters()}`. None, which frozen
        parameters have, is left out.
    names
        As for `state_dict_to_torch`.

    Returns
    -------
    {parameter name: ndarray}, of the same dtypes

    Raises
    ------
    ValueError
        One message with all gradients that are surplus, misshaped or no array; none at all.
    """
    validate.mapping("grads", grads)
    known = {e.torch_name: e for e in _entries(net, names) if e.name in net.parameters()}
    given = {name: grad for name, grad in grads.items() if grad is not None}
    found, problems = _compared({name: e.torch_shape for name, e in known.items() if name in given}, given)
    if any(problems.values()) or not found:
        raise ValueError(
            f"grads: expected gradients {_listed({'among': list(known)})}, received {len(grads)} "
            f"({_listed(problems) or 'none'}); pass those of the PyTorch module"
        )
    return {known[name].name: known[name].from_torch(array) for name, array in found.items()}
