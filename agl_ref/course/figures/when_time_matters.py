"""Figures of notebook 9: spike times that rates cannot see, memory forwards and backwards, what leak and window do to it."""

from functools import cache
from typing import NamedTuple

import numpy as np

from agl_ref import data
from agl_ref.conventions import Conventions
from agl_ref.data.manifolds import TICKS
from agl_ref.engine import models, ops, optim
from agl_ref.engine.blocks import SpikingBlock

from .conv_snn import Images, descend
from .registry import COLOURS, GREY, INK, PALETTE, beside, figure, panels

CLASSES, UNITS, HIDDEN, T, DTYPE = 5, 20, 64, 50, np.float32
DECAY, EPOCHS, SEEDS = 0.95, 15, range(4)


class Task(NamedTuple):
    """Spikes (T, N, 1, units, 1) and labels (N,), to train with and to test with."""

    x: np.ndarray
    labels: np.ndarray
    x_test: np.ndarray
    labels_test: np.ndarray


class ShortMemory(SpikingBlock):
    """A spiking block whose gradient goes back no further than to the start of its block of `reach` steps.

    Forwards nothing changes. A reach of 0 leaves out the layer's gradient altogether.
    """

    reach = 1

    def backward(self, ds, cache, observe=None, need_dx=True):
        dx, whole = np.zeros_like(ds), cache.whole_neuron()
        for start in range(0, len(ds), self.reach) if self.reach else ():
            steps = slice(start, start + self.reach)
            neuron = whole._replace(u=whole.u[steps], s=whole.s[steps])
            dx[steps], _ = ops.lif_backward(ds[steps], neuron, cache.width[steps])
        if observe is not None:
            observe(self, cache, ds, dx)
        dx, dgamma, dbeta = ops.tdbn_backward(dx, cache.norm)
        dx, dweight, _ = ops.linear_backward(dx, cache.synapse)
        return dx, {f"{self.name}.{key}": d for key, d in (("weight", dweight), ("gamma", dgamma), ("beta", dbeta))}


@cache
def task(seed=0, steps=T):
    """Spike times on rough manifolds, one for each of five classes, as T frames: a Task of 500 and 500 samples."""
    dataset = data.randman(CLASSES, UNITS, alpha=1, train=100, test=100, seed=seed)
    frames = [part.frames(steps, dtype=DTYPE) for part in (dataset.x_train, dataset.x_test)]
    return Task(frames[0], dataset.y_train, frames[1], dataset.y_test)


def network(seed=0, decay=DECAY, width="adaptive", v_th=0.5, reach=None):
    """One spiking layer of 64 neurons and a readout. width : a rule, or a number. reach : of `ShortMemory`, None for all."""
    rule = {"width": width} if isinstance(width, str) else {"width": "fixed", "fixed_width": width}
    net = models.fc_snn(1, (1, UNITS), CLASSES, (HIDDEN,), decay=decay, v_th=v_th, dtype=DTYPE, seed=seed,
                        conventions=Conventions(**rule, norm_shift="beta V_th"))  # fmt: skip
    if reach is not None:
        block = net.layers[1]
        net.layers[1] = ShortMemory(block.name, block.synapse, block.norm, block.neuron)
        net.layers[1].reach = reach
    return net


def fit(net, samples, seed=0, epochs=EPOCHS, batch=50, lr=0.03):
    """Train in place by Adam; a `conv_snn.Run`."""
    train, test = Images(samples.x, samples.labels), Images(samples.x_test, samples.labels_test)
    return descend(net, optim.Adam(net.parameters(), lr=lr), train, test, epochs, batch, seed)


@cache
def accuracies(seeds=tuple(SEEDS), epochs=EPOCHS, **setting):
    """Test accuracy of each seed, which draws task, weights and order; `setting` as for `network`."""
    return np.array([fit(network(s, **setting), task(s), s, epochs).right.mean() for s in seeds])


# --- figures ----------------------------------------------------------------------------------------------------------


