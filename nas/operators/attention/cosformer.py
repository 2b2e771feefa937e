"""cosFormer (Qin et al., 2022): linear attention re-weighted by cos((pi/2)(i - j)/M)."""

from __future__ import annotations

from typing import Any

from nas.operators.attention.linear import Linear
from nas.operators.declaration import NO_OPTIONS, AttentionContext, Options, Own, Sizes


class CosFormer(Linear):
    """Linear attention with features [relu(x) cos a ; relu(x) sin a], width r = 2d.

    It is bidirectional, denominator at least 1e-6. M is the true number of tokens, or the context's
    `norm_length`, at least the longest distance of two tokens, or weights would turn negative.
    """

    name = "cosformer"
    options = NO_OPTIONS  # type: ignore[assignment]
    features_per_width = 2

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        # The queries' two halves, before cosines weigh them, live beside all that linear holds.
        halves = 2 * sizes["tokens"] * sizes["heads"] * sizes["head_width"]
        return super().core_activations(sizes, options) + halves

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        from nas_kernels import cosformer_attention

        # Where queries and keys are the same tokens, so are their lengths.
        own_lengths = context.key_lengths if context.site != "cross" else None
        return cosformer_attention(
            q,
            k,
            v,
            query_lengths=own_lengths,
            key_lengths=context.key_lengths,
            norm_length=context.norm_length,
        )


COSFORMER = CosFormer()
