"""Would a run fail at once? Data, cores and GPUs, looked at before anything is recorded."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

from nas import catalog
from nas.errors import SpecError
from nas.search.spec import ExecutorSpec, SearchSpec
from nas.task.task import Task, scored_on

if TYPE_CHECKING:
    from nas.run.executor import Executor

_OURS = ("nas", "nas_kernels", "nas_services")
_ELSEWHERE = "ask for less, or for a cluster (executor ray and its address in RAY_ADDRESS)"


def preflight(spec: SearchSpec, data_root: Path) -> str:
    """Checks what this process knows of where a request will run; gives what it could not check.

    Where the workers run on this machine: that it has their cores and GPUs, that the task's files
    are there, and that as many images are held out as candidates are scored on. Nothing is decoded
    and nothing is written. Without the engine, or for workers elsewhere, none of it is known.

    Raises:
        DataError: files are missing or broken.
        SpecError: more is asked for than there is; it names key, given and available.
        MachineUnavailable: nobody answers where the workers are.
    """
    unknown = "the task's data, cores and GPUs"
    try:
        executor: Executor = catalog.EXECUTORS.load(spec.executor.name)(spec.executor)
    except ModuleNotFoundError as error:
        package = (error.name or "nas").partition(".")[0]
        if package in _OURS:
            raise
        return f"{unknown} ({package} is not installed here)"
    if place := executor.elsewhere():
        return f"{unknown} (they are those of {place})"
    _check_machine(spec.executor)
    task: Task = catalog.TASKS.load(spec.task.name)
    options = spec.task.configured(catalog.TASKS, "task")
    scored_on(spec.evaluation.images, task.held_out(options, data_root))
    return ""


def _check_machine(asked: ExecutorSpec) -> None:
    # A container may have fewer of them; what is refused is more than any process could have.
    cores = os.cpu_count() or 1
    if asked.workers * asked.cores > cores:
        raise SpecError(
            f"executor.workers and executor.cores: {asked.workers} x {asked.cores} given, "
            f"{cores} cores are on this machine; {_ELSEWHERE}"
        )
    if asked.cores_for_training > cores:
        raise SpecError(
            f"executor.training_cores: {asked.cores_for_training} given, {cores} cores are on this "
            f"machine; {_ELSEWHERE}"
        )
    if asked.gpus > 0:
        import torch

        seen = torch.cuda.device_count()
        if math.ceil(asked.gpus * asked.workers) > seen:
            raise SpecError(
                f"executor.gpus: {asked.gpus:g} for each of {asked.workers} workers given, torch "
                f"sees {seen} GPUs on this machine; {_ELSEWHERE}"
            )
