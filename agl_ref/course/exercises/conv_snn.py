"""Notebook 6, a convolutional network: convolution forward and backward, cross-entropy of the mean, a step of SGD."""

from functools import partial

import numpy as np
import scipy.special

from .definition import Edge, exercise
from .fresh_inputs import number

_IMAGES = ((2, 5, 4, 3, 2), (3, 4, 6, 2, 4))  # N, H, W, C_in, C_out
_PADDINGS = {
    "all padding is on the wrong side, in front of the image: one goes on each side": {"before": 2, "after": 0},
    "all padding is on the wrong side, behind the image: one goes on each side": {"before": 0, "after": 2},
}
_BORDERS = {
    "the border repeats the image's edge; padding is with zeros": {"mode": "edge"},
    "the image wraps around at the border (np.roll does that); padding is with zeros": {"mode": "wrap"},
}
_KERNELS = {
    "rows and columns of the kernel are exchanged": {"kernel": lambda w: w.swapaxes(0, 1)},
    "the kernel's rows are flipped": {"kernel": lambda w: w[::-1]},
    "the kernel's columns are flipped": {"kernel": lambda w: w[:, ::-1]},
}


def _views(x, before=1, after=1, mode="constant"):
    """The nine shifted views of the padded image, (3, 3, N, H, W, C)."""
    H, W = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), mode=mode)
    return np.array([[padded[:, i : i + H, j : j + W] for j in range(3)] for i in range(3)])


def _correlate(x, weight, **padding):
    """y[n, h, w] = sum over taps and channels of the padded x[n, h + i, w + j] weight[i, j]."""
    return np.einsum("ijnhwc,ijco->nhwo", _views(x, **padding), weight)


def _flipped(weight):
    return weight[::-1, ::-1]


def _draw_forward(rng):
    for N, H, W, C_in, C_out in _IMAGES:
        yield rng.normal(0, 1, (N, H, W, C_in)), rng.normal(0, 1, (3, 3, C_in, C_out))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 2)), rng.normal(0, 1, (3, 3, 2, 3))))
    yield Edge("one channel in and out", (rng.normal(0, 1, (1, 3, 3, 1)), rng.normal(0, 1, (3, 3, 1, 1))))


@exercise(points=4, draw=_draw_forward, outputs="y", border="y", mistakes={
    "the kernel is flipped: that is a convolution in the mathematical sense, here it is a cross-correlation":
        {"kernel": _flipped},
    **_KERNELS, **_PADDINGS, **_BORDERS,
    "only the kernel's middle tap is used": lambda x, w: x @ w[1, 1],
    "only the first input channel is used: the sum runs over all": lambda x, w: conv2d_forward(x[..., :1], w[:, :, :1]),
    "it is the mean over the nine taps; it is their sum": {"kernel": lambda w: w / 9},
}, hints=(
    "Pad rows and columns of x with one zero on each side. Then take nine views of the size of x, each shifted.",
    "The view of tap (i, j) begins at row i and column j of the padded image, and is H rows by W columns.",
    "Each view @ weight[i, j] is (N, H, W, C_out). Add up the nine.",
))  # fmt: skip
def conv2d_forward(x, weight, *, kernel=lambda w: w, **padding):
    """C1: y[n, h, w, o] = sum_{i, j, c} x_padded[n, h + i, w + j, c] weight[i, j, c, o]."""
    return _correlate(x, kernel(weight), **padding)


def _draw_backward_weight(rng):
    for N, H, W, C_in, C_out in _IMAGES:
        yield rng.normal(0, 1, (N, H, W, C_out)), rng.normal(0, 1, (N, H, W, C_in))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 3)), rng.normal(0, 1, (2, 1, 1, 2))))
    yield Edge("one channel in and out", (rng.normal(0, 1, (1, 3, 3, 1)), rng.normal(0, 1, (1, 3, 3, 1))))


@exercise(points=4, draw=_draw_backward_weight, outputs="dweight", mistakes={
    "the kernel's gradient is flipped: tap (i, j) has that of (2 - i, 2 - j), as if dy were shifted in place of x":
        {"kernel": _flipped},
    **_KERNELS, **_PADDINGS, **_BORDERS,
    "it is the mean over the images; all images share the kernel, so it is their sum":
        lambda dy, x: conv2d_backward_weight(dy, x) / len(x),
    "it is the mean over pixels and images; it is their sum":
        lambda dy, x: conv2d_backward_weight(dy, x) / (x.size / x.shape[-1]),
    "only the first image counts": lambda dy, x: conv2d_backward_weight(dy[:1], x[:1]),
    "only the last image counts: each one overwrites the one before, = where += belongs":
        lambda dy, x: conv2d_backward_weight(dy[-1:], x[-1:]),
}, hints=(
    "The same nine views as forward; each of them meets dy in the place of a weight.",
    "Entry [i, j] is a matrix (C_in, C_out): the view times dy, summed over images, rows and columns.",
    "The einsum of the text does this sum; its first array is the view of tap (i, j), its second dy.",
))  # fmt: skip
def conv2d_backward_weight(dy, x, *, kernel=lambda w: w, **padding):
    """C2: dweight[i, j, c, o] = sum_{n, h, w} x_padded[n, h + i, w + j, c] dy[n, h, w, o]."""
    return kernel(np.einsum("ijnhwc,nhwo->ijco", _views(x, **padding), dy))


