"""Validation at the API's edge: every error says what was expected, what came and what to do.

Kernels validate nothing; the public wrappers call these first. Nothing is ever cast silently.
"""

import math
import numbers
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .conventions import Conventions

FLOATS = (np.dtype(np.float32), np.dtype(np.float64))


def float_array(name, x, min_ndim=1, dtype=None, finite=True):
    """`x` itself if it is a float32 or float64 array (of `dtype` if given), of at least `min_ndim` axes, finite."""
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name}: expected a NumPy array, received {type(x).__name__}; use np.asarray(..., np.float64)")
    unmasked(name, x)
    if x.dtype not in FLOATS:
        raise TypeError(
            f"{name}: expected float32 or float64, received {x.dtype}; convert it yourself with .astype(np.float64)"
        )
    if dtype is not None and x.dtype != dtype:
        raise TypeError(f"{name}: expected {np.dtype(dtype)}, received {x.dtype}; use one dtype for all arrays")
    if x.ndim < min_ndim:
        raise ValueError(f"{name}: expected at least {min_ndim} axes, received shape {x.shape}; add the missing axes")
    if x.size == 0:
        raise ValueError(f"{name}: expected at least one element on each axis, received shape {x.shape}; drop the call")
    if finite and not np.isfinite(x).all():
        raise ValueError(f"{name}: {first_not_finite(x)}; find out where it comes from")
    return x


def unmasked(name, x):
    """`x` itself, unless it is a masked array, whose mask NumPy's functions would drop."""
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(f"{name}: expected a plain array, received a masked one; use {name}.filled(value)")
    return x


def instance(name, value, kind, fix="pass one"):
    """`value` if it is a `kind`, a class or a tuple of classes."""
    if not isinstance(value, kind):
        names = " or ".join(
            "None" if each is type(None) else each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,))
        )
        raise TypeError(f"{name}: expected {names}, received {type(value).__name__}; {fix}")
    return value


def sequence(name, value, length=None, kind=None):
    """`value` as a tuple, if it is a list or tuple of `length` items, each a `kind`."""
    instance(name, value, (list, tuple), "pass a list or a tuple")
    if length is not None and len(value) != length:
        raise ValueError(f"{name}: expected {length} items, received {len(value)}; pass a list of that length")
    for i, item in enumerate(value if kind else ()):
        instance(f"{name}[{i}]", item, kind, "replace it")
    return tuple(value)


def mapping(name, value, kind=object):
    """`value` if it is a mapping by names whose values are each a `kind`."""
    instance(name, value, Mapping, "pass a dict")
    for key, item in value.items():
        instance(f"{name}[{key!r}]", item, kind)
    return value


def path(name, value):
    """`value` as a Path, if it is text or a path that can be one of a file."""
    text = os.fspath(value) if isinstance(value, os.PathLike) else value
    if not isinstance(text, str):
        raise TypeError(f"{name}: expected a path, received {type(value).__name__}; pass text or a pathlib.Path")
    if not text or "\0" in text:
        raise ValueError(f"{name}: expected a path, received {text!r}; name a file or a folder")
    return Path(text)


def iterator(name, value):
    """An iterator over `value`, if there is one."""
    try:
        return iter(value)
    except TypeError:
        raise TypeError(f"{name}: expected a sequence, received {type(value).__name__}; pass a list") from None


def boolean(name, value):
    """`value` as a bool; what is merely true or false, such as "no", is refused."""
    return bool(instance(name, value, (bool, np.bool_), "pass True or False"))


def cache_of(value, kind, forward, whole=True):
    """Refuse `value` unless it is the cache that `forward` returns; if `whole`, also one of a pass without a trace."""
    if not isinstance(value, kind):
        raise TypeError(
            f"cache: expected the {kind.__name__} that {forward} returned, received {type(value).__name__}; pass that"
        )
    if whole and value[0] is None:
        raise ValueError(
            f"cache: expected the {kind.__name__} that {forward} returned, received what a pass without a trace left of it; "
            "keep the trace"
        )


def cache_arrays(cache, shapes):
    """Refuse a cache, which may have been edited, unless its arrays have these shapes ({field: shape}), one dtype, no NaN.

    A kernel reads as far as one array's shape says, whatever another's is.
    """
    dtype = None
    for field, shape in shapes.items():
        array = float_array(f"cache.{field}", getattr(cache, field), dtype=dtype)
        same_shape(f"cache.{field}", array, shape, "the rest of the cache")
        dtype = array.dtype


def first_not_finite(x):
    """Text that says where the first NaN or infinity of `x` is."""
    index = tuple(int(i) for i in np.argwhere(~np.isfinite(x))[0])
    return f"expected finite values, received {x[index]} at index {index}"


def finite(name, value):
    """Refuse a NaN or an infinity anywhere in `value`: a number, an array, or mappings, lists and caches of them."""
    if hasattr(value, "_fields"):
        for field in value._fields:
            finite(f"{name}.{field}", getattr(value, field))
    elif hasattr(value, "items"):
        for key, item in value.items():
            finite(f"{name}[{key!r}]", item)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            finite(f"{name}[{i}]", item)
    elif isinstance(value, (float, np.ndarray, np.floating)) and not np.isfinite(x := np.asarray(value)).all():
        raise ValueError(f"{name}: {first_not_finite(x)}; find out where it comes from")


