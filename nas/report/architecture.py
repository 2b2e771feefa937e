"""What does an architecture look like: a line a layer, its efficient share, a strip."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from nas import catalog
from nas.space.architecture import Architecture, Layer

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
            word[0] for word in re.split(r"[^a-z0-9]+", name.partition("(")[0]) if word
        )
        taken = {look.mark for look in found.values()}
        mark, number = initials.upper(), 1
        while mark in taken:
            number += 1
            mark = f"{initials.upper()}{number}"
        found[name] = Look(PALETTE[place % len(PALETTE)], SYMBOLS[place % len(SYMBOLS)], mark)
    return found


def share_efficient(architecture: Architecture) -> float:
    """The share of layers whose attention core is linear in the number of tokens, 0 to 1."""
    efficient: list[bool] = [
        catalog.ATTENTIONS.load(x.attention.type).efficient for x in architecture.layers
    ]
    return sum(efficient) / len(efficient)


def layer_line(layer: Layer) -> str:
    """One layer in a few words: `cosformer 4 x 16, ffn 128`."""
    kind = "ffn" if str(layer.ffn) == "mlp" else f"ffn {layer.ffn}"
    return f"{layer.attention} {layer.heads} × {layer.head_width}, {kind} {layer.ffn_width}"


def outline(architecture: Architecture) -> str:
    """What stands outside the layers, in a few words."""
    layers = "layer" if architecture.depth == 1 else "layers"
    size = f"width {architecture.width}, patch {architecture.patch_size}"
    return f"{architecture.depth} {layers}, {size}"


BLOCK, GAP, TALLEST, LOWEST = 46, 4, 44, 14


def strip(
    architecture: Architecture, known: Mapping[str, Look], largest_ffn: int, deepest: int
) -> str:
    """The layers from left to right as an SVG: colour and mark the attention, height the FFN width.

    `largest_ffn` has the full height and `deepest` layers the full width, so that the strips of one
    page share their scale.
    """
    width = deepest * (BLOCK + GAP)
    parts = []
    for place, layer in enumerate(architecture.layers):
        look = known[str(layer.attention)]
        height = max(LOWEST, round(TALLEST * layer.ffn_width / largest_ffn))
        x, y = place * (BLOCK + GAP), TALLEST - height
        ink = "#fff" if look.colour in DARK_ENOUGH_FOR_WHITE else "#111"
        parts.append(
            f"<g><title>layer {place + 1}: {escape(layer_line(layer))}</title>"
            f'<rect x="{x}" y="{y}" width="{BLOCK}" height="{height}" rx="2" fill="{look.colour}"/>'
            f'<text x="{x + BLOCK / 2:g}" y="{TALLEST - 4}" fill="{ink}" font-size="10" '
            f'text-anchor="middle">{escape(look.mark)}</text></g>'
        )
    label = "; ".join(layer_line(layer) for layer in architecture.layers)
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {TALLEST}" '
        f'width="{width}" height="{TALLEST}">{"".join(parts)}</svg>'
    )


def attention_names(architectures: Sequence[Architecture], first: Iterable[str]) -> tuple[str, ...]:
    """Every attention type, those of the space first, then others that the architectures have."""
    held = (str(layer.attention) for each in architectures for layer in each.layers)
    return tuple(dict.fromkeys((*first, *held)))
