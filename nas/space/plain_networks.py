"""What does a plain table say of a network: its values and its stacks of layers, by name?"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

Plain = Mapping[str, Any]
"""Plain values by name; in a network also lists of layers, each one a mapping of plain values."""


def read_network(network: Plain) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """(values, stacks of layers) by name, of mappings within the network as `encoder.width`.

    A mapping within a layer is one value: its JSON. Raises ValueError for what is no plain value.
    """
    values: dict[str, Any] = {}
    stacks: dict[str, list[dict[str, Any]]] = {}
    for name, held in network.items():
        if isinstance(held, Mapping):
            inner_values, inner_stacks = read_network(held)
            values |= {f"{name}.{key}": value for key, value in inner_values.items()}
            stacks |= {f"{name}.{key}": stack for key, stack in inner_stacks.items()}
        elif isinstance(held, list | tuple):
            if not all(isinstance(layer, Mapping) for layer in held):
                raise ValueError(f"{name}: {held!r} given; a list of layers is one of mappings")
            stacks[name] = [
                {key: _plain(value, f"{name}.{index}.{key}") for key, value in layer.items()}
                for index, layer in enumerate(held)
            ]
        else:
            values[name] = _plain(held, name)
    return values, stacks


def _plain(value: Any, where: str) -> Any:
    if isinstance(value, Mapping):
        return json.dumps(value, sort_keys=True)
    finite = isinstance(value, int | float) and math.isfinite(value)
    if value is None or isinstance(value, str) or finite:
        return value
    raise ValueError(f"{where}: {value!r} given; a word, a finite number, true or false is allowed")


def is_number(value: Any) -> bool:
    """Whether the value is a number, which true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def key_of(value: Any) -> Any:
    """What tells values apart: 1 and 1.0 are one number, True is none."""
    return (bool, value) if isinstance(value, bool) else value


def names_in(tables: Iterable[Plain]) -> list[str]:
    """The names in all of them, in the order of their first appearance."""
    return list(dict.fromkeys(itertools.chain(*tables)))


def values_in(found: Iterable[Any]) -> tuple[Any, ...]:
    """The different values: numbers ascending, then the others as they are written."""
    different = {key_of(value): value for value in found}.values()
    others = sorted((each for each in different if not is_number(each)), key=repr)
    return (*sorted(each for each in different if is_number(each)), *others)
