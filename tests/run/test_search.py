"""A whole search on digits, its budgets, its failures and what stands in the record after it."""

import errno
import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from nas.cost.span import spans
from nas.errors import (
    LeaseLost,
    MachineUnavailable,
    OutputError,
    SearchNotFound,
    SearchStateError,
    TrainingDiverged,
)
from nas.run import search
from nas.run.evaluate import Evaluator, Setup
from nas.run.executor import LocalExecutor
from nas.run.running import EvaluationBroken, Update
from nas.run.submission import submit
from nas.run.workspace import Workspace
from nas.search.extent import EXTENT, FixedExtent, fixed_extent
from nas.search.history import History
from nas.search.pareto import ParetoFront
from nas.search.resources import ExecutorSpec
from nas.search.trial import Measurement, Proposal, Trial
from nas.store.sql import SqlStore
from tests.run.cases import (
    RECIPE,
    facts,
    finish,
    full_report,
    outcome,
    place_in,
    request,
    short_report,
)
from tests.run.conftest import Finished
from tests.task.digit_sentences import plug

pytestmark = pytest.mark.usefixtures("without_mlflow")


def store_of(place: Workspace) -> SqlStore:
    return SqlStore(place.record_url)


class TestUndisturbed:
    def test_the_record(self, finished: Finished) -> None:
        record = finished.store.get(finished.id)
        assert (record.state, record.phase, record.error) == ("succeeded", "report", None)
        assert (record.attempt, record.holder) == (1, None)
        assert record.facts["space_digest"] == finished.spec.search_space.digest
        assert record.facts["supernet_digest"] == finished.spec.supernet_digest
        assert "etnas" in record.facts
        assert "torch" in record.facts["evaluation_provenance"]
        assert len(record.facts["data_digest"]) == 64
        assert record.facts["supernet_steps"] == f"{RECIPE['steps']} of {RECIPE['steps']}"
        saved = [
            event.data["supernet_steps"]
            for event in finished.store.events(finished.id)
            if event.kind == "search.facts" and "supernet_steps" in event.data
        ]
        every = RECIPE["checkpoint_every"]
        steps = range(every, RECIPE["steps"] + 1, every)
        assert saved == [f"{step} of {RECIPE['steps']}" for step in steps]
        phases = [
            event.data["phase"]
            for event in finished.store.events(finished.id)
            if event.kind == "search.state" and event.data.get("phase")
        ]
        assert list(dict.fromkeys(phases)) == ["supernet", "search", "controls", "report"]
        assert set(finished.store.spent(finished.id)) >= {"supernet", "search", "controls"}

    def test_trials_and_controls(self, finished: Finished) -> None:
        def of(role: str) -> list[Trial]:
            return [trial for trial in finished.store.trials(finished.id) if trial.role == role]

        space = finished.spec.search_space
        for role, count in (("search", 20), ("random", 6), ("homogeneous", 9)):
            assert [trial.index for trial in of(role)] == list(range(count))
            assert all(trial.succeeded and space.contains(trial.architecture) for trial in of(role))
        for role in ("search", "random"):
            assert len({trial.architecture for trial in of(role)}) == len(of(role))
        for trial in of("homogeneous"):
            assert {str(layer.attention) for layer in trial.architecture.layers} == {trial.label}
        assert {trial.label for trial in of("homogeneous")} == set(map(str, space.all_attentions))

    def test_the_front_is_that_of_the_searched_trials(self, finished: Finished) -> None:
        trials = finished.store.trials(finished.id, "search")
        members = ParetoFront.of(trials, finished.spec.parsed_objectives).members
        assert finished.store.front(finished.id) == tuple(("search", t.index) for t in members)
        assert members

    def test_the_front_is_in_the_record_while_the_search_goes_on(self, finished: Finished) -> None:
        events = finished.store.events(finished.id)
        updates = [event for event in events if event.kind == "pareto.updated"]
        scored = [event for event in events if event.kind == "trial"]
        assert updates[0].sequence < scored[finished.spec.batch].sequence
        for update in updates:
            before = sum(event.sequence < update.sequence for event in scored)
            trials = finished.store.trials(finished.id, "search", limit=min(before, 20))
            members = ParetoFront.of(trials, finished.spec.parsed_objectives).members
            assert update.data["members"] == [["search", trial.index] for trial in members]
        fronts = [update.data["members"] for update in updates]
        assert all(one != other for one, other in itertools.pairwise(fronts))

    def test_the_report_is_there_with_its_digests(self, finished: Finished) -> None:
        artifacts = finished.store.artifacts(finished.id)
        report = {
            *("pareto.html", "pareto.json", "fidelity.json", "history.json", "trials.parquet")
        }
        assert set(artifacts) == {*report, "supernet.safetensors"}
        for artifact in artifacts.values():
            path = Path(artifact.uri)
            assert (path.parent == finished.place.report(finished.id)) == (artifact.name in report)
            assert hashlib.sha256(path.read_bytes()).hexdigest() == artifact.digest
        shown = json.loads(Path(artifacts["pareto.json"].uri).read_text())
        assert shown["search"] == finished.id
        assert shown["words"]

    def test_the_reference_point_of_its_history_is_there_before_any_trial(
        self, finished: Finished
    ) -> None:
        events = finished.store.events(finished.id)
        fixed = [e for e in events if e.kind == "search.facts" and EXTENT in e.data]
        assert len(fixed) == 1
        assert fixed[0].sequence < min(e.sequence for e in events if e.kind == "trial")
        found = FixedExtent.from_text(finished.store.get(finished.id).facts[EXTENT])
        assert found == fixed_extent(finished.spec, spans(finished.spec))
        path = Path(finished.store.artifacts(finished.id)["history.json"].uri)
        shown = json.loads(path.read_text())
        assert [each["worst"] for each in shown["extent"]] == [a.worst for a in found.axes]
        trials = finished.store.trials(finished.id)
        assert shown["search"] == list(History.of(finished.spec, trials, found).search)
        assert len(shown["search"]) == 20
        assert len(shown["random"]["mean"]) == 6

    def test_the_listener_hears_every_phase_to_its_end(self, finished: Finished) -> None:
        last = {update.phase: update for update in finished.updates}
        assert list(last) == ["supernet", "search", "random", "homogeneous", "report"]
        assert all(update.done == update.total for update in last.values())
        heard = [update.done for update in finished.updates if update.phase == "search"]
        assert heard == list(range(21))

    def test_it_cannot_be_resumed(self, finished: Finished) -> None:
        with pytest.raises(SearchStateError, match=f"nas confirm {finished.id}"):
            search.run(finished.id, finished.place, reporter=short_report)

    def test_an_unknown_one_cannot_either(self, finished: Finished) -> None:
        with pytest.raises(SearchNotFound, match="'01NOTTHERE'"):
            search.run("01NOTTHERE", finished.place, reporter=short_report)

    def test_another_run_of_the_request_gives_the_same(
        self, finished: Finished, place: Workspace
    ) -> None:
        again = finish(finished.spec, place)
        assert outcome(place, again.id) == outcome(finished.place, finished.id)


