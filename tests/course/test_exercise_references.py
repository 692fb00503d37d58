"""The exercises' references against the library, the naive twins, and numbers worked out by hand; their inputs can fail."""

import math
from functools import partial

import numpy as np
import pytest
from twins import naive

import agl_ref as agl
from agl_ref.course.exercises import find
from agl_ref.engine.neuron import dw_from_ddecay
from agl_ref.engine.ops import derivative, primitive

C = agl.MPD_AGL
STUDENTS = ("", "ada", 7)


def samples(name):
    """All argument tuples of an exercise, of three students."""
    return [arguments for student in STUDENTS for _, arguments in find(name).inputs(student)]


def agrees(name, *others):
    """The reference agrees with each other implementation on all samples."""
    for arguments in samples(name):
        expected = find(name).reference(*arguments)
        for other in others:
            got = other(*arguments)
            pairs = zip(expected, got, strict=True) if isinstance(expected, tuple) else [(expected, got)]
            for a, b in pairs:
                np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def each(function):
    """A naive function of one number, over arrays."""
    return lambda *arrays: np.vectorize(function, otypes=[float])(*arrays)


# --- one neuron -----------------------------------------------------------------------------------


def test_one_step_of_a_neuron():
    agrees("leak", each(lambda v, x, decay: naive.drive(v, x, decay, C)))
    agrees("fires", each(lambda u, v_th: naive.fires(u, v_th, C)))
    agrees("hard_reset", each(lambda u, s: naive.after_reset(u, s, 0.5, C)))
    soft = agl.conventions.Conventions(reset="soft")
    agrees("soft_reset", each(lambda u, s, v_th: naive.after_reset(u, s, v_th, soft)))


def test_the_neuron_over_time():
    def library(x, decay, v_th):
        s, cache = agl.lif_forward(x, decay, v_th)
        return cache.u, s

    agrees("lif_forward", library, partial(naive.lif_forward, c=C))
    u, s = find("lif_forward").reference(np.array([[0.25], [0.5], [0.5]]), 0.5, 0.5)  # the README's neuron
    assert u.ravel().tolist() == [0.25, 0.625, 0.5] and s.ravel().tolist() == [0, 1, 1]


# --- why a surrogate ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["rectangular", "triangular"])
def test_windows(name):
    twin = each(lambda z, width: naive.surrogate_derivative(z, width, name, C))
    agrees(name, twin, lambda z, width: derivative(z, width, name))


def test_windows_by_hand():
    z = np.array([-1.0, -0.5, 0.0, 0.5, 1.0, 1.5])
    assert find("rectangular").reference(z, 2.0).tolist() == [0, 0.5, 0.5, 0.5, 0, 0]
    assert find("triangular").reference(z, 2.0).tolist() == [0.25, 0.375, 0.5, 0.375, 0.25, 0.125]
    assert find("relaxed_spike").reference(z, 2.0).tolist() == [0, 0.25, 0.5, 0.75, 1, 1]


def test_the_smooth_step_and_a_step_through_it():
    agrees("relaxed_spike", each(lambda z, k: naive.surrogate_primitive(z, k, "rectangular", C)), primitive)
    agrees("one_step_backward", lambda ds, u, v_th, width: ds * derivative(u - v_th, width),
           lambda ds, u, v_th, width: agl.lif_backward(ds[None], _cache(u[None], (u[None] >= v_th) * 1.0, 0.2, v_th),
                                                       np.array([width]))[0][0])  # fmt: skip


# --- backpropagation through time by hand ---------------------------------------------------------


def _cache(u, s, decay, v_th, **conventions):
    _, cache = agl.lif_forward(np.zeros_like(u), decay, v_th, agl.conventions.Conventions(**conventions))
    return cache._replace(u=u, s=s)


@pytest.mark.parametrize(("name", "gradient"), [("lif_backward", "attached"), ("lif_backward_detached", "detached")])
def test_bptt(name, gradient):
    conventions = agl.conventions.Conventions(reset_gradient=gradient)

    def library(ds, u, s, decay, v_th, width):
        return agl.lif_backward(ds, _cache(u, s, decay, v_th, reset_gradient=gradient), width)[0]

    def twin(ds, u, s, decay, v_th, width):
        return naive.lif_backward(ds, 0 * u, u, s, decay, v_th, width, conventions)[0]

    agrees(name, library, twin)


def test_one_step_through_the_reset_by_hand():
    ds_total, du = find("reset_backward").reference(*map(np.array, ([3.0, 3.0], [2.0, 2.0], [0.25, 1.5], [0.0, 1.0])))
    assert ds_total.tolist() == [2.5, 0.0] and du.tolist() == [2.0, 0.0]


