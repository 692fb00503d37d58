"""Rounding bounds: by hand, against float32 sums in many orders, and against whole networks in float32."""

import numpy as np
import pytest
from scipy import stats

import agl_ref as agl
from agl_ref.engine import parallel, tdbn
from agl_ref.oracle import compare, reference
from agl_ref.oracle.bounds.reference import agree, forward, op_reference, reference_of_case, run
from agl_ref.oracle.bounds.tolerance import (
    LAMBDA,
    LARGE,
    MANY,
    PIECE,
    REPLAYS,
    SCALE,
    Rounding,
    is_exact,
    is_power_of_two,
    places_size,
    quantum,
    repeats,
    representable,
    spread,
    sum_size,
)
from agl_ref.oracle.cases.registry import definition
from agl_ref.oracle.descriptions import network_of_reference
from agl_ref.oracle.mutants.summation import ORDERS
from agl_ref.oracle.mutants.variants import ONE_PASS, variant
from agl_ref.oracle.problems import problem_of
from agl_ref.oracle.types import Step, decode_bounds, encode_bounds, gradient_name, split_name, walk

U32 = 2.0**-24


def narrow(a):
    """Values that float32 has, as float64."""
    return np.asarray(a).astype(np.float32).astype(np.float64)


def small_net(seed=0, channels=(3, 4), size=6, **options):
    net = agl.models.conv_snn(image_size=size, channels=channels, num_classes=3, neuron="plif", seed=seed, **options)
    for value in net.parameters().values():
        value[...] = narrow(value)
    rng = np.random.default_rng(seed)
    x = narrow(rng.normal(0.3, 1.0, (3, 2, size, size, 1)))
    return net, x, rng.integers(0, 3, 2)


# --- the pieces, by hand


def test_sum_size_by_hand():
    # 3 - 2 + 4: partial sums lie in [-2, 7], two additions
    assert sum_size(np.array(5.0), np.array(9.0), 3, lam=None) == 2 * 7
    assert sum_size(np.array(5.0), np.array(9.0), 1, lam=None) == 0
    # 101 terms: sqrt(100) steps at lambda 1, 20 if each term comes four times, never more than the worst case
    assert sum_size(np.array(101.0), np.array(101.0), 101) == 10 * 101
    assert sum_size(np.array(101.0), np.array(101.0), 101, repeats=4) == 20 * 101
    assert sum_size(np.array(101.0), np.array(101.0), 101, repeats=101) == 100 * 101


def test_quantum_and_exactness_by_hand():
    assert quantum([0.5, -0.75, 3.0]) == 0.25
    assert quantum([0.0]) == 2.0**30
    assert quantum([0.1]) == 0.0 and quantum([2.0**23]) == 0.0
    assert is_exact(0.25, np.array(2.0**22), 24) and not is_exact(0.25, np.array(2.0**22 + 1), 24)
    assert is_exact(0.25, np.array(64.0), 8) and not is_exact(0.25, np.array(65.0), 8)
    assert not is_exact(0.0, np.array(1.0), 24)
    assert is_power_of_two(np.array([0.0, 1.0, -0.125])) and not is_power_of_two(np.array([1.0, 3.0]))


@pytest.mark.parametrize("dtype, ulp", [("float32", 2.0**-23), ("bfloat16", 2.0**-7), ("tf32", 2.0**-10)])
def test_representable_counts_bits(dtype, ulp):
    assert representable(1 + ulp, dtype) and not representable(1 + ulp / 2, dtype)


def test_repeats_counts_equal_magnitudes_per_channel():
    a = np.array([[1.0, 0.5], [-1.0, 0.0], [1.0, 0.25], [0.0, 0.0]])
    assert repeats(a).tolist() == [3, 1]


def test_bounds_survive_encoding_from_above():
    bound = np.concatenate([[0.0], np.exp2(np.linspace(-30, 27, 997))])
    code = encode_bounds(bound)
    again = decode_bounds(code)
    assert code.dtype == np.uint8 and again[0] == 0
    assert (again[1:] >= bound[1:] * (1 - 1e-9)).all() and (again[1:] <= bound[1:] * 2**0.2501).all()
    assert (encode_bounds(again) == code).all()
    assert decode_bounds(encode_bounds(np.array([1e-300])))[0] > 0


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf, 2.0**28])
def test_encoding_refuses(bad):
    with pytest.raises(ValueError, match="bounds: expected"):
        encode_bounds(np.array([bad]))
    with pytest.raises(TypeError, match="uint8"):
        decode_bounds(np.array([1.0]))


