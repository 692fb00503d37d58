"""One side of a benchmark in a process of its own: `python -m tests.benchmarks.worker SIDE KIND FILE`.

SIDE is ours, torch, spikingjelly or snntorch; KIND is step, trace (a step that keeps its trace), measured (a step with the
layers' statistics), lif or copy;
FILE is an npz with the work. The worker does each line that it reads on stdin ("run", "peak" or "whole") and answers with one
number: seconds, or bytes of resident memory at its peak above what the process held when its modules were loaded, or in all.
Processes of their own keep each side's threads, allocator settings and memory from touching the other's.
"""

import sys
import time

import numpy as np

THREADS = 2
CHOICES = {"sew": "sew_resnet19", "vgg": "vgg_snn", "demo": "conv_snn"}


def resident(field):
    """VmRSS or VmHWM of this process, in bytes (Linux)."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field))


def ours_step(work, measured=False, keep_trace=False):
    """A function that does one training step: forward, backward, SGD; and takes the layers' statistics if `measured`."""
    import agl_ref as agl

    weights = {name[2:]: work[name] for name in work if name.startswith("p.")}
    net = getattr(agl.models, CHOICES[str(work["net"])])(dtype=work["x"].dtype, **network_sizes(work))
    for name, p in net.parameters().items():
        p[...] = weights[name]
    optimiser = agl.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    x, labels = work["x"], work["labels"]

    def step():
        observe = agl.diagnostics.Observer() if measured else None
        result = net.loss_and_grads(x, labels, keep_trace=keep_trace, observe=observe)
        net.update_running_statistics(result.trace)
        optimiser.step(result.grads)

    step.net = net
    return step


def ours_measured(work):
    return ours_step(work, measured=True)


def ours_trace(work):
    return ours_step(work, keep_trace=True)


def network_sizes(work):
    """The network's sizes, as the npz holds them."""
    return {"channels": tuple(int(w) for w in work["widths"]), "image_size": work["x"].shape[2]}


def torch_step(work):
    import torch

    from . import torch_twin as twin

    torch.set_num_threads(THREADS)
    kwargs = network_sizes(work)
    if str(work["net"]) == "sew":
        kwargs.pop("image_size")
    net = getattr(twin, CHOICES[str(work["net"])])(len(work["x"]), **kwargs)
    net = twin.load(net.to(torch.tensor(work["x"]).dtype), {k[2:]: work[k] for k in work if k.startswith("p.")})
    net, x = twin.prepare(net, torch.tensor(work["x"]).permute(0, 1, 4, 2, 3))
    labels, step = torch.tensor(work["labels"]), twin.make_step(net)
    return lambda: step(x, labels)


def ours_lif(work):
    from agl_ref.conventions import MPD_AGL
    from agl_ref.engine.ops import lif_backward_full, lif_forward

    x, ds, width = work["x"], work["ds"], work["width"]

    def step():
        _, cache = lif_forward.unchecked(x, 0.2, 0.5, MPD_AGL, "rectangular")
        lif_backward_full.unchecked(ds, cache, width, MPD_AGL, "rectangular")

    return step


def spikingjelly_lif(work):
    import torch
    from spikingjelly.activation_based import neuron, surrogate

    torch.set_num_threads(THREADS)
    unit = neuron.ParametricLIFNode(
        init_tau=1.25,
        v_threshold=0.5,
        v_reset=0.0,
        decay_input=False,
        step_mode="m",
        surrogate_function=surrogate.Rect(),
    ).to(torch.tensor(work["x"]).dtype)
    return torch_lif(work, unit, unit.reset)


def snntorch_lif(work):
    import snntorch
    import torch

    torch.set_num_threads(THREADS)
    unit = snntorch.Leaky(beta=0.2, threshold=0.5, reset_mechanism="zero", learn_beta=True)
    unit = unit.to(torch.tensor(work["x"]).dtype)

    def layer(x):
        mem, out = torch.zeros_like(x[0]), []
        for xt in x:
            spikes, mem = unit(xt, mem)
            out.append(spikes)
        return torch.stack(out)

    return torch_lif(work, layer, lambda: None)


def torch_lif(work, layer, reset):
    import torch

    x, ds = torch.tensor(work["x"], requires_grad=True), torch.tensor(work["ds"])

    def step():
        reset()
        x.grad = None
        layer(x).backward(ds)

    return step


def ours_copy(work):
    """One copy of an array by all threads: reads and writes its bytes once each."""
    from agl_ref.engine.jit import kernel_with_memory
    from agl_ref.engine.parallel import pieces, run

    source = work["x"].reshape(-1)
    target = np.empty_like(source)
    compiled = kernel_with_memory(_copy)
    return lambda: run(compiled, pieces(source.size, 4096), source, target)


def _copy(first, last, source, target):
    chunk = 4096
    for k in range(first, last):
        target[k * chunk : (k + 1) * chunk] = source[k * chunk : (k + 1) * chunk]


def load_modules(side):
    """Import everything, with what each side otherwise imports at its first step (60 to 75 MB in both)."""
    if side == "ours":
        from numba.core.registry import cpu_target

        import agl_ref as agl
        from agl_ref.engine.memory import keep_freed_memory
        from agl_ref.engine.parallel import one_blas_thread

        keep_freed_memory()

        agl.neuron, agl.models.conv_snn  # noqa: B018
        cpu_target.typing_context.refresh()
        cpu_target.target_context.refresh()
        with one_blas_thread():
            pass
    else:
        import torch

        torch.optim.SGD([torch.zeros(1)])


def main(side, kind, path):
    make = globals()[f"{side}_{kind}"]
    load_modules(side)
    start = resident("VmRSS")
    with np.load(path) as stored:
        step = make(dict(stored))
    step()
    step()
    for line in sys.stdin:
        before = time.perf_counter()
        if line.strip() == "run":
            step()
            answer = time.perf_counter() - before
        else:
            answer = resident("VmHWM") - (start if line.strip() == "peak" else 0)
        print(answer, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
