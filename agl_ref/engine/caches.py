"""What a forward pass is asked for, and what it leaves of a block: the values that layers hand to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import MPD_AGL, Conventions

from .fast import tdbn_lif
from .neuron import LIFCache
from .tdbn import TdBNCache


@dataclass(frozen=True)
class Mode:
    """How a forward pass is run: what all layers share."""

    training: bool = True
    conventions: Conventions = MPD_AGL
    surrogate: str = "rectangular"
    relaxed: bool = False  # s = S(u - V_th) instead of the step
    widths: dict | None = None  # {block name: kappa (T,)} instead of the rule's
    keep: str = "trace"  # or "backward": until the way back has used it; or "nothing"
    observe: Callable | None = None  # called with (block, its BlockCache) after each block


class BlockCache(NamedTuple):
    """One spiking block in one pass: caches of synapse, norm (None without one), neuron and pool (None), and kappa_t.

    u, s and v are computed again where the neuron's cache does not hold them but the norm's its input; where that is gone
    too they raise ValueError.
    """

    synapse: tuple | None
    norm: TdBNCache | None
    neuron: LIFCache
    width: np.ndarray
    pool: tuple | None = None

    def whole_neuron(self):
        """The neuron's cache with its u and s."""
        own = self.neuron
        if own.u is None and self.norm is not None and self.norm.x is not None:
            _, own = tdbn_lif.forward(self.norm, own.decay, own.v_th, own.conventions, own.surrogate)
        if own.u is None or own.s is None:
            raise ValueError(
                "trace: expected one that holds u and s, received one of a pass with keep_trace=False; keep it"
            )
        return own

    @property
    def u(self):
        """Membrane potential before firing, (T, N, ...)."""
        return self.whole_neuron().u

    @property
    def s(self):
        """Spikes, (T, N, ...)."""
        return self.whole_neuron().s

    @property
    def v(self):
        """Membrane potential after reset, (T, N, ...)."""
        return self.whole_neuron().v


class ResidualCache(NamedTuple):
    """Caches of the body's blocks in order, and of the shortcut (None: identity)."""

    body: tuple
    shortcut: BlockCache | None


def block_caches(caches):
    """Each BlockCache in the caches of layers, in the order of computation; a shortcut's comes behind its body's."""
    for cache in caches:
        if isinstance(cache, ResidualCache):
            yield from cache.body
            yield from () if cache.shortcut is None else (cache.shortcut,)
        elif isinstance(cache, BlockCache):
            yield cache


def with_another(cache, old, new):
    """A layer's cache, with the BlockCache `old`, if it is this one or in it, replaced by `new`."""
    if isinstance(cache, ResidualCache):
        body = tuple(with_another(each, old, new) for each in cache.body)
        return ResidualCache(body, with_another(cache.shortcut, old, new))
    return new if cache is old else cache
