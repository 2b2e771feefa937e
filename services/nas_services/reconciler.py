"""How does what is wanted of searches become so, whatever part of the service dies meanwhile?"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from datetime import datetime

from nas.errors import (
    LauncherUnavailable,
    LeaseLost,
    SearchNotFound,
    SearchStateError,
    StoreUnavailable,
    writable,
)
from nas.run.lease import LEASE_SECONDS, holder, holder_alive
from nas.run.settling import RESTING, settle
from nas.store.serving import Attempt, ServingStore, Wish
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord, rfc3339
from nas_services.jobs import LIVE, JobStatus, Launcher

MOST_LOST = 5
# Within this time after an attempt began, a job that Ray does not know has not been started yet.
STARTING_SECONDS = 30.0
# How long a driver may take to stop by itself.
STOPPING_SECONDS = 30.0
# An attempt that lasted so long has saved some training: every two minutes it does.
LONG_SECONDS = 300.0
STEP_SECONDS = 1.0
# Events of work done that is kept.
PROGRESS = ("trial", "search.facts")
_SHOWN = 500

_LOG = logging.getLogger(__name__)


class Reconciler:
    """Brings searches to what is wanted of them, by starting and ending attempts.

    It holds nothing that a fresh one could not find again, and as many as like may be at work: an
    attempt is begun by compare-and-set, a job of a name is there once, a state is set under the
    search's lease. At most `limit` searches run at once, the oldest first. `now` is in seconds
    since 1970.
    """

    def __init__(
        self,
        serving: ServingStore,
        store: SqlStore,
        launcher: Launcher,
        *,
        limit: int = 1,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.serving, self.store, self.launcher = serving, store, launcher
        self.limit, self.now = limit, now
        self.trouble = ""
        """Why Ray could not be asked in the last step; empty where all is well."""
        self._open: dict[str, Attempt] = {}

    def step(self) -> None:
        """Looks at every unsettled search once; raises `StoreUnavailable`.

        Where Ray is away nothing changes for what may be running there, and `trouble` says so.
        """
        rows = self.serving.unsettled()
        trouble, busy = "", 0
        idle: list[tuple[SearchRecord, Wish, Attempt | None]] = []
        for record, wish, attempt in rows:
            if trouble and attempt is not None and attempt.ended is None:
                busy += 1
                continue
            try:
                if self._at_work(record, wish, attempt):
                    busy += 1
                else:
                    idle.append((record, wish, attempt))
            except LauncherUnavailable as error:
                trouble, busy = str(error), busy + 1
        for record, wish, attempt in idle:
            try:
                if RESTING.get(wish.desired, record.state) != record.state:
                    # It stays as it is where somebody takes it up meanwhile.
                    settle(self.store, self.serving, record.id)
                elif wish.desired == "run" and busy < self.limit and not trouble:
                    busy += self._begin(record, wish, attempt)
            except LauncherUnavailable as error:
                trouble = str(error)
            except SearchNotFound:
                # It was cancelled and deleted since it was looked up.
                continue
        if not trouble:
            trouble = self._close(attempt for _, _, attempt in rows if attempt is not None)
        self.trouble = trouble

    def _at_work(self, record: SearchRecord, wish: Wish, attempt: Attempt | None) -> bool:
        """Whether a driver may be at work on a search; an attempt that is over is entered so."""
        held = self._held(record)
        if attempt is None or attempt.ended is not None:
            return held
        status = self.launcher.status(attempt.job)
        if status in LIVE:
            if wish.desired != "run" and self._age(wish.changed) >= STOPPING_SECONDS:
                self.launcher.stop(attempt.job)
            return True
        if held:
            return True
        if (
            status is None
            and wish.desired == "run"
            and self._age(attempt.started) < STARTING_SECONDS
        ):
            # Whoever began it may have died before the job was there.
            self.launcher.start(attempt)
            return True
        outcome = self._outcome(attempt, status)
        if wish.desired != "run":
            outcome = f"{wish.desired} was asked for"
        self.serving.end_attempt(attempt.search, attempt.number, outcome)
        return False

    def _held(self, record: SearchRecord) -> bool:
        return (
            record.holder is not None
            and record.expires is not None
            and record.expires > rfc3339(self.now())
            and holder_alive(record.holder)
        )

    def _age(self, time: str) -> float:
        return self.now() - datetime.fromisoformat(time).timestamp()

    def _outcome(self, attempt: Attempt, status: JobStatus | None) -> str:
        if status is None:
            return f"Ray knows no job {attempt.job}: it was never there, or Ray's head was lost"
        try:
            told = self.launcher.logs(attempt.job) if status == "failed" else ""
        except LauncherUnavailable:
            # The log lies on the job's machine, which may be gone while Ray itself answers.
            return f"job {attempt.job} {status}, and its log cannot be read"
        said = told.strip().splitlines()
        return writable(
            f"job {attempt.job} {status}: {said[-1][:_SHOWN]}"
            if said
            else f"job {attempt.job} {status}"
        )

    def _begin(self, record: SearchRecord, wish: Wish, last: Attempt | None) -> bool:
        """Begins the next attempt; whether the search takes one of the places that there are."""
        lost = self._lost(record.id, wish) if last is not None else []
        if len(lost) >= MOST_LOST:
            self._fail(record, lost[0])
            return False
        if lost and lost[0].ended and self._age(lost[0].ended) < 2 ** len(lost) - 2:
            # What fails at once is tried less and less often, and keeps its place.
            return True
        # Ray that is away is seen before an attempt is counted.
        self.launcher.status(last.job if last is not None else f"{record.id}-1")
        attempt = self.serving.begin_attempt(record.id, last.number if last is not None else 0)
        if attempt is not None:
            self._open[attempt.job] = attempt
            self.launcher.start(attempt)
        return True

    def _lost(self, search: str, wish: Wish) -> list[Attempt]:
        """The last attempts that came to nothing, the newest first."""
        progress = self.serving.events_of(search, PROGRESS)
        since = max(wish.changed, progress[-1].time if progress else "")
        found: list[Attempt] = []
        for attempt in reversed(self.serving.attempts(search)):
            ended = attempt.ended
            if ended is None or attempt.started <= since:
                break
            if self._age(attempt.started) - self._age(ended) >= LONG_SECONDS:
                break
            found.append(attempt)
        return found

    def _fail(self, record: SearchRecord, last: Attempt) -> None:
        error = (
            f"{MOST_LOST} attempts in a row ended without a trial or saved training; the last "
            f"one's reason: {last.outcome}"
        )
        try:
            lease = self.store.acquire(record.id, holder(), LEASE_SECONDS, holder_alive)
            try:
                self.store.set_state(lease, "failed", error=error)
            finally:
                self.store.release(lease)
        except (LeaseLost, SearchStateError) as raised:
            _LOG.info("search %s is not failed: %s", record.id, raised)

    def _close(self, unsettled: Iterable[Attempt]) -> str:
        """Enters the end of attempts that ended their search; gives what Ray's trouble is."""
        now_open = {each.job: each for each in unsettled if each.ended is None}
        settled = {job: each for job, each in self._open.items() if job not in now_open}
        self._open = settled | now_open
        for job, attempt in settled.items():
            try:
                status = self.launcher.status(job)
            except LauncherUnavailable as error:
                return str(error)
            if status not in LIVE:
                self.serving.end_attempt(attempt.search, attempt.number, f"job {job} {status}")
                del self._open[job]
        return ""


class ReconcilerThread:
    """Lets a reconciler step about every second, and at once when it is poked."""

    def __init__(self, reconciler: Reconciler, seconds: float = STEP_SECONDS) -> None:
        self.reconciler, self.seconds = reconciler, seconds
        self.trouble = ""
        """Why the last step came to nothing; empty where it did not."""
        self._poked, self._stopping = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="reconciler")

    @property
    def alive(self) -> bool:
        """Whether it is at work."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begins with a step at once."""
        self._thread.start()

    def poke(self) -> None:
        """Asks for a step now: something was wished for."""
        self._poked.set()

    def stop(self, seconds: float = 5.0) -> None:
        """Ends it after the step at hand, for which it waits so long."""
        self._stopping.set()
        self._poked.set()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._poked.clear()
            self.trouble = self._step()
            self._poked.wait(self.seconds)

    def _step(self) -> str:
        try:
            self.reconciler.step()
        except StoreUnavailable as error:
            return str(error)
        except Exception as error:  # noqa: BLE001 - said, in the log too
            # Searches are not left alone for one mistake; it is in the log, and so is the next.
            _LOG.exception("a step of the reconciler failed")
            return f"{type(error).__name__}: {error}"
        return self.reconciler.trouble
