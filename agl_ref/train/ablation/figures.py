"""Figures of an ablation's records."""

import numpy as np
from matplotlib import colormaps

from agl_ref.train import plots

from .plan import BASELINE, SHIFTED
from .statistics import accuracies, depth_profile

RULES = ("2 V_th", "exact", "empirical", "geometric", "first", "later")


def accuracy_figure(name, experiment, records):
    """Test accuracy by width, one panel for each arm: each seed a dot, the mean a bar. A matplotlib Figure.

    Along an axis, one panel: a line through each width's means.
    """
    found = accuracies(experiment, records)
    if experiment.axis:
        return _axis_figure(name, experiment, found)
    figure, axes = _panels(len(found), "test accuracy (%)")
    for ax, (arm, widths) in zip(axes, found.items(), strict=True):
        for i, (width, values) in enumerate(widths.items()):
            shown = 100 * values[~np.isnan(values)]
            ax.plot(np.full(len(shown), i), shown, "o", color=colour(width), alpha=0.6)
            if len(shown):
                ax.plot([i - 0.3, i + 0.3], [shown.mean()] * 2, color=colour(width), lw=3)
        ax.set_xticks(range(len(widths)), [str(w) for w in widths], rotation=45, ha="right", fontsize=11)
        ax.tick_params(axis="y", labelsize=11)
        ax.set_title(arm, fontsize=13)
        ax.set_xlabel("width kappa: fixed, or the rule", fontsize=12)
        ax.grid(alpha=0.3, axis="y")
    figure.suptitle(f"{name}: each dot a seed, each bar their mean", x=0.01, ha="left", fontsize=13)
    return figure


def _axis_figure(name, experiment, found):
    figure, (ax,) = _panels(1, "test accuracy (%)")
    for width in experiment.widths:
        means = []
        for i, arm in enumerate(experiment.arms):
            shown = 100 * found[arm][width][~np.isnan(found[arm][width])]
            ax.plot(np.full(len(shown), i), shown, ".", color=colour(width), alpha=0.5)
            means.append(shown.mean() if len(shown) else np.nan)
        ax.plot(means, "-" if isinstance(width, str) else "--", color=colour(width), lw=2.5, label=str(width))
    ax.set_xticks(range(len(experiment.arms)), list(experiment.arms), fontsize=11)
    ax.tick_params(axis="y", labelsize=11)
    ax.set_xlabel(experiment.axis, fontsize=12)
    ax.grid(alpha=0.3)
    figure.legend(title="width", fontsize=10, loc="outside right upper", frameon=False)
    figure.suptitle(f"{name}: each dot a seed, the lines through their means", x=0.01, ha="left", fontsize=13)
    return figure


def depth_figure(name, experiment, records, statistic):
    """A statistic of the layers by depth in the last epoch, one line for each width, one panel for each arm."""
    label, share = plots.BY_DEPTH[statistic]
    figure, axes = _panels(len(experiment.arms), label)
    for ax, arm in zip(axes, experiment.arms, strict=True):
        for i, (width, values) in enumerate(depth_profile(experiment, records, arm, statistic).items()):
            ax.plot(np.arange(1, len(values) + 1), values * (100 if share else 1), color=colour(width), lw=2,
                    marker="osD^vP*Xh"[i % 9], ls="-" if isinstance(width, str) else "--", label=str(width))  # fmt: skip
        if not share:
            ax.set_yscale("log")
        ax.set_title(arm, fontsize=13)
        ax.set_xlabel("layer, by depth", fontsize=12)
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.tick_params(labelsize=11)
        ax.grid(alpha=0.3)
    named = {line.get_label(): line for ax in axes for line in ax.get_lines()}
    if named:  # runs may be missing in some arms while the plan is unfinished
        figure.legend(named.values(), named, title="width", fontsize=10, loc="outside right upper", frameon=False)
    figure.suptitle(f"{name}: last epoch, mean over timesteps and seeds", x=0.01, ha="left", fontsize=13)
    return figure


def _panels(count, label):
    """`plots.panels`, three in a row at most, with a label at the left of each row."""
    figure, axes = plots.panels(count, 3, 4.8, 4.6)
    for ax in axes[::3]:
        ax.set_ylabel(label, fontsize=12)
    return figure, axes


def colour(width):
    """Each rule in a colour of plots.py; fixed widths from light to dark blue."""
    if width == BASELINE:
        return plots.ADAPTIVE
    if width == SHIFTED:
        return plots.THRESHOLD
    if isinstance(width, str):
        return plots.OTHERS[RULES.index(width) % len(plots.OTHERS)]
    return colormaps["Blues"](0.35 + 0.6 * min(1.0, np.log(width / 0.5 + 1) / np.log(21)))
