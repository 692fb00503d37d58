"""Figures of notebook 3: the graph over time, gradients with and without the reset's path, differences that check them."""

from pathlib import Path

import numpy as np
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.figure import Figure

from agl_ref.conventions import Conventions
from agl_ref.course.exercises.neuron import bptt
from agl_ref.engine.ops import lif_backward, lif_forward

from .one_neuron import HAND_X
from .registry import COLOURS, GREY, INK, PALETTE, VERMILION, beside, figure, panels, style

HAND = {"decay": 0.5, "v_th": 0.5}
RULES = {True: Conventions(), False: Conventions(reset_gradient="detached")}  # by "attached"


def hand_gradients(attached=True):
    """All that the backward pass of the neuron by hand meets, L = s_1 + s_2 + s_3 and kappa = 1.

    Returns a dict of arrays (3,): u, s, h, ds_total, du, dv. dx is du, computed by the library; the rest follows from it.
    """
    width = np.ones(3)
    s, cache = lif_forward(HAND_X, **HAND)
    dx, _ = lif_backward(np.ones_like(s), cache, width, RULES[attached])
    u, s, du = cache.u[:, 0], s[:, 0], dx[:, 0]
    dv = np.append(HAND["decay"] * du[1:], 0.0)
    ds_total = 1.0 - u * dv if attached else np.ones(3)
    h = (np.abs(u - HAND["v_th"]) < 0.5).astype(float)
    return {"u": u, "s": s, "h": h, "ds_total": ds_total, "du": du, "dv": dv}


def local_derivatives(attached=True):
    """{(from, to): derivative} of every edge of the graph for the neuron by hand, nodes as "u1"; L is the sum of spikes."""
    g = hand_gradients(attached)
    edges = {}
    for t in (1, 2, 3):
        u, s, h = (float(g[name][t - 1]) for name in "ush")
        edges |= {(f"x{t}", f"u{t}"): 1.0, (f"u{t}", f"s{t}"): h, (f"s{t}", "L"): 1.0, (f"u{t}", f"v{t}"): 1.0 - s}
        if attached:
            edges[f"s{t}", f"v{t}"] = -u
        if t < 3:
            edges[f"v{t}", f"u{t + 1}"] = HAND["decay"]
    return edges


_AT = {"x": (0.0, 0.0), "u": (0.0, 1.25), "s": (0.0, 2.5), "v": (1.5, 1.25)}  # a node's place in its timestep
_SYMBOLS = {("x", "u"): "1", ("u", "s"): "$h_{t}$", ("s", "v"): "$-u_{t}$", ("u", "v"): "$1-s_{t}$", ("v", "u"): r"$\tau$",
            ("s", "L"): "$ds_{t}$"}  # fmt: skip


def _place(node):
    if node == "L":
        return 3.0, 3.75
    x, y = _AT[node[0]]
    return x + 3.0 * (int(node[1]) - 1), y


def _gradient_of(node, g):
    """The gradient that belongs to a node of the graph."""
    if node == "L":
        return 1.0
    return g[{"x": "du", "u": "du", "s": "ds_total", "v": "dv"}[node[0]]][int(node[1]) - 1]


def _draw_edge(ax, edge, value, numbers, used=False):
    (x0, y0), (x1, y1) = map(_place, edge)
    kinds = edge[0][0], edge[1][0]
    through_reset = kinds == ("s", "v")
    colour = VERMILION if through_reset else (GREY if numbers and value == 0 else INK)
    width = 2.0 if through_reset else 1.5
    if used:  # the gradient goes against the arrow
        ax.plot((x0, x1), (y0, y1), color=COLOURS["gradient"], lw=9, alpha=0.35, solid_capstyle="butt", zorder=0)
    ax.annotate("", (x1, y1), (x0, y0), arrowprops={"arrowstyle": "-|>", "color": colour, "lw": width,
                                                    "shrinkA": 17, "shrinkB": 17})  # fmt: skip
    text = f"{value:g}" if numbers else _SYMBOLS[kinds].replace("{t}", f"{{{edge[0][1]}}}")
    side = {
        ("x", "u"): (6, 0, "left", "center"),
        ("u", "s"): (-6, 0, "right", "center"),
        ("s", "v"): (7, 2, "left", "bottom"),
    }
    dx, dy, ha, va = side.get(kinds, (0, 5, "center", "bottom"))
    if kinds == ("s", "L"):
        dx, dy, ha, va = {"1": (-8, 4, "right", "bottom"), "2": (6, 0, "left", "center")}.get(
            edge[0][1], (8, 4, "left", "bottom")
        )
    beside(ax, text, ((x0 + x1) / 2, (y0 + y1) / 2), (dx, dy), ha=ha, va=va, color=colour)


