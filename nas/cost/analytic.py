"""What does an architecture cost by arithmetic alone: parameters, FLOPs, activation bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from nas.cost.cost import Candidate, Figure
from nas.errors import SpecError
from nas.operators.declaration import Site
from nas.search.objective import Metric
from nas.space.architecture import Architecture, Stack
from nas.space.blueprint import blueprint, outer_parts, stack_shapes
from nas.space.gene import Choices, End, all_layers
from nas.space.layer import Layer
from nas.space.part import GROUPS, Part, StackShape, layer_parts
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape, TextShape

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


def _sum(parts: tuple[Part, ...]) -> Costs:
    total = NOTHING
    for part in parts:
        macs = dict(part.macs)
        split = tuple(macs.get(group, 0) for group in GROUPS)
        total += Costs(part.params, split, part.activations)
    return total


@lru_cache(maxsize=262_144)
def _layer_costs(layer: Layer, common: StackShape) -> Costs:
    return _sum(layer_parts(layer, common))


@lru_cache(maxsize=4096)
def _outer_costs(bare: Architecture, shape: TaskShape) -> Costs:
    return _sum(outer_parts(bare, shape))


# All analytic costs of one architecture are asked for in a row.
@lru_cache(maxsize=1)
def costs(architecture: Architecture, shape: TaskShape) -> Costs:
    """Exact costs of an architecture on a task, a cached sum over its layers."""
    total = _outer_costs(architecture.without_layers(), shape)
    params, activations, macs = total.params, total.activations, list(total.macs)
    for stack, common in zip(architecture.stacks, stack_shapes(architecture, shape), strict=True):
        for layer in architecture.layers_of(stack):
            each = _layer_costs(layer, common)
            params += each.params
            activations = max(activations, each.activations)
            macs = [have + more for have, more in zip(macs, each.macs, strict=True)]
    return Costs(params, tuple(macs), activations)


def flops_by_group(architecture: Architecture, shape: TaskShape) -> dict[str, int]:
    """FLOPs (2 a MAC) of the embedding, projections, attention core, FFN and head."""
    macs = costs(architecture, shape).macs
    return {group: 2 * count for group, count in zip(GROUPS, macs, strict=True)}


def hat_convention(architecture: Architecture, shape: TaskShape) -> Costs:
    """Costs as HAT publishes them: of the layers alone, at 30 source and target tokens.

    Embeddings, output layer and final norms are left out (Wang et al., HAT, ACL 2020). Raises
    `SpecError` for a network that translates nothing.
    """
    if not isinstance(shape, TextShape):
        raise SpecError("the convention hat counts translation networks; the task gives images")
    shapes = stack_shapes(architecture, replace(shape, source_length=30, target_length=30))
    total = NOTHING
    for stack, common in zip(architecture.stacks, shapes, strict=True):
        for layer in architecture.layers_of(stack):
            total += _layer_costs(layer, common)
    return total


def by_site(architecture: Architecture, shape: TaskShape) -> dict[Site, dict[str, int]]:
    """Parameters and FLOPs (2 a MAC) of the attention at each site, projections included."""
    found: dict[Site, dict[str, int]] = {}
    for part in blueprint(architecture, shape):
        if part.site is not None:
            held = found.setdefault(part.site, {"params": 0, "flops": 0})
            held["params"] += part.params
            held["flops"] += 2 * sum(count for _, count in part.macs)
    return found


@dataclass(frozen=True)
class AnalyticCost:
    """A cost model that is a sum over the architecture's parts, or their largest."""

    metric: Metric
    read: Callable[[Costs], int]

    def of(self, architecture: Architecture, shape: TaskShape) -> int:
        """The exact cost of one architecture."""
        return self.read(costs(architecture, shape))

    def figure(self, candidate: Candidate) -> Figure:
        """The same, as every cost model gives it."""
        return Figure(float(self.of(candidate.architecture, candidate.shape)))

    def bound(self, space: SearchSpace, shape: TaskShape, end: End) -> int:
        """The exact smallest or largest cost in a space.

        Layers cost independently of each other once the fields outside them and the depths are
        fixed, so the optimum is taken layer by layer for every setting of these.
        """
        best = min if end == "smallest" else max
        found: list[int] = []
        known: dict[tuple[object, ...], Costs] = {}

        def extreme(stack: Stack, choices: Choices, common: StackShape) -> Costs:
            # How deep an encoder is matters as far as it is looked into.
            seen = min(common.memory_depth, max(choices.get("cross_span", (1,))))
            common = replace(common, memory_depth=seen)
            key = (stack, tuple(choices.items()), common)
            if key not in known:
                layers = all_layers(stack.layer, choices, common.width)
                known[key] = best((_layer_costs(each, common) for each in layers), key=self.read)
            return known[key]

        for built in space.frames():
            total = _sum(outer_parts(built, shape))
            commons = stack_shapes(built, shape)
            for stack, held, common in zip(built.stacks, space.stacks, commons, strict=True):
                for choices in held.layers[: len(built.layers_of(stack))]:
                    total += extreme(stack, choices, common)
            found.append(self.read(total))
        return best(found)


PARAMS = AnalyticCost(
    Metric("params", "minimize", "parameters", analytic=True), lambda each: each.params
)
FLOPS = AnalyticCost(Metric("flops", "minimize", "FLOPs", analytic=True), lambda each: each.flops)
ACTIVATION_BYTES = AnalyticCost(
    Metric("activation_bytes", "minimize", "bytes", analytic=True),
    lambda each: each.activation_bytes,
)
