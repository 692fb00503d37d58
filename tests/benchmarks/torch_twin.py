"""PyTorch twins of the benchmarked networks, as a competent user would write them: the yardstick, not a straw man.

Time and batch share the first axis, so that each convolution, norm and pool sees all T N images in one call. The neuron
is one `autograd.Function` whose loops over time work in place where they can. `prepare` stores weights and images channels
last, which was faster than the default for every network and dtype here. Imports nothing of agl_ref.
"""

import torch
from torch import nn
from torch.nn import functional as F

V_TH = 0.5


class LIF(torch.autograd.Function):
    """LIF with hard reset, attached, rectangular surrogate of width kappa_1, then kappa_later; x (T, n...)."""

    @staticmethod
    def forward(ctx, x, tau, kappas):
        u, s = torch.empty_like(x), torch.empty_like(x)
        v = torch.zeros_like(x[0])
        for t in range(len(x)):
            torch.add(x[t], v.mul_(tau), out=u[t])
            torch.ge(u[t], V_TH, out=s[t])
            torch.mul(u[t], 1 - s[t], out=v)
        ctx.save_for_backward(u, s, tau)
        ctx.kappas = kappas
        return s

    @staticmethod
    def backward(ctx, ds):
        u, s, tau = ctx.saved_tensors
        dx = torch.empty_like(u)
        dv = torch.zeros_like(u[0])
        dtau = torch.zeros((), dtype=u.dtype)
        for t in reversed(range(len(u))):
            kappa = ctx.kappas[min(t, 1)]
            window = ((u[t] - V_TH).abs() < kappa / 2).to(u.dtype).mul_(1 / kappa)
            torch.addcmul(ds[t], u[t], dv, value=-1, out=dx[t])
            dx[t].mul_(window).addcmul_(dv, 1 - s[t])
            if t:
                dtau += (dx[t] * (u[t - 1] * (1 - s[t - 1]))).sum()
            torch.mul(dx[t], tau, out=dv)
        return dx, dtau, None


class Block(nn.Module):
    """Synapse, tdBN, (P)LIF, over (T N, C, ...)."""

    def __init__(self, T, synapse, channels, plif=True):
        super().__init__()
        self.T, self.synapse = T, synapse
        bn = nn.BatchNorm2d if isinstance(synapse, nn.Conv2d) else nn.BatchNorm1d
        self.norm = bn(channels)
        w = torch.tensor(-1.3862943611198906)
        self.w = nn.Parameter(w) if plif else None
        self.fixed_tau = torch.tensor(0.2, dtype=torch.float64)

    def forward(self, x):
        norm = self.norm
        y = F.batch_norm(
            self.synapse(x), norm.running_mean, norm.running_var, V_TH * norm.weight, norm.bias, self.training
        )
        tau = self.fixed_tau.to(y.dtype) if self.w is None else torch.sigmoid(self.w)
        first = 2 * V_TH * float(norm.weight.detach().mean())
        later = first * (1 + float(tau.detach()) ** 2) ** 0.5
        return LIF.apply(y.view(self.T, -1, *y.shape[1:]), tau, (first, later)).flatten(0, 1)


def conv(T, c_in, c_out, stride=1, kernel=3, plif=True):
    return Block(T, nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False), c_out, plif)


class Residual(nn.Module):
    """SEW ADD."""

    def __init__(self, T, c_in, c_out, stride):
        super().__init__()
        self.body = nn.Sequential(conv(T, c_in, c_out, stride), conv(T, c_out, c_out))
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else conv(T, c_in, c_out, stride, kernel=1)

    def forward(self, x):
        return self.body(x) + self.shortcut(x)


class Net(nn.Module):
    """Layers over (T N, C, H, W), then the mean of the logits over time."""

    def __init__(self, T, *layers):
        super().__init__()
        self.T, self.layers = T, nn.Sequential(*layers)

    def forward(self, x):
        """x (T, N, C, H, W) to mean logits (N, K)."""
        y = self.layers(x.flatten(0, 1))
        return y.view(self.T, -1, y.shape[1]).mean(0)


