"""Reading dumps and `agl-ref check`: every layout and container, and every way in which a dump can be bad."""

import json
import struct
import subprocess
import sys

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import cli
from agl_ref.cli import check as check_command
from agl_ref.oracle import compare, load_dump
from agl_ref.oracle.bounds.reference import reference, reference_of_case
from agl_ref.oracle.cases import vectors
from agl_ref.oracle.cases.registry import definition
from agl_ref.oracle.judge.dump import as_numpy, to_reference_layout
from agl_ref.oracle.problems import problem_of


@pytest.fixture(scope="module")
def lif():
    return reference_of_case(definition("lif-realistic"))


@pytest.fixture(scope="module")
def got(lif):
    return problem_of(lif).run(dtype=np.float32)


@pytest.fixture(autouse=True)
def case(monkeypatch, lif):
    """`agl-ref check` reads this reference, whatever is stored."""
    stored = {lif.id: lif}

    def load(id):
        if id not in stored:
            raise ValueError(f"case: expected an id of `agl-ref vectors list`, received {id!r}; choose one")
        return stored[id]

    monkeypatch.setattr(vectors, "load_case", load)
    monkeypatch.setattr(check_command, "load_case", load)


def write_safetensors(path, arrays, metadata=None, kinds=None):
    """The format by its public description: length, JSON header, bytes."""
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, array in arrays.items():
        raw = np.ascontiguousarray(array).tobytes()
        kind = (kinds or {}).get(name) or {"<f4": "F32", "<f8": "F64", "<u2": "BF16"}[array.dtype.str]
        header[name] = {"dtype": kind, "shape": list(array.shape), "data_offsets": [len(data), len(data) + len(raw)]}
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_folder(path, arrays):
    path.mkdir()
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)


# --- containers


def test_three_containers_give_the_same_report(tmp_path, lif, got):
    write_folder(tmp_path / "folder", got)
    np.savez(tmp_path / "a.npz", **got)
    write_safetensors(tmp_path / "a.safetensors", {k: np.asarray(v) for k, v in got.items()}, {"case": lif.id})
    reports = [compare(lif, load_dump(tmp_path / name)) for name in ("folder", "a.npz", "a.safetensors")]
    assert all(r.verdict == "PASS" and not r.not_checked for r in reports)
    assert reports[0].to_json() == reports[1].to_json() == reports[2].to_json()


def test_names_with_dots_survive_a_folder(tmp_path):
    write_folder(tmp_path / "d", {"conv1.u": np.ones((2, 1)), "grad_conv1.weight": np.zeros((1, 2))})
    assert sorted(load_dump(tmp_path / "d")) == ["conv1.u", "grad_conv1.weight"]


def test_bfloat16_comes_as_bits(tmp_path):
    bits = np.array([[0x3F80, 0xC000, 0x3FC0]], "<u2")  # 1, -2, 1.5
    write_safetensors(tmp_path / "b.safetensors", {"u": bits})
    array, kind = as_numpy("u", load_dump(tmp_path / "b.safetensors")["u"])
    assert kind == "bfloat16" and array.tolist() == [[1.0, -2.0, 1.5]]


class OnDevice:
    """An array of another library: no __array__ until it is on the CPU."""

    def __init__(self, a):
        self.a, self.dtype = a, a.dtype

    def detach(self):
        return self

    def cpu(self):
        return self.a


class Capsule:
    """DLPack alone."""

    def __init__(self, a):
        self.a = a

    def __dlpack__(self, **kwargs):
        return self.a.__dlpack__(**kwargs)

    def __dlpack_device__(self):
        return self.a.__dlpack_device__()


def test_live_arrays_of_other_libraries(lif, got):
    assert compare(lif, {"u": OnDevice(got["u"]), "du": Capsule(got["du"]), "grad_decay": float(got["grad_decay"])},
                   dtype="float32").verdict == "PASS"  # fmt: skip
    with pytest.raises(TypeError, match="u: expected an array, received list"):
        compare(lif, {"u": [1.0]})


# --- layouts


@pytest.fixture(scope="module")
def conv():
    net = agl.models.conv_snn(image_size=4, channels=(2,), num_classes=3)
    return reference(net, np.random.default_rng(0).normal(0.3, 1, (3, 5, 4, 4, 1)), np.arange(5) % 3, replays=4)


