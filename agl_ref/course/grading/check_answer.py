"""check: the points of an answer, and what is wrong with it, without giving the right one away."""

import os

from agl_ref.course.exercises import find
from agl_ref.course.exercises.definition import Choice, plain

from .answer_process import quietly
from .diagnose import judge, stops


def check(name, answer, student=None):
    """Try a student's answer on fresh inputs, print what is wrong with it, and return the points it earns.

    The right values are never printed, nor is anything that the answer itself prints.

    Parameters
    ----------
    name : str
        The exercise.
    answer : callable, or str
        The function that the student wrote; for a question, the chosen option.
    student : str or int, optional
        Whatever names the student: it seeds the inputs. By default the environment variable AGL_STUDENT, else the
        inputs are the same for everyone and on every run.

    Returns
    -------
    int or float
        Points: all for an answer that is right on every input, half for one that is wrong on edge cases alone (T = 1, a
        potential exactly at the threshold) or that changes its arguments, and of an exercise with several results
        the share of those that are right, in steps of 1/2. nbgrader takes the number as the score where the call is the
        last line of a graded cell.

    Raises
    ------
    ValueError
        For a name that is no exercise's. A wrong, missing or crashing answer raises nothing.
    """
    item = find(name)
    student = os.environ.get("AGL_STUDENT", "") if student is None else student
    points, text = mark(item, answer, student)
    print(f"{name}: {points:g} of {item.points:g} point{'s' * (item.points != 1)}. {text}")
    return points


def mark(item, answer, student):
    """(points, text) of an answer; raises nothing, whatever the answer does."""
    points, text = _of_choice(item, answer) if isinstance(item, Choice) else judge(item, answer, student)
    return plain_number(points), text


def plain_number(points):
    """An int if it is whole, else a float: what nbgrader and JSON can read."""
    return int(points) if points == int(points) else float(points)


def _of_choice(item, answer):
    """(points, text) of a chosen option, or of a function that returns it; case and spaces do not matter."""
    if callable(answer):
        try:
            answer = quietly(answer, ())
        except NotImplementedError:
            answer = None
        except Exception as error:
            return 0, stops(error)
    all_options = "; ".join(repr(option) for option in item.options)
    if answer is None or answer is Ellipsis or (isinstance(answer, str) and not answer.strip()):
        return 0, f"Not answered yet: choose one of {all_options}."
    options = {plain(option): option for option in item.options}
    if not isinstance(answer, str) or plain(answer) not in options:
        return 0, f"That is not one of the options: {all_options}."
    chosen = options[plain(answer)]
    return (item.points if chosen == item.answer else 0), item.options[chosen]
