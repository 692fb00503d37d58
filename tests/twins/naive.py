"""Slow twins of every op, forward and backward: plain Python loops over the equations of the method.

They share no code with agl_ref. NumPy holds the arrays; all arithmetic is on Python floats (float64). `c` is
any object with the fields of the conventions table. T timesteps, K classes, M elements per channel; arrays
are time-major and channels-last.
"""

import math

import numpy as np

# --- the surrogate family: z = u - v_th, k = width ------------------------------------------------

KINKS = {  # z / k at which the primitive, or its derivative, is not smooth
    "rectangular": (-0.5, 0.5),
    "triangular": (-1.0, 0.0, 1.0),
    "sigmoid": (),
    "arctan": (),
    "gaussian": (),
    "fast_sigmoid": (0.0,),
    "straight_through": (),
    "leaky_relu": (-0.5, 0.5),
}
SURROGATES = tuple(KINKS)[:6]  # of area 1
UNBOUNDED = tuple(KINKS)[6:]


def sigmoid(a):
    if a >= 0:
        return 1 / (1 + math.exp(-a))
    return math.exp(a) / (1 + math.exp(a))


def scale_factor(k, c):
    """Convention 5: what multiplies the member of area 1."""
    return {"1/kappa": 1.0, "1": k, "1/(2 kappa)": 0.5}[c.surrogate_scale]


def surrogate_derivative(z, k, name, c):
    if k <= 0:
        return 0.0
    if name == "rectangular":
        inside = abs(z) < k / 2 or (c.window_edge == "<=" and abs(z) == k / 2)
        h = 1 / k if inside else 0.0
    elif name == "triangular":
        h = (1 - abs(z) / k) / k if abs(z) < k else 0.0
    elif name == "sigmoid":
        a = 4 / k
        h = a * sigmoid(a * z) * sigmoid(-a * z)
    elif name == "arctan":
        h = 1 / (k * (1 + (math.pi * z / k) ** 2))
    elif name == "gaussian":
        h = math.exp(-math.pi * (z / k) ** 2) / k
    elif name == "fast_sigmoid":
        h = k / (k + 2 * abs(z)) ** 2
    elif name == "straight_through":
        h = 1 / k
    elif name == "leaky_relu":
        inside = abs(z) < k / 2 or (c.window_edge == "<=" and abs(z) == k / 2)
        h = (1.0 if inside else 0.02) / k
    return h * scale_factor(k, c)


def surrogate_primitive(z, k, name, c, factor=None):
    """S, whose derivative by z is the surrogate; `factor` replaces the outside scale, if given."""
    if name == "rectangular":
        smooth = min(max(z / k + 0.5, 0.0), 1.0)
    elif name == "triangular":
        r = min(max(z / k, -1.0), 1.0)
        smooth = (1 + r) ** 2 / 2 if r < 0 else 1 - (1 - r) ** 2 / 2
    elif name == "sigmoid":
        smooth = sigmoid(4 * z / k)
    elif name == "arctan":
        smooth = 0.5 + math.atan(math.pi * z / k) / math.pi
    elif name == "gaussian":
        smooth = 0.5 * math.erfc(-math.sqrt(math.pi) * z / k)
    elif name == "fast_sigmoid":
        smooth = (1 + 2 * z / (k + 2 * abs(z))) / 2
    elif name == "straight_through":
        smooth = (z + k / 2) / k
    elif name == "leaky_relu":
        inner = min(max(z, -k / 2), k / 2)
        smooth = (inner + k / 2 + 0.02 * (z - inner)) / k
    return smooth * (scale_factor(k, c) if factor is None else factor)


# --- neurons --------------------------------------------------------------------------------------


def drive(v, x, decay, c):
    """u_t from v_{t-1} and x_t (convention 8)."""
    return decay * v + (x if c.input_scale == "1" else (1 - decay) * x)


def fires(u, v_th, c):
    """Convention 1."""
    return 1.0 if u > v_th or (u == v_th and c.spike_test == ">=") else 0.0


def after_reset(u, s, v_th, c):
    """v_t (convention 2): what the leak of the next step acts on."""
    return {"hard": u * (1 - s), "soft": u - v_th * s, "none": u, "soft late": u}[c.reset]


