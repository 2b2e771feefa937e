"""Does the client give what the service has? Against the real one, over a real connection."""

import hashlib
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
from fastapi import FastAPI
from pydantic import BaseModel

import nas
from nas.client import Client, answers, catalog
from nas.client.answers import ListedSearch, Search
from nas.client.waiting import TextBar, progress_of
from nas.errors import (
    NotAllowed,
    OperationNotFound,
    SearchNotFound,
    SearchStateError,
    ServiceError,
    ServiceUnavailable,
    SpecError,
)
from nas.search.spec import load_spec
from nas.store.serving import SCOPES
from nas_services import schemas
from nas_services.app import create_app
from nas_services.dependencies import Services
from nas_services.routes import catalog as catalog_routes
from nas_services.routes import spaces as space_routes
from tests.cli.terminal import SMALL, SPACE, written
from tests.client.live import serving
from tests.report.samples import controls, request, searched
from tests.services.launcher import StubLauncher
from tests.services.records import (
    held,
    import_trials,
    new_search,
    set_state,
    trade_off,
)

SPEC = {**SMALL, "name": "client-test"}


# -- searches --------------------------------------------------------------------------------------


def test_a_search_from_its_submission_to_its_end(client: Client, services: Services) -> None:
    begun = client.submit(SPEC, {"budget.trials": 7})
    assert (begun.state, begun.owner, begun.name) == ("queued", "local", "client-test")
    found = client.get(begun.id)
    assert found.spec == load_spec(SPEC, {"budget.trials": 7}).to_json()
    assert found.progress["search"].planned == 7
    assert found.allowed == ("pause", "cancel")
    assert client.pause(begun.id).desired == "pause"
    assert client.pause(begun.id[:8]).desired == "pause"
    set_state(services, begun.id, "paused")
    assert client.resume("last").desired == "run"
    set_state(services, begun.id, "succeeded")
    with pytest.raises(SearchStateError, match="resume is not possible"):
        client.resume(begun.id)
    client.delete(begun.id)
    with pytest.raises(SearchNotFound):
        client.get(begun.id)
    kept, gone = client.submit(SPEC), client.submit(SPEC)
    for each in (kept, gone):
        set_state(services, each.id, "failed")
    client.delete("last")
    assert [each.id for each in client.searches()] == [kept.id]
    other = client.submit(SPEC)
    assert client.cancel(other.id).state == "cancelling"
    with pytest.raises(SearchStateError, match="delete"):
        client.delete(other.id)


def test_a_request_may_come_as_anything(client: Client, tmp_path: Path) -> None:
    space = written(tmp_path / "space.yaml", SPACE)
    given: list[Any] = [
        SPEC,
        load_spec(SPEC),
        written(tmp_path / "spec.yaml", SPEC),
        str(tmp_path / "spec.yaml"),
        # The service reads no file for anybody; who asks does.
        {**SPEC, "space": str(space)},
        {**SPEC, "space": space},
        {**SPEC, "space": SPACE},
    ]
    named = [client.get(client.submit(each).id).space for each in given]
    assert named == ["digits_tiny"] * 4 + ["tiny"] * 3


def test_under_one_key_a_search_is_made_once(client: Client) -> None:
    assert client.submit(SPEC, key="one").id == client.submit(SPEC, key="one").id
    assert len(list(client.searches())) == 1
    with pytest.raises(ValueError, match="key"):
        client.submit(SPEC, {"seed": 9}, key="one")


def test_what_is_wrong_is_told_by_its_place(client: Client) -> None:
    with pytest.raises(SpecError, match=r"/budget/trials: "):
        client.submit(SPEC, {"budget.trials": 0})
    with pytest.raises(SpecError, match=r"/tsk: "):
        client.check({**SPEC, "tsk": 3})
    with pytest.raises(SpecError, match="no architecture"):
        client.submit({**SPEC, "constraints": ["flops <= 1"]})
    with pytest.raises(SearchNotFound):
        client.submit(SPEC, warm_start="01JD0000000000000000000000")
    assert list(client.searches()) == []


