"""Benchmarks: `python -m tests.benchmarks step|lif|memory|scaling|start|diagnostics|roofline [--json] [--repeats N]`.

Each prints a table; with --json one JSON object a row. A and B are warmed up, run in processes of their own with 2 threads
each and the same inputs and weights, and alternate within one run; numbers are medians and the ratio of medians.
--tiny takes sizes that only show that the command works.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent.parent
THREADS = {
    "OMP_NUM_THREADS": "2",
    "OMP_PROC_BIND": "true",  # or both threads of a process may share one core for a while
    "NUMBA_NUM_THREADS": "2",
    "OPENBLAS_NUM_THREADS": "2",
    "MKL_NUM_THREADS": "2",
}
TARGETS = {
    "step float64": 0.25,
    "step float32": 0.50,
    "demo": 0.50,
    "memory": 0.50,
    "memory of a trace": 0.60,
    "lif": 1.5,
    "spikingjelly": 1 / 12,
    "diagnostics": 0.05,
}
EXPONENT = 1.1  # of seconds and memory over the operation count
SIZES = {  # net: T, batch, image, channels, widths
    "sew": (2, 4, 32, 3, (128, 256, 512)),
    "vgg": (10, 2, 48, 2, (64, 128, 256, 512)),
    "demo": (4, 50, 28, 1, (16, 32, 64)),
}
TINY = {
    "sew": (2, 2, 8, 3, (4, 4, 8)),
    "vgg": (2, 2, 16, 2, (4, 4, 8, 8)),
    "demo": (2, 2, 28, 1, (4, 8, 8)),
}


class Worker:
    """A process of `tests.benchmarks.worker` that answers each request with a number."""

    def __init__(self, side, kind, path):
        command = [sys.executable, "-m", "tests.benchmarks.worker", side, kind, str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={**os.environ, **THREADS}
        )

    def ask(self, request="run"):
        self.process.stdin.write(request + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError("worker: expected an answer, received none; its error is above")
        return float(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def alternate(workers, repeats):
    """{name: list of seconds}: one run of each in turn, so that a slow minute of the machine hits all of them."""
    for worker in workers.values():
        worker.ask()
    seconds = {name: [] for name in workers}
    for _ in range(repeats):
        for name, worker in workers.items():
            seconds[name].append(worker.ask())
    return seconds


def step_work(net, dtype, folder, sizes):
    """Write one training step's inputs, labels and initial weights; returns the npz file."""
    import agl_ref as agl

    from .worker import CHOICES

    T, N, size, channels, widths = sizes
    rng = np.random.default_rng(0)
    shape = (T, N, size, size, channels)
    if net == "vgg":
        x = rng.random(shape) < 0.1  # 10 % input events
    else:
        x = np.repeat(rng.normal(size=(1, *shape[1:])), T, axis=0)
    kwargs = {"channels": widths, "image_size": size, "in_channels": channels}
    made = getattr(agl.models, CHOICES[net])(dtype=np.dtype(dtype).type, **kwargs)
    path = Path(folder) / f"{net}-{dtype}-{T}-{N}-{'-'.join(map(str, widths))}.npz"
    weights = {f"p.{name}": p for name, p in made.parameters().items()}
    np.savez(path, net=net, x=x.astype(dtype), labels=np.arange(N) % 10, widths=widths, **weights)
    return path


def compare(rows, what, dtype, workers, repeats, target):
    """Time the workers in turn; one row with the medians, and the first's ratio to the last."""
    seconds = alternate(workers, repeats)
    medians = {name: statistics.median(s) for name, s in seconds.items()}
    first, last = list(medians)[0], list(medians)[-1]
    ratio = medians[first] / medians[last]
    row = {"work": what, "dtype": dtype, **{f"{name} s": m for name, m in medians.items()}}
    rows.append({**row, "ratio": ratio, "target": target, "met": ratio <= target})


def nets(args):
    return [(net, dtype) for net in args.nets for dtype in args.dtypes if (net, dtype) != ("demo", "float64")]


def step(args, folder):
    """A full training step against the PyTorch twin."""
    rows = []
    for net, dtype in nets(args):
        path = step_work(net, dtype, folder, (TINY if args.tiny else SIZES)[net])
        workers = {"ours": Worker("ours", "step", path), "torch": Worker("torch", "step", path)}
        target = TARGETS["demo" if net == "demo" else f"step {dtype}"]
        compare(rows, net, dtype, workers, args.repeats * (5 if net == "demo" else 1), target)
        for worker in workers.values():
            worker.close()
    return rows


