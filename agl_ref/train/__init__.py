"""Training: configuration and trainer, checkpoints, diagnostics, plots, the ablation."""

from agl_ref.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "checkpoint": ("CheckpointError",),
        "config": (
            "NETWORKS", "NORMALISATIONS", "OPTIMISERS", "SCHEDULES", "TrainConfig", "WIDTHS", "build_network",
            "require_fitting",
        ),
        "trainer": ("CHECKPOINT_SECONDS", "DIAGNOSE_EVERY", "Interrupted", "Trainer", "open_run"),
    },
)  # fmt: skip
