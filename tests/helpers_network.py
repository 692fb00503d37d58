"""Small networks for the tests: described as dicts, given parameters, built in agl_ref, run by a naive twin.

The twin (`relaxed_forward`) is NumPy alone and takes nothing from agl_ref. It runs the network with
s = S(u - v_th) in place of the step, and can hold the gate of the reset constant, which is what "detached"
differentiates.
"""

import math

import numpy as np

PLIF_INIT = -math.log(4.0)  # sigmoid of it is 0.2


def conv(name, out, kernel=3, stride=1, norm=True, neuron="plif", bias=False, **settings):
    """A block conv -> tdBN -> neuron that keeps the image's size at stride 1."""
    return dict(
        kind="conv", name=name, out=out, kernel=kernel, stride=stride, padding=kernel // 2,
        norm=norm, neuron=neuron, bias=bias, **settings,
    )  # fmt: skip


def linear(name, out, norm=True, neuron="plif", bias=False, **settings):
    """A block linear -> tdBN -> neuron."""
    return dict(kind="linear", name=name, out=out, norm=norm, neuron=neuron, bias=bias, **settings)


def residual(name, body, shortcut=None):
    return dict(kind="residual", name=name, body=body, shortcut=shortcut)


def readout(bias=True):
    return dict(kind="readout", name="fc", bias=bias)


AVG_POOL = dict(kind="avg_pool")
GLOBAL_AVG_POOL = dict(kind="global_avg_pool")
FLATTEN = dict(kind="flatten")

# name: (layers, input shape, number of classes)
NETWORKS = {
    # conv, tdBN, PLIF; a pool; conv with a bias and no norm, LIF; a pool over an odd image; linear; readout
    "plain": (
        [
            conv("conv1", 4),
            AVG_POOL,
            conv("conv2", 3, norm=False, neuron="lif", bias=True, decay=0.25),
            conv("conv3", 4, neuron="lif", decay=0.6, v_th=0.75),
            AVG_POOL,
            FLATTEN,
            linear("hidden", 6),
            readout(),
        ],
        (7, 6, 2),
        3,
    ),
    # residual blocks with and without a shortcut, stride 2, 1x1 convolutions, global pool, no bias at the end
    "residual": (
        [
            conv("stem", 4, neuron="lif", decay=0.3),
            residual("res1", [conv("conv1", 4), conv("conv2", 4, kernel=1)]),
            residual(
                "res2",
                [conv("conv1", 6, stride=2), conv("conv2", 6, norm=False, neuron="lif", bias=True)],
                shortcut=conv("shortcut", 6, kernel=1, stride=2),
            ),
            GLOBAL_AVG_POOL,
            linear("hidden", 5, norm=False, bias=True),
            readout(bias=False),
        ],
        (5, 4, 2),
        3,
    ),
    # linear layers alone, over (T, N, H, W, C) made flat
    "linear": (
        [FLATTEN, linear("first", 7, neuron="lif"), linear("second", 6, v_th=1.0), readout()],
        (2, 2, 3),
        3,
    ),
    # no norm, dyadic leaks: with dyadic weights and inputs u meets threshold and window's edge exactly
    "dyadic": (
        [
            conv("conv1", 4, norm=False, neuron="lif", bias=True, decay=0.25),
            AVG_POOL,
            conv("conv2", 4, norm=False, bias=True),  # w = 0, so tau is 1/2
            FLATTEN,
            readout(),
        ],
        (4, 4, 2),
        3,
    ),
}


def blocks(layers, prefix=""):
    """(full name, block) of every spiking block, in the order of the forward; a shortcut before its body."""
    for layer in layers:
        if layer["kind"] in ("conv", "linear"):
            yield prefix + layer["name"], layer
        elif layer["kind"] == "residual":
            inner = prefix + layer["name"] + "."
            if layer["shortcut"]:
                yield inner + layer["shortcut"]["name"], layer["shortcut"]
            yield from blocks(layer["body"], inner)


