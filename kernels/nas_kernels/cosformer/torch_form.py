"""How is cosFormer attention done fast? As linear attention with features that carry positions."""

import math

import torch
from torch import Tensor

from nas_kernels.linear_attention.torch_form import feature_attention
from nas_kernels.shapes import check_inputs, sum_dtype


def cosformer_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    norm_length: Tensor | int | None = None,
    lengths: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Bidirectional cosFormer attention (Qin et al. 2022, arXiv:2202.08791).

    s_ij = relu(q_i) . relu(k_j) cos((pi/2)(i - j)/M), o_i = sum_j s_ij v_j / max(sum_j s_ij, eps),
    j over the true keys. No 1/sqrt(K): a scale of the scores cancels.

    Args:
        q: (B, H, N, K).
        k: (B, H, S, K).
        v: (B, H, S, V).
        norm_length: M in tokens, one number or (B,), at least the true lengths and at least 1. None
            means the true length of each row: its lengths entry where N = S (self-attention), else
            max(N, its lengths entry). Cross-attention over padded queries must give it, since the
            true number of queries is not among the arguments. A query at M or beyond is taken for
            padding and stands at M - 1, so that no weight is ever negative.
        lengths: (B,) true number of keys of each batch row, the rest is padding at the end and may
            hold anything; None means S. Finite queries give finite rows, padding or not.
        eps: lower bound of the normaliser.

    norm_length and lengths are checked where they lie: in host memory at no cost, on an accelerator
    by waiting for it (a plain number of at least max(N, S) needs no comparison on the device).

    Returns:
        (B, H, N, V) in the inputs' dtype, summed in fp32 (fp64 for fp64), also under autocast.

    Raises:
        ValueError: shapes, dtypes or lengths that do not fit, or a norm_length below a true length.
    """
    check_inputs(q, k, v, lengths)
    if norm_length is None:
        norm_length = _true_length(q.shape[2], k.shape[2], lengths)
    else:
        _check_norm_length(norm_length, q, k, lengths)
    longest = max(q.shape[2], k.shape[2])
    angles = _angles(norm_length, longest, q.device, sum_dtype(q.dtype))
    table = torch.stack([angles.cos(), angles.sin()], dim=-1)
    # cos(a_i - a_j) = cos a_i cos a_j + sin a_i sin a_j: each half of the features is one term.
    table = table.repeat_interleave(q.shape[3], dim=-1)

    def features(x: Tensor) -> Tensor:
        x = x.relu()
        return torch.cat([x, x], dim=-1) * table[..., : x.shape[2], :]

    return feature_attention(q, k, v, features, lengths=lengths, eps=eps)


def _true_length(queries: int, keys: int, lengths: Tensor | None) -> Tensor | int:
    if lengths is None:
        return max(queries, keys, 1)
    return lengths.clamp(min=1 if queries == keys else max(queries, 1))


def _check_norm_length(
    norm_length: Tensor | int, q: Tensor, k: Tensor, lengths: Tensor | None
) -> None:
    longest = max(q.shape[2], k.shape[2], 1)
    if isinstance(norm_length, Tensor):
        if norm_length.shape != q.shape[:1]:
            shape = tuple(norm_length.shape)
            raise ValueError(f"norm_length has shape {shape}, expected ({q.shape[0]},)")
        needed = longest if lengths is None else lengths.to(norm_length.device).clamp(min=1)
        enough = bool((norm_length >= needed).all())
    elif norm_length >= longest or lengths is None:
        enough = norm_length >= longest
    else:
        enough = norm_length >= 1 and bool((lengths <= norm_length).all())
    if not enough:
        got = norm_length.tolist() if isinstance(norm_length, Tensor) else norm_length
        true = longest if lengths is None else lengths.tolist()
        raise ValueError(
            f"norm_length is {got}, expected at least 1 and at least the true length, {true}: "
            "the weights cos((pi/2)(i - j)/M) would turn negative"
        )


def _angles(
    norm_length: Tensor | int, count: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    # (count,) for one M, (B, 1, count) for one M a batch row: both broadcast over the heads.
    positions = torch.arange(count, device=device, dtype=dtype)
    if not isinstance(norm_length, Tensor):
        return positions.clamp(max=norm_length - 1) * (math.pi / 2) / norm_length
    m = norm_length.to(device, dtype, non_blocking=True)[:, None, None]
    return torch.minimum(positions, m - 1) * (math.pi / 2) / m