def memory(args, folder):
    """Peak resident memory of training steps above what the process held when its modules were loaded; and in all."""
    rows = []
    for net, dtype in nets(args):
        path = step_work(net, dtype, folder, (TINY if args.tiny else SIZES)[net])
        peaks, whole = {}, {}
        for name, side, kind in (("ours", "ours", "step"), ("trace", "ours", "trace"), ("torch", "torch", "step")):
            worker = Worker(side, kind, path)
            worker.ask()
            peaks[name], whole[f"{name} in all"] = worker.ask("peak") / 1e6, worker.ask("whole") / 1e6
            worker.close()
        row = {"work": net, "dtype": dtype, **{f"{name} MB": peak for name, peak in peaks.items()}}
        for name, target in (("ours", "memory"), ("trace", "memory of a trace")):
            ratio = peaks[name] / peaks["torch"]
            row |= {f"{name} ratio": ratio, f"{name} target": TARGETS[target], f"{name} met": ratio <= TARGETS[target]}
        rows.append({**row, **whole})
    return rows


def lif(args, folder):
    """The LIF layer, forward and backward, against the bytes that must move and against SpikingJelly and snnTorch."""
    rows, T, n = [], 16, 1000 if args.tiny else 1_000_000
    for dtype in args.dtypes:
        rng = np.random.default_rng(0)
        x, ds = (rng.normal(size=(T, n)).astype(dtype) for _ in range(2))
        path = Path(folder) / f"lif-{dtype}.npz"
        np.savez(path, x=x, ds=ds, width=np.ones(T, dtype))
        ours, copy = Worker("ours", "lif", path), Worker("ours", "copy", path)
        seconds = alternate({"ours": ours, "copy": copy}, args.repeats * 2)
        ours_s, copy_s = (statistics.median(s) for s in seconds.values())
        limit = copy_s / 2 * 7  # a copy is 2 passes; the layer reads x, writes u, s, reads u, s, ds, writes dx
        row = {"work": "lif against bandwidth", "dtype": dtype, "ours s": ours_s, "limit s": limit}
        ratio = ours_s / limit
        rows.append({**row, "ratio": ratio, "target": TARGETS["lif"], "met": ratio <= TARGETS["lif"]})
        copy.close()
        for side in ("spikingjelly", "snntorch"):
            workers = {"ours": ours, side: Worker(side, "lif", path)}
            compare(rows, f"lif against {side}", dtype, workers, args.repeats, TARGETS["spikingjelly"])
            workers[side].close()
        ours.close()
    return rows


def scaling(args, folder):
    """Ours over T, batch and width: seconds and memory against the operation count.

    The exponent is that of each axis's last three points, where what does not grow with the work counts least: 1 is in
    proportion to the work.
    """
    base = TINY["sew"] if args.tiny else (2, 2, 16, 3, (32, 64, 128))
    T, N, size, channels, widths = base
    most = 2 if args.tiny else 64
    axes = {
        "T": [(t, N, size, channels, widths) for t in (1, 2, 4, 8, 16, 32) if t <= most],
        "batch": [(T, b, size, channels, widths) for b in (1, 2, 4, 8, 16, 32, 64) if b <= most],
        "width": [(T, N, size, channels, tuple(w * f for w in widths)) for f in (1, 2, 4) if f <= most],
    }
    rows, exponents = [], []
    for axis, cases in axes.items():
        for case in cases:
            worker = Worker("ours", "step", step_work("sew", args.dtypes[0], folder, case))
            seconds = statistics.median(alternate({"ours": worker}, args.repeats)["ours"])
            row = {"work": axis, "dtype": args.dtypes[0], "case": f"T {case[0]} N {case[1]} widths {case[4]}"}
            row |= {"GMAC": multiplications(case) / 1e9, "ours s": seconds, "ours MB": worker.ask("peak") / 1e6}
            worker.close()
            rows.append(row)
        last = {
            key: np.log([row[key] for row in rows if row["work"] == axis][-3:]) for key in ("GMAC", "ours s", "ours MB")
        }
        of = {key: float(np.polyfit(last["GMAC"], last[key], 1)[0]) for key in ("ours s", "ours MB")}
        row = {"work": axis, "exponent of s": of["ours s"], "exponent of MB": of["ours MB"]}
        exponents.append({**row, "target": EXPONENT, "met": max(of.values()) <= EXPONENT})
    if args.figure:
        draw_scaling(rows, args.figure)
    return rows + exponents


