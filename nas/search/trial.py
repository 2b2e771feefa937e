"""What came out of one evaluation: a frozen record that is finished, infeasible or failed."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from nas.errors import writable
from nas.space.architecture import Architecture

TrialRole = Literal[
    "search",
    "random",
    "homogeneous",
    "timed",
    "remeasured",
    "matched",
    "fidelity",
    "rung",
    "confirmed",
]
"""`search` is what a strategy sees; `random` and `homogeneous` are its controls. `timed` networks
teach a cost predictor; `remeasured` ones are the front, measured anew, and the rivals that it is
confirmed against; `matched` are homogeneous candidates at a front member's FLOPs. Trained alone are
`fidelity` networks (does the supernet rank them as training does?), those of a `rung` of successive
halving, and the `confirmed`."""
SLICES: frozenset[TrialRole] = frozenset({"search", "random", "homogeneous", "matched"})
"""Roles whose networks are scored as slices of the supernet on the same examples."""
ROLES: tuple[TrialRole, ...] = get_args(TrialRole)
TrialState = Literal["succeeded", "infeasible", "failed"]


@dataclass(frozen=True)
class Measurement:
    """What an evaluation gave: finite metrics, or the state and reason why there are none.

    A number that is not finite makes the measurement `infeasible` with a reason, never a metric.
    `provenance` says where figures come from: the machine, or the signature of what computed them;
    the record keeps all of a search.
    """

    metrics: Mapping[str, float] = field(default_factory=dict)
    state: TrialState = "succeeded"
    reason: str = ""
    seconds: float = 0.0
    provenance: Mapping[str, str] = field(default_factory=dict)

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
    """What a homogeneous control stands for: its attention type; see `Standing` for the others."""


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


@dataclass(frozen=True)
class Standing:
    """For which front member a `matched` or `confirmed` network stands; kept as its label's text.

    `attention` is the one type of a homogeneous network at the member's FLOPs, None for the member
    itself; `seed` the training seed, None for a candidate that was only scored as a slice.
    """

    member: str
    """The front member's architecture id."""
    attention: str | None
    seed: int | None = None

    def label(self) -> str:
        """The label's text: `softmax@MEMBER` of a candidate, JSON of a network trained alone."""
        if self.seed is None:
            return f"{self.attention}@{self.member}"
        text = {
            "kind": "member" if self.attention is None else "homogeneous",
            "attention": self.attention or "",
            "for": self.member,
            "seed": self.seed,
        }
        return json.dumps(text, sort_keys=True)

    @classmethod
    def of(cls, trial: Proposal | Trial) -> Standing:
        """Reads the label of a network of these roles; raises `ValueError` where it cannot."""
        try:
            return _trained(trial.label) if trial.role == "confirmed" else _candidate(trial.label)
        except (ValueError, KeyError, TypeError) as error:
            form = (
                "a JSON object with kind (member, homogeneous), attention, for and seed"
                if trial.role == "confirmed"
                else "TYPE@MEMBER"
            )
            raise ValueError(
                f"trial {trial.role}/{trial.index}: label {trial.label!r} is not {form}: {error}"
            ) from error


def _trained(label: str) -> Standing:
    given = json.loads(label)
    kind, attention, seed = given["kind"], given["attention"], given["seed"]
    if kind not in ("member", "homogeneous") or not isinstance(seed, int):
        raise ValueError(f"kind {kind!r}, seed {seed!r}")
    return Standing(str(given["for"]), str(attention) if kind == "homogeneous" else None, seed)


def _candidate(label: str) -> Standing:
    attention, _, member = label.rpartition("@")
    if not attention or not member:
        raise ValueError("no attention type or no member")
    return Standing(member, attention)
