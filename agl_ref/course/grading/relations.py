"""How wrong values relate to the right ones: a sign, a factor, an order, or the place where they go wrong."""

import itertools

import numpy as np

LOOSE = 1e-6  # relations hold to less than the tolerance: they only choose a sentence
NEARLY = 1e-5
ROUGHLY = 1e-2


def close(got, expected, tolerance):
    """Entry by entry: off by at most `tolerance` of the largest expected entry."""
    if got.shape != expected.shape:
        return np.zeros(1, bool)
    scale = max(float(np.abs(expected).max(initial=0.0)), 1e-300)
    with np.errstate(all="ignore"):
        return np.abs(got - expected) <= tolerance * scale


def _same(got, expected):
    return bool(close(got, expected, LOOSE).all())


def relation(exercise, name, samples):
    """A sentence or two on result `name`. samples: list of (arguments, got, expected), got None where its form is wrong."""
    samples = [s for s in samples if s[1] is not None]
    if all(not got.any() for _, got, _ in samples):
        return f"{name} is zero everywhere."
    pairs = [(got, expected) for _, got, expected in samples]
    if all(close(got, expected, NEARLY).all() for got, expected in pairs):
        return (f"{name} is right to five digits, but not to more: is something rounded, stopped early, or computed in "
                "float32 on the way?")  # fmt: skip
    if all(expected.size == 1 and close(got, expected, ROUGHLY).all() for got, expected in pairs):
        return f"{name} is right to two digits, but not to more: does a search stop too early?"
    for found in (_sign(pairs), _factor(exercise, samples), _order(exercise, name, pairs)):
        if found:
            return f"{name} {found}."
    _, got, expected = next(s for s in samples if not close(s[1], s[2], NEARLY).all())
    good = close(got, expected, LOOSE)
    border = name in exercise.border and min(good.shape[1:3]) >= 3 and good[:, 1:-1, 1:-1].all()
    inside = "right inside the image and wrong on its border: look at the padding" if border else None
    for found in (_time(exercise, name, good, got), _first_only(exercise, name, pairs), inside):
        if found:
            return f"{name} is {found}{'' if found.endswith('?') else '.'}{_places(exercise, name, samples)}"
    return f"{name} is {_where(good)}{_places(exercise, name, samples)}"


def _sign(pairs):
    if all(_same(-got, expected) for got, expected in pairs):
        return "has the wrong sign"
    if all(_same(np.abs(got), np.abs(expected)) for got, expected in pairs):
        return "has the right size but, in some places, the wrong sign"
    return None


def _factor(exercise, samples):
    """The constant factor between result and right values, by its name if the inputs explain it."""
    factors = []
    for _, got, expected in samples:
        norm = float((expected * expected).sum())
        factor = float((got * expected).sum()) / norm if norm else 0.0
        if factor == 0 or not _same(got / factor, expected):
            return None
        factors.append(factor)
    named = [_named_factors(exercise, arguments) for arguments, _, _ in samples]
    for name in named[0]:
        values = [candidates.get(name, np.nan) for candidates in named]
        for sign, word in ((1, ""), (-1, "minus ")):
            if np.allclose(factors, sign * np.array(values), rtol=1e-7, atol=0):
                return f"is {word}{name} times the right result"
    if samples[0][2].size > 1 or (len(factors) > 1 and np.ptp(factors) < LOOSE * abs(factors[0])):
        return "is right but for a constant factor"
    return None  # two numbers always have a ratio


def _named_factors(exercise, arguments):
    """{name: value} of the factors that people forget or add."""
    named = {"2": 2.0, "1/2": 0.5, "4": 4.0, "1/4": 0.25}
    for name, a in zip(exercise.parameters, arguments, strict=True):
        if isinstance(a, np.ndarray):
            for axis, length in enumerate(a.shape):
                named |= {f"the length of axis {axis} of {name}": length,
                          f"1 over the length of axis {axis} of {name}": 1 / length}  # fmt: skip
            if a.ndim > 1:
                first = a.shape[0] * a.shape[1]
                named |= {f"the number of entries of {name}": a.size, f"1 over the number of entries of {name}": 1 / a.size,
                          f"the product of the first two axes of {name}": first,
                          f"1 over the product of the first two axes of {name}": 1 / first}  # fmt: skip
        elif isinstance(a, int | float) and a not in (0, 1):
            named |= {name: a, f"1/{name}": 1 / a, f"2 {name}": 2 * a, f"{name}/2": a / 2, f"2/{name}": 2 / a,
                      f"1/(2 {name})": 0.5 / a, f"{name}^2": a * a, f"1/{name}^2": 1 / (a * a),
                      f"(1 - {name})": 1 - a, f"1/(1 - {name})": 1 / (1 - a), f"sqrt({name})": abs(a) ** 0.5}  # fmt: skip
    return {name: float(value) for name, value in named.items() if value not in (0, 1)}


