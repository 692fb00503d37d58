"""Break each implementation on purpose and see whether the oracle notices, and whether its report points at the place.

    python tutorials/gpu/sabotage.py --impl numba|triton|torch|jax [--bugs NAME ...] [--markdown] [--report]

A bug of bugs.py is a patch of the kernel's source, which is written to a temporary file, imported and run on one golden case.
Outputs are allocated full of NaN, so that what a kernel forgets to write shows; a GPU's memory may hold anything. The source
as it is must pass the same cases under the same conditions, or else a bug that is caught there proves nothing.
Exit codes: 0 every bug is caught in the right array and the unbroken source passes, 1 not.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
from adapters import MODULES, TorchAdapter, adapter_of
from bugs import BUGS, NEAR, Bug
from verdicts import arrays_of, judge

from agl_ref.oracle import load_case

HERE = Path(__file__).parent
GUARD = 4096  # elements beside each Triton buffer that an unguarded program may touch


def patched_source(impl, bug):
    """The implementation's source with the bug in it; RuntimeError unless each old text stands there exactly once."""
    source = (HERE / f"{MODULES[impl]}.py").read_text(encoding="utf-8")
    for old, new in bug.patches:
        if source.count(old) != 1:
            raise RuntimeError(
                f"{impl}/{bug.name}: expected {old!r} exactly once in {MODULES[impl]}.py, received it {source.count(old)} "
                "times; adapt the patch"
            )
        source = source.replace(old, new)
    return source


def sabotaged(impl, bug, folder):
    """The implementation as a module, with the bug in it. Triton and numba read source files, so it is written to one."""
    name = f"{MODULES[impl]}_{bug.name.replace('-', '_')}"
    path = Path(folder) / f"{name}.py"
    path.write_text(patched_source(impl, bug), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def guarded(module):
    """Poison everything that the module allocates."""
    if module.__name__.startswith("lif_numba_cuda"):
        module.allocate = lambda shape, dtype: module.cuda.to_device(np.full(shape, np.nan, dtype))
    elif module.__name__.startswith("lif_triton"):
        module.allocate = lambda like, *shape, dtype=None: _padded(like, shape or like.shape, dtype or like.dtype)
    elif module.__name__.startswith("lif_torch"):
        module.torch.use_deterministic_algorithms(True, warn_only=True)  # fills empty tensors with NaN
    return module


def _padded(like, shape, dtype):
    size = int(np.prod(shape))
    return like.new_full((size + GUARD,), float("nan"), dtype=dtype)[:size].view(shape)


class PaddedAdapter(TorchAdapter):
    """Triton's inputs with room behind them, so that a read beyond the end stays in memory of ours."""

    def put(self, value):
        tensor = super().put(value)
        if not tensor.is_contiguous():
            return tensor
        padded = _padded(tensor, tensor.shape, tensor.dtype)
        return padded.copy_(tensor)


def near_threshold():
    """A reference whose second potential is V_th up to the last bit: u rounds to V_th, the exact sum does not reach it.

    No golden case has this, since rounding may decide there either way: the oracle says AMBIGUOUS, never FAIL.
    """
    from agl_ref.oracle.bounds.reference import reference_of_case
    from agl_ref.oracle.cases.case import Case

    tau = np.float32(0.2)
    first = np.linspace(0.05, 0.45, 128, dtype=np.float32)
    second = np.float32(0.5) - tau * first
    exact = np.float64(tau) * first + second
    keep = (tau * first + second == np.float32(0.5)) & (exact < 0.5)
    x = np.stack([first[keep], second[keep]]).astype(np.float64)[:, None]
    inputs = {"x": x, "ds": np.full(x.shape, 0.25), "width": np.array([1.0, 2.0])}
    return reference_of_case(Case(NEAR, "lif", 3, lambda draw: inputs, {"v_th": 0.5, "decay": float(tau)}))


def verdict_on(impl, bug, device="cpu"):
    """(verdict, where, report or None) of the sabotaged implementation on the bug's case."""
    case = near_threshold() if bug.case == NEAR else load_case(bug.case)
    adapter_of(impl, bug.dtype, device)  # sets the simulators' variables before anything is imported
    with tempfile.TemporaryDirectory() as folder:
        module = guarded(sabotaged(impl, bug, folder))
        if impl == "triton":
            adapter = PaddedAdapter(module, bug.dtype, device)
        else:
            adapter = adapter_of(impl, bug.dtype, device, module)
        return judge(case, arrays_of(adapter, case, bug.dtype), bug.dtype)


def caught(bug, verdict, where):
    """Whether the bug was noticed, in the array where it is: "u[0, 0, 3]", or "u: expected finite values, ..."."""
    return verdict in ("FAIL", "INVALID") and where.partition("[")[0].partition(":")[0] == bug.array


def unbroken_fails(impl, bugs, device="cpu"):
    """Texts on the bugs' cases that the source as it is does not pass. Near the threshold it is AMBIGUOUS, and consistent.

    A GPU fuses the multiply and the add, so that its potential there may be the right one.
    """
    found, near = [], ("AMBIGUOUS",) if device == "cpu" else ("AMBIGUOUS", "PASS")
    for case, dtype in dict.fromkeys((bug.case, bug.dtype) for bug in bugs):
        verdict, where, _ = verdict_on(impl, Bug("unbroken", "", case, "", (), dtype), device)
        if verdict not in (near if case == NEAR else ("PASS",)):
            found.append(f"unbroken: {case} in {dtype} is {verdict} {where}")
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--impl", required=True, choices=MODULES)
    parser.add_argument("--bugs", nargs="+", default=(), metavar="NAME")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--report", action="store_true", help="print the oracle's report on each")
    args = parser.parse_args(argv)
    bugs = [bug for bug in BUGS[args.impl] if not args.bugs or bug.name in args.bugs]
    wrong = unbroken_fails(args.impl, bugs, args.device)
    for bug in bugs:
        verdict, where, report = verdict_on(args.impl, bug, args.device)
        if not caught(bug, verdict, where):
            wrong.append(f"{bug.name}: expected a failure in {bug.array}, received {verdict} {where}")
        if args.report and report:
            print(report, end="\n\n")
        where = where.partition(";")[0]
        case = bug.case if bug.dtype == "float32" else f"{bug.case} in {bug.dtype}"
        if args.markdown:
            print(f"| `{bug.name}` | {bug.what} | {case} | {verdict} | {where} |")
        else:
            print(f"{bug.name:<22} {case:<28} {verdict:<8} {where}")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
