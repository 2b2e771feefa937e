"""Are NSGA-II's parts what the paper says, and does the whole find the front sooner than chance?"""

import itertools
import math
import random
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from nas.search.objective import Constraint, Metric, Objective
from nas.search.pareto import ParetoFront, reference_point
from nas.search.problem import Problem
from nas.search.survival import constrained_ranks
from nas.search.trial import Trial
from nas.strategy.evolution import (
    Evolution,
    EvolutionOptions,
    Survivor,
    extremes,
    survivors,
    tournament,
)
from nas.strategy.random import RandomSearch
from nas.strategy.repair import ENDS
from tests.strategy.conformance import StrategyConformance, tiny_space, with_measurement
from tests.strategy.landscape import (
    ACCURACY,
    FLOPS,
    PARAMS,
    all_of,
    costs,
    evaluated,
    problem_of,
    run,
    space_of,
)

Row = tuple[list[float], float]
ROWS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 4).map(float), min_size=2, max_size=2),
        st.sampled_from([0.0, 0.0, 0.0, 0.5, 1.0, math.inf]),
    ),
    max_size=25,
)


def dominates(one: Row, other: Row) -> bool:
    """Deb's constrained domination, read off the paper."""
    if one[1] > 0 or other[1] > 0:
        return one[1] < other[1]
    no_worse = all(a <= b for a, b in zip(one[0], other[0], strict=True))
    return no_worse and one[0] != other[0]


def brute_force_ranks(rows: Sequence[Row]) -> list[int]:
    ranks, left, rank = [0] * len(rows), set(range(len(rows))), 0
    while left:
        front = {i for i in left if not any(dominates(rows[j], rows[i]) for j in left)}
        for row in front:
            ranks[row] = rank
        left, rank = left - front, rank + 1
    return ranks