def make_parameters(layers, shape, num_classes, seed=0, dyadic=False):
    """{name: array} in float64 for which layers fire, reset and sit on both sides of the window's edge."""
    rng = np.random.default_rng(seed)
    params = {}

    def block_parameters(layer, shape, full):
        fan_in = shape[-1] * (layer["kernel"] ** 2 if layer["kind"] == "conv" else 1)
        kernel = (layer["kernel"], layer["kernel"]) if layer["kind"] == "conv" else ()
        weight_shape = (*kernel, shape[-1], layer["out"])
        if dyadic:
            params[full + ".weight"] = rng.integers(-2, 4, weight_shape) / 8
        else:
            gain = 1.0 if layer["norm"] else 2.5
            params[full + ".weight"] = rng.normal(0.0, gain / math.sqrt(fan_in), weight_shape)
        if layer["bias"]:
            bias = rng.integers(-1, 3, layer["out"]) / 8 if dyadic else rng.normal(0.2, 0.2, layer["out"])
            params[full + ".bias"] = bias
        if layer["norm"]:
            params[full + ".gamma"] = rng.uniform(0.6, 1.6, layer["out"])
            params[full + ".beta"] = rng.normal(0.1, 0.2, layer["out"])
        if layer["neuron"] == "plif":
            params[full + ".w"] = np.array(0.0 if dyadic else PLIF_INIT + rng.normal(0.0, 0.5))
        return block_shape(layer, shape)

    def walk(layers, shape, prefix):
        for layer in layers:
            kind = layer["kind"]
            if kind in ("conv", "linear"):
                shape = block_parameters(layer, shape, prefix + layer["name"])
            elif kind == "residual":
                inner = prefix + layer["name"] + "."
                if layer["shortcut"]:
                    block_parameters(layer["shortcut"], shape, inner + layer["shortcut"]["name"])
                shape = walk(layer["body"], shape, inner)
            elif kind == "readout":
                full = prefix + layer["name"]
                params[full + ".weight"] = rng.normal(0.0, 1.0 / math.sqrt(shape[-1]), (shape[-1], num_classes))
                if layer["bias"]:
                    params[full + ".bias"] = rng.normal(0.0, 0.3, num_classes)
            else:
                shape = pool_shape(layer, shape)
        return shape

    walk(layers, shape, "")
    return params


