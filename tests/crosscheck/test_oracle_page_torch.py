"""The PyTorch part of the oracle's page, run as it stands: its dump passes, and a detached reset in it is named."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch")

from agl_ref import cli

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "agl_ref" / "oracle" / "README.md").read_text(encoding="utf-8")


def test_the_page_records_a_pytorch_neuron(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    section = PAGE[PAGE.index("## From PyTorch") : PAGE.index("## Is the oracle itself any good?")]
    (code,), (command,) = (re.findall(rf"```{kind}\n(.*?)```", section, re.S) for kind in ("python", "sh"))
    assert cli.main(["vectors", "export", "lif-grid", "--out", "cases"]) == 0
    wrong = code.replace("u * (1 - s)", "u * (1 - s.detach())")
    assert wrong != code
    for body, expected, words in (
        (code, 0, "PASS  lif-grid, judged in float32"),
        (wrong, 1, "conventions.reset_gradient is 'detached'"),
    ):
        done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "ran on cpu in torch.float32; autograd: SpikeBackward" in done.stdout
        capsys.readouterr()
        assert cli.main(command.split()[1:]) == expected
        assert words in capsys.readouterr().out
