"""Does a learnt ranker propose what pays, and what happens where there is nothing to learn?"""

import statistics
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import get_args

import numpy as np
import pytest

from nas.search.objective import Objective
from nas.search.pareto import ParetoFront, reference_point
from nas.search.problem import Problem
from nas.search.trial import Measurement, Trial
from nas.space.architecture import Architecture
from nas.space.features import Features
from nas.space.loader import load_space
from nas.strategy import ranked, ranker_members
from nas.strategy.evolution import Evolution, EvolutionOptions
from nas.strategy.random import RandomSearch
from nas.strategy.ranked import Member, Ranked, RankedOptions, candidates
from nas.strategy.ranker_members import MEMBERS
from nas.strategy.strategy import Strategy
from nas.strategy.surrogate import Surrogate
from tests.strategy.conformance import StrategyConformance
from tests.strategy.landscape import ACCURACY, FLOPS, LOSS, PARAMS, all_of, problem_of, run

QUICK = RankedOptions(initial=20, candidates=1_000, member="linear_losses")


class TestRanked(StrategyConformance):
    @property
    def strategy(self) -> Strategy:
        return Ranked(QUICK)


@pytest.mark.slow
class TestRankedByCrossValidation(StrategyConformance):
    @property
    def strategy(self) -> Strategy:
        return Ranked(RankedOptions(initial=20, candidates=1_000))


def test_the_members_are_those_of_the_ranker() -> None:
    assert get_args(Member) == tuple(MEMBERS)


def covered(trials: Sequence[Trial], every: Sequence[Trial], problem: Problem) -> float:
    """The share of the true hypervolume, constraints kept."""
    reference = reference_point(every, problem.objectives)
    fronts = (
        ParetoFront.of(held, problem.objectives, problem.constraints) for held in (trials, every)
    )
    found, whole = (front.hypervolume(reference) for front in fronts)
    return found / whole


