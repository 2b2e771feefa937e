"""What a network of kind `encoder_decoder` computes: scores of the next target token.

Shapes: B batch, S source tokens, T target tokens, D width of a stack, V target vocabulary.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import cast

import torch
from torch import Tensor
from torch.nn import functional

from nas.model import layers
from nas.model.layers import Tensors
from nas.model.slots import Slots
from nas.operators.declaration import AttentionContext
from nas.space.architecture import EncoderDecoder
from nas.space.blueprint import TABLES, stack_shapes
from nas.space.layer import DecoderLayer
from nas.space.part import span
from nas.space.sentence_pairs import SentencePairs
from nas.space.task_shape import TaskShape, TextShape


def translate(
    pairs: SentencePairs, architecture: EncoderDecoder, shape: TaskShape, slots: Slots
) -> Tensor:
    """Scores (N, V) of every true target token's successor, given the tokens before it."""
    subnet = Subnet(slots, architecture, cast(TextShape, shape))
    # Nothing holds what was looked at any longer when the scores, the largest tensor, are made.
    hidden = subnet.decode(pairs, subnet.encode(pairs.source, pairs.source_lengths))
    # The padding is left out before the output layer, the largest map of all.
    return subnet.scores(hidden.flatten(0, 1)[pairs.kept])


def longest_target(source_lengths: Tensor, shape: TextShape) -> Tensor:
    """M = ceil(a S + b) (B,) int64: how many tokens a translation may have, its end included."""
    whole: Tensor = shape.longest_target(source_lengths.double())
    return whole.long()


def positions(start: int, count: int, width: int, like: Tensor) -> Tensor:
    """(count, D): sines and cosines of p / 10000^(2 i / D) in turn, p from `start`.

    Vaswani et al., Attention Is All You Need, 2017.
    """
    place = torch.arange(start, start + count, device=like.device, dtype=torch.float32)
    rate = torch.arange(0, width, 2, device=like.device, dtype=torch.float32)
    angle = place[:, None] * torch.exp(rate * (-math.log(10_000.0) / width))
    turned = torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)
    return turned[:, :width].to(like.dtype)


@dataclass(frozen=True)
class Memory:
    """What decoder layers look at: the encoder's last layers, each normed, by how many are seen."""

    by_span: dict[int, Tensor]
    lengths: Tensor
    longest: Tensor

    def context(self, seen: int, queries: Tensor | None = None) -> AttentionContext:
        """How cross-attention looks at `seen` layers; M covers both sides' positions."""
        return AttentionContext(
            "cross",
            key_lengths=self.lengths * seen,
            query_lengths=queries,
            norm_length=torch.maximum(self.lengths, self.longest),
            copies=seen,
        )


class Subnet:
    """One architecture's slice of a network, at work; nothing is dropped in `writing`."""

    def __init__(
        self, slots: Slots, architecture: EncoderDecoder, shape: TextShape, *, writing: bool = False
    ) -> None:
        self.slots, self.architecture, self.shape = slots, architecture, shape
        self.outer = slots.outer_slices(architecture, shape)
        self.encoder, self.decoder = stack_shapes(architecture, shape)
        share = slots.dropout if slots.training and not writing else 0.0
        # Less for a narrow slice (HAT, Wang et al., ACL 2020).
        self.in_encoder, self.in_decoder = (
            layers.Sublayers(
                architecture.norm,
                architecture.activation,
                share and share * common.width / slots.widest(norm),
            )
            for common, norm in ((self.encoder, "encoder_norm"), (self.decoder, "decoder_norm"))
        )

    @cached_property
    def decoder_layers(self) -> list[tuple[DecoderLayer, dict[str, dict[str, Tensor]]]]:
        """The decoder's layers with their tensors."""
        stack = self.architecture.stacks[1]
        return [
            (layer, self.slots.layer_slices(stack, index, layer, self.decoder))
            for index, layer in enumerate(self.architecture.decoder_layers)
        ]

    def encode(self, source: Tensor, lengths: Tensor) -> Memory:
        """What the decoder layers look at, of sources (B, S) padded behind their lengths (B,)."""
        architecture, (stack, _) = self.architecture, self.architecture.stacks
        context = AttentionContext("encoder_self", key_lengths=lengths)
        x = self.embed(source, "source", 0)
        spans = {span(layer, self.decoder) for layer in architecture.decoder_layers}
        outputs = []
        depth = len(architecture.encoder_layers)
        for index, layer in enumerate(architecture.encoder_layers):
            w = self.slots.layer_slices(stack, index, layer, self.encoder)
            x = self.in_encoder.attend(x, layer.attention, w, context)
            x = self.in_encoder.feed_forward(x, layer.ffn, w)
            if index >= depth - max(spans):
                outputs.append(self.norm(x, self.outer["encoder_norm"]))
        # One source token's copies stand side by side, so that the padding stays at the end.
        joined = {n: torch.stack(outputs[-n:], dim=2).flatten(1, 2) for n in spans}
        return Memory(joined, lengths, longest_target(lengths, self.shape))

    def decode(self, pairs: SentencePairs, memory: Memory) -> Tensor:
        """The decoder's last hidden states (B, T, D), all tokens at once."""
        # A target to be scored may be longer than those that are learnt or written.
        longest = torch.maximum(memory.longest, pairs.target_lengths)
        memory = replace(memory, longest=longest)
        context = AttentionContext(
            "decoder_self", key_lengths=pairs.target_lengths, norm_length=longest
        )
        x = self.embed(pairs.target, "target", 0)
        for layer, w in self.decoder_layers:
            x = self.in_decoder.attend(x, layer.attention, w, context)
            seen = span(layer, self.decoder)
            looks = memory.context(seen, pairs.target_lengths)
            look = partial(
                layers.cross_attend,
                memory=memory.by_span[seen],
                choice=layer.cross_attention,
                own=w["cross_attention"],
                context=looks,
            )
            x = self.in_decoder.around(x, w, "cross_attention", look)
            x = self.in_decoder.feed_forward(x, layer.ffn, w)
        return x

    def scores(self, hidden: Tensor) -> Tensor:
        """Scores (..., V) of hidden states (..., D)."""
        hidden = self.norm(hidden, self.outer["decoder_norm"])
        table = self._table("output")
        return functional.linear(hidden, table[:, : self.decoder.width])

    def embed(self, tokens: Tensor, side: str, start: int) -> Tensor:
        """(B, N) ids of one side as (B, N, D), the first of them at position `start`."""
        source = side == "source"
        common = self.encoder if source else self.decoder
        table = self._table(side)[:, : common.width]
        x = functional.embedding(tokens, table) * math.sqrt(common.width)
        if self.architecture.position == "sinusoidal":
            x = x + positions(start, tokens.shape[1], common.width, x)
        return (self.in_encoder if source else self.in_decoder).drop(x)

    def _table(self, use: str) -> Tensor:
        """The embeddings for source, target or output; rows may be wider than the stack."""
        return self.outer[TABLES[self.architecture.embeddings][use]]["table"]

    def norm(self, x: Tensor, own: Tensors) -> Tensor:
        """The architecture's norm."""
        return layers.normalize(x, self.architecture.norm, own)
