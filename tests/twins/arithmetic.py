"""The method's operations in float32, each written in several ways that are equally right. Imports nothing of agl_ref.

leak      how tau v comes about: "product" tau v, "difference" v - v (1 - tau), "quotient" v - v / tau_m with
          tau_m = 1 / (1 - tau)
order     of a sum over the first axis: "forward", "largest" first, "sorted" (all positive terms first), "kahan"
"""

import numpy as np

F = np.float32
LEAKS = ("product", "difference", "quotient")
ORDERS = ("forward", "largest", "sorted", "kahan")


def fused(a, b, c):
    """a b + c rounded once (in float64 the product is exact)."""
    return (np.float64(a) * np.float64(b) + np.float64(c)).astype(F)


def total(terms, order="forward"):
    """Sum over the first axis, one term after the other."""
    terms = F(terms)
    if order == "kahan":
        sum_, lost = np.zeros(terms.shape[1:], F), np.zeros(terms.shape[1:], F)
        for term in terms:
            term = term - lost
            before, sum_ = sum_, sum_ + term
            lost = (sum_ - before) - term
        return sum_
    if order != "forward":
        key = -np.abs(terms) if order == "largest" else -terms
        terms = np.take_along_axis(terms, np.argsort(key, axis=0), axis=0)
    return np.add.accumulate(terms, axis=0)[-1]


def product(a, b, order):
    """a (M, K) times b (K, N), each element's K terms in this order."""
    return total((F(a)[:, :, None] * F(b)[None]).transpose(1, 0, 2), order)


def sigmoid(w, how):
    w = F(w)
    if how == "tanh":
        return F(0.5) * np.tanh(F(0.5) * w) + F(0.5)
    if how == "of minus w":
        return F(1) - F(1) / (F(1) + np.exp(w))
    return F(1) / (F(1) + np.exp(-w))


def neuron(x, ds, width, tau, v_th=0.5, scaled=False, leak="product", how="plain", one_minus_tau=None):
    """{name: array} of a LIF with hard reset; `one_minus_tau` is 1 - tau where it is the given number, as in PLIF."""
    x, ds, width, tau, v_th, one = F(x), F(ds), F(width), F(tau), F(v_th), F(1)
    one_minus_tau = F(1 - np.float64(tau)) if one_minus_tau is None else F(one_minus_tau)
    slow = one / one_minus_tau

    def lost(a):
        return a / slow if leak == "quotient" else a * one_minus_tau

    u, s, v, du, dx = (np.zeros_like(x) for _ in range(5))
    before = np.zeros_like(x[0])
    for t in range(len(x)):
        if scaled:
            u[t] = tau * before + (one - tau) * x[t] if leak == "product" else before + lost(x[t] - before)
        elif leak == "product":
            u[t] = fused(tau, before, x[t]) if how == "fused" else tau * before + x[t]
        else:
            u[t] = before - lost(before) + x[t]
        s[t] = u[t] >= v_th
        v[t] = before = u[t] * (one - s[t])
    dv = np.zeros_like(before)
    for t in reversed(range(len(x))):
        h = (np.abs(u[t] - v_th) < width[t] / 2) * (one / width[t])
        if how == "factored":
            du[t] = dv * ((one - s[t]) - u[t] * h) + ds[t] * h
        elif how == "fused":
            du[t] = fused(fused(-u[t], dv, ds[t]), h, dv * (one - s[t]))
        else:
            du[t] = dv * (one - s[t]) + (ds[t] - u[t] * dv) * h
        passed = lost(du[t])
        dx[t] = du[t] if not scaled else (one - tau) * du[t] if leak == "product" else passed
        dv = tau * du[t] if leak == "product" else du[t] - passed
    moved = np.concatenate([np.zeros_like(v[:1]), v[:-1]]) - (x if scaled else F(0))
    return {"u": u, "s": s, "v": v, "du": du, "grad_x": dx, "grad_decay": total((du * moved).ravel(), "largest")}


