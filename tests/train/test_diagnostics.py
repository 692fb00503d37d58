"""Statistics of the layers: by hand, by loops, against the theory; measured in training without changing a bit of it."""

import dataclasses
import json
import math
import os
import signal

import helpers
import numpy as np
import pytest
from test_train import CONFIG, tiny_dataset

import agl_ref as agl
from agl_ref import theory, train
from agl_ref.train import diagnostics, trainer

each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)
MEASURED = {"coverage", "firing_rate", "width", "mean", "std", "std_theorem1", "std_exact"}
OF_GRADIENTS = {"gradient_norm", "nonzero_gradient"}


def small_net(dtype=np.float64, neuron="lif", **conventions):
    net = agl.models.conv_snn(
        channels=(4, 6),
        image_size=8,
        num_classes=4,
        neuron=neuron,
        dtype=dtype,
        conventions=agl.Conventions(**conventions),
    )
    rng = np.random.default_rng(1)
    for name, value in net.parameters().items():
        if name.endswith((".gamma", ".beta")):
            value += rng.uniform(-0.2, 0.2, value.shape).astype(dtype)
    return net


def small_batch(dtype=np.float64, T=3, N=5):
    rng = np.random.default_rng(2)
    return rng.normal(size=(T, N, 8, 8, 1)).astype(dtype), rng.integers(0, 4, N)


def loop_statistics(u, s, dx, width, v_th, closed):
    """The same by loops over plain Python floats: {statistic: list of T}."""
    found = {key: [] for key in ("coverage", "firing_rate", "mean", "std", "gradient_norm", "nonzero_gradient")}
    for t in range(len(u)):
        values, spikes, gradients = (a[t].ravel().tolist() for a in (u, s, dx))
        n = len(values)
        half = float(width[t]) / 2
        mean = math.fsum(values) / n
        inside = [abs(v - v_th) <= half if closed else abs(v - v_th) < half for v in values]
        found["coverage"].append(sum(inside) / n)
        found["firing_rate"].append(sum(spikes) / n)
        found["mean"].append(mean)
        found["std"].append(math.sqrt(math.fsum((v - mean) ** 2 for v in values) / n))
        found["gradient_norm"].append(math.sqrt(math.fsum(g * g for g in gradients)))
        found["nonzero_gradient"].append(sum(g != 0 for g in gradients) / n)
    return found


@each_dtype
@pytest.mark.parametrize("neuron", ["lif", "plif"])
@pytest.mark.parametrize("edge", ["<", "<="])
def test_statistics_are_those_of_loops(dtype, neuron, edge):
    net, (x, labels) = small_net(dtype, neuron, window_edge=edge), small_batch(dtype)
    record = {}
    trace = net.loss_and_grads(x, labels, record=record).trace
    received = diagnostics.layer_statistics(trace, record)
    assert list(received) == ["conv1", "conv2"]
    for name, cache in trace.items():
        helpers.assert_case_is_telling(cache.u, cache.width, 0.5)
        assert set(received[name]) == MEASURED | OF_GRADIENTS
        expected = loop_statistics(cache.u, cache.s, record[f"{name}.dx"], cache.width, 0.5, edge == "<=")
        for key, values in expected.items():
            assert received[name][key].shape == (3,) and received[name][key].dtype == np.float64
            helpers.assert_close(
                received[name][key], values, 1e-6 if dtype == np.float32 else 1e-13, name=f"{name} {key}"
            )
        assert 0 < received[name]["nonzero_gradient"].min() < 1
        helpers.assert_equal(received[name]["width"], cache.width)


def test_the_edge_of_the_window_is_counted_as_the_convention_says():
    u, s = np.array([[[0.25, 0.5, 0.75, 1.5]]]), np.array([[[0.0, 1.0, 1.0, 1.0]]])
    for edge, share in (("<", 0.25), ("<=", 0.75)):
        net = small_net(window_edge=edge)
        trace = net.forward(np.ones((1, 1, 8, 8, 1)))
        cache = trace["conv1"]
        forced = cache._replace(neuron=cache.neuron._replace(u=u, s=s), width=np.array([0.5]))
        trace = dataclasses.replace(trace, caches=(forced, *trace.caches[1:]))
        received = diagnostics.layer_statistics(trace)["conv1"]
        assert received["coverage"].tolist() == [share] and received["firing_rate"].tolist() == [0.75]
        assert diagnostics.window_coverage(u, np.array([0.5]), 0.5, closed=edge == "<=").tolist() == [share]


