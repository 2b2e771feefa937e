"""What does a service answer? Its documents as frozen values, whatever else a newer one adds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    import pandas

TERMINAL = frozenset({"cancelled", "succeeded", "failed"})
"""States that a search never leaves."""


FIXED = ("index", "architecture_id", "architecture")
"""Columns of a front's table beside its metrics."""


class Answer(BaseModel):
    """A document of a service; times are RFC 3339 in UTC."""

    model_config = ConfigDict(extra="ignore", frozen=True, use_attribute_docstrings=True)


# -- searches --------------------------------------------------------------------------------------


class RoleProgress(Answer):
    """Trials of one role: how many there are, and how many are planned where that is known."""

    done: int
    planned: int | None = None


class ListedSearch(Answer):
    """A search as a list shows it."""

    id: str
    name: str
    owner: str
    state: str
    desired: str
    """What is wanted of it: run, pause or cancel."""
    phase: str
    task: str
    space: str
    objectives: tuple[str, ...]
    created: str
    updated: str
    error: str | None = None
    warm_start: str | None = None
    progress: dict[str, RoleProgress] = Field(default_factory=dict)
    """By role of trial."""
    links: dict[str, str] = Field(default_factory=dict)

    @property
    def ended(self) -> bool:
        """Whether it is in a state that it never leaves."""
        return self.state in TERMINAL


class Condition(Answer):
    """A moment in a search's life: how it stood from then on, and why."""

    time: str
    state: str
    phase: str
    reason: str


class Attempt(Answer):
    """A job that was to run a search; `ended` is None while it may still do so."""

    number: int
    job: str
    started: str
    ended: str | None = None
    outcome: str = ""


class Spend(Answer):
    """Time that a phase has used, over all attempts."""

    seconds: float
    device_seconds: float


class Search(ListedSearch):
    """A search with its request and its history."""

    spec: dict[str, Any]
    facts: dict[str, str] = Field(default_factory=dict)
    allowed: tuple[str, ...] = ()
    """The verbs that change something now."""
    conditions: tuple[Condition, ...] = ()
    attempts: tuple[Attempt, ...] = ()
    spent: dict[str, Spend] = Field(default_factory=dict)
    commands: dict[str, str] = Field(default_factory=dict)
    """Lines for a terminal that take up the result, by what they do."""


class CostRange(Answer):
    """The exact smallest and largest cost in a space."""

    smallest: int
    largest: int


class FeasibleShare(Answer):
    """The share of random networks that keep the constraints on exact costs, of so many drawn."""

    share: float
    samples: int
    not_counted: tuple[str, ...] = ()
    """Constraints on what only running tells."""


class DryRun(Answer):
    """A request that could be submitted, complete, and what it would look through."""

    spec: dict[str, Any]
    size: int
    """How many architectures the space holds."""
    costs: dict[str, CostRange]
    feasible: FeasibleShare | None = None
    """None without constraints."""


class Trial(Answer):
    """An evaluated architecture; its id is `SEARCH.ROLE.INDEX`."""

    id: str
    search: str
    role: str
    index: int
    state: str
    reason: str
    label: str
    metrics: dict[str, float]
    seconds: float
    time: str
    architecture_id: str
    architecture: dict[str, Any]
    """As `nas.Architecture.from_json` reads it."""


# -- front and fidelity ----------------------------------------------------------------------------


class Metric(Answer):
    """A metric with its direction (minimize or maximize) and unit."""

    name: str
    direction: str
    unit: str


class FrontMember(Answer):
    """A Pareto-optimal trial; `sources` says of each metric where it comes from."""

    trial: str
    index: int
    architecture_id: str
    architecture: dict[str, Any]
    metrics: dict[str, float]
    sources: dict[str, str] = Field(default_factory=dict)


