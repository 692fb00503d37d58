"""The ablation: the plan of its runs, the runner that trains them, what the records say.

plan.py         experiments, and the runs that they need
runner.py       trains the runs, over processes or a Dask cluster
statistics.py   accuracies, paired tests, statistics by depth
report.py       CSV files and tables; figures.py the figures
"""

from agl_ref.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "plan": (
            "BASELINE", "DEEP", "EXPERIMENTS", "Experiment", "FIXED_WIDTHS", "FULL", "KEPT", "RULES", "SHALLOW", "SHIFTED",
            "SUBSET", "TRAINABLE", "command_of", "key_of", "pending", "width_settings",
        ),
        "runner": ("WorkerDied", "read_results", "run", "train_one"),
        "statistics": ("accuracies", "depth_profile", "summary"),
    },
)  # fmt: skip
