"""The exercises, one module per notebook: references, fresh inputs, known mistakes."""

import difflib
import pkgutil
from importlib import import_module

from .definition import EXERCISES


def modules():
    """Names of the modules with exercises, one per notebook."""
    return [module.name for module in pkgutil.iter_modules(__path__) if module.name not in ("definition", "drawing")]


def load():
    """All exercises: {name: Exercise or Choice}."""
    for module in modules():
        import_module(f"{__name__}.{module}")
    return EXERCISES


def find(name):
    """The exercise of that name; ValueError with the nearest names otherwise."""
    if name not in EXERCISES:
        load()
    if name not in EXERCISES:
        near = difflib.get_close_matches(str(name), EXERCISES, 3) or sorted(EXERCISES)
        raise ValueError(f"check: expected the name of an exercise, received {name!r}; perhaps {', '.join(near)}")
    return EXERCISES[name]
