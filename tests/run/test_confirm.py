"""Does mixing win? The shortlist and its rivals, trained alone, on digits."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from nas.errors import SearchStateError
from nas.run import confirm, running
from nas.run.running import Update
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.pareto import ParetoFront
from nas.search.spec import SearchSpec, load_spec
from nas.search.trial import Standing, Trial
from nas.store.sql import SqlStore
from tests.run import cases
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

# The smallest networks of all have few rivals of their size.
ASKED: dict[str, Any] = {
    "constraints": ["flops >= 3e5"],
    "confirmation": {"members": 2, "seeds": 2, "flops_tolerance": 0.1, "rungs": 0},
}
SPEC = request(**ASKED)
ORDERS = [["cross_entropy", "flops"], ["flops", "cross_entropy"]]


@pytest.fixture(scope="module", params=ORDERS, ids=" then ".join)
def confirmed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Workspace, str]:
    """A search and its confirmation; who is whose rival hangs on no order of the objectives."""
    place = place_in(tmp_path_factory.mktemp("confirmed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(running, "Projector", no_projector)
        record = finish(cases.request(**ASKED, objectives=request.param), place)
        confirm.confirm(record.id, place, reporter=full_report)
    return place, record.id


def of(place: Workspace, search_id: str, role: str) -> list[Trial]:
    trials = SqlStore(place.record_url).trials(search_id)
    return [trial for trial in trials if trial.role == role]


def test_members_are_spread_over_the_front(confirmed: tuple[Workspace, str]) -> None:
    place, id = confirmed
    front = ParetoFront.of(of(place, id, "search"), SPEC.parsed_objectives).members
    members = {
        trial.architecture
        for trial in of(place, id, "confirmed")
        if Standing.of(trial).attention is None
    }
    assert members == {front[0].architecture, front[-1].architecture}


def test_rivals_are_homogeneous_at_matched_flops(confirmed: tuple[Workspace, str]) -> None:
    place, id = confirmed
    matched = of(place, id, "matched")
    searched = {trial.architecture.id: trial for trial in of(place, id, "search")}
    assert len(matched) > 4
    for trial in matched:
        standing = Standing.of(trial)
        assert {str(layer.attention) for layer in trial.architecture.layers} == {standing.attention}
        ratio = trial.metrics["flops"] / searched[standing.member].metrics["flops"]
        assert ratio == pytest.approx(1, abs=0.1)
    assert all(
        sum(other.label == trial.label for other in matched) <= SPEC.controls.homogeneous
        for trial in matched
    )


def test_the_best_rival_of_each_type_is_trained_by_every_seed(
    confirmed: tuple[Workspace, str],
) -> None:
    place, id = confirmed
    matched = of(place, id, "matched")
    trained = of(place, id, "confirmed")
    groups: dict[tuple[str | None, str], list[tuple[int | None, str]]] = {}
    for trial in trained:
        assert trial.succeeded, trial.measurement.reason
        assert {"cross_entropy", "test_cross_entropy", "test_accuracy", "flops"} <= set(
            trial.metrics
        )
        standing = Standing.of(trial)
        key = (standing.attention, standing.member)
        groups.setdefault(key, []).append((standing.seed, trial.architecture.id))
    for (attention, member), runs in groups.items():
        assert [seed for seed, _ in runs] == [0, 1]
        (architecture,) = {each for _, each in runs}
        if attention is None:
            assert architecture == member
        else:
            label = f"{attention}@{member}"
            rivals = [trial for trial in matched if trial.label == label]
            best = min(rivals, key=lambda trial: trial.metrics["cross_entropy"])
            assert architecture == best.architecture.id
    standings = [Standing.of(trial) for trial in matched]
    rivals_of = {(attention, member) for attention, member in groups if attention}
    assert rivals_of == {(each.attention, each.member) for each in standings}
    # What was trained is the record's to name and MLflow's to copy.
    kept = SqlStore(place.record_url).artifacts(id)
    for trial in trained:
        name = f"{trial.architecture.id}-seed{Standing.of(trial).seed}.safetensors"
        artifact = kept[f"standalone/{name}"]
        assert hashlib.sha256(Path(artifact.uri).read_bytes()).hexdigest() == artifact.digest
    # Different seeds are different trainings.
    losses = [trial.metrics["test_cross_entropy"] for trial in trained]
    assert len(set(losses)) == len(losses)


def test_the_report_says_what_follows(confirmed: tuple[Workspace, str]) -> None:
    place, id = confirmed
    store = SqlStore(place.record_url)
    assert store.get(id).state == "succeeded"
    shown = json.loads(Path(store.artifacts(id)["pareto.json"].uri).read_text())
    assert shown["confirmation"]["members"]
    words = " ".join(shown["words"])
    assert "None has been trained yet" not in words
    assert "wins" in words or "ot resolved" in words


def test_an_unfinished_search_is_refused(place: Workspace) -> None:
    record = submit(request(), place)
    with pytest.raises(SearchStateError, match=f"nas search --resume {record.id}"):
        confirm.confirm(record.id, place, reporter=short_report)
    assert SqlStore(place.record_url).get(record.id).attempt == 0


def test_a_supernet_that_is_gone_is_said(place: Workspace) -> None:
    id = finish(request(), place).id
    for file in place.root.glob("supernets/**/*.safetensors"):
        file.unlink()
    with pytest.raises(SearchStateError, match=r"supernet\.safetensors is gone.*new search"):
        confirm.confirm(id, place, reporter=short_report)
    assert SqlStore(place.record_url).get(id).state == "succeeded"


def test_an_interrupted_confirmation_goes_on(
    confirmed: tuple[Workspace, str], place: Workspace
) -> None:
    undisturbed, id = confirmed
    record = finish(load_spec(SqlStore(undisturbed.record_url).get(id).spec), place)
    store = SqlStore(place.record_url)
    for stopped in (("matched", 2), ("confirmed", 1), ("confirmed", 4)):

        def stop(update: Update, stopped: tuple[str, int] = stopped) -> None:
            if (update.phase, update.done) == stopped:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            confirm.confirm(record.id, place, reporter=short_report, listener=stop)
        phase, at = stopped
        assert len(of(place, record.id, phase)) == at
        assert store.get(record.id).state == "succeeded"
    confirm.confirm(record.id, place, reporter=short_report)
    assert outcome(place, record.id) == outcome(*confirmed)
    done = facts(store.trials(record.id))
    # Once more, there is nothing left to do.
    confirm.confirm(record.id, place, reporter=short_report)
    assert facts(store.trials(record.id)) == done


def test_a_member_that_is_homogeneous_is_its_own_rival_of_that_type(place: Workspace) -> None:
    spec: SearchSpec = request(
        space={**dict(SPEC.space), "layers": {**SPEC.space["layers"], "attention": ["softmax"]}}
    )
    record = finish(spec, place)
    confirm.confirm(record.id, place, reporter=short_report)
    assert of(place, record.id, "matched") == []
    standings = [Standing.of(trial) for trial in of(place, record.id, "confirmed")]
    assert {standing.attention for standing in standings} == {None}
