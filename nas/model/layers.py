"""What the layers of a network compute: functions of an input and of the tensors sliced for it.

Shapes: B batch, N tokens, D model width, H heads, K head width, S tokens that are looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import Attention, AttentionContext, Choice, Options, Site
from nas.space.dimension import resolve

Tensors = Mapping[str, Tensor]


def attention_at(choice: Choice, site: Site) -> tuple[Attention, Options]:
    """The declaration and all options of a choice; raises `SpecError` where it cannot stand."""
    attention, options = resolve(choice, catalog.ATTENTIONS)
    if site not in attention.sites:
        raise SpecError(
            f"attention {attention.name!r} cannot stand at {site}; "
            f"its sites: {', '.join(sorted(attention.sites))}"
        )
    return attention, options


class Projection(NamedTuple):
    """One map (R H K, D) to the heads of R roles, with its bias (R, H, K)."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> tuple[Tensor, ...]:
        """Queries, keys or values (B, H, N, K) of (B, N, D), one for each role."""
        joined = functional.linear(x, self.weight, self.bias.flatten())
        return joined.view(*x.shape[:2], *self.bias.shape).permute(2, 0, 3, 1, 4).unbind()


def projection(own: Tensors, roles: str) -> Projection:
    """The maps of these roles, of `q`, `k` and `v`, as one.

    Each role's rows are sliced apart, by whole heads, and only then joined for one product, so a
    row keeps its role at every head count.
    """
    weight = torch.cat([own[f"{role}_weight"].flatten(0, 1) for role in roles])
    return Projection(weight, torch.stack([own[f"{role}_bias"] for role in roles]))


def put_out(heads: Tensor, own: Tensors) -> Tensor:
    """(B, H, N, K) of the heads to (B, N, D)."""
    joined = heads.transpose(1, 2).flatten(2)
    return functional.linear(joined, own["o_weight"].reshape(-1, joined.shape[-1]), own["o_bias"])


def attend(x: Tensor, choice: Choice, own: Tensors, context: AttentionContext) -> Tensor:
    """Multi-head attention of (B, N, D) over itself; raises `SpecError` as `attention_at` does."""
    attention, options = attention_at(choice, context.site)
    q, k, v = projection(own, "qkv")(x)
    return put_out(attention.attend(q, k, v, own, options, context), own)


def cross_attend(
    x: Tensor, memory: Tensor, choice: Choice, own: Tensors, context: AttentionContext
) -> Tensor:
    """Multi-head attention of (B, N, D) over the memory (B, S, D') of another stack."""
    attention, options = attention_at(choice, context.site)
    (q,) = projection(own, "q")(x)
    k, v = projection(own, "kv")(memory)
    return put_out(attention.attend(q, k, v, own, options, context), own)


def feed_forward(x: Tensor, choice: Choice, activation: str, own: Tensors) -> Tensor:
    """The chosen FFN over (B, N, D)."""
    ffn, options = resolve(choice, catalog.FFNS)
    out: Tensor = ffn.apply(x, own, activation, options)
    return out


def normalize(x: Tensor, norm: str, own: Tensors) -> Tensor:
    """The named norm over the last axis of (B, N, D)."""
    out: Tensor = catalog.NORMS.load(norm).apply(x, own)
    return out


@dataclass(frozen=True)
class Sublayers:
    """What stands around every attention and FFN of a stack: x + dropout(f(norm(x)))."""

    norm: str
    activation: str
    dropout: float = 0.0

    def around(
        self, x: Tensor, w: Mapping[str, Tensors], part: str, mix: Callable[[Tensor], Tensor]
    ) -> Tensor:
        """(B, N, D) with what `mix` makes of it, normed, where `w` has the layer's parts."""
        return x + self.drop(mix(normalize(x, self.norm, w[f"{part}_norm"])))

    def attend(
        self, x: Tensor, choice: Choice, w: Mapping[str, Tensors], context: AttentionContext
    ) -> Tensor:
        """With attention of (B, N, D) over itself."""
        return self.around(x, w, "attention", lambda h: attend(h, choice, w["attention"], context))

    def feed_forward(self, x: Tensor, choice: Choice, w: Mapping[str, Tensors]) -> Tensor:
        """With the chosen FFN."""
        return self.around(
            x, w, "ffn", lambda h: feed_forward(h, choice, self.activation, w["ffn"])
        )

    def drop(self, x: Tensor) -> Tensor:
        """Dropout, where there is any."""
        return functional.dropout(x, self.dropout) if self.dropout else x
