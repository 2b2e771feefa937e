"""MLflow as a projection of the record: complete, idempotent, and able to give the record back."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from nas.errors import LeaseLost, SearchNotFound, StoreUnavailable
from nas.search.extent import EXTENT, Axis, FixedExtent
from nas.search.history import History
from nas.search.spec import load_spec
from nas.search.trial import Measurement, Trial, TrialRole
from nas.store import projection
from nas.store.mlflow import Tracking, default_tracking_uri
from nas.store.parameters import architecture_parameters
from nas.store.projection import project, projected_searches, rebuild_record
from nas.store.sql import SqlStore
from nas.store.store import Lease
from tests.store.conformance import SPEC, Clock, architecture, trial


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One MLflow for all tests: making its tables takes seconds."""
    return default_tracking_uri(tmp_path_factory.mktemp("mlflow"))


@pytest.fixture
def client(uri: str) -> MlflowClient:
    return MlflowClient(uri)


@pytest.fixture
def store(tmp_path: Path) -> SqlStore:
    return SqlStore(f"sqlite:///{tmp_path / 'etnas.db'}", clock=Clock())


@pytest.fixture
def lease(store: SqlStore) -> Lease:
    facts = {"commit": "abc", "space_digest": "0123"}
    return store.acquire(store.create_search(SPEC, facts=facts).id, "host:1:1", 60)


def runs(client: MlflowClient, search: str, kind: str = "trial") -> dict[str, Run]:
    experiment = client.get_experiment_by_name("digits_tiny/digits")
    assert experiment is not None
    asked = f"tags.`nas.search_id` = '{search}' and tags.`nas.kind` = '{kind}'"
    found = client.search_runs([experiment.experiment_id], asked)
    named = {run.data.tags.get("nas.trial", "search"): run for run in found}
    assert len(named) == len(found), "a run is there twice"
    return named


