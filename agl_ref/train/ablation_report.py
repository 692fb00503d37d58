"""What an ablation's records say, as CSV files, as a table, and as figures."""

import csv
from pathlib import Path

import numpy as np

from . import plots
from .ablation import BASELINE, KEPT, accuracies, command_of, depth_profile, key_of, summary
from .trainer import WIDTHS

RUN_COLUMNS = ("experiment", "arm", "width", "seed", "status", "test_accuracy", "test_loss", "train_loss", "seconds",
               "command")  # fmt: skip
SUMMARY_COLUMNS = ("experiment", "arm", "width", "seeds", "mean", "std", "difference", "low", "high", "p")
LABELS = {key: "kappa" if key == "width" else key for key in KEPT}  # the column "width" says which rule
DEPTH_COLUMNS = ("experiment", "arm", "width", "epoch", "depth", "layer", "t", *LABELS.values())
BY_DEPTH = ("coverage", "gradient_norm")


def write(experiments, records, folder):
    """Write the tables, and the figures of experiments that have trained runs; return the paths."""
    folder, paths = Path(folder), write_tables(experiments, records, folder)
    for name, experiment in experiments.items():
        if any(key_of(config) in records for _, _, config in experiment.runs()):
            paths.append(plots.save(accuracy_figure(name, experiment, records), folder / f"{name}-accuracy.png"))
            for statistic in BY_DEPTH:
                figure = depth_figure(name, experiment, records, statistic)
                paths.append(plots.save(figure, folder / f"{name}-{statistic.replace('_', '-')}.png"))
    return paths


def write_tables(experiments, records, folder):
    """Write runs.csv, summary.csv, depth.csv and tables.md; return the paths."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tables = {
        "runs": (RUN_COLUMNS, run_rows),
        "summary": (SUMMARY_COLUMNS, summary_rows),
        "depth": (DEPTH_COLUMNS, depth_rows),
    }
    paths = []
    for name, (columns, rows) in tables.items():
        paths.append(folder / f"{name}.csv")
        with open(paths[-1], "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows(experiments, records))
    paths.append(folder / "tables.md")
    paths[-1].write_text(markdown(experiments, records), encoding="utf-8")
    return paths


def run_rows(experiments, records):
    """One row for each run that is there, with the command that repeats it."""
    for name, experiment in experiments.items():
        for arm, width, config in experiment.runs():
            record = records.get(key_of(config))
            if record is not None:
                row = {column: record.get(column, "") for column in RUN_COLUMNS}
                yield {**row, "experiment": name, "arm": arm, "width": width, "seed": config.seed,
                       "command": command_of(config)}  # fmt: skip


def summary_rows(experiments, records):
    """The rows of `ablation.summary`, numbers rounded to 5 digits."""
    for name, experiment in experiments.items():
        for row in summary(experiment, records):
            yield {"experiment": name, **{k: f"{v:.5g}" if isinstance(v, float) else v for k, v in row.items()}}


def depth_rows(experiments, records):
    """Mean over seeds of each layer's statistics, in the first and in the last epoch, by timestep."""
    for name, experiment in experiments.items():
        grouped = {}
        for arm, width, config in experiment.runs():
            record = records.get(key_of(config), {})
            for when, layers in record.get("layers", {}).items():
                grouped.setdefault((arm, width, when), []).append(layers)
        for (arm, width, when), seeds in grouped.items():
            for depth, layer in enumerate(seeds[0], 1):
                for t in range(len(seeds[0][layer]["coverage"])):
                    means = {label: _mean(layers[layer][k][t] for layers in seeds) for k, label in LABELS.items()}
                    yield {"experiment": name, "arm": arm, "width": width, "epoch": when, "depth": depth, "layer": layer,
                           "t": t + 1, **means}  # fmt: skip


def _mean(values):
    """Mean of those that are known, to 5 digits; empty if none is, as where the exact law could not be computed."""
    known = [value for value in values if value is not None]
    return f"{np.mean(known):.5g}" if known else ""


def text_table(experiments, records):
    """The summary as text for a terminal."""
    lines = []
    for name, experiment in experiments.items():
        lines += [f"{name}: {experiment.question}", f"  {'arm':<12}{'width':<11}{'seeds':>5}  {'accuracy (%)':<16}"
                  f"{f'minus {BASELINE} (points)':<28}p"]  # fmt: skip
        for row in summary(experiment, records):
            accuracy, difference, p = cells(row)
            lines.append(f"  {row['arm']:<12}{row['width']:<11}{row['seeds']:>5}  {accuracy:<16}{difference:<28}{p}")
        lines.append("")
    return "\n".join(lines)


