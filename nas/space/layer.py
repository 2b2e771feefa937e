"""Of what is one layer made: the choices at its attention sites, and its sizes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from typing import Any

from nas import catalog
from nas.operators.declaration import Choice
from nas.space.dimension import (
    ATTENTIONS,
    FFN,
    Count,
    Dimension,
    Operator,
    Ratio,
    Word,
    dimension,
    dimensions,
)

HEADS = Count(maximum=1024)
HEAD_WIDTH = Count(maximum=4096)


class Layer:
    """What every kind of layer has in common; each kind is a frozen dataclass of dimensions."""

    attention: Choice
    heads: int
    head_width: int
    ffn_width: int
    ffn: Choice

    @property
    def attentions(self) -> tuple[Choice, ...]:
        """The attention types at the layer's sites."""
        return tuple(getattr(self, name) for name in attention_fields(type(self)))

    @property
    def efficient(self) -> tuple[bool, ...]:
        """Of each site, whether what stands there takes less than the square of the tokens."""
        return tuple(catalog.ATTENTIONS.load(each.type).efficient for each in self.attentions)

    @cached_property
    def _hash(self) -> int:
        return hash(tuple(self.__dict__[name] for name in dimensions(type(self))))

    def __hash__(self) -> int:
        return self._hash

    def __getstate__(self) -> dict[str, Any]:
        # Hashes of names differ between processes, so the kept one stays behind.
        return {name: value for name, value in self.__dict__.items() if name != "_hash"}


def attention_fields(layer: type[Layer]) -> tuple[str, ...]:
    """The fields of a kind of layer that are attention sites, in the order of their declaration."""
    kinds = dimensions(layer).items()
    return tuple(name for name, kind in kinds if isinstance(kind, Operator) and kind.site)


@dataclasses.dataclass(frozen=True)
class EncoderLayer(Layer):
    """One pre-norm encoder layer: x + attention(norm(x)), then x + ffn(norm(x))."""

    attention: Choice = dimension(ATTENTIONS["encoder_self"])  # noqa: RUF009
    heads: int = dimension(HEADS)
    head_width: int = dimension(HEAD_WIDTH)
    ffn_width: int = dimension(Count())
    ffn: Choice = dimension(FFN, Choice("mlp"))  # noqa: RUF009

    __hash__ = Layer.__hash__


@dataclasses.dataclass(frozen=True)
class DecoderLayer(Layer):
    """One pre-norm decoder layer: causal self-attention, cross-attention, FFN, each residual.

    `cross_span`: over how many of the encoder's last layers cross-attention looks, as far as the
    encoder has so many (arbitrary encoder-decoder attention; Wang et al., HAT, ACL 2020).
    """

    attention: Choice = dimension(ATTENTIONS["decoder_self"])  # noqa: RUF009
    heads: int = dimension(HEADS)
    head_width: int = dimension(HEAD_WIDTH)
    cross_attention: Choice = dimension(ATTENTIONS["cross"])  # noqa: RUF009
    cross_heads: int = dimension(HEADS)
    cross_head_width: int = dimension(HEAD_WIDTH)
    ffn_width: int = dimension(Count())
    cross_span: int = dimension(Count(maximum=16), 1)
    ffn: Choice = dimension(FFN, Choice("mlp"))  # noqa: RUF009

    __hash__ = Layer.__hash__


@dataclasses.dataclass(frozen=True)
class BertLayer(Layer):
    """One layer of NAS-Bench-BERT: an operation, then `ffn_count` FFNs one after the other.

    Self-attention (`SA`: scaled dot product, weighted multiplicative), a linear transform (`LT`:
    Fourier, cosine) or a depthwise-separable convolution (`DSC`, by kernel size).
    """

    operation: str = dimension(Word(("SA/SDP", "SA/WMA", "LT/DFT", "LT/DCT", "DSC/5", "DSC/9")))
    heads: int = dimension(HEADS)
    ffn_width: int = dimension(Count())
    ffn_count: int = dimension(Count(maximum=16))

    __hash__ = Layer.__hash__

    @property
    def attentions(self) -> tuple[Choice, ...]:
        """What stands where attention would: the operation."""
        return (Choice(self.operation),)

    @property
    def efficient(self) -> tuple[bool, ...]:
        """All but self-attention."""
        return (not self.operation.startswith("SA/"),)


@dataclasses.dataclass(frozen=True)
class Alias:
    """Another way in which a space may give a layer's field.

    As a multiple of the stack's `width`, or as what `of` heads have together.
    """

    target: str
    kind: Dimension
    of: str

    def resolve(self, choice: Any, width: int, fields: Mapping[str, Any]) -> int:
        """The field's value in a stack of this width, with these fields of the same layer."""
        whole: int = round(choice * width) if self.of == "width" else choice // fields[self.of]
        return whole


ALIASES: Mapping[str, Alias] = {
    "mlp_ratio": Alias("ffn_width", Ratio(), "width"),
    "attention_width": Alias("head_width", Count(), "heads"),
    "cross_attention_width": Alias("cross_head_width", Count(), "cross_heads"),
}


def aliases(layer: type[Layer]) -> dict[str, Alias]:
    """The aliases for fields of a kind of layer."""
    return {name: each for name, each in ALIASES.items() if each.target in dimensions(layer)}
