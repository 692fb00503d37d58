"""PyTorch twins of the benchmarked networks, as a competent user would write them: the yardstick, not a straw man.

Time and batch share the first axis, so that each convolution, norm and pool sees all T N images in one call. The neuron
is one `autograd.Function` whose loops over time work in place where they can. Imports nothing of agl_ref.
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
                dtau += torch.dot(dx[t].flatten(), (u[t - 1] * (1 - s[t - 1])).flatten())
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
        self.fixed_tau = torch.sigmoid(w)

    def forward(self, x):
        norm = self.norm
        y = F.batch_norm(
            self.synapse(x), norm.running_mean, norm.running_var, V_TH * norm.weight, norm.bias, self.training
        )
        tau = self.fixed_tau.to(y.dtype) if self.w is None else torch.sigmoid(self.w)
        first = 2 * V_TH * float(norm.weight.mean())
        later = first * (1 + float(tau) ** 2) ** 0.5
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


def sew_resnet19(T, widths=(128, 256, 512), hidden=256):
    a, b, c = widths
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


def vgg_snn(T, image_size=48, widths=(64, 128, 256, 512)):
    a, b, c, d = widths
    layers, c_in = [], 2
    for pair in ((a, b), (c, c), (d, d), (d, d)):
        for c_out in pair:
            layers.append(conv(T, c_in, c_out))
            c_in = c_out
        layers.append(nn.AvgPool2d(2))
    return Net(T, *layers, nn.Flatten(), nn.Linear(d * (image_size // 16) ** 2, 10))


def conv_snn(T, channels=(16, 32, 64), image_size=28, in_channels=1):
    """The demo's network: two convolutions with pools, a hidden linear block, the readout; LIF."""
    a, b, hidden = channels
    return Net(
        T,
        conv(T, in_channels, a, plif=False),
        nn.AvgPool2d(2),
        conv(T, a, b, plif=False),
        nn.AvgPool2d(2),
        nn.Flatten(),
        Block(T, nn.Linear(b * (image_size // 4) ** 2, hidden, bias=False), hidden, plif=False),
        nn.Linear(hidden, 10),
    )


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
