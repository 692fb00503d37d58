"""Bad input to the oracle's commands: exit code 3 and one line with the fix, never a traceback, never a pass."""

import io
import json
import pickle
import shutil
import struct
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import cli, files
from agl_ref.oracle import assert_matches, compare, load_case
from agl_ref.oracle.cases import vectors


@pytest.fixture(scope="module")
def right():
    return {name: array.astype(np.float32) for name, array in load_case("lif-grid").arrays.items()}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def refusal(capsys, *argv):
    """What the one line says; the exit code must be 3 and nothing may be printed."""
    code = cli.main(list(argv))
    shown = capsys.readouterr()
    assert code == 3, (code, shown)
    assert shown.out == "" and shown.err.count("\n") == 1 and shown.err.startswith("agl-ref: "), shown
    return shown.err


COMMANDS = pytest.mark.parametrize("command", ["check", "identify"])


@COMMANDS
def test_a_damaged_archive_is_refused_wherever_it_is_damaged(command, capsys, right):
    np.savez_compressed("right.npz", **right)
    assert cli.main(["check", "right.npz", "--case", "lif-grid"]) == 0
    capsys.readouterr()
    whole, rng, refused = Path("right.npz").read_bytes(), np.random.default_rng(0), 0
    for _ in range(60 if command == "check" else 5):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] ^= int(rng.integers(1, 256))
        Path("damaged.npz").write_bytes(damaged)
        code = cli.main([command, "damaged.npz", "--case", "lif-grid"])  # a traceback would leave this call
        shown = capsys.readouterr()
        if code != 0:  # what the archive never reads again, such as a date, may differ
            assert code == 3 and shown.err.count("\n") == 1 and "damaged.npz" in shown.err
            refused += 1
    assert refused >= 4


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def npy_header(shape):
    text = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(11 + len(text)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def safetensors(header):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def npz(**arrays):
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def archive(**entries):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as whole, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of a name that comes twice
        for name, datas in entries.items():
            for data in datas:
                whole.writestr(name, data)
    return file.getvalue()


FILES = {
    "folder/u.npy": (npy_header("(1000000, 1000000, 1000000)"), "expected at most"),
    "huge/u.npy": (npy_header(f"({10**25},)"), "expected at most"),
    "archive/u.npy": (npz(u=np.ones(3)), "expected one array, received an archive"),
    "text/u.npy": (b"this is no array", "received other bytes"),
    "pickle/u.npy": (pickle.dumps([1.0]), "pickled objects"),
    "one.npz": (npy(np.ones(3)), "expected named arrays, received one without a name"),
    "cut.npz": (npz(u=np.ones(3))[:3], "expected an npz"),
    "pickle.npz": (pickle.dumps({"u": 1.0}), "pickled objects"),
    "one.npy": (npy(np.ones(3)), "put it into a folder"),
    "model.pt": (b"x", "np.savez"),
    "deep.safetensors": (safetensors(b"[" * 100_000), "cannot be read"),
    "header.safetensors": (safetensors(b" " * 10_000_001), "a header of 10000001 bytes"),
    "list.safetensors": (safetensors([1]), "its header is not an object"),
    "kind.safetensors": (
        safetensors({"u": {"dtype": "F8_E4M3", "shape": [0], "data_offsets": [0, 0]}}),
        "u is of type F8_E4M3, none of F64, F32",
    ),  # fmt: skip
    "appended/u.npy": (2 * npy(np.zeros((4, 4, 9), np.float32)), "received more behind it"),
    "twice.npz": (
        archive(**{"u.npy": 2 * [npy(np.zeros((4, 4, 9), np.float32))]}),
        "each once, received the entry 'u.npy'",
    ),
    "notes.npz": (archive(**{"readme.txt": [b"x"]}), "received the entry 'readme.txt'"),
    "long.npz": (npz(u=np.zeros((4, 4, 9), np.longdouble)), "expected float64 or narrower"),
}


@COMMANDS
@pytest.mark.parametrize("name", FILES)
def test_bad_files(name, command, capsys):
    data, words = FILES[name]
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    dump = path.parent if len(path.parts) > 1 else path
    if np.longdouble == np.float64 and name == "long.npz":
        pytest.skip("no wider float on this machine")
    assert words in refusal(capsys, command, str(dump), "--case", "lif-grid")


@COMMANDS
def test_arrays_of_another_run(command, capsys, right):
    x = load_case("lif-grid").inputs["x"].astype(np.float32)
    for changed, words in (
        ({"x": x + 1}, "x: expected this case's input, received other values"),
        ({"x": 1024 * x}, "x: expected this case's input, received 1024 times its values"),
        ({"x": x * np.nan}, "x: expected this case's input"),
        ({"x": x[:2]}, "x: expected shape (4, 4, 9)"),
        ({"case": np.array("lif-long")}, "expected a dump of 'lif-grid'"),
        ({"x.grad": right["grad_x"]}, "received it twice"),
    ):
        np.savez("dump.npz", **{**right, **changed})
        assert words in refusal(capsys, command, "dump.npz", "--case", "lif-grid")
    np.savez("dump.npz", **right, x=x)
    assert cli.main([command, "dump.npz", "--case", "lif-grid"]) == 0


@COMMANDS
def test_dtypes_that_cannot_be(command, capsys, right):
    np.savez("dump.npz", **right)
    assert "dtype: expected one of" in refusal(capsys, command, "dump.npz", "--case", "lif-grid", "--dtype", "float8")
    assert "expected float64, received float32" in refusal(
        capsys, command, "dump.npz", "--case", "lif-grid", "--dtype", "float64"
    )


@COMMANDS
@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32, np.uint16])
def test_spikes_may_be_integers(command, kind, capsys, right):
    np.savez("dump.npz", s=right["s"].astype(kind))
    assert cli.main([command, "dump.npz", "--case", "lif-grid"]) == 0
    np.savez("dump.npz", **{**right, "s": right["s"].astype(kind)})
    assert cli.main([command, "dump.npz", "--case", "lif-grid"]) == 0


