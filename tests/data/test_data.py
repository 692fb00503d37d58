"""Tests of agl_ref.data: values by hand, every error path, files written here in the official formats."""

import gzip
import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from agl_ref import data, files
from agl_ref.data import datasets
from agl_ref.data.bundled import make_subset
from agl_ref.data.unpickle import read_pickled_dict

needs_fashion_mnist = pytest.mark.skipif(
    data.find_fashion_mnist() is None, reason="Debian's dataset-fashion-mnist is not installed"
)


def error_line(function, *arguments, kind=ValueError, **named):
    """The message of the error that the call must raise, which must be one line."""
    with pytest.raises(kind) as caught:
        function(*arguments, **named)
    assert type(caught.value) in (ValueError, TypeError)
    text = str(caught.value)
    assert "\n" not in text
    return text


def random_images(n, shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (n, *shape), np.uint8)


# ---- bundled subset ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bundled():
    return data.load("bundled")


def test_bundled_is_small_balanced_and_as_documented(bundled):
    assert data.BUNDLED_FILE.stat().st_size <= 3.5e6
    assert bundled.x_train.shape == (5000, 28, 28, 1) and bundled.x_test.shape == (1000, 28, 28, 1)
    assert bundled.x_train.dtype == np.uint8 and bundled.y_train.dtype == np.int64
    assert np.bincount(bundled.y_train).tolist() == [500] * 10
    assert np.bincount(bundled.y_test).tolist() == [100] * 10
    assert bundled.num_classes == 10 and bundled.class_names[9] == "Ankle boot"
    assert bundled.image_shape == (28, 28, 1)
    # the official training file begins with the labels 9 0 0 3, the test file with 9 2 1 1
    assert bundled.y_train[:4].tolist() == [9, 0, 0, 3] and bundled.y_test[:4].tolist() == [9, 2, 1, 1]
    with np.load(data.BUNDLED_FILE, allow_pickle=False) as archive:
        assert sorted(archive.files) == ["x_test", "x_train", "y_test", "y_train"]
        assert all(archive[key].dtype == np.uint8 for key in archive.files)


def test_bundled_comes_with_its_licence():
    text = (data.BUNDLED_FILE.parent / "LICENSE-fashion-mnist.txt").read_text()
    assert "Copyright (c) 2017 Zalando SE, https://tech.zalando.com" in text
    assert "The above copyright notice and this permission notice shall be included" in text


def test_bundled_that_was_altered_is_refused(bundled, tmp_path, monkeypatch):
    x = bundled.x_train[:10, :, :, 0]
    np.savez(tmp_path / "a.npz", x_train=x, y_train=np.arange(10), x_test=x, y_test=np.arange(10))
    monkeypatch.setattr(datasets, "BUNDLED_FILE", tmp_path / "a.npz")
    assert "reinstall" in error_line(data.load_bundled)


@needs_fashion_mnist
def test_bundled_is_cut_from_the_official_files_and_cutting_again_gives_it_again(bundled):
    full = data.load("fashion-mnist")
    assert full.x_train.shape == (60000, 28, 28, 1) and full.x_test.shape == (10000, 28, 28, 1)
    assert full.name == "fashion-mnist" and full.class_names == data.FASHION_MNIST_CLASSES
    index = np.flatnonzero(full.y_train == 3)[:500]
    np.testing.assert_array_equal(bundled.x_train[bundled.y_train == 3], full.x_train[index])
    assert full.subset(5000, 1000).fingerprint() == bundled.fingerprint() == data.BUNDLED_FINGERPRINT
    # the whole dataset's statistics as published in many places for Fashion-MNIST: 0.2860, 0.3530
    mean, std = data.channel_statistics(full.x_train)
    assert round(mean[0], 4) == 0.2860 and round(std[0], 4) == 0.3530


def test_make_subset_is_deterministic_and_readable(tmp_path, capsys):
    x = random_images(40, (5, 4), 3)
    write_idx_folder(tmp_path, x, np.arange(40) % 10, x[::-1], np.arange(40) % 10)
    dataset = data.load(tmp_path)
    content = make_subset.subset_bytes(dataset, 20, 10)
    assert content == make_subset.subset_bytes(dataset, 20, 10)
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        np.testing.assert_array_equal(archive["x_train"], x[:20])
        np.testing.assert_array_equal(archive["x_test"], x[::-1][:10])
        assert archive["y_test"].tolist() == list(range(10))
    out = tmp_path / "out.npz"
    assert make_subset.main(["--data", str(tmp_path), "--out", str(out)]) == 3  # 4 of each class are too few
    assert "expected 500 images of class 0, received 4" in capsys.readouterr().err
    assert not out.exists()


def test_make_subset_writes_the_file(tmp_path, capsys, monkeypatch):
    x = random_images(40, (5, 4), 3)
    write_idx_folder(tmp_path, x, np.arange(40) % 10, x, np.arange(40) % 10)
    monkeypatch.setattr(make_subset.subset_bytes, "__defaults__", (20, 10))
    assert make_subset.main(["--data", str(tmp_path), "--out", str(tmp_path / "out.npz")]) == 0
    assert f"{(tmp_path / 'out.npz').stat().st_size} bytes" in capsys.readouterr().out
    assert data.load(tmp_path / "out.npz").fingerprint() == data.load(tmp_path).subset(20, 10).fingerprint()


# ---- Dataset -----------------------------------------------------------------------------------------------


def small_dataset(**changes):
    arguments = {
        "name": "small",
        "x_train": random_images(6, (4, 3, 2)),
        "y_train": np.array([0, 1, 1, 0, 1, 0]),
        "x_test": random_images(3, (4, 3, 2), 1),
        "y_test": np.array([1, 0, 0]),
        "num_classes": 2,
        "class_names": ("a", "b"),
    }
    return data.Dataset(**(arguments | changes))


def test_dataset_is_read_only_and_keeps_the_callers_array_writable():
    x = random_images(6, (4, 3, 2))
    dataset = small_dataset(x_train=x)
    with pytest.raises(ValueError, match="read-only"):
        dataset.x_train[0] = 0
    x[0] = 0
    with pytest.raises(AttributeError):
        dataset.name = "other"


def test_fingerprint_sees_every_array_its_dtype_and_its_shape():
    base = small_dataset()
    assert base.fingerprint() == small_dataset().fingerprint() and len(base.fingerprint()) == 64
    changed = [small_dataset(y_test=np.array([1, 0, 1])), small_dataset(y_train=np.array([1, 0, 1, 0, 1, 0]))]
    for key in ("x_train", "x_test"):
        x = getattr(base, key).copy()
        x[-1, -1, -1, -1] ^= 1
        changed.append(small_dataset(**{key: x}))
    turned = {key: getattr(base, key).transpose(0, 2, 1, 3) for key in ("x_train", "x_test")}
    changed.append(small_dataset(**turned))
    flat = {key: getattr(base, key).reshape(-1, 3, 4, 2) for key in ("x_train", "x_test")}
    changed.append(small_dataset(**flat))  # the same bytes in another shape
    changed.append(small_dataset(**{key: getattr(base, key).astype(np.float32) for key in ("x_train", "x_test")}))
    assert len({dataset.fingerprint() for dataset in [base, *changed]}) == len(changed) + 1


