"""What an ablation's records say: paired tests, CSV files, tables."""

import csv
import io
from pathlib import Path

import numpy as np

from agl_ref import files
from agl_ref.train import plots

from .figures import accuracy_figure, depth_figure
from .plan import BASELINE, KEPT, command_of, key_of
from .statistics import depth_profile, summary

RUN_COLUMNS = ("experiment", "arm", "width", "seed", "status", "test_accuracy", "test_loss", "train_loss", "seconds",
               "command")  # fmt: skip
SUMMARY_COLUMNS = ("experiment", "arm", "width", "seeds", "mean", "std", "difference", "low", "high", "p", "p_holm")
LABELS = {key: "kappa" if key == "width" else key for key in KEPT}  # the column "width" says which rule
DEPTH_COLUMNS = ("experiment", "arm", "width", "epoch", "depth", "layer", "t", *LABELS.values())
BY_DEPTH = ("coverage", "gradient_norm")


def write(experiments, records, folder):
    """Write the tables and the figures of the experiments that have trained runs; return the paths."""
    folder, paths = Path(folder), write_tables(experiments, records, folder)
    for name, experiment in begun(experiments, records).items():
        paths.append(plots.save(accuracy_figure(name, experiment, records), folder / f"{name}-accuracy.png"))
        for statistic in BY_DEPTH:
            figure = depth_figure(name, experiment, records, statistic)
            paths.append(plots.save(figure, folder / f"{name}-{statistic.replace('_', '-')}.png"))
    return paths


def begun(experiments, records):
    """The experiments that have a run of their own among the records, one that no experiment before them has."""
    found, earlier = {}, set()
    for name, experiment in experiments.items():
        own = {key_of(config) for _, _, config in experiment.runs()} - earlier
        if own & set(records):
            found[name] = experiment
        earlier |= own
    return found


def write_tables(experiments, records, folder):
    """Write runs.csv, summary.csv, depth.csv and tables.md; return the paths."""
    folder, experiments = Path(folder), begun(experiments, records)
    tables = {
        "runs": (RUN_COLUMNS, run_rows),
        "summary": (SUMMARY_COLUMNS, summary_rows),
        "depth": (DEPTH_COLUMNS, depth_rows),
    }
    paths = []
    for name, (columns, rows) in tables.items():
        paths.append(folder / f"{name}.csv")
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows(experiments, records))
        files.write_atomically(paths[-1], text.getvalue().encode())
    paths.append(folder / "tables.md")
    files.write_atomically(paths[-1], markdown(experiments, records).encode())
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
                  f"{f'minus {BASELINE} (points)':<28}p (Holm)"]  # fmt: skip
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
        f"| width | seeds | test accuracy (%) | minus {BASELINE} (points) | p (Holm) | coverage, first and last layer (%) | "
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


def axis_table(experiment, records):
    """The summary of an experiment along an axis as a table for a README: accuracy by width and arm.

    A star marks what differs from the adaptive width in the same arm with a corrected p below 0.05.
    """
    found = {(row["width"], row["arm"]): row for row in summary(experiment, records)}
    lines = [f"| test accuracy (%), {experiment.axis} = | {' | '.join(experiment.arms)} |"]
    lines.append("| --- |" + " --- |" * len(experiment.arms))
    for width in map(str, experiment.widths):
        rows = [found[width, arm] for arm in experiment.arms]
        stars = [" *" if row["p_holm"] is not None and row["p_holm"] < 0.05 else "" for row in rows]
        lines.append(f"| {width} | {' | '.join(cells(row)[0] + star for row, star in zip(rows, stars, strict=True))} |")
    return "\n".join(lines)


def cells(row):
    """(accuracy, difference with its interval, corrected p) of a summary row as text; "-" where there is nothing to say."""
    accuracy = "-" if row["mean"] is None else f"{100 * row['mean']:.2f}"
    accuracy += "" if row["std"] is None else f" ± {100 * row['std']:.2f}"
    if row["width"] == BASELINE or row["difference"] is None:
        return accuracy, "-", "-"
    difference = f"{100 * row['difference']:+.2f}"
    if row["low"] is not None:
        difference += f" [{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]"
    return accuracy, difference, "-" if row["p_holm"] is None else f"{row['p_holm']:.2g}"
