"""LIF-AGL in JAX: one custom_vjp whose forward and backward are scans, under jit.

    u_t = tau v_{t-1} + x_t;   s_t = [u_t >= V_th];   v_t = u_t (1 - s_t);   x = tdBN(z)

x, u, s are (T, ...). tdBN, the sigmoid of PLIF's w and the loss are left to JAX's own differentiation.
float64 needs jax.config.update("jax_enable_x64", True) before the first array is made.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax


def adaptive_width(gamma, v_th, tau, T, alpha=1.0):
    """kappa_1 = 2 gamma_bar alpha V_th, then sqrt(1 + tau^2) times that (Theorem 2): (T,), a constant for the gradient."""
    first = 2 * jnp.maximum(gamma.mean(), 0) * alpha * v_th
    later = first * jnp.sqrt(1 + tau * tau)
    return lax.stop_gradient(jnp.where(jnp.arange(T) == 0, first, later))


def after_reset(u, v_th, soft):
    return jnp.where(u >= v_th, u - v_th if soft else 0, u)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def lif(x, tau, width, v_th, soft=False, detach=False):
    """s, u (T, ...) of x (T, ...). No gradient flows into width or from u."""

    def step(v, x_t):
        u = tau * v + x_t
        return after_reset(u, v_th, soft), u

    u = lax.scan(step, jnp.zeros_like(x[0]), x)[1]
    return (u >= v_th).astype(x.dtype), u


def lif_forward(x, tau, width, v_th, soft, detach):
    s, u = lif(x, tau, width, v_th, soft, detach)
    return (s, u), (u, tau, width)


def lif_backward(v_th, soft, detach, kept, cotangents):
    u, tau, width = kept
    ds = cotangents[0]
    v_prev = jnp.concatenate([jnp.zeros_like(u[:1]), after_reset(u[:-1], v_th, soft)])

    def step(carry, at_t):
        dv, dtau = carry
        ds_t, u_t, v_before, kappa = at_t
        h = jnp.where(jnp.abs(u_t - v_th) < kappa / 2, 1 / kappa, 0)  # width 0: 1 / kappa is not chosen
        ds_total = ds_t if detach else ds_t - (v_th if soft else u_t) * dv  # through the reset
        du = (dv if soft else jnp.where(u_t >= v_th, 0, dv)) + ds_total * h
        return (tau * du, dtau + du * v_before), du

    start = (jnp.zeros_like(u[0]), jnp.zeros_like(u[0]))
    (_, dtau), du = lax.scan(step, start, (ds, u, v_prev, width), reverse=True)
    return du, dtau.sum(), jnp.zeros_like(width)


lif.defvjp(lif_forward, lif_backward)


def tdbn(z, gamma, beta, scale, eps, running=None):
    """Batch norm over all axes but the last, scaled by alpha V_th before the affine."""
    axes = tuple(range(z.ndim - 1))
    mean, var = (z.mean(axes), z.var(axes)) if running is None else running
    return gamma * (scale * (z - mean) / jnp.sqrt(var + eps)) + beta


@partial(jax.jit, static_argnames=("v_th", "learned", "alpha", "eps", "soft", "detach"))
def spiking_block(
    z, leak, gamma=None, beta=None, v_th=0.5, learned=False, width=None, alpha=1.0, eps=1e-5, running=None,
    soft=False, detach=False,
):  # fmt: skip
    """s, u (shape of z) and kappa (T,) for z (T, ..., C); differentiable in z, leak, gamma and beta.

    leak is a scalar, PLIF's w if `learned`, else tau. With beta, tdBN comes first; without a width, gamma gives it.
    """
    tau = jax.nn.sigmoid(leak) if learned else leak
    x = z if beta is None else tdbn(z, gamma, beta, alpha * v_th, eps, running)
    if width is None:
        width = adaptive_width(gamma, v_th, tau, len(z), alpha)
    s, u = lif(x, tau, width, v_th, soft, detach)
    return s, u, width
