"""Winograd's F(2x2, 3x3): a 3x3 convolution of stride 1 with 2.25 times fewer multiplications.

In one dimension two outputs of a filter g = (g0, g1, g2) on the inputs d = (d0, d1, d2, d3) are

    y0 = d0 g0 + d1 g1 + d2 g2,    y1 = d1 g0 + d2 g1 + d3 g2:    six products. Four are enough:

    m0 = (d0 - d2) g0                        y0 = m0 + m1 + m2
    m1 = (d1 + d2) (g0 + g1 + g2) / 2        y1 = m1 - m2 - m3
    m2 = (d2 - d1) (g0 - g1 + g2) / 2
    m3 = (d1 - d3) g2

or y = A^T ((G g) * (B^T d)) with * element by element. In two dimensions, rows first and columns next, a tile of 4x4
inputs gives 2x2 outputs by 16 products in place of 36. Summed over the input channels, the products at place k of the
16 are one matrix product for all tiles: V[k] (tiles, C_in) @ U[k] (C_in, C_out), which is what BLAS is fastest at.

    forward   y  = A^T (U * V) A         U = G weight G^T (per pair of channels), V = B^T x B (per tile and channel)
    dx        the forward of dy with the weight turned by 180 degrees and its two channel axes exchanged. Turning
              exchanges the places 0 and 3 of U along both axes and leaves 1 and 2, so U itself is used, read in that order;
              with few channels a turned copy of the weight costs less
    dweight   = G^T (sum over tiles of V^T (A dy A^T)) G, the chain rule through the forward's three steps

All constants are 0, 1 and 1/2: on dyadic numbers that fit, nothing is rounded. Otherwise an output's rounding error is
relative to the inputs of its whole tile, not to its own nine.

Source: Lavin and Gray, Fast Algorithms for Convolutional Neural Networks, CVPR 2016; Winograd 1980.
"""

import numpy as np

from agl_ref.engine.jit import inner, kernel_with_memory, rows_at_once
from agl_ref.engine.parallel import run

CHANNELS = 48  # fewer channels than this on either side: the additions cost more than the products saved
GAIN = 1.7  # of the 2.25; odd image sizes waste part of their last tiles
PLACES = 16  # of a tile
GROUP = 192  # tiles worked on together, or as many as channels: more leave the cache, fewer are too little work
TRANSPOSE = 2**14  # up to so many pairs of channels dx takes a turned copy of the weights: small products gain by it
TURNED = (3, 1, 2, 0)  # where U's places go when the weight is turned


def pays(x_shape, weight_shape, stride, padding):
    """Whether this convolution is computed with tiles: 3x3, stride 1, many channels, an image that tiles fill."""
    kh, kw, C_in, C_out = weight_shape
    if (kh, kw, stride) != (3, 3, 1) or padding > 2 or min(C_in, C_out) < CHANNELS:
        return False
    B, H, W, _ = x_shape
    Ho, Wo = H + 2 * padding - 2, W + 2 * padding - 2
    tiles = (Ho + 1) // 2 * ((Wo + 1) // 2)
    return 9 * Ho * Wo >= GAIN * PLACES * tiles and B * tiles >= 128


# --- the five small matrices, each applied to rows of numbers at once -------------------------------------------------


@inner
def transform_input(d0, d1, d2, d3, v0, v1, v2, v3):
    """v = B^T d."""
    for k in range(v0.size):
        v0[k] = d0[k] - d2[k]
        v1[k] = d1[k] + d2[k]
    for k in range(v0.size):
        v2[k] = d2[k] - d1[k]
        v3[k] = d1[k] - d3[k]


@inner
def transform_weight(g0, g1, g2, u0, u1, u2, u3):
    """u = G g."""
    half = g0.dtype.type(0.5)
    for k in range(u0.size):
        u0[k] = g0[k]
        u1[k] = half * (g0[k] + g1[k] + g2[k])
        u2[k] = half * (g0[k] - g1[k] + g2[k])
        u3[k] = g2[k]


