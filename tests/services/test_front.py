"""Are front, history and fidelity those that the report tells of the same trials?"""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from nas.cost.forecast import FORECASTS, learnt, to_text
from nas.report.fidelity import fidelity, judge
from nas.report.history import history_of
from nas.report.prediction import predicted_costs
from nas.search.extent import EXTENT
from nas.search.fidelity import RANKER_TEST, Agreements, RankerTest, networks_to_train
from nas.search.pareto import ParetoFront, front_of
from nas.search.rank_correlation import RankAgreement
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Measurement, Trial, TrialRole
from nas.space.architecture import Architecture
from nas_services import findings
from nas_services.dependencies import Services
from nas_services.findings import Found
from tests.report.samples import COST, controls, proxy, request, searched
from tests.services.records import (
    add_facts,
    add_trials,
    import_trials,
    new_search,
    scored,
    services_of,
    set_state,
    trade_off,
)
from tests.store.conformance import SPEC

SEARCHES = "/api/v1/searches"


@pytest.fixture
def services(app: FastAPI) -> Services:
    """The service's parts."""
    return services_of(app)


def recorded(services: Services, spec: SearchSpec, trials: list[Trial], **facts: str) -> str:
    """A search of this request with these trials."""
    id = new_search(services, **spec.to_json())
    import_trials(services, id, trials)
    if facts:
        add_facts(services, id, facts)
    return id


def shown(client: TestClient, search: str, path: str, **query: Any) -> dict[str, Any]:
    answer = client.get(f"{SEARCHES}/{search}/{path}", params=query)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


# -- front -----------------------------------------------------------------------------------------


def test_the_front_is_the_one_of_the_trials(client: TestClient, services: Services) -> None:
    spec = request()
    trials = searched(spec, 40) + controls(spec, 10, 1)
    lost = Trial("search", 40, trials[0].architecture, Measurement.failed("lost"))
    id = recorded(services, spec, [*trials, lost])
    found = shown(client, id, "pareto")
    members = front_of(spec, trials).members
    assert [each["trial"] for each in found["members"]] == [
        f"{id}.search.{m.index}" for m in members
    ]
    for each, member in zip(found["members"], members, strict=True):
        assert each["metrics"] == dict(member.metrics)
        assert each["architecture"] == member.architecture.to_json()
        assert each["architecture_id"] == member.architecture.id
        assert (each["sources"]["flops"], each["sources"]["cross_entropy"]) == ("exact", "scored")
    assert (found["scored"], found["state"]) == (40, "queued")
    assert [each["name"] for each in found["objectives"]] == ["cross_entropy", "flops"]


def test_constraints_leave_those_that_keep_them(client: TestClient, services: Services) -> None:
    id = new_search(services)
    add_trials(services, id, trade_off(12))
    everything = shown(client, id, "pareto")["members"]
    kept = shown(client, id, "pareto", constraint=["flops<=7e6", "flops >= 2e6"])
    assert [m["index"] for m in kept["members"]] == [
        m["index"] for m in everything if 2e6 <= m["metrics"]["flops"] <= 7e6
    ]
    assert kept["later_constraints"] == ["flops <= 7000000", "flops >= 2000000"]
    assert shown(client, id, "pareto", constraint="flops <= 1")["members"] == []
    # One that is kept by others than those that were on the whole front.
    few = shown(client, id, "pareto", constraint="cross_entropy >= 0.6")
    wanted = ParetoFront.of(
        [t for t in trade_off(12) if t.metrics["cross_entropy"] >= 0.6],
        load_spec(SPEC).parsed_objectives,
    )
    assert [m["index"] for m in few["members"]] == [m.index for m in wanted.members]


@pytest.mark.parametrize(
    "constraint",
    [
        "flops",
        "flops < 3",
        "flops <= nan",
        "flops <= -1",
        "colour <= 3",
        "",
        "a" * 999,
        f"flops<={'0' * 250}5",
    ],
)
def test_a_constraint_that_is_none_is_pointed_at(
    client: TestClient, services: Services, constraint: str
) -> None:
    id = new_search(services)
    add_trials(services, id, trade_off(2))
    answer = client.get(f"{SEARCHES}/{id}/pareto", params={"constraint": constraint})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"].startswith("/query/constraint")


