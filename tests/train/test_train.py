"""Training: the same bits again, after Ctrl-C and after SIGKILL; checkpoints that do not fit; NaN located."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import train
from agl_ref.data import Dataset
from agl_ref.train import diagnostics
from agl_ref.train.checkpoint import read_checkpoint

CONFIG = train.TrainConfig(channels=(4, 6), T=2, epochs=2, batch=8, neuron="plif", encoding="rate", dtype="float64")


def tiny_dataset(seed=0, n=40):
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 4
    x = rng.integers(0, 120, (n, 8, 8, 1)).astype(np.uint8)
    for i, label in enumerate(y):  # a bright quadrant tells the class
        x[i, 4 * (label // 2) :, 4 * (label % 2) :][:4, :4] += 130
    return Dataset("tiny", x, y, x[:12], y[:12], 4)


@pytest.fixture
def trained(tmp_path):
    return train.Trainer(CONFIG, tmp_path / "whole", tiny_dataset()).fit(progress=False)


def parameters_of(folder):
    _, arrays = read_checkpoint(folder / "checkpoints" / "last.npz")
    return arrays


def assert_same_bits(a, b):
    assert a.keys() == b.keys() and len(a) > 10
    for name in a:
        assert a[name].dtype == b[name].dtype and a[name].tobytes() == b[name].tobytes(), name


def test_it_learns_the_quadrants(trained):
    longer = dataclasses.replace(CONFIG, epochs=12, encoding="direct")
    run = train.Trainer(longer, trained.folder.parent / "long", tiny_dataset()).fit(progress=False)
    rows = run.metrics()
    assert [row["epoch"] for row in rows] == list(range(1, 13))
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"]
    assert rows[-1]["test_accuracy"] > 0.8


def test_a_seed_makes_a_run_repeatable_and_another_seed_another_run(trained):
    again = train.Trainer(CONFIG, trained.folder.parent / "again", tiny_dataset()).fit(progress=False)
    assert_same_bits(parameters_of(trained.folder), parameters_of(again.folder))
    other = dataclasses.replace(CONFIG, seed=1)
    run = train.Trainer(other, trained.folder.parent / "other", tiny_dataset()).fit(progress=False)
    assert not np.array_equal(run.net.parameters()["fc.weight"], trained.net.parameters()["fc.weight"])


@pytest.mark.parametrize("stop_after", [1, 3, 5, 7])
def test_a_run_stopped_by_ctrl_c_ends_with_the_same_bits(trained, stop_after, monkeypatch):
    folder = trained.folder.parent / "stopped"
    run = train.Trainer(CONFIG, folder, tiny_dataset())
    step, calls = run.step, []

    def step_then_signal(*args):
        result = step(*args)
        calls.append(1)
        if len(calls) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(run, "step", step_then_signal)
    with pytest.raises(train.Interrupted, match="go on with: agl-ref train --resume"):
        run.fit(progress=False)
    assert len(calls) == stop_after
    resumed = train.Trainer(CONFIG, folder, tiny_dataset(), start="resume").fit(progress=False)
    assert_same_bits(parameters_of(trained.folder), parameters_of(folder))
    assert [row["epoch"] for row in resumed.metrics()] == [1, 2]
    for a, b in zip(trained.metrics(), resumed.metrics(), strict=True):
        assert {k: v for k, v in a.items() if k not in ("seconds", "resumed_at_batch")} == {
            k: v for k, v in b.items() if k not in ("seconds", "resumed_at_batch")
        }


KILLED = """
import sys, time
sys.path.insert(0, {tests!r})
from test_train import CONFIG, tiny_dataset
from agl_ref.train import trainer
import os
trainer.CHECKPOINT_SECONDS = 0.0  # save after every batch
fsync = os.fsync
def slow(file):  # the kill may come when a file is written and not yet renamed
    fsync(file); print("writing", flush=True); time.sleep(0.02)