def lif_forward(x, decay, v_th, c, surrogate="rectangular", relaxed_width=None, resets=None, factors=None):
    """(u, s). `resets` (same shape as x) replaces s in the reset alone; `factors` (T,) the scale of S."""
    T = len(x)
    flat, n = np.reshape(x, (T, -1)).tolist(), int(np.prod(np.shape(x)[1:]))
    held = None if resets is None else np.reshape(resets, (T, -1)).tolist()
    u = np.zeros((T, n))
    s = np.zeros((T, n))
    for i in range(n):
        v = 0.0
        for t in range(T):
            ut = drive(v, flat[t][i], decay, c)
            if c.reset == "soft late" and t > 0:
                ut = ut - v_th * (s[t - 1, i] if held is None else held[t - 1][i])
            if relaxed_width is None:
                st = fires(ut, v_th, c)
            else:
                factor = None if factors is None else factors[t]
                st = surrogate_primitive(ut - v_th, float(relaxed_width[t]), surrogate, c, factor)
            v = after_reset(ut, st if held is None else held[t][i], v_th, c)
            u[t, i], s[t, i] = ut, st
    return u.reshape(np.shape(x)), s.reshape(np.shape(x))


def lif_backward(ds, x, u, s, decay, v_th, width, c, surrogate="rectangular"):
    """(dx, ddecay, dwidth) by the BPTT recursion, neuron by neuron, t = T..1."""
    T, n = len(u), int(np.prod(np.shape(u)[1:]))
    gs, xs, us, ss = (np.reshape(a, (T, -1)).tolist() for a in (ds, x, u, s))
    dx = np.zeros((T, n))
    ddecay_terms = []
    dwidth_terms = [[] for _ in range(T)]
    for i in range(n):
        dv, du = 0.0, 0.0
        for t in range(T - 1, -1, -1):
            ut, st = us[t][i], ss[t][i]
            h = surrogate_derivative(ut - v_th, float(width[t]), surrogate, c)
            total = gs[t][i]
            keep = 1.0
            if c.reset == "hard":
                keep = 1 - st
            if c.reset_gradient == "attached":
                total -= {"hard": ut * dv, "soft": v_th * dv, "none": 0.0, "soft late": v_th * du}[c.reset]
            du = dv * keep + total * h
            v_prev = after_reset(us[t - 1][i], ss[t - 1][i], v_th, c) if t > 0 else 0.0
            if c.input_scale == "1":
                dx[t, i] = du
                ddecay_terms.append(du * v_prev)
            else:
                dx[t, i] = (1 - decay) * du
                ddecay_terms.append(du * (v_prev - xs[t][i]))
            if width[t] > 0:
                dwidth_terms[t].append(-total * (ut - v_th) / float(width[t]) * h)
            dv = decay * du
    dwidth = np.array([math.fsum(terms) for terms in dwidth_terms])
    return dx.reshape(np.shape(u)), math.fsum(ddecay_terms), dwidth


def plif_decay(w, c):
    """Convention 9."""
    return sigmoid(w) if c.plif == "tau" else sigmoid(-w)


def plif_dw(ddecay, w, c):
    slope = sigmoid(w) * sigmoid(-w)
    return ddecay * slope if c.plif == "tau" else -ddecay * slope


# --- width rules ----------------------------------------------------------------------------------


def width_rule(gamma, v_th, decay, T, rule, alpha=1.0, fixed=1.0):
    """kappa_t, t = 1..T, for each value of convention 6."""
    gamma_bar = math.fsum(float(g) for g in gamma) / len(gamma)
    first = 2 * gamma_bar * alpha * v_th
    widths = []
    for t in range(1, T + 1):
        spread = {
            "adaptive": 1.0 if t == 1 else 1 + decay**2,
            "first": 1.0,
            "later": 1 + decay**2,
            "geometric": math.fsum(decay ** (2 * j) for j in range(t)),
        }.get(rule)
        given = {"fixed": fixed, "2 V_th": 2 * v_th}.get(rule)
        widths.append(max(0.0, first * math.sqrt(spread)) if given is None else given)
    return np.array(widths)


# --- tdBN -----------------------------------------------------------------------------------------


def tdbn_statistics(x):
    """(mean, biased variance) per channel, over all other axes."""
    columns = np.reshape(x, (-1, np.shape(x)[-1])).T.tolist()
    means = [math.fsum(column) / len(column) for column in columns]
    variances = []
    for column, mean in zip(columns, means, strict=True):
        variances.append(math.fsum((a - mean) ** 2 for a in column) / len(column))
    return np.array(means), np.array(variances)


def tdbn_scale(v_th, alpha, c):
    """Convention 11."""
    return alpha * v_th if c.norm_scale == "alpha V_th" else 1.0


def tdbn_shift(v_th, c):
    """Convention 14."""
    return v_th if c.norm_shift == "beta V_th" else 1.0


