"""How is a search waited for: what is told on the way, and a bar that shows it?"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TextIO

from nas.client.answers import Search
from nas.errors import ServiceUnavailable

SEARCH, CONTROLS = "search", "controls"


@dataclass(frozen=True)
class Progress:
    """`done` of `total` units of a phase or of trials of a role, with a word on the search."""

    phase: str
    done: int
    total: int
    text: str = ""


Listener = Callable[[Search], None]


def wait(
    ask: Callable[[], Search],
    until: Callable[[Search], bool],
    listener: Listener,
    *,
    every: float,
    timeout: float | None,
    patience: float,
) -> Search:
    """Asks until the search is as wanted, or `timeout` seconds are over: then as it is.

    A service that is away is waited for, `patience` seconds at most; then raises
    `ServiceUnavailable`.
    """
    begun = reached = time.monotonic()
    found: Search | None = None
    while True:
        try:
            found = ask()
            reached = time.monotonic()
            listener(found)
            if until(found):
                return found
        except ServiceUnavailable:
            if time.monotonic() - reached > patience:
                raise
        left = None if timeout is None else begun + timeout - time.monotonic()
        if left is not None and left <= 0 and found is not None:
            return found
        time.sleep(every if left is None else max(0.0, min(every, left)))


def progress_of(search: Search) -> list[Progress]:
    """How far a search is: each phase that it has come to, in order.

    A phase whose trials are planned has these as its units, any other is one unit itself.
    """
    phases = dict.fromkeys([*(each.phase for each in search.conditions), search.phase])
    found = []
    for phase in filter(None, phases):
        counted = [
            Progress(role, each.done, each.planned, search.state)
            for role, each in search.progress.items()
            if each.planned and (role == phase or (phase == CONTROLS and role != SEARCH))
        ]
        over = search.ended or phase != search.phase
        whole = [Progress(phase, int(over), 1, search.state)] if phase != CONTROLS else []
        found += counted or whole
    return found


class TextBar:
    """A listener that draws one line, over and over on a terminal; elsewhere one for each phase."""

    WIDTH = 30

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._begun = time.monotonic()
        self._last = ""
        self._phase = ""

    def __call__(self, search: Search) -> None:
        """Draws how far the search is."""
        counted = progress_of(search)
        now = counted[-1] if counted else Progress(search.phase or search.state, 0, 0)
        seconds = int(time.monotonic() - self._begun)
        passed = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
        line = f"{search.name} {search.state}: {_drawn(now, self.WIDTH)} {passed}"
        with suppress(OSError):
            if self._stream.isatty():
                blank = " " * max(0, len(self._last) - len(line))
                end = "\n" if search.ended else ""
                self._stream.write(f"\r{line}{blank}{end}")
                self._stream.flush()
            elif now.phase != self._phase or search.ended:
                self._stream.write(f"{line}\n")
        self._last, self._phase = line, now.phase


def _drawn(now: Progress, width: int) -> str:
    if not now.total:
        return now.phase
    filled = width * min(now.done, now.total) // now.total
    return f"{now.phase} [{'#' * filled}{'-' * (width - filled)}] {now.done}/{now.total}"
