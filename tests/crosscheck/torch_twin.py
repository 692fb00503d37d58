"""A PyTorch twin of the method's equations in float64: forward as written, every gradient by autograd.

It shares no code with agl_ref and imports nothing of it, so that an agreement of the two means something. A
network is described by plain dicts (see `forward`), its parameters are arrays by name, and every array is
time-major, channels-last: x (T, N, H, W, C), conv weights (kh, kw, C_in, C_out), linear weights (F_in,
F_out), logits (T, N, K).
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F

# METHOD.md's table of conventions, rows 1-12 and 14, with the default of each row.
DEFAULTS = {
    "spike_test": ">=",
    "reset": "hard",
    "reset_gradient": "attached",
    "window_edge": "<",
    "surrogate_scale": "1/kappa",
    "width": "adaptive",
    "width_gradient": "none",
    "input_scale": "1",
    "plif": "tau",
    "norm_variance": "biased",
    "norm_scale": "alpha V_th",
    "norm_shift": "beta",
    "readout": "mean",
    "fixed_width": 1.0,
}


def rules(**changes):
    """The default conventions with some changed; names that are not in METHOD.md's table are an error."""
    unknown = set(changes) - set(DEFAULTS)
    if unknown:
        raise ValueError(f"unknown conventions {sorted(unknown)}")
    return {**DEFAULTS, **changes}


# ------------------------------------------------------------------------------------------------- surrogate


def bump(z, kappa, name, edge):
    """The surrogate h(z) of width kappa: area 1, height 1/kappa."""
    if name == "rectangular":
        inside = z.abs() <= kappa / 2 if edge == "<=" else z.abs() < kappa / 2
        return inside.to(z.dtype) / kappa
    if name == "triangular":
        return torch.clamp(1 - z.abs() / kappa, min=0) / kappa
    if name == "sigmoid":
        y = torch.sigmoid(4 * z / kappa)
        return (4 / kappa) * y * (1 - y)
    if name == "arctan":
        return 1 / (kappa * (1 + (math.pi * z / kappa) ** 2))
    if name == "gaussian":
        return torch.exp(-math.pi * (z / kappa) ** 2) / kappa
    raise ValueError(f"unknown surrogate {name!r}")


class Spike(torch.autograd.Function):
    """The step of z = u - v_th, with ds/du := factor * h(z) and ds/dkappa := -(z/kappa) * ds/du."""

    @staticmethod
    def forward(ctx, u, kappa, v_th, name, rule):
        ctx.save_for_backward(u, kappa)
        ctx.settings = v_th, name, rule
        fires = u > v_th if rule["spike_test"] == ">" else u >= v_th
        return fires.to(u.dtype)

    @staticmethod
    def backward(ctx, ds):
        u, kappa = ctx.saved_tensors
        v_th, name, rule = ctx.settings
        if kappa <= 0:
            return torch.zeros_like(u), torch.zeros_like(kappa), None, None, None
        z = u - v_th
        factor = {"1/kappa": 1.0, "1": kappa, "1/(2 kappa)": 0.5}[rule["surrogate_scale"]]
        h = factor * bump(z, kappa, name, rule["window_edge"])
        return ds * h, (ds * h * -(z / kappa)).sum(), None, None, None


def widths(gamma, v_th, alpha, tau, T, rule, dtype=torch.float64):
    """kappa_1 .. kappa_T; gamma is the norm's scale, or None without a norm, where kappa is 1.

    kappa_1 is two standard deviations of the norm's output: 2 gamma_bar alpha V_th, or 2 gamma_bar if plain.
    """
    one = torch.ones((), dtype=dtype)
    if rule["width"] == "fixed":
        return [one * rule["fixed_width"]] * T
    if rule["width"] == "2 V_th":
        return [one * 2 * v_th] * T
    if gamma is None:
        return [one] * T
    first = 2 * gamma.mean() * (alpha * v_th if rule["norm_scale"] == "alpha V_th" else 1.0)
    if rule["width"] == "geometric":
        kappa, power, total = [], one, torch.zeros((), dtype=dtype)
        for _ in range(T):
            total = total + power
            power = power * tau * tau
            kappa.append(first * torch.sqrt(total))
    else:
        later = first * torch.sqrt(1 + tau * tau)
        kappa = {
            "adaptive": [first] + [later] * (T - 1),
            "first": [first] * T,
            "later": [later] * T,
        }[rule["width"]]
    if rule["width_gradient"] == "none":
        kappa = [k.detach() for k in kappa]
    return kappa


