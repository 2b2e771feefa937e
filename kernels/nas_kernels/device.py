"""Which GPU is this? Asked in a way that a compiler takes for a constant."""

import torch


def name(device: torch.device) -> str:
    """As its maker calls it."""
    return torch.cuda.get_device_properties(device).name


def capability(device: torch.device) -> tuple[int, int]:
    """Its CUDA capability, (major, minor)."""
    found = torch.cuda.get_device_properties(device)
    return found.major, found.minor


def processors(device: torch.device) -> int:
    """Its streaming multiprocessors."""
    if device.type != "cuda":
        # Triton's interpreter: as few as let small shapes take every path.
        return 8
    return torch.cuda.get_device_properties(device).multi_processor_count
