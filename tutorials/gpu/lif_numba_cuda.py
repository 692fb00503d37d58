"""LIF-AGL as numba.cuda kernels: tdBN's affine fused into the forward pass, adaptive width, tau's gradient over blocks.

    u_t = tau v_{t-1} + a_c (z_t - mean_c) + beta_c;   s_t = [u_t >= V_th];   v_t = u_t (1 - s_t)

    T timesteps, M neurons (samples, space and channels flattened, channels last), C channels, R = T M / C rows
    z (T, M) what the synapse gave; u (T, M) potential before firing; s (T, M) spikes; norm (4, C) mean, 1/std, a, beta

One thread per neuron with the loop over time inside: v and dv never leave their registers, and thread m reads address
t M + m, so that a warp's accesses are contiguous. Forward moves 3 T M numbers (z, u, s), backward 3 T M (ds, u, du):
spikes and v are recomputed from u. Every launch has THREADS threads per block.
"""

import math

import numpy as np
from numba import cuda, float64

THREADS = 128
ROWS = 64  # rows that one thread adds up for its channel


def allocate(shape, dtype):
    """Device memory as it comes: whatever was in it is still there."""
    return cuda.device_array(shape, dtype)


def flat(a):
    """(T, ...) as (T, M) on the device, row by row whatever the strides of a: the kernels count on it."""
    return cuda.to_device(np.ascontiguousarray(a).reshape(len(a), -1))


def blocks_for(n):
    return (n + THREADS - 1) // THREADS


@cuda.jit(device=True)
def block_sum(value):
    """Sum over one block's threads by halves. Every thread must call it, those beyond the last neuron with 0."""
    shared = cuda.shared.array(THREADS, float64)
    i = cuda.threadIdx.x
    shared[i] = value
    cuda.syncthreads()
    half = THREADS // 2
    while half > 0:
        if i < half:
            shared[i] += shared[i + half]
        cuda.syncthreads()
        half //= 2
    return shared[0]


@cuda.jit
def prepare_kernel(leak, learned, gamma, scale, tau, width):
    """tau of PLIF's w (or of a fixed leak), and kappa_t (Theorem 2). One block; sums and the root in float64."""
    i = cuda.threadIdx.x
    total = 0.0
    for c in range(i, gamma.size, THREADS):
        total += gamma[c]
    total = block_sum(total)
    if i == 0:
        p = float64(leak[0])
        if learned:
            p = 1.0 / (1.0 + math.exp(-p))
        tau[0] = p
        if gamma.size > 0:  # otherwise the widths were given
            kappa = 2.0 * (total / gamma.size) * scale if total > 0.0 else 0.0
            for t in range(width.size):
                width[t] = kappa if t == 0 else kappa * math.sqrt(1.0 + p * p)


@cuda.jit
def forward_kernel(z, norm, tau, v_th, soft, u, s):
    m = cuda.grid(1)
    T, M = z.shape
    if m >= M:
        return
    c = m % norm.shape[1]
    mean, a, beta, leak = norm[0, c], norm[2, c], norm[3, c], tau[0]
    v = u.dtype.type(0)
    for t in range(T):
        x = a * (z[t, m] - mean) + beta  # tdBN's affine: x is never stored
        ut = leak * v + x
        fired = ut >= v_th
        u[t, m] = ut
        s[t, m] = fired
        v = ut
        if fired:
            v = ut - v_th if soft else u.dtype.type(0)


@cuda.jit
def backward_kernel(ds, u, width, tau, v_th, flags, du, partial):
    """du_t for t = T..1, and each block's share of sum(du_t v_{t-1}). flags: soft, detach."""
    m = cuda.grid(1)
    T, M = u.shape
    soft, detach = flags
    leak = tau[0]
    zero, one = u.dtype.type(0), u.dtype.type(1)
    dtau = zero
    if m < M:
        dv = zero
        for k in range(T):
            t = T - 1 - k
            ut = u[t, m]
            h = one / width[t] if abs(ut - v_th) < width[t] / u.dtype.type(2) else zero  # width 0: never inside
            ds_total = ds[t, m]
            if not detach:
                ds_total -= (v_th if soft else ut) * dv  # through the reset
            kept = dv if soft or ut < v_th else zero
            du_t = kept + ds_total * h
            du[t, m] = du_t
            if t > 0:
                v_prev = u[t - 1, m]
                if v_prev >= v_th:
                    v_prev = v_prev - v_th if soft else zero
                dtau += du_t * v_prev
            dv = leak * du_t
    total = block_sum(dtau)
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x, 0] = total  # no atomics: the same bits on every run


@cuda.jit
def sum_kernel(partial, out):
    """out[k] = sum of partial[:, k], one block per k: the second stage of every sum over blocks."""
    i, k = cuda.threadIdx.x, cuda.blockIdx.x
    total = 0.0
    for row in range(i, partial.shape[0], THREADS):
        total += partial[row, k]
    total = block_sum(total)
    if i == 0:
        out[k] = total


@cuda.jit
def leak_gradient_kernel(dtau, tau, learned, out):
    """PLIF: dw = dtau tau (1 - tau)."""
    if cuda.grid(1) == 0:
        p = float64(tau[0])
        out[0] = dtau[0] * p * (1.0 - p) if learned else dtau[0]