class TestEvolution(StrategyConformance):
    @property
    def strategy(self) -> Evolution:
        return Evolution()

    @given(ROWS)
    def test_ranks_are_those_of_constrained_domination(self, rows: list[Row]) -> None:
        losses = np.array([row[0] for row in rows], dtype=float).reshape(-1, 2)
        violations = np.array([row[1] for row in rows], dtype=float)
        assert constrained_ranks(losses, violations).tolist() == brute_force_ranks(rows)

    def test_survivors_are_the_lowest_ranks_and_the_least_crowded_of_the_last(self) -> None:
        problem = problem_of(space_of())
        trials = run(RandomSearch(), problem, seed=0, count=80)
        rows: list[Row] = [([o.loss(t.metrics) for o in problem.objectives], 0.0) for t in trials]
        ranks = dict(zip((t.architecture for t in trials), brute_force_ranks(rows), strict=True))
        kept = survivors(trials, problem, 24)
        assert [each.rank for each in kept] == sorted(ranks.values())[:24]
        assert all(ranks[each.architecture] == each.rank for each in kept)
        for one, two in itertools.pairwise(kept):
            assert (one.rank, -one.crowding) <= (two.rank, -two.crowding)
        front = ParetoFront.of(trials, problem.objectives)
        ends = {front.members[0].architecture, front.members[-1].architecture}
        assert ends <= {each.architecture for each in kept if each.crowding == math.inf}

    def test_a_constraint_on_a_measured_metric_works_through_domination(self) -> None:
        free = problem_of(space_of())
        trials = run(RandomSearch(), free, seed=1, count=60)
        bound = sorted(trial.metrics["accuracy"] for trial in trials)[-5]
        constraints = (Constraint("accuracy", ">=", bound),)
        problem = Problem(free.space, free.objectives, constraints, costs)
        assert problem.analytic_constraints == ()
        kept = survivors(trials, problem, 20)
        by_accuracy = sorted(trials, key=lambda trial: -trial.metrics["accuracy"])
        assert {s.architecture for s in kept} == {t.architecture for t in by_accuracy[:20]}
        searched = run(Evolution(), problem, seed=1, count=150)
        shares = [
            statistics.mean(trial.metrics["accuracy"] >= bound for trial in part)
            for part in (searched[:30], searched[-60:])
        ]
        assert shares[1] > 2 * shares[0]

    def test_failed_trials_are_never_parents(self) -> None:
        problem = problem_of(space_of())
        trials = run(RandomSearch(), problem, seed=0, count=30)
        broken = [with_measurement(trial, trial.index % 3) for trial in trials]
        kept = {each.architecture for each in survivors(broken, problem, 30)}
        assert kept == {trial.architecture for trial in broken if trial.succeeded}
        assert survivors([], problem, 30) == []

    def test_the_tournament_prefers_rank_then_room(self) -> None:
        architecture = space_of().extreme("smallest")
        parents = [Survivor(architecture, rank, room) for rank in (0, 1) for room in (1.0, 2.0)]
        rng = random.Random("tournament")
        assert tournament(parents, 60, rng) == parents[1]
        drawn = [tournament(parents, 1, rng) for _ in range(200)]
        assert all(drawn.count(each) > 20 for each in parents)

    def test_the_first_proposals_are_the_ends_then_random(self) -> None:
        space = space_of()
        problem = problem_of(space)
        ends = extremes(problem)
        assert len(ends) == 6
        assert set(ends) == {
            space.extreme(end, choice) for choice in space.all_attentions for end in ENDS
        }
        first = Evolution().propose(problem, 0, [], 10)
        assert first[:6] == ends
        small = Evolution(EvolutionOptions(population=4)).propose(problem, 0, [], 4)
        assert small[:2] == ends[:2]
        assert len(set(small)) == 4
        bound = costs(space.extreme("largest"))["flops"] - 1
        assert space.extreme("largest") not in extremes(problem_of(space, f"flops <= {bound}"))

    def test_children_resemble_the_front(self) -> None:
        problem = problem_of(space_of())
        trials = run(Evolution(), problem, seed=3, count=200)
        genomes = [
            problem.space.genome(each.architecture) for each in survivors(trials, problem, 24)
        ]

        def distance(trial: Trial) -> int:
            genome = problem.space.genome(trial.architecture)
            return min(sum(a != b for a, b in zip(genome, g, strict=True)) for g in genomes)

        children = [
            evaluated(i, each) for i, each in enumerate(Evolution().propose(problem, 3, trials, 20))
        ]
        chance = run(RandomSearch(), problem, seed=3, count=20)
        near, far = (statistics.mean(map(distance, each)) for each in (children, chance))
        assert near < 0.75 * far

    @pytest.mark.parametrize("objectives", [(ACCURACY, FLOPS), (ACCURACY, FLOPS, PARAMS)])
    def test_directions_and_three_objectives_work(self, objectives: tuple[Metric, ...]) -> None:
        problem = problem_of(space_of(), objectives=tuple(map(Objective, objectives)))
        trials = run(Evolution(), problem, seed=0, count=200)
        every = all_of(problem)
        reference = reference_point(every, problem.objectives)
        found, true = (
            ParetoFront.of(each, problem.objectives).hypervolume(reference)
            for each in (trials, every)
        )
        assert 0.9 * true < found <= true

    @pytest.mark.slow
    def test_half_the_gap_to_the_true_front_is_closed_at_a_quarter_of_the_evaluations(self) -> None:
        """(HV - HV_random) / (HV_true - HV_random) >= .5, median of 20 seeds.

        HV_random is the median of random search at the same number of evaluations; the reference
        point is the worst of the whole table plus 1% of its range.
        """
        problem = problem_of(space_of())
        assert problem.space.size >= 1_500
        every = all_of(problem)
        reference = reference_point(every, problem.objectives)
        quarter = problem.space.size // 4

        def covered(trials: Sequence[Trial]) -> float:
            return ParetoFront.of(trials, problem.objectives).hypervolume(reference)

        chance = statistics.median(
            covered(run(RandomSearch(), problem, seed, quarter, batch=50)) for seed in range(20)
        )
        found = [covered(run(Evolution(), problem, seed, quarter)) for seed in range(20)]
        gains = [(each - chance) / (covered(every) - chance) for each in found]
        assert statistics.median(gains) >= 0.5
        assert min(gains) > 0

    @pytest.mark.parametrize(
        "options",
        [
            {"population": 1},
            {"mutation_probability": 1.5},
            {"crossover_probability": -0.1},
            {"tournament": 0},
            {"populaton": 10},
        ],
    )
    def test_options_out_of_range_are_refused(self, options: dict[str, float]) -> None:
        with pytest.raises(ValidationError):
            EvolutionOptions.model_validate(options)

    def test_extreme_options_still_terminate(self) -> None:
        for mutation, crossover in ((0.0, 0.0), (1.0, 1.0), (0.0, 1.0)):
            options = EvolutionOptions(
                population=2, mutation_probability=mutation, crossover_probability=crossover
            )
            trials = run(Evolution(options), problem_of(tiny_space()), seed=0, count=60)
            assert len({trial.architecture for trial in trials}) == 60