# ---------------------------------------------------------------------------------------------------- neuron


def leak(w, rule):
    """PLIF's tau of its learnable w."""
    return torch.sigmoid(w) if rule["plif"] == "tau" else 1 - torch.sigmoid(w)


class Neuron(NamedTuple):
    """What a layer of neurons did, timestep first."""

    s: torch.Tensor
    u: torch.Tensor
    v: torch.Tensor
    width: torch.Tensor


def neuron(x, tau, kappa, v_th, name="rectangular", rule=DEFAULTS):
    """LIF over x (T, ...) with a leak tau (a tensor, learnable or not) and one width for each timestep."""
    v, late = torch.zeros_like(x[0]), 0
    scale = 1 - tau if rule["input_scale"] == "1 - tau" else 1
    us, ss, vs = [], [], []
    for t in range(x.shape[0]):
        u = tau * v + scale * x[t] - late
        s = Spike.apply(u, kappa[t], v_th, name, rule)
        gate = s.detach() if rule["reset_gradient"] == "detached" else s
        if rule["reset"] == "hard":
            v = u * (1 - gate)
        elif rule["reset"] == "soft":
            v = u - v_th * gate
        else:
            v = u
            late = v_th * gate if rule["reset"] == "soft late" else 0
        us.append(u)
        ss.append(s)
        vs.append(v)
    return Neuron(torch.stack(ss), torch.stack(us), torch.stack(vs), torch.stack([k.detach() for k in kappa]))


# ---------------------------------------------------------------------------------- norm, convolution, pools


def tdbn(x, gamma, beta, v_th=0.5, alpha=1.0, eps=1e-5, rule=DEFAULTS, running=None):
    """tdBN over all axes but the last; running = (mean, var) is evaluation. Returns y, mean, biased var."""
    axes = tuple(range(x.ndim - 1))
    if running is None:
        mean = x.mean(axes)
        var = ((x - mean) ** 2).mean(axes)
        m = x.numel() // x.shape[-1]
        used = var * m / (m - 1) if rule["norm_variance"] == "unbiased" else var
    else:
        mean, var = running
        used = var
    x_hat = (x - mean) / torch.sqrt(used + eps)
    scale = alpha * v_th if rule["norm_scale"] == "alpha V_th" else 1.0
    shift = v_th if rule["norm_shift"] == "beta V_th" else 1.0
    return gamma * (scale * x_hat) + shift * beta, mean.detach(), var.detach()


def fold(x):
    """(T, N, H, W, C) as the batch (T N, C, H, W) that torch's image operations take."""
    return x.reshape((-1,) + x.shape[-3:]).permute(0, 3, 1, 2)


def unfold(y, lead):
    """The inverse of `fold`: (T N, C, H, W) back to lead + (H, W, C)."""
    y = y.permute(0, 2, 3, 1)
    return y.reshape(tuple(lead) + tuple(y.shape[1:]))


def conv(x, weight, bias=None, stride=1, padding=0):
    y = F.conv2d(fold(x), weight.permute(3, 2, 0, 1), bias, stride=stride, padding=padding)
    return unfold(y, x.shape[:-3])


def avg_pool(x):
    return unfold(F.avg_pool2d(fold(x), 2), x.shape[:-3])


def linear(x, weight, bias=None):
    y = x @ weight
    return y if bias is None else y + bias


# ------------------------------------------------------------------------------------------------------ loss


def cross_entropy(logits, labels, rule=DEFAULTS):
    """Cross-entropy, averaged over the batch, of the logits' mean, sum or last value over time."""
    reduced = {"mean": logits.mean(0), "sum": logits.sum(0), "last": logits[-1]}[rule["readout"]]
    return F.cross_entropy(reduced, labels)


def tet(logits, labels, lam=1e-3, target=1.0):
    """TET: (1 - lam) * the mean over t of the cross-entropy, and lam * the mean squared error to target."""
    each = torch.stack([F.cross_entropy(at_t, labels) for at_t in logits])
    return (1 - lam) * each.mean() + lam * ((logits - target) ** 2).mean()