def test_fingerprint_is_a_fixed_function_of_the_data():
    dataset = small_dataset(
        x_train=np.arange(4, dtype=np.uint8).reshape(2, 1, 2, 1), y_train=np.array([0, 1]),
        x_test=np.full((1, 1, 2, 1), 7, np.uint8), y_test=np.array([1]),
    )  # fmt: skip
    import hashlib

    text = b"x_train |u1 (2, 1, 2, 1)\n\x00\x01\x02\x03" + b"y_train <i8 (2,)\n" + struct.pack("<2q", 0, 1)
    text += b"x_test |u1 (1, 1, 2, 1)\n\x07\x07" + b"y_test <i8 (1,)\n" + struct.pack("<q", 1)
    assert dataset.fingerprint() == hashlib.sha256(text).hexdigest()


def test_subset_takes_the_first_of_each_class_in_file_order():
    assert data.first_of_each_class(np.array([1, 1, 0, 1, 0, 0]), 4, 2).tolist() == [0, 1, 2, 4]
    assert data.first_of_each_class(np.array([1, 1, 0, 1, 0, 0]), 3, 2).tolist() == [0, 2, 4]
    dataset = small_dataset()
    cut = dataset.subset(2, 1)
    np.testing.assert_array_equal(cut.x_train, dataset.x_train[[0, 1]])
    assert cut.y_train.tolist() == [0, 1] and cut.y_test.tolist() == [0]
    assert cut.class_names == ("a", "b")
    assert "2 images of class 1, received 1" in error_line(dataset.subset, 2, 4)
    error_line(dataset.subset, 0, 1)
    error_line(dataset.subset, 2.0, 1, kind=TypeError)


@pytest.mark.parametrize(
    ("changes", "kind", "words"),
    [
        ({"x_train": np.zeros((6, 4, 3), np.uint8)}, ValueError, "x_train: expected shape (N, H, W, C)"),
        (
            {"x_train": np.zeros((0, 4, 3, 2), np.uint8), "y_train": np.zeros(0, int)},
            ValueError,
            "at least one",
        ),
        ({"x_train": np.zeros((6, 4, 3, 2), np.int64)}, TypeError, "received int64"),
        ({"x_train": [[1]]}, TypeError, "received list"),
        ({"x_test": np.full((3, 4, 3, 2), np.nan)}, ValueError, "nan"),
        ({"x_test": np.zeros((3, 4, 4, 2), np.uint8)}, ValueError, "(4, 4, 2)"),
        ({"x_test": np.zeros((3, 4, 3, 2), np.float32)}, ValueError, "float32"),
        ({"y_test": np.array([0, 1, 2])}, ValueError, "0..1, received 2"),
        ({"y_test": np.array([0, 1, -1])}, ValueError, "received -1"),
        ({"y_test": np.array([0.0, 1, 1])}, TypeError, "received float64"),
        ({"y_train": np.zeros(5, int)}, ValueError, "(6,), received (5,)"),
        ({"num_classes": 1}, ValueError, "num_classes"),
        ({"num_classes": "2"}, TypeError, "num_classes"),
        ({"class_names": ("a",)}, ValueError, "class_names: expected 2 items, received 1"),
    ],
)
def test_dataset_refuses_arrays_that_disagree(changes, kind, words):
    assert words in error_line(small_dataset, kind=kind, **changes)


# ---- load --------------------------------------------------------------------------------------------------


def test_load_says_what_is_accepted_when_nothing_fits(tmp_path, monkeypatch):
    (tmp_path / "notes.txt").write_text("text")
    for path, received in (
        (tmp_path, "a folder without such files"),
        (tmp_path / "notes.txt", "another kind of file"),
        ("no-such-name", "no such path"),
    ):
        text = error_line(data.load, path)
        assert text.startswith(f"{path}: ") and received in text and data.ACCEPTED in text
    error_line(data.load, None, kind=TypeError)
    monkeypatch.setattr(datasets, "FASHION_MNIST_FOLDER", tmp_path)
    assert data.find_fashion_mnist() is None
    assert "dataset-fashion-mnist" in error_line(data.load, "fashion-mnist")


def test_import_needs_neither_numba_nor_matplotlib():
    code = "import sys, agl_ref.data; print({'numba', 'matplotlib', 'scipy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# ---- IDX ---------------------------------------------------------------------------------------------------

X_TRAIN, Y_TRAIN = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
X_TEST, Y_TEST = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


def idx_bytes(array):
    array = np.asarray(array, np.uint8)
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def write_idx_folder(folder, x_train, y_train, x_test, y_test, end="", pack=lambda content: content):
    arrays = {X_TRAIN: x_train, Y_TRAIN: y_train, X_TEST: x_test, Y_TEST: y_test}
    for name, array in arrays.items():
        (folder / (name + end)).write_bytes(pack(idx_bytes(array)))


@pytest.fixture
def idx_folder(tmp_path):
    write_idx_folder(tmp_path, random_images(3, (4, 5)), [9, 0, 3], random_images(2, (4, 5), 1), [1, 2])
    return tmp_path


@pytest.mark.parametrize(
    ("end", "pack"),
    [("", bytes), (".gz", gzip.compress), (".gz", bytes), ("", gzip.compress)],
    ids=["plain", "gzip", "unpacked but still named .gz", "gzip without .gz"],
)
def test_idx_is_read_plain_and_gzipped(tmp_path, end, pack):
    x = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx_folder(tmp_path, x, [7, 0], x[:1], [9], end, pack)
    dataset = data.load(tmp_path)
    np.testing.assert_array_equal(dataset.x_train, x[..., np.newaxis])
    assert dataset.x_train[1, 2, 3, 0] == 23
    assert dataset.y_train.tolist() == [7, 0] and dataset.y_test.tolist() == [9]
    assert dataset.num_classes == 10 and dataset.class_names is None and dataset.name == tmp_path.name


def test_idx_class_names_come_from_the_folders_name(tmp_path):
    folder = tmp_path / "FashionMNIST"
    folder.mkdir()
    write_idx_folder(folder, random_images(2, (2, 2)), [7, 0], random_images(1, (2, 2)), [9])
    assert data.load(str(folder)).class_names == data.FASHION_MNIST_CLASSES
    assert data.load_idx(folder, num_classes=11).class_names is None


def test_idx_with_dots_in_the_names(idx_folder):
    for name in (X_TRAIN, Y_TRAIN, X_TEST, Y_TEST):
        (idx_folder / name).rename(idx_folder / name.replace("-idx", ".idx"))
    assert data.load(idx_folder).y_train.tolist() == [9, 0, 3]


