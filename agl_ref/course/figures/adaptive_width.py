"""Figures of notebook 5: the adaptive window, its coverage and its gain, where it loses, and a leak that is learned."""

import numpy as np

from agl_ref import theory
from agl_ref.engine import models
from agl_ref.engine.ops import plif_backward, plif_forward
from agl_ref.engine.width import adaptive_width
from agl_ref.train import diagnostics

from .membrane_potential import images
from .registry import COLOURS, GREY, INK, PALETTE, beside, figure, panels

V_TH, FIXED = 0.5, 1.0
ADAPTIVE_COLOUR, FIXED_COLOUR = COLOURS["adaptive"], COLOURS["fixed"]


def widths(gamma, decay, steps):
    """kappa_t (steps,) of the adaptive rule for a layer whose gammas are all this number."""
    return adaptive_width(np.full(1, float(gamma)), V_TH, decay, steps)


def gaussian_coverage(gamma, beta, decay):
    """Theorem 1's coverage at t >= 2: (of the adaptive window, of the window of width 1)."""
    law = theory.theorem1(beta, gamma * V_TH, decay, V_TH, 2)
    return law.coverage(widths(gamma, decay, 2))[1], law.coverage(FIXED)[1]


def layer_factor(gamma, decay=0.2, beta=0.0, width=FIXED):
    """What a gradient's root mean square is multiplied by from one layer to the one below, at t >= 2, as Theorem 1 has it:
    (with the adaptive window, with a window of this width).

        gamma V_th / sqrt(p (1 - p)) * sqrt(coverage) / kappa,   p the firing probability

    for convolutions with as many channels in as out. The first factor comes from tdBN and the convolution: weights of
    variance w^2 over n inputs give currents of variance n w^2 p (1 - p), by whose root the norm divides; the way back
    multiplies the variance by n w^2.
    """
    law = theory.theorem1(beta, gamma * V_TH, decay, V_TH, 2)
    p = law.firing_probability[1]
    through_norm = gamma * V_TH / np.sqrt(p * (1 - p))
    kappa = widths(gamma, decay, 2)[1]
    return (through_norm * np.sqrt(law.coverage(kappa)[1]) / kappa,
            through_norm * np.sqrt(law.coverage(width)[1]) / width)  # fmt: skip


def network_coverage(gamma, decay=0.2):
    """Coverage in a network of three blocks whose gammas are all this number, on 100 images, mean over t >= 2:
    {layer: (adaptive, fixed)}."""
    net = models.conv_snn(channels=(8, 16, 32), decay=decay, v_th=V_TH)
    for name, array in net.parameters().items():
        if name.endswith(".gamma"):
            array[...] = gamma
    result = {}
    for name, cache in net.forward(images()).items():
        fixed = np.full(len(cache.u), FIXED)
        both = [diagnostics.window_coverage(cache.u, width, V_TH)[1:].mean() for width in (cache.width, fixed)]
        result[name] = tuple(both)
    return result


def learn_tau(start, target=0.8, steps=80, lr=2.0, neurons=2000):
    """The leak of PLIF neurons by training step, which learn to fire when neurons of leak `target` do: (steps + 1,)."""
    x = np.random.default_rng(0).normal(0.0, V_TH, (10, neurons))
    wanted, _ = plif_forward(x, np.log(target / (1 - target)), v_th=V_TH)
    w, taus = np.log(start / (1 - start)), []
    for _ in range(steps + 1):
        s, cache = plif_forward(x, w, v_th=V_TH)
        taus.append(cache.decay)
        _, dw = plif_backward((s - wanted) / neurons, cache, widths(1.0, cache.decay, len(x)))
        w -= lr * dw
    return np.array(taus)


