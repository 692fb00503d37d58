"""What a run takes of memory, estimated before it is taken: a process that asks for too much is killed without a word.

The factors are measured: the estimates are within a factor of two of the peaks of small and large batches, T, and channels.
"""

import contextlib
import itertools
import math
import os
from pathlib import Path

from agl_ref.data import EventDataset
from agl_ref.engine.blocks import Residual, SpikingBlock

EVALUATED, TRACED = 250, 50  # images at once, in `Trainer.evaluate` and `Trainer.trace`
PROCESS = 200 << 20  # bytes of Python, its libraries and the compiled kernels
TRAINED, LARGEST, SEEN = 5, 4, 3  # copies of the largest block's values in a step and in evaluation; of all in a trace
CGROUPS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def machine():
    """Bytes of memory that this machine, or container, has; infinity where that cannot be found out."""
    found = math.inf
    with contextlib.suppress(AttributeError, ValueError, OSError):  # Windows has no sysconf
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in map(Path, CGROUPS):
        with contextlib.suppress(ValueError, OSError):  # no such file, or "max"
            found = min(found, int(path.read_text(encoding="utf-8")))
    return found


def require_weights(config):
    """Refuse a network whose kernels, of 3 x 3 or of one weight, take more memory than there is. Raises ValueError."""
    channels = (1, *(config.channels or ()))
    pairs = [
        *itertools.pairwise(channels),
        *((c, c) for c in channels[-2:] if config.network in ("vgg_snn", "sew_resnet19")),
    ]
    weights = (1 if config.network == "fc_snn" else 9) * sum(a * b for a, b in pairs)
    _require({"weights": (_copies(config) * 4 * weights, "channels")})


def require(config, net, dataset, training=True):
    """Refuse a run of this network, or its evaluation alone, that takes more memory than there is. Raises ValueError."""
    _require(estimate(config, net, dataset, training))


def estimate(config, net, dataset, training=True):
    """{what: (bytes, what to lower)} of a run, or of its evaluation alone, at its peak; their sum counts."""
    size = net.dtype.itemsize
    inputs = [math.prod(shape) for _, shape in blocks_of(net.layers, net.input_shape)]
    outputs = [math.prod(block.synapse.output_shape(shape)) for block, shape in blocks_of(net.layers, net.input_shape)]
    stills = config.encoding == "direct" and not isinstance(dataset, EventDataset)  # one image for all timesteps
    drawn = 0 if stills else math.prod(net.input_shape) * size
    step = drawn + sum(outputs) * size + sum(inputs) + TRAINED * max(outputs) * size  # inputs are kept in bytes
    batch, tested = min(config.batch, len(dataset.x_train)), min(EVALUATED, len(dataset.x_test))
    test = max(tested * LARGEST * max(outputs), min(TRACED, tested) * SEEN * sum(outputs)) * size + tested * drawn
    images, each, lower = f"{tested} test images", test, "T or channels"
    if training and batch * step > test:
        images, each, lower = f"{batch} images", batch * step, "T, batch or channels"
    weights = sum(p.size for p in net.parameters().values()) * size * _copies(config)
    return {
        "weights": (weights, "channels"),
        f"layers' values at {config.T} timesteps of {images}": (config.T * each, lower),
    }


def blocks_of(layers, shape):
    """(spiking block, the shape of its input for one sample at one timestep) of all of them."""
    for layer in layers:
        if isinstance(layer, Residual):
            yield from blocks_of(layer.body, shape)
            yield from blocks_of([layer.shortcut] if layer.shortcut else [], shape)
        elif isinstance(layer, SpikingBlock):
            yield layer, shape
        shape = layer.output_shape(shape)


def _copies(config):
    """Of the weights: themselves, their gradients, what the optimiser holds, and all but the gradients in a checkpoint."""
    return {"sgd": 5, "adam": 7}[config.optimiser]


def _require(parts):
    there, taken = machine(), PROCESS + sum(size for size, _ in parts.values())
    if taken > there:
        most = max(parts, key=lambda what: parts[what][0])
        raise ValueError(
            f"memory: expected a run that fits in the {there / 2**30:,.1f} GiB of this machine, received one that "
            f"takes about {taken / 2**30:,.1f} GiB, most of it for the {most}; lower {parts[most][1]}"
        )
