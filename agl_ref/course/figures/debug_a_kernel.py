"""Figures of notebook 8: where each kernel is wrong, which cases show it, and what two experiments give."""

import numpy as np
from matplotlib.patches import Rectangle

from agl_ref.course import mutant_kernels
from agl_ref.oracle import compare, load_case

from .registry import BLUE, GREY, INK, MAP, VERMILION, beside, figure, panels

CASES = (
    "lif-all-silent", "lif-one-timestep", "lif-all-firing", "lif-one-neuron", "lif-hard-attached", "lif-grid",
    "lif-many-neurons",
)  # fmt: skip


def wrong_gradients(kernel, id, calls=1):
    """Which elements of a kernel's du are outside their bounds in the last of several calls: bool (T, n)."""
    du, case = mutant_kernels.afresh(kernel, id, calls)[-1]["du"], load_case(id)
    off = np.abs(du.astype(np.float64) - case.arrays["du"]) > case.bounds["du"] * 2.0**-24
    return off.reshape(len(off), -1)


@figure
def fingerprints(case="lif-hard-attached", kernels="abcde"):
    """Where du is wrong in the second call of each kernel, by timestep and neuron, with the neurons that fired."""
    s = load_case(case).arrays["s"]
    s = s.reshape(len(s), -1)
    T, n = s.shape
    fig, axes = panels(8, 0.8 + 1.25 * len(kernels), len(kernels), 1, sharex=True)
    for ax, letter in zip(np.ravel(axes), kernels, strict=True):
        off = wrong_gradients(letter, case, calls=2)
        ax.pcolormesh(off, **MAP)
        t, i = np.nonzero(s)
        ax.plot(i + 0.5, t + 0.5, "o", ms=4, color=INK)
        ax.set(yticks=np.arange(T) + 0.5, yticklabels=np.arange(1, T + 1), ylabel="$t$")
        ax.invert_yaxis()
        ax.set_title(f"kernel {letter}: {off.sum()} of {off.size} elements of du are wrong")
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("neuron (a dot: it fired)")
    return fig


def failing_arrays(kernel, id, calls=1):
    """Names of the arrays that FAIL in the last of several calls of a kernel on a golden case, a list."""
    report = compare(load_case(id), mutant_kernels.afresh(kernel, id, calls)[-1])
    return [name for name, verdict in report.verdicts.items() if verdict == "FAIL"]


@figure
def which_case_shows_it(cases=CASES, kernels="abcde"):
    """A table of kernels and golden cases: PASS in the first call, or the first array that fails; last, the second call."""
    fig, ax = panels(8, 0.8 + 0.52 * (len(cases) + 1))
    rows = [(case, 1) for case in cases] + [("lif-hard-attached", 2)]
    for y, (case, calls) in enumerate(rows):
        for x, letter in enumerate(kernels):
            failing = failing_arrays(letter, case, calls)
            colour = VERMILION if failing else "#E4E4E4"
            ax.add_patch(Rectangle((x + 0.02, y + 0.04), 0.96, 0.92, color=colour))
            ax.text(x + 0.5, y + 0.5, failing[0] if failing else "pass", ha="center", va="center",
                    color="white" if failing else "#555555", fontsize=12, weight="bold" if failing else "normal")  # fmt: skip
    labels = [case if calls == 1 else f"{case}, 2nd call" for case, calls in rows]
    ax.set(xlim=(0, len(kernels)), ylim=(len(rows), 0), xticks=np.arange(len(kernels)) + 0.5,
           xticklabels=[f"kernel {k}" for k in kernels], yticks=np.arange(len(rows)) + 0.5, yticklabels=labels)  # fmt: skip
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    for side in ax.spines.values():
        side.set_visible(False)
    return fig


def decay_gradients(kernel, sizes):
    """grad_decay of n equal silent neurons (T = 2, decay 1/2, x = 1/4, ds = 1, kappa = 1) for each n: ndarray.

    One neuron's share is du_2 v_1 = 1/4, so that the right answer is n / 4.
    """
    ones = [np.ones((2, n)) for n in sizes]
    return np.array([float(kernel(a / 4, a, 0.5, 0.5, np.ones(2))["grad_decay"]) for a in ones])


@figure
def gradient_by_size(sizes=None, received=None):
    """grad_decay of equal neurons against their number, beside the right n / 4; by default of kernel a."""
    sizes = np.arange(64, 4097, 64) if sizes is None else np.asarray(sizes)
    received = decay_gradients(mutant_kernels.kernel_a, sizes) if received is None else received
    fig, ax = panels(8, 3.4)
    ax.plot(sizes, sizes / 4, color=GREY, lw=5, alpha=0.6)
    ax.plot(sizes, received, color=BLUE, marker="o", ms=4)
    ax.text(sizes[-1], sizes[-1] / 4, "right: n / 4 ", ha="right", va="bottom", color="#555555")
    beside(ax, "received", (sizes[-1], received[-1]), (0, 5), ha="right", color=BLUE)
    ax.set(xlabel="neurons n", ylabel="grad_decay", xlim=(0, None), ylim=(0, sizes[-1] / 4 * 1.15))
    return fig


@figure
def gradient_by_call(received=None, expected=None):
    """One element of du in call after call with the same arguments; by default of kernel d."""
    if received is None:
        received = [dump["du"][-1, 0, 0] for dump in mutant_kernels.afresh("d", "lif-hard-attached", 6)]
        expected = load_case("lif-hard-attached").arrays["du"][-1, 0, 0]
    calls = np.arange(1, len(received) + 1)
    fig, ax = panels(8, 3.2)
    ax.axhline(expected, color=GREY, lw=5, alpha=0.6)
    ax.plot(calls, received, "o", ms=9, color=VERMILION)
    low, high = min(min(received), expected), max(max(received), expected)
    margin = 0.25 * (high - low) if high > low else 0.1
    beside(ax, "right", (calls[-1] + 0.4, expected), (0, 5), ha="right", color="#555555")
    ax.set(xlabel="call with the same arguments", ylabel="du of one neuron, last $t$", xticks=calls,
           xlim=(0.6, calls[-1] + 0.4), ylim=(low - margin, high + margin))  # fmt: skip
    return fig
