"""The golden cases: definitions, refusals, files, the second generator in exact rationals, exports, the command."""

import dataclasses
import hashlib
import io
import json
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from twins import exact, exact_vectors

from agl_ref import Conventions, cli
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.bounds.ops import OPS
from agl_ref.oracle.cases import export as exporting
from agl_ref.oracle.cases import generate as making
from agl_ref.oracle.cases import refusals, vectors
from agl_ref.oracle.cases.draw import Draw, to_significand
from agl_ref.oracle.cases.registry import definition, definitions, notes

# {id: hash of the inputs, and of the values where they are exact}. Lines are added, never changed or removed.
PUBLISHED = json.loads(Path(__file__).with_name("published_vectors.json").read_text())

REQUIRED_FLAGS = {
    "on_threshold", "on_window_edge", "first_step_width", "gamma_zero", "gamma_negative", "all_silent", "all_firing",
    "several_thread_blocks", "odd_sizes", "one_timestep", "long_time", "one_sample", "large_values",
    "non_contiguous_gradients", "two_forwards",
}  # fmt: skip


def test_draw_is_the_same_for_ever():
    """SplitMix64 by hand: plain Python integers of 64 bits."""
    mask = 2**64 - 1
    state = int.from_bytes(hashlib.sha256(b"key").digest()[:8], "little")
    expected = []
    for _ in range(3):
        state = (state + 0x9E3779B97F4A7C15) & mask
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        expected.append((z ^ (z >> 31)) >> 11)
    draw = Draw("key")
    assert [draw.integers(0, 1000, (1,))[0] for _ in range(3)] == [z % 1000 for z in expected]


def test_draw_shapes_and_ranges():
    values = Draw("range").dyadic(-1, 1, 1 / 4, (500,))
    assert set(values) == {k / 4 for k in range(-4, 5)}
    normal = Draw("normal").normal(1.0, 2.0, (4000,), bits=8)
    assert abs(normal.mean() - 1) < 0.1 and abs(normal.std() - 2) < 0.1
    assert np.array_equal(to_significand(normal, 8), normal)
    assert not np.array_equal(to_significand(normal, 5), normal)


def test_to_significand_rounds_to_nearest_even():
    assert to_significand(np.array([257.0, 258.0, 259.0, -0.0]), 8).tolist() == [256.0, 258.0, 260.0, 0.0]


# --- definitions and coverage -----------------------------------------------------------------------------------------


def test_every_definition_is_stored_in_order_and_has_notes():
    ids = vectors.cases()
    assert ids == list(definitions()), "run python -m agl_ref.oracle.cases.generate"
    assert set(notes()["cases"]) == set(ids)
    used = {flag for id in ids for flag in vectors.entry_of(id)["meta"]["flags"]}
    assert used <= set(notes()["flags"])
    assert used >= REQUIRED_FLAGS


def test_the_table_of_ops_names_what_each_case_takes_and_gives():
    for id in vectors.cases():
        case = vectors.load_case(id)
        if case.meta["op"] == "network":
            continue
        op = OPS[case.meta["op"]]
        for listed, found in ((op.inputs, case.inputs), (op.arrays, case.arrays)):
            names = listed.split()
            assert {name.strip("[]") for name in names} >= set(found) >= {n for n in names if not n.startswith("[")}, id


def test_ops_networks_conventions_and_dtypes_are_all_there():
    metas = [vectors.entry_of(id)["meta"] for id in vectors.cases()]
    assert {meta["op"] for meta in metas} == {*OPS, "network"}
    assert {meta["tier"] for meta in metas} == {1, 2, 3}
    assert {meta.get("surrogate") for meta in metas} >= {"rectangular", "triangular", "sigmoid", "arctan", "gaussian"}
    for dtype in ("float64", "float32", "tf32", "bfloat16"):
        assert vectors.cases(dtype=dtype)
    decided = {field for meta in metas for field in meta["tells"]}
    assert decided == set(Conventions.choices()) - {"axis_order"}, "a convention that no case decides"


