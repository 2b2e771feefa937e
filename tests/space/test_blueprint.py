"""A blueprint's shapes and arithmetic, counted by hand and by loops."""

import math
from typing import Any

import pytest

from nas.errors import SpecError
from nas.space.architecture import Encoder
from nas.space.blueprint import blueprint, stack_shapes, tokens
from nas.space.part import GROUPS, Part
from nas.space.task_shape import ImageShape
from tests.space.spaces import SMALL, VARIED

SHAPE = ImageShape(side=8, channels=3, classes=5)
LAYER: dict[str, Any] = {"attention": "softmax", "heads": 2, "head_width": 4, "ffn_width": 24}
PLAIN: dict[str, Any] = {"patch_size": 2, "width": 16, "layers": [LAYER, LAYER]}


def parts_of(**changes: Any) -> dict[str, Part]:
    return {part.path: part for part in blueprint(architecture(**changes), SHAPE)}


def architecture(**changes: Any) -> Encoder:
    return Encoder.from_json(PLAIN | changes)


def test_the_parts_of_a_plain_network() -> None:
    layer = ("attention_norm", "attention", "ffn_norm", "ffn")
    assert [part.path for part in blueprint(architecture(), SHAPE)] == [
        "embedding",
        "position",
        "norm",
        "head",
        *(f"layers.{index}.{name}" for index in range(2) for name in layer),
    ]


def test_shapes() -> None:
    parts = parts_of(pooling="class_token")
    assert parts["embedding"].shapes == {"weight": (16, 3, 2, 2), "bias": (16,)}
    assert parts["class_token"].shapes == {"token": (1, 16)}
    assert parts["position"].shapes == {"table": (17, 16)}
    assert parts["norm"].shapes == {"weight": (16,), "bias": (16,)}
    assert parts["head"].shapes == {"weight": (5, 16), "bias": (5,)}
    rows, cols = (2, 4, 16), (16, 2, 4)
    assert parts["layers.1.attention"].shapes == {
        **{f"{role}_weight": rows for role in "qkv"},
        **{f"{role}_bias": (2, 4) for role in "qkv"},
        "o_weight": cols,
        "o_bias": (16,),
    }
    assert parts["layers.1.ffn"].shapes == {
        "in_weight": (24, 16),
        "in_bias": (24,),
        "out_weight": (16, 24),
        "out_bias": (16,),
    }


def test_the_convolutional_stem_overlaps() -> None:
    part = parts_of(stem="conv")["embedding"]
    assert part.shapes["weight"] == (16, 3, 3, 3)
    assert part.shapes["point_weight"] == (16, 16)
    assert dict(part.macs) == {"embedding": 16 * (16 * 3 * 9 + 16 * 16)}


def test_arithmetic_of_a_layer_by_hand() -> None:
    parts = parts_of()
    attention, ffn = parts["layers.0.attention"], parts["layers.0.ffn"]
    # 16 tokens of width 16, an inner width of 8: Q, K, V and O; scores and weighted sum.
    assert dict(attention.macs) == {"projections": 4 * 16 * 16 * 8, "attention": 2 * 16 * 16 * 8}
    assert dict(ffn.macs) == {"ffn": 2 * 16 * 16 * 24}
    assert dict(parts["head"].macs) == {"head": 16 * 5}
    assert dict(parts["embedding"].macs) == {"embedding": 16 * 16 * 3 * 4}
    assert attention.params == 4 * 16 * 8 + 3 * 8 + 16
    assert ffn.params == 2 * 16 * 24 + 24 + 16
    assert ffn.activations == 3 * 16 * 16 + 2 * 16 * 24


@pytest.mark.parametrize(
    ("pooling", "patch", "count"),
    [("mean", 1, 64), ("mean", 4, 4), ("class_token", 2, 17), ("mean_beside_class_token", 8, 2)],
)
def test_the_number_of_tokens(pooling: str, patch: int, count: int) -> None:
    found = architecture(pooling=pooling, patch_size=patch)
    (common,) = stack_shapes(found, SHAPE)
    assert tokens(found, SHAPE) == common.tokens == count


def test_without_positions_there_is_no_table() -> None:
    assert "position" not in parts_of(position="none")


def test_a_patch_must_divide_the_side() -> None:
    with pytest.raises(SpecError, match=r"patch_size 3 does not divide .* 8 pixels; .* 1, 2, 4, 8"):
        list(blueprint(architecture(patch_size=3), SHAPE))


@pytest.mark.parametrize("name", sorted(SMALL))
def test_every_part_names_its_axes_and_groups(name: str) -> None:
    for each in SMALL[name].enumerate():
        for part in blueprint(each, SHAPE):
            assert {group for group, _ in part.macs} <= set(GROUPS)
            assert all(count > 0 for _, count in part.macs)
            assert part.params == sum(math.prod(shape) for shape in part.shapes.values()) > 0
            assert part.activations >= 0


def test_a_variant_says_whose_tensors_they_are() -> None:
    seen: dict[tuple[str, str], set[tuple[str, int]]] = {}
    for each in VARIED.enumerate():
        for part in blueprint(each, SHAPE):
            names = {(name, len(shape)) for name, shape in part.shapes.items()}
            assert seen.setdefault((part.path, part.variant), names) == names
    assert {variant for path, variant in seen if path == "layers.0.attention"} == {
        "linear",
        "softmax_relpos(max_distance=2)",
    }
    assert {variant for path, variant in seen if path == "position"} == {
        "tokens16",
        "tokens17",
        "tokens64",
        "tokens65",
    }
