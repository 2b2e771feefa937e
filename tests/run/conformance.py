"""What does every executor promise? Proved on one by a subclass of `ExecutorConformance`."""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nas import catalog
from nas.errors import DataChanged, TrainingDiverged
from nas.run.evaluate import Evaluator, Setup, train
from nas.run.executor import Executor
from nas.run.queue import Propose, TrialQueue, fixed
from nas.search.spec import SearchSpec
from nas.search.trial import Proposal, Trial
from tests.run.cases import RECIPE, facts, request


class ExecutorConformance:
    """Knows machines and not search: the trials are those that one process would give.

    A subclass sets `name`, the catalog's.
    """

    name: str

    @classmethod
    def spec(cls, **changes: Any) -> SearchSpec:
        """A request for two workers of this executor."""
        executor = {"name": cls.name, "workers": 2, "training_cores": 1}
        return request(executor=executor, **changes)

    def asking(self, setup: Setup, **changes: Any) -> Setup:
        """The same folders for another request."""
        return replace(setup, spec=json.dumps(self.spec(**changes).to_json()))

    @pytest.fixture(scope="class")
    @classmethod
    def setup(cls, tmp_path_factory: pytest.TempPathFactory) -> Setup:
        folder = tmp_path_factory.mktemp("executor")
        made = Setup.of(cls.spec(), folder / "supernet", folder / "standalone", folder / "data")
        list(train(made))
        return made

    @pytest.fixture
    def executor(self) -> Iterator[Executor]:
        made: Executor = catalog.EXECUTORS.load(self.name)(self.spec().executor)
        yield made
        made.close()
        # What is given back is given back; nothing of it is left to fail.
        made.close()

    def test_one_that_was_never_asked_anything_is_closed(self, executor: Executor) -> None:
        executor.close()

    def test_training_reports_to_its_end(
        self, executor: Executor, setup: Setup, tmp_path: Path
    ) -> None:
        training = executor.train(replace(setup, supernet=tmp_path / "there"))
        there = [report for report in training if not report.waiting]
        here = list(train(replace(setup, supernet=tmp_path / "here")))
        assert [(each.step, each.loss) for each in there] == [(e.step, e.loss) for e in here]
        assert [each.step for each in there] == [10, 20, 30, 40]

    def test_what_training_raises_is_raised_here(
        self, executor: Executor, setup: Setup, tmp_path: Path
    ) -> None:
        wild = {**RECIPE, "learning_rate": 1e30, "warmup_steps": 0}
        with pytest.raises(TrainingDiverged, match="learning_rate"):
            list(executor.train(replace(self.asking(setup, supernet=wild), supernet=tmp_path)))

    def test_trials_are_those_of_an_evaluator_each_committed_and_then_told_of(
        self, executor: Executor, setup: Setup
    ) -> None:
        wanted = [*proposals(self.spec(), 5), broken(self.spec(), 5), *proposals(self.spec(), 2, 6)]
        evaluator = Evaluator(setup)
        direct = [
            Trial(each.role, each.index, each.architecture, evaluator(each), each.label)
            for each in wanted
        ]
        found = evaluated(executor, setup, fixed(wanted))
        assert facts(found) == facts(direct)
        states = [trial.measurement.state for trial in found]
        assert states == ["succeeded"] * 5 + ["failed"] + ["succeeded"] * 2
        assert found[5].measurement.reason == direct[5].measurement.reason
        assert all(trial.measurement.seconds > 0 for trial in found)
        # One executor serves all queues of a search.
        assert evaluated(executor, setup, fixed([])) == []
        assert facts(evaluated(executor, setup, fixed(wanted[:1]))) == facts(direct[:1])

    def test_the_machine_of_a_measured_cost_comes_back(
        self, executor: Executor, setup: Setup
    ) -> None:
        given = self.asking(setup, constraints=["latency_ms <= 1e9"], latency={"repetitions": 1})
        (found,) = evaluated(executor, given, fixed(proposals(self.spec(), 1)))
        assert "torch" in found.measurement.provenance["latency_ms"]

    def test_where_everything_fails_the_queue_is_broken(
        self, executor: Executor, setup: Setup, tmp_path: Path
    ) -> None:
        committed: list[Trial] = []
        queue = TrialQueue(fixed(proposals(self.spec(), 2)), committed.append)
        executor.evaluate(replace(setup, supernet=tmp_path), queue, lambda _: None)
        assert queue.finished
        assert "no checkpoint here" in queue.broken
        assert committed == []

    def test_data_that_have_changed_are_no_fault_of_a_trial(
        self, executor: Executor, setup: Setup
    ) -> None:
        committed: list[Trial] = []
        queue = TrialQueue(fixed(proposals(self.spec(), 3)), committed.append)
        with pytest.raises(DataChanged, match="its data have changed since the search began"):
            executor.evaluate(replace(setup, data_digest="others"), queue, lambda _: None)
        assert committed == []

    def test_a_record_that_cannot_be_written_is_raised_here(
        self, executor: Executor, setup: Setup
    ) -> None:
        def full(_trial: Trial) -> None:
            raise OSError("no space left on device")

        queue = TrialQueue(fixed(proposals(self.spec(), 4)), full)
        with pytest.raises(OSError, match="no space left on device"):
            executor.evaluate(setup, queue, lambda _: None)

    def test_a_strategy_that_raises_is_raised_here(self, executor: Executor, setup: Setup) -> None:
        def raising(_trials: Sequence[Trial]) -> Sequence[Proposal]:
            raise ZeroDivisionError("of a strategy")

        queue = TrialQueue(raising, lambda _: None)
        with pytest.raises(ZeroDivisionError, match="of a strategy"):
            executor.evaluate(setup, queue, lambda _: None)


def proposals(spec: SearchSpec, count: int, first: int = 0) -> list[Proposal]:
    """Random architectures, the same every time."""
    rng = random.Random(first)
    space = spec.search_space
    return [Proposal("search", first + i, space.sample(rng), f"no. {i}") for i in range(count)]


def broken(spec: SearchSpec, index: int) -> Proposal:
    """One whose evaluation raises: it names no seed to be trained by."""
    return Proposal("confirmed", index, spec.search_space.extreme("smallest"), "{}")


def evaluated(executor: Executor, setup: Setup, propose: Propose) -> list[Trial]:
    """The trials in order; each was committed first and told of once."""
    committed: list[Trial] = []
    told: list[Trial] = []

    def on_trial(trial: Trial) -> None:
        assert trial in committed
        told.append(trial)

    executor.evaluate(setup, TrialQueue(propose, committed.append), on_trial)
    assert sorted(t.index for t in told) == sorted(t.index for t in committed)
    return sorted(committed, key=lambda trial: trial.index)
