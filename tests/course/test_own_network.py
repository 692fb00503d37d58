"""The capstone: a student's functions are collected from the notebooks, and in a network of them the wrong one is named."""

import inspect
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import reference
from agl_ref.course import check_network, my_functions
from agl_ref.course.exercises import find
from agl_ref.course.own_network import PARTS, borrowed, small_network
from agl_ref.oracle import compare, load_case

TUTORIALS = Path(__file__).parents[2] / "tutorials"
CAPSTONE = TUTORIALS / "solutions" / "10_your_own_snn.ipynb"
if not CAPSTONE.is_file():
    pytest.skip("the tutorials are not installed", allow_module_level=True)
CELLS = [cell for cell in json.loads(CAPSTONE.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]


def cell(identity):
    (found,) = [cell for cell in CELLS if re.fullmatch(rf"c\d+-{identity}", cell["id"])]
    return "".join(found["source"])


def printed(identity):
    (found,) = [cell for cell in CELLS if re.fullmatch(rf"c\d+-{identity}", cell["id"])]
    return "".join("".join(output.get("text", "")) for output in found["outputs"])


@pytest.fixture(scope="module")
def network():
    """The functions that the notebook's cells define."""
    names = {"np": np, "SimpleNamespace": SimpleNamespace}
    for identity in "layer-forward layer-backward forward loss-and-grads start fit accuracy dump".split():
        exec(cell(identity), names)
    return SimpleNamespace(**names)


def notebook(folder, name, *sources, ids=()):
    """A notebook of code cells; those with an id are exercises."""
    ids = [*ids, *[None] * (len(sources) - len(ids))]
    cells = [{"cell_type": "code", "source": source, "metadata": {"nbgrader": {"grade_id": i}} if i else {}}
             for source, i in zip(sources, ids, strict=True)]  # fmt: skip
    (folder / name).write_text(json.dumps({"cells": cells}))


def everything_borrowed(**others):
    return SimpleNamespace(**{name: borrowed(name) for name in PARTS} | others)


# --- collecting -----------------------------------------------------------------------------------


@pytest.fixture
def handed(tmp_path):
    """handed(solved) is a folder with all notebooks, of which those that are named are solved."""

    def make(*solved):
        for path in TUTORIALS.glob("*.ipynb"):
            source = TUTORIALS / "solutions" / path.name if path.name[:2] in solved else path
            (tmp_path / path.name).write_text(source.read_text(encoding="utf-8"), encoding="utf-8")
        return tmp_path

    return make


def test_the_solved_notebooks_give_a_file_of_fifteen_functions_and_a_right_network(handed, network, capsys):
    my = my_functions(handed("01", "02", "03", "04", "05", "06", "10"))
    assert capsys.readouterr().out == "my_snn.py: 15 of 15 functions are yours.\n"
    text = (handed() / "my_snn.py").read_text()
    assert "borrowed" not in text and "SOLUTION" not in text and text.count("import numpy as np") == 1
    assert [name for name in PARTS if f"def {name}(" in text] == list(PARTS)
    assert "v = u[t] * (1 - s[t])" in text and len(text.splitlines()) < 200
    assert check_network(network.loss_and_grads, my) == ()
    assert capsys.readouterr().out.startswith("Right: 15 functions of yours")


def test_a_fresh_folder_says_where_to_write_what_and_its_network_works(handed, network, capsys):
    my = my_functions(handed())
    out = capsys.readouterr().out
    assert out.startswith("my_snn.py: 0 of 15 functions are yours; the course lends the others.\n")
    for line in (
        "tdbn_forward, tdbn_backward. Write in 04_membrane_potential.ipynb",
        "stride_backward, linear_backward. Write in 10",
    ):
        assert line in out
    assert check_network(network.loss_and_grads, my) == ()
    assert "nothing of yours is in it yet" in capsys.readouterr().out


def test_a_folder_with_one_wrong_function_gets_it_named(handed, network, capsys):
    folder = handed("06")
    path = folder / "03_bptt_by_hand.ipynb"
    written = json.loads(path.read_text())
    (answer,) = [c for c in written["cells"] if c["metadata"].get("nbgrader", {}).get("grade_id") == "lif_backward"]
    answer["source"] = (
        "def lif_backward(ds, u, s, decay, v_th, width):\n    dx, dv = 0 * u, 0 * u[0]\n"
        "    for t in reversed(range(len(u))):\n"
        "        h = (np.abs(u[t] - v_th) < width[t] / 2) / width[t]\n"
        "        dx[t] = dv * (1 - s[t]) + ds[t] * h  # my idea\n        dv = decay * dx[t]\n    return dx"
    )
    path.write_text(json.dumps(written))
    my = my_functions(folder)
    assert "7 of 15" in capsys.readouterr().out and "# my idea" in (folder / "my_snn.py").read_text()
    assert check_network(network.loss_and_grads, my) == ("lif_backward",)
    out = capsys.readouterr().out
    assert out.startswith("lif_backward is wrong. Your answer is what you get if the reset is detached")
    assert "In the network these are off: conv1.weight" in out
    my = my_functions(folder, borrow=["lif_backward"])
    assert "lif_backward" not in capsys.readouterr().out
    assert check_network(network.loss_and_grads, my) == ()


def test_a_helper_an_import_and_a_constant_come_along_and_a_new_answer_is_seen_at_once(tmp_path, capsys):
    leak = "@staticmethod\ndef leak(v): return FACTOR * v  # half"
    answer = "def lif_forward(x, decay, v_th):\n    return leak(x), math.pi"
    notebook(
        tmp_path, "01_one_neuron.ipynb", "import math\nfrom os import path, sep", "FACTOR = 2\nUNUSED = 1", leak, answer
    )
    assert my_functions(tmp_path).lif_forward(4, 0, 0) == (8, np.pi)
    text = (tmp_path / "my_snn.py").read_text()
    assert "@staticmethod\ndef leak" in text and "# half" in text and "UNUSED" not in text and "sep" not in text
    notebook(tmp_path, "01_one_neuron.ipynb", "import math", "FACTOR = 3", leak, answer)
    assert my_functions(tmp_path).lif_forward(4, 0, 0) == (12, np.pi)  # of the same length, in the same second


def test_one_name_for_two_things_is_refused_and_the_same_thing_twice_is_not(tmp_path):
    notebook(tmp_path, "01_one_neuron.ipynb", "from math import pi\ndef help(x):\n    return x * pi",
             "def lif_forward(x, decay, v_th):\n    return help(x), x")  # fmt: skip
    other = "def rectangular(z, width):\n    return help(z)"
    notebook(tmp_path, "02_why_a_surrogate.ipynb", "from math import pi, e\ndef help(x): return x * pi  # alike", other)
    assert my_functions(tmp_path).rectangular(1.0, 1.0) == np.pi
    notebook(tmp_path, "02_why_a_surrogate.ipynb", "def help(x): return -x", other)
    with pytest.raises(ValueError, match="02_why_a_surrogate.ipynb: expected help as in 01_one_neuron.ipynb, received"):
        my_functions(tmp_path)


def test_what_cannot_be_collected_is_said_in_words(tmp_path, capsys):
    notebook(tmp_path, "01_one_neuron.ipynb", "A = 1 / 0\ndef lif_forward(x, decay, v_th):\n    return A")
    with pytest.raises(
        ValueError, match="expected statements that run, received ZeroDivisionError.*in line 6.*collect"
    ):
        my_functions(tmp_path)
    notebook(tmp_path, "01_one_neuron.ipynb", "def lif_forward(x, decay, v_th):\n    return (", ids=["lif_forward"])
    assert my_functions(tmp_path).lif_forward is borrowed("lif_forward")
    assert "code cell 1 (lif_forward) is no Python, in its line 2" in capsys.readouterr().out
    (tmp_path / "01_one_neuron.ipynb").write_text("nothing")
    assert my_functions(tmp_path).lif_forward is borrowed("lif_forward")  # the others are not lost with it
    assert "01_one_neuron.ipynb: expected a notebook" in capsys.readouterr().out
    for bad, words in (({"folder": tmp_path / "none"}, "expected a folder"), ({"borrow": ["lif"]}, "expected one of")):
        with pytest.raises(ValueError, match=words):
            my_functions(**{"folder": tmp_path, **bad})


# --- naming the wrong part ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PARTS)
def test_every_known_mistake_in_a_network_is_named_with_its_own_sentence(name, network, capsys):
    parameters = ", ".join(find(name).parameters)
    assert len(find(name).mistakes) >= 3
    for sentence, mistake in find(name).mistakes.items():
        wrong = eval(f"lambda {parameters}: mistake({parameters})", {"mistake": mistake})
        assert check_network(network.loss_and_grads, everything_borrowed(**{name: wrong})) == (name,)
        out = capsys.readouterr().out
        assert out.startswith(f"{name} is wrong. ") and sentence in out and out.count("\n") == 1


def test_two_wrong_parts_are_both_named_and_a_crash_is(network, capsys):
    def tdbn_forward(x, gamma, beta, v_th):
        return undefined  # noqa: F821

    def adaptive_width(gamma, v_th, decay, T):
        return np.ones(T)

    wrong = everything_borrowed(adaptive_width=adaptive_width, tdbn_forward=tdbn_forward)
    assert set(check_network(network.loss_and_grads, wrong)) == {"tdbn_forward", "adaptive_width"}
    assert "tdbn_forward is wrong. It stops with NameError" in capsys.readouterr().out


def test_a_part_that_is_right_alone_and_wrong_in_the_network_is_named(network, capsys):
    def conv2d_forward(x, weight):  # which the exercise never sees at this size
        return borrowed("conv2d_forward")(x, weight) * (1 if len(x) < 10 else 2)

    assert check_network(network.loss_and_grads, everything_borrowed(conv2d_forward=conv2d_forward)) == (
        "conv2d_forward",
    )
    assert "conv2d_forward is wrong. Right. In the network these are off" in capsys.readouterr().out


def test_a_wrong_network_is_told_apart_from_wrong_functions(network, capsys):
    def swapped(my, p, x, labels):
        loss, grads = network.loss_and_grads(my, p, x, labels)
        return loss, grads | {"conv1.beta": grads["conv1.gamma"]}

    assert check_network(swapped, everything_borrowed()) == ("loss_and_grads",)
    out = capsys.readouterr().out
    assert out.startswith("The network itself is wrong") and out.endswith("these are off: conv1.beta.\n")
    assert check_network(lambda my, p, x, labels: None, everything_borrowed()) == ("loss_and_grads",)


def test_functions_that_are_right_alone_and_disturb_each_other_are_found(network, capsys):
    shared = set()

    def tdbn_forward(x, gamma, beta, v_th):
        shared.add("called")
        return borrowed("tdbn_forward")(x, gamma, beta, v_th)

    def linear_backward(dy, x, weight):
        disturbed = shared and x.shape[2] == 16  # as in the network, and in none of the exercise's inputs
        shared.clear()
        dx, dweight = borrowed("linear_backward")(dy, x, weight)
        return dx, 2 * dweight if disturbed else dweight

    together = everything_borrowed(tdbn_forward=tdbn_forward, linear_backward=linear_backward)
    assert check_network(network.loss_and_grads, together) == ("tdbn_forward", "linear_backward")
    assert "not all together: these are off: fc.weight. Do two share a global variable?" in capsys.readouterr().out


def test_what_is_no_network_is_refused(network):
    with pytest.raises(TypeError, match="loss_and_grads: expected a function, received int"):
        check_network(3, everything_borrowed())
    with pytest.raises(TypeError, match="my: expected what my_functions returned, received SimpleNamespace"):
        check_network(network.loss_and_grads, SimpleNamespace(lif_forward=None))


def test_the_small_network_fires_resets_and_has_neurons_on_both_sides_of_the_window():
    params, x, labels, expected = small_network()
    block = {"kind": "block", "stride": 2, "padding": 1, "neuron": "lif", "decay": 0.2, "v_th": 0.5}
    layers = [{**block, "name": name, "norm": {"alpha": 1.0, "eps": 1e-5}} for name in ("conv1", "conv2")]
    layers += [{"kind": "flatten"}, {"kind": "readout", "name": "fc"}]
    values = reference.loss_and_grads(reference.Network(layers, params), x, labels)[2]
    for name in ("conv1", "conv2"):
        s, width = values[f"{name}.s"], values[f"{name}.width"]
        inside = np.abs(values[f"{name}.u"] - 0.5) < width[:, None, None, None, None] / 2
        assert 0.2 < s.mean() < 0.8 and s[:-1].any() and 0.1 < inside.mean() < 0.9
    assert (params["conv1.gamma"] < 0).any() and params["conv1.gamma"].mean() > 0
    assert x.shape[2] % 2 == 1 and all(np.any(value) for value in expected.values())


# --- the notebook ---------------------------------------------------------------------------------


def test_the_network_learns_from_a_few_images(network):
    from agl_ref import data

    images = data.load("bundled").subset(120, 10)
    x = np.repeat((images.x_train / 255 - 0.29)[None] / 0.35, 2, axis=0)
    p, losses = network.fit(everything_borrowed(), x, images.y_train, epochs=3)
    assert 2.1 < losses[0] < 2.7 and losses[-3:].mean() < 1.7
    assert network.accuracy(everything_borrowed(), p, x, images.y_train) > 0.5


def test_the_solved_notebook_reached_three_in_four_and_passed_the_oracle():
    assert float(re.search(r"test accuracy ([\d.]+)%", printed("train"))[1]) >= 75
    assert printed("judge").count("PASS") == 9 and printed("judge-tdbn").startswith("PASS")
    assert printed("judge-conv").startswith("PASS") and printed("check-network").startswith("Right: 15 functions")
    for part in ("conv2d_backward_input", "lif_backward"):
        assert f"{part} is wrong" in printed("check-wrong")


@pytest.mark.parametrize("identity", ["equations", "source"])
def test_the_solved_notebook_shows_reference_py_as_it_is(identity, capsys):
    exec(cell(identity), {"agl": agl, "inspect": inspect})
    assert capsys.readouterr().out == printed(identity)


def test_the_oracle_judges_a_students_neuron(network):
    case = load_case("lif-grid")
    assert compare(case, network.neuron_dump(everything_borrowed(), case)).verdict == "PASS"
    strict = everything_borrowed(
        lif_forward=lambda x, decay, v_th: find("lif_forward").reference(x, decay, v_th, fires=np.greater)
    )
    assert compare(case, network.neuron_dump(strict, case)).verdict == "FAIL"
