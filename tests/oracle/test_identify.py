"""identify: the right conventions from arrays, all of them, the mutants, and what bad arrays say."""

from dataclasses import replace

import numpy as np
import pytest
from helpers_oracle import LABELS, drive, every_layer, flat_network

import agl_ref as agl
from agl_ref import MPD_AGL, Conventions, models, reference
from agl_ref.interop import conv_weight_to_torch, to_layout
from agl_ref.oracle import identify as identify_own
from agl_ref.oracle.identify import distinguishing_cases, search, search_surrogates, shared
from agl_ref.oracle.identify.distinguishing_cases import cases_that_distinguish
from agl_ref.oracle.identify.search import relevant_values
from agl_ref.oracle.mutants.table import LISTED, NOT_LISTED, mutant_of
from agl_ref.oracle.problems import Problem

NET = every_layer()
PROBLEM = Problem.of_network(NET, drive(), LABELS)
SINGLE = [
    (field, value)
    for field, values in Conventions.known_choices().items()
    for value in values[1:]
    if field not in ("axis_order", "spike_test", "window_edge")  # drawn from a continuum, no neuron sits on an edge
    and value != "2 V_th"  # at V_th = 1/2 the fixed width
]


def dump(conventions=MPD_AGL, surrogate="rectangular", only="", problem=PROBLEM, module=reference):
    arrays = problem.run(module, conventions, np.float32, surrogate)
    return {name: array for name, array in arrays.items() if only in name}


def always(conventions, surrogate, arrays):
    return True


def found_in(arrays, problem=PROBLEM, base=MPD_AGL, confirm=always):
    return search(problem, arrays, base, "float32", problem.surrogate, confirm)


class TestConventions:
    @pytest.mark.parametrize(("field", "value"), SINGLE)
    def test_each_value_is_named_from_a_full_dump(self, field, value):
        found = found_in(dump(replace(MPD_AGL, **{field: value})))
        assert found.verdict == "conventions"
        assert found.wrong == {field: (getattr(MPD_AGL, field), value)}
        assert found.tried == found.combinations

    def test_two_thresholds_are_a_width_of_their_own_where_no_threshold_is_one_half(self):
        net = models.conv_snn(1, 6, 3, (3, 4), v_th=0.75, seed=2)
        net.parameters()["conv1.gamma"][...] = (0.5, 1.0, 2.5)  # at 1 the rule "first" gives the same
        rng = np.random.default_rng(0)
        problem = Problem.of_network(net, rng.normal(0.5, 1, (3, 4, 6, 6, 1)), np.array([0, 1, 2, 0]))
        found = found_in(dump(replace(MPD_AGL, width="2 V_th"), problem=problem), problem)
        assert found.wrong == {"width": ("adaptive", "2 V_th")}
        assert "2 V_th" not in relevant_values(PROBLEM, MPD_AGL, "rectangular")[0]["width"]

    def test_no_width_rule_is_left_open_where_no_gamma_can_decide_it(self):
        block = agl.SpikingBlock("a", agl.Linear(5, 6, seed=1), None, agl.LIF(0.25, 0.5))
        net = agl.Network([block, agl.Readout("fc", 6, 3, seed=2)], (5,))
        rng = np.random.default_rng(0)
        problem = Problem.of_network(net, rng.normal(0.5, 1, (3, 8, 5)), np.arange(8) % 3)
        found = found_in(dump(replace(MPD_AGL, reset="soft"), problem=problem), problem)
        assert found.wrong == {"reset": ("hard", "soft")} and "width" not in found.undecided
        assert {"norm_scale", "width_gradient"} <= set(found.irrelevant)
        wide = replace(MPD_AGL, fixed_width=2.0)
        found = found_in(dump(replace(wide, width="fixed"), problem=problem), problem, wide)
        assert found.wrong == {"width": ("adaptive", "fixed")}

    def test_several_at_once_from_the_gradients_alone(self):
        theirs = replace(MPD_AGL, reset="soft", surrogate_scale="1", readout="sum", width="later")
        found = found_in(dump(theirs, only="grad_"))
        assert set(found.wrong.values()) == {("hard", "soft"), ("1/kappa", "1"), ("mean", "sum"), ("adaptive", "later")}

    def test_everything_that_cannot_be_told_apart_is_listed(self):
        found = found_in(dump())
        assert found.wrong == {}
        assert found.undecided == {"spike_test": (">=", ">"), "window_edge": ("<", "<=")}
        assert len(found.matches) == 4 and MPD_AGL in found.matches

    def test_on_the_edges_the_two_tests_are_told_apart(self):
        x = np.array([[[0.5, 0.25, 1.0]], [[1.0, 0.5, 0.5]]])  # u on the threshold, and on the window's edge
        inputs = {"x": x, "ds": np.ones_like(x), "width": np.full(2, 1.0)}
        op = Problem("lif", inputs, {"v_th": 0.5, "decay": 0.5, "T": 2})
        for field, value in (("spike_test", ">"), ("window_edge", "<=")):
            found = found_in(op.run(conventions=replace(MPD_AGL, **{field: value}), dtype=np.float32), op)
            assert found.wrong == {field: (getattr(MPD_AGL, field), value)}
            assert field not in found.undecided

    def test_another_surrogate(self):
        x = np.random.default_rng(3).normal(0.2, 0.6, (4, 2, 9))
        inputs = {"x": x, "ds": np.cos(x), "gamma": np.array([0.75, 1.25])}
        op = Problem("lif", inputs, {"v_th": 0.5, "decay": 0.5, "T": 4})
        arrays = dump(replace(MPD_AGL, reset_gradient="detached"), "triangular", "grad_", problem=op)
        assert found_in(arrays, op).verdict == "unknown"
        found = search_surrogates(op, arrays, MPD_AGL, "float32", always)
        assert (found.surrogate, found.own_surrogate) == ("triangular", "rectangular")
        assert found.wrong == {"reset_gradient": ("attached", "detached")}
        assert "window_edge" in found.irrelevant
        assert "the case has rectangular, yours is triangular" in str(found)

    def test_fields_without_effect_are_not_tried(self):
        net = flat_network()
        problem = Problem.of_network(net, drive(T=1), LABELS)
        found = found_in(dump(problem=problem), problem)
        assert {"readout", "reset_gradient"} <= set(found.irrelevant)

    def test_own_network_through_the_reference(self):
        x = drive(np.float32, T=3)
        net = flat_network(replace(MPD_AGL, width="geometric"), dtype=np.float32)
        theirs = net.loss_and_grads(x, LABELS).grads
        found = identify_own(flat_network(dtype=np.float32), x, LABELS, theirs)
        assert found.wrong == {"width": ("adaptive", "geometric")}


