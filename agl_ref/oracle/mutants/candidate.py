"""A second implementation in plain NumPy, independent of the engine: what the oracle tries on a dump.

    T timesteps, N samples, H, W, C height, width, channels, K classes; arrays as in the engine, (T, N, ..., C)

It imports no kernel and no rule of the engine, only the names of the conventions. Every rule is one short method, so
that a bug is a subclass that overrides one of them (`agl_ref.oracle.mutants`), and every convention is read where it
applies. The order of summation can be chosen, so that one dtype gives several equally right results.
"""

import math
from typing import NamedTuple

import numpy as np

from agl_ref.conventions import MPD_AGL

from .summation import product, total


class Neurons(NamedTuple):
    """Forward values of one neuron layer; x, u, s, v are (T, ...)."""

    x: np.ndarray
    u: np.ndarray
    s: np.ndarray
    v: np.ndarray
    decay: float
    v_th: float


class NeuronGrads(NamedTuple):
    """du, dx (T, ...), ddecay a scalar, dwidth (T,)."""

    du: np.ndarray
    dx: np.ndarray
    ddecay: np.ndarray
    dwidth: np.ndarray


class Normed(NamedTuple):
    """Forward values of a tdBN; inv_std is of the variance that was used."""

    x_hat: np.ndarray
    inv_std: np.ndarray
    gamma: np.ndarray
    scale: float
    training: bool


