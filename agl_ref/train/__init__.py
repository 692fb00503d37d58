"""Training: configuration and trainer, checkpoints, diagnostics, plots, the ablation.

What trainer.py offers is loaded when it is first used: diagnostics and plots need no networks.
"""

from importlib import import_module

__all__ = [
    "CheckpointError",
    "CHECKPOINT_SECONDS",
    "DIAGNOSE_EVERY",
    "Interrupted",
    "NETWORKS",
    "NORMALISATIONS",
    "OPTIMISERS",
    "SCHEDULES",
    "TrainConfig",
    "Trainer",
    "WIDTHS",
    "build_network",
    "open_run",
    "require_fitting",
]


def __getattr__(name):
    if name in __all__:
        return getattr(import_module(f"{__name__}.trainer"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
