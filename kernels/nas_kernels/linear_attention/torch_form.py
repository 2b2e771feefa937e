"""How is linear attention done by plain operators of torch? The CPU's form, and what is exported.

Legend: B batch, H heads, T queries, S keys, K key width, V value width, R feature width, C chunk.
"""

import torch
from torch import Tensor
from torch.nn import functional

from nas_kernels import blocks
from nas_kernels.arguments import padding_of
from nas_kernels.linear_attention import features
from nas_kernels.linear_attention.reference import FeatureMap, phi
from nas_kernels.precision import autocast_off, sum_dtype

CHUNK = 64
"""Tokens in whose square the causal form computes scores; between chunks it carries a state."""


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap,
    norm: Tensor | None,
    causal: bool,
    query_lengths: Tensor | None,
    key_lengths: Tensor | None,
    eps: float,
) -> Tensor:
    """As operator.py says; the inputs are taken as checked. norm is M of each row, or None."""
    with autocast_off(q.device.type):
        dtype = sum_dtype(q.dtype)

        def featured(x: Tensor, lengths: Tensor | None) -> Tensor:
            x = phi(_true(x.to(dtype), lengths), feature_map)
            # Again: phi(0) need not be 0.
            return _true(x if norm is None else features.turned(x, norm), lengths)

        keys, values = featured(k, key_lengths), _true(v.to(dtype), key_lengths)
        if causal:
            found = _causal(featured(q, query_lengths), keys, values)
        else:
            # As one more column of the state the normaliser comes out of the queries' product.
            total = keys.sum(dim=-2)[..., None]
            state = torch.cat([keys.transpose(-1, -2) @ values, total], dim=-1)
            found = featured(q, query_lengths) @ state
        # split and not slices: its backward is one concatenation instead of two padded copies.
        weighted, total = torch.split(found, [v.shape[3], 1], dim=-1)
        return (weighted * total.clamp(min=eps).reciprocal()).to(q.dtype)


def _causal(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """(B, H, T, V + 1): the state of all chunks before, and the scores within one's own."""
    tokens = queries.shape[2]
    # A key that is missing has no features; one behind the last query is seen by none.
    values = torch.cat([values, values.new_ones(()).expand(*values.shape[:3], 1)], dim=-1)
    # In a traced graph the number of tokens is open.
    if not torch.compiler.is_compiling() and max(tokens, keys.shape[2]) <= CHUNK:
        # One chunk, of a sentence say, has none before it, and as many scores as tokens.
        return (queries @ keys.transpose(-1, -2)).tril() @ values
    number = blocks.count(tokens, CHUNK)
    q, k, v = (blocks.blocks(each, number, CHUNK) for each in (queries, keys, values))
    states = (k.transpose(-1, -2) @ v).cumsum(dim=2)
    before = functional.pad(states[:, :, :-1], (0, 0, 0, 0, 1, 0))
    scores = (q @ k.transpose(-1, -2)).tril()
    return blocks.joined(q @ before + scores @ v, tokens)


def _true(x: Tensor, lengths: Tensor | None) -> Tensor:
    # What lies in padding may be NaN, and the gradient of a map at NaN is NaN even times zero.
    return x if lengths is None else x.masked_fill(padding_of(lengths, x), 0)
