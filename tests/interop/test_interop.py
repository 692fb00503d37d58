"""Layouts, state dicts and gradients: where each value goes, there and back, refusals. No PyTorch is needed here."""

import subprocess
import sys

import numpy as np
import pytest

import agl_ref as agl
from agl_ref import interop

X = np.arange(2 * 3 * 4 * 5 * 6, dtype=np.float32).reshape(2, 3, 4, 5, 6)  # T, N, H, W, C


def test_each_value_goes_to_its_place():
    official, common = interop.to_layout(X, "NTC.."), interop.to_layout(X, "TNC..")
    assert official.shape == (3, 2, 6, 4, 5) and common.shape == (2, 3, 6, 4, 5)
    assert official[2, 1, 5, 3, 0] == X[1, 2, 3, 0, 5] == common[1, 2, 5, 3, 0]


@pytest.mark.parametrize("axis_order", interop.LAYOUTS)
@pytest.mark.parametrize("x", [X, X[:, :, 0, 0]])
def test_there_and_back(x, axis_order):
    back = interop.from_layout(interop.to_layout(x, axis_order), axis_order)
    np.testing.assert_array_equal(back, x)
    assert back.dtype == x.dtype and back.flags.c_contiguous


def test_conv_weights_there_and_back():
    w = X[0]  # (kh, kw, C_in, C_out) = (3, 4, 5, 6)
    torch = interop.conv_weight_to_torch(w)
    assert torch.shape == (6, 5, 3, 4) and torch[5, 4, 2, 1] == w[2, 1, 4, 5]
    np.testing.assert_array_equal(interop.conv_weight_from_torch(torch), w)


def test_bad_layouts_are_refused():
    with pytest.raises(ValueError, match="axis_order: expected one of"):
        interop.to_layout(X, "NCHW")
    with pytest.raises(ValueError, match="at least 3 axes"):
        interop.from_layout(X[0, 0, 0], "TN..C")
    with pytest.raises(TypeError, match="x: expected ndarray"):
        interop.from_layout([1], "TN..C")


# --- PyTorch state dicts --------------------------------------------------------------------------------------------

# What the official repository's modules hold at the paper's sizes, written out by hand; norms and w are added below.
VGG_CONVS = {
    "encode.0": (64, 2), "features.0": (128, 64), "features.3": (256, 128), "features.5": (256, 256),
    "features.8": (512, 256), "features.10": (512, 512), "features.13": (512, 512), "features.15": (512, 512),
}  # fmt: skip
VGG_NEURONS = ["encode.1", "features.1", "features.4", "features.6", "features.9", "features.11", "features.14",
               "features.16"]  # fmt: skip
RESNET_CHANNELS = [(128, 128)] * 3 + [(128, 256), (256, 256), (256, 256), (256, 512), (512, 512)]


def with_norm(prefix, shape):
    vectors = ("bn.weight", "bn.bias", "bn.running_mean", "bn.running_var")
    return {f"{prefix}.layer.weight": shape, **{f"{prefix}.{key}": shape[:1] for key in vectors}}


def official_vgg():
    shapes = {}
    for prefix, channels in VGG_CONVS.items():
        shapes.update(with_norm(prefix, (*channels, 3, 3)))
    shapes.update({f"{prefix}.neuron.w": () for prefix in VGG_NEURONS})
    return {**shapes, "classifier.0.layer.weight": (10, 512 * 3 * 3), "classifier.0.layer.bias": (10,)}


