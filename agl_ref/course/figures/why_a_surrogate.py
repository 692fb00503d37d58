"""Figures of notebook 2: a loss that is flat, training without and with a surrogate, the surrogate family, its width."""

from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from agl_ref.conventions import Conventions
from agl_ref.engine.ops import derivative, lif_backward, lif_forward, primitive
from agl_ref.engine.surrogate import FAMILY

from .registry import COLOURS, GREY, INK, PALETTE, beside, figure, panels

DECAY, V_TH = 0.8, 0.5  # of the toy's neuron
WIDTHS = (0.02, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 50.0)  # of the surrogate, in the comparison of widths
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))


class Toy(NamedTuple):
    """Spikes that come in, (T, F); spikes that are wanted, (T, 1); the weights to start from, (F, 1)."""

    inputs: np.ndarray
    target: np.ndarray
    weight: np.ndarray


class Run(NamedTuple):
    """What training did: loss (steps,), largest gradient (steps,), spikes (steps, T)."""

    loss: np.ndarray
    gradient: np.ndarray
    spikes: np.ndarray


def toy(seed=1, T=40, F=50):
    """One neuron, F random input spike trains; it shall fire at t = 10, 20 and 30 and at no other time."""
    rng = np.random.default_rng(seed)
    inputs = (rng.random((T, F)) < 0.1).astype(np.float64)
    target = np.zeros((T, 1))
    target[[9, 19, 29]] = 1.0
    return Toy(inputs, target, rng.normal(0.05, 0.1, (F, 1)))


def train_toys(width, surrogate="rectangular", steps=200, lr=0.005, seeds=range(6)):
    """Gradient descent on L = 1/2 sum (s - target)^2 for one toy per seed, side by side as the neurons of one layer.

    width 0 is the step's own derivative. Returns a Run for each seed.
    """
    inputs, targets, weights = (np.stack(parts) for parts in zip(*(toy(seed) for seed in seeds), strict=True))
    target, weight = targets[:, :, 0].T, weights[:, :, 0]  # (T, seeds), (seeds, F)
    kappa = np.full(len(target), float(width))
    history = []
    for _ in range(steps):
        s, cache = lif_forward(np.einsum("ntf,nf->tn", inputs, weight), DECAY, V_TH, surrogate=surrogate)
        dx, _ = lif_backward(s - target, cache, kappa)
        dweight = np.einsum("ntf,tn->nf", inputs, dx)
        history.append((0.5 * ((s - target) ** 2).sum(axis=0), np.abs(dweight).max(axis=1), s.T))
        weight = weight - lr * dweight
    loss, gradient, spikes = map(np.stack, zip(*history, strict=True))
    return [Run(loss[:, n], gradient[:, n], spikes[:, n]) for n in range(len(seeds))]


def train_toy(width, surrogate="rectangular", steps=200, lr=0.005, seed=1):
    """Gradient descent on one toy: a Run."""
    return train_toys(width, surrogate, steps, lr, [seed])[0]


@figure
def flat_loss(task=None, index=None, width=1.0):
    """The toy's loss when one weight alone moves: the spiking neuron's staircase, and the relaxed neuron's curve."""
    task = toy() if task is None else task
    index = int(task.inputs.sum(axis=0).argmax()) if index is None else index
    T, moves = len(task.inputs), np.linspace(-0.3, 0.3, 601)
    unit = np.zeros(len(task.weight))
    unit[index] = 1.0
    x = task.inputs @ (task.weight + unit[:, None] * moves)  # (T, moves): one neuron per position
    losses = []
    for relaxed_width in (None, np.full(T, float(width))):
        s, _ = lif_forward(x, DECAY, V_TH, relaxed_width=relaxed_width)
        losses.append(0.5 * ((s - task.target) ** 2).sum(axis=0))
    fig, ax = panels(8, 4)
    ax.plot(moves, losses[0], color=INK, drawstyle="steps-mid", label="spiking neuron")
    ax.plot(moves, losses[1], color=COLOURS["window"], ls="--", label=f"relaxed neuron, width {width:g}")
    ax.set(xlabel=f"change of weight {index}", ylabel="loss", ylim=(0, None))
    ax.legend(loc="lower right")
    return fig


@figure
def training(runs=None):
    """Loss and output spikes during training, for {label: Run}; by default the true derivative and a surrogate."""
    if runs is None:
        runs = {"true derivative": train_toy(0.0), "surrogate, width 1": train_toy(1.0)}
    target = np.flatnonzero(toy().target[:, 0]) + 1
    fig = Figure(figsize=(4.2 * len(runs), 6.5), layout="constrained")
    grid = fig.add_gridspec(2, len(runs), height_ratios=(3, 2))
    for k, (label, run) in enumerate(runs.items()):
        ax = fig.add_subplot(grid[0, k])
        step, t = np.nonzero(run.spikes)
        for goal in target:
            ax.axvline(goal, color=COLOURS["window"], lw=7, alpha=0.35)
        ax.plot(t + 1, step, ".", color=INK, ms=3)
        ax.set(title=label, xlabel="timestep t", xlim=(0, run.spikes.shape[1] + 1), ylim=(len(run.spikes), -1))
        ax.set_ylabel("training step" if k == 0 else "")
    ax = fig.add_subplot(grid[1, :])
    for k, (label, run) in enumerate(runs.items()):
        ax.plot(run.loss, color=PALETTE[k], ls=DASHES[k % 5], label=label)
    ax.set(xlabel="training step", ylabel="loss", ylim=(-0.2, None))
    ax.legend()
    return fig


