"""On what was a figure taken: one line that tells a machine from the others."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

HIGHEST = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")


def machine(device: torch.device) -> str:
    """The host, its GPU where the device is one, else its processor, the clock, torch's version."""
    import torch

    what = torch.cuda.get_device_name(device) if device.type == "cuda" else processor()
    rated = clock(device)
    at = f" at up to {rated} MHz" if rated else ""
    return f"{platform.node()}: {what}{at}, torch {torch.__version__}"


def clock(device: torch.device) -> int | None:
    """The highest clock in MHz; None where it cannot be read, as in most virtual machines."""
    import torch

    if device.type == "cuda":
        # In kHz; older releases of torch do not tell it.
        rate = getattr(torch.cuda.get_device_properties(device), "clock_rate", 0)
        return rate // 1000 or None
    try:
        return int(HIGHEST.read_text(encoding="ascii")) // 1000
    except (OSError, ValueError):
        return None


def processor() -> str:
    """The processor's name as Linux tells it, else its architecture."""
    described = Path("/proc/cpuinfo")
    if described.exists():
        for line in described.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
