"""What of a pass is kept, and what the backward pass computes again. It is decided here and nowhere else.

keep          of a block                                                    for
"trace"       the synapse's input, in bytes where that is exact, and the    looking at it, editing it, going back
              norm's input; u and s are computed again from the latter
"backward"    the same, until the way back has used it                      a training step
"nothing"     the norm's statistics                                         predictions, running statistics
"""

from agl_ref.engine.caches import BlockCache, ResidualCache
from agl_ref.engine.conv import PoolCache
from agl_ref.engine.ops import lif_backward_full

from . import tdbn_lif
from .packing import from_bytes, in_bytes


def needs_u(mode, width):
    """Whether a block's u has to be stored in the forward pass: for an observer, or a width that is measured on it."""
    return mode.observe is not None or width is None


def kept(cache, mode):
    """What `mode.keep` leaves of a BlockCache: all of it where u cannot be computed again from a norm's input."""
    if mode.keep == "nothing":
        return released(cache)
    if cache.norm is None or mode.relaxed:
        return cache
    packed = cache.synapse._replace(x=in_bytes(cache.synapse.x))
    return cache._replace(synapse=packed, neuron=cache.neuron._replace(u=None, s=None, x=None))


def released(cache):
    """What is left of a layer's cache after its use: nothing of the layer's size, but u where no norm's variance would show
    a NaN."""
    if isinstance(cache, ResidualCache):
        return ResidualCache(tuple(map(released, cache.body)), cache.shortcut and released(cache.shortcut))
    if isinstance(cache, BlockCache):
        norm = None if cache.norm is None else cache.norm._replace(x=None)
        u = cache.neuron.u if cache.norm is None else None
        return BlockCache(None, norm, cache.neuron._replace(u=u, s=None, x=None), cache.width)
    return cache if isinstance(cache, PoolCache) else None


def neuron_grads(ds, cache, learns):
    """`LIFGrads` of a block's neuron, whether or not its u and s were kept; ddecay counts only if its decay `learns`."""
    if cache.neuron.u is None:
        return tdbn_lif.backward(ds, cache.norm, cache.neuron, cache.width, learns)
    return lif_backward_full.unchecked(ds, cache.neuron, cache.width, cache.neuron.conventions, cache.neuron.surrogate)


def synapse_cache(cache, dtype):
    """The synapse's cache with its input in its own dtype."""
    return cache.synapse._replace(x=from_bytes(cache.synapse.x, dtype))


def whole(cache):
    """The BlockCache with u and s, and with the synapse's input in its own dtype, where they can be had."""
    own = cache.neuron
    if own.u is not None or cache.norm is None or cache.norm.x is None:
        return cache
    own = cache.whole_neuron()
    return cache._replace(synapse=synapse_cache(cache, own.u.dtype), neuron=own)
