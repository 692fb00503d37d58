"""tdBN: hand arithmetic, naive twin, finite differences; training and evaluation, in every convention."""

import itertools

import helpers
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from storeys import ENGINE
from twins import naive

import agl_ref as agl
from agl_ref.engine.ops import update_running
from agl_ref.engine.tdbn import CHUNK

VARIANTS = [
    agl.Conventions(norm_variance=variance, norm_scale=scale, norm_shift=shift)
    for variance, scale, shift in itertools.product(("biased", "unbiased"), ("alpha V_th", "1"), ("beta", "beta V_th"))
]
each_convention = pytest.mark.parametrize(
    "c", VARIANTS, ids=lambda c: f"{c.norm_variance}, {c.norm_scale}, {c.norm_shift}"
)
each_mode = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
each_dtype = pytest.mark.parametrize("dtype", helpers.DTYPES)


def drawn(seed, shape, training, dtype=np.float64, offset=0.5):
    """(x, gamma, beta, dy, running) with a different mean and spread in each channel."""
    rng = np.random.default_rng(seed)
    C = shape[-1]
    x = rng.normal(size=shape) * rng.uniform(0.5, 2, C) + rng.normal(size=C) * offset
    gamma, beta, dy = rng.uniform(-1.5, 1.5, C), rng.normal(size=C), rng.normal(size=shape)
    running = None if training else (rng.normal(size=C).astype(dtype), rng.uniform(0.5, 2, C).astype(dtype))
    return *(a.astype(dtype) for a in (x, gamma, beta, dy)), running


def assert_is_twin(lib, x, gamma, beta, dy, running, c, tolerance, v_th=0.5, alpha=1.0, eps=1e-5):
    y, cache = lib.tdbn_forward(x, gamma, beta, v_th, alpha, eps, c, running)
    y_twin = naive.tdbn_forward(x, gamma, beta, v_th, alpha, eps, c, running)
    helpers.assert_close(y, y_twin, tolerance, name="y")
    expected = naive.tdbn_backward(dy, x, gamma, v_th, alpha, eps, c, running)
    M = x.size // x.shape[-1]
    # sums over M elements cancel: relative to the sum of their terms' magnitudes, |x_hat| <= sqrt(M)
    reach = M * np.abs(dy).max() * max(1.0, alpha * v_th)
    # and so do the three terms of dx
    terms = np.abs(dy).max() * np.abs(gamma).max() * cache.scale * np.max(cache.inv_std)
    dx, dgamma, dbeta = lib.tdbn_backward(dy, cache)
    helpers.assert_close(dx, expected[0], tolerance, terms, "dx")
    helpers.assert_close(dgamma, expected[1], tolerance, reach, "dgamma")
    helpers.assert_close(dbeta, expected[2], tolerance, reach, "dbeta")


# --- hand arithmetic ------------------------------------------------------------------------------

# x = -3, 0, 0, 3 (var 9/2 biased, 6 unbiased); eps 7/4 makes the root 5/2 under "biased": x_hat_1 = -6/5.
# gamma = 2, beta = 1, V_th = 1/2: y = x_hat + 1
HAND_X = np.array([[-3.0], [0.0], [0.0], [3.0]])
HAND_DY = np.array([[1.0], [0.0], [0.0], [0.0]])


def test_training_is_the_hand_arithmetic(lib):
    y, cache = lib.tdbn_forward(HAND_X, np.array([2.0]), np.array([1.0]), v_th=0.5, eps=1.75)
    helpers.assert_close(y.ravel(), [-0.2, 1.0, 1.0, 2.2], 1e-15, name="y")
    # g = 1, 0, 0, 0: mean(g) = 1/4, mean(g x_hat) = -3/10; dx_1 = (1 - 1/4 - 6/5 3/10) / (5/2)
    dx, dgamma, dbeta = lib.tdbn_backward(HAND_DY, cache)
    helpers.assert_close(dx.ravel(), [0.156, -0.1, -0.1, 0.044], 1e-15, name="dx")
    helpers.assert_close(dgamma, [-0.6], 1e-15, name="dgamma")
    assert dbeta.tolist() == [1.0]


