"""What lies between neurons: tdBN, synapses, pools, sums and losses in float64, with an error where they round.

As `replay_neurons`: r(value, size) stands where an implementation rounds, and `size` allows for any usual way to compute it.
"""

from typing import NamedTuple

import numpy as np
from scipy.ndimage import maximum_filter

from agl_ref.engine import conv, parallel
from agl_ref.engine.fast import winograd

from .tolerance import in_float32, is_exact, is_power_of_two, quantum, repeats, sum_size, total

ROWS = 256  # output places, at least, in one product of matrices, if there are as many
TRANSFORMS = 4.0  # roundings of Winograd's transforms

# --- tdBN -----------------------------------------------------------------------------------------------------------


class Norm(NamedTuple):
    """Parameters of a tdBN as used, and its forward values once they are known."""

    gamma: np.ndarray
    beta: np.ndarray
    scale: float
    shift: float
    eps: float
    unbiased: bool = False
    running: tuple | None = None
    x_hat: np.ndarray | None = None
    inv_std: np.ndarray | None = None

    def shifted(self, value):
        """Error of V_th times beta or its gradient, and of V_th itself; none where beta is added as it is."""
        return 0.0 if is_power_of_two(self.shift) else 2 * np.abs(self.shift * value)


def tdbn_forward(r, x, p):
    """(y, p with x_hat and inv_std). The variance may be taken in one pass, E[x^2] - mean^2."""
    M = x.size // x.shape[-1]
    if p.running is None:
        mean = total(r, x) / M  # (N1)
        mean = r(mean, lambda: np.abs(mean))
        second = total(r, x * x, inexact=1.0) / M
        var = np.maximum(second - mean * mean, 0.0)  # (N2)
        var = r(var, lambda: 2 * np.abs(var) + 4 * mean * mean + deviations_size(x, mean, var))
        used = var * (M / (M - 1)) if p.unbiased else var
    else:
        mean, used = p.running
    inv_std = 1.0 / np.sqrt(used + p.eps)
    inv_std = r(inv_std, lambda: 5 * inv_std)
    x_hat = (x - mean) * inv_std  # (N3)
    x_hat = r(x_hat, lambda: 2 * np.abs(x_hat) + (np.abs(x) + np.abs(mean)) * inv_std)
    scaled = p.gamma * (p.scale * x_hat)
    offset = r(p.shift * p.beta, lambda: p.shifted(p.beta))
    y = r(scaled + offset, lambda: 3 * np.abs(scaled) + np.abs(offset) + np.abs(scaled + offset))  # (N4)
    return y, p._replace(x_hat=x_hat, inv_std=inv_std)


def deviations_size(x, mean, var):
    """Error of the mean of the (x - mean)^2 as a sum in any order; where x is 0 these terms are not."""
    flat = x.reshape(-1, x.shape[-1])
    return sum_size(var, var, len(flat), repeats(flat - mean))


def tdbn_backward(r, dy, p):
    """(dx, dgamma, dbeta)."""
    M = dy.size // dy.shape[-1]
    sum_dy = total(r, dy)
    sum_dy_x_hat = total(r, dy * p.x_hat, inexact=2.0)
    g_scale = p.gamma * p.scale
    g = g_scale * dy
    if p.running is None:
        g_mean = g_scale * sum_dy / M
        g_x_hat = p.x_hat * (g_scale * sum_dy_x_hat / (M - 1 if p.unbiased else M))
    else:
        g_mean, g_x_hat = np.zeros_like(p.gamma), np.zeros_like(dy)
    g_mean = r(g_mean, lambda: 3 * np.abs(g_mean))
    dx = (g - g_mean - g_x_hat) * p.inv_std  # (N6)
    dx = r(dx, lambda: p.inv_std * (4 * np.abs(g) + 3 * np.abs(g_mean) + 6 * np.abs(g_x_hat)) + np.abs(dx))
    dgamma = r(p.scale * sum_dy_x_hat, lambda: 2 * np.abs(p.scale * sum_dy_x_hat))  # (N5)
    dbeta = r(p.shift * sum_dy, lambda: p.shifted(sum_dy))
    return dx, dgamma, dbeta


