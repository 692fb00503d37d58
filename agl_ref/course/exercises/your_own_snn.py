"""Notebook 10, your own network: what notebooks 1 to 6 left out, backward through stride 2 and through the readout."""

import numpy as np

from .definition import Edge, choice, exercise


def _draw_stride(rng):
    for N, rows, columns, C in ((2, 3, 2, 3), (3, 2, 4, 2)):
        yield rng.normal(0, 1, (N, rows, columns, C)), 2 * rows, 2 * columns
    yield Edge("odd numbers of rows and columns", (rng.normal(0, 1, (2, 3, 4, 2)), 5, 7))
    yield Edge("an image of one pixel", (rng.normal(0, 1, (2, 1, 1, 3)), 1, 1))


def _squares(dy, H, W):
    """Each gradient at all four places of its square."""
    return dy.repeat(2, axis=1).repeat(2, axis=2)[:, :H, :W]


@exercise(points=2, draw=_draw_stride, outputs="dx", mistakes={
    "the gradients lie side by side in a corner: output (i, j) was kept from (2 i, 2 j)":
        {"places": lambda n, size: slice(0, n)},
    "the gradients lie on the odd rows and columns: those that were kept are at 0, 2, 4 and so on":
        {"places": lambda n, size: slice(1, None, 2)},
    "all four places of a square get the gradient: three of them were thrown away, and the loss does not depend on them":
        _squares,
    "each place of a square gets a quarter, as behind a mean pool: three of the four were thrown away":
        lambda dy, H, W: _squares(dy, H, W) / 4,
    "the gradient is 4 times too large: nothing was averaged": lambda dy, H, W: 4 * stride_backward(dy, H, W),
    "the gradient is divided by 4: nothing was averaged": lambda dy, H, W: stride_backward(dy, H, W) / 4,
}, hints=(
    "What was thrown away has no influence on the loss: its gradient is 0. Where do the numbers in dy belong?",
    "Begin with zeros of shape (N, H, W, C). Row i of dy belongs into row 2 i, and so with columns.",
    "The slices that kept the outputs, ::2 in rows and columns, also say where to write dy.",
))  # fmt: skip
def stride_backward(dy, H, W, *, places=lambda n, size: slice(0, None, 2)):
    """Backward of y = x[:, ::2, ::2]: dy where an output was kept, 0 elsewhere."""
    dx = np.zeros((len(dy), H, W, dy.shape[3]))
    kept = dx[:, places(dy.shape[1], H), places(dy.shape[2], W)]
    kept[...] = dy[:, : kept.shape[1], : kept.shape[2]]
    return dx


def _draw_linear(rng):
    for T, N, F, K in ((3, 4, 5, 2), (2, 3, 4, 6)):
        spikes = (rng.random((T, N, F)) < 0.4) * 1.0
        yield rng.normal(0, 1, (T, N, K)), spikes, rng.normal(0, 1, (F, K))
    yield Edge("T = 1 and one sample", (rng.normal(0, 1, (1, 1, 3)), np.ones((1, 1, 4)), rng.normal(0, 1, (4, 3))))
    yield Edge("nobody fires", (rng.normal(0, 1, (2, 3, 3)), np.zeros((2, 3, 4)), rng.normal(0, 1, (4, 3))))


def _products(x, dy):
    return np.einsum("tnf,tnk->fk", x, dy)


def _sums_first(x, dy):
    return x.sum(axis=0).T @ dy.sum(axis=0)


@exercise(points=2, draw=_draw_linear, outputs="dx dweight", time="dx", mistakes={
    "dweight is the mean over the timesteps: the weight is used at each of them, so it is their sum":
        {"collect": lambda x, dy: _products(x, dy) / len(x)},
    "dweight is the mean over the samples: all of them share the weight, so it is their sum":
        {"collect": lambda x, dy: _products(x, dy) / x.shape[1]},
    "only the last timestep counts in dweight: the weight is used at each of them":
        {"collect": lambda x, dy: _products(x[-1:], dy[-1:])},
    "only the first timestep counts in dweight: the weight is used at each of them":
        {"collect": lambda x, dy: _products(x[:1], dy[:1])},
    "x and dy are each summed over time before they are multiplied: each timestep has a product of its own":
        {"collect": _sums_first},
    "dx is the mean over the timesteps at each of them: what came in at t gets dy of t alone":
        {"back": lambda dy, weight: np.repeat((dy @ weight.T).mean(axis=0, keepdims=True), len(dy), axis=0)},
    "dx is divided by T once more: the share of a timestep is in dy already":
        {"back": lambda dy, weight: dy @ weight.T / len(dy)},
    "dx is there only where a spike came in: the readout is linear, and passes its gradient back to silent neurons, too":
        lambda dy, x, weight: (dy @ weight.T * (x > 0), _products(x, dy)),
}, hints=(
    "A matrix product at each timestep and sample. Which of dy, x and weight are in dx, and which in dweight?",
    "dx is dy times the weight, turned by .T. In dweight every timestep and sample adds its share.",
    "np.einsum names axes by letters: those that x and dy share, t and n, are summed; f and k are left.",
))  # fmt: skip
def linear_backward(dy, x, weight, *, collect=_products, back=lambda dy, weight: dy @ weight.T):
    """C2, C3 of an image of one pixel: dx = dy W^T at each t, dW = sum over t and n of x^T dy."""
    return back(dy, weight), collect(x, dy)


choice("what_learning_proves", 1, "hardly anything: wrong gradients learn as well", hints=(
    "With 1,000 test images one standard error is 1.3 points. Can you tell the right network from the others?",
    "Which of the four sentences does one network refute that has a wrong gradient and a good accuracy?",
    "You have three such networks. Put two of the wrong parts into one, and you have a fourth.",
), options={
    "that the gradients are right":
        "Look at the three networks with a wrong part: they reach about the same accuracy.",
    "that the forward pass is right, at least":
        "A wrong forward pass is another network, and that one can learn as well: train one with a soft reset.",
    "that at most one part is wrong":
        "Put two wrong parts into one network and train it: it may well learn, too.",
    "hardly anything: wrong gradients learn as well":
        "Right. Most wrong gradients still point downhill. That is why gradients are compared, number by number.",
})  # fmt: skip
