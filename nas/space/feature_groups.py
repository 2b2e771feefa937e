"""Which features come of the same field of a stack's layers, and what does each value give?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.space.plain_networks import is_number, key_of

Matrix = NDArray[np.float32]
Floats = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """Where what is told layer by layer stands: numbers from tables first, then the one-hots."""

    names: tuple[str, ...]
    numbers: tuple[tuple[int, Matrix], ...]
    hot: NDArray[np.intp]
    offsets: NDArray[np.intp]

    def tables(self, weights: Floats, counts: Sequence[int]) -> list[Floats]:
        """By position what each of its `counts` values adds to a sum, first what -1 does."""
        found = [np.zeros(count + 1) for count in counts]
        for weight, (position, table) in zip(weights, self.numbers, strict=False):
            found[position] += weight * np.roll(table, 1)
        for position, offset in zip(self.hot, self.offsets, strict=True):
            found[position][1:] += weights[offset : offset + counts[position]]
        return found


@dataclasses.dataclass(frozen=True, eq=False)
class Lookups:
    """What the codes of some columns add to a weighted sum, by how many of the columns are there.

    `tables` (columns, columns + 1, values + 1): by column and number that is there what each value
    adds, first what -1 does. Where that number does not count, its axis is 1 long.
    """

    positions: tuple[int, ...]
    tables: Floats

    def add(self, rows: NDArray[np.intp], total: Floats) -> None:
        """Adds to the sums (n,) of codes by column (columns, n)."""
        # Where code 0 stands in a column's table laid flat.
        first: NDArray[np.intp] | int = 1
        if self.tables.shape[1] > 1:
            there = (rows[list(self.positions)] >= 0).sum(axis=0)
            first = there * self.tables.shape[2] + 1
        for position, table in zip(self.positions, self.tables, strict=True):
            total += table.ravel().take(rows[position] + first)


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """One field of all layers of a stack: by layer, each value's features, last those of -1."""

    names: tuple[str, ...]
    positions: tuple[int, ...]
    tables: tuple[Matrix, ...]
    extent: float = 1.0

    @classmethod
    def of(cls, name: str, positions: Sequence[int], columns: Sequence[Sequence[Any]]) -> Group:
        """Of the columns' values: a number is the feature itself, anything else is one-hot."""
        values = [value for column in columns for value in column]
        if all(map(is_number, values)):
            tables = [np.array([*column, 0], dtype=np.float32)[:, None] for column in columns]
            return cls((name,), tuple(positions), tuple(tables), max(values) - min(values))
        different = {key_of(value): value for value in values}
        one_hot = dict(zip(different, np.eye(len(different), dtype=np.float32), strict=True))
        absent = np.zeros(len(different), dtype=np.float32)
        tables = [np.array([*(one_hot[key_of(v)] for v in c), absent]) for c in columns]
        names = tuple(f"{name}={value}" for value in different.values())
        return cls(names, tuple(positions), tuple(tables))

    def mean(self, rows: NDArray[np.intp]) -> Matrix:
        """(n, names) averages of the features over the layers that are there."""
        return self._weighted(rows, np.float32(1) / self._depth(rows))

    def place(self, rows: NDArray[np.intp]) -> Matrix:
        """(n, names) averages of the features times the layer's place, from -1 to 1."""
        return self._weighted(rows, self._places(self._depth(rows)))

    def lookups(self, of_mean: Floats, of_place: Floats, alone: Sequence[Floats]) -> Lookups:
        """What means and places, each times its weight, add together with what columns add alone.

        That is given by column for each value, first for -1.
        """
        means, places = self._padded @ of_mean, self._padded @ of_place
        depth, place = self._by_depth
        found = means[:, None] / depth[:, None] + places[:, None] * place[:, :, None]
        for added, own in zip(found, alone, strict=True):
            added[:, : len(own)] += own
        return Lookups(self.positions, found)

    @cached_property
    def _padded(self) -> Matrix:
        """The tables as one (layers, values + 1, names), what belongs to -1 first."""
        found = np.zeros((len(self.tables), max(map(len, self.tables)), len(self.names)))
        for padded, table in zip(found, self.tables, strict=True):
            padded[: len(table)] = np.roll(table, 1, axis=0)
        return found.astype(np.float32)

    @cached_property
    def _by_depth(self) -> tuple[Matrix, Matrix]:
        """Depths (layers + 1,), at least 1, and the factors (layers, layers + 1) of places."""
        depth = np.maximum(np.arange(len(self.positions) + 1, dtype=np.float32), 1)
        return depth, self._places(depth[None])

    def _places(self, depth: Matrix) -> Matrix:
        """(layers, n) by which a layer's feature is multiplied, of depths (1, n)."""
        steps = np.arange(len(self.positions), dtype=np.float32)[:, None]
        places = 2 * steps / np.maximum(depth - 1, 1) - (depth > 1)
        found: Matrix = (places / depth / self.extent).astype(np.float32)
        return found

    def _depth(self, rows: NDArray[np.intp]) -> Matrix:
        there = (rows[list(self.positions)] >= 0).sum(axis=0, dtype=np.float32)
        depth: Matrix = np.maximum(there, 1)[None]
        return depth

    def _weighted(self, rows: NDArray[np.intp], weights: Matrix) -> Matrix:
        each = np.broadcast_to(weights, (len(self.positions), rows.shape[1]))
        summed: Matrix = np.zeros((rows.shape[1], len(self.names)), dtype=np.float32)
        for table, position, weight in zip(self.tables, self.positions, each, strict=True):
            summed += table[rows[position]] * weight[:, None]
        return summed
