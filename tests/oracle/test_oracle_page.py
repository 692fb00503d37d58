"""The oracle's page: its commands and code are run as they stand, in an empty folder, and its table has every mutant."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from agl_ref import cli
from agl_ref.oracle import load_case
from agl_ref.oracle.mutants.registry import Kill, kills
from agl_ref.oracle.mutants.selftest import Row, Selftest
from agl_ref.oracle.mutants.table import mutant_of, mutants

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "agl_ref" / "oracle" / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(sh|python|text)\n(.*?)```", PAGE, re.S)
ROWS = re.findall(r"^\| `([^`]+)` \| (.+) \| (.+) \| (.*) \|$", PAGE, re.M)


def section(title):
    start = PAGE.index(f"## {title}\n")
    return re.findall(r"```(sh|python|text)\n(.*?)```", PAGE[start : PAGE.index("\n## ", start + 3)], re.S)


def run(blocks, folder, capsys):
    """Run commands and code in turn; each text block must be among the lines of what ran before it."""
    output, codes = "", []
    for kind, body in blocks:
        if kind == "sh":
            codes.append(cli.main(body.split()[1:]))
            output = capsys.readouterr().out
        elif kind == "python":
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            done = subprocess.run(
                [sys.executable, "-c", body], cwd=folder, capture_output=True, text=True, env=environment
            )
            assert done.returncode == 0, done.stderr
            output = done.stdout
        else:
            missing = [line for line in body.splitlines() if line not in output.splitlines()]
            assert not missing, f"{missing} not in\n{output}"
    return codes


def test_five_minutes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = section("Five minutes")
    assert [kind for kind, _ in blocks] == ["sh", "python", "sh", "text", "sh", "text"]
    assert run(blocks, tmp_path, capsys) == [0, 1, 1]
    right = blocks[1][1].replace("u[t] > v_th", "u[t] >= v_th")
    assert right != blocks[1][1]
    run([("python", right)], tmp_path, capsys)
    assert cli.main(["check", "dump.npz", "--case", "lif-grid"]) == 0


def test_your_own_network(tmp_path, capsys):
    run(section("Your own network"), tmp_path, capsys)


def test_the_table_has_every_mutant():
    assert [row[0] for row in ROWS] == [mutant.id for mutant in mutants()]
    for (_, effect, _, named), mutant in zip(ROWS, mutants(), strict=True):
        assert effect == mutant.effect.rstrip(".")
        assert named == ("yes" if mutant.kind == "convention" else "")


@pytest.mark.parametrize("row", ROWS[::7], ids=lambda row: row[0])
def test_the_tables_killers_kill(row):
    mutant = mutant_of(row[0])
    named = re.findall(r"`([^`]+)`", row[2])
    assert named and [kill.case for kill in kills(mutant, [load_case(id) for id in named])] == named


def test_the_table_is_what_selftest_prints():
    """The page's rows, which the tests above hold to the code, as `selftest --mutants --markdown` lays them out."""
    kinds = {mutant.id: mutant.kind for mutant in mutants()}
    rows = [
        Row(
            id,
            kinds[id],
            effect,
            [Kill(case, "", "FAIL") for case in re.findall(r"`([^`]+)`", cases)],
            named == "yes" or None,
        )
        for id, effect, cases, named in ROWS
    ]
    assert Selftest(0, 0, [], rows).markdown() in PAGE


def test_the_readme_says_how_many_wrong_implementations_there_are():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"each of {len(mutants())} wrong implementations" in readme


def test_selftest_prints_both_tables(monkeypatch, capsys):
    from agl_ref.cli import selftest as command
    from agl_ref.oracle.mutants import selftest as module

    chosen = [load_case("lif-grid"), load_case("lif-on-threshold-strict")]
    few = {"convention:spike_test=>", "convention:spike_test=>=", "no-carry", "reset-term-sign"}
    result = module.selftest(True, chosen, only=few)
    monkeypatch.setattr(command, "selftest", lambda *args, **kwargs: result)
    assert cli.main(["selftest", "--mutants", "--markdown", "brief"]) == 0
    brief = capsys.readouterr().out
    assert "| `reset-term-sign`, `no-carry` | `lif-grid`, `lif-on-threshold-strict` |  |" in brief
    assert "| `spike_test=>` | `lif-grid` | yes |" in brief
    assert cli.main(["selftest", "--mutants", "--markdown"]) == 0
    assert "| `no-carry` | No gradient" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["identify", "none.npz", "--case", "lif-grid"], "no such file"),
        (["identify", "dump.npz", "--case", "no-case"], "expected an id"),
        (["identify", "cut.npz", "--case", "lif-grid"], "cut.npz"),
        (["identify", "shape.npz", "--case", "lif-grid"], "(2, 3)"),
        (["identify", "nan.npz", "--case", "lif-grid"], "finite"),
        (["identify", "name.npz", "--case", "lif-grid"], "unknown name"),
    ],
)
def test_bad_input_of_identify_is_one_line_and_code_3(argv, words, tmp_path, monkeypatch, capsys):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    u = load_case("lif-grid").arrays["u"].astype(np.float32)
    np.savez("dump.npz", u=u)
    np.savez("shape.npz", u=np.zeros((2, 3), np.float32))
    np.savez("nan.npz", u=np.full_like(u, np.nan))
    np.savez("name.npz", potential=u)
    Path("cut.npz").write_bytes(Path("dump.npz").read_bytes()[:-40])
    assert cli.main(argv) == 3
    shown = capsys.readouterr()
    assert words in shown.err and shown.err.count("\n") == 1 and shown.out == ""


def test_identify_prints_json_for_programs(tmp_path, monkeypatch, capsys):
    import numpy as np

    monkeypatch.chdir(tmp_path)
    np.savez("dump.npz", **{n: a.astype(np.float32) for n, a in load_case("lif-grid").arrays.items()})
    assert cli.main(["identify", "dump.npz", "--case", "lif-grid", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["verdict"] == "conventions"
