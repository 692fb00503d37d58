"""agl_ref against SpikingJelly's LIFNode and ParametricLIFNode: spikes identical, gradients to rounding.

SpikingJelly computes v + (x - v) / a where we compute tau v + (1 - tau) x with tau = 1 - 1/a, so that potentials agree to
rounding; on dyadic inputs both are exact and must have the same bits.
"""

import itertools
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

import helpers_frameworks as frameworks  # noqa: E402
import torch_twin as twin  # noqa: E402
from spikingjelly.activation_based import neuron, surrogate  # noqa: E402

import agl_ref as agl  # noqa: E402

ROUNDING = 1e-14
V_RESETS = {"hard": 0.0, "hard, to -1/2": -0.5, "soft": None}
VARIANTS = list(itertools.product([True, False], V_RESETS, [True, False]))
each_variant = pytest.mark.parametrize(("decay_input", "v_reset", "detach"), VARIANTS)


def conventions(decay_input, v_reset, detach, kappa):
    """The preset and what LIFNode's other arguments change."""
    return replace(
        agl.PRESETS["spikingjelly" if decay_input else "spikingjelly-no-decay-input"],
        reset="soft" if V_RESETS[v_reset] is None else "hard",
        reset_gradient="detached" if detach else "attached",
        fixed_width=kappa,
    )


class Window(torch.nn.Module):
    """The project's rectangular surrogate as a SpikingJelly surrogate function."""

    spiking = True

    def __init__(self, kappa):
        super().__init__()
        self.kappa = torch.tensor(kappa, dtype=torch.float64)

    def forward(self, z):
        return twin.Spike.apply(z, self.kappa.to(z.dtype), 0.0, "rectangular", twin.DEFAULTS)


def theirs(node, x, ds):
    """(s, dx) of a node over x (T, ...)."""
    x = torch.tensor(x, requires_grad=True)
    s = node(x) if node.step_mode == "m" else torch.stack([node(step) for step in x])
    (s * torch.tensor(ds)).sum().backward()
    return s.detach().numpy(), x.grad.numpy()


def compare(node, decay, v_threshold, v_reset, c, name="rectangular", dyadic=False, seed=0, dtype=np.float64):
    """Run both on the same inputs; a v_reset that is not 0 is a shift of the potential. Returns our layer."""
    v_th = v_threshold - (V_RESETS[v_reset] or 0.0)
    x, ds = frameworks.inputs(seed, decay, c, v_th, dyadic, dtype)
    layer = frameworks.ours(x, ds, decay, v_th, c, name)
    frameworks.assert_is_telling(layer, v_th, c.fixed_width, dyadic)
    s, dx = theirs(node, x, ds)
    tolerance = 0.0 if dyadic else (ROUNDING if dtype is np.float64 else 1e-5)
    assert np.array_equal(s, layer.s), f"{(s != layer.s).sum()} of {s.size} spikes differ"
    frameworks.assert_agrees(dx, layer.dx, tolerance, "dx")
    return layer


@pytest.mark.parametrize("step_mode", ["s", "m"])
@pytest.mark.parametrize("tau", [2.0, 4.0])
@each_variant
def test_lif_node_has_our_bits_on_dyadic_inputs(decay_input, v_reset, detach, tau, step_mode):
    c = conventions(decay_input, v_reset, detach, 1.0)
    node = neuron.LIFNode(tau, decay_input, 0.5, V_RESETS[v_reset], Window(1.0), detach, step_mode)
    compare(node.double(), 1 - 1 / tau, 0.5, v_reset, c, dyadic=True, seed=int(tau))


@pytest.mark.parametrize("seed", range(3))
@each_variant
def test_lif_node_is_ours_to_rounding(decay_input, v_reset, detach, seed):
    tau, v_threshold = [1.3, 2.6, 7.0][seed], [0.7, 1.0, 0.45][seed]
    c = conventions(decay_input, v_reset, detach, 0.8)
    node = neuron.LIFNode(tau, decay_input, v_threshold, V_RESETS[v_reset], Window(0.8), detach, "m")
    compare(node.double(), 1 - 1 / tau, v_threshold, v_reset, c, seed=seed)


