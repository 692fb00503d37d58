"""Figures of notebook 10: how the student's own network learns."""

import numpy as np

from .registry import GREY, PALETTE, figure, panels

SMOOTH = 10  # steps in a running mean


@figure
def own_learning_curves(runs=None):
    """The loss by training step of one or several networks, a running mean over ten steps; dotted, that of guessing.

    runs : {name: losses (steps,)}, by default two invented ones, the second of which learns half as fast.
    """
    if runs is None:
        steps = np.arange(80)
        runs = {name: 0.5 + 1.8 * np.exp(-steps / rate) for name, rate in (("right", 15), ("a part is wrong", 30))}
    fig, ax = panels(8, 4)
    for color, (name, losses) in zip(PALETTE, runs.items(), strict=False):
        mean = np.convolve(losses, np.full(SMOOTH, 1 / SMOOTH), "valid")
        ax.plot(np.arange(SMOOTH, len(losses) + 1), mean, color=color, label=name)
    ax.axhline(np.log(10), color=GREY, ls=":")
    ax.set(xlabel="step", ylabel="loss", ylim=(0, 2.6))
    ax.legend(loc="upper right")  # where no falling loss is
    return fig
