"""Between which points is a search's hypervolume measured, fixed without a look at any trial?"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from nas import catalog
from nas.search.controls import Extent
from nas.search.objective import Metric
from nas.search.pareto import MARGIN
from nas.search.spec import SearchSpec

# The fact of a search that holds its `FixedExtent`, from before its first trial on.
EXTENT = "hypervolume_extent"


@dataclass(frozen=True)
class Span:
    """The smallest and largest value of a cost in a space, and in words by what rule each is."""

    low: float
    high: float
    low_rule: str
    high_rule: str


@dataclass(frozen=True)
class Axis:
    """An objective's part of the reference point and of the ideal one, as the metric's values."""

    metric: str
    worst: float
    best: float
    worst_rule: str
    best_rule: str


@dataclass(frozen=True)
class FixedExtent:
    """The box that hypervolumes over time are normalised in: it does not move while a search runs.

    A point that is at the worst value of an objective or beyond it covers nothing; one beyond the
    best value counts as that value.
    """

    axes: tuple[Axis, ...]

    def normalizing(self, spec: SearchSpec) -> Extent:
        """The same as losses, in the order of the request's objectives."""
        axes = {axis.metric: axis for axis in self.axes}
        pairs = [(each, axes[each.metric.name]) for each in spec.parsed_objectives]
        return Extent(
            tuple(each.loss({axis.metric: axis.worst}) for each, axis in pairs),
            tuple(each.loss({axis.metric: axis.best}) for each, axis in pairs),
        )

    def to_text(self) -> str:
        """The value of the fact `EXTENT`: JSON, from which every number comes back as it was."""
        return json.dumps([asdict(axis) for axis in self.axes])

    @classmethod
    def from_text(cls, text: str) -> FixedExtent:
        """Reads what `to_text` gave."""
        return cls(tuple(Axis(**each) for each in json.loads(text)))


def fixed_extent(spec: SearchSpec, spans: Mapping[str, Span]) -> FixedExtent | None:
    """The extent of a request, with the `spans` of the costs among its objectives.

    A cost's axis goes from one end of its span to the other, a task's metric from the score of an
    uninformed guess to the best there can be; a constraint on an objective cuts its axis short.
    None where an objective has no such ends: a cost without a span, a metric whose best value is
    not declared.
    """
    task = catalog.TASKS.load(spec.task.name)
    guess = task.uninformed(spec.task_shape)
    axes = []
    for objective in spec.parsed_objectives:
        metric = objective.metric
        span = spans.get(metric.name) or _span_of_score(metric, guess)
        if span is None:
            return None
        axes.append(_axis(metric, _constrained(spec, metric.name, span)))
    return FixedExtent(tuple(axes))


def _span_of_score(metric: Metric, guess: Mapping[str, float]) -> Span | None:
    if metric.best is None or not math.isfinite(guess.get(metric.name, math.nan)):
        return None
    blind = (guess[metric.name], "an uninformed guess")
    ends = ((metric.best, "the best there can be"), blind)
    (low, low_rule), (high, high_rule) = ends if metric.direction == "minimize" else ends[::-1]
    return Span(low, high, low_rule, high_rule)


def _constrained(spec: SearchSpec, name: str, span: Span) -> Span:
    low, high = (span.low, span.low_rule), (span.high, span.high_rule)
    for each in spec.parsed_constraints:
        if each.metric == name:
            bound = (each.bound, f"the constraint {each}")
            if each.operator == "<=":
                high = min(high, bound, key=lambda end: end[0])
            else:
                low = max(low, bound, key=lambda end: end[0])
    return Span(low[0], high[0], low[1], high[1])


def _axis(metric: Metric, span: Span) -> Axis:
    low, high = (span.low, span.low_rule), (span.high, span.high_rule)
    best, worst = (low, high) if metric.direction == "minimize" else (high, low)
    away = 1 if metric.direction == "minimize" else -1
    if away * (worst[0] - best[0]) <= 0:
        # One value is all there is: its points still lie inside.
        step = MARGIN * (abs(best[0]) or 1.0)
        worst = (best[0] + away * step, f"{MARGIN:.0%} beyond {best[1]}, as nothing lies between")
    return Axis(metric.name, float(worst[0]), float(best[0]), worst[1], best[1])