def test_a_front_follows_every_trial(client: TestClient, services: Services) -> None:
    id = new_search(services)
    assert shown(client, id, "pareto")["members"] == []
    for count, each in enumerate(trade_off(8), 1):
        add_trials(services, id, [each])
        # As the hub says of every event that it hears of.
        services.findings.told([id])
        found = shown(client, id, "pareto")
        wanted = ParetoFront.of(trade_off(count), load_spec(SPEC).parsed_objectives)
        assert [m["index"] for m in found["members"]] == [m.index for m in wanted.members]
    set_state(services, id, "succeeded")
    services.findings.told([id])
    assert shown(client, id, "pareto")["state"] == "succeeded"


def test_predicted_figures_give_way_to_measured_ones(
    client: TestClient, services: Services
) -> None:
    spec = request(objectives=["cross_entropy", "latency_ms"])
    rng = random.Random(0)

    def took(built: Architecture) -> float:
        return 1 + sum(
            {"softmax": 1.0, "linear": 0.5}.get(each.type, 2.0) for each in built.attentions
        )

    def made(role: TrialRole, index: int, built: Architecture, factor: float = 1.0) -> Trial:
        metrics = {**COST(built), "latency_ms": factor * took(built)}
        metrics |= {} if role == "timed" else {"cross_entropy": proxy(built)}
        return Trial(role, index, built, Measurement.of(metrics, 1.0))

    timed = [made("timed", i, spec.search_space.sample(rng)) for i in range(40)]
    drawn = dict.fromkeys(spec.search_space.sample(rng) for _ in range(30))
    trials = [made("search", i, each) for i, each in enumerate(drawn)]
    best = front_of(spec, trials).members[0]
    again = made("remeasured", 0, best.architecture, 1.25)
    facts = {FORECASTS: to_text(learnt(spec, timed))}
    id = recorded(services, spec, [*timed, *trials, again], **facts)
    members = {m["architecture_id"]: m for m in shown(client, id, "pareto")["members"]}
    truly = front_of(spec, [*timed, *trials, again]).members
    assert list(members) == [each.architecture.id for each in truly]
    for key, member in members.items():
        measured = key == best.architecture.id
        assert member["sources"]["latency_ms"] == ("measured" if measured else "predicted")
    assert members[best.architecture.id]["metrics"]["latency_ms"] == again.metrics["latency_ms"]
    predicted = shown(client, id, "fidelity")["predicted"]
    (wanted,) = predicted_costs(spec, [*timed, *trials, again], facts)
    assert wanted.errors is not None
    assert [each["metric"] for each in predicted] == ["latency_ms"]
    assert predicted[0]["mape"] == wanted.errors.mape
    assert predicted[0]["front_median_error"] == pytest.approx(0.2)


# -- history ---------------------------------------------------------------------------------------


def test_the_history_is_the_reports(client: TestClient, services: Services) -> None:
    spec = request()
    trials = searched(spec, 30) + controls(spec, 20, 0)
    id = recorded(services, spec, trials)
    wanted = history_of(spec, trials, "")
    assert wanted is not None
    assert wanted.random is not None
    found = shown(client, id, "pareto/history")
    assert found["curve"]["hypervolume"] == list(wanted.search)
    assert len(found["curve"]["time"]) == 30
    assert found["random"] == {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in asdict(wanted.random).items()
    }
    assert found["reference"] == {axis.metric: axis.worst for axis in wanted.extent.axes}
    assert found["at_equal_trials"]["trials"] == 20
    # The extent that the record has stands, whatever the request would give today.
    moved = replace(wanted.extent.axes[1], worst=wanted.extent.axes[1].worst * 2)
    extent = replace(wanted.extent, axes=(wanted.extent.axes[0], moved))
    add_facts(services, id, {EXTENT: extent.to_text()})
    set_state(services, id, "succeeded")
    services.findings.told([id])
    assert shown(client, id, "pareto/history")["reference"]["flops"] == moved.worst


def test_without_a_trial_there_is_no_curve(client: TestClient, services: Services) -> None:
    answer = client.get(f"{SEARCHES}/{new_search(services)}/pareto/history")
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("no-history")


# -- fidelity --------------------------------------------------------------------------------------


