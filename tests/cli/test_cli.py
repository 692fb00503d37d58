"""The command: help, exit codes, train, eval, resume, the demo on a small scale."""

import dataclasses
import gzip
import json
import os
import shutil
import signal
import struct
import subprocess
import sys

import helpers
import numpy as np
import pytest

from agl_ref import cli, data, oracle, train
from agl_ref.cli import demo
from agl_ref.cli import train as train_command
from agl_ref.cli.main import COMMANDS
from agl_ref.cli.shared import BAD_INPUT, FAILED, STOPPED
from agl_ref.engine import memory


def write_images(path):
    """An npz with 40 images of two easy classes."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    x = rng.integers(0, 100, (40, 8, 8)).astype(np.uint8)
    x[y == 1, :4] += 150
    np.savez(path, x=x, y=y)
    return str(path)


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images.npz")


def small(images, *more):
    return ["train", "--data", images, "--channels", "4,4", "--T", "2", "--epochs", "2", "--batch", "8", *more]


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        helpers.save_undrawn(patch)
        assert cli.main(small(write_images(folder / "images.npz"), "--out", str(folder / "run"), "--json")) == 0
    return folder


@pytest.fixture
def trained(trained_once, tmp_path, images):
    """The folder of a run of `small`, a copy for each test, trained on the images beside it."""
    run = shutil.copytree(trained_once / "run", tmp_path / "run")
    config = train.TrainConfig.from_file(run / "config.json")
    (run / "config.json").write_text(dataclasses.replace(config, data=images).to_file())
    return run


def test_train_then_eval_agree(images, tmp_path, capsys):
    run = str(tmp_path / "run")
    assert cli.main(small(images, "--out", run, "--json")) == 0
    trained = json.loads(capsys.readouterr().out)
    assert cli.main(["eval", run, "--json"]) == 0
    evaluated = json.loads(capsys.readouterr().out)
    assert trained == evaluated and trained["epoch"] == 2
    names = {str(p.relative_to(run)) for p in (tmp_path / "run").rglob("*") if p.is_file()}
    figures = {f"figures/{name}.png" for name in ("run", "std", "coverage", "firing_rate", "gradient_norm",
                                                 "nonzero_gradient")}  # fmt: skip
    assert names == {".lock", "config.json", "metrics.jsonl", "checkpoints/last.npz", *figures}
    assert cli.main(["eval", run]) == 0
    table = capsys.readouterr().out
    assert "test accuracy" in table and "window coverage" in table and "conv2  adaptive" in table
    argv = ["eval", run, "--operations", "--e-ac", "1", "--e-mac", "2"]
    assert cli.main([*argv, "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["operations"]
    assert all(
        counts["joules"] == pytest.approx(1e-12 * (counts["ac"] + 2 * counts["mac"])) for counts in layers.values()
    )
    assert cli.main(argv) == 0
    header, *rows = capsys.readouterr().out.split("operations per image")[1].strip().splitlines()[:5]
    assert [row.split()[0] for row in rows] == [*layers, "all"]
    assert float(rows[-1].split()[-1].replace(",", "")) == pytest.approx(
        1e9 * sum(c["joules"] for c in layers.values()), abs=0.06
    )


def test_every_option_reaches_the_config(images, tmp_path, undrawn):
    given = {
        "network": "conv_snn", "channels": (4,), "neuron": "plif", "decay": 0.3, "v_th": 0.6, "surrogate": "arctan",
        "norm_shift": "beta V_th", "gamma": 1.5,
        "T": 3, "encoding": "rate", "augment": "crop-flip", "normalise": "data", "binning": "count",
        "epochs": 1, "batch": 20, "optimiser": "adam", "lr": 0.01, "momentum": 0.5,
        "weight_decay": 0.0, "schedule": "constant", "loss": "tet", "class_weights": (1.0, 2.5), "label_smoothing": 0.1,
        "tet_lam": 0.0, "pool": "max first", "seed": 7, "dtype": "float64",
    }  # fmt: skip
    argv = ["train", "--data", images, "--width", "2.5", "--out", str(tmp_path / "run"), "--json"]
    for name, value in given.items():
        text = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
        argv += [f"--{name.replace('_', '-')}", text]
    assert cli.main(argv) == 0
    config = train.TrainConfig.from_json((tmp_path / "run" / "config.json").read_text())
    assert config == train.TrainConfig(data=images, width="fixed", fixed_width=2.5, **given)
    options = {name for name, _, _ in train_command.TRAIN_OPTIONS} | {"fixed_width"}
    assert (
        options
        == {"data", "width", "fixed_width", "resize", *given}  # resize is for recordings: tests/data/test_spikes.py
        == {field.name for field in dataclasses.fields(train.TrainConfig)}
    )


@pytest.mark.slow
def test_ctrl_c_saves_says_how_to_go_on_and_ends_with_the_same_bits(images, tmp_path):
    whole, cut = str(tmp_path / "whole"), str(tmp_path / "cut")
    argv = ["--epochs", "30"]
    assert cli.main(small(images, "--out", whole, "--json", *argv)) == 0
    command = [sys.executable, "-m", "agl_ref", *small(images, "--out", cut, *argv)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    while not os.path.exists(f"{cut}/metrics.jsonl"):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate()
    assert process.returncode == STOPPED, err
    assert f"agl-ref train --resume {cut}" in err.splitlines()[-1]
    assert cli.main(["train", "--resume", cut, "--json"]) == 0
    with np.load(f"{whole}/checkpoints/last.npz") as a, np.load(f"{cut}/checkpoints/last.npz") as b:
        assert a.files == b.files
        assert all(a[name].tobytes() == b[name].tobytes() for name in a.files if name != "meta")


def one_line(capsys):
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("agl-ref: "), err
    return err


@pytest.mark.parametrize(
    "argv, reason",
    [
        (["train", "--width", "-1"], "fixed_width: expected"),
        (["train", "--width", "wide"], "width: expected one of 'adaptive'"),
        (["train", "--T", "0"], "T: expected an integer >= 1, received 0"),
        (["train", "--decay", "1.5"], "decay: expected a finite number in [0, 1]"),
        (["train", "--decay", "1", "--neuron", "plif"], "decay: expected a finite number in (0, 1)"),
        (["train", "--lr", "nan"], "lr: expected a finite number"),
        (["train", "--surrogate", "relu"], "surrogate: expected one of 'rectangular'"),
        (["train", "--network", "mlp"], "network: expected one of 'conv_snn'"),
        (["train", "--neuron", "hh"], "neuron: expected one of 'lif', 'plif'"),
        (["train", "--dtype", "float16"], "dtype: expected one of 'float32', 'float64'"),
        (["train", "--data", "/nowhere"], "/nowhere"),
        (["train", "--resume", "/nowhere"], "expected a run folder with config.json"),
        (["train", "--resume", "x", "--lr", "1"], "expected no other option than --data, received --lr"),
        (["eval", "/nowhere"], "expected a run folder with config.json"),
    ],
)
def test_bad_input_is_exit_code_3_and_one_line(argv, reason, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == BAD_INPUT
    assert reason in one_line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("argv", [[], ["fly"], ["train", "--channels", "a"], ["train", "--epochs", "2.5"], ["eval"]])
def test_bad_usage_is_exit_code_3_and_one_line(argv, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(argv)
    assert stop.value.code == BAD_INPUT
    assert "--help" in one_line(capsys)


@pytest.mark.parametrize("argv, command", [
    (["train", "--widht", "2"], "agl-ref train"), (["vectors", "list", "--ops", "lif"], "agl-ref vectors list"),
])  # fmt: skip
def test_an_unknown_option_points_to_the_help_of_its_command(argv, command, capsys):
    with pytest.raises(SystemExit):
        cli.main(argv)
    assert f"unrecognized arguments: {' '.join(argv[-2:])}; see {command} --help" in one_line(capsys)


def test_an_eval_without_a_checkpoint_or_with_a_corrupt_one_says_so(trained, images, capsys):
    run = str(trained)
    assert cli.main(small(images, "--out", run)) == BAD_INPUT
    assert "expected a folder without a run" in one_line(capsys)
    path = trained / "checkpoints" / "last.npz"
    path.write_bytes(path.read_bytes()[:1000])
    assert cli.main(["eval", run]) == BAD_INPUT
    assert "corrupt" in one_line(capsys)
    path.unlink()
    assert cli.main(["eval", run]) == BAD_INPUT
    assert "expected a checkpoint, received none" in one_line(capsys)


def test_data_may_move_but_not_change(trained, images, tmp_path, capsys):
    run, moved = str(trained), str(tmp_path / "moved.npz")
    os.rename(images, moved)
    assert cli.main(["eval", run]) == BAD_INPUT
    assert cli.main(["eval", run, "--data", moved, "--json"]) == 0
    with np.load(moved) as file:
        x, y = file["x"].copy(), file["y"]
    x[0, 0, 0] ^= 1
    np.savez(moved, x=x, y=y)
    capsys.readouterr()
    assert cli.main(["eval", run, "--data", moved]) == BAD_INPUT
    assert "data set" in one_line(capsys)


def test_idx_files_train(tmp_path, undrawn):
    rng = np.random.default_rng(0)
    for part, n in (("train", 20), ("t10k", 10)):
        pixels = rng.integers(0, 256, (n, 8, 8)).astype(np.uint8)
        labels = (np.arange(n) % 10).astype(np.uint8)
        with gzip.open(tmp_path / f"{part}-images-idx3-ubyte.gz", "wb") as file:
            file.write(struct.pack(">IIII", 2051, n, 8, 8) + pixels.tobytes())
        with gzip.open(tmp_path / f"{part}-labels-idx1-ubyte.gz", "wb") as file:
            file.write(struct.pack(">II", 2049, n) + labels.tobytes())
    assert cli.main(small(str(tmp_path), "--out", str(tmp_path / "run"), "--json")) == 0


def test_a_divergence_is_exit_code_1_with_layer_and_timestep(images, tmp_path, capsys, monkeypatch):
    original = train.Trainer.step

    def poisoned(self, *args):
        self.net.parameters()["conv2.beta"][0] = np.inf
        return original(self, *args)

    monkeypatch.setattr(train.Trainer, "step", poisoned)
    with np.errstate(all="ignore"):
        assert cli.main(small(images, "--out", str(tmp_path / "run"), "--json")) == FAILED
    assert "parameter 'conv2.beta'" in one_line(capsys)


@pytest.mark.parametrize("command", [[], ["demo"], ["train"], ["eval"]])
def test_help_names_every_choice(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([*command, "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for word in {"train": ["adaptive", "geometric", "sew_resnet19", "plif", "arctan", "fashion-mnist", "--resume",
                           "cosine", "float64", "tet"]}.get(command[0] if command else "", ["--help"]):  # fmt: skip
        assert word in text, word


LOADED = """
import sys
from agl_ref import cli
try:
    code = cli.main(sys.argv[1:])
