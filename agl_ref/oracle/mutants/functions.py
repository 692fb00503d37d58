"""Mutants that are more than a changed line: each takes a fresh copy of the reference and replaces functions of it."""

import numpy as np

from agl_ref.oracle.cases.draw import to_significand
from agl_ref.oracle.descriptions import blocks

WARP = 32  # neurons that a kernel takes at a time
CLIPPED, DECAY = 0.01, 5e-4  # the norm that clipping leaves (below that of any golden network), and the weight decay


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
    """tdBN runs on each timestep by itself."""
    _statistics_in_parts(module, 0, None)


def statistics_per_device(module):
    """tdBN runs on each half of the samples by itself."""
    _statistics_in_parts(module, 1, 2)


def _statistics_in_parts(module, axis, parts):
    """The parts' caches stand in the first one's place of x_hat."""
    forward, backward = module.tdbn_forward, module.tdbn_backward

    def split(x):
        return np.array_split(x, min(parts or x.shape[axis], x.shape[axis]), axis)

    def tdbn_forward(x, *args):
        ys, caches = zip(*(forward(part, *args) for part in split(x)), strict=True)
        return np.concatenate(ys, axis), caches[0]._replace(x_hat=caches)

    def tdbn_backward(dy, cache):
        found = [backward(part, own) for part, own in zip(split(dy), cache.x_hat, strict=True)]
        dx, dgamma, dbeta = zip(*found, strict=True)
        return np.concatenate(dx, axis), sum(dgamma), sum(dbeta)

    module.tdbn_forward, module.tdbn_backward = tdbn_forward, tdbn_backward


# --- widths -----------------------------------------------------------------------------------------------------------


class _Widths(np.ndarray):
    """kappa_t, with those of the single channels as `each`."""

    each = ()


def width_per_channel(module):
    """A neuron takes kappa from its own channel's gamma; what stands as width is still that of the mean."""
    width_of, right = module.width_of_layer, module.lif_backward

    def width_of_layer(gamma, *args):
        width = width_of(gamma, *args).view(_Widths)
        if gamma is not None:
            width.each = [width_of(gamma[c : c + 1], *args) for c in range(len(gamma))]
        return width

    def lif_backward(ds, cache, width, *args):
        if len(getattr(width, "each", ())) != ds.shape[-1]:
            return right(ds, cache, width, *args)
        found = []
        for c, own in enumerate(width.each):
            here = {key: getattr(cache, key)[..., c : c + 1] for key in "xusv"}
            found.append(right(ds[..., c : c + 1], cache._replace(**here), own, *args))
        dx, ddecay, dwidth, du = zip(*found, strict=True)
        return found[0]._replace(
            dx=np.concatenate(dx, -1), ddecay=sum(ddecay), dwidth=sum(dwidth), du=np.concatenate(du, -1)
        )

    module.width_of_layer, module.lif_backward = width_of_layer, lif_backward


def width_of_the_layer_before(module):
    """kappa of a network's layer is that of the one with tdBN before it."""
    _width_of_another_layer(module, -1)


def width_of_the_layer_behind(module):
    """kappa of a network's layer is that of the one with tdBN behind it."""
    _width_of_another_layer(module, 1)


def _width_of_another_layer(module, step):
    """Layers are told apart by their gammas."""
    forward, right, known = module.forward, module.width_of_layer, []

    def of_network(net, layers, *args):
        if layers is net.layers:
            known.clear()
            for block in blocks(layers):
                plif, gamma = block["neuron"] == "plif", net.params.get(f"{block['name']}.gamma")
                decay = (
                    module.decay_from_w(net.params[f"{block['name']}.w"], net.conventions) if plif else block["decay"]
                )
                known.extend([(gamma, block["v_th"], decay)] if gamma is not None else [])
        return forward(net, layers, *args)

    def width_of_layer(gamma, v_th, decay, *args):
        place = next((i for i, layer in enumerate(known) if layer[0] is gamma), None)
        if place is None:
            return right(gamma, v_th, decay, *args)
        return right(*known[min(max(place + step, 0), len(known) - 1)], *args)

    module.forward, module.width_of_layer = of_network, width_of_layer


# --- a training step --------------------------------------------------------------------------------------------------


def dropout_left_on(module):
    """Every other input of the readout is 0, and the others are doubled."""
    forward, backward = module.block_forward, module.block_backward

    def dropped(a):
        return a * (2 * (np.arange(a.size) % 2)).reshape(a.shape).astype(a.dtype)

    def block_forward(net, block, x, values):
        return forward(net, block, dropped(x) if block["kind"] == "readout" else x, values)

    def block_backward(block, *args):
        d = backward(block, *args)
        return dropped(d) if block["kind"] == "readout" else d

    module.block_forward, module.block_backward = block_forward, block_backward


def gradients_accumulated(module):
    """The second of two backward passes adds to what the first has left."""
    _change_gradients(module, lambda params, grads: {name: 2 * g for name, g in grads.items()})


def clipping_left_on(module):
    """The norm of all gradients together is at most CLIPPED."""

    def clip(params, grads):
        norm = float(np.sqrt(sum(np.sum(g * g, dtype=np.float64) for g in grads.values())))
        return {name: g * g.dtype.type(min(CLIPPED / norm, 1) if norm else 1) for name, g in grads.items()}

    _change_gradients(module, clip)


def weight_decay_in_gradient(module):
    """The optimiser's weight decay is in the gradients."""
    _change_gradients(
        module, lambda params, grads: {name: g + g.dtype.type(DECAY) * params[name] for name, g in grads.items()}
    )


def _change_gradients(module, change):
    """Put change({parameter: value}, {parameter: gradient}) in the place of a network's gradients."""
    forward, backward, latest = module.forward, module.backward, {}

    def noted(net, layers, *args):
        if layers is net.layers:
            latest.update(layers=layers, params=net.params)
        return forward(net, layers, *args)

    def of_network(layers, d, caches, values):
        if layers is not latest["layers"]:
            return backward(layers, d, caches, values)
        found = {}
        d = backward(layers, d, caches, found)
        grads = {name: found[f"grad_{name}"] for name in latest["params"] if f"grad_{name}" in found}
        values |= found | {f"grad_{name}": g for name, g in change(latest["params"], grads).items()}
        return d

    module.forward, module.backward = noted, of_network