@figure
def window_on_density(gamma=2.5, decay=0.2, beta=0.0):
    """The exact density of u_t at t = 1 and t = 4 with the adaptive and the fixed window, and the coverage of both."""
    steps = 4
    law = theory.hard_reset(beta, gamma * V_TH, decay, V_TH, steps)
    kappa = widths(gamma, decay, steps)
    coverage = {"adaptive": law.coverage(kappa), "fixed": law.coverage(FIXED)}
    z = np.linspace(-3.5, 4.5, 601)
    fig, axes = panels(10, 4.4, 1, 2, sharey=True)
    for ax, t in zip(axes, (0, steps - 1), strict=True):
        f = law.density(z)[t]
        ax.plot(z, f, color=INK)
        inside = np.abs(z - V_TH) < kappa[t] / 2
        ax.fill_between(z, f, where=inside, color=ADAPTIVE_COLOUR, alpha=0.35, lw=0)
        ax.set_ylim(0, 1.75 * law.density(z).max())
        top = ax.get_ylim()[1]
        for label, width, y in (("adaptive", kappa[t], 0.87), ("fixed", FIXED, 0.70)):
            colour = COLOURS[label]
            ax.plot([V_TH - width / 2, V_TH + width / 2], [top * y] * 2, color=colour, lw=6, solid_capstyle="butt")
            text = f"{label}, width {width:.2f}: covers {coverage[label][t]:.0%}"
            ax.text(-3.4, top * (y + 0.03), text, color=colour, va="bottom")
        ax.axvline(V_TH, ymax=0.69, color=INK, lw=1, ls=":")
        ax.text(V_TH + 0.1, 0.6 * top, "$V_{th}$")
        ax.set(title=f"t = {t + 1}", xlabel="$u_t$", yticks=[], xlim=(-3.5, 4.5))
    fig.axes[0].set_ylabel("density")
    fig.suptitle(rf"$\bar\gamma$ = {gamma:g},  $\tau$ = {decay:g},  $\bar\beta$ = {beta:g}", x=0.01, ha="left")
    return fig


def _two_curves(ax, x, values, labels_at):
    """Draw values (2, n), adaptive and fixed, with their names at x = labels_at."""
    for (label, colour, marker), y, at in zip(
        (("adaptive", ADAPTIVE_COLOUR, "o"), ("fixed, width 1", FIXED_COLOUR, "s")), values, labels_at, strict=True
    ):
        ax.plot(x, y, color=colour, marker=marker, markevery=8)
        rising = y[-1] > y[0]
        dx, ha = (-6, "right") if rising else (-14, "center")  # above a rising curve there is room on the left
        dy = 12 if label != "adaptive" or rising else -22
        beside(ax, label, (at, np.interp(at, x, y)), (dx, dy), color=colour, ha=ha)
    ax.grid(alpha=0.3)


def _held(decay):
    """What a curve over gamma holds fixed, for its title."""
    return rf"$t \geq 2$, $\tau$ = {decay:g}, $V_{{th}}$ = {V_TH:g}"


@figure
def coverage_by_gamma(decay=0.2, beta=0.0):
    """Coverage of the adaptive window and of the window of width 1, by tdBN's scale, at t >= 2."""
    gammas = np.geomspace(0.2, 5, 65)
    values = 100 * np.array([gaussian_coverage(gamma, beta, decay) for gamma in gammas]).T
    fig, ax = panels(8, 4.2)
    _two_curves(ax, gammas, values, (3.2, 0.3))
    ax.set_xscale("log")
    ax.axvline(1, color=GREY, lw=1.5, ls=":")
    beside(ax, r"where training starts", (1, 3), (5, 0), color="#666666")
    ax.set_xticks([0.2, 0.5, 1, 2, 5], ["0.2", "0.5", "1", "2", "5"])
    ax.minorticks_off()
    ax.set(xlabel=r"$\bar\gamma$", ylabel="neurons inside the window (%)", ylim=(0, 75))
    ax.set_title(_held(decay) + rf", $\bar\beta$ = {beta:g}")
    return fig


@figure
def factor_by_gamma(decay=0.2):
    """What a gradient is multiplied by from layer to layer, by tdBN's scale."""
    gammas = np.geomspace(0.4, 5, 65)
    values = np.array([layer_factor(gamma, decay) for gamma in gammas]).T
    fig, ax = panels(8, 4.2)
    _two_curves(ax, gammas, values, (3.2, 1.9))
    ax.axhline(1, color=INK, lw=1)
    ax.text(0.02, 0.06, "on the black line gradients keep their size", transform=ax.transAxes)
    ax.set(xscale="log", xlabel=r"$\bar\gamma$", ylabel="factor from layer to layer", ylim=(0, 2.2))
    ax.set_xticks([0.5, 1, 2, 5], ["0.5", "1", "2", "5"])
    ax.minorticks_off()
    ax.set_title(_held(decay) + r", $\bar\beta$ = 0")
    return fig


