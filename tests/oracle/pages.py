"""Reports as HTML pages, one of each kind, for test_page.py and for a look in a browser:

python tests/oracle/pages.py FOLDER; NODE_PATH=.venv-browser/node_modules node tests/oracle/browser.js FOLDER
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

import agl_ref as agl
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.judge.explain import as_html
from agl_ref.oracle.judge.neuron import pair_of
from agl_ref.oracle.judge.page import divergences, page
from agl_ref.oracle.problems import problem_of


def wrong_kernel():
    """A FAIL: a kernel that fires above the threshold only, of which three arrays were dumped."""
    case = load_case("lif-grid")
    arrays = problem_of(case).run(conventions=agl.Conventions(spike_test=">"), dtype=np.float32)
    return compare(case, {name: arrays[name] for name in ("u", "s", "grad_x")})


def right_kernel():
    """A PASS."""
    case = load_case("lif-realistic")
    return compare(case, {name: a for name, a in problem_of(case).run(dtype=np.float32).items() if name != "v"})


def network():
    """A FAIL in a network with residual blocks: the gradient of the potential, in the middle."""
    case = load_case("net-residual")
    arrays = {name: array.copy() for name, array in case.arrays.items()}
    middle = [name for name in arrays if name.endswith(".du")][1]
    arrays[middle][-1] *= 1.5
    return compare(case, arrays, dtype="float32")


def in_doubt():
    """An AMBIGUOUS: gradients that a spike may have changed, which the dump does not show."""
    case = load_case("net-residual")
    block = next(iter(case.meta["v_th"]))
    margins = {**case.margins, f"{block}.s": np.zeros(case.arrays[f"{block}.s"].shape)}
    gradients = {name: 1.001 * array for name, array in case.arrays.items() if name.startswith("grad_")}
    return compare(replace(case, margins=margins), gradients, dtype="float32", settle=False)


def reports():
    """{name: Report}."""
    return {make.__name__: make() for make in (wrong_kernel, right_kernel, network, in_doubt)}


def main(folder):
    """Write a page of each report, and one of all of them."""
    found = reports()
    for name, report in found.items():
        Path(folder, f"{name}.html").write_text(report.to_html(), encoding="utf-8")
    wrong, at = found["wrong_kernel"], found["wrong_kernel"].first_divergence
    received = {name: judged.received for name, judged in wrong.judged.items()}
    pair = pair_of(load_case(wrong.id), received, at["name"], at["index"])
    neuron = as_html("The neuron", pair[:2], (pair.key, at["index"][0]), divergences(wrong))
    Path(folder, "neuron.html").write_text(neuron, encoding="utf-8")
    Path(folder, "all.html").write_text(page(list(found.items())), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