os.fsync = slow
trainer.Trainer(CONFIG, {folder!r}, tiny_dataset(), start={start!r}).fit(progress=False)
print("done", flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_again_and_again_ends_with_the_same_bits(trained):
    folder = trained.folder.parent / "killed"
    start, kills = "new", 0
    for attempt in range(12):
        code = KILLED.format(tests=os.path.dirname(__file__), folder=str(folder), start=start)
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for count, line in enumerate(process.stdout):
            if line == "done\n":
                break
            if count == attempt % 3 + 1 and attempt < 3:
                time.sleep(0.01 * attempt)  # in the write, after it, in the next step
                process.send_signal(signal.SIGKILL)
                break
        process.stdout.read()
        code = process.wait()
        process.stdout.close()
        start = "resume"
        if code == 0:
            break
        assert code == -signal.SIGKILL
        kills += 1
    assert kills == 3 and code == 0
    assert_same_bits(parameters_of(trained.folder), parameters_of(folder))


def test_a_run_killed_before_its_first_checkpoint_resumes_from_the_start(trained):
    folder = trained.folder.parent / "early"
    train.Trainer(CONFIG, folder, tiny_dataset())
    train.Trainer(CONFIG, folder, tiny_dataset(), start="resume").fit(progress=False)
    assert_same_bits(parameters_of(trained.folder), parameters_of(folder))


def test_a_cut_last_line_of_the_metrics_is_no_row(trained):
    with open(trained.folder / "metrics.jsonl", "a") as file:
        file.write('{"epoch": 3, "train_')
    assert [row["epoch"] for row in trained.metrics()] == [1, 2]
    train.Trainer(CONFIG, trained.folder, tiny_dataset(), start="resume")
    assert (trained.folder / "metrics.jsonl").read_text().endswith("}\n")


def test_a_folder_with_a_run_is_not_overwritten(trained):
    with pytest.raises(ValueError, match=r"expected a folder without a run.*--resume"):
        train.Trainer(CONFIG, trained.folder, tiny_dataset())


@pytest.mark.parametrize(
    "change, dataset, reason",
    [
        ({"channels": (4, 8)}, {}, "checkpoint of this architecture .* of another"),
        ({"dtype": "float32"}, {}, "checkpoint of this dtype .* of another"),
        ({}, {"seed": 3}, "checkpoint of this data set .* of another"),
        ({"lr": 0.2}, {}, "checkpoint of this configuration .* of another"),
        ({"neuron": "lif"}, {}, "checkpoint of this architecture .* of another"),
    ],
)
def test_a_checkpoint_of_something_else_is_refused_with_the_reason(trained, change, dataset, reason):
    other = dataclasses.replace(CONFIG, **change)
    run = train.Trainer(other, trained.folder.parent / "b", tiny_dataset(**dataset))
    before = {name: p.copy() for name, p in run.net.parameters().items()}
    with pytest.raises(train.CheckpointError, match=reason):
        run.load_checkpoint(trained.folder / "checkpoints" / "last.npz")
    assert all(np.array_equal(before[name], p) for name, p in run.net.parameters().items())


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "text", "foreign npz", "no meta", "missing array"])
def test_a_corrupt_checkpoint_is_refused(trained, damage):
    path = trained.folder / "checkpoints" / "last.npz"
    content = path.read_bytes()
    with np.load(path) as file:
        arrays = dict(file)
    if damage == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = content.index(b"conv2.weight") + 300
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("hello")
    elif damage == "foreign npz":
        np.savez(path, x=np.zeros(3))
    elif damage == "no meta":
        np.savez(path, **{**arrays, "meta": np.array("{}")})
    else:
        del arrays["parameter.fc.weight"]
        np.savez(path, **arrays)
    with pytest.raises(train.CheckpointError, match=r"last.npz: expected"):
        train.Trainer(CONFIG, trained.folder, tiny_dataset(), start="resume")


def test_a_failed_write_leaves_the_old_checkpoint(trained, monkeypatch):
    before = parameters_of(trained.folder)

    def full_disk(file, **arrays):
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full_disk)
    trained.net.parameters()["fc.bias"][...] += 1
    with pytest.raises(OSError):
        trained.save()
    assert_same_bits(before, parameters_of(trained.folder))


