"""What an implementation can be run on: a network with its input and labels, or the inputs of one op.

An implementation is a module with the functions of `agl_ref.reference` (or that one itself), with the conventions, the
surrogate and the dtype that it is run in. What it computes goes into a dict, by the oracle's names and in the order of
computation. A problem has a forward half that reads the conventions in FORWARD, and a half that finishes it (loss and
backward) from what the forward half left, so that a search over conventions shares forward passes.

    op                    inputs                                    arrays
    lif, plif             x, ds, [w], [gamma], [width]              u s v width du grad_x grad_decay|grad_w [grad_gamma]
    surrogate             u, [width]                                y (the derivative)
    width                 gamma                                     width
    tdbn                  x, gamma, beta, dy, [running_mean, _var]  y grad_x grad_gamma grad_beta
    conv2d                x, weight, [bias], dy                     y grad_x grad_weight [grad_bias]
    linear                x, weight, [bias], dy                     y grad_x grad_weight [grad_bias]
    avg_pool              x, dy                                     y grad_x
    global_avg_pool       x, dy                                     y grad_x
    add                   x, side, dy                               y grad_x grad_side
    cross_entropy, tet    logits, labels                            loss dlogits
    network               x, labels, parameters, [statistics]       each block's, logits loss dlogits grad_NAME

A network may have dlogits in place of labels, which is then an array, too; it has no loss.
"""

from types import ModuleType
from typing import NamedTuple

import numpy as np

from agl_ref import reference
from agl_ref.conventions import MPD_AGL, Conventions
from agl_ref.oracle.descriptions import DATA, blocks, describe
from agl_ref.oracle.types import WINDOWED

FORWARD = ("spike_test", "reset", "input_scale", "plif", "norm_variance", "norm_scale", "norm_shift")

_NEURON = (
    "spike_test",
    "reset",
    "reset_gradient",
    "window_edge",
    "surrogate_scale",
    "width",
    "width_gradient",
    "input_scale",
)


class Implementation(NamedTuple):
    """What is run on a problem; the module has the functions of `agl_ref.reference`."""

    module: ModuleType = reference
    conventions: Conventions = MPD_AGL
    surrogate: str = "rectangular"
    dtype: type = np.float64

    def cast(self, inputs):
        """{name: array} in this dtype; labels stay integers."""
        arrays = {name: np.asarray(value) for name, value in inputs.items()}
        return {name: a if a.dtype.kind in "iu" else np.asarray(a, self.dtype) for name, a in arrays.items()}


class CheckedValues(dict):
    """A dict for what is computed that looks at each array as it comes in: `check` may raise, and so stop the computation."""

    def check(self, name, array):
        """Called with each array before it is kept."""

    def __setitem__(self, name, array):
        self.check(name, array)
        super().__setitem__(name, array)

    def __ior__(self, other):
        for name, array in other.items():
            self[name] = array
        return self


