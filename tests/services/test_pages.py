"""Do the pages show what the API answers, safely, and let do only what is allowed?"""

import hashlib
import json
import re
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.report.architecture import looks, strip
from nas.search.objective import Metric
from nas.search.spec import load_spec
from nas.search.trial import Measurement, Trial, TrialRole
from nas.space.architecture import Architecture
from nas.store.serving import Desired
from nas.store.store import SearchState
from nas_services.app import create_app
from nas_services.dependencies import Services
from nas_services.guards import PAGE_POLICY
from nas_services.pages.axes import Axis
from nas_services.pages.rendering import static_files
from nas_services.pages.scatter import MOST_SYMBOLS, scatter
from nas_services.routes.pages import FOREVER, LOG_LINES
from nas_services.settings import Settings
from tests.report.samples import controls, request, searched
from tests.services.conftest import ADDRESS
from tests.services.launcher import StubLauncher
from tests.services.records import (
    add_trials,
    held,
    import_trials,
    new_search,
    scored,
    services_of,
    set_state,
    trade_off,
)
from tests.services.upstream import Answer, Asked, upstream
from tests.store.conformance import SPEC

HOSTILE = "</pre><script>alert(1)</script><img src=x onerror='alert(1)'>\"&'"


@dataclass
class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    tags: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    text: str = ""

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        """The attributes of all such elements."""
        return [each for name, each in self.tags if name == tag and wanted.items() <= each.items()]


