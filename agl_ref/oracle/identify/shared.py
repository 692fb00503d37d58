"""A copy of `agl_ref.reference` that computes no step twice, for runs under many conventions, which share most of them.

What a step gives is remembered under the numbers it was given and the conventions it reads, so that rules which leave a
layer's spikes, or the gradients that come back to it, as they are share all that follows.
"""

import hashlib
import weakref

import numpy as np

from agl_ref.conventions import Conventions
from agl_ref.oracle.mutants.variants import variant

MOST = 1 << 28  # bytes of results that are remembered; those that were not asked for longest make room
STEPS = {  # what each reads of the conventions
    "conv2d_forward": (),
    "conv2d_backward": (),
    "tdbn_forward": ("norm_variance", "norm_scale", "norm_shift"),
    "tdbn_backward": (),
    "lif_forward": ("spike_test", "reset", "input_scale"),
    "lif_backward": (
        "reset",
        "reset_gradient",
        "window_edge",
        "surrogate_scale",
        "width_gradient",
        "input_scale",
    ),
}


def shared_reference():
    """The copy, with a memory of its own. Nobody may change what its functions return, and the conventions in the cache of
    `lif_forward` may be others with the same forward pass."""
    memory = _Memory()

    def share(module):
        for name, reads in STEPS.items():
            setattr(module, name, memory.shared(getattr(module, name), reads))

    return variant(functions=share)


class _Memory:
    """Results of functions by what these were given. Each array is read once for its key, however many functions take it."""

    def __init__(self):
        self.results, self.size = {}, 0
        self.keys = {}  # {id of an array: (a reference that says whether it is still that one, its key)}

    def shared(self, function, reads):
        """The function that looks before it computes; of Conventions only the fields `reads` count."""

        def remembered(*args):
            key = function, *(self.key(value, reads) for value in args)
            if key in self.results:
                self.results[key] = self.results.pop(key)  # the youngest now
                return self.results[key]
            result = self.results[key] = function(*args)
            self.size += _bytes(result)
            while self.size > MOST and len(self.results) > 1:
                self.size -= _bytes(self.results.pop(next(iter(self.results))))
            return result

        return remembered

    def key(self, value, reads):
        """Equal for equal numbers."""
        if isinstance(value, tuple):
            return tuple(self.key(part, reads) for part in value)
        if isinstance(value, Conventions):
            return tuple(getattr(value, name) for name in reads)
        if not isinstance(value, np.ndarray):
            return value
        found = self.keys.get(id(value))
        if found is None or found[0]() is not value:
            digest = hashlib.sha256(np.ascontiguousarray(value)).digest()
            found = self.keys[id(value)] = weakref.ref(value), (value.shape, value.dtype.str, digest)
        return found[1]


def _bytes(result):
    """Of the arrays in a result."""
    return sum(map(_bytes, result)) if isinstance(result, tuple) else getattr(result, "nbytes", 0)
