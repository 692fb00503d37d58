"""On which side of the window's edge did an implementation have its neurons? Its gradients say so, given its spikes.

Where rounding alone decides, both sides are right, and all gradients behind differ. From the last block back to the first,
each place in doubt is turned in the block's own backward pass; what comes into it is known by then. Places of different
neurons do not mix in du, nor those of different channels in the gradients of the block's parameters, and what places of one
channel change there adds up. So neuron by neuron, or channel by channel, a fit says which were turned. In the first block the
gradient of the network's input shows what those of the parameters do not, in one fit of all its neurons.
"""

from itertools import product

import numpy as np
from scipy.optimize import lsq_linear

from agl_ref.oracle.types import array_name

from .replay_network import NetworkReplay
from .teacher_forcing import replay_of
from .tolerance import NoRounding

MOST = 10  # places of which every combination is tried
CLEAR = 2.0  # beyond: the smallest singular value, in units of what is allowed, from which the fit is unique
MANY = 400  # places of one neuron, channel or block that are looked at: each takes a backward pass of the block
LEAST = 0.1  # of what is allowed: a place that changes less is not seen
ROUNDS = 3  # places of one neuron at several timesteps do not quite add up: the fit is made again


def decide(reference, forced, near, theirs, allowed):
    """Which windows are turned, and which cannot be decided.

    Parameters
    ----------
    reference : Reference
        Of a network or a neuron op, before anything is forced.
    forced : {name: ndarray}
        The dump's spikes and potentials, as for `teacher_forcing.force`.
    near : {name of u: ndarray (T, ...)}
        Distances of the places in doubt from the window's edge, of others infinite.
    theirs, allowed : {name: ndarray}
        The dump's other arrays; how far each array may be off.

    Returns
    -------
    ({name of u: mask} of what is turned, the same of what the dump does not show)
    """
    per_channel = ("weight", "bias", "beta", *(["gamma"] if reference.conventions["width_gradient"] == "none" else []))
    decided = {}

    def settle(block, compute, first):
        potential, du = array_name(block, "u"), array_name(block, "du")
        if potential not in near:
            return compute(False)

        own = [n for n in (du, f"{block}.dx" if block else "grad_x") if n in theirs]
        names = own or [n for n in (f"grad_{block}.{key}" for key in per_channel) if n in theirs]
        axes = slice(1, None) if own else slice(-1, None)
        if first and not own and "grad_x" in theirs:
            names, axes = [*names, "grad_x"], slice(0)
        targets = {n: (theirs[n], np.maximum(allowed[n], 1e-9 * np.abs(theirs[n]).max() + 1e-300)) for n in names}
        turned, _ = decided[potential] = _fit_all(compute, near[potential], targets, axes, (du, allowed[du]))
        return compute(turned)

    r = NoRounding(reference.meta.get("dtype", "float32"))
    replay = replay_of(reference, forced, {}, _Deciding)
    if isinstance(replay, _Deciding):
        replay.settle = settle
        replay.replay(r)
    else:
        settle("", lambda turned: replay_of(reference, forced, {"u": turned})(r), False)
    return tuple({name: masks[i] for name, masks in decided.items()} for i in (0, 1))


class _Deciding(NetworkReplay):
    """A replay that decides each block's windows before its backward pass goes on."""

    def block_backward(self, block, ds, x):
        name, neuron = block["name"], self.neurons[block["name"]]

        def compute(turned):
            self.neurons[name] = neuron._replace(inside=neuron.inside ^ turned)
            self.dx = NetworkReplay.block_backward(self, block, ds, x)
            return {**self.arrays, **{f"grad_{key}": value for key, value in self.grads.items()}, "grad_x": self.dx}

        self.settle(name, compute, block is self.layers[0])
        return self.dx


