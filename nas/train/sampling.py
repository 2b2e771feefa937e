"""Which subnets does a step train? A balanced schedule, pure in (space, recipe, seed, step)."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from nas.operators.declaration import Choice
from nas.search.recipe import SupernetRecipe
from nas.space.architecture import Architecture
from nas.space.search_space import SearchSpace

Role = Literal["largest", "smallest", "random", "fair"]


@dataclass(frozen=True)
class Sampled:
    """One net of a step; `homogeneous` where the schedule gave every site the same type."""

    role: Role
    architecture: Architecture
    homogeneous: bool


def block_length(space: SearchSpace) -> int:
    """Nets of a block: the least common multiple of the sites' numbers of attention types."""
    return math.lcm(*(len(site) for stack in space.sites for site in stack))


def attention_block(
    space: SearchSpace, dimensions: Architecture, homogeneous: bool, rng: random.Random
) -> Iterator[tuple[tuple[Choice, ...], bool]]:
    """The attention types by site of the nets of one block, and whether each is homogeneous.

    Over a block of L nets, a site with T types has each of them L / T times, in an order of its
    own: strict fairness (Chu et al., FairNAS, ICCV 2021) for the attention types. In a homogeneous
    block the sites move together: with the same types everywhere all L nets are homogeneous, each
    type equally often. Where types differ by site, a type that all sites of `dimensions` may have
    comes L / max(T) times at every site at once, and the other nets of the block keep the balance.
    """
    length = block_length(space)
    choices = space.sites_of(dimensions)
    together = length // max(len(types) for types in choices)
    everywhere = [t for t in choices[0] if homogeneous and all(t in each for each in choices)]
    shared = everywhere * together
    columns = []
    for types in choices:
        rest = []
        for each in types:
            rest += [each] * (length // len(types) - (together if each in everywhere else 0))
        rng.shuffle(rest)
        columns.append(shared + rest)
    nets = list(zip(*columns, strict=True))
    for position in rng.sample(range(length), length):
        yield nets[position], position < len(shared)


class Schedule:
    """The nets of every step of a recipe.

    `uniform` trains one random net a step, `sandwich` the largest, the smallest and n random ones
    (Yu and Huang, Universally Slimmable Networks, ICCV 2019). Each of these roles has blocks of L
    steps (`block_length`): dimensions are drawn once a block by `SearchSpace.sample`, attention
    types come from `attention_block`, and every `homogeneous_every`-th block is homogeneous, so a
    type's homogeneous net has 1 / (homogeneous_every x max T) of the role's steps. `fair` trains a
    whole block in one step. Balance is exact over whole blocks, for the layers that are active.
    """

    def __init__(self, space: SearchSpace, recipe: SupernetRecipe, seed: int) -> None:
        self.space, self.recipe, self.seed = space, recipe, seed
        one: Role = "random"
        others = (one,) * recipe.random_subnets
        roles: dict[str, tuple[Role, ...]] = {
            "uniform": ("random",),
            "fair": ("fair",),
            "sandwich": ("largest", "smallest", *others),
        }
        self._roles = roles[recipe.sampling]
        self._extremes: dict[Role, Architecture] = {
            "largest": space.extreme("largest"),
            "smallest": space.extreme("smallest"),
        }
        self._length = block_length(space)
        self._latest: dict[int, tuple[int, tuple[Sampled, ...]]] = {}

    def at(self, step: int) -> tuple[Sampled, ...]:
        """The nets of a step, in the order in which they are trained."""
        if self.recipe.sampling == "fair":
            return self._block(0, step)
        block, position = divmod(step, self._length)
        return tuple(self._block(net, block)[position] for net in range(len(self._roles)))

    def _block(self, net: int, block: int) -> tuple[Sampled, ...]:
        kept = self._latest.get(net)
        if kept is None or kept[0] != block:
            kept = self._latest[net] = (block, tuple(self._drawn(net, block)))
        return kept[1]

    def _drawn(self, net: int, block: int) -> Iterator[Sampled]:
        role = self._roles[net]
        rng = random.Random(f"{self.seed} net {net} {role} block {block}")
        dimensions = self._extremes.get(role) or self.space.sample(rng)
        every = self.recipe.homogeneous_every
        together = block % every == every - 1
        for types, homogeneous in attention_block(self.space, dimensions, together, rng):
            yield Sampled(role, dimensions.replace_attention(*types), homogeneous)