class TestSharedSteps:
    def run(self, module, **rules):
        return PROBLEM.run(module, replace(MPD_AGL, **rules))

    def test_rules_that_leave_the_spikes_as_they_are_share_every_product(self):
        module, products = shared.shared_reference(), []
        module.product = lambda a, b: products.append(a.shape) or a @ b
        self.run(module)
        once = len(products)
        self.run(module, spike_test=">", window_edge="<=", width_gradient="flows")
        assert once > 0 and len(products) == once
        self.run(module, reset="none")
        assert len(products) > once

    @pytest.mark.parametrize(("field", "value"), SINGLE)
    def test_what_was_remembered_is_what_the_reference_gives(self, field, value):
        module = shared.shared_reference()
        self.run(module)
        arrays, right = self.run(module, **{field: value}), self.run(reference, **{field: value})
        assert all(np.array_equal(arrays[name], right[name]) for name in right)

    def test_the_oldest_results_make_room(self, monkeypatch):
        monkeypatch.setattr(shared, "MOST", 1)
        module, products = shared.shared_reference(), []
        module.product = lambda a, b: products.append(a.shape) or a @ b
        self.run(module)
        once = len(products)
        self.run(module)
        assert len(products) == 2 * once


class TestLayouts:
    @pytest.mark.parametrize("order", ["NTC..", "TNC.."])
    def test_the_axis_order_is_named(self, order):
        arrays = dump(replace(MPD_AGL, reset="soft"))
        turned = {}
        for name, array in arrays.items():
            if name.endswith("weight"):
                array = conv_weight_to_torch(array) if array.ndim == 4 else array.T
            elif array.ndim >= 3:
                array = to_layout(array, order)
            turned[name] = array
        found = found_in(turned)
        assert found.wrong == {"reset": ("hard", "soft"), "axis_order": ("TN..C", order)}

    def test_a_shape_that_fits_nowhere(self):
        arrays = dump(only="grad_fc")
        arrays["grad_fc.weight"] = arrays["grad_fc.weight"][:2]
        with pytest.raises(ValueError, match=r"grad_fc.weight: expected shape \(7, 4\).*received \(2, 4\)"):
            found_in(arrays)