def test_a_nan_in_the_forward_pass_names_layer_and_timestep():
    net = agl.models.conv_snn(channels=(4, 6), image_size=8, num_classes=4)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 8, 8, 1))
    net.parameters()["conv2.beta"][1] = np.inf
    with np.errstate(all="ignore"):
        result = net.loss_and_grads(x, np.array([0, 1]))
    with pytest.raises(diagnostics.NonFiniteError, match="parameter 'conv2.beta'"):
        diagnostics.require_finite(result)


def test_a_nan_that_spikes_hide_is_still_found():
    net = agl.models.conv_snn(channels=(4, 6), image_size=8, num_classes=4)
    x = np.random.default_rng(0).standard_normal((3, 2, 8, 8, 1))
    result = net.loss_and_grads(x, np.array([0, 1]))
    result.trace["conv1"].norm.x[1, 0, 2, 2, 0] = np.nan
    result.trace["conv1"].norm.var[0] = np.nan
    assert np.isfinite(result.logits).all() and np.isfinite(result.loss)
    with pytest.raises(diagnostics.NonFiniteError, match="input of tdBN of layer 'conv1' at t = 2"):
        diagnostics.require_finite(result)


def test_an_overflow_in_the_forward_pass_names_layer_and_timestep():
    no_norm = agl.SpikingBlock("conv1", agl.Conv2d(1, 2, seed=0), None, agl.LIF())
    net = agl.Network([no_norm, agl.Flatten(), agl.Readout("fc", 32, 2)], (4, 4, 1))
    net.parameters()["conv1.weight"][...] = 1e300
    x = np.ones((3, 1, 4, 4, 1))
    x[1] *= 1e10
    with np.errstate(all="ignore"):
        result = net.loss_and_grads(x, np.array([0]))
        result.trace.caches[0].neuron.u[0] = 0.0
    assert diagnostics.locate_forward(result.trace) == "membrane potential of layer 'conv1' at t = 2"


def test_an_overflow_in_the_backward_pass_names_layer_and_timestep():
    net = agl.models.conv_snn(channels=(4, 6), image_size=8, num_classes=4, dtype=np.float32)
    x = np.random.default_rng(0).standard_normal((3, 2, 8, 8, 1)).astype(np.float32)
    result = net.loss_and_grads(x, np.array([0, 1]))
    assert diagnostics.locate_backward(result.trace, result.dlogits) is None
    diagnostics.require_finite(result)
    dlogits = result.dlogits.copy()
    dlogits[1, 0, 0] = np.nan
    assert diagnostics.locate_backward(result.trace, dlogits) == "gradient of the logits at t = 2"
    trace = result.trace.replace("conv2", u=np.full_like(result.trace["conv2"].u, 0.5))
    net.parameters()["fc.weight"][...] *= np.float32(1e20)
    result = net.forward(x)
    dlogits = np.zeros_like(dlogits)
    dlogits[1] = 3e25
    with np.errstate(all="ignore"):
        result = dataclasses.replace(trace, caches=(*trace.caches[:-1], result.caches[-1]))
        where = diagnostics.locate_backward(result, dlogits)
    assert where == "gradient of the spikes of layer 'conv2' at t = 2"


def test_training_stops_at_the_first_nan_and_changes_nothing(tmp_path):
    run = train.Trainer(CONFIG, tmp_path / "nan", tiny_dataset())
    run.net.parameters()["conv1.weight"][0, 0, 0, 0] = np.nan
    before = run.net.parameters()["fc.weight"].copy()
    with pytest.raises(diagnostics.NonFiniteError, match=r"'conv1.weight'.*lower the learning rate"):
        run.fit(progress=False)
    assert np.array_equal(before, run.net.parameters()["fc.weight"])


def test_coverage_counts_the_open_window():
    u = np.array([[0.25, 0.5, 1.0, 2.0]] * 2)
    np.testing.assert_array_equal(diagnostics.window_coverage(u, np.array([1.0, 0.5]), 0.5), [0.5, 0.25])
    np.testing.assert_array_equal(diagnostics.window_coverage(u, np.array([1.0, 0.0]), 0.5, closed=True), [0.75, 0.0])


