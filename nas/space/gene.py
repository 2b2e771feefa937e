"""What can vary: a list of choices each, of a network, of a stack's depth or of a layer."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from nas.errors import SpecError
from nas.space.architecture import Stack
from nas.space.dimension import Dimension, Operator
from nas.space.layer import ALIASES, Layer

End = Literal["smallest", "largest"]
Genome = tuple[int, ...]
"""One choice's index per gene; -1 for the genes of layers beyond the depth."""
Choices = Mapping[str, tuple[Any, ...]]
"""The choices of some fields by name."""


@dataclasses.dataclass(frozen=True)
class Gene:
    """One list of choices: of the network (`stack` None), a stack's depth, or a layer's field."""

    field: str
    path: str
    choices: tuple[Any, ...]
    dimension: Dimension
    stack: Stack | None = None
    layer: int | None = None

    @property
    def target(self) -> str:
        """The field of the architecture or layer that the gene decides."""
        alias = ALIASES.get(self.field)
        return alias.target if alias else self.field

    @property
    def is_attention(self) -> bool:
        """Whether it chooses what stands at an attention site."""
        return isinstance(self.dimension, Operator) and self.dimension.site is not None

    @property
    def grows(self) -> bool:
        """Whether a larger choice makes the same tensors longer, and no others."""
        return self.dimension.ordered and not self.dimension.shrinks

    def value(self, index: int, width: int, fields: Mapping[str, Any]) -> Any:
        """The field's value for a choice in a stack of this width, `fields` the layer's others."""
        return _resolved(self.field, self.choices[index], width, fields)

    def extreme(self, end: End) -> int:
        """Index of the choice that gives the smallest or largest network; 0 where none does."""
        if not self.dimension.ordered:
            return 0
        greatest = (end == "largest") != self.dimension.shrinks
        return self.choices.index(max(self.choices) if greatest else min(self.choices))

    def index(self, held: Any, width: int = 0) -> int:
        """The choice that gives what a network or layer holds; raises `SpecError` where none."""
        value, values = getattr(held, self.target), self.choices
        if self.field in ALIASES:
            fields = vars(held)
            values = tuple(self.value(i, width, fields) for i in range(len(self.choices)))
        try:
            return values.index(value)
        except ValueError:
            shown = ", ".join(str(choice) for choice in values)
            raise SpecError(f"{self.path}: {value} is not a choice; allowed: {shown}") from None


@dataclasses.dataclass(frozen=True)
class StackChoices:
    """The choices of a stack: numbers of layers, and the fields of layer i in `layers[i]`."""

    depth: tuple[int, ...]
    layers: tuple[Choices, ...]

    @property
    def size(self) -> int:
        """The exact number of settings."""
        per_layer = [math.prod(map(len, layer.values())) for layer in self.layers]
        return sum(math.prod(per_layer[:depth]) for depth in self.depth)


def all_layers(kind: type[Layer], choices: Choices, width: int) -> Iterator[Layer]:
    """Every layer that these choices allow in a stack of this width."""
    for combination in itertools.product(*choices.values()):
        yield kind(**layer_fields(dict(zip(choices, combination, strict=True)), width))


def layer_fields(chosen: Mapping[str, Any], width: int) -> dict[str, Any]:
    """A layer's fields from one choice of each field or alias, the aliases last."""
    fields: dict[str, Any] = {}
    for name, choice in chosen.items():
        alias = ALIASES.get(name)
        fields[alias.target if alias else name] = _resolved(name, choice, width, fields)
    return fields


def _resolved(field: str, choice: Any, width: int, fields: Mapping[str, Any]) -> Any:
    alias = ALIASES.get(field)
    return alias.resolve(choice, width, fields) if alias else choice
