"""Answers as students write them: for each exercise a right one, and wrong ones with words that the diagnosis must have.

They share no code with agl_ref. ANSWERS = {exercise: (right answer, [(wrong answer, words), ...])}.
"""

import math

import numpy as np

ANSWERS = {}


def right(answer):
    """Decorator: a right answer, by its name."""
    ANSWERS[answer.__name__] = (answer, [])
    return answer


def wrong(words):
    """Decorator: a wrong answer to the exercise whose right one came last, and what its diagnosis says."""

    def register(answer):
        ANSWERS[list(ANSWERS)[-1]][1].append((answer, words))
        return answer

    return register


# --- one neuron -----------------------------------------------------------------------------------


@right
def leak(v, x, decay):
    return np.array([decay * vi + xi for vi, xi in zip(v, x, strict=True)])


wrong("multiplies the input x as well")(lambda v, x, decay: decay * (v + x))
wrong("does not leak")(lambda v, x, decay: v + x)
wrong("scaled by 1 - decay")(lambda v, x, decay: decay * v + (1 - decay) * x)
wrong("wrong sign")(lambda v, x, decay: -(decay * v + x))


@right
def fires(u, v_th):
    return np.where(u < v_th, 0.0, 1.0)


wrong("> and not >=")(lambda u, v_th: np.where(u > v_th, 1.0, 0.0))
wrong("True and False")(lambda u, v_th: u >= v_th)
wrong("compared with 0")(lambda u, v_th: np.heaviside(u, 1.0))
wrong("int64")(lambda u, v_th: (u >= v_th).astype(np.int64))


@right
def hard_reset(u, s):
    return np.where(s == 1, 0.0, u)


@wrong("changes its argument u in place")
def _(u, s):
    u[s == 1] = 0
    return u


wrong("spike is subtracted")(lambda u, s: u - s)
wrong("others lose it")(lambda u, s: u * s)
wrong("returns None")(lambda u, s: None)
wrong("u is compared with 0.5: who fired stands in s")(lambda u, s: np.where(u >= 0.5, 0.0, u))
wrong("u is compared with 1: who fired stands in s")(lambda u, s: np.where(u >= 1, 0.0, u))
wrong("v is a list")(lambda u, s: [0.0 if fired else potential for potential, fired in zip(u, s, strict=True)])


@right
def soft_reset(u, s, v_th):
    v = u.copy()
    v[s == 1] -= v_th
    return v


wrong("the reset is hard")(lambda u, s, v_th: u * (1 - s))
wrong("V_th forgotten")(lambda u, s, v_th: u - s)
wrong("from every neuron")(lambda u, s, v_th: u - v_th)


@right
def lif_forward(x, decay, v_th):
    T, N = x.shape
    u, s = np.empty((T, N)), np.empty((T, N))
    for n in range(N):
        v = 0.0
        for t in range(T):
            v = decay * v + x[t, n]
            u[t, n], s[t, n] = v, float(v >= v_th)
            if v >= v_th:
                v = 0.0
    return u, s


def loop(x, decay, v_th, body):
    """A loop over time; body(v, x_t) gives u_t, s_t, v_t."""
    u, s, v = np.zeros(x.shape), np.zeros(x.shape), np.zeros(x.shape[1])
    for t in range(len(x)):
        u[t], s[t], v = body(v, x[t])
    return u, s


@wrong("> and not >=")
def _(x, decay, v_th):
    def body(v, xt):
        u = decay * v + xt
        return u, 1.0 * (u > v_th), u * (u <= v_th)

    return loop(x, decay, v_th, body)


@wrong("the reset is soft")
def _(x, decay, v_th):
    def body(v, xt):
        u = decay * v + xt
        return u, 1.0 * (u >= v_th), u - v_th * (u >= v_th)

    return loop(x, decay, v_th, body)


@wrong("nothing is reset")
def _(x, decay, v_th):
    return loop(x, decay, v_th, lambda v, xt: (decay * v + xt, 1.0 * (decay * v + xt >= v_th), decay * v + xt))


@wrong("after the reset")
def _(x, decay, v_th):
    u, s = lif_forward(x, decay, v_th)
    return u * (1 - s), s


@wrong("expected 2")
def _(x, decay, v_th):
    return lif_forward(x, decay, v_th)[0]


