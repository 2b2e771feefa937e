"""How is an architecture told to a model that learns from few of them?"""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.space.architecture import Architecture
from nas.space.layer import ALIASES
from nas.space.search_space import SearchSpace

Codes = NDArray[np.int16]
"""(n, columns): index of the chosen value per column, -1 where the layer is absent: genomes."""
Matrix = NDArray[np.float32]

# Rows that are filled in at once: what belongs to them stays in a core's cache.
CHUNK = 2048


@dataclasses.dataclass(frozen=True)
class Column:
    """One list of values: of the network or a stack's `depth` (`layer` None), or of one layer."""

    stack: str
    layer: int | None
    field: str
    values: tuple[Any, ...]

    @property
    def numeric(self) -> bool:
        """Whether the values are numbers and so have a mean; of others the codes are no numbers."""
        return all(isinstance(v, int | float) and not isinstance(v, bool) for v in self.values)

    @property
    def name(self) -> str:
        """Where it stands: `decoder.2.heads`."""
        parts = (self.stack, None if self.layer is None else str(self.layer), self.field)
        return ".".join(part for part in parts if part)


@dataclasses.dataclass(frozen=True)
class Features:
    """Architectures as rows of numbers, by what can vary in a space or in a table of networks.

    Every field of a network or layer that has choices is one of the `columns`, whatever it is.
    `interactions` are pairs of columns whose combinations are features too: what stands at an
    attention site with its heads and their width, which decide where linear attention pays.
    """

    columns: tuple[Column, ...]
    interactions: tuple[tuple[int, int], ...] = ()
    space: SearchSpace | None = dataclasses.field(default=None, compare=False, repr=False)

    @classmethod
    def of_space(cls, space: SearchSpace) -> Features:
        """The features of a space: its genes in their order, so that genomes are codes."""
        columns = tuple(
            Column(gene.stack.name if gene.stack else "", gene.layer, gene.field, gene.choices)
            for gene in space.genes
        )
        sites = [i for i, gene in enumerate(space.genes) if gene.is_attention]
        return cls(columns, tuple(_interactions(columns, sites)), space)

    @classmethod
    def of_networks(cls, networks: Sequence[Mapping[str, Any]]) -> Features:
        """The features of a table, from the values that its networks take.

        A network maps names to plain values and to lists of layers, a layer names to plain values;
        a mapping within a network is read as `encoder.width`, one within a layer as a value. What
        one network or layer does not name and another does is None there. Raises ValueError for
        anything else, and without networks.
        """
        if not networks:
            raise ValueError("no networks given; features are made of at least one")
        tables = [_read(network) for network in networks]
        outside = _names(outer for outer, _ in tables)
        held = {n: [t.get(n, []) for _, t in tables] for n in _names(t for _, t in tables)}
        stacks = {name: stack for name, stack in held.items() if any(stack)}
        columns = []
        for name, stack in stacks.items():
            columns.append(Column(name, None, "depth", tuple(sorted({len(s) for s in stack}))))
        for field in outside:
            columns.append(
                Column("", None, field, _values(outer.get(field) for outer, _ in tables))
            )
        for name, stack in stacks.items():
            layers = list(itertools.chain(*stack))
            fields = {f: _values(layer.get(f) for layer in layers) for f in _names(layers)}
            columns += [
                Column(name, index, field, values)
                for index in range(max(map(len, stack)))
                for field, values in fields.items()
            ]
        sites = [i for i, c in enumerate(columns) if c.layer is not None and not c.numeric]
        return cls(tuple(columns), tuple(_interactions(columns, sites)))

    def codes(self, given: Sequence[Architecture] | Sequence[Mapping[str, Any]]) -> Codes:
        """(n, columns) codes of the space's architectures, or of networks of the table's form.

        Raises `SpecError` for an architecture that is not the space's, ValueError for a network
        with a name, a depth or a value that none of the table had.
        """
        rows: list[Sequence[int]] = []
        for each in given:
            if self.space is None:
                rows.append(self._row(each))  # type: ignore[arg-type]
            else:
                rows.append(self.space.genome(each))  # type: ignore[arg-type]
        return np.array(rows, dtype=np.int16).reshape(len(rows), len(self.columns))

    def _row(self, network: Mapping[str, Any]) -> list[int]:
        outer, inner = _read(network)
        fields = {(c.stack, c.layer is None, c.field) for c in self.columns}
        given = [("", True, name) for name in outer]
        given += [(stack, False, name) for stack in inner for name in _names(inner[stack])]
        if unknown := [each for each in given if each not in fields]:
            raise ValueError(f"{unknown[0][0]}.{unknown[0][2]}: no name of the table's".lstrip("."))
        row = []
        for position, column in enumerate(self.columns):
            layers = inner.get(column.stack, [])
            if column.layer is None:
                value = len(layers) if self._is_depth(column) else outer.get(column.field)
            elif column.layer < len(layers):
                value = layers[column.layer].get(column.field)
            else:
                row.append(-1)
                continue
            index = self._indices[position].get(_key(value))
            if index is None:
                shown = ", ".join(map(str, column.values))
                raise ValueError(f"{column.name}: {value!r} is no value of the table's: {shown}")
            row.append(index)
        return row

    @cached_property
    def _indices(self) -> tuple[dict[Any, int], ...]:
        return tuple({_key(v): i for i, v in enumerate(c.values)} for c in self.columns)

    def per_layer(self, codes: Codes) -> Matrix:
        """(n, features): every choice one-hot, each layer's apart, and the interactions.

        Besides each stack's depth as a number and, of each layer that not all depths have, whether
        it is there. All features of an absent layer are zero. Raises ValueError for another number
        of columns.
        """
        return self._filled(self._per_layer, codes)

    def averages(self, codes: Codes) -> Matrix:
        """(n, features): by stack the depth, shares of each choice and means of numbers.

        They are taken over the layers that are there. What has a single value is left out. Raises
        ValueError for another number of columns.
        """
        return self._filled(self._averages, codes)

    @property
    def per_layer_names(self) -> tuple[str, ...]:
        """What the features of `per_layer` are: `decoder.2.heads=4`."""
        return tuple(name for block in self._per_layer for name in block.names)

    @property
    def averages_names(self) -> tuple[str, ...]:
        """What the features of `averages` are: `decoder.heads`, `decoder.attention=softmax`."""
        return tuple(name for block in self._averages for name in block.names)

    def _filled(self, blocks: Sequence[_Block], codes: Codes) -> Matrix:
        if codes.ndim != 2 or codes.shape[1] != len(self.columns):
            raise ValueError(f"codes of shape {codes.shape}; (n, {len(self.columns)}) is allowed")
        sizes = [len(self.columns[second].values) for _, second in self.interactions]
        found = np.empty((len(codes), sum(len(each.names) for each in blocks)), dtype=np.float32)
        for start in range(0, len(codes), CHUNK):
            rows = [*codes[start : start + CHUNK].T.astype(np.intp, order="C")]
            for (first, second), size in zip(self.interactions, sizes, strict=True):
                rows.append(np.where(rows[first] < 0, -1, rows[first] * size + rows[second]))
            end = 0
            for block in blocks:
                place = slice(end, end := end + len(block.names))
                found[start : start + CHUNK, place] = block.of(rows)
        return found

    @cached_property
    def _per_layer(self) -> tuple[_Block, ...]:
        blocks, seen = [], set[tuple[str, int]]()
        for position, column in enumerate(self.columns):
            if self._is_depth(column):
                blocks.append(_number([position], [column], column.name))
                continue
            if column.layer is not None and (column.stack, column.layer) not in seen:
                seen.add((column.stack, column.layer))
                if column.layer >= self._depths[column.stack]:
                    there = dataclasses.replace(column, values=(1,) * len(column.values), field="")
                    blocks.append(_number([position], [there], there.name))
            if len(column.values) > 1:
                blocks.append(_one_hot([position], [column], column.name))
        for number, (first, second) in enumerate(self.interactions, len(self.columns)):
            one, other = self.columns[first], self.columns[second]
            values = tuple(f"{a},{b}" for a in one.values for b in other.values)
            pair = dataclasses.replace(one, field=f"{one.field},{other.field}", values=values)
            blocks.append(_one_hot([number], [pair], pair.name))
        return tuple(blocks)

    @cached_property
    def _averages(self) -> tuple[_Block, ...]:
        groups: dict[tuple[str, bool, str], list[int]] = {}
        for position, column in enumerate(self.columns):
            key = (column.stack, column.layer is None, column.field)
            groups.setdefault(key, []).append(position)
        blocks = []
        for (stack, outside, field), positions in groups.items():
            name = ".".join(part for part in (stack, "" if outside else "*", field) if part)
            columns = [self.columns[position] for position in positions]
            if len({_key(value) for column in columns for value in column.values}) > 1:
                numeric = all(column.numeric for column in columns)
                blocks.append((_number if numeric else _one_hot)(positions, columns, name))
        return tuple(blocks)

    @cached_property
    def _depths(self) -> dict[str, int]:
        """The least depth of each stack."""
        stacks = {c.stack for c in self.columns if c.layer is not None}
        depths = [c for c in self.columns if c.layer is None and c.field == "depth"]
        return {c.stack: min(c.values) for c in depths if c.stack in stacks}

    def _is_depth(self, column: Column) -> bool:
        return column.layer is None and column.field == "depth" and column.stack in self._depths