class Front(Answer):
    """The trials that no other one dominates, best first objective first."""

    search: str
    state: str
    objectives: tuple[Metric, ...]
    constraints: tuple[str, ...]
    later_constraints: tuple[str, ...] = ()
    """Those that were asked for with the front."""
    scored: int
    """Trials of the search that have a score."""
    members: tuple[FrontMember, ...]

    def frame(self) -> pandas.DataFrame:
        """One row a member, in the front's order: its trial, a column a metric, its architecture.

        `architecture` is the canonical JSON, and a metric of another column's name gets `_metric`
        appended. Raises `ModuleNotFoundError` where pandas is not
        installed.
        """
        import pandas

        named = dict.fromkeys(name for member in self.members for name in member.metrics)
        columns = {name: f"{name}_metric" if name in FIXED else name for name in named}
        rows = [
            {
                "index": member.index,
                "architecture_id": member.architecture_id,
                **{column: member.metrics.get(name) for name, column in columns.items()},
                "architecture": json.dumps(member.architecture, sort_keys=True),
            }
            for member in self.members
        ]
        *first, last = FIXED
        return pandas.DataFrame(rows, columns=[*first, *columns.values(), last])


class Axis(Answer):
    """An objective's ends, which were fixed before the first trial, and by what rule."""

    metric: str
    worst: float
    best: float
    worst_rule: str
    best_rule: str


class Curve(Answer):
    """The hypervolume after 1, 2, ... trials, and when each trial came."""

    hypervolume: tuple[float, ...]
    time: tuple[str, ...]


class ControlCurve(Answer):
    """The random control's hypervolume: as run, and over random orders of its own trials."""

    as_run: tuple[float, ...]
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    orders: int


class EqualTrials(Answer):
    """Both at the same number of trials."""

    trials: int
    search: float
    random: float
    difference: float


class History(Answer):
    """How the front grew, in [0, 1] between the reference point and the ideal one."""

    search: str
    reference: dict[str, float]
    ideal: dict[str, float]
    extent: tuple[Axis, ...]
    curve: Curve
    random: ControlCurve | None = None
    at_equal_trials: EqualTrials | None = None


class Agreement(Answer):
    """Kendall's tau with its 95% bootstrap interval; None where there is none."""

    tau: float | None
    low: float | None
    high: float | None
    n: int


class Agreements(Answer):
    """How a score agrees with a truth, beside two counts as baselines, on the same networks."""

    score: Agreement
    params: Agreement
    depth: Agreement


class SupernetFidelity(Answer):
    """The supernet's scores held against training alone."""

    metric: str
    planned: int
    trained: int
    lost: int
    agreements: Agreements


class RankerFidelity(Answer):
    """A ranker that learnt from a search's trials, on random networks that it never saw."""

    member: str
    fitted: int
    reason: str
    agreements: Agreements | None = None


class PredictedFidelity(Answer):
    """How far predictions of a measured cost lay from what was measured; `mape` is a fraction."""

    metric: str
    member: str
    used: bool
    networks: int
    mape: float
    low: float
    high: float
    tau: Agreement
    params: Agreement | None = None
    front_median_error: float | None = None
    front_networks: int


class Gate(Answer):
    """Whether the ranking can be trusted, why not, and what the request asks for."""

    verdict: str
    reasons: tuple[str, ...]
    sentence: str
    supernet_tau: float
    ranker_tau: float
    on_fail: str


class Fidelity(Answer):
    """How far scores and predictions can be trusted."""

    search: str
    gate: Gate
    supernet: SupernetFidelity | None = None
    ranker: RankerFidelity | None = None
    predicted: tuple[PredictedFidelity, ...] = ()


# -- configs, artifacts, operations ----------------------------------------------------------------


class ConfigSearch(Answer):
    """A search in which an architecture stands: its trials there, and its exact costs there.

    `costs` is None where the service lacks a part that the search names.
    """

    search: str
    name: str
    task: str
    costs: dict[str, float] | None = None
    trials: tuple[Trial, ...]


class Config(Answer):
    """An architecture, and where it was tried, the newest search first."""

    id: str
    architecture: dict[str, Any]
    searches: tuple[ConfigSearch, ...]


class Artifact(Answer):
    """A file of a search; `size` is None where the service has no bytes of it."""

    id: str
    search: str
    name: str
    sha256: str
    media_type: str
    size: int | None = None
    links: dict[str, str] = Field(default_factory=dict)


class Operation(Answer):
    """Work that was asked for beside a search."""

    id: str
    kind: str
    target: str
    owner: str
    search: str | None = None
    state: str
    created: str
    updated: str
    request: dict[str, Any] = Field(default_factory=dict)
    result: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
