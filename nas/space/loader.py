"""How is a space read: YAML by name or path, checked by models that the dimensions generate."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import create_model as _create_model

from nas.errors import SpecError, UnknownName
from nas.registry import nearest
from nas.space.architecture import KINDS, Architecture, Layer
from nas.space.dimension import DEPTH, Dimension, dimensions
from nas.space.reading import read_yaml
from nas.space.search_space import RATIO, RATIOS, SearchSpace

_LAYER_KEY = r"^layers\.(0|[1-9][0-9]{0,2})$"


@dataclasses.dataclass(frozen=True)
class _Choices:
    """A list of choices of one dimension; a bare value stands for a list of one."""

    kind: Dimension

    def read(self, given: Any) -> tuple[Any, ...]:
        """The choices; raises `SpecError` where there are none, or one is bad or there twice."""
        values = given if isinstance(given, list | tuple) else [given]
        if not values:
            raise SpecError("the list of choices is empty; at least one is needed")
        parsed = tuple(self.kind.parse(value, f"choice {i + 1}") for i, value in enumerate(values))
        if len(set(parsed)) < len(parsed):
            raise SpecError(f"a choice appears twice in {values}")
        return parsed

    def __get_pydantic_json_schema__(self, *_: Any) -> dict[str, Any]:
        one = self.kind.schema()
        many = {"type": "array", "items": one, "minItems": 1, "uniqueItems": True}
        return {"anyOf": [one, many]}


def _choices(kind: Dimension) -> Any:
    choices = _Choices(kind)
    return Annotated[Any, BeforeValidator(choices.read), choices]


# A factory, because a default would stand in the schema.
_OPTIONAL = Field(default_factory=lambda: None)


def _required(name: str) -> Any:
    """A network's field without a default must be listed in a space."""
    return ... if getattr(Architecture, name, None) is None else _OPTIONAL


