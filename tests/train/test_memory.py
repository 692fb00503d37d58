"""The estimate of what a run takes."""

import json
import math
import subprocess
import sys

import numba
import pytest
from test_train import CONFIG, tiny_dataset

from agl_ref.train import build_network, memory

PEAK = r"""
import json, re, sys
import numpy as np
from agl_ref import data, train
from agl_ref.train import memory
x = np.random.default_rng(0).integers(0, 256, (500, 24, 24, 1)).astype(np.uint8)
dataset = data.Dataset("made", x, np.arange(500) % 10, x[:250], np.arange(250) % 10, 10)
config = train.TrainConfig(epochs=1, batch=500, **json.loads(sys.argv[2]))
run = train.Trainer(config, sys.argv[1], dataset)
parts = memory.estimate(run.config, run.net, dataset)
run.fit(progress=False).trace()
# Not getrusage: that peak counts what the parent had before this program was started.
peak = int(re.search(r"VmHWM:\s*(\d+) kB", open("/proc/self/status").read())[1]) * 1024
print(json.dumps([memory.PROCESS + sum(size for size, _ in parts.values()), peak]))
"""


@pytest.mark.skipif(numba.config.DISABLE_JIT or sys.platform != "linux", reason="the peak of compiled kernels, in KiB")
@pytest.mark.parametrize("options", [
    {"T": 8, "channels": [32, 32]},
    pytest.param({"T": 100, "channels": [1], "encoding": "events"}, marks=pytest.mark.slow),
])  # fmt: skip
def test_the_estimate_is_within_a_factor_of_two_of_the_peak(tmp_path, options):
    argv = [sys.executable, "-c", PEAK, str(tmp_path / "run"), json.dumps(options)]
    estimated, measured = json.loads(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    assert measured / 2 < estimated < 2 * measured and estimated > 2 * memory.PROCESS


def test_what_dominates_is_said():
    dataset = tiny_dataset()
    net = build_network(CONFIG, dataset)
    whole, tested = (memory.estimate(CONFIG, net, dataset, training) for training in (True, False))
    for parts, images in ((whole, "images"), (tested, "test images")):
        (weights, _), (values, _) = parts.values()
        assert weights == 5 * sum(p.nbytes for p in net.parameters().values())
        assert list(parts)[1].endswith(images) and values > 0
    assert sum(size for size, _ in tested.values()) <= sum(size for size, _ in whole.values())


@pytest.mark.parametrize("text, expected", [("max\n", math.inf), ("4096\n", 4096), (None, math.inf)])
def test_a_container_has_the_memory_that_it_was_given(tmp_path, monkeypatch, text, expected):
    path = tmp_path / "memory.max"
    if text is not None:
        path.write_text(text)
    monkeypatch.setattr(memory, "CGROUPS", ())
    whole = memory.machine()
    monkeypatch.setattr(memory, "CGROUPS", (path,))
    assert memory.machine() == min(whole, expected)
