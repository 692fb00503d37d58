"""Files of spikes and events: Heidelberg's SHD and SSC (HDF5), and folders of npz as SpikingJelly writes them.

SHD and SSC are spoken words as the spikes of 700 units of a model of the inner ear, one channel; Cramer, Stradmann, Schemmel,
Zenke, "The Heidelberg Spiking Data Sets for the Systematic Evaluation of Spiking Neural Networks", IEEE TNNLS 33, 2022.
SpikingJelly unpacks DVS128 Gesture and CIFAR10-DVS into a folder `events_np` with a folder for each class, and in it an npz
for each recording with the arrays t, x, y and p.
"""

import numpy as np

from agl_ref import files, validate

from .events import EventDataset, Recordings
from .formats import every_sixth_of_each_class

UNITS = 700
MICROSECONDS = 1e6  # the files have seconds
DVS_SENSOR = (128, 128)
PARTS = ("train", "test")
SPIKES = np.dtype([("x", np.int64), ("y", np.int64), ("t", np.int64)])


# --- SHD and SSC ------------------------------------------------------------------------------------------------------


def find_heidelberg(folder):
    """The paths of the training and the test file in `folder`, or None."""
    for name in ("shd", "ssc"):
        paths = [folder / f"{name}_{part}.h5" for part in PARTS]
        if all(path.is_file() for path in paths):
            return paths
    return None


def load_heidelberg(folder):
    """SHD or SSC: a folder with shd_train.h5 and shd_test.h5, or ssc_train.h5 and ssc_test.h5 (ssc_valid.h5 is left alone).

    Each file has `spikes/times` (seconds) and `spikes/units`, ragged, `labels`, and `extra/keys`, the classes' names. Times
    become whole microseconds, rounded; spikes are sorted by time. One clock for all recordings: frames by time divide what
    lies between 0 and the last spike of all of them. Needs the package h5py.

    Returns
    -------
    EventDataset
        Recordings of a sensor (1, 700), one channel.

    Raises
    ------
    ImportError
        Without h5py.
    ValueError
        The files are missing, damaged or of other contents: one line that names the file.
    """
    folder = validate.path("folder", folder)
    paths = find_heidelberg(folder)
    if paths is None:
        raise ValueError(
            f"{folder}: expected shd_train.h5 and shd_test.h5, or the same of ssc, received neither; unpack them here"
        )
    parts, names = zip(*map(_read_heidelberg, paths), strict=True)
    if names[0] != names[1]:
        raise ValueError(f"{paths[1]}: expected the classes of {paths[0].name}, received others; use one data set")
    duration = 1 + max(int(events["t"][-1]) for events, _ in parts for events in events)
    made = []
    for path, (events, labels) in zip(paths, parts, strict=True):
        called = [f"{path}: recording {i}" for i in range(len(events))]
        made += [Recordings(events, (1, UNITS), called, channels=1, duration=duration), labels]
    return EventDataset(paths[0].name.partition("_")[0], *made, len(names[0]), names[0])


def _read_heidelberg(path):
    """((structured arrays, labels), names of the classes) of one file."""
    try:
        import h5py  # an optional package
    except ImportError:
        raise ImportError(
            f"{path}: expected the package h5py to read HDF5, received none; pip install 'agl-ref[hdf5]'"
        ) from None
    with files.one_line_errors(path):
        try:
            with h5py.File(path, "r") as file:
                times, units = file["spikes/times"][:], file["spikes/units"][:]
                labels, keys = np.asarray(file["labels"][:]), file["extra/keys"][:]
        except (KeyError, OSError, TypeError, AttributeError, RuntimeError) as error:
            raise ValueError(
                f"{path}: expected spikes/times, spikes/units, labels and extra/keys, received: "
                f"{' '.join(str(error).split())[:120]}; fetch it again"
            ) from None
        names = tuple(key.decode("utf-8", "replace") if isinstance(key, bytes) else str(key) for key in keys)
        if not len(times) == len(units) == len(labels) > 0:
            raise ValueError(
                f"{path}: expected as many recordings as labels, received {len(times)}, {len(units)} and {len(labels)}; "
                "fetch it again"
            )
        events = [_spikes(f"{path}: recording {i}", *pair) for i, pair in enumerate(zip(times, units, strict=True))]
        return (events, validate.labels(labels, len(events), len(names))), names


