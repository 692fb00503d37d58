"""agl_ref against Norse's LIF without and with synaptic current: spikes identical, gradients to rounding.

What its code does (norse/torch/functional/lif_box.py and lif.py, 1.1.0): u = v + dt tau_mem_inv (v_leak - v + i), a spike
where u > V_th, v = (1 - s) u + s v_reset with the gradient through s, from v_0 = v_leak. LIF has a second state, the
current i; where dt tau_syn_inv = 1 it is the input alone, and LIF is LIFBox.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it uses torch.jit.script, which PyTorch 2.13 deprecates
    pytest.importorskip("norse")
    import norse.torch as norse
    import norse.torch.functional.lif as norse_lif
    import norse.torch.functional.lif_box as norse_box
    from norse.torch.functional.reset import reset_subtract, reset_value

import helpers_frameworks as frameworks  # noqa: E402
import torch_twin as twin  # noqa: E402

import agl_ref as agl  # noqa: E402

ROUNDING = 1e-14
RESETS = {"hard": reset_value, "soft": reset_subtract}


@pytest.fixture
def window(monkeypatch):
    """Puts the project's rectangular surrogate, of a width to be chosen, in the place of Norse's threshold function."""
    rule = {**twin.DEFAULTS, "spike_test": ">"}

    def choose(kappa):
        def threshold(z, method, alpha):
            return twin.Spike.apply(z, torch.tensor(kappa, dtype=z.dtype), 0.0, "rectangular", rule)

        monkeypatch.setattr(norse_box, "threshold", threshold)
        monkeypatch.setattr(norse_lif, "threshold", threshold)

    return choose


def number(value):
    return torch.tensor(value, dtype=torch.float64)


def box(decay, v_th, reset="hard", v_leak=0.0, v_reset=None, method="super", alpha=1.0, dt=0.5):
    p = norse.LIFBoxParameters(
        tau_mem_inv=number((1 - decay) / dt),
        v_leak=number(v_leak),
        v_th=number(v_th),
        v_reset=number(v_leak if v_reset is None else v_reset),
        method=method,
        alpha=alpha,
        reset_method=RESETS[reset],
    )
    return norse.LIFBoxCell(p, dt=dt)


def lif(decay, v_th, dt=0.5, **more):
    p = norse.LIFParameters(
        tau_syn_inv=number(1 / dt), tau_mem_inv=number((1 - decay) / dt), v_th=number(v_th), method="super", **more
    )
    return norse.LIFCell(p, dt=dt)


def theirs(cell, x, ds):
    """(s, dx) over x (T, ...)."""
    x = torch.tensor(x, requires_grad=True)
    state, spikes = None, []
    for step in x:
        s, state = cell(step, state)
        spikes.append(s)
    (torch.stack(spikes) * torch.tensor(ds)).sum().backward()
    return torch.stack(spikes).detach().numpy(), x.grad.numpy()


def compare(
    cell, decay, v_th, kappa, reset="hard", name="rectangular", dyadic=False, seed=0, tolerance=ROUNDING, **fields
):
    c = replace(agl.PRESETS["norse"], reset=reset, fixed_width=kappa, **fields)
    x, ds = frameworks.inputs(seed, decay, c, v_th, dyadic)
    layer = frameworks.ours(x, ds, decay, v_th, c, name)
    frameworks.assert_is_telling(layer, v_th, kappa, dyadic)
    s, dx = theirs(cell, x, ds)
    assert np.array_equal(s, layer.s), f"{(s != layer.s).sum()} of {s.size} spikes differ"
    frameworks.assert_agrees(dx, layer.dx, 0.0 if dyadic else tolerance, "dx")


@pytest.mark.parametrize("decay", [0.5, 0.75])
@pytest.mark.parametrize("reset", RESETS)
def test_box_has_our_bits_on_dyadic_inputs(window, reset, decay):
    window(1.0)
    compare(box(decay, 0.5, reset), decay, 0.5, 1.0, reset, dyadic=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("reset", RESETS)
def test_box_is_ours_to_rounding(window, reset, seed):
    decay, v_th = [0.9, 0.35, 0.6][seed], [0.7, 1.0, 0.45][seed]
    window(0.8)
    compare(box(decay, v_th, reset, dt=0.001), decay, v_th, 0.8, reset, seed=seed)


def test_a_leak_potential_that_is_not_0_is_a_shift(window):
    """v_leak = v_reset = -0.5: the same layer with V_th - v_leak for V_th."""
    window(0.8)
    compare(box(0.6, 0.5, v_leak=-0.5), 0.6, 1.0, 0.8, seed=1)


@pytest.mark.parametrize("seed", range(3))
def test_lif_whose_current_lasts_one_step_is_ours(window, seed):
    decay, v_th = [0.9, 0.35, 0.6][seed], [0.7, 1.0, 0.45][seed]
    window(0.8)
    compare(lif(decay, v_th), decay, v_th, 0.8, seed=seed)


# --- Norse's own surrogates: those that are members of the family, with the arguments for which they are ------------------


@pytest.mark.parametrize("alpha", [0.8, 2.5])
def test_tanh_is_our_sigmoid_of_peak_1(alpha):
    compare(
        box(0.6, 0.75, method="tanh", alpha=alpha), 0.6, 0.75, 2 / alpha, name="sigmoid", surrogate_scale="1", seed=2
    )


def test_triangle_of_height_1_is_our_triangular_of_width_1():
    compare(box(0.6, 0.75, method="triangle", alpha=1.0), 0.6, 0.75, 1.0, name="triangular", seed=3)


def test_erfc_with_alpha_2_is_our_gaussian():
    """To float32 only: Norse takes the square root of a float32 pi."""
    cell = box(0.6, 0.75, method="heavi_erfc", alpha=2.0)
    compare(cell, 0.6, 0.75, np.sqrt(np.pi) / 2, name="gaussian", seed=4, tolerance=2e-7)


# --- what cannot be expressed -------------------------------------------------------------------------------------------


def test_super_ignores_alpha_and_is_our_fast_sigmoid_of_peak_1_and_kappa_2():
    found = []
    for alpha in (1.0, 100.0):
        z = torch.linspace(-2, 2, 41, dtype=torch.float64, requires_grad=True)
        norse_box.threshold(z, "super", torch.tensor(alpha)).sum().backward()
        found.append(z.grad.numpy())
    assert np.array_equal(*found)
    np.testing.assert_allclose(found[0], (1 + np.abs(z.detach().numpy())) ** -2.0, rtol=1e-15)
    h = agl.surrogate.derivative(z.detach().numpy(), 2.0, "fast_sigmoid", agl.Conventions(surrogate_scale="1"))
    np.testing.assert_allclose(h, found[0], rtol=1e-15)


def test_a_soft_reset_with_a_leak_potential_is_another_neuron(window):
    """It subtracts V_th where the shifted potential would need V_th - v_leak."""
    window(0.8)
    c = replace(agl.PRESETS["norse"], reset="soft", fixed_width=0.8)
    x, ds = frameworks.inputs(1, 0.6, c, 1.0)
    s, _ = theirs(box(0.6, 0.5, "soft", v_leak=-0.5), x, ds)
    assert (s != frameworks.ours(x, ds, 0.6, 1.0, c).s).mean() > 0.01


def test_a_current_that_lasts_longer_is_another_neuron(window):
    window(0.8)
    c = replace(agl.PRESETS["norse"], fixed_width=0.8)
    x, ds = frameworks.inputs(5, 0.6, c, 0.5)
    p = norse.LIFParameters(tau_syn_inv=number(1.0), tau_mem_inv=number(0.8), v_th=number(0.5))
    s, _ = theirs(norse.LIFCell(p, dt=0.5), x, ds)
    assert (s != frameworks.ours(x, ds, 0.6, 0.5, c).s).mean() > 0.05


def test_other_conventions_are_told_apart():
    c = replace(agl.PRESETS["norse"], fixed_width=0.8)
    x, ds = frameworks.inputs(5, 0.6, c, 0.5)
    right = frameworks.ours(x, ds, 0.6, 0.5, c)
    for change in {"reset": "soft"}, {"reset_gradient": "detached"}, {"input_scale": "1"}, {"surrogate_scale": "1"}:
        assert frameworks.differs(right, frameworks.ours(x, ds, 0.6, 0.5, replace(c, **change))), change
    x, ds = frameworks.inputs(5, 0.5, c, 0.5, dyadic=True)
    c = replace(c, fixed_width=1.0)
    right = frameworks.ours(x, ds, 0.5, 0.5, c)
    assert frameworks.differs(right, frameworks.ours(x, ds, 0.5, 0.5, replace(c, spike_test=">=")))