def test_a_request_is_looked_through_without_being_submitted(client: Client) -> None:
    found = client.check(SPEC, {"constraints": ["flops <= 2e5"]})
    spec = load_spec(found.spec)
    assert found.size == spec.search_space.size
    assert found.costs["flops"].smallest < 2e5 < found.costs["flops"].largest
    assert found.feasible is not None
    assert 0 < found.feasible.share < 1
    assert client.check(SPEC).feasible is None
    assert list(client.searches()) == []


def test_searches_are_listed_over_all_pages(client: Client, services: Services) -> None:
    made = [new_search(services, name=f"n{i % 2}", owner=f"o{i % 3}") for i in range(7)]
    set_state(services, made[0], "failed", error="so it is")
    listed = list(client.searches(page_size=2))
    assert [each.id for each in listed] == made[::-1]
    assert {type(each) for each in listed} == {ListedSearch}
    assert [each.id for each in client.searches(name="n1", page_size=1)] == made[5::-2]
    assert [each.id for each in client.searches(owner="o0")] == [made[6], made[3], made[0]]
    assert [(each.id, each.error) for each in client.searches(state="failed")] == [
        (made[0], "so it is")
    ]
    both = client.searches(state=["failed", "queued"], page_size=3)
    assert [each.id for each in both] == made[::-1]
    with pytest.raises(SpecError, match="/query/state"):
        list(client.searches(state="dreaming"))


# -- what was found --------------------------------------------------------------------------------


@pytest.fixture
def scored(services: Services) -> str:
    """A search with a front and a control."""
    spec = request()
    id = new_search(services, **spec.to_json())
    import_trials(services, id, [*searched(spec, 30), *controls(spec, 8, 1)])
    return id


def test_trials_are_those_of_the_record(client: Client, services: Services, scored: str) -> None:
    kept = services.store.trials(scored)
    found = list(client.trials(scored, page_size=7))
    assert sorted((each.role, each.index) for each in found) == sorted(
        (each.role, each.index) for each in kept
    )
    by_place = {(each.role, each.index): each for each in kept}
    for each in found:
        ours = by_place[each.role, each.index]  # type: ignore[index]
        assert each.metrics == dict(ours.metrics)
        assert nas.Architecture.from_json(each.architecture) == ours.architecture
    control = list(client.trials(scored, role="random", state="succeeded"))
    assert {each.role for each in control} == {"random"}
    assert client.trial(found[3].id) == found[3]
    assert client.config(found[3].architecture_id).searches[0].trials[0] == found[3]
    with pytest.raises(ServiceError, match="no trial") as caught:
        client.trial(f"{scored}.search.999")
    assert caught.value.status == 404


def test_the_front_is_a_table(client: Client, scored: str) -> None:
    front = client.front(scored)
    frame = front.frame()
    assert list(frame["index"]) == [each.index for each in front.members]
    for name in ("cross_entropy", "flops"):
        assert list(frame[name]) == [each.metrics[name] for each in front.members]
    assert [json.loads(each) for each in frame["architecture"]] == [
        each.architecture for each in front.members
    ]
    bound = sorted(each.metrics["flops"] for each in front.members)[1]
    kept = client.front(scored, [f"flops <= {bound}", "cross_entropy <= 100"])
    assert [each.index for each in kept.members] == [
        each.index for each in front.members if each.metrics["flops"] <= bound
    ]
    assert len(kept.later_constraints) == 2
    assert kept.members[0].sources["flops"] == "exact"
    with pytest.raises(SpecError, match="/query/constraint"):
        client.front(scored, ["flops < 3"])


