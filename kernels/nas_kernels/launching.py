"""How does a Triton kernel start from an operator of torch? On its device, seen by the compiler."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.library import wrap_triton
from triton import knobs
from triton import language as tl
from triton.runtime.jit import JITFunction

from nas_kernels.tuning import Blocks


def dot_dtype(dtype: torch.dtype, *, of_sums: bool) -> Any:
    """The dtype of products' operands: the inputs' in half precision, else fp32 (as tf32).

    Where sums are operands themselves (a state), fp16 is none of them: they may leave its range.
    """
    # Triton's interpreter keeps bf16 as integers, and multiplies those.
    if dtype == torch.bfloat16 and not interpreted():
        return tl.bfloat16
    return tl.float16 if dtype == torch.float16 and not of_sums else tl.float32


def or_nothing(tensor: Tensor | None, q: Tensor) -> Tensor:
    """The tensor, or an empty one for a kernel whose flags say that it is never read."""
    return q.new_empty(0, dtype=torch.float32) if tensor is None else tensor


def interpreted() -> bool:
    """Whether kernels run by Triton's interpreter, on tensors in host memory (TRITON_INTERPRET)."""
    return bool(knobs.runtime.interpret)


@dataclass(frozen=True)
class Launch:
    """A kernel with its grid, its arguments and what it is compiled for."""

    kernel: Any
    grid: tuple[int, ...]
    blocks: Blocks
    arguments: tuple[Any, ...]
    flags: dict[str, Any]

    def constants(self) -> dict[str, Any]:
        """The flags, and the blocks as C, BK and BV where the kernel has them."""
        blocks = self.blocks
        sizes = {"C": blocks.tokens, "BK": blocks.keys, "BV": blocks.values}
        return self.flags | {name: n for name, n in sizes.items() if name in self.kernel.arg_names}

    def start(self) -> None:
        """On the device of its tensors: Triton would take the current one."""
        # Triton's interpreter makes plain functions, which torch does not wrap.
        kernel = wrap_triton(self.kernel) if isinstance(self.kernel, JITFunction) else self.kernel
        device = next(each.device for each in self.arguments if isinstance(each, Tensor))
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            kernel[self.grid](
                *self.arguments,
                **self.constants(),
                num_warps=self.blocks.warps,
                num_stages=self.blocks.stages,
            )


_notes: ContextVar[list[Launch] | None] = ContextVar("notes", default=None)


@contextmanager
def noted() -> Iterator[list[Launch]]:
    """Within it launches are noted and not started: outputs hold what their memory held before."""
    notes: list[Launch] = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def launch(kernel: Any, grid: Sequence[int], blocks: Blocks, *arguments: Any, **flags: Any) -> None:
    """Starts `kernel` on the grid with the blocks; flags are compiled into it."""
    made = Launch(kernel, tuple(grid), blocks, arguments, flags)
    notes = _notes.get()
    if notes is None:
        made.start()
    else:
        notes.append(made)
