"""Notebook 6, a convolutional network: convolution forward and backward, cross-entropy of the mean, a step of SGD."""

import numpy as np

from .definition import Edge, exercise


def _number(rng, low, high):
    return round(float(rng.uniform(low, high)), 3)


def _padded(x, before=1, after=1, mode="constant"):
    return np.pad(x, ((0, 0), (before, after), (before, after), (0, 0)), mode=mode)


def _correlate(x, weight, **padding):
    """y[n, h, w] = sum over taps and channels of the padded x[n, h + i, w + j] weight[i, j]."""
    H, W = x.shape[1:3]
    padded = _padded(x, **padding)
    return sum(padded[:, i : i + H, j : j + W] @ weight[i, j] for i in range(3) for j in range(3))


def _flipped(weight):
    return weight[::-1, ::-1]


def _draw_forward(rng):
    for N, H, W, C_in, C_out in ((2, 5, 4, 3, 2), (3, 4, 6, 2, 4)):
        yield rng.normal(0, 1, (N, H, W, C_in)), rng.normal(0, 1, (3, 3, C_in, C_out))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 2)), rng.normal(0, 1, (3, 3, 2, 3))))
    yield Edge("one channel in and out", (rng.normal(0, 1, (1, 3, 3, 1)), rng.normal(0, 1, (3, 3, 1, 1))))


@exercise(points=4, draw=_draw_forward, outputs="y", border="y", mistakes={
    "the kernel is flipped: that is a convolution in the mathematical sense, here it is a cross-correlation":
        lambda x, w: _correlate(x, _flipped(w)),
    "rows and columns of the kernel are exchanged": lambda x, w: _correlate(x, w.swapaxes(0, 1)),
    "the kernel's rows are flipped": lambda x, w: _correlate(x, w[::-1]),
    "the kernel's columns are flipped": lambda x, w: _correlate(x, w[:, ::-1]),
    "all padding is on the wrong side, in front of the image: one goes on each side":
        lambda x, w: _correlate(x, w, before=2, after=0),
    "all padding is on the wrong side, behind the image: one goes on each side":
        lambda x, w: _correlate(x, w, before=0, after=2),
    "the border repeats the image's edge; padding is with zeros": lambda x, w: _correlate(x, w, mode="edge"),
    "the image wraps around at the border (np.roll does that); padding is with zeros":
        lambda x, w: _correlate(x, w, mode="wrap"),
    "only the kernel's middle tap is used": lambda x, w: x @ w[1, 1],
    "only the first input channel is used: the sum runs over all": lambda x, w: _correlate(x[..., :1], w[:, :, :1]),
    "it is the mean over the nine taps; it is their sum": lambda x, w: _correlate(x, w) / 9,
})  # fmt: skip
def conv2d_forward(x, weight):
    """y[n, h, w, o] = sum_{i, j, c} x_padded[n, h + i, w + j, c] weight[i, j, c, o]."""
    return _correlate(x, weight)


def _draw_backward_weight(rng):
    for N, H, W, C_in, C_out in ((2, 5, 4, 3, 2), (3, 4, 6, 2, 4)):
        yield rng.normal(0, 1, (N, H, W, C_out)), rng.normal(0, 1, (N, H, W, C_in))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 3)), rng.normal(0, 1, (2, 1, 1, 2))))
    yield Edge("one channel in and out", (rng.normal(0, 1, (1, 3, 3, 1)), rng.normal(0, 1, (1, 3, 3, 1))))


def _dweight(dy, x, **padding):
    H, W = x.shape[1:3]
    padded = _padded(x, **padding)
    taps = [[np.einsum("nhwc,nhwo->co", padded[:, i : i + H, j : j + W], dy) for j in range(3)] for i in range(3)]
    return np.array(taps)


@exercise(points=4, draw=_draw_backward_weight, outputs="dweight", mistakes={
    "the kernel's gradient is flipped: tap (i, j) has that of (2 - i, 2 - j), as if dy were shifted in place of x":
        lambda dy, x: _flipped(_dweight(dy, x)),
    "rows and columns of the kernel are exchanged": lambda dy, x: _dweight(dy, x).swapaxes(0, 1),
    "the kernel's rows are flipped": lambda dy, x: _dweight(dy, x)[::-1],
    "the kernel's columns are flipped": lambda dy, x: _dweight(dy, x)[:, ::-1],
    "it is the mean over the images; all images share the kernel, so it is their sum":
        lambda dy, x: _dweight(dy, x) / len(x),
    "it is the mean over pixels and images; it is their sum": lambda dy, x: _dweight(dy, x) / (x.size / x.shape[-1]),
    "only the first image counts": lambda dy, x: _dweight(dy[:1], x[:1]),
    "only the last image counts: each one overwrites the one before, = where += belongs":
        lambda dy, x: _dweight(dy[-1:], x[-1:]),
    "all padding is on the wrong side, in front of the image: one goes on each side":
        lambda dy, x: _dweight(dy, x, before=2, after=0),
    "all padding is on the wrong side, behind the image: one goes on each side":
        lambda dy, x: _dweight(dy, x, before=0, after=2),
    "the border repeats the image's edge; padding is with zeros": lambda dy, x: _dweight(dy, x, mode="edge"),
    "the image wraps around at the border; padding is with zeros": lambda dy, x: _dweight(dy, x, mode="wrap"),
})  # fmt: skip
def conv2d_backward_weight(dy, x):
    """dweight[i, j, c, o] = sum_{n, h, w} x_padded[n, h + i, w + j, c] dy[n, h, w, o]."""
    return _dweight(dy, x)