def read(answer: Any, status: int = 200) -> Page:
    """A page, which must be one that runs nothing but our own script and fetches nothing else."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["content-security-policy"] == PAGE_POLICY
    assert answer.headers["cache-control"] == "no-store"
    found = Page()
    found.feed(answer.text)
    for tag, attributes in found.tags:
        assert tag not in ("style", "iframe", "object", "base")
        assert "style" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action"):
            assert attributes.get(name, "/")[0] in "/#"
            assert not attributes.get(name, "/").startswith("//")
        assert tag != "script" or attributes["src"].startswith("/static/page.")
    labelled = {each["for"] for each in found.all("label")}
    for tag in ("input", "progress"):
        shown = (each for each in found.all(tag) if each.get("type") != "hidden")
        assert {each["id"] for each in shown} <= labelled
    ids = [each["id"] for _, each in found.tags if "id" in each]
    assert len(ids) == len(set(ids))
    return found


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    return services_of(app)


def wish(services: Services, search: str, desired: Desired) -> None:
    with services.serving.once("local", None, "") as once:
        once.set_desired(search, desired)


def recorded(services: Services, changes: dict[str, Any], **facts: str) -> str:
    """A search whose request nobody has checked."""
    spec = {**load_spec(SPEC).to_json(), **changes}
    with services.serving.once("local", None, "") as once:
        return once.create_search(spec, owner="local", facts=facts).id


# -- the list --------------------------------------------------------------------------------------


def test_without_searches_the_list_says_how_to_submit_one(client: TestClient) -> None:
    found = read(client.get("/"))
    assert "There are no searches yet" in found.text
    assert "space: digits_tiny" in found.text
    assert f"nas search SPEC.yaml --server {ADDRESS}" in found.text
    assert f"curl {ADDRESS}/api/v1/searches -H 'Content-Type: application/yaml'" in found.text
    assert "no login needed" in found.text
    assert found.all("form") == []


def test_the_list_has_state_and_progress_newest_first(
    client: TestClient, services: Services
) -> None:
    first, second = new_search(services, name="old"), new_search(services, name="young")
    add_trials(services, first, trade_off(5))
    set_state(services, first, "running", phase="search")
    found = read(client.get("/"))
    links = [each["href"] for each in found.all("a") if "/searches/" in each.get("href", "")]
    assert [each for each in links if each.startswith("/searches")] == [
        f"/searches/{second}",
        f"/searches/{first}",
    ]
    bars = [(each["max"], each["value"]) for each in found.all("progress")]
    assert bars == [("20", "0"), ("20", "5")]
    assert [each["class"] for each in found.all("span") if "badge" in each.get("class", "")] == [
        "badge queued",
        "badge running",
    ]


def test_older_searches_are_a_page_further(client: TestClient, services: Services) -> None:
    ids = [new_search(services) for _ in range(51)]
    (older,) = read(client.get("/")).all("a", rel="next")
    found = read(client.get(older["href"]))
    assert [each["href"] for each in found.all("a") if ids[0] in each["href"]]
    assert not [each for each in found.all("a") if ids[1] in each["href"]]
    read(client.get("/?page_token=x"), 422)


# -- a search --------------------------------------------------------------------------------------


def test_text_from_outside_is_only_ever_text(
    client: TestClient, services: Services, launcher: StubLauncher
) -> None:
    id = recorded(
        services, {"name": HOSTILE, "strategy": {"name": HOSTILE, "options": {}}}, commit=HOSTILE
    )
    attempt = services.serving.begin_attempt(id, 0)
    assert attempt is not None
    launcher.written[attempt.job] = f"{HOSTILE}\n"
    set_state(services, id, "failed", phase="search", error=HOSTILE)
    services.serving.end_attempt(id, attempt.number, HOSTILE)
    for path in ("/", f"/searches/{id}", f"/searches/{id}/front.html", f"/searches/{id}/log"):
        answer = client.get(path)
        found = read(answer)
        assert HOSTILE in found.text
        assert "alert(1)</script>" not in answer.text
        assert not found.all("img", src="x")


def test_the_verdict_is_the_first_line(client: TestClient, services: Services) -> None:
    id = new_search(services)
    add_trials(services, id, trade_off(4))
    page = client.get(f"/searches/{id}").text
    gate = client.get(f"/api/v1/searches/{id}/fidelity").json()["gate"]
    text = re.sub(r"<[^>]+>", "", page[page.index("</noscript>") :]).strip()
    assert text.startswith(gate["sentence"].replace("`", ""))


@pytest.mark.parametrize(
    ("state", "desired", "shown", "verbs"),
    [
        ("queued", "run", "queued", ["pause", "cancel"]),
        ("running", "run", "running", ["pause", "cancel"]),
        ("running", "pause", "running", ["resume", "cancel"]),
        ("paused", "pause", "paused", ["resume", "cancel"]),
        ("running", "cancel", "cancelling", []),
        ("succeeded", "run", "succeeded", []),
        ("failed", "run", "failed", []),
        ("cancelled", "cancel", "cancelled", []),
    ],
)
def test_buttons_are_those_that_are_allowed(
    client: TestClient,
    services: Services,
    state: SearchState,
    desired: Desired,
    shown: str,
    verbs: list[str],
) -> None:
    id = new_search(services)
    if desired != "run":
        wish(services, id, desired)
    if state != "queued":
        set_state(services, id, state)
    found = read(client.get(f"/searches/{id}"))
    actions = [each["action"] for each in found.all("form")]
    assert actions == [f"/searches/{id}/{verb}" for verb in verbs]
    assert all(each["method"] == "post" for each in found.all("form"))
    assert found.all("p", id="state", role="status")
    assert client.get(f"/searches/{id}").text.count(f'class="badge {shown}"') >= 1


def test_a_button_changes_what_is_wanted(client: TestClient, services: Services) -> None:
    id = new_search(services)
    for verb, wanted in (("pause", "pause"), ("resume", "run"), ("cancel", "cancel")):
        answer = client.post(f"/searches/{id}/{verb}", data={}, follow_redirects=False)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/searches/{id}")
        assert services.serving.wish(id).desired == wanted
    found = read(client.post(f"/searches/{id}/pause", data={}), 409)
    assert "cancelling, so pause is not possible" in found.text
    assert found.all("a", href=f"/searches/{id}")
    read(client.post(f"/searches/{id}/delete", data={}), 422)


def test_what_is_not_there_is_said_by_a_page(client: TestClient) -> None:
    assert "search" in read(client.get("/searches/01AAAAAAAAAAAAAAAAAAAAAAAA"), 404).text
    read(client.get("/searches/a+b"), 422)
    read(client.get("/static/page.css"), 404)


# -- the front -------------------------------------------------------------------------------------


def fragment(client: TestClient, id: str) -> Page:
    return read(client.get(f"/searches/{id}/front.html"))


def test_the_live_front_is_the_apis(client: TestClient, services: Services) -> None:
    spec = request(constraints=["flops <= 9e7"])
    free = request()
    trials = searched(free, 60) + controls(free, 20, 2)
    id = new_search(services, **spec.to_json())
    for count in (10, 82):
        import_trials(services, id, trials[:count])
        services.findings.told([id])
        members = client.get(f"/api/v1/searches/{id}/pareto").json()["members"]
        found = fragment(client, id)
        rows = [each["data-trial"] for each in found.all("tr") if "data-trial" in each]
        assert rows == [each["trial"] for each in members]
        circles = found.all("circle")
        drawn = [each for each in circles if "cx" in each]
        assert len(drawn) == len(members) > 0
        for member in members:
            assert f"trial {member['index']}, flops" in found.text
            assert f"{member['metrics']['cross_entropy']:#.4g} nats" in found.text
    assert {"data-live"} < set(found.all("div", id="front")[0])
    whole = client.get(f"/searches/{id}").text
    part = client.get(f"/searches/{id}/front.html").text
    assert part.strip() in whole


def test_places_in_the_scatter_are_those_of_the_figures() -> None:
    spec = request()
    trials = [scored(i, 1.0 + i, 1e7 * 10**i, latency_ms=1.0, params=1.0) for i in range(3)]
    picture = scatter(spec, trials, [(0, trials[0].metrics)], {})
    assert picture is not None
    axis = Axis.of(Metric("flops", "minimize", "FLOPs"), [1e7, 1e8, 1e9])
    assert axis.log
    assert [text for _, text in axis.ticks()] == ["10M", "20M", "50M", "100M", "200M", "500M", "1G"]
    assert axis.share(1e8) == pytest.approx(0.5)
    assert f'cx="{100 * axis.share(1e7):.2f}%"' in picture.svg
    assert picture.horizontal == "flops (FLOPs), lower is better"
    narrow = Axis.of(Metric("accuracy", "maximize", "fraction"), [0.5, 0.9])
    assert not narrow.log
    assert [text for _, text in narrow.ticks()] == ["0.5", "0.6", "0.7", "0.8", "0.9"]
    assert narrow.title == "accuracy, higher is better"
    assert len(Axis.of(Metric("a", "maximize", "1"), [0.0]).ticks()) > 1
    assert len(Axis.of(Metric("a", "maximize", "1"), [1.0, 1e12]).ticks()) <= 7


def test_controls_are_open_symbols_and_thousands_stay_small() -> None:
    spec = request()
    known = looks(["softmax", "linear"])
    pool = controls(spec, 3, 1)
    trials = searched(spec, 6) + pool
    picture = scatter(spec, trials, [], known)
    assert picture is not None
    assert picture.svg.count('<use href="#mark-cross"') == 3
    assert f'class="control" stroke="{known["softmax"].colour}"' in picture.svg
    assert {"random", "all softmax", "search"} <= {each.text for each in picture.key}

    def like(index: int, role: TrialRole) -> Trial:
        metrics = {"cross_entropy": 1 + (index * 7919 % 9973) / 1e3, "flops": 1e6 * (1 + index)}
        return Trial(role, index, trials[0].architecture, Measurement.of(metrics))

    many = [like(index, role) for index in range(10_000) for role in ("search", "random")]
    large = scatter(spec, many, [], known)
    assert large is not None
    assert large.svg.count("<use ") <= MOST_SYMBOLS
    assert len(large.svg) < 300_000


def test_strips_show_each_layers_attention_and_width(
    client: TestClient, services: Services
) -> None:
    id = new_search(services)
    add_trials(services, id, trade_off(5))
    members = client.get(f"/api/v1/searches/{id}/pareto").json()["members"]
    text = client.get(f"/searches/{id}/front.html").text
    known = looks(["softmax", "cosformer", "linear", "linear(feature_map=relu)"])
    for member in members:
        built = Architecture.from_json(member["architecture"])
        assert strip(built, known, 32, [2]) in text
    found = fragment(client, id)
    assert "L2 linear(feature_map=relu)" in " ".join(found.text.split())


def test_the_history_stands_beside_the_random_controls(
    client: TestClient, services: Services
) -> None:
    spec = request()
    id = new_search(services, **spec.to_json())
    assert "How the front grew" not in client.get(f"/searches/{id}").text
    import_trials(services, id, searched(spec, 30) + controls(spec, 20, 0))
    services.findings.told([id])
    history = client.get(f"/api/v1/searches/{id}/pareto/history").json()
    found = fragment(client, id)
    assert f"Hypervolume after 30 trials: {history['curve']['hypervolume'][-1]:.4f}" in str(
        found.all("svg")
    )
    assert f"difference {history['at_equal_trials']['difference']:+.4f}" in found.text
    assert found.all("path", **{"class": "curve"})[0]["d"].count("L") == 29
    assert found.all("path", **{"class": "curve random"})
    assert found.all("path", **{"class": "spread"})


def test_a_search_of_a_part_that_is_not_installed_is_shown_all_the_same(
    client: TestClient, services: Services
) -> None:
    id = recorded(services, {"strategy": {"name": "elsewhere", "options": {}}})
    found = fragment(client, id)
    assert found.text.count("Not all of it can be shown") == 1
    assert "elsewhere" in found.text
    assert found.all("form")


def test_files_and_commands_lead_on(client: TestClient, services: Services) -> None:
    id = new_search(services)
    assert "The report is written when the search ends" in fragment(client, id).text
    folder = services.settings.place.report(id)
    folder.mkdir(parents=True)
    (folder / "pareto.html").write_bytes(b"<html>")
    digest = hashlib.sha256(b"<html>").hexdigest()
    with held(services, id) as lease:
        services.store.set_artifact(lease, "pareto.html", str(folder / "pareto.html"), digest)
    found = fragment(client, id)
    links = {each["href"] for each in found.all("a")}
    report = f"/api/v1/searches/{id}/pareto.html"
    assert {report, f"/searches/{id}/log", f"/api/v1/searches/{id}/pareto"} <= links
    files = [each for each in links if each.startswith("/api/v1/artifacts/")]
    assert client.get(report).text == client.get(files[0]).text == "<html>"
    assert f"nas pareto {id} --best --server {ADDRESS} > best.json" in found.text
    assert f"curl {ADDRESS}/api/v1/searches/{id}/pareto" in found.text
    assert "mlflow" not in str(links)


def test_the_log_shows_the_last_lines_of_each_job(
    client: TestClient, services: Services, launcher: StubLauncher
) -> None:
    id = new_search(services)
    assert "No job has run" in read(client.get(f"/searches/{id}/log")).text
    attempt = services.serving.begin_attempt(id, 0)
    assert attempt is not None
    lines = [f"line {number}" for number in range(LOG_LINES + 7)]
    launcher.written[attempt.job] = "\n".join([*lines, "old\rnew"])
    found = read(client.get(f"/searches/{id}/log"))
    assert "8 older ones are left out" in " ".join(found.text.split())
    assert "line 7\n" not in found.text
    assert "line 8\n" in found.text
    assert found.text.count("new") == 1
    launcher.away = True
    assert "does not answer" in read(client.get(f"/searches/{id}/log")).text


# -- MLflow ----------------------------------------------------------------------------------------


def test_a_search_leads_to_its_run_in_mlflow(settings: Settings, launcher: StubLauncher) -> None:
    runs: list[dict[str, Any]] = [{"info": {"run_id": "abc"}}]

    def answer(asked: Asked) -> Answer:
        if asked.path.startswith("/api/2.0/mlflow/experiments/get-by-name"):
            assert "digits_tiny%2Fdigits" in asked.path
            return Answer(body=b'{"experiment": {"experiment_id": "7"}}')
        assert id in json.loads(asked.body)["filter"]
        return Answer(body=json.dumps({"runs": runs}).encode())

    with upstream(answer) as mlflow:
        given = replace(settings, mlflow_url=mlflow.url)
        app = create_app(given, launcher=launcher, start_reconciler=False)
        with TestClient(app, base_url=ADDRESS, follow_redirects=False) as client:
            id = new_search(services_of(app))
            assert f"/searches/{id}/mlflow" in client.get(f"/searches/{id}").text
            found = client.get(f"/searches/{id}/mlflow")
            assert found.headers["location"] == "/mlflow/#/experiments/7/runs/abc"
            runs.clear()
            found = client.get(f"/searches/{id}/mlflow")
            assert found.headers["location"] == "/mlflow/#/experiments/7"
            mlflow.answer = lambda _: Answer(500)
            assert "does not answer" in read(client.get(f"/searches/{id}/mlflow"), 503).text
            mlflow.answer = lambda _: Answer(404)
            assert client.get(f"/searches/{id}/mlflow").headers["location"] == "/mlflow/"


# -- logging in ------------------------------------------------------------------------------------


@pytest.fixture
def browser(guarded: TestClient) -> TestClient:
    """A browser without a session where tokens are required."""
    guarded.headers["Accept"] = "text/html"
    guarded.follow_redirects = False
    return guarded


def log_in(browser: TestClient, tokens: dict[str, dict[str, str]], scope: str, to: str) -> None:
    secret = tokens[scope]["Authorization"].removeprefix("Bearer ")
    answer = browser.post("/login", data={"token": secret, "next": to})
    assert (answer.status_code, answer.headers["location"]) == (303, to)


def test_without_a_session_every_page_leads_to_the_login(
    browser: TestClient, guarded_app: FastAPI
) -> None:
    id = new_search(services_of(guarded_app))
    there = f"/searches/{id}"
    for path, back in (
        ("/", "/"),
        (there, there),
        (f"{there}/front.html", there),
        (f"{there}/log", there),
        (f"{there}/mlflow", there),
    ):
        answer = browser.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, f"/login?next={back}")
        assert id not in answer.text
    assert browser.post(f"{there}/pause", data={}).headers["location"] == f"/login?next={there}"
    form = read(browser.get(f"/login?next={there}"))
    assert form.all("input", name="next", value=there)
    assert form.all("input", name="token", type="password")
    assert form.all("script")
    for name in static_files():
        assert browser.get(f"/static/{name}").status_code == 200
    # A token that is not valid is no browser's.
    read(browser.get("/", headers={"Authorization": "Bearer x"}), 401)


def test_a_wrong_token_is_told_at_the_form(browser: TestClient) -> None:
    answer = browser.post("/login", data={"token": "x"})
    found = read(browser.get(answer.headers["location"]))
    assert "not valid" in found.text
    assert found.all("input", **{"aria-invalid": "true"})
    assert not found.all("input", value="x")
    hostile = read(browser.get("/login", params={"next": f'/"{HOSTILE}'}))
    assert not hostile.all("img", src="x")


def test_a_session_acts_only_with_the_pages_own_token(
    browser: TestClient, guarded_app: FastAPI, tokens: dict[str, dict[str, str]]
) -> None:
    services = services_of(guarded_app)
    id = new_search(services, owner="submit")
    log_in(browser, tokens, "submit", f"/searches/{id}")
    found = read(browser.get(f"/searches/{id}"))
    assert "logged in as" in found.text
    (token,) = {each["value"] for each in found.all("input", name="csrf_token")}
    for data in ({}, {"csrf_token": ""}, {"csrf_token": token[:-1]}):
        assert "CSRF token" in read(browser.post(f"/searches/{id}/pause", data=data), 403).text
        assert services.serving.wish(id).desired == "run"
    answer = browser.post(f"/searches/{id}/pause", data={"csrf_token": token})
    assert answer.status_code == 303
    assert services.serving.wish(id).desired == "pause"
    assert browser.get("/logout").headers["location"] == "/login"
    assert "logged in as" in read(browser.get("/login")).text
    answer = browser.post("/logout", data={"csrf_token": token})
    assert answer.headers["location"] == "/login"
    assert browser.get("/").headers["location"] == "/login?next=/"


def test_who_may_not_act_sees_no_buttons(
    browser: TestClient, guarded_app: FastAPI, tokens: dict[str, dict[str, str]]
) -> None:
    id = new_search(services_of(guarded_app), owner="somebody")
    for scope, many in (("read", 0), ("submit", 0), ("admin", 2)):
        found = read(browser.get(f"/searches/{id}", headers=tokens[scope]))
        verbs = [each for each in found.all("form") if each["action"] != "/logout"]
        assert len(verbs) == many
        assert ("somebody may pause or cancel it" in found.text) == (not many)
        assert "somebody" in read(browser.get("/", headers=tokens[scope])).text
    denied = browser.post(f"/searches/{id}/pause", data={}, headers=tokens["submit"])
    assert "belongs to somebody" in read(denied, 403).text


# -- files -----------------------------------------------------------------------------------------


def test_static_files_are_kept_for_good_under_a_name_that_changes(client: TestClient) -> None:
    found = read(client.get("/"))
    names = {each["href"] for each in found.all("link")} | {found.all("script")[0]["src"]}
    assert len(names) == len(static_files()) == 3
    for name in names:
        answer = client.get(name)
        assert hashlib.sha256(answer.content).hexdigest()[:12] == name.split(".")[1]
        assert answer.headers["cache-control"] == FOREVER
        assert "http" not in answer.text.replace("http://www.w3.org/2000/svg", "")
    for name in ("page.000000000000.css", "../templates/base.html", "%2e%2e%2fapp.py"):
        assert client.get(f"/static/{name}").status_code == 404
