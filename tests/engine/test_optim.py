"""Optimisers and schedule against arithmetic by hand; PyTorch's own are in tests/crosscheck."""

import math
import tracemalloc

import numba
import numpy as np
import pytest

import agl_ref as agl
from agl_ref.engine import optim


def test_sgd_with_momentum_and_weight_decay_by_hand(lib):
    p = np.array([1.0])
    opt = lib.SGD({"p": p}, lr=0.5, momentum=0.5, weight_decay=0.25)
    opt.step({"p": np.array([0.75])})  # g + wd p = 1, b = 1, p = 1 - 0.5
    assert p[0] == 0.5
    opt.step({"p": np.array([0.375])})  # g + wd p = 0.5, b = 1, p = 0.5 - 0.5
    assert p[0] == 0.0


def test_the_first_step_of_adam_is_the_learning_rate_against_the_sign():
    p = np.array([1.0, -1.0])
    optim.Adam({"p": p}, lr=0.1, eps=1e-300).step({"p": np.array([4.0, -0.5])})
    np.testing.assert_allclose(p, [0.9, -0.9], rtol=1e-12)


def test_adam_by_hand_for_two_steps():
    p = np.array([0.0])
    opt = optim.Adam({"p": p}, lr=0.1, betas=(0.5, 0.5), eps=1e-8)
    opt.step({"p": np.array([1.0])})
    opt.step({"p": np.array([3.0])})
    m, v = 0.25 + 1.5, 0.25 + 4.5
    expected = -0.1 / (1 + 1e-8) - 0.1 * (m / 0.75) / (math.sqrt(v / 0.75) + 1e-8)
    np.testing.assert_allclose(p, expected, rtol=1e-14)


def test_a_scalar_parameter_is_updated_in_place(lib):
    w = np.array(1.0)
    for opt in (lib.SGD({"w": w}, lr=0.5), optim.Adam({"w": w}, lr=0.5)):
        before = float(w)
        opt.step({"w": np.array(1.0)})
        assert float(w) < before and w.shape == ()


def test_cosine_goes_from_the_rate_to_zero():
    assert optim.cosine(0.2, 0, 10) == 0.2
    assert optim.cosine(0.2, 5, 10) == pytest.approx(0.1)
    assert optim.cosine(0.2, 10, 10) == pytest.approx(0.0)
    with pytest.raises(ValueError, match=r"step: expected 0..10, received 11"):
        optim.cosine(0.2, 11, 10)


@pytest.mark.parametrize("grads", [{}, {"p": np.zeros(1), "q": np.zeros(1)}, {"p": np.zeros(2)},
                                   {"p": np.zeros(1, np.float32)}])  # fmt: skip
def test_gradients_that_do_not_fit_are_refused_before_anything_changes(grads):
    p = np.array([1.0])
    opt = optim.SGD({"p": p})
    with pytest.raises(ValueError, match="grads"):
        opt.step(grads)
    assert p[0] == 1.0 and opt.steps == 0


@pytest.mark.parametrize("options", [{"lr": -1.0}, {"lr": float("nan")}, {"momentum": 1.0}, {"weight_decay": -1.0}])
def test_hyperparameters_out_of_range_are_refused(options):
    with pytest.raises(ValueError):
        optim.SGD({"p": np.zeros(1)}, **options)
    with pytest.raises(ValueError, match="at least one parameter"):
        optim.SGD({})


def test_kaiming_fan_out_has_its_variance():
    w = optim.kaiming_fan_out(np.random.default_rng(0), (3, 3, 64, 128), np.float64)
    assert w.var() == pytest.approx(2 / (9 * 128), rel=0.02)


def test_torch_linear_is_uniform_within_its_bound():
    w = optim.torch_linear(np.random.default_rng(0), (100, 400), np.float32)
    assert w.dtype == np.float32 and abs(w).max() <= 0.1 and w.var() == pytest.approx(0.01 / 3, rel=0.03)
    assert agl.Linear(100, 3, seed=0).params["bias"].shape == (3,)


