"""Figures of notebook 6: a convolutional network on real images; windows, depth and what training makes of them."""

from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np

from agl_ref import data
from agl_ref.conventions import Conventions
from agl_ref.engine import optim, parallel
from agl_ref.engine.network import Network
from agl_ref.engine.ops import conv2d_forward
from agl_ref.engine.parts import LIF

from .adaptive_width import layer_factor
from .membrane_potential import blocks_in_a_row
from .registry import COLOURS, GREY, INK, PALETTE, beside, figure, panels

T, DTYPE = 2, np.float32
WINDOWS = {"adaptive": ("adaptive", 1.0), "1": ("fixed", 1.0), "0.2": ("fixed", 0.2), "5": ("fixed", 5.0)}
LOOK = {
    "adaptive": {"color": COLOURS["adaptive"], "marker": "o", "ms": 10},  # larger: width 1 often lies on it
    "1": {"color": COLOURS["fixed"], "marker": "s"},
    "0.2": {"color": PALETTE[3], "marker": "^"},
    "5": {"color": PALETTE[2], "marker": "D"},
}


class Images(NamedTuple):
    """Inputs, such as standardised images shown at both timesteps, (T, N, 28, 28, 1) float32, with labels (N,)."""

    x: np.ndarray
    labels: np.ndarray


class Run(NamedTuple):
    """A trained network: its loss by step, and for each test image whether it was right."""

    net: Network
    losses: np.ndarray
    right: np.ndarray


@cache
def fashion(n_train=800, n_test=1000):
    """Bundled images for training and testing: two Images."""
    dataset = data.load("bundled").subset(n_train, n_test)
    mean, std = data.channel_statistics(dataset.x_train)
    parts = ((dataset.x_train, dataset.y_train), (dataset.x_test, dataset.y_test))
    return tuple(Images(data.encode(data.standardise(x, mean, std, DTYPE), T=T), y) for x, y in parts)


def chain(depth, window="adaptive", v_th=0.5, seed=0, norm_shift="beta"):
    """A network of `depth` spiking blocks of 16 channels, the first two at stride 2, then a readout.

    window : a key of WINDOWS, the adaptive rule or a fixed width. norm_shift : whether tdBN's shift counts in units of v_th.
    """
    rule, width = WINDOWS[window]
    conventions = Conventions(width=rule, fixed_width=width, norm_shift=norm_shift)
    return blocks_in_a_row(depth, 2, lambda i: [seed, i], lambda: LIF(v_th=v_th), dtype=DTYPE, conventions=conventions)


def fit(net, train, test, epochs=3, batch=40, lr=0.1, seed=0):
    """Train in place by SGD with momentum 0.9; a Run."""
    optimiser = optim.SGD(net.parameters(), lr=lr, momentum=0.9, weight_decay=5e-4)
    return descend(net, optimiser, train, test, epochs, batch, seed)


def descend(net, optimiser, train, test, epochs, batch, seed):
    """Train in place, the optimiser's learning rate on a cosine to 0; a Run."""
    order = [index for epoch in range(epochs) for index in data.batches(len(train.labels), batch, seed, epoch)]
    lr, losses = optimiser.lr, []
    with parallel.at_most(1):  # for layers this small a second thread costs more to wake than it does
        for step, index in enumerate(order):
            optimiser.lr = optim.cosine(lr, step, len(order))
            result = net.loss_and_grads(train.x[:, index], train.labels[index], input_gradient=False)
            net.update_running_statistics(result.trace)
            optimiser.step(result.grads)
            losses.append(result.loss)
        logits = net.predict(test.x)
    return Run(net, np.array(losses), logits.mean(axis=0).argmax(axis=1) == test.labels)


SHALLOW, DEEP = 3, 8


@cache
def run(depth, window="adaptive"):
    """The Run of `chain` with these arguments on the images of `fashion`. Seconds; kept."""
    return fit(chain(depth, window), *fashion())


