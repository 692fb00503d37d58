"""The ablation: its plan, that nothing is done twice and nothing is lost, and what it says, by hand and by scipy."""

import csv
import dataclasses
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_refused
from scipy import stats

import agl_ref as agl
from agl_ref import cli
from agl_ref.cli.main import parser_of
from agl_ref.cli.train import TRAIN_OPTIONS
from agl_ref.train import TrainConfig, Trainer, ablation
from agl_ref.train.ablation import figures, report, runner

PUBLISHED = Path(__file__).parents[2] / "tutorials" / "results" / "ablation"
ARM = {"channels": (3, 4), "T": 2, "epochs": 2, "batch": 8, "dtype": "float64"}


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    x = (rng.integers(0, 90, (60, 8, 8, 1)) + 60 * y[:, None, None, None]).astype(np.uint8)
    np.savez(tmp_path / "tiny.npz", x=x, y=y)
    return str(tmp_path / "tiny.npz")


@pytest.fixture
def experiments(data):
    return {"small": ablation.Experiment("?", {"a": {**ARM, "data": data}}, widths=(1.0, "adaptive"), seeds=2)}


def accuracies_of(records):
    return {key: (record["test_accuracy"], record["curve"]) for key, record in records.items()}


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_plan_is_what_the_claim_needs():
    headline = ablation.EXPERIMENTS["headline"]
    assert headline.widths == (0.5, 1.0, 2.5, 5.0, 10.0, "adaptive", "geometric", "exact", "empirical")
    runs = list(headline.runs())
    assert len(runs) == 45 and len({ablation.key_of(config) for _, _, config in runs}) == 40  # see the next test
    config = runs[0][2]
    assert (config.network, config.neuron, config.T, config.data) == ("vgg_snn", "plif", 2, "fashion-mnist")
    assert {width: {c.width for _, w, c in runs if w == width} for width in (5.0, "exact")} == {
        5.0: {"fixed"}, "exact": {"exact"}
    }  # fmt: skip
    axes = {name: list(ablation.EXPERIMENTS[name].arms) for name in ("depth", "neuron", "timesteps", "surrogate")}
    assert axes["depth"] == ["deep", "shallow"] and axes["neuron"] == ["plif", "lif"] and len(axes["surrogate"]) == 5
    for name in axes:  # an axis changes one thing, and its first arm is the network of all others
        base, *others = ablation.EXPERIMENTS[name].arms.values()
        assert base | {"surrogate": "rectangular"} == {**ablation.DEEP, **ablation.SUBSET, "surrogate": "rectangular"}
        changed = {"depth": {"network", "channels"}, "neuron": {"neuron"}, "timesteps": {"T"}}.get(name, {"surrogate"})
        for other in others:
            assert {key for key in base | other if base.get(key) != other.get(key)} == changed


def test_an_axis_changes_one_number():
    for name, field in (("threshold", "v_th"), ("threshold-deep", "v_th"), ("gamma", "gamma")):
        experiment = ablation.EXPERIMENTS[name]
        assert experiment.axis and experiment.seeds == 5
        for text, settings in experiment.arms.items():
            top, _, bottom = text.partition("/")
            assert settings[field] == int(top) / int(bottom or 1)
            assert settings | {field: 1.0} == next(iter(experiment.arms.values())) | {field: 1.0}
    shifted = [c for _, width, c in ablation.EXPERIMENTS["threshold"].runs() if width == ablation.SHIFTED]
    assert len(shifted) == 20 and {(c.width, c.norm_shift) for c in shifted} == {("adaptive", "beta V_th")}


def test_geometric_is_the_adaptive_run_up_to_two_timesteps():
    """The same widths, bit for bit, so one run. At T = 3 the rules differ."""
    for T, same in ((1, True), (2, True), (3, False)):
        given, taken = ablation.width_settings("geometric", T), ablation.width_settings("adaptive", T)
        assert (given == taken) is same and taken == {"width": "adaptive"}
        gamma = np.array([0.5, 1.25])
        widths = [rule(gamma, 0.5, 0.2, T) for rule in (agl.geometric_width, agl.adaptive_width)]
        assert np.array_equal(*widths) is same
    plan = {(arm, width): config for arm, width, config in ablation.EXPERIMENTS["timesteps"].runs()}
    assert plan["T=2", "geometric"] == plan["T=2", "adaptive"]
    assert plan["T=4", "geometric"].width == "geometric"


