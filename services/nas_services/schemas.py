"""What goes over the wire? Types of its own, apart from those that are stored."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from nas.search.objective import Direction
from nas.search.trial import TrialRole, TrialState
from nas.store.serving import Desired, OperationState
from nas.store.store import SearchState

Verb = Literal["pause", "resume", "cancel"]
Source = Literal["exact", "scored", "measured", "predicted"]
"""Where a figure comes from: arithmetic, the held-out examples, a machine, a predictor."""


class Wire(BaseModel):
    """What an answer holds; times are RFC 3339 in UTC."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# -- searches --------------------------------------------------------------------------------------


class RoleProgress(Wire):
    """Trials of one role: how many there are, and how many are planned where that is known."""

    done: int
    planned: int | None


class Condition(Wire):
    """A moment in a search's life: how it stood from then on, and why."""

    time: str
    state: SearchState
    phase: str
    reason: str


class AttemptShown(Wire):
    """A job that was to run a search; `ended` is null while it may still do so."""

    number: int
    job: str
    started: str
    ended: str | None
    outcome: str


class SpendShown(Wire):
    """Time that a phase has used, over all attempts."""

    seconds: float
    device_seconds: float


class SearchShown(Wire):
    """A search as a list shows it; `desired` is what is wanted of it."""

    id: str
    name: str
    owner: str
    state: SearchState
    desired: Desired
    phase: str
    task: str
    space: str
    objectives: list[str]
    created: str
    updated: str
    error: str | None
    warm_start: str | None
    progress: dict[str, RoleProgress]
    """By role of trial."""
    links: dict[str, str]


class SearchDetail(SearchShown):
    """A search with its request and its history."""

    spec: dict[str, Any]
    facts: dict[str, str]
    allowed: list[Verb]
    """The verbs that change something now."""
    conditions: list[Condition]
    attempts: list[AttemptShown]
    spent: dict[str, SpendShown]
    commands: dict[str, str]
    """Lines for a terminal that take up the result, by what they do."""


class SearchPage(Wire):
    """Searches, the newest first."""

    items: list[SearchShown]
    next_page_token: str | None


class CostRange(Wire):
    """The exact smallest and largest cost in a space."""

    smallest: int
    largest: int


class FeasibleShare(Wire):
    """The share of random networks that keep the constraints on exact costs, of so many drawn."""

    share: float
    samples: int
    not_counted: list[str]
    """Constraints on what only running tells."""


class DryRun(Wire):
    """A request that could be submitted: complete, and what it would look through."""

    valid: Literal[True] = True
    spec: dict[str, Any]
    size: str
    """How many architectures the space holds; a text, as no number of JSON holds it."""
    costs: dict[str, CostRange]
    feasible: FeasibleShare | None
    """Null without constraints."""


# -- trials ----------------------------------------------------------------------------------------


class TrialShown(Wire):
    """A trial; its id is `SEARCH.ROLE.INDEX`."""

    id: str
    search: str
    role: TrialRole
    index: int
    state: TrialState
    reason: str
    label: str
    metrics: dict[str, float]
    seconds: float
    time: str
    architecture_id: str
    architecture: dict[str, Any]


class TrialPage(Wire):
    """Trials in the order in which they came."""

    items: list[TrialShown]
    next_page_token: str | None


# -- front -----------------------------------------------------------------------------------------


class MetricShown(Wire):
    """A metric with its direction and unit."""

    name: str
    direction: Direction
    unit: str


class MemberShown(Wire):
    """A Pareto-optimal trial of a search; `sources` says of each metric where it comes from."""

    trial: str
    index: int
    architecture_id: str
    architecture: dict[str, Any]
    metrics: dict[str, float]
    sources: dict[str, Source]


class FrontShown(Wire):
    """The trials that no other one dominates, best first objective first."""

    search: str
    state: SearchState
    objectives: list[MetricShown]
    constraints: list[str]
    later_constraints: list[str]
    """Those that were asked for with the front."""
    scored: int
    """Trials of the search that have a score."""
    members: list[MemberShown]


