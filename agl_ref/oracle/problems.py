"""What a Candidate can be run on: a network with its input and labels, or the inputs of one op.

A problem has a forward half that reads the conventions in FORWARD, and a half that finishes it (loss and backward) from
what the forward half left, so that a search over conventions shares forward passes.

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
"""

import hashlib
from typing import NamedTuple

import numpy as np

from agl_ref.oracle.descriptions import blocks, describe
from agl_ref.oracle.mutants.candidate_network import CandidateNetwork

FORWARD = ("spike_test", "reset", "input_scale", "plif", "norm_variance", "norm_scale")

_NEURON = ("spike_test", "reset", "reset_gradient", "window_edge", "surrogate_scale", "width", "width_gradient")


def _reasons(neurons, plif, norm, training, readout, T, rectangular):
    """{field: why it cannot matter} from what a problem has."""
    reasons = {}
    if not neurons:
        reasons.update(dict.fromkeys((*_NEURON, "input_scale"), "there is no neuron"))
    elif T == 1:
        reasons.update(dict.fromkeys(("reset_gradient",), "T = 1: nothing passes through the reset"))
    if neurons and not rectangular:
        reasons["window_edge"] = "the surrogate has no edge"
    if not plif:
        reasons["plif"] = "there is no PLIF neuron"
    if not norm:
        reasons["norm_variance"] = reasons["norm_scale"] = "there is no tdBN"
    elif not training:
        reasons["norm_variance"] = "tdBN is in evaluation mode"
    if not readout:
        reasons["readout"] = "no logits are reduced over time"
    return reasons


class _Tape:
    """Hands arrays on to an observer and remembers them for a digest."""

    def __init__(self, observe):
        self.observe, self.seen = observe, []

    def __call__(self, name, array, magnitude=0.0):
        array = np.asarray(array)
        self.seen.append(array)
        self.observe(name, array, max(float(magnitude), float(np.max(np.abs(array), initial=0.0))))

    def digest(self, more=()):
        mixed = hashlib.blake2b(digest_size=16)
        for array in (*more, *self.seen):
            mixed.update(np.ascontiguousarray(array).tobytes())
        return mixed.digest()


class Problem:
    """What both kinds share."""

    def run(self, ops):
        """{name: array} of everything a Candidate computes."""
        arrays = {}

        def observe(name, array, magnitude):
            arrays[name] = array

        self.finish(ops, self.forward(ops, observe), observe)
        return arrays


class NetworkProblem(Problem):
    """A network as layer descriptions with parameters, its input and labels."""

    def __init__(self, layers, params, x, labels, loss="ce", statistics=None, id="own", surrogate="rectangular"):
        self.layers, self.params, self.x, self.labels = layers, params, x, labels
        self.loss, self.statistics, self.id, self.surrogate = loss, statistics, id, surrogate
        self.inputs = {"x": x, "labels": labels}  # a parameter's bare name means its gradient

    @classmethod
    def of_network(cls, net, x, labels, loss="ce", training=True, id="own"):
        """The problem of an `agl_ref.Network`."""
        statistics = None if training else net.running_statistics()
        return cls(describe(net), net.parameters(), np.asarray(x), labels, loss, statistics, id, net.surrogate)

    def irrelevant(self, surrogate=None):
        """{field: why it cannot matter here} under this surrogate, the problem's own by default."""
        units = list(blocks(self.layers))
        return _reasons(
            neurons=bool(units),
            plif=any(block["neuron"] == "plif" for block in units),
            norm=any(block["norm"] for block in units),
            training=self.statistics is None,
            readout=self.loss == "ce" and len(self.x) > 1,
            T=len(self.x),
            rectangular=(surrogate or self.surrogate) == "rectangular",
        )

    def of_loss(self):
        """Names of the arrays that hang on the forward conventions and the readout alone."""
        name = self.layers[-1]["name"]
        return ("loss", "dlogits", f"grad_{name}.weight", f"grad_{name}.bias")

    def _network(self, ops, tape):
        return CandidateNetwork(ops, self.layers, self.params, self.statistics, tape)

    def forward(self, ops, observe):
        """What `finish` needs."""
        tape = _Tape(observe)
        logits, walked = self._network(ops, tape).forward(self.x)
        return logits, walked, tape.digest()

    def finish(self, ops, state, observe):
        """Loss and backward; returns a digest of all arrays, both halves'."""
        logits, walked, before = state
        tape = _Tape(observe)
        network = self._network(ops, tape)
        network.backward(network.loss(logits, self.labels, self.loss), walked)
        return tape.digest([np.frombuffer(before, np.uint8)])


