"""What is cosFormer attention? The definition, as a weighted mean over all pairs of tokens."""

import math

import torch
from torch import Tensor


def cosformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    norm_length: Tensor | int | None = None,
    lengths: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """o_i = sum_j s_ij v_j / max(sum_j s_ij, eps), j < length, with the scores of cosFormer.

    s_ij = relu(q_i) . relu(k_j) cos((pi/2)(i - j)/M) (Qin et al. 2022, arXiv:2202.08791, eq. 10).
    M = norm_length, or the true length of the row. Queries at M and beyond are padding and stand at
    M - 1. Shapes as in torch_form.py; the result is fp32 (fp64 for fp64 inputs).
    """
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
    rows = []
    for b in range(q.shape[0]):
        keys = k.shape[2] if lengths is None else int(lengths[b])
        # With as many queries as keys the lengths are those of the queries too.
        queries = keys if q.shape[2] == k.shape[2] else q.shape[2]
        m = float(max(queries, keys, 1))
        if norm_length is not None:
            m = float(norm_length[b] if isinstance(norm_length, Tensor) else norm_length)
        i = torch.arange(q.shape[2], dtype=dtype, device=q.device).clamp(max=m - 1)
        j = torch.arange(keys, dtype=dtype, device=q.device)
        weights = torch.cos(math.pi / 2 * (i[:, None] - j[None, :]) / m)
        scores = weights * (q[b].relu() @ k[b, :, :keys].relu().transpose(-1, -2))
        total = scores.sum(dim=-1, keepdim=True)
        rows.append(scores @ v[b, :, :keys] / total.clamp(min=eps))
    return torch.stack(rows)
