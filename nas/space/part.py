"""What is one piece of a network: tensors, arithmetic, activations; and those of a layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

from nas import catalog
from nas.operators.declaration import Choice, Parameter, Site, Sizes
from nas.space.dimension import resolve
from nas.space.layer import BertLayer, DecoderLayer, Layer

GROUPS = ("embedding", "projections", "attention", "ffn", "head")


@dataclass(frozen=True)
class Part:
    """One piece of a network.

    `variant` names the choice that owns the tensors: in a supernet, each variant of a part has its
    own. `macs` are multiply-accumulates for one example by group; `activations` are the elements
    that live at once while the part runs, its input and output included, beside weights and the
    example. `site` is where an attention part stands, None for other parts.
    """

    path: str
    variant: str
    parameters: Mapping[str, Parameter]
    sizes: Sizes
    macs: tuple[tuple[str, int], ...] = ()
    activations: int = 0
    site: Site | None = None

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor's lengths by its name."""
        return {name: each.shape(self.sizes) for name, each in self.parameters.items()}

    @cached_property
    def params(self) -> int:
        """Number of learnt numbers."""
        return sum(map(math.prod, self.shapes.values()))


@dataclass(frozen=True)
class StackShape:
    """The choices outside a stack's layers that the layers' sizes depend on.

    Of images the grid: `side` patches a side behind `leading` class tokens; 0 for text. Of a
    decoder what it reads: encoder layers `memory_depth`, each of `memory_tokens` and
    `memory_width`.
    """

    width: int
    tokens: int
    norm: str
    side: int = 0
    leading: int = 0
    memory_width: int = 0
    memory_tokens: int = 0
    memory_depth: int = 0

    @property
    def stream(self) -> int:
        """Elements of the residual stream."""
        return self.tokens * self.width


def norm_part(path: str, common: StackShape) -> Part:
    """A norm over the stack's width."""
    sizes = {"width": common.width}
    parameters = catalog.NORMS.load(common.norm).parameters()
    return Part(path, common.norm, parameters, sizes, (), 2 * common.stream)


@lru_cache(maxsize=16_384)
def layer_parts(layer: Layer, common: StackShape) -> tuple[Part, ...]:
    """The parts of one layer in the order in which they run; paths are relative to the layer."""
    if isinstance(layer, BertLayer):
        return _bert_parts(layer, common)
    site: Site = "encoder_self"
    crossing: tuple[Part, ...] = ()
    if isinstance(layer, DecoderLayer):
        site = "decoder_self"
        crossing = norm_part("cross_attention_norm", common), _cross_attention(layer, common)
    own = norm_part("attention_norm", common), _attention(layer, common, site)
    parts = (*own, *crossing, norm_part("ffn_norm", common), _ffn(layer, common))
    if not isinstance(layer, DecoderLayer):
        return parts
    # What is looked at across lives throughout the decoder; beside its copies while it is joined.
    stream = common.memory_tokens * common.memory_width
    memory = stream * span(layer, common)
    joining = 2 * memory + 2 * stream
    held = (max(part.activations + memory, joining) for part in parts)
    return tuple(replace(part, activations=most) for part, most in zip(parts, held, strict=True))


def _bert_parts(layer: BertLayer, common: StackShape) -> tuple[Part, ...]:
    """Tensors alone, as nothing says what such a layer is fed.

    Self-attention has four maps of the width, a linear transform none, a separable convolution one
    map and a kernel a channel; each FFN two maps. Norms are left out.
    """
    kind, _, option = layer.operation.partition("/")
    maps = {"SA": 4, "LT": 0, "DSC": 1}[kind]
    own = {"weight": Parameter((maps, "width"), ("width",)), "bias": Parameter((maps, "width"))}
    if kind == "DSC":
        own["kernel"] = Parameter(("width",), (int(option),))
    count = layer.ffn_count
    ffn = {
        "in_weight": Parameter((count, "ffn_width"), ("width",)),
        "in_bias": Parameter((count, "ffn_width")),
        "out_weight": Parameter((count, "width"), ("ffn_width",)),
        "out_bias": Parameter((count, "width")),
    }
    sizes = {"width": common.width, "ffn_width": layer.ffn_width}
    return Part("operation", layer.operation, own, sizes), Part("ffn", "mlp", ffn, sizes)


def span(layer: DecoderLayer, common: StackShape) -> int:
    """How many encoder layers cross-attention looks at."""
    return min(layer.cross_span, common.memory_depth)


def _ffn(layer: Layer, common: StackShape) -> Part:
    sizes = {"width": common.width, "tokens": common.tokens, "ffn_width": layer.ffn_width}
    ffn, options = resolve(layer.ffn, catalog.FFNS)
    macs = (("ffn", ffn.macs(sizes, options)),)
    held = 3 * common.stream + ffn.activations(sizes, options)
    return Part("ffn", str(layer.ffn), ffn.parameters(options), sizes, macs, held)


PROJECTIONS: Mapping[str, Parameter] = {
    "q_weight": Parameter(("heads", "head_width"), ("width",), role="qk"),
    "q_bias": Parameter(("heads", "head_width"), init="zeros", role="qk"),
    "k_weight": Parameter(("heads", "head_width"), ("memory_width",), role="qk"),
    "k_bias": Parameter(("heads", "head_width"), init="zeros", role="qk"),
    "v_weight": Parameter(("heads", "head_width"), ("memory_width",), role="vo"),
    "v_bias": Parameter(("heads", "head_width"), init="zeros", role="vo"),
    "o_weight": Parameter(("width",), ("heads", "head_width"), role="vo"),
    "o_bias": Parameter(("width",), init="zeros", role="vo"),
}


def _attention(layer: Layer, common: StackShape, site: Site) -> Part:
    sizes = {
        "width": common.width,
        "memory_width": common.width,
        "tokens": common.tokens,
        "keys": common.tokens,
        "side": common.side,
        "leading": common.leading,
        "heads": layer.heads,
        "head_width": layer.head_width,
        "causal": int(site == "decoder_self"),
    }
    return _attending("attention", layer.attention, sizes, site)


def _cross_attention(layer: DecoderLayer, common: StackShape) -> Part:
    sizes = {
        "width": common.width,
        "memory_width": common.memory_width,
        "tokens": common.tokens,
        "keys": common.memory_tokens * span(layer, common),
        "side": 0,
        "leading": 0,
        "heads": layer.cross_heads,
        "head_width": layer.cross_head_width,
        "causal": 0,
    }
    return _attending("cross_attention", layer.cross_attention, sizes, "cross")


def _attending(path: str, choice: Choice, sizes: dict[str, int], site: Site) -> Part:
    attention: Any
    attention, options = resolve(choice, catalog.ATTENTIONS)
    inner = sizes["heads"] * sizes["head_width"]
    queries, keys = sizes["tokens"], sizes["keys"]
    stream, memory = queries * sizes["width"], keys * sizes["memory_width"]
    # A sequence's keys and values are copied with nothing where its padding is.
    copied = 0 if sizes["side"] else 2 * inner * keys
    macs = (
        ("projections", 2 * inner * (stream + memory)),
        ("attention", attention.core_macs(sizes, options)),
    )
    # The stream, its norm and the output; q, k, v and what the heads give.
    held = 3 * stream + 2 * inner * (queries + keys)
    core = attention.core_activations(sizes, options)
    # Sums over all keys need copies and features at once; elsewhere one follows the other.
    held += core + copied if attention.efficient and site == "cross" else max(core, copied)
    parameters = {**PROJECTIONS, **attention.parameters(options, sizes)}
    return Part(path, str(choice), parameters, sizes, macs, held, site)
