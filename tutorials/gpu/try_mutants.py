"""Break each implementation on purpose and see whether the oracle notices, and whether its report points at the place.

    python tutorials/gpu/try_mutants.py --impl numba|triton|torch|jax [--mutants NAME ...] [--markdown] [--report]

A mutant of mutants.py is a patch of the kernel's source, which is written to a temporary file, imported and run on one
golden case. A GPU's memory may hold anything: outputs are allocated full of NaN, so that what a kernel does not write shows.
The source as it is must pass the same cases under the same conditions, or else a mutant that is caught there proves nothing.
Exit codes: 0 every mutant is caught in the right array and the source as it is passes, 1 not.
"""

import argparse
import importlib.util
import sys
import tempfile
from pathlib import Path

import numpy as np
from adapters import MODULES, TorchAdapter, adapter_of
from mutants import MUTANTS, NEAR, Mutant
from verdicts import arrays_of, judge

from agl_ref.oracle import load_case

HERE = Path(__file__).parent
GUARD = 4096  # elements beside each Triton buffer that an unguarded program may touch


def patched_source(impl, mutant):
    """The implementation's source with the mutant's patches; RuntimeError unless each old text stands there exactly once."""
    source = (HERE / f"{MODULES[impl]}.py").read_text(encoding="utf-8")
    for old, new in mutant.patches:
        if source.count(old) != 1:
            raise RuntimeError(
                f"{impl}/{mutant.name}: expected {old!r} exactly once in {MODULES[impl]}.py, received it {source.count(old)} "
                "times; adapt the patch"
            )
        source = source.replace(old, new)
    return source


def mutated(impl, mutant, folder):
    """The mutant as a module. Triton and numba read source files, so it is written to one."""
    name = f"{MODULES[impl]}_{mutant.name.replace('-', '_')}"
    path = Path(folder) / f"{name}.py"
    path.write_text(patched_source(impl, mutant), encoding="utf-8")
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


def verdict_on(impl, mutant, device="cpu"):
    """(verdict, where, report or None) of a mutant on its case."""
    case = near_threshold() if mutant.case == NEAR else load_case(mutant.case)
    adapter_of(impl, mutant.dtype, device)  # sets the simulators' variables before anything is imported
    with tempfile.TemporaryDirectory() as folder:
        module = guarded(mutated(impl, mutant, folder))
        if impl == "triton":
            adapter = PaddedAdapter(module, mutant.dtype, device)
        else:
            adapter = adapter_of(impl, mutant.dtype, device, module)
        return judge(case, arrays_of(adapter, case, mutant.dtype), mutant.dtype)


def caught(mutant, verdict, where):
    """Whether the mutant was noticed, in the array where it is: "u[0, 0, 3]", or "u: expected finite values, ..."."""
    return verdict in ("FAIL", "INVALID") and where.partition("[")[0].partition(":")[0] == mutant.array


def right_source_fails(impl, mutants, device="cpu"):
    """Texts on the mutants' cases that the source as it is does not pass. Near the threshold it is AMBIGUOUS, and consistent.

    A GPU fuses the multiply and the add, so that its potential there may be the right one.
    """
    found, near = [], ("AMBIGUOUS",) if device == "cpu" else ("AMBIGUOUS", "PASS")
    for case, dtype in dict.fromkeys((mutant.case, mutant.dtype) for mutant in mutants):
        verdict, where, _ = verdict_on(impl, Mutant("right", "", case, "", (), dtype), device)
        if verdict not in (near if case == NEAR else ("PASS",)):
            found.append(f"right source: {case} in {dtype} is {verdict} {where}")
    return found


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--impl", required=True, choices=MODULES)
    parser.add_argument("--mutants", nargs="+", default=(), metavar="NAME")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--markdown", action="store_true", help="print a Markdown table")
    parser.add_argument("--report", action="store_true", help="print the oracle's report on each")
    args = parser.parse_args(argv)
    known = [mutant.name for mutant in MUTANTS[args.impl]]
    if strange := sorted(set(args.mutants) - set(known)):
        parser.error(f"--mutants: expected some of {', '.join(known)}, received {', '.join(strange)}; correct them")
    mutants = [mutant for mutant in MUTANTS[args.impl] if not args.mutants or mutant.name in args.mutants]
    wrong = right_source_fails(args.impl, mutants, args.device)
    for mutant in mutants:
        verdict, where, report = verdict_on(args.impl, mutant, args.device)
        if not caught(mutant, verdict, where):
            wrong.append(f"{mutant.name}: expected a failure in {mutant.array}, received {verdict} {where}")
        if args.report and report:
            print(report, end="\n\n")
        where = where.partition(";")[0]
        case = mutant.case if mutant.dtype == "float32" else f"{mutant.case} in {mutant.dtype}"
        if args.markdown:
            print(f"| `{mutant.name}` | {mutant.what} | {case} | {verdict} | {where} |")
        else:
            print(f"{mutant.name:<22} {case:<28} {verdict:<8} {where}")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
