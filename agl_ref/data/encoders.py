"""Encoders: still images (N, H, W, C) to the input of T timesteps (T, N, H, W, C).

Direct input repeats the image; rate input draws Bernoulli spikes; events are SIMULATED from a moving image.
"""

import numpy as np

from agl_ref import validate

ENCODINGS = ("direct", "rate", "events")
LOG_OFFSET = 1 / 255  # intensity="log": log(LOG_OFFSET + image), so that black has a logarithm


def check_images(name, x):
    """`x` itself if it is a finite, non-empty (N, H, W, C) array of uint8, float32 or float64."""
    validate.unmasked(name, x)
    if isinstance(x, np.ndarray) and x.dtype != np.uint8 and x.dtype not in validate.FLOATS:
        raise TypeError(f"{name}: expected uint8, float32 or float64, received {x.dtype}; convert it with .astype")
    if not isinstance(x, np.ndarray) or x.dtype != np.uint8:
        validate.float_array(name, x)
    if x.ndim != 4:
        raise ValueError(f"{name}: expected shape (N, H, W, C), received {x.shape}; add the channel axis last")
    if x.size == 0:
        raise ValueError(f"{name}: expected at least one image, received shape {x.shape}; drop the call")
    return x


def encode(x, T, how="direct", rng=None, threshold=0.1, intensity="linear", max_shift=3):
    """Images as the input of T timesteps.

    - "direct": the same image at every timestep. The result is a read-only view with stride 0 along time (T
      images cost the memory of one); copy it before writing to it.
    - "rate": independent Bernoulli spikes, 1 with the pixel's value as probability.
    - "events": SIMULATED change events. These are computed from still images and are not the recording of an
      event sensor: no noise, no refractory time, no sub-pixel motion, no microsecond timing. See
      `simulated_events`.

    Parameters
    ----------
    x : ndarray, (N, H, W, C), float32 or float64
        Finite; for "rate" and "events" in [0, 1], as `to_float` gives them.
    T : int, >= 1
    how : "direct", "rate" or "events"
    rng : numpy.random.Generator, or an integer >= 0 as seed
        Required by "rate" and "events". Seeds fix the result, whatever the dtype up to the rounding of the
        pixels.
    threshold, intensity, max_shift
        Of "events" alone.

    Returns
    -------
    ndarray, (T, N, H, W, C), or (T, N, H, W, 2) for "events", of x's dtype

    Raises
    ------
    TypeError, ValueError
        Wrong dtype, rank, range, name or T; no rng where one is required.
    """
    validate.one_of("how", how, ENCODINGS)
    T = validate.integer("T", T)
    if isinstance(x, np.ndarray) and x.dtype == np.uint8:
        raise TypeError("x: expected float32 or float64, received uint8; use to_float(x, dtype) first")
    x = check_images("x", x)
    rng = None if how == "direct" and rng is None else generator(rng)
    _check_events_options(threshold, intensity, max_shift)
    if how == "direct":
        return np.broadcast_to(x, (T, *x.shape))
    if how == "events":
        return simulated_events(x, T, rng, threshold, intensity, max_shift)
    _require_unit_interval(x)
    spikes = np.empty((T, *x.shape), x.dtype)
    for t in range(T):
        spikes[t] = rng.random(x.shape) < x  # draws are in [0, 1): 0 never fires, 1 always does
    return spikes


def simulated_events(x, T, rng, threshold=0.1, intensity="linear", max_shift=3):
    """SIMULATED change events of moving images; not data of an event sensor.

    Each image takes a random walk of whole pixels: frame 0 is the image itself, and from each of the T + 1
    frames to the next it moves by one of the eight neighbouring offsets. A walk that would leave max_shift
    pixels turns back; what comes into view repeats the image's border. With I_t the intensity of frame t, the
    mean over the channels,

        ON  (channel 0) = 1 where I_t - I_{t-1} >  threshold
        OFF (channel 1) = 1 where I_t - I_{t-1} < -threshold

    Parameters
    ----------
    x : ndarray, (N, H, W, C), float32 or float64 in [0, 1]
    T : int, >= 1
    rng : numpy.random.Generator, or an integer >= 0 as seed
    threshold : float, > 0
        Change of intensity, or of its natural logarithm, that must be exceeded.
    intensity : "linear" or "log"
        "log" compares log(1/255 + I), closer to a sensor's photoreceptor.
    max_shift : int, >= 1
        Largest displacement along each axis, pixels.

    Returns
    -------
    ndarray, (T, N, H, W, 2), of x's dtype, zeros and ones
    """
    T = validate.integer("T", T)
    validate.float_array("x", x)
    _require_unit_interval(check_images("x", x))
    _check_events_options(threshold, intensity, max_shift)
    m = max_shift
    rng = generator(rng)

    N, H, W, _ = x.shape
    light = x.mean(axis=3)
    light = np.log(light + light.dtype.type(LOG_OFFSET)) if intensity == "log" else light
    padded = np.pad(light, ((0, 0), (m, m), (m, m)), mode="edge")
    views = np.lib.stride_tricks.sliding_window_view(padded, (H, W), axis=(1, 2))  # (N, 2m + 1, 2m + 1, H, W)

    neighbours = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1) if (i, j) != (0, 0)])
    steps = neighbours[rng.integers(0, len(neighbours), size=(T, N))]
    shift = np.zeros((N, 2), np.int64)  # down, right
    before = light
    events = np.empty((T, N, H, W, 2), x.dtype)
    for t in range(T):
        turn = np.abs(shift + steps[t]) > m
        shift = shift + np.where(turn, -steps[t], steps[t])
        after = views[np.arange(N), m - shift[:, 0], m - shift[:, 1]]
        events[t, ..., 0] = after - before > threshold
        events[t, ..., 1] = after - before < -threshold
        before = after
    return events


def _check_events_options(threshold, intensity, max_shift):
    validate.number("threshold", threshold, low=0, low_open=True)
    validate.one_of("intensity", intensity, ("linear", "log"))
    validate.integer("max_shift", max_shift)


def _require_unit_interval(x):
    if x.min() < 0 or x.max() > 1:
        raise ValueError(f"x: expected pixels in [0, 1], received [{x.min()}, {x.max()}]; use to_float(x, dtype)")


def generator(rng):
    """`rng` itself if it is a Generator, or a new one from a seed."""
    if isinstance(rng, np.random.Generator):
        return rng
    if rng is None:
        raise TypeError(
            "rng: expected a numpy.random.Generator or a seed, received None; pass one, nothing is unseeded"
        )
    return np.random.default_rng(validate.integer("rng", rng, low=0, high=None))
