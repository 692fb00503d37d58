"""NIR graphs as networks: hand-made graphs against NIR's own equations, written out in its layout; and refusals."""

import sys
from dataclasses import replace

import helpers
import numpy as np
import pytest

import agl_ref as agl
from agl_ref.interop import from_nir, nir_file

nir = pytest.importorskip("nir")

HARD = agl.Conventions(spike_test=">", width="fixed")  # r dt / tau = 1
NORSE = agl.PRESETS["norse"]  # r = 1
DT = 1e-3


def lif(shape, decay=0.75, v_th=1.0, v_leak=0.0, v_reset=None, scaled=False, dtype=np.float64):
    full = np.full(shape, 1.0, dtype)
    tau = DT / (1 - decay)
    leak = v_leak * full
    reset = leak if v_reset is None else v_reset * full
    return nir.LIF(
        tau=tau * full, r=full if scaled else tau / DT * full, v_leak=leak, v_threshold=v_th * full, v_reset=reset
    )


def conv(rng, c_in, c_out, size=3, stride=1, padding=1, dtype=np.float64, bias=True, **more):
    weight = (rng.normal(size=(c_out, c_in, size, size)) * 0.7).astype(dtype)
    b = rng.normal(size=c_out).astype(dtype) * 0.3 if bias else None
    return nir.Conv2d(None, weight, stride, padding, more.get("dilation", 1), more.get("groups", 1), b)


def affine(rng, f_in, f_out, dtype=np.float64):
    weight = rng.normal(size=(f_out, f_in)) * 1.5 / np.sqrt(f_in)
    return nir.Affine(weight=weight.astype(dtype), bias=rng.normal(size=f_out).astype(dtype) * 0.3)


def chain(*nodes, shape=(2, 6, 7), check=True):
    """nir's graph of the nodes in a row between an Input and an Output."""
    named = {"input": nir.Input({"input": np.array(shape)})}
    named.update({f"n{i}": node for i, node in enumerate(nodes)})
    named["output"] = nir.Output({"output": None})
    names = list(named)
    return nir.NIRGraph(named, list(zip(names[:-1], names[1:], strict=True)), type_check=check)


def integrate(shape, v_th=1.0, v_reset=0.0, r=1 / DT):
    full = np.ones(shape)
    return nir.IF(r=r * full, v_threshold=v_th * full, v_reset=v_reset * full)


