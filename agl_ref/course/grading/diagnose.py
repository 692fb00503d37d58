"""Judging an answer: run it on fresh inputs, compare, and say what is wrong without saying what is right.

    1. run      crashes, missing answers, arguments changed in place, results that differ from call to call
    2. form     None, type, number of values, shape, dtype, NaN            (form.py)
    3. values   the exercise's known mistakes, then relations such as a flipped sign (relations.py)

Tolerance. An entry is right if it is off by at most `tolerance` (1e-10) of the largest entry of the right result. In
float64 (eps 2.2e-16) a sum of 10^4 terms of that size, added in any order, is off by 2e-12 at most, and the smallest mistake
in an exercise's list is above 1e-6. float32 (eps 1.2e-7) has the bound 1e-4 and is accepted with a hint.
"""

import contextlib
import copy
import inspect
from typing import NamedTuple

import numpy as np

from . import relations
from .answer_process import quietly, what_stopped
from .form import describe, form_problem, values_of

FLOAT32_TOLERANCE = 1e-4


class Sample(NamedTuple):
    """One run of an answer. `got` holds one array per result, or None where its form is wrong."""

    why: str | None  # of an edge case
    arguments: tuple
    expected: tuple
    got: tuple
    problem: str | None  # crash or wrong form
    changed: str | None  # an argument changed in place


class _Stop(Exception):
    """The diagnosis is found: (text)."""


class Stopped(Exception):
    """An answer stopped in another process: (what stopped it)."""


def stops(error):
    """The sentence on what stopped an answer."""
    return f"It stops with {error if isinstance(error, Stopped) else what_stopped(error)}".rstrip(".") + "."


def judge(exercise, answer, student):
    """(points, text) of a student's function; raises nothing, whatever the function does."""
    try:
        _callable(exercise, answer)
        samples = [_sample(exercise, answer, *inputs) for inputs in exercise.inputs(student)]
        right = [[_right(exercise, s, k) for s in samples] for k in range(len(exercise.outputs))]
        shares = [_share(flags, [s.why is None for s in samples]) for flags in right]
        points = np.floor(2 * exercise.points * np.mean(shares)) / 2
        if changed := next((s.changed for s in samples if s.changed), None):
            known = _known_mistake(exercise, samples, right, shares.index(min(shares))) if points == 0 else None
            return np.floor(points) / 2, " ".join(filter(None, (changed, known)))
        if usual := next((s.problem for s in samples if s.why is None and s.problem), None):
            return points, usual
        if (same := _varies(answer, samples[0])) is not None:
            return 0, same
        if min(shares) == 0:
            return points, _values(exercise, samples, right, shares)
        if edge := next((s for s in samples if s.problem), None):
            return points, f"It is right on ordinary inputs, but not in an edge case, {edge.why}. {edge.problem}"
        if min(shares) < 1:
            return points, _values(exercise, samples, right, shares)
        if any(value.dtype == np.float32 for s in samples for value in s.got):
            return exercise.points, ("Right. Your result is float32, so it was compared to four digits only; float64 is the "
                                     "default here.")  # fmt: skip
        return exercise.points, "Right."
    except _Stop as stop:
        return 0, str(stop)


def _share(flags, ordinary):
    """1 for a result right on every input, 1/2 for one wrong on edge cases alone, else 0."""
    if all(flags):
        return 1
    return 0.5 if all(flag for flag, usual in zip(flags, ordinary, strict=True) if usual) else 0


def _callable(exercise, answer):
    if answer is None or answer is Ellipsis:
        raise _Stop("Not answered yet.")
    if not callable(answer):
        raise _Stop(f"Expected the function itself, as in check({exercise.name!r}, {exercise.name}), received "
                    f"{describe(answer)}.")  # fmt: skip
    try:
        signature = inspect.signature(answer)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    try:
        signature.bind(*exercise.parameters)
    except TypeError:
        raise _Stop(f"It should take ({', '.join(exercise.parameters)}); yours takes {signature}.") from None
    names = tuple(signature.parameters)
    if names != exercise.parameters and sorted(names) == sorted(exercise.parameters):
        raise _Stop(f"The arguments should come in the order ({', '.join(exercise.parameters)}); yours come as "
                    f"({', '.join(names)}).")  # fmt: skip


