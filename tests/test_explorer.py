"""The explorer's arithmetic, tutorials/explorer/neuron.js, under Node on the golden cases: the oracle is the judge.

The page itself is tried in a browser by tests/explorer/browser.js, which .ci/run starts.
"""

import base64
import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from agl_ref.conventions import Conventions
from agl_ref.oracle import cases, compare, load_case

ROOT = Path(__file__).parents[1]
EXPLORER = ROOT / "tutorials" / "explorer"
NEURON = EXPLORER / "neuron.js"
COVERED = {"lif": 58, "plif": 7, "surrogate": 14, "width": 15}
# What the page has no control for. Everything else that touches a neuron has to agree.
LEFT_OUT = {"width_gradient": "none", "norm_scale": "alpha V_th"}

pytestmark = pytest.mark.skipif(
    shutil.which("node") is None, reason="node is not installed: the page's JavaScript cannot be run"
)


def chosen():
    """The references of all cases whose conventions the page has."""
    found = [load_case(id) for op in COVERED for id in cases(op)]
    return [case for case in found if all(case.conventions[name] == value for name, value in LEFT_OUT.items())]


def run_node(references, script=NEURON):
    """{case's id: dump}, and the conventions that the file knows."""
    asked = [
        {
            "op": case.meta["op"],
            "conventions": {**case.conventions, "surrogate": case.meta.get("surrogate", "rectangular")},
            "meta": {k: v for k, v in case.meta.items() if k in ("v_th", "decay", "T", "alpha")},
            "inputs": {
                name: {"shape": array.shape, "data": array.astype(np.float64).ravel().tolist()}
                for name, array in case.inputs.items()
            },
        }
        for case in references
    ]
    command = ["node", str(ROOT / "tests" / "explorer" / "run_cases.js"), str(script)]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    dumps = [
        {k: np.frombuffer(base64.b64decode(a["base64"]), "<f8").reshape(a["shape"]) for k, a in dump.items()}
        for dump in answer["dumps"]
    ]
    return dict(zip([case.id for case in references], dumps, strict=True)), answer["choices"]


@pytest.fixture(scope="module")
def judged():
    references = chosen()
    return references, *run_node(references)


def test_the_oracle_passes_the_page_on_every_case_that_it_covers(judged):
    references, dumps, _ = judged
    covered = {op: sum(case.meta["op"] == op for case in references) for op in COVERED}
    assert covered == COVERED
    verdicts = {case.id: compare(case, dumps[case.id], dtype="float64").verdict for case in references}
    assert set(verdicts.values()) == {"PASS"}, {id: verdict for id, verdict in verdicts.items() if verdict != "PASS"}


def test_equal_to_the_last_bit_where_the_case_is_exact(judged):
    references, dumps, _ = judged
    exact = [case for case in references if case.meta["tier"] == 1]
    assert len(exact) > 30
    for case in exact:
        assert set(dumps[case.id]) == set(case.arrays), case.id
        for name, array in dumps[case.id].items():
            assert array.tobytes() == case.arrays[name].astype(np.float64).tobytes(), f"{case.id}: {name}"


def test_the_page_knows_the_values_of_conventions(judged):
    _, _, choices = judged
    own = ("exact", "empirical")  # they need samples, or an integral
    for name, values in Conventions.choices().items():
        if name in choices:
            assert set(choices[name]) == set(values) - set(own), name
            assert choices[name][0] == values[0], name


LEAK = "const before = t > 0 ? v[t - 1] : 0;\n    sum"
MUTANTS = {
    "a carry through a neuron that fired": ("dv[t] * (1 - s[t]) : dv[t]", "dv[t] : dv[t]"),
    "the reset's gradient with the wrong sign": ("ds[t] - (c.reset_gradient", "ds[t] + (c.reset_gradient"),
    "u in place of v in the leak's gradient": (LEAK, LEAK.replace("v[", "u[")),
    "an open window edge taken for a closed one": ('=== "<=" ? Math.abs(z)', '=== "<" ? Math.abs(z)'),
    "the first width throughout": ('rule !== "first"', "false"),
    "a spike only above the threshold": ('c.spike_test === ">=" ?', 'c.spike_test === ">" ?'),
}


@pytest.mark.parametrize("wrong", MUTANTS)
def test_the_oracle_fails_a_page_with_one_wrong_line(tmp_path, wrong):
    right, mistake = MUTANTS[wrong]
    source = NEURON.read_text(encoding="utf-8")
    assert source.count(right) == 1
    (tmp_path / "neuron.js").write_text(source.replace(right, mistake), encoding="utf-8")
    names = ("lif-hard-attached", "lif-on-threshold", "lif-on-window-edge", "lif-adaptive")
    references = [load_case(id) for id in names]
    dumps, _ = run_node(references, tmp_path / "neuron.js")
    verdicts = [compare(case, dumps[case.id], dtype="float64", guess=False).verdict for case in references]
    assert "FAIL" in verdicts


def test_the_page_opens_from_the_disk_and_stays_small():
    files = [path for path in EXPLORER.iterdir() if path.suffix in (".html", ".js", ".css")]
    text = {path.name: path.read_text(encoding="utf-8") for path in files}
    assert sum(len(content.splitlines()) for content in text.values()) <= 1200
    for name, content in text.items():
        assert "http:" not in content.replace("http://www.w3.org/2000/svg", "") and "https:" not in content, name
        assert not re.search(r"^\s*(import|export)\b|type=.module", content, re.M), name
