"""The oracle: are an implementation's values and gradients right, and if not, where is the first wrong one.

Public names are loaded when they are first used: comparing a dump with a stored case needs NumPy alone.
"""

from agl_ref.lazy import attach

__getattr__, __dir__, __all__ = attach(
    __name__,
    {
        "types": ("Reference",),
        "judge.report": ("Report",),
        "bounds.reference": ("reference",),
        "own_network": ("Oracle",),
        "judge.compare": ("compare", "assert_matches"),
        "bounds.teacher_forcing": ("force",),
        "judge.dump": ("load_dump",),
        "identify.confirm": ("identify",),
        "cases.vectors": ("load_case", "cases"),
    },
)