def _sample(exercise, answer, why, arguments):
    """Run the answer on one sample of inputs."""
    with np.errstate(all="ignore"):
        expected = _as_tuple(exercise.reference(*copy.deepcopy(arguments)))
    nothing = (None,) * len(expected)
    result, failed, changed = _run(exercise, answer, arguments)
    if failed is not None:
        if why is None:
            raise _Stop(failed)
        return Sample(why, arguments, expected, nothing, failed, changed)
    got = values_of(exercise, result, expected)
    if isinstance(got, str):
        return Sample(why, arguments, expected, nothing, got, changed)
    forms = [form_problem(exercise, *item, arguments) for item in zip(exercise.outputs, got, expected, strict=True)]
    got = tuple(None if form else np.array(value) for form, value in zip(forms, got, strict=True))
    return Sample(why, arguments, expected, got, next(filter(None, forms), None), changed)


def _as_tuple(result):
    return tuple(np.asarray(r, float) for r in result) if isinstance(result, tuple) else (np.asarray(result, float),)


def _run(exercise, answer, arguments):
    """(result, what stopped it, what it changed), the last two None where nothing did."""
    given = copy.deepcopy(arguments)
    try:
        result = quietly(answer, given)
    except KeyboardInterrupt:
        raise
    except NotImplementedError:
        return None, "Not answered yet.", None
    except BaseException as error:  # sys.exit in an answer, too
        had = ", ".join(f"{n} {describe(a)}" for n, a in zip(exercise.parameters, arguments, strict=True))
        return None, f"{stops(error)} Its arguments: {had}.", None
    for name, before, after in zip(exercise.parameters, arguments, given, strict=True):
        if isinstance(before, np.ndarray) and not np.array_equal(before, after):
            lost = "has lost the old values"
            if np.shape(before) == np.shape(after) and np.allclose(before, after, rtol=1e-9, atol=1e-9):
                lost = "has not quite the old values: adding and subtracting rounds"
            return result, None, (f"It changes its argument {name} in place, so whoever called it {lost}. "
                                  f"Work on a new array, for example {name}.copy().")  # fmt: skip
    return result, None, None


def _varies(answer, sample):
    """Text if a second call with the same inputs gives another result."""
    with contextlib.suppress(Exception):
        again = quietly(answer, copy.deepcopy(sample.arguments))
        values = again if len(sample.got) > 1 else (again,)
        if all(np.array_equal(a, b) for a, b in zip(values, sample.got, strict=True)):
            return None
    return ("A second call with the same inputs gives another result: does it draw random numbers, or keep something in a "
            "global variable?")  # fmt: skip


def _close(exercise, got, expected):
    return relations.close(got, expected, exercise.tolerance if got.dtype != np.float32 else FLOAT32_TOLERANCE)


def _right(exercise, sample, k):
    return sample.got[k] is not None and bool(_close(exercise, sample.got[k], sample.expected[k]).all())


def _values(exercise, samples, right, shares):
    """Text on wrong values: a known mistake, a relation to the right values, or where they are wrong."""
    k = next(k for k, share in enumerate(shares) if share < 1)
    name = exercise.outputs[k]
    text = _known_mistake(exercise, samples, right, k)
    if text is None:
        wrong = [s for s, flag in zip(samples, right[k], strict=True) if not flag]
        if shares[k] == 0.5:
            text = f"{name} is right on ordinary inputs, but not in the edge case: {wrong[0].why}."
        else:
            usual = [(s.arguments, s.got[k], s.expected[k]) for s in samples if s.why is None]
            text = relations.relation(exercise, name, usual)
    good = [name for name, share in zip(exercise.outputs, shares, strict=True) if share == 1]
    return text + (f" Right: {', '.join(good)}." if good else "")


def _known_mistake(exercise, samples, right, k):
    """Text of the mistake that gives what the student got: in all results if there is one, else in result k."""
    matches = []
    for text, wrong in exercise.mistakes.items():
        agree = np.ones(len(exercise.outputs), bool)
        differ = False
        for s in samples:
            with np.errstate(all="ignore"):
                values = _as_tuple(wrong(*copy.deepcopy(s.arguments)))
            for j, value in enumerate(values):
                tells = not relations.close(value, s.expected[j], exercise.tolerance).all()
                differ |= j == k and bool(tells)
                agree[j] &= s.got[j] is None or bool(_close(exercise, s.got[j], value).all())
        if differ and agree[k]:
            matches.append((not agree.all(), text))
    return f"Your answer is what you get if {min(matches, key=lambda m: m[0])[1]}." if matches else None
