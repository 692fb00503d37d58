"""Golden cases by size: each axis of an op just below, at and beyond a warp, a tile and a thread block.

A sum that stops after one block, or an output beyond the last whole tile, is right in every small case. These cases are not
stored: their inputs follow from their names, and the expected values are computed when they are asked for, mostly well within
a second. sizes.json holds the SHA-256 of the inputs, and where every value is exact (tier 1) of all arrays.

    python -m agl_ref.oracle.cases.sizes     add the hashes of new cases to sizes.json; fail if one of those there changes
"""

import hashlib
import json
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np

from .case import Case, digest
from .layers import NORM, norm_inputs
from .networks import FLATTEN, READOUT, Plan, block, exact

FILE = Path(__file__).parents[1] / "sizes.json"
SIZES = (31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 1023, 1024, 1025, 4097)
LONGEST = 1025  # timesteps: more take too long


def _dyadic(**shapes):
    """Inputs that are multiples of 1/4 between -1 and 1, and so coarse that long sums are exact."""
    return lambda draw: {name: draw.dyadic(-1, 1, 1 / 4, shape) for name, shape in shapes.items()}


def _conv(x, outputs):
    T, N, H, W, C = x
    shapes = {"x": x, "weight": (3, 3, C, outputs), "bias": (outputs,), "dy": (T, N, H, W, outputs)}
    return "conv2d", 1, _dyadic(**shapes), {"stride": 1, "padding": 1}


def _linear(samples, inputs, outputs):
    shapes = {"x": (2, samples, inputs), "weight": (inputs, outputs), "bias": (outputs,), "dy": (2, samples, outputs)}
    return "linear", 1, _dyadic(**shapes), {}


def _tdbn(shape):
    """In evaluation; eps = 1/16 completes the running variances to 1/4, 1 and 4."""

    def make(draw):
        C = shape[-1]
        return {
            **_dyadic(x=shape, gamma=(C,), beta=(C,), dy=shape)(draw),
            "running_mean": draw.dyadic(-1, 1, 1 / 4, (C,)),
            "running_var": np.resize([0.1875, 0.9375, 3.9375], C),
        }

    return "tdbn", 1, make, {**NORM, "eps": 0.0625}


def _width(channels):
    """Pairs around 1 and zeros, so that the mean is exact: of a power of two of them, which many zeros complete."""

    def make(draw):
        gamma = np.ones(channels)
        half = channels // 2
        off = draw.dyadic(-0.5, 0.5, 1 / 4, (half,))
        gamma[:half] += off
        gamma[half : 2 * half] -= off
        return {"gamma": gamma}

    return "width", 1, make, {"v_th": 0.5, "decay": 0.75, "T": 3}


def _neuron(op, shape):
    """At every fourth timestep all fire, far outside the window: the potential's bits start again, and the carry's too.

    The other currents and all gradients are odd multiples of 1/8, so that no neuron is without effect. PLIF's leak is 1/2.
    """

    def make(draw):
        x, ds = (draw.dyadic(-0.5, 0.75, 1 / 4, shape) + 1 / 8 for _ in "xs")
        x[2::4] = 4.0
        leak = {"w": np.array(0.0)} if op == "plif" else {}
        return {"x": x, "ds": ds, "width": np.resize([1.0, 2.0], shape[0]), **leak}

    return op, 1, make, {"v_th": 0.5} | ({"decay": 0.5} if op == "lif" else {})


def _surrogate(neurons):
    """With another threshold than everywhere else."""

    def make(draw):
        return {"u": draw.dyadic(-1.5, 2.5, 1 / 16, (3, neurons)), "width": np.array([1.0, 0.5, 4.0])}

    return "surrogate", 1, make, {"v_th": 1.25}


def _pool(op, x, dy):
    return op, 1, _dyadic(x=x, dy=dy), {}


def _network(x_shape, channels):
    """A convolution, a neuron and a readout. The forward pass is exact; the softmax is not, nor what is behind it."""
    *_, H, W, C = x_shape
    layers = [block("conv1", norm=False), FLATTEN, READOUT]
    plan = Plan(layers, {"conv1": (3, 3, C, channels), "fc": (H * W * channels, 3)}, x_shape, 3)
    return "network", 2, exact(plan), {"layers": layers, "loss": "ce", "training": True, "surrogate": "rectangular"}


def _loss(op, samples, classes):
    def make(draw):
        logits = draw.normal(0.0, 1.5, (3, samples, classes))
        if classes > 1025:
            logits[..., -1] += 4  # of so many terms of the softmax an ordinary one is lost in rounding
        return {"logits": logits, "labels": draw.integers(0, classes, (samples,))}

    return op, 3, make, {"lam": 0.125, "target": 1.5} if op == "tet" else {}


