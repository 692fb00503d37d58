"""Every public signature under values of every wrong kind: an error that says what was expected and received.

`good_calls` has one call of each public function, and each of its arguments is replaced by each of WRONG. What may be
accepted instead is in ACCEPTED; None is, where it is the default.
"""

import inspect
import warnings
from copy import copy

import numba
import numpy as np
import pytest

import agl_ref as agl
from agl_ref import course, data, interop, oracle, theory, train
from agl_ref.engine import models, ops, optim, width
from agl_ref.train import ablation, diagnostics, plots

pytestmark = pytest.mark.skipif(
    bool(numba.config.DISABLE_JIT), reason="minutes without the JIT, which validates nothing"
)


class Anything:
    """Nothing that is asked for is one."""

    def __init__(self, *args, **kwargs):
        pass


WRONG = {
    "None": None, "anything": Anything(), "class": Anything, "text": "nonsense", "nothing": "", "null": "a\0b",
    "bytes": b"ce", "true": True, "zero": 0, "one": 1, "minus1": -1, "huge": 10**400, "number": 3.25, "minus": -0.5,
    "nan": np.nan, "inf": np.inf, "complex": 1j, "date": np.datetime64("2020-01-01"), "list": [], "items": [None],
    "numbers": [0.5, 1], "texts": ["a"], "dict": {}, "keys": {1: np.ones(2)}, "values": {"w": None, "fc.bias": [1]},
    "set": {1}, "scalar": np.array(1.0), "masked": np.ma.masked, "empty": np.zeros((0, 3)), "truths": np.array([True, False]),
    "dates": np.array([["2020-01-01"]], "M8[D]"), "letters": np.array([["a"]]), "objects": np.array([[None]]),
    "complexes": np.ones((2, 3), complex), "half": np.ones((2, 3), np.float16), "integers": np.ones((2, 3), int),
    "mask": np.ma.masked_array(np.ones((2, 3)), mask=np.eye(2, 3, dtype=bool)), "nans": np.full((2, 3), np.nan),
    "infs": np.full((2, 3), np.inf), "rows": np.ones((2, 3)), "deep": np.ones((1,) * 9),
    "struct": np.zeros(2, [("x", float)]),
}  # fmt: skip

# What an argument may be besides that of the good call, by its name, or by the function's and its own.
POSITIVE, ARRAY, RECORD, TEXT = "number one scalar", "rows deep scalar", "dict keys values", "text nothing null"
NUMBER, AMOUNT, COUNT = POSITIVE + " zero minus1 minus", POSITIVE + " zero", "zero one"
ACCEPTED = {
    **dict.fromkeys("x z u ds logits dlogits dx gamma".split(), ARRAY),
    **dict.fromkeys("v_th eps alpha dt threshold sigma lr width".split(), POSITIVE),
    **dict.fromkeys("w mu target".split(), NUMBER),
    **dict.fromkeys("fixed_width weight_decay lam tet_lam seconds e_ac e_mac".split(), AMOUNT), "pull": NUMBER,
    "class_weights": "numbers", "label_smoothing": "zero",
    "momentum": "zero", "decay": "zero one scalar",
    **dict.fromkeys("T stride c_in c_out kernel channels f_in f_out num_classes in_channels image_size hidden n "
                    "batch_size total max_shift replays nodes epochs batch images threads seeds "
                    "classes units dimension".split(), "one"),
    **dict.fromkeys("padding step epoch".split(), COUNT), **dict.fromkeys("seed rng".split(), COUNT + " huge"),
    **dict.fromkeys("bias need_dx training relaxed input_gradient keep_trace guess settle closed progress".split(),
                    "true"),
    **dict.fromkeys("name title question axis data dask".split(), TEXT),
    **dict.fromkeys("path folder data_path".split(), "text"),
    **dict.fromkeys("record records turned conventions arms experiments done".split(), "dict"),
    **dict.fromkeys("force flags".split(), "list"), "observe": "class", "jobs": "one minus1",
    # what one function takes beyond these
    **dict.fromkeys(("randman train", "randman test"), "one"),
    "derivative width": AMOUNT, "fixed_width width": AMOUNT, "Law.coverage width": AMOUNT,
    "width_settings width": AMOUNT,
    **dict.fromkeys((f"{name} sigma" for name in ("theorem1", "no_reset", "hard_reset", "soft_reset")), AMOUNT),
    **dict.fromkeys(("update_running momentum", "TdBN momentum"), "zero one scalar"), "TrainConfig gamma": POSITIVE,
    **dict.fromkeys(("SGD lr", "Adam lr", "cosine lr"), AMOUNT), **dict.fromkeys(("SGD params", "Adam params"), "keys"),
    **dict.fromkeys(("empirical_width u", "potential_moments u"), ARRAY + " nans infs"),
    "predict guess": TEXT, "layer_statistics record": RECORD, "explore figure": "class", "force turned": RECORD,
    "width_of_layer gamma": "scalar None", "width_of_layer dtype": "None", "SpikingBlock norm": "None",
    **dict.fromkeys(("Conv2d seed", "Linear seed", "Readout seed"), COUNT + " huge list"),
    "Network.forward widths": "dict",
    **dict.fromkeys(("Network.backward record", "Network.loss_and_grads record"), RECORD),
    "Recordings names": "list texts",
    "Trainer.step rng": COUNT + " huge None", "Trainer.encode rng": COUNT + " huge None",
    "cases flags": "list empty dict",
    "pending done": RECORD + " set", "Experiment widths": "list numbers",
    **dict.fromkeys(("Dataset.subset n_train", "Dataset.subset n_test"), "one"), "cases tier": "one",
    "run_figure windows": "dict", "run_figure runs": "dict",
    **dict.fromkeys(("layer", "TrainConfig.from_json name", "check answer", "check student"), " ".join(WRONG)),
    "my_functions borrow": "list", "check_network loss_and_grads": "class",
}  # fmt: skip


