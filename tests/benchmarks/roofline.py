"""How near each hot kernel, and a training step, come to what the machine can do: `python -m tests.benchmarks roofline`.

Three limits of the machine are measured first, with the same two threads: multiplications and additions in matrix products
(OpenBLAS), bytes to and from memory (STREAM's triad, where a written line counts twice, since it is read before), and
numbers in rows of weights that are added up from the second-level cache, four rows at a time. A kernel's limit is the time
that its products, its bytes and its rows take at these rates, one after the other; a step's limit is the sum of its kernels'.
"""

import time

import numpy as np

import agl_ref as agl
from agl_ref.engine import conv, tdbn
from agl_ref.engine.fast import tdbn_lif
from agl_ref.engine.jit import kernel
from agl_ref.engine.ops import lif_backward_full, lif_forward
from agl_ref.engine.parallel import run

SLICE = 2**16  # numbers of the triad that a thread takes at a time
ROW = 384  # numbers in a row of weights: three taps of 128 channels
WINOGRAD = 2.25  # times fewer multiplications


@kernel
def triad_kernel(first, last, a, b, c):
    for k in range(first, last):
        for i in range(k * SLICE, (k + 1) * SLICE):
            a[i] = b[i] + c[0] * c[i]


@kernel
def rows_kernel(first, last, weight, order, sums):
    for k in range(first, last):
        total = sums[k]
        for i in range(0, order.size, 4):
            a, b, c, d = weight[order[i]], weight[order[i + 1]], weight[order[i + 2]], weight[order[i + 3]]
            for j in range(ROW):
                total[j] += (a[j] + b[j]) + (c[j] + d[j])


def seconds(call, repeats=9):
    """The least of several runs: what others do on the machine only adds to it."""
    call()
    found = []
    for _ in range(repeats):
        before = time.perf_counter()
        call()
        found.append(time.perf_counter() - before)
    return min(found)


