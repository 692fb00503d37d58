"""Record a PyTorch network's spikes, potentials and their gradients into a dump, and say which backend really ran.

    recorder = Recorder()
    recorder.watch(net.neuron1, "conv1")              # its input is conv1.x, its output conv1.s
    with recorder:
        loss = criterion(net(x), labels)
        loss.backward()
    recorder.gradients(net, {"conv1.weight": "conv1.weight"})
    recorder.save("dump.npz", case="net-conv")        # then: agl-ref check dump.npz --case net-conv --layout TNC..
    print(recorder.backends())

Gradients are what arrives from outside the module: conv1.ds is the gradient of the spikes as the layer above gives it,
without the module's own reset term. For potentials, which most modules keep to themselves, put
`u = recorder.tap("conv1.u", u)` into the forward. torch itself is not imported here: only methods of the tensors and
modules that are given are called.
"""

import sys
from pathlib import Path

import numpy as np

GRADIENTS = {"x": "dx", "u": "du", "s": "ds"}
_SHOWN = 6  # autograd functions that are named in a line of `backends`


def gradient_of(name):
    """The oracle's name of an array's gradient, or None: conv1.u has conv1.du, logits has dlogits, x has grad_x."""
    if name in ("logits", "x"):
        return {"logits": "dlogits", "x": "grad_x"}[name]
    block, dot, key = name.rpartition(".")
    return f"{block}{dot}{GRADIENTS[key]}" if key in GRADIENTS else None


class Recorder:
    """Collects named tensors and their gradients while it is active.

    Parameters
    ----------
    per_step : bool
        Whether modules and taps see one timestep per call, (N, ...), so that calls are stacked over time; else the whole
        sequence in one call.
    """

    def __init__(self, per_step=True):
        self.per_step = per_step
        self._handles, self._modules = [], {}
        self._active = False
        self._clear()

    def _clear(self):
        self._values, self._grads, self._per_step, self._ran, self._parameters = {}, {}, {}, {}, {}
        self._tracked = set()  # names whose gradient is recorded

    def __enter__(self):
        self._clear()
        self._active = True
        return self

    def __exit__(self, *error):
        self._active = False

    # --- recording

    def watch(self, module, name, outputs=("s",), input="x", per_step=None):
        """Record a module's input and outputs, and the gradients that arrive at them from outside.

        Parameters
        ----------
        module : torch.nn.Module
        name : str
            Of the block, as in the case: "conv1"; "" for a case of a single neuron layer.
        outputs : sequence of str or None
            What each output is, in their order (of a dict's values too): "s", "u", "v"; None for one that is not recorded.
        input : str or None
            What the first input is, by position or, without one, by keyword.
        per_step : bool, optional
            As for the recorder, if this module differs.
        """
        if not hasattr(module, "register_forward_pre_hook"):
            raise TypeError(
                f"module: expected a torch.nn.Module, received {type(module).__name__}; watch(module, name)"
            )
        unknown = [key for key in (*outputs, input) if key not in (None, "x", "u", "s", "v")]
        if unknown:
            raise ValueError(f"watch: expected names among x, u, s, v or None, received {unknown}; rename them")
        if name in self._modules:
            raise ValueError(f"watch: expected each block once, received {name!r} twice; rename one")
        per_step = self.per_step if per_step is None else per_step
        prefix = f"{name}." if name else ""
        self._modules[name] = module

        def before(module, args, named):
            if not self._active or input is None:
                return None
            if not (args or named):
                raise ValueError(f"{name}: expected an input, received a call without arguments; pass input=None")
            if args:
                return (self._record(prefix + input, args[0], per_step), *args[1:]), named
            first = next(iter(named))
            return args, {**named, first: self._record(prefix + input, named[first], per_step)}

        def after(module, args, result):
            if not self._active:
                return None
            by_key, several = isinstance(result, dict), isinstance(result, (tuple, list))
            parts = list(result.values()) if by_key else list(result) if several else [result]
            if len(parts) < len(outputs):
                raise ValueError(f"{name}: expected {len(outputs)} outputs, received {len(parts)}; correct outputs=")
            if not _in_backward():
                self._ran.setdefault(name, set()).add(_what_ran(parts))
            for i, key in enumerate(outputs):
                if key is not None:
                    parts[i] = self._record(prefix + key, parts[i], per_step)
            if by_key:
                return type(result)(zip(result, parts, strict=True))
            if hasattr(result, "_fields"):  # a NamedTuple
                return type(result)(*parts)
            return type(result)(parts) if several else parts[0]

        self._handles += [
            module.register_forward_pre_hook(before, with_kwargs=True), module.register_forward_hook(after),
        ]  # fmt: skip

    def tap(self, name, tensor, per_step=None):
        """Record a tensor inside a forward pass; go on with the tensor that is returned.

        Parameters
        ----------
        name : str
            "conv1.u", "logits", or "x" for the network's input.
        tensor : torch.Tensor
        per_step : bool, optional

        Returns
        -------
        torch.Tensor : the same values; the gradient that arrives at it is recorded
        """
        if not self._active:
            return tensor
        return self._record(name, tensor, self.per_step if per_step is None else per_step)

    def _record(self, name, tensor, per_step):
        if not hasattr(tensor, "register_hook"):
            raise TypeError(f"{name}: expected a torch.Tensor, received {type(tensor).__name__}; record tensors")
        if _in_backward():  # activation checkpointing runs a part of the forward pass again
            if gradient_of(name) and name not in self._tracked:
                raise ValueError(
                    f"{name}: expected gradients in the first forward pass, received a checkpointed part without; call "
                    "torch.utils.checkpoint with use_reentrant=False"
                )
            return tensor
        step = len(self._values.setdefault(name, []))
        if step and not per_step:
            raise ValueError(
                f"{name}: expected one call for all timesteps, received a second one; pass per_step=True, or leave the "
                "recorder's context between two forward passes"
            )
        self._values[name].append(_array(tensor))
        self._per_step[name] = per_step
        if tensor.requires_grad and gradient_of(name):
            self._tracked.add(name)
            seen = tensor.view_as(tensor)  # of its own, so that only what arrives from outside is seen
            seen.register_hook(lambda grad: self._grads.setdefault(name, {}).update({step: _array(grad)}))
            return seen
        return tensor

    def gradients(self, module, names):
        """Add gradients of parameters, after the backward pass.

        Parameters
        ----------
        module : torch.nn.Module
        names : {PyTorch's name: the case's name}
            E.g. {"features.0.weight": "conv1.weight"}.
        """
        parameters = dict(module.named_parameters())
        wrong = sorted(set(names) - set(parameters))
        if wrong:
            raise ValueError(f"gradients: expected names among {', '.join(parameters)}, received {wrong}; correct them")
        missing = sorted(name for name in names if parameters[name].grad is None)
        if missing:
            raise ValueError(
                f"gradients: expected one for each, received none for {missing}; call loss.backward() first"
            )
        self._parameters.update({f"grad_{ours}": _array(parameters[name].grad) for name, ours in names.items()})

    # --- results

    def arrays(self):
        """{name: ndarray} of all that was recorded; a timestep that no gradient reached has zeros.

        An input "x" itself is left out, since that name means its gradient in a dump.

        Raises ValueError if nothing was recorded: a hook that never ran proves nothing.
        """
        if not self._values:
            raise ValueError("recorder: expected a forward pass, received none; run it inside `with recorder:`")
        silent = sorted(set(self._modules) - set(self._ran))
        if silent:
            raise ValueError(
                f"recorder: expected a forward pass of every module, received none of {silent}; is it used?"
            )
        found = {}
        for name, values in self._values.items():
            if name != "x":
                found[name] = np.stack(values) if self._per_step[name] else values[0]
        for name, grads in self._grads.items():
            values = self._values[name]
            steps = [grads.get(step, np.zeros_like(value)) for step, value in enumerate(values)]
            found[gradient_of(name)] = np.stack(steps) if self._per_step[name] else steps[0]
        return {**found, **self._parameters}

    def save(self, path, case=None):
        """Write the arrays as an .npz that `agl-ref check` reads; bfloat16 as its bits.

        Parameters
        ----------
        path : str or Path
        case : str, optional
            Id of the case that was run; `agl-ref check` then refuses another.
        """
        arrays = self.arrays()
        np.savez(Path(path), **arrays, **({} if case is None else {"case": np.array(case)}))

    def backends(self):
        """Text: per watched module its class and settings, and the devices, dtypes and autograd functions that really ran."""
        lines = []
        for name, module in self._modules.items():
            settings = [f"{key}={getattr(module, key)}" for key in ("backend", "step_mode") if hasattr(module, key)]
            title = f"{name or 'module'}: {type(module).__name__}" + (f" ({', '.join(settings)})" if settings else "")
            lines.append(title)
            for device, dtype, functions in sorted(self._ran.get(name, ())):
                more = f" and {len(functions) - _SHOWN} more" if len(functions) > _SHOWN else ""
                used = ", ".join(functions[:_SHOWN]) + more if functions else "none, no gradient is recorded"
                lines.append(f"  ran on {device} in {dtype}; autograd: {used}")
            if name not in self._ran:
                lines.append("  did not run")
        return "\n".join(lines)

    def remove(self):
        """Take the hooks off the modules."""
        for handle in self._handles:
            handle.remove()
        self._handles, self._modules = [], {}


