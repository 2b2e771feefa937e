"""What do an architecture's parts add up to: numbers, arithmetic, the largest working set?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from nas.space.architecture import Architecture
from nas.space.blueprint import outer_parts, stack_shapes
from nas.space.layer import Layer
from nas.space.part import GROUPS, Part, StackShape, layer_parts
from nas.space.task_shape import TaskShape

BYTES_PER_ELEMENT = 4


@dataclass(frozen=True)
class Costs:
    """Sums over parts: learnt numbers, MACs by group, and the largest working set in elements."""

    params: int
    macs: tuple[int, ...]
    activations: int

    def __add__(self, other: Costs) -> Costs:
        macs = tuple(map(sum, zip(self.macs, other.macs, strict=True)))
        working_set = max(self.activations, other.activations)
        return Costs(self.params + other.params, macs, working_set)

    @property
    def flops(self) -> int:
        """Floating-point operations for one example, 2 a MAC."""
        return 2 * sum(self.macs)

    @property
    def activation_bytes(self) -> int:
        """Peak bytes for one example in float32 at inference: the largest part's working set.

        Beside the weights, copies of them and the example; what a kernel allocates within one
        operation is not in it. Within a quarter of what the network's tensors take, as tested.
        """
        return BYTES_PER_ELEMENT * self.activations


NOTHING = Costs(0, (0,) * len(GROUPS), 0)


def sum_of(parts: tuple[Part, ...]) -> Costs:
    total = NOTHING
    for part in parts:
        macs = dict(part.macs)
        split = tuple(macs.get(group, 0) for group in GROUPS)
        total += Costs(part.params, split, part.activations)
    return total


@lru_cache(maxsize=262_144)
def layer_costs(layer: Layer, common: StackShape) -> Costs:
    return sum_of(layer_parts(layer, common))


@lru_cache(maxsize=4096)
def outer_costs(bare: Architecture, shape: TaskShape) -> Costs:
    return sum_of(outer_parts(bare, shape))


# All analytic costs of one architecture are asked for in a row.
@lru_cache(maxsize=1)
def costs(architecture: Architecture, shape: TaskShape) -> Costs:
    """Exact costs of an architecture on a task, a cached sum over its layers."""
    total = outer_costs(architecture.without_layers(), shape)
    params, activations, macs = total.params, total.activations, list(total.macs)
    for stack, common in zip(architecture.stacks, stack_shapes(architecture, shape), strict=True):
        for layer in architecture.layers_of(stack):
            each = layer_costs(layer, common)
            params += each.params
            activations = max(activations, each.activations)
            macs = [have + more for have, more in zip(macs, each.macs, strict=True)]
    return Costs(params, tuple(macs), activations)
