"""An architecture as a value: every choice that changes the function, and nothing else."""

from __future__ import annotations

import dataclasses
import json
import operator
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.operators.ffn.mlp import ACTIVATIONS
from nas.registry import nearest
from nas.space.digest import digest
from nas.space.dimension import (
    ATTENTION_SELF,
    DEPTH,
    FFN,
    Count,
    Dimension,
    Word,
    dimension,
    dimensions,
)
from nas.space.reading import path_of

STEMS = ("patch", "conv")
POOLINGS = ("mean", "class_token", "mean_beside_class_token")
POSITIONS = ("learned", "none")
KINDS = ("encoder",)


@dataclasses.dataclass(frozen=True)
class Layer:
    """One pre-norm transformer layer: x + attention(norm(x)), then x + ffn(norm(x))."""

    attention: Choice = dimension(ATTENTION_SELF)  # noqa: RUF009
    heads: int = dimension(Count(maximum=1024))
    head_width: int = dimension(Count(maximum=4096))
    ffn_width: int = dimension(Count())
    ffn: Choice = dimension(FFN, Choice("mlp"))  # noqa: RUF009

    @cached_property
    def _hash(self) -> int:
        return hash(_values(self))

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        # Hashes of names differ between processes, so the kept one stays behind.
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}


_values = operator.attrgetter(*(each.name for each in dataclasses.fields(Layer)))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """An image encoder: patch embedding, layers, a norm, pooling and a linear classifier.

    stem: `patch` is one linear map a patch; `conv` an overlapping convolution (kernel 2p - 1,
    stride p; Xie et al., SegFormer, 2021), GELU and a pointwise convolution. pooling: `mean` of the
    patches without a class token, the `class_token`, or `mean_beside_class_token` (a class token
    takes part in attention, the patches' mean is read; AutoFormer). position: `learned` adds one
    vector a token, `none` nothing.
    """

    patch_size: int = dimension(Count(maximum=1024, shrinks=True))
    width: int = dimension(Count())
    layers: tuple[Layer, ...] = ()
    stem: str = dimension(Word(STEMS), "patch")
    norm: str = dimension(Word(catalog.NORMS), "layernorm")
    activation: str = dimension(Word(ACTIVATIONS), "gelu")
    pooling: str = dimension(Word(POOLINGS), "mean")
    position: str = dimension(Word(POSITIONS), "learned")

    kind = "encoder"

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.layers)

    @property
    def single_attention(self) -> str | None:
        """The one attention type of a homogeneous architecture; None where types are mixed."""
        types = {str(layer.attention) for layer in self.layers}
        return types.pop() if len(types) == 1 else None

    @property
    def class_tokens(self) -> int:
        """How many class tokens stand before the patches: 0 or 1."""
        return int(self.pooling != "mean")

    def to_json(self) -> dict[str, Any]:
        """The canonical form: fields at their default are left out."""
        shown = _dump(self)
        return {"kind": self.kind, **shown, "layers": [_dump(layer) for layer in self.layers]}

    @cached_property
    def id(self) -> str:
        """Digest of the canonical form, equal on every machine: 16 hexadecimal digits."""
        return digest(self.to_json())

    @classmethod
    def from_json(cls, given: Any, where: str = "architecture") -> Architecture:
        """Reads the JSON form; raises `SpecError` for anything unknown, missing or not allowed."""
        fields = _mapping(given, where)
        kind = fields.pop("kind", "encoder")
        if kind not in KINDS:
            raise SpecError(f"{where}.kind: {kind!r} given; allowed: {', '.join(KINDS)}")
        layers = fields.pop("layers", None)
        if not isinstance(layers, list) or not layers:
            raise SpecError(f"{where}.layers: a list of at least one layer is required")
        DEPTH.parse(len(layers), f"{where}.layers (their number)")
        parsed = tuple(
            Layer(**_parse(Layer, _mapping(layer, f"{where}.layers.{i}"), f"{where}.layers.{i}"))
            for i, layer in enumerate(layers)
        )
        return cls(layers=parsed, **_parse(cls, fields, where, extra=("kind", "layers")))

    def replace_attention(self, *choices: Choice) -> Architecture:
        """The same dimensions with these attention types, repeated over the layers."""
        changed = (
            dataclasses.replace(layer, attention=choices[i % len(choices)])
            for i, layer in enumerate(self.layers)
        )
        return dataclasses.replace(self, layers=tuple(changed))


def load_architecture(path: str | Path) -> Architecture:
    """Reads an architecture's JSON file; raises `SpecError` naming the file and the key path."""
    path = path_of(path, "architecture")
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: no such file; an architecture's JSON file is expected") from None
    except (OSError, ValueError, RecursionError) as error:
        raise SpecError(f"{path}: not readable as JSON: {error}") from error
    try:
        return Architecture.from_json(given)
    except SpecError as error:
        raise type(error)(f"{path}: {error}") from error


def _dump(value: Any) -> dict[str, Any]:
    shown = {}
    for field in dataclasses.fields(value):
        kind: Dimension | None = field.metadata.get("dimension")
        held = getattr(value, field.name)
        if kind is not None and held != field.default:
            shown[field.name] = kind.dump(held)
    return shown


def _mapping(given: Any, where: str) -> dict[str, Any]:
    if not isinstance(given, Mapping):
        raise SpecError(f"{where}: a mapping of field to value is required, {given!r} given")
    return dict(given)


def _parse(
    owner: type, fields: Mapping[str, Any], where: str, extra: tuple[str, ...] = ()
) -> dict[str, Any]:
    known = dimensions(owner)
    for name in fields:
        if name not in known:
            raise SpecError(
                f"{where}.{name}: unknown field; {nearest(str(name), [*known, *extra])}"
            )
    required = [
        field.name
        for field in dataclasses.fields(owner)
        if field.name in known and field.default is dataclasses.MISSING
    ]
    missing = [name for name in required if name not in fields]
    if missing:
        raise SpecError(f"{where}: missing {', '.join(missing)}")
    return {name: known[name].parse(value, f"{where}.{name}") for name, value in fields.items()}