AXES = {  # (op, axis): of a size n the op, the tier, the inputs and the scalars
    ("conv2d", "outputs"): lambda n: _conv((1, 2, 3, 4, 3), n),
    ("conv2d", "inputs"): lambda n: _conv((1, 2, 3, 4, n), 3),
    ("conv2d", "width"): lambda n: _conv((1, 2, 3, n, 3), 5),
    ("conv2d", "samples"): lambda n: _conv((2, n, 3, 4, 3), 5),
    ("linear", "inputs"): lambda n: _linear(3, n, 5),
    ("linear", "outputs"): lambda n: _linear(3, 5, n),
    ("linear", "samples"): lambda n: _linear(n, 5, 3),
    ("tdbn", "channels"): lambda n: _tdbn((2, 3, n)),
    ("tdbn", "rows"): lambda n: _tdbn((2, n, 3)),
    ("tdbn", "training-channels"): lambda n: ("tdbn", 3, norm_inputs((2, 3, n)), NORM),
    ("tdbn", "training-rows"): lambda n: ("tdbn", 3, norm_inputs((1, n, 3)), NORM),
    ("width", "channels"): _width,
    ("surrogate", "neurons"): _surrogate,
    ("lif", "neurons"): lambda n: _neuron("lif", (9, 1, n)),
    ("lif", "samples"): lambda n: _neuron("lif", (9, n, 3)),
    ("lif", "timesteps"): lambda n: _neuron("lif", (n, 2, 5)),
    ("plif", "neurons"): lambda n: _neuron("plif", (9, 1, n)),
    ("plif", "timesteps"): lambda n: _neuron("plif", (n, 2, 5)),
    ("avg_pool", "width"): lambda n: _pool("avg_pool", (1, 2, 4, 2 * n + 1, 3), (1, 2, 2, n, 3)),
    ("avg_pool", "channels"): lambda n: _pool("avg_pool", (1, 2, 4, 5, n), (1, 2, 2, 2, n)),
    ("global_avg_pool", "channels"): lambda n: _pool("global_avg_pool", (1, 2, 4, 4, n), (1, 2, n)),
    ("global_avg_pool", "width"): lambda n: ("global_avg_pool", 3, _dyadic(x=(1, 2, 3, n, 5), dy=(1, 2, 5)), {}),
    ("add", "channels"): lambda n: ("add", 1, _dyadic(x=(1, 2, n), side=(1, 2, n), dy=(1, 2, n)), {}),
    ("cross_entropy", "classes"): lambda n: _loss("cross_entropy", 3, n),
    ("cross_entropy", "samples"): lambda n: _loss("cross_entropy", n, 5),
    ("tet", "classes"): lambda n: _loss("tet", 3, n),
    ("tet", "samples"): lambda n: _loss("tet", n, 5),
    ("network", "channels"): lambda n: _network((2, 4, 2, 2, 2), n),
    ("network", "width"): lambda n: _network((2, 4, 2, n, 2), 3),
    ("network", "samples"): lambda n: _network((2, n, 2, 2, 2), 3),
}


@cache
def by_size():
    """{id: Case} of all of them, such as "size-conv2d-outputs-33"."""
    found = {}
    for (op, axis), of_size in AXES.items():
        for n in SIZES if axis != "timesteps" else SIZES[: SIZES.index(LONGEST) + 1]:
            id = f"size-{op}-{axis}-{n}".replace("_", "-")
            _, tier, make, meta = of_size(n)
            found[id] = Case(id, op, tier, make, meta, bits=24 if tier < 3 else None)
    return found


def reference_of_size(id):
    """The Reference of one of these cases, computed; ValueError if it is not the published one."""
    if id not in by_size():
        axes = ", ".join(f"{op} {axis}" for op, axis in AXES)
        raise ValueError(
            f"case: expected size-OP-AXIS-N, OP and AXIS one of {axes}, N of {', '.join(map(str, SIZES))}, received {id!r}; "
            "choose one"
        )
    reference = _computed(id)
    hashes = json.loads(FILE.read_text(encoding="utf-8")).get(id)
    if hashes != hashes_of(reference):
        raise ValueError(
            f"{id}: expected SHA-256 {hashes} of inputs and arrays, received {hashes_of(reference)}; reinstall agl-ref"
        )
    return reference


def _computed(id):
    from agl_ref.oracle.bounds.reference import reference_of_case  # not above: stored cases need no engine
    from agl_ref.oracle.cases.refusals import certificate, exact_forward  # as above

    case = by_size()[id]
    reference = exact_forward(case, reference_of_case(case))
    axis, n = id.removeprefix(f"size-{case.op.replace('_', '-')}-").rsplit("-", 1)
    own = {"tier": case.tier, "flags": [], "tells": [], "dtypes": ["float64", "float32"], "coverage": {}}
    own["comment"] = f"{n} {axis}: what goes wrong beyond a warp, a tile or a block shows at this size."
    own["certificate"] = certificate(case, reference)
    return replace(reference, meta={**reference.meta, **own})


def hashes_of(reference):
    """[SHA-256 of the inputs, of the arrays or, where their last bits hang on BLAS, None]."""

    def whole(named):
        text = "".join(f"{name} {digest(a)}\n" for name, a in named.items())
        return hashlib.sha256(text.encode()).hexdigest()

    return [whole(reference.inputs), whole(reference.arrays) if reference.exact else None]


def main():
    """Add the hashes of new cases; returns 1 and writes nothing if one of those in the file would change."""
    held = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    found = {id: hashes_of(_computed(id)) for id in by_size()}
    changed = [id for id in held if held[id] != found.get(id)]
    if changed:
        print(f"{', '.join(changed)}: not what sizes.json holds; nothing was written")
        return 1
    lines = ",\n".join(f"{json.dumps(id)}: {json.dumps(hashes)}" for id, hashes in found.items())
    FILE.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
