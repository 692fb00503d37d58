"""What an exercise is: a function to write, fresh inputs to try it on, a reference, the mistakes that people make.

    @exercise(points=2, outputs="u s", time="u s", draw=_draw, mistakes={
        "the test is > and not >=: a potential exactly at the threshold should fire": {"fires": np.greater},
        "nothing is carried from one timestep to the next": lambda x, decay, v_th: (x, 1.0 * (x >= v_th)),
    }, hints=("Which array lives on from turn to turn?", "...", "..."))
    def lif_forward(x, decay, v_th, *, fires=np.greater_equal):
        ...the reference...
        return u, s

A mistake is a function with the reference's arguments, or keyword arguments that turn the reference into it.

The other kind is a question with a list of answers:

    choice("where", 1, answer="in the reset", options={
        "in the reset": "Right: ds_total has no term in dv.",
        "in the leak": "The carry is multiplied by decay there.",
    })
"""

import hashlib
import inspect
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import numpy as np

from agl_ref import validate

EXERCISES = {}  # name: Exercise or Choice
NOTEBOOK_OF = {}  # name: the module it is in


class Edge(NamedTuple):
    """Inputs on which an answer may be wrong that is right elsewhere, and why they are here ("T = 1")."""

    why: str
    arguments: tuple


@dataclass(frozen=True)
class Exercise:
    """A function that a student writes.

    Attributes
    ----------
    name, points
        The name is the function's and the grade id's.
    reference : callable
        Right answer; its positional arguments are the student's.
    draw : callable
        rng -> iterable of argument tuples, or `Edge`. The first is an ordinary one. They must tell the reference from
        every mistake.
    mistakes : {sentence: callable}
        Wrong answers that people give. The sentence ends "Your answer is what you get if ..." (no capital, no full stop).
    outputs : tuple of str
        What the function returns, in order.
    time, border : tuple of str
        The outputs whose first axis is time; those whose axes 1 and 2 are an image's rows and columns.
    places : {text: callable}
        Where entries lie ("where the neuron fires"), as a mask from the arguments, in the shape of the results: said if all
        wrong entries lie there.
    backwards : bool
        The loop runs against time, so that what is wrong first is at the last t.
    tolerance : float
        An entry is right if it is off by at most this much of the largest entry of the right answer (float64).
    hints : tuple of str
        What `hint` says, one after the other: from a nudge to nearly the line.
    """

    name: str
    points: float
    reference: callable
    draw: callable
    mistakes: dict = field(default_factory=dict)
    outputs: tuple = ("y",)
    time: tuple = ()
    border: tuple = ()
    tolerance: float = 1e-10
    places: dict = field(default_factory=dict)
    backwards: bool = False
    hints: tuple = ()

    @property
    def parameters(self):
        """Names of the arguments."""
        parameters = inspect.signature(self.reference).parameters.values()
        return tuple(p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD)

    def inputs(self, student):
        """The samples for a student: list of (why or None, arguments). The same student gets the same."""
        drawn = self.draw(np.random.default_rng(seed_of(self.name, student)))
        return [tuple(item) if isinstance(item, Edge) else (None, tuple(item)) for item in drawn]


@dataclass(frozen=True)
class Choice:
    """A question with a list of answers.

    Attributes
    ----------
    name, points
    answer : str
        The right one of the options.
    options : {option: sentence}
        Why it is not the one, said to who chose it; the right one's sentence says why it is. None gives it away.
    hints : tuple of str
        As an `Exercise`'s.
    """

    name: str
    points: float
    answer: str
    options: dict
    hints: tuple = ()


def exercise(points, draw, outputs, mistakes=None, time="", border="", **more):
    """Decorator: the function is an exercise's reference, its name the exercise's. `outputs`, ... are names with spaces."""

    def register(reference):
        wrong = {text: m if callable(m) else partial(reference, **m) for text, m in (mistakes or {}).items()}
        names = (tuple(text.split()) for text in (outputs, time, border))
        _add(Exercise(reference.__name__, points, reference, draw, wrong, *names, **more), reference.__module__)
        return reference

    return register


def choice(name, points, answer, options, hints=()):
    """Register a `Choice`; ValueError if the answer is not one of the options."""
    validate.one_of(f"{name}: answer", answer, options)
    return _add(Choice(name, points, answer, options, hints), inspect.currentframe().f_back.f_globals["__name__"])


def _add(item, module):
    if NOTEBOOK_OF.get(item.name, module) != module:
        raise ValueError(f"{item.name}: expected a new name, received one that {NOTEBOOK_OF[item.name]} has; rename it")
    EXERCISES[item.name], NOTEBOOK_OF[item.name] = item, module
    return item


def plain(text):
    """An option as it is compared: case, spaces and a full stop do not matter."""
    return " ".join(str(text).lower().split()).rstrip(".")


def seed_of(name, student):
    """A seed from an exercise's name and whatever names a student."""
    digest = hashlib.sha256(f"{name}\n{student}".encode()).digest()
    return int.from_bytes(digest[:8], "little")
