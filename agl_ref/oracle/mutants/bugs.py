"""Plausible bugs of neuron kernels, each a Candidate with one rule wrong.

A bug may be right on some inputs (a sum over one thread block is right with few neurons): that is why such inputs are
not enough for a test. One that is right in float32 has `shows_in`, the dtype where it is not. The first line of each
docstring says what is wrong; the name given to `bug` is permanent.
"""

import numpy as np

from agl_ref.oracle.cases.draw import to_significand

from .candidate import Candidate

THREADS = 1024  # neurons in one thread block, for the bugs that forget the other blocks
WARP = 32  # neurons that such a kernel takes at a time

BUGS = {}


def bug(name):
    """Enter a Candidate subclass into BUGS."""

    def enter(cls):
        BUGS[name] = cls
        return cls

    return enter


# --- neuron -----------------------------------------------------------------------------------------------------------


@bug("one-block-decay-sum")
class _OneBlockDecaySum(Candidate):
    """The decay's gradient is summed over the first 1024 neurons only: one thread block."""

    def sum_decay(self, terms):
        return super().sum_decay(terms.reshape(len(terms), -1)[:, :THREADS])


@bug("one-timestep-decay-sum")
class _OneTimestepDecaySum(Candidate):
    """The decay's gradient is overwritten at each timestep instead of added up."""

    def sum_decay(self, terms):
        return super().sum_decay(terms[min(1, len(terms) - 1)])


@bug("decay-gradient-of-sample-mean")
class _DecayMean(Candidate):
    """The decay's gradient is the mean over the samples instead of their sum."""

    def sum_decay(self, terms):
        return super().sum_decay(terms) / self.dtype.type(terms.shape[1])


@bug("decay-gradient-before-reset")
class _DecayBeforeReset(Candidate):
    """The decay's gradient takes u_{t-1}, before the reset, for v_{t-1}."""

    def v_before(self, fwd):
        return np.concatenate([np.zeros_like(fwd.u[:1]), fwd.u[:-1]])


@bug("decay-gradient-same-step")
class _DecaySameStep(Candidate):
    """The decay's gradient pairs du_t with v_t instead of v_{t-1}: off by one in time."""

    def v_before(self, fwd):
        return fwd.v


@bug("reset-term-after-reset")
class _ResetTermAfterReset(Candidate):
    """The gradient through the reset takes v_t, after the reset, for u_t."""

    def through_reset(self, fwd, t, dv):
        return super().through_reset(fwd._replace(u=fwd.v), t, dv)


@bug("reset-term-sign")
class _ResetTermSign(Candidate):
    """The gradient through the reset is added instead of subtracted."""

    def through_reset(self, fwd, t, dv):
        return -super().through_reset(fwd, t, dv)


@bug("carry-ignores-reset")
class _CarryIgnoresReset(Candidate):
    """The carry is not cut where a neuron was reset: the factor 1 - s_t is missing."""

    def carry(self, fwd, t, dv):
        return dv


@bug("carry-gated-a-step-late")
class _CarryGatedLate(Candidate):
    """The carry is cut by s_{t+1} instead of s_t: off by one in time."""

    def carry(self, fwd, t, dv):
        return super().carry(fwd, min(t + 1, len(fwd.s) - 1), dv)


@bug("carry-gated-a-step-early")
class _CarryGatedEarly(Candidate):
    """The carry is cut by s_{t-1} instead of s_t: off by one in time."""

    def carry(self, fwd, t, dv):
        return super().carry(fwd, max(t - 1, 0), dv)


@bug("no-carry")
class _NoCarry(Candidate):
    """No gradient is carried from one timestep to the one before."""

    def carry(self, fwd, t, dv):
        return np.zeros_like(dv)

    def through_reset(self, fwd, t, dv):
        return np.zeros_like(dv)


@bug("first-timestep-dropped")
class _FirstDropped(Candidate):
    """The backward loop ends a step early: no gradient at the first timestep."""

    def reverse_times(self, T):
        return reversed(range(1, T))


@bug("last-timestep-dropped")
class _LastDropped(Candidate):
    """The backward loop starts a step late: no gradient at the last timestep."""

    def reverse_times(self, T):
        return reversed(range(T - 1))