def test_runs_that_experiments_share_are_trained_once_and_seeds_come_in_turn():
    left = list(ablation.pending(ablation.EXPERIMENTS, {}).values())
    assert len(left) == len(set(left))
    total = sum(len(list(e.runs())) for e in ablation.EXPERIMENTS.values())
    shared = 2 * 21 + 9  # the base network of depth, neuron and timesteps, and of surrogate's rectangular arm
    twins = 5 + 3 * 3  # geometric at T = 2 is adaptive: headline; the base network once, shallow, LIF
    usual = 2 * 5  # gamma = 1 is the deep network at V_th = 1/2
    assert len(left) == total - shared - twins - usual
    seeds = [config.seed for config in left]
    assert seeds == sorted(seeds) and set(seeds) == set(range(5))


@pytest.mark.parametrize("name", list(ablation.EXPERIMENTS))
def test_the_printed_command_gives_the_same_configuration(name, monkeypatch):
    for _, _, config in list(ablation.EXPERIMENTS[name].runs())[:20]:
        args = parser_of("train").parse_args(shlex.split(ablation.command_of(config))[1:])
        given = {n: getattr(args, n) for n, _, _ in TRAIN_OPTIONS if getattr(args, n) is not None}
        given.update(given.pop("width", {}))
        assert TrainConfig(**given) == config


def test_each_printed_command_has_a_folder_of_its_own_and_survives_a_shell():
    plan = ablation.pending(ablation.EXPERIMENTS, {}).values()
    folders = {ablation.command_of(config).split(" --out ")[1] for config in plan}
    assert len(folders) == len(plan)
    words = shlex.split(ablation.command_of(TrainConfig(data="my data/tiny.npz", channels=(3, 4))))
    assert words[words.index("--data") + 1] == "my data/tiny.npz" and words[words.index("--channels") + 1] == "3,4"


# --- runs -------------------------------------------------------------------------------------------------------------


def test_a_record_is_what_the_trainer_measured(data, tmp_path):
    config = TrainConfig(**ARM, data=data, width="adaptive")
    record = ablation.train_one(config, tmp_path / "own")
    trainer = Trainer(config, tmp_path / "plain").fit(progress=False)
    rows = trainer.metrics()
    assert record["curve"] == [row["test_accuracy"] for row in rows] and len(rows) == 2
    assert record["test_accuracy"] == rows[-1]["test_accuracy"] and record["train_loss"] == rows[-1]["train_loss"]
    measured = rows[-1]["diagnostics"]["layers"]["conv2"]["coverage"]
    assert np.allclose(record["layers"]["last"]["conv2"]["coverage"], measured, rtol=1e-4) and np.all(measured)
    assert record["layers"]["first"] != record["layers"]["last"]
    assert not (tmp_path / "own").exists()
    assert ablation.train_one(config) | {"seconds": 0} == record | {"seconds": 0}  # in a folder of its own


def test_a_stopped_run_goes_on_from_its_checkpoint(data, tmp_path, monkeypatch):
    config = TrainConfig(**ARM, data=data)
    whole = ablation.train_one(config)
    half = Trainer(config, tmp_path / "own")
    half._epoch(type("Never", (), {"asked": False}), False)
    del half  # and with it the lock
    steps, step = [], Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda self, *args: (steps.append(self.epoch), step(self, *args))[1])
    resumed = ablation.train_one(config, tmp_path / "own")
    assert set(steps) == {1}
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}


def test_only_what_the_run_wrote_is_removed_from_its_folder(data, tmp_path):
    for name in ("notes.txt", "checkpoints/mine.npz", "figures/a.png"):
        (tmp_path / "own" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "own" / name).write_text("kept")
    ablation.train_one(TrainConfig(**ARM, data=data), tmp_path / "own")
    left = {str(p.relative_to(tmp_path / "own")) for p in (tmp_path / "own").rglob("*") if p.is_file()}
    assert left == {"notes.txt", "checkpoints/mine.npz", "figures/a.png"}


def children_of(pid):
    found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True).stdout
    return [int(word) for word in found.split()]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="asks ps for the workers")
