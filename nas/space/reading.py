"""How is a YAML file read: plain values only, within bounds, numbers as YAML 1.2 means them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import yaml

from nas.errors import SpecError

MAX_NODES = 10_000
MAX_LEVELS = 32


def path_of(given: object, where: str, allowed: str = "a path (text or Path)") -> Path:
    """What was given as a path; raises `SpecError` naming `where` for what can be none."""
    if not isinstance(given, str | os.PathLike) or "\0" in str(given):
        raise SpecError(f"{where}: {given!r} given; {allowed} is allowed")
    return Path(given)


def read_yaml(path: str | Path) -> Any:
    """A YAML file's content; raises `SpecError` for aliases, too many nodes or bad syntax."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot be read: {error}") from error
    return parse_yaml(text, str(path))


def parse_yaml(text: str, source: str) -> Any:
    """YAML text as plain values; `source` is named in errors."""
    try:
        return _StrictLoader(text).get_single_data()
    except (yaml.YAMLError, ValueError) as error:
        raise SpecError(f"{source}: not usable YAML: {error}") from error


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses aliases, tags, duplicate keys and documents beyond the node cap."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.nodes = 0
        self.level = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        line = event.start_mark.line + 1
        if isinstance(event, yaml.AliasEvent):
            raise yaml.YAMLError(f"aliases are not allowed (line {line})")
        if getattr(event, "tag", None) is not None:
            raise yaml.YAMLError(f"tags are not allowed (line {line}, {event.tag})")
        self.nodes += 1
        self.level += 1
        if self.nodes > MAX_NODES or self.level > MAX_LEVELS:
            raise yaml.YAMLError(f"more than {MAX_NODES} nodes or {MAX_LEVELS} levels")
        try:
            return super().compose_node(parent, index)
        finally:
            self.level -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: set[str] = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.YAMLError(
                    f"key {key.value!r} appears twice (line {key.start_mark.line + 1})"
                )
            seen.add(str(key.value))
        return super().construct_mapping(node, deep)


# YAML 1.1 reads 5e7 and dates as other things than people mean who write budgets, 1:30 as 90 and
# 017 as 15; these are the numbers of YAML 1.2 (https://yaml.org/spec/1.2.2/, core schema).
_NUMBERS = {
    "int": r"[-+]?(0|[1-9][0-9_]*)|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}
_StrictLoader.yaml_implicit_resolvers = {
    first: [each for each in known if each[0].rpartition(":")[2] not in (*_NUMBERS, "timestamp")]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _kind, _pattern in _NUMBERS.items():
    _StrictLoader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_kind}", re.compile(rf"^(?:{_pattern})$"), list("-+.0123456789")
    )