@cuda.jit
def channel_sums_kernel(a, z, norm, partial):
    """Per channel, over ROWS rows: sum(a), then sum(a x_hat), in float64. Chunks lie in x: y ends at 65535."""
    chunk, c = cuda.blockIdx.x, cuda.blockIdx.y * THREADS + cuda.threadIdx.x
    rows, C = z.shape
    if c >= C:
        return
    plain, weighted = 0.0, 0.0
    last = (chunk + 1) * ROWS if (chunk + 1) * ROWS < rows else rows
    for r in range(chunk * ROWS, last):
        plain += a[r, c]
        weighted += float64(a[r, c]) * ((float64(z[r, c]) - norm[0, c]) * norm[1, c])
    partial[chunk, c] = plain
    partial[chunk, C + c] = weighted


@cuda.jit
def statistics_kernel(sums, rows, eps, norm):
    """mean and 1/sqrt(var + eps) from sum(z) and sum(z^2). One pass; float64 has the digits that the square costs."""
    c = cuda.grid(1)
    C = norm.shape[1]
    if c < C:
        mean = sums[c] / rows
        var = sums[C + c] / rows - mean * mean
        norm[0, c] = mean
        norm[1, c] = 1.0 / math.sqrt((var if var > 0.0 else 0.0) + eps)


@cuda.jit
def affine_kernel(gamma, beta, scale, norm):
    """a = gamma alpha V_th / std: what the forward kernel multiplies with."""
    c = cuda.grid(1)
    if c < gamma.size:
        norm[2, c] = float64(gamma[c]) * scale * norm[1, c]
        norm[3, c] = beta[c]


@cuda.jit
def norm_backward_kernel(dx, z, norm, sums, share, dz):
    """dz = a (dx - mean(dx) - x_hat mean(dx x_hat)); share is 1/R, or 0 in evaluation."""
    i = cuda.grid(1)
    C = dx.shape[1]
    r, c = i // C, i % C
    if r < dx.shape[0]:
        mean_dx, mean_dx_x_hat = z.dtype.type(sums[c] * share), z.dtype.type(sums[C + c] * share)
        x_hat = (z[r, c] - norm[0, c]) * norm[1, c]
        dz[r, c] = norm[2, c] * (dx[r, c] - mean_dx - x_hat * mean_dx_x_hat)


def column_sums(partial):
    """Sum over the first axis, on the device."""
    out = allocate(partial.shape[1], np.float64)
    sum_kernel[partial.shape[1], THREADS](partial, out)
    return out


def channel_sums(a, z, norm):
    """sum(a) and sum(a x_hat) per channel, (2 C,) float64; a and z (rows, C)."""
    rows, C = z.shape
    chunks = (rows + ROWS - 1) // ROWS
    partial = allocate((chunks, 2 * C), np.float64)
    channel_sums_kernel[(chunks, blocks_for(C)), THREADS](a, z, norm, partial)
    return column_sums(partial)


def norm_forward(z, gamma, beta, scale, eps, running=None):
    """norm (4, C) for `forward_kernel`, in z's dtype; z (R, C), running = (mean, var) in evaluation."""
    R, C = z.shape
    start = np.zeros((4, C), z.dtype)
    start[1] = 1.0
    if running is not None:
        start[0], start[1] = running[0], 1.0 / np.sqrt(np.asarray(running[1], np.float64) + eps)
    norm = cuda.to_device(start)
    if running is None:
        statistics_kernel[blocks_for(C), THREADS](channel_sums(z, z, norm), R, eps, norm)
    affine_kernel[blocks_for(C), THREADS](gamma, beta, scale, norm)
    return norm


def norm_backward(dx, z, norm, training=True):
    """dz (R, C) and the sums (2 C,): dbeta, then sum(dx x_hat), which dgamma is alpha V_th times."""
    R, C = z.shape
    sums = channel_sums(dx, z, norm)
    dz = allocate(z.shape, z.dtype)
    norm_backward_kernel[blocks_for(R * C), THREADS](dx, z, norm, sums, 1.0 / R if training else 0.0, dz)
    return dz, sums


def prepare(leak, learned, width, gamma, scale, T, dtype):
    """tau (1,) and kappa (T,) on the device; a width that is given stays as it is."""
    tau = allocate(1, dtype)
    if width is None:
        width = allocate(T, dtype)
    else:
        gamma = cuda.to_device(np.zeros(0, dtype))
    prepare_kernel[1, THREADS](leak, learned, gamma, scale, tau, width)
    return tau, width


def forward(z, norm, tau, v_th, soft=False):
    """u, s (T, M) of device arrays."""
    u, s = allocate(z.shape, z.dtype), allocate(z.shape, z.dtype)
    forward_kernel[blocks_for(z.shape[1]), THREADS](z, norm, tau, z.dtype.type(v_th), soft, u, s)
    return u, s


def backward(ds, u, width, tau, v_th, learned=False, soft=False, detach=False):
    """du (T, M) and the leak's gradient (1,), of w if it is learned."""
    blocks = blocks_for(u.shape[1])
    du, partial, dleak = allocate(u.shape, u.dtype), allocate((blocks, 1), np.float64), allocate(1, np.float64)
    backward_kernel[blocks, THREADS](ds, u, width, tau, u.dtype.type(v_th), (soft, detach), du, partial)
    leak_gradient_kernel[1, 1](column_sums(partial), tau, learned, dleak)
    return du, dleak