def test_show_tells_all_that_a_kernel_needs(capsys):
    assert cli.main(["vectors", "show", "net-residual"]) == 0
    shown = capsys.readouterr().out
    for words in ("stride 2, padding 1", "neuron plif", "shortcut (block, res2.shortcut", "training True", "loss ce",
                  "surrogate rectangular", "global_pool", "eps 1e-05"):  # fmt: skip
        assert words in shown
    assert cli.main(["vectors", "show", "lif-grid"]) == 0
    shown = capsys.readouterr().out
    assert "surrogate rectangular" in shown and "norm_shift beta" in shown, (
        "younger than this case, and yet a rule of it"
    )
    assert max(map(len, shown.splitlines())) <= 100


def test_cases_by_convention(capsys):
    strict = vectors.cases("lif", "on_threshold", conventions={"spike_test": ">"})
    usual = vectors.cases("lif", "on_threshold", conventions={"spike_test": ">="})
    assert strict == ["lif-on-threshold-strict"] and "lif-grid" in usual
    assert sorted(strict + usual) == sorted(vectors.cases("lif", "on_threshold"))
    argv = ["vectors", "list", "--op", "lif", "--convention", "spike_test=>", "--convention", "reset=hard", "--json"]
    assert cli.main(argv) == 0
    assert [case["id"] for case in json.loads(capsys.readouterr().out)] == strict
    with pytest.raises(ValueError, match="expected fields among"):
        vectors.cases(conventions={"reset_test": "hard"})


def test_schema_and_size():
    schema = json.loads((vectors.FOLDER.parent / "schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(vectors.manifest())
    broken = json.loads(json.dumps(vectors.manifest()))
    del broken["cases"][0]["conventions"]["reset"]
    assert list(validator.iter_errors(broken))
    assert sum(path.stat().st_size for path in vectors.FOLDER.iterdir()) <= 4 * 2**20
    assert {path.name for path in vectors.FOLDER.iterdir()} == {
        "manifest.json", *(entry["file"] for entry in vectors.manifest()["cases"])
    }  # fmt: skip


EXACT_VALUES = {
    "tdbn-training-exact"
}  # of tier 2 since its bounds allow for other ways to a mean; its values are exact


def fingerprint(id):
    """One hash of all that may never change."""
    entry = vectors.entry_of(id)
    kept = ("inputs", "arrays") if entry["meta"]["tier"] == 1 or id in EXACT_VALUES else ("inputs",)
    facts = [f"{part}/{name} {facts['sha256']}" for part in kept for name, facts in entry["arrays"][part].items()]
    return hashlib.sha256("\n".join([json.dumps(entry["conventions"]), *facts]).encode()).hexdigest()


def test_published_cases_are_never_renamed_removed_or_changed():
    ids = vectors.cases()
    assert ids == list(PUBLISHED), "append the new ids to tests/oracle/published_vectors.json"
    assert [id for id in ids if fingerprint(id) != PUBLISHED[id]] == []


def test_figures_by_hand():
    u = np.array([[0.5, 0.0, 1.5], [1.0, 0.25, 0.5]])
    a = {"u": u, "s": (u >= 0.5).astype(float), "width": np.array([1.0, 0.5]), "du": np.array([[1.0, 0, 0], [0, 0, 0]])}
    found = refusals.figures(a, 0.5, {"window_edge": "<", "reset": "hard"})
    assert found == {
        "values": 6,
        "share_in_window": 2 / 6,  # u = 1/2 at both timesteps
        "on_threshold": 2,
        "on_window_edge": 2,  # u = 0 at kappa = 1, u = 1/4 at kappa = 1/2
        "between_widths": 0,
        "spike_rate": 4 / 6,
        "resets": 2,
        "nonzero_gradients": 1 / 6,
    }
    closed = refusals.figures(a, 0.5, {"window_edge": "<=", "reset": "none"})
    assert closed["share_in_window"] == 4 / 6 and closed["resets"] == 0


# --- refusals ---------------------------------------------------------------------------------------------------------


def changed(id, **inputs):
    """The case with other inputs."""
    case = definition(id)
    return dataclasses.replace(case, make=lambda draw: {**case.make(draw), **inputs})


QUIET, LOUD = np.full((4, 3, 7), 0.1875), np.full((4, 3, 7), 0.6875)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (changed("lif-hard-attached", x=QUIET), "spike rate is 0.0"),
        (changed("lif-hard-attached", x=LOUD), "spike rate is 1.0"),
        (changed("lif-hard-attached", width=np.full(4, 64.0)), "100% of the values are in the window"),
        (changed("lif-hard-attached", ds=np.zeros((4, 3, 7))), "every gradient is zero"),
        (changed("lif-on-threshold", x=LOUD), "on_threshold is not true"),
        (dataclasses.replace(definition("lif-grid"), flags=("on_threshold",)), "on_window_edge is missing"),
        (dataclasses.replace(definition("lif-hard-attached"), decides=("spike_test",)), "spike_test changes nothing"),
        (changed("conv-same", dy=np.zeros((2, 2, 5, 7, 5))), "grad_weight is zero"),
        (dataclasses.replace(definition("net-no-reset"), draw=0), "take another draw"),
    ],
)  # fmt: skip
def test_cases_that_prove_nothing_are_refused(case, why):
    with pytest.raises(making.ProvesNothing, match=case.id) as error:
        making.generate(case)
    assert why in str(error.value)


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", list(definitions()))
def test_load_and_certificate(id):
    case = vectors.load_case(id)  # checks every hash
    assert list(case.bounds) == list(case.arrays)
    tier = case.meta["tier"]
    assert case.exact == (tier == 1) == (not any(b.any() for b in case.bounds.values()) and tier != 3)
    for array in (*case.arrays.values(), *case.inputs.values()):
        assert np.isfinite(array).all()
    if tier == 1:
        for name, array in case.arrays.items():
            assert np.array_equal(array.astype(np.float32), array), name
    for name, margin in case.margins.items():
        assert margin.min() > 2.0**-24, f"{name}: rounding in float32 could flip it"