SWEPT, THRESHOLDS = 5, (1 / 32, 1 / 8, 1 / 2, 32.0)  # layers and V_th of the threshold sweep
SWEEP = {  # its settings: the window, tdBN's shift, thresholds
    "width 1": ("1", "beta", THRESHOLDS),
    "adaptive": ("adaptive", "beta", THRESHOLDS),
    "adaptive, shift in units of V_th": ("adaptive", "beta V_th", (THRESHOLDS[0], THRESHOLDS[-1])),  # two will do
}


def sweep(seeds=range(4)):
    """{(setting, V_th): which test images are right (seeds, n)} of networks of SWEPT layers, trained for two epochs."""
    swept = {}
    for setting, (window, norm_shift, thresholds) in SWEEP.items():
        for v_th in thresholds:
            runs = [
                fit(chain(SWEPT, window, v_th, seed, norm_shift), *fashion(), epochs=2, seed=seed) for seed in seeds
            ]
            swept[setting, v_th] = np.array([run.right for run in runs])
    return swept


def few_images():
    """The first hundred of the training images."""
    train, _ = fashion()
    return Images(train.x[:, :100], train.labels[:100])


def by_depth(net, images):
    """What each layer sees in one training pass on these images: (coverage, gradient norm), each (layers,).

    Coverage is the share of neurons with |u_t - V_th| < kappa_t / 2, the norm that of dx, both over all timesteps.
    """
    record = {}
    trace = net.loss_and_grads(images.x, images.labels, record=record, input_gradient=False).trace
    shape = (-1, *(1,) * 4)
    covered = [(np.abs(c.u - c.neuron.v_th) < c.width.reshape(shape) / 2).mean() for _, c in trace.items()]
    return np.array(covered), np.array([np.linalg.norm(record[f"{name}.dx"]) for name in trace.names()])


def standard_error(right):
    """Of the share of True in an array (n,): sqrt(p (1 - p) / n)."""
    p = right.mean()
    return np.sqrt(p * (1 - p) / len(right))


def paired_difference(right, other):
    """(difference of two accuracies on the same images, its standard error)."""
    difference = right.astype(float) - other
    return difference.mean(), difference.std() / np.sqrt(len(difference))


def name_of(window):
    """How figures call a window: adaptive, or width 5."""
    return window if window == "adaptive" else f"width {window}"


KERNELS = {
    "identity": [[0, 0, 0], [0, 1, 0], [0, 0, 0]],
    "mean of 9": [[1 / 9] * 3] * 3,
    "left edges": [[-1, 0, 1]] * 3,
    "top edges": [[-1] * 3, [0] * 3, [1] * 3],
}


@figure
def kernels_on_an_image(image=None, kernels=None):
    """One image, cross-correlated with some 3x3 kernels; zeros around it.

    image : ndarray (H, W). kernels : {name: 3x3}
    """
    image = data.load("bundled").x_train[0, :, :, 0] / 255 if image is None else image
    kernels = KERNELS if kernels is None else kernels
    fig, axes = panels(11, 3.4, 1, len(kernels))
    for ax, (name, kernel) in zip(np.ravel(axes), kernels.items(), strict=True):
        weight = np.array(kernel, DTYPE)[:, :, None, None]
        y, _ = conv2d_forward(image[None, None, :, :, None].astype(DTYPE), weight, padding=1)
        limit = np.abs(y).max()
        ax.imshow(y[0, 0, :, :, 0], cmap="PuOr", vmin=-limit, vmax=limit)
        ax.set(title=name, xticks=[], yticks=[])
    return fig


@figure
def layers_by_depth(measured=None, predicted=True):
    """Coverage and gradient norm by layer for four windows; dots measured, lines as Theorem 1 has it. No dot: norm 0.

    measured : {window: (coverage, norm), each (layers,)}, by default of untrained networks. predicted : draw the lines,
    which hold for gamma = 1.
    """
    if measured is None:
        measured = {window: by_depth(chain(DEEP, window), few_images()) for window in WINDOWS}
    fig, (left, right) = panels(10.5, 4.6, 1, 2, grid="both")
    for window, (covered, norms) in measured.items():
        norms = np.where(norms > 0, norms, np.nan)  # a logarithm has no place for 0
        layers = np.arange(1, len(norms) + 1)
        style = {**LOOK[window], "ls": "" if predicted else "-"}
        left.plot(layers, 100 * covered, **style, label=name_of(window))
        right.plot(layers, norms, **style)
        if predicted:
            factor = layer_factor(1.0)[0] if window == "adaptive" else layer_factor(1.0, width=float(window))[1]
            line = norms[-1] * factor ** (layers[-1] - layers)
            right.plot(layers, line, color=LOOK[window]["color"], lw=1.5)
    left.set(ylabel="neurons inside the window (%)", ylim=(-4, 108))
    right.set(ylabel="norm of the gradient dx", yscale="log")
    for ax in (left, right):
        ax.set_xticks(layers)
        ax.set(xlabel="layer (1 is next to the image)")
    fig.legend(loc="outside upper center", ncols=len(measured))
    return fig


