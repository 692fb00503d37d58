"""Spike-driven convolution: a spike is a 1, so its convolution is adding rows of weights, and most neurons are silent.

    y[b, i, j]    += x[b, h, w, c] weight[p, q, c]          for every nonzero x and every tap (p, q) that it reaches,
    dweight[p, q, c] += x[b, h, w, c] dy[b, i, j]           h = i stride + p - padding,  w = j stride + q - padding

A pixel reaches neighbouring outputs through its taps of one kernel row: with stride 1 and kw = 3 the outputs w - 1, w, w + 1
(padding 1) through q = 2, 1, 0. They lie side by side in y, and so do their weights if each kernel row is stored as
(C_in, kw C_out) with q falling. One long row is then added instead of kw short ones. With a larger stride a pixel
reaches only every stride-th tap: which ones depends on the remainder of w + padding, so taps are ordered by remainder first.
"""

import numpy as np

from agl_ref.engine.jit import inner, kernel, kernel_with_memory, maker
from agl_ref.engine.parallel import grain_of, pieces, run

POSITIONS = 256  # output or input positions that one thread works on at a time, so that their rows stay in its cache


def taps(kw, stride):
    """The taps of a kernel row by remainder, then falling; where each remainder starts, (stride + 1,)."""
    groups = [list(range(r, kw, stride))[::-1] for r in range(stride)]
    starts = np.cumsum([0, *(len(g) for g in groups)])
    return np.array([q for g in groups for q in g]), starts


