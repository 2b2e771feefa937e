"""Are operations shown as they stand, and cancelled by their owner?"""

from fastapi import FastAPI
from starlette.testclient import TestClient

from nas_services.dependencies import Services
from tests.services.records import services_of

OPERATIONS = "/api/v1/operations"


def begun(services: Services, owner: str = "local") -> str:
    with services.serving.once(owner, None, "") as once:
        made = once.create_operation("train", "0" * 16, owner=owner, request={"steps": 3})
        return made.id


def test_an_operation_is_shown_as_it_stands(client: TestClient, app: FastAPI) -> None:
    serving = services_of(app).serving
    id = begun(services_of(app))
    found = client.get(f"{OPERATIONS}/{id}").json()
    assert (found["kind"], found["state"], found["request"]) == ("train", "queued", {"steps": 3})
    serving.change_operation(id, "running")
    serving.change_operation(id, "failed", error="no data")
    found = client.get(f"{OPERATIONS}/{id}").json()
    assert (found["state"], found["error"]) == ("failed", "no data")
    answer = client.get(f"{OPERATIONS}/01HZZZZZZZZZZZZZZZZZZZZZZZ")
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("operation-not-found")


def test_it_is_cancelled_once_and_never_after_its_end(client: TestClient, app: FastAPI) -> None:
    id = begun(services_of(app))
    headers = {"Idempotency-Key": "once"}
    first = client.post(f"{OPERATIONS}/{id}/cancel", headers=headers)
    assert (first.status_code, first.json()["state"]) == (202, "cancelled")
    again = client.post(f"{OPERATIONS}/{id}/cancel", headers=headers)
    assert (again.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
    assert client.post(f"{OPERATIONS}/{id}/cancel").status_code == 200
    ended = begun(services_of(app))
    services_of(app).serving.change_operation(ended, "succeeded")
    answer = client.post(f"{OPERATIONS}/{ended}/cancel")
    assert answer.status_code == 409
    assert (answer.json()["state"], answer.json()["allowed"]) == ("succeeded", [])


def test_only_its_owner_cancels_it(
    guarded: TestClient, guarded_app: FastAPI, tokens: dict[str, dict[str, str]]
) -> None:
    services = services_of(guarded_app)
    own, other = begun(services, "submit"), begun(services, "somebody")
    for id, scope, status in (
        (own, "read", 403),
        (other, "submit", 403),
        (own, "submit", 202),
        (other, "admin", 202),
    ):
        answer = guarded.post(f"{OPERATIONS}/{id}/cancel", headers=tokens[scope])
        assert answer.status_code == status
    assert guarded.get(f"{OPERATIONS}/{own}", headers=tokens["read"]).status_code == 200
    assert guarded.get(f"{OPERATIONS}/{own}").status_code == 401
