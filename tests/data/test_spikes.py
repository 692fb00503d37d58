"""SHD, SSC and SpikingJelly's npz: small files in those formats, written here; every error; resized sensors; training."""

import json

import numpy as np
import pytest

from agl_ref import cli, data, train
from agl_ref.data.spikes import UNITS

WORDS = ("zero", "null", "one")


def write_heidelberg(path, times, units, labels, keys=WORDS, seconds=np.float16):
    """As the published files: ragged float16 seconds and uint16 units, labels, the names of the classes."""
    h5py = pytest.importorskip("h5py")
    with h5py.File(path, "w") as file:
        spikes = file.create_group("spikes")
        for name, rows, dtype in (("times", times, seconds), ("units", units, np.uint16)):
            ragged = spikes.create_dataset(name, (len(rows),), h5py.vlen_dtype(dtype))
            for i, row in enumerate(rows):
                ragged[i] = np.array(row, dtype)
        file["labels"] = np.array(labels, np.uint16)
        file.create_group("extra")["keys"] = np.array([key.encode() for key in keys])


@pytest.fixture
def shd(tmp_path):
    rng = np.random.default_rng(0)
    for part, n in (("train", 6), ("test", 3)):
        times = [rng.integers(0, 512, 40) / 512 for _ in range(n)]  # float16 has them exactly; not in the order of time
        units = [rng.integers(0, UNITS, 40) for _ in range(n)]
        write_heidelberg(tmp_path / f"shd_{part}.h5", times, units, np.arange(n) % 3)
    return tmp_path


# --- SHD and SSC ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shd", "ssc"])
def test_a_file_by_hand(tmp_path, name):
    """1 s is the last spike of all, 1,000,001 ticks the clock: in two frames 0.5 s is in the first, 1 s in the second."""
    write_heidelberg(tmp_path / f"{name}_train.h5", [[0.5, 0.25, 0.0], [1.0]], [[699, 3, 3], [0]], [2, 0])
    write_heidelberg(tmp_path / f"{name}_test.h5", [[0.125, 0.125]], [[7, 7]], [1])
    dataset = data.load(tmp_path)
    assert (dataset.name, dataset.class_names, dataset.image_shape) == (name, WORDS, (1, 700, 1))
    assert dataset.y_train.tolist() == [2, 0] and dataset.y_test.tolist() == [1]
    frames = dataset.x_train.frames(2)
    assert np.argwhere(frames).tolist() == [[0, 0, 0, 3, 0], [0, 0, 0, 699, 0], [1, 1, 0, 0, 0]]
    assert frames[0, 0, 0, 3, 0] == 2 and frames.sum() == 4
    assert dataset.x_test.frames(8)[0].sum() == 0 or dataset.x_test.frames(8)[0, 0, 0, 7, 0] == 2
    assert dataset.x_train.sizes()[1].tolist() == [500_000, 0]


def test_float16_seconds_do_not_overflow_and_are_rounded(tmp_path):
    """1.3994140625 s is a float16; in float16 microseconds it would be infinite."""
    for part in ("train", "test"):
        write_heidelberg(tmp_path / f"shd_{part}.h5", [[0.0, 1.3994140625]], [[0, 1]], [0])
    assert data.load(tmp_path).x_train.duration == 1_399_415


