"""What does a search show beside its controls: the values that every form of report is made of."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from nas.report.halving import RungResult, TrueFront
from nas.report.prediction import PredictedCost
from nas.report.statistics import Estimate
from nas.search.fidelity import Agreements, RankerTest
from nas.search.objective import Metric
from nas.search.rank_correlation import RankAgreement
from nas.space.architecture import Architecture

Verdict = Literal["covers more", "covers less", "not resolved", "not comparable", "exploratory"]
"""Of the first side; the last three decide nothing."""
Better = Literal["member", "rival"] | None
"""Which of two networks trained alone is better; None where that is not resolved."""
NOT_RESOLVED: Final = "not resolved"
NOT_COMPARABLE: Final = "not comparable"
EXPLORATORY: Final = "exploratory"


@dataclass(frozen=True)
class Count:
    """How the trials of one role ended; `reasons` counts why some have no score."""

    role: str
    succeeded: int
    infeasible: int
    failed: int
    breaking_constraints: int
    reasons: Mapping[str, int]


@dataclass(frozen=True)
class Matched:
    """The best scored homogeneous control of one type that costs no more FLOPs than a member."""

    attention: str
    architecture_id: str
    value: float
    """Of the task's primary metric."""
    flops: int


@dataclass(frozen=True)
class Member:
    """One trial of the front; `matched` lists only the types that have such a control."""

    index: int
    architecture_id: str
    architecture: Architecture
    metrics: Mapping[str, float]
    flops: int | None
    """None where nothing tells them."""
    share_efficient: float
    matched: tuple[Matched, ...]
    dominated_by: tuple[str, ...]
    """The controls that dominate it, by role and index: `random 12`."""


@dataclass(frozen=True)
class Coverage:
    """A normalised hypervolume in [0, 1] at a given number of scored trials.

    `deviation`: standard deviation over random subsamples, None where all `scored` were taken.
    """

    mean: float
    deviation: float | None
    scored: int


@dataclass(frozen=True)
class Comparison:
    """The search against one control at an equal number `n` of scored trials.

    `noise` is the standard deviation of the difference over half-samples (subsamples of at most
    half of either side, whose spread is that of the whole for a mean). A difference below twice
    the noise is not resolved, nor is any where the random networks' scores are not. Under a
    constraint that was chosen after the run it is exploratory, whatever the figures.
    """

    control: str
    n: int
    search: Coverage
    other: Coverage
    difference: float
    noise: float | None
    verdict: Verdict


@dataclass(frozen=True)
class Resolution:
    """Whether scores differ by more than their noise on the held-out examples.

    `spread`: standard deviation of the random controls' primary metric; `standard_error`: their
    median standard error of the paired per-image difference to one fixed network. Resolved when
    the spread is at least 3 times the error; None where the record cannot tell.
    """

    metric: str
    n: int
    spread: float | None
    standard_error: float | None
    ratio: float | None
    resolved: bool | None


@dataclass(frozen=True)
class Ranker:
    """How well a count orders the random controls: Kendall's tau with the supernet's score."""

    name: str
    tau: float | None
    n: int


@dataclass(frozen=True)
class Difference:
    """Member minus homogeneous network in one metric, over seeds that both were trained with."""

    metric: str
    estimate: Estimate


@dataclass(frozen=True)
class Contrast:
    """A front member against the homogeneous network of one type at matched FLOPs, both alone."""

    attention: str
    architecture_id: str
    flops_ratio: float
    """The homogeneous network's FLOPs by the member's."""
    matched: bool
    """Whether the ratio is within the request's tolerance."""
    differences: tuple[Difference, ...]
    """The primary metric first."""
    values: Mapping[str, Estimate]
    """The homogeneous network's own results by metric, over its seeds."""
    better: Better
    verdict: str
    """The same in words."""


@dataclass(frozen=True)
class MemberConfirmation:
    """A front member trained alone; `attention` is None where it mixes types.

    `values`: its own results by metric, over its seeds.
    """

    architecture_id: str
    attention: str | None
    flops: int
    values: Mapping[str, Estimate]
    contrasts: tuple[Contrast, ...]
    better: Better
    """The member against every other type of the space, or any rival against it."""
    verdict: str
    """The same in words."""