@inner
def transform_weight_back(u0, u1, u2, u3, g0, g1, g2):
    """g = G^T u."""
    half = g0.dtype.type(0.5)
    for k in range(g0.size):
        g0[k] = u0[k] + half * (u1[k] + u2[k])
        g1[k] = half * (u1[k] - u2[k])
        g2[k] = half * (u1[k] + u2[k]) + u3[k]


@inner
def transform_output(m0, m1, m2, m3, y0, y1):
    """y = A^T m."""
    for k in range(y0.size):
        y0[k] = m0[k] + m1[k] + m2[k]
        y1[k] = m1[k] - m2[k] - m3[k]


@inner
def transform_output_back(y0, y1, m0, m1, m2, m3):
    """m = A y."""
    for k in range(m0.size):
        m0[k] = y0[k]
        m1[k] = y0[k] + y1[k]
        m2[k] = y0[k] - y1[k]
        m3[k] = -y1[k]


# --- kernels: rows of an image first, then its columns; `row` is the group's first row of tiles -----------------------


@inner
def transform_images(x, b, h, blank, part, mid, C, tile, V):
    """V of a row of tiles: of the four rows of image b from h on. Of mid (4, ...) `part` is what is in the image."""
    H = x.shape[1]
    d0, d1 = x[b, h] if 0 <= h < H else blank, x[b, h + 1] if 0 <= h + 1 < H else blank
    d2, d3 = x[b, h + 2] if 0 <= h + 2 < H else blank, x[b, h + 3] if 0 <= h + 3 < H else blank
    transform_input(d0, d1, d2, d3, part[0], part[1], part[2], part[3])
    for a in range(4):
        for j in range(mid.shape[1] // (2 * C) - 1):
            d, k = mid[a, 2 * j * C : (2 * j + 4) * C], tile + j
            v0, v1, v2, v3 = V[4 * a, k], V[4 * a + 1, k], V[4 * a + 2, k], V[4 * a + 3, k]
            transform_input(d[:C], d[C : 2 * C], d[2 * C : 3 * C], d[3 * C :], v0, v1, v2, v3)


@kernel_with_memory
def inputs_kernel(first, last, x, row, tiles, padding, V):
    """V[4 a + c, tile] = (B^T x B)[a, c]; x (B, H, W C), tiles = (tile rows and columns of an image, C)."""
    th, tw, C = tiles
    start, wanted = padding * C, (2 * tw + 2) * C
    width = min(x.shape[2], wanted - start)
    blank = np.zeros(x.shape[2], x.dtype)
    mid = np.zeros((4, wanted), x.dtype)
    part = mid[:, start : start + width]
    for r in range(first, last):
        transform_images(x, (row + r) // th, (row + r) % th * 2 - padding, blank, part, mid, C, r * tw, V)


@inner
def transform_products(M, tile, mid, out, target):
    """The two rows of the image y that a row of tiles gives; `target` is an image's rows from the first of the two on."""
    C = M.shape[2]
    for j in range(out.shape[1] // (2 * C)):
        for c in range(4):
            m0, m1, m2, m3 = M[c, tile + j], M[4 + c, tile + j], M[8 + c, tile + j], M[12 + c, tile + j]
            transform_output(m0, m1, m2, m3, mid[0, c], mid[1, c])
        for p in range(2):
            m, place = mid[p], out[p, 2 * j * C : (2 * j + 2) * C]
            transform_output(m[0], m[1], m[2], m[3], place[:C], place[C:])
    for p in range(min(2, len(target))):
        for k in range(target.shape[1]):
            target[p, k] = out[p, k]


@kernel_with_memory
def outputs_kernel(first, last, M, row, tiles, y):
    """y's 2x2 of each tile = A^T M A; y (B, Ho, Wo C). Tiles may reach one row or column over its edge."""
    th, tw, C = tiles
    mid = np.empty((2, 4, C), y.dtype)
    out = np.empty((2, 2 * tw * C), y.dtype)
    for r in range(first, last):
        transform_products(M, r * tw, mid, out, y[(row + r) // th, (row + r) % th * 2 :])


@inner
def transform_gradients(dy, b, h, blank, part, mid, C, tile, Z):
    """Z of a row of tiles: of the two rows of image b from h on."""
    y0, y1 = dy[b, h], dy[b, h + 1] if h + 1 < dy.shape[1] else blank
    transform_output_back(y0, y1, part[0], part[1], part[2], part[3])
    for a in range(4):
        for j in range(mid.shape[1] // (2 * C)):
            d, k = mid[a, 2 * j * C : (2 * j + 2) * C], tile + j
            z0, z1, z2, z3 = Z[4 * a, k], Z[4 * a + 1, k], Z[4 * a + 2, k], Z[4 * a + 3, k]
            transform_output_back(d[:C], d[C:], z0, z1, z2, z3)


@kernel_with_memory
def output_gradients_kernel(first, last, dy, row, tiles, Z):
    """Z[4 a + c, tile] = (A dy A^T)[a, c]; dy (B, Ho, Wo C)."""
    th, tw, C = tiles
    blank = np.zeros(dy.shape[2], dy.dtype)
    mid = np.zeros((4, 2 * tw * C), dy.dtype)
    part = mid[:, : dy.shape[2]]
    for r in range(first, last):
        transform_gradients(dy, (row + r) // th, (row + r) % th * 2, blank, part, mid, C, r * tw, Z)


@kernel_with_memory
def weights_kernel(first, last, weight, U):
    """U[4 a + c] = (G weight G^T)[a, c]; weight (3, 3, C_in, C_out)."""
    mid = np.empty((4, 3, weight.shape[3]), weight.dtype)
    for i in range(first, last):
        for q in range(3):
            g0, g1, g2 = weight[0, q, i], weight[1, q, i], weight[2, q, i]
            transform_weight(g0, g1, g2, mid[0, q], mid[1, q], mid[2, q], mid[3, q])
        for a in range(4):
            g, k = mid[a], 4 * a
            transform_weight(g[0], g[1], g[2], U[k, i], U[k + 1, i], U[k + 2, i], U[k + 3, i])


@kernel_with_memory
def weight_gradients_kernel(first, last, dU, dweight):
    """dweight = G^T dU G."""
    mid = np.empty((3, 4, dweight.shape[3]), dweight.dtype)
    for i in range(first, last):
        for c in range(4):
            u0, u1, u2, u3 = dU[c, i], dU[4 + c, i], dU[8 + c, i], dU[12 + c, i]
            transform_weight_back(u0, u1, u2, u3, mid[0, c], mid[1, c], mid[2, c])
        for p in range(3):
            u = mid[p]
            transform_weight_back(u[0], u[1], u[2], u[3], dweight[p, 0, i], dweight[p, 1, i], dweight[p, 2, i])


@kernel_with_memory
def products_kernel(first, last, V, U, turned, step, M):
    """M[k] = V[k] @ U[k], or with U turned and its channels exchanged, `step` tiles at a time."""
    for k in range(first, last):
        turned_k = TURNED[k // 4] * 4 + TURNED[k % 4]
        for a in range(0, V.shape[1], step):
            b = min(a + step, V.shape[1])
            if turned:
                np.dot(V[k, a:b], U[turned_k].T, M[k, a:b])
            else:
                np.dot(V[k, a:b], U[k], M[k, a:b])


@kernel_with_memory
def correlations_kernel(first, last, V, Z, step, dU):
    """dU[k] += V[k]^T @ Z[k], `step` tiles at a time."""
    product = np.empty(dU.shape[1:], V.dtype)
    for k in range(first, last):
        for a in range(0, V.shape[1], step):
            b = min(a + step, V.shape[1])
            np.dot(V[k, a:b].T, Z[k, a:b], product)
            for i in range(len(product)):
                term, total = product[i], dU[k, i]
                for o in range(term.size):
                    total[o] += term[o]


# --- forward and the two gradients; x (B, H, W, C_in), y (B, Ho, Wo, C_out), weight (3, 3, C_in, C_out) ---------------


def tile_groups(y_shape, channels):
    """The tile rows and columns of one image, and (first, number of tiles) of each group of tile rows."""
    th, tw = (y_shape[1] + 1) // 2, (y_shape[2] + 1) // 2
    rows = y_shape[0] * th
    step = max(1, max(GROUP, channels) // tw)
    return (th, tw), [(first, min(step, rows - first) * tw) for first in range(0, rows, step)]


def places(groups, channels, dtype):
    """For each group an array (16, its tiles, channels); they share their memory."""
    memory = np.empty(PLACES * groups[0][1] * channels, dtype)
    return [memory[: PLACES * n * channels].reshape(PLACES, n, channels) for _, n in groups]


def image_rows(images):
    return images.reshape(*images.shape[:2], -1)


def transform(weight):
    """U = G weight G^T, (16, C_in, C_out)."""
    U = np.empty((PLACES, *weight.shape[2:]), weight.dtype)
    run(weights_kernel, len(weight[0, 0]), weight, U, grain=16)
    return U


def forward(x, U, padding, turned=False):
    """y, from the transformed weight; `turned`: the weight is turned by 180 degrees, its channel axes exchanged."""
    B, H, W, C_in = x.shape
    C_out = U.shape[1] if turned else U.shape[2]
    y = np.empty((B, H + 2 * padding - 2, W + 2 * padding - 2, C_out), x.dtype)
    tiles, groups = tile_groups(y.shape, max(C_in, C_out))

    def convolve(first, last):
        mine = groups[first:last]
        for (row, n), V, M in zip(mine, places(mine, C_in, x.dtype), places(mine, C_out, x.dtype), strict=True):
            rows = n // tiles[1]
            run(inputs_kernel, rows, image_rows(x), row, (*tiles, C_in), padding, V)
            run(products_kernel, PLACES, V, U, turned, rows_at_once(C_in * C_out, n), M)
            run(outputs_kernel, rows, M, row, (*tiles, C_out), image_rows(y))

    # Many small groups: a thread takes one from input to output, in its own cache. Otherwise threads share each group.
    run(convolve, len(groups), grain=2 if max(C_in, C_out) <= GROUP else len(groups))
    return y


def dx(dy, weight, padding):
    """The input gradient: a forward of dy, with what padding 0..2 leaves of the full 2."""
    if weight.shape[2] * weight.shape[3] > TRANSPOSE:
        return forward(dy, transform(weight), 2 - padding, turned=True)
    turned = np.ascontiguousarray(weight[::-1, ::-1].swapaxes(2, 3))
    return forward(dy, transform(turned), 2 - padding)


def dweight(x, dy, padding):
    """The weight gradient (3, 3, C_in, C_out)."""
    C_in, C_out = x.shape[3], dy.shape[3]
    dU = np.zeros((PLACES, C_in, C_out), x.dtype)
    tiles, groups = tile_groups(dy.shape, max(C_in, C_out))
    for (row, n), V, Z in zip(groups, places(groups, C_in, x.dtype), places(groups, C_out, x.dtype), strict=True):
        rows = n // tiles[1]
        run(inputs_kernel, rows, image_rows(x), row, (*tiles, C_in), padding, V)
        run(output_gradients_kernel, rows, image_rows(dy), row, (*tiles, C_out), Z)
        run(correlations_kernel, PLACES, V, Z, rows_at_once(C_in * C_out, n), dU)
    del V, Z  # their memory, before more is taken
    gradient = np.empty((3, 3, C_in, C_out), x.dtype)
    run(weight_gradients_kernel, C_in, dU, gradient, grain=16)
    return gradient