def damaged_idx(change):
    """The three training images of `idx_folder` after `change` of the file's bytes."""
    return change(idx_bytes(random_images(3, (4, 5))))


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzip"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[:-1], "expected 60 bytes for sizes (3, 4, 5), received only 59: it is truncated"),
        (lambda b: b[:16], "received only 0"),
        (lambda b: b[:15], "expected a header of 16 bytes, received 15"),
        (lambda b: b"", "expected a header of 16 bytes, received 0"),
        (lambda b: b + b"\0", "received more than that"),
        (lambda b: b"\0\0\x08\x01" + b[4:], "expected the magic number 0x00000803, received 0x00000801"),
        (lambda b: b"\0\0\x0d\x03" + b[4:], "0x00000d03"),
        (
            lambda b: b[:4] + b"\xff" * 12 + b[16:],
            "the header declares sizes (4294967295, 4294967295, 4294967295)",
        ),
        (lambda b: b[:4] + struct.pack(">3I", 0, 4, 5), "sizes (0, 4, 5)"),
        (
            lambda b: b[:4] + struct.pack(">3I", 2, 4, 5) + b[16:56],
            "labels: expected shape (2,), received (3,)",
        ),
        (
            lambda b: b[:4] + struct.pack(">3I", 3, 5, 4) + b[16:],
            "x_test: expected uint8 images of shape (5, 4, 1) like x_train",
        ),
    ],
)
def test_idx_images_that_are_damaged(idx_folder, change, words, pack):
    (idx_folder / X_TRAIN).write_bytes(pack(damaged_idx(change)))
    text = error_line(data.load, idx_folder)
    assert words in text and text.startswith(str(idx_folder))


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([9, 0, 10], "0..9, received 10"),
        ([9, 0], "(3,), received (2,)"),
        ([9, 0, 1, 1], "(3,), received (4,)"),
    ],
)
def test_idx_labels_that_are_wrong(idx_folder, labels, words):
    (idx_folder / Y_TRAIN).write_bytes(idx_bytes(labels))
    text = error_line(data.load, idx_folder)
    assert words in text and text.startswith(str(idx_folder / Y_TRAIN))


@pytest.mark.parametrize("cut", [1, 9, 20, 40])
def test_idx_gzip_that_is_truncated_or_damaged(idx_folder, cut):
    packed = gzip.compress(damaged_idx(bytes))
    (idx_folder / X_TRAIN).write_bytes(packed[:-cut])
    assert str(idx_folder / X_TRAIN) in error_line(data.load, idx_folder)
    flipped = bytearray(packed)
    flipped[-cut] ^= 0xFF  # in the stream, its checksum or its length
    (idx_folder / X_TRAIN).write_bytes(bytes(flipped))
    assert str(idx_folder / X_TRAIN) in error_line(data.load, idx_folder)
    (idx_folder / X_TRAIN).write_bytes(packed + b"trailing")
    assert str(idx_folder / X_TRAIN) in error_line(data.load, idx_folder)


def test_idx_gzip_bomb_is_not_unpacked(idx_folder, monkeypatch):
    bomb = gzip.compress(damaged_idx(bytes) + bytes(20_000_000))
    (idx_folder / X_TRAIN).write_bytes(bomb)
    read = []
    original = gzip.GzipFile.read

    def counted(self, size=-1):
        read.append(size)
        return original(self, size)

    monkeypatch.setattr(gzip.GzipFile, "read", counted)
    assert "received more than that" in error_line(data.load, idx_folder)
    assert read == [16, 61]


def test_idx_folder_that_is_incomplete(idx_folder):
    (idx_folder / Y_TEST).unlink()
    assert Y_TEST in error_line(data.load, idx_folder)
    assert X_TRAIN in error_line(data.load_idx, idx_folder / "nowhere")


def test_a_file_over_the_limit_is_refused(idx_folder, monkeypatch):
    monkeypatch.setattr(files, "MAX_BYTES", 70)
    assert "expected at most 70 bytes, received 76" in error_line(data.load, idx_folder)


# ---- CIFAR-10 ----------------------------------------------------------------------------------------------

BATCHES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]


def cifar_rows(seed, n=2):
    """n rows of 3072 pixels and n labels."""
    return random_images(n, (3072,), seed), ((np.arange(n) * 3 + seed) % 10).tolist()


def binary_batch(rows, labels):
    return b"".join(bytes([label]) + row.tobytes() for row, label in zip(rows, labels, strict=True))


def short_string(text):
    return b"U" + bytes([len(text)]) + text


