"""Who hears of what happens in searches? One poll of the record feeds any number of listeners."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic, time

from nas.errors import StoreUnavailable
from nas.store.serving import ServingStore
from nas.store.sql import SqlStore
from nas.store.store import Event
from nas_services.jobs import Launcher
from nas_services.logs import Logs

POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 15.0
# Events that are read, and kept for who is slow, at once; what is older is read anew.
PAGE = 500
MOST_KEPT = 1000
# So long may a number be missing because its transaction is not committed yet.
GAP_SECONDS = 0.5
IDLE_POLLS = 10

_LOG = logging.getLogger(__name__)


@dataclass(eq=False)
class _Channel:
    """What came of one search since somebody listens: all events above `floor`, in order."""

    floor: int
    kept: deque[Event] = field(default_factory=deque)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    listeners: int = 0

    def take(self, event: Event) -> None:
        self.kept.append(event)
        if len(self.kept) > MOST_KEPT:
            self.floor = self.kept.popleft().sequence

    def tell(self) -> None:
        # Who waits holds the old one; who comes next begins a wait of its own.
        self.moved.set()
        self.moved = asyncio.Event()


class Hub:
    """Tells listeners of a search its events, in order and each once, from any point on.

    While anybody listens one task asks the record for new events every `poll_seconds`. A listener
    holds no thread and no queue: it reads from what all listeners of its search share, and from the
    record where it is too slow for that. All of it runs in one event loop. `logs` has the same for
    what the jobs of a search write. `heard` is told before them in which searches there is news.
    """

    def __init__(
        self,
        store: SqlStore,
        serving: ServingStore,
        launcher: Launcher,
        *,
        poll_seconds: float = POLL_SECONDS,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        heard: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._store, self._serving = store, serving
        self.poll_seconds, self.heartbeat_seconds = poll_seconds, heartbeat_seconds
        self.logs = Logs(serving, launcher)
        self._heard = heard
        self._channels: dict[str, _Channel] = {}
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._poked = asyncio.Event()
        self._position = 0
        self._gap: tuple[int, float] | None = None

    @property
    def listeners(self) -> int:
        """How many listen now."""
        return sum(channel.listeners for channel in self._channels.values())

    def poke(self) -> None:
        """Asks for a look at the record now, from any thread: something was written."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._poked.set)

    async def close(self) -> None:
        """Ends the task; listeners hear nothing more."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def events(self, search: str, after: int = 0) -> AsyncGenerator[Event | None]:
        """A search's events with a sequence above `after`, without end; None is a heartbeat.

        Raises `SearchNotFound` and, where the record cannot be read, `StoreUnavailable`.
        """
        await self._begin()
        with self._listening(search) as channel:
            while True:
                moved, floor = channel.moved, channel.floor
                if after < floor:
                    found = await asyncio.to_thread(self._store.events, search, after, PAGE)
                    # What is above may have been read before what is below it was committed.
                    older = [event for event in found if event.sequence <= floor]
                    after = older[-1].sequence if len(older) == PAGE else floor
                    for event in older:
                        yield event
                    continue
                for event in [each for each in channel.kept if each.sequence > after]:
                    after = event.sequence
                    yield event
                if moved.is_set():
                    continue
                try:
                    async with asyncio.timeout(self.heartbeat_seconds):
                        await moved.wait()
                except TimeoutError:
                    yield None

    @contextmanager
    def _listening(self, search: str) -> Iterator[_Channel]:
        channel = self._channels.setdefault(search, _Channel(self._position))
        channel.listeners += 1
        try:
            yield channel
        finally:
            channel.listeners -= 1
            if not channel.listeners and self._channels.get(search) is channel:
                del self._channels[search]

    async def _begin(self) -> None:
        if self._at_work():
            return
        last = await asyncio.to_thread(self._serving.last_sequence)
        # Somebody else may have begun meanwhile.
        if not self._at_work():
            # A little below the last one, for what was not committed when it was read.
            self._position = max(0, last - PAGE)
            self._gap, self._poked = None, asyncio.Event()
            self._channels.clear()
            self._loop = asyncio.get_running_loop()
            self._task = self._loop.create_task(self._poll(), name="hub")

    def _at_work(self) -> bool:
        here = self._loop is asyncio.get_running_loop()
        return here and self._task is not None and not self._task.done()

    async def _poll(self) -> None:
        # A thread of its own, so that requests that fill the pool of all others delay no event.
        thread = ThreadPoolExecutor(1, "hub")
        try:
            idle = 0
            # A little longer than anybody listens, as the next one often comes at once.
            while self.listeners or idle < IDLE_POLLS:
                idle = 0 if self.listeners else idle + 1
                self._poked.clear()
                await self._catch_up(thread)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.poll_seconds):
                        await self._poked.wait()
        finally:
            thread.shutdown(wait=False)

    async def _catch_up(self, thread: ThreadPoolExecutor) -> None:
        loop, found = asyncio.get_running_loop(), list[Event]()
        try:
            while True:
                found = await loop.run_in_executor(
                    thread, self._serving.events_after, self._position, PAGE
                )
                self._publish(self._settled(found))
                if len(found) < PAGE or found[-1].sequence > self._position:
                    return
        except StoreUnavailable as error:
            _LOG.warning("events are late: %s", error)
        except Exception:  # noqa: BLE001 - in the log, and no reason to leave listeners waiting
            _LOG.exception("events are late")

    def _settled(self, found: Sequence[Event]) -> Iterator[Event]:
        """Those before the first number that is missing and may still come."""
        before = self._position
        for event in found:
            if event.sequence > before + 1 and not self._given_up(event):
                return
            before = event.sequence
            yield event

    def _given_up(self, event: Event) -> bool:
        """Whether the numbers right below this event's are not waited for any more."""
        if time() - datetime.fromisoformat(event.time).timestamp() > GAP_SECONDS:
            return True
        if self._gap is None or self._gap[0] != event.sequence:
            self._gap = event.sequence, monotonic()
        return monotonic() - self._gap[1] > GAP_SECONDS

    def _publish(self, found: Iterable[Event]) -> None:
        told = set()
        for event in found:
            self._position = event.sequence
            told.add(event.search)
            if (channel := self._channels.get(event.search)) is not None:
                channel.take(event)
        self._heard(told)
        for search in told & self._channels.keys():
            self._channels[search].tell()
