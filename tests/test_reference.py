"""reference.py's own rules: short enough for an evening, nothing imported but NumPy and the conventions, and it learns."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import helpers
import numpy as np
import pytest

from agl_ref import reference

FILE = Path(reference.__file__)
METHOD = FILE.with_name("METHOD.md")


def test_the_ground_floor_is_read_in_an_evening():
    lines, method = (len(path.read_text("utf-8").splitlines()) for path in (FILE, METHOD))
    assert 200 < lines <= 420
    assert lines + method <= 650


def test_it_imports_numpy_the_standard_library_and_the_conventions():
    imported = set()
    for node in ast.walk(ast.parse(FILE.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported.add("." * node.level + (node.module or ""))
    assert ".conventions" in imported and "numpy" in imported
    assert {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names} == {".conventions", "numpy"}


def test_importing_it_loads_none_of_the_upper_floors():
    loaded = (
        "import sys, agl_ref.reference; print(*[m for m in sys.modules if m.startswith(('agl_ref', 'numba', 'scipy'))])"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == {"agl_ref", "agl_ref.lazy", "agl_ref.reference", "agl_ref.conventions"}


def test_it_validates_nothing():
    tree = ast.parse(FILE.read_text("utf-8"))
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Raise, ast.Assert, ast.Try))]


# --- float32 stays float32 ------------------------------------------------------------------------


def float32_arrays():
    """{name: array or gradient} of a network's step and of the widths, all computed from float32 arrays."""
    rng = np.random.default_rng(0)
    block = {"kind": "block", "stride": 1, "padding": 1, "norm": {"alpha": 1.0, "eps": 1e-5}, "v_th": 0.5}
    layers = [
        {**block, "name": "a", "neuron": "plif"},
        {"kind": "pool"},
        {**block, "name": "b", "neuron": "lif", "decay": 0.3, "norm": None},
        {"kind": "flatten"},
        {"kind": "readout", "name": "fc"},
    ]
    shapes = {"a.weight": (3, 3, 2, 4), "b.weight": (3, 3, 4, 3), "b.bias": (3,), "fc.weight": (12, 3), "fc.bias": (3,)}
    params = {name: rng.normal(0, 0.5, shape).astype(np.float32) for name, shape in shapes.items()}
    params |= {
        "a.gamma": np.ones(4, np.float32),
        "a.beta": np.full(4, 0.25, np.float32),
        "a.w": np.array(-1, np.float32),
    }
    x, labels = rng.normal(0.5, 1, (3, 4, 4, 4, 2)).astype(np.float32), np.array([0, 1, 2, 0])
    for surrogate in ("rectangular", "triangular", "sigmoid", "arctan", "gaussian"):
        for preset in (reference.MPD_AGL, reference.MPD_AGL.__class__(input_scale="1 - tau", width_gradient="flows")):
            for loss in ("ce", "tet"):
                net = reference.Network(layers, params, preset, surrogate)
                _, grads, values, _ = reference.loss_and_grads(net, x, labels, loss)
                yield from values.items()
                velocity, own = {}, {name: value.copy() for name, value in params.items()}
                reference.sgd_step(own, grads, velocity, 0.1, weight_decay=1e-4)
                yield from own.items()


def test_float32_stays_float32():
    made = list(float32_arrays())
    assert {"a.u", "a.s", "b.du", "grad_a.gamma", "grad_b.bias", "grad_x", "logits", "dlogits"} < {
        name for name, _ in made
    }
    wrong = {name: np.asarray(value).dtype for name, value in made if np.asarray(value).dtype != np.float32}
    assert not wrong


# --- training -------------------------------------------------------------------------------------


def test_the_loss_falls():
    rng = np.random.default_rng(1)
    labels = np.arange(40) % 4
    x = rng.normal(0, 0.3, (2, 40, 6, 6, 1)).astype(np.float32)
    for k in range(4):  # class k is bright in its quarter
        x[:, labels == k, 3 * (k // 2) : 3 * (k // 2) + 3, 3 * (k % 2) : 3 * (k % 2) + 3] += 1.5
    block = {"kind": "block", "name": "conv", "stride": 1, "padding": 1, "norm": {"alpha": 1.0, "eps": 1e-5}}
    layers = [
        {**block, "neuron": "lif", "decay": 0.2, "v_th": 0.5},
        {"kind": "pool"},
        {"kind": "flatten"},
        {"kind": "readout", "name": "fc"},
    ]
    params = {"conv.weight": rng.normal(0, 0.4, (3, 3, 1, 5)), "fc.weight": rng.normal(0, 0.15, (45, 4))}
    params = {name: value.astype(np.float32) for name, value in params.items()}
    params |= {"conv.gamma": np.ones(5, np.float32), "conv.beta": np.zeros(5, np.float32)}
    net, velocity, losses = reference.Network(layers, params), {}, []
    first = params["conv.weight"].copy()
    for _ in range(15):
        loss, grads, values, _ = reference.loss_and_grads(net, x, labels)
        helpers.assert_case_is_telling(values["conv.u"], values["conv.width"], 0.5)
        reference.sgd_step(params, grads, velocity, 0.05)
        losses.append(loss)
    assert losses[0] > 1 and losses[-1] < 0.2 * losses[0]
    assert np.abs(params["conv.weight"] - first).max() > 0.01  # the gradient went through the neuron, too


@pytest.mark.slow
def test_the_command_trains_to_80_percent():
    one_thread = {**os.environ, **dict.fromkeys(("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_NUM_THREADS"), "1")}
    command = [sys.executable, "-m", "agl_ref.reference"]
    before = os.times()
    done = subprocess.run(command, env=one_thread, capture_output=True, text=True, check=True)
    after = os.times()
    seconds = after.children_user - before.children_user + after.children_system - before.children_system
    lines = [
        re.fullmatch(r"epoch (\d+): loss .* (\d+\.\d+), test accuracy (\d+\.\d)%", s) for s in done.stdout.splitlines()
    ]
    assert all(lines), done.stdout
    assert [int(line[1]) for line in lines] == list(range(1, len(lines) + 1)) and len(lines) > 1
    assert float(lines[-1][3]) >= 80 and float(lines[-1][2]) < 1.0
    # At most 90 s on two cores. The processor's time of one thread does not grow when others use the machine.
    assert seconds <= 90, f"{seconds:.0f} s of processor time"
