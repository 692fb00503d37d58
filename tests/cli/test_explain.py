"""agl-ref explain: its numbers are those of the trace, or of the dump and its case, and nothing else."""

import json

import numpy as np
import pytest
from test_cli import one_line

import agl_ref as agl
from agl_ref import cli, oracle, train
from agl_ref.cli.shared import BAD_INPUT, FAILED
from agl_ref.engine.loss import of_network
from agl_ref.oracle.bounds.reference import collect
from agl_ref.oracle.judge.explain import telling
from agl_ref.oracle.problems import problem_of


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of two layers of four timesteps, after one epoch."""
    folder = tmp_path_factory.mktemp("explain")
    rng, y = np.random.default_rng(0), np.arange(40) % 2
    x = rng.integers(0, 100, (40, 8, 8)).astype(np.uint8)
    x[y == 1, :4] += 150
    np.savez(folder / "images.npz", x=x, y=y)
    config = train.TrainConfig(data=str(folder / "images.npz"), channels=(4, 6), T=4, epochs=1, batch=8, neuron="plif")
    train.Trainer(config, folder / "run").fit(progress=False)
    return folder / "run"


def explained(capsys, *argv, code=0):
    assert cli.main(["explain", *map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def traced(run, image):
    """Every array of the network on one test image."""
    trainer = train.open_run(run, start="read")
    trainer.load_checkpoint(run / "checkpoints" / "last.npz")
    x = trainer.encode(trainer.dataset.x_test[image : image + 1], np.random.default_rng([trainer.config.seed, 0, 2]))
    trace = trainer.net.forward(x, training=False)
    labels = trainer.dataset.y_test[image : image + 1]
    _, dlogits = of_network(trace.logits, labels, trainer.loss, trainer.net.conventions)
    return collect(trainer.net, trace, dlogits, "given")


@pytest.mark.parametrize("chosen", [(), ("--layer", "conv1", "--neuron", "1,2,3", "--image", "3")])
def test_the_numbers_are_those_of_the_trace(run, capsys, chosen):
    found = explained(capsys, run, *chosen)
    arrays = traced(run, found["image"])
    if chosen:
        assert (found["layer"], found["neuron"], found["image"]) == ("conv1", [1, 2, 3], 3)
    place = (slice(None), 0, *found["neuron"])
    for key in ("u", "s", "v", "ds", "du", "dx", "width"):
        values = {line["t"]: line["neuron"]["value"] for line in found["lines"] if line["step"] == key}
        array = arrays[f"{found['layer']}.{key}"]
        array = array if key == "width" else array[place]
        assert [values[t] for t in range(4)] == array.tolist(), key
    steps = [(line["t"], line["step"]) for line in found["lines"] if line["step"] in ("s", "du")]
    assert steps == [*((t, "s") for t in range(4)), *((t, "du") for t in reversed(range(4)))]


def test_a_neuron_is_chosen_that_shows_something(run, capsys):
    values = explained(capsys, run, "--image", 1)["values"]["neuron"]
    assert {"0", "1"} == set(values["s"]) and "inside" in values["window"] and set(values["dx"]) != {"0"}


def test_the_most_telling_neuron_fires_and_passes_through_the_window():
    u = np.array([[0.0, 0.6, 0.6, 5.0], [0.0, 0.6, 0.1, 5.0], [0.0, 0.6, 3.0, 0.4]])
    score, index = telling(u, (u >= 0.5) * 1.0, np.array([0.5, 0.5, 0.5]), np.ones_like(u), 0.5, "<")
    assert index == (2,) and score == 9  # the first is silent, the second never leaves; the last scores the same
    assert telling(u[:, :2], (u[:, :2] >= 0.5) * 1.0, np.ones(3), np.ones((3, 2)), 0.5, "<")[1] == (1,)


def test_the_equations_of_a_run_as_text_and_as_a_page(run, tmp_path, capsys):
    assert cli.main(["explain", str(run), "--html", str(tmp_path / "page.html")]) == 0
    text, page = capsys.readouterr().out, (tmp_path / "page.html").read_text(encoding="utf-8")
    for number in ("W1, W2", "F1", "F2", "F3", "S1, S2", "B1", "B2", "B3", "B4", "B5"):
        assert text.count(f"  {number} ") == page.count(f">{number}</th>") == (3 if number == "B5" else 4), number
    assert "http" not in page.replace("http-equiv", "") and "<svg" in page and str(run) not in page
    (tmp_path / "page.html").write_text("of an earlier call")
    assert cli.main(["explain", str(tmp_path / "absent"), "--html", str(tmp_path / "page.html")]) == BAD_INPUT
    assert "no such file" in one_line(capsys) and not (tmp_path / "page.html").exists()


@pytest.fixture
def dumps(tmp_path, monkeypatch):
    """Dumps of lif-grid, right and with a detached reset, and one of a convolution whose weight's gradient is wrong."""
    monkeypatch.chdir(tmp_path)
    case = oracle.load_case("lif-grid")
    detached = agl.Conventions(reset_gradient="detached")
    np.savez("lif-grid.npz", **problem_of(case).run(conventions=detached, dtype=np.float32))
    np.savez("right.npz", **problem_of(case).run(dtype=np.float32))
    conv = next(id for id in oracle.cases("conv2d"))
    arrays = problem_of(oracle.load_case(conv)).run(dtype=np.float32)
    np.savez(f"{conv}.npz", **{**arrays, "grad_weight": 2 * arrays["grad_weight"]})
    return conv


