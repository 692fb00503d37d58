"""The two storeys against each other: neurons bit by bit in every convention, and a whole step of the networks.

Tests of single operations run on both storeys in tests/engine (fixture `lib`), within bounds of independent twins.
"""

import itertools

import helpers
import numpy as np
import pytest
from storeys import ENGINE, REFERENCE

import agl_ref as agl
from agl_ref import reference
from agl_ref.oracle.descriptions import describe

T, N = 4, 48
SURROGATES = ("rectangular", "triangular", "sigmoid", "arctan", "gaussian")
SMOOTH = SURROGATES[2:]
NEWER = ("fast_sigmoid", "straight_through", "leaky_relu")
ROWS = ("spike_test", "reset", "reset_gradient", "window_edge", "surrogate_scale", "width_gradient", "input_scale")
CHOICES = agl.Conventions.choices()
CONVENTIONS = [
    agl.Conventions(**dict(zip(ROWS, values, strict=True)))
    for values in itertools.product(*(CHOICES[row] for row in ROWS))
]
each_surrogate = pytest.mark.parametrize("surrogate", SURROGATES)
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def inputs(dtype):
    """(x, ds, kappa): half of the neurons on a grid of eighths, where u meets the threshold and the window's edge exactly."""
    rng = np.random.default_rng(0)
    x = np.concatenate([helpers.dyadic(rng, (T, N // 2), -1, 2, 8), rng.normal(0.5, 0.7, (T, N // 2))], axis=1)
    ds = rng.normal(size=(T, N))
    return x.astype(dtype), ds.astype(dtype), np.array([1.0, 0.5, 0.0, 1.5], dtype)


def both(x, ds, width, c, surrogate, relaxed_width=None):
    """For each storey (cache, gradients); decay and V_th 1/2 keep the grid."""
    for lib in (REFERENCE, ENGINE):
        _, cache = lib.lif_forward(x, 0.5, 0.5, c, surrogate, relaxed_width)
        yield cache, lib.lif_backward_full(ds, cache, width)


def assert_sums_agree(plain, fast, cache, ds, width, c):
    """ddecay and dwidth: sums over neurons, made in another order, so that they differ by the roundings of N + T terms."""
    du, v, x = (np.abs(a).astype(np.float64) for a in (plain.du, cache.v, cache.x))
    before = np.concatenate([np.zeros((1, N)), v[:-1]]) + (x if c.input_scale == "1 - tau" else 0)
    bound = 2 * helpers.rounding(ds.dtype, N + T + 2)
    helpers.assert_close(plain.ddecay, fast.ddecay, bound, (du * before).sum(), "ddecay")
    # |ds_total h| <= |du_t| + |dv_t| and |z| <= |u| + V_th
    passed = du + np.concatenate([du[1:], np.zeros((1, N))])
    z = (np.abs(cache.u) + 0.5) / np.where(width > 0, width, 1)[:, None]
    helpers.assert_close(plain.dwidth, fast.dwidth, bound, (passed * z).sum(axis=1) + 1e-300, "dwidth")


@each_dtype
@each_surrogate
def test_neurons_have_the_same_bits_in_every_convention(surrogate, dtype):
    x, ds, width = inputs(dtype)
    seen = set()
    for c in CONVENTIONS:
        (cache, plain), (cache_fast, fast) = both(x, ds, width, c, surrogate)
        for name in ("u", "s", "v"):
            helpers.assert_equal(getattr(cache_fast, name), getattr(cache, name), f"{name} under {c}")
        if surrogate in SMOOTH:  # the last places of exp; a timestep amplifies that by less than 4
            helpers.assert_close(fast.dx, plain.dx, helpers.rounding(dtype, 8 * 4**T), name=f"dx under {c}")
        else:
            helpers.assert_equal(fast.dx, plain.dx, f"dx under {c}")
        assert fast.dx.dtype == plain.dx.dtype == dtype
        assert_sums_agree(plain, fast, cache, ds, width, c)
        seen.add((cache.u.tobytes(), cache.s.tobytes(), plain.dx.tobytes(), plain.dwidth.tobytes()))
    z = np.abs(reference.lif_forward(x, 0.5, 0.5)[1].u - 0.5)
    assert (z == 0).any() and (z == width[:, None] / 2)[width > 0].any(), "no neuron on the threshold or on the edge"
    # each convention is another function here, or else its equality would prove nothing; but only the rectangular window
    # has an edge, and without a reset there is no gradient through it
    rules = len(CONVENTIONS) // (1 if surrogate == "rectangular" else 2)
    assert len(seen) == rules - rules // 8


@each_dtype
@each_surrogate
def test_relaxed_neurons_agree_in_every_convention(surrogate, dtype):
    x, ds, width = inputs(dtype)
    width[2] = 0.75  # a closed window has no smooth step
    for c in CONVENTIONS:
        (cache, plain), (cache_fast, fast) = both(x, ds, width, c, surrogate, width)
        assert ((cache.s > 0) & (cache.s < 0.5)).any()
        # S may differ in the last place, 4 more roundings; a timestep amplifies by less than 4 here
        bound = helpers.rounding(dtype, 5 * 4**T)
        for name in ("u", "s", "v"):
            helpers.assert_close(getattr(cache_fast, name), getattr(cache, name), bound, name=f"{name} under {c}")
        # the window of the rectangular member has edges, which an error in u may cross
        z = np.abs(cache.u.astype(np.float64) - 0.5)
        clear = np.abs(z - width[:, None].astype(np.float64) / 2) > bound * np.abs(cache.u).max()
        clear = np.logical_and.accumulate(clear[::-1])[::-1]
        assert clear.mean() > 0.5
        helpers.assert_close(np.where(clear, fast.dx, 0), np.where(clear, plain.dx, 0), 8 * bound, name=f"dx under {c}")


@each_dtype
@each_surrogate
@pytest.mark.parametrize("scale", CHOICES["surrogate_scale"])
def test_surrogates_have_the_same_bits_but_for_the_last_places_of_exp(scale, surrogate, dtype):
    c = agl.Conventions(surrogate_scale=scale)
    z = np.concatenate([np.linspace(-3, 3, 1001), np.random.default_rng(1).normal(size=500)]).astype(dtype)
    for kappa in (0.3, 0.5, 1.0, 2.7):
        plain, fast = (lib.derivative(z, kappa, surrogate, c) for lib in (REFERENCE, ENGINE))
        assert (plain > 0).sum() > 50
        if (
            surrogate in SMOOTH
        ):  # computed in float64: NumPy's exp may differ from C's in the last place, then 4 roundings
            steps = 5 if dtype is np.float64 else 1
            assert (np.abs(fast - plain) <= steps * np.finfo(dtype).eps * plain).all()
        else:
            helpers.assert_same_bits(fast, plain)
        plain, fast = (lib.primitive(z, kappa, surrogate, c) for lib in (REFERENCE, ENGINE))
        helpers.assert_close(fast, plain, 2 * float(np.finfo(dtype).eps), name="S")


@each_dtype
@pytest.mark.parametrize("surrogate", NEWER)
def test_the_surrogates_without_an_exp_have_the_same_bits(surrogate, dtype):
    x, ds, width = inputs(dtype)
    for c in (
        agl.MPD_AGL,
        agl.Conventions(reset="soft", surrogate_scale="1", width_gradient="flows", window_edge="<="),
    ):
        (cache, plain), (cache_fast, fast) = both(x, ds, width, c, surrogate)
        helpers.assert_equal(fast.dx, plain.dx, f"dx under {c}")
        assert_sums_agree(plain, fast, cache, ds, width, c)
        z = np.concatenate([np.linspace(-3, 3, 1001), np.random.default_rng(1).normal(size=500)]).astype(dtype)
        for kappa in (0.3, 0.5, 2.7):
            for name in ("derivative", "primitive"):
                plain_y, fast_y = (getattr(lib, name)(z, kappa, surrogate, c) for lib in (REFERENCE, ENGINE))
                if name == "derivative":
                    helpers.assert_same_bits(fast_y, plain_y)
                else:
                    helpers.assert_close(fast_y, plain_y, 2 * float(np.finfo(dtype).eps), name="S")


@each_dtype
@pytest.mark.parametrize("rule", ["adaptive", "first", "later", "fixed", "2 V_th", "geometric"])
def test_widths_have_the_same_bits(rule, dtype):
    rng = np.random.default_rng(2)
    for norm_scale in CHOICES["norm_scale"]:
        c = agl.Conventions(width=rule, norm_scale=norm_scale, fixed_width=0.7)
        for decay in (0.0, 0.2, 0.75):
            gamma = rng.uniform(0.1, 2, 6).astype(dtype)
            plain, fast = (lib.width_of_layer(gamma, 0.6, decay, 5, dtype, c, 1.3) for lib in (REFERENCE, ENGINE))
            helpers.assert_same_bits(fast, plain)


# --- a whole step of a network --------------------------------------------------------------------


def conv_snn(**options):
    return agl.models.conv_snn(1, 8, 4, (4, 6), neuron="plif", seed=3, **options)


def sew_resnet19(**options):
    return agl.models.sew_resnet19(2, 4, (3, 4, 5), 6, neuron="plif", seed=3, **options)


def vgg_snn(**options):
    return agl.models.vgg_snn(2, 16, 4, (3, 4, 5, 6), neuron="plif", seed=3, **options)


def fc_snn(**options):
    return agl.models.fc_snn(2, (1, 9), 4, (7, 5), neuron="plif", seed=3, **options)


def wide_conv_snn(**options):
    return agl.models.conv_snn(2, (9, 14), 4, (4, 6, 5), neuron="plif", seed=3, **options)


def wide_vgg_snn(**options):
    return agl.models.vgg_snn(2, (16, 35), 4, (3, 4, 5, 6), neuron="plif", seed=3, **options)


def batch(net, dtype=np.float64):
    rng = np.random.default_rng(4)
    return rng.normal(0.5, 1.0, (3, 5, *net.input_shape)).astype(dtype), rng.integers(0, 4, 5)


def as_reference(net):
    """The same layers and the same arrays, in reference.py's description."""
    return reference.Network(describe(net), net.parameters(), net.conventions, net.surrogate)


def assert_same_step(net, loss="ce", tolerance=1e-12):
    x, labels = batch(net)
    plain_loss, plain, values, _ = reference.loss_and_grads(as_reference(net), x, labels, loss)
    result = net.loss_and_grads(x, labels, loss=loss, keep_trace=True)
    for name, cache in result.trace.items():
        assert 0 < cache.s.mean() < 1, f"{name}: all neurons fire, or none"
        helpers.assert_equal(values[f"{name}.s"], cache.s, f"{name}.s")
        helpers.assert_close(values[f"{name}.u"], cache.u, tolerance, name=f"{name}.u")
        helpers.assert_close(values[f"{name}.width"], cache.width, tolerance, name=f"{name}.width")
    helpers.assert_close(plain_loss, result.loss, tolerance, name="loss")
    helpers.assert_close(values["logits"], result.logits, tolerance, name="logits")
    assert list(plain) == list(net.parameters())
    for name, grad in result.grads.items():
        assert np.abs(grad).max() > 0, f"{name}: no gradient, nothing to compare"
        helpers.assert_close(plain[name], grad, tolerance, name=name)


@pytest.mark.parametrize("loss", ["ce", "tet"])
@pytest.mark.parametrize("model", [conv_snn, sew_resnet19, vgg_snn, fc_snn, wide_conv_snn, wide_vgg_snn])
def test_a_network_s_step_is_the_same(model, loss):
    assert_same_step(model(), loss)


@pytest.mark.parametrize("preset", [name for name in agl.PRESETS])
def test_a_network_s_step_is_the_same_under_each_preset(preset):
    assert_same_step(conv_snn(conventions=agl.PRESETS[preset]))


@pytest.mark.parametrize("surrogate", [*SURROGATES[1:], *NEWER])
def test_a_network_s_step_is_the_same_with_each_surrogate(surrogate):
    assert_same_step(conv_snn(surrogate=surrogate))


def test_three_steps_of_training_end_with_the_same_parameters():
    net = conv_snn()
    x, labels = batch(net)
    own = {name: value.copy() for name, value in net.parameters().items()}
    first = {name: value.copy() for name, value in own.items()}
    options = dict(lr=0.1, momentum=0.9, weight_decay=1e-3)
    fast, plain = agl.optim.SGD(net.parameters(), **options), REFERENCE.SGD(own, **options)
    for _ in range(3):
        fast.step(net.loss_and_grads(x, labels).grads)
        plain.step(reference.loss_and_grads(as_reference(net)._replace(params=own), x, labels)[1])
    for name, value in net.parameters().items():
        assert (value != first[name]).any(), name
        helpers.assert_close(own[name], value, 1e-12, name=name)
