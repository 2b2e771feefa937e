"""Does every event come once and in order, whatever happens to the line?"""

import json
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.client import Client
from nas.client.streams import Event, Frame, LogLine, _lines, follow, frames
from nas.client.transport import Transport
from nas.errors import SearchNotFound, ServiceError, ServiceUnavailable
from tests.client.flaky import Play, flaky, hang_up, problem, raw
from tests.client.test_transport import ID, SEARCH

PATH = f"/searches/{ID}/events"
STREAM = "text/event-stream"


def event(id: int | None, kind: str = "trial", **data: Any) -> bytes:
    lines = [f"event: {kind}", f"data: {json.dumps(data)}"]
    return "\n".join([f"id: {id}", *lines] if id else lines).encode() + b"\n\n"


END = event(None, "end", state="succeeded")


def told(*parts: bytes, cut: bool = False) -> Play:
    """A stream of these parts; `cut` where more was promised."""
    body = b"retry: 2000\n\n" + b"".join(parts)
    return raw(200, body, media=f"{STREAM}; charset=utf-8", length=len(body) + 9 * cut)


def heard(url: str, **given: Any) -> list[Event]:
    return list(follow(Transport(url, None, timeout=5, retries=0), PATH, **given))


def test_a_stream_that_drops_is_taken_up_where_it_was(naps: list[float]) -> None:
    plays = [
        hang_up,
        told(event(3), event(5)[:-1], cut=True),
        raw(503, b""),
        told(b": heartbeat\n\n", event(3), event(5), event(6, "log", line="x")),
        told(),
        told(event(9), END),
    ]
    with flaky(*plays) as server:
        found = heard(server.url)
    assert [each.id for each in found] == [3, 5, 6, 9, 9]
    assert found[-1] == Event(9, "end", {"state": "succeeded"})
    since = [asked.headers["Last-Event-ID"] for asked in server.asked]
    assert since == [None, None, "3", "3", "6", "6"]
    assert {asked.headers["Accept"] for asked in server.asked} == {STREAM}
    # Short again after each time that something came.
    assert naps == [0.25, 0.25, 0.5, 0.25, 0.5]


def test_what_came_before_is_left_out() -> None:
    with flaky(told(event(4), event(7), END)) as server:
        found = heard(server.url, after=4)
    assert [each.id for each in found] == [7, 7]
    assert server.asked[0].headers["Last-Event-ID"] == "4"


def test_a_service_that_stays_away_is_given_up(naps: list[float]) -> None:
    with flaky(hang_up) as server, pytest.raises(ServiceUnavailable):
        heard(server.url, patience=0)
    assert len(server.asked) == 1
    assert naps == []


@pytest.mark.usefixtures("naps")
def test_a_refusal_ends_it_at_once() -> None:
    play = problem(404, "search-not-found", detail="gone")
    with flaky(play) as server, pytest.raises(SearchNotFound, match="gone"):
        heard(server.url)
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "body",
    [
        b"data: 3\n\n",
        b"data: {\n\n",
        b'id: x\ndata: {"a": 1}\n\n',
        b"data: " + b"[" * 10**5 + b"\n\n",
    ],
)
def test_what_is_no_event_is_told(body: bytes) -> None:
    with flaky(told(body)) as server, pytest.raises(ServiceError, match="what is no event"):
        heard(server.url)


def test_what_is_no_stream_is_told() -> None:
    with flaky(raw(200, SEARCH)) as server, pytest.raises(ServiceError, match=STREAM):
        heard(server.url)


def test_an_event_without_end_is_no_trouble_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.client.streams.LONGEST_EVENT", 1000)
    for body in (b"data: " + b"x" * 2000, b"data: x\n" * 2000):
        with flaky(told(body)) as server, pytest.raises(ServiceError, match="more than 1000"):
            heard(server.url)


def test_a_log_is_its_lines() -> None:
    lines = [
        event(n, "log", search=ID, attempt=n // 3, line=text)
        for n, text in ((2, "a\u2028b"), (5, ""), (6, "c"))
    ]
    with flaky(raw(200, SEARCH), told(*lines, END)) as server:
        found = list(Client(server.url).logs("last"))
    assert found == [LogLine(2, 0, "a\u2028b"), LogLine(5, 1, ""), LogLine(6, 2, "c")]
    assert [asked.path for asked in server.asked] == [
        "/api/v1/searches/last",
        f"/api/v1/searches/{ID}/logs",
    ]


class _Chunks(httpx.SyncByteStream):
    def __init__(self, chunks: list[bytes]) -> None:
        self.chunks = chunks

    def __iter__(self) -> Iterator[bytes]:
        yield from self.chunks


@given(
    st.lists(st.text("ab\u2028\x0b\x85é: \0", max_size=6), max_size=8),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.lists(st.integers(0, 60), max_size=6),
)
def test_lines_are_the_same_however_they_are_cut(
    lines: list[str], end: str, cuts: list[int]
) -> None:
    body = "".join(f"{line}{end}" for line in lines).encode()
    places = [0, *sorted(min(cut, len(body)) for cut in cuts), len(body)]
    chunks = [body[a:b] for a, b in pairwise(places)]
    found = list(_lines(httpx.Response(200, stream=_Chunks(chunks))))
    # A last CR may be half of a line's end, and waits for the other half.
    assert found == (lines[:-1] if end == "\r" and lines else lines)


def test_frames_are_those_of_the_standard() -> None:
    # https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    text = ": comment\n\ndata\n\ndata\ndata\n\ndata:test\n\ndata: test\nid\nevent: add\nx: y\n\n"
    text += "data: lost"
    assert list(frames(text.split("\n"))) == [
        Frame("", "message", ""),
        Frame("", "message", "\n"),
        Frame("", "message", "test"),
        Frame("", "add", "test"),
    ]
    kept = "id: 1\ndata: a\n\ndata: b\n\nid: 2\0\ndata: c\n\nid:\ndata: d\n\n"
    assert [frame.id for frame in frames(kept.split("\n"))] == ["1", "1", "1", ""]
