"""Ray: the same trials as in one process, workers that die, Ctrl-C, and other people's clusters."""

import json
import logging
import os
import random
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
from ray import tune

from nas.errors import MachineUnavailable
from nas.run import ray_tune
from nas.run.evaluate import Evaluator, Setup, train
from nas.run.executor import LocalExecutor
from nas.run.queue import TrialQueue, fixed
from nas.run.ray_tune import RayExecutor
from nas.run.workspace import Workspace
from nas.search.resources import ExecutorSpec
from nas.search.trial import Proposal, Standing
from nas.store.sql import SqlStore
from tests.run.cases import RECIPE, facts, request
from tests.run.conformance import ExecutorConformance, evaluated
from tests.run.conftest import Finished
from tests.run.processes import all_gone, command, descendants, newest, write_request
from tests.run.test_plugged_cost import plug

SPEC = request(executor={"name": "ray", "workers": 2, "training_cores": 1})
SPACE = SPEC.search_space
LARGEST, SMALLEST = SPACE.extreme("largest"), SPACE.extreme("smallest")
# Trained alone it outlasts any test.
ENDLESS = {**RECIPE, "steps": 10_000_000, "checkpoint_every": 5}
SLOW = Proposal("confirmed", 1, SMALLEST, Standing(SMALLEST.id, None, 0).label())


