"""Does every listener hear every event of its search in order, once, and soon?"""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.errors import StoreUnavailable
from nas.store.store import Event, rfc3339
from nas_services import hub as hub_module
from nas_services.app import create_app
from nas_services.dependencies import Services
from nas_services.hub import Hub
from nas_services.logs import LINES
from nas_services.settings import Settings
from tests.client.live import serving
from tests.services.launcher import StubLauncher
from tests.services.records import (
    add_trials,
    held,
    import_trials,
    new_search,
    services_of,
    set_state,
    trade_off,
)
from tests.store.conformance import trial

SEARCHES = "/api/v1/searches"


def messages(text: str) -> list[dict[str, Any]]:
    """Server-sent events by field, comments and settings left out."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if line[:1] != ":")
        if "event" in fields:
            found.append({**fields, "data": json.loads(fields["data"])})
    return found


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    return services_of(app)


# -- over HTTP -------------------------------------------------------------------------------------


def told(services: Services) -> str:
    """A search that has run from its beginning to its end."""
    id = new_search(services)
    with services.serving.once("local", None, "") as once:
        once.set_desired(id, "pause")
        once.set_desired(id, "run")
    set_state(services, id, "running", phase="search")
    add_trials(services, id, trade_off(3))
    with held(services, id) as lease:
        services.store.set_front(lease, [("search", 0)])
        services.store.add_facts(lease, {"unseen": "by listeners"})
    set_state(services, id, "succeeded")
    return id


def test_a_search_that_has_ended_is_told_from_its_beginning_to_its_end(
    client: TestClient, services: Services
) -> None:
    id = told(services)
    answer = client.get(f"{SEARCHES}/{id}/events")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["Cache-Control"] == "no-store"
    found = messages(answer.text)
    assert [each["event"] for each in found] == [
        "search.desired",
        "search.desired",
        "search.state",
        "trial",
        "trial",
        "trial",
        "pareto.updated",
        "search.state",
        "end",
    ]
    ids = [int(each["id"]) for each in found[:-1]]
    assert ids == sorted(set(ids))
    assert found[2]["data"]["phase"] == "search"
    assert found[4]["data"] | {"time": ""} == {
        "search": id,
        "time": "",
        "role": "search",
        "index": 1,
        "state": "succeeded",
    }
    assert found[-1]["data"] == {"search": id, "state": "succeeded"}
    # From any event on the rest is the same.
    for place, last in enumerate(ids):
        rest = client.get(f"{SEARCHES}/{id}/events", headers={"Last-Event-ID": str(last)})
        assert messages(rest.text) == found[place + 1 :]


def test_who_asks_wrongly_gets_a_problem(client: TestClient, services: Services) -> None:
    id = new_search(services)
    for path in ("events", "logs"):
        for wrong in ("x", "-1", "9" * 19):
            answer = client.get(f"{SEARCHES}/{id}/{path}", headers={"Last-Event-ID": wrong})
            assert answer.status_code == 422
        answer = client.get(f"{SEARCHES}/01HZZZZZZZZZZZZZZZZZZZZZZZ/{path}")
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_a_hundred_listeners_hear_an_event_within_a_second(
    settings: Settings, launcher: StubLauncher
) -> None:
    app = create_app(
        replace(settings, rate_per_minute=0), launcher=launcher, start_reconciler=False
    )
    services = services_of(app)
    id = new_search(services)
    set_state(services, id, "running", phase="search")

    async def listen(client: httpx.AsyncClient, ready: asyncio.Semaphore) -> list[float]:
        heard: list[float] = []
        async with client.stream("GET", f"{SEARCHES}/{id}/events") as answer:
            async for line in answer.aiter_lines():
                if line.startswith("event: search.state"):
                    ready.release()
                if line.startswith("event: trial"):
                    heard.append(time.monotonic())
                if line.startswith("event: end"):
                    return heard
        return heard

    async def main(address: str) -> tuple[list[list[float]], float, int]:
        ready = asyncio.Semaphore(0)
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, limits=limits, timeout=30) as client:
            tasks = [asyncio.create_task(listen(client, ready)) for _ in range(100)]
            for _ in tasks:
                await ready.acquire()
            threads = threading.active_count()
            await asyncio.to_thread(add_trials, services, id, [trial(0)])
            written = time.monotonic()
            await asyncio.sleep(0.5)
            await asyncio.to_thread(set_state, services, id, "succeeded")
            return await asyncio.gather(*tasks), written, threads

    before = threading.active_count()
    with serving(app) as address:
        heard, written, threads = asyncio.run(main(address))
    assert [len(each) for each in heard] == [1] * 100
    assert max(each[0] for each in heard) - written < 1
    # The server, its pools, the hub and this test's own: none of them is a listener's.
    assert threads - before < 60


def test_a_silent_stream_beats(settings: Settings, launcher: StubLauncher) -> None:
    app = create_app(settings, launcher=launcher, start_reconciler=False)
    services = services_of(app)
    services.hub.heartbeat_seconds = services.hub.logs.seconds = 0.02
    id = new_search(services)
    with serving(app) as address:
        for path in ("events", "logs"):
            with httpx.stream("GET", f"{address}{SEARCHES}/{id}/{path}", timeout=10) as answer:
                lines = answer.iter_lines()
                beats = [next(lines) for _ in range(12)].count(": heartbeat")
                assert beats >= 3


def test_nobody_listens_any_more_once_all_have_gone(
    settings: Settings, launcher: StubLauncher
) -> None:
    app = create_app(settings, launcher=launcher, start_reconciler=False)
    services = services_of(app)
    id = new_search(services)
    set_state(services, id, "running")
    with serving(app) as address:
        for _ in range(3):
            with httpx.stream("GET", f"{address}{SEARCHES}/{id}/events", timeout=10) as answer:
                assert "retry" in next(answer.iter_lines())
        deadline = time.monotonic() + 10
        while services.hub.listeners:
            assert time.monotonic() < deadline
            time.sleep(0.01)


# -- the hub ---------------------------------------------------------------------------------------


@asynccontextmanager
async def hub(
    services: Services,
    serving: Any = None,
    poll_seconds: float = 0.01,
    heartbeat_seconds: float = 5.0,
) -> AsyncIterator[Hub]:
    """A hub that looks often."""
    made = Hub(
        services.store,
        serving or services.serving,
        services.launcher,
        poll_seconds=poll_seconds,
        heartbeat_seconds=heartbeat_seconds,
    )
    try:
        yield made
    finally:
        await made.close()


async def take(found: Any, count: int) -> list[Event]:
    """The next events, heartbeats left out."""
    taken: list[Event] = []
    async with asyncio.timeout(20):
        while len(taken) < count:
            event = await anext(found)
            if event is not None:
                taken.append(event)
    return taken


def sequences(events: list[Event]) -> list[int]:
    return [each.sequence for each in events]


def test_what_comes_while_somebody_reads_what_was_is_neither_lost_nor_doubled(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "PAGE", 50)
    id, other = new_search(services), new_search(services)
    import_trials(services, id, trade_off(120))

    async def main() -> None:
        async with hub(services) as found:
            listener = found.events(id)
            taken = await take(listener, 70)
            await asyncio.to_thread(import_trials, services, other, trade_off(5))
            await asyncio.to_thread(import_trials, services, id, trade_off(190))
            wanted = sequences(services.store.events(id))
            taken += await take(listener, len(wanted) - 70)
            assert sequences(taken) == wanted
            # Who comes in between hears the rest.
            late = found.events(id, wanted[100])
            assert sequences(await take(late, len(wanted) - 101)) == wanted[101:]
            await listener.aclose()
            await late.aclose()

    asyncio.run(main())


def test_a_listener_that_is_slow_reads_the_record(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hub_module, "MOST_KEPT", 10)
    monkeypatch.setattr(hub_module, "PAGE", 25)
    id = new_search(services)

    async def main() -> None:
        async with hub(services) as found:
            slow, quick = found.events(id), found.events(id)
            taken = await take(slow, 1)
            await take(quick, 1)
            await asyncio.to_thread(import_trials, services, id, trade_off(120))
            assert len(await take(quick, 120)) == 120
            assert len(found._channels[id].kept) <= 10
            taken += await take(slow, 120)
            assert sequences(taken) == sequences(services.store.events(id))
            await slow.aclose()
            await quick.aclose()

    asyncio.run(main())


def test_one_question_serves_everybody(services: Services) -> None:
    ids = [new_search(services) for _ in range(3)]
    asked: list[int] = []

    class Counting:
        def last_sequence(self) -> int:
            return services.serving.last_sequence()

        def events_after(self, sequence: int, limit: int) -> list[Event]:
            asked.append(threading.get_ident())
            return services.serving.events_after(sequence, limit)

    async def main() -> None:
        async with hub(services, Counting(), poll_seconds=0.05) as found:
            listeners = [found.events(each) for each in ids * 20]
            await asyncio.gather(*(take(each, 1) for each in listeners))
            asked.clear()
            began = time.monotonic()
            waiting = [asyncio.create_task(take(each, 1)) for each in listeners]
            await asyncio.to_thread(import_trials, services, ids[0], trade_off(1))
            await asyncio.to_thread(import_trials, services, ids[1], trade_off(1))
            await asyncio.to_thread(import_trials, services, ids[2], trade_off(1))
            await asyncio.gather(*waiting)
            took = time.monotonic() - began
            assert len(asked) <= took / 0.05 + 2
            assert len(set(asked)) == 1
            for each in listeners:
                await each.aclose()

    asyncio.run(main())


def test_a_number_that_is_not_committed_yet_is_waited_for(services: Services) -> None:
    now = time.time()
    events = {n: Event(n, "S", "trial", {}, rfc3339(now + 60)) for n in (1, 2, 3, 4, 5)}
    visible = {1}

    class Late:
        def last_sequence(self) -> int:
            return 0

        def events_after(self, sequence: int, limit: int) -> list[Event]:
            return [events[n] for n in sorted(visible) if n > sequence][:limit]

    async def main() -> None:
        async with hub(services, Late()) as found:
            listener = found.events("S")
            assert sequences(await take(listener, 1)) == [1]
            # Another transaction was quicker, and 2 comes behind it.
            visible.add(3)
            waiting = asyncio.create_task(take(listener, 2))
            await asyncio.sleep(0.1)
            assert not waiting.done()
            visible.add(2)
            assert sequences(await waiting) == [2, 3]
            # 4 was rolled back: what is behind it is not kept for long.
            visible.add(5)
            assert sequences(await take(listener, 1)) == [5]
            await listener.aclose()

    asyncio.run(main())


def test_a_record_that_is_away_delays_events_and_loses_none(services: Services) -> None:
    id = new_search(services)
    away = threading.Event()

    class Away:
        def last_sequence(self) -> int:
            return services.serving.last_sequence()

        def events_after(self, sequence: int, limit: int) -> list[Event]:
            if away.is_set():
                raise StoreUnavailable("the record is away")
            return services.serving.events_after(sequence, limit)

    async def main() -> None:
        async with hub(services, Away(), heartbeat_seconds=0.05) as found:
            listener = found.events(id)
            await take(listener, 1)
            away.set()
            await asyncio.to_thread(import_trials, services, id, trade_off(2))
            async with asyncio.timeout(5):
                assert await anext(listener) is None
            away.clear()
            assert len(await take(listener, 2)) == 2
            await listener.aclose()

    asyncio.run(main())


# -- logs ------------------------------------------------------------------------------------------


def test_logs_of_all_attempts_are_told_line_by_line(
    client: TestClient, services: Services, launcher: StubLauncher
) -> None:
    id = new_search(services)
    services.hub.logs.seconds = 0.01
    for number in (0, 1):
        assert services.serving.begin_attempt(id, number)
    launcher.written = {
        f"{id}-1": "first\nends\r\nwithout its end",
        f"{id}-2": "  0%\r 50%\r100%\nevent: end\ndata: 伪造\n",
    }
    services.serving.end_attempt(id, 1, "lost")
    services.serving.end_attempt(id, 2, "done")
    set_state(services, id, "succeeded")
    found = messages(client.get(f"{SEARCHES}/{id}/logs").text)
    assert [(each["event"], each["data"].get("line")) for each in found] == [
        ("log", "first"),
        ("log", "ends"),
        ("log", "without its end"),
        ("log", "100%"),
        ("log", "event: end"),
        ("log", "data: 伪造"),
        ("end", None),
    ]
    assert [each["data"]["attempt"] for each in found[:-1]] == [1, 1, 1, 2, 2, 2]
    ids = [int(each["id"]) for each in found[:-1]]
    assert ids == [LINES + 1, LINES + 2, LINES + 3, 2 * LINES + 1, 2 * LINES + 2, 2 * LINES + 3]
    rest = client.get(f"{SEARCHES}/{id}/logs", headers={"Last-Event-ID": str(ids[2])})
    assert messages(rest.text) == found[3:]


def test_a_line_is_told_once_it_is_whole_and_the_launcher_asked_once_for_all(
    services: Services, launcher: StubLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = new_search(services)
    assert services.serving.begin_attempt(id, 0)
    asked = []
    real = launcher.logs

    def logs(job: str) -> str:
        asked.append(job)
        return real(job)

    monkeypatch.setattr(launcher, "logs", logs)
    job = f"{id}-1"
    launcher.written[job] = "whole\nhalf"

    async def main() -> None:
        async with hub(services) as found:
            found.logs.seconds = 0.2
            listeners = [found.logs.follow(id) for _ in range(20)]
            first = await asyncio.gather(*(anext(each) for each in listeners))
            assert [[line.text for line in lines] for lines in first] == [["whole"]] * 20
            assert asked == [job]
            launcher.written[job] += " and half\n"
            second = await asyncio.gather(*(anext(each) for each in listeners))
            assert [[line.text for line in lines] for lines in second] == [["half and half"]] * 20
            assert asked == [job] * 2
            # While the launcher is away there is nothing new, and nothing is lost.
            launcher.away = True
            assert await anext(listeners[0]) == []
            launcher.written[job] += "back\n"
            launcher.away = False
            assert [line.text for line in await anext(listeners[0])] == ["back"]
            for each in listeners:
                await each.aclose()

    asyncio.run(main())


def test_logs_that_nobody_can_be_asked_for_are_a_problem(
    client: TestClient, services: Services, launcher: StubLauncher
) -> None:
    id = new_search(services)
    assert services.serving.begin_attempt(id, 0)
    launcher.away = True
    answer = client.get(f"{SEARCHES}/{id}/logs")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("launcher-unavailable")
