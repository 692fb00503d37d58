"""What a forward pass is asked for, and what it leaves of a block: the values that layers hand to each other."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import MPD_AGL, Conventions

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
    keep: str = "trace"  # or "backward": only what the backward pass cannot compute again; or "nothing"
    observe: Callable | None = None  # called with (block, its BlockCache) after each block


class BlockCache(NamedTuple):
    """One spiking block in one pass: caches of synapse, norm (None without one), neuron and pool (None), and kappa_t.

    u, s and v raise ValueError after a pass that did not keep them.
    """

    synapse: tuple | None
    norm: TdBNCache | None
    neuron: LIFCache
    width: np.ndarray
    pool: tuple | None = None

    def _kept(self):
        if self.neuron.u is None or self.neuron.s is None:
            raise ValueError(
                "trace: expected one that holds u and s, received one of a pass with keep_trace=False; keep it"
            )
        return self.neuron

    @property
    def u(self):
        """Membrane potential before firing, (T, N, ...)."""
        return self._kept().u

    @property
    def s(self):
        """Spikes, (T, N, ...)."""
        return self._kept().s

    @property
    def v(self):
        """Membrane potential after reset, (T, N, ...)."""
        return self._kept().v


class ResidualCache(NamedTuple):
    """Caches of the body's blocks in order, and of the shortcut (None: identity)."""

    body: tuple
    shortcut: BlockCache | None
