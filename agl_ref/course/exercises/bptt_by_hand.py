"""Notebook 3, backpropagation through time by hand: the reset, the loop backwards, the leak's gradient, and its proof."""

import numpy as np

from .definition import Edge, exercise
from .fresh_inputs import current, forward_pass, lively, number, on_all_sides, potentials, until
from .neuron import bptt, lif, previous, v_before


def _draw_reset(rng):
    for N in (8, 12):
        yield *rng.normal(0, 1, (2, N)), *potentials(rng, N)
    yield Edge("no neuron fired", (*rng.normal(0, 1, (2, 3)), -rng.random(3), np.zeros(3)))


# what multiplies dv in B1, and dv in B2, where people make mistakes
_THROUGH = {
    "u is missing from the term through the reset": {"through": lambda u, s: 1.0},
    "the term through the reset has s in place of u": {"through": lambda u, s: s},
    "the term through the reset has v, the potential after the reset, in place of u": {
        "through": lambda u, s: u * (1 - s)
    },
}
_DIRECT = {"the direct path is open where the neuron fired and closed where it did not": {"keep": lambda s: s}}


@exercise(points=2, draw=_draw_reset, outputs="ds_total du_direct", places={
    "where the neuron fires": lambda ds, dv, u, s: s == 1,
    "where the neuron does not fire": lambda ds, dv, u, s: s == 0,
}, mistakes={
    "the term through the reset is added; v = u (1 - s) makes it negative": {"through": lambda u, s: -u},
    "the term through the reset is missing from ds_total: that is the detached gradient": {"through": lambda u, s: 0.0},
    **_THROUGH,
    "the reset does not stop the direct path: 1 - s is missing from du_direct": {"keep": lambda s: 1.0},
    **_DIRECT,
    "ds is left out of ds_total": lambda ds, dv, u, s: (-u * dv, dv * (1 - s)),
    **{f"u is compared with {v_th:g} in du_direct: who fired stands in s":
       lambda ds, dv, u, s, v_th=v_th: (ds - u * dv, dv * (u < v_th)) for v_th in (0.0, 0.5, 1.0)},
    "the two results are returned in the other order": lambda ds, dv, u, s: (dv * (1 - s), ds - u * dv),
}, hints=(
    "v = u (1 - s) depends on two things. What is dv/ds, and what is dv/du with s held?",
    "dv/ds = -u and dv/du = 1 - s. The spike reaches the loss directly as well: that is ds.",
    "The first result is ds plus (-u) times dv, the second dv times (1 - s).",
))  # fmt: skip
def reset_backward(ds, dv, u, s, *, through=lambda u, s: u, keep=lambda s: 1 - s):
    """B1 and the first term of B2: ds_total = ds - u dv, du_direct = dv (1 - s)."""
    return ds - through(u, s) * dv, dv * keep(s)


def _draw_backward(rng):
    def good(ds, u, s, decay, v_th, width):
        z = np.abs(u - v_th) < width[:, None] / 2
        return (
            lively(s)
            and on_all_sides(u, v_th, width)
            and (z & (s == 0)).any()
            and (z & (s == 1)).any()
            and z[:-1].any()
        )

    for T, N in ((5, 8), (4, 6)):
        yield until(good, forward_pass, rng, T, N, 0.4, 0.8)
    u, s = lif(np.array([[0.25, 0.5], [0.875, 0.125], [0.5, 1.0]]), 0.5, 0.5)  # u_2 = 1 in the first, u_3 = 1.0625 ...
    ds = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 2.0]])
    yield Edge("a potential exactly at the window's edge", (ds, u, s, 0.5, 0.5, np.array([0.5, 1.0, 1.0])))
    yield Edge("T = 1", (rng.normal(0, 1, (1, 4)), np.array([[0.2, 0.6, 0.9, -1.0]]), np.array([[0.0, 1.0, 1.0, 0.0]]), 0.5,
                         0.5, np.array([1.25])))  # fmt: skip
    yield Edge("one neuron", (ds[:, :1], u[:, :1], s[:, :1], 0.5, 0.5, np.array([0.75, 1.25, 1.5])))
    u = np.array([[0.25, 0.5], [0.5, 0.75], [0.5, 0.5]])
    yield Edge("spikes of a forward pass that tests u > V_th", (ds, u, (u > 0.5) * 1.0, 0.5, 0.5, np.ones(3)))