@figure
def coverage_by_beta(gammas=(0.5, 1.0, 2.0), decay=0.2):
    """Coverage of both windows by tdBN's shift, at t >= 2, one panel for each gamma."""
    betas = np.linspace(-2, 2, 65)
    fig, axes = panels(11, 4, 1, len(gammas), sharey=True, grid="both")
    for gamma, ax in zip(gammas, np.ravel(axes), strict=True):
        values = 100 * np.array([gaussian_coverage(gamma, beta, decay) for beta in betas]).T
        for label, y in zip(("adaptive", "fixed"), values, strict=True):
            ax.plot(betas, y, color=COLOURS[label], ls="-" if label == "adaptive" else "--", label=label)
        ax.axvline(V_TH / (1 + decay), color=INK, lw=1, ls=":")
        ax.set(title=rf"$\bar\gamma$ = {gamma:g}", xlabel=r"$\bar\beta$", ylim=(0, 108), xticks=range(-2, 3))
    fig.axes[0].set_ylabel("neurons inside the window (%)")
    fig.legend(fig.axes[0].lines[:2], ["adaptive", "fixed, width 1"], loc="outside upper center", ncols=2)
    return fig


@figure
def coverage_in_a_network(measured=None):
    """Coverage of both windows in each layer of a network against what Theorem 1 says, by tdBN's scale.

    measured : {gamma: {layer: (adaptive, fixed)}}
    """
    measured = {gamma: network_coverage(gamma) for gamma in (0.5, 1.0, 2.0)} if measured is None else measured
    gammas = list(measured)
    place = np.arange(len(gammas))
    fig, axes = panels(10, 4.2, 1, 2, sharey=True, grid="y")
    for k, (ax, label) in enumerate(zip(axes, ("adaptive", "fixed"), strict=True)):
        predicted = [100 * gaussian_coverage(gamma, 0.0, 0.2)[k] for gamma in gammas]
        ax.bar(place, predicted, width=0.75, color=COLOURS[label], alpha=0.3, label="Theorem 1")
        for i, layer in enumerate(measured[gammas[0]]):
            y = [100 * measured[gamma][layer][k] for gamma in gammas]
            ax.plot(place + 0.2 * (i - 1), y, "os^"[i % 3], ls="", color=INK, ms=9, label=f"measured, {layer}")
        ax.set_xticks(place, [f"{gamma:g}" for gamma in gammas])
        ax.set(title=f"{label} window" + (" of width 1" if k else ""), xlabel=r"$\gamma$ of all channels")
    axes[0].set(ylabel="neurons inside the window (%)", ylim=(0, 75))
    handles, labels = axes[1].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    return fig


@figure
def learning_tau(tracks=None, target=0.8):
    """A learned leak by training step from several starts, and the window that follows it.

    tracks : {start: taus (steps,)}
    """
    tracks = {start: learn_tau(start, target) for start in (0.2, 0.5, 0.95)} if tracks is None else tracks
    fig, (left, right) = panels(10, 4, 1, 2, grid="both")
    for i, (start, taus) in enumerate(tracks.items()):
        kappa = 2 * np.sqrt(1 + taus**2) * V_TH
        for ax, y in ((left, taus), (right, kappa)):
            ax.plot(y, color=PALETTE[i], marker="os^"[i % 3], markevery=10)
            beside(ax, f"{start:g}", (0, y[0]), (10, 5 if start > target else -13), color=PALETTE[i])
    left.axhline(target, color=INK, lw=1, ls=":")
    left.set_title("starts: " + ", ".join(f"{start:g}" for start in tracks))
    beside(left, "the teacher's leak", (len(taus) - 1, target), (0, 14), ha="right")
    left.set(ylabel=r"leak $\tau$", ylim=(0, 1.02))
    right.set(ylabel=r"window $\kappa_t$ for $t \geq 2$", ylim=(0.95, 1.42))
    for ax in (left, right):
        ax.set_xlabel("training step")
    return fig