def official_resnet():
    shapes = {**with_norm("encode.0", (128, 3, 3, 3)), "encode.1.neuron.w": ()}
    for i, (c_in, c_out) in enumerate(RESNET_CHANNELS):
        stem = f"ResNetBlocks.{i}.0"
        shapes.update(with_norm(f"{stem}.conv1", (c_out, c_in, 3, 3)))
        shapes.update(with_norm(f"{stem}.conv2", (c_out, c_out, 3, 3)))
        shapes.update({f"{stem}.spike1.neuron.w": (), f"{stem}.spike2.neuron.w": ()})
        if c_in != c_out:
            shapes.update(with_norm(f"{stem}.downsample.0", (c_out, c_in, 1, 1)))
            shapes[f"{stem}.downsample.1.neuron.w"] = ()
    shapes.update(with_norm("fc.0", (256, 512)))
    return {**shapes, "fc.1.neuron.w": (), "fc.2.layer.weight": (10, 256)}


@pytest.mark.parametrize(
    ("model", "expected", "count"),
    [("vgg_snn", official_vgg(), 9_268_754), ("sew_resnet19", official_resnet(), 12_698_260)],
)
def test_the_papers_networks_have_the_official_names_shapes_and_parameter_counts(model, expected, count):
    net = getattr(agl.models, model)(dtype=np.float32)
    state = interop.state_dict_to_torch(net)
    assert {name: array.shape for name, array in state.items()} == expected
    learned = [name for name in expected if not name.endswith(("running_mean", "running_var"))]
    assert sum(state[name].size for name in learned) == count
    grads = interop.grads_to_torch(net, net.parameters())
    assert sorted(grads) == sorted(learned)
    native = interop.state_dict_to_torch(net, names="native")
    assert native.keys() == {**net.parameters(), **net.running_statistics()}.keys()
    assert native["conv1.weight"].shape == expected["encode.0.layer.weight"]


def small_vgg(**options):
    return agl.models.vgg_snn(channels=(2, 3, 4, 5), image_size=33, num_classes=3, **options)


def small_resnet(**options):
    return agl.models.sew_resnet19(channels=(2, 3, 4), hidden=5, num_classes=3, image_size=8, **options)


def small_conv(**options):
    return agl.models.conv_snn(image_size=12, channels=(2, 3), num_classes=3, neuron="plif", **options)


def small_fc(**options):
    return agl.models.fc_snn(in_channels=2, image_size=(2, 3), channels=(4, 3), num_classes=3, neuron="plif", **options)


def linear_residuals(dtype=np.float64, seed=0):
    """Own layers: residuals right behind a flatten, one with the identity as shortcut, one with a block."""

    def block(name, f_in, f_out, seed):
        bias = name != "side"
        return agl.SpikingBlock(
            name, agl.Linear(f_in, f_out, bias, dtype, seed), agl.TdBN(f_out, dtype=dtype), agl.LIF()
        )

    layers = [
        agl.SpikingBlock("conv", agl.Conv2d(2, 3, bias=True, dtype=dtype, seed=seed), None, agl.PLIF(dtype=dtype)),
        agl.Flatten(),
        agl.Residual("same", [block("a", 12, 7, seed + 1), block("b", 7, 12, seed + 2)]),
        agl.Flatten(),
        agl.Residual("one", [block("a", 12, 12, seed + 3)]),
        agl.Residual("other", [block("a", 12, 5, seed + 4)], block("side", 12, 5, seed + 5)),
        agl.Readout("fc", 5, 3, dtype=dtype, seed=seed + 6),
    ]
    return agl.Network(layers, (2, 2, 2))


NETWORKS = [small_vgg, small_resnet, small_conv, small_fc, linear_residuals]


def scrambled(net, seed):
    """Every array of the network gets its own random values."""
    rng = np.random.default_rng(seed)
    for array in everything(net).values():
        array[...] = rng.uniform(0.1, 0.9, array.shape)
    return net


def everything(net):
    return {**net.parameters(), **net.running_statistics()}


def assert_same(net, arrays):
    own = everything(net)
    assert own.keys() == arrays.keys()
    for name, array in arrays.items():
        assert own[name].tobytes() == array.tobytes(), name


