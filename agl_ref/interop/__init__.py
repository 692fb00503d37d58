"""The border to others' code: layouts of arrays, PyTorch's names, safetensors files, NIR graphs."""

from agl_ref.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "layouts": ("LAYOUTS", "conv_weight_from_torch", "conv_weight_to_torch", "from_layout", "to_layout"),
        "nir": ("from_nir",),
        "state_dict": ("NAMES", "grads_from_torch", "grads_to_torch", "load_torch_state_dict", "state_dict_to_torch"),
        "safetensors": ("load_safetensors", "save_safetensors"),
    },
)
