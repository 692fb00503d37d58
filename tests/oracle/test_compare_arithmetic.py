"""Arithmetics that are right must pass, and small mistakes must not: attacks on the oracle's bounds and verdicts."""

import numpy as np
import pytest
from twins.arithmetic import (
    AFFINES,
    BACKWARDS,
    LEAKS,
    ORDERS,
    VARIANCES,
    F,
    cross_entropy,
    neuron,
    product,
    sigmoid,
    surrogates,
    tdbn,
    total,
)

from agl_ref import Conventions
from agl_ref.engine.fast import winograd
from agl_ref.engine.surrogate import NAMES
from agl_ref.oracle import compare
from agl_ref.oracle.bounds.reference import op_reference
from agl_ref.oracle.judge.downstream import Order

U32 = 2.0**-24


def narrow(a):
    """Values that float32 has, as float64."""
    return np.asarray(a).astype(F).astype(np.float64)


def of(op, inputs, meta=None, **conventions):
    return op_reference("attack", op, inputs, meta or {}, Conventions(**conventions))


def neurons(seed, n, scaled=False, T=6):
    rng = np.random.default_rng(seed)
    mean, std = (0.6, 1.5) if scaled else (0.1, 0.6)
    x, ds = narrow(rng.normal(mean, std, (T, n))), narrow(rng.normal(0, 0.1, (T, n)))
    return {"x": x, "ds": ds, "width": narrow(rng.uniform(0.5, 1.5, T))}


def assert_passes(reference, got, what, verdicts=("PASS",)):
    report = compare(reference, got, dtype="float32")
    assert report.verdict in verdicts, f"{what}\n{report}"


# --- the neuron


@pytest.mark.parametrize("tau", [0.05, 0.2, 0.25, 0.9])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_leak_as_a_product_a_difference_or_a_quotient(tau, scaled):
    inputs = neurons(1, 40, scaled)
    rule = "1 - tau" if scaled else "1"
    reference = of("lif", inputs, {"v_th": 0.5, "decay": tau}, input_scale=rule)
    assert 0 < reference.arrays["s"].mean() < 1
    for leak in LEAKS:
        for how in ("plain", "factored", "fused"):
            got = neuron(**inputs, tau=tau, scaled=scaled, leak=leak, how=how)
            assert_passes(reference, got, f"{leak}, {how}")


@pytest.mark.parametrize("w", [-5.0, -1.4, 0.3, 3.0, 6.0])
@pytest.mark.parametrize("plif", ["tau", "1 - tau"])
def test_the_sigmoid_in_three_ways(w, plif):
    inputs, w = neurons(2, 40), narrow(w)
    reference = of("plif", {**inputs, "w": np.array(w)}, {"v_th": 0.5}, plif=plif)
    for how in ("exp", "tanh"):
        gate = sigmoid(w, how)
        for leak in LEAKS if plif == "1 - tau" else LEAKS[:1]:
            given = {"tau": gate} if plif == "tau" else {"tau": F(1) - gate, "one_minus_tau": gate}
            got = neuron(**inputs, **given, leak=leak)
            sign = 1 if plif == "tau" else -1
            got["grad_w"] = np.asarray(sign * got.pop("grad_decay") * gate * (F(1) - gate), F)
            assert_passes(reference, got, f"{how}, {leak}")


