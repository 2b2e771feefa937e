"""How does a network write a translation token by token, remembering what it has written?

Shapes: B sentences, W hypotheses a sentence, H heads, K head width, D decoder width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor

from nas.errors import SpecError
from nas.model import layers
from nas.model.beam_search import write_on
from nas.model.encoder_decoder import Memory, Subnet, longest_target
from nas.model.layers import Projection, Tensors
from nas.model.slots import Slots
from nas.operators.declaration import Attention, AttentionContext, Choice, Options, Site, State
from nas.space.architecture import Architecture, EncoderDecoder
from nas.space.layer import DecoderLayer
from nas.space.part import span
from nas.space.task_shape import TaskShape, TextShape


@dataclass(frozen=True)
class IncrementalState:
    """What is known while translations are written.

    `source` is per sentence: its lengths, and what each layer's cross-attention remembers. `target`
    is per hypothesis: what each layer's self-attention remembers of the tokens so far.
    """

    source: Memory
    crossed: tuple[State, ...]
    target: tuple[State | None, ...]


@dataclass(frozen=True)
class _Site:
    """Attention at one site of one layer, ready for steps: its maps are joined once."""

    attention: Attention
    options: Options
    own: Tensors
    projection: Projection


class Decoding:
    """The decoder of one architecture's slice: a `Decoder` for beam search.

    The weights are read when it is made; a step costs one token's work whatever was written, but
    for what the attention types look back on.
    """

    def __init__(self, slots: Slots, architecture: Architecture, shape: TaskShape) -> None:
        if not isinstance(architecture, EncoderDecoder):
            raise SpecError(f"a network of kind {architecture.kind} translates nothing")
        self.shape = cast(TextShape, shape)
        self.subnet = Subnet(slots, architecture, self.shape, writing=True)
        self._layers = [
            (
                layer,
                w,
                _site(layer.attention, "decoder_self", w["attention"]),
                _site(layer.cross_attention, "cross", w["cross_attention"]),
            )
            for layer, w in self.subnet.decoder_layers
        ]

    @torch.inference_mode()
    def start(self, source: Tensor, source_lengths: Tensor) -> IncrementalState:
        """Sources (B, S), padded behind their lengths (B,), encoded and looked at by no one yet."""
        memory = self.subnet.encode(source, source_lengths)
        crossed = []
        for layer, w, _, cross in self._layers:
            seen = self._seen(layer)
            k, v = layers.projection(w["cross_attention"], "kv")(memory.by_span[seen])
            context = memory.context(seen)
            own, options = cross.own, cross.options
            crossed.append(cross.attention.remember(None, k, v, own, options, context, 0))
        # What the layers remember of it is all that is still needed.
        return IncrementalState(replace(memory, by_span={}), tuple(crossed), (None,) * len(crossed))

    @torch.inference_mode()
    def step(
        self, memory: IncrementalState, tokens: Tensor, position: int
    ) -> tuple[Tensor, IncrementalState]:
        """Scores (B W, V) of what follows the last tokens (B W,), which stand at `position`."""
        sentences = len(memory.source.lengths)
        width = len(tokens) // sentences
        longest = memory.source.longest.repeat_interleave(width)
        context = AttentionContext("decoder_self", norm_length=longest)
        x = self.subnet.embed(tokens[:, None], "target", position)
        target = []
        for number, (layer, w, own, cross) in enumerate(self._layers):
            hidden = self.subnet.norm(x, w["attention_norm"])
            q, k, v = own.projection(hidden)
            given = own.own, own.options, context, position
            state = own.attention.remember(memory.target[number], k, v, *given)
            target.append(state)
            x = x + layers.put_out(own.attention.recall(state, q, *given), own.own)
            hidden = self.subnet.norm(x, w["cross_attention_norm"])
            # A sentence's hypotheses are queries of the one memory it has.
            (q,) = cross.projection(hidden.view(sentences, width, -1))
            looks = memory.source.context(self._seen(layer))
            given = cross.own, cross.options, looks, position
            looked = cross.attention.recall(memory.crossed[number], q, *given)
            x = x + layers.put_out(looked, cross.own).view(len(tokens), 1, -1)
            x = self.subnet.in_decoder.feed_forward(x, layer.ffn, w)
        return self.subnet.scores(x[:, 0]), replace(memory, target=tuple(target))

    def write(self, memory: IncrementalState, *, beam: int, tokens: int) -> None:
        """So many tokens of each sentence by beam search, whatever they are; to be timed."""
        lengths = memory.source.lengths
        write_on(self, memory, len(lengths), beam=beam, tokens=tokens, like=lengths)

    def reorder(
        self, memory: IncrementalState, hypotheses: Tensor, sentences: Tensor | None
    ) -> IncrementalState:
        """The memory in which row i is what row `hypotheses[i]` was, of the kept `sentences`."""
        target = tuple(state and _rows(state, hypotheses) for state in memory.target)
        if sentences is None:
            return replace(memory, target=target)
        lengths, longest = _rows((memory.source.lengths, memory.source.longest), sentences)
        crossed = tuple(_rows(state, sentences) for state in memory.crossed)
        return IncrementalState(Memory({}, lengths, longest), crossed, target)

    def longest(self, source_lengths: Tensor) -> Tensor:
        """(B,) the most tokens of a translation, its end included."""
        return longest_target(source_lengths, self.shape)

    def _seen(self, layer: DecoderLayer) -> int:
        return span(layer, self.subnet.decoder)


def _site(choice: Choice, site: Site, own: Tensors) -> _Site:
    attention, options = layers.attention_at(choice, site)
    roles = "q" if site == "cross" else "qkv"
    return _Site(attention, options, own, layers.projection(own, roles))


def _rows(state: State, rows: Tensor) -> State:
    return tuple(each.index_select(0, rows) for each in state)