@wrong("u is the same at every timestep")
def _(x, decay, v_th):
    u, s, v = [], [], np.zeros(x.shape[1])
    for t in range(len(x)):
        v *= decay
        v += x[t]
        u.append(v)
        s.append(1.0 * (v >= v_th))
        v[v >= v_th] = 0
    return np.array(u), np.array(s)


@wrong("u is a list")
def _(x, decay, v_th):
    return [list(row) for row in lif_forward(x, decay, v_th)]


@wrong("first wrong at t = 3")
def _(x, decay, v_th):
    u, s = lif_forward(x, decay, v_th)
    u[2:] += 0.125 * np.arange(1, 1 + u.shape[1])
    return u, s


wrong("in the other order")(lambda x, decay, v_th: lif_forward(x, decay, v_th)[::-1])


@wrong("the first timestep can fire too")
def _(x, decay, v_th):
    u, s = np.zeros(x.shape), np.zeros(x.shape)
    u[0] = x[0]
    for t in range(1, len(x)):
        u[t] = decay * u[t - 1] * (1 - s[t - 1]) + x[t]
        s[t] = u[t] >= v_th
    return u, s


# --- why a surrogate ------------------------------------------------------------------------------


@right
def rectangular(z, width):
    derivative = np.zeros_like(z)
    derivative[(z > -width / 2) & (z < width / 2)] = 1 / width
    return derivative


wrong("so kappa/2 to each side")(lambda z, width: (np.abs(z) < width) / width)
wrong("1/kappa is missing")(lambda z, width: 1.0 * (np.abs(z) < width / 2))
wrong("the edge belongs to the window")(lambda z, width: (np.abs(z) <= width / 2) / width)
wrong("absolute value")(lambda z, width: (z < width / 2) / width)


@right
def triangular(z, width):
    return np.interp(z, [-width, 0, width], [0, 1 / width, 0])


wrong("1/kappa is missing")(lambda z, width: np.clip(1 - np.abs(z) / width, 0, None))
wrong("goes negative")(lambda z, width: (1 - np.abs(z) / width) / width)
wrong("half the base")(lambda z, width: np.clip(1 - np.abs(z) / (width / 2), 0, None) / (width / 2))
wrong("True and False")(lambda z, width: np.abs(z) < width)


@right
def relaxed_spike(z, width):
    return np.interp(z, [-width / 2, width / 2], [0.0, 1.0])


wrong("between 0 and 1")(lambda z, width: z / width + 0.5)
wrong("1/2 is missing")(lambda z, width: np.minimum(1, np.maximum(0, z / width)))
wrong("hard step")(lambda z, width: np.where(z >= 0, 1.0, 0.0))
wrong("1/(2 kappa)")(lambda z, width: np.interp(z, [-width, width], [0.0, 1.0]))
wrong("logistic curve of z/kappa")(lambda z, width: 1 / (1 + np.exp(-z / width)))
wrong("logistic curve of 4 z/kappa")(lambda z, width: 0.5 * (1 + np.tanh(2 * z / width)))
wrong("logistic curve of z:")(lambda z, width: 1 / (1 + np.exp(-z)))


@right
def one_step_backward(ds, u, v_th, width):
    return np.where(np.abs(u - v_th) < width / 2, ds / width, 0.0)


wrong("V_th is forgotten")(lambda ds, u, v_th, width: ds * (np.abs(u) < width / 2) / width)
wrong("ds is forgotten")(lambda ds, u, v_th, width: (np.abs(u - v_th) < width / 2) / width)
wrong("1/kappa is missing")(lambda ds, u, v_th, width: ds * (np.abs(u - v_th) < width / 2))
wrong("true derivative")(lambda ds, u, v_th, width: np.zeros_like(ds))
wrong("2 times the right result")(lambda ds, u, v_th, width: 2 * one_step_backward(ds, u, v_th, width))


# --- backpropagation through time by hand ---------------------------------------------------------


@right
def reset_backward(ds, dv, u, s):
    ds_total = ds.copy()
    ds_total -= dv * u
    return ds_total, np.where(s == 1, 0.0, dv)


