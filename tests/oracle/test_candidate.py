"""The NumPy candidate against the engine: all arrays, every convention, surrogate and order of summation."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from helpers_oracle import LABELS, assert_telling, drive, every_layer, flat_network

from agl_ref import MPD_AGL, Conventions
from agl_ref.engine.surrogate import NAMES
from agl_ref.oracle.descriptions import describe
from agl_ref.oracle.mutants.candidate import Candidate
from agl_ref.oracle.mutants.candidate_network import CandidateNetwork
from agl_ref.oracle.mutants.summation import ORDERS, product, total
from agl_ref.oracle.problems import NetworkProblem

CHOICES = {name: values for name, values in Conventions.known_choices().items() if name != "axis_order"}
SINGLE = [(MPD_AGL, name) for name in NAMES] + [
    (replace(MPD_AGL, **{field: value}), "rectangular") for field, values in CHOICES.items() for value in values[1:]
]


def mixed(count, seed=5):
    rng = np.random.default_rng(seed)
    return [
        (Conventions(**{field: str(rng.choice(values)) for field, values in CHOICES.items()}), str(rng.choice(NAMES)))
        for _ in range(count)
    ]


def by_engine(net, x, loss="ce", training=True):
    """{name: array} of the engine, written without the oracle's own collection."""
    from agl_ref import cross_entropy_backward, cross_entropy_forward, tet_backward, tet_forward

    trace = net.forward(x, training=training)
    if loss == "ce":
        value, cache = cross_entropy_forward(trace.logits, LABELS, net.conventions)
        dlogits = cross_entropy_backward(cache)
    else:
        value, cache = tet_forward(trace.logits, LABELS)
        dlogits = tet_backward(cache)
    record = {}
    arrays = {f"grad_{name}": grad for name, grad in net.backward(trace, dlogits, record).items()}
    arrays["grad_x"] = record.pop("x")
    arrays.update(record)
    for name, cache in trace.items():
        arrays.update({f"{name}.{key}": getattr(cache, key) for key in ("u", "s", "v", "width")})
    return arrays | {"logits": trace.logits, "loss": np.array(value), "dlogits": dlogits}


def assert_same(received, expected, tolerance):
    for name, array in expected.items():
        magnitude = np.max(np.abs(array)) or 1.0
        error = np.max(np.abs(received[name] - array)) / magnitude
        assert error <= tolerance, f"{name}: error {error:.3g} of its largest value"


@pytest.mark.parametrize(("conventions", "surrogate"), SINGLE + mixed(12))
def test_every_convention_and_surrogate_gives_the_engines_arrays(conventions, surrogate):
    net = every_layer(conventions, surrogate)
    problem = NetworkProblem.of_network(net, drive(), LABELS)
    assert_same(problem.run(Candidate(np.float64, conventions, surrogate)), by_engine(net, drive()), 1e-11)


def test_the_default_case_is_telling():
    assert_telling(NetworkProblem.of_network(every_layer(), drive(), LABELS).run(Candidate()))


@pytest.mark.parametrize("loss", ["ce", "tet"])
@pytest.mark.parametrize("training", [True, False])
def test_flatten_losses_and_evaluation(loss, training):
    net = flat_network()
    net.update_running_statistics(net.forward(drive()))
    problem = NetworkProblem.of_network(net, drive(), LABELS, loss, training)
    assert_same(problem.run(Candidate()), by_engine(net, drive(), loss, training), 1e-11)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("one_pass", [False, True])
def test_float32_in_every_order_stays_float32_and_close(order, one_pass):
    net = every_layer()
    exact = NetworkProblem.of_network(net, drive(), LABELS).run(Candidate())
    ops = Candidate(np.float32, order=order, one_pass=one_pass)
    received = CandidateNetwork(ops, describe(net), net.parameters()).run(drive(), LABELS)
    assert {array.dtype for array in received.values()} == {np.dtype(np.float32)}
    assert_same(received, exact, 1e-4)
    assert any((received[name] != exact[name]).any() for name in exact), "float32 gave float64's values"


def test_a_bias_before_tdbn_has_no_gradient_and_its_magnitude_says_so():
    net = every_layer(bias=True)
    told = {}
    problem = NetworkProblem.of_network(net, drive(), LABELS)
    ops = Candidate()
    problem.finish(ops, problem.forward(ops, lambda *_: None), lambda name, a, size: told.update({name: (a, size)}))
    bias, magnitude = told["grad_c1.bias"]
    assert np.max(np.abs(bias)) < 1e-12 * magnitude
    assert magnitude > 1e-3


class TestSummation:
    def test_orders_differ_and_stay_within_the_worst_case(self):
        terms = np.random.default_rng(0).uniform(-1, 1, (500, 3)).astype(np.float32)
        exact = np.array([float(sum(Fraction(float(t)) for t in column)) for column in terms.T])
        sums = {order: total(terms, order, (0,)) for order in ORDERS}
        bound = 499 * 2.0**-24 * np.abs(terms).sum(axis=0, dtype=np.float64)
        for order, value in sums.items():
            assert value.dtype == np.float32
            assert (np.abs(value - exact) <= bound).all(), order
        assert len({value.tobytes() for value in sums.values()}) >= 4

    @pytest.mark.parametrize("order", ORDERS)
    def test_hand_sums_and_products(self, order):
        a = np.arange(12, dtype=np.float32).reshape(3, 4)
        assert total(a, order) == 66
        assert total(a, order, (0,)).tolist() == [12, 15, 18, 21]
        assert total(a[None], order, (-2, 0)).tolist() == [12, 15, 18, 21]
        assert product(a, a.T.copy(), order)[0].tolist() == [14, 38, 62]

    def test_forward_and_backward_are_what_they_say(self):
        terms = np.array([1.0, 2.0**-24, 2.0**-24], np.float32)  # small terms survive only if they come first
        assert total(terms, "forward") == 1.0
        assert total(terms, "backward") == np.float32(1.0 + 2.0**-23)
        row, ones = terms[None], np.ones((3, 1), np.float32)
        assert product(row, ones, "forward")[0, 0] == 1.0
        assert product(row, ones, "backward")[0, 0] == np.float32(1.0 + 2.0**-23)

    def test_blocks_longer_than_one(self):
        terms = np.arange(100.0)
        assert total(terms, "blocks") == 4950
        assert product(terms[None], np.ones((100, 2)), "blocks").tolist() == [[4950, 4950]]