def _draw_backward_input(rng):
    for N, H, W, C in ((2, 5, 4, 3), (1, 4, 6, 2)):
        yield rng.normal(0, 1, (N, H, W, C)), rng.normal(0, 1, (3, 3, C, C))
    yield rng.normal(0, 1, (2, 4, 4, 4)), rng.normal(0, 1, (3, 3, 2, 4))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 3)), rng.normal(0, 1, (3, 3, 2, 3))))


def _back(weight):
    """The kernel of the way back: taps flipped, channels exchanged."""
    return _flipped(weight).swapaxes(2, 3)


@exercise(points=4, draw=_draw_backward_input, outputs="dx", border="dx", mistakes={
    "the kernel is not flipped: what went out at (h + i, w + j) comes back from (h - i, w - j)":
        lambda dy, w: _correlate(dy, w.swapaxes(2, 3)),
    "the kernel is flipped along its rows only": lambda dy, w: _correlate(dy, w[::-1].swapaxes(2, 3)),
    "the kernel is flipped along its columns only": lambda dy, w: _correlate(dy, w[:, ::-1].swapaxes(2, 3)),
    "rows and columns of the kernel are exchanged": lambda dy, w: _correlate(dy, _back(w).swapaxes(0, 1)),
    "the border repeats dy's edge; padding is with zeros": lambda dy, w: _correlate(dy, _back(w), mode="edge"),
    "dy wraps around at the border; padding is with zeros": lambda dy, w: _correlate(dy, _back(w), mode="wrap"),
    "all padding is on the wrong side, in front of the image: one goes on each side":
        lambda dy, w: _correlate(dy, _back(w), before=2, after=0),
    "all padding is on the wrong side, behind the image: one goes on each side":
        lambda dy, w: _correlate(dy, _back(w), before=0, after=2),
    "only the kernel's middle tap is used": lambda dy, w: dy @ w[1, 1].T,
})  # fmt: skip
def conv2d_backward_input(dy, weight):
    """dx = cross-correlation of dy with the kernel flipped, its channels exchanged."""
    return _correlate(dy, _back(weight))


def _draw_logits(rng):
    for T, N, K in ((3, 4, 5), (4, 2, 3)):
        yield 2 * rng.normal(0, 1, (T, N, K)), rng.integers(0, K, N)
    yield Edge("T = 1 and one sample", (rng.normal(0, 1, (1, 1, 4)), np.array([2])))
    yield Edge("logits near 1000, whose exp overflows", (1000 + rng.normal(0, 1, (2, 2, 3)), np.array([0, 2])))


def _softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _cross_entropy(z, labels):
    """-log softmax(z)[label] of each sample (N,); z (N, K)."""
    return -np.log(np.maximum(_softmax(z)[np.arange(len(labels)), labels], 1e-300))


@exercise(points=2, draw=_draw_logits, outputs="loss", mistakes={
    "the cross-entropy is taken at each timestep and then averaged; here the logits are averaged first":
        lambda z, labels: np.mean([_cross_entropy(zt, labels) for zt in z]),
    "the logits are summed over time and not averaged": lambda z, labels: _cross_entropy(z.sum(0), labels).mean(),
    "only the last timestep's logits are used": lambda z, labels: _cross_entropy(z[-1], labels).mean(),
    "only the first timestep's logits are used": lambda z, labels: _cross_entropy(z[0], labels).mean(),
    "the losses of the samples are summed: the mean over N is forgotten":
        lambda z, labels: _cross_entropy(z.mean(0), labels).sum(),
    "the sign is wrong: the loss is MINUS the logarithm": lambda z, labels: -_cross_entropy(z.mean(0), labels).mean(),
    "the logarithm is missing": lambda z, labels: -_softmax(z.mean(0))[np.arange(len(labels)), labels].mean(),
    "the softmax is averaged over time; here the logits are": lambda z, labels:
        -np.log(_softmax(z).mean(0)[np.arange(len(labels)), labels]).mean(),
    "the softmax is missing: that is minus the mean logit of the label":
        lambda z, labels: -z.mean(0)[np.arange(len(labels)), labels].mean(),
    "the loss is divided by the number of classes too":
        lambda z, labels: _cross_entropy(z.mean(0), labels).mean() / z.shape[2],
    "the logarithm is to the base 2": lambda z, labels: _cross_entropy(z.mean(0), labels).mean() / np.log(2),
})  # fmt: skip
def cross_entropy_of_mean(logits, labels):
    """mean over n of -log softmax(mean over t of logits)[label]."""
    return float(_cross_entropy(logits.mean(axis=0), labels).mean())


