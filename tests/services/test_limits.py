"""How much may be sent, and how often."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from nas_services.app import create_app
from nas_services.errors import Problem
from nas_services.guards import BodyLimit
from nas_services.rates import Rates
from nas_services.settings import MEBIBYTE, Settings
from tests.services.conftest import ADDRESS
from tests.services.launcher import StubLauncher
from tests.services.problems import problem

VALIDATE = "/api/v1/spaces/validate"
JSON = {"Content-Type": "application/json"}


def _chunks(size: int) -> Iterator[bytes]:
    for _ in range(size // 1000):
        yield b" " * 1000
    yield b" " * (size % 1000)


def test_a_body_has_at_most_a_mebibyte(client: TestClient) -> None:
    body = b'{"space": "digits_tiny"}'
    full = body + b" " * (MEBIBYTE - len(body))
    assert client.post(VALIDATE, content=full, headers=JSON).status_code == 200
    problem(client.post(VALIDATE, content=full + b" ", headers=JSON), 413)


def test_one_that_does_not_say_its_length_neither(client: TestClient) -> None:
    # An iterator is sent in chunks.
    problem(client.post(VALIDATE, content=_chunks(MEBIBYTE + 1), headers=JSON), 413)
    problem(client.post(VALIDATE, content=_chunks(MEBIBYTE), headers=JSON), 400)


def test_every_address_has_the_limit(client: TestClient, settings: Settings) -> None:
    assert settings.body_bytes == MEBIBYTE
    for address in ("/login", "/nowhere", "/healthz"):
        problem(client.post(address, content=b"x" * (MEBIBYTE + 1)), 413)
    problem(client.request("GET", "/healthz", content=b"x" * (MEBIBYTE + 1)), 413)


@pytest.mark.parametrize("length", ["-1", "x", "1e3", "\u00b2", "\u0663", ""])
def test_a_length_that_is_none_is_refused(client: TestClient, length: str) -> None:
    headers = [(b"content-length", length.encode())]
    problem(client.post(VALIDATE, content=b"", headers=headers), 400)


def _scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}


async def _not_reached(_: Scope, _receive: Receive, _send: Send) -> None:
    raise AssertionError("the request must not come through")


async def _no_answer(_: Message) -> None:
    raise AssertionError("nothing is answered here")


def test_a_length_that_lies_is_found_out() -> None:
    async def receive() -> Message:
        return {"type": "http.request", "body": b"x" * 60, "more_body": True}

    limited = BodyLimit(_not_reached, 100)
    with pytest.raises(Problem) as raised:
        asyncio.run(limited(_scope((b"content-length", b"60")), receive, _no_answer))
    assert raised.value.status == 413


def test_a_body_that_never_comes_is_waited_for_in_vain() -> None:
    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("never")

    limited = BodyLimit(_not_reached, 100, seconds=0.01)
    with pytest.raises(Problem) as raised:
        asyncio.run(limited(_scope((b"content-length", b"60")), receive, _no_answer))
    assert raised.value.status == 408


def test_a_body_comes_through_whole_and_then_the_end_of_the_connection() -> None:
    sent: list[Message] = [
        {"type": "http.request", "body": b"ab", "more_body": True},
        {"type": "http.request", "body": b"", "more_body": True},
        {"type": "http.request", "body": b"c"},
        {"type": "http.disconnect"},
    ]
    got: list[Message] = []

    async def app(_: Scope, receive: Receive, _send: Send) -> None:
        got.extend([await receive(), await receive()])

    async def receive() -> Message:
        return sent.pop(0)

    asyncio.run(BodyLimit(app, 3)(_scope((b"transfer-encoding", b"chunked")), receive, _no_answer))
    assert [message["type"] for message in got] == ["http.request", "http.disconnect"]
    assert got[0]["body"] == b"abc"


class _Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_minutes_worth_at_once_and_then_a_steady_rate() -> None:
    clock = _Clock()
    rates = Rates(60, clock)
    assert [rates.take("a") for _ in range(60)] == [0.0] * 60
    assert rates.take("a") == pytest.approx(1.0)
    # Others have their own.
    assert rates.take("b") == 0.0
    clock.now += 0.5
    assert rates.take("a") == pytest.approx(0.5)
    clock.now += 0.5
    assert rates.take("a") == 0.0
    assert rates.take("a") == pytest.approx(1.0)
    clock.now += 3600
    assert [rates.take("a") > 0 for _ in range(61)] == [False] * 60 + [True]


def test_no_limit_is_one() -> None:
    rates = Rates(0)
    assert not any(rates.take("a") for _ in range(10_000))


@pytest.fixture
def limited(settings: Settings, launcher: StubLauncher) -> FastAPI:
    """Three requests a minute a token."""
    given = replace(settings, require_tokens=True, rate_per_minute=3)
    return create_app(given, launcher=launcher, start_reconciler=False)


def test_beyond_the_rate_it_is_429_for_that_token_alone(limited: FastAPI) -> None:
    serving = limited.state.services.serving
    secrets = [serving.add_token(name, ["read"])[1] for name in ("one", "two")]
    client = TestClient(limited, base_url=ADDRESS)
    first, second = ({"Authorization": f"Bearer {secret}"} for secret in secrets)
    codes = [client.get("/api/v1/exporters", headers=first).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    answer = client.get("/api/v1/exporters", headers=first)
    problem(answer, 429)
    assert 1 <= int(answer.headers["retry-after"]) <= 20
    assert client.get("/api/v1/exporters", headers=second).status_code == 200
    # Whoever looks whether the service is well is not counted.
    assert all(client.get("/healthz").status_code == 200 for _ in range(10))


def test_a_browsers_session_counts_with_its_token(limited: FastAPI) -> None:
    _, secret = limited.state.services.serving.add_token("one", ["read"])
    client = TestClient(limited, base_url=ADDRESS)
    assert client.post("/login", data={"token": secret}).status_code == 200
    bearer = {"Authorization": f"Bearer {secret}"}
    codes = [client.get("/api/v1/exporters").status_code for _ in range(2)]
    codes += [client.get("/api/v1/exporters", headers=bearer).status_code for _ in range(2)]
    assert codes == [200, 200, 200, 429]
