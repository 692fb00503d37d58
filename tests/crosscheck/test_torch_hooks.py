"""The recorder on PyTorch networks: a dump that the oracle passes, with gradients that are the method's own."""

import math
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402

from agl_ref.oracle import compare, load_case, load_dump  # noqa: E402
from agl_ref.oracle.kernels import assert_repeatable, assert_written, poison  # noqa: E402
from agl_ref.oracle.torch_hooks import Recorder, gradient_of  # noqa: E402


class Window(torch.autograd.Function):
    """A step whose derivative is the open rectangular window."""

    @staticmethod
    def forward(ctx, u, v_th, kappa):
        ctx.save_for_backward(u)
        ctx.v_th, ctx.kappa = v_th, kappa
        return (u >= v_th).to(u.dtype)

    @staticmethod
    def backward(ctx, ds):
        (u,) = ctx.saved_tensors
        inside = ((u - ctx.v_th).abs() < ctx.kappa / 2).to(u.dtype)
        return ds * inside / ctx.kappa, None, None


class Neuron(torch.nn.Module):
    """One timestep per call, hard reset with its gradient; `recorder`, if any, taps u."""

    def __init__(self, width, v_th, decay, recorder=None, name=""):
        super().__init__()
        self.width, self.v_th, self.recorder, self.name = width, v_th, recorder, name
        self.decay = torch.nn.Parameter(torch.tensor(float(decay), dtype=torch.get_default_dtype()))
        self.begin()

    def begin(self):
        self.v, self.t = None, 0

    def forward(self, x):
        u = x if self.v is None else self.decay * self.v + x
        if self.recorder is not None:
            u = self.recorder.tap(f"{self.name}u", u)
        s = Window.apply(u, self.v_th, float(self.width[self.t]))
        self.v, self.t = u * (1 - s), self.t + 1
        return s


class Sequence(torch.nn.Module):
    """The same for a whole sequence (T, ...) in one call."""

    backend = "torch"
    step_mode = "m"

    def __init__(self, neuron):
        super().__init__()
        self.neuron = neuron

    def forward(self, x):
        self.neuron.begin()
        return torch.stack([self.neuron(xt) for xt in x])


def lif_inputs(id, dtype):
    case = load_case(id)
    return case, {name: torch.tensor(np.ascontiguousarray(a), dtype=dtype) for name, a in case.inputs.items()}


def run_per_step(id, dtype=torch.float32):
    case, a = lif_inputs(id, dtype)
    recorder = Recorder()
    neuron = Neuron(a["width"], case.meta["v_th"], case.meta["decay"], recorder).to(dtype)
    recorder.watch(neuron, "")
    x = a["x"].requires_grad_()
    with recorder:
        s = torch.stack([neuron(xt) for xt in x])
        (s * a["ds"]).sum().backward()
    recorder.gradients(neuron, {"decay": "decay"})
    return case, recorder


@pytest.mark.parametrize("id", ["lif-hard-attached", "lif-on-threshold", "lif-many-neurons", "lif-image", "lif-grid"])
def test_a_per_step_module_gives_a_dump_that_passes(id, tmp_path):
    case, recorder = run_per_step(id)
    assert {"u", "s", "grad_x", "ds", "du", "grad_decay"} <= set(recorder.arrays())
    recorder.save(tmp_path / "dump.npz", case=case.id)
    report = compare(case, load_dump(tmp_path / "dump.npz"))
    assert report.verdict == "PASS", str(report)
    assert {"u", "s", "du", "grad_x", "grad_decay"} <= set(report.checked)


def test_the_spikes_gradient_is_what_arrives_from_above():
    case, recorder = run_per_step("lif-grid")
    assert (recorder.arrays()["ds"] == case.inputs["ds"]).all()
    assert np.any(case.arrays["s"][:-1]) and np.any(case.arrays["du"][1:])  # a reset term there is, and it is not in ds