def test_gradient_statistics_by_hand():
    norm, nonzero = diagnostics.gradient_statistics(np.array([[[3.0, 0.0], [4.0, -0.0]], [[0.0, 0.0], [0.0, 2.0]]]))
    assert (norm.tolist(), nonzero.tolist()) == ([5.0, 2.0], [0.5, 0.25])
    tiny = np.full((1, 4), 1e-30, np.float32)  # its square is no float32
    helpers.assert_close(diagnostics.gradient_statistics(tiny)[0], [2e-30], 1e-6)


@each_dtype
def test_moments_of_a_small_spread_beside_a_large_mean(dtype):
    step = 2.0**-10
    u = np.array([[1.0, 1.0 + step] * 5000], dtype)
    mean, std = diagnostics.potential_moments(u)
    helpers.assert_close(std, [step / 2], 1e-9)
    helpers.assert_close(mean, [1 + step / 2], 1e-12)


def test_predictions_are_the_theory_of_the_layers_own_norm():
    net, (x, _) = small_net(neuron="plif", reset="soft", input_scale="1 - tau"), small_batch()
    trace = net.forward(x)
    p = net.parameters()
    received = diagnostics.layer_statistics(trace)
    for name in received:
        tau = 1 / (1 + math.exp(-float(p[f"{name}.w"])))
        mu, sigma = (1 - tau) * p[f"{name}.beta"].mean(), (1 - tau) * 0.5 * p[f"{name}.gamma"].mean()
        helpers.assert_close(received[name]["std_exact"], theory.soft_reset(mu, sigma, tau, 0.5, 3).std, 1e-12)
        expected = sigma * np.sqrt([1, 1 + tau**2, 1 + tau**2])
        helpers.assert_close(received[name]["std_theorem1"], expected, 1e-12)
        assert set(received[name]) == MEASURED


def test_prediction_meets_measurement_where_its_assumptions_hold():
    # one layer, independent Gaussian inputs, equal channels; the exact law's deviation is then sampling error alone
    block = agl.SpikingBlock("one", agl.Linear(1, 1, bias=False), agl.TdBN(1), agl.LIF(0.9, 0.5))
    net = agl.Network([block, agl.Readout("fc", 1, 2)], (1,))
    N = 20_000
    trace = net.forward(np.random.default_rng(3).normal(size=(4, N, 1)))
    found = diagnostics.layer_statistics(trace)["one"]
    error = found["std"] / np.sqrt(2 * N)  # of a Gaussian, which it nearly is
    assert (np.abs(found["std_exact"] - found["std"]) < 4.5 * error).all()
    assert (np.abs(found["std_theorem1"] - found["std"])[1:] > 5 * error[1:]).all()


def test_without_a_norm_or_a_law_there_is_no_prediction_and_json_has_null():
    blocks = [
        agl.SpikingBlock("bare", agl.Linear(3, 4, seed=0), None, agl.LIF()),
        agl.SpikingBlock("normed", agl.Linear(4, 4, bias=False, seed=1), agl.TdBN(4), agl.LIF()),
    ]
    net = agl.Network([*blocks, agl.Readout("fc", 4, 2)], (3,))
    x = np.random.default_rng(4).normal(size=(2, 6, 3))
    net.parameters()["normed.gamma"][...], net.parameters()["normed.beta"][...] = 1e-9, 0.5  # too sharp at V_th
    found = diagnostics.layer_statistics(net.forward(x))
    assert np.isnan(found["bare"]["std_exact"]).all() and np.isnan(found["bare"]["std_theorem1"]).all()
    assert np.isnan(found["normed"]["std_exact"]).all() and (found["normed"]["std_theorem1"] > 0).all()
    text = json.dumps(diagnostics.as_json(found), allow_nan=False)
    assert json.loads(text)["bare"]["std_exact"] == [None, None]
    assert json.loads(text)["bare"]["std"] == found["bare"]["std"].tolist()


def test_a_record_without_the_input_gradient_is_the_same_but_for_it():
    net, (x, labels) = small_net(), small_batch()
    whole, part = {}, {}
    a = net.loss_and_grads(x, labels, record=whole)
    b = net.loss_and_grads(x, labels, record=part, input_gradient=False)
    helpers.assert_all_same_bits(a.grads, b.grads)
    assert whole.pop("x").shape == x.shape and "x" not in part
    helpers.assert_all_same_bits(whole, part)


# --- mean over the measured steps ---------------------------------------------------------------------------------


def test_running_mean_by_hand_and_through_json():
    first = diagnostics.Running()
    first.add({"a": {"std": np.array([1.0, 2.0])}})
    second = diagnostics.Running(json.loads(json.dumps(first.state)))
    for running in (first, second):
        running.add({"a": {"std": np.array([2.0, 5.0])}})
        running.add({"a": {"std": np.array([3.0, np.nan])}})
        assert running.mean() == {"steps": 3, "layers": {"a": {"std": [2.0, None]}}}


