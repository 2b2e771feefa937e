"""Is an architecture shown with its exact costs and everything that was tried of it?"""

import json
from typing import Any

import pytest
from fastapi import FastAPI
from sqlalchemy import create_engine, text
from starlette.testclient import TestClient

from nas.cost.cost import exact_costs
from nas.search.spec import load_spec
from tests.services.records import add_trials, new_search, services_of
from tests.store.conformance import SPEC, architecture, trial

CONFIGS = "/api/v1/configs"


def test_an_architecture_is_shown_with_costs_and_trials(client: TestClient, app: FastAPI) -> None:
    services = services_of(app)
    first = new_search(services)
    wide = {"name": "digits", "options": {"side": 16}}
    second = new_search(services, name="second", task=wide)
    add_trials(services, first, [trial(0), trial(1), trial(0, "random")])
    add_trials(services, second, [trial(0)])
    built = architecture(16)
    found = client.get(f"{CONFIGS}/{built.id}").json()
    assert found["id"] == built.id
    assert found["architecture"] == built.to_json()
    assert [each["search"] for each in found["searches"]] == [second, first]
    trials = [[each["id"] for each in of["trials"]] for of in found["searches"]]
    assert trials == [[f"{second}.search.0"], [f"{first}.search.0", f"{first}.random.0"]]
    for shown, changes in zip(found["searches"], ({"task": wide}, {}), strict=True):
        spec = load_spec({**SPEC, **changes})
        assert shown["costs"] == exact_costs(spec.task_shape, spec.latency)(built)
    assert found["searches"][0]["costs"] != found["searches"][1]["costs"]


def test_what_was_never_tried_is_not_found(client: TestClient) -> None:
    assert client.get(f"{CONFIGS}/{'0' * 16}").status_code == 404
    for wrong in ("0" * 15, "0" * 17, "G" * 16, "..%2f..%2fpasswd"):
        assert client.get(f"{CONFIGS}/{wrong}").status_code in (404, 422)


def test_a_search_of_parts_that_are_not_here_is_shown_without_costs(
    client: TestClient, app: FastAPI
) -> None:
    services = services_of(app)
    id = new_search(services)
    add_trials(services, id, [trial(0)])
    request: dict[str, Any] = {**services.store.get(id).spec, "task": {"name": "elsewhere"}}
    engine = create_engine(services.settings.place.record_url)
    with engine.begin() as connection:
        change = text("UPDATE nas_searches SET spec = :spec WHERE id = :id")
        connection.execute(change, {"spec": json.dumps(request), "id": id})
    engine.dispose()
    found = client.get(f"{CONFIGS}/{architecture(16).id}")
    assert found.status_code == 200, found.text
    assert found.json()["searches"][0]["costs"] is None
    assert found.json()["searches"][0]["task"] == "elsewhere"
    # Its trials are readable all the same; its front takes what is not there.
    assert client.get(f"/api/v1/searches/{id}/trials").json()["items"]
    answer = client.get(f"/api/v1/searches/{id}/pareto")
    assert answer.status_code == 422
    assert answer.json()["type"].endswith("part-not-installed")


@pytest.mark.parametrize("verb", ["train", "export"])
def test_there_is_no_endpoint_that_does_nothing(client: TestClient, verb: str) -> None:
    assert client.post(f"{CONFIGS}/{'0' * 16}/{verb}").status_code == 404