def sew_resnet19(T, channels=(128, 256, 512), hidden=256):
    a, b, c = channels
    shapes = [(a, a, 1)] * 3 + [(a, b, 2), (b, b, 1), (b, b, 1), (b, c, 2), (c, c, 1)]
    return Net(
        T,
        conv(T, 3, a),
        *(Residual(T, *shape) for shape in shapes),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        Block(T, nn.Linear(c, hidden, bias=False), hidden),
        nn.Linear(hidden, 10, bias=False),
    )


def vgg_snn(T, image_size=48, channels=(64, 128, 256, 512)):
    a, b, c, d = channels
    layers, c_in = [], 2
    for pair in ((a, b), (c, c), (d, d), (d, d)):
        for c_out in pair:
            layers.append(conv(T, c_in, c_out))
            c_in = c_out
        layers.append(nn.AvgPool2d(2))
    return Net(T, *layers, nn.Flatten(), nn.Linear(d * (image_size // 16) ** 2, 10))


def conv_snn(T, channels=(16, 32, 64), image_size=28, in_channels=1):
    """The demo's network: convolutions, the first two at stride 2, average pools from the second on; LIF."""
    layers, size, c_in = [], image_size, in_channels
    for i, c_out in enumerate(channels):
        stride = 2 if i < 2 else 1
        layers.append(conv(T, c_in, c_out, stride, plif=False))
        size, c_in = (size - 1) // stride + 1, c_out
        if 0 < i < len(channels) - 1 and size >= 2:
            layers.append(nn.AvgPool2d(2))
            size //= 2
    return Net(T, *layers, nn.Flatten(), nn.Linear(size * size * c_in, 10))


def load(net, parameters):
    """Give the twin agl_ref's weights: {name: array}, channels last, in the order of computation."""
    arrays = {name: torch.tensor(a) for name, a in parameters.items()}
    blocks = [m for m in net.modules() if isinstance(m, Block)]
    names = [name.removesuffix(".gamma") for name in arrays if name.endswith(".gamma")]
    c_last = 0
    with torch.no_grad():
        for name, block in zip(names, blocks, strict=True):
            weight = arrays[f"{name}.weight"]
            block.synapse.weight.copy_(weight.permute(3, 2, 0, 1) if weight.ndim == 4 else weight.T)
            block.norm.weight.copy_(arrays[f"{name}.gamma"])
            block.norm.bias.copy_(arrays[f"{name}.beta"])
            if block.w is not None:
                block.w.copy_(arrays[f"{name}.w"])
            c_last = weight.shape[-1]
        readout = net.layers[-1]
        weight = arrays[
            "fc.weight"
        ].T  # (K, H W C) or (K, C): a flattened image has its channels last there, first here
        readout.weight.copy_(weight.reshape(len(weight), -1, c_last).transpose(1, 2).flatten(1))
        if readout.bias is not None:
            readout.bias.copy_(arrays["fc.bias"])
    return net


def gradients(net):
    """{agl_ref's kind of name: gradient} of each block in order ("0.weight", "0.gamma", ...), and of the readout."""
    out = {}
    for i, block in enumerate(m for m in net.modules() if isinstance(m, Block)):
        weight = block.synapse.weight.grad
        out[f"{i}.weight"] = weight.permute(2, 3, 1, 0) if weight.ndim == 4 else weight.T
        out[f"{i}.gamma"], out[f"{i}.beta"] = block.norm.weight.grad, block.norm.bias.grad
        if block.w is not None:
            out[f"{i}.w"] = block.w.grad
    if net.layers[-1].bias is not None:
        out["fc.bias"] = net.layers[-1].bias.grad
    return {name: a.numpy() for name, a in out.items()}


def prepare(net, x):
    """The net and its input (T, N, C, H, W) in channels-last memory."""
    net = net.to(memory_format=torch.channels_last)
    return net, x.flatten(0, 1).contiguous(memory_format=torch.channels_last).unflatten(0, x.shape[:2])


def make_step(net, lr=0.1, momentum=0.9, weight_decay=1e-4):
    """A function (x, labels) -> loss that does one training step."""
    optimiser = torch.optim.SGD(net.parameters(), lr=lr, momentum=momentum, weight_decay=weight_decay)

    def step(x, labels):
        optimiser.zero_grad(set_to_none=True)
        loss = F.cross_entropy(net(x), labels)
        loss.backward()
        optimiser.step()
        return float(loss.detach())

    return step
