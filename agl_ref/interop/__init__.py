"""The border to others' code.

layouts.py                       the order of axes, the only conversion of it
torch_names.py, state_dict.py    PyTorch's names, parameters and gradients
safetensors.py, nir.py, nir_file.py   networks as files of others
"""

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