def tdbn_used_variance(var, M, c, training):
    """Convention 10."""
    return [v * M / (M - 1) if training and c.norm_variance == "unbiased" else v for v in var]


def tdbn_forward(x, gamma, beta, v_th, alpha, eps, c, running=None):
    mean, var = tdbn_statistics(x) if running is None else running
    C = np.shape(x)[-1]
    rows = np.reshape(x, (-1, C)).tolist()
    used = tdbn_used_variance(var, len(rows), c, running is None)
    scale = tdbn_scale(v_th, alpha, c)
    y = np.zeros((len(rows), C))
    for m, row in enumerate(rows):
        for ch in range(C):
            x_hat = (row[ch] - float(mean[ch])) / math.sqrt(float(used[ch]) + eps)
            y[m, ch] = float(gamma[ch]) * (scale * x_hat) + tdbn_shift(v_th, c) * float(beta[ch])
    return y.reshape(np.shape(x))


def tdbn_backward(dy, x, gamma, v_th, alpha, eps, c, running=None):
    """(dx, dgamma, dbeta)."""
    mean, var = tdbn_statistics(x) if running is None else running
    C = np.shape(x)[-1]
    rows, grows = np.reshape(x, (-1, C)).tolist(), np.reshape(dy, (-1, C)).tolist()
    M = len(rows)
    used = tdbn_used_variance(var, M, c, running is None)
    divisor = M - 1 if c.norm_variance == "unbiased" else M  # d var / d x_m = 2 (x_m - mean) / divisor
    scale = tdbn_scale(v_th, alpha, c)
    dx, dgamma, dbeta = np.zeros((M, C)), np.zeros(C), np.zeros(C)
    for ch in range(C):
        std = math.sqrt(float(used[ch]) + eps)
        x_hat = [(row[ch] - float(mean[ch])) / std for row in rows]
        d = [row[ch] for row in grows]
        g = [dm * float(gamma[ch]) * scale for dm in d]
        dgamma[ch] = math.fsum(dm * scale * xm for dm, xm in zip(d, x_hat, strict=True))
        dbeta[ch] = tdbn_shift(v_th, c) * math.fsum(d)
        through_mean = math.fsum(g) / M
        through_var = math.fsum(gm * xm for gm, xm in zip(g, x_hat, strict=True)) / divisor
        for m in range(M):
            if running is None:
                dx[m, ch] = (g[m] - through_mean - x_hat[m] * through_var) / std
            else:
                dx[m, ch] = g[m] / std
    return dx.reshape(np.shape(x)), dgamma, dbeta


def tdbn_running(running_mean, running_var, x, momentum):
    """The running statistics after one training step; the variance is the unbiased one."""
    mean, var = tdbn_statistics(x)
    M = np.size(x) // np.shape(x)[-1]
    kept, taken = 1 - momentum, momentum
    new_mean = [kept * float(r) + taken * b for r, b in zip(running_mean, mean, strict=True)]
    new_var = [kept * float(r) + taken * b * M / (M - 1) for r, b in zip(running_var, var, strict=True)]
    return np.array(new_mean), np.array(new_var)


# --- convolution, pools, linear -------------------------------------------------------------------


