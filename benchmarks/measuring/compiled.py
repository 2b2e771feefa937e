"""What does a kernel take of a GPU? Compiled for one that need not be there."""

import re
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from nas_kernels.launching import Launch

_POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.int32: "*i32",
}
_WARP = 32
_ALIGNED: list[list[Any]] = [["tt.divisibility", 16]]


@dataclass(frozen=True)
class Resources:
    """Registers a thread, bytes of local memory (stack) a thread, of shared memory a program.

    The stack holds the registers that were spilled, and arrays if there are any.
    """

    registers: int
    stack: int
    shared: int


def resources(launch: Launch, capability: tuple[int, int]) -> Resources:
    """What the launch takes on a GPU of this CUDA capability, compiled as on its first call there.

    Raises:
        RuntimeError: where kernels run by Triton's interpreter, which compiles nothing.
    """
    if knobs.runtime.interpret:
        raise RuntimeError("TRITON_INTERPRET is set, expected not: nothing would be compiled")
    target = GPUTarget("cuda", 10 * capability[0] + capability[1], _WARP)
    options = {"num_warps": launch.blocks.warps, "num_stages": launch.blocks.stages}
    compiled = triton.compile(_source(launch), target=target, options=options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        told = subprocess.run(
            [knobs.nvidia.cuobjdump.path, "-res-usage", file.name],
            check=True, capture_output=True, text=True,
        ).stdout  # fmt: skip
    found = re.search(r"REG:(\d+) STACK:(\d+)", told)
    assert found is not None, told
    return Resources(int(found[1]), int(found[2]), int(compiled.metadata.shared))


def _source(launch: Launch) -> ASTSource:
    """The kernel with its arguments' types, told apart as Triton does at a call."""
    constants = launch.constants()
    given = dict(zip(launch.kernel.arg_names, launch.arguments, strict=False))
    signature, hints = {}, {}
    for place, name in enumerate(launch.kernel.arg_names):
        value = given.get(name)
        if name in constants:
            signature[name] = "constexpr"
        elif isinstance(value, Tensor):
            signature[name] = _POINTERS[value.dtype]
            hints[place,] = _ALIGNED
        elif value == 1:
            signature[name], constants[name] = "constexpr", 1
        elif isinstance(value, int):
            signature[name] = "i32"
            if value % 16 == 0:
                hints[place,] = _ALIGNED
        else:
            signature[name] = "fp32"
    return ASTSource(launch.kernel, signature, constants, hints)
