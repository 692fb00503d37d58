"""What the oracle compares: named arrays in the order of computation, with their bounds and margins. NumPy alone.

    u        the unit roundoff of a dtype: half the distance from 1 to the next number
    bound    largest error of an array's element in units of u that rounding can explain; 0 means equal
    margin   how many u of forward rounding error it takes to flip a spike, or a neuron in or out of the window

Names inside a network are "BLOCK.u"; a single op's have no prefix. `walk` gives the order of computation.
"""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

BITS = {"float64": 53, "float32": 24, "tf32": 11, "float16": 11, "bfloat16": 8}  # of the significand
UNIT_ROUNDOFF = {name: 2.0**-bits for name, bits in BITS.items()}

FORWARD = ("width", "x", "u", "s", "v")  # of a neuron layer, in the order in which a forward pass computes them
BACKWARD = ("ds", "du", "dx")  # the same for the backward pass, which runs in reverse time
WINDOWED = ("rectangular", "leaky_relu")  # the surrogates that jump at the window's edge

_STEPS = 4  # codes per factor of 2
_LOWEST = -36  # log2 of the smallest bound that has a code


@dataclass(frozen=True)
class Reference:
    """The right answer for one case: every intermediate value and gradient in float64, each with its bound.

    Attributes
    ----------
    id : str
        The case's permanent id, or "own" for a user's network.
    conventions : dict
        Every field of Conventions, written out.
    meta : dict
        The op or network, surrogate, v_th, decay, T, the threshold of each block under "v_th", ...
    inputs : {name: ndarray}
        What the implementation gets.
    arrays : {name: ndarray}
        float64 values, in the order of computation.
    bounds : {name: ndarray}
        Of the same shapes, in units of the unit roundoff; 0 where rounding cannot change the value.
    margins : {name: ndarray}
        "BLOCK.s" and "BLOCK.window" ("s", "window" for an op): how many u it takes to flip. Infinite where nothing can.
    exact : bool
        Whether every value is exact in float32 and float64, so that all bounds are 0.
    source : object
        The float64 network that computed it, where that happened in this process; never stored.
    """

    id: str
    conventions: dict
    meta: dict
    inputs: dict
    arrays: dict
    bounds: dict
    margins: dict = field(default_factory=dict)
    exact: bool = False
    source: object = field(default=None, compare=False)

    def __repr__(self):
        return f"<Reference {self.id}: {', '.join(self.arrays)}>"

    def names(self):
        """Names of the arrays in the order of computation."""
        return list(self.arrays)

    def threshold(self, block):
        """V_th of this block, or of a single op's neurons; None for what has no neurons."""
        v_th = self.meta.get("v_th")
        return v_th.get(block) if isinstance(v_th, dict) else v_th


class Step(NamedTuple):
    """One stop of the walk through a computation: an array, or one timestep of it."""

    name: str
    t: int | None  # None: the array as a whole


def split_name(name):
    """("conv1", "u") of "conv1.u"; ("", "u") of "u"; a gradient, logits or loss belongs to no block."""
    head, dot, tail = name.rpartition(".")
    if not dot and tail in (*FORWARD, *BACKWARD):
        return "", tail
    if dot and tail in (*FORWARD, *BACKWARD) and not name.startswith("grad_"):
        return head, tail
    return None, name


def array_name(block, key):
    """The name of a block's array: "conv1.u" of ("conv1", "u"), "u" of ("", "u")."""
    return f"{block}.{key}" if block else key


def over_time(width, u):
    """kappa_t (T,) in the shape that broadcasts with u (T, ...)."""
    return np.reshape(width, (-1,) + (1,) * (u.ndim - 1))


def representable(a, dtype):
    """Elementwise: whether the values of `a` have this dtype's precision ("tf32", "bfloat16" included)."""
    fraction = np.frexp(np.asarray(a, np.float64))[0] * 2.0 ** BITS[dtype]
    return fraction == np.rint(fraction)


