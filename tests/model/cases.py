"""Spaces that offer every choice, random architectures of them, and weights without symmetries."""

import math
import random
from typing import Any, TypeVar

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from nas.model.slots import Sharing
from nas.space.architecture import Architecture
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape

Net = TypeVar("Net", bound=nn.Module)
SHAPE = ImageShape(side=8, channels=3, classes=5)
SHARINGS: tuple[Sharing, ...] = ("per_type", "shared_vo", "shared_qkvo")
ATTENTIONS: list[Any] = [
    "softmax",
    "cosformer",
    "linear",
    {"type": "linear", "feature_map": "relu"},
    {"type": "softmax_relpos", "max_distance": 2},
    "softmax_relpos",
]

EVERY_CHOICE = load_space(
    {
        "name": "every_choice",
        "kind": "encoder",
        "stem": ["patch", "conv"],
        "patch_size": [2, 4],
        "norm": ["layernorm", "rmsnorm"],
        "activation": ["gelu", "relu"],
        "pooling": ["mean", "class_token", "mean_beside_class_token"],
        "position": ["learned", "none"],
        "width": [6, 10],
        "depth": [1, 2],
        "layers": {
            "attention": ATTENTIONS,
            "heads": [1, 2, 3],
            "head_width": [2, 5],
            "ffn_width": [4, 9],
        },
    }
)
RATIOS = load_space(
    {
        "name": "ratios",
        "kind": "encoder",
        "stem": "conv",
        "patch_size": [4, 2],
        "position": ["none", "learned"],
        "width": [8, 12],
        "depth": [2, 3],
        "layers": {
            "attention": ["cosformer", "softmax"],
            "heads": [3, 1],
            "head_width": [3],
            "mlp_ratio": [0.5, 1.5],
        },
    }
)
LAYERS_DIFFER = load_space(
    {
        "name": "layers_differ",
        "kind": "encoder",
        "patch_size": [8, 1],
        "width": [12, 6],
        "depth": [1, 3],
        "layers": {
            "attention": ["linear", "cosformer"],
            "heads": [2],
            "head_width": [4, 2],
            "ffn_width": [8],
        },
        "layers.1": {"attention": ["softmax"], "heads": [3], "ffn_width": [16, 3]},
    }
)
SPACES = {space.name: space for space in (EVERY_CHOICE, RATIOS, LAYERS_DIFFER)}


@st.composite
def architectures(draw: st.DrawFn, space: SearchSpace) -> Architecture:
    """A random architecture of the space."""
    return space.sample(random.Random(draw(st.integers(0, 2**32))))


def images(count: int = 3, shape: ImageShape = SHAPE, seed: int = 0) -> Tensor:
    """(count, C, S, S) float32."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, shape.channels, shape.side, shape.side, generator=generator)


def randomised(network: Net, seed: int = 1) -> Net:
    """Every parameter drawn anew: ones and zeros hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            fan_in = math.prod(parameter.shape[1:]) if parameter.dim() > 1 else 4
            parameter.normal_(0.0, fan_in**-0.5, generator=generator)
    return network
