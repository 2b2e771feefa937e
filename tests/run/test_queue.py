"""Whatever order evaluations end in and wherever a run is cut, the same trials come out."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import SearchStateError
from nas.run.queue import Propose, TrialQueue, fixed
from nas.search.trial import Measurement, Proposal, Trial
from nas.space.architecture import Architecture
from tests.space.spaces import encoder


def architecture(number: int) -> Architecture:
    layer = {"attention": "softmax", "heads": 2, "head_width": 8, "ffn_width": 8 + number % 400}
    return Architecture.from_json(
        {"patch_size": 2, "width": 16 + 8 * (number // 400), "layers": [layer]}
    )


def proposals(count: int, first: int = 0) -> list[Proposal]:
    return [Proposal("search", i, architecture(i)) for i in range(first, first + count)]


def learning(batches: Sequence[int]) -> Propose:
    """Batches of these sizes whose architectures depend on every metric before them."""

    def propose(trials: Sequence[Trial]) -> list[Proposal]:
        assert [trial.index for trial in trials] == list(range(len(trials)))
        ends = [sum(batches[:i]) for i in range(len(batches))]
        assert len(trials) in (*ends, sum(batches))
        if len(trials) == sum(batches):
            return []
        seen = [(t.architecture.id, t.measurement.state, dict(t.metrics)) for t in trials]
        rng = random.Random(repr(seen))
        size = batches[ends.index(len(trials))]
        return [
            Proposal("search", len(trials) + i, architecture(rng.randrange(4000)))
            for i in range(size)
        ]

    return propose


def measured(proposal: Proposal, failing: frozenset[int]) -> Measurement:
    if proposal.index in failing:
        return Measurement.failed(f"failed {proposal.index}")
    layer = proposal.architecture.layers[0]
    return Measurement.of({"loss": layer.ffn_width / 7 + encoder(proposal.architecture).width})


def in_order(propose: Propose, failing: frozenset[int]) -> list[Trial]:
    trials: list[Trial] = []
    while batch := propose(trials):
        trials += [Trial(p.role, p.index, p.architecture, measured(p, failing)) for p in batch]
    return trials


@dataclass
class Record:
    """Committed trials, in the order of their commits; twice the same index is refused."""

    trials: list[Trial] = field(default_factory=list)

    def commit(self, trial: Trial) -> None:
        assert trial.index not in {each.index for each in self.trials}
        self.trials.append(trial)

    def queue(self, propose: Propose, over: Callable[[], bool] = lambda: False) -> TrialQueue:
        return TrialQueue(propose, self.commit, done=self.trials, over=over)

    @property
    def ordered(self) -> list[Trial]:
        return sorted(self.trials, key=lambda trial: trial.index)


@given(data=st.data(), batches=st.lists(st.integers(1, 6), max_size=5))
def test_order_and_cuts_change_nothing(data: st.DataObject, batches: list[int]) -> None:
    # One of the first batch must not fail, or it would be the machine's fault.
    failing = data.draw(st.frozensets(st.integers(1, 30)))
    propose, record = learning(batches), Record()
    queue, running = record.queue(propose), list[Proposal]()
    while not queue.finished:
        choice = data.draw(st.sampled_from(["take", "take", "put", "put", "cut"]))
        if choice == "take" or not running:
            taken = queue.take()
            if taken is not None:
                running.append(taken)
        elif choice == "put":
            ended = running.pop(data.draw(st.integers(0, len(running) - 1)))
            trial = queue.put(ended, measured(ended, failing))
            assert (trial.index, trial.architecture) == (ended.index, ended.architecture)
        else:
            queue, running = record.queue(propose), []
    assert queue.broken == ""
    assert record.ordered == in_order(propose, failing)
    assert queue.take() is None


def test_none_is_handed_out_before_its_batch_may_be_proposed() -> None:
    record = Record()
    queue = record.queue(learning([2, 1]))
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    assert queue.take() is None
    assert not queue.finished
    queue.put(second, measured(second, frozenset()))
    assert queue.take() is None
    queue.put(first, measured(first, frozenset()))
    third = queue.take()
    assert third is not None
    assert (third.index, queue.finished) == (2, False)


def test_an_exhausted_strategy_ends_the_queue() -> None:
    queue = Record().queue(learning([]))
    assert queue.take() is None
    assert queue.finished


def test_a_budget_that_is_spent_ends_it_and_more_budget_goes_on() -> None:
    propose, record = learning([3, 3]), Record()
    queue = record.queue(propose, lambda: len(record.trials) >= 4)
    while (taken := queue.take()) is not None:
        queue.put(taken, measured(taken, frozenset()))
    assert queue.finished
    assert [trial.index for trial in record.trials] == [0, 1, 2, 3]
    again = record.queue(propose)
    while (taken := again.take()) is not None:
        again.put(taken, measured(taken, frozenset()))
    assert record.ordered == in_order(propose, frozenset())


def test_what_still_runs_when_the_budget_is_spent_is_kept() -> None:
    record = Record()
    queue = record.queue(learning([3]), lambda: bool(record.trials))
    first, second = queue.take(), queue.take()
    assert first is not None
    assert second is not None
    queue.put(first, measured(first, frozenset()))
    assert queue.take() is None
    while_it_runs = queue.finished
    queue.put(second, measured(second, frozenset()))
    assert (while_it_runs, queue.finished) == (False, True)
    assert len(record.trials) == 2


class TestABrokenMachine:
    def run(self, record: Record, propose: Propose, failing: frozenset[int]) -> TrialQueue:
        queue = record.queue(propose)
        while (taken := queue.take()) is not None:
            queue.put(taken, measured(taken, failing))
        return queue

    def test_a_whole_first_batch_that_fails_is_tried_again(self) -> None:
        propose, record = learning([4, 4]), Record()
        queue = self.run(record, propose, frozenset(range(8)))
        assert (queue.finished, queue.broken, record.trials) == (True, "failed 3", [])
        # The machine is mended.
        self.run(record, propose, frozenset())
        assert record.ordered == in_order(propose, frozenset())

    def test_one_that_succeeds_clears_the_machine(self) -> None:
        propose, record = learning([4, 4]), Record()
        failing = frozenset({0, 1, 2, *range(4, 8)})
        assert self.run(record, propose, failing).broken == ""
        assert record.ordered == in_order(propose, failing)

    def test_what_an_earlier_queue_could_do_says_nothing_of_the_machine_now(self) -> None:
        propose, record = learning([3, 2]), Record()
        first = fixed(propose([]))
        self.run(record, first, frozenset())
        known = list(record.trials)

        def later(failing: frozenset[int]) -> TrialQueue:
            queue = TrialQueue(propose, record.commit, done=record.trials, first=3)
            while (taken := queue.take()) is not None:
                queue.put(taken, measured(taken, failing))
            return queue

        assert later(frozenset({3, 4})).broken == "failed 4"
        assert record.trials == known
        assert later(frozenset({3})).broken == ""
        assert record.ordered == in_order(propose, frozenset({3}))

    def test_two_failed_batches_of_one_are_the_machine_s(self) -> None:
        propose, record = learning([1, 1, 1]), Record()
        assert self.run(record, propose, frozenset({0, 1})).broken == "failed 1"
        assert not record.trials

    def test_a_lone_failure_says_nothing_about_the_machine(self) -> None:
        for sizes, failing in (([1, 1, 1], {0}), ([1], {0})):
            propose, record = learning(sizes), Record()
            assert self.run(record, propose, frozenset(failing)).broken == ""
            assert record.ordered == in_order(propose, frozenset(failing))


def test_alone_one_is_handed_out_at_a_time() -> None:
    given = proposals(3)
    queue = TrialQueue(fixed(given), lambda _: None, alone=True)
    for proposal in given:
        assert queue.take() == proposal
        assert queue.take() is None
        assert not queue.finished
        queue.put(proposal, measured(proposal, frozenset()))
    assert queue.take() is None
    assert queue.finished


def test_a_fixed_queue_hands_out_what_is_missing() -> None:
    record = Record()
    wanted = proposals(5)
    record.trials = [Trial("search", i, wanted[i].architecture, Measurement()) for i in (0, 3)]
    queue = record.queue(fixed(wanted))
    taken = []
    while (proposal := queue.take()) is not None:
        taken.append(proposal.index)
        queue.put(proposal, measured(proposal, frozenset()))
    assert taken == [1, 2, 4]
    assert queue.finished


def test_a_commit_that_fails_is_raised_where_the_trial_is_put() -> None:
    def full(_trial: Trial) -> None:
        raise OSError("no space left")

    queue = TrialQueue(fixed(proposals(2)), full)
    taken = queue.take()
    assert taken is not None
    with pytest.raises(OSError, match="no space left"):
        queue.put(taken, measured(taken, frozenset()))


def test_a_record_of_other_code_is_not_gone_on_with() -> None:
    record = Record()
    record.commit(Trial("search", 0, architecture(7), Measurement.of({"loss": 1.0})))
    queue = record.queue(fixed(proposals(3)))
    with pytest.raises(SearchStateError, match=rf"search/0 .* {architecture(7).id}, but .*--warm"):
        queue.take()