def python2_batch(rows, labels, dtype=b"u1", fortran=b"\x89"):
    """What Python 2's cPickle and NumPy 1 write for a batch in protocol 2, opcode by opcode."""
    raw = rows.tobytes("F" if fortran == b"\x88" else "C")
    out = b"\x80\x02}q\x01(" + short_string(b"batch_label") + b"q\x02" + short_string(b"training batch 1 of 5")
    out += b"q\x03" + short_string(b"labels") + b"q\x04]q\x05("
    out += b"".join(b"K" + bytes([label]) for label in labels) + b"e"
    out += short_string(b"data") + b"q\x06"
    out += (
        b"cnumpy.core.multiarray\n_reconstruct\nq\x07cnumpy\nndarray\nq\x08K\x00\x85"
        + short_string(b"b")
        + b"\x87Rq\x09"
    )
    out += b"(K\x01M" + struct.pack("<H", rows.shape[0]) + b"M" + struct.pack("<H", rows.shape[1]) + b"\x86"
    out += b"cnumpy\ndtype\nq\x0a" + short_string(dtype) + b"K\x00K\x01\x87Rq\x0b"
    out += b"(K\x03" + short_string(b"|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    out += fortran + b"T" + struct.pack("<I", len(raw)) + raw + b"q\x0ctb"
    out += short_string(b"filenames") + b"q\x0d]q\x0e("
    out += b"".join(short_string(b"camion_s_%06d.png" % i) for i in range(len(labels)))
    return out + b"eu."


def python3_batch(protocol):
    def write(rows, labels):
        batch = {
            b"batch_label": b"x",
            b"labels": labels,
            b"data": rows,
            b"filenames": [b"a.png"] * len(labels),
        }
        return pickle.dumps(batch, protocol)

    return write


def text_key_batch(rows, labels):
    return pickle.dumps({"labels": np.array(labels), "data": np.asfortranarray(rows)}, 4)


def fortran_batch(rows, labels):
    return python2_batch(rows, labels, fortran=b"\x88")


def write_cifar_folder(folder, write, end=""):
    folder.mkdir(exist_ok=True)
    for seed, name in enumerate(BATCHES):
        (folder / (name + end)).write_bytes(write(*cifar_rows(seed)))


def test_the_hand_written_python2_pickle_is_one_that_pickle_reads_too():
    rows, labels = cifar_rows(3)
    for write in (python2_batch, fortran_batch):
        batch = pickle.loads(write(rows, labels), encoding="bytes")
        np.testing.assert_array_equal(batch[b"data"], rows)
        assert batch[b"labels"] == labels


@pytest.mark.parametrize(
    ("write", "end"),
    [
        (binary_batch, ".bin"),
        (python2_batch, ""),
        (fortran_batch, ""),
        (python3_batch(2), ""),
        (python3_batch(3), ""),
        (python3_batch(4), ""),
        (python3_batch(5), ""),
        (text_key_batch, ""),
    ],
)
def test_cifar10_is_read_in_every_version(tmp_path, write, end):
    write_cifar_folder(tmp_path / "folder", write, end)
    dataset = data.load(tmp_path / "folder")
    assert dataset.name == "cifar-10" and dataset.class_names[0] == "airplane" and dataset.num_classes == 10
    assert dataset.x_train.shape == (10, 32, 32, 3) and dataset.x_test.shape == (2, 32, 32, 3)
    assert dataset.x_train.dtype == np.uint8
    assert dataset.y_train.tolist() == [0, 3, 1, 4, 2, 5, 3, 6, 4, 7] and dataset.y_test.tolist() == [5, 8]
    rows, _ = cifar_rows(4)
    for channel, row, column in ((0, 0, 0), (1, 0, 1), (2, 31, 30)):
        assert dataset.x_train[9, row, column, channel] == rows[1, 1024 * channel + 32 * row + column]


def test_cifar10_is_found_below_its_parent_folder(tmp_path):
    write_cifar_folder(tmp_path / "cifar-10-batches-py", python2_batch)
    python_version = data.load(tmp_path)
    write_cifar_folder(tmp_path / "cifar-10-batches-bin", binary_batch, ".bin")
    assert data.load(tmp_path).fingerprint() == python_version.fingerprint()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b[:-1], "expected records of 3073 bytes, received 6145 bytes, 3072 left over"),
        (lambda b: b + b"\0", "1 left over"),
        (lambda b: b"", "received 0 bytes"),
        (lambda b: b[:3073], "expected 2 images like data_batch_1, received 1"),
        (lambda b: b"\x0a" + b[1:], "0..9, received 10"),
    ],
)
def test_cifar10_binary_that_is_damaged(tmp_path, change, words):
    write_cifar_folder(tmp_path, binary_batch, ".bin")
    path = tmp_path / "data_batch_3.bin"
    path.write_bytes(change(path.read_bytes()))
    text = error_line(data.load, tmp_path)
    assert words in text and text.startswith(f"{path}: ")


def test_cifar10_folder_that_is_incomplete(tmp_path):
    write_cifar_folder(tmp_path, binary_batch, ".bin")
    (tmp_path / "test_batch.bin").unlink()
    assert "test_batch.bin: expected a file" in error_line(data.load, tmp_path)
    assert "data_batch_1..5" in error_line(data.load_cifar10, tmp_path / "nowhere")


def batch_error(tmp_path, content):
    """The error of a folder whose data_batch_3 is `content`; it must name that file."""
    write_cifar_folder(tmp_path, python2_batch)
    (tmp_path / "data_batch_3").write_bytes(content)
    text = error_line(data.load, tmp_path)
    assert text.startswith(f"{tmp_path / 'data_batch_3'}: ")
    return text


ROWS, LABELS = cifar_rows(0)


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        ({b"data": ROWS}, "the keys 'data' and 'labels', received ['data']"),
        ({b"data": ROWS, b"fine_labels": LABELS}, "fine_labels"),
        ({b"data": ROWS[:, :-1], b"labels": LABELS}, "(2, 3071)"),
        ({b"data": ROWS[0], b"labels": LABELS}, "(3072,)"),
        ({b"data": ROWS.astype(np.int64), b"labels": LABELS}, "received int64 (2, 3072)"),
        ({b"data": ROWS.tobytes(), b"labels": LABELS}, "received bytes"),
        ({b"data": ROWS, b"labels": LABELS[:1]}, "(2,), received (1,)"),
        ({b"data": ROWS, b"labels": [0, 10]}, "integers 0..9"),
        ({b"data": ROWS, b"labels": [0, -1]}, "integers 0..9"),
        ({b"data": ROWS, b"labels": [0, True]}, "integers 0..9"),
        ({b"data": ROWS, b"labels": np.array([0, 10])}, "0..9, received 10"),
        ({b"data": ROWS, b"labels": {b"a": 1}}, "integers 0..9"),
        ({b"data": ROWS, b"labels": (0, 1)}, "neither array, bytes, list nor dict"),
        ({b"data": ROWS, b"labels": None}, "neither array, bytes, list nor dict"),
        ({b"data": ROWS, b"labels": [0, 1.5]}, "opcode BINFLOAT"),
        ({b"data": ROWS.astype(float), b"labels": LABELS}, "dtype 'f8'"),
        ({b"data": ROWS, b"labels": {0, 1}}, "'__builtin__.set', which is not admitted and was not run"),
        ({1: ROWS}, "neither bytes nor text"),
        ([ROWS], "a pickled list"),
        (ROWS, "a pickled Array"),
    ],
)
def test_cifar10_python_batches_with_wrong_content(tmp_path, batch, words):
    assert words in batch_error(tmp_path, pickle.dumps(batch, 2))


class Command:
    """A pickle that runs a shell command when pickle.load reads it."""

    def __init__(self, command):
        self.command = command

    def __reduce__(self):
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_malicious_pickle_is_refused_without_running(tmp_path, protocol):
    proof = tmp_path / "it_ran"
    command = Command(f"touch {proof}")
    for batch in (command, {b"data": command, b"labels": [1]}, {b"data": ROWS, b"labels": [1, command]}):
        content = pickle.dumps(batch, protocol)
        text = batch_error(tmp_path, content)
        assert "not admitted" in text
        if protocol >= 2:
            assert "system" in text
        assert not proof.exists()
    pickle.loads(content)
    assert proof.exists()  # pickle.load would have run it: the test can fail


def test_objects_in_arrays_are_refused(tmp_path):
    assert "dtype 'O8'" in batch_error(tmp_path, pickle.dumps({b"data": np.array([[1]], object), b"labels": [1]}, 2))
    assert "dtype 'O8'" in batch_error(tmp_path, python2_batch(ROWS, LABELS, dtype=b"O8"))
    structured = np.zeros(2, [("a", "u1")])
    assert "dtype 'V1'" in batch_error(tmp_path, pickle.dumps({b"data": structured, b"labels": [1]}, 2))


