"""Does the check of a ranking train what it should, once, on validation data, and within hours?"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas import catalog
from nas.errors import SearchStateError
from nas.run import fidelity, running, search
from nas.run.evaluate import Setup
from nas.run.running import Update
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.fidelity import RankerTest, networks_to_train, short_recipe
from nas.search.spec import SearchSpec
from nas.search.trial import Trial
from nas.store.sql import SqlStore
from nas.store.store import SearchRecord, Spend
from nas.strategy.ranker import Ranker
from nas.train.standalone import load_standalone
from tests.run.cases import (
    facts,
    finish,
    full_report,
    no_projector,
    outcome,
    place_in,
    request,
    short_report,
)

pytestmark = pytest.mark.usefixtures("without_mlflow")

CHECK: dict[str, Any] = {"networks": 8, "steps": 3}


def asked(**changes: Any) -> SearchSpec:
    return request(**{"fidelity": CHECK, **changes})


def of(place: Workspace, id: str, role: str = "fidelity") -> list[Trial]:
    return [trial for trial in SqlStore(place.record_url).trials(id) if trial.role == role]


def recheck(place: Workspace, id: str, **more: Any) -> SearchRecord:
    return search.recheck(id, place, **{"reporter": short_report, **more})


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, str]:
    """A finished search whose ranking nobody has checked."""
    place = place_in(tmp_path_factory.mktemp("searched"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        return place, finish(asked(), place).id


@pytest.fixture(scope="module")
def checked(
    searched: tuple[Workspace, str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, str]:
    """The check of its ranking, in which no test example may be looked at."""
    (before, id), root = searched, tmp_path_factory.mktemp("checked")
    place = copied(before, root)

    def refused(*_: object) -> None:
        raise AssertionError("the test examples are touched")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        patch.setattr(Setup, "test", refused)
        recheck(place, id, reporter=full_report)
    return place, id


def copied(place: Workspace, root: Path) -> Workspace:
    """The same searches in a folder of their own; supernets, which no check needs, stay behind."""
    shutil.copytree(
        place.root, root, dirs_exist_ok=True, ignore=shutil.ignore_patterns("supernets")
    )
    return place_in(root)


def test_the_chosen_are_trained_in_their_order(checked: tuple[Workspace, str]) -> None:
    place, id = checked
    record = SqlStore(place.record_url).get(id)
    assert (record.state, record.phase) == ("succeeded", "report")
    chosen = networks_to_train(asked(), SqlStore(place.record_url).trials(id))
    assert len(chosen) == 8
    trained = of(place, id)
    assert [each.architecture for each in trained] == [each.architecture for each in chosen]
    assert [each.label for each in trained] == [f"{each.role} {each.index}" for each in chosen]
    assert all(each.succeeded for each in trained)


def test_scores_are_those_of_the_trained_network_on_the_slices_examples(
    checked: tuple[Workspace, str],
) -> None:
    place, id = checked
    spec = short_recipe(asked())
    task = catalog.TASKS.load("digits")
    data = task.load(spec.task.configured(catalog.TASKS, ""), place.data_root)
    folder = place.standalone(id) / "fidelity"
    assert len(list(folder.glob("*.safetensors"))) == 8
    for trial in of(place, id)[:3]:
        network = load_standalone(trial.architecture, spec, seed=0, folder=folder, device="cpu")
        chosen = data.validation(spec.evaluation.examples)
        (batch,) = data.batches(chosen, spec.evaluation)
        assert len(batch.labels) == 60
        with torch.no_grad():
            loss = torch.nn.functional.cross_entropy(network(batch.inputs), batch.labels)
        assert trial.metrics["cross_entropy"] == pytest.approx(float(loss), rel=1e-4)
        assert not any(name.startswith("test_") for name in trial.metrics)


def test_the_report_and_the_record_have_what_came_out(checked: tuple[Workspace, str]) -> None:
    place, id = checked
    store = SqlStore(place.record_url)
    told = json.loads(Path(store.artifacts(id)["fidelity.json"].uri).read_text())
    assert told["fidelity"]["recipe"]["steps"] == 3
    assert len(told["fidelity"]["networks"]) == 8
    assert told["gate"]["verdict"] in ("passed", "failed")
    assert (
        json.loads(Path(store.artifacts(id)["pareto.json"].uri).read_text())["gate"]
        == (told["gate"])
    )
    assert "fidelity_provenance" in store.get(id).facts
    # Networks trained for a check are no models to be kept.
    assert not any(name.startswith("standalone") for name in store.artifacts(id))


def test_the_ranker_is_tried_on_controls_that_it_never_saw(
    checked: tuple[Workspace, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    place, id = checked
    trials = SqlStore(place.record_url).trials(id)
    searched = {each.architecture for each in trials if each.role == "search"}
    unseen = {each.architecture for each in trials if each.role == "random"} - searched
    seen: list[tuple[int, list[float]]] = []
    fit = Ranker.fit

    def spied(features: Any, codes: Any, losses: Sequence[float], **more: Any) -> Ranker:
        seen.append((len(codes), [*losses]))
        return fit(features, codes, losses, **more)

    monkeypatch.setattr(Ranker, "fit", spied)
    test = fidelity.try_ranker(asked(), trials)
    [(count, losses)] = seen
    scores = {t.architecture: t.metrics["cross_entropy"] for t in trials if t.role == "search"}
    assert count == len(searched) == test.fitted
    assert sorted(losses) == sorted(scores.values())
    assert test.agreements is not None
    assert test.agreements.score.n == test.agreements.params.n == len(unseen)
    assert RankerTest.of(SqlStore(place.record_url).get(id).facts) == test


@pytest.mark.parametrize(("kept", "learnt", "unseen"), [("search", 20, 0), ("random", 0, 6)])
def test_a_ranker_without_trials_says_why(
    kept: str, learnt: int, unseen: int, checked: tuple[Workspace, str]
) -> None:
    place, id = checked
    test = fidelity.try_ranker(asked(), of(place, id, kept))
    assert (test.fitted, test.agreements) == (learnt, None)
    assert f"{learnt} scored networks to learn from and {unseen} to be tried on" in test.reason


def test_an_interrupted_check_goes_on(
    searched: tuple[Workspace, str], checked: tuple[Workspace, str], tmp_path: Path
) -> None:
    place, id = copied(searched[0], tmp_path), searched[1]
    store = SqlStore(place.record_url)
    for at in (0, 1, 5):

        def stop(update: Update, at: int = at) -> None:
            if (update.phase, update.done) == ("fidelity", at):
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            recheck(place, id, listener=stop)
        assert len(of(place, id)) == at
        assert store.get(id).state == "succeeded"
    recheck(place, id)
    assert outcome(place, id) == outcome(*checked)
    # Once more, there is nothing left to do.
    done = facts(store.trials(id))
    recheck(place, id)
    assert facts(store.trials(id)) == done


def test_a_search_that_does_not_defer_it_checks_at_its_end(
    checked: tuple[Workspace, str], place: Workspace
) -> None:
    def stop(update: Update) -> None:
        if (update.phase, update.done) == ("fidelity", 3):
            raise KeyboardInterrupt

    spec = asked(fidelity={**CHECK, "deferred": False})
    record = submit(spec, place)
    with pytest.raises(KeyboardInterrupt):
        search.run(record.id, place, reporter=short_report, listener=stop)
    store = SqlStore(place.record_url)
    assert store.get(record.id).state == "running"
    with pytest.raises(SearchStateError, match="finish it first"):
        recheck(place, record.id)
    search.run(record.id, place, reporter=short_report)
    assert store.get(record.id).state == "succeeded"
    assert outcome(place, record.id) == outcome(*checked)


def test_hours_end_it_between_two_networks(
    searched: tuple[Workspace, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, before = copied(searched[0], tmp_path), SqlStore(searched[0].record_url)
    # The same search, had it been asked for with a bound.
    bounded = asked(fidelity={**CHECK, "hours": 3}).to_json()
    kept = replace(before.get(searched[1]), id="01BOUNDED", spec=bounded)
    store = SqlStore(place.record_url)
    record = store.import_search(kept, before.trials(searched[1]))

    def spent(store: SqlStore, id: str) -> dict[str, Spend]:
        """As if every training had taken an hour."""
        return {"fidelity": Spend(3600.0 * store.count(id, "fidelity"), 0.0)}

    with monkeypatch.context() as patch:
        patch.setattr(SqlStore, "spent", spent)
        for _ in range(2):
            recheck(place, record.id, reporter=full_report)
            assert [each.index for each in of(place, record.id)] == [0, 1, 2]
    told = json.loads(Path(store.artifacts(record.id)["fidelity.json"].uri).read_text())
    assert told["gate"]["verdict"] == "not known"
    assert (
        "3 of 8 networks were trained alone to check it, then its 3 hours were up"
        in (told["gate"]["sentence"])
    )


def test_its_time_is_counted_apart_from_the_search(checked: tuple[Workspace, str]) -> None:
    place, id = checked
    spent = SqlStore(place.record_url).spent(id)
    assert spent["fidelity"].seconds > 0
    assert set(spent) >= {"supernet", "search", "fidelity", "report"}


def test_an_unfinished_search_is_refused(place: Workspace) -> None:
    record = submit(asked(), place)
    with pytest.raises(SearchStateError, match=f"nas search --resume {record.id}"):
        recheck(place, record.id)
    assert SqlStore(place.record_url).get(record.id).attempt == 0