@bug("last-timestep-not-computed")
class _LastNotComputed(Candidate):
    """The forward loop ends a step early: no potential, no spike at the last timestep."""

    def charge(self, v, x, t, tau):
        return np.zeros_like(v) if t == len(x) - 1 else super().charge(v, x, t, tau)


@bug("input-a-step-late")
class _InputLate(Candidate):
    """The neuron reads x_{t-1} instead of x_t: off by one in time."""

    def charge(self, v, x, t, tau):
        return super().charge(v, np.concatenate([np.zeros_like(x[:1]), x[:-1]]), t, tau)


@bug("leak-after-input")
class _LeakAfterInput(Candidate):
    """The leak is applied to the sum: u_t = tau (v_{t-1} + x_t)."""

    def charge(self, v, x, t, tau):
        return tau * (v + self.input_gain(tau) * x[t])


@bug("reset-ignores-spike-of-threshold")
class _ResetBeyondThreshold(Candidate):
    """Spikes are tested with >= but the reset with >: a neuron exactly on the threshold fires and keeps its potential."""

    def reset(self, u, s, v_th):
        return super().reset(u, s * (u > v_th), v_th)


@bug("plif-slope-missing")
class _PlifSlopeMissing(Candidate):
    """PLIF's gradient lacks the sigmoid's derivative tau (1 - tau)."""

    def dw(self, ddecay, decay):
        return super().dw(ddecay, decay) / self.dtype.type(decay * (1.0 - decay))


@bug("plif-slope-of-w")
class _PlifSlopeOfW(Candidate):
    """PLIF's gradient uses tau instead of tau (1 - tau)."""

    def dw(self, ddecay, decay):
        return super().dw(ddecay, decay) / self.dtype.type(1.0 - decay)


@bug("input-gain-not-in-backward")
class _GainNotInBackward(Candidate):
    """The input's factor 1 - tau is applied forward but not to its gradient."""

    def through_input_gain(self, du, tau):
        return du


@bug("tail-neurons-dropped")
class _TailDropped(Candidate):
    """The neurons beyond the last full group of 32 get no gradient."""

    def neuron_backward(self, ds, fwd, width):
        grads = super().neuron_backward(ds, fwd, width)
        T = len(ds)
        n = grads.du[0].size // WARP * WARP
        du, dx = (np.concatenate([a.reshape(T, -1)[:, :n], 0 * a.reshape(T, -1)[:, n:]], 1) for a in grads[:2])
        return grads._replace(du=du.reshape(ds.shape), dx=dx.reshape(ds.shape))


@bug("spikes-in-32-bits")
class _SpikesIn32Bits(Candidate):
    """The spikes are kept for the backward pass as bits of one 32-bit word per neuron, so that t + 32 overwrites t."""

    def carry(self, fwd, t, dv):
        T = len(fwd.s)
        last = t % 32 + (T - 1 - t % 32) // 32 * 32
        return super().carry(fwd, last, dv)


@bug("gradient-read-as-contiguous")
class _ReadAsContiguous(Candidate):
    """A gradient that is a strided view is read in memory order, as if it were contiguous."""

    def neuron_backward(self, ds, fwd, width):
        return super().neuron_backward(ds.ravel(order="K").reshape(ds.shape), fwd, width)


@bug("hidden-state")
class _HiddenState(Candidate):
    """The backward pass uses what the last forward pass of that shape left behind, not what it is given."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.latest = {}

    def neuron_forward(self, x, decay, v_th):
        made = super().neuron_forward(x, decay, v_th)
        self.latest[x.shape] = made
        return made

    def neuron_backward(self, ds, fwd, width):
        return super().neuron_backward(ds, self.latest[ds.shape], width)


@bug("threshold-one-half")
class _ThresholdOneHalf(Candidate):
    """The neuron's threshold is 0.5 whatever V_th is: a constant in the kernel."""

    def neuron_forward(self, x, decay, v_th):
        return super().neuron_forward(x, decay, 0.5)


