"""The whole of MPD-AGL in plain NumPy: read it from top to bottom, beside METHOD.md.

    T timesteps   N samples   H, W height, width   C channels   K classes   M values that a mean is taken over
    arrays are time first, channels last: x (T, N, H, W, C) or (T, N, F); ds, du, dx: the loss's gradient by s, u, x

Clarity over speed: nothing is validated or hidden, and an equation's line ends in its number in METHOD.md, as in (B2).
`agl_ref.engine` is the same, fast and with errors for bad input. To watch this file learn: python -m agl_ref.reference
"""

import math
from collections import namedtuple

import numpy as np

from .conventions import MPD_AGL


def total(a, axes=None):
    """Every sum over neurons, samples or places is made here, so that another order of summation is one change."""
    return a.sum(axis=axes)


def product(a, b):
    """Every matrix product: a (M, K) times b (K, N)."""
    return a @ b


# --- the surrogate: a bump of width kappa instead of the step's derivative ---------------------------------------------
def derivative(z, kappa, surrogate="rectangular", conventions=MPD_AGL):
    """ds/du at z = u - V_th (any shape): a height, times a shape that is 1 at the threshold."""
    if not kappa > 0:  # a closed window: no gradient passes, and 1 / kappa would be infinite
        return np.zeros_like(z)
    scale = {"1/kappa": kappa, "1": kappa / kappa, "1/(2 kappa)": kappa + kappa}[conventions.surrogate_scale]
    h = z.dtype.type(1 / scale)  # (S1) in z's dtype
    inside = np.less_equal if conventions.window_edge == "<=" else np.less
    r = z.astype(np.float64) / kappa  # the smooth shapes are computed in float64 and rounded once
    e = np.exp(-4 * np.abs(r))
    slopes = {
        "rectangular": lambda: h * inside(np.abs(z), kappa / 2),  # (S2)
        "triangular": lambda: h * np.maximum(0, 1 - np.abs(z) / kappa),  # (S3)
        "sigmoid": lambda: h * (4 * e / ((1 + e) * (1 + e))),  # (S4)
        "arctan": lambda: h / (1 + (np.pi * r) * (np.pi * r)),  # (S5)
        "gaussian": lambda: h * np.exp(-np.pi * r * r),  # (S6)
        "fast_sigmoid": lambda: h / ((1 + 2 * np.abs(r)) * (1 + 2 * np.abs(r))),  # (S12)
        "straight_through": lambda: h + 0 * z,  # (S13)
        "leaky_relu": lambda: np.maximum(slopes["rectangular"](), h / 50),  # (S14)
    }
    return slopes[surrogate]().astype(z.dtype)


def primitive(z, kappa, surrogate="rectangular", conventions=MPD_AGL):
    """The smooth step S from 0 to 1 with that derivative: used instead of the step, it gives finite differences a meaning."""
    r = z.astype(np.float64) / kappa
    e, tail = np.exp(-4 * np.abs(r)), np.maximum(0, 1 - np.abs(r))
    steps = {
        "rectangular": lambda: np.clip(r + 0.5, 0, 1),  # (S7)
        "triangular": lambda: np.where(r < 0, tail * tail / 2, 1 - tail * tail / 2),  # (S8)
        "sigmoid": lambda: np.where(r < 0, e, 1) / (1 + e),  # (S9)
        "arctan": lambda: 0.5 + np.arctan(np.pi * r) / np.pi,  # (S10)
        "gaussian": lambda: 0.5 * (1 + np.vectorize(math.erf, otypes=[float])(math.sqrt(math.pi) * r)),  # (S11)
        "fast_sigmoid": lambda: 0.5 + r / (1 + 2 * np.abs(r)),  # (S15)
        "straight_through": lambda: 0.5 + r,  # (S16)
        "leaky_relu": lambda: np.clip(r + 0.5, 0, 1) + (r - np.clip(r, -0.5, 0.5)) / 50,  # (S17)
    }
    area = {"1/kappa": 1.0, "1": float(kappa), "1/(2 kappa)": 0.5}[conventions.surrogate_scale]
    return (area * steps[surrogate]()).astype(z.dtype)


