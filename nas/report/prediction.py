"""How far were predicted costs right: on timings held out, and on the front as it was measured?"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nas.cost.forecast import FORECASTS, Forecast, from_text
from nas.cost.predicted import Errors
from nas.search.objective import Metric
from nas.search.pareto import front_of
from nas.search.remeasured import Remeasured, remeasured
from nas.search.spec import SearchSpec
from nas.search.timing import steady
from nas.search.trial import Trial

# Up to this median error of the front's predictions the report finds nothing to warn of.
BAR = 0.1


@dataclass(frozen=True)
class MeasuredNetwork:
    """A network of the search, its cost as the search had it and as measured for the front."""

    index: int
    architecture_id: str
    predicted: float
    """In the metric's unit; where candidates were not predicted, what one taking gave."""
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
    """A measured cost: what predicted it, if anything did, and the networks measured at the end."""

    metric: Metric
    workload: str
    """On what it was timed, in words."""
    member: str | None
    """Of the predictor; None where nothing was learnt."""
    used: bool
    """Whether candidates had its predictions; otherwise each was measured."""
    errors: Errors | None
    """On timings that it was not fitted to."""
    networks: tuple[MeasuredNetwork, ...]
    median_error: float | None
    """Over `networks`; None without any."""
    unmeasured: int
    """Members of the front that stand by what the search had of them alone."""


def predicted_costs(
    spec: SearchSpec, trials: Sequence[Trial], facts: Mapping[str, str]
) -> tuple[PredictedCost, ...]:
    """One for each cost of a request that takes a machine, from when a network was scored."""
    if not any(trial.role == "search" and trial.succeeded for trial in trials):
        return ()
    forecasts = from_text(spec, facts.get(FORECASTS, ""))
    found, again = remeasured(spec, trials), set(steady(spec, trials, "remeasured"))
    unmeasured = sum(t.architecture not in again for t in front_of(spec, trials).members)
    return tuple(
        _predicted(spec, name, forecasts.get(name), found[name], unmeasured)
        for name in spec.measured_costs
    )


def _predicted(
    spec: SearchSpec,
    name: str,
    forecast: Forecast | None,
    found: Sequence[Remeasured],
    unmeasured: int,
) -> PredictedCost:
    networks = tuple(map(MeasuredNetwork.of, found))
    return PredictedCost(
        spec.metrics[name],
        spec.latency.told(spec.task_shape),
        forecast.predictor.member if forecast else None,
        forecast is not None and forecast.used,
        forecast.predictor.errors if forecast else None,
        networks,
        statistics.median(each.error for each in networks) if networks else None,
        unmeasured,
    )
