"""What counts as better: metrics with direction and unit, objectives and constraints on them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nas.errors import SpecError

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Metric:
    """A number that a task or a cost model gives: never without its direction and unit.

    `analytic` metrics are exact functions of the architecture, known before anything runs. `best`
    is the value that nothing can exceed, None where there is none or nobody has said.
    """

    name: str
    direction: Direction
    unit: str
    analytic: bool = False
    best: float | None = None


@dataclass(frozen=True)
class Objective:
    """A metric that the search improves in its own direction."""

    metric: Metric

    def loss(self, metrics: Mapping[str, float]) -> float:
        """The metric's value, negated where larger is better, so that smaller is always better."""
        return metrics[self.metric.name] * self.sign

    def value(self, loss: float) -> float:
        """The metric's value of a loss."""
        return loss * self.sign

    @property
    def sign(self) -> float:
        """+1 where smaller is better, else -1."""
        return 1.0 if self.metric.direction == "minimize" else -1.0


def values_of(objectives: Sequence[Objective], losses: Iterable[float]) -> dict[str, float]:
    """Losses of objectives as the metrics' values, by name."""
    pairs = zip(objectives, losses, strict=True)
    return {each.metric.name: each.value(float(loss)) for each, loss in pairs}


_CONSTRAINT = re.compile(r"\s*([a-z][a-z0-9_]*)\s*(<=|>=)\s*(\S+)\s*")


@dataclass(frozen=True)
class Constraint:
    """A bound that a chosen architecture must keep: `flops <= 2e7`, `accuracy >= 0.9`."""

    metric: str
    operator: Literal["<=", ">="]
    bound: float

    @classmethod
    def parse(cls, text: str, where: str = "constraint") -> Constraint:
        """`METRIC <= NUMBER` or `METRIC >= NUMBER`; raises `SpecError` for anything else."""
        found = _CONSTRAINT.fullmatch(text)
        try:
            bound = float(found[3]) if found else math.nan
        except ValueError:
            bound = math.nan
        if found is None or not math.isfinite(bound) or bound < 0:
            raise SpecError(
                f"{where}: {text!r} given; allowed: 'METRIC <= NUMBER' or 'METRIC >= NUMBER' "
                "with a finite number >= 0"
            )
        return cls(found[1], "<=" if found[2] == "<=" else ">=", bound)

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far the value lies beyond the bound, relative to it; negative when it is kept."""
        value = metrics[self.metric]
        beyond = value - self.bound if self.operator == "<=" else self.bound - value
        return beyond / (abs(self.bound) or 1.0)

    def violation(self, metrics: Mapping[str, float]) -> float:
        """How far the bound is missed, relative to it; 0 when it is kept."""
        return max(0.0, self.excess(metrics))

    def violations(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """`violation` of many values (n,) of the metric."""
        excess = values - self.bound if self.operator == "<=" else self.bound - values
        return np.maximum(0.0, excess) / (abs(self.bound) or 1.0)

    def __str__(self) -> str:
        return f"{self.metric} {self.operator} {self.bound:.15g}"