def test_a_multi_step_module_gives_the_same_arrays():
    case, a = lif_inputs("lif-hard-attached", torch.float64)
    recorder = Recorder(per_step=False)
    neuron = Sequence(Neuron(a["width"], case.meta["v_th"], case.meta["decay"]).double())
    recorder.watch(neuron, "")
    x = a["x"].requires_grad_()
    with recorder:
        (neuron(x) * a["ds"]).sum().backward()
    arrays = recorder.arrays()
    assert (arrays["s"] == case.arrays["s"]).all()
    assert (arrays["grad_x"] == case.arrays["grad_x"]).all()


class Pair(NamedTuple):
    s: torch.Tensor
    u: torch.Tensor


def as_it_is(s, u):
    return s


OUTPUTS = {
    "tensor": as_it_is,
    "list": lambda s, u: [s, u],
    "named tuple": Pair,
    "dict": lambda s, u: {"z": s, "pot": u},
}


class Wrapped(torch.nn.Module):
    """A Neuron whose output, call and memory are those of other people's modules."""

    def __init__(self, neuron, outputs):
        super().__init__()
        self.neuron, self.outputs = neuron, outputs

    def forward(self, current, scale=1.0):
        s = self.neuron(current * scale)
        return self.outputs(s, self.neuron.v)


@pytest.mark.parametrize("checkpointed", [False, True])
@pytest.mark.parametrize("keyword", [False, True])
@pytest.mark.parametrize("outputs", OUTPUTS)
def test_modules_are_called_as_people_call_them(outputs, keyword, checkpointed):
    case, a = lif_inputs("lif-hard-attached", torch.float64)
    neuron = Neuron(a["width"], case.meta["v_th"], case.meta["decay"]).double()
    module, recorder = Wrapped(neuron, OUTPUTS[outputs]), Recorder()
    recorder.watch(module, "", outputs=("s",) if outputs == "tensor" else ("s", None))

    def sequence(x):
        neuron.begin()
        results = [module(current=xt) if keyword else module(xt) for xt in x]
        kind = {type(result) for result in results}
        assert kind == {type(OUTPUTS[outputs](torch.zeros(()), torch.zeros(())))}
        return torch.stack([r if outputs == "tensor" else r["z"] if outputs == "dict" else r[0] for r in results])

    x = a["x"].requires_grad_()
    with recorder:
        s = checkpoint(sequence, x, use_reentrant=False) if checkpointed else sequence(x)
        (s * a["ds"]).sum().backward()
    arrays = recorder.arrays()
    for name in ("s", "grad_x"):
        assert (arrays[name] == case.arrays[name]).all(), name
    assert (arrays["ds"] == case.inputs["ds"]).all()


def test_a_checkpoint_that_hides_its_gradients_is_refused():
    case, a = lif_inputs("lif-hard-attached", torch.float64)
    neuron, recorder = Neuron(a["width"], case.meta["v_th"], case.meta["decay"]).double(), Recorder()
    recorder.watch(neuron, "")

    def sequence(x):
        neuron.begin()
        return torch.stack([neuron(xt) for xt in x])

    with recorder, pytest.raises(ValueError, match="use_reentrant=False"):
        checkpoint(sequence, a["x"].requires_grad_(), use_reentrant=True).sum().backward()


def test_module_and_name_exchanged_are_refused():
    with pytest.raises(TypeError, match=r"module: expected a torch.nn.Module, received str; watch\(module, name\)"):
        Recorder().watch("conv1", torch.nn.ReLU())


def test_a_call_without_an_input_is_refused():
    module = torch.nn.Module()
    module.forward = lambda: torch.zeros(1)
    recorder = Recorder()
    recorder.watch(module, "conv1")
    with recorder, pytest.raises(ValueError, match="conv1: expected an input"):
        module()


