"""Which parts is an architecture made of: their tensors, arithmetic and activations.

A blueprint is a function of (Architecture, TaskShape). The network is built from it, the supernet
is sliced by it and costs are summed from it, so all three agree by construction.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache

from nas.errors import SpecError
from nas.operators.declaration import Parameter, Sizes
from nas.space.architecture import Architecture, BertEncoder, Encoder, EncoderDecoder, Stack
from nas.space.part import Part, StackShape, layer_parts, norm_part
from nas.space.search_space import SearchSpace
from nas.space.task_shape import ImageShape, TabledShape, TaskShape, TextShape


def tokens(architecture: Encoder, shape: ImageShape) -> int:
    """Number of tokens N = (side / patch)^2, + 1 with a class token."""
    return shape.grid_side(architecture.patch_size) ** 2 + architecture.class_tokens


def stack_shapes(architecture: Architecture, shape: TaskShape) -> tuple[StackShape, ...]:
    """What the layers of each stack have in common.

    Raises `SpecError` for a patch that does not divide the side, and for a kind of network that
    cannot take what the task gives.
    """
    if isinstance(architecture, Encoder) and isinstance(shape, ImageShape):
        side, leading = shape.grid_side(architecture.patch_size), architecture.class_tokens
        count = side**2 + leading
        return (StackShape(architecture.width, count, architecture.norm, side, leading),)
    if isinstance(architecture, EncoderDecoder) and isinstance(shape, TextShape):
        encoder = StackShape(architecture.encoder_width, shape.source_length, architecture.norm)
        decoder = StackShape(
            architecture.decoder_width,
            shape.target_length,
            architecture.norm,
            memory_width=encoder.width,
            memory_tokens=encoder.tokens,
            memory_depth=len(architecture.encoder_layers),
        )
        return encoder, decoder
    if isinstance(architecture, BertEncoder) and isinstance(shape, TabledShape):
        return (StackShape(architecture.width, tokens=0, norm=""),)
    _check_kind(architecture.kind, shape)
    raise TypeError(f"{type(architecture).__name__} is no kind of network that has parts")


def blueprint(architecture: Architecture, shape: TaskShape) -> Iterator[Part]:
    """The parts of an architecture: those outside the layers, then each stack's."""
    yield from outer_parts(architecture, shape)
    for stack, common in zip(architecture.stacks, stack_shapes(architecture, shape), strict=True):
        for index, layer in enumerate(architecture.layers_of(stack)):
            for part in layer_parts(layer, common):
                yield replace(part, path=f"{layer_path(stack, index)}.{part.path}")


def layer_path(stack: Stack, index: int) -> str:
    """Where a layer stands among the parts: `layers.3`, `decoder.layers.0`."""
    return stack.path(f"layers.{index}")


def outer_parts(architecture: Architecture, shape: TaskShape) -> tuple[Part, ...]:
    """The parts outside the layers: embeddings, positions, final norms and output layer.

    None of a network that only a table knows: what stands there is the same for all.
    """
    common = stack_shapes(architecture, shape)
    if isinstance(shape, TabledShape):
        return ()
    if isinstance(architecture, Encoder):
        assert isinstance(shape, ImageShape), "its stack has a grid"
        patch, stem, position = architecture.patch_size, architecture.stem, architecture.position
        return _image_parts(common[0], patch, stem, position, shape)
    assert isinstance(shape, TextShape), "it has two stacks"
    assert isinstance(architecture, EncoderDecoder), "no other kind has two"
    encoder, decoder = (replace(each, memory_depth=0) for each in common)
    return _text_parts(encoder, decoder, architecture.embeddings, shape)


def _check_kind(kind: str, shape: TaskShape) -> None:
    match shape:
        case ImageShape():
            gives, allowed = "images", Encoder.kind
        case TextShape():
            gives, allowed = "sentence pairs", EncoderDecoder.kind
        case TabledShape():
            gives, allowed = "rows of a table", shape.kind
    if kind != allowed:
        raise SpecError(f"kind: {kind} given; the task gives {gives}: {allowed} is allowed")


