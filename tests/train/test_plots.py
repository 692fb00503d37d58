"""Figures of the layers' statistics: every curve is the data, legible for three layers and for twenty."""

import io

import matplotlib.image
import numpy as np
import pytest

import agl_ref as agl
from agl_ref.train import plots

SHARES = {"coverage": 0.01, "firing_rate": 0.01, "nonzero_gradient": 0.01, "gradient_norm": 1.0}


def made_rows(layers=3, T=4, epochs=2, scale=1.0):
    rng = np.random.default_rng(0)
    keys = ("std", "std_theorem1", "std_exact", *plots.BY_DEPTH)
    return [
        {
            "epoch": epoch + 1,
            "diagnostics": {
                "steps": 5,
                "layers": {
                    f"conv{i + 1}": {key: (scale * rng.uniform(0.1, 0.9, T)).tolist() for key in keys}
                    for i in range(layers)
                },
            },
        }
        for epoch in range(epochs)
    ]


def test_a_run_of_many_timesteps_has_a_figure():
    net = agl.models.conv_snn(image_size=4, channels=(2,))
    trace = net.forward(np.random.default_rng(0).standard_normal((300, 2, 4, 4, 1)), training=False)
    rows = [{"epoch": 1, "train_loss": 1.0, "test_accuracy": 0.5}]
    windows = {"adaptive": {"conv1": trace["conv1"].width}}
    figure = plots.run_figure(trace, windows, {"adaptive": rows}, "$^^$")
    titles = [ax.get_title() for ax in figure.axes if "fire" in ax.get_title()]
    assert titles[0].startswith("conv1, t = 1:") and titles[-1].startswith("conv1, t = 300:") and len(titles) == 12
    figure.savefig(io.BytesIO())


def curves(ax):
    return {line.get_label(): np.asarray(line.get_ydata(), float) for line in ax.get_lines()}


def test_spread_figure_draws_the_last_epoch_layer_by_layer():
    rows = made_rows()
    figure = plots.spread_figure(rows, "a run")
    assert [ax.get_title() for ax in figure.axes] == ["conv1", "conv2", "conv3"]
    for ax, layer in zip(figure.axes, rows[-1]["diagnostics"]["layers"].values(), strict=True):
        drawn = curves(ax)
        for label, key in (("measured", "std"), ("Theorem 1", "std_theorem1"), ("exact law", "std_exact")):
            assert drawn[label].tolist() == layer[key]
        assert ax.get_ylim()[0] == 0 and ax.get_ylim()[1] >= max(max(values) for values in drawn.values())
    assert "a run" in figure.get_suptitle() and "epoch 2" in figure.get_suptitle()


@pytest.mark.parametrize("key", plots.BY_DEPTH)
def test_depth_figure_draws_timesteps_by_depth_and_layers_by_epoch(key):
    rows = made_rows(T=4)
    left, right = plots.depth_figure(rows, key).axes
    values = [np.array([layer[key] for layer in row["diagnostics"]["layers"].values()]) for row in rows]
    for t in range(4):
        np.testing.assert_allclose(curves(left)[f"t = {t + 1}"], values[-1][:, t] / SHARES[key], rtol=1e-12)
    for i in range(3):
        np.testing.assert_allclose(
            curves(right)[f"conv{i + 1}"], [v[i].mean() / SHARES[key] for v in values], rtol=1e-12
        )
    assert [label.get_text() for label in left.get_xticklabels()] == ["conv1", "conv2", "conv3"]
    assert left.get_ylabel() == plots.BY_DEPTH[key][0]


def test_gradient_norms_over_decades_are_drawn_on_a_logarithmic_axis():
    rows = made_rows()
    assert plots.depth_figure(rows, "gradient_norm").axes[0].get_yscale() == "linear"
    rows[-1]["diagnostics"]["layers"]["conv1"]["gradient_norm"] = [1e-4] * 4
    assert plots.depth_figure(rows, "gradient_norm").axes[0].get_yscale() == "log"
    rows[-1]["diagnostics"]["layers"]["conv1"]["gradient_norm"] = [0.0] * 4  # closed window: no logarithm
    assert plots.depth_figure(rows, "gradient_norm").axes[0].get_yscale() == "linear"


def test_a_missing_prediction_leaves_a_gap():
    rows = made_rows()
    rows[-1]["diagnostics"]["layers"]["conv2"]["std_exact"] = [None] * 4
    assert np.isnan(curves(plots.spread_figure(rows).axes[1])["exact law"]).all()


@pytest.mark.parametrize("layers, T", [(1, 1), (22, 12)])
def test_figures_of_few_and_of_many_layers_are_saved(layers, T, tmp_path):
    figures = plots.diagnostic_figures(made_rows(layers, T, epochs=1))
    assert set(figures) == {"std", *plots.BY_DEPTH}
    names = [text.get_text() for text in figures["coverage"].axes[1].get_legend().get_texts()]
    assert len(names) == min(layers, plots.MAX_LABELS) and names[0] == "conv1" and names[-1] == f"conv{layers}"
    path = plots.save(figures["coverage"], tmp_path / "deep" / "coverage.png")
    image = matplotlib.image.imread(path)
    assert image.shape[0] > 400 and image.shape[1] > 1000 and image[..., :3].std() > 0.05


@pytest.mark.parametrize(
    "rows", [[], [{"epoch": 1, "diagnostics": {"steps": 0, "layers": {}}}]], ids=["none", "no layer"]
)
def test_figures_of_nothing_are_refused(rows):
    with pytest.raises(ValueError, match="expected .* received none"):
        plots.diagnostic_figures(rows)


def test_threshold_figure_draws_every_run_and_both_windows():
    rng = np.random.default_rng(0)
    thresholds = (1 / 8, 1 / 2, 8.0)
    lines = {name: {v: tuple(rng.uniform(0, 1, 2)) for v in thresholds} for name in ("one", "other")}
    lines |= {"third": {8.0: (0.5, 0.25)}, "fourth": {1 / 8: (0.1, 0.0)}}
    potentials = {v: v * rng.normal(0, 1, (20, 30)) for v in (1 / 8, 8.0)}
    windows = {"one": dict.fromkeys(potentials, 1.0), "other": {v: 2 * v for v in potentials}}
    figure = plots.threshold_figure(lines, potentials, windows, "whose they are")
    accuracy, coverage, small, large = figure.axes
    for k, ax in enumerate((accuracy, coverage)):
        drawn = {line.get_label(): (list(line.get_xdata()), line.get_ydata()) for line in ax.get_lines()}
        assert list(drawn) == list(lines)
        for name, points in lines.items():
            assert drawn[name][0] == list(points)
            np.testing.assert_allclose(drawn[name][1], [100 * values[k] for values in points.values()])
    for ax, (v_th, u) in zip((small, large), potentials.items(), strict=True):
        assert f"= {'1/8' if v_th < 1 else '8'}" in ax.get_title()
        for line, (name, kappa) in zip(ax.get_lines(), windows.items(), strict=False):
            half = kappa[v_th] / 2
            ends = np.clip([v_th - half, v_th + half], *np.quantile(u, [0.005, 0.995]))
            np.testing.assert_allclose(line.get_xdata(), ends)
            inside = 100 * np.mean(np.abs(u - v_th) < half)
            assert f"{name}: {inside:.0f} % inside" in [text.get_text() for text in ax.texts]
    assert "whose they are" in figure.get_supxlabel()
    figure.draw_without_rendering()
    assert [tick.get_text() for tick in accuracy.get_xticklabels()] == ["1/8", "1/2", "8"]