def test_unbiased_training_is_the_hand_arithmetic(lib):
    # var = 18 / 3 = 6, eps = 1/4: the root is 5/2 again; the last sum divides by 3: -6/5 / 3 = -2/5
    c = agl.Conventions(norm_variance="unbiased")
    y, cache = lib.tdbn_forward(HAND_X, np.array([2.0]), np.array([1.0]), 0.5, eps=0.25, conventions=c)
    helpers.assert_close(y.ravel(), [-0.2, 1.0, 1.0, 2.2], 1e-15, name="y")
    dx, dgamma, _ = lib.tdbn_backward(HAND_DY, cache)
    helpers.assert_close(dx.ravel(), [0.108, -0.1, -0.1, 0.092], 1e-15, name="dx")
    helpers.assert_close(dgamma, [-0.6], 1e-15, name="dgamma")


@each_dtype
def test_evaluation_is_the_hand_arithmetic(lib, dtype):
    # mean 1, var + eps = 4: x_hat = (x - 1) / 2, y = 2 (1/2 x_hat) + 1; dx = dy 2 1/2 / 2, dgamma = -2 / 2
    running = (np.array([1.0], dtype), np.array([3.75], dtype))
    args = (HAND_X.astype(dtype), np.array([2.0], dtype), np.array([1.0], dtype))
    y, cache = lib.tdbn_forward(*args, 0.5, eps=0.25, running=running)
    dx, dgamma, dbeta = lib.tdbn_backward(HAND_DY.astype(dtype), cache)
    assert y.ravel().tolist() == [-1.0, 0.5, 0.5, 2.0]
    assert dx.ravel().tolist() == [0.5, 0, 0, 0]
    assert (dgamma.tolist(), dbeta.tolist()) == ([-1.0], [1.0])


def test_plain_scale_leaves_out_alpha_and_threshold(lib):
    # twice the y - beta of the default, at V_th = 1/2
    c = agl.Conventions(norm_scale="1")
    y, _ = lib.tdbn_forward(HAND_X, np.array([2.0]), np.array([1.0]), 0.5, alpha=3.0, eps=1.75, conventions=c)
    helpers.assert_close(y.ravel(), [-1.4, 1.0, 1.0, 3.4], 1e-15)


def test_alpha_multiplies_the_scale(lib):
    y, _ = lib.tdbn_forward(HAND_X, np.array([2.0]), np.array([1.0]), 0.5, alpha=2.0, eps=1.75)
    helpers.assert_close(y.ravel(), [-1.4, 1.0, 1.0, 3.4], 1e-15)


def test_running_statistics_are_the_hand_arithmetic(lib):
    # batch mean 0, unbiased variance 6: 9/10 2 + 0 and 9/10 1 + 6/10
    for c in VARIANTS:
        _, cache = lib.tdbn_forward(HAND_X, np.ones(1), np.zeros(1), conventions=c)
        mean, var = np.array([2.0]), np.array([1.0])
        lib.update_running(mean, var, cache)
        helpers.assert_close(mean, [1.8], 1e-15, name="mean")
        helpers.assert_close(var, [1.5], 1e-15, name="var")


# --- naive twin -----------------------------------------------------------------------------------


@each_convention
@each_mode
@given(
    st.sampled_from([(2, 1), (1, 2, 3), (3, 2, 5), (2, 1, 3, 5, 1), (2, 3, 3, 1, 4)]),
    st.sampled_from([0.3, 0.5, 1.0]),
    st.sampled_from([1.0, 0.7]),
    st.integers(0, 2**32 - 1),
)
def test_tdbn_is_the_naive_twin(lib, c, training, shape, v_th, alpha, seed):
    arrays = drawn(seed, shape, training)
    assert_is_twin(lib, *arrays, c, 1e-12, v_th, alpha)  # two values a channel: 1 / sqrt(var) may be large


@each_convention
@each_mode
def test_tdbn_over_several_chunks_is_the_naive_twin(c, training):
    arrays = drawn(1, (2, CHUNK + 3, 3), training)
    assert_is_twin(ENGINE, *arrays, c, 1e-13)