def aligned(rows, columns, like):
    """An uninitialised array that begins on a cache line, or every vector that the processor loads would lie across two."""
    memory = np.empty(rows * columns + 64 // like.itemsize, like.dtype)
    skipped = -memory.ctypes.data % 64 // like.itemsize
    return memory[skipped : skipped + rows * columns].reshape(rows, columns)


aligned_jitted = maker(aligned)


@inner
def add_rows(target, rows, start, factor, n):
    """target += sum over k < n of factor[k] rows[start[k]:]; four at a time, to load and store the target less often.

    The lists are filled up with factor 0 to a multiple of four.
    """
    size = target.size
    for k in range(0, n, 4):
        r0, r1 = rows[start[k] : start[k] + size], rows[start[k + 1] : start[k + 1] + size]
        r2, r3 = rows[start[k + 2] : start[k + 2] + size], rows[start[k + 3] : start[k + 3] + size]
        f0, f1, f2, f3 = factor[k], factor[k + 1], factor[k + 2], factor[k + 3]
        for o in range(size):
            target[o] += (f0 * r0[o] + f1 * r1[o]) + (f2 * r2[o] + f3 * r3[o])


@inner
def first_output(w, starts, geometry):
    """The lowest output column that input column w reaches (it may lie outside), and the taps a..e-1 by which it does."""
    _, kw, stride, padding, _, _ = geometry
    r = (w + padding) % stride
    a, e = starts[r], starts[r + 1]
    return (w + padding - r) // stride - (e - a - 1), a, e


@kernel
def list_kernel(first, last, x, index, count):
    """The nonzero channels of every pixel: index (P, C), the first count[m] of its row."""
    P, C = x.shape
    for chunk in range(first, last):
        for m in range(chunk * POSITIONS, min((chunk + 1) * POSITIONS, P)):
            n = 0
            for c in range(C):
                index[m, n] = c
                n += x[m, c] != 0
            count[m] = n


@kernel_with_memory
def forward_kernel(first, last, x, index, count, wide, starts, geometry, step, y):
    """For each nonzero input: out[the outputs it reaches] += x wide[its row of taps]. x (B, H, W, C), y (B, Ho, Wo C_out).

    Block by block of `step` output rows, kernel row by kernel row, so that the block and the weights stay in the cache. `out`
    has kw pixels to spare on both sides for outputs that do not exist.
    """
    kh, kw, stride, padding, Ho, Wo = geometry
    B, H, W, C = x.shape
    C_out = y.shape[2] // Wo
    length, zero = kw * C_out, x.dtype.type(0)
    start, factor = np.empty(C + 3, np.int64), np.empty(C + 3, x.dtype)
    out = aligned_jitted(step, (Wo + 2 * kw) * C_out, y)
    for block in range(first, last):
        begin, end = block * step, min((block + 1) * step, B * Ho)
        out[:] = zero
        for p in range(kh):
            weights = wide[p].reshape(-1)
            for row in range(begin, end):
                b, h = row // Ho, row % Ho * stride + p - padding
                if h < 0 or h >= H:
                    continue
                for w in range(W):
                    j, a, e = first_output(w, starts, geometry)
                    if e == a or j <= -kw or j >= Wo:
                        continue
                    m = (b * H + h) * W + w
                    n = count[m]
                    for k in range(n):
                        start[k], factor[k] = index[m, k] * length + a * C_out, x[b, h, w, index[m, k]]
                    while n % 4 != 0:
                        start[n], factor[n] = 0, zero
                        n += 1
                    target = out[row - begin, (j + kw) * C_out : (j + kw + e - a) * C_out]
                    add_rows(target, weights, start, factor, n)
        for row in range(begin, end):
            source, target = out[row - begin, kw * C_out : (kw + Wo) * C_out], y[row // Ho, row % Ho]
            for k in range(target.size):
                target[k] = source[k]


@inner
def list_by_channel(x, channels, pixels, position, value, count):
    """The nonzero entries of pixels a..e-1 of x (P, C), channel by channel: positions counted from a, and values."""
    count[:] = 0
    for m in range(pixels[0], pixels[1]):
        for k in range(channels[1] - channels[0]):
            n, v = count[k], x[m, channels[0] + k]
            position[k, n] = m - pixels[0]
            value[k, n] = v
            count[k] = n + (v != 0)


@inner
def starts_of_outputs(rows, p, r, starts, geometry, shape, out):
    """For each pixel of input rows a..e-1: where in the padded dy the outputs begin that it reaches through kernel row p
    and the taps of remainder r; -1 if there are none."""
    _, kw, stride, padding, Ho, Wo = geometry
    H, W, C_out = shape
    for row in range(rows[0], rows[1]):
        b, i = row // H, row % H + padding - p
        inside = i >= 0 and i % stride == 0 and i // stride < Ho
        for w in range(W):
            j, _, _ = first_output(w, starts, geometry)
            reached = inside and (w + padding) % stride == r and -kw < j < Wo
            line = (b * Ho + i // stride) * (Wo + 2 * kw)
            out[(row - rows[0]) * W + w] = (line + j + kw) * C_out if reached else -1


@kernel_with_memory
def dweight_kernel(first, last, x, padded, starts, geometry, shape, step, group, dwide):
    """For each nonzero input: dwide[its row of taps] += x * the dy it reaches. Threads share the input channels out.

    x (B H W, C), padded: dy with kw columns of zeros on both sides, shape (H, W, C_out), dwide (kh, C, kw C_out). Block by
    block of input rows, so that a block of dy stays in the cache.
    """
    kh, _, stride, _, _, _ = geometry
    H, W, C_out = shape
    P, C = x.shape
    zero = x.dtype.type(0)
    positions, values = np.empty((group, step * W), np.int32), np.empty((group, step * W), x.dtype)
    count, out = np.empty(group, np.int64), np.empty(step * W, np.int64)
    start, factor = np.empty(step * W + 3, np.int64), np.empty(step * W + 3, x.dtype)
    for part in range(first, last):
        channels = (part * group, min((part + 1) * group, C))
        for begin in range(0, P // W, step):
            end = min(begin + step, P // W)
            list_by_channel(x, channels, (begin * W, end * W), positions, values, count)
            for p in range(kh):
                for r in range(stride):
                    a, e = starts[r] * C_out, starts[r + 1] * C_out
                    if e == a:
                        continue
                    starts_of_outputs((begin, end), p, r, starts, geometry, shape, out)
                    for k in range(channels[1] - channels[0]):
                        n = 0
                        for m in range(count[k]):
                            start[n], factor[n] = out[positions[k, m]], values[k, m]
                            n += start[n] >= 0
                        while n % 4 != 0:
                            start[n], factor[n] = 0, zero
                            n += 1
                        add_rows(dwide[p, channels[0] + k, a:e], padded, start, factor, n)


@kernel
def copy_kernel(first, last, source, begin, target, to, length):
    """target[to[i] :] = source[begin[i] :], `length` numbers each, for all i; both flat."""
    for i in range(first, last):
        a, b = source[begin[i] : begin[i] + length], target[to[i] : to[i] + length]
        for k in range(length):
            b[k] = a[k]


def copy(source, begin, target, to, length):
    """`copy_kernel` of arrays of any shape."""
    run(copy_kernel, len(begin), source.reshape(-1), begin, target.reshape(-1), to, length, grain=grain_of(length))


def taps_side_by_side(shape, order):
    """Where each row of C_out numbers begins in a weight (kh, kw, C_in, C_out), and where in the same weight as
    (kh, C_in, kw C_out) with the taps in this order."""
    kh, kw, C, C_out = shape
    p, k, c = np.ogrid[:kh, :kw, :C]
    return (((p * kw + order[k]) * C + c) * C_out).ravel(), (((p * C + c) * kw + k) * C_out).ravel()


def forward(x, weight, geometry):
    """y (B, Ho, Wo, C_out) of x (B, H, W, C_in); geometry (kh, kw, stride, padding, Ho, Wo)."""
    kh, kw, C, C_out = weight.shape
    order, starts = taps(kw, geometry[2])
    wide = aligned(kh * C, kw * C_out, x).reshape(kh, C, -1)
    narrow_rows, wide_rows = taps_side_by_side(weight.shape, order)
    copy(weight, narrow_rows, wide, wide_rows, C_out)
    pixels = x.reshape(-1, C)
    index, count = np.empty((len(pixels), C), np.int32), np.empty(len(pixels), np.int64)
    run(list_kernel, pieces(len(pixels), POSITIONS), pixels, index, count)
    y = np.empty((len(x), *geometry[4:], C_out), x.dtype)
    _, Ho, Wo, _ = y.shape
    step = max(1, POSITIONS // Wo)
    blocks = pieces(len(x) * Ho, step)
    run(forward_kernel, blocks, x, index, count, wide, starts, geometry, step, y.reshape(*y.shape[:2], -1))
    return y


def dweight(x, dy, geometry):
    """The weight gradient (kh, kw, C_in, C_out) of x (B, H, W, C_in) and dy (B, Ho, Wo, C_out)."""
    (kh, kw, stride, _, Ho, Wo), (_, H, W, C), C_out = geometry, x.shape, dy.shape[3]
    order, starts = taps(kw, stride)
    margin, length = kw * C_out, Wo * C_out
    padded = aligned(len(dy) * Ho, length + 2 * margin, dy)
    padded[:, :margin] = padded[:, margin + length :] = 0
    rows = np.arange(len(padded))
    copy(dy, rows * length, padded, rows * padded.shape[1] + margin, length)
    dwide = aligned(kh * C, kw * C_out, x).reshape(kh, C, -1)
    dwide[:] = 0
    step, group = max(1, POSITIONS // W), max(1, min(32, C // 4))
    pixels = x.reshape(-1, C)
    shapes = starts, geometry, (H, W, C_out), step, group
    run(dweight_kernel, pieces(C, group), pixels, padded.reshape(-1), *shapes, dwide)
    gradient = np.empty((kh, kw, C, C_out), x.dtype)
    narrow_rows, wide_rows = taps_side_by_side(gradient.shape, order)
    copy(dwide, wide_rows, gradient, narrow_rows, C_out)
    return gradient
