"""What the op tests share: telling cases, an assertion that they are, and comparisons that say where.

A telling case fires, resets a neuron that integrates on, and has neurons inside and outside the surrogate's
window: without that, a test compares zeros with zeros.
"""

import os
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from twins import naive

from agl_ref import files

DTYPES = (np.float32, np.float64)


# --- comparisons ----------------------------------------------------------------------------------


def assert_close(received, expected, tolerance, magnitude=None, name="array"):
    """|received - expected| <= tolerance * largest |expected| (or * magnitude), element by element."""
    received, expected = np.asarray(received), np.asarray(expected, np.float64)
    assert received.shape == expected.shape, f"{name}: shape {received.shape}, expected {expected.shape}"
    allowed = tolerance * (np.max(np.abs(expected)) if magnitude is None else np.asarray(magnitude))
    error = np.abs(received.astype(np.float64) - expected)
    if not (error <= allowed).all():  # also catches NaN
        at = np.unravel_index(np.argmax(error - allowed), error.shape)
        pytest.fail(
            f"{name}{[int(i) for i in at]}: received {received[at]!r}, expected {expected[at]!r}, "
            f"error {error[at]:.3g} > {np.broadcast_to(allowed, error.shape)[at]:.3g}; "
            f"{int((error > allowed).sum())} of {error.size} elements differ"
        )


def assert_equal(received, expected, name="array"):
    """Every value equal, no tolerance."""
    assert_close(received, expected, 0.0, magnitude=0.0, name=name)


def assert_same_bits(received, expected, name="array"):
    """Same dtype, shape and bytes, so that -0.0 and 0.0 differ."""
    received, expected = np.asarray(received), np.asarray(expected)
    assert (received.dtype, received.shape) == (expected.dtype, expected.shape), name
    if received.tobytes() != expected.tobytes():
        unsigned = f"u{received.dtype.itemsize}"
        bits = [np.ascontiguousarray(a).view(unsigned).ravel() for a in (received, expected)]
        at = int(np.argmax(bits[0] != bits[1]))
        pytest.fail(
            f"{name} at flat index {at}: {received.ravel()[at]!r} and {expected.ravel()[at]!r}; "
            f"{int((bits[0] != bits[1]).sum())} of {received.size} elements have other bits"
        )


def rounding(dtype, operations):
    """Relative error bound of a chain of n roundings: n u / (1 - n u), u half a unit in the last place."""
    unit = operations * float(np.finfo(dtype).eps) / 2
    return unit / (1 - unit)


def assert_refused(call, *words):
    """`call` raises ValueError or TypeError that says what was expected, what was received, and `words`."""
    with pytest.raises((ValueError, TypeError)) as refusal:
        call()
    message = str(refusal.value)
    for word in ("expected", "received", *words):
        assert word in message, f"{word!r} is not in the message: {message}"


def central_difference(f, array, step):
    """d f / d array, one element at a time; `array` is changed in place and restored."""
    slope = np.zeros(array.shape)
    for index in np.ndindex(*array.shape):
        kept = array[index]
        array[index] = kept + step
        above, right = f(), array[index]
        array[index] = kept - step
        below, left = f(), array[index]
        array[index] = kept
        slope[index] = (above - below) / (right - left)
    return slope


# --- telling cases of spiking neurons -------------------------------------------------------------


def assert_case_is_telling(u, width, v_th, resets=True):
    """Some neurons fire and some do not; some are inside the window and some outside; with `resets`, one that
    fired is inside the window later, so that its later gradient passes the reset. T = 1: resets=False.
    """
    T = len(u)
    u = np.reshape(u, (T, -1)).astype(np.float64)
    z = u - v_th
    fired = z >= 0
    inside = np.abs(z) < np.reshape(width, (T, 1)) / 2
    assert fired.any(), "no neuron fires"
    assert not fired.all(), "every neuron fires at every timestep"
    assert inside.any(), "no neuron is inside the window"
    assert not inside.all(), "every neuron is inside the window"
    if resets:
        later = np.cumsum(inside[::-1], axis=0)[::-1] > 0
        assert (fired[:-1] & later[1:]).any(), "no neuron that fired is inside the window later"


