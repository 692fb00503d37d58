"""Networks that other frameworks export as NIR: agl_ref's network of the graph against the framework's own.

Each framework computes forward and backward of the network that it exported; spikes of every layer and gradients of every
weight and bias are compared. Its spikes' derivative is one of the project's; float64 spikes, where theirs are float32.
"""

import warnings
from dataclasses import replace

import helpers_frameworks as frameworks
import numpy as np
import pytest

torch = pytest.importorskip("torch")
nir = pytest.importorskip("nir")

import torch_twin as twin  # noqa: E402

import agl_ref as agl  # noqa: E402
from agl_ref.interop import from_nir, grads_to_torch, to_layout  # noqa: E402

# Both exporters call an older function of nirtorch's.
pytestmark = pytest.mark.filterwarnings("ignore:nirtorch.extract_nir_graph is being deprecated:DeprecationWarning")

T, N, KAPPA = 6, 3, 0.8
ROUNDING = 1e-13


def spike(z, *_):
    rule = {**twin.DEFAULTS, "spike_test": ">"}
    return twin.Spike.apply(z, torch.tensor(KAPPA, dtype=z.dtype), 0.0, "rectangular", rule)


def batch(shape, seed, dtype=torch.float64):
    rng = np.random.default_rng(seed)
    return torch.tensor(rng.normal(0.4, 1.5, (T, N, *shape)), dtype=dtype)


def assert_same(net, x, out, spikes, module, dlogits, tolerance=ROUNDING):
    """`spikes` {LIF's position: (T, N, ...)}, in the order of the blocks; gradients are those in `module`."""
    images = np.ascontiguousarray(np.moveaxis(x.numpy(), 2, -1))
    trace = net.forward(images)
    assert len(trace.names()) == len(spikes)
    for (name, cache), theirs in zip(trace.items(), spikes.values(), strict=True):
        own = to_layout(cache.s, "TNC..")
        assert np.array_equal(own, theirs), f"{name}: {(own != theirs).sum()} of {own.size} spikes differ"
        block = dict(net.blocks())[name]
        layer = frameworks.Layer(cache.s, cache.u, None, 0.0)
        if tolerance == ROUNDING:
            frameworks.assert_is_telling(layer, block.neuron.v_th, cache.width[0])
        assert cache.s.any() and not cache.s.all()
    frameworks.assert_agrees(trace.logits, out, tolerance, "logits")
    grads = grads_to_torch(net, net.backward(trace, dlogits), names="native")
    grads = {name.removeprefix("_"): grad for name, grad in grads.items()}  # nirtorch's newer exports call layer 0 "_0"
    compared = 0
    for name, parameter in module.named_parameters():
        if name in grads:
            frameworks.assert_agrees(grads[name], parameter.grad.numpy(), tolerance, name)
            compared += 1
    return compared


# --- snnTorch -----------------------------------------------------------------------------------------------------------


def snntorch_net(mechanism, beta, end, dtype=torch.float64, spike_grad=spike):
    """Convolutions, pool, linear maps and Leaky neurons, whose beta and threshold have the layer's shape, as nir wants."""
    snn = pytest.importorskip("snntorch")

    def leaky(*shape, **more):
        full = torch.ones(shape, dtype=dtype)
        own = None if spike_grad is None else spike_grad
        return snn.Leaky(beta * full, 0.9 * full, own, init_hidden=True, reset_mechanism=mechanism, **more)

    torch.manual_seed(1)
    layers = [
        torch.nn.Conv2d(2, 4, 3, padding=1),
        leaky(4, 6, 7),
        torch.nn.AvgPool2d(2),
        torch.nn.Conv2d(4, 5, 3, padding=1, stride=2, bias=False),
        leaky(5, 2, 2),
        torch.nn.Flatten(),
        torch.nn.Linear(20, 12),
        leaky(12),
    ]
    if end:
        layers.append(torch.nn.Linear(12, 4, bias=False))
    net = torch.nn.Sequential(*layers).to(dtype)
    with torch.no_grad():
        for p in net.parameters():
            p.mul_(3.0)
    return net


