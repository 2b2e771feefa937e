"""How does a person read a request or an architecture in a table? As names with short texts."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from nas.space.architecture import Architecture, Layer
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
    """Every dimension; those of layers as texts in the order of the layers.

    `attention_share.TYPE` is the share of layers with that attention type, options apart.
    """
    shown = {"depth": str(architecture.depth)}
    for name, kind in dimensions(Architecture).items():
        shown[name] = _text(kind.dump(getattr(architecture, name)))
    for name, kind in dimensions(Layer).items():
        values = [kind.dump(getattr(layer, name)) for layer in architecture.layers]
        shown[name] = " ".join(map(_text, values))
    types = Counter(layer.attention.type for layer in architecture.layers)
    for type_, layers in sorted(types.items()):
        shown[f"attention_share.{type_}"] = f"{layers / architecture.depth:.3g}"
    return shown


def _text(value: Any) -> str:
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return ", ".join(value)
    return value if isinstance(value, str) else json.dumps(value)
