"""In which dtype are sums taken, whatever the inputs' dtype and autocast say?"""

from contextlib import AbstractContextManager, nullcontext

import torch


def sum_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of sums: fp32 for half precision, whose sums lose accuracy, else the same."""
    return torch.promote_types(dtype, torch.float32)


def autocast_off(device_type: str) -> AbstractContextManager[None]:
    """Within it, products have the dtype of their operands."""
    # The meta device, used for counting, knows no autocast, and an exported program has none.
    if torch.compiler.is_exporting() or not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