def same_shape(name, x, shape, like):
    """Refuse `x` unless it has exactly `shape`, which is that of `like`."""
    if x.shape != tuple(shape):
        raise ValueError(f"{name}: expected shape {tuple(shape)} (that of {like}), received {x.shape}; reshape it")


def gradient(dy, shape, dtype):
    """Refuse `dy` unless it is a finite array of the forward's y's shape and dtype."""
    float_array("dy", dy, dtype=dtype)
    same_shape("dy", dy, shape, "the forward's y")


def number(name, value, low=None, high=None, low_open=False, high_open=False, dtype=None):
    """`value` as a Python float inside the interval, or an error that names the interval.

    `dtype` is the one in which the number is used: there it must be inside too, and not be rounded to 0.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = unmasked(name, value)[()]
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (float, numbers.Real, np.floating)):  # float: quick
        raise TypeError(f"{name}: expected a number, received {str(value)[:80]!r}; pass a float")
    try:
        value = float(value)
    except OverflowError:
        value = np.inf

    def outside(value):
        return (
            not math.isfinite(value)
            or (low is not None and (value <= low if low_open else value < low))
            or (high is not None and (value >= high if high_open else value > high))
        )

    if dtype == np.float32 and not outside(value):
        with np.errstate(all="ignore"):
            used = float(np.float32(value))
        if outside(used) or (used == 0 != value):
            raise ValueError(f"{name}: expected a number that float32 can hold, received {value}, which is {used} there; "
                             "change it, or use float64")  # fmt: skip
    if outside(value):
        lo = "-inf" if low is None else low
        hi = "inf" if high is None else high
        open_low, open_high = low is None or low_open, high is None or high_open
        interval = f"{'(' if open_low else '['}{lo}, {hi}{')' if open_high else ']'}"
        raise ValueError(f"{name}: expected a finite number in {interval}, received {value}; change it")
    return value


def decay(value, conventions=None, dtype=None):
    """A leak factor in [0, 1] as a Python float. 1 is refused where the conventions scale the input by 1 - tau.

    So is what is below 1 and rounds to 1 in the dtype: a leak was meant.
    """
    value = number("decay", value, low=0, high=1)
    if value < 1:
        return number("decay", value, low=0, high=1, high_open=True, dtype=dtype)
    if conventions and conventions.input_scale == "1 - tau":
        raise ValueError(
            f"decay: expected a number in [0, 1) with input_scale '1 - tau', received {value}, of which 1 - tau is 0: no "
            "input would reach the neuron; use input_scale '1'"
        )
    return value


def conventions(value):
    """`value` if it is a Conventions."""
    if not isinstance(value, Conventions):
        raise TypeError(
            f"conventions: expected a Conventions, received {value!r}; use agl_ref.MPD_AGL or agl_ref.PRESETS[name]"
        )
    return value


def integer(name, value, low=1, high=2**31 - 1):
    """`value` as an int of at least `low` and at most `high`; None: of any size, as seeds are."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, numbers.Integral):
        raise TypeError(f"{name}: expected an integer, received {str(value)[:80]!r}; pass an int")
    if high is not None and value > high:
        raise ValueError(f"{name}: expected an integer of at most {high}, received a larger one; lower it")
    if value < low:
        raise ValueError(f"{name}: expected an integer >= {low}, received {value}; raise it")
    return int(value)


def one_of(name, value, allowed):
    """`value` if it is one of `allowed`."""
    if isinstance(value, bool) or not any(isinstance(value, type(each)) and value == each for each in allowed):
        raise ValueError(
            f"{name}: expected one of {', '.join(map(repr, allowed))}, received {str(value)[:80]!r}; choose one"
        )
    return value


def float_dtype(dtype):
    """np.dtype of `dtype`, which must be float32 or float64."""
    try:
        dtype = np.dtype("None" if dtype is None else dtype)  # NumPy takes None for float64
    except (TypeError, ValueError):
        raise TypeError(f"dtype: expected float32 or float64, received {dtype!r}; the default is float64") from None
    if dtype not in FLOATS:
        raise TypeError(f"dtype: expected float32 or float64, received {dtype}; the default is float64")
    return dtype


def labels(y, n, num_classes, T=None):
    """Class labels (N,) as int64, each in 0..num_classes-1. T timesteps in place of n tell that the axes were confused."""
    try:
        y = np.asarray(unmasked("labels", y))
    except ValueError:
        raise TypeError("labels: expected integers, received lists of several lengths; pass class numbers") from None
    if y.dtype.kind not in "iu":
        raise TypeError(f"labels: expected integers, received {y.dtype}; pass class numbers, not one-hot rows")
    if y.shape != (n,):
        first = y.shape == (T,)
        fix = (
            "arrays are (T, N, ...); if samples stand first in x, pass x.swapaxes(0, 1)"
            if first
            else "give one label for each sample"
        )
        raise ValueError(f"labels: expected shape ({n},), received {y.shape}; {fix}")
    if n and (y.min() < 0 or y.max() >= num_classes):
        bad = int(y.min() if y.min() < 0 else y.max())
        raise ValueError(
            f"labels: expected values 0..{num_classes - 1}, received {bad}; check num_classes or the labels' offset"
        )
    return y.astype(np.int64)
