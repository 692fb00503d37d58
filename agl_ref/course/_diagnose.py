"""Judging an answer: run it on fresh inputs, compare, and say what is wrong."""

import numpy as np


def judge(exercise, answer, student):
    """(points, text) of a student's function."""
    for _, arguments in exercise.inputs(student):
        try:
            got, expected = answer(*arguments), exercise.reference(*arguments)
        except NotImplementedError:
            return 0, "Not answered yet."
        except Exception as error:
            return 0, f"It stops with {type(error).__name__}: {error}."
        if not np.allclose(np.array(got, float), np.array(expected), rtol=0, atol=exercise.tolerance):
            return 0, "The values are wrong."
    return exercise.points, "Right."
