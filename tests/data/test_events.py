"""Event recordings: N-MNIST files by hand in bytes, binning by hand and against loops, every error, training on a folder."""

import dataclasses
import json

import numpy as np
import pytest

from agl_ref import cli, data, train
from agl_ref.data.events import NMNIST_SENSOR

FIELDS = [("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)]


def events_of(rows, fields=FIELDS):
    return np.array(rows, fields)


def random_events(seed, n=200, sensor=(5, 7)):
    rng = np.random.default_rng(seed)
    events = np.empty(n, FIELDS)
    events["x"], events["y"] = rng.integers(0, sensor[1], n), rng.integers(0, sensor[0], n)
    events["p"], events["t"] = rng.integers(0, 2, n), 1000 + np.sort(rng.integers(0, 3 * n, n))
    return events


# --- N-MNIST's files --------------------------------------------------------------------------------------------------


def test_a_file_written_by_hand(tmp_path):
    path = tmp_path / "00002.bin"
    path.write_bytes(bytes([
        0x0A, 0x21, 0x80, 0x00, 0x03,  # x 10, y 33, brighter, 3 microseconds
        0x00, 0x05, 0x00, 0x01, 0x02,  # x 0, y 5, darker, 0x102 = 258
        0x21, 0x00, 0xFF, 0xFE, 0xFD,  # x 33, y 0, brighter, 0x7FFEFD = 8388349: 23 bits
    ]))  # fmt: skip
    events = data.read_nmnist(path)
    assert events.dtype.names == ("x", "y", "t", "p")
    assert events.tolist() == [(10, 33, 3, 1), (0, 5, 258, 0), (33, 0, 8388349, 1)]


def packed(events):
    """The bytes of N-MNIST's format, each event as one 40-bit number."""
    numbers = [x << 32 | y << 24 | p << 23 | t for x, y, t, p in events.tolist()]
    return b"".join(number.to_bytes(5, "big") for number in numbers)


def test_random_events_survive_the_file(tmp_path):
    events = random_events(0, 3000, (34, 34))
    (tmp_path / "a.bin").write_bytes(packed(events))
    assert data.read_nmnist(tmp_path / "a.bin").tolist() == events.tolist()
    assert events["t"].max() >= 1 << 13 and set(events["p"]) == {0, 1}


GOOD = packed(events_of([(1, 2, 5, 0), (3, 4, 6, 1)]))
BAD_FILES = {
    "empty": (b"", "expected records of 5 bytes, received 0 bytes, 0 left over"),
    "truncated": (GOOD[:-1], "received 9 bytes, 4 left over"),
    "x": (GOOD + bytes([34, 0, 0, 0, 9]), r"expected x in 0..33 \(34 pixels wide\), received 34 in event 2"),
    "y": (bytes([0, 240, 0, 0, 1]) + GOOD, r"expected y in 0..33 \(34 pixels high\), received 240 in event 0"),
    "time": (GOOD + bytes([0, 0, 0, 0, 4]), "expected times that do not decrease, received 4 after 6 in event 2"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_damaged_file_gets_one_line_that_names_it(tmp_path, case):
    content, words = BAD_FILES[case]
    path = tmp_path / "00007.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"00007.bin: .*{words}; ") as caught:
        data.read_nmnist(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_named(tmp_path):
    for path in (tmp_path / "none.bin", tmp_path):
        with pytest.raises(ValueError, match=f"{path}: expected a file"):
            data.read_nmnist(path)


# --- binning ----------------------------------------------------------------------------------------------------------

FIVE = events_of([(0, 0, 100, 0), (1, 0, 101, 1), (1, 0, 101, 1), (2, 1, 107, 0), (0, 1, 109, 1)])


def test_frames_of_equal_time_by_hand():
    frames = data.event_frames(FIVE, 2, (2, 3))  # times 0..9: 0..4 and 5..9
    assert frames.shape == (2, 2, 3, 2) and frames.dtype == np.float64
    assert frames[0].tolist() == [[[1, 0], [0, 2], [0, 0]], [[0, 0], [0, 0], [0, 0]]]
    assert frames[1].tolist() == [[[0, 0], [0, 0], [0, 0]], [[0, 1], [0, 0], [1, 0]]]
    assert data.event_frames(FIVE, 3, (2, 3)).sum((1, 2, 3)).tolist() == [3, 0, 2]  # 10/3, 20/3: 7 is in the last


def test_frames_of_equal_counts_by_hand():
    counts = data.event_frames(FIVE, 2, (2, 3), by="count", dtype=np.float32)
    assert counts.sum((1, 2, 3)).tolist() == [3, 2] and counts.dtype == np.float32  # i 2 // 5: 0 0 0 1 1
    assert counts[0, 0, 1].tolist() == [0, 2] and counts[1, 1, 2].tolist() == [1, 0]
    assert data.event_frames(FIVE, 4, (2, 3), by="count").sum((1, 2, 3)).tolist() == [2, 1, 1, 1]


def test_one_event_and_simultaneous_events_are_in_one_frame():
    assert data.event_frames(FIVE[:1], 3, (2, 3)).sum((1, 2, 3)).tolist() == [1, 0, 0]
    assert data.event_frames(FIVE[1:3], 3, (2, 3)).sum((1, 2, 3)).tolist() == [2, 0, 0]
    assert data.event_frames(FIVE[1:3], 3, (2, 3), "count").sum((1, 2, 3)).tolist() == [1, 1, 0]


def frame_by_frame(events, T, sensor, by):
    """The same by asking each frame for its events."""
    out = np.zeros((T, *sensor, 2))
    rows = events.tolist()
    first, duration = rows[0][2], rows[-1][2] - rows[0][2] + 1
    for k in range(T):
        for i, (x, y, t, p) in enumerate(rows):
            place, whole = (t - first, duration) if by == "time" else (i, len(rows))
            if k * whole <= place * T < (k + 1) * whole:
                out[k, y, x, p] += 1
    return out


@pytest.mark.parametrize("by", data.BINNINGS)
@pytest.mark.parametrize("T", [1, 3, 7])
def test_frames_are_what_loops_give(by, T):
    recordings = data.Recordings([random_events(s, 50 + 40 * s) for s in range(4)], (5, 7))
    frames = recordings.frames(T, by)
    for s in range(4):
        expected = frame_by_frame(random_events(s, 50 + 40 * s), T, (5, 7), by)
        np.testing.assert_array_equal(frames[:, s], expected)
        assert expected.max() > 1 and (expected.sum((1, 2, 3)) > 0).all()
    some = recordings[np.array([2, 0])]
    assert len(some) == 2 and len(recordings[1:]) == 3
    np.testing.assert_array_equal(some.frames(T, by), frames[:, [2, 0]])


@pytest.mark.parametrize("fields", [
    [("x", "<i8"), ("y", "<i8"), ("t", "<i8"), ("p", "<i8")], [("t", "<u4"), ("x", "u1"), ("y", "u1"), ("p", bool)],
    [("x", ">i2"), ("y", ">i2"), ("p", "u1"), ("t", "<u8")],
])  # fmt: skip
def test_fields_of_any_integer_type_in_any_order(fields):
    events = random_events(3)
    other = np.empty(len(events), fields)
    for name in "xytp":
        other[name] = events[name]
    np.testing.assert_array_equal(data.event_frames(other, 4, (5, 7)), data.event_frames(events, 4, (5, 7)))


def with_row(i, field, value):
    events = FIVE.copy()
    events[field][i] = value
    return events


@pytest.mark.parametrize(("events", "kind", "words"), [
    (with_row(2, "x", 3), ValueError, r"x in 0..2 \(3 pixels wide\), received 3 in event 2"),
    (with_row(2, "x", -1), ValueError, "x in 0..2 .* received -1 in event 2"),
    (with_row(4, "y", 2), ValueError, r"y in 0..1 \(2 pixels high\), received 2 in event 4"),
    (with_row(1, "p", -1), ValueError, r"p in 0..1 \(2 polarities\), received -1 in event 1"),
    (with_row(3, "t", 100), ValueError, "received 100 after 101 in event 3"),
    (with_row(4, "t", 100 + (1 << 32)), ValueError, "less than 4294967296 from .* received 4294967296"),
    (FIVE[:0], ValueError, "at least one event"),
    (FIVE[["x", "y", "t"]], TypeError, "fields x, y, t, p"),
    (FIVE.reshape(5, 1), TypeError, "fields x, y, t, p"),
    (np.zeros((2, 2, 3, 3)), TypeError, "not frames"),
    (FIVE.tolist(), TypeError, "received list"),
    (FIVE.astype([("x", "i4"), ("y", "i4"), ("t", "f8"), ("p", "i4")]), TypeError, "field t, received float64"),
    (FIVE.astype([("x", bool), ("y", "i4"), ("t", "i8"), ("p", "i4")]), TypeError, "field x, received bool"),
])  # fmt: skip
def test_bad_events_are_refused(events, kind, words):
    with pytest.raises(kind, match=f"events: expected .*{words}"):
        data.event_frames(events, 2, (2, 3))


@pytest.mark.parametrize(("arguments", "words"), [
    ((0, (2, 3)), "T: expected"), ((2, (2, 3, 2)), r"sensor: expected \(H, W\)"), ((2, 34), "sensor: expected"),
    ((2, (2, 0)), "sensor: expected"), ((2, (2, 3), "number"), "by: expected one of 'time', 'count'"),
])  # fmt: skip
def test_bad_arguments_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        data.event_frames(FIVE, *arguments)


def test_recordings_refuse_none_at_all_and_single_indices():
    with pytest.raises(ValueError, match="at least one recording"):
        data.Recordings([], (2, 3))
    with pytest.raises(TypeError, match="expected a slice or an array"):
        data.Recordings([FIVE], (2, 3))[0]
    with pytest.raises(ValueError, match="recording 1: expected x"):
        data.Recordings([FIVE, with_row(0, "x", 9)], (2, 3))


# --- a folder as published --------------------------------------------------------------------------------------------


def digit_events(label, seed):
    """A bar whose place tells the digit, moving by a pixel now and then."""
    rng = np.random.default_rng([label, seed])
    events = np.empty(120, FIELDS)
    events["x"] = 3 * label + rng.integers(0, 4, 120)
    events["y"], events["p"] = rng.integers(0, 34, 120), rng.integers(0, 2, 120)
    events["t"] = np.sort(rng.integers(0, 300_000, 120))
    return events


@pytest.fixture
def folder(tmp_path):
    for part, count in (("Train", 3), ("Test", 1)):
        for label in range(10):
            place = tmp_path / "N-MNIST" / part / str(label)
            place.mkdir(parents=True)
            for i in range(count):
                (place / f"{10 * i + label:05}.bin").write_bytes(packed(digit_events(label, i)))
            (place / ".DS_Store").write_bytes(b"no events")
            (place / "._00000.bin").write_bytes(b"\x00\x05\x16\x07")  # a Mac's shadow of a file
    return tmp_path / "N-MNIST"


def test_the_published_folder(folder):
    dataset = data.load(folder)
    assert isinstance(dataset, data.EventDataset) and dataset.name == "N-MNIST"
    assert dataset.image_shape == (34, 34, 2) and dataset.num_classes == 10 and dataset.class_names[7] == "7"
    assert dataset.y_train.tolist() == [label for label in range(10) for _ in range(3)]
    assert dataset.y_test.tolist() == list(range(10)) and len(dataset.x_train) == 30
    frames = dataset.x_train[np.array([7])].frames(5, "time")[:, 0]  # label 2, second file
    np.testing.assert_array_equal(frames, data.event_frames(digit_events(2, 1), 5, (34, 34)))


def test_the_fingerprint_sees_every_event_and_label(folder):
    before = data.load(folder).fingerprint()
    assert before == data.load(folder).fingerprint()
    path = folder / "Test" / "3" / "00003.bin"
    content = bytearray(path.read_bytes())
    content[2] ^= 0x80  # one polarity
    path.write_bytes(content)
    changed = data.load(folder).fingerprint()
    path.rename(folder / "Test" / "4" / "00003.bin")
    (folder / "Test" / "4" / "00004.bin").rename(path)
    assert len({before, changed, data.load(folder).fingerprint()}) == 3


def test_a_damaged_file_or_a_missing_class_in_the_folder_is_named(folder):
    path = folder / "Train" / "6" / "00016.bin"
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(ValueError, match=f"{path}: .* left over"):
        data.load(folder)
    path.write_bytes(bytes([0, 99, 0, 0, 0]))
    with pytest.raises(ValueError, match=f"{path}: expected y in 0..33"):
        data.load(folder)
    path.unlink()
    (folder / "Test" / "8" / "00008.bin").unlink()
    with pytest.raises(ValueError, match=f"{folder / 'Test' / '8'}: expected a folder with .bin files, .*Test.zip"):
        data.load(folder)


def test_event_datasets_refuse_parts_that_disagree():
    one, other = data.Recordings([FIVE], (2, 3)), data.Recordings([FIVE], (3, 3))
    with pytest.raises(ValueError, match=r"sensor \(2, 3\) like x_train, received \(3, 3\)"):
        data.EventDataset("a", one, [0], other, [1], 2)
    with pytest.raises(ValueError, match="labels: expected values 0..1, received 2"):
        data.EventDataset("a", one, [2], one, [1], 2)
    with pytest.raises(TypeError, match="x_test: expected Recordings, received list"):
        data.EventDataset("a", one, [0], [FIVE], [1], 2)


# --- tonic ------------------------------------------------------------------------------------------------------------


class TonicLike:
    """What tonic's data sets have: a length, pairs of events and label, sensor_size (W, H, polarities), classes."""

    sensor_size = (7, 5, 2)
    classes = ["left", "right", "none"]

    def __init__(self, seeds):
        self.seeds = seeds

    def __len__(self):
        return len(self.seeds)

    def __getitem__(self, i):
        return random_events(self.seeds[i]), np.int64(self.seeds[i] % 3)


def test_a_tonic_data_set_becomes_frames():
    dataset = data.from_tonic(TonicLike([5, 6, 7]), TonicLike([8]))
    assert (
        dataset.image_shape == (5, 7, 2)
        and dataset.num_classes == 3
        and dataset.class_names == ("left", "right", "none")
    )
    assert dataset.y_train.tolist() == [2, 0, 1] and dataset.y_test.tolist() == [2]
    np.testing.assert_array_equal(dataset.x_train.frames(4)[:, 1], data.event_frames(random_events(6), 4, (5, 7)))


def test_plain_lists_of_pairs_need_a_sensor():
    pairs = [(random_events(0), 0), (random_events(1), 4)]
    dataset = data.from_tonic(pairs, pairs[:1], sensor=(5, 7))
    assert dataset.num_classes == 5 and dataset.class_names is None
    assert data.from_tonic(pairs, pairs, (5, 7), num_classes=9).num_classes == 9
    with pytest.raises(ValueError, match="sensor: expected .* received None"):
        data.from_tonic(pairs, pairs)


@pytest.mark.parametrize(("item", "words"), [
    ((np.zeros((2, 2, 5, 7)), 0), r"test\[1\]: expected a structured array"),
    (random_events(0), r"test\[1\]: expected \(events"),
    ((random_events(0), 1.5), r"label of test\[1\]: expected an integer"),
])  # fmt: skip
def test_items_that_are_no_events_with_a_label_are_named(item, words):
    good = (random_events(0), 0)
    with pytest.raises(TypeError, match=words):
        data.from_tonic([good], [good, item], sensor=(5, 7))


# --- training ---------------------------------------------------------------------------------------------------------


def test_a_folder_of_events_trains_and_resumes_to_the_same_bits(folder, tmp_path):
    config = train.TrainConfig(data=str(folder), channels=(4,), T=3, epochs=2, batch=12, lr=0.05, dtype="float64")
    whole = train.Trainer(config, tmp_path / "whole").fit(progress=False)
    short = train.Trainer(config, tmp_path / "cut")
    original, done = short.step, []

    def stopping(images, labels, rng):
        if len(done) == 4:
            short.save()
            raise KeyboardInterrupt
        done.append(len(labels))
        return original(images, labels, rng)

    short.step = stopping
    with pytest.raises(KeyboardInterrupt):
        short.fit(progress=False)
    resumed = train.open_run(tmp_path / "cut").fit(progress=False)
    for name, array in whole.net.parameters().items():
        assert resumed.net.parameters()[name].tobytes() == array.tobytes(), name
    trace = whole.trace()
    assert trace.x.shape == (3, 10, 34, 34, 2) and trace.x.sum() == 10 * 120
    assert 0 < trace["conv1"].s.mean() < 1
    rows = whole.metrics()
    assert rows[1]["train_loss"] < rows[0]["train_loss"]
    other = train.Trainer(dataclasses.replace(config, binning="count"), tmp_path / "count")
    assert (other.encode(other.dataset.x_test, None).sum((1, 2, 3, 4)) == 400).all()
    assert not (trace.x.sum((1, 2, 3, 4)) == 400).all()


def test_the_command_trains_on_the_folder(folder, tmp_path, capsys, undrawn):
    argv = [
        "train",
        "--data",
        str(folder),
        "--channels",
        "3",
        "--T",
        "2",
        "--epochs",
        "1",
        "--binning",
        "count",
        "--json",
    ]
    assert cli.main([*argv, "--out", str(tmp_path / "run")]) == 0
    assert set(json.loads(capsys.readouterr().out)["layers"]) == {"conv1"}
    (folder / "Train" / "0" / "00000.bin").write_bytes(b"123")
    assert cli.main([*argv, "--out", str(tmp_path / "other")]) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "00000.bin: expected records of 5 bytes" in error


@pytest.mark.parametrize("change", [{"encoding": "rate"}, {"augment": "crop-flip"}, {"normalise": "cifar10"}])
def test_options_for_images_are_refused_with_events(change, tmp_path):
    recordings = data.Recordings([random_events(0, sensor=(5, 5))], (5, 5))
    dataset = data.EventDataset("events", recordings, [0], recordings, [1], 2)
    with pytest.raises(ValueError, match=f"{next(iter(change))}: expected .* with event recordings"):
        train.Trainer(train.TrainConfig(**change), tmp_path / "run", dataset)


def test_small_places_are_kept_small():
    kept = data.Recordings([random_events(0, 50, (34, 34))], NMNIST_SENSOR)
    assert kept._cells[0].dtype == np.uint16 and kept._times[0].dtype == np.uint32


NARROW = {
    "int16": (np.int16, np.uint64, np.int8),
    "int8": (np.int8, np.int8, bool),
    "uint64": (np.uint64, np.uint8, np.uint16),
}


@pytest.mark.parametrize("kind", NARROW)
def test_narrow_and_unsigned_fields_do_not_overflow(kind):
    """Differences of times, and y W + x, do not fit the fields' own types; the same numbers as int64 are the right ones."""
    t, y, p = NARROW[kind]
    low, high = (2**64 - 2**31, 2**64 - 1) if kind == "uint64" else (np.iinfo(t).min, np.iinfo(t).max)
    span = int(high) - int(low)
    times = [int(low) + share for share in (0, span // 4 + 1, span // 2 + 1, span)]
    rows = list(zip([100, 0, 3, 1], [100, 2, 0, 1], times, [1, 0, 1, 1], strict=True))
    events = np.array(rows, [("x", np.int16), ("y", y), ("t", t), ("p", p)])
    wide = np.array([(x, y, t - times[0], p) for x, y, t, p in rows], [(name, np.int64) for name in "xytp"])
    frames = data.event_frames(events, T=4, sensor=(101, 101))
    assert frames.sum(axis=(1, 2, 3)).tolist() == [1, 1, 1, 1] and frames[0, 100, 100, 1] == 1
    np.testing.assert_array_equal(frames, data.event_frames(wide, T=4, sensor=(101, 101)))


def test_polarities_of_minus_one_get_the_advice_that_helps():
    events = np.array([(0, 0, 1, -1), (0, 0, 2, 1)], [(name, np.int64) for name in "xytp"])
    with pytest.raises(ValueError, match=r"event 0; map them: events\['p'\] = events\['p'\] > 0"):
        data.event_frames(events, T=1, sensor=(1, 1))
    events["p"] = events["p"] > 0
    assert data.event_frames(events, T=1, sensor=(1, 1))[0, 0, 0].tolist() == [1, 1]
