"""The kernels of tutorials/gpu on golden cases, and mutants of them: on the CPU, numba and Triton in their simulators.

Each implementation runs in a process of its own, since the simulators' variables are read at import. Of the golden cases that
the kernels offer, PyTorch runs all in both dtypes, Triton all in float32, numba and JAX those listed here: numba's simulator
starts a Python thread per GPU thread, JAX compiles per shape. `python tutorials/gpu/verdicts.py --impl numba` runs all.
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
JAX = """lif-grid lif-one-neuron lif-long lif-soft-attached lif-gamma-zero lif-many-neurons plif-realistic width-realistic
    tdbn-training-exact tdbn-large-mean net-linear""".split()

# What the kernels never hold in memory, or what a case gives them.
NOT_HELD = {"lif": {"v", "width"}, "plif": {"v", "width"}, "network": {"x", "v", "du", "dx", "width"}}
NOT_HELD |= dict.fromkeys(("surrogate", "width", "tdbn"), set())


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
        ("numba", "float64", ["lif-adaptive", "plif-realistic", "tdbn-evaluation-exact"], 3),
        ("triton", "float32", (), 64),
        ("triton", "float64", ["lif", "tdbn-training-exact"], 28),
        ("torch", "float32", (), 64),
        ("torch", "float64", (), 64),
        ("torch", "bfloat16", (), 8),
        ("jax", "float32", JAX, 11),
        ("jax", "float64", ["plif-realistic", "tdbn-training", "net-linear"], 3),
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
    for row in rows:
        left = {name.rpartition(".")[2] for name in row["not_checked"].split()}
        assert left <= NOT_HELD[row["op"]], row
    assert written["dtype"] == dtype and written["device"] and written["date"] and "agl_ref" in written["versions"]
    with next(tmp_path.glob("*.csv")).open(newline="") as file:
        assert [row["case"] for row in csv.DictReader(file)] == [row["case"] for row in rows]


def test_all_are_one_command(tmp_path):
    """Each implementation in its own process, and the worst exit code: Triton's interpreter does not round to bfloat16."""
    for impl in IMPLEMENTATIONS:
        needs(impl)
    result = ran("verdicts.py", "--impl", "all", "--cases", "lif-one-neuron", "--out", str(tmp_path))
    assert result.returncode == 0, result.stdout + result.stderr
    assert len(list(tmp_path.glob("*.json"))) == 4
    result = ran("verdicts.py", "--impl", "triton", "--dtype", "all", "--cases", "lif-bfloat16", "--out", str(tmp_path))
    assert result.returncode == 1 and len(list(tmp_path.glob("verdicts-triton-*.json"))) == 3


@pytest.mark.parametrize("impl", ["numba", "triton", "jax"])
def test_times(impl):
    """What is timed runs; the numbers mean nothing here."""
    needs(impl)
    result = ran("verdicts.py", "--impl", impl, "--cases", "lif-one-neuron", "--time", "--small")
    assert result.returncode == 0 and result.stdout.count("of the copy") == 3, result.stdout + result.stderr


def test_norm_of_triton_in_bfloat16():
    """No golden case has a tdBN in bfloat16. The kernels compute wide, and round what they store to 2**-9 of itself."""
    needs("triton")
    code = """
import numpy as np
from adapters import adapter_of
from verdicts import arrays_of
from agl_ref.oracle import load_case
adapter = adapter_of("triton", "bfloat16", "cpu")
for name in ("tdbn-training", "tdbn-many-rows", "tdbn-evaluation"):
    case = load_case(name)
    for key, array in arrays_of(adapter, case, "bfloat16").items():
        right = case.arrays[key]
        assert np.abs(array.detach().double().numpy() - right).max() < 0.02 * np.abs(right).max(), (name, key)
"""
    result = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=GPU, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


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
        assert (step["verdict"], step["backward"]) == ("PASS", "PASS") and step["flipped"] == 0 < step["values"]
        assert "NOT checked" in step["text"] and "grad_conv8.w" in step["text"]
    assert set(written["time"]) == {"T", "neurons", "copy", "forward", "backward"}
    assert all(written["time"][name]["seconds"] > 0 for name in ("copy", "forward", "backward"))


