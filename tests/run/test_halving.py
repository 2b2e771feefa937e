"""Are those confirmed whom training alone leaves of the shortlist, whenever it is interrupted?"""

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional

from nas import catalog
from nas.errors import TrainingDiverged
from nas.report.files import pareto_json
from nas.report.summary import summarize
from nas.run import confirm, evaluate, running
from nas.run.evaluate import Evaluator, Setup
from nas.run.halving import members
from nas.run.running import EvaluationBroken, Update
from nas.run.workspace import Workspace
from nas.search.halving import Rung, shortlist
from nas.search.pareto import front_of
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Proposal, Standing, Trial, TrialRole
from nas.space.architecture import Architecture
from nas.store.sql import SqlStore
from nas.train.loop import Progress
from nas.train.standalone import load_standalone, standalone_file, train_standalone
from tests.run.cases import (
    RECIPE,
    copy_of,
    facts,
    finish,
    no_projector,
    outcome,
    place_in,
    short_report,
)
from tests.run.cases import request as small
from tests.search.test_survival import brute_force

pytestmark = pytest.mark.usefixtures("without_mlflow")

CONFIRMATION = {"members": 2, "seeds": 2, "flops_tolerance": 0.2, "shortlist": 6}


def request(**changes: Any) -> SearchSpec:
    """A search whose front has more members than enter the first rung."""
    return small(
        **{
            "budget": {"trials": 60},
            "supernet": {**RECIPE, "steps": 150, "learning_rate": 0.005},
            "controls": {"random": 0, "homogeneous": 1},
            "confirmation": CONFIRMATION,
            **changes,
        }
    )


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A finished search that nobody confirms: each test takes a copy."""
    place = place_in(tmp_path_factory.mktemp("searched"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        return place, finish(request(), place).id


@pytest.fixture
def copied(searched: tuple[Workspace, str], tmp_path: Path) -> Callable[..., tuple[Workspace, str]]:
    """Makes a copy of the search, whose request may differ in what a confirmation takes."""
    place, id = searched

    def copy(**changes: Any) -> tuple[Workspace, str]:
        found = copy_of(place, tmp_path / "copy")
        rewrite(found, id, **changes)
        return found, id

    return copy


def rewrite(place: Workspace, id: str, **changes: Any) -> None:
    given = SqlStore(place.record_url).get(id).spec | changes
    with closing(sqlite3.connect(place.root / "record.db")) as record, record:
        record.execute(
            "UPDATE nas_searches SET spec = ?", (json.dumps(load_spec(given).to_json()),)
        )


@pytest.fixture(scope="module")
def confirmed(
    searched: tuple[Workspace, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, str]:
    """The search, confirmed without a disturbance."""
    place, id = searched
    found = copy_of(place, tmp_path_factory.mktemp("confirmed") / "home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        confirm.confirm(id, found, reporter=short_report)
    return found, id


def of(place: Workspace, id: str, role: TrialRole) -> list[Trial]:
    return SqlStore(place.record_url).trials(id, role)


def by_rung(trials: Sequence[Trial]) -> list[tuple[Rung, list[Trial]]]:
    """The rungs in order, each with its trials."""
    found: dict[Rung, list[Trial]] = {}
    for trial in trials:
        found.setdefault(Rung.of(trial), []).append(trial)
    return sorted(found.items(), key=lambda item: item[0].number)


def chosen(place: Workspace, id: str) -> list[Architecture]:
    """Whom a confirmation would take, after all that has to be trained for it."""
    with running.holding(id, place, lambda _: None) as held:
        return [trial.architecture for trial in members(held)]


@contextmanager
def training(
    patch: pytest.MonkeyPatch, before: Callable[[Architecture, int | None], None]
) -> Iterator[list[tuple[str, int | None, list[int]]]]:
    """Calls `before` each training alone; gives (architecture, until, steps reported) of each."""
    seen: list[tuple[str, int | None, list[int]]] = []

    def told(architecture: Architecture, *rest: Any, **how: Any) -> Iterator[Progress]:
        before(architecture, how["until"])
        steps: list[int] = []
        seen.append((architecture.id, how["until"], steps))
        for progress in train_standalone(architecture, *rest, **how):
            steps.append(progress.step)
            yield progress

    with patch.context() as patched:
        patched.setattr(evaluate, "train_standalone", told)
        yield seen


def test_each_rung_is_what_the_rule_leaves_of_the_one_before(
    confirmed: tuple[Workspace, str],
) -> None:
    place, id = confirmed
    rungs = by_rung(of(place, id, "rung"))
    assert [rung for rung, _ in rungs] == [
        Rung(1, 5, "scratch", 6),
        Rung(2, 10, "scratch", 3),
        Rung(3, 20, "scratch", 2),
    ]
    listed = shortlist(request(), of(place, id, "search"))
    expected = [trial.architecture for trial in listed]
    assert len(front_of(request(), of(place, id, "search")).members) > len(expected)
    for (rung, trials), left in zip(rungs, (3, 2, 2), strict=True):
        assert [trial.architecture for trial in trials] == expected
        assert len(trials) == rung.entrants
        losses = np.array([[t.metrics["cross_entropy"], t.metrics["flops"]] for t in trials])
        rows = brute_force(losses, left, [0.0] * len(trials), leading=0)
        expected = [trials[row].architecture for row in rows]
    trained = of(place, id, "confirmed")
    assert all(trial.succeeded for trial in trained)
    members = [t.architecture for t in trained if Standing.of(t).attention is None]
    assert set(members) == set(expected)
    assert len(members) == 2 * len(expected)


def test_a_rung_s_networks_are_scored_on_validation_examples_as_they_stand(
    confirmed: tuple[Workspace, str], tmp_path: Path
) -> None:
    place, id = confirmed
    spec, task = request(), catalog.TASKS.load("digits")
    data = task.load(task.options_model(), place.data_root)
    chosen = data.validation()
    for rung, trials in by_rung(of(place, id, "rung")):
        trial = trials[0]
        given: dict[str, Any] = {"seed": 0, "folder": tmp_path, "device": "cpu"}
        list(train_standalone(trial.architecture, spec, data, until=rung.steps, **given))
        network = load_standalone(trial.architecture, spec, at=rung.steps, **given)
        with torch.inference_mode():
            scores = network(data.normalise(chosen.images)).double()
        loss = float(functional.cross_entropy(scores, chosen.labels))
        assert trial.metrics["cross_entropy"] == pytest.approx(loss, rel=1e-5)
        hits = float((scores.argmax(1) == chosen.labels).double().mean())
        assert trial.metrics["accuracy"] == pytest.approx(hits)
        assert {"flops", "params"} < set(trial.metrics)
        assert not any(name.startswith("test_") for name in trial.metrics)


def test_the_report_shows_rungs_and_the_front_of_trained_networks(
    confirmed: tuple[Workspace, str],
) -> None:
    place, id = confirmed
    trials = SqlStore(place.record_url).trials(id)
    shown = json.loads(pareto_json(summarize(request(), trials), id, {}))
    assert [len(rung["entrants"]) for rung in shown["rungs"]] == [6, 3, 2]
    went = [sum(e["goes_on"] for e in rung["entrants"]) for rung in shown["rungs"]]
    assert went == [3, 2, 2]
    front = shown["confirmation"]["front"]
    assert front["judged_by"] == {"cross_entropy": "test_cross_entropy", "flops": "flops"}
    assert sum(each["member"] for each in front["networks"]) == 2
    assert any("Successive halving chose whom to confirm: 6" in each for each in shown["words"])


def test_training_goes_on_and_never_begins_again(
    copied: Callable[..., tuple[Workspace, str]],
    confirmed: tuple[Workspace, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Interrupted within a rung, between a training and its record, and within the confirmation."""
    place, id = copied()
    stops = {("rung", 2), ("rung", 7), ("confirmed", 1)}

    def stop(update: Update) -> None:
        if (update.phase, update.done) in stops:
            stops.remove((update.phase, update.done))
            raise KeyboardInterrupt

    def lost(architecture: Architecture, until: int | None) -> None:
        if (until, len(of(place, id, "rung"))) == (10, 8) and ("lost", 8) not in stops:
            # It stands at its rung's step, and nothing of it is known.
            stops.add(("lost", 8))
            given: dict[str, Any] = {"seed": 0, "folder": place.standalone(id), "device": "cpu"}
            data = Evaluator(Setup.of(request(), place.root, place.root, place.data_root)).data
            list(train_standalone(architecture, request(), data, until=until, **given))
            raise KeyboardInterrupt

    with training(monkeypatch, lost) as seen:
        for _ in range(4):
            with pytest.raises(KeyboardInterrupt):
                confirm.confirm(id, place, reporter=short_report, listener=stop)
            assert SqlStore(place.record_url).get(id).state == "succeeded"
        assert stops == {("lost", 8)}
        confirm.confirm(id, place, reporter=short_report, listener=stop)
        done = facts(SqlStore(place.record_url).trials(id))
        confirm.confirm(id, place, reporter=short_report)
    assert outcome(place, id) == outcome(*confirmed)
    assert facts(SqlStore(place.record_url).trials(id)) == done
    # What a network has behind it is never trained again: its first report comes after that.
    reached: dict[str, int] = {}
    for architecture, until, steps in seen:
        if until is not None:
            assert min(steps) > reached.get(architecture, 0) or steps == [until]
            reached[architecture] = until
    finished = {name for name, until in reached.items() if until == 20}
    again = [steps for name, until, steps in seen if name in finished and until is None]
    # Seed 0 is found finished, seed 1 is trained from the beginning.
    assert sorted(map(tuple, again)) == [(10, 20)] * 2 + [(20,)] * 2