@pytest.mark.parametrize("build", NETWORKS)
@pytest.mark.parametrize("names", [None, "native"])
def test_a_state_dict_there_and_back_restores_every_bit(build, names):
    net, other = scrambled(build(), 1), scrambled(build(), 2)
    state = interop.state_dict_to_torch(net, names)
    assert all(array.flags.c_contiguous and not np.shares_memory(array, own)
               for array, own in zip(state.values(), everything(net).values(), strict=True))  # fmt: skip
    held = other.parameters()["fc.weight"]
    interop.load_torch_state_dict(other, state)
    assert_same(other, everything(net))
    assert other.parameters()["fc.weight"] is held  # in place: an optimiser goes on with the loaded values


def test_a_conv_and_a_linear_weight_by_hand():
    net = small_conv()
    state = interop.state_dict_to_torch(net)
    assert set(state) == set(everything(net))  # a network of its own keeps agl_ref's names
    assert state["conv2.weight"].shape == (3, 2, 3, 3)
    state["conv2.weight"][2, 1, 0, 1] = 7.0
    state["fc.weight"][1] = np.arange(27)  # torch's input i is channel i // 9, row i // 3 % 3, column i % 3
    state["conv1.w"] = np.array(-0.5)
    interop.load_torch_state_dict(net, state)
    p = net.parameters()
    assert p["conv2.weight"][0, 1, 1, 2] == 7.0 and p["conv1.w"] == -0.5
    by_place = p["fc.weight"][:, 1].reshape(3, 3, 3)  # row, column, channel
    assert [by_place[0, 0, 0], by_place[0, 1, 0], by_place[1, 0, 0], by_place[0, 0, 1]] == [0.0, 1.0, 3.0, 9.0]
    assert by_place[2, 1, 2] == 2 * 9 + 2 * 3 + 1
    grads = interop.grads_to_torch(net, p)
    np.testing.assert_array_equal(grads["fc.weight"], state["fc.weight"])


def channels_first(net, state, x):
    """Spikes at T = 1 of `linear_residuals`, in torch's order throughout: x (N, C, H, W), loops over the conv."""

    def fire(u):
        return (u >= 0.5).astype(u.dtype)

    def block(name, x):
        y = x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)
        x_hat = (y - state[f"{name}.running_mean"]) / np.sqrt(state[f"{name}.running_var"] + 1e-5)
        return fire(state[f"{name}.gamma"] * 0.5 * x_hat + state[f"{name}.beta"])

    padded, current = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1))), np.empty((len(x), 3, 2, 2))
    for i in range(2):
        for j in range(2):
            patch = padded[:, :, i : i + 3, j : j + 3]
            current[:, :, i, j] = np.einsum("nchw,ochw->no", patch, state["conv.weight"]) + state["conv.bias"]
    same = fire(current).reshape(len(x), 12)
    sums = {"conv": same.copy()}
    same = same + block("same.b", block("same.a", same))
    same = same + block("one.a", same)
    sums["one.a"] = same
    other = block("other.a", same) + block("other.side", same)
    return other @ state["fc.weight"].T + state["fc.bias"], sums


def test_residuals_behind_a_flatten_keep_torchs_order():
    net, rng = linear_residuals(), np.random.default_rng(3)
    x = rng.standard_normal((64, 2, 2, 2))
    state = {name: rng.standard_normal(a.shape) for name, a in interop.state_dict_to_torch(net).items()}
    state = {name: np.abs(a) if name.endswith(("running_var", "gamma")) else a for name, a in state.items()}
    interop.load_torch_state_dict(net, state)
    trace = net.forward(interop.from_layout(x[np.newaxis], "TNC.."), training=False)
    logits, sums = channels_first(net, state, x)
    np.testing.assert_allclose(trace.logits[0], logits, rtol=1e-12)
    assert all(0 < cache.s.mean() < 1 for _, cache in trace.items())
    assert {0.0, 1.0, 2.0, 3.0} == set(np.unique(sums["one.a"]))
    features = sums["conv"].reshape(64, 3, 4)
    assert not np.array_equal(features, features.reshape(64, 4, 3).swapaxes(1, 2))  # the two orders differ here


