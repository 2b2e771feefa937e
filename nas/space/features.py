"""How is an architecture told to a model that learns from few of them?"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.space.architecture import Architecture
from nas.space.feature_groups import Floats, Group, Layout, Lookups, Matrix
from nas.space.layer import ALIASES
from nas.space.plain_networks import is_number, key_of, names_in, read_network, values_in
from nas.space.population import Codes
from nas.space.search_space import SearchSpace

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
        """Whether the values are numbers and so have a mean; the codes of others have none."""
        return all(map(is_number, self.values))

    @property
    def name(self) -> str:
        """Where it stands: `decoder.2.heads`."""
        return _joined(self.stack, "" if self.layer is None else str(self.layer), self.field)


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

        A network maps names to plain values and to lists of layers, a layer names to plain values
        (`nas.space.plain_networks`). What one network or layer does not name and another does is
        None there. Raises ValueError for anything else, and without networks.
        """
        if not networks:
            raise ValueError("no networks given; features are made of at least one")
        tables = [read_network(network) for network in networks]
        held = {
            name: [t.get(name, []) for _, t in tables] for name in names_in(t for _, t in tables)
        }
        stacks = {name: stack for name, stack in held.items() if any(stack)}
        columns = [
            Column(name, None, "depth", values_in(map(len, stack)))
            for name, stack in stacks.items()
        ]
        for field in names_in(outer for outer, _ in tables):
            values = values_in(outer.get(field) for outer, _ in tables)
            columns.append(Column("", None, field, values))
        for name, stack in stacks.items():
            layers = list(itertools.chain(*stack))
            fields = {f: values_in(layer.get(f) for layer in layers) for f in names_in(layers)}
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
        outer, stacks = read_network(network)
        known = {(c.stack, c.layer is None, c.field) for c in self.columns}
        given = [("", True, name) for name in outer]
        given += [(stack, False, name) for stack in stacks for name in names_in(stacks[stack])]
        for each in given:
            if each not in known:
                raise ValueError(f"{_joined(each[0], each[2])}: no name of the table's")
        row = []
        for column, indices in zip(self.columns, self._indices, strict=True):
            layers = stacks.get(column.stack, [])
            if column.layer is None:
                value = len(layers) if self._is_depth(column) else outer.get(column.field)
            elif column.layer < len(layers):
                value = layers[column.layer].get(column.field)
            else:
                row.append(-1)
                continue
            if key_of(value) not in indices:
                shown = ", ".join(map(str, column.values))
                raise ValueError(f"{column.name}: {value!r} is none of the table's values: {shown}")
            row.append(indices[key_of(value)])
        return row

    @cached_property
    def _indices(self) -> tuple[dict[Any, int], ...]:
        return tuple({key_of(v): i for i, v in enumerate(c.values)} for c in self.columns)

    def per_layer(self, codes: Codes) -> Matrix:
        """(n, features): every choice one-hot, each layer's apart, and the interactions.

        Before them each stack's depth as a number and, of each layer that not all depths have,
        whether it is there. All features of an absent layer are zero. Raises ValueError for codes
        of another number of columns.
        """
        layout, width = self._layout, len(self.per_layer_names)
        found = np.zeros((self._checked(codes), width), dtype=np.float32)
        flat = found.reshape(-1)
        for start, rows in self.rows(codes):
            hot = rows[layout.hot]
            there = hot >= 0
            first = np.arange(start, start + rows.shape[1]) * width
            places = np.where(there, hot, 0) + layout.offsets[:, None] + first
            flat[places.T.ravel()] = there.T.ravel()
            for column, (position, table) in enumerate(layout.numbers):
                found[start : start + rows.shape[1], column] = table[rows[position]]
        return found

    def averages(self, codes: Codes) -> Matrix:
        """(n, features): by stack the depth, shares of each choice and means of numbers.

        They are taken over the layers that are there and have the field. What has a single value is
        left out. Raises ValueError for codes of another number of columns.
        """
        return self._grouped(self._groups, codes, Group.mean)

    def places(self, codes: Codes) -> Matrix:
        """(n, features): whether a choice, or larger numbers, stand early or late in their stack.

        Means, over the same layers, of the choice (0 or 1) or number (in units of its range) times
        the layer's place, from -1 for the first to 1 for the last; 0 for a single one. Raises
        ValueError for codes of another number of columns.
        """
        return self._grouped(self._inner_groups, codes, Group.place)

    def weighted(
        self, averages: Floats, per_layer: Floats | None = None, places: Floats | None = None
    ) -> FeatureSum:
        """The sum of all features, each times its weight; they are never made for it."""
        per_layer = np.zeros(len(self.per_layer_names)) if per_layer is None else per_layer
        places = np.zeros(len(self.places_names)) if places is None else places
        one, other = np.array(self.interactions, dtype=np.intp).reshape(-1, 2).T
        counts = np.array([len(column.values) for column in self.columns], dtype=np.intp)
        alone = self._layout.tables(per_layer, (*counts, *counts[one] * counts[other]))
        # Groups outside the layers, which have no places, have no weights of them either.
        inner, lookups, rest = self._inner_groups, list[Lookups](), set(range(len(alone)))
        of_places = dict(zip(map(id, inner), _split(places, inner), strict=True))
        for group, weights in zip(self._groups, _split(averages, self._groups), strict=True):
            own = [alone[position] for position in group.positions]
            none = np.zeros_like(weights)
            lookups.append(group.lookups(weights, of_places.get(id(group), none), own))
            rest -= set(group.positions)
        lookups += [Lookups((p,), alone[p][None, None]) for p in sorted(rest)]
        return FeatureSum(self, tuple(each for each in lookups if each.tables.any()))

    @property
    def per_layer_names(self) -> tuple[str, ...]:
        """What the features of `per_layer` are: `decoder.2.heads=4`."""
        return self._layout.names

    @property
    def averages_names(self) -> tuple[str, ...]:
        """What the features of `averages` are: `decoder.*.heads`, `*.attention=softmax`."""
        return tuple(name for group in self._groups for name in group.names)

    @property
    def places_names(self) -> tuple[str, ...]:
        """What the features of `places` are, named as in `averages`."""
        return tuple(name for group in self._inner_groups for name in group.names)

    def _checked(self, codes: Codes) -> int:
        if codes.ndim != 2 or codes.shape[1] != len(self.columns):
            raise ValueError(f"codes of shape {codes.shape}; (n, {len(self.columns)}) is allowed")
        return len(codes)

    def rows(self, codes: Codes) -> Iterator[tuple[int, NDArray[np.intp]]]:
        """(first row, codes by column (columns + interactions, rows)) of each chunk."""
        count = len(self.columns)
        one, other = np.array(self.interactions, dtype=np.intp).reshape(-1, 2).T
        sizes = np.array([len(self.columns[i].values) for i in other], dtype=np.intp)[:, None]
        for start in range(0, len(codes), CHUNK):
            part = codes[start : start + CHUNK]
            rows = np.empty((count + len(one), len(part)), dtype=np.intp)
            rows[:count] = part.T
            held = rows[one]
            np.multiply(held, sizes, out=rows[count:])
            rows[count:] += rows[other]
            np.copyto(rows[count:], -1, where=held < 0)
            yield start, rows

    def _grouped(self, groups: Sequence[Group], codes: Codes, features: Any) -> Matrix:
        width = sum(len(group.names) for group in groups)
        found = np.empty((self._checked(codes), width), dtype=np.float32)
        for start, rows in self.rows(codes):
            end = 0
            for group in groups:
                place = slice(end, end := end + len(group.names))
                found[start : start + rows.shape[1], place] = features(group, rows)
        return found

    @cached_property
    def _layout(self) -> Layout:
        numbers, hot = list[tuple[str, int, list[float]]](), list[tuple[int, list[str]]]()
        seen = set[tuple[str, int]]()
        for position, column in enumerate(self.columns):
            values, stack = column.values, column.stack
            if self._is_depth(column):
                numbers.append((column.name, position, [*values, 0]))
                continue
            if column.layer is not None and (stack, column.layer) not in seen:
                seen.add((stack, column.layer))
                if column.layer >= self._least_depths[stack]:
                    name = _joined(stack, str(column.layer))
                    numbers.append((name, position, [1.0] * len(values) + [0.0]))
            if len(values) > 1:
                hot.append((position, [f"{column.name}={value}" for value in values]))
        for position, (first, second) in enumerate(self.interactions, len(self.columns)):
            one, other = self.columns[first], self.columns[second]
            pairs = itertools.product(one.values, other.values)
            hot.append((position, [f"{one.name},{other.field}={a},{b}" for a, b in pairs]))
        widths = [len(names) for _, names in hot]
        return Layout(
            tuple(itertools.chain((name for name, _, _ in numbers), *(names for _, names in hot))),
            tuple((position, np.array(table, dtype=np.float32)) for _, position, table in numbers),
            np.array([position for position, _ in hot], dtype=np.intp),
            np.cumsum([len(numbers), *widths], dtype=np.intp)[:-1],
        )

    @cached_property
    def _groups(self) -> tuple[Group, ...]:
        found: dict[tuple[str, bool, str], list[int]] = {}
        for position, column in enumerate(self.columns):
            key = (column.stack, column.layer is None, column.field)
            found.setdefault(key, []).append(position)
        groups = []
        for (stack, outside, field), positions in found.items():
            columns = [self.columns[position] for position in positions]
            if len({key_of(value) for column in columns for value in column.values}) > 1:
                name = _joined(stack, "" if outside else "*", field)
                groups.append(Group.of(name, positions, [column.values for column in columns]))
        return tuple(groups)

    @cached_property
    def _inner_groups(self) -> tuple[Group, ...]:
        return tuple(g for g in self._groups if self.columns[g.positions[0]].layer is not None)

    @cached_property
    def _least_depths(self) -> dict[str, int]:
        stacks = {c.stack for c in self.columns if c.layer is not None}
        depths = [c for c in self.columns if c.layer is None and c.field == "depth"]
        return {c.stack: min(c.values) for c in depths if c.stack in stacks}

    def _is_depth(self, column: Column) -> bool:
        outside = column.layer is None and column.field == "depth"
        return outside and column.stack in self._least_depths


@dataclasses.dataclass(frozen=True, eq=False)
class FeatureSum:
    """A weighted sum of features, as what each code adds to it; made by `Features.weighted`."""

    features: Features
    lookups: tuple[Lookups, ...]

    def of(self, codes: Codes) -> Floats:
        """(n,) sums for codes (n, columns); each row's is a function of that row alone."""
        found = np.zeros(len(codes))
        for start, rows in self.features.rows(codes):
            for each in self.lookups:
                each.add(rows, found[start : start + rows.shape[1]])
        return found


def _split(weights: Floats, groups: Sequence[Group]) -> list[Floats]:
    """What belongs to each group."""
    ends = np.cumsum([len(group.names) for group in groups], dtype=np.intp)
    return np.split(weights, ends[:-1]) if groups else []


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


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
