"""MLflow behind the service: what may be looked at, what not be changed, what is handed on."""

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from urllib.parse import unquote

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient
from starlette.types import ASGIApp, Message

from nas_services.app import create_app
from nas_services.settings import Settings
from tests.services.conftest import ADDRESS
from tests.services.launcher import StubLauncher
from tests.services.upstream import Answer, Asked, Upstream, upstream

PAGE = {"Content-Type": "text/html; charset=utf-8"}
LOOKED_AT = [
    ("GET", "/mlflow/"),
    ("HEAD", "/mlflow/"),
    ("GET", "/mlflow/static-files/static/js/main.c2f5f8d4.js"),
    ("GET", "/mlflow/version"),
    ("GET", "/mlflow/get-artifact?path=pareto.html&run_uuid=0"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow/experiments/search?max_results=5"),
    ("POST", "/mlflow/ajax-api/2.0/mlflow/experiments/search"),
    ("POST", "/mlflow/ajax-api/2.0/mlflow/runs/search"),
    ("POST", "/mlflow/api/2.0/mlflow/runs/search"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow/runs/get?run_id=0"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow/metrics/get-history-bulk-interval"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow/artifacts/list?run_id=0"),
    ("POST", "/mlflow/ajax-api/2.0/mlflow/logged-models/search"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow/logged-models/m-0/artifacts/files"),
    ("GET", "/mlflow/ajax-api/2.0/mlflow-artifacts/artifacts/0/a b.json"),
    ("GET", "/mlflow/ajax-api/3.0/mlflow/server-info"),
    ("POST", "/mlflow/ajax-api/3.0/mlflow/traces/search"),
]
CHANGES = [
    ("POST", "runs/create"),
    ("POST", "runs/delete"),
    ("POST", "runs/update"),
    ("POST", "runs/set-tag"),
    ("POST", "runs/log-batch"),
    ("POST", "experiments/create"),
    ("POST", "experiments/delete"),
    ("POST", "logged-models"),
    ("DELETE", "logged-models/search"),
    ("PATCH", "logged-models/search"),
    ("DELETE", "model-versions/delete"),
    ("PATCH", "registered-models/update"),
    ("DELETE", "registered-models/get"),
    ("POST", "upload-artifact"),
    ("POST", "gateway-proxy"),
    ("POST", "../../../api/2.0/mlflow/runs/delete"),
    ("POST", "runs/search/../delete"),
    ("POST", "runs/search%2f..%2fdelete"),
    ("POST", "runs%2Fdelete"),
    ("POST", "runs/delete%3F/../search"),
    ("PUT", "../mlflow-artifacts/artifacts/0/a.json"),
    ("DELETE", "../mlflow-artifacts/artifacts/0/a.json"),
]
NOT_SHOWN = [
    "/mlflow/ajax-api/2.0/mlflow/webhooks",
    "/mlflow/ajax-api/2.0/mlflow/gateway-proxy",
    "/mlflow/ajax-api/3.0/mlflow/gateway/secrets/list",
    "/mlflow/ajax-api/3.0/mlflow/assistant/status",
    "/mlflow/static-files/../../etc/passwd",
    "/mlflow/static-files/%2e%2e/%2e%2e/etc/passwd",
    "/mlflow/build/index.html",
    "/mlflow//127.0.0.1:1/",
    "/mlflow/ajax-api/2.0/mlflow-artifacts/artifacts/../../../../etc/passwd",
]


def echo(asked: Asked) -> Answer:
    """What was asked, as JSON."""
    return Answer(body=json.dumps([asked.method, asked.path, asked.body.decode()]).encode())


@pytest.fixture
def behind() -> Iterator[Upstream]:
    with upstream(echo) as server:
        yield server


def app_of(settings: Settings, url: str, require_tokens: bool = False) -> FastAPI:
    given = replace(settings, mlflow_url=url, require_tokens=require_tokens)
    return create_app(given, launcher=StubLauncher(), start_reconciler=False)


@contextmanager
def showing(settings: Settings, answer: Callable[[Asked], Answer]) -> Iterator[TestClient]:
    """A caller of a service whose MLflow answers so."""
    with (
        upstream(answer) as behind,
        TestClient(app_of(settings, behind.url), base_url=ADDRESS) as client,
    ):
        yield client


@pytest.fixture
def mlflow(settings: Settings, behind: Upstream) -> Iterator[TestClient]:
    with TestClient(app_of(settings, behind.url), base_url=ADDRESS) as client:
        yield client


def bare(app: ASGIApp, method: str, path: str) -> tuple[int, str]:
    """Status and media type for a path as it is written: clients take the dots out of one."""
    answers: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Message) -> None:
        answers.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "http",
        "method": method,
        "path": unquote(path),
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"127.0.0.1:8080"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8080),
    }

    async def call() -> None:
        await app(scope, receive, send)

    asyncio.run(call())
    return answers[0]["status"], dict(answers[0]["headers"])[b"content-type"].decode()