@pytest.mark.parametrize("scaled", [False, True])
def test_a_spike_within_rounding_of_the_boundary_is_never_a_failure(scaled):
    """u_1 lies within three units of the threshold or of an edge of the window, for 2000 neurons."""
    rng, tau, gain = np.random.default_rng(5), 0.2, 0.8 if scaled else 1.0
    x = np.zeros((2, 2000), F)
    x[0] = rng.normal(0, 0.3, 2000)
    u = gain * x[0].astype(float)
    aim = F((rng.choice([0.0, 0.5, 1.0], 2000) - tau * np.where(u >= 0.5, 0, u)) / gain)
    x[1] = aim + F(U32) * rng.integers(-3, 4, 2000) * np.abs(aim)
    inputs = {"x": x.astype(float), "ds": narrow(rng.normal(0, 0.1, x.shape)), "width": np.ones(2)}
    rule = "1 - tau" if scaled else "1"
    reference = of("lif", inputs, {"v_th": 0.5, "decay": tau}, input_scale=rule)
    flips = 0
    for leak in LEAKS:
        got = neuron(**inputs, tau=tau, scaled=scaled, leak=leak)
        flipped = got["s"] != reference.arrays["s"]
        assert (reference.margins["s"][flipped] <= U32).all()
        flips += flipped.sum()
        for names in (("u", "s", "v", "du", "grad_x", "grad_decay"), ("s", "du"), ("grad_x",)):
            assert_passes(reference, {name: got[name] for name in names}, leak, ("PASS", "AMBIGUOUS"))
        wrong = got["du"].copy()
        certain = np.flatnonzero((np.minimum(reference.margins["s"], reference.margins["window"]) > U32).all(axis=0))
        wrong[0, certain[0]] += F(1e-3)  # a neuron that cannot flip gets no excuse from those that can
        assert compare(reference, {**got, "du": wrong}, dtype="float32").verdict == "FAIL"
    assert flips > 20


def test_a_forced_potential_leaves_the_rounding_of_its_distance_from_the_threshold():
    """u - V_th = -(3/4 - 2^-25) rounds to -3/4, the window's edge: outside in float32, inside in exact arithmetic."""
    inputs = neurons(13, 20, T=2)
    inputs["width"] = np.array([1.5, 1.5])
    inputs["x"][0, :3] = -0.25 + 2.0**-25
    reference = of("lif", inputs, {"v_th": 0.5, "decay": 0.5})
    got = neuron(**inputs, tau=0.5)
    assert (got["du"][0, :3] != 0).any() and (np.abs(got["du"] - reference.arrays["du"])[0, :3] > 1e-3).all()
    dump = {name: got[name] for name in ("s", "u", "du", "grad_x")}
    for what in (("u",), ("s", "u")):
        assert compare(reference, dump, force=what, settle=False).verdict == "AMBIGUOUS", what
        assert compare(reference, dump, force=what).verdict == "PASS", what
        wrong = {**dump, "du": dump["du"] + F(1e-3) * (np.arange(20) == 10)}
        assert compare(reference, wrong, force=what).verdict == "FAIL", what


def test_the_gradient_of_a_networks_input_follows_every_block():
    names = ["a.u", "a.s", "b.u", "b.s", "logits", "b.ds", "b.du", "a.ds", "a.du"]
    order = Order([*names, "grad_fc.weight", "grad_b.weight", "grad_a.weight", "grad_x"])
    for source in ("a.u", "b.u", "b.du", "a.du"):
        assert np.all(order.after("grad_x", source, np.ones((2, 3), bool))), source
    assert order.after("grad_b.weight", "a.du", np.ones((2, 3), bool)) is None
    assert order.after("grad_fc.weight", "b.du", np.ones((2, 3), bool)) is None


@pytest.mark.parametrize("name", [name for name in NAMES if name != "rectangular"])
def test_smooth_surrogates_in_every_form(name):
    rng = np.random.default_rng(3)
    width = narrow(rng.uniform(0.5, 1.5, 3))
    on_edge = 0.5 + width[:, None] * rng.choice([-1, 1], (3, 50)) * (1 + U32 * rng.integers(-6, 7, (3, 50)))
    u = narrow(np.concatenate([rng.normal(0.5, 1.5, (3, 200)), on_edge], axis=1))
    reference = of("surrogate", {"u": u, "width": width}, {"v_th": 0.5, "surrogate": name})
    for form, y in surrogates(u, width)[name].items():
        assert y.dtype == F
        assert_passes(reference, {"y": y}, form)