@pytest.mark.parametrize("change", [{"epochs": 0}, {"lr": 0.0}, {"T": 0}, {"network": "mlp"}, {"encoding": "x"},
                                    {"decay": 1.5}, {"seed": -1}, {"dtype": "float16"}, {"surrogate": "x"},
                                    {"channels": (0,)}, {"neuron": "plif", "decay": 0.0},
                                    {"neuron": "plif", "decay": 1.0}])  # fmt: skip
def test_bad_configurations_are_refused(change):
    with pytest.raises((ValueError, TypeError), match="expected"):
        train.TrainConfig(**change)


def test_a_damaged_config_is_refused(trained):
    path = trained.folder / "config.json"
    for text in ("", "[]", "{}", json.dumps({**json.loads(path.read_text()), "lr": "fast"})):
        path.write_text(text)
        with pytest.raises(ValueError, match="config.json"):
            train.open_run(trained.folder)


def test_an_evaluation_in_batches_is_that_of_the_whole_trace(trained):
    assert trained.trace().mode.training is False and trained.trace(images=7).logits.shape[1] == 7
    trace = trained.trace(images=12)
    found = trained.evaluate(batch=12)
    assert found["layers"] == diagnostics.as_json(diagnostics.layer_statistics(trace))
    predicted = trace.logits.mean(axis=0).argmax(axis=1)
    assert found["test_accuracy"] == (predicted == trained.dataset.y_test).mean()
    layers = trained.evaluate(batch=5)["layers"]
    assert set(layers) == {"conv1", "conv2"} and len(layers["conv1"]["coverage"]) == 2
    for layer in layers.values():
        assert 0 < sum(layer["coverage"]) < 2 and 0 < sum(layer["firing_rate"]) < 2
    whole = trained.evaluate(batch=12)
    assert whole["test_accuracy"] * 12 == round(whole["test_accuracy"] * 12)


@pytest.mark.parametrize("encoding", ["direct", "rate", "events"])
@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_every_encoding_and_optimiser_trains(tmp_path, encoding, optimiser):
    config = train.TrainConfig(
        channels=(4,), T=2, epochs=1, batch=20, lr=0.01, encoding=encoding, optimiser=optimiser, schedule="constant",
        loss="tet", width="fixed", fixed_width=0.5,
    )  # fmt: skip
    run = train.Trainer(config, tmp_path / "run", tiny_dataset())
    before = {name: p.copy() for name, p in run.net.parameters().items()}
    run.fit(progress=False)
    changed = {name for name, p in run.net.parameters().items() if not np.array_equal(p, before[name])}
    assert changed == set(before)


@pytest.mark.parametrize("weights", [None, "balanced", (4.0, 1.0, 1.0, 1.0)])
def test_the_squared_error_learns_with_class_weights_and_smoothing(tmp_path, weights):
    config = dataclasses.replace(
        CONFIG, encoding="direct", epochs=12, loss="mse", class_weights=weights, label_smoothing=0.1
    )
    rows = train.Trainer(config, tmp_path / "run", tiny_dataset()).fit(progress=False).metrics()
    assert rows[-1]["train_loss"] < 0.5 * rows[0]["train_loss"] and rows[-1]["test_accuracy"] > 0.8


def test_balanced_weights_are_by_the_training_images_and_need_every_class(tmp_path):
    config, tiny = dataclasses.replace(CONFIG, class_weights="balanced"), tiny_dataset()
    few = Dataset("few", tiny.x_train[:5], tiny.y_train[:5], tiny.x_test, tiny.y_test, 4)  # of classes 0 1 2 3 0
    assert train.Trainer(config, tmp_path / "few", few).loss.class_weights == (0.625, 1.25, 1.25, 1.25)
    three = Dataset("three", tiny.x_train[:3], tiny.y_train[:3], tiny.x_test, tiny.y_test, 4)
    with pytest.raises(ValueError, match="class_weights: expected training images of every class .* none of class 3"):
        train.Trainer(config, tmp_path / "three", three)
    with pytest.raises(ValueError, match="class_weights: expected 4 numbers, one for each class, received 2"):
        train.Trainer(dataclasses.replace(CONFIG, class_weights=(1, 2)), tmp_path / "two", tiny)


