"""In what order are architectures evaluated: batches, each a function of the batches before it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from nas.errors import SearchStateError
from nas.search.trial import Measurement, Proposal, Trial

Propose = Callable[[Sequence[Trial]], Sequence[Proposal]]
"""The next batch after these trials (ordered by index); empty when there is nothing left to try."""


def fixed(proposals: Sequence[Proposal]) -> Propose:
    """One batch that is known beforehand: controls, confirmations."""
    return lambda trials: () if trials else proposals


class TrialQueue:
    """Hands out the proposals of one batch at a time and takes their measurements back.

    A batch is proposed when every trial before it is there, so the order in which evaluations end
    changes nothing. Started from the trials of an interrupted run, it hands out exactly the
    missing ones. `commit` makes a trial durable before any later batch sees it. Trials before the
    index `first` are those of queues before this one. With `alone` one is handed out at a time.

    Failures are held back until one evaluation has not failed. Where a whole first batch fails, or
    the first two of batches of one, the machine or the data are at fault and not the architectures:
    `broken` then has the reason, and nothing is committed, so that all of it can be tried again.
    """

    def __init__(
        self,
        propose: Propose,
        commit: Callable[[Trial], None],
        *,
        done: Iterable[Trial] = (),
        over: Callable[[], bool] = lambda: False,
        first: int = 0,
        alone: bool = False,
    ) -> None:
        self._propose, self._commit, self._over = propose, commit, over
        self._trials = {trial.index: trial for trial in done}
        self._waiting: list[Proposal] = []
        self._running: dict[int, Proposal] = {}
        self._held: list[Trial] = []
        self._works = any(
            index >= first and trial.measurement.state != "failed"
            for index, trial in self._trials.items()
        )
        self._start = first
        self._alone = alone
        self._closed = False
        self.broken = ""
        self.stopped = False
        """Whether `over` ended it."""

    def take(self) -> Proposal | None:
        """The next proposal; None while others must end first, and when the queue is finished."""
        if not self._waiting and not self._running and not self._closed:
            self._refill()
        if self._closed or not self._waiting or (self._alone and self._running):
            return None
        if self._over():
            self._closed = self.stopped = True
            self._flush_last()
            return None
        proposal = self._waiting.pop(0)
        self._running[proposal.index] = proposal
        return proposal

    def put(self, proposal: Proposal, measurement: Measurement) -> Trial:
        """Takes back what an evaluation gave, and commits it."""
        trial = Trial(
            proposal.role, proposal.index, proposal.architecture, measurement, proposal.label
        )
        del self._running[proposal.index]
        self._trials[trial.index] = trial
        self._held.append(trial)
        self._works = self._works or measurement.state != "failed"
        if self._works:
            self._flush()
        return trial

    def _flush_last(self) -> None:
        # A lone failure says nothing of the machine, where nothing comes after it.
        if len(self._held) == 1:
            self._flush()

    def _flush(self) -> None:
        while self._held:
            self._commit(self._held[0])
            del self._held[0]

    @property
    def finished(self) -> bool:
        """Whether nothing runs and nothing will be handed out any more."""
        return self._closed and not self._running

    def _is_known(self, proposal: Proposal) -> bool:
        trial = self._trials.get(proposal.index)
        if trial is not None and trial.architecture != proposal.architecture:
            raise SearchStateError(
                f"trial {trial.role}/{trial.index} of the record is {trial.architecture.id}, but "
                f"{proposal.architecture.id} is proposed now: other code wrote the record. Go on "
                "with the version that its facts name, or start a new search with --warm-start"
            )
        return trial is not None

    def _refill(self) -> None:
        while not self._waiting and not self._closed:
            if len(self._held) > 1:
                self.broken = self._held[-1].measurement.reason
                self._closed = True
                return
            history = [self._trials[i] for i in range(self._start)]
            batch = self._propose(history)
            if not batch:
                self._closed = True
                self._flush_last()
                return
            self._waiting = [p for p in batch if not self._is_known(p)]
            self._start += len(batch)
