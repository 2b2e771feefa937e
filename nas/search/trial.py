"""What came out of one evaluation: a frozen record that is finished, infeasible or failed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from nas.errors import writable
from nas.space.architecture import Architecture

TrialRole = Literal["search", "random", "homogeneous", "matched", "confirmed"]
"""`search` is what a strategy sees; `random` and `homogeneous` are its controls; `matched` are the
homogeneous candidates at a front member's FLOPs; `confirmed` networks were trained alone."""
ROLES: tuple[TrialRole, ...] = get_args(TrialRole)
TrialState = Literal["succeeded", "infeasible", "failed"]


@dataclass(frozen=True)
class Measurement:
    """What an evaluation gave: finite metrics, or the state and reason why there are none.

    A number that is not finite makes the measurement `infeasible` with a reason, never a metric.
    `machines` says on what each measured cost was taken; the record keeps the search's machines.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    state: TrialState = "succeeded"
    reason: str = ""
    seconds: float = 0.0
    machines: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, metrics: Mapping[str, float], seconds: float = 0.0) -> Measurement:
        """Succeeded with these metrics; infeasible where one of them is not finite."""
        bad = sorted(name for name, value in metrics.items() if not math.isfinite(value))
        finite = {name: float(value) for name, value in metrics.items() if name not in bad}
        if bad:
            return cls(finite, "infeasible", f"not finite: {', '.join(bad)}", seconds)
        return cls(finite, "succeeded", "", seconds)

    @classmethod
    def failed(cls, reason: str, seconds: float = 0.0) -> Measurement:
        """No metrics, and why."""
        return cls({}, "failed", writable(reason), seconds)


@dataclass(frozen=True)
class Proposal:
    """An architecture that waits for its evaluation; (role, index) is unique within a search."""

    role: TrialRole
    index: int
    architecture: Architecture
    label: str = ""
    """What a control or confirmation stands for: the attention type, `softmax seed 1`, ..."""


@dataclass(frozen=True)
class Trial:
    """One evaluated architecture: a proposal with its measurement, as the record holds it."""

    role: TrialRole
    index: int
    architecture: Architecture
    measurement: Measurement
    label: str = ""

    @property
    def succeeded(self) -> bool:
        """Whether all metrics are there."""
        return self.measurement.state == "succeeded"

    @property
    def metrics(self) -> Mapping[str, float]:
        """The measurement's metrics."""
        return self.measurement.metrics
