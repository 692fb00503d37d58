"""The tutorials' figures, one module per notebook, loaded when a figure is first asked for.

    from agl_ref.course import figures
    figures.NAME()          # a matplotlib Figure, complete by itself
    figures.names()         # all of them

Write them as files: agl-ref figures DIR
"""

import pkgutil
from importlib import import_module

from .registry import FIGURES


def modules():
    """Names of the modules with figures, one per notebook."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name != "registry"]


def names():
    """Names of all figures, sorted."""
    for module in modules():
        import_module(f"{__name__}.{module}")
    return sorted(FIGURES)


def __getattr__(name):
    if not name.startswith("_"):
        if name not in FIGURES:
            names()
        if name in FIGURES:
            return FIGURES[name]
        if name in modules():
            return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return names()