@COMMANDS
@pytest.mark.parametrize("kind", ["I8", "I16", "U16", "U32", "U64"])
def test_integers_of_a_safetensors_file(command, kind, right):
    s = right["s"].astype({"I": "<i", "U": "<u"}[kind[0]] + str(int(kind[1:]) // 8))
    entry = {"dtype": kind, "shape": list(s.shape), "data_offsets": [0, s.nbytes]}
    Path("dump.safetensors").write_bytes(safetensors({"s": entry}) + s.tobytes())
    assert cli.main([command, "dump.safetensors", "--case", "lif-grid"]) == 0


@COMMANDS
@pytest.mark.parametrize("named", [np.array(b"lif-grid"), np.array(["lif-grid"]), np.array([b"lif-grid"])])
def test_a_case_may_be_named_in_bytes_or_in_a_list_of_one(command, named, capsys, right):
    np.savez("dump.npz", **right, case=named)
    assert cli.main([command, "dump.npz", "--case", "lif-grid"]) == 0
    capsys.readouterr()
    np.savez("dump.npz", **right, case=np.array(b"lif-long"))
    assert "received one of 'lif-long'" in refusal(capsys, command, "dump.npz", "--case", "lif-grid")


@COMMANDS
def test_a_scalar_may_be_a_list_of_one(command, right):
    np.savez("dump.npz", **{**right, "grad_decay": right["grad_decay"].reshape(1)})
    assert cli.main([command, "dump.npz", "--case", "lif-grid"]) == 0


@COMMANDS
@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("U", "u"),
        ("spikes", "s"),
        ("dx", "grad_x"),
        ("arrays/u", "u"),
        ("x_grad", "grad_x"),
        ("grad_decy", "grad_decay"),
        ("decy", "grad_decay"),
    ],
)
def test_a_misnamed_array_hears_its_name(command, given, meant, capsys, right):
    np.savez("dump.npz", **{given: right[meant]})
    assert f"received an unknown name; did you mean {meant}? " in refusal(
        capsys, command, "dump.npz", "--case", "lif-grid"
    )


