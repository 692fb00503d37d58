"""The border to others' code: layouts of arrays, PyTorch's names, safetensors files, NIR graphs."""

from .convert import (
    LAYOUTS,
    NAMES,
    conv_weight_from_torch,
    conv_weight_to_torch,
    from_layout,
    from_nir,
    grads_from_torch,
    grads_to_torch,
    load_safetensors,
    load_torch_state_dict,
    save_safetensors,
    state_dict_to_torch,
    to_layout,
)

__all__ = [
    "LAYOUTS",
    "NAMES",
    "conv_weight_from_torch",
    "conv_weight_to_torch",
    "from_layout",
    "from_nir",
    "grads_from_torch",
    "grads_to_torch",
    "load_safetensors",
    "load_torch_state_dict",
    "save_safetensors",
    "state_dict_to_torch",
    "to_layout",
]