class AxisShown(Wire):
    """An objective's ends, which were fixed before the first trial, and by what rule."""

    metric: str
    worst: float
    best: float
    worst_rule: str
    best_rule: str


class CurveShown(Wire):
    """The hypervolume after 1, 2, ... trials, and when each trial came."""

    hypervolume: list[float]
    time: list[str]


class ControlShown(Wire):
    """The random control's hypervolume: as run, and over random orders of its own trials."""

    as_run: list[float]
    mean: list[float]
    deviation: list[float]
    orders: int


class EqualTrials(Wire):
    """Both at the same number of trials."""

    trials: int
    search: float
    random: float
    difference: float


class HistoryShown(Wire):
    """How the front grew, in [0, 1] between the reference point and the ideal one."""

    search: str
    reference: dict[str, float]
    """A network at one of these values, or beyond it, covers nothing."""
    ideal: dict[str, float]
    extent: list[AxisShown]
    curve: CurveShown
    random: ControlShown | None
    at_equal_trials: EqualTrials | None


# -- fidelity --------------------------------------------------------------------------------------


class AgreementShown(Wire):
    """Kendall's tau with its 95% bootstrap interval; null where there is none."""

    tau: float | None
    low: float | None
    high: float | None
    n: int


class AgreementsShown(Wire):
    """How a score agrees with a truth, beside two counts as baselines, on the same networks."""

    score: AgreementShown
    params: AgreementShown
    depth: AgreementShown


class SupernetFidelity(Wire):
    """The supernet's scores held against training alone."""

    metric: str
    planned: int
    trained: int
    lost: int
    agreements: AgreementsShown


class RankerFidelity(Wire):
    """A ranker that learnt from a search's trials, on random networks that it never saw."""

    member: str
    fitted: int
    reason: str
    agreements: AgreementsShown | None


class PredictedFidelity(Wire):
    """How far predictions of a measured cost lay from what was measured."""

    metric: str
    member: str
    used: bool
    networks: int
    mape: float
    """Mean of |predicted - measured| / measured, on networks that it was not fitted to."""
    low: float
    high: float
    tau: AgreementShown
    params: AgreementShown | None
    front_median_error: float | None
    """Of the front's networks, once they were measured."""
    front_networks: int


class GateShown(Wire):
    """Whether the ranking can be trusted, why not, and what the request asks for."""

    verdict: Literal["passed", "failed", "not known", "not needed"]
    reasons: list[str]
    sentence: str
    supernet_tau: float
    ranker_tau: float
    on_fail: Literal["warn", "stop"]


class FidelityShown(Wire):
    """How far scores and predictions can be trusted."""

    search: str
    gate: GateShown
    supernet: SupernetFidelity | None
    ranker: RankerFidelity | None
    predicted: list[PredictedFidelity]


# -- configs, artifacts, operations ----------------------------------------------------------------


class ConfigSearch(Wire):
    """A search in which an architecture stands: its trials there, and its exact costs there."""

    search: str
    name: str
    task: str
    costs: dict[str, float] | None
    """Null where the search names a part of a package that is not installed here."""
    trials: list[TrialShown]


class ConfigShown(Wire):
    """An architecture, and where it was tried, the newest search first."""

    id: str
    architecture: dict[str, Any]
    searches: list[ConfigSearch]


class ArtifactShown(Wire):
    """A file of a search. `size` is null where its bytes are not kept on this machine."""

    id: str
    search: str
    name: str
    sha256: str
    media_type: str
    size: int | None
    links: dict[str, str]


class ArtifactList(Wire):
    """A search's files by name."""

    items: list[ArtifactShown]


class OperationShown(Wire):
    """Work that was asked for beside a search."""

    id: str
    kind: str
    target: str
    owner: str
    search: str | None
    state: OperationState
    created: str
    updated: str
    request: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] = Field(default_factory=dict)
    error: str | None
