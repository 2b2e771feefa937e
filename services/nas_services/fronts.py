"""What is told of a search's front: its members, how it grew, and whether scores can be trusted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from nas import catalog
from nas.cost.forecast import FORECASTS, from_text
from nas.errors import SpecError
from nas.registry import nearest
from nas.report.evidence import Fidelity
from nas.report.fidelity import fidelity, judge
from nas.report.history import history_of
from nas.report.prediction import PredictedCost, predicted_costs
from nas.search.extent import EXTENT
from nas.search.fidelity import Agreements, RankerTest
from nas.search.history import ControlCurve, History
from nas.search.objective import Constraint, Metric
from nas.search.pareto import ParetoFront, scored
from nas.search.rank_correlation import RankAgreement
from nas.search.remeasured import with_measured
from nas.search.spec import SearchSpec
from nas.search.timing import steady
from nas.search.trial import Trial
from nas.space.architecture import Architecture
from nas_services import schemas
from nas_services.errors import Problem
from nas_services.findings import Found

ReadArchitecture = Callable[[Trial], Mapping[str, Any]]
"""The JSON form of a trial's architecture."""


# -- front -----------------------------------------------------------------------------------------


def front_shown(
    found: Found, constraints: Sequence[Constraint], read: ReadArchitecture
) -> schemas.FrontShown:
    """The front as the trials stand, under further constraints.

    Raises `SpecError` for a constraint on what was not measured of every scored trial.
    """
    spec, trials = found.spec, found.trials
    searched = scored(with_measured(spec, trials))
    later = [each for each in constraints if each not in spec.parsed_constraints]
    for each in later:
        if lacking := next((t for t in searched if each.metric not in t.metrics), None):
            known = nearest(each.metric, sorted(lacking.metrics))
            raise SpecError(f"constraint: '{each}': not measured in this search; {known}")
    front = ParetoFront.of(searched, spec.parsed_objectives, (*spec.parsed_constraints, *later))
    source = _sources(found)
    return schemas.FrontShown(
        search=found.record.id,
        state=found.record.state,
        objectives=[_metric(each.metric) for each in spec.parsed_objectives],
        constraints=[str(each) for each in spec.parsed_constraints],
        later_constraints=[str(each) for each in later],
        scored=len(searched),
        members=[
            schemas.MemberShown(
                trial=f"{found.record.id}.{each.role}.{each.index}",
                index=each.index,
                architecture_id=each.architecture.id,
                architecture=dict(read(each)),
                metrics=dict(each.metrics),
                sources={name: source(each, name) for name in each.metrics},
            )
            for each in front.members
        ],
    )


def _metric(metric: Metric) -> schemas.MetricShown:
    return schemas.MetricShown(name=metric.name, direction=metric.direction, unit=metric.unit)


def _sources(found: Found) -> Callable[[Trial, str], schemas.Source]:
    spec = found.spec
    of_task = {metric.name for metric in catalog.TASKS.load(spec.task.name).metrics}
    again = steady(spec, found.trials, "remeasured") if spec.measured_costs else {}
    forecasts = from_text(spec, found.record.facts.get(FORECASTS, ""))
    predicted = {name for name, forecast in forecasts.items() if forecast.used}

    def source(trial: Trial, name: str) -> schemas.Source:
        if name in of_task:
            return "scored"
        if name in spec.metrics and spec.metrics[name].analytic:
            return "exact"
        if name in predicted and name not in again.get(trial.architecture, {}):
            return "predicted"
        return "measured"

    return source


# -- history ---------------------------------------------------------------------------------------


def history_shown(found: Found) -> schemas.HistoryShown:
    """The hypervolume after each trial; raises `Problem` (404) where there is no curve."""
    history = history_of(found.spec, found.trials, found.record.facts.get(EXTENT, ""))
    if history is None:
        raise Problem(
            404,
            "Not Found",
            "There is no curve: the search has no trial yet, or one of its objectives has no ends "
            "that are known without a look at the trials.",
            kind="no-history",
        )
    axes = history.extent.axes
    # Trials come in any order; the curve is by index.
    came = {
        trial.index: time
        for trial, time in zip(found.trials, found.times, strict=True)
        if trial.role == "search"
    }
    control = history.random
    return schemas.HistoryShown(
        search=found.record.id,
        reference={axis.metric: axis.worst for axis in axes},
        ideal={axis.metric: axis.best for axis in axes},
        extent=[schemas.AxisShown(**asdict(axis)) for axis in axes],
        curve=schemas.CurveShown(
            hypervolume=list(history.search), time=[came[i] for i in range(len(history.search))]
        ),
        random=None if control is None else _control(control),
        at_equal_trials=_at_equal_trials(history),
    )


