"""Would a run fail at once? Data and GPUs, looked at before anything is recorded."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nas import catalog
from nas.errors import SpecError, missing_package
from nas.search.resources import ExecutorSpec
from nas.search.spec import SearchSpec
from nas.task.task import Task, scored_on

if TYPE_CHECKING:
    from nas.run.executor import Executor


def preflight(spec: SearchSpec, data_root: Path) -> str:
    """Checks what this process knows of where a request will run; gives what it could not check.

    Where the workers run on this machine: that it has their GPUs, that the task's files are there,
    and that as many examples are held out as candidates are scored on. Nothing is decoded and
    nothing is written. Fewer cores than asked for make a run slower, and stop none. Without the
    engine, or for workers elsewhere, none of it is known.

    Raises:
        DataError: files are missing or broken.
        SpecError: more is asked for than there is; it names key, given and available.
        MachineUnavailable: nobody answers where the workers are.
        ModuleNotFoundError: the strategy needs a package that is not installed.
    """
    unknown = "the task's data and GPUs"
    try:
        executor: Executor = catalog.EXECUTORS.load(spec.executor.name)(spec.executor)
    except ModuleNotFoundError as error:
        return f"{unknown} ({missing_package(error)} is not installed here)"
    # Wherever the workers are, proposals are made here: what they need that is missing is said now.
    catalog.STRATEGIES.load(spec.strategy.name)(
        spec.strategy.configured(catalog.STRATEGIES, "strategy")
    )
    if place := executor.elsewhere():
        return f"{unknown} (they are those of {place})"
    if spec.executor.gpus > 0:
        _check_gpus(spec.executor, executor.processes)
    task: Task = catalog.TASKS.load(spec.task.name)
    options = spec.task.configured(catalog.TASKS, "task")
    scored_on(spec.evaluation.examples, task.held_out(options, data_root))
    return ""


def _check_gpus(asked: ExecutorSpec, workers: int) -> None:
    import torch

    needed = asked.gpus_for(workers)
    seen = torch.cuda.device_count()
    if needed > seen:
        raise SpecError(
            f"executor.gpus: {asked.gpus:g} given, which takes {needed} for workers at a time: "
            f"{workers}; torch sees {seen} GPUs on this machine; ask for less, or for a cluster "
            "(executor ray and its address in RAY_ADDRESS)"
        )
