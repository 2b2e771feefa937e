"""A launcher whose jobs are what a test says of them: no process is started."""

import threading

from nas.errors import LauncherUnavailable
from nas.store.serving import Attempt
from nas_services.jobs import JobStatus


class StubLauncher:
    """Remembers what was started and stopped; `statuses` says how each job stands."""

    def __init__(self) -> None:
        self.statuses: dict[str, JobStatus] = {}
        self.started: list[Attempt] = []
        self.stopped: list[str] = []
        self.written: dict[str, str] = {}
        self.away = False
        self._lock = threading.Lock()

    def start(self, attempt: Attempt) -> None:
        """A running job, where there is none of this name."""
        self._reach()
        with self._lock:
            if attempt.job not in self.statuses:
                self.started.append(attempt)
                self.statuses[attempt.job] = "running"

    def status(self, job: str) -> JobStatus | None:
        """As `statuses` has it."""
        self._reach()
        return self.statuses.get(job)

    def stop(self, job: str) -> None:
        """A job that runs is stopped at once."""
        self._reach()
        with self._lock:
            if self.statuses.get(job) in ("pending", "running"):
                self.stopped.append(job)
                self.statuses[job] = "stopped"

    def logs(self, job: str) -> str:
        """As `written` has it."""
        self._reach()
        return self.written.get(job, "")

    def _reach(self) -> None:
        if self.away:
            raise LauncherUnavailable("the jobs' machine does not answer")