@pytest.fixture(scope="module")
def good_calls(tmp_path_factory):
    """[(function, its arguments)]: those that have no default, and those whose default takes long."""
    folder = tmp_path_factory.mktemp("signatures")
    flat, x, kappa, ones = (
        np.random.default_rng(0).standard_normal((2, 3, 4)),
        np.ones((2, 3, 4, 4, 1)),
        np.ones(2),
        np.ones(4),
    )
    net, labels = models.conv_snn(image_size=4, num_classes=3, channels=(2, 2)), np.array([0, 1, 2])
    result = net.loss_and_grads(x, labels)
    trace, head = result.trace, agl.Network([agl.Readout("fc", 4, 3)], (4,))
    weight, layer = np.ones((3, 3, 1, 2)), {"gamma": ones, "v_th": 0.5, "decay": 0.2, "T": 2}
    law = {"mu": 0.0, "sigma": 0.5, "decay": 0.2, "v_th": 0.5, "T": 2}
    images, classes = np.arange(24 * 64, dtype=np.uint8).reshape(24, 8, 8, 1), np.arange(24) % 3
    np.savez(folder / "tiny.npz", x=images, y=classes, x_test=images[:6], y_test=classes[:6])
    config = train.TrainConfig(data=str(folder / "tiny.npz"), channels=(2,), T=2, epochs=1, batch=12)
    dataset = data.load(config.data)
    trainer = train.Trainer(config, folder / "run", dataset)
    trainer.fit(progress=False)
    rows, picture = trainer.metrics(), plots.Figure()
    event = np.array([(0, 0, 1, 1), (1, 1, 2, 0)], [("x", int), ("y", int), ("t", int), ("p", int)])
    recordings = data.Recordings([event] * 3, (2, 2))
    case = oracle.load_case("lif-hard-attached")
    u = {"u": case.arrays["u"]}
    own = oracle.Oracle(net)
    state, grads = interop.state_dict_to_torch(net), interop.grads_to_torch(net, result.grads)
    block = agl.SpikingBlock("a", agl.Linear(2, 2), None, agl.LIF())
    sgd, adam = optim.SGD({"w": ones.copy()}), optim.Adam({"w": ones.copy()})
    experiment = ablation.Experiment("?", {"a": {"channels": (2,), "T": 2}}, widths=("adaptive",), seeds=1)
    record = {"config": {}, "test_accuracy": 0.5, "layers": {"last": rows[-1]["diagnostics"]["layers"]}}
    records = {ablation.key_of(next(experiment.runs())[2]): record}
    windows = {"adaptive": {name: cache.width for name, cache in trace.items()}}
    points, at = {0.5: (0.5, 0.5), 2.0: (0.5, 0.5)}, {0.5: flat, 2.0: flat}
    return [
        (agl.Conventions, {}), (agl.MPD_AGL.differences, {"other": agl.MPD_AGL}),
        # the engine's operations
        (agl.lif_forward, {"x": flat}), (agl.plif_forward, {"x": flat, "w": -1.0}),
        (agl.lif_backward, {"ds": flat, "cache": agl.lif_forward(flat)[1], "width": kappa}),
        (agl.plif_backward, {"ds": flat, "cache": agl.plif_forward(flat, -1.0)[1], "width": kappa}),
        (agl.tdbn_forward, {"x": flat, "gamma": ones, "beta": ones}),
        (agl.tdbn_backward, {"dy": flat, "cache": agl.tdbn_forward(flat, ones, ones)[1]}),
        (agl.conv2d_forward, {"x": x, "weight": weight, "padding": 1}),
        (agl.conv2d_backward, {"dy": np.ones((2, 3, 4, 4, 2)), "cache": agl.conv2d_forward(x, weight, padding=1)[1]}),
        (agl.linear_forward, {"x": flat, "weight": np.ones((4, 2))}),
        (agl.linear_backward, {"dy": np.ones((2, 3, 2)), "cache": agl.linear_forward(flat, np.ones((4, 2)))[1]}),
        (agl.avg_pool_forward, {"x": x}), (agl.global_avg_pool_forward, {"x": x}), (agl.max_pool_forward, {"x": x}),
        (agl.max_pool_backward, {"dy": np.ones((2, 3, 2, 2, 1)), "cache": agl.max_pool_forward(x)[1]}),
        (agl.avg_pool_backward, {"dy": np.ones((2, 3, 2, 2, 1)), "cache": agl.avg_pool_forward(x)[1]}),
        (agl.global_avg_pool_backward, {"dy": np.ones((2, 3, 1)), "cache": agl.global_avg_pool_forward(x)[1]}),
        (agl.cross_entropy_forward, {"logits": flat, "labels": labels}),
        (agl.tet_forward, {"logits": flat, "labels": labels}),
        (agl.cross_entropy_backward, {"cache": agl.cross_entropy_forward(flat, labels)[1]}),
        (agl.tet_backward, {"cache": agl.tet_forward(flat, labels)[1]}),
        (agl.Loss, {}),
        (ops.derivative, {"z": ones, "width": 1.0}), (ops.primitive, {"z": ones, "width": 1.0}),
        (ops.update_running, {"running_mean": ones.copy(), "running_var": ones.copy(),
                              "cache": agl.tdbn_forward(flat, ones, ones)[1]}),
        # widths and laws
        (agl.adaptive_width, layer), (agl.geometric_width, layer), (agl.exact_width, {**layer, "beta": ones}),
        (agl.fixed_width, {"width": 1.0, "T": 2}), (agl.empirical_width, {"u": flat}),
        (width.potential_moments, {"u": flat}),
        (width.spread, {"rule": "adaptive", "decay": 0.2, "T": 2}),
        (width.spread_slope, {"rule": "adaptive", "decay": 0.2, "T": 2}),
        (width.width_of_layer, {**layer, "dtype": np.float64}),
        *((function, law) for function in (theory.theorem1, theory.no_reset, theory.hard_reset, theory.soft_reset)),
        (theory.law_of_layer, {**layer, "beta": ones}),
        (theory.theorem1(**law).coverage, {"width": 1.0}), (theory.theorem1(**law).density, {"z": ones}),
        # networks and optimisers
        (agl.Conv2d, {"c_in": 1, "c_out": 1}), (agl.Linear, {"f_in": 1, "f_out": 1}), (agl.TdBN, {"channels": 1}),
        (agl.LIF, {}), (agl.PLIF, {}), (agl.AvgPool, {}), (agl.SumPool, {}), (agl.MaxPool, {}), (agl.GlobalAvgPool, {}),
        (agl.Flatten, {}),
        (agl.Readout, {"name": "fc", "f_in": 1, "num_classes": 2}),
        (agl.SpikingBlock, {"name": "a", "synapse": agl.Linear(2, 2), "norm": agl.TdBN(2), "neuron": agl.LIF()}),
        (agl.Residual, {"name": "r", "body": [block]}),
        (agl.Network, {"layers": [agl.Readout("fc", 2, 2)], "input_shape": (2,)}),
        (models.conv_snn, {"image_size": 4, "channels": (2,)}),
        (models.fc_snn, {"image_size": 2, "channels": (2,)}),
        (models.vgg_snn, {"image_size": 16, "channels": (1, 1, 1, 1)}),
        (models.sew_resnet19, {"image_size": 4, "channels": (1, 1, 1), "hidden": 1}),
        (net.forward, {"x": x}), (net.predict, {"x": x}), (net.loss_and_grads, {"x": x, "labels": labels}),
        (net.backward, {"trace": trace, "dlogits": result.dlogits}), (net.update_running_statistics, {"trace": trace}),
        (trace.replace, {"name": "conv1"}), (trace.as_kept, {"name": "conv1"}),
        (optim.SGD, {"params": {"w": ones}}), (sgd.step, {"grads": {"w": ones}}),
        (optim.Adam, {"params": {"w": ones}}), (adam.step, {"grads": {"w": ones}}),
        (optim.cosine, {"lr": 0.1, "step": 1, "total": 2}),
        # data
        (data.crop_flip, {"images": images, "rng": 0}), (dataset.subset, {"n_train": 3, "n_test": 3}),
        *((kind, {"name": "a", "x_train": x_, "y_train": y, "x_test": x_, "y_test": y, "num_classes": 3})
          for kind, x_, y in ((data.Dataset, images, classes), (data.EventDataset, recordings, labels))),
        (data.first_of_each_class, {"y": labels, "n": 3, "num_classes": 3}),
        (data.batches, {"n": 4, "batch_size": 2, "seed": 0, "epoch": 0}),
        (data.channel_statistics, {"x": images}), (data.to_float, {"x": images, "dtype": np.float64}),
        (data.standardise, {"x": images, "mean": np.ones(1), "std": np.ones(1), "dtype": np.float64}),
        (data.encode, {"x": images / 255, "T": 2}), (data.simulated_events, {"x": images / 255, "T": 2, "rng": 0}),
        (data.event_frames, {"events": event, "T": 2, "sensor": (2, 2)}),
        (data.Recordings, {"events": [event], "sensor": (2, 2)}), (recordings.frames, {"T": 2}),
        (recordings.resized, {"size": (1, 1)}), (data.EventDataset("a", recordings, labels, recordings, labels, 3).resized,
                                                  {"size": (1, 1)}),
        (data.randman, {"classes": 2, "units": 2, "train": 1, "test": 1}),
        (data.from_tonic, {"train": [(event, 0), (event, 1)], "test": [(event, 0)], "sensor": (2, 2)}),
        (data.load, {"name_or_path": "bundled"}), (data.load_bundled, {}), (data.find_fashion_mnist, {}),
        *((read, {"folder": folder}) for read in (data.load_cifar10, data.load_idx, data.load_nmnist, data.load_heidelberg,
                                                       data.load_events_np)),
        *((read, {"path": folder}) for read in (data.load_npz, data.read_nmnist)),
        # the border to others
        (interop.from_layout, {"x": x, "axis_order": "TN..C"}), (interop.to_layout, {"x": x, "axis_order": "TN..C"}),
        (interop.conv_weight_from_torch, {"weight": weight}), (interop.conv_weight_to_torch, {"weight": weight}),
        (interop.load_torch_state_dict, {"net": net, "state": state}), (interop.state_dict_to_torch, {"net": net}),
        (interop.grads_to_torch, {"net": net, "grads": result.grads}),
        (interop.grads_from_torch, {"net": net, "grads": grads}),
        (interop.from_nir, {"graph": None, "dt": 1e-4, "conventions": agl.MPD_AGL, "surrogate": "arctan"}),
        *((function, {"net": net, "path": folder / "absent" / "a"})
          for function in (interop.load_safetensors, interop.save_safetensors)),
        # the oracle
        (oracle.reference, {"net": net, "x": x, "labels": labels, "replays": 2}), (oracle.Oracle, {"net": net}),
        (own.reference, {"x": x, "labels": labels}),
        (own.compare, {"reference": case, "theirs": u, "dtype": "float64"}),
        (oracle.compare, {"reference": case, "theirs": u}), (oracle.compare(case, u).to_html, {"title": "a"}),
        (oracle.assert_matches, {"case": case, "dtype": "float64", **u}),
        (oracle.force, {"reference": case, "theirs": u}), (oracle.load_dump, {"path": folder}), (oracle.cases, {}),
        (oracle.identify, {"net": head, "x": flat, "labels": labels, "theirs": {"logits": head.forward(flat).logits}}),
        (oracle.load_case, {"id": "lif-hard-attached"}),
        # training
        (train.TrainConfig, {}), (train.TrainConfig.from_json, {"text": config.to_json()}),
        (train.TrainConfig.from_file, {"path": folder / "run/config.json"}),
        (train.build_network, {"config": config, "dataset": dataset}),
        (train.require_fitting, {"config": config, "dataset": dataset}),
        (train.Trainer, {"config": config, "folder": folder / "run", "dataset": dataset, "start": "read"}),
        (train.open_run, {"folder": folder / "run", "start": "read"}), (trainer.fit, {"progress": False}),
        (trainer.load_checkpoint, {"path": folder / "run/checkpoints/last.npz"}), (trainer.evaluate, {}),
        (trainer.step, {"images": images, "labels": classes, "rng": np.random.default_rng(0)}), (trainer.trace, {}),
        (trainer.encode, {"images": images, "rng": np.random.default_rng(0)}),
        (diagnostics.window_coverage, {"u": flat, "width": kappa, "v_th": 0.5}),
        (diagnostics.synaptic_operations, {"trace": trace}),
        (diagnostics.layer_statistics, {"trace": trace}), (diagnostics.locate_forward, {"trace": trace}),
        (diagnostics.locate_backward, {"trace": trace, "dlogits": result.dlogits}),
        (diagnostics.require_finite, {"result": result}),
        (plots.run_figure, {"trace": trace, "windows": windows, "runs": {"adaptive": rows}, "title": ""}),
        (plots.threshold_figure, {"lines": dict.fromkeys("abcd", points), "potentials": at, "title": "",
                                  "windows": {name: {0.5: 1.0, 2.0: 1.0} for name in "ab"}}),
        (plots.spread_figure, {"rows": rows}), (plots.depth_figure, {"rows": rows, "key": "coverage"}),
        (plots.diagnostic_figures, {"rows": rows}),
        # the ablation and the course
        (ablation.Experiment, {"question": "?", "arms": {}}), (ablation.command_of, {"config": config}),
        (ablation.key_of, {"config": config}), (ablation.width_settings, {"width": 1.0, "T": 2}),
        (ablation.accuracies, {"experiment": experiment, "records": records}),
        (ablation.summary, {"experiment": experiment, "records": records}),
        (ablation.depth_profile, {"experiment": experiment, "records": records, "arm": "a", "statistic": "coverage"}),
        (ablation.pending, {"experiments": {"a": experiment}, "done": {}}), (ablation.train_one, {"config": config}),
        (ablation.read_results, {"path": folder / "results.jsonl"}),
        (ablation.run, {"experiments": {}, "folder": folder}),
        (course.my_functions, {"folder": folder}),
        (course.check_network, {"loss_and_grads": lambda *_: None, "my": course.my_functions(folder)}),
        (course.check, {"name": "what_pass_proves", "answer": "a"}),
        (course.explore, {"figure": course.figures.leak_factors}),
        (course.predict, {"name": "a", "guess": "b"}), (course.predictions, {}), (course.hint, {"name": "leak"}),
        (plots.save, {"figure": picture, "path": folder / "a.png"}),
    ]  # fmt: skip


