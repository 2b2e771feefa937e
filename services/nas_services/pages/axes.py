"""Where on an axis does a value stand, and which values are written beside it?"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from nas.report.front import LOGARITHMIC_FROM
from nas.report.table import PREFIXED, PREFIXES, UNITLESS
from nas.search.objective import Metric

MARGIN = 0.04
# About so many steps between ticks; a narrow screen has room for no more.
STEPS = 5


@dataclass(frozen=True)
class Axis:
    """A stretch of values, logarithmic or not; `title` says what they are, with their unit."""

    title: str
    low: float
    high: float
    log: bool = False
    prefixed: bool = False
    least: float = 0.0
    """The smallest step between ticks."""

    @classmethod
    def of(cls, metric: Metric, values: Sequence[float]) -> Axis:
        """The axis of a metric with these values, logarithmic where they are wide."""
        low, high = (min(values), max(values)) if values else (0.0, 1.0)
        log = low > 0 and high > LOGARITHMIC_FROM * low
        if log:
            beyond = (high / low) ** MARGIN
            low, high = low / beyond, high * beyond
        else:
            beyond = MARGIN * (high - low) or abs(high) * MARGIN or 1.0
            low, high = low - beyond, high + beyond
        return cls(title_of(metric), low, high, log, metric.unit in PREFIXED)

    def share(self, value: float) -> float:
        """Where a value stands: 0 at the low end, 1 at the high one."""
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values within the axis: where each stands, and its text."""
        values = self._decades() if self.log else self._steps()
        return [(self.share(value), self._text(value)) for value in values]

    def _steps(self) -> list[float]:
        rough = (self.high - self.low) / STEPS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough * 0.999)
        step = max(step, self.least)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [place * step for place in range(first, last + 1)]

    def _decades(self) -> list[float]:
        decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)

        def within(steps: Iterable[int]) -> Iterator[float]:
            held = (step * 10.0**decade for decade in decades for step in steps)
            return (each for each in held if self.low <= each <= self.high)

        found = next(
            (list(within(steps)) for steps in ((1, 2, 5), (1, 3)) if len([*within(steps)]) <= 7),
            [*within((1,))],
        )
        return found[:: math.ceil(len(found) / 7)] if found else self._steps()

    def _text(self, value: float) -> str:
        if self.prefixed:
            for factor, prefix in PREFIXES:
                if abs(value) >= factor:
                    return f"{value / factor:.4g}{prefix}"
        return f"{value:.4g}"


def title_of(metric: Metric) -> str:
    """`flops (FLOPs), lower is better`."""
    unit = "" if metric.unit in UNITLESS else f" ({metric.unit})"
    better = "lower" if metric.direction == "minimize" else "higher"
    return f"{metric.name}{unit}, {better} is better"