def breaking(monkeypatch: pytest.MonkeyPatch, when: Callable[[Proposal], bool]) -> None:
    measure = Evaluator._measure

    def broken(self: Evaluator, proposal: Proposal) -> Measurement:
        if when(proposal):
            raise RuntimeError("no kernel for this shape")
        return measure(self, proposal)

    monkeypatch.setattr(Evaluator, "_measure", broken)


def test_a_failing_architecture_is_recorded_and_the_search_goes_on(
    finished: Finished, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = finished.store.trials(finished.id, "search")
    failing = {trial.architecture.id for trial in undisturbed if trial.index in (2, 7)}
    breaking(monkeypatch, lambda proposal: proposal.architecture.id in failing)
    record = finish(finished.spec, place)
    trials = store_of(place).trials(record.id, "search")
    assert record.state == "succeeded"
    assert len(trials) == 20
    failed = [trial for trial in trials if trial.measurement.state == "failed"]
    assert {trial.architecture.id for trial in failed} == failing
    assert all("no kernel for this shape" in trial.measurement.reason for trial in failed)
    assert not {("search", trial.index) for trial in failed} & set(store_of(place).front(record.id))
    # The batch was proposed before any of it failed.
    assert facts(trials)[:2] == facts(undisturbed)[:2]


def test_a_machine_where_all_fails_stops_the_search_and_a_mended_one_resumes_it(
    finished: Finished, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = submit(finished.spec, place)
    with monkeypatch.context() as patch:
        breaking(patch, lambda _: True)
        with pytest.raises(EvaluationBroken, match="no kernel for this shape"):
            search.run(record.id, place, reporter=short_report)
    stopped = store_of(place).get(record.id)
    assert (stopped.state, stopped.holder) == ("failed", None)
    assert "no kernel for this shape" in (stopped.error or "")
    resumed = search.run(record.id, place, reporter=short_report)
    assert (resumed.state, resumed.error, resumed.attempt) == ("succeeded", None, 2)
    assert outcome(place, record.id) == outcome(finished.place, finished.id)


def test_a_resumed_search_keeps_its_reference_point(finished: Finished, place: Workspace) -> None:
    record = submit(finished.spec, place)
    store = store_of(place)
    lease = store.acquire(record.id, "elsewhere:1:1", 60)
    axes = FixedExtent.from_text(finished.store.get(finished.id).facts[EXTENT]).axes
    fixed = FixedExtent((axes[0], replace(axes[1], worst=123456789.0))).to_text()
    store.add_facts(lease, {EXTENT: fixed})
    store.release(lease)
    search.run(record.id, place, reporter=short_report)
    assert store.get(record.id).facts[EXTENT] == fixed


def test_a_supernet_that_diverges_is_said(place: Workspace) -> None:
    spec = request(supernet={**RECIPE, "learning_rate": 1e30, "warmup_steps": 0})
    record = submit(spec, place)
    with pytest.raises(TrainingDiverged):
        search.run(record.id, place, reporter=short_report)
    stopped = store_of(place).get(record.id)
    assert (stopped.state, stopped.phase) == ("failed", "supernet")
    assert "learning_rate" in (stopped.error or "")


class TestBeforeHoursOfTraining:
    """What this machine cannot do is said, and noted in the record, before anything is learnt."""

    def stopped(self, place: Workspace, **changes: Any) -> str:
        record = submit(request(**changes), place)
        with pytest.raises(MachineUnavailable) as caught:
            search.run(record.id, place, reporter=short_report)
        noted = store_of(place).get(record.id)
        assert (noted.state, noted.phase, noted.error) == ("failed", "supernet", str(caught.value))
        assert not list(place.root.glob("supernets/*/*.safetensors"))
        return str(caught.value)

    def test_no_gpu(self, place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
        said = self.stopped(place, executor={"name": "local", "gpus": 1})
        assert "executor.gpus: 1 given, but torch sees no GPU" in said

    def test_a_workload_that_cannot_be_had(self, place: Workspace) -> None:
        workload = {"device": "cuda:999"}
        said = self.stopped(place, objectives=["cross_entropy", "latency_ms"], latency=workload)
        assert "latency_ms cannot be measured here" in said
        assert "cuda:999" in said

    @pytest.mark.parametrize(
        "error",
        [
            MemoryError(),
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 EiB"),
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        ],
        ids=["python", "gpu", "cpu"],
    )
    def test_no_memory(
        self, error: Exception, place: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object, **__: object) -> None:
            raise error

        monkeypatch.setattr("nas.train.loop.optimizer_for", fail)
        assert "smaller supernet.batch_size" in self.stopped(place)
        plug(monkeypatch)
        recipes = {"supernet": {"steps": 40}, "standalone": {}}
        changes = {**recipes, "task": "digit_sentences", "evaluation": {"examples": 40}}
        assert "smaller supernet.batch_tokens" in self.stopped(place, **changes)


def test_a_fault_of_ours_is_noted_too_and_a_mended_one_resumes(
    finished: Finished, place: Workspace
) -> None:
    record = submit(finished.spec, place)

    def broken(update: Update) -> None:
        if update.phase == "random":
            raise ZeroDivisionError("a fault")

    with pytest.raises(ZeroDivisionError):
        search.run(record.id, place, reporter=short_report, listener=broken)
    assert store_of(place).get(record.id).error == "ZeroDivisionError: a fault"
    search.run(record.id, place, reporter=short_report)
    assert outcome(place, record.id) == outcome(finished.place, finished.id)


def test_a_disk_that_fills_before_the_report_loses_nothing(
    finished: Finished, place: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    record = submit(finished.spec, place)
    with monkeypatch.context() as patch:
        patch.setattr("nas.report.files.write_atomically", full)
        with pytest.raises(OutputError, match=r"report .*No space left on device.*no trial is"):
            search.run(record.id, place, reporter=full_report)
    stopped = store_of(place).get(record.id)
    assert (stopped.state, stopped.phase) == ("failed", "report")
    assert list(place.report(record.id).iterdir()) == []
    assert search.run(record.id, place, reporter=full_report).state == "succeeded"
    assert outcome(place, record.id) == outcome(finished.place, finished.id)


class TestBudgets:
    def test_little_time_still_ends_with_a_front_of_the_first_batch(self, place: Workspace) -> None:
        record = finish(request(budget={"trials": 20, "wall_hours": 1e-6}), place)
        store = store_of(place)
        assert record.state == "succeeded"
        assert store.count(record.id, "search") == 5
        assert store.count(record.id, "random") == 6
        assert store.front(record.id)

    @pytest.mark.parametrize("processes", [1, 3])
    def test_device_hours_count_what_each_phase_holds(
        self, processes: int, place: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(LocalExecutor, "processes", processes)
        budget = {"trials": 20, "device_hours": 1e-6}
        # Training holds the cores of all workers; who evaluates is the executor's to say.
        executor = {"name": "local", "workers": 2}
        record = finish(request(budget=budget, executor=executor), place)
        assert store_of(place).count(record.id, "search") == 5
        spent = store_of(place).spent(record.id)
        for phase, devices in {"supernet": 2, "search": processes}.items():
            assert spent[phase].device_seconds == pytest.approx(devices * spent[phase].seconds)

    def test_training_counts_what_its_one_worker_holds(self) -> None:
        held: dict[tuple[int, int, float, int | None], int] = {
            (8, 1, 0, None): 8,
            (8, 2, 0, 4): 2,
            (2, 4, 0, 1): 1,
            (2, 4, 0, 9): 3,
            (8, 4, 1, None): 1,
            (8, 4, 0.5, 32): 1,
        }
        for (workers, cores, gpus, training_cores), expected in held.items():
            asked = ExecutorSpec(
                workers=workers, cores=cores, gpus=gpus, training_cores=training_cores
            )
            assert asked.training_devices == expected

    @pytest.mark.parametrize(("training_cores", "held"), [(1, 1), (None, 4)])
    def test_device_hours_last_as_long_as_few_are_held(
        self,
        training_cores: int | None,
        held: int,
        place: Workspace,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        given: list[Setup] = []

        def begun(_: LocalExecutor, setup: Setup) -> None:
            given.append(setup)
            raise KeyboardInterrupt

        monkeypatch.setattr(LocalExecutor, "train", begun)
        executor = {"name": "local", "workers": 4, "training_cores": training_cores}
        budget = {"wall_hours": 10.0, "device_hours": 8.0}
        record = submit(request(executor=executor, budget=budget), place)
        store = store_of(place)
        lease = store.acquire(record.id, "test:1:1", 60)
        store.record_spend(lease, "supernet", 1800.0, 3600.0)
        store.release(lease)
        with pytest.raises(KeyboardInterrupt):
            search.run(record.id, place, reporter=short_report)
        bounds = [0.75 * 10 * 3600 - 1800, (0.75 * 8 * 3600 - 3600) / held]
        assert given[0].training_seconds == pytest.approx(min(bounds), abs=60)
        assert store.spent(record.id)["supernet"].device_seconds > 3600

    @pytest.mark.parametrize("bound", ["wall_hours", "device_hours"])
    def test_time_left_counts_what_earlier_runs_used(
        self, bound: str, place: Workspace, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        record = submit(request(budget={"trials": 20, bound: 100.0}), place)
        with monkeypatch.context() as patch:
            patch.setattr(LocalExecutor, "evaluate", interrupted)
            with pytest.raises(KeyboardInterrupt):
                search.run(record.id, place, reporter=short_report)
        store = store_of(place)
        lease = store.acquire(record.id, "test:1:1", 60)
        used = 101 * 3600.0
        wall, device = (used, 0.0) if bound == "wall_hours" else (0.0, used)
        store.record_spend(lease, "search", wall, device)
        store.release(lease)
        search.run(record.id, place, reporter=short_report)
        assert store.count(record.id, "search") == 5

    def test_a_training_cut_short_is_no_other_budgets_supernet(self, place: Workspace) -> None:
        long = {**RECIPE, "steps": 1_000_000, "checkpoint_every": 1_000_000}
        heard: list[Update] = []
        spec = request(supernet=long, budget={"trials": 5, "wall_hours": 1e-6})
        assert finish(spec, place, heard.append).state == "succeeded"
        ended = [update for update in heard if update.phase == "supernet"][-1]
        assert ended.text == "the time budget is spent"
        assert ended.done < ended.total
        assert not place.supernet(request(supernet=long)).exists()
        again: list[Update] = []
        finish(spec, place, again.append)
        assert [update.done for update in again if update.phase == "supernet"] == [ended.done]


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_supernet_is_trained_once_for_all_who_ask_for_it(
    finished: Finished, tmp_path: Path
) -> None:
    place = place_in(tmp_path)
    finish(request(), place)
    (file,) = place.supernet(finished.spec).glob("*/supernet.safetensors")
    written = file.stat().st_mtime_ns
    heard: list[Update] = []
    finish(request(strategy="random", name="other"), place, heard.append)
    assert [update.done for update in heard if update.phase == "supernet"] == [RECIPE["steps"]]
    assert file.stat().st_mtime_ns == written
    finish(request(seed=4), place)
    assert len(list((place.root / "supernets").iterdir())) == 2


class TestWarmStart:
    def test_the_earlier_front_is_scored_first(self, finished: Finished) -> None:
        earlier = finished.store.trials(finished.id, "search")
        front = [
            trial.index
            for trial in ParetoFront.of(earlier, finished.spec.parsed_objectives).members
        ]
        spec = request(strategy="random", seed=9)
        record = finish(spec, finished.place, warm_start=finished.id[:12])
        assert record.warm_start == finished.id
        trials = finished.store.trials(record.id, "search")
        rest = [trial.index for trial in earlier if trial.index not in front]
        known = [earlier[i].architecture for i in (*front, *rest)]
        assert len(trials) == 20
        assert [trial.architecture for trial in trials[:10]] == known[:10]
        assert not {trial.architecture for trial in trials[10:]} & set(known[:10])

    def test_only_what_this_search_allows(self, finished: Finished) -> None:
        earlier = finished.store.trials(finished.id, "search")
        bound = sorted(trial.metrics["flops"] for trial in earlier)[4]
        spec = request(constraints=[f"flops <= {bound}"], seed=9)
        record = finish(spec, finished.place, warm_start=finished.id)
        trials = finished.store.trials(record.id, "search")
        allowed = {t.architecture for t in earlier if t.metrics["flops"] <= bound}
        assert {trial.architecture for trial in trials[: len(allowed)]} == allowed
        assert all(trial.metrics["flops"] <= bound for trial in trials)

    def test_an_unknown_search_is_refused_before_anything_is_written(
        self, place: Workspace
    ) -> None:
        with pytest.raises(SearchNotFound):
            submit(request(), place, warm_start="01NOTTHERE")
        assert store_of(place).searches() == []

    def test_what_the_earlier_search_adds_later_changes_nothing(
        self, finished: Finished, place: Workspace
    ) -> None:
        store = store_of(place)
        earlier = finished.store.trials(finished.id, "search")
        started = store.create_search(finished.spec.to_json())
        lease = store.acquire(started.id, "test:1:1", 60)
        # 3 is still being evaluated when the warm starts begin.
        for index in (0, 1, 2, 4):
            store.add_trial(lease, earlier[index])
        records = [submit(request(seed=9), place, warm_start=started.id) for _ in range(2)]
        search.run(records[0].id, place, reporter=short_report)
        for index in (3, *range(5, 20)):
            store.add_trial(lease, earlier[index])
        search.run(records[1].id, place, reporter=short_report)
        chosen = [trial.architecture for trial in store.trials(records[0].id, "search")]
        assert set(chosen[:3]) == {trial.architecture for trial in earlier[:3]}
        assert outcome(place, records[1].id) == outcome(place, records[0].id)


class TestInterrupted:
    @pytest.mark.parametrize("at", [1, 4, 12, 19])
    def test_it_goes_on_where_it_was(self, finished: Finished, place: Workspace, at: int) -> None:
        def stop(update: Update) -> None:
            if (update.phase, update.done) == ("search", at):
                raise KeyboardInterrupt

        record = submit(finished.spec, place)
        with pytest.raises(KeyboardInterrupt):
            search.run(record.id, place, reporter=short_report, listener=stop)
        left = store_of(place).get(record.id)
        assert (left.state, left.holder) == ("running", None)
        assert store_of(place).count(record.id) == at
        search.run(record.id, place, reporter=short_report)
        assert outcome(place, record.id) == outcome(finished.place, finished.id)

    def test_a_live_run_is_left_alone(self, place: Workspace) -> None:
        record = submit(request(), place)
        store_of(place).acquire(record.id, "elsewhere:1:1", 60)
        with pytest.raises(LeaseLost, match="elsewhere:1:1"):
            search.run(record.id, place, reporter=short_report)
        assert store_of(place).get(record.id).state == "queued"

    def test_one_that_was_taken_over_writes_no_more(self, place: Workspace) -> None:
        record = submit(request(), place)
        store = store_of(place)

        def steal(update: Update) -> None:
            if (update.phase, update.done) == ("search", 3):
                store.acquire(record.id, "elsewhere:1:1", 60, lambda _: False)

        with pytest.raises(LeaseLost):
            search.run(record.id, place, reporter=short_report, listener=steal)
        left = store.get(record.id)
        assert (left.state, left.holder) == ("running", "elsewhere:1:1")
        assert store.count(record.id) == 3

    def test_a_cancelled_one_stays_cancelled(self, place: Workspace) -> None:
        record = submit(request(), place)
        store = store_of(place)
        lease = store.acquire(record.id, "test:1:1", 60)
        store.set_state(lease, "cancelled")
        store.release(lease)
        with pytest.raises(SearchStateError, match="cannot be resumed"):
            search.run(record.id, place, reporter=short_report)
        assert store.get(record.id).state == "cancelled"


def test_controls_that_nothing_meets_are_none(finished: Finished, place: Workspace) -> None:
    trials = finished.store.trials(finished.id)
    mixed = min(
        (t for t in trials if len({layer.attention for layer in t.architecture.layers}) > 1),
        key=lambda trial: trial.metrics["params"],
    )
    spec = request(constraints=[f"params <= {mixed.metrics['params']}"])
    record = finish(spec, place)
    assert record.state == "succeeded"
    homogeneous = store_of(place).trials(record.id, "homogeneous")
    assert all(trial.metrics["params"] <= mixed.metrics["params"] for trial in homogeneous)


def test_time_is_charged_while_it_passes(place: Workspace) -> None:
    began = time.monotonic()
    record = finish(request(), place)
    spent = store_of(place).spent(record.id)
    assert 0 < sum(used.seconds for used in spent.values()) <= time.monotonic() - began


def test_a_workspace_names_its_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nas.run.workspace import workspace

    for name in ("NAS_HOME", "NAS_DATABASE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    place = workspace(tmp_path)
    assert place.record_url == f"sqlite:///{tmp_path / 'record.db'}"
    assert place.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("NAS_HOME", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("NAS_DATABASE_URL", "postgresql://db/nas")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert workspace() == replace(
        workspace(tmp_path / "elsewhere"),
        record_url="postgresql://db/nas",
        tracking_uri="http://mlflow:5000",
    )
    spec = request()
    folder = tmp_path / "elsewhere" / "supernets" / spec.supernet_digest
    assert workspace().supernet(spec) == folder