@pytest.mark.parametrize("id", [*vectors.cases("lif", tier=3), *vectors.cases("network", tier=3)])
def test_certificate_names_the_place_and_the_distance(id):
    """The distances from the stored potentials, and that the margin is not promised where the distance is 0."""
    case = vectors.load_case(id)
    for kind, ending in (("spike", "s"), ("window", "window")):
        place = case.meta["certificate"][kind]
        if place["margin"] is None:
            assert all(np.isinf(m).all() for n, m in case.margins.items() if n.rpartition(".")[2] == ending)
            continue
        block, index = place["name"].rpartition(".")[0], tuple(place["index"])
        prefix = f"{block}." if block else ""
        v_th = case.meta["v_th"][block] if block else case.meta["v_th"]
        off = abs(case.arrays[f"{prefix}u"][index] - v_th)
        if kind == "window":
            off = abs(off - case.arrays[f"{prefix}width"][index[0]] / 2)
        assert off == place["distance"] > 0
        error = case.bounds[f"{prefix}u"][index] * 2.0**-24
        assert place["margin"] > 2.0**-22 and (error == 0 or off > error), "float32's error reaches the boundary"
        assert case.margins[place["name"]][index] <= place["margin"] <= 1.2 * case.margins[place["name"]][index]


def test_reading_needs_numpy_alone():
    code = (
        "import sys; from agl_ref.oracle import load_case; case = load_case('net-conv');"
        "print(len(case.arrays), sorted({'numba', 'scipy', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]") and int(done.stdout.split()[0]) > 20


@pytest.fixture
def folder(tmp_path):
    """A copy of two cases."""
    for name in ("lif-hard-attached.npz", "lif-realistic.npz", "manifest.json"):
        shutil.copy(vectors.FOLDER / name, tmp_path / name)
    return tmp_path