def test_a_metric_may_have_any_name(client: Client, scored: str) -> None:
    front = client.front(scored)
    odd = front.members[0].model_copy(update={"metrics": {"index": 0.5, "loss": 1.0}})
    frame = front.model_copy(update={"members": (odd,)}).frame()
    assert list(frame.columns) == [
        "index", "architecture_id", "index_metric", "loss", "architecture",
    ]  # fmt: skip
    assert (frame["index"][0], frame["index_metric"][0]) == (odd.index, 0.5)


def test_a_front_without_members_is_a_table(client: Client) -> None:
    frame = client.front(client.submit(SPEC).id).frame()
    assert list(frame.columns) == ["index", "architecture_id", "architecture"]
    assert len(frame) == 0


def test_history_and_fidelity(client: Client, scored: str) -> None:
    history = client.history(scored)
    assert len(history.curve.hypervolume) == len(history.curve.time) == 30
    assert list(history.curve.hypervolume) == sorted(history.curve.hypervolume)
    assert history.at_equal_trials is not None
    assert history.at_equal_trials.trials == 8
    fidelity = client.fidelity(scored)
    assert fidelity.gate.verdict == "not known"
    assert fidelity.supernet is None


def test_files_come_home(client: Client, services: Services, scored: str, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="its report is written when it ends") as caught:
        client.pareto_html(scored)
    assert caught.value.status == 404
    folder = services.settings.place.report(scored)
    folder.mkdir(parents=True)
    content = {"pareto.html": b"<h1>\xc3\xb6</h1>", "trials.parquet": bytes(range(256)) * 9000}
    with held(services, scored) as lease:
        for name, data in content.items():
            (folder / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            services.store.set_artifact(lease, name, str(folder / name), digest)
    found = {each.name: each for each in client.artifacts(scored)}
    assert {name: each.size for name, each in found.items()} == {
        name: len(data) for name, data in content.items()
    }
    for name, data in content.items():
        assert client.download(found[name], tmp_path).read_bytes() == data
    # In the middle of a file, as where a line dropped.
    sha = found["trials.parquet"].sha256
    whole = content["trials.parquet"]
    (tmp_path / f".mine.{sha[:16]}.part").write_bytes(whole[:70_000])
    assert client.download(found["trials.parquet"], tmp_path / "mine").read_bytes() == whole
    assert client.pareto_html(scored) == "<h1>ö</h1>"


# -- as it happens ---------------------------------------------------------------------------------


def test_events_are_told_as_they_happen(client: Client, services: Services) -> None:
    id = new_search(services)
    for each in trade_off(3):
        import_trials(services, id, [each])
    found = client.events("last")
    first = next(found)
    set_state(services, id, "running", phase="search")
    set_state(services, id, "succeeded", phase="report")
    told = [first, *found]
    assert [each.kind for each in told][-1] == "end"
    assert told[-1].data["state"] == "succeeded"
    assert [each.id for each in told] == sorted(each.id for each in told)
    again = list(client.events(id, after=told[1].id))
    assert again == told[2:]
    with pytest.raises(SearchNotFound):
        client.events("01JD0000000000000000000000")


def test_events_go_on_when_the_service_is_started_again(app: FastAPI, services: Services) -> None:
    id = new_search(services)
    set_state(services, id, "running", phase="search")
    with serving(app) as url:
        client = Client(url)
        found = client.events(id)
        first = next(found)
    # The line has dropped; whoever listens finds out, and comes again.
    again = create_app(services.settings, launcher=StubLauncher(), start_reconciler=False)
    set_state(again.state.services, id, "succeeded")
    with serving(again, int(url.rpartition(":")[2])):
        rest = list(found)
    assert rest[-1].kind == "end"
    ids = [each.id for each in (first, *rest[:-1])]
    assert ids == sorted(set(ids))


def test_logs_are_the_lines_of_all_attempts(
    client: Client, services: Services, launcher: StubLauncher
) -> None:
    id = new_search(services)
    for number, text in enumerate(("one\ntwo\n", "three\n"), 1):
        attempt = services.serving.begin_attempt(id, number - 1)
        assert attempt is not None
        launcher.written[attempt.job] = text
        services.serving.end_attempt(id, number, "lost")
    set_state(services, id, "failed", error="so it is")
    services.hub.logs.seconds = 0.05
    found = [(each.attempt, each.text) for each in client.logs(id)]
    assert found == [(1, "one"), (1, "two"), (2, "three")]


def test_a_search_is_waited_for(client: Client, services: Services) -> None:
    id = new_search(services)
    states: list[str] = []

    def hear(found: Search) -> None:
        states.append(found.state)
        following = {"queued": "running", "running": "succeeded"}.get(found.state)
        if following:
            set_state(services, id, following, phase="search")  # type: ignore[arg-type]

    assert client.wait("last", hear, every=0).state == "succeeded"
    assert states == ["queued", "running", "succeeded"]
    assert client.wait(id, bar=True).ended
    other = new_search(services)
    assert client.wait(other, timeout=0.0).state == "queued"
    assert client.wait(other, until=lambda found: found.state == "queued").id == other


def test_a_service_that_is_away_is_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = client.submit(SPEC).id
    real, asked = client.get, []

    def away(search: str) -> Search:
        asked.append(search)
        if len(asked) in (2, 3):
            raise ServiceUnavailable("away")
        return real(search)

    monkeypatch.setattr(client, "get", away)
    assert client.wait(id, every=0, until=lambda _: len(asked) > 4).id == id
    asked.clear()
    with pytest.raises(ServiceUnavailable):
        client.wait(id, every=0, patience=0)


def test_a_bar_shows_how_far_it_is(
    client: Client, services: Services, capsys: pytest.CaptureFixture[str]
) -> None:
    id = client.submit(SPEC, {"budget.trials": 4, "controls.random": 3}).id
    bar = TextBar()
    for phase, trials in (
        ("supernet", []),
        ("search", trade_off(2)),
        ("controls", [*trade_off(4)[2:], *trade_off(1, "random")]),
        ("report", []),
    ):
        set_state(services, id, "running", phase=phase)
        import_trials(services, id, trials)
        bar(client.get(id))
    set_state(services, id, "succeeded", phase="report")
    bar(client.get(id))
    steps = [(each.phase, each.done, each.total) for each in progress_of(client.get(id))]
    assert steps == [("supernet", 1, 1), ("search", 4, 4), ("random", 1, 3), ("report", 1, 1)]
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("] ")[2].split()[0] for line in lines] == [
        "0/1", "2/4", "1/3", "0/1", "1/1",
    ]  # fmt: skip
    assert lines[1].startswith("client-test running: search [###############---------------] 2/4")