def test_layouts_are_turned_and_named(conv):
    u, weight, logits = (
        conv.arrays[n] for n in ("conv1.u", "grad_conv1.weight", "logits")
    )  # (3, 5, 2, 2, 2), (3, 3, 1, 2)
    turned = {"conv1.u": np.moveaxis(u, -1, 2).swapaxes(0, 1), "grad_conv1.weight": weight.transpose(3, 2, 0, 1),
              "logits": logits.swapaxes(0, 1), "grad_fc.weight": conv.arrays["grad_fc.weight"].T,
              "conv1.width": conv.arrays["conv1.width"], "grad_conv1.gamma": conv.arrays["grad_conv1.gamma"]}  # fmt: skip
    assert compare(conv, turned, layout="NTC..").verdict == "PASS"
    with pytest.raises(ValueError, match=r"conv1.u: expected shape \(3, 5, 2, 2, 2\).*fits the layout NTC\.\."):
        compare(conv, turned)  # 2 channels of 2x2 pixels fit NT..C too, but the weights beside them do not
    with pytest.raises(ValueError, match="logits: .*fits the layout NT..C"):
        compare(conv, {"logits": turned["logits"]})
    with pytest.raises(ValueError, match="layout: expected one of"):
        compare(conv, turned, layout="CTN")


def test_shapes_that_fit_no_layout():
    with pytest.raises(ValueError, match="as many elements; reshape it"):
        to_reference_layout("u", np.zeros((6, 4)), (2, 3, 4))
    with pytest.raises(ValueError, match="which a Recorder adds that was not told per_step=False"):
        to_reference_layout("u", np.zeros((1, 2, 3, 4)), (2, 3, 4))
    with pytest.raises(ValueError, match="dump the whole array"):
        to_reference_layout("u", np.zeros((2, 3, 5)), (2, 3, 4))
    assert to_reference_layout("grad_decay", np.zeros(1), ()).shape == ()


# --- arrays that cannot be judged


def test_bad_arrays(lif, got):
    def refused(match, kind=ValueError, **changes):
        with pytest.raises(kind, match=match):
            compare(lif, {**got, **changes})

    refused("potential: expected one of width, u, s.*unknown name", potential=got["u"])
    nan = got["u"].copy()
    nan[1, 0, 2] = np.nan
    refused(r"u: expected finite values, received nan at index \(1, 0, 2\)", u=nan)
    refused("u: expected real numbers, received complex64", TypeError, u=got["u"].astype(np.complex64))
    refused("u: expected floating-point numbers, received int64", TypeError, u=np.zeros(got["u"].shape, np.int64))
    refused("case: expected a dump of 'lif-realistic', received one of 'other'", case=np.array("other"))
    refused("x: expected this case's input", x=lif.inputs["x"] + 1)
    assert compare(lif, {**got, "x": lif.inputs["x"], "case": np.array(lif.id), "s": got["s"] > 0}).verdict == "PASS"
    with pytest.raises(ValueError, match="dump: expected one of .* received none"):
        compare(lif, {})
    with pytest.raises(ValueError, match="expected float64, received float32"):
        compare(lif, got, dtype="float64")
    with pytest.raises(ValueError, match="dtype: expected one of float64"):
        compare(lif, got, dtype="float8")
    with pytest.raises(ValueError, match="float32 or finer for 'lif-realistic', received bfloat16"):
        compare(lif, got, dtype="bfloat16")


def test_an_exact_case_needs_a_dtype_that_holds_it():
    ref = reference_of_case(definition("lif-hard-attached"))
    with pytest.raises(ValueError, match="expected float32 or finer"):
        compare(ref, ref.arrays, dtype="bfloat16")
    assert compare(ref, ref.arrays, dtype="float32").verdict == "PASS"


# --- files that cannot be read, and exit codes


def check(capsys, *args):
    code = cli.main(["check", *map(str, args)])
    out = capsys.readouterr()
    return code, out.out, out.err


