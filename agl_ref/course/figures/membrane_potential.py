"""Figures of notebook 4: tdBN, the potential's spread by layer and timestep, Theorem 1 against the exact law."""

import numpy as np

from agl_ref import data, theory
from agl_ref.conventions import MPD_AGL
from agl_ref.engine import models
from agl_ref.engine.blocks import Flatten, Readout, SpikingBlock
from agl_ref.engine.network import Network
from agl_ref.engine.ops import lif_forward, tdbn_forward
from agl_ref.engine.parts import LIF, Conv2d, TdBN
from agl_ref.train import diagnostics

from .registry import COLOURS, GREY, INK, PALETTE, beside, figure, panels

DECAY, V_TH, T = 0.5, 0.5, 4


def images(n=100, dtype=np.float64):
    """The first n bundled training images, standardised and shown at each of 4 timesteps: (4, n, 28, 28, 1)."""
    dataset = data.load("bundled")
    mean, std = data.channel_statistics(dataset.x_train)
    return data.encode(data.standardise(dataset.x_train[:n], mean, std, dtype), T=T)


def blocks_in_a_row(depth, halved, seeds, neuron, norm=True, channels=16, dtype=np.float64, conventions=MPD_AGL):
    """A network for images of 28 x 28: `depth` spiking blocks, the first `halved` of them at stride 2, and a readout.

    seeds(i) : seed of layer i's weights, the readout being the last.
    """
    blocks, c_in = [], 1
    for i in range(depth):
        synapse = Conv2d(c_in, channels, stride=2 if i < halved else 1, dtype=dtype, seed=seeds(i))
        blocks.append(SpikingBlock(f"conv{i + 1}", synapse, TdBN(channels, dtype=dtype) if norm else None, neuron()))
        c_in = channels
    readout = Readout("fc", (28 >> halved) ** 2 * channels, 10, dtype=dtype, seed=seeds(depth))
    return Network([*blocks, Flatten(), readout], (28, 28, 1), conventions)


def chain(norm=True, scale=1.0, depth=5):
    """A network of convolutional blocks, the initial weights times `scale`, with tdBN or without."""
    net = blocks_in_a_row(depth, 1, lambda i: i, lambda: LIF(DECAY, V_TH), norm)
    for _, block in net.blocks():
        block.synapse.params["weight"] *= scale
    return net


def firing_rates(norm, scale):
    """Share of neurons that fire in each layer of `chain`, over images and timesteps: (5,)."""
    trace = chain(norm, scale).forward(images(50))
    return np.array([cache.s.mean() for _, cache in trace.items()])


def small_trace():
    """The forward pass of the notebook's network, three spiking blocks, on 100 images."""
    return models.conv_snn(channels=(8, 16, 32), decay=DECAY, v_th=V_TH).forward(images())


def input_current(trace, name):
    """What the norm of block `name` gave its neurons: (T, n)."""
    cache, block = trace[name], dict(trace.net.blocks())[name]
    x, _ = tdbn_forward(cache.norm.x, cache.norm.gamma, block.norm.params["beta"], v_th=V_TH)
    return x.reshape(len(x), -1)


def shuffled_std(x, seed=0):
    """The potential's standard deviation (T,) when the same currents x (T, n) come in random order."""
    mixed = np.random.default_rng(seed).permutation(x.ravel()).reshape(x.shape)
    _, cache = lif_forward(mixed, decay=DECAY, v_th=V_TH)
    return diagnostics.potential_moments(cache.u)[1]


@figure
def weights_scaled(rates=None):
    """Firing rate by layer with weights that are half, just, or twice as large: without a norm, and with tdBN.

    rates : {(norm, scale): shares (layers,)}
    """
    if rates is None:
        rates = {(norm, scale): firing_rates(norm, scale) for norm in (False, True) for scale in (0.5, 1.0, 2.0)}
    fig, both = panels(9, 4, 1, 2, sharey=True, grid="both")
    axes = dict(zip((False, True), both, strict=True))
    scales = sorted({scale for _, scale in rates})
    for (norm, scale), share in rates.items():
        i = scales.index(scale)
        axes[norm].plot(np.arange(1, len(share) + 1), 100 * share, marker="os^"[i % 3], color=PALETTE[i], ms=9 - 2 * i)
        if not norm:
            end = len(share), 100 * share[-1]
            beside(axes[norm], f"weights times {scale:g}", end, (4, 8), color=PALETTE[i], ha="right")
    beside(axes[True], "all three the same", (3, 100 * rates[True, scales[-1]][2]), (0, 14), ha="center")
    for norm, ax in axes.items():
        ax.set(title="with tdBN" if norm else "without a norm", xlabel="layer", ylim=(-1, None))
        ax.set_xticks(np.arange(1, len(next(iter(rates.values()))) + 1))
    axes[False].set_ylabel("neurons that fire (%)")
    return fig


