"""What do many architectures of one space cost? The exact sums over parts, for all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
from numpy.typing import NDArray

from nas.cost.counts import Costs, layer_costs, outer_costs
from nas.space.blueprint import stack_shapes
from nas.space.gene import Gene, layer_fields
from nas.space.part import GROUPS, StackShape
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape

Counts = NDArray[np.int64]
# Up to this many possible values they are looked up instead of sorted.
DENSE = 4_000_000


def costs_of_many(space: SearchSpace, shape: TaskShape, codes: Codes) -> Costs:
    """`nas.cost.counts.costs` of every genome (n, genes): its fields are arrays of n numbers.

    What is outside the layers is worked out once for each of its settings, and each layer once for
    each of its own: 100,000 rows take about as long as a thousand one by one.
    """
    first = len(space.stacks) + len(space.network)
    kinds, frame = _distinct(codes[:, :first], space.genes[:first])
    built = [space.build(tuple(map(int, codes[row]))) for row in kinds]
    outer = [outer_costs(each.without_layers(), shape) for each in built]
    total = _table(outer)[frame]
    shapes = [stack_shapes(each, shape) for each in built]
    for number, stack in enumerate(space.owner.stacks):
        commons = [each[number] for each in shapes]
        depths = np.array(space.stacks[number].depth)[codes[:, number]]
        for layer in range(max(space.stacks[number].depth)):
            rows = np.flatnonzero(depths > layer)
            if not len(rows):
                break
            at = (stack, layer)
            places = [i for i, gene in enumerate(space.genes) if (gene.stack, gene.layer) == at]
            found = _layers(space, places, commons, frame[rows], codes[rows])
            total[rows, :-1] += found[:, :-1]
            total[rows, -1] = np.maximum(total[rows, -1], found[:, -1])
    # Arrays add and multiply as the integers do that a single architecture has here.
    params, activations = cast(int, total[:, 0]), cast(int, total[:, -1])
    return Costs(params, tuple(cast(int, total[:, 1 + i]) for i in range(len(GROUPS))), activations)


def _layers(
    space: SearchSpace,
    places: Sequence[int],
    commons: Sequence[StackShape],
    frame: Counts,
    codes: Codes,
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
        figures.append(layer_costs(stack.layer(**layer_fields(picked, shape.width)), shape))
    return _table(figures)[kind]


def _table(found: Sequence[Costs]) -> Counts:
    rows = [(each.params, *each.macs, each.activations) for each in found]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(GROUPS) + 2)


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
