"""Exam questions with other numbers for every seed, their answers and a marking scheme: `agl-ref course exam`."""

import numpy as np

import agl_ref as agl

from .exercises.definition import seed_of
from .exercises.fresh_inputs import until

HALF = 0.5  # tau and V_th of the questions on one neuron


def _list(values):
    return ", ".join(f"{value:.9g}" for value in np.ravel(values))


def _neuron(x, ds, **conventions):
    """(u, s, v, du, dtau) of one neuron with tau = V_th = 1/2 and kappa = 1."""
    conventions = agl.Conventions(**conventions)
    s, cache = agl.lif_forward(x[:, None], decay=HALF, v_th=HALF, conventions=conventions)
    du, dtau = agl.lif_backward(ds[:, None], cache, np.ones(len(x)), conventions=conventions)[:2]
    return cache.u.ravel(), s.ravel(), cache.v.ravel(), du.ravel(), float(dtau)


def _forward(rng):
    """A potential is exactly at the threshold before the last timestep, and the carried potential shows it."""

    def good(x):
        u, s = _neuron(x, 0 * x)[:2]
        return (u[:-1] == HALF).any() and 0 < s.sum() < 3 and len({*x}) > 1

    (x,) = until(good, lambda: (rng.integers(1, 7, 3) / 8,))
    u, s, v = _neuron(x, 0 * x)[:3]
    silent, late = _neuron(x, 0 * x, spike_test=">")[:2]
    return (
        f"Forward by hand. tau = 1/2, V_th = 1/2, hard reset, x = ({_list(x)}). Give u, s and v. "
        "What are u and s under u > V_th?",
        f"u = ({_list(u)}), s = ({_list(s)}), v = ({_list(v)}). Under >: u = ({_list(silent)}), s = ({_list(late)}).",
        {"u and v": 1, "s": 1, "u and s under >": 1},
    )


def _backward(rng):
    """All potentials lie inside the window; the reset's gradient and the leak's show."""

    def good(x, ds):
        u, s, _, du, dtau = _neuron(x, ds)
        detached = _neuron(x, ds, reset_gradient="detached")[3]
        return (np.abs(u - HALF) < HALF).all() and 0 < s.sum() < 3 and (du != detached).any() and dtau != 0 and du.all()

    x, ds = until(good, lambda: (rng.integers(1, 4, 3) / 4, rng.integers(-1, 3, 3) * 1.0))
    u, s, v, du, dtau = _neuron(x, ds)
    detached = _neuron(x, ds, reset_gradient="detached")[3]
    return (
        f"Backward by hand. tau = 1/2, V_th = 1/2, kappa_t = 1, hard reset, x = ({_list(x)}), ds = ({_list(ds)}). "
        "Give du_t for every t and dtau with the reset attached, then du_t with the reset detached.",
        f"u = ({_list(u)}), s = ({_list(s)}), v = ({_list(v)}), all inside the window. du = ({_list(du)}), "
        f"dtau = {dtau:.9g}; detached du = ({_list(detached)}).",
        {"forward, and who is inside the window": 1, "du_3": 1, "du_2": 1, "du_1": 2, "dtau": 1, "detached": 2},
    )


def _width(rng):
    """One gamma is negative; tau = 3/4 gives a root without a calculator."""
    gamma = rng.permutation(np.append(rng.integers(1, 5, 3), -1) / 2)
    v_th, T = float(rng.choice([0.5, 1.0, 2.0])), int(rng.integers(3, 5))
    kappa, wrong = (agl.adaptive_width(g, v_th, 0.75, T) for g in (gamma, np.abs(gamma)))
    return (
        f"The width. gamma = ({_list(gamma)}), V_th = {v_th:g}, tau = 3/4, T = {T}. Give kappa_t for every t. "
        "What would somebody get who takes the mean of |gamma|?",
        f"kappa = ({_list(kappa)}); with magnitudes ({_list(wrong)}).",
        {"kappa_1": 1, "kappa from t = 2 on": 1, "with magnitudes": 1},
    )


def _momentum(rng):
    parameter, gradient = float(rng.integers(1, 5)), float(rng.integers(1, 4))
    momentum = float(rng.choice([0.5, 0.8, 0.9]))
    first, second = gradient, (1 + momentum) * gradient
    after = parameter - 0.1 * first
    return (
        f"Momentum. PyTorch's convention, learning rate 0.1, momentum {momentum:g}, parameter {parameter:g}, velocity 0, "
        f"gradient {gradient:g} twice. Give the velocity and the parameter after each step.",
        f"Velocity {first:g}, then {second:g}; parameter {after:g}, then {after - 0.1 * second:g}.",
        {"first step": 1, "second step": 1},
    )


def exam(seed, answers=False):
    """An exam as Markdown: questions with numbers of this seed, with `answers` also the answers and who earns which points.

    The numbers need no calculator: multiples of powers of two, and tenths in the last question.
    """
    lines, total = [], 0
    for k, question in enumerate((_forward, _backward, _width, _momentum), start=1):
        text, answer, scheme = question(np.random.default_rng(seed_of(question.__name__, seed)))
        total += sum(scheme.values())
        lines.append(f"**{k}.** ({sum(scheme.values())} points) {text}\n")
        if answers:
            lines.append(f"> {answer}\n>\n> Points: {', '.join(f'{part} {n}' for part, n in scheme.items())}.\n")
    return "\n".join([f"# Exam {seed}: {total} points\n", *lines])
