"""How does one attempt of a service run a search, and stop when that is not wanted any more?"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING

from nas.errors import LeaseLost, MachineUnavailable, StoreUnavailable
from nas.run.settling import settle
from nas.run.workspace import Workspace
from nas.store.serving import ServingStore
from nas.store.serving_sql import ServingSqlStore
from nas.store.sql import SqlStore

if TYPE_CHECKING:
    from nas.run.running import Listener
    from nas.run.search import Reporter

LOOK_SECONDS = 1.0
OUTAGE_SECONDS, MOST_OUTAGES = 600.0, 5
"""For so long a record that is away is waited for, and so often."""
PASSING = (MachineUnavailable, StoreUnavailable, LeaseLost)
"""Errors after which another attempt may come further: they leave the search unfinished."""


def drive(
    search: str,
    number: int,
    place: Workspace,
    *,
    reporter: Reporter,
    listener: Listener = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Runs a search as its attempt `number`: to its end, or until that is not wanted any more.

    It does nothing where the attempt is not the newest or the search not wanted to run. Where it
    is to be paused or cancelled it stops as by Ctrl-C, and then the record says that it rests.
    Needs the main thread, to which SIGINT must come as `KeyboardInterrupt`; from elsewhere that is
    passed on. A record that is away is waited for. Raises what `nas.run.search.run` raises; those
    of `PASSING` leave the search to the next attempt.
    """
    store, serving = SqlStore(place.record_url), ServingSqlStore(place.record_url)
    watch = _Watch(serving, search, number)

    def attempt() -> None:
        if reason := unwanted(serving, search, number):
            say(f"attempt {number} of search {search} has nothing to do: {reason}")
            return
        with watch:
            # Only who really runs a search loads torch.
            from nas.run.search import run

            run(search, place, reporter=reporter, listener=listener, passing=PASSING)

    try:
        _through_outages(attempt, serving, say)
    except (KeyboardInterrupt, *PASSING):
        # What an interrupt breaks may come out as another error.
        if not watch.stopping:
            raise
        say(f"attempt {number} of search {search} has stopped: {watch.stopping}")
    if settle(store, serving, search):
        say(f"search {search} is {store.get(search).state}")


def unwanted(serving: ServingStore, search: str, number: int) -> str:
    """Why an attempt is not to run the search (any more), in words; empty where it is.

    Raises `SearchNotFound` where there is no such search.
    """
    attempts = serving.attempts(search)
    newest = attempts[-1].number if attempts else 0
    if newest != number:
        return f"the newest attempt is {newest}"
    desired = serving.wish(search).desired
    return "" if desired == "run" else f"{desired} was asked for"


def _through_outages(
    attempt: Callable[[], None], serving: ServingStore, say: Callable[[str], None]
) -> None:
    """Calls it again when the record is back, which it waits for: a few times and no longer."""
    for left in reversed(range(MOST_OUTAGES)):
        try:
            attempt()
            return
        except StoreUnavailable as error:
            if not left:
                raise
            say(f"waiting for the record: {error}")
            _wait_for(serving, time.monotonic() + OUTAGE_SECONDS)


def _wait_for(serving: ServingStore, end: float) -> None:
    while True:
        time.sleep(LOOK_SECONDS)
        try:
            serving.last_sequence()
            return
        except StoreUnavailable:
            if time.monotonic() > end:
                raise


class _Watch:
    """Interrupts the main thread once the attempt is not wanted; `stopping` says why."""

    def __init__(self, serving: ServingStore, search: str, number: int) -> None:
        self.stopping = ""
        self._serving, self._search, self._number = serving, search, number
        self._ended: threading.Event
        self._thread: threading.Thread

    def __enter__(self) -> _Watch:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True, name="watch")
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                self.stopping = unwanted(self._serving, self._search, self._number)
            except StoreUnavailable:
                continue
            if self.stopping:
                main = threading.main_thread().ident
                assert main is not None
                signal.pthread_kill(main, signal.SIGINT)
                return