GOOD = python2_batch(ROWS, LABELS)
STATE = b"(K\x03" + short_string(b"|") + b"NNN"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "pickle exhausted before seeing STOP"),
        (GOOD[:-1], "pickle exhausted before seeing STOP"),
        (GOOD[:3000], "but only"),
        (GOOD + b".", "bytes follow the end"),
        (python2_batch(ROWS[:0], []), "at least one image"),
        (b"\x80\x02.", "damaged"),
        (b"\x80\x02}}.", "the keys 'data' and 'labels', received []"),
        (b"\x80\x02h\x05.", "damaged"),
        (b"\x80\x02u.", "damaged"),
        (b"\x80\x02K\x01\x87.", "damaged"),
        (b"\x80\x02}K\x01a.", "damaged"),
        (b"\x80\x02]K\x01K\x01s.", "damaged"),
        (b"\x80\x02}(K\x01u.", "damaged"),
        (b"\x80\x02})K\x01s.", "neither bytes nor text"),
        (b"\x80\x02}K\x01b.", "damaged"),
        (b"\x80\x02}K\x01R.", "damaged"),
        (b"\x80\x02cnumpy\nndarray\nM\xff\xff\x85R.", "damaged"),
        (b"\x80\x02cnumpy\nndarray\n}b.", "damaged"),
        (b"\x80\x02c_codecs\nencode\n}X\x01\x00\x00\x00aK\x01sb.", "damaged"),  # an attribute of an admitted name
        (b"\x80\x02c_codecs\nencode\n(N}X\x01\x00\x00\x00aK\x01stb.", "damaged"),
        (b"\x80\x02cnumpy\nload\n.", "'numpy.load', which is not admitted"),
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
            "called for an array",
        ),
        (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00utf-8\x86R.", "latin1"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02ls\x85R.", "'os.system', which is not admitted"),
        (b"\x80\x04K\x01\x8c\x06system\x93.", "damaged"),
        (b"\x80\x02ios\nsystem\n.", "opcode INST"),
        (b"\x80\x02Px\n.", "opcode PERSID"),
        (b"\x80\x02\x82\x01.", "opcode EXT1"),
        (b"\x80\x02cnumpy\nndarray\n)\x81.", "opcode NEWOBJ"),
        (
            GOOD.replace(b"M" + struct.pack("<H", 3072), b"M" + struct.pack("<H", 3071)),
            "received 6144 bytes for it",
        ),
        (GOOD.replace(b"(K\x01M\x02\x00M", b"(K\x01J\xff\xff\xff\xffM"), "sizes >= 0"),
        (GOOD.replace(STATE, STATE.replace(b"NNN", b"N)N")), "fields or sub-arrays"),
        (GOOD.replace(STATE, STATE.replace(b"|", b"x")), "byte order"),
        (GOOD.replace(b"\x89T", b"\x89NT"), "five parts"),
        (b"\x80\x02" + b")" + b"\x85" * 100_000 + b".", "at most 100 tuples"),
        (b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.", "at most 100 tuples"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "numbers more objects than it can hold"),
        (b"\x80\x02" + b"]" * 1_000_001 + b".", "at most 1000000 opcodes"),
        (b"\x80\x02}\x8a\x08" + (2**61 - 1).to_bytes(8, "little") + b"Ns.", "at most 61 bits"),
    ],
)
def test_cifar10_python_batches_that_are_damaged_or_forged(tmp_path, content, words):
    assert content != GOOD
    assert words in batch_error(tmp_path, content)


def test_admitted_names_spelt_as_text_stay_text():
    # "_reconstruct" as a string is not a call: REDUCE on it is refused
    content = b"\x80\x02}X\x04\x00\x00\x00dataX\x0c\x00\x00\x00_reconstruct)Rs."
    assert "not callable" in error_line(read_pickled_dict, content)
    text = GOOD.replace(b"cnumpy\nndarray\n", b"\x8c\x07ndarray")
    assert text != GOOD
    assert "_reconstruct to be called for an array" in error_line(read_pickled_dict, text)


def test_states_and_arguments_of_the_wrong_kind_are_refused():
    dtype = b"cnumpy\ndtype\nq\x0a" + short_string(b"u1") + b"K\x00K\x01\x87Rq\x0b"
    text = GOOD.replace(dtype, b"N")
    assert text != GOOD
    assert "damaged" in error_line(read_pickled_dict, text)
    batch = pickle.dumps({b"data": ROWS}, 5)
    text = batch.replace(b"\x8c\x01C", b"\x8c\x01K")
    assert text != batch
    assert "dtype, bytes and order" in error_line(read_pickled_dict, text)
    np.testing.assert_array_equal(read_pickled_dict(batch)[b"data"], ROWS)


def test_damaged_bytes_give_one_line_or_a_dict_and_nothing_else():
    rng = np.random.default_rng(5)
    header = len(GOOD) - 6300  # most damage in the opcodes, not in the pixels
    assert 50 < header < len(GOOD)
    refused = 0
    for _ in range(400):
        content = bytearray(GOOD)
        for place in rng.integers(0, 180, 2):
            content[place] = rng.integers(0, 256)
        try:
            assert type(read_pickled_dict(bytes(content))) is dict
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 200


def test_the_root_of_torchvision_is_searched(tmp_path):
    x, y = random_images(3, (4, 5)), [9, 0, 3]
    for name in ("FashionMNIST", "MNIST"):
        (tmp_path / name / "raw").mkdir(parents=True)
        write_idx_folder(tmp_path / name / "raw", x, y, x, y)
        if name == "FashionMNIST":
            for path in (tmp_path, tmp_path / name, tmp_path / name / "raw"):
                found = data.load(path)
                assert found.name == name and found.class_names[9] == "Ankle boot" and found.y_test.tolist() == y
    with pytest.raises(ValueError, match="one data set, received .*FashionMNIST/raw, .*/MNIST/raw; give one"):
        data.load(tmp_path)


# ---- npz ---------------------------------------------------------------------------------------------------


def test_npz_with_x_and_y_keeps_every_sixth_of_each_class_for_the_test(tmp_path):
    x, y = random_images(25, (3, 4, 2)), np.arange(25) % 3
    np.savez(tmp_path / "mine.npz", x=x, y=y.astype(np.int16))
    dataset = data.load(tmp_path / "mine.npz")
    assert dataset.name == "mine" and dataset.num_classes == 3 and dataset.class_names is None
    np.testing.assert_array_equal(dataset.x_test, x[[15, 16, 17]])
    np.testing.assert_array_equal(dataset.x_train, np.delete(x, [15, 16, 17], axis=0))
    assert dataset.y_test.tolist() == [0, 1, 2] and dataset.y_train.dtype == np.int64
    with pytest.warns(UserWarning, match="no training image of class 3, 4 and no test image of class 3, 4; add some"):
        assert data.load_npz(tmp_path / "mine.npz", num_classes=5).num_classes == 5


