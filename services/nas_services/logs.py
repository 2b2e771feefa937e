"""What do the jobs of a search write? Read from their launcher once for all who look on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from nas.errors import LauncherUnavailable, StoreUnavailable
from nas.store.serving import Attempt, ServingStore
from nas_services.jobs import Launcher

LOOK_SECONDS = 1.0
LONGEST_LINE = 4000
# A line's id holds its attempt's number above the line's own.
LINES = 1 << 32


@dataclass(frozen=True)
class Line:
    """A line of an attempt's log; `id` rises through all attempts of the search."""

    id: int
    attempt: int
    text: str


@dataclass(eq=False)
class _Held:
    """What was read last, and when; attempts that have ended write nothing more."""

    lines: list[Line] = field(default_factory=list)
    ended: dict[int, list[Line]] = field(default_factory=dict)
    read: float = float("-inf")
    reading: asyncio.Task[None] | None = None
    readers: int = 0


class Logs:
    """The lines of all attempts of a search, in order, as they are written.

    However many look on, the launcher is asked once every `seconds`. All of it runs in one event
    loop.
    """

    def __init__(
        self, serving: ServingStore, launcher: Launcher, seconds: float = LOOK_SECONDS
    ) -> None:
        self._serving, self._launcher, self.seconds = serving, launcher, seconds
        self._held: dict[str, _Held] = {}

    async def follow(self, search: str, after: int = 0) -> AsyncGenerator[list[Line]]:
        """New lines with an id above `after`, about every `seconds`, also where there are none.

        Raises `LauncherUnavailable` and `StoreUnavailable` before the first lines; while they are
        away later on there are none.
        """
        held = self._held.setdefault(search, _Held())
        held.readers += 1
        try:
            await self._look(search, held)
            while True:
                found = [line for line in held.lines if line.id > after]
                after = found[-1].id if found else after
                yield found
                await asyncio.sleep(self.seconds)
                with suppress(LauncherUnavailable, StoreUnavailable):
                    await self._look(search, held)
        finally:
            held.readers -= 1
            if not held.readers and self._held.get(search) is held:
                del self._held[search]

    async def _look(self, search: str, held: _Held) -> None:
        if monotonic() - held.read < self.seconds / 2:
            return
        if held.reading is None or held.reading.done():
            held.reading = asyncio.create_task(self._read(search, held))
        # Whoever goes away must not end what the others wait for.
        await asyncio.shield(held.reading)

    async def _read(self, search: str, held: _Held) -> None:
        lines: list[Line] = []
        for attempt in await asyncio.to_thread(self._serving.attempts, search):
            if attempt.number not in held.ended:
                text = await asyncio.to_thread(self._launcher.logs, attempt.job)
                found = _lines(attempt, text)
                if attempt.ended is not None:
                    held.ended[attempt.number] = found
            else:
                found = held.ended[attempt.number]
            lines += found
        held.lines, held.read = lines, monotonic()


def _lines(attempt: Attempt, text: str) -> list[Line]:
    rows = text.split("\n")
    # What is behind the last line's end is nothing, or a line that is still being written.
    if attempt.ended is None or not rows[-1]:
        rows.pop()
    return [
        Line(attempt.number * LINES + number, attempt.number, _shown(row))
        for number, row in enumerate(rows, 1)
    ]


def _shown(row: str) -> str:
    # Of a line that a progress bar wrote over and over, what a terminal would show.
    row = row.rstrip("\r").rpartition("\r")[2]
    return row if len(row) <= LONGEST_LINE else f"{row[:LONGEST_LINE]} ..."
