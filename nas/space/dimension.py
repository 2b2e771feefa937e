"""What values may a field of an architecture take: how is each read, written and ordered?"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, get_args

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import Choice, Site
from nas.registry import Registry, nearest


class Dimension(ABC):
    """One field of an architecture. Everything about its values is said here and nowhere else."""

    ordered: ClassVar[bool] = False
    """Whether one value makes a larger network than another."""
    shrinks: bool = False
    """Whether the larger value makes the smaller network (patch size)."""

    @abstractmethod
    def parse(self, value: Any, where: str) -> Any:
        """The value from its JSON form; raises `SpecError` saying what is allowed and where."""

    def dump(self, value: Any) -> Any:
        """The value's JSON form; `parse` reads it back."""
        return value

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the JSON form."""


@dataclasses.dataclass(frozen=True)
class Count(Dimension):
    """A positive integer up to `maximum`."""

    maximum: int = 1_000_000
    shrinks: bool = False
    ordered = True

    def parse(self, value: Any, where: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= self.maximum:
            raise SpecError(
                f"{where}: {value!r} given, an integer from 1 to {self.maximum} is allowed"
            )
        return value

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": 1, "maximum": self.maximum}


@dataclasses.dataclass(frozen=True)
class Ratio(Dimension):
    """A positive multiple of the model width."""

    maximum: int = 64
    ordered = True

    def parse(self, value: Any, where: str) -> float:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 < value <= self.maximum:
            raise SpecError(
                f"{where}: {value!r} given, a number above 0 and up to {self.maximum} is allowed"
            )
        return float(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "number", "exclusiveMinimum": 0, "maximum": self.maximum}


@dataclasses.dataclass(frozen=True)
class Word(Dimension):
    """One of a fixed list of names, or of a catalog registry's."""

    allowed: tuple[str, ...] | Registry

    def names(self) -> tuple[str, ...]:
        """The allowed names."""
        return self.allowed.names() if isinstance(self.allowed, Registry) else self.allowed

    def parse(self, value: Any, where: str) -> str:
        if isinstance(self.allowed, Registry):
            return self.allowed.check(value, where)
        if value not in self.allowed:
            raise SpecError(f"{where}: unknown name {value!r}; {nearest(str(value), self.allowed)}")
        return str(value)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.names())}


@dataclasses.dataclass(frozen=True)
class Operator(Dimension):
    """An operator of a registry: its bare name, or `{"type": name, option: value, ...}`."""

    registry: Registry
    site: Site | None = None

    def parse(self, value: Any, where: str) -> Choice:
        if isinstance(value, str):
            value = {"type": value}
        if not isinstance(value, Mapping) or "type" not in value:
            raise SpecError(
                f"{where}: {value!r} given; NAME or {{type: NAME, OPTION: VALUE}} is allowed; "
                f"names: {', '.join(self.registry.names())}"
            )
        name = self.registry.check(value["type"], where)
        declaration = self.registry.load(name)
        if not self._stands(name):
            raise SpecError(
                f"{where}: {self.registry.point} {name!r} cannot stand at {self.site}; "
                f"its sites: {', '.join(sorted(declaration.sites))}"
            )
        chosen = []
        for option in sorted(set(value) - {"type"}, key=str):
            if option not in declaration.options:
                raise SpecError(
                    f"{where}.{option}: unknown option of {self.registry.point} {name!r}; "
                    f"{nearest(str(option), list(declaration.options))}"
                )
            given = declaration.options[option].check(value[option], f"{where}.{option}")
            if given != declaration.options[option].default:
                chosen.append((option, given))
        return Choice(name, tuple(chosen))

    def _stands(self, name: str) -> bool:
        return self.site is None or self.site in self.registry.load(name).sites

    def dump(self, value: Choice) -> Any:
        return {"type": value.type, **dict(value.options)} if value.options else value.type

    def schema(self) -> dict[str, Any]:
        names = [name for name in self.registry.names() if self._stands(name)]
        forms: list[dict[str, Any]] = [{"enum": names}]
        for name in names:
            options = self.registry.load(name).options
            described = {key: option.schema() for key, option in options.items()}
            forms.append(
                {
                    "type": "object",
                    "properties": {"type": {"const": name}, **described},
                    "required": ["type"],
                    "additionalProperties": False,
                }
            )
        return {"anyOf": forms}


def dimension(kind: Dimension, default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that is a dimension; a default, once given, never changes."""
    return dataclasses.field(default=default, metadata={"dimension": kind})


def dimensions(owner: type) -> dict[str, Dimension]:
    """The dimensions of an architecture dataclass, in the order of their declaration."""
    return {
        each.name: each.metadata["dimension"]
        for each in dataclasses.fields(owner)
        if "dimension" in each.metadata
    }


def defaults(owner: type) -> dict[str, Any]:
    """The default of each dimension that has one."""
    missing = dataclasses.MISSING
    held = {each.name: each.default for each in dataclasses.fields(owner)}
    return {name: held[name] for name in dimensions(owner) if held[name] is not missing}


def resolve(choice: Choice, registry: Registry) -> tuple[Any, dict[str, str | int]]:
    """(declaration, all its options with defaults filled in) of a chosen operator."""
    declaration = registry.load(choice.type)
    options = {name: option.default for name, option in declaration.options.items()}
    return declaration, {**options, **dict(choice.options)}


ATTENTIONS: Mapping[Site, Operator] = {
    site: Operator(catalog.ATTENTIONS, site) for site in get_args(Site)
}
FFN = Operator(catalog.FFNS)
DEPTH = Count(maximum=256)