class TestConnecting:
    """To which cluster, without any."""

    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
        calls: list[dict[str, Any]] = []
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        monkeypatch.setattr(ray, "is_initialized", lambda: False)
        monkeypatch.setattr(ray, "init", lambda **given: calls.append(given))
        monkeypatch.setattr(ray, "shutdown", lambda: calls.append({"shutdown": True}))
        return calls

    def test_without_an_address_one_is_started_of_the_size_that_is_asked_for(
        self, asked: list[dict[str, Any]]
    ) -> None:
        executor = RayExecutor(ExecutorSpec(workers=3, cores=2, gpus=0.5, training_cores=8))
        executor._connect()
        executor.close()
        started, ended = asked
        assert (started["num_cpus"], started["num_gpus"]) == (8, 2)
        assert "address" not in started
        assert started["logging_level"] == logging.ERROR
        assert ended == {"shutdown": True}

    def test_an_address_is_used_as_it_is(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            for form in ("127.0.0.1:{}", "ray://127.0.0.1:{}"):
                address = form.format(listening.getsockname()[1])
                monkeypatch.setenv("RAY_ADDRESS", address)
                RayExecutor(ExecutorSpec())._connect()
                assert asked[-1]["address"] == address
                assert "num_cpus" not in asked[-1]
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        RayExecutor(ExecutorSpec())._connect()
        assert asked[-1]["address"] == "auto"

    def test_an_address_where_nobody_answers_is_said(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for address in ("127.0.0.1:1", "127.0.0.1:99999", "somewhere", ":6379", "ray://here"):
            monkeypatch.setenv("RAY_ADDRESS", address)
            with pytest.raises(MachineUnavailable, match=f"RAY_ADDRESS={address}: no Ray cluster"):
                RayExecutor(ExecutorSpec())._connect()
        assert asked == []

    @pytest.mark.usefixtures("asked")
    def test_what_ray_cannot_join_or_start_is_said(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(**given: object) -> None:
            # Ray raises a bare Exception where its processes do not start in time.
            raise (
                ConnectionError("nobody is here") if "address" in given else Exception("timed out")
            )

        monkeypatch.setattr(ray, "init", fail)
        with pytest.raises(MachineUnavailable, match=r"Ray could not be started .*: timed out"):
            RayExecutor(ExecutorSpec())._connect()
        monkeypatch.setenv("RAY_ADDRESS", "auto")
        with pytest.raises(MachineUnavailable, match=r"RAY_ADDRESS=auto: .*nobody is here"):
            RayExecutor(ExecutorSpec())._connect()

    def test_a_cluster_that_the_caller_has_is_left_running(
        self, asked: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ray, "is_initialized", lambda: True)
        executor = RayExecutor(ExecutorSpec())
        executor._connect()
        executor.close()
        assert asked == []


class Asked(Exception):
    """Enough was seen: nothing need run."""


def test_a_worker_is_asked_for_with_its_cores_and_its_share_of_a_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def tuner(trainable: Any, **given: Any) -> None:
        asked.append((trainable.default_resource_request({}), given["tune_config"]))
        raise Asked

    def options(**given: Any) -> None:
        asked.append((given["num_cpus"], given["num_gpus"]))
        raise Asked

    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(tune, "Tuner", tuner)
    monkeypatch.setattr(ray, "remote", lambda _: SimpleNamespace(options=options))
    executor = RayExecutor(ExecutorSpec(workers=3, cores=2, gpus=0.5, training_cores=8))
    given = Setup.of(SPEC, tmp_path, tmp_path, tmp_path)
    with pytest.raises(Asked):
        next(executor.train(given))
    with pytest.raises(Asked):
        executor.evaluate(given, TrialQueue(fixed([]), lambda _: None), lambda _: None)
    training, (each, config) = asked
    assert training == (8, 0.5)
    assert each.required_resources == {"CPU": 2, "GPU": 0.5}
    assert (config.max_concurrent_trials, config.reuse_actors) == (3, True)


@pytest.fixture(scope="module")
def setup(tmp_path_factory: pytest.TempPathFactory) -> Setup:
    folder = tmp_path_factory.mktemp("ray")
    made = Setup.of(SPEC, folder / "supernet", folder / "standalone", folder / "data")
    list(train(made))
    return made


WORKER_PROCESS = {"worker_process": "tests.run.plugged:WORKER_PROCESS"}


def install(costs: dict[str, str], folder: Path) -> None:
    """A distribution in this folder, for processes that look there."""
    described = folder / "plugged-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: plugged\nVersion: 1.0\n")
    lines = [f"{name} = {target}\n" for name, target in costs.items()]
    (described / "entry_points.txt").write_text("".join(["[etnas.cost]\n", *lines]))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = tmp_path_factory.mktemp("installed")
    install(WORKER_PROCESS, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
        # Unset, Ray would set it to a worker's CPUs, and torch need not be told.
        patch.setenv("OMP_NUM_THREADS", "1")
        ray.init(
            num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR
        )
        yield
        ray.shutdown()


def children_named(title: str) -> list[int]:
    return [pid for pid, shown in descendants(os.getpid()).items() if title in shown]


@pytest.mark.usefixtures("cluster")
def test_the_trials_are_those_of_one_process(setup: Setup) -> None:
    rng = random.Random(0)
    wanted = [Proposal("search", i, SPACE.sample(rng), "label") for i in range(12)]
    here = evaluated(LocalExecutor(SPEC.executor), setup, fixed(wanted))
    there = evaluated(RayExecutor(SPEC.executor), setup, fixed(wanted))
    assert facts(there) == facts(here)
    assert all(trial.succeeded for trial in there)


@pytest.mark.usefixtures("cluster")
def test_a_worker_keeps_its_process_and_has_the_threads_of_its_cores(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    plug(monkeypatch, **WORKER_PROCESS)
    asked = request(
        executor={"name": "ray", "workers": 1, "cores": 2}, constraints=["worker_process >= 1"]
    )
    given = replace(setup, spec=json.dumps(asked.to_json()))
    wanted = [Proposal("search", i, each) for i, each in enumerate([LARGEST, SMALLEST] * 2)]
    found = evaluated(RayExecutor(asked.executor), given, fixed(wanted))
    assert [trial.measurement.reason for trial in found] == [""] * 4
    (process,) = {trial.metrics["worker_process"] for trial in found}
    assert process != os.getpid()
    assert {trial.metrics["worker_threads"] for trial in found} == {2}


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
def test_a_cluster_without_such_a_machine_is_said(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_tune, "WAIT_SECONDS", 0.1)
    training = RayExecutor(ExecutorSpec(training_cores=512)).train(setup)
    assert next(training).waiting == "no worker with 512 CPUs and 0 GPUs yet"
    assert next(training).step == 0
    training.close()


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestRayExecutor(ExecutorConformance):
    name = "ray"


@pytest.mark.slow
@pytest.mark.usefixtures("cluster")
class TestWorkers:
    def test_a_worker_that_is_killed_is_a_failed_trial_and_the_rest_goes_on(
        self, setup: Setup, tmp_path: Path
    ) -> None:
        endless = request(standalone=ENDLESS, executor={"name": "ray", "workers": 1})
        given = replace(setup, spec=json.dumps(endless.to_json()), standalone=tmp_path)
        over = threading.Event()

        def kill_the_worker() -> None:
            # Its first checkpoint shows that the evaluation is under way.
            while not any(tmp_path.glob("*.safetensors")) and not over.wait(0.01):
                pass
            for pid in children_named("Trainable.train"):
                os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_the_worker)
        killer.start()
        try:
            quick = [Proposal("search", i, LARGEST) for i in (0, 2, 3)]
            wanted = fixed([quick[0], SLOW, *quick[1:]])
            found = evaluated(RayExecutor(endless.executor), given, wanted)
        finally:
            over.set()
            killer.join()
        states = [trial.measurement.state for trial in found]
        assert states == ["succeeded", "failed", "succeeded", "succeeded"]
        assert "the worker died" in found[1].measurement.reason

    def test_a_training_worker_that_dies_is_said(self, setup: Setup, tmp_path: Path) -> None:
        executor = RayExecutor(SPEC.executor)
        endless = request(supernet=ENDLESS)
        given = replace(setup, spec=json.dumps(endless.to_json()), supernet=tmp_path / "endless")
        running = executor.train(given)
        next(running)
        for pid in children_named("ray::prepare"):
            os.kill(pid, signal.SIGKILL)
        with pytest.raises(MachineUnavailable, match="the worker that trained the supernet died"):
            list(running)

    def test_evaluators_are_kept_between_trials(self, setup: Setup) -> None:
        made = ray_tune._Evaluate.__new__(ray_tune._Evaluate)
        made.setup({"setup": setup})
        made.config = {"proposal": Proposal("search", 0, SMALLEST)}
        made.step()
        first = ray_tune._EVALUATORS[setup]
        made.reset_config({"setup": setup})
        made.step()
        assert {setup: first} == ray_tune._EVALUATORS
        assert isinstance(first, Evaluator)
        ray_tune._EVALUATORS.clear()


@pytest.mark.slow
class TestProcesses:
    def started(self, place: Workspace, **more: str) -> Any:
        endless = request(
            supernet={**RECIPE, "steps": 20},
            standalone=ENDLESS,
            budget={"trials": 5000},
            executor={"name": "ray", "workers": 2, "training_cores": 1},
        )
        return command(place, "search", write_request(endless, place.root), more=more)

    def scoring(self, place: Workspace) -> bool:
        record = newest(place)
        return record is not None and SqlStore(place.record_url).count(record.id) > 20

    def test_ctrl_c_ends_it_with_the_command_that_goes_on(self, place: Workspace) -> None:
        with self.started(place) as searching:
            searching.until(lambda: self.scoring(place))
            left = [os.pidfd_open(pid) for pid in descendants(searching.process.pid)]
            os.killpg(searching.process.pid, signal.SIGINT)
            assert searching.end() == 130, searching.said
        record = newest(place)
        assert record is not None
        assert f"nas search --resume {record.id} --home {place.root}" in searching.said
        assert "Traceback" not in searching.said
        assert (record.state, record.holder) == ("running", None)
        all_gone(left)

    def test_what_a_killed_search_leaves_behind_is_gone_soon(self, place: Workspace) -> None:
        with self.started(place) as searching:
            searching.until(lambda: self.scoring(place))
            below = descendants(searching.process.pid)
            assert any("raylet" in title for title in below.values())
            assert any("ray::" in title for title in below.values())
            left = [os.pidfd_open(pid) for pid in below]
            searching.kill()
        all_gone(left)

    def test_a_cluster_that_is_there_is_used_and_left_running(
        self, cluster: None, place: Workspace, finished: Finished
    ) -> None:
        del cluster
        address = ray.get_runtime_context().gcs_address
        request_file = write_request(SPEC, place.root)
        with command(place, "search", request_file, more={"RAY_ADDRESS": address}) as searching:
            searching.until(
                lambda: (record := newest(place)) is not None and record.phase == "search"
            )
            below = descendants(searching.process.pid).values()
            assert not any("raylet" in title for title in below)
            assert searching.end() == 0, searching.said
        record = newest(place)
        assert record is not None
        trials = SqlStore(place.record_url).trials(record.id)
        assert facts(trials) == facts(finished.store.trials(finished.id))
        assert ray.get(ray.remote(lambda: 1).remote()) == 1