@figure
def time_graph(numbers=False, attached=True):
    """The forward pass of one neuron, T = 3, as a graph; on each edge its local derivative, as a symbol or a number.

    With numbers, each node carries the gradient of L = s_1 + s_2 + s_3 with respect to it.
    """
    fig, ax = panels(10, 5.6)
    edges = local_derivatives(attached)
    _draw_graph(ax, attached, numbers, {node for edge in edges for node in edge if numbers and node != "L"})
    if numbers:
        ax.set_title(f"reset {'attached' if attached else 'detached'}: edges carry derivatives, green is dL/d(node)")
    return fig


def _draw_graph(ax, attached, numbers, known, used=()):
    """The graph, with the gradients of the nodes in `known`; the edges in `used` are marked."""
    g, edges = hand_gradients(attached), local_derivatives(attached)
    for edge, value in edges.items():
        _draw_edge(ax, edge, value, numbers, edge in used)
    for node in sorted({node for edge in edges for node in edge}):
        x, y = _place(node)
        colour = COLOURS.get(node[0], INK) if node[0] != "x" else "#666666"
        ax.plot(x, y, "o", ms=30, mfc="white", mec=colour, mew=2)
        ax.text(
            x, y, "L" if node == "L" else f"${node[0]}_{node[1]}$", ha="center", va="center", color=colour, fontsize=14
        )
        if node in known:
            below, sideways = (-19, "right") if node[0] in "us" else (0, "center")
            text, offset = f"{_gradient_of(node, g):.10g}", (below, -27 if node[0] in "xv" else -12)
            beside(ax, text, (x, y), offset, ha=sideways, color=COLOURS["gradient"], va="center", weight="bold")
    ax.set(xlim=(-1.3, 8.3), ylim=(-0.6, 4.15))
    ax.set_axis_off()


def backward_steps():
    """The backward pass of the neuron by hand, t = 3 to 1: list of (text with its equation, node, edges).

    A step computes the gradient of its node from what comes back along its edges; the first and the last compute none.
    """
    g, steps = hand_gradients(), [("After t = 3 nothing follows:  $dv_3 = 0$", "v3", ())]
    for t in (3, 2, 1):
        u, s, h, ds_total, du, dv = (f"{g[name][t - 1]:.10g}" for name in ("u", "s", "h", "ds_total", "du", "dv"))
        steps += [
            (rf"(B1)  $ds^{{total}}_{t} = ds_{t} - u_{t} \cdot dv_{t} = 1 - {u} \cdot {dv} = {ds_total}$", f"s{t}",
             ((f"s{t}", "L"), (f"s{t}", f"v{t}"))),
            (rf"(B2)  $du_{t} = dv_{t} \cdot (1 - s_{t}) + ds^{{total}}_{t} \cdot h_{t}"
             rf" = {dv} \cdot (1 - {s}) + {ds_total} \cdot {h} = {du}$", f"u{t}",
             ((f"u{t}", f"v{t}"), (f"u{t}", f"s{t}"))),
            (rf"(B3)  $dx_{t} = du_{t} = {du}$", f"x{t}", ((f"x{t}", f"u{t}"),)),
        ]  # fmt: skip
        if t > 1:
            before = f"{g['dv'][t - 2]:.10g}"
            steps.append((rf"(B5)  $dv_{t - 1} = \tau \cdot du_{t} = {HAND['decay']:g} \cdot {du} = {before}$",
                          f"v{t - 1}", ((f"v{t - 1}", f"u{t}"),)))  # fmt: skip
    return [*steps, (f"$dL/dx = ({', '.join(f'{value:.10g}' for value in g['du'])})$", None, ())]


