"""In which number format does a network train? A rule that is recorded, never a timing."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Literal

import torch

from nas.search.recipe import TrainingRecipe

Precision = Literal["float32", "bfloat16"]

# Below about this many parameters, float32 trains faster on a CPU that has bfloat16 instructions.
LEAST_CPU_PARAMS = 500_000


def precision_for(recipe: TrainingRecipe, params: int, device: torch.device | str) -> Precision:
    """The format for a network whose largest member has `params` parameters.

    `auto` is bfloat16 on a CUDA device that computes in it, and on a CPU that has instructions for
    it where there are at least 500,000 parameters; float32 elsewhere. A checkpoint records the
    answer and a resumed run takes the recorded one, on any machine.
    """
    if recipe.precision != "auto":
        return recipe.precision
    device = torch.device(device)
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = device.type == "cpu" and cpu_has_bfloat16() and params >= LEAST_CPU_PARAMS
    return "bfloat16" if native else "float32"


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 numbers by instructions of its own."""
    # torch 2.11 has no public query.
    query = getattr(torch.cpu, "get_capabilities", None)
    if query is None:
        return bool(torch.cpu._is_avx512_bf16_supported())
    found = query()
    return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """The context of a forward pass: matrix products in `precision`, weights in float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16")
