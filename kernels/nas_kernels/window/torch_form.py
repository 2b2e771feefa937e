"""How is window attention done by plain operators of torch? Block by block, over the keys near it.

Legend: B batch, H heads, T queries, S keys, K key width, V value width, C queries a block, U keys
that a block may see.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from nas_kernels.arguments import blanked
from nas_kernels.precision import autocast_off, sum_dtype

LEAST_BLOCK = 64
"""Queries a block at least: a narrow window would leave products too small to be fast."""


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
        return _by_blocks(q, k, v, window, causal, key_lengths)


def _by_blocks(
    q: Tensor, k: Tensor, v: Tensor, window: int, causal: bool, key_lengths: Tensor | None
) -> Tensor:
    dtype = sum_dtype(q.dtype)
    query, key, value = q.to(dtype) / math.sqrt(q.shape[3]), k.to(dtype), v.to(dtype)
    if key_lengths is not None:
        key, value, _ = blanked(key, value, key_lengths)
    queries, keys = q.shape[2], k.shape[2]
    behind = min(window, max(queries, keys) - 1)
    ahead = 0 if causal else behind
    block = queries if behind >= max(queries, keys) - 1 else max(LEAST_BLOCK, behind)
    blocks = -(-queries // block)
    size = behind + block + ahead
    fill = (0, 0, behind, blocks * block + ahead - keys)
    # (B, H, T / C, C, K) against (B, H, T / C, U, K): each block with the keys around it.
    query = functional.pad(query, (0, 0, 0, blocks * block - queries)).unflatten(2, (-1, block))
    near_keys = functional.pad(key, fill).unfold(2, size, block)
    near_values = functional.pad(value, fill).unfold(2, size, block)
    allowed = _allowed(blocks, block, behind, ahead, _ends(key_lengths, k))
    scores = (query @ near_keys).masked_fill(~allowed, torch.finfo(dtype).min)
    # Where nothing is seen, the softmax of equal scores is not what is meant.
    weights = scores.softmax(-1) * allowed.any(-1, keepdim=True)
    found = weights @ near_values.transpose(-1, -2)
    return found.flatten(2, 3)[:, :, :queries].to(q.dtype)


def _ends(key_lengths: Tensor | None, k: Tensor) -> Tensor:
    if key_lengths is None:
        return torch.full((1,), k.shape[2], device=k.device)
    return key_lengths.to(k.device, non_blocking=True)


def _allowed(blocks: int, block: int, behind: int, ahead: int, ends: Tensor) -> Tensor:
    """(B or 1, 1, T / C, C, U) bool: may this query of a block see this one of the keys around?"""
    size = behind + block + ahead
    first = torch.arange(blocks, device=ends.device)[:, None, None] * block
    i = first + torch.arange(block, device=ends.device)[:, None]
    j = first - behind + torch.arange(size, device=ends.device)
    near = (j >= i - behind) & (j <= i + ahead) & (j >= 0)
    return near & (j < ends[:, None, None, None, None])
