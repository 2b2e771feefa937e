"""Is every trial of a search listed once, in the order in which it came?"""

from dataclasses import replace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.search.trial import Measurement
from tests.services.records import add_trials, new_search, services_of
from tests.store.conformance import trial

SEARCHES = "/api/v1/searches"


@pytest.fixture
def search(app: FastAPI) -> str:
    """A search with trials of three roles in mixed order, one of them failed."""
    id = new_search(services_of(app))
    failed = replace(trial(3), measurement=Measurement.failed("out of memory", 1.5))
    mixed = [trial(1), trial(0), trial(0, "random"), failed, trial(1, "random"), trial(2)]
    add_trials(services_of(app), id, [*mixed, trial(0, "homogeneous", label="linear")])
    return id


def leafed(client: TestClient, search: str, size: int, **query: Any) -> list[dict[str, Any]]:
    """All trials, page by page."""
    found: list[dict[str, Any]] = []
    token: dict[str, Any] = {}
    while True:
        asked = {"page_size": size, **query, **token}
        page = client.get(f"{SEARCHES}/{search}/trials", params=asked).json()
        found += page["items"]
        if page["next_page_token"] is None:
            return found
        assert len(page["items"]) == size
        token = {"page_token": page["next_page_token"]}


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_pages_together_are_the_order_of_arrival(
    client: TestClient, search: str, size: int
) -> None:
    found = leafed(client, search, size)
    assert [(each["role"], each["index"]) for each in found] == [
        ("search", 1),
        ("search", 0),
        ("random", 0),
        ("search", 3),
        ("random", 1),
        ("search", 2),
        ("homogeneous", 0),
    ]
    times = [each["time"] for each in found]
    assert times == sorted(times)


def test_trials_are_filtered_by_role_and_state(client: TestClient, search: str) -> None:
    def keys(**query: Any) -> list[tuple[str, int]]:
        return [(t["role"], t["index"]) for t in leafed(client, search, 2, **query)]

    assert keys(role="random") == [("random", 0), ("random", 1)]
    assert keys(state="failed") == [("search", 3)]
    assert keys(role="search", state="succeeded") == [("search", 1), ("search", 0), ("search", 2)]
    assert keys(role="timed") == []
    for wrong in ({"role": "king"}, {"state": "asleep"}, {"page_size": 0}):
        assert client.get(f"{SEARCHES}/{search}/trials", params=wrong).status_code == 422


def test_a_trial_is_shown_with_all_that_the_record_has(client: TestClient, search: str) -> None:
    listed = {each["id"]: each for each in leafed(client, search, 50)}
    for id, shown in listed.items():
        assert client.get(f"/api/v1/trials/{id}").json() == shown
    failed = listed[f"{search}.search.3"]
    assert (failed["state"], failed["reason"]) == ("failed", "out of memory")
    assert (failed["metrics"], failed["seconds"]) == ({}, 1.5)
    one = listed[f"{search}.homogeneous.0"]
    made = trial(0, "homogeneous", label="linear")
    assert one["label"] == "linear"
    assert one["architecture"] == made.architecture.to_json()
    assert one["architecture_id"] == made.architecture.id
    assert one["metrics"] == dict(made.metrics)


@pytest.mark.parametrize(
    ("id", "status"),
    [
        ("{}.search.9", 404),
        ("{}.king.0", 404),
        ("{}.timed.0", 404),
        ("01HZZZZZZZZZZZZZZZZZZZZZZZ.search.0", 404),
        ("{}.search", 422),
        ("{}.search.-1", 422),
        ("{}.search.99999999999999999999", 422),
    ],
)
def test_what_is_no_trial_is_not_found(
    client: TestClient, search: str, id: str, status: int
) -> None:
    answer = client.get(f"/api/v1/trials/{id.format(search)}")
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_trials_that_come_later_stand_behind_those_there_were(
    client: TestClient, app: FastAPI, search: str
) -> None:
    first = client.get(f"{SEARCHES}/{search}/trials", params={"page_size": 7}).json()
    assert first["next_page_token"] is None
    add_trials(services_of(app), search, [trial(4)])
    services_of(app).findings.told([search])
    second = client.get(f"{SEARCHES}/{search}/trials", params={"page_size": 7}).json()
    assert second["items"] == first["items"]
    token = {"page_size": 7, "page_token": second["next_page_token"]}
    third = client.get(f"{SEARCHES}/{search}/trials", params=token).json()
    assert [each["index"] for each in third["items"]] == [4]


def test_a_token_of_another_list_is_refused(client: TestClient, app: FastAPI, search: str) -> None:
    other = new_search(services_of(app))
    token = client.get(f"{SEARCHES}/{search}/trials", params={"page_size": 1}).json()[
        "next_page_token"
    ]
    wrong = [(other, {}), (search, {"role": "search"}), (search, {"state": "failed"})]
    for id, query in wrong:
        asked = {**query, "page_token": token}
        answer = client.get(f"{SEARCHES}/{id}/trials", params=asked)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/query/page_token"