def assert_clear_of(z, width, edges, margin):
    """No z / width within `margin` of an edge: the case hangs on no rounding error and no kink of S."""
    r = np.asarray(z) / np.reshape(width, (-1,) + (1,) * (np.ndim(z) - 1))
    for edge in edges:
        assert np.min(np.abs(r - edge)) > margin, f"a neuron is within {margin} of z / width = {edge}"


@dataclass
class LIFCase:
    """Inputs of a neuron layer: x, ds (T, ...), width (T,), decay, v_th; u is where x steers to."""

    x: np.ndarray
    ds: np.ndarray
    width: np.ndarray
    decay: float
    v_th: float
    u: np.ndarray

    def astype(self, dtype):
        """The case with every number rounded to `dtype`."""
        return replace(
            self,
            x=self.x.astype(dtype),
            ds=self.ds.astype(dtype),
            width=self.width.astype(dtype),
            decay=float(dtype(self.decay)),
            v_th=float(dtype(self.v_th)),
        )


# z / width for each role; the ranges keep clear of the threshold and of every kink of the family (0, 1/2, 1)
ROLES = ((0.1, 0.4), (-1.6, -1.1), (0.6, 0.9), (-0.4, -0.1))


def lif_case(T, shape, seed, c, decay=None, v_th=None, relaxed=None):
    """A telling case: u is chosen neuron by neuron and timestep by timestep, and x is solved for.

    The first four neurons go through the roles in turn, the others at random. `relaxed` names the surrogate
    whose primitive replaces the step. Telling needs 3 neurons if 1 < T < 4, else T n >= 3.
    """
    rng = np.random.default_rng(seed)
    n = int(np.prod(shape))
    decay = float(rng.choice([0.0, 0.2, 0.5, 0.75])) if decay is None else decay
    v_th = float(rng.choice([0.3, 0.5, 1.0])) if v_th is None else v_th
    width = rng.uniform(0.5, 1.25, T)
    role = (np.arange(T)[:, None] + np.arange(n)) % len(ROLES)
    role[:, len(ROLES) :] = rng.integers(0, len(ROLES), (T, max(0, n - len(ROLES))))
    low, high = np.array(ROLES)[role].transpose(2, 0, 1)
    u = v_th + rng.uniform(low, high) * width[:, None]
    x = np.zeros((T, n))
    v, late = np.zeros(n), np.zeros(n)
    gain = 1.0 if c.input_scale == "1" else 1 - decay
    for t in range(T):
        x[t] = (u[t] + late - decay * v) / gain
        if relaxed is None:
            s = (u[t] >= v_th).astype(float)
        else:
            s = [naive.surrogate_primitive(z, width[t], relaxed, c) for z in u[t] - v_th]
        v = naive.after_reset(u[t], np.asarray(s), v_th, c)
        late = v_th * np.asarray(s) if c.reset == "soft late" else late
    ds = rng.uniform(0.25, 1, (T, n)) * rng.choice([-1, 1], (T, n))
    full = (T, *shape)
    return LIFCase(x.reshape(full), ds.reshape(full), width, decay, v_th, u.reshape(full))


def dyadic(rng, shape, low, high, per_unit):
    """Random multiples of 1 / per_unit in [low, high]."""
    return rng.integers(low * per_unit, high * per_unit + 1, shape) / per_unit


# --- other processes ------------------------------------------------------------------------------


def bits_in_subprocess(folder, what, **environment):
    """{name: array} of what tests/bits.py computes for `what` under the given environment variables."""
    out = Path(folder) / ("-".join([what, *environment.values()]) + ".npz")
    script = Path(__file__).with_name("bits.py")
    done = subprocess.run(
        [sys.executable, str(script), what, str(out)],
        env={**os.environ, **environment},
        cwd=script.parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with np.load(out) as arrays:
        return dict(arrays)


def assert_all_same_bits(received, expected):
    """The same names with the same bits."""
    assert sorted(received) == sorted(expected)
    for name in sorted(received):
        assert_same_bits(received[name], expected[name], name)


# --- figures --------------------------------------------------------------------------------------


def save_undrawn(monkeypatch):
    """Figures are saved as files of one word."""
    from agl_ref.train import plots  # here: most tests need no Matplotlib

    monkeypatch.setattr(plots, "save", lambda figure, path: files.write_atomically(path, b"undrawn"))
