"""On what was a figure taken: one line that tells a machine from the others."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def machine(device: torch.device) -> str:
    """The host, its GPU where the device is one, else its processor, and torch's version."""
    import torch

    what = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    return f"{platform.node()}: {what}, torch {torch.__version__}"


def processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
