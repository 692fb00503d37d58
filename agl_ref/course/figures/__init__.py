"""The tutorials' figures, one module per notebook, loaded when a figure is first asked for.

    from agl_ref.course import figures
    figures.NAME()          # a matplotlib Figure, complete by itself
    figures.names()         # all of them

Write them as files: agl-ref figures DIR. What they share is in registry.py.
"""

from importlib import import_module

from agl_ref.course import NOTEBOOKS


def _all():
    """{name: function} of all figures. matplotlib takes a second to load, so that nothing is imported before this."""
    for module in NOTEBOOKS:
        import_module(f"{__name__}.{module}")
    return import_module(f"{__name__}.registry").FIGURES


def names():
    """Names of all figures, sorted."""
    return sorted(_all())


def __getattr__(name):
    if name in NOTEBOOKS:
        return import_module(f"{__name__}.{name}")
    if not name.startswith("_") and name in (figures := _all()):
        return figures[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return names()
