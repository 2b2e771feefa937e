"""Spaces of translation networks that offer every choice, sentence pairs, and their shapes."""

import random
from collections.abc import Sequence
from typing import Any

import torch

from nas.space.architecture import Architecture, EncoderDecoder
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.sentence_pairs import BOS, EOS, PAD, SentencePairs
from nas.space.task_shape import TextShape

# Little is allowed, so that lengths differ from sentence to sentence.
SHAPE = TextShape(13, 13, source_length=6, target_length=5, length_ratio=1.25, length_margin=2)
CROSSING: list[Any] = [
    "softmax",
    "cosformer",
    "linear",
    {"type": "linear", "feature_map": "relu"},
]
SELF: list[Any] = [*CROSSING, {"type": "softmax_relpos", "max_distance": 2}]
LAYER = {"attention": SELF, "heads": [1, 2, 3], "head_width": [4, 5], "ffn_width": [4, 9]}
CROSS_LAYER = {
    **LAYER,
    "cross_attention": CROSSING,
    "cross_heads": [2, 1],
    "cross_head_width": [3, 6],
    "cross_span": [1, 2, 3],
}

EVERY_CHOICE = load_space(
    {
        "name": "every_choice_of_text",
        "kind": "encoder_decoder",
        "norm": ["layernorm", "rmsnorm"],
        "activation": ["relu", "gelu"],
        "position": ["sinusoidal", "none"],
        "embeddings": ["shared", "tied", "separate"],
        "encoder": {"width": [6, 9], "depth": [1, 2, 3], "layers": LAYER},
        "decoder": {"width": [8, 10, 7], "depth": [1, 2], "layers": CROSS_LAYER},
    }
)
# Heads share one width, so that fewer of them are wider.
SHARED_WIDTHS = load_space(
    {
        "name": "shared_widths",
        "kind": "encoder_decoder",
        "encoder": {
            "width": 8,
            "depth": [1, 2],
            "layers": {
                "attention": ["softmax", "cosformer"],
                "heads": [2, 1, 4],
                "attention_width": [8, 4],
                "mlp_ratio": [0.5, 1],
            },
        },
        "decoder": {
            "width": [12, 8],
            "depth": [1, 2],
            "layers": {
                "attention": ["softmax", "linear"],
                "heads": [1, 2],
                "attention_width": 6,
                "cross_attention": ["cosformer", "softmax"],
                "cross_heads": [4, 2],
                "cross_attention_width": 8,
                "cross_span": [1, 2],
                "mlp_ratio": 1,
            },
        },
    }
)
SPACES = {space.name: space for space in (EVERY_CHOICE, SHARED_WIDTHS)}


def text_pairs(
    lengths: Sequence[tuple[int, int]] = ((5, 4), (1, 1), (6, 3)),
    seed: int = 0,
    shape: TextShape = SHAPE,
) -> list[tuple[list[int], list[int]]]:
    """Random (source with its end, decoder input), as long as asked."""
    rng = random.Random(seed)
    found = []
    for source, target in lengths:
        pieces = [rng.randrange(4, shape.source_vocabulary) for _ in range(source - 1)]
        written = [rng.randrange(4, shape.target_vocabulary) for _ in range(target - 1)]
        found.append(([*pieces, EOS], [BOS, *written]))
    return found


def batch(
    pairs: Sequence[tuple[list[int], list[int]]], wider: int = 0, filling: int = PAD
) -> SentencePairs:
    """The pairs in one batch, `wider` than they need, with this token where nothing is."""

    def padded(sentences: Sequence[list[int]]) -> torch.Tensor:
        width = max(map(len, sentences)) + wider
        rows = [[*each, *[filling] * (width - len(each))] for each in sentences]
        return torch.tensor(rows)

    sources, targets = zip(*pairs, strict=True)
    source, target = padded(sources), padded(targets)
    width = target.shape[1]
    kept = [i * width + j for i, each in enumerate(targets) for j in range(len(each))]
    lengths = [torch.tensor([*map(len, each)]) for each in (sources, targets)]
    return SentencePairs(source, lengths[0], target, lengths[1], torch.tensor(kept))


def drawn(space: SearchSpace, count: int, seed: int = 0) -> list[EncoderDecoder]:
    """Random architectures of the space."""
    rng = random.Random(seed)
    return [typed(space.sample(rng)) for _ in range(count)]


def typed(architecture: Architecture) -> EncoderDecoder:
    """An architecture that is known to translate."""
    assert isinstance(architecture, EncoderDecoder)
    return architecture


def single(
    encoder: Any = "softmax",
    decoder: Any = "softmax",
    cross: Any = "softmax",
    span: int = 1,
    depth: int = 2,
    **network: Any,
) -> EncoderDecoder:
    """Networks of one type at each site; the encoder has three layers."""
    sizes = {"heads": 2, "head_width": 4, "ffn_width": 9}
    crossing = {"cross_heads": 3, "cross_head_width": 5, "cross_span": span}
    return EncoderDecoder.from_json(
        {
            "kind": "encoder_decoder",
            "encoder": {"width": 6, "layers": [{"attention": encoder, **sizes}] * 3},
            "decoder": {
                "width": 8,
                "layers": [{"attention": decoder, "cross_attention": cross, **sizes, **crossing}]
                * depth,
            },
            **network,
        }
    )
