"""Search spaces for tests: all that ship, and small ones that can be enumerated."""

from pathlib import Path
from typing import Any

from nas.space.architecture import Architecture, Encoder
from nas.space.loader import load_space
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape, TextShape

FOLDER = Path(__file__).resolve().parents[2] / "search_spaces"
SHIPPED = tuple(sorted(path.stem for path in FOLDER.glob("*.yaml")))
# Those whose networks can be built: of the others a table has the scores.
BUILT = tuple(name for name in SHIPPED if name != "nas_bench_bert")

LAYERS: dict[str, Any] = {
    "attention": ["softmax", "linear"],
    "heads": [2, 4],
    "head_width": 4,
    "ffn_width": 16,
}
GIVEN: dict[str, Any] = {
    "name": "small",
    "patch_size": [1, 2],
    "width": [24, 16],
    "depth": [1, 2],
    "layers": LAYERS,
}


def small(**changes: Any) -> SearchSpace:
    """A space of 4 x (4 + 16) architectures, or another with these changes."""
    return load_space(GIVEN | changes)


def shape_of(space: SearchSpace) -> ImageShape | TextShape:
    """What a space's networks take, at its smallest: two of the largest patches a side, or text."""
    if space.kind == "encoder":
        return ImageShape(2 * max(space.network["patch_size"]), channels=3, classes=10)
    return TextShape(50, 50, source_length=20, target_length=12)


def encoder(architecture: Architecture) -> Encoder:
    """An image space's architecture as what it is."""
    assert isinstance(architecture, Encoder)
    return architecture


RATIOS = small(
    depth=[2],
    layers={
        "attention": ["softmax", "cosformer"],
        "heads": 2,
        "head_width": 4,
        "mlp_ratio": [1, 2],
    },
)
OVERRIDDEN = small(
    depth=[1, 3],
    **{
        "layers.0": {"attention": ["softmax"], "heads": [4, 2]},
        "layers.2": {"mlp_ratio": [0.5, 2.5], "heads": 3},
    },
)
VARIED = small(
    stem=["patch", "conv"],
    norm=["rmsnorm", "layernorm"],
    activation=["relu", "gelu"],
    pooling=["class_token", "mean", "mean_beside_class_token"],
    position=["none", "learned"],
    depth=1,
    layers=LAYERS | {"attention": [{"type": "softmax_relpos", "max_distance": 2}, "linear"]},
)
SMALL = {"plain": small(), "ratios": RATIOS, "overridden": OVERRIDDEN, "varied": VARIED}
