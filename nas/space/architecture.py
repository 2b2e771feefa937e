"""An architecture as a value: every choice that changes the function, and nothing else."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import Choice
from nas.operators.ffn.mlp import ACTIVATIONS
from nas.registry import nearest
from nas.space.digest import digest
from nas.space.dimension import DEPTH, Count, Word, dimension, dimensions
from nas.space.fields import dumped, mapping, parsed
from nas.space.layer import BertLayer, DecoderLayer, EncoderLayer, Layer, attention_fields
from nas.space.reading import path_of

STEMS = ("patch", "conv")
POOLINGS = ("mean", "class_token", "mean_beside_class_token")
POSITIONS = ("learned", "none")
TEXT_POSITIONS = ("sinusoidal", "none")
EMBEDDINGS = ("shared", "tied", "separate")


@dataclasses.dataclass(frozen=True)
class Stack:
    """Where an architecture holds layers of one kind and one width, one after the other.

    `name` is where they stand in the JSON form, "" for its top; fields called `NAME_layers` and
    `NAME_width` (without a name: `layers` and `width`) hold the layers and their width.
    """

    name: str
    layer: type[Layer]

    def field(self, name: str) -> str:
        """The architecture's field for one of the stack's own: `encoder_width`."""
        return f"{self.name}_{name}" if self.name else name

    def path(self, name: str) -> str:
        """Where that is in the JSON form: `encoder.width`."""
        return f"{self.name}.{name}" if self.name else name


class Architecture:
    """A network's choices; each kind of network is a frozen dataclass of dimensions and stacks."""

    kind: ClassVar[str]
    stacks: ClassVar[tuple[Stack, ...]]
    norm: str
    activation: str
    position: str

    def layers_of(self, stack: Stack) -> tuple[Layer, ...]:
        """The layers of one of the stacks."""
        found: tuple[Layer, ...] = getattr(self, stack.field("layers"))
        return found

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers of all stacks, in their order."""
        return tuple(itertools.chain(*map(self.layers_of, self.stacks)))

    @property
    def depth(self) -> int:
        """Number of layers of all stacks."""
        return sum(len(self.layers_of(stack)) for stack in self.stacks)

    def without_layers(self) -> Architecture:
        """What stands outside the layers."""
        empty: dict[str, Any] = dict.fromkeys((s.field("layers") for s in self.stacks), ())
        return dataclasses.replace(self, **empty)  # type: ignore[type-var]

    @property
    def attentions(self) -> tuple[Choice, ...]:
        """The attention types at all sites, layer by layer."""
        return tuple(itertools.chain(*(layer.attentions for layer in self.layers)))

    @property
    def single_attention(self) -> str | None:
        """The one attention type of a homogeneous architecture; None where types are mixed."""
        types = {str(each) for each in self.attentions}
        return types.pop() if len(types) == 1 else None

    def to_json(self) -> dict[str, Any]:
        """The canonical form: fields at their default are left out."""
        shown: dict[str, Any] = {"kind": self.kind, **dumped(self)}
        for stack in self.stacks:
            held = {"layers": [dumped(layer) for layer in self.layers_of(stack)]}
            if not stack.name:
                shown |= held
                continue
            shown[stack.name] = {"width": shown.pop(stack.field("width")), **held}
        return shown

    @cached_property
    def id(self) -> str:
        """Digest of the canonical form, equal on every machine: 16 hexadecimal digits."""
        return digest(self.to_json())

    @classmethod
    def from_json(cls, given: Any, where: str = "architecture") -> Self:
        """Reads the JSON form, of any kind or of the one that is asked.

        Raises `SpecError` for anything unknown, missing or not allowed.
        """
        fields = mapping(given, where)
        if "kind" not in fields and fields.keys() >= {"encoder", "decoder"}:
            raise SpecError(f"{where}: missing kind; with these keys it is {EncoderDecoder.kind}")
        kind = fields.pop("kind", Encoder.kind)
        kinds = {name: each for name, each in KINDS.items() if issubclass(each, cls)}
        if not isinstance(kind, str) or kind not in kinds:
            raise SpecError(f"{where}.kind: {kind!r} given; allowed: {', '.join(kinds)}")
        owner = kinds[kind]
        values: dict[str, Any] = {}
        for stack in owner.stacks:
            own, at = (fields, where) if not stack.name else (None, f"{where}.{stack.name}")
            if own is None:
                if stack.name not in fields:
                    raise SpecError(f"{where}: missing {stack.name}")
                own = mapping(fields.pop(stack.name), at)
                _only(("width", "layers"), own, at)
                if "width" not in own:
                    raise SpecError(f"{at}: missing width")
                name = stack.field("width")
                values[name] = dimensions(owner)[name].parse(own["width"], f"{at}.width")
            values[stack.field("layers")] = _layers(stack.layer, own.pop("layers", None), at)
        names = tuple(name for name in dimensions(owner) if name not in values)
        extra = ("kind", *(stack.name or "layers" for stack in owner.stacks))
        values |= parsed(owner, fields, where, names=names, extra=extra)
        return owner(**values)

    def replace_attention(self, *choices: Choice) -> Architecture:
        """The same dimensions with these attention types at the sites, in turn."""
        turn = itertools.cycle(choices)
        changed = {}
        for stack in self.stacks:
            names = attention_fields(stack.layer)
            changed[stack.field("layers")] = tuple(
                dataclasses.replace(layer, **dict(zip(names, turn, strict=False)))  # type: ignore[type-var]
                for layer in self.layers_of(stack)
            )
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]

    def replace_attention_like(self, other: Architecture) -> Architecture:
        """The same dimensions with the attention types of another, in turn over each stack."""
        turns = (_in_turn(stack, self, other) for stack in self.stacks)
        return self.replace_attention(*itertools.chain(*turns))


@dataclasses.dataclass(frozen=True)
class Encoder(Architecture):
    """An image encoder: patch embedding, layers, a norm, pooling and a linear classifier.

    stem: `patch` is one linear map a patch; `conv` an overlapping convolution (kernel 2p - 1,
    stride p; Xie et al., SegFormer, 2021), GELU and a pointwise convolution. pooling: `mean` of the
    patches without a class token, the `class_token`, or `mean_beside_class_token` (a class token
    takes part in attention, the patches' mean is read; AutoFormer). position: `learned` adds one
    vector a token, `none` nothing.
    """

    patch_size: int = dimension(Count(maximum=1024, shrinks=True))
    width: int = dimension(Count())
    layers: tuple[EncoderLayer, ...] = ()
    stem: str = dimension(Word(STEMS), "patch")
    norm: str = dimension(Word(catalog.NORMS), "layernorm")
    activation: str = dimension(Word(ACTIVATIONS), "gelu")
    pooling: str = dimension(Word(POOLINGS), "mean")
    position: str = dimension(Word(POSITIONS), "learned")

    kind = "encoder"
    stacks = (Stack("", EncoderLayer),)

    @property
    def class_tokens(self) -> int:
        """How many class tokens stand before the patches: 0 or 1."""
        return int(self.pooling != "mean")


@dataclasses.dataclass(frozen=True)
class EncoderDecoder(Architecture):
    """A translation transformer (Vaswani et al., 2017), pre-norm: encoder, decoder, output layer.

    embeddings: `shared` is one table for source, target and output (its width the larger stack's,
    the other takes the front), `tied` one for target and output beside the source's, `separate`
    three. position: `sinusoidal` adds fixed sines and cosines, `none` nothing.
    """

    encoder_width: int = dimension(Count())
    decoder_width: int = dimension(Count())
    encoder_layers: tuple[EncoderLayer, ...] = ()
    decoder_layers: tuple[DecoderLayer, ...] = ()
    norm: str = dimension(Word(catalog.NORMS), "layernorm")
    activation: str = dimension(Word(ACTIVATIONS), "relu")
    position: str = dimension(Word(TEXT_POSITIONS), "sinusoidal")
    embeddings: str = dimension(Word(EMBEDDINGS), "shared")

    kind = "encoder_decoder"
    stacks = (Stack("encoder", EncoderLayer), Stack("decoder", DecoderLayer))


@dataclasses.dataclass(frozen=True)
class BertEncoder(Architecture):
    """A sentence encoder of NAS-Bench-BERT, which is known by its row there and never built.

    Serianni and Kalita, Training-free neural architecture search for RNNs and transformers (ACL
    2023).
    """

    width: int = dimension(Count())
    layers: tuple[BertLayer, ...] = ()

    kind = "nas_bench_bert"
    stacks = (Stack("", BertLayer),)


KINDS: Mapping[str, type[Architecture]] = {
    each.kind: each for each in (Encoder, EncoderDecoder, BertEncoder)
}


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


def network_fields(owner: type[Architecture]) -> dict[str, str]:
    """Where the dimensions outside the layers stand in JSON: {"encoder_width": "encoder.width"}."""
    paths = {stack.field("width"): stack.path("width") for stack in owner.stacks}
    return {name: paths.get(name, name) for name in dimensions(owner)}


def _layers(kind: type[Layer], given: Any, where: str) -> tuple[Layer, ...]:
    if not isinstance(given, list) or not given:
        raise SpecError(f"{where}.layers: a list of at least one layer is required")
    DEPTH.parse(len(given), f"{where}.layers (their number)")
    paths = [f"{where}.layers.{i}" for i in range(len(given))]
    found = ((mapping(each, path), path) for each, path in zip(given, paths, strict=True))
    return tuple(kind(**parsed(kind, each, path)) for each, path in found)


def _only(allowed: tuple[str, ...], given: Mapping[str, Any], where: str) -> None:
    for name in given:
        if name not in allowed:
            raise SpecError(f"{where}.{name}: unknown field; {nearest(str(name), allowed)}")


def _in_turn(stack: Stack, architecture: Architecture, other: Architecture) -> list[Choice]:
    own = itertools.cycle(other.layers_of(stack))
    layers = zip(architecture.layers_of(stack), own, strict=False)
    return [*itertools.chain(*(shown.attentions for _, shown in layers))]
