"""Readers of image files: IDX (MNIST), CIFAR-10 (binary and "python") and npz, each checked to the last byte.

Nothing here trusts a file: sizes are compared with what the file declares before they are used, gzip streams
are read no further than the declared size, and pickles are never executed. Every failure is a ValueError of one line that
names the file, what was expected and what came.
"""

import contextlib
import gzip
import io
import math

import numpy as np

from agl_ref import files, validate

from .encoders import check_images
from .unpickle import read_pickled_dict

IDX_MAGIC = {1: 0x00000801, 3: 0x00000803}  # unsigned bytes, 1 and 3 axes
IDX_FILES = {
    "x_train": "train-images-idx3-ubyte",
    "y_train": "train-labels-idx1-ubyte",
    "x_test": "t10k-images-idx3-ubyte",
    "y_test": "t10k-labels-idx1-ubyte",
}
CIFAR_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
CIFAR_FILES = (*CIFAR_TRAIN, "test_batch")
CIFAR_SHAPE = (32, 32, 3)
CIFAR_RECORD = 1 + math.prod(CIFAR_SHAPE)  # one label byte, then 1024 red, 1024 green and 1024 blue pixels
TEST_EVERY = 6


def checked(path, check, *arguments):
    """What a check returns, or a data set's class; its error names the file."""
    try:
        return check(*arguments)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from None


def read_records(path, size):
    """A file of records of `size` bytes each, at least one, as a uint8 array (N, size)."""
    data = files.read_bytes(path)
    if not data or len(data) % size:
        raise ValueError(
            f"{path}: expected records of {size} bytes, received {len(data)} bytes, {len(data) % size} left over; "
            "fetch it again"
        )
    return np.frombuffer(data, np.uint8).reshape(-1, size)


# ---- IDX ---------------------------------------------------------------------------------------------------


