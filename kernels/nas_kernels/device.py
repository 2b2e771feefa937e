"""Which GPU is this?"""

from functools import cache
from typing import Any

import torch


# The hardware does not change, and a compiler sees through no driver call.
@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def name(device: torch.device) -> str:
    """As its maker calls it."""
    return str(_properties(device).name)


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def capability(device: torch.device) -> tuple[int, int]:
    """Its CUDA capability, (major, minor)."""
    found = _properties(device)
    return found.major, found.minor


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def processors(device: torch.device) -> int:
    """Its streaming multiprocessors."""
    if device.type != "cuda":
        # Triton's interpreter: as few as let small shapes take every path.
        return 8
    return int(_properties(device).multi_processor_count)


@cache
def _properties(device: torch.device) -> Any:
    return torch.cuda.get_device_properties(device)