wrong("makes it negative")(lambda ds, dv, u, s: (ds + u * dv, dv * (1 - s)))
wrong("detached gradient")(lambda ds, dv, u, s: (ds, dv * (1 - s)))
wrong("does not stop the direct path")(lambda ds, dv, u, s: (ds - u * dv, dv))
wrong("other order")(lambda ds, dv, u, s: (dv * (1 - s), ds - u * dv))
wrong("v, the potential after the reset")(lambda ds, dv, u, s: (ds - u * (1 - s) * dv, dv * (1 - s)))
wrong("u is compared with 0.5 in du_direct")(lambda ds, dv, u, s: (ds - u * dv, dv * (u < 0.5)))
wrong("du_direct is wrong in")(lambda ds, dv, u, s: (ds - u * dv, dv * (u < 0.7)))


def bptt(ds, u, s, decay, v_th, width, rule, end=-1):
    """A loop backwards; rule(ds_t, u_t, s_t, dv, h) gives du and what is carried."""
    T, N = u.shape
    dx, dv = np.zeros((T, N)), np.zeros(N)
    for t in range(T - 1, end, -1):
        h = (np.abs(u[t] - v_th) < width[t] / 2) / width[t]
        dx[t], carried = rule(ds[t], u[t], s[t], dv, h)
        dv = decay * carried
    return dx


def attached(ds, u, s, dv, h):
    du = dv * (1 - s) + (ds - u * dv) * h
    return du, du


def detached(ds, u, s, dv, h):
    du = dv * (1 - s) + ds * h
    return du, du


@right
def lif_backward(ds, u, s, decay, v_th, width):
    return bptt(ds, u, s, decay, v_th, width, attached)


wrong("detached")(lambda ds, u, s, decay, v_th, width: bptt(ds, u, s, decay, v_th, width, detached))
wrong("not multiplied by decay")(lambda ds, u, s, decay, v_th, width: bptt(ds, u, s, 1.0, v_th, width, attached))


@wrong("forwards")
def _(ds, u, s, decay, v_th, width):
    return bptt(ds[::-1], u[::-1], s[::-1], decay, v_th, width[::-1], attached)[::-1]


@wrong("nothing is carried")
def _(ds, u, s, decay, v_th, width):
    return ds * (np.abs(u - v_th) < width[:, None] / 2) / width[:, None]


@wrong("width of the first timestep")
def _(ds, u, s, decay, v_th, width):
    return bptt(ds, u, s, decay, v_th, np.repeat(width[0], len(u)), attached)


@wrong("reversed in time")
def _(ds, u, s, decay, v_th, width):
    return np.array(list(lif_backward(ds, u, s, decay, v_th, width)[::-1]))


@wrong("going backwards")
def _(ds, u, s, decay, v_th, width):
    dx = lif_backward(ds, u, s, decay, v_th, width)
    dx[:2] *= 1.5
    return dx


@wrong("computed again from u")
def _(ds, u, s, decay, v_th, width):
    return bptt(ds, u, (u >= v_th).astype(float), decay, v_th, width, attached)


@wrong("range(T - 1, 0, -1) stops before the first timestep")
def _(ds, u, s, decay, v_th, width):
    return bptt(ds, u, s, decay, v_th, width, attached, end=0)


@right
def lif_backward_detached(ds, u, s, decay, v_th, width):
    return bptt(ds, u, s, decay, v_th, width, detached)


wrong("the reset is attached")(lambda ds, u, s, decay, v_th, width: bptt(ds, u, s, decay, v_th, width, attached))
wrong("not multiplied by decay")(lambda ds, u, s, decay, v_th, width: bptt(ds, u, s, 1.0, v_th, width, detached))


@wrong("1 - s is missing")
def _(ds, u, s, decay, v_th, width):
    return bptt(ds, u, 0 * s, decay, v_th, width, detached)


@wrong("only the part through the spike")
def _(ds, u, s, decay, v_th, width):
    return bptt(ds, u, s, decay, v_th, width, lambda ds, u, s, dv, h: (dv * (1 - s) + ds * h, ds * h))


@right
def decay_gradient(du, u, s):
    total, v = 0.0, np.zeros(u.shape[1])
    for t in range(len(u)):
        total += (du[t] * v).sum()
        v = u[t] * (1 - s[t])
    return total


