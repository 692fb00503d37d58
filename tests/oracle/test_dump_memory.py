"""A large dump is held once while it is judged: measured in a process of its own."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

COUNT, SHAPE = 120, (512, 512)  # arrays of 1 MiB in float32
CHILD = """
import re, sys
from dataclasses import asdict
import numpy as np
from agl_ref import MPD_AGL
from agl_ref.oracle.judge.compare import compare
from agl_ref.oracle.judge.dump import load_dump
from agl_ref.oracle.types import Reference

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

names = [f"grad_fc{i}.weight" for i in range(int(sys.argv[2]))]
ones = np.broadcast_to(1.0, tuple(map(int, sys.argv[3:])))
case = Reference("own", asdict(MPD_AGL), {"op": "linear"}, {}, dict.fromkeys(names, ones), dict.fromkeys(names, ones))
compare(case, {names[0]: np.float32(ones)}).to_html()
before = peak()
report = compare(case, load_dump(sys.argv[1]))
page = report.to_html()
print(report.verdict, len(report.checked), peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the peak of memory from /proc")
@pytest.mark.slow
@pytest.mark.parametrize("format", ["npz", "safetensors"])
def test_a_large_dump_is_held_once(tmp_path, format):
    array, path = np.ones(SHAPE, np.float32), tmp_path / f"dump.{format}"
    names = [f"grad_fc{i}.weight" for i in range(COUNT)]
    if format == "npz":
        np.savez(path, **dict.fromkeys(names, array))
    else:
        header = {
            name: {"dtype": "F32", "shape": SHAPE, "data_offsets": [i * array.nbytes, (i + 1) * array.nbytes]}
            for i, name in enumerate(names)
        }
        header = json.dumps(header).encode()
        path.write_bytes(len(header).to_bytes(8, "little") + header + COUNT * array.tobytes())
    command = [sys.executable, "-c", CHILD, path, COUNT, *SHAPE]
    answer = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=True).stdout
    verdict, checked, grown = re.fullmatch(r"(\w+) (\d+) (\S+)\n", answer).groups()
    assert (verdict, int(checked)) == ("PASS", COUNT)
    assert float(grown) < 1.6 * COUNT  # MiB: the dump, a bit for each element, and what one array needs
