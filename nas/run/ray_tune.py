"""Evaluations on Ray: a Tune controller whose searcher is our queue, with actors that are reused.

The only door to ray. Ray's `Searcher` interface and trial reuse: docs.ray.io, Tune API.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import tempfile
import threading
from collections.abc import Generator
from typing import Any

import ray
from ray import tune
from ray.tune.search import Searcher

from nas.errors import DataChanged, EtnasError, MachineUnavailable
from nas.run.evaluate import Setup
from nas.run.executor import OnTrial
from nas.run.measuring import Measure, measuring, prepare
from nas.run.queue import TrialQueue
from nas.search.resources import ExecutorSpec
from nas.search.trial import Measurement, Proposal
from nas.train.loop import Progress

CONNECT_SECONDS = 10.0
WAIT_SECONDS = 20.0

# One a worker process: actors are reused, and so are the supernet and the data.
_EVALUATORS: dict[Setup, Measure] = {}


class _Evaluate(tune.Trainable):
    """One step is one evaluation; `reset_config` lets the actor take the next trial."""

    def setup(self, config: dict[str, Any]) -> None:
        self.setting: Setup = config["setup"]

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setting = new_config["setup"]
        return True

    def step(self) -> dict[str, Any]:
        try:
            if self.setting not in _EVALUATORS:
                _EVALUATORS.clear()
                _EVALUATORS[self.setting] = measuring(self.setting)
            measurement = _EVALUATORS[self.setting](self.config["proposal"])
        except DataChanged as error:
            return {"measurement": None, "changed": error, "done": True}
        except Exception as error:  # noqa: BLE001 - no data or no device here: the reason is wanted
            measurement = Measurement.failed(f"{type(error).__name__}: {error}")
        return {"measurement": measurement, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: an evaluation that was cut short is done again."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Nothing, as nothing is saved."""


class _QueueSearcher(Searcher):
    """Our queue as Tune's search algorithm."""

    def __init__(self, setup: Setup, queue: TrialQueue, on_trial: OnTrial) -> None:
        super().__init__(metric="measurement", mode="min")
        self.evaluation, self.queue, self.on_trial = setup, queue, on_trial
        self.running: dict[str, Proposal] = {}
        self.error: BaseException | None = None

    def suggest(self, trial_id: str) -> Any:
        try:
            proposal = None if self.error else self.queue.take()
        except Exception as error:  # noqa: BLE001 - raised again by the driver, outside Tune
            self.error, proposal = error, None
        if proposal is None:
            return Searcher.FINISHED if self.error or self.queue.finished else None
        self.running[trial_id] = proposal
        return {"setup": self.evaluation, "proposal": proposal}

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        proposal = self.running.pop(trial_id, None)
        if proposal is None:
            return
        if changed := (result or {}).get("changed"):
            self.error = changed
            return
        measurement = (result or {}).get("measurement")
        if error or measurement is None:
            measurement = Measurement.failed("the worker died (killed, or out of memory)")
        try:
            self.on_trial(self.queue.put(proposal, measurement))
        except Exception as raised:  # noqa: BLE001 - raised again by the driver, outside Tune
            self.error = raised

    def __getstate__(self) -> dict[str, Any]:
        """Nothing: Tune pickles its searcher to resume by; we resume from the record."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the record is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing: the record is the state."""


def _trial_id(trial: Any) -> str:
    return str(trial.trial_id)


