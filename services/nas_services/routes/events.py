"""What happens in a search, told as it happens?"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import aclosing
from time import monotonic
from typing import Annotated, Any

from fastapi import APIRouter, Header
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse

from nas.errors import SearchNotFound, StoreUnavailable
from nas.store.store import TERMINAL, Event, SearchState
from nas_services.dependencies import ReadCaller, Services, ServicesDep
from nas_services.hub import PAGE
from nas_services.logs import Line
from nas_services.routes.searches import SearchId

router = APIRouter(tags=["events"])

TOLD = frozenset({"search.state", "search.desired", "trial", "pareto.updated"})
"""The kinds of the record's events that are told."""
RETRY_MILLISECONDS = 2000
# How often the log is looked at once a search has ended: what was written last comes late.
LAST_LOOKS = 3
HEARTBEAT = ": heartbeat\n\n"

_LOG = logging.getLogger(__name__)

LastEventId = Annotated[
    str | None,
    Header(
        pattern="^[0-9]{1,18}$",
        description="The id of the last event that was received; those behind it are told.",
    ),
]
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events, with a comment every 15 s where nothing happens.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}


@router.get("/searches/{id}/events", response_class=StreamingResponse, responses=_ANSWERS)
async def stream_events(
    services: ServicesDep, _: ReadCaller, id: SearchId, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Tells what happened in a search and what happens: its states, trials and fronts.

    Each event's id is above that of the one before, and its data are JSON. The last one is `end`,
    once the search has come to a terminal state.
    """
    record = await run_in_threadpool(services.store.get, id)
    return _streamed(_events(services, record.id, int(last_event_id or 0)))


@router.get("/searches/{id}/logs", response_class=StreamingResponse, responses=_ANSWERS)
async def stream_logs(
    services: ServicesDep, _: ReadCaller, id: SearchId, last_event_id: LastEventId = None
) -> StreamingResponse:
    """Tells what the jobs of a search write, line by line: those of all its attempts, in order.

    Each line is an event `log` with JSON data; the last event is `end`, once the search has ended.
    """
    record = await run_in_threadpool(services.store.get, id)
    found = services.hub.logs.follow(record.id, int(last_event_id or 0))
    # Where nobody can be asked for logs, that is answered instead of a stream.
    first = await anext(found)
    return _streamed(_logs(services, record.id, first, found))


def _streamed(parts: AsyncIterator[str]) -> StreamingResponse:
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(parts, headers=headers, media_type="text/event-stream")


async def _events(services: Services, search: str, after: int) -> AsyncGenerator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    try:
        ended = await _ended(services, search)
        async with aclosing(services.hub.events(search, after)) as found:
            while ended is None:
                event = await anext(found)
                if event is None:
                    yield HEARTBEAT
                else:
                    after = event.sequence
                    for text in _told(event):
                        yield text
                # A state that was terminal may have been left since, by a failed search.
                if event is None or event.data.get("state") in TERMINAL:
                    ended = await _ended(services, search)
        while rest := await run_in_threadpool(services.store.events, search, after, PAGE):
            for event in rest:
                after = event.sequence
                for text in _told(event):
                    yield text
        yield _message("end", {"search": search, "state": ended})
    except (SearchNotFound, StoreUnavailable) as error:
        # Too late for a problem: who listens comes again, and hears it then.
        _LOG.info("events of %s end early: %s", search, error)


async def _logs(
    services: Services, search: str, first: list[Line], found: AsyncGenerator[list[Line]]
) -> AsyncGenerator[str]:
    yield f"retry: {RETRY_MILLISECONDS}\n\n"
    looks, said, lines = 0, monotonic(), first
    try:
        async with aclosing(found):
            while True:
                for line in lines:
                    told = {"search": search, "attempt": line.attempt, "line": line.text}
                    yield _message("log", told, line.id)
                if lines:
                    said = monotonic()
                elif monotonic() - said > services.hub.heartbeat_seconds:
                    said = monotonic()
                    yield HEARTBEAT
                ended = await _ended(services, search)
                looks = looks + 1 if ended and not lines else 0
                if looks >= LAST_LOOKS:
                    yield _message("end", {"search": search, "state": ended})
                    return
                lines = await anext(found)
    except (SearchNotFound, StoreUnavailable) as error:
        _LOG.info("logs of %s end early: %s", search, error)


async def _ended(services: Services, search: str) -> SearchState | None:
    """The terminal state that a search has come to; None where it has come to none."""
    state = (await run_in_threadpool(services.store.get, search)).state
    return state if state in TERMINAL else None


def _told(event: Event) -> Iterator[str]:
    if event.kind in TOLD:
        data = {"search": event.search, "time": event.time, **event.data}
        yield _message(event.kind, data, event.sequence)


def _message(kind: str, data: Mapping[str, Any], id: int | None = None) -> str:
    # In ASCII on one line: no text of a log can end a message or begin another.
    lines = [f"event: {kind}", f"data: {json.dumps(data)}"]
    return "\n".join(lines if id is None else [f"id: {id}", *lines]) + "\n\n"
