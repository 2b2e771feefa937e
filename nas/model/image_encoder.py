"""What a network of kind `encoder` computes: class scores of images.

Shapes: B batch, C channels, S image side, P patch size, N tokens, D model width.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from nas.model import layers
from nas.model.layers import Tensors
from nas.model.slots import Slots
from nas.operators.declaration import AttentionContext, Grid
from nas.space.architecture import Encoder
from nas.space.blueprint import stack_shapes
from nas.space.task_shape import TaskShape


def classify(images: Tensor, architecture: Encoder, shape: TaskShape, slots: Slots) -> Tensor:
    """Class scores (B, classes) of images (B, C, S, S)."""
    own = slots.outer_slices(architecture, shape)
    (common,) = stack_shapes(architecture, shape)
    context = AttentionContext("encoder_self", Grid(common.side, common.side, common.leading))
    x = embed(images, architecture, own["embedding"])
    if common.leading:
        x = torch.cat([own["class_token"]["token"].expand(len(x), -1, -1), x], dim=1)
    if "position" in own:
        x = x + own["position"]["table"]
    sublayers = layers.Sublayers(architecture.norm, architecture.activation)
    (stack,) = architecture.stacks
    for index, layer in enumerate(architecture.layers):
        w = slots.layer_slices(stack, index, layer, common)
        x = sublayers.attend(x, layer.attention, w, context)
        x = sublayers.feed_forward(x, layer.ffn, w)
    x = layers.normalize(x, architecture.norm, own["norm"])
    head = own["head"]
    return functional.linear(pool(x, architecture), head["weight"], head["bias"])


def embed(images: Tensor, architecture: Encoder, own: Tensors) -> Tensor:
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


def pool(x: Tensor, architecture: Encoder) -> Tensor:
    """(B, N, D) to (B, D): the class token, or the mean of the patches."""
    if architecture.pooling == "class_token":
        return x[:, 0]
    return x[:, architecture.class_tokens :].mean(dim=1)