def _draw_backward_input(rng):
    for N, H, W, C in ((2, 5, 4, 3), (1, 4, 6, 2)):
        yield rng.normal(0, 1, (N, H, W, C)), rng.normal(0, 1, (3, 3, C, C))
    yield rng.normal(0, 1, (2, 4, 4, 4)), rng.normal(0, 1, (3, 3, 2, 4))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 3)), rng.normal(0, 1, (3, 3, 2, 3))))


@exercise(points=4, draw=_draw_backward_input, outputs="dx", border="dx", mistakes={
    "the kernel is not flipped: what went out at (h + i, w + j) comes back from (h - i, w - j)": {"kernel": lambda w: w},
    "the kernel is flipped along its rows only": {"kernel": lambda w: w[::-1]},
    "the kernel is flipped along its columns only": {"kernel": lambda w: w[:, ::-1]},
    "rows and columns of the kernel are exchanged": {"kernel": lambda w: _flipped(w).swapaxes(0, 1)},
    "the border repeats dy's edge; padding is with zeros": {"mode": "edge"},
    "dy wraps around at the border; padding is with zeros": {"mode": "wrap"},
    **_PADDINGS,
    "only the kernel's middle tap is used": lambda dy, w: dy @ w[1, 1].T,
}, hints=(
    "It is your conv2d_forward once more: of dy, with another weight.",
    "The other weight is flipped along both axes of the kernel, by [::-1, ::-1]. And dy has C_out channels, dx wants C_in.",
    "After the flip exchange the weight's last two axes, with swapaxes; then go on as forward, with dy for x.",
))  # fmt: skip
def conv2d_backward_input(dy, weight, *, kernel=_flipped, **padding):
    """C3: dx = cross-correlation of dy with the kernel flipped, its channels exchanged."""
    return _correlate(dy, kernel(weight).swapaxes(2, 3), **padding)


def _draw_logits(rng):
    for T, N, K in ((3, 4, 5), (4, 2, 3)):
        yield 2 * rng.normal(0, 1, (T, N, K)), rng.integers(0, K, N)
    yield Edge("T = 1 and one sample", (rng.normal(0, 1, (1, 1, 4)), np.array([2])))
    yield Edge("logits near 1000, whose exp overflows", (1000 + rng.normal(0, 1, (2, 2, 3)), np.array([0, 2])))


_softmax = partial(scipy.special.softmax, axis=-1)


def _of_label(z, labels):
    """z[n, labels[n]] (N,)."""
    return z[np.arange(len(labels)), labels]


def _mean_over_time(z):
    return z.mean(axis=0)


@exercise(points=2, draw=_draw_logits, outputs="loss", mistakes={
    "the cross-entropy is taken at each timestep and then averaged; here the logits are averaged first":
        lambda z, labels: np.mean([cross_entropy_of_mean(zt[None], labels) for zt in z]),
    "the logits are summed over time and not averaged": {"over_time": lambda z: z.sum(axis=0)},
    "only the last timestep's logits are used": {"over_time": lambda z: z[-1]},
    "only the first timestep's logits are used": {"over_time": lambda z: z[0]},
    "the losses of the samples are summed: the mean over N is forgotten": {"over_samples": np.sum},
    "the sign is wrong: the loss is MINUS the logarithm": lambda z, labels: -cross_entropy_of_mean(z, labels),
    "the logarithm is missing": {"log": lambda p: p},
    "the softmax is averaged over time; here the logits are":
        lambda z, labels: -np.log(_of_label(_softmax(z).mean(axis=0), labels)).mean(),
    "the softmax is missing: that is minus the mean logit of the label":
        lambda z, labels: -_of_label(z.mean(axis=0), labels).mean(),
    "the loss is divided by the number of classes too": lambda z, labels: cross_entropy_of_mean(z, labels) / z.shape[2],
    "the logarithm is to the base 2": {"log": np.log2},
}, hints=(
    "First the mean over time, then log softmax for each sample, then the label's entry.",
    "log softmax is z minus the log of the sum of exp(z). Subtract each row's largest logit before you take exp.",
    "From log_p (N, K) the pair of index arrays np.arange(N), labels takes N numbers; return minus their mean.",
))  # fmt: skip
def cross_entropy_of_mean(logits, labels, *, over_time=_mean_over_time, log=np.log, over_samples=np.mean):
    """L1 to L3: mean over n of -log softmax(mean over t of logits)[label]."""
    return float(over_samples(-log(np.maximum(_of_label(_softmax(over_time(logits)), labels), 1e-300))))