# What the package makes itself, and what its own parts call with values that were checked already.
INNER = """
    Trace Result Reference Report Report.settled Report.text Reference.threshold Law Observer Observer.layers Running
    Running.add Network.check_input Trainer.augment Recordings.update check_width lif_backward_full
    kaiming_fan_out torch_linear width_gradient gradient_statistics predicted_std block_statistics as_json
    membrane_histograms training_curves panels Loss.targets Loss.require_classes
""".split()
PARTS = (agl.blocks.Layer, agl.Conv2d, agl.Linear, agl.TdBN, agl.LIF, agl.PLIF)
# Here the good call may be refused too: there is no such file, or no package for it.
READERS = """
    load_cifar10 load_idx load_nmnist load_heidelberg load_events_np load_npz read_nmnist
    from_nir load_safetensors save_safetensors load_dump
""".split()
OTHER_ERRORS = {
    "Trace.replace": KeyError,
    "Trace.as_kept": KeyError,
    **dict.fromkeys(("from_nir", "load_safetensors", "save_safetensors"), ImportError),
}


def public_names():
    """Qualified names of all public functions and classes, and of the classes' methods that take arguments."""
    packages = (agl, course, data, interop, oracle, train, ablation)
    modules = (theory, models, ops, optim, width, diagnostics, plots)
    listed = [getattr(package, name) for package in packages for name in package.__all__]
    listed += [value for module in modules for name, value in vars(module).items()
               if name[0] != "_" and getattr(value, "__module__", "").startswith(module.__name__)]  # fmt: skip
    classes = [value for value in listed if inspect.isclass(value) and not issubclass(value, BaseException)]
    methods = [method for value in classes if not issubclass(value, PARTS) for name, method in vars(value).items()
               if name[0] != "_" and inspect.isfunction(method)
               and len(inspect.signature(method).parameters) > 1]  # fmt: skip
    return {value.__qualname__ for value in [*filter(inspect.isroutine, listed), *classes, *methods]}


