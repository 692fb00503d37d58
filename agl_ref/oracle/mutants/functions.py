"""Mutants that are more than a changed line: each takes a fresh copy of the reference and replaces functions of it."""

import numpy as np

from agl_ref.oracle.cases.draw import to_significand

WARP = 32  # neurons that a kernel takes at a time


def tail_neurons_dropped(module):
    """The neurons beyond the last full group of 32 get no gradient."""
    right = module.lif_backward

    def lif_backward(ds, *args):
        grads = right(ds, *args)
        whole = np.arange(ds[0].size).reshape(ds.shape[1:]) < ds[0].size // WARP * WARP
        return grads._replace(dx=grads.dx * whole, du=grads.du * whole)

    module.lif_backward = lif_backward


def hidden_state(module):
    """The backward pass uses what the last forward pass of that shape left behind."""
    forward, backward, latest = module.lif_forward, module.lif_backward, {}

    def lif_forward(x, *args):
        s, latest[x.shape] = forward(x, *args)
        return s, latest[x.shape]

    module.lif_forward = lif_forward
    module.lif_backward = lambda ds, cache, *args: backward(ds, latest[ds.shape], *args)


def soft_carry_narrow(module):
    """The potential after a soft reset loses digits."""
    right = module.reset

    def reset(u, s, v_th, conventions):
        v = right(u, s, v_th, conventions)
        if conventions.reset != "soft":
            return v
        return to_significand(v, 24 if v.dtype == np.float64 else 8).astype(v.dtype)

    module.reset = reset


def reset_to_threshold(module):
    """v_t = V_th where a neuron fired."""
    right = module.reset
    module.reset = lambda u, s, v_th, conventions: np.where(s > 0, v_th, right(u, s, v_th, conventions))


def statistics_per_timestep(module):
    """tdBN runs on each timestep by itself; the cache's x_hat holds the caches of all of them."""
    forward, backward = module.tdbn_forward, module.tdbn_backward

    def tdbn_forward(x, *args):
        ys, caches = zip(*(forward(x[t : t + 1], *args) for t in range(len(x))), strict=True)
        return np.concatenate(ys), caches[0]._replace(x_hat=caches)

    def tdbn_backward(dy, cache):
        steps = [backward(dy[t : t + 1], step) for t, step in enumerate(cache.x_hat)]
        dx, dgamma, dbeta = zip(*steps, strict=True)
        return np.concatenate(dx), sum(dgamma), sum(dbeta)

    module.tdbn_forward, module.tdbn_backward = tdbn_forward, tdbn_backward
