"""PyTorch's own float32 kernels (convolution, batch norm, cross-entropy, autograd) judged by the oracle's bounds."""

import numpy as np
import pytest

import agl_ref as agl
from agl_ref.oracle import compare, reference

torch = pytest.importorskip("torch")

F = torch.nn.functional


class Step(torch.autograd.Function):
    """A step of u - v_th with a rectangular surrogate of width kappa."""

    @staticmethod
    def forward(ctx, u, kappa, v_th):
        ctx.save_for_backward(u, kappa)
        ctx.v_th = v_th
        return (u >= v_th).to(u.dtype)

    @staticmethod
    def backward(ctx, ds):
        u, kappa = ctx.saved_tensors
        return ds * ((u - ctx.v_th).abs() < kappa / 2) / kappa, None, None


def neurons(x, w, gamma, detach):
    """PLIF with the adaptive width; returns u, s, v, width."""
    tau = torch.sigmoid(w)
    first = (2 * gamma.mean() * 0.5).detach()
    later = (first * torch.sqrt(1 + tau * tau)).detach()
    v, found = torch.zeros_like(x[0]), []
    for t, current in enumerate(x):
        u = tau * v + current
        s = Step.apply(u, first if t == 0 else later, 0.5)
        v = u * (1 - (s.detach() if detach else s))
        found.append((u, s, v))
    return *(torch.stack(a) for a in zip(*found, strict=True)), torch.stack([first] + [later] * (len(x) - 1))


def torch_run(net, x, labels, device="cpu", detach=False):
    """The network of two conv blocks and a readout in float32, all arrays under the oracle's names."""
    params = {
        k: torch.tensor(v, dtype=torch.float32, device=device, requires_grad=True) for k, v in net.parameters().items()
    }
    x = torch.tensor(x, dtype=torch.float32, device=device, requires_grad=True)
    T, N = x.shape[:2]
    y, out, kept = x, {}, {}
    for name, block in net.blocks():
        weight = params[f"{name}.weight"].permute(3, 2, 0, 1)
        images = F.conv2d(y.flatten(0, 1).permute(0, 3, 1, 2), weight, stride=block.synapse.stride, padding=1)
        gamma, beta = params[f"{name}.gamma"], params[f"{name}.beta"]
        images = F.batch_norm(images, None, None, gamma * 0.5, beta, training=True, eps=1e-5)
        current = images.permute(0, 2, 3, 1).unflatten(0, (T, N))
        u, s, v, width = neurons(current, params[f"{name}.w"], gamma, detach)
        for key, value in (("x", current), ("u", u), ("s", s), ("v", v), ("width", width)):
            out[f"{name}.{key}"] = value
        current.retain_grad()
        kept[f"{name}.dx"] = current
        y = s
    logits = y.flatten(2) @ params["fc.weight"] + params["fc.bias"]
    logits.retain_grad()
    loss = F.cross_entropy(logits.mean(0), torch.as_tensor(labels, device=device))
    loss.backward()
    out.update({"logits": logits, "loss": loss, "dlogits": logits.grad, "grad_x": x.grad})
    out.update({name: value.grad for name, value in kept.items()})
    out.update({f"grad_{name}": value.grad for name, value in params.items()})
    return out


def case(seed):
    net = agl.models.conv_snn(image_size=9, channels=(6, 8), num_classes=4, neuron="plif", seed=seed)
    rng = np.random.default_rng(seed)
    for name, value in net.parameters().items():
        if name.endswith(("gamma", "beta")):
            value += rng.normal(0.0, 0.1, value.shape)
        value[...] = value.astype(np.float32)
    return net, rng.normal(0.3, 1.0, (4, 3, 9, 9, 1)).astype(np.float32).astype(float), rng.integers(0, 4, 3)


@pytest.mark.parametrize("seed", range(4))
def test_torch_in_float32_passes(seed):
    net, x, labels = case(seed)
    ref = reference(net, x, labels)
    assert min(ref.meta["certificate"][kind]["margin"] for kind in ("spike", "window")) > 2.0**-24
    assert all(0 < ref.arrays[f"{b}.s"].mean() < 1 for b in ("conv1", "conv2"))
    report = compare(ref, torch_run(net, x, labels))
    assert report.verdict == "PASS" and report.dtype == "float32", str(report)
    assert set(report.not_checked) == {f"{b}.{k}" for b in ("conv1", "conv2") for k in ("ds", "du")}
    # forced from torch's own spikes, the backward pass passes as well
    assert compare(ref, torch_run(net, x, labels), force=("s", "u", "width")).verdict == "PASS"


def test_torch_with_a_detached_reset_fails_in_the_last_block():
    net, x, labels = case(0)
    report = compare(reference(net, x, labels), torch_run(net, x, labels, detach=True))
    assert report.verdict == "FAIL" and report.first_divergence["name"] == "conv2.dx"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("seed", range(4))
def test_torch_on_a_gpu_passes(seed):
    net, x, labels = case(seed)
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    assert compare(reference(net, x, labels), torch_run(net, x, labels, "cuda")).verdict == "PASS"
