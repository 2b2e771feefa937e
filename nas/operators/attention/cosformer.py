"""cosFormer (Qin et al., 2022): linear attention re-weighted by cos((pi/2)(i - j)/M)."""

from __future__ import annotations

from typing import Any

from nas.errors import SpecError
from nas.operators.attention.linear import Linear, last_of
from nas.operators.attention.pairs import is_causal
from nas.operators.declaration import (
    NO_OPTIONS,
    AttentionContext,
    Options,
    Own,
    Sizes,
    State,
    refuse_padding,
)


class CosFormer(Linear):
    """Linear attention with features [relu(x) cos a ; relu(x) sin a], width r = 2d.

    Its denominator is at least 1e-6. M is the context's `norm_length`, at least the longest
    distance of two tokens, or weights would turn negative; an encoder may leave it open, which
    means the true number of tokens.
    """

    name = "cosformer"
    options = NO_OPTIONS  # type: ignore[assignment]
    features_per_width = 2

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        held = super().core_activations(sizes, options)
        # The queries' two halves, before cosines weigh them, live beside all that linear holds.
        halves = 2 * sizes["tokens"] * sizes["heads"] * sizes["head_width"]
        # Causal, beside both sides' features alone.
        return max(held, 3 * halves) if sizes["causal"] else held + halves

    def making(self, options: Options) -> int:
        return 5

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        from nas_kernels import cosformer_attention, cosformer_attention_copies

        length = norm_length(context)
        if context.position is not None:
            state = CosFormer.remember(self, None, k, v, own, options, context, 0)
            return CosFormer.recall(self, state, q, own, options, context, context.position)
        if context.site == "cross" and context.copies > 1:
            return cosformer_attention_copies(
                q,
                k,
                v,
                copies=context.copies,
                query_lengths=context.query_lengths,
                key_lengths=context.key_lengths,
                norm_length=length,
            )
        causal = is_causal(q, k, context)
        queries = last_of(q, k) if context.site == "decoder_self" else q
        # Where queries and keys are the same tokens, so are their lengths.
        cross = context.site == "cross"
        found = cosformer_attention(
            queries,
            k,
            v,
            causal=causal,
            query_lengths=context.query_lengths if cross else context.key_lengths,
            key_lengths=context.key_lengths,
            norm_length=length,
        )
        return found if queries is q else found[:, :, -q.shape[2] :]

    def remember(
        self,
        state: State | None,
        k: Any,
        v: Any,
        own: Own,
        options: Options,
        context: AttentionContext,
        position: Any,
    ) -> State:
        from nas_kernels import LinearState, cosformer_attention_state

        if context.key_lengths is not None:
            refuse_padding(context)
        return cosformer_attention_state(
            None if state is None else LinearState(*state),
            k,
            v,
            norm_length=norm_length(context),
            position=position,
            copies=context.copies if context.site == "cross" else 1,
            key_lengths=context.key_lengths,
        )

    def recall(
        self,
        state: State,
        q: Any,
        own: Own,
        options: Options,
        context: AttentionContext,
        position: Any,
    ) -> Any:
        from nas_kernels import LinearState, cosformer_attention_read

        return cosformer_attention_read(
            LinearState(*state), q, position=position, norm_length=norm_length(context)
        )


def norm_length(context: AttentionContext) -> Any:
    """M; raises `SpecError` where it is open at a decoder, whose later tokens are not known yet."""
    if context.norm_length is None and context.site != "encoder_self":
        raise SpecError(
            f"attention 'cosformer' is given no norm_length at {context.site}; a length that is "
            "known before the first token, and the same in training, is allowed"
        )
    return context.norm_length


COSFORMER = CosFormer()