def _dlogits(logits, labels, z=None, hot=1.0, over_T=True, over_N=True):
    """(softmax - onehot) / (T N) at every t, with parts exchanged."""
    T, N, K = logits.shape
    dz = _softmax(logits.mean(axis=0) if z is None else z) - hot * np.eye(K)[labels]
    return np.broadcast_to(dz / ((T if over_T else 1) * (N if over_N else 1)), logits.shape) + 0.0


def _last_only(logits, labels):
    dlogits = np.zeros(logits.shape)
    dlogits[-1] = _dlogits(logits, labels, over_T=False)[-1]
    return dlogits


@exercise(points=3, draw=_draw_logits, outputs="dlogits", time="dlogits", mistakes={
    "1/T is missing: each timestep has its share of the mean over time": lambda *a: _dlogits(*a, over_T=False),
    "1/N is missing: the mean over N is forgotten": lambda *a: _dlogits(*a, over_N=False),
    "1/(T N) is missing": lambda *a: _dlogits(*a, over_T=False, over_N=False),
    "the one-hot label is not subtracted from the softmax": lambda *a: _dlogits(*a, hot=0.0),
    "the one-hot label is added to the softmax and not subtracted": lambda *a: _dlogits(*a, hot=-1.0),
    "the softmax is taken of each timestep's own logits; it is that of their mean over time":
        lambda z, labels: _dlogits(z, labels, z=z),
    "the softmax is taken of the sum over time; it is that of the mean":
        lambda z, labels: _dlogits(z, labels, z=z.sum(0)),
    "the softmax is taken of the last timestep's logits; it is that of the mean":
        lambda z, labels: _dlogits(z, labels, z=z[-1]),
    "only the last timestep gets a gradient": _last_only,
    "the gradient is divided by the number of classes too": lambda z, labels: _dlogits(z, labels) / z.shape[2],
    "the logits stand where their softmax belongs": lambda z, labels:
        np.broadcast_to((z.mean(0) - np.eye(z.shape[2])[labels]) / (len(z) * z.shape[1]), z.shape) + 0.0,
})  # fmt: skip
def cross_entropy_gradient(logits, labels):
    """(softmax(mean logits) - onehot) / (T N) at every t."""
    return _dlogits(logits, labels)


def _draw_sgd(rng):
    for shape in ((6,), (3, 4)):
        yield *rng.normal(0, 1, (3, *shape)), _number(rng, 0.05, 0.3), _number(rng, 0.6, 0.9)
    yield Edge("the first step, whose velocity is 0", (*rng.normal(0, 1, (2, 4)), np.zeros(4), 0.1, 0.9))
    yield Edge("momentum = 0", (*rng.normal(0, 1, (3, 4)), 0.1, 0.0))


def _moved(step, velocity):
    """A mistake, from the step that is subtracted and the velocity that is kept."""
    return lambda p, g, v, lr, m: (p - step(g, v, lr, m), velocity(g, v, lr, m))


def _velocity(g, v, lr, m):
    return m * v + g


@exercise(points=2, draw=_draw_sgd, outputs="parameter velocity", mistakes={
    "the gradient is multiplied by 1 - momentum, which PyTorch calls dampening and leaves out":
        _moved(lambda g, v, lr, m: lr * (m * v + (1 - m) * g), lambda g, v, lr, m: m * v + (1 - m) * g),
    "the learning rate is inside the velocity; in PyTorch's convention it multiplies the velocity afterwards":
        _moved(lambda g, v, lr, m: m * v + lr * g, lambda g, v, lr, m: m * v + lr * g),
    "the velocity has the step's sign, momentum v - lr g, as in other textbooks; here it adds up gradients":
        _moved(lambda g, v, lr, m: lr * g - m * v, lambda g, v, lr, m: m * v - lr * g),
    "the parameter moves by the old velocity: update the velocity first":
        _moved(lambda g, v, lr, m: lr * v, _velocity),
    "the parameter moves by Nesterov's rule":
        _moved(lambda g, v, lr, m: lr * (g + m * _velocity(g, v, lr, m)), _velocity),
    "the parameter moves by the gradient alone; it moves by the velocity": _moved(lambda g, v, lr, m: lr * g, _velocity),
    "momentum is missing: the velocity is v + g": _moved(lambda g, v, lr, m: lr * (v + g), lambda g, v, lr, m: v + g),
    "the velocity is the gradient alone, without memory": _moved(lambda g, v, lr, m: lr * g, lambda g, v, lr, m: g),
    "the parameter moves uphill: the step is added": _moved(lambda g, v, lr, m: -lr * _velocity(g, v, lr, m), _velocity),
    "the learning rate is missing from the step": _moved(_velocity, _velocity),
    "the two results are returned in the other order":
        lambda p, g, v, lr, m: (m * v + g, p - lr * (m * v + g)),
})  # fmt: skip
def sgd_momentum_step(parameter, gradient, velocity, lr, momentum):
    """v = momentum v + g; p = p - lr v."""
    velocity = momentum * velocity + gradient
    return parameter - lr * velocity, velocity
