"""The benchmarks: their PyTorch twin computes the very step that is timed, and each command runs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
ROOT = Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(ROOT))

import agl_ref as agl  # noqa: E402
from tests.benchmarks import torch_twin as twin  # noqa: E402

NETS = {
    "sew": (lambda: agl.models.sew_resnet19(channels=(4, 6, 8), hidden=5, image_size=8), 3, 8),
    "vgg": (lambda: agl.models.vgg_snn(channels=(4, 6, 8, 8), image_size=32), 2, 32),
    "demo": (lambda: agl.models.conv_snn(channels=(4, 6, 8)), 1, 28),
}
TWINS = {
    "sew": lambda T: twin.sew_resnet19(T, (4, 6, 8), 5),
    "vgg": lambda T: twin.vgg_snn(T, 32, (4, 6, 8, 8)),
    "demo": lambda T: twin.conv_snn(T, (4, 6, 8)),
}


@pytest.mark.parametrize("name", NETS)
def test_the_twin_does_the_same_training_step(name):
    make, channels, size = NETS[name]
    rng = np.random.default_rng(1)
    net, T, N = make(), 3, 4
    for key, p in net.parameters().items():
        if key.endswith((".gamma", ".beta")):  # so that many neurons fire and the layers' widths differ
            p += rng.uniform(0.1, 0.5, p.shape)
    theirs = twin.load(TWINS[name](T).double(), net.parameters())
    x, labels = rng.normal(size=(T, N, size, size, channels)), np.arange(N)
    theirs, tx = twin.prepare(theirs, torch.tensor(x).permute(0, 1, 4, 2, 3))
    loss = twin.make_step(theirs)(tx, torch.tensor(labels))
    result = net.loss_and_grads(x, labels)
    for block, cache in result.trace.items():
        assert 0.02 < cache.s.mean() < 0.98, block
    assert loss == pytest.approx(result.loss, rel=1e-12)
    names = [key.removesuffix(".gamma") for key in result.grads if key.endswith(".gamma")]
    expected = {}
    for key, value in twin.gradients(theirs).items():
        i, _, kind = key.partition(".")
        expected[key if i == "fc" else f"{names[int(i)]}.{kind}"] = value
    assert set(result.grads) - set(expected) == {"fc.weight"}
    for key, value in expected.items():
        assert np.abs(value).max() > 0, key
        np.testing.assert_allclose(result.grads[key], value, rtol=0, atol=1e-10 * np.abs(value).max(), err_msg=key)
    optimiser = agl.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    optimiser.step(result.grads)
    weights = [block.synapse.weight for block in theirs.modules() if isinstance(block, twin.Block)]
    for key, weight in zip(names, weights, strict=True):
        ours = net.parameters()[f"{key}.weight"]
        ours = ours.transpose(3, 2, 0, 1) if ours.ndim == 4 else ours.T
        np.testing.assert_allclose(ours, weight.detach().numpy(), rtol=0, atol=1e-12, err_msg=key)


@pytest.mark.parametrize(
    "command, rows",
    [("step", 1), ("lif", 3), ("memory", 1), ("scaling", None), ("start", 2), ("diagnostics", 1), ("roofline", 16)],
)
def test_a_command_prints_its_rows(command, rows):
    if command == "memory" and not os.path.exists("/proc/self/status"):
        pytest.skip("resident memory is read from /proc")
    arguments = [command, "--tiny", "--json", "--repeats", "1", "--nets", "demo", "--dtypes", "float32"]
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=170
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert rows is None or len(found) == rows
    for row in found:
        assert row["command"] == command
        numbers = [v for v in row.values() if isinstance(v, float)]
        assert numbers and all(np.isfinite(v) for v in numbers)
        if "ratio" in row:
            assert (row["ratio"] > 0 or command == "diagnostics") and row["met"] == (row["ratio"] <= row["target"])