# --- losses, tdBN, sums


@pytest.mark.parametrize("T, readout, offset", [(4, "mean", 0), (1, "mean", 100), (4, "last", 100), (4, "mean", 100)])
def test_log_softmax_shifted_or_by_logsumexp(T, readout, offset):
    rng = np.random.default_rng(4)
    logits, labels = narrow(rng.normal(offset, 1.5, (T, 5, 7))), rng.integers(0, 7, 5)
    reference = of("cross_entropy", {"logits": logits, "labels": labels}, readout=readout)
    for how in ("shifted", "logsumexp"):
        assert_passes(reference, cross_entropy(logits, labels, readout, how), how)


NORMS = {
    "usual": ((4, 3, 5, 3, 6), 0.3, 1.5, False),
    "large mean": ((4, 4, 9), 30.0, 0.5, False),
    "small variance": ((4, 10, 5), 0.001, 0.001, False),
    "few values": ((2, 1, 4), 0.3, 1.5, False),
    "evaluation": ((4, 3, 5), 0.3, 1.5, True),
}


def norm_inputs(shape, mean, std, running=False, seed=6):
    rng, C = np.random.default_rng(seed), shape[-1]
    inputs = {"x": narrow(rng.normal(mean, std, shape)), "gamma": narrow(rng.normal(1, 0.3, C))}
    inputs.update({"beta": narrow(rng.normal(0, 0.2, C)), "dy": narrow(rng.normal(0.02, 0.1, shape))})
    statistics = (narrow(rng.normal(mean, 0.2, C)), narrow(rng.uniform(0.5, 2.0, C))) if running else None
    return inputs, statistics


@pytest.mark.parametrize("name", NORMS)
def test_tdbn_in_every_form(name):
    inputs, running = norm_inputs(*NORMS[name])
    held = dict(zip(("running_mean", "running_var"), running or (), strict=False))
    reference = of("tdbn", {**inputs, **held}, {"v_th": 0.5})
    for variance in VARIANCES if running is None else VARIANCES[:1]:
        for affine, backward in zip((*AFFINES, "plain"), BACKWARDS, strict=True):
            for order in ORDERS:
                got = tdbn(**inputs, variance=variance, affine=affine, backward=backward, order=order, running=running)
                assert_passes(reference, got, f"{variance}, {affine}, {backward}, {order}")


@pytest.mark.parametrize("kind", ["normal", "positive", "spikes"])
@pytest.mark.parametrize("K, M", [(2, 3), (9, 50), (100, 60)])
def test_linear_sums_in_every_order(kind, K, M):
    rng = np.random.default_rng(7)
    x = {
        "normal": rng.normal(size=(M, K)),
        "positive": rng.uniform(size=(M, K)),
        "spikes": rng.uniform(size=(M, K)) < 0.3,
    }
    x, weight, dy = narrow(x[kind]), narrow(rng.normal(0, 0.1, (K, 4))), narrow(rng.normal(0, 0.1, (M, 4)))
    reference = of("linear", {"x": x[None], "weight": weight, "dy": dy[None]})
    for order in ORDERS:
        got = {"y": product(x, weight, order)[None], "grad_x": product(dy, weight.T, order)[None]}
        assert_passes(reference, {**got, "grad_weight": product(x.T, dy, order)}, order)


