"""What is linear attention? The definition, as a weighted mean over all pairs of tokens."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

FeatureMap = Literal["relu", "elu1"]


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "elu1",
    lengths: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """o_i = sum_j s_ij v_j / max(sum_j s_ij, eps), s_ij = phi(q_i) . phi(k_j), j < length.

    q (B, H, N, K), k (B, H, S, K), v (B, H, S, V), lengths (B,) -> (B, H, N, V) in fp32 (fp64 for
    fp64 inputs). phi is relu, or elu + 1 (Katharopoulos et al. 2020, arXiv:2006.16236, eq. 7).
    """
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    rows = []
    for b in range(q.shape[0]):
        keys = k.shape[2] if lengths is None else int(lengths[b])
        scores = phi(q[b], feature_map) @ phi(k[b, :, :keys], feature_map).transpose(-1, -2)
        total = scores.sum(dim=-1, keepdim=True)
        rows.append(scores @ v[b, :, :keys] / total.clamp(min=eps))
    return torch.stack(rows)


def phi(x: Tensor, feature_map: FeatureMap) -> Tensor:
    """The feature map, element by element."""
    return functional.relu(x) if feature_map == "relu" else functional.elu(x) + 1
