"""Cross-entropy of the reduced logits, and TET: hand arithmetic, naive twin, finite differences."""

import math

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twins import naive

import agl_ref as agl
from agl_ref.engine.loss import of_network

READOUTS = agl.Conventions.choices()["readout"]
each_readout = pytest.mark.parametrize("readout", READOUTS)
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def drawn(seed, T, N, K, dtype=np.float64, spread=2.0):
    """(logits, labels) with at least one sample that the logits get wrong, if K > 1."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(T, N, K)) * spread
    labels = rng.integers(0, K, N)
    labels[0] = np.argmin(logits[:, 0].sum(0))
    return logits.astype(dtype), labels


def cross_entropy(lib, logits, labels, readout="mean"):
    """(loss, dlogits) of a storey."""
    loss, cache = lib.cross_entropy_forward(logits, labels, agl.Conventions(readout=readout))
    return loss, lib.cross_entropy_backward(cache)


def tet(lib, logits, labels, lam=1e-3, target=1.0):
    """(loss, dlogits) of a storey."""
    loss, cache = lib.tet_forward(logits, labels, lam, target)
    return loss, lib.tet_backward(cache)


# --- hand arithmetic ------------------------------------------------------------------------------

# two timesteps: mean (0, log 3), sum and last (0, log 9); softmax (1/4, 3/4) and (1/10, 9/10)
LOG3 = math.log(3)
HAND_LOGITS = np.array([[[0.0, 0.0]], [[0.0, 2 * LOG3]]])
HAND = {
    "mean": (math.log(4), [-0.375, 0.375, -0.375, 0.375]),
    "sum": (math.log(10), [-0.9, 0.9, -0.9, 0.9]),
    "last": (math.log(10), [0.0, 0.0, -0.9, 0.9]),
}


@each_readout
def test_cross_entropy_is_the_hand_arithmetic(lib, readout):
    loss, dlogits = cross_entropy(lib, HAND_LOGITS, np.array([0]), readout)
    helpers.assert_close(loss, HAND[readout][0], 1e-15, name="loss")
    helpers.assert_close(dlogits.ravel(), HAND[readout][1], 1e-15, name="dlogits")


def test_cross_entropy_is_the_mean_over_samples(lib):
    # both labels on the same logits: (log 4 + log 4/3) / 2
    logits = np.repeat(HAND_LOGITS, 2, axis=1)
    loss, dlogits = cross_entropy(lib, logits, np.array([0, 1]))
    helpers.assert_close(loss, (math.log(4) + math.log(4 / 3)) / 2, 1e-15, name="loss")
    expected = np.array([[[-0.1875, 0.1875], [0.0625, -0.0625]]] * 2)
    helpers.assert_close(dlogits, expected, 1e-15, name="dlogits")


def test_tet_is_the_hand_arithmetic(lib):
    # CE at t = 1: log 2, at t = 2: log 10; squares to the target 0: 4 log(3)^2 over 4 logits; lam = 1/4
    loss, dlogits = tet(lib, HAND_LOGITS, np.array([0]), lam=0.25, target=0.0)
    helpers.assert_close(loss, 0.75 * (math.log(2) + math.log(10)) / 2 + 0.25 * LOG3**2, 1e-15, name="loss")
    # CE part: 3/4 1/2 (softmax - onehot); pull: 1/4 2 (2 log 3) / 4
    expected = [-0.1875, 0.1875, -0.3375, 0.3375 + 0.25 * LOG3]
    helpers.assert_close(dlogits.ravel(), expected, 1e-15, name="dlogits")


# --- naive twin -----------------------------------------------------------------------------------


@each_readout
@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_cross_entropy_is_the_naive_twin(lib, readout, T, N, K, seed):
    logits, labels = drawn(seed, T, N, K)
    loss, dlogits = cross_entropy(lib, logits, labels, readout)
    twin_loss, twin = naive.cross_entropy(logits, labels, agl.Conventions(readout=readout))
    helpers.assert_close(loss, twin_loss, 1e-13, max(twin_loss, 1.0), "loss")
    helpers.assert_close(dlogits, twin, 1e-13, 1 / N, "dlogits")  # softmax - onehot cancels


@given(
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 9),
    st.sampled_from([0.0, 1e-3, 0.3, 1.0]),
    st.sampled_from([1.0, 0.0, 2.5]),
    st.integers(0, 2**32 - 1),
)
def test_tet_is_the_naive_twin(lib, T, N, K, lam, target, seed):
    logits, labels = drawn(seed, T, N, K)
    loss, dlogits = tet(lib, logits, labels, lam, target)
    twin_loss, twin = naive.tet(logits, labels, lam, target)
    helpers.assert_close(loss, twin_loss, 1e-13, max(twin_loss, 1.0), "loss")
    helpers.assert_close(dlogits, twin, 1e-13, 10 / (T * N), "dlogits")


@each_readout
def test_cross_entropy_in_float32_is_the_naive_twin(lib, readout):
    logits, labels = drawn(1, 4, 9, 10, np.float32)
    loss, dlogits = cross_entropy(lib, logits, labels, readout)
    twin_loss, twin = naive.cross_entropy(logits, labels, agl.Conventions(readout=readout))
    # T additions, the largest exponent of about 16 amplifies them, and K additions
    bound = helpers.rounding(np.float32, 4 * 16 + 10 + 4)
    helpers.assert_close(loss, twin_loss, bound, name="loss")
    helpers.assert_close(dlogits, twin, bound, 1 / 9, "dlogits")


def test_tet_in_float32_is_the_naive_twin(lib):
    logits, labels = drawn(2, 4, 9, 10, np.float32)
    loss, dlogits = tet(lib, logits, labels, 0.1)
    twin_loss, twin = naive.tet(logits, labels, 0.1, 1.0)
    bound = helpers.rounding(np.float32, 16 + 10 + 8)
    helpers.assert_close(loss, twin_loss, bound, name="loss")
    helpers.assert_close(dlogits, twin, bound, 1 / 36, "dlogits")


# --- finite differences and identities ------------------------------------------------------------


@each_readout
def test_cross_entropy_gradient_is_a_central_difference(lib, readout):
    logits, labels = drawn(3, 3, 4, 5)
    _, dlogits = cross_entropy(lib, logits, labels, readout)
    expected = helpers.central_difference(lambda: cross_entropy(lib, logits, labels, readout)[0], logits, 1e-5)
    helpers.assert_close(dlogits, expected, 1e-7)


@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_tet_gradient_is_a_central_difference(lib, lam):
    logits, labels = drawn(4, 3, 4, 5)
    _, dlogits = tet(lib, logits, labels, lam)
    expected = helpers.central_difference(lambda: tet(lib, logits, labels, lam)[0], logits, 1e-5)
    helpers.assert_close(dlogits, expected, 1e-7)


def test_tet_of_one_timestep_without_the_pull_is_cross_entropy(lib):
    logits, labels = drawn(5, 1, 4, 5)
    for received, expected in zip(tet(lib, logits, labels, 0.0), cross_entropy(lib, logits, labels), strict=True):
        helpers.assert_close(received, expected, 1e-15)


@each_readout
def test_cross_entropy_gradient_sums_to_zero_over_classes(lib, readout):
    logits, labels = drawn(6, 3, 4, 5)
    _, dlogits = cross_entropy(lib, logits, labels, readout)
    assert np.abs(dlogits).max() > 0.01
    assert np.abs(dlogits.sum(-1)).max() < 1e-15


@each_readout
@each_dtype
def test_large_logits_do_not_overflow(lib, readout, dtype):
    logits = np.array([[[5000.0, -5000.0, 0.0]]], dtype)
    with np.errstate(over="raise", invalid="raise"):
        loss, dlogits = cross_entropy(lib, logits, np.array([1]), readout)
    assert loss == 10000.0
    assert dlogits.tolist() == [[[1, -1, 0]]]


# --- memory and types -----------------------------------------------------------------------------


@each_dtype
def test_dlogits_keep_dtype_and_the_loss_is_a_float(lib, dtype):
    logits, labels = drawn(7, 3, 4, 5, dtype)
    for f in (cross_entropy, tet):
        loss, dlogits = f(lib, logits, labels)
        assert type(loss) is float and dlogits.dtype == dtype and dlogits.shape == logits.shape


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.int64])
def test_labels_may_be_any_integers(lib, kind):
    logits, labels = drawn(9, 3, 4, 5)
    assert cross_entropy(lib, logits, labels.astype(kind))[0] == cross_entropy(lib, logits, labels)[0]


def test_two_forwards_before_a_backward_do_not_disturb_each_other(lib):
    a, b = drawn(10, 3, 4, 5), drawn(11, 3, 4, 5)
    kept = a[0].copy()
    alone = cross_entropy(lib, *a)[1], tet(lib, *a)[1]
    pairs = [(lib.cross_entropy_forward, lib.cross_entropy_backward), (lib.tet_forward, lib.tet_backward)]
    for (forward, backward), expected in zip(pairs, alone, strict=True):
        cache_a, cache_b = forward(*a)[1], forward(*b)[1]
        backward(cache_b)
        helpers.assert_same_bits(backward(cache_a), expected)
    helpers.assert_same_bits(a[0], kept)


@pytest.mark.parametrize("loss", ["cross_entropy", "tet"])
def test_a_cache_gives_the_same_gradient_again_after_the_first_was_changed_in_place(loss):
    _, cache = getattr(agl, f"{loss}_forward")(*drawn(12, 3, 4, 5))
    backward = getattr(agl, f"{loss}_backward")
    first = backward(cache)
    kept = first.copy()
    first *= 1024  # as loss scaling does
    helpers.assert_same_bits(backward(cache), kept)


# --- class weights, label smoothing, squared error: Loss -------------------------------------------

WEIGHTS = (0.5, 2.0, 1.0, 4.0, 0.25)
OPTIONS = [{}, {"class_weights": WEIGHTS}, {"label_smoothing": 0.3},
           {"class_weights": WEIGHTS, "label_smoothing": 0.3}]  # fmt: skip
each_loss = pytest.mark.parametrize("name", ["ce", "tet", "mse"])
each_option = pytest.mark.parametrize("options", OPTIONS, ids=str)


def test_smoothed_and_weighted_cross_entropy_is_the_hand_arithmetic():
    # p = (1/4, 3/4), label 0; smoothing 1/2: target (3/4, 1/4); weights 2 and 1: q = (3/2, 1/4), divided by w[0] = 2
    value, dlogits = of_network(HAND_LOGITS[1:] / 2, np.array([0]), agl.Loss("ce", (2.0, 1.0), 0.5), agl.MPD_AGL)
    helpers.assert_close(value, (1.5 * math.log(4) + 0.25 * math.log(4 / 3)) / 2, 1e-15, name="loss")
    helpers.assert_close(dlogits.ravel(), [(1.75 / 4 - 1.5) / 2, (1.75 * 0.75 - 0.25) / 2], 1e-15, name="dlogits")


def test_squared_error_is_the_hand_arithmetic():
    # means over time (0, log 3) and (1, 0), labels 1 and 0, of weights 1 and 3: offs (0, log 3 - 1) and (0, 0)
    logits = np.concatenate([HAND_LOGITS, np.array([[[1.0, 0.0]]] * 2)], axis=1)
    value, dlogits = of_network(logits, np.array([1, 0]), agl.Loss("mse", (3.0, 1.0)), agl.MPD_AGL)
    helpers.assert_close(value, (LOG3 - 1) ** 2 / (2 * (1 + 3)), 1e-15, name="loss")
    helpers.assert_close(dlogits[:, 0], [[0, 2 * (LOG3 - 1) / 8 / 2]] * 2, 1e-15, name="dlogits")
    assert not dlogits[:, 1].any()


@each_loss
@each_option
@each_readout
@pytest.mark.parametrize("dtype", helpers.DTYPES)
def test_a_loss_with_options_is_the_naive_twin(name, options, readout, dtype):
    logits, labels = drawn(20, 3, 7, 5, dtype)
    c = agl.Conventions(readout=readout)
    value, dlogits = of_network(logits, labels, agl.Loss(name, **options, lam=0.1, pull=0.5), c)
    twin_value, twin = naive.loss_with_options(logits, labels, name, c, **options, lam=0.1, pull=0.5)
    bound = helpers.rounding(dtype, 80)
    helpers.assert_close(value, twin_value, bound, max(twin_value, 1.0), "loss")
    helpers.assert_close(dlogits, twin, bound, 1.0, "dlogits")
    assert dlogits.dtype == dtype and np.abs(dlogits).max() > 0.01


@each_loss
@each_option
@each_readout
def test_the_gradient_of_a_loss_with_options_is_a_central_difference(name, options, readout):
    logits, labels = drawn(21, 3, 4, 5)
    loss, c = agl.Loss(name, **options, lam=0.2), agl.Conventions(readout=readout)
    expected = helpers.central_difference(lambda: of_network(logits, labels, loss, c)[0], logits, 1e-5)
    helpers.assert_close(of_network(logits, labels, loss, c)[1], expected, 1e-7)


@pytest.mark.parametrize("name", ["ce", "tet"])
@each_dtype
def test_options_that_change_nothing_change_no_more_than_rounding(name, dtype):
    logits, labels = drawn(22, 3, 6, 5, dtype)
    plain = of_network(logits, labels, name, agl.MPD_AGL)
    ones = of_network(logits, labels, agl.Loss(name, class_weights=[1] * 5), agl.MPD_AGL)
    for expected, received in zip(plain, ones, strict=True):
        helpers.assert_close(received, expected, helpers.rounding(dtype, 20))


def test_tet_with_lam_0_is_the_mean_of_the_cross_entropies_of_each_timestep():
    logits, labels = drawn(23, 3, 6, 5)
    value, dlogits = of_network(logits, labels, agl.Loss("tet", lam=0.0), agl.MPD_AGL)
    each = [of_network(row[None], labels, "ce", agl.MPD_AGL) for row in logits]
    helpers.assert_close(value, np.mean([loss for loss, _ in each]), 1e-14)
    helpers.assert_close(dlogits, np.concatenate([d for _, d in each]) / 3, 1e-14)


BAD_LOSSES = [
    {"name": "nll"}, {"class_weights": [1.0, 0.0, 1.0]}, {"class_weights": [1.0, -2.0]}, {"class_weights": [np.inf]},
    {"class_weights": 2.0}, {"class_weights": ["a"]}, {"label_smoothing": 1.0}, {"label_smoothing": -0.1}, {"lam": 1.5},
    {"pull": np.nan},
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD_LOSSES, ids=str)
def test_a_loss_refuses(bad):
    helpers.assert_refused(lambda: agl.Loss(**bad))


def test_class_weights_of_another_number_of_classes_are_refused():
    with pytest.raises(ValueError, match="class_weights: expected 4 numbers, one for each class, received 5"):
        of_network(L, Y, agl.Loss("ce", WEIGHTS), agl.MPD_AGL)


# --- bad input ------------------------------------------------------------------------------------

L, Y = np.zeros((2, 3, 4)), np.array([0, 1, 3])
BAD = {
    "list": (L.tolist(), Y),
    "integers": (L.astype(int), Y),
    "float16": (L.astype(np.float16), Y),
    "rank": (L[0], Y),
    "rank 4": (L[None], Y),
    "no timesteps": (L[:0], Y),
    "no samples": (L[:, :0], Y[:0]),
    "no classes": (L[..., :0], Y),
    "label too large": (L, np.array([0, 1, 4])),
    "label negative": (L, np.array([0, -1, 3])),
    "labels float": (L, Y.astype(float)),
    "labels bool": (L, Y > 0),
    "labels one-hot": (L, np.eye(4, dtype=int)[Y]),
    "labels short": (L, Y[:2]),
    "labels scalar": (L, np.array(1)),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
@pytest.mark.parametrize("forward", [agl.cross_entropy_forward, agl.tet_forward])
def test_losses_refuse(forward, bad):
    helpers.assert_refused(lambda: forward(*bad))


BAD_OPTIONS = [{"lam": -0.1}, {"lam": 1.1}, {"lam": np.nan}, {"lam": "0"}, {"target": np.inf}]


@pytest.mark.parametrize("options", BAD_OPTIONS, ids=str)
def test_tet_refuses(options):
    helpers.assert_refused(lambda: agl.tet_forward(L, Y, **options))


def test_cross_entropy_refuses_what_is_no_conventions():
    helpers.assert_refused(lambda: agl.cross_entropy_forward(L, Y, "mean"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_logits_that_are_not_finite_are_refused_with_their_place(bad):
    logits = L.copy()
    logits[1, 2, 3] = bad
    for f in (agl.cross_entropy_forward, agl.tet_forward):
        with pytest.raises(ValueError, match=r"logits: expected finite values, received \S+ at index \(1, 2, 3\)"):
            f(logits, Y)


@pytest.mark.parametrize("backward", [agl.cross_entropy_backward, agl.tet_backward])
def test_a_backward_wants_its_own_cache(backward):
    with pytest.raises(TypeError, match="cache: expected the .*Cache that .*_forward returned, received NoneType"):
        backward(None)