_WHERE = {
    "where the neuron fires, inside the window":
        lambda ds, u, s, decay, v_th, width: (s == 1) & (np.abs(u - v_th) < width[:, None] / 2),
    "inside the window": lambda ds, u, s, decay, v_th, width: np.abs(u - v_th) < width[:, None] / 2,
    "outside the window": lambda ds, u, s, decay, v_th, width: np.abs(u - v_th) >= width[:, None] / 2,
    "where the neuron fires": lambda ds, u, s, *_: s == 1,
    "where the neuron does not fire": lambda ds, u, s, *_: s == 0,
}  # fmt: skip

_COMMON = {
    "time runs forwards in the backward pass": {"forwards": True},
    "the carry is not multiplied by decay": {"leak": 1.0},
    "nothing is carried from t to t - 1": {"carry": "none"},
    "only the part through the spike is carried; dv is decay times all of du": {"carry": "ds"},
    "the reset does not stop the direct path: 1 - s is missing": {"keep": lambda s: 1.0},
    **_DIRECT,
    "the window reaches kappa to each side and not kappa/2": {"half": 1.0},
    "1/kappa is missing from the window": {"height": 1.0},
    "the edge belongs to the window, <= and not <": {"inside": np.less_equal},
    "V_th is forgotten: the window sits around 0": {"centre": 0.0},
    "the width of the first timestep is used at every t": {"widths": lambda width: np.full_like(width, width[0])},
    "the width of the last timestep is used at every t": {"widths": lambda width: np.full_like(width, width[-1])},
    "the widths run against time: t uses the width of T - t + 1": {"widths": lambda width: width[::-1]},
    "the spikes are computed again from u: they are given, whatever the forward pass tested": {"again": True},
}


@exercise(points=5, draw=_draw_backward, outputs="dx", time="dx", places=_WHERE, backwards=True, mistakes={
    "the reset is detached: the term - u dv is missing from ds_total": {"through": lambda u, s: 0.0},
    "the term through the reset has a plus sign": {"through": lambda u, s: -u},
    **_THROUGH,
    "the direct path through v = u (1 - s) is missing": {"keep": lambda s: 0 * s},
    "the reset is treated as a soft one, with V_th in place of u":
        lambda ds, u, s, decay, v_th, width: lif_backward(ds, u, s, decay, v_th, width, through=lambda u, s: v_th),
    **_COMMON,
}, hints=(
    "Let t run from the last timestep to the first. Which number comes in from the future, and what is it at the end?",
    "It is dv, zeros of shape (N,) at first. A turn: the window h at t, ds_total (B1), dx[t] (B2), then dv for t - 1 (B5).",
    "dx[t] has two parts: dv through (1 - s[t]), and ds_total through h, made of u[t], v_th, width[t]. Then dv is tau dx[t].",
))  # fmt: skip
def lif_backward(ds, u, s, decay, v_th, width, **parts):
    """B1, B2, B3, B5: ds_total = ds - u dv; dx = du = dv (1 - s) + ds_total h(u); dv_{t-1} = tau du."""
    return bptt(ds, u, s, decay, v_th, width, **parts)[0]


@exercise(points=3, draw=_draw_backward, outputs="dx", time="dx", places=_WHERE, backwards=True, mistakes={
    "the reset is attached: detached means that ds_total is ds alone": lif_backward,
    "the term through the reset is there with a plus sign; detached means that it is left out": {"through": lambda u, s: -u},
    **_COMMON,
}, hints=(
    "Copy your lif_backward. Which of its lines is the edge from s to v?",
    "The line of ds_total. Without that edge the spike gets ds[t] and nothing else.",
    "In dx[t] put ds[t] in the place of ds_total. Everything else stays.",
))  # fmt: skip
def lif_backward_detached(ds, u, s, decay, v_th, width, *, through=lambda u, s: 0.0, **parts):
    """As lif_backward, with ds_total = ds."""
    return bptt(ds, u, s, decay, v_th, width, through, **parts)[0]


