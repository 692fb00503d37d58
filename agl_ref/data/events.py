"""Recordings of event cameras: checked, kept compactly, binned into frames (T, N, H, W, 2); N-MNIST's files.

An event says that the brightness of pixel (x, y) rose (p = 1) or fell (p = 0) at the time t. Here events are structured
arrays with the fields x, y, t and p, one row per event in the order of time, as the package tonic has them too. Frames
hold counts, channel 0 those of falling and channel 1 those of rising brightness. Spikes of units in a row are events without
p, on a sensor (1, units) of one channel.
"""

import hashlib
import math
from collections.abc import Mapping, Set
from dataclasses import replace

import numpy as np

from agl_ref import validate

from .dataset import Dataset
from .formats import read_records

BINNINGS = ("time", "count")
EVENT_DTYPE = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.uint8)])
NMNIST_SENSOR = (34, 34)
NMNIST_BYTES = 5  # of one event
MAX_SPAN = 1 << 32  # between a recording's first and last event, exclusive; 71 minutes in microseconds


# --- checks -----------------------------------------------------------------------------------------------------------


def _check_sensor(sensor):
    if not isinstance(sensor, (tuple, list)) or len(sensor) != 2:
        raise ValueError(f"sensor: expected (H, W), received {sensor!r}; tonic's sensor_size is (W, H, polarities)")
    return tuple(validate.integer("sensor", size) for size in sensor)


def _check_events(name, events, sensor, channels=2):
    """Refuse `events` unless they are structured, some, on the sensor, of two polarities and in the order of time."""
    fields = getattr(getattr(events, "dtype", None), "names", None) or ()
    needed = "xytp"[: 2 + channels]
    if not set(needed) <= set(fields) or events.ndim != 1:
        received = f"{events.dtype} {events.shape}" if isinstance(events, np.ndarray) else type(events).__name__
        raise TypeError(
            f"{name}: expected a structured array (E,) with the fields {', '.join(needed)}, received {received}; give the "
            "events as they were recorded, not frames"
        )
    kinds = {field: events.dtype[field] for field in needed}
    wrong = {field: dtype for field, dtype in kinds.items() if dtype.kind not in ("iub" if field == "p" else "iu")}
    if wrong:
        field, dtype = next(iter(wrong.items()))
        raise TypeError(f"{name}: expected integers in the field {field}, received {dtype}; convert it yourself")
    if not len(events):
        raise ValueError(f"{name}: expected at least one event, received none; leave the recording out")
    height, width = sensor
    for field, size, what in (("x", width, "wide"), ("y", height, "high"), ("p", 2, "polarities"))[: 1 + channels]:
        bad = np.flatnonzero((events[field] < 0) | (events[field] >= size))
        if len(bad):
            unit = what if field == "p" else f"pixels {what}"
            signs = field == "p" and set(np.unique(events["p"])) <= {-1, 1}
            fix = "map them: events['p'] = events['p'] > 0" if signs else "it is damaged or of another sensor"
            raise ValueError(
                f"{name}: expected {field} in 0..{size - 1} ({size} {unit}), received {int(events[field][bad[0]])} in "
                f"event {bad[0]}; {fix}"
            )
    t = events["t"]
    late = np.flatnonzero(t[1:] < t[:-1])
    if len(late):
        i = int(late[0]) + 1
        raise ValueError(
            f"{name}: expected times that do not decrease, received {t[i]} after {t[i - 1]} in event {i}; it is damaged, "
            "or sort it"
        )
    if int(t[-1]) - int(t[0]) >= MAX_SPAN:
        raise ValueError(
            f"{name}: expected less than {MAX_SPAN} from the first to the last time, received {int(t[-1]) - int(t[0])}; "
            "cut the recording or use a coarser unit"
        )


# --- recordings and frames --------------------------------------------------------------------------------------------


