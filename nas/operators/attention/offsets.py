"""What do relative positions in a sequence add to scores and values? One table row per offset.

Queries (..., N, K) are the last N of S tokens. A table (E, K) has rows for offsets j - i from
-reach on, which serve farther pairs too, to reach, or to 0 where no later key is seen. Pairs are
put in order by padding and reshaping alone, so that gradients do not depend on the order of sums.
"""

from __future__ import annotations

from typing import Any


def reachable(table: Any, limit: int, keys: int) -> Any:
    """The rows of a table with offsets from -limit on that S = `keys` tokens can stand apart."""
    reach = min(limit, keys - 1)
    return table[limit - reach : limit + reach + 1]


def key_scores(q: Any, table: Any, limit: int, keys: int) -> Any:
    """q_i . a_ij of queries (..., N, K): (..., N, S)."""
    import torch

    table = reachable(table, limit, keys)
    by_offset = q @ table.transpose(0, 1)
    queries, rows = by_offset.shape[-2:]
    before = keys - 1 - min(limit, keys - 1)
    first = by_offset[..., :1].expand(*by_offset.shape[:-1], before)
    last = by_offset[..., -1:].expand(*by_offset.shape[:-1], 2 * keys - before - rows)
    # Offsets from 1 - S to S; in rows that are one shorter each query's keys lie one further left.
    flat: Any = torch.cat([first, by_offset, last], dim=-1).flatten(-2)[..., queries - 1 : -1]
    return flat.unflatten(-1, (queries, 2 * keys - 1))[..., :keys]


def weighted_values(weights: Any, table: Any, limit: int) -> Any:
    """sum_j w_ij b_ij of weights (..., N, S): (..., N, K)."""
    import torch
    from torch.nn.functional import pad

    queries, keys = weights.shape[-2:]
    table = reachable(table, limit, keys)
    if len(table) == 1:
        return weights.sum(-1, keepdim=True) @ table
    flat: Any = pad(pad(weights, (0, keys - 1)).flatten(-2), (queries - 1, 1))
    by_offset = flat.unflatten(-1, (queries, 2 * keys))
    before = keys - min(limit, keys - 1)
    between = len(table) - 2
    far, near, ahead = by_offset.split([before, between, 2 * keys - before - between], dim=-1)
    return torch.cat([far.sum(-1, True), near, ahead.sum(-1, True)], dim=-1) @ table