def _order(exercise, name, pairs):
    """Axes or time in another order."""
    dims = pairs[0][1].ndim
    if name in exercise.time and all(_same(got[::-1], expected) for got, expected in pairs):
        return "is reversed in time: its first timestep should be the last"
    if dims > 1:
        for axes in itertools.permutations(range(dims)):
            if axes != tuple(range(dims)) and all(_same(got.transpose(axes), expected) for got, expected in pairs):
                return "is transposed"
    if name not in exercise.time and dims:
        for axis in range(dims):
            if all(_same(np.flip(got, axis), expected) for got, expected in pairs):
                return f"is reversed along axis {axis}"
    if name in exercise.time:
        if all(_same(got, np.broadcast_to(got[0], got.shape)) and not _same(expected, expected[:1] + 0 * expected)
               for got, expected in pairs):  # fmt: skip
            return "is the same at every timestep: is it one array, T times, that each timestep overwrites? Keep copies"
        if all(len(got) > 1 and _same(got[1:], expected[:-1]) for got, expected in pairs):
            return "is one timestep late: at t it has what belongs at t - 1"
        if all(len(got) > 1 and _same(got[:-1], expected[1:]) for got, expected in pairs):
            return "is one timestep early: at t it has what belongs at t + 1"
    return None


def _time(exercise, name, good, got):
    """The timestep at which it goes wrong, seen from the end that is right."""
    if name not in exercise.time:
        return None
    steps = good.reshape(len(good), -1).all(axis=1)
    T, wrong = len(steps), np.flatnonzero(~steps)
    if len(wrong) == T:
        return None
    first, last = int(wrong[0]) + 1, int(wrong[-1]) + 1
    if last == 1 and not got[0].any():
        return "0 at t = 1 and right elsewhere: a loop over range(T - 1, 0, -1) stops before the first timestep"
    if len(wrong) == 1 and 1 < first < T:
        return f"wrong at t = {first} alone, of T = {T}"
    if first > 1 and (last == T or first - 1 >= T - last):
        return f"right up to t = {first - 1} and first wrong at t = {first} of T = {T}"
    return (f"right at the end: going backwards from t = {T} it is first wrong at t = {last}"
            f"{' (the first timestep, which has none before it)' if last == 1 else ''}")  # fmt: skip


def _first_only(exercise, name, pairs):
    axis = 1 if name in exercise.time else 0
    several = [(got, expected) for got, expected in pairs if got.ndim > axis and got.shape[axis] > 1]
    if not several:
        return None
    for got, expected in several:
        good = np.moveaxis(close(got, expected, LOOSE), axis, 0)
        if not good[0].all() or any(row.all() for row in good[1:]):
            return None
    what = "neuron or sample" if name in exercise.time else "row" if name not in exercise.border else "sample"
    return f"right for the first {what} only: does the rest get its turn?"


def _places(exercise, name, samples):
    """Where all wrong entries lie, if the exercise names the place; over time only those where the mistake begins."""
    for text, place in exercise.places.items():
        inside = True
        for arguments, got, expected in samples:
            wrong, there = ~close(got, expected, LOOSE), np.asarray(place(*arguments))
            if there.shape != wrong.shape:
                return ""
            if name in exercise.time:
                steps = wrong.reshape(len(wrong), -1).any(axis=1)
                first = (len(steps) - 1 - np.argmax(steps[::-1])) if exercise.backwards else np.argmax(steps)
                wrong, there = wrong[first], there[first]
            inside &= bool((there | ~wrong).all()) and not there.all()
        if inside:
            return f" {'It begins' if name in exercise.time else 'All of that is'} {text}."
    return ""


def _where(good):
    """How many entries are wrong, and the first."""
    if good.ndim == 0:
        return "another number."
    index = tuple(int(i) for i in np.argwhere(~good)[0])
    place = ", ".join(map(str, index))
    return f"wrong in {int((~good).sum())} of {good.size} entries, the first at index [{place}] (counting from 0)."