@pytest.mark.parametrize(("method", "address"), LOOKED_AT)
def test_what_only_looks_is_handed_on(
    mlflow: TestClient, behind: Upstream, method: str, address: str
) -> None:
    body = b'{"max_results": 1}' if method == "POST" else None
    answer = mlflow.request(method, address, content=body)
    assert answer.status_code == 200
    (asked,) = behind.asked
    wanted = address.removeprefix("/mlflow").replace(" ", "%20")
    assert (asked.method, asked.path, asked.body) == (method, wanted, body or b"")


@pytest.mark.parametrize(("method", "verb"), CHANGES)
def test_what_changes_is_refused_whoever_asks(
    mlflow: TestClient, behind: Upstream, method: str, verb: str
) -> None:
    for api in ("ajax-api", "api"):
        status, kind = bare(mlflow.app, method, f"/mlflow/{api}/2.0/mlflow/{verb}")
        assert (status, kind) == (403, "application/problem+json")
    assert behind.asked == []


@pytest.mark.parametrize("address", NOT_SHOWN)
def test_other_addresses_are_not_there(mlflow: TestClient, behind: Upstream, address: str) -> None:
    assert bare(mlflow.app, "GET", address) == (404, "application/problem+json")
    assert behind.asked == []


def test_graphql_looks_and_changes_nothing(mlflow: TestClient, behind: Upstream) -> None:
    looking = {"operationName": "GetRun", "query": "query GetRun { mlflowGetRun { run { id } } }"}
    assert mlflow.post("/mlflow/graphql", json=looking).status_code == 200
    assert len(behind.asked) == 1
    changing = {"query": "query A { a } mutation B { testMutation(input: 1) { output } }"}
    assert mlflow.post("/mlflow/graphql", json=changing).status_code == 403
    for body in (b"", b"[]", b'{"query": 1}', b"{", b"[" * 100_000):
        assert mlflow.post("/mlflow/graphql", content=body).status_code == 400
    assert len(behind.asked) == 1


def test_credentials_and_hops_stay_here(settings: Settings) -> None:
    def answer(_: Asked) -> Answer:
        return Answer(
            headers={
                "Content-Type": "application/json",
                "ETag": '"1"',
                "Set-Cookie": "session=theirs",
                "Access-Control-Allow-Origin": "*",
                "Keep-Alive": "timeout=5",
                "X-Frame-Options": "SAMEORIGIN",
                "Server": "upstream",
            }
        )

    with upstream(answer) as behind:
        app = app_of(settings, behind.url, require_tokens=True)
        _, secret = app.state.services.serving.add_token("reader", ["read"])
        with TestClient(app, base_url=ADDRESS) as client:
            given = {
                "Authorization": f"Bearer {secret}",
                "Cookie": "etnas=mine",
                "Origin": ADDRESS,
                "Referer": f"{ADDRESS}/mlflow/",
                "TE": "trailers",
                "X-Forwarded-Host": "elsewhere",
                "If-None-Match": '"0"',
            }
            said = client.post(
                "/mlflow/ajax-api/2.0/mlflow/runs/search", json={"filter": ""}, headers=given
            )
    assert said.status_code == 200
    asked = behind.asked[0].headers
    assert asked["host"] == behind.url.removeprefix("http://")
    assert asked["if-none-match"] == '"0"'
    assert asked["content-type"] == "application/json"
    kept_here = {"authorization", "cookie", "origin", "referer", "te", "x-forwarded-host"}
    assert not kept_here & set(asked)
    assert said.headers["etag"] == '"1"'
    theirs = {"set-cookie", "access-control-allow-origin", "keep-alive", "x-frame-options"}
    assert not theirs & set(said.headers)
    assert said.headers.get("server") != "upstream"