wrong("v_t is used")(lambda du, u, s: np.sum(du * u * (1 - s)))
wrong("u_{t-1} is used")(lambda du, u, s: np.sum(du[1:] * u[:-1]))
wrong("a sum or a mean missing")(lambda du, u, s: (du[1:] * (u * (1 - s))[:-1]).sum(axis=0))
wrong("wraps around")(lambda du, u, s: np.sum(du * np.roll(u * (1 - s), 1, axis=0)))
wrong("mean is taken over all")(lambda du, u, s: decay_gradient(du, u, s) / u.size)
wrong("entries from t = 2 on")(lambda du, u, s: np.mean(du[1:] * (u * (1 - s))[:-1]))
wrong("over the T - 1 timesteps")(lambda du, u, s: (du[1:] * (u * (1 - s))[:-1]).mean(axis=0).sum())
wrong("mean is taken over the timesteps;")(lambda du, u, s: decay_gradient(du, u, s) / len(u))


@right
def central_difference(f, x, h):
    gradient, flat = np.empty(x.size), x.ravel()
    for i in range(x.size):
        e = np.zeros(x.size)
        e[i] = h
        gradient[i] = (f((flat + e).reshape(x.shape)) - f((flat - e).reshape(x.shape))) / (2 * h)
    return gradient.reshape(x.shape)


@wrong("taken forwards")
def _(f, x, h):
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        moved = x.copy()
        moved[i] += h
        gradient[i] = (f(moved) - f(x)) / h
    return gradient


wrong("2 h apart")(lambda f, x, h: 2 * central_difference(f, x, h))


@wrong(
    "has lost the old values. Work on a new array, for example x.copy(). Your answer is what you get if an entry is not put"
)
def _(f, x, h):
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        x[i] += h
        above = f(x)
        x[i] -= 2 * h
        gradient[i] = (above - f(x)) / (2 * h)
    return gradient


@wrong("has not quite the old values: adding and subtracting rounds")
def _(f, x, h):
    gradient = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        x[i] += h
        above = f(x)
        x[i] -= 2 * h
        gradient[i] = (above - f(x)) / (2 * h)
        x[i] += h
    return gradient


@wrong("all entries move at once")
def _(f, x, h):
    return np.full(x.shape, (f(x + h) - f(x - h)) / (2 * h))


@wrong("has shape ()")
def _(f, x, h):
    return (f(x + h) - f(x - h)) / (2 * h)


@right
def plif_gradient(ddecay, w):
    e = math.exp(-w)
    return ddecay * e / (1 + e) ** 2


wrong("1 - tau is missing")(lambda ddecay, w: ddecay / (1 + math.exp(-w)))
wrong("w (1 - w)")(lambda ddecay, w: ddecay * w * (1 - w))
wrong("dw is not ddecay")(lambda ddecay, w: ddecay)
wrong("1/2 times the right result")(lambda ddecay, w: plif_gradient(ddecay, w) / 2)


# --- the membrane potential -----------------------------------------------------------------------


@right
def tdbn_forward(x, gamma, beta, v_th):
    y = np.empty(x.shape)
    for c in range(x.shape[2]):
        channel = x[:, :, c].ravel()
        mean = channel.sum() / channel.size
        var = ((channel - mean) ** 2).sum() / channel.size
        y[:, :, c] = gamma[c] * v_th * (x[:, :, c] - mean) / (var + 1e-5) ** 0.5 + beta[c]
    return y


def batch_norm(x, axis=(0, 1), ddof=0, eps=1e-5):
    return (x - x.mean(axis=axis)) / np.sqrt(x.var(axis=axis, ddof=ddof) + eps)


wrong("V_th is forgotten")(lambda x, gamma, beta, v_th: gamma * batch_norm(x) + beta)
wrong("unbiased")(lambda x, gamma, beta, v_th: gamma * v_th * batch_norm(x, ddof=1) + beta)
wrong("eps is forgotten")(lambda x, gamma, beta, v_th: gamma * v_th * batch_norm(x, eps=0.0) + beta)
wrong("taken over time alone")(lambda x, gamma, beta, v_th: gamma * v_th * batch_norm(x, axis=0) + beta)


@right
def tdbn_backward(dy, x, gamma, v_th):
    M = x.shape[0] * x.shape[1]
    std = np.sqrt(x.var(axis=(0, 1)) + 1e-5)
    x_hat = (x - x.mean(axis=(0, 1))) / std
    dgamma, dbeta = v_th * np.einsum("tnc,tnc->c", dy, x_hat), dy.sum(axis=(0, 1))
    dx = gamma * v_th / (M * std) * (M * dy - dbeta - x_hat * dgamma / v_th)
    return dx, dgamma, dbeta


