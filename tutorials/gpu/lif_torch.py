"""LIF-AGL as a PyTorch autograd.Function: plain tensor operations, any device and dtype, no kernel of its own.

    u_t = tau v_{t-1} + x_t;   s_t = [u_t >= V_th];   v_t = u_t (1 - s_t);   x = tdBN(z)

x, u, s are (T, ...) and contiguous in time. Autograd sees one node per layer and not T of them, and keeps u alone.
"""

import torch
import torch.nn.functional as F


def adaptive_width(gamma, v_th, tau, T, alpha=1.0):
    """kappa_1 = 2 gamma_bar alpha V_th, then sqrt(1 + tau^2) times that (Theorem 2): (T,), a constant for the gradient."""
    gamma, tau = gamma.detach().double(), tau.detach().double()
    first = 2 * gamma.mean().clamp(min=0) * alpha * v_th
    later = first * torch.sqrt(1 + tau**2)
    return torch.stack([first] + [later] * (T - 1))


def after_reset(u, fired, v_th, soft):
    return u - v_th * fired if soft else u * ~fired


class LIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, tau, width, v_th, soft, detach):
        u = torch.empty_like(x, memory_format=torch.contiguous_format)
        v = torch.zeros_like(x[0])
        for t in range(len(x)):
            torch.add(tau * v, x[t], out=u[t])
            v = after_reset(u[t], u[t] >= v_th, v_th, soft)
        ctx.save_for_backward(u, tau, width)
        ctx.settings = v_th, soft, detach
        ctx.mark_non_differentiable(u)
        return (u >= v_th).to(u.dtype), u

    @staticmethod
    def backward(ctx, ds, _):
        u, tau, width = ctx.saved_tensors
        v_th, soft, detach = ctx.settings
        du, dv, dtau = torch.empty_like(u), torch.zeros_like(u[0]), torch.zeros_like(u[0])
        for t in reversed(range(len(u))):
            fired = u[t] >= v_th
            inside = (u[t] - v_th).abs() < width[t] / 2
            h = torch.where(inside, 1 / width[t], 0)  # width 0: 1 / kappa is not chosen
            ds_total = ds[t] if detach else ds[t] - (v_th if soft else u[t]) * dv  # through the reset
            du[t] = (dv if soft else dv * ~fired) + ds_total * h
            if t > 0:
                dtau += du[t] * after_reset(u[t - 1], u[t - 1] >= v_th, v_th, soft)
            dv = tau * du[t]
        return du, dtau.sum(), None, None, None, None


def tdbn(z, gamma, beta, scale, eps, running=None):
    """Batch norm over all axes but the last, scaled by alpha V_th before the affine."""
    rows = z.reshape(-1, z.shape[-1])
    mean, var = (None, None) if running is None else running
    return F.batch_norm(rows, mean, var, gamma * scale, beta, training=running is None, eps=eps).view(z.shape)


def spiking_block(
    z, leak, v_th=0.5, learned=False, gamma=None, beta=None, width=None, alpha=1.0, eps=1e-5, running=None,
    soft=False, detach=False,
):  # fmt: skip
    """s, u (shape of z) and kappa (T,) for z (T, ..., C); gradients flow into z, leak, gamma and beta.

    leak is a 0-d tensor, PLIF's w if `learned`, else tau. With beta, tdBN comes first; without a width, gamma gives it.
    """
    tau = torch.sigmoid(leak) if learned else leak
    x = z if beta is None else tdbn(z, gamma, beta, alpha * v_th, eps, running)
    if width is None:
        width = adaptive_width(gamma, v_th, tau, len(z), alpha).to(z.dtype)
    s, u = LIF.apply(x, tau, width, v_th, soft, detach)
    return s, u, width