def test_bad_arguments():
    needs("torch")
    for args in (["--cases", "nope"], ["--dtype", "float16"]):
        result = ran("verdicts.py", "--impl", "torch", *args)
        assert result.returncode == 3 and "expected" in result.stderr and not result.stdout


@pytest.mark.parametrize("impl", ["torch", "numba"])
def test_no_gpu(impl):
    """Asked for a GPU that is not there, the command says so."""
    needs(impl)
    there = "from torch import cuda" if impl == "torch" else "from numba import cuda"
    there += "; assert cuda.is_available()"
    if subprocess.run([sys.executable, "-c", there], capture_output=True).returncode == 0:
        pytest.skip("a GPU is at hand")
    result = ran("verdicts.py", "--impl", impl, "--device", "cuda", "--cases", "lif-grid")
    assert (result.returncode, result.stdout) == (3, "") and "--device: expected a GPU" in result.stderr


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


# --- mutants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_every_mutant_is_caught_where_it_is(impl, folder):
    """And the source as it is passes the same cases; see try_mutants.py."""
    from mutants import MUTANTS

    needs(impl)
    result = ran("try_mutants.py", "--impl", impl)
    assert result.returncode == 0, result.stdout + result.stderr
    names = [line.split()[0] for line in result.stdout.splitlines()]
    assert names == [mutant.name for mutant in MUTANTS[impl]] and len(names) >= 10


def test_an_unknown_mutant_is_refused(folder, capsys):
    from try_mutants import main

    with pytest.raises(SystemExit):
        main(["--impl", "torch", "--mutants", "nosuch"])
    assert "received nosuch" in capsys.readouterr().err


@pytest.mark.parametrize("impl", IMPLEMENTATIONS)
def test_patches_fit(impl, folder):
    """Each changes the source, and one whose old text is not there exactly once is refused."""
    from adapters import MODULES
    from mutants import MUTANTS, Mutant
    from try_mutants import patched_source

    source = (GPU / f"{MODULES[impl]}.py").read_text()
    assert len({mutant.name for mutant in MUTANTS[impl]}) == len(MUTANTS[impl])
    for mutant in MUTANTS[impl]:
        assert patched_source(impl, mutant) != source
    for old, times in (("no such line", 0), ("\n", source.count("\n"))):
        with pytest.raises(RuntimeError, match=f"exactly once.*received it {times} times"):
            patched_source(impl, Mutant("bad", "", "lif-grid", "u", ((old, ""),)))


def test_caught_means_in_the_right_array(folder):
    from mutants import Mutant
    from try_mutants import caught

    mutant = Mutant("b", "", "lif-grid", "du", ())
    assert caught(mutant, "FAIL", "du[1, 0, 3]") and caught(
        mutant, "INVALID", "du: expected finite values, received nan"
    )
    assert (
        not caught(mutant, "PASS", "")
        and not caught(mutant, "AMBIGUOUS", "du[1]")
        and not caught(mutant, "FAIL", "u[1]")
    )


def test_triton_kernels_compile_for_a_gpu():
    """The interpreter takes what the compiler may not."""
    needs("triton")
    result = ran("compile_triton.py")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 30


def test_page(folder):
    """The page has a row for each mutant, in order, and its snippet of the kernel is the kernel's."""
    from mutants import MUTANTS

    page = (GPU / "README.md").read_text()
    rows = [line.split(" | ") for line in page.splitlines() if line.startswith("| `")]
    mutants = [mutant for impl in IMPLEMENTATIONS for mutant in MUTANTS[impl]]
    assert [row[0] for row in rows] == [f"| `{mutant.name}`" for mutant in mutants]
    for row, mutant in zip(rows, mutants, strict=True):
        assert row[1] == mutant.what and row[2].split(" in ")[0] == mutant.case and row[3] in ("FAIL", "INVALID")
        assert row[4].startswith(mutant.array)
    snippet = page.partition("```python\n")[2].partition("```")[0]
    assert snippet in (GPU / "lif_numba_cuda.py").read_text()
