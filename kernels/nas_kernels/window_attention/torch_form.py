"""How is window attention done by plain operators of torch? Block by block, over the keys near it.

Legend: B batch, H heads, T queries, S keys, K key width, V value width, C queries a block, U keys
that a block may see.
"""

import math

import torch
from torch import Tensor

from nas_kernels import blocks
from nas_kernels.arguments import blanked
from nas_kernels.precision import autocast_off, sum_dtype

LEAST_BLOCK = 64
"""Queries a block at least: a narrow window would leave products too small to be fast."""
WIDEST_EXPORTED = 1024
"""The widest window that an exported program goes over by blocks; a wider one takes all pairs."""


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    causal: bool,
    key_lengths: Tensor | None,
) -> Tensor:
    """As operator.py says; the inputs are taken as checked."""
    with autocast_off(q.device.type):
        dtype = sum_dtype(q.dtype)
        query, key, value = q.to(dtype) / math.sqrt(q.shape[3]), k.to(dtype), v.to(dtype)
        if key_lengths is not None:
            key, value, _ = blanked(key, value, key_lengths)
        ahead = 0 if causal else window
        ends = _ends(key_lengths, k)
        if blocks_pay(q, k, window, causal):
            return _by_blocks(query, key, value, window, ahead, ends).to(q.dtype)
        i = torch.arange(q.shape[2], device=q.device)[:, None]
        j = torch.arange(k.shape[2], device=q.device)
        seen = _near(i, j, window, ahead) & (j < ends[:, None, None, None])
        return _mixed(query, key.transpose(-1, -2), value, seen).to(q.dtype)


def blocks_pay(q: Tensor, k: Tensor, window: int, causal: bool) -> bool:
    """Whether blocks of queries with the keys around them are fewer pairs than all of them."""
    if torch.compiler.is_exporting():
        # The length that would tell is not known.
        return window <= WIDEST_EXPORTED
    block = max(LEAST_BLOCK, window)
    around = window + block + (0 if causal else window)
    return blocks.count(q.shape[2], block) * block * around < q.shape[2] * k.shape[2]


def _by_blocks(q: Tensor, k: Tensor, v: Tensor, behind: int, ahead: int, ends: Tensor) -> Tensor:
    """(B, H, T, V): each block of C queries with the U keys around it."""
    block = max(LEAST_BLOCK, behind)
    number = blocks.count(q.shape[2], block)
    keys, values = (blocks.blocks(each, number, block, behind, ahead) for each in (k, v))
    first = torch.arange(number, device=q.device)[:, None, None] * block
    i = first + torch.arange(block, device=q.device)[:, None]
    j = first - behind + torch.arange(behind + block + ahead, device=q.device)
    seen = _near(i, j, behind, ahead) & (j >= 0) & (j < ends[:, None, None, None, None])
    found = _mixed(blocks.blocks(q, number, block), keys.transpose(-1, -2), values, seen)
    return blocks.joined(found, q.shape[2])


def _near(i: Tensor, j: Tensor, behind: int, ahead: int) -> Tensor:
    return (j >= i - behind) & (j <= i + ahead)


def _mixed(q: Tensor, keys: Tensor, values: Tensor, seen: Tensor) -> Tensor:
    """The weighted means of values (..., U, V) that q (..., C, K) makes of keys (..., K, U)."""
    scores = (q @ keys).masked_fill(~seen, torch.finfo(q.dtype).min)
    # Where nothing is seen, the softmax of equal scores is not what is meant.
    return (scores.softmax(-1) * seen.any(-1, keepdim=True)) @ values


def _ends(key_lengths: Tensor | None, k: Tensor) -> Tensor:
    """(B,) or (1,): how many keys of a row are true."""
    if key_lengths is None:
        return torch.full((1,), k.shape[2], device=k.device)
    return key_lengths.to(k.device, non_blocking=True)
