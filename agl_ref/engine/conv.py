"""Kernels of 2D convolution, channels last, and of average pooling (C1 to C6).

    B  images: all leading axes of x flattened (T times N)     k  kernel side, K = kh kw C_in
    x  (B, H, W, C_in)    weight (kh, kw, C_in, C_out)         y  (B, Ho, Wo, C_out), Ho = (H + 2 padding - kh) // stride + 1

    y[b, i, j]     = bias + sum over (p, q) of x[b, i stride + p - padding, j stride + q - padding] @ weight[p, q]
    dweight[p, q]  = sum over (b, i, j) of x[...same place...]^T dy[b, i, j]
    dx[...same place...] += dy[b, i, j] @ weight[p, q]^T

Three ways to the same sums. Dense, in this file: copy the input patches of some output rows side by side and multiply
matrices, since BLAS is the fastest way to do many multiplications. Winograd (`agl_ref.engine.fast.winograd`): the same with
2.25 times fewer of them, for 3x3 and stride 1. Spike-driven (`agl_ref.engine.fast.spike_driven`): for each nonzero input
add its weight rows to the output rows that it touches, since most inputs of a spiking layer are 0. Which one runs
depends on shapes and data alone.
"""

from typing import NamedTuple

import numpy as np

from .fast import spike_driven, winograd
from .jit import inner, kernel_with_memory, rows_at_once
from .parallel import one_blas_thread, pieces, run

PATCHES = 256  # output positions, at most, whose patches are multiplied in one matrix product


class ConvCache(NamedTuple):
    """x (..., H, W, C_in), weight (kh, kw, C_in, C_out) and how they were convolved."""

    x: np.ndarray
    weight: np.ndarray
    has_bias: bool
    stride: int
    padding: int
    spikes: bool  # the spike-driven path was taken
    tiles: bool = False  # dense sums are computed by Winograd's tiles


@inner
def inside_image(h, H, start, length, row_length):
    """Which part a..e-1 of a patch's row lies inside the image; the rest is padding."""
    if h < 0 or h >= H:
        return 0, 0
    a = min(max(0, -start), length)
    return a, max(a, min(length, row_length - start))


@inner
def gather(x, geometry, first, last, patches):
    """Copy the patches of output rows first..last-1 (all images' rows counted through) side by side.

    x (B, H, W C): one row of a patch, kw pixels, is contiguous there and is copied in one go.
    """
    kh, kw, stride, padding, Ho, Wo = geometry
    H = x.shape[1]
    length = patches.shape[1] // kh
    C = length // kw
    zero = x.dtype.type(0)
    m = 0
    for row in range(first, last):
        b, i = row // Ho, row % Ho
        for j in range(Wo):
            start = (j * stride - padding) * C
            for p in range(kh):
                h = i * stride + p - padding
                row_of_patch = patches[m, p * length : (p + 1) * length]
                a, e = inside_image(h, H, start, length, x.shape[2])
                for k in range(a):
                    row_of_patch[k] = zero
                source = x[b, max(0, min(h, H - 1)), start + a : start + e]
                middle, rest = row_of_patch[a:e], row_of_patch[e:]
                for k in range(middle.size):
                    middle[k] = source[k]
                for k in range(rest.size):
                    rest[k] = zero
            m += 1
    return m


@kernel_with_memory
def dense_forward_kernel(first, last, x, weight, geometry, step, y):
    """y rows = patches @ weight, block by block of `step` output rows; weight (K, C_out), y (B Ho Wo, C_out)."""
    Ho, Wo = geometry.Ho, geometry.Wo
    rows = len(x) * Ho
    patches = np.empty((step * Wo, weight.shape[0]), x.dtype)
    for block in range(first, last):
        a, e = block * step, min((block + 1) * step, rows)
        m = gather(x, geometry, a, e, patches)
        np.dot(patches[:m], weight, y[a * Wo : e * Wo])  # (C1)