def surrogates(u, width, v_th=0.5):
    """{surrogate: {form: ds/du}} of u (T, n)."""
    z, k, one, pi = F(u) - F(v_th), F(width)[:, None], F(1), F(np.pi)
    r, steep = z / k, F(4) / k
    gate, tanh, e = one / (one + np.exp(-steep * z)), np.tanh(F(2) * r), np.exp(-np.abs(steep * z))
    return {
        "sigmoid": {
            "sigmoid (1 - sigmoid)": steep * gate * (one - gate),
            "1 - tanh^2": (one - tanh * tanh) / k,
            "1 / cosh^2": one / np.square(np.cosh(F(2) * r)) / k,
            "exp": steep * e / np.square(one + e),
        },
        "triangular": {
            "ratio": np.maximum(F(0), one - np.abs(r)) / k,
            "difference": np.maximum(F(0), k - np.abs(z)) / (k * k),
        },
        "arctan": {"ratio": one / (one + np.square(pi * r)) / k, "squares": k / (k * k + np.square(pi * z))},
        "fast_sigmoid": {
            "ratio": one / np.square(one + F(2) * np.abs(r)) / k,
            "squares": k / np.square(k + F(2) * np.abs(z)),
            "slope": one / np.square(one + F(2) / k * np.abs(z)) / k,
        },
        "straight_through": {"height": one / k + F(0) * z},
        "leaky_relu": {
            "of the height": np.where(np.abs(z) < k / F(2), one / k, F(0.02) / k),
            "of the width": one / np.where(np.abs(z) < k / F(2), k, F(50) * k),
        },
        "gaussian": {"exp": np.exp(-pi * r * r) / k, "exp2": np.exp2(F(-np.pi / np.log(2)) * r * r) / k},
    }


VARIANCES = ("two passes", "one pass", "welford")
AFFINES = ("plain", "fused", "quotient")
BACKWARDS = ("means", "sums", "projection", "autodiff")


def tdbn(x, gamma, beta, dy, variance, affine, backward, order="forward", scale=0.5, eps=1e-5, running=None):
    """{name: array} of tdBN; affine "fused" is y = x a + b per channel."""
    C = x.shape[-1]
    flat, d, gamma, beta, scale = F(x).reshape(-1, C), F(dy).reshape(-1, C), F(gamma), F(beta), F(scale)
    M = F(len(flat))
    if running is not None:
        mean, var = F(running[0]), F(running[1])
    elif variance == "welford":
        mean, squares = np.zeros(C, F), np.zeros(C, F)
        for count, row in enumerate(flat, 1):
            off = row - mean
            mean = mean + off / F(count)
            squares = squares + off * (row - mean)
        var = squares / M
    else:
        mean = total(flat, order) / M
        var = total(np.square(flat - mean), order) / M
        if variance == "one pass":
            var = np.maximum(total(flat * flat, order) * (F(1) / M) - mean * mean, F(0))
    inv = F(1) / np.sqrt(var + F(eps))
    x_hat = (flat - mean) / np.sqrt(var + F(eps)) if affine == "quotient" else (flat - mean) * inv
    factor = gamma * scale * inv
    y = flat * factor + (beta - mean * factor) if affine == "fused" else gamma * (scale * x_hat) + beta
    sum_d, sum_dx = total(d, order), total(d * x_hat, order)
    if running is not None:
        dx = d * factor
    elif backward == "means":
        g = d * (gamma * scale)
        dx = (g - total(g, order) / M - x_hat * (total(g * x_hat, order) / M)) * inv
    elif backward == "sums":
        dx = factor * (F(1) / M) * (M * d - sum_d - x_hat * sum_dx)
    elif backward == "projection":
        dx = (d - sum_d * (F(1) / M) - (flat - mean) * (sum_dx * inv * (F(1) / M))) * factor
    else:
        g = d * (gamma * scale)
        dvar = total(g * (flat - mean), order) * F(-0.5) * inv * inv * inv
        dmean = dvar * total(F(-2) * (flat - mean), order) / M - total(g * inv, order)
        dx = g * inv + dvar * F(2) * (flat - mean) / M + dmean / M
    shaped = {"y": y.reshape(x.shape), "grad_x": dx.reshape(x.shape)}
    return {**shaped, "grad_gamma": scale * sum_dx, "grad_beta": sum_d}


def cross_entropy(logits, labels, readout, how):
    """{name: array}: with the logarithm of the sum of exp subtracted from the logits, or with shifted logits."""
    T, N, K = logits.shape
    z = F(logits)[-1] if readout == "last" else F(logits).sum(axis=0) * F(1 / T)
    hot = np.eye(K, dtype=F)[labels]
    top = z.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(z - top).sum(axis=-1, keepdims=True))
    log_p = z - (top + log_sum) if how == "logsumexp" else z - top - log_sum
    dz = (np.exp(log_p) - hot) * F(1 / N)
    if readout == "last":
        dlogits = np.concatenate([np.zeros((T - 1, N, K), F), dz[None]])
    else:
        dlogits = np.repeat((dz * F(1 / T))[None], T, axis=0)
    return {"loss": np.asarray(-(log_p * hot).sum(axis=-1).mean(), F), "dlogits": dlogits}
