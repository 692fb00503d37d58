"""More wrong rules that a guess and `identify` try: slips without a mutant in the zoo, each a Candidate with one rule wrong.

The zoo (`bugs`) is what the golden cases are measured by, and its ids are permanent; these lines may change. NumPy alone.
"""

import re
from functools import cache

import numpy as np

from .bugs import THREADS
from .candidate import Candidate

BLOCKS = (32, 64, 128, 256, 512, 2 * THREADS, 4 * THREADS)  # sizes of a thread block, beside that of the zoo's own bugs
SLIPS = []


def slip(cls):
    """Enter a Candidate subclass into SLIPS."""
    SLIPS.append(cls)
    return cls


def slip_name(cls):
    """A slip's name as `identify` prints it: "carry-without-leak" for _CarryWithoutLeak."""
    return "-".join(re.findall("[A-Z][a-z]*", cls.__name__)).lower()


def slip_effect(cls):
    """What is wrong, as a sentence."""
    return " ".join(cls.__doc__.split())


@slip
class _LeakTwice(Candidate):
    """The potential leaks by tau^2: the decay is applied twice."""

    def charge(self, v, x, t, tau):
        return super().charge(tau * v, x, t, tau)


@slip
class _TimeConstant(Candidate):
    """The potential leaks by 1 - tau: the decay's complement is taken."""

    def charge(self, v, x, t, tau):
        return (1 - tau) * v + self.input_gain(tau) * x[t]


@slip
class _ResetToThreshold(Candidate):
    """The potential is reset to V_th instead of 0."""

    def reset(self, u, s, v_th):
        return np.where(s > 0, v_th, super().reset(u, s, v_th))


@slip
class _ResetByOne(Candidate):
    """The reset subtracts 1 instead of V_th."""

    def reset(self, u, s, v_th):
        return u - s


@slip
class _CarryWithoutLeak(Candidate):
    """The carried gradient is not multiplied by tau."""

    def carry(self, fwd, t, dv):
        return super().carry(fwd, t, dv / self.dtype.type(fwd.decay))

    def through_reset(self, fwd, t, dv):
        return super().through_reset(fwd, t, dv / self.dtype.type(fwd.decay))


@slip
class _CarryLeaksTwice(Candidate):
    """The carried gradient is multiplied by tau twice."""

    def carry(self, fwd, t, dv):
        return super().carry(fwd, t, dv * self.dtype.type(fwd.decay))

    def through_reset(self, fwd, t, dv):
        return super().through_reset(fwd, t, dv * self.dtype.type(fwd.decay))


@slip
class _ThresholdThroughReset(Candidate):
    """The gradient through the reset takes V_th for u_t, as the reset by subtraction has it."""

    def through_reset(self, fwd, t, dv):
        return dv * self.dtype.type(fwd.v_th)


@slip
class _CarryCutByWindow(Candidate):
    """The carry is cut by the surrogate h_t, 1 - h_t, instead of by the spike, 1 - s_t."""

    def neuron_backward(self, ds, fwd, width):
        tau, threshold = self.dtype.type(fwd.decay), self.dtype.type(fwd.v_th)
        du, dv = np.zeros_like(fwd.u), np.zeros(ds.shape[1:], self.dtype)
        for t in self.reverse_times(len(ds)):
            h = self.derivative(fwd.u[t], threshold, width[t])
            du[t] = dv * (1 - h) + (ds[t] - self.through_reset(fwd, t, dv)) * h
            dv = tau * du[t]
        grads = super().neuron_backward(ds, fwd, width)
        return grads._replace(
            du=du, dx=self.through_input_gain(du, tau), ddecay=self.sum_decay(du * self.v_before(fwd))
        )


@slip
class _GradientReversed(Candidate):
    """The incoming gradient is read in reverse time."""

    def neuron_backward(self, ds, fwd, width):
        return super().neuron_backward(np.ascontiguousarray(ds[::-1]), fwd, width)


@slip
class _FirstWidth(Candidate):
    """Kappa_1 is used at every timestep."""

    def kappa_at(self, width, t):
        return width[0]


@slip
class _WidthReversed(Candidate):
    """The widths are read in reverse time."""

    def kappa_at(self, width, t):
        return width[len(width) - 1 - t]


@slip
class _DividedTwice(Candidate):
    """The surrogate is divided by kappa once more than it should be."""

    def height(self, kappa):
        return super().height(kappa) / kappa


@slip
class _QuarterWindow(Candidate):
    """The window reaches kappa / 4 instead of kappa / 2 to each side of the threshold."""

    def half_width(self, kappa):
        return kappa / 4


@slip
class _UpperHalf(Candidate):
    """The window is open on the firing side of the threshold only."""

    def shape(self, z, kappa):
        return super().shape(z, kappa) * (z >= 0)


@slip
class _DecayMeanOverTime(Candidate):
    """The decay's gradient is the mean over time instead of the sum."""

    def sum_decay(self, terms):
        return super().sum_decay(terms) / self.dtype.type(len(terms))


@slip
class _DecayOfInput(Candidate):
    """The decay's gradient pairs du_t with x_t instead of v_{t-1}."""

    def v_before(self, fwd):
        return fwd.x


@slip
class _SamplesReversed(Candidate):
    """The gradients of the samples stand in reverse order."""

    def neuron_backward(self, ds, fwd, width):
        grads = super().neuron_backward(ds, fwd, width)
        return grads._replace(du=grads.du[:, ::-1].copy(), dx=grads.dx[:, ::-1].copy())


@cache
def one_block(size):
    """A Candidate whose sums over neurons and rows stop after `size` of them."""

    class OneBlock(Candidate):
        def sum_decay(self, terms):
            return super().sum_decay(terms.reshape(len(terms), -1)[:, :size])

        def dweight(self, rows, dy):
            return super().dweight(rows[:size], dy[:size])

    return OneBlock