def norm_backward(dy, x, gamma, v_th, keep=(1, 1), ddof=0):
    std = np.sqrt(x.var(axis=(0, 1), ddof=ddof) + 1e-5)
    x_hat = (x - x.mean(axis=(0, 1))) / std
    g = dy * gamma * v_th
    dx = (g - keep[0] * g.mean(axis=(0, 1)) - keep[1] * x_hat * (g * x_hat).mean(axis=(0, 1))) / std
    return dx, (dy * v_th * x_hat).sum(axis=(0, 1)), dy.sum(axis=(0, 1))


wrong("treated as constants")(lambda dy, x, gamma, v_th: norm_backward(dy, x, gamma, v_th, keep=(0, 0)))
wrong("through the variance")(lambda dy, x, gamma, v_th: norm_backward(dy, x, gamma, v_th, keep=(1, 0)))
wrong("through the mean")(lambda dy, x, gamma, v_th: norm_backward(dy, x, gamma, v_th, keep=(0, 1)))
wrong("unbiased")(lambda dy, x, gamma, v_th: norm_backward(dy, x, gamma, v_th, ddof=1))
wrong("V_th is forgotten")(lambda dy, x, gamma, v_th: norm_backward(dy, x, gamma, 1.0))
wrong("in the other order")(lambda dy, x, gamma, v_th: [tdbn_backward(dy, x, gamma, v_th)[k] for k in (0, 2, 1)])


@wrong("Right: dgamma, dbeta")
def _(dy, x, gamma, v_th):
    dx, dgamma, dbeta = tdbn_backward(dy, x, gamma, v_th)
    return dx + 1, dgamma, dbeta


@right
def no_reset_std(sigma, decay, t):
    return sigma * math.sqrt((1 - decay ** (2 * t)) / (1 - decay**2))


wrong("not squared")(lambda sigma, decay, t: sigma * math.sqrt((1 - decay**t) / (1 - decay)))
wrong("square root is missing")(lambda sigma, decay, t: sigma**2 * (1 - decay ** (2 * t)) / (1 - decay**2))
wrong("many timesteps")(lambda sigma, decay, t: sigma / math.sqrt(1 - decay**2))
wrong("one term too few")(lambda sigma, decay, t: sigma * math.sqrt((1 - decay ** (2 * t - 2)) / (1 - decay**2)))
wrong("the numerator alone")(lambda sigma, decay, t: sigma * math.sqrt(1 - decay ** (2 * t)) / (1 - decay**2))
wrong("to the power t and not 2 t")(lambda sigma, decay, t: sigma * math.sqrt((1 - decay**t) / (1 - decay**2)))


# --- the adaptive width ---------------------------------------------------------------------------


@right
def adaptive_width(gamma, v_th, decay, T):
    kappa = np.full(T, 2 * np.sqrt(1 + decay * decay) * np.average(gamma) * v_th)
    kappa[0] = 2 * np.average(gamma) * v_th
    return kappa


wrong("at t = 1 too")(lambda gamma, v_th, decay, T: np.full(T, 2 * np.sqrt(1 + decay**2) * gamma.mean() * v_th))
wrong("kappa_1 is used at every t")(lambda gamma, v_th, decay, T: np.full(T, 2 * gamma.mean() * v_th))
wrong("V_th is forgotten")(lambda gamma, v_th, decay, T: adaptive_width(gamma, 1.0, decay, T))
wrong("factor 2 is missing")(lambda gamma, v_th, decay, T: adaptive_width(gamma, v_th, decay, T) / 2)
wrong("one timestep too many")(lambda gamma, v_th, decay, T: adaptive_width(gamma, v_th, decay, T + 1))
wrong("magnitudes")(lambda gamma, v_th, decay, T: adaptive_width(np.abs(gamma), v_th, decay, T))
wrong("one for each entry of gamma")(lambda gamma, v_th, decay, T: 2 * gamma * v_th)
wrong("one for each entry of gamma")(
    lambda gamma, v_th, decay, T: np.array([adaptive_width(g, v_th, decay, T) for g in gamma])
)


def normal(z):
    return 0.5 * (1 + math.erf(z / math.sqrt(2)))


@right
def coverage(mu, std, v_th, width):
    return normal((v_th + width / 2 - mu) / std) - normal((v_th - width / 2 - mu) / std)


