"""Hints to an exercise, one more with each call."""

from collections import Counter

from .exercises import find

_given = Counter()  # hints by exercise


def hint(name):
    """Print the next hint to an exercise: a nudge, where to look, nearly the line; after the last one, the last again."""
    hints = find(name).hints
    _given[name] = min(_given[name] + 1, len(hints))
    print(f"{name}, hint {_given[name]} of {len(hints)}: {hints[_given[name] - 1]}" if hints else f"{name}: no hints")
