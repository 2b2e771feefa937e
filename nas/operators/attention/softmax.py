"""Scaled dot-product attention (Vaswani et al., 2017) through torch's fused kernel."""

from __future__ import annotations

from typing import Any

from nas.operators.declaration import (
    NO_OPTIONS,
    AttentionContext,
    Options,
    Own,
    Parameter,
    Site,
    Sizes,
)


class Softmax:
    """o_i = sum_j softmax_j(q_i . k_j / sqrt(d)) v_j."""

    name = "softmax"
    sites: frozenset[Site] = frozenset({"encoder_self"})
    options = NO_OPTIONS
    efficient = False

    def parameters(self, options: Options) -> dict[str, Parameter]:
        return {}

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        return 2 * sizes["tokens"] * sizes["keys"] * sizes["heads"] * sizes["head_width"]

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        # The fused kernel keeps one running maximum and sum a row, never the score matrix.
        return 2 * sizes["tokens"] * sizes["heads"]

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        from torch.nn.functional import scaled_dot_product_attention

        if context.key_lengths is None:
            return scaled_dot_product_attention(q, k, v)
        from nas_kernels.arguments import blanked, check_inputs

        check_inputs(q, k, v, key_lengths=context.key_lengths)
        k, v, padding = blanked(k, v, context.key_lengths)
        return scaled_dot_product_attention(q, k, v, attn_mask=~padding)


SOFTMAX = Softmax()