@dataclass(frozen=True)
class TrainedAlone:
    """A network with two values of the primary metric: of its slice, and trained alone."""

    architecture_id: str
    trial: str
    """Role and index of the trial that scored its slice: `search 17`."""
    on_front: bool
    supernet: float
    alone: float
    params: int
    depth: int


@dataclass(frozen=True)
class Fidelity:
    """Does the supernet rank networks as training alone does, by the metric and recipe stated?

    `planned` were to be trained; `open` are not yet, but will be, unless the `hours_spent` (empty:
    none) were up before; `lost` have no result.
    """

    metric: str
    planned: int
    open: int
    hours_spent: str
    lost: int
    recipe: Mapping[str, Any]
    networks: tuple[TrainedAlone, ...]
    agreements: Agreements


@dataclass(frozen=True)
class GateVerdict:
    """Whether the ranking can be trusted: the verdict, what speaks against it, and a sentence.

    Beside it what the request asks for. Where scores are looked up, no ranking needs a check.
    """

    verdict: Literal["passed", "failed", "not known", "not needed"]
    reasons: tuple[str, ...]
    sentence: str
    supernet_tau: float
    ranker_tau: float
    on_fail: Literal["warn", "stop"]

    @property
    def stops(self) -> bool:
        """Whether the request wants its search to end here."""
        return self.verdict == "failed" and self.on_fail == "stop"

    @property
    def open(self) -> bool:
        """Whether the ranking was not checked, or not enough."""
        return self.verdict == "not known"


@dataclass(frozen=True)
class Confirmation:
    """What stand-alone training says; `metric` decides. `fidelity` needs at least 4 networks."""

    metric: str
    members: tuple[MemberConfirmation, ...]
    fidelity: RankAgreement | None
    """Of the supernet's scores with these results."""
    front: TrueFront | None
    """Among all networks trained to the end."""


@dataclass(frozen=True)
class Summary:
    """Everything a report says, as values.

    `reference` and `ideal` are metric values by objective, None where no trial is scored.
    """

    name: str
    space: str
    task: str
    objectives: tuple[Metric, ...]
    constraints: tuple[str, ...]
    later_constraints: tuple[str, ...]
    """Those of `constraints` that were chosen after the run."""
    primary: Metric
    further: tuple[Metric, ...]
    """The task's metrics that are no objectives, as far as every member of the front has them."""
    attentions: tuple[str, ...]
    counts: tuple[Count, ...]
    front: tuple[Member, ...]
    dominated_by_controls: int
    """How many members a control dominates."""
    reference: Mapping[str, float] | None
    ideal: Mapping[str, float] | None
    comparisons: tuple[Comparison, ...]
    learnt: bool | None
    """Whether half of the scored networks beat a constant guess; None where none is scored."""
    resolution: Resolution
    rankers: tuple[Ranker, ...]
    rungs: tuple[RungResult, ...]
    """Of the successive halving that chose whom to confirm."""
    confirmation: Confirmation | None
    fidelity: Fidelity | None
    """None where no network was trained alone to check the ranking."""
    ranker_test: RankerTest | None
    predicted: tuple[PredictedCost, ...]
    proposed: str
    """By which strategy candidates were proposed, and how it says that it went: a sentence."""
    """Of each measured cost that was predicted."""
    gate: GateVerdict
    looked_up: bool = False
    """Whether scores are those of finished trainings, looked up in a table."""

    def count(self, role: str) -> Count:
        """How the trials of this role ended."""
        return next(each for each in self.counts if each.role == role)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; what is not there is null, never NaN."""
        shown: dict[str, Any] = plain(self)
        return shown


def plain(value: Any) -> Any:
    """A value as JSON holds it: architectures in canonical form, numbers not finite as null."""
    if isinstance(value, Architecture):
        return value.to_json()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(held) for key, held in value.items()}
    if isinstance(value, list | tuple):
        return [plain(held) for held in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Path):
        return str(value)
    return value if value is None or isinstance(value, str | int | bool) else str(value)