# --- the width kappa_t: twice the standard deviation that the potential should have ---------------------------------------
def spread(rule, decay, T):
    """Standard deviation of u_t over that of the current, (T,): what the leak keeps of earlier timesteps adds to it."""
    later = math.sqrt(1 + decay * decay)  # (W2)
    if rule == "geometric":
        return np.sqrt(np.cumsum([decay ** (2 * j) for j in range(T)]))  # (W3)
    return np.array([later if rule == "later" else 1.0] + [1.0 if rule == "first" else later] * (T - 1))


def width_of_layer(gamma, v_th, decay, T, dtype=np.float64, conventions=MPD_AGL, alpha=1.0):
    """kappa_t (T,) of all rules but the engine's "exact" and "empirical". Without tdBN (gamma None) kappa is 1."""
    given = {"fixed": conventions.fixed_width, "2 V_th": 2 * v_th}  # (W6)
    if gamma is None or conventions.width in given:
        return np.full(T, given.get(conventions.width, 1.0), dtype)
    gamma_bar = max(float(np.mean(gamma, dtype=np.float64)), 0.0)  # a negative one closes the window too
    alpha, v_th = (alpha, v_th) if conventions.norm_scale == "alpha V_th" else (1.0, 1.0)
    return (2.0 * spread(conventions.width, decay, T) * gamma_bar * alpha * v_th).astype(dtype)  # (W1)


def width_gradient(dwidth, gamma, v_th, decay, conventions=MPD_AGL, alpha=1.0):
    """(dgamma (C,), ddecay) through kappa, for those who let it flow; MPD-AGL takes kappa for a constant."""
    gamma_bar, T = float(np.mean(gamma, dtype=np.float64)), len(dwidth)
    if conventions.width in ("fixed", "2 V_th") or gamma_bar <= 0:
        return np.zeros_like(gamma), 0.0
    scale = 2.0 * (alpha * v_th if conventions.norm_scale == "alpha V_th" else 1.0)
    std = spread(conventions.width, decay, T)
    slope = np.where(std > 1, decay / std, 0.0)  # dspread/dtau: tau / spread of sqrt(1 + tau^2), and 0 where it is 1
    if conventions.width == "geometric":
        slope = np.cumsum([2 * j * decay ** max(2 * j - 1, 0) for j in range(T)]) / (2 * std)
    dgamma = np.full_like(gamma, scale * float(dwidth @ std) / gamma.size)  # (W4)
    return dgamma, scale * gamma_bar * float(dwidth @ slope)  # (W5)


# --- the neuron: leak, fire, reset, and back through time -----------------------------------------------------------------
NeuronCache = namedtuple("NeuronCache", "x u s v decay v_th conventions surrogate")  # x, u, s, v are (T, ...)
NeuronGrads = namedtuple("NeuronGrads", "dx ddecay dwidth du")  # (T, ...), a number, (T,), (T, ...)


def reset(u, s, v_th, conventions):
    """v_t. Without a reset it is u; "soft late" subtracts one timestep later, in F5."""
    if conventions.reset == "hard":
        return u * (1 - s)  # (F3)
    return u - v_th * s if conventions.reset == "soft" else u  # (F4)


def lif_forward(x, decay=0.2, v_th=0.5, conventions=MPD_AGL, surrogate="rectangular", relaxed_width=None):
    """s and cache of currents x (T, ...), from v_0 = 0. With relaxed_width (T,) s is the smooth step instead of 0 or 1."""
    tau, threshold = x.dtype.type(decay), x.dtype.type(v_th)
    gain = 1 - tau if conventions.input_scale == "1 - tau" else 1  # some neurons average their input
    u, s, v, v_before = np.zeros_like(x), np.zeros_like(x), np.zeros_like(x), np.zeros_like(x[0])
    for t in range(len(x)):
        u[t] = tau * v_before + gain * x[t]  # (F1)
        if conventions.reset == "soft late" and t > 0:
            u[t] = u[t] - threshold * s[t - 1]  # (F5)
        s[t] = u[t] >= threshold if conventions.spike_test == ">=" else u[t] > threshold  # (F2)
        if relaxed_width is not None:
            s[t] = primitive(u[t] - threshold, relaxed_width[t], surrogate, conventions)
        v[t] = v_before = reset(u[t], s[t], threshold, conventions)
    return s, NeuronCache(x, u, s, v, decay, v_th, conventions, surrogate)