def test_walk_goes_forward_in_time_then_backward():
    names = ["a.width", "a.x", "a.u", "a.s", "logits", "a.ds", "a.du", "grad_a.weight", "grad_x"]
    assert walk(names, 2) == [
        Step("a.width", None), Step("a.x", 0), Step("a.u", 0), Step("a.s", 0), Step("a.x", 1), Step("a.u", 1),
        Step("a.s", 1), Step("logits", None), Step("a.ds", 1), Step("a.du", 1), Step("a.ds", 0), Step("a.du", 0),
        Step("grad_a.weight", None), Step("grad_x", None),
    ]  # fmt: skip
    assert split_name("res1.conv1.u") == ("res1.conv1", "u") and split_name("u") == ("", "u")
    assert gradient_name("a.weight", names) == "grad_a.weight" == gradient_name("a.weight.grad", names)
    assert gradient_name("b.weight", names) is None
    assert gradient_name("x", names) is None and gradient_name("x.grad", names) == "grad_x"


def test_spread_of_one_error_is_lambda_times_its_size():
    def compute(r):
        a = r(np.array([1.0, -2.0, 0.0]), lambda: np.array([1.0, 2.0, 0.0]))
        return {"a": a, "same": np.ones(2), "sum": a.sum()}

    arrays, bounds = spread(compute, Rounding(0))
    assert arrays["a"].tolist() == [1.0, -2.0, 0.0]
    np.testing.assert_allclose(bounds["a"], [LAMBDA, 2 * LAMBDA, 0], rtol=SCALE * 2)
    assert not bounds["same"].any()
    assert 1.5 * LAMBDA < bounds["sum"] < 3 * LAMBDA  # sqrt(5) LAMBDA, sampled