class OpProblem(Problem):
    """One op with its inputs; `meta` has its scalars: v_th, decay, alpha, eps, stride, padding, T, lam, target."""

    def __init__(self, op, inputs, meta, id="own"):
        if op not in _OPS:
            raise ValueError(f"op: expected one of {', '.join(_OPS)}, received {op!r}; see agl_ref.oracle.problems")
        self.op, self.inputs, self.meta, self.id = op, inputs, meta, id
        self.surrogate = meta.get("surrogate", "rectangular")

    def irrelevant(self, surrogate=None):
        """{field: why it cannot matter here} under this surrogate, the problem's own by default."""
        neuron = self.op in ("lif", "plif")
        T = self.meta.get("T") or len(next(iter(self.inputs.values())))
        reasons = _reasons(
            neurons=neuron or self.op in ("surrogate", "width"),
            plif=self.op == "plif",
            norm=self.op == "tdbn" or (self.op == "width" or "gamma" in self.inputs),
            training="running_mean" not in self.inputs,
            readout=self.op == "cross_entropy" and T > 1,
            T=T,
            rectangular=(surrogate or self.surrogate) == "rectangular",
        )
        if self.op in ("surrogate", "width"):
            kept = {"surrogate": ("window_edge", "surrogate_scale"), "width": ("width",)}[self.op]
            reasons.update({name: f"the op is {self.op}" for name in (*_NEURON, "input_scale") if name not in kept})
        if self.op != "tdbn":
            reasons["norm_variance"] = "there is no tdBN"
        if neuron and "gamma" not in self.inputs and "width" in self.inputs:
            reasons["width"] = reasons["width_gradient"] = "the width is given"
        return reasons

    def of_loss(self):
        """Names of the arrays that hang on the forward conventions and the readout alone."""
        return ("loss", "dlogits")

    def forward(self, ops, observe):
        """What `finish` needs."""
        tape = _Tape(observe)
        arrays = {
            name: value if np.asarray(value).dtype.kind in "iu" else np.asarray(value, ops.dtype)
            for name, value in self.inputs.items()
        }
        return _OPS[self.op][0](ops, arrays, self.meta, tape), arrays, tape.digest()

    def finish(self, ops, state, observe):
        """Backward; returns a digest of all arrays, both halves'."""
        made, arrays, before = state
        tape = _Tape(observe)
        _OPS[self.op][1](ops, arrays, self.meta, made, tape)
        return tape.digest([np.frombuffer(before, np.uint8)])


class Inputs(NamedTuple):
    """What `problem_of` reads of a Reference, of a case that is not computed."""

    id: str
    meta: dict
    inputs: dict


def case_inputs(case):
    """The Inputs of a golden case's definition."""
    return Inputs(case.id, {**case.meta, "op": case.op}, case.inputs())


def problem_of(reference):
    """The problem of a stored case, or of any Reference: its inputs, and in `meta` the op or the network's layers."""
    meta, inputs = reference.meta, dict(reference.inputs)
    if meta["op"] != "network":
        return OpProblem(meta["op"], inputs, meta, reference.id)
    x, labels = inputs.pop("x"), inputs.pop("labels")
    statistics = {name: a for name, a in inputs.items() if name.endswith((".running_mean", ".running_var"))}
    params = {name: a for name, a in inputs.items() if name not in statistics}
    kept = None if meta.get("training", True) else statistics
    loss, surrogate = meta.get("loss", "ce"), meta.get("surrogate", "rectangular")
    return NetworkProblem(meta["layers"], params, x, labels, loss, kept, reference.id, surrogate)


# --- ops: (forward, finish), each telling its arrays ------------------------------------------------------------------


def _neuron_forward(ops, a, meta, tell):
    decay = ops.decay_of(a["w"]) if "w" in a else meta["decay"]
    made = ops.neuron_forward(a["x"], decay, meta["v_th"])
    for name in ("u", "s", "v"):
        tell(name, getattr(made, name))
    if "x_second" in a:  # another forward pass before the backward; a kernel that keeps hidden state mixes the two up
        ops.neuron_forward(a["x_second"], decay, meta["v_th"])
    return made


