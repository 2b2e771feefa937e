"""Are searches submitted, shown, steered and deleted as asked, and by nobody else?"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.search.spec import load_spec
from nas_services.app import create_app
from nas_services.settings import Settings
from tests.services.conftest import ADDRESS
from tests.services.launcher import StubLauncher
from tests.services.records import add_trials, new_search, services_of, set_state, trade_off
from tests.store.conformance import SPEC, trial

SEARCHES = "/api/v1/searches"
REQUEST: dict[str, Any] = {
    "name": "mine",
    "task": {"name": "digits", "options": {"side": 8}},
    "space": "digits_tiny",
    "budget": {"trials": 12},
    "constraints": ["flops <= 2e7"],
}
Token = dict[str, str]


def submitted(client: TestClient, **changes: Any) -> dict[str, Any]:
    answer = client.post(SEARCHES, json={**REQUEST, **changes})
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    return found


# -- submission ------------------------------------------------------------------------------------


def test_a_submitted_search_is_there_and_wanted_to_run(client: TestClient, app: FastAPI) -> None:
    answer = client.post(SEARCHES, json=REQUEST)
    assert answer.status_code == 201, answer.text
    shown = answer.json()
    assert answer.headers["Location"] == f"{SEARCHES}/{shown['id']}"
    assert (shown["state"], shown["desired"], shown["owner"]) == ("queued", "run", "local")
    assert (shown["name"], shown["task"], shown["space"]) == ("mine", "digits", "digits_tiny")
    assert shown["progress"] == {"search": {"done": 0, "planned": 12}}
    detail = client.get(answer.headers["Location"]).json()
    assert {key: detail[key] for key in shown} == shown
    assert load_spec(detail["spec"]) == load_spec(REQUEST)
    assert detail["facts"]["space_digest"] == load_spec(REQUEST).search_space.digest
    assert services_of(app).serving.wish(shown["id"]).owner == "local"


def test_yaml_and_json_are_the_same_request(client: TestClient) -> None:
    body = yaml.safe_dump(REQUEST)
    answer = client.post(SEARCHES, content=body, headers={"Content-Type": "application/yaml"})
    assert answer.status_code == 201, answer.text
    other = submitted(client)
    one, two = (client.get(f"{SEARCHES}/{each['id']}").json() for each in (answer.json(), other))
    assert one["spec"] == two["spec"]


def test_a_dry_run_tells_what_would_be_looked_through_and_stores_nothing(
    client: TestClient,
) -> None:
    answer = client.post(f"{SEARCHES}?dry_run=true", json=REQUEST)
    assert answer.status_code == 200, answer.text
    found, spec = answer.json(), load_spec(REQUEST)
    assert found["valid"] is True
    assert found["spec"] == spec.to_json()
    assert int(found["size"]) == spec.search_space.size
    assert 0 < found["costs"]["flops"]["smallest"] < found["costs"]["flops"]["largest"]
    assert 0 < found["feasible"]["share"] <= 1
    assert client.get(SEARCHES).json()["items"] == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"constraints": ["flops <= 1"]}, "/constraints"),
        ({"space": "/etc/passwd"}, "/space"),
        ({"space": "no_such_space"}, "/space"),
        ({"budget": {"trials": 0}}, "/budget/trials"),
        ({"colour": "red"}, "/colour"),
        ({"task": {"name": "cifar10", "options": {"path": "../../secrets"}}}, "/task/path"),
    ],
)
@pytest.mark.parametrize("dry", ["true", "false"])
def test_what_is_wrong_is_pointed_at(
    client: TestClient, changes: dict[str, Any], pointer: str, dry: str
) -> None:
    answer = client.post(f"{SEARCHES}?dry_run={dry}", json={**REQUEST, **changes})
    assert answer.status_code == 422, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert pointer in [each["pointer"] for each in answer.json()["errors"]]
    assert client.get(SEARCHES).json()["items"] == []


def test_constraints_that_exclude_each_other_are_refused(client: TestClient) -> None:
    limits = ["params <= 4000", "flops >= 4e6"]
    answer = client.post(SEARCHES, json={**REQUEST, "constraints": limits})
    assert answer.status_code == 422, answer.text
    assert client.get(SEARCHES).json()["items"] == []


def test_data_that_a_request_needs_and_are_not_there_are_its_fault(client: TestClient) -> None:
    task = {"name": "nas_bench_bert", "options": {"path": "no_such_table.json"}}
    request = {"name": "table", "task": task, "space": "nas_bench_bert"}
    request |= {"objectives": ["glue", "params"]}
    answer = client.post(SEARCHES, json=request)
    assert answer.status_code == 422, answer.text
    assert "no_such_table.json" in answer.json()["detail"]


def test_the_same_key_submits_once(client: TestClient) -> None:
    headers = {"Idempotency-Key": "first"}
    one = client.post(SEARCHES, json=REQUEST, headers=headers)
    two = client.post(SEARCHES, json=REQUEST, headers=headers)
    assert (one.status_code, two.status_code) == (201, 201)
    assert two.json() == one.json()
    assert two.headers["Location"] == one.headers["Location"]
    assert two.headers["Idempotent-Replayed"] == "true"
    assert len(client.get(SEARCHES).json()["items"]) == 1
    other = client.post(SEARCHES, json={**REQUEST, "seed": 5}, headers=headers)
    assert other.status_code == 422
    assert other.json()["type"].endswith("idempotency-conflict")


def test_a_warm_start_keeps_how_many_trials_it_looks_at(client: TestClient, app: FastAPI) -> None:
    first = submitted(client)["id"]
    add_trials(services_of(app), first, [trial(0), trial(1), trial(3)])
    answer = client.post(f"{SEARCHES}?warm_start={first}", json=REQUEST)
    assert answer.status_code == 201, answer.text
    detail = client.get(answer.headers["Location"]).json()
    assert (detail["warm_start"], detail["facts"]["warm_start_trials"]) == (first, "2")
    answer = client.post(f"{SEARCHES}?warm_start=01HZZZZZZZZZZZZZZZZZZZZZZZ", json=REQUEST)
    assert answer.status_code == 404


def test_so_many_unfinished_searches_and_no_more(
    settings: Settings, launcher: StubLauncher
) -> None:
    app = create_app(replace(settings, most_searches=2), launcher=launcher, start_reconciler=False)
    with TestClient(app, base_url=ADDRESS) as client:
        first = submitted(client)["id"]
        submitted(client)
        answer = client.post(SEARCHES, json=REQUEST)
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) > 0
        set_state(services_of(app), first, "succeeded")
        submitted(client)


# -- reading ---------------------------------------------------------------------------------------


def test_pages_hold_every_search_once_the_newest_first(client: TestClient, app: FastAPI) -> None:
    ids = [new_search(services_of(app)) for _ in range(7)]
    found, token = [], None
    sizes = []
    while True:
        query = {"page_size": 3} | ({"page_token": token} if token else {})
        page = client.get(SEARCHES, params=query).json()
        found += [each["id"] for each in page["items"]]
        sizes.append(len(page["items"]))
        # What comes while somebody leafs is on none of the pages behind.
        new_search(services_of(app))
        token = page["next_page_token"]
        if token is None:
            break
    assert sizes == [3, 3, 1]
    assert found == sorted(ids, reverse=True)


def test_a_token_is_for_its_own_question_alone(client: TestClient, app: FastAPI) -> None:
    for _ in range(3):
        new_search(services_of(app))
    token = client.get(SEARCHES, params={"page_size": 1}).json()["next_page_token"]
    assert client.get(SEARCHES, params={"page_token": token}).status_code == 200
    for query in ({"name": "first"}, {"state": "queued"}, {"owner": "local"}):
        answer = client.get(SEARCHES, params={**query, "page_token": token})
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["pointer"] == "/query/page_token"
    for wrong in ("AAAA", token[:-2], token + "AA", "..", "é"):
        assert client.get(SEARCHES, params={"page_token": wrong}).status_code == 422


def test_lists_are_filtered_by_what_is_shown(client: TestClient, app: FastAPI) -> None:
    services = services_of(app)
    queued, begun, running, cancelling, done = (
        new_search(services, name=name) for name in ("a", "b", "c", "d", "e")
    )
    assert services.serving.begin_attempt(begun, 0)
    for each in (running, cancelling):
        set_state(services, each, "running", phase="search")
    set_state(services, done, "succeeded")
    assert client.post(f"{SEARCHES}/{cancelling}/cancel").status_code == 202

    def listed(**query: Any) -> list[str]:
        return [each["id"] for each in client.get(SEARCHES, params=query).json()["items"]]

    assert listed(state="queued") == [queued]
    assert listed(state="provisioning") == [begun]
    assert listed(state="running") == [running]
    assert listed(state="cancelling") == [cancelling]
    assert listed(state=["succeeded", "provisioning"]) == [done, begun]
    assert listed(name="c") == [running]
    assert listed(owner="nobody") == []
    assert client.get(SEARCHES, params={"state": "asleep"}).status_code == 422
    assert client.get(SEARCHES, params={"page_size": 1001}).status_code == 422


def test_a_search_shows_its_history_progress_and_what_goes_on(
    client: TestClient, app: FastAPI, settings: Settings
) -> None:
    services = services_of(app)
    id = submitted(client)["id"]
    assert services.serving.begin_attempt(id, 0)
    assert client.get(f"{SEARCHES}/{id}").json()["state"] == "provisioning"
    set_state(services, id, "running", phase="supernet")
    set_state(services, id, "running", phase="search")
    add_trials(services, id, trade_off(4))
    services.serving.end_attempt(id, 1, "job lost")
    assert services.serving.begin_attempt(id, 1)
    set_state(services, id, "failed", error="no data")
    detail = client.get(f"{SEARCHES}/{id}").json()
    assert detail["state"] == "failed"
    assert detail["error"] == "no data"
    assert detail["progress"]["search"] == {"done": 4, "planned": 12}
    assert [each["number"] for each in detail["attempts"]] == [1, 2]
    assert detail["attempts"][0]["outcome"] == "job lost"
    told = [(each["state"], each["reason"]) for each in detail["conditions"]]
    assert told == [
        ("queued", "submitted"),
        ("provisioning", f"attempt 1 began as job {id}-1"),
        ("running", "phase supernet"),
        ("running", "phase search"),
        ("running", "attempt 1 ended: job lost"),
        ("running", f"attempt 2 began as job {id}-2"),
        ("failed", "no data"),
    ]
    times = [each["time"] for each in detail["conditions"]]
    assert times == sorted(times)
    assert str(settings.place.root) in detail["commands"]["best"]
    assert f"nas pareto {id} --best" in detail["commands"]["cost"]
    assert "--option side=8" in detail["commands"]["cost"]
    for name in ("self", "trials", "pareto", "fidelity", "artifacts"):
        assert client.get(detail["links"][name]).status_code == 200


def test_a_search_is_found_by_its_beginning_and_as_the_last(
    client: TestClient, app: FastAPI
) -> None:
    first, last = (new_search(services_of(app)) for _ in range(2))
    assert client.get(f"{SEARCHES}/last").json()["id"] == last
    assert client.get(f"{SEARCHES}/{first[:25].lower()}").json()["id"] in (first, last)
    for unknown in ("01HZZZZZZZZZZZZZZZZZZZZZZZ", "abc"):
        answer = client.get(f"{SEARCHES}/{unknown}")
        assert answer.status_code == 404
        assert answer.json()["type"].endswith("search-not-found")
    assert client.get(f"{SEARCHES}/..%2f..%2fetc").status_code in (404, 422)
    assert client.get(f"{SEARCHES}/{'x' * 27}").status_code == 422


# -- verbs -----------------------------------------------------------------------------------------


def test_verbs_change_what_is_wanted_and_never_the_state(client: TestClient, app: FastAPI) -> None:
    id, services = submitted(client)["id"], services_of(app)
    set_state(services, id, "running", phase="search")
    steps = [
        ("pause", 202, "running", "pause"),
        ("pause", 200, "running", "pause"),
        ("resume", 202, "running", "run"),
        ("resume", 200, "running", "run"),
        ("cancel", 202, "cancelling", "cancel"),
        ("cancel", 200, "cancelling", "cancel"),
    ]
    for verb, status, state, desired in steps:
        answer = client.post(f"{SEARCHES}/{id}/{verb}")
        assert answer.status_code == status, (verb, answer.text)
        assert (answer.json()["state"], answer.json()["desired"]) == (state, desired)
    assert services.store.get(id).state == "running"
    asked = [e.data["desired"] for e in services.store.events(id) if e.kind == "search.desired"]
    assert asked == ["pause", "run", "cancel"]
    for verb in ("pause", "resume"):
        answer = client.post(f"{SEARCHES}/{id}/{verb}")
        assert answer.status_code == 409
        assert (answer.json()["state"], answer.json()["allowed"]) == ("cancelling", [])
    set_state(services, id, "cancelled")
    assert client.post(f"{SEARCHES}/{id}/cancel").status_code == 200
    assert client.post(f"{SEARCHES}/{id}/resume").json()["state"] == "cancelled"


@pytest.mark.parametrize("state", ["succeeded", "failed"])
@pytest.mark.parametrize("verb", ["pause", "resume", "cancel"])
def test_what_has_ended_takes_no_verb(
    client: TestClient, app: FastAPI, state: Any, verb: str
) -> None:
    id = submitted(client)["id"]
    set_state(services_of(app), id, state)
    answer = client.post(f"{SEARCHES}/{id}/{verb}")
    assert answer.status_code == 409
    assert (answer.json()["state"], answer.json()["allowed"]) == (state, [])
    assert services_of(app).serving.wish(id).desired == "run"


def test_a_wrong_verb_says_which_are_right(client: TestClient, app: FastAPI) -> None:
    id = submitted(client)["id"]
    detail = client.get(f"{SEARCHES}/{id}").json()
    assert detail["allowed"] == ["pause", "cancel"]
    client.post(f"{SEARCHES}/{id}/pause")
    assert client.get(f"{SEARCHES}/{id}").json()["allowed"] == ["resume", "cancel"]
    answer = client.delete(f"{SEARCHES}/{id}")
    assert answer.status_code == 409
    assert answer.json()["allowed"] == ["resume", "cancel"]
    assert services_of(app).store.get(id).state == "queued"


# -- deletion --------------------------------------------------------------------------------------


def test_a_deleted_search_is_gone_with_its_files(
    client: TestClient, app: FastAPI, settings: Settings
) -> None:
    services = services_of(app)
    id, other = submitted(client)["id"], submitted(client)["id"]
    add_trials(services, id, trade_off(3))
    set_state(services, id, "succeeded")
    folders = [settings.place.report(id), settings.place.standalone(id)]
    kept = settings.place.report(other)
    for folder in (*folders, kept):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    assert client.get(f"{SEARCHES}/{id}/pareto").status_code == 200
    assert client.delete(f"{SEARCHES}/{id}").status_code == 204
    for path in ("", "/trials", "/pareto", "/pareto/history", "/fidelity", "/artifacts"):
        assert client.get(f"{SEARCHES}/{id}{path}").status_code == 404
    assert client.delete(f"{SEARCHES}/{id}").status_code == 404
    assert not any(folder.exists() for folder in folders)
    assert (kept / "file").exists()
    assert [each["id"] for each in client.get(SEARCHES).json()["items"]] == [other]


# -- owners ----------------------------------------------------------------------------------------

Ask = Callable[[TestClient, str, Token], int]
CHANGES: dict[str, Ask] = {
    "pause": lambda client, id, by: client.post(f"{SEARCHES}/{id}/pause", headers=by).status_code,
    "cancel": lambda client, id, by: client.post(f"{SEARCHES}/{id}/cancel", headers=by).status_code,
    "delete": lambda client, id, by: client.delete(f"{SEARCHES}/{id}", headers=by).status_code,
}


@pytest.mark.parametrize("change", CHANGES)
def test_who_submits_acts_on_their_own_alone(
    guarded: TestClient,
    guarded_app: FastAPI,
    tokens: dict[str, Token],
    change: str,
) -> None:
    services = services_of(guarded_app)
    _, secret = services.serving.add_token("other", ["submit"])
    other = {"Authorization": f"Bearer {secret}"}
    answer = guarded.post(SEARCHES, json=REQUEST, headers=tokens["submit"])
    assert answer.status_code == 201, answer.text
    id = answer.json()["id"]
    assert answer.json()["owner"] == "submit"
    if change == "delete":
        set_state(services, id, "succeeded")
    before = services.serving.wish(id), services.store.events(id)
    ask = CHANGES[change]
    assert ask(guarded, id, {}) == 401
    assert ask(guarded, id, tokens["read"]) == 403
    assert ask(guarded, id, other) == 403
    assert (services.serving.wish(id), services.store.events(id)) == before
    assert ask(guarded, id, tokens["submit"]) in (202, 204)


def test_everybody_who_may_read_sees_all(
    guarded: TestClient, guarded_app: FastAPI, tokens: dict[str, Token]
) -> None:
    id = new_search(services_of(guarded_app), owner="submit")
    for scope in tokens:
        listed = guarded.get(SEARCHES, headers=tokens[scope]).json()["items"]
        assert [each["id"] for each in listed] == [id]
        assert guarded.get(f"{SEARCHES}/{id}", headers=tokens[scope]).status_code == 200
    assert guarded.get(SEARCHES).status_code == 401
    assert guarded.post(SEARCHES, json=REQUEST, headers=tokens["read"]).status_code == 403
    # An admin acts on everybody's.
    assert guarded.post(f"{SEARCHES}/{id}/cancel", headers=tokens["admin"]).status_code == 202


def test_a_search_of_a_terminal_is_an_admins(
    guarded: TestClient, guarded_app: FastAPI, tokens: dict[str, Token]
) -> None:
    services = services_of(guarded_app)
    id = services.store.create_search(SPEC).id
    assert guarded.get(f"{SEARCHES}/{id}", headers=tokens["read"]).json()["owner"] == ""
    assert guarded.post(f"{SEARCHES}/{id}/cancel", headers=tokens["submit"]).status_code == 403
    assert guarded.post(f"{SEARCHES}/{id}/cancel", headers=tokens["admin"]).status_code == 202


def test_a_body_that_is_no_request_is_malformed(client: TestClient, tmp_path: Path) -> None:
    deep: Any = "x"
    for _ in range(40):
        deep = {"a": deep}
    bodies = ["", "[]", "{", json.dumps(deep), '{"seed": NaN}', '{"seed": 1e999}', '{"a":1,"a":2}']
    for body in bodies:
        answer = client.post(SEARCHES, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code == 400, (body[:40], answer.text)
        assert answer.headers["content-type"] == "application/problem+json"
    assert client.post(SEARCHES, content="x: 1").status_code == 415
    assert not (tmp_path / "home" / "searches").exists()