def bad_files(folder, got):
    """(path, words of the message)."""
    np.savez(folder / "whole.npz", **got)
    raw = (folder / "whole.npz").read_bytes()
    (folder / "truncated.npz").write_bytes(raw[: len(raw) // 2])
    yield folder / "truncated.npz", "a whole zip"
    (folder / "empty.npz").write_bytes(b"")
    yield folder / "empty.npz", "a whole zip"
    np.savez(folder / "pickled.npz", u=np.array([{"a": 1}], dtype=object))
    yield folder / "pickled.npz", "pickled objects"
    (folder / "text.npz").write_text("nothing")
    yield folder / "text.npz", "a whole zip"
    np.savez(folder / "none.npz")
    yield folder / "none.npz", "received none"
    (folder / "a.pt").write_bytes(b"x")
    yield folder / "a.pt", "received '.pt'"
    yield folder / "absent.npz", "no such file"
    (folder / "nothing").mkdir()
    yield folder / "nothing", "received none"
    (folder / "cut").mkdir()
    np.save(folder / "cut" / "u.npy", got["u"])
    raw = (folder / "cut" / "u.npy").read_bytes()
    (folder / "cut" / "u.npy").write_bytes(raw[:-8])
    yield folder / "cut", "a truncated one"
    write_safetensors(folder / "s.safetensors", {"u": got["u"]})
    raw = (folder / "s.safetensors").read_bytes()
    for name, content in (("short", raw[:-4]), ("head", raw[:20]), ("zero", b""), ("junk", b"\xff" * 64)):
        (folder / f"{name}.safetensors").write_bytes(content)
        yield folder / f"{name}.safetensors", "safetensors file"
    write_safetensors(folder / "odd.safetensors", {"u": got["u"]}, kinds={"u": "F8"})
    yield folder / "odd.safetensors", "safetensors file"


def test_bad_files_are_one_line_and_exit_code_3(tmp_path, capsys, got):
    seen = 0
    for path, words in bad_files(tmp_path, got):
        code, out, err = check(capsys, path, "--case", "lif-realistic")
        assert code == 3 and out == "" and len(err.strip().splitlines()) == 1, (path, err)
        assert err.startswith("agl-ref: ") and words in err and ";" in err, (path, err)
        seen += 1
    assert seen == 14


def test_exit_codes_and_formats(tmp_path, capsys, lif, got):
    np.savez(tmp_path / "good.npz", **got)
    code, out, err = check(capsys, tmp_path / "good.npz", "--case", "lif-realistic")
    assert code == 0 and out.startswith("PASS  lif-realistic, judged in float32") and err == ""
    wrong = {**got, "du": got["du"] * np.float32(2)}
    np.savez(tmp_path / "wrong.npz", **wrong)
    junit = tmp_path / "report.xml"
    code, out, _ = check(capsys, tmp_path / "wrong.npz", "--case", "lif-realistic", "--json", "--junit", junit)
    assert code == 1 and json.loads(out)["first_divergence"]["name"] == "du"
    assert 'type="FAIL"' in junit.read_text()
    code, out, _ = check(capsys, tmp_path / "wrong.npz", "--case", "lif-realistic", "--force", "s,u,width")
    assert code == 1 and "backward pass from the given s, u, width" in out
    assert check(capsys, tmp_path / "good.npz", "--case", "lif-nothing")[0] == 3
    assert check(capsys, tmp_path / "good.npz", "--case", "lif-realistic", "--force", "q")[0] == 3
    assert check(capsys, tmp_path / "good.npz", "--case", "lif-realistic", "--dtype", "half")[0] == 3


def test_the_command_needs_numpy_alone(tmp_path, got):
    np.savez(tmp_path / "dump.npz", **got)
    code = """
import sys
from agl_ref.cli import main
for command in (["check", "dump.npz", "--case", "lif-realistic"], ["vectors", "show", "lif-realistic"],
                ["vectors", "list"], ["vectors", "export", "lif-realistic"], ["vectors", "certify", "lif-realistic"]):
    assert main(command) == 0, command
loaded = {name.partition(".")[0] for name in sys.modules}
assert not loaded & {"numba", "scipy", "matplotlib", "tqdm"}, loaded
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_ambiguous_is_exit_code_2(tmp_path, capsys, monkeypatch, lif, got):
    from dataclasses import replace

    margin = np.full_like(lif.margins["s"], 2.0**-26)  # as if all were that close
    close = replace(lif, margins={**lif.margins, "s": margin})
    monkeypatch.setattr(check_command, "load_case", lambda id: close)
    for name, value in {"WORK": 0, "FEWEST": 0, "BEYOND": np.inf}.items():  # a search that gives up at once
        monkeypatch.setattr(f"agl_ref.oracle.judge.search.{name}", value)
    monkeypatch.setattr("agl_ref.oracle.judge.search._Runs.every_flip_shows", lambda self, near, right: False)
    gradients = {name: 2 * array for name, array in got.items() if name.startswith("grad_")}  # without s to decide by
    np.savez(tmp_path / "a.npz", **gradients)
    code, out, _ = check(capsys, tmp_path / "a.npz", "--case", lif.id)
    assert code == 2 and out.startswith("AMBIGUOUS")


def test_no_colour_where_nobody_wants_it(capsys, tmp_path, monkeypatch, lif, got):
    np.savez(tmp_path / "dump.npz", u=got["u"])
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.setenv("NO_COLOR", "")  # empty means not set (no-color.org)
    assert "\033[32mPASS" in check(capsys, tmp_path / "dump.npz", "--case", "lif-realistic")[1]
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\033" not in check(capsys, tmp_path / "dump.npz", "--case", "lif-realistic")[1]
