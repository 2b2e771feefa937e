"""Which tasks, attention types, strategies and exporters are there, each with its options?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter

from nas import catalog
from nas.registry import Registry
from nas.search.objective import Direction
from nas_services.dependencies import ReadCaller
from nas_services.schemas import Wire

router = APIRouter(tags=["catalog"])


class Entry(Wire):
    """A named part with the JSON Schema of its options."""

    name: str
    options_schema: dict[str, Any]


class Entries(Wire):
    """All parts of a plug-in point by name, on one page."""

    items: list[Entry]
    next_page_token: None = None


class Figure(Wire):
    """A metric that a task gives of each network."""

    name: str
    direction: Direction
    unit: str


class TaskEntry(Entry):
    """A task; `unit` is what an example is, `primary` the metric that networks are ranked by."""

    unit: str
    primary: str
    metrics: list[Figure]


class TaskEntries(Wire):
    """All tasks by name, on one page."""

    items: list[TaskEntry]
    next_page_token: None = None


class AttentionEntry(Entry):
    """An attention type; `efficient` where its core is linear in the number of tokens."""

    sites: list[str]
    efficient: bool


class AttentionEntries(Wire):
    """All attention types by name, on one page."""

    items: list[AttentionEntry]
    next_page_token: None = None


@router.get("/tasks")
def tasks(_: ReadCaller) -> TaskEntries:
    """Tasks with their metrics and the JSON Schema of their options."""
    return TaskEntries(items=[_task(name) for name in catalog.TASKS.names()])


@router.get("/attentions")
def attentions(_: ReadCaller) -> AttentionEntries:
    """Attention types with the sites they can stand at and the JSON Schema of their options."""
    return AttentionEntries(items=[_attention(name) for name in catalog.ATTENTIONS.names()])


@router.get("/strategies")
def strategies(_: ReadCaller) -> Entries:
    """Search strategies with the JSON Schema of their options."""
    return _entries(catalog.STRATEGIES)


@router.get("/exporters")
def exporters(_: ReadCaller) -> Entries:
    """What networks can be exported to, with the JSON Schema of its options."""
    return _entries(getattr(catalog, "EXPORTERS", None))


def _entries(registry: Registry | None) -> Entries:
    names = registry.names() if registry is not None else ()
    return Entries(items=[Entry(**_part(registry, name)) for name in names])


def _part(registry: Any, name: str) -> dict[str, Any]:
    schema = registry.load(name).options_model.model_json_schema()
    return {"name": name, "options_schema": schema}


def _task(name: str) -> TaskEntry:
    declared = catalog.TASKS.load(name)
    return TaskEntry(
        **_part(catalog.TASKS, name),
        unit=declared.unit,
        primary=declared.primary,
        metrics=[
            Figure(name=each.name, direction=each.direction, unit=each.unit)
            for each in declared.metrics
        ],
    )


def _attention(name: str) -> AttentionEntry:
    declared = catalog.ATTENTIONS.load(name)
    options = {key: option.schema() for key, option in declared.options.items()}
    schema = {"type": "object", "properties": options, "additionalProperties": False}
    return AttentionEntry(
        name=name,
        options_schema=schema,
        sites=sorted(declared.sites),
        efficient=declared.efficient,
    )