def test_a_search_as_a_person_finds_it(
    store: SqlStore, lease: Lease, client: MlflowClient, uri: str, tmp_path: Path
) -> None:
    (tmp_path / "plot.html").write_text("<p>plot</p>")
    control = trial(
        0, "random", label="random", measurement=Measurement.failed("no memory", seconds=2.0)
    )
    for each in (trial(0), trial(1), control):
        store.add_trial(lease, each)
    store.set_artifact(lease, "pareto.html", "plot.html", "1" * 64)
    store.set_artifact(lease, "supernet/weights", "s3://bucket/weights", "2" * 64)
    store.set_front(lease, [("search", 1)])
    store.set_state(lease, "succeeded", phase="report")

    assert project(store, uri, search=lease.search[:12], root=tmp_path) == 8
    assert store.unprojected() == []

    (parent,) = runs(client, lease.search, "search").values()
    assert (parent.info.run_name, parent.info.status) == ("first", "FINISHED")
    assert parent.info.start_time == parent.info.end_time == 1_800_000_000_000
    params = parent.data.params
    assert (params["space"], params["task.name"], params["seed"]) == ("digits_tiny", "digits", "3")
    assert params["objectives"] == "cross_entropy, flops"
    assert params["supernet.learning_rate"] == "1e-05"
    tags = parent.data.tags
    assert (tags["nas.state"], tags["nas.phase"]) == ("succeeded", "report")
    assert (tags["nas.commit"], tags["nas.space_digest"]) == ("abc", "0123")
    assert tags["mlflow.source.git.commit"] == "abc"
    assert parent.data.metrics == {
        "trials/search": 2,
        "trials/random": 1,
        "best/cross_entropy": 0.1,
        "front_size": 1,
    }
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names == {"spec.yaml", "pareto.html", "record.json"}
    assert tags["nas.artifact.supernet/weights"] == "2" * 64
    spec = client.download_artifacts(parent.info.run_id, "spec.yaml", str(tmp_path))
    assert yaml.safe_load(Path(spec).read_text()) == SPEC

    children = runs(client, lease.search)
    assert set(children) == {"search/0", "search/1", "random/0"}
    for each in (trial(0), trial(1), control):
        run = children[f"{each.role}/{each.index}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert run.data.tags["nas.role"] == each.role
        assert run.data.tags["nas.architecture_id"] == each.architecture.id
        assert run.data.metrics == each.metrics
        assert run.data.params == architecture_parameters(each.architecture)
        assert run.info.end_time - run.info.start_time == 1000 * each.measurement.seconds
    assert children["search/0"].info.status == "FINISHED"
    assert children["random/0"].info.status == "FAILED"
    assert children["random/0"].data.tags["nas.reason"] == "no memory"
    assert [name for name, run in children.items() if "nas.front" in run.data.tags] == ["search/1"]


def test_an_architecture_in_a_table() -> None:
    assert architecture_parameters(architecture(depth=3)) == {
        "depth": "3",
        "patch_size": "2",
        "width": "16",
        "stem": "patch",
        "norm": "layernorm",
        "activation": "gelu",
        "pooling": "mean",
        "position": "learned",
        "attention": 'softmax {"type": "linear", "feature_map": "relu"} softmax',
        "heads": "2 2 2",
        "head_width": "8 8 8",
        "ffn_width": "32 32 32",
        "ffn": "mlp mlp mlp",
        "attention_share.linear": "0.333",
        "attention_share.softmax": "0.667",
    }


def test_what_comes_later_is_told_later(
    store: SqlStore, lease: Lease, client: MlflowClient, uri: str
) -> None:
    store.set_state(lease, "running", phase="search")
    for index in range(3):
        store.add_trial(lease, trial(index))
    store.set_front(lease, [("search", 0), ("search", 1)])
    project(store, uri)
    assert runs(client, lease.search, "search")["search"].info.status == "RUNNING"
    assert project(store, uri) == 0
    store.add_trial(lease, trial(3))
    store.set_front(lease, [("search", 1), ("search", 3)])
    store.set_state(lease, "failed", error="the disk is full")
    assert project(store, uri) == 3
    parent = runs(client, lease.search, "search")["search"]
    assert (parent.info.status, parent.data.tags["nas.error"]) == ("FAILED", "the disk is full")
    store.reopen(lease)
    project(store, uri)
    parent = runs(client, lease.search, "search")["search"]
    assert (parent.info.status, parent.data.tags["nas.error"]) == ("SCHEDULED", "")
    front = {n for n, run in runs(client, lease.search).items() if "nas.front" in run.data.tags}
    assert front == {"search/1", "search/3"}


def test_how_far_a_search_has_come_is_a_curve_of_its_parent_run(
    store: SqlStore, lease: Lease, client: MlflowClient, uri: str
) -> None:
    def history(name: str) -> list[tuple[int, float]]:
        found = client.get_metric_history(parent().info.run_id, name)
        return sorted((each.step, each.value) for each in found)

    def parent() -> Run:
        return runs(client, lease.search, "search")["search"]

    def better(index: int, role: TrialRole = "search", label: str = "") -> Trial:
        metrics = {"cross_entropy": 1 - 0.1 * index, "flops": 1e6 * (index + 1)}
        return trial(index, role, measurement=Measurement.of(metrics), label=label)

    store.set_state(lease, "running", phase="search")
    for count in (2, 3):
        for index in range(store.count(lease.search), count):
            store.add_trial(lease, better(index))
        store.set_front(lease, [("search", index) for index in range(count)])
        project(store, uri)
    assert history("best/cross_entropy") == [(2, 0.9), (3, 0.8)]
    assert history("front_size") == history("trials/search") == [(2, 2), (3, 3)]
    assert not [name for name in parent().data.metrics if "hypervolume" in name]

    for index in range(2):
        store.add_trial(lease, better(index, "random"))
        store.add_trial(lease, better(index, "homogeneous", "linear(feature_map=relu)"))
    store.set_state(lease, "succeeded", phase="report")
    project(store, uri)
    found = parent().data.metrics
    assert (found["best/cross_entropy"], found["front_size"]) == (0.8, 3)
    assert (found["trials/search"], found["trials/random"]) == (3, 2)
    pools = {"search", "random", "homogeneous linear feature_map relu"}
    covered = {name: value for name, value in found.items() if "hypervolume" in name}
    assert set(covered) == {f"hypervolume_of_2/{pool}" for pool in pools}
    assert all(0 < value < 1 for value in covered.values())

    before = {name: history(name) for name in found}
    project(store, uri, from_start=True)
    assert parent().data.metrics == found
    assert {name: history(name) for name in found} == before


EXTENT_FACT = FixedExtent(
    (
        Axis("cross_entropy", 2.0, 0.0, "an uninformed guess", "the best there can be"),
        Axis("flops", 1e7, 0.0, "the exact largest", "nothing"),
    )
).to_text()


def test_the_curves_of_a_search_come_back_to_an_mlflow_that_lost_them(
    store: SqlStore, client: MlflowClient, uri: str
) -> None:
    made = store.create_search(SPEC, facts={EXTENT: EXTENT_FACT})
    held = store.acquire(made.id, "host:1:1", 60)

    def told() -> dict[str, list[tuple[int, float]]]:
        run = runs(client, held.search, "search")["search"]
        histories = {
            name: client.get_metric_history(run.info.run_id, name) for name in run.data.metrics
        }
        return {
            name: sorted((each.step, each.value) for each in history)
            for name, history in histories.items()
        }

    store.set_state(held, "running", phase="search")
    # The later ones are dominated; the fourth is in while the third is not.
    for batch in ((5, 0), (1, 3), (2, 4)):
        for index in batch:
            store.add_trial(held, trial(index, measurement=trial(5 - index).measurement))
        known = [trial.index for trial in store.trials(held.search)]
        store.set_front(held, [("search", min(known))])
        project(store, uri)
        whole = 1 if len(known) < 3 else 2 if len(known) < 6 else 6
        assert [step for step, _ in told()["hypervolume/search"]] == list(range(1, whole + 1))
        assert "hypervolume/random" not in told()
    for index in range(3):
        store.add_trial(held, trial(index, "random"))
    store.set_state(held, "succeeded", phase="report")
    project(store, uri)
    before = told()
    expected = History.of(
        load_spec(SPEC), store.trials(held.search), FixedExtent.from_text(EXTENT_FACT)
    )
    assert expected.random is not None
    for name, curve in (("search", expected.search), ("random", expected.random.mean)):
        assert before[f"hypervolume/{name}"] == list(enumerate(curve, 1))
    assert len({value for _, value in before["hypervolume/search"]}) > 3
    assert [step for step, _ in before["best/cross_entropy"]] == [2, 4, 6, 9]

    for kind in ("search", "trial"):
        for run in runs(client, held.search, kind).values():
            client.delete_run(run.info.run_id)
    assert project(store, uri, from_start=True) > 0
    assert told() == before
    # Nor does it double anything where nothing was lost.
    project(store, uri, from_start=True)
    assert told() == before


def test_a_request_that_only_other_code_can_read_is_told_of_all_the_same(
    store: SqlStore, client: MlflowClient, uri: str
) -> None:
    made = store.create_search({**SPEC, "task": {"name": "gone", "options": {}}})
    lease = store.acquire(made.id, "host:1:1", 60)
    store.add_trial(lease, trial(0))
    store.set_front(lease, [("search", 0)])
    project(store, uri)
    assert store.unprojected() == []
    experiment = client.get_experiment_by_name("digits_tiny/gone")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    assert sorted(len(run.data.metrics) for run in found) == [0, 2]


def test_telling_it_all_again_doubles_nothing(
    store: SqlStore, lease: Lease, client: MlflowClient, uri: str, tmp_path: Path
) -> None:
    (tmp_path / "pareto.json").write_text("{}")
    store.add_trial(lease, trial(0))
    store.set_artifact(lease, "pareto.json", (tmp_path / "pareto.json").as_uri(), "1" * 64)
    project(store, uri)
    before = runs(client, lease.search), runs(client, lease.search, "search")
    assert project(store, uri, from_start=True) == 3
    after = runs(client, lease.search), runs(client, lease.search, "search")
    for first, second in zip(before, after, strict=True):
        assert {n: run.to_dictionary() for n, run in first.items()} == {
            n: run.to_dictionary() for n, run in second.items()
        }
    child = after[0]["search/0"].info.run_id
    assert len(client.get_metric_history(child, "flops")) == 1


class Killed(BaseException):
    """The process ends here: no handler of ordinary errors sees it."""


CALLS = ("experiment", "make", "log", "log_curve", "untag", "set_status", "write", "upload")


@pytest.fixture
def kill_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Lets that many calls that write be done, and ends the process before the next line."""
    left = [0]

    def counted(owner: type, name: str) -> None:
        original = getattr(owner, name)

        def call(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            left[0] -= 1
            if left[0] == 0:
                raise Killed(name)
            return result

        monkeypatch.setattr(owner, name, call)

    for name in CALLS:
        counted(Tracking, name)
    counted(SqlStore, "mark_projected")

    def begin(calls: int) -> None:
        left[0] = calls

    return begin


def test_killed_after_any_call_nothing_is_lost_or_doubled(
    store: SqlStore,
    client: MlflowClient,
    uri: str,
    tmp_path: Path,
    kill_after: Callable[[int], None],
) -> None:
    (tmp_path / "pareto.json").write_text("{}")
    long = trial(1, architecture=architecture(depth=60))
    calls = 0
    while True:
        calls += 1
        made = store.create_search(SPEC, facts={EXTENT: EXTENT_FACT})
        lease = store.acquire(made.id, "host:1:1", 60)
        store.add_trial(lease, trial(0))
        store.add_trial(lease, long)
        store.set_artifact(lease, "pareto.json", "pareto.json", "1" * 64)
        store.set_front(lease, [("search", 1)])
        kill_after(calls)
        try:
            project(store, uri, root=tmp_path)
            interrupted = False
        except Killed:
            interrupted = True
            kill_after(0)
            project(store, uri, root=tmp_path)
        assert store.unprojected() == []
        parent = runs(client, lease.search, "search")["search"]
        names = {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert names == {"spec.yaml", "pareto.json", "record.json"}
        assert parent.data.metrics["front_size"] == 1
        assert len(client.get_metric_history(parent.info.run_id, "front_size")) == 1
        curve = client.get_metric_history(parent.info.run_id, "hypervolume/search")
        assert sorted(each.step for each in curve) == [1, 2]
        children = runs(client, lease.search)
        assert set(children) == {"search/0", "search/1"}
        assert all(run.info.status == "FINISHED" for run in children.values())
        assert [n for n, run in children.items() if "nas.front" in run.data.tags] == ["search/1"]
        for name, run in children.items():
            assert run.data.metrics == (long if name == "search/1" else trial(0)).metrics
            assert len(client.get_metric_history(run.info.run_id, "flops")) == 1
        if not interrupted:
            break
    assert calls > 15


def test_beyond_the_limit_only_the_front_has_runs(
    store: SqlStore,
    lease: Lease,
    client: MlflowClient,
    uri: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(projection, "CHILD_RUNS", 2)
    for index in range(5):
        store.add_trial(lease, trial(index))
    store.add_trial(lease, trial(4, "random"))
    # Timings, of which a network has several, get no runs at all.
    store.add_trial(lease, trial(0, "timed"))
    store.add_trial(lease, trial(0, "remeasured"))
    store.set_front(lease, [("search", 1), ("search", 3)])
    project(store, uri)
    assert set(runs(client, lease.search)) == {"search/0", "search/1", "search/3", "random/4"}
    # The others are not lost to whoever restores the record.
    restored = SqlStore(f"sqlite:///{tmp_path / 'restored.db'}")
    rebuild_record(restored, uri, lease.search)
    assert restored.trials(lease.search) == store.trials(lease.search)


def test_the_record_comes_back_from_mlflow(
    store: SqlStore, lease: Lease, client: MlflowClient, uri: str, tmp_path: Path
) -> None:
    store.set_state(lease, "running", phase="search")
    for each in (
        trial(0, architecture=architecture(depth=60)),
        trial(1, measurement=Measurement.failed("x" * 9000, 0.125)),
        trial(0, "homogeneous", label="softmax"),
        trial(0, "confirmed", label="softmax seed 1"),
    ):
        store.add_trial(lease, each)
    store.set_front(lease, [("search", 0)])
    store.set_artifact(lease, "supernet", "s3://bucket/supernet", "1" * 64)
    store.record_spend(lease, "supernet", 12.5, 25.0)
    store.set_state(lease, "failed", error="the disk is full")
    store.release(lease)
    project(store, uri)

    restored = SqlStore(f"sqlite:///{tmp_path / 'restored.db'}")
    assert lease.search in projected_searches(uri)
    assert rebuild_record(restored, uri, lease.search) == store.get(lease.search)
    assert restored.trials(lease.search) == store.trials(lease.search)
    assert restored.front(lease.search) == store.front(lease.search)
    assert restored.artifacts(lease.search) == store.artifacts(lease.search)
    assert restored.spent(lease.search) == store.spent(lease.search)
    # Restored from there, told there again: still the same runs.
    assert project(restored, uri, from_start=True) == 7
    for run in runs(client, lease.search).values():
        for name in run.data.metrics:
            assert len(client.get_metric_history(run.info.run_id, name)) == 1
    assert rebuild_record(restored, uri, lease.search) == store.get(lease.search)


@pytest.mark.parametrize("id", ["01HZZZZZZZZZZZZZZZZZZZZZZZ", "x' or 'a' = 'a"])
def test_a_search_that_mlflow_does_not_know(
    store: SqlStore, lease: Lease, uri: str, id: str
) -> None:
    project(store, uri)
    with pytest.raises(SearchNotFound, match=lease.search):
        rebuild_record(store, uri, id)


def test_an_artifact_that_is_gone_stops_nothing(
    store: SqlStore, lease: Lease, uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    store.set_artifact(lease, "pareto.json", "nowhere/pareto.json", "1" * 64)
    project(store, uri)
    assert store.unprojected() == []
    assert "pareto.json is gone" in caplog.text


def test_one_process_at_a_time_tells_of_a_search(store: SqlStore, lease: Lease, uri: str) -> None:
    other = store.create_search(replace(store.get(lease.search)).spec).id
    held = store.acquire(lease.search, "host:2:2", 60, purpose="projection")
    with pytest.raises(LeaseLost, match="projection"):
        project(store, uri, search=lease.search)
    assert project(store, uri) == 1
    assert store.unprojected() == [lease.search]
    assert other in projected_searches(uri)
    store.release(held)
    assert project(store, uri) == 1


def test_it_stops_when_it_is_told_to(store: SqlStore, lease: Lease, uri: str) -> None:
    stop = Event()
    stop.set()
    assert project(store, uri, stop=stop) == 0
    assert [event.kind for event in store.outbox(lease.search)] == ["search.created"]


@pytest.mark.parametrize("where", ["port", "text", "folder"])
def test_an_mlflow_out_of_reach_loses_nothing(
    store: SqlStore, lease: Lease, tmp_path: Path, where: str
) -> None:
    (tmp_path / "notes.txt").write_text("These are my notes. " * 100)
    uris = {
        "port": "http://me:secret@127.0.0.1:9",
        "text": f"sqlite:///{tmp_path / 'notes.txt'}",
        "folder": f"sqlite:///{tmp_path / 'notes.txt' / 'mlflow.db'}",
    }
    with pytest.raises(StoreUnavailable, match="the record keeps what") as caught:
        project(store, uris[where])
    assert "secret" not in str(caught.value)
    assert len(store.outbox(lease.search)) == 1
    with pytest.raises(StoreUnavailable):
        rebuild_record(store, uris[where], lease.search)


def test_mlflow_is_not_loaded_before_it_is_needed() -> None:
    script = "import sys, nas.store.projection; sys.exit('mlflow' in sys.modules)"
    paths = {"PYTHONPATH": ":".join(sys.path)}
    assert subprocess.run([sys.executable, "-c", script], env=paths, check=False).returncode == 0