def lif_backward(ds, cache, width, conventions=None, surrogate=None):
    """NeuronGrads by backpropagation through time, of ds (T, ...) from the layer above and kappa_t (T,)."""
    x, u, s, c, surrogate = cache.x, cache.u, cache.s, conventions or cache.conventions, surrogate or cache.surrogate
    tau, v_th, hard = x.dtype.type(cache.decay), x.dtype.type(cache.v_th), c.reset == "hard"
    gain = 1 - tau if c.input_scale == "1 - tau" else 1
    du, dx, dwidth, ddecay, nothing = np.zeros_like(u), np.zeros_like(u), np.zeros_like(width), 0, np.zeros_like(u[0])
    dv, du_next = nothing, nothing  # gradients of v_t and of u_{t+1}; nothing comes after the last timestep
    for t in reversed(range(len(ds))):
        h = derivative(u[t] - v_th, width[t], surrogate, c)
        through = {"hard": u[t] * dv, "soft": v_th * dv, "soft late": v_th * du_next, "none": nothing}[c.reset]
        ds_total = ds[t] - (through if c.reset_gradient == "attached" else nothing)  # (B1) a spike lowers the potential
        kept = dv * (1 - s[t]) if hard else dv  # a neuron that was set to 0 has forgotten u_t
        du[t] = kept + ds_total * h  # (B2)
        dx[t] = gain * du[t]  # (B3)
        v_before = reset(u[t - 1], s[t - 1], v_th, c) if t > 0 else nothing
        ddecay += total(du[t] * (v_before - x[t] if c.input_scale == "1 - tau" else v_before))  # (B4)
        if c.width_gradient == "flows" and width[t] > 0:
            dwidth[t] = -total(ds_total * h * ((u[t] - v_th) / width[t]))  # (B7)
        dv, du_next = tau * du[t], du[t]  # (B5)
    return NeuronGrads(dx, u.dtype.type(ddecay), dwidth, du)


def decay_from_w(w, conventions=MPD_AGL):
    """PLIF learns its leak: tau = sigmoid(w), one w for a layer. exp of a negative number never overflows."""
    e = math.exp(-abs(float(w)))
    sigmoid = 1 / (1 + e) if w >= 0 else e / (1 + e)  # (F6)
    return sigmoid if conventions.plif == "tau" else 1.0 - sigmoid


def dw_from_ddecay(ddecay, decay, conventions=MPD_AGL):
    """The chain rule through the sigmoid, with a minus where it gives 1 - tau."""
    return (1 if conventions.plif == "tau" else -1) * float(ddecay) * decay * (1.0 - decay)  # (B6)


def plif_forward(x, w, v_th=0.5, conventions=MPD_AGL, surrogate="rectangular", relaxed_width=None):
    """s and cache, as of `lif_forward`."""
    return lif_forward(x, decay_from_w(w, conventions), v_th, conventions, surrogate, relaxed_width)


def plif_backward(ds, cache, width, conventions=None, surrogate=None):
    """(dx, dw)."""
    grads = lif_backward(ds, cache, width, conventions, surrogate)
    return grads.dx, ds.dtype.type(dw_from_ddecay(grads.ddecay, cache.decay, conventions or cache.conventions))


# --- tdBN: batch norm over time, samples and places, scaled to the threshold ----------------------------------------------
TdBNCache = namedtuple("TdBNCache", "x_hat gamma mean var inv_std scale shift training ddof")  # x_hat is of x's shape