wrong("not kappa/2")(lambda mu, std, v_th, k: normal((v_th + k - mu) / std) - normal((v_th - k - mu) / std))
wrong("mu is forgotten")(lambda mu, std, v_th, k: normal((v_th + k / 2) / std) - normal((v_th - k / 2) / std))
wrong("not divided by std")(lambda mu, std, v_th, k: normal(v_th + k / 2 - mu) - normal(v_th - k / 2 - mu))
wrong("only the half")(lambda mu, std, v_th, k: normal((v_th + k / 2 - mu) / std) - normal((v_th - mu) / std))


@right
def width_for_coverage(mu, std, v_th, share):
    low, high = 0.0, 100.0
    while high - low > 1e-12:
        middle = (low + high) / 2
        low, high = (middle, high) if coverage(mu, std, v_th, middle) < share else (low, middle)
    return high


wrong("half of the window")(lambda mu, std, v_th, share: width_for_coverage(mu, std, v_th, share) / 2)
wrong("centred at the threshold")(lambda mu, std, v_th, share: width_for_coverage(0.0, std, 0.0, share))
wrong("lie outside")(lambda mu, std, v_th, share: width_for_coverage(mu, std, v_th, 1 - share))
wrong("mu is forgotten")(lambda mu, std, v_th, share: width_for_coverage(0.0, std, v_th, share))


def bisection(mu, std, v_th, share, upper, steps):
    low, high = 0.0, upper
    for _ in range(steps):
        middle = (low + high) / 2
        low, high = (middle, high) if coverage(mu, std, v_th, middle) < share else (low, middle)
    return low


wrong("the search ends at 5")(lambda *a: bisection(*a, 5.0, 100))
wrong("the search ends at 10")(lambda *a: bisection(*a, 10.0, 100))
wrong("does a search stop too early?")(lambda mu, std, v_th, share: bisection(mu, std, v_th, share, 20 * std, 10))


@wrong("the wrong half")
def _(mu, std, v_th, share):
    low, high = 0.0, 2 * (abs(v_th - mu) + 10 * std)
    for _ in range(60):
        kappa = (low + high) / 2
        if normal((v_th + kappa / 2 - mu) / std) - normal((v_th - kappa / 2 - mu) / std) > share:
            low = kappa
        else:
            high = kappa
    return kappa


# --- a convolutional network ----------------------------------------------------------------------


@right
def conv2d_forward(x, weight):
    N, H, W, _ = x.shape
    padded = np.zeros((N, H + 2, W + 2, x.shape[3]))
    padded[:, 1:-1, 1:-1] = x
    y = np.empty((N, H, W, weight.shape[3]))
    for h in range(H):
        for w in range(W):
            y[:, h, w] = np.einsum("nijc,ijco->no", padded[:, h : h + 3, w : w + 3], weight)
    return y


@wrong("the kernel is flipped")
def _(x, weight):
    return conv2d_forward(x, weight[::-1, ::-1])


@wrong("in front of the image")
def _(x, weight):
    H, W = x.shape[1:3]
    padded = np.pad(x, ((0, 0), (2, 0), (2, 0), (0, 0)))
    return sum(padded[:, i : i + H, j : j + W] @ weight[i, j] for i in range(3) for j in range(3))


@wrong("padding missing")
def _(x, weight):
    H, W = x.shape[1] - 2, x.shape[2] - 2
    return sum(x[:, i : i + H, j : j + W] @ weight[i, j] for i in range(3) for j in range(3))


@wrong("border")
def _(x, weight):
    y = conv2d_forward(x, weight)
    y[:, [0, -1]] = 0
    y[:, :, [0, -1]] = 0
    return y


@wrong("first sample only")
def _(x, weight):
    y = conv2d_forward(x, weight)
    y[1:] = 0
    return y


@right
def conv2d_backward_weight(dy, x):
    N, H, W, C_in = x.shape
    padded, dweight = np.zeros((N, H + 2, W + 2, C_in)), np.zeros((3, 3, C_in, dy.shape[3]))
    padded[:, 1:-1, 1:-1] = x
    for n in range(N):
        for h in range(H):
            for w in range(W):
                dweight += padded[n, h : h + 3, w : w + 3, :, None] * dy[n, h, w]
    return dweight


wrong("gradient is flipped")(lambda dy, x: conv2d_backward_weight(dy, x)[::-1, ::-1])
wrong("mean over the images")(lambda dy, x: conv2d_backward_weight(dy, x) / len(x))
wrong("only the last image")(lambda dy, x: conv2d_backward_weight(dy[-1:], x[-1:]))
wrong("axes transposed")(lambda dy, x: conv2d_backward_weight(dy, x).transpose(0, 1, 3, 2))