def test_convolutions_in_tiles_of_64_channels():
    """Winograd's tiles round relative to all their inputs: what is one spike times one number is not exact there."""
    rng, shape = np.random.default_rng(8), (1, 2, 8, 8, 64)
    x, dy = np.zeros(shape), narrow(rng.normal(0, 0.05, shape))
    x[:, :, 2, 3] = rng.uniform(size=(1, 2, 64)) < 0.5
    dy[:, :, :, 5:] = 0
    once = np.count_nonzero(x, axis=(0, 1, 2, 3)) == 1
    weight = narrow(rng.normal(0, 0.06, (3, 3, 64, 64)))
    reference = of("conv2d", {"x": x, "weight": weight, "dy": dy}, {"stride": 1, "padding": 1})
    for dtype in (np.float64, np.float32):
        images, d = x[0].astype(dtype), dy[0].astype(dtype)
        moved = winograd.transform(weight.astype(dtype))
        got = {"y": winograd.forward(images, moved, 1)[None], "grad_x": winograd.dx(d, weight.astype(dtype), 1)[None]}
        got["grad_weight"] = winograd.dweight(images, d, 1)
        report = compare(reference, got)
        assert report.verdict == "PASS", f"{np.dtype(dtype)}\n{report}"
    assert (got["grad_weight"][:, :, once] != reference.arrays["grad_weight"][:, :, once]).any()
    assert not reference.bounds["y"][0, :, :, 0].any()  # far from every spike nothing rounds


# --- mistakes that must be noticed


def verdict(reference, **got):
    return compare(reference, got, dtype="float32").verdict


def test_one_neuron_of_ten_thousand_and_roundings_that_are_too_early():
    inputs = neurons(9, 10_000, T=4)
    reference = of("lif", inputs, {"v_th": 0.5, "decay": 0.2})
    good = neuron(**inputs, tau=0.2)
    assert verdict(reference, **good) == "PASS"
    du = good["du"].copy()
    du[:, np.flatnonzero(du.all(axis=0))[0]] *= F(1.001)
    assert verdict(reference, **{**good, "du": du}) == "FAIL"
    biased = {name: np.nextafter(good[name], F(np.inf)) for name in ("u", "du")}
    assert verdict(reference, **{**good, **biased}) == "FAIL"  # where a value is exact, one bit is noticed
    assert verdict(reference, **{**good, "du": good["du"] * F(1 + 1e-6)}) == "FAIL"
    for name, value in (("width", inputs["width"]), ("tau", 0.2)):
        halved = np.float16(value).astype(float)
        changed = neuron(**{**inputs, "tau": 0.2, name: halved})
        assert verdict(reference, **changed) == "FAIL", name


@pytest.mark.slow
def test_a_decay_gradient_that_misses_one_neuron():
    inputs = neurons(10, 500, T=4)
    reference = of("lif", inputs, {"v_th": 0.5, "decay": 0.2})
    good = neuron(**inputs, tau=0.2)
    terms = (good["du"][1:] * good["v"][:-1]).sum(axis=0)
    terms = terms[terms != 0]
    noticed = [verdict(reference, grad_decay=np.asarray(good["grad_decay"] - term)) == "FAIL" for term in terms]
    assert len(noticed) > 250 and np.mean(noticed) >= 0.99


def test_mistakes_in_tdbn_are_noticed():
    inputs, _ = norm_inputs(*NORMS["usual"])
    reference = of("tdbn", inputs, {"v_th": 0.5, "eps": 1e-5})

    def run(**more):
        return tdbn(**inputs, variance="two passes", affine="plain", backward="means", **more)

    good = run()
    assert verdict(reference, **good) == "PASS"
    assert verdict(reference, **run(eps=1e-6)) == "FAIL"
    similar = {name: good[name] * F(1 + 1e-5) for name in ("y", "grad_x")}
    assert all(verdict(reference, **{name: value}) == "FAIL" for name, value in similar.items())
    order = [1, 0, *range(2, 6)]
    assert verdict(reference, grad_gamma=good["grad_gamma"][order]) == "FAIL"
    d = inputs["dy"].reshape(-1, 6)
    noticed = []
    for i in range(len(d)):
        beta = good["grad_beta"].copy()
        beta -= F(d[i])
        off = np.abs(beta - reference.arrays["grad_beta"]) > reference.bounds["grad_beta"] * U32
        noticed.extend(off[d[i] != 0])
    assert np.mean(noticed) >= 0.99


