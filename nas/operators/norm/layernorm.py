"""Layer normalisation (Ba et al., 2016) over the model width."""

from __future__ import annotations

from typing import Any

from nas.operators.declaration import Own, Parameter


class LayerNorm:
    """(x - mean) / sqrt(variance + 1e-5) * weight + bias."""

    name = "layernorm"

    def parameters(self) -> dict[str, Parameter]:
        return {
            "weight": Parameter(("width",), init="ones"),
            "bias": Parameter(("width",), init="zeros"),
        }

    def apply(self, x: Any, own: Own) -> Any:
        from torch.nn.functional import layer_norm

        return layer_norm(x, x.shape[-1:], own["weight"], own["bias"], 1e-5)


LAYERNORM = LayerNorm()
