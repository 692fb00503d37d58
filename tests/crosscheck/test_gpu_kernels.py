"""The kernels of tutorials/gpu on golden cases, and bugs put into them: on the CPU, numba and Triton in their simulators.

Each implementation runs in a process of its own, since the simulators' variables are read at import. Of the golden cases that
the kernels offer, PyTorch runs all in both dtypes, the others the ones listed here: the simulators start a Python thread, or a
NumPy call, per GPU thread or operation. `python tutorials/gpu/verdicts.py --impl numba` runs the rest.
"""

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from agl_ref.oracle import load_case

GPU = Path(__file__).parents[2] / "tutorials" / "gpu"
pytestmark = pytest.mark.skipif(not GPU.is_dir(), reason="needs the checkout's tutorials")
IMPLEMENTATIONS = ("numba", "triton", "torch", "jax")

# Thresholds and edges, both resets, strides, several forward passes, one neuron, 4099 neurons, every op.
NUMBA = """lif-grid lif-on-threshold lif-on-window-edge lif-one-neuron lif-one-timestep lif-soft-attached lif-hard-detached
    lif-adaptive lif-gamma-zero lif-strided-gradient lif-two-forwards lif-image lif-many-neurons plif-half plif-realistic
    surrogate-rectangular width tdbn-training-exact tdbn-evaluation""".split()
JAX = """lif-grid lif-on-threshold lif-one-neuron lif-long lif-soft-attached lif-gamma-zero lif-many-neurons lif-realistic
    plif-half plif-realistic surrogate-rectangular width-realistic tdbn-training-exact tdbn-large-mean net-linear
    net-evaluation""".split()


def needs(impl):
    name = {"numba": "numba", "triton": "triton", "torch": "torch", "jax": "jax"}[impl]
    if importlib.util.find_spec(name) is None or (impl == "triton" and importlib.util.find_spec("torch") is None):
        pytest.skip(f"{name} is not installed")


def ran(script, *args):
    """A script of the folder in a process of its own."""
    command = [sys.executable, "-W", "ignore", str(GPU / script), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=900)


@pytest.fixture
def folder(monkeypatch):
    """tutorials/gpu on the path, with modules that import no framework."""
    monkeypatch.syspath_prepend(str(GPU))


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("impl", "dtype", "wanted", "least"),
    [
        ("numba", "float32", NUMBA, 24),
        ("numba", "float64", ["lif-realistic", "plif-half", "tdbn-training-exact"], 3),
        ("triton", "float32", (), 54),
        ("triton", "float64", ["lif", "width", "tdbn"], 40),
        ("torch", "float32", (), 54),
        ("torch", "float64", (), 54),
        ("torch", "bfloat16", (), 8),
        ("jax", "float32", JAX, 16),
        ("jax", "float64", ["lif-realistic", "plif-realistic", "tdbn-training", "net-linear"], 4),
        ("jax", "bfloat16", ["lif-bfloat16", "width-adaptive"], 2),
    ],
)  # fmt: skip
def test_every_verdict_is_pass(impl, dtype, wanted, least, tmp_path):
    needs(impl)
    asked = ["--impl", impl, "--dtype", dtype, "--out", str(tmp_path)]
    result = ran("verdicts.py", *asked, *(["--cases", *wanted] if wanted else []))
    assert result.returncode == 0, result.stdout + result.stderr
    written = json.loads(next(tmp_path.glob("*.json")).read_text())
    rows = written["verdicts"]
    assert len(rows) >= least
    assert {row["verdict"] for row in rows} == {"PASS"} and all(row["checked"] >= 1 for row in rows)
    assert written["dtype"] == dtype and written["device"] and written["date"] and "agl_ref" in written["versions"]
    with next(tmp_path.glob("*.csv")).open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [row["case"] for row in rows]


def test_what_is_checked(tmp_path):
    """A neuron case covers widths, potentials, spikes and every gradient; a network all but what the fused kernel never holds."""
    needs("torch")
    result = ran(
        "verdicts.py", "--impl", "torch", "--cases", "lif-realistic", "plif-realistic", "net-vgg", "--out", str(tmp_path)
    )
    assert result.returncode == 0, result.stderr
    rows = {row["case"]: row for row in json.loads(next(tmp_path.glob("*.json")).read_text())["verdicts"]}
    assert rows["lif-realistic"]["not_checked"] == rows["plif-realistic"]["not_checked"] == "v"
    left = {name.rpartition(".")[2] for name in rows["net-vgg"]["not_checked"].split()}
    assert left == {"x", "v", "du", "dx"}