class TestConvNetwork:
    """conv, batch norm scaled by V_th, neuron, flatten, linear: against the oracle's own reference of the same network."""

    V_TH, DECAY, T, N = 0.5, 0.25, 3, 2

    def build(self):
        import agl_ref as agl

        block = agl.SpikingBlock("c1", agl.Conv2d(2, 4, seed=3), agl.TdBN(4), agl.LIF(self.DECAY, self.V_TH))
        layers = [block, agl.Flatten(), agl.Readout("fc", 4 * 5 * 6, 3, seed=4)]
        return agl.Network(layers, (5, 6, 2))

    def run(self, net, x, labels):
        params = {name: torch.tensor(a) for name, a in net.parameters().items()}
        conv = torch.nn.Conv2d(2, 4, 3, padding=1, bias=False).double()
        norm = torch.nn.BatchNorm2d(4).double()
        fc = torch.nn.Linear(120, 3).double()
        with torch.no_grad():
            conv.weight.copy_(params["c1.weight"].permute(3, 2, 0, 1))
            by_channel = params["fc.weight"].reshape(5, 6, 4, 3).permute(3, 2, 0, 1)
            fc.weight.copy_(by_channel.reshape(3, 120))
            fc.bias.copy_(params["fc.bias"])
        later = math.sqrt(1 + self.DECAY**2)
        recorder = Recorder()
        neuron = Neuron([1.0, later, later], self.V_TH, self.DECAY, recorder, "c1.").double()
        recorder.watch(neuron, "c1")
        x = torch.tensor(x).permute(0, 1, 4, 2, 3).contiguous()  # T N C H W
        with recorder:
            currents = norm(conv(x.flatten(0, 1))) * self.V_TH
            currents = currents.reshape(self.T, self.N, 4, 5, 6)
            logits = torch.stack([recorder.tap("logits", fc(neuron(c).flatten(1))) for c in currents])
            torch.nn.functional.cross_entropy(logits.mean(0), torch.tensor(labels)).backward()
        recorder.gradients(conv, {"weight": "c1.weight"})
        recorder.gradients(fc, {"bias": "fc.bias"})
        return recorder

    def test_every_recorded_array_passes(self):
        from agl_ref.oracle import reference

        net, rng = self.build(), np.random.default_rng(2)
        x, labels = rng.normal(0, 1, (self.T, self.N, 5, 6, 2)), np.array([0, 2])
        recorder = self.run(net, x, labels)
        ref = reference(net, x, labels, dtype="float64")
        report = compare(ref, recorder.arrays(), dtype="float64", layout="TNC..")
        assert report.verdict == "PASS", str(report)
        checked = {
            "c1.x",
            "c1.u",
            "c1.s",
            "c1.ds",
            "c1.du",
            "c1.dx",
            "logits",
            "dlogits",
            "grad_c1.weight",
            "grad_fc.bias",
        }
        assert checked <= set(report.checked)
        assert 0 < ref.arrays["c1.s"].mean() < 1 and (ref.arrays["c1.du"] != 0).any()


class TestBackends:
    def test_the_function_device_and_dtype_that_ran(self):
        _, recorder = run_per_step("lif-hard-attached")
        text = recorder.backends()
        assert text.startswith("module: Neuron")
        assert "ran on cpu in torch.float32; autograd: WindowBackward" in text

    def test_a_fallback_shows(self):
        neuron = Neuron([1.0], 0.5, 0.5)
        neuron.forward = lambda x: (x >= 0.5).to(x.dtype)  # somebody's fallback, without a gradient
        recorder = Recorder()
        recorder.watch(neuron, "n")
        with recorder:
            neuron(torch.ones(3))
        assert "autograd: none, no gradient is recorded" in recorder.backends()

    def test_settings_and_modules_that_did_not_run(self):
        recorder = Recorder(per_step=False)
        recorder.watch(Sequence(Neuron([1.0], 0.5, 0.5)), "n")
        assert recorder.backends() == "n: Sequence (backend=torch, step_mode=m)\n  did not run"