class Recordings:
    """A sequence of recordings of one sensor; `recordings[index]` with an array or a slice is a shorter one.

    Parameters
    ----------
    events : sequence of structured arrays
        Fields x, y, t, p, see `agl_ref.data.event_frames`.
    sensor : (H, W)
    names : sequence of str, optional
        What errors call each recording.
    channels : {2, 1}
        One channel for each polarity, or a single one for all events, whose p is then not asked for.
    duration : int, optional
        One clock for all recordings: their times count from 0 and are less than this. By default each has its own, which
        starts with its first event and ends with its last.

    Raises
    ------
    TypeError, ValueError
        For the first recording that is not as it should be, by name.
    """

    def __init__(self, events, sensor, names=None, channels=2, duration=None):
        if names is not None:
            validate.sequence("names", names, kind=str)
        self.sensor, self.channels = _check_sensor(sensor), validate.integer("channels", channels, high=2)
        self.duration = None if duration is None else validate.integer("duration", duration, high=MAX_SPAN)
        cells, times = [], []
        for i, each in enumerate(validate.iterator("events", events)):
            name = names[i] if names and i < len(names) else f"recording {i}"
            _check_events(name, each, self.sensor, channels)
            x, y, t = (each[field].astype(np.int64) for field in "xyt")  # a narrow type would overflow
            cell = (y * self.sensor[1] + x) * channels + (each["p"].astype(np.int64) if channels == 2 else 0)
            cells.append(cell.astype(np.min_scalar_type(self._size - 1)))
            if duration is not None and not (0 <= t[0] and t[-1] < duration):
                raise ValueError(
                    f"{name}: expected times in 0..{duration - 1}, received {t[0]} to {t[-1]}; give a longer duration, or "
                    "none"
                )
            times.append((t if duration is not None else t - t[0]).astype(np.uint32))
        if not cells:
            raise ValueError("recordings: expected at least one recording, received none; pass some")
        self._cells, self._times = cells, times

    def __len__(self):
        return len(self._cells)

    @property
    def shape(self):
        """(H, W, C) of one frame."""
        return (*self.sensor, self.channels)

    @property
    def _size(self):
        return math.prod(self.shape)

    def __getitem__(self, index):
        """Those recordings, by a slice or an integer array."""
        chosen = np.arange(len(self))[index]
        if chosen.ndim != 1:
            raise TypeError(f"index: expected a slice or an array of indices, received {index!r}; use [i : i + 1]")
        part = object.__new__(Recordings)
        part.sensor, part.channels, part.duration = self.sensor, self.channels, self.duration
        part._cells, part._times = ([kept[i] for i in chosen] for kept in (self._cells, self._times))
        return part

    def frames(self, T, by="time", dtype=np.float64):
        """The events of each recording counted in T frames.

        With E events at times t_0 <= ... <= t_{E-1} and D = t_{E-1} - t_0 + 1, event i is in frame

            by "time"    floor((t_i - t_0) T / D)    frames of equal duration
            by "count"   floor(i T / E)              frames of equally many events (but for one)

        computed in integers, so that every event is in exactly one frame. With one clock for all recordings D is its
        duration, and t_i stands for t_i - t_0.

        Parameters
        ----------
        T : int, >= 1
        by : {"time", "count"}
        dtype : float32 or float64

        Returns
        -------
        ndarray, (T, N, H, W, C)
        """
        T, dtype = validate.integer("T", T), validate.float_dtype(dtype)
        validate.one_of("by", by, BINNINGS)
        out = np.empty((T, len(self), *self.shape), dtype)
        for n, (cell, time) in enumerate(zip(self._cells, self._times, strict=True)):
            if by == "time":
                frame = time.astype(np.int64) * T // (self.duration or int(time[-1]) + 1)
            else:
                frame = np.arange(len(cell)) * T // len(cell)
            counts = np.bincount(frame * self._size + cell, minlength=T * self._size)
            out[:, n] = counts.reshape(T, *self.shape)
        return out

    def resized(self, size):
        """The same events on a smaller sensor (h, w): the event at (x, y) is at (floor(x w / W), floor(y h / H)).

        So frames are the sums over the pixels that fall into one, and no event is lost. Raises ValueError for a size that is
        larger than the sensor, some of whose pixels would then get no event at all.
        """
        (H, W), (h, w) = self.sensor, _check_sensor(size)
        if h > H or w > W:
            raise ValueError(f"size: expected at most the sensor's {H} x {W}, received {h} x {w}; leave it out")
        part = self[:]
        part.sensor = (h, w)
        y, x, p = np.unravel_index(np.arange(self._size), self.shape)
        table = (((y * h // H) * w + x * w // W) * self.channels + p).astype(np.min_scalar_type(part._size - 1))
        part._cells = [table[cell] for cell in self._cells]
        return part

    def sizes(self):
        """How many events each recording has, and the time from its first to its last: two integer arrays (N,)."""
        return np.array([len(cell) for cell in self._cells]), np.array(
            [int(time[-1] - time[0]) for time in self._times]
        )

    def update(self, digest):
        """Feed all recordings to a hashlib object, little-endian."""
        clock = "" if (self.channels, self.duration) == (2, None) else f" {self.channels} {self.duration}"
        digest.update(f"{self.sensor} {len(self)}{clock}\n".encode())
        for cell, time in zip(self._cells, self._times, strict=True):
            digest.update(f"{len(cell)}\n".encode())
            digest.update(cell.astype("<u4").tobytes() + time.astype("<u4").tobytes())


def event_frames(events, T, sensor, by="time", dtype=np.float64):
    """One recording as the counts of T frames; `Recordings.frames` has the formula.

    Parameters
    ----------
    events : structured ndarray, (E,), fields x, y, t, p
        Integers; p may be bool. x in 0..W-1, y in 0..H-1, p 0 (darker) or 1 (brighter), t not decreasing, in any unit.
    T : int, >= 1
    sensor : (H, W)
        Pixels. tonic's `sensor_size` is (W, H, polarities).
    by : {"time", "count"}
        Frames of equal duration, or of equally many events.
    dtype : float32 or float64

    Returns
    -------
    ndarray, (T, H, W, 2)

    Raises
    ------
    TypeError, ValueError
        Other fields, an event outside the sensor, decreasing times, no event, or T < 1.

    Examples
    --------
    >>> import numpy as np
    >>> rows = [(0, 0, 10, 1), (1, 0, 12, 0), (1, 0, 13, 0)]  # x, y, t, p
    >>> events = np.array(rows, [("x", int), ("y", int), ("t", int), ("p", int)])
    >>> event_frames(events, T=2, sensor=(1, 2))[:, 0].tolist()  # by t: two frames of two ticks
    [[[0.0, 1.0], [0.0, 0.0]], [[0.0, 0.0], [2.0, 0.0]]]
    """
    return Recordings([events], sensor, ["events"]).frames(T, by, dtype)[:, 0]


class EventDataset(Dataset):
    """Training and test recordings of one classification task: a `Dataset` whose x_train and x_test are `Recordings`."""

    @staticmethod
    def _checked(name, x):
        return validate.instance(name, x, Recordings, "use Recordings(events, sensor)")

    def _require_alike(self):
        for name in ("sensor", "channels", "duration"):
            train, test = getattr(self.x_train, name), getattr(self.x_test, name)
            if train != test:
                raise ValueError(
                    f"x_test: expected recordings of a {name} {train} like x_train, received {test}; use one {name}"
                )

    @property
    def image_shape(self):
        """(H, W, C) of one frame."""
        return self.x_train.shape

    def resized(self, size):
        """The same with `Recordings.resized` recordings."""
        return replace(self, x_train=self.x_train.resized(size), x_test=self.x_test.resized(size))

    def fingerprint(self):
        """SHA-256 (hex) of all events and labels."""
        digest = hashlib.sha256()
        for x, y in ((self.x_train, self.y_train), (self.x_test, self.y_test)):
            x.update(digest)
            digest.update(y.astype("<i8").tobytes())
        return digest.hexdigest()


# --- N-MNIST and tonic ------------------------------------------------------------------------------------------------


def read_nmnist(path):
    """One recording of N-MNIST: a structured array (E,) with the fields x, y, t (microseconds) and p.

    Five bytes per event, most significant first: 8 bits x, 8 bits y, 1 bit p (1: brighter), 23 bits t. Source: Orchard,
    Jayawant, Cohen, Thakor, "Converting static image datasets to spiking neuromorphic datasets using saccades", Frontiers
    in Neuroscience 9:437, 2015; https://www.garrickorchard.com/datasets/n-mnist.

    Raises
    ------
    ValueError
        Empty, truncated, coordinates outside 34 x 34, decreasing times: one line that names the file.
    """
    path = validate.path("path", path)
    events = _nmnist_events(path)
    _check_events(str(path), events, NMNIST_SENSOR)
    return events


def _nmnist_events(path):
    raw = read_records(path, NMNIST_BYTES)
    events = np.empty(len(raw), EVENT_DTYPE)
    events["x"], events["y"], events["p"] = raw[:, 0], raw[:, 1], raw[:, 2] >> 7
    high, middle, low = raw[:, 2:].astype(np.int64).T
    events["t"] = (high & 0x7F) << 16 | middle << 8 | low
    return events


def is_nmnist(folder):
    """Whether `folder` looks like N-MNIST unpacked."""
    return (folder / "Train").is_dir() and (folder / "Test").is_dir()


def load_nmnist(folder):
    """N-MNIST as published: folder/Train/0 to 9 and folder/Test/0 to 9 with a .bin file for each recording.

    All recordings are read and checked, each class in the order of the files' names. Returns an `EventDataset`; raises
    ValueError naming the file or folder that is missing or damaged.
    """
    folder, parts = validate.path("folder", folder), []
    for part in ("Train", "Test"):
        paths, labels = [], []
        for label in range(10):
            found = sorted(
                path for path in (folder / part / str(label)).glob("*.bin") if path.name[:2] != "._"
            )  # a Mac's
            if not found:
                raise ValueError(
                    f"{folder / part / str(label)}: expected a folder with .bin files, received none; unpack N-MNIST's "
                    f"{part}.zip here"
                )
            paths += found
            labels += [label] * len(found)
        events = (_nmnist_events(path) for path in paths)
        parts += [Recordings(events, NMNIST_SENSOR, list(map(str, paths))), np.array(labels)]
    return EventDataset(folder.resolve().name, *parts, 10, tuple("0123456789"))


def from_tonic(train, test, sensor=None, num_classes=None):
    """An `EventDataset` from two data sets of the package tonic, or from any sequences of (events, label).

    Parameters
    ----------
    train, test : sequence of (structured ndarray, int)
        Such as `tonic.datasets.NMNIST(save_to=..., train=True)`, without a transform. All recordings are read into memory.
    sensor : (H, W), optional
        By default from `train.sensor_size`, which is (W, H, polarities).
    num_classes : int, optional
        By default the length of `train.classes`, or the largest training label + 1 where there is none.

    Raises
    ------
    TypeError, ValueError
        No sensor, items that are no pairs of events and label, or events as `event_frames` refuses them, by their index.
    """
    if sensor is None:
        size = getattr(train, "sensor_size", None)
        if size is None or len(size) not in (2, 3):
            raise ValueError(f"sensor: expected (H, W) or train.sensor_size = (W, H, 2), received {size}; pass sensor")
        sensor = (int(size[1]), int(size[0]))
    parts = []
    for part, pairs in (("train", train), ("test", test)):
        if not hasattr(pairs, "__len__") or isinstance(pairs, (Mapping, Set, np.ndarray)):
            raise TypeError(f"{part}: expected a sequence of pairs, received {type(pairs).__name__}; pass a list")
        names, labels = [f"{part}[{i}]" for i in range(len(pairs))], []
        parts += [Recordings(_split_pairs(pairs, names, labels), sensor, names), np.array(labels)]
    classes = getattr(train, "classes", None)
    if num_classes is None:
        num_classes = max(2, int(parts[1].max()) + 1) if classes is None else len(classes)
    names = tuple(map(str, classes)) if classes is not None and len(classes) == num_classes else None
    return EventDataset(type(train).__name__.lower(), *parts, num_classes, names)


def _split_pairs(pairs, names, labels):
    """The events of each pair; its label is appended to `labels`. One recording is in memory at a time."""
    for i, name in enumerate(names):
        item = pairs[i]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise TypeError(f"{name}: expected (events, label), received {type(item).__name__}; pass pairs")
        labels.append(validate.integer(f"label of {name}", item[1], low=0))
        yield item[0]