@dataclasses.dataclass(frozen=True, eq=False)
class _Block:
    """Features that each column gives by a table, averaged over those columns that are there.

    `tables` (positions, values + 1, names) hold the features of each value, last those of -1.
    """

    names: tuple[str, ...]
    positions: tuple[int, ...]
    tables: tuple[Matrix, ...]

    def of(self, codes: Sequence[NDArray[np.intp]]) -> Matrix:
        """The features (n, names) of the codes (n,) of each column."""
        parts = [table[codes[i]] for table, i in zip(self.tables, self.positions, strict=True)]
        if len(parts) == 1:
            return parts[0]
        there = sum((codes[i] >= 0).astype(np.float32) for i in self.positions)
        mean: Matrix = np.sum(parts, axis=0) / np.maximum(there, np.float32(1))[:, None]
        return mean


def _number(positions: Sequence[int], columns: Sequence[Column], name: str) -> _Block:
    tables = [np.array([*column.values, 0], dtype=np.float32)[:, None] for column in columns]
    return _Block((name,), tuple(positions), tuple(tables))


def _one_hot(positions: Sequence[int], columns: Sequence[Column], name: str) -> _Block:
    keys = {_key(value): value for column in columns for value in column.values}
    place = {key: index for index, key in enumerate(keys)}
    tables = []
    for column in columns:
        table = np.zeros((len(column.values) + 1, len(keys)), dtype=np.float32)
        table[range(len(column.values)), [place[_key(value)] for value in column.values]] = 1
        tables.append(table)
    return _Block(tuple(f"{name}={v}" for v in keys.values()), tuple(positions), tuple(tables))


