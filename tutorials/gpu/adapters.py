"""The four implementations behind one call, so that `verdicts.py` can run any of them on any case.

    values, backward = adapter.block(z, leak, v_th=..., ...)        # NumPy in, NumPy out
    grads = backward(ds)

z (T, ..., C) is what the synapse gave, leak is tau or, if `learned`, PLIF's w. values has u, s and width; grads has z, leak
and where there is a tdBN (beta is given) gamma and beta, else also du. Options are those of `spiking_block` in lif_torch.py.
"""

import contextlib
import importlib.metadata
import os

import numpy as np

MODULES = {"numba": "lif_numba_cuda", "triton": "lif_triton", "torch": "lif_torch", "jax": "lif_jax"}
DTYPES = {
    "numba": ("float32", "float64"),
    "triton": ("float32", "float64", "bfloat16"),
    "torch": ("float32", "float64", "bfloat16"),
    "jax": ("float32", "float64", "bfloat16"),
}


def adapter_of(impl, dtype, device, module=None):
    """The adapter of "numba", "triton", "torch" or "jax". On "cpu", numba and Triton run in their simulators.

    `module` replaces the implementation, e.g. by a mutant. The simulators' variables are read at import, so that
    a process must not have loaded numba or Triton for a GPU before.
    """
    if device == "cpu":
        os.environ.setdefault({"numba": "NUMBA_ENABLE_CUDASIM", "triton": "TRITON_INTERPRET"}.get(impl, "_"), "1")
    os.environ.setdefault("NUMBA_CUDA_LOW_OCCUPANCY_WARNINGS", "0")  # golden cases are small
    if impl == "jax":
        os.environ.setdefault("JAX_PLATFORMS", device)
    module = module or importlib.import_module(MODULES[impl])
    kind = {"numba": NumbaAdapter, "jax": JaxAdapter}.get(impl, TorchAdapter)
    return kind(module, dtype, device)


def _needs_gpu(device, found):
    if device == "cuda" and not found:
        raise ValueError("--device: expected a GPU for cuda, received a machine without one that can be used; use cpu")


def _jax_devices(jax):
    try:
        return jax.devices()
    except (RuntimeError, AssertionError):  # no backend for the platform that was asked for
        return []


class TorchAdapter:
    """lif_torch and lif_triton: gradients by torch.autograd."""

    def __init__(self, module, dtype, device):
        import torch

        _needs_gpu(device, torch.cuda.is_available())
        self.module, self.device, self.dtype, self.torch = module, device, getattr(torch, dtype), torch

    def put(self, value):
        """A tensor on the device; strides stay as they are."""
        return self.torch.from_numpy(np.asarray(value, np.float64)).to(self.device, self.dtype)

    def block(self, z, leak, gamma=None, beta=None, width=None, running=None, **options):
        given = {"z": z, "leak": leak, "gamma": gamma, "beta": beta, "width": width}
        tensors = {name: None if value is None else self.put(value) for name, value in given.items()}
        leaves = {"z": tensors["z"], "leak": tensors["leak"]}
        if beta is not None:
            leaves |= {"gamma": tensors["gamma"], "beta": tensors["beta"]}
        for leaf in leaves.values():
            leaf.requires_grad_()
        running = None if running is None else tuple(self.put(value) for value in running)
        s, u, kappa = self.module.spiking_block(**tensors, running=running, **options)

        def backward(ds):
            found = self.torch.autograd.grad(s, list(leaves.values()), self.put(ds), retain_graph=True)
            grads = dict(zip(leaves, found, strict=True))
            return grads if beta is not None else {**grads, "du": grads["z"]}

        return {"u": u, "s": s, "width": kappa}, backward

    def about(self):
        torch, found = self.torch, {"torch": self.torch.__version__}
        if self.module.__name__.startswith("lif_triton"):
            import triton

            found["triton"] = triton.__version__
            simulator = "Triton interpreter" if os.environ.get("TRITON_INTERPRET") == "1" else None
        else:
            simulator = None
        name = torch.cuda.get_device_name() if self.device == "cuda" else simulator or "CPU"
        return name, {**found, "cuda": torch.version.cuda}