def test_one_step_through_the_reset_is_the_derivative_of_it():
    """v = u (1 - s) with u and s as two variables: central differences of ds s + dv v, which is bilinear."""
    for ds, dv, u, s in samples("reset_backward"):
        h = 0.5
        loss = lambda u, s: ds * s + dv * (u * (1 - s))  # noqa: E731, B023
        ds_total, du = find("reset_backward").reference(ds, dv, u, s)
        np.testing.assert_allclose(ds_total, (loss(u, s + h) - loss(u, s - h)) / (2 * h), atol=1e-12)
        np.testing.assert_allclose(du, (loss(u + h, s) - loss(u - h, s)) / (2 * h), atol=1e-12)


def test_the_leak_s_gradient_is_that_of_the_backward_pass():
    for ds, u, s, decay, v_th, width in samples("lif_backward"):
        dx, ddecay = agl.lif_backward(ds, _cache(u, s, decay, v_th), width)
        _, twin, _ = naive.lif_backward(ds, 0 * u, u, s, decay, v_th, width, C)
        assert find("decay_gradient").reference(dx, u, s) == pytest.approx(ddecay, abs=1e-12)
        assert twin == pytest.approx(ddecay, abs=1e-12)
    du, u, s = np.array([[8.0], [2.0], [4.0]]), np.array([[0.25], [1.0], [0.5]]), np.array([[0.0], [1.0], [0.0]])
    assert find("decay_gradient").reference(du, u, s) == 2 * 0.25 + 4 * 0.0


def test_central_differences_of_functions_whose_gradient_is_known():
    reference = find("central_difference").reference
    x = np.array([[0.5, -1.0], [2.0, 0.25]])
    np.testing.assert_allclose(
        reference(lambda x: float((x**2).sum()), x, 0.125), 2 * x, rtol=1e-14
    )  # exact for squares
    np.testing.assert_allclose(reference(lambda x: float(np.sin(x).sum()), x, 1e-5), np.cos(x), rtol=1e-9)


def test_plif():
    agrees("plif_gradient", lambda ddecay, w: naive.plif_dw(ddecay, w, C),
           lambda ddecay, w: dw_from_ddecay(ddecay, agl.neuron.decay_from_w(w)))  # fmt: skip


# --- the membrane potential -----------------------------------------------------------------------


def test_tdbn():
    agrees("tdbn_forward", lambda *a: agl.tdbn_forward(*a)[0],
           lambda x, gamma, beta, v_th: naive.tdbn_forward(x, gamma, beta, v_th, 1.0, 1e-5, C))  # fmt: skip


def test_tdbn_backward():
    def library(dy, x, gamma, v_th):
        return agl.tdbn_backward(dy, agl.tdbn_forward(x, gamma, 0 * gamma, v_th)[1])

    for dy, x, gamma, v_th in samples("tdbn_backward"):
        twin = naive.tdbn_backward(dy, x, gamma, v_th, 1.0, 1e-5, C)
        expected = find("tdbn_backward").reference(dy, x, gamma, v_th)
        for a, b, c in zip(expected, library(dy, x, gamma, v_th), twin, strict=True):
            scale = np.abs(a).max()
            np.testing.assert_allclose(b, a, atol=1e-12 * scale)
            np.testing.assert_allclose(c, a, atol=1e-12 * scale)


def test_the_spread_without_a_reset():
    agrees("no_reset_std", lambda sigma, decay, t: agl.theory.no_reset(0.0, sigma, decay, 0.5, t).std[-1])
    assert find("no_reset_std").reference(2.0, 0.5, 2) == pytest.approx(2 * math.sqrt(1.25))


# --- the adaptive width ---------------------------------------------------------------------------


def test_the_adaptive_width():
    agrees("adaptive_width", agl.adaptive_width, partial(naive.width_rule, rule="adaptive"))
    assert find("adaptive_width").reference(np.array([1.5, 0.5]), 0.5, 0.75, 3).tolist() == [1.0, 1.25, 1.25]


def test_coverage_is_the_theory_s():
    agrees("coverage", lambda mu, std, v_th, width:
           agl.theory.theorem1(mu, std, 0.0, v_th, 1).coverage(np.array([width]))[0])  # fmt: skip
    assert find("coverage").reference(0.0, 0.5, 0.5, 1.0) == pytest.approx(
        0.477250, abs=5e-7
    )  # published in the README


def test_the_window_for_a_share_has_that_share():
    for mu, std, v_th, share in samples("width_for_coverage"):
        kappa = find("width_for_coverage").reference(mu, std, v_th, share)
        assert find("coverage").reference(mu, std, v_th, kappa) == pytest.approx(share, abs=1e-12)


# --- a convolutional network ----------------------------------------------------------------------


