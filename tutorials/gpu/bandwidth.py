"""Time of the neuron layer's forward and backward pass against a copy of the same memory on the same device.

Both passes are bound by memory: forward reads z and writes u and s, backward reads ds and u and writes du, 3 T M numbers
each. A copy of T M numbers moves 2 T M. The share of the copy's bandwidth is what a kernel is judged by.
"""

import statistics
import time

import numpy as np

T, M = 8, 1 << 22  # 128 MiB per array in float32: beyond every cache
RUNS, INNER = 7, 10


def callables(adapter, T, M):
    """({name: callable that launches it}, sync, size of a number) for the adapter's own framework."""
    kind = type(adapter).__name__
    z = np.random.default_rng(0).standard_normal((T, M)).astype(np.float32)
    width = np.ones(T)
    if kind == "NumbaAdapter":
        kernels, cuda = adapter.module, adapter.module.cuda
        z, width = adapter.put(z), adapter.put(width)
        norm = cuda.to_device(np.array([[0], [1], [1], [0]], adapter.dtype))
        tau, width = kernels.prepare(adapter.put(0.2), False, width, None, 0.5, T, adapter.dtype)
        u, s = kernels.forward(z, norm, tau, 0.5)
        # into arrays that are there already: numba asks the driver for each new one, which takes longer than the kernel
        du, partial = kernels.allocate(u.shape, u.dtype), kernels.allocate((kernels.blocks_for(M), 1), np.float64)
        grid, v_th = (kernels.blocks_for(M), kernels.THREADS), adapter.dtype.type(0.5)
        calls = {
            "copy": lambda: s.copy_to_device(z),
            "forward": lambda: kernels.forward_kernel[grid](z, norm, tau, v_th, False, u, s),
            "backward": lambda: kernels.backward_kernel[grid](z, u, width, tau, v_th, (False, False), du, partial),
        }
        return calls, cuda.synchronize, adapter.dtype.itemsize
    leak, width = adapter.put(0.2), adapter.put(width)
    z = adapter.put(z)
    block = adapter.module.spiking_block
    if kind == "JaxAdapter":
        jax = adapter.jax
        copy = jax.jit(lambda a: a + 1)
        forward = jax.jit(lambda z: block(z, leak, width=width)[:2])
        pull = jax.jit(lambda kept, ds: adapter.module.lif_backward(0.5, False, False, kept, (ds, None)))
        kept = jax.block_until_ready((forward(z)[1], leak, width))
        calls = {"copy": lambda: copy(z), "forward": lambda: forward(z), "backward": lambda: pull(kept, z)}
        last = {}
        waiting = {name: (lambda call=call: last.__setitem__("out", call())) for name, call in calls.items()}
        return waiting, lambda: jax.block_until_ready(last.get("out")), z.dtype.itemsize
    torch, leaf = adapter.torch, z.clone().requires_grad_()
    s, other = block(leaf, leak, width=width)[0], torch.empty_like(z)
    calls = {
        "copy": lambda: other.copy_(z),
        "forward": lambda: block(z, leak, width=width),
        "backward": lambda: torch.autograd.grad(s, leaf, z, retain_graph=True),
    }
    sync = torch.cuda.synchronize if adapter.device == "cuda" else lambda: None
    return calls, sync, z.element_size()


def seconds_of(call, sync, runs, inner):
    """Median time of one call, over `runs` rows of `inner` calls; the first row, which compiles, is left out."""
    times = []
    for _ in range(runs + 1):
        sync()
        begun = time.perf_counter()
        for _ in range(inner):
            call()
        sync()
        times.append((time.perf_counter() - begun) / inner)
    return statistics.median(times[1:])


def measure(adapter, small=False):
    """{pass: {seconds, GB/s, share of the copy}}, printed and returned."""
    n, runs, inner = (256, 1, 1) if small else (M, RUNS, INNER)
    calls, sync, size = callables(adapter, T, n)
    found = {}
    for name, call in calls.items():
        seconds = seconds_of(call, sync, runs, inner)
        rate = (2 if name == "copy" else 3) * T * n * size / seconds / 1e9
        found[name] = {
            "seconds": seconds,
            "GB/s": rate,
            "of the copy": rate / found.get("copy", {"GB/s": rate})["GB/s"],
        }
    print(f"\nT={T}, {n} neurons" + (", too few for a time that says anything" if small else ""))
    for name, row in found.items():
        print(
            f"{name:<10} {row['seconds'] * 1e3:>10.3f} ms {row['GB/s']:>8.1f} GB/s  {row['of the copy']:>6.2f} of the copy"
        )
    return {"T": T, "neurons": n, **found}
