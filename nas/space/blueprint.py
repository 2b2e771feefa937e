"""Which parts is an architecture made of: their tensors, arithmetic and activations.

A blueprint is a function of (Architecture, TaskShape). The network is built from it, the supernet
is sliced by it and costs are summed from it, so all three agree by construction.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

from nas import catalog
from nas.operators.declaration import Parameter, Sizes
from nas.space.architecture import Architecture, Layer
from nas.space.dimension import resolve
from nas.space.task_shape import TaskShape

GROUPS = ("embedding", "projections", "attention", "ffn", "head")


@dataclass(frozen=True)
class Part:
    """One piece of a network.

    `variant` names the choice that owns the tensors: in a supernet, each variant of a part has its
    own. `macs` are multiply-accumulates for one image by group; `activations` are the elements that
    live at once while the part runs, its input and output included, beside weights and the image.
    """

    path: str
    variant: str
    parameters: Mapping[str, Parameter]
    sizes: Sizes
    macs: tuple[tuple[str, int], ...] = ()
    activations: int = 0

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's lengths by its name."""
        return {name: each.shape(self.sizes) for name, each in self.parameters.items()}

    @cached_property
    def params(self) -> int:
        """Number of learnt numbers."""
        return sum(map(math.prod, self.shapes.values()))


@dataclass(frozen=True)
class Ends:
    """The choices outside the layers that the layers' sizes depend on."""

    width: int
    tokens: int
    side: int
    leading: int
    norm: str


def tokens(architecture: Architecture, shape: TaskShape) -> int:
    """Number of tokens N = (side / patch)^2, + 1 with a class token."""
    return shape.grid_side(architecture.patch_size) ** 2 + architecture.class_tokens


def ends(architecture: Architecture, shape: TaskShape) -> Ends:
    """What every layer of this architecture has in common; raises `SpecError` for a bad patch."""
    return Ends(
        architecture.width,
        tokens(architecture, shape),
        shape.grid_side(architecture.patch_size),
        architecture.class_tokens,
        architecture.norm,
    )


def blueprint(architecture: Architecture, shape: TaskShape) -> Iterator[Part]:
    """The parts of an architecture from the image to the classes."""
    common = ends(architecture, shape)
    yield from outer_parts(architecture, shape)
    for index, layer in enumerate(architecture.layers):
        for part in layer_parts(layer, common):
            yield replace(part, path=f"layers.{index}.{part.path}")


def outer_parts(architecture: Architecture, shape: TaskShape) -> tuple[Part, ...]:
    """Embedding, position, class token, final norm and classifier."""
    common = ends(architecture, shape)
    return _outer(common, architecture.patch_size, architecture.stem, architecture.position, shape)


@lru_cache(maxsize=4096)
def _outer(
    common: Ends, patch: int, stem: str, position: str, shape: TaskShape
) -> tuple[Part, ...]:
    width, patches = common.width, common.side**2
    stream = common.tokens * width
    sizes = {"width": width, "tokens": common.tokens, "classes": shape.classes}
    parts = [_embedding(stem, patch, shape, sizes, patches)]
    if common.leading:
        token = {"token": Parameter((common.leading, "width"), init="normal")}
        parts.append(Part("class_token", "class_token", token, sizes))
    if position == "learned":
        # One table a grid: a front slice of a finer grid's table would mix up rows.
        table = {"table": Parameter((common.tokens, "width"), init="normal")}
        parts.append(Part("position", f"tokens{common.tokens}", table, sizes, (), 2 * stream))
    norm = catalog.NORMS.load(common.norm)
    parts.append(Part("norm", common.norm, norm.parameters(), sizes, (), 2 * stream))
    classifier = {
        "weight": Parameter(("classes",), ("width",)),
        "bias": Parameter(("classes",), init="zeros"),
    }
    macs = (("head", width * shape.classes),)
    parts.append(Part("head", "linear", classifier, sizes, macs, stream + width + shape.classes))
    return tuple(parts)


def _embedding(stem: str, patch: int, shape: TaskShape, sizes: Sizes, patches: int) -> Part:
    width = sizes["width"]
    if stem == "patch":
        kernel, inner = patch, 0
        parameters = {
            "weight": Parameter(("width",), (shape.channels, patch, patch)),
            "bias": Parameter(("width",), init="zeros"),
        }
    else:
        kernel, inner = 2 * patch - 1, 1
        parameters = {
            "weight": Parameter(("width",), (shape.channels, kernel, kernel)),
            "bias": Parameter(("width",), init="zeros"),
            "point_weight": Parameter(("width",), ("width",)),
            "point_bias": Parameter(("width",), init="zeros"),
        }
    macs = patches * width * (shape.channels * kernel**2 + inner * width)
    held = (1 + inner) * patches * width
    return Part("embedding", f"{stem}{patch}", parameters, sizes, (("embedding", macs),), held)


@lru_cache(maxsize=16_384)
def layer_parts(layer: Layer, common: Ends) -> tuple[Part, ...]:
    """Norm, attention, norm and FFN of one layer; paths are relative to the layer."""
    sizes = {
        "width": common.width,
        "tokens": common.tokens,
        "keys": common.tokens,
        "side": common.side,
        "leading": common.leading,
        "heads": layer.heads,
        "head_width": layer.head_width,
        "ffn_width": layer.ffn_width,
    }
    stream = common.tokens * common.width
    norm = catalog.NORMS.load(common.norm).parameters()
    ffn, ffn_options = resolve(layer.ffn, catalog.FFNS)
    return (
        Part("attention_norm", common.norm, norm, sizes, (), 2 * stream),
        _attention(layer, sizes, stream),
        Part("ffn_norm", common.norm, norm, sizes, (), 2 * stream),
        Part(
            "ffn",
            str(layer.ffn),
            ffn.parameters(ffn_options),
            sizes,
            (("ffn", ffn.macs(sizes, ffn_options)),),
            3 * stream + ffn.activations(sizes, ffn_options),
        ),
    )


PROJECTIONS: Mapping[str, Parameter] = {
    "q_weight": Parameter(("heads", "head_width"), ("width",), role="qk"),
    "q_bias": Parameter(("heads", "head_width"), init="zeros", role="qk"),
    "k_weight": Parameter(("heads", "head_width"), ("width",), role="qk"),
    "k_bias": Parameter(("heads", "head_width"), init="zeros", role="qk"),
    "v_weight": Parameter(("heads", "head_width"), ("width",), role="vo"),
    "v_bias": Parameter(("heads", "head_width"), init="zeros", role="vo"),
    "o_weight": Parameter(("width",), ("heads", "head_width"), role="vo"),
    "o_bias": Parameter(("width",), init="zeros", role="vo"),
}


def _attention(layer: Layer, sizes: Sizes, stream: int) -> Part:
    attention, options = resolve(layer.attention, catalog.ATTENTIONS)
    inner = sizes["tokens"] * sizes["heads"] * sizes["head_width"]
    macs = (
        ("projections", 4 * inner * sizes["width"]),
        ("attention", attention.core_macs(sizes, options)),
    )
    held = 3 * stream + 4 * inner + attention.core_activations(sizes, options)
    parameters = {**PROJECTIONS, **attention.parameters(options)}
    return Part("attention", str(layer.attention), parameters, sizes, macs, held)
