"""Run folders under attack: damaged, edited, deleted and older files, and values that are not finite."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from test_train import CONFIG, assert_same_bits, parameters_of, tiny_dataset

from agl_ref import train
from agl_ref.engine import optim
from agl_ref.train import diagnostics
from agl_ref.train.checkpoint import read_checkpoint, write_checkpoint
from agl_ref.train.config import LATER


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train.Trainer(CONFIG, folder, tiny_dataset()).fit(progress=False)
    return folder


@pytest.fixture
def folder(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


def resume(folder):
    return train.Trainer(CONFIG, folder, tiny_dataset(), start="resume")


def rewritten(folder, **changes):
    """Write the checkpoint again with other values in its description."""
    path = folder / "checkpoints" / "last.npz"
    meta, arrays = read_checkpoint(path)
    write_checkpoint(path, {**meta, **changes}, arrays)


def flipped(content, rng):
    content = bytearray(content)
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    return bytes(content)


# --- damage -------------------------------------------------------------------------------------------------------------


def test_no_flipped_bit_of_a_checkpoint_is_accepted(folder):
    path, rng = folder / "checkpoints" / "last.npz", np.random.default_rng(0)
    content = path.read_bytes()
    for _ in range(300):
        path.write_bytes(flipped(content, rng))
        with pytest.raises(train.CheckpointError, match="last.npz: expected"):
            read_checkpoint(path)
    path.write_bytes(content)
    read_checkpoint(path)


def test_no_flipped_bit_of_a_config_changes_the_run(folder):
    path, rng = folder / "config.json", np.random.default_rng(1)
    content, refused = path.read_bytes(), 0
    for _ in range(300):
        path.write_bytes(flipped(content, rng))
        try:
            text = path.read_text()
            assert train.TrainConfig.from_json(text) == CONFIG
        except ValueError:
            refused += 1
    assert refused > 250


@pytest.mark.parametrize("text", [None, "", "{}\n", "[]\n", "null\n", "x", "\xff\n", "[" * 100_000 + "\n"])
def test_damaged_metrics_are_written_again_from_the_checkpoint(folder, text):
    path = folder / "metrics.jsonl"
    whole = path.read_bytes()
    path.unlink() if text is None else path.write_text(text, encoding="latin-1")
    assert [row["epoch"] for row in resume(folder).metrics()] == [1, 2]
    assert path.read_bytes() == whole
    read = train.Trainer(CONFIG, folder, tiny_dataset(), start="read")
    assert [row["epoch"] for row in read.metrics()] == [1, 2]


def test_a_checkpoint_folder_deleted_during_a_run_loses_nothing(finished, tmp_path, monkeypatch):
    run = train.Trainer(CONFIG, tmp_path / "run", tiny_dataset())
    epoch = run._epoch
    monkeypatch.setattr(
        run, "_epoch", lambda *a: (epoch(*a), shutil.rmtree(tmp_path / "run"))[0] if not run.epoch else epoch(*a)
    )
    run.fit(progress=False)
    assert_same_bits(parameters_of(finished), parameters_of(tmp_path / "run"))
    assert [
        row["epoch"] for row in train.Trainer(CONFIG, tmp_path / "run", tiny_dataset(), start="resume").metrics()
    ] == [1, 2]


# --- folders of before ----------------------------------------------------------------------------------------------------


def test_a_configuration_without_a_checksum_is_read(folder):
    (folder / "config.json").write_text(CONFIG.to_json())
    assert train.TrainConfig.from_json((folder / "config.json").read_text()) == CONFIG
    assert resume(folder).epoch == 2


def test_a_run_of_before_some_options_is_read(folder):
    """Its files do not name them, and the checksum is of what they name."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    for name in (*LATER, "sha256"):
        del values[name]
    text = json.dumps(values, indent=1)
    path.write_text(json.dumps({**values, "sha256": hashlib.sha256(text.encode()).hexdigest()}, indent=1))
    assert train.TrainConfig.from_json(path.read_text()) == CONFIG
    meta, _ = read_checkpoint(folder / "checkpoints" / "last.npz")
    configuration = {k: v for k, v in meta["identity"]["configuration"].items() if k not in LATER}
    rewritten(folder, identity={**meta["identity"], "configuration": configuration})
    assert resume(folder).epoch == 2
    rewritten(folder, identity={**meta["identity"], "configuration": {**configuration, "gamma": 2.0}})
    with pytest.raises(train.CheckpointError, match="gamma"):
        resume(folder)


def test_a_checkpoint_of_another_version_is_read_with_a_warning(folder):
    rewritten(folder, agl_ref="0.0.9")
    with pytest.warns(UserWarning, match="is of agl_ref 0.0.9, this is"):
        resume(folder)


