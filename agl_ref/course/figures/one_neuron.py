"""Figures of notebook 1: the potential of one LIF neuron, its leak, its resets, how its rate depends on the input."""

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.engine.ops import lif_forward

from .registry import COLOURS, INK, PALETTE, beside, figure, panels

HAND_X = np.array([[0.25], [0.5], [0.5]])  # the neuron of notebooks 1 and 3
MARKERS = "osD^v"


def _draw_potential(ax, cache, v_th, numbers=False):
    """u_t as dots, v_t as open squares, the reset as a falling line, the leak and input as a rising one."""
    u, s, v = cache.u[:, 0], cache.s[:, 0], cache.v[:, 0]
    T = len(u)
    t = np.arange(1, T + 1)
    before = np.concatenate([[0.0], v[:-1]])
    ax.plot([t - 1, t], [before, u], color=COLOURS["u"], lw=1.2, alpha=0.7)
    fired = s > 0
    ax.plot([t[fired], t[fired]], [u[fired], v[fired]], color=COLOURS["v"], lw=1.5, ls=":")
    ax.plot(t, v, "s", mfc="white", mec=COLOURS["v"], mew=2, ms=9 if numbers else 6, label="$v_t$ after the reset")
    ax.plot(t, u, "o", color=COLOURS["u"], ms=7 if numbers else 5, label="$u_t$ before the reset")
    ax.axhline(v_th, color=COLOURS["V_th"], lw=1.5, ls="--")
    ax.text(T + 0.6, v_th, f"$V_{{th}}$ = {v_th:g}", color=COLOURS["V_th"], va="center", ha="left")
    if numbers:
        for ti, ui, vi, fires in zip(t, u, v, fired, strict=True):
            beside(ax, f"$u_{ti}$ = {ui:g}", (ti, ui), (-6, 8), color=COLOURS["u"], ha="right")
            if fires:
                beside(ax, f"$v_{ti}$ = {vi:g}", (ti, vi), (-10, 0), ha="right", va="center")
    ax.set(xlim=(0, T + 0.5), ylabel="potential")


def _draw_spikes(ax, s):
    t = np.flatnonzero(s) + 1
    ax.vlines(t, 0, 1, color=COLOURS["s"], lw=2.5)
    ax.set(ylim=(0, 1.1), yticks=[])
    ax.set_ylabel("$s_t$", rotation=0, ha="right", va="center")


@figure
def neuron_trace(x=None, decay=0.5, v_th=0.5, reset="hard"):
    """Input, potential and spikes of one neuron over time.

    x (T, 1) is random by default; short inputs have their numbers written in.
    """
    x = np.random.default_rng(3).uniform(0.0, 0.5, (30, 1)) if x is None else x
    T = len(x)
    s, cache = lif_forward(x, decay, v_th, Conventions(reset=reset))
    fig, (top, middle, bottom) = panels(8, 5, 3, 1, sharex=True, height_ratios=(1, 3, 0.5))
    t = np.arange(1, T + 1)
    top.bar(t, x[:, 0], width=0.3, color=COLOURS["x"])
    top.set_ylabel("$x_t$", rotation=0, ha="right", va="center")
    top.set_title(f"tau = {decay:g}, {reset} reset: {int(s.sum())} spike{'' if s.sum() == 1 else 's'} in {T} steps")
    _draw_potential(middle, cache, v_th, numbers=T <= 4)
    low = min(0.0, float(cache.v.min()), float(cache.u.min()))
    middle.set_ylim(low - 0.05, max(1.35 * v_th, 1.25 * float(cache.u.max())))
    if T <= 4:
        middle.set_xticks(t)
    else:
        middle.legend(loc="upper left", ncols=2, borderaxespad=0.0, handletextpad=0.2)
        middle.set_ylim(top=middle.get_ylim()[1] * 1.12)
    _draw_spikes(bottom, s[:, 0])
    bottom.set_xlabel("timestep t")
    return fig


@figure
def neuron_by_hand():
    """The trace of the neuron by hand, T = 3, with its numbers."""
    return neuron_trace(HAND_X)


@figure
def leak_factors(decays=(0.2, 0.5, 0.9), x=0.3, v_th=0.5, T=12):
    """Left: what is left of one input of 1 after t steps. Right: a constant input x; the potential without a reset."""
    fig, (left, right) = panels(9, 4, 1, 2)
    t = np.arange(1, T + 1)
    pulse, constant = np.zeros((T, 1)), np.full((T, 1), float(x))
    pulse[0] = 1.0
    never = 1e9  # a threshold that is out of reach
    for k, decay in enumerate(decays):
        look = {"color": PALETTE[k], "marker": MARKERS[k % 5], "ms": 5, "label": f"tau = {decay:g}"}
        left.plot(t, lif_forward(pulse, decay, never)[1].u[:, 0], **look)
        u = lif_forward(constant, decay, never)[1].u[:, 0]
        right.plot(t, u, **look)
        beside(right, f"tau = {decay:g}", (T, u[-1]), (8, 0), color=PALETTE[k], va="center", annotation_clip=False)
    left.legend()
    ticks = np.arange(1, T + 1, max(1, T // 4))
    left.set(title="one input of 1 at t = 1", xlabel="timestep t", ylabel="$u_t$", xticks=ticks)
    right.axhline(v_th, color=INK, lw=1.5, ls="--")
    right.set(title=f"constant {x:g}, no reset; dashed: $V_{{th}}$", xlabel="timestep t", ylabel="$u_t$", xticks=ticks)
    return fig


@figure
def three_resets(x=None, decay=0.75, v_th=0.5):
    """The same input, x (T, 1), through the hard reset, the soft reset and none; by default one strong input at t = 1."""
    x = 1.25 * np.eye(8, 1) if x is None else x
    fig, axes = panels(8, 7, 3, 1, sharex=True)
    top = 0.0
    for ax, reset in zip(axes, ("hard", "soft", "none"), strict=True):
        s, cache = lif_forward(x, decay, v_th, Conventions(reset=reset))
        _draw_potential(ax, cache, v_th)
        top = max(top, float(cache.u.max()))
        fired = np.flatnonzero(s[:, 0]) + 1
        ax.plot(fired, cache.u[fired - 1, 0], "*", color=COLOURS["s"], ms=13, label="fires")
        ax.set_title(f"{reset}: {len(fired)} spike{'' if len(fired) == 1 else 's'}")
    for ax in axes:
        ax.set_ylim(-0.1, 1.15 * top)
    axes[0].legend(loc="upper right", ncols=3, handletextpad=0.2, borderaxespad=0.0)
    axes[-1].set_xlabel("timestep t")
    return fig


def firing_rates(inputs, decay, v_th=0.5, T=200, reset="hard"):
    """Share of T timesteps in which a neuron fires under each of the constant inputs (n,); returns (n,)."""
    x = np.repeat(np.asarray(inputs, np.float64)[None, :], T, axis=0)
    s, _ = lif_forward(x, decay, v_th, Conventions(reset=reset))
    return s.mean(axis=0)


@figure
def firing_rate(decays=(0.2, 0.5, 0.9), v_th=0.5, T=200):
    """Firing rate against a constant input: a staircase."""
    inputs = np.linspace(0.0, 0.6, 1201)
    fig, ax = panels(8, 4)
    for k, decay in enumerate(decays):
        ax.plot(inputs, firing_rates(inputs, decay, v_th, T), color=PALETTE[k], ls=("-", "--", "-.", ":")[k % 4],
                label=f"tau = {decay:g}")  # fmt: skip
    ax.set(xlabel="constant input x", ylabel="spikes per timestep")
    ax.legend()
    return fig
