"""A request that comes again under its key is done once, and answered as it was first."""

import threading
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.responses import Response
from starlette.testclient import TestClient

from nas.store.serving import Once, Reply
from nas_services.bodies import PostDep
from nas_services.dependencies import ServicesDep, SubmitCaller
from nas_services.errors import Problem
from nas_services.idempotency import REPLAYED_HEADER, answered
from tests.services.conftest import ADDRESS
from tests.services.problems import problem

SPEC = {"name": "small"}


class _Made:
    """What the endpoint did."""

    def __init__(self) -> None:
        self.count = 0
        self.fails = False


@pytest.fixture
def made(app: FastAPI, guarded_app: FastAPI) -> _Made:
    """Adds an endpoint that makes an operation each time it is really asked."""
    did = _Made()
    for each in (app, guarded_app):

        @each.post("/makes/{name}")
        def makes(
            name: str, services: ServicesDep, caller: SubmitCaller, post: PostDep
        ) -> Response:
            def act(once: Once) -> Reply:
                operation = once.create_operation("train", name, owner=caller.owner)
                if did.fails:
                    raise Problem(409, "Conflict", "not now")
                did.count += 1
                headers = {"Location": f"/operations/{operation.id}"}
                return Reply(201, headers, {"id": operation.id, "number": did.count})

            return answered(services, caller, post, act)

    return did


def _make(
    client: TestClient, key: str | None, body: Any = None, name: str = "a", **more: Any
) -> Any:
    headers = {**({"Idempotency-Key": key} if key is not None else {}), **more}
    return client.post(f"/makes/{name}", json=body or {}, headers=headers)


def test_the_first_answer_is_given_again(client: TestClient, app: FastAPI, made: _Made) -> None:
    first, again = _make(client, "k"), _make(client, "k")
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() == {"id": first.json()["id"], "number": 1}
    assert first.headers["location"] == again.headers["location"]
    assert REPLAYED_HEADER not in first.headers
    assert again.headers[REPLAYED_HEADER] == "true"
    assert made.count == 1
    assert len(app.state.services.serving.operations()) == 1


def test_without_a_key_it_is_done_each_time(client: TestClient, made: _Made) -> None:
    assert _make(client, None).json() != _make(client, None).json()
    assert _make(client, "k").json() != _make(client, "l").json()
    assert made.count == 4


def test_the_key_of_another_request_is_422(client: TestClient, made: _Made) -> None:
    assert _make(client, "k").status_code == 201
    problem(_make(client, "k", {"other": 1}), 422)
    problem(_make(client, "k", name="b"), 422)
    problem(_make(client, "k", **{"Content-Type": "application/yaml"}), 422)
    answer = client.post("/makes/a?dry_run=true", json={}, headers={"Idempotency-Key": "k"})
    problem(answer, 422)
    assert made.count == 1


def test_what_failed_may_come_again(client: TestClient, app: FastAPI, made: _Made) -> None:
    made.fails = True
    problem(_make(client, "k"), 409)
    # Nothing of it is left.
    assert app.state.services.serving.operations() == []
    made.fails = False
    assert _make(client, "k").status_code == 201


def test_keys_are_each_owners_own(
    guarded_app: FastAPI, tokens: dict[str, dict[str, str]], made: _Made
) -> None:
    client = TestClient(guarded_app, base_url=ADDRESS)
    first = _make(client, "k", **tokens["submit"])
    second = _make(client, "k", {"other": 1}, **tokens["admin"])
    assert (first.status_code, second.status_code) == (201, 201)
    assert made.count == 2
    # A replay needs the scope as the request did.
    problem(_make(client, "k", **tokens["read"]), 403)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "\u00e9", "a\x7f"])
def test_a_key_that_can_be_none_is_400(client: TestClient, made: _Made, key: str) -> None:
    headers = [(b"idempotency-key", key.encode())]
    problem(client.post("/makes/a", json={}, headers=headers), 400)
    twice = [("Idempotency-Key", "a"), ("Idempotency-Key", "a")]
    problem(client.post("/makes/a", json={}, headers=twice), 400)
    assert made.count == 0


def test_many_at_once_are_done_once(client: TestClient, app: FastAPI, made: _Made) -> None:
    answers = []
    start = threading.Barrier(8)

    def ask() -> None:
        start.wait()
        answers.append(_make(client, "k"))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert [each.status_code for each in answers] == [201] * 8
    assert len({each.json()["id"] for each in answers}) == 1
    assert made.count == 1
    assert len(app.state.services.serving.operations()) == 1


def test_what_is_only_asked_is_replayed_too(client: TestClient) -> None:
    def ask(space: str) -> Any:
        headers = {"Idempotency-Key": "k"}
        return client.post("/api/v1/spaces/validate", json={"space": space}, headers=headers)

    first, again = ask("digits_tiny"), ask("digits_tiny")
    assert first.status_code == again.status_code == 200
    assert first.json() == again.json()
    assert again.headers[REPLAYED_HEADER] == "true"
    problem(ask("cifar10"), 422)
