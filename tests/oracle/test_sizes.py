"""Cases by size: exact where they say so, passed by what is right, and killed by faults that show beyond a size only."""

import json

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import cli, reference
from agl_ref.oracle import cases, compare, load_case
from agl_ref.oracle.cases import sizes
from agl_ref.oracle.cases.sizes import AXES, by_size
from agl_ref.oracle.identify import identify_case
from agl_ref.oracle.mutants import truncations
from agl_ref.oracle.problems import problem_of

LARGEST = [
    f"size-{op}-{axis}-{n}".replace("_", "-") for op, axis in AXES for n in (33, 257 if axis == "timesteps" else 1025)
]
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


@pytest.mark.parametrize("size", [32, *(pytest.param(size, marks=pytest.mark.slow) for size in (128, 1024))])
def test_every_fault_beyond_a_size_is_killed_by_a_case_that_is_not_much_larger(size):
    assert truncations.survivors(size) == []


def test_the_table_of_kills_has_no_gap():
    kills = truncations.stored()
    assert list(kills) == truncations.faults()
    assert {op for op, _ in AXES} == {fault.split()[0] for fault in kills}
    for fault, counts in kills.items():
        assert len(counts) == len(truncations.SIZES)
        assert min(counts[:-1] if fault.endswith("timesteps") else counts) > 0, fault  # 4,097 of those take too long


def test_the_table_is_what_is_counted():
    """For the ops that are quick."""
    ops = ("width", "add", "global_avg_pool")
    found = truncations.count(
        [id for op in ops for id in cases(op)] + [i for i, case in by_size().items() if case.op in ops]
    )
    for fault, counts in truncations.stored().items():
        if fault.startswith(ops):
            assert found[fault] == counts, fault


def test_faults_by_hand():
    a = np.arange(1.0, 13).reshape(2, 3, 2)
    assert truncations.cut(a, -1, 1).ravel().tolist() == [1, 0, 3, 0, 5, 0, 7, 0, 9, 0, 11, 0]
    assert truncations.cut(a, slice(1, None), 4).ravel().tolist() == [1, 2, 3, 4, 0, 0, 7, 8, 9, 10, 0, 0]
    assert truncations.cut(a, slice(0, -1), 4)[1].tolist() == [[7, 8], [0, 0], [0, 0]]
    module = truncations.stopping("terms", 2)
    assert module.total(a) == 3 and module.total(a, (0, 1)).tolist() == [4, 6]
    assert module.product(np.ones((1, 3)), np.ones((3, 2))).tolist() == [[2, 2]]
    assert module.width_of_layer(np.array([1.0, 1.0, 2.0]), 0.5, 0.0, 1)[0] == pytest.approx(2 / 3)


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
    table = capsys.readouterr().out
    assert "size-conv2d-outputs-N" in table
    row = next(line for line in table.splitlines() if line.split()[:3] == ["width", "terms", "width"])
    assert [int(n) for n in row.split()[3:]] == truncations.stored()["width width terms"]
    found = identify_case(case.id, problem_of(case).run(conventions=agl.Conventions(reset="soft")))
    assert found.wrong == {"reset": ("hard", "soft")}


@pytest.mark.slow
def test_all_are_what_was_published():
    assert set(by_size()) == set(json.loads(sizes.FILE.read_text(encoding="utf-8")))
    for id in by_size():
        case = load_case(id)
        values = problem_of(case).run(reference, agl.MPD_AGL, np.float32)
        assert compare(case, values, guess=False).verdict == "PASS", id
        assert not case.exact or all(np.array_equal(values[name], a) for name, a in case.arrays.items()), id