@figure
def potential_histograms(trace=None):
    """Histograms of u_t by layer (row) and timestep (column), with the adaptive window around V_th.

    trace : Trace
    """
    trace = small_trace() if trace is None else trace
    names, steps = trace.names(), len(trace.x)
    fig, axes = panels(11, 2.1 * len(names) + 0.6, len(names), steps, sharex=True, squeeze=False)
    edges = np.linspace(-3, 2.5, 67)
    for row, (name, cache) in zip(axes, trace.items(), strict=True):
        for t, ax in enumerate(row):
            u, half = cache.u[t].ravel(), cache.width[t] / 2
            ax.hist(np.clip(u, edges[0], edges[-1]), edges, density=True, color=COLOURS["u"], alpha=0.75)
            ax.axvspan(V_TH - half, V_TH + half, color=COLOURS["window"], alpha=0.3, lw=0)
            ax.axvline(V_TH, color=COLOURS["V_th"], lw=1.5)
            ax.text(0.02, 0.97, f"std {u.std():.2f}", transform=ax.transAxes, va="top")
            ax.set(yticks=[], ylim=(0, 1.25 * ax.get_ylim()[1]), xlim=(-3, 2.5))
        row[0].set_ylabel(name)
    for t, ax in enumerate(axes[0]):
        ax.set_title(f"t = {t + 1}")
    for ax in axes[-1]:
        ax.set_xlabel("$u_t$")
    axes[0, 0].text(V_TH + 0.07, 0.80 * axes[0, 0].get_ylim()[1], r"$V_{th}$", color=COLOURS["V_th"])
    axes[0, 0].text(V_TH + 0.55, 0.55 * axes[0, 0].get_ylim()[1], "window", color="#8A5A00")
    return fig


@figure
def spread_without_reset(decays=(0.2, 0.5, 0.9), steps=10):
    """The potential's standard deviation over that of the input if nothing resets it: the whole sum, and Theorem 1."""
    fig, ax = panels(8, 4, grid="both")
    t = np.arange(1, steps + 1)
    for i, decay in enumerate(decays):
        whole = theory.no_reset(0.0, 1.0, decay, V_TH, steps).std
        paper = theory.theorem1(0.0, 1.0, decay, V_TH, steps).std
        ax.plot(t, whole, color=PALETTE[i], marker="o")
        ax.plot(t, paper, color=PALETTE[i], ls="--")
        beside(ax, rf"$\tau$ = {decay:g}", (t[-1], whole[-1]), (8, -4), color=PALETTE[i])
    ax.plot([], [], color=INK, marker="o", label="all terms")
    ax.plot([], [], color=INK, ls="--", label="Theorem 1: two terms")
    ax.legend(loc="upper left")
    ax.set(xlabel="timestep t", ylabel="std of $u_t$ / std of $x_t$", xlim=(0.8, steps + 1.4), ylim=(0.9, None))
    ax.set_xticks(t)
    return fig