def test_a_configuration_of_the_first_release_is_read():
    """A renamed or dropped field would leave every run folder of today behind."""
    text = """{"data": "images.npz", "network": "conv_snn", "channels": [4, 4], "neuron": "lif", "decay": 0.2, "v_th": 0.5,
    "width": "adaptive", "fixed_width": 1.0, "surrogate": "rectangular", "T": 2, "encoding": "direct", "augment": "none",
    "normalise": "data", "binning": "time", "epochs": 2, "batch": 8, "optimiser": "sgd", "lr": 0.1, "momentum": 0.9,
    "weight_decay": 0.0005, "schedule": "cosine", "loss": "ce", "seed": 0, "dtype": "float32"}"""
    expected = train.TrainConfig(data="images.npz", channels=(4, 4), T=2, epochs=2, batch=8)
    assert train.TrainConfig.from_json(text) == expected


@pytest.mark.parametrize(("T", "batch", "fits"), [(1, 20, False), (1, 1, False), (1, 3, True), (2, 20, True)])
def test_a_last_batch_of_one_is_refused_before_training(tmp_path, T, batch, fits):
    """41 images: in batches of 20 the last is alone; behind the global pool each channel has T values of it."""
    config = train.TrainConfig(
        network="sew_resnet19", channels=(2, 2, 2), T=T, epochs=1, batch=batch, dtype="float64", encoding="direct"
    )
    if fits:
        train.Trainer(config, tmp_path / "run", tiny_dataset(n=41))
        return
    with pytest.raises(
        ValueError, match="batch: expected at least 2 values per channel in hidden, received 1: .*--batch"
    ):
        train.Trainer(config, tmp_path / "run", tiny_dataset(n=41))
    assert not (tmp_path / "run").exists()


def test_a_constant_channel_is_zero_after_normalisation(tmp_path):
    tiny = tiny_dataset()
    x, x_test = (np.concatenate([part, np.full_like(part, 7)], axis=3) for part in (tiny.x_train, tiny.x_test))
    dataset = Dataset("constant", x, tiny.y_train, x_test, tiny.y_test, 4)
    run = train.Trainer(dataclasses.replace(CONFIG, encoding="direct"), tmp_path / "run", dataset)
    images = run.encode(x, np.random.default_rng(0))
    assert (images[..., 1] == 0).all() and abs(images[..., 0].std() - 1) < 1e-12


def test_channels_that_stand_first_are_named(tmp_path):
    tiny = tiny_dataset()
    x, x_test = (part.transpose(0, 3, 1, 2) for part in (tiny.x_train, tiny.x_test))
    dataset = Dataset("first", x, tiny.y_train, x_test, tiny.y_test, 4)
    with pytest.raises(ValueError, match=r"received 1x8 .* channels seem to stand first: x.transpose\(0, 2, 3, 1\)"):
        train.Trainer(CONFIG, tmp_path / "run", dataset)


@pytest.mark.parametrize(
    "options", [{"augment": "crop-flip"}, {"encoding": "events"}, {"network": "sew_resnet19", "channels": (2, 2, 2)}]
)
def test_images_need_not_be_square(tmp_path, options):
    tiny = tiny_dataset()
    wide = Dataset("wide", tiny.x_train[:, :6], tiny.y_train, tiny.x_test[:, :6], tiny.y_test, 4)
    config = dataclasses.replace(CONFIG, epochs=1, **{"encoding": "direct", **options})
    run = train.Trainer(config, tmp_path / "run", wide)
    assert run.net.input_shape[:2] == (6, 8)
    run.fit(progress=False)
    again = train.Trainer(config, tmp_path / "run", wide, start="read")
    again.load_checkpoint(tmp_path / "run" / "checkpoints" / "last.npz")
    assert again.evaluate()["test_accuracy"] == run.evaluate()["test_accuracy"]
