"""How large rounding errors can be: elementary errors of sums and products, and random rounding for the backward pass.

All sizes are in units of the unit roundoff u, to first order (the second order is smaller by n u).

A sum of n nonzero terms with partial sums |S_k| <= P is off by at most u (n - 1) P, in any order, with or without fused
multiply-add; any partial sum lies between the sum of the negative and that of the positive terms, so that
P = (sum |t_i| + |sum t_i|) / 2 holds for every order. If the n - 1 rounding errors are mean-independent, the sum is off by
at most u lambda sqrt(n - 1) P but for a probability of 2 exp(-lambda^2 / 2) (Connolly, Higham, Mary, SIAM J. Sci. Comput.
43, 2021). Equal terms round equally, so m equal terms count as one of m times the size: sqrt(n - 1) becomes
sqrt((n - 1) m). The smaller of the two bounds is taken.

A backward pass multiplies many such errors, and what a worst case makes of them is useless after a few layers. `Rounding`
therefore runs the same pass many times with random errors of the sizes above and takes the spread: errors that many
values share (1 / kappa, the means of tdBN) then add up as they do in an implementation.
"""

import math
from collections import deque

import numpy as np
from scipy.special import stdtr, stdtrit
from tqdm import tqdm

from agl_ref.engine import parallel
from agl_ref.engine.jit import kernel
from agl_ref.oracle.types import BITS, representable

LAMBDA = 3.0  # spreads of elementary errors, each taken as large as it can be, that a bound allows
REPLAYS = 48
LARGE = 1 << 20  # numbers in all arrays, from which a third of the passes does, and they run side by side
HELD = 10**8  # numbers, at most, of passes that run side by side
MANY = 1 << 15  # numbers of an input, from which differences are computed in float32
FEW = 1000  # terms that may be added in an order that depends on their values, in `places_size`
SCALE = 2.0**-30  # the random errors are those of an arithmetic with this u
PIECE = 1 << 14  # elements that one thread works on at once
SECOND_ORDER = 1.01  # covers the terms in u^2 that a first-order analysis leaves out, for n u < 0.01


def sum_size(total, magnitude, count, repeats=1, lam=1.0):
    """Largest error of a sum of `count` nonzero terms in any order.

    Parameters
    ----------
    total, magnitude : ndarray
        The sum of the terms and of their absolute values.
    count : ndarray or int
        Nonzero terms.
    repeats : ndarray or int
        How often the same term may come.
    lam : float or None
        Standard deviations to allow; None for the worst case alone.
    """
    partial = 0.5 * (magnitude + np.abs(total))
    steps = np.maximum(count - 1, 0)
    if lam is not None:
        steps = np.minimum(steps, lam * np.sqrt(steps * repeats))
    return steps * partial


def places_size(terms):
    """Largest error of the sum of all terms (T, N, ...), added in an order that depends on their places, not on their values.

    The partial sums are known in the order of any axis, first to last or last to first, and on average in a random one; twice
    the largest of their root mean squares stands for P. All positive terms first would reach (sum |t_i| + |sum t_i|) / 2, far
    more: up to FEW terms may come in such an order.
    """
    total, squares = terms.sum(), (terms * terms).sum()
    mean_squares = [squares / 6 + total * total / 3]  # of a random order
    for axis in range(terms.ndim):
        partial = np.cumsum(np.moveaxis(terms, axis, 0))
        mean_squares += [np.mean(partial * partial), np.mean((total - partial) ** 2)]
    magnitude, count, most = np.abs(terms).sum(), np.count_nonzero(terms), repeats(terms.reshape(-1, 1))[0]
    any_order = sum_size(total, magnitude, count, most)
    return any_order if count <= FEW else min(any_order, 2 * np.sqrt(count * most * max(mean_squares)))


def quantum(a):
    """The largest power of 2 that divides every element of `a`, from 2^-30 to 2^30; 0.0 if there is none."""
    a = np.abs(np.asarray(a, np.float64)).ravel()
    a = a[a > 0]
    if a.size == 0:
        return 2.0**30
    if a.max() >= 2.0**22:
        return 0.0
    scaled = a * 2.0**30
    whole = scaled.astype(np.int64)
    if (whole != scaled).any():
        return 0.0
    lowest_bit = int(np.bitwise_or.reduce(whole))
    return 2.0**-30 * (lowest_bit & -lowest_bit)


def is_exact(q, magnitude, bits):
    """Whether every partial sum of multiples of q with sum |t_i| = `magnitude` fits `bits` bits: no rounding at all."""
    return q > 0 and float(np.max(magnitude, initial=0.0)) <= q * 2.0**bits


def fits_float32(a):
    """Whether `a` is large, and float32 holds all of its nonzero elements and their products with common weights."""
    size = np.abs(a) if a.size >= MANY else np.zeros(())
    return 1e-30 < size.min(where=size > 0, initial=1.0) and 0 < size.max() < 1e30