def save_animation(path, seconds=2.5):
    """Write the backward pass, a picture per step, as a film: path ends in .gif, or in .mp4, which needs ffmpeg."""
    film = {".gif": PillowWriter, ".mp4": FFMpegWriter}.get(Path(path).suffix)
    if film is None:
        raise ValueError(f"{path}: expected a name that ends in .gif or .mp4, received another; rename it")
    if not film.isAvailable():
        raise ValueError("animation: expected the program ffmpeg, received none; install it, or write a .gif")
    # ten pictures a second, the same ones: players do badly with one every few seconds
    smooth = {"extra_args": ["-r", "10", "-pix_fmt", "yuv420p"]} if film is FFMpegWriter else {}
    writer, known = film(fps=1 / seconds, **smooth), set()
    with style():
        fig = Figure(figsize=(10, 6.2))
        with writer.saving(fig, path, dpi=80):
            for text, node, used in backward_steps():
                fig.clear()
                known.add(node)
                _draw_graph(fig.add_axes((0, 0.1, 1, 0.9)), True, True, known, used)
                fig.text(0.5, 0.06, text, ha="center", fontsize=19, color=INK if node else COLOURS["gradient"])
                writer.grab_frame()


@figure
def time_graph_in_numbers(attached=True):
    """The graph with the derivatives' values on its edges and the gradients at its nodes."""
    return time_graph(numbers=True, attached=attached)


@figure
def reset_on_off(seed=0):
    """dL/dx with the path through the reset and without: the neuron by hand, and 1000 random neurons."""
    fig, (left, right) = panels(10, 4.4, 1, 2)
    t = np.arange(1, 4)
    for k, (attached, label) in enumerate(((True, "attached"), (False, "detached"))):
        du = hand_gradients(attached)["du"]
        bars = left.bar(
            t + 0.4 * k - 0.2, du, 0.36, color=PALETTE[k], hatch="//" if k else "", edgecolor="white", label=label
        )
        left.bar_label(bars, [f"{value:.4g}" for value in du], padding=2)
    left.set(title="the neuron by hand", xlabel="timestep t", ylabel="$dL/dx_t$", xticks=t, ylim=(0, 2.0))
    left.legend(ncols=2, loc="upper right")
    attached, detached = reset_pairs(seed)
    right.axline((0, 0), slope=1, color=GREY, lw=1)
    right.axhline(0, color=GREY, lw=1)
    right.axvline(0, color=GREY, lw=1)
    right.plot(attached.ravel(), detached.ravel(), ".", ms=3, color=COLOURS["gradient"], alpha=0.5, rasterized=True)
    right.set(title="1000 neurons, 10 timesteps each", xlabel="attached", ylabel="detached")
    return fig


def reset_pairs(seed=0, T=10, N=1000):
    """(attached, detached) gradients dx (T, N) of random neurons with random ds, from one forward pass."""
    rng = np.random.default_rng(seed)
    s, cache = lif_forward(rng.normal(0.2, 0.5, (T, N)), **HAND)
    ds = rng.normal(0, 1, (T, N))
    return tuple(lif_backward(ds, cache, np.ones(T), RULES[attached])[0] for attached in (True, False))


def difference_quotient(f, x, h):
    """(f(x + h e_i) - f(x - h e_i)) / (2 h) for every entry i of x; of x's shape."""
    gradient = np.empty_like(x)
    for i in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[i] = h
        gradient[i] = (f(x + step) - f(x - step)) / (2 * h)
    return gradient


def spike_sum(x, relaxed_width=None):
    """L = sum of all s_t of the neuron by hand at input x (3, 1), spiking or relaxed."""
    return float(lif_forward(x, **HAND, relaxed_width=relaxed_width)[0].sum())


