"""The paper's two networks at full width: one training step in float64 against PyTorch modules with official names.

The modules below are PyTorch throughout and take nothing of agl_ref. Their state dict goes into agl_ref through
`load_torch_state_dict` and agl_ref's gradients come back through `grads_to_torch`, so that each comparison is made under
PyTorch's names, in its layout. Gradients must agree to 1e-10 of the array's largest value, spikes exactly.
"""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

import agl_ref as agl  # noqa: E402
from agl_ref import interop  # noqa: E402

TOLERANCE = 1e-10
V_TH = 0.5


# --- the twin: x is (N, T, C, H, W) or (N, T, F) throughout -----------------------------------------------------------


class Step(torch.autograd.Function):
    """Heaviside step of z = u - V_th; its derivative is 1/kappa where |z| < kappa/2."""

    @staticmethod
    def forward(ctx, z, kappa):
        ctx.save_for_backward(z.abs() < kappa / 2, kappa)
        return (z >= 0).to(z.dtype)

    @staticmethod
    def backward(ctx, ds):
        inside, kappa = ctx.saved_tensors
        return ds * inside / kappa, None


class TdBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm over batch and time whose normalised values are scaled by V_th before the affine."""

    def forward(self, x):
        if self.training:
            self.num_batches_tracked += 1
        return F.batch_norm(
            x,
            self.running_mean,
            self.running_var,
            self.weight * V_TH,
            self.bias,
            self.training,
            self.momentum,
            self.eps,
        )


class PerStep(nn.Module):
    """A layer, and perhaps a tdBN, applied to all timesteps at once; passes the norm's mean scale on."""

    def __init__(self, layer, channels=None):
        super().__init__()
        self.layer = layer
        self.bn = TdBatchNorm(channels) if channels else None

    def forward(self, x):
        y = self.layer(x.flatten(0, 1))
        y = y if self.bn is None else self.bn(y)
        y = y.unflatten(0, x.shape[:2])
        return y if self.bn is None else (y, self.bn.weight.mean().detach())


class Leaky(nn.Module):
    """LIF neurons with hard reset and the adaptive width; with `w` if the leak factor is learned."""

    def __init__(self, learned):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(-math.log(4.0))) if learned else None

    def forward(self, x, gamma_bar):
        tau = torch.tensor(0.2, dtype=x.dtype) if self.w is None else torch.sigmoid(self.w)
        first = 2 * gamma_bar * V_TH
        later = first * torch.sqrt(1 + tau.detach() ** 2)
        v, spikes = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            u = tau * v + x[:, t]
            s = Step.apply(u - V_TH, later if t else first)
            v = u * (1 - s)
            spikes.append(s)
        return torch.stack(spikes, 1)


class Spiking(nn.Module):
    def __init__(self, learned):
        super().__init__()
        self.neuron = Leaky(learned)

    def forward(self, pair):
        return self.neuron(*pair)


def conv_block(c_in, c_out, learned, kernel=3, stride=1):
    conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)
    return PerStep(conv, c_out), Spiking(learned)


class AddBlock(nn.Module):
    def __init__(self, c_in, c_out, stride, learned):
        super().__init__()
        self.conv1, self.spike1 = conv_block(c_in, c_out, learned, stride=stride)
        self.conv2, self.spike2 = conv_block(c_out, c_out, learned)
        changes = stride != 1 or c_in != c_out
        self.downsample = nn.Sequential(*conv_block(c_in, c_out, learned, 1, stride)) if changes else None

    def forward(self, x):
        y = self.spike2(self.conv2(self.spike1(self.conv1(x))))
        return y + (x if self.downsample is None else self.downsample(x))


class SewResNet19(nn.Module):
    def __init__(self, channels=(128, 256, 512), hidden=256, learned=True):
        super().__init__()
        a, b, c = channels
        self.encode = nn.Sequential(*conv_block(3, a, learned))
        plan = [(a, a, 1)] * 3 + [(a, b, 2), (b, b, 1), (b, b, 1), (b, c, 2), (c, c, 1)]
        self.ResNetBlocks = nn.Sequential(*(nn.Sequential(AddBlock(*sizes, learned)) for sizes in plan))
        self.fc = nn.Sequential(
            PerStep(nn.Linear(c, hidden, bias=False), hidden),
            Spiking(learned),
            PerStep(nn.Linear(hidden, 10, bias=False)),
        )

    def forward(self, x):
        return self.fc(self.ResNetBlocks(self.encode(x)).mean((-2, -1)))


