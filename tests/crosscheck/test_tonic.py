"""Event recordings against the package tonic: its reader of N-MNIST's files, its data sets, its frames."""

import numpy as np
import pytest

from agl_ref import data

pytest.importorskip("tonic")

import tonic.io

FIELDS = np.dtype([("x", int), ("y", int), ("t", int), ("p", int)])


def write(path, seed, count, last):
    """`count` events in N-MNIST's five bytes each: x, y, then one bit of polarity and 23 bits of microseconds."""
    rng = np.random.default_rng(seed)
    x, y, p = rng.integers(0, 34, count), rng.integers(0, 34, count), rng.integers(0, 2, count)
    t = np.sort(rng.integers(0, last, count))
    t[-1] = last
    word = p << 23 | t
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.stack([x, y, word >> 16, word >> 8 & 255, word & 255], axis=1).astype(np.uint8).tobytes())


@pytest.fixture
def folder(tmp_path):
    for part in ("Train", "Test"):
        for label in range(10):
            last = (1 << 23) - 1 if label == 3 else 300_000  # one recording with the largest time that 23 bits hold
            write(tmp_path / part / str(label) / "00001.bin", label, 100 + label, last)
    return tmp_path


class Local(tonic.datasets.NMNIST):
    """tonic's own data set of the files that are there; its constructor would download all of N-MNIST."""

    def __init__(self, folder, part):
        self.data = sorted(map(str, (folder / part).glob("*/*.bin")))
        self.targets = list(range(10))
        self.transform = self.target_transform = self.transforms = None
        self.first_saccade_only = self.stabilize = False


def test_both_readers_find_the_same_events(folder):
    for path in folder.glob("T*/*/*.bin"):
        theirs, ours = tonic.io.read_mnist_file(path, FIELDS), data.read_nmnist(path)
        for field in "xytp":
            np.testing.assert_array_equal(ours[field], theirs[field])
    assert data.read_nmnist(folder / "Train" / "3" / "00001.bin")["t"].max() == (1 << 23) - 1


def test_a_data_set_of_tonic_is_the_folder(folder):
    ours = data.load(folder)
    theirs = data.from_tonic(Local(folder, "Train"), Local(folder, "Test"))
    assert theirs.image_shape == ours.image_shape == (34, 34, 2) and theirs.num_classes == 10
    assert theirs.class_names[3] == "3 - three"
    assert theirs.fingerprint() == ours.fingerprint()
    for by in data.BINNINGS:
        np.testing.assert_array_equal(theirs.x_train.frames(7, by), ours.x_train.frames(7, by))


def test_frames_of_equally_many_events_are_tonics(folder):
    """Where T divides the number of events; by time, tonic rounds the frames' duration and so moves a few events."""
    path = folder / "Train" / "0" / "00001.bin"
    frames = tonic.transforms.ToFrame(sensor_size=(34, 34, 2), n_event_bins=5)(tonic.io.read_mnist_file(path, FIELDS))
    ours = data.event_frames(data.read_nmnist(path), 5, (34, 34), "count")
    assert ours.sum() == 100 and ours.any(axis=(1, 2, 3)).all()
    np.testing.assert_array_equal(ours, np.moveaxis(frames, 1, -1))