@pytest.mark.parametrize(("build", "norm", "count"), [(small_vgg, "encode.0.bn", 8), (small_resnet, "fc.0.bn", 20)])
def test_torchs_counters_may_be_there_and_must_be_scalars(build, norm, count):
    net, other = scrambled(build(), 1), build()
    state = interop.state_dict_to_torch(net)
    counters = {name.replace("running_mean", "num_batches_tracked") for name in state if "running_mean" in name}
    assert f"{norm}.num_batches_tracked" in counters and len(counters) == count
    state.update(dict.fromkeys(counters, np.array(75_000)))
    interop.load_torch_state_dict(other, state)
    assert_same(other, everything(net))
    state[f"{norm}.num_batches_tracked"] = np.zeros(2, int)
    with pytest.raises(ValueError, match=rf"misshaped: {norm}.num_batches_tracked \(expected \(\), received \(2,\)\)"):
        interop.load_torch_state_dict(other, state)


class Tensor:
    """As much of a torch tensor as is used: detach, cpu, numpy, in this order."""

    def __init__(self, array, steps=()):
        self.array, self.steps, self.shape = array, steps, array.shape

    def detach(self):
        return Tensor(self.array, (*self.steps, "detach"))

    def cpu(self):
        return Tensor(self.array, (*self.steps, "cpu"))

    def numpy(self):
        assert self.steps == ("detach", "cpu")
        return self.array


def test_tensors_are_known_by_their_methods():
    net, other = scrambled(small_resnet(), 1), small_resnet()
    interop.load_torch_state_dict(other, {k: Tensor(v) for k, v in interop.state_dict_to_torch(net).items()})
    assert_same(other, everything(net))


def test_a_tensor_without_values_is_listed_with_the_rest():
    """As on torch's device "meta", whose cpu() raises NotImplementedError, a RuntimeError."""

    class NoValues(Tensor):
        def detach(self):
            raise NotImplementedError("Cannot copy out of meta tensor; no data!")

    net = small_conv()
    state = interop.state_dict_to_torch(net)
    state["conv1.gamma"] = NoValues(state["conv1.gamma"])
    del state["conv2.beta"]
    with pytest.raises(ValueError, match=r"missing: conv2.beta; unreadable: conv1.gamma \(Cannot copy out of meta"):
        interop.load_torch_state_dict(net, state)


def test_narrow_floats_widen_exactly_and_wide_ones_are_refused():
    narrow, wide = scrambled(small_conv(dtype=np.float32), 1), small_conv()
    interop.load_torch_state_dict(wide, interop.state_dict_to_torch(narrow))
    for name, array in everything(narrow).items():
        np.testing.assert_array_equal(everything(wide)[name], array.astype(np.float64))
    before = {name: array.copy() for name, array in everything(narrow).items()}
    state = interop.state_dict_to_torch(scrambled(small_conv(), 2))
    with pytest.raises(ValueError, match=r"of a dtype that would be rounded: conv1.weight \(float64 into float32\)"):
        interop.load_torch_state_dict(narrow, state)
    with pytest.raises(ValueError, match="int64 into float32"):
        interop.load_torch_state_dict(narrow, {name: np.ones(a.shape, int) for name, a in state.items()})
    assert_same(narrow, before)


