"""What is sent to a service: requests and spaces as plain JSON, whose files are read here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas.errors import SpecError
from nas.search.changes import changed
from nas.search.spec import SearchSpec
from nas.space.loader import load_space
from nas.space.reading import path_of, read_yaml
from nas.space.search_space import SearchSpace


def request_json(
    spec: SearchSpec | str | Path | Mapping[str, Any], changes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A request as it is sent; what is wrong in it is told by the service, which knows its parts.

    A space by path is read here, as the service reads no files for anybody. Raises `SpecError` for
    what cannot be read.
    """
    source = "spec"
    if isinstance(spec, SearchSpec):
        given: Any = spec.to_json()
    elif isinstance(spec, Mapping):
        given = spec
    else:
        source = str(path_of(spec, "spec", "a path or a mapping"))
        given = read_yaml(spec)
    if not isinstance(given, Mapping):
        raise SpecError(f"{source}: a mapping with name, task, space, ... is required")
    made = changed(given, {} if changes is None else changes, source)
    if made.get("space") is not None:
        made["space"] = space_json(made["space"])
    return made


def space_json(space: Any) -> Any:
    """A space as it is sent: by its name, or whole."""
    if isinstance(space, SearchSpace):
        return space.to_json()
    if isinstance(space, Path):
        return load_space(space).to_json()
    # What `load_space` takes for a path whatever there is.
    is_path = isinstance(space, str) and ("/" in space or space.endswith((".yaml", ".yml")))
    return load_space(space).to_json() if is_path else space


def plain_json(given: Mapping[str, Any], source: str) -> bytes:
    """JSON text in UTF-8; raises `SpecError` for what JSON has no form of."""
    try:
        return json.dumps(given, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise SpecError(f"{source}: cannot be sent as JSON: {error}") from error