def test_workers_die_with_a_killed_command(data, tmp_path):
    command = [
        sys.executable,
        "-m",
        "agl_ref",
        "ablation",
        "--experiments",
        "depth",
        "--data",
        data,
        "--epochs",
        "9999",
    ]
    big = np.load(data)
    np.savez(data, x=np.kron(big["x"], np.ones((1, 2, 2, 1), np.uint8)), y=big["y"])  # vgg_snn needs 16 pixels
    process = subprocess.Popen([*command, "--jobs", "2", "--out", str(tmp_path / "out")], stderr=subprocess.DEVNULL)
    patience = time.monotonic() + 120
    while len(list((tmp_path / "out" / "unfinished").glob("*/config.json"))) < 2 and time.monotonic() < patience:
        time.sleep(0.05)
    workers = children_of(process.pid)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    patience = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in workers) and time.monotonic() < patience:
        time.sleep(0.05)
    assert not [pid for pid in workers if os.path.exists(f"/proc/{pid}")]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::agl_ref.WindowCollapsedWarning")
def test_a_run_that_is_not_finite_is_a_record_not_a_crash(data):
    record = ablation.train_one(TrainConfig(**{**ARM, "dtype": "float32"}, data=data, lr=1e30))
    assert "not finite" in record["status"] and "test_accuracy" not in record


def test_nothing_is_done_twice_and_a_cut_line_is_done_again(experiments, tmp_path, monkeypatch):
    folder = tmp_path / "out"
    first = ablation.run(experiments, folder, jobs=1, progress=False)
    assert len(first) == 4 and not (folder / "unfinished").exists()
    lines = (folder / "results.jsonl").read_text().splitlines()
    assert len(lines) == 4
    calls = []
    train_one = ablation.train_one
    monkeypatch.setattr(runner, "train_one", lambda *args: (calls.append(args[0]), train_one(*args))[1])
    assert ablation.run(experiments, folder, jobs=1, progress=False) == first and not calls
    (folder / "results.jsonl").write_text("\n".join([*lines[:3], lines[3][:50]]))
    assert accuracies_of(ablation.run(experiments, folder, jobs=1, progress=False)) == accuracies_of(first)
    assert [ablation.key_of(config) for config in calls] == [
        ablation.key_of(TrainConfig(**json.loads(lines[3])["config"]))
    ]
    more = {"small": dataclasses.replace(experiments["small"], widths=(1.0, 5.0, "adaptive"))}
    assert len(ablation.run(more, folder, jobs=1, progress=False)) == 6 and len(calls) == 3


def test_stopped_runs_of_other_experiments_keep_their_checkpoints(experiments, tmp_path):
    other = tmp_path / "unfinished" / "another"
    other.mkdir(parents=True)
    ablation.run(experiments, tmp_path, jobs=1, progress=False)
    assert [path.name for path in (tmp_path / "unfinished").iterdir()] == ["another"]


def test_processes_give_the_same_as_one(experiments, tmp_path):
    alone = ablation.run(experiments, tmp_path / "alone", jobs=1, progress=False)
    spread = ablation.run(experiments, tmp_path / "spread", jobs=2, progress=False)
    assert accuracies_of(alone) == accuracies_of(spread)


@pytest.mark.slow
def test_a_killed_command_goes_on(experiments, data, tmp_path):
    """SIGKILL after the first record; the same command then trains only what is missing."""
    folder = tmp_path / "out"
    command = [sys.executable, "-m", "agl_ref", "ablation", "--experiments", "neuron", "--data", data, "--epochs", "2"]
    command += ["--widths", "1", "--seeds", "1", "--jobs", "1", "--json", "--out", str(folder)]
    big = np.load(data)
    np.savez(data, x=np.kron(big["x"], np.ones((1, 2, 2, 1), np.uint8)), y=big["y"])  # vgg_snn needs 16 pixels
    environment = {
        **os.environ,
        "NUMBA_DISABLE_JIT": "0",
    }  # nothing is measured here, and eight layers are slow without
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    path, patience = folder / "results.jsonl", time.monotonic() + 300
    while (not path.exists() or not path.read_text().endswith("\n")) and time.monotonic() < patience:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    before = path.read_text().splitlines()
    assert before
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True, env=environment)
    summary = json.loads(done.stdout)["summary"]
    assert [(row["arm"], row["width"], row["seeds"]) for row in summary] == [
        (arm, width, 1) for arm in ("plif", "lif") for width in ("1.0", "adaptive")
    ]
    after = path.read_text().splitlines()
    assert len(after) == 4 and after[: len(before)] == before


