"""How is one call of attention drawn, checked, timed and weighed? On a CPU or on a GPU."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from nas_kernels.testing import assert_close

LONGEST_DEFINITION = 300
BOUNDS = {torch.bfloat16: 1e-2, torch.float32: 1e-5}

Core = Callable[[Tensor, Tensor, Tensor], Tensor]
Once = Callable[[int], object]


@dataclass(frozen=True)
class Shape:
    """One point of the table; q, k and v are (B, H, T, K)."""

    batch: int
    heads: int
    length: int
    head_width: int

    def draw(self, device: str, dtype: torch.dtype) -> list[Tensor]:
        """q, k, v and an output gradient."""
        torch.manual_seed(0)
        size = (self.batch, self.heads, self.length, self.head_width)
        return [torch.randn(size, device=device, dtype=dtype) for _ in range(4)]


def check(name: str, core: Core, shape: Shape, device: str, dtype: torch.dtype) -> None:
    """Raises `AssertionError` where output or gradients are not those of the definition.

    On a GPU also where they are not those of the torch form at the shape itself.
    """
    small = Shape(1, 2, min(shape.length, LONGEST_DEFINITION), shape.head_width)
    agree(name, core, "reference", small, device, dtype)
    if device != "cpu":
        agree(name, core, "torch", shape, device, dtype)


@cache
def agree(
    name: str, core: Core, backend: str, shape: Shape, device: str, dtype: torch.dtype
) -> None:
    """Raises `AssertionError` where a core differs from another of its forms, taken in fp32."""
    *tensors, grad = shape.draw(device, dtype)
    fast = [each.clone().requires_grad_() for each in tensors]
    slow = [each.float().requires_grad_() for each in tensors]
    got, want = core(*fast), core(*slow, backend=backend)  # type: ignore[call-arg]
    where = f"{name} against backend {backend!r}, {shape}"
    assert_close(f"{where}: o", got, want, BOUNDS[dtype])
    found = torch.autograd.grad(got, fast, grad)
    wanted = torch.autograd.grad(want, slow, grad.float())
    for each, one, other in zip("qkv", found, wanted, strict=True):
        assert_close(f"{where}: d{each}", one, other, BOUNDS[dtype])


def timed(core: Core, tensors: list[Tensor], backward: bool) -> Once:
    """One call, finished on the device when it returns; `tensors` end with the output gradient."""
    *inputs, grad = tensors
    inputs = [each.detach().requires_grad_(backward) for each in inputs]

    def once(_: int) -> None:
        out = core(*inputs)
        if backward:
            torch.autograd.grad(out, inputs, grad)
        if grad.is_cuda:
            torch.cuda.synchronize()

    return once


def peak_bytes(call: Once) -> int:
    """Bytes of GPU memory that one call holds at most beside what was there."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call(0)
    return torch.cuda.max_memory_allocated() - before


def copy_bandwidth() -> float:
    """Bytes a second that a copy of 1 GiB on the GPU reads and writes, median of 20."""
    given = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    taken = torch.empty_like(given)
    seconds = []
    for _ in range(25):
        torch.cuda.synchronize()
        start = time.perf_counter()
        taken.copy_(given)
        torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return 2 * given.numel() / sorted(seconds[5:])[10]


def least_bytes(tensors: list[Tensor], backward: bool) -> int:
    """q, k, v read and o written once; backward also g and o read and dq, dk, dv written."""
    one = tensors[0].numel() * tensors[0].element_size()
    return one * (4 + (8 if backward else 0))