def draw_scaling(rows, path):
    """Seconds and peak memory over the operation count, with a dotted line in proportion to it through the last point."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    labels = {"ours s": "seconds a step", "ours MB": "peak memory above the start, MB"}
    for panel, (key, label) in zip(panels, labels.items(), strict=True):
        for axis in dict.fromkeys(row["work"] for row in rows):
            x, y = np.array([(row["GMAC"], row[key]) for row in rows if row["work"] == axis]).T
            (line,) = panel.loglog(x, y, "o-", label=axis)
            panel.loglog(x, y[-1] * x / x[-1], ":", color=line.get_color())
        panel.set(xlabel="multiplications of a step, 10^9", ylabel=label)
        panel.set_ylim(bottom=0.8 * min(row[key] for row in rows))
    panels[0].legend(title="what grows")
    figure.savefig(path, dpi=120, metadata={"Software": None})


def multiplications(case):
    """Multiplications of one SEW-ResNet-19 step, dense: each convolution three times."""
    T, N, size, channels, (a, b, c) = case
    full, half, quarter = size**2, (size // 2) ** 2, (size // 4) ** 2
    convs = full * (channels * a + 6 * a * a) + half * (a * b + 5 * b * b) + quarter * (b * c + 3 * c * c)
    return 3 * T * N * (9 * convs + half * a * b + quarter * b * c)


def diagnostics(args, folder):
    """What the layers' statistics add to a training step on average, as the trainer takes them: in one step of many."""
    from agl_ref.train import DIAGNOSE_EVERY

    rows = []
    for net, dtype in nets(args):
        path = step_work(net, dtype, folder, (TINY if args.tiny else SIZES)[net])
        workers = {"measured": Worker("ours", "measured", path), "plain": Worker("ours", "step", path)}
        seconds = alternate(workers, args.repeats * (5 if net == "demo" else 1))
        measured, plain = (statistics.median(seconds[name]) for name in ("measured", "plain"))
        row = {"work": net, "dtype": dtype, "measured s": measured, "plain s": plain, "every": DIAGNOSE_EVERY}
        ratio = (measured / plain - 1) / DIAGNOSE_EVERY
        target = TARGETS["diagnostics"]
        rows.append({**row, "ratio": ratio, "target": target, "met": ratio <= target})
        for worker in workers.values():
            worker.close()
    return rows


def roofline(args, folder):
    """Each hot kernel and a step against what the machine can do; in this process, with the threads of its environment."""
    from .roofline import roofline as rows_of
    from .worker import load_modules, ours_step

    load_modules("ours")

    def step_of(name, dtype):
        with np.load(step_work(name, dtype, folder, (TINY if args.tiny else SIZES)[name])) as stored:
            work = dict(stored)
        step = ours_step(work)
        return step.net, work["x"], work["labels"], step

    return rows_of(args.dtypes, args.nets, step_of, args.tiny)


STEP_CODE = """
import numpy as np, agl_ref as agl
net = agl.models.conv_snn(dtype=np.float32)
optimiser = agl.optim.SGD(net.parameters())
result = net.loss_and_grads(np.ones((2, 2, 28, 28, 1), np.float32), np.arange(2), keep_trace=False)
optimiser.step(result.grads)
"""
ALL_CODE = (
    STEP_CODE
    + """
x = (np.random.default_rng(0).random((2, 8, 16, 16, 64)) < 0.05).astype(np.float32)
for path in ("spikes", "winograd"):
    y, cache = agl.conv2d_forward(x, np.ones((3, 3, 64, 64), np.float32), None, 1, 1, path)
    agl.conv2d_backward(y, cache)
"""
)


def start(args, folder):
    """Import, the first step with kernels cached, and all compilation for a float32 training run."""

    def seconds(code, cache=None):
        environment = {**os.environ, **THREADS}
        if cache:
            environment["NUMBA_CACHE_DIR"] = str(cache)
        before = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT, env=environment)
        return time.perf_counter() - before

    cache = (
        None if args.tiny else Path(folder) / "cache"
    )  # tiny: whatever is compiled already, nothing is compiled anew
    cold = seconds(ALL_CODE, cache)
    repeats = max(3, args.repeats)
    empty, imported, first, warm = (
        statistics.median(seconds(code, cache) for _ in range(repeats))
        for code in ("pass", "import agl_ref", STEP_CODE, ALL_CODE)
    )
    rows = [
        {"work": "import agl_ref", "ours s": imported - empty, "target": 0.15},
        {"work": "process start to first step, cached", "ours s": first, "target": 2.5},
        {"work": "compilation for float32", "ours s": cold - warm, "target": 25.0},
    ]
    return [{**row, "met": row["ours s"] <= row["target"]} for row in rows[: 2 if args.tiny else 3]]


def show(rows):
    """The rows as a table, each kind of row with its own header."""
    header = None
    for row in rows:
        cells = {k: f"{v:.4g}" if isinstance(v, float) else str(v) for k, v in row.items()}
        if list(cells) != header:
            header = list(cells)
            print("  ".join(f"{k:>{max(12, len(cells[k]))}}" for k in header))
        print("  ".join(f"{v:>{max(12, len(k))}}" for k, v in cells.items()), flush=True)


def main(argv=None):
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__.splitlines()[0])
    commands = {f.__name__: f for f in (step, lif, memory, scaling, start, diagnostics, roofline)}
    parser.add_argument("command", choices=commands)
    parser.add_argument("--json", action="store_true", help="one JSON object a row")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--tiny", action="store_true", help="sizes that only show that the command works")
    parser.add_argument("--nets", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--dtypes", nargs="+", default=["float32", "float64"], choices=["float32", "float64"])
    parser.add_argument("--figure", help="scaling: where to draw seconds and memory over the operation count (PNG)")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        rows = commands[args.command](args, folder)
    if args.json:
        for row in rows:
            print(json.dumps({"command": args.command, **row}, default=lambda v: v.item()))
    else:
        show(rows)


if __name__ == "__main__":
    main()
