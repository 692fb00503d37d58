"""Numbers for the golden cases that no library's version can change: SplitMix64 from a name, in integers.

Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014. Every draw is an integer over a power of
two, so that it is the same on every machine.
"""

import hashlib

import numpy as np


def to_significand(a, bits):
    """`a` rounded to this many significand bits, to nearest."""
    fraction, exponent = np.frexp(np.asarray(a, np.float64))
    return np.ldexp(np.rint(np.ldexp(fraction, bits)), exponent - bits)


class Draw:
    """A stream of numbers that depends on `key` alone.

    Examples
    --------
    >>> Draw("example").integers(0, 10, (4,))
    array([5, 8, 1, 1])
    """

    def __init__(self, key):
        self._state = np.uint64(int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little"))
        self._drawn = 0

    def _words(self, count):
        """The next `count` 64-bit words."""
        step = np.arange(self._drawn + 1, self._drawn + count + 1, dtype=np.uint64)
        self._drawn += count
        with np.errstate(over="ignore"):
            z = self._state + step * np.uint64(0x9E3779B97F4A7C15)
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))

    def integers(self, low, high, shape):
        """Integers in [low, high)."""
        words = self._words(int(np.prod(shape))) >> np.uint64(11)
        return (words % np.uint64(high - low)).astype(np.int64).reshape(shape) + low

    def dyadic(self, low, high, step, shape):
        """Multiples of `step`, a power of two, in [low, high]."""
        return self.integers(round(low / step), round(high / step) + 1, shape) * float(step)

    def normal(self, mean, std, shape, bits=24):
        """The sum of twelve uniform numbers, so close to normal, as floats of `bits` significand bits."""
        words = self._words(12 * int(np.prod(shape))).reshape(12, *shape) >> np.uint64(48)
        centred = words.astype(np.int64).sum(axis=0) * 2 - 12 * 65535
        return to_significand(mean + std * (centred / 131072.0), bits)

    def spikes(self, share, shape):
        """Zeros and ones; `share` of them ones, on average."""
        return (self.integers(0, 1024, shape) < round(1024 * share)).astype(np.float64)