class Problem:
    """One op, or a whole network, with its inputs.

    Parameters
    ----------
    op : str
        One of those above, or "network".
    inputs : {name: ndarray}
        Of a network x, labels or dlogits, every parameter by its name and, for evaluation, the running statistics.
    meta : dict
        An op's scalars: v_th, decay, alpha, eps, stride, padding, T, lam, target; of a network its layers (see
        `agl_ref.oracle.descriptions`), loss and training; the surrogate.
    id : str
    """

    def __init__(self, op, inputs, meta, id="own"):
        if op not in _OPS:
            raise ValueError(f"op: expected one of {', '.join(_OPS)}, received {op!r}; see agl_ref.oracle.problems")
        self.op, self.inputs, self.meta, self.id = op, inputs, meta, id
        self.surrogate = meta.get("surrogate", "rectangular")

    @classmethod
    def of_network(cls, net, x, labels, loss="ce", training=True, dlogits=None):
        """The problem of an `agl_ref.Network`, with labels or with dlogits."""
        target = {"labels": labels} if dlogits is None else {"dlogits": dlogits}
        inputs = {"x": np.asarray(x), **{name: np.asarray(a) for name, a in target.items()}, **net.parameters()}
        if not training:
            inputs |= net.running_statistics()
        meta = {"layers": describe(net), "loss": loss, "training": training, "surrogate": net.surrogate}
        return cls("network", inputs, meta)

    def run(self, module=reference, conventions=MPD_AGL, dtype=np.float64, surrogate=None):
        """{name: array} of everything that a module computes; the surrogate is the problem's own by default."""
        values = {}
        implementation = Implementation(module, conventions, surrogate or self.surrogate, np.dtype(dtype).type)
        self.finish(implementation, self.forward(implementation, values), values)
        return {name: np.asarray(value) for name, value in values.items()}

    def forward(self, implementation, values):
        """What `finish` needs: the inputs in the dtype, and what the forward half leaves for its backward."""
        arrays = implementation.cast(self.inputs)
        return arrays, _OPS[self.op][0](implementation, arrays, self.meta, values)

    def finish(self, implementation, state, values):
        """Loss and backward."""
        arrays, made = state
        _OPS[self.op][1](implementation, arrays, self.meta, made, values)

    def magnitude(self, name, values, state):
        """The size of the terms that an array is summed from, where they may cancel: the array alone does not show it."""
        if self.op == "network" and name.endswith(".bias"):
            return _bias_magnitude(
                name.removeprefix("grad_").removesuffix(".bias"), self.meta["layers"], values, state[1]
            )
        if name in ("grad_bias", "grad_beta"):
            return float(np.abs(self.inputs["dy"]).sum())
        if name in ("grad_decay", "grad_w"):
            slope = 0.25 if name == "grad_w" else 1.0  # the largest of a sigmoid
            return float(np.abs(values["du"]).sum() * np.max(np.abs(values["v"]), initial=0.0)) * slope
        return 0.0

    def of_loss(self):
        """Names of the arrays that hang on the forward conventions and the readout alone."""
        names = ("loss", "dlogits")
        if self.op == "network":
            names += tuple(f"grad_{self.meta['layers'][-1]['name']}.{kind}" for kind in ("weight", "bias"))
        return names

    def repeats_the_fixed_width(self, conventions):
        """Whether these have the width 2 V_th, and it is kappa of the rule "fixed" at every threshold here."""
        units = blocks(self.meta["layers"]) if self.op == "network" else [self.meta]
        return conventions.width == "2 V_th" and all(2 * u.get("v_th", 0.5) == conventions.fixed_width for u in units)

    def irrelevant(self, surrogate=None):
        """{field: why it cannot matter here} under this surrogate, the problem's own by default."""
        op, inputs, reasons = self.op, self.inputs, {}
        units = list(blocks(self.meta["layers"])) if op == "network" else []
        T = self.meta.get("T") or len(inputs.get("x", next(iter(inputs.values()))))
        if not units and op not in ("lif", "plif"):
            kept = {"surrogate": ("window_edge", "surrogate_scale"), "width": ("width",)}.get(op, ())
            reason = f"the op is {op}" if kept else "there is no neuron"
            reasons = {name: reason for name in _NEURON if name not in kept}
        elif T == 1:
            reasons["reset_gradient"] = "T = 1: nothing passes through the reset"
        if (surrogate or self.surrogate) not in WINDOWED:
            reasons.setdefault("window_edge", "the surrogate has no edge")
        if op != "plif" and not any(block["neuron"] == "plif" for block in units):
            reasons["plif"] = "there is no PLIF neuron"
        if any(unit.get("decay") == 1 for unit in (*units, self.meta)):
            reasons["input_scale"] = "decay 1 with an input times 1 - tau would be a neuron without input"
        norm = op == "tdbn" or any(block["norm"] for block in units)
        if not (norm or op == "width" or "gamma" in inputs):
            reasons["norm_scale"] = reasons["width_gradient"] = "there is no tdBN"
        if not norm:
            reasons["norm_variance"] = reasons["norm_shift"] = "there is no tdBN"
        elif "running_mean" in inputs or not self.meta.get("training", True):
            reasons["norm_variance"] = "tdBN is in evaluation mode"
        if T == 1 or op not in ("cross_entropy", "network") or self.meta.get("loss", "ce") != "ce":
            reasons["readout"] = "no logits are reduced over time"
        if op in ("lif", "plif") and "gamma" not in inputs and "width" in inputs:
            reasons["width"] = reasons["width_gradient"] = "the width is given"
        return reasons


def problem_of_case(case):
    """The problem of a golden case's definition."""
    return Problem(case.op, case.inputs(), case.meta, case.id)


def problem_of(reference):
    """The problem of a stored case, or of any Reference: its inputs, and in `meta` the op and its scalars."""
    return Problem(reference.meta["op"], dict(reference.inputs), reference.meta, reference.id)


# --- ops: (forward, finish), each putting its arrays into `values`; a has the inputs ------------------------------------


