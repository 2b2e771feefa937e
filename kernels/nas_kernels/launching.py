"""How does a Triton kernel start from an operator of torch? On its device, seen by the compiler."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.library import wrap_triton
from triton import knobs
from triton import language as tl
from triton.runtime.jit import JITFunction

from nas_kernels.tuning import Blocks


def dot_dtype(dtype: torch.dtype) -> Any:
    """The dtype of a product's operands: bf16 for bf16, else fp32, which is multiplied as tf32.

    Sums of fp16 products may leave its range.
    """
    # Triton's interpreter keeps bf16 as integers, and multiplies those.
    halved = dtype == torch.bfloat16 and not interpreted()
    return tl.bfloat16 if halved else tl.float32


def or_nothing(tensor: Tensor | None, q: Tensor) -> Tensor:
    """The tensor, or an empty one for a kernel whose flags say that it is never read."""
    return q.new_empty(0, dtype=torch.float32) if tensor is None else tensor


def interpreted() -> bool:
    """Whether kernels run by Triton's interpreter, on tensors in host memory (TRITON_INTERPRET)."""
    return bool(knobs.runtime.interpret)


def launch(kernel: Any, grid: Sequence[int], blocks: Blocks, *arguments: Any, **flags: Any) -> None:
    """Starts `kernel` on the grid, with the blocks as C, BK and BV where it has them."""
    sizes = {"C": blocks.tokens, "BK": blocks.keys, "BV": blocks.values}
    chosen = {name: size for name, size in sizes.items() if name in kernel.arg_names}
    # Triton's interpreter makes plain functions, which torch does not wrap.
    start = wrap_triton(kernel) if isinstance(kernel, JITFunction) else kernel
    device = next(each.device for each in arguments if isinstance(each, Tensor))
    # Triton starts on the current device, whichever one the tensors are on.
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        start[tuple(grid)](
            *arguments, **flags, **chosen, num_warps=blocks.warps, num_stages=blocks.stages
        )
