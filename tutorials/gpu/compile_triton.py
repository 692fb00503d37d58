"""Compile the Triton kernels for a GPU that is not there: what the interpreter accepts need not compile.

    python tutorials/gpu/compile_triton.py [--capability 90]

Needs triton and torch; triton brings NVIDIA's assembler. Nothing is run. One line per kernel and dtype, and once more with
every size equal to 1, which Triton compiles in as a constant. Exit codes: 0, or 1 if a kernel has an instruction that rounds
more than it must: arithmetic in bfloat16, or a division that is approximate, as Triton's `/` of float32 is on a GPU.
"""

import argparse
import itertools
import re
import sys

import lif_triton
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

COMMON = {"V_TH": 0.5, "SOFT": True, "DETACH": False, "NORM": True, "SCALE": 0.5, "LEARNED": True, "BLOCK": 256}
TILE = {"ROWS": lif_triton.ROWS, "CHANNELS": lif_triton.CHANNELS}
INTEGERS = ("T", "M", "C", "R", "size")
WIDE = ("norm", "partial", "means")  # float32 also where the rest is bfloat16
ROUGH = re.compile(r"\w+\.(?:approx|full)\.[\w.]+|(?:add|sub|mul|fma)[\w.]*\.bf16\w*")
KERNELS = ("prepare_kernel", "forward_kernel", "backward_kernel", "channel_sums_kernel", "norm_backward_kernel")


def compiled(name, pointer, capability, ones=False):
    """The kernel's binary for pointers of this dtype ("*fp32")."""
    kernel, wide = getattr(lif_triton, name), pointer == "*fp64"
    values = {**COMMON, **TILE, "ACC": tl.float64 if wide else tl.float32}
    values |= dict.fromkeys(INTEGERS, 1) if ones else {}
    constants = {arg: values[arg] for arg in kernel.arg_names if arg in values}
    signature = {
        arg: "constexpr" if arg in values else "i32" if arg in INTEGERS else pointer for arg in kernel.arg_names
    }
    signature |= {arg: "*fp64" if wide else "*fp32" for arg in WIDE if arg in signature}
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--capability", type=int, default=90, help="compute capability times 10 (%(default)s)")
    args = parser.parse_args(argv)
    rough = set()
    for name, pointer, ones in itertools.product(KERNELS, ("*fp32", "*fp64", "*bf16"), (False, True)):
        binary = compiled(name, pointer, args.capability, ones)
        sizes = "sizes of 1" if ones else "any sizes"
        print(f"{name:<22} {pointer:<6} {sizes:<11} {len(binary.asm['cubin']):>6} bytes")
        rough |= {f"{name} {pointer}: {found}" for found in ROUGH.findall(binary.asm["ptx"])}
    print(*sorted(rough), sep="\n", end="", file=sys.stderr)
    return 1 if rough else 0


if __name__ == "__main__":
    sys.exit(main())
