"""The mutants: wrong implementations that somebody made, or easily makes, when writing kernels for spiking networks.

Most are the reference with one line changed: the number of the equation that is wrong, what is wrong, the snippet of
reference.py and what it becomes. Where a line is not enough, a function of `functions` changes the copy. Every other value
of every convention is a mutant too, for the cases whose own value is another.

A mutant may be right on some inputs (a sum over one thread block is right with few neurons): that is why such inputs are
not enough for a test. One that is right in float32 has `shows_in`, the dtype in which it is not.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, cached_property

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.interop.layouts import to_layout

from . import functions
from .variants import variant

BLOCKS = (32, 64, 128, 256, 512, 2048, 4096)  # sizes of a thread block, beside that of the mutants of the table


@dataclass(frozen=True)
class Mutant:
    """One wrong implementation.

    Attributes
    ----------
    id : str
        Permanent where `listed`.
    effect : str
        What is wrong, in a sentence.
    equation : str or None
        The number of the equation that is wrong, as in METHOD.md; None where it is none of one training step's.
    lines, functions
        What `variants.variant` makes the wrong copy of.
    shows_in : {"float32", "float64"}
        The dtype in which the golden cases are tried.
    listed : bool
        Whether the golden cases are measured by it: each of these must be killed. The others are tried by the guess in a
        report and by `identify` only.
    field, value : str or None
        For a convention: the field of Conventions, and the value that replaces the case's own.
    """

    id: str
    effect: str
    equation: str | None = None
    lines: tuple = ()
    functions: Callable | None = None
    shows_in: str = "float32"
    listed: bool = True
    field: str | None = None
    value: str | None = None

    @property
    def kind(self):
        """ "rule", or "convention" for another value of a convention."""
        return "convention" if self.field else "rule"

    @cached_property
    def module(self):
        """The copy of the reference that is wrong."""
        return variant(self.lines, self.functions)

    @cached_property
    def fits(self):
        """Whether reference.py has the lines that it changes: a verdict must not depend on that when somebody edits them."""
        try:
            return bool(self.module)
        except ValueError:
            return False

    def rules(self, conventions):
        """The Conventions it follows where a case asks for these, or None where the case has its value already."""
        if self.field is None:
            return conventions
        if getattr(conventions, self.field) == self.value:
            return None
        return replace(conventions, **{self.field: self.value})

    def dump(self, problem, conventions, dtype=np.float32):
        """{name: array} that it would dump for a problem, or None where the case has its value already."""
        rules = self.rules(conventions)
        if rules is None or problem.repeats_the_fixed_width(rules):  # the mutant "fixed" is there already
            return None
        with np.errstate(all="ignore"):
            arrays = problem.run(self.module, rules, dtype)
        if self.field != "axis_order":
            return arrays
        turned = {name: a for name, a in arrays.items() if a.ndim >= 3 and not name.endswith("weight")}
        return {**arrays, **{name: to_layout(a, self.value) for name, a in turned.items()}}


_B4 = 'total(du[t] * (v_before - x[t] if c.input_scale == "1 - tau" else v_before))'
_B4_FIRST = 'total((du[t] * (v_before - x[t] if c.input_scale == "1 - tau" else v_before)).ravel()[:{}])'
_C2 = "product(seen.reshape(-1, len(w)).T, flat)"
_C2_FIRST = "product(seen.reshape(-1, len(w))[:{0}].T, flat[:{0}])"
_V_BEFORE = "reset(u[t - 1], s[t - 1], v_th, c) if t > 0 else nothing"
BACK_IN_TIME = "for t in reversed(range(len(ds))):"
_KEPT = "dv * (1 - s[t]) if hard else dv"
GAMMA_BAR = "float(np.mean(gamma, dtype=np.float64))"
_PADS = "((0, 0), (padding, padding), (padding, padding), (0, 0))"


def _first(statement):
    """A statement of its own before the backward loop over time."""
    return BACK_IN_TIME, f"{statement}\n    {BACK_IN_TIME}"


def _first_of_group(size):
    """The carry is cut before every group of timesteps."""
    return (
        BACK_IN_TIME,
        f"{BACK_IN_TIME}\n        dv, du_next = (dv, du_next) if (t + 1) % {size} else (nothing, nothing)",
    )


def _mutant(row, listed=True):
    id, equation, *changes, effect = row
    lines, change = ((), changes[0]) if callable(changes[0]) else (tuple(changes), None)
    return Mutant(id, effect, equation, lines, change, _SHOWS_IN.get(id, "float32"), listed)


_SHOWS_IN = {"gamma-sum-narrow": "float64"}

# (id, number of the equation, changes, what is wrong)
_LISTED = (
    # --- neuron
    ("one-block-decay-sum", "B4", (_B4, _B4_FIRST.format(1024)),
     "The decay's gradient is summed over the first 1024 neurons only: one thread block."),
    ("one-timestep-decay-sum", "B4", ("ddecay += total(", "if t > 0:\n            ddecay = total("),
     "The decay's gradient is overwritten at each timestep instead of added up."),
    ("decay-gradient-of-sample-mean", "B4", ("ddecay += total(", "ddecay += 1 / du.shape[1] * total("),
     "The decay's gradient is the mean over the samples instead of their sum."),
    ("decay-gradient-before-reset", "B4", (_V_BEFORE, "u[t - 1] if t > 0 else nothing"),
     "The decay's gradient takes u_{t-1}, before the reset, for v_{t-1}."),
    ("decay-gradient-same-step", "B4", (_V_BEFORE, "cache.v[t]"),
     "The decay's gradient pairs du_t with v_t instead of v_{t-1}: off by one in time."),
    ("reset-term-after-reset", "B1", ('"hard": u[t] * dv', '"hard": cache.v[t] * dv'),
     "The gradient through the reset takes v_t, after the reset, for u_t."),
    ("reset-term-sign", "B1", ("ds[t] - (through if", "ds[t] + (through if"),
     "The gradient through the reset is added instead of subtracted."),
    ("carry-ignores-reset", "B2", (_KEPT, "dv"),
     "The carry is not cut where a neuron was reset: the factor 1 - s_t is missing."),
    ("carry-gated-a-step-late", "B2", (_KEPT, "dv * (1 - s[min(t + 1, len(s) - 1)]) if hard else dv"),
     "The carry is cut by s_{t+1} instead of s_t: off by one in time."),
    ("carry-gated-a-step-early", "B2", (_KEPT, "dv * (1 - s[max(t - 1, 0)]) if hard else dv"),
     "The carry is cut by s_{t-1} instead of s_t: off by one in time."),
    ("no-carry", "B5", ("dv, du_next = tau * du[t], du[t]", "dv, du_next = nothing, nothing"),
     "No gradient is carried from one timestep to the one before."),
    ("first-timestep-dropped", "B2", (BACK_IN_TIME, "for t in reversed(range(1, len(ds))):"),
     "The backward loop ends a step early: no gradient at the first timestep."),
    ("last-timestep-dropped", "B2", (BACK_IN_TIME, "for t in reversed(range(len(ds) - 1)):"),
     "The backward loop starts a step late: no gradient at the last timestep."),
    ("last-timestep-not-computed", "F1",
     ("= tau * v_before + gain * x[t]", "= (tau * v_before + gain * x[t]) * (t < len(x) - 1)"),
     "The forward loop ends a step early: no potential, no spike at the last timestep."),
    ("input-a-step-late", "F1", ("v_before + gain * x[t]", "v_before + gain * (x[t - 1] if t > 0 else 0)"),
     "The neuron reads x_{t-1} instead of x_t: off by one in time."),
    ("leak-after-input", "F1", ("= tau * v_before + gain * x[t]", "= tau * (v_before + gain * x[t])"),
     "The leak is applied to the sum: u_t = tau (v_{t-1} + x_t)."),
    ("reset-ignores-spike-of-threshold", "F3",
     ('    if conventions.reset == "hard":', '    s = s * (u > v_th)\n    if conventions.reset == "hard":'),
     "Spikes are tested with >= but the reset with >: a neuron exactly on the threshold fires and keeps its potential."),
    ("plif-slope-missing", "B6", ("float(ddecay) * decay * (1.0 - decay)", "float(ddecay)"),
     "PLIF's gradient lacks the sigmoid's derivative tau (1 - tau)."),
    ("plif-slope-of-w", "B6", ("float(ddecay) * decay * (1.0 - decay)", "float(ddecay) * decay"),
     "PLIF's gradient uses tau instead of tau (1 - tau)."),
    ("plif-slope-narrow", "B6",
     ("float(ddecay) * decay * (1.0 - decay)", "float(ddecay) * float(np.float16(decay * (1.0 - decay)))"),
     "PLIF's factor tau (1 - tau) is computed in float16."),
    ("input-gain-not-in-backward", "B3", ("dx[t] = gain * du[t]", "dx[t] = du[t]"),
     "The input's factor 1 - tau is applied forward but not to its gradient."),
    ("tail-neurons-dropped", "B2", functions.tail_neurons_dropped,
     "The neurons beyond the last full group of 32 get no gradient."),
    ("spikes-in-32-bits", "B2", (_KEPT, "dv * (1 - s[t % 32 + (len(s) - 1 - t % 32) // 32 * 32]) if hard else dv"),
     "The spikes are kept for the backward pass as bits of one 32-bit word per neuron, so that t + 32 overwrites t."),
    ("gradient-read-as-contiguous", "B1", _first('ds = ds.ravel(order="K").reshape(ds.shape)'),
     "A gradient that is a strided view is read in memory order, as if it were contiguous."),
    ("hidden-state", "B2", functions.hidden_state,
     "The backward pass uses what the last forward pass of that shape left behind, not what it is given."),
    ("threshold-one-half", "F2", ("    tau, threshold = x.dtype", "    v_th = 0.5\n    tau, threshold = x.dtype"),
     "The neuron's threshold is 0.5 whatever V_th is: a constant in the kernel."),
    ("soft-reset-gradient-one-half", "B1",
     ('"soft": v_th * dv, "soft late": v_th * du_next', '"soft": 0.5 * dv, "soft late": 0.5 * du_next'),
     "The gradient through a soft reset takes 0.5 for V_th."),
    ("soft-carry-narrow", "F4", functions.soft_carry_narrow,
     "The potential after a soft reset is kept in bfloat16, in a float64 kernel in float32."),
    ("time-capped-at-64", "B2", (BACK_IN_TIME, "for t in reversed(range(min(len(ds), 64))):"),
     "A kernel with room for 64 timesteps: the backward pass leaves later ones out."),
    ("truncated-backpropagation", "B5", _first_of_group(2),
     "Backpropagation is truncated: no gradient passes from a group of 2 timesteps to the one before."),
    ("spike-of-old-potential", "F2",
     ("s[t] = u[t] >= threshold if", "old = u[t - 1] if t > 0 else v_before\n        s[t] = old >= threshold if"),
     ("else u[t] > threshold", "else old > threshold"),
     "The spike test takes u_{t-1} for u_t: the potential before this timestep's current."),
    ("reset-of-difference", "F4",
     ('u - v_th * s if conventions.reset == "soft"', 'u - (s - v_th) if conventions.reset == "soft"'),
     "A soft reset subtracts s - V_th instead of V_th s."),
    # --- width and surrogate
    ("spread-missing", "W2", ("later = math.sqrt(1 + decay * decay)", "later = 1.0"),
     "kappa at t > 1 lacks sqrt(1 + tau^2)."),
    ("spread-without-root", "W2", ("later = math.sqrt(1 + decay * decay)", "later = 1 + decay * decay"),
     "kappa at t > 1 has 1 + tau^2, the variance, in place of its root."),
    ("width-a-step-early", "B2", _first("width = np.append(width[1:], width[-1])"),
     "kappa_{t+1} is used at t: the first width is never seen."),
    ("width-a-step-late", "B2", _first("width = np.append(width[0], width[:-1])"),
     "kappa_{t-1} is used at t: the first width is used twice."),
    ("window-of-kappa", "S2", ("inside(np.abs(z), kappa / 2)", "inside(np.abs(z), kappa)"),
     "The window reaches kappa instead of kappa / 2 to each side of the threshold."),
    ("window-narrow", "S2",
     ("inside(np.abs(z), kappa / 2)", "inside(np.abs(z).astype(np.float16), np.float16(kappa / 2))"),
     "The window is tested in float16."),
    ("sigmoid-overflows", "S4", ("e = np.exp(-4 * np.abs(r))", "e = np.exp(np.float32(4) * r.astype(np.float32))"),
     "The sigmoid surrogate takes exp of a large positive number, which overflows far above the threshold."),
    ("surrogate-twice", "S1", ("type(1 / scale)", "type(2 / scale)"),
     "The surrogate is too large by a factor of 2."),
    ("gamma-magnitude", "W1", (GAMMA_BAR, f"abs({GAMMA_BAR})", 2),
     "The width takes |gamma_bar|: with a negative mean the window is open instead of closed."),
    ("mean-of-gamma-magnitudes", "W1", (GAMMA_BAR, "float(np.mean(np.abs(gamma)))", 2),
     "The width takes the mean of |gamma| over the channels instead of the mean of gamma."),
    ("gamma-of-first-channel", "W1", (GAMMA_BAR, "float(gamma.ravel()[0])", 2),
     "The width takes the first channel's gamma instead of the mean over channels."),
    ("closed-window-gives-nan", "S1",
     ("return np.zeros_like(z)", "return np.full_like(z, np.nan if kappa == 0 else 0)"),
     "A closed window is computed as (1 / 0) * 0, which is NaN."),
    ("window-of-new-potential", "B2",
     ("h = derivative(u[t] - v_th", "h = derivative(reset(u[t], s[t], v_th, c) - v_th"),
     "The window is tested on v_t, after the reset, instead of u_t."),
    ("width-without-threshold", "W1", ("alpha, v_th = (alpha, v_th) if", "alpha, v_th = (alpha, 0.5) if"),
     "kappa lacks the factor 2 V_th, which is 1 where the threshold is 1/2."),
    ("gamma-sum-narrow", "W1", (GAMMA_BAR, "float(np.sum(gamma, dtype=np.float32)) / gamma.size", 2),
     "The gammas are added up in float32 where the kernel computes in float64."),
    ("straight-through-estimator", "S1", ("return slopes[surrogate]().astype", "return np.ones_like(z).astype"),
     "The gradient passes every spike as it is: the straight-through estimator."),
    ("window-around-rest", "B2", ("h = derivative(u[t] - v_th", "h = derivative(u[t]"),
     "The window lies around 0, the potential at rest, instead of the threshold."),
    ("spread-of-tau", "W2", ("later = math.sqrt(1 + decay * decay)", "later = math.sqrt(1 + decay)"),
     "kappa at t > 1 has tau in place of tau^2."),
    ("width-of-stale-gamma", "W1", (GAMMA_BAR, "1.0", 2),
     "The width takes gamma = 1, as it was before training."),
    ("width-of-stale-decay", "W2", ("def spread(rule, decay, T):\n", "def spread(rule, decay, T):\n    decay = 0.2\n"),
     "The width takes tau = 0.2, as it was before training."),
    ("width-per-channel", "S1", functions.width_per_channel,
     "Each channel has a width of its own, from its own gamma instead of the mean of all."),
    ("width-of-layer-before", "W1", functions.width_of_the_layer_before,
     "A layer has kappa of the layer before it."),
    ("width-of-layer-behind", "W1", functions.width_of_the_layer_behind,
     "A layer has kappa of the layer behind it."),
    # --- tdBN
    ("statistics-per-timestep", "N1", functions.statistics_per_timestep,
     "tdBN takes its statistics at each timestep alone, as a plain batch norm called T times does."),
    ("statistics-per-device", "N1", functions.statistics_per_device,
     "tdBN takes its statistics over each half of the samples alone, as on two GPUs."),
    ("evaluation-uses-batch", "N1", ("    if running is None:\n", "    if True:\n"),
     "tdBN takes the batch's statistics in evaluation too."),
    ("norm-mean-term-dropped", "N6", ("g = g - total(g, axes) / M - x_hat", "g = g - x_hat"),
     "tdBN's backward does not subtract mean(g)."),
    ("norm-variance-term-dropped", "N6", (" - x_hat * (total(g * x_hat, axes) / (M - cache.ddof))", ""),
     "tdBN's backward does not subtract x_hat mean(g x_hat)."),
    ("norm-statistics-detached", "N6", ("if cache.training:", "if False:"),
     "tdBN's backward takes mean and variance for constants."),
    ("norm-eps-outside-root", "N3",
     ("np.sqrt(var * (M / (M - ddof)) + eps)", "(np.sqrt(var * (M / (M - ddof))) + eps)"),
     "tdBN divides by sqrt(var) + eps instead of sqrt(var + eps)."),
    ("norm-threshold-after-affine", "N4", ("(scale * x_hat) + shift * beta", "(scale * x_hat) + scale * beta"),
     "tdBN's factor alpha V_th multiplies beta too: it is applied after the affine map."),
    ("norm-samples-for-channels", "N4",
     ("y = gamma *", "y = (gamma.reshape(-1, *[1] * (x.ndim - 2)) if x.shape[1] == gamma.size else gamma) *"),
     "Where there are as many samples as channels, gamma is that of the sample."),
    ("norm-gamma-gradient-unscaled", "N5", ("total(dy * (cache.scale * x_hat), axes)", "total(dy * x_hat, axes)"),
     "tdBN's dgamma lacks alpha V_th."),
    ("norm-input-gradient-unscaled", "N6", ("g = dy * (cache.gamma * cache.scale)", "g = dy * cache.gamma"),
     "tdBN's dx lacks alpha V_th."),
    ("norm-gamma-gradient-mean", "N5",
     ("total(dy * (cache.scale * x_hat), axes), cache.shift * total(dy, axes)",
      "total(dy * (cache.scale * x_hat), axes) / M, cache.shift * total(dy, axes) / M"),
     "tdBN's dgamma and dbeta are means over the channel's values instead of sums."),
    ("norm-shift-gradient-unscaled", "N5", ("cache.shift * total(dy, axes)", "total(dy, axes)"),
     "tdBN's dbeta lacks V_th, where beta is in units of the threshold."),
    # --- convolution and linear
    ("kernel-flipped-in-backward", "C3", ("to, back = taps(weight,", "to, back = taps(weight[::-1, ::-1],"),
     "The gradient of a convolution's input is taken with the kernel flipped once too often."),
    ("kernel-flipped", "C1", ("in taps(weight,", "in taps(weight[::-1, ::-1],"),
     "The forward pass convolves with the flipped kernel instead of correlating."),
    ("kernel-transposed", "C1", ("in taps(weight,", "in taps(weight.swapaxes(0, 1),"),
     "The kernel's rows and columns are exchanged."),
    ("kernel-channels-exchanged", "C1",
     ("seen.reshape(-1, len(w)), w)", "seen.reshape(-1, len(w)), w.T if w.shape[0] == w.shape[1] else w)"),
     "Where there are as many input as output channels, the kernel has them exchanged."),
    ("padding-side", "C1",
     (_PADS, "((0, 0), (0, 2 * padding), (0, 2 * padding), (0, 0))", 2),
     ("dimages[:, padding : padding + x.shape[-3], padding : padding + x.shape[-2]]",
      "dimages[:, : x.shape[-3], : x.shape[-2]]"),
     'All zeros of the padding are put after the image and none before, as some "same" paddings do.'),
    ("one-block-weight-sum", "C2", (_C2, _C2_FIRST.format(1024)),
     "A weight's gradient is summed over the first 1024 output positions only: one thread block."),
    ("weight-gradient-misses-last-row", "C2", (_C2, _C2_FIRST.format(-1)),
     "A weight's gradient misses the last term of its sum."),
    ("bias-gradient-mean", "C4", ("total(flat, (0,))", "total(flat, (0,)) / len(flat)"),
     "A bias's gradient is the mean over its terms instead of their sum."),
    # --- pools, residual sum, flatten
    ("pool-gradient-undivided", "C6", ("dy / (a * b)", "dy / (a * b if (a, b) == shape[-3:-1] else 1)"),
     "The average pool's backward gives the whole gradient, not a quarter, to each of the four inputs."),
    ("pool-gradient-shifted", "C6",
     ("dx[..., : squares.shape[-3], : squares.shape[-2], :]",
      "dx[..., shape[-3] - squares.shape[-3] :, shape[-2] - squares.shape[-2] :, :]"),
     "With an odd number of rows the average pool's backward leaves out the first row instead of the last."),
    ("pool-of-maximum", "C5",
     ("total(squares, (-4, -2)) / (a * b)",
      "(squares.max(axis=(-4, -2)) if size == (2, 2) else total(squares, (-4, -2)) / (a * b))"),
     "The 2x2 pool takes the maximum instead of the mean."),
    ("global-pool-gradient-undivided", "C6", ("dy / (a * b)", "dy / (1 if (a, b) == shape[-3:-1] else a * b)"),
     "The global pool's backward does not divide by height times width."),
    ("shortcut-gradient-dropped", "R2",
     ('backward([layer["shortcut"]], d, cache[1], values) if layer["shortcut"] else d',
      'backward([layer["shortcut"]], 0 * d, cache[1], values) if layer["shortcut"] else 0 * d'),
     "A residual sum gives no gradient to its shortcut."),
    ("residual-or", "R1", ("x, cache = body + side", "x, cache = np.minimum(body + side, 1)"),
     "A residual sum of two spikes is one spike: OR instead of ADD."),
    ("flatten-channels-first", "C1",
     ("x = x.reshape(*x.shape[:2], -1)", "x = np.moveaxis(x, -1, 2).reshape(*x.shape[:2], -1)"),
     ("d = d.reshape(cache)", "d = np.moveaxis(d.reshape(*cache[:2], cache[-1], *cache[2:-1]), 2, -1)"),
     "Flatten puts channels before height and width, while the weight expects them last."),
    # --- losses
    ("loss-summed-over-samples", "L3", ("T, N, K = logits.shape", "T, N, K = len(logits), 1, logits.shape[2]", 2),
     "The loss and its gradient are sums over the samples: the mean over N is forgotten."),
    ("time-mean-not-in-backward", "L4",
     ("return loss, shares *", 'return loss, (T if conventions.readout == "mean" else 1) * shares *'),
     "The mean over time is taken forward, but the gradient is not divided by T."),
    ("softmax-overflows", "L2", ("z = z - z.max(axis=-1, keepdims=True)", "z = z - 0"),
     "The softmax does not subtract the largest logit first, so that large ones overflow."),
    ("labels-from-one", "L3", ("[labels]", "[labels - 1]", 2),
     "Labels are taken to count from 1."),
    ("labels-of-next-sample", "L3", ("[labels]", "[np.roll(labels, -1)]", 2),
     "Each sample has the label of the next one."),
    ("label-smoothing", "L3",
     ("[:, None, None], np.eye(K, dtype=logits.dtype)[labels]",
      "[:, None, None], 0.9 * np.eye(K, dtype=logits.dtype)[labels] + logits.dtype.type(0.1 / K)"),
     "The labels are smoothed by 0.1."),
    ("loss-scale-left-on", "L4", ("return loss, shares *", "return loss, 1024 * shares *"),
     "The gradients still have the loss scale of mixed precision, 1024."),
    ("tet-regulariser-missing", "L6", (" + 2 * lam / logits.size * off", ""),
     "TET's pull of the logits to one target is left out of the gradient."),
    # --- a training step
    ("dropout-left-on", None, functions.dropout_left_on,
     "Half of the readout's inputs are dropped and the others doubled: dropout is left on."),
    ("gradients-accumulated", None, functions.gradients_accumulated,
     "The parameters' gradients are those of two backward passes, added up."),
    ("clipping-left-on", None, functions.clipping_left_on,
     f"The parameters' gradients are scaled to a norm of {functions.CLIPPED:g}: clipping is left on."),
    ("weight-decay-in-gradient", None, functions.weight_decay_in_gradient,
     f"The parameters' gradients hold weight decay, {functions.DECAY:g} times the parameter."),
)  # fmt: skip

_NOT_LISTED = (
    ("leak-twice", "F1", ("= tau * v_before", "= tau * tau * v_before"),
     "The potential leaks by tau^2: the decay is applied twice."),
    ("time-constant", "F1", ("= tau * v_before", "= (1 - tau) * v_before"),
     "The potential leaks by 1 - tau: the decay's complement is taken."),
    ("reset-to-threshold", "F3", functions.reset_to_threshold,
     "The potential is reset to V_th instead of 0."),
    ("reset-by-one", "F4",
     ('    if conventions.reset == "hard":', '    return u - s\n    if conventions.reset == "hard":'),
     "The reset subtracts 1 instead of V_th."),
    ("carry-without-leak", "B5", ("dv, du_next = tau * du[t]", "dv, du_next = du[t]"),
     "The carried gradient is not multiplied by tau."),
    ("carry-leaks-twice", "B5", ("dv, du_next = tau * du[t]", "dv, du_next = tau * tau * du[t]"),
     "The carried gradient is multiplied by tau twice."),
    ("threshold-through-reset", "B1", ('"hard": u[t] * dv', '"hard": v_th * dv'),
     "The gradient through the reset takes V_th for u_t, as the reset by subtraction has it."),
    ("carry-cut-by-window", "B2", (_KEPT, "dv * (1 - h)"),
     "The carry is cut by the surrogate h_t, 1 - h_t, instead of by the spike, 1 - s_t."),
    ("gradient-reversed", "B1", _first("ds = ds[::-1]"),
     "The incoming gradient is read in reverse time."),
    ("first-width", "B2", _first("width = np.full_like(width, width[0])"),
     "Kappa_1 is used at every timestep."),
    ("width-reversed", "B2", _first("width = width[::-1]"),
     "The widths are read in reverse time."),
    ("divided-twice", "S1", ("type(1 / scale)", "type(1 / kappa / scale)"),
     "The surrogate is divided by kappa once more than it should be."),
    ("quarter-window", "S2", ("inside(np.abs(z), kappa / 2)", "inside(np.abs(z), kappa / 4)"),
     "The window reaches kappa / 4 instead of kappa / 2 to each side of the threshold."),
    ("upper-half", "S1", ("return slopes[surrogate]().astype", "return ((z >= 0) * slopes[surrogate]()).astype"),
     "The window is open on the firing side of the threshold only."),
    ("fast-sigmoid-of-slope-1", "S12",
     ("h / ((1 + 2 * np.abs(r)) * (1 + 2 * np.abs(r)))", "h / ((1 + np.abs(r)) * (1 + np.abs(r)))"),
     "The fast sigmoid has the slope 1 / kappa instead of 2 / kappa: its area is 2."),
    ("leaky-relu-without-leak", "S14", ('np.maximum(slopes["rectangular"](), h / 50)', 'slopes["rectangular"]()'),
     "The leaky ReLU gives 0 outside the window, as the rectangular surrogate does."),
    *((f"truncated-to-{size}", "B5", _first_of_group(size),
       f"Backpropagation is truncated: no gradient passes from a group of {size} timesteps to the one before.")
      for size in (3, 4, 5, 8, 10, 16)),
    ("decay-mean-over-time", "B4", ("ddecay += total(", "ddecay += 1 / len(ds) * total("),
     "The decay's gradient is the mean over time instead of the sum."),
    ("decay-of-input", "B4", (_V_BEFORE, "x[t]"),
     "The decay's gradient pairs du_t with x_t instead of v_{t-1}."),
    ("samples-reversed", "B3",
     ("return NeuronGrads(dx, u.dtype.type(ddecay), dwidth, du)",
      "return NeuronGrads(dx[:, ::-1].copy(), u.dtype.type(ddecay), dwidth, du[:, ::-1].copy())"),
     "The gradients of the samples stand in reverse order."),
)  # fmt: skip

LISTED = tuple(map(_mutant, _LISTED))
NOT_LISTED = tuple(_mutant(row, listed=False) for row in _NOT_LISTED)
CONVENTIONS = tuple(
    Mutant(f"convention:{field}={value}", f"{field} is {value!r}", field=field, value=value)
    for field, values in Conventions.known_choices().items()
    for value in values
    if value != "TN..C"  # the layout that every golden case has
)


@cache
def one_block(size):
    """A mutant whose sums over neurons and over a weight's terms stop after `size` of them."""
    effect = f"The sum reaches over the first {size} terms only: one thread block."
    lines = (_B4, _B4_FIRST.format(size)), (_C2, _C2_FIRST.format(size))
    return Mutant(f"one-block-of-{size}", effect, "B4", lines, listed=False)


def mutants():
    """The mutants that the golden cases are measured by: the wrong rules, then every value of every convention."""
    return [*LISTED, *CONVENTIONS]


def mutant_of(id):
    """The mutant of this id, listed or not."""
    return next(mutant for mutant in (*LISTED, *NOT_LISTED, *CONVENTIONS) if mutant.id == id)