def fires(u, v_th, test):
    """s of u under the spike test ">=" or ">": 0.0 and 1.0."""
    return np.where(u >= v_th if test == ">=" else u > v_th, 1.0, 0.0)


def in_window(u, width, v_th, edge):
    """Where |u - V_th| is below kappa_t / 2, or with the edge "<=" not above it; u (T, ...), width (T,)."""
    distance, half = np.abs(u - v_th), over_time(width, u) / 2
    return distance <= half if edge == "<=" else distance < half


def walk(names, T):
    """Steps in the order of computation: per block forward in time, then per block backward in time, then weights.

    Parameters
    ----------
    names : iterable of str
        In the order of computation; those of one block's forward (or backward) pass stand together.
    T : int
        Timesteps.

    Returns
    -------
    list of Step
    """
    steps, names = [], list(names)
    i = 0
    while i < len(names):
        block, kind = split_name(names[i])
        if block is None or kind == "width":
            steps.append(Step(names[i], None))
            i += 1
            continue
        family = FORWARD if kind in FORWARD else BACKWARD
        group = []
        while i < len(names):
            other, kind = split_name(names[i])
            alone = block == "" and family is BACKWARD and names[i] == "grad_x"  # of an op: dx_t as du_t, per timestep
            if not alone and (other != block or kind not in family or kind == "width"):
                break
            group.append(names[i])
            i += 1
        times = range(T) if family is FORWARD else reversed(range(T))
        steps += [Step(name, t) for t in times for name in group]
    return steps


def gradient_name(name, arrays):
    """The array that `name` means: itself, or the gradient of a parameter given by its bare name, or None.

    A bare "x" or "side" is the input itself, not its gradient.
    """
    if name in arrays:
        return name
    if name in ("x", "side"):
        return None
    bare = name.removesuffix(".grad")
    return f"grad_{bare}" if f"grad_{bare}" in arrays else None


def encode_bounds(bound):
    """Bounds as uint8 codes of log2 in quarter steps, rounded up; 0 codes a bound of 0.

    Raises ValueError for a bound that is negative, not finite or above 2^27.5.

    Examples
    --------
    >>> decode_bounds(encode_bounds(np.array([0.0, 1.0, 1.1])))
    array([0.        , 1.        , 1.18920712])
    """
    bound = np.asarray(bound, np.float64)
    if not (np.isfinite(bound) & (bound >= 0)).all():
        raise ValueError("bounds: expected finite values >= 0, received others; check the case's values")
    with np.errstate(divide="ignore"):
        code = np.ceil(_STEPS * (np.log2(bound) - _LOWEST) - 1e-9) + 1
    code = np.where(bound > 0, np.maximum(code, 1), 0)
    if (code > 255).any():
        raise ValueError(f"bounds: expected at most 2^27.5, received {bound.max():.3g}; scale the case's values down")
    return code.astype(np.uint8)


def decode_bounds(code):
    """Bounds from `encode_bounds`: never below what was encoded, by at most a factor of 2^(1/4) above it."""
    code = np.asarray(code)
    if code.dtype != np.uint8:
        raise TypeError(f"bounds: expected uint8 codes, received {code.dtype}; pass what encode_bounds gave")
    return np.where(code > 0, np.exp2((code.astype(np.float64) - 1) / _STEPS + _LOWEST), 0.0)


def dtype_name(dtype):
    """ "float32", "float64", "bfloat16", "float16" or "tf32" of that name or NumPy dtype; ValueError for another."""
    try:
        name = str(dtype) if isinstance(dtype, str) or dtype is None else np.dtype(dtype).name
    except (TypeError, ValueError):
        name = repr(dtype)[:80]
    if name not in UNIT_ROUNDOFF:
        raise ValueError(f"dtype: expected one of {', '.join(UNIT_ROUNDOFF)}, received {name!r}; choose one")
    return name


def unit_roundoff(dtype):
    """u of one of these dtypes."""
    return UNIT_ROUNDOFF[dtype_name(dtype)]