def _neuron_finish(ops, a, meta, made, tell):
    T, gamma, alpha = len(a["x"]), a.get("gamma"), meta.get("alpha", 1.0)
    width = a["width"] if "width" in a else ops.width(gamma, meta["v_th"], made.decay, T, alpha)
    tell("width", width)
    grads = ops.neuron_backward(a["ds"], made, width)
    tell("du", grads.du)
    tell("grad_x", grads.dx)
    ddecay, dgamma = float(grads.ddecay), None
    if gamma is not None and "width" not in a:
        dgamma, more = ops.through_width(grads.dwidth, gamma, meta["v_th"], made.decay, alpha)
        ddecay += more
    terms = float(np.abs(grads.du).sum() * np.max(np.abs(made.v), initial=0.0))
    if "w" in a:
        tell("grad_w", ops.dw(ddecay, made.decay), terms * made.decay * (1 - made.decay))
    else:
        tell("grad_decay", ops.dtype.type(ddecay), terms)
    if dgamma is not None and ops.conventions.width_gradient == "flows":
        tell("grad_gamma", dgamma)


def _surrogate_finish(ops, a, meta, made, tell):
    v_th = ops.dtype.type(meta["v_th"])
    tell("y", np.stack([ops.derivative(u, v_th, kappa) for u, kappa in zip(a["u"], a["width"], strict=True)]))


def _width_finish(ops, a, meta, made, tell):
    tell("width", ops.width(a["gamma"], meta["v_th"], meta["decay"], meta["T"], meta.get("alpha", 1.0)))


def _norm_forward(ops, a, meta, tell):
    running = (a["running_mean"], a["running_var"]) if "running_mean" in a else None
    scales = (meta["v_th"], meta.get("alpha", 1.0), meta.get("eps", 1e-5))
    y, made = ops.norm_forward(a["x"], a["gamma"], a["beta"], *scales, running)
    tell("y", y)
    return made


def _norm_finish(ops, a, meta, made, tell):
    dx, dgamma, dbeta = ops.norm_backward(a["dy"], made)
    tell("grad_x", dx)
    tell("grad_gamma", dgamma)
    tell("grad_beta", dbeta, np.abs(a["dy"]).sum())


def _conv_forward(ops, a, meta, tell):
    tell("y", ops.conv_forward(a["x"], a["weight"], a.get("bias"), meta.get("stride", 1), meta.get("padding", 0)))


def _conv_finish(ops, a, meta, made, tell):
    _tell_synapse(
        a, ops.conv_backward(a["dy"], a["x"], a["weight"], meta.get("stride", 1), meta.get("padding", 0)), tell
    )


def _linear_forward(ops, a, meta, tell):
    tell("y", ops.linear_forward(a["x"], a["weight"], a.get("bias")))


def _linear_finish(ops, a, meta, made, tell):
    _tell_synapse(a, ops.linear_backward(a["dy"], a["x"], a["weight"]), tell)


def _tell_synapse(a, grads, tell):
    tell("grad_x", grads[0])
    tell("grad_weight", grads[1])
    if "bias" in a:
        tell("grad_bias", grads[2], np.abs(a["dy"]).sum())


def _pool_forward(ops, a, meta, tell):
    tell("y", ops.pool_forward(a["x"]))


def _pool_finish(ops, a, meta, made, tell):
    tell("grad_x", ops.pool_backward(a["dy"], a["x"].shape))


def _global_pool_forward(ops, a, meta, tell):
    tell("y", ops.global_pool_forward(a["x"]))


def _global_pool_finish(ops, a, meta, made, tell):
    tell("grad_x", ops.global_pool_backward(a["dy"], a["x"].shape))


def _add_forward(ops, a, meta, tell):
    tell("y", ops.add(a["x"], a["side"]))


def _add_finish(ops, a, meta, made, tell):
    tell("grad_x", a["dy"])
    tell("grad_side", ops.side_gradient(a["dy"]))


def _cross_entropy_finish(ops, a, meta, made, tell):
    loss, dlogits = ops.cross_entropy(a["logits"], a["labels"])
    tell("loss", loss)
    tell("dlogits", dlogits)


def _tet_finish(ops, a, meta, made, tell):
    loss, dlogits = ops.tet(a["logits"], a["labels"], meta.get("lam", 1e-3), meta.get("target", 1.0))
    tell("loss", loss)
    tell("dlogits", dlogits)


def _nothing(ops, a, meta, tell):
    return None


_OPS = {
    "lif": (_neuron_forward, _neuron_finish),
    "plif": (_neuron_forward, _neuron_finish),
    "surrogate": (_nothing, _surrogate_finish),
    "width": (_nothing, _width_finish),
    "tdbn": (_norm_forward, _norm_finish),
    "conv2d": (_conv_forward, _conv_finish),
    "linear": (_linear_forward, _linear_finish),
    "avg_pool": (_pool_forward, _pool_finish),
    "global_avg_pool": (_global_pool_forward, _global_pool_finish),
    "add": (_add_forward, _add_finish),
    "cross_entropy": (_nothing, _cross_entropy_finish),
    "tet": (_nothing, _tet_finish),
}
