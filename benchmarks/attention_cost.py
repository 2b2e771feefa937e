"""What does each attention type cost beside softmax? Forward and backward, in turns with SDPA.

On one layer as `cifar10_small` has them: 16 x 16 patches (N = 256), width 96, 6 heads of width 8
or 16, an FFN of 192; the core alone (q, k, v to its output) and the whole layer with norms,
projections and FFN. A ratio is time over that of softmax, which is torch's SDPA; softmax against
itself says how far two equal things differ here. There is no bar: the table says which types a
space for this device may hold.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from benchmarks.measuring.pairs import Paired, compare
from benchmarks.measuring.report import machine, parser, print_table, write
from nas import catalog
from nas.model import layers
from nas.operators.declaration import AttentionContext, Choice, Grid
from nas.space.dimension import resolve
from nas.space.layer import EncoderLayer
from nas.space.part import StackShape, layer_parts

SIDE, WIDTH, HEADS, FFN_WIDTH = 16, 96, 6, 192
HEAD_WIDTHS = (8, 16)
COMMON = StackShape(WIDTH, SIDE**2, "layernorm", SIDE)
CONTEXT = AttentionContext("encoder_self", Grid(SIDE, SIDE))
Once = Callable[[int], None]


class OneLayer(nn.Module):
    """The tensors of one pre-norm layer and its forward, by the network's own functions."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.layer = layer
        self.parts = nn.ModuleDict(
            {
                part.path: nn.ParameterDict(
                    {name: 0.05 * torch.randn(shape) for name, shape in part.shapes.items()}
                )
                for part in layer_parts(layer, COMMON)
            }
        )

    def own(self, path: str) -> dict[str, Tensor]:
        """The tensors of one part by name."""
        return dict(cast(nn.ParameterDict, self.parts[path]).items())

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) -> (B, N, D)."""
        hidden = layers.normalize(x, COMMON.norm, self.own("attention_norm"))
        x = x + layers.attend(hidden, self.layer.attention, self.own("attention"), CONTEXT)
        hidden = layers.normalize(x, COMMON.norm, self.own("ffn_norm"))
        return x + layers.feed_forward(hidden, self.layer.ffn, "gelu", self.own("ffn"))


class Core(nn.Module):
    """The type's core alone, on q, k and v as a layer hands them over: views of one product."""

    def __init__(self, layer: EncoderLayer) -> None:
        super().__init__()
        self.attention, self.options = resolve(layer.attention, catalog.ATTENTIONS)
        self.layer = OneLayer(layer)

    def forward(self, product: Tensor) -> Tensor:
        """(B, N, 3, H, K) -> (B, H, N, K)."""
        q, k, v = product.permute(2, 0, 3, 1, 4)
        own = self.layer.own("attention")
        out: Tensor = self.attention.attend(q, k, v, own, self.options, CONTEXT)
        return out


def both_ways(module: nn.Module, given: Tensor) -> Once:
    """Forward and backward to input and parameters, finished on the device when it returns."""
    module = module.to(given.device)
    given = given.requires_grad_()
    weight = torch.randn_like(module(given))

    def once(_: int) -> None:
        module.zero_grad(set_to_none=True)
        given.grad = None
        torch.autograd.backward(module(given), weight)
        if weight.is_cuda:
            torch.cuda.synchronize()

    return once


def run(choice: Choice, head_width: int, batch: int, device: str) -> dict[str, Once]:
    """The core and the layer of one type, on inputs that are the same for every type."""
    torch.manual_seed(0)
    layer = EncoderLayer(choice, HEADS, head_width, FFN_WIDTH)
    stream = torch.randn(batch, SIDE**2, WIDTH, device=device)
    product = torch.randn(batch, SIDE**2, 3, HEADS, head_width, device=device)
    return {
        "core": both_ways(Core(layer), product),
        "layer": both_ways(OneLayer(layer), stream),
    }


def kinds() -> list[Choice]:
    """Every attention type of the catalog that an image encoder may have; softmax first."""
    fitting = [
        name
        for name in catalog.ATTENTIONS.names()
        if "encoder_self" in catalog.ATTENTIONS.load(name).sites
    ]
    return [Choice(name) for name in sorted(fitting, key=lambda name: name != "softmax")]


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--pairs", type=int, default=20)
    arguments.add_argument("--batch", type=int, default=64)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--threads", type=int, help="torch threads; torch's own choice if unset")
    given = arguments.parse_args()
    if given.threads:
        torch.set_num_threads(given.threads)
    make = partial(run, batch=given.batch, device=given.device)
    found: dict[tuple[str, int, str], Paired] = {}
    for head_width in HEAD_WIDTHS:
        for choice in kinds():
            other, softmax = make(choice, head_width), make(Choice("softmax"), head_width)
            for what in other:
                key = (str(choice), head_width, what)
                found[key] = compare(other[what], softmax[what], given.pairs)
    print_table(
        f"Forward and backward, N = {SIDE**2}, width {WIDTH}, {HEADS} heads, batch {given.batch}, "
        f"{given.pairs} pairs",
        ("attention", "head width", "of", "ms", "softmax, ms", "ratio", "quartiles"),
        [
            (
                choice,
                str(head_width),
                what,
                f"{each.a_ms:.2f}",
                f"{each.b_ms:.2f}",
                f"{each.ratio:.2f}",
                f"{each.lower_quartile:.2f} to {each.upper_quartile:.2f}",
            )
            for (choice, head_width, what), each in found.items()
        ],
    )
    figures: dict[str, Any] = {
        "machine": machine(given.device),
        "batch": given.batch,
        "layer": dataclasses.asdict(COMMON) | {"heads": HEADS, "ffn_width": FFN_WIDTH},
        "costs": [
            {"attention": key[0], "head_width": key[1], "of": key[2], **each.to_json()}
            for key, each in found.items()
        ],
    }
    write(given.out, figures)


if __name__ == "__main__":
    main()
