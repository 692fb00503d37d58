"""Figures of notebook 7: what rounding does, why bounds and no tolerance, where the first wrong number is, three verdicts."""

import numpy as np
from matplotlib.patches import Rectangle

from agl_ref.conventions import Conventions
from agl_ref.oracle import compare, load_case
from agl_ref.oracle.mutants.summation import ORDERS
from agl_ref.oracle.mutants.table import mutants
from agl_ref.oracle.mutants.variants import variant
from agl_ref.oracle.problems import problem_of

from .registry import BLUE, GREY, INK, MAP, ORANGE, VERMILION, figure, panels

UNIT = 2.0**-24  # unit roundoff of float32
CASES = ("lif-realistic", "plif-realistic", "tdbn-training", "tdbn-many-rows", "conv-realistic", "linear-realistic")
HIGHEST = 1e7  # error over bound at which a scatter ends


def random_terms(n=4096, seed=0):
    """n float32 numbers whose sum is small beside the sum of their magnitudes, (n,)."""
    return np.random.default_rng(seed).normal(0, 1, n).astype(np.float32)


def errors_of_orders(terms, orders=2000, seed=1):
    """Errors of float32 sums of the same terms, one after the other, in random orders: (orders,) in units of u."""
    rng = np.random.default_rng(seed)
    exact = terms.astype(np.float64).sum()
    shuffled = rng.permuted(np.broadcast_to(terms, (orders, len(terms))), axis=1)
    total = np.zeros(orders, np.float32)
    for column in shuffled.T:
        total += column
    return (total - exact) / UNIT


@figure
def sums_in_any_order(n=4096, orders=2000):
    """Errors of one sum in many orders, beside the two bounds of `agl_ref.oracle.bounds.tolerance`."""
    terms = random_terms(n)
    errors = np.abs(errors_of_orders(terms, orders))
    magnitude = np.abs(terms.astype(np.float64)).sum()
    worst, likely = (n - 1) * magnitude, 3 * np.sqrt(n - 1) * magnitude
    fig, ax = panels(8, 3.6)
    ax.hist(np.maximum(errors, 1.0), bins=np.logspace(0, np.log10(worst) + 1, 70), color=BLUE)
    ax.set_xscale("log")
    top = ax.get_ylim()[1]
    ax.axvline(likely, color=ORANGE)
    ax.axvline(worst, color=VERMILION)
    ax.text(likely / 1.2, top * 0.97, r"$3\sqrt{n-1}\,\sum|x_i|$", color=INK, ha="right", va="top")
    ax.text(worst * 1.2, top * 0.97, r"$(n-1)\,\sum|x_i|$", color=INK, ha="left", va="top")
    ax.set(xlim=(1, 200 * worst), xlabel="|error| of the sum, in units of $u = 2^{-24}$", ylabel="orders",
           title=f"one sum of {n} terms, {orders} orders, all of them right")  # fmt: skip
    return fig


def implementations_judged(cases=CASES):
    """Right implementations in every order of summation, and every mutant, judged on golden cases.

    A list of (right, case, relative, over_bound): largest relative error of any element (atol = 0), and largest error over
    the bound, at most HIGHEST, as it is where values must be equal.
    """
    rows = []
    for case in map(load_case, cases):
        problem, conventions = problem_of(case), Conventions(**case.conventions)
        runs = [(True, problem.run(variant(order=order), conventions, np.float32)) for order in ORDERS]
        runs += [(False, mutant.dump(problem, conventions)) for mutant in mutants() if mutant.field != "axis_order"]
        for right, arrays in runs:
            if arrays is None or any(not np.isfinite(a).all() for a in arrays.values()):
                continue
            known = {name: a for name, a in arrays.items() if name in case.arrays}
            report = compare(case, known, dtype="float32", guess=False)
            over = min(HIGHEST, max(report.details["worst"].values()))
            if right or report.verdict == "FAIL":  # most mutants leave most cases as they are
                rows.append((right, case.id, max(relative_error(a, case.arrays[n]) for n, a in known.items()), over))
    return rows


def relative_error(received, expected):
    """Largest |received - expected| / |expected| of any element; elements that are equal count 0."""
    error, size = np.abs(received.astype(np.float64) - expected), np.abs(expected)
    return float(np.where(error > 0, error / np.maximum(size, 1e-300), 0.0).max(initial=0.0))