# -- the rest --------------------------------------------------------------------------------------


def test_operations(client: Client, services: Services) -> None:
    with services.serving.once("local", None, "") as once:
        made = once.create_operation("train", "abc", owner="local")
    assert client.operation(made.id).state == "queued"
    assert client.cancel_operation(made.id).state == "cancelled"
    assert client.cancel_operation(made.id).state == "cancelled"
    with pytest.raises(OperationNotFound):
        client.operation("nothing")


def test_spaces_and_parts(client: Client) -> None:
    spaces = {each.name: each for each in client.spaces()}
    tiny = nas.load_space("digits_tiny")
    assert (spaces["digits_tiny"].size, spaces["digits_tiny"].digest) == (tiny.size, tiny.digest)
    assert client.space("digits_tiny").choices == tiny.to_json()
    for given in (tiny, tiny.to_json(), "digits_tiny"):
        found = client.validate_space(given, "digits", ["flops <= 2e5"])
        assert found.size == tiny.size
        assert found.costs is not None
        assert found.feasible is not None
        assert found.task is not None
        assert found.task.name == "digits"
    assert client.validate_space(SPACE).costs is None
    with pytest.raises(SpecError, match="/space/wdth"):
        client.validate_space({**SPACE, "wdth": 3})
    with pytest.raises(SpecError, match="unknown name"):
        client.validate_space("digits_tniy")
    with pytest.raises(ServiceError, match="No space is called"):
        client.space("nothing")
    assert "digits" in {each.name for each in client.tasks()}
    assert "softmax" in {each.name for each in client.attentions()}
    assert "evolution" in {each.name for each in client.strategies()}
    assert isinstance(client.exporters(), list)


