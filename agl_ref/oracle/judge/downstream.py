"""What depends on what: which elements of a reference a wrong value can have reached. NumPy alone.

Neurons do not talk to each other inside a layer, so a value reaches the same neuron at later timesteps (in the backward
pass: earlier ones), every later block, and in the backward pass everything that is computed after it. The body of a
residual block and its shortcut do not reach each other but through what follows them.
"""

from typing import NamedTuple

import numpy as np

from agl_ref.oracle.types import BACKWARD, FORWARD, split_name


class Position(NamedTuple):
    """Of an array in the order of computation."""

    group: int  # where its block's pass begins
    block: str | None
    kind: str
    phase: str  # "forward", "between" (the loss), "backward" or "weights"


class Order:
    """In which order the arrays of a reference are computed.

    Parameters
    ----------
    names : list of str
        In the order of computation.
    layers : list of dict
        A network's, as in its Reference's meta; read for residual blocks with a shortcut.
    """

    def __init__(self, names, layers=()):
        self.names = list(names)
        self.branch = {}  # {block: (residual block, which of its two branches)}
        for layer in layers:
            if layer["kind"] == "residual" and layer["shortcut"]:
                self.branch[layer["shortcut"]["name"]] = layer["name"], "shortcut"
                self.branch.update({block["name"]: (layer["name"], "body") for block in layer["body"]})
        self.positions, groups = {}, {}
        for i, name in enumerate(self.names):
            block, kind, phase = self._kind(name)
            group = groups.setdefault((block, phase), i) if block is not None else i
            self.positions[name] = Position(group, block, kind, phase)

    def _kind(self, name):
        """(block, kind, phase); a parameter's gradient belongs to its block and the phase "weights"."""
        if name == "grad_x" and "du" in self.names:
            return "", "dx", "backward"  # of a neuron op
        block, kind = split_name(name)
        if block is not None:
            return block, kind, "forward" if kind in FORWARD else "backward"
        if name.startswith("grad_") and "." in name:
            return name[5:].rpartition(".")[0], kind, "weights"
        # the gradient of a network's input comes after every block, that of the readout before
        return None, kind, "weights" if name.startswith("grad_") and name != "grad_x" else "between"

    def after(self, name, source, mask):
        """Boolean mask of the elements of `name` (or None: no element) that the marked elements of `source` can reach.

        `mask` has the source's shape; the result broadcasts to the shape of `name`.
        """
        if not np.any(mask) or name == source and self.positions[name].phase in ("weights", "between"):
            return None
        if name == "dlogits" and "loss" not in self.names:  # an input, of a loss that is not ours
            return None
        group, block, kind, phase = self.positions[name]
        start, from_block, from_kind, from_phase = self.positions[source]
        if from_phase == "weights":
            return None
        through_the_loss = from_phase == "forward" and phase != "forward" and from_kind != "width"
        if self._beside(block, from_block) and not through_the_loss:
            return None
        if from_kind == "width":  # the width of a window matters for gradients alone
            return np.True_ if phase in ("backward", "weights") and group >= self._backward_of(from_block) else None
        if group == start and phase in ("forward", "backward") and kind != "width":
            return self._within(kind, from_kind, phase, mask)
        if block == from_block == "" and phase == "backward" and from_phase == "forward":
            return np.any(mask, axis=0, keepdims=True)  # an op's neurons stay apart
        if phase == "weights":
            readout = block is not None and not self._begins("backward", block)
            reached = not readout and self._backward_of(block) >= start
            return np.True_ if from_phase != "backward" or reached else None
        return np.True_ if group > start and kind != "width" else None

    def _beside(self, block, other):
        """Whether one of the two is in the body of a residual block and the other in its shortcut."""
        here, there = self.branch.get(block), self.branch.get(other)
        return bool(here and there) and here[0] == there[0] and here[1] != there[1]

    def _backward_of(self, block):
        """Where the backward pass of a block begins; the readout's is at the first gradient."""
        groups = self._begins("backward", block)
        every = [at.group for at in self.positions.values() if at.phase == "backward"]
        return groups[0] if groups else min(every, default=0)

    def _begins(self, phase, block):
        """Groups of a block's arrays in a phase."""
        return [at.group for at in self.positions.values() if at.phase == phase and at.block == block]

    @staticmethod
    def _within(kind, from_kind, phase, mask):
        """The same neuron at later times (backward: at earlier ones), and at the same time in what comes after."""
        kinds = FORWARD if phase == "forward" else BACKWARD
        if kind == "x" or (kind == "ds"):
            return None  # inputs of the recursion
        ordered = mask if phase == "forward" else mask[::-1]
        reached = np.logical_or.accumulate(ordered, axis=0)
        strictly = np.concatenate([np.zeros_like(reached[:1]), reached[:-1]])
        result = reached if kinds.index(kind) > kinds.index(from_kind) else strictly
        return result if phase == "forward" else result[::-1]