@figure
def quotients(steps=None):
    """Left: difference quotients of the spiking neuron. Right: the relaxed neuron's, minus the backward pass."""
    steps = np.logspace(-12, -0.5, 47) if steps is None else steps
    width = np.ones(3)
    _, cache = lif_forward(HAND_X, **HAND, relaxed_width=width)
    exact, _ = lif_backward(np.ones((3, 1)), cache, width)
    spiking = np.array([difference_quotient(spike_sum, HAND_X, h)[:, 0] for h in steps])
    errors = [np.abs(difference_quotient(lambda x: spike_sum(x, width), HAND_X, h) - exact).max() for h in steps]
    fig, (left, right) = panels(10, 4.4, 1, 2)
    for i, marker in enumerate("osD"):
        left.plot(steps, spiking[:, i], marker=marker, ms=4, lw=1, color=PALETTE[i], label=f"$x_{i + 1}$")
    left.set(xscale="log", title="spiking", xlabel="h", ylabel="difference quotient")
    left.set_yscale("symlog", linthresh=1.0)
    left.set_yticks([0, 1e3, 1e6, 1e9, 1e12])
    left.set_ylim(bottom=-0.7)
    left.legend()
    right.loglog(steps, np.maximum(errors, 1e-17), "o-", ms=4, lw=1, color=COLOURS["gradient"])
    right.set(title="relaxed", xlabel="h", ylabel="|quotient - backward pass|")
    return fig


def kink_errors(seed=0, samples=2000, T=4, h=1e-3):
    """(distance of the nearest potential from a kink, largest error of the quotient), each (samples,), relaxed neurons."""
    rng = np.random.default_rng(seed)
    x, ds, width = rng.normal(0.3, 0.5, (T, samples)), rng.normal(0, 1, (T, samples)), np.ones(T)

    def losses(x):
        return (ds * lif_forward(x, **HAND, relaxed_width=width)[0]).sum(axis=0)

    _, cache = lif_forward(x, **HAND, relaxed_width=width)
    exact, _ = lif_backward(ds, cache, width)
    quotient = np.empty_like(x)
    for t in range(T):  # every neuron at once: they do not talk to each other
        step = h * (np.arange(T) == t)[:, None]
        quotient[t] = (losses(x + step) - losses(x - step)) / (2 * h)
    kinks = np.abs(np.abs(cache.u - HAND["v_th"]) - width[:, None] / 2)
    return kinks.min(axis=0), np.abs(quotient - exact).max(axis=0)


@figure
def near_kinks(seed=0, h=1e-3):
    """Error of the difference quotient against the distance to the nearest kink of the relaxed spike."""
    distance, error = kink_errors(seed, h=h)
    fig, ax = panels(8, 4.4)
    ax.loglog(distance, np.maximum(error, 1e-16), ".", color=COLOURS["gradient"], ms=4)
    ax.axvline(h, color=INK, lw=1.5, ls="--")
    beside(ax, f"h = {h:g}", (h, 1), (-5, 0), ha="right")
    ax.set(xlabel="distance of the nearest potential from a kink", ylabel="|quotient - backward pass|")
    return fig


def wrong_gradients(x=HAND_X, decay=0.5, v_th=0.5, width=(1.0, 1.0, 1.0)):
    """{mistake: dL/dx (T,)} of one neuron, L the number of its spikes; by default the neuron by hand, x (T, 1).

    Each mistake exchanges a line of the loop, or a value that it reads. The neuron by hand shows the first seven of them; the
    last five need widths other than 1, a potential on the window's edge, and a leak that is not the threshold.
    """
    width = np.asarray(width, float)
    mistakes = {
        "none": {},
        "the reset is detached": {"through": lambda u, s: 0 * u},
        "plus in place of minus at the reset": {"through": lambda u, s: -u},
        "v_t in place of u_t at the reset": {"through": lambda u, s: u * (1 - s)},
        "1 - s_t is missing": {"keep": lambda s: 1.0},
        "s_t in place of 1 - s_t": {"keep": lambda s: s},
        "tau is missing": {"leak": 1.0},
        "nothing is carried": {"leak": 0.0},
        "1 / kappa is missing": {"height": 1.0},
        "the window reaches kappa": {"half": 1.0},
        "kappa of t = 1 throughout": {"widths": lambda width: width[:1].repeat(len(width))},
        "<= at the window's edge": {"inside": np.less_equal},
        "tau and V_th are swapped": {"leak": v_th, "centre": decay},
    }
    s, cache = lif_forward(x, decay, v_th)
    return {text: bptt(np.ones(s.shape), cache.u, s, decay, v_th, width, **parts)[0][:, 0]
            for text, parts in mistakes.items()}  # fmt: skip
