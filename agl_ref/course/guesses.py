"""Places to type a guess before a cell is run, and all of them once more at the end of a notebook.

    predict("same-points", "...")     # the student puts what they expect between the quotes
    predictions()

A guess is never graded. `agl-ref course report --predictions FILE` reads them out of the notebooks that were handed in.
"""

from agl_ref import validate

PLACE = "..."  # nothing typed yet
_typed = {}  # of the notebook that runs in this process


def predict(name, guess):
    """Keep a guess, as text, under the prediction's name. Shows nothing, so that the place stays as it was."""
    fix = "write it between quotes"
    _typed[validate.instance("predict: name", name, str, fix)] = validate.instance("predict: guess", guess, str, fix)


def predictions():
    """Print all guesses of the notebook, in the order in which their cells ran first."""
    for name, guess in _typed.items():
        print(f"{name}: {'nothing typed' if guess.strip() in ('', PLACE) else guess}")