def _fit_all(compute, near, targets, axes, du):
    """(turned, open): masks of the places in `near`.

    Parameters
    ----------
    compute : callable(mask) -> {name: ndarray}
        The backward pass with these places turned.
    near : ndarray (T, ...)
        Distances from the edge, infinite where nothing is in doubt.
    targets : {name: (theirs, allowed)}
    axes : slice
        Of the places: neurons that differ there do not mix in the targets.
    du : (name, allowed)
        A place that changes this by no more may be on either side.
    """
    still, turned, groups = np.isfinite(near), np.zeros(near.shape, bool), {}
    places = np.argwhere(still)
    for place in map(tuple, places[np.argsort(near[still], kind="stable")]):
        groups.setdefault(place[axes], []).append(place)
    longest = min(max(map(len, groups.values()), default=0), MANY)

    def off(arrays, key):
        """How far the arrays are from theirs in this group, in units of what is allowed."""
        at = (slice(None), *key) if axes.start == 1 else (..., *key)
        parts = [(their[at] - arrays[n][at]) / allowed[at] for n, (their, allowed) in targets.items()]
        return np.concatenate([np.ravel(part) for part in parts])

    for again in range(ROUNDS if targets else 0):
        arrays, effects, material = compute(turned), {key: [] for key in groups}, {}
        before = {key: off(arrays, key) for key in groups}
        if again and all(np.abs(missing).max() <= 1 for missing in before.values()):
            break
        for i in range(longest):
            moved = {key: members[i] for key, members in groups.items() if len(members) > i}
            one = np.zeros_like(still)
            one[tuple(np.transpose(list(moved.values())))] = True
            changed = compute(turned ^ one)
            for key, at in moved.items():
                effects[key].append(before[key] - off(changed, key))
                material[at] = abs(changed[du[0]][at] - arrays[du[0]][at]) > du[1][at]
        change = np.zeros_like(still)
        for key, members in groups.items():
            every, members = len(members) <= longest, members[:longest]
            chosen, decided = _fit(np.stack(effects[key], axis=1), before[key], every)
            change[tuple(np.transpose(members))] = chosen
            still[tuple(np.transpose(members))] = ~decided & [material[at] for at in members]
        turned = turned ^ change
        if not change.any() or longest == 1:
            break
    return turned, still


def _fit(effects, missing, every):
    """(which columns of `effects`, nearest first, add up to what is missing, which of them are decided by that).

    The nearest are tried first, and then more, until some fit. Where none do and too many are left to tell which, but `every`
    place has a column and no shares of them come near what is missing, something else is wrong, and all are decided.
    """
    seen = np.abs(effects).max(axis=0)
    visible, size = np.flatnonzero(seen > LEAST), MOST
    few = effects[:, visible[:MOST]]
    choices = np.array(list(product((False, True), repeat=few.shape[1])), bool)
    rest = missing[:, None] - few @ choices.T.astype(float)
    chosen = np.zeros(len(seen), bool)
    chosen[visible[:MOST]] = choices[np.argmin((rest * rest).sum(axis=0))]
    while True:
        if np.abs(missing - effects[:, chosen].sum(axis=1)).max() <= 1:
            decided = seen > CLEAR
            decided[visible[:size]] = True
            return chosen, decided
        if size >= len(visible):
            break
        size *= 2
        chosen = _turn_one_by_one(effects, missing, chosen, visible[:size])
    decided = seen > LEAST
    if len(visible) > MOST:
        shares, *_, sizes = np.linalg.lstsq(effects[:, visible], missing, rcond=None)
        if len(missing) >= len(sizes) == len(shares) and sizes.min() >= CLEAR:
            chosen[visible] = shares > 0.5
        else:
            least = 2 * lsq_linear(effects, missing, (0, 1)).cost
            decided[:] = every and least > CLEAR**2 * len(missing)
    return chosen, decided


def _turn_one_by_one(effects, missing, chosen, among):
    """`chosen` after turning, again and again, the one of these columns that brings the sum closest to what is missing."""
    chosen, sizes = chosen.copy(), (effects[:, among] ** 2).sum(axis=0)
    while True:
        rest = missing - effects[:, chosen].sum(axis=1)
        gains = np.where(chosen[among], -2, 2) * (rest @ effects[:, among]) - sizes
        if gains.max() <= 1e-9 * sizes.max():
            return chosen
        chosen[among[np.argmax(gains)]] ^= True