def test_a_dump_that_mixes_layouts_is_told_so(capsys):
    arrays = {name: a.astype(np.float32) for name, a in load_case("lif-image").arrays.items()}
    np.savez("dump.npz", u=np.moveaxis(arrays["u"], -1, 2), s=arrays["s"])
    said = refusal(capsys, "identify", "dump.npz", "--case", "lif-image")
    assert "several layouts" in said and "TN..C" in said and "TNC.." in said
    for layout in ("TN..C", "TNC.."):
        said = refusal(capsys, "check", "dump.npz", "--case", "lif-image", "--layout", layout)
        assert "several layouts" in said and "TN..C" in said and "TNC.." in said
    np.savez("dump.npz", u=np.moveaxis(arrays["u"], -1, 2), v=np.moveaxis(arrays["v"], -1, 2))
    assert "--layout TNC.." in refusal(capsys, "check", "dump.npz", "--case", "lif-image")


@pytest.mark.parametrize("layout", ["TN..C", "NT..C", "TNC..", "NTC.."])
def test_identify_takes_every_layout_that_check_takes(layout, capsys):
    arrays = {name: a.astype(np.float32) for name, a in load_case("lif-image").arrays.items()}
    for name, a in arrays.items():
        a = np.moveaxis(a, -1, 2) if a.ndim > 3 and not layout.endswith("C") else a
        arrays[name] = a.swapaxes(0, 1) if a.ndim > 3 and layout.startswith("NT") else a
    np.savez("dump.npz", **arrays)
    for command in ("check", "identify"):
        assert cli.main([command, "dump.npz", "--case", "lif-image", "--layout", layout]) == 0
        assert "axis order" not in capsys.readouterr().out
    if layout == "NT..C":  # no framework has it, so it is no convention
        assert "--layout NT..C" in refusal(capsys, "identify", "dump.npz", "--case", "lif-image")


def test_empty_options(capsys, right):
    np.savez("dump.npz", **right)
    assert "force: expected some of" in refusal(capsys, "check", "dump.npz", "--case", "lif-grid", "--force", "")
    refusal(capsys, "check", "dump.npz", "--case", "lif-grid", "--junit", "")
    assert "--op: expected" in refusal(capsys, "vectors", "list", "--op", "nope")
    assert "dtype: expected one of" in refusal(capsys, "vectors", "list", "--dtype", "nope")
    assert "--convention: expected FIELD=VALUE" in refusal(capsys, "vectors", "list", "--convention", "reset")
    assert "reset: expected one of" in refusal(capsys, "vectors", "list", "--convention", "reset=no")


@COMMANDS
def test_golden_files_that_are_not_the_published_ones(command, capsys, right, tmp_path, monkeypatch):
    np.savez("dump.npz", **right)
    shutil.copytree(vectors.FOLDER, "golden")
    monkeypatch.setattr(vectors, "FOLDER", tmp_path / "golden")
    path = Path("golden/lif-grid.npz")
    whole = path.read_bytes()
    path.write_bytes(whole[:500] + bytes([whole[500] ^ 1]) + whole[501:])
    assert "SHA-256" in refusal(capsys, command, "dump.npz", "--case", "lif-grid")
    path.unlink()
    assert "reinstall" in refusal(capsys, command, "dump.npz", "--case", "lif-grid")
    Path("golden/manifest.json").unlink()
    assert "reinstall" in refusal(capsys, command, "dump.npz", "--case", "lif-grid")


@pytest.mark.parametrize("theirs", [None, [1.0], {1: np.ones(3)}, "u"])
def test_calls_without_named_arrays(theirs):
    with pytest.raises(TypeError, match="theirs: expected {name: array}"):
        compare(load_case("lif-grid"), theirs)
    net = agl.models.conv_snn(image_size=4, channels=(2,), num_classes=2)
    with pytest.raises(TypeError, match="theirs: expected {name: array}"):
        agl.oracle.identify(net, np.ones((2, 1, 4, 4, 1)), np.array([1]), theirs)


def test_calls_with_a_case_or_a_force_that_is_none(right):
    with pytest.raises(TypeError, match="case: expected the id of a case or a Reference, received int"):
        assert_matches(3, u=right["u"])
    case = load_case("lif-grid")
    assert compare(case, right, force="s,u,width").verdict == "PASS"  # as on the command line
    with pytest.raises(ValueError, match="received q; choose"):
        compare(case, right, force="s,q")


def test_every_error_of_a_broken_archive_is_known():
    """What zipfile and zlib raise has no common base: the list that is caught must name them."""
    for error in (zlib.error, NotImplementedError, RuntimeError, RecursionError, MemoryError, OverflowError):
        assert issubclass(error, files.DAMAGE)
