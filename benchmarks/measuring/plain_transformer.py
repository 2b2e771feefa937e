"""A static translation transformer as one writes it by hand, to hold the supernet's step against.

Shapes: B batch, S source tokens, T target tokens, D width, V vocabulary.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.space.architecture import EncoderDecoder
from nas.space.layer import DecoderLayer, Layer
from nas.space.sentence_pairs import PAD, SentencePairs
from nas.space.task_shape import TextShape


class Attention(nn.Module):
    """Multi-head softmax attention with a joined map: of queries, keys and values, or of two."""

    def __init__(self, width: int, heads: int, head_width: int, *, cross: bool = False) -> None:
        super().__init__()
        inner = heads * head_width
        self.heads, self.cross = heads, cross
        self.maps = nn.ModuleList(
            nn.Linear(width, count * inner) for count in ((1, 2) if cross else (3,))
        )
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor | None, mask: Tensor | None) -> Tensor:
        given = (x, memory) if self.cross else (x,)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for map_, each, count in zip(
                self.maps, given, (1, 2) if self.cross else (3,), strict=True
            )
            for part in map_(each).chunk(count, dim=-1)
        )
        causal = mask is None and not self.cross
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    """A pre-norm layer of the encoder, or of the decoder where there is cross-attention."""

    def __init__(self, width: int, layer: Layer) -> None:
        super().__init__()
        self.own = Attention(width, layer.heads, layer.head_width)
        self.cross = (
            Attention(width, layer.cross_heads, layer.cross_head_width, cross=True)
            if isinstance(layer, DecoderLayer)
            else None
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3 if self.cross else 2))
        self.up, self.down = nn.Linear(width, layer.ffn_width), nn.Linear(layer.ffn_width, width)

    def forward(self, x: Tensor, memory: Tensor | None, padding: Tensor) -> Tensor:
        decodes = self.cross is not None
        x = x + self.own(self.norms[0](x), None, None if decodes else padding)
        if self.cross is not None:
            x = x + self.cross(self.norms[1](x), memory, padding)
        out: Tensor = x + self.down(functional.relu(self.up(self.norms[-1](x))))
        return out


class PlainTransformer(nn.Module):
    """Vaswani et al. (2017), pre-norm, one embedding table, sized like an architecture."""

    def __init__(self, architecture: EncoderDecoder, shape: TextShape) -> None:
        super().__init__()
        self.width = width = architecture.encoder_width
        assert width == architecture.decoder_width, "one width, as a plain transformer has"
        self.table = nn.Embedding(shape.target_vocabulary, width)
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.encoder = nn.ModuleList(Block(width, each) for each in architecture.encoder_layers)
        self.decoder = nn.ModuleList(Block(width, each) for each in architecture.decoder_layers)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))
        places, rates = torch.arange(1024)[:, None], torch.arange(0, width, 2)
        angles = places * torch.exp(rates * (-math.log(10_000.0) / width))
        table = torch.stack([angles.sin(), angles.cos()], dim=-1).flatten(1)
        self.register_buffer("places", table, persistent=False)

    def forward(self, pairs: SentencePairs) -> Tensor:
        """(B, T, V): scores of each target token's successor, of padding too."""
        padding = (pairs.source != PAD)[:, None, None, :]
        x = self._embedded(pairs.source)
        for block in self.encoder:
            x = block(x, None, padding)
        memory, x = self.norms[0](x), self._embedded(pairs.target)
        for block in self.decoder:
            x = block(x, memory, padding)
        return functional.linear(self.norms[1](x), self.table.weight)

    def _embedded(self, tokens: Tensor) -> Tensor:
        places: Tensor = self.get_buffer("places")
        found: Tensor = self.table(tokens) * math.sqrt(self.width) + places[: tokens.shape[1]]
        return found