def tdbn_forward(x, gamma, beta, v_th=0.5, alpha=1.0, eps=1e-5, conventions=MPD_AGL, running=None):
    """y and cache; with running = (mean, var) those are used, as in evaluation, instead of the batch's own."""
    axes, M, (mean, var) = tuple(range(x.ndim - 1)), x.size // x.shape[-1], running or (None, None)
    if running is None:
        mean = total(x, axes) / M  # (N1)
        var = total((x - mean) * (x - mean), axes) / M  # (N2)
    ddof = 1 if conventions.norm_variance == "unbiased" and running is None else 0
    inv_std = 1 / np.sqrt(var * (M / (M - ddof)) + eps)
    x_hat = (x - mean) * inv_std  # (N3)
    scale = alpha * v_th if conventions.norm_scale == "alpha V_th" else 1.0
    shift = v_th if conventions.norm_shift == "beta V_th" else 1.0
    y = gamma * (scale * x_hat) + shift * beta  # (N4)
    return y, TdBNCache(x_hat, gamma, mean, var, inv_std, scale, shift, running is None, ddof)


def tdbn_backward(dy, cache):
    """(dx, dgamma, dbeta). In training mean and variance depend on x too, and each takes a mean out of the gradient."""
    axes, M, x_hat = tuple(range(dy.ndim - 1)), dy.size // dy.shape[-1], cache.x_hat
    dgamma, dbeta = total(dy * (cache.scale * x_hat), axes), cache.shift * total(dy, axes)  # (N5)
    g = dy * (cache.gamma * cache.scale)
    if cache.training:
        g = g - total(g, axes) / M - x_hat * (total(g * x_hat, axes) / (M - cache.ddof))  # (N6)
    return g * cache.inv_std, dgamma, dbeta


def update_running(running_mean, running_var, cache, momentum=0.1):
    """The statistics for evaluation, in place; their variance is the unbiased one, whatever training divides by."""
    M = cache.x_hat.size // cache.x_hat.shape[-1]
    for running, batch in ((running_mean, cache.mean), (running_var, cache.var * (M / (M - 1)))):
        running[...] = (1 - momentum) * running + momentum * batch  # (N7)


# --- synapses and pools ---------------------------------------------------------------------------------------------------
SynapseCache = namedtuple("SynapseCache", "x weight bias stride padding", defaults=[1, 0])


def taps(weight, images, stride, Ho, Wo):
    """For each place (p, q) of the kernel what it sees: for each of Ho x Wo outputs one pixel of every image. Views."""
    for p in range(weight.shape[0]):
        for q in range(weight.shape[1]):
            yield weight[p, q], images[:, p : p + stride * Ho : stride, q : q + stride * Wo : stride]


