"""The one reader of arrays from files: what NumPy writes comes back, all else is one ValueError that names the file."""

import io
import os
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest
from helpers import assert_refused

from agl_ref import data, files
from agl_ref.oracle import load_dump
from agl_ref.train import CheckpointError
from agl_ref.train.checkpoint import read_checkpoint


def npy(array, version=None):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), version)
    return buffer.getvalue()


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6, dtype=">f4").reshape(2, 3)), np.array(1.5),
    np.array("a-case"), np.array([b"ab"]), np.zeros((0, 3)), np.array([True, False]),
    np.array([1, 2], np.uint16), np.array([1j]),
]  # fmt: skip


@pytest.mark.parametrize("array", ARRAYS, ids=lambda a: f"{a.dtype}{a.shape}")
@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_what_numpy_writes_comes_back_to_the_bit(array, version):
    found = files.array_of_npy(npy(array, version))
    assert found.dtype == array.dtype and found.shape == array.shape and found.tobytes() == array.tobytes()
    assert found.flags.writeable and found.flags.f_contiguous == array.flags.f_contiguous


def test_every_flipped_bit_of_a_header_is_an_array_or_one_valueerror():
    good = npy(np.arange(12.0).reshape(3, 4))
    refused = 0
    for bit in range(8 * 128):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        try:
            assert files.array_of_npy(bytes(content)).nbytes == 96
        except ValueError as error:
            assert "\n" not in str(error) and str(error).startswith("expected")
            refused += 1
    assert refused > 400


@pytest.mark.parametrize("header", [
    "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1" + "0" * 4000,
    "(" * 9000, "-" * 9000 + "1", "[]", "1", "{'descr': '<f8'}",
    "{'descr': '<U9999999999', 'fortran_order': False, 'shape': ()}",
    "{'descr': [('a', '<f8')], 'fortran_order': False, 'shape': ()}",
    "{'descr': '|S0', 'fortran_order': False, 'shape': (9,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (True,)}", "{'descr': '<f8', 'fortran_order': 0, 'shape': (1,)}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}", "{'descr': '<f8', 'fortran_order': False, 'shape': 1}",
    "{'descr': '<f8', 'fortran_order': False, 'shape': (1,)*40}", "{'descr': '\\d8', 'fortran_order': False, 'shape': (1,)}",
])  # fmt: skip
def test_a_hostile_header_is_refused(header):
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode() + bytes(8)
    assert_refused(lambda: files.array_of_npy(content))


READERS = [
    ("a.npz", load_dump, ValueError), ("a.npz", data.load_npz, ValueError), ("a.npz", read_checkpoint, CheckpointError),
]  # fmt: skip


@pytest.mark.parametrize("name, read, kind", READERS, ids=["dump", "data", "checkpoint"])
def test_every_reader_of_npz_refuses_the_same(name, read, kind, tmp_path):
    path = tmp_path / name
    good = npy(np.zeros((6, 4, 4)))
    big = b"\x93NUMPY\1\0" + struct.pack("<H", 62) + b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,)}"
    damaged = good.replace(b"'shape'", b"'sh\xffpe'")
    for member in (big, damaged, good[:40], pickle.dumps(print), b""):
        npz(path, x=member, y=good, meta=good)
        with pytest.raises(kind) as info:
            read(path)
        assert str(info.value).startswith(str(path)) and "\n" not in str(info.value)
    for content in (b"", pickle.dumps(print), good, b"\x80" * 1000):
        path.write_bytes(content)
        with pytest.raises(kind, match="a.npz: expected"):
            read(path)
    path.unlink()
    os.mkfifo(path)  # whoever opens it waits for a writer
    with pytest.raises(kind, match="a pipe or a device"):
        read(path)


def test_nothing_is_unpacked_before_its_size_is_known(tmp_path, monkeypatch):
    path = npz(tmp_path / "bomb.npz", **{f"u{i}": npy(np.zeros(2**20)) for i in range(8)})
    assert path.stat().st_size < 100_000
    monkeypatch.setattr(files, "MAX_BYTES", 50_000_000)
    tracemalloc.start()
    assert_refused(lambda: files.read_npz(path))
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_repeated_foreign_encrypted_and_too_many_members_are_refused(tmp_path, monkeypatch):
    path, good = tmp_path / "a.npz", npy(np.zeros(3))
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x.npy", good)
        archive.writestr("x.npy", good)
    with pytest.raises(ValueError, match="each once, received the entry 'x.npy'"):
        files.read_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.txt", good)
    with pytest.raises(ValueError, match="received the entry 'x.txt'"):
        files.read_npz(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("x.npy", good)
    with pytest.raises(ValueError, match="plain or deflated"):
        files.read_npz(path)
    content = bytearray(npz(path, x=good).read_bytes())
    for marker, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        content[content.index(marker) + at] |= 1  # encrypted
    path.write_bytes(content)
    with pytest.raises(ValueError, match="encrypted"):
        files.read_npz(path)
    monkeypatch.setattr(files, "MAX_MEMBERS", 2)
    with pytest.raises(ValueError, match="at most 2 arrays, received 3"):
        files.read_npz(npz(path, x=good[:136], y=good[:136], z=good[:136]))


def test_no_flipped_bit_of_an_npz_gives_other_arrays(tmp_path):
    path = npz(tmp_path / "a.npz", u=npy(np.ones(3)), s=npy(np.zeros(3)))
    content, good, refused = path.read_bytes(), files.read_npz(path), 0
    for bit in range(8 * len(content)):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            found = files.read_npz(path)
        except ValueError:
            refused += 1
        else:
            assert {k: v.tobytes() for k, v in found.items()} == {k: v.tobytes() for k, v in good.items()}
    assert refused > 4 * len(content)


def test_a_copy_that_ended_early_is_called_so(tmp_path):
    path = npz(tmp_path / "cut.npz", u=npy(np.arange(100.0)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="received one that is cut off"):
        files.read_npz(path)


def test_a_failed_write_names_its_file_and_leaves_no_half(tmp_path, monkeypatch):
    path = tmp_path / "deep" / "a.bin"
    files.write_atomically(path, b"old")
    monkeypatch.setattr(os, "fsync", lambda file: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError) as info:
        files.write_atomically(path, b"new")
    assert info.value.filename == str(path) and path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["a.bin"]


def test_a_current_folder_that_was_deleted_names_the_file(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(OSError) as info:
        files.write_atomically("run/config.json", b"{}")
    assert info.value.filename == "run/config.json"
