"""What the layers of a network compute: functions of an input and of the tensors sliced for it.

Shapes: B batch, N tokens, D model width, H heads, K head width, P patch size, S image side.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional

from nas import catalog
from nas.errors import SpecError
from nas.operators.declaration import AttentionContext
from nas.space.architecture import Architecture, Layer
from nas.space.dimension import resolve

Tensors = Mapping[str, Tensor]


def embed(images: Tensor, architecture: Architecture, own: Tensors) -> Tensor:
    """Patches of (B, C, S, S) images as tokens (B, (S/P)^2, D), row by row."""
    patch = architecture.patch_size
    if architecture.stem == "patch":
        x = functional.conv2d(images, own["weight"], own["bias"], stride=patch)
    else:
        x = functional.conv2d(images, own["weight"], own["bias"], stride=patch, padding=patch - 1)
        x = functional.gelu(x)
        x = functional.conv2d(x, own["point_weight"][:, :, None, None], own["point_bias"])
    # Autocast convolves in half precision; the residual stream keeps that of the weights.
    return x.flatten(2).transpose(1, 2).to(own["bias"].dtype)


def attend(x: Tensor, layer: Layer, own: Tensors, context: AttentionContext) -> Tensor:
    """Multi-head attention of a layer's type over (B, N, D).

    The Q, K and V rows are sliced apart, by whole heads, and only then joined for one product, so a
    row keeps its role at every head count. Raises `SpecError` for a type that cannot stand at the
    context's site.
    """
    attention, options = resolve(layer.attention, catalog.ATTENTIONS)
    if context.site not in attention.sites:
        raise SpecError(
            f"attention {attention.name!r} cannot stand at {context.site}; "
            f"its sites: {', '.join(sorted(attention.sites))}"
        )
    inner = layer.heads * layer.head_width
    weight = torch.cat([own[f"{role}_weight"].reshape(inner, -1) for role in "qkv"])
    bias = torch.cat([own[f"{role}_bias"].reshape(inner) for role in "qkv"])
    qkv = functional.linear(x, weight, bias)
    q, k, v = qkv.view(*x.shape[:2], 3, layer.heads, layer.head_width).permute(2, 0, 3, 1, 4)
    out: Tensor = attention.attend(q, k, v, own, options, context)
    out = out.transpose(1, 2).flatten(2)
    return functional.linear(out, own["o_weight"].reshape(-1, inner), own["o_bias"])


def feed_forward(x: Tensor, layer: Layer, activation: str, own: Tensors) -> Tensor:
    """The layer's FFN over (B, N, D)."""
    ffn, options = resolve(layer.ffn, catalog.FFNS)
    out: Tensor = ffn.apply(x, own, activation, options)
    return out


def normalize(x: Tensor, norm: str, own: Tensors) -> Tensor:
    """The named norm over the last axis of (B, N, D)."""
    out: Tensor = catalog.NORMS.load(norm).apply(x, own)
    return out


def pool(x: Tensor, architecture: Architecture) -> Tensor:
    """(B, N, D) to (B, D): the class token, or the mean of the patches."""
    if architecture.pooling == "class_token":
        return x[:, 0]
    return x[:, architecture.class_tokens :].mean(dim=1)
