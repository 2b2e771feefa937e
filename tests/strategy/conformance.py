"""What does every strategy promise? Proved on one by a subclass of `StrategyConformance`."""

import json
import os
import subprocess
import sys
from abc import abstractmethod
from pathlib import Path

import pytest
from pydantic import ValidationError

from nas.errors import NothingFeasible
from nas.search.problem import Problem
from nas.search.trial import Measurement, Trial
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.strategy.repair import ENDS
from nas.strategy.strategy import Strategy
from tests.strategy.landscape import costs, problem_of, run, space_of

ROOT = Path(__file__).resolve().parents[2]


class StrategyConformance:
    """A strategy is pure, proposes only what is allowed and new, and ends when nothing is left."""

    @property
    @abstractmethod
    def strategy(self) -> Strategy:
        """A new instance; its options may differ from the defaults in how much work it does."""

    @pytest.fixture
    def space(self) -> SearchSpace:
        return space_of()

    @pytest.fixture
    def history(self, space: SearchSpace) -> list[Trial]:
        return run(self.strategy, problem_of(space), seed=7, count=60)

    def test_the_same_arguments_give_the_same_proposals(
        self, space: SearchSpace, history: list[Trial]
    ) -> None:
        problem, strategy = problem_of(space), self.strategy
        first = strategy.propose(problem, 7, history, 10)
        assert first == strategy.propose(problem, 7, history, 10)
        assert first == self.strategy.propose(problem, 7, history, 10)

    def test_a_batch_follows_from_the_batches_before_it(
        self, space: SearchSpace, history: list[Trial]
    ) -> None:
        for done in (0, 10, 30, 50):
            again = self.strategy.propose(problem_of(space), 7, history[:done], 10)
            assert again == [trial.architecture for trial in history[done : done + 10]]

    def test_the_order_of_completion_does_not_matter(
        self, space: SearchSpace, history: list[Trial]
    ) -> None:
        forward = self.strategy.propose(problem_of(space), 7, history, 10)
        assert forward == self.strategy.propose(problem_of(space), 7, history[::-1], 10)

    def test_another_process_proposes_the_same(self) -> None:
        program = (
            "import json, sys\n"
            "from tests.strategy.conformance import tight_run\n"
            f"from {type(self).__module__} import {type(self).__name__} as Case\n"
            "print(json.dumps(tight_run(Case().strategy)))\n"
        )
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'kernels'}"}
        answers = [
            subprocess.run(
                [sys.executable, "-c", program],
                env={**environment, "PYTHONHASHSEED": hash_seed},
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            for hash_seed in ("1", "2")
        ]
        assert answers[0] == answers[1]
        assert json.loads(answers[0]) == tight_run(self.strategy)

    def test_another_seed_is_another_search(self, space: SearchSpace, history: list[Trial]) -> None:
        other = run(self.strategy, problem_of(space), seed=8, count=20)
        proposed = [trial.architecture for trial in history]
        assert [trial.architecture for trial in other[:10]] != proposed[:10]
        assert {trial.architecture for trial in other} != set(proposed[:20])

    def test_proposals_are_new_contained_and_as_many_as_asked(
        self, space: SearchSpace, history: list[Trial]
    ) -> None:
        proposed = [trial.architecture for trial in history]
        assert len(proposed) == len(set(proposed)) == 60
        assert all(space.contains(each) for each in proposed)
        assert self.strategy.propose(problem_of(space), 7, history, 0) == []

    @pytest.mark.parametrize("batch", [1, 7, 60])
    def test_any_batch_size_works(self, space: SearchSpace, batch: int) -> None:
        trials = run(self.strategy, problem_of(space), seed=1, count=60, batch=batch)
        assert len({trial.architecture for trial in trials}) == 60

    @pytest.mark.parametrize(
        "name", ["cifar10_small", "digits_tiny", "numbers_tiny", "wmt14_en_de"]
    )
    def test_shipped_spaces_work(self, name: str) -> None:
        space = load_space(name)
        trials = run(self.strategy, problem_of(space), seed=1, count=80)
        assert len({trial.architecture for trial in trials}) == 80
        assert all(space.contains(trial.architecture) for trial in trials)

    @pytest.mark.parametrize("share", [0.02, 0.2])
    def test_analytic_constraints_are_kept(self, share: float) -> None:
        space = load_space("digits_tiny")
        low, high = (costs(space.extreme(end))["flops"] for end in ENDS)
        problem = problem_of(space, f"flops <= {low + share * (high - low)}", "params >= 3000")
        trials = run(self.strategy, problem, seed=3, count=60)
        assert len({trial.architecture for trial in trials}) == 60
        assert all(problem.analytic_violation(trial.architecture) == 0 for trial in trials)

    def test_a_small_space_is_proposed_to_its_last_architecture(self) -> None:
        space = tiny_space()
        trials = run(self.strategy, problem_of(space), seed=0, count=10_000)
        assert len(trials) == space.size
        assert {trial.architecture for trial in trials} == set(space.enumerate())
        assert self.strategy.propose(problem_of(space), 0, trials, 5) == []

    def test_all_feasible_ones_of_a_small_space_are_proposed(self) -> None:
        space = tiny_space()
        bound = sorted(costs(each)["flops"] for each in space.enumerate())[space.size // 10]
        problem = problem_of(space, f"flops <= {bound}")
        feasible = {each for each in space.enumerate() if costs(each)["flops"] <= bound}
        trials = run(self.strategy, problem, seed=0, count=10_000)
        assert {trial.architecture for trial in trials} == feasible
        assert len(trials) == len(feasible)

    def test_few_feasible_ones_of_a_large_space_end_the_search(self) -> None:
        space = load_space("cifar10_small")
        smallest = min(
            costs(space.extreme("smallest", choice))["flops"] for choice in space.all_attentions
        )
        problem = problem_of(space, f"flops <= {smallest * 1.05}")
        trials = run(self.strategy, problem, seed=0, count=3_000)
        assert 1 <= len({trial.architecture for trial in trials}) == len(trials) < 3_000
        assert all(problem.analytic_violation(trial.architecture) == 0 for trial in trials)

    def test_failed_and_infeasible_trials_are_part_of_the_history(
        self, space: SearchSpace, history: list[Trial]
    ) -> None:
        broken = [with_measurement(trial, trial.index % 3) for trial in history]
        nothing = [with_measurement(trial, 1 + trial.index % 2) for trial in history]
        known = {trial.architecture for trial in history}
        for trials in (broken, nothing):
            proposed = self.strategy.propose(problem_of(space), 7, trials, 10)
            assert len(set(proposed) - known) == 10

    def test_what_nothing_meets_is_said(self) -> None:
        problem = problem_of(tiny_space(), "flops <= 1000", "params >= 1000000")
        with pytest.raises(NothingFeasible, match="flops <= 1000"):
            self.strategy.propose(problem, 0, [], 5)

    def test_options_are_frozen_and_closed(self) -> None:
        options = self.strategy.options_model()
        with pytest.raises(ValidationError):
            type(options).model_validate({"no_such_option": 1})
        assert type(options).model_config["frozen"] is True


def tiny_space() -> SearchSpace:
    """A space of 156 architectures."""
    layers = {
        "attention": ["softmax", "linear"],
        "heads": 2,
        "head_width": 4,
        "ffn_width": [16, 32, 64],
    }
    return space_of(layers=layers, patch_size=[1, 2], width=[16, 24], depth=[1, 2])


def tight_run(strategy: Strategy) -> list[str]:
    """The ids of a short search near a tight bound, where every way of proposing is used."""
    problem: Problem = problem_of(tiny_space(), "flops <= 60000")
    trials = run(strategy, problem, seed=11, count=45, batch=9)
    return [trial.architecture.id for trial in trials]


def with_measurement(trial: Trial, state: int) -> Trial:
    """The trial as it was (0), failed (1) or infeasible (2)."""
    changed = (
        trial.measurement,
        Measurement.failed("out of memory"),
        Measurement.of({**trial.metrics, "cross_entropy": float("nan")}),
    )[state]
    return Trial(trial.role, trial.index, trial.architecture, changed)