@kernel_with_memory
def dense_dweight_kernel(first, last, x, dy, geometry, step, partial):
    """partial[slot] = sum over the slot's blocks of patches^T @ dy; (slots, K, C_out), added up by the caller."""
    Ho, Wo = geometry.Ho, geometry.Wo
    slots, K, _ = partial.shape
    rows = len(x) * Ho
    blocks = (rows + step - 1) // step
    patches = np.empty((step * Wo, K), x.dtype)
    product = np.empty(partial.shape[1:], x.dtype)
    for slot in range(first, last):
        total = partial[slot]
        for block in range(slot * blocks // slots, (slot + 1) * blocks // slots):
            a, e = block * step, min((block + 1) * step, rows)
            m = gather(x, geometry, a, e, patches)
            np.dot(patches[:m].T, dy[a * Wo : e * Wo], product)  # (C2)
            for k in range(K):
                for c in range(product.shape[1]):
                    total[k, c] += product[k, c]


@inner
def scatter_add(patches, geometry, first, last, dx):
    """The transpose of `gather`: add each patch back to where it was copied from; dx (B, H, W C)."""
    kh, kw, stride, padding, Ho, Wo = geometry
    H = dx.shape[1]
    length = patches.shape[1] // kh
    C = length // kw
    m = 0
    for row in range(first, last):
        b, i = row // Ho, row % Ho
        for j in range(Wo):
            start = (j * stride - padding) * C
            for p in range(kh):
                h = i * stride + p - padding
                a, e = inside_image(h, H, start, length, dx.shape[2])
                source = patches[m, p * length + a : p * length + e]
                target = dx[b, max(0, min(h, H - 1)), start + a : start + e]
                for k in range(source.size):
                    target[k] += source[k]
            m += 1


@kernel_with_memory
def dense_dx_kernel(first, last, dy, weight, geometry, images, dx):
    """Patches of gradients = dy @ weight^T, added up `images` images at a time, so that no two threads share one."""
    Ho, Wo = geometry.Ho, geometry.Wo
    step = max(1, PATCHES // Wo)
    patches = np.empty((step * Wo, weight.shape[0]), dx.dtype)
    for group in range(first, last):
        dx[group * images : (group + 1) * images] = 0
        end = min((group + 1) * images, len(dx)) * Ho
        for a in range(group * images * Ho, end, step):
            e = min(a + step, end)
            m = (e - a) * Wo
            np.dot(dy[a * Wo : e * Wo], weight.T, patches[:m])  # (C3)
            scatter_add(patches, geometry, a, e, dx)


class Geometry(NamedTuple):
    """Kernel, stride, zeros on each side, and output of a convolution."""

    kh: int
    kw: int
    stride: int
    padding: int
    Ho: int
    Wo: int


def geometry_of(x_shape, weight_shape, stride, padding):
    """The `Geometry` of these shapes."""
    kh, kw = weight_shape[:2]
    Ho = (x_shape[-3] + 2 * padding - kh) // stride + 1
    Wo = (x_shape[-2] + 2 * padding - kw) // stride + 1
    return Geometry(kh, kw, stride, padding, Ho, Wo)


def image_rows(images):
    """(B, H, W, C) as (B, H, W C): the view that the dense kernels copy from."""
    return images.reshape(*images.shape[:2], -1)


def spikes_pay(x, weight, stride):
    """Whether the input is sparse enough for the spike-driven path, measured against the others (tests/benchmarks/README.md).

    Listing spikes and adding a row of weights cost a fixed effort besides the additions: few channels, and 1x1 kernels, are
    not worth it. With a larger stride a spike reaches fewer outputs.
    """
    _, kw, C_in, C_out = weight.shape
    return kw > 1 and C_in * C_out >= 2048 * stride**2 and np.count_nonzero(x != 0) <= 0.2 * x.size


def repeats(x):
    """Whether x (T, N, H, W, C_in) shows the same images at each t, as direct encoding does: they are convolved once."""
    return x.ndim == 5 and len(x) > 1 and np.array_equal(x[0, 0], x[-1, 0]) and (x[1:] == x[:1]).all()


def forward(x, weight, bias, stride, padding, path="auto"):
    """`agl_ref.conv2d_forward` without validation."""
    x = np.ascontiguousarray(x)
    if repeats(x):
        y, cache = forward(x[:1], weight, bias, stride, padding, path)
        return np.repeat(y, len(x), axis=0), cache._replace(x=x)
    weight = np.ascontiguousarray(weight)
    geometry = geometry_of(x.shape, weight.shape, stride, padding)
    images = x.reshape(-1, *x.shape[-3:])
    shape = (len(images), geometry.Ho, geometry.Wo, weight.shape[3])
    tiles = path == "winograd" or (path == "auto" and winograd.pays(images.shape, weight.shape, stride, padding))
    spikes = path == "spikes" or (path == "auto" and spikes_pay(x, weight, stride))
    if spikes:
        y = spike_driven.forward(images, weight, geometry)
    elif tiles:
        with one_blas_thread():
            y = winograd.forward(images, winograd.transform(weight), padding)
    else:
        y = np.empty(shape, x.dtype)
        with one_blas_thread():
            flat_weight = weight.reshape(-1, shape[-1])
            step = max(1, rows_at_once(weight.size, PATCHES) // geometry.Wo)
            blocks = pieces(len(images) * geometry.Ho, step)
            flat_y = y.reshape(-1, shape[-1])
            run(dense_forward_kernel, blocks, image_rows(images), flat_weight, geometry, step, flat_y)
    if bias is not None:
        y += bias
    cache = ConvCache(x, weight, bias is not None, stride, padding, spikes, tiles)
    return y.reshape(*x.shape[:-3], *shape[1:]), cache


def backward(dy, cache, need_dx=True):
    """`agl_ref.conv2d_backward` without validation."""
    padding, C_out = cache.padding, cache.weight.shape[3]
    x, weight, dy = map(np.ascontiguousarray, (cache.x, cache.weight, dy))
    geometry = geometry_of(x.shape, weight.shape, cache.stride, padding)
    images, gradients = x.reshape(-1, *x.shape[-3:]), dy.reshape(-1, *dy.shape[-3:])
    dx = None  # first: its scratch memory is free again before the weight gradient's
    if need_dx and cache.tiles:
        with one_blas_thread():
            dx = winograd.dx(gradients, weight, padding).reshape(x.shape)
    elif need_dx:
        dx = np.empty_like(images)
        with one_blas_thread():
            flat_weight, flat_dy = weight.reshape(-1, C_out), dy.reshape(-1, C_out)
            at_once = max(1, PATCHES // (geometry.Ho * geometry.Wo))
            groups = pieces(len(dx), at_once)
            run(dense_dx_kernel, groups, flat_dy, flat_weight, geometry, at_once, image_rows(dx))
        dx = dx.reshape(x.shape)
    if repeats(x):
        images, gradients = x[0], dy.sum(axis=0)
    if cache.spikes:
        dweight = spike_driven.dweight(images, gradients, geometry)
    elif cache.tiles:
        with one_blas_thread():
            dweight = winograd.dweight(images, gradients, padding)
    else:
        with one_blas_thread():
            step = max(1, rows_at_once(weight.size, PATCHES) // geometry.Wo)
            slots = min(4, pieces(len(gradients) * geometry.Ho, step))  # no more than there are blocks
            partial = np.zeros((slots, weight.size // C_out, C_out), x.dtype)
            run(dense_dweight_kernel, slots, image_rows(images), gradients.reshape(-1, C_out), geometry, step, partial)
        dweight = partial.sum(axis=0).reshape(weight.shape)
    dbias = dy.reshape(-1, C_out).sum(axis=0) if cache.has_bias else None  # (C4)
    return dx, dweight, dbias


class PoolCache(NamedTuple):
    """The input's shape and dtype: a mean needs no values to be undone."""

    shape: tuple
    dtype: np.dtype


def pool_forward(x):
    """Mean of 2x2 squares."""
    x = np.ascontiguousarray(x)
    a, b = x.shape[-3] // 2 * 2, x.shape[-2] // 2 * 2
    top = x[..., 0:a:2, 0:b:2, :] + x[..., 0:a:2, 1:b:2, :]
    bottom = x[..., 1:a:2, 0:b:2, :] + x[..., 1:a:2, 1:b:2, :]
    top += bottom
    top *= x.dtype.type(0.25)  # (C5)
    return top, PoolCache(x.shape, x.dtype)


def pool_backward(dy, cache):
    """A quarter of dy to each pixel of a square."""
    a, b = cache.shape[-3] // 2 * 2, cache.shape[-2] // 2 * 2
    quarter = dy * dy.dtype.type(0.25)  # (C6)
    even = (cache.shape[-3], cache.shape[-2]) == (a, b)
    dx = (np.empty if even else np.zeros)(cache.shape, dy.dtype)
    for i in (0, 1):
        for j in (0, 1):
            dx[..., i:a:2, j:b:2, :] = quarter
    return dx


class MaxPoolCache(NamedTuple):
    """The input's shape, and which of a square's four places each maximum came from (uint8, the first of equal ones)."""

    shape: tuple
    place: np.ndarray
    dtype: np.dtype


def max_pool_forward(x):
    """Largest value of 2x2 squares. Spikes are often equal: the first in reading order gets the gradient, as in PyTorch."""
    squares = []
    for k in range(4):
        rows, columns = part_of_square(x.shape, k)
        squares.append(x[..., rows, columns, :])
    y, place = squares[0].copy(), np.zeros(squares[0].shape, np.uint8)
    for k in (1, 2, 3):
        place[squares[k] > y] = k
        np.maximum(y, squares[k], out=y)
    return y, MaxPoolCache(x.shape, place, x.dtype)


def max_pool_backward(dy, cache):
    """dy where the maximum was, 0 elsewhere."""
    dx = np.zeros(cache.shape, dy.dtype)
    for k in range(4):
        rows, columns = part_of_square(cache.shape, k)
        dx[..., rows, columns, :] = np.where(cache.place == k, dy, 0)
    return dx


def part_of_square(shape, k):
    """Slices of the rows and columns that hold place k, in reading order, of each 2x2 square of an image (..., H, W, C)."""
    return slice(k // 2, shape[-3] // 2 * 2, 2), slice(k % 2, shape[-2] // 2 * 2, 2)


def global_pool_forward(x):
    """Mean over height and width."""
    x = np.ascontiguousarray(x)  # the order of the sum, and so its bits, follow the memory layout
    return x.mean(axis=(-3, -2)), PoolCache(x.shape, x.dtype)


def global_pool_backward(dy, cache):
    """The same share of dy to every pixel."""
    share = dy / dy.dtype.type(cache.shape[-3] * cache.shape[-2])
    return np.ascontiguousarray(np.broadcast_to(share[..., None, None, :], cache.shape))