def test_one_error_lists_all_that_does_not_fit_and_nothing_is_changed():
    net = scrambled(small_vgg(), 1)
    before = {name: array.copy() for name, array in everything(net).items()}
    state = interop.state_dict_to_torch(scrambled(small_vgg(), 2))
    del state["encode.1.neuron.w"], state["features.0.bn.bias"]
    state["features.0.conv.weight"] = state["head"] = np.zeros(3)
    state["classifier.0.layer.weight"] = state["classifier.0.layer.weight"].T
    state["features.3.layer.weight"] = state["features.3.layer.weight"][:, :, :1]
    state["features.5.bn.weight"] = state["features.5.bn.weight"].astype(np.float64) * np.nan
    state["features.8.bn.running_var"] = -state["features.8.bn.running_var"]
    state["features.10.bn.bias"] = [0.0] * 5
    with pytest.raises(ValueError) as caught:
        interop.load_torch_state_dict(net, state)
    text = str(caught.value)
    for words in (
        "expected the 50 entries", "received 50", "missing: encode.1.neuron.w, features.0.bn.bias",
        "surplus: features.0.conv.weight, head", "classifier.0.layer.weight (expected (3, 20), received (20, 3))",
        "features.3.layer.weight (expected (4, 3, 3, 3), received (4, 3, 1, 3))", "not finite: features.5.bn.weight",
        "negative: features.8.bn.running_var", "unreadable: features.10.bn.bias (a list)",
    ):  # fmt: skip
        assert words in text, words
    assert "\n" not in text
    assert_same(net, before)


@pytest.mark.parametrize(("build", "other"), [(small_vgg, small_resnet), (small_resnet, small_conv)])
def test_a_checkpoint_of_another_network_is_refused(build, other):
    with pytest.raises(ValueError, match="missing: .*surplus: "):
        interop.load_torch_state_dict(build(), interop.state_dict_to_torch(other()))


def test_a_plif_checkpoint_does_not_fit_lif_neurons():
    state = interop.state_dict_to_torch(small_resnet())
    with pytest.raises(ValueError, match=r"surplus: encode.1.neuron.w, .*and 10 more\); build .* neuron"):
        interop.load_torch_state_dict(small_resnet(neuron="lif"), state)
    fitting = {name: array for name, array in state.items() if not name.endswith("neuron.w")}
    interop.load_torch_state_dict(small_resnet(neuron="lif"), fitting)


def test_a_whole_checkpoint_file_and_a_wrapped_module_get_a_hint():
    net = small_vgg()
    state = interop.state_dict_to_torch(net)
    with pytest.raises(ValueError, match=r"pass one of them, e.g. state\['net'\]"):
        interop.load_torch_state_dict(net, {"net": state, "best_acc": 80.0, "optimizer": {}})
    with pytest.raises(TypeError, match="state: expected Mapping"):
        interop.load_torch_state_dict(net, list(state.items()))
    with pytest.raises(TypeError, match="net: expected Network, received dict"):
        interop.load_torch_state_dict(state, state)


PREFIXES = ["module.", "_orig_mod.", "model.", "net.", "module._orig_mod."]


@pytest.mark.parametrize("names", ["official", "native"])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_prefix_of_a_wrapper_is_named_and_its_removal_loads(prefix, names):
    net = scrambled(small_vgg(), 1)
    state = {f"{prefix}{name}": array for name, array in interop.state_dict_to_torch(net, names).items()}
    state["n_averaged"] = np.array(7)  # of torch.optim.swa_utils.AveragedModel
    target = small_vgg()
    with pytest.raises(ValueError, match=f"take the prefix '{prefix}' off its names: ") as caught:
        interop.load_torch_state_dict(target, state)
    assert len(str(caught.value)) < 1500 and "and 40 more" in str(caught.value)
    advised = str(caught.value).split("off its names: ")[1]
    interop.load_torch_state_dict(target, eval(advised, {"state": state}))
    assert_same(target, everything(net))


def test_a_prefix_before_some_names_only_is_no_fix():
    state = {f"module.{name}": array for name, array in interop.state_dict_to_torch(small_vgg()).items()}
    del state["module.encode.1.neuron.w"]
    with pytest.raises(ValueError, match="build the network"):
        interop.load_torch_state_dict(small_vgg(), state)


def test_names_of_ones_own_module_are_to_be_renamed():
    net = small_vgg()
    state = {f"{name}_": array for name, array in interop.state_dict_to_torch(net).items()}
    with pytest.raises(
        ValueError, match=r"rename its entries to the names that agl.interop.state_dict_to_torch\(net\) has"
    ):
        interop.load_torch_state_dict(net, state)


