"""What does an architecture cost by arithmetic alone: parameters, FLOPs, activation bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nas.cost.cost import Candidate, Figure
from nas.cost.counts import NOTHING, Costs, costs, layer_costs, sum_of
from nas.cost.many import costs_of_many
from nas.errors import SpecError
from nas.operators.declaration import Site
from nas.search.objective import Metric
from nas.search.workload import Workload
from nas.space.architecture import Architecture, Stack
from nas.space.blueprint import blueprint, outer_parts, stack_shapes
from nas.space.gene import Choices, End, all_layers
from nas.space.listed import ListedSpace
from nas.space.part import GROUPS, StackShape
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape, TextShape, can_tell


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
            total += layer_costs(layer, common)
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
        """The exact cost of one architecture; raises `SpecError` where nothing tells it."""
        if not can_tell(shape, self.metric.name):
            raise SpecError(
                f"{self.metric.name}: not known of networks of kind {architecture.kind}"
            )
        return self.read(costs(architecture, shape))

    def figure(self, candidate: Candidate) -> Figure:
        """The same, as every cost model gives it."""
        return Figure(float(self.of(candidate.architecture, candidate.shape)))

    def figures(
        self,
        space: SearchSpace,
        shape: TaskShape,
        workload: Workload,  # noqa: ARG002
        codes: Codes,
    ) -> NDArray[np.float64]:
        """The exact costs (n,) of genomes (n, genes); see `nas.cost.many.costs_of_many`."""
        return np.asarray(self.read(costs_of_many(space, shape, codes)), dtype=np.float64)

    def bound(self, space: SearchSpace, shape: TaskShape, end: End) -> int:
        """The exact smallest or largest cost in a space.

        Layers cost independently of each other once the fields outside them and the depths are
        fixed, so the optimum is taken layer by layer for every setting of these. Those of a list
        are gone through.
        """
        best = min if end == "smallest" else max
        if isinstance(space, ListedSpace):
            return int(best(self.read(costs(each, shape)) for each in space.enumerate()))
        found: list[int] = []
        known: dict[tuple[object, ...], Costs] = {}

        def extreme(stack: Stack, choices: Choices, common: StackShape) -> Costs:
            # How deep an encoder is matters as far as it is looked into.
            seen = min(common.memory_depth, max(choices.get("cross_span", (1,))))
            common = replace(common, memory_depth=seen)
            key = (stack, tuple(choices.items()), common)
            if key not in known:
                layers = all_layers(stack.layer, choices, common.width)
                known[key] = best((layer_costs(each, common) for each in layers), key=self.read)
            return known[key]

        for built in space.frames():
            total = sum_of(outer_parts(built, shape))
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
