"""Golden cases of everything around the neuron: tdBN, convolution, linear, pools, the residual sum, the losses."""

import numpy as np

from .case import case

EPS = 1e-5
NORM = {"v_th": 0.5, "alpha": 1.0, "eps": EPS}


def _norm_exact(draw):
    """Half of each channel's values lie 3/4 above its mean, half 3/4 below: with eps = 7/16 the deviation is 1."""
    T, N, C = 4, 8, 5
    signs = np.ones((T * N, C))
    for c in range(C):
        signs[np.argsort(draw.integers(0, 2**40, (T * N,)), kind="stable")[: T * N // 2], c] = -1
    mean = draw.dyadic(-1, 1, 1 / 4, (C,))
    gamma = draw.dyadic(0.5, 2, 1 / 4, (C,)) * np.array([1, 1, -1, 1, 1])
    return {
        "x": (mean + 0.75 * signs).reshape(T, N, C),
        "gamma": gamma,
        "beta": draw.dyadic(-1, 1, 1 / 8, (C,)),
        "dy": draw.dyadic(-2, 2, 1 / 4, (T, N, C)),
    }


def exact_evaluation(shape, gamma, beta, mean, var):
    """Exact inputs of tdBN in evaluation; eps = 1/16 completes the running variances to 1/4, 1 or 4."""

    def make(draw):
        x, dy = draw.dyadic(-2, 2, 1 / 8, shape), draw.dyadic(-2, 2, 1 / 4, shape)
        inputs = {"x": x, "gamma": gamma, "beta": beta, "dy": dy, "running_mean": mean, "running_var": var}
        return {name: np.array(value) for name, value in inputs.items()}

    return make


EVALUATION = exact_evaluation(
    (3, 2, 3, 5, 3), (1.25, -0.5, 0.75), (0.125, 0.25, -0.375), (0.5, -0.25, 1.125), (0.1875, 0.9375, 3.9375)
)


def norm_inputs(shape, mean=0.3, std=1.5, running=False, dead=False):
    def make(draw):
        C = shape[-1]
        x = draw.normal(mean, std, shape)
        if dead:
            x[..., 0] = 0.0
        inputs = {
            "x": x,
            "gamma": draw.normal(1.0, 0.3, (C,)),
            "beta": draw.normal(0.0, 0.2, (C,)),
            "dy": draw.normal(0.02, 0.1, shape),
        }
        if running:
            inputs["running_mean"] = draw.normal(0.2, 0.2, (C,))
            inputs["running_var"] = 0.5 + np.abs(draw.normal(1.0, 0.5, (C,), 20))
        return inputs

    return make


def _tdbn(id, tier, make, flags=(), decides=(), meta=None, bits=None, **conventions):
    return case(id, "tdbn", tier, make, {**NORM, **(meta or {})}, flags, decides, bits, **conventions)


NORMS = [
    _tdbn("tdbn-training-exact", 2, _norm_exact, ("odd_sizes",), ("norm_scale",), {"eps": 0.4375}, 24),
    _tdbn("tdbn-evaluation-exact", 1, EVALUATION, ("odd_sizes",), ("norm_scale",), {"eps": 0.0625}, 24),
    _tdbn("tdbn-training", 3, norm_inputs((4, 3, 5, 3, 6)), ("odd_sizes",), ("norm_variance", "norm_scale")),
    _tdbn("tdbn-evaluation", 3, norm_inputs((4, 3, 5, 3, 6), running=True), ("odd_sizes",), ("norm_scale",)),
    _tdbn("tdbn-unbiased", 3, norm_inputs((2, 3, 7)), ("odd_sizes",), ("norm_variance",), norm_variance="unbiased"),
    _tdbn("tdbn-plain", 3, norm_inputs((4, 3, 7)), ("odd_sizes",), ("norm_scale",), norm_scale="1"),
    _tdbn("tdbn-alpha", 3, norm_inputs((4, 3, 7)), ("odd_sizes",), ("norm_scale",), {"alpha": 0.75, "v_th": 1.25}),
    _tdbn("tdbn-large-mean", 3, norm_inputs((4, 4, 9), 30.0, 0.5), ("large_values", "odd_sizes")),
    _tdbn("tdbn-dead-channel", 3, norm_inputs((4, 4, 9), dead=True), ("dead_channel", "odd_sizes")),
    _tdbn("tdbn-many-rows", 3, norm_inputs((2, 2, 25, 41, 2)), ("several_thread_blocks", "odd_sizes")),
]


def _synapse(x_shape, weight_shape, dy_shape, bias=True, spikes=False, coarse=False):
    """Exact inputs of a convolution or a linear map; `coarse` values, so that long sums fit 24 bits."""
    step = 1 / 4 if coarse else 1 / 16

    def make(draw):
        x = draw.spikes(0.3, x_shape) if spikes else draw.dyadic(-1, 1, step, x_shape)
        inputs = {"x": x, "weight": draw.dyadic(-1, 1, step, weight_shape)}
        if bias:
            inputs["bias"] = draw.dyadic(-1, 1, step, weight_shape[-1:])
        return {**inputs, "dy": draw.dyadic(-1, 1, step, dy_shape)}

    return make


def _realistic_synapse(x_shape, weight_shape, dy_shape, share=None):
    fan = np.prod(weight_shape[:-1])

    def make(draw):
        x = draw.normal(0.0, 1.0, x_shape) if share is None else draw.spikes(share, x_shape)
        weight = draw.normal(0.0, (2.0 / fan) ** 0.5, weight_shape)
        bias = draw.normal(0.0, 0.1, weight_shape[-1:])
        return {"x": x, "weight": weight, "bias": bias, "dy": draw.normal(0.0, 0.05, dy_shape)}

    return make


def _conv(id, make, stride=1, padding=1, flags=("odd_sizes",), tier=1, bits=24):
    return case(id, "conv2d", tier, make, {"stride": stride, "padding": padding}, flags, bits=bits)


def _linear(id, make, flags=("odd_sizes",), tier=1, bits=24):
    return case(id, "linear", tier, make, {}, flags, bits=bits)


SYNAPSES = [
    _conv("conv-same", _synapse((2, 2, 5, 7, 3), (3, 3, 3, 5), (2, 2, 5, 7, 5))),
    _conv("conv-stride", _synapse((2, 2, 6, 7, 3), (3, 3, 3, 5), (2, 2, 3, 4, 5)), 2),
    _conv("conv-shortcut", _synapse((2, 3, 5, 6, 5), (1, 1, 5, 7), (2, 3, 3, 3, 7), bias=False), 2, 0),
    _conv("conv-no-padding", _synapse((2, 2, 5, 7, 3), (3, 3, 3, 4), (2, 2, 3, 5, 4)), 1, 0),
    _conv("conv-5x5", _synapse((1, 2, 8, 9, 2), (5, 5, 2, 3), (1, 2, 3, 3, 3)), 3, 2),
    _conv("conv-spikes", _synapse((3, 1, 5, 3, 4), (3, 3, 4, 17), (3, 1, 5, 3, 17), spikes=True)),
    _conv(
        "conv-many-rows",
        _synapse((2, 2, 26, 40, 1), (3, 3, 1, 1), (2, 2, 26, 40, 1), coarse=True),
        flags=("several_thread_blocks",),
    ),
    _conv(
        "conv-one-sample",
        _synapse((1, 1, 5, 5, 1), (3, 3, 1, 1), (1, 1, 5, 5, 1)),
        flags=("one_sample", "one_timestep", "odd_sizes"),
    ),
    _conv("conv-realistic", _realistic_synapse((3, 2, 7, 5, 6), (3, 3, 6, 9), (3, 2, 7, 5, 9)), tier=3, bits=None),
    _linear("linear-exact", _synapse((3, 5, 7), (7, 11), (3, 5, 11))),
    _linear("linear-square", _synapse((3, 5, 7), (7, 7), (3, 5, 7), bias=False)),
    _linear("linear-many-rows", _synapse((4, 1026, 2), (2, 3), (4, 1026, 3), coarse=True), ("several_thread_blocks",)),
    _linear(
        "linear-strided-gradient",
        lambda draw: _columns(_synapse((3, 5, 7), (7, 9), (3, 5, 9))(draw)),
        ("non_contiguous_gradients", "odd_sizes"),
    ),
    _linear("linear-realistic", _realistic_synapse((2, 3, 301), (301, 10), (2, 3, 10)), tier=3, bits=None),
    _linear("linear-spikes", _realistic_synapse((4, 3, 129), (129, 10), (4, 3, 10), 0.25), tier=3, bits=None),
]


def _columns(inputs):
    return {**inputs, "dy": np.asfortranarray(inputs["dy"])}


def _pool(x_shape, dy_shape):
    return lambda draw: {name: draw.dyadic(-1, 1, 1 / 16, shape) for name, shape in (("x", x_shape), ("dy", dy_shape))}


def _two_spikes(draw):
    shape = (2, 3, 3, 5, 4)
    return {"x": draw.spikes(0.5, shape), "side": draw.spikes(0.5, shape), "dy": draw.dyadic(-1, 1, 1 / 4, shape)}


def _images(draw):
    return {"x": draw.normal(0.4, 0.5, (2, 3, 3, 5, 7)), "dy": draw.normal(0.0, 0.1, (2, 3, 7))}


POOLS = [
    case("pool-even", "avg_pool", 1, _pool((2, 3, 6, 4, 5), (2, 3, 3, 2, 5)), bits=8),
    case("pool-odd", "avg_pool", 1, _pool((2, 3, 5, 7, 3), (2, 3, 2, 3, 3)), flags=("odd_sizes",), bits=8),
    case("global-pool-exact", "global_avg_pool", 1, _pool((2, 3, 4, 8, 5), (2, 3, 5)), bits=11),
    case("global-pool-realistic", "global_avg_pool", 3, _images, flags=("odd_sizes",)),
    case("add-spikes", "add", 1, _two_spikes, flags=("odd_sizes",), bits=8),
]


def _logits(shape, std=1.5):
    def make(draw):
        return {"logits": draw.normal(0.0, std, shape), "labels": draw.integers(0, shape[2], shape[1:2])}

    return make


def _huge(draw):
    """Class 0 and class 1 differ little, everything else is 200 below: exp of the plain logits overflows float32."""
    logits = draw.normal(0.0, 1.0, (3, 4, 6))
    logits[..., :2] += 200.0
    return {"logits": np.asarray(logits, np.float32).astype(np.float64), "labels": np.array([0, 1, 1, 0])}


def _loss(id, make, flags=("odd_sizes",), decides=("readout",), **conventions):
    return case(id, "cross_entropy", 3, make, {}, flags, decides, **conventions)


LOSSES = [
    _loss("loss-mean", _logits((4, 5, 7))),
    _loss("loss-sum", _logits((4, 5, 7), 0.5), readout="sum"),
    _loss("loss-last", _logits((4, 5, 7)), readout="last"),
    _loss("loss-large-logits", _huge, ("large_values",)),
    _loss("loss-one-sample", _logits((1, 1, 3)), ("one_sample", "one_timestep", "odd_sizes"), ()),
    case("loss-tet", "tet", 3, _logits((4, 5, 7)), {"lam": 0.125, "target": 1.5}, ("odd_sizes",)),
]

CASES = [*NORMS, *SYNAPSES, *POOLS, *LOSSES]