@pytest.fixture
def every_second(monkeypatch):
    monkeypatch.setattr(trainer, "DIAGNOSE_EVERY", 2)


def rows_of(run):
    return [{k: v for k, v in row.items() if k not in ("seconds", "resumed_at_batch")} for row in run.metrics()]


def test_every_epoch_has_the_mean_of_its_measured_batches(tmp_path, every_second, monkeypatch):
    seen = []
    layers = diagnostics.Observer.layers

    def watch(observer, net):
        found = layers(observer, net)
        if "gradient_norm" in found["conv1"]:  # else it watched an evaluation
            seen.append(found)
        return found

    monkeypatch.setattr(diagnostics.Observer, "layers", watch)
    run = train.Trainer(CONFIG, tmp_path / "run", tiny_dataset()).fit(progress=False)
    assert len(seen) == 6  # batches 0, 2, 4 of 5, two epochs
    for epoch, row in enumerate(run.metrics()):
        assert row["diagnostics"]["steps"] == 3
        assert list(row["diagnostics"]["layers"]) == ["conv1", "conv2"]
        for name, layer in row["diagnostics"]["layers"].items():
            assert set(layer) == MEASURED | OF_GRADIENTS
            for key, values in layer.items():
                expected = np.mean([found[name][key] for found in seen[3 * epoch : 3 * epoch + 3]], axis=0)
                helpers.assert_close(values, expected, 1e-14, name=f"{name} {key}")
            assert min(layer["gradient_norm"]) > 0 and 0 < min(layer["firing_rate"]) < 1
    a, b = (row["diagnostics"]["layers"]["conv1"]["std"] for row in run.metrics())
    assert a != b


@pytest.mark.parametrize("stop_after", [1, 3, 4, 5, 8])
def test_a_stopped_run_has_the_same_rows(tmp_path, every_second, monkeypatch, stop_after):
    whole = train.Trainer(CONFIG, tmp_path / "whole", tiny_dataset()).fit(progress=False)
    run = train.Trainer(CONFIG, tmp_path / "stopped", tiny_dataset())
    step, calls = run.step, []

    def step_then_signal(*args):
        calls.append(step(*args))
        if len(calls) == stop_after:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(run, "step", step_then_signal)
    with pytest.raises(train.Interrupted):
        run.fit(progress=False)
    resumed = train.Trainer(CONFIG, tmp_path / "stopped", tiny_dataset(), start="resume").fit(progress=False)
    assert rows_of(resumed) == rows_of(whole)


def test_measuring_changes_no_bit_of_the_run(tmp_path, monkeypatch):
    parameters = []
    for every in (1, 10**9):
        monkeypatch.setattr(trainer, "DIAGNOSE_EVERY", every)
        run = train.Trainer(CONFIG, tmp_path / str(every), tiny_dataset()).fit(progress=False)
        parameters.append({name: p.copy() for name, p in run.net.parameters().items()})
        assert run.metrics()[-1]["diagnostics"]["steps"] == (5 if every == 1 else 1)
    helpers.assert_all_same_bits(*parameters)


@pytest.mark.parametrize("rule", ["exact", "empirical"])
def test_training_with_a_measured_width_resumes_to_the_same_bits(tmp_path, rule):
    config = dataclasses.replace(CONFIG, width=rule, dtype="float32")
    whole = train.Trainer(config, tmp_path / "whole", tiny_dataset()).fit(progress=False)
    cut = train.Trainer(config, tmp_path / "cut", tiny_dataset())
    batches = agl.data.batches(40, 8, config.seed, 0)
    cut.optimiser.lr = agl.optim.cosine(config.lr, 0, 10)
    index = batches[0]
    cut.step(cut.dataset.x_train[index], cut.dataset.y_train[index], np.random.default_rng([config.seed, 0, 0, 1]))
    cut.batch = 1
    cut.save()
    del cut  # and with it the folder's lock
    resumed = train.Trainer(config, tmp_path / "cut", tiny_dataset(), start="resume")
    resumed.fit(progress=False)
    helpers.assert_all_same_bits(resumed.net.parameters(), whole.net.parameters())
    assert rows_of(resumed) == rows_of(whole)
    layers = whole.metrics()[-1]["diagnostics"]["layers"]
    predicted = "std_exact" if rule == "exact" else "std"
    for layer in layers.values():
        helpers.assert_close(layer["width"], 2 * np.array(layer[predicted]), 1e-6)
    adaptive = train.Trainer(dataclasses.replace(config, width="adaptive"), tmp_path / "other", tiny_dataset())
    adaptive.fit(progress=False)
    assert not np.array_equal(adaptive.net.parameters()["conv1.weight"], whole.net.parameters()["conv1.weight"])


