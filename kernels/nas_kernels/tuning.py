"""With which blocks does a Triton form run? By a pinned table: a first call tries nothing out."""

from dataclasses import dataclass
from functools import cache

import torch

LEAST_SPAN = 256
"""Tokens that are never cut: up to twice as many, one program goes over all of a sequence."""


@dataclass(frozen=True)
class Blocks:
    """Tile sizes of a program (chunk of tokens, key width, value width), warps, pipeline stages."""

    tokens: int
    keys: int
    values: int
    warps: int
    stages: int


def tiles(width: int, columns: int, *, whole: str) -> Blocks:
    """Blocks of a program that holds a state in registers.

    Args:
        width: K, key width in elements.
        columns: V, value width in elements.
        whole: which of the two the program must hold all of: "keys", "values" or "neither".
    """
    keys, values = padded(width), padded(columns)
    if whole != "keys":
        keys = min(keys, 64 if values <= 128 or whole == "neither" else 32)
    if whole != "values":
        values = min(values, 64 if keys <= 128 else 32)
    widest = max(keys, values)
    # Wide states take the registers of more warps, and leave less room for chunks.
    return Blocks(
        tokens=32 if widest > 128 else 64,
        keys=keys,
        values=values,
        warps=8 if widest > 64 else 4,
        stages=1 if widest > 128 else 2,
    )


def square(width: int, columns: int) -> Blocks:
    """Blocks of a program that meets blocks of queries with blocks of keys, all of K and V wide."""
    keys, values = padded(width), padded(columns)
    widest = max(keys, values)
    return Blocks(
        tokens=32 if widest > 128 else 64,
        keys=keys,
        values=values,
        warps=8 if widest > 64 else 4,
        stages=1 if widest > 128 else 2,
    )


def padded(width: int) -> int:
    """The power of two that holds `width`, at least the 16 that a matrix unit takes."""
    return max(16, 1 << (width - 1).bit_length())


def spans(rows: int, tokens: int, device: torch.device) -> tuple[int, int]:
    """Into how many spans of how many tokens a sequence is cut so that a device is kept busy.

    Args:
        rows: programs that there are without cutting.
        tokens: length of the sequence.
    """
    wanted = -(-2 * _processors(device) // max(rows, 1))
    cut = max(1, min(wanted, tokens // LEAST_SPAN))
    # Spans of whole chunks: a chunk never lies in two of them.
    span = -(-tokens // cut // 64) * 64
    return -(-tokens // span), span


@cache
def _processors(device: torch.device) -> int:
    if device.type != "cuda":
        # Triton's interpreter: as few as let small shapes take every path.
        return 8
    return int(torch.cuda.get_device_properties(device).multi_processor_count)
