"""How far were predicted costs right: on timings held out, and on the front as it was measured?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.cost.forecast import FORECASTS, Forecast, from_text
from nas.cost.predicted import Errors
from nas.search.objective import Metric
from nas.search.remeasured import Remeasured, remeasured
from nas.search.spec import SearchSpec
from nas.search.timing import REFERENCE, steady
from nas.search.trial import Trial

# Up to this median error of the front's predictions the report finds nothing to warn of.
BAR = 0.1


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network of the search, predicted first and then measured, in the metric's unit."""

    index: int
    architecture_id: str
    predicted: float
    measured: float
    error: float
    """|predicted - measured| / measured."""

    @classmethod
    def of(cls, found: Remeasured) -> MeasuredNetwork:
        """The same for a report."""
        trial = found.trial
        given = (found.predicted, found.measured, found.error)
        return cls(trial.index, trial.architecture.id, *given)


@dataclass(frozen=True)
class PredictedCost:
    """A measured cost's predictor: what it is, its errors, and the networks measured at the end."""

    metric: Metric
    workload: str
    """On what it was timed, in words."""
    member: str
    used: bool
    """Whether candidates had its predictions; otherwise each was measured."""
    errors: Errors
    """On timings that it was not fitted to."""
    networks: tuple[MeasuredNetwork, ...]
    median_error: float | None
    """Over `networks`; None without any."""
    failed: int
    """Networks of the front that could not be measured."""


def predicted_costs(
    spec: SearchSpec, trials: Sequence[Trial], facts: Mapping[str, str]
) -> tuple[PredictedCost, ...]:
    """One for each predictor that a search's facts have."""
    forecasts = from_text(spec, facts.get(FORECASTS, ""))
    found = remeasured(spec, trials)
    again = {t.architecture for t in trials if t.role == "remeasured" and t.label != REFERENCE}
    failed = len(again - set(steady(spec, trials, "remeasured")))
    return tuple(
        _predicted(spec, name, forecast, found.get(name, []), failed)
        for name, forecast in forecasts.items()
    )


def _predicted(
    spec: SearchSpec, name: str, forecast: Forecast, found: Sequence[Remeasured], failed: int
) -> PredictedCost:
    networks = tuple(map(MeasuredNetwork.of, found))
    return PredictedCost(
        spec.metrics[name],
        spec.latency.told(spec.task_shape),
        forecast.predictor.member,
        forecast.used,
        forecast.predictor.errors,
        networks,
        statistics.median(each.error for each in networks) if networks else None,
        failed,
    )
