"""Which architectures are allowed where only some of a grid exist: those of a list."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.space.architecture import Architecture
from nas.space.gene import End, Genome
from nas.space.search_space import SearchSpace


@dataclasses.dataclass(frozen=True)
class ListedSpace(SearchSpace):
    """The architectures of a list: what a table of finished evaluations holds; see `listed_in`.

    The grid around them says how they vary. A mutation or a crossing is made in the grid and then
    replaced by the nearest that is listed, by the number of genes that differ, so that strategies
    move in it as in a whole space. `listed` are their genomes, each once.
    """

    listed: tuple[Genome, ...] = ()

    @cached_property
    def genomes(self) -> NDArray[np.int16]:
        return np.array(self.listed, dtype=np.int16)

    @cached_property
    def _held(self) -> frozenset[Genome]:
        return frozenset(self.listed)

    @property
    def size(self) -> int:
        return len(self.listed)

    def genome(self, architecture: Architecture) -> Genome:
        found = self.in_grid(architecture)
        if found not in self._held:
            raise SpecError(f"{architecture.id} is not one of the {self.size} of {self.name}")
        return found

    def in_grid(self, architecture: Architecture) -> Genome:
        """The genome of any architecture of the grid, listed or not."""
        return super().genome(architecture)

    def enumerate(self) -> Iterator[Architecture]:
        return map(self.build, self.listed)

    def sample(self, rng: random.Random) -> Architecture:
        """One of the list, each as often."""
        return self.build(self.listed[rng.randrange(self.size)])

    def mutate(
        self, architecture: Architecture, rng: random.Random, probability: float
    ) -> Architecture:
        """The listed one nearest to the mutant of the grid; another one, where genes changed."""
        before = self.genome(architecture)
        mutant = self.in_grid(super().mutate(architecture, rng, probability))
        return architecture if mutant == before else self.nearest(mutant, rng, but=before)

    def cross(self, one: Architecture, other: Architecture, rng: random.Random) -> Architecture:
        """The listed one nearest to the parents' child in the grid."""
        return self.nearest(self.in_grid(super().cross(one, other, rng)), rng)

    def extreme(self, end: End, *attentions: Choice) -> Architecture:
        """The listed one nearest to the grid's extreme."""
        return self.closest(self.in_grid(super().extreme(end, *attentions)))

    def closest(self, genome: Genome) -> Architecture:
        """The listed architecture nearest to a genome of the grid, the first where several are."""
        return self.nearest(genome, random.Random(0))

    def nearest(
        self, genome: Genome, rng: random.Random, *, but: Genome | None = None
    ) -> Architecture:
        """The listed architecture that differs in fewest genes, drawn where several do.

        `but` is left out, unless the list holds nothing else.
        """
        apart = (self.genomes != np.asarray(genome, dtype=np.int16)).sum(axis=1)
        if but is not None and self.size > 1:
            apart[self.listed.index(but)] = len(genome) + 1
        rows = np.flatnonzero(apart == apart.min())
        return self.build(self.listed[int(rows[rng.randrange(len(rows))])])

    def allows_everywhere(self, attention: Choice) -> bool:
        """Whether a listed one has this attention type at every site."""
        return super().allows_everywhere(attention) and bool(self._homogeneous(attention))

    def homogeneous(self, attention: Choice) -> ListedSpace:
        """Those of the list with this attention type alone; raises `SpecError` if none."""
        found = self._homogeneous(attention)
        if not found:
            raise SpecError(f"{self.name}: none of its list has attention {attention} alone")
        return dataclasses.replace(self, name=f"{self.name}[{attention}]", listed=found)

    def _homogeneous(self, attention: Choice) -> tuple[Genome, ...]:
        return tuple(g for g in self.listed if {*self.build(g).attentions} == {attention})

    def to_json(self) -> dict[str, Any]:
        """The grid's canonical form and the genomes."""
        return {**super().to_json(), "listed": [list(genome) for genome in self.listed]}


def listed_in(grid: SearchSpace, genomes: Sequence[Sequence[int]]) -> ListedSpace:
    """The architectures of a grid that these genomes give.

    Raises `SpecError` for an empty list, a genome that is none of the grid's, and one that is there
    twice.
    """
    if not genomes:
        raise SpecError("an empty list; at least one genome is needed")
    for place, genome in enumerate(genomes):
        if not _is_of(grid, genome):
            raise SpecError(f"{place}: {list(genome)} is no genome of {grid.name}")
    found = tuple(dict.fromkeys(map(tuple, genomes)))
    if len(found) < len(genomes):
        raise SpecError(f"{len(genomes) - len(found)} genomes are there twice")
    return ListedSpace(grid.name, grid.kind, grid.network, grid.stacks, found)


def _is_of(grid: SearchSpace, genome: Sequence[int]) -> bool:
    lengths, depths = [len(gene.choices) for gene in grid.genes], len(grid.stacks)
    choices = [*zip(genome, lengths, strict=False)]
    if len(genome) != len(lengths) or any(not 0 <= i < n for i, n in choices[:depths]):
        return False
    active = {*grid.active(genome)}
    return all(0 <= i < n if p in active else i == -1 for p, (i, n) in enumerate(choices))