@pytest.mark.parametrize("format", [1, 2, None])
def test_a_checkpoint_of_an_older_format_is_refused(tmp_path, format):
    run = train.Trainer(CONFIG, tmp_path / "run", tiny_dataset())
    run.save()
    del run  # and with it the folder's lock
    path = tmp_path / "run" / "checkpoints" / "last.npz"
    with np.load(path) as file:
        arrays = dict(file)
    meta = json.loads(str(arrays.pop("meta")))
    np.savez(path, meta=np.array(json.dumps({**meta, "format": format})), **arrays)
    with pytest.raises(train.CheckpointError, match="another format.*; delete it to start this run again"):
        train.Trainer(CONFIG, tmp_path / "run", tiny_dataset(), start="resume")


# --- operations -----------------------------------------------------------------------------------------------------------


def counted(x, weight, stride, padding):
    """(AC, MAC) of a convolution of x (T, N, H, W, C), product by product."""
    kh, kw, _, c_out = weight.shape
    T, N, H, W, C = x.shape
    ac = mac = 0
    for i in range((H + 2 * padding - kh) // stride + 1):
        for j in range((W + 2 * padding - kw) // stride + 1):
            for p in range(kh):
                for q in range(kw):
                    row, column = i * stride + p - padding, j * stride + q - padding
                    if 0 <= row < H and 0 <= column < W:
                        for value in x[:, :, row, column].ravel():
                            whole = float(value).is_integer()
                            ac += abs(value) * c_out if whole else 0
                            mac += 0 if whole else c_out
    return ac / N, mac / N


@pytest.mark.parametrize("kernel, stride, padding", [(3, 1, None), (3, 2, None), (5, 2, 1), (1, 2, 0), (3, 3, 0)])
def test_operations_are_those_of_the_products_one_by_one(kernel, stride, padding):
    rng = np.random.default_rng(0)
    blocks = [
        agl.SpikingBlock("one", agl.Conv2d(2, 3, kernel, stride, padding), agl.TdBN(3), agl.LIF()),
        agl.SpikingBlock("two", agl.Conv2d(3, 4, 3, 2), agl.TdBN(4), agl.LIF()),
    ]
    shape = blocks[0].output_shape((7, 10, 2))
    net = agl.Network(
        [*blocks, agl.Flatten(), agl.Readout("fc", math.prod(blocks[1].output_shape(shape)), 5)], (7, 10, 2)
    )
    x = rng.choice([0.0, 0.0, 1.0, 2.0, 0.3, -0.5], (3, 2, 7, 10, 2))
    trace = net.forward(x)
    found = diagnostics.synaptic_operations(trace, e_ac=1.0, e_mac=10.0)
    padding = kernel // 2 if padding is None else padding
    assert (found["one"]["ac"], found["one"]["mac"]) == counted(x, blocks[0].synapse.params["weight"], stride, padding)
    assert (found["two"]["ac"], found["two"]["mac"]) == counted(
        trace["one"].s, blocks[1].synapse.params["weight"], 2, 1
    )
    assert found["fc"]["ac"] == 5 * trace["two"].s.sum() / 2 and found["fc"]["mac"] == 0
    ones = counted(np.ones_like(x), blocks[0].synapse.params["weight"], stride, padding)
    assert found["one"]["dense"] == ones[0]
    assert all(layer["joules"] == layer["ac"] + 10 * layer["mac"] for layer in found.values())


def test_operations_of_residuals_and_pools_see_what_their_synapses_see():
    net = agl.models.sew_resnet19(2, 4, (2, 3, 4), 5, image_size=8)
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8, 2))
    trace = net.forward(x)
    found = diagnostics.synaptic_operations(trace)
    assert set(found) == {name.rsplit(".", 1)[0] for name in net.parameters() if name.endswith(".weight")}
    assert found["conv1"]["ac"] == 0 < found["conv1"]["mac"] == found["conv1"]["dense"]
    weight = trace.net.parameters()["res1.conv2.weight"]
    assert (found["res1.conv2"]["ac"], 0) == counted(trace["res1.conv1"].s, weight, 1, 1)
    second = trace["conv1"].s + trace["res1.conv2"].s  # 0, 1 and 2
    assert second.max() == 2 and (found["res2.conv1"]["ac"], 0) == counted(second, weight, 1, 1)
    assert found["hidden"]["mac"] > 0  # behind the average over the image
