"""The exercises, one module per notebook: references, fresh inputs, known mistakes.

definition.py says what an exercise is; fresh_inputs.py draws inputs; neuron.py is the neuron that several notebooks ask for.
"""

import difflib
from importlib import import_module

from agl_ref.course import NOTEBOOKS

from .definition import EXERCISES


def load():
    """All exercises: {name: Exercise or Choice}."""
    for module in NOTEBOOKS:
        import_module(f"{__name__}.{module}")
    return EXERCISES


def find(name):
    """The exercise of that name; ValueError with the nearest names otherwise."""
    load()
    if not isinstance(name, str) or name not in EXERCISES:
        near = difflib.get_close_matches(str(name), EXERCISES, 3) or sorted(EXERCISES)
        raise ValueError(f"check: expected the name of an exercise, received {name!r}; perhaps {', '.join(near)}")
    return EXERCISES[name]