def test_it_trains_and_inspect_knows_it(shd, capsys, undrawn):
    argv = ["--network", "fc_snn", "--channels", "5", "--T", "4", "--batch", "3", "--resize", "1,70"]
    assert cli.main(["inspect", str(shd), *argv, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (
        said["shape"] == [1, 700, 1]
        and said["train"]["input"] == [4, 3, 1, 70, 1]
        and said["class_names"] == list(WORDS)
    )
    assert cli.main(["train", "--data", str(shd), *argv, "--epochs", "1", "--out", str(shd / "run"), "--json"]) == 0
    capsys.readouterr()
    assert train.open_run(shd / "run").config.resize == (1, 70)


BAD = {
    "not HDF5": (lambda path: path.write_bytes(b"nothing"), "expected spikes/times, .* received: "),
    "no units": (lambda path: _without(path, "spikes/units"), "expected spikes/times, .* received: "),
    "spikes is no group": (lambda path: _without(path, "spikes", 3), "expected spikes/times, .* received: "),
    "a label too large": (lambda path: write_heidelberg(path, [[0.0]], [[1]], [3]), "labels: expected"),
    "fewer labels": (
        lambda path: write_heidelberg(path, [[0.0], [0.5]], [[1], [1]], [0]),
        "as many recordings as labels",
    ),
    "fewer units": (
        lambda path: write_heidelberg(path, [[0.0, 0.5]], [[1]], [0]),
        "recording 0: expected as many times as",
    ),
    "a silent recording": (
        lambda path: write_heidelberg(path, [[]], [[]], [0]),
        "recording 0: expected as many times as",
    ),
    "unit 700": (lambda path: write_heidelberg(path, [[0.0]], [[700]], [0]), "recording 0: expected x in 0..699"),
    "a negative time": (
        lambda path: write_heidelberg(path, [[-0.5]], [[0]], [0]),
        "recording 0: expected times in seconds",
    ),
    "not a number": (
        lambda path: write_heidelberg(path, [[np.nan]], [[0]], [0]),
        "recording 0: expected times in seconds",
    ),
    "other classes": (
        lambda path: write_heidelberg(path, [[0.0]], [[0]], [0], "ab"),
        "expected the classes of shd_train.h5",
    ),
}


def _without(path, name, instead=None):
    import h5py

    with h5py.File(path, "a") as file:
        del file[name]
        if instead is not None:
            file[name] = instead


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_file_gets_one_line_that_names_it(shd, case):
    damage, words = BAD[case]
    damage(shd / "shd_test.h5")
    with pytest.raises(ValueError, match=f"(?s)shd_test.h5: .*{words}") as caught:
        data.load(shd)
    assert "\n" not in str(caught.value)


def test_without_h5py_the_error_says_what_to_install(tmp_path, monkeypatch):
    for part in ("train", "test"):
        (tmp_path / f"shd_{part}.h5").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ImportError, match=r"expected the package h5py .*; pip install 'agl-ref\[hdf5\]'"):
        data.load(tmp_path)


def test_a_folder_without_the_files_is_named(tmp_path):
    with pytest.raises(ValueError, match="expected shd_train.h5 and shd_test.h5"):
        data.load_heidelberg(tmp_path)


# --- SpikingJelly's npz -----------------------------------------------------------------------------------------------


def write_events(path, seed, n=30, **change):
    rng = np.random.default_rng(seed)
    events = {"t": np.sort(rng.integers(0, 10**6, n)), "x": rng.integers(0, 128, n), "y": rng.integers(0, 128, n),
              "p": rng.integers(0, 2, n)} | change  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{key: value for key, value in events.items() if value is not None})
    return events


def test_dvs_gesture_has_its_own_split_and_classes_by_number(tmp_path):
    written = {
        (part, label, i): write_events(tmp_path / "events_np" / part / str(label) / f"user{i}.npz", 100 * label + i)
        for part, count in (("train", 2), ("test", 1)) for label in (0, 2, 10) for i in range(count)
    }  # fmt: skip
    dataset = data.load(tmp_path)
    assert dataset.class_names == ("0", "2", "10") and dataset.image_shape == (128, 128, 2)
    assert dataset.y_train.tolist() == [0, 0, 1, 1, 2, 2] and dataset.y_test.tolist() == [0, 1, 2]
    assert dataset.fingerprint() == data.load(tmp_path / "events_np").fingerprint()
    events, frame = written["train", 2, 1], dataset.x_train[3:4].frames(1)[0, 0]
    expected = np.zeros((128, 128, 2))
    np.add.at(expected, (events["y"], events["x"], events["p"]), 1)
    np.testing.assert_array_equal(frame, expected)