def _neuron_forward(run, a, meta, values):
    decay = run.module.decay_from_w(a["w"], run.conventions) if "w" in a else meta["decay"]
    _, cache = run.module.lif_forward(a["x"], decay, meta["v_th"], run.conventions, run.surrogate)
    values |= {"u": cache.u, "s": cache.s, "v": cache.v}
    if "x_second" in a:  # another forward pass before the backward; a kernel that keeps hidden state mixes the two up
        run.module.lif_forward(a["x_second"], decay, meta["v_th"], run.conventions, run.surrogate)
    return cache


def _neuron_finish(run, a, meta, cache, values):
    module, c, gamma, alpha = run.module, run.conventions, a.get("gamma"), meta.get("alpha", 1.0)
    T, v_th, decay = len(a["x"]), meta["v_th"], cache.decay
    width = a["width"] if "width" in a else module.width_of_layer(gamma, v_th, decay, T, run.dtype, c, alpha)
    values["width"] = width
    grads = module.lif_backward(a["ds"], cache, width, c, run.surrogate)
    values |= {"du": grads.du, "grad_x": grads.dx}
    flows = gamma is not None and "width" not in a and c.width_gradient == "flows"
    dgamma, more = module.width_gradient(grads.dwidth, gamma, v_th, decay, c, alpha) if flows else (None, 0.0)
    ddecay = grads.ddecay + more
    if "w" in a:
        values["grad_w"] = run.dtype(module.dw_from_ddecay(ddecay, decay, c))
    else:
        values["grad_decay"] = run.dtype(ddecay)
    if flows:
        values["grad_gamma"] = dgamma


def _surrogate_finish(run, a, meta, made, values):
    z, derivative = a["u"] - run.dtype(meta["v_th"]), run.module.derivative
    slopes = [derivative(z[t], width, run.surrogate, run.conventions) for t, width in enumerate(a["width"])]
    values["y"] = np.stack(slopes)


def _width_finish(run, a, meta, made, values):
    scalars = meta["v_th"], meta["decay"], meta["T"], run.dtype, run.conventions, meta.get("alpha", 1.0)
    values["width"] = run.module.width_of_layer(a["gamma"], *scalars)


def _norm_forward(run, a, meta, values):
    running = (a["running_mean"], a["running_var"]) if "running_mean" in a else None
    scalars = meta["v_th"], meta.get("alpha", 1.0), meta.get("eps", 1e-5), run.conventions
    values["y"], cache = run.module.tdbn_forward(a["x"], a["gamma"], a["beta"], *scalars, running)
    return cache


def _norm_finish(run, a, meta, cache, values):
    values["grad_x"], values["grad_gamma"], values["grad_beta"] = run.module.tdbn_backward(a["dy"], cache)


def _synapse_forward(run, a, meta, values):
    geometry = meta.get("stride", 1), meta.get("padding", 0)
    values["y"], cache = run.module.conv2d_forward(a["x"], a["weight"], a.get("bias"), *geometry)
    return cache


def _synapse_finish(run, a, meta, cache, values):
    values["grad_x"], values["grad_weight"], dbias = run.module.conv2d_backward(a["dy"], cache)
    if dbias is not None:
        values["grad_bias"] = dbias


def _pool_forward(run, a, meta, values):
    values["y"], cache = run.module.avg_pool_forward(a["x"])
    return cache


def _pool_finish(run, a, meta, cache, values):
    values["grad_x"] = run.module.avg_pool_backward(a["dy"], cache)


def _global_pool_forward(run, a, meta, values):
    y, cache = run.module.avg_pool_forward(a["x"], a["x"].shape[-3:-1])
    values["y"] = y[..., 0, 0, :]
    return cache


def _global_pool_finish(run, a, meta, cache, values):
    values["grad_x"] = run.module.avg_pool_backward(a["dy"][..., None, None, :], cache)


def _add_forward(run, a, meta, values):
    """A residual block of two linear maps: one takes x and the other takes side out of the two side by side."""
    C = a["x"].shape[-1]
    first, second = np.split(np.eye(2 * C, dtype=run.dtype), 2, axis=1)
    body, side = {"kind": "readout", "name": "body"}, {"kind": "readout", "name": "side"}
    layers = [{"kind": "residual", "body": [body], "shortcut": side}]
    net = reference.Network(layers, {"body.weight": first, "side.weight": second})
    values["y"], caches = run.module.forward(net, layers, np.concatenate([a["x"], a["side"]], axis=-1), {})
    return layers, caches


