"""What benchmarks of translation measure with: random sentences, and plain transformers."""

from __future__ import annotations

from functools import partial

import torch

from nas.space.architecture import Architecture
from nas.space.sentence_pairs import BOS, EOS, SentencePairs
from nas.space.task_shape import TextShape


def random_pairs(shape: TextShape, sentences: int, source: int, target: int) -> SentencePairs:
    """Sentences of `source` and `target` tokens: EOS ends the sources, BOS begins the targets."""
    generator = torch.Generator().manual_seed(0)
    drawn = partial(torch.randint, 4, shape.source_vocabulary, generator=generator)
    sides = drawn((sentences, source)), drawn((sentences, target))
    sides[0][:, -1], sides[1][:, 0] = EOS, BOS
    lengths = [torch.full((sentences,), length) for length in (source, target)]
    return SentencePairs(sides[0], lengths[0], sides[1], lengths[1], torch.arange(sides[1].numel()))


def softmax_transformer(
    layers: tuple[int, int], width: int, heads: int, ffn_width: int, head_width: int
) -> Architecture:
    """So many encoder and decoder layers, all alike, softmax attention at every site."""
    own = {"attention": "softmax", "heads": heads, "head_width": head_width}
    cross = {f"cross_{name}": value for name, value in own.items()}
    tail = {"ffn_width": ffn_width}
    return Architecture.from_json(
        {
            "kind": "encoder_decoder",
            "encoder": {"width": width, "layers": [own | tail] * layers[0]},
            "decoder": {"width": width, "layers": [own | cross | tail] * layers[1]},
        }
    )