# --- values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, value, words", [
    ("parameter.conv2.weight", np.nan, r"parameter.conv2.weight: .* received nan at index \(0, 0, 0, 0\)"),
    ("optimiser.momentum.fc.bias", np.inf, r"optimiser.momentum.fc.bias: .* inf at index \(0,\)"),
    ("statistic.conv1.running_var", -1.0, "statistic.conv1.running_var: expected values >= 0, received -1.0"),
])  # fmt: skip
def test_a_checkpoint_with_values_that_no_run_saves_is_refused(folder, name, value, words):
    path = folder / "checkpoints" / "last.npz"
    meta, arrays = read_checkpoint(path)
    arrays[name].flat[0] = value
    write_checkpoint(path, meta, arrays)
    with pytest.raises(train.CheckpointError, match=words):
        resume(folder)


def test_a_network_that_is_not_finite_is_not_evaluated(folder):
    run = resume(folder)
    run.net.running_statistics()["conv1.running_mean"][1] = np.inf
    with pytest.raises(diagnostics.NonFiniteError, match=r"conv1.running_mean: .* inf at index \(1,\)"):
        run.evaluate()


@pytest.mark.parametrize("kind", [optim.SGD, optim.Adam])
def test_an_optimiser_takes_nothing_that_is_not_finite_and_keeps_no_step_that_overflows(kind):
    p, q = np.ones(2), np.ones(())
    opt = kind({"p": p, "q": q}, lr=1e308)
    before = {name: array.copy() for name, array in opt.state.items()}
    for bad in (np.array([1.0, np.nan]), np.array([np.inf, 0.0])):
        with pytest.raises(ValueError, match=r"grads\['p'\]: expected finite values, received (nan|inf) at index"):
            opt.step({"p": bad, "q": np.ones(())})
    with pytest.raises(FloatingPointError, match="parameter 'p'"):
        opt.step({"p": np.array([1e308, 1e308]), "q": np.zeros(())})
    assert p.tolist() == [1, 1] and q == 1 and opt.steps == 0
    assert all(np.array_equal(before[name], array) for name, array in opt.state.items())


def test_a_training_whose_loss_overflows_writes_no_metrics(tmp_path):
    config = dataclasses.replace(CONFIG, lr=1e308, v_th=0.001)
    run = train.Trainer(config, tmp_path / "run", tiny_dataset())
    with pytest.raises(FloatingPointError, match="not finite|infinite"):
        run.fit(progress=False)
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


# --- the lock -------------------------------------------------------------------------------------------------------------

TRAINING = """
import sys, time
sys.path.insert(0, {tests!r})
from test_train import CONFIG, tiny_dataset
from agl_ref.train import Trainer
run = Trainer(CONFIG, {folder!r}, tiny_dataset(), start={start!r})
print("holds", flush=True)
time.sleep(60)
"""


def other_process(folder, start):
    code = TRAINING.format(tests=os.path.dirname(__file__), folder=str(folder), start=start)
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "holds\n"
    return process


@pytest.mark.parametrize("start", ["new", "resume"])
def test_one_process_trains_in_a_folder_and_the_lock_dies_with_it(folder, tmp_path, start):
    folder = folder if start == "resume" else tmp_path / "new"
    process = other_process(folder, start)
    for kind in ("new", "resume"):
        with pytest.raises(ValueError, match=f"no other process trains in, received one that process {process.pid} on"):
            train.Trainer(CONFIG, folder, tiny_dataset(), start=kind)
    assert train.Trainer(CONFIG, folder, tiny_dataset(), start="read").epoch == 0  # reading needs no lock
    process.kill()
    process.wait()
    process.stdout.close()
    assert resume(folder).folder == folder


def test_a_trainer_lets_go_when_it_has_finished_was_refused_or_nobody_holds_it(tmp_path):
    run = train.Trainer(CONFIG, tmp_path / "run", tiny_dataset())
    with pytest.raises(ValueError, match=f"received one that process {os.getpid()} on"):
        resume(run.folder)
    run.fit(progress=False)
    with pytest.raises(ValueError, match="expected a folder without a run"):
        train.Trainer(CONFIG, run.folder, tiny_dataset())
    resume(run.folder)  # forgotten at once
    again = resume(run.folder)
    with pytest.raises(ValueError, match="received one that process"):
        run.fit()
    again.fit(progress=False).fit(progress=False)


def test_a_run_that_is_only_read_is_not_trained(folder):
    with pytest.raises(ValueError, match="received 'read'"):
        train.Trainer(CONFIG, folder, tiny_dataset(), start="read").fit()
    with pytest.raises(ValueError, match="start: expected one of"):
        train.Trainer(CONFIG, folder, tiny_dataset(), start="reed")