# --- synapses: y = x W + b as a convolution (linear: a 1x1 image) ---------------------------------------------------


class Synapse(NamedTuple):
    """weight (kh, kw, C_in, C_out) or (F_in, F_out), bias or None."""

    weight: np.ndarray
    bias: np.ndarray | None
    stride: int = 1
    padding: int = 0


def convolve(x, weight, p):
    """x W without the bias, in whatever precision x has."""
    if weight.ndim == 2:
        return x @ weight
    return conv.forward(x, weight, None, p.stride, p.padding, path="dense")[0]


def transposed(dy, x, weight, p):
    """(dx, dweight) of the same sums."""
    return gradient_of_input(dy, weight, p, x.shape), gradient_of_weight(dy, x, weight, p)


# A product of matrices for each place of the kernel, as in the reference. The engine's own products are for many
# images; where there are few, a sum over blocks of them is mostly copying.


def seen(images, place, Ho, Wo, stride):
    """What one place of the kernel sees of padded images."""
    i, j = place
    return images[:, i : i + stride * Ho : stride, j : j + stride * Wo : stride]


def share_out(work, chunks, size):
    """Run it in several threads, if the gradient is large enough to be worth them."""
    with parallel.one_blas_thread():
        parallel.run(work, chunks, grain=1 + 10**6 // size)


def gradient_of_input(dy, weight, p, shape):
    """dx of this shape."""
    if weight.ndim == 2:
        return dy @ weight.T
    (H, W, C_in), (Ho, Wo, C_out), pad = shape[-3:], dy.shape[-3:], p.padding
    dy = dy.reshape(-1, Ho, Wo, C_out)
    dimages = np.zeros((len(dy), H + 2 * pad, W + 2 * pad, C_in), dy.dtype)
    at_once = max(1, ROWS // (Ho * Wo))  # images, whatever the number of threads: the bits are to be the same

    def of_images(first, last):
        for group in range(first, last):
            part = slice(group * at_once, (group + 1) * at_once)
            for place in np.ndindex(weight.shape[:2]):
                target = seen(dimages[part], place, Ho, Wo, p.stride)
                target += (dy[part].reshape(-1, C_out) @ weight[place].T).reshape(target.shape)  # (C3)

    share_out(of_images, parallel.pieces(len(dy), at_once), dy.size)
    return dimages[:, pad : pad + H, pad : pad + W].reshape(shape)


def gradient_of_weight(dy, x, weight, p):
    """dweight; of the weight only its shape counts."""
    flat = dy.reshape(-1, dy.shape[-1])
    if weight.ndim == 2:
        return x.reshape(-1, x.shape[-1]).T @ flat
    (H, W, C_in), (Ho, Wo), pad = x.shape[-3:], dy.shape[-3:-1], p.padding
    images = np.pad(x.reshape(-1, H, W, C_in), ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    dweight = np.empty_like(weight)

    def of_weights(first, last):
        for place in list(np.ndindex(weight.shape[:2]))[first:last]:
            rows = seen(images, place, Ho, Wo, p.stride).reshape(-1, C_in)
            np.matmul(rows.T, flat, out=dweight[place])  # (C2)

    share_out(of_weights, weight.shape[0] * weight.shape[1], dy.size)
    return dweight


def product_size(magnitude, *factors):
    """Error of the products in a sum: none where one factor is a power of 2 or 0, such as a spike."""
    return np.zeros_like(magnitude) if any(is_power_of_two(f) for f in factors) else magnitude


def nonzero(*arrays):
    """1 where they are not 0; in float32, which adds up to 2^24 of them exactly."""
    return [(a != 0).astype(np.float32) for a in arrays]


def in_tiles(weight, p):
    """Whether the convolution may be computed in tiles of 2x2 outputs (Winograd), as this package does from 48 channels.

    An error is then relative to the tile's inputs and all nine weights, even where an output's own inputs are all 0.
    """
    return weight.shape[:-2] == (3, 3) and p.stride == 1 and min(weight.shape[-2:]) >= winograd.CHANNELS


def over_tile(size, magnitude):
    """The largest of `size` and of what the transforms round, among the neighbours in the image."""
    around = (1,) * (size.ndim - 3) + (3, 3, 1)
    return maximum_filter(size + TRANSFORMS * magnitude, size=around, mode="constant")


def over_taps(a):
    """The largest over the kernel's nine places, at each of them."""
    return np.broadcast_to(a.max(axis=(0, 1)), a.shape)


def conv2d_size(x, weight, p, bits, lam=1.0):
    """Largest error of x W + b, whose inputs are exact."""

    def sums(x, weight):
        return (convolve(x, weight, p),)

    q, a, b = quantum(x) * quantum(weight), np.abs(x), np.abs(weight)
    (magnitude,) = sums(a, b) if q > 0 else in_float32(sums, a, b)  # from whole numbers it has to be exact
    if p.bias is not None:
        magnitude = magnitude + np.abs(p.bias)
    if is_exact(q if p.bias is None else min(q, quantum(p.bias)), magnitude, bits):
        return np.zeros_like(magnitude)
    count = convolve(*nonzero(x, weight), p).astype(float) + (p.bias is not None)
    result = convolve(x, weight, p) + (0 if p.bias is None else p.bias)
    same = 1 if lam is None else repeats(weight.reshape(-1, weight.shape[-1]))
    size = sum_size(result, magnitude, count, same, lam) + product_size(magnitude, x, weight)
    if not in_tiles(weight, p):
        return size
    return over_tile(size, in_float32(sums, a, over_taps(b))[0])


def conv2d_forward(r, x, p):
    """x W + b."""
    y = r.memo(lambda: convolve(x, p.weight, p), x, p.weight)  # (C1)
    if p.bias is not None:
        y = y + p.bias
    return r(y, lambda: conv2d_size(x, p.weight, p, r.bits))


def conv2d_backward(r, dy, x, p):
    """(dx, dweight, dbias)."""
    weight = p.weight
    dx, dweight = r.linear(lambda dy, x, weight: transposed(dy, x, weight, p), dy, x, weight)  # (C2), (C3)

    def sizes():
        magnitudes = np.abs(dy), np.abs(x), np.abs(weight)
        dx_sum, dweight_sum = in_float32(lambda dy, x, weight: transposed(dy, x, weight, p), *magnitudes)
        dx_count, dweight_count = (n.astype(float) for n in transposed(*nonzero(dy, x, weight), p))
        by_input = repeats(np.moveaxis(weight, -2, -1).reshape(-1, weight.shape[-2]))
        pairs = np.minimum(repeats(x)[:, None], repeats(dy)[None, :])
        dx_size = sum_size(dx, dx_sum, dx_count, by_input) + product_size(dx_sum, dy, weight)
        dweight_size = sum_size(dweight, dweight_sum, dweight_count, pairs) + product_size(dweight_sum, dy, x)
        if not in_tiles(weight, p):
            return dx_size, dweight_size
        taps = magnitudes[0], over_taps(magnitudes[2])
        (around,) = in_float32(lambda dy, weight: (gradient_of_input(dy, weight, p, x.shape),), *taps)
        return over_tile(dx_size, around), over_taps(dweight_size + TRANSFORMS * dweight_sum)

    found = sizes() if r.recording else (None, None)
    dx, dweight = r(dx, lambda: found[0]), r(dweight, lambda: found[1])
    return dx, dweight, None if p.bias is None else total(r, dy)  # (C4)


# --- pools and residual sums ----------------------------------------------------------------------------------------


def avg_pool_forward(r, x):
    """Mean of 2x2 squares; the sum of spikes and a quarter of it are exact."""
    y = r.memo(lambda: conv.pool_forward(x)[0], x)  # (C5)
    return r(y, lambda: 0.0 if is_exact(quantum(x), 4 * np.abs(x), r.bits) else 3 * conv.pool_forward(np.abs(x))[0])


def avg_pool_backward(r, dy, shape):
    """A quarter of dy is exact."""
    return conv.pool_backward(dy, conv.PoolCache(shape, dy.dtype))  # (C6)


def global_avg_pool_forward(r, x):
    """Mean over height and width."""
    area = x.shape[-3] * x.shape[-2]
    y = x.mean(axis=(-3, -2))

    def size():
        magnitude = np.abs(x).sum(axis=(-3, -2))
        exact = is_exact(quantum(x), magnitude, r.bits)
        summed = 0.0 if exact else sum_size(area * y, magnitude, area, lam=None) / area
        return summed + (0.0 if exact and is_power_of_two(np.array(area)) else np.abs(y))

    return r(y, size)


def global_avg_pool_backward(r, dy, shape):
    """The same share of dy for each pixel."""
    area = shape[-3] * shape[-2]
    share = r(dy / area, lambda: 0.0 if is_power_of_two(np.array(area)) else np.abs(dy / area))
    return np.broadcast_to(share[..., None, None, :], shape).copy()


def add(r, a, b):
    """a + b, exact for spikes and where one of the two is 0."""
    result = r.memo(lambda: a + b, a, b)  # (R1), (R2)
    q = min(quantum(a), quantum(b)) if r.recording else 0.0
    exact = r.recording and is_exact(q, np.abs(a) + np.abs(b), r.bits)
    return r(result, lambda: 0.0 if exact else np.where(a * b != 0, np.abs(result), 0.0))


# --- losses ---------------------------------------------------------------------------------------------------------


def log_softmax(r, z):
    """(softmax, its logarithm) over the last axis."""
    shifted = z - z.max(axis=-1, keepdims=True)
    shifted = r(shifted, lambda: np.abs(shifted))
    exps = np.exp(shifted)
    norm = exps.sum(axis=-1, keepdims=True)
    norm = r(norm, lambda: (3 + z.shape[-1]) * norm)
    log_p = shifted - np.log(norm)  # (L2)
    plain = z - log_p  # max + log of the sum, which rounds where it is subtracted from z itself
    log_p = r(log_p, lambda: np.abs(log_p) + 2 * np.abs(np.log(norm)) + 1 + np.abs(plain))
    p = np.exp(log_p)
    return r(p, lambda: p * (4 + np.abs(log_p))), log_p


def cross_entropy(r, logits, labels, readout):
    """(loss, dlogits) of the reduced logits."""
    T, N, K = logits.shape
    z = logits[-1] if readout == "last" else logits.sum(axis=0) / (T if readout == "mean" else 1)  # (L1)

    def size():
        if T == 1 or readout == "last":
            return 0.0
        magnitude = np.abs(logits).sum(axis=0)
        return (sum_size(logits.sum(axis=0), magnitude, T) + magnitude) / (T if readout == "mean" else 1)

    p, log_p = log_softmax(r, r(z, size))
    one_hot = np.equal(np.arange(K), labels[:, None]).astype(float)
    picked = -(log_p * one_hot).sum(axis=-1)
    loss = r(picked.mean(), lambda: (1 + N) * np.abs(picked).mean())  # (L3)
    dz = (p - one_hot) / N  # (L4)
    dz = r(dz, lambda: 2 * np.abs(dz))
    if readout == "last":
        return loss, np.concatenate([np.zeros((T - 1, N, K)), dz[None]])
    if readout == "mean":
        dz = r(dz / T, lambda: 0.0 if is_power_of_two(np.array(T)) else 2 * np.abs(dz / T))
    return loss, np.repeat(dz[None], T, axis=0)


def tet(r, logits, labels, lam=1e-3, target=1.0):
    """(loss, dlogits) of (1 - lam) mean_t CE + lam mean((logits - target)^2)."""
    T, N, K = logits.shape
    p, log_p = log_softmax(r, logits)
    one_hot = np.equal(np.arange(K), labels[:, None]).astype(float)
    off = logits - target
    off = r(off, lambda: np.abs(off))
    picked = -(log_p * one_hot).sum(axis=-1)
    loss = (1 - lam) * picked.mean() + lam * (off * off).mean()  # (L5)
    loss = r(loss, lambda: (3 + T * N) * np.abs(picked).mean() + lam * (3 + off.size) * (off * off).mean())
    entropy, pull = (1 - lam) * (p - one_hot) / (T * N), (2 * lam / logits.size) * off  # (L6)
    return loss, r(entropy + pull, lambda: 5 * np.abs(entropy) + 4 * np.abs(pull) + np.abs(entropy + pull))
