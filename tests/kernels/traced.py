"""Run alone, without Triton's interpreter: what does torch.compile make of the Triton forms?

No GPU is needed: stand-ins for torch's device and for Triton's driver say what there would be,
graphs are captured, and nothing in them runs. Prints, for each operator, how many kernels the
forward and the backward graph hold, and how many graphs calls of many lengths take by `auto`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
import triton
from torch import Tensor
from torch._dynamo.backends.common import aot_autograd
from torch._dynamo.utils import common_constant_types
from torch._functorch._aot_autograd.utils import make_boxed_func
from torch._functorch.partitioners import min_cut_rematerialization_partition
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.backends.compiler import GPUTarget

from nas_kernels import cosformer_attention, dispatch, linear_attention, window_attention

LENGTHS = (70, 100, 64, 257, 600, 700, 800, 1000, 1300, 2100)
"""Short ones and long ones, which are cut into segments."""
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
        return torch.device("cuda", 0)


class Properties:
    name = "a stand-in"
    major, minor = 9, 0
    multi_processor_count = 132


class Here:
    """The device that is current anyway."""

    def __init__(self, _: object) -> None: ...

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...


def stand_in() -> None:
    """Lets torch and Triton take tensors for those of a GPU."""
    cuda: Any = torch.cuda
    cuda._lazy_init = lambda: None
    cuda.device_count = lambda: 1
    cuda.current_device = lambda: 0
    cuda._get_device_properties = lambda _: Properties()
    cuda.device = Here
    # As the type of the real ones is.
    common_constant_types.add(Properties)
    triton.runtime.driver.set_active(Driver())


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

    partition = min_cut_rematerialization_partition
    backend = aot_autograd(fw_compiler=note, bw_compiler=note, partition_fn=partition)
    # Gradients are not computed of what lies on a device that is not there.
    q, k, v = (torch.randn(1, 2, 70, 16, requires_grad=True) for _ in range(3))
    torch._dynamo.reset()
    call = partial(operator, backend="triton", **options)
    out = torch.compile(call, fullgraph=True, backend=backend)(q, k, v)
    torch.autograd.grad(out.sum(), (q, k, v))
    return found


def graphs(operator: Callable[..., Tensor], **options: Any) -> int:
    """How many graphs calls of many lengths take, `auto` having chosen Triton in each."""
    found = 0

    def note(graph: torch.fx.GraphModule, _: Sequence[Tensor]) -> Any:
        nonlocal found
        found += 1
        assert any("nas_kernels" in str(node.target) for node in graph.graph.nodes), graph
        return graph.forward

    torch._dynamo.reset()
    call = torch.compile(partial(operator, **options), fullgraph=True, backend=note)
    with FakeTensorMode(allow_non_fake_inputs=True):
        for length in LENGTHS:
            call(*(torch.empty(1, 2, length, 16, device="cuda") for _ in range(3)))
    return found


def anywhere(_: Tensor) -> None:
    """Triton lacks nothing: a plain function, for a mock is none that a compiler traces."""


def main() -> None:
    stand_in()
    found: dict[str, Any] = {}
    for name, operator in OPERATORS.items():
        for causal in (False, True):
            taken = graphs(operator, causal=causal)
            # Tensors in host memory stand in for those on a device.
            with patch.object(dispatch, "_unsupported", anywhere):
                found[f"{name}, causal={causal}"] = [*kernels(operator, causal=causal), taken]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