def read_idx(path, num_axes):
    """One IDX file, plain or gzip (its content says which), as a uint8 array of `num_axes` axes (1 or 3).

    Format: http://yann.lecun.com/exdb/mnist: big-endian uint32 magic number and sizes, then the bytes.
    """
    raw = files.read_bytes(path)
    plain = io.BytesIO(raw)
    with files.one_line_errors(path):
        with gzip.GzipFile(fileobj=plain) if raw[:2] == b"\x1f\x8b" else contextlib.nullcontext(plain) as stream:
            header = np.frombuffer(stream.read(4 + 4 * num_axes), np.uint8)
            if len(header) < 4 + 4 * num_axes:
                raise ValueError(
                    f"{path}: expected a header of {4 + 4 * num_axes} bytes, received {len(header)}; "
                    "the file is truncated, fetch it again"
                )
            magic, *shape = (int(number) for number in header.view(">u4"))
            if magic != IDX_MAGIC[num_axes]:
                raise ValueError(
                    f"{path}: expected the magic number 0x{IDX_MAGIC[num_axes]:08x}, received "
                    f"0x{magic:08x}; give an IDX file of bytes with {num_axes} axes"
                )
            size = math.prod(shape)
            if not 0 < size <= files.MAX_BYTES:
                raise ValueError(
                    f"{path}: expected 1..{files.MAX_BYTES} bytes of data, the header declares sizes "
                    f"{tuple(shape)}; fetch it again"
                )
            data = stream.read(size + 1)  # one more than declared: finds trailing bytes, unpacks no gzip bomb
    if len(data) != size:
        received = f"only {len(data)}: it is truncated" if len(data) < size else "more than that"
        raise ValueError(f"{path}: expected {size} bytes for sizes {tuple(shape)}, received {received}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def find_idx(folder):
    """Paths of the four IDX files in `folder`, {key: Path}, with the keys that are there; .gz or plain."""
    found = {}
    for key, name in IDX_FILES.items():
        dotted = name.replace("-idx", ".idx")  # some archives unpack to this spelling
        candidates = [folder / (spelling + end) for spelling in (name, dotted) for end in ("", ".gz")]
        present = [path for path in candidates if path.is_file()]
        if present:
            found[key] = present[0]
    return found


def read_idx_folder(folder, num_classes):
    """x_train, y_train, x_test, y_test of a folder of IDX files; images (N, H, W, 1)."""
    found = find_idx(folder)
    missing = [name for key, name in IDX_FILES.items() if key not in found]
    if missing:
        raise ValueError(f"{folder}: expected the four IDX files, received none named {missing[0]}[.gz]; add it")
    arrays = []
    for part in ("train", "test"):
        images, label_path = read_idx(found[f"x_{part}"], 3), found[f"y_{part}"]
        y = checked(label_path, validate.labels, read_idx(label_path, 1), len(images), num_classes)
        arrays += [images[..., np.newaxis], y]
    return arrays


# ---- CIFAR-10 ----------------------------------------------------------------------------------------------


def find_cifar10(folder):
    """(folder, suffix ".bin" or "") where `folder` or its usual subfolder holds batches; else None."""
    for each in (folder, folder / "cifar-10-batches-bin", folder / "cifar-10-batches-py"):
        for suffix in (".bin", ""):
            if any((each / (name + suffix)).is_file() for name in CIFAR_FILES):
                return each, suffix
    return None


def _images_from_planes(rows):
    """(N, 3072) in planes red, green, blue, each row by row -> (N, 32, 32, 3)."""
    height, width, channels = CIFAR_SHAPE
    return np.ascontiguousarray(rows.reshape(-1, channels, height, width).transpose(0, 2, 3, 1))


def read_cifar10_binary(path):
    """One "binary version" file, records of label and 3072 pixels -> images (N, 32, 32, 3), labels."""
    records = read_records(path, CIFAR_RECORD)
    return _images_from_planes(records[:, 1:]), checked(path, validate.labels, records[:, 0], len(records), 10)


def read_cifar10_python(path):
    """One "python version" file, a pickled dict of data and labels -> images (N, 32, 32, 3), labels."""
    data = files.read_bytes(path)
    try:
        batch = read_pickled_dict(data)
    except ValueError as error:
        raise ValueError(f"{path}: not a CIFAR-10 batch: {error}; get the file from its official site") from None
    rows, y = batch.get(b"data"), batch.get(b"labels")
    if rows is None or y is None:
        raise ValueError(
            f"{path}: expected a dict with the keys 'data' and 'labels', received "
            f"{sorted(key.decode('latin-1')[:40] for key in batch)[:8]}; give CIFAR-10's batches"
        )
    width = CIFAR_RECORD - 1
    if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.ndim != 2 or rows.shape[1] != width:
        received = f"{rows.dtype} {rows.shape}" if isinstance(rows, np.ndarray) else type(rows).__name__
        raise ValueError(f"{path}: expected 'data' as uint8 of shape (N, {width}), received {received}; fetch it again")
    if not len(rows):
        raise ValueError(f"{path}: expected at least one image, received none; fetch it again")
    if not isinstance(y, np.ndarray):
        if not isinstance(y, list) or not all(type(label) is int and 0 <= label < 10 for label in y):
            raise ValueError(f"{path}: expected 'labels' as a list of integers 0..9, received others; fetch it again")
        y = np.array(y, np.int64)
    return _images_from_planes(rows), checked(path, validate.labels, y, len(rows), 10)


def read_cifar10_folder(folder):
    """x_train, y_train, x_test, y_test of a folder with the six files of either version."""
    found = find_cifar10(folder)
    if found is None:
        raise ValueError(
            f"{folder}: expected CIFAR-10's data_batch_1..5 and test_batch, received none; unpack them here"
        )
    folder, suffix = found
    read = read_cifar10_binary if suffix else read_cifar10_python
    batches = [read(folder / (name + suffix)) for name in CIFAR_FILES]
    for name, (x, _) in zip(CIFAR_FILES, batches, strict=True):
        if len(x) != len(batches[0][0]):  # the only sign of a file cut between two records
            raise ValueError(
                f"{folder / (name + suffix)}: expected {len(batches[0][0])} images like data_batch_1, "
                f"received {len(x)}; fetch it again"
            )
    x, y = (np.concatenate(arrays) for arrays in zip(*batches[:-1], strict=True))
    return [x, y, *batches[-1]]


# ---- npz ---------------------------------------------------------------------------------------------------


def _npz_keys(path, names):
    """The names of the arrays to read, images and labels in turn, of those that the file has."""
    if {"x_train", "y_train", "x_test", "y_test"} <= names:
        return ["x_train", "y_train", "x_test", "y_test"]
    if {"x", "y"} <= names:
        return ["x", "y"] + (["x_test", "y_test"] if {"x_test", "y_test"} <= names else [])
    raise ValueError(
        f"{path}: expected the keys x and y, or x_train, y_train, x_test and y_test, received {sorted(names)[:8]}; "
        "rename them"
    )


def every_sixth_of_each_class(path, y, what):
    """Mask (N,) of the test samples: of each class the sixth, the twelfth, ..., in whatever order the classes come."""
    test = np.zeros(len(y), bool)
    for label in np.unique(y):
        test[np.flatnonzero(y == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    if not test.any():
        raise ValueError(
            f"{path}: expected at least {TEST_EVERY} {what} of a class to split, received fewer of each; add some, or give "
            "those for the test apart"
        )
    return test


def read_npz(path, num_classes=None):
    """x_train, y_train, x_test, y_test of an npz and its number of classes. See `agl_ref.data.load_npz`."""
    arrays = files.read_npz(path, choose=lambda names: _npz_keys(path, names))
    keys = list(arrays)
    for key in keys[::2]:
        x = arrays[key]
        arrays[key] = checked(path, check_images, key, x[..., np.newaxis] if x.ndim == 3 else x)
    train_y = arrays[keys[1]]
    if num_classes is None and train_y.dtype.kind in "iu" and train_y.size:
        num_classes = max(2, int(train_y.max()) + 1)
        if num_classes > max(2, len(train_y)):
            raise ValueError(
                f"{path}: expected labels 0..K-1 with K at most the number of images, received "
                f"the label {num_classes - 1} with {len(train_y)} images; number the classes from 0"
            )
    for key_x, key_y in zip(keys[::2], keys[1::2], strict=True):
        labels = arrays[key_y], len(arrays[key_x]), num_classes or 2
        arrays[key_y] = checked(f"{path}: {key_y}", validate.labels, *labels)
    if len(keys) == 2:
        x, y = arrays["x"], arrays["y"]
        test = every_sixth_of_each_class(path, y, "images")
        return [x[~test], y[~test], x[test], y[test]], num_classes
    return [arrays[key] for key in keys], num_classes