class JaxAdapter:
    """lif_jax: gradients by jax.vjp of the jitted block."""

    def __init__(self, module, dtype, device):
        import jax

        _needs_gpu(device, device == "cpu" or any(d.platform == "gpu" for d in _jax_devices(jax)))
        if dtype == "float64":
            jax.config.update("jax_enable_x64", True)
        self.module, self.jax, self.dtype = module, jax, jax.numpy.dtype(dtype)

    def put(self, value):
        return None if value is None else self.jax.numpy.asarray(np.asarray(value), self.dtype)

    def block(self, z, leak, gamma=None, beta=None, width=None, running=None, **options):
        options |= {"width": self.put(width), "running": None if running is None else tuple(map(self.put, running))}
        leaves = [self.put(z), self.put(leak)] + ([self.put(gamma), self.put(beta)] if beta is not None else [])
        if beta is None:
            options["gamma"] = self.put(gamma)

        def run(*leaves):
            s, u, kappa = self.module.spiking_block(*leaves, **options)
            return s, (u, kappa)

        s, pull, (u, kappa) = self.jax.vjp(run, *leaves, has_aux=True)

        def backward(ds):
            grads = dict(zip(("z", "leak", "gamma", "beta"), pull(self.put(ds)), strict=False))
            return grads if beta is not None else {**grads, "du": grads["z"]}

        return {"u": u, "s": s, "width": kappa}, backward

    def about(self):
        import jaxlib

        return self.jax.devices()[0].device_kind, {"jax": self.jax.__version__, "jaxlib": jaxlib.__version__}


class NumbaAdapter:
    """lif_numba_cuda: kernels called by hand, forward and backward."""

    def __init__(self, module, dtype, device):
        _needs_gpu(device, module.cuda.is_available())
        self.module, self.device, self.dtype = module, device, np.dtype(dtype)

    def put(self, value):
        """(T, ...) as (T, M), and vectors as they are, on the device."""
        array = np.asarray(value, self.dtype)
        return self.module.flat(array) if array.ndim > 1 else self.module.cuda.to_device(np.atleast_1d(array))

    def block(
        self, z, leak, gamma=None, beta=None, width=None, running=None, v_th=0.5, learned=False, alpha=1.0, eps=1e-5,
        soft=False, detach=False,
    ):  # fmt: skip
        kernels, shape, C = self.module, np.shape(z), np.shape(z)[-1]
        scale, learned = alpha * v_th, bool(learned)
        gamma, beta, width = (None if value is None else self.put(value) for value in (gamma, beta, width))
        flat = self.put(z)
        rows = flat.reshape(flat.size // C, C)
        tau, width = kernels.prepare(self.put(leak), learned, width, gamma, scale, len(z), self.dtype)
        if beta is None:
            norm = kernels.cuda.to_device(np.array([[0], [1], [1], [0]], self.dtype))  # x = 1 (z - 0) + 0, exactly
        else:
            norm = kernels.norm_forward(rows, gamma, beta, scale, eps, running)
        u, s = kernels.forward(flat, norm, tau, v_th, soft)

        def backward(ds):
            du, dleak = kernels.backward(self.put(ds), u, width, tau, v_th, learned, soft, detach)
            grads = {"leak": self.dtype.type(dleak.copy_to_host()[0])}
            if beta is None:
                du = du.copy_to_host().reshape(shape)
                return {**grads, "du": du, "z": du}
            dz, sums = kernels.norm_backward(du.reshape(rows.shape), rows, norm, running is None)
            sums = sums.copy_to_host().astype(self.dtype)
            return {**grads, "z": dz.copy_to_host().reshape(shape), "beta": sums[:C], "gamma": scale * sums[C:]}

        values = {"u": u.copy_to_host().reshape(shape), "s": s.copy_to_host().reshape(shape)}
        return {**values, "width": width.copy_to_host()}, backward

    def about(self):
        import numba

        versions = {"numba": numba.__version__}
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):  # otherwise numba's own CUDA target
            versions["numba-cuda"] = importlib.metadata.version("numba-cuda")
        if numba.config.ENABLE_CUDASIM:
            return "CUDA simulator", versions
        name = self.module.cuda.get_current_device().name
        return name.decode() if isinstance(name, bytes) else name, versions
