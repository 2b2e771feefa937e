"""The two-layer feed-forward network, act(x W1) W2."""

from __future__ import annotations

from typing import Any

from nas.operators.declaration import NO_OPTIONS, Options, Own, Parameter, Sizes

ACTIVATIONS = ("gelu", "relu")


class Mlp:
    """y = act(x W1 + b1) W2 + b2 with hidden width `ffn_width`."""

    name = "mlp"
    options = NO_OPTIONS

    def parameters(self, options: Options) -> dict[str, Parameter]:
        return {
            "in_weight": Parameter(("ffn_width",), ("width",)),
            "in_bias": Parameter(("ffn_width",), init="zeros"),
            "out_weight": Parameter(("width",), ("ffn_width",)),
            "out_bias": Parameter(("width",), init="zeros"),
        }

    def macs(self, sizes: Sizes, options: Options) -> int:
        return 2 * sizes["tokens"] * sizes["width"] * sizes["ffn_width"]

    def activations(self, sizes: Sizes, options: Options) -> int:
        return 2 * sizes["tokens"] * sizes["ffn_width"]

    def apply(self, x: Any, own: Own, activation: str, options: Options) -> Any:
        from torch.nn import functional

        hidden = functional.linear(x, own["in_weight"], own["in_bias"])
        hidden = functional.gelu(hidden) if activation == "gelu" else functional.relu(hidden)
        return functional.linear(hidden, own["out_weight"], own["out_bias"])


MLP = Mlp()