def _in_backward():
    """Whether PyTorch's backward pass is running in this thread."""
    return sys.modules["torch"]._C._current_graph_task_id() != -1


def _array(tensor):
    """A NumPy copy of a tensor; bfloat16 as uint16 bits."""
    tensor = tensor.detach()
    if "bfloat16" in str(tensor.dtype):
        high = tensor.float().cpu().numpy().view(np.uint32)
        return (high >> 16).astype(np.uint16)
    return tensor.cpu().numpy().copy()


def _what_ran(outputs):
    """(device, dtype, names of the autograd functions behind the outputs back to the module's inputs)."""
    tensors = [part for part in outputs if hasattr(part, "grad_fn")]
    if not tensors:
        return "unknown device", "unknown dtype", ()
    names, seen = [], set()
    queue = [tensor.grad_fn for tensor in tensors if tensor.grad_fn is not None]
    while queue:
        node = queue.pop(0)
        if node in seen or len(seen) > 10_000:
            continue
        seen.add(node)
        name = type(node).__name__
        if name == "ViewBackward0":  # the recorder's own mark at the module's input
            continue
        if name not in names and name != "AccumulateGrad":
            names.append(name)
        queue += [parent for parent, _ in node.next_functions if parent is not None]
    ours = [name for name in names if not name[-1].isdigit()]  # a Function of somebody's own, before PyTorch's
    return str(tensors[0].device), str(tensors[0].dtype), tuple(ours + [name for name in names if name not in ours])