def markdown(experiments, records):
    """`markdown_table` of every arm, under its experiment's question."""
    parts = []
    for name, experiment in experiments.items():
        parts.append(f"# {name}: {experiment.question}")
        parts += [f"{arm}\n\n{markdown_table(experiment, records, arm)}" for arm in experiment.arms]
    return "\n\n".join(parts) + "\n"


def markdown_table(experiment, records, arm):
    """The summary of one arm as a table for a README: accuracy, difference, coverage and gradient in the last layer."""
    deepest = {key: depth_profile(experiment, records, arm, key) for key in BY_DEPTH}
    lines = [
        f"| width | seeds | test accuracy (%) | minus {BASELINE} (points) | p | coverage, first and last layer (%) | "
        "gradient norm, first over last layer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    by_name = {str(width): width for width in experiment.widths}
    for row in summary(experiment, records):
        if row["arm"] == arm:
            inside, norm = (deepest[key].get(by_name[row["width"]]) for key in BY_DEPTH)
            share = "-" if inside is None else f"{100 * inside[0]:.1f}, {100 * inside[-1]:.1f}"
            ratio = "-" if norm is None or not norm[-1] else f"{norm[0] / norm[-1]:.3g}"
            lines.append(f"| {row['width']} | {row['seeds']} | {' | '.join(cells(row))} | {share} | {ratio} |")
    return "\n".join(lines)


def cells(row):
    """(accuracy, difference with its interval, p) of a summary row as text; "-" where there is nothing to say."""
    accuracy = "-" if row["mean"] is None else f"{100 * row['mean']:.2f}"
    accuracy += "" if row["std"] is None else f" ± {100 * row['std']:.2f}"
    if row["width"] == BASELINE or row["difference"] is None:
        return accuracy, "-", "-"
    difference = f"{100 * row['difference']:+.2f}"
    if row["low"] is not None:
        difference += f" [{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]"
    return accuracy, difference, "-" if row["p"] is None else f"{row['p']:.2g}"


# --- figures ----------------------------------------------------------------------------------------------------------


def accuracy_figure(name, experiment, records):
    """Test accuracy by width, one panel for each arm: each seed a dot, the mean a bar. A matplotlib Figure."""
    found = accuracies(experiment, records)
    figure, axes = _panels(len(found), "test accuracy (%)")
    for ax, (arm, widths) in zip(axes, found.items(), strict=True):
        for i, (width, values) in enumerate(widths.items()):
            shown = 100 * values[~np.isnan(values)]
            ax.plot(np.full(len(shown), i), shown, "o", color=_colour(width), alpha=0.6)
            if len(shown):
                ax.plot([i - 0.3, i + 0.3], [shown.mean()] * 2, color=_colour(width), lw=3)
        ax.set_xticks(range(len(widths)), [str(w) for w in widths], rotation=45, ha="right", fontsize=11)
        ax.tick_params(axis="y", labelsize=11)
        ax.set_title(arm, fontsize=13)
        ax.set_xlabel("width kappa: fixed, or the rule", fontsize=12)
        ax.grid(alpha=0.3, axis="y")
    figure.suptitle(f"{name}: each dot a seed, each bar their mean", x=0.01, ha="left", fontsize=13)
    return figure


def depth_figure(name, experiment, records, statistic):
    """A statistic of the layers by depth in the last epoch, one line for each width, one panel for each arm."""
    label, share = plots.BY_DEPTH[statistic]
    figure, axes = _panels(len(experiment.arms), label)
    for ax, arm in zip(axes, experiment.arms, strict=True):
        for i, (width, values) in enumerate(depth_profile(experiment, records, arm, statistic).items()):
            ax.plot(np.arange(1, len(values) + 1), values * (100 if share else 1), color=_colour(width), lw=2,
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
    """A figure and `count` axes of one y scale, three in a row at most."""
    from matplotlib.figure import Figure

    columns, rows = min(3, count), (count + 2) // 3
    figure = Figure(figsize=(max(8.0, 4.8 * columns), 4.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for row in axes:
        row[0].set_ylabel(label, fontsize=12)
    for ax in axes.ravel()[count:]:
        ax.remove()
    return figure, axes.ravel()[:count]


def _colour(width):
    """Each rule in a colour of plots.py; fixed widths from light to dark blue."""
    from matplotlib import colormaps

    if width == BASELINE:
        return plots.ADAPTIVE
    if isinstance(width, str):
        return plots.OTHERS[WIDTHS.index(width) % len(plots.OTHERS)]
    return colormaps["Blues"](0.35 + 0.6 * min(1.0, np.log(width / 0.5 + 1) / np.log(21)))
