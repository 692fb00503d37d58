"""The course kit: exercises that check themselves, the tutorials' figures, sliders.

check(name, answer)           points of an answer, with a diagnosis of what is wrong with it
figures.NAME(...)             a figure of the tutorials
explore(figures.NAME, ...)    the same with sliders
"""

from importlib import import_module

_HOME = {"check": "grading.check_answer", "explore": "sliders"}

__all__ = ["check", "exercises", "explore", "figures"]


def __getattr__(name):
    if name in _HOME:
        value = getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
        globals()[name] = value
        return value
    if name in ("exercises", "figures"):
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