@pytest.mark.parametrize("order", ["in turn", "sorted", "shuffled"])
def test_every_class_is_on_both_sides_in_whatever_order_they_come(tmp_path, order):
    y = np.repeat(np.arange(10), 60)
    y = {"in turn": np.arange(600) % 10, "sorted": y, "shuffled": np.random.default_rng(0).permutation(y)}[order]
    np.savez(tmp_path / "a.npz", x=random_images(600, (2, 2, 1)), y=y)
    dataset = data.load(tmp_path / "a.npz")
    assert np.bincount(dataset.y_test).tolist() == [10] * 10 and np.bincount(dataset.y_train).tolist() == [50] * 10


def test_classes_without_an_image_are_named(tmp_path):
    x = random_images(30, (2, 2, 1))
    np.savez(tmp_path / "from_one.npz", x=x, y=np.arange(30) % 5 + 1)
    with pytest.warns(UserWarning, match="all 6 classes, received no training image of class 0 .*labels start at 1"):
        assert data.load(tmp_path / "from_one.npz").num_classes == 6
    np.savez(tmp_path / "rare.npz", x=x, y=np.where(np.arange(30) == 7, 1, 0))
    with pytest.warns(UserWarning, match="received no test image of class 1; add some"):
        data.load(tmp_path / "rare.npz")
    np.savez(tmp_path / "few.npz", x=x[:10], y=np.arange(10) % 2)
    with pytest.raises(ValueError, match="at least 6 images of a class"):
        data.load(tmp_path / "few.npz")


def test_npz_with_test_keys_and_without_a_channel_axis(tmp_path):
    x = random_images(5, (3, 4))
    y = np.array([0, 1, 0, 1, 0])
    for names in (("x", "y"), ("x_train", "y_train")):
        arrays = dict(zip(names, (x[:3], y[:3]), strict=True)) | {"x_test": x[3:], "y_test": y[3:]}
        np.savez_compressed(tmp_path / "a.npz", **arrays)
        dataset = data.load(tmp_path / "a.npz")
        np.testing.assert_array_equal(dataset.x_train, x[:3, ..., np.newaxis])
        np.testing.assert_array_equal(dataset.x_test, x[3:, ..., np.newaxis])


def test_npz_of_floats_is_kept(tmp_path):
    x = np.random.default_rng(0).normal(size=(12, 2, 2, 1)).astype(np.float32)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(12) % 2)
    dataset = data.load(tmp_path / "a.npz")
    np.testing.assert_array_equal(dataset.x_train, x[:10])
    assert dataset.x_train.dtype == np.float32 and dataset.num_classes == 2


X6, Y6 = random_images(6, (2, 2)), np.arange(6) % 2


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"x": X6}, "expected the keys x and y"),
        ({"x_train": X6, "y_train": Y6}, "received ['x_train', 'y_train']"),
        ({"x": X6.astype(np.int64), "y": Y6}, "received int64"),
        ({"x": X6.astype(str), "y": Y6}, "received <U"),
        ({"x": X6[0], "y": Y6}, "x: expected shape (N, H, W, C), received (2, 2)"),
        ({"x": X6[:0], "y": Y6[:0]}, "received shape (0, 2, 2, 1)"),
        ({"x": np.full((6, 2, 2), np.inf), "y": Y6}, "x: expected finite values, received inf at index (0, 0, 0, 0)"),
        ({"x": X6, "y": Y6[:5]}, "(6,), received (5,)"),
        ({"x": X6, "y": Y6.astype(float)}, "received float64"),
        ({"x": X6, "y": Y6 - 1}, "received -1"),
        ({"x": X6, "y": Y6 * 1000}, "the label 1000 with 6 images"),
        ({"x": X6, "y": np.array([0, 0, 0, 0, 0, 2**64 - 1], np.uint64)}, "18446744073709551615"),
        (
            {"x": X6, "y": Y6, "x_test": X6, "y_test": Y6 + 1},
            "y_test: labels: expected values 0..1, received 2",
        ),
        ({"x": X6, "y": Y6, "x_test": X6[:, :1], "y_test": Y6}, "received uint8 of shape (1, 2, 1)"),
        ({"x": X6, "y": Y6, "x_test": X6 / 255, "y_test": Y6}, "received float64 of shape (2, 2, 1)"),
        ({"x": X6[:5], "y": Y6[:5]}, "at least 6 images of a class to split"),
        (
            {"x": np.array([[[None]]] * 6), "y": Y6},
            "x: expected an array of numbers, received pickled objects",
        ),
        ({"x": X6, "y": np.array([Command("false")] * 6)}, "y: expected an array of numbers, received pickled objects"),
    ],
)
def test_npz_with_wrong_content(tmp_path, arrays, words):
    path = tmp_path / "a.npz"
    np.savez(path, **arrays)
    text = error_line(data.load, path)
    assert words in text and text.startswith(str(path))


def npy_bytes(array, shape=None):
    member = io.BytesIO()
    np.save(member, array)
    content = member.getvalue()
    return content if shape is None else content.replace(b"(6, 2, 2), ", shape)


@pytest.mark.parametrize(
    ("member", "words"),
    [
        (npy_bytes(X6)[:-1], "received a truncated one"),
        (npy_bytes(X6)[:40], "received a damaged one"),
        (npy_bytes(X6) + b"\0", "x: expected an array of 24 bytes for shape (6, 2, 2), received more behind it"),
        (b"", "x: expected an array, received other bytes"),
        (b"hello", "x: expected an array, received other bytes"),
        (npy_bytes(X6, b"(7, 2, 2), "), "received a truncated one"),
        (npy_bytes(X6, b"(-6,2, 2), "), "received a damaged one"),
        (pickle.dumps(Command("false")), "received pickled objects"),
    ],
)
def test_npz_whose_array_is_damaged(tmp_path, member, words):
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", member)
        archive.writestr("y.npy", npy_bytes(Y6))
    text = error_line(data.load, path)
    assert words in text and text.startswith(str(path))


def test_npz_that_is_no_zip_is_cut_or_flipped(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=X6, y=Y6)
    good = path.read_bytes()
    for content in (b"", good[:-30], good[:100], npy_bytes(X6), pickle.dumps(Command("false"))):
        path.write_bytes(content)
        assert error_line(data.load, path).startswith((f"{path}: expected an npz", f"{path}: expected named arrays"))
    rng = np.random.default_rng(6)
    refused = 0
    for _ in range(200):
        content = bytearray(good)
        content[rng.integers(0, len(good))] ^= 1 << rng.integers(0, 8)
        path.write_bytes(bytes(content))
        try:
            data.load(path)
        except ValueError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_npz_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=np.zeros((6, 500, 500), np.uint8), y=Y6)
    assert path.stat().st_size < 5000
    monkeypatch.setattr(files, "MAX_BYTES", 100_000)
    assert "bytes unpacked, received 1500" in error_line(data.load, path)


