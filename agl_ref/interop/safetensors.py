"""Networks as .safetensors files, read and written by the package safetensors."""

import json

from agl_ref import files, validate

from .state_dict import load_torch_state_dict, state_dict_to_torch


def _safetensors():
    try:
        import safetensors.numpy  # here: an optional package
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
    path, safetensors = validate.path("path", path), _safetensors()
    data = files.read_bytes(path)
    try:
        state = safetensors.numpy.load(data)
        json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=files.unique_names)
    except (TypeError, ValueError, safetensors.SafetensorError) as error:  # TypeError: bfloat16, which NumPy lacks
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a safetensors file of floats, received: {reason}; save it again") from None
    try:
        load_torch_state_dict(net, state)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save_safetensors(net, path, names=None):
    """`state_dict_to_torch` as a .safetensors file in a folder that exists. Needs the package safetensors.

    Raises ValueError where there is no such folder; ImportError without the package.
    """
    state, path = state_dict_to_torch(net, names), validate.path("path", path)
    if not path.parent.is_dir():
        raise ValueError(f"{path}: expected a folder that exists, received none; make {path.parent} first")
    files.write_atomically(path, _safetensors().numpy.save(state))
