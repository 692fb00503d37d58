"""Figures: membrane potential histograms with the surrogate's windows, training curves, statistics of the layers.

Colours are those of Okabe and Ito (2008), which colour-blind readers can distinguish; ordered series (timesteps, layers) run
through matplotlib's cividis, and carry different markers.
"""

import io
from collections.abc import Mapping
from fractions import Fraction

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from agl_ref import files, validate
from agl_ref.engine.network import Trace

ADAPTIVE, FIXED, POTENTIAL, THRESHOLD = "#D55E00", "#0072B2", "#999999", "#000000"
OTHERS = ("#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MAX_SAMPLES = 200_000  # of u in one histogram
MAX_STEPS = 12  # timesteps beside each other; Matplotlib draws no figure of some 200
MAX_LABELS = 8  # of an ordered series in one legend
THRESHOLD_STYLES = (  # of the lines of `threshold_figure`
    {"color": FIXED, "marker": "o", "ls": "--", "lw": 2.5, "ms": 9},
    {"color": ADAPTIVE, "marker": "s", "ls": "-", "lw": 2.5, "ms": 9},
    {"color": FIXED, "marker": "D", "ls": "", "mfc": "none", "mew": 2.5, "ms": 16},
    {"color": ADAPTIVE, "marker": "X", "ls": "", "mfc": "white", "mew": 2, "ms": 12},
)
BY_DEPTH = {  # statistic of `diagnostics.layer_statistics`: (axis label, is a share)
    "coverage": ("neurons inside the window (%)", True),
    "firing_rate": ("neurons that fire (%)", True),
    "gradient_norm": ("norm of the gradient dx", False),
    "nonzero_gradient": ("neurons with a gradient (%)", True),
}


def _evenly(n, most):
    """At most `most` of 0..n-1, evenly taken, with both ends."""
    return np.linspace(0, n - 1, min(n, most)).round().astype(int)


def _colour(label, index):
    return {"adaptive": ADAPTIVE, "fixed": FIXED}.get(label, OTHERS[index % len(OTHERS)])


def membrane_histograms(axes, trace, windows, steps):
    """Draw u_t of each layer (row) and of `steps` (columns) with windows {label: {layer: kappa (T,)}} around V_th.

    `axes` is a (layers, len(steps)) array of matplotlib Axes.
    """
    for row, (name, cache) in zip(axes, trace.items(), strict=True):
        v_th = cache.neuron.v_th
        u = cache.u.reshape(len(cache.u), -1)
        u = u[:, :: max(1, u.shape[1] // MAX_SAMPLES)]
        low, high = np.quantile(u, [0.002, 0.998])
        low, high = min(low, v_th - 1), max(high, v_th + 1)
        for t, ax in zip(steps, row, strict=True):
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
    """Histograms above, training curves below: a matplotlib Figure. Arguments as for the two functions above.

    Raises ValueError or TypeError for values that are not finite, by array and index, and for what is no trace or run.
    """
    validate.instance("trace", trace, Trace, "pass what net.forward returned")
    validate.instance("title", title, str)
    validate.finite("trace", trace)
    layers, T = len(trace.names()), len(trace.x)
    for label, widths in validate.mapping("windows", windows, Mapping).items():
        for name in trace.names():
            where = f"windows[{label!r}][{name!r}]"
            validate.same_shape(
                where, validate.float_array(where, np.asanyarray(widths.get(name))), (T,), "the timesteps"
            )
    for label, rows in validate.mapping("runs", runs, list).items():
        for i, row in enumerate(validate.sequence(f"runs[{label!r}]", rows, kind=Mapping)):
            for key in ("epoch", "train_loss", "test_accuracy"):
                validate.number(f"runs[{label!r}][{i}][{key!r}]", row.get(key))
    steps = _evenly(T, MAX_STEPS)
    figure = Figure(figsize=(max(8, 2.6 * len(steps)), 2.0 * layers + 3.2), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=(2.0 * layers, 3.0))
    membrane_histograms(upper.subplots(layers, len(steps), squeeze=False), trace, windows, steps)
    training_curves(*lower.subplots(1, 2), runs)
    handles, labels = upper.axes[0].get_legend_handles_labels()
    upper.legend(handles, labels, loc="outside upper right", ncols=len(labels))
    figure.suptitle(title, x=0.01, ha="left", parse_math=False)  # a folder's name, in which a $ is one
    return figure


def threshold_figure(lines, potentials, windows, title):
    """What the threshold does to each width: accuracy and coverage above, potentials and windows below.

    Parameters
    ----------
    lines : dict
        {name: {v_th: (test accuracy, coverage)}}; the first two names are those of `windows`.
    potentials : dict
        {v_th: u_t}: a histogram each.
    windows : dict
        {name: {v_th: kappa}}, drawn over the histograms.
    title : str
        Whose potentials they are.

    Returns
    -------
    matplotlib Figure

    Raises
    ------
    ValueError, TypeError
        For values that are not finite, by array and index, and for other names or thresholds.
    """
    validate.instance("title", title, str)
    validate.finite("lines", validate.mapping("lines", lines, Mapping))
    validate.finite("windows", validate.mapping("windows", windows, Mapping))
    validate.finite("potentials", validate.mapping("potentials", potentials, np.ndarray))
    if (
        list(lines)[:2] != list(windows)[:2]
        or len(lines) != len(THRESHOLD_STYLES)
        or len(potentials) != 2
        or any(set(potentials) - set(kappa) for kappa in windows.values())
    ):
        raise ValueError(
            f"lines, potentials, windows: expected {len(THRESHOLD_STYLES)} lines, the first two with windows, at two "
            f"thresholds, received {list(lines)}, {list(windows)}, {list(potentials)}; draw other lines yourself"
        )
    figure = Figure(figsize=(8, 7), layout="constrained")
    (accuracy, coverage), below = figure.subplots(2, len(potentials))
    styles = dict(zip(lines, THRESHOLD_STYLES, strict=True))
    for name, points in lines.items():
        for ax, values in zip((accuracy, coverage), np.array(list(points.values())).T, strict=True):
            ax.plot(list(points), 100 * values, label=name, clip_on=False, zorder=3, **styles[name])
    accuracy.set_title("test accuracy (%)", fontsize=15)
    coverage.set_title("neurons inside the window (%)", fontsize=15)
    for ax in (accuracy, coverage):
        ax.set_xscale("log", base=2)
        ax.set_xticks(list(lines[next(iter(windows))]))
        ax.xaxis.set_major_formatter(lambda v_th, _: str(Fraction(v_th)))
        ax.set_xlabel("threshold $V_{th}$", fontsize=14)
        ax.set_ylim(0, 100)
        ax.grid(alpha=0.3)
    for ax, (v_th, u) in zip(below, potentials.items(), strict=True):
        _windows_over_potentials(ax, u.ravel(), v_th, {name: kappa[v_th] for name, kappa in windows.items()}, styles)
    for ax in figure.axes:
        ax.tick_params(labelsize=13)
        ax.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(title, fontsize=13)
    handles, names = accuracy.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside upper center", ncols=2, frameon=False, fontsize=14)
    return figure


def _windows_over_potentials(ax, u, v_th, windows, styles):
    low, high = np.quantile(u, [0.005, 0.995])
    ax.hist(u, bins=50, range=(low, high), color=POTENTIAL)
    top = ax.get_ylim()[1]
    for k, (name, kappa) in enumerate(windows.items()):
        ends = np.clip([v_th - kappa / 2, v_th + kappa / 2], low, high)
        height, colour = top * (1.05 + 0.33 * k), styles[name]["color"]
        ax.fill_between(ends, top, color=colour, alpha=0.15, lw=0)
        ax.plot(ends, [height] * 2, lw=7, color=colour, solid_capstyle="butt")
        inside = np.mean(np.abs(u - v_th) < kappa / 2)
        ax.text(low, height + 0.07 * top, f"{name}: {100 * inside:.0f} % inside", fontsize=13, color=colour)
    ax.plot([v_th, v_th], [0, top], color=THRESHOLD, lw=1.5)
    ax.set(ylim=(0, 1.7 * top), yticks=[])
    ax.set_title(f"potentials at $V_{{th}}$ = {Fraction(v_th)}", fontsize=15)


def panels(count, most, width, height, title_height=0.0, sharex=False):
    """A figure and its `count` axes of one y scale, at most `most` in a row, each `width` by `height` inches."""
    columns = min(most, count)
    rows = -(-count // columns)
    figure = Figure(figsize=(max(8.0, width * columns), height * rows + title_height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharex=sharex, sharey=True).ravel()
    for ax in axes[count:]:
        ax.remove()
    return figure, axes[:count]


# --- statistics of the layers, from the "diagnostics" of metrics.jsonl ----------------------------------------------


def _names(rows, title):
    """The layers' names in `rows`, which must be those of metrics.jsonl, as numbers that are finite, or None."""
    validate.instance("title", title, str)
    validate.finite("rows", validate.sequence("rows", rows, kind=Mapping))
    if (
        not rows
        or not all("epoch" in row and "diagnostics" in row for row in rows)
        or not rows[-1]["diagnostics"]["layers"]
    ):
        raise ValueError("rows: expected the metrics of at least one measured epoch, received none; train first")
    return list(rows[-1]["diagnostics"]["layers"])


def _array(row, key):
    """Statistic `key` of one epoch's row: (layers, T), NaN where the row has none."""
    return np.array([layer[key] for layer in row["diagnostics"]["layers"].values()], np.float64)


def _series(ax, x, lines, labels):
    """Draw ordered lines (n, len(x)) from dark to light; at most MAX_LABELS of them, evenly taken, are named."""
    n = len(lines)
    named = set(_evenly(n, MAX_LABELS))
    for i, (values, label) in enumerate(zip(lines, labels, strict=True)):
        colour = colormaps["cividis"](0.9 * i / max(1, n - 1))
        ax.plot(x, values, color=colour, marker="osD^v"[i % 5], lw=2, label=label if i in named else "_nolegend_")
    ax.grid(alpha=0.3)
    ax.tick_params(labelsize=11)
    ax.legend(fontsize=11, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)


def spread_figure(rows, title=""):
    """The potential's standard deviation in the last epoch of `rows`, layer by layer and timestep by timestep: measured,
    by Theorem 1, and by the exact law. A matplotlib Figure.
    """
    names = _names(rows, title)
    figure, axes = panels(len(names), 4, 3.4, 3.2, title_height=0.8, sharex=True)
    drawn = (
        ("std", "measured", {"color": THRESHOLD, "marker": "o", "lw": 2}),
        ("std_theorem1", "Theorem 1", {"color": ADAPTIVE, "marker": "s", "lw": 2, "ls": "--"}),
        ("std_exact", "exact law", {"color": FIXED, "marker": "^", "lw": 2, "ls": ":"}),
    )
    for key, label, style in drawn:
        for ax, name, values in zip(axes, names, _array(rows[-1], key), strict=True):
            ax.plot(np.arange(1, len(values) + 1), values, label=label, **style)
            ax.set_title(name, fontsize=13)
    axes[0].set_ylim(0, 1.1 * axes[0].get_ylim()[1])
    for ax in axes:
        ax.grid(alpha=0.3)
        ax.tick_params(labelsize=11)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.set_xlabel("timestep t", fontsize=12)
    axes[0].set_ylabel("standard deviation of $u_t$", fontsize=12)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=3, fontsize=12, frameon=False)
    figure.suptitle(_titled(title, rows), x=0.01, ha="left", fontsize=12, parse_math=False)
    return figure


def depth_figure(rows, key, title=""):
    """A statistic of BY_DEPTH: left by depth in the last epoch of `rows`, one line for each timestep; right by epoch, one
    line for each layer (the mean over its timesteps). A matplotlib Figure.
    """
    label, share = BY_DEPTH[validate.one_of("key", key, BY_DEPTH)]
    factor = 100.0 if share else 1.0
    names = _names(rows, title)
    last = factor * _array(rows[-1], key)
    epochs = factor * np.array([_array(row, key).mean(axis=1) for row in rows])  # (epochs, layers)
    figure = Figure(figsize=(12, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    _series(left, np.arange(len(names)), last.T, [f"t = {t + 1}" for t in range(last.shape[1])])
    left.set_xticks(np.arange(len(names)), names, rotation=0 if len(names) <= 5 else 90)
    left.set_xlabel("layer, by depth", fontsize=13)
    _series(right, [row["epoch"] for row in rows], epochs.T, names)
    right.set_xlabel("epoch", fontsize=13)
    right.xaxis.get_major_locator().set_params(integer=True)
    for ax, values in ((left, last), (right, epochs)):
        if share:
            ax.set_ylim(0, max(1.0, 1.1 * values.max()))
        elif values.min() > 0 and values.max() > 10 * values.min():
            ax.set_yscale("log")
        else:
            ax.set_ylim(0, 1.1 * values.max() or 1.0)
    left.set_ylabel(label, fontsize=13)
    left.set_title(f"epoch {rows[-1]['epoch']}, each timestep", fontsize=13)
    right.set_title("each layer, mean over timesteps", fontsize=13)
    figure.suptitle(_titled(title, rows), x=0.01, ha="left", fontsize=12, parse_math=False)
    return figure


def _titled(title, rows):
    steps = rows[-1]["diagnostics"]["steps"]
    return f"{title + ', ' if title else ''}{steps} training batches measured in epoch {rows[-1]['epoch']}"


def diagnostic_figures(rows, title=""):
    """All figures of the layers' statistics: {name: Figure}, from rows of metrics.jsonl."""
    return {"std": spread_figure(rows, title)} | {key: depth_figure(rows, key, title) for key in BY_DEPTH}


def save(figure, path):
    """Write a figure as PNG and return its path."""
    validate.instance("figure", figure, Figure, "pass a matplotlib Figure")
    path, image = validate.path("path", path), io.BytesIO()
    figure.savefig(image, dpi=110)
    files.write_atomically(path, image.getvalue())
    return path
