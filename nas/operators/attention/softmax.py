"""Scaled dot-product attention (Vaswani et al., 2017) through torch's fused kernel."""

from __future__ import annotations

from typing import Any

from nas.operators.attention.pairs import is_causal, later, pair_macs, without_padding
from nas.operators.declaration import (
    NO_OPTIONS,
    Attention,
    AttentionContext,
    Options,
    Own,
    Parameter,
    Site,
    Sizes,
)


class Softmax(Attention):
    """o_i = sum_j softmax_j(q_i . k_j / sqrt(d)) v_j."""

    name = "softmax"
    sites: frozenset[Site] = frozenset({"encoder_self", "decoder_self", "cross"})
    options = NO_OPTIONS
    efficient = False

    def parameters(self, options: Options, sizes: Sizes) -> dict[str, Parameter]:
        return {}

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        return pair_macs(sizes) * sizes["heads"] * sizes["head_width"]

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        # The fused kernel keeps one running maximum and sum a row, never the score matrix.
        return 2 * sizes["tokens"] * sizes["heads"]

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        from torch.nn.functional import scaled_dot_product_attention

        k, v, unseen = without_padding(q, k, v, context)
        causal = is_causal(q, k, context)
        if _plainly(q, k):
            return _plain(q, k, v, _joined(unseen, later(q, k)) if causal else unseen)
        if causal and q.shape[2] == k.shape[2]:
            # Padding lies behind all true tokens, and the kernel skips what is later.
            return scaled_dot_product_attention(q, k, v, is_causal=True)
        if causal:
            unseen = _joined(unseen, later(q, k))
        mask = None if unseen is None else ~unseen
        return scaled_dot_product_attention(q, k, v, attn_mask=mask)


# Up to so many keys the score matrix is small beside the rest of a layer.
FEW_KEYS = 1024


def _plainly(q: Any, k: Any) -> bool:
    """Whether plain products serve better: torch's fused kernel of CPUs is slow in half formats.

    On 11 to 256 keys its backward takes 2 to 6 times as long.
    """
    import torch

    few = not torch.compiler.is_compiling() and k.shape[2] <= FEW_KEYS
    return q.device.type == "cpu" and q.dtype in (torch.bfloat16, torch.float16) and few


def _plain(q: Any, k: Any, v: Any, unseen: Any) -> Any:
    """The definition, softmax in float32; a query that sees no key gives 0."""
    import torch

    scores = (q @ k.transpose(-2, -1)).float() * q.shape[-1] ** -0.5
    if unseen is not None:
        scores = scores.masked_fill(unseen, torch.finfo(scores.dtype).min)
    weights: Any = scores.softmax(dim=-1)
    if unseen is not None:
        weights = weights.masked_fill(unseen, 0)
    return weights.to(v.dtype) @ v


def _joined(one: Any, other: Any) -> Any:
    return other if one is None else one | other


SOFTMAX = Softmax()
