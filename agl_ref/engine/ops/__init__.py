"""The public operations: every forward with its backward, validated. What they compute is in the layers' own files.

    y, cache = op_forward(x, ...)        dx, ... = op_backward(dy, cache)

Nothing is remembered between calls: a cache holds all that the backward pass uses, and may be edited with
`cache._replace`. Arrays are (T, N, H, W, C) or (T, N, F), float32 or float64; nothing is cast silently. The layers of a
network call the same code without validation, since their inputs come from each other.
"""

# ruff: noqa: F401  these are the names of agl_ref.ops
from agl_ref.engine.loss import reduce_logits
from agl_ref.engine.neuron import LIFCache, decay_from_w
from agl_ref.engine.surrogate import FAMILY, NAMES

from .loss import cross_entropy_backward, cross_entropy_forward, tet_backward, tet_forward
from .neuron import check_width, lif_backward, lif_backward_full, lif_forward, plif_backward, plif_forward
from .norm import tdbn_backward, tdbn_forward, update_running
from .surrogate import derivative, primitive
from .synapses import (
    avg_pool_backward,
    avg_pool_forward,
    conv2d_backward,
    conv2d_forward,
    global_avg_pool_backward,
    global_avg_pool_forward,
    linear_backward,
    linear_forward,
    max_pool_backward,
    max_pool_forward,
)