@right
def conv2d_backward_input(dy, weight):
    N, H, W, _ = dy.shape
    dx = np.zeros((N, H + 2, W + 2, weight.shape[2]))
    for h in range(H):
        for w in range(W):
            dx[:, h : h + 3, w : w + 3] += np.einsum("no,ijco->nijc", dy[:, h, w], weight)
    return dx[:, 1:-1, 1:-1]


wrong("kernel is not flipped")(lambda dy, weight: conv2d_forward(dy, weight.swapaxes(2, 3)))
wrong("ValueError")(lambda dy, weight: conv2d_forward(dy, weight[::-1, ::-1]))
wrong("along its rows only")(lambda dy, weight: conv2d_forward(dy, weight[::-1].swapaxes(2, 3)))
wrong("middle tap")(lambda dy, weight: dy @ weight[1, 1].T)


@right
def cross_entropy_of_mean(logits, labels):
    z = logits.mean(axis=0)
    top = z.max(axis=1)
    log_sum = top + np.log(np.exp(z - top[:, None]).sum(axis=1))
    return np.mean(log_sum - z[np.arange(len(labels)), labels])


def entropy(z, labels):
    p = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
    return -np.log(p[np.arange(len(labels)), labels])


wrong("near 1000")(lambda logits, labels: entropy(logits.mean(axis=0), labels).mean())
wrong("mean over N is forgotten")(lambda logits, labels: cross_entropy_of_mean(logits, labels) * len(labels))


@wrong("summed over time")
def _(logits, labels):
    return cross_entropy_of_mean(logits.sum(axis=0)[None], labels)


@wrong("at each timestep and then averaged")
def _(logits, labels):
    return np.mean([cross_entropy_of_mean(z[None], labels) for z in logits])


