"""By which name is a part called: lazy `module:attribute` strings, one registry a plug-in point."""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from nas.errors import DuplicateName, UnknownName


def nearest(name: str, allowed: tuple[str, ...] | list[str]) -> str:
    """The words an error adds for an unknown name: its likely meaning, then all that is allowed."""
    close = difflib.get_close_matches(name, allowed, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(word) for word in close)}? " if close else ""
    return f"{hint}allowed: {', '.join(sorted(allowed)) or 'none'}"


class Registry:
    """Names of one plug-in point, resolved on use so that listing them imports nothing.

    Other distributions add entries through the entry-point group `etnas.<point>`; a duplicate is
    an error (`DuplicateName`), an unknown name lists its neighbours (`UnknownName`).
    """

    def __init__(self, point: str, entries: Mapping[str, str]) -> None:
        self.point = point
        self.group = f"etnas.{point}"
        self._own = dict(entries)

    @cached_property
    def entries(self) -> Mapping[str, str]:
        """Every name with its `module:attribute` target, our own and installed plug-ins'."""
        found = dict(self._own)
        for entry in importlib.metadata.entry_points(group=self.group):
            if entry.name in found:
                raise DuplicateName(
                    f"{self.point} '{entry.name}' is declared twice: {found[entry.name]} and "
                    f"{entry.value} (an entry point of an installed distribution)"
                )
            found[entry.name] = entry.value
        return found

    def names(self) -> tuple[str, ...]:
        """All names, sorted."""
        return tuple(sorted(self.entries))

    def check(self, name: Any, where: str = "") -> str:
        """`name` if it is known; raises `UnknownName` with its neighbours and `where` otherwise."""
        if not isinstance(name, str) or name not in self.entries:
            prefix = f"{where}: " if where else ""
            raise UnknownName(
                f"{prefix}unknown {self.point} {name!r}; {nearest(str(name), self.names())}"
            )
        return name

    def load(self, name: Any, where: str = "") -> Any:
        """The object that `name` stands for, imported on first use."""
        module, _, attribute = self.entries[self.check(name, where)].partition(":")
        return getattr(importlib.import_module(module), attribute)
