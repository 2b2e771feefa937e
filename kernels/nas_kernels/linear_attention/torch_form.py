"""How is linear attention done fast? As two batched products whose cost is linear in the tokens."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from nas_kernels.linear_attention.reference import FeatureMap
from nas_kernels.shapes import check_inputs, padding_of, sum_dtype


def linear_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    feature_map: FeatureMap = "elu1",
    lengths: Tensor | None = None,
    eps: float = 1e-6,
) -> Tensor:
    """Bidirectional linear attention (Katharopoulos et al. 2020, arXiv:2006.16236).

    o_i = phi(q_i) [sum_j phi(k_j)^T v_j] / max(phi(q_i) . sum_j phi(k_j), eps), phi = relu or
    elu + 1, j over the true keys. No 1/sqrt(K): a scale of the scores cancels.

    Args:
        q: (B, H, N, K).
        k: (B, H, S, K).
        v: (B, H, S, V).
        feature_map: "relu" or "elu1".
        lengths: (B,) true number of keys of each batch row, the rest is padding at the end and may
            hold anything; None means S. Finite queries give finite rows, padding or not.
        eps: lower bound of the normaliser.

    Returns:
        (B, H, N, V) in the inputs' dtype, summed in fp32 (fp64 for fp64), also under autocast.

    Raises:
        ValueError: shapes, dtypes or lengths that do not fit, or an unknown feature_map.
    """
    check_inputs(q, k, v, lengths)
    if feature_map not in get_args(FeatureMap):
        allowed = ", ".join(get_args(FeatureMap))
        raise ValueError(f"feature_map is {feature_map!r}, expected one of {allowed}")
    phi = functional.relu if feature_map == "relu" else _elu1
    return feature_attention(q, k, v, phi, lengths=lengths, eps=eps)


def feature_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    phi: Callable[[Tensor], Tensor],
    *,
    lengths: Tensor | None,
    eps: float,
) -> Tensor:
    """Linear attention with any non-negative feature map; the inputs are taken as checked.

    phi maps (B, H, T, K), T = N or S, in the dtype of the sums to (B, H, T, R), finite on zeros.
    """
    dtype = sum_dtype(q.dtype)
    with _autocast_off(q.device.type):
        query, key, value = q.to(dtype), k.to(dtype), v.to(dtype)
        if lengths is None:
            features = phi(key)
        else:
            padding = padding_of(lengths, k)
            # Keys too and not features alone: the gradient of phi at NaN is NaN even times zero.
            features = phi(key.masked_fill(padding, 0)).masked_fill(padding, 0)
            value = value.masked_fill(padding, 0)
        # As one more column of the state the normaliser comes out of the product of the queries.
        normaliser = features.sum(dim=-2)[..., None]
        state = torch.cat([features.transpose(-1, -2) @ value, normaliser], dim=-1)
        # split and not slices: its backward is one concatenation instead of two padded copies.
        weighted, total = torch.split(phi(query) @ state, [v.shape[3], 1], dim=-1)
        return (weighted * total.clamp(min=eps).reciprocal()).to(q.dtype)


def _elu1(x: Tensor) -> Tensor:
    return functional.elu(x) + 1


def _autocast_off(device_type: str) -> AbstractContextManager[None]:
    # The meta device, used for counting, knows no autocast.
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