# --- what they say ----------------------------------------------------------------------------------------------------


def made_up(experiment, values):
    """Records with these accuracies {(arm, width): by seed}; None for a run that was not finite."""
    records = {}
    for arm, width, config in experiment.runs():
        value = values[arm, width][config.seed]
        records[ablation.key_of(config)] = {"config": dataclasses.asdict(config), "status": "trained"} | (
            {"status": "not finite"} if value is None else {"test_accuracy": value}
        )
    return records


@pytest.fixture
def recorded():
    experiment = ablation.Experiment("?", {"a": ARM}, widths=(1.0, 5.0, "adaptive", "exact"), seeds=3)
    values = {("a", 1.0): (0.5, 0.6, 0.4), ("a", 5.0): (0.1, None, 0.3), ("a", "adaptive"): (0.7, 0.6, 0.8),
              ("a", "exact"): (0.8, 0.7, 0.9)}  # fmt: skip
    return experiment, made_up(experiment, values)


def test_summary_by_hand_and_by_scipy(recorded):
    rows = {row["width"]: row for row in ablation.summary(*recorded)}
    one = rows["1.0"]
    assert one["mean"] == pytest.approx(0.5) and one["std"] == pytest.approx(0.1) and one["seeds"] == 3
    # differences to adaptive by seed: -0.2, 0, -0.4; mean -0.2, deviation 0.2, t = -0.2 / (0.2 / sqrt 3) = -sqrt 3
    assert one["difference"] == pytest.approx(-0.2)
    assert one["p"] == pytest.approx(2 * stats.t.sf(np.sqrt(3), 2))
    half = stats.t.ppf(0.975, 2) * 0.2 / np.sqrt(3)
    assert (one["low"], one["high"]) == (pytest.approx(-0.2 - half), pytest.approx(-0.2 + half))
    lost = rows["5.0"]  # a run that was not finite is left out of the mean and of the pairs, and of the count
    assert lost["seeds"] == 2 and lost["mean"] == pytest.approx(0.2) and lost["difference"] == pytest.approx(-0.55)
    assert rows["adaptive"]["difference"] == 0 and rows["adaptive"]["p"] is None
    # Holm: of two tests the smaller p counts twice, and the larger is at least as large as that
    assert lost["p"] < one["p"] and lost["p_holm"] == pytest.approx(2 * lost["p"])
    assert one["p_holm"] == pytest.approx(max(2 * lost["p"], one["p"]))
    assert rows["exact"]["difference"] == pytest.approx(0.1) and rows["exact"]["p"] is None  # the same on each seed


