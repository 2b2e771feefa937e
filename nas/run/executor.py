"""On which machines: the executor protocol, and the one that needs nothing but this process."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Protocol

from nas.run.evaluate import Setup
from nas.run.measuring import Measure, measuring, prepare
from nas.run.queue import TrialQueue
from nas.search.resources import ExecutorSpec
from nas.search.trial import Trial
from nas.train.loop import Progress

OnTrial = Callable[[Trial], None]


class Executor(Protocol):
    """Knows machines, not search: it runs what a queue hands out until the queue is finished.

    An evaluation that fails, or whose worker dies, is put back as a failed measurement; only a
    machine that cannot be had at all raises `MachineUnavailable`.
    """

    def __init__(self, spec: ExecutorSpec) -> None: ...

    @property
    def processes(self) -> int:
        """How many workers evaluate at a time."""
        ...

    def elsewhere(self) -> str:
        """Where its workers are when not on this machine, in words; empty when they are here.

        Raises `MachineUnavailable` where nobody answers there.
        """
        ...

    def train(self, setup: Setup) -> Generator[Progress]:
        """Trains the supernet, or opens the table, on a worker with the training resources.

        Raises what `nas.run.measuring.prepare` raises, and `MachineUnavailable` where its worker
        dies.
        """
        ...

    def evaluate(self, setup: Setup, queue: TrialQueue, on_trial: OnTrial) -> None:
        """Evaluates until `queue.finished`; `on_trial` is told of each committed trial."""
        ...

    def close(self) -> None:
        """Gives the machines back."""
        ...


class LocalExecutor:
    """Evaluates one proposal after the other in this process."""

    def __init__(self, spec: ExecutorSpec) -> None:
        self.spec = spec

    @property
    def processes(self) -> int:
        return 1

    def elsewhere(self) -> str:
        return ""

    def train(self, setup: Setup) -> Generator[Progress]:
        return prepare(setup)

    def evaluate(self, setup: Setup, queue: TrialQueue, on_trial: OnTrial) -> None:
        measure: Measure | None = None
        while (proposal := queue.take()) is not None:
            measure = measure or measuring(setup)
            on_trial(queue.put(proposal, measure(proposal)))

    def close(self) -> None:
        pass
