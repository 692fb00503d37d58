"""Golden cases of the neuron: LIF and PLIF under every convention.

Dyadic inputs lie on one of two grids. Odd multiples of 1/16 never put u on the threshold or on an edge of the window
(halving an odd multiple gives an odd multiple of the half), multiples of 1/8 often do.
"""

import numpy as np

from .case import case

HALF = {"v_th": 0.5, "decay": 0.5}
WIDTHS = (1.0, 0.5, 1.0, 2.0)  # powers of two, so that 1/kappa is exact
OFF, ON = 1 / 16, 0.0
LEAK = -1.3862943649291992  # float32's nearest to -ln 4: tau = 0.2


def currents(draw, shape, offset=OFF, low=-0.75, high=1.25):
    """Input currents: multiples of 1/8, or with the offset odd multiples of 1/16."""
    return draw.dyadic(low, high, 1 / 8, shape) + offset


def neurons(shape=(4, 3, 7), offset=OFF, width=WIDTHS, low=-0.75, high=1.25, **more):
    """Exact x, from `low` to `high`, and ds of a neuron layer, with these widths; `more` are further inputs."""

    def make(draw):
        inputs = {"x": currents(draw, shape, offset, low, high), "ds": draw.dyadic(-1, 1, 1 / 4, shape)}
        if width is not None:
            inputs["width"] = np.resize(np.array(width), shape[0])
        return {**inputs, **{name: np.array(value) for name, value in more.items()}}

    return make


def realistic(shape, gamma=(), bits=24, mean=0.1, std=0.6, **more):
    """x and ds close to normal; gamma, if any, follow."""

    def make(draw):
        inputs = {"x": draw.normal(mean, std, shape, bits), "ds": draw.normal(0.0, 0.1, shape, bits)}
        if gamma:
            inputs["gamma"] = np.array(gamma)
        return {**inputs, **{name: np.array(value) for name, value in more.items()}}

    return make


def one_value(u):
    """The same current for every neuron, with gradients that differ."""

    def make(draw):
        ds = draw.dyadic(-1, 1, 1 / 4, (3, 2, 5))
        return {"x": np.full(ds.shape, u), "ds": ds, "width": np.array(WIDTHS[:3])}

    return make


def _threshold(draw):
    """Every third current is exactly the threshold, the rest is off the grid; the leak is 0 after each spike."""
    x = currents(draw, (4, 3, 7))
    x[0].flat[::3] = 0.5
    return {"x": x, "ds": draw.dyadic(-1, 1, 1 / 4, x.shape), "width": np.array(WIDTHS)}


def _edge(draw):
    """|u - V_th| = kappa_1 / 2 exactly for every third neuron at t = 1, on both sides in turn."""
    x = currents(draw, (4, 3, 7))
    x[0].flat[::6], x[0].flat[3::6] = 0.0, 1.0
    return {"x": x, "ds": draw.dyadic(-1, 1, 1 / 4, x.shape), "width": np.array([1.0, 0.5, 1.0, 2.0])}


def _many(draw):
    """Gradients of one sign, so that a partial sum is far from the whole."""
    x = currents(draw, (2, 1, 4099), low=-0.25, high=1.0)
    return {"x": x, "ds": draw.dyadic(1 / 4, 1, 1 / 4, x.shape), "width": np.array([1.0, 2.0])}


def _fortran(draw):
    """The incoming gradient is stored column by column: a strided view for whoever reads it as it is."""
    inputs = neurons((4, 5, 6))(draw)
    return {**inputs, "ds": np.asfortranarray(inputs["ds"])}


def _two_forwards(draw):
    inputs = neurons()(draw)
    return {**inputs, "x_second": currents(draw, inputs["x"].shape)}


def long(shape):
    """Many timesteps; everyone fires at least at every fourth, so that no value needs more than 24 bits."""

    def make(draw):
        inputs = neurons(shape, low=-0.25)(draw)
        inputs["x"][3::4] = 2.0625
        return inputs

    return make


def _large(draw):
    x = draw.dyadic(-(2.0**13), 2.0**13, 1024.0, (2, 3, 9)) + 512.5
    return {"x": x, "ds": draw.dyadic(-64, 64, 32.0, x.shape), "width": np.array([2.0**13, 2.0**14])}