@figure
def layers_after_training():
    """`layers_by_depth` of the trained networks."""
    trained = {window: by_depth(run(DEEP, window).net, few_images()) for window in WINDOWS}
    return layers_by_depth(trained, predicted=False)


def _smooth(losses, over=6):
    """Means of `over` consecutive steps, and where they lie."""
    n = len(losses) // over * over
    return np.arange(over / 2, n, over), losses[:n].reshape(-1, over).mean(axis=1)


def _spread_labels(values, gap):
    """Offsets in points that keep labels at heights `values` (points) at least `gap` apart."""
    order, placed = np.argsort(values), np.array(values, float)
    for before, after in zip(order, order[1:], strict=False):
        placed[after] = max(placed[after], placed[before] + gap)
    return placed - values


def _draw_losses(ax, curves, points):
    """Smoothed losses of {label: (losses, look)} by training step; the axis has `points` of height to a unit of loss."""
    ends = np.array([_smooth(losses)[1][-1] for losses, _ in curves.values()])
    for (label, (losses, look)), dy in zip(curves.items(), _spread_labels(ends * points, 17), strict=True):
        at, values = _smooth(losses)
        ax.plot(at, values, **look)
        beside(ax, label, (at[-1], values[-1]), (8, dy - 4), color=look["color"])
    steps = len(losses)
    ax.set(xlabel="training step", xlim=(0, 1.62 * steps), xticks=np.arange(0, steps + 1, max(1, steps // 3)))
    ax.grid(alpha=0.3)


@figure
def training_curves(runs=None):
    """Training loss by step of four windows, in a shallow and in a deep network, on one axis each.

    runs : {(depth, window): Run}
    """
    runs = {(d, w): run(d, w) for d in (SHALLOW, DEEP) for w in WINDOWS} if runs is None else runs
    depths = sorted({depth for depth, _ in runs})
    fig, axes = panels(11, 4.8, 1, len(depths), sharey=True)
    for ax, depth in zip(np.ravel(axes), depths, strict=True):
        here = {window: result for (d, window), result in runs.items() if d == depth}
        curves = {f"{name_of(w)}: {r.right.mean():.0%}": (r.losses, LOOK[w]) for w, r in here.items()}
        _draw_losses(ax, curves, 105)  # an axis of 2.6 is about 270 points high
        steps = len(next(iter(here.values())).losses)
        ax.plot([0, steps], [np.log(10)] * 2, color=GREY, lw=1.5, ls=":")
        ax.set(title=f"{depth} layers (right: test accuracy)", ylim=(0, 2.7))
    fig.axes[0].text(0.5, np.log(10) + 0.06, "guessing", color="#666666")
    fig.axes[0].set_ylabel("training loss")
    return fig


@figure
def accuracies(runs=None):
    """Test accuracy of each run, with one standard error to each side.

    runs : {(depth, window): Run}
    """
    runs = {(d, w): run(d, w) for d in (SHALLOW, DEEP) for w in WINDOWS} if runs is None else runs
    depths = sorted({depth for depth, _ in runs})
    fig, ax = panels(8, 4.2, grid="y")
    names = list(dict.fromkeys(window for _, window in runs))
    for k, depth in enumerate(depths):
        look = {"marker": "oD"[k], "ms": 8, "ls": "", "mfc": (None, "white")[k]}
        ax.plot([], [], color=INK, **look, label=f"{depth} layers")  # for the legend
        for i, window in enumerate(names):
            right = runs[depth, window].right
            y, error = 100 * right.mean(), 100 * standard_error(right)
            ax.errorbar(i + 0.2 * k - 0.1, y, error, color=LOOK[window]["color"], capsize=5, **look)
    ax.axhline(10, color=GREY, lw=1.5, ls=":")
    beside(ax, "guessing", (len(names) - 0.6, 10), (0, 5), color="#666666", ha="right")
    ax.set_xticks(range(len(names)), [name_of(window) for window in names])
    ax.set(ylabel="test accuracy (%)", ylim=(0, 100), xlim=(-0.4, len(names) - 0.6))
    ax.legend(loc="upper right", ncols=2)
    return fig


@figure
def threshold_sweep(swept=None, covered=None):
    """Coverage before training, and test accuracy, by threshold: a line through the means, a dot per seed.

    swept : what `sweep` returns. covered : {(window, v_th): share}
    """
    swept = sweep() if swept is None else swept
    if covered is None:
        each = [(window, v_th) for window in ("1", "adaptive") for v_th in THRESHOLDS]
        covered = {key: by_depth(chain(SWEPT, *key), few_images())[0].mean() for key in each}
    fig, (left, right) = panels(10.5, 4.6, 1, 2, grid="both")
    for window in dict.fromkeys(window for window, _ in covered):
        at = [v_th for w, v_th in covered if w == window]
        left.plot(at, [100 * covered[window, v_th] for v_th in at], **LOOK[window])
    for k, setting in enumerate(dict.fromkeys(setting for setting, _ in swept)):
        window, norm_shift, _ = SWEEP[setting]
        look = LOOK[window] if norm_shift == "beta" else {"color": INK, "marker": "D"}
        at = np.array([v_th for s, v_th in swept if s == setting])
        seeds = 100 * np.array([swept[setting, v_th].mean(axis=1) for v_th in at])
        places = at * 1.3 ** (k - 1)  # side by side
        right.plot(places, seeds, **{**look, "ms": 6, "ls": ""}, alpha=0.6)
        right.plot(places, seeds.mean(axis=1), color=look["color"], lw=1.5)
        right.plot([], [], **look, label=setting.replace("V_th", "$V_{th}$"))
    right.axhline(10, color=GREY, lw=1.5, ls=":")
    beside(right, "guessing", (THRESHOLDS[-1], 10), (0, 5), color="#666666", ha="right")
    left.set(ylabel="neurons inside the window (%)", ylim=(-4, 104), title=f"{SWEPT} layers, before training")
    right.set(ylabel="test accuracy (%)", ylim=(0, 100), title="after training, a dot per seed")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="threshold $V_{th}$")
        ax.set_xticks(THRESHOLDS, [str(Fraction(v_th)) for v_th in THRESHOLDS])
        ax.minorticks_off()
    fig.legend(loc="outside upper center", ncols=len(SWEEP))
    return fig


@figure
def spikes_inside(net=None, images=None, channels=6):
    """One image and the spikes of some channels in each layer of a shallow network, at the last timestep.

    net : Network. images : Images, of which the first is shown
    """
    net = run(SHALLOW).net if net is None else net
    images = fashion()[1] if images is None else images
    trace = net.forward(images.x[:, :1], training=False)
    fig, axes = panels(11, 1.75 * len(trace.names()) + 0.2, len(trace.names()), channels + 1)
    axes[0, 0].imshow(images.x[0, 0, :, :, 0], cmap="gray")
    axes[0, 0].set(title="image")
    for row, (name, layer) in zip(axes, trace.items(), strict=True):
        for c, ax in enumerate(row[1:]):
            ax.imshow(layer.s[-1, 0, :, :, c], cmap="gray_r", vmin=0, vmax=1)
        size = layer.s.shape[2]
        row[1].set_ylabel(name)
        row[1].set_title(f"{size}x{size}, {layer.s[-1, 0].mean():.0%} fire")
    for ax in axes.ravel():
        ax.set(xticks=[], yticks=[])
    for ax in axes[1:, 0]:
        ax.remove()
    return fig