def in_float32(compute, x, *fixed):
    """The arrays `compute(x, *fixed)`, linear in x, to six digits; in float64 if x is small or float32 cannot hold it."""
    unit = np.abs(x).max(initial=0.0) or 1.0
    if not fits_float32(x / unit):
        return compute(x, *fixed)
    return tuple(unit * np.asarray(a, np.float64) for a in compute(*(a.astype(np.float32) for a in (x / unit, *fixed))))


def is_power_of_two(a):
    """Whether every nonzero element is plus or minus a power of 2, so that multiplying by it is exact."""
    fraction = np.abs(np.frexp(a)[0])
    return bool(((fraction == 0.5) | (fraction == 0)).all())


def repeats(a):
    """How often the most frequent nonzero |value| comes, per channel (the last axis): ndarray (C,), at least 1.

    Values that float32 cannot distinguish count as equal.
    """
    a = np.abs(np.asarray(a)).astype(np.float32)
    a = np.ascontiguousarray(a.reshape(-1, a.shape[-1]).T)
    if a.size == 0:
        return np.ones(len(a))
    parallel.run(lambda first, last: a[first:last].sort(axis=1), len(a), grain=1 + PIECE // a.shape[1])
    starts = np.flatnonzero(np.diff(a, axis=1, prepend=-1.0))  # of runs of equal values
    lengths = np.diff(starts, append=a.size)
    lengths[a.ravel()[starts] == 0] = 1
    return np.maximum.reduceat(lengths, np.searchsorted(starts, np.arange(len(a)) * a.shape[1])).astype(float)


def total(r, terms, inexact=0.0):
    """Sum over all axes but the last, by the `Rounding` r; each term itself is `inexact` roundings off."""
    flat = terms.reshape(-1, terms.shape[-1])
    result = flat.sum(axis=0)

    def size():
        magnitude = np.abs(flat).sum(axis=0)
        count = np.count_nonzero(flat, axis=0)
        exact = is_exact(quantum(flat), magnitude, r.bits) and not inexact
        return 0.0 if exact else sum_size(result, magnitude, count, repeats(flat)) + inexact * magnitude

    return r(result, size)


class Rounding:
    """The first pass of a computation, which finds how large rounding can make the error of each result.

    The computation calls `r(value, size)` at each site, `size` a function without arguments. This pass changes nothing; in
    each later one, `with_errors()`, r adds SCALE times the size with a random sign.
    """

    recording = True

    def __init__(self, seed, dtype="float32"):
        self.dtype, self.bits = dtype, BITS[dtype]
        self.rng = np.random.default_rng(seed)
        self.sites, self.made = [], []

    def with_errors(self):
        """The `Rounding` of one more pass."""
        return _RandomErrors(self)

    def memo(self, compute, *inputs):
        """`compute()`, or in a later pass what it gave in the first, if the inputs are the very same arrays."""
        self.made.append((inputs, compute()))
        return self.made[-1][1]

    def linear(self, compute, x, *fixed):
        """The arrays `compute(x, *fixed)`, linear in x: in a later pass the change of a large x is enough, in float32."""
        return self.memo(lambda: compute(x, *fixed), x, *fixed)

    def __call__(self, value, size, alike=None):
        """`alike`: what the value is a function of; where it is equal, to float32's precision, the errors are equal too."""
        e = np.broadcast_to(np.asarray(size(), np.float64) * np.ones_like(value), np.shape(value))
        equal = None if alike is None else np.unique(np.float32(alike), return_inverse=True)[1].reshape(e.shape)
        e = SCALE * e
        self.sites.append((e.astype(np.float32) if fits_float32(e) else e, equal) if e.any() else None)
        return value

    def given(self, value):
        """An input: rounded where the dtype cannot represent it."""
        return self(value, lambda: np.where(representable(value, self.dtype), 0.0, np.abs(value)))


class _RandomErrors(Rounding):
    """A later pass. Its signs are drawn at once, so that passes may run side by side."""

    recording = False

    def __init__(self, first):
        self.dtype, self.bits = first.dtype, first.bits
        self.sites, self.made = iter(first.sites), iter(first.made)
        shapes = [site and (site[0].shape if site[1] is None else (site[1].max() + 1,)) for site in first.sites]
        self.signs = deque(shape and _bits(first.rng, shape) for shape in shapes)

    def memo(self, compute, *inputs):
        before, value = next(self.made)
        return value if all(a is b for a, b in zip(before, inputs, strict=True)) else compute()

    def linear(self, compute, x, *fixed):
        (before, *same), values = next(self.made)
        if x.size < MANY or not all(a is b for a, b in zip(same, fixed, strict=True)):
            return compute(x, *fixed)
        return tuple(map(np.add, values, in_float32(compute, x - before, *fixed)))

    def __call__(self, value, size, alike=None):
        site, sign = next(self.sites), self.signs.popleft()
        if site is None:
            return value
        e, equal = site
        sign = _unpacked(sign, e.shape) if equal is None else _unpacked(sign, (equal.max() + 1,))[equal]
        rounded = np.empty(e.shape)
        _everywhere(round_kernel, rounded, value, e, sign)
        return rounded[()]


def _bits(rng, shape):
    """Random zeros and ones; many of them as bytes of eight."""
    size = math.prod(shape)
    return rng.integers(0, 2, shape, dtype=np.int8) if size < MANY else rng.bytes(-(-size // 8))


def _unpacked(bits, shape):
    """The array (int8 or uint8) of this shape."""
    if not isinstance(bits, bytes):
        return bits
    return np.unpackbits(np.frombuffer(bits, np.uint8), count=math.prod(shape)).reshape(shape)


class NoRounding:
    """In place of a `Rounding` where the values alone are asked for."""

    recording = False

    def __init__(self, dtype):
        self.dtype, self.bits = dtype, BITS[dtype]

    def memo(self, compute, *inputs):
        """`compute()`."""
        return compute()

    def linear(self, compute, *inputs):
        """`compute(*inputs)`."""
        return compute(*inputs)

    def __call__(self, value, size, alike=None):
        return value

    def given(self, value):
        """The input itself."""
        return value


def spread(compute, rounding, replays=None):
    """Bounds of all arrays that `compute(rounding)` returns: LAMBDA times the spread that random rounding gives them.

    Parameters
    ----------
    compute : function of a Rounding that returns {name: ndarray}
        It may be called in several threads at once.
    rounding : Rounding
    replays : int, optional
        Passes with errors; by default REPLAYS, and a third for more than LARGE numbers. With other than REPLAYS passes
        LAMBDA is the quantile of Student's distribution that has the same probability: the spread is less certain.

    Returns
    -------
    (arrays, bounds) : the arrays without any rounding error, and their bounds in units of u
    """
    first = compute(rounding)
    plain = {name: np.asarray(value, np.float64) for name, value in first.items()}
    lengths = {name: np.zeros(value.shape) for name, value in plain.items()}
    numbers = sum(value.size for value in plain.values())
    replays = replays or (REPLAYS // 3 if numbers > LARGE else REPLAYS)

    # A bar for whoever waits at a terminal; elsewhere, and where it takes two seconds or less, nothing is written.
    bar = tqdm(total=replays, desc="bounds", delay=2, disable=None, leave=False)
    made, at_once = 0, 1
    while made < replays:
        found = _side_by_side(compute, [rounding.with_errors() for _ in range(min(at_once, replays - made))])
        made += len(found)
        bar.update(len(found))
        if numbers > LARGE:
            own = {id(value): plain[name].size for name, value in found[0].items() if value is not first[name]}
            at_once = max(1, min(parallel.threads(), HELD // max(1, sum(own.values()))))
        while found:
            for name, value in found.pop(0).items():
                if value is not first[name]:  # as spikes are
                    _everywhere(lengthen_kernel, lengths[name], value, plain[name])
            del value
    bar.close()
    lam = LAMBDA if replays == REPLAYS else -stdtrit(replays, stdtr(REPLAYS, -LAMBDA))
    for length in lengths.values():
        length *= lam
        length /= np.sqrt(replays)
    return plain, lengths


def _side_by_side(compute, passes):
    """compute(r) of each of the passes, each in a thread of its own."""
    found = [None] * len(passes)

    def some(first, last):
        for i in range(first, last):
            found[i] = compute(passes[i])

    with parallel.one_blas_thread():
        parallel.run(some, len(passes))
    return found


@kernel
def round_kernel(first, last, rounded, value, error, up):
    """value + error, or value - error where `up` is 0."""
    for i in range(first * PIECE, min(last * PIECE, rounded.size)):
        rounded[i] = value[i] + (error[i] if up[i] else -error[i])


@kernel
def lengthen_kernel(first, last, length, value, plain):
    """The lengths of vectors that get the differences of the two as one more component."""
    for i in range(first * PIECE, min(last * PIECE, length.size)):
        more = (value[i] - plain[i]) / SCALE
        square = length[i] * length[i] + more * more
        if 1e-280 < square < 1e280:
            length[i] = math.sqrt(square)
        elif more != 0:  # a square that is too small or too large
            length[i] = math.hypot(length[i], more)


def _everywhere(function, changed, *arrays):
    """Run a kernel on all elements of arrays of one shape; the first is written to, in place."""
    flat = [np.ascontiguousarray(a).reshape(-1) for a in arrays]
    parallel.run(function, parallel.pieces(changed.size, PIECE), changed.reshape(-1), *flat, grain=4)
