"""agl_ref: MPD-AGL, surrogate-gradient BPTT for spiking networks, with every backward written by hand.

Public names are loaded when they are first used, so that ``import agl_ref`` is quick and comparing a dump
with a stored vector needs neither numba nor matplotlib.
"""

from importlib import import_module

__version__ = "0.1.0"

_SUBMODULES = {
    "ablation", "blocks", "conv", "conventions", "data", "diagnostics", "interop", "linear", "loss", "models", "network",
    "neuron", "norm", "optim", "oracle", "parts", "plots", "surrogate", "theory", "train", "width",
}  # fmt: skip

_HOME = {
    "Conventions": "conventions",
    "MPD_AGL": "conventions",
    "PRESETS": "conventions",
    "WindowCollapsedWarning": "width",
    "adaptive_width": "width",
    "empirical_width": "width",
    "exact_width": "width",
    "fixed_width": "width",
    "geometric_width": "width",
    "lif_forward": "neuron",
    "lif_backward": "neuron",
    "plif_forward": "neuron",
    "plif_backward": "neuron",
    "tdbn_forward": "norm",
    "tdbn_backward": "norm",
    "conv2d_forward": "conv",
    "conv2d_backward": "conv",
    "avg_pool_forward": "conv",
    "avg_pool_backward": "conv",
    "global_avg_pool_forward": "conv",
    "global_avg_pool_backward": "conv",
    "linear_forward": "linear",
    "linear_backward": "linear",
    "cross_entropy_forward": "loss",
    "cross_entropy_backward": "loss",
    "tet_forward": "loss",
    "tet_backward": "loss",
    "Conv2d": "parts",
    "Linear": "parts",
    "TdBN": "parts",
    "LIF": "parts",
    "PLIF": "parts",
    "SpikingBlock": "blocks",
    "Residual": "blocks",
    "AvgPool": "blocks",
    "SumPool": "blocks",
    "GlobalAvgPool": "blocks",
    "Flatten": "blocks",
    "Readout": "blocks",
    "Network": "network",
    "Trace": "network",
}

__all__ = ["__version__", *_HOME, *_SUBMODULES]


def __getattr__(name):
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{name}")
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
