"""Which parts does a recorded request name, and is each of them installed here?"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from nas import catalog
from nas.registry import Registry
from nas.search.objective import Constraint
from nas.space.architecture import KINDS, Encoder
from nas.space.dimension import Dimension, Operator, Word, dimensions

Named = tuple[Registry, str]
"""A part's name and the registry that should have it."""


def named_by(spec: Mapping[str, Any]) -> Iterator[Named]:
    """Every part that the JSON form of a request names; nothing of it has to be installed."""
    parts = {"task": catalog.TASKS, "strategy": catalog.STRATEGIES, "executor": catalog.EXECUTORS}
    for key, registry in parts.items():
        yield registry, spec[key]["name"]
    yield from named_by_space(spec["space"])
    task = spec["task"]["name"]
    if task not in catalog.TASKS.names():
        # Whether a metric is the task's or a cost's is then not known.
        return
    own = {metric.name for metric in catalog.TASKS.load(task).metrics}
    limited = [Constraint.parse(text).metric for text in spec["constraints"]]
    yield from (
        (catalog.COSTS, name) for name in (*spec["objectives"], *limited) if name not in own
    )


def named_by_space(space: Mapping[str, Any]) -> Iterator[Named]:
    """Every part that the JSON form of a space names, and so of its architectures."""
    owner = KINDS[space.get("kind", Encoder.kind)]
    yield from _named(dimensions(owner), space)
    for stack in owner.stacks:
        for key, choices in (space[stack.name] if stack.name else space).items():
            # Choices of all layers, and of one: `layers`, `layers.3`.
            if key.partition(".")[0] == "layers":
                yield from _named(dimensions(stack.layer), choices)


def _named(kinds: Mapping[str, Dimension], choices: Mapping[str, Any]) -> Iterator[Named]:
    for field, kind in kinds.items():
        match kind:
            case Operator(registry=registry) | Word(allowed=Registry() as registry):
                for each in choices.get(field, ()):
                    yield registry, each if isinstance(each, str) else each["type"]


def not_installed(named: Iterable[Named]) -> list[str]:
    """What no registry has, each once: `attention 'mine' (entry-point group etnas.attention)`."""
    missing = (
        f"{registry.point} {name!r} (entry-point group {registry.group})"
        for registry, name in named
        if name not in registry.names()
    )
    return list(dict.fromkeys(missing))
