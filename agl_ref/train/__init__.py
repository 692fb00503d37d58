"""Training.

config.py, trainer.py, checkpoint.py   what decides a run's bits, the loop, what is written of it
lock.py, memory.py                     one process in a folder; whether a run fits into memory
diagnostics.py, plots.py               statistics of the layers, figures
ablation/                              many runs, compared
"""

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
