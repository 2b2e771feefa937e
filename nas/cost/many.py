"""What do many architectures of one space cost? The exact sums over parts, for all rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nas.cost.counts import NOTHING, Costs, layer_costs, outer_costs
from nas.space.blueprint import stack_shapes
from nas.space.gene import Gene, layer_fields
from nas.space.part import GROUPS, StackShape
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.space.task_shape import TaskShape

Counts = NDArray[np.int64]
Met = dict[tuple[int, ...], Costs]
"""What a layer costs by what it shares with the others of its stack and its own codes."""
# Up to this many possible values they are looked up instead of sorted.
DENSE = 4_000_000


def costs_of_many(space: SearchSpace, shape: TaskShape, codes: Codes) -> Costs:
    """`nas.cost.counts.costs` of every genome (n, genes): its fields are arrays of n numbers.

    What is outside the layers is worked out once for each of its settings, and each layer once for
    each of its own: 100,000 rows take about as long as a thousand one by one.
    """
    first = len(space.stacks) + len(space.network)
    genes = np.ascontiguousarray(codes.T)
    kinds, frame = _distinct(genes[:first], [len(gene.choices) for gene in space.genes[:first]])
    built = [space.build(tuple(map(int, codes[row]))) for row in kinds]
    outer = [outer_costs(each.without_layers(), shape) for each in built]
    total = _table(outer).take(frame, axis=1)
    shapes = [stack_shapes(each, shape) for each in built]
    for number, stack in enumerate(space.owner.stacks):
        known = list(dict.fromkeys(each[number] for each in shapes))
        common = np.array([known.index(each[number]) for each in shapes], dtype=np.int64)[frame]
        alike: dict[Any, Met] = {}
        for layer in range(max(space.stacks[number].depth)):
            at = (stack, layer)
            places = [i for i, gene in enumerate(space.genes) if (gene.stack, gene.layer) == at]
            own = [space.genes[i] for i in places]
            met = alike.setdefault(tuple((gene.field, gene.choices) for gene in own), {})
            found = _layers(own, genes[places], known, common, met)
            total[:-1] += found[:-1]
            np.maximum(total[-1], found[-1], out=total[-1])
    # Arrays add and multiply as the integers do that a single architecture has here.
    params, *macs, activations = (cast(int, figure) for figure in total)
    return Costs(params, tuple(macs), activations)


def _layers(
    genes: Sequence[Gene],
    codes: NDArray[np.int16],
    known: Sequence[StackShape],
    common: Counts,
    met: Met,
) -> Counts:
    """The figures of one layer in all rows, of its codes (its genes, n); 0 where it is absent."""
    stack = genes[0].stack
    assert stack is not None, "a layer's gene has a stack"
    own = np.vstack([common, codes])
    kinds, kind = _distinct(own, [len(known), *(len(gene.choices) for gene in genes)])
    settings = list(map(tuple, own[:, kinds].T.tolist()))
    for setting in settings:
        if setting in met:
            continue
        shape, indices = known[setting[0]], setting[1:]
        if min(indices) < 0:
            met[setting] = NOTHING
            continue
        picked = {gene.field: gene.choices[i] for gene, i in zip(genes, indices, strict=True)}
        met[setting] = layer_costs(stack.layer(**layer_fields(picked, shape.width)), shape)
    return _table([met[setting] for setting in settings]).take(kind, axis=1)


def _table(found: Sequence[Costs]) -> Counts:
    """The figures in rows (figures, n)."""
    rows = [(each.params, *each.macs, each.activations) for each in found]
    return np.array(rows, dtype=np.int64).reshape(len(rows), len(GROUPS) + 2).T.copy()


def _distinct(codes: NDArray[np.integer], lengths: Sequence[int]) -> tuple[Counts, Counts]:
    """Columns that show every distinct column of `codes` once, and which of them each is like.

    `lengths` are the numbers of values by row, -1 beside them.
    """
    number = np.zeros(codes.shape[1], dtype=np.int64)
    size = 1
    for row, length in zip(codes, lengths, strict=True):
        number *= length + 1
        number += row
        number += 1
        size *= length + 1
    if size >= 2**62:
        _, rows, kind = np.unique(codes, axis=1, return_index=True, return_inverse=True)
        return rows, kind.reshape(-1)
    if size > DENSE:
        _, rows, kind = np.unique(number, return_index=True, return_inverse=True)
        return rows, kind
    shown = np.full(size, -1, dtype=np.int64)
    shown[number] = np.arange(len(number))
    values = np.flatnonzero(shown >= 0)
    place = np.empty(size, dtype=np.int64)
    place[values] = np.arange(len(values))
    return shown[values], place[number]