_FORBID = ConfigDict(extra="forbid", frozen=True)
create_model = cast(Callable[..., type[BaseModel]], _create_model)
LayerChoices = create_model(
    "LayerChoices",
    __config__=_FORBID,
    **{name: (_choices(kind), _OPTIONAL) for name, kind in dimensions(Layer).items()},
    **{ratio: (_choices(RATIO), _OPTIONAL) for ratio in RATIOS},
)
SpaceFile = create_model(
    "SpaceFile",
    __config__=_FORBID,
    name=(Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")], ...),
    description=(str, ""),
    kind=(Literal[KINDS], "encoder"),
    depth=(_choices(DEPTH), ...),
    layers=(LayerChoices, ...),
    **{name: (_choices(kind), _required(name)) for name, kind in dimensions(Architecture).items()},
)


def space_schema() -> dict[str, Any]:
    """JSON Schema of a space file."""
    layer = {"$ref": "#/$defs/LayerChoices"}
    return {**SpaceFile.model_json_schema(), "patternProperties": {_LAYER_KEY: layer}}


# What pydantic says in Python's words.
_WORDS = {"model_type": "a mapping is required", "tuple_type": "a list is required"}


def explain(
    error: ValidationError, source: str, model: type[BaseModel], under: str = ""
) -> SpecError:
    """One message for all that pydantic found: source, key path, what was given and is allowed.

    `under` is the key path at which the model stands in the source, "" at its top.
    """
    lines = []
    for each in error.errors():
        path = ".".join([under] * bool(under) + [str(step) for step in each["loc"]])
        text = each["msg"].removeprefix("Value error, ")
        if each["type"] == "extra_forbidden":
            text = f"unknown key; {nearest(str(each['loc'][-1]), _keys(model, each['loc'][:-1]))}"
        elif each["type"] == "missing":
            text = "is required"
        elif each["type"] != "value_error":
            text = f"{_WORDS.get(each['type'], text)}, {each['input']!r} given"
        lines.append(f"{path}: {text}" if path else text)
    return SpecError(f"{source}: " * bool(source) + "; ".join(dict.fromkeys(lines)))


def _keys(model: Any, path: tuple[Any, ...]) -> list[str]:
    for step in path:
        field = model.model_fields[step].annotation
        candidates = (field, *get_args(field))
        model = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return list(model.model_fields)


def space_folders() -> list[Path]:
    """Where bare names are looked up: NAS_SEARCH_SPACES, then the wheel's, then the checkout's."""
    package = Path(__file__).resolve().parents[1]
    own = os.environ.get("NAS_SEARCH_SPACES")
    shipped = [package / "search_spaces", package.parent / "search_spaces"]
    return [Path(own), *shipped] if own else shipped


def space_names() -> tuple[str, ...]:
    """Bare names of the spaces that can be loaded."""
    found = {path.stem for folder in space_folders() for path in folder.glob("*.yaml")}
    return tuple(sorted(found))


def load_space(space: str | Path | Mapping[str, Any]) -> SearchSpace:
    """A search space by bare name, file path, or as a mapping of the file's content.

    What has a slash is a path; so is what has a suffix or is a file, where no folder holds it as a
    name.

    Raises `UnknownName` for a name that no folder holds and `SpecError` for anything in a file that
    is unknown, missing or cannot be built, naming the file and the key path.
    """
    if isinstance(space, Mapping):
        return _space(space, "space")
    if not isinstance(space, str | Path):
        raise SpecError(f"space: {space!r} given; a name, a path or a mapping is allowed")
    named = isinstance(space, str) and not space.endswith((".yaml", ".yml")) and "/" not in space
    if not named:
        return _space(read_yaml(space), str(space))
    for folder in space_folders():
        path = folder / f"{space}.yaml"
        if os.path.isfile(path):  # noqa: PTH113 - a name too long for a file is just not there
            return _space(read_yaml(path), str(path))
    # A file of any other name: what has a suffix is meant as one, there or not.
    if Path(space).suffix or os.path.isfile(space):  # noqa: PTH113
        return _space(read_yaml(space), str(space))
    raise UnknownName(f"space: unknown name {space!r}; {nearest(str(space), space_names())}")


def _space(given: Any, source: str) -> SearchSpace:
    if not isinstance(given, Mapping):
        raise SpecError(f"{source}: a mapping with name, depth, layers, ... is required")
    special = {key: value for key, value in given.items() if re.match(_LAYER_KEY, str(key))}
    general = {key: value for key, value in given.items() if key not in special}
    file = _validated(SpaceFile, general, source)
    overrides = {
        int(key.removeprefix("layers.")): _validated(LayerChoices, value, source, key)
        for key, value in special.items()
    }
    deepest = max(file.depth)
    beyond = [index for index in overrides if index >= deepest]
    if beyond:
        raise SpecError(f"{source}: layers.{beyond[0]}: the depth is at most {deepest}")
    network = {name: choices for name, choices in _given(file).items() if name in _NETWORK}
    layers = [_merged(file.layers, overrides.get(index), source) for index in range(deepest)]
    _leave_out_defaults(Architecture, [network])
    _leave_out_defaults(Layer, layers)
    _check_ratios(file.width, layers, source)
    ordered = tuple({name: each[name] for name in _LAYER if name in each} for each in layers)
    return SearchSpace(file.name, network, tuple(sorted(file.depth)), ordered)


_NETWORK = tuple(dimensions(Architecture))
_LAYER = (*dimensions(Layer), *RATIOS)


def _validated(model: type[BaseModel], given: Any, source: str, under: str = "") -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise explain(error, source, model, under) from error


def _given(model: BaseModel) -> dict[str, Any]:
    fields = type(model).model_fields
    return {name: getattr(model, name) for name in fields if name in model.model_fields_set}


def _merged(general: BaseModel, special: BaseModel | None, source: str) -> dict[str, Any]:
    merged: dict[str, tuple[Any, ...]] = {}
    for given in map(_given, (general, special) if special else (general,)):
        for ratio, field in RATIOS.items():
            if ratio in given and field in given:
                raise SpecError(f"{source}: layers: give {field} or {ratio}, not both")
            # What one layer says of a field displaces either form of it said for all layers.
            if ratio in given or field in given:
                merged.pop(ratio, None)
                merged.pop(field, None)
        merged |= given
    known = {RATIOS.get(name, name) for name in merged}
    for each in dataclasses.fields(Layer):
        if each.default is dataclasses.MISSING and each.name not in known:
            raise SpecError(f"{source}: layers.{each.name}: is required")
    return merged


def _leave_out_defaults(owner: type, places: list[dict[str, Any]]) -> None:
    """A field whose default alone is allowed everywhere is said nowhere, another one everywhere.

    So equal spaces are equal values however they were written.
    """
    for field in dataclasses.fields(owner):
        if field.default is dataclasses.MISSING:
            continue
        alone = (field.default,)
        free = any(place.get(field.name, alone) != alone for place in places)
        for place in places:
            if free:
                place.setdefault(field.name, alone)
            else:
                place.pop(field.name, None)


def _check_ratios(widths: tuple[int, ...], layers: list[dict[str, Any]], source: str) -> None:
    for ratio, field in RATIOS.items():
        kind, where = dimensions(Layer)[field], f"{source}: layers.{ratio}"
        for choices in {layer[ratio] for layer in layers if ratio in layer}:
            for width in widths:
                resolved = [round(choice * width) for choice in choices]
                for value in resolved:
                    kind.parse(value, f"{where} at width {width}: {field}")
                if len(set(resolved)) < len(resolved):
                    raise SpecError(
                        f"{where}: {list(choices)} at width {width} gives {field} {resolved}; "
                        "they must differ"
                    )
