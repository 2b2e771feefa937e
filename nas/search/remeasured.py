"""What did the front's networks take once they were measured, and which of them is still on it?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from nas.search.spec import SearchSpec
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
        return abs(self.predicted - self.measured) / self.measured


def with_measured(trials: Iterable[Trial]) -> list[Trial]:
    """The search's own trials, those that were `remeasured` with what was measured of them."""
    given = list(trials)
    found = {t.architecture: t for t in given if t.role == "remeasured" and t.succeeded}
    searched = [trial for trial in given if trial.role == "search"]
    return [
        _overlaid(trial, found[trial.architecture])
        if trial.succeeded and trial.architecture in found
        else trial
        for trial in searched
    ]


def _overlaid(trial: Trial, again: Trial) -> Trial:
    metrics = {**trial.metrics, **again.metrics}
    return replace(trial, measurement=replace(trial.measurement, metrics=metrics))


def remeasured(spec: SearchSpec, trials: Sequence[Trial]) -> dict[str, list[Remeasured]]:
    """By measured cost what was predicted of the `remeasured` networks, in their order."""
    searched = {t.architecture: t for t in trials if t.role == "search" and t.succeeded}
    again = sorted((t for t in trials if t.role == "remeasured"), key=lambda trial: trial.index)
    return {
        name: [
            Remeasured(before, before.metrics[name], each.metrics[name])
            for each in again
            if each.succeeded and (before := searched.get(each.architecture)) is not None
        ]
        for name in spec.measured_costs
    }