def rehash(folder, data):
    """Replace a file and its hash in the manifest."""
    (folder / "lif-hard-attached.npz").write_bytes(data)
    found = json.loads((folder / "manifest.json").read_text())
    for entry in found["cases"]:
        if entry["id"] == "lif-hard-attached":
            entry["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "manifest.json").write_text(json.dumps(found))


def saved(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_damaged_files_are_refused_in_one_line(folder):
    path = folder / "lif-hard-attached.npz"
    good = path.read_bytes()
    with np.load(path) as archive:
        arrays = {key: archive[key] for key in archive.files}
    bent = {**arrays, "arrays/u": arrays["arrays/u"] + np.float32(1e-7)}
    pickled = {**arrays, "arrays/u": np.array([{}], object)}
    cases = [
        (lambda: path.write_bytes(good[:-9]), "SHA-256"),
        (lambda: rehash(folder, good[: len(good) // 2]), "a whole zip"),
        (lambda: rehash(folder, saved(**bent)), "arrays/u with SHA-256"),
        (lambda: rehash(folder, saved(**pickled)), "pickled objects"),
        (lambda: rehash(folder, saved(**{**arrays, "header": np.frombuffer(b'{"id": 1}', np.uint8)})), "header"),
        (lambda: path.unlink(), "received nothing there.*reinstall"),
    ]
    for damage, why in cases:
        damage()
        with pytest.raises(ValueError, match=why) as error:
            vectors.load_case("lif-hard-attached", folder)
        assert "\n" not in str(error.value)
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ValueError, match="manifest"):
        vectors.load_case("lif-realistic", folder)
    (folder / "manifest.json").write_text('{"format": 9, "cases": []}')
    with pytest.raises(ValueError, match="format 1"):
        vectors.load_case("lif-realistic", folder)


def test_unknown_id_names_near_ones():
    with pytest.raises(ValueError, match="for example lif-hard-attached, lif-hard-detached"):
        vectors.load_case("lif-hard")
    for typed, meant in (("lif-realistc", "lif-realistic"), ("net_conv", "net-conv"), ("plif-Half", "plif-half")):
        with pytest.raises(ValueError, match=f"for example {meant}"):
            vectors.load_case(typed)


def test_write_reads_back_and_never_overwrites(tmp_path):
    for id in ("lif-realistic", "lif-strided-gradient"):
        made = making.generate(definition(id))
        vectors.write(made, tmp_path)
        back = vectors.load_case(id, tmp_path)
        for name, array in made.arrays.items():
            assert np.array_equal(back.arrays[name], array), name
            assert (back.bounds[name] >= made.bounds[name]).all()
            assert (back.bounds[name] <= 1.2 * made.bounds[name]).all()
        for name, margin in made.margins.items():
            assert (back.margins[name] <= margin).all()
        assert {n: a.flags.c_contiguous for n, a in back.inputs.items()} == {
            n: a.flags.c_contiguous for n, a in made.inputs.items()
        }
        with pytest.raises(ValueError, match="not stored yet"):
            vectors.write(made, tmp_path)
    assert not back.inputs["ds"].flags.c_contiguous


@pytest.mark.parametrize(
    "id", ["lif-hard-attached", "lif-adaptive", "plif-realistic", "tdbn-training", "net-linear", "loss-large-logits"]
)
def test_verify_agrees(id):
    assert making.verify(id) == []


def test_rewriting_bounds_keeps_values_and_refuses_others(tmp_path, capsys):
    """New bounds may be written, new values may not."""
    case = making.generate(definition("plif-realistic"))
    vectors.write(dataclasses.replace(case, bounds={n: 8 * b for n, b in case.bounds.items()}), tmp_path)
    assert making.verify("plif-realistic", tmp_path)
    assert making.rewrite_bounds(tmp_path) == 0
    assert making.verify("plif-realistic", tmp_path) == []
    other = tmp_path / "other"
    vectors.write(dataclasses.replace(case, arrays={**case.arrays, "u": case.arrays["u"] + 1.0}), other)
    before = (other / "manifest.json").read_bytes()
    assert making.rewrite_bounds(other) == 1
    assert "u differs" in capsys.readouterr().out and (other / "manifest.json").read_bytes() == before


def test_verify_finds_a_difference(tmp_path):
    case = making.generate(definition("plif-realistic"))
    du = case.arrays["du"].copy()
    at = np.unravel_index(np.abs(du).argmax(), du.shape)
    du[at] *= 1 + 1e-9
    vectors.write(dataclasses.replace(case, arrays={**case.arrays, "du": du}), tmp_path)
    assert any(problem.startswith("du differs") for problem in making.verify("plif-realistic", tmp_path))


# --- the second generator ---------------------------------------------------------------------------------------------


LARGE = vectors.cases(tier=1, flags="several_thread_blocks")


@pytest.mark.parametrize(
    "id", [pytest.param(id, marks=[pytest.mark.slow] if id in LARGE else []) for id in vectors.cases(tier=1)]
)
def test_tier_1_is_exact_in_rational_arithmetic(id):
    """Each value, bit for bit; and no value on the way needs more bits than the certificate says."""
    case = vectors.load_case(id)
    found, forward, everything = exact_vectors.evaluate(case)
    assert set(found) == set(case.arrays)
    for name, array in case.arrays.items():
        assert np.array_equal(exact.floats(found[name], np.float64), array), name
    assert forward.dyadic and everything.dyadic
    assert max(forward.bits, everything.bits) <= case.meta["certificate"]["bits"] <= 24


@pytest.mark.parametrize("id", vectors.cases(tier=2))
def test_tier_2_is_exact_forward_and_inside_its_bounds_backward(id):
    case = vectors.load_case(id)
    found, forward, _ = exact_vectors.evaluate(case)
    assert forward.dyadic and forward.bits <= case.meta["certificate"]["bits"] <= 24
    off = 0
    for name, array in case.arrays.items():
        if name in ("loss", "dlogits"):  # a softmax is no rational function
            continue
        right = exact.floats(found[name], np.float64)
        if name.rpartition(".")[2] in ("width", "x", "u", "s", "v", "logits"):
            assert np.array_equal(right, array), name
        else:
            assert (np.abs(right - array) <= case.bounds[name] * 2.0**-52).all(), name
            off += case.bounds[name].any()
    assert off, "every gradient is exact: the case belongs to tier 1"


def test_second_generator_sees_an_engine_that_is_wrong():
    case = vectors.load_case("lif-hard-attached")
    wrong = dataclasses.replace(case, conventions={**case.conventions, "reset_gradient": "detached"})
    found = exact_vectors.evaluate(wrong)[0]
    assert not np.array_equal(exact.floats(found["du"], np.float64), case.arrays["du"])


# --- export -----------------------------------------------------------------------------------------------------------


def read_safetensors(path):
    """{name: array} by the format's description, not by our writer."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    head = json.loads(data[8 : 8 + length])
    types = {"F32": "<f4", "F64": "<f8", "BF16": "<u2", "I64": "<i8"}
    body = data[8 + length :]
    return {
        name: np.frombuffer(body[slice(*facts["data_offsets"])], types[facts["dtype"]]).reshape(facts["shape"])
        for name, facts in head.items()
        if name != "__metadata__"
    }


def read_raw(path):
    files = json.loads((path / "header.json").read_text())["arrays"]
    types = {"float32": "<f4", "float64": "<f8", "uint16": "<u2", "int64": "<i8"}
    return {
        key: np.frombuffer((path / facts["file"]).read_bytes(), types[facts["dtype"]]).reshape(facts["shape"])
        for key, facts in files.items()
    }


def read_json(path):
    held = json.loads(path.read_text())["arrays"]
    return {
        key: np.array(
            [float.fromhex(v) if isinstance(v, str) else v for v in facts["data"]], facts["dtype"]
        ).reshape(facts["shape"])
        for key, facts in held.items()
    }  # fmt: skip


def read_npz(path):
    with np.load(path, allow_pickle=False) as archive:
        return {key: archive[key] for key in archive.files if key != "header"}


READERS = {"npz": read_npz, "safetensors": read_safetensors, "json": read_json, "raw": read_raw}


@pytest.mark.parametrize("format", READERS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_exports_hold_the_same_values(tmp_path, format, dtype):
    case = vectors.load_case("plif-realistic")
    held = READERS[format](exporting.export("plif-realistic", tmp_path, format, dtype))
    assert set(held) == {f"{part}/{name}" for part in ("inputs", "arrays", "bounds") for name in getattr(case, part)}
    for name, array in case.arrays.items():
        assert np.array_equal(held[f"arrays/{name}"], array.astype(dtype)) and held[f"arrays/{name}"].dtype == dtype
        assert (held[f"bounds/{name}"] >= case.bounds[name]).all()
    for name, array in case.inputs.items():
        assert np.array_equal(held[f"inputs/{name}"], array), name


@pytest.mark.parametrize("id", ["lif-grid", "lif-adaptive", "width-adaptive", "net-conv", "lif-sigmoid", "conv-same"])
def test_what_is_written_leaves_no_rule_to_a_default(tmp_path, id):
    meta = json.loads((exporting.export(id, tmp_path, "raw") / "header.json").read_text())["meta"]
    op, inputs = meta["op"], vectors.load_case(id).inputs
    surrogate = {"lif-sigmoid": "sigmoid"}.get(id, "rectangular")
    assert meta.get("surrogate") == (surrogate if op in ("lif", "network") else None)
    assert meta.get("alpha") == (1.0 if "gamma" in inputs else None)


def test_bfloat16_bits():
    """Round to nearest, ties to even, by hand."""
    values = np.array([1.0, -2.0, 1 + 2.0**-8, 1 + 3 * 2.0**-8, 3.140625, 0.0])
    assert [hex(v) for v in exporting.in_dtype(values, "bfloat16")] == [
        "0x3f80", "0xc000", "0x3f80", "0x3f82", "0x4049", "0x0",
    ]  # fmt: skip


def test_bfloat16_export_only_where_it_can_judge(tmp_path):
    path = exporting.export("lif-bfloat16", tmp_path, "safetensors", "bfloat16")
    held, case = read_safetensors(path), vectors.load_case("lif-bfloat16")
    wide = (held["inputs/x"].astype(np.uint32) << 16).view(np.float32)
    assert np.array_equal(wide, case.inputs["x"]), "an input rounded"
    with pytest.raises(ValueError, match="dtype: expected one of float64, float32"):
        exporting.export("lif-realistic", tmp_path, "npz", "bfloat16")


@pytest.mark.parametrize(("time", "channels"), [("TN", "first"), ("NT", "last"), ("NT", "first")])
def test_layouts_element_by_element(tmp_path, time, channels):
    case = vectors.load_case("conv-same")
    held = read_npz(exporting.export("conv-same", tmp_path, time=time, channels=channels))
    x, y, weight = case.inputs["x"], held["inputs/x"], held["inputs/weight"]
    for t, n, h, w, c in np.ndindex(*x.shape):
        lead = (t, n) if time == "TN" else (n, t)
        assert y[(*lead, c, h, w) if channels == "first" else (*lead, h, w, c)] == x[t, n, h, w, c]
    if channels == "first":
        assert weight.shape == (5, 3, 3, 3) and weight[4, 2, 0, 1] == case.inputs["weight"][0, 1, 2, 4]
        assert held["arrays/grad_weight"][4, 2, 0, 1] == case.arrays["grad_weight"][0, 1, 2, 4]
    else:
        assert np.array_equal(weight, case.inputs["weight"])
    assert held["arrays/grad_bias"].shape == (5,)


def test_layout_of_a_network_and_linear_weights(tmp_path):
    case = vectors.load_case("net-linear")
    held = read_npz(exporting.export("net-linear", tmp_path, time="NT", channels="first"))
    assert np.array_equal(held["inputs/fc.weight"], case.inputs["fc.weight"].T)
    assert np.array_equal(held["arrays/logits"][1, 4], case.arrays["logits"][4, 1].astype(np.float32))


def test_export_refuses(tmp_path):
    with pytest.raises(ValueError, match="format: expected one of npz"):
        exporting.export("conv-same", tmp_path, "hdf5")
    with pytest.raises(ValueError, match="at most 20000 values"):
        exporting.export("net-residual", tmp_path, "json")


# --- the command ------------------------------------------------------------------------------------------------------


def run(*args):
    return cli.main(["vectors", *args])


def test_command_list_and_show(capsys):
    assert run("list", "--flags", "gamma_zero", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert {"lif-gamma-zero", "width-gamma-zero"} <= {case["id"] for case in listed}
    assert run("list", "--op", "tdbn") == 0
    assert "tdbn-training" in capsys.readouterr().out
    assert run("show", "lif-on-threshold") == 0
    shown = capsys.readouterr().out
    assert "spike test" in shown and "on threshold 7" in shown and "reset_gradient attached" in shown
    assert run("show", "net-conv", "--json") == 0
    assert json.loads(capsys.readouterr().out)["conventions"]["reset"] == "hard"


def test_command_export_verify_certify(capsys, tmp_path):
    assert run("export", "pool-odd", "--format", "raw", "--out", str(tmp_path)) == 0
    assert np.array_equal(read_raw(tmp_path / "pool-odd")["arrays/y"], vectors.load_case("pool-odd").arrays["y"])
    capsys.readouterr()
    assert run("verify", "pool-odd", "lif-grid") == 0
    assert "2 of 2 cases are as stored" in capsys.readouterr().out
    assert run("certify", "lif-realistic", "lif-grid") == 0
    text = capsys.readouterr().out
    assert "nothing can flip" in text and "float32" in text


def test_command_errors_are_one_line(capsys):
    for args in (["show", "no-such-case"], ["list", "--flags", "fast"], ["export", "net-residual", "--format", "json"]):
        assert run(*args) == 3
        err = capsys.readouterr().err
        assert err.startswith("agl-ref: ") and err.count("\n") == 1


def test_verify_exit_code_when_a_case_differs(capsys, monkeypatch):
    monkeypatch.setattr(making, "verify", lambda id: ["du differs by 1"])
    assert run("verify", "lif-grid") == 1
    assert "lif-grid: du differs by 1" in capsys.readouterr().out


def test_generator_leaves_stored_files_alone(capsys, monkeypatch):
    """Running it again writes nothing and says so; a definition that was dropped stops it."""
    few = {id: definition(id) for id in ("pool-odd", "lif-grid")}
    monkeypatch.setattr(making, "definitions", lambda: few)
    with pytest.raises(RuntimeError, match="restore them"):
        making.main()
    entries = [entry for entry in vectors.manifest()["cases"] if entry["id"] in few]
    monkeypatch.setattr(making, "manifest", lambda folder=None: {"format": 1, "generator": "0", "cases": entries})
    monkeypatch.setattr(making, "write", lambda reference: pytest.fail("wrote a file"))
    assert making.main() == 0
    assert capsys.readouterr().out.count("as stored") == 2


def test_the_far_cases_catch_a_sigmoid_that_overflows():
    """exp(x) / (1 + exp(x)) is NaN in float32 beyond x = 88.7; 1 / (1 + exp(-x)) is right everywhere."""
    case = load_case("surrogate-sigmoid-far")
    z, kappa = np.float32(case.inputs["u"] - 0.5), np.float32(case.inputs["width"])[:, None]
    x = 4 * z / kappa
    with np.errstate(over="ignore", invalid="ignore"):
        wrong, right = np.exp(x) / (1 + np.exp(x)), 1 / (1 + np.exp(-x))
    assert np.isnan(wrong).sum() == 14 and np.isfinite(right).all()
    with pytest.raises(ValueError, match="y: expected finite"):
        compare(case, {"y": 4 * wrong * (1 - wrong) / kappa})
    assert compare(case, {"y": 4 * right * (1 - right) / kappa}).verdict == "PASS"