def _interactions(columns: Sequence[Column], sites: Sequence[int]) -> Iterator[tuple[int, int]]:
    """What stands at a site of a layer with the numbers and widths of its heads.

    Where a layer has several sites, a field is of the one whose name before `attention` it begins
    with for the longest: `cross_heads` is of `cross_attention`, `heads` of `attention`.
    """
    for position, column in enumerate(columns):
        target = ALIASES[column.field].target if column.field in ALIASES else column.field
        if column.layer is None or "head" not in target or len(column.values) == 1:
            continue
        prefixes = {}
        for site in sites:
            before, attention, _ = columns[site].field.partition("attention")
            prefix = before if attention else ""
            beside = (columns[site].stack, columns[site].layer) == (column.stack, column.layer)
            if beside and site != position and target.startswith(prefix):
                prefixes[site] = len(prefix)
        for site, length in prefixes.items():
            if length == max(prefixes.values()) and len(columns[site].values) > 1:
                yield site, position


def _read(network: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, list[Mapping[str, Any]]]]:
    """(plain values, stacks of layers) of a network by their names, mappings within it joined."""
    outer: dict[str, Any] = {}
    stacks: dict[str, list[Mapping[str, Any]]] = {}
    for name, value in network.items():
        if isinstance(value, Mapping):
            values, within = _read(value)
            outer |= {f"{name}.{key}": each for key, each in values.items()}
            stacks |= {f"{name}.{key}": each for key, each in within.items()}
        elif isinstance(value, list | tuple):
            if not all(isinstance(layer, Mapping) for layer in value):
                raise ValueError(f"{name}: a list of layers is allowed, each a mapping; {value!r}")
            stacks[name] = [
                {key: _plain(v, f"{name}.{key}") for key, v in layer.items()} for layer in value
            ]
        else:
            outer[name] = _plain(value, name)
    return outer, stacks


def _plain(value: Any, where: str) -> Any:
    """The value, a mapping as its JSON; raises ValueError for what is no plain value."""
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    if (
        value is None
        or isinstance(value, str | bool)
        or (isinstance(value, int | float) and math.isfinite(value))
    ):
        return value
    raise ValueError(
        f"{where}: {value!r} given; a name, a finite number or true or false is allowed"
    )


def _names(tables: Iterable[Mapping[str, Any]]) -> list[str]:
    """The names in all tables, in the order of their appearance."""
    return list(dict.fromkeys(itertools.chain(*tables)))


def _key(value: Any) -> Any:
    """What tells values apart: 1 and 1.0 are one number, True is none."""
    return (bool, value) if isinstance(value, bool) else value


def _values(found: Iterable[Any]) -> tuple[Any, ...]:
    """The different values: numbers ascending, then the others by what is written."""
    different = {_key(value): value for value in found}.values()
    numbers = sorted(v for v in different if isinstance(v, int | float) and not isinstance(v, bool))
    others = [v for v in different if isinstance(v, bool) or not isinstance(v, int | float)]
    return (*numbers, *sorted(others, key=repr))
