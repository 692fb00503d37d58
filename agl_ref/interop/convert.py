"""The border to other frameworks: array layouts, PyTorch state dicts and gradients, NIR. The engine itself is always "TN..C".

"TN..C"  (T, N, H, W, C) or (T, N, F)   agl_ref
"NTC.."  (N, T, C, H, W) or (N, T, F)   the official implementation
"TNC.."  (T, N, C, H, W) or (T, N, F)   most frameworks
"""

from collections.abc import Mapping

import numpy as np

from agl_ref import validate
from agl_ref.conventions import Conventions

LAYOUTS = Conventions.choices()["axis_order"]


def _check_layout(x, axis_order):
    validate.one_of("axis_order", axis_order, LAYOUTS)
    if not isinstance(x, np.ndarray):
        raise TypeError(f"x: expected a NumPy array, received {type(x).__name__}; use np.asarray")
    if x.ndim < 3:
        raise ValueError(f"x: expected at least 3 axes (time, batch, features), received shape {x.shape}; add axes")


def from_layout(x, axis_order):
    """An array in another layout as (T, N, ..., C), contiguous; values and dtype are kept.

    Raises ValueError for an unknown layout or fewer than 3 axes.

    Examples
    --------
    >>> import numpy as np
    >>> from_layout(np.zeros((8, 4, 3, 32, 28)), "NTC..").shape  # N, T, C, H, W
    (4, 8, 32, 28, 3)
    """
    _check_layout(x, axis_order)
    if axis_order == "NTC..":
        x = x.swapaxes(0, 1)
    return np.ascontiguousarray(x if axis_order == "TN..C" else np.moveaxis(x, 2, -1))


def to_layout(x, axis_order):
    """The inverse of `from_layout`: (T, N, ..., C) in another layout, contiguous. Errors as there."""
    _check_layout(x, axis_order)
    if axis_order != "TN..C":
        x = np.moveaxis(x, -1, 2)
    return np.ascontiguousarray(x.swapaxes(0, 1) if axis_order == "NTC.." else x)


def conv_weight_to_torch(weight):
    """(kh, kw, C_in, C_out) to PyTorch's (C_out, C_in, kh, kw), contiguous."""
    return np.ascontiguousarray(weight.transpose(3, 2, 0, 1))


def conv_weight_from_torch(weight):
    """PyTorch's (C_out, C_in, kh, kw) to (kh, kw, C_in, C_out), contiguous."""
    return np.ascontiguousarray(weight.transpose(2, 3, 1, 0))


# --- PyTorch state dicts --------------------------------------------------------------------------------------------

NAMES = ("official", "native")


def _entries(net, names):
    """Entries of `net` under the wanted names; None: official ones where the network has them."""
    from agl_ref.engine.network import Network

    from . import torch_names  # here, so that the layouts above need NumPy alone

    if not isinstance(net, Network):
        raise TypeError(
            f"net: expected an agl_ref Network, received {type(net).__name__}; build one with agl_ref.models"
        )
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
    if all(hasattr(value, method) for method in ("detach", "cpu", "numpy")):
        return value.detach().cpu().numpy()
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value)
    raise TypeError(f"a {type(value).__name__}")


def _problem_of(entry, value, dtype):
    """What keeps `value` from becoming the array of `entry`, as (kind, text); None if nothing does."""
    name = entry.torch_name
    try:
        array = _as_array(value)
    except (TypeError, RuntimeError) as error:  # no tensor or array, or a tensor that NumPy cannot hold (bfloat16) or
        return "unreadable", f"{name} ({error})"  # that has no values (torch's device "meta")
    if array.shape != entry.torch_shape:
        return "misshaped", f"{name} (expected {entry.torch_shape}, received {array.shape})"
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

    A state dict holds no threshold, no leak of LIF neurons and no alpha: build the network with the right ones.

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
    if not isinstance(state, Mapping):
        raise TypeError(f"state: expected a mapping from names to arrays, received {type(state).__name__}; pass a dict")
    nested = [key for key, value in state.items() if isinstance(value, Mapping)]
    if nested:
        raise ValueError(
            f"state: expected arrays by name, received mappings under {nested}; pass one of them, e.g. state[{nested[0]!r}]"
        )
    entries = min((_entries(net, names) for names in (None, "native")), key=lambda own: _misfits(own, state))
    counters = _counters(entries)
    expected = {e.torch_name: e for e in entries}
    problems = {"missing": [name for name in expected if name not in state]}
    problems["surplus"] = [str(name) for name in state if name not in expected and name not in counters]
    for name in sorted(counters & state.keys()):
        if np.shape(state[name]) != ():
            problems.setdefault("misshaped", []).append(f"{name} (expected (), received {np.shape(state[name])})")
    for e in entries:
        found = _problem_of(e, state[e.torch_name], net.dtype) if e.torch_name in state else None
        if found:
            problems.setdefault(found[0], []).append(found[1])
    if any(problems.values()):
        raise ValueError(_misfit_text(problems, len(expected), len(state)))
    for e in entries:
        e.array[...] = e.from_torch(_as_array(state[e.torch_name]))


def _misfits(entries, state):
    return len({e.torch_name for e in entries} - state.keys())