def _add_finish(run, a, meta, made, values):
    both = run.module.backward(made[0], a["dy"], made[1], {})
    values["grad_x"], values["grad_side"] = np.split(both, 2, axis=-1)


def _cross_entropy_finish(run, a, meta, made, values):
    values["loss"], values["dlogits"] = run.module.cross_entropy(a["logits"], a["labels"], run.conventions)


def _tet_finish(run, a, meta, made, values):
    lam, target = meta.get("lam", 1e-3), meta.get("target", 1.0)
    values["loss"], values["dlogits"] = run.module.tet(a["logits"], a["labels"], lam, target)


def _network_forward(run, a, meta, values):
    params = {name: value for name, value in a.items() if name not in DATA and ".running_" not in name}
    running = None
    if not meta.get("training", True):
        names = [name.removesuffix(".running_mean") for name in a if name.endswith(".running_mean")]
        running = {name: (a[f"{name}.running_mean"], a[f"{name}.running_var"]) for name in names}
    net = reference.Network(meta["layers"], params, run.conventions, run.surrogate, running)
    values["logits"], caches = run.module.forward(net, net.layers, a["x"], values)
    return net, values["logits"], caches


def _network_finish(run, a, meta, made, values):
    net, logits, caches = made
    caches = _map_blocks(net.layers, caches, lambda *block: _behind(run, net, *block, values))
    if "dlogits" in a:
        values["dlogits"] = a["dlogits"]
    elif meta.get("loss", "ce") == "ce":
        values["loss"], values["dlogits"] = run.module.cross_entropy(logits, a["labels"], run.conventions)
    else:
        values["loss"], values["dlogits"] = run.module.tet(logits, a["labels"])
    values["grad_x"] = run.module.backward(net.layers, values["dlogits"], caches, values)


def _map_blocks(layers, caches, change):
    """The caches of a network's layers with change(block, cache) for those of its spiking blocks."""
    changed = []
    for layer, cache in zip(layers, caches, strict=True):
        if layer["kind"] == "block":
            cache = change(layer, cache)
        elif layer["kind"] == "residual":
            inner, outer = cache
            inner = _map_blocks(layer["body"], inner, change)
            cache = inner, _map_blocks([layer["shortcut"]], outer, change) if layer["shortcut"] else None
        changed.append(cache)
    return changed


def _behind(run, net, block, cache, values):
    """A block's cache as other conventions with the same forward pass leave it; its width goes into `values`."""
    if len(cache) != 4:  # of a module whose blocks have caches of their own, which has computed its width itself
        return cache
    synapse, norm, neuron, _ = cache
    gamma, alpha = net.params.get(f"{block['name']}.gamma"), block["norm"]["alpha"] if block["norm"] else 1.0
    T, dtype, c = len(neuron.x), neuron.x.dtype, run.conventions
    width = run.module.width_of_layer(gamma, block["v_th"], neuron.decay, T, dtype, c, alpha)
    values[f"{block['name']}.width"] = width
    return synapse, norm, neuron._replace(conventions=c), width


def _bias_magnitude(name, layers, values, made):
    """Sum of the magnitudes that a bias's gradient adds up: before tdBN they cancel."""
    if f"{name}.dx" not in values:
        return float(np.abs(values["dlogits"]).sum())
    norms = {}
    _map_blocks(layers, made[2], lambda block, cache: norms.update({block["name"]: cache[1]}))
    norm = norms[name]
    slope = 1.0 if norm is None else np.max(np.abs(norm.gamma * norm.scale * norm.inv_std))
    return float(np.abs(values[f"{name}.dx"]).sum() * slope)


def _nothing(run, a, meta, values):
    return None


_OPS = {
    "lif": (_neuron_forward, _neuron_finish),
    "plif": (_neuron_forward, _neuron_finish),
    "surrogate": (_nothing, _surrogate_finish),
    "width": (_nothing, _width_finish),
    "tdbn": (_norm_forward, _norm_finish),
    "conv2d": (_synapse_forward, _synapse_finish),
    "linear": (_synapse_forward, _synapse_finish),
    "avg_pool": (_pool_forward, _pool_finish),
    "global_avg_pool": (_global_pool_forward, _global_pool_finish),
    "add": (_add_forward, _add_finish),
    "cross_entropy": (_nothing, _cross_entropy_finish),
    "tet": (_nothing, _tet_finish),
    "network": (_network_forward, _network_finish),
}
