"""With which blocks does a Triton form run? By a pinned table: a first call tries nothing out."""

from dataclasses import dataclass

import torch

from nas_kernels import device as device_of

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


CHUNKS = {
    ("fp32", False): {32: (64, 32, 4), 64: (64, 64, 8), 128: (64, 32, 8), 256: (16, 32, 8)},
    ("fp32", True): {32: (32, 32, 4), 64: (32, 64, 8), 128: (16, 64, 8), 256: (16, 32, 8)},
    ("bf16", False): {32: (64, 32, 4), 64: (64, 64, 4), 128: (64, 64, 8), 256: (64, 32, 8)},
    ("bf16", True): {32: (32, 32, 4), 64: (64, 32, 4), 128: (32, 64, 8), 256: (16, 32, 8)},
}
"""By operands and causality, and the wider of K and V: tokens, width of a tile's part, warps.

Chosen from benchmarks/kernel_resources.py: the largest that need no local memory, or the least, in
the shared memory of the smallest GPU that is supported (99 KiB a program, capability 8.6). One
table for all devices, until times tell them apart.
"""


def tiles(width: int, columns: int, *, whole: str, causal: bool, operands: torch.dtype) -> Blocks:
    """Blocks of a program that holds a state in registers.

    Args:
        width: K, key width in elements.
        columns: V, value width in elements.
        whole: which of the two the program must hold all of: "keys", "values" or "neither".
        causal: whether it computes scores within its chunk besides.
        operands: dtype of the products' operands, bf16 or fp32.
    """
    keys, values = padded(width), padded(columns)
    kind = "bf16" if operands == torch.bfloat16 else "fp32"
    widest = 64 if whole == "neither" else max(32, keys, values)
    tokens, part, warps = CHUNKS[kind, causal][widest]
    return Blocks(
        tokens=tokens,
        keys=keys if whole == "keys" else min(keys, part),
        values=values if whole == "values" else min(values, part),
        warps=warps,
        stages=_stages(widest),
    )


def square(width: int, columns: int, operands: torch.dtype) -> Blocks:
    """Blocks of a program that meets blocks of queries with blocks of keys, all of K and V wide."""
    keys, values = padded(width), padded(columns)
    widest = max(keys, values)
    # Operands that are twice as wide leave room for half as many tokens.
    room = 4096 if operands == torch.float32 else 8192
    return Blocks(
        tokens=min(64, room // widest),
        keys=keys,
        values=values,
        warps=8 if widest > 64 else 4,
        stages=_stages(widest),
    )


def _stages(widest: int) -> int:
    # Loads that run ahead take shared memory, which wide tiles do not leave.
    return 1 if widest >= 128 else 2


def padded(width: int) -> int:
    """The power of two that holds `width`, at least the 16 that a matrix unit takes."""
    return max(16, 1 << (width - 1).bit_length())


def spans(rows: int, tokens: int, device: torch.device) -> tuple[int, int]:
    """Into how many spans of how many tokens a sequence is cut so that a device is kept busy.

    Args:
        rows: programs that there are without cutting.
        tokens: length of the sequence.
    """
    wanted = -(-2 * device_of.processors(device) // max(rows, 1))
    cut = max(1, min(wanted, tokens // LEAST_SPAN))
    # Spans of whole chunks: a chunk never lies in two of them.
    span = -(-tokens // cut // 64) * 64
    return -(-tokens // span), span
