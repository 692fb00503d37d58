"""The reference, run on problems, against the engine: all arrays, every convention, surrogate and order of summation."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from helpers_oracle import LABELS, assert_telling, drive, every_layer, flat_network

from agl_ref import MPD_AGL, Conventions, reference
from agl_ref.engine.surrogate import NAMES
from agl_ref.oracle.mutants.summation import ORDERS, product, total
from agl_ref.oracle.mutants.variants import ONE_PASS, variant
from agl_ref.oracle.problems import CheckedValues, Implementation, Problem

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
    problem = Problem.of_network(net, drive(), LABELS)
    assert_same(problem.run(conventions=conventions), by_engine(net, drive()), 1e-11)


def test_the_default_case_is_telling():
    assert_telling(Problem.of_network(every_layer(), drive(), LABELS).run())


@pytest.mark.parametrize("loss", ["ce", "tet"])
@pytest.mark.parametrize("training", [True, False])
def test_flatten_losses_and_evaluation(loss, training):
    net = flat_network()
    net.update_running_statistics(net.forward(drive()))
    problem = Problem.of_network(net, drive(), LABELS, loss, training)
    assert_same(problem.run(), by_engine(net, drive(), loss, training), 1e-11)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("one_pass", [False, True])
def test_float32_in_every_order_stays_float32_and_close(order, one_pass):
    net = every_layer()
    exact = Problem.of_network(net, drive(), LABELS).run()
    module = variant(ONE_PASS if one_pass else (), order=order)
    received = Problem.of_network(net, drive(), LABELS).run(module, dtype=np.float32)
    assert {array.dtype for array in received.values()} == {np.dtype(np.float32)}
    assert_same(received, exact, 1e-4)
    assert any((received[name] != exact[name]).any() for name in exact), "float32 gave float64's values"


def test_a_bias_before_tdbn_has_no_gradient_and_its_magnitude_says_so():
    problem, values = Problem.of_network(every_layer(bias=True), drive(), LABELS), {}
    state = problem.forward(Implementation(), values)
    problem.finish(Implementation(), state, values)
    magnitude = problem.magnitude("grad_c1.bias", values, state)
    assert np.max(np.abs(values["grad_c1.bias"])) < 1e-12 * magnitude
    assert magnitude > 1e-3
    assert problem.magnitude("grad_c1.weight", values, state) == 0


def test_conventions_behind_the_forward_pass_can_share_it():
    """The backward half of one forward pass under other rules gives the bits of a whole run under them."""
    problem = Problem.of_network(every_layer(), drive(), LABELS)
    state = problem.forward(Implementation(), {})
    for field in ("reset_gradient", "window_edge", "surrogate_scale", "width", "width_gradient", "readout"):
        rules = replace(MPD_AGL, **{field: CHOICES[field][-1]})
        shared, whole = {}, problem.run(conventions=rules)
        problem.finish(Implementation(conventions=rules), state, shared)
        assert len(shared) > 30 and "c1.width" in shared
        assert all(np.array_equal(array, whole[name]) for name, array in shared.items()), field


def test_checked_values_see_every_array_and_can_stop():
    class UpToC1(CheckedValues):
        def check(self, name, array):
            if name == "r1.a.s":
                raise StopIteration

    values = UpToC1()
    with pytest.raises(StopIteration):
        Problem.of_network(every_layer(), drive(), LABELS).forward(Implementation(), values)
    assert list(values) == ["c1.x", "c1.u", "c1.s", "c1.v", "c1.width", "r1.a.x", "r1.a.u"]


class TestVariants:
    def test_a_changed_line_is_in_effect_in_its_copy_alone(self):
        x = np.full((2, 3), 0.25)
        wrong = variant([("= tau * v_before", "= 2 * tau * v_before")])
        assert wrong.lif_forward(x)[1].u[1].tolist() == [0.35] * 3
        assert reference.lif_forward(x)[1].u[1].tolist() == [0.3] * 3
        assert wrong.plif_forward(x, 0.0)[1].u[1].tolist() == [0.5] * 3, "a caller of the changed function has it too"

    def test_a_snippet_that_is_not_there_as_often_as_it_should_be_is_an_error(self):
        with pytest.raises(ValueError, match="expected 'no such line' 1 times, received 0"):
            variant([("no such line", "")])
        with pytest.raises(ValueError, match="1 times, received 2"):
            variant([("T, N, K = logits.shape", "")])
        variant([("T, N, K = logits.shape", "T, N, K = logits.shape", 2)])

    def test_each_copy_is_a_module_of_its_own(self):
        one, other = variant(order="forward"), variant()
        assert one.lif_forward is not other.lif_forward is not reference.lif_forward
        terms = np.array([1.0, 2.0**-24, 2.0**-24], np.float32)
        assert one.total(terms) == 1 and variant(order="backward").total(terms) > 1


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