except SystemExit as stop:
    code = stop.code
assert code == 0, code
print(sorted({'numba', 'scipy', 'matplotlib'} & set(sys.modules)))
"""


@pytest.mark.parametrize("argv", [["--help"], ["vectors", "list"], ["check", "dump.npz", "--case", "lif-grid"]])
def test_help_vectors_and_check_load_neither_numba_nor_scipy_nor_matplotlib(argv, tmp_path):
    u = oracle.load_case("lif-grid").arrays["u"]
    np.savez(tmp_path / "dump.npz", u=u)
    done = subprocess.run([sys.executable, "-c", LOADED, *argv], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("argv, tuned", [(["vectors", "list"], 0), (["eval", "nowhere"], 1)])
def test_the_process_is_tuned_for_training_alone(argv, tuned, monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(memory, "keep_freed_memory", lambda: calls.append(1))
    cli.main(argv)
    assert len(calls) == tuned


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_a_file_and_a_help_page(command, capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main([command, "--help"])
    text = capsys.readouterr().out
    assert stop.value.code == 0 and text.startswith(f"usage: agl-ref {command} ") and len(text.splitlines()) > 6
    with pytest.raises(SystemExit):
        cli.main(["--help"])
    assert COMMANDS[command].split()[0] in capsys.readouterr().out


@pytest.fixture
def small_demo(monkeypatch):
    """The demo on 100 images."""
    bundled = data.load_bundled()
    monkeypatch.setattr(data, "load", lambda name: bundled.subset(100, 50))
    monkeypatch.setattr(demo, "DEMO", {**demo.DEMO, "channels": (4, 8)})


def test_the_demo_compares_both_widths_and_judges_itself(small_demo, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(demo, "DEMO_GOAL", 0.0)
    argv = ["demo", "--out", str(tmp_path / "demo")]
    assert cli.main(argv) == 0
    out = capsys.readouterr().out
    for word in (*demo.NAMES.values(), "1/32", "test accuracy (%)", "neurons inside the window (%)", "Figure:"):
        assert word in out
    assert (tmp_path / "demo" / "demo.png").read_bytes()[:4] == b"\x89PNG"
    monkeypatch.setattr(demo, "DEMO_GOAL", 1.1)
    assert cli.main([*argv, "--json"]) == FAILED  # replaces the first
    report = json.loads(capsys.readouterr().out)
    assert {label: list(report[label]) for label in demo.SERIES} == {
        "fixed": ["1/32", "1/8", "1/2", "2", "8"], "adaptive": ["1/32", "1/8", "1/2", "2", "8"],
        "2 V_th": ["8"], "plain beta": ["1/32"],
    }  # fmt: skip
    assert not report["goal_reached"] and report["same_weights"] and report["relative_is_fixed"]
    for v_th, gain in report["difference"].items():
        fixed, adaptive = (report[label][v_th] for label in ("fixed", "adaptive"))
        assert gain == pytest.approx(adaptive["test_accuracy"] - fixed["test_accuracy"])
        assert fixed["layers"]["conv1"]["width"] == [1.0, 1.0] != adaptive["layers"]["conv1"]["width"]
    assert report["2 V_th"]["8"]["layers"]["conv1"]["width"] == [16.0, 16.0]
    assert len(list((tmp_path / "demo").glob("*/config.json"))) == 12
    config = train.TrainConfig.from_json((tmp_path / "demo" / "plain-beta-0.03125" / "config.json").read_text())
    assert (config.v_th, config.width, config.norm_shift) == (1 / 32, "adaptive", "beta")


def made_facts(fixed=0.7, adaptive=0.7, plain=0.1, weights="the same", relative="as fixed", images=1000):
    """(accuracy, facts) of runs that were never trained; `fixed` by threshold, or one for all."""
    accuracy = {("2 V_th", 8.0): 0.7, ("plain beta", 1 / 32): plain}
    made = {("2 V_th", 8.0): relative, ("plain beta", 1 / 32): "others"}
    for i, v_th in enumerate(demo.THRESHOLDS):
        accuracy["fixed", v_th] = fixed[i] if isinstance(fixed, tuple) else fixed
        accuracy["adaptive", v_th] = adaptive
        made["fixed", v_th] = "as fixed" if v_th == 1 / 2 else f"fixed {v_th}"
        made["adaptive", v_th] = weights if v_th == 8.0 else "the same"
    return accuracy, demo.facts_of(accuracy, made, images)


def test_the_demo_says_no_more_than_its_runs_show():
    accuracy, facts = made_facts(fixed=(0.3, 0.66, 0.71, 0.75, 0.5))
    assert facts["winner"] == {"1/32": "adaptive", "1/8": "neither", "1/2": "neither", "2": "fixed", "8": "adaptive"}
    assert facts["difference"] == {"1/32": 0.4, "1/8": 0.04, "1/2": -0.01, "2": -0.05, "8": 0.2}
    assert facts["margin"]["1/2"] == pytest.approx(2 * np.sqrt((0.7 * 0.3 + 0.71 * 0.29) / 1000), abs=1e-6)
    assert facts["goal_reached"] and facts["worst"] == 0.7 and facts["plain_beta_loses"]
    text = "\n".join(demo.sentences(accuracy, facts))
    for part in ("adaptive wins at V_th = 1/32 (+40.0), 8 (+20.0)\n", "fixed wins at V_th = 2 (-5.0)\n",
                 "fixed is as good at V_th = 1/8 (+4.0), 1/2 (-1.0): within two standard errors, 4.1\n",
                 "the same weights", "as steady", "needs tdBN's shift"):  # fmt: skip
        assert part in text
    assert "excludes" not in text


@pytest.mark.parametrize(
    "change, fact, said, unsaid",
    [
        (
            {"weights": "others"},
            "same_weights",
            "end with different weights, which METHOD.md excludes",
            "the same weights",
        ),
        ({"relative": "others"}, "relative_is_fixed", "ends with other weights", "as steady"),
        ({"plain": 0.7}, "plain_beta_loses", "does as well without", "needs"),
    ],
)
def test_a_demo_in_which_something_does_not_hold_says_so(change, fact, said, unsaid):
    accuracy, facts = made_facts(**change)
    text = "\n".join(demo.sentences(accuracy, facts))
    assert facts[fact] is False and said in text and unsaid not in text
    assert facts["goal_reached"] is (fact != "same_weights")
    assert "wins" not in text


def test_the_demo_removes_no_other_run_and_nothing_before_its_options_are_checked(
    small_demo, trained, tmp_path, capsys, undrawn
):
    out = tmp_path / "demo"
    assert cli.main(["demo", "--out", str(out), "--json"]) in (0, FAILED)
    (out / "fixed-2" / "notes.txt").write_text("mine")
    capsys.readouterr()
    assert cli.main(["demo", "--out", str(out), "--seed", "-1"]) == BAD_INPUT
    assert "seed: expected" in one_line(capsys) and (out / "fixed-2" / "config.json").exists()
    assert cli.main(["demo", "--out", str(out), "--seed", "1", "--json"]) in (0, FAILED)
    assert json.loads((out / "fixed-2" / "config.json").read_text())["seed"] == 1
    assert (out / "fixed-2" / "notes.txt").read_text() == "mine"
    other = tmp_path / "other"
    shutil.move(trained, other / "adaptive-8")
    before = (other / "adaptive-8" / "checkpoints" / "last.npz").read_bytes()
    capsys.readouterr()
    assert cli.main(["demo", "--out", str(other)]) == BAD_INPUT
    assert "expected nothing or an earlier demo, received another run" in one_line(capsys)
    assert (other / "adaptive-8" / "checkpoints" / "last.npz").read_bytes() == before
    assert [path.name for path in other.iterdir()] == ["adaptive-8"]


@pytest.mark.parametrize("argv", [
    ["train", "--resume", ""], ["train", "--out", ""], ["demo", "--out", ""],
    ["vectors", "export", "lif-hard-attached", "--out", ""],
])  # fmt: skip
def test_an_empty_folder_name_is_refused(argv, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) == BAD_INPUT
    assert "expected a path, received ''; name a file or a folder" in one_line(capsys)
    assert not list(tmp_path.iterdir())


def test_a_file_where_a_folder_should_be_is_named(images, tmp_path, capsys):
    file = tmp_path / "file"
    file.write_text("kept")
    assert cli.main(small(images, "--out", str(file / "run"))) == BAD_INPUT
    assert f"{file}" in one_line(capsys) and file.read_text() == "kept"


def test_a_run_folder_with_a_binary_config_names_it(trained, capsys):
    for content in (b"\xff\xfe\n", b" " * 10**6 + (trained / "config.json").read_bytes()):
        (trained / "config.json").write_bytes(content)
        assert cli.main(["train", "--resume", str(trained)]) == BAD_INPUT
        assert "config.json: expected" in one_line(capsys)


def test_a_step_that_overflows_is_exit_code_1_and_is_not_saved(images, tmp_path, capsys):
    run = tmp_path / "run"
    argv = small(images, "--lr", "1e308", "--dtype", "float64", "--v-th", "0.001", "--out", str(run), "--json")
    assert cli.main(argv) == FAILED
    assert "the optimiser's step would make" in one_line(capsys)
    assert not (run / "metrics.jsonl").exists() and not list(run.rglob("*.npz"))


def test_the_module_is_the_command():
    done = subprocess.run([sys.executable, "-m", "agl_ref", "--version"], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.startswith("agl-ref 0.")
