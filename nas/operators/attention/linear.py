"""Linear attention (Katharopoulos et al., 2020): softmax replaced by a product of feature maps."""

from __future__ import annotations

from typing import Any

from nas.operators.attention.pairs import is_causal
from nas.operators.declaration import (
    Attention,
    AttentionContext,
    Option,
    Options,
    Own,
    Parameter,
    Site,
    Sizes,
    State,
    refuse_padding,
)

CHUNK = 64
"""Tokens between two states of the causal form, `nas_kernels`' own number."""


class Linear(Attention):
    """o_i = phi(q_i) [sum_j phi(k_j)^T v_j] / (phi(q_i) . sum_j phi(k_j)), feature width r = d.

    What it remembers are the two sums, (B, H, r, d) and (B, H, r), however many keys there were.
    """

    name = "linear"
    sites: frozenset[Site] = frozenset({"encoder_self", "decoder_self", "cross"})
    efficient = True
    options = {  # noqa: RUF012
        "feature_map": Option(
            "elu1", choices=("elu1", "relu"), description="phi: elu(x) + 1, or relu(x)"
        )
    }
    features_per_width = 1

    def parameters(self, options: Options, sizes: Sizes) -> dict[str, Parameter]:
        return {}

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        features = self.features_per_width * sizes["head_width"]
        # Keys build the state, queries read it and its normaliser (Katharopoulos et al., 2020).
        per_key = features * sizes["head_width"]
        per_query = features * (sizes["head_width"] + 1)
        return sizes["heads"] * (sizes["keys"] * per_key + sizes["tokens"] * per_query)

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        features = self.features_per_width * sizes["head_width"]
        if sizes["causal"]:
            return sizes["heads"] * _causal_elements(sizes["tokens"], features, sizes["head_width"])
        tokens, keys = sizes["tokens"] * features, sizes["keys"] * features
        state = features * (sizes["head_width"] + 1)
        # Sums and normaliser beside the state that joins them, before there is any output.
        without_output = -sizes["tokens"] * sizes["head_width"]
        joining = keys + 2 * state + without_output
        # What there is of many keys before there is anything of queries.
        making = self.making(options) * sizes["keys"] * sizes["head_width"] + without_output
        return sizes["heads"] * max(tokens + keys + state, joining, making)

    def making(self, options: Options) -> int:
        """Elements held while features are made, for each of the keys' own."""
        return 2 if options["feature_map"] == "elu1" else 1

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        from nas_kernels import linear_attention

        feature_map: Any = options["feature_map"]
        causal = is_causal(q, k, context)
        queries = last_of(q, k) if causal else q
        found = linear_attention(
            queries,
            k,
            v,
            feature_map=feature_map,
            causal=causal,
            key_lengths=context.key_lengths,
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
        from nas_kernels import LinearState, linear_attention_state

        if context.key_lengths is not None:
            refuse_padding(context)
        feature_map: Any = options["feature_map"]
        before = None if state is None else LinearState(*state)
        return linear_attention_state(
            before, k, v, feature_map=feature_map, key_lengths=context.key_lengths
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
        from nas_kernels import LinearState, linear_attention_read

        feature_map: Any = options["feature_map"]
        return linear_attention_read(LinearState(*state), q, feature_map=feature_map)


def _causal_elements(tokens: int, features: int, width: int) -> int:
    """What the causal form holds of one head: scores within chunks, and a state before each."""
    chunks = -(-tokens // CHUNK)
    column = width + 1
    if chunks == 1:
        return tokens * (2 * features + 1 + tokens + max(tokens, column))
    # Scores beside those that are masked, or later what chunks and states give, and their sum.
    adding = CHUNK + max(CHUNK, 3 * column)
    cut = chunks * CHUNK * (2 * features + column + adding)
    return tokens * (2 * features + 1) + cut + 2 * chunks * features * column


def last_of(q: Any, k: Any) -> Any:
    """(B, H, S, K): the queries as the last of the keys' tokens, nothing before them."""
    from torch.nn.functional import pad

    missing = k.shape[2] - q.shape[2]
    return pad(q, (0, 0, missing, 0)) if missing else q


LINEAR = Linear()
