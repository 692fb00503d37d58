"""Kernels of the optimisers: one parameter p, its state and its gradient g, all (n,), in place."""

import numpy as np

from .jit import kernel

PIECE = 2**15  # numbers that one thread updates at a time,
ROW = 64  # and that are looked at together


@kernel
def sgd_kernel(first, last, p, b, g, lr, momentum, weight_decay, store, excess):
    """excess (pieces, ROW), zeros at first: NaN where a number is not finite. New values are stored, or only looked at."""
    for a in range(first * PIECE, min(last * PIECE, p.size), ROW):
        e = min(a + ROW, p.size)
        pa, ba, ga, found = p[a:e], b[a:e], g[a:e], excess[a // PIECE]
        for i in range(e - a):
            gradient = ga[i] + weight_decay * pa[i] if weight_decay != 0 else ga[i]
            new_b = momentum * ba[i] + gradient  # (O1)
            new_p = pa[i] - lr * new_b  # (O2)
            if store:
                pa[i], ba[i] = new_p, new_b
            else:
                found[i] += (new_p - new_p) + (new_b - new_b)


@kernel
def adam_kernel(first, last, p, m, v, g, lr, beta1, rest1, beta2, rest2, root, eps, weight_decay, store, excess):
    """As `sgd_kernel`. rest = 1 - beta; lr and root are corrected for the start at 0."""
    for a in range(first * PIECE, min(last * PIECE, p.size), ROW):
        e = min(a + ROW, p.size)
        pa, ma, va, ga, found = p[a:e], m[a:e], v[a:e], g[a:e], excess[a // PIECE]
        for i in range(e - a):
            gradient = ga[i] + weight_decay * pa[i] if weight_decay != 0 else ga[i]
            new_m = beta1 * ma[i] + rest1 * gradient
            new_v = beta2 * va[i] + rest2 * (gradient * gradient)
            new_p = pa[i] - lr * (new_m / (np.sqrt(new_v) / root + eps))
            if store:
                pa[i], ma[i], va[i] = new_p, new_m, new_v
            else:
                found[i] += (new_p - new_p) + (new_m - new_m) + (new_v - new_v)
