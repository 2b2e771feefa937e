"""What to try next when few scores must do: a learnt ranker screens what nobody has scored yet.

The plan of LINAS (Cummings et al., A hardware-aware system for accelerating deep neural network
optimization, 2022) and of RankNAS (Hu et al., 2021): score a sample, fit a ranker, screen a large
population with it, score the best of that, and again.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nas.search.pareto import scored
from nas.search.problem import Problem
from nas.search.trial import Trial
from nas.space import population
from nas.space.architecture import Architecture
from nas.space.features import Features
from nas.space.listed import ListedSpace
from nas.space.population import Codes
from nas.space.search_space import SearchSpace
from nas.strategy.evolution import (
    MOST_PARENTS,
    Evolution,
    EvolutionOptions,
    extremes,
    survivors,
)
from nas.strategy.random import fresh
from nas.strategy.ranker_members import load_packages
from nas.strategy.repair import ENUMERABLE
from nas.strategy.strategy import by_index, generator
from nas.strategy.surrogate import FEWEST, Surrogate

# Of the candidates, what is drawn from the whole space; the rest are children of the best trials.
DRAWN = 0.4
PARENTS = 50
MUTATED_GENES = 1.5
# Under tight constraints children of feasible ones are added until this share is reached.
ENOUGH, ROUNDS = 0.1, 4
# Of the first sample, how many draws stand for choice for each place.
DRAWS_EACH = 20
# Under constraints so many are drawn to find them: at one in fifty still enough.
SAMPLED = 10_000

Member = Literal["linear_pairs", "linear_ranks", "linear_losses", "boosted_ranks", "boosted_pairs"]


class RankedOptions(BaseModel):
    """Options of `Ranked`."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True
    )

    initial: Annotated[int, Field(ge=FEWEST, le=10_000)] = 30
    """Architectures spread over the space that are scored before the first ranker is fitted."""
    candidates: Annotated[int, Field(ge=100, le=10_000_000)] = 100_000
    """How many are drawn, or made of the best so far, and screened for every batch."""
    member: Member | None = None
    """The ranker; null: a blend, by cross-validation on the trials, anew as they become more."""
    optimism: Annotated[float, Field(ge=0, le=10)] = 1.0
    """How many standard errors of its loss a candidate is taken to be better by: with none, scores
    that are mostly noise leave nothing that promises to widen the front."""


