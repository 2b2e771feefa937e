"""How are the fields of a layer or a network read from JSON and written to it?"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from typing import Any

from nas.errors import SpecError
from nas.registry import nearest
from nas.space.dimension import defaults, dimensions


def mapping(given: Any, where: str) -> dict[str, Any]:
    """A copy of a JSON object; raises `SpecError` for anything else."""
    if not isinstance(given, Mapping):
        raise SpecError(f"{where}: a mapping of field to value is required, {given!r} given")
    return dict(given)


def dumped(value: Any) -> dict[str, Any]:
    """The dimensions of a dataclass value by name; those at their default are left out."""
    kinds = dimensions(type(value))
    held = ((each, getattr(value, each.name)) for each in dataclasses.fields(value))
    return {
        each.name: kinds[each.name].dump(found)
        for each, found in held
        if each.name in kinds and found != each.default
    }


def parsed(
    owner: type,
    given: Mapping[str, Any],
    where: str,
    *,
    names: Collection[str] | None = None,
    extra: Collection[str] = (),
) -> dict[str, Any]:
    """The values of a dataclass's dimensions (of those `names` alone) from their JSON forms.

    Raises `SpecError` for what is unknown (`extra` are further names to suggest), missing or not
    allowed.
    """
    known = {n: kind for n, kind in dimensions(owner).items() if names is None or n in names}
    for name in given:
        if name not in known:
            raise SpecError(
                f"{where}.{name}: unknown field; {nearest(str(name), [*known, *extra])}"
            )
    missing = [name for name in known if name not in defaults(owner) and name not in given]
    if missing:
        raise SpecError(f"{where}: missing {', '.join(missing)}")
    return {name: known[name].parse(value, f"{where}.{name}") for name, value in given.items()}