def test_fidelity_is_the_reports(client: TestClient, services: Services) -> None:
    spec = request()
    trials = searched(spec, 40) + controls(spec, 40, 2)
    alone = [
        Trial(
            "fidelity",
            i,
            t.architecture,
            Measurement.of({"cross_entropy": t.metrics["cross_entropy"] / 2}),
        )
        for i, t in enumerate(networks_to_train(spec, trials))
    ]
    good, weak = RankAgreement(0.8, 0.7, 0.9, 60), RankAgreement(0.2, 0.0, 0.4, 60)
    tried = RankerTest("boosted", 50, Agreements(good, weak, weak))
    facts = {RANKER_TEST: tried.to_text()}
    id = recorded(services, spec, [*trials, *alone], **facts)
    wanted = fidelity(spec, [*trials, *alone], facts)
    assert wanted is not None
    found = shown(client, id, "fidelity")
    verdict = asdict(judge(spec.gate, wanted, tried))
    assert found["gate"] == {**verdict, "reasons": list(verdict["reasons"])}
    assert found["gate"]["verdict"] == "passed"
    assert found["supernet"]["agreements"] == asdict(wanted.agreements)
    assert (found["supernet"]["planned"], found["supernet"]["trained"]) == (len(alone), len(alone))
    assert found["ranker"]["agreements"] == asdict(tried)["agreements"]
    assert found["predicted"] == []


def test_what_was_not_checked_is_said_to_be_unknown(client: TestClient, services: Services) -> None:
    found = shown(client, new_search(services), "fidelity")
    assert found["gate"]["verdict"] == "not known"
    assert (found["supernet"], found["ranker"], found["predicted"]) == (None, None, [])


# -- what is held ----------------------------------------------------------------------------------


def test_one_answer_serves_all_who_ask_at_once(services: Services) -> None:
    id = new_search(services)
    add_trials(services, id, trade_off(3))
    made: list[int] = []
    together = threading.Barrier(8)

    def make(found: Found) -> bytes:
        made.append(len(found.trials))
        return b"answer"

    def ask(_: int) -> bytes:
        together.wait()
        return services.findings.answer(id, "question", make)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"answer"}
    assert made == [3]
    services.findings.told([id])
    services.findings.answer(id, "question", make)
    assert made == [3]
    add_trials(services, id, [scored(3, 1, 1)])
    services.findings.told([id])
    services.findings.answer(id, "question", make)
    assert made == [3, 4]


@pytest.fixture
def reads(services: Services, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Searches whose trials are read, with the place behind which they are."""
    asked: list[tuple[str, int]] = []
    real = services.serving.scores

    def scores(search: str, after: int = 0) -> Any:
        asked.append((search, after))
        return real(search, after)

    monkeypatch.setattr(services.serving, "scores", scores)
    return asked


def counted(found: Found) -> bytes:
    return str(len(found.trials)).encode()


def test_only_what_is_new_is_read(services: Services, reads: list[tuple[str, int]]) -> None:
    id = new_search(services)
    add_trials(services, id, trade_off(5))
    for count in range(3):
        add_trials(services, id, [scored(5 + count, 1, 1)])
        services.findings.told([id])
        assert services.findings.answer(id, count, counted) == str(6 + count).encode()
    assert reads == [(id, 0), (id, 6), (id, 7)]


def test_no_more_is_held_than_there_is_room_for(
    services: Services, reads: list[tuple[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(findings, "MOST_TRIALS", 10)
    ids = [new_search(services) for _ in range(4)]
    for id in ids:
        import_trials(services, id, trade_off(4))
    for id in [*ids, ids[0], ids[3]]:
        assert services.findings.answer(id, "question", counted) == b"4"
    # The first was given up for others and read anew; the last one was held all the time.
    assert [id for id, after in reads if after == 0] == [*ids, ids[0]]


def test_a_slow_answer_may_be_a_little_behind_a_search_that_runs(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    id = new_search(services)
    now = [100.0]
    monkeypatch.setattr(findings, "monotonic", lambda: now[0])

    def make(found: Found) -> bytes:
        now[0] += 2
        return str(len(found.trials)).encode()

    def ask() -> bytes:
        services.findings.told([id])
        return services.findings.answer(id, "slow", make, slow=True)

    assert ask() == b"0"
    add_trials(services, id, [scored(0, 1, 1)])
    assert ask() == b"0"
    now[0] += 2 * findings.PATIENCE + 1
    assert ask() == b"1"
    add_trials(services, id, [scored(1, 1, 1)])
    assert ask() == b"1"
    # Once it has ended nothing is behind.
    set_state(services, id, "succeeded")
    assert ask() == b"2"
