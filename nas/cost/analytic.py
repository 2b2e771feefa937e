"""What does an architecture cost by arithmetic alone: parameters, FLOPs, activation bytes."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

from nas.cost.cost import Candidate, Figure
from nas.search.objective import Metric
from nas.space.architecture import Architecture, Layer
from nas.space.blueprint import GROUPS, Ends, Part, ends, layer_parts, outer_parts
from nas.space.search_space import End, SearchSpace
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
        """Floating-point operations for one image, 2 a MAC."""
        return 2 * sum(self.macs)

    @property
    def activation_bytes(self) -> int:
        """Peak bytes for one image in float32 at inference: the largest part's working set.

        Beside the weights, copies of them and the image; what a kernel allocates within one
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
def _layer_costs(layer: Layer, common: Ends) -> Costs:
    return _sum(layer_parts(layer, common))


@lru_cache(maxsize=4096)
def _outer_costs(architecture: Architecture, shape: TaskShape) -> tuple[Costs, Ends]:
    return _sum(outer_parts(architecture, shape)), ends(architecture, shape)


# All analytic costs of one architecture are asked for in a row.
@lru_cache(maxsize=1)
def costs(architecture: Architecture, shape: TaskShape) -> Costs:
    """Exact costs of an architecture on a task, a cached sum over its layers."""
    total, common = _outer_costs(replace(architecture, layers=()), shape)
    params, activations, macs = total.params, total.activations, list(total.macs)
    for layer in architecture.layers:
        each = _layer_costs(layer, common)
        params += each.params
        activations = max(activations, each.activations)
        macs = [have + more for have, more in zip(macs, each.macs, strict=True)]
    return Costs(params, tuple(macs), activations)


def flops_by_group(architecture: Architecture, shape: TaskShape) -> dict[str, int]:
    """FLOPs (2 a MAC) of the embedding, projections, attention core, FFN and head."""
    macs = costs(architecture, shape).macs
    return {group: 2 * count for group, count in zip(GROUPS, macs, strict=True)}


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

        Layers cost independently of each other once the fields outside them are fixed, so the
        optimum is taken layer by layer for every setting of those fields and every depth.
        """
        best = min if end == "smallest" else max
        found: list[int] = []
        names = list(space.network)
        for setting in itertools.product(*space.network.values()):
            outer = Architecture(**dict(zip(names, setting, strict=True)))
            total, common = _outer_costs(outer, shape)
            extremes = self._layer_extremes(space, common, outer.width, best)
            for depth in range(1, len(space.layers) + 1):
                total += extremes[depth - 1]
                if depth in space.depth:
                    found.append(self.read(total))
        return best(found)

    def _layer_extremes(
        self, space: SearchSpace, common: Ends, width: int, best: Callable[..., Costs]
    ) -> list[Costs]:
        found: list[Costs] = []
        genes = [[g for g in space.genes if g.layer == i] for i in range(len(space.layers))]
        for number, layer in enumerate(space.layers):
            if number and layer == space.layers[number - 1]:
                found.append(found[-1])
                continue
            names = [gene.target for gene in genes[number]]
            values = ([g.value(i, width) for i in range(len(g.choices))] for g in genes[number])
            combinations = itertools.product(*values)
            candidates = (Layer(**dict(zip(names, each, strict=True))) for each in combinations)
            found.append(best((_layer_costs(x, common) for x in candidates), key=self.read))
        return found


PARAMS = AnalyticCost(
    Metric("params", "minimize", "parameters", analytic=True), lambda each: each.params
)
FLOPS = AnalyticCost(Metric("flops", "minimize", "FLOPs", analytic=True), lambda each: each.flops)
ACTIVATION_BYTES = AnalyticCost(
    Metric("activation_bytes", "minimize", "bytes", analytic=True),
    lambda each: each.activation_bytes,
)