@figure
def spike_rasters(samples=3, classes=(0, 1, 2)):
    """When each of 20 units fires, once: one dot in each row for each of three samples of three classes."""
    dataset = task(0, TICKS)
    fig, axes = panels(11, 4.2, 1, len(classes), sharey=True, grid="both")
    for ax, label in zip(np.ravel(axes), classes, strict=True):
        for index, colour in zip(np.flatnonzero(dataset.labels == label)[:samples], PALETTE, strict=False):
            times, units = np.nonzero(dataset.x[:, index, 0, :, 0])
            ax.plot(times, units, "o", color=colour, ms=6)
        ax.set(title=f"class {label}", xlabel="time (ticks)", yticks=[0, 5, 10, 15])
    np.ravel(axes)[0].set(ylabel="unit")
    return fig


@figure
def order_in_one_neuron(weights=(0.5, 0.75), decay=0.5, v_th=1.0):
    """Potential of one neuron after two spikes, a then b and b then a: only one of the orders reaches the threshold.

    weights : of the two inputs, the first of which is a.
    """
    fig, axes = panels(9, 3.8, 1, 2, sharey=True)
    for ax, (first, second) in zip(axes, ((0, 1), (1, 0)), strict=True):
        x = np.zeros((4, 1))
        x[0], x[1] = weights[first], weights[second]
        s, kept = ops.lif_forward(x, decay, v_th)
        ax.bar(range(1, 5), kept.u[:, 0], width=0.5, color=[INK if fired else COLOURS["u"] for fired in s[:, 0]])
        ax.axhline(v_th, color=COLOURS["V_th"])
        ax.set(title=f"{'ab'[first]} at t = 1, {'ab'[second]} at t = 2", xlabel="t", xticks=range(1, 5))
    axes[0].set(ylabel="u, black where it fires", ylim=(0, 1.15 * max(v_th, *weights)))
    beside(axes[1], "$V_{th}$", (4.3, v_th), (0, -18), color=COLOURS["V_th"])
    return fig


@figure
def gradient_reach(decay=DECAY, steps=20, reaches=(1, 5, 20)):
    """How much of the gradient at the last timestep arrives at the inputs before it, when the way back is cut in blocks.

    reaches : lengths of the blocks. One neuron that never fires, so that the leak alone acts.
    """
    fig, axes = panels(11, 3.6, 1, len(reaches), sharey=True)
    ds = np.zeros((steps, 1))
    ds[-1] = 1.0
    _, kept = ops.lif_forward(np.zeros((steps, 1)), decay, 0.5)
    for ax, reach in zip(np.ravel(axes), reaches, strict=True):
        dx = np.zeros(steps)
        start = (steps - 1) // reach * reach
        part = kept._replace(u=kept.u[start:], s=kept.s[start:])
        dx[start:] = ops.lif_backward(ds[start:], part, np.full(steps - start, 2.0))[0][:, 0]
        ax.bar(np.arange(1, steps + 1), dx / dx[-1], color=COLOURS["gradient"])
        ax.set(title="one block: all of BPTT" if reach >= steps else f"blocks of {reach}", xlabel="t of the input")
    np.ravel(axes)[0].set(ylabel="gradient (share)")
    return fig


@figure
def accuracy_by_seed(measured=None, chance=1 / CLASSES):
    """Test accuracy of several settings, a dot for each seed and a line at their mean; dashed: guessing.

    measured : {setting: accuracies (seeds,)}, by default of two seeds and a training that is much too short.
    """
    if measured is None:
        measured = {f"tau = {decay:g}": accuracies((0, 1), 2, decay=decay) for decay in (0.0, DECAY)}
    fig, ax = panels(8.5, 4.4, grid="y")
    for place, values in enumerate(measured.values()):
        spread = np.linspace(-0.12, 0.12, len(values))
        ax.plot(place + spread, 100 * np.array(values), "o", color=COLOURS["fixed"], ms=8)
        ax.plot([place - 0.25, place + 0.25], [100 * np.mean(values)] * 2, color=INK)
    ax.axhline(100 * chance, color=GREY, ls="--")
    ax.set(ylabel="test accuracy (%)", ylim=(0, 103), xlim=(-0.6, len(measured) - 0.4))
    ax.set_xticks(range(len(measured)), list(measured))
    return fig
