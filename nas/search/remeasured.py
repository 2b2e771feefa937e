"""What did the front's networks take once they were measured, and which of them is still on it?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nas.search.spec import SearchSpec
from nas.search.timing import steady
from nas.search.trial import Trial


@dataclass(frozen=True)
class Remeasured:
    """A network of the search, with a cost as it was predicted and then measured."""

    trial: Trial
    predicted: float
    measured: float

    @property
    def error(self) -> float:
        """|predicted - measured| / measured."""
        apart = abs(self.predicted - self.measured)
        return apart / self.measured if self.measured else math.inf if apart else 0.0


def with_measured(spec: SearchSpec, trials: Iterable[Trial]) -> list[Trial]:
    """The search's own trials, those that were `remeasured` with what was measured of them."""
    given = list(trials)
    found = steady(spec, given, "remeasured")
    searched = [trial for trial in given if trial.role == "search"]
    return [
        _overlaid(trial, found[trial.architecture])
        if trial.succeeded and trial.architecture in found
        else trial
        for trial in searched
    ]


def _overlaid(trial: Trial, again: Mapping[str, float]) -> Trial:
    metrics = {**trial.metrics, **again}
    return replace(trial, measurement=replace(trial.measurement, metrics=metrics))


def remeasured(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, list[Remeasured]]:
    """By measured cost what was predicted of the `remeasured` networks, in their order."""
    searched = {t.architecture: t for t in trials if t.role == "search" and t.succeeded}
    again = steady(spec, trials, "remeasured")
    return {
        name: [
            Remeasured(before, before.metrics[name], metrics[name])
            for architecture, metrics in again.items()
            if (before := searched.get(architecture)) is not None
        ]
        for name in spec.measured_costs
    }