def test_biases_of_an_earlier_official_checkpoint_can_be_folded_as_the_message_says():
    """x W + b - mean is x W - (mean - b); the logits move by the readout's bias."""
    net, rng = scrambled(small_resnet(), 1), np.random.default_rng(2)
    state = interop.state_dict_to_torch(net)
    state |= {"fc.0.layer.bias": rng.normal(size=5), "fc.2.layer.bias": np.zeros(3)}
    with pytest.raises(ValueError, match="subtract fc.0.layer.bias from fc.0.bn.running_mean"):
        interop.load_torch_state_dict(small_resnet(), state)
    x, b, mean, ones = rng.normal(size=(2, 3, 5)), state["fc.0.layer.bias"], rng.normal(size=5), np.ones(5)
    with_bias, folded = (
        agl.tdbn_forward(values, ones, 0 * ones, running=(statistic, ones))[0]
        for values, statistic in ((x + b, mean), (x, mean - b))
    )
    np.testing.assert_allclose(with_bias, folded, rtol=1e-12)
    with pytest.raises(ValueError, match="build the network"):
        interop.load_torch_state_dict(small_resnet(), state | {"more": np.zeros(1)})


def test_official_names_are_refused_for_another_network():
    with pytest.raises(ValueError, match="names='native'"):
        interop.state_dict_to_torch(small_conv(), names="official")
    with pytest.raises(ValueError, match="names: expected one of"):
        interop.grads_to_torch(small_vgg(), {}, names="torch")


def test_gradients_come_back_for_every_parameter_and_only_for_those():
    net, rng = small_vgg(), np.random.default_rng(0)
    for _, block in net.blocks():
        block.norm.params["beta"][:] = 0.3  # so that there are spikes at every place
    grads = net.loss_and_grads((rng.random((2, 2, 33, 33, 2)) < 0.3).astype(np.float64), np.array([0, 2])).grads
    torch = interop.grads_to_torch(net, grads)
    assert torch["features.0.layer.weight"][2, 1, 0, 2] == grads["conv2.weight"][0, 2, 1, 2] != 0
    # 33 pixels leave 2 x 2: torch's feature 4 c + 2 i + j is agl_ref's (2 i + j) 5 + c
    assert torch["classifier.0.layer.weight"][1, 4 * 3 + 2 * 1 + 0] == grads["fc.weight"][2 * 5 + 3, 1] != 0
    assert torch["encode.1.neuron.w"] == grads["conv1.w"] != 0
    assert all(not np.shares_memory(a, b) for a in torch.values() for b in grads.values())
    wrong = {**grads, "conv2.weight": grads["conv2.weight"][:2], "extra": np.zeros(1)}
    del wrong["fc.bias"]
    with pytest.raises(ValueError) as caught:
        interop.grads_to_torch(net, wrong)
    text = str(caught.value)
    assert "missing: fc.bias" in text and "surplus: extra" in text
    assert "conv2.weight (expected (3, 3, 2, 3), received (2, 3, 2, 3))" in text


@pytest.mark.parametrize("build", [small_vgg, small_resnet, small_conv, linear_residuals])
def test_torchs_gradients_come_in_under_agl_refs_names(build):
    net = build()
    rng = np.random.default_rng(3)
    grads = {name: rng.normal(size=value.shape) for name, value in net.parameters().items()}
    torch = interop.grads_to_torch(net, grads)
    back = interop.grads_from_torch(net, {name: Tensor(g.astype(np.float32)) for name, g in torch.items()})
    assert set(back) == set(grads)
    assert all(np.array_equal(back[name], g.astype(np.float32)) for name, g in grads.items())
    one = next(iter(torch))
    assert len(interop.grads_from_torch(net, {one: torch[one]})) == 1