def block_shape(layer, shape):
    if layer["kind"] == "linear":
        return (layer["out"],)
    side = [(n + 2 * layer["padding"] - layer["kernel"]) // layer["stride"] + 1 for n in shape[:2]]
    return (*side, layer["out"])


def pool_shape(layer, shape):
    if layer["kind"] == "avg_pool":
        return (shape[0] // 2, shape[1] // 2, shape[2])
    return (shape[2],) if layer["kind"] == "global_avg_pool" else (math.prod(shape),)


def make_batch(shape, num_classes, T=3, N=4, seed=1, dyadic=False):
    """Input (T, N, H, W, C) and labels (N,)."""
    rng = np.random.default_rng(seed)
    size = (T, N, *shape)
    x = rng.integers(-2, 7, size) / 4 if dyadic else rng.normal(0.3, 1.0, size)
    return x, rng.integers(0, num_classes, N)


def build(layers, shape, num_classes, params, conventions=None, surrogate="rectangular", dtype=np.float64):
    """The described network as an agl_ref Network that holds copies of `params`."""
    import agl_ref as agl

    def make_block(layer, shape):
        if layer["kind"] == "conv":
            synapse = agl.Conv2d(
                shape[-1],
                layer["out"],
                layer["kernel"],
                layer["stride"],
                layer["padding"],
                layer["bias"],
                dtype,
            )
        else:
            synapse = agl.Linear(shape[-1], layer["out"], layer["bias"], dtype)
        norm = agl.TdBN(layer["out"], dtype=dtype) if layer["norm"] else None
        v_th = layer.get("v_th", 0.5)
        plif = layer["neuron"] == "plif"
        neuron = agl.PLIF(v_th=v_th, dtype=dtype) if plif else agl.LIF(layer.get("decay", 0.2), v_th)
        return agl.SpikingBlock(layer["name"], synapse, norm, neuron), block_shape(layer, shape)

    def walk(layers, shape):
        made = []
        for layer in layers:
            kind = layer["kind"]
            if kind in ("conv", "linear"):
                one, shape = make_block(layer, shape)
            elif kind == "residual":
                shortcut = make_block(layer["shortcut"], shape)[0] if layer["shortcut"] else None
                body, shape = walk(layer["body"], shape)
                one = agl.Residual(layer["name"], body, shortcut)
            elif kind == "readout":
                one = agl.Readout(layer["name"], shape[-1], num_classes, layer["bias"], dtype)
            else:
                one = {"avg_pool": agl.AvgPool, "global_avg_pool": agl.GlobalAvgPool, "flatten": agl.Flatten}[kind]()
                shape = pool_shape(layer, shape)
            made.append(one)
        return made, shape

    made, _ = walk(layers, shape)
    net = agl.Network(made, shape, agl.MPD_AGL if conventions is None else conventions, surrogate)
    set_parameters(net, params)
    return net


def set_parameters(net, params):
    """Copy `params` into the network's own arrays."""
    own = net.parameters()
    if set(own) != set(params):
        raise ValueError(f"parameters: expected {sorted(own)}, received {sorted(params)}")
    for name, value in params.items():
        own[name][...] = value


def running_of(net):
    """{block: (mean, var)}, copies of the network's running statistics."""
    values = net.running_statistics()
    names = sorted({key.rsplit(".", 1)[0] for key in values})
    return {name: (values[name + ".running_mean"].copy(), values[name + ".running_var"].copy()) for name in names}


# --------------------------------------------------------------------------------- the naive relaxed network

RULE = {
    "reset": "hard", "surrogate_scale": "1/kappa", "width": "adaptive", "input_scale": "1", "plif": "tau",
    "norm_variance": "biased", "norm_scale": "alpha V_th", "norm_shift": "beta", "readout": "mean", "fixed_width": 1.0,
}  # fmt: skip


def sigmoid(x):
    return 1.0 / (1.0 + np.exp(-x))


def smooth_step(z, kappa, name):
    """S(z), from 0 to 1, whose derivative is the surrogate of area 1 and height 1/kappa."""
    r = z / kappa
    if name == "rectangular":
        return np.clip(r + 0.5, 0.0, 1.0)
    if name == "triangular":
        r = np.clip(r, -1.0, 1.0)
        return np.where(r < 0, (1 + r) ** 2 / 2, 1 - (1 - r) ** 2 / 2)
    if name == "sigmoid":
        return sigmoid(4 * r)
    if name == "arctan":
        return np.arctan(np.pi * r) / np.pi + 0.5
    return (1 + np.vectorize(math.erf)(math.sqrt(math.pi) * r)) / 2  # gaussian


def kink_sides(z, kappa, name):
    """For each element on which side of S's kinks it lies; a finite difference must not move one across."""
    edge = {"rectangular": kappa / 2, "triangular": kappa}.get(name)
    if edge is None:
        return np.zeros(z.shape, np.int8)
    return (z > -edge).astype(np.int8) + (z > edge) + ((z > 0) if name == "triangular" else 0)


def width_of(layer, gamma, tau, T, rule):
    """kappa (T,) of one block."""
    if rule["width"] == "fixed":
        return np.full(T, rule["fixed_width"])
    if rule["width"] == "2 V_th":
        return np.full(T, 2 * layer.get("v_th", 0.5))
    if gamma is None:
        return np.ones(T)
    first = 2 * gamma.mean() * (layer.get("v_th", 0.5) if rule["norm_scale"] == "alpha V_th" else 1.0)
    if rule["width"] == "geometric":
        return first * np.sqrt([sum(tau ** (2 * j) for j in range(t + 1)) for t in range(T)])
    later = first * math.sqrt(1 + tau**2)
    return {
        "adaptive": np.array([first] + [later] * (T - 1)),
        "first": np.full(T, first),
        "later": np.full(T, later),
    }[rule["width"]]


def naive_conv(x, weight, bias, stride, padding):
    """Convolution as a sum over the kernel's offsets."""
    pad = [(0, 0)] * (x.ndim - 3) + [(padding, padding)] * 2 + [(0, 0)]
    x = np.pad(x, pad)
    kh, kw = weight.shape[:2]
    high = (x.shape[-3] - kh) // stride + 1
    wide = (x.shape[-2] - kw) // stride + 1
    y = 0.0 if bias is None else bias
    for i in range(kh):
        for j in range(kw):
            y = y + x[..., i : i + stride * high : stride, j : j + stride * wide : stride, :] @ weight[i, j]
    return y


def naive_pool(x):
    high, wide = x.shape[-3] // 2 * 2, x.shape[-2] // 2 * 2
    x = x[..., :high, :wide, :]
    return (x[..., ::2, ::2, :] + x[..., 1::2, ::2, :] + x[..., ::2, 1::2, :] + x[..., 1::2, 1::2, :]) / 4


def relaxed_forward(layers, params, x, name="rectangular", rule=None, widths=None, gates=None):
    """Logits of the relaxed network, and {block: {"u", "s", "width"}}.

    widths {block: (T,)} are used instead of the rule's; gates {block: (T, ...)} instead of s in the reset.
    """
    rule = {**RULE, **(rule or {})}
    traces = {}

    def block(x, layer, full):
        weight, bias = params[full + ".weight"], params.get(full + ".bias")
        if layer["kind"] == "conv":
            x = naive_conv(x, weight, bias, layer["stride"], layer["padding"])
        else:
            x = x @ weight + (0.0 if bias is None else bias)
        v_th = layer.get("v_th", 0.5)
        gamma = params.get(full + ".gamma")
        if gamma is not None:
            axes = tuple(range(x.ndim - 1))
            unbiased = rule["norm_variance"] == "unbiased"
            x = (x - x.mean(axes)) / np.sqrt(x.var(axes, ddof=int(unbiased)) + 1e-5)
            x = gamma * x * (v_th if rule["norm_scale"] == "alpha V_th" else 1.0)
            x = x + params[full + ".beta"] * (v_th if rule["norm_shift"] == "beta V_th" else 1.0)
        tau = layer.get("decay", 0.2)
        if layer["neuron"] == "plif":
            w = params[full + ".w"]
            tau = sigmoid(w) if rule["plif"] == "tau" else sigmoid(-w)
        kappa = width_of(layer, gamma, tau, len(x), rule) if widths is None else widths[full]
        scale = {"1/kappa": np.ones(len(x)), "1": kappa, "1/(2 kappa)": np.full(len(x), 0.5)}
        scale = scale[rule["surrogate_scale"]]
        v, late = np.zeros(x.shape[1:]), 0.0
        us, ss = [], []
        for t in range(len(x)):
            u = tau * v + (1 - tau if rule["input_scale"] == "1 - tau" else 1.0) * x[t] - late
            s = scale[t] * smooth_step(u - v_th, kappa[t], name)
            gate = s if gates is None else gates[full][t]
            v = {"hard": u * (1 - gate), "soft": u - v_th * gate, "none": u, "soft late": u}[rule["reset"]]
            late = v_th * gate if rule["reset"] == "soft late" else 0.0
            us.append(u)
            ss.append(s)
        sides = [kink_sides(u - v_th, k, name) for u, k in zip(us, kappa, strict=True)]
        traces[full] = {"u": np.stack(us), "s": np.stack(ss), "width": kappa, "sides": np.stack(sides)}
        return traces[full]["s"]

    def walk(x, layers, prefix):
        for layer in layers:
            kind = layer["kind"]
            if kind in ("conv", "linear"):
                x = block(x, layer, prefix + layer["name"])
            elif kind == "avg_pool":
                x = naive_pool(x)
            elif kind == "global_avg_pool":
                x = x.mean((-3, -2))
            elif kind == "flatten":
                x = x.reshape(*x.shape[:2], -1)
            elif kind == "residual":
                inner = prefix + layer["name"] + "."
                shortcut = layer["shortcut"]
                side = block(x, shortcut, inner + shortcut["name"]) if shortcut else x
                x = walk(x, layer["body"], inner) + side
            else:
                full = prefix + layer["name"]
                x = x @ params[full + ".weight"] + params.get(full + ".bias", 0.0)
        return x

    return walk(x, layers, ""), traces


def naive_loss(logits, labels, readout="mean", loss="ce", lam=1e-3, target=1.0):
    """Cross-entropy of the logits reduced over time, or TET."""

    def ce(a):
        a = a - a.max(1, keepdims=True)
        return (np.log(np.exp(a).sum(1)) - a[np.arange(len(labels)), labels]).mean()

    if loss == "tet":
        return (1 - lam) * np.mean([ce(a) for a in logits]) + lam * ((logits - target) ** 2).mean()
    return ce({"mean": logits.mean(0), "sum": logits.sum(0), "last": logits[-1]}[readout])