def conv_taps(shape, weight_shape, stride, padding):
    """(image, output row, output column, input row, input column, kernel row, kernel column) within x."""
    images, H, W, _ = shape
    kh, kw = weight_shape[:2]
    for b in range(images):
        for oh in range((H + 2 * padding - kh) // stride + 1):
            for ow in range((W + 2 * padding - kw) // stride + 1):
                for i in range(kh):
                    for j in range(kw):
                        ih, iw = oh * stride + i - padding, ow * stride + j - padding
                        if 0 <= ih < H and 0 <= iw < W:
                            yield b, oh, ow, ih, iw, i, j


def conv_output_shape(x_shape, weight_shape, stride, padding):
    H, W = x_shape[-3:-1]
    kh, kw, _, C_out = weight_shape
    rows, columns = (H + 2 * padding - kh) // stride + 1, (W + 2 * padding - kw) // stride + 1
    return (*x_shape[:-3], rows, columns, C_out)


def conv2d_forward(x, weight, bias, stride, padding):
    shape = conv_output_shape(np.shape(x), np.shape(weight), stride, padding)
    images = np.reshape(x, (-1, *np.shape(x)[-3:])).astype(float)
    w = np.asarray(weight, float).tolist()
    C_in, C_out = np.shape(weight)[2:]
    y = np.zeros((len(images), *shape[-3:]))
    for b, oh, ow, ih, iw, i, j in conv_taps(images.shape, np.shape(weight), stride, padding):
        for ci in range(C_in):
            for co in range(C_out):
                y[b, oh, ow, co] += images[b, ih, iw, ci] * w[i][j][ci][co]
    if bias is not None:
        for co in range(C_out):
            y[..., co] += float(bias[co])
    return y.reshape(shape)


def conv2d_backward(dy, x, weight, stride, padding):
    """(dx, dweight, dbias)."""
    images = np.reshape(x, (-1, *np.shape(x)[-3:])).astype(float)
    dys = np.reshape(dy, (-1, *np.shape(dy)[-3:])).astype(float)
    w = np.asarray(weight, float)
    C_in, C_out = w.shape[2:]
    dx, dweight, dbias = np.zeros(images.shape), np.zeros(w.shape), np.zeros(C_out)
    for b, oh, ow, ih, iw, i, j in conv_taps(images.shape, w.shape, stride, padding):
        for ci in range(C_in):
            for co in range(C_out):
                dx[b, ih, iw, ci] += dys[b, oh, ow, co] * w[i, j, ci, co]
                dweight[i, j, ci, co] += dys[b, oh, ow, co] * images[b, ih, iw, ci]
    for row in dys.reshape(-1, C_out):
        for co in range(C_out):
            dbias[co] += row[co]
    return dx.reshape(np.shape(x)), dweight, dbias


def avg_pool_forward(x):
    *lead, H, W, C = np.shape(x)
    images = np.reshape(x, (-1, H, W, C)).astype(float)
    y = np.zeros((len(images), H // 2, W // 2, C))
    for b, r, q, ch in np.ndindex(*y.shape):
        for i in range(2):
            for j in range(2):
                y[b, r, q, ch] += images[b, 2 * r + i, 2 * q + j, ch] / 4
    return y.reshape(*lead, H // 2, W // 2, C)


def avg_pool_backward(dy, x_shape):
    *_, H, W, C = x_shape
    dys = np.reshape(dy, (-1, H // 2, W // 2, C)).astype(float)
    dx = np.zeros((len(dys), H, W, C))
    for b, r, q, ch in np.ndindex(*dys.shape):
        for i in range(2):
            for j in range(2):
                dx[b, 2 * r + i, 2 * q + j, ch] += dys[b, r, q, ch] / 4
    return dx.reshape(x_shape)


def max_pool_forward(x):
    """(y, row, column): the maxima of 2x2 squares and where each comes from; of equal values, the first in reading order."""
    *lead, H, W, C = np.shape(x)
    images = np.reshape(x, (-1, H, W, C)).astype(float)
    y = np.zeros((len(images), H // 2, W // 2, C))
    rows, columns = np.zeros((2, *y.shape), int)
    for b, r, q, ch in np.ndindex(*y.shape):
        square = [(images[b, i, j, ch], -i, -j) for i in (2 * r, 2 * r + 1) for j in (2 * q, 2 * q + 1)]
        y[b, r, q, ch], row, column = max(square)
        rows[b, r, q, ch], columns[b, r, q, ch] = -row, -column
    return tuple(a.reshape(*lead, H // 2, W // 2, C) for a in (y, rows, columns))


def max_pool_backward(dy, rows, columns, x_shape):
    dx = np.zeros(x_shape)
    for at in np.ndindex(*dy.shape):
        *lead, _, _, ch = at
        dx[(*lead, rows[at], columns[at], ch)] += dy[at]
    return dx


def global_avg_pool_forward(x):
    *lead, H, W, C = np.shape(x)
    images = np.reshape(x, (-1, H, W, C)).astype(float)
    y = np.zeros((len(images), C))
    for b, r, q, ch in np.ndindex(*images.shape):
        y[b, ch] += images[b, r, q, ch]
    return (y / (H * W)).reshape(*lead, C)


def global_avg_pool_backward(dy, x_shape):
    *_, H, W, C = x_shape
    dys = np.reshape(dy, (-1, C)).astype(float)
    dx = np.zeros((len(dys), H, W, C))
    for b, r, q, ch in np.ndindex(*dx.shape):
        dx[b, r, q, ch] = dys[b, ch] / (H * W)
    return dx.reshape(x_shape)


def linear_forward(x, weight, bias):
    rows = np.reshape(x, (-1, np.shape(x)[-1])).astype(float)
    w = np.asarray(weight, float)
    y = np.zeros((len(rows), w.shape[1]))
    for m, o in np.ndindex(*y.shape):
        for i in range(w.shape[0]):
            y[m, o] += rows[m, i] * w[i, o]
        if bias is not None:
            y[m, o] += float(bias[o])
    return y.reshape(*np.shape(x)[:-1], w.shape[1])


def linear_backward(dy, x, weight):
    """(dx, dweight, dbias)."""
    rows = np.reshape(x, (-1, np.shape(x)[-1])).astype(float)
    dys = np.reshape(dy, (-1, np.shape(dy)[-1])).astype(float)
    w = np.asarray(weight, float)
    dx, dweight, dbias = np.zeros(rows.shape), np.zeros(w.shape), np.zeros(w.shape[1])
    for m in range(len(rows)):
        for o in range(w.shape[1]):
            dbias[o] += dys[m, o]
            for i in range(w.shape[0]):
                dx[m, i] += dys[m, o] * w[i, o]
                dweight[i, o] += rows[m, i] * dys[m, o]
    return dx.reshape(np.shape(x)), dweight, dbias


# --- losses ---------------------------------------------------------------------------------------


def log_softmax(row):
    top = max(row)
    total = math.log(math.fsum(math.exp(a - top) for a in row))
    return [a - top - total for a in row]


def readout_weights(T, c):
    """What each timestep's logits are multiplied by (convention 12)."""
    return {"mean": [1 / T] * T, "sum": [1.0] * T, "last": [0.0] * (T - 1) + [1.0]}[c.readout]


def cross_entropy(logits, labels, c):
    """(loss, dlogits)."""
    T, N, K = np.shape(logits)
    a = np.asarray(logits, float).tolist()
    share = readout_weights(T, c)
    losses, dlogits = [], np.zeros((T, N, K))
    for n in range(N):
        read = [math.fsum(share[t] * a[t][n][k] for t in range(T)) for k in range(K)]
        logp = log_softmax(read)
        losses.append(-logp[int(labels[n])])
        for k in range(K):
            error = math.exp(logp[k]) - (1.0 if k == int(labels[n]) else 0.0)
            for t in range(T):
                dlogits[t, n, k] = share[t] * error / N
    return math.fsum(losses) / N, dlogits


def tet(logits, labels, lam, target):
    """(loss, dlogits)."""
    T, N, K = np.shape(logits)
    a = np.asarray(logits, float).tolist()
    entropies, squares, dlogits = [], [], np.zeros((T, N, K))
    for t in range(T):
        for n in range(N):
            logp = log_softmax(a[t][n])
            entropies.append(-logp[int(labels[n])])
            for k in range(K):
                off = a[t][n][k] - target
                squares.append(off**2)
                error = math.exp(logp[k]) - (1.0 if k == int(labels[n]) else 0.0)
                dlogits[t, n, k] = (1 - lam) * error / (T * N) + lam * 2 * off / (T * N * K)
    loss = (1 - lam) * math.fsum(entropies) / (T * N) + lam * math.fsum(squares) / (T * N * K)
    return loss, dlogits


def loss_with_options(logits, labels, name, c, class_weights=None, label_smoothing=0.0, lam=1e-3, pull=1.0):
    """(loss, dlogits) of "ce", "tet" and "mse" with class weights and label smoothing, each logit by itself."""
    T, N, K = np.shape(logits)
    a = np.asarray(logits, float).tolist()
    w = [1.0] * K if class_weights is None else list(class_weights)
    all_samples = math.fsum(w[int(label)] for label in labels)
    shares = (
        [[1.0 if t == s else 0.0 for t in range(T)] for s in range(T)] if name == "tet" else [readout_weights(T, c)]
    )
    loss, dlogits = [], np.zeros((T, N, K))
    for share in shares:
        for n in range(N):
            z = [math.fsum(share[t] * a[t][n][k] for t in range(T)) for k in range(K)]
            logp, label = log_softmax(z), int(labels[n])
            for k in range(K):
                target = label_smoothing / K + (1 - label_smoothing if k == label else 0.0)
                if name == "mse":
                    loss.append(w[label] * (z[k] - target) ** 2 / K / all_samples)
                    dz = {k: 2 * w[label] * (z[k] - target) / K / all_samples}
                else:
                    scale = (1 - lam) / T if name == "tet" else 1.0
                    q = w[k] * target * scale / all_samples
                    loss.append(-q * logp[k])
                    dz = {j: q * (math.exp(logp[j]) - (1.0 if j == k else 0.0)) for j in range(K)}
                for j, value in dz.items():
                    for t in range(T):
                        dlogits[t, n, j] += share[t] * value
    if name == "tet":
        off = np.asarray(logits, float) - pull
        loss.append(lam * math.fsum((off**2).ravel()) / off.size)
        dlogits += 2 * lam * off / off.size
    return math.fsum(loss), dlogits
