"""What must an image transformer compute? Written out from the papers, slow and without slicing.

Weights come as a mapping of names to tensors, `layers.0.attention.q_weight` (H, K, D) for example;
nothing here knows of the package under test.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """The choices that are not in the weights' shapes."""

    patch: int
    attentions: tuple[str, ...]
    stem: str = "patch"
    norm: str = "layernorm"
    activation: str = "gelu"
    pooling: str = "mean"
    max_distance: int = 14


def vit(weights: Weights, images: Tensor, recipe: Recipe) -> Tensor:
    """Class scores (B, classes) of images (B, C, S, S)."""
    x = tokens(weights, images, recipe)
    side, leading = images.shape[-1] // recipe.patch, 0
    if "outer.class_token.token" in weights:
        token = weights["outer.class_token.token"]
        x, leading = torch.cat([token.expand(len(x), 1, -1), x], dim=1), 1
    if "outer.position.table" in weights:
        x = x + weights["outer.position.table"]
    for index, attention in enumerate(recipe.attentions):
        own = under(weights, f"layers.{index}.")
        hidden = norm(x, under(own, "attention_norm."), recipe.norm)
        grid = Places(side, leading, recipe.max_distance)
        x = x + attend(hidden, under(own, "attention."), attention, grid)
        hidden = norm(x, under(own, "ffn_norm."), recipe.norm)
        x = x + mlp(hidden, under(own, "ffn."), recipe.activation)
    x = norm(x, under(weights, "outer.norm."), recipe.norm)
    x = x[:, 0] if recipe.pooling == "class_token" else x[:, leading:].mean(1)
    return x @ weights["outer.head.weight"].T + weights["outer.head.bias"]


def under(weights: Weights, prefix: str) -> dict[str, Tensor]:
    """The weights below a prefix, by the rest of their names."""
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}


def tokens(weights: Weights, images: Tensor, recipe: Recipe) -> Tensor:
    """Patches as tokens, row by row; `conv`: kernel 2P - 1, GELU, one more linear map a token."""
    own, p = under(weights, "outer.embedding."), recipe.patch
    kernel = p if recipe.stem == "patch" else 2 * p - 1
    around = (kernel - p,) * 4
    windows = torch.nn.functional.pad(images, around).unfold(2, kernel, p).unfold(3, kernel, p)
    x = torch.einsum("bcijyx,dcyx->bijd", windows, own["weight"]).flatten(1, 2) + own["bias"]
    if recipe.stem == "conv":
        x = gelu(x) @ own["point_weight"].T + own["point_bias"]
    return x


def gelu(x: Tensor) -> Tensor:
    """x Phi(x)."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))


def norm(x: Tensor, own: Weights, kind: str) -> Tensor:
    """LayerNorm or RMSNorm over the last axis."""
    if kind == "rmsnorm":
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * own["weight"]
    centred = x - x.mean(-1, keepdim=True)
    scale = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / scale * own["weight"] + own["bias"]


def mlp(x: Tensor, own: Weights, activation: str) -> Tensor:
    """act(x W1 + b1) W2 + b2."""
    hidden = x @ own["in_weight"].T + own["in_bias"]
    hidden = gelu(hidden) if activation == "gelu" else hidden.clamp(min=0)
    return hidden @ own["out_weight"].T + own["out_bias"]


@dataclass(frozen=True)
class Places:
    """A square grid of patches, row by row, behind `leading` class tokens."""

    side: int
    leading: int
    max_distance: int

    def offsets(self, *, rows: bool) -> Tensor:
        """(N, N): which entry of a table serves a pair; 0 where one of them is a class token."""
        count = self.leading + self.side**2
        entries = torch.zeros(count, count, dtype=torch.long)
        for i in range(self.leading, count):
            for j in range(self.leading, count):
                one, other = (
                    divmod(place - self.leading, self.side)[0 if rows else 1] for place in (i, j)
                )
                near = max(-self.max_distance, min(self.max_distance, other - one))
                entries[i, j] = near + self.max_distance + 1
        return entries


def attend(x: Tensor, own: Weights, kind: str, places: Places) -> Tensor:
    """Multi-head attention, one head after the other, as a weighted mean over all pairs."""
    mixed = x.new_zeros(x.shape) + own["o_bias"]
    for head in range(len(own["q_weight"])):
        q, k, v = (x @ own[f"{r}_weight"][head].T + own[f"{r}_bias"][head] for r in "qkv")
        far = kind == "softmax_relpos"
        out = relative(q, k, v, own, places) if far else weigh(q, k, kind) @ v
        mixed = mixed + out @ own["o_weight"][:, head].T
    return mixed


def weigh(q: Tensor, k: Tensor, kind: str) -> Tensor:
    """(B, N, N) weights of a head: rows sum to one."""
    if kind == "softmax":
        return torch.softmax(q @ k.mT / math.sqrt(q.shape[-1]), dim=-1)
    if kind == "linear(elu1)":
        q, k = (torch.where(each > 0, each + 1, each.clamp(max=0).exp()) for each in (q, k))
    else:
        q, k = q.clamp(min=0), k.clamp(min=0)
    scores = q @ k.mT
    if kind == "cosformer":
        place = torch.arange(q.shape[1], dtype=q.dtype)
        scores = scores * torch.cos(math.pi / 2 * (place[:, None] - place) / len(place))
    return scores / scores.sum(-1, keepdim=True).clamp(min=1e-6)


def relative(q: Tensor, k: Tensor, v: Tensor, own: Weights, places: Places) -> Tensor:
    """Softmax attention with a vector for every pair, (N, N, K), added to keys and to values."""
    rows, columns = places.offsets(rows=True), places.offsets(rows=False)
    to_key = own["row_key"][rows] + own["column_key"][columns]
    to_value = own["row_value"][rows] + own["column_value"][columns]
    keys, values = (each[:, None] + pair for each, pair in ((k, to_key), (v, to_value)))
    scores = torch.einsum("bik,bijk->bij", q, keys) / math.sqrt(q.shape[-1])
    return torch.einsum("bij,bijk->bik", torch.softmax(scores, dim=-1), values)
