"""The oracle: are an implementation's values and gradients right, and if not, where is the first wrong one.

Public names are loaded when they are first used: comparing a dump with a stored case needs NumPy alone.
"""

import sys
from importlib import import_module
from types import ModuleType

_HOME = {
    "Reference": "types",
    "Report": "judge.report",
    "reference": "bounds.reference",
    "Oracle": "own_network",
    "compare": "judge.compare",
    "assert_matches": "judge.compare",
    "force": "bounds.teacher_forcing",
    "load_dump": "judge.dump",
    "identify": "identify.search",
    "load_case": "cases.vectors",
    "cases": "cases.vectors",
}

__all__ = list(_HOME)


class _Package(ModuleType):
    """Keeps `agl_ref.oracle.compare` the function when the module of the same name is imported."""

    def __setattr__(self, name, value):
        if not (name in _HOME and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


def __getattr__(name):
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return __all__