class Candidate:
    """The method's operations, forward and backward.

    Parameters
    ----------
    dtype : float32 or float64
        Of every array and every operation.
    conventions : Conventions
    surrogate : str
        rectangular, triangular, sigmoid, arctan or gaussian.
    order : str
        Of the sums, see `agl_ref.oracle.mutants.summation`.
    one_pass : bool
        tdBN's variance as E[x^2] - mean^2 instead of from the deviations.
    """

    def __init__(self, dtype=np.float64, conventions=MPD_AGL, surrogate="rectangular", order="blas", one_pass=False):
        self.dtype, self.conventions, self.surrogate = np.dtype(dtype), conventions, surrogate
        self.order, self.one_pass = order, one_pass

    def sum(self, a, axes=None):
        return total(a, self.order, axes)

    def product(self, a, b):
        return product(a, b, self.order)

    # --- neuron, forward

    def decay_of(self, w):
        """PLIF's leak factor."""
        return 1.0 / (1.0 + math.exp(-float(w) if self.conventions.plif == "tau" else float(w)))

    def input_gain(self, tau):
        return self.dtype.type(1) - tau if self.conventions.input_scale == "1 - tau" else self.dtype.type(1)

    def charge(self, v, x, t, tau):
        """u_t of v_{t-1} and x (T, ...)."""
        return tau * v + self.input_gain(tau) * x[t]

    def fire(self, u, v_th):
        fired = u >= v_th if self.conventions.spike_test == ">=" else u > v_th
        return fired.astype(self.dtype)

    def reset(self, u, s, v_th):
        if self.conventions.reset == "hard":
            return np.where(s > 0, self.dtype.type(0), u)
        return u - v_th * s if self.conventions.reset == "soft" else u.copy()

    def neuron_forward(self, x, decay, v_th):
        tau, threshold = self.dtype.type(decay), self.dtype.type(v_th)
        u, s, v = np.empty_like(x), np.empty_like(x), np.empty_like(x)
        before = np.zeros(x.shape[1:], self.dtype)
        for t in range(len(x)):
            u[t] = self.charge(before, x, t, tau)
            if self.conventions.reset == "soft late" and t > 0:
                u[t] = u[t] - threshold * s[t - 1]
            s[t] = self.fire(u[t], threshold)
            v[t] = before = self.reset(u[t], s[t], threshold)
        return Neurons(x, u, s, v, float(decay), float(v_th))

    # --- width and surrogate

    def later_spread(self, decay):
        """kappa_{t>1} over kappa_1."""
        return math.sqrt(1.0 + decay * decay)

    def spreads(self, decay, T):
        """kappa_t over kappa_1 by the rule."""
        rule, later = self.conventions.width, self.later_spread(decay)
        if rule == "geometric":
            return np.sqrt(np.cumsum(np.power(float(decay), 2.0 * np.arange(T))))
        return np.array([later if rule == "later" else 1.0] + [1.0 if rule == "first" else later] * (T - 1))

    def gamma_bar(self, gamma):
        return float(np.mean(gamma, dtype=np.float64))

    def norm_scale(self, v_th, alpha):
        return alpha * v_th if self.conventions.norm_scale == "alpha V_th" else 1.0

    def width(self, gamma, v_th, decay, T, alpha=1.0):
        """kappa_t (T,); gamma None is a neuron without tdBN."""
        if self.conventions.width == "fixed":
            return np.full(T, self.conventions.fixed_width, self.dtype)
        if gamma is None:
            return np.ones(T, self.dtype)
        kappa = 2.0 * max(self.gamma_bar(gamma), 0.0) * self.norm_scale(v_th, alpha) * self.spreads(decay, T)
        return kappa.astype(self.dtype)

    def height(self, kappa):
        """The surrogate's value at the threshold."""
        by_scale = {"1/kappa": 1 / kappa, "1": kappa / kappa, "1/(2 kappa)": 1 / (2 * kappa)}
        return by_scale[self.conventions.surrogate_scale]

    def half_width(self, kappa):
        return kappa / 2

    def shape(self, z, kappa):
        """The surrogate divided by its value at the threshold."""
        if self.surrogate == "rectangular":
            inside = np.less_equal if self.conventions.window_edge == "<=" else np.less
            return inside(np.abs(z), self.half_width(kappa)).astype(self.dtype)
        r = z / kappa
        if self.surrogate == "triangular":
            return np.maximum(0, 1 - np.abs(r))
        if self.surrogate == "sigmoid":
            return 1 / np.square(np.cosh(np.minimum(np.abs(2 * r), self.dtype.type(40))))
        return 1 / (1 + np.square(math.pi * r)) if self.surrogate == "arctan" else np.exp(-math.pi * np.square(r))

    def derivative(self, u, v_th, kappa):
        """ds/du; a window that is not open gives exactly 0."""
        if not kappa > 0:
            return np.zeros_like(u)
        return (self.height(kappa) * self.shape(u - v_th, kappa)).astype(self.dtype)

    def kappa_at(self, width, t):
        return width[t]

    # --- neuron, backward

    def through_reset(self, fwd, t, dv):
        """What the reset takes from ds_t."""
        if self.conventions.reset_gradient == "detached" or self.conventions.reset == "none":
            return np.zeros_like(dv)
        return dv * (fwd.u[t] if self.conventions.reset == "hard" else self.dtype.type(fwd.v_th))

    def carry(self, fwd, t, dv):
        """dv_t as it reaches u_t directly."""
        return np.where(fwd.s[t] > 0, self.dtype.type(0), dv) if self.conventions.reset == "hard" else dv

    def reverse_times(self, T):
        return reversed(range(T))

    def v_before(self, fwd):
        """v_{t-1} for each t, (T, ...)."""
        return np.concatenate([np.zeros_like(fwd.v[:1]), fwd.v[:-1]])

    def sum_decay(self, terms):
        return self.sum(terms)

    def through_input_gain(self, du, tau):
        return du * self.input_gain(tau)

    def neuron_backward(self, ds, fwd, width):
        tau, threshold = self.dtype.type(fwd.decay), self.dtype.type(fwd.v_th)
        du, dwidth = np.zeros_like(fwd.u), np.zeros(len(width), self.dtype)
        dv = np.zeros(ds.shape[1:], self.dtype)
        for t in self.reverse_times(len(ds)):
            kappa = self.kappa_at(width, t)
            h = self.derivative(fwd.u[t], threshold, kappa)
            late = self.conventions.reset == "soft late" and t + 1 < len(ds)
            ds_total = ds[t] - self.through_reset(fwd, t, du[t + 1] if late else dv)
            du[t] = self.carry(fwd, t, dv) + ds_total * h
            if self.conventions.width_gradient == "flows" and kappa > 0:
                dwidth[t] = -self.sum(ds_total * h * ((fwd.u[t] - threshold) / kappa))
            dv = tau * du[t]
        moved = self.v_before(fwd)
        if self.conventions.input_scale == "1 - tau":
            moved = moved - fwd.x
        return NeuronGrads(du, self.through_input_gain(du, tau), self.sum_decay(du * moved), dwidth)

    def dw(self, ddecay, decay):
        """PLIF's gradient from that of the leak factor."""
        sign = 1.0 if self.conventions.plif == "tau" else -1.0
        return self.dtype.type(sign * float(ddecay) * decay * (1.0 - decay))

    def through_width(self, dwidth, gamma, v_th, decay, alpha=1.0):
        """(dgamma (C,), ddecay) through kappa; zero where kappa is a constant."""
        if self.conventions.width_gradient == "none" or self.conventions.width == "fixed" or self.gamma_bar(gamma) <= 0:
            return np.zeros_like(gamma), 0.0
        T, scale = len(dwidth), 2.0 * self.norm_scale(v_th, alpha)
        spread = self.spreads(decay, T)
        if self.conventions.width == "geometric":
            j = np.arange(T)
            slope = np.cumsum(2 * j * np.power(float(decay), np.maximum(2 * j - 1, 0))) / (2 * spread)
        else:
            slope = np.where(spread > 1.0, decay / spread, 0.0)  # the spread is 1 or sqrt(1 + tau^2)
        dgamma = np.full_like(gamma, scale * float(dwidth @ spread) / gamma.size)
        return dgamma, scale * self.gamma_bar(gamma) * float(dwidth @ slope)

    # --- tdBN

    def mean(self, a):
        """Mean over all axes but the last, which are kept with length 1."""
        mean = self.sum(a, range(a.ndim - 1)) / self.dtype.type(a.size // a.shape[-1])
        return mean.reshape(*[1] * (a.ndim - 1), -1)

    def spared(self, count):
        """What the unbiased variance divides by, over what the biased one does."""
        return (count - 1) / count if self.conventions.norm_variance == "unbiased" else 1.0

    def inverse_std(self, var, eps):
        return 1 / np.sqrt(var + self.dtype.type(eps))

    def norm_forward(self, x, gamma, beta, v_th, alpha=1.0, eps=1e-5, running=None):
        if running is None:
            mean = self.mean(x)
            if self.one_pass:
                var = np.maximum(self.mean(x * x) - mean * mean, 0)
            else:
                var = self.mean(np.square(x - mean))
            var = var / self.dtype.type(self.spared(x.size // x.shape[-1]))
        else:
            mean, var = (np.asarray(a, self.dtype) for a in running)
        inv_std = self.inverse_std(var, eps)
        x_hat = (x - mean) * inv_std
        scale = self.norm_scale(v_th, alpha)
        return gamma * (self.dtype.type(scale) * x_hat) + beta, Normed(x_hat, inv_std, gamma, scale, running is None)

    def norm_means(self, g, x_hat):
        """What tdBN's backward subtracts from g because the statistics depend on x."""
        spared = self.dtype.type(self.spared(g.size // g.shape[-1]))
        return self.mean(g) + x_hat * (self.mean(g * x_hat) / spared)

    def norm_backward(self, dy, fwd):
        """dx, dgamma, dbeta."""
        axes, scale = range(dy.ndim - 1), self.dtype.type(fwd.scale)
        g = dy * (fwd.gamma * scale)
        means = self.norm_means(g, fwd.x_hat) if fwd.training else 0
        return (g - means) * fwd.inv_std, self.sum(dy * (scale * fwd.x_hat), axes), self.sum(dy, axes)

    # --- synapses

    def pads(self, padding):
        """Rows of zeros before and after."""
        return padding, padding

    def _windows(self, images, kernel, stride, padding):
        """Patches (B, Ho, Wo, kh, kw, C) of images (B, H, W, C)."""
        pads = self.pads(padding)
        padded = np.pad(images, ((0, 0), pads, pads, (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, kernel, (1, 2))[:, ::stride, ::stride]
        return windows.transpose(0, 1, 2, 4, 5, 3)

    def conv_forward(self, x, weight, bias=None, stride=1, padding=0):
        windows = self._windows(x.reshape(-1, *x.shape[-3:]), weight.shape[:2], stride, padding)
        rows, columns = windows.shape[1:3]
        y = self.product(windows.reshape(-1, weight[..., 0].size), weight.reshape(-1, weight.shape[-1]))
        y = y if bias is None else y + bias
        return y.reshape(*x.shape[:-3], rows, columns, -1)

    def transposed_weight(self, weight):
        """The weight as the gradient of the input meets it."""
        return weight

    def conv_backward(self, dy, x, weight, stride=1, padding=0):
        """dx, dweight, dbias."""
        images = x.reshape(-1, *x.shape[-3:])
        windows = self._windows(images, weight.shape[:2], stride, padding)
        flat = dy.reshape(-1, weight.shape[-1])
        dweight = self.dweight(windows.reshape(len(flat), -1), flat).reshape(weight.shape)
        spread = self.product(flat, self.transposed_weight(weight).reshape(-1, weight.shape[-1]).T)
        spread = spread.reshape(windows.shape)
        before, after = self.pads(padding)
        B, H, W, C = images.shape
        padded = np.zeros((B, H + before + after, W + before + after, C), self.dtype)
        _, rows, columns, kh, kw, _ = spread.shape
        for p in range(kh):
            for q in range(kw):
                padded[:, p : p + rows * stride : stride, q : q + columns * stride : stride] += spread[:, :, :, p, q]
        dx = padded[:, before : before + H, before : before + W]
        return np.ascontiguousarray(dx).reshape(x.shape), dweight, self.sum(flat, (0,))

    def linear_forward(self, x, weight, bias=None):
        y = self.product(np.ascontiguousarray(x).reshape(-1, weight.shape[0]), weight)
        return (y if bias is None else y + bias).reshape(*x.shape[:-1], -1)

    def dweight(self, rows, dy):
        """rows (M, K) of what the weight was multiplied with, dy (M, C_out): their product over the M rows."""
        return self.product(np.ascontiguousarray(rows.T), dy)

    def linear_backward(self, dy, x, weight):
        """dx, dweight, dbias."""
        flat = np.ascontiguousarray(dy).reshape(-1, weight.shape[1])
        dx = self.product(flat, np.ascontiguousarray(weight.T)).reshape(x.shape)
        return dx, self.dweight(np.ascontiguousarray(x).reshape(-1, weight.shape[0]), flat), self.sum(flat, (0,))

    # --- pools, residual sum, flatten

    def pool_forward(self, x):
        rows, columns = x.shape[-3] // 2, x.shape[-2] // 2
        squares = x[..., : 2 * rows, : 2 * columns, :].reshape(*x.shape[:-3], rows, 2, columns, 2, x.shape[-1])
        return self.sum(squares, (-4, -2)) / self.dtype.type(4)

    def pool_backward(self, dy, shape):
        dx = np.zeros(shape, self.dtype)
        large = np.repeat(np.repeat(dy / self.dtype.type(4), 2, axis=-3), 2, axis=-2)
        dx[..., : large.shape[-3], : large.shape[-2], :] = large
        return dx

    def global_pool_forward(self, x):
        return self.sum(x, (-3, -2)) / self.dtype.type(x.shape[-3] * x.shape[-2])

    def global_pool_backward(self, dy, shape):
        share = dy / self.dtype.type(shape[-3] * shape[-2])
        return np.broadcast_to(share[..., None, None, :], shape).copy()

    def flatten(self, x):
        return x.reshape(*x.shape[:2], -1)

    def unflatten(self, d, shape):
        return d.reshape(shape)

    def add(self, y, side):
        """A residual sum."""
        return y + side

    def side_gradient(self, dy):
        """What a residual sum gives back to its shortcut."""
        return dy

    # --- losses

    def read_out(self, logits):
        """Logits (T, N, K) to (N, K)."""
        if self.conventions.readout == "last":
            return logits[-1]
        return self.sum(logits, (0,)) / self.dtype.type(1 if self.conventions.readout == "sum" else len(logits))

    def softmax(self, z):
        """softmax and its logarithm."""
        shifted = z - z.max(axis=-1, keepdims=True)
        exp = np.exp(shifted)
        norm = self.sum(exp, (-1,))[..., None]
        return exp / norm, shifted - np.log(norm)

    def samples(self, N):
        """What the loss is divided by."""
        return self.dtype.type(N)

    def share_over_time(self, dz, T):
        """dlogits (T, N, K) of the gradient of the reduced logits."""
        dlogits = np.zeros((T, *dz.shape), self.dtype)
        if self.conventions.readout == "last":
            dlogits[-1] = dz
        else:
            dlogits[:] = dz / self.dtype.type(T) if self.conventions.readout == "mean" else dz
        return dlogits

    def cross_entropy(self, logits, labels):
        """loss, dlogits."""
        T, N, K = logits.shape
        p, log_p = self.softmax(self.read_out(logits))
        one_hot = np.equal(np.arange(K), np.asarray(labels)[:, None])
        loss = -self.sum(log_p * one_hot.astype(self.dtype)) / self.samples(N)
        return loss, self.share_over_time((p - one_hot.astype(self.dtype)) / self.samples(N), T)

    def tet(self, logits, labels, lam=1e-3, target=1.0):
        """loss, dlogits of (1 - lam) mean_t CE(logits_t) + lam mean((logits - target)^2)."""
        T, N, K = logits.shape
        p, log_p = self.softmax(logits)
        one_hot = np.equal(np.arange(K), np.asarray(labels)[:, None]).astype(self.dtype)
        entropy = -self.sum(log_p * one_hot) / (self.samples(N) * T)
        off = logits - self.dtype.type(target)
        loss = (1 - lam) * entropy + lam * self.sum(off * off) / logits.size
        return loss, (1 - lam) * (p - one_hot) / (self.samples(N) * T) + (2 * lam / logits.size) * off
