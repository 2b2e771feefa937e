"""What a search needs while a process works on it: lease, machines, record, clock and listener."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from nas import catalog
from nas.cost.forecast import FORECASTS, from_text
from nas.errors import EtnasError, writable
from nas.run.evaluate import Setup
from nas.run.executor import Executor
from nas.run.lease import Heartbeat
from nas.run.projector import Projector
from nas.run.queue import Propose, TrialQueue
from nas.run.submission import problem_of
from nas.run.workspace import Workspace
from nas.search.extent import EXTENT
from nas.search.pareto import front_of
from nas.search.problem import Problem
from nas.search.spec import SearchSpec, load_spec
from nas.search.timing import steady
from nas.search.trial import SLICES, Trial, TrialRole
from nas.store.sql import SqlStore
from nas.store.store import Lease, SearchRecord, SearchStore, Spend


class EvaluationBroken(EtnasError, RuntimeError):
    """A whole first batch failed, so the search stopped; the message has the last reason."""


@dataclass(frozen=True)
class Update:
    """What a listener hears: `done` of `total` units of a phase, with a word on the last one."""

    phase: str
    done: int
    total: int
    text: str = ""


Listener = Callable[[Update], None]
# Networks that are trained alone, and stand in a front of their own.
ALONE: tuple[TrialRole, ...] = ("rung", "confirmed")
# What the time budget counts.
BUDGETED = ("supernet", "timed", "search")


@dataclass
class Running:
    """A search that this process holds."""

    spec: SearchSpec
    record: SearchRecord
    store: SearchStore
    place: Workspace
    listener: Listener
    executor: Executor
    heartbeat: Heartbeat
    phase: str = ""
    _since: float = field(default_factory=time.monotonic)
    _used: Spend = field(default_factory=Spend)
    # What was noted already, so that a trial costs no further look into the record.
    _provenance: set[tuple[str, str]] = field(default_factory=set)
    # The heartbeat charges too, from its own thread.
    _clock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def id(self) -> str:
        """The search's id."""
        return self.record.id

    @property
    def lease(self) -> Lease:
        """The right to write, kept alive by the heartbeat."""
        return self.heartbeat.lease

    @property
    def setup(self) -> Setup:
        """What workers need to know."""
        facts, place = self.store.get(self.id).facts, self.place
        folders = place.supernet(self.spec), place.standalone(self.id), place.data_root
        return replace(
            Setup.of(self.spec, *folders),
            data_digest=facts.get("data_digest", ""),
            test_digest=facts.get("test_digest", ""),
            extent=facts.get(EXTENT, ""),
            forecasts=facts.get(FORECASTS, ""),
        )

    @property
    def problem(self) -> Problem:
        """The request as strategies see it, with the forecasts that there are."""
        return problem_of(self.spec, from_text(self.spec, self.setup.forecasts))

    @property
    def predicted(self) -> set[str]:
        """The measured costs that candidates have as they are predicted."""
        forecasts = from_text(self.spec, self.setup.forecasts)
        return {name for name, forecast in forecasts.items() if forecast.used}

    def enter(self, phase: str) -> None:
        """Begins a phase: the record shows it and its time is counted under its name."""
        self.charge()
        self.phase = phase
        self.store.set_state(self.lease, "running", phase=phase)

    def revisit(self, phase: str) -> None:
        """Begins a phase of a finished search: it stays `succeeded`, only the phase shows it."""
        self.charge()
        self.phase = phase
        self.store.set_state(self.lease, "succeeded", phase=phase)

    def __post_init__(self) -> None:
        for phase, noted in self.store.spent(self.id).items():
            self._count(phase, noted)

    @property
    def _devices(self) -> int:
        """How many the phase at hand holds."""
        if self.phase == "supernet":
            return self.spec.executor.training_devices
        return self.executor.processes

    def _count(self, phase: str, more: Spend) -> None:
        if phase in BUDGETED:
            used = self._used
            self._used = Spend(
                used.seconds + more.seconds, used.device_seconds + more.device_seconds
            )

    def charge(self) -> None:
        """Notes the time since the last note, so that even a killed run's time is counted."""
        with self._clock:
            now = time.monotonic()
            seconds, self._since = now - self._since, now
            if self.phase:
                more = Spend(seconds, seconds * self._devices)
                self._count(self.phase, more)
                self.store.record_spend(self.lease, self.phase, more.seconds, more.device_seconds)

    def left(self, share: float = 1.0) -> float | None:
        """Seconds for which the phase at hand may go on until `share` of the budget is used.

        What earlier runs used counts. None for no bound, below zero where it is overdrawn.
        """
        budget = self.spec.budget
        bounds: list[float] = []
        with self._clock:
            since = time.monotonic() - self._since if self.phase in BUDGETED else 0.0
            if budget.wall_hours is not None:
                bounds.append(share * budget.wall_hours * 3600 - self._used.seconds - since)
            if budget.device_hours is not None:
                unused = share * budget.device_hours * 3600 - self._used.device_seconds
                bounds.append(unused / self._devices - since)
        return min(bounds, default=None)

    def note_front(self, trials: Sequence[Trial]) -> None:
        """Says in the record which of the searched trials are Pareto-optimal, where that is new."""
        front = front_of(self.spec, trials)
        members = tuple((trial.role, trial.index) for trial in front.members)
        if members != self.store.front(self.id):
            self.store.set_front(self.lease, members)

    def note_facts(self, facts: Mapping[str, str]) -> None:
        """Adds facts to the record, where they are new."""
        known = self.store.get(self.id).facts
        if new := {name: text for name, text in facts.items() if known.get(name) != text}:
            self.store.add_facts(self.lease, new)

    def note_artifact(self, name: str, path: Path) -> None:
        """Enters a file into the record, with its SHA-256."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        self.store.set_artifact(self.lease, name, str(path), digest)

    def fail(self, error: Exception) -> None:
        """Notes why the search stopped, unless another process has it now."""
        kind = "" if isinstance(error, EtnasError) else f"{type(error).__name__}: "
        if self.heartbeat.lost is None:
            self.store.set_state(self.lease, "failed", error=writable(f"{kind}{error}"))

    def evaluate(
        self,
        role: TrialRole,
        propose: Propose,
        total: int,
        over: Callable[[int], bool] = lambda _: False,
        *,
        first: int = 0,
        alone: bool = False,
    ) -> list[Trial]:
        """Runs a queue of one role to its end and gives all the role's trials.

        Each is committed before the next batch is proposed. `over`, given how many there are, says
        when to hand out no more; the queue begins at the index `first`. With `alone` there is never
        more than one evaluation at a time, as befits timings; so is it for slices whose costs are
        measured. Raises `EvaluationBroken`.
        """
        done = self.store.trials(self.id, role)
        count = len(done)
        self.listener(Update(role, count, total))

        def commit(trial: Trial) -> None:
            self._note_provenance(trial.measurement.provenance)
            self.store.add_trial(self.lease, trial)

        def on_trial(trial: Trial) -> None:
            nonlocal count
            count += 1
            # Whose queue goes on by what comes out has no total beforehand.
            self.listener(Update(role, count, max(count, total), trial.measurement.reason))

        alone = alone or (
            role in SLICES and not self.predicted.issuperset(self.spec.measured_costs)
        )
        queue = TrialQueue(
            propose, commit, done=done, over=lambda: over(count), first=first, alone=alone
        )
        self.executor.evaluate(self._setup_of(role), queue, on_trial)
        if queue.broken:
            raise EvaluationBroken(
                f"search {self.id}: every trial of the first batch failed, so the machine or the "
                f"data are at fault; the last one's reason: {queue.broken}"
            )
        if not queue.stopped and count < total:
            self.listener(Update(role, count, count))
        return self.store.trials(self.id, role)

    def _setup_of(self, role: TrialRole) -> Setup:
        """For networks trained alone, with the costs that turns measured of them."""
        setup, spec = self.setup, self.spec
        if role not in ALONE or not spec.measured_costs:
            return setup
        turns = steady(spec, self.store.trials(self.id), "remeasured")
        return replace(
            setup, measured=json.dumps({each.id: found for each, found in turns.items()})
        )

    def _note_provenance(self, provenance: Mapping[str, str]) -> None:
        """Makes every machine and signature of figures a fact of the search: `NAME_provenance`.

        A list in JSON, so that figures of different origins are seen to be such.
        """
        new = provenance.items() - self._provenance
        for name, origin in new:
            fact = f"{name}_provenance"
            known = json.loads(self.store.get(self.id).facts.get(fact, "[]"))
            self.note_facts({fact: json.dumps([*known, *({origin} - set(known))])})
        self._provenance |= new


@contextmanager
def holding(search: str, place: Workspace, listener: Listener) -> Iterator[Running]:
    """Takes up a recorded search: its lease, machines and MLflow projection; gives them back."""
    store = SqlStore(place.record_url)
    record = store.get(search)
    spec = load_spec(record.spec)
    executor: Executor = catalog.EXECUTORS.load(spec.executor.name)(spec.executor)
    with Heartbeat(store, record.id) as heartbeat, Projector(place, record.id):
        running = Running(spec, record, store, place, listener, executor, heartbeat)
        heartbeat.beats = running.charge
        try:
            yield running
        finally:
            executor.close()
            if heartbeat.lost is None:
                running.charge()