def test_cifar10_dvs_is_split_by_every_sixth_of_a_class(tmp_path):
    for label in ("cat", "airplane"):
        for i in range(7):
            write_events(tmp_path / label / f"cifar10_{label}_{i}.npz", i, p=np.arange(30) % 2 == 0)
    dataset = data.load(tmp_path)
    assert dataset.class_names == ("airplane", "cat")
    assert dataset.y_train.tolist() == [0] * 6 + [1] * 6 and dataset.y_test.tolist() == [0, 1]
    sixth = write_events(tmp_path / "other.npz", 5, p=np.arange(30) % 2 == 0)
    assert dataset.x_test.frames(1)[0, 0].sum(axis=(0, 1)).tolist() == [15, 15]
    assert dataset.x_test.frames(1)[0, 0, sixth["y"], sixth["x"]].any(axis=-1).all()


BAD_EVENTS = {
    "no p": ({"p": None}, "expected arrays t, x, y and p of one length"),
    "fewer t": ({"t": np.arange(7)}, "expected arrays t, x, y and p of one length"),
    "x = 128": ({"x": np.full(30, 128)}, "expected x in 0..127"),
    "fractions": ({"t": np.arange(30) / 2}, "expected integers in the field t"),
    "times that decrease": ({"t": np.arange(30)[::-1]}, "expected times that do not decrease"),
}


@pytest.mark.parametrize("case", BAD_EVENTS)
def test_a_damaged_npz_is_named(tmp_path, case):
    change, words = BAD_EVENTS[case]
    for part in ("train", "test"):
        write_events(tmp_path / part / "0" / "a.npz", 0)
        write_events(tmp_path / part / "1" / "b.npz", 0, **(change if part == "test" else {}))
    with pytest.raises((ValueError, TypeError), match=f"test/1/b.npz: .*{words}") as caught:
        data.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_split_or_has_other_classes_is_refused(tmp_path):
    write_events(tmp_path / "few" / "a" / "0.npz", 0)
    write_events(tmp_path / "few" / "b" / "0.npz", 0)
    with pytest.raises(ValueError, match="few: expected at least 6 recordings of a class"):
        data.load(tmp_path / "few")
    for part, label in (("train", "0"), ("train", "1"), ("test", "0"), ("test", "2")):
        write_events(tmp_path / "other" / part / label / "0.npz", 0)
    with pytest.raises(ValueError, match="other/test: expected the classes of .*other/train"):
        data.load(tmp_path / "other")
    with pytest.raises(ValueError, match="expected folders of npz for each class"):
        data.load_events_np(tmp_path / "none")
    write_events(tmp_path / "run" / "checkpoints" / "last.npz", 0)  # one folder with an npz makes no data set
    with pytest.raises(ValueError, match="received a folder without such files"):
        data.load(tmp_path / "run")


# --- a smaller sensor -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(48, 48), (3, 128), (1, 1), (128, 128)])
def test_frames_of_a_resized_sensor_are_sums_over_pixels(tmp_path, size):
    events = write_events(tmp_path / "a.npz", 3, 500)
    rows = np.empty(500, [(key, np.int64) for key in "xytp"])
    for key in "xytp":
        rows[key] = events[key]
    recordings = data.Recordings([rows], (128, 128))
    large, small = recordings.frames(3)[:, 0], recordings.resized(size).frames(3)[:, 0]
    expected = np.zeros((3, *size, 2))
    for y in range(128):
        for x in range(128):
            expected[:, y * size[0] // 128, x * size[1] // 128] += large[:, y, x]
    np.testing.assert_array_equal(small, expected)
    assert small.sum() == 500 and recordings.sensor == (128, 128)


def test_a_larger_sensor_and_images_are_refused():
    recordings = data.Recordings([np.array([(0, 0, 1, 1)], [(key, int) for key in "xytp"])], (4, 5))
    with pytest.raises(ValueError, match="size: expected at most the sensor's 4 x 5, received 5 x 5"):
        recordings.resized((5, 5))
    events = data.EventDataset("events", recordings, np.zeros(1, int), recordings, np.zeros(1, int), 2, None)
    with pytest.raises(ValueError, match="resize: expected at most the sensor's 4,5, received 5,5"):
        train.Trainer(train.TrainConfig(resize=(5, 5)), "unused", events, start="read")
    with pytest.raises(ValueError, match="resize: expected none with images"):
        train.Trainer(train.TrainConfig(resize=(7, 7)), "unused", data.load("bundled").subset(20, 20), start="read")
    with pytest.raises(ValueError, match="resize: "):
        train.TrainConfig(resize=(7,))