def _draw_decay_gradient(rng):
    for T, N in ((5, 6), (4, 5)):
        v_th = number(rng, 0.6, 1.4)
        u, s = until(lambda u, s: lively(s), lambda T=T, N=N, v_th=v_th: lif(current(rng, T, N, v_th), 0.6, v_th))
        yield rng.normal(0, 1, (T, N)), u, s
    yield Edge("T = 1, where nothing has leaked yet", (rng.normal(0, 1, (1, 4)), np.array([[0.2, 0.6, 0.9, -1.0]]),
                                                       np.array([[0.0, 1.0, 1.0, 0.0]])))  # fmt: skip
    yield Edge(
        "one neuron", (rng.normal(0, 1, (3, 1)), np.array([[0.4], [0.6], [0.3]]), np.array([[0.0], [1.0], [0.0]]))
    )


@exercise(points=2, draw=_draw_decay_gradient, outputs="ddecay", mistakes={
    "v_t is used: the leak multiplies v_{t-1}": {"leaked": lambda u, s: u * (1 - s)},
    "u_{t-1} is used: the leak multiplies the potential after the reset": {"leaked": lambda u, s: previous(u)},
    "u_t is used: the leak multiplies v_{t-1}": {"leaked": lambda u, s: u},
    "v is shifted the wrong way, to v_{t+1}": {"leaked": lambda u, s: previous((u * (1 - s))[::-1])[::-1]},
    "s_{t-1} is used in place of v_{t-1}": {"leaked": lambda u, s: previous(s)},
    "the mean is taken over all entries; the gradient of one shared number is a sum":
        lambda du, u, s: decay_gradient(du, u, s) / du.size,
    "the mean is taken over the neurons; the gradient of one shared number is a sum":
        lambda du, u, s: decay_gradient(du, u, s) / du.shape[1],
    "the mean is taken over the timesteps; the gradient of one shared number is a sum":
        lambda du, u, s: decay_gradient(du, u, s) / len(du),
    "the mean is taken over the T - 1 timesteps that have one before them; the gradient of one shared number is a sum":
        lambda du, u, s: decay_gradient(du, u, s) / max(len(du) - 1, 1),
    "the mean is taken over the entries from t = 2 on; the gradient of one shared number is a sum":
        lambda du, u, s: decay_gradient(du, u, s) / max(du[1:].size, 1),
    "v wraps around: at t = 1 it is v_T, where v_0 = 0 belongs (np.roll does that)":
        {"leaked": lambda u, s: np.roll(u * (1 - s), 1, axis=0)},
    "v_{t-1} alone is summed, du is missing": lambda du, u, s: v_before(u, s).sum(),
    "v is taken where the neuron fired, u s in place of u (1 - s)": {"leaked": lambda u, s: previous(u * s)},
}, hints=(
    "The leak multiplies v_{t-1} at timestep t. So which row of v does row t of du meet?",
    "v is u (1 - s). The first row of du has no partner, since v_0 = 0, and neither has the last row of v.",
    "Two slices: du without its first row, v without its last. Multiply them and add everything up.",
))  # fmt: skip
def decay_gradient(du, u, s, *, leaked=v_before):
    """B4: sum_t du_t v_{t-1}, v = u (1 - s), v_0 = 0."""
    return float((du * leaked(u, s)).sum())


def _smooth(rng, shape):
    """A smooth scalar function of an array, all of whose entries play together."""
    a, b = rng.normal(0, 1, (2, *shape))

    def f(x):
        if np.shape(x) != shape:
            raise ValueError(f"f: expected an array of shape {shape}, received {np.shape(x)}")
        return float((a * np.sin(x)).sum() + (b * x).sum() ** 2 + np.exp(0.3 * x).sum())

    return f


