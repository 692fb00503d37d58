"""Spike times on smooth random manifolds: a task in which only time tells the classes apart, drawn by seed.

Each class is a random smooth curve (or surface) in the space of spike times: a sample is a point of it, and its coordinates
say when each unit fires, once. So every unit has the same spike count in every sample. Source: Zenke and Vogels, "The
Remarkable Robustness of Surrogate Gradient Learning for Instilling Complex Function in Spiking Neural Networks", Neural
Computation 33, 2021, doi 10.1162/neco_a_01367; their code is the repository fzenke/randman.
"""

import inspect

import numpy as np

from agl_ref import validate

from .events import EventDataset, Recordings

TICKS = 1000  # of the clock; a spike is at one of them
SMALLEST = 1e-3  # the series ends with the last term whose weight is at least this
LARGEST_SERIES = 1000


def randman(classes=10, units=20, dimension=1, alpha=2.0, train=100, test=50, seed=0):
    """Spike times on one smooth random manifold for each class.

    The time of unit i is, for a point x that is drawn evenly from [0, 1]^dimension, and up to the scaling below,

        f_i(x) = prod over d of sum over k of A sin(2 pi (k B x_d + C)) / k^alpha

    with A, B, C drawn evenly from [0, 1] for each class, i, d and k, and k up to the last weight 1 / k^alpha of at least
    1/1000 (or k = 1000). Over the samples of a class each unit's times are scaled to 0..1, and then to 0..999 ticks.

    Parameters
    ----------
    classes, units : int
    dimension : int
        Of the manifolds.
    alpha : float
        Smoothness: the larger, the easier the task.
    train, test : int
        Samples of each class.
    seed : int

    Returns
    -------
    EventDataset with recordings of a sensor (1, units), one channel, and one clock; each unit fires once in each

    Examples
    --------
    >>> dataset = randman(classes=2, units=5, train=3, test=1)
    >>> dataset.x_train.frames(T=4).shape, dataset.x_train.frames(T=4).sum(axis=0)[0, 0, :, 0].tolist()
    ((4, 6, 1, 5, 1), [1.0, 1.0, 1.0, 1.0, 1.0])
    """
    validate.integer("classes", classes, low=2)
    for name, value in (("units", units), ("dimension", dimension), ("train", train), ("test", test)):
        validate.integer(name, value)
    validate.number("alpha", alpha, low=0, low_open=True)
    rng = np.random.default_rng(validate.integer("seed", seed, low=0, high=None))
    k = np.arange(1, 1 + int(min(SMALLEST ** (-1 / alpha) * (1 + 1e-12), LARGEST_SERIES)))
    ticks = np.empty((classes, train + test, units), np.int64)
    for manifold in ticks:
        A, B, C = rng.random((3, units, dimension, len(k)))
        x = rng.random((train + test, 1, dimension))
        waves = sum(
            A[..., i] * np.sin(2 * np.pi * (k[i] * B[..., i] * x + C[..., i])) / k[i] ** alpha for i in range(len(k))
        )
        f = waves.prod(axis=2)
        low, high = f.min(axis=0), f.max(axis=0)
        manifold[:] = (f - low) / np.where(high > low, high - low, 1.0) * (TICKS - 1)
    parts = []
    for part in (ticks[:, :train], ticks[:, train:]):
        recordings = Recordings(map(_events, part.reshape(-1, units)), (1, units), channels=1, duration=TICKS)
        parts += [recordings, np.repeat(np.arange(classes), part.shape[1])]
    return EventDataset("randman", *parts, classes)


def _events(ticks):
    """One spike of each unit, in the order of time."""
    events = np.zeros(len(ticks), [("x", np.int64), ("y", np.int64), ("t", np.int64)])
    events["x"] = np.argsort(ticks, kind="stable")
    events["t"] = ticks[events["x"]]
    return events


def named(text):
    """The data set of "randman", or of "randman:alpha=1,units=40": any of the options, with commas."""
    options = {}
    for option in filter(None, text.partition(":")[2].split(",")):
        name, _, value = option.partition("=")
        if name in options:
            raise ValueError(f"{text}: expected each option once, received {name} twice; keep one")
        try:
            options[name] = float(value) if name == "alpha" else int(value)
        except ValueError:
            raise ValueError(f"{text}: expected {name} as a number, received {value!r}; write e.g. {name}=2") from None
    known = inspect.signature(randman).parameters
    unknown = [name for name in options if name not in known]
    if unknown:
        raise ValueError(f"{text}: expected options among {', '.join(known)}, received {unknown[0]!r}; choose one")
    return randman(**options)