def _check_reachable(address: str) -> None:
    """Raises `MachineUnavailable` where nobody listens: Ray itself would try for ever."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if not (host and port.isdigit()):
            raise ValueError("allowed: HOST:PORT, ray://HOST:PORT or auto")
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError, ValueError) as error:
        raise _no_cluster(address, error) from error


def _no_cluster(address: str | None, error: Exception) -> MachineUnavailable:
    if not address:
        return MachineUnavailable(f"Ray could not be started on this machine: {error}")
    return MachineUnavailable(
        f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}); start it, or unset "
        "RAY_ADDRESS to run on this machine"
    )


class RayExecutor:
    """Workers on Ray: the cluster of RAY_ADDRESS, or one started here while it is needed."""

    def __init__(self, spec: ExecutorSpec) -> None:
        self.spec = spec
        self.started = False

    @property
    def processes(self) -> int:
        return self.spec.workers

    def elsewhere(self) -> str:
        if ray.is_initialized():
            return "the Ray cluster that this process is in"
        address = os.environ.get("RAY_ADDRESS", "")
        if address:
            _check_reachable(address)
        return address and f"RAY_ADDRESS={address}"

    def _connect(self) -> None:
        if ray.is_initialized():
            return
        ended_by = signal.getsignal(signal.SIGTERM)
        address = os.environ.get("RAY_ADDRESS")
        # Ray's notices are for its developers; ours name the trial and the reason.
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
        if address:
            _check_reachable(address)
            where: dict[str, Any] = {"address": address}
        else:
            where = self._of_the_size_asked_for()
        try:
            ray.init(**where, **quiet)
        except Exception as error:
            # Ray has no class of its own for this.
            raise _no_cluster(address, error) from error
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler would end this process without a word of how to go on.
            signal.signal(signal.SIGTERM, ended_by)
        self.started = True

    def _of_the_size_asked_for(self) -> dict[str, Any]:
        spec = self.spec
        return {
            "num_cpus": max(spec.cores * spec.workers, spec.cores_for_training),
            "num_gpus": spec.gpus_for(spec.workers),
            "include_dashboard": False,
        }

    def train(self, setup: Setup) -> Generator[Progress]:
        self._connect()
        remote: Any = ray.remote(prepare).options(
            num_returns="streaming",
            num_cpus=self.spec.cores_for_training,
            num_gpus=self.spec.gpus,
            max_retries=0,
        )
        reports = remote.remote(setup)
        steps = setup.request().supernet.steps
        wanted = f"{self.spec.cores_for_training} CPUs and {self.spec.gpus:g} GPUs"
        try:
            # Ray itself says nothing, however long a cluster has no such machine.
            while not ray.wait([reports], timeout=WAIT_SECONDS, fetch_local=False)[0]:
                yield Progress(0, steps, math.nan, 0.0, waiting=f"no worker with {wanted} yet")
            for reference in reports:
                progress: Progress = ray.get(reference)
                yield progress
        except GeneratorExit:
            # Who gave up listening wants no more of it: a cluster that is shared goes on.
            ray.cancel(reports)
            raise
        except ray.exceptions.RayTaskError as error:
            # The worker's own error says what happened; Ray's wrapper only where.
            cause = error.cause
            raise cause if isinstance(cause, EtnasError) else error from None
        except ray.exceptions.RayError as error:
            raise MachineUnavailable(
                f"the worker that trained the supernet died (killed, or out of memory): {error}"
            ) from error

    def evaluate(self, setup: Setup, queue: TrialQueue, on_trial: OnTrial) -> None:
        self._connect()
        searcher = _QueueSearcher(setup, queue, on_trial)
        resources = {"cpu": self.spec.cores, "gpu": self.spec.gpus}
        # Tune's own files only repeat the record; they go when the evaluation ends.
        os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
        os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
        # Only the older reporter of Tune keeps quiet when it is asked to.
        os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
        # Ctrl-C is the command line's affair: Tune would end the evaluation as if it were done.
        os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
        with tempfile.TemporaryDirectory(prefix="etnas-tune-") as folder:
            tune.Tuner(
                tune.with_resources(_Evaluate, resources),
                tune_config=tune.TuneConfig(
                    search_alg=searcher,
                    num_samples=-1,
                    max_concurrent_trials=self.spec.workers,
                    reuse_actors=True,
                    trial_dirname_creator=_trial_id,
                ),
                run_config=tune.RunConfig(
                    storage_path=folder,
                    name="evaluate",
                    verbose=0,
                    checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
                ),
            ).fit()
        if searcher.error is not None:
            raise searcher.error

    def close(self) -> None:
        if self.started:
            ray.shutdown()
            self.started = False