def test_networks_that_fail_drop_out(
    copied: Callable[..., tuple[Workspace, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, id = copied()
    diverging, broken = (
        trial.architecture for trial in shortlist(request(), of(place, id, "search"))[:2]
    )

    def fail(architecture: Architecture, until: int | None) -> None:
        if architecture == broken:
            raise RuntimeError("out of memory")
        if architecture == diverging:
            raise TrainingDiverged(f"at step {until} of training the loss is nan")

    with training(monkeypatch, fail):
        left = chosen(place, id)
    (rung, first), *later = by_rung(of(place, id, "rung"))
    states = {trial.architecture: trial.measurement for trial in first}
    assert states[diverging].state == "infeasible"
    assert states[diverging].reason == "at step 5 of training the loss is nan"
    assert states[broken].state == "failed"
    assert "out of memory" in states[broken].reason
    assert rung.entrants == 6
    assert [rung.entrants for rung, _ in later] == [3, 2]
    gone = {diverging, broken}
    assert not gone & {trial.architecture for _, trials in later for trial in trials}
    assert len(left) == 2
    assert not gone & set(left)


def test_where_all_diverge_it_is_said_and_nothing_is_confirmed(
    copied: Callable[..., tuple[Workspace, str]],
) -> None:
    wild = {**RECIPE, "steps": 20, "learning_rate": 1e30, "warmup_steps": 0}
    place, id = copied(standalone={**wild, "precision": "float32"})
    message = (
        r"none of the 6 networks that were trained alone to step 5 \(rung 1 of 3\) can be scored.*"
        rf"learning_rate.*--warm-start {id}"
    )
    for _ in range(2):
        with pytest.raises(EvaluationBroken, match=message):
            confirm.confirm(id, place, reporter=short_report)
        assert {t.role for t in SqlStore(place.record_url).trials(id)} >= {"search", "rung"}
        assert len(of(place, id, "rung")) == 6
        assert of(place, id, "confirmed") == []
        assert SqlStore(place.record_url).get(id).state == "succeeded"


def test_a_machine_that_fails_in_a_later_rung_loses_nobody(
    copied: Callable[..., tuple[Workspace, str]],
    confirmed: tuple[Workspace, str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, id = copied()

    def full(_: Architecture, until: int | None) -> None:
        if until == 10:
            raise OSError("no space left on device")

    with training(monkeypatch, full), pytest.raises(EvaluationBroken, match="no space left"):
        chosen(place, id)
    assert len(of(place, id, "rung")) == 6
    chosen(place, id)
    assert facts(of(place, id, "rung")) == facts(of(*confirmed, "rung"))


def test_a_front_that_is_shorter_than_the_shortlist_enters_whole_and_one_is_left(
    copied: Callable[..., tuple[Workspace, str]],
) -> None:
    place, id = copied(
        objectives=["params", "accuracy", "flops"],
        confirmation={**CONFIRMATION, "members": 1, "shortlist": 1000, "rungs": 2, "eta": 4},
    )
    spec = load_spec(SqlStore(place.record_url).get(id).spec)
    front = front_of(spec, of(place, id, "search")).members
    (left,) = chosen(place, id)
    (_, first), (rung, last) = by_rung(of(place, id, "rung"))
    assert [t.architecture for t in first] == [t.architecture for t in front]
    assert rung == Rung(2, 20, "scratch", -(-len(front) // 4))
    best = max(last, key=lambda trial: trial.metrics["accuracy"])
    assert left == best.architecture


@pytest.mark.parametrize("asked", [{"rungs": 1}, {"members": 1000}])
def test_where_there_is_nothing_to_halve_members_are_spread_over_the_front(
    asked: dict[str, int], copied: Callable[..., tuple[Workspace, str]]
) -> None:
    place, id = copied(confirmation=CONFIRMATION | asked)
    front = [t.architecture for t in front_of(request(), of(place, id, "search")).members]
    expected = [front[0], front[-1]] if "rungs" in asked else front
    assert chosen(place, id) == expected
    assert of(place, id, "rung") == []


def test_what_was_begun_without_rungs_goes_on_without(
    copied: Callable[..., tuple[Workspace, str]],
) -> None:
    def stop(update: Update) -> None:
        if (update.phase, update.done) == ("matched", 1):
            raise KeyboardInterrupt

    place, id = copied(confirmation={**CONFIRMATION, "rungs": 0})
    with pytest.raises(KeyboardInterrupt):
        confirm.confirm(id, place, reporter=short_report, listener=stop)
    rewrite(place, id, confirmation=CONFIRMATION)
    front = front_of(request(), of(place, id, "search")).members
    assert chosen(place, id) == [front[0].architecture, front[-1].architecture]
    assert of(place, id, "rung") == []


def test_rungs_may_begin_with_what_the_supernet_has_learnt(
    copied: Callable[..., tuple[Workspace, str]],
) -> None:
    place, id = copied(confirmation={**CONFIRMATION, "start": "inherited"})
    chosen(place, id)
    (rung, first), *_ = by_rung(of(place, id, "rung"))
    assert rung == Rung(1, 5, "inherited", 6)
    folder = place.standalone(id)
    names = {standalone_file(folder, t.architecture, 0, inherited=True).name for t in first}
    assert {path.name for path in folder.glob("*.safetensors")} == names
    # Five steps alone make nothing of random weights, and the supernet had 150.
    known = {t.architecture: t.metrics["cross_entropy"] for t in of(place, id, "search")}
    for trial in first:
        assert abs(trial.metrics["cross_entropy"] - known[trial.architecture]) < 0.1


def test_measured_costs_are_measured_of_the_network_itself(
    searched: tuple[Workspace, str], tmp_path: Path
) -> None:
    place, _ = searched
    spec = request(
        objectives=["cross_entropy", "latency_ms"], latency={"repetitions": 2, "warmup": 0}
    )
    # There is no supernet that could be asked.
    evaluator = Evaluator(Setup.of(spec, tmp_path, tmp_path, place.data_root))
    smallest = spec.search_space.extreme("smallest")
    found = evaluator(Proposal("rung", 0, smallest, Rung(1, 5, "scratch", 1).label()))
    assert found.state == "succeeded", found.reason
    assert found.metrics["latency_ms"] > 0
    assert set(found.provenance) == {"rung", "latency_ms"}
    found = evaluator(Proposal("confirmed", 0, smallest, Standing("member", None, 0).label()))
    assert found.metrics["latency_ms"] > 0
    assert set(found.provenance) == {"confirmation", "latency_ms"}


@pytest.mark.slow
def test_another_worker_finds_the_rung_before(
    copied: Callable[..., tuple[Workspace, str]], confirmed: tuple[Workspace, str]
) -> None:
    place, id = copied(executor={"name": "ray", "workers": 2, "training_cores": 1})
    chosen(place, id)
    assert facts(of(place, id, "rung")) == facts(of(*confirmed, "rung"))