@figure
def tolerance_or_bound(rows=None, rtol=1e-3):
    """Right and wrong implementations: a relative tolerance does not separate them, the bound does."""
    rows = implementations_judged() if rows is None else rows
    fig, ax = panels(8, 5)
    for right, colour, marker, label in ((False, VERMILION, "x", "wrong"), (True, BLUE, "o", "right")):
        points = np.array([(row[2], min(row[3], HIGHEST)) for row in rows if row[0] == right])
        points = np.clip(points, 1e-7, None)
        points[:, 0] = np.minimum(points[:, 0], 1e3)
        ax.scatter(*points.T, s=45, color=colour, marker=marker, alpha=0.8)
        ax.text(0.02, 0.86 if not right else 0.04, f"{marker if marker == 'x' else '●'} {label}", transform=ax.transAxes,
                color=colour, fontweight="bold")  # fmt: skip
    ax.axhline(1, color=INK)
    ax.axvline(rtol, color=GREY, ls="--")
    ax.set(xscale="log", yscale="log", xlim=(5e-7, 2e3), ylim=(3e-3, 3 * HIGHEST),
           xlabel="largest relative error of an element", ylabel="largest error over its bound")  # fmt: skip
    ax.text(1.5e3, 0.7, "the oracle's line: error = bound", ha="right", va="top")
    ax.text(rtol * 0.9, HIGHEST, f"rtol = {rtol:g}", rotation=90, ha="right", va="top", color="#555555")
    return fig


@figure
def wrong_elements(case=None, theirs=None, names=("u", "s", "du")):
    """Which elements are off, array by array over neuron and timestep, with the first divergence framed.

    case is the Reference of a neuron with arrays (T, ...), theirs {name: array}; names are drawn in the order of
    computation. By default a float32 implementation that fires above the threshold only, on `lif-grid`.
    """
    if case is None:
        case = load_case("lif-grid")
        theirs = problem_of(case).run(conventions=Conventions(spike_test=">"), dtype=np.float32)
    report = compare(case, {name: theirs[name] for name in names}, dtype="float32")
    first = report.first_divergence
    T = case.meta["T"]
    n = case.arrays[names[0]][0].size
    fig, axes = panels(8, 1.2 + len(names) * (0.4 + 0.22 * T), len(names), 1, sharex=True)
    for ax, name in zip(np.ravel(axes), names, strict=True):
        error = np.abs(np.asarray(theirs[name], np.float64) - case.arrays[name])
        off = (error > case.bounds[name] * UNIT).reshape(T, n)
        ax.pcolormesh(np.where(off, 1.0, 0.0), **MAP)
        ax.set(ylabel="$t$", yticks=np.arange(T) + 0.5, yticklabels=np.arange(1, T + 1))
        ax.invert_yaxis()
        ax.set_title(f"{name}: {off.sum()} of {off.size} off")
        if first and first["name"] == name:
            t, *rest = first["index"]
            i = int(np.ravel_multi_index(rest, case.arrays[name].shape[1:]))
            ax.add_patch(Rectangle((i, t), 1, 1, fill=False, edgecolor=INK, linewidth=3, zorder=5))
            ax.annotate("first divergence", (i + 1, t + 0.5), (min(i + 7, n - 8), t + 0.5), va="center", color=INK,
                        bbox={"color": "white", "pad": 1}, arrowprops={"arrowstyle": "->", "color": INK})  # fmt: skip
    ax.set_xlabel("neuron (samples one after the other)")
    return fig


@figure
def three_verdicts(v_th=0.5, bound=1.5 * UNIT):
    """One neuron's potential near the threshold, what rounding can make of it, and the verdict on a flipped spike."""
    rows = [
        ("the same spike", 6.0, 6.8, "PASS", BLUE, BLUE),
        ("another spike, far from $V_{th}$", 6.0, -2.5, "FAIL", VERMILION, VERMILION),
        ("another spike, near $V_{th}$", 0.5, -0.5, "AMBIGUOUS", ORANGE, "#9C6500"),
    ]
    fig, ax = panels(8, 3.8)
    for k, (text, at, received, verdict, colour, dark) in enumerate(rows):
        y = len(rows) - k
        ax.plot([at - 1.5, at + 1.5], [y, y], lw=12, color="#D0D0D0", solid_capstyle="butt", zorder=1)
        ax.plot(at, y, "o", ms=10, color=INK, zorder=3)
        ax.plot(received, y, "D", ms=9, color=colour, zorder=3)
        ax.text(-10.5, y, text, va="center")
        ax.text(11.4, y, verdict, va="center", ha="right", color=dark, weight="bold")
    ax.axvline(0, color=INK, lw=1.5)
    ax.text(0, 3.65, f"$V_{{th}} = {v_th}$", ha="center", va="bottom")
    ax.set(xlim=(-10.7, 11.5), ylim=(0.3, 3.65), yticks=[], xticks=[-3, 0, 3, 6],
           xlabel=r"$u - V_{th}$, in units of $2^{-24}$")  # fmt: skip
    ax.spines["left"].set_visible(False)
    ax.set_title("● expected   ◆ received   grey: what rounding can do to $u$", pad=24)
    return fig
