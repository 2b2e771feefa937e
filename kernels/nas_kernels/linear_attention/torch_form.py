"""How is linear attention done by plain operators of torch? The CPU's form, and what is exported.

Legend: B batch, H heads, T queries, S keys, K key width, V value width, R feature width, C chunk.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from nas_kernels.arguments import padding_of
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
        features = _features(feature_map, norm, max(q.shape[2], k.shape[2]), dtype)

        def featured(x: Tensor, lengths: Tensor | None) -> Tensor:
            # Twice: phi(0) need not be 0.
            return _true(features(_true(x.to(dtype), lengths)), lengths)

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
    # A key behind the last query is seen by none; one that is missing has no features.
    values = torch.cat([values, values.new_ones(()).expand(*values.shape[:3], 1)], dim=-1)
    if torch.compiler.is_exporting():
        # Chunks would fix the length that a program is exported for.
        return (queries @ keys.transpose(-1, -2)).tril() @ values
    q, k, v = (_chunks(_cut(each, tokens)) for each in (queries, keys, values))
    states = (k.transpose(-1, -2) @ v).cumsum(dim=2)
    before = functional.pad(states[:, :, :-1], (0, 0, 0, 0, 1, 0))
    scores = (q @ k.transpose(-1, -2)).tril()
    return (q @ before + scores @ v).flatten(2, 3)[:, :, :tokens]


def _cut(x: Tensor, tokens: int) -> Tensor:
    """(B, H, N, R) with `tokens` tokens, those missing zero."""
    return functional.pad(x, (0, 0, 0, tokens - x.shape[2]))


def _chunks(x: Tensor) -> Tensor:
    """(B, H, N / C, C, R), the last chunk filled up with zeros."""
    filled = functional.pad(x, (0, 0, 0, -x.shape[2] % CHUNK))
    return torch.unflatten(filled, 2, (-1, CHUNK))


def _features(
    feature_map: FeatureMap, norm: Tensor | None, longest: int, dtype: torch.dtype
) -> Callable[[Tensor], Tensor]:
    """The map of tokens (B, H, N, K), N up to `longest`, to their features (B, H, N, R)."""
    if norm is None:
        return lambda x: phi(x, feature_map)
    m = norm[:, None, None].to(dtype)
    positions = torch.arange(longest, device=norm.device, dtype=dtype)
    # Who stands beyond M is padding, or M was not to be seen: no weight turns negative.
    at = torch.minimum(positions, m)
    # From the nearer end, where a cosine is small: rounding an angle near pi/2 would tell.
    turn = torch.stack([m - at, at], dim=-1).mul(math.pi / 2 / m[..., None]).sin()

    def turned(x: Tensor) -> Tensor:
        x = phi(x, feature_map)
        # cos(a - b) = cos a cos b + sin a sin b: each half of the features is one term.
        table = turn[..., : x.shape[2], :].repeat_interleave(x.shape[3], dim=-1)
        return torch.cat([x, x], dim=-1) * table

    return turned


def _true(x: Tensor, lengths: Tensor | None) -> Tensor:
    # What lies in padding may be NaN, and the gradient of a map at NaN is NaN even times zero.
    return x if lengths is None else x.masked_fill(padding_of(lengths, x), 0)
