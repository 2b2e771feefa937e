"""Is the service well, what does it count, and how is it described?"""

import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.errors import StoreUnavailable
from nas.search.spec import load_spec
from tests.services.launcher import StubLauncher
from tests.services.problems import problem

ROOTS = ("", "/api/v1")


@pytest.mark.parametrize("root", ROOTS)
def test_a_service_that_is_well_says_so(client: TestClient, root: str) -> None:
    assert client.get(f"{root}/healthz").json() == {"status": "ok"}
    ready = client.get(f"{root}/readyz").json()
    assert ready == {"status": "ready", "checks": {"record": True, "jobs": True}}
    version = client.get(f"{root}/version").json()
    assert version["api"] == "v1"
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", version["etnas"])


def test_without_ray_it_lives_but_is_not_ready(client: TestClient, launcher: StubLauncher) -> None:
    launcher.away = True
    answer = client.get("/readyz")
    assert problem(answer, 503)["checks"] == {"record": True, "jobs": False}
    assert int(answer.headers["retry-after"]) > 0
    assert client.get("/healthz").status_code == 200
    launcher.away = False
    assert client.get("/readyz").status_code == 200


def test_without_the_record_it_lives_but_is_not_ready(
    client: TestClient, app: FastAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away() -> int:
        raise StoreUnavailable("the record's password is 123")

    monkeypatch.setattr(app.state.services.serving, "last_sequence", away)
    answer = client.get("/readyz")
    assert problem(answer, 503)["checks"] == {"record": False, "jobs": True}
    assert "123" not in answer.text
    assert client.get("/healthz").status_code == 200


def _samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, value = line.rsplit(" ", 1)
            assert name not in found
            found[name] = float(value)
    return found


def test_metrics_count_answers_by_route_and_not_by_address(client: TestClient) -> None:
    for name in ("digits_tiny", "cifar10", "nothing"):
        client.get(f"/api/v1/spaces/{name}")
    client.get("/nowhere/at/all")
    client.request("BREW", "/nowhere")
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = _samples(answer.text)

    def answers(route: str, status: int, method: str = "GET") -> float:
        labels = f'method="{method}",route="{route}",status="{status}"'
        return found[f"nas_http_requests_total{{{labels}}}"]

    assert answers("/api/v1/spaces/{name}", 200) == 2
    assert answers("/api/v1/spaces/{name}", 404) == 1
    assert answers("unmatched", 404) == 1
    assert answers("unmatched", 404, "other") == 1
    assert found['nas_http_request_seconds_total{method="GET",route="/api/v1/spaces/{name}"}'] > 0


def test_metrics_show_searches_trials_and_the_reconciler(client: TestClient, app: FastAPI) -> None:
    spec = load_spec({"name": "small", "task": "digits", "space": "digits_tiny"}).to_json()
    with app.state.services.serving.once("me", None, "d") as once:
        once.create_search(spec, owner="me")
        once.create_search(spec, owner="me")
    before = _samples(client.get("/metrics").text)
    assert before['nas_searches{state="queued"}'] == 2
    assert before['nas_searches{state="running"}'] == 0
    assert before['nas_trials{role="search"}'] == 0
    assert before["nas_reconciler_up"] == 0
    assert before["nas_reconciler_last_step_timestamp_seconds"] == 0
    app.state.services.reconciler.reconciler.step()
    after = _samples(client.get("/metrics").text)
    assert after["nas_reconciler_last_step_timestamp_seconds"] > 1e9


# -- the description -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def described(one_client: TestClient) -> dict[str, Any]:
    """The OpenAPI document."""
    found: dict[str, Any] = one_client.get("/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def operations(described: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    """Every operation by method and path."""
    return {
        (method, path): operation
        for path, methods in described["paths"].items()
        for method, operation in methods.items()
    }


def test_the_document_is_openapi_3_1(described: dict[str, Any], one_client: TestClient) -> None:
    assert described["openapi"].startswith("3.1")
    assert described == one_client.get("/api/v1/openapi.json").json()
    assert "ValidationError" not in str(described)
    for schema in described["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_every_reference_leads_somewhere(described: dict[str, Any]) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [each for inner in node for each in references(inner)]
        if not isinstance(node, dict):
            return []
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [each for inner in node.values() for each in references(inner)]

    for reference in references(described):
        place: Any = described
        assert reference.startswith("#/components/")
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]


def test_every_operation_has_a_name_a_text_and_its_problems(
    operations: dict[tuple[str, str], dict[str, Any]],
) -> None:
    names = [operation["operationId"] for operation in operations.values()]
    assert len(set(names)) == len(names)
    problems = {"$ref": "#/components/responses/Problem"}
    for (method, path), operation in operations.items():
        assert operation.get("description"), path
        assert path.startswith("/api/v1/")
        assert operation["responses"]["default"] == problems
        assert operation["responses"]["422"] == problems
        headers = {
            each["name"] for each in operation.get("parameters", ()) if each["in"] == "header"
        }
        assert ("Idempotency-Key" in headers) == (method == "post")


def test_all_but_what_is_said_needs_a_caller(
    described: dict[str, Any], operations: dict[tuple[str, str], dict[str, Any]]
) -> None:
    assert described["security"] == [{"token": []}, {"session": []}]
    assert set(described["components"]["securitySchemes"]) == {"token", "session"}
    public = {path for (_, path), each in operations.items() if each.get("security") == []}
    assert public == {"/api/v1/healthz", "/api/v1/readyz", "/api/v1/version"}


def test_the_document_tells_the_truth_of_who_may_ask(
    guarded: TestClient, operations: dict[tuple[str, str], dict[str, Any]]
) -> None:
    for (method, path), operation in operations.items():
        address = re.sub(r"\{[^}]*\}", "01ARZ3NDEKTSV4RRFFQ69G5FAV", path)
        answer = guarded.request(method.upper(), address)
        assert (answer.status_code != 401) == (operation.get("security") == []), path


def test_the_page_lists_every_operation_and_fetches_nothing(
    client: TestClient, operations: dict[tuple[str, str], dict[str, Any]]
) -> None:
    answer = client.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    for method, path in operations:
        assert f"{method.upper()} {path}" in answer.text
    assert "<script" not in answer.text
    assert not re.findall(r"(?:src|href)=\"(?!/openapi\.json)", answer.text)


def test_problems_fit_their_schema(
    client: TestClient, described: dict[str, Any], launcher: StubLauncher
) -> None:
    components = described["components"]
    schema = {**components["schemas"]["Problem"], "components": components}
    fits = jsonschema.Draft202012Validator(schema)
    launcher.away = True
    asks: list[Callable[[], Any]] = [
        lambda: client.get("/nowhere"),
        lambda: client.get("/readyz"),
        lambda: client.post("/api/v1/spaces/validate", json={"space": "x"}),
        lambda: client.post("/api/v1/spaces/validate", content=b"{"),
        lambda: client.get("/healthz", headers={"Host": "evil.example"}),
    ]
    for ask in asks:
        fits.validate(ask().json())
