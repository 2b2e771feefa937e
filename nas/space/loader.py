"""How is a space read: YAML by name or path, checked by models that the dimensions generate."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import create_model as _create_model

from nas.errors import SpecError, UnknownName
from nas.registry import nearest
from nas.space.architecture import KINDS, Architecture, Encoder, Stack
from nas.space.dimension import DEPTH, Dimension, defaults, dimensions
from nas.space.gene import StackChoices
from nas.space.layer import Alias, EncoderLayer, Layer, aliases
from nas.space.listed import listed_in
from nas.space.reading import read_yaml
from nas.space.search_space import SearchSpace

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
_Genome = tuple[Annotated[int, Field(strict=True, ge=-1)], ...]
_FORBID = ConfigDict(extra="forbid", frozen=True)
create_model = cast(Callable[..., type[BaseModel]], _create_model)


def _layer_model(layer: type[Layer]) -> type[BaseModel]:
    """What a space file may say of a kind of layer; what must be said may stand in `layers.N`."""
    fields = {name: (_choices(kind), _OPTIONAL) for name, kind in dimensions(layer).items()}
    others = {name: (_choices(alias.kind), _OPTIONAL) for name, alias in aliases(layer).items()}
    name = "LayerChoices" if layer is EncoderLayer else f"{layer.__name__}Choices"
    return create_model(name, __config__=_FORBID, **fields, **others)


LAYER_MODELS: Mapping[type[Layer], type[BaseModel]] = {
    stack.layer: _layer_model(stack.layer) for owner in KINDS.values() for stack in owner.stacks
}


def _space_model(owner: type[Architecture]) -> type[BaseModel]:
    """What a space file may say of a kind of network, but for what it says of single layers."""
    optional = defaults(owner)
    fields = {
        name: (_choices(kind), _OPTIONAL if name in optional else ...)
        for name, kind in dimensions(owner).items()
    }
    for stack in owner.stacks:
        own: dict[str, Any] = {
            "depth": (_choices(DEPTH), ...),
            "layers": (LAYER_MODELS[stack.layer], ...),
        }
        if not stack.name:
            fields |= own
            continue
        own = {"width": fields.pop(stack.field("width")), **own}
        called = f"{stack.name.capitalize()}Choices"
        fields[stack.name] = (create_model(called, __config__=_FORBID, **own), ...)
    return create_model(
        "SpaceFile" if owner is Encoder else f"{owner.__name__}SpaceFile",
        __config__=_FORBID,
        name=(Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")], ...),
        description=(str, ""),
        kind=(Literal[owner.kind], owner.kind if owner is Encoder else ...),
        listed=(tuple[_Genome, ...] | None, _OPTIONAL),
        **fields,
    )


SPACE_MODELS: Mapping[str, type[BaseModel]] = {
    kind: _space_model(owner) for kind, owner in KINDS.items()
}


def space_schema() -> dict[str, Any]:
    """JSON Schema of a space file."""
    forms: list[dict[str, Any]] = []
    shared: dict[str, Any] = {}
    for kind, owner in KINDS.items():
        form = SPACE_MODELS[kind].model_json_schema()
        definitions = form.pop("$defs")
        for stack in owner.stacks:
            layer = {"$ref": f"#/$defs/{LAYER_MODELS[stack.layer].__name__}"}
            whole = definitions[f"{stack.name.capitalize()}Choices"] if stack.name else form
            whole["patternProperties"] = {_LAYER_KEY: layer}
        shared |= definitions
        forms.append(form)
    return {"$defs": shared, "anyOf": forms}


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
    kind = given.get("kind", Encoder.kind)
    if not isinstance(kind, str) or kind not in KINDS:
        raise SpecError(f"{source}: kind: {kind!r} given; allowed: {', '.join(KINDS)}")
    owner = KINDS[kind]
    general, special = _single_layers(given, owner)
    file = _validated(SPACE_MODELS[kind], general, source)
    said, network, stacks = _given(file), {}, []
    for stack in owner.stacks:
        own = _given(said[stack.name]) if stack.name else said
        network[stack.field("width")] = own["width"]
        overrides = {
            index: _validated(
                LAYER_MODELS[stack.layer], each, source, stack.path(f"layers.{index}")
            )
            for index, each in special[stack.name].items()
        }
        stacks.append(_stack(stack, own, overrides, source))
    for name in dimensions(owner):
        if name in said:
            network[name] = said[name]
    network = {name: network[name] for name in dimensions(owner) if name in network}
    _leave_out_defaults(owner, [network])
    grid = SearchSpace(said["name"], kind, network, tuple(stacks))
    if said.get("listed") is None:
        return grid
    try:
        return listed_in(grid, said["listed"])
    except SpecError as error:
        raise SpecError(f"{source}: listed: {error}") from error


Single = dict[str, dict[int, Any]]
"""What a file says of single layers, by stack and number."""


def _single_layers(
    given: Mapping[str, Any], owner: type[Architecture]
) -> tuple[dict[str, Any], Single]:
    """The file without its keys `layers.N`, and what stands there."""
    general, special = dict(given), Single()
    for stack in owner.stacks:
        whole = general.get(stack.name) if stack.name else general
        held = special[stack.name] = {}
        if isinstance(whole, Mapping):
            kept = {}
            for key, value in whole.items():
                if re.match(_LAYER_KEY, str(key)):
                    held[int(key.removeprefix("layers."))] = value
                else:
                    kept[key] = value
            general = {**general, stack.name: kept} if stack.name else kept
    return general, special


def _stack(
    stack: Stack, said: Mapping[str, Any], overrides: Mapping[int, BaseModel], source: str
) -> StackChoices:
    """The choices of a stack whose keys are `said`."""
    deepest = max(said["depth"])
    where = f"{source}: {stack.path('layers')}"
    beyond = [index for index in overrides if index >= deepest]
    if beyond:
        raise SpecError(f"{where}.{beyond[0]}: the depth is at most {deepest}")
    layers = [
        _merged(stack.layer, said["layers"], overrides.get(index), where)
        for index in range(deepest)
    ]
    _leave_out_defaults(stack.layer, layers)
    _check_aliases(stack, said["width"], layers, where)
    names = (*dimensions(stack.layer), *aliases(stack.layer))
    ordered = tuple({name: each[name] for name in names if name in each} for each in layers)
    return StackChoices(tuple(sorted(said["depth"])), ordered)


def _validated(model: type[BaseModel], given: Any, source: str, under: str = "") -> Any:
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise explain(error, source, model, under) from error


def _given(model: BaseModel) -> dict[str, Any]:
    fields = type(model).model_fields
    return {name: getattr(model, name) for name in fields if name in model.model_fields_set}


def _merged(
    layer: type[Layer], general: BaseModel, special: BaseModel | None, where: str
) -> dict[str, Any]:
    merged: dict[str, tuple[Any, ...]] = {}
    others = {name: alias.target for name, alias in aliases(layer).items()}
    for given in map(_given, (general, special) if special else (general,)):
        for name, field in others.items():
            if name in given and field in given:
                raise SpecError(f"{where}: give {field} or {name}, not both")
            # What one layer says of a field displaces either form of it said for all layers.
            if name in given or field in given:
                merged.pop(name, None)
                merged.pop(field, None)
        merged |= given
    known = {others.get(name, name) for name in merged}
    for name in dimensions(layer):
        if name not in defaults(layer) and name not in known:
            raise SpecError(f"{where}.{name}: is required")
    return merged


def _leave_out_defaults(owner: type, places: list[dict[str, Any]]) -> None:
    """A field whose default alone is allowed everywhere is said nowhere, another one everywhere.

    So equal spaces are equal values however they were written.
    """
    for name, default in defaults(owner).items():
        alone = (default,)
        free = any(place.get(name, alone) != alone for place in places)
        for place in places:
            if free:
                place.setdefault(name, alone)
            else:
                place.pop(name, None)


def _check_aliases(
    stack: Stack, widths: tuple[int, ...], layers: list[dict[str, Any]], where: str
) -> None:
    for name, alias in aliases(stack.layer).items():
        held = {(each[name], each.get(alias.of, ())) for each in layers if name in each}
        for choices, heads in held:
            if alias.of == "width":
                _check_ratio(stack, alias, widths, choices, f"{where}.{name}")
            for whole, count in itertools.product(choices, heads):
                if whole % count:
                    raise SpecError(f"{where}.{name}: {whole} is no multiple of {count} {alias.of}")
                dimensions(stack.layer)[alias.target].parse(whole // count, f"{where}.{name}")


def _check_ratio(
    stack: Stack, alias: Alias, widths: tuple[int, ...], choices: tuple[Any, ...], where: str
) -> None:
    for width in widths:
        resolved = [alias.resolve(choice, width, {}) for choice in choices]
        for value in resolved:
            kind = dimensions(stack.layer)[alias.target]
            kind.parse(value, f"{where} at width {width}: {alias.target}")
        if len(set(resolved)) < len(resolved):
            raise SpecError(
                f"{where}: {list(choices)} at width {width} gives {alias.target} {resolved}; "
                "they must differ"
            )