# SpikingJelly's own surrogates: our member of the family, and kappa from their alpha.
SURROGATES = {
    "ATan": ("arctan", lambda alpha: 2 / alpha),
    "Sigmoid": ("sigmoid", lambda alpha: 4 / alpha),
    "PiecewiseQuadratic": ("triangular", lambda alpha: 1 / alpha),
    "Erf": ("gaussian", lambda alpha: np.sqrt(np.pi) / alpha),
    "Rect": ("rectangular", lambda alpha: 1 / alpha),
    "SoftSign": ("fast_sigmoid", lambda alpha: 2 / alpha),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("alpha", [1.25, 4.0])
@pytest.mark.parametrize("theirs", SURROGATES)
def test_their_surrogates_are_members_of_the_family(theirs, alpha, dtype):
    name, kappa = SURROGATES[theirs]
    own = getattr(surrogate, theirs)(alpha=alpha)
    c = conventions(True, "hard", False, float(kappa(alpha)))
    node = neuron.LIFNode(2.5, True, 1.0, 0.0, own, False, "m").to(
        torch.float64 if dtype is np.float64 else torch.float32
    )
    compare(node, 1 - 1 / 2.5, 1.0, "hard", c, name, dtype=dtype, seed=1)


@pytest.mark.parametrize("theirs", SURROGATES)
def test_the_defaults_of_their_surrogates_are_what_the_table_says(theirs):
    alpha = getattr(surrogate, theirs)().alpha
    expected = {
        "ATan": 1.0,
        "Sigmoid": 1.0,
        "PiecewiseQuadratic": 1.0,
        "Erf": np.sqrt(np.pi) / 2,
        "Rect": 1.0,
        "SoftSign": 1.0,
    }
    assert SURROGATES[theirs][1](alpha) == pytest.approx(expected[theirs], rel=1e-15)


@pytest.mark.parametrize("w", [0.5, 1.0])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_piecewise_leaky_relu_is_ours_where_c_is_a_hundredth_of_1_over_w(w, dtype):
    own = surrogate.PiecewiseLeakyReLU(w=w, c=0.01 / w)
    node = neuron.LIFNode(2.5, True, 1.0, 0.0, own, False, "m").to(
        torch.float64 if dtype is np.float64 else torch.float32
    )
    compare(node, 0.6, 1.0, "hard", conventions(True, "hard", False, 2 * w), "leaky_relu", dtype=dtype, seed=1)
    default = surrogate.PiecewiseLeakyReLU()
    assert (default.w, default.c) == (1, 0.01)


def test_super_spike_of_alpha_1_is_our_fast_sigmoid_of_peak_1():
    node = neuron.LIFNode(2.5, True, 1.0, 0.0, surrogate.SuperSpike(), False, "m").double()
    c = replace(conventions(True, "hard", False, 2.0), surrogate_scale="1")
    compare(node, 0.6, 1.0, "hard", c, "fast_sigmoid", seed=1)


def test_lif_node_without_arguments_is_the_preset():
    c = agl.PRESETS["spikingjelly"]
    assert c.fixed_width == 1.0
    node = neuron.LIFNode(step_mode="m").double()
    compare(node, 0.5, 1.0, "hard", c, "sigmoid", seed=2)


# --- ParametricLIFNode: 1 - tau = sigmoid(w) ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(2))
@each_variant
def test_parametric_lif_node_is_ours_to_rounding(decay_input, v_reset, detach, seed):
    init_tau, v_threshold = [2.0, 3.7][seed], [0.5, 0.8][seed]
    c = conventions(decay_input, v_reset, detach, 0.9)
    assert c.plif == "1 - tau"
    node = neuron.ParametricLIFNode(init_tau, decay_input, v_threshold, V_RESETS[v_reset], Window(0.9), detach, "m")
    node = node.double()
    w = node.w.item()
    v_th = v_threshold - (V_RESETS[v_reset] or 0.0)
    x, ds = frameworks.inputs(seed, 1 - 1 / init_tau, c, v_th)
    s, cache = agl.plif_forward(x, w, v_th, c)
    dx, dw = agl.plif_backward(ds, cache, agl.fixed_width(0.9, len(x)))
    assert cache.decay == pytest.approx(1 - 1 / init_tau, rel=1e-6)  # SpikingJelly rounds w to float32 at first
    frameworks.assert_is_telling(frameworks.Layer(s, cache.u, dx, 0.0), v_th, 0.9)
    their_s, their_dx = theirs(node, x, ds)
    assert np.array_equal(their_s, s)
    frameworks.assert_agrees(their_dx, dx, ROUNDING, "dx")
    terms = np.abs(dx).sum() / abs(dw)  # the sum over neurons cancels
    frameworks.assert_agrees(node.w.grad.item(), dw, ROUNDING * max(1.0, terms), "dw")


def test_other_conventions_are_told_apart():
    """The agreement above says something: every other reading of LIFNode differs on the same inputs."""
    c = conventions(True, "hard", False, 0.8)
    x, ds = frameworks.inputs(5, 0.6, c, 0.5)
    right = frameworks.ours(x, ds, 0.6, 0.5, c)
    changes = [
        {"reset": "soft"}, {"reset_gradient": "detached"}, {"input_scale": "1"}, {"surrogate_scale": "1"}, {"reset": "none"}
    ]  # fmt: skip
    for change in changes:
        assert frameworks.differs(right, frameworks.ours(x, ds, 0.6, 0.5, replace(c, **change))), change
    x, ds = frameworks.inputs(5, 0.5, c, 0.5, dyadic=True)
    right = frameworks.ours(x, ds, 0.5, 0.5, replace(c, fixed_width=1.0))
    for change in {"spike_test": ">"}, {"window_edge": "<="}:
        assert frameworks.differs(right, frameworks.ours(x, ds, 0.5, 0.5, replace(c, fixed_width=1.0, **change))), (
            change
        )
