"""What do many architectures of one space cost? The exact sums over parts, for all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nas.cost.counts import Costs, layer_costs, outer_costs
from nas.space.architecture import Architecture
from nas.space.blueprint import stack_shapes
from nas.space.gene import Gene, layer_fields
from nas.space.layer import Layer
from nas.space.part import GROUPS, StackShape
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape

Counts = NDArray[np.int64]
# Up to this many possible values they are looked up instead of sorted.
DENSE = 4_000_000


Row = Sequence[int]


def costs_of_many(space: SearchSpace, shape: TaskShape, codes: Codes) -> Costs:
    """`nas.cost.counts.costs` of every genome (n, genes): its fields are arrays of n numbers."""
    total = sums_of_many(
        space,
        shape,
        codes,
        lambda bare: _row(outer_costs(bare, shape)),
        lambda layer, common: _row(layer_costs(layer, common)),
        figures=len(GROUPS) + 2,
        largest=1,
    )
    # Arrays add and multiply as the integers do that a single architecture has here.
    params, activations = cast(int, total[:, 0]), cast(int, total[:, -1])
    return Costs(params, tuple(cast(int, total[:, 1 + i]) for i in range(len(GROUPS))), activations)


def _row(costs: Costs) -> Row:
    return (costs.params, *costs.macs, costs.activations)


def sums_of_many(
    space: SearchSpace,
    shape: TaskShape,
    codes: Codes,
    outer: Callable[[Architecture], Row],
    layer: Callable[[Layer, StackShape], Row],
    *,
    figures: int,
    largest: int = 0,
) -> Counts:
    """(n, figures): what lies outside the layers and every layer, added up, of genomes (n, genes).

    Of the last `largest` figures the largest counts instead. `outer` is asked once for each setting
    outside the layers, without them, and `layer` once for each of its own: 100,000 rows take about
    as long as a thousand one by one.
    """
    first = len(space.stacks) + len(space.network)
    kinds, frame = _distinct(codes[:, :first], space.genes[:first])
    built = [space.build(tuple(map(int, codes[row]))) for row in kinds]
    outside = np.array([outer(each.without_layers()) for each in built], dtype=np.int64)
    total = outside.reshape(-1, figures)[frame]
    added = slice(0, figures - largest)
    most = slice(added.stop, None)
    shapes = [stack_shapes(each, shape) for each in built]
    for number, stack in enumerate(space.owner.stacks):
        commons = [each[number] for each in shapes]
        depths = np.array(space.stacks[number].depth)[codes[:, number]]
        for index in range(max(space.stacks[number].depth)):
            rows = np.flatnonzero(depths > index)
            if not len(rows):
                break
            at = (stack, index)
            places = [i for i, gene in enumerate(space.genes) if (gene.stack, gene.layer) == at]
            found = _layers(space, places, commons, frame[rows], codes[rows], layer)
            total[rows, added] += found[:, added]
            total[rows, most] = np.maximum(total[rows, most], found[:, most])
    return total


def _layers(
    space: SearchSpace,
    places: Sequence[int],
    commons: Sequence[StackShape],
    frame: Counts,
    codes: Codes,
    layer: Callable[[Layer, StackShape], Row],
) -> Counts:
    """The figures of one layer in all these rows, which have it."""
    genes = [space.genes[place] for place in places]
    known = list(dict.fromkeys(commons))
    common = np.array([known.index(each) for each in commons])[frame]
    own = np.column_stack([common, codes[:, places]])
    kinds, kind = _distinct(own, genes, len(known))
    figures = []
    for row in kinds:
        shape = known[own[row, 0]]
        picked = {gene.field: gene.choices[i] for gene, i in zip(genes, own[row, 1:], strict=True)}
        stack = genes[0].stack
        assert stack is not None, "a layer's gene has a stack"
        figures.append(layer(stack.layer(**layer_fields(picked, shape.width)), shape))
    return np.array(figures, dtype=np.int64)[kind]


def _distinct(
    codes: NDArray[np.integer], genes: Sequence[Gene], *before: int
) -> tuple[Counts, Counts]:
    """Rows that show every distinct row of `codes` once, and which of them each row is like.

    The columns' numbers of values are `before`, then the genes' numbers of choices.
    """
    number = np.zeros(len(codes), dtype=np.int64)
    size = 1
    for column, length in enumerate((*before, *(len(gene.choices) for gene in genes))):
        number = number * length + codes[:, column]
        size *= length
    if size >= 2**62:
        _, rows, kind = np.unique(codes, axis=0, return_index=True, return_inverse=True)
        return rows, kind.reshape(-1)
    if size > DENSE:
        _, rows, kind = np.unique(number, return_index=True, return_inverse=True)
        return rows, kind
    shown = np.full(size, -1, dtype=np.int64)
    shown[number] = np.arange(len(codes))
    values = np.flatnonzero(shown >= 0)
    place = np.empty(size, dtype=np.int64)
    place[values] = np.arange(len(values))
    return shown[values], place[number]
