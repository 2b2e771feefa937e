"""Which tensors are the operators tested with, where do they lie, and how near must a form come?"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor

from nas_kernels.dispatch import Backend

Sizes = tuple[int, int, int, int, int, int]
"""B, H, T, S, K, V."""
Options = dict[str, Any]

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
"""Where a tensor must lie that the Triton form is to take."""
EACH_FORM = [
    pytest.param("torch", id="torch"),
    # With a GPU this is the kernels themselves, without one it is Triton's interpreter.
    pytest.param("triton", id="triton", marks=[pytest.mark.gpu] if GPU else []),
]
each_form = pytest.mark.parametrize("form", EACH_FORM)

# One query, lengths around a chunk's and a span's ends, odd and wide widths, both ways of crossing.
SMALL: dict[str, Sizes] = {
    "one-query": (2, 1, 1, 15, 8, 8),
    "one-key": (1, 1, 5, 1, 8, 5),
    "two": (1, 1, 2, 2, 16, 16),
    "odd-widths": (2, 1, 17, 17, 15, 7),
    "wide-heads": (1, 1, 16, 15, 60, 64),
    "a-chunk-and-one": (1, 1, 65, 65, 8, 16),
    "cross-few-keys": (1, 1, 68, 17, 8, 8),
    "cross-few-queries": (1, 1, 17, 68, 8, 8),
}
LENGTHS = (1, 2, 15, 16, 17, 63, 64, 65, 100, 197, 257, 1000)
WIDTHS = (8, 16, 32, 60, 64, 128)


def every_size() -> Iterator[Sizes]:
    """Each length with each width, as many queries as keys and fewer or more."""
    for place, tokens in enumerate(LENGTHS):
        for turn, width in enumerate(WIDTHS):
            other = LENGTHS[(place + turn) % len(LENGTHS)]
            # The definition's loop over time is slow where it is long.
            rows, heads = (2, 3) if tokens < 197 else (1, 1)
            yield rows, rows, tokens, tokens, width, width
            yield 1, heads, tokens, other, width, WIDTHS[(turn + 1) % len(WIDTHS)]


def named(sizes: Sizes) -> str:
    return "B{}-H{}-T{}-S{}-K{}-V{}".format(*sizes)


def draw(sizes: Sizes, seed: int = 0) -> list[Tensor]:
    """q, k, v and an output gradient in fp64, in host memory."""
    batch, heads, queries, keys, width, columns = sizes
    generator = torch.Generator().manual_seed(seed)
    shapes = [(queries, width), (keys, width), (keys, columns), (queries, columns)]
    return [torch.randn(batch, heads, *s, generator=generator, dtype=torch.float64) for s in shapes]


def placed(sizes: Sizes, seed: int = 0) -> list[Tensor]:
    """The same in fp32, where every form takes them."""
    return [each.float().to(DEVICE) for each in draw(sizes, seed)]


def ragged(batch: int, longest: int, seed: int) -> Tensor:
    """Lengths of 0 or 1 in the first of several rows, and of at least 12 in the last one."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(0, longest + 1, (batch,), generator=generator)
    if batch > 1:
        lengths[0] = min(seed % 2, longest)
    # Where no query sees more than a few keys, gradients cancel, and there is little to compare.
    lengths[-1] = lengths[-1].clamp(min=min(12, longest))
    return lengths


Layout = Callable[[Tensor], Tensor]


def as_projected(x: Tensor) -> Tensor:
    """As a projection leaves it: (B, N, H, width) seen as (B, H, N, width)."""
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def columns_first(x: Tensor) -> Tensor:
    """(B, H, width, N) seen as (B, H, N, width)."""
    return x.transpose(-1, -2).contiguous().transpose(-1, -2)


def every_second_column(x: Tensor) -> Tensor:
    """Columns of a tensor twice as wide, between which lies NaN."""
    return torch.stack([x, torch.full_like(x, float("nan"))], dim=-1).flatten(-2)[..., ::2]


def one_head_for_all(x: Tensor) -> Tensor:
    return x[:, :1].expand_as(x)


def one_number(x: Tensor) -> Tensor:
    """As the gradient of a sum: every stride is 0."""
    return x[:1, :1, :1, :1].expand_as(x)


SHARED: list[Layout] = [as_projected, columns_first, every_second_column]
LAYOUTS: list[tuple[Layout, ...]] = [
    tuple(
        [*SHARED, one_number if tensor == 3 else one_head_for_all][(case + tensor) % 4]
        for tensor in range(4)
    )
    for case in range(4)
]
"""Of q, k, v and the output gradient; each has each layout once."""


def bound(form: Backend, dtype: torch.dtype) -> float:
    """Relative RMS error that a form may have in a dtype."""
    if dtype in (torch.bfloat16, torch.float16):
        return 1e-2
    return tf32_or(form, 1e-12 if dtype == torch.float64 else 1e-5)


def tf32_or(form: Backend, error: float) -> float:
    """The bound where products of fp32 are made as tf32, and `error` where they are not."""
    return 2e-3 if GPU and form == "triton" else error


FEW = 8
"""Keys of which the mean has a gradient by its weights that rounded products may drown."""


def rounds(form: Backend, dtype: torch.dtype) -> bool:
    """Are products or the output rounded to less than fp32?"""
    return dtype in (torch.bfloat16, torch.float16) or (GPU and form == "triton")


def keys_seen(
    sizes: Sizes,
    *,
    causal: bool,
    window: int | None = None,
    key_lengths: Tensor | None = None,
    query_lengths: Tensor | None = None,
    **_: Any,
) -> Tensor:
    """(B, T): how many keys each query sees, 0 for padding."""
    queries, keys = sizes[2:4]
    i = torch.arange(queries)
    end = (torch.tensor([keys]) if key_lengths is None else key_lengths)[:, None].expand(
        -1, queries
    )
    near = max(sizes) if window is None else window
    end = torch.minimum(end, i + 1 + (0 if causal else near))
    true = i < (torch.tensor([queries]) if query_lengths is None else query_lengths)[:, None]
    return (end - (i - near).clamp(min=0)).clamp(min=0) * true


def gradients_to_ask(grad: Tensor, seen: Tensor, rounded: bool) -> list[tuple[Tensor, bool]]:
    """Output gradients to compare with, and whether by the size of the largest of q's, k's and v's.

    By the weight of a single value there is no gradient, by a few there is little, and rounding is
    left. Where that is fp32's, it counts only if no query sees more. In tf32 and bf16 it is as
    large as other queries' gradients, which are asked for a second time, alone.
    """
    if not rounded:
        return [(grad, int(seen.max()) <= 1)]
    many = (seen > FEW).to(grad.device)
    asked = [(grad, True)]
    if many.any():
        asked.append((grad * many[:, None, :, None], False))
    return asked


@contextmanager
def poisoned_memory() -> Iterator[None]:
    """Within it, memory that is taken and not written holds NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    warned = torch.is_deterministic_algorithms_warn_only_enabled()
    with warnings.catch_warnings():
        # It is deterministic mode that fills memory; which operators it dislikes is not asked here.
        warnings.simplefilter("ignore")
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