# --------------------------------------------------------------------------------------------------- network


class Run(NamedTuple):
    """What one pass gave, as arrays; neurons and statistics are dicts by the block's full name."""

    loss: object
    logits: object
    grads: dict
    neurons: dict
    statistics: dict


def block(x, layer, prefix, params, running, name, rule, neurons, statistics):
    """Synapse, tdBN if there is one, neuron."""
    full = prefix + layer["name"]
    bias = params.get(full + ".bias")
    if layer["kind"] == "conv":
        x = conv(x, params[full + ".weight"], bias, layer.get("stride", 1), layer.get("padding", 0))
    else:
        x = linear(x, params[full + ".weight"], bias)
    v_th, alpha = layer.get("v_th", 0.5), layer.get("alpha", 1.0)
    gamma = params.get(full + ".gamma")
    if gamma is not None:
        used = None if running is None else running[full]
        x, mean, var = tdbn(x, gamma, params[full + ".beta"], v_th, alpha, rule=rule, running=used)
        statistics[full] = mean, var, x.numel() // x.shape[-1]
    if layer["neuron"] == "plif":
        tau = leak(params[full + ".w"], rule)
    else:
        tau = torch.tensor(layer.get("decay", 0.2), dtype=x.dtype)
    kappa = widths(gamma, v_th, alpha, tau, x.shape[0], rule, x.dtype)
    out = neuron(x, tau, kappa, v_th, name, rule)
    neurons[full] = out
    return out.s


def forward(x, layers, params, name="rectangular", rule=DEFAULTS, running=None):
    """Logits of a network described by a list of dicts, with the neurons' traces and the batch statistics.

    Layers: {"kind": "conv" | "linear", "name", "neuron": "lif" | "plif", "decay", "v_th", "alpha", "stride",
    "padding"},
    {"kind": "avg_pool"}, {"kind": "global_avg_pool"}, {"kind": "flatten"},
    {"kind": "residual", "name", "body": [...], "shortcut": a block or None}, {"kind": "readout", "name"}.
    A block has a norm if its gamma is among the parameters. Inside a residual, names are "residual.block".
    """
    neurons, statistics = {}, {}

    def walk(x, layers, prefix):
        for layer in layers:
            kind = layer["kind"]
            if kind in ("conv", "linear"):
                x = block(x, layer, prefix, params, running, name, rule, neurons, statistics)
            elif kind == "avg_pool":
                x = avg_pool(x)
            elif kind == "global_avg_pool":
                x = x.mean((-3, -2))
            elif kind == "flatten":
                x = x.reshape(x.shape[0], x.shape[1], -1)
            elif kind == "readout":
                full = prefix + layer["name"]
                x = linear(x, params[full + ".weight"], params.get(full + ".bias"))
            elif kind == "residual":
                inner = prefix + layer["name"] + "."
                side = walk(x, [layer["shortcut"]], inner) if layer.get("shortcut") else x
                x = walk(x, layer["body"], inner) + side
            else:
                raise ValueError(f"unknown layer {kind!r}")
        return x

    return walk(x, layers, ""), neurons, statistics


def run(layers, params, x, labels, name="rectangular", rule=DEFAULTS, loss="ce", running=None):
    """Loss, logits, spikes and gradients by name of one pass, all as arrays; the inputs are arrays too."""
    leaves = {key: torch.tensor(value, requires_grad=True) for key, value in params.items()}
    if running is not None:
        running = {key: tuple(torch.tensor(one) for one in pair) for key, pair in running.items()}
    labels = torch.tensor(labels, dtype=torch.int64)
    logits, neurons, statistics = forward(torch.tensor(x), layers, leaves, name, rule, running)
    for one in neurons.values():
        one.s.retain_grad()
    value = cross_entropy(logits, labels, rule) if loss == "ce" else tet(logits, labels)
    value.backward()
    grads = {key: None if leaf.grad is None else leaf.grad.numpy() for key, leaf in leaves.items()}
    neurons = {key: Neuron(*(part.detach().numpy() for part in one)) for key, one in neurons.items()}
    statistics = {key: (mean.numpy(), var.numpy(), m) for key, (mean, var, m) in statistics.items()}
    return Run(value.item(), logits.detach().numpy(), grads, neurons, statistics)
