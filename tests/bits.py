"""Writes what the ops compute on fixed inputs to an npz file: python tests/bits.py elementwise|all out.npz.

Run in processes with other settings of the JIT and of the thread counts, whose files must agree bit for bit.
"""

import itertools
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

import agl_ref as agl
from agl_ref.engine import neuron, tdbn
from agl_ref.engine.ops import lif_backward_full

# Enough to reach every branch of the kernels without a run for each combination.
NEURONS = {
    "mpd-agl": agl.MPD_AGL,
    "soft": agl.Conventions(reset="soft", width_gradient="flows", spike_test=">", window_edge="<="),
    "none": agl.Conventions(reset="none", input_scale="1 - tau", surrogate_scale="1"),
    "detached": agl.Conventions(reset_gradient="detached", surrogate_scale="1/(2 kappa)"),
}


def neurons(out, dtype, n):
    """LIF with every surrogate, spiking and relaxed, and PLIF."""
    rng = np.random.default_rng(1)
    x, ds = (rng.normal(size=(4, n)).astype(dtype) for _ in range(2))
    width = rng.uniform(0.5, 1.5, 4).astype(dtype)
    for (name, c), surrogate in itertools.product(NEURONS.items(), agl.surrogate.NAMES):
        for relaxed in (None, width):
            kind = f"lif {name} {surrogate} {np.dtype(dtype)} {'spiking' if relaxed is None else 'relaxed'} "
            s, cache = agl.lif_forward(x, 0.3, 0.4, c, surrogate, relaxed)
            out[kind + "s"], out[kind + "u"], out[kind + "v"] = s, cache.u, cache.v
            for field, value in lif_backward_full(ds, cache, width)._asdict().items():
                out[kind + field] = value
    for plif in ("tau", "1 - tau"):
        kind = f"plif {plif} {np.dtype(dtype)} "
        out[kind + "s"], cache = agl.plif_forward(x, 0.3, 0.4, agl.Conventions(plif=plif))
        out[kind + "dx"], out[kind + "dw"] = agl.plif_backward(ds, cache, width)


def surrogates(out, dtype):
    z = np.random.default_rng(2).normal(size=300).astype(dtype)
    for name in agl.surrogate.NAMES:
        out[f"{name} h {np.dtype(dtype)}"] = agl.surrogate.derivative(z, 0.7, name)
        out[f"{name} S {np.dtype(dtype)}"] = agl.surrogate.primitive(z, 0.7, name)


def norm(out, dtype, rows):
    rng = np.random.default_rng(3)
    x, dy = (rng.normal(size=(2, rows, 5)).astype(dtype) for _ in range(2))
    gamma, beta, mean = (rng.normal(size=5).astype(dtype) for _ in range(3))
    var = rng.uniform(0.5, 2, 5).astype(dtype)
    for mode, running in (("training", None), ("evaluation", (mean, var))):
        kind = f"tdbn {mode} {np.dtype(dtype)} "
        out[kind + "y"], cache = agl.tdbn_forward(x, gamma, beta, running=running)
        for name, value in zip(("dx", "dgamma", "dbeta"), agl.tdbn_backward(dy, cache), strict=True):
            out[kind + name] = value


def synapses(out, dtype):
    rng = np.random.default_rng(4)
    dense = rng.normal(size=(2, 3, 19, 17, 9)).astype(dtype)
    spikes = (rng.random(dense.shape) < 0.15).astype(dtype)
    weight, bias = rng.normal(size=(3, 3, 9, 21)).astype(dtype), rng.normal(size=21).astype(dtype)
    for (kind, x), path, stride in itertools.product(
        (("dense", dense), ("spikes", spikes)), ("auto", "dense", "winograd", "spikes"), (1, 2)
    ):
        if path == "winograd" and stride != 1:
            continue
        y, cache = agl.conv2d_forward(x, weight, bias, stride, 1, path)
        dy = rng.normal(size=y.shape).astype(dtype)
        grads = agl.conv2d_backward(dy, cache)
        for name, value in zip(("y", "dx", "dweight", "dbias"), (y, *grads), strict=True):
            out[f"conv {kind} {path} {stride} {np.dtype(dtype)} {name}"] = value
    for name, forward, backward in (
        ("pool", agl.avg_pool_forward, agl.avg_pool_backward),
        ("global pool", agl.global_avg_pool_forward, agl.global_avg_pool_backward),
    ):
        y, cache = forward(dense)
        out[f"{name} {np.dtype(dtype)} y"], out[f"{name} {np.dtype(dtype)} dx"] = y, backward(y, cache)
    x, weight, bias = (rng.normal(size=size).astype(dtype) for size in ((4, 130, 300), (300, 170), (170,)))
    y, cache = agl.linear_forward(x, weight, bias)
    for name, value in zip(("y", "dx", "dweight", "dbias"), (y, *agl.linear_backward(y, cache)), strict=True):
        out[f"linear {np.dtype(dtype)} {name}"] = value
    logits, labels = rng.normal(size=(4, 50, 10)).astype(dtype), rng.integers(0, 10, 50)
    for name, forward, backward in (
        ("ce", agl.cross_entropy_forward, agl.cross_entropy_backward),
        ("tet", agl.tet_forward, agl.tet_backward),
    ):
        loss, cache = forward(logits, labels)
        out[f"{name} {np.dtype(dtype)} loss"], out[f"{name} {np.dtype(dtype)} dlogits"] = (
            loss,
            backward(cache),
        )


def main(what, path):
    out = {}
    for dtype in (np.float32, np.float64):
        neurons(out, dtype, n=61 if what == "elementwise" else 2 * neuron.CHUNK + 5)
        norm(out, dtype, rows=41 if what == "elementwise" else tdbn.CHUNK + 3)
        if what == "elementwise":
            surrogates(out, dtype)
        else:
            synapses(out, dtype)
    np.savez(path, **out)


if __name__ == "__main__":
    main(*sys.argv[1:])