def _lif(id, make=None, flags=(), bits=24, decides=(), meta=None, tier=1, draw=0, **conventions):
    return case(id, "lif", tier, make or neurons(), {**HALF, **(meta or {})}, flags, decides, bits, draw, **conventions)


ATTACHED = ("reset", "reset_gradient", "surrogate_scale")

LIF = [
    _lif("lif-hard-attached", decides=ATTACHED),
    _lif("lif-hard-detached", decides=ATTACHED, reset_gradient="detached"),
    _lif("lif-soft-attached", decides=ATTACHED, reset="soft"),
    _lif("lif-soft-detached", decides=ATTACHED, reset="soft", reset_gradient="detached"),
    _lif("lif-no-reset", decides=("reset", "surrogate_scale"), flags=("no_reset",), reset="none"),
    _lif("lif-peak-scale", decides=ATTACHED, surrogate_scale="1"),
    _lif("lif-half-scale", decides=ATTACHED, surrogate_scale="1/(2 kappa)"),
    _lif("lif-input-scaled", make=neurons((3, 3, 7)), decides=("input_scale",), input_scale="1 - tau"),
    _lif("lif-fixed-width", make=neurons(width=None), decides=(), width="fixed"),
    _lif("lif-no-norm", make=neurons((3, 2, 11), width=None)),
    _lif("lif-on-threshold", make=_threshold, flags=("on_threshold",), decides=("spike_test",)),
    _lif("lif-on-threshold-strict", make=_threshold, flags=("on_threshold",), decides=("spike_test",), spike_test=">"),
    _lif("lif-on-window-edge", make=_edge, flags=("on_window_edge",), decides=("window_edge",)),
    _lif(
        "lif-on-window-edge-closed", make=_edge, flags=("on_window_edge",), decides=("window_edge",), window_edge="<="
    ),
    _lif(
        "lif-grid",
        make=neurons((4, 4, 9), ON),
        flags=("on_threshold", "on_window_edge"),
        decides=("spike_test", "window_edge", *ATTACHED),
    ),
    _lif("lif-all-silent", make=one_value(0.1875), flags=("all_silent",)),
    _lif("lif-all-firing", make=one_value(0.6875), flags=("all_firing",)),
    _lif("lif-one-timestep", bits=8, make=neurons((1, 4, 9)), flags=("one_timestep",)),
    _lif(
        "lif-long",
        bits=11,
        make=long((64, 1, 5)),
        flags=("long_time", "one_sample", "odd_sizes"),
        reset_gradient="detached",
    ),
    _lif(
        "lif-one-neuron",
        make=lambda d: {
            "x": np.array([0.8125, 0.3125, 0.4375, -0.3125]).reshape(4, 1, 1),
            "ds": np.array([0.5, -0.75, 1.0, 0.25]).reshape(4, 1, 1),
            "width": np.array([1.0, 1.0, 0.5, 1.0]),
        },
        flags=("one_sample", "odd_sizes"),
    ),
    _lif("lif-many-neurons", make=_many, flags=("several_thread_blocks", "odd_sizes", "one_sample")),
    _lif("lif-image", make=neurons((3, 2, 5, 7, 3)), flags=("odd_sizes",), decides=ATTACHED),
    _lif("lif-large-values", make=_large, flags=("large_values",)),
    _lif("lif-strided-gradient", make=_fortran, flags=("non_contiguous_gradients",)),
    _lif("lif-two-forwards", make=_two_forwards, flags=("two_forwards",)),
]

ADAPTIVE = {"v_th": 0.5, "decay": 0.75}


def _gamma_case(id, gamma, flags=(), decides=(), shape=(3, 3, 8), tier=2, meta=None, **conventions):
    make = neurons(shape, width=None, gamma=gamma)
    return _lif(id, make, flags, decides=decides, meta={**ADAPTIVE, **(meta or {})}, tier=tier, **conventions)


EIGHT = (0.75, 1.25, 0.5, 1.0, 1.0, 0.875, 0.625, 0.5)  # mean 13/16: kappa is 0.8125, then 1.015625
MIXED = (2.25, -0.75, 1.5, -0.25, 1.5, 1.25, 1.5, -0.5)  # the same mean; that of |gamma| is 1.1875

