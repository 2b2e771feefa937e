"""How much may a search take: its budget, and the machines that it runs on."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import Field, model_validator

from nas import catalog
from nas.search.section import NonNegative, OneOf, Positive, PositiveFloat, Section

Cores = Annotated[Positive, Field(le=1024)]


class Budget(Section):
    """When the search ends: whichever bound is met first.

    Hours count supernet training, timings and search; on top come the controls, which answer for
    the same number of architectures, and where costs are measured those of the front, at the end.
    A device is a worker.
    """

    trials: Positive = 100
    """Architectures of the search, scored or failed."""
    wall_hours: PositiveFloat | None = None
    """Hours by the clock; null: no bound."""
    device_hours: PositiveFloat | None = None
    """Hours of all workers together; null: no bound."""

    def hours(self, devices: int) -> float | None:
        """Hours of wall time that both bounds leave, None for no bound."""
        bounds = (self.wall_hours, self.device_hours and self.device_hours / devices)
        return min((bound for bound in bounds if bound is not None), default=None)


class ExecutorSpec(Section):
    """Where evaluations run, and how much of the machines they take."""

    name: Annotated[str, OneOf(catalog.EXECUTORS)] = "ray"
    """`local`: this process alone; `ray`: Ray Tune, here or on a cluster."""
    workers: Annotated[Positive, Field(le=65_536)] = 1
    """Processes at a time."""
    cores: Cores = 1
    """Cores of each."""
    gpus: Annotated[NonNegative, Field(le=64)] = 0
    """GPUs of each; 0.5: two share one."""
    training_cores: Cores | None = None
    """Cores of the one worker that trains the supernet; null: those of all workers."""

    @model_validator(mode="before")
    @classmethod
    def _named(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @property
    def cores_for_training(self) -> int:
        """Cores, and torch threads, of the worker that trains the supernet."""
        return self.training_cores or self.workers * self.cores

    def gpus_for(self, workers: int) -> int:
        """Whole GPUs for so many workers at a time: a share of one GPU never spans two."""
        if 0 < self.gpus <= 1:
            # A hair of slack: ten tenths are one.
            return math.ceil(workers / math.floor(1 / self.gpus + 1e-9))
        return math.ceil(self.gpus * workers)

    @property
    def training_devices(self) -> int:
        """Devices, each a worker's GPUs or else cores, that the training worker holds."""
        return 1 if self.gpus > 0 else -(-self.cores_for_training // self.cores)