@figure
def surrogate_family(rectangular=1.0, triangular=1.0, sigmoid=1.0, arctan=1.0, gaussian=1.0, fast_sigmoid=1.0):
    """The six surrogate derivatives of area 1, each with a width of its own, and beside them their primitives."""
    widths = (rectangular, triangular, sigmoid, arctan, gaussian, fast_sigmoid)
    z = np.linspace(-2.0, 2.0, 2001)
    fig, (left, right) = panels(10, 4.5, 1, 2)
    right.plot([-2, 0, 0, 2], [0, 0, 1, 1], color=GREY, lw=5, alpha=0.5, label="the step")
    for k, (name, width) in enumerate(zip(FAMILY, widths, strict=True)):
        look = {"color": PALETTE[k], "ls": DASHES[k]}
        left.plot(z, derivative(z, width, name), **look)
        right.plot(z, primitive(z, width, name), **look, label=rf"{name}, $\kappa$ = {width:g}")
    left.set(title="derivative", xlabel=r"$z = u - V_{th}$", ylabel="ds/du")
    right.set(title="primitive S(z)", xlabel=r"$z = u - V_{th}$")
    fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return fig


def final_losses(widths=WIDTHS, seeds=range(6), steps=150, lr=0.005):
    """Mean loss of the last 20 steps for each width and seed, (widths, seeds)."""
    return np.array([[run.loss[-20:].mean() for run in train_toys(w, steps=steps, lr=lr, seeds=seeds)] for w in widths])


@figure
def width_and_learning(widths=WIDTHS, losses=None):
    """The toy's loss after training against the surrogate's width: a dot per seed, a line through the medians."""
    losses = final_losses(widths) if losses is None else losses
    fig, ax = panels(8, 4.2)
    for row, width in zip(losses, widths, strict=True):
        ax.plot(np.full(len(row), width), row, "o", color=GREY, ms=6, alpha=0.7)
    ax.plot(widths, np.median(losses, axis=1), color=COLOURS["window"], zorder=1, label="median")  # below the seeds
    ax.plot([], [], "o", color=GREY, label="one seed")
    ax.axhline(1.5, color=INK, lw=1, ls=":")
    beside(ax, "a silent neuron: 1.5", (2.2, 1.5), (0, 4), ha="center")
    ax.set(xscale="log", xlabel=r"width $\kappa$", ylabel="loss after training", ylim=(-0.3, None))
    ax.legend()
    return fig


def gradient_field(x, relaxed=False, reset_gradient="attached"):
    """The library's gradient of s_1 + s_2 at inputs x (2, N), with the sigmoid surrogate of width 0.5; (2, N)."""
    kappa = np.full(2, 0.5)
    rules = Conventions(reset_gradient=reset_gradient)
    s, cache = lif_forward(x, 0.5, V_TH, rules, surrogate="sigmoid", relaxed_width=kappa if relaxed else None)
    return lif_backward(np.ones_like(s), cache, kappa)[0]


def walk_round(corner=(0.3, 0.1), side=0.15, points=400):
    """Midpoints (2, 4 points) and steps (2, 4 points) of a walk round a square, anticlockwise."""
    a = (np.arange(points) + 0.5) / points * side
    zero, full, h = np.zeros(points), np.full(points, side), side / points
    at = np.array([[*a, *full, *(side - a), *zero], [*zero, *a, *full, *(side - a)]])
    step = h * np.repeat([[1.0, 0.0, -1.0, 0.0], [0.0, 1.0, 0.0, -1.0]], points, axis=1)
    return at + np.array(corner)[:, None], step


def gain_of_walk(relaxed, reset_gradient="attached", **place):
    """What the gradient promises the loss gains on the way round a square: 0 for every gradient of a function."""
    at, step = walk_round(**place)
    return float((gradient_field(at, relaxed, reset_gradient) * step).sum())


@figure
def round_trip(corner=(0.3, 0.1), side=0.15):
    """The gradient field of a two-step neuron, relaxed and spiking, and a walk round a square in it."""
    axis = np.linspace(0.05, 0.75, 12)
    grid = np.stack(np.meshgrid(axis, axis)).reshape(2, -1)
    at, _ = walk_round(corner, side)
    fig, axes = panels(10, 5, 1, 2, sharey=True)
    for ax, relaxed in zip(axes, (True, False), strict=True):
        field = gradient_field(grid, relaxed=relaxed)
        ax.quiver(*grid, *field, color=COLOURS["gradient"], angles="xy", width=0.005)
        ax.plot(*np.append(at, at[:, :1], axis=1), color=INK, lw=2.5)
        gain = round(gain_of_walk(relaxed, corner=corner, side=side), 5) + 0.0  # no "-0"
        ax.set(
            title=f"{'relaxed' if relaxed else 'spiking'}: sum round the square {gain:.5f}",
            xlabel="$x_1$",
            aspect="equal",
        )
        if relaxed:
            ax.set_ylabel("$x_2$")
    return fig