WIDTH_IN_NEURON = [
    _gamma_case("lif-adaptive", EIGHT, ("first_step_width",), ("width", "surrogate_scale"), (3, 6, 8)),
    _gamma_case("lif-width-first", EIGHT, (), ("width",), (3, 6, 8), width="first"),
    _gamma_case("lif-width-later", EIGHT, (), ("width",), (3, 6, 8), width="later"),
    _gamma_case("lif-gamma-mixed", MIXED, ("first_step_width",), ("width",), (3, 6, 8)),
    _gamma_case("lif-gamma-zero", (1.0, -1.0, 0.5, -0.5, 0.25, -0.25, 2.0, -2.0), ("gamma_zero",), tier=1),
    _gamma_case("lif-gamma-negative", tuple(-g for g in EIGHT), ("gamma_negative",), tier=1),
    _gamma_case("lif-alpha", EIGHT, ("first_step_width",), ("width",), (3, 6, 8), meta={"alpha": 1.25}),
    _gamma_case(
        "lif-plain-norm-width",
        tuple(g / 2 for g in EIGHT),
        ("first_step_width",),
        ("norm_scale",),
        (3, 6, 8),
        norm_scale="1",
    ),
]

WIDE = (0.90625, 1.21875, 0.65625)  # a gamma whose mean is no number of few bits
FLAT = (0.875, 1.25, 0.6875)


def _realistic(id, make, decay, flags=("odd_sizes",), decides=(), surrogate=None, draw=0, **conventions):
    meta = {"decay": decay, **({"surrogate": surrogate} if surrogate else {})}
    return _lif(id, make, flags, None, decides, meta, 3, draw, **conventions)


REALISTIC = [
    _realistic("lif-geometric", realistic((5, 2, 24), (0.875, 1.125, 0.75)), 0.5, (), ("width",), width="geometric"),
    _realistic("lif-realistic", realistic((5, 4, 85), WIDE), 0.2, decides=(*ATTACHED[:2], "width", "surrogate_scale")),
    _realistic(
        "lif-long-realistic",
        realistic((64, 2, 9), (0.9375, 1.0625), std=0.4),
        0.9,
        ("long_time", "odd_sizes"),
        ("reset", "reset_gradient"),
    ),
    _realistic("lif-bfloat16", realistic((3, 2, 7), (1.0, 1.5, 1.25), 8), 0.25, decides=("reset",), draw=5),
    _realistic(
        "lif-width-flows",
        realistic((4, 3, 25), FLAT),
        0.375,
        (),
        ("width_gradient",),
        "triangular",
        width_gradient="flows",
    ),
    *[
        _realistic(f"lif-{name}", realistic((4, 3, 25), FLAT), 0.25, (), ("reset_gradient", "width"), name)
        for name in ("triangular", "sigmoid", "arctan", "gaussian")
    ],
]


def _plif(id, make, decides=("plif",), flags=("odd_sizes",), tier=3, bits=None, **conventions):
    return case(id, "plif", tier, make, {"v_th": 0.5}, flags, decides, bits, **conventions)


HALF_LEAK = neurons((4, 3, 7), w=0.0)
TWO_GAMMAS = realistic((4, 3, 45), (0.90625, 1.21875), w=LEAK)

PLIF = [
    _plif("plif-half", HALF_LEAK, ("reset", "reset_gradient", "plif"), (), 1, 24),
    _plif("plif-half-reversed", HALF_LEAK, flags=(), tier=1, bits=24, plif="1 - tau"),
    _plif(
        "plif-many-neurons",
        lambda draw: {**_many(draw), "w": np.array(0.0)},
        (),
        ("several_thread_blocks", "odd_sizes", "one_sample"),
        1,
        24,
    ),
    _plif("plif-realistic", TWO_GAMMAS, ("plif", "reset")),
    _plif("plif-reversed-realistic", TWO_GAMMAS, plif="1 - tau"),
    _plif(
        "plif-spikingjelly",
        realistic((4, 3, 45), std=1.2, w=0.5),
        ("plif", "input_scale"),
        input_scale="1 - tau",
        plif="1 - tau",
        width="fixed",
    ),
]

CASES = [*LIF, *WIDTH_IN_NEURON, *REALISTIC, *PLIF]
