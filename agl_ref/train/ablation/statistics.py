"""What an ablation's records say in numbers: accuracies, paired tests, statistics by depth."""

from collections.abc import Mapping

import numpy as np
from scipy import stats

from agl_ref import validate

from .plan import BASELINE, KEPT, Experiment, key_of


def _checked(experiment, records):
    validate.instance("experiment", experiment, Experiment)
    validate.mapping("records", records, Mapping)


def accuracies(experiment, records):
    """{arm: {width: ndarray (seeds,)}}: test accuracy by seed, NaN for a run that is missing or was not finite."""
    _checked(experiment, records)
    found = {arm: {width: np.full(experiment.seeds, np.nan) for width in experiment.widths} for arm in experiment.arms}
    for arm, width, config in experiment.runs():
        record = records.get(key_of(config), {})
        found[arm][width][config.seed] = record.get("test_accuracy", np.nan)
    return found


def summary(experiment, records):
    """Rows of the table: for each arm and width the mean, the standard deviation, and the paired test against BASELINE.

    Returns
    -------
    list of dict
        "arm", "width", "seeds" (trained), "mean", "std" (over seeds, n - 1; NaN for one), and against the adaptive width
        on the same seeds "difference" (this minus adaptive), "low", "high" (95 % confidence interval), "p": the paired
        t-test of scipy (`scipy.stats.ttest_rel`); None where fewer than two pairs or no variance leave nothing to test.
        "p_holm": p corrected by Holm's method for the number of tests of this experiment.
    """
    rows = []
    for arm, widths in accuracies(experiment, records).items():
        for width, values in widths.items():
            trained = values[~np.isnan(values)]
            row = {"arm": arm, "width": str(width), "seeds": len(trained)}
            row["mean"] = float(trained.mean()) if len(trained) else None
            row["std"] = float(trained.std(ddof=1)) if len(trained) > 1 else None
            rows.append({**row, **_paired(values, widths[BASELINE])})
    tested = sorted((row for row in rows if row["p"] is not None), key=lambda row: row["p"])
    least = 0.0
    for done, row in enumerate(tested):  # Holm: the smallest p times the number of tests, the next times one fewer, ...
        row["p_holm"] = least = max(least, min(1.0, (len(tested) - done) * row["p"]))
    return rows


def _paired(values, baseline):
    pairs = ~(np.isnan(values) | np.isnan(baseline))
    a, b = values[pairs], baseline[pairs]
    row = {
        "difference": float((a - b).mean()) if len(a) else None,
        "low": None,
        "high": None,
        "p": None,
        "p_holm": None,
    }
    if len(a) > 1 and np.ptp(a - b) > 1e-9:  # far below one image of any test set, above the rounding of a - b
        test = stats.ttest_rel(a, b)
        low, high = test.confidence_interval(0.95)
        row.update(low=float(low), high=float(high), p=float(test.pvalue))
    return row


def depth_profile(experiment, records, arm, statistic, when="last"):
    """{width: ndarray (layers,)}: a layer's statistic, mean over timesteps and trained seeds, by depth."""
    _checked(experiment, records)
    validate.one_of("arm", arm, experiment.arms)
    validate.one_of("statistic", statistic, KEPT)
    validate.one_of("when", when, ("first", "last"))
    sums = {}
    for this, width, config in experiment.runs():
        record = records.get(key_of(config), {})
        if this == arm and "layers" in record:
            layers = record["layers"][when].values()
            sums.setdefault(width, []).append([np.mean(layer[statistic]) for layer in layers])
    return {width: np.mean(values, axis=0) for width, values in sums.items()}
