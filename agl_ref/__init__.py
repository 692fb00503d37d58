"""agl_ref: MPD-AGL, surrogate-gradient BPTT for spiking networks, with every backward written by hand.

Public names are loaded when they are first used, so that ``import agl_ref`` is quick and comparing a dump
with a stored vector needs neither numba nor matplotlib.
"""

from importlib import import_module

__version__ = "0.1.0"

_SUBMODULES = {  # attribute: the module or package that it is
    "ablation": "train.ablation",
    "blocks": "engine.blocks",
    "conv": "engine.ops",
    "conventions": "conventions",
    "data": "data",
    "diagnostics": "train.diagnostics",
    "interop": "interop",
    "linear": "engine.ops",
    "loss": "engine.ops",
    "models": "engine.models",
    "network": "engine.network",
    "neuron": "engine.ops",
    "norm": "engine.ops",
    "optim": "engine.optim",
    "oracle": "oracle",
    "ops": "engine.ops",
    "parts": "engine.parts",
    "plots": "train.plots",
    "reference": "reference",
    "surrogate": "engine.ops",
    "theory": "theory",
    "train": "train",
    "width": "engine.width",
}

_HOME = {
    "Conventions": "conventions",
    "MPD_AGL": "conventions",
    "PRESETS": "conventions",
    "WindowCollapsedWarning": "engine.width",
    "adaptive_width": "engine.width",
    "empirical_width": "engine.width",
    "exact_width": "engine.width",
    "fixed_width": "engine.width",
    "geometric_width": "engine.width",
    "lif_forward": "engine.ops",
    "lif_backward": "engine.ops",
    "plif_forward": "engine.ops",
    "plif_backward": "engine.ops",
    "tdbn_forward": "engine.ops",
    "tdbn_backward": "engine.ops",
    "conv2d_forward": "engine.ops",
    "conv2d_backward": "engine.ops",
    "avg_pool_forward": "engine.ops",
    "avg_pool_backward": "engine.ops",
    "global_avg_pool_forward": "engine.ops",
    "global_avg_pool_backward": "engine.ops",
    "linear_forward": "engine.ops",
    "linear_backward": "engine.ops",
    "cross_entropy_forward": "engine.ops",
    "cross_entropy_backward": "engine.ops",
    "tet_forward": "engine.ops",
    "tet_backward": "engine.ops",
    "Conv2d": "engine.parts",
    "Linear": "engine.parts",
    "TdBN": "engine.parts",
    "LIF": "engine.parts",
    "PLIF": "engine.parts",
    "SpikingBlock": "engine.blocks",
    "Residual": "engine.blocks",
    "AvgPool": "engine.blocks",
    "SumPool": "engine.blocks",
    "GlobalAvgPool": "engine.blocks",
    "Flatten": "engine.blocks",
    "Readout": "engine.blocks",
    "Network": "engine.network",
    "Trace": "engine.network",
}

__all__ = ["__version__", *_HOME, *_SUBMODULES]


def __getattr__(name):
    if name in _SUBMODULES:
        return import_module(f"{__name__}.{_SUBMODULES[name]}")
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