def check(space: SearchSpace, shape: TaskShape) -> None:
    """Raises `SpecError` naming the choice of a space that cannot be built on a task's shape."""
    _check_kind(space.kind, shape)
    largest = space.genome(space.extreme("largest"))
    for position, gene in enumerate(space.genes):
        if gene.stack is not None:
            continue
        for index in range(len(gene.choices)):
            built = space.build((*largest[:position], index, *largest[position + 1 :]))
            try:
                outer_parts(built, shape)
            except SpecError as error:
                raise SpecError(f"space.{gene.path}: {error}") from error


# -- images ----------------------------------------------------------------------------------------


@lru_cache(maxsize=4096)
def _image_parts(
    common: StackShape, patch: int, stem: str, position: str, shape: ImageShape
) -> tuple[Part, ...]:
    """Embedding, class token, position, final norm and classifier."""
    width, patches, stream = common.width, common.side**2, common.stream
    sizes = {"width": width, "tokens": common.tokens, "classes": shape.classes}
    parts = [_patch_embedding(stem, patch, shape, sizes, patches)]
    if common.leading:
        token = {"token": Parameter((common.leading, "width"), init="normal")}
        parts.append(Part("class_token", "class_token", token, sizes))
    if position == "learned":
        # One table a grid: a front slice of a finer grid's table would mix up rows.
        table = {"table": Parameter((common.tokens, "width"), init="normal")}
        parts.append(Part("position", f"tokens{common.tokens}", table, sizes, (), 2 * stream))
    parts.append(norm_part("norm", common))
    classifier = {
        "weight": Parameter(("classes",), ("width",)),
        "bias": Parameter(("classes",), init="zeros"),
    }
    macs = (("head", width * shape.classes),)
    parts.append(Part("head", "linear", classifier, sizes, macs, stream + width + shape.classes))
    return tuple(parts)


def _patch_embedding(stem: str, patch: int, shape: ImageShape, sizes: Sizes, patches: int) -> Part:
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


# -- text ------------------------------------------------------------------------------------------

TABLES = {
    "shared": {"source": "embedding", "target": "embedding", "output": "embedding"},
    "tied": {
        "source": "source_embedding",
        "target": "target_embedding",
        "output": "target_embedding",
    },
    "separate": {"source": "source_embedding", "target": "target_embedding", "output": "output"},
}
"""By `embeddings`, under which path stands the table for source tokens, target tokens, scores."""


@lru_cache(maxsize=4096)
def _text_parts(
    encoder: StackShape, decoder: StackShape, embeddings: str, shape: TextShape
) -> tuple[Part, ...]:
    """Embedding tables, the encoder's norm, and the decoder's with the output layer."""
    source, target = shape.source_vocabulary, shape.target_vocabulary
    if embeddings == "shared" and (source != target or not shape.one_vocabulary):
        raise SpecError(
            f"shared needs one vocabulary, the task has two, of {source} source and {target} "
            "target tokens; allowed: tied, separate"
        )
    looked_up = 2 * max(encoder.stream, decoder.stream)
    # What the decoder gives, the true tokens of it, their norm and the scores.
    written = 3 * decoder.stream + decoder.tokens * target
    held = {"source": looked_up, "target": looked_up, "output": written}
    widths = {"source": encoder.width, "target": decoder.width, "output": decoder.width}
    tables = TABLES[embeddings]
    parts = []
    for path in dict.fromkeys(tables.values()):
        uses = [use for use in tables if tables[use] == path]
        rows = source if "source" in uses else target
        variant = ("table", "tied", "shared")[len(uses) - 1]
        table = {"table": Parameter((rows, "width"), init="embedding")}
        width = max(widths[use] for use in uses)
        macs = (("head", decoder.stream * target),) if "output" in uses else ()
        largest = max(held[use] for use in uses)
        parts.append(Part(path, variant, table, {"width": width}, macs, largest))
    return (*parts, norm_part("encoder_norm", encoder), norm_part("decoder_norm", decoder))
