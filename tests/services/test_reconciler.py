"""The reconciler: what is wanted of a search becomes so, once, whatever dies meanwhile."""

import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nas.errors import LauncherUnavailable, StoreUnavailable
from nas.run.lease import holder
from nas.store.database import sqlite_url
from nas.store.serving import Attempt, Desired
from nas.store.serving_sql import ServingSqlStore
from nas.store.sql import SqlStore
from nas.store.store import Lease, SearchRecord, SearchState
from nas_services.reconciler import (
    LONG_SECONDS,
    MOST_LOST,
    STARTING_SECONDS,
    STOPPING_SECONDS,
    Reconciler,
    ReconcilerThread,
)
from tests.services.launcher import StubLauncher
from tests.store.conformance import SPEC, Clock, trial

ELSEWHERE = "another-host:1:1"
LEASE = 60.0


class House:
    """A record, a launcher of jobs that do nothing by themselves, and a clock."""

    def __init__(self, folder: Path) -> None:
        self.url = sqlite_url(folder / "record.db")
        self.clock = Clock()
        self.store = SqlStore(self.url, clock=self.clock)
        self.serving = ServingSqlStore(self.url, clock=self.clock)
        self.launcher = StubLauncher()
        self.reconciler = self.another()

    def another(self, limit: int = 1) -> Reconciler:
        """A fresh reconciler, as of another process."""
        return Reconciler(self.serving, self.store, self.launcher, limit=limit, now=self.clock)

    def submit(self) -> str:
        with self.serving.once("someone", None, "") as once:
            made = once.create_search(SPEC, owner="someone")
        self.clock.now += 1
        return made.id

    def wish(self, search: str, desired: Desired) -> None:
        with self.serving.once("someone", None, "") as once:
            once.set_desired(search, desired)

    def step(self, seconds: float = 1.0) -> None:
        self.clock.now += seconds
        self.reconciler.step()

    def drive(self, search: str, state: SearchState = "running") -> Lease:
        """What a driver does first: it takes the lease."""
        lease = self.store.acquire(search, ELSEWHERE, LEASE)
        self.store.set_state(lease, state, phase="search")
        return lease

    def end(self, job: str, status: str = "failed", said: str = "") -> None:
        self.launcher.statuses[job] = status  # type: ignore[assignment]
        self.launcher.written[job] = said

    def record(self, search: str) -> SearchRecord:
        return self.store.get(search)

    def attempts(self, search: str) -> list[Attempt]:
        return self.serving.attempts(search)

    @property
    def started(self) -> list[str]:
        return [attempt.job for attempt in self.launcher.started]


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    made = House(tmp_path)
    yield made
    made.store.close()
    made.serving.close()


def test_a_queued_search_is_started_once(house: House) -> None:
    search = house.submit()
    for _ in range(5):
        house.step()
    assert house.started == [f"{search}-1"]
    assert [each.number for each in house.attempts(search)] == [1]
    assert house.record(search).state == "queued"
    house.drive(search)
    house.step(LEASE / 2)
    assert house.started == [f"{search}-1"]