def _control(curve: ControlCurve) -> schemas.ControlShown:
    return schemas.ControlShown(
        as_run=list(curve.as_run),
        mean=list(curve.mean),
        deviation=list(curve.deviation),
        orders=curve.orders,
    )


def _at_equal_trials(history: History) -> schemas.EqualTrials | None:
    n = history.equal_n
    if history.random is None or not n:
        return None
    ours, theirs = history.search[n - 1], history.random.mean[n - 1]
    return schemas.EqualTrials(trials=n, search=ours, random=theirs, difference=ours - theirs)


# -- fidelity --------------------------------------------------------------------------------------


def fidelity_shown(found: Found, alone: Sequence[Trial]) -> schemas.FidelityShown:
    """What is known of how far scores and predictions can be trusted.

    `alone` are the trials of role `fidelity` with their architectures.
    """
    spec, facts = found.spec, found.record.facts
    checked = fidelity(spec, _with_read(found.trials, alone), facts)
    tried = RankerTest.of(facts)
    verdict = judge(spec.gate, checked, tried, looked_up=spec.looked_up)
    return schemas.FidelityShown(
        search=found.record.id,
        gate=schemas.GateShown(**{**asdict(verdict), "reasons": list(verdict.reasons)}),
        supernet=None if checked is None else _supernet(checked),
        ranker=None if tried is None else _ranker(tried),
        predicted=_predicted(spec, found),
    )


def _with_read(trials: Sequence[Trial], alone: Sequence[Trial]) -> list[Trial]:
    """The trials, with those architectures read that were trained alone: their sizes are told."""
    read: dict[str, Architecture] = {each.architecture.id: each.architecture for each in alone}
    return [
        replace(each, architecture=read[each.architecture.id])
        if each.architecture.id in read
        else each
        for each in trials
    ]


def _supernet(checked: Fidelity) -> schemas.SupernetFidelity:
    return schemas.SupernetFidelity(
        metric=checked.metric,
        planned=checked.planned,
        trained=len(checked.networks),
        lost=checked.lost,
        agreements=_agreements(checked.agreements),
    )


def _ranker(tried: RankerTest) -> schemas.RankerFidelity:
    return schemas.RankerFidelity(
        member=tried.member,
        fitted=tried.fitted,
        reason=tried.reason,
        agreements=None if tried.agreements is None else _agreements(tried.agreements),
    )


def _predicted(spec: SearchSpec, found: Found) -> list[schemas.PredictedFidelity]:
    costs = predicted_costs(spec, found.trials, found.record.facts)
    return [shown for each in costs if (shown := _prediction(each)) is not None]


def _prediction(cost: PredictedCost) -> schemas.PredictedFidelity | None:
    errors = cost.errors
    if errors is None or cost.member is None:
        return None
    return schemas.PredictedFidelity(
        metric=cost.metric.name,
        member=cost.member,
        used=cost.used,
        networks=errors.count,
        mape=errors.mape,
        low=errors.low,
        high=errors.high,
        tau=_agreement(errors.tau),
        params=None if errors.params is None else _agreement(errors.params),
        front_median_error=cost.median_error,
        front_networks=len(cost.networks),
    )


def _agreements(given: Agreements) -> schemas.AgreementsShown:
    return schemas.AgreementsShown(
        score=_agreement(given.score),
        params=_agreement(given.params),
        depth=_agreement(given.depth),
    )


def _agreement(given: RankAgreement) -> schemas.AgreementShown:
    return schemas.AgreementShown(tau=given.tau, low=given.low, high=given.high, n=given.n)