def _last_only(logits, labels):
    dlogits = np.zeros(logits.shape)
    dlogits[-1] = cross_entropy_gradient(logits, labels, shares=lambda T, N: N)[-1]
    return dlogits


@exercise(points=3, draw=_draw_logits, outputs="dlogits", time="dlogits", mistakes={
    "1/T is missing: each timestep has its share of the mean over time": {"shares": lambda T, N: N},
    "1/N is missing: the mean over N is forgotten": {"shares": lambda T, N: T},
    "1/(T N) is missing": {"shares": lambda T, N: 1},
    "the one-hot label is not subtracted from the softmax": {"hot": 0.0},
    "the one-hot label is added to the softmax and not subtracted": {"hot": -1.0},
    "the softmax is taken of each timestep's own logits; it is that of their mean over time": {"over_time": lambda z: z},
    "the softmax is taken of the sum over time; it is that of the mean": {"over_time": lambda z: z.sum(axis=0)},
    "the softmax is taken of the last timestep's logits; it is that of the mean": {"over_time": lambda z: z[-1]},
    "only the last timestep gets a gradient": _last_only,
    "the gradient is divided by the number of classes too":
        lambda z, labels: cross_entropy_gradient(z, labels) / z.shape[2],
    "the logits stand where their softmax belongs": {"softmax": lambda z: z},
}, hints=(
    "The softmax of the mean logits, with 1 subtracted at each sample's label.",
    "The two means bring 1 / T and 1 / N. Every timestep gets the same gradient.",
    "Take 1 from p at (np.arange(N), labels), divide p by T N, and repeat it T times along a new first axis.",
))  # fmt: skip
def cross_entropy_gradient(logits, labels, *, over_time=_mean_over_time, softmax=_softmax, hot=1.0,
                           shares=lambda T, N: T * N):  # fmt: skip
    """L4: (softmax(mean logits) - onehot) / (T N) at every t."""
    T, N, K = logits.shape
    dz = softmax(over_time(logits)) - hot * np.eye(K)[labels]
    return np.broadcast_to(dz / shares(T, N), logits.shape) + 0.0


def _draw_sgd(rng):
    for shape in ((6,), (3, 4)):
        yield *rng.normal(0, 1, (3, *shape)), number(rng, 0.05, 0.3), number(rng, 0.6, 0.9)
    yield Edge("the first step, whose velocity is 0", (*rng.normal(0, 1, (2, 4)), np.zeros(4), 0.1, 0.9))
    yield Edge("momentum = 0", (*rng.normal(0, 1, (3, 4)), 0.1, 0.0))


def _velocity(g, v, lr, m):
    return m * v + g


def _step(g, v, lr, m):
    return lr * _velocity(g, v, lr, m)


@exercise(points=2, draw=_draw_sgd, outputs="parameter velocity", mistakes={
    "the gradient is multiplied by 1 - momentum, which PyTorch calls dampening and leaves out":
        lambda p, g, v, lr, m: sgd_momentum_step(p, (1 - m) * g, v, lr, m),
    "the learning rate is inside the velocity; in PyTorch's convention it multiplies the velocity afterwards":
        lambda p, g, v, lr, m: sgd_momentum_step(p, lr * g, v, 1.0, m),
    "the velocity has the step's sign, momentum v - lr g, as in other textbooks; here it adds up gradients":
        {"step": lambda g, v, lr, m: lr * g - m * v, "kept": lambda g, v, lr, m: m * v - lr * g},
    "the parameter moves by the old velocity: update the velocity first": {"step": lambda g, v, lr, m: lr * v},
    "the parameter moves by Nesterov's rule": {"step": lambda g, v, lr, m: lr * (g + m * _velocity(g, v, lr, m))},
    "the parameter moves by the gradient alone; it moves by the velocity": {"step": lambda g, v, lr, m: lr * g},
    "momentum is missing: the velocity is v + g": lambda p, g, v, lr, m: sgd_momentum_step(p, g, v, lr, 1.0),
    "the velocity is the gradient alone, without memory": lambda p, g, v, lr, m: sgd_momentum_step(p, g, v, lr, 0.0),
    "the parameter moves uphill: the step is added": {"step": lambda *a: -_step(*a)},
    "the learning rate is missing from the step": {"step": _velocity},
    "the two results are returned in the other order": lambda *a: sgd_momentum_step(*a)[::-1],
}, hints=(
    "Two lines, O1 and O2, in this order: the parameter moves by the new velocity.",
    "The new velocity is the old one times the momentum, plus the whole gradient.",
    "Make a new array for it (+= would change the caller's), and subtract lr times it from the parameter.",
))  # fmt: skip
def sgd_momentum_step(parameter, gradient, velocity, lr, momentum, *, step=_step, kept=_velocity):
    """O1, O2: v = momentum v + g; p = p - lr v."""
    arguments = gradient, velocity, lr, momentum
    return parameter - step(*arguments), kept(*arguments)