def test_nobody_looks_without_a_token(settings: Settings, behind: Upstream) -> None:
    app = app_of(settings, behind.url, require_tokens=True)
    with TestClient(app, base_url=ADDRESS, follow_redirects=False) as client:
        for method, address in LOOKED_AT:
            assert client.request(method, address).status_code == 401
        page = client.get("/mlflow/", headers={"Accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/login?next=/mlflow/")
    assert behind.asked == []


def test_a_browser_that_is_logged_in_searches_without_more(
    settings: Settings, behind: Upstream
) -> None:
    app = app_of(settings, behind.url, require_tokens=True)
    _, secret = app.state.services.serving.add_token("reader", ["read"])
    with TestClient(app, base_url=ADDRESS, headers={"Origin": ADDRESS}) as client:
        assert client.post("/login", data={"token": secret}).status_code == 200
        search = "/mlflow/ajax-api/2.0/mlflow/runs/search"
        assert client.post(search, json={}).status_code == 200
        foreign = {"Origin": "https://elsewhere.example"}
        assert client.post(search, json={}, headers=foreign).status_code == 403
        assert client.post(search.replace("search", "delete"), json={}).status_code == 403
    assert len(behind.asked) == 1


def test_pages_of_artifacts_have_an_origin_of_their_own(settings: Settings) -> None:
    script = b"<script>parent.document.cookie</script>"
    with showing(settings, lambda _: Answer(body=script, headers=PAGE)) as client:
        for address in (
            "/mlflow/get-artifact?path=pareto.html&run_uuid=0",
            "/mlflow/model-versions/get-artifact?path=a.html",
            "/mlflow/ajax-api/2.0/mlflow-artifacts/artifacts/0/pareto.html",
            "/mlflow/ajax-api/2.0/mlflow/logged-models/m-0/artifacts/files?path=a.html",
        ):
            policy = client.get(address).headers["content-security-policy"]
            assert policy.startswith("sandbox allow-scripts; default-src 'none'")
            assert "allow-same-origin" not in policy
        policy = client.get("/mlflow/").headers["content-security-policy"]
        assert "sandbox" not in policy
        assert "frame-ancestors 'self'" in policy
        assert "connect-src 'self'" in policy


def test_a_compressed_answer_is_handed_on_as_it_is(settings: Settings) -> None:
    packed = gzip.compress(b"x" * 10_000)

    def answer(asked: Asked) -> Answer:
        assert asked.headers["accept-encoding"] == "gzip"
        return Answer(
            body=packed, headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"}
        )

    with showing(settings, answer) as client:
        said = client.get("/mlflow/version", headers={"Accept-Encoding": "gzip"})
    assert said.text == "x" * 10_000
    assert int(said.headers["content-length"]) == len(packed)


def test_a_big_artifact_streams(settings: Settings) -> None:
    parts = [bytes([number]) * 100_000 for number in range(50)]

    def answer(_: Asked) -> Answer:
        return Answer(
            headers={"Content-Type": "application/octet-stream"}, parts=lambda: iter(parts)
        )

    with showing(settings, answer) as client:
        address = "/mlflow/get-artifact?path=supernet.safetensors&run_uuid=0"
        assert client.get(address).content == b"".join(parts)


def test_mlflow_that_is_away_or_sends_elsewhere_is_a_problem(settings: Settings) -> None:
    moved = Answer(302, headers={"Location": "http://169.254.169.254/secret"})
    with upstream(lambda _: moved) as behind:
        app = app_of(settings, behind.url)
        with TestClient(app, base_url=ADDRESS, follow_redirects=False) as client:
            assert client.get("/mlflow/").status_code == 502
    with TestClient(app, base_url=ADDRESS) as client:
        answer = client.get("/mlflow/")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) > 0
        assert answer.json()["type"].endswith("mlflow-unavailable")


def test_a_service_without_mlflow_says_so(settings: Settings) -> None:
    with TestClient(app_of(settings, ""), base_url=ADDRESS) as client:
        assert client.get("/mlflow/").json()["type"].endswith("no-mlflow")


def test_the_folder_is_reached_from_its_name(mlflow: TestClient) -> None:
    answer = mlflow.get("/mlflow", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (308, "/mlflow/")


def test_many_look_at_once(settings: Settings) -> None:
    together = threading.Barrier(8)

    def answer(asked: Asked) -> Answer:
        together.wait(30)
        return echo(asked)

    with showing(settings, answer) as client:
        found: list[int] = []
        threads = [
            threading.Thread(target=lambda: found.append(client.get("/mlflow/version").status_code))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert found == [200] * 8