def _spikes(name, times, units):
    if np.shape(times) != np.shape(units) or np.ndim(times) != 1 or not len(times):
        raise ValueError(
            f"{name}: expected as many times as units, and some, received {np.shape(times)} and {np.shape(units)}; fetch it "
            "again"
        )
    times = np.asarray(times, np.float64)  # the files have float16, which overflows in microseconds
    if not (np.isfinite(times).all() and times.min() >= 0):
        raise ValueError(f"{name}: expected times in seconds from 0, received others; fetch it again")
    order = np.argsort(times, kind="stable")
    events = np.zeros(len(times), SPIKES)
    events["x"], events["t"] = np.asarray(units)[order], np.rint(times[order] * MICROSECONDS)
    return events


# --- SpikingJelly's npz -----------------------------------------------------------------------------------------------


def find_events_np(folder):
    """The folder itself, or its `events_np`, if it has folders of npz for two classes or more, or `train` and `test` have."""
    for root in (folder, folder / "events_np"):
        if len(_classes(root)) > 1 or all(_classes(root / part) for part in PARTS):
            return root
    return None


def _classes(folder):
    """Folders in `folder` that hold npz, in the order of their numbers, or of their names."""
    found = [
        path for path in (folder.iterdir() if folder.is_dir() else ()) if path.is_dir() and any(path.glob("*.npz"))
    ]
    return sorted(found, key=lambda path: (int(path.name) if path.name.isdecimal() else -1, path.name))


def load_events_np(folder, sensor=DVS_SENSOR):
    """DVS128 Gesture or CIFAR10-DVS as SpikingJelly unpacks them: the folder `events_np`, or the one that holds it.

    With folders `train` and `test` (DVS128 Gesture) they are what they say; else (CIFAR10-DVS) every sixth recording of each
    class, in the order of the files' names, is for testing. Each npz has arrays t, x, y and p of one length.

    Returns
    -------
    EventDataset

    Raises
    ------
    ValueError
        One line that names the file or folder.
    """
    folder = validate.path("folder", folder)
    root = find_events_np(folder)
    if root is None:
        raise ValueError(
            f"{folder}: expected folders of npz for each class, received none; give SpikingJelly's events_np"
        )
    split = len(_classes(root)) < 2
    roots = [root / part for part in PARTS] if split else [root]
    names = tuple(path.name for path in _classes(roots[0]))
    made = []
    for each in roots:
        classes = _classes(each)
        if tuple(path.name for path in classes) != names:
            raise ValueError(f"{each}: expected the classes of {roots[0]}, received others; unpack it again")
        paths = [path for folder in classes for path in sorted(folder.glob("*.npz"))]
        labels = np.array([names.index(path.parent.name) for path in paths])
        made += [Recordings(map(_read_npz, paths), sensor, list(map(str, paths))), labels]
    if not split:
        test = every_sixth_of_each_class(root, made[1], "recordings")
        made = [made[0][np.flatnonzero(~test)], made[1][~test], made[0][np.flatnonzero(test)], made[1][test]]
    name = (root.parent if root.name == "events_np" else root).resolve().name
    return EventDataset(name, *made, len(names), names)


def _read_npz(path):
    """The structured events of one npz."""
    arrays = files.read_npz(path, choose=lambda names: [key for key in "xytp" if key in names])
    lengths = {key: array.shape for key, array in arrays.items()}
    if set(arrays) != set("xytp") or len(set(lengths.values())) > 1 or arrays["t"].ndim != 1:
        raise ValueError(f"{path}: expected arrays t, x, y and p of one length, received {lengths}; unpack it again")
    events = np.empty(len(arrays["t"]), [(key, array.dtype) for key, array in arrays.items()])
    for key, array in arrays.items():
        events[key] = array
    return events