class VggSnn(nn.Module):
    def __init__(self, channels=(64, 128, 256, 512), image_size=48, learned=True):
        super().__init__()
        a, b, c, d = channels
        self.encode = nn.Sequential(*conv_block(2, a, learned))
        self.features = nn.Sequential(
            *conv_block(a, b, learned), PerStep(nn.AvgPool2d(2)),
            *conv_block(b, c, learned), *conv_block(c, c, learned), PerStep(nn.AvgPool2d(2)),
            *conv_block(c, d, learned), *conv_block(d, d, learned), PerStep(nn.AvgPool2d(2)),
            *conv_block(d, d, learned), *conv_block(d, d, learned), PerStep(nn.AvgPool2d(2)),
        )  # fmt: skip
        self.classifier = nn.Sequential(PerStep(nn.Linear(d * (image_size // 16) ** 2, 10)))

    def forward(self, x):
        return self.classifier(self.features(self.encode(x)).flatten(2))


def prepared(module, seed):
    """The module in float64, all weights drawn as such, with scales, shifts and leaks that differ by channel and layer."""
    module = module.double()
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
        elif isinstance(part, nn.Linear):
            part.reset_parameters()  # weights widened from float32 would make all sums exact and hide any rounding
        elif isinstance(part, TdBatchNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.1, 0.1)
        elif isinstance(part, Leaky) and part.w is not None:
            nn.init.uniform_(part.w, -2.0, 0.0)
    return module


# --- one step on both sides -------------------------------------------------------------------------------------------


def assert_close(name, received, expected):
    expected = expected.detach().numpy()
    assert received.shape == expected.shape and received.dtype == expected.dtype == np.float64, name
    largest = np.abs(expected).max()
    assert largest > 0, f"{name}: nothing to compare, all zero"
    error = np.abs(received - expected).max() / largest
    assert error <= TOLERANCE, f"{name}: off by {error:.3g} of the largest"


def assert_lively(name, cache):
    """The layer fires and rests at each timestep, and has neurons inside and outside the window."""
    inside = np.abs(cache.u - V_TH) < cache.width.reshape((-1,) + (1,) * (cache.u.ndim - 1)) / 2
    for t in range(len(cache.s)):
        assert 0 < cache.s[t].mean() < 1, f"{name}: all or none fire at timestep {t}"
        assert 0 < inside[t].mean() < 1, f"{name}: all or none are inside the window at timestep {t}"


def spikes_of(module, x):
    """Logits of the module, and the spikes of its layers in the order of computation."""
    spikes = []
    parts = [part for part in module.modules() if isinstance(part, Spiking)]
    hooks = [part.register_forward_hook(lambda part, given, s: spikes.append(s.detach())) for part in parts]
    logits = module(x)
    for hook in hooks:
        hook.remove()
    return logits, spikes


def assert_same_step(net, module, x, labels):
    """Forward, loss, backward, running statistics and an SGD step; x is (N, T, C, H, W), an array."""
    interop.load_torch_state_dict(net, module.state_dict())
    rates = {"lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4}
    theirs, ours = torch.optim.SGD(module.parameters(), **rates), agl.optim.SGD(net.parameters(), **rates)

    logits, spikes = spikes_of(module, torch.from_numpy(x))
    loss = F.cross_entropy(logits.mean(1), torch.from_numpy(labels))
    loss.backward()
    result = net.loss_and_grads(interop.from_layout(x, "NTC.."), labels)

    for (name, cache), expected in zip(result.trace.items(), spikes, strict=True):
        assert_lively(name, cache)
        np.testing.assert_array_equal(interop.to_layout(cache.s, "NTC.."), expected.numpy(), err_msg=name)
    assert abs(result.loss - loss.item()) <= TOLERANCE * loss.item()
    assert_close("logits", result.logits.swapaxes(0, 1), logits)
    grads = interop.grads_to_torch(net, result.grads)
    parameters = dict(module.named_parameters())
    assert grads.keys() == parameters.keys()
    for name, parameter in parameters.items():
        assert_close(f"gradient of {name}", grads[name], parameter.grad)

    theirs.step()
    ours.step(result.grads)
    net.update_running_statistics(result.trace)
    state = interop.state_dict_to_torch(net)
    after = {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    assert state.keys() == after.keys()
    for name, value in after.items():
        assert_close(f"{name} after the step", state[name], value)


def images(rng, T, N, size):
    """Still images, repeated over time."""
    return np.ascontiguousarray(np.broadcast_to(rng.standard_normal((N, 1, 3, size, size)), (N, T, 3, size, size)))


def events(rng, T, N, size, density=0.1):
    return (rng.random((N, T, 2, size, size)) < density).astype(np.float64)


def test_sew_resnet19_at_full_width():
    rng = np.random.default_rng(0)
    assert_same_step(agl.models.sew_resnet19(), prepared(SewResNet19(), 1), images(rng, 2, 2, 32), np.array([3, 8]))


def test_vgg_snn_at_full_width():
    rng = np.random.default_rng(0)
    assert_same_step(agl.models.vgg_snn(), prepared(VggSnn(), 1), events(rng, 4, 1, 48), np.array([7]))


@pytest.mark.parametrize("neuron", ["lif", "plif"])
def test_narrow_networks_of_both_neurons(neuron):
    rng, learned = np.random.default_rng(0), neuron == "plif"
    net = agl.models.sew_resnet19(channels=(5, 6, 7), hidden=9, neuron=neuron, image_size=12)
    module = prepared(SewResNet19((5, 6, 7), 9, learned), 2)
    assert_same_step(net, module, images(rng, 3, 4, 12), np.array([0, 9, 4, 2]))
    net = agl.models.vgg_snn(channels=(4, 5, 6, 7), image_size=33, neuron=neuron)
    module = prepared(VggSnn((4, 5, 6, 7), 33, learned), 2)
    assert_same_step(net, module, events(rng, 4, 3, 33), np.array([0, 9, 4]))


def test_agl_ref_to_torch_and_back():
    """A network's state dict fits the module strictly, evaluation then agrees, and the way back restores every bit."""
    net = agl.models.vgg_snn(channels=(4, 5, 6, 7), image_size=32, seed=3)
    x = events(np.random.default_rng(4), 3, 2, 32)
    for _ in range(40):  # so that the running statistics come close to the batch's
        net.update_running_statistics(net.forward(interop.from_layout(x, "NTC..")))
    module = VggSnn((4, 5, 6, 7), 32).double()
    module.load_state_dict({name: torch.from_numpy(value) for name, value in interop.state_dict_to_torch(net).items()})
    trace = net.forward(interop.from_layout(x, "NTC.."), training=False)
    with torch.no_grad():
        logits, spikes = spikes_of(module.eval(), torch.from_numpy(x))
    assert all(0 < s.mean() < 1 for s in spikes)
    assert_close("logits", trace.logits.swapaxes(0, 1), logits)
    other = agl.models.vgg_snn(channels=(4, 5, 6, 7), image_size=32, seed=5)
    interop.load_torch_state_dict(other, module.state_dict())
    for name, array in {**net.parameters(), **net.running_statistics()}.items():
        np.testing.assert_array_equal({**other.parameters(), **other.running_statistics()}[name], array)


def test_dtypes_of_torch():
    """float32 and float16 tensors widen exactly; bfloat16, which NumPy lacks, is refused by name."""
    net = agl.models.vgg_snn(channels=(4, 5, 6, 7), image_size=16)
    state = VggSnn((4, 5, 6, 7), 16).state_dict()
    interop.load_torch_state_dict(net, state)
    assert net.parameters()["fc.bias"].tolist() == state["classifier.0.layer.bias"].tolist()
    interop.load_torch_state_dict(net, {name: value.half() for name, value in state.items()})
    assert net.parameters()["fc.bias"].tolist() == state["classifier.0.layer.bias"].half().tolist()
    state["classifier.0.layer.bias"] = state["classifier.0.layer.bias"].bfloat16()
    with pytest.raises(ValueError, match=r"unreadable: classifier.0.layer.bias \(.*BFloat16\)"):
        interop.load_torch_state_dict(net, state)
