"""How many devices does a search hold? A device is a worker: its GPUs, else its cores."""

from __future__ import annotations

from nas.search.spec import ExecutorSpec, SearchSpec


def devices(executor: ExecutorSpec, phase: str) -> int:
    """Devices that a phase holds: every worker, but what its one worker holds while it trains.

    That worker has one worker's GPUs, or, where there are none, the cores of some or all of them.
    """
    if phase != "supernet":
        return executor.workers
    return 1 if executor.gpus > 0 else -(-executor.cores_for_training // executor.cores)


def training_hours(spec: SearchSpec) -> float | None:
    """Hours of wall time after which the budget is spent by training alone, None for no bound."""
    return spec.budget.hours(devices(spec.executor, "supernet"))
