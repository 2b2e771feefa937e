"""What is linear attention? The definition: query by query, a weighted mean over the keys seen."""

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

FeatureMap = Literal["relu", "elu1", "identity"]
FEATURE_MAPS: tuple[FeatureMap, ...] = get_args(FeatureMap)
Weight = Callable[[int, int, Tensor], Tensor]
"""Of the batch row, the query's position and the keys' positions (n,): a weight a key, (n,)."""


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "relu",
    causal: bool = False,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
    eps: float = 1e-6,
    weight: Weight | None = None,
) -> Tensor:
    """o_i = sum_j s_ij v_j / max(sum_j s_ij, eps), s_ij = phi(q_i) . phi(k_j) weight(i, j).

    j runs over the true keys, with causal over those up to i. Padded queries are zero. Shapes as in
    operator.py; the result is fp32 (fp64 for fp64 inputs).
    """
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    rows = [q.new_zeros(0, *q.shape[1:3], v.shape[3])]
    for b in range(q.shape[0]):
        queries = q.shape[2] if query_lengths is None else int(query_lengths[b])
        keys = k.shape[2] if key_lengths is None else int(key_lengths[b])
        outputs = []
        for i in range(queries):
            seen = min(keys, i + 1) if causal else keys
            scores = (phi(q[b, :, i, None], feature_map) * phi(k[b, :, :seen], feature_map)).sum(-1)
            if weight is not None:
                scores = scores * weight(b, i, torch.arange(seen, dtype=dtype, device=q.device))
            total = scores.sum(-1, keepdim=True).clamp(min=eps)
            outputs.append((scores[..., None] * v[b, :, :seen]).sum(-2) / total)
        padding = q.new_zeros(q.shape[1], q.shape[2] - queries, v.shape[3])
        rows.append(torch.cat([*(each[:, None] for each in outputs), padding], dim=1)[None])
    return torch.cat(rows)


def phi(x: Tensor, feature_map: FeatureMap) -> Tensor:
    """relu(x), elu(x) + 1, or x itself."""
    if feature_map == "relu":
        return x.relu()
    return functional.elu(x) + 1 if feature_map == "elu1" else x