@pytest.mark.skipif(bool(numba.config.DISABLE_JIT), reason="a million numbers take a minute without the JIT")
@pytest.mark.parametrize("optimiser", [agl.optim.SGD, agl.optim.Adam])
def test_a_step_takes_no_memory_of_the_parameters_size(optimiser):
    params = {
        "weight": np.ones((1000, 1000), np.float32),
        "turned": np.ones((3, 5), np.float32).T,
        "one": np.float32([1]),
    }
    grads = {name: np.full(p.shape, 0.5, np.float32) for name, p in params.items()}
    one = optimiser(params)
    one.step(grads)  # compiled
    tracemalloc.start()
    one.step(grads)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < params["weight"].nbytes / 2
    assert len({float(value) for p in params.values() for value in p.flat}) == 1, "every number, in whatever piece"


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_every_piece_has_the_bits_of_numpy(dtype, decay):
    """Arrays of several pieces and an odd rest, in another memory layout too."""
    rng = np.random.default_rng(0)
    p, g, again = rng.normal(size=(3, 2 * optim.PIECE + 77, 3)).astype(dtype)
    params = {"p": p.copy(), "turned": np.asfortranarray(p)}
    sgd, adam = agl.optim.SGD(params, 0.1, 0.9, decay), agl.optim.Adam({"p": p.copy()}, 0.1, weight_decay=decay)
    b, m, v, by_sgd, by_adam = *np.zeros((3, *p.shape), dtype), p, p
    lr, momentum, b1, b2, eps = map(dtype, (0.1, 0.9, 0.9, 0.999, 1e-8))
    for k, gradient in enumerate((g, again), 1):
        sgd.step({"p": gradient, "turned": gradient})
        adam.step({"p": gradient})
        decayed = gradient + dtype(decay) * by_sgd if decay else gradient
        b = momentum * b + decayed
        by_sgd = by_sgd - lr * b
        decayed = gradient + dtype(decay) * by_adam if decay else gradient
        m, v = b1 * m + dtype(1 - 0.9) * decayed, b2 * v + dtype(1 - 0.999) * (decayed * decayed)
        root = np.sqrt(v) / dtype(np.sqrt(1 - 0.999**k)) + eps
        by_adam = by_adam - dtype(0.1 / (1 - 0.9**k)) * (m / root)
    np.testing.assert_array_equal(params["p"], by_sgd)
    np.testing.assert_array_equal(params["turned"], by_sgd)
    np.testing.assert_array_equal(adam.params["p"], by_adam)


@pytest.mark.parametrize("optimiser", [agl.optim.SGD, agl.optim.Adam])
@pytest.mark.parametrize("place", [0, optim.PIECE + 5, 3 * optim.PIECE])
def test_what_is_not_finite_is_found_in_every_piece_and_nothing_changes(optimiser, place):
    params = {"a": np.ones(3, np.float32), "b": np.ones(3 * optim.PIECE + 1, np.float32)}
    one, grads = optimiser(params, lr=1e30), {name: np.zeros_like(p) for name, p in params.items()}
    grads["b"][place] = np.nan
    with pytest.raises(ValueError, match=rf"grads\['b'\]: expected finite values, received nan at index .{place},"):
        one.step(grads)
    grads["b"][place] = 3e38
    with pytest.raises(FloatingPointError, match="parameter 'b'"):
        one.step(grads)
    assert one.steps == 0 and all((p == 1).all() for p in params.values())
    assert not any(state.any() for state in one.state.values())


@pytest.mark.parametrize("optimiser", [agl.optim.SGD, agl.optim.Adam])
def test_state_that_does_not_fit_and_what_is_read_only_are_refused(optimiser):
    params = {"a": np.ones(4), "b": np.ones((10, 10))}
    grads = {name: np.ones_like(p) for name, p in params.items()}
    one = optimiser(params)
    slot, whole = one.slots[0], dict(one.state)
    for wrong in (np.zeros(10), np.zeros((10, 10), np.float32)):
        one.state[f"{slot}.b"] = wrong
        with pytest.raises(ValueError, match=rf"state\['{slot}.b'\]: expected float64 of shape \(10, 10\), received"):
            one.step(grads)
    one.state.update(whole)
    params["b"].flags.writeable = False
    with pytest.raises(ValueError, match=r"params\['b'\]: expected arrays to write to, received a read-only one"):
        one.step(grads)
    assert one.steps == 0 and (params["a"] == 1).all() and not one.state[f"{slot}.a"].any()


def test_a_gradient_that_shares_memory_with_its_parameter():
    memory = np.arange(101.0)
    agl.optim.SGD({"p": memory[1:]}, 1.0, 0.0).step({"p": memory[:-1]})
    np.testing.assert_array_equal(memory, [0.0] + [1.0] * 100)
