"""Notebook 9, when time matters: spikes as frames, what counts know, a backward pass that is cut, one that runs forwards."""

import numpy as np

from .definition import Edge, choice, exercise
from .fresh_inputs import forward_pass, lively, number, on_all_sides, until
from .neuron import bptt, previous


def _draw_times(rng):
    def good(times, T, duration):
        return (_frame(times, T, duration) != _frame(times, T, duration - 1)).any()

    for N, units, T, duration in ((3, 5, 4, 30), (2, 6, 7, 50)):  # nobody fires at the first ticks or at the last ones
        yield until(
            good, lambda size=(N, units), T=T, duration=duration: (rng.integers(3, duration - 3, size), T, duration)
        )
    yield Edge("the first and the last tick", (np.array([[0, 29, 15]]), 4, 30))
    yield Edge("T = 1", (rng.integers(0, 9, (2, 3)), 1, 9))
    yield Edge("a frame for each tick", (np.array([[0, 3, 2], [1, 1, 3]]), 4, 4))


def _frame(times, T, duration):
    return times * T // duration


@exercise(points=2, draw=_draw_times, outputs="x", time="x", mistakes={
    "the frame is rounded to the nearest; a frame begins where the one before it ends, so it is rounded down":
        {"frame": lambda times, T, duration: np.minimum(np.round(times * T / duration).astype(int), T - 1)},
    "the frame is rounded up; a frame begins where the one before it ends, so it is rounded down":
        {"frame": lambda times, T, duration: np.minimum(-(-times * T // duration), T - 1)},
    "the duration is that of the last spike: the clock is the same for all samples":
        lambda times, T, duration: spike_frames(times, T, times.max() + 1),
    "each sample's clock starts with its own first spike":
        lambda times, T, duration: spike_frames(times - times.min(axis=1, keepdims=True), T, duration),
    "time runs backwards: the last frame comes first":
        {"frame": lambda times, T, duration: T - 1 - _frame(times, T, duration)},
    "duration - 1 stands where duration belongs, and the last tick falls into the last frame by force":
        {"frame": lambda times, T, duration: np.minimum(times * T // max(duration - 1, 1), T - 1)},
    "a unit stays on from its spike to the end: a spike is in one frame only":
        lambda times, T, duration: spike_frames(times, T, duration).cumsum(axis=0),
}, hints=(
    "For each sample and unit one number: the frame. Compute all of them at once, in integers.",
    "times * T // duration has the shape (N, units). It says which t of x is 1 for that sample and that unit.",
    "Start with zeros of shape (T, N, units). np.indices gives the other two indices; set those places to 1.",
))  # fmt: skip
def spike_frames(times, T, duration, *, frame=_frame):
    """x (T, N, units), 1 in frame floor(times T / duration) and 0 elsewhere."""
    return (np.arange(T)[:, None, None] == frame(times, T, duration)).astype(float)


choice("what_counts_know", 1, "the same for every sample", hints=(
    "What can a neuron without memory know in a frame in which unit 7 fires alone?",
    "Its answer depends on the unit alone, not on t. Which units fire in a sample, and how often?",
    "The mean over time is a sum of one answer for each unit. Does the order of its terms matter?",
), options={
    "different for every sample":
        "A neuron without memory sees one frame at a time. With one unit in a frame, what it answers depends on which unit "
        "that is, and the mean over t adds up the same answers, in another order.",
    "the same for samples of one class":
        "The class is in the times. A sum over the frames does not know in which order they came.",
    "the same for every sample":
        "Right. Each unit causes one fixed answer, whenever it fires, and the mean over time adds up all of them.",
    "zero":
        "An empty frame has an answer too, by its norm's shift, and so has each unit's spike. Their sum need not vanish.",
})  # fmt: skip


def _draw_truncated(rng):
    def good(ds, u, s, decay, v_th, width):
        return lively(s) and on_all_sides(u, v_th, width) and (np.abs(u - v_th) < width[:, None] / 2)[1:-1].mean() > 0.2

    for T, N, reach in ((7, 6, 2), (10, 5, 4)):
        yield *until(good, forward_pass, rng, T, N, 0.5, 0.9), reach
    yield Edge("reach = 1", (*until(good, forward_pass, rng, 5, 6, 0.5, 0.9), 1))
    yield Edge("a reach of more than T", (*until(good, forward_pass, rng, 5, 6, 0.5, 0.9), 9))


def _sliding(ds, u, s, decay, v_th, width, reach):
    du = np.zeros(ds.shape)
    for t in range(len(ds)):
        steps = slice(max(0, t + 1 - reach), t + 1)
        alone = ds[steps] * (np.arange(len(ds))[steps] == t)[:, None]
        du[steps] += bptt(alone, u[steps], s[steps], decay, v_th, width[steps])[0]
    return du


@exercise(points=4, draw=_draw_truncated, outputs="dx", time="dx", backwards=True, mistakes={
    "nothing is cut: that is all of BPTT": lambda *a: truncated_backward(*a[:-1], len(a[0])),
    "every step is cut off from the next, whatever the reach": lambda *a: truncated_backward(*a[:-1], 1),
    "the blocks are counted from the end: the first one starts at t = 1":
        {"starts": lambda T, reach: [0, *range((T - 1) % reach + 1, T, reach)]},
    "the cut is one step late: the first block has a step too many":
        {"starts": lambda T, reach: [0, *range(reach + 1, T, reach)]},
    "the cut is one step late: the carry is dropped before a block's first step, which is cut off from its own block":
        {"starts": lambda T, reach: sorted({0, *range(1, T, reach)})},
    "the cut is one step early: the first block lacks a step":
        {"starts": lambda T, reach: sorted({0, *range(reach - 1, T, reach)})},
    "reach is taken for the number of blocks; it is their length":
        {"starts": lambda T, reach: range(0, T, -(-T // reach))},
    "each spike's gradient goes back reach - 1 steps of its own; the blocks stay where they are": _sliding,
    "each block uses the widths of the first block":
        {"widths": lambda width, start, stop: width[: stop - start]},
    "the reset is detached: the term - u dv is missing from ds_total": {"through": lambda u, s: 0.0},
    "the term u dv has the wrong sign: it is subtracted": {"through": lambda u, s: -u},
    "the reset does not stop the direct path: 1 - s is missing": {"keep": lambda s: 1.0},
    "the carry is not multiplied by decay": {"leak": 1.0},
    "the window reaches kappa to each side and not kappa/2": {"half": 1.0},
    "1/kappa is missing from the window": {"height": 1.0},
    "the gradient is set to zero at the cut, and not the carry: what ds gives there is lost":
        lambda *a: truncated_backward(*a) * (np.arange(len(a[0])) % a[-1] > 0)[:, None],
}, hints=(
    "Copy your lif_backward of notebook 3. Only the carry dv changes, and only at the end of a block.",
    "A block ends before each t that is a multiple of reach. Going backwards, which dv must its last step not see?",
    "The step t (from 0) ends a block where t + 1 is a multiple of reach: set dv to zeros there, before it is used.",
))  # fmt: skip
def truncated_backward(ds, u, s, decay, v_th, width, reach, *, starts=lambda T, reach: range(0, T, reach),
                       widths=lambda width, start, stop: width[start:stop], **parts):  # fmt: skip
    """B1 to B5 within blocks of `reach` timesteps, the first from t = 1: dv = 0 at the end of each block."""
    places = [*starts(len(ds), reach), len(ds)]
    blocks = [bptt(ds[a:b], u[a:b], s[a:b], decay, v_th, widths(width, a, b), **parts)[0]
              for a, b in zip(places, places[1:], strict=False)]  # fmt: skip
    return np.concatenate(blocks)


def _draw_forward(rng):
    for T, N, F, C in ((5, 3, 4, 2), (4, 2, 3, 5)):
        yield rng.integers(0, 2, (T, N, F)) * 1.0, rng.normal(0, 1, (T, N, C)), number(rng, 0.5, 0.9)
    yield Edge("T = 1", (rng.normal(0, 1, (1, 2, 3)), rng.normal(0, 1, (1, 2, 2)), 0.5))
    yield Edge("decay = 1, where nothing is forgotten", (rng.normal(0, 1, (4, 2, 3)), rng.normal(0, 1, (4, 2, 2)), 1.0))


def _traces(x, decay):
    trace = np.zeros(x.shape)
    for t in range(len(x)):
        trace[t] = decay * (trace[t - 1] if t else 0.0) + x[t]
    return trace


@exercise(points=3, draw=_draw_forward, outputs="dweight", mistakes={
    "there is no trace: each step sees its own input alone, as if the way back were cut at each step":
        {"traces": lambda x, decay: x},
    "the trace does not leak": {"traces": lambda x, decay: x.cumsum(axis=0)},
    "the trace runs against time: a step sees the inputs that come later":
        {"traces": lambda x, decay: _traces(x[::-1], decay)[::-1]},
    "the trace of the step before is used: the input of the step itself is missing":
        {"traces": lambda x, decay: previous(_traces(x, decay))},
    "the step's own input leaks too: it is decay times the old trace, plus x":
        {"traces": lambda x, decay: decay * _traces(x, decay)},
    "x is scaled by 1 - decay": {"traces": lambda x, decay: (1 - decay) * _traces(x, decay)},
    "only the last timestep counts": lambda x, e, decay: _traces(x, decay)[-1].T @ e[-1],
    "it is the mean over the samples; all samples share the weights, so it is their sum":
        lambda x, e, decay: forward_gradient(x, e, decay) / x.shape[1],
    "it is the mean over time; it is the sum": lambda x, e, decay: forward_gradient(x, e, decay) / len(x),
}, hints=(
    "One loop forwards, and a trace of shape (N, F) that starts with zeros.",
    "A turn: the trace leaks and takes in x[t]; then it meets e[t], which makes a matrix (F, C).",
    "The matrix is the transposed trace times e[t]: that sums over the samples. Add up those of all turns.",
))  # fmt: skip
def forward_gradient(x, e, decay, *, traces=_traces):
    """dweight (F, C) = sum over t and samples of trace_t e_t, where trace_t = decay trace_{t-1} + x_t."""
    return np.einsum("tnf,tnc->fc", traces(x, decay), e)