@right
def cross_entropy_gradient(logits, labels):
    T, N, K = logits.shape
    z = logits.mean(axis=0)
    p = np.exp(z - z.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    p[np.arange(N), labels] -= 1
    return np.tile(p / (T * N), (T, 1, 1))


wrong("1/T is missing")(lambda z, labels: cross_entropy_gradient(z, labels) * len(z))
wrong("1/N is missing")(lambda z, labels: cross_entropy_gradient(z, labels) * len(labels))
wrong("wrong sign")(lambda z, labels: -cross_entropy_gradient(z, labels))
wrong("time axis")(lambda z, labels: cross_entropy_gradient(z, labels)[0])


@right
def sgd_momentum_step(parameter, gradient, velocity, lr, momentum):
    velocity = velocity * momentum
    velocity += gradient
    return parameter - velocity * lr, velocity


@wrong("dampening")
def _(parameter, gradient, velocity, lr, momentum):
    velocity = momentum * velocity + (1 - momentum) * gradient
    return parameter - lr * velocity, velocity


@wrong("changes its argument parameter in place")
def _(parameter, gradient, velocity, lr, momentum):
    velocity = momentum * velocity + gradient
    parameter -= lr * velocity
    return parameter, velocity


@wrong("inside the velocity")
def _(parameter, gradient, velocity, lr, momentum):
    velocity = momentum * velocity + lr * gradient
    return parameter - velocity, velocity


@wrong("old velocity")
def _(parameter, gradient, velocity, lr, momentum):
    return parameter - lr * velocity, momentum * velocity + gradient


# --- your own network -----------------------------------------------------------------------------


@right
def stride_backward(dy, H, W):
    N, rows, columns, C = dy.shape
    dx = np.zeros((N, H, W, C))
    for i in range(rows):
        for j in range(columns):
            dx[:, 2 * i, 2 * j] += dy[:, i, j]
    return dx


wrong("all four places of a square")(lambda dy, H, W: np.kron(dy, np.ones((1, 2, 2, 1)))[:, :H, :W])
wrong("side by side in a corner")(
    lambda dy, H, W: np.pad(dy, ((0, 0), (0, H - dy.shape[1]), (0, W - dy.shape[2]), (0, 0)))
)
wrong("dx has shape")(lambda dy, H, W: dy)


@wrong("not in an edge case")
def _(dy, H, W):
    dx = np.zeros((len(dy), 2 * dy.shape[1], 2 * dy.shape[2], dy.shape[3]))
    dx[:, ::2, ::2] = dy
    return dx


@right
def linear_backward(dy, x, weight):
    F, K = weight.shape
    return np.stack([step @ weight.T for step in dy]), x.reshape(-1, F).T @ dy.reshape(-1, K)


wrong("mean over the timesteps")(
    lambda dy, x, weight: (dy @ weight.T, np.mean([a.T @ b for a, b in zip(x, dy, strict=True)], axis=0))
)
wrong("each summed over time before")(lambda dy, x, weight: (dy @ weight.T, x.sum(axis=0).T @ dy.sum(axis=0)))
wrong("dweight has shape")(lambda dy, x, weight: (dy @ weight.T, np.einsum("tnf,tnk->kf", x, dy)))
wrong("only the last timestep counts")(lambda dy, x, weight: (dy @ weight.T, x[-1].T @ dy[-1]))


# --- when time matters ----------------------------------------------------------------------------


@right
def spike_frames(times, T, duration):
    N, units = times.shape
    x = np.zeros((T, N, units))
    for n in range(N):
        for i in range(units):
            x[math.floor(times[n, i] * T / duration), n, i] = 1.0
    return x


wrong("Are axes transposed")(lambda times, T, duration: spike_frames(times, T, duration).transpose(1, 0, 2))
wrong("last spike")(lambda times, T, duration: spike_frames(times, T, times.max() + 1))
wrong("stays on")(lambda times, T, duration: np.maximum.accumulate(spike_frames(times, T, duration)))


@wrong("rounded to the nearest")
def _(times, T, duration):
    return (np.arange(T)[:, None, None] == np.round(times / duration * T).clip(0, T - 1)).astype(float)


def in_blocks(ds, u, s, decay, v_th, width, starts):
    dx = np.zeros_like(ds)
    dv = np.zeros(ds.shape[1])
    for t in range(len(ds) - 1, -1, -1):
        h = (np.abs(u[t] - v_th) < width[t] / 2) / width[t]
        dx[t], carried = attached(ds[t], u[t], s[t], dv, h)
        dv = 0 * dv if t in starts else decay * carried
    return dx


@right
def truncated_backward(ds, u, s, decay, v_th, width, reach):
    return in_blocks(ds, u, s, decay, v_th, width, range(0, len(ds), reach))


wrong("nothing is cut")(lambda ds, u, s, decay, v_th, width, reach: lif_backward(ds, u, s, decay, v_th, width))


@wrong("every step is cut off")
def _(ds, u, s, decay, v_th, width, reach):
    return in_blocks(ds, u, s, decay, v_th, width, range(len(ds)))


@wrong("one step late")
def _(ds, u, s, decay, v_th, width, reach):
    return in_blocks(ds, u, s, decay, v_th, width, range(reach + 1, len(ds), reach))


@wrong("counted from the end")
def _(ds, u, s, decay, v_th, width, reach):
    return in_blocks(ds, u, s, decay, v_th, width, range(len(ds), -1, -reach))


@wrong("number of blocks")
def _(ds, u, s, decay, v_th, width, reach):
    return in_blocks(ds, u, s, decay, v_th, width, range(0, len(ds), math.ceil(len(ds) / reach)))


@wrong("the first block lacks a step")
def _(ds, u, s, decay, v_th, width, reach):
    return in_blocks(ds, u, s, decay, v_th, width, range(reach - 1, len(ds), reach))


@right
def forward_gradient(x, e, decay):
    trace, dweight = np.zeros(x.shape[1:]), np.zeros((x.shape[2], e.shape[2]))
    for now, signal in zip(x, e, strict=True):
        trace = decay * trace + now
        for seen, local in zip(trace, signal, strict=True):
            dweight += np.outer(seen, local)
    return dweight


wrong("there is no trace")(lambda x, e, decay: np.einsum("tnf,tnc->fc", x, e))
wrong("does not leak")(lambda x, e, decay: np.einsum("tnf,tnc->fc", np.cumsum(x, axis=0), e))
wrong("1 - decay")(lambda x, e, decay: (1 - decay) * forward_gradient(x, e, decay))
wrong("mean over the samples")(lambda x, e, decay: forward_gradient(x, e, decay) / x.shape[1])
wrong("input of the step itself")(lambda x, e, decay: forward_gradient(x[:-1], e[1:], decay))
wrong("Are axes transposed")(lambda x, e, decay: forward_gradient(x, e, decay).T)