@each_convention
@each_mode
def test_tdbn_in_float32_is_the_naive_twin(lib, c, training):
    arrays = drawn(2, (2, CHUNK // 2 + 3, 3), training, np.float32)
    # sums are taken in float64; an element is about ten float32 operations, x - mean may cancel a digit
    assert_is_twin(lib, *arrays, c, helpers.rounding(np.float32, 32))


@each_dtype
def test_a_mean_far_from_zero_does_not_destroy_the_variance(lib, dtype):
    # E[x^2] - E[x]^2 would lose twice the digits that x itself has lost
    x, gamma, beta, _, _ = drawn(3, (200, 2), True)
    x = (x + 1000).astype(dtype)
    _, cache = lib.tdbn_forward(x, gamma.astype(dtype), beta.astype(dtype))
    _, var = naive.tdbn_statistics(x)
    helpers.assert_close(cache.var, var, 1e-6 if dtype is np.float32 else 1e-12)


@each_dtype
def test_running_statistics_are_the_naive_twin(lib, dtype):
    x, gamma, beta, _, (mean, var) = drawn(4, (3, 5, 4), False, dtype)
    _, cache = lib.tdbn_forward(x, gamma, beta)
    expected = naive.tdbn_running(mean, var, x, 0.3)
    lib.update_running(mean, var, cache, momentum=0.3)
    for received, twin in zip((mean, var), expected, strict=True):
        assert received.dtype == dtype
        helpers.assert_close(received, twin, helpers.rounding(dtype, 16))


# --- finite differences ---------------------------------------------------------------------------


@each_convention
@each_mode
def test_gradients_are_central_differences(lib, c, training):
    x, gamma, beta, dy, running = drawn(5, (2, 3, 2, 2), training)

    def loss():
        return float((dy * lib.tdbn_forward(x, gamma, beta, 0.7, 1.3, 1e-2, c, running)[0]).sum())

    _, cache = lib.tdbn_forward(x, gamma, beta, 0.7, 1.3, 1e-2, c, running)
    grads = lib.tdbn_backward(dy, cache)
    for name, array, received in zip(("dx", "dgamma", "dbeta"), (x, gamma, beta), grads, strict=True):
        expected = helpers.central_difference(loss, array, 1e-5)
        assert (np.abs(expected) > 0).all()
        helpers.assert_close(received, expected, 1e-7, name=name)


@each_convention
def test_training_gradient_has_no_mean_and_no_overlap_with_x_hat(lib, c):
    # y does not change if x is shifted; with eps = 0 neither if it is scaled
    x, gamma, beta, dy, _ = drawn(6, (4, 5, 3), True)
    _, cache = lib.tdbn_forward(x, gamma, beta, eps=1e-300, conventions=c)
    dx = lib.tdbn_backward(dy, cache)[0]
    size = np.abs(dx).sum()
    assert np.abs(dx.sum((0, 1))).max() < 1e-14 * size
    assert np.abs((dx * (x - x.mean((0, 1)))).sum((0, 1))).max() < 1e-13 * size


# --- edges, memory and types ----------------------------------------------------------------------


def test_constant_channel_gives_beta_and_finite_gradients(lib):
    x = np.full((3, 4, 1), 0.7)
    y, cache = lib.tdbn_forward(x, np.ones(1), np.array([0.25]))
    helpers.assert_close(y, np.full(x.shape, 0.25), 1e-12)
    assert all(np.isfinite(g).all() for g in lib.tdbn_backward(np.ones_like(x), cache))


def test_one_value_a_channel_is_beta_under_the_biased_variance(lib):
    y, cache = lib.tdbn_forward(np.array([[3.0, -5.0]]), np.ones(2), np.array([0.25, 0.5]))
    assert y.tolist() == [[0.25, 0.5]]
    assert lib.tdbn_backward(np.ones((1, 2)), cache)[0].tolist() == [[0, 0]]


@each_mode
@each_dtype
def test_dtype_stays_what_it_is(lib, training, dtype):
    x, gamma, beta, dy, running = drawn(8, (3, 4, 2), training, dtype)
    y, cache = lib.tdbn_forward(x, gamma, beta, running=running)
    assert all(a.dtype == dtype for a in (y, *lib.tdbn_backward(dy, cache)))


def test_forward_changes_neither_its_inputs_nor_the_running_statistics(lib):
    x, gamma, beta, dy, running = drawn(9, (3, 4, 2), False)
    kept = [a.copy() for a in (x, gamma, beta, dy, *running)]
    for statistics in (None, running):
        _, cache = lib.tdbn_forward(x, gamma, beta, running=statistics)
        lib.tdbn_backward(dy, cache)
    for before, after in zip(kept, (x, gamma, beta, dy, *running), strict=True):
        helpers.assert_same_bits(after, before)


def test_two_forwards_before_a_backward_do_not_disturb_each_other(lib):
    a, b = drawn(10, (3, 4, 2), True), drawn(11, (3, 4, 2), True)
    alone = lib.tdbn_backward(a[3], lib.tdbn_forward(*a[:3])[1])
    cache_a = lib.tdbn_forward(*a[:3])[1]
    cache_b = lib.tdbn_forward(*b[:3])[1]
    lib.tdbn_backward(b[3], cache_b)
    for received, expected in zip(lib.tdbn_backward(a[3], cache_a), alone, strict=True):
        helpers.assert_same_bits(received, expected)


# --- bad input ------------------------------------------------------------------------------------

X, G = np.random.default_rng(12).normal(size=(3, 4, 2)), np.ones(2)
BAD_FORWARD = {
    "list": (X.tolist(), G, G, {}),
    "integers": (X.astype(int), G, G, {}),
    "float16": (X.astype(np.float16), G, G, {}),
    "empty": (X[:0], G, G, {}),
    "no axes": (np.array(1.0), G, G, {}),
    "one axis": (np.ones(2), G, G, {}),
    "NaN": (X + np.nan, G, G, {}),
    "infinity": (X + np.inf, G, G, {}),
    "gamma channels": (X, np.ones(3), G, {}),
    "gamma rank": (X, np.ones((1, 2)), G, {}),
    "gamma dtype": (X, G.astype(np.float32), G, {}),
    "gamma NaN": (X, G + np.nan, G, {}),
    "beta channels": (X, G, np.ones(1), {}),
    "beta dtype": (X, G, G.astype(np.float32), {}),
    "v_th": (X, G, G, {"v_th": -0.5}),
    "alpha": (X, G, G, {"alpha": np.nan}),
    "eps 0": (X, G, G, {"eps": 0.0}),
    "eps negative": (X, G, G, {"eps": -1e-5}),
    "running channels": (X, G, G, {"running": (np.ones(3), np.ones(2))}),
    "running NaN": (X, G, G, {"running": (G + np.nan, G)}),
    "running variance negative": (X, G, G, {"running": (G, -G)}),
    "running one array": (X, G, G, {"running": (G,)}),
    "running dtype": (X, G, G, {"running": (G, G.astype(np.float32))}),
    "conventions": (X, G, G, {"conventions": "mpd-agl"}),
}


@pytest.mark.parametrize("bad", BAD_FORWARD.values(), ids=BAD_FORWARD)
def test_forward_refuses(bad):
    helpers.assert_refused(lambda: agl.tdbn_forward(*bad[:3], **bad[3]))


def test_unbiased_variance_of_one_value_is_refused():
    c = agl.Conventions(norm_variance="unbiased")
    helpers.assert_refused(lambda: agl.tdbn_forward(np.ones((1, 2)), G, G, conventions=c))


BAD_DY = {
    "length": X[:2],
    "channels": X[..., :1],
    "rank": X[0],
    "float32": X.astype(np.float32),
    "integers": X.astype(int),
    "NaN": X + np.nan,
    "list": X.tolist(),
}


@pytest.mark.parametrize("dy", BAD_DY.values(), ids=BAD_DY)
def test_backward_refuses(dy):
    _, cache = agl.tdbn_forward(X, G, G)
    helpers.assert_refused(lambda: agl.tdbn_backward(dy, cache))


def test_update_running_refuses():
    _, training = agl.tdbn_forward(X, G, G)
    _, evaluation = agl.tdbn_forward(X, G, G, running=(G, G))
    helpers.assert_refused(lambda: update_running(G.copy(), G.copy(), evaluation))
    helpers.assert_refused(lambda: update_running(np.ones(3), np.ones(3), training))
    helpers.assert_refused(lambda: update_running(G.tolist(), G.copy(), training))
    helpers.assert_refused(lambda: update_running(G.astype(int), G.copy(), training))
    helpers.assert_refused(lambda: update_running(G.copy(), G.copy(), training, momentum=1.5))


def test_update_running_refuses_one_value_a_channel():
    # it has no unbiased variance; counting it as 0 would pull the running variance down
    _, cache = agl.tdbn_forward(X[:1, :1], G, G)
    helpers.assert_refused(lambda: update_running(G.copy(), G.copy(), cache))
