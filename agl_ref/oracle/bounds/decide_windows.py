"""On which side of the window's edge did an implementation have its neurons? Its gradients say so, given its spikes.

Where rounding alone decides, both sides are right, and all gradients behind differ. From the last block back to the first,
each place in doubt is turned in the block's own backward pass; what comes into it is known by then. Places of different
neurons do not mix in du, nor those of different channels in the gradients of the block's parameters, and what places of one
channel change there adds up. So neuron by neuron, or channel by channel, a fit says which were turned.
"""

from itertools import product

import numpy as np

from agl_ref.oracle.types import array_name

from .replay_network import NetworkReplay
from .teacher_forcing import replay_of
from .tolerance import NoRounding

MOST = 10  # places of one neuron or channel of which every combination is tried
CLEAR = 2.0  # beyond: the smallest singular value, in units of what is allowed, from which the fit is unique
MANY = 100  # places of one neuron or channel of which none is decided: each takes a backward pass of the block
LEAST = 0.1  # of what is allowed: a place that changes less may be on either side
ROUNDS = 3  # places of one neuron at several timesteps do not quite add up: the fit is made again


def decide(reference, forced, near, theirs, allowed):
    """Which windows are turned, and which cannot be decided.

    Parameters
    ----------
    reference : Reference
        Of a network or a neuron op, before anything is forced.
    forced : {name: ndarray}
        The dump's spikes and potentials, as for `teacher_forcing.force`.
    near : {name of u: mask (T, ...)}
        The places in doubt.
    theirs, allowed : {name: ndarray}
        The dump's other arrays, and how far each may be off.

    Returns
    -------
    ({name of u: mask} of what is turned, the same of what the dump does not show)
    """
    per_channel = ("weight", "bias", "beta", *(["gamma"] if reference.conventions["width_gradient"] == "none" else []))
    decided = {}

    def settle(block, compute):
        potential = array_name(block, "u")
        if potential not in near:
            return compute(False)
        own = [n for n in (array_name(block, "du"), f"{block}.dx" if block else "grad_x") if n in theirs]
        names = own or [n for n in (f"grad_{block}.{key}" for key in per_channel) if n in theirs]
        targets = {n: (theirs[n], np.maximum(allowed[n], 1e-9 * np.abs(theirs[n]).max() + 1e-300)) for n in names}
        decided[potential] = turned, _ = _fit_all(compute, near[potential], targets, bool(own))
        return compute(turned)

    r = NoRounding(reference.meta.get("dtype", "float32"))
    replay = replay_of(reference, forced, {}, _Deciding)
    if isinstance(replay, _Deciding):
        replay.settle = settle
        replay.replay(r)
    else:
        settle("", lambda turned: replay_of(reference, forced, {"u": turned})(r))
    return tuple({name: masks[i] for name, masks in decided.items()} for i in (0, 1))


class _Deciding(NetworkReplay):
    """A replay that decides each block's windows before its backward pass goes on."""

    def block_backward(self, block, ds, x):
        name, neuron = block["name"], self.neurons[block["name"]]

        def compute(turned):
            self.neurons[name] = neuron._replace(inside=neuron.inside ^ turned)
            self.dx = NetworkReplay.block_backward(self, block, ds, x)
            return {**self.arrays, **{f"grad_{key}": value for key, value in self.grads.items()}}

        self.settle(name, compute)
        return self.dx


def _fit_all(compute, near, targets, apart):
    """(turned, open): masks of `near`; `targets` {name: (theirs, allowed)}, of neurons that stay `apart` or per channel."""
    places = np.argwhere(near)
    keys, group = np.unique(places[:, 1:] if apart else places[:, -1:], axis=0, return_inverse=True)
    group, turned, still = group.ravel(), np.zeros_like(near), near.copy()
    by_group, first = np.argsort(group, kind="stable"), np.searchsorted(np.sort(group), group)
    order = np.argsort(by_group) - first  # of a place in its group
    at = [(slice(None) if apart else ..., *key) for key in keys]

    def off(arrays, g):
        """How far the arrays are from theirs in this group, in units of what is allowed."""
        parts = [(their[at[g]] - arrays[n][at[g]]) / allowed[at[g]] for n, (their, allowed) in targets.items()]
        return np.concatenate([np.ravel(part) for part in parts])

    for _ in range(ROUNDS if targets and order.max() < MANY else 0):
        arrays, effects = compute(turned), {}
        before = [off(arrays, g) for g in range(len(keys))]
        for i in range(order.max() + 1):
            one = np.zeros_like(near)
            one[tuple(places[order == i].T)] = True
            arrays = compute(turned ^ one)
            effects |= {k: before[group[k]] - off(arrays, group[k]) for k in np.flatnonzero(order == i)}
        change = np.zeros_like(near)
        for g, missing in enumerate(before):
            members = np.flatnonzero(group == g)
            chosen, unique = _fit(np.stack([effects[k] for k in members], axis=1), missing)
            change[tuple(places[members[chosen]].T)] = True
            still[tuple(places[members].T)] = not unique
        turned = turned ^ change
        if not change.any() or order.max() == 0:
            break
    return turned, still


def _fit(effects, missing):
    """(which columns of `effects` add up to what is missing, whether that is the only answer)."""
    chosen = np.abs(effects).max(axis=0) > LEAST
    effects = effects[:, chosen]
    if effects.shape[1] <= MOST:
        choices = np.array(list(product((False, True), repeat=effects.shape[1])))
        rest = missing[:, None] - effects @ choices.T.astype(float)
        best, unique = choices[np.argmin((rest * rest).sum(axis=0))], True
    else:
        shares, *_, sizes = np.linalg.lstsq(effects, missing, rcond=None)
        best, unique = shares > 0.5, len(effects) >= len(sizes) == len(shares) and sizes.min() >= CLEAR
    chosen[chosen] = best
    return chosen, unique
