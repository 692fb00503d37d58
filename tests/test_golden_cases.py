"""Every golden case, computed by each storey and judged by the oracle: both must pass, in both dtypes."""

import warnings

import numpy as np
import pytest
from storeys import ENGINE, REFERENCE

import agl_ref as agl
from agl_ref import reference
from agl_ref.engine import neuron
from agl_ref.oracle import cases, compare, load_case
from agl_ref.oracle.descriptions import network_of_reference

IDS = cases()
OPS = [id for id in IDS if load_case(id).meta["op"] != "network"]
NETWORKS = [id for id in IDS if id not in OPS]


def lif(lib, a, meta, c):
    decay = neuron.decay_from_w(a["w"], c) if "w" in a else meta["decay"]
    _, cache = lib.lif_forward(a["x"], decay, meta["v_th"], c, meta["surrogate"])
    if "x_second" in a:  # another forward pass before the backward, which must not mix the two up
        lib.lif_forward(a["x_second"], decay, meta["v_th"], c, meta["surrogate"])
    T, gamma, dtype, alpha = len(a["x"]), a.get("gamma"), a["x"].dtype, meta.get("alpha", 1.0)
    width = a.get("width")
    if width is None:
        width = lib.width_of_layer(gamma, meta["v_th"], decay, T, dtype, c, alpha)
    grads = lib.lif_backward_full(a["ds"], cache, width)
    made = {"u": cache.u, "s": cache.s, "v": cache.v, "width": width, "grad_x": grads.dx}
    if lib is REFERENCE:  # the engine gives dx alone
        made["du"] = grads.du
    ddecay = grads.ddecay
    if c.width_gradient == "flows" and gamma is not None and "width" not in a:
        made["grad_gamma"], more = lib.width_gradient(grads.dwidth, gamma, meta["v_th"], decay, c, alpha)
        ddecay = ddecay + more
    if "w" in a:
        return made | {"grad_w": neuron.dw_from_ddecay(ddecay, decay, c)}
    return made | {"grad_decay": ddecay}


def surrogate(lib, a, meta, c):
    pairs = zip(a["u"] - a["u"].dtype.type(meta["v_th"]), a["width"].tolist(), strict=True)
    return {"y": np.stack([lib.derivative(z, kappa, meta["surrogate"], c) for z, kappa in pairs])}


def width(lib, a, meta, c):
    options = (meta["v_th"], meta["decay"], meta["T"], a["gamma"].dtype, c, meta["alpha"])
    return {"width": lib.width_of_layer(a["gamma"], *options)}


def tdbn(lib, a, meta, c):
    running = (a["running_mean"], a["running_var"]) if "running_mean" in a else None
    scales = meta["v_th"], meta["alpha"], meta["eps"]
    y, cache = lib.tdbn_forward(a["x"], a["gamma"], a["beta"], *scales, c, running)
    return {"y": y} | dict(zip(("grad_x", "grad_gamma", "grad_beta"), lib.tdbn_backward(a["dy"], cache), strict=True))


def synapse(lib, a, meta, c):
    if meta["op"] == "conv2d":
        geometry, pair = (meta["stride"], meta["padding"]), (lib.conv2d_forward, lib.conv2d_backward)
    else:
        geometry, pair = (), (lib.linear_forward, lib.linear_backward)
    y, cache = pair[0](a["x"], a["weight"], a.get("bias"), *geometry)
    grads = zip(("grad_x", "grad_weight", "grad_bias"), pair[1](a["dy"], cache), strict=True)
    return {"y": y} | {name: grad for name, grad in grads if grad is not None}


def pool(lib, a, meta, c):
    y, cache = getattr(lib, f"{meta['op']}_forward")(a["x"])
    return {"y": y, "grad_x": getattr(lib, f"{meta['op']}_backward")(a["dy"], cache)}


def add(lib, a, meta, c):
    return {"y": a["x"] + a["side"], "grad_x": a["dy"], "grad_side": a["dy"]}  # (R1), (R2) in NumPy's own words


def loss(lib, a, meta, c):
    options = (c,) if meta["op"] == "cross_entropy" else (meta["lam"], meta["target"])
    value, cache = getattr(lib, f"{meta['op']}_forward")(a["logits"], a["labels"], *options)
    return {"loss": value, "dlogits": getattr(lib, f"{meta['op']}_backward")(cache)}


RUN = {"lif": lif, "plif": lif, "surrogate": surrogate, "width": width, "tdbn": tdbn, "conv2d": synapse}
RUN |= {"linear": synapse, "avg_pool": pool, "global_avg_pool": pool, "add": add, "cross_entropy": loss, "tet": loss}


def inputs_of(case, dtype):
    return {name: a if a.dtype.kind in "iu" else a.astype(dtype) for name, a in case.inputs.items()}


def assert_passes(case, made, dtype, left_out=()):
    """Every array that the case stores was made, and the oracle's verdict on all of them is PASS."""
    made = {name: np.asarray(value, dtype) for name, value in made.items() if name in case.arrays}
    assert set(made) == set(case.arrays) - set(left_out)
    report = compare(case, made, dtype=dtype, guess=False)
    assert report.verdict == "PASS", str(report)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("id", OPS)
def test_an_operation_passes(lib, id, dtype):
    case = load_case(id)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", agl.WindowCollapsedWarning)  # the cases whose gamma is not positive
        made = RUN[case.meta["op"]](lib, inputs_of(case, dtype), case.meta, agl.Conventions(**case.conventions))
    assert_passes(case, made, dtype, left_out=("du",) if lib is ENGINE else ())


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("id", NETWORKS)
def test_a_network_passes_on_the_ground_floor(id, dtype):
    case = load_case(id)
    a = inputs_of(case, dtype)
    x, labels = a.pop("x"), a.pop("labels")
    statistics = {name: a.pop(name) for name in list(a) if ".running_" in name}
    running = None
    if not case.meta["training"]:
        names = {name.rsplit(".", 1)[0] for name in statistics}
        running = {name: (statistics[f"{name}.running_mean"], statistics[f"{name}.running_var"]) for name in names}
    c = agl.Conventions(**case.conventions)
    net = reference.Network(case.meta["layers"], a, c, case.meta["surrogate"], running)
    _, _, values, _ = reference.loss_and_grads(net, x, labels, case.meta["loss"])
    assert_passes(case, values, dtype)


@pytest.mark.parametrize("id", NETWORKS)
def test_a_network_passes_in_the_engine(id):
    case = load_case(id)
    net, x, labels = network_of_reference(case)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", agl.WindowCollapsedWarning)
        trace = net.forward(x, training=case.meta["training"])
    if case.meta["loss"] == "tet":
        value, cache = agl.tet_forward(trace.logits, labels)
        dlogits = agl.tet_backward(cache)
    else:
        value, cache = agl.cross_entropy_forward(trace.logits, labels, net.conventions)
        dlogits = agl.cross_entropy_backward(cache)
    record = {}
    made = {f"grad_{name}": grad for name, grad in net.backward(trace, dlogits, record).items()}
    made |= {"grad_x": record.pop("x"), "loss": value, "logits": trace.logits, "dlogits": dlogits} | record
    for name, kept in trace.items():
        made |= {f"{name}.{key}": getattr(kept, key) for key in ("u", "s", "v", "width")}
    assert_passes(case, made, "float64", left_out={name for name in case.arrays if name.endswith((".du", ".x"))})
    assert len([name for name in made if name.startswith("grad_")]) == len(net.parameters()) + 1