class TestRecorder:
    def test_outside_the_context_nothing_is_recorded_or_changed(self):
        recorder, x = Recorder(), torch.ones(2, requires_grad=True)
        assert recorder.tap("u", x) is x
        with pytest.raises(ValueError, match="inside `with recorder:`"):
            recorder.arrays()

    def test_a_second_run_replaces_the_first(self):
        neuron = Neuron([1.0] * 4, 0.5, 0.5)
        recorder = Recorder()
        recorder.watch(neuron, "n")
        for value in (1.0, 2.0):
            neuron.begin()
            with recorder:
                neuron(torch.full((1, 2), value))
        assert recorder.arrays()["n.x"].tolist() == [[[2.0, 2.0]]]

    def test_a_module_that_never_ran_is_an_error(self):
        recorder = Recorder()
        recorder.watch(Neuron([1.0], 0.5, 0.5), "n")
        with recorder:
            recorder.tap("logits", torch.zeros(1, 2))
        with pytest.raises(ValueError, match=r"none of \['n'\]"):
            recorder.arrays()

    def test_a_step_without_gradient_has_zeros(self):
        recorder = Recorder()
        with recorder:
            last = [recorder.tap("n.u", torch.ones(2, requires_grad=True) * t) for t in range(3)][-1]
            last.sum().backward()
        assert recorder.arrays()["n.du"].tolist() == [[0, 0], [0, 0], [1, 1]]

    def test_bfloat16_comes_as_bits(self, tmp_path):
        recorder = Recorder()
        with recorder:
            recorder.tap("u", torch.tensor([1.0, -2.5], dtype=torch.bfloat16))
        recorder.save(tmp_path / "d.npz")
        assert load_dump(tmp_path / "d.npz")["u"].tolist() == [[0x3F80, 0xC020]]

    def test_hooks_come_off(self):
        neuron, recorder = Neuron([1.0] * 2, 0.5, 0.5), Recorder()
        recorder.watch(neuron, "n")
        recorder.remove()
        with recorder:
            neuron(torch.ones(1))
        with pytest.raises(ValueError, match="expected a forward pass"):
            recorder.arrays()

    @pytest.mark.parametrize(
        ("name", "gradient"),
        [("conv1.u", "conv1.du"), ("s", "ds"), ("x", "grad_x"), ("logits", "dlogits"), ("conv1.v", None)],
    )
    def test_names_of_gradients(self, name, gradient):
        assert gradient_of(name) == gradient

    def test_bad_use(self):
        recorder, neuron = Recorder(), Neuron([1.0] * 3, 0.5, 0.5)
        with pytest.raises(ValueError, match="expected names among x, u, s, v"):
            recorder.watch(neuron, "n", outputs=("spikes",))
        recorder.watch(neuron, "n", outputs=("s", "u"))
        with pytest.raises(ValueError, match="each block once"):
            recorder.watch(neuron, "n")
        with recorder, pytest.raises(ValueError, match="expected 2 outputs, received 1"):
            neuron(torch.ones(2))
        with recorder, pytest.raises(TypeError, match=r"expected a torch\.Tensor"):
            recorder.tap("u", 3.0)
        whole = Recorder(per_step=False)
        with whole, pytest.raises(ValueError, match="one call for all timesteps"):
            whole.tap("u", torch.ones(2))
            whole.tap("u", torch.ones(2))
        with pytest.raises(ValueError, match=r"received \['nope'\]"):
            recorder.gradients(neuron, {"nope": "decay"})
        with pytest.raises(ValueError, match=r"call loss\.backward\(\) first"):
            recorder.gradients(neuron, {"decay": "decay"})


class TestKernelHelpers:
    def test_tensors_are_poisoned_in_place_on_their_device(self):
        out = poison(torch.zeros(4, 3))
        assert torch.isnan(out).all()
        out[:3] = 0
        with pytest.raises(AssertionError, match=r"out: .*3 of 12 .*\(3, 0\)"):
            assert_written(out=out)

    def test_integers_and_half_precision(self):
        for dtype in (torch.int32, torch.uint8):
            with pytest.raises(AssertionError):
                assert_written(out=poison(torch.zeros(2, dtype=dtype)))
        for dtype in (torch.bfloat16, torch.float16):
            with pytest.raises(AssertionError):
                assert_written(out=poison(torch.zeros(2, dtype=dtype)))

    def test_repeatable(self):
        assert_repeatable(lambda: {"y": torch.arange(3.0)}, runs=3)
        values = iter([1.0, 2.0])
        with pytest.raises(AssertionError, match="run 2 differs"):
            assert_repeatable(lambda: torch.tensor([next(values)]), runs=2)
