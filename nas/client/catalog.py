"""What does a service offer: spaces, tasks and other parts by name, and how well is it itself?"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from nas.client.answers import Answer, CostRange, FeasibleShare, Metric


class Space(Answer):
    """A known space; all but its name is None where its file is no space, and `error` says why."""

    name: str | None = None
    kind: str | None = None
    size: int | None = None
    """The exact number of architectures."""
    digest: str | None = None
    attentions: tuple[str, ...] | None = None
    error: str | None = None


class SpaceDetail(Space):
    """A space with all of its choices, which can be sent as a request's `space`."""

    choices: dict[str, Any]


class ConfiguredTask(Answer):
    """A task with all of its options."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)


class SpaceOutlook(Space):
    """What a valid space holds and costs; None where it was not asked for."""

    task: ConfiguredTask | None = None
    costs: dict[str, CostRange] | None = None
    feasible: FeasibleShare | None = None


class Part(Answer):
    """A named part with the JSON Schema of its options."""

    name: str
    options_schema: dict[str, Any]


class Task(Part):
    """A task; `unit` is what an example is, `primary` the metric that networks are ranked by."""

    unit: str
    primary: str
    metrics: tuple[Metric, ...]


class Attention(Part):
    """An attention type; `efficient` where its core is linear in the number of tokens."""

    sites: tuple[str, ...]
    efficient: bool


class Version(Answer):
    """What a service runs; `commit` where it is a checkout."""

    etnas: str
    api: str
    commit: str | None = None


class Health(Answer):
    """Whether a service can do its work now, and of its parts which can be reached."""

    ready: bool
    checks: dict[str, bool] = Field(default_factory=dict)