def test_a_dump_is_explained_where_it_diverges_first(dumps, capsys):
    found = explained(capsys, "lif-grid.npz", "--html", "page.html", code=FAILED)
    at = found["report"]["first_divergence"]
    assert at["name"] == "du"
    (line,) = [line for line in found["lines"] if line["diverges"]]
    assert (line["step"], line["t"], line["number"]) == ("du", at["index"][0], "B2")
    assert (line["expected"]["value"], line["received"]["value"]) == (at["expected"], at["received"])
    with open("page.html", encoding="utf-8") as file:
        page = file.read()
    assert at["expected_hex"] in page and "first divergence" in page.lower() and "received" in page
    assert cli.main(["explain", "lif-grid.npz"]) == FAILED
    assert "<- first divergence" in capsys.readouterr().out


def test_received_numbers_are_the_dump_s_or_follow_from_them(dumps, capsys):
    """With u, s and dx alone: no number of the case stands where the dump's own says otherwise."""
    case = oracle.load_case("lif-grid")
    own = problem_of(case).run(conventions=agl.Conventions(reset_gradient="detached"))
    np.savez("lif-grid.npz", **{name: own[name] for name in ("u", "s", "grad_x")})
    found = explained(capsys, "lif-grid.npz", code=FAILED)
    place = (slice(None), *found["report"]["first_divergence"]["index"][1:])
    received = {}
    for line in found["lines"]:
        received.setdefault(line["step"], {})[line["t"]] = line["received"]
    for key, array in (("u", "u"), ("s", "s"), ("dx", "grad_x"), ("du", "grad_x"), ("v", "v")):
        wanted = own[array][place]
        assert [received[key][t]["value"] for t in range(len(wanted))] == wanted.tolist(), key
    for line in received["dx"].values():  # B3: dx_t = du_t
        assert float(line["filled"].strip("()")) == pytest.approx(line["value"], rel=1e-5)
    cli.main(["explain", "lif-grid.npz"])
    said = capsys.readouterr().out
    assert ", the dump has " in said and "follows from what it has" in said


def test_a_dump_without_neurons_or_mistakes(dumps, capsys):
    assert cli.main(["explain", f"{dumps}.npz", "--html", "page.html"]) == FAILED
    assert "dweight[p, q] = sum_{b,i,j}" in capsys.readouterr().out
    assert cli.main(["explain", "right.npz", "--case", "lif-grid", "--html", "page.html"]) == 0
    assert capsys.readouterr().out.startswith("PASS  lif-grid")


@pytest.mark.parametrize("argv, words", [
    (["RUN", "--case", "lif-grid"], "--case: expected no such option for a run"),
    (["lif-grid.npz", "--layer", "conv1"], "--layer: expected no such option for a dump"),
    (["RUN", "--layer", "conv9"], "--layer: expected one of 'conv1', 'conv2'"),
    (["RUN", "--layer", "conv1", "--neuron", "1,2"], "--neuron: expected 3 indices"),
    (["RUN", "--layer", "conv1", "--neuron", "0,0,4"], "--neuron: expected indices inside"),
    (["RUN", "--image", "-1"], "--image: expected an integer >= 0, received -1"),
    (["right.npz"], "--case"),
])  # fmt: skip
def test_bad_input_is_one_line(run, dumps, capsys, argv, words):
    assert cli.main(["explain", *(str(run) if word == "RUN" else word for word in argv)]) == BAD_INPUT
    assert words in one_line(capsys)