def test_an_attempt_whose_log_is_gone_with_its_machine_ends_and_the_next_one_begins(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = house.submit()
    house.step()

    def unreadable(_: str) -> str:
        raise LauncherUnavailable("500 for the log")

    monkeypatch.setattr(house.launcher, "logs", unreadable)
    house.end(f"{search}-1")
    house.step(LEASE)
    first, *_ = house.attempts(search)
    assert first.outcome == f"job {search}-1 failed, and its log cannot be read"
    house.step(LEASE)
    assert [each.number for each in house.attempts(search)] == [1, 2]


def test_searches_of_a_terminal_are_no_affair_of_ours(house: House) -> None:
    house.store.create_search(SPEC)
    house.step()
    assert house.started == []


def test_only_so_many_run_at_once_and_the_oldest_first(house: House) -> None:
    searches = [house.submit() for _ in range(4)]
    house.reconciler = house.another(limit=2)
    house.step()
    assert house.started == [f"{each}-1" for each in searches[:2]]
    house.step()
    assert len(house.started) == 2
    lease = house.drive(searches[1])
    house.store.set_state(lease, "succeeded")
    house.store.release(lease)
    house.end(f"{searches[1]}-1", "succeeded")
    house.step()
    assert house.started[2:] == [f"{searches[2]}-1"]
    assert house.attempts(searches[1])[0].ended is not None


def test_a_search_held_at_a_terminal_is_left_to_it(house: House) -> None:
    search = house.submit()
    lease = house.store.acquire(search, holder(), LEASE)
    house.step()
    assert house.started == []
    house.store.release(lease)
    house.step()
    assert house.started == [f"{search}-1"]


def test_a_job_that_never_came_to_be_is_started_under_its_name(house: House) -> None:
    search = house.submit()
    # A reconciler was killed between its two steps.
    begun = house.serving.begin_attempt(search, 0)
    assert begun is not None
    house.step()
    assert house.started == [begun.job]
    assert len(house.attempts(search)) == 1


def test_a_killed_driver_is_followed_by_another_when_its_lease_is_over(house: House) -> None:
    search = house.submit()
    house.step()
    house.drive(search)
    house.end(f"{search}-1", "failed", "a\nKilled\n")
    house.step(LEASE / 2)
    assert house.started == [f"{search}-1"]
    house.step(LEASE)
    assert house.started == [f"{search}-1", f"{search}-2"]
    first, second = house.attempts(search)
    assert first.outcome == f"job {search}-1 failed: Killed"
    assert (second.number, second.ended) == (2, None)
    assert house.record(search).state == "running"


def test_a_lost_head_means_a_new_attempt(house: House) -> None:
    search = house.submit()
    house.step()
    lease = house.drive(search)
    house.step(STARTING_SECONDS)
    house.launcher.statuses.clear()
    # Its driver may still run on a machine that the head has forgotten.
    house.step()
    assert house.started == [f"{search}-1"]
    house.store.release(lease)
    house.step()
    assert house.started == [f"{search}-1", f"{search}-2"]
    assert "Ray knows no job" in house.attempts(search)[0].outcome


def test_ray_away_changes_nothing_and_is_said(house: House) -> None:
    running, waiting = house.submit(), house.submit()
    house.step()
    house.reconciler = house.another(limit=2)
    house.launcher.away = True
    for _ in range(20):
        house.step(30)
    assert house.reconciler.trouble == "the jobs' machine does not answer"
    assert [each.ended for each in house.attempts(running)] == [None]
    assert house.attempts(waiting) == []
    house.launcher.away = False
    house.step()
    assert house.reconciler.trouble == ""
    assert house.started == [f"{running}-1", f"{waiting}-1"]


def test_ray_away_hinders_no_wish_of_one_that_never_ran(house: House) -> None:
    running, paused, cancelled = house.submit(), house.submit(), house.submit()
    house.step()
    house.launcher.away = True
    house.wish(running, "cancel")
    house.wish(paused, "pause")
    house.wish(cancelled, "cancel")
    house.step()
    states = [house.record(each).state for each in (running, paused, cancelled)]
    assert states == ["queued", "paused", "cancelled"]


@pytest.mark.parametrize(("desired", "state"), [("pause", "paused"), ("cancel", "cancelled")])
class TestWishes:
    """What is no longer wanted to run stops, by itself or else by force."""

    def test_before_it_ran(self, house: House, desired: Desired, state: str) -> None:
        search = house.submit()
        house.wish(search, desired)
        house.step()
        assert house.record(search).state == state
        assert house.started == []

    def test_the_driver_may_take_its_time(self, house: House, desired: Desired, state: str) -> None:
        search = house.submit()
        house.step()
        lease = house.drive(search)
        house.wish(search, desired)
        house.step(STOPPING_SECONDS - 1)
        assert house.record(search).state == "running"
        assert house.launcher.stopped == []
        house.store.release(lease)
        house.end(f"{search}-1", "succeeded")
        house.step()
        assert house.record(search).state == state
        assert house.attempts(search)[0].outcome == f"{desired} was asked for"
        assert house.launcher.stopped == []

    def test_one_that_does_not_stop_is_stopped(
        self, house: House, desired: Desired, state: str
    ) -> None:
        search = house.submit()
        house.step()
        house.drive(search)
        house.wish(search, desired)
        house.step(STOPPING_SECONDS)
        assert house.launcher.stopped == [f"{search}-1"]
        house.step()
        # Stopped, it has no lease to give back.
        assert house.record(search).state == "running"
        house.step(LEASE)
        assert house.record(search).state == state

    def test_a_driver_that_settled_it_is_done(
        self, house: House, desired: Desired, state: SearchState
    ) -> None:
        search = house.submit()
        house.step()
        house.wish(search, desired)
        lease = house.drive(search, state)
        house.store.release(lease)
        before = house.store.events(search)
        house.end(f"{search}-1", "succeeded")
        for _ in range(3):
            house.step()
        assert house.record(search).state == state
        assert house.store.events(search) == before
        assert house.attempts(search)[0].ended is not None

    def test_the_phase_stays(self, house: House, desired: Desired, state: str) -> None:
        search = house.submit()
        house.step()
        lease = house.drive(search)
        house.wish(search, desired)
        house.store.release(lease)
        house.end(f"{search}-1", "stopped")
        house.step()
        assert (house.record(search).state, house.record(search).phase) == (state, "search")


def test_a_paused_search_takes_no_place_and_goes_on_when_it_is_resumed(house: House) -> None:
    first, second = house.submit(), house.submit()
    house.step()
    house.wish(first, "pause")
    house.end(f"{first}-1", "succeeded")
    house.step()
    assert house.started == [f"{first}-1", f"{second}-1"]
    house.wish(first, "run")
    house.step()
    assert len(house.started) == 2
    house.wish(second, "cancel")
    house.end(f"{second}-1", "succeeded")
    house.step()
    assert house.started == [f"{first}-1", f"{second}-1", f"{first}-2"]


def begun(house: House, search: str) -> Attempt:
    """The attempt that is open, when there is one."""
    for _ in range(100):
        attempts = house.attempts(search)
        if attempts and attempts[-1].ended is None:
            return attempts[-1]
        house.step()
    raise AssertionError("no attempt was begun")


def lose(house: House, search: str, times: int) -> None:
    """So many drivers end at once, whatever pause the reconciler makes between them."""
    for _ in range(times):
        last = begun(house, search)
        house.end(last.job, "failed", f"the reason of {last.number}\n")
        house.step()


def test_attempts_that_come_to_nothing_end_in_a_failure_with_the_last_reason(
    house: House,
) -> None:
    search = house.submit()
    lose(house, search, MOST_LOST)
    house.step()
    record = house.record(search)
    assert record.state == "failed"
    assert f"job {search}-{MOST_LOST} failed: the reason of {MOST_LOST}" in (record.error or "")
    assert record.holder is None
    house.step(1000)
    assert len(house.started) == MOST_LOST


def test_attempts_come_less_and_less_often(house: House) -> None:
    search = house.submit()
    lose(house, search, MOST_LOST)
    attempts = house.attempts(search)
    started = [house.reconciler._age(each.started) for each in attempts]
    pauses = [earlier - later for earlier, later in itertools.pairwise(started)]
    assert pauses == sorted(pauses)
    assert pauses[-1] >= 14


@pytest.mark.parametrize(
    "progress",
    [
        lambda store, lease: store.add_trial(lease, trial(0)),
        lambda store, lease: store.add_facts(lease, {"supernet_steps": "100 of 200"}),
    ],
)
def test_a_trial_or_new_training_begins_the_count_anew(
    house: House, progress: Callable[[SqlStore, Lease], None]
) -> None:
    search = house.submit()
    lose(house, search, MOST_LOST - 1)
    last = begun(house, search)
    lease = house.drive(search)
    house.clock.now += 1
    progress(house.store, lease)
    house.store.release(lease)
    house.end(last.job)
    house.step()
    lose(house, search, MOST_LOST - 2)
    assert house.record(search).state == "running"
    lose(house, search, 2)
    house.step()
    assert house.record(search).state == "failed"


def test_an_attempt_that_lasted_got_somewhere(house: House) -> None:
    search = house.submit()
    lose(house, search, MOST_LOST - 1)
    last = begun(house, search)
    house.clock.now += LONG_SECONDS
    house.end(last.job)
    house.step()
    lose(house, search, MOST_LOST - 1)
    assert house.record(search).state == "queued"


def test_who_resumes_a_search_has_all_attempts_again(house: House) -> None:
    search = house.submit()
    lose(house, search, MOST_LOST - 1)
    house.wish(search, "pause")
    house.step()
    assert house.record(search).state == "paused"
    house.wish(search, "run")
    lose(house, search, MOST_LOST - 1)
    assert house.record(search).state == "paused"


def test_a_terminal_state_is_left_alone(house: House) -> None:
    search = house.submit()
    house.step()
    lease = house.drive(search)
    house.store.set_state(lease, "failed", error="diverged")
    house.store.release(lease)
    house.end(f"{search}-1")
    for _ in range(5):
        house.step(100)
    assert (house.record(search).state, house.record(search).error) == ("failed", "diverged")
    assert house.started == [f"{search}-1"]
    assert house.attempts(search)[0].outcome == f"job {search}-1 failed"


class _Jobs(StubLauncher):
    """Jobs that die at once by chance, and the most that were live at once for a search."""

    def __init__(self) -> None:
        super().__init__()
        self.most = 0

    def start(self, attempt: Attempt) -> None:
        super().start(attempt)
        with self._lock:
            live = [
                job
                for job, status in self.statuses.items()
                if status == "running" and job.startswith(attempt.search)
            ]
            self.most = max(self.most, len(live))


def test_two_reconcilers_at_once_never_start_two_live_attempts(house: House) -> None:
    house.launcher = _Jobs()
    searches = [house.submit() for _ in range(3)]
    rounds = 40
    together = threading.Barrier(3)
    errors: list[Exception] = []

    def reconcile() -> None:
        mine = house.another(limit=3)
        try:
            for _ in range(rounds):
                together.wait(60)
                mine.step()
                together.wait(60)
        except Exception as error:  # noqa: BLE001 - shown by the test
            errors.append(error)
            together.abort()

    threads = [threading.Thread(target=reconcile) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(rounds):
        together.wait(60)
        together.wait(60)
        # Between their steps one of the jobs dies, having made a trial.
        house.clock.now += 40
        search = searches[number % 3]
        last = house.attempts(search)[-1]
        if last.ended is None:
            lease = house.store.acquire(search, ELSEWHERE, LEASE)
            house.store.add_trial(lease, trial(number))
            house.store.release(lease)
            house.end(last.job)
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert house.launcher.most == 1
    assert len(house.started) == len(set(house.started)) >= rounds / 2
    for search in searches:
        attempts = house.attempts(search)
        assert [each.number for each in attempts] == list(range(1, len(attempts) + 1))
        assert all(each.ended for each in attempts[:-1])


def test_a_thread_steps_when_it_is_poked_and_survives_mistakes(house: House) -> None:
    stepped = threading.Semaphore(0)
    mistakes: list[Exception] = [StoreUnavailable("the record is away"), KeyError("a mistake")]

    class Faulty(Reconciler):
        """It fails twice, then works."""

        def step(self) -> None:
            try:
                if mistakes:
                    raise mistakes.pop(0)
                super().step()
            finally:
                stepped.release()

    reconciler = Faulty(house.serving, house.store, house.launcher, now=house.clock)
    thread = ReconcilerThread(reconciler, seconds=600)
    search = house.submit()
    thread.start()
    try:
        for trouble in ("the record is away", "KeyError: 'a mistake'", ""):
            assert stepped.acquire(timeout=60)
            for _ in range(6000):
                if thread.trouble == trouble:
                    break
                threading.Event().wait(0.01)
            assert thread.trouble == trouble
            assert thread.alive
            thread.poke()
    finally:
        thread.stop()
    assert not thread.alive
    assert house.started == [f"{search}-1"]
