"""What does an architecture look like: a line a layer, its efficient share, a strip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nas.space.architecture import Architecture, Encoder
from nas.space.layer import BertLayer, DecoderLayer, Layer

# Okabe and Ito's colours for all kinds of colour vision (2008), yellow last: it is faint on white.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#F0E442")
DARK_ENOUGH_FOR_WHITE = {"#0072B2", "#009E73", "#D55E00"}
SYMBOLS = ("diamond", "square", "triangle-up", "pentagon", "star", "hexagram", "triangle-down")


@dataclass(frozen=True)
class Look:
    """How one attention type is drawn everywhere on the page."""

    colour: str
    symbol: str
    mark: str
    """One to three letters, for who cannot tell the colours apart."""


def looks(attentions: Iterable[str]) -> dict[str, Look]:
    """A colour, symbol and mark for each attention type, in the order given."""
    found: dict[str, Look] = {}
    for place, name in enumerate(dict.fromkeys(attentions)):
        initials = "".join(
            word[0] for word in re.split(r"[^A-Za-z0-9]+", name.partition("(")[0]) if word
        )
        taken = {look.mark for look in found.values()}
        mark, number = initials.upper(), 1
        while mark in taken:
            number += 1
            mark = f"{initials.upper()}{number}"
        found[name] = Look(PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)], mark)
    return found


def share_efficient(architecture: Architecture) -> float:
    """The share of attention sites that take less than the square of the tokens, 0 to 1."""
    efficient = [each for layer in architecture.layers for each in layer.efficient]
    return sum(efficient) / len(efficient)


def layer_line(layer: Layer) -> str:
    """One layer in a few words: `cosformer 4 x 16, ffn 128`."""
    if isinstance(layer, BertLayer):
        return f"{layer.operation}, {layer.heads} heads, {layer.ffn_count} × ffn {layer.ffn_width}"
    words = [f"{layer.attention} {layer.heads} × {layer.head_width}"]
    if isinstance(layer, DecoderLayer):
        span = "" if layer.cross_span == 1 else f" over {layer.cross_span} layers"
        cross = f"{layer.cross_attention} {layer.cross_heads} × {layer.cross_head_width}"
        words.append(f"cross {cross}{span}")
    kind = "ffn" if str(layer.ffn) == "mlp" else f"ffn {layer.ffn}"
    return ", ".join([*words, f"{kind} {layer.ffn_width}"])


def marks(architecture: Architecture, known: Mapping[str, Look]) -> str:
    """The attention types in marks: `S C | S/C S/S`, a decoder layer's own / cross-attention."""

    def of(layer: Layer) -> str:
        return "/".join(known[str(each)].mark for each in layer.attentions)

    stacks = (" ".join(map(of, architecture.layers_of(stack))) for stack in architecture.stacks)
    return " | ".join(stacks)


def layer_lines(architecture: Architecture) -> list[str]:
    """The layers of all stacks, each in a few words behind its place: `decoder 2. softmax ...`."""
    return [
        f"{stack.name} {place}. {layer_line(layer)}".lstrip()
        for stack in architecture.stacks
        for place, layer in enumerate(architecture.layers_of(stack), 1)
    ]


def outline(architecture: Architecture) -> str:
    """What stands outside the layers, in a few words."""
    depths = " + ".join(str(len(architecture.layers_of(stack))) for stack in architecture.stacks)
    layers = "layer" if architecture.depth == 1 else "layers"
    if isinstance(architecture, Encoder):
        return f"{depths} {layers}, width {architecture.width}, patch {architecture.patch_size}"
    widths = (str(getattr(architecture, stack.field("width"))) for stack in architecture.stacks)
    return f"{depths} {layers}, width {' + '.join(dict.fromkeys(widths))}"


BLOCK, GAP, SITE_GAP, STACK_GAP, TALLEST, LOWEST = 46, 4, 2, 14, 44, 14


def strip(
    architecture: Architecture,
    known: Mapping[str, Look],
    largest_ffn: int,
    deepest: Sequence[int],
) -> str:
    """The layers from left to right as an SVG: colour and mark the attention, height the FFN width.

    A decoder's layers stand behind a gap, each parted in self- and cross-attention. `largest_ffn`
    has the full height and each stack the room of its `deepest`, so that the strips of one page
    share their scale and their decoders begin below each other.
    """
    parts: list[str] = []
    lines, start = layer_lines(architecture), 0
    for stack, most in zip(architecture.stacks, deepest, strict=True):
        for place, layer in enumerate(architecture.layers_of(stack)):
            block = _block(layer, start + place * (BLOCK + GAP), known, largest_ffn)
            parts.append(f"<g><title>{escape(lines[len(parts)])}</title>{block}</g>")
        start += most * (BLOCK + GAP) + STACK_GAP
    width = start - STACK_GAP
    return (
        f'<svg role="img" aria-label="{escape("; ".join(lines))}" viewBox="0 0 {width} {TALLEST}" '
        f'width="{width}" height="{TALLEST}">{"".join(parts)}</svg>'
    )


def _block(layer: Layer, left: int, known: Mapping[str, Look], largest_ffn: int) -> str:
    """One layer: a rectangle a site, side by side."""
    height = max(LOWEST, round(TALLEST * layer.ffn_width / largest_ffn))
    sites, drawn = len(layer.attentions), ""
    width = (BLOCK - (sites - 1) * SITE_GAP) // sites
    for place, attention in enumerate(layer.attentions):
        look, x = known[str(attention)], left + place * (width + SITE_GAP)
        ink = "#fff" if look.colour in DARK_ENOUGH_FOR_WHITE else "#111"
        drawn += (
            f'<rect x="{x}" y="{TALLEST - height}" width="{width}" height="{height}" rx="2" '
            f'fill="{look.colour}"/>'
            f'<text x="{x + width / 2:g}" y="{TALLEST - 4}" fill="{ink}" font-size="10" '
            f'text-anchor="middle">{escape(look.mark)}</text>'
        )
    return drawn


def attention_names(architectures: Sequence[Architecture], first: Iterable[str]) -> tuple[str, ...]:
    """Every attention type, those of the space first, then others that the architectures have.

    These by name, so that searches of one space look alike side by side.
    """
    held = {str(each) for architecture in architectures for each in architecture.attentions}
    return tuple(dict.fromkeys((*first, *sorted(held))))
