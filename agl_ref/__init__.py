"""agl_ref: MPD-AGL, surrogate-gradient BPTT for spiking networks, with every backward written by hand.

Public names are loaded when they are first used, so that ``import agl_ref`` is quick and comparing a dump
with a stored vector needs neither numba nor matplotlib.
"""

from .lazy import attach

__version__ = "0.1.0"

_NAMES = {
    "conventions": ("Conventions", "MPD_AGL", "PRESETS"),
    "engine.width": (
        "WindowCollapsedWarning", "adaptive_width", "empirical_width", "exact_width", "fixed_width", "geometric_width",
    ),
    "engine.ops": (
        "lif_forward", "lif_backward", "plif_forward", "plif_backward", "tdbn_forward", "tdbn_backward",
        "conv2d_forward", "conv2d_backward", "avg_pool_forward", "avg_pool_backward", "max_pool_forward",
        "max_pool_backward", "global_avg_pool_forward", "global_avg_pool_backward", "linear_forward", "linear_backward",
        "cross_entropy_forward", "cross_entropy_backward", "tet_forward", "tet_backward",
    ),
    "engine.parts": ("Conv2d", "Linear", "TdBN", "LIF", "PLIF"),
    "engine.blocks": (
        "SpikingBlock", "Residual", "AvgPool", "SumPool", "MaxPool", "GlobalAvgPool", "Flatten", "Readout",
    ),
    "engine.loss": ("Loss",),
    "engine.network": ("Network", "Trace"),
}  # fmt: skip
_MODULES = {
    **{name: name for name in ("conventions", "data", "interop", "oracle", "reference", "theory", "train")},
    **{name: f"engine.{name}" for name in ("blocks", "models", "network", "ops", "optim", "parts", "width")},
    **{name: f"train.{name}" for name in ("ablation", "diagnostics", "plots")},
    **{name: "engine.ops" for name in ("conv", "linear", "loss", "neuron", "norm", "surrogate")},
}

__getattr__, __dir__, __all__ = attach(__name__, _NAMES, _MODULES)
__all__ += ["__version__"]  # in place: dir() lists it too
