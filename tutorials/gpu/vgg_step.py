"""One training step of a whole VGGSNN in PyTorch on these neurons, judged against `agl.oracle.reference`.

The network has the official implementation's parameter names, so that its state dict goes into agl_ref as a checkpoint would,
and its gradients take the same way. The margins say beforehand which spikes rounding may flip: a run can only be AMBIGUOUS
where at least one spike or window place is that near, and no other spike may differ.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

import agl_ref as agl
from agl_ref.oracle.types import unit_roundoff

V_TH = 0.5
FLIPS = ("values", "near", "flipped", "edge near", "edge flipped", "not near", "expected")


class Size(NamedTuple):
    widths: tuple
    image: int
    T: int
    N: int
    seeds: int


SMALL = (Size((4, 5, 6, 7), 16, 2, 2, 2),)
FULL = (
    Size((4, 8, 16, 32), 32, 2, 2, 20),
    Size((8, 16, 32, 64), 48, 4, 2, 2),
)  # many runs with few flips, two with many


class Synapse(nn.Module):
    """A convolution, and the parameters of the tdBN that is fused into the neurons behind it."""

    def __init__(self, c_in, c_out):
        super().__init__()
        self.layer = nn.Conv2d(c_in, c_out, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(c_out)

    def forward(self, x):
        """(T, N, H, W, C) to the same with the output's channels."""
        y = self.layer(x.flatten(0, 1).permute(0, 3, 1, 2))
        return y.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])


class Neuron(nn.Module):
    """PLIF's parameter under its official name, neuron.w."""

    def __init__(self):
        super().__init__()
        self.neuron = nn.Module()
        self.neuron.w = nn.Parameter(torch.tensor(-math.log(4.0)))


class Readout(nn.Module):
    def __init__(self, features, classes):
        super().__init__()
        self.layer = nn.Linear(features, classes)


