"""How many FLOPs has a call? As torch's counter is told for an operator of ours."""

from collections.abc import Callable
from typing import Any

from torch.utils._python_dispatch import _get_current_dispatch_mode_stack
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula


def register_flops(operator: Any) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Registers a formula of the shapes, (q.shape, k.shape, ...) -> FLOPs, for an operator."""

    def registered(formula: Callable[..., int]) -> Callable[..., int]:
        register_flop_formula(operator)(formula)
        # A counter copies what is registered when it is made, and an operator's first call, which
        # is what registers it, may stand within one.
        for mode in _get_current_dispatch_mode_stack():
            counter = getattr(mode, "counter", None)
            if isinstance(counter, FlopCounterMode):
                fresh = FlopCounterMode(display=False)
                counter.flop_registry[operator] = fresh.flop_registry[operator]
        return formula

    return registered
