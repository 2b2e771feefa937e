"""MLflow beside a search: told of everything, and no matter where it is away."""

import os
from dataclasses import replace

import pytest
from mlflow import MlflowClient

from nas.cli.maintenance import rebuild
from nas.run import projector
from nas.run.lease import holder, holder_alive
from nas.run.projector import Projector
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.store.mlflow import default_tracking_uri
from nas.store.sql import SqlStore
from tests.run.cases import finish, request
from tests.run.processes import all_gone, command, descendants

SPEC = request(budget={"trials": 5}, controls={"random": 2, "homogeneous": 1})
# 5 of the search, 2 random and 1 of each of three attention types.
TRIALS = 10


@pytest.fixture(scope="module")
def tracking_uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow for all: making its tables takes seconds."""
    return default_tracking_uri(tmp_path_factory.mktemp("mlflow"))


def runs(tracking_uri: str, search_id: str) -> int:
    """How many trials of a search MLflow has."""
    client = MlflowClient(tracking_uri)
    experiment = client.get_experiment_by_name("digits_tiny/digits")
    assert experiment is not None
    asked = f"tags.`nas.search_id` = '{search_id}' and tags.`nas.kind` = 'trial'"
    return len(client.search_runs([experiment.experiment_id], asked))


def test_mlflow_has_all_of_a_search_when_it_ends(place: Workspace, tracking_uri: str) -> None:
    there = replace(place, tracking_uri=tracking_uri)
    record = finish(SPEC, there)
    assert record.state == "succeeded"
    assert SqlStore(place.record_url).unprojected() == []
    assert runs(tracking_uri, record.id) == TRIALS


@pytest.mark.parametrize("away", ["refused", "unwritable"])
def test_without_mlflow_a_search_ends_as_well_and_a_rebuild_tells_it_all(
    place: Workspace, tracking_uri: str, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if away == "unwritable":
        (place.root / "file").write_text("not a folder")
        place = replace(place, tracking_uri=f"sqlite:///{place.root}/file/mlflow.db")
    record = finish(SPEC, place)
    assert record.state == "succeeded"
    store = SqlStore(place.record_url)
    assert store.unprojected() == [record.id]
    assert "mlflow" in (place.root / "mlflow-projection.log").read_text().lower()
    # A projector that was killed has left its lease.
    store.acquire(record.id, dead_holder(), 3600, purpose="projection")
    monkeypatch.setenv("NAS_DATABASE_URL", place.record_url)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_uri)
    rebuild(record.id, record=False, home=place.root)
    assert store.unprojected() == []
    assert runs(tracking_uri, record.id) == TRIALS


def dead_holder() -> str:
    name = f"{holder().rpartition(':')[0]}:1"
    assert not holder_alive(name)
    return name


def test_one_that_takes_too_long_is_left_for_later(
    place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = submit(SPEC, place)
    monkeypatch.setattr(projector, "GRACE_SECONDS", 0.001)
    with Projector(place, record.id) as slow:
        pass
    assert slow.behind
    assert slow._process.poll() is not None


@pytest.mark.slow
def test_it_ends_with_a_search_that_is_killed(place: Workspace) -> None:
    record = submit(request(budget={"trials": 1000}), place)
    with command(place, "search", "--resume", record.id) as searching:
        searching.until(
            lambda: any(
                "nas.run.projector" in title
                for title in descendants(searching.process.pid).values()
            )
        )
        below = descendants(searching.process.pid)
        (copying,) = (pid for pid, title in below.items() if "nas.run.projector" in title)
        handle = os.pidfd_open(copying)
        # The search alone, not its group.
        searching.process.kill()
        searching.process.wait()
        all_gone([handle])