@pytest.mark.parametrize(
    "problem",
    [
        problem_of(),
        problem_of(None, "accuracy >= 0.42"),
        problem_of(None, "flops <= 1.2e6", "params >= 8000"),
        pytest.param(
            problem_of(objectives=(Objective(ACCURACY), Objective(FLOPS))), marks=pytest.mark.slow
        ),
        pytest.param(
            problem_of(objectives=(Objective(LOSS), Objective(FLOPS), Objective(PARAMS))),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["two objectives", "learnt constraint", "exact constraints", "maximised", "three"],
)
def test_it_covers_more_than_twice_as_many_random_ones(problem: Problem) -> None:
    every = all_of(problem)
    ours, others = (
        statistics.fmean(
            covered(run(strategy, problem, seed, count), every, problem) for seed in range(4)
        )
        for strategy, count in ((Ranked(QUICK), 60), (RandomSearch(), 120))
    )
    assert ours > others


def test_the_first_sample_has_the_ends_and_is_spread() -> None:
    problem = problem_of(load_space("cifar10_small"))
    first = [t.architecture for t in run(Ranked(RankedOptions(initial=30)), problem, 0, 30)]
    assert {problem.space.extreme(end) for end in ("smallest", "largest")} <= set(first)

    def apart(found: Sequence[Architecture]) -> float:
        """The mean distance to the nearest other one, in size and in shares of types."""
        rows = [
            (
                np.log(problem.cost(each)["flops"]),
                each.depth / 6,
                *(
                    sum(a.type == kind for a in each.attentions) / each.depth
                    for kind in ("softmax", "linear")
                ),
            )
            for each in found
        ]
        table = np.array(rows)
        gaps = np.linalg.norm(table[:, None] - table[None], axis=2) + 9 * np.eye(len(table))
        return float(gaps.min(axis=1).mean())

    drawn = [
        apart([t.architecture for t in run(RandomSearch(), problem, seed, 30)]) for seed in range(5)
    ]
    assert apart(first) > max(drawn)


def test_a_batch_is_no_one_point_many_times() -> None:
    problem = problem_of(load_space("cifar10_small"))
    trials = run(Ranked(QUICK), problem, 0, 60)
    flops = [np.log(trial.metrics["flops"]) for trial in trials]
    assert np.ptp(flops[-10:]) > 0.3 * np.ptp(flops[:-10])


def test_candidates_are_of_the_space_and_many_are_near_the_best() -> None:
    problem = problem_of(load_space("cifar10_small"))
    trials = run(RandomSearch(), problem, 0, 60)
    codes = candidates(problem, trials, np.random.default_rng(0), 1_000)
    assert 900 < len(codes) <= 1_000
    assert all(problem.space.contains(problem.space.build(tuple(row))) for row in codes.tolist())
    known = np.array([problem.space.genome(trial.architecture) for trial in trials])
    nearest = (codes[:, None] != known[None]).sum(axis=2).min(axis=1)
    assert (nearest <= 4).mean() > 0.2
    assert (nearest > 8).mean() > 0.2


def with_loss(trial: Trial, loss: float) -> Trial:
    return replace(
        trial, measurement=Measurement.of({**trial.metrics, "cross_entropy": loss, "accuracy": 0.5})
    )


def test_equal_scores_teach_nothing_and_stop_nothing() -> None:
    problem = problem_of()
    trials = [with_loss(trial, 1.0) for trial in run(RandomSearch(), problem, 0, 40)]
    proposed = Ranked(QUICK).propose(problem, 0, trials, 10)
    assert len(set(proposed) - {trial.architecture for trial in trials}) == 10


def test_with_too_few_scores_random_ones_come() -> None:
    problem = problem_of()
    trials = run(RandomSearch(), problem, 0, 40)
    failed = [
        replace(trial, measurement=Measurement.failed("killed")) if trial.index > 5 else trial
        for trial in trials
    ]
    assert len(set(Ranked(QUICK).propose(problem, 0, failed, 10))) == 10


def test_few_feasible_ones_are_enough_to_go_on_from() -> None:
    space = load_space("cifar10_small")
    smallest = problem_of(space).cost(space.extreme("smallest"))["flops"]
    problem = problem_of(space, f"flops <= {2.2 * smallest}", "params >= 45000")
    trials = run(Ranked(QUICK), problem, 0, 30)
    assert len(trials) == 30
    found = candidates(problem, trials, np.random.default_rng(0), 1_000)
    assert len(found) >= 100
    costs = problem.costs_of(found)
    assert problem.analytic_violations(costs).max() == 0


def test_a_batch_is_full_where_no_candidate_is_expected_to_keep_a_constraint() -> None:
    problem = problem_of(None, "accuracy >= 0.999")
    trials = run(RandomSearch(), problem, 0, 60)
    codes = Features.of_space(problem.space).codes([trial.architecture for trial in trials])
    surrogate = Surrogate.of(problem, 0, trials, codes, "linear_losses")
    offered = candidates(problem, trials, np.random.default_rng(0), 1_000)
    rows = surrogate.batch(offered, 10, 0.0)
    assert len(set(rows)) == 10
    # Those that are expected to miss it by least.
    expected = surrogate.rankers["accuracy"].predict(offered)
    assert set(rows) == set(np.argsort(expected, kind="stable")[:10].tolist())


@pytest.mark.parametrize("member", [None, "linear_losses"])
def test_it_tells_how_it_proposed(member: Member | None) -> None:
    problem, strategy = problem_of(), Ranked(RankedOptions(initial=20, member=member))
    few, many = (run(RandomSearch(), problem, 0, count) for count in (20, 60))
    assert strategy.account(problem, 0, few) == (
        "all 20 are of the sample that comes before a ranker (strategy.initial 20)"
    )
    told = strategy.account(problem, 0, many)
    assert told.startswith("after 20 spread over the space, screened by a ranker of cross_entropy")
    assert ("as asked for" if member else "by cross-validation on 60 networks +0.") in told


@pytest.mark.parametrize("package", ["lightgbm", "sklearn.linear_model"])
def test_a_package_that_is_missing_is_said_before_anything_is_proposed(
    package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranker_members._libraries.cache_clear()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=package):
        Ranked()
    if package == "lightgbm":
        # What a linear member does not need may be missing.
        Ranked(QUICK)


@pytest.mark.parametrize(("trials", "parents"), [(30, 15), (60, 20)])
def test_nsga_ii_in_a_ranker_s_place_has_half_the_trials_as_parents_up_to_its_most(
    trials: int, parents: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = problem_of()
    scored = run(RandomSearch(), problem, 0, trials)
    monkeypatch.setattr(Surrogate, "trusted", False)
    monkeypatch.setattr(ranked, "MOST_PARENTS", 20)
    expected = Evolution(EvolutionOptions(population=parents)).propose(problem, 0, scored, 10)
    assert Ranked(QUICK).propose(problem, 0, scored, 10) == expected
    for other in (parents - 5, parents + 5):
        strategy = Evolution(EvolutionOptions(population=other))
        assert strategy.propose(problem, 0, scored, 10) != expected


def test_it_tells_of_a_ranker_that_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = problem_of()
    trials = run(RandomSearch(), problem, 0, 60)
    monkeypatch.setattr(Surrogate, "trusted", False)
    assert "by NSGA-II wherever the ranker was not shown" in Ranked(QUICK).account(
        problem, 0, trials
    )


def test_a_ranker_worse_than_counting_parameters_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = problem_of()
    whole = run(Ranked(QUICK), problem, 0, 50)
    # What failed is known, too.
    trials = [
        replace(trial, measurement=Measurement.failed("killed")) if trial.index % 5 == 1 else trial
        for trial in whole
    ]
    used = Ranked(QUICK).propose(problem, 0, trials, 10)
    monkeypatch.setattr(Surrogate, "trusted", False)
    instead = Ranked(QUICK).propose(problem, 0, trials, 10)
    assert not {*used, *instead} & {trial.architecture for trial in whole}
    assert len(set(instead)) == 10
    assert set(instead) != set(used)
    options = Evolution.options_model.model_validate({"population": 25})
    assert instead == Evolution(options).propose(problem, 0, trials, 10)  # type: ignore[arg-type]
