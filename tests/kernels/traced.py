"""Run alone, without Triton's interpreter: what does torch.compile make of the Triton forms?

No GPU is needed: a stand-in for Triton's driver says what would be compiled for, graphs are
captured, and nothing in them runs. Prints, for each operator and pass, the kernels in its graph.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import triton
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from triton.backends.compiler import GPUTarget

from nas_kernels import cosformer_attention, dispatch, linear_attention, window_attention

OPERATORS: dict[str, Callable[..., Tensor]] = {
    "linear": linear_attention,
    "cosformer": cosformer_attention,
    "window": partial(window_attention, window=3),
}


class Driver:
    """As much of a device as compiling asks for."""

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")


def kernels(operator: Callable[..., Tensor], **options: Any) -> list[int]:
    """How many kernels the forward and the backward graph of one call hold."""
    found: list[int] = []

    def note(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        targets = [str(node.target) for node in graph.graph.nodes]
        found.append(targets.count("triton_kernel_wrapper_functional"))
        # An operator that the compiler cannot look into.
        assert not any("nas_kernels" in target for target in targets), targets
        returned: Any = graph.graph.output_node().args[0]
        outputs = [node and node.meta["val"] for node in returned]

        def nothing(*_: Any) -> list[Any]:
            return [
                torch.zeros(each.shape, dtype=each.dtype) if isinstance(each, Tensor) else each
                for each in outputs
            ]

        return make_boxed_func(nothing)

    q, k, v = (torch.randn(1, 2, 70, 16, requires_grad=True) for _ in range(3))
    backend = aot_autograd(
        fw_compiler=note, bw_compiler=note, partition_fn=min_cut_rematerialization_partition
    )
    call = partial(operator, backend="triton", **options)
    out = torch.compile(call, fullgraph=True, backend=backend)(q, k, v)
    torch.autograd.grad(out.sum(), (q, k, v))
    return found


def main() -> None:
    triton.runtime.driver.set_active(Driver())
    # Tensors in host memory stand in for those on a device.
    dispatch._unsupported = lambda *_: None
    found = {
        f"{name}, causal={causal}": kernels(operator, causal=causal)
        for name, operator in OPERATORS.items()
        for causal in (False, True)
    }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