def test_convolution():
    agrees("conv2d_forward", lambda x, w: agl.conv2d_forward(x, w, padding=1)[0],
           lambda x, w: naive.conv2d_forward(x, w, None, 1, 1))  # fmt: skip

    def dweight(dy, x):
        weight = np.zeros((3, 3, x.shape[3], dy.shape[3]))
        return agl.conv2d_backward(dy, agl.conv2d_forward(x, weight, padding=1)[1])[1]

    def dx(dy, weight):
        x = np.zeros((*dy.shape[:3], weight.shape[2]))
        return agl.conv2d_backward(dy, agl.conv2d_forward(x, weight, padding=1)[1])[0]

    def twin(dy, weight):
        return naive.conv2d_backward(dy, np.zeros((*dy.shape[:3], weight.shape[2])), weight, 1, 1)[0]

    agrees("conv2d_backward_weight", dweight,
           lambda dy, x: naive.conv2d_backward(dy, x, np.zeros((3, 3, x.shape[3], dy.shape[3])), 1, 1)[1])  # fmt: skip
    agrees("conv2d_backward_input", dx, twin)


def test_cross_entropy():
    agrees("cross_entropy_of_mean", lambda z, labels: agl.cross_entropy_forward(z, labels)[0],
           lambda z, labels: naive.cross_entropy(z, labels, C)[0])  # fmt: skip
    agrees("cross_entropy_gradient", lambda z, labels: agl.cross_entropy_backward(agl.cross_entropy_forward(z, labels)[1]),
           lambda z, labels: naive.cross_entropy(z, labels, C)[1])  # fmt: skip


def test_a_step_of_sgd():
    def library(parameter, gradient, velocity, lr, momentum):
        parameter = parameter.copy()
        optimiser = agl.optim.SGD({"p": parameter}, lr, momentum)
        optimiser.state["momentum.p"][...] = velocity
        optimiser.step({"p": gradient})
        return parameter, optimiser.state["momentum.p"]

    agrees("sgd_momentum_step", library)
    p, v = find("sgd_momentum_step").reference(np.array([1.0]), np.array([2.0]), np.array([4.0]), 0.25, 0.5)
    assert (p.item(), v.item()) == (0.0, 4.0)


# --- your own network -----------------------------------------------------------------------------


def test_stride_2_is_a_convolution_with_a_kernel_of_one_place():
    def engine(dy, H, W):
        _, cache = agl.conv2d_forward(np.zeros((len(dy), H, W, dy.shape[3])), np.eye(dy.shape[3])[None, None], stride=2)
        return agl.conv2d_backward(dy, cache)[0]

    def twin(dy, H, W):
        return naive.conv2d_backward(dy, np.zeros((len(dy), H, W, dy.shape[3])), np.eye(dy.shape[3])[None, None], 2, 0)[
            0
        ]

    agrees("stride_backward", engine, twin)
    dx = find("stride_backward").reference(np.array([[[[1.0]], [[2.0]]]]), 3, 1)
    assert dx.ravel().tolist() == [1, 0, 2]


def test_the_readout_is_a_convolution_on_one_pixel():
    def engine(dy, x, weight):
        return agl.linear_backward(dy, agl.linear_forward(x, weight)[1])[:2]

    def twin(dy, x, weight):
        dx, dweight, _ = naive.conv2d_backward(dy[..., None, None, :], x[..., None, None, :], weight[None, None], 1, 0)
        return dx[..., 0, 0, :], dweight[0, 0]

    agrees("linear_backward", engine, twin)


# --- the inputs can fail --------------------------------------------------------------------------


def ordinary(name):
    return [arguments for student in range(20) for why, arguments in find(name).inputs(student) if why is None]


def test_neurons_fire_reset_and_lie_inside_and_outside_the_window():
    for x, decay, v_th in ordinary("lif_forward"):
        u, s = find("lif_forward").reference(x, decay, v_th)
        assert 0.2 < s.mean() < 0.8 and s[:-1].any() and (u < 0).any()
    for name in ("lif_backward", "lif_backward_detached"):
        for _, u, s, _, v_th, width in ordinary(name):
            inside = np.abs(u - v_th) < width[:, None] / 2
            assert s[:-1].any() and 0.2 < s.mean() < 0.8
            assert inside.any() and not inside.all() and (inside & (s == 1)).any() and (inside & (s == 0)).any()
            assert len(set(width)) == len(width)
    for ds, u, v_th, width in ordinary("one_step_backward"):
        inside = np.abs(u - v_th) < width / 2
        assert inside.any() and not inside.all() and ds.all()


def test_edges_are_exactly_on_the_edge():
    by_why = {name: dict(find(name).inputs("")) for name in ("fires", "lif_forward", "rectangular", "lif_backward")}
    u, v_th = by_why["fires"]["a potential exactly at the threshold"]
    assert (u == v_th).any()
    x, decay, v_th = by_why["lif_forward"]["a potential exactly at the threshold"]
    assert (find("lif_forward").reference(x, decay, v_th)[0] == v_th).any()
    z, width = by_why["rectangular"]["z exactly at the window's edges, width/2 from 0"]
    assert (np.abs(z) == width / 2).sum() == 2
    _, u, _, _, v_th, width = by_why["lif_backward"]["a potential exactly at the window's edge"]
    assert (np.abs(u - v_th) == width[:, None] / 2).any()