@bug("soft-reset-gradient-one-half")
class _SoftGradientOneHalf(Candidate):
    """The gradient through a soft reset takes 0.5 for V_th."""

    def through_reset(self, fwd, t, dv):
        soft = self.conventions.reset.startswith("soft")
        return super().through_reset(fwd._replace(v_th=0.5) if soft else fwd, t, dv)


@bug("soft-carry-narrow")
class _SoftCarryNarrow(Candidate):
    """The potential after a soft reset is kept in bfloat16, in a float64 kernel in float32."""

    def reset(self, u, s, v_th):
        v = super().reset(u, s, v_th)
        if self.conventions.reset != "soft":
            return v
        return to_significand(v, 24 if self.dtype == np.float64 else 8).astype(self.dtype)


@bug("time-capped-at-64")
class _TimeCapped(Candidate):
    """A kernel with room for 64 timesteps: the backward pass leaves later ones out."""

    def reverse_times(self, T):
        return reversed(range(min(T, 64)))


# --- width and surrogate ----------------------------------------------------------------------------------------------


@bug("spread-missing")
class _SpreadMissing(Candidate):
    """kappa at t > 1 lacks sqrt(1 + tau^2)."""

    def later_spread(self, decay):
        return 1.0


@bug("spread-without-root")
class _SpreadWithoutRoot(Candidate):
    """kappa at t > 1 has 1 + tau^2, the variance, in place of its root."""

    def later_spread(self, decay):
        return 1.0 + decay * decay


@bug("width-a-step-early")
class _WidthEarly(Candidate):
    """kappa_{t+1} is used at t: the first width is never seen."""

    def kappa_at(self, width, t):
        return width[min(t + 1, len(width) - 1)]


@bug("width-a-step-late")
class _WidthLate(Candidate):
    """kappa_{t-1} is used at t: the first width is used twice."""

    def kappa_at(self, width, t):
        return width[max(t - 1, 0)]


@bug("window-of-kappa")
class _WindowOfKappa(Candidate):
    """The window reaches kappa instead of kappa / 2 to each side of the threshold."""

    def half_width(self, kappa):
        return kappa


@bug("surrogate-twice")
class _SurrogateTwice(Candidate):
    """The surrogate is too large by a factor of 2."""

    def height(self, kappa):
        return 2 * super().height(kappa)


@bug("gamma-magnitude")
class _GammaMagnitude(Candidate):
    """The width takes |gamma_bar|: with a negative mean the window is open instead of closed."""

    def gamma_bar(self, gamma):
        return abs(super().gamma_bar(gamma))


@bug("mean-of-gamma-magnitudes")
class _MeanOfMagnitudes(Candidate):
    """The width takes the mean of |gamma| over the channels instead of the mean of gamma."""

    def gamma_bar(self, gamma):
        return float(np.mean(np.abs(gamma)))


@bug("gamma-of-first-channel")
class _GammaOfFirstChannel(Candidate):
    """The width takes the first channel's gamma instead of the mean over channels."""

    def gamma_bar(self, gamma):
        return float(gamma.ravel()[0])


@bug("closed-window-gives-nan")
class _ClosedGivesNan(Candidate):
    """A closed window is computed as (1 / 0) * 0, which is NaN."""

    def derivative(self, u, v_th, kappa):
        return super().derivative(u, v_th, kappa) if kappa != 0 else np.full_like(u, np.nan)


@bug("window-of-new-potential")
class _WindowOfV(Candidate):
    """The window is tested on v_t, after the reset, instead of u_t."""

    def derivative(self, u, v_th, kappa):
        return super().derivative(self.reset(u, self.fire(u, v_th), v_th), v_th, kappa)


@bug("width-without-threshold")
class _WidthWithoutThreshold(Candidate):
    """kappa lacks the factor 2 V_th, which is 1 where the threshold is 1/2."""

    def width(self, gamma, v_th, decay, T, alpha=1.0):
        return super().width(gamma, 0.5, decay, T, alpha)


@bug("gamma-sum-narrow")
class _GammaSumNarrow(Candidate):
    """The gammas are added up in float32 where the kernel computes in float64."""

    shows_in = "float64"

    def gamma_bar(self, gamma):
        return float(np.sum(gamma, dtype=np.float32)) / gamma.size
