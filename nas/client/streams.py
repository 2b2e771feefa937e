"""What happens in a search, as it happens: server-sent events that survive a line that drops."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from nas.client.problems import not_understood
from nas.client.transport import Transport, pause
from nas.errors import ServiceError, ServiceUnavailable

END = "end"
EVENT_STREAM = "text/event-stream"
LONGEST_EVENT = 4 << 20


@dataclass(frozen=True)
class Event:
    """One thing that happened: `id` rises within a stream, `kind` says what `data` is about.

    Kinds are search.state, trial, pareto.updated, log and, last of all, end; a newer service may
    know more.
    """

    id: int
    kind: str
    data: dict[str, Any]


@dataclass(frozen=True)
class LogLine:
    """A line that an attempt of a search wrote; `id` rises through all of them."""

    id: int
    attempt: int
    text: str


@dataclass(frozen=True)
class Frame:
    """An event of a stream before anything is made of it."""

    id: str
    event: str
    data: str


def follow(
    transport: Transport, path: str, *, after: int = 0, patience: float = 600.0
) -> Iterator[Event]:
    """A stream's events with an id above `after`, each once and in order, up to its end.

    A line that drops is taken up where it was. Raises `ServiceUnavailable` where that fails for
    `patience` seconds, and at once what the service refuses with.
    """
    failed, since = 0, time.monotonic()
    while True:
        reached = False
        try:
            for frame in _frames(transport, path, after):
                reached = True
                if frame is None:
                    continue
                failed, event = 0, _event(transport, path, frame, after)
                # A service that sends again what was sent before is nobody's trouble.
                if event.id <= after and event.kind != END:
                    continue
                after = max(after, event.id)
                yield event
                if event.kind == END:
                    return
        except ServiceUnavailable:
            if not reached and time.monotonic() - since > patience:
                raise
        since = time.monotonic() if reached else since
        time.sleep(pause(failed))
        failed += 1


def _frames(transport: Transport, path: str, after: int) -> Iterator[Frame | None]:
    """The stream's events after a None, which says that it is there."""
    headers = {"Accept": EVENT_STREAM, "Cache-Control": "no-store"}
    if after:
        headers["Last-Event-ID"] = str(after)
    with transport.stream(path, headers) as response:
        media = response.headers.get("content-type", "").partition(";")[0].strip()
        if media != EVENT_STREAM:
            raise not_understood(response, f"{media or 'nothing'} instead of {EVENT_STREAM}")
        yield None
        yield from frames(_lines(response))


def _lines(response: httpx.Response) -> Iterator[str]:
    """Lines of a body in UTF-8, parted by CRLF, LF or CR and by nothing else that parts text."""
    held = b""
    for chunk in response.iter_bytes():
        held += chunk
        if len(held) > LONGEST_EVENT:
            raise not_understood(response, f"a line of more than {LONGEST_EVENT} bytes")
        # A CR at the end may be the first half of a CRLF.
        ready, held = (held[:-1], held[-1:]) if held.endswith(b"\r") else (held, b"")
        *whole, rest = ready.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        held = rest + held
        yield from (line.decode(errors="replace") for line in whole)


def frames(lines: Iterable[str]) -> Iterator[Frame]:
    """Events of a stream's lines (https://html.spec.whatwg.org/multipage/server-sent-events.html).

    What is not followed by a blank line is none: the line dropped within it. A comment, as a
    heartbeat is one, makes no event.
    """
    id, event, data, size = "", "", list[str](), 0
    for line in lines:
        if not line:
            if data:
                yield Frame(id, event or "message", "\n".join(data))
            event, data, size = "", [], 0
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            size += len(value)
            if size > LONGEST_EVENT:
                raise ServiceError(f"an event of more than {LONGEST_EVENT} characters came")
            data.append(value)
        elif name == "event":
            event = value
        elif name == "id" and "\0" not in value:
            id = value


def _event(transport: Transport, path: str, frame: Frame, after: int) -> Event:
    try:
        data = json.loads(frame.data)
        id = int(frame.id) if frame.id else after
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict):
        raise ServiceError(
            f"GET {transport.address(path)} sent what is no event: {frame.data[:200]!r}"
        )
    return Event(id, frame.event, data)


def log_lines(events: Iterable[Event]) -> Iterator[LogLine]:
    """The lines among the events of a log."""
    for event in events:
        if event.kind == "log":
            attempt, text = event.data.get("attempt", 0), event.data.get("line", "")
            yield LogLine(event.id, int(attempt), str(text))
