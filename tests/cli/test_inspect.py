"""agl-ref inspect: the numbers that it prints are those of the file, and what it says of train is what train does."""

import json

import numpy as np
import pytest

from agl_ref import cli, data, train
from agl_ref.train import memory


def saved(path, classes=(0, 1, 2), each=12, channels=1, **more):
    """An npz of 8 x 8 images with `each` of every class, in turn."""
    rng = np.random.default_rng(0)
    y = np.tile(classes, each)
    x = rng.integers(3, 200, (len(y), 8, 8, channels)).astype(np.uint8)
    x.flat[0] = 250
    np.savez(path, x=x, y=y, **more)
    return x, y, str(path)


def inspected(capsys, *argv, code=0):
    assert cli.main(["inspect", *argv, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_an_npz(tmp_path, capsys):
    x, _, path = saved(tmp_path / "a.npz", channels=2)
    found = inspected(
        capsys, path, "--channels", "4,4", "--T", "3", "--batch", "7", "--epochs", "2", "--encoding", "rate"
    )
    assert (found["kind"], found["shape"], found["dtype"], found["num_classes"]) == ("images", [8, 8, 2], "uint8", 3)
    assert found["split"] == "every sixth of each class" and found["warnings"] == []
    assert found["training"]["count"] == 30 and found["training"]["classes"] == [10, 10, 10]
    assert found["test"]["count"] == 6 and found["test"]["missing_classes"] == []
    assert found["training"]["values"]["max"] == 250 and found["test"]["values"]["min"] >= 3
    assert found["training"]["values"]["mean"] == pytest.approx(data.load(path).x_train.mean())
    planned = found["train"]
    assert (planned["input"], planned["steps_per_epoch"], planned["steps"]) == ([3, 7, 8, 8, 2], 5, 10)
    assert planned["input_values"]["min"] == 0 and planned["input_values"]["max"] == 1
    assert 0.3 < planned["input_values"]["not_zero"] < 0.5  # the pixels' mean is 102 / 255
    config = train.TrainConfig(data=path, channels=(4, 4), T=3, batch=7, epochs=2, encoding="rate")
    trainer = train.Trainer(config, tmp_path / "run")
    assert planned["parameters"] == sum(p.size for p in trainer.net.parameters().values())
    sizes = memory.estimate(config, trainer.net, trainer.dataset).values()
    assert planned["memory_bytes"] == memory.PROCESS + sum(size for size, _ in sizes)
    assert len(x) == 36


def test_an_npz_that_has_its_own_test_images(tmp_path, capsys):
    x, y, path = saved(tmp_path / "a.npz")
    np.savez(path, x=x, y=y, x_test=x[:5], y_test=y[:5])
    found = inspected(capsys, path, "--channels", "4")
    assert found["split"] == "the data's own"
    assert (found["training"]["count"], found["test"]["count"]) == (36, 5)


def test_a_missing_class_is_named_and_no_error(tmp_path, capsys):
    _, _, path = saved(tmp_path / "a.npz", classes=(1, 2))
    found = inspected(capsys, path, "--channels", "4")
    assert found["training"]["missing_classes"] == [0] and "no training image of class 0" in found["warnings"][0]


@pytest.mark.parametrize(("argv", "reason"), [
    (["--batch", "29", "--T", "1", "--network", "sew_resnet19", "--channels", "2,2,2"], "the last of 30 images is alone"),
    (["--network", "vgg_snn"], "image_size"), (["--normalise", "cifar10"], "normalise"),
    (["--class-weights", "1,2"], "class_weights: expected 3 numbers"),
])  # fmt: skip
def test_what_train_would_refuse(tmp_path, capsys, argv, reason):
    _, _, path = saved(tmp_path / "a.npz")
    assert reason in inspected(capsys, path, *argv, code=1)["train"]["refused"]
    assert cli.main(["inspect", path, *argv]) == 1
    assert "train would refuse it: " in capsys.readouterr().out
    assert cli.main(["train", "--data", path, *argv, "--out", str(tmp_path / "run")]) == 3
    assert reason in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_rates_need_pixels_from_0_to_1(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", x=np.linspace(-1, 1, 12 * 64).reshape(12, 8, 8), y=np.arange(12) % 2)
    refused = inspected(capsys, str(tmp_path / "a.npz"), "--encoding", "rate", code=1)["train"]["refused"]
    assert "expected pixels in [0, 1], received [-1" in refused


def test_recordings(tmp_path, capsys):
    for part in ("Train", "Test"):
        for label in range(10):
            (tmp_path / part / str(label)).mkdir(parents=True)
            events = [(x, 1, 1 << 7, 0, 10 * x) for x in range(label + 1)]
            (tmp_path / part / str(label) / "0.bin").write_bytes(np.array(events, np.uint8).tobytes())
    found = inspected(capsys, str(tmp_path), "--channels", "4", "--T", "2")
    assert found["kind"] == "recordings of events" and found["shape"] == [34, 34, 2]
    assert found["training"]["events"] == {"min": 1, "max": 10, "mean": 5.5}
    assert found["training"]["duration"] == {"min": 0, "max": 90, "mean": 45}
    assert found["train"]["encoding"] == "frames of events" and found["train"]["input"] == [2, 10, 34, 34, 2]


def test_the_text(tmp_path, capsys):
    _, _, path = saved(tmp_path / "a.npz", classes=(1, 2))
    assert cli.main(["inspect", path, "--channels", "4"]) == 0
    text = capsys.readouterr().out
    assert f"{path}: images, 8 x 8 pixels, 1 channels, uint8; 3 classes" in text
    assert "training  20; values 3 to 250" in text and "by class: 0 10 10" in text
    assert "every sixth of each class" in text and "warning   " in text
    assert "(4, 20, 8, 8, 1), direct" in text and "1 each epoch, 5 in all" in text and "GiB of this machine's" in text


def test_what_is_no_data_is_bad_input(tmp_path, capsys):
    assert cli.main(["inspect", str(tmp_path / "absent.npz")]) == 3
    assert "expected one of" in capsys.readouterr().err