def conv2d_forward(x, weight, bias=None, stride=1, padding=0):
    """y (..., Ho, Wo, C_out) and cache; weight (kh, kw, C_in, C_out): for each place a matrix product over channels."""
    if weight.ndim == 2:  # a linear map (F_in, F_out) is the same for an image of one pixel and a kernel of one place
        y, _ = conv2d_forward(x[..., None, None, :], weight[None, None], bias)
        return y[..., 0, 0, :], SynapseCache(x, weight, bias)
    images = np.pad(x.reshape(-1, *x.shape[-3:]), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    Ho, Wo = ((x.shape[i - 3] + 2 * padding - weight.shape[i]) // stride + 1 for i in (0, 1))
    y = 0 if bias is None else bias
    for w, seen in taps(weight, images, stride, Ho, Wo):
        y = y + product(seen.reshape(-1, len(w)), w)  # (C1)
    return y.reshape(*x.shape[:-3], Ho, Wo, -1), SynapseCache(x, weight, bias, stride, padding)


def conv2d_backward(dy, cache):
    """(dx, dweight, dbias): the same products backwards; a pixel that several outputs saw adds up what they give it."""
    x, weight, bias, stride, padding = cache
    if weight.ndim == 2:
        cache = cache._replace(x=x[..., None, None, :], weight=weight[None, None])
        dx, dweight, dbias = conv2d_backward(dy[..., None, None, :], cache)
        return dx[..., 0, 0, :], dweight[0, 0], dbias
    images = np.pad(x.reshape(-1, *x.shape[-3:]), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    dimages, dweight, flat = np.zeros_like(images), np.zeros_like(weight), dy.reshape(-1, dy.shape[-1])
    to, back = taps(weight, images, stride, *dy.shape[-3:-1]), taps(dweight, dimages, stride, *dy.shape[-3:-1])
    for (w, seen), (dw, dseen) in zip(to, back, strict=True):
        dw[...] = product(seen.reshape(-1, len(w)).T, flat)  # (C2)
        dseen += product(flat, w.T).reshape(dseen.shape)  # (C3)
    dx = dimages[:, padding : padding + x.shape[-3], padding : padding + x.shape[-2]].reshape(x.shape)
    return dx, dweight, None if bias is None else total(flat, (0,))  # (C4)


def avg_pool_forward(x, size=(2, 2)):
    """Mean of 2x2 squares, or with the image's own size over the whole image; an odd last row or column is left out."""
    (a, b), rows, columns = size, x.shape[-3] // size[0], x.shape[-2] // size[1]
    squares = x[..., : a * rows, : b * columns, :].reshape(*x.shape[:-3], rows, a, columns, b, x.shape[-1])
    return total(squares, (-4, -2)) / (a * b), (x.shape, size)  # (C5)


def avg_pool_backward(dy, cache):
    """dx: the same share for each pixel of a square, 0 for what was left out."""
    shape, (a, b) = cache
    dx, squares = np.zeros(shape, dy.dtype), np.repeat(np.repeat(dy / (a * b), a, axis=-3), b, axis=-2)  # (C6)
    dx[..., : squares.shape[-3], : squares.shape[-2], :] = squares
    return dx


# --- losses of the logits (T, N, K) and labels (N,) ---------------------------------------------------------------------
def log_softmax(z):
    """Over the last axis. The largest logit is taken off first, so that exp never overflows."""
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(total(np.exp(z), (-1,)))[..., None]  # (L2)


def cross_entropy(logits, labels, conventions=MPD_AGL):
    """(loss, dlogits); each timestep has its share in the logits that are judged."""
    T, N, K = logits.shape
    shares = {"mean": np.full(T, 1 / T), "sum": np.ones(T), "last": np.arange(T) == T - 1}[conventions.readout]
    shares, one_hot = shares.astype(logits.dtype)[:, None, None], np.eye(K, dtype=logits.dtype)[labels]
    log_p = log_softmax(total(shares * logits, (0,)))  # (L1)
    loss = -total(log_p * one_hot) / N  # (L3)
    return loss, shares * ((np.exp(log_p) - one_hot) / N)  # (L4)


def tet(logits, labels, lam=1e-3, target=1.0):
    """(loss, dlogits) of TET: cross-entropy at every timestep, and a pull of all logits towards one target."""
    T, N, K = logits.shape
    log_p, one_hot, off = log_softmax(logits), np.eye(K, dtype=logits.dtype)[labels], logits - target
    loss = (1 - lam) * -total(log_p * one_hot) / (T * N) + lam * total(off * off) / logits.size  # (L5)
    return loss, (1 - lam) / (T * N) * (np.exp(log_p) - one_hot) + 2 * lam / logits.size * off  # (L6)


# --- networks: a list of layers, walked forwards and then backwards -------------------------------------------------------
# A layer is {"kind": "pool"}, "sum_pool", "global_pool" or "flatten"; {"kind": "readout", "name": "fc"}, the last one;
# {"kind": "block", "name": "conv1", "stride": 2, "padding": 1, "norm": None or {"alpha": 1.0, "eps": 1e-5},
# "neuron": "lif" or "plif", "decay": 0.2, "v_th": 0.5}; {"kind": "residual", "body": [blocks], "shortcut": block or None}.
# Parameters: {"conv1.weight": array, .gamma, .beta, .w of PLIF, .bias}; running statistics: {"conv1": (mean, var)}.

Network = namedtuple("Network", "layers params conventions surrogate running", defaults=[MPD_AGL, "rectangular", None])


def block_forward(net, block, x, values):
    """Synapse, tdBN, neuron; a readout is a synapse alone. The width needs gamma, decay and threshold, which meet here."""
    name, norm, params, c = block["name"], block.get("norm"), net.params, net.conventions
    geometry, norm_cache, gamma = (block.get("stride", 1), block.get("padding", 0)), None, params.get(f"{name}.gamma")
    current, synapse = conv2d_forward(x, params[f"{name}.weight"], params.get(f"{name}.bias"), *geometry)
    if block["kind"] == "readout":
        return current, (synapse, None, None, None)
    if norm:
        scales, running = (block["v_th"], norm["alpha"], norm["eps"]), net.running and net.running[name]
        current, norm_cache = tdbn_forward(current, gamma, params[f"{name}.beta"], *scales, c, running)
    decay = decay_from_w(params[f"{name}.w"], c) if block["neuron"] == "plif" else block["decay"]
    s, neuron = lif_forward(current, decay, block["v_th"], c, net.surrogate)
    width = width_of_layer(gamma, block["v_th"], decay, len(x), x.dtype, c, norm["alpha"] if norm else 1.0)
    values |= {f"{name}.{key}": getattr(neuron, key) for key in "xusv"} | {f"{name}.width": width}
    return s, (synapse, norm_cache, neuron, width)


def block_backward(block, d, cache, values):
    """The three in reverse; d is the gradient of the block's output and then of each part's input."""
    name, (synapse, norm, neuron, width) = block["name"], cache
    if neuron:
        grads, c, dgamma_width, ddecay_width = lif_backward(d, neuron, width), neuron.conventions, 0, 0
        values |= {f"{name}.ds": d, f"{name}.du": grads.du, f"{name}.dx": grads.dx}
        if norm and c.width_gradient == "flows":
            through = norm.gamma, neuron.v_th, neuron.decay, c, block["norm"]["alpha"]
            dgamma_width, ddecay_width = width_gradient(grads.dwidth, *through)
        if block["neuron"] == "plif":
            values[f"grad_{name}.w"] = d.dtype.type(dw_from_ddecay(grads.ddecay + ddecay_width, neuron.decay, c))
        d = grads.dx
    if norm:
        d, dgamma, values[f"grad_{name}.beta"] = tdbn_backward(d, norm)
        values[f"grad_{name}.gamma"] = dgamma + dgamma_width
    d, values[f"grad_{name}.weight"], dbias = conv2d_backward(d, synapse)
    if dbias is not None:
        values[f"grad_{name}.bias"] = dbias
    return d


def forward(net, layers, x, values):
    """y, and one cache for each layer. What a block computes goes into `values` under its name, as conv1.u."""
    caches = []
    for layer in layers:
        kind, cache = layer["kind"], x.shape
        if kind in ("block", "readout"):
            x, cache = block_forward(net, layer, x, values)
        elif kind == "residual":
            body, inner = forward(net, layer["body"], x, values)
            side, outer = forward(net, [layer["shortcut"]], x, values) if layer["shortcut"] else (x, None)
            x, cache = body + side, (inner, outer)  # (R1)
        elif kind == "flatten":
            x = x.reshape(*x.shape[:2], -1)
        else:
            x, cache = avg_pool_forward(x, x.shape[-3:-1] if kind == "global_pool" else (2, 2))
            x = 4 * x if kind == "sum_pool" else x[..., 0, 0, :] if kind == "global_pool" else x
        caches.append(cache)
    return x, caches


def backward(layers, d, caches, values):
    """The gradient of the layers' input. Those of parameters go into `values`, as grad_conv1.weight."""
    for layer, cache in zip(reversed(layers), reversed(caches), strict=True):
        kind = layer["kind"]
        if kind in ("block", "readout"):
            d = block_backward(layer, d, cache, values)
        elif kind == "residual":
            side = backward([layer["shortcut"]], d, cache[1], values) if layer["shortcut"] else d
            d = backward(layer["body"], d, cache[0], values) + side  # (R2)
        elif kind == "flatten":
            d = d.reshape(cache)
        else:
            d = 4 * d if kind == "sum_pool" else d[..., None, None, :] if kind == "global_pool" else d
            d = avg_pool_backward(d, cache)
    return d


def loss_and_grads(net, x, labels, loss="ce"):
    """(loss, {parameter: gradient}, everything that was computed, by name, and the layers' caches)."""
    values = {}
    logits, caches = forward(net, net.layers, x, values)
    value, dlogits = cross_entropy(logits, labels, net.conventions) if loss == "ce" else tet(logits, labels)
    values["logits"], values["loss"], values["dlogits"] = logits, value, dlogits
    values["grad_x"] = backward(net.layers, dlogits, caches, values)
    return value, {name: values[f"grad_{name}"] for name in net.params}, values, caches


# --- training -------------------------------------------------------------------------------------------------------------
def sgd_step(params, grads, velocity, lr, momentum=0.9, weight_decay=0.0):
    """One step of stochastic gradient descent, in place; velocity {name: array} starts empty."""
    for name, p in params.items():
        velocity[name] = momentum * velocity.get(name, 0) + (grads[name] + weight_decay * p)  # (O1)
        p -= lr * velocity[name]  # (O2)


def train(epochs=4, batch=50, T=2, lr=0.1, seed=0):
    """Three spiking convolutions of stride 2 and a readout, on 5,000 images of Fashion-MNIST; tested on 1,000 others."""
    data = np.load(__file__.replace("reference.py", "data/bundled/fashion_mnist_subset.npz"))
    x, x_test = (np.repeat(data[key][None, ..., None] / np.float32(255), T, axis=0) for key in ("x_train", "x_test"))
    rng, layers, params, running, velocity, n = np.random.default_rng(seed), [], {}, {}, {}, x.shape[1]
    block = {"kind": "block", "stride": 2, "padding": 1, "neuron": "lif", "decay": 0.2, "v_th": 0.5}
    for name, c_in, c in (("conv1", 1, 16), ("conv2", 16, 32), ("conv3", 32, 64)):
        layers.append({**block, "name": name, "norm": {"alpha": 1.0, "eps": 1e-5}})
        params[f"{name}.weight"] = rng.standard_normal((3, 3, c_in, c), np.float32) * math.sqrt(2 / (9 * c))
        params |= {f"{name}.gamma": np.ones(c, np.float32), f"{name}.beta": np.zeros(c, np.float32)}
        running[name] = np.zeros(c, np.float32), np.ones(c, np.float32)
    params["fc.weight"] = rng.standard_normal((4 * 4 * 64, 10), np.float32) / math.sqrt(4 * 4 * 64)
    net = Network([*layers, {"kind": "flatten"}, {"kind": "readout", "name": "fc"}], params)
    for epoch in range(epochs):
        for step, chosen in enumerate(rng.permutation(n).reshape(-1, batch)):
            loss, grads, _, caches = loss_and_grads(net, x[:, chosen], data["y_train"][chosen])
            annealed = lr * (1 + math.cos(math.pi * (epoch + step * batch / n) / epochs)) / 2  # (O3)
            sgd_step(params, grads, velocity, annealed)
            for layer, cache in zip(layers, caches, strict=False):  # `layers` are the three blocks alone
                update_running(*running[layer["name"]], cache[1])
        logits, _ = forward(net._replace(running=running), net.layers, x_test, {})
        correct = (logits.mean(axis=0).argmax(axis=1) == data["y_test"]).mean()
        print(f"epoch {epoch + 1}: loss of the last batch {loss:.3f}, test accuracy {correct:.1%}", flush=True)


if __name__ == "__main__":
    train()