def test_tables_say_the_same(recorded, tmp_path):
    experiment, records = recorded
    text = report.text_table({"made-up": experiment}, records)
    assert "50.00 ± 10.00" in text and "-20.00 [-69.68, +29.68]" in text and "0.23" in text
    report.write({"made-up": experiment}, records, tmp_path)
    with open(tmp_path / "summary.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["mean"] for row in rows] == ["0.5", "0.2", "0.7", "0.8"] and rows[0]["p"] == "0.2254"
    with open(tmp_path / "runs.csv") as file:
        runs = list(csv.DictReader(file))
    assert len(runs) == 12 and sum(row["status"] == "not finite" for row in runs) == 1
    assert all(row["command"].startswith("agl-ref train --channels 3,4") for row in runs)


def test_depth_and_figures_of_real_runs(experiments, tmp_path):
    records = ablation.run(experiments, tmp_path, jobs=1, progress=False)
    experiment = experiments["small"]
    profile = ablation.depth_profile(experiment, records, "a", "coverage")
    layers = [record["layers"]["last"] for record in records.values() if record["config"]["width"] == "adaptive"]
    by_hand = [np.mean([layer[name]["coverage"] for layer in layers]) for name in ("conv1", "conv2")]
    assert np.allclose(profile["adaptive"], by_hand) and 0 < by_hand[0] < 1
    paths = report.write(experiments, records, tmp_path)
    assert {path.name for path in paths} == {
        "runs.csv", "summary.csv", "depth.csv", "tables.md",
        "small-accuracy.png", "small-coverage.png", "small-gradient-norm.png",
    }  # fmt: skip
    figure = figures.depth_figure("small", experiment, records, "coverage")
    drawn = {line.get_label(): line.get_ydata() for line in figure.axes[0].get_lines()}
    assert np.allclose(drawn["adaptive"], 100 * profile["adaptive"]) and set(drawn) == {"1.0", "adaptive"}
    dots = figures.accuracy_figure("small", experiment, records).axes[0].get_lines()[0].get_ydata()
    assert np.allclose(dots, 100 * ablation.accuracies(experiment, records)["a"][1.0])
    with open(tmp_path / "depth.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 2 * 2 * 2  # widths, first and last epoch, layers, timesteps
    assert {row["width"] for row in rows} == {"1.0", "adaptive"} and {float(row["kappa"]) for row in rows} > {1.0}
    table = report.markdown_table(experiment, records, "a")
    assert f"{100 * by_hand[0]:.1f}, {100 * by_hand[1]:.1f}" in table.splitlines()[-1]


def test_the_table_along_an_axis_by_hand():
    arms = {text: {**ARM, "v_th": v_th} for text, v_th in (("1/2", 0.5), ("8", 8.0))}
    experiment = ablation.Experiment("?", arms, widths=(1.0, "adaptive"), seeds=3, axis="V_th")
    values = {("1/2", 1.0): (0.5, 0.6, 0.4), ("1/2", "adaptive"): (0.5, 0.6, 0.5), ("8", 1.0): (0.1, 0.2, 0.1),
              ("8", "adaptive"): (0.5, 0.6, 0.51)}  # fmt: skip
    assert report.axis_table(experiment, made_up(experiment, values)).splitlines() == [
        "| test accuracy (%), V_th = | 1/2 | 8 |",
        "| --- | --- | --- |",
        "| 1.0 | 50.00 ± 10.00 | 13.33 ± 5.77 * |",
        "| adaptive | 53.33 ± 5.77 | 53.67 ± 5.51 |",
    ]


def test_statistics_that_are_not_known_and_widths_that_never_trained_are_named(experiments, tmp_path):
    records = ablation.run(experiments, tmp_path, jobs=1, progress=False)
    for record in records.values():
        record["layers"]["last"]["conv1"]["std_exact"][0] = None
        if record["config"]["width"] == "fixed":
            del record["layers"], record["test_accuracy"]
            record["status"] = "not finite"
    rows = [
        row for row in report.depth_rows(experiments, records) if row["layer"] == "conv1" and row["epoch"] == "last"
    ]
    assert [(row["width"], row["t"], row["std_exact"] == "") for row in rows] == [
        ("adaptive", 1, True), ("adaptive", 2, False)
    ]  # fmt: skip
    assert "| 1.0 | 0 | - | - | - | - | - |" in report.markdown_table(experiments["small"], records, "a")


def test_every_width_of_a_plan_has_a_colour_and_many_arms_wrap(recorded):
    for experiment in ablation.EXPERIMENTS.values():
        assert len({figures.colour(width) for width in experiment.widths}) == len(experiment.widths)
    assert figures.colour("later")  # --widths takes every rule
    (axis,) = figures.accuracy_figure("threshold", ablation.EXPERIMENTS["threshold"], {}).axes
    assert [label.get_text() for label in axis.get_xticklabels()] == ["1/8", "1/2", "2", "8"]
    five = ablation.EXPERIMENTS["surrogate"]
    axes = figures.accuracy_figure("surrogate", five, {}).axes
    assert [ax.get_title() for ax in axes] == list(five.arms)
    assert len({round(ax.get_subplotspec().get_position(ax.figure).y0, 3) for ax in axes}) == 2


def test_the_published_tables_are_what_the_published_runs_say(tmp_path):
    """Every committed table again from the committed runs, and the table of their page among them."""
    records = ablation.read_results(PUBLISHED / "results.jsonl")
    for path in report.write_tables(ablation.EXPERIMENTS, records, tmp_path):
        assert path.read_bytes() == (PUBLISHED / path.name).read_bytes(), f"{path.name}: agl-ref ablation --report"
    headline = report.markdown_table(ablation.EXPERIMENTS["headline"], records, "deep")
    page = (PUBLISHED / "README.md").read_text(encoding="utf-8")
    assert headline in page
    begun = report.begun(ablation.EXPERIMENTS, records)
    assert set(begun) >= {"headline", "depth", "neuron", "timesteps", "surrogate"}
    for name, experiment in begun.items():
        assert not ablation.pending({name: experiment}, records), f"{name} is unfinished"
        assert not experiment.axis or report.axis_table(experiment, records) in page
    names = {path.name for path in PUBLISHED.glob("*.png")}
    assert names == {f"{name}-{what}.png" for name in begun
                     for what in ("accuracy", "coverage", "gradient-norm")}  # fmt: skip


# --- the command ------------------------------------------------------------------------------------------------------


def run_command(capsys, *argv):
    code = cli.main(["ablation", *argv])
    return code, *capsys.readouterr()


def test_command_lists_and_trains(data, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(ablation.EXPERIMENTS, "depth", ablation.Experiment("Depth?", {"a": ARM}))
    options = [
        "--experiments",
        "depth",
        "--data",
        data,
        "--widths",
        "2.5,exact",
        "--seeds",
        "2",
        "--epochs",
        "1",
        "--jobs",
        "1",
    ]
    options += ["--out", str(tmp_path / "out")]
    code, out, _ = run_command(capsys, *options, "--list")
    assert code == 0 and len(out.splitlines()) == 6 and all(f"--data {data}" in line for line in out.splitlines())
    code, out, err = run_command(capsys, *options, "--report")
    assert code == 3 and "train first" in err and err.count("\n") == 1
    code, out, err = run_command(capsys, *options)
    assert code == 0 and out.startswith("depth: Depth?") and "2.5" in out and "exact" in out and "6 of 6 runs" in err
    code, out, _ = run_command(capsys, *options, "--list")
    assert code == 0 and not out
    with monkeypatch.context() as stop:
        stop.setattr(runner, "train_one", None)
        code, out, err = run_command(capsys, *options, "--report")
    assert code == 0 and "depth: Depth?" in out and "| exact | 2 |" in (tmp_path / "out" / "tables.md").read_text()
    code, out, err = run_command(capsys, *options, "--json")
    assert (
        code == 0 and [row["width"] for row in json.loads(out)["summary"]] == ["2.5", "exact", "adaptive"] and not err
    )


@pytest.mark.parametrize(
    "argv, words",
    [
        (["--experiments", "breadth"], ("--experiments", "headline", "breadth")),
        (["--experiments", ","], ("--experiments", "received ''")),
        (["--widths", "wide"], ("width", "adaptive", "wide")),
        (["--seeds", "0"], ("--seeds", "0")),
        (["--jobs", "0"], ("--jobs", "0")),
        (["--seeds", "1000000000", "--list"], ("--seeds", "at most 1000")),
        (["--data", "/no/such/place", "--list"], ()),
        (["--out", ""], ("--out",)),
    ],
)
def test_bad_input_is_one_line_and_code_3(argv, words, tmp_path, capsys):
    code, _, err = run_command(capsys, "--out", str(tmp_path / "o"), *argv)
    if "--data" in argv:  # a list needs none
        assert code == 0
        return
    assert code == 3 and err.count("\n") == 1 and all(word in err for word in words), err


def test_foreign_results_are_refused(tmp_path):
    (tmp_path / "results.jsonl").write_text('{"accuracy": 1}\n')
    assert_refused(lambda: ablation.read_results(tmp_path / "results.jsonl"), "results.jsonl", "expected", "--out")
    (tmp_path / "results.jsonl").write_text("x\n")
    assert_refused(lambda: ablation.read_results(tmp_path / "results.jsonl"), "results.jsonl", "expected", "--out")


def test_no_flipped_bit_of_results_changes_a_record(data, tmp_path):
    one = {"one": ablation.Experiment("?", {"a": {**ARM, "epochs": 1, "data": data}}, widths=("adaptive",), seeds=1)}
    records = ablation.run(one, tmp_path, jobs=1, progress=False)
    path, rng = tmp_path / "results.jsonl", np.random.default_rng(0)
    content = path.read_bytes()
    assert ablation.read_results(path) == records and len(records) == 1
    for _ in range(300):
        flipped = bytearray(content)
        flipped[rng.integers(len(content) - 1)] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        if re.search(b'"sha256": "[0-9a-f]{64}"}\n', flipped):  # the checksum's own name may be another
            assert_refused(lambda: ablation.read_results(path), "results.jsonl", "expected", "--out")


def test_a_cluster_that_is_not_there_is_one_line(experiments, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert_refused(
        lambda: ablation.run(experiments, tmp_path, dask="tcp://x:1"), "--dask", "distributed", "pip install"
    )