def run_snntorch(module, x, dlogits):
    """(outputs, {position of each Leaky: spikes}); gradients are left in the module."""
    utils = pytest.importorskip("snntorch.utils")
    leaky = [i for i, layer in enumerate(module) if type(layer).__name__ == "Leaky"]
    utils.reset(module)
    out, spikes = [], {i: [] for i in leaky}
    for y in x:
        for i, layer in enumerate(module):
            y = layer(y)
            if i in spikes:
                spikes[i].append(y)
        out.append(y)
    out = torch.stack(out)
    (out * torch.tensor(dlogits)).sum().backward()
    return out.detach().numpy(), {i: torch.stack(s).detach().numpy() for i, s in spikes.items()}


def export_snntorch(module, dtype=torch.float64):
    export = pytest.importorskip("snntorch.export_nir")
    utils = pytest.importorskip("snntorch.utils")
    utils.reset(module)
    return export.export_to_nir(module, torch.zeros(1, 2, 6, 7, dtype=dtype), ignore_dims=[0])


PRESETS = {"subtract": "snntorch", "zero": "snntorch-zero", "none": "snntorch-none"}


@pytest.mark.parametrize("end", [True, False])
@pytest.mark.parametrize("beta", [0.5, 0.85])
@pytest.mark.parametrize("mechanism", PRESETS)
def test_an_export_of_snntorch_is_its_network(mechanism, beta, end):
    module = snntorch_net(mechanism, beta, end)
    graph = export_snntorch(module)
    c = replace(agl.PRESETS[PRESETS[mechanism]], fixed_width=KAPPA)
    net = from_nir(graph, dt=1e-4, conventions=c, surrogate="rectangular")
    x, dlogits = batch((2, 6, 7), 3), np.random.default_rng(4).normal(size=(T, N, 4 if end else 12))
    out, spikes = run_snntorch(module, x, dlogits)
    assert assert_same(net, x, out, spikes, module, dlogits) == (6 if end else 5)


