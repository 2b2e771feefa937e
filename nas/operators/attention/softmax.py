"""Scaled dot-product attention (Vaswani et al., 2017) through torch's fused kernel."""

from __future__ import annotations

from typing import Any

from nas.operators.declaration import ALL_SITES, NO_OPTIONS, Grid, Options, Own, Parameter, Sizes


class Softmax:
    """o_i = sum_j softmax_j(q_i . k_j / sqrt(d)) v_j."""

    name = "softmax"
    sites = ALL_SITES
    options = NO_OPTIONS
    efficient = False

    def parameters(self, options: Options) -> dict[str, Parameter]:  # noqa: ARG002
        return {}

    def core_macs(self, sizes: Sizes, options: Options) -> int:  # noqa: ARG002
        return 2 * sizes["tokens"] * sizes["keys"] * sizes["heads"] * sizes["head_width"]

    def core_activations(self, sizes: Sizes, options: Options) -> int:  # noqa: ARG002
        # The fused kernel keeps one running maximum and sum a row, never the score matrix.
        return 2 * sizes["tokens"] * sizes["heads"]

    def attend(self, q: Any, k: Any, v: Any, own: Own, options: Options, grid: Grid) -> Any:  # noqa: ARG002
        from torch.nn.functional import scaled_dot_product_attention

        return scaled_dot_product_attention(q, k, v)


SOFTMAX = Softmax()
