"""How is a request changed before it is checked: its fields by their dotted key paths?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas.errors import SpecError
from nas.space.reading import parse_yaml


def parse_change(text: str, flag: str = "--set") -> tuple[str, Any]:
    """`budget.trials=50` as (key path, YAML value); raises `SpecError` for another form."""
    path, found, value = text.partition("=")
    if not found or not path.strip():
        raise SpecError(f"{flag} {text}: KEY.PATH=VALUE is expected")
    return path.strip(), parse_yaml(value, f"{flag} {path}")


def changed(given: Mapping[str, Any], changes: Any, source: str) -> dict[str, Any]:
    """A request's plain values with `changes` by key path; `source` is named in errors."""
    if not isinstance(changes, Mapping) or not all(isinstance(path, str) for path in changes):
        raise SpecError(f"{source}: changes: {changes!r} given; a mapping by key path is allowed")
    made = dict(given)
    for path, value in changes.items():
        _set(made, path, value, source)
    return made


def _set(given: dict[str, Any], path: str, value: Any, source: str) -> None:
    *parents, last = path.split(".")
    level: Any = given
    for depth, step in enumerate(parents):
        inner = level.get(step)
        if inner is None:
            inner = {}
        elif isinstance(inner, str) and step in ("task", "strategy", "executor"):
            inner = {"name": inner}
        if not isinstance(inner, Mapping):
            reached = ".".join(parents[: depth + 1])
            raise SpecError(f"{source}: --set {path}: {reached} is {inner!r}, not a mapping")
        level[step] = dict(inner)
        level = level[step]
    level[last] = value
