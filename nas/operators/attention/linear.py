"""Linear attention (Katharopoulos et al., 2020): softmax replaced by a product of feature maps."""

from __future__ import annotations

from typing import Any, cast

from nas.operators.declaration import (
    AttentionContext,
    Option,
    Options,
    Own,
    Parameter,
    Site,
    Sizes,
)


class Linear:
    """o_i = phi(q_i) [sum_j phi(k_j)^T v_j] / (phi(q_i) . sum_j phi(k_j)), feature width r = d."""

    name = "linear"
    sites: frozenset[Site] = frozenset({"encoder_self"})
    efficient = True
    options = {  # noqa: RUF012
        "feature_map": Option(
            "elu1", choices=("elu1", "relu"), description="phi: elu(x) + 1, or relu(x)"
        )
    }
    features_per_width = 1

    def parameters(self, options: Options) -> dict[str, Parameter]:
        return {}

    def core_macs(self, sizes: Sizes, options: Options) -> int:
        features = self.features_per_width * sizes["head_width"]
        # Keys build the state, queries read it and its normaliser (Katharopoulos et al., 2020).
        per_key = features * sizes["head_width"]
        per_query = features * (sizes["head_width"] + 1)
        return sizes["heads"] * (sizes["keys"] * per_key + sizes["tokens"] * per_query)

    def core_activations(self, sizes: Sizes, options: Options) -> int:
        features = self.features_per_width * sizes["head_width"]
        tokens, keys = sizes["tokens"] * features, sizes["keys"] * features
        state = features * (sizes["head_width"] + 1)
        # Sums and normaliser beside the state that joins them, before there is any output.
        joining = keys + 2 * state - sizes["tokens"] * sizes["head_width"]
        return sizes["heads"] * max(tokens + keys + state, joining)

    def attend(
        self, q: Any, k: Any, v: Any, own: Own, options: Options, context: AttentionContext
    ) -> Any:
        from nas_kernels import FeatureMap, linear_attention

        feature_map = cast(FeatureMap, options["feature_map"])
        return linear_attention(q, k, v, feature_map=feature_map, key_lengths=context.key_lengths)


LINEAR = Linear()