def _misfit_text(problems, expected, received):
    listed = "; ".join(f"{kind}: {', '.join(texts)}" for kind, texts in problems.items() if texts)
    surplus = problems["surplus"]
    if surplus and all(name.startswith("module.") for name in surplus):
        fix = "take the prefix 'module.' off its names"
    else:
        fix = "build the network with the state dict's layers, sizes, neuron and dtype"
    return (
        f"state: expected the {expected} entries of this network, received {received} that do not fit ({listed}); {fix}"
    )


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
    problems = {
        "missing": [name for name in parameters if name not in grads],
        "surplus": [str(name) for name in grads if name not in parameters],
        "misshaped": [
            f"{name} (expected {p.shape}, received {np.shape(grads[name])})"
            for name, p in parameters.items()
            if name in grads and np.shape(grads[name]) != p.shape
        ],
    }
    if any(problems.values()):
        listed = "; ".join(f"{kind}: {', '.join(texts)}" for kind, texts in problems.items() if texts)
        raise ValueError(
            f"grads: expected one gradient for each of {len(parameters)} parameters, received {len(grads)} ({listed}); "
            "pass what net.backward returned"
        )
    return {e.torch_name: e.to_torch(np.asarray(grads[e.name])) for e in entries if e.name in parameters}


def grads_from_torch(net, grads, names=None):
    """The inverse of `grads_to_torch`: {torch name: gradient} by agl_ref's names and in its layout, for the oracle.

    A linear layer behind a flatten has its features in another order in PyTorch, which no transpose undoes; this does.

    Parameters
    ----------
    net : Network
    grads : {torch name: torch.Tensor or ndarray}
        Some of them are enough: `{name: p.grad for name, p in module.named_parameters()}`.
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
    known = {e.torch_name: e for e in _entries(net, names) if e.name in net.parameters()}
    problems = {"surplus": [str(name) for name in grads if name not in known], "no array": [], "misshaped": []}
    found = {}
    for name, entry in known.items():
        if name not in grads:
            continue
        try:
            found[entry.name] = _as_array(grads[name])
        except TypeError as error:  # also a tensor that NumPy cannot hold, such as bfloat16
            problems["no array"].append(f"{name} ({error})")
            continue
        if found[entry.name].shape != entry.torch_shape:
            problems["misshaped"].append(f"{name} (expected {entry.torch_shape}, received {found[entry.name].shape})")
        else:
            found[entry.name] = entry.from_torch(found[entry.name])
    if any(problems.values()) or not found:
        listed = "; ".join(f"{kind}: {', '.join(texts)}" for kind, texts in problems.items() if texts)
        raise ValueError(
            f"grads: expected gradients among {', '.join(known)}, received {len(grads)} ({listed or 'none'}); pass those of "
            "the PyTorch module"
        )
    return found


# --- safetensors files ----------------------------------------------------------------------------------------------


def _safetensors():
    try:
        import safetensors.numpy
    except ImportError:
        raise ImportError(
            "expected the package safetensors, received none; pip install safetensors, or pass a dict to "
            "load_torch_state_dict"
        ) from None
    return safetensors


def load_safetensors(net, path):
    """`load_torch_state_dict` of a .safetensors file. Needs the package safetensors.

    Raises ValueError naming the file where it is missing, damaged or does not fit; ImportError without the package.
    """
    safetensors = _safetensors()
    try:
        state = safetensors.numpy.load_file(path)
    except (OSError, TypeError, safetensors.SafetensorError) as error:  # TypeError: bfloat16, which NumPy lacks
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a safetensors file of floats, received: {reason}; save it again") from None
    try:
        load_torch_state_dict(net, state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_safetensors(net, path, names=None):
    """`state_dict_to_torch` as a .safetensors file. Needs the package safetensors; ImportError without it."""
    _safetensors().numpy.save_file(state_dict_to_torch(net, names), path)


# --- NIR graphs -----------------------------------------------------------------------------------------------------


def from_nir(graph, *, dt, conventions, surrogate, dtype=np.float64):
    """A reference network of a NIR graph: a chain of Conv2d, Affine, Linear, LIF, Flatten, SumPool2d, AvgPool2d.

    NIR writes a neuron as tau dv/dt = v_leak - v + r I with a spike where v > v_threshold, and leaves open how time is
    cut into steps, how a reset acts and what stands in for the spike's derivative. All of that is said here, without a
    default. One Euler step of length dt, with the potential counted from v_leak, is our neuron with

        decay = 1 - dt / tau;   V_th = v_threshold - v_leak;   input gain = r dt / tau

    Parameters
    ----------
    graph : nir.NIRGraph, or path of a .nir file
        Needs the package nir if it is a path.
    dt : float
        Length of a timestep, in the unit of the graph's tau. snnTorch 1.0 exports with 1e-4, SpikingJelly 2.0 with its
        argument dt; Norse 1.1 exports dt / tau_mem_inv for tau, so that the square of its dt gives the same neuron.
    conventions : Conventions
        `spike_test` (NIR's text says ">"), `reset`, `reset_gradient`, `input_scale` and the window; without tdBN kappa is
        1 unless `width` is "fixed". agl_ref/oracle/FRAMEWORKS.md has the presets of each exporter.
    surrogate : str
        Member of the surrogate family.
    dtype : float32 or float64
        Of the network; weights are widened where needed, never rounded.

    Returns
    -------
    Network
        Each synapse and the LIF behind it is one block with the synapse's name. An Affine or Linear at the end is the
        readout; if the end is a LIF, a readout "readout" with the identity for weight makes its spikes the logits.
        `grads_to_torch(net, grads, names="native")` has gradients in NIR's layout.

    Raises
    ------
    ValueError
        One message with everything that the engine cannot express: nodes of other types, branches and loops, parameters
        that differ within a layer, an input gain that is neither 1 nor dt / tau or not the one of `input_scale`, a hard
        reset to another potential than v_leak, a soft one with a v_leak that is not 0, pools other than 2x2, ...
    TypeError
        For something that is no graph.
    ImportError
        For a path without the package nir.
    """
    from . import nir  # here, so that the layouts above need NumPy alone

    return nir.network_of(graph, dt, conventions, surrogate, dtype)
