"""What to try next when good architectures resemble each other: NSGA-II in small pure parts.

K. Deb, A. Pratap, S. Agarwal, T. Meyarivan: A fast and elitist multiobjective genetic algorithm:
NSGA-II, IEEE Transactions on Evolutionary Computation 6(2), 2002.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nas.errors import NothingFeasible
from nas.search.pareto import crowding_distance, losses_of, scored
from nas.search.problem import Problem
from nas.search.survival import constrained_ranks
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas.strategy.random import fresh
from nas.strategy.repair import ENDS, repair
from nas.strategy.strategy import by_index, generator

Probability = Annotated[float, Field(ge=0, le=1)]

# The largest population that it may have.
MOST_PARENTS = 10_000
# Children of one place in the batch that may turn out to be known before a random one takes it.
TRIES = 20


class EvolutionOptions(BaseModel):
    """Options of `Evolution`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    population: Annotated[int, Field(ge=2, le=MOST_PARENTS)] = 24
    """How many of the best trials are parents, and how many come before the first children."""
    mutation_probability: Probability | None = None
    """Per gene; null: 1 / the number of the architecture's genes."""
    crossover_probability: Probability = 0.9
    """How often a child has two parents."""
    tournament: Annotated[int, Field(ge=1, le=100)] = 2
    """How many survivors compete to be a parent."""


@dataclass(frozen=True)
class Survivor:
    """A parent to be: an architecture with its front (0 is best) and crowding distance."""

    architecture: Architecture
    rank: int
    crowding: float


class Evolution:
    """NSGA-II whose population is what survives of all trials so far, so it keeps no state.

    The first `population` proposals are the smallest and the largest architecture of each attention
    type (as far as they are feasible and fill at most half of them), then random ones. Then come
    children of the survivors: tournament, uniform crossover, mutation, repair. Known children are
    made anew with more mutation, and after `TRIES` a random architecture takes the place. Failed
    and infeasible trials are worst of all: never parents. Constraints on measured metrics work
    through Deb's constrained domination.
    """

    options_model: ClassVar[type[BaseModel]] = EvolutionOptions

    def __init__(self, options: EvolutionOptions | None = None) -> None:
        self.options = options or EvolutionOptions()

    def propose(
        self, problem: Problem, seed: int, trials: Sequence[Trial], count: int
    ) -> list[Architecture]:
        """The next `count` architectures; see `nas.strategy.strategy.Strategy.propose`."""
        rng = generator("evolution", seed, trials)
        known = {trial.architecture for trial in trials}
        proposed: list[Architecture] = []

        def take(architectures: list[Architecture]) -> None:
            known.update(architectures)
            proposed.extend(architectures)

        first = min(count, self.options.population - len(trials))
        if first > 0:
            ends = [each for each in extremes(problem) if each not in known]
            room = self.options.population // 2 - len(trials)
            take(ends[: max(0, min(first, room))])
            take(fresh(problem, known, rng, first - len(proposed)))
        parents = survivors(by_index(trials), problem, self.options.population)
        while parents and len(proposed) < count:
            child = self._child(parents, problem, known, rng)
            made = fresh(problem, known, rng, 1) if child is None else [child]
            if not made:
                return proposed
            take(made)
        take(fresh(problem, known, rng, count - len(proposed)))
        return proposed

    def _child(
        self,
        parents: Sequence[Survivor],
        problem: Problem,
        known: set[Architecture],
        rng: random.Random,
    ) -> Architecture | None:
        """A feasible child that is not known; None where `TRIES` attempts give none."""
        options, space = self.options, problem.space
        for attempt in range(TRIES):
            child = tournament(parents, options.tournament, rng).architecture
            if rng.random() < options.crossover_probability:
                other = tournament(parents, options.tournament, rng).architecture
                child = space.cross(child, other, rng)
            probability = options.mutation_probability
            if probability is None:
                probability = 1 / space.active_genes(child)
            child = space.mutate(child, rng, min(1.0, probability * (1 + attempt / 4)))
            try:
                child = repair(child, problem, rng)
            except NothingFeasible:
                continue
            if child not in known:
                return child
        return None


def extremes(problem: Problem) -> list[Architecture]:
    """The feasible ones among the smallest and largest architecture of each attention type."""
    space = problem.space
    found = (space.extreme(end, choice) for choice in space.all_attentions for end in ENDS)
    kept = (each for each in found if space.contains(each))
    return [each for each in dict.fromkeys(kept) if problem.analytic_violation(each) == 0]


def survivors(trials: Sequence[Trial], problem: Problem, count: int) -> list[Survivor]:
    """The best `count` scored trials: by rank, then crowding distance, then the earlier one."""
    given = scored(trials)
    losses = losses_of(given, problem.objectives)
    violations = np.array([problem.violation(trial.metrics) for trial in given])
    ranks = constrained_ranks(losses, violations)
    crowding = np.zeros(len(given))
    for rank in np.unique(ranks[violations == 0]):
        rows = np.flatnonzero(ranks == rank)
        crowding[rows] = crowding_distance(losses[rows])
    order = np.lexsort((-crowding, ranks))[:count]
    return [
        Survivor(given[row].architecture, int(ranks[row]), float(crowding[row])) for row in order
    ]


def tournament(parents: Sequence[Survivor], size: int, rng: random.Random) -> Survivor:
    """The best of `size` survivors drawn with replacement: lower rank, then larger crowding."""
    entrants = (parents[rng.randrange(len(parents))] for _ in range(size))
    return min(entrants, key=lambda each: (each.rank, -each.crowding))
