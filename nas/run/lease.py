"""Who runs a search: a lease in the record, kept alive by a heartbeat, taken over from the dead."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType

from nas.errors import LeaseLost, StoreUnavailable
from nas.store.store import Lease, SearchRecord, SearchStore

LEASE_SECONDS = 60.0
BEAT_SECONDS = 5.0


def holder() -> str:
    """This thread by host, number and start time; a number alone may be given out again.

    The number of a process's first thread is the process's own. Where there is no `/proc`, all
    threads of a process are one holder.
    """
    own = threading.get_native_id() if _has_proc() else os.getpid()
    return f"{socket.gethostname()}:{own}:{_started(own)}"


def holder_alive(name: str) -> bool:
    """Whether the holder may still run; one of another host is taken to, until its lease ends."""
    host, _, rest = name.rpartition(":")[0].rpartition(":")
    if host != socket.gethostname() or not rest.isdigit():
        return True
    return _started(int(rest)) == name.rpartition(":")[2]


def shown_state(record: SearchRecord) -> str:
    """The record's state; `interrupted` for one that runs by its record and by nobody's hand.

    That is where no lease is left, it has run out, or its holder is dead.
    """
    if record.state != "running":
        return record.state
    if record.holder is None or record.expires is None:
        return "interrupted"
    ended = datetime.fromisoformat(record.expires) <= datetime.now(UTC)
    return "interrupted" if ended or not holder_alive(record.holder) else record.state


def _started(process: int) -> str:
    try:
        # Field 22 of proc(5)'s stat, counted behind the command name, which may hold blanks.
        stat = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
        state, *fields = stat.rpartition(")")[2].split()
        return "dead" if state in "ZX" else fields[18]
    except (OSError, IndexError):
        return _without_proc(process)


def _has_proc() -> bool:
    # Threads, too, are found there by their numbers (proc(5)).
    return Path("/proc/self/stat").exists()


def _without_proc(process: int) -> str:
    if _has_proc():
        return "dead"
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return "dead"
    except PermissionError:
        pass
    return "0"


class Heartbeat:
    """Holds a search for as long as the `with` block lasts; `beats` is called at every beat."""

    def __init__(self, store: SearchStore, search: str) -> None:
        self.store, self.search = store, search
        self.beats: Callable[[], None] = lambda: None
        self.lost: LeaseLost | None = None
        self.lease: Lease
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True, name="heartbeat")

    def __enter__(self) -> Heartbeat:
        self.lease = self.store.acquire(self.search, holder(), LEASE_SECONDS, holder_alive)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self.lost is None:
            self.store.release(self.lease)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_SECONDS):
            try:
                self.lease = self.store.renew(self.lease, LEASE_SECONDS)
                self.beats()
            except LeaseLost as error:
                # Writes are fenced by the lease, so the main thread meets the loss at its next one.
                self.lost = error
                return
            except StoreUnavailable:
                # A record that is busy for a while loses nobody the search; the next beat tries.
                continue