# ---- scaling -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_to_float_is_the_correctly_rounded_quotient(dtype):
    x = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    y = data.to_float(x, dtype)
    assert y.dtype == dtype and y.shape == x.shape
    assert y[0, 0, 0, 0] == 0 and y[3, 7, 7, 0] == 1 and y[0, 6, 3, 0] == dtype(51 / 255) == dtype(0.2)
    np.testing.assert_array_equal(y, (x.astype(np.float64) / 255).astype(dtype))
    np.testing.assert_array_equal(data.to_float(y, np.float64), y)


def test_channel_statistics_by_hand():
    x = np.zeros((1, 2, 2, 2), np.uint8)
    x[0, ..., 0] = [[0, 255], [0, 255]]  # mean 1/2, std 1/2
    x[0, ..., 1] = [[51, 51], [51, 255]]  # 0.2 0.2 0.2 1: mean 0.4, variance (3 * 0.04 + 0.36) / 4 = 0.12
    mean, std = data.channel_statistics(x)
    assert mean.tolist() == [0.5, 0.4] and std[0] == 0.5
    np.testing.assert_allclose(std[1], np.sqrt(0.12), rtol=1e-15)
    np.testing.assert_allclose(data.channel_statistics(x / 255), (mean, std), rtol=1e-14)
    x = random_images(7, (5, 4, 3))
    mean, std = data.channel_statistics(x)
    np.testing.assert_allclose(mean, (x / 255).mean(axis=(0, 1, 2)), rtol=1e-13)
    np.testing.assert_allclose(std, (x / 255).std(axis=(0, 1, 2)), rtol=1e-13)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_standardise_by_hand_and_by_formula(dtype):
    x = np.array([0, 255, 51, 255], np.uint8).reshape(1, 1, 2, 2)
    y = data.standardise(x, [0.5, 0.0], [0.5, 2.0], dtype)
    assert y.dtype == dtype and y.shape == x.shape
    np.testing.assert_array_equal(y.ravel(), np.array([-1, 0.5, (51 / 255 - 0.5) / 0.5, 0.5], dtype))
    x = random_images(7, (5, 4, 3))
    mean, std = data.channel_statistics(x)
    y = data.standardise(x, mean, std, dtype)
    np.testing.assert_array_equal(y, ((x / 255 - mean) / std).astype(dtype))
    np.testing.assert_array_equal(y, data.standardise(x / 255, mean, std, dtype))
    np.testing.assert_allclose(y.mean(axis=(0, 1, 2), dtype=np.float64), 0, atol=1e-6)
    np.testing.assert_allclose(y.std(axis=(0, 1, 2), dtype=np.float64), 1, atol=1e-6)


def test_scaling_refuses():
    x = random_images(2, (3, 3, 2))
    for dtype in (np.int64, np.float16, "pixels", None):
        if dtype is not None:
            assert "dtype" in error_line(data.to_float, x, dtype, kind=TypeError)
    assert "int64" in error_line(data.to_float, x.astype(np.int64), np.float64, kind=TypeError)
    assert "(N, H, W, C)" in error_line(data.to_float, x[0], np.float64)
    assert "(N, H, W, C)" in error_line(data.channel_statistics, x[0])
    assert "at least one" in error_line(data.channel_statistics, x[:0])
    assert "list" in error_line(data.channel_statistics, [1], kind=TypeError)
    assert "mean: expected shape (2,)" in error_line(data.standardise, x, [0.5], [1, 1], np.float64)
    assert "std: expected list" in error_line(data.standardise, x, [0.5, 0.5], 1.0, np.float64, kind=TypeError)
    assert "positive" in error_line(data.standardise, x, [0, 0], [1, 0], np.float64)
    assert "nan" in error_line(data.standardise, x, [0, np.nan], [1, 1], np.float64)
    assert "nan" in error_line(data.standardise, np.full((1, 1, 1, 2), np.nan), [0, 0], [1, 1], np.float64)
    error_line(data.standardise, x, [0, 0], [1, 1], np.int32, kind=TypeError)


