"""Cases by size: exact where they say so, passed by what is right, and killed by faults that show beyond a size only."""

import json

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import cli, reference
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.cases import sizes
from agl_ref.oracle.cases.sizes import AXES, SIZES, by_size
from agl_ref.oracle.identify.search import identify_case
from agl_ref.oracle.problems import problem_of

LARGEST = [f"size-{op}-{axis}-{n}".replace("_", "-") for op, axis in AXES for n in (33, SIZES[-1])]
QUANTUM = {"conv2d": 4**2, "linear": 4**2, "avg_pool": 4 * 4, "global_avg_pool": 4 * 16}  # 1 over the unit of each sum


@pytest.mark.parametrize("id", LARGEST)
def test_right_ones_pass_in_every_order_of_summation(id):
    case = load_case(id)
    problem = problem_of(case)
    for dtype in (np.float32, np.float64):
        values = problem.run(reference, agl.MPD_AGL, dtype)
        assert compare(case, values).verdict == "PASS"
        if case.exact:  # float32 has no rounding here, and so no order of summation
            for name, array in case.arrays.items():
                assert np.array_equal(values[name], array), name


@pytest.mark.parametrize("id", [id for id in LARGEST if by_size()[id].op in QUANTUM])
def test_sums_are_exact_in_any_order(id):
    """Every partial sum is a multiple of the unit, and no larger than the sum of magnitudes: it has 24 bits."""
    case = load_case(id)
    problem = problem_of(case)
    problem.inputs = {name: np.abs(a) for name, a in problem.inputs.items()}
    for name, magnitude in problem.run().items():
        assert magnitude.max() * QUANTUM[case.meta["op"]] < 2**24, name


FAULTS = {  # (op, axis): arrays, and the axis of each along which a kernel forgets what lies beyond a size
    ("conv2d", "outputs"): {"y": -1, "grad_weight": -1, "grad_bias": -1},
    ("conv2d", "inputs"): {"grad_x": -1, "grad_weight": -2},
    ("conv2d", "width"): {"y": -2, "grad_x": -2},
    ("conv2d", "samples"): {"y": 1, "grad_x": 1},
    ("linear", "inputs"): {"grad_x": -1, "grad_weight": 0},
    ("linear", "outputs"): {"y": -1, "grad_weight": -1, "grad_bias": -1},
    ("linear", "samples"): {"y": 1, "grad_x": 1},
    ("tdbn", "channels"): {"y": -1, "grad_x": -1, "grad_gamma": -1, "grad_beta": -1},
    ("tdbn", "rows"): {"y": 1, "grad_x": 1},
    ("lif", "neurons"): {"u": -1, "s": -1, "v": -1, "du": -1, "grad_x": -1},
    ("lif", "samples"): {"u": 1, "s": 1, "v": 1, "du": 1, "grad_x": 1},
    ("lif", "timesteps"): {"u": 0, "s": 0, "v": 0, "du": 0, "grad_x": 0},
    ("avg_pool", "width"): {"y": -2, "grad_x": -2},
    ("avg_pool", "channels"): {"y": -1, "grad_x": -1},
    ("global_avg_pool", "channels"): {"y": -1, "grad_x": -1},
    ("cross_entropy", "classes"): {"dlogits": -1},
    ("cross_entropy", "samples"): {"dlogits": 1},
}
SUMS = {  # (op, axis): inputs and the axis of each that a sum runs over, and the arrays that it gives
    ("conv2d", "inputs"): ({"x": -1}, ("y",)),
    ("conv2d", "outputs"): ({"dy": -1}, ("grad_x",)),
    ("conv2d", "samples"): ({"dy": 1}, ("grad_weight", "grad_bias")),
    ("conv2d", "width"): ({"dy": -2}, ("grad_weight", "grad_bias")),
    ("linear", "inputs"): ({"x": -1}, ("y",)),
    ("linear", "outputs"): ({"dy": -1}, ("grad_x",)),
    ("linear", "samples"): ({"dy": 1}, ("grad_weight", "grad_bias")),
    ("tdbn", "rows"): ({"dy": 1}, ("grad_gamma", "grad_beta")),
    ("lif", "neurons"): ({"ds": -1}, ("grad_decay",)),
    ("lif", "samples"): ({"ds": 1}, ("grad_decay",)),
    ("lif", "timesteps"): ({"ds": 0}, ("grad_decay",)),
    ("width", "channels"): ({"gamma": -1}, ("width",)),
}