def small_graph(seed=0, pool=nir.AvgPool2d, end=True, dtype=np.float64, **of_lif):
    rng = np.random.default_rng(seed)
    return chain(
        conv(rng, 2, 4, dtype=dtype),
        lif((4, 6, 7), dtype=dtype, **of_lif),
        pool(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        conv(rng, 4, 3, stride=2, bias=False, dtype=dtype),
        lif((3, 2, 2), decay=0.5, dtype=dtype, **of_lif),
        nir.Flatten({"input": np.array([3, 2, 2])}, 0, -1),
        affine(rng, 12, 9, dtype),
        lif((9,), decay=0.9, dtype=dtype, **of_lif),
        *([nir.Linear(rng.normal(size=(5, 9)).astype(dtype))] if end else []),
    )


# --- NIR's equations, in its own layout -----------------------------------------------------------


def convolve(x, node):
    """Sums over taps of an image (C, H, W)."""
    (s, _), (p, _) = node.stride, node.padding
    padded = np.pad(x, ((0, 0), (p, p), (p, p)))
    size = node.weight.shape[2]
    rows, columns = ((n + 2 * p - size) // s + 1 for n in x.shape[1:])
    out = np.zeros((len(node.weight), rows, columns))
    for i, j in np.ndindex(rows, columns):
        patch = padded[:, i * s : i * s + size, j * s : j * s + size]
        out[:, i, j] = (node.weight * patch).sum(axis=(1, 2, 3))
    return out if node.bias is None else out + node.bias[:, None, None]


def pool(x, mean):
    rows, columns = x.shape[1] // 2, x.shape[2] // 2
    sums = x[:, : 2 * rows, : 2 * columns].reshape(len(x), rows, 2, columns, 2).sum(axis=(2, 4))
    return sums / 4 if mean else sums


def simulate(graph, x, reset, step="euler"):
    """Outputs (T, ...) of one sample x (T, ...), and {node: potentials} of tau dv/dt = v_leak - v + r I.

    By Euler's rule, or by the solution for an I that is constant in each step.
    """
    names = [name for name in graph.nodes if name not in ("input", "output")]
    starts = {n: getattr(graph.nodes[n], "v_leak", getattr(graph.nodes[n], "v_reset", None)) for n in names}
    v = {n: np.array(start) for n, start in starts.items() if start is not None}
    out, potentials = [], {name: [] for name in v}
    for y in x:
        for name in names:
            node = graph.nodes[name]
            if isinstance(node, nir.Conv2d):
                y = convolve(y, node)
            elif isinstance(node, (nir.SumPool2d, nir.AvgPool2d)):
                y = pool(y, isinstance(node, nir.AvgPool2d))
            elif isinstance(node, nir.Flatten):
                y = y.ravel()
            elif isinstance(node, (nir.Affine, nir.Linear)):
                y = node.weight @ y + (node.bias if isinstance(node, nir.Affine) else 0.0)
            elif isinstance(node, nir.IF):
                u = v[name] + DT * node.r * y
                potentials[name].append(u)
                y = (u > node.v_threshold).astype(float)
                v[name] = np.where(y > 0, node.v_reset, u) if reset == "hard" else u - node.v_threshold * y
            else:
                end = node.v_leak + node.r * y  # where a constant input leads in the long run
                if step == "euler":
                    u = v[name] + DT / node.tau * (end - v[name])
                else:
                    u = end + (v[name] - end) * np.exp(-DT / node.tau)
                potentials[name].append(u)
                y = (u > node.v_threshold).astype(float)
                v[name] = np.where(y > 0, node.v_reset, u) if reset == "hard" else u - node.v_threshold * y
        out.append(y)
    return np.array(out), {name: np.array(u) for name, u in potentials.items()}


def assert_follows_nir(graph, net, reset, channels=2, step="euler"):
    x = np.random.default_rng(5).normal(0.5, 2.0, (6, 3, channels, 6, 7))
    trace = net.forward(agl.interop.from_layout(x, "TNC.."))
    for n in range(x.shape[1]):
        expected, potentials = simulate(graph, x[:, n], reset, step)
        helpers.assert_close(trace.logits[:, n], expected, 1e-12, name="logits")
        assert expected.any()
        for (name, cache), (node, u) in zip(trace.items(), potentials.items(), strict=True):
            start = "v_leak" if isinstance(graph.nodes[node], nir.LIF) else "v_reset"
            leak, threshold = (np.unique(getattr(graph.nodes[node], key))[0] for key in (start, "v_threshold"))
            received = cache.u[:, n] if cache.u.ndim == 3 else np.moveaxis(cache.u[:, n], -1, 1)
            helpers.assert_close(received + leak, u, 1e-12, name=name)
            assert np.array_equal(received > threshold - leak, u > threshold)
    for name, cache in trace.items():
        fired = cache.s > 0
        assert fired[:-1].any() and not fired.all(), f"{name}: all or no neurons fire"
        z = np.abs(cache.u - net_threshold(net, name))
        assert (z < 0.5).any() and not (z < 0.5).all(), f"{name}: all neurons on one side of the window's edge"


def net_threshold(net, name):
    return dict(net.blocks())[name].neuron.v_th


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("kind", [nir.AvgPool2d, nir.SumPool2d])
@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("scaled", [True, False])
def test_a_graph_of_nirs_own_gives_its_equations(kind, reset, scaled, end):
    v_th = 0.25 if scaled else 1.0
    graph = small_graph(3, kind, end, scaled=scaled, v_th=v_th)
    c = replace(NORSE if scaled else HARD, reset=reset)
    net = from_nir(graph, dt=DT, conventions=c, surrogate="rectangular", step="euler")
    assert_follows_nir(graph, net, reset)
    names = ["n0", "n3", "n6", "n8" if end else "readout"]
    assert [name for name, _ in net.blocks()] + [net.layers[-1].name] == names


@pytest.mark.parametrize("reset", ["hard", "soft"])
@pytest.mark.parametrize("scaled", [True, False])
def test_the_exponential_step_is_the_solution_for_a_constant_input(reset, scaled):
    graph = small_graph(3, scaled=True, v_th=0.25 if scaled else 1.0)
    if not scaled:
        for name in ("n1", "n4", "n7"):
            graph.nodes[name].r = 1 / (1 - np.exp(-DT / graph.nodes[name].tau))
    c = replace(NORSE if scaled else HARD, reset=reset)
    net = from_nir(graph, dt=DT, conventions=c, surrogate="rectangular", step="exponential")
    assert_follows_nir(graph, net, reset, step="exponential")


@pytest.mark.parametrize("step", ["euler", "exponential"])
@pytest.mark.parametrize("reset, v_reset", [("hard", 0.0), ("hard", -0.5), ("soft", 0.0)])
def test_an_if_is_a_neuron_of_decay_1(reset, v_reset, step):
    """Alone and with a LIF beside it, whose step still has to be said; the IF's is the same by both rules."""
    graph, c = small_graph(3), replace(HARD, reset=reset)
    for name, shape in (("n1", (4, 6, 7)), ("n4", (3, 2, 2)), ("n7", (9,))):
        graph.nodes[name] = integrate(shape, v_reset=v_reset)
    net = from_nir(graph, dt=DT, conventions=c, surrogate="rectangular", step=step)
    assert [(block.neuron.decay(c), block.neuron.v_th) for _, block in net.blocks()] == [(1.0, 1.0 - v_reset)] * 3
    assert_follows_nir(graph, net, reset)
    plain = from_nir(graph, dt=DT, conventions=c, surrogate="rectangular")
    helpers.assert_same_bits(
        plain.forward(np.ones((2, 1, 6, 7, 2))).logits, net.forward(np.ones((2, 1, 6, 7, 2))).logits
    )
    graph.nodes["n4"] = lif((3, 2, 2), decay=0.5, scaled=step == "exponential")
    graph.nodes["n4"].r = np.full((3, 2, 2), 2.0 if step == "euler" else 1 / (1 - np.exp(-0.5)))
    mixed = from_nir(graph, dt=DT, conventions=c, surrogate="rectangular", step=step)
    assert_follows_nir(graph, mixed, reset, step=step)


IF_REFUSALS = {
    "gain": ({"r": 2 / DT}, {}, ["IF 'n1'", "r dt = 1", "here r dt = 2.0"]),
    "no input": ({}, {"input_scale": "1 - tau"}, ["IF 'n1'", "decay is 1", "'1' is needed"]),
    "threshold below reset": ({"v_reset": 1.5}, {}, ["IF 'n1'", "v_threshold 1.0"]),
}


@pytest.mark.parametrize("case", IF_REFUSALS.values(), ids=IF_REFUSALS)
def test_an_if_that_the_engine_cannot_express_is_refused(case):
    changes, fields, texts = case
    built(chain(nir.Linear(np.eye(3)), integrate((3,)), shape=(3,)))
    graph = chain(nir.Linear(np.eye(3)), integrate((3,), **changes), shape=(3,))
    helpers.assert_refused(lambda: built(graph, replace(HARD, **fields)), *texts)


def test_the_step_is_asked_for_where_the_graph_is_a_network_with_either():
    said = {"dt": DT, "surrogate": "rectangular"}
    decays = {"euler": 0.5, "exponential": 0.6065306597126334}  # dt / tau = 1/2; exp(-1/2)
    for step, decay in decays.items():
        either, own = graph_with(tau=np.full(3, 2 * DT), r=np.ones(3)), graph_with(tau=np.full(3, 2 * DT))
        helpers.assert_refused(
            lambda graph=either: from_nir(graph, conventions=NORSE, **said), "step", "None", "sinabs"
        )
        net = from_nir(either, conventions=NORSE, step=step, **said)
        assert next(net.blocks())[1].neuron.decay(NORSE) == pytest.approx(decay, rel=1e-15)
        own.nodes["n1"].r = np.full(3, 1 / (1 - decay))  # the gain is 1 with this step alone; Euler's needs no word
        if step == "exponential":
            helpers.assert_refused(lambda graph=own: from_nir(graph, conventions=HARD, **said), "step", "None")
        net = from_nir(own, conventions=HARD, step=None if step == "euler" else step, **said)
        assert next(net.blocks())[1].neuron.decay(HARD) == pytest.approx(decay, rel=1e-15)
        other = next(name for name in decays if name != step)
        helpers.assert_refused(
            lambda graph=own, other=other: from_nir(graph, conventions=HARD, step=other, **said), "'n1'", "= 1, here r"
        )
    alone = chain(nir.Linear(np.eye(3)), shape=(3,))
    from_nir(alone, conventions=HARD, **said)
    helpers.assert_refused(lambda: from_nir(alone, conventions=HARD, step="exact", **said), "step", "'exact'")


def test_a_step_longer_than_tau_has_no_euler_step_but_an_exponential_one():
    graph = graph_with(tau=np.full(3, 0.5 * DT), r=np.ones(3))
    said = {"dt": DT, "conventions": NORSE, "surrogate": "rectangular"}
    net = from_nir(graph, step="exponential", **said)
    assert next(net.blocks())[1].neuron.decay(NORSE) == pytest.approx(0.1353352832366127, rel=1e-15)  # exp(-2)
    helpers.assert_refused(lambda: from_nir(graph, step="euler", **said), "'n1'", "at most tau")
    helpers.assert_refused(lambda: from_nir(graph, **said), "step", "None")  # dt may be wrong as well as the step


def test_a_leak_potential_is_a_shift():
    graph = small_graph(3, v_leak=-0.5, v_th=0.5)
    net = from_nir(graph, dt=DT, conventions=HARD, surrogate="rectangular")
    assert_follows_nir(graph, net, "hard")
    assert {block.neuron.v_th for _, block in net.blocks()} == {1.0}


def test_a_file_is_the_graph(tmp_path):
    graph = small_graph(1, nir.SumPool2d)
    graph.nodes["n3"].bias = np.array([0.1, -0.2, 0.3])  # a file cannot say that there is none
    path = tmp_path / "small.nir"
    nir.write(path, graph)
    x = np.random.default_rng(6).normal(0.5, 2.0, (4, 2, 6, 7, 2))
    nets = [from_nir(g, dt=DT, conventions=HARD, surrogate="rectangular") for g in (graph, path, str(path))]
    expected = nets[0].forward(x).logits
    assert expected.any()
    for net in nets[1:]:
        helpers.assert_same_bits(net.forward(x).logits, expected, "logits")


def test_the_decay_is_the_exporters_to_the_last_bit():
    """tau and r in float32, as snnTorch computes them of beta: from 1/2 on, the network's decay is that beta exactly."""
    for beta in np.float32([0.9, 0.99, 0.5, 0.7, 2 / 3, 0.35, 0.01]):
        tau = np.full(3, np.float32(1e-4) / (1 - beta))
        node = nir.LIF(tau, tau / np.float32(1e-4), np.zeros(3, np.float32), np.ones(3, np.float32))
        graph = chain(nir.Linear(np.eye(3, dtype=np.float32)), node, shape=(3,))
        net = from_nir(graph, dt=1e-4, conventions=agl.PRESETS["snntorch"], surrogate="arctan")
        off = abs(next(net.blocks())[1].neuron.decay(net.conventions) - float(beta))
        assert off == 0 if beta >= 0.5 else off <= np.finfo(np.float32).eps


def test_sum_pool_is_four_means_forward_and_backward():
    x = np.random.default_rng(7).normal(size=(2, 3, 5, 6, 2))
    y, cache = agl.SumPool().forward(x, None)
    helpers.assert_close(y, x[:, :, :4].reshape(2, 3, 2, 2, 3, 2, 2).sum(axis=(3, 5)), 1e-15)
    dy = np.random.default_rng(8).normal(size=y.shape)
    dx, _ = agl.SumPool().backward(dy, cache)
    expected = np.zeros_like(x)
    expected[:, :, :4] = dy.repeat(2, axis=2).repeat(2, axis=3)
    helpers.assert_equal(dx, expected)


@pytest.mark.parametrize("kind", [nir.AvgPool2d, nir.SumPool2d])
def test_relaxed_gradients_are_central_differences(kind):
    """Through pools, flatten and the identity readout, in NIR's layout."""
    net = from_nir(small_graph(2, kind, end=False), dt=DT, conventions=HARD, surrogate="gaussian")
    x = np.random.default_rng(9).normal(0.5, 2.0, (3, 2, 6, 7, 2))
    trace = net.forward(x, relaxed=True)
    dlogits = np.random.default_rng(10).normal(size=trace.logits.shape)
    grads = net.backward(trace, dlogits)

    def loss():
        return float((net.forward(x, relaxed=True).logits * dlogits).sum())

    for name in ("n0.bias", "n6.bias", "n3.weight", "n6.weight"):
        expected = helpers.central_difference(loss, net.parameters()[name], 1e-6)
        helpers.assert_close(grads[name], expected, 1e-7, name=name)


@pytest.mark.parametrize("kind", [nir.AvgPool2d, nir.SumPool2d])
def test_the_oracle_judges_such_a_network(kind):
    net = from_nir(small_graph(2, kind), dt=DT, conventions=HARD, surrogate="rectangular")
    x, labels = np.random.default_rng(9).normal(0.5, 2.0, (4, 3, 6, 7, 2)), np.array([0, 3, 1])
    ref = agl.oracle.reference(net, x, labels)
    arrays = {name: array for name, array in ref.arrays.items() if name.startswith("grad_")}
    assert agl.oracle.compare(ref, arrays, dtype="float64").verdict == "PASS"
    wrong = {**arrays, "grad_n3.weight": arrays["grad_n3.weight"] * (1 + 1e-6)}
    assert agl.oracle.compare(ref, wrong, dtype="float64").verdict == "FAIL"


# --- refusals -------------------------------------------------------------------------------------


def built(graph, conventions=HARD, dt=DT, dtype=np.float64):
    return from_nir(graph, dt=dt, conventions=conventions, surrogate="rectangular", dtype=dtype)


def test_nothing_that_nir_leaves_open_has_a_default():
    graph = small_graph()
    said = {"dt": DT, "conventions": HARD, "surrogate": "rectangular"}
    for missing in said:
        with pytest.raises(TypeError, match=missing):
            from_nir(graph, **{key: value for key, value in said.items() if key != missing})
    helpers.assert_refused(lambda: built(graph, dt=0.0), "dt")
    helpers.assert_refused(lambda: from_nir(graph, dt=DT, conventions=HARD, surrogate="box"), "surrogate", "'box'")
    with pytest.raises(TypeError, match="conventions"):
        from_nir(graph, dt=DT, conventions="hard", surrogate="rectangular")


def rng():
    return np.random.default_rng(0)


def graph_with(**changes):
    """Linear, LIF, Linear over 3 features with LIF's parameters changed."""
    node = lif((3,))
    for key, value in changes.items():
        setattr(node, key, value)
    return chain(nir.Linear(np.eye(3)), node, nir.Linear(np.eye(3)), shape=(3,))


LIF_REFUSALS = {
    "tau differs": ({"tau": np.array([1e-3, 2e-3, 1e-3])}, {}, ["'n1'", "2 values of tau"]),
    "threshold differs": ({"v_threshold": np.array([1.0, 2.0, 3.0])}, {}, ["'n1'", "3 values of v_threshold"]),
    "nan": ({"r": np.full(3, np.nan)}, {}, ["'n1'", "values of r"]),
    "dt above tau": ({"tau": np.full(3, 5e-4)}, {}, ["'n1'", "tau 0.0005", "dt 0.001"]),
    "gain": ({"r": np.full(3, 2.0)}, {}, ["'n1'", "r dt / tau = 0.5", "input_scale '1'"]),
    "r": ({}, {"input_scale": "1 - tau"}, ["'n1'", "r = 1", "input_scale '1 - tau'"]),
    "threshold below leak": ({"v_leak": np.full(3, 1.5), "v_reset": np.full(3, 1.5)}, {}, ["'n1'", "above v_leak 1.5"]),
    "hard reset elsewhere": ({"v_reset": np.full(3, -0.5)}, {}, ["'n1'", "v_reset -0.5", "v_leak"]),
    "soft with leak": ({"v_leak": np.full(3, -0.5)}, {"reset": "soft"}, ["'n1'", "v_leak -0.5", "soft"]),
    "soft late with leak": ({"v_leak": np.full(3, -0.5)}, {"reset": "soft late"}, ["'n1'", "v_leak -0.5", "soft"]),
}


@pytest.mark.parametrize("case", LIF_REFUSALS.values(), ids=LIF_REFUSALS)
def test_a_neuron_that_the_engine_cannot_express_is_refused(case):
    changes, fields, texts = case
    built(graph_with())
    helpers.assert_refused(lambda: built(graph_with(**changes), replace(HARD, **fields)), *texts)


def test_a_reset_potential_does_not_matter_to_a_soft_reset():
    built(graph_with(v_reset=np.full(3, -0.5)), replace(HARD, reset="soft"))


LINEAR3, LIF3 = nir.Linear(np.eye(3)), lif((3,))
CHAINS = {
    "other types": ([LINEAR3, nir.Threshold(np.ones(3)), LINEAR3], ["'n1' of type Threshold"]),
    "no synapse": ([LIF3, LINEAR3], ["LIF 'n0'", "behind a node of type Input"]),
    "two neurons": ([LINEAR3, LIF3, lif((3,)), LINEAR3], ["LIF 'n2'", "type LIF"]),
    "two synapses": ([LINEAR3, nir.Linear(np.eye(3)), LIF3], ["Linear 'n0'", "followed by a node of type Linear"]),
    "flatten at the end": ([LINEAR3, LIF3, nir.Flatten({"input": np.array([3])}, 0, -1)], ["an end with Flatten 'n2'"]),
}  # fmt: skip


@pytest.mark.parametrize("case", CHAINS.values(), ids=CHAINS)
def test_a_chain_that_is_none_of_blocks_is_refused(case):
    nodes, texts = case
    helpers.assert_refused(lambda: built(chain(*nodes, shape=(3,), check=False)), *texts)


TAIL = [nir.Flatten(None, 0, -1), nir.Linear(np.ones((2, 84)))]
IMAGES = {
    "even kernel": (lambda: [conv(rng(), 2, 3, size=2), lif((3, 7, 8))], ["Conv2d 'n0'", "kernel of (2, 2)"]),
    "groups": (lambda: [conv(rng(), 1, 2, groups=2), lif((2, 6, 7))], ["Conv2d 'n0'", "groups 2"]),
    "dilation": (lambda: [conv(rng(), 2, 2, dilation=2), lif((2, 4, 5))], ["Conv2d 'n0'", "dilation (2, 2)"]),
    "stride": (lambda: [conv(rng(), 2, 2, stride=(1, 2)), lif((2, 6, 4))], ["Conv2d 'n0'", "stride (1, 2)"]),
    "padding": (lambda: [conv(rng(), 2, 2, padding=(0, 1)), lif((2, 4, 7))], ["Conv2d 'n0'", "padding (0, 1)"]),
    "pool": (
        lambda: [
            conv(rng(), 2, 2),
            lif((2, 6, 7)),
            nir.AvgPool2d(np.array([3, 3]), np.array([2, 2]), np.array([0, 0])),
        ],
        ["AvgPool2d 'n2'", "[3, 3]"],
    ),
    "partial flatten": (
        lambda: [conv(rng(), 2, 2), lif((2, 6, 7)), nir.Flatten({"input": np.array([2, 6, 7])}, 1, -1)],
        ["Flatten 'n2' from 1 to -1"],
    ),
    "an image at the end": (lambda: [conv(rng(), 2, 2), lif((2, 6, 7))], ["output of shape (F,)", "Flatten"]),
    "a convolution at the end": (lambda: [conv(rng(), 2, 2)], ["Conv2d 'n0'", "followed by a node of type Output"]),
    "features": (lambda: [affine(rng(), 84, 3), lif((3,))], ["'n0'", "(84,)"]),
    "shape of the neurons": (
        lambda: [conv(rng(), 2, 2), lif((2, 7, 6)), *TAIL],
        ["'n1'", "(2, 6, 7)"],
    ),
}


@pytest.mark.parametrize("case", IMAGES.values(), ids=IMAGES)
def test_layers_of_images_that_the_engine_cannot_express_are_refused(case):
    nodes, texts = case
    helpers.assert_refused(lambda: built(chain(*nodes(), check=False)), *texts)


@pytest.mark.parametrize(("padding", "number"), [("valid", 0), ("same", 1), (2, 2)])
def test_paddings(padding, number):
    graph = chain(conv(rng(), 2, 3, padding=padding), lif(()), nir.Flatten(None, 0, -1), check=False)
    graph = chain(
        *[graph.nodes[f"n{i}"] for i in range(3)],
        nir.Linear(np.ones((2, 3 * (4 + 2 * number) * (5 + 2 * number)))),
        check=False,
    )
    assert built(graph).layers[0].synapse.padding == number


def test_every_problem_is_listed():
    graph = graph_with(tau=np.array([1e-3, 2e-3, 1e-3]))
    graph.nodes["n2"].weight = np.full((3, 3), np.inf)
    helpers.assert_refused(lambda: built(graph), "'n1'", "2 values of tau", "'n2'", "not finite")


def wired(edges):
    nodes = {"input": nir.Input({"input": np.array([3])}), "a": nir.Linear(np.eye(3)), "b": lif((3,))}
    nodes |= {"c": nir.Linear(np.eye(3)), "output": nir.Output({"output": np.array([3])})}
    return nir.NIRGraph(nodes, edges, type_check=False)


IN, AB, BC, OUT = ("input", "a"), ("a", "b"), ("b", "c"), ("c", "output")


@pytest.mark.parametrize(
    ("edges", "texts"),
    [
        (
            [IN, AB, BC, OUT, ("c", "b")],
            ["a branch from 'c'", "2 edges into 'b'", "a loop through 'b', 'c'"],
        ),
        ([IN, AB, BC, ("c", "a")], ["2 edges into 'a'", "a loop through 'a', 'b', 'c'"]),
        ([IN, AB, ("b", "input")], ["a loop through 'a', 'b', 'input'"]),
        ([IN, AB, ("b", "output")], ["'c' that the input does not reach"]),
        ([IN, AB, BC, OUT, ("b", "x")], ["'x', which is no node"]),
        ([IN, AB, BC], ["an end at 'c'", "'output' that the input does not reach"]),
    ],
)
def test_a_graph_that_is_no_chain_is_refused(edges, texts):
    built(wired([IN, AB, BC, OUT]))
    helpers.assert_refused(lambda: built(wired(edges)), *texts)


def test_inputs_and_outputs_are_one_each():
    graph = graph_with()
    graph.nodes["more"] = nir.Output({"output": np.array([3])})
    helpers.assert_refused(lambda: built(graph), "2 Output nodes")
    del graph.nodes["more"], graph.nodes["input"]
    helpers.assert_refused(lambda: built(graph), "0 Input nodes")
    helpers.assert_refused(lambda: built(chain(LINEAR3, LIF3, shape=(3, 3), check=False)), "'input' whose shape")


def test_weights_are_widened_and_never_rounded():
    net = built(small_graph(4, dtype=np.float32), dtype=np.float64)
    assert net.dtype == np.float64
    helpers.assert_refused(
        lambda: built(small_graph(4), dtype=np.float32), "'n0'", "weight of float64", "rounded to float32"
    )


def test_what_is_no_graph_is_refused(tmp_path):
    with pytest.raises(TypeError, match="nir.NIRGraph or a path"):
        built(3)
    path = tmp_path / "none.nir"
    helpers.assert_refused(lambda: built(path), "none.nir", "nothing there")
    path.write_bytes(b"no graph")
    helpers.assert_refused(lambda: built(path), "none.nir", "NIR file")


def test_without_the_package_a_path_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nir", None)
    with pytest.raises(ImportError, match="pip install nir"):
        built("some.nir")


# --- hostile files --------------------------------------------------------------------------------------------------------


def written(path, change=None):
    h5py = pytest.importorskip("h5py")
    graph = small_graph()
    graph.nodes["n3"].bias = np.zeros(3)  # a file cannot say that there is none
    nir.write(path, graph)
    if change is not None:
        with h5py.File(path, "a") as file:
            change(file["node"]["nodes"])
    return path


def external_storage(nodes):
    del nodes["n0"]["bias"]
    nodes["n0"].create_dataset("bias", (4,), "f8", external=[("/etc/hostname", 0, 32)])


def external_link(nodes):
    import h5py

    nodes["more"] = h5py.ExternalLink("/tmp/other.h5", "/")


def soft_link(nodes):
    import h5py

    nodes["more"] = h5py.SoftLink("/node")


def loop(nodes):
    nodes["n0"]["again"] = nodes


def huge(nodes):
    del nodes["n0"]["weight"]
    nodes["n0"].create_dataset("weight", (10**5, 10**5), "f8", compression="gzip")


@pytest.mark.parametrize("change", [external_storage, external_link, soft_link, loop, huge])
def test_a_file_that_reaches_elsewhere_loops_or_claims_too_much_is_refused(tmp_path, change):
    path = written(tmp_path / "graph.nir", change)
    with pytest.raises(ValueError, match="another file|link to elsewhere|deep|bytes, more than"):
        from_nir(path, dt=DT, conventions=HARD, surrogate="rectangular")


def test_a_damaged_file_is_a_network_or_one_valueerror(tmp_path, monkeypatch):
    monkeypatch.setattr(nir_file, "_tried_elsewhere", lambda content: "")  # for speed
    path, rng = written(tmp_path / "graph.nir"), np.random.default_rng(0)
    whole, refused = path.read_bytes(), 0
    for i in range(100):
        content = bytearray(whole)
        content[rng.integers(96)] ^= 1 << rng.integers(8)  # HDF5's superblock; behind it the library can hang
        path.write_bytes(content if i % 2 else whole[: rng.integers(len(whole))])
        try:
            from_nir(path, dt=DT, conventions=HARD, surrogate="rectangular")
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 60


@pytest.mark.parametrize("does, words", [
    ("exec sleep 60", "reads for more than 0 s"), ("kill -SEGV $$", "ended the HDF5 library"),
    ("printf no; exit 1", "no; write"),
])  # fmt: skip
def test_a_file_that_hangs_or_crashes_the_hdf5_library_is_refused(does, words, tmp_path, monkeypatch):
    """Files that do are those of one version of the library alone; a shell stands in for the process that reads them."""
    path, other = written(tmp_path / "graph.nir"), tmp_path / "python"
    other.write_text(f"#!/bin/sh\n{does}\n")
    other.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(other))
    monkeypatch.setattr(nir_file, "SECONDS", 0.3)
    with pytest.raises(ValueError, match=f"graph.nir: expected a NIR file, received: .*{words}"):
        from_nir(path, dt=DT, conventions=HARD, surrogate="rectangular")