# ---- encoders ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_direct_repeats_the_image_without_copying_it(dtype):
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 1)).astype(dtype)
    y = data.encode(x, 5)
    assert y.shape == (5, 2, 3, 4, 1) and y.dtype == dtype and y.strides[0] == 0
    assert np.shares_memory(x, y) and not y.flags.writeable
    np.testing.assert_array_equal(y, np.stack([x] * 5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rate_draws_with_the_pixel_as_probability(dtype):
    x = np.array([0, 0.25, 0.75, 1], dtype).reshape(1, 2, 2, 1)
    T = 4000
    y = data.encode(x, T, "rate", rng=1)
    assert y.shape == (T, 1, 2, 2, 1) and y.dtype == dtype
    assert set(np.unique(y)) == {0, 1}
    rates = y.mean(axis=0, dtype=np.float64).ravel()
    assert rates[0] == 0 and rates[3] == 1
    # five standard deviations of a binomial proportion: 5 sqrt(3/16 / 4000) = 0.034
    assert abs(rates[1] - 0.25) < 0.034 and abs(rates[2] - 0.75) < 0.034
    hand = np.random.default_rng(1).random((T, 1, 2, 2, 1)) < x
    np.testing.assert_array_equal(y, hand)
    np.testing.assert_array_equal(y, data.encode(x, T, "rate", rng=np.random.default_rng(1)))
    assert (y != data.encode(x, T, "rate", rng=2)).any()


class FixedSteps(np.random.Generator):
    """A generator whose steps are given: indices into the eight neighbours, row by row."""

    def __init__(self, steps):
        super().__init__(np.random.PCG64(0))
        self.steps = np.array(steps)

    def integers(self, low, high=None, size=None):
        assert (low, high) == (0, 8) and size == self.steps.shape
        return self.steps


# the neighbours' order: (-1, -1) (-1, 0) (-1, 1) (0, -1) (0, 1) (1, -1) (1, 0) (1, 1)
UP, LEFT, RIGHT, DOWN = 1, 3, 4, 6


def test_events_by_hand():
    x = np.zeros((1, 3, 3, 1))
    x[0, 1, 1, 0] = 1
    events = data.encode(x, 2, "events", rng=FixedSteps([[RIGHT], [UP]]))
    assert events.shape == (2, 1, 3, 3, 2) and events.dtype == np.float64
    # the point moves from the centre to the right, then up
    expected = np.zeros((2, 1, 3, 3, 2))
    expected[0, 0, 1, 2, 0] = 1
    expected[0, 0, 1, 1, 1] = 1
    expected[1, 0, 0, 2, 0] = 1
    expected[1, 0, 1, 2, 1] = 1
    np.testing.assert_array_equal(events, expected)


def test_events_turn_back_at_the_largest_shift_and_repeat_the_border():
    x = np.zeros((1, 4, 1, 1), np.float32)
    x[0, 0] = 1
    events = data.encode(x, 3, "events", rng=FixedSteps([[DOWN]] * 3), max_shift=1)
    # down by 1: the border row is repeated, so row 1 becomes bright; then back; then down again
    assert events[0, 0, :, 0, 0].tolist() == [0, 1, 0, 0] and not events[0, ..., 1].any()
    assert events[1, 0, :, 0, 1].tolist() == [0, 1, 0, 0] and not events[1, ..., 0].any()
    np.testing.assert_array_equal(events[2], events[0])
    events = data.encode(x, 3, "events", rng=FixedSteps([[DOWN]] * 3), max_shift=2)
    assert events[1, 0, :, 0, 0].tolist() == [0, 0, 1, 0]
    assert events[2, 0, :, 0, 1].tolist() == [0, 0, 1, 0]


def test_events_compare_strictly_and_on_the_chosen_scale():
    x = np.array([0.25, 0.5], np.float64).reshape(1, 1, 2, 1)
    step = [[RIGHT]]  # pixel 1 goes from 0.5 to 0.25, pixel 0 repeats the border: no change
    at = data.encode(x, 1, "events", rng=FixedSteps(step), threshold=0.25)
    assert not at.any()
    rising = data.encode(x, 1, "events", rng=FixedSteps([[LEFT]]), threshold=0.25)
    assert not rising.any()  # pixel 0 goes from 0.25 to 0.5
    rising = data.encode(x, 1, "events", rng=FixedSteps([[LEFT]]), threshold=0.2499)
    assert rising[0, 0, 0, :, 0].tolist() == [1, 0] and not rising[..., 1].any()
    below = data.encode(x, 1, "events", rng=FixedSteps(step), threshold=0.2499)
    assert below[0, 0, 0, :, 1].tolist() == [0, 1] and not below[..., 0].any()
    change = np.log((0.5 + 1 / 255) / (0.25 + 1 / 255))
    for threshold, count in ((change * 0.999, 1), (change * 1.001, 0)):
        events = data.encode(x, 1, "events", rng=FixedSteps(step), threshold=threshold, intensity="log")
        assert events.sum() == count


def test_events_of_colour_images_use_the_mean_channel():
    x = np.zeros((1, 3, 3, 3))
    x[0, 1, 1] = [0.0, 0.3, 0.6]  # mean 0.3
    for threshold, count in ((0.29, 2), (0.31, 0)):
        assert data.encode(x, 1, "events", rng=FixedSteps([[RIGHT]]), threshold=threshold).sum() == count


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_events_are_seeded_bounded_and_balanced(dtype):
    x = data.to_float(random_images(3, (9, 8, 1), 2), dtype)
    a = data.encode(x, 20, "events", rng=7, max_shift=2)
    np.testing.assert_array_equal(a, data.encode(x, 20, "events", rng=np.random.default_rng(7), max_shift=2))
    assert (a != data.encode(x, 20, "events", rng=8, max_shift=2)).any()
    assert a.dtype == dtype and a.flags.c_contiguous and set(np.unique(a)) == {0, 1}
    assert not (a[..., 0] * a[..., 1]).any() and a[..., 0].any() and a[..., 1].any()
    # an image of one grey has no edges, hence no events, however it moves
    assert not data.encode(np.full_like(x, 0.5), 20, "events", rng=7).any()
    assert (a[:, 0] != a[:, 1]).any()  # each image has its own path


def test_simulated_events_say_that_they_are_simulated():
    for function in (data.encode, data.simulated_events):
        assert "SIMULATED" in function.__doc__ and "sensor" in function.__doc__


GREY = np.full((1, 2, 2, 1), 0.5)


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        ((GREY, 0), ValueError, "T: expected an integer >= 1, received 0"),
        ((GREY, 2.0), TypeError, "T: expected an integer"),
        ((GREY, True), TypeError, "T: expected an integer"),
        ((GREY, 2, "latency"), ValueError, "'direct', 'rate', 'events', received 'latency'"),
        ((GREY[0], 2), ValueError, "(N, H, W, C)"),
        ((GREY[:0], 2), ValueError, "shape (0, 2, 2, 1)"),
        ((GREY.astype(np.uint8), 2), TypeError, "use to_float"),
        ((GREY.astype(np.int32), 2), TypeError, "int32"),
        ((GREY.astype(np.float16), 2), TypeError, "float16"),
        ((GREY.tolist(), 2), TypeError, "list"),
        ((GREY * np.nan, 2), ValueError, "nan"),
        ((GREY * 3, 2, "rate", 0), ValueError, "[0, 1], received [1.5, 1.5]"),
        ((GREY * -1, 2, "rate", 0), ValueError, "[0, 1], received [-0.5, -0.5]"),
        ((GREY * 3, 2, "events", 0), ValueError, "[0, 1]"),
        ((GREY, 2, "rate"), TypeError, "rng: expected a numpy.random.Generator or a seed, received None"),
        ((GREY, 2, "events"), TypeError, "rng"),
        ((GREY, 2, "rate", -1), ValueError, "rng"),
        ((GREY, 2, "rate", "seed"), TypeError, "rng"),
        ((GREY, 2, "events", 0, 0.0), ValueError, "threshold"),
        ((GREY, 2, "events", 0, "1"), TypeError, "threshold"),
        ((GREY, 2, "events", 0, 0.1, "cubic"), ValueError, "'linear', 'log', received 'cubic'"),
        ((GREY, 2, "events", 0, 0.1, "log", 0), ValueError, "max_shift"),
    ],
)
def test_encode_refuses(arguments, kind, words):
    assert words in error_line(data.encode, *arguments, kind=kind)


def test_simulated_events_refuses_without_encode_in_front():
    assert "uint8" in error_line(data.simulated_events, GREY.astype(np.uint8), 2, 0, kind=TypeError)
    assert "(N, H, W, C)" in error_line(data.simulated_events, GREY[0], 2, 0)
    assert "T" in error_line(data.simulated_events, GREY, 0, 0)


# ---- batches -----------------------------------------------------------------------------------------------


def test_batches_cover_everything_once_in_an_order_of_seed_and_epoch():
    parts = data.batches(10, 4, seed=3, epoch=2)
    assert [len(part) for part in parts] == [4, 4, 2]
    order = np.concatenate(parts)
    assert sorted(order.tolist()) == list(range(10))
    np.testing.assert_array_equal(order, np.random.default_rng([3, 2]).permutation(10))
    np.testing.assert_array_equal(order, np.concatenate(data.batches(10, 3, 3, 2)))  # whatever the batch size
    assert order.tolist() != np.concatenate(data.batches(10, 4, 3, 3)).tolist()
    assert order.tolist() != np.concatenate(data.batches(10, 4, 2, 3)).tolist()
    assert [part.tolist() for part in data.batches(1, 5, 0, 0)] == [[0]]


@pytest.mark.parametrize("arguments", [(0, 1, 0, 0), (1, 0, 0, 0), (1, 1, -1, 0), (1, 1, 0, -1)])
def test_batches_refuses(arguments):
    assert "expected an integer >=" in error_line(data.batches, *arguments)
    error_line(data.batches, 1, 1, 0, 1.0, kind=TypeError)