def test_every_element_of_a_long_array_is_rounded_and_measured():
    size = np.arange(1.0, 3 * PIECE + 4)

    def compute(r):
        return {"y": r(np.zeros((3, size.size // 3)), lambda: size.reshape(3, -1))}

    rounding = Rounding(0)
    assert not compute(rounding)["y"].any()
    y = compute(rounding.with_errors())["y"].ravel()
    assert np.array_equal(np.abs(y), SCALE * size) and 0.4 < np.mean(y > 0) < 0.6
    bound = spread(compute, Rounding(0))[1]["y"]
    assert np.allclose(bound, LAMBDA * size.reshape(3, -1), rtol=1e-12)


@pytest.mark.parametrize("replays", [4, 16, 48, 100])
def test_a_spread_from_few_passes_is_less_certain_and_its_bound_larger(replays):
    bound = spread(lambda r: {"y": r(np.ones(3), lambda: 1.0)}, Rounding(0), replays)[1]["y"]
    assert np.allclose(stats.t.sf(bound, replays), stats.t.sf(LAMBDA, REPLAYS), rtol=1e-9)


def large(r):
    """Shared and own errors of more than LARGE numbers, through a linear function, and what was given to it."""
    x = np.linspace(-1, 1, 2 * MANY).reshape(2, -1)
    x = r(x, lambda: np.abs(x))
    x = r(r(np.ones((2, 1)), lambda: 1.0) * x, lambda: 1e-3)
    (y,) = r.linear(lambda x, weight: (x @ weight,), x, WEIGHT)
    return {"x": x, "y": y, "z": r.memo(lambda: np.zeros(LARGE), WEIGHT)}


WEIGHT = np.random.default_rng(1).normal(size=(MANY, 2))


def test_a_large_array_has_the_bounds_of_a_small_one_whatever_the_number_of_threads(monkeypatch):
    """In float32 are only the differences: of the value itself it would see nothing, since errors are 2^-30 of it."""
    from agl_ref.oracle.bounds import tolerance

    arrays, bounds = spread(large, Rounding(0))
    with parallel.at_most(1):
        again = spread(large, Rounding(0))
    monkeypatch.setattr(tolerance, "fits_float32", lambda a: False)
    whole = spread(large, Rounding(0))
    for name in arrays:
        assert np.array_equal(bounds[name], again[1][name]) and np.array_equal(arrays[name], whole[0][name])
        np.testing.assert_allclose(bounds[name], whole[1][name], rtol=1e-4)
    monkeypatch.setattr(tolerance, "LARGE", np.inf)
    passes = spread(large, Rounding(0), 16)  # with more than LARGE numbers a third of REPLAYS
    np.testing.assert_allclose(passes[1]["y"], bounds["y"], rtol=1e-4)


def test_what_float32_cannot_hold_is_computed_in_float64():
    """Errors of 1e-60 beside those of 1: a smooth surrogate far from the threshold gives such gradients."""

    def compute(r):
        x = np.repeat([1.0, 1e-60], MANY)
        x = r(x, lambda: x)
        return {"y": r.linear(lambda x, weight: (x * weight,), x, np.array(3.0))[0]}

    bound = spread(compute, Rounding(0))[1]["y"]
    np.testing.assert_allclose(bound, LAMBDA * np.repeat([3.0, 3e-60], MANY), rtol=1e-6)


# --- sums in float32


def orders_by_place(terms):
    """The sum of float32 terms in orders that do not depend on their values."""
    yield np.add.accumulate(terms)[-1]
    yield np.add.accumulate(terms[::-1])[-1]
    yield terms.sum()


def orders(terms):
    """The sum of float32 terms in several orders."""
    yield from orders_by_place(terms)
    yield np.add.accumulate(np.sort(terms))[-1]
    yield terms.reshape(-1, 10).sum(axis=1, dtype=np.float32).sum(dtype=np.float32)


@pytest.mark.parametrize("kind", ["normal", "positive", "equal", "two values"])
def test_sums_in_any_order_lie_inside(kind):
    """Equal terms round equally: without counting repeats, sqrt(n) is not enough for them."""
    rng, worst, naive = np.random.default_rng(3), 0.0, 0.0
    for _ in range(20):
        n = 4000
        values = {"normal": rng.normal(size=n), "positive": rng.uniform(size=n), "equal": np.full(n, rng.uniform()),
                  "two values": rng.choice(rng.uniform(size=2), n)}[kind].astype(np.float32)  # fmt: skip
        exact, size = values.astype(np.float64).sum(), np.abs(values).sum(dtype=np.float64)
        bound = sum_size(exact, size, n, repeats(values[:, None])[0], lam=LAMBDA) * U32
        without = sum_size(exact, size, n, 1, lam=LAMBDA) * U32
        error = max(abs(float(total) - exact) for total in orders(values))
        worst, naive = max(worst, error / bound), max(naive, error / without)
    assert 0 < worst < 1
    if kind == "equal":
        assert naive > 1


def test_a_sum_over_places_stays_inside_in_any_order_of_places():
    """Along each axis, both ways, at random, largest first: all far below what all positive terms first would need."""
    rng = np.random.default_rng(7)
    for drift in (0.0, 0.1):
        terms = narrow(rng.normal(drift * np.linspace(-1, 1, 12), 1, (4, 3, 9, 9, 12)))
        bound = LAMBDA * places_size(terms) * U32
        assert bound < LAMBDA * sum_size(terms.sum(), np.abs(terms).sum(), terms.size) * U32 / 5
        flat = [np.moveaxis(terms, axis, 0).ravel() for axis in range(5)]
        flat += [rng.permutation(terms.ravel()) for _ in range(5)] + [
            terms.ravel()[np.argsort(-np.abs(terms), axis=None)]
        ]
        for values in [np.float32(f) for f in flat]:
            error = max(abs(float(total) - terms.sum()) for total in orders_by_place(values))
            assert 0 < error < bound / 3
        by_sign = np.add.accumulate(np.sort(np.float32(terms.ravel())))[-1]
        assert abs(float(by_sign) - terms.sum()) > bound / 3  # such an order is outside


def test_few_terms_may_come_in_any_order():
    terms = np.linspace(-1, 1, 600).reshape(2, 300)
    assert places_size(terms) == sum_size(terms.sum(), np.abs(terms).sum(), 600, 2)


# --- whole passes in float32


def implementations(ref):
    """Results in float32 with different orders of summation, and those of the engine in float32."""
    for i, order in enumerate(ORDERS):
        module = variant(ONE_PASS if i % 2 else (), order=order)
        yield order, problem_of(ref).run(module, agl.Conventions(**ref.conventions), np.float32)
    if ref.meta["op"] == "network":
        net, x, labels = network_of_reference(ref)
        for layer in net.layers:
            parts = [p for _, b in layer.blocks() for p in (b.synapse, b.norm, b.neuron) if p is not None]
            for part in [*parts, layer] if hasattr(layer, "params") else parts:
                part.params = {key: value.astype(np.float32) for key, value in part.params.items()}
        again = agl.Network(net.layers, net.input_shape, net.conventions, net.surrogate)
        yield "engine", run(again, x.astype(np.float32), labels, ref.meta["loss"])


CASES = ("lif-realistic", "plif-spikingjelly", "tdbn-training", "tdbn-large-mean", "conv-realistic", "linear-spikes",
         "loss-large-logits", "loss-tet", "surrogate-gaussian", "global-pool-realistic", "lif-adaptive")  # fmt: skip


@pytest.mark.parametrize("id", CASES)
def test_cases_in_float32_lie_inside(id):
    ref = reference_of_case(definition(id))
    for order, got in implementations(ref):
        report = compare(ref, got)
        assert report.verdict == "PASS", f"{order}\n{report}"
        assert report.not_checked == []


SOFT = agl.Conventions(reset="soft", input_scale="1 - tau", width_gradient="flows")
NETS = {
    "default": (0, {}),
    "other seed": (3, {}),
    "soft, sigmoid": (1, {"surrogate": "sigmoid", "conventions": SOFT}),
    "soft, triangular, flows": (1, {"surrogate": "triangular", "conventions": SOFT}),
}


@pytest.mark.parametrize("name", NETS)
def test_networks_in_float32_lie_inside(name):
    seed, options = NETS[name]
    ref = reference(*small_net(seed, **options))
    assert min(ref.meta["certificate"][kind]["margin"] for kind in ("spike", "window")) > U32
    assert all(0 < ref.arrays[f"{b}.s"].mean() < 1 for b in ("conv1", "conv2"))
    worst = {}
    for order, got in implementations(ref):
        report = compare(ref, got)
        assert report.verdict == "PASS", f"{order}\n{report}"
        worst[order] = max(report.details["worst"].values())
    assert len(worst) == 6 and 0.02 < max(worst.values()) < 1  # neither loose nor tight


def rows_of(x, kernel, stride, padding):
    """Patches (M, K) of images, by slicing."""
    images = np.pad(x.reshape(-1, *x.shape[-3:]), ((0, 0), (padding,) * 2, (padding,) * 2, (0, 0)))
    views = np.lib.stride_tricks.sliding_window_view(images, kernel, (1, 2))[:, ::stride, ::stride]
    return views.transpose(0, 1, 2, 4, 5, 3).reshape(-1, kernel[0] * kernel[1] * x.shape[-1])


def missed(rows, dy, got, ref, name, trials, rng):
    """(trials, how many were noticed): one nonzero term of one weight's gradient is left out of `got`."""
    shape = (rows.shape[1], dy.shape[1])
    value, expected, bound = (a.reshape(shape) for a in (got[name].astype(float), ref.arrays[name], ref.bounds[name]))
    done = noticed = 0
    while done < trials:
        k, c = rng.integers(shape[0]), rng.integers(shape[1])
        terms = rows[:, k] * dy[:, c]
        if terms.any():
            off = abs(value[k, c] - rng.choice(terms[terms != 0]) - expected[k, c])
            done, noticed = done + 1, noticed + bool(off > bound[k, c] * U32)
    return done, noticed


def test_a_network_weight_that_misses_one_term_is_noticed():
    """In at least 99 of 100 trials, over all weights of two networks."""
    rng, done, noticed = np.random.default_rng(5), 0, 0
    for seed in (0, 3):
        ref = reference(*small_net(seed))
        net, x, labels = network_of_reference(ref)
        trace = forward(net, x)
        got = dict(implementations(ref))["forward"]
        for name, block in net.blocks():
            dy = tdbn.backward(ref.arrays[f"{name}.dx"], trace[name].norm)[0]
            p = block.synapse
            rows = rows_of(trace[name].synapse.x, p.params["weight"].shape[:2], p.stride, p.padding)
            counts = missed(rows, dy.reshape(len(rows), -1), got, ref, f"grad_{name}.weight", 1000, rng)
            done, noticed = done + counts[0], noticed + counts[1]
    assert done == 4000 and noticed >= 0.99 * done, noticed / done


@pytest.mark.parametrize("id", ["conv-realistic", "linear-realistic", "linear-spikes"])
def test_an_op_weight_that_misses_one_term_is_noticed(id):
    case = definition(id)
    ref = reference_of_case(case)
    x, weight, dy = (np.asarray(ref.inputs[key], np.float64) for key in ("x", "weight", "dy"))
    rows = x.reshape(-1, x.shape[-1])
    if weight.ndim == 4:
        rows = rows_of(x, weight.shape[:2], case.meta.get("stride", 1), case.meta.get("padding", 0))
    got = dict(implementations(ref))["forward"]
    done, noticed = missed(rows, dy.reshape(len(rows), -1), got, ref, "grad_weight", 1000, np.random.default_rng(7))
    assert noticed >= 0.99 * done, noticed / done


def test_the_replay_checks_the_engine():
    with pytest.raises(RuntimeError, match="differ by"):
        agree({"a": np.array([1.0])}, {"a": np.array([1.0 + 1e-6])})


# --- margins


def test_spike_margin_by_hand():
    """One linear block without norm: u = w x + tau v; the error of w x is one rounding, of the leak two more."""
    net = agl.Network(
        [agl.SpikingBlock("a", agl.Linear(1, 1, bias=False), None, agl.LIF(0.5, 0.5)), agl.Readout("fc", 1, 2)], (1,)
    )
    for value in net.parameters().values():
        value[...] = 0.375
    x = np.array([1.125, -2.0]).reshape(2, 1, 1)
    ref = reference(net, x, np.array([0]))
    # everything is dyadic: exact, nothing can flip
    assert np.isinf(ref.margins["a.s"]).all() and not ref.bounds["a.u"].any()
    net.layers[0].synapse.params["weight"][...] = 0.3  # float32 rounds it, and the product
    ref = reference(net, x, np.array([0]))
    first = abs(0.3375 - 0.5) / (1.01 * 1.01 * 2 * 0.3375)
    assert ref.margins["a.s"][0, 0, 0] == pytest.approx(first)
    assert ref.bounds["a.u"][0, 0, 0] <= 1.01 * 1.01 * 2 * 0.3375
    certificate = ref.meta["certificate"]["spike"]
    assert certificate["margin"] == pytest.approx(ref.margins["a.s"].min()) and certificate["name"] == "a.s"


@pytest.mark.parametrize("seed", range(3))
def test_forward_errors_of_float32_stay_below_the_proven_bound(seed):
    """u of every implementation: the proven margins are |u - V_th| over the bound, so that the bound follows from them."""
    ref = reference(*small_net(seed))
    for block in ("conv1", "conv2"):
        distance = np.abs(ref.arrays[f"{block}.u"] - 0.5)
        proven = distance / ref.margins[f"{block}.s"]
        assert (proven > 0).all()
        for _, got in implementations(ref):
            assert (np.abs(got[f"{block}.u"] - ref.arrays[f"{block}.u"]) <= proven * U32).all()


def test_a_case_with_a_bias_no_norm_and_residual_sums_has_margins():
    blocks = [
        agl.SpikingBlock("a", agl.Conv2d(2, 3, bias=True), None, agl.LIF(0.3)),
        agl.Residual("r", [agl.SpikingBlock("b", agl.Conv2d(3, 3), agl.TdBN(3), agl.PLIF())]),
        agl.AvgPool(), agl.GlobalAvgPool(),
        agl.SpikingBlock("c", agl.Linear(3, 4), agl.TdBN(4), agl.LIF(0.25)),
        agl.Readout("fc", 4, 2),
    ]  # fmt: skip
    net = agl.Network(blocks, (7, 7, 2))
    rng = np.random.default_rng(2)
    x = narrow(rng.normal(0.6, 1.0, (2, 3, 7, 7, 2)))
    for training in (True, False):
        ref = reference(net, x, np.array([0, 1, 1]), training=training, replays=8)
        assert list(ref.margins) == ["a.s", "a.window", "r.b.s", "r.b.window", "c.s", "c.window"]
        assert all((margin >= 0).all() for margin in ref.margins.values())
        assert all(ref.bounds[name].shape == value.shape for name, value in ref.arrays.items())
        assert all(0 < ref.arrays[f"{b}.s"].mean() < 1 for b in ("a", "r.b"))


def bfloat16(a):
    """Rounded to 8 significand bits, to nearest even, as a bfloat16 unit does after each operation."""
    fraction, exponent = np.frexp(a)
    return np.ldexp(np.rint(fraction * 2.0**8), exponent - 8)


def test_bfloat16_lies_inside_its_own_bound_and_a_wrong_reset_does_not():
    """Every operation of the neuron rounded to bfloat16; the certificate says that no spike and no window can flip."""
    ref = reference_of_case(definition("lif-bfloat16"))
    assert min(ref.meta["certificate"][kind]["margin"] for kind in ("spike", "window")) > 2.0**-8
    q, x, ds, tau = bfloat16, ref.inputs["x"], ref.inputs["ds"], ref.meta["decay"]
    width = q(ref.arrays["width"])
    u, s, v, du = (np.zeros_like(x) for _ in range(4))
    for t in range(len(x)):
        u[t] = q(q(tau * v[t - 1]) + x[t]) if t else x[t]
        s[t] = u[t] >= 0.5
        v[t] = u[t] * (1 - s[t])
    got = {"width": width, "u": u, "s": s, "v": v}
    for attached in (1, 0):
        dv = np.zeros_like(x[0])
        for t in reversed(range(len(x))):
            h = np.where(np.abs(q(u[t] - 0.5)) < width[t] / 2, q(1 / width[t]), 0.0)
            du[t] = q(dv * (1 - s[t]) + q(q(ds[t] - attached * q(u[t] * dv)) * h))
            dv = q(tau * du[t])
        report = compare(ref, {**got, "du": du, "grad_x": du}, dtype="bfloat16")
        assert report.verdict == ("PASS" if attached else "FAIL"), str(report)
    assert 0 < s.mean() < 1


def test_the_widths_bound_allows_every_order_of_mean_and_products():
    f, T = np.float32, 2
    a, V_th, tau = f(2), f(0.75), f(0.25)
    orders = [
        lambda g, mean: a * mean * V_th,
        lambda g, mean: mean * V_th * a,
        lambda g, mean: a * V_th * g.sum(dtype=f) / f(len(g)),
        lambda g, mean: a * (V_th * g).mean(dtype=f),
    ]
    mean_rounds = [[0.47361422, 1.261929, 1.4531872], [1.3792179, 1.8446434, 0.31748676]]  # sum and width do not
    rng, differ = np.random.default_rng(0), 0
    for gamma in np.array([*mean_rounds, *rng.uniform(0.2, 2, (40, 3))], f):
        ref = op_reference("own", "width", {"gamma": gamma}, {"v_th": 0.75, "decay": 0.25, "T": T}, agl.MPD_AGL)
        for order in orders:
            kappa = order(gamma, gamma.sum(dtype=f) / f(3))
            width = np.array([kappa, kappa * np.sqrt(f(1) + tau * tau)], f)
            differ += float(kappa) != ref.arrays["width"][0]
            assert compare(ref, {"width": width}, guess=False).verdict == "PASS", (gamma, width)
    assert differ > 20  # rounding has to show
    exact = {"gamma": np.array([0.5, 1.5, 1.0, 2.0])}
    ref = op_reference("own", "width", exact, {"v_th": 0.75, "decay": 0.25, "T": T}, agl.MPD_AGL)
    assert ref.bounds["width"][0] == 0 and ref.bounds["width"][1] > 0
