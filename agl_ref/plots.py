"""Figures: membrane potential histograms with the surrogate's windows, and training curves.

Colours are those of Okabe and Ito (2008), told apart by colour-blind readers.
"""

from pathlib import Path

import numpy as np

ADAPTIVE, FIXED, POTENTIAL, THRESHOLD = "#D55E00", "#0072B2", "#999999", "#000000"
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MAX_SAMPLES = 200_000  # of u in one histogram


def _colour(label, index):
    return {"adaptive": ADAPTIVE, "fixed": FIXED}.get(label, OTHERS[index % len(OTHERS)])


def membrane_histograms(axes, trace, windows):
    """Draw u_t of each layer (row) and timestep (column) with windows {label: {layer: kappa (T,)}} around V_th.

    `axes` is a (layers, T) array of matplotlib Axes.
    """
    for row, (name, cache) in zip(axes, trace.items(), strict=True):
        v_th = cache.neuron.v_th
        u = cache.u.reshape(len(cache.u), -1)
        u = u[:, :: max(1, u.shape[1] // MAX_SAMPLES)]
        low, high = np.quantile(u, [0.002, 0.998])
        low, high = min(low, v_th - 1), max(high, v_th + 1)
        for t, ax in enumerate(row):
            ax.hist(np.clip(u[t], low, high), bins=60, range=(low, high), density=True, color=POTENTIAL)
            ax.axvline(v_th, color=THRESHOLD, lw=1)
            top = ax.get_ylim()[1]
            for k, (label, width) in enumerate(windows.items()):
                half = width[name][t] / 2
                ax.plot([v_th - half, v_th + half], [top * (1.08 + 0.12 * k)] * 2, lw=3, color=_colour(label, k),
                        label=f"{label} window", solid_capstyle="butt")  # fmt: skip
                for edge in (v_th - half, v_th + half):
                    ax.axvline(edge, color=_colour(label, k), lw=1, ls="--" if label == "fixed" else "-")
            ax.set_ylim(0, top * (1.2 + 0.12 * len(windows)))
            ax.set_yticks([])
            ax.set_title(f"{name}, t = {t + 1}: {(np.asarray(u[t]) >= v_th).mean():.0%} fire", fontsize=9)
        row[0].set_ylabel("density of $u_t$")


def training_curves(loss_axes, accuracy_axes, runs):
    """Draw training loss and test accuracy by epoch of runs {label: rows of metrics.jsonl}."""
    for k, (label, rows) in enumerate(runs.items()):
        epochs = [row["epoch"] for row in rows]
        style = {"color": _colour(label, k), "marker": "os^D"[k % 4], "label": label}
        loss_axes.plot(epochs, [row["train_loss"] for row in rows], **style)
        accuracy_axes.plot(epochs, [100 * row["test_accuracy"] for row in rows], **style)
    loss_axes.set(xlabel="epoch", ylabel="training loss")
    accuracy_axes.set(xlabel="epoch", ylabel="test accuracy (%)")
    for ax in (loss_axes, accuracy_axes):
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.legend()


def run_figure(trace, windows, runs, title):
    """Histograms above, training curves below: a matplotlib Figure. Arguments as for the two functions above."""
    from matplotlib.figure import Figure

    layers, T = len(trace.names()), len(trace.x)
    figure = Figure(figsize=(max(8, 2.6 * T), 2.0 * layers + 3.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.0 * layers, 3.0))
    membrane_histograms(upper.subplots(layers, T, squeeze=False), trace, windows)
    training_curves(*lower.subplots(1, 2), runs)
    handles, labels = upper.axes[0].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def save(figure, path):
    """Write a figure as PNG and return its path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    return path