def forget(array, axis, size):
    """The array with zeros beyond `size` along an axis."""
    array = np.array(array)
    np.moveaxis(array, axis, 0)[size:] = 0
    return array


@pytest.mark.parametrize("size", [32, 128, 1024])
def test_faults_beyond_a_size_fail_at_the_next_larger_one(size):
    killed = 0
    for op, axis in AXES:
        case = load_case(f"size-{op}-{axis}-{size + 1}".replace("_", "-"))
        for name, where in FAULTS.get((op, axis), {}).items():
            twice = (op, axis, name) == ("avg_pool", "width", "grad_x")
            wrong = forget(case.arrays[name], where, 2 * size if twice else size)
            if not np.array_equal(wrong, case.arrays[name]):  # a potential may be 0 there
                assert compare(case, {name: wrong}, dtype="float32", guess=False).verdict == "FAIL", (case.id, name)
                killed += 1
        inputs, given = SUMS.get((op, axis), ({}, ()))
        problem = problem_of(case)
        problem.inputs |= {name: forget(problem.inputs[name], where, size) for name, where in inputs.items()}
        for name in given:
            wrong = problem.run()[name]
            assert compare(case, {name: wrong}, dtype="float32", guess=False).verdict == "FAIL", (case.id, name)
            killed += 1
    assert killed >= 55


def test_a_damaged_case_is_refused(monkeypatch, tmp_path):
    id, (inputs, arrays) = "size-linear-outputs-33", sizes.hashes_of(load_case("size-linear-outputs-33"))
    for held in ({}, {id: [inputs, inputs]}, {id: [arrays, arrays]}):
        (tmp_path / "sizes.json").write_text(json.dumps(held))
        monkeypatch.setattr(sizes, "FILE", tmp_path / "sizes.json")
        with pytest.raises(ValueError, match=f"{id}: expected SHA-256"):
            load_case(id)


@pytest.mark.parametrize("id", ["size-linear-outputs-34", "size-", "size-conv2d-classes-33"])
def test_an_unknown_size_is_refused(id):
    with pytest.raises(ValueError, match="case: expected size-OP-AXIS-N"):
        load_case(id)


def test_the_command_takes_them_like_any_other(tmp_path, capsys):
    case = load_case("size-lif-neurons-33")
    np.savez(tmp_path / "dump.npz", **{name: a.astype(np.float32) for name, a in case.arrays.items()})
    assert cli.main(["check", str(tmp_path / "dump.npz"), "--case", case.id]) == 0
    assert cli.main(["vectors", "export", case.id, "--out", str(tmp_path)]) == 0
    assert cli.main(["vectors", "show", case.id]) == 0
    assert cli.main(["vectors", "verify", case.id]) == 0
    capsys.readouterr()
    assert cli.main(["vectors", "list", "--sizes", "--json"]) == 0
    assert [entry["id"] for entry in json.loads(capsys.readouterr().out)] == list(by_size())
    assert cli.main(["vectors", "list", "--sizes"]) == 0
    assert "size-conv2d-outputs-N" in capsys.readouterr().out
    found = identify_case(case.id, problem_of(case).run(conventions=agl.Conventions(reset="soft")))
    assert found.wrong == {"reset": ("hard", "soft")}


@pytest.mark.slow
def test_all_are_what_was_published():
    assert len(by_size()) == len(AXES) * len(SIZES)
    for id in by_size():
        case = load_case(id)
        values = problem_of(case).run(reference, agl.MPD_AGL, np.float32)
        assert compare(case, values, guess=False).verdict == "PASS", id
        assert not case.exact or all(np.array_equal(values[name], a) for name, a in case.arrays.items()), id