@figure
def density_with_reset(u=None, mu=0.0, sigma=0.5, decay=DECAY, steps=T, neurons=200_000):
    """The density of u_t with the hard reset: neurons simulated, the exact law, Theorem 1's Gaussian.

    u : ndarray (T, n), potentials simulated with these parameters
    """
    if u is None:
        x = np.random.default_rng(0).normal(mu, sigma, (steps, neurons))
        u = lif_forward(x, decay=decay, v_th=V_TH)[1].u
    exact = theory.hard_reset(mu, sigma, decay, V_TH, len(u))
    paper = theory.theorem1(mu, sigma, decay, V_TH, len(u))
    z = np.linspace(mu - 4 * sigma, mu + 4 * sigma, 161)
    fig, axes = panels(11, 3.9, 1, len(u), sharey=True)
    axes = np.ravel(axes)
    for t, ax in enumerate(axes):
        ax.hist(u[t], z[::2], density=True, color=GREY, alpha=0.5)
        ax.plot(z, exact.density(z)[t], color=COLOURS["u"])
        ax.plot(z, paper.density(z)[t], color=COLOURS["adaptive"], ls="--")
        ax.axvline(V_TH, ymax=0.72, color=INK, lw=1)
        ax.set(title=f"t = {t + 1}", xlabel="$u_t$", yticks=[])
    top = 1.45 * exact.density(z)[0].max()
    axes[0].set_ylim(0, top)
    for t, ax in enumerate(axes):
        text = f"exact std {exact.std[t]:.3f}\nTheorem 1 {paper.std[t]:.3f}"
        ax.text(0.02, 0.98, text, transform=ax.transAxes, va="top")
    handles = [axes[0].patches[0], axes[0].lines[0], axes[0].lines[1]]
    labels = ["simulated neurons", "exact law", "Theorem 1"]
    fig.legend(handles, labels, loc="outside lower center", ncols=3)
    axes[0].text(V_TH + 0.08 * sigma, 0.72 * top, "$V_{th}$", va="top")
    axes[0].set_ylabel("density")
    return fig


@figure
def theorem1_error(means=(-0.5, 0.0, 0.5), steps=10):
    """How much larger Theorem 1's standard deviation is than the exact one at t = `steps`, by leak and mean input."""
    fig, ax = panels(8, 4.2, grid="both")
    decays = np.linspace(0, 0.9, 19)
    for i, mu in enumerate(means):
        error = [theory.theorem1(mu, 0.5, tau, V_TH, steps).std[-1] / theory.hard_reset(mu, 0.5, tau, V_TH, steps).std[-1]
                 for tau in decays]  # fmt: skip
        error = 100 * (np.array(error) - 1)
        ax.plot(decays, error, color=PALETTE[i], marker="os^"[i % 3], markevery=2)
        beside(ax, rf"$\bar\beta$ = {mu:g}", (decays[-1], error[-1]), (8, -4), color=PALETTE[i])
    ax.axhline(0, color=INK, lw=1)
    ax.axvline(0.2, color=GREY, lw=1.5, ls=":")
    beside(ax, "paper's default", (0.2, ax.get_ylim()[0]), (5, 6), color="#666666")
    ax.set(xlabel=r"leak factor $\tau$", ylabel=f"error of Theorem 1's std, t = {steps} (%)", xlim=(0, 1.08))
    return fig


@figure
def spread_in_a_network(measured=None, shuffled=None):
    """The potential's standard deviation by timestep in each layer of a network: measured, the same currents in random
    order, and the two laws.

    measured, shuffled : {layer: ndarray (T,)}
    """
    if measured is None or shuffled is None:
        trace = small_trace()
        measured = {name: diagnostics.potential_moments(cache.u)[1] for name, cache in trace.items()}
        shuffled = {name: shuffled_std(input_current(trace, name)) for name in trace.names()}
    steps = len(next(iter(measured.values())))
    t = np.arange(1, steps + 1)
    exact = theory.hard_reset(0.0, V_TH, DECAY, V_TH, steps).std
    paper = theory.theorem1(0.0, V_TH, DECAY, V_TH, steps).std
    fig, axes = panels(10, 4.2, 1, len(measured), sharey=True, grid="both")
    axes = np.ravel(axes)
    for name, ax in zip(measured, axes, strict=True):
        ax.plot(t, measured[name], color=INK, marker="o", label="measured")
        ax.plot(t, paper, color=COLOURS["adaptive"], ls="--", label="Theorem 1")
        ax.plot(t, exact, color=COLOURS["u"], label="exact law")
        ax.plot(t, shuffled[name], color="#009E73", marker="D", ls="", ms=8, label="measured, shuffled")
        ax.set(title=name, xlabel="timestep t", ylim=(0.35, 0.8))
        ax.set_xticks(t)
    axes[0].set_ylabel("std of $u_t$")
    fig.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return fig