class Machine:
    """Rates of this machine in one dtype, and the time that work takes at them."""

    def __init__(self, dtype, tiny=False):
        n, size, lines = (64, 2**17, 2**8) if tiny else (1536, 2**24, 2**14)
        rng = np.random.default_rng(0)
        a, b = (rng.normal(size=(n, n)).astype(dtype) for _ in range(2))
        self.itemsize = np.dtype(dtype).itemsize
        self.products = n**3 / seconds(lambda: a @ b)
        x, y, z = np.zeros((3, size), dtype)
        self.numbers = 4 * size / seconds(lambda: run(triad_kernel, size // SLICE, x, y, z))
        weight, sums = rng.normal(size=(ROW, ROW)).astype(dtype), np.zeros((16, ROW), dtype)
        order = rng.integers(0, len(weight), lines)
        self.rows = 16 * lines * ROW / seconds(lambda: run(rows_kernel, 16, weight, order, sums))

    def limit(self, products=0, read=0, written=0, rows=0):
        """Seconds for so many multiplications, numbers read and written in memory, and numbers in rows of weights."""
        return products / self.products + (read + 2 * written) / self.numbers + rows / self.rows


def of_convolution(x, weight, stride, tiles, spikes):
    """What forward, dx and dweight must do: {name: arguments of `Machine.limit`}, of x (B, H, W, C_in)."""
    kh, kw, C_in, C_out = weight
    places = len(x) * (x.shape[1] // stride) * (x.shape[2] // stride)
    products, y = places * kh * kw * C_in * C_out, places * C_out
    dense = {"products": products / (WINOGRAD if tiles else 1)}
    sparse = {"rows": np.count_nonzero(x) * kh * kw * C_out / stride**2}
    forward = sparse if spikes else dense
    return {
        "forward": {**forward, "read": x.size, "written": y},
        "dx": {**dense, "read": y, "written": x.size},
        "dweight": {**forward, "read": x.size + y},
    }


def of_norm_and_neuron(n):
    """The same for the tdBN and the LIF neuron of n numbers, without a trace."""
    return {
        "tdBN moments": {"read": n},
        "tdBN and LIF forward": {"read": n, "written": n},
        "tdBN and LIF backward": {"read": 2 * n, "written": n},
        "tdBN sums of the gradient": {"read": 2 * n},
        "tdBN dx": {"read": 2 * n, "written": n},
    }


def kernels(dtype, tiny=False):
    """(kernel, its work, a function that runs it) on the sizes of a layer with 128 channels."""
    rng = np.random.default_rng(0)
    B, H, C, T, n = (2, 8, 48, 2, 2**10) if tiny else (8, 32, 128, 16, 10**6)
    dense = rng.normal(size=(B, H, H, C)).astype(dtype)
    spikes = (rng.random((B, H, H, C)) < 0.15).astype(dtype)
    for name, x, path, stride, C_out in (
        ("direct, stride 2", dense, "dense", 2, 2 * C),
        ("Winograd", dense, "winograd", 1, C),
        ("spike-driven, 15 %", spikes, "spikes", 1, C),
    ):
        weight = rng.normal(size=(3, 3, C, C_out)).astype(dtype)
        y, cache = conv.forward(x, weight, None, stride, 1, path)
        work = of_convolution(x, weight.shape, stride, cache.tiles, cache.spikes)
        both = {key: work["dx"].get(key, 0) + work["dweight"].get(key, 0) for key in ("products", "read", "written")}
        yield (
            f"{name}: forward",
            work["forward"],
            lambda x=x, w=weight, s=stride, p=path: conv.forward(x, w, None, s, 1, p),
        )
        yield f"{name}: dweight", work["dweight"], lambda y=y, c=cache: conv.backward(y, c, need_dx=False)
        if not cache.spikes:
            yield f"{name}: dx and dweight", both, lambda y=y, c=cache: conv.backward(y, c)
    x, ds = rng.normal(size=(2, T, n)).astype(dtype)
    width, rule = np.ones(T, dtype), agl.MPD_AGL
    _, cache = lif_forward.unchecked(x, 0.2, 0.5, rule, "rectangular")
    yield (
        "LIF forward",
        {"read": x.size, "written": 2 * x.size},
        lambda: lif_forward.unchecked(x, 0.2, 0.5, rule, "rectangular"),
    )
    yield (
        "LIF backward",
        {"read": 3 * x.size, "written": x.size},
        lambda: lif_backward_full.unchecked(ds, cache, width, rule, "rectangular"),
    )
    work = of_norm_and_neuron(x.size)
    x, ds = (array.reshape(T, -1, 64) for array in (x, ds))
    one = np.ones(64, dtype)
    norm = tdbn.measure(x, one, one, 0.5, 1.0, 1e-5, rule, None)
    _, fused = tdbn_lif.forward(norm, 0.2, 0.5, rule, "rectangular", store_u=False)
    yield "tdBN moments", work["tdBN moments"], lambda: tdbn.measure(x, one, one, 0.5, 1.0, 1e-5, rule, None)
    yield (
        "tdBN and LIF forward",
        work["tdBN and LIF forward"],
        lambda: tdbn_lif.forward(norm, 0.2, 0.5, rule, "rectangular", store_u=False),
    )
    yield (
        "tdBN and LIF backward",
        work["tdBN and LIF backward"],
        lambda: tdbn_lif.backward(ds, norm, fused, width, learns=False),
    )
    both = {"read": 4 * x.size, "written": x.size}
    yield "tdBN backward", both, lambda: tdbn.backward(ds, norm)


def of_step(net, x, labels, machine):
    """Seconds of a training step at the machine's limits: of all blocks and of the optimiser."""
    total = 0.0

    def add(work):
        nonlocal total
        total += machine.limit(**work)

    def observe(block, cache, ds, dx):
        first = block is next(net.blocks())[1]
        inputs = cache.synapse.x
        if conv.repeats(inputs):
            inputs = inputs[:1]
        inputs, weight = inputs.reshape(-1, *inputs.shape[2:]), block.synapse.params["weight"]
        if weight.ndim == 4:
            work = of_convolution(inputs, weight.shape, cache.synapse.stride, cache.synapse.tiles, cache.synapse.spikes)
        else:
            work = of_convolution(inputs[:, None, None], (1, 1, *weight.shape), 1, False, False)
        for name, one in work.items():
            if not (first and name == "dx"):
                add(one)
        for one in of_norm_and_neuron(cache.u.size).values():
            add(one)

    net.loss_and_grads(x, labels, keep_trace=False, observe=observe)
    parameters = sum(p.size for p in net.parameters().values())
    add({"read": 3 * parameters, "written": 2 * parameters})
    return total


def roofline(dtypes, nets, worker_step, tiny=False):
    """Rows of the table: kernels, then each network's step; `worker_step(net, dtype)` is (net, x, labels, function)."""
    rows = []
    for dtype in dtypes:
        machine = Machine(dtype, tiny)
        rates = {"GFLOP/s": 2 * machine.products / 1e9, "GB/s": machine.numbers * machine.itemsize / 1e9}
        rows.append({"work": "machine", "dtype": dtype, **rates, "rows, G numbers/s": machine.rows / 1e9})
        for name, work, call in kernels(dtype, tiny):
            rows.append(_row(name, dtype, machine.limit(**work), seconds(call)))
        for name in nets:
            net, x, labels, step = worker_step(name, dtype)
            rows.append(_row(f"step of {name}", dtype, of_step(net, x, labels, machine), seconds(step)))
    return rows


def _row(name, dtype, limit, measured):
    return {"work": name, "dtype": dtype, "limit ms": 1e3 * limit, "ours ms": 1e3 * measured, "share": limit / measured}