def test_version_and_health(client: Client, launcher: StubLauncher) -> None:
    assert client.version().api == "v1"
    assert client.health().ready
    launcher.away = True
    health = client.health()
    assert (health.ready, health.checks) == (False, {"record": True, "jobs": False})


def test_a_token_opens_what_its_scopes_say(services: Services) -> None:
    guarded = create_app(
        replace(services.settings, require_tokens=True),
        launcher=StubLauncher(),
        start_reconciler=False,
    )
    tokens = {each: services.serving.add_token(each, [each])[1] for each in SCOPES}
    with serving(guarded) as url:
        for given in (None, "etnas_unknown"):
            with Client(url, given) as client, pytest.raises(NotAllowed):
                client.get("last")
        with (
            Client(url, tokens["read"]) as reader,
            Client(url, tokens["submit"]) as submitter,
            Client(url, tokens["admin"]) as admin,
        ):
            with pytest.raises(NotAllowed, match="scope submit"):
                reader.submit(SPEC)
            id = submitter.submit(SPEC).id
            assert reader.get(id).owner == "submit"
            with pytest.raises(NotAllowed):
                reader.cancel(id)
            assert admin.cancel(id).state == "cancelling"


def test_threads_share_a_client(client: Client) -> None:
    ids: list[str] = []
    threads = [
        threading.Thread(target=lambda: ids.append(client.submit(SPEC).id)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 8
    assert {each.id for each in client.searches(page_size=3)} == set(ids)


# -- what goes over the wire -----------------------------------------------------------------------

PAIRS: list[tuple[type[BaseModel], type[BaseModel]]] = [
    (schemas.SearchShown, answers.ListedSearch),
    (schemas.SearchDetail, answers.Search),
    (schemas.DryRun, answers.DryRun),
    (schemas.TrialShown, answers.Trial),
    (schemas.FrontShown, answers.Front),
    (schemas.HistoryShown, answers.History),
    (schemas.FidelityShown, answers.Fidelity),
    (schemas.ConfigShown, answers.Config),
    (schemas.ArtifactShown, answers.Artifact),
    (schemas.OperationShown, answers.Operation),
    (space_routes.SpaceShown, catalog.Space),
    (space_routes.SpaceDetail, catalog.SpaceDetail),
    (space_routes.SpaceOutlook, catalog.SpaceOutlook),
    (catalog_routes.Entry, catalog.Part),
    (catalog_routes.TaskEntry, catalog.Task),
    (catalog_routes.AttentionEntry, catalog.Attention),
]


@pytest.mark.parametrize(("sent", "read"), PAIRS, ids=lambda model: model.__name__)
def test_the_client_reads_every_field_that_is_sent(
    sent: type[BaseModel], read: type[BaseModel]
) -> None:
    assert list(_differences(sent, read)) == []


def _differences(sent: type[BaseModel], read: type[BaseModel]) -> Iterator[str]:
    for name, field in sent.model_fields.items():
        if name == "valid":
            continue
        ours = read.model_fields.get(name)
        if ours is None:
            yield f"{read.__name__} lacks {name}"
            continue
        if type(None) in get_args(field.annotation) and type(None) not in get_args(ours.annotation):
            yield f"{read.__name__}.{name} may be null"
        pairs = zip(_models(field.annotation), _models(ours.annotation), strict=True)
        for theirs, own in pairs:
            yield from _differences(theirs, own)


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) is None:
        return []
    return [model for each in get_args(annotation) for model in _models(each)]
