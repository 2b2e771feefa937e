"""Root-mean-square normalisation (Zhang and Sennrich, 2019) over the model width."""

from __future__ import annotations

from typing import Any

from nas.operators.declaration import Own, Parameter


class RmsNorm:
    """x / sqrt(mean(x^2) + 1e-6) * weight."""

    name = "rmsnorm"

    def parameters(self) -> dict[str, Parameter]:
        return {"weight": Parameter(("width",), init="ones")}

    def apply(self, x: Any, own: Own) -> Any:
        from torch.nn.functional import rms_norm

        return rms_norm(x, x.shape[-1:], own["weight"], 1e-6)


RMSNORM = RmsNorm()
