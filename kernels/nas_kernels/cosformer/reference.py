"""What is cosFormer attention? Linear attention with scores weighed by the tokens' distance."""

import math

import torch
from torch import Tensor

from nas_kernels.arguments import norm_lengths
from nas_kernels.linear_attention import reference


def cosformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    causal: bool = False,
    query_lengths: Tensor | None = None,
    key_lengths: Tensor | None = None,
    norm_length: Tensor | float | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """s_ij = relu(q_i) . relu(k_j) cos((pi/2)(i - j)/M) (Qin et al. 2022, arXiv:2202.08791).

    Shapes and M as in operator.py; the result is fp32 (fp64 for fp64 inputs). A position beyond M
    counts as M.
    """
    norms = norm_lengths(norm_length, q, k, query_lengths, key_lengths).expand(q.shape[:1])

    def weight(row: int, query: int, keys: Tensor) -> Tensor:
        m = norms[row].to(keys.dtype)
        return torch.cos(math.pi / 2 * (m.clamp(max=query) - torch.minimum(keys, m)) / m)

    return reference.linear_attention(
        q, k, v, feature_map="relu", causal=causal, query_lengths=query_lengths,
        key_lengths=key_lengths, eps=eps, weight=weight,
    )  # fmt: skip