def test_torchs_gradients_that_do_not_fit_are_listed():
    net = small_conv()
    torch = interop.grads_to_torch(net, net.parameters())
    names = list(torch)
    wrong = {names[0]: torch[names[0]].T, names[1]: [0.0], "head.weight": np.ones(3)}
    with pytest.raises(ValueError, match="surplus: head.weight; misshaped: .*expected.*; unreadable: .*a list"):
        interop.grads_from_torch(net, wrong)
    frozen = {**torch, names[1]: None}
    assert len(interop.grads_from_torch(net, frozen)) == len(torch) - 1
    with pytest.raises(ValueError, match=r"received 1 \(none\)"):
        interop.grads_from_torch(net, dict.fromkeys(names[:1]))
    with pytest.raises(ValueError, match=r"received 0 \(none\)"):
        interop.grads_from_torch(net, {})


@pytest.mark.parametrize("size", [(8, 8), (7, 13)])
def test_the_oracle_judges_torchs_gradients(size):
    """The readout's features stand channels first in PyTorch: a transpose alone would look like a wrong gradient."""
    net = agl.models.conv_snn(image_size=size, channels=(2, 3), num_classes=3)
    x, labels = np.random.default_rng(0).normal(0.2, 0.8, (2, 3, *size, 1)), np.array([0, 2, 1])
    reference = agl.oracle.reference(net, x, labels)
    torch = interop.grads_to_torch(net, net.loss_and_grads(x, labels).grads)
    assert agl.oracle.compare(reference, interop.grads_from_torch(net, torch), dtype="float64").verdict == "PASS"
    (readout,) = (g for g in torch.values() if g.ndim == 2)
    report = agl.oracle.compare(reference, {"grad_fc.weight": np.ascontiguousarray(readout.T)}, dtype="float64")
    assert report.verdict == "FAIL"


def test_layouts_need_neither_numba_nor_torch():
    code = "import sys, agl_ref as a; a.interop.LAYOUTS; print({'numba', 'torch', 'safetensors'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


# --- safetensors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("build", NETWORKS)
def test_safetensors_there_and_back(build, tmp_path):
    pytest.importorskip("safetensors")
    net, other = scrambled(build(), 1), build()
    interop.save_safetensors(net, tmp_path / "net.safetensors")
    interop.load_safetensors(other, tmp_path / "net.safetensors")
    assert_same(other, everything(net))


def test_safetensors_that_are_missing_damaged_or_of_another_network(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    path, net = tmp_path / "net.safetensors", small_conv()
    with pytest.raises(ValueError, match="net.safetensors: expected a file, received nothing"):
        interop.load_safetensors(net, path)
    interop.save_safetensors(net, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="net.safetensors: expected a safetensors file"):
        interop.load_safetensors(net, path)
    entry = b'"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = b"{" + entry + b"," + entry + b"}"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(ValueError, match="net.safetensors: .*a name comes twice"):
        interop.load_safetensors(net, path)
    numpy.save_file({"conv1.weight": np.zeros((2, 1, 3, 3))}, path)
    with pytest.raises(ValueError, match="net.safetensors: state: expected the 14 entries .*missing: conv1.gamma"):
        interop.load_safetensors(net, path)


def test_safetensors_without_the_package_say_so(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    with pytest.raises(ImportError, match="expected the package safetensors, received none; pip install"):
        interop.save_safetensors(small_conv(), tmp_path / "net.safetensors")
    with pytest.raises(ImportError, match="pip install safetensors"):
        interop.load_safetensors(small_conv(), tmp_path / "net.safetensors")


def test_a_missing_folder_is_named_before_anything_is_written(tmp_path):
    net = agl.models.conv_snn(image_size=4, channels=(2,))
    with pytest.raises(ValueError, match="expected a folder that exists, received none; make .*absent first"):
        agl.interop.save_safetensors(net, tmp_path / "absent" / "net.safetensors")
    assert not (tmp_path / "absent").exists()