class VGGSNN(nn.Module):
    def __init__(self, size, spiking_block):
        super().__init__()
        a, b, c, d = size.widths
        plan = [(a, b), None, (b, c), (c, c), None, (c, d), (d, d), None, (d, d), (d, d), None]
        self.spiking_block = spiking_block
        self.encode = nn.Sequential(Synapse(2, a), Neuron())
        parts = [part for pair in plan for part in ((Synapse(*pair), Neuron()) if pair else (nn.AvgPool2d(2),))]
        self.features = nn.Sequential(*parts)
        self.classifier = nn.Sequential(Readout(d * (size.image // 16) ** 2, 10))

    def forward(self, x, seen):
        """Logits (T, N, 10) of x (T, N, H, W, 2); seen gets (u, s, width) of each layer."""
        parts = [*self.encode, *self.features]
        for i, part in enumerate(parts):
            if isinstance(part, Synapse):
                w, bn = parts[i + 1].neuron.w, part.bn
                x, u, width = self.spiking_block(part(x), w, V_TH, learned=True, gamma=bn.weight, beta=bn.bias)
                x.retain_grad()
                seen.append((u, x, width))
            elif isinstance(part, nn.AvgPool2d):
                pooled = part(x.flatten(0, 1).permute(0, 3, 1, 2))
                x = pooled.permute(0, 2, 3, 1).unflatten(0, x.shape[:2])
        x = x.permute(0, 1, 4, 2, 3).flatten(2)  # PyTorch flattens channels first
        return self.classifier[0].layer(x)


def initialised(network, seed):
    """Kaiming weights, and gammas, betas and leaks that differ by channel and layer."""
    torch.manual_seed(seed)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out")
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, 0.1, 0.1)
        elif isinstance(part, Neuron):
            nn.init.uniform_(part.neuron.w, -2.0, 0.0)
    return network


def arrays_of_step(network, net, x, labels):
    """{the reference's name: array} of one forward and backward pass, in agl_ref's layout."""
    seen = []
    logits = network(x, seen)
    loss = F.cross_entropy(logits.mean(0), labels)
    loss.backward()
    arrays = {"logits": logits, "loss": loss}
    for (name, _), (u, s, width) in zip(net.blocks(), seen, strict=True):
        arrays |= {f"{name}.u": u, f"{name}.s": s, f"{name}.width": width, f"{name}.ds": s.grad}
    gradients = {name: parameter.grad.cpu() for name, parameter in network.named_parameters()}
    statistics = {name: buffer.cpu() for name, buffer in network.named_buffers()}
    carrier = _net(network.size, gradients["encode.0.layer.weight"].dtype)
    agl.interop.load_torch_state_dict(carrier, {**statistics, **gradients})  # gradients go the way the weights went
    return arrays | {f"grad_{name}": gradient for name, gradient in carrier.parameters().items()}


def _net(size, dtype):
    dtype = np.float64 if dtype == torch.float64 else np.float32
    return agl.models.vgg_snn(2, size.image, 10, size.widths, dtype=dtype)


def one_step(spiking_block, size, precision, device, seed):
    """One verdict, and how many spikes and window places the margins call near, as a dict."""
    dtype = torch.float64 if precision == "float64" else torch.float32
    network = initialised(VGGSNN(size, spiking_block), seed).to(device, dtype)
    network.size = size
    rng = np.random.default_rng(seed)
    x = (rng.random((size.T, size.N, size.image, size.image, 2)) < 0.1).astype(np.float64)
    labels = rng.integers(0, 10, size.N)
    net = _net(size, dtype)
    agl.interop.load_torch_state_dict(net, network.state_dict())
    reference = agl.oracle.reference(net, x.astype(net.dtype), labels, dtype=precision)
    given = torch.from_numpy(x).to(device, dtype), torch.from_numpy(labels).to(device)
    arrays = arrays_of_step(network, net, *given)
    report = agl.oracle.compare(reference, arrays, dtype=precision, settle=False)
    forced = agl.oracle.compare(reference, arrays, dtype=precision, force=("s", "u", "width"))
    return {
        "seed": seed,
        "precision": precision,
        "verdict": report.verdict,
        "backward": forced.verdict,
        "first": report.first_divergence,
        **flips(reference, arrays, unit_roundoff(precision)),
        "text": str(report),
        "backward_text": str(forced),
    }


def flips(reference, arrays, unit):
    """Spikes and places in the window that flipped, those that the margins call near, and the flips that were to be expected.

    A margin counts with the worst rounding error, and real ones are far below it. So the errors that a layer's potentials
    had, close to the threshold, are taken from the dump: a neuron at distance d from a boundary is expected to flip if an
    error drawn from these exceeds d and points to the boundary, which half of them do.
    """
    found = dict.fromkeys(FLIPS, 0)
    for name, margin in reference.margins.items():
        block, _, kind = name.rpartition(".")
        wide, kappa, bound = (reference.arrays[f"{block}.u"], reference.arrays[f"{block}.width"],
                              reference.bounds[f"{block}.u"] * unit)  # fmt: skip
        u, width = _array(arrays[f"{block}.u"]), _array(arrays[f"{block}.width"])
        if kind == "s":
            flipped, distance = _array(arrays[name]) != reference.arrays[name], np.abs(wide - V_TH)
        else:
            flipped, distance = _inside(u, width) != _inside(wide, kappa), np.abs(_beyond(wide, kappa))
        near = margin <= unit
        error = np.abs(u - wide)
        error = np.sort(
            error[(np.abs(wide - V_TH) < 0.25) & (error <= bound)]
        )  # beyond it an earlier flip is the reason
        exceeding = 1 - np.searchsorted(error, distance[near], side="right") / max(error.size, 1)
        edge = "" if kind == "s" else "edge "
        found["expected"] += 0.5 * float(exceeding.sum()) if error.size else 0.0
        found[f"{edge}near"] += int(near.sum())
        found[f"{edge}flipped"] += int(flipped.sum())
        found["not near"] += int((flipped & ~near).sum())
        found["values"] += flipped.size if kind == "s" else 0
    return found


def _array(tensor):
    return tensor.detach().cpu().numpy()


def _beyond(u, width):
    """How far outside the window's edge, negative inside."""
    return np.abs(u - V_TH) - width.reshape((-1,) + (1,) * (u.ndim - 1)) / 2


def _inside(u, width):
    return _beyond(u, width) < 0


def vgg_report(adapter, dtype, small=False):
    """Steps over several seeds and sizes in `dtype` (on a GPU also with TF32 convolutions), printed and returned.

    A flip in an early layer changes what every later layer gets: behind the first one flips need not be near any more, which
    is why a run with one is AMBIGUOUS as a whole. "backward" judges the backward pass alone, from the run's own spikes,
    potentials and widths; it says whether the gradients are right also where spikes flipped.
    """
    precisions = [dtype] + (["tf32"] if adapter.device == "cuda" and dtype == "float32" else [])
    found = []
    for size in SMALL if small else FULL:
        for precision in precisions:
            torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
            block = adapter.module.spiking_block
            rows = [one_step(block, size, precision, adapter.device, seed) for seed in range(size.seeds)]
            print(f"\nVGGSNN {size.widths}, {size.image}x{size.image}, T={size.T}, batch {size.N}, on {adapter.device}")
            print_steps(precision, rows)
            found.append({"size": size._asdict(), "precision": precision, "steps": rows})
    verdicts = [row[key] for one in found for row in one["steps"] for key in ("verdict", "backward")]
    return {"runs": found, "verdicts": verdicts}


def print_steps(precision, rows):
    columns = ("seed", "verdict", "backward", *(key for key in rows[0] if key in FLIPS))
    print(" ".join(f"{column:>{max(9, len(column))}}" for column in columns))
    for row in rows:
        values = [f"{row[c]:.3g}" if c == "expected" else str(row[c]) for c in columns]
        print(" ".join(f"{value:>{max(9, len(c))}}" for value, c in zip(values, columns, strict=True)))
    may = sum(row["near"] + row["edge near"] > 0 for row in rows)
    expected = sum(1 - math.exp(-row["expected"]) for row in rows)
    did = sum(row["flipped"] + row["edge flipped"] > 0 for row in rows)
    ambiguous = sum(row["verdict"] == "AMBIGUOUS" for row in rows)
    print(
        f"{precision}: of {len(rows)} runs at most {may} can have a flip by the margins, {expected:.1f} are expected to, "
        f"{did} had one; AMBIGUOUS: {ambiguous}"
    )
