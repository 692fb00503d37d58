"""Compile the Triton kernels for a GPU that is not there: what the interpreter accepts need not compile.

    python tutorials/gpu/compile_triton.py [--capability 90]

Needs triton alone, which brings NVIDIA's assembler; nothing is run. One line per kernel and dtype.
"""

import argparse
import sys

import lif_triton
import triton
import triton.language as tl
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

COMMON = {"V_TH": 0.5, "SOFT": True, "DETACH": False, "NORM": True, "SCALE": 0.5, "LEARNED": True, "BLOCK": 256}
TILE = {"ROWS": lif_triton.ROWS, "CHANNELS": lif_triton.CHANNELS}
INTEGERS = ("T", "M", "C", "R", "size")
KERNELS = ("prepare_kernel", "forward_kernel", "backward_kernel", "channel_sums_kernel", "norm_backward_kernel")


def compiled(name, pointer, capability):
    """The kernel's binary for pointers of this dtype ("*fp32")."""
    kernel, wide = getattr(lif_triton, name), pointer == "*fp64"
    values = {**COMMON, **TILE, "ACC": tl.float64 if wide else tl.float32}
    constants = {arg: values[arg] for arg in kernel.arg_names if arg in values}
    signature = {
        arg: "i32" if arg in INTEGERS else "constexpr" if arg in values else pointer for arg in kernel.arg_names
    }
    if name == "backward_kernel":
        signature["partial"] = "*fp64" if wide else "*fp32"
    source = ASTSource(fn=kernel, signature=signature, constexprs=constants)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--capability", type=int, default=90, help="compute capability times 10 (%(default)s)")
    args = parser.parse_args(argv)
    for name in KERNELS:
        for pointer in ("*fp32", "*fp64", "*bf16"):
            binary = compiled(name, pointer, args.capability)
            print(
                f"{name:<22} {pointer:<6} {len(binary.asm['cubin']):>6} bytes, {binary.metadata.shared} of shared memory"
            )
    return 0


if __name__ == "__main__":
    sys.exit(main())
