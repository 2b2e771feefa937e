"""How is a section of a request written: its values, its parts by name, and its JSON Schema?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic_core import CoreSchema

from nas.registry import Registry
from nas.space.loader import explain

Positive = Annotated[int, Field(ge=1, strict=True)]
Whole = Annotated[int, Field(ge=0, strict=True)]
PositiveFloat = Annotated[float, Field(gt=0, strict=True)]
NonNegative = Annotated[float, Field(ge=0, strict=True)]
Schema = dict[str, Any]


class Section(BaseModel):
    """A mapping of a request; the text below a key is its description in the schema."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class Part(Section):
    """A named part with its own options: `cifar10`, or `{name: cifar10, side: 224}`."""

    name: str
    """Which of them."""
    options: dict[str, Any] = {}
    """Its own options, written in here or beside `name`; see below."""

    @model_validator(mode="before")
    @classmethod
    def _flat(cls, given: Any) -> Any:
        if isinstance(given, str):
            return {"name": given}
        if isinstance(given, Mapping) and "options" not in given:
            rest = {key: value for key, value in given.items() if key != "name"}
            return {key: given[key] for key in given if key == "name"} | {"options": rest}
        return given

    def configured(self, registry: Registry, where: str) -> Any:
        """The part's options model, filled in and checked against its declaration."""
        declared = registry.load(self.name, where)
        try:
            return declared.options_model.model_validate(self.options)
        except ValidationError as error:
            raise explain(error, "", declared.options_model, where) from error


class StrategyPart(Part):
    """The strategy: another one by its name, or other options alone."""

    name: str = "ranked"
    """Which of them."""


@dataclass(frozen=True)
class OneOf:
    """Marks a text as one of a registry's names, in the schema."""

    registry: Registry

    def __get_pydantic_json_schema__(self, *_: Any) -> Schema:
        return {"enum": list(self.registry.names())}


@dataclass(frozen=True)
class ByName:
    """Marks a section that may be given by one of a registry's names alone, in the schema."""

    registry: Registry

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> Schema:
        return {"anyOf": [{"enum": list(self.registry.names())}, handler(core)]}


@dataclass(frozen=True)
class WithOptions:
    """Marks a `Part` in the schema: each name with its own options, beside it or in `options`.

    A name alone will do. Options without one are those of the name `unnamed`.
    """

    registry: Registry
    unnamed: str | None = None

    def __get_pydantic_json_schema__(self, _: CoreSchema, handler: GetJsonSchemaHandler) -> Schema:
        forms: list[Schema] = [{"enum": list(self.registry.names())}]
        for name in self.registry.names():
            options = handler(self.registry.load(name).options_model.__pydantic_core_schema__)
            beside = handler.resolve_ref_schema(options)
            own, called = beside.get("properties", {}), {"name": {"const": name}}
            required = ["name"] * (name != self.unnamed)
            forms.append(
                {
                    "type": "object",
                    "properties": {**called, **own},
                    "required": [*required, *beside.get("required", [])],
                    "additionalProperties": False,
                }
            )
            forms.append(
                {
                    "type": "object",
                    "properties": {**called, "options": options},
                    "required": [*required, "options"],
                    "additionalProperties": False,
                }
            )
        return {"anyOf": forms}