def test_every_public_function_is_called(good_calls):
    assert public_names() - set(INNER) - {function.__qualname__ for function, _ in good_calls} == set()


def outcome(function, arguments):
    """ "clear", "accepted", or the text of another error."""
    try:
        function(**arguments)
    except (ValueError, TypeError, OTHER_ERRORS.get(function.__qualname__, ValueError)) as error:
        return "clear" if "expected" in str(error) and "received" in str(error) else f"{type(error).__name__}: {error}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "accepted"


def accepted(function, parameter):
    """The labels of what this parameter may be."""
    labels = ACCEPTED.get(f"{function.__qualname__} {parameter.name}", ACCEPTED.get(parameter.name, ""))
    return set(labels.split()) | ({"None"} if parameter.default is None else set())


def test_a_wrong_value_is_refused_by_name(good_calls, tmp_path, monkeypatch):
    warnings.simplefilter("ignore")
    calls, bad = 0, []
    for i, (function, arguments) in enumerate(good_calls):
        (tmp_path / str(i)).mkdir()
        monkeypatch.chdir(tmp_path / str(i))  # a path "nonsense" is free for each
        found = outcome(function, arguments)
        if found != "accepted" and not (found == "clear" and function.__qualname__ in READERS):
            bad.append(f"{function.__qualname__}(): {found}")
        for parameter in inspect.signature(function).parameters.values():
            for label, value in WRONG.items() if parameter.kind is not parameter.VAR_KEYWORD else ():
                found = outcome(function, {**arguments, parameter.name: copy(value)})
                calls += 1
                if found != "clear" and not (found == "accepted" and label in accepted(function, parameter)):
                    bad.append(f"{function.__qualname__}({parameter.name}={label}): {found[:120]}")
    assert not bad, f"{len(bad)} of {calls} calls:\n" + "\n".join(bad)
