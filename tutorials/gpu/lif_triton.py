"""LIF-AGL as Triton kernels in one autograd.Function: tdBN's affine fused into the forward pass, tau's gradient over blocks.

    u_t = tau v_{t-1} + a_c (z_t - mean_c) + beta_c;   s_t = [u_t >= V_th];   v_t = u_t (1 - s_t)

    T timesteps, M neurons (samples, space and channels flattened, channels last), C channels, R = T M / C rows
    z (T, M) what the synapse gave; u (T, M) potential before firing; s (T, M) spikes; norm (4, C) mean, 1/std, a, beta in ACC

One program per BLOCK neurons, the loop over time inside: v and dv stay in registers. Spikes and v are recomputed from u.
V_th is a constexpr: a Python float that is passed as an argument arrives as float32, whatever the tensors are. Loads are
widened to ACC (float32, or float64 for float64) and rounded where they are stored, u before it is compared.
"""

import torch
import triton
import triton.language as tl

BLOCK = 256  # neurons of one program
ROWS, CHANNELS = 64, 32  # one program's tile in the sums per channel


def allocate(like, *shape, dtype=None):
    """Device memory as it comes: whatever was in it is still there."""
    return like.new_empty(shape or like.shape, dtype=dtype or like.dtype)


@triton.jit
def prepare_kernel(
    leak, gamma, tau, width, C, T,
    ACC: tl.constexpr, SCALE: tl.constexpr, LEARNED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """tau of PLIF's w (or of a fixed leak), and kappa_t (Theorem 2). One program; sums and the root in float64."""
    total = tl.zeros((BLOCK,), tl.float64)
    for start in range(0, C, BLOCK):
        c = start + tl.arange(0, BLOCK)
        total += tl.load(gamma + c, mask=c < C, other=0.0).to(tl.float64)
    p = tl.load(leak).to(tl.float64)
    if LEARNED:
        p = 1.0 / (1.0 + tl.exp(-p))
    tl.store(tau, p.to(ACC))
    if C > 0:  # otherwise the widths were given
        first = 2.0 * SCALE * tl.maximum(tl.sum(total, 0) / C, 0.0)
        later = first * tl.sqrt(1.0 + p * p)
        for t in range(T):
            tl.store(width + t, tl.where(t == 0, first, later).to(ACC))


@triton.jit
def forward_kernel(
    z, norm, tau, u, s, T, M, C,
    ACC: tl.constexpr, V_TH: tl.constexpr, NORM: tl.constexpr, SOFT: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    m = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = m < M
    leak = tl.load(tau).to(ACC)
    if NORM:
        c = m % C
        mean, a = tl.load(norm + c), tl.load(norm + 2 * C + c)
        beta = tl.load(norm + 3 * C + c)
    v = tl.zeros((BLOCK,), ACC)
    row = m.to(tl.int64)  # t M + m passes 2^31 sooner than one thinks
    for _ in range(T):
        x = tl.load(z + row, mask=inside, other=0.0).to(ACC)
        if NORM:  # tdBN's affine: x is never stored
            x = a * (x - mean) + beta
        ut = (leak * v + x).to(u.dtype.element_ty).to(ACC)
        fired = ut >= V_TH
        tl.store(u + row, ut, mask=inside)
        tl.store(s + row, fired.to(ACC), mask=inside)
        v = tl.where(fired, ut - V_TH if SOFT else 0.0, ut)
        row += M


@triton.jit
def reciprocal(a):
    """1 / a to the nearest number. On a GPU float32's `/` may be 2 ulps off, even where 1 / a is exact; float64's is not."""
    return tl.div_rn(1.0, a) if a.dtype == tl.float32 else 1.0 / a


@triton.jit
def backward_kernel(
    ds, u, width, tau, du, partial, T, M,
    ACC: tl.constexpr, V_TH: tl.constexpr, SOFT: tl.constexpr, DETACH: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """du_t for t = T..1, and each program's share of sum(du_t v_{t-1})."""
    m = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = m < M
    leak = tl.load(tau).to(ACC)
    dv = tl.zeros((BLOCK,), ACC)
    dtau = tl.zeros((BLOCK,), ACC)
    row = (T - 1) * tl.cast(M, tl.int64) + m
    ut = tl.load(u + row, mask=inside, other=0.0).to(ACC)
    for k in range(T):
        kappa = tl.load(width + T - 1 - k).to(ACC)
        height = reciprocal(tl.where(kappa > 0, kappa, 1.0))
        h = tl.where(tl.abs(ut - V_TH) < 0.5 * kappa, height, 0.0)  # width 0: nobody is inside
        ds_total = tl.load(ds + row, mask=inside, other=0.0).to(ACC)
        if not DETACH:
            ds_total -= (V_TH if SOFT else ut) * dv  # through the reset
        kept = dv if SOFT else tl.where(ut >= V_TH, 0.0, dv)
        du_t = kept + ds_total * h
        tl.store(du + row, du_t, mask=inside)
        before = tl.load(u + row - M, mask=inside & (row >= M), other=0.0).to(ACC)  # v_0 = 0
        v_prev = tl.where(before >= V_TH, before - V_TH if SOFT else 0.0, before)
        dtau += du_t * v_prev
        dv = leak * du_t
        ut = before
        row -= M
    dtau = tl.where(inside, dtau, 0.0)
    tl.store(partial + tl.program_id(0), tl.sum(dtau, 0))  # no atomics: the same bits on every run


@triton.jit
def channel_sums_kernel(dx, z, norm, partial, R, C, ROWS: tl.constexpr, CHANNELS: tl.constexpr):
    """Per channel, over ROWS rows: sum(dx), then sum(dx x_hat). Axis 0: chunks of rows, axis 1: channels."""
    r = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    c = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)[None, :]
    inside = (r < R) & (c < C)
    at = r.to(tl.int64) * C + c
    mean, inv_std = tl.load(norm + c, mask=c < C, other=0.0), tl.load(norm + C + c, mask=c < C, other=0.0)
    d = tl.load(dx + at, mask=inside, other=0.0).to(norm.dtype.element_ty)
    x_hat = (tl.load(z + at, mask=inside, other=0.0).to(norm.dtype.element_ty) - mean) * inv_std
    out = partial + tl.program_id(0) * 2 * C + c
    tl.store(out, tl.sum(d, 0)[None, :], mask=c < C)
    tl.store(out + C, tl.sum(d * x_hat, 0)[None, :], mask=c < C)


@triton.jit
def norm_backward_kernel(dx, z, norm, means, dz, size, C, BLOCK: tl.constexpr):
    """dz = a (dx - mean(dx) - x_hat mean(dx x_hat)); means (2 C,), all 0 in evaluation."""
    i = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = i < size
    c = i % C
    zi = tl.load(z + i, mask=inside, other=0.0).to(norm.dtype.element_ty)
    x_hat = (zi - tl.load(norm + c)) * tl.load(norm + C + c)
    d = tl.load(dx + i, mask=inside, other=0.0).to(norm.dtype.element_ty)
    d = d - tl.load(means + c) - x_hat * tl.load(means + C + c)
    tl.store(dz + i, tl.load(norm + 2 * C + c) * d, mask=inside)


def norm_forward(z, gamma, beta, scale, eps, running=None):
    """norm (4, C) for `forward_kernel`, not in bfloat16; z (R, C), running = (mean, var) in evaluation.

    The statistics are torch's, in two passes: `torch.var_mean` is Welford's, which divides at each step and rounds there.
    """
    z, gamma, beta = (a.float() if a.dtype == torch.bfloat16 else a for a in (z, gamma, beta))
    mean, var = (z.mean(0), (z - z.mean(0)).square().mean(0)) if running is None else running
    inv_std = torch.rsqrt(var + eps)
    return torch.stack([mean, inv_std, gamma * scale * inv_std, beta])


def norm_backward(dx, z, norm, training):
    """dz (R, C) and the sums (2, C): dbeta, then sum(dx x_hat), which dgamma is alpha V_th times."""
    R, C = z.shape
    chunks = triton.cdiv(R, ROWS)
    partial = allocate(norm, chunks, 2, C)
    channel_sums_kernel[chunks, triton.cdiv(C, CHANNELS)](dx, z, norm, partial, R, C, ROWS, CHANNELS)
    sums = partial.sum(0)
    means = sums / R if training else torch.zeros_like(sums)
    dz = allocate(z)
    norm_backward_kernel[(triton.cdiv(z.numel(), BLOCK),)](dx, z, norm, means, dz, z.numel(), C, BLOCK)
    return dz, sums


class SpikingBlock(torch.autograd.Function):
    """tdBN (where beta is given) and the neurons behind it."""

    @staticmethod
    def forward(ctx, z, leak, gamma, beta, width, v_th, learned, alpha, eps, running, soft, detach):
        T, C, acc = len(z), z.shape[-1], tl.float64 if z.dtype == torch.float64 else tl.float32
        flat = z.contiguous().view(T, -1)  # the kernels count on addresses t M + m
        M = flat.shape[1]
        tau = allocate(z, 1)
        given = width is not None
        width = width.contiguous() if given else allocate(z, T)
        prepare_kernel[(1,)](
            leak, leak if given else gamma, tau, width, 0 if given else gamma.numel(), T, acc, alpha * v_th, learned, BLOCK
        )  # fmt: skip
        norm = None if beta is None else norm_forward(flat.view(-1, C), gamma, beta, alpha * v_th, eps, running)
        u, s = allocate(flat), allocate(flat)
        grid = (triton.cdiv(M, BLOCK),)
        normed = norm is not None
        forward_kernel[grid](flat, norm if normed else flat, tau, u, s, T, M, C, acc, v_th, normed, soft, BLOCK)
        ctx.save_for_backward(flat, u, tau, width, norm)
        ctx.settings = acc, v_th, learned, alpha, running is None, soft, detach
        u = u.view(z.shape)
        ctx.mark_non_differentiable(u, width)
        return s.view(z.shape), u, width

    @staticmethod
    def backward(ctx, ds, _u, _width):
        z, u, tau, width, norm = ctx.saved_tensors
        acc, v_th, learned, alpha, training, soft, detach = ctx.settings
        (T, M), shape = u.shape, ds.shape
        ds = ds.contiguous()
        du, grid = allocate(u), (triton.cdiv(M, BLOCK),)
        partial = allocate(u, *grid, dtype=torch.float64 if acc == tl.float64 else torch.float32)
        backward_kernel[grid](ds, u, width, tau, du, partial, T, M, acc, v_th, soft, detach, BLOCK)
        dleak = partial.sum()
        if learned:
            dleak = dleak * tau[0] * (1 - tau[0])
        if norm is None:
            return du.view(shape), dleak, *[None] * 10
        C = norm.shape[1]
        dz, sums = norm_backward(du.view(-1, C), z.view(-1, C), norm, training)
        return dz.view(shape), dleak, alpha * v_th * sums[1], sums[0], *[None] * 8


def spiking_block(
    z, leak, v_th=0.5, learned=False, gamma=None, beta=None, width=None, alpha=1.0, eps=1e-5, running=None,
    soft=False, detach=False,
):  # fmt: skip
    """s, u (shape of z) and kappa (T,) for z (T, ..., C); gradients flow into z, leak, gamma and beta.

    leak is a 0-d tensor, PLIF's w if `learned`, else tau. With beta, tdBN comes first; without a width, gamma gives it.
    """
    with torch.cuda.device_of(z):  # Triton launches on the current GPU, wherever the tensors are
        return SpikingBlock.apply(z, leak, gamma, beta, width, v_th, learned, alpha, eps, running, soft, detach)
