"""Exported golden cases read by other people's readers: safetensors' own, and PyTorch."""

import numpy as np
import pytest

from agl_ref.oracle.cases.export import export
from agl_ref.oracle.cases.vectors import load_case

safetensors = pytest.importorskip("safetensors.torch")
torch = pytest.importorskip("torch")


@pytest.mark.parametrize(("dtype", "type"), [("float32", torch.float32), ("bfloat16", torch.bfloat16)])
def test_safetensors_reads_the_export(tmp_path, dtype, type):
    held = safetensors.load_file(export("lif-bfloat16", tmp_path, "safetensors", dtype))
    case = load_case("lif-bfloat16")
    assert held["inputs/x"].dtype == type
    for name, array in case.arrays.items():
        expected = torch.from_numpy(np.array(array)).to(type)  # PyTorch's own rounding
        assert torch.equal(held[f"arrays/{name}"], expected), name
    assert case.arrays["s"].any() and held["arrays/du"].any()


def test_convolution_of_an_export_in_torch_layout(tmp_path):
    """Channels first and batch first as PyTorch wants them: its convolution and its gradients give the case's bits."""
    held = safetensors.load_file(export("conv-stride", tmp_path, "safetensors", "float64", "NT", "first"))
    weight, bias = (held[f"inputs/{name}"].requires_grad_() for name in ("weight", "bias"))
    x = held["inputs/x"].flatten(0, 1).requires_grad_()
    y = torch.nn.functional.conv2d(x, weight, bias, stride=2, padding=1)
    y.backward(held["inputs/dy"].flatten(0, 1))
    assert torch.equal(y, held["arrays/y"].flatten(0, 1))
    assert torch.equal(x.grad, held["arrays/grad_x"].flatten(0, 1))
    assert torch.equal(weight.grad, held["arrays/grad_weight"]) and torch.equal(bias.grad, held["arrays/grad_bias"])