def _draw_central(rng):
    for shape in ((4,), (3,)):
        yield _smooth(rng, shape), rng.normal(0, 1, shape), number(rng, 0.005, 0.02)
    yield Edge("an x with two axes", (_smooth(rng, (2, 3)), rng.normal(0, 1, (2, 3)), 0.01))
    yield Edge("an x of one entry", (_smooth(rng, (1,)), rng.normal(0, 1, 1), 0.01))


@exercise(points=3, draw=_draw_central, outputs="gradient", tolerance=1e-7, mistakes={
    "the difference is taken forwards, f(x + h) - f(x): a central one goes h to each side": {"down": 0.0},
    "the difference is taken backwards, f(x) - f(x - h): a central one goes h to each side": {"up": 0.0},
    "the division is by h: the two points are 2 h apart": lambda f, x, h: 2 * central_difference(f, x, h),
    "the division by 2 h is missing": lambda f, x, h: 2 * h * central_difference(f, x, h),
    "all entries move at once: each needs a difference of its own": {"each": False},
    "an entry is not put back before the next one is moved": {"restore": False},
    "each point is only h/2 away": lambda f, x, h: central_difference(f, x, h / 2),
    "the difference is taken forwards and divided by 2 h": lambda f, x, h: central_difference(f, x, h, down=0.0) / 2,
}, hints=(
    "Move one entry at a time, once by h up and once by h down, and see what f does.",
    "np.ndindex(x.shape) gives every index. A step is zeros with h at that index, so that x itself stays as it is.",
    "An entry of the gradient: f at x + step minus f at x - step, divided by their distance, which is 2 h.",
))  # fmt: skip
def central_difference(f, x, h, *, up=1.0, down=1.0, restore=True, each=True):
    """(f(x + up h e_i) - f(x - down h e_i)) / ((up + down) h) for every entry i."""
    gradient, moved = np.zeros(x.shape), x.copy()
    for i in np.ndindex(x.shape):
        entry = i if each else ...
        if restore:
            moved = x.copy()
        moved[entry] += up * h
        above = f(moved)
        moved[entry] -= (up + down) * h
        gradient[i] = (above - f(moved)) / ((up + down) * h)
    return gradient


def _draw_plif(rng):
    for low in (-2.5, 0.6):
        yield number(rng, 0.5, 3.0), number(rng, low, low + 1.5)
    yield Edge("w = 0, where tau is 1/2", (-1.5, 0.0))


@exercise(points=1, draw=_draw_plif, outputs="dw", mistakes={
    "the factor 1 - tau is missing from the sigmoid's derivative": {"slope": lambda tau: tau},
    "the factor tau is missing from the sigmoid's derivative": {"slope": lambda tau: 1 - tau},
    "the sigmoid's derivative is missing: dw is not ddecay": {"slope": lambda tau: 1.0},
    "w (1 - w) is used: the sigmoid's derivative is tau (1 - tau) with tau = sigmoid(w)":
        lambda ddecay, w: ddecay * w * (1 - w),
    "1 - tau is taken for sigmoid(w), which makes the gradient negative": {"slope": lambda tau: -tau * (1 - tau)},
    "ddecay is left out": lambda ddecay, w: plif_gradient(1.0, w),
    "the square of tau is used in place of tau (1 - tau)": {"slope": lambda tau: tau**2},
    "ddecay is divided by tau (1 - tau) and not multiplied": {"slope": lambda tau: 1 / (tau * (1 - tau))},
}, hints=(
    "The chain rule: dL/dw is ddecay times the sigmoid's derivative at w.",
    "That derivative is tau (1 - tau), with tau = sigmoid(w). Compute tau from w first.",
    "With exp(-w) you have tau; then multiply three numbers: ddecay, tau, and 1 minus tau.",
))  # fmt: skip
def plif_gradient(ddecay, w, *, slope=lambda tau: tau * (1 - tau)):
    """B6: dw = ddecay tau (1 - tau), tau = sigmoid(w)."""
    return float(ddecay * slope(1 / (1 + np.exp(-w))))