def test_the_graph_does_not_say_the_reset():
    """The three mechanisms export the same graph, and are three networks."""
    graphs = [export_snntorch(snntorch_net(mechanism, 0.85, True)) for mechanism in PRESETS]
    x = np.moveaxis(batch((2, 6, 7), 3).numpy(), 2, -1)
    logits = []
    for preset in PRESETS.values():
        one, *others = (
            from_nir(g, dt=1e-4, conventions=agl.PRESETS[preset], surrogate="arctan").forward(x).logits for g in graphs
        )
        assert all(np.array_equal(one, other) for other in others)
        logits.append(one)
    assert not any(np.array_equal(logits[a], logits[b]) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_an_export_in_float32_with_snntorchs_own_surrogate(tmp_path):
    """The whole way as a user goes it: default surrogate, a file between the two."""
    module = snntorch_net("subtract", 0.85, True, torch.float32, None)
    path = tmp_path / "net.nir"
    nir.write(path, export_snntorch(module, torch.float32))
    x, dlogits = batch((2, 6, 7), 5, torch.float32), np.random.default_rng(6).normal(size=(T, N, 4)).astype(np.float32)
    out, spikes = run_snntorch(module, x, dlogits)
    net = from_nir(path, dt=1e-4, conventions=agl.PRESETS["snntorch"], surrogate="arctan", dtype=np.float32)
    assert {block.neuron.decay(net.conventions) for _, block in net.blocks()} == {float(np.float32(0.85))}
    assert assert_same(net, x, out, spikes, module, dlogits, tolerance=2e-5) == 6


# --- SpikingJelly -------------------------------------------------------------------------------------------------------


class Window(torch.nn.Module):
    """The project's rectangular surrogate, with the test u >= V_th, as a SpikingJelly surrogate function."""

    spiking = True

    def forward(self, z):
        return twin.Spike.apply(z, torch.tensor(KAPPA, dtype=z.dtype), 0.0, "rectangular", twin.DEFAULTS)


@pytest.mark.parametrize("v_reset", [0.0, -0.5])
@pytest.mark.parametrize("decay_input", [True, False, None], ids=["LIF scaled", "LIF", "IF"])
def test_an_export_of_spikingjelly_is_its_network(decay_input, v_reset):
    sj = pytest.importorskip("spikingjelly.activation_based")
    exchange = pytest.importorskip("spikingjelly.activation_based.nir_exchange")

    def lif(tau):
        if decay_input is None:
            return sj.neuron.IFNode(0.6, v_reset, Window(), step_mode="m")
        return sj.neuron.LIFNode(tau, decay_input, 0.6, v_reset, Window(), step_mode="m")

    torch.manual_seed(3)
    conv = sj.layer.Conv2d(2, 4, 3, padding=1, step_mode="m")
    flatten, fc = sj.layer.Flatten(step_mode="m"), sj.layer.Linear(48, 5, step_mode="m")
    pool = sj.layer.AvgPool2d(2, 2, step_mode="m")
    module = torch.nn.Sequential(
        conv, lif(2.5), pool, flatten, fc, lif(4.0), sj.layer.Linear(5, 3, step_mode="m")
    ).double()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(9.0 if decay_input else 4.0)
    x, dlogits = batch((2, 6, 8), 9), np.random.default_rng(10).normal(size=(T, N, 3))
    graph = exchange.export_to_nir(module, x, dt=1e-3)
    sj.functional.reset_net(module)
    y, spikes = x, {}
    for i, layer in enumerate(module):
        y = layer(y)
        if i in (1, 5):
            spikes[i] = y.detach().numpy()
    (y * torch.tensor(dlogits)).sum().backward()
    c = replace(agl.PRESETS["spikingjelly" if decay_input else "spikingjelly-no-decay-input"], fixed_width=KAPPA)
    net = from_nir(graph, dt=1e-3, conventions=c, surrogate="rectangular", step="euler")
    assert assert_same(net, x, y.detach().numpy(), spikes, module, dlogits) == 6
    assert (next(net.blocks())[1].neuron.decay(c) == 1) == (decay_input is None)


# --- Norse --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def norse(monkeypatch):
    """Norse with the project's surrogate in the place of its threshold function."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script
        found = pytest.importorskip("norse.torch")
        import norse.torch.functional.lif_box as box
        import norse.torch.utils.export_nir  # noqa: F401
    monkeypatch.setattr(box, "threshold", spike)
    return found


def norse_net(norse, dt, tau_mem_inv, v_leak=0.0):
    """A network of three linear maps, and its graph."""

    def cell(*shape):
        full = torch.ones(shape, dtype=torch.float64)
        p = norse.LIFBoxParameters(tau_mem_inv * full, v_leak * full, 0.5 * full, v_leak * full)
        return norse.LIFBoxCell(p, dt=dt)

    torch.manual_seed(2)
    module = torch.nn.Sequential(
        torch.nn.Linear(7, 20), cell(20), torch.nn.Linear(20, 9), cell(9), torch.nn.Linear(9, 3)
    )
    module = module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.mul_(4.0)
    sequential = norse.SequentialState(*module)
    return module, norse.utils.export_nir.to_nir(sequential, torch.zeros(7, dtype=torch.float64), dt=dt)


def test_an_export_of_norse_is_its_network(norse):
    dt, tau_mem_inv = 0.002, 175.0
    module, graph = norse_net(norse, dt, tau_mem_inv)
    x, dlogits = batch((7,), 7), np.random.default_rng(8).normal(size=(T, N, 3))
    states, out, spikes = {1: None, 3: None}, [], {1: [], 3: []}
    for y in x:
        for i, layer in enumerate(module):
            if i in states:
                y, states[i] = layer(y, states[i])
                spikes[i].append(y)
            else:
                y = layer(y)
        out.append(y)
    out = torch.stack(out)
    (out * torch.tensor(dlogits)).sum().backward()
    c = replace(agl.PRESETS["norse"], fixed_width=KAPPA)
    # Norse writes dt / tau_mem_inv for the time constant 1 / tau_mem_inv, so that its dt counts twice
    net = from_nir(graph, dt=dt * dt, conventions=c, surrogate="rectangular", step="euler")
    assert next(net.blocks())[1].neuron.decay(c) == pytest.approx(1 - dt * tau_mem_inv, rel=1e-14)
    spikes = {i: torch.stack(s).detach().numpy() for i, s in spikes.items()}
    assert assert_same(net, x, out.detach().numpy(), spikes, module, dlogits) == 6


def test_an_export_of_norse_loses_the_reset_potential(norse):
    """It writes v_leak but not v_reset, which nir then takes for 0: another neuron, and refused."""
    _, graph = norse_net(norse, 0.002, 175.0, v_leak=-0.25)
    assert (graph.nodes["1"].v_reset == 0).all() and (graph.nodes["1"].v_leak == -0.25).all()
    with pytest.raises(ValueError, match="v_reset 0.0: a hard reset goes to v_leak, which is -0.25"):
        from_nir(graph, dt=4e-6, conventions=agl.PRESETS["norse"], surrogate="arctan")


# --- sinabs -------------------------------------------------------------------------------------------------------------


def sinabs_net(reset, dtype, leak=True, **more):
    """A network of three linear maps, sinabs' own neurons but for the spikes' dtype, and its graph."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("sinabs")
        from sinabs import activation, layers
        from sinabs.nir import to_nir

    class Spike(activation.SingleSpike):
        """sinabs' returns float32, which stops a float64 network at the next layer."""

        @staticmethod
        def forward(ctx, v_mem, threshold, surrogate):
            return activation.SingleSpike.forward(ctx, v_mem, threshold, surrogate).to(v_mem.dtype)

    def neuron(size, tau):
        full = torch.ones(size, dtype=dtype)
        reset_fn = activation.MembraneSubtract() if reset == "soft" else activation.MembraneReset()
        surrogate = activation.Gaussian(sigma=KAPPA / np.sqrt(2 * np.pi))  # with a float32 pi
        if dtype == torch.float64:
            surrogate = lambda v, v_th: ((v - v_th).abs() < KAPPA / 2) / KAPPA  # noqa: E731
        options = {
            "spike_threshold": 0.6 * full,
            "spike_fn": Spike,
            "reset_fn": reset_fn,
            "surrogate_grad_fn": surrogate,
        }
        return layers.LIF(tau * full, **options, **more) if leak else layers.IAF(**options)

    torch.manual_seed(4)
    linear = torch.nn.Linear
    module = torch.nn.Sequential(linear(7, 20), neuron(20, 2.5), linear(20, 9), neuron(9, 8.0), linear(9, 3)).to(dtype)
    with torch.no_grad():
        for name, p in module.named_parameters():
            if name.endswith(("weight", "bias")):
                p.mul_(6.0)
    graph = to_nir(module, torch.zeros(1, 1, 7, dtype=dtype))
    assert list(graph.nodes["input"].input_type["input"]) == [1, 7]  # with the time axis, which NIR leaves out
    graph.nodes["input"].input_type["input"] = np.array([7])
    for layer in module:
        if isinstance(layer, (layers.LIF, layers.IAF)):
            layer.reset_states()
    return module, graph


def run_sinabs(module, x, dlogits):
    y, spikes = x.transpose(0, 1), {}  # sinabs puts time behind the batch
    for i, layer in enumerate(module):
        y = layer(y)
        if i in (1, 3):
            spikes[i] = y.detach().transpose(0, 1).numpy()
    (y.transpose(0, 1) * torch.tensor(dlogits)).sum().backward()
    return y.detach().transpose(0, 1).numpy(), spikes


SINABS = {"soft": {"reset": "soft"}, "hard": {"reset_gradient": "detached"}}


@pytest.mark.parametrize("reset", SINABS)
def test_an_export_of_sinabs_is_its_network_with_the_exponential_step(reset):
    module, graph = sinabs_net(reset, torch.float64)
    x, dlogits = batch((7,), 11), np.random.default_rng(12).normal(size=(T, N, 3))
    out, spikes = run_sinabs(module, x, dlogits)
    c = replace(agl.PRESETS["spikingjelly"], fixed_width=KAPPA, **SINABS[reset])
    said = {"dt": 1.0, "conventions": c, "surrogate": "rectangular"}
    net = from_nir(graph, step="exponential", **said)
    assert next(net.blocks())[1].neuron.decay(c) == pytest.approx(np.exp(-1 / 2.5), rel=1e-15)
    assert assert_same(net, x, out, spikes, module, dlogits) == 6
    with pytest.raises(ValueError, match="step: expected 'euler'"):
        from_nir(graph, **said)
    euler = from_nir(graph, step="euler", **said).forward(x.numpy())
    assert any((cache.s != own).any() for (_, cache), own in zip(euler.items(), spikes.values(), strict=True))


@pytest.mark.parametrize("reset", SINABS)
def test_an_export_of_sinabs_without_a_leak_is_its_network(reset):
    module, graph = sinabs_net(reset, torch.float64, leak=False)
    x, dlogits = batch((7,), 17), np.random.default_rng(18).normal(size=(T, N, 3))
    out, spikes = run_sinabs(module, x, dlogits)
    c = replace(agl.PRESETS["spikingjelly-no-decay-input"], fixed_width=KAPPA, **SINABS[reset])
    net = from_nir(graph, dt=1.0, conventions=c, surrogate="rectangular")
    assert next(net.blocks())[1].neuron.decay(c) == 1
    assert assert_same(net, x, out, spikes, module, dlogits) == 6


def test_an_export_of_sinabs_in_float32():
    module, graph = sinabs_net("soft", torch.float32)
    x, dlogits = batch((7,), 13, torch.float32), np.random.default_rng(14).normal(size=(T, N, 3)).astype(np.float32)
    out, spikes = run_sinabs(module, x, dlogits)
    c = replace(agl.PRESETS["spikingjelly"], fixed_width=KAPPA, reset="soft")
    net = from_nir(graph, dt=1.0, conventions=c, surrogate="gaussian", step="exponential", dtype=np.float32)
    assert assert_same(net, x, out, spikes, module, dlogits, tolerance=2e-5) == 6


def test_an_export_of_sinabs_loses_norm_input():
    """Both write r = 1; without norm_input the gain is 1, and r has to be put right by hand."""
    (_, one), (module, graph) = (sinabs_net("soft", torch.float64, norm_input=flag) for flag in (True, False))
    assert all((one.nodes[i].r == graph.nodes[i].r).all() for i in ("1", "3"))
    c = replace(agl.PRESETS["spikingjelly-no-decay-input"], fixed_width=KAPPA, reset="soft")
    said = {"dt": 1.0, "conventions": c, "surrogate": "rectangular", "step": "exponential"}
    with pytest.raises(ValueError, match="input_scale '1' needs"):
        from_nir(graph, **said)
    for i in ("1", "3"):
        graph.nodes[i].r = 1 / (1 - np.exp(-1 / np.asarray(graph.nodes[i].tau)))
    x, dlogits = batch((7,), 15), np.random.default_rng(16).normal(size=(T, N, 3))
    out, spikes = run_sinabs(module, x, dlogits)
    assert assert_same(from_nir(graph, **said), x, out, spikes, module, dlogits) == 6
