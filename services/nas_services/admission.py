"""What may a request name and hold over HTTP? No files, and nothing that takes hours to check."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from nas.errors import SpecError, UnknownName
from nas.registry import nearest
from nas.space.listed import ListedSpace
from nas.space.loader import load_space, space_names
from nas.space.search_space import SearchSpace

MOST_SETTINGS = 500_000
"""Layers times settings outside of them that a space may have: what its extremes are found among.

The largest space that is shipped has 180,000 and takes some seconds.
"""
MOST_GENES = 5_000


def admitted(given: Mapping[str, Any]) -> dict[str, Any]:
    """A request whose space is loaded, for `nas.search.spec.load_spec`; raises `SpecError`."""
    found = dict(given)
    if given.get("space") is not None:
        found["space"] = admitted_space(given["space"])
    check_task(given.get("task"))
    return found


def admitted_space(given: Any) -> SearchSpace:
    """A space by its known name or as a mapping; raises `SpecError`, for a path too."""
    if isinstance(given, str) and given not in space_names():
        raise UnknownName(f"space: unknown name {given!r}; {nearest(given, space_names())}")
    if not isinstance(given, str | Mapping):
        raise SpecError(f"space: {given!r} given; a name or a mapping is allowed")
    space = load_space(given)
    _check_work(space)
    return space


def check_task(given: Any) -> None:
    """Raises `SpecError` where a task's option is a path that leads out of NAS_DATA_DIR."""
    if not isinstance(given, Mapping):
        return
    inner = given.get("options")
    options = {**given, **(inner if isinstance(inner, Mapping) else {})}
    for name, value in options.items():
        if isinstance(value, str) and _leads_out(value):
            raise SpecError(
                f"task.{name}: {value!r} given; a path under NAS_DATA_DIR without '..' is allowed"
            )


def _leads_out(text: str) -> bool:
    path = PurePosixPath(text.replace("\\", "/"))
    return path.is_absolute() or ".." in path.parts or text.startswith("~")


def _check_work(space: SearchSpace) -> None:
    settings, genes = settings_of(space), len(space.genes)
    if settings > MOST_SETTINGS or genes > MOST_GENES:
        raise SpecError(
            f"space: {settings} settings of its layers and {genes} choices to make; up to "
            f"{MOST_SETTINGS} and {MOST_GENES} are allowed here"
        )


def settings_of(space: SearchSpace) -> int:
    """How many layers there are to be looked at for a space's extremes, at most."""
    if isinstance(space, ListedSpace):
        return space.size * max(len(stack.layers) for stack in space.stacks)
    frames = math.prod(map(len, space.network.values()))
    frames *= math.prod(len(stack.depth) for stack in space.stacks)
    layers = 0
    for stack in space.stacks:
        kinds = {tuple(layer.items()) for layer in stack.layers}
        layers += sum(math.prod(len(choices) for _, choices in kind) for kind in kinds)
        layers += len(stack.layers)
    return frames * layers
