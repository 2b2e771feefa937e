"""What do many architectures of one space cost? The exact sums over parts, for all rows at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

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
Row = Sequence[int]
Setting = tuple[int, ...]
"""What a layer shares with the others of its stack, and its own codes."""
Met = dict[Setting, Row]
"""A layer's figures by its setting."""
# Up to this many possible values they are looked up instead of sorted.
DENSE = 4_000_000


def costs_of_many(space: SearchSpace, shape: TaskShape, codes: Codes) -> Costs:
    """`nas.cost.counts.costs` of every genome (n, genes): its fields are arrays of n numbers."""
    total = sums_of_many(
        space,
        shape,
        codes,
        lambda bare: _figures(outer_costs(bare, shape)),
        lambda layer, common: _figures(layer_costs(layer, common)),
        figures=len(GROUPS) + 2,
        largest=1,
    )
    # Arrays add and multiply as the integers do that a single architecture has here.
    params, *macs, activations = (cast(int, figure) for figure in total)
    return Costs(params, tuple(macs), activations)


def _figures(costs: Costs) -> Row:
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
    """(figures, n): what lies outside the layers and every layer, added up, of genomes (n, genes).

    Of the last `largest` figures the largest counts instead. `outer` is asked once for each setting
    outside the layers, without them, and `layer` once for each of its own: 100,000 rows take about
    as long as a thousand one by one.
    """
    first = len(space.stacks) + len(space.network)
    genes = np.ascontiguousarray(codes.T)
    kinds, frame = _distinct(genes[:first], [len(gene.choices) for gene in space.genes[:first]])
    built = [space.build(tuple(map(int, codes[row]))) for row in kinds]
    total = _table([outer(each.without_layers()) for each in built], figures).take(frame, axis=1)
    added, most = slice(0, figures - largest), slice(figures - largest, figures)
    shapes = [stack_shapes(each, shape) for each in built]
    for number, stack in enumerate(space.owner.stacks):
        known = list(dict.fromkeys(each[number] for each in shapes))
        common = np.array([known.index(each[number]) for each in shapes], dtype=np.int64)[frame]
        alike: dict[Any, Met] = {}
        for index in range(max(space.stacks[number].depth)):
            at = (stack, index)
            places = [i for i, gene in enumerate(space.genes) if (gene.stack, gene.layer) == at]
            own = [space.genes[i] for i in places]
            met = alike.setdefault(tuple((gene.field, gene.choices) for gene in own), {})
            kind, settings = _settings(own, genes[places], known, common, met, layer)
            found = _table([met.get(each, (0,) * figures) for each in settings], figures)
            found = found.take(kind, axis=1)
            total[added] += found[added]
            np.maximum(total[most], found[most], out=total[most])
    return total


def _settings(
    genes: Sequence[Gene],
    codes: NDArray[np.int16],
    known: Sequence[StackShape],
    common: Counts,
    met: Met,
    layer: Callable[[Layer, StackShape], Row],
) -> tuple[Counts, list[Setting]]:
    """Which setting each row has of a layer, of its codes (its genes, n), and the settings.

    Those that were not `met` before are, unless the layer is absent.
    """
    stack = genes[0].stack
    assert stack is not None, "a layer's gene has a stack"
    own = np.vstack([common, codes])
    kinds, kind = _distinct(own, [len(known), *(len(gene.choices) for gene in genes)])
    settings = list(map(tuple, own[:, kinds].T.tolist()))
    for setting in settings:
        shape, indices = known[setting[0]], setting[1:]
        if setting not in met and min(indices) >= 0:
            picked = {gene.field: gene.choices[i] for gene, i in zip(genes, indices, strict=True)}
            met[setting] = layer(stack.layer(**layer_fields(picked, shape.width)), shape)
    return kind, settings


def _table(rows: Sequence[Row], figures: int) -> Counts:
    """The figures (figures, rows)."""
    return np.array(rows, dtype=np.int64).reshape(len(rows), figures).T.copy()


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