class Ranked:
    """Screens candidates by what a ranker learnt of the trials, and proposes what pays together.

    The first `initial` proposals are the extremes of each attention type and then, one after the
    other, what lies farthest from all of them among random draws. Later batches are those of
    `candidates` that keep the analytic constraints and, as a `Surrogate` predicts them, add most to
    the hypervolume of the front and of each other. Where cross-validation shows a ranker to be no
    better than counting parameters it is not used: the batch is NSGA-II's.
    """

    options_model: ClassVar[type[BaseModel]] = RankedOptions

    def __init__(self, options: RankedOptions | None = None) -> None:
        """Raises `ModuleNotFoundError` where its member's packages are not installed.

        And `OSError` where a library that they are linked with is not there.
        """
        self.options = options or RankedOptions()
        load_packages(self.options.member)

    def propose(
        self, problem: Problem, seed: int, trials: Sequence[Trial], count: int
    ) -> list[Architecture]:
        """The next `count` architectures; see `nas.strategy.strategy.Strategy.propose`."""
        rng = generator("ranked", seed, trials)
        ordered = by_index(trials)
        known = {trial.architecture for trial in ordered}
        proposed: list[Architecture] = []
        first = min(count, self.options.initial - len(ordered))
        if first > 0:
            proposed += spread_out(problem, known, rng, first, self.options.initial // 2)
        elif len(scored(ordered)) >= FEWEST:
            proposed += self._screened(problem, seed, ordered, rng, count)
        taken = known | set(proposed)
        return proposed + fresh(problem, taken, rng, count - len(proposed))

    def account(self, problem: Problem, seed: int, trials: Sequence[Trial]) -> str:
        """By what ranker candidates are screened after all trials, or why by none."""
        held = scored(by_index(trials))
        if len(trials) <= self.options.initial or len(held) < FEWEST:
            return (
                f"all {len(trials)} are of the sample that comes before a ranker (strategy.initial "
                f"{self.options.initial})"
            )
        learnt = Surrogate.of(problem, seed, held, self._codes(problem, held), self.options.member)
        told = " and ".join(learnt.told) or "exact costs alone, as nothing else is asked for"
        if learnt.trusted:
            return f"after {self.options.initial} spread over the space, screened by {told}"
        return (
            f"after {self.options.initial} spread over the space, by NSGA-II wherever the ranker "
            f"was not shown to order better than the number of parameters; at the end it is {told}"
        )

    def _codes(self, problem: Problem, trials: Sequence[Trial]) -> Codes:
        return Features.of_space(problem.space).codes([each.architecture for each in trials])

    def _screened(
        self,
        problem: Problem,
        seed: int,
        trials: Sequence[Trial],
        rng: random.Random,
        count: int,
    ) -> list[Architecture]:
        """The best batch of the candidates; fewer where too few are found."""
        tried = self._codes(problem, trials)
        known = tried[[each.succeeded for each in trials]]
        learnt = Surrogate.of(problem, seed, scored(trials), known, self.options.member)
        if not learnt.trusted:
            size = min(max(2, len(trials) // 2), MOST_PARENTS)
            evolution = Evolution(EvolutionOptions(population=size))
            return evolution.propose(problem, seed, trials, count)
        draws = np.random.default_rng(rng.getrandbits(64))
        codes = candidates(problem, trials, draws, self.options.candidates)
        codes = codes[~np.isin(population.keys(codes), population.keys(tried))]
        rows = learnt.batch(codes, count, self.options.optimism)
        return [problem.space.build(tuple(codes[row].tolist())) for row in rows]


def candidates(
    problem: Problem, trials: Sequence[Trial], rng: np.random.Generator, count: int
) -> Codes:
    """Up to `count` different genomes that keep the analytic constraints.

    All of a list, and of a space that has no more; else random ones of the whole space, mutants of
    the best trials and crossings of them, mutated. Where few of these keep the constraints,
    children of those that do are added, `ROUNDS` times at most.
    """
    space = problem.space
    if isinstance(space, ListedSpace) or space.size <= min(count, ENUMERABLE):
        return _feasible(problem, space.genomes)
    best = [each.architecture for each in survivors(trials, problem, PARENTS)]
    parents = Features.of_space(space).codes(best)
    drawn = population.sample(space, rng, round(DRAWN * count))
    made = [drawn, children(space, parents, rng, count - len(drawn))]
    found = _feasible(problem, np.concatenate(made))
    for _ in range(ROUNDS):
        if len(found) >= ENOUGH * count or not len(found):
            break
        more = children(space, np.concatenate([parents, found]), rng, count)
        found = _feasible(problem, np.concatenate([found, more]))
    return found[:count]


def children(space: SearchSpace, parents: Codes, rng: np.random.Generator, count: int) -> Codes:
    """`count` genomes: mutants of the parents, and crossings of two, mutated by half as much."""
    rate = MUTATED_GENES / len(space.genes)
    sizes = (count // 2, count // 2, count - count // 2)
    one, other, alone = (parents[rng.integers(len(parents), size=size)] for size in sizes)
    crossed = population.mutate(space, population.cross(space, one, other, rng), rng, rate)
    return np.concatenate([crossed, population.mutate(space, alone, rng, 2 * rate)])


def _feasible(problem: Problem, codes: Codes) -> Codes:
    """Each row once, those that keep the analytic constraints."""
    _, rows = np.unique(population.keys(codes), return_index=True)
    found = codes[rows]
    if not problem.analytic_constraints:
        return found
    kept: Codes = found[problem.analytic_violations(problem.costs_of(found)) == 0]
    return kept


def _draws(
    problem: Problem, known: set[Architecture], rng: random.Random, count: int
) -> list[Architecture]:
    """`fresh` ones; under constraints those of a large sample first, as costs are told together."""
    space, found = problem.space, list[Architecture]()
    if problem.analytic_constraints and not isinstance(space, ListedSpace):
        draws = np.random.default_rng(rng.getrandbits(64))
        codes = draws.permutation(_feasible(problem, population.sample(space, draws, SAMPLED)))
        built = (space.build(tuple(row)) for row in codes[: count + len(known)].tolist())
        found = [each for each in built if each not in known][:count]
    return found + fresh(problem, known | set(found), rng, count - len(found))


def spread_out(
    problem: Problem, known: set[Architecture], rng: random.Random, count: int, ends: int
) -> list[Architecture]:
    """New architectures far from all known ones and from each other, in depths, sizes and types.

    The extremes of each attention type come first, up to `ends` of a whole sample; then, one after
    the other, that of some hundred draws which lies farthest from the nearest.
    """
    extreme = [each for each in extremes(problem) if each not in known]
    chosen = extreme[: max(0, min(count, ends - len(known)))]
    drawn = _draws(problem, known | set(chosen), rng, DRAWS_EACH * (count - len(chosen)))
    if not drawn:
        return chosen
    features = Features.of_space(problem.space)
    # Proposed trials have an order; a set has another one in every process.
    settled = [*sorted(known, key=problem.space.genome), *chosen]
    rows = features.averages(features.codes([*drawn, *settled])).astype(np.float64)
    deviation = rows[: len(drawn)].std(axis=0)
    rows /= np.where(deviation > 0, deviation, 1.0)
    distance = np.full(len(drawn), np.inf)
    for row in rows[len(drawn) :]:
        distance = np.minimum(distance, np.square(rows[: len(drawn)] - row).sum(axis=1))
    while len(chosen) < count and len(chosen) < len(drawn) + len(extreme):
        farthest = int(np.argmax(distance))
        if distance[farthest] < 0:
            break
        chosen.append(drawn[farthest])
        apart = np.square(rows[: len(drawn)] - rows[farthest]).sum(axis=1)
        distance = np.minimum(distance, apart)
        distance[farthest] = -1.0
    return chosen
