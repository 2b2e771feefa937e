"""How does a person read a request or an architecture in a table? As names with short texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from nas.space.architecture import Architecture, network_fields
from nas.space.dimension import dimensions


def part_name(spec: Mapping[str, Any], key: str) -> str:
    """The name of a part of a request (`space`, `task`), given as such or as a mapping."""
    part = spec.get(key, "")
    return str(part.get("name", "") if isinstance(part, Mapping) else part) or "unnamed"


def request_parameters(spec: Mapping[str, Any]) -> dict[str, str]:
    """A request's values by dotted key path; the space, a document of its own, by its name."""
    flat: dict[str, str] = {}
    _flatten({**spec, "space": part_name(spec, "space")}, "", flat)
    return flat


def _flatten(given: Mapping[str, Any], path: str, flat: dict[str, str]) -> None:
    for key, value in given.items():
        if isinstance(value, Mapping):
            _flatten(value, f"{path}{key}.", flat)
        else:
            flat[f"{path}{key}"] = _text(value)


def architecture_parameters(architecture: Architecture) -> dict[str, str]:
    """Every dimension by its path; those of layers as texts in the order of the layers.

    `attention_share.TYPE` is the share of sites with that attention type, options apart.
    """
    owner = type(architecture)
    kinds, paths = dimensions(owner), network_fields(owner)
    shown = {
        paths[name]: _text(kind.dump(getattr(architecture, name))) for name, kind in kinds.items()
    }
    for stack in architecture.stacks:
        layers = architecture.layers_of(stack)
        shown[stack.path("depth")] = str(len(layers))
        for name, kind in dimensions(stack.layer).items():
            values = [kind.dump(getattr(layer, name)) for layer in layers]
            shown[stack.path(name)] = " ".join(map(_text, values))
    types = Counter(each.type for each in architecture.attentions)
    for type_, sites in sorted(types.items()):
        shown[f"attention_share.{type_}"] = f"{sites / types.total():.3g}"
    return shown


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
