"""What is window attention? Softmax attention, query by query, over the keys that lie near."""

import math

import torch
from torch import Tensor


def window_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    window: int,
    causal: bool = False,
    key_lengths: Tensor | None = None,
) -> Tensor:
    """o_i = sum_j softmax_j(q_i . k_j / sqrt(K)) v_j over true keys with |i - j| <= window.

    With causal over those up to i. A query that sees no key comes out as 0. Shapes as in
    operator.py; the result is fp32 (fp64 for fp64 inputs).
    """
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    rows = [q.new_zeros(0, *q.shape[1:3], v.shape[3])]
    for b in range(q.shape[0]):
        keys = k.shape[2] if key_lengths is None else int(key_lengths[b])
        outputs = []
        for i in range(q.shape[2]):
            first, end = max(0, i - window), min(keys, i + 1 if causal else i + window + 1)
            seen = slice(first, max(first, end))
            scores = (q[b, :, i, None] * k[b, :, seen]).sum(-1) / math.sqrt(q.shape[3])
            outputs.append((scores.softmax(-1)[..., None] * v[b, :, seen]).sum(-2))
        rows.append(torch.stack(outputs, dim=1)[None])
    return torch.cat(rows)