class TestMutants:
    @pytest.mark.parametrize(
        "id", ["no-carry", "kernel-flipped-in-backward", "norm-mean-term-dropped", "reset-term-sign"]
    )
    def test_a_mutant_is_named_when_no_convention_fits(self, id):
        found = found_in(dump(module=mutant_of(id).module))
        assert found.verdict == "mutant"
        assert next(iter(found.mutants)) == id
        assert id in str(found)

    @pytest.mark.parametrize("id", ["carry-without-leak", "carry-leaks-twice", "upper-half", "gradient-reversed"])
    def test_what_a_report_would_guess_is_named_too(self, id):
        mutant = mutant_of(id)
        found = found_in(dump(module=mutant.module))
        assert not mutant.listed and found.verdict == "mutant" and next(iter(found.mutants)) == id
        assert mutant.effect in str(found)

    def test_names_of_mutants_are_unique(self):
        names = [mutant.id for mutant in (*LISTED, *NOT_LISTED)]
        assert len(set(names)) == len(names)

    def test_a_mutant_without_effect_is_not_named(self):
        found = found_in(dump(module=mutant_of("softmax-overflows").module), confirm=lambda *_: False)
        assert found.verdict == "close"
        assert found.mutants == {}
        assert "none within the bounds" in str(found)

    def test_an_unknown_difference_says_how_far_the_nearest_agrees(self):
        arrays = dump(replace(MPD_AGL, reset="soft"))
        arrays["grad_c1.gamma"] = 3 * arrays["grad_c1.gamma"]
        found = found_in(arrays)
        assert found.verdict == "unknown"
        assert found.nearest.reset == "soft" and found.stopped_at == "grad_c1.gamma"
        assert "reset='soft'" in str(found) and "grad_c1.gamma" in str(found)


class TestLimits:
    def test_what_was_not_tried_is_said(self):
        found = search(PROBLEM, dump(only="grad_c1.w"), MPD_AGL, "float32", "rectangular", always, seconds=0.0)
        assert found.tried < found.combinations
        assert f"only {found.tried} of {found.combinations}" in str(found)

    def test_json(self):
        import json

        record = json.loads(json.dumps(found_in(dump(replace(MPD_AGL, plif="1 - tau"))).to_json()))
        assert record["wrong"] == {"plif": {"case": "tau", "received": "1 - tau"}}
        assert record["verdict"] == "conventions"

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({}, "received none"),
            ({"conv9.u": np.zeros(3, np.float32)}, "unknown name"),
            ({"grad_fc.bias": np.array([1, np.nan, 0, 0], np.float32)}, "finite"),
        ],
    )
    def test_bad_arrays(self, arrays, words):
        with pytest.raises(ValueError, match=words):
            found_in(arrays)


class TestInputsInADump:
    def lif(self):
        x = np.array([[[0.75, 0.25]], [[0.25, 0.625]]])
        return Problem("lif", {"x": x, "ds": x + 1, "width": np.ones(2)}, {"v_th": 0.5, "decay": 0.5, "T": 2})

    def test_the_cases_own_inputs_are_left_out(self):
        op = self.lif()
        arrays = op.run(conventions=replace(MPD_AGL, reset="soft"), dtype=np.float32) | op.inputs
        assert found_in(arrays, op).wrong == {"reset": ("hard", "soft")}

    def test_a_bare_name_with_other_values_is_the_gradient(self):
        rng = np.random.default_rng(0)
        inputs = {"x": rng.normal(0, 1, (4, 3)), "weight": rng.normal(0, 1, (3, 2)), "dy": rng.normal(0, 1, (4, 2))}
        op = Problem("linear", inputs, {})
        right = op.run(dtype=np.float32)["grad_weight"]
        assert found_in({"weight": right}, op).matches == (MPD_AGL,)
        assert found_in({"weight": 3 * right}, op).matches == ()
        with pytest.raises(ValueError, match="received none"):
            found_in({"weight": inputs["weight"]}, op)


class TestDistinguishingCases:
    def lif(self, id, x, width=1.0, T=2):
        x = np.array(x).reshape(T, 1, -1)
        return Problem(
            "lif", {"x": x, "ds": np.ones_like(x), "width": np.full(T, width)}, {"v_th": 0.5, "decay": 0.5, "T": T}, id
        )

    def test_the_case_on_the_threshold_decides_the_spike_test(self):
        golden = [(self.lif("off", [0.75, 0.25]), MPD_AGL), (self.lif("on", [0.5, 0.25]), MPD_AGL)]
        assert cases_that_distinguish("spike_test", (">=", ">"), {}, golden) == ("on",)

    def test_the_other_wrong_rules_are_kept(self):
        golden = [(self.lif("fires", [0.75, 0.25]), MPD_AGL)]
        assert cases_that_distinguish("reset_gradient", ("attached", "detached"), {}, golden) == ("fires",)
        assert cases_that_distinguish("reset_gradient", ("attached", "detached"), {"reset": "none"}, golden) == ()

    def test_three_are_enough(self):
        golden = [(self.lif(f"on{i}", [0.5, 0.25]), MPD_AGL) for i in range(5)]
        assert len(cases_that_distinguish("spike_test", (">=", ">"), {}, golden)) == distinguishing_cases.ENOUGH