@pytest.mark.parametrize("M, least", [(100, 0.999), (2000, 0.99)])
def test_a_weight_that_misses_one_of_many_terms(M, least):
    """Up to some thousands of terms: the bound grows with the number of terms, what one term is worth falls."""
    rng = np.random.default_rng(11)
    x, dy = (rng.uniform(size=(1, M, 20)) < 0.3).astype(float), narrow(rng.normal(0, 0.1, (1, M, 5)))
    reference = of("linear", {"x": x, "weight": narrow(rng.normal(0, 0.1, (20, 5))), "dy": dy})
    good = total(F(x[0, :, :, None] * dy[0, :, None]), "forward")
    assert verdict(reference, grad_weight=good) == "PASS"
    terms = x[0, :, :, None] * dy[0, :, None]
    off = np.abs(good - terms - reference.arrays["grad_weight"]) > reference.bounds["grad_weight"] * U32
    assert off[terms != 0].mean() >= least


def test_gradients_of_float16_that_are_lost_are_noticed():
    """Gradients of a usual size, 1e-4, lie below float16's smallest normal number times 16."""
    inputs = neurons(12, 30, T=3)
    inputs["ds"] = inputs["ds"] * 1e-3
    inputs = {name: np.float16(a).astype(np.float64) for name, a in inputs.items()}
    reference = op_reference("attack", "lif", inputs, {"v_th": 0.5, "decay": 0.5}, Conventions(), dtype="float16")
    right = reference.arrays["du"].astype(np.float16)
    assert 0 < np.abs(right).max() < 16 * 2.0**-14
    assert compare(reference, {"du": right}, dtype="float16").verdict == "PASS"
    certain = np.minimum(reference.margins["s"], reference.margins["window"]).min(axis=0) > 2.0**-11
    lost = np.where(certain, 0, right).astype(np.float16)
    assert (
        compare(reference, {"s": reference.arrays["s"], "u": reference.arrays["u"], "du": lost}, "float16").verdict
        == "FAIL"
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_welfords_mean_and_variance_pass_where_the_values_are_exact(dtype):
    """Dyadic values give every sum exactly, but Welford's running mean divides at each step."""

    from agl_ref.oracle import load_case
    from agl_ref.oracle.mutants.variants import variant
    from agl_ref.oracle.problems import problem_of

    def welford(module):
        def mean(a):
            mean = np.zeros(a.shape[-1], a.dtype)
            for n, row in enumerate(a.reshape(-1, a.shape[-1]), 1):
                mean = mean + (row - mean) / a.dtype.type(n)
            return mean

        module.mean_of = mean

    means = [
        ("total(x, axes) / M", "mean_of(x)"),
        ("total((x - mean) * (x - mean), axes) / M", "mean_of((x - mean) * (x - mean))"),
        ("total(g, axes) / M", "mean_of(g)"),
        ("total(g * x_hat, axes) / (M - cache.ddof)", "mean_of(g * x_hat)"),
    ]

    case = load_case("tdbn-training-exact")
    arrays = problem_of(case).run(variant(means, welford), Conventions(**case.conventions), np.dtype(dtype))
    assert any(not np.array_equal(arrays[name], case.arrays[name]) for name in case.arrays)
    assert compare(case, arrays, dtype=dtype).verdict == "PASS"
    assert compare(case, {**arrays, "y": arrays["y"] * np.dtype(dtype).type(1.0001)}, dtype=dtype).verdict == "FAIL"


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("variance", VARIANCES)
def test_tdbn_of_sparse_input_passes_in_every_order(order, variance):
    """Where most inputs are 0, a variance in two passes sums thousands of equal terms, mean^2, that round alike."""
    rng = np.random.default_rng(8)
    x = np.where(rng.uniform(size=(2, 1500, 3)) < 0.01, narrow(rng.normal(0.3, 0.2, (2, 1500, 3))), 0.0)
    inputs = {"x": x, "gamma": np.ones(3), "beta": np.zeros(3), "dy": narrow(rng.normal(size=x.shape))}
    reference = of("tdbn", inputs, {"v_th": 0.5, "eps": 1e-5})
    got = tdbn(**inputs, variance=variance, affine="plain", backward="means", order=order)
    assert verdict(reference, **got) == "PASS"
    assert verdict(reference, y=got["y"] * F(1.001)) == "FAIL"


def test_slopes_too_small_for_the_dtype_may_be_zero():
    """The Gaussian's reach 1e-300, whose square is 0 even in float64; float32 has none of these numbers."""
    u = np.linspace(0.5, 20.5, 201).reshape(1, 1, 201)
    reference = of("surrogate", {"u": narrow(u), "width": np.array([0.75])}, {"v_th": 0.5, "surrogate": "gaussian"})
    y = reference.arrays["y"]
    assert y.min() < 1e-300 and (y > 1e-300).sum() > 100
    assert verdict(reference, y=np.where(y < 2.0**-126, 0, y).astype(np.float32)) == "PASS"
    assert verdict(reference, y=np.where(y < 1e-20, 0, y).astype(np.float32)) == "FAIL"
    assert compare(reference, {"y": np.nextafter(y, 2 * y)}, dtype="float64").verdict == "PASS"
    assert compare(reference, {"y": y * (1 + 1e-9)}, dtype="float64").verdict == "FAIL"


def test_a_width_of_few_bits_may_come_from_a_sum_that_rounds():
    """2 + 2^-22 is a float32 number, but (1 + 2^-23) + 1 is none."""
    gamma = np.array([1 + 2.0**-23, 1, 2.0**-23, 0])
    inputs = {"x": np.full((1, 1, 3), 0.375), "ds": np.ones((1, 1, 3)), "gamma": gamma}
    reference = of("lif", inputs, {"v_th": 0.5, "decay": 0.75})
    exact = reference.arrays["width"]
    assert (exact == np.float32(exact)).all()
    rounded = np.add.accumulate(F(gamma))[-1:] / F(4)
    assert (rounded != exact).all()
    assert verdict(reference, width=rounded) == "PASS"
    assert verdict(reference, width=F(exact * (1 + 2.0**-18))) == "FAIL"
    few = of("lif", {**inputs, "gamma": np.array([1.25, 0.75, 0.5, 1.5])}, {"v_th": 0.5, "decay": 0.75})
    assert not few.bounds["width"].any()


@pytest.mark.parametrize("above", [-1, 1])
def test_neurons_of_one_state_round_alike(above):
    """Far from the threshold 1 - tanh^2 cancels, and where all neurons are in one state their errors add up."""
    n, kappa = 1000, 0.3
    u, ds = 0.5 + above * 2 * kappa, narrow(np.random.default_rng(5).uniform(0.5, 1, (2, n)))
    x = narrow(np.stack([np.full(n, u), np.full(n, 0.75 * u)]))
    inputs, meta = (
        {"x": x, "ds": ds, "width": narrow(np.full(2, kappa))},
        {"v_th": 0.5, "decay": 0.25, "surrogate": "sigmoid"},
    )
    reference = of("lif", inputs, meta, reset="none")
    before = F(x[0])
    for name, h in surrogates(np.stack([x[0], F(0.25) * before + F(x[1])]), inputs["width"])["sigmoid"].items():
        grad_decay = total(F(ds[1]) * h[1] * before, "sorted")
        assert verdict(reference, grad_decay=grad_decay) == "PASS", name
        assert verdict(reference, grad_decay=grad_decay * F(1.01)) == "FAIL", name


def test_a_value_near_the_largest_float_fails_without_a_warning():
    reference = of("lif", neurons(1, 5), {"v_th": 0.5, "decay": 0.2})
    with np.errstate(all="raise"):
        assert verdict(reference, u=np.full(reference.arrays["u"].shape, -1.7e308)) == "FAIL"
