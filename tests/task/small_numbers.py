"""A text task and a space for it that take a second, and how they are asked for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nas import catalog
from nas.search.spec import SearchSpec, load_spec
from nas.space.architecture import Architecture
from nas.task.text_data import TextData

TASK = {"name": "numbers_en_de", "pairs": 600, "validation": 40, "test": 20, "vocabulary": 300}
LAYERS = {
    "attention": ["softmax", "cosformer"],
    "heads": [2],
    "head_width": [4, 8],
    "ffn_width": [16, 32],
}
CROSS = {"cross_attention": ["softmax", "cosformer"], "cross_heads": [2], "cross_head_width": [4]}
SPACE = {
    "name": "text_tiny",
    "kind": "encoder_decoder",
    "embeddings": "shared",
    "encoder": {"width": [16, 24], "depth": [1, 2], "layers": LAYERS},
    "decoder": {"width": [16, 24], "depth": [1, 2], "layers": {**LAYERS, **CROSS}},
}
RECIPE = {"steps": 30, "batch_tokens": 400, "warmup_steps": 5, "checkpoint_every": 17}


def request(
    supernet: Mapping[str, Any] | None = None,
    standalone: Mapping[str, Any] | None = None,
    **changes: Any,
) -> SearchSpec:
    """A request whose recipes take a second: 30 steps of 400 tokens, checkpoints every 17."""
    return load_spec(
        {
            "name": "text-test",
            "task": TASK,
            "space": SPACE,
            "supernet": {**RECIPE, **(supernet or {})},
            "standalone": {**RECIPE, **(standalone or {})},
            "evaluation": {"examples": 30},
            **changes,
        }
    )


def small_data(spec: SearchSpec) -> TextData:
    """The sentences of a request."""
    options = spec.task.configured(catalog.TASKS, "task")
    found: TextData = catalog.TASKS.load(spec.task.name).load(options, Path("nowhere"))
    return found


def smallest(spec: SearchSpec) -> Architecture:
    """The smallest network of a request's space."""
    return spec.search_space.extreme("smallest")