def test_training_step_and_times(tmp_path):
    """The parts that a GPU adds, on the CPU and small."""
    needs("torch")
    asked = ["--impl", "torch", "--cases", "lif-one-neuron", "--vgg", "--time", "--small", "--out", str(tmp_path)]
    result = ran("verdicts.py", *asked)
    assert result.returncode == 0, result.stdout + result.stderr
    written = json.loads(next(tmp_path.glob("*.json")).read_text())
    steps = written["vgg"]["runs"][0]["steps"]
    assert len(steps) == 2
    for step in steps:
        assert (step["verdict"], step["backward"]) == ("PASS", "PASS") and step["flipped"] == 0 < step["spikes"]
        assert "NOT checked" in step["text"] and "grad_conv8.w" in step["text"]
    assert set(written["time"]) == {"T", "neurons", "copy", "forward", "backward"}
    assert all(written["time"][name]["seconds"] > 0 for name in ("copy", "forward", "backward"))


def test_bad_arguments():
    needs("torch")
    for args in (["--cases", "nope"], ["--dtype", "float16"]):
        result = ran("verdicts.py", "--impl", "torch", *args)
        assert result.returncode == 3 and "expected" in result.stderr and not result.stdout


def test_judging(folder):
    """Exit codes, what is not finite, and a spike that contradicts the potential beside it."""
    from verdicts import exit_code, judge

    assert [exit_code(v) for v in (["PASS"], ["PASS", "AMBIGUOUS"], ["AMBIGUOUS", "FAIL"], ["INVALID"])] == [0, 2, 1, 1]
    case = load_case("lif-hard-attached")
    right = {name: case.arrays[name].astype(np.float32) for name in ("u", "s", "du")}
    assert judge(case, right, "float32")[:2] == ("PASS", "")
    assert judge(case, {**right, "du": right["du"] + 1}, "float32")[:2] == ("FAIL", "du[3, 0, 0]")
    verdict, where, report = judge(case, {**right, "u": np.full_like(right["u"], np.nan)}, "float32")
    assert verdict == "INVALID" and where.startswith("u: expected finite values") and report is None


# --- sabotage ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_every_bug_is_caught_where_it_is(impl, folder):
    """And the unbroken source passes the same cases; see sabotage.py."""
    from bugs import BUGS

    needs(impl)
    result = ran("sabotage.py", "--impl", impl)
    assert result.returncode == 0, result.stdout + result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == [bug.name for bug in BUGS[impl]] and len(names) >= 10


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_patches_fit(impl, folder):
    """Each changes the source, and one whose old text is not there exactly once is refused."""
    from adapters import MODULES
    from bugs import BUGS, Bug
    from sabotage import patched_source

    source = (GPU / f"{MODULES[impl]}.py").read_text()
    assert len({bug.name for bug in BUGS[impl]}) == len(BUGS[impl])
    for bug in BUGS[impl]:
        assert patched_source(impl, bug) != source
    for old, times in (("no such line", 0), ("\n", source.count("\n"))):
        with pytest.raises(RuntimeError, match=f"exactly once.*received it {times} times"):
            patched_source(impl, Bug("bad", "", "lif-grid", "u", ((old, ""),)))


def test_caught_means_in_the_right_array(folder):
    from bugs import Bug
    from sabotage import caught

    bug = Bug("b", "", "lif-grid", "du", ())
    assert caught(bug, "FAIL", "du[1, 0, 3]") and caught(bug, "INVALID", "du: expected finite values, received nan")
    assert not caught(bug, "PASS", "") and not caught(bug, "AMBIGUOUS", "du[1]") and not caught(bug, "FAIL", "u[1]")


def test_triton_kernels_compile_for_a_gpu():
    """The interpreter takes what the compiler may not."""
    needs("triton")
    result = ran("compile_triton.py")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 15
