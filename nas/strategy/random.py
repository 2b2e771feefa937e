"""What to try next when nothing is assumed: uniform samples without repeats, the control of all."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from nas.errors import NothingFeasible
from nas.search.problem import Problem
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas.space.listed import ListedSpace
from nas.strategy.repair import ENUMERABLE, moves, repair, with_gene
from nas.strategy.strategy import generator

# Draws that may break a constraint before one is repaired: loose constraints leave it uniform.
DRAWS = 10
# Draws for one proposal that may meet what is known before the space is looked through.
TRIES = 30


class RandomOptions(BaseModel):
    """Random search has nothing to set."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class RandomSearch:
    """Draws from the space as `SearchSpace.sample` does, each architecture once.

    A draw that breaks an analytic constraint is repeated up to `DRAWS` times, then repaired; so
    architectures near a tight bound are proposed more often than others.
    """

    options_model: ClassVar[type[BaseModel]] = RandomOptions

    def __init__(self, options: RandomOptions | None = None) -> None:
        self.options = options or RandomOptions()

    def propose(
        self, problem: Problem, seed: int, trials: Sequence[Trial], count: int
    ) -> list[Architecture]:
        """The next `count` draws; see `nas.strategy.strategy.Strategy.propose`."""
        rng = generator("random", seed, trials)
        return fresh(problem, {trial.architecture for trial in trials}, rng, count)


def draw(problem: Problem, rng: random.Random) -> Architecture:
    """A random architecture that keeps the analytic constraints; raises `NothingFeasible`."""
    for _ in range(DRAWS):
        drawn = problem.space.sample(rng)
        if problem.analytic_violation(drawn) == 0:
            return drawn
    return repair(drawn, problem, rng)


def fresh(
    problem: Problem, known: set[Architecture], rng: random.Random, count: int
) -> list[Architecture]:
    """Up to `count` random architectures that are not `known`, all different and feasible.

    Where draws keep meeting known ones, what is left of the space is looked through: all of a list
    and of up to `ENUMERABLE` architectures, else the single changes of known ones. Raises
    `NothingFeasible` where none is found and none was known.
    """
    seen, found = set(known), list[Architecture]()
    reason: NothingFeasible | None = None
    tries = TRIES
    while len(found) < count and tries:
        try:
            drawn = draw(problem, rng)
        except NothingFeasible as error:
            reason = error
            break
        tries = tries - 1 if drawn in seen else TRIES
        if drawn not in seen:
            seen.add(drawn)
            found.append(drawn)
    if len(found) < count:
        found += _left(problem, seen, rng, count - len(found))
    if reason is not None and not seen and not found:
        raise reason
    return found


def _left(
    problem: Problem, seen: set[Architecture], rng: random.Random, count: int
) -> list[Architecture]:
    """Up to `count` feasible architectures outside `seen`, which is left as it was."""
    space = problem.space
    if isinstance(space, ListedSpace) or space.size <= ENUMERABLE:
        unseen = [each for each in space.enumerate() if each not in seen]
        rng.shuffle(unseen)
        candidates: Iterator[Architecture] = iter(unseen)
    else:
        candidates = _around(problem, seen, rng)
    found: dict[Architecture, None] = {}
    while len(found) < count:
        candidate = next(candidates, None)
        if candidate is None:
            break
        if candidate not in seen and problem.analytic_violation(candidate) == 0:
            found[candidate] = None
    return list(found)


def _around(
    problem: Problem, seen: set[Architecture], rng: random.Random
) -> Iterator[Architecture]:
    """The architectures one gene away from those seen, which are taken in random order."""
    space = problem.space
    # A set's order differs between processes; genomes have one that does not.
    genomes = sorted(space.genome(each) for each in seen)
    rng.shuffle(genomes)
    for genome in genomes:
        for position, index in moves(space, range(len(genome)), rng):
            if genome[position] not in (-1, index):
                yield space.build(with_gene(space, genome, position, index, rng))
